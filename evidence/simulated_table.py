"""Print the table of simulators as synthetic arms, from the JSON files beside it.

One row per set and place: real-only, synthetic only, the best mix (by its mean where the plan chooses, which is
validation), the duplicate-real control. A trial below its competence gate is marked: it counts towards no claim.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from arm_rows import Arms, gate, table

HERE = Path(__file__).parent
HEAD = ("set", "place", "n", "real-only", "synthetic only", "best mix on validation", "real duplicated", "gate")


def main() -> None:
    """Print one row per evidence file ``simulated_*.json`` and place."""
    rows: list[list[str]] = []
    for file in sorted(HERE.glob("simulated_*.json")):
        found = json.loads(file.read_text())
        rows += _rows(file.stem.removeprefix("simulated_").replace("_", " "), found)
    sys.stdout.write("\n".join(table(HEAD, rows)) + "\n")


def _rows(name: str, found: dict[str, Any]) -> list[list[str]]:
    arms = Arms.of(found)
    best, only, doubled = arms.best_mix, arms.named("synthetic"), arms.named("duplicate")
    return [
        [
            name,
            where,
            str(arms.n),
            arms.mean(where),
            arms.difference(where, only),
            f"{best}: {arms.difference(where, best)}",
            arms.difference(where, doubled),
            gate(found),
        ]
        for where in arms.places
    ]


if __name__ == "__main__":
    main()

"""Print the table of simulators as synthetic arms, from the JSON files beside it.

One row per set and place: real-only, synthetic only, the best mix (by its mean where the plan chooses, which is
validation), the duplicate-real control. A trial below its competence gate is marked: it counts towards no claim.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
HEAD = "| set | place | n | real-only | synthetic only | best mix on validation | real duplicated | gate |"


def main() -> None:
    """Print one row per evidence file ``simulated_*.json`` and place."""
    lines = [HEAD, "|---" * 8 + "|"]
    for file in sorted(HERE.glob("simulated_*.json")):
        found = json.loads(file.read_text())
        lines += _rows(file.stem.removeprefix("simulated_").replace("_", " "), found)
    sys.stdout.write("\n".join(lines) + "\n")


def _rows(name: str, found: dict[str, Any]) -> list[str]:
    mixes = [a for a in found["arms"] if a["family"] == "mix"]
    n, budget = max(a["n"] for a in mixes), mixes[0]["budget"]
    arms = [a for a in found["arms"] if a["n"] == n and a["budget"] == budget]
    chosen = max(
        (a for a in arms if a["family"] == "mix" and a["where"] == "validation"),
        key=lambda a: float(a["mean"]["value"]),
    )["arm"]
    gate = "reached" if found["gate"]["reached"] else "not reached: no claim"
    return [
        f"| {name} | {where} | {n} | {_mean(arms, where, 'real')} | {_difference(arms, where, 'synthetic only')} "
        f"| {chosen}: {_difference(arms, where, chosen)} "
        f"| {_difference(arms, where, _control(arms))} | {gate} |"
        for where in ("inside", "target")
        if any(a["where"] == where for a in arms)
    ]


def _control(arms: list[dict[str, Any]]) -> str:
    return next(str(a["arm"]) for a in arms if a["arm"].startswith("real duplicated"))


def _arm(arms: list[dict[str, Any]], where: str, name: str) -> dict[str, Any]:
    return next(a for a in arms if a["where"] == where and a["arm"] == name)


def _mean(arms: list[dict[str, Any]], where: str, name: str) -> str:
    return "{value:.3f} [{low:.3f}, {high:.3f}]".format(**_arm(arms, where, name)["mean"])


def _difference(arms: list[dict[str, Any]], where: str, name: str) -> str:
    arm = _arm(arms, where, name)
    return "{value:+.3f} [{low:+.3f}, {high:+.3f}]".format(**arm["difference"]) + f" {arm['verdict']}"


if __name__ == "__main__":
    main()

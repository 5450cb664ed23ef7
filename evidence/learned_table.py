"""Print the table of all engines as arms on the same label maps: ``python evidence/learned_table.py [FOLDER]``.

One row per set, place and engine, from the files ``learned_*.json`` that ``collect.py`` wrote: real-only, synthetic
only, the best mix (by its mean where the plan chooses, which is validation), the duplicate-real control, and how well
synthetic images obey their labels: a segmenter cross-fitted on real training patients, its Dice and its signed boundary
offset on synthetic cases less those on held-out real ones (a positive offset: drawn larger than labelled). A trial
below its competence gate is marked: it counts towards no claim.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from arm_rows import Arms, engines_of, gate, interval, table

HERE = Path(__file__).parent
HEAD = (
    *("set", "place", "n", "engine", "real-only", "synthetic only", "best mix on validation", "real duplicated"),
    *("labels obeyed: Dice, offset", "gate, reference"),
)
PREFIX = "learned_"
GALLERY = f"{PREFIX}gallery.json"
"""Beside the trials and no trial."""


def trials(folder: Path = HERE) -> dict[str, dict[str, Any]]:
    """Return the trials in a folder, by the set's name."""
    files = [f for f in sorted(folder.glob(f"{PREFIX}*.json")) if f.name != GALLERY]
    return {f.stem.removeprefix(PREFIX).replace("_", " "): json.loads(f.read_text(encoding="utf-8")) for f in files}


def rows(name: str, found: Mapping[str, Any]) -> list[list[str]]:
    """Return a set's rows, by place and engine."""
    reference = found["gate"]["reference"]
    reached = f"{gate(found)}, {'none' if reference is None else f'{reference:.3f}'}"
    lines: list[list[str]] = []
    engines = list(engines_of(found))
    for where in Arms.of(found).places:
        for engine, _ in engines:
            arms = Arms.of(found, engine)
            best = arms.best_mix
            lines.append([name, where, str(arms.n), engine, arms.mean(where)])
            lines[-1] += [arms.difference(where, arms.named("synthetic"))]
            lines[-1] += [f"{best.partition(' · ')[0]}: {arms.difference(where, best)}"]
            lines[-1] += [arms.difference(where, arms.named("duplicate")), obeyed(found, engine, arms.n), reached]
    return lines


def obeyed(found: Mapping[str, Any], engine: str, n: int) -> str:
    """Return by how much an engine's images obey each of their labels less, or more, than real ones do."""
    fidelity = found.get("fidelity", {})
    cells = []
    for label in fidelity.get("labels", ()):
        if (label["engine"], label["n"]) != (engine, n):
            continue
        dice, offset = label["difference"]["dice"], label["difference"]["offset"]
        told = [interval(dice, "+.3f") if dice else "Dice not measured"]
        told.append(f"{interval(offset, '+.2f')} {label['unit']}" if offset else "offset not measured")
        cells.append(f"{label['label']} {', '.join(told)}")
    return "; ".join(cells) or "not measured"


def main(folder: Path = HERE) -> None:
    """Print the table, or that there is nothing to print yet."""
    lines = [line for name, found in trials(folder).items() for line in rows(name, found)]
    if lines:
        sys.stdout.write("\n".join(table(HEAD, lines)) + "\n")
    else:
        sys.stderr.write(f"no {PREFIX}*.json in {folder}: run a plan of examples/learned, then evidence/collect.py\n")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:2]))

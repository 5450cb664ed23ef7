"""The page that ``python evidence/gallery.py`` writes: tables, sheets and what a case costs, in Markdown."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
PICTURES, COST = HERE.parent / "docs" / "gallery", HERE / "cost.json"
OPENING = """\
# Gallery of simulated images

Every picture on this page is simulated; no patient is shown. Outlines are the exact labels, in the colours named below
each sheet; under every picture stand its engine and the scanner profile that it was drawn from. Of torso and head some
labels only are outlined. Where many are, the picture is shown without outlines as well. Drawn by
`python evidence/gallery.py`.

## Told from real images

A small linear classifier on hand-made features (`equipoise.features.tell_apart`) sees simulated images and real ones
of patients that the simulator was not fitted on. An area under the curve of 0.5 means that it cannot tell them apart,
1 that it always can. This describes fidelity; it says nothing about what the images are worth for training, which
`docs/evidence.md` measures. Intervals are 95 %, by bootstrap over patients. Unfitted images show procedural anatomy in
the same kind of view, fitted ones deformed label maps of the training patients, so the two differ in anatomy too. As
many images are simulated as are real; each figure is of the commit and the day beside it.

| modality | real images | patients | images | unfitted | fitted | measured |
|---|---|---|---|---|---|---|"""


def page(entries: Sequence[Mapping[str, Any]], measured: Mapping[str, Any], pictures: Path = PICTURES) -> str:
    """Return the page in Markdown; sheets that are not in the folder ``pictures`` are left out."""
    lines = [OPENING]
    for entry in entries:
        if "real" in entry:
            kept = measured.get(entry["name"], {}).get("told_apart")
            cells = figures(kept) if kept else ["not measured", *[""] * 5]
            lines.append(f"| {' | '.join([entry['name'], *cells])} |")
    for entry in entries:
        name = entry["name"]
        file = pictures / f"{slug(name)}.jpg"
        shown = measured.get(name, {}).get("shows")
        if not shown or not file.exists():
            continue
        rows = "; ".join(shown)
        alt = f"Simulated {name} images with outlines of their labels"
        lines += ["", f"## {name}", "", f"`{entry['engine']}`, simulated: {rows}.", ""]
        lines.append(f"![{alt}](gallery/{file.name})")
        lines += told(entry, measured[name].get("told_apart"))
    if COST.exists():
        names = {entry["engine"]: entry["name"] for entry in entries}
        lines += cost(json.loads(COST.read_text(encoding="utf-8")), names)
    return "\n".join(lines) + "\n"


def told(entry: Mapping[str, Any], kept: Mapping[str, Any] | None) -> list[str]:
    """Return what stands under a sheet: how well it is told from real images, and by what."""
    sentences = []
    if kept:
        unfitted, fitted = area(kept["unfitted"]), area(kept["fitted"])
        sentences.append(f"Told from real images with an area under the curve of {unfitted} unfitted, {fitted} fitted.")
    if "gives_away" in entry:
        sentences.append(f"What gives it away: {entry['gives_away']}.")
    return ["", " ".join(sentences)] if sentences else []


def figures(kept: Mapping[str, Any]) -> list[str]:
    """Return the cells of what was measured of one modality."""
    real, simulated = kept["unfitted"]["images"]
    images = str(real) if real == simulated else f"{real} real, {simulated} simulated"
    measured = f"{kept['day']}, {kept['commit']}" if "commit" in kept else "not stated"
    return [kept["plan"], str(kept["patients"]), images, area(kept["unfitted"]), area(kept["fitted"]), measured]


def cost(rows: Sequence[Mapping[str, Any]], names: Mapping[str, str]) -> list[str]:
    """Return the section on what a case costs: a sentence, the figure, and the table folded away."""

    def spread(form: str, n: int) -> tuple[str, float]:
        chosen = [row for row in rows if (row["form"], row["n"]) == (form, n)]
        times = [statistics.median(row["render_s"]) for row in chosen]
        return f"{duration(min(times))} to {duration(max(times))}", max(row["peak_gb"] for row in chosen)

    picture, volume = spread("picture", 256), spread("volume", 256)
    lines = ["", "## What a case costs", ""]
    lines += [
        f"On one thread a simulated picture of 256² takes {picture[0]} of CPU by modality, a volume of 256³",
        f"{volume[0]} and at most {volume[1]:.2f} GB of memory with Python and all libraries. Times are of the",
        "rendering of a given label map, as medians, with each repeat as a dot and their range as a line;",
        "`python benchmarks/simulation_cost.py` prints them and says what is shown at which size. An X-ray of a volume",
        "is a picture of 256².",
        "",
        "![CPU time and peak memory of simulated cases against their size](gallery/cost.svg)",
        "",
        "<details><summary>Table</summary>",
        "",
        "| modality | size | CPU time | repeats | label map drawn in | peak memory |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        times, size = row["render_s"], f"{row['n']}{'³' if row['form'] == 'volume' else '²'}"
        cells = [names[row["kind"]], size, duration(statistics.median(times)), str(len(times))]
        cells += [duration(row["anatomy_s"]), f"{row['peak_gb']:.2f} GB"]
        lines.append(f"| {' | '.join(cells)} |")
    return [*lines, "", "</details>"]


def duration(seconds: float) -> str:
    """Return a time in ms, or in s from one second on."""
    return f"{seconds:.1f} s" if seconds >= 1 else f"{1000 * seconds:.0f} ms"


def area(kept: Mapping[str, Any]) -> str:
    """Return an area under the curve with its interval."""
    return f"{kept['auc']:.2f} [{kept['low']:.2f}, {kept['high']:.2f}]"


def slug(name: str) -> str:
    """Return a modality's name as a file's."""
    return name.lower().replace(" ", "-")

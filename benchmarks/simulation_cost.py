"""What a simulated case costs: CPU time and peak memory of every simulator against its size, one thread.

Every point is a process of its own: it draws a label map, renders a small case (kernels are then loaded), and renders
the case of this size a few times. Times are of the rendering, medians; the anatomy's are printed beside it. Peak memory
is that of the whole process, with Python, the libraries and the label map. Exit status 1 if a case of 256³ takes more
than 1.5 GB.

    python benchmarks/simulation_cost.py            # the table
    python benchmarks/simulation_cost.py --write    # and docs/gallery/cost.svg and evidence/cost.json

`evidence/gallery.py` shows both on its page. Slices of MRI, ultrasound and fundus show one field of view in finer and
finer pixels, those of CT and H&E a larger and larger one; an X-ray is a picture of one torso, or a torso of finer and
finer voxels on a picture of 256².
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before numpy
os.environ["NUMBA_NUM_THREADS"] = "1"

import argparse
import json
import math
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from equipoise.core import rng_for
from equipoise.core.registry import kinds, make
from equipoise.report.colours import DARK, LIGHT, SYNTHETIC, Shape, Style, lifted
from equipoise.report.marks import symbol
from equipoise.report.svg import Axis, number, tag

ROOT = Path(__file__).resolve().parents[1]
SIDES = {"picture": (64, 128, 256, 512), "volume": (64, 128, 256)}
ENOUGH_S, MOST = 2.0, 5
"""A point is repeated until it took so long, or so often."""
MOST_GB = 1.5
HEAD_MM, TORSO_MM, BREAST_MM = 240.0, 435.0, 40.0
LOOKS: Mapping[str, tuple[str, Shape, float]] = {
    "simulate-ct": ("CT", "circle", 0.42),
    "simulate-xray": ("X-ray", "square", 0.62),
    "simulate-mri": ("MRI", "diamond", 0.54),
    "simulate-ultrasound": ("Ultrasound", "up", 0.72),
    "simulate-histology": ("H&E", "down", 0.48),
    "simulate-fundus": ("Fundus", "hexagon", 0.66),
}
"""Name, marker and lightness of each: all are simulated, so all are blue, and the shape tells them apart."""


def cubes(kind: str, mm: float, n: int) -> dict[str, Any]:
    return {"kind": kind, "size": [n, n, n], "spacing": [mm / n] * 3}


def specification(kind: str, form: str, n: int) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """Return engine and anatomy of a case, or ``None`` if the simulator makes none of this form."""
    given = {
        ("simulate-ct", "picture"): ({}, {"kind": "phantom", "size": [n, n, 1]}),
        ("simulate-ct", "volume"): ({}, cubes("torso", TORSO_MM, n)),
        ("simulate-xray", "picture"): ({"size": [n, n]}, cubes("torso", TORSO_MM, 128)),
        ("simulate-xray", "volume"): ({}, cubes("torso", TORSO_MM, n)),
        ("simulate-mri", "picture"): (
            {},
            {"kind": "head", "size": [n, n, 1], "spacing": [HEAD_MM / n, HEAD_MM / n, 1.0]},
        ),
        ("simulate-mri", "volume"): ({}, cubes("head", HEAD_MM, n)),
        ("simulate-ultrasound", "picture"): (
            {},
            {"kind": "breast-and-neck", "size": [n, n, 1], "spacing": [BREAST_MM / n, BREAST_MM / n, 0.3]},
        ),
        ("simulate-histology", "picture"): ({}, {"kind": "tissue", "size": [n, n, 1]}),
        ("simulate-fundus", "picture"): ({}, {"kind": "eye-fundus", "size": [n, n]}),
    }.get((kind, form))
    return None if given is None else ({"kind": kind, **given[0]}, given[1])


def rendered(form: str, kind: str, n: int, enough_s: float) -> tuple[float, list[float]]:
    """Return the seconds that the anatomy and each repeat of the rendering take."""
    found = specification(kind, form, n)
    if found is None:
        raise SystemExit(f"{kind} makes no {form}")
    spec, anatomy = found
    start = time.process_time()
    (labels,) = make("anatomies", anatomy).draw(1, rng_for(0, "map"))
    drawn, engine, times = time.process_time() - start, make("engines", spec), []
    while not times or (sum(times) < enough_s and len(times) < MOST):
        start = time.process_time()
        list(engine.sample(1, rng_for(len(times), "case"), [labels]))
        times.append(time.process_time() - start)
    return drawn, times


def point(kind: str, form: str, n: int) -> dict[str, Any]:
    """Measure one point, in this process; a small case comes first, which loads the compiled kernels."""
    rendered(form, kind, SIDES[form][0], 0.0)
    drawn, times = rendered(form, kind, n, ENOUGH_S)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**30 if sys.platform == "darwin" else 2**20)
    return {"kind": kind, "form": form, "n": n, "anatomy_s": drawn, "render_s": times, "peak_gb": peak}


def measured() -> list[dict[str, Any]]:
    rows = []
    for form, sides in SIDES.items():
        for kind, (name, *_) in LOOKS.items():
            if kind not in kinds("engines"):
                print(f"{name}: left out, no engine {kind!r} is registered")
                continue
            for n in sides:
                if specification(kind, form, n) is None:
                    continue
                command = [sys.executable, __file__, "--point", kind, form, str(n)]
                rows.append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
                say(rows[-1])
    return rows


def say(row: Mapping[str, Any]) -> None:
    times, size = row["render_s"], f"{row['n']}{'³' if row['form'] == 'volume' else '²'}"
    print(
        f"{LOOKS[row['kind']][0]:<11}{size:>5}  {1000 * statistics.median(times):8.0f} ms (n = {len(times)})"
        f"  anatomy {1000 * row['anatomy_s']:6.0f} ms  peak {row['peak_gb']:.2f} GB",
        flush=True,
    )


# --- the figure: time above memory, pictures beside volumes ----------------------------------------------------------

WIDTH, HEIGHT, TOP, LEFT, GAP_X, GAP_Y, RIGHT, BOTTOM = 860, 664, 52, 66, 158, 88, 96, 46
STYLE = (
    "svg{font:13px system-ui,-apple-system,'Segoe UI',Roboto,Arial,sans-serif;font-variant-numeric:tabular-nums}"
    ":root{%s}@media (prefers-color-scheme:dark){:root{%s}}"
    ".page{fill:var(--page)}text{fill:var(--ink)}.quiet{fill:var(--quiet)}"
    ".grid{stroke:var(--line)}.limit{stroke:var(--quiet);stroke-dasharray:5 4}.repeat{fill-opacity:.35}"
)


def log_axis(low: float, high: float, ticks: Sequence[float], name: str, labels: Sequence[str] | None = None) -> Axis:
    """Return an axis of decimal logarithms, labelled by the values."""
    texts = labels or [f"{t:g}" for t in ticks]
    return Axis(math.log10(low), math.log10(high), [math.log10(t) for t in ticks], texts, name)


def panel(
    rows: Sequence[Mapping[str, Any]], key: str, x: Axis, y: Axis, box: tuple[float, float, float, float]
) -> Markup:
    """Return one panel: grid, ticks, and a line with markers for each simulator, named at its right end."""
    left, top, width, height = box

    def at(side: float, value: float) -> tuple[float, float]:
        return left + width * x.at(math.log10(side)), top + height * (1 - y.at(math.log10(value)))

    parts = [tag("text", y.name, x=left - 50, y=top - 14, class_="quiet")]
    for tick, label in zip(x.ticks, x.labels, strict=True):
        across = left + width * x.at(tick)
        parts.append(tag("line", x1=across, x2=across, y1=top, y2=top + height, class_="grid"))
        parts.append(tag("text", label, x=across, y=top + height + 18, text_anchor="middle", class_="quiet"))
    for tick, label in zip(y.ticks, y.labels, strict=True):
        down = top + height * (1 - y.at(tick))
        parts.append(tag("line", x1=left, x2=left + width, y1=down, y2=down, class_="grid"))
        parts.append(tag("text", label, x=left - 8, y=down + 4, text_anchor="end", class_="quiet"))
    parts.append(tag("text", x.name, x=left + width / 2, y=top + height + 38, text_anchor="middle", class_="quiet"))
    ends: list[tuple[float, float, str, Style]] = []
    for kind, (name, shape, lightness) in LOOKS.items():
        mine = [row for row in rows if row["kind"] == kind]
        if not mine:
            continue
        colour = lifted(SYNTHETIC, lightness)
        values = [statistics.median(v) if isinstance(v := row[key], list) else v for row in mine]
        places = [at(row["n"], value) for row, value in zip(mine, values, strict=True)]
        path = "M" + "L".join(f"{number(u)} {number(v)}" for u, v in places)
        parts.append(tag("path", d=path, fill="none", stroke=colour, stroke_width=1.6))
        for row, place in zip(mine, places, strict=True):
            repeats = [at(row["n"], value)[1] for value in row[key]] if isinstance(row[key], list) else []
            parts += [tag("circle", cx=place[0], cy=v, r=3, fill=colour, class_="repeat") for v in repeats]
            if repeats:
                span = {"y1": min(repeats), "y2": max(repeats)}
                parts.append(tag("line", x1=place[0], x2=place[0], **span, stroke=colour, stroke_width=2))
            parts.append(symbol(Style(colour, shape), place[0], place[1]))
        ends.append((*places[-1], name, Style(colour, shape)))
    return Markup("").join([*parts, *named_ends(ends)])


def named_ends(ends: Sequence[tuple[float, float, str, Style]]) -> list[Markup]:
    """Return markers and names beside the lines' ends, moved apart where they would overlap."""
    found, last = [], -math.inf
    for across, down, name, style in sorted(ends, key=lambda end: end[1]):
        last = max(down + 4, last + 16)
        found += [symbol(style, across + 22, last - 4), tag("text", name, x=across + 34, y=last)]
    return found


def figure(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the plot as an SVG file."""
    width, height = (WIDTH - LEFT - GAP_X - RIGHT) / 2, (HEIGHT - TOP - GAP_Y - BOTTOM) / 2
    seconds = log_axis(0.003, 30, (0.01, 0.1, 1, 10), "CPU time of a case, s", ["0.01", "0.1", "1", "10"])
    memory = log_axis(0.1, 2, (0.1, 0.2, 0.5, 1, 2), "Peak memory of the process, GB")
    parts = [tag("style", Markup(STYLE % tuple(";".join(f"--{k}:{v}" for k, v in t.items()) for t in (LIGHT, DARK))))]
    parts.append(tag("rect", width=WIDTH, height=HEIGHT, class_="page"))
    for column, (form, words) in enumerate(
        (("picture", "Side of the picture, pixels"), ("volume", "Side of the cube, voxels"))
    ):
        mine = [row for row in rows if row["form"] == form]
        sides = SIDES[form]
        x = log_axis(sides[0] / 1.15, sides[-1] * 1.15, sides, words)
        left = LEFT + column * (width + GAP_X)
        parts.append(tag("text", f"Simulated {form}s", x=left - 50, y=18, font_weight=600))
        for line, (key, y) in enumerate((("render_s", seconds), ("peak_gb", memory))):
            top = TOP + line * (height + GAP_Y)
            if key == "peak_gb" and form == "volume":
                down = top + height * (1 - y.at(math.log10(MOST_GB)))
                parts.append(tag("line", x1=left, x2=left + width, y1=down, y2=down, class_="limit"))
                parts.append(tag("text", f"limit of a 256³ case, {MOST_GB} GB", x=left + 6, y=down - 6, class_="quiet"))
            parts.append(panel(mine, key, x, y, (left, top, width, height)))
    told = "CPU time and peak memory of simulated cases against their size, one thread; the numbers stand in the table."
    root = {"xmlns": "http://www.w3.org/2000/svg", "viewBox": f"0 0 {WIDTH} {HEIGHT}", "role": "img"}
    return str(
        tag("svg", tag("title", "Cost of simulation"), tag("desc", told), *parts, width=WIDTH, height=HEIGHT, **root)
    )


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--point", nargs=3, metavar=("KIND", "FORM", "SIDE"), help="measure one point, print JSON")
    parser.add_argument("--write", action="store_true", help="write docs/gallery/cost.svg and evidence/cost.json too")
    given = parser.parse_args(arguments)
    if given.point:
        kind, form, side = given.point
        print(json.dumps(point(kind, form, int(side))))
        return 0
    rows = measured()
    if given.write:
        (ROOT / "docs" / "gallery" / "cost.svg").write_text(figure(rows) + "\n", encoding="utf-8")
        (ROOT / "evidence" / "cost.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    largest = [row for row in rows if row["form"] == "volume" and row["n"] == 256]
    heavy = [f"{LOOKS[row['kind']][0]} {row['peak_gb']:.2f} GB" for row in largest if row["peak_gb"] > MOST_GB]
    top = max((row["peak_gb"] for row in largest), default=0.0)
    print(f"256³: at most {top:.2f} GB, limit {MOST_GB} GB" + (f"; missed: {', '.join(heavy)}" if heavy else ""))
    return 1 if heavy else 0


if __name__ == "__main__":
    sys.exit(main())

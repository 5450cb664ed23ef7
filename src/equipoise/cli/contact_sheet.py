"""A contact sheet: cases side by side with thin outlines of their labels, each marked as what it is."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from PIL import Image as Picture
from PIL import ImageDraw

from equipoise.core import Case, LabelMap, LabelScheme
from equipoise.report.pictures import picture, view_of

CELL = 200
"""Side of one picture, in pixels."""
LINE = 13
"""Height of a line of text, in pixels."""
LETTER = 6.2
"""Width of a letter, in pixels."""
MOST = 24
"""Cases on one sheet."""
CROWDED = 4
"""Labels above which a case is shown without outlines as well: they would hide what they enclose."""
BACK, TEXT = (24, 24, 24), (220, 220, 220)
COLOURS = (
    (255, 196, 0), (86, 180, 233), (0, 158, 115), (240, 120, 60), (204, 121, 167), (240, 228, 66), (150, 150, 255),
    (120, 220, 120), (255, 120, 120), (120, 230, 230), (200, 160, 110), (190, 190, 190),
)  # fmt: skip
"""Of the labels in their order, then again from the first (after Okabe and Ito, lightened for dark images)."""


def contact_sheet(
    cases: Sequence[Case], simulated: bool = False, total: int | None = None, columns: int | None = None
) -> Picture.Image:
    """Return the first cases side by side, each with its engine and scanner, and the names of the labels below.

    Parameters
    ----------
    cases
        2-D or 3-D, grey or colour; of a volume the slice is shown that holds most of its structures. More than `MOST`
        are not shown, and the sheet says so.
    simulated
        Whether a simulator made the pixels.
    total
        Number of cases that these are the first of; all by default.
    columns
        Pictures in a row; by default the sheet is a little wider than high.
    """
    shown = list(cases[:MOST])
    columns = columns or math.ceil(math.sqrt(len(shown) * 1.4))
    rows = math.ceil(len(shown) / columns)
    colours = _colours(shown)
    legend = _legend(colours, columns * CELL)
    count = len(cases) if total is None else total
    note = f"{len(shown)} of {count} cases; the others are in images/ and labels/" if count > len(shown) else ""
    pictures = 1 + any(isinstance(c.truth, LabelMap) and len(c.truth.scheme.labels) > CROWDED for c in shown)
    high = pictures * CELL + 2 * LINE
    sheet = Picture.new("RGB", (columns * CELL, rows * high + LINE * (len(legend) + bool(note)) + 4), BACK)
    for number, case in enumerate(shown):
        _place(sheet, case, (number % columns * CELL, number // columns * high), pictures, simulated, colours)
    draw = ImageDraw.Draw(sheet)
    y = rows * high + 2
    for line in legend:
        x = 3.0
        for name in line:
            draw.text((x, y), name, fill=colours[name])
            x += _wide(name)
        y += LINE
    if note:
        draw.text((3, y), note, fill=TEXT)
    return sheet


def _place(
    sheet: Picture.Image,
    case: Case,
    corner: tuple[int, int],
    pictures: int,
    simulated: bool,
    colours: Mapping[str, tuple[int, int, int]],
) -> None:
    """Draw one case, without outlines too if there are two pictures of it, and two lines about it."""
    x, y = corner
    labels = case.truth if isinstance(case.truth, LabelMap) else None
    named = {} if labels is None else {name: _alone(labels, name) for name in labels.scheme.names}
    made = picture(_at_best_slice(case, labels), "synthetic", named, simulated=simulated)
    image = Picture.open(io.BytesIO(base64.b64decode(made.png))).convert("RGB")
    scale = CELL / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    # A picture is shrunk by averaging, and enlarged as it is.
    how = Picture.Resampling.BOX if scale < 1 else Picture.Resampling.NEAREST
    for _ in range(pictures):
        sheet.paste(image.resize(size, how), (x, y))
        y += CELL
    y -= CELL  # outlines go over the last
    draw = ImageDraw.Draw(sheet)
    for outline in made.outlines:
        for path in outline.paths:
            closed = [*path, path[0]]
            draw.line([(x + px * scale, y + py * scale) for px, py in closed], fill=colours[outline.name], width=1)
    word = "simulated" if simulated else "synthetic"
    scanner = (case.scanner or "").removeprefix("simulated, ")
    maker = f"{word}: {case.origin.engine}" if case.synthetic else "real"
    for line, text in enumerate((maker, scanner)):
        draw.text((x + 3, y + CELL + line * LINE), _short(text), fill=TEXT)


def _colours(cases: Sequence[Case]) -> dict[str, tuple[int, int, int]]:
    names: dict[str, None] = {}
    for case in cases:
        if isinstance(case.truth, LabelMap):
            names |= dict.fromkeys(case.truth.scheme.names)
    return {name: COLOURS[number % len(COLOURS)] for number, name in enumerate(names)}


def _legend(names: Mapping[str, object], width: int) -> list[list[str]]:
    """Return the labels' names in as many lines as they need."""
    lines: list[list[str]] = []
    left = 0.0
    for name in names:
        if _wide(name) > left:
            lines.append([])
            left = float(width)
        lines[-1].append(name)
        left -= _wide(name)
    return lines


def _wide(name: str) -> float:
    return LETTER * (len(name) + 2)


def _short(text: str) -> str:
    most = int(CELL / LETTER) - 1
    return text if len(text) <= most else text[: most - 1] + "…"


def _alone(labels: LabelMap, name: str) -> LabelMap:
    """Return one label; where two of its objects touch, a line between them stays free, so that each is outlined."""
    instances = labels.instances(name)
    inside = instances > 0
    if instances.max(initial=0) > 1:
        for axis, length in enumerate(instances.shape):
            if length > 1:
                step = np.diff(instances.astype(np.int64), axis=axis, append=np.take(instances, [-1], axis=axis))
                inside &= ~((step != 0) & (np.roll(instances, -1, axis=axis) > 0))
    return LabelMap.on(labels.geometry, inside[None].astype(np.uint8), LabelScheme.of([name]))


def _at_best_slice(case: Case, labels: LabelMap | None) -> Case:
    """Return a volume with a mark as its truth, at the slice that holds the largest shares of all structures.

    Every structure counts as much, whatever its size: a lesion is shown rather than the widest section of the body.
    """
    if labels is None or labels.geometry.ndim == 2:
        return case
    depth = view_of(labels.geometry).axes[2]
    others = tuple(axis for axis in range(3) if axis != depth)
    shares = np.zeros(labels.geometry.shape[depth])
    for channel in labels.array:
        areas = (channel > 0).sum(axis=others)
        shares += areas / max(int(areas.sum()), 1)
    mark = np.zeros((1, *labels.geometry.shape), np.uint8)
    if shares.any():
        np.moveaxis(mark[0], depth, 0)[int(shares.argmax())] = 1
    return replace(case, truth=LabelMap.on(labels.geometry, mark, LabelScheme.of(["slice shown"])))


__all__ = ["CELL", "MOST", "contact_sheet"]

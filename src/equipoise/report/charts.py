"""Curves: a score against a number of patients or a ratio, every point with its interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from markupsafe import Markup

from equipoise.experiment.findings import Estimate
from equipoise.report.colours import Style
from equipoise.report.marks import symbol
from equipoise.report.svg import Axis, drawing, number, percent, tag
from equipoise.report.wording import known, usable

HEIGHT = 260


@dataclass(frozen=True, slots=True)
class Dot:
    """A point of a curve: position along x, estimate, look and what it says."""

    x: float
    estimate: Estimate
    style: Style
    tip: str


@dataclass(frozen=True, slots=True)
class Line:
    """A curve; ``hollow`` is the target site.

    ``shift`` moves it sideways, in pixels, so that intervals do not overlap.
    """

    name: str
    dots: Sequence[Dot]
    colour: str
    hollow: bool = False
    dashed: bool = False
    shift: float = 0.0


@dataclass(frozen=True, slots=True)
class Level:
    """A horizontal reference: a value with a name."""

    value: float
    name: str


def chart(
    key: str,
    heading: str,
    lines: Sequence[Line],
    x: Axis,
    y: Axis,
    level: Level | None = None,
    margin: float | None = None,
    zero: bool = False,
    diagonal: bool = False,
) -> Markup:
    """Return a plot with intervals as vertical bars and replicates as dots behind them.

    ``zero`` draws the zero line of a difference, ``margin`` the band around it, ``diagonal`` where both axes say the
    same, from 0 to 1.
    """
    parts: list[Markup | None] = [_band(y, margin) if zero else None, _grid(x, y)]
    if zero and y.holds(0):
        parts.append(tag("line", x1="0%", x2="100%", y1=_y(y, 0), y2=_y(y, 0), class_="zero"))
    if diagonal:
        (x1, y1), (x2, y2) = ((percent(x.at(end)), _y(y, end)) for end in (0.0, 1.0))
        parts.append(tag("line", x1=x1, y1=y1, x2=x2, y2=y2, class_="reference"))
    if level is not None and known(level.value) and y.holds(level.value):
        at = _y(y, level.value)
        parts.append(tag("line", x1="0%", x2="100%", y1=at, y2=at, class_="reference"))
        parts.append(tag("text", level.name, x="100%", y=number(at - 5), text_anchor="end", class_="tick"))
    for line in lines:
        parts.append(_connection(line, x, y))
    for line in lines:
        parts.extend(_dot(line, dot, x, y) for dot in line.dots)
    said = "; ".join(dot.tip for line in lines for dot in line.dots)
    plot = drawing(key, heading, said or "nothing to draw", HEIGHT, *parts)
    return tag(
        "div",
        tag("h4", heading),
        tag("div", y.name, class_="axis-name y-name"),
        tag("div", plot, class_="chart-box"),
        tag("div", x.name, class_="axis-name"),
        class_="chart",
    )


def _y(axis: Axis, value: float) -> float:
    return round((1 - axis.at(value)) * HEIGHT, 2)


def _band(y: Axis, margin: float | None) -> Markup | None:
    if not known(margin) or margin <= 0:
        return None
    top, bottom = _y(y, margin), _y(y, -margin)
    return tag("rect", x=0, width="100%", y=top, height=bottom - top, class_="band")


def _grid(x: Axis, y: Axis) -> Markup:
    parts = []
    for tick, label in zip(y.ticks, y.labels, strict=True):
        at = _y(y, tick)
        parts.append(tag("line", x1="0%", x2="100%", y1=at, y2=at, class_="grid"))
        parts.append(tag("text", label, x=0, dx=-8, y=number(at + 4), text_anchor="end", class_="tick"))
    for tick, label in zip(x.ticks, x.labels, strict=True):
        at_x = percent(x.at(tick))
        parts.append(tag("line", x1=at_x, x2=at_x, y1=HEIGHT, y2=HEIGHT + 5, class_="tickmark"))
        parts.append(tag("text", label, x=at_x, y=HEIGHT + 19, text_anchor="middle", class_="tick"))
    parts.append(tag("line", x1="0%", x2="100%", y1=HEIGHT, y2=HEIGHT, class_="base"))
    return Markup("").join(parts)


def _connection(line: Line, x: Axis, y: Axis) -> Markup:
    dots = [d for d in line.dots if usable(d.estimate)]
    pieces = [
        tag(
            "line",
            x1=percent(x.at(a.x)),
            x2=percent(x.at(b.x)),
            y1=_y(y, a.estimate.value),
            y2=_y(y, b.estimate.value),
            stroke=line.colour,
            class_="curve",
            stroke_dasharray="5 4" if line.dashed or line.hollow else None,
        )
        for a, b in pairwise(dots)
    ]
    return tag("g", *pieces, transform=f"translate({number(line.shift)} 0)")


def _dot(line: Line, dot: Dot, x: Axis, y: Axis) -> Markup | None:
    e = dot.estimate
    if not usable(e):
        return None
    at, low, high = percent(x.at(dot.x)), _y(y, e.low), _y(y, e.high)
    colour = dot.style.colour
    replicates = [
        tag("circle", cx=at, cy=_y(y, r), r=3.4, fill=colour, class_="replicate") for r in e.replicates if known(r)
    ]
    return tag(
        "g",
        tag("title", dot.tip),
        *replicates,
        tag("line", x1=at, x2=at, y1=low, y2=high, stroke=colour, class_="interval"),
        symbol(dot.style, at, _y(y, e.value), line.hollow),
        tag("line", x1=at, x2=at, y1=low, y2=high, class_="catch"),
        class_="mark",
        transform=f"translate({number(line.shift)} 0)",
    )

"""The mark of every figure: an interval with its point, and the replicates as small dots behind it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from markupsafe import Markup

from equipoise.experiment.findings import Estimate
from equipoise.report.colours import Style
from equipoise.report.svg import Axis, nice_ticks, percent, tag
from equipoise.report.wording import known, plain, usable

RADIUS = 5.5
_OUTLINES = {
    "circle": "M-5.2 0A5.2 5.2 0 1 0 5.2 0A5.2 5.2 0 1 0 -5.2 0Z",
    "diamond": "M0 -6.8L6.8 0L0 6.8L-6.8 0Z",
    "square": "M-4.9 -4.9H4.9V4.9H-4.9Z",
    "up": "M0 -6.4L6.2 4.8H-6.2Z",
    "down": "M0 6.4L6.2 -4.8H-6.2Z",
    "hexagon": "M-6 0L-3 -5.2H3L6 0L3 5.2H-3Z",
}


@dataclass(frozen=True, slots=True)
class Bar:
    """One estimate to draw.

    Parameters
    ----------
    estimate
        Not drawn if it could not be computed; the table says so.
    style
        Colour, shape, hatch.
    tip
        What it says, shown on hover and read aloud.
    hollow
        Hollow marker: the target site.
    y
        Pixels from the top of the strip.
    """

    estimate: Estimate
    style: Style
    tip: str
    hollow: bool = False
    y: float = 14


def symbol(style: Style, x: str | float, y: float, hollow: bool = False) -> Markup:
    """Return an arm's marker, about 11 pixels wide, centred on a point."""
    fill = "var(--page)" if hollow else "url(#hatch)" if style.hatched else style.colour
    shape = tag("path", d=_OUTLINES[style.shape], fill=fill, stroke=style.colour, stroke_width=1.8 if hollow else 1.4)
    return tag("svg", shape, x=x, y=y, overflow="visible", width=1, height=1)


def glyph(style: Style, hollow: bool = False) -> Markup:
    """Return the marker alone, to stand in a line of text."""
    shape = symbol(style, 8, 8, hollow)
    return tag("svg", shape, class_="glyph", width=16, height=16, aria_hidden="true", focusable="false")


def interval_mark(bar: Bar, axis: Axis) -> Markup | None:
    """Return replicates, interval and point along a horizontal axis; an end beyond the axis becomes an arrow."""
    e = bar.estimate
    if not usable(e):
        return None
    dots = [
        tag("circle", cx=percent(axis.at(r)), cy=bar.y, r=3.4, fill=bar.style.colour, class_="replicate")
        for r in e.replicates
        if known(r) and axis.holds(r)
    ]
    low, high = percent(axis.at(e.low)), percent(axis.at(e.high))
    parts: list[Markup | None] = [
        *dots,
        tag("line", x1=low, x2=high, y1=bar.y, y2=bar.y, stroke=bar.style.colour, class_="interval"),
    ]
    for end, holds, way in ((low, axis.holds(e.low), -1), (high, axis.holds(e.high), 1)):
        if holds:
            cap = tag("line", x1=end, x2=end, y1=bar.y - 4, y2=bar.y + 4, stroke=bar.style.colour, class_="cap")
        else:
            arrow = tag("path", d=f"M0 -5L{7 * way} 0L0 5Z", fill=bar.style.colour)
            cap = tag("svg", arrow, x=end, y=bar.y, overflow="visible", width=1, height=1)
        parts.append(cap)
    if axis.holds(e.value):
        parts.append(symbol(bar.style, percent(axis.at(e.value)), bar.y, bar.hollow))
    catch = tag("line", x1=low, x2=high, y1=bar.y, y2=bar.y, class_="catch")
    return tag("g", tag("title", bar.tip), *parts, catch, class_="mark")


def backdrop(axis: Axis, zero: bool = True, margin: float | None = None) -> Markup:
    """Return margin band, grid and zero line behind the marks of a strip."""
    parts: list[Markup] = []
    if known(margin) and margin > 0:
        left, right = axis.at(-margin), axis.at(margin)
        parts.append(tag("rect", x=percent(left), width=percent(right - left), y=0, height="100%", class_="band"))
    for tick in axis.ticks:
        x = percent(axis.at(tick))
        parts.append(tag("line", x1=x, x2=x, y1=0, y2="100%", class_="grid"))
    if zero and axis.holds(0):
        x = percent(axis.at(0))
        parts.append(tag("line", x1=x, x2=x, y1=0, y2="100%", class_="zero"))
    return Markup("").join(parts)


def tick_row(axis: Axis) -> Markup:
    """Return the labels of a horizontal axis, with its name below."""
    texts = [
        tag("text", label, x=percent(axis.at(tick)), y=14, text_anchor="middle", class_="tick")
        for tick, label in zip(axis.ticks, axis.labels, strict=True)
    ]
    ticks = tag("svg", *texts, class_="plot", width="100%", height=20, aria_hidden="true")
    return Markup("").join([ticks, tag("div", axis.name, class_="axis-name")])


def difference_axis(estimates: Iterable[Estimate | None], margin: float | None, name: str) -> Axis:
    """Return an axis around zero that holds the margin band and the intervals.

    One far-off arm (synthetic only, say) must not squeeze all others into a point: beyond 2.5 times the third quartile
    of the ends, an interval leaves the axis as an arrow.
    """
    drawn = [e for e in estimates if usable(e)]
    edge = margin if known(margin) and margin > 0 else 0.0
    reach = sorted(max(abs(e.low), abs(e.high)) for e in drawn)
    low = min([-1.25 * edge, *(e.low for e in drawn)])
    high = max([1.25 * edge, *(e.high for e in drawn)])
    if reach:
        limit = max(2.5 * reach[(3 * (len(reach) - 1)) // 4], 2.5 * edge)
        low, high = max(low, -limit), min(high, limit)
    return padded_axis(low, high, name, signed=True)


def value_axis(estimates: Iterable[Estimate | None], name: str, ceiling: float | None = None) -> Axis:
    """Return an axis that holds every interval and replicate."""
    drawn = [e for e in estimates if usable(e)]
    ends = [x for e in drawn for x in (e.low, e.high, *filter(known, e.replicates))] or [0.0, 1.0]
    axis = padded_axis(min(ends), max(ends), name)
    if ceiling is not None and max(ends) <= ceiling < axis.high:
        return Axis(axis.low, ceiling + 0.01 * (ceiling - axis.low), axis.ticks, axis.labels, name)
    return axis


def padded_axis(low: float, high: float, name: str, signed: bool = False, count: int = 5) -> Axis:
    """Return an axis a little wider than ``low`` to ``high``, with round ticks inside it."""
    if not high > low:
        low, high = low - 0.5 * (abs(low) or 1), high + 0.5 * (abs(high) or 1)
    room = 0.06 * (high - low)
    low, high = low - room, high + room
    ticks = nice_ticks(low, high, count)
    step = ticks[1] - ticks[0] if len(ticks) > 1 else high - low
    decimals = next((d for d in range(7) if abs(step * 10**d - round(step * 10**d)) < 1e-6), 6)
    return Axis(low, high, ticks, [plain(t, decimals, signed) for t in ticks], name)

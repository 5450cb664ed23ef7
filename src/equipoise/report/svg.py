"""Writing SVG and HTML elements, escaped, with fluid coordinates.

Figures are drawn with ``x`` in percent of the plot's width and ``y`` in pixels, so that one drawing fits a phone and a
sheet of paper while its text keeps its size. What lies outside the plot (tick labels) is drawn over its edge, into the
padding of the box around it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

Child = str | Markup | None
Attribute = str | float | int | None


def number(value: float) -> str:
    """Return a coordinate with at most two decimals, so that the page is small and the same on every machine."""
    text = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text


def percent(fraction: float) -> str:
    """Return a fraction of the width, as SVG wants it."""
    return f"{number(100 * fraction)}%"


def tag(name: str, *children: Child, **attributes: Attribute) -> Markup:
    """Return one element.

    Parameters
    ----------
    name
        The element's name.
    children
        Texts are escaped, `Markup` is taken as it is, ``None`` is left out.
    attributes
        ``aria_label`` becomes ``aria-label``, a trailing ``_`` is dropped (``class_``), ``None`` is left out.
    """
    pairs = []
    for key, value in attributes.items():
        if value is None:
            continue
        shown = number(value) if isinstance(value, (int, float)) else value
        pairs.append(f' {key.rstrip("_").replace("_", "-")}="{escape(shown)}"')
    inner = Markup("").join(escape(child) for child in children if child is not None)
    return Markup("<{0}{1}>{2}</{0}>").format(Markup(name), Markup("".join(pairs)), inner)


def drawing(key: str, title: str, description: str, height: float, *children: Child, class_: str = "plot") -> Markup:
    """Return an ``svg`` as wide as its box, with its title and description for a screen reader.

    Parameters
    ----------
    key
        Unique on the page; the ids of title and description are made of it.
    title, description
        What it is, and what it shows in words.
    height
        In CSS pixels.
    """
    return tag(
        "svg",
        tag("title", title, id=f"{key}-t"),
        tag("desc", description, id=f"{key}-d"),
        *children,
        class_=class_,
        width="100%",
        height=height,
        role="img",
        aria_labelledby=f"{key}-t {key}-d",
    )


@dataclass(frozen=True, slots=True)
class Axis:
    """A numeric axis from ``low`` to ``high``, with its ticks.

    Parameters
    ----------
    low, high
        Ends, in the quantity's unit.
    ticks
        Where a label stands.
    labels
        One text per tick.
    name
        What is measured, with its unit.
    """

    low: float
    high: float
    ticks: Sequence[float]
    labels: Sequence[str]
    name: str

    def at(self, value: float) -> float:
        """Return the position of a value as a fraction of the axis; beyond an end it is that end."""
        return min(1.0, max(0.0, (value - self.low) / (self.high - self.low)))

    def holds(self, value: float) -> bool:
        """Return whether a value lies on the axis."""
        return self.low - 1e-12 <= value <= self.high + 1e-12


def nice_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Return about ``count`` round numbers (1, 2 or 5 times a power of ten apart) between ``low`` and ``high``."""
    if not high > low:
        return [low]
    step = nice_step((high - low) / max(1, count - 1))
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def nice_step(raw: float) -> float:
    """Return the smallest of 1, 2, 5 times a power of ten that is at least ``raw``."""
    power = 10.0 ** math.floor(math.log10(raw))
    return next(m * power for m in (1.0, 2.0, 5.0, 10.0) if m * power >= raw * (1 - 1e-9))

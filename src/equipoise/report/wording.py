"""Numbers and intervals in words: every estimate is written with its interval, in one way, everywhere."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import TypeGuard

from equipoise.experiment.findings import Estimate

MISSING = "not computed"
PLACES = {
    "inside": "inside",
    "target": "target site",
    "validation": "validation",
    "target validation": "target site, validation",
}
BUDGETS = {"steps": "equal steps", "epochs": "equal epochs"}


def known(value: float | None) -> TypeGuard[float]:
    """Return whether a number is there and finite."""
    return value is not None and math.isfinite(value)


def usable(estimate: Estimate | None) -> TypeGuard[Estimate]:
    """Return whether an estimate has a value and both ends of its interval."""
    return estimate is not None and known(estimate.value) and known(estimate.low) and known(estimate.high)


def place(where: str) -> str:
    """Return a place in words; an unknown one is called by its own name."""
    return PLACES.get(where, where)


def decimals_for(estimates: Iterable[Estimate | None]) -> int:
    """Return how many decimals a column of estimates needs, 0 to 4.

    Of the half-widths the one at the lower quartile is shown with two digits if it begins with 1 to 4, else with one:
    0.031, but 0.09. The narrow intervals are those whose ends matter; a wide one bears the digits.
    """
    widths = sorted((e.high - e.low) / 2 for e in estimates if usable(e) and e.high > e.low)
    if not widths:
        return 3
    narrow = widths[len(widths) // 4]
    power = math.floor(math.log10(narrow))
    return min(4, max(0, (1 if narrow < 4.95 * 10**power else 0) - power))


def plain(value: float | None, decimals: int = 3, signed: bool = False) -> str:
    """Return a number with a true minus sign; a missing one is "not computed"."""
    if not known(value):
        return MISSING
    text = f"{abs(value):,.{decimals}f}"
    if not any(digit in text for digit in "123456789"):
        return text
    return ("−" if value < 0 else "+" if signed else "") + text


def interval(estimate: Estimate | None, decimals: int = 3, signed: bool = False) -> str:
    """Return ``value [low, high]``; an estimate without a value or an interval is "not computed"."""
    if not usable(estimate):
        return MISSING
    value, low, high = (plain(x, decimals, signed) for x in (estimate.value, estimate.low, estimate.high))
    return f"{value} [{low}, {high}]"


def with_unit(text: str, unit: str) -> str:
    """Return the text with its unit, if both are there."""
    return f"{text} {unit}" if unit and text != MISSING else text


def level(estimates: Iterable[Estimate | None]) -> str:
    """Return "95 % interval", or both levels where estimates differ."""
    levels = sorted({e.level for e in estimates if usable(e)}, reverse=True)
    return " and ".join(f"{100 * x:g} %" for x in levels) + " interval" if levels else "interval"


def count(n: float, one: str, many: str | None = None) -> str:
    """Return "1 patient", "12 patients"."""
    return f"{plain(n, 0)} {one if n == 1 else many or one + 's'}"


def listed(words: Iterable[str]) -> str:
    """Return "a, b and c"."""
    items = list(words)
    return items[0] if len(items) == 1 else ", ".join(items[:-1]) + " and " + items[-1] if items else ""


def money(amount: float | None, currency: str) -> str:
    """Return "1,200 EUR"."""
    if not known(amount):
        return MISSING
    return f"{plain(amount, 0 if abs(amount) >= 100 or amount == round(amount) else 2)} {currency}".strip()


def ratio(value: float | None) -> str:
    """Return a synthetic : real ratio, as "0.25:1"; synthetic only is "synthetic only"."""
    if value is None or math.isinf(value):
        return "synthetic only"
    return MISSING if math.isnan(value) else f"{value:g}:1"


def minus(text: str) -> str:
    """Return the text with a true minus sign before its numbers; names and dates keep their hyphens."""
    return re.sub(r"(?<![\w.)-])-(?=\d)", "−", text)


def sentence(text: str) -> str:
    """Return the text with a capital first letter, true minus signs and a full stop."""
    text = minus(text.strip())
    if not text:
        return text
    text = text[0].upper() + text[1:]
    return text if text[-1] in ".!?…" else text + "."

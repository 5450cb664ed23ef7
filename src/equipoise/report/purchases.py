"""Money: what each purchase is expected to reach, lines of equal cost, and what to buy next."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import contourpy
import numpy as np
from markupsafe import Markup

from equipoise.experiment.findings import Estimate, Findings, Money
from equipoise.report.content import (
    Cell,
    Section,
    Table,
    conditional_note,
    estimate_cell,
    figure,
    legend,
    margin_text,
    number_cell,
    score_name,
    text_cell,
)
from equipoise.report.svg import Axis, drawing, nice_step, nice_ticks, percent, tag
from equipoise.report.wording import (
    MISSING,
    count,
    decimals_for,
    interval,
    known,
    listed,
    money,
    plain,
    sentence,
    usable,
    with_unit,
)

_HIGH = 300
"""Height of the map, in pixels."""


def purchases(findings: Findings) -> Section:
    """Return the section on money and advice."""
    title, book = "What to buy next", findings.money
    lead = sentence(findings.advice.sentence) or sentence(book.message) or "No purchase could be advised."
    tables = [_price_table(book)] if book.prices else []
    how = [
        "Advice reads validation patients only. Synthetic cases are advised only if their gain over the best "
        "purchase of real cases for the same money is proven; otherwise the advice is to buy real annotations, or to "
        "train the arms that would decide it.",
        f"Nothing is advised whose gain cannot reach {margin_text(findings).lstrip('±')}, the smallest difference that "
        "the plan calls relevant.",
        "The expected value of a purchase is read off the fitted law, synthetic cases counted at the exchange rate, "
        "and as nothing where none is proven. Its 95 % interval holds the middle of all draws, each of which takes "
        "curve and exchange rate from the same resample of patients and replicates.",
        *([sentence(book.message)] if book.message and sentence(book.message) != lead else []),
        *conditional_note([findings.advice.expected_gain, findings.advice.always_real_gain]),
    ]
    facts = _advice_facts(findings)
    if not _drawable(book):
        note = tag(
            "p",
            "No map of costs: it needs prices and at least two counts of real and of synthetic cases.",
            class_="calm",
        )
        return Section(
            "money", title, lead, figures=[figure(facts, note)], tables=tables, how=how, state="shown", simulated=False
        )
    grid = _grid(findings)
    dashed = tag("span", class_="swatch-line", aria_hidden="true")
    words: list[Markup | str] = [tag("span", dashed, f"equal cost, in {book.currency}", class_="arm")]
    caption = "No law could be fitted to the scores, so the map shows cost only."
    if _expected(book) is not None:
        solid = tag("span", class_="swatch-solid", aria_hidden="true")
        words.append(tag("span", solid, f"equal {score_name(findings)}, as the fitted law expects", class_="arm"))
        caption = f"A stronger shade is a higher expected value. {_how_wide(findings)}"
    return Section(
        "money",
        title,
        lead,
        figures=[figure(facts, legend(words), grid, caption=caption)],
        tables=[*tables, _grid_table(findings)],
        how=how,
    )


def _how_wide(findings: Findings) -> str:
    """Return the widest and the narrowest interval of the map, in words."""
    found = [e for row in _estimates(findings.money) for e in row]
    if not found:
        return "Its intervals were not computed."
    unit, decimals = findings.metric.unit, decimals_for(found)
    narrow, wide = (f(found, key=lambda e: e.high - e.low) for f in (min, max))
    shown = [with_unit(interval(e, decimals), unit) for e in (narrow, wide)]
    return (
        f"The 95 % intervals of these expectations, in the table and on each field, are at their narrowest {shown[0]} "
        f"and at their widest {shown[1]}."
    )


def _estimates(book: Money) -> list[list[Estimate]]:
    """Return expected scores with their intervals, ``[synthetic][real]``; empty where one of them has none."""
    if book.expected is None or book.expected_low is None or book.expected_high is None:
        return []
    sides = [_matrix(values) for values in (book.expected, book.expected_low, book.expected_high)]
    size = (len(book.synthetic_counts), len(book.real_counts))
    if any(side.shape != size or not np.isfinite(side).all() for side in sides):
        return []
    value, low, high = sides
    return [
        [Estimate(float(value[i, j]), float(low[i, j]), float(high[i, j])) for j in range(size[1])]
        for i in range(size[0])
    ]


def _drawable(book: Money) -> bool:
    rows, columns = len(book.synthetic_counts), len(book.real_counts)
    return rows >= 1 and columns >= 1 and len(book.cost) == rows and all(len(r) == columns for r in book.cost)


def _advice_facts(findings: Findings) -> Markup:
    advice, unit = findings.advice, findings.metric.unit
    rows: list[tuple[str, str]] = [("Budget", money(advice.budget, advice.currency))]
    if advice.real or advice.synthetic:
        bought = [count(advice.real, "real patient")] + (
            [count(advice.synthetic, "synthetic case")] if advice.synthetic else []
        )
        rows.append(("Purchase", listed(bought)))
    gains = [e for e in (advice.expected_gain, advice.always_real_gain) if usable(e)]
    decimals = decimals_for(gains)
    # A bound above 0 is what the advice rests on: it must not read as 0.
    decimals += any(0 < abs(bound) < 0.5 * 10**-decimals for e in gains for bound in (e.low, e.high))
    if advice.expected_gain is not None:
        name = "The best purchase would gain" if advice.action == "buy nothing yet" else "Expected gain"
        rows.append((name, with_unit(interval(advice.expected_gain, decimals, signed=True), unit)))
    if advice.always_real_gain is not None:
        text = with_unit(interval(advice.always_real_gain, decimals, signed=True), unit)
        rows.append(("The same money on real cases only", text))
    if advice.action == "buy nothing yet":
        rows.append(("Smallest relevant gain", margin_text(findings).lstrip("±")))
    if advice.train_next:
        rows.append(("Arms to train next", listed(advice.train_next)))
    return tag("dl", *(tag("div", tag("dt", k), tag("dd", v)) for k, v in rows), class_="facts")


def _grid(findings: Findings) -> Markup:
    """Return the map of expected score (shades and solid lines) with lines of equal cost (dashed)."""
    book = findings.money
    cost, expected = _matrix(book.cost), _expected(book)
    x = _span_axis(book.real_counts, "real patients")
    y = _span_axis(book.synthetic_counts, "synthetic cases")
    parts: list[Markup] = []
    if expected is not None:
        parts += _shades(findings, expected, x, y)
        decimals = _level_decimals(expected)
        for value in nice_ticks(float(expected.min()), float(expected.max()), 8):
            parts += _contour(book, expected, value, plain(value, decimals), x, y, "isoscore")
    for value in nice_ticks(float(cost.min()), float(cost.max()), 8):
        parts += _contour(book, cost, value, plain(value, 0), x, y, "isocost")
    for tick, label in zip(x.ticks, x.labels, strict=True):
        parts.append(tag("text", label, x=percent(x.at(tick)), y=_HIGH + 19, text_anchor="middle", class_="tick"))
    for tick, label in zip(y.ticks, y.labels, strict=True):
        at = _HIGH * (1 - y.at(tick)) + 4
        parts.append(tag("text", label, x=0, dx=-8, y=at, text_anchor="end", class_="tick"))
    frame = tag("rect", x=0, y=0, width="100%", height=_HIGH, class_="frame-line")
    said = "Expected score of each purchase, with lines of equal cost. Every number is in the table below."
    plot = drawing("money-grid", "Cost and expected score", said, _HIGH, *parts, frame)
    return tag(
        "div",
        tag("div", "synthetic cases", class_="axis-name y-name"),
        tag("div", plot, class_="chart-box"),
        tag("div", "real patients", class_="axis-name"),
        class_="chart money",
    )


def _span_axis(counts: Sequence[float], name: str) -> Axis:
    low, high = min(counts), max(counts)
    high = high if high > low else low + 1
    ticks = nice_ticks(low, high, 6)
    return Axis(low, high, ticks, [plain(t, 0) for t in ticks], name)


def _expected(book: Money) -> np.ndarray | None:
    """Return the expected scores, if every purchase has one."""
    if book.expected is None:
        return None
    rows, columns = len(book.synthetic_counts), len(book.real_counts)
    if len(book.expected) != rows or any(len(r) != columns for r in book.expected):
        return None
    expected = _matrix(book.expected)
    return expected if np.isfinite(expected).all() else None


def _edges(counts: Sequence[float]) -> list[float]:
    """Return the borders of the cells around each count: half-way to its neighbours, and the ends."""
    return [counts[0], *((a + b) / 2 for a, b in pairwise(counts)), counts[-1]]


def _shades(findings: Findings, expected: np.ndarray, x: Axis, y: Axis) -> list[Markup]:
    book, name = findings.money, score_name(findings)
    across, up = _edges(book.real_counts), _edges(book.synthetic_counts)
    span = float(np.ptp(expected)) or 1.0
    estimates = _estimates(book)
    cells = []
    for i, made in enumerate(book.synthetic_counts):
        for j, real in enumerate(book.real_counts):
            left, right = x.at(across[j]), x.at(across[j + 1])
            top, bottom = _HIGH * (1 - y.at(up[i + 1])), _HIGH * (1 - y.at(up[i]))
            depth = (expected[i, j] - expected.min()) / span
            price = money(book.cost[i][j], book.currency)
            bought = f"{plain(real, 0)} real, {plain(made, 0)} synthetic"
            said = f"{name} {interval(estimates[i][j])} expected" if estimates else f"{name} {MISSING}"
            tip = f"{bought}: {price}, {said}"
            shade = tag(
                "rect", x=percent(left), width=percent(right - left), y=top, height=bottom - top,
                fill_opacity=f"{0.01 + 0.17 * depth:.3f}", class_="cell",
            )  # fmt: skip
            cells.append(tag("g", tag("title", tip), shade, class_="mark"))
    return cells


def _level_decimals(expected: np.ndarray) -> int:
    step = nice_step(max(float(np.ptp(expected)), 1e-6) / 7)
    return max(0, -math.floor(math.log10(step) + 1e-9))


def _contour(book: Money, z: np.ndarray, value: float, name: str, x: Axis, y: Axis, class_: str) -> list[Markup]:
    """Return one line of equal value, by marching squares, with its name where it ends."""
    if min(z.shape) < 2 or not np.isfinite(z).all() or not z.min() < value < z.max():
        return []
    lines = contourpy.contour_generator(
        book.real_counts, book.synthetic_counts, z, line_type=contourpy.LineType.Separate
    )
    parts: list[Markup] = []
    for line in lines.lines(value):
        xy = [(x.at(float(p[0])), _HIGH * (1 - y.at(float(p[1])))) for p in np.asarray(line)]
        parts += [
            tag("line", x1=percent(a[0]), y1=a[1], x2=percent(b[0]), y2=b[1], class_=class_) for a, b in pairwise(xy)
        ]
        # Names of costs stand near the upper end of their line, names of scores near the lower one; a line in a corner
        # has no room for a name, and its neighbours tell.
        ordered = sorted(xy, key=lambda p: p[1])
        at = ordered[len(ordered) // 6] if class_ == "isocost" else ordered[-1 - len(ordered) // 6]
        if ordered[-1][1] - ordered[0][1] > 0.3 * _HIGH:
            here = percent(min(0.97, max(0.03, at[0])))
            look = f"line-name {class_}-name"
            parts.append(tag("text", name, x=here, y=at[1] + 4, text_anchor="middle", class_=look))
    return parts


def _matrix(rows: Sequence[Sequence[float | None]]) -> np.ndarray:
    return np.array([[v if known(v) else np.nan for v in row] for row in rows], dtype=float)


def _price_table(book: Money) -> Table:
    rows = [
        (text_cell(name), Cell(money(price, book.currency), price if known(price) else None))
        for name, price in book.prices.items()
    ]
    return Table("Price book", ("What", "Price"), rows)


def _grid_table(findings: Findings) -> Table:
    book = findings.money
    estimates = _estimates(book)
    decimals = decimals_for(e for row in estimates for e in row)
    columns = ("Real patients", "Synthetic cases", f"Cost, {book.currency}", f"Expected {score_name(findings)}")
    none = "no law fitted" if _expected(book) is None else MISSING
    rows = []
    for i, made in enumerate(book.synthetic_counts):
        for j, real in enumerate(book.real_counts):
            score = estimate_cell(estimates[i][j] if estimates else None, decimals, empty=none)
            rows.append((number_cell(real), number_cell(made), number_cell(book.cost[i][j], 0), score))
    return Table("Cost and expected score", columns, rows)

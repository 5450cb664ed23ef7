"""The ratio curve with its duplicate-real control, and the learning curve with the exchange rate."""

from __future__ import annotations

import math
from collections.abc import Sequence

from markupsafe import Markup

from equipoise.experiment.findings import Curve, CurvePoint, Estimate, Findings
from equipoise.report.charts import Dot, Level, Line, chart
from equipoise.report.colours import CONTROL, REAL, SYNTHETIC, Shape, Style, mixed, share_of, style_of_name
from equipoise.report.content import (
    Cell,
    Section,
    Table,
    conditional_note,
    estimate_cell,
    figure,
    interval_note,
    legend,
    margin_text,
    named,
    number_cell,
    score_name,
    short_difference,
    styles,
    text_cell,
)
from equipoise.report.marks import difference_axis, padded_axis, value_axis
from equipoise.report.svg import Axis, tag
from equipoise.report.wording import (
    BUDGETS,
    PLACES,
    count,
    decimals_for,
    interval,
    known,
    place,
    plain,
    ratio,
    sentence,
    usable,
    with_unit,
)


def ratio_curve(findings: Findings) -> Section:
    """Return the section of the difference from real against synthetic : real, with the duplicate-real control."""
    title, curves = "How much synthetic data", [c for c in findings.curves if c.kind == "ratio"]
    points = [p for c in curves for p in c.points]
    if not any(usable(p.estimate) for p in points):
        why = "No ratio curve: it needs at least two mixes of one engine at the same number of real patients."
        return Section("ratio", title, why, state="empty")
    differences = _are_differences(findings, curves)
    return Section(
        "ratio",
        title,
        _ratio_sentence(findings, curves, differences),
        figures=[figure(_ratio_legend(findings, curves, differences), _ratio_charts(findings, curves, differences))],
        tables=[_curve_table(findings, curves, "Synthetic : real", differences)],
        how=[
            "The number of real patients is the same everywhere on a curve; only the synthetic cases are added. The "
            "horizontal axis is the synthetic share of all cases, so that 0.25:1, 1:1 and 4:1 keep their distances.",
            "The hatched control repeats the real cases to the same count: what it gains comes from training longer, "
            "not from new images.",
            interval_note(findings),
            *conditional_note(p.estimate for p in points),
        ],
    )


def _are_differences(findings: Findings, curves: Sequence[Curve]) -> bool:
    """Return whether the points are differences from real, not scores: they are unless an arm's mean is among them."""
    means = [a.mean for a in findings.arms]
    return not any(p.estimate in means for c in curves for p in c.points if usable(p.estimate))


def _is_control(curve: Curve) -> bool:
    return "duplicat" in curve.name.lower()


def _estimates(curves: Sequence[Curve]) -> list[Estimate]:
    return [p.estimate for c in curves for p in c.points]


def _ratio_sentence(findings: Findings, curves: Sequence[Curve], differences: bool) -> str:
    """Return how the answer moves from the smallest to the largest ratio, without picking the best one."""
    synthetic = [c for c in curves if not _is_control(c)]
    first = next((c for c in synthetic if any(usable(p.estimate) and not math.isnan(p.x) for p in c.points)), None)
    if first is None:
        return "Only the control has points on this curve."
    decimals = decimals_for(_estimates(curves))
    points = sorted(
        (p for p in first.points if usable(p.estimate) and not math.isnan(p.x)), key=lambda p: share_of(p.x)
    )
    what = f"the difference from real in {findings.metric.title}" if differences else findings.metric.title

    def said(point: CurvePoint) -> str:
        shown = with_unit(interval(point.estimate, decimals, differences), findings.metric.unit)
        return f"{shown} at {ratio(point.x)}"

    moves = said(points[0]) if len(points) == 1 else f"from {said(points[0])} to {said(points[-1])}"
    verb = "is" if len(points) == 1 else "goes"
    there = f"{place(first.where)} and at {_budget(first.budget)}"
    text = f"With {first.name}, {there}, {what} {verb} {moves} synthetic to real"
    control = next(
        (c for c in curves if _is_control(c) and (c.where, c.budget) == (first.where, first.budget) and c.points), None
    )
    if control is None:
        return text + "."
    last = max(control.points, key=lambda p: share_of(p.x))
    return f"{text}; real data duplicated instead gives {said(last)}."


def _budget(budget: str) -> str:
    return BUDGETS.get(budget, budget)


def _ratio_legend(findings: Findings, curves: Sequence[Curve], differences: bool) -> Markup:
    ratios = sorted({p.x for c in curves if not _is_control(c) for p in c.points if known(p.x)})
    entries: list[Markup | str] = [named(_ratio_style(r), ratio(r)) for r in ratios]
    if any(_is_control(c) for c in curves):
        entries.append(named(style_of_name("duplicate", {}), "real, duplicated to the same count"))
    if differences:
        swatch = tag("span", class_="swatch-band", aria_hidden="true")
        entries.append(tag("span", swatch, f"margin, {margin_text(findings)}", class_="arm"))
    return legend(entries)


def _ratio_style(value: float) -> Style:
    share = share_of(value)
    shape: Shape = "circle" if share == 0 else "square" if share == 1 else "diamond"
    return Style(REAL if share == 0 else SYNTHETIC if share == 1 else mixed(share), shape)


def _ratio_charts(findings: Findings, curves: Sequence[Curve], differences: bool) -> Markup:
    """Return one chart per engine, budget and place on shared axes, the control in each."""
    margin = findings.metric.margin
    y = (
        difference_axis(_estimates(curves), margin, short_difference(findings))
        if differences
        else value_axis(_estimates(curves), score_name(findings))
    )
    x, decimals = _ratio_axis(curves), decimals_for(_estimates(curves))
    engines = [c for c in curves if not _is_control(c)] or list(curves)
    several = len({c.name for c in engines}) > 1
    panels = []
    for i, curve in enumerate(
        sorted(engines, key=lambda c: list(BUDGETS).index(c.budget) if c.budget in BUDGETS else 9)
    ):
        twins = [c for c in curves if _is_control(c) and (c.where, c.budget) == (curve.where, curve.budget)]
        chosen = [curve, *(c for c in twins if c is not curve)]
        lines = [_ratio_line(c, decimals, differences, 9.0 * (j - (len(chosen) - 1) / 2)) for j, c in enumerate(chosen)]
        heading = f"{place(curve.where)}, {_budget(curve.budget)}"
        heading = f"{curve.name}: {heading}" if several else heading[0].upper() + heading[1:]
        panels.append(chart(f"ratio-{i}", heading, lines, x, y, margin=margin, zero=differences))
    return tag("div", *panels, class_="charts")


def _ratio_line(curve: Curve, decimals: int, signed: bool, shift: float) -> Line:
    control = _is_control(curve)
    dots = [
        Dot(
            share_of(p.x),
            p.estimate,
            style_of_name("duplicate", {}) if control else _ratio_style(p.x),
            f"{curve.name}, {ratio(p.x)}: {interval(p.estimate, decimals, signed)}",
        )
        for p in sorted(curve.points, key=lambda p: share_of(p.x))
        if usable(p.estimate) and not math.isnan(p.x)
    ]
    return Line(curve.name, dots, CONTROL, curve.where == "target", control, shift)


def _ratio_axis(curves: Sequence[Curve]) -> Axis:
    ratios = sorted({share_of(p.x): ratio(p.x) for c in curves for p in c.points if not math.isnan(p.x)}.items())
    ratios = ratios or [(0.0, ratio(0))]
    low, high = min(0.0, ratios[0][0]), ratios[-1][0]
    room = 0.08 * max(high - low, 0.1)
    labels = ["only" if text == "synthetic only" else text for _, text in ratios]
    return Axis(low - room, high + room, [s for s, _ in ratios], labels, "synthetic : real, in cases")


def learning_curve(findings: Findings) -> Section:
    """Return the section of the score against the number of real patients, and what a mix is worth in them."""
    title, given = "What the synthetic data is worth", [c for c in findings.curves if c.kind == "learning"]
    exchange = findings.exchange
    worth = sentence(exchange.message) or "The exchange rate was not computed."
    facts = _worth_facts(exchange.real_equivalent)
    if not any(usable(e) for e in _estimates(given)):
        none = "There is no learning curve: real data was trained on at one size only."
        figures = [figure(facts)] if facts else []
        return Section("worth", title, f"{worth} {none}", figures=figures, state="empty")
    curves = [*given, *_headline_curves(findings, given)]
    looks = styles(findings)
    key = legend([named(style_of_name(n, looks), n) for n in dict.fromkeys(c.name for c in curves)])
    return Section(
        "worth",
        title,
        worth,
        figures=[figure(facts, key, _learning_charts(findings, curves))],
        tables=[_curve_table(findings, curves, "Real patients", False)],
        how=[
            "Each point is the mean over test patients and replicates after training on that many real patients. The "
            "horizontal axis doubles from mark to mark. All panels have one vertical scale, shifted to each place.",
            "The exchange rate asks how many real patients alone would have reached the score of the best mix. It is "
            "given only where the learning curve of real data still rises; on a plateau no number of real patients "
            "would do.",
            interval_note(findings),
            *conditional_note([exchange.real_equivalent, *_estimates(curves)]),
        ],
    )


def _worth_facts(worth: Estimate | None) -> Markup | None:
    if worth is None:
        return None
    text = with_unit(interval(worth, decimals_for([worth]), signed=True), "real patients")
    row = tag("div", tag("dt", "The best mix is worth"), tag("dd", text))
    return tag("dl", row, class_="facts")


def _headline_curves(findings: Findings, given: Sequence[Curve]) -> list[Curve]:
    """Return the headline arm beside the curve of real data, where no curve of it was given."""
    head = findings.headline
    if head is None or any(c.name == head.arm for c in given):
        return []
    made = []
    for where, budget in dict.fromkeys((c.where, c.budget) for c in given):
        arms = [a for a in findings.arms if (a.arm, a.where, a.budget) == (head.arm, where, budget)]
        if arms:
            made.append(Curve("learning", head.arm, where, budget, [CurvePoint(a.n, a.mean) for a in arms]))
    return made


def _learning_charts(findings: Findings, curves: Sequence[Curve]) -> Markup:
    """Return one chart per budget and place: one scale for all, shifted to where each place lies."""
    x, ys = _size_axis(curves), _score_axes(findings, curves)
    looks, decimals = styles(findings), decimals_for(_estimates(curves))
    panels = []
    keys = [(b, w) for b in dict.fromkeys(c.budget for c in curves) for w in PLACES]
    for i, (budget, where) in enumerate(keys):
        chosen = [c for c in curves if (c.budget, c.where) == (budget, where)]
        if not chosen:
            continue
        lines = [_learning_line(c, looks, decimals, 9.0 * (j - (len(chosen) - 1) / 2)) for j, c in enumerate(chosen)]
        heading = f"{place(where).capitalize()}, {_budget(budget)}"
        panels.append(chart(f"worth-{i}", heading, lines, x, ys[where], _reference(findings)))
    return tag("div", *panels, class_="charts")


def _learning_line(curve: Curve, looks: dict[str, Style], decimals: int, shift: float) -> Line:
    look = style_of_name(curve.name, looks)
    dots = [
        Dot(
            math.log2(p.x),
            p.estimate,
            look,
            f"{curve.name}, {count(p.x, 'real patient')}: {interval(p.estimate, decimals)}",
        )
        for p in sorted(curve.points, key=lambda p: p.x)
        if usable(p.estimate) and known(p.x) and p.x > 0
    ]
    return Line(curve.name, dots, look.colour, curve.where == "target", False, shift)


def _score_axes(findings: Findings, curves: Sequence[Curve]) -> dict[str, Axis]:
    """Return one axis per place, all of one length: a step is as high everywhere, and no place squeezes another."""
    name = score_name(findings)
    whole = {
        w: value_axis(_estimates([c for c in curves if c.where == w]), name)
        for w in dict.fromkeys(c.where for c in curves)
    }
    span = max(a.high - a.low for a in whole.values()) / 1.12
    return {w: padded_axis((a.low + a.high - span) / 2, (a.low + a.high + span) / 2, name) for w, a in whole.items()}


def _reference(findings: Findings) -> Level | None:
    gate = findings.gate
    if not known(gate.reference):
        return None
    return Level(
        gate.reference, f"reference {plain(gate.reference, 3)}: {gate.reference_source or 'stated in the plan'}"
    )


def _size_axis(curves: Sequence[Curve]) -> Axis:
    sizes = sorted({p.x for c in curves for p in c.points if known(p.x) and p.x > 0}) or [1.0]
    low, high = math.log2(sizes[0]), math.log2(sizes[-1])
    room = 0.08 * max(high - low, 1.0)
    labels = [f"{s:g}" for s in sizes]
    return Axis(low - room, high + room, [math.log2(s) for s in sizes], labels, "real patients paid for")


def _curve_table(findings: Findings, curves: Sequence[Curve], axis: str, differences: bool) -> Table:
    looks, decimals = styles(findings), decimals_for(_estimates(curves))

    def name(c: Curve) -> str | Markup:
        if c.kind == "ratio" and not _is_control(c):
            return c.name
        return named(style_of_name(c.name, looks), c.name, c.where == "target")

    rows = [
        (
            text_cell(name(c)),
            text_cell(place(c.where)),
            text_cell(_budget(c.budget)),
            Cell(ratio(p.x), share_of(p.x)) if c.kind == "ratio" else number_cell(p.x),
            estimate_cell(p.estimate, decimals, signed=differences),
        )
        for c in curves
        for p in c.points
    ]
    what = short_difference(findings) if differences else score_name(findings)
    what = what[0].upper() + what[1:]
    return Table("Every point", ("Curve", "Place", "Budget", axis, what), rows)

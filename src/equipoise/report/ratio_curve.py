"""The ratio curve with its duplicate-real control."""

from __future__ import annotations

import math
from collections.abc import Sequence

from markupsafe import Markup

from equipoise.experiment.findings import Curve, CurvePoint, Findings
from equipoise.report.charts import Dot, Line, chart
from equipoise.report.colours import CONTROL, REAL, SYNTHETIC, Shape, Style, mixed, share_of, style_of_name
from equipoise.report.content import (
    Section,
    conditional_note,
    figure,
    interval_note,
    legend,
    margin_text,
    named,
    score_name,
    short_difference,
)
from equipoise.report.curves import budget_words, curve_table, estimates, is_control
from equipoise.report.marks import difference_axis, value_axis
from equipoise.report.svg import Axis, tag
from equipoise.report.wording import (
    BUDGETS,
    decimals_for,
    interval,
    known,
    place,
    ratio,
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
        tables=[curve_table(findings, curves, "Synthetic : real", differences)],
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


def _ratio_sentence(findings: Findings, curves: Sequence[Curve], differences: bool) -> str:
    """Return how the answer moves from the smallest to the largest ratio, without picking the best one."""
    synthetic = [c for c in curves if not is_control(c)]
    first = next((c for c in synthetic if any(usable(p.estimate) and not math.isnan(p.x) for p in c.points)), None)
    if first is None:
        return "Only the control has points on this curve."
    decimals = decimals_for(estimates(curves))
    points = sorted(
        (p for p in first.points if usable(p.estimate) and not math.isnan(p.x)), key=lambda p: share_of(p.x)
    )
    what = f"the difference from real in {findings.metric.title}" if differences else findings.metric.title

    def said(point: CurvePoint) -> str:
        shown = with_unit(interval(point.estimate, decimals, differences), findings.metric.unit)
        return f"{shown} at {ratio(point.x)}"

    moves = said(points[0]) if len(points) == 1 else f"from {said(points[0])} to {said(points[-1])}"
    verb = "is" if len(points) == 1 else "goes"
    there = f"{place(first.where)} and at {budget_words(first.budget)}"
    text = f"With {first.name}, {there}, {what} {verb} {moves} synthetic to real"
    control = next(
        (c for c in curves if is_control(c) and (c.where, c.budget) == (first.where, first.budget) and c.points), None
    )
    if control is None:
        return text + "."
    last = max(control.points, key=lambda p: share_of(p.x))
    return f"{text}; real data duplicated instead gives {said(last)}."


def _ratio_legend(findings: Findings, curves: Sequence[Curve], differences: bool) -> Markup:
    ratios = sorted({p.x for c in curves if not is_control(c) for p in c.points if known(p.x)})
    entries: list[Markup | str] = [named(_ratio_style(r), ratio(r)) for r in ratios]
    if any(is_control(c) for c in curves):
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
        difference_axis(estimates(curves), margin, short_difference(findings))
        if differences
        else value_axis(estimates(curves), score_name(findings))
    )
    x, decimals = _ratio_axis(curves), decimals_for(estimates(curves))
    engines = [c for c in curves if not is_control(c)] or list(curves)
    several = len({c.name for c in engines}) > 1
    panels = []
    for i, curve in enumerate(
        sorted(engines, key=lambda c: list(BUDGETS).index(c.budget) if c.budget in BUDGETS else 9)
    ):
        twins = [c for c in curves if is_control(c) and (c.where, c.budget) == (curve.where, curve.budget)]
        chosen = [curve, *(c for c in twins if c is not curve)]
        lines = [_ratio_line(c, decimals, differences, 9.0 * (j - (len(chosen) - 1) / 2)) for j, c in enumerate(chosen)]
        heading = f"{place(curve.where)}, {budget_words(curve.budget)}"
        heading = f"{curve.name}: {heading}" if several else heading[0].upper() + heading[1:]
        panels.append(chart(f"ratio-{i}", heading, lines, x, y, margin=margin, zero=differences))
    return tag("div", *panels, class_="charts")


def _ratio_line(curve: Curve, decimals: int, signed: bool, shift: float) -> Line:
    control = is_control(curve)
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

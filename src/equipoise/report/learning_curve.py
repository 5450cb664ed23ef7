"""The learning curve with the exchange rate: what the synthetic data is worth."""

from __future__ import annotations

import math
from collections.abc import Sequence

from markupsafe import Markup

from equipoise.experiment.findings import Curve, CurvePoint, Estimate, Findings
from equipoise.report.charts import Dot, Level, Line, chart
from equipoise.report.colours import Style, style_of_name
from equipoise.report.content import (
    Section,
    conditional_note,
    figure,
    interval_note,
    legend,
    named,
    score_name,
    styles,
)
from equipoise.report.curves import budget_words, curve_table, estimates
from equipoise.report.marks import padded_axis, value_axis
from equipoise.report.svg import Axis, tag
from equipoise.report.wording import (
    PLACES,
    count,
    decimals_for,
    interval,
    known,
    place,
    plain,
    sentence,
    usable,
    with_unit,
)


def learning_curve(findings: Findings) -> Section:
    """Return the section of the score against the number of real patients, and what a mix is worth in them."""
    title, given = "What the synthetic data is worth", [c for c in findings.curves if c.kind == "learning"]
    exchange = findings.exchange
    worth = sentence(exchange.message) or "The exchange rate was not computed."
    facts = _worth_facts(exchange.real_equivalent)
    if not any(usable(e) for e in estimates(given)):
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
        tables=[curve_table(findings, curves, "Real patients", False)],
        how=[
            "Each point is the mean over test patients and replicates after training on that many real patients. The "
            "horizontal axis doubles from mark to mark. All panels have one vertical scale, shifted to each place.",
            "The exchange rate asks how many real patients alone would have reached the score of the best mix. It is "
            "given only where the learning curve of real data still rises; on a plateau no number of real patients "
            "would do.",
            interval_note(findings),
            *conditional_note([exchange.real_equivalent, *estimates(curves)]),
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
    looks, decimals = styles(findings), decimals_for(estimates(curves))
    panels = []
    keys = [(b, w) for b in dict.fromkeys(c.budget for c in curves) for w in PLACES]
    for i, (budget, where) in enumerate(keys):
        chosen = [c for c in curves if (c.budget, c.where) == (budget, where)]
        if not chosen:
            continue
        lines = [_learning_line(c, looks, decimals, 9.0 * (j - (len(chosen) - 1) / 2)) for j, c in enumerate(chosen)]
        heading = f"{place(where).capitalize()}, {budget_words(budget)}"
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
        w: value_axis(estimates([c for c in curves if c.where == w]), name)
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

"""The metrics that the verdict does not rest on."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from equipoise.experiment.findings import Findings, Secondary
from equipoise.report.colours import Style, style_of_name
from equipoise.report.content import (
    Section,
    Table,
    conditional_note,
    estimate_cell,
    figure,
    interval_note,
    named,
    number_cell,
    place_legend,
    styles,
    text_cell,
)
from equipoise.report.marks import Bar, difference_axis
from equipoise.report.strips import Band, Row, strip_figure
from equipoise.report.svg import tag
from equipoise.report.wording import (
    BUDGETS,
    decimals_for,
    interval,
    listed,
    place,
    with_unit,
)


def secondary(findings: Findings) -> Section:
    """Return the metrics that the verdict does not rest on."""
    title, items = "Other metrics", findings.secondary
    if not items:
        why = f"No metric besides {findings.metric.title} was asked for in the plan."
        return Section("metrics", title, why, state="empty")
    looks, metrics = styles(findings), list(dict.fromkeys((s.metric, s.unit) for s in items))
    panels = [_metric_panel(i, m, items, looks) for i, m in enumerate(metrics)]
    names = listed(m for m, _ in metrics)
    return Section(
        "metrics",
        title,
        f"{names} were measured on the same predictions; the verdict rests on {findings.metric.title} alone.",
        figures=[figure(place_legend(), tag("div", *(p for p in panels if p), class_="multiples"))],
        tables=[_metric_table(m, items, looks) for m in metrics],
        how=[
            "Differences from real, paired as above and not corrected for the number of metrics. Each metric has its "
            "own axis and unit. Patients for whom a metric has no value are left out and counted.",
            interval_note(findings),
            *conditional_note(s.difference for s in items),
        ],
    )


def _metric_panel(
    index: int, metric: tuple[str, str], items: Sequence[Secondary], looks: dict[str, Style]
) -> Markup | None:
    chosen = [s for s in items if (s.metric, s.unit) == metric and s.difference is not None]
    if not chosen:
        return None
    decimals = decimals_for(s.difference for s in chosen)
    axis = difference_axis([s.difference for s in chosen], None, with_unit(f"difference in {metric[0]}", metric[1]))
    groups: dict[tuple[str, int, str], list[Secondary]] = {}
    for s in chosen:
        groups.setdefault((s.arm, s.n, s.budget), []).append(s)
    rows = []
    for (arm, n, budget), group in groups.items():
        style = style_of_name(arm, looks)
        bars = [
            Bar(
                s.difference,
                style,
                f"{arm}, {place(s.where)}: {interval(s.difference, decimals, signed=True)}",
                hollow=s.where == "target",
            )
            for s in group
            if s.difference is not None
        ]
        note = f"n = {n}, {BUDGETS.get(budget, budget)}"
        rows.append(Row(named(style, arm), bars, [interval(s.difference, decimals, signed=True) for s in group], note))
    heading = with_unit(metric[0], f"({metric[1]})" if metric[1] else "")
    return strip_figure(f"metric-{index}", heading, rows, axis, Band(), "narrow")


def _metric_table(metric: tuple[str, str], items: Sequence[Secondary], looks: dict[str, Style]) -> Table:
    chosen = [s for s in items if (s.metric, s.unit) == metric]
    mean, diff = decimals_for(s.mean for s in chosen), decimals_for(s.difference for s in chosen)
    rows = [
        (
            text_cell(named(style_of_name(s.arm, looks), s.arm, s.where == "target")),
            number_cell(s.n),
            text_cell(BUDGETS.get(s.budget, s.budget)),
            text_cell(place(s.where)),
            estimate_cell(s.mean, mean),
            estimate_cell(s.difference, diff, signed=True),
            number_cell(s.mean.patients),
            number_cell(s.mean.excluded),
        )
        for s in chosen
    ]
    name = with_unit(metric[0], f"({metric[1]})" if metric[1] else "")
    columns = ("Arm", "Real patients", "Budget", "Place", name, "Difference from real", "Test patients", "Left out")
    return Table(f"{metric[0]}, every arm", columns, rows)

"""Where an arm helps and hurts: paired differences within groups of test patients."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from equipoise.experiment.findings import Findings, Stratum
from equipoise.report.colours import Style, style_of_name
from equipoise.report.content import (
    Section,
    Table,
    estimate_cell,
    figure,
    number_cell,
    place_legend,
    short_difference,
    styles,
    text_cell,
)
from equipoise.report.difference_rows import arm_cells, difference_notes, difference_row
from equipoise.report.marks import difference_axis
from equipoise.report.strips import Band, Row, strip_figure
from equipoise.report.svg import tag
from equipoise.report.wording import count, decimals_for, interval, place, usable

_FEW_PANELS = 9
"""More small multiples than this are shown for the headline arm first, the others collapsed."""


def strata(findings: Findings) -> Section:
    """Return where the arms help and hurt: one panel per arm and factor, all on one axis."""
    title, items = "Where it helps and hurts", findings.strata
    if not items:
        why = (
            "Not audited: the test set was not split by size, site or scanner, because the cases do not state them or "
            "each group holds too few patients."
        )
        return Section("groups", title, why, state="not audited")
    decimals = decimals_for(s.difference for s in items)
    axis = difference_axis([s.difference for s in items], findings.metric.margin, short_difference(findings))
    looks = styles(findings)
    keys = list(dict.fromkeys((s.factor, s.arm, s.n) for s in items))
    head = findings.headline.arm if findings.headline else None
    first = keys if len(keys) <= _FEW_PANELS else ([k for k in keys if k[1] == head] or keys[:_FEW_PANELS])
    rest = [k for k in keys if k not in first]

    def panel(key: tuple[str, str, int]) -> Markup:
        factor, arm, n = key
        chosen = [s for s in items if (s.factor, s.arm, s.n) == key]
        style = style_of_name(arm, looks)
        heading = f"{arm}, by {factor}" + (f", {count(n, 'real patient')}" if len({k[2] for k in keys}) > 1 else "")
        rows = _stratum_rows(chosen, style, decimals)
        return strip_figure(
            f"strata-{keys.index(key)}", heading, rows, axis, Band(margin=findings.metric.margin), "narrow"
        )

    shown = tag("div", *(panel(k) for k in first), class_="multiples")
    others = None
    if rest:
        grid = tag("div", *(panel(k) for k in rest), class_="multiples")
        others = tag("details", tag("summary", f"The same for the other arms ({len(rest)} panels)"), grid)
    return Section(
        "groups",
        title,
        _strata_sentence(findings, items, decimals),
        figures=[figure(place_legend(), shown, others)],
        tables=[_strata_table(items, decimals, looks)],
        how=[
            "The same paired differences as above, within each group of test patients. Groups are small, so their "
            "intervals are wide; they were not corrected for looking at many groups, so a single group that stands out "
            "is a question for the next experiment.",
            *difference_notes(findings, items),
        ],
    )


def _stratum_rows(chosen: Sequence[Stratum], style: Style, decimals: int) -> list[Row]:
    rows = []
    for level in dict.fromkeys(s.level for s in chosen):
        group = [s for s in chosen if s.level == level]
        sizes = " / ".join(dict.fromkeys(f"{s.difference.patients}" for s in group if s.difference.patients))
        note = f"{sizes} {'patient' if sizes == '1' else 'patients'}" if sizes else ""
        rows.append(difference_row(tag("span", level), group, style, decimals, note, f"{group[0].factor} {level}"))
    return rows


def _strata_sentence(findings: Findings, items: Sequence[Stratum], decimals: int) -> str:
    head = findings.headline.arm if findings.headline else None
    chosen = [s for s in items if s.arm == head and usable(s.difference)] or [s for s in items if usable(s.difference)]
    if not chosen:
        return "The test set was split into groups, but no difference could be computed in any of them."
    worst, best = (f(chosen, key=lambda s: s.difference.value) for f in (min, max))
    if not findings.metric.higher_is_better:
        worst, best = best, worst

    def said(s: Stratum) -> str:
        return f"{s.factor} {s.level}, {place(s.where)} ({interval(s.difference, decimals, signed=True)})"

    hurt = [s for s in chosen if (s.difference.high < 0 if findings.metric.higher_is_better else s.difference.low > 0)]
    tail = f"it is shown to hurt in {count(len(hurt), 'group')}." if hurt else "no group is shown to be hurt by it."
    who = f"The headline arm, {head}," if best.arm == worst.arm == head else "Over all arms, synthetic data"
    return f"{who} gains most in {said(best)} and least in {said(worst)}; {tail}"


def _strata_table(items: Sequence[Stratum], decimals: int, looks: dict[str, Style]) -> Table:
    rows = [
        (
            text_cell(s.factor),
            text_cell(s.level),
            *arm_cells(s, looks),
            text_cell(place(s.where)),
            estimate_cell(s.difference, decimals, signed=True),
            number_cell(s.difference.patients),
        )
        for s in items
    ]
    columns = ("Factor", "Group", "Arm", "Real patients", "Place", "Difference from real", "Test patients")
    return Table("Every group", columns, rows)

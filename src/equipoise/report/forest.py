"""Every arm against `real`: the forest plot of paired differences."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from markupsafe import Markup

from equipoise.experiment.findings import ArmResult, Findings
from equipoise.report.colours import CONTROL, REAL, Style, mixed, style_of
from equipoise.report.content import (
    Cell,
    Section,
    Table,
    conditional_note,
    estimate_cell,
    figure,
    in_order,
    interval_note,
    legend,
    margin_text,
    named,
    number_cell,
    text_cell,
    with_difference_unit,
)
from equipoise.report.marks import Bar, difference_axis
from equipoise.report.spread import spread
from equipoise.report.strips import Band, Row, strip_figure
from equipoise.report.svg import Axis, tag
from equipoise.report.wording import (
    BUDGETS,
    PLACES,
    count,
    decimals_for,
    interval,
    known,
    listed,
    place,
    plain,
    ratio,
    usable,
    with_unit,
)


def forest(findings: Findings) -> Section:
    """Return the section of paired differences against `real`, at both budgets, inside and at the target."""
    arms = [a for a in findings.arms if a.difference is not None]
    tested = [a for a in arms if "validation" not in a.where]
    drawn = tested or arms
    if not drawn:
        why = "Only real data was trained on, so there is nothing to compare it with."
        return Section("arms", "Each arm against real", why, tables=[_arm_table(findings)], state="empty")
    decimals = decimals_for(a.difference for a in drawn)
    name = with_difference_unit(findings)
    axis = difference_axis([a.difference for a in drawn], findings.metric.margin, name)
    panels = [_forest_panel(findings, b, drawn, axis, decimals) for b in BUDGETS if any(a.budget == b for a in drawn)]
    return Section(
        "arms",
        "Each arm against real",
        _forest_sentence(findings, drawn, bool(tested)),
        figures=[figure(_forest_legend(findings, drawn), *panels)],
        tables=[_arm_table(findings)],
        how=_forest_how(findings, drawn),
    )


def _forest_sentence(findings: Findings, drawn: Sequence[ArmResult], tested: bool) -> str:
    words = []
    for where in [w for w in PLACES if any(a.where == w for a in drawn)]:
        verdicts = Counter(str(a.verdict) for a in drawn if a.where == where and usable(a.difference))
        said = listed(f"{n} {w}" for w, n in sorted(verdicts.items()) if w in ("better", "worse", "equal")) or "none"
        words.append(f"{place(where)}, {said} of {sum(verdicts.values())}")
    lead = f"Proven against real data: {'; '.join(words)}."
    head = findings.headline
    if head is not None and usable(head.difference):
        decimals = decimals_for(a.difference for a in drawn)
        shown = with_unit(interval(head.difference, decimals, signed=True), findings.metric.unit)
        lead += (
            f" The headline, {head.arm} with {count(head.n, 'real patient')} ({place(head.where)}, "
            f"{BUDGETS[head.budget]}), stands at {shown} {findings.metric.title}: {head.verdict or 'not proven'}."
        )
    return lead if tested else "The sealed test set has not been opened; these are validation patients. " + lead


def _forest_panel(
    findings: Findings, budget: str, drawn: Sequence[ArmResult], axis: Axis, decimals: int
) -> Markup | None:
    arms = [a for a in in_order(drawn) if a.budget == budget]
    sizes = list(dict.fromkeys(a.n for a in arms))
    parts = []
    for i, n in enumerate(sizes):
        rows = [_forest_row(group, decimals) for group in _by_arm([a for a in arms if a.n == n])]
        heading = f"{BUDGETS[budget].capitalize()}, {count(n, 'real patient')}"
        parts.append(
            strip_figure(f"forest-{budget}-{i}", heading, rows, axis, Band(margin=findings.metric.margin), "wide")
        )
    return tag("div", *parts, class_="panel") if parts else None


def _by_arm(arms: Sequence[ArmResult]) -> list[list[ArmResult]]:
    groups: dict[tuple[str, str | None], list[ArmResult]] = {}
    for arm in arms:
        groups.setdefault((arm.arm, arm.engine), []).append(arm)
    order = list(PLACES)
    return [sorted(g, key=lambda a: order.index(a.where) if a.where in order else len(order)) for g in groups.values()]


def _forest_row(group: Sequence[ArmResult], decimals: int) -> Row:
    first = group[0]
    bars, numbers = [], []
    for arm in group:
        shown = interval(arm.difference, decimals, signed=True)
        word = (arm.verdict or "not proven") if usable(arm.difference) else ""
        tip = f"{arm.arm}, {place(arm.where)}: {shown}{word and ', ' + word}"
        if arm.difference is not None:
            bars.append(Bar(arm.difference, style_of(arm), tip, hollow=arm.where == "target"))
        here = tag("span", place(arm.where), class_="place")
        numbers.append(Markup("").join([here, tag("span", shown, class_="num"), tag("span", word, class_="word")]))
    made = first.distinct_synthetic
    notes = []
    if known(made) and made > 0 and known(first.sampling_weight):
        notes.append(f"{plain(made, 0)} synthetic, {100 * first.sampling_weight:.0f} % of draws")
    if known(first.loss_weight):
        notes.append(f"loss weight {first.loss_weight:g}")
    if first.control:
        notes.append("control")
    return Row(named(style_of(first), first.arm), bars, numbers, " · ".join(n for n in notes if n))


def _forest_legend(findings: Findings, drawn: Sequence[ArmResult]) -> Markup:
    entries: list[Markup | str] = [
        named(Style(REAL), "real: the zero line"),
        named(Style(mixed(0.5), "diamond"), "filled: inside"),
        named(Style(mixed(0.5), "diamond"), "hollow: target site", hollow=True),
    ]
    if any(a.family == "duplicate" for a in drawn):
        entries.append(named(Style(REAL, hatched=True), "hatched: real, duplicated"))
    if any(a.family == "self-training" for a in drawn):
        entries.append(named(Style(CONTROL, "hexagon"), "grey: other controls"))
    swatch = tag("span", class_="swatch-band", aria_hidden="true")
    entries.append(tag("span", swatch, f"margin, {margin_text(findings)}", class_="arm"))
    return legend(entries)


def _forest_how(findings: Findings, drawn: Sequence[ArmResult]) -> list[str]:
    return [
        "Each difference is paired: the same test patients, the same number of real training patients, the same budget "
        "and the same place. Zero is training on the real cases alone.",
        interval_note(findings),
        f"The shaded band is the margin declared in the plan, {margin_text(findings)}. "
        "“Equal” needs the whole interval inside it (two one-sided tests); “not inferior” needs the worse end "
        "inside it; “better” and “worse” need the interval to exclude zero after Holm's correction over the planned "
        "comparisons of one place. “Not proven” means that none of these could be shown; it is a result.",
        "At equal steps every arm trains equally long, so real data duplicated to the same count must show no "
        "difference. At equal epochs it is the control for longer training.",
        *spread(findings),
        *conditional_note(a.difference for a in drawn),
    ]


def _arm_table(findings: Findings) -> Table:
    arms = in_order(findings.arms)
    mean = decimals_for(a.mean for a in arms)
    diff = decimals_for(a.difference for a in arms)
    unit = f", {findings.metric.unit}" if findings.metric.unit else ""
    columns = (
        "Arm",
        "Engine",
        "Synthetic : real",
        "Real patients",
        "Budget",
        "Place",
        f"{findings.metric.title}{unit}",
        "Difference from real",
        "Verdict",
        "p (Holm)",
        "Test patients",
        "Left out",
        "Distinct synthetic",
        "Share of draws",
        "Loss weight",
        "Steps",
        "CPU s",
    )
    rows = [
        (
            text_cell(named(style_of(a), a.arm, a.where == "target")),
            text_cell(a.engine or "–"),
            Cell(ratio(a.ratio), a.ratio if known(a.ratio) else float("1e9")),
            number_cell(a.n),
            text_cell(BUDGETS[a.budget]),
            text_cell(place(a.where)),
            estimate_cell(a.mean, mean),
            estimate_cell(a.difference, diff, signed=True),
            text_cell(a.verdict or "–"),
            Cell("–") if a.p_holm is None else number_cell(a.p_holm, 4),
            number_cell(a.mean.patients),
            number_cell(a.mean.excluded),
            number_cell(a.distinct_synthetic),
            Cell(f"{100 * a.sampling_weight:.0f} %" if known(a.sampling_weight) else "–"),
            Cell("–") if a.loss_weight is None else number_cell(a.loss_weight, 2),
            number_cell(a.steps),
            number_cell(a.cpu_seconds),
        )
        for a in arms
    ]
    return Table("Every arm, size, budget and place", columns, rows)

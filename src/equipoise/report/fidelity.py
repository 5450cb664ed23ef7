"""Whether labels fit the synthetic images, and what filters dropped."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from markupsafe import Markup

from equipoise.experiment.findings import Estimate, Findings
from equipoise.experiment.obedience import Dropped, LabelFidelity, Obedience
from equipoise.report.colours import SYNTHETIC, Style
from equipoise.report.content import (
    Cell,
    Section,
    Table,
    conditional_note,
    estimate_cell,
    figure,
    named,
    number_cell,
    text_cell,
)
from equipoise.report.marks import Bar, value_axis
from equipoise.report.strips import Band, Row, strip_figure
from equipoise.report.svg import tag
from equipoise.report.wording import count, decimals_for, interval, listed, sentence, usable, with_unit

_TITLE = "Do the labels fit the images?"
_LOOK = Style(SYNTHETIC, "square")


def fidelity(findings: Findings) -> Section:
    """Return the section of label fidelity and of what filters dropped."""
    found = findings.fidelity
    shown = [line for line in found.labels if usable(line.difference.dice) or usable(line.difference.offset)]
    lead = _sentence(shown) if shown else sentence(found.message or "Not audited: no segmenter has looked at them")
    tables = [_table(found.labels)] if found.labels else []
    if found.dropped:
        lead = f"{lead} {_dropped_sentence(found.dropped)}"
        tables.append(_dropped_table(found.dropped))
    if not shown:
        return Section("fidelity", _TITLE, lead, tables=tables, how=_how_filters(found.dropped), state="not audited")
    unit = shown[0].unit
    panels = [
        _panel("fidelity-dice", "Dice, synthetic less real", "− fits less than real", shown, lambda o: o.dice),
        _panel(
            "fidelity-offset",
            f"Signed boundary offset, synthetic less real ({unit})",
            "− drawn smaller than its label, + larger",
            shown,
            lambda o: o.offset,
        ),
    ]
    return Section(
        "fidelity",
        _TITLE,
        lead,
        figures=[figure(tag("div", *panels, class_="multiples"))],
        tables=tables,
        how=[*_how(shown, found.message), *_how_filters(found.dropped)],
    )


def _sentence(shown: Sequence[LabelFidelity]) -> str:
    """Return where a model of real images and the labels part most, and whether that is shown."""
    measured = [line for line in shown if usable(line.difference.offset)] or list(shown)
    engines = count(len({line.engine for line in shown}), "engine")
    proven = [line for line in measured if _beyond_zero(line.difference.offset) or _beyond_zero(line.difference.dice)]
    worst = max(proven or measured, key=lambda line: abs(_value(line.difference.offset)))
    decimals = decimals_for(line.difference.offset for line in measured)
    offset = with_unit(interval(worst.difference.offset, decimals, signed=True), worst.unit)
    fits = decimals_for([worst.difference.dice])
    dice = f"Dice {interval(worst.difference.dice, fits, signed=True)} from {interval(worst.real.dice, fits)}"
    beside = f"a signed offset of {offset} and {dice}, beside held-out real cases"
    if not proven:
        return (
            f"Of {engines}, none is shown to draw otherwise than its labels say; farthest off is {worst.label} of "
            f"{worst.engine}, with {beside}."
        )
    way = {True: "larger than", False: "smaller than"}[_value(worst.difference.offset) > 0]
    drawn = f"drawn {way} labelled" if _beyond_zero(worst.difference.offset) else "drawn otherwise than labelled"
    return f"Of {engines}, the labels fit least in {worst.engine}: {worst.label} is {drawn}, with {beside}."


def _dropped_sentence(dropped: Sequence[Dropped]) -> str:
    parts = [f"{d.dropped} of the {count(d.made, 'case')} of {d.engine}{_by_rule(d)}" for d in dropped]
    return f"Filters dropped {listed(parts)}; others were drawn in their place."


def _by_rule(line: Dropped) -> str:
    rules = {"implausible": line.implausible, "near-copies": line.near_copy, "disobedient": line.disobedient}
    told = [f"{n} {word}" for word, n in rules.items() if n]
    return f" ({listed(told)})" if told else ""


def _panel(
    key: str, heading: str, foot: str, shown: Sequence[LabelFidelity], pick: Callable[[Obedience], Estimate | None]
) -> Markup:
    # Not `difference_axis`, which lets what is far off leave the axis: here that is the finding.
    axis = value_axis([*(pick(line.difference) for line in shown), Estimate(0.0, 0.0, 0.0)], foot)
    decimals = decimals_for(pick(line.difference) for line in shown)
    rows = []
    for line in shown:
        estimate = pick(line.difference)
        text = interval(estimate, decimals, signed=True)
        bars = [Bar(estimate, _LOOK, f"{line.engine}, {line.label}: {text}")] if usable(estimate) else []
        rows.append(Row(named(_LOOK, line.engine), bars, [tag("span", text, class_="num")], line.label))
    return strip_figure(key, heading, rows, axis, Band(), "narrow")


def _table(lines: Sequence[LabelFidelity]) -> Table:
    unit = lines[0].unit
    columns = (
        "Engine",
        "Label",
        "Dice, held-out real",
        "Dice, synthetic",
        "Difference",
        f"Offset, held-out real ({unit})",
        f"Offset, synthetic ({unit})",
        f"Difference ({unit})",
        "Real patients",
        "Synthetic cases",
        "Without offset",
    )
    rows = [
        (
            text_cell(named(_LOOK, line.engine)),
            text_cell(line.label),
            *_cells(line, lines, lambda o: o.dice, False),
            *_cells(line, lines, lambda o: o.offset, True),
            number_cell(_patients(line.real)),
            number_cell(_patients(line.synthetic)),
            number_cell(sum(o.offset.excluded for o in (line.real, line.synthetic) if o.offset)),
        )
        for line in lines
    ]
    return Table("Every engine and label", columns, rows)


def _cells(
    line: LabelFidelity, lines: Sequence[LabelFidelity], pick: Callable[[Obedience], Estimate | None], signed: bool
) -> tuple[Cell, Cell, Cell]:
    decimals = decimals_for(pick(x.difference) for x in lines)
    real, made, apart = (pick(o) for o in (line.real, line.synthetic, line.difference))
    return (
        estimate_cell(real, decimals, signed, "not computed"),
        estimate_cell(made, decimals, signed, "not computed"),
        estimate_cell(apart, decimals, True, "not computed"),
    )


def _dropped_table(dropped: Sequence[Dropped]) -> Table:
    def cell(line: Dropped, rule: str) -> Cell:
        number = getattr(line, rule)
        return text_cell("off") if number is None else number_cell(number)

    rows = [
        (
            text_cell(named(_LOOK, line.engine)),
            number_cell(line.made),
            *(cell(line, rule) for rule in ("implausible", "near_copy", "disobedient")),
            number_cell(line.kept),
        )
        for line in dropped
    ]
    return Table("What filters dropped", ("Engine", "Made", "Implausible", "Near-copy", "Disobedient", "Kept"), rows)


def _how(shown: Sequence[LabelFidelity], message: str) -> list[str]:
    sizes = listed(dict.fromkeys(f"{line.n}" for line in shown))
    streamed = listed(dict.fromkeys(line.engine for line in shown if line.streamed))
    notes = [
        f"A segmenter was cross-fitted on real training patients (n = {sizes}; first replicate; "
        f"{count(shown[0].steps, 'step')} each). It predicts held-out real training cases, each by the model that has "
        "not seen the patient, and synthetic cases, by each of the models, whose figures are averaged. The segmenter's "
        "own faults are in both, so the difference is the engine's. No validation or test patient is read.",
        "Signed offset is the mean distance of the predicted boundary from the label's: positive where the prediction "
        "is larger than the label. Where a label or its prediction is empty there is none; such cases are counted.",
        "Intervals are 95 % intervals over real patients and synthetic cases, resampled independently.",
        "Models that have seen a training image find it again: an engine that changes or repeats real images looks a "
        "little better here than one that makes its own. Label fidelity decides nothing in this report.",
        *conditional_note(o.dice for line in shown for o in (line.real, line.synthetic, line.difference)),
    ]
    if streamed:
        notes.append(f"Cases of {streamed} were drawn for this; those that models were trained with were not kept.")
    return [*notes, *([sentence(message)] if message else [])]


def _how_filters(dropped: Sequence[Dropped]) -> list[str]:
    if not dropped:
        return []
    off = [
        f"{line.engine}: {rule.replace('_', '-')} is off, since {why}."
        for line in dropped
        for rule, why in line.off.items()
    ]
    return [
        "A filter is fitted on the training patients of the arm. Implausible: farther from the training images than "
        "nearly all real images are from those of other patients. Near-copy: nearer to one training image, in features "
        "and pixel by pixel, than images of different patients are. Disobedient: the label fits less than nearly all "
        "held-out real ones do. A filter also drops the share of faultless images that its quantiles say.",
        *off,
    ]


def _patients(figures: Obedience) -> int | None:
    found = figures.dice or figures.offset
    return found.patients if found else None


def _value(estimate: Estimate | None) -> float:
    return estimate.value if usable(estimate) else 0.0


def _beyond_zero(estimate: Estimate | None) -> bool:
    return usable(estimate) and (estimate.low > 0 or estimate.high < 0)

"""Lesions found and made up, diameter, and whether probabilities mean what they say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from markupsafe import Markup

from equipoise.experiment.findings import DetectionAndCalibration, Findings, Prevalence, Reliability, Secondary
from equipoise.report.charts import Dot, Line, chart
from equipoise.report.colours import CONTROL, Style, style_of_name
from equipoise.report.content import (
    Section,
    Table,
    estimate_cell,
    figure,
    legend,
    named,
    number_cell,
    styles,
    text_cell,
)
from equipoise.report.difference_rows import difference_notes
from equipoise.report.other_metrics import metric_figure, metric_tables
from equipoise.report.svg import Axis, tag
from equipoise.report.wording import decimals_for, interval, place, plain, sentence, usable

_TITLE = "Lesions and probabilities"
_AFTER = "after the correction for prevalence"


def calibration(findings: Findings) -> Section:
    """Return the section of detection, diameter and calibration at the real prevalence."""
    found = findings.detection_and_calibration
    if found is None or not found.metrics:
        why = found.message if found and found.message else "Neither lesions nor probabilities were scored."
        return Section("calibration", _TITLE, why, state="empty")
    looks = styles(findings)
    figures = [metric_figure("trust", found.metrics, looks)]
    if found.reliability:
        figures.append(figure(_legend(found.reliability, looks), _charts(found.reliability, looks)))
    tables = [*metric_tables(found.metrics, looks), _reliability_table(found.reliability, looks)]
    return Section(
        "calibration",
        _TITLE,
        _sentence(findings, found),
        figures=figures,
        tables=[*tables, _prevalence_table(found.prevalence, looks)] if found.prevalence else tables,
        how=[*_how(found), *difference_notes(findings, found.metrics)],
    )


def _sentence(findings: Findings, found: DetectionAndCalibration) -> str:
    """Return what the headline arm (else ``real``) finds and how far its probabilities are off."""
    head = findings.headline
    arm = head.arm if head and any(s.arm == head.arm for s in found.metrics) else "real"
    places = [s.where for s in found.metrics if s.arm == arm]
    where = head.where if head and head.where in places else places[0] if places else ""
    said = {s.metric: s for s in found.metrics if (s.arm, s.where) == (arm, where)}
    parts = []
    if "lesions found" in said:
        alarms = said.get("false alarms")
        with_alarms = f" with {_mean(alarms)} false alarms {alarms.unit}" if alarms else ""
        parts.append(f"{place(where)}, {arm} finds {_words(said['lesions found'])} of a patient's lesions{with_alarms}")
    if "calibration error" in said:
        corrected = said.get("calibration error, prevalence corrected")
        after = f"; {_AFTER}, by {_mean(corrected)}" if corrected and arm != "real" else ""
        whose = "its probabilities are" if parts else f"{place(where)}, the probabilities of {arm} are"
        parts.append(f"{whose} off by {_words(said['calibration error'])} on average{after}")
    text = " ".join(sentence(part) for part in parts) or "No figure could be computed for the headline arm."
    return f"{text} {found.message}".strip()


def _mean(item: Secondary) -> str:
    return interval(item.mean, decimals_for([item.mean, item.difference]))


def _words(item: Secondary) -> str:
    """Return a mean with its interval, and the difference from real with its own."""
    decimals = decimals_for([item.mean, item.difference])
    return _mean(item) + (f" ({interval(item.difference, decimals, signed=True)} from real)" if item.difference else "")


def _legend(curves: Sequence[Reliability], looks: dict[str, Style]) -> Markup:
    entries: list[Markup | str] = [
        named(style_of_name(arm, looks), arm) for arm in dict.fromkeys(c.arm for c in curves)
    ]
    if any(c.shifted for c in curves):
        entries.append(f"grey: {_AFTER}")
    return legend([*entries, "dotted: probabilities mean what they say"])


def _charts(curves: Sequence[Reliability], looks: dict[str, Style]) -> Markup:
    ticks = [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    x, y = (
        Axis(-0.03, 1.03, ticks, [plain(t, 1) for t in ticks], name)
        for name in ("predicted probability, mean of the bin", "share of voxels that have the label")
    )
    panels = []
    for i, where in enumerate(dict.fromkeys(c.where for c in curves)):
        here = [c for c in curves if c.where == where]
        lines = [_line(c, looks, 6.0 * (j - (len(here) - 1) / 2)) for j, c in enumerate(here)]
        heading = f"{place(where).capitalize()}: what the probabilities mean"
        panels.append(chart(f"reliability-{i}", heading, lines, x, y, diagonal=True))
    return tag("div", *panels, class_="charts")


def _line(curve: Reliability, looks: dict[str, Style], shift: float) -> Line:
    style = style_of_name(curve.arm, looks)
    style = replace(style, colour=CONTROL) if curve.shifted else style
    name = f"{curve.arm}, {_AFTER}" if curve.shifted else curve.arm
    dots = [
        Dot(
            point.x,
            point.estimate,
            style,
            f"{name}: where it says {plain(point.x, 2)}, the share is {interval(point.estimate, 2)}, "
            f"{plain(100 * share, 1)} % of the voxels",
        )
        for point, share in zip(curve.points, curve.shares, strict=True)
        if usable(point.estimate)
    ]
    return Line(name, dots, style.colour, curve.where == "target", curve.shifted, shift)


def _reliability_table(curves: Sequence[Reliability], looks: dict[str, Style]) -> Table:
    rows = [
        (
            text_cell(named(style_of_name(c.arm, looks), c.arm, c.where == "target")),
            text_cell(place(c.where)),
            text_cell("corrected" if c.shifted else "as it is"),
            number_cell(point.x, 3),
            estimate_cell(point.estimate, 3),
            number_cell(100 * share, 2),
            number_cell(point.estimate.patients),
        )
        for c in curves
        for point, share in zip(c.points, c.shares, strict=True)
    ]
    columns = ("Arm", "Place", "Prevalence", "Predicted", "Observed", "Voxels (%)", "Test patients")
    return Table("Reliability, every bin", columns, rows)


def _prevalence_table(items: Sequence[Prevalence], looks: dict[str, Style]) -> Table:
    rows = [
        (
            text_cell(named(style_of_name(p.arm, looks), p.arm)),
            text_cell(p.label),
            number_cell(100 * p.trained, 2),
            number_cell(100 * p.real, 2),
        )
        for p in items
    ]
    return Table("Prevalence in training", ("Arm", "Label", "Trained at (% of voxels)", "Real (% of voxels)"), rows)


def _how(found: DetectionAndCalibration) -> list[str]:
    return [
        found.rule + " A patient's share of lesions found counts once, however many lesions the patient has. Regions "
        "that do not count at test are left out of every figure.",
        "Diameter error is predicted minus true, of the longest lesion within a slice, each lesion measured by itself; "
        "a case that was missed counts with its whole diameter.",
        "The Brier score is the mean squared gap between probability and truth over voxels. Calibration error is the "
        "mean gap between mean probability and observed share over ten bins of equal width, per case; it is above 0 "
        "by chance alone, so read differences between arms. Both are better when lower.",
        "Test images have the real prevalence. Corrected figures move each probability, by Bayes' rule, from the "
        "prevalence of the voxels that the arm was trained on to that of real at the same size: what synthetic cases "
        "changed in frequency is taken away, and what remains is the model's own.",
        "The curves pool the voxels of all sealed cases and replicates, so large images weigh more; their intervals "
        "resample patients.",
    ]

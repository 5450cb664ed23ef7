"""The top of the page: verdict, four lights, everything that must not be missed, and what was compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from markupsafe import Markup

from equipoise.experiment.findings import Check, DataCard, Findings, Light
from equipoise.report.colours import style_of
from equipoise.report.content import Section, Table, named, number_cell, text_cell, with_difference_unit
from equipoise.report.gallery import side_by_side
from equipoise.report.marks import Bar, difference_axis
from equipoise.report.strips import Band, Row, strip_figure
from equipoise.report.svg import tag
from equipoise.report.wording import (
    BUDGETS,
    count,
    decimals_for,
    interval,
    known,
    listed,
    minus,
    place,
    plain,
    sentence,
    usable,
    with_unit,
)

LIGHTS = {
    "utility": "Utility",
    "privacy": "Privacy",
    "annotation": "Annotation quality",
    "licence": "Licence",
}
LIGHT_WORDS: Mapping[Light, str] = {"green": "fine", "amber": "caution", "red": "problem", "not audited": "not audited"}
CHECK_WORDS = {"ok": "fine", "warning": "note", "failed": "failed", "not run": "not run"}
_INSTRUMENT = "Instrument check"


@dataclass(frozen=True, slots=True)
class Lamp:
    """One of the four lights, with its words."""

    title: str
    state: Light
    word: str
    text: str


def verdict_sentences(findings: Findings) -> list[str]:
    """Return the three sentences; where pixels are simulated, the first begins with "Instrument check"."""
    said = [sentence(s) for s in findings.verdict if s and s.strip()]
    if not said:
        said = ["No verdict: no comparison has been finished."]
    if findings.instrument_check and not said[0].lower().startswith(_INSTRUMENT.lower()):
        said[0] = f"{_INSTRUMENT}: {said[0]}"
    return said


def lamps(findings: Findings) -> list[Lamp]:
    """Return utility, privacy, annotation quality and licence, then any other light; a missing one is "not audited"."""
    rows = []
    for key in dict.fromkeys([*LIGHTS, *findings.lights]):
        state, text = findings.lights.get(key, ("not audited", "No audit has run."))
        rows.append(Lamp(LIGHTS.get(key, key), state, LIGHT_WORDS.get(state, state), sentence(text)))
    return rows


def headline_figure(findings: Findings) -> Markup | None:
    """Return the headline difference alone: the interval is the mark."""
    head = findings.headline
    if head is None or not usable(head.difference):
        return None
    decimals = decimals_for([head.difference])
    axis = difference_axis([head.difference], findings.metric.margin, with_difference_unit(findings))
    shown = with_unit(interval(head.difference, decimals, signed=True), findings.metric.unit)
    style = style_of(head)
    label = named(style, head.arm, head.where == "target")
    note = f"{place(head.where)}, {BUDGETS[head.budget]}, {count(head.n, 'real patient')}"
    bar = Bar(head.difference, style, f"{head.arm}: {shown}", hollow=head.where == "target")
    row = Row(label, [bar], [tag("span", shown, class_="num")], note)
    return strip_figure("headline", "", [row], axis, Band(margin=findings.metric.margin), "wide")


def check_list(checks: list[Check]) -> Markup | None:
    """Return checks as a list: state as a word, what was looked for, what was found."""
    if not checks:
        return None
    rows = [
        tag(
            "li",
            tag("span", CHECK_WORDS.get(c.state, c.state), class_=f"state {c.state.replace(' ', '-')}"),
            tag("span", tag("b", c.name), " ", minus(c.text)),
        )
        for c in checks
    ]
    return tag("ul", *rows, class_="checks")


def gate_sentence(findings: Findings) -> str:
    """Return the competence gate in words, with its score and interval; nothing where the checks say it already."""
    gate = findings.gate
    if any(gate.sentence in c.text for c in findings.first_page):
        return ""
    text = sentence(gate.sentence)
    if gate.score is not None:
        shown = with_unit(interval(gate.score, decimals_for([gate.score])), findings.metric.unit)
        text += f" Real data alone: {shown}."
    if known(gate.reference):
        text += f" Reference: {plain(gate.reference, 3)} ({gate.reference_source or 'stated in the plan'})."
    return text


def compared(findings: Findings) -> Section:
    """Return what was compared: data card, split, leakage check and pictures side by side."""
    data = findings.data
    pictures = side_by_side(findings)
    none = tag("p", "No pictures: none were kept with these findings.", class_="calm")
    leakage = check_list(findings.leakage) or tag("p", "Not audited: the leakage check has not run.", class_="calm")
    figures = [
        tag("div", tag("h3", "The data"), _card(data), class_="figure-body"),
        tag("div", tag("h3", "Leakage check"), leakage, class_="figure-body"),
        tag("div", tag("h3", "Side by side"), pictures or none, class_="figure-body"),
    ]
    return Section(
        "compared",
        "What was compared",
        _compared_sentence(findings),
        figures=figures,
        tables=_tables(data),
        how=[
            "Patients, not images, are split; a patient is in one part only. A synthetic case counts as a picture of "
            "every patient its engine learned from.",
            sentence(findings.power.sentence),
            _power_sentence(findings),
            f"{findings.metric.title}: {sentence(findings.metric.definition)}",
        ],
    )


def _compared_sentence(findings: Findings) -> str:
    data = findings.data
    engines = [line.name for line in findings.lineage]
    made = f", with synthetic cases of {listed(engines)}" if engines else ""
    said = "; ".join(x for x in (data.modality, listed(data.labels)) if x)
    cases, patients = count(data.cases, "real case"), count(data.patients, "patient")
    return f"{cases} of {patients} from {data.name} ({said}){made}."


def _power_sentence(findings: Findings) -> str:
    power, unit = findings.power, findings.metric.unit
    least = with_unit(plain(power.minimum_detectable, 3), unit)
    share = f"{100 * power.power_at_margin:.0f} %" if known(power.power_at_margin) else "not computed"
    return (
        f"Computed before training: with {count(power.patients, 'test patient')} and "
        f"{count(power.replicates, 'replicate')} the smallest detectable difference is {least}; the power at "
        f"the margin of {with_unit(plain(power.margin, 3), unit)} is {share}."
    )


def _card(data: DataCard) -> Markup:
    rows = [
        ("Modality", data.modality or "not stated"),
        ("Structures", listed(data.labels) or "not stated"),
        ("Size", f"{count(data.cases, 'case')}, {count(data.patients, 'patient')}"),
        ("Spacing", with_unit(data.spacing, "" if data.unit in data.spacing else data.unit)),
        ("Truth", data.truth),
        ("Split", "; ".join(f"{part} {_amounts(c)}" for part, c in data.parts.items()) or "not stated"),
        ("Sites", _counted(data.sites) or "not stated"),
        ("Licences", _counted(data.licences) or "not stated"),
        ("Assumptions", " ".join(sentence(a) for a in data.assumptions) or "none"),
    ]
    return tag("dl", *(tag("div", tag("dt", k), tag("dd", v)) for k, v in rows), class_="facts")


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} ({plain(n, 0)})" for name, n in counts.items())


def _amounts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{plain(n, 0)} {name}" for name, n in counts.items())


def _tables(data: DataCard) -> list[Table]:
    tables = []
    if data.parts:
        kinds = list(dict.fromkeys(k for counts in data.parts.values() for k in counts))
        rows = [(text_cell(part), *(number_cell(c.get(k)) for k in kinds)) for part, c in data.parts.items()]
        tables.append(Table("The split", ("Part", *kinds), rows))
    for title, name, counts in (("Sites", "Site", data.sites), ("Licences of the cases", "Licence", data.licences)):
        if counts:
            tables.append(Table(title, (name, "Cases"), [(text_cell(k), number_cell(n)) for k, n in counts.items()]))
    return tables

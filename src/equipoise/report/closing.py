"""The end of the page: lineage and licences, how to reproduce, limits."""

from __future__ import annotations

import json

from markupsafe import Markup

from equipoise.experiment.findings import Findings, Lineage
from equipoise.report.content import Section, Table, figure, number_cell, text_cell
from equipoise.report.jsonable import strict
from equipoise.report.opening import LIGHT_WORDS
from equipoise.report.svg import tag
from equipoise.report.wording import count, listed, plain, sentence


def lineage(findings: Findings) -> Section:
    """Return the section of the engines, what they learned from, and under which licence."""
    title, items = "Lineage and licences", findings.lineage
    state, words = findings.lights.get("licence", ("not audited", "no licence audit has run"))
    licence = f"Licences: {LIGHT_WORDS.get(state, state)}. {sentence(words)}"
    if not items:
        return Section("lineage", title, f"No engine was used, so every case is real. {licence}", state="empty")
    learned = [e.name for e in items if e.parents]
    free = [e.name for e in items if not e.parents]
    parts = []
    if learned:
        parts.append(f"{listed(learned)} learned from training patients only")
    if free:
        parts.append(f"{listed(free)} learned from no patient")
    return Section(
        "lineage",
        title,
        f"Of the engines, {'; '.join(parts)}. {licence}",
        figures=[figure(tag("div", *(_engine(e) for e in items), class_="cards"))],
        tables=[_table(findings)],
        how=[
            "An arm of n real patients uses only synthetic cases whose engine was fitted on those n patients; the "
            "engine is fitted anew for each. A case whose parents include a validation or test patient cannot "
            "enter a training set.",
            "Frozen cases were made once; streamed cases are made fresh for every step.",
        ],
        simulated=False,
    )


def _engine(engine: Lineage) -> Markup:
    rows = [
        ("Kind", engine.kind),
        ("Fitted", f"{count(engine.fits, 'time')}, {plain(engine.fit_seconds, 1)} s in all"),
        ("Parents", count(engine.parents, "patient") if engine.parents else "none"),
        ("Made", f"{count(engine.made, 'case')}, {engine.mode}"),
        ("Dropped", count(engine.dropped, "case")),
        ("Licence", engine.licence),
    ]
    spec = tag("details", tag("summary", "Parameters"), tag("pre", _pretty(engine)))
    facts = tag("dl", *(tag("div", tag("dt", k), tag("dd", v)) for k, v in rows), class_="facts tight")
    return tag("div", tag("h4", engine.name), facts, spec, class_="card")


def _pretty(engine: Lineage) -> str:
    return json.dumps(strict(engine.spec), indent=2, sort_keys=True, ensure_ascii=False, default=str)


def _table(findings: Findings) -> Table:
    columns = ("Engine", "Kind", "Fits", "Parents", "Made", "Dropped", "Fit seconds", "Mode", "Licence")
    rows = [
        (
            text_cell(e.name),
            text_cell(e.kind),
            number_cell(e.fits),
            number_cell(e.parents),
            number_cell(e.made),
            number_cell(e.dropped),
            number_cell(e.fit_seconds, 1),
            text_cell(e.mode),
            text_cell(e.licence),
        )
        for e in findings.lineage
    ]
    return Table("Every engine", columns, rows)


def reproduce(findings: Findings) -> Section:
    """Return the section that says how to get the same numbers again."""
    rows = [tag("div", tag("dt", k), tag("dd", tag("code", v))) for k, v in findings.reproduce.items()]
    plan = tag("details", tag("summary", "The plan, as sealed"), tag("pre", findings.plan)) if findings.plan else None
    facts = tag("dl", *rows, class_="facts mono") if rows else None
    lead = f"The plan was sealed before the test set was opened; its hash is {findings.plan_hash or 'not stated'}."
    how = ["The same plan, data, lock file and kind of processor give the same rows, bit for bit."]
    tables = [_tuning(findings)] if findings.tuning else []
    return Section("reproduce", "How to reproduce", lead, [figure(facts, plan)], tables, how, simulated=False)


def _tuning(findings: Findings) -> Table:
    """Return what each arm chose; the winner of a row is the choice that the arm was trained with."""
    candidates = findings.tuning[0].candidates
    columns = ("Arm", "n", "Budget", "Replicate", *candidates, "Chosen")
    rows = [
        (
            text_cell(t.arm),
            number_cell(t.n),
            text_cell(t.budget),
            number_cell(t.replicate + 1),
            *(text_cell("not trained") if score is None else number_cell(score, 3) for score in t.scores),
            text_cell(t.candidates[t.chosen]),
        )
        for t in findings.tuning
    ]
    return Table("Parameters that each arm chose on its own training patients, by cross-validation", columns, rows)


def limits(findings: Findings) -> Section:
    """Return the section of what these findings do not say."""
    if not findings.limits:
        why = "No limit was found automatically; a reader's judgement is still needed."
        return Section("limits", "Limits", why, state="empty", simulated=False)
    items = tag("ul", *(tag("li", sentence(text)) for text in findings.limits), class_="limits")
    lead = f"{count(len(findings.limits), 'limit')} on what this result can say."
    return Section("limits", "Limits", lead, figures=[figure(items)], simulated=False)

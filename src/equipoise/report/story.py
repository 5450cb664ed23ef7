"""From a finished experiment to the findings that the page shows."""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any, cast

import numpy as np
import polars as pl

from equipoise import __version__
from equipoise.advice import advise
from equipoise.annotation.consensus import against_the_others
from equipoise.core import Annotation, Case, LabelMap, Learner, Reader, rng_for
from equipoise.core.registry import make
from equipoise.experiment import checks, conclude
from equipoise.experiment.arms import PlannedArm
from equipoise.experiment.contrasts import Scores, arm_results, secondary_results, shown, strata_results
from equipoise.experiment.findings import ArmResult, Boundary, DataCard, Findings, Lineage, Picture
from equipoise.experiment.mixed_effects import disagreement, mixed_effects
from equipoise.experiment.preparation import Prepared
from equipoise.experiment.reliability import detection_and_calibration
from equipoise.experiment.run import Finished
from equipoise.experiment.tasks import vault_of
from equipoise.experiment.tuning import tuned_arms
from equipoise.experiment.vault import open_vault
from equipoise.metrics import assd, boundary_offset, dice
from equipoise.report.engines_trained import set_size_checks
from equipoise.report.pictures import picture
from equipoise.report.sample_grids import trained_engines
from equipoise.report.side_by_side import side_by_side
from equipoise.stats import by_patient, mean_interval
from equipoise.workspace import Workspace

FEW_PATIENTS = 5
"""A reader of fewer patients gets no line of his or her own."""

TRUTH = "truth as given"

EXTREMES = 10
"""Worst and best predictions shown."""


def tell(finished: Finished, workspace: Workspace, toml: str, command: str, budget: float | None = None) -> Findings:
    """Return the findings of an experiment: every number with its interval, every picture with its lineage.

    Parameters
    ----------
    finished, workspace
        The experiment, and where its models and log are.
    toml
        The plan as it was written.
    command
        The command that reproduces it.
    budget
        Money to advise on; by default the price of doubling the real cases.
    """
    prepared = finished.prepared
    scores = Scores(finished)
    arms = arm_results(scores)
    best = conclude.headline(scores, arms)
    gated = checks.gate(scores, arms)
    advised = advise(scores, budget)
    simulated = simulated_label(prepared)
    card = conclude.metric_card(prepared.plan, prepared.entries[0].unit)
    no_claim = checks.why_no_claim(gated, checks.a_a_check(arms))
    verdict, status = conclude.verdict_sentences(best, arms, scores, card.title, simulated is not None, no_claim)
    compared = _planned(prepared, best)
    held_out = _held_out(finished, workspace)
    checked = mixed_effects(scores, best)
    trained = trained_engines(finished, workspace.objects)
    return Findings(
        title=prepared.plan.title,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        plan_hash=prepared.plan.hash,
        plan=toml,
        verdict=[*verdict, advised.advice.sentence],
        status=status,
        headline=best,
        instrument_check=simulated is not None,
        simulated_label=simulated,
        lights=conclude.lights(best, gated, [e.licence for e in prepared.entries]),
        first_page=checks.first_page(scores, arms, gated, workspace) + disagreement(checked) + set_size_checks(trained),
        data=data_card(prepared),
        leakage=checks.leakage(finished),
        gate=gated,
        power=checks.planned(prepared.plan, prepared.split),
        metric=card,
        arms=arms,
        secondary=secondary_results(scores, compared),
        curves=conclude.curves(scores, arms),
        exchange=advised.exchange,
        money=advised.money,
        advice=advised.advice,
        strata=strata_results(scores, compared[-1]) if len(compared) > 1 else [],
        boundary=_boundary(scores, compared, held_out),
        lineage=_lineage(finished),
        pictures=side_by_side(finished, workspace, simulated is not None)
        + _extremes(scores, compared, held_out, workspace, simulated is not None),
        reproduce=_reproduce(prepared, command),
        limits=checks.limits(scores, simulated),
        mixed_effects=checked,
        detection_and_calibration=detection_and_calibration(scores, best),
        tuning=tuned_arms(prepared.plan, finished.tuned),
        trained_engines=trained,
        fidelity=finished.fidelity,
    )


def simulated_label(prepared: Prepared) -> str | None:
    """Return what is simulated about the data, if the data say that their pixels are."""
    kinds = {str(e.attributes.get("pixels", "")) for e in prepared.entries}
    return "real annotation, simulated pixels" if "simulated" in kinds else None


def data_card(prepared: Prepared) -> DataCard:
    """Return what was compared."""
    entries, plan = prepared.entries, prepared.plan
    spacing = np.array([e.spacing for e in entries])
    low, high = spacing.min(axis=0), spacing.max(axis=0)
    axes = 2 if entries[0].shape[2] == 1 else 3
    sizes = " x ".join(f"{a:.3g}" if np.isclose(a, b) else f"{a:.3g}–{b:.3g}" for a, b in zip(low, high, strict=True))
    by_part = {
        name: {"patients": len(patients), "cases": sum(e.patient in patients for e in entries)}
        for name, patients in prepared.split.parts().items()
        if patients
    }
    consensus = f"consensus of at least {plan.split.min_readers} readers; what fewer drew is ignored"
    return DataCard(
        name=plan.title,
        modality=next((e.modality for e in entries if e.modality), None),
        unit=entries[0].unit,
        spacing=f"{' x '.join(sizes.split(' x ')[:axes])} {entries[0].unit}",
        labels=list(next(e for e in entries if e.labelled).foreground),
        cases=len(entries),
        patients=len({e.patient for e in entries}),
        parts=by_part,
        sites=dict(Counter(e.site or "not stated" for e in entries)),
        licences=dict(Counter(e.licence or "not stated" for e in entries)),
        assumptions=[check.text for check in checks.assumptions(prepared)],
        truth="as given" if plan.split.test_truth == "given" else f"training: as given; held-out: {consensus}",
    )


def _planned(prepared: Prepared, best: ArmResult | None) -> list[PlannedArm]:
    """Return the planned arms behind the headline: ``real`` at its size and budget, and the arm itself."""
    if best is None:
        return []
    here = [a for a in prepared.arms if (a.n, a.budget) == (best.n, best.budget)]
    return [a for a in here if a.family == "real"] + [a for a in here if a.arm.name == best.arm]


def _held_out(finished: Finished, workspace: Workspace) -> list[Case]:
    """Return the sealed cases, through the vault that this plan has opened."""
    token, _ = open_vault(workspace, finished.seal, finished.prepared.test_set, again=True)
    vault = vault_of(finished.prepared.context, finished.seal)
    parts = [name for name in ("test", "external") if finished.prepared.split.parts()[name]]
    return [case for part in parts for case in vault.cases(part, token)]


def _boundary(scores: Scores, arms: Sequence[PlannedArm], held_out: Sequence[Case]) -> list[Boundary]:
    """Return readers against the consensus of the others, and arms against the truth, inside."""
    prepared = scores.finished.prepared
    unit, seed = prepared.entries[0].unit, prepared.plan.seed
    inside = [c for c in held_out if c.patient in prepared.split.test]
    given = prepared.plan.split.test_truth == "given"
    read = [row for case in inside for row in _reader_rows(case, given)]
    # Where readers are anonymous each name stands for few patients: then all of them are shown as one.
    names = [n for n, count in Counter(row[0] for row in read).items() if count >= FEW_PATIENTS]
    boundary = []
    lines: list[str | None] = [*sorted(names)] or ([None] if read else [])
    for who in lines:
        mine = [row for row in read if who in (None, row[0])]
        values, _ = by_patient(np.array([row[2:] for row in mine]).T, [row[1] for row in mine])
        if values.shape[1] > 1:
            rng = rng_for(seed, "readers", who)
            overlap, distance, offset = (shown(mean_interval(v[None], rng, resamples=2000)) for v in values)
            name = "a reader, any" if who is None else f"reader {who}"
            boundary.append(Boundary(name, "reader", overlap, distance, offset, unit))
    for arm in arms if "inside" in scores.places() else ():
        means = [m for metric in ("dice", "assd", "offset") if (m := scores.mean(arm, "inside", metric)) is not None]
        if len(means) == 3:
            overlap, distance, offset = (shown(m) for m in means)
            boundary.append(Boundary(arm.arm.name, "arm", overlap, distance, offset, unit))
    return boundary


def _reader_rows(case: Case, given: bool) -> list[tuple[str, str, float, float, float]]:
    """Return reader, patient, Dice, mean distance and signed offset of each read against the others (and the truth)."""
    reads = case.reads
    if given and not any(np.array_equal(cast(LabelMap, r.truth).array > 0, case.labels.masks()) for r in reads):
        reads = (*reads, Annotation(Reader(TRUTH), case.labels))
    rows = []
    for read, others in against_the_others(replace(case, reads=reads)) if len(reads) > 1 else ():
        counted = ~others.ignored()
        for label in others.scheme.names if read.reader.id != TRUTH else ():
            a, b = others.mask(label) & counted, cast(LabelMap, read.truth).mask(label) & counted
            if a.any() and b.any():
                figures = dice(a, b), assd(a, b, others.spacing), boundary_offset(a, b, others.spacing)
                rows.append((read.reader.id, case.patient, *figures))
    return rows


def _lineage(finished: Finished) -> list[Lineage]:
    plan = finished.prepared.plan
    found = []
    for name, engine in plan.engines.items():
        frozen = [facts for who, facts in finished.syntheses if who == name]
        used = [f for (arm, _), f in finished.trained.items() if arm.arm.engine == name]
        parents = {p for facts in frozen for p in facts["parents"]}
        made = sum(facts["made"] for facts in frozen) or sum(f["distinct_synthetic"] for f in used)
        if not frozen:
            parents = {p for f in used for p in f["parents"]}
        found.append(
            Lineage(
                name=name,
                kind=str(engine.spec["kind"]),
                spec=engine.spec,
                fits=len(frozen) or len(used),
                parents=len(parents),
                made=made,
                dropped=sum(d.dropped for d in finished.fidelity.dropped if d.engine == name),
                fit_seconds=sum(_fit_seconds(facts) for facts in frozen),
                mode=engine.mode,
                licence="as its parents' cases" if parents else "no parents: free",
            )
        )
    return found


def _fit_seconds(facts: dict[str, Any]) -> float:
    """Return how long a fit took, over all interruptions; a finished one that was found took little this time."""
    return float(max(facts["fit_seconds"], (facts.get("training") or {}).get("seconds", 0.0)))


def _extremes(
    scores: Scores, arms: Sequence[PlannedArm], held_out: Sequence[Case], workspace: Workspace, simulated: bool
) -> list[Picture]:
    """Return the worst and the best sealed cases of the headline arm, with the outlines of it and of ``real``."""
    finished = scores.finished
    if len(arms) < 2:
        return []
    metric = finished.prepared.plan.metric.primary
    learner = cast(Learner, make("learners", finished.prepared.plan.training.learner))
    models = {a.arm.name: learner.load(workspace.objects.get(finished.trained[a, 0]["model"])) for a in arms}
    by_case = _case_scores(scores, arms, metric)
    ranked = sorted(by_case[arms[-1].arm.name], key=lambda name: by_case[arms[-1].arm.name][name])
    count = min(EXTREMES, len(ranked) // 2)
    cases = {case.id: case for case in held_out}
    pictures = []
    for role, names in (("worst", ranked[:count]), ("best", ranked[::-1][:count])):
        for name in names:
            case = cases[name]
            outlines = {"truth": case.labels, **{arm: model.predict(case.image) for arm, model in models.items()}}
            score = {arm: found[name] for arm, found in by_case.items() if name in found}
            pictures.append(picture(case, cast(Any, role), outlines, score=score, simulated=simulated))
    return pictures


def _case_scores(scores: Scores, arms: Sequence[PlannedArm], metric: str) -> dict[str, dict[str, float]]:
    """Return arm to sealed case to the metric, the mean over replicates and labels."""
    sealed = pl.col("where").is_in(["inside", "target"]) & pl.col(metric).is_finite()
    rows = scores.finished.rows.filter(sealed)
    found = {}
    for arm in arms:
        this = (pl.col("arm") == arm.arm.name) & (pl.col("n") == arm.n) & (pl.col("budget") == arm.budget)
        mine = rows.filter(this)
        means = mine.group_by("case").agg(pl.col(metric).mean())
        found[arm.arm.name] = dict(means.select("case", metric).iter_rows())
    return found


def _reproduce(prepared: Prepared, command: str) -> dict[str, str]:
    """Return the command, the versions and the machine."""
    packages = {name: version(name) for name in ("numpy", "scipy", "monai")}
    return {
        "command": command,
        "plan": prepared.plan.hash,
        "test set": prepared.test_set,
        "seed": str(prepared.plan.seed),
        "equipoise": __version__,
        "python": platform.python_version(),
        "torch": version("torch"),
        **packages,
        "machine": f"{platform.machine()}, {platform.system()}",
    }

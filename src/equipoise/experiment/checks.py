"""What must be said before any result: power, competence, the trial's checks of itself, leakage, limits."""

from __future__ import annotations

from collections.abc import Sequence

from equipoise.core import Split
from equipoise.experiment.contrasts import Scores, shown
from equipoise.experiment.findings import ArmResult, Check, Gate, Power
from equipoise.experiment.plan import REPLICATES_TO_CLAIM, Plan, deviations, parse_plan
from equipoise.experiment.preparation import Prepared
from equipoise.experiment.run import Finished
from equipoise.experiment.wording import TITLES, capital, words
from equipoise.stats import planned_power
from equipoise.workspace import Workspace


def planned(plan: Plan, split: Split) -> Power:
    """Return what the test set can show, before anything is trained: at half to twice the assumed spread."""
    patients, sd = max(len(split.test), 2), plan.power
    ranges = [(s / 2, s * 2) for s in (sd.sd_patients, sd.sd_replicates)]
    power = planned_power(plan.metric.margin, patients, plan.arms.replicates, ranges[0], ranges[1])
    middle = planned_power(
        plan.metric.margin,
        patients,
        plan.arms.replicates,
        (sd.sd_patients, sd.sd_patients),
        (sd.sd_replicates, sd.sd_replicates),
    )
    return Power(
        patients, plan.arms.replicates, plan.metric.margin, middle.detectable_high, middle.power_low, power.sentence
    )


def gate(scores: Scores, arms: Sequence[ArmResult]) -> Gate:
    """Return whether real-only training is competent: at its plateau, or near a stated reference."""
    plan = scores.finished.prepared.plan
    real = sorted(
        (a for a in arms if a.family == "real" and a.where == "inside" and a.budget == plan.arms.budgets[0]),
        key=lambda a: a.n,
    )
    if not real:
        return Gate(False, "No real-only arm was scored, so no competence can be shown.")
    top, reference = real[-1], plan.gate.reference
    said = f"Real-only training reaches {words(top.mean)} at n = {top.n}"
    if reference is not None:
        reached = top.mean.value >= reference - plan.gate.slack
        sentence = (
            f"{said}; the reference is {reference:g} ({plan.gate.source}), so this is "
            f"{'a competent model' if reached else 'not yet a competent model: no claim rests on it'}."
        )
        return Gate(reached, sentence, reference, plan.gate.source, top.mean)
    if len(real) < 2:
        return Gate(False, f"{said}; one size and no reference cannot show a plateau.", None, None, top.mean)
    step = top.mean.value - real[-2].mean.value
    reached = step <= plan.metric.margin
    sentence = f"{said}, {step:+.3f} from n = {real[-2].n}: " + (
        "it has levelled off within the margin." if reached else "it is still rising, so more real cases are the rival."
    )
    return Gate(reached, sentence, None, None, top.mean)


def a_a_check(arms: Sequence[ArmResult]) -> Check:
    """Return whether duplicated real cases at equal steps differ from real ones, which they must not."""
    found = [a for a in arms if a.family == "duplicate" and a.budget == "steps" and a.where != "validation"]
    proven = [a for a in found if a.p_holm is not None and a.p_holm < 0.05]
    if any(a.difference is not None and len(a.difference.replicates) < 2 for a in found):
        return Check("A/A check", "not run", "One replicate cannot tell chance from difference; it needs two or more.")
    if not found:
        return Check("A/A check", "not run", "Equal steps were not part of this plan, so the A/A check was not run.")
    if proven:
        text = "; ".join(f"{a.where}, n = {a.n}: {words(a.difference)}" for a in proven if a.difference)
        return Check(
            "A/A check",
            "failed",
            f"Duplicated real cases differ from the same real cases at equal steps ({text}). They cannot, so the whole "
            "trial is flagged.",
        )
    widest = max(found, key=lambda a: a.difference.high - a.difference.low if a.difference else 0)
    return Check(
        "A/A check",
        "ok",
        "Duplicated real cases do not differ from real ones at equal steps, as they must not "
        f"({words(widest.difference)} at its widest)."
        if widest.difference
        else "",
    )


def instrument(scores: Scores) -> Check | None:
    """Return whether an engine without a gap and one with a large gap are told apart, where the plan has both.

    Synthetic-only arms are compared: nothing real beside them hides the gap.
    """
    prepared = scores.finished.prepared
    metric, budget = prepared.plan.metric.primary, prepared.plan.arms.budgets[0]
    found = {}
    for name, engine in prepared.plan.engines.items():
        alone = [a for a in prepared.arms if a.family == "synthetic" and a.arm.engine == name and a.budget == budget]
        if engine.known_gap and alone:
            found[engine.known_gap] = max(alone, key=lambda a: a.n)
    if len(found) < 2:
        return None
    zero, large = found["zero"], found["large"]
    gaps = [scores.difference(a, "inside", metric) for a in (zero, large)]
    between = scores.difference(zero, "inside", metric, rival=large)
    if between is None or gaps[0] is None or gaps[1] is None:
        return Check("Instrument check", "not run", "Too few patients to compare the two engines of known gap.")
    recovered = between.low > 0
    text = (
        "an engine without a gap and one with a large gap are "
        f"{'told apart' if recovered else 'not told apart'}: {TITLES[metric]} {words(shown(between))} between them. "
        f"Alone, without real cases, they change {TITLES[metric]} by {words(shown(gaps[0]))} and "
        f"{words(shown(gaps[1]))} from real-only training"
    )
    return Check("Instrument check", "ok" if recovered else "failed", f"{capital(text)}.")


def why_no_claim(gated: Gate, a_a: Check) -> str | None:
    """Return why this trial counts towards no claim, if it does not."""
    if a_a.state == "failed":
        return "the A/A check failed"
    return None if gated.reached else "real-only training is not shown to be competent"


def first_page(scores: Scores, arms: Sequence[ArmResult], gated: Gate, workspace: Workspace) -> list[Check]:
    """Return everything that must not be missed."""
    finished = scores.finished
    checks = [
        Check("Competence gate", "ok" if gated.reached else "warning", gated.sentence),
        a_a_check(arms),
        _opening(finished, workspace),
    ]
    known = instrument(scores)
    checks += [known] if known else []
    checks += assumptions(finished.prepared)
    if finished.prepared.plan.arms.replicates < REPLICATES_TO_CLAIM:
        k = finished.prepared.plan.arms.replicates
        checks.append(
            Check(
                "Replicates",
                "warning",
                f"{k} replicates: the intervals carry the spread between them, but the result is conditional on these "
                "fits; a published claim needs 5.",
            )
        )
    checks += [Check(f"Control {name!r}", "not run", f"{why}.") for name, why in finished.not_run.items()]
    skipped = finished.prepared.plan.arms.skip
    checks += [Check(f"Arm {name!r}", "not run", "The plan declares it not run.") for name in skipped]
    return checks


def assumptions(prepared: Prepared) -> list[Check]:
    """Return what the plan states about its data that nobody checked."""
    checks = []
    for spec in (prepared.plan.data, prepared.plan.external or {}):
        if spec.get("one_image_one_patient"):
            checks.append(
                Check(
                    "One image = one patient",
                    "warning",
                    "The data name no patients; the plan states that each image is another patient. If that is wrong, "
                    "test patients have been trained on.",
                )
            )
    if prepared.duplicates:
        pairs = ", ".join(f"{a} and {b}" for a, b, _ in prepared.duplicates[:3])
        checks.append(
            Check(
                "Near-duplicates",
                "warning",
                f"{len(prepared.duplicates)} pair(s) of images of different patients look the same: {pairs}.",
            )
        )
    accepted = prepared.plan.split.accept_near_duplicates
    if accepted:
        checks.append(
            Check(
                "Accepted near-duplicates",
                "warning",
                f"The plan accepts {len(accepted)} pair(s) as different patients.",
            )
        )
    return checks


def leakage(finished: Finished) -> list[Check]:
    """Return what was checked against leakage, and how."""
    prepared = finished.prepared
    held_out = prepared.split.held_out
    parents = {p for facts in finished.trained.values() for p in facts["parents"]}
    checks = [
        Check("Split by patient", "ok", "No patient is in two parts; it is checked when the split is made."),
        Check(
            "Lineage of every model",
            "ok" if not parents & held_out else "failed",
            f"{len(finished.trained)} trained models saw {len(parents)} training patients and none of the "
            f"{len(held_out)} held-out ones.",
        ),
        Check(
            "Parents of synthetic cases",
            "ok",
            "Each arm's engine was fitted on that arm's own patients only; anything else is refused when the training "
            "set is built.",
        ),
    ]
    crossing = len(prepared.duplicates)
    text = f"{len(prepared.entries)} images compared; {crossing} pair(s) of different patients look the same."
    checks.append(Check("Near-duplicates across patients", "warning" if crossing else "ok", text))
    checks.append(Check("Sealed test set", "ok", f"Opened after training, under plan {finished.seal.plan[:12]}."))
    return checks


def limits(scores: Scores, simulated: str | None) -> list[str]:
    """Return what this experiment cannot say, written from what it was."""
    prepared = scores.finished.prepared
    split, plan = prepared.split, prepared.plan
    said = []
    if simulated:
        said.append(f"{capital(simulated)}: this says whether the instrument works, and nothing about patients.")
    if len(split.test) < 30:
        said.append(f"{len(split.test)} test patients: small differences and rare findings cannot be judged.")
    if not split.external:
        said.append("One site or source only: nothing is said about images from elsewhere.")
    elif len(split.external) < 30:
        said.append(f"{len(split.external)} patients at the external site: a first look, not a proof.")
    if len(split.validation) < 10:
        said.append(f"{len(split.validation)} validation patients choose checkpoints and arms: the choice is noisy.")
    if plan.arms.replicates < REPLICATES_TO_CLAIM:
        said.append(f"{plan.arms.replicates} replicates: conditional on these fits.")
    if not any(e.readers > 1 for e in prepared.entries):
        said.append("One reader: the truth's own error is not known, and no model can be shown to be better than it.")
    said.append("One learner and one recipe: another network may rank the arms otherwise.")
    said.append("Privacy, de-identification and annotation quality were not audited.")
    return said


def _opening(finished: Finished, workspace: Workspace) -> Check:
    """Return the number of this opening, and what this plan does otherwise than those that opened before."""
    number = finished.opening.number
    if number == 1:
        return Check("Test set", "ok", "This plan is the first to open this test set in this workspace.")
    plans = dict(workspace.plans())
    earlier = [o.plan for o in workspace.openings(finished.prepared.test_set)][: number - 1]
    lines = []
    for plan in earlier:
        content = workspace.sealed(plan).get("plan")
        if plan in plans and content:
            lines += deviations(parse_plan(content), finished.prepared.plan)
    return Check(
        "Test set",
        "warning",
        f"Opening number {number} of this test set: {number - 1} earlier plan(s) saw its scores, so this is "
        f"exploratory. Deviations from them: {'; '.join(dict.fromkeys(lines)) or 'none found'}.",
    )

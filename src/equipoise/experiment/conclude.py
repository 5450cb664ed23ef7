"""What the results say: the headline arm, plain sentences, lights and curves."""

from __future__ import annotations

from collections.abc import Sequence

from equipoise.experiment.checks import instrument
from equipoise.experiment.contrasts import Scores
from equipoise.experiment.findings import ArmResult, Curve, CurvePoint, Gate, Light, MetricCard, Verdict
from equipoise.experiment.plan import Plan
from equipoise.experiment.wording import TITLES, capital, words


def metric_card(plan: Plan, unit: str) -> MetricCard:
    """Return how the primary metric is read."""
    definition = {
        "dice": "Dice overlap, per patient the mean over cases and labels; both masks empty is excluded and counted.",
        "nsd": f"Normalised surface Dice at {plan.metric.tolerance:g} {unit} ({plan.metric.convention} convention).",
    }[plan.metric.primary]
    return MetricCard(plan.metric.primary, TITLES[plan.metric.primary], "", True, plan.metric.margin, definition)


def headline(scores: Scores, arms: Sequence[ArmResult]) -> ArmResult | None:
    """Return the sealed-test result of the arm with synthetic cases that *validation* liked best.

    The largest size at which every arm was run, the plan's first budget. At a named target site its validation
    patients choose and its sealed patients answer.
    """
    plan = scores.finished.prepared.plan
    deciding, answering = deciding_places(scores)
    known = {name for name, engine in plan.engines.items() if engine.known_gap}
    pool = [
        a
        for a in arms
        if a.engine
        and a.difference is not None
        and a.budget == plan.arms.budgets[0]
        and (a.engine not in known or known == set(plan.engines))
        # Where validation chose weight 0 in every replicate the arm is ``real`` itself.
        and a.loss_weight != 0
    ]
    largest = max((a.n for a in pool), default=0)
    choice = [a for a in pool if a.where == deciding and a.n == largest and a.difference is not None]
    if not choice:
        return None
    best = max(choice, key=lambda a: a.difference.value if a.difference else 0.0)
    return find(arms, best.arm, best.n, best.budget, answering)


def recommended(scores: Scores, arms: Sequence[ArmResult]) -> str:
    """Return the arm to build: the mix whose advantage on validation is proven and largest, else ``"real"``.

    An engine with a known gap checks the instrument; nobody could build with it.
    """
    deciding, _ = deciding_places(scores)
    usable = {name for name, engine in scores.finished.prepared.plan.engines.items() if engine.known_gap is None}
    here = [a for a in arms if a.engine in usable and a.where == deciding]
    proven = [a for a in here if a.difference is not None and a.difference.low > 0]
    largest = max((a.n for a in proven), default=0)
    best = max(
        (a for a in proven if a.n == largest), key=lambda a: a.difference.low if a.difference else 0, default=None
    )
    return best.arm if best else "real"


def deciding_places(scores: Scores) -> tuple[str, str]:
    """Return the place that chooses and the sealed place that answers."""
    if scores.finished.prepared.plan.target.site and "target validation" in scores.places():
        return "target validation", "target"
    return "validation", "inside"


def find(arms: Sequence[ArmResult], arm: str, n: int, budget: str, where: str) -> ArmResult | None:
    """Return one result, if it is there."""
    for a in arms:
        if (a.arm, a.n, a.budget, a.where) == (arm, n, budget, where):
            return a
    return None


def verdict_sentences(
    best: ArmResult | None,
    arms: Sequence[ArmResult],
    scores: Scores,
    title: str,
    instrument_check: bool,
    no_claim: str | None = None,
) -> tuple[list[str], Verdict]:
    """Return the answer with its interval, and how sure it is; the advice adds the third sentence.

    ``no_claim`` says why the trial counts towards no claim: it is said first, and the verdict is "not proven".
    """
    prefix = "Instrument check: " if instrument_check else ""
    if best is None or best.difference is None or best.verdict is None:
        return [f"{prefix}No arm with synthetic cases could be compared with real-only training."], "not proven"
    status: Verdict = "not proven" if no_claim else best.verdict
    known = instrument(scores)
    first = _first(best, arms, title, no_claim)
    if known:
        short = known.text.split(". ")[0].rstrip(".")
        return [f"{prefix}{short[:1].lower()}{short[1:]}.", capital(first)], status
    return [f"{prefix}{first}" if prefix else capital(first), _second(best, arms, scores)], status


def _first(best: ArmResult, arms: Sequence[ArmResult], title: str, no_claim: str | None) -> str:
    """Return what the headline arm does against ``real``, with its interval, patients and size."""
    real = find(arms, "real", best.n, best.budget, best.where)
    place = "the target site's" if best.where == "target" else "the sealed test set's"
    alone = f" (real alone {words(real.mean)})" if real else ""
    said = {
        "better": f"{best.arm!r} is better than real-only training",
        "worse": f"{best.arm!r} is worse than real-only training",
        "equal": f"{best.arm!r} is equal to real-only training within the margin",
        "not inferior": f"{best.arm!r} is not inferior to real-only training, and not proven better",
        "not proven": f"that {best.arm!r} beats real-only training is not proven",
    }[best.verdict or "not proven"]
    patients = best.difference.patients if best.difference else 0
    if no_claim:
        said = f"no claim is made, since {no_claim}; as measured, {best.arm!r} differs from real-only training"
    where = f"on {place} {patients} patients at n = {best.n} real patients"
    return f"{said}: {title} {words(best.difference)} {where}{alone}."


def _second(best: ArmResult, arms: Sequence[ArmResult], scores: Scores) -> str:
    """Return what the other place and the duplicate control say."""
    other = "inside" if best.where == "target" else "target"
    there = find(arms, best.arm, best.n, best.budget, other)
    parts = []
    if there is not None and there.difference is not None:
        at = "inside" if other == "inside" else "at the external site"
        parts.append(f"{at} the difference is {words(there.difference)} ({there.verdict})")
    at_best = (best.n, best.budget, best.where)
    duplicate = next((a for a in arms if a.family == "duplicate" and (a.n, a.budget, a.where) == at_best), None)
    if duplicate is not None and duplicate.difference is not None:
        parts.append(f"real duplicated to the same count gives {words(duplicate.difference)}")
    k = scores.finished.prepared.plan.arms.replicates
    parts.append(f"{k} replicates redrew patients, engine and initialisation")
    text = "; ".join(parts)
    return f"{capital(text)}."


def lights(best: ArmResult | None, gated: Gate, licences: Sequence[str | None]) -> dict[str, tuple[Light, str]]:
    """Return the four lights with words."""
    word = best.verdict if best else None
    colour: Light = "green" if word == "better" and gated.reached else "red" if word == "worse" else "amber"
    known = bool(licences) and all(licences)
    return {
        "utility": (colour, (word or "nothing compared") + ("" if gated.reached else "; competence gate not reached")),
        "privacy": ("not audited", "memorisation and membership inference have not been audited"),
        "annotation": ("not audited", "annotation quality has not been audited"),
        "licence": (("green", "every case states its licence") if known else ("amber", "some cases state no licence")),
    }


def curves(scores: Scores, arms: Sequence[ArmResult]) -> list[Curve]:
    """Return learning curves of ``real`` and ratio curves of every engine's mixes, for the sealed places."""
    plan = scores.finished.prepared.plan
    found = []
    for where in ("inside", "target"):
        here = [a for a in arms if a.where == where]
        for budget in plan.arms.budgets:
            real = sorted((a for a in here if a.family == "real" and a.budget == budget), key=lambda a: a.n)
            if len(real) > 1:
                found.append(Curve("learning", "real", where, budget, [CurvePoint(a.n, a.mean) for a in real]))
            for name in plan.engines:
                mixes = [a for a in here if a.family == "mix" and a.engine == name and a.budget == budget]
                largest = max((a.n for a in mixes), default=0)
                chosen = sorted((a for a in mixes if a.n == largest), key=lambda a: a.ratio or 0.0)
                points = [CurvePoint(a.ratio or 0.0, a.difference) for a in chosen if a.difference]
                if points:
                    found.append(Curve("ratio", name, where, budget, points))
            doubled = [a for a in here if a.family == "duplicate" and a.budget == budget]
            largest = max((a.n for a in doubled), default=0)
            control = [
                CurvePoint(float(a.arm.split(" to ")[1].split(":")[0]), a.difference)
                for a in doubled
                if a.n == largest and a.difference
            ]
            if control:
                found.append(Curve("ratio", "real duplicated", where, budget, control))
    return found

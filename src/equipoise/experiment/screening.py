"""The filter of an engine: fitted on an arm's patients, applied to what is frozen, and every dropped case counted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from equipoise.core import Case, Engine, check_no_leak, rng_for
from equipoise.core.registry import load
from equipoise.errors import EngineError
from equipoise.experiment.context import Context
from equipoise.experiment.data import part_cases
from equipoise.experiment.fidelity import cross_fitted
from equipoise.experiment.fits import stream_names
from equipoise.experiment.obedience import Dropped, figures, obeyed
from equipoise.experiment.plan import Plan
from equipoise.experiment.synthesis import sampled
from equipoise.features.filtering import REASONS, SIDE, Rules, Screen, fit_screen

NEAR_COPY = 0.05
"""Quantile of the rule that ``near_copy = "auto"`` stands for."""


@dataclass(frozen=True, slots=True)
class Sifted:
    """What passed a filter, and what a task's facts keep of the rest: see `dropped`."""

    cases: list[Case]
    facts: dict[str, Any]


def sift(context: Context, name: str, engine: Engine, patients: Sequence[str], n: int, replicate: int) -> Sifted:
    """Return ``n`` cases of an engine that its filter lets through; dropped ones are drawn again.

    Parameters
    ----------
    context, name
        The experiment, and the engine's name in the plan.
    engine
        Fitted.
    patients
        Whose annotated cases the filter is fitted on.
    n
        How many are needed.
    replicate
        Number of the replicate.

    Raises
    ------
    LeakageError
        A held-out patient is among the cases.
    NotEnoughCasesError
        Too few patients to fit a filter on.
    EngineError
        Too few cases passed within ``draws`` times ``n`` draws.
    """
    plan, rules = context.plan, context.plan.engines[name].filter
    cases = part_cases(context.source, patients)
    screen = screen_for(context, name, engine, cases, replicate)
    stream, most = stream_names(cases, replicate), math.ceil(rules.draws * n)
    kept: list[Case] = []
    lost = dict.fromkeys(REASONS, 0)
    made = turn = 0
    while len(kept) < n and made < most:
        again = ("again", turn) if turn else ()  # the first draws are those of the engine without a filter
        # Always as many: an engine that deals its training cases out in turn would begin with the same ones again.
        for case in sampled(engine, cases[0], min(n, most - made), plan.seed, *stream, *again):
            if len(kept) == n:
                break
            check_no_leak((case,), context.split.held_out, what="a filter")
            reason = screen.reason(case, rng_for(plan.seed, "filter", *stream, made))
            made += 1
            if reason:
                lost[reason] += 1
            else:
                # What a filter chose is learned from the patients that it was fitted on, too.
                origin = replace(case.origin, parents=case.origin.parents | screen.parents)
                kept.append(replace(case, origin=origin))
        turn += 1
    if len(kept) < n:
        raise _too_few(name, engine.kind, n, len(kept), made, lost)
    on = _rules(plan, name)
    counted = {reason: lost[reason] if getattr(on, reason) is not None else None for reason in REASONS}
    return Sifted(kept, {"made": made, "dropped": counted, "limits": screen.limits})


def screen_for(context: Context, name: str, engine: Engine, cases: Sequence[Case], replicate: int) -> Screen:
    """Return the filter of an engine, fitted on an arm's training cases; held-out patients raise `LeakageError`."""
    # Here, not above: a plan is read without waiting for torch.
    from equipoise.learners.network import one_thread

    check_no_leak(cases, context.split.held_out, what="the fit of a filter")
    plan, rules = context.plan, _rules(context.plan, name)
    wanted = plan.engines[name].filter.features
    patch = getattr(engine, "patch", None)
    obeys, obedience = None, list[float]()
    if rules.disobedient is not None:
        models, rows = cross_fitted(context, sorted({case.patient for case in cases}), replicate)
        by_case: dict[str, list[dict[str, Any]]] = {}
        for row in rows:
            by_case.setdefault(row["case"], []).append(row)
        obedience = [obeyed(found) for found in by_case.values()]

        def obeys(case: Case) -> float:
            return obeyed(figures(models, case, plan.metric.labels))

    with one_thread("cpu"):
        return fit_screen(
            cases,
            rng_for(plan.seed, "fit the filter", *stream_names(cases, replicate)),
            rules,
            patch if isinstance(patch, int) else SIDE,
            None if wanted == "auto" else wanted == "encoder",
            obeys,
            obedience,
        )


def filter_key(plan: Plan, name: str) -> tuple[object, ...]:
    """Return what a filter adds to the key of a synthesis; nothing without one."""
    rules = plan.engines[name].filter
    if not rules.on:
        return ()
    taught = [plan.fidelity.model_dump(), plan.training.model_dump(), list(plan.metric.labels)]
    return (rules.model_dump(), *(taught if rules.disobedient else ()))


def why_off(plan: Plan, name: str) -> dict[str, str]:
    """Return why rules are off that the plan leaves to the engine, by rule."""
    rules = plan.engines[name].filter
    if rules.on and rules.near_copy == "auto" and _keeps_pixels(plan, name):
        return {"near_copy": "this engine changes real images, so that near-copies are what it is for"}
    return {}


def dropped(plan: Plan, name: str, facts: Sequence[dict[str, Any]]) -> Dropped | None:
    """Return what an engine's filter dropped over all its fits, or ``None`` for an engine without a filter."""
    found = [fact for fact in facts if "dropped" in fact]
    if not plan.engines[name].filter.on or not found:
        return None
    sums = {
        reason: None if found[0]["dropped"][reason] is None else sum(fact["dropped"][reason] for fact in found)
        for reason in REASONS
    }
    made, kept = sum(fact["made"] for fact in found), sum(len(fact["cases"]) for fact in found)
    return Dropped(name, made, kept, **sums, off=why_off(plan, name))


def _rules(plan: Plan, name: str) -> Rules:
    stated = plan.engines[name].filter
    auto = None if _keeps_pixels(plan, name) else NEAR_COPY
    near = auto if stated.near_copy == "auto" else (stated.near_copy or None)
    return Rules(stated.implausible or None, near, stated.disobedient or None)


def _keeps_pixels(plan: Plan, name: str) -> bool:
    """Return whether an engine puts real pixels into its images: by its own word, else if it renders no label map."""
    kind = load("engines", str(plan.engines[name].spec["kind"]))
    return bool(getattr(kind, "keeps_pixels", not getattr(kind, "renders_labels", False)))


def _too_few(name: str, kind: str, n: int, kept: int, made: int, lost: dict[str, int]) -> EngineError:
    told = ", ".join(f"{count} as {reason.replace('_', '-')}" for reason, count in lost.items() if count)
    worst = max(lost, key=lambda reason: lost[reason])
    looser = {
        "implausible": "train the engine longer or on more images, or raise `implausible`",
        "near_copy": "if the engine is meant to keep real pixels write `near_copy = false`; else it repeats its "
        "training images: train it on more of them, or for fewer steps",
        "disobedient": "see label fidelity in the report of a run without this filter, or lower `disobedient`",
    }[worst]
    return EngineError(
        f"engine {name!r} (kind {kind!r}): {kept} of {made} cases passed its filter and {n} are needed; "
        f"dropped: {told}",
        why="the mix would hold fewer synthetic cases than the arm says",
        fix=f"{looser}; or allow more draws with `draws` under [engines.{name}.filter]",
    )


__all__ = ["Sifted", "dropped", "filter_key", "screen_for", "sift"]

"""The arms of an experiment: every combination of arm, size, budget and replicate that the plan asks for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from equipoise.core import Arm, Mix
from equipoise.experiment.plan import EnginePlan, Plan

Budget = Literal["steps", "epochs"]
Family = Literal["real", "duplicate", "synthetic", "mix", "pretrain", "weighted", "self-training"]


@dataclass(frozen=True, slots=True)
class PlannedArm:
    """An arm at one size and budget.

    Parameters
    ----------
    family
        What it is to the report.
    ratio
        Synthetic : real in cases; ``None`` where no real case is trained on.
    steps
        Optimiser steps.
    select
        Whether validation chooses the checkpoint.
    weights
        For ``weighted``: the loss weights that validation chooses from.
    """

    arm: Arm
    family: Family
    ratio: float | None
    n: int
    budget: Budget
    steps: int
    select: bool
    weights: tuple[float, ...] = ()


def planned_arms(plan: Plan) -> list[PlannedArm]:
    """Return every arm at every size and budget, controls first."""
    full = plan.arms.all_arms_at if plan.arms.all_arms_at is not None else plan.arms.sizes
    arms: list[PlannedArm] = []
    for n in plan.arms.sizes:
        for budget in plan.arms.budgets:
            if n in full:
                arms += _at(plan, n, budget)
            elif budget == plan.arms.budgets[0]:
                arms.append(_planned(plan, Arm("real", Mix(), control=True), "real", 0.0, n, budget))
    return arms


def main_ratio(plan: Plan) -> float:
    """Return the ratio nearest to 1:1, the one that single-ratio arms use."""
    return min(plan.arms.ratios, key=lambda ratio: abs(ratio - 1))


def ratio_name(ratio: float) -> str:
    """Return ``"0.25:1"`` for 0.25."""
    return f"{ratio:g}:1"


def _at(plan: Plan, n: int, budget: Budget) -> list[PlannedArm]:
    arms = [_planned(plan, Arm("real", Mix(), control=True), "real", 0.0, n, budget)]
    # Under equal steps one duplicate is the A/A check. Under equal epochs each ratio needs the duplicate of its length.
    doubled = (main_ratio(plan),) if budget == "steps" else plan.arms.ratios
    for ratio in doubled:
        arm = Arm(f"real duplicated to {ratio_name(ratio)}", Mix(real=1 + ratio), control=True)
        arms.append(_planned(plan, arm, "duplicate", 0.0, n, budget))
    if budget == "steps" and "self-training" not in plan.arms.skip:
        arm = Arm("self-training", Mix(synthetic=main_ratio(plan)), "self-training", control=True)
        arms.append(_planned(plan, arm, "self-training", 0.0, n, budget))
    for name, engine in plan.engines.items():
        arms += _with_engine(plan, name, engine, n, budget)
    return arms


def _with_engine(plan: Plan, name: str, engine: EnginePlan, n: int, budget: Budget) -> list[PlannedArm]:
    few, skip, main = engine.arms == "few", plan.arms.skip, main_ratio(plan)
    if few and budget != plan.arms.budgets[0]:
        return []
    suffix = f" · {name}" if len(plan.engines) > 1 else ""
    arms: list[PlannedArm] = []

    def add(label: str, mix: Mix, family: Family, ratio: float | None, schedule: str = "joint", **more: object) -> None:
        arm = Arm(label + suffix, mix, schedule, engine=name, control=family == "synthetic")  # type: ignore[arg-type]
        arms.append(_planned(plan, arm, family, ratio, n, budget, **more))

    if budget == "steps" and "synthetic only" not in skip:
        add("synthetic only", Mix(real=0, synthetic=max(plan.arms.ratios)), "synthetic", None)
    for ratio in [main] if few else plan.arms.ratios:
        add(f"mixed {ratio_name(ratio)}", Mix(synthetic=ratio), "mix", ratio)
    if budget == "steps" and not few:
        if "pretrain" not in skip:
            add("synthetic, then real", Mix(synthetic=max(plan.arms.ratios)), "pretrain", main, "pretrain")
        if "weighted" not in skip:
            add("weighted", Mix(synthetic=main), "weighted", main, weights=plan.arms.weights)
    return arms


def _planned(
    plan: Plan, arm: Arm, family: Family, ratio: float | None, n: int, budget: Budget, **more: object
) -> PlannedArm:
    steps = plan.training.steps
    if budget == "epochs":
        steps = round(steps * min(arm.mix.per_real, plan.arms.epoch_cap))
    return PlannedArm(arm, family, ratio, n, budget, steps, budget == "epochs", **more)  # type: ignore[arg-type]

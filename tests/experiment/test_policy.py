"""The search of an arm's augmentation within an experiment."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import toys

from equipoise.core import Case, Mix, TrainingSet, registry
from equipoise.engines.augmentation.classical import Classical
from equipoise.errors import PlanError, TrainingError
from equipoise.experiment import policy
from equipoise.experiment.forecast import _Forecast
from equipoise.experiment.plan import parse_plan
from equipoise.experiment.policy import augmentation_of, evaluations_of, searched, shortened
from equipoise.experiment.preparation import labelled_cases, planned_trainings, prepare
from equipoise.experiment.probe import Timed
from equipoise.experiment.run import Finished
from equipoise.experiment.scoring import score_cases
from making import blob_case

SEARCHED = {"kind": "searched", "operations": ["shift", "noise"], "evaluations": 8, "share": 0.5}


@dataclass(frozen=True)
class Sensitive(toys.ToyLearner):
    """Learns its threshold from augmented images: brightness that is shifted far shifts it too."""

    kind: ClassVar[str] = "sensitive"
    broken: bool = False

    def fit(
        self,
        training: TrainingSet,
        validation: Any,
        steps: int,
        rng: np.random.Generator,
        augment: Any = None,
        start: Any = None,
        select: bool = False,
    ) -> toys.ToyModel:
        if self.broken:
            raise RuntimeError("no training today")

        def changed(case: Any) -> Any:
            image, _ = augment(case.image.array, case.labels.array.astype(np.uint8), rng)
            return replace(case, image=type(case.image)(image.astype(np.float32), case.image.affine))

        other = replace(training, real=tuple(map(changed, training.real)))
        return super().fit(other, validation, steps, rng, None, start, select)


@pytest.fixture(autouse=True)
def _policies_are_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    augmentations = "equipoise.augmentations"
    module = "equipoise.engines.augmentation"
    entries = {
        **toys.ENTRIES,
        augmentations: [
            *toys.ENTRIES[augmentations],
            EntryPoint("classical", f"{module}.classical:Classical", augmentations),
            EntryPoint("searched", f"{module}.policies:Searched", augmentations),
        ],
        "equipoise.learners": [EntryPoint("sensitive", "test_policy:Sensitive", "equipoise.learners")],
    }
    monkeypatch.setattr(registry, "entry_points", lambda group: entries.get(group, []))


def content(**training: Any) -> dict[str, Any]:
    return toys.plan_content(
        training={"steps": 32, "learner": {"kind": "sensitive"}, "augment": SEARCHED, **training},
        arms={"sizes": [4], "replicates": 1, "ratios": [1.0]},
    )


def test_every_arm_searches_within_its_own_steps(finish: Callable[..., Finished]) -> None:
    given = content()
    finished = finish(training=given["training"], arms=given["arms"], fidelity=False)
    assert finished.trained
    for (planned, _), facts in finished.trained.items():
        if planned.budget == "steps":
            assert facts["steps"] == 32
        found = facts["policy"]
        assert 0 < found["steps"] <= 0.5 * facts["steps"]
        assert 8 >= found["evaluations"] >= 4
        assert {tried["policy"]["kind"] for tried in found["tried"]} == {"searched", "classical"}


def search_with(learner: Any = None, validation: int = 4, steps: int = 64, **changes: Any) -> Any:
    plan = parse_plan(content(augment={**SEARCHED, **changes}))
    cases = tuple(blob_case(f"c{i}", seed=0) for i in range(8))
    split = prepare(plan, None, Path()).split
    real = tuple(c for c in (blob_case(f"c{i:02d}", seed=0) for i in range(24)) if c.patient in split.train)[:4]
    training = TrainingSet(real, (), Mix(), split)
    rng = np.random.default_rng(3)
    return searched(plan, learner or Sensitive(), training, cases[:validation], steps, rng)


def test_the_policy_found_is_the_best_of_those_tried_longest() -> None:
    found = search_with()
    winner = found.tried[found.best]
    finalists = [tried for tried in found.tried if len(tried.scores) >= len(winner.scores)]
    assert winner.mean == max(tried.mean for tried in finalists)
    assert max(tried.mean for tried in found.tried) > min(tried.mean for tried in found.tried)
    assert isinstance(found.policy, Classical) or found.policy.found
    assert search_with().as_dict() == found.as_dict()


def test_a_ready_policy_is_not_searched() -> None:
    ready = {"weights": [1.0, 1.0], "strengths": [0.5, 0.5]}
    assert search_with(**ready) is None
    plan = parse_plan(content(augment={**SEARCHED, **ready}))
    assert augmentation_of(plan).kind == "searched"
    assert augmentation_of(parse_plan(content())).kind == "classical"


def test_what_a_search_scores_is_foretold(monkeypatch: pytest.MonkeyPatch) -> None:
    rounds: list[int] = []

    def counted(model: Any, cases: Sequence[Case], metric: Any) -> list[dict[str, Any]]:
        rounds.append(len(cases))
        return score_cases(model, cases, metric)

    monkeypatch.setattr(policy, "score_cases", counted)
    search_with()
    searching, ready = (
        parse_plan(content(augment={**SEARCHED, **more})) for more in ({}, {"weights": [1, 1], "strengths": [0.5, 0.5]})
    )
    assert evaluations_of(searching) == SEARCHED["evaluations"]
    assert 0.75 * SEARCHED["evaluations"] <= len(rounds) <= SEARCHED["evaluations"]  # halving may leave one over
    assert evaluations_of(ready) == evaluations_of(parse_plan(content(augment={"kind": "classical"}))) == 0
    seconds = []
    for plan in (searching, ready):
        prepared = prepare(plan, None, Path())
        probe = Timed(**{f.name: 0.0 for f in fields(Timed)} | {"score": 1.0, "choices": ()})
        forecast = _Forecast(prepared, {None: probe, **dict.fromkeys(plan.engines, probe)}, 0.0)
        seconds.append(forecast._training(*next(t for t in planned_trainings(prepared)), set()))
    validation = labelled_cases(prepared, tuple(prepared.split.validation))
    assert seconds[0] - seconds[1] == SEARCHED["evaluations"] * validation


def test_too_few_steps_no_validation_and_a_broken_learner_are_told() -> None:
    with pytest.raises(PlanError, match="do not fit into 50% of 8 steps"):
        search_with(steps=8)
    with pytest.raises(TrainingError, match="without validation patients"):
        search_with(validation=0)
    with pytest.raises(Exception, match=r"none of the \d evaluations"):
        search_with(Sensitive(broken=True))


def test_a_plan_cannot_search_and_tune_at_once() -> None:
    tuning = {"candidates": [{"noise": 0.01}, {"noise": 0.5}], "folds": 2}
    with pytest.raises(PlanError, match="leave one of both out"):
        parse_plan(content(tuning=tuning))


@pytest.mark.parametrize(("steps", "spent"), [((100,), 30), ((50, 51), 30), ((1, 99), 99)])
def test_courses_give_up_the_same_share(steps: tuple[int, ...], spent: int) -> None:
    short = shortened([(None, n) for n in steps], spent)  # type: ignore[misc]
    assert sum(n for _, n in short) == sum(steps) - spent
    assert all(0 <= new <= old for (_, new), old in zip(short, steps, strict=True))

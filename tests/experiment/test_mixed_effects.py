from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from toys import finished_in

from equipoise.experiment import conclude
from equipoise.experiment.contrasts import Scores, arm_results
from equipoise.experiment.findings import ArmResult, MixedEffects
from equipoise.experiment.mixed_effects import TOLERANCE, disagreement, mixed_effects
from equipoise.experiment.run import Finished
from equipoise.workspace import Workspace

ARMS = {"sizes": [4], "replicates": 4, "ratios": [1.0], "budgets": ["steps"]}
DATA = {"kind": "toy-cases", "count": 80}


@pytest.fixture(scope="module")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    with Workspace(tmp_path_factory.mktemp("w")) as workspace:
        return finished_in(workspace, arms=ARMS, data=DATA, metric={"margin": 0.03})


def scored(finished: Finished, effect: Callable[[str, int], float]) -> Finished:
    """The experiment with the mix's score set to real's plus an effect of patient and replicate."""
    rows = finished.rows
    mixed = rows["arm"] == "mixed 1:1"
    values = [
        0.6 + (effect(patient, replicate) if mix else 0.0)
        for patient, replicate, mix in zip(rows["patient"], rows["replicate"], mixed, strict=True)
    ]
    return replace(finished, rows=rows.with_columns(dice=pl.Series(values)))


def checked(finished: Finished) -> tuple[MixedEffects | None, ArmResult]:
    scores = Scores(finished)
    arms = arm_results(scores)
    best = conclude.find(arms, "mixed 1:1", 4, "steps", "inside")
    assert best is not None
    return mixed_effects(scores, best), best


def drawn(patient_sd: float, replicate_sd: float, seed: int = 0) -> Callable[[str, int], float]:
    rng = np.random.default_rng(seed)
    shift = replicate_sd * rng.standard_normal(4)
    known: dict[str, float] = {}

    def effect(patient: str, replicate: int) -> float:
        known.setdefault(patient, patient_sd * float(rng.standard_normal()))
        return 0.05 + known[patient] + float(shift[replicate]) + 0.01 * float(rng.standard_normal())

    return effect


def test_the_spread_is_told_apart_and_agrees_with_the_bootstrap(experiment: Finished) -> None:
    found, best = checked(scored(experiment, drawn(0.04, 0.0)))
    assert found is not None
    assert best.difference is not None
    assert found.patient.low < 0.04 < found.patient.high
    assert found.residual.low < 0.01 < found.residual.high
    assert found.replicate.high < found.patient.low
    assert found.difference.value == pytest.approx(best.difference.value)
    assert found.agrees
    assert "they agree" in found.sentence
    assert f"{100 * TOLERANCE:.0f} %" in found.sentence
    assert disagreement(found) == []


def test_replicates_that_differ_show_as_replicates(experiment: Finished) -> None:
    found, _ = checked(scored(experiment, drawn(0.0, 0.05)))
    assert found is not None
    assert found.replicate.low > found.patient.high
    assert found.difference.conditional


def test_a_disagreement_is_a_warning_of_the_first_page(experiment: Finished) -> None:
    finished = scored(experiment, drawn(0.04, 0.0))
    scores = Scores(finished)
    best = conclude.find(arm_results(scores), "mixed 1:1", 4, "steps", "inside")
    assert best is not None
    assert best.difference is not None
    far = replace(best, difference=replace(best.difference, low=best.difference.low - 0.05))
    found = mixed_effects(scores, far)
    assert found is not None
    assert not found.agrees
    (check,) = disagreement(found)
    assert check.state == "warning"
    assert "they disagree" in check.text


def test_nothing_to_check_by(experiment: Finished, tmp_path_factory: pytest.TempPathFactory) -> None:
    assert mixed_effects(Scores(experiment), None) is None
    assert disagreement(None) == []
    with Workspace(tmp_path_factory.mktemp("w")) as workspace:
        alone = finished_in(workspace, arms={**ARMS, "replicates": 1}, data=DATA)
    assert checked(alone)[0] is None

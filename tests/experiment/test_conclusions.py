from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from toys import finished_in

from equipoise.experiment import checks, conclude
from equipoise.experiment.contrasts import Scores, arm_results, strata_results
from equipoise.experiment.run import Finished
from equipoise.workspace import Workspace

Finish = Callable[..., Finished]

ARMS = {"sizes": [2, 4, 8], "replicates": 3, "ratios": [1.0], "budgets": ["steps"]}
DATA = {"kind": "toy-cases", "count": 60}


def scored(finished: Finished, gain: dict[str, float], noise: float = 0.01) -> Finished:
    """The experiment with scores that are set: a gain per arm and a learning curve, with noise per row."""
    rng = np.random.default_rng(0)
    rows = finished.rows
    base = 0.8 - 0.4 / pl.col("n")
    patient = pl.col("patient").hash(0) % 1000 / 10_000
    bonus = pl.lit(0.0)
    for arm, value in gain.items():
        bonus = bonus + pl.when(pl.col("arm") == arm).then(value).otherwise(0.0)
    jitter = pl.Series(rng.normal(0, noise, rows.height))
    return replace(finished, rows=rows.with_columns(dice=base + patient + bonus + jitter))


@pytest.fixture(scope="module")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    with Workspace(tmp_path_factory.mktemp("w")) as workspace:
        return finished_in(workspace, arms=ARMS, data=DATA, metric={"margin": 0.03})


@pytest.mark.parametrize(("gain", "verdict"), [(0.1, "better"), (-0.1, "worse"), (0.0, "equal"), (0.02, "better")])
def test_a_known_difference_gets_its_verdict(experiment: Finished, gain: float, verdict: str) -> None:
    scores = Scores(scored(experiment, {"mixed 1:1": gain}))
    found = conclude.find(arm_results(scores), "mixed 1:1", 8, "steps", "inside")
    assert found is not None
    assert found.difference is not None
    assert found.verdict == verdict
    assert found.difference.low < gain < found.difference.high
    assert len(found.difference.replicates) == 3


def test_noise_gets_no_verdict(experiment: Finished) -> None:
    scores = Scores(scored(experiment, {}, noise=0.3))
    found = conclude.find(arm_results(scores), "mixed 1:1", 8, "steps", "inside")
    assert found is not None
    assert found.verdict == "not proven"


def test_the_first_sentence_holds_arm_difference_interval_patients_and_size(experiment: Finished) -> None:
    scores = Scores(scored(experiment, {"mixed 1:1": 0.1}))
    arms = arm_results(scores)
    best = conclude.headline(scores, arms)
    assert best is not None
    (first, second), status = conclude.verdict_sentences(best, arms, scores, "Dice", instrument_check=False)
    assert status == "better"
    for word in ("'mixed 1:1'", "is better than real-only", "+0.1", "[", "21 patients", "n = 8", "real alone 0.7"):
        assert word in first
    assert "eal duplicated to the same count" in second
    simulated = conclude.verdict_sentences(best, arms, scores, "Dice", instrument_check=True)[0][0]
    assert simulated.startswith("Instrument check: ")


def test_a_trial_that_fails_its_own_checks_claims_nothing(experiment: Finished) -> None:
    scores = Scores(scored(experiment, {"mixed 1:1": 0.1}))
    arms = arm_results(scores)
    best = conclude.headline(scores, arms)
    said, status = conclude.verdict_sentences(best, arms, scores, "Dice", False, "the A/A check failed")
    assert status == "not proven"
    assert said[0].startswith("No claim is made, since the A/A check failed")
    gated = checks.gate(scores, arms)
    assert not gated.reached
    assert "competent" in str(checks.why_no_claim(gated, checks.a_a_check(arms)))


def test_an_arm_that_validation_weighed_to_nothing_is_no_headline(experiment: Finished) -> None:
    finished = scored(experiment, {"mixed 1:1": -0.2, "weighted": 0.2})
    finished = replace(finished, weights=dict.fromkeys(finished.weights, 0.0))
    scores = Scores(finished)
    best = conclude.headline(scores, arm_results(scores))
    assert best is not None
    assert best.arm != "weighted"


def test_one_replicate_is_no_a_a_check(finish: Finish) -> None:
    scores = Scores(finish(arms={**ARMS, "sizes": [4], "replicates": 1}, data=DATA))
    assert checks.a_a_check(arm_results(scores)).state == "not run"


def test_the_gate_follows_reference_and_plateau(experiment: Finished) -> None:
    flat = Scores(scored(experiment, {}, noise=0.001))
    rising = checks.gate(flat, arm_results(flat))
    assert not rising.reached
    assert "still rising" in rising.sentence


def test_patients_without_the_metric_are_excluded_and_counted(experiment: Finished) -> None:
    finished = scored(experiment, {})
    gone = sorted(finished.prepared.split.test)[:3]
    missing = pl.when(pl.col("patient").is_in(gone)).then(float("nan")).otherwise(pl.col("dice"))
    scores = Scores(replace(finished, rows=finished.rows.with_columns(dice=missing)))
    found = conclude.find(arm_results(scores), "mixed 1:1", 8, "steps", "inside")
    assert found is not None
    assert (found.mean.patients, found.mean.excluded) == (18, 3)


def test_strata_hold_sizes_of_the_structure(experiment: Finished) -> None:
    finished = scored(experiment, {"mixed 1:1": 0.1})
    arm = next(a for a in finished.prepared.arms if a.arm.name == "mixed 1:1" and a.n == 8)
    strata = strata_results(Scores(finished), arm)
    assert {s.level for s in strata} == {"smallest third", "middle third", "largest third"}
    assert sum(s.difference.patients for s in strata) == len(finished.prepared.split.test)


def test_an_engine_of_no_gap_and_one_of_a_large_gap_are_told_apart(finish: Finish, workspace: Workspace) -> None:
    engines = {
        "zero": {"kind": "toy-engine", "known_gap": "zero", "arms": "few"},
        "far": {"kind": "toy-engine", "gap": 2.0, "known_gap": "large", "arms": "few"},
        "mine": {"kind": "toy-engine", "gap": 0.1},
    }
    finished = finish(arms={**ARMS, "sizes": [4]}, data=DATA, engines=engines)
    scores = Scores(finished)
    check = checks.instrument(scores)
    assert check is not None
    assert check.state == "ok", check.text
    best = conclude.headline(scores, arm_results(scores))
    assert best is not None
    assert best.engine == "mine"

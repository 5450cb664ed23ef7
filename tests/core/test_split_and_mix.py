from __future__ import annotations

from collections import Counter
from itertools import islice

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from equipoise.core import Arm, Mix, Split, TrainingSet, patients_of, rng_for, size_strata, split_patients
from equipoise.errors import LeakageError, NotEnoughCasesError, PlanError
from making import blob_case, synthetic

SPLIT = Split(frozenset("abcdefgh"), frozenset("v"), frozenset("t"), frozenset("x"))


@given(st.integers(3, 60), st.integers(0, 5), st.lists(st.sampled_from("abc"), min_size=60, max_size=60))
def test_splits_are_disjoint_complete_and_proportional(count: int, seed: int, strata: list[str]) -> None:
    patients = {f"p{i}": strata[i] for i in range(count)}
    shares = {"train": 0.5, "validation": 0.2, "test": 0.3}
    parts = split_patients(patients, shares, seed)
    assert sorted(p for part in parts.values() for p in part) == sorted(patients)
    for name, share in shares.items():
        assert abs(len(parts[name]) - share * count) < 2
        for stratum in set(patients.values()):
            members = {p for p, s in patients.items() if s == stratum}
            assert abs(len(parts[name] & members) - share * len(members)) < 3


def test_a_patient_on_two_sides_is_refused() -> None:
    with pytest.raises(LeakageError, match="in train and in test"):
        Split(frozenset("ab"), frozenset("c"), frozenset("bd"))


def test_subsets_are_nested_within_a_replicate_and_redrawn_across() -> None:
    split = Split(frozenset(map(str, range(40))), frozenset("v"), frozenset("t"))
    small, large = split.subset(5, 0, 1), split.subset(20, 0, 1)
    assert large[:5] == small
    assert split.subset(5, 0, 2) != small
    assert split.subset(5, 1, 1) != small
    with pytest.raises(NotEnoughCasesError, match="41 training patients are asked for, 40 are there"):
        split.subset(41, 0, 0)


def test_strata_hold_site_and_size() -> None:
    cases = [blob_case(f"{i}", site="AB"[i % 2]) for i in range(12)]
    strata = size_strata(cases, {c.id: float(i) for i, c in enumerate(cases)})
    assert strata["patient-0"] == "A|0"
    assert strata["patient-11"] == "B|2"


def test_streams_are_keyed_not_ordered() -> None:
    assert rng_for(1, "a").random() == rng_for(1, "a").random()
    values = {rng_for(*key).random() for key in [(1, "a"), (2, "a"), (1, "b"), (1, "a", "b"), (1, "a/b"), (1, "ab")]}
    assert len(values) == 6


def _real(names: str) -> tuple:
    return tuple(blob_case(name, name) for name in names)


@pytest.mark.parametrize(
    ("real", "made", "mix", "error", "word"),
    [
        ("at", (), Mix(), LeakageError, "held-out patient"),
        ("av", (), Mix(), LeakageError, "held-out patient"),
        ("ax", (), Mix(), LeakageError, "held-out patient"),
        ("ab", (synthetic("s", "a", "t"),), Mix(synthetic=1), LeakageError, "held-out patient"),
        ("ab", (synthetic("s", "c"),), Mix(synthetic=1), LeakageError, "does not pay for"),
        ("ab", (blob_case("r", "b"),), Mix(synthetic=1), PlanError, "among the synthetic"),
        ("ab", (), Mix(synthetic=1), NotEnoughCasesError, "asks for synthetic cases"),
        ("", (), Mix(), NotEnoughCasesError, "asks for real cases"),
    ],
)
def test_a_training_set_that_breaks_the_rules_cannot_be_made(real, made, mix, error, word) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(error, match=word):
        TrainingSet(_real(real), made, mix, SPLIT)


def test_a_synthetic_case_among_the_real_is_refused() -> None:
    with pytest.raises(PlanError, match="stand among the real"):
        TrainingSet((synthetic("s"),), (), Mix(), SPLIT)


def test_a_stream_is_checked_when_it_is_drawn() -> None:
    def leaking(rng):  # type: ignore[no-untyped-def]
        yield synthetic("good", "a")
        yield synthetic("bad", "t")

    training = TrainingSet(_real("ab"), (), Mix(real=0, synthetic=1), SPLIT, leaking)
    draws = training.draws(rng_for(0))
    next(draws)
    with pytest.raises(LeakageError, match="held-out patient"):
        next(draws)


@pytest.mark.parametrize(
    ("mix", "share"), [(Mix(synthetic=0.25), 0.2), (Mix(synthetic=1), 0.5), (Mix(synthetic=4), 0.8)]
)
def test_draws_hold_the_ratio_and_every_case_once_per_epoch(mix: Mix, share: float) -> None:
    made = tuple(synthetic(f"s{i}", "a") for i in range(16))
    training = TrainingSet(_real("abcd"), made[: mix.counts(4)[1]], mix, SPLIT)
    epoch = sum(mix.counts(4))
    drawn = [draw.case for draw in islice(training.draws(rng_for(0)), epoch)]
    assert training.synthetic_share == pytest.approx(share)
    assert sum(case.synthetic for case in drawn) == round(share * epoch)
    assert max(Counter(case.id for case in drawn).values()) == 1


def test_duplicates_are_counted_as_often_as_stated() -> None:
    training = TrainingSet(_real("abcd"), (), Mix(real=2.5), SPLIT)
    drawn = Counter(draw.case.id for draw in islice(training.draws(rng_for(0)), 10))
    assert sorted(drawn.values()) == [2, 2, 3, 3]


def test_the_loss_weight_goes_to_synthetic_cases_only() -> None:
    training = TrainingSet(
        _real("ab"), (synthetic("s", "a"), synthetic("t2", "b")), Mix(synthetic=1, weight=0.3), SPLIT
    )
    weights = {draw.case.synthetic: draw.weight for draw in islice(training.draws(rng_for(0)), 4)}
    assert weights == {True: 0.3, False: 1.0}


def test_order_depends_on_the_stream_alone() -> None:
    training = TrainingSet(_real("abcdefgh"), (), Mix(), SPLIT)
    one, two, other = ([draw.case.id for draw in islice(training.draws(rng_for(seed)), 24)] for seed in (1, 1, 2))
    assert one == two
    assert one != other


def test_synthetic_only_still_pays_for_its_parents() -> None:
    training = TrainingSet(_real("ab"), (synthetic("s", "a"),), Mix(real=0, synthetic=1), SPLIT)
    assert training.parents == {"a"}
    assert patients_of(training.synthetic) == {"a"}


@pytest.mark.parametrize("mix", [{"real": -1}, {"real": 0}, {"synthetic": 1, "weight": 0}])
def test_a_mix_of_nothing_is_refused(mix: dict[str, float]) -> None:
    with pytest.raises(PlanError):
        Mix(**mix)


def test_an_arm_with_synthetic_cases_names_its_engine() -> None:
    with pytest.raises(PlanError, match="names no engine"):
        Arm("mixed", Mix(synthetic=1))
    assert np.isclose(Mix(synthetic=4).per_real, 5)

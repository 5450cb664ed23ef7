from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from equipoise.errors import DataError, GeometryMismatchError, LabelError
from equipoise.metrics import Detection, detect, lesions


def row(*values: int) -> np.ndarray:
    return np.array(values)


def counts(found: Detection) -> tuple[int, int, int, int]:
    return found.true_positives, found.false_positives, found.false_negatives, found.ignored


def test_one_found_one_missed_one_made_up() -> None:
    found = detect(row(1, 1, 0, 2, 2, 0, 0), row(0, 7, 0, 0, 0, 0, 8))
    assert counts(found) == (1, 1, 1, 0)
    assert (found.sensitivity, found.precision, found.f1) == (0.5, 0.5, 0.5)


def test_threshold_is_exceeded_not_met() -> None:
    truth, predicted = row(1, 1, 1, 0, 0), row(0, 0, 1, 1, 1)  # IoU 1/5
    assert counts(detect(truth, predicted, threshold=0.2)) == (0, 1, 1, 0)
    assert counts(detect(truth, predicted, threshold=0.19)) == (1, 0, 0, 0)


def test_one_blob_over_two_lesions_finds_one_by_iou_and_both_by_overlap() -> None:
    truth, predicted = row(1, 1, 0, 2, 2), row(1, 1, 1, 1, 1)
    assert counts(detect(truth, predicted)) == (1, 0, 1, 0)
    assert counts(detect(truth, predicted, rule="overlap")) == (2, 0, 0, 0)


def test_pairs_are_chosen_to_match_most_lesions() -> None:
    # Prediction 1 overlaps both lesions, and lesion 1 best; only giving it lesion 2 leaves prediction 2 its partner.
    truth, predicted = row(1, 1, 1, 1, 2, 2), row(2, 1, 1, 1, 1, 0)
    assert counts(detect(truth, predicted, threshold=0.1)) == (2, 0, 0, 0)


def test_masks_are_split_into_connected_parts_with_corners_touching() -> None:
    mask = np.zeros((6, 6), bool)
    mask[0, 0] = mask[1, 1] = mask[4, 4] = True
    assert lesions(mask).max() == 2
    assert counts(detect(mask, mask)) == (2, 0, 0, 0)
    assert counts(detect(mask, np.eye(6, dtype=bool))) == (1, 0, 1, 0)  # one diagonal: IoU 2/6 with the first


def test_no_lesion_at_all_and_none_predicted() -> None:
    empty, one = np.zeros(5, bool), row(0, 1, 1, 0, 0) > 0
    neither, invented, missed = detect(empty, empty), detect(empty, one), detect(one, empty)
    assert all(math.isnan(value) for value in (neither.sensitivity, neither.precision, neither.f1))
    assert counts(invented) == (0, 1, 0, 0)
    assert math.isnan(invented.sensitivity)
    assert (invented.precision, invented.f1) == (0.0, 0.0)
    assert counts(missed) == (0, 0, 1, 0)
    assert (missed.sensitivity, missed.f1) == (0.0, 0.0)
    assert math.isnan(missed.precision)


def test_predictions_mostly_inside_an_ignored_region_are_not_false() -> None:
    truth = row(1, 1, 0, 0, 0, 0, 0, 0)
    predicted = row(1, 1, 0, 2, 2, 2, 0, 3)
    ignore = np.array([0, 0, 0, 0, 1, 1, 1, 0], bool)
    assert counts(detect(truth, predicted, ignore=ignore)) == (1, 1, 0, 1)
    ignore[4] = False  # one of three voxels: not mostly
    assert counts(detect(truth, predicted, ignore=ignore)) == (1, 2, 0, 0)


def test_ignoring_takes_no_credit_from_a_match() -> None:
    truth = predicted = row(0, 1, 1, 1, 0)
    assert counts(detect(truth, predicted, ignore=np.array([0, 1, 0, 0, 0], bool))) == (1, 0, 0, 0)


@pytest.mark.parametrize("rule", ["iou", "overlap"])
def test_a_lesion_mostly_ignored_is_not_asked_for_and_its_match_is_not_false(rule) -> None:
    truth, ignore = row(0, 1, 1, 1, 0), np.array([0, 1, 1, 0, 0], bool)
    assert counts(detect(truth, row(0, 0, 1, 1, 0), rule=rule, ignore=ignore)) == (0, 0, 0, 1)
    assert counts(detect(truth, row(0, 0, 0, 0, 0), rule=rule, ignore=ignore)) == (0, 0, 0, 0)


def test_cases_add_up() -> None:
    total = Detection(3, 1, 1) + Detection(1, 2, 0, 4)
    assert counts(total) == (4, 3, 1, 4)
    assert total.f1 == pytest.approx(8 / 12)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), rule=st.sampled_from(["iou", "overlap"]), threshold=st.floats(0, 0.9))
def test_every_lesion_is_counted_once(seed: int, rule, threshold: float) -> None:
    truth, predicted = np.random.default_rng(seed).integers(0, 5, (2, 6, 6))
    found = detect(truth, predicted, rule=rule, threshold=threshold)
    assert found.true_positives + found.false_negatives == len(np.unique(truth[truth > 0]))
    if rule == "iou":
        assert found.true_positives + found.false_positives == len(np.unique(predicted[predicted > 0]))
        swapped = detect(predicted, truth, rule=rule, threshold=threshold)
        assert swapped.true_positives == found.true_positives


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_names_of_lesions_do_not_matter(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth, predicted = rng.integers(0, 5, (2, 5, 5))
    names = np.r_[0, rng.choice(np.arange(1, 1000), 4, replace=False)]
    assert detect(names[truth], names[predicted]) == detect(truth, predicted)


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"rule": "iuo"}, DataError, "Did you mean 'iou'"),
        ({"threshold": 1.0}, DataError, r"\[0, 1\)"),
        ({"predicted": np.zeros(4)}, LabelError, "predicted > 0.5"),
        ({"predicted": np.full(3, -1)}, LabelError, "negative"),
        ({"predicted": np.zeros(4, int)}, GeometryMismatchError, "shapes differ"),
        ({"ignore": np.zeros(3)}, LabelError, "ignore"),
    ],
)
def test_bad_input_is_named_with_its_fix(change: dict[str, object], error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        detect(**{"truth": np.zeros(3, int), "predicted": np.zeros(3, int), **change})  # type: ignore[arg-type]

from __future__ import annotations

import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from equipoise.errors import DataError, GeometryMismatchError, LabelError
from equipoise.metrics import Detection, detect, diameter, lesions, longest_diameter


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


def test_longest_diameter_is_of_one_lesion_and_agrees_with_measuring_each() -> None:
    mask = np.random.default_rng(3).random((40, 30, 3)) < 0.25
    numbered = lesions(mask)
    each = [diameter(numbered == k, (0.7, 1.1, 2.0)) for k in range(1, numbered.max() + 1)]
    assert longest_diameter(mask, (0.7, 1.1, 2.0)) == max(each)
    assert longest_diameter(numbered, (0.7, 1.1, 2.0)) == max(each)
    assert longest_diameter(np.zeros((4, 4), bool), (1.0, 1.0)) == 0
    far_apart = np.zeros((9, 9), bool)
    far_apart[0, 0:2] = far_apart[8, 8] = True
    assert longest_diameter(far_apart, (1.0, 1.0)) == 2  # the longer one, not the distance between them


def test_longest_diameter_refuses_probabilities() -> None:
    with pytest.raises(LabelError, match="cut a probability"):
        longest_diameter(np.zeros((4, 4)), (1.0, 1.0))


def test_instance_numbers_may_be_any() -> None:
    truth = np.array([[900_000, 900_000, 0, 7, 7]])
    assert counts(detect(truth, np.array([[3, 3, 0, 0, 0]]))) == (1, 0, 1, 0)


def test_forty_thousand_specks_make_no_table_of_all_pairs() -> None:
    truth, predicted = np.zeros((2, 400, 400), bool)
    truth[::2, ::2] = predicted[::2, 1::2] = True
    predicted[0, 0] = True  # joins the speck beside it: intersection over union 1/2 with the truth's first
    tracemalloc.start()
    try:
        found = detect(truth, predicted)
        assert tracemalloc.get_traced_memory()[1] < 100e6  # all pairs would be 13 GB
    finally:
        tracemalloc.stop()
    assert counts(found) == (1, 39_999, 39_999, 0)

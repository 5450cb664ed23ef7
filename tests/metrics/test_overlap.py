from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from surface_peers import monai_metrics

from equipoise.errors import GeometryMismatchError, LabelError
from equipoise.metrics import DIRECTION, SIGNED, UNIT, dice, iou, precision, recall, voxel_counts

ALL = (dice, iou, precision, recall)


def test_dice_of_shifted_cubes_is_the_overlap_fraction() -> None:
    a = np.zeros((20, 20, 20), bool)
    a[:, :, :10] = True
    b = np.roll(a, 5, axis=2)
    assert dice(a, b) == 0.5  # 10 deep, shifted by 5: half of each overlaps
    assert iou(a, b) == pytest.approx(1 / 3)


def test_precision_and_recall_of_a_mask_twice_too_large() -> None:
    truth, predicted = np.zeros((2, 10), bool)
    truth[2:4], predicted[2:6] = True, True
    assert (precision(truth, predicted), recall(truth, predicted)) == (0.5, 1.0)


@pytest.mark.parametrize("metric", ALL)
def test_empty_masks(metric) -> None:
    empty, full = np.zeros((3, 3), bool), np.ones((3, 3), bool)
    assert math.isnan(metric(empty, empty))
    assert metric(empty, full) == 0.0
    assert metric(full, empty) == 0.0


@pytest.mark.parametrize("metric", ALL)
def test_ignored_voxels_count_on_neither_side(metric) -> None:
    rng = np.random.default_rng(0)
    truth, predicted, ignore = rng.random((3, 7, 8, 9)) > 0.5
    assert metric(truth, predicted, ignore) == metric(truth[~ignore], predicted[~ignore])
    assert math.isnan(metric(truth, predicted, np.ones_like(truth)))


@given(seed=st.integers(0, 2**32 - 1), dimensions=st.integers(1, 4), share=st.sampled_from([0.02, 0.5, 0.95]))
def test_symmetry_bounds_and_the_identity_of_dice_and_iou(seed: int, dimensions: int, share: float) -> None:
    a, b = np.random.default_rng(seed).random((2, *(4,) * dimensions)) < share
    if not (a.any() or b.any()):
        return
    assert dice(a, b) == dice(b, a)
    assert iou(a, b) == iou(b, a)
    assert precision(a, b) == recall(b, a)
    assert 0 <= iou(a, b) <= dice(a, b) <= 1
    assert dice(a, b) == pytest.approx(2 * iou(a, b) / (1 + iou(a, b)))


@given(seed=st.integers(0, 2**32 - 1))
def test_counts_do_not_depend_on_memory_order_or_chunks(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.random((2, 5, 6, 7)) > 0.8
    a[:2], b[4:] = False, False
    expected = (int((a & b).sum()), int(a.sum()), int(b.sum()))
    for one, two in (
        (a, b),
        (np.asfortranarray(a), np.asfortranarray(b)),
        (np.asfortranarray(a), b),
        (a[::-1], b[::-1]),
    ):
        found = voxel_counts(one, two)
        assert (found.both, found.truth, found.predicted) == expected


def test_large_masks_are_counted_whole() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.random((2, 3, 900, 700)) > 0.5  # several chunks
    found = voxel_counts(a, b)
    assert (found.both, found.truth, found.predicted) == ((a & b).sum(), a.sum(), b.sum())


def test_dice_equals_monai() -> None:
    metrics, torch = monai_metrics()
    rng = np.random.default_rng(2)
    for share in (0.01, 0.3, 0.9):
        a, b = rng.random((2, 12, 13, 14)) < share
        tensors = (torch.from_numpy(mask[None, None].astype(np.float32)) for mask in (b, a))
        assert dice(a, b) == pytest.approx(float(metrics.compute_dice(*tensors, include_background=True)), rel=1e-6)


def test_bad_masks_are_named_with_their_fix() -> None:
    good = np.ones((3, 3), bool)
    with pytest.raises(LabelError, match=r"predicted > 0\.5"):
        dice(good, good.astype(float))
    with pytest.raises(LabelError, match="got list"):
        dice(good, [[True]])  # type: ignore[arg-type]
    with pytest.raises(LabelError, match="single value"):
        dice(np.array(True), np.array(True))
    with pytest.raises(GeometryMismatchError, match=r"\(3, 3\) and predicted has \(3, 4\)"):
        dice(good, np.ones((3, 4), bool))
    with pytest.raises(GeometryMismatchError, match="resample ignore"):
        dice(good, good, np.ones((4, 3), bool))


def test_every_metric_has_a_direction_and_a_unit() -> None:
    assert DIRECTION.keys() == UNIT.keys()
    assert DIRECTION.keys() >= SIGNED


def test_every_public_metric_is_in_the_docs() -> None:
    page = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text(encoding="utf-8")
    for name in DIRECTION:
        shown = f"`detect(…).{name.removeprefix('lesion_')}`" if name.startswith("lesion_") else f"`{name}`"
        assert shown in page, name

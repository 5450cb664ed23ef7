from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from equipoise.errors import GeometryMismatchError
from equipoise.metrics import centre_line, cl_dice, dice

CROSS = ndimage.generate_binary_structure(2, 1)
FULL = np.ones((3, 3), bool)


def vessel(length: int = 40, width: int = 5, size: int = 60) -> np.ndarray:
    mask = np.zeros((size, size), bool)
    mask[20 : 20 + width, 10 : 10 + length] = True
    return mask


def topology(mask: np.ndarray) -> tuple[int, int]:
    """Number of pieces and of holes."""
    return ndimage.label(mask, FULL)[1], ndimage.label(~np.pad(mask, 1), CROSS)[1] - 1


def test_line_of_a_straight_vessel_runs_along_its_middle() -> None:
    line = centre_line(vessel(40, 5))
    assert set(np.flatnonzero(line.any(axis=1))) == {22}
    assert 40 - 5 <= line.sum() <= 40


def test_ring_stays_a_ring() -> None:
    y, x = np.mgrid[:40, :40] - 19.5
    ring = (np.hypot(x, y) < 15) & (np.hypot(x, y) > 9)
    line = centre_line(ring)
    assert topology(line) == (1, 1)
    assert np.hypot(x, y)[line].mean() == pytest.approx(12, abs=0.7)


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), share=st.floats(0.1, 0.9), smooth=st.floats(0, 2))
def test_thinning_keeps_every_piece_and_every_hole(seed: int, share: float, smooth: float) -> None:
    noise = np.random.default_rng(seed).random((24, 27))
    smoothed = ndimage.gaussian_filter(noise, smooth)
    mask = smoothed < np.quantile(smoothed, share)
    line = centre_line(mask)
    assert not (line & ~mask).any()
    assert topology(line) == topology(mask)
    assert (centre_line(line) == line).all()


def test_thin_branch_weighs_its_length() -> None:
    truth = vessel(40, 9)
    truth[24, 5:55] = True
    truth[29:55, 30] = True  # a branch one pixel wide
    without = truth.copy()
    without[29:, 30] = False
    assert dice(truth, without) > 0.95
    assert cl_dice(truth, without) < 0.85


def test_closed_form_of_a_vessel_of_which_half_was_found() -> None:
    truth = np.zeros((21, 60), bool)
    truth[10, 10:50] = True
    half = truth.copy()
    half[:, 30:] = False
    assert cl_dice(truth, half) == pytest.approx(2 * 1.0 * 0.5 / 1.5)  # all of it correct, half of it found


def test_width_does_not_matter() -> None:
    assert cl_dice(vessel(40, 9), vessel(40, 9)) == 1.0
    wide, narrow = vessel(40, 9), np.zeros((60, 60), bool)
    narrow[24, 10:50] = True
    assert dice(wide, narrow) < 0.3
    assert cl_dice(wide, narrow) == 1.0


def test_empty_masks() -> None:
    empty = np.zeros((60, 60), bool)
    assert math.isnan(cl_dice(empty, empty))
    assert cl_dice(empty, vessel()) == cl_dice(vessel(), empty) == 0.0
    assert cl_dice(vessel(), np.roll(vessel(), 25, axis=0)) == 0.0  # apart: both shares are 0


def test_one_slice_is_a_picture_and_a_volume_is_refused() -> None:
    assert (centre_line(vessel()[:, :, None])[:, :, 0] == centre_line(vessel())).all()
    with pytest.raises(GeometryMismatchError, match="2-D masks"):
        centre_line(np.ones((4, 4, 4), bool))

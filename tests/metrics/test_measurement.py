from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import pdist

from equipoise.errors import DataError, GeometryMismatchError
from equipoise.metrics import boundary_offset, diameter, diameter_error, volume, volume_error


def ellipsoid(size: int, radii: tuple[float, ...], spacing: tuple[float, ...]) -> np.ndarray:
    axes = [(np.arange(size) - (size - 1) / 2) * step for step in spacing]
    grid = np.meshgrid(*axes, indexing="ij")
    return sum((axis / radius) ** 2 for axis, radius in zip(grid, radii, strict=True)) <= 1


def test_volume_of_a_ball_is_four_thirds_pi_r_cubed() -> None:
    mask = ellipsoid(64, (20.0,) * 3, (0.75,) * 3)
    # Counting lattice points of a ball of 27 voxels radius errs by far less than 1 %.
    assert volume(mask, (0.75,) * 3) == pytest.approx(4 / 3 * math.pi * 20**3, rel=0.005)


def test_volume_error_has_the_sign_of_the_prediction() -> None:
    small, large = np.zeros((2, 4, 4, 4), bool)
    small[:2, :2, :2], large[:4, :2, :2] = True, True
    over, under = volume_error(small, large, (1.0, 1.0, 2.0)), volume_error(large, small, (1.0, 1.0, 2.0))
    assert (over.absolute, over.relative) == (16.0, 1.0)
    assert (under.absolute, under.relative) == (-16.0, -0.5)


def test_errors_of_empty_masks() -> None:
    empty, full = np.zeros((4, 4), bool), np.ones((4, 4), bool)
    for error in (volume_error, diameter_error):
        neither = error(empty, empty, (1.0, 1.0))
        assert neither.absolute == 0.0
        assert math.isnan(neither.relative)
        assert error(empty, full, (1.0, 1.0)).absolute > 0
        assert math.isnan(error(empty, full, (1.0, 1.0)).relative)
        assert error(full, empty, (1.0, 1.0)).relative == -1.0


@pytest.mark.parametrize(("count", "spacing"), [(1, (1.0, 1.0)), (7, (0.5, 0.8)), (7, (0.8, 0.5))])
def test_diameter_of_a_straight_line_is_its_length(count: int, spacing: tuple[float, float]) -> None:
    mask = np.zeros((20, 20), bool)
    mask[3, 5 : 5 + count] = True
    across = spacing[0]  # a single row is one pixel thick: it can be longer across than along
    assert diameter(mask, spacing) == pytest.approx(max(count * spacing[1], across))
    assert diameter(mask.T, spacing[::-1]) == pytest.approx(max(count * spacing[1], across))


@pytest.mark.parametrize("radius", [4.0, 9.3, 21.0])
def test_diameter_of_a_disc_is_twice_its_radius(radius: float) -> None:
    mask = ellipsoid(64, (radius,) * 2, (0.9, 0.7))
    assert diameter(mask, (0.9, 0.7)) == pytest.approx(2 * radius, abs=0.9)  # within one pixel


def test_diameter_is_the_largest_over_slices_and_never_across_them() -> None:
    mask = np.zeros((30, 30, 40), bool)
    mask[5:15, 5, 3] = True
    mask[5:25, 5, 4] = True
    mask[5, 5, :] = True  # 40 slices of 5 mm long through the plane: not an in-plane diameter
    assert diameter(mask, (0.5, 0.5, 5.0)) == pytest.approx(10.0)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), share=st.floats(0.01, 0.9))
def test_diameter_equals_the_largest_pairwise_distance_of_all_outline_points(seed: int, share: float) -> None:
    mask = np.random.default_rng(seed).random((9, 7)) < share
    if not mask.any():
        assert diameter(mask, (0.6, 1.3)) == 0.0
        return
    halves = np.array([[0.5, 0], [-0.5, 0], [0, 0.5], [0, -0.5]])
    points = ((np.argwhere(mask)[:, None] + halves) * (0.6, 1.3)).reshape(-1, 2)
    assert diameter(mask, (0.6, 1.3)) == pytest.approx(pdist(points).max())


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.8, 0.8, 1.6), (0.5, 0.5, 0.5)])
@pytest.mark.parametrize("difference", [-4.0, -1.0, -0.5, 0.5, 1.0, 4.0])
def test_offset_of_concentric_spheres_is_the_difference_of_radii(
    spacing: tuple[float, float, float], difference: float
) -> None:
    size = int(44 / min(spacing))
    truth = ellipsoid(size, (16.0,) * 3, spacing)
    predicted = ellipsoid(size, (16.0 + difference,) * 3, spacing)
    found = boundary_offset(truth, predicted, spacing)
    assert found == pytest.approx(difference, abs=max(spacing) / 3)  # the stated bound: a third of a voxel
    assert found * difference > 0


def test_offset_of_a_moved_face_is_exact() -> None:
    truth, predicted = np.zeros((2, 30, 8, 8), bool)
    truth[:10], predicted[:12] = True, True
    # Far face: 64 mm² at 2 voxels of 3 mm. Sides of the two added layers: nearest are the centres of the true far face,
    # half a voxel aside and 0.5 or 1.5 voxels of 3 mm behind. All other faces lie on the truth.
    far, sides = 64 * 6.0, 4 * 8 * 3.0 * (math.hypot(1.5, 0.5) + math.hypot(4.5, 0.5))
    area = 2 * 64 + 4 * 8 * 12 * 3.0
    assert boundary_offset(truth, predicted, (3.0, 1.0, 1.0)) == pytest.approx((far + sides) / area)


def test_offset_is_negative_inside_and_zero_on_the_truth() -> None:
    outer = np.zeros((20, 20), bool)
    outer[4:16, 4:16] = True
    inner = np.zeros((20, 20), bool)
    inner[6:14, 6:14] = True
    assert boundary_offset(outer, outer, (1.0, 1.0)) == 0.0
    # Straight sides lie exactly 2 pixels inside, and no point is nearer.
    assert boundary_offset(outer, inner, (0.5, 0.5)) == pytest.approx(-1.0)
    # From outside, the corners are further than the sides: between 1 mm and its diagonal.
    assert 1.0 < boundary_offset(inner, outer, (0.5, 0.5)) < math.sqrt(2)


def test_offset_sees_truth_beyond_the_box_of_the_prediction() -> None:
    truth, predicted = np.zeros((2, 30, 30), bool)
    truth[2:28, 2:28], predicted[14:16, 14:16] = True, True
    assert boundary_offset(truth, predicted, (1.0, 1.0)) < -10


def test_offset_of_an_empty_mask_is_unknown() -> None:
    empty, full = np.zeros((5, 5), bool), np.ones((5, 5), bool)
    assert all(math.isnan(boundary_offset(a, b, (1.0, 1.0))) for a, b in ((empty, full), (full, empty), (empty, empty)))


def test_one_slice_is_measured_in_its_plane() -> None:
    a, b = np.random.default_rng(4).random((2, 12, 12)) > 0.6
    assert boundary_offset(a[:, :, None], b[:, :, None], (1.0, 2.0, 5.0)) == boundary_offset(a, b, (1.0, 2.0))
    assert diameter(a[:, :, None], (1.0, 2.0, 5.0)) == diameter(a, (1.0, 2.0))


def test_bad_input_is_refused() -> None:
    with pytest.raises(DataError, match="one number for each of the 2 axes"):
        volume(np.ones((2, 2), bool), (1.0,))
    with pytest.raises(GeometryMismatchError, match="2 or 3 axes"):
        diameter(np.ones(4, bool), (1.0,))
    with pytest.raises(GeometryMismatchError, match="one grid"):
        boundary_offset(np.ones((3, 3), bool), np.ones((3, 4), bool), (1.0, 1.0))

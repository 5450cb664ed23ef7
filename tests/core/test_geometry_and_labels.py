from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from equipoise.core import Case, ClassLabel, Geometry, Image, LabelMap, LabelScheme, LazyVoxels, Origin
from equipoise.errors import EngineError, GeometryMismatchError, LabelError, PatientUnknownError


def test_spacing_is_the_length_of_the_columns_also_when_rotated() -> None:
    turn = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]]) @ np.diag([0.5, 0.7, 3.0])
    affine = np.eye(4)
    affine[:3, :3] = turn
    assert Geometry((2, 2, 2), affine).spacing == pytest.approx((0.5, 0.7, 3.0))


@pytest.mark.parametrize(
    ("other", "word"),
    [
        (Geometry((4, 4, 2)), "shapes differ"),
        (Geometry((4, 4, 1), np.diag([2.0, 1, 1, 1])), "spacing"),
        (Geometry((4, 4, 1), np.array([[1.0, 0, 0, 5], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])), "origin"),
        (Geometry((4, 4, 1), frame="1.2.4"), "different scans"),
    ],
)
def test_another_grid_is_refused_with_its_reason(other: Geometry, word: str) -> None:
    with pytest.raises(GeometryMismatchError, match=word):
        Geometry((4, 4, 1), frame="1.2.3").require_same(other)


def test_rounding_of_a_nifti_header_is_no_other_grid() -> None:
    affine = np.diag([0.7, 0.7, 1.25, 1])
    affine[:3, 3] = [-300.0, -300, -900]
    Geometry((4, 4, 1), affine).require_same(Geometry((4, 4, 1), affine.astype(np.float32).astype(float)))


@pytest.mark.parametrize("affine", [np.zeros((4, 4)), np.full((4, 4), np.nan), np.eye(3)])
def test_an_affine_that_places_nothing_is_refused(affine: np.ndarray) -> None:
    with pytest.raises(GeometryMismatchError, match="affine"):
        Geometry((1, 1, 1), affine)


def test_an_image_without_four_axes_is_refused_with_the_fix() -> None:
    with pytest.raises(GeometryMismatchError, match="None, :, :, None"):
        Image(np.zeros((4, 4)))


def _never() -> np.ndarray:
    raise AssertionError("the voxels were read")


def test_a_thousand_large_volumes_are_listed_without_reading_one() -> None:
    voxels = LazyVoxels((1, 256, 256, 256), np.dtype(np.int16), _never)
    cases = [Case(f"c{i}", f"p{i}", Image(voxels)) for i in range(1000)]
    assert sum(case.image.geometry.shape[0] for case in cases) == 256_000


def test_lazy_voxels_are_read_when_asked_and_checked_against_the_header() -> None:
    good = Image(LazyVoxels((1, 2, 2, 1), np.dtype(float), partial(np.ones, (1, 2, 2, 1))))
    assert good.array.sum() == 4
    with pytest.raises(GeometryMismatchError, match="header says"):
        _ = Image(LazyVoxels((1, 2, 2, 1), np.dtype(float), partial(np.ones, (1, 2, 3, 1)))).array


def test_labels_may_overlap_and_be_counted() -> None:
    disc_and_cup = np.zeros((2, 3, 3, 1), np.uint16)
    disc_and_cup[0, :, :] = 1
    disc_and_cup[1, 1, 1] = 2
    labels = LabelMap(disc_and_cup, LabelScheme.of(["disc", "cup"], exclusive=False))
    assert labels.mask("disc").sum() == 9
    assert labels.mask("cup").sum() == 1
    assert labels.instances("cup").max() == 2
    with pytest.raises(LabelError, match="overlap"):
        labels.values()


def test_values_round_trip_and_unknown_ones_are_named() -> None:
    scheme = LabelScheme.of({"anterior": 1, "posterior": 4})
    values = np.array([[[0], [1]], [[4], [4]]])
    labels = LabelMap.from_values(Geometry((2, 2, 1)), values, scheme)
    np.testing.assert_array_equal(labels.values(), values)
    with pytest.raises(LabelError, match="label values 2, 7 are not in the scheme"):
        LabelMap.from_values(Geometry((2, 2, 1)), np.array([[[2], [7]], [[1], [0]]]), scheme)


def test_probabilities_are_no_labels() -> None:
    with pytest.raises(LabelError, match="not whole"):
        LabelMap.from_values(Geometry((1, 2, 1)), np.array([[[0.2], [1.0]]]), LabelScheme.of(["a"]))
    with pytest.raises(LabelError, match="integers"):
        LabelMap(np.zeros((1, 1, 1, 1)), LabelScheme.of(["a"]))


def test_an_unknown_label_gets_the_nearest_one() -> None:
    with pytest.raises(LabelError, match="Did you mean 'vessel'"):
        LabelScheme.of(["vessel", "disc"]).channel("vesel")


@pytest.mark.parametrize("names", [[], ["a", "a"]])
def test_a_scheme_without_or_with_equal_labels_is_refused(names: list[str]) -> None:
    with pytest.raises(LabelError):
        LabelScheme.of(names)


def test_a_case_needs_a_patient_and_a_mask_on_its_grid() -> None:
    image = Image(np.zeros((1, 4, 4, 1)))
    with pytest.raises(PatientUnknownError, match="names no patient"):
        Case("c", "", image)
    truth = LabelMap(np.zeros((1, 4, 5, 1), np.uint8), LabelScheme.of(["a"]))
    with pytest.raises(GeometryMismatchError, match="shapes differ"):
        Case("c", "p", image, truth)


def test_truth_may_be_a_class() -> None:
    case = Case("c", "p", Image(np.zeros((1, 4, 4, 1))), ClassLabel("pneumonia", ("normal", "pneumonia")))
    assert isinstance(case.truth, ClassLabel)
    assert case.truth.index == 1
    with pytest.raises(LabelError, match="Did you mean 'pneumonia'"):
        ClassLabel("pneumonai", ("normal", "pneumonia"))


def test_origin_cannot_hide_an_engine() -> None:
    with pytest.raises(EngineError, match="must name the engine"):
        Origin("synthetic")
    with pytest.raises(EngineError, match="must be marked synthetic"):
        Origin("real", engine="diffusion")


def test_pixels_of_a_microscope_have_a_size_too() -> None:
    """0.25 and 0.5 µm differ by less than the tolerance of a CT, and 0.05 µm cubes are no singular grid."""
    fine, coarse = (Geometry.from_spacing((8, 8, 1), (s, s, 0.004)) for s in (0.00025, 0.0005))
    fine.require_same(Geometry.from_spacing((8, 8, 1), (0.00025, 0.00025, 0.004)))
    with pytest.raises(GeometryMismatchError, match="but spacing"):
        fine.require_same(coarse)
    assert Geometry.from_spacing((4, 4, 4), (5e-5, 5e-5, 5e-5)).spacing == pytest.approx((5e-5,) * 3)

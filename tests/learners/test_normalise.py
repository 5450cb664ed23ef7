from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from equipoise.core import Image, Split, rng_for
from equipoise.errors import DataError, LeakageError
from equipoise.learners.normalise import LIMIT, Normaliser
from equipoise.testing.disc_cases import disc_case, patients

SPLIT = Split(patients(0, 1), patients(10), patients(20))


def test_an_image_is_centred_whatever_its_scale() -> None:
    array = rng_for(0, "n").normal(500.0, 40.0, (2, 64, 64, 4))
    out = Normaliser()(array)
    assert out.dtype == np.float32
    # Cutting a Gaussian at its 0.5 and 99.5 percentile leaves 0.9909 of its spread.
    np.testing.assert_allclose(out.mean((1, 2, 3)), 0, atol=0.02)
    np.testing.assert_allclose(out.std((1, 2, 3)), 1 / 0.9909, atol=0.005)
    np.testing.assert_allclose(Normaliser()(3 * array + 1000), out, atol=1e-4)


def test_empty_background_does_not_move_the_statistics() -> None:
    array = np.zeros((1, 64, 64, 1))
    array[:, 16:48, 16:48] = rng_for(0, "n").normal(500.0, 40.0, (1, 32, 32, 1))
    out = Normaliser()(array)[:, 16:48, 16:48]
    assert abs(out.mean()) < 0.02
    assert out.std() == pytest.approx(1 / 0.9909, abs=0.01)


def test_a_constant_image_becomes_zero_and_an_outlier_is_cut() -> None:
    assert not Normaliser()(np.full((1, 8, 8, 1), 37.0)).any()
    array = rng_for(0, "n").normal(0.0, 1.0, (1, 64, 64, 1))
    array[0, 0, 0, 0] = 1e9
    assert Normaliser()(array).max() == LIMIT


def test_a_window_maps_its_bounds_to_one() -> None:
    hounsfield = np.array([-3000.0, -160.0, 40.0, 240.0, 3000.0]).reshape(1, 5, 1, 1)
    np.testing.assert_allclose(Normaliser.of_window(-160, 240)(hounsfield).ravel(), [-1, -1, 0, 1, 1], atol=1e-6)


def test_fitted_constants_are_those_of_the_training_cases() -> None:
    cases = [disc_case(0), disc_case(1)]
    fitted = Normaliser.fit(cases, SPLIT)
    assert fitted.parents == patients(0, 1)
    values = np.concatenate([case.image.array.ravel() for case in cases]).astype(float)
    low, high = np.percentile(values, (0.5, 99.5))
    cut = np.clip(values, low, high)
    np.testing.assert_allclose([fitted.mean[0], fitted.sd[0]], [cut.mean(), cut.std()], rtol=1e-6)
    # Unlike a z-score per image, it keeps that one scan is brighter than another.
    dark, bright = (fitted(cases[0].image.array + shift) for shift in (0, 20))
    assert bright.mean() > dark.mean() + 0.1


def test_a_held_out_or_unpaid_patient_fits_no_normaliser() -> None:
    with pytest.raises(LeakageError, match="the normaliser"):
        Normaliser.fit([disc_case(0), disc_case(20)], SPLIT)


def test_what_is_no_number_is_refused_by_name() -> None:
    case = disc_case(0)
    array = np.array(case.image.array)
    array[0, :3, 0, 0] = np.nan
    with pytest.raises(DataError, match=r"case-0.* 3 voxel"):
        Normaliser.fit([dataclasses.replace(case, image=Image(array, unit="px"))], SPLIT)

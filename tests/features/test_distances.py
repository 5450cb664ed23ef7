"""Distances between sets of features, against closed forms and by what they must tell apart."""

from __future__ import annotations

import numpy as np
import pytest

from equipoise.core import rng_for
from equipoise.errors import DataError
from equipoise.features.distances import frechet_distance, kernel_distance, manifold, spread


def _normal(n, d=6, mean=0.0, sd=1.0, seed=0):
    return mean + sd * rng_for(seed, n, d).standard_normal((n, d))


def test_frechet_distance_of_normal_sets_is_the_closed_form():
    mean, sd, d = 0.7, 1.8, 4
    found = frechet_distance(_normal(200_000, d, seed=1), _normal(200_000, d, mean, sd, seed=2))
    assert found == pytest.approx(d * (mean**2 + (sd - 1) ** 2), rel=0.01)


def test_frechet_distance_is_zero_only_for_the_same_set():
    x = _normal(50)
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(x, x + 0.1) == pytest.approx(6 * 0.01, rel=1e-6)


def test_kernel_distance_is_unbiased_at_any_size():
    """Where both sets come from one distribution the mean over many draws is 0, also with eight images."""
    draws = [kernel_distance(_normal(8, seed=s), _normal(12, seed=1000 + s)) for s in range(600)]
    error = np.std(draws) / np.sqrt(len(draws))
    assert abs(np.mean(draws)) < 3 * error
    assert np.std(draws) < 1.0


def test_kernel_distance_grows_with_the_gap():
    x = _normal(100, seed=3)
    gaps = [kernel_distance(x, _normal(100, mean=m, seed=4)) for m in (0.0, 0.3, 1.0)]
    assert gaps[0] < gaps[1] < gaps[2]


def test_manifold_tells_fidelity_from_diversity():
    real = _normal(300, seed=5)
    alike = manifold(real, _normal(300, seed=6))
    collapsed = manifold(real, _normal(300, sd=0.05, seed=7))
    far = manifold(real, _normal(300, mean=9, seed=8))
    assert min(alike.precision, alike.recall) > 0.85
    assert alike.density == pytest.approx(1, abs=0.15)
    assert collapsed.precision > 0.95
    assert max(collapsed.recall, collapsed.coverage) < 0.2
    assert far.precision == far.recall == far.density == far.coverage == 0


def test_spread_of_two_points_is_their_distance():
    assert spread(np.array([[0.0, 0.0], [3.0, 4.0]])) == pytest.approx(5)
    assert spread(np.ones((4, 3))) == 0


@pytest.mark.parametrize("measure", [kernel_distance, frechet_distance, manifold])
@pytest.mark.parametrize("shapes", [((1, 3), (5, 3)), ((5, 3), (5, 4)), ((5,), (5, 3))])
def test_sets_that_cannot_be_compared_are_refused(measure, shapes):
    with pytest.raises(DataError, match="at least two rows"):
        measure(*(np.zeros(s) for s in shapes))


def test_too_few_images_for_a_neighbourhood_are_refused():
    with pytest.raises(DataError, match="more than 5"):
        manifold(_normal(5), _normal(9))

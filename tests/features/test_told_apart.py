from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from equipoise.core import Case, Image, Origin, rng_for
from equipoise.errors import DataError
from equipoise.features import FEATURES_PER_CHANNEL, features_of, normalised, patches_of, tell_apart


def _case(name: str, grain: float, simulated: bool, channels: int = 1, gain: float = 1.0, patient: str = "") -> Case:
    rng = rng_for(0, name)
    field = ndimage.gaussian_filter(rng.standard_normal((channels, 80, 72)), (0, grain, grain))
    origin = Origin("synthetic", "toy") if simulated else Origin()
    return Case(name, patient or name, Image((gain * field)[..., None].astype(np.float32)), origin=origin)


def _told(real_grain: float, made_grain: float, n: int = 24, **more):
    real = [_case(f"r{i}", real_grain, False, **more) for i in range(n)]
    made = [_case(f"s{i}", made_grain, True, **more) for i in range(n)]
    return tell_apart(real, made, rng_for(0, "t"), side=48, count=4)


def test_another_grain_is_told_apart():
    found = _told(1.0, 1.6)
    assert found.auc > 0.95
    assert found.low <= found.auc <= found.high
    assert (found.real, found.simulated) == (24, 24)


def test_the_same_process_is_not():
    """One AUC of 20 against 20 has an SD of about 0.09 under the null, four of them one of 0.045."""
    found = []
    for again in range(4):
        real = [_case(f"r{i}-{again}", 1.2, False) for i in range(20)]
        made = [_case(f"s{i}-{again}", 1.2, True) for i in range(20)]
        found.append(tell_apart(real, made, rng_for(again, "t"), side=48, count=2).auc)
    assert np.mean(found) == pytest.approx(0.5, abs=0.15)


def test_gain_and_offset_are_no_clue():
    """They are set by whoever looks; the images are compared as shown."""
    a, b = _case("a", 1.0, False), _case("a", 1.0, False, gain=7.0)
    np.testing.assert_allclose(normalised(a.image), normalised(b.image), atol=1e-5)


def test_a_patient_is_never_on_both_sides():
    """Two images of one patient: if the fold split them, the twin would give the answer away."""
    real = [_case(f"r{i}-{eye}", 1.0 + 0.02 * i, False, patient=f"p{i}") for i in range(6) for eye in "LR"]
    made = [_case(f"s{i}", 1.3, True) for i in range(12)]
    assert 0 <= tell_apart(real, made, rng_for(0, "t"), side=48, count=2).auc <= 1
    with pytest.raises(DataError, match="at least 5 patients"):
        tell_apart(real[:8], made, rng_for(0, "t"), side=48)


def test_colours_add_their_correlations():
    patch = patches_of(_case("c", 1.0, False, channels=3).image, 48, 2, rng_for(0, "p"))[0]
    values = features_of(patch)
    assert values.shape == (3 * FEATURES_PER_CHANNEL + 3,)
    assert np.isfinite(values).all()
    same = features_of(np.repeat(patch[:1], 3, axis=0))
    np.testing.assert_allclose(same[-3:], 1, atol=1e-6)


def test_an_empty_patch_has_features_too():
    assert np.isfinite(features_of(np.zeros((3, 32, 32)))).all()


def test_refuses_patches_larger_than_the_image():
    with pytest.raises(DataError, match="has no patch of 100"):
        patches_of(_case("a", 1.0, False).image, 100, 1, rng_for(0, "p"))

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from equipoise.core import rng_for
from equipoise.learners.sliding_window import blending, predict_windows, starts

LENGTHS = st.tuples(st.integers(1, 40), st.integers(1, 40), st.integers(1, 9))


@settings(max_examples=40, deadline=None)
@given(LENGTHS, st.tuples(st.integers(1, 17), st.integers(1, 17), st.integers(1, 5)), st.floats(0, 0.8))
def test_a_network_that_copies_gives_the_image_back(
    shape: tuple[int, int, int], window: tuple[int, int, int], overlap: float
) -> None:
    # Any blending of equal values is that value, so windows, padding and cropping must all be in their place.
    image = rng_for(0, "window").normal(size=(2, *shape)).astype(np.float32)
    out = predict_windows(image, window, overlap, 3, 2, lambda patches: patches)
    assert out.dtype == np.float32
    # A voxel in m windows is m products, m - 1 sums of terms of one sign, m - 1 sums of weights and a quotient: at most
    # 2m roundings of half an ulp each (Higham, Accuracy and Stability of Numerical Algorithms, lemma 3.1).
    most = np.prod([covering(n, w, overlap) for n, w in zip(shape, window, strict=True)])
    rounding = 2 * most * 2.0**-24
    np.testing.assert_allclose(out, image, rtol=rounding / (1 - rounding), atol=0)


def covering(length: int, window: int, overlap: float) -> int:
    """Return the largest number of windows that share a place of an axis."""
    first = np.array(starts(length, window, overlap))
    return max(int(((first <= place) & (place < first + window)).sum()) for place in range(max(length, window)))


@given(st.integers(1, 500), st.integers(1, 100), st.floats(0, 0.9))
def test_windows_cover_an_axis_with_the_overlap_asked_for(length: int, window: int, overlap: float) -> None:
    first = starts(length, window, overlap)
    assert first[0] == 0
    if length > window:
        assert first[-1] == length - window
        assert max(np.diff(first)) <= max(window * (1 - overlap), 1)


def test_the_centre_of_a_window_counts_most() -> None:
    weight = blending((9, 9, 1))
    assert weight.max() == weight[4, 4, 0]
    assert weight.min() > 0
    # Two windows disagree: between their centres the answer goes over from one to the other without a step.
    answers = iter(np.arange(2, dtype=np.float32))
    line = predict_windows(
        np.zeros((1, 24, 1, 1), np.float32), (16, 1, 1), 0.5, 1, 1, lambda p: np.full_like(p, next(answers))
    )[0, :, 0, 0]
    assert np.all(np.diff(line) >= 0)
    assert line[0] == 0
    assert line[-1] == 1
    assert line[11:13].mean() == pytest.approx(0.5, abs=1e-6)

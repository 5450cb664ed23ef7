"""Hand-made features of patches: grey values, sharpness, grain, direction and colour.

None of them knows what is shown. They are what a physicist would look at to tell one scanner, or a simulation, from
another.
"""

from __future__ import annotations

import numpy as np
from scipy import fft, ndimage

from equipoise.core import Image
from equipoise.errors import DataError

QUANTILES = (0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99)
SCALES = (0.7, 1.4, 2.8, 5.6)
"""Of the band-pass filters, in pixels."""
RINGS = 8
"""Of the power spectrum, equally wide in the logarithm of the frequency."""
LAGS = (1, 2, 4)

FEATURES_PER_CHANNEL = len(QUANTILES) + 3 * (len(SCALES) - 1) + RINGS + 2 * len(LAGS) + 3
"""Values, bands, spectrum, grain along both axes, and moments."""


def normalised(image: Image) -> np.ndarray:
    """Return the image with its 0.5th and 99.5th percentile at 0 and 1, float32, shape ``(C, I, J, K)``.

    One scale for all channels, as a viewer would show it; colours keep their relation.
    """
    array = np.asarray(image.array, np.float32)
    if not np.isfinite(array).all():
        raise DataError("the image holds NaN or infinite values", fix="repair it or leave it out")
    low, high = np.quantile(array, [0.005, 0.995])
    shown: np.ndarray = np.clip((array - low) / max(float(high - low), 1e-6), 0, 1)
    return shown


def patches_of(image: Image, side: int, count: int, rng: np.random.Generator) -> np.ndarray:
    """Return square patches of a normalised image, float32, shape ``(count, C, side, side)``.

    Parameters
    ----------
    image
        At least ``side`` voxels along I and J. Of a volume, slices across K are taken.
    side
        In pixels, at native spacing.
    count
        How many; they may overlap. A patch that shows one value only (the surround of a photograph) is drawn again
        where there is another.
    rng
        Places them.
    """
    array = normalised(image)
    _, i, j, k = array.shape
    if min(i, j) < side:
        raise DataError(f"an image of {i} x {j} pixels has no patch of {side}", fix=f"take patches of {min(i, j)}")
    found = []
    for _ in range(count):
        for _ in range(8):
            a, b, c = (int(rng.integers(n)) for n in (i - side + 1, j - side + 1, k))
            patch = array[:, a : a + side, b : b + side, c]
            if patch.std() > 0.02:
                break
        found.append(patch)
    return np.stack(found)


def features_of(patch: np.ndarray) -> np.ndarray:
    """Return the features of a patch.

    Parameters
    ----------
    patch
        Shape ``(C, I, J)``, values from 0 to 1.

    Returns
    -------
    np.ndarray
        float64, shape ``(C * FEATURES_PER_CHANNEL + C * (C - 1) // 2,)``: the channels', then their correlations.
    """
    own = [_of_channel(channel.astype(np.float64)) for channel in patch]
    together = np.corrcoef(patch.reshape(len(patch), -1) + 1e-6 * _ramp(patch.shape))
    pairs = np.atleast_2d(together)[np.triu_indices(len(patch), 1)]
    return np.concatenate([*own, pairs])


def _ramp(shape: tuple[int, ...]) -> np.ndarray:
    """Return a faint ramp: a channel of one value has no correlation otherwise."""
    return np.broadcast_to(np.linspace(0, 1, int(np.prod(shape[1:]))), (shape[0], int(np.prod(shape[1:]))))


def _of_channel(p: np.ndarray) -> np.ndarray:
    soft = [ndimage.gaussian_filter(p, s, mode="mirror") for s in SCALES]
    bands = [a - b for a, b in zip([p, *soft[:-2]], soft[:-1], strict=True)]
    spread = [max(float(b.std()), 1e-6) for b in bands]
    # Heavy tails in a band are edges and specks; a Gaussian grain has 3, and its middle half ends at 0.6745 SD.
    tails = [np.log(max(float((b**4).mean()) / s**4, 1e-6)) for b, s in zip(bands, spread, strict=True)]
    calm = [float(np.median(np.abs(b))) / s for b, s in zip(bands, spread, strict=True)]
    centred = p - p.mean()
    grain = [_tied(centred, lag, axis) for axis in (0, 1) for lag in LAGS]
    shape = [float(p.std()), _skew(centred), float(np.abs(np.diff(p, axis=0)).mean() + 1e-6)]
    shape[2] = float(np.log(shape[2] / (np.abs(np.diff(p, axis=1)).mean() + 1e-6)))
    return np.concatenate([np.quantile(p, QUANTILES), np.log(spread), tails, calm, _spectrum(centred), grain, shape])


def _tied(centred: np.ndarray, lag: int, axis: int) -> float:
    a, b = (
        np.take(centred, range(*ends), axis) for ends in ((lag, centred.shape[axis]), (0, centred.shape[axis] - lag))
    )
    return float((a * b).mean() / max(float(centred.var()), 1e-9))


def _skew(centred: np.ndarray) -> float:
    return float((centred**3).mean() / max(float(centred.std()) ** 3, 1e-9))


def _spectrum(centred: np.ndarray) -> np.ndarray:
    """Return the logarithm of the power in rings of the frequency, as shares of the whole."""
    i, j = centred.shape
    window = np.hanning(i + 2)[1:-1, None] * np.hanning(j + 2)[1:-1]
    power = np.abs(fft.rfft2(centred * window)) ** 2
    frequency = np.hypot(fft.fftfreq(i)[:, None], fft.rfftfreq(j))
    ring = np.digitize(frequency, np.geomspace(1.5 / max(i, j), 0.5, RINGS)) - 1
    sums = np.bincount(np.clip(ring, 0, RINGS - 1).ravel(), power.ravel(), RINGS)
    return np.log(np.maximum(sums / max(float(sums.sum()), 1e-12), 1e-8))

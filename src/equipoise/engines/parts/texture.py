"""The texture of tissue: how strongly neighbouring voxels go together, measured on images and drawn again.

References
----------
Burgess AE, Jacobson FL, Judy PF. Human observer detection experiments with mammograms and power-law noise. Med Phys
2001;28:419-437. doi:10.1118/1.1355308
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import fft

BINS = 32
"""Of the radial frequency, from 0 to 0.5 cycles per voxel; what lies in the corners beyond belongs to the last."""

LEAST = 1e-4
"""Share of the mean power that every bin has at least, so that none is exactly empty."""


@dataclass(frozen=True, eq=False)
class Texture:
    """Radial power spectrum of a stationary field of unit variance.

    Parameters
    ----------
    power
        Power per bin of the radial frequency in cycles per voxel, shape ``(BINS,)``; the mean over all bins' voxels of
        a grid is 1 after `draw` has normalised it.
    """

    power: np.ndarray

    def draw(self, shape: tuple[int, int, int], count: int, rng: np.random.Generator) -> np.ndarray:
        """Return ``count`` independent fields of mean 0 and variance 1, float32, shape ``(count, *shape)``.

        The fields are periodic on a slightly larger grid, of which a piece is returned, so that opposite borders are
        not tied to each other.
        """
        wide = tuple(1 if n == 1 else fft.next_fast_len(n + min(n, 2 * BINS), real=True) for n in shape)
        # Of a real field half of the spectrum is stored: along the last axis that is longer than one voxel.
        axes = tuple(axis + 1 for axis, n in enumerate(wide) if n > 1)
        bins = _bins(wide, half=axes[-1] - 1 if axes else None)
        gain = np.sqrt(self.power[bins]).astype(np.float32)
        whole = np.sqrt(self.power[_bins(wide)].mean(dtype=np.float64))
        white = rng.standard_normal((count, *wide), np.float32)
        if axes:
            white = fft.irfftn(fft.rfftn(white, axes=axes) * gain, s=[wide[a - 1] for a in axes], axes=axes)
        i, j, k = shape
        field: np.ndarray = white[:, :i, :j, :k] / np.float32(whole)
        return np.ascontiguousarray(field, np.float32)


def measure_texture(fields: Sequence[np.ndarray], known: Sequence[np.ndarray]) -> Texture:
    """Return the mean texture of some fields.

    Parameters
    ----------
    fields
        float32, shape ``(C, I, J, K)``, of mean 0 and variance 1 where known.
    known
        Bool, shape ``(I, J, K)``: where each field was measured; elsewhere it is taken as 0, and the loss of power is
        made up for.
    """
    total, weight = np.zeros(BINS), np.zeros(BINS)
    for field, where in zip(fields, known, strict=True):
        share = float(where.mean())
        if share == 0:
            continue
        window = np.ones(1)
        for axis, n in enumerate(where.shape):
            taper = np.hanning(n + 2)[1:-1] if n > 1 else np.ones(1)
            window = window * taper.reshape([-1 if a == axis else 1 for a in range(3)])
        seen = field * where * window
        power = (np.abs(fft.fftn(seen, axes=(1, 2, 3))) ** 2).mean(axis=0) / max(float((where * window**2).sum()), 1e-9)
        bins = _bins(where.shape).ravel()
        total += np.bincount(bins, power.ravel(), BINS)
        weight += np.bincount(bins, minlength=BINS)
    if not weight.any() or total.sum() <= 0:
        return Texture(np.ones(BINS))
    filled = weight > 0
    mean = np.interp(np.arange(BINS), np.arange(BINS)[filled], total[filled] / weight[filled])
    return Texture(np.maximum(mean, LEAST * mean.mean()))


def _bins(shape: Sequence[int], half: int | None = None) -> np.ndarray:
    """Return the bin of every frequency of a grid; along axis ``half`` only those that a real field stores."""
    squared = np.zeros((1, 1, 1))
    for axis, n in enumerate(shape):
        frequency = fft.rfftfreq(n) if axis == half else fft.fftfreq(n)
        squared = squared + frequency.reshape([-1 if a == axis else 1 for a in range(3)]) ** 2
    found: np.ndarray = np.minimum((np.sqrt(squared) * 2 * BINS).astype(np.intp), BINS - 1)
    return found

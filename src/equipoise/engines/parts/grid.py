"""The grid that anatomy is drawn on, and a random field with the spectrum of anatomical background."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.fft


@dataclass(frozen=True)
class Grid:
    """Voxel centres about the origin.

    Parameters
    ----------
    shape
        ``(I, J, K)``.
    voxel
        Size along I, J, K in mm.
    """

    shape: tuple[int, int, int]
    voxel: tuple[float, float, float]

    @property
    def half(self) -> np.ndarray:
        """Half the extent along I, J, K in mm."""
        return np.array(self.shape) * self.voxel / 2

    def axis(self, k: int) -> np.ndarray:
        """Return the coordinates along one axis in mm."""
        return (np.arange(self.shape[k]) - (self.shape[k] - 1) / 2) * self.voxel[k]


def power_law(grid: Grid, exponent: float, longest: float, rng: np.random.Generator) -> np.ndarray:
    """Return a Gaussian random field of mean 0 and variance 1, power ~ 1/(f² + 1/longest²)^(exponent/2), float32.

    Such spectra describe anatomical background (Burgess et al., Med Phys 2001, doi:10.1118/1.1355308).
    """
    f = [scipy.fft.fftfreq(n, d) for n, d in zip(grid.shape, grid.voxel, strict=True)]
    half = np.abs(f[1][: grid.shape[1] // 2 + 1])  # the real transform keeps half of the second axis
    f2 = f[0][:, None, None] ** 2 + half[None, :, None] ** 2 + f[2][None, None] ** 2
    gain = ((f2 + longest**-2.0) ** (-exponent / 4)).astype(np.float32)
    # Divided by its expected, not its sample, spread: a small grid may hold a calm or a restless piece of lung.
    twice = np.where((half == 0) | (2 * np.arange(len(half)) == grid.shape[1]), 1, 2)[None, :, None]
    gain /= np.sqrt((gain**2 * twice).sum() / np.prod(grid.shape))
    axes = (0, 2, 1)
    spectrum = scipy.fft.rfftn(rng.standard_normal(grid.shape, np.float32), axes=axes) * gain
    return np.asarray(scipy.fft.irfftn(spectrum, s=[grid.shape[k] for k in axes], axes=axes), np.float32)


__all__ = ["Grid", "power_law"]

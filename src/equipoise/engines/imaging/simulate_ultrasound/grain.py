"""The grain of real speckle: how fine it is and how much of its contrast the scanner's filter left.

A picture is compared with a ruler: even tissue shown by the engine's own chain with known grains and filters. What
sampling, filter and scan conversion do to the grain they do to both alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from scipy import ndimage

from equipoise.core import rng_for
from equipoise.engines.imaging.simulate_ultrasound.beams import BeamGrid
from equipoise.engines.imaging.simulate_ultrasound.bmode import Strengths, displayed, independent_fields, speckled
from equipoise.engines.imaging.simulate_ultrasound.display import SLIDERS, decompress
from equipoise.engines.imaging.simulate_ultrasound.geometry import STRAIGHT, Sector
from equipoise.engines.imaging.simulate_ultrasound.scanners import Acquisition
from equipoise.engines.imaging.simulate_ultrasound.speckle import Beam

LOOKS = 2
"""Looks that are taken to be compounded in real pictures; what contrast they still have too much, the filter takes."""
SILENT_DB = -90.0
"""Level of what a learned picture already contains, and is not added twice."""
LEARNED_RANGE_DB = 60.0
"""Dynamic range that is assumed of pictures that were learned from: only differences of grey values count."""
RULER_PX = (0.35, 0.5, 0.65, 0.8, 1.0, 1.3, 1.7, 2.2, 3.0)
"""Grains that are told apart, as the standard deviation of the point-spread function in pixels."""
RULER_KEPT = (1.0, 0.6, 0.3)
"""Shares of the speckle's contrast in dB that a filter leaves; between them, contrast is in proportion."""
STRETCH = 1.45
"""Factor by which a contrast may lie beside the ruler's: its steps are twice as far apart."""
RULER_SIDE = 80
HIGH_PASS_PX = 1.5
"""Standard deviation of the mean that is taken off before the grain is measured: anatomy is coarser."""
LEAST_CONTRAST = 0.1
FEWEST_PX = 400
"""Pixels of even tissue from which a grain is measured."""


@dataclass(frozen=True)
class Grain:
    """Speckle of one training picture.

    Parameters
    ----------
    across, along
        Standard deviation of the point-spread function in pixels, along I and J.
    contrast
        Share of the contrast in dB of `LOOKS` looks of fully developed speckle that the filter leaves.
    """

    across: float
    along: float
    contrast: float

    def given_to(self, acquisition: Acquisition, pixel: tuple[float, float]) -> Acquisition:
        """Return the acquisition with this grain on pixels of a size in mm, and nothing that a picture shows beside."""
        sharp = replace(acquisition.beam, widen=(1.0, 1.0))
        middle = float(sharp.lateral_sd_mm(np.array([acquisition.sector.depth / 2]))[0])
        return replace(
            acquisition,
            beam=replace(sharp, widen=(self.along * pixel[1] / sharp.axial_sd_mm, self.across * pixel[0] / middle)),
            tgc=0.0,
            sliders_db=np.zeros(SLIDERS),
            dynamic_range_db=LEARNED_RANGE_DB,
            gamma=1.0,
            looks=LOOKS,
            speckle=self.contrast,
            noise_db=SILENT_DB,
            clutter_db=SILENT_DB,
            reverberation_db=SILENT_DB,
        )


@dataclass(frozen=True, eq=False)
class Ruler:
    """What speckle of some grains shows.

    Parameters
    ----------
    grains
        What was shown.
    kept
        Correlation of neighbours along I and J, shape ``(N, 2)``.
    spread
        Standard deviation in dB, shape ``(N,)``.
    """

    grains: tuple[Grain, ...]
    kept: np.ndarray
    spread: np.ndarray

    def read(self, kept: tuple[float, float], spread: float) -> Grain:
        """Return the grain that shows such correlations and such a standard deviation."""
        # What the filter's share makes up for costs nothing; a tenth of contrast beyond it costs as 0.1 of correlation.
        beyond = np.maximum(np.abs(np.log(self.spread / max(spread, 1e-3))) - np.log(STRETCH), 0)
        far = ((self.kept - np.array(kept)) ** 2).sum(axis=1) + beyond**2
        nearest = int(np.argmin(far))
        grain = self.grains[nearest]
        contrast = float(np.clip(grain.contrast * spread / self.spread[nearest], LEAST_CONTRAST, 1))
        return replace(grain, contrast=contrast)


def grain_of(level_db: np.ndarray, seen: np.ndarray) -> Grain:
    """Return the grain of a picture's speckle from what neighbouring pixels have in common where tissue is even.

    Parameters
    ----------
    level_db
        dB above black, shape ``(I, J)``.
    seen
        The fan.
    """
    smooth = ndimage.gaussian_filter(level_db, HIGH_PASS_PX)
    tissue = ndimage.binary_erosion(seen, iterations=5) & (smooth > 8) & (smooth < level_db.max() - 2)
    return ruler().read(*likeness(level_db, tissue)) if tissue.sum() >= FEWEST_PX else Grain(1.0, 1.0, 0.6)


@cache
def ruler() -> Ruler:
    """Return what even tissue of known grain shows to `grain_of`: a table of the engine's own, the same for all."""
    grains = tuple(Grain(i, j, kept) for i in RULER_PX for j in RULER_PX for kept in RULER_KEPT)
    inner = np.zeros((RULER_SIDE, RULER_SIDE), bool)
    inner[8:-8, 8:-8] = True
    measured = [likeness(level, inner) for level in even_tissue(grains, rng_for(0, "ruler of grain"))]
    return Ruler(grains, np.array([kept for kept, _ in measured]), np.array([spread for _, spread in measured]))


def even_tissue(grains: Iterable[Grain], rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Yield pictures of even tissue in dB, shape ``(RULER_SIDE, RULER_SIDE)``."""
    side = float(RULER_SIDE)
    plain = Acquisition(
        scanner="linear 7.5 MHz", sector=Sector(side / 2, 0.0, STRAIGHT, -side / 2, side / 2, side),
        beam=Beam(7.5, 0.65, 2.0, side, side / 2, 3.0), tgc=0.0, sliders_db=np.zeros(SLIDERS),
        gain_db=LEARNED_RANGE_DB / 2, dynamic_range_db=LEARNED_RANGE_DB, gamma=1.0, looks=LOOKS, speckle=1.0,
        noise_db=SILENT_DB, clutter_db=SILENT_DB, reverberation_db=SILENT_DB, reverberation_mm=1.0, scatterers=30.0,
        elevation_mm=1.0,
    )  # fmt: skip
    for grain in grains:
        shot = grain.given_to(plain, (1.0, 1.0))
        grid = BeamGrid.of(shot, (RULER_SIDE, RULER_SIDE), (1.0, 1.0))
        even = Strengths(np.ones(grid.shape, np.float32), np.zeros(grid.shape, np.float32))
        looks = [speckled(even, shot, grid, 0.0, independent_fields(shot, grid, rng)) for _ in range(LOOKS)]
        yield decompress(displayed(looks, even, shot, grid, rng), LEARNED_RANGE_DB, 1.0)


def likeness(level_db: np.ndarray, tissue: np.ndarray) -> tuple[tuple[float, float], float]:
    """Return the correlation of neighbours along I and J, and the standard deviation, after a high pass.

    Of the calmest quarter of the tissue: where there are edges and bright lines, there is not only grain.
    """
    rest = np.clip(level_db - ndimage.gaussian_filter(level_db, HIGH_PASS_PX), -20, 20)
    busy = ndimage.gaussian_filter(rest**2, 2 * HIGH_PASS_PX)
    calm = tissue & (busy <= np.percentile(busy[tissue], 25))
    variance = float(np.mean(rest[calm] ** 2)) + 1e-6
    kept = []
    for axis in range(2):
        both = calm & np.roll(calm, -1, axis)
        kept.append(float(np.mean((rest * np.roll(rest, -1, axis))[both])) / variance)
    return (kept[0], kept[1]), float(np.sqrt(variance))


__all__ = ["LEARNED_RANGE_DB", "LOOKS", "SILENT_DB", "Grain", "Ruler", "even_tissue", "grain_of", "likeness", "ruler"]

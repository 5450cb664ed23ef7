"""The grid on which a B-mode picture is computed: samples along beams, as fine as pulse and pixels need."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from equipoise.engines.imaging.simulate_ultrasound.scanners import Acquisition

FEWEST_BEAMS, MOST_BEAMS = 64, 320


@dataclass(frozen=True, eq=False)
class BeamGrid:
    """The samples of all beams, and where the picture's pixels lie between them.

    Parameters
    ----------
    depths
        Along the beams, mm; sample k at ``(k + 0.5) * step``.
    step
        mm.
    x, y
        Place of each sample in the picture, mm, shape ``(samples, beams)``.
    share, depth
        Place of each pixel between the beams, see `Sector.beams_of`.
    pixel
        Size of a pixel along I and J, mm.
    reach
        Length of the beams, mm.
    """

    depths: np.ndarray
    step: float
    x: np.ndarray
    y: np.ndarray
    share: np.ndarray
    depth: np.ndarray
    pixel: tuple[float, float]
    reach: float

    @property
    def shape(self) -> tuple[int, int]:
        """Samples and beams."""
        return self.x.shape[0], self.x.shape[1]

    @cached_property
    def seen(self) -> np.ndarray:
        """The pixels that lie in the field of view, bool, shape ``(I, J)``."""
        inside: np.ndarray = (self.share >= 0) & (self.share <= 1) & (self.depth >= 0) & (self.depth <= self.reach)
        return inside

    @classmethod
    def of(cls, acquisition: Acquisition, shape: tuple[int, int], pixel: tuple[float, float]) -> BeamGrid:
        """Return a grid as fine as the point-spread function and the pixels need, not finer."""
        sector, beam = acquisition.sector, acquisition.beam
        step = float(np.clip(1.2 * beam.axial_sd_mm, pixel[1] / 2.5, pixel[1]))
        samples = max(int(np.ceil(sector.depth / step)), 16)
        depths = (np.arange(samples) + 0.5) * step
        finest = max(float(beam.lateral_sd_mm(depths).min()), 0.8 * pixel[0])
        count = int(np.clip(np.ceil(sector.width_at(0.7 * sector.depth) / finest), FEWEST_BEAMS, MOST_BEAMS))
        return cls(depths, step, *sector.places_of(count, depths), *sector.beams_of(shape, pixel), pixel, sector.depth)

    def pitch(self, acquisition: Acquisition) -> np.ndarray:
        """Return the distance of beams at each depth, mm."""
        return acquisition.sector.widths_at(self.depths) / self.shape[1]


__all__ = ["BeamGrid"]

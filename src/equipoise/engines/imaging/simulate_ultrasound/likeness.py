"""Pictures like those that were learned from: their outline and grain, their echogenicity, their fan."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from equipoise.core import LabelMap
from equipoise.engines.imaging.simulate_ultrasound.geometry import Sector
from equipoise.engines.imaging.simulate_ultrasound.learned import Learned
from equipoise.engines.imaging.simulate_ultrasound.scanners import Acquisition, with_sector
from equipoise.engines.imaging.simulate_ultrasound.tissues import Scene
from equipoise.engines.parts.placement import Placement

BRIGHT_DB = 15.0
"""Above the median of a picture: what is so bright throws a shadow."""


def learned_scene(
    learned: Learned,
    labels: LabelMap,
    placement: Placement | None,
    acquisition: Acquisition,
    shadow_db_mm: float,
    texture: float,
    rng: np.random.Generator,
) -> Scene:
    """Return a scene of learned echogenicity; what it absorbs is made up for, but for what is very bright."""
    level = learned.tissue.scene(labels, placement, rng, texture)[0]
    bright = level > np.median(level) + BRIGHT_DB
    excess = shadow_db_mm * 10 / (2 * acquisition.beam.frequency_mhz)
    attenuation = np.where(bright, excess, 0).astype(np.float32)
    even = np.ones_like(level)
    return Scene(level - np.float32(acquisition.gain_db), even, attenuation, even)


def alike(
    acquisition: Acquisition,
    learned: Learned,
    source: str,
    labels: LabelMap,
    placement: Placement | None,
    voxel: tuple[float, float, float],
) -> Acquisition:
    """Return the acquisition with outline and grain of a training picture, and without what its levels contain."""
    i, j, _ = labels.geometry.shape
    scale, shift = learned.window(source, (i, j), placement)
    x, y = scale[0] * voxel[0], scale[1] * voxel[1]
    own = learned.outlines[source].sector
    across = x if own.straight else 1.0  # of a fan these are angles, and its picture is scaled evenly
    place = (own.x * x + shift[0] * voxel[0], own.y * y + shift[1] * voxel[1])
    sector = Sector(*place, own.radius * y, own.left * across, own.right * across, own.depth * y)
    return learned.grains[source].given_to(with_sector(acquisition, sector), voxel[:2])


def ignored(labels: LabelMap, outside: np.ndarray) -> LabelMap:
    """Return the label map with what the fan does not show marked as not counting."""
    ignore = np.broadcast_to(outside[None, :, :, None], (1, *labels.geometry.shape)).copy()
    if labels.ignore is not None:
        ignore |= np.asarray(labels.ignore).astype(bool)
    return replace(labels, ignore=ignore)


__all__ = ["alike", "ignored", "learned_scene"]

"""The hidden world: what the lung around a nodule looks like before a scanner sees it.

The shape of every nodule is real, from the readers' outlines. Everything else is drawn: aerated lung, vessels that
branch and cross the slice, airways, chest wall, small opacities that are no nodules. All lengths are in mm, all
densities in HU. The numbers are round figures of chest CT, chosen by eye and by how hard the task is; they are hidden
from the engines and fitted to nothing. They make no CT image, and are evidence of nothing about CT.

References
----------
Hansell DM et al. Fleischner Society: glossary of terms for thoracic imaging.
Radiology 2008. doi:10.1148/radiol.2462070712
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import fft, ndimage

from equipoise.demo.scanner import Scanner
from equipoise.demo.tubes import airways, opacities, spicules, vessels

MARGIN = 8
"""Pixels drawn beyond each side of the picture, for the scanner's filters."""


@dataclass(frozen=True, slots=True, eq=False)
class Finding:
    """One nodule as the world knows it.

    Parameters
    ----------
    density
        Share of each pixel that is nodule, 0 to 1, float, shape ``(I, J)``.
    subtlety, texture, calcification, spiculation
        LIDC ratings: 1 hardly visible to 5 obvious; 1 ground glass to 5 solid; 1 popcorn to 6 none; 1 none to 5 marked.
    """

    density: np.ndarray
    subtlety: float = 4.0
    texture: float = 5.0
    calcification: float = 6.0
    spiculation: float = 1.0


@dataclass(frozen=True, slots=True)
class World:
    """How crowded the lung is and how its nodules look.

    Parameters
    ----------
    crowd
        Number of vessels, airways and other opacities, relative to the world's own.
    wall
        Probability that the chest wall is in the picture.
    grain
        Texture of the aerated lung, relative to the world's own.
    glow
        Added to every nodule, HU.
    """

    crowd: float = 1.0
    wall: float = 0.4
    grain: float = 1.0
    glow: float = 0.0

    def shifted(self, gap: float) -> World:
        """Return a world that is wrong by ``gap``: emptier, smoother, without walls, and its nodules are too bright."""
        keep = max(1 - gap, 0.0)
        return World(self.crowd * keep, self.wall * keep, self.grain * keep, self.glow + 500 * gap)

    def tissue(
        self,
        findings: Sequence[Finding],
        spacing: float,
        thickness: float,
        shape: tuple[int, int],
        rng: np.random.Generator,
    ) -> np.ndarray:
        """Return the HU of one slice before any scanner, shape ``shape`` plus `MARGIN` at each side."""
        inner = [np.pad(f.density, MARGIN, mode="edge") for f in findings]
        shape = (shape[0] + 2 * MARGIN, shape[1] + 2 * MARGIN)
        hu = _lung(shape, spacing, self.grain, rng)
        hu = _haze(hu, spacing, self.crowd, rng)
        enhanced = 110.0 if rng.random() < 0.4 else 0.0
        blood = rng.normal(35, 12) + enhanced
        hu = _mixed(hu, blood, vessels(self.crowd, rng).coverage(shape, spacing, thickness))
        bronchi = airways(self.crowd, rng)
        hu = _mixed(hu, -150, bronchi.coverage(shape, spacing, thickness))
        hu = _mixed(hu, -970, bronchi.coverage(shape, spacing, thickness, share=0.62))
        hu = _mixed(hu, rng.uniform(-250, 40), opacities(self.crowd, rng).coverage(shape, spacing, thickness))
        if rng.random() < self.wall:
            hu = _chest_wall(hu, inner[0] if inner else np.zeros(shape), spacing, rng)
        for finding, density in zip(findings, inner, strict=True):
            hu = _nodule(hu, finding, density, spacing, self.glow, rng)
        return hu

    def picture(
        self,
        findings: Sequence[Finding],
        spacing: float,
        thickness: float,
        scanner: Scanner,
        rng: np.random.Generator,
        shape: tuple[int, int] = (64, 64),
    ) -> np.ndarray:
        """Return simulated CT numbers of one slice.

        Parameters
        ----------
        findings
            The nodules in the picture; their densities have the shape ``shape``. The first one is where a chest wall,
            if there is one, keeps its distance from.
        spacing, thickness
            Pixel size and slice thickness, mm.
        scanner
            Which scanner sees it.
        rng
            Of everything that is drawn.
        shape
            Columns and rows.

        Returns
        -------
        np.ndarray
            Whole HU, float32, shape ``shape``.
        """
        tissue = self.tissue(findings, spacing, thickness, shape, rng)
        # Big patients get less dose at the detector: about a quarter either way.
        return scanner.scan(tissue, spacing, rng, dose=float(rng.lognormal(0, 0.25)), margin=MARGIN)


def _mixed(hu: np.ndarray, other: float | np.ndarray, share: np.ndarray) -> np.ndarray:
    """Return tissue of which ``share`` is replaced."""
    return hu + share * (other - hu)


def _cloud(shape: tuple[int, int], spacing: float, size: float, rng: np.random.Generator) -> np.ndarray:
    """Return a random field of unit variance with structures of about ``size`` mm and finer, shape ``shape``."""
    f = np.hypot(fft.fftfreq(shape[0], spacing)[:, None], fft.rfftfreq(shape[1], spacing)[None])
    field = fft.irfft2(fft.rfft2(rng.standard_normal(shape)) / (1 + (f * size) ** 2) ** 0.9, s=shape)
    unit: np.ndarray = (field - field.mean()) / field.std()
    return unit


def _lung(shape: tuple[int, int], spacing: float, grain: float, rng: np.random.Generator) -> np.ndarray:
    """Return aerated lung: denser towards the back (rows grow downwards, patients lie supine), sometimes emphysema."""
    rows = (np.arange(shape[1]) - shape[1] / 2) * spacing
    hu = rng.normal(-855, 28) + rng.uniform(0, 0.8) * rows[None]
    hu = hu + grain * rng.uniform(10, 24) * _cloud(shape, spacing, 6.0, rng)
    if rng.random() < 0.25:
        holes = 1 / (1 + np.exp(-3 * (_cloud(shape, spacing, 12.0, rng) - 0.8)))
        hu = _mixed(hu, -965, grain * 0.7 * holes)
    return hu


def _haze(hu: np.ndarray, spacing: float, crowd: float, rng: np.random.Generator) -> np.ndarray:
    """Return lung with, in every third picture, a patch of faint density as dependent or poorly aerated lung has."""
    if rng.random() < 0.33 * crowd:
        shape = (hu.shape[0], hu.shape[1])
        patch = 1 / (1 + np.exp(-3 * (_cloud(shape, spacing, 20.0, rng) - 1.1)))
        hu = hu + rng.uniform(60, 260) * patch
    return hu


def _chest_wall(hu: np.ndarray, density: np.ndarray, spacing: float, rng: np.random.Generator) -> np.ndarray:
    """Return lung with chest wall on one side: pleura and muscle, fat, and sometimes a rib.

    The lung is a disc of 60 to 130 mm radius; the nodule keeps 0 to 16 mm from its rim, or touches it.
    """
    shape = (hu.shape[0], hu.shape[1])
    x, y = np.meshgrid(*((np.arange(n) - (n - 1) / 2) * spacing for n in shape), indexing="ij")
    angle = rng.uniform(0, 2 * np.pi)
    u, v = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    solid = density > 0.5
    reach = float(u[solid].max()) if solid.any() else 0.0
    rim = reach + (rng.uniform(-0.5, 1) if rng.random() < 0.4 else rng.uniform(1, 16))
    radius = rng.uniform(60, 130)
    depth = np.hypot(u - rim + radius, v - rng.normal(0, 4)) - radius + 0.4 * _cloud(shape, spacing, 10.0, rng)
    wall = np.clip(depth / spacing + 0.5, 0, 1)
    muscle = rng.uniform(1.5, 7)
    fat = np.clip((depth - muscle) / 2, 0, 1) * (_cloud(shape, spacing, 9.0, rng) > -0.3)
    outside = _mixed(np.full(shape, rng.normal(45, 10)), rng.normal(-95, 8), ndimage.gaussian_filter(fat, 0.7))
    if rng.random() < 0.6:
        middle, turn = rim + muscle + rng.uniform(3, 7), rng.uniform(-18, 18)
        ellipse = np.hypot((u - middle) / rng.uniform(3, 5), (v - turn) / rng.uniform(6, 14))
        outside = _mixed(outside, rng.uniform(450, 800), np.clip((1 - ellipse) * 5 / spacing, 0, 1))
        outside = _mixed(outside, rng.uniform(120, 260), np.clip((0.68 - ellipse) * 5 / spacing, 0, 1))
    return _mixed(hu, outside, wall)


def _nodule(
    hu: np.ndarray, finding: Finding, density: np.ndarray, spacing: float, glow: float, rng: np.random.Generator
) -> np.ndarray:
    """Return tissue with one nodule: ground glass to solid by its texture, fainter the subtler, and its spicules."""
    shape = (hu.shape[0], hu.shape[1])
    solid = np.clip((finding.texture - 1 + rng.normal(0, 0.3)) / 4, 0, 1)
    faint = 45 * (5 - finding.subtlety) * rng.uniform(0.5, 1.5)
    rim = np.interp(solid, [0, 0.5, 1], [-640, -480, 5]) - faint + rng.normal(0, 25)
    core = np.interp(solid, [0, 0.5, 1], [-560, -60, 35]) - 0.5 * faint + rng.normal(0, 25)
    depth = ndimage.distance_transform_edt(density > 0.5) * spacing
    kernel = np.clip((depth / max(float(depth.max()), 1e-6) - rng.uniform(0.3, 0.6)) * 5, 0, 1)
    inside = _mixed(np.full(shape, rim), core, kernel) + 18 * _cloud(shape, spacing, 4.0, rng)
    if finding.calcification < 5.5:
        inside = inside + rng.uniform(100, 450) * kernel * np.clip(_cloud(shape, spacing, 5.0, rng) + 1, 0, 1)
    if finding.spiculation >= 2 and (density > 0.5).any():
        rays = spicules(density, spacing, round(3 * (finding.spiculation - 1)), rng)
        hu = _mixed(hu, rim - 120, 0.8 * rays.coverage(shape, spacing, 1.0))
    return _mixed(hu, np.maximum(inside, hu) + glow, density)

"""From a label map to the HU of every voxel before the scan: labelled structures in drawn surroundings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from scipy import ndimage

from equipoise.engines.imaging.simulate_ct.hounsfield import ENHANCES, STRUCTURES_HU
from equipoise.engines.parts.chest_wall import AIR_HU, FAT_HU, MUSCLE_HU
from equipoise.engines.parts.grid import Grid, power_law
from equipoise.engines.parts.lung import LungModel, Surroundings
from equipoise.engines.parts.vessels import BLOOD_HU

LUNG, VESSEL, WALL = "lung", "vessel", "chest wall"
GROUND_GLASS = "ground-glass nodule"
SUBSOLID = "nodule"
"""The label of which `part_solid` and `ground_glass` shares are drawn as such."""

DENSITIES: Mapping[str, tuple[float, float]] = {
    "nodule": (20.0, 30.0),
    GROUND_GLASS: (-600.0, 70.0),
    VESSEL: (BLOOD_HU, 10.0),
    WALL: (MUSCLE_HU, 10.0),
    "airway": (AIR_HU, 10.0),
    LUNG: (-850.0, 35.0),
}
"""Mean and standard deviation between cases, in HU, where the user states none.

Solid nodules lie above the -160 HU that separate solid from ground-glass parts in mediastinal settings, ground glass
below about -400 (Lee 2018)."""


TABLE_HU: Mapping[str, tuple[float, float]] = {
    **{name: (mean, sd) for name, (mean, sd, _) in STRUCTURES_HU.items()},
    **DENSITIES,
}
"""All structures that are known, with the mean and standard deviation between cases."""


@dataclass(frozen=True)
class Tissues:
    """How dense each structure is, and what its inside and its margin look like.

    Parameters
    ----------
    priors
        Mean and standard deviation between objects by label, in HU.
    levels
        Learned densities of objects by label, in HU; they replace the prior of that label.
    textures
        Learned standard deviations within objects by label, in HU, instead of ``inner_sd``.
    inner_sd, margin_mm, part_solid, ground_glass
        As in `SimulateCT`.
    """

    priors: Mapping[str, Sequence[float]]
    inner_sd: float
    margin_mm: float
    part_solid: float
    ground_glass: float
    levels: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    textures: Mapping[str, tuple[float, ...]] = field(default_factory=dict)

    @property
    def known(self) -> frozenset[str]:
        """The labels whose density is stated or learned."""
        return frozenset({*self.priors, *self.levels})

    def mean_and_sd(self, name: str) -> tuple[float, float]:
        """Return the mean density of a structure and its standard deviation between cases, in HU."""
        if name in self.levels:
            return float(np.mean(self.levels[name])), float(np.std(self.levels[name]))
        mean, sd = self.priors[name]
        return mean, sd

    def enhanced(self, contrast_hu: float) -> Tissues:
        """Return the tissues with contrast medium that adds ``contrast_hu`` to blood."""
        if not contrast_hu:
            return self
        added = {name: ENHANCES.get(name, 0.0) * contrast_hu for name in self.priors}
        return replace(self, priors={name: (pair[0] + added[name], pair[1]) for name, pair in self.priors.items()})

    def level(self, name: str, rng: np.random.Generator) -> float:
        """Draw the mean HU of one object."""
        z = rng.standard_normal()
        if name in self.levels:
            return smoothed(self.levels[name], rng)
        mean, sd = self.priors[name]
        return float(mean + sd * z)

    def share(self, mask: np.ndarray, grid: Grid) -> np.ndarray:
        """Return a mask with its margin blurred in plane."""
        blur = self.margin_mm / grid.voxel[0]
        return np.asarray(ndimage.gaussian_filter(mask.astype(np.float32), (blur, blur, 0)))

    def inside(
        self, name: str, mask: np.ndarray, vessel: np.ndarray, grid: Grid, rng: np.random.Generator
    ) -> np.ndarray:
        """Draw the HU within one object: even with a texture, or for some nodules ground glass, whole or as a rim."""
        texture = power_law(grid, 2.5, 6.0, rng)
        kind, core_share = rng.random(), rng.uniform(0.3, 0.7)
        dense, glass = self.level(name, rng), self.level(GROUND_GLASS, rng)
        solid: np.ndarray = dense + float(rng.choice(self.textures.get(name, (self.inner_sd,)))) * texture
        if name != SUBSOLID or name in self.levels or kind >= self.ground_glass + self.part_solid:
            return solid
        veil = glass + 1.5 * self.inner_sd * texture
        veil = np.asarray(veil + vessel * (BLOOD_HU - veil))  # ground glass does not hide its vessels
        if kind < self.ground_glass:
            return veil
        # The picture's first and last slice are no surface of the nodule: no padding there.
        padded = np.pad(mask, ((1, 1), (1, 1), (0, 0)))
        depth = ndimage.distance_transform_edt(padded, sampling=grid.voxel)[1:-1, 1:-1]
        core = self.share(depth > (1 - core_share) * depth.max(), grid)
        return np.asarray(veil + core * (solid - veil))


def smoothed(values: Sequence[float], rng: np.random.Generator) -> float:
    """Draw from a smoothed bootstrap: one of the values, moved by a Gaussian of Silverman's width."""
    spread = min(float(np.std(values)), float(np.subtract(*np.percentile(values, [75, 25]))) / 1.34 + 1e-9)
    return float(rng.choice(np.asarray(values)) + 0.9 * spread * len(values) ** -0.2 * rng.standard_normal())


def draw_scene(
    instances: Mapping[str, np.ndarray],
    grid: Grid,
    tissues: Tissues,
    lung: LungModel,
    most_planes: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Draw the HU of every voxel before the scan, shape ``(I, J, K)``: the mean over a slice's planes.

    Parameters
    ----------
    instances
        Instance numbers by label, each ``(I, J, K)``; the later label lies on top.
    grid
        With square pixels.
    lung
        What is drawn where nothing is labelled.
    most_planes
        That a slice is averaged from.
    """
    planes = int(np.clip(np.ceil(grid.voxel[2] / grid.voxel[0]), 1, most_planes))
    fine = Grid((*grid.shape[:2], grid.shape[2] * planes), (*grid.voxel[:2], grid.voxel[2] / planes))
    air, blood = tissues.level(LUNG, rng), tissues.level(VESSEL, rng)
    around = _around(instances, fine, lung, rng)
    drawn = air + around.parenchyma
    if VESSEL not in instances:
        drawn = drawn + around.vessel * (blood - drawn)
    if not {WALL, LUNG} & set(instances):
        drawn = drawn + around.wall * (around.tissue - drawn)
    scene: np.ndarray = drawn.reshape(*grid.shape, planes).mean(axis=3)
    vessel = around.vessel.reshape(*grid.shape, planes).mean(axis=3)
    if LUNG in instances:
        scene = _outside(scene, tissues.share(instances[LUNG] > 0, grid), grid, rng)
    for name, numbers in instances.items():
        if name != LUNG:
            for number in np.unique(numbers[numbers > 0]):
                paint(scene, name, numbers == number, vessel, grid, tissues, rng)
    return scene


def _around(instances: Mapping[str, np.ndarray], fine: Grid, lung: LungModel, rng: np.random.Generator) -> Surroundings:
    """Draw what surrounds the labelled objects; they stay free of wall."""
    points, objects = [np.zeros((0, 2))], []
    planes = fine.shape[2] // next(iter(instances.values())).shape[2]
    for name, numbers in instances.items():
        if name in (LUNG, WALL, VESSEL):
            continue
        for number in np.unique(numbers[numbers > 0]):
            at = np.argwhere(numbers == number)
            place = np.column_stack([fine.axis(0)[at[:, 0]], fine.axis(1)[at[:, 1]], fine.axis(2)[at[:, 2] * planes]])
            points.append(place[:, :2])
            radius = np.sqrt(len(at) / len(np.unique(at[:, 2])) / np.pi) * fine.voxel[0]
            objects.append((place.mean(axis=0), float(radius)))
    return lung.draw(fine, np.concatenate(points), objects, rng)


def _outside(scene: np.ndarray, share: np.ndarray, grid: Grid, rng: np.random.Generator) -> np.ndarray:
    """Fill what lies outside a labelled lung with muscle and fat."""
    field_ = power_law(grid, 3.5, 25.0, rng)
    tissue = np.where(field_ > 0.6, FAT_HU, MUSCLE_HU) + 8 * field_
    return np.asarray(tissue + share * (scene - tissue))


def paint(
    scene: np.ndarray,
    name: str,
    mask: np.ndarray,
    vessel: np.ndarray,
    grid: Grid,
    tissues: Tissues,
    rng: np.random.Generator,
) -> None:
    """Draw one object into the scene."""
    at = np.argwhere(mask)
    margin = int(np.ceil(4 * tissues.margin_mm / grid.voxel[0])) + 1
    reach = np.array([margin, margin, 0])
    low, high = at.min(axis=0) - reach, at.max(axis=0) + reach + 1
    box = tuple(slice(max(0, a), b) for a, b in zip(low, high, strict=True))
    mask = mask[box]
    local = Grid((mask.shape[0], mask.shape[1], mask.shape[2]), grid.voxel)
    inner = tissues.inside(name, mask, vessel[box], local, rng)
    scene[box] += tissues.share(mask, local) * (inner - scene[box])


__all__ = [
    "DENSITIES",
    "GROUND_GLASS",
    "LUNG",
    "SUBSOLID",
    "TABLE_HU",
    "VESSEL",
    "WALL",
    "Tissues",
    "draw_scene",
    "paint",
    "smoothed",
]

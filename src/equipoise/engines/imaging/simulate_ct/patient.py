"""What is scanned: a label map as HU on a square whose inscribed circle holds it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from equipoise.core import LabelMap, LabelScheme
from equipoise.engines.imaging.simulate_ct.body import BodyModel, draw_body
from equipoise.engines.imaging.simulate_ct.learned_tissue import LearnedTissue, surrounding_of
from equipoise.engines.imaging.simulate_ct.scan import LUNG_PIECE, WHOLE_PATIENT, Surrounding
from equipoise.engines.imaging.simulate_ct.scene import GROUND_GLASS, SUBSOLID, Tissues, draw_scene, paint
from equipoise.engines.parts.chest_wall import AIR_HU
from equipoise.engines.parts.grid import Grid
from equipoise.engines.parts.lung import LungModel
from equipoise.engines.parts.placement import Placement

CONNECTIVE_HU = -40.0
"""Mean of what lies between organs."""


@dataclass(frozen=True, eq=False)
class Patient:
    """A scene, and where the label map lies in it.

    Parameters
    ----------
    scene
        HU, shape ``(N, N, K)``.
    grid
        Of the scene.
    start
        Of the label map along I and J.
    around
        What the scene is cut out of.
    free
        Where metal would hide nothing that is labelled as a finding, bool, shape ``(N, N, K)``.
    """

    scene: np.ndarray
    grid: Grid
    start: tuple[int, int]
    around: Surrounding
    free: np.ndarray

    def cropped(self, array: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
        """Return the label map's part of an array of the scene's grid, a copy."""
        (i, j), (ni, nj, _) = self.start, shape
        return array[i : i + ni, j : j + nj].copy()


def lung_patient(labels: LabelMap, tissues: Tissues, lung: LungModel, planes: int, rng: np.random.Generator) -> Patient:
    """Draw labelled objects in lung."""
    grid, start, wide = _square(labels)
    instances = {name: np.pad(labels.instances(name), wide) for name in labels.scheme.names}
    scene = draw_scene(instances, grid, tissues, lung, planes, rng)
    free = ~np.any([numbers > 0 for numbers in instances.values()], axis=0)
    return Patient(scene, grid, start, LUNG_PIECE, free)


def body_patient(labels: LabelMap, tissues: Tissues, model: BodyModel, rng: np.random.Generator) -> Patient:
    """Draw a whole body in air, or organs in soft tissue; lung nodules as in lung."""
    drawn, added = rng.spawn(2)
    grid, start, wide = _square(labels, _reach(labels) if model.around == "air" else None)
    if model.around == "air":
        inner = Grid(labels.geometry.shape, grid.voxel)
        scene = np.pad(draw_body(labels, inner, model, drawn), wide, constant_values=np.float32(AIR_HU))
    else:
        voxels = np.pad(labels.array, ((0, 0), *wide))
        padded = LabelMap(voxels, labels.scheme)
        scene = draw_body(padded, grid, model, drawn)
    findings = [name for name in (SUBSOLID, GROUND_GLASS) if name in labels.scheme.names]
    free = scene > AIR_HU + 50
    _paint_all(scene, labels, findings, wide, tissues, grid, added, free)
    around = WHOLE_PATIENT if model.around == "air" else Surrounding(CONNECTIVE_HU)
    return Patient(scene, grid, start, around, free)


def learned_patient(
    labels: LabelMap,
    placement: Placement | None,
    tissue: LearnedTissue,
    tissues: Tissues,
    texture_hu: float,
    rng: np.random.Generator,
) -> Patient:
    """Draw the tissue of the training cases; structures that they do not show as the tables say."""
    drawn, added = rng.spawn(2)
    names = tissue.model.scheme_names
    known = LabelMap.on(
        labels.geometry,
        np.stack([labels.instances(name) for name in names]),
        LabelScheme(tuple(x for n in names for x in labels.scheme.labels if x.name == n), labels.scheme.exclusive),
    )
    patient = picture_patient(tissue.scene(known, placement, texture_hu, drawn), known)
    extra = [name for name in labels.scheme.names if name not in names]
    _paint_all(patient.scene, labels, extra, _square(labels)[2], tissues, patient.grid, added, patient.free)
    return patient


def picture_patient(scene: np.ndarray, labels: LabelMap) -> Patient:
    """Return a scene on a label map's grid, HU, shape ``(I, J, K)``, as a patient; beyond its rim the rim goes on."""
    grid, start, wide = _square(labels)
    free = ~np.pad(labels.masks().any(axis=0), wide)
    narrow = min(n * s for n, s in zip(labels.geometry.shape[:2], labels.spacing, strict=False))
    return Patient(np.pad(scene, wide, mode="edge"), grid, start, surrounding_of(scene, narrow), free)


def _paint_all(
    scene: np.ndarray,
    labels: LabelMap,
    names: list[str],
    wide: tuple[tuple[int, int], ...],
    tissues: Tissues,
    grid: Grid,
    rng: np.random.Generator,
    free: np.ndarray,
) -> None:
    nothing = np.zeros((1, 1, 1), np.float32)
    for name in names:
        numbers = np.pad(labels.instances(name), wide)
        free &= numbers == 0
        for number in np.unique(numbers[numbers > 0]):
            paint(scene, name, numbers == number, np.broadcast_to(nothing, scene.shape), grid, tissues, rng)


def _square(
    labels: LabelMap, reach: float | None = None
) -> tuple[Grid, tuple[int, int], tuple[tuple[int, int], tuple[int, int], tuple[int, int]]]:
    """Return a square grid about a label map, where the map starts in it, and how it is padded."""
    i, j, slices = labels.geometry.shape
    n = 2 * int(np.ceil((np.hypot(i, j) + 8) / 2)) if reach is None else 2 * int(np.ceil(max(i, j, 2 * reach + 6) / 2))
    start = ((n - i) // 2, (n - j) // 2)
    pixel, _, thickness = labels.spacing
    wide = ((start[0], n - i - start[0]), (start[1], n - j - start[1]), (0, 0))
    return Grid((n, n, slices), (pixel, pixel, thickness)), start, wide


def _reach(labels: LabelMap) -> float:
    """Return how far from the middle a label lies in plane, in pixels: the circle that is scanned must hold it."""
    voxels = getattr(labels.voxels, "values", None)
    here = np.any(labels.array.any(axis=0) if voxels is None else np.asarray(voxels) > 0, axis=2)
    at = np.argwhere(here) - (np.array(here.shape) - 1) / 2
    return float(np.hypot(at[:, 0], at[:, 1]).max()) if len(at) else 0.0


__all__ = ["Patient", "body_patient", "learned_patient", "lung_patient", "picture_patient"]

"""From a label map of the body to HU: whole patients with skin and couch, or organs in soft tissue."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from equipoise.core import LabelMap
from equipoise.engines.imaging.simulate_ct.hounsfield import CORTEX_HU, WHOLE_LUNGS, Density
from equipoise.engines.imaging.simulate_ct.small_vessels import add_small_vessels
from equipoise.engines.parts.chest_wall import AIR_HU, FAT_HU
from equipoise.engines.parts.grid import Grid, power_law
from equipoise.engines.parts.value_map import ValueMap, value_map

SKIN_MM, SKIN_HU = 1.8, 20.0
COUCH_GAP_MM, COUCH_SHELL_MM, COUCH_DEPTH_MM, COUCH_RADIUS_MM = 3.0, 2.5, 24.0, 420.0
COUCH_SHELL_HU, COUCH_FOAM_HU = -150.0, -965.0
COUCH_HALF_MM = 210.0
LUMPY = ("body", "breast")
"""Mixtures of fat with vessels, gut and glands, whose lumps are larger than a texture's."""
SHARED = 0.9
"""Correlation of the density of objects of one kind in one patient."""


@dataclass(frozen=True)
class BodyModel:
    """How a body is drawn.

    Parameters
    ----------
    densities
        By label.
    margin_mm
        Standard deviation of the Gaussian that blurs margins.
    lung_sd
        Texture of the parenchyma in HU.
    vessels
        Vessel trees that start in a litre of lung; their small branches bear no label.
    around
        ``"air"`` or ``"soft tissue"``.
    couch
        Whether a couch lies below the patient.
    back
        Along J: 1 where J grows to the patient's back, -1 to the front.
    """

    densities: Mapping[str, Density]
    margin_mm: float
    lung_sd: float
    vessels: float
    around: str
    couch: bool
    back: int


def draw_body(labels: LabelMap, grid: Grid, model: BodyModel, rng: np.random.Generator) -> np.ndarray:
    """Return the HU of every voxel before the scan, float32, shape ``(I, J, K)``."""
    levels, fine, broad, bed, small = rng.spawn(5)
    objects = _objects(labels)
    names, channel = labels.scheme.names, objects.channel
    level, texture = _tables(objects, names, model, levels)
    values = objects.values
    scene = level[values]
    grain = power_law(grid, 2.4, 10.0, fine)
    coarse = np.isin(np.array([*names, ""])[np.append(channel, np.full(256 - len(channel), len(names)))], LUMPY)
    coarse[0] = False
    if coarse[np.unique(values)].any():
        grain = np.where(coarse[values], power_law(grid, 3.4, 18.0, broad.spawn(1)[0]), grain)
    # Strands of connective tissue in fat, small vessels in lung: a few bright lines, more dark than bright between.
    scene += texture[values] * (grain + 0.25 * (grain * grain - 1))
    lungs = _of(names, channel, WHOLE_LUNGS)
    if lungs.any():
        # Blood sinks: the dependent lung is denser, by 1 HU per mm of height and less.
        slope = np.float32(model.back * broad.uniform(0.2, 0.9))
        inside = lungs[values]
        scene += inside * (slope * grid.axis(1).astype(np.float32)[:, None])
        add_small_vessels(scene, inside > 0, grid, model.vessels, small)
    if model.around == "soft tissue":
        scene = np.where(values == 0, _connective(grid, broad), scene)
    _harden_bones(scene, values, names, channel, model, grid)
    if model.around == "air":
        _wrap(scene, values > 0, model, grid, bed)
    blur = model.margin_mm / grid.voxel[0]
    return np.asarray(ndimage.gaussian_filter(scene, (blur, blur, 0), output=np.float32))


def _objects(labels: LabelMap) -> ValueMap:
    """Return the objects, or whole channels where they are too many to tell apart."""
    try:
        return value_map(labels)[0]
    except ValueError:
        return value_map(replace(labels, voxels=(labels.array > 0).astype(np.uint8)))[0]


def _tables(
    objects: ValueMap, names: tuple[str, ...], model: BodyModel, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and texture in HU by object, float32, shape ``(256,)``."""
    level, texture = np.full(256, AIR_HU, np.float32), np.zeros(256, np.float32)
    kind = rng.standard_normal(len(names))
    own = rng.standard_normal(256)
    for index in range(1, len(objects.channel)):
        name = names[objects.channel[index]]
        density = model.densities[name]
        z = np.sqrt(SHARED) * kind[objects.channel[index]] + np.sqrt(1 - SHARED) * own[index]
        level[index] = density.mean + density.sd * z
        texture[index] = model.lung_sd if name in WHOLE_LUNGS or name == "lung" else density.texture
    return level, texture


def _of(names: tuple[str, ...], channel: np.ndarray, wanted: frozenset[str]) -> np.ndarray:
    """Return 1 for objects with one of these names, float32, shape ``(256,)``."""
    table = np.zeros(256, np.float32)
    table[1 : len(channel)] = [names[c] in wanted or (names[c] == "lung") for c in channel[1:]]
    return table


def _connective(grid: Grid, rng: np.random.Generator) -> np.ndarray:
    """Return fat with muscle and strands between, HU."""
    soft = power_law(grid, 3.2, 25.0, rng)
    share = np.clip(1.5 * soft + 0.5, 0, 1)
    return np.asarray(FAT_HU + share * 145 + 6 * soft, np.float32)


def _harden_bones(
    scene: np.ndarray,
    values: np.ndarray,
    names: tuple[str, ...],
    channel: np.ndarray,
    model: BodyModel,
    grid: Grid,
) -> None:
    """Give bones a cortex: near its surface a blurred mask falls from 1 to one half."""
    for thickness in {d.cortex_mm for d in model.densities.values() if d.cortex_mm}:
        table = np.zeros(256, bool)
        table[1 : len(channel)] = [model.densities[names[c]].cortex_mm == thickness for c in channel[1:]]
        mask = table[values]
        if not mask.any():
            continue
        box = ndimage.find_objects(mask.astype(np.uint8))[0]
        sigma = thickness / grid.voxel[0]
        inside = ndimage.gaussian_filter(mask[box].astype(np.float32), (sigma, sigma, 0))
        # A pixel wider than the cortex holds as much of it as it can.
        share = np.clip(2.4 * (1 - inside), 0, 1) * np.float32(min(1.0, thickness / (0.6 * grid.voxel[0])))
        part = scene[box]
        part += np.where(mask[box], share * (CORTEX_HU - part), 0).astype(np.float32)


def _wrap(scene: np.ndarray, body: np.ndarray, model: BodyModel, grid: Grid, rng: np.random.Generator) -> None:
    """Draw the skin, and the couch where the picture reaches so far."""
    sigma = SKIN_MM / grid.voxel[0]
    for k in range(scene.shape[2]):
        filled = ndimage.binary_fill_holes(body[:, :, k])
        inside = ndimage.gaussian_filter(filled.astype(np.float32), sigma)
        share = np.where(filled, np.clip(2.5 * (0.9 - inside), 0, 1), 0).astype(np.float32)
        share *= np.float32(min(1.0, SKIN_MM / grid.voxel[0]))
        part = scene[:, :, k]
        part += share * np.maximum(SKIN_HU - part, 0)
    if not model.couch or not body.any():
        return
    x, y = grid.axis(0)[:, None], model.back * grid.axis(1)[None]
    across = np.flatnonzero(body.any(axis=(1, 2)))
    middle = float(x[across].mean()) + float(rng.normal(0, 8))
    lowest = float(y[0, body.any(axis=(0, 2))].max())
    # A trough: its sides rise with the square of the distance from its middle.
    depth = y - (lowest + COUCH_GAP_MM - (x - middle) ** 2 / (2 * COUCH_RADIUS_MM))
    shell = (depth >= 0) & (depth < COUCH_SHELL_MM)
    shell |= (depth >= COUCH_DEPTH_MM) & (depth < COUCH_DEPTH_MM + COUCH_SHELL_MM)
    foam = (depth >= 0) & (depth < COUCH_DEPTH_MM)
    wide = np.abs(x - middle) < COUCH_HALF_MM
    couch = np.where(shell, COUCH_SHELL_HU, np.where(foam, COUCH_FOAM_HU, AIR_HU)).astype(np.float32)
    here = (wide & (shell | foam))[:, :, None] & ~body
    scene[here] = np.broadcast_to(couch[:, :, None], scene.shape)[here]


__all__ = ["BodyModel", "draw_body"]

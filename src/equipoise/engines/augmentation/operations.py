"""The space that policies choose from: medical operations, each with one strength from 0 (nothing) to 1.

An operation that a modality cannot bring forth is left out of its space: there is no k-space in a photograph and no
stain in a CT. The strongest rotation, zoom, noise and so on are those of nnU-Net, as in `classical`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from equipoise.engines.augmentation import acquisition_steps as acquisition
from equipoise.engines.augmentation import looks, steps
from equipoise.engines.augmentation.steps import Step
from equipoise.engines.parts.warp import SAFE_2D, SAFE_3D, node_counts
from equipoise.errors import PlanError, did_you_mean

MODALITIES = ("any", "ct", "mri", "xray", "ultrasound", "histology", "fundus")
"""What a policy may be told about the images; ``"any"`` has only what all of them share."""

THICK = 3.0
"""Ratio of voxel sizes from which a volume turns only within its finely sampled plane."""

SEED = 2**62
"""Seeds of steps that draw noise of their own lie below it."""

Draw = Callable[[tuple[int, ...], float, Sequence[float], np.random.Generator], Step]
"""From the patch's shape ``(C, I, J, K)``, a strength, the voxel size and a stream to what happens."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One kind of change.

    Parameters
    ----------
    draw
        Draws it at a strength. Its size is fixed by the strength; signs, axes and places are drawn.
    modalities
        Where it exists; empty is everywhere.
    colours
        Whether it needs three channels.
    """

    draw: Draw
    modalities: tuple[str, ...] = ()
    colours: bool = False


def operations_for(modality: str, chosen: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the names of a modality's operations, or of the chosen ones.

    Raises
    ------
    PlanError
        An unknown modality or operation, or one that the modality does not have.
    """
    if modality not in MODALITIES:
        raise PlanError(
            f"a policy knows no modality {modality!r}.{did_you_mean(modality, MODALITIES)}",
            why="it decides which operations are possible",
            fix=f"set modality to one of {', '.join(MODALITIES)}",
        )
    there = tuple(name for name, o in OPERATIONS.items() if not o.modalities or modality in o.modalities)
    for name in chosen:
        if name not in OPERATIONS:
            raise PlanError(f"a policy has no operation {name!r}.{did_you_mean(name, there)}")
        if name not in there:
            raise PlanError(
                f"operation {name!r} is one of {', '.join(OPERATIONS[name].modalities)}; the images are {modality!r}",
                why="a change that the scanner cannot make teaches the network about nothing",
                fix=f"leave {name!r} out, or set modality to what the images are",
            )
    return tuple(chosen) or there


def possible(names: Sequence[str], shape: tuple[int, ...]) -> list[str]:
    """Return the operations that a patch ``(C, I, J, K)`` can undergo: stains need three colours."""
    return [name for name in names if shape[0] == 3 or not OPERATIONS[name].colours]


def draw_step(
    name: str, shape: tuple[int, ...], strength: float, spacing: Sequence[float], rng: np.random.Generator
) -> Step | None:
    """Return an operation at a strength in [0, 1], ``None`` at 0."""
    return OPERATIONS[name].draw(shape, strength, spacing, rng) if strength > 0 else None


def _sign(rng: np.random.Generator) -> int:
    return -1 if rng.random() < 0.5 else 1


def _factor(most: float, strength: float, rng: np.random.Generator) -> float:
    """Return a factor, as often above as below 1, that reaches ``most`` or its inverse at strength 1."""
    return math.exp(_sign(rng) * strength * math.log(most))


def _seed(rng: np.random.Generator) -> int:
    return int(rng.integers(SEED))


def _scaled(size: float, spacing: Sequence[float]) -> tuple[float, float, float]:
    i, j, k = (size / s for s in spacing)
    return i, j, k


def _rotate(shape: tuple[int, ...], strength: float, spacing: Sequence[float], rng: np.random.Generator) -> Step:
    """Turn by up to 30 degrees about one axis; in the plane of a picture or of thick slices."""
    size = np.array(spacing, float)
    axis = int(rng.integers(3))
    if shape[3] == 1:
        axis = 2
    elif size.max() > THICK * size.min():
        axis = int(size.argmax())
    angle = math.radians(30) * strength * _sign(rng)
    i, j = (a for a in range(3) if a != axis)
    turn = np.eye(3)
    turn[i, i] = turn[j, j] = math.cos(angle)
    turn[i, j], turn[j, i] = -math.sin(angle), math.sin(angle)
    return steps.Move(turn * size / size[:, None])


def _zoom(shape: tuple[int, ...], strength: float, spacing: Sequence[float], rng: np.random.Generator) -> Step:
    """Zoom in or out by up to 1.4."""
    return steps.Move(np.eye(3) / _factor(1.4, strength, rng))


def _elastic(shape: tuple[int, ...], strength: float, spacing: Sequence[float], rng: np.random.Generator) -> Step:
    """Bend by up to 0.9 of the displacement at which tissue folds, with nodes a fifth of the longest side apart."""
    apart = max(n * s for n, s in zip(shape[1:], spacing, strict=True)) / 5
    step = tuple(max(apart / s, 2.0) for s in spacing)
    safe = 0.9 * strength * (SAFE_2D if shape[3] == 1 else SAFE_3D)
    limits = (safe * np.array(step, np.float32))[:, None, None, None]
    nodes = limits * (2 * rng.random((3, *node_counts(shape[1:], step)), dtype=np.float32) - 1)
    return steps.Move(np.eye(3), nodes.astype(np.float32), step)


def _shift(shape: tuple[int, ...], strength: float, spacing: Sequence[float], rng: np.random.Generator) -> Step:
    """Shift all channels by up to 0.5 SD: brightness, or a shift of all HU."""
    return steps.Shift(np.full(shape[0], 0.5 * strength * _sign(rng)))


def _gain(shape: tuple[int, ...], strength: float, spacing: Sequence[float], rng: np.random.Generator) -> Step:
    return steps.Gain(np.full(shape[0], _factor(1.4, strength, rng)))


def _contrast(shape: tuple[int, ...], strength: float, spacing: Sequence[float], rng: np.random.Generator) -> Step:
    return steps.Contrast(np.full(shape[0], _factor(1.5, strength, rng)))


def _gamma(shape: tuple[int, ...], strength: float, spacing: Sequence[float], rng: np.random.Generator) -> Step:
    power = _factor(1.8, strength, rng)
    return steps.Curve.gamma([power] * shape[0], bool(rng.random() < 0.25))


def _shade(shape: tuple[int, ...], strength: float, spacing: Sequence[float], rng: np.random.Generator) -> Step:
    """Shade by a log-field of SD up to 0.4 with nodes 2/5 of the longest side apart."""
    apart = 0.4 * max(n * s for n, s in zip(shape[1:], spacing, strict=True))
    step = tuple(max(apart / s, 2.0) for s in spacing)
    nodes = 0.4 * strength * rng.standard_normal((1, *node_counts(shape[1:], step)), dtype=np.float32)
    return steps.Shade(nodes.astype(np.float32), step)


def _noise(shape: tuple[int, ...], strength: float, spacing: Sequence[float], rng: np.random.Generator) -> Step:
    return steps.Noise(0.3 * strength, _seed(rng))


def _blur(shape: tuple[int, ...], strength: float, spacing: Sequence[float], rng: np.random.Generator) -> Step:
    """Blur by a Gaussian of SD up to 1.5 of the finest voxel size."""
    return steps.Blur(_scaled(1.5 * strength * min(spacing), spacing))


def _sharpen(shape: tuple[int, ...], strength: float, spacing: Sequence[float], rng: np.random.Generator) -> Step:
    return steps.Sharpen(1.5 * strength)


def _low_resolution(
    shape: tuple[int, ...], strength: float, spacing: Sequence[float], rng: np.random.Generator
) -> Step:
    """Enlarge voxels up to 2.5 times, in half of the patches along one axis only."""
    factor = np.full(3, 1 + 1.5 * strength)
    if rng.random() < 0.5:
        factor[np.arange(3) != rng.integers(3 if shape[3] > 1 else 2)] = 1
    return steps.LowResolution((float(factor[0]), float(factor[1]), float(factor[2])))


def _window(shape: tuple[int, ...], strength: float, spacing: Sequence[float], rng: np.random.Generator) -> Step:
    """Cut up to 60 % of the range, anywhere on its two ends."""
    cut = 0.6 * strength
    low = cut * rng.random()
    return steps.Window(low, low + 1 - cut)


def _rician(shape: tuple[int, ...], strength: float, spacing: Sequence[float], rng: np.random.Generator) -> Step:
    return acquisition.RicianNoise(0.3 * strength, _seed(rng))


def _ghost(shape: tuple[int, ...], strength: float, spacing: Sequence[float], rng: np.random.Generator) -> Step:
    axes = [a for a in range(3) if shape[a + 1] > 1]
    return acquisition.Ghost(axes[rng.integers(len(axes))], int(rng.integers(2, 5)), 0.8 * strength)


def _spike(shape: tuple[int, ...], strength: float, spacing: Sequence[float], rng: np.random.Generator) -> Step:
    i, j, k = rng.uniform(0.03, 0.25, 3) * rng.choice([-1, 1], 3) * (np.array(shape[1:]) > 1)
    return acquisition.Spike((float(i), float(j), float(k)), float(rng.uniform(0, 2 * math.pi)), 0.6 * strength)


def _speckle(shape: tuple[int, ...], strength: float, spacing: Sequence[float], rng: np.random.Generator) -> Step:
    grain = rng.uniform(0.5, 1.5) * min(spacing)
    return acquisition.Speckle(0.5 * strength, _scaled(grain, spacing), _seed(rng))


def _stain(shape: tuple[int, ...], strength: float, spacing: Sequence[float], rng: np.random.Generator) -> Step:
    """Multiply concentrations by up to 1.6 and add or take up to 0.15."""
    scale = np.array([_factor(1.6, strength, rng) for _ in range(2)])
    return acquisition.Restain(scale, 0.15 * strength * rng.choice([-1.0, 1.0], 2))


def _colour(shape: tuple[int, ...], strength: float, spacing: Sequence[float], rng: np.random.Generator) -> Step:
    return acquisition.MixColours(looks.colour_matrix(strength, rng))


def _illumination(shape: tuple[int, ...], strength: float, spacing: Sequence[float], rng: np.random.Generator) -> Step:
    x, y = rng.uniform(-0.6, 0.6, 2)
    a, b = 0.25 * strength * rng.uniform(-1, 1, 2)
    return acquisition.Illumination((float(x), float(y)), 0.7 * strength, (float(a), float(b)))


OPERATIONS: dict[str, Operation] = {
    "rotate": Operation(_rotate),
    "zoom": Operation(_zoom),
    "elastic": Operation(_elastic),
    "shift": Operation(_shift),
    "gain": Operation(_gain),
    "contrast": Operation(_contrast),
    "gamma": Operation(_gamma),
    "noise": Operation(_noise),
    "blur": Operation(_blur),
    "sharpen": Operation(_sharpen),
    "low-resolution": Operation(_low_resolution),
    "shading": Operation(_shade, ("mri", "xray", "histology", "fundus")),
    "window": Operation(_window, ("ct", "xray")),
    "rician": Operation(_rician, ("mri",)),
    "ghosting": Operation(_ghost, ("mri",)),
    "spike": Operation(_spike, ("mri",)),
    "speckle": Operation(_speckle, ("ultrasound",)),
    "stain": Operation(_stain, ("histology",), colours=True),
    "colour": Operation(_colour, ("histology", "fundus"), colours=True),
    "illumination": Operation(_illumination, ("histology", "fundus")),
}
"""Every operation by name."""

__all__ = ["MODALITIES", "OPERATIONS", "Operation", "draw_step", "operations_for", "possible"]

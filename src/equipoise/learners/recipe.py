"""How a U-Net is trained: the presets, the values in effect, and the network that follows from them."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from equipoise.errors import PlanError, did_you_mean

Loss = Literal["dice+bce", "dice", "bce"]
Normalise = Literal["image", "window", "fitted"]
Norm = Literal["batch", "instance"]
Device = Literal["cpu", "cuda"]

SMALLEST = 4
"""An axis is halved only while this many voxels of it are left: below, a 3-voxel kernel sees mostly padding."""

LEAST_LEVELS = 3
"""What MONAI's network needs; on patches too small to halve, further levels keep the resolution."""

CONTEXT = 1.5
"""Side of a patch in extents of the structure: where the structure lies in the middle, a quarter of its extent is seen
beyond either end, so that each border has both of its sides in the patch."""

LARGEST_FOLD = 4
"""That is chosen automatically: larger blocks ask too few features to answer for too many voxels."""

LEAST_BATCH = 4
"""Patches per step that are kept when patches grow: batch normalisation needs several."""

WARM_UP = 0.1
"""Share of the steps in which the learning rate rises from a tenth of its peak to the peak."""

PRESETS: dict[str, dict[int, dict[str, Any]]] = {
    # By number of image axes, because a 3-D patch of the side of a 2-D one would hold a hundred times as many voxels.
    "cpu-small": {
        2: {
            "patch": (96, 96),
            "batch": 8,
            "fold": 2,
            "channels": (16, 32, 64, 64),
            "learning_rate": 1e-2,
            "device": "cpu",
        },
        3: {
            "patch": (32, 32, 32),
            "batch": 4,
            "fold": 2,
            "channels": (16, 32, 64),
            "learning_rate": 1e-2,
            "device": "cpu",
        },
    },
    "gpu": {
        2: {
            "patch": (256, 256),
            "batch": 16,
            "fold": 1,
            "channels": (32, 64, 128, 256, 320, 320),
            "learning_rate": 2e-3,
            "device": "cuda",
        },
        3: {
            "patch": (96, 96, 96),
            "batch": 4,
            "fold": 1,
            "channels": (32, 64, 128, 256, 320),
            "learning_rate": 2e-3,
            "device": "cuda",
        },
    },
}
"""Preset to number of axes to the values of the fields that the plan leaves open."""

COMMON: dict[str, Any] = {
    "weight_decay": 1e-4,
    "loss": "dice+bce",
    "foreground": 0.5,
    "norm": "batch",
    "normalise": "image",
    "window": None,
    "overlap": 0.25,
    "bf16": True,
    "finetune": 0.3,
}
"""Values that all presets share."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """The values in effect for one training; every one is stated, none is left open.

    The fields are those of `equipoise.learners.unet.UNet`; ``patch`` has one length per image axis.
    """

    patch: tuple[int, ...]
    batch: int
    fold: int
    channels: tuple[int, ...]
    norm: Norm
    learning_rate: float
    weight_decay: float
    loss: Loss
    foreground: float
    normalise: Normalise
    window: tuple[float, float] | None
    overlap: float
    bf16: bool
    finetune: float
    device: Device

    def __post_init__(self) -> None:
        _require(all(n >= 1 for n in self.patch), "patch", self.patch, "at least 1 along each axis")
        _require(self.batch >= 1, "batch", self.batch, "at least 1")
        _require(1 <= self.fold <= 8, "fold", self.fold, "from 1 to 8")
        wide = len(self.channels) >= LEAST_LEVELS and min(self.channels) >= 1
        _require(wide, "channels", self.channels, f"{LEAST_LEVELS} or more widths of at least 1")
        _require(0 < self.learning_rate <= 1, "learning_rate", self.learning_rate, "above 0 and at most 1")
        _require(self.weight_decay >= 0, "weight_decay", self.weight_decay, "0 or more")
        _require(0 <= self.foreground <= 1, "foreground", self.foreground, "a share from 0 to 1")
        _require(0 <= self.overlap <= 0.9, "overlap", self.overlap, "a share from 0 to 0.9")
        _require(0 < self.finetune <= 1, "finetune", self.finetune, "above 0 and at most 1")
        if self.normalise == "window" and self.window is None:
            raise PlanError("normalise = 'window' needs `window`", fix="for soft tissue in CT: window = [-160, 240]")
        if self.window is not None:
            _require(self.window[0] < self.window[1], "window", self.window, "a lower bound below the upper one")


def _require(true: bool, name: str, value: object, need: str) -> None:
    if not true:
        raise PlanError(f"{name} must be {need}, got {value!r}", fix=f"correct `{name}` of the learner in the plan")


def fill(given: dict[str, Any], preset: str, ndim: int) -> Recipe:
    """Return the recipe of a preset with the values that are given (not ``None``) put in their place.

    Parameters
    ----------
    given
        Field to value or ``None``; a ``patch`` may be one length for all axes.
    preset
        One of `PRESETS`.
    ndim
        2 for single slices, 3 for volumes.
    """
    if preset not in PRESETS:
        raise PlanError(f"the learner has no preset {preset!r}.{did_you_mean(preset, PRESETS)}")
    values = {**COMMON, **PRESETS[preset][ndim], **{name: v for name, v in given.items() if v is not None}}
    patch = values["patch"]
    values["patch"] = (patch,) * ndim if isinstance(patch, int) else tuple(patch)
    if len(values["patch"]) != ndim:
        raise PlanError(
            f"patch {list(values['patch'])} has {len(values['patch'])} lengths, the images have {ndim} axes",
            fix="give one length, or one per axis",
        )
    return Recipe(**values)


@dataclass(frozen=True, slots=True)
class Grid:
    """What a network of some depth makes of a patch.

    Parameters
    ----------
    patch
        Length of each axis that is cut.
    fold
        Per axis: 1 where folding would leave less than `SMALLEST`.
    strides
        Per level and axis; the first is 1 everywhere.
    """

    patch: tuple[int, ...]
    fold: tuple[int, ...]
    strides: tuple[tuple[int, ...], ...]

    @property
    def positions(self) -> int:
        """Positions that the widest level of the network computes."""
        return math.prod(n // f for n, f in zip(self.patch, self.fold, strict=True))


def grid_for(patch: Sequence[int], shapes: Sequence[Sequence[int]], fold: int, levels: int) -> Grid:
    """Return the patch to cut, no longer than the longest image and rounded up to what the network can fold and halve.

    Parameters
    ----------
    patch
        As asked for, one length per axis.
    shapes
        Of the images, same axes.
    fold
        As asked for.
    levels
        Of the network, at most; an axis stops being halved before it falls below `SMALLEST`, so that thin volumes
        pool only where there is something to pool.
    """
    wanted = [min(n, max(lengths)) for n, lengths in zip(patch, zip(*shapes, strict=True), strict=True)]
    folds = tuple(fold if n >= SMALLEST * fold else 1 for n in wanted)
    left = [_halvable(-(-n // f), levels) for n, f in zip(wanted, folds, strict=True)]
    grid = Grid(tuple(n * f for n, f in zip(left, folds, strict=True)), folds, ((1,) * len(left),))
    while len(grid.strides) < levels:
        stride = tuple(2 if n % 2 == 0 and n // 2 >= SMALLEST else 1 for n in left)
        if max(stride) == 1 and len(grid.strides) >= LEAST_LEVELS:
            break
        left = [n // s for n, s in zip(left, stride, strict=True)]
        grid = replace(grid, strides=(*grid.strides, stride))
    return grid


def with_room(
    recipe: Recipe, extent: Sequence[float], shapes: Sequence[Sequence[int]], stated: Collection[str]
) -> Recipe:
    """Return the recipe with a patch that holds a structure and its surroundings, at the cost of the preset's.

    A preset's patch that holds the structure along every axis stays, and so does everything that the plan states.
    Else the patch becomes `CONTEXT` extents long along the axes where it was too short. What a step costs goes with
    the positions that the network computes, ``batch x patch / fold`` over all axes; they stay within those of the
    preset by folding larger blocks of voxels into channels (up to `LARGEST_FOLD`), then by fewer patches per step
    (down to `LEAST_BATCH`), then by a patch that is smaller than wished.

    Parameters
    ----------
    recipe
        Of the preset and the plan.
    extent
        Of the structure, voxels along each axis; see `equipoise.learners.extent.typical_extent`.
    shapes
        Of the images, same axes.
    stated
        Names of the fields that the plan states.
    """
    if "patch" in stated or all(e <= n for e, n in zip(extent, recipe.patch, strict=True)):
        return recipe
    levels, usual = len(recipe.channels), grid_for(recipe.patch, shapes, recipe.fold, len(recipe.channels))
    budget = recipe.batch * usual.positions
    least = recipe.batch if "batch" in stated else min(LEAST_BATCH, recipe.batch)
    folds = [recipe.fold] if "fold" in stated else _doubled(recipe.fold)
    wished = [max(n, math.ceil(CONTEXT * e)) if e > n else n for e, n in zip(extent, recipe.patch, strict=True)]
    for fold in folds:
        grid = grid_for(wished, shapes, fold, levels)
        if least * grid.positions <= budget:
            break
    while least * grid.positions > budget and wished != list(recipe.patch):
        wished = [max(n, math.floor(0.95 * w)) for w, n in zip(wished, recipe.patch, strict=True)]
        grid = grid_for(wished, shapes, fold, levels)
    batch = recipe.batch if "batch" in stated else max(least, min(recipe.batch, budget // grid.positions))
    return replace(recipe, patch=grid.patch, fold=fold, batch=batch)


def _doubled(fold: int) -> list[int]:
    """Return a fold and its doubles up to `LARGEST_FOLD`."""
    return [fold] + ([] if 2 * fold > LARGEST_FOLD else _doubled(2 * fold))


def _halvable(length: int, levels: int) -> int:
    """Return the smallest length from ``length`` up that can be halved as often as its size allows."""
    times = min(levels - 1, int(math.log2(length / SMALLEST))) if length >= SMALLEST else 0
    whole: int = 2**times
    return -(-length // whole) * whole


def learning_rate_at(step: int, steps: int, peak: float) -> float:
    """Return the learning rate of a step, counted from 0: a linear rise, then half a cosine to 1 % of the peak.

    References
    ----------
    Smith LN, Topin N. Super-convergence: very fast training of neural networks using large learning rates. 2019.
    doi:10.1117/12.2520589
    """
    rise = max(int(WARM_UP * steps), 1)
    if step < rise:
        return peak * (0.1 + 0.9 * step / rise)
    done = (step - rise) / max(steps - 1 - rise, 1)
    return peak * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(done, 1.0))))

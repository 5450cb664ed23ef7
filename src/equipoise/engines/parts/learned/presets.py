"""Sizes of a learned engine: one code path, other numbers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from equipoise.engines.parts.device import device_of, require_device
from equipoise.engines.parts.legal import require_one_of, require_within
from equipoise.errors import PlanError


@dataclass(frozen=True, slots=True)
class Size:
    """The values in effect for one training.

    Parameters
    ----------
    patch
        Side in voxels.
    channels
        Width of each level of the network; each halves the sides.
    fold
        Sides of the blocks of voxels that the network treats as channels of one.
    steps, batch
        Optimiser steps at most, and patches in each.
    learning_rate
        Of AdamW or Adam.
    device
        ``"cpu"`` or ``"cuda"``.
    bf16
        Whether to compute in bfloat16 where that is exact enough.
    """

    patch: int
    channels: tuple[int, ...]
    fold: int
    steps: int
    batch: int
    learning_rate: float
    device: str
    bf16: bool = True


Presets = dict[str, dict[int, Size]]
"""By name, then by number of image axes."""


def size_for(engine: Any, presets: Presets, ndim: int) -> Size:
    """Return an engine's preset with the fields that its parameters state.

    Raises
    ------
    PlanError
        An unknown preset, or a value that is not possible.
    EngineError
        The device is not there.
    """
    require_one_of("preset", engine.preset, presets)
    size = presets[engine.preset][ndim]
    stated = {name: getattr(engine, name, None) for name in Size.__slots__}
    size = replace(size, **{name: value for name, value in stated.items() if value is not None})
    size = replace(size, channels=tuple(size.channels))
    for name, low, high in (("patch", 16, 1024), ("fold", 1, 8), ("steps", 1, 10_000_000), ("batch", 1, 4096)):
        require_within(f"{engine.kind}.{name}", getattr(size, name), low, high)
    require_within(f"{engine.kind}.learning_rate", size.learning_rate, 1e-8, 1)
    if len(size.channels) < 2 or any(c < 8 or c % 8 for c in size.channels):
        raise PlanError(
            f"{engine.kind}.channels = {list(size.channels)} is not possible; legal: two or more multiples of 8",
            fix="set channels = [32, 64, 128]",
        )
    require_device(engine.kind, size.device)
    device_of(engine.kind, size.device)
    return size


__all__ = ["Presets", "Size", "size_for"]

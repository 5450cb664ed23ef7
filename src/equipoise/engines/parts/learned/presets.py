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
    at_once
        Patches that go through the network together; a step adds their gradients up, so that it is the same step, in
        less memory and a little slower. 0 takes the whole batch.
    """

    patch: int
    channels: tuple[int, ...]
    fold: int
    steps: int
    batch: int
    learning_rate: float
    device: str
    bf16: bool = True
    at_once: int = 0

    def pieces(self, count: int) -> list[slice]:
        """Return the parts in which ``count`` patches go through the network."""
        width = self.at_once or max(count, 1)
        return [slice(first, min(first + width, count)) for first in range(0, count, width)]


Presets = dict[str, dict[int, Size]]
"""By name, then by number of image axes."""

LIMITS = (
    ("patch", 16, 1024),
    ("fold", 1, 8),
    ("steps", 1, 10_000_000),
    ("batch", 1, 4096),
    ("at_once", 0, 4096),
)
"""Whole numbers that an engine may state, with the smallest and the largest legal one."""


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
    for name, low, high in LIMITS:
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


def require_memory(kind: str, memory: float | None) -> None:
    """Raise `PlanError` unless ``memory`` is GiB that a training may take, or ``None``."""
    if memory is not None:
        require_within(f"{kind}.memory", memory, 0.01, 100_000, "GiB")


__all__ = ["Presets", "Size", "require_memory", "size_for"]

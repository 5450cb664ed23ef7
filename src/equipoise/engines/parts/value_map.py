"""Label maps of large volumes as one byte per voxel, expanded to one channel per label only where somebody asks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit

from equipoise.core import LabelMap

MOST_INDICES = 254
"""Objects that one byte can tell apart, beside "nothing" (0) and one value that stays free (255)."""


@dataclass(frozen=True, eq=False)
class ValueMap:
    """Voxels of a `LabelMap` without overlap: a volume of 30 structures takes 1/30 of the memory.

    Parameters
    ----------
    values
        Index of the object in each voxel, uint8, shape ``(I, J, K)``; 0 is nothing.
    channel, instance
        Channel of the label map, and instance in it, of each index; int, shape ``(n,)``; entry 0 is not used.
    channels
        Number of channels.
    """

    values: np.ndarray
    channel: np.ndarray
    instance: np.ndarray
    channels: int

    @property
    def shape(self) -> tuple[int, ...]:
        """``(L, I, J, K)``."""
        return (self.channels, *self.values.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of one value."""
        return np.dtype(np.uint8)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        full = np.zeros(self.shape, np.uint8)
        present = np.flatnonzero(np.bincount(self.values.ravel(), minlength=len(self.channel)))
        for channel in np.unique(self.channel[present[present > 0]]):
            full[channel] = self.instances(int(channel))
        return full if dtype is None else full.astype(dtype)

    def instances(self, channel: int) -> np.ndarray:
        """Return the instance numbers of one channel alone, uint8, shape ``(I, J, K)``."""
        table = np.zeros(256, np.uint8)
        of = np.flatnonzero(self.channel == channel)
        table[of[of > 0]] = self.instance[of[of > 0]]
        found: np.ndarray = table[self.values]
        return found


def value_map(labels: LabelMap) -> tuple[ValueMap, bool]:
    """Return a label map's objects as one index per voxel, and whether labels overlapped (the later one is kept).

    Raises
    ------
    ValueError
        If there are more than `MOST_INDICES` objects.
    """
    if isinstance(labels.voxels, ValueMap):
        return labels.voxels, False
    values = np.zeros(labels.geometry.shape, np.uint8)
    channel, instance = [0], [0]
    overlap = False
    for c in range(len(labels.scheme.labels)):
        here = np.ascontiguousarray(labels.voxels[c] if isinstance(labels.voxels, np.ndarray) else labels.array[c])
        if not here.any():
            continue
        numbers = np.unique(here)
        numbers = numbers[numbers > 0]
        if len(channel) + len(numbers) > MOST_INDICES + 1:
            raise ValueError(f"more than {MOST_INDICES} objects")
        first = len(channel)
        for number in numbers:
            channel.append(c)
            instance.append(int(number))
        overlap |= bool(_lay(values.ravel(), here.ravel().astype(np.int64), numbers.astype(np.int64), first))
    table = np.array(channel), np.array(instance)
    return ValueMap(values, *table, len(labels.scheme.labels)), overlap


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _lay(values: np.ndarray, here: np.ndarray, numbers: np.ndarray, first: int) -> bool:
    """Write objects over what lies there; return whether anything did."""
    covered = False
    for n in range(values.size):
        if here[n] > 0:
            if values[n] > 0:
                covered = True
            values[n] = first + np.searchsorted(numbers, here[n])
    return covered


__all__ = ["MOST_INDICES", "ValueMap", "value_map"]

"""Normal random numbers at a fraction of the usual cost, for noise that is drawn for every pixel of every picture."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
from numba import njit
from scipy.special import ndtri

BITS = 16
PER_WORD = 4
"""Numbers of `BITS` bits in one random word of 64."""


def quick_normal(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Return independent normal numbers of mean 0 and variance 1, float32.

    They are the middles of 65,536 equal shares of the distribution, which ends at 4.3 SD: no eye and no 8-bit picture
    tells that from the tail beyond. It takes a sixth of the time of ``rng.standard_normal``.
    """
    out = np.empty(shape, np.float32)
    words = rng.integers(0, 1 << 64, math.ceil(out.size / PER_WORD), dtype=np.uint64)
    _look_up(words, _quantiles(), out.reshape(-1))
    return out


@cache
def _quantiles() -> np.ndarray:
    middle = ndtri((np.arange(1 << BITS) + 0.5) / (1 << BITS))
    return np.asarray(middle / middle.std(), np.float32)


@njit(cache=True, nogil=True)
def _look_up(words, table, out):  # type: ignore[no-untyped-def]
    mask = np.uint64(len(table) - 1)
    for n in range(len(out)):
        out[n] = table[(words[n // PER_WORD] >> np.uint64((n % PER_WORD) * BITS)) & mask]


__all__ = ["quick_normal"]

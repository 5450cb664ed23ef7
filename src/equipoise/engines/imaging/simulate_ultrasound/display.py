"""From the envelope to the grey values on the screen: time-gain compensation, log compression, grey map."""

from __future__ import annotations

import numpy as np
from numba import njit

SLIDERS = 8
"""Of a scanner's time-gain compensation."""


def gain_by_depth(depths: np.ndarray, db_per_mm: float, sliders_db: np.ndarray) -> np.ndarray:
    """Return the time-gain compensation in dB at each depth: an even slope, and eight sliders linearly between."""
    at = (np.arange(len(sliders_db)) + 0.5) / len(sliders_db) * (depths[-1] + depths[0])
    return np.asarray(db_per_mm * depths + np.interp(depths, at, sliders_db))


def compress(amplitude: np.ndarray, gain_db: np.ndarray, dynamic_range_db: float, gamma: float) -> np.ndarray:
    """Return grey values from 0 to 255 of amplitudes.

    ``255 ((20 log10(amplitude) + gain) / range)^gamma``, cut at both ends: gain 0 sends amplitude 1 to black.

    Parameters
    ----------
    amplitude
        float32, shape ``(samples, beams)``.
    gain_db
        One for each sample.
    dynamic_range_db
        Between black and white.
    gamma
        Of the grey map; 1 is linear in dB.
    """
    out = np.empty_like(amplitude)
    _compress(amplitude, np.asarray(gain_db, np.float32), np.float32(1 / dynamic_range_db), np.float32(gamma), out)
    return out


def decompress(grey: np.ndarray, dynamic_range_db: float, gamma: float) -> np.ndarray:
    """Return the level above black in dB of grey values, the inverse of `compress`; black is 0 dB."""
    level: np.ndarray = dynamic_range_db * (np.clip(grey, 0, 255) / np.float32(255)) ** np.float32(1 / gamma)
    return level.astype(np.float32)


@njit(cache=True, nogil=True, fastmath=True)
def _compress(amplitude, gain_db, per_range, gamma, out):  # type: ignore[no-untyped-def]
    tiny, db = np.float32(1e-12), np.float32(20 / np.log(10.0))
    for k in range(out.shape[0]):
        for b in range(out.shape[1]):
            level = (db * np.log(amplitude[k, b] + tiny) + gain_db[k]) * per_range
            level = min(max(level, np.float32(0)), np.float32(1))
            if gamma != 1 and level > 0:
                level = level**gamma
            out[k, b] = np.float32(255) * level


__all__ = ["SLIDERS", "compress", "decompress", "gain_by_depth"]

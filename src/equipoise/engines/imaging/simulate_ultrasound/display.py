"""From the envelope to the grey values on the screen: time-gain compensation, log compression, grey map."""

from __future__ import annotations

import numpy as np

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
    # NumPy's logarithm of float32 runs on vectors; a compiled loop would call it for one number at a time.
    level = np.log(amplitude + np.float32(1e-12))
    level *= np.float32(20 / np.log(10.0) / dynamic_range_db)
    level += (np.asarray(gain_db) / dynamic_range_db).astype(np.float32)[:, None]
    np.clip(level, 0, 1, out=level)
    if gamma != 1:
        level **= np.float32(gamma)
    level *= np.float32(255)
    return level


def decompress(grey: np.ndarray, dynamic_range_db: float, gamma: float) -> np.ndarray:
    """Return the level above black in dB of grey values, the inverse of `compress`; black is 0 dB."""
    level: np.ndarray = dynamic_range_db * (np.clip(grey, 0, 255) / np.float32(255)) ** np.float32(1 / gamma)
    return level.astype(np.float32)


__all__ = ["SLIDERS", "compress", "decompress", "gain_by_depth"]

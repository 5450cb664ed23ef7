"""Reconstruction kernels of CT: the ramp, and the modulation transfer function that each kernel multiplies it by.

They belong to no geometry: whatever filters rows of detectors (parallel, fan or cone beam) takes `ramp_response`.

References
----------
Kak AC, Slaney M. Principles of Computerized Tomographic Imaging. IEEE Press 1988, ch. 3 (ramp of eq. 61).
"""

from __future__ import annotations

import numpy as np
import scipy.fft
from scipy.optimize import brentq

from equipoise.engines.parts.legal import require_within
from equipoise.errors import PlanError, did_you_mean

KERNELS = ("ramp", "shepp-logan", "cosine", "soft", "sharp")
LEAST_CUTOFF = 1e-6
"""In cycles/mm: of waves longer than any object."""
_SHARP_EDGE = 6.0


def require_kernel(kernel: str, parameter: str = "kernel") -> None:
    """Raise `PlanError`, which says which kernels there are, unless there is this one."""
    if not isinstance(kernel, str) or kernel not in KERNELS:
        raise PlanError(
            f"{parameter} = {kernel!r} is no reconstruction kernel; legal: {', '.join(KERNELS)}."
            f"{did_you_mean(str(kernel), KERNELS)}"
        )


def kernel_mtf(kernel: str, frequency: np.ndarray | float, cutoff: float) -> np.ndarray:
    """Return the modulation transfer function that a reconstruction kernel gives, 1 at frequency 0.

    A kernel here *is* its MTF: the ramp filter is multiplied by it. With u = frequency / cutoff, and 0 for u > 1:

    =============  ===============================  ==========  ==========  ===============================
    kernel         MTF                              50 % at u   10 % at u   cut-off 0.70 cycles/mm, lp/cm
    =============  ===============================  ==========  ==========  ===============================
    `ramp`         1                                1           1           50 % 7.00, 10 % 7.00
    `shepp-logan`  sin(πu/2) / (πu/2)               1           1           50 % 7.00, 10 % 7.00
    `cosine`       cos(πu/2)                        0.667       0.936       50 % 4.67, 10 % 6.55
    `soft`         (1 + cos πu) / 2 (Hann)          0.500       0.795       50 % 3.50, 10 % 5.57
    `sharp`        (1 + cos πu) / 2 · (1 + 6 u²)    0.789       0.920       50 % 5.53, 10 % 6.44, peak 1.28
    =============  ===============================  ==========  ==========  ===============================

    `soft` is of the kind used for mediastinum, `sharp` with its overshoot (edge enhancement) of the kind used for lung.

    Parameters
    ----------
    kernel
        One of `KERNELS`.
    frequency
        In cycles/mm, any shape; 1 lp/cm is 0.1 cycles/mm.
    cutoff
        First frequency that is not passed, in cycles/mm.

    Raises
    ------
    PlanError
        If there is no such kernel, or the cut-off is not above 0.
    """
    require_kernel(kernel)
    require_within("cutoff", cutoff, LEAST_CUTOFF, np.inf, "cycles/mm")
    u = np.abs(np.asarray(frequency, float)) / cutoff
    hann = (1 + np.cos(np.pi * np.minimum(u, 1))) / 2
    if kernel == "ramp":
        window = np.ones_like(u)
    elif kernel == "shepp-logan":
        window = np.sinc(u / 2)
    elif kernel == "cosine":
        window = np.cos(np.pi * np.minimum(u, 1) / 2)
    elif kernel == "soft":
        window = hann
    else:
        window = hann * (1 + _SHARP_EDGE * u**2)
    return np.where(u <= 1, window, 0.0)


def mtf_frequency(kernel: str, cutoff: float, level: float) -> float:
    """Return the highest frequency, in lp/cm, at which a kernel's MTF still reaches ``level`` (0.5 or 0.1, say)."""
    require_within("level", level, 1e-6, 1 - 1e-6)
    grid = np.linspace(0, cutoff, 201)
    above = int(np.flatnonzero(kernel_mtf(kernel, grid, cutoff) >= level)[-1])
    if above == len(grid) - 1:
        return 10 * cutoff
    crossing = brentq(lambda f: float(kernel_mtf(kernel, f, cutoff)) - level, grid[above], grid[above + 1])
    return 10 * float(crossing)


def ramp_response(length: int, pitch: float, kernel: str, cutoff: float) -> np.ndarray:
    """Return what filters a row of detectors: the ramp times a kernel's MTF, at the frequencies of a real FFT.

    The ramp is that of Kak and Slaney's discrete kernel, not |f| sampled, so that the mean of an image is right.

    Parameters
    ----------
    length
        Of the FFT in samples: at least the row and what is read of it behind the filter, or they wrap around.
    pitch
        Distance of the detectors in mm.
    kernel
        One of `KERNELS`.
    cutoff
        First frequency that is not passed, in cycles/mm.

    Returns
    -------
    numpy.ndarray
        Real, 1/mm, shape ``(length // 2 + 1,)``, for `scipy.fft.rfft`.

    Raises
    ------
    PlanError
        If there is no such kernel, or the cut-off is not above 0.
    """
    n = np.arange(length)
    n = np.minimum(n, length - n)
    ramp = np.zeros(length)
    ramp[0] = 0.25
    odd = n % 2 == 1
    ramp[odd] = -1 / (np.pi * n[odd]) ** 2
    window = kernel_mtf(kernel, scipy.fft.rfftfreq(length) / pitch, cutoff)
    return np.asarray(scipy.fft.rfft(ramp).real / pitch * window)


__all__ = ["KERNELS", "kernel_mtf", "mtf_frequency", "ramp_response", "require_kernel"]

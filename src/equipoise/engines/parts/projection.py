"""Parallel-beam CT in two dimensions: projection and filtered back-projection.

The Fourier slice theorem says that the 1-D Fourier transform of a projection at angle t is the slice of the image's 2-D
Fourier transform along t. So a non-uniform FFT evaluates all projections at once in O(N² log N), and its adjoint,
weighted by the ramp, is filtered back-projection.

Conventions. An image has shape ``(N, N)``; its first axis is u, its second v, and the centre of the array is the
rotation axis. View k is at t = k·180°/views and detector j at s = (j - (detectors - 1)/2)·pixel, where
s = u·cos t + v·sin t. Lengths are in mm, attenuation in 1/mm (divide cm⁻¹ by 10), so line integrals have no unit.

References
----------
Kak AC, Slaney M. Principles of Computerized Tomographic Imaging. IEEE Press 1988, ch. 3 (ramp of eq. 61).
Barnett AH, Magland J, af Klinteberg L. A parallel nonuniform fast Fourier transform library based on an "exponential of
semicircle" kernel. SIAM J Sci Comput 2019. doi:10.1137/18M120885X
"""

from __future__ import annotations

import functools
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import finufft
import numpy as np
import scipy.fft
from scipy.optimize import brentq

from equipoise.engines.parts.attenuation import require, require_finite
from equipoise.errors import DataError, UnknownKindError, did_you_mean

PLANS_KEPT = 8
"""Transform plans kept per thread; a 512² plan of 720 views takes about 10 MB."""
KERNELS = ("ramp", "shepp-logan", "cosine", "soft", "sharp")
_SHARP_EDGE = 6.0


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
    UnknownKindError
        If there is no such kernel.
    """
    require(cutoff > 0, f"cutoff must be above 0 cycles/mm, got {cutoff}")
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
    elif kernel == "sharp":
        window = hann * (1 + _SHARP_EDGE * u**2)
    else:
        raise UnknownKindError(f"no reconstruction kernel {kernel!r}.{did_you_mean(kernel, KERNELS)}")
    return np.where(u <= 1, window, 0.0)


def mtf_frequency(kernel: str, cutoff: float, level: float) -> float:
    """Return the highest frequency, in lp/cm, at which a kernel's MTF still reaches ``level`` (0.5 or 0.1, say)."""
    require(0 < level < 1, f"level must lie between 0 and 1, got {level}")
    grid = np.linspace(0, cutoff, 201)
    above = int(np.flatnonzero(kernel_mtf(kernel, grid, cutoff) >= level)[-1])
    if above == len(grid) - 1:
        return 10 * cutoff
    crossing = brentq(lambda f: float(kernel_mtf(kernel, f, cutoff)) - level, grid[above], grid[above + 1])
    return 10 * float(crossing)


@dataclass(frozen=True)
class Ellipse:
    """A uniform ellipse of known line integrals.

    Parameters
    ----------
    attenuation
        In 1/mm; it adds to what it overlaps, so it may be negative.
    center
        Of (u, v), in mm from the rotation axis.
    radii
        Half axes in mm, along u and v before the rotation.
    degrees
        Rotation from u towards v.
    """

    attenuation: float
    center: tuple[float, float] = (0.0, 0.0)
    radii: tuple[float, float] = (100.0, 100.0)
    degrees: float = 0.0


@dataclass(frozen=True)
class ParallelBeam:
    """A parallel-beam scanner: square image, half a turn of views, detectors as wide as a pixel.

    Parameters
    ----------
    size
        N: the image has N x N pixels. What is reconstructed is the inscribed circle.
    views
        Number of directions over 180°. Free of streaks from about N·π/2.
    pixel
        Side of a pixel and pitch of the detectors in mm.
    detectors
        Elements of a row, N or more; by default N.
    eps
        Relative tolerance of the non-uniform FFT. 1e-3 lies below the noise of any scan (0.3 HU on a water disc, 1e-4:
        0.01 HU); below 1e-4 double precision is used, at about twice the time.

    Notes
    -----
    Instances are small values: they pickle, hash and compare. The transform's plan is built at first use, per thread,
    and shared by all beams with the same numbers of pixels, views and detectors. Transforms use one thread.

    Raises
    ------
    PlanError
        If a parameter is out of its range.
    """

    size: int
    views: int
    pixel: float
    detectors: int | None = None
    eps: float = 1e-3

    def __post_init__(self) -> None:
        require(self.size >= 8, f"size must be at least 8 pixels, got {self.size}")
        require(self.views >= 1, f"views must be at least 1, got {self.views}")
        require(self.pixel > 0 and np.isfinite(self.pixel), f"pixel must be above 0 mm, got {self.pixel}")
        require(
            self.detectors is None or self.detectors >= self.size,
            f"{self.detectors} detectors do not cover {self.size} pixels; use {self.size} or more, or leave it out",
        )
        require(1e-8 <= self.eps <= 0.1, f"eps must lie between 1e-8 and 0.1, got {self.eps}")

    @property
    def row(self) -> int:
        """Number of detector elements of a view."""
        return self.size if self.detectors is None else self.detectors

    @property
    def nyquist(self) -> float:
        """Highest frequency that the detectors sample, in cycles/mm; the default cut-off of `fbp`."""
        return 0.5 / self.pixel

    @property
    def angles(self) -> np.ndarray:
        """Directions of the views in radians, shape ``(views,)``."""
        return np.arange(self.views) * (np.pi / self.views)

    @property
    def positions(self) -> np.ndarray:
        """Distances of the detectors' centres from the rotation axis in mm, shape ``(detectors,)``."""
        return (np.arange(self.row) - (self.row - 1) / 2) * self.pixel

    def project(self, image: np.ndarray) -> np.ndarray:
        """Return the line integrals of images.

        Parameters
        ----------
        image
            Attenuation in 1/mm, shape ``(..., N, N)``; corners outside the inscribed circle count where rays meet them.

        Returns
        -------
        numpy.ndarray
            Shape ``(..., views, detectors)``, no unit, single precision (double where ``eps`` is below 1e-4).
            Between the pixels the image is taken as band limited (sinc), so no blur is added.

        Raises
        ------
        DataError
            If the shape is another one or a value is not finite.
        """
        n = self.size
        _require_shape(image, (n, n), "image")
        # One period of the radial FFT must hold the diagonal, or corners would fold back into the picture.
        period = scipy.fft.next_fast_len(max(self.row, int(np.ceil(n * np.sqrt(2)))) + 2, real=True)
        plan = _slices(2, n, self.views, period, self.eps)
        first = -(self.row - 1) / 2
        phase = _phase(self.views, period, n, first, plan.complex)
        stack = np.asarray(image).reshape(-1, n, n)
        out: np.ndarray = np.empty((len(stack), self.views, self.row), plan.real)
        for picture, rows in zip(stack, out, strict=True):
            spectrum = plan.execute(picture.astype(plan.complex)).reshape(phase.shape)
            rows[:] = scipy.fft.irfft(spectrum * phase, period, axis=-1, overwrite_x=True)[:, : self.row]
        out *= self.pixel
        return out.reshape(*np.shape(image)[:-2], self.views, self.row)

    def fbp(self, sinogram: np.ndarray, kernel: str = "ramp", cutoff: float | None = None) -> np.ndarray:
        """Return images by filtered back-projection.

        The ramp is that of Kak and Slaney's discrete, zero-padded kernel, so that the mean is right: a water disc has
        0 HU, without cupping. Between detectors the filtered views are band limited (trigonometric interpolation), not
        linear, so the kernel's MTF is the MTF of the image.

        Parameters
        ----------
        sinogram
            Line integrals, shape ``(..., views, detectors)``.
        kernel
            One of `KERNELS`: see `kernel_mtf`.
        cutoff
            First frequency not passed, in cycles/mm; by default `nyquist`, beyond which nothing passes anyway.

        Returns
        -------
        numpy.ndarray
            Attenuation in 1/mm, shape ``(..., N, N)``, 0 outside the inscribed circle.

        Raises
        ------
        DataError
            If the shape is another one or a value is not finite.
        UnknownKindError
            If there is no such kernel.
        """
        n, row = self.size, self.row
        _require_shape(sinogram, (self.views, row), "sinogram")
        # The filtered views need to be right within the circle only: a margin keeps the wrap's ringing outside.
        period = scipy.fft.next_fast_len(int(np.ceil(1.1 * n)) + 8, real=True)
        start = (row - period) // 2
        padded, response = self._filter(kernel, cutoff, start, row + period)
        plan = _slices(1, n, self.views, period, self.eps)
        phase = np.conj(_phase(self.views, period, n, start - (row - 1) / 2, plan.complex))
        phase = phase * _one_sided(period).astype(plan.real)
        stack: np.ndarray = np.asarray(sinogram, plan.real).reshape(-1, self.views, row)
        out: np.ndarray = np.empty((len(stack), n, n), plan.real)
        for rows, picture in zip(stack, out, strict=True):
            spectrum = scipy.fft.rfft(rows, padded, axis=-1) * response.astype(plan.complex)
            filtered = scipy.fft.irfft(spectrum, padded, axis=-1, overwrite_x=True)[:, :period]
            coefficients = scipy.fft.rfft(filtered, axis=-1) * phase
            picture[:] = plan.execute(coefficients.ravel()).real
        out *= np.pi / (self.views * period) * _circle(n)
        return out.reshape(*np.shape(sinogram)[:-2], n, n)

    def line_integrals(self, ellipses: Sequence[Ellipse]) -> np.ndarray:
        """Return the closed-form sinogram of ellipses, shape ``(views, detectors)``.

        A chord at distance s from the centre is 2ab√(w² - s²)/w² long, w being the half width of the shadow.
        """
        out = np.zeros((self.views, self.row))
        for e in ellipses:
            turned = self.angles - np.radians(e.degrees)
            width2 = (e.radii[0] * np.cos(turned)) ** 2 + (e.radii[1] * np.sin(turned)) ** 2
            shift = e.center[0] * np.cos(self.angles) + e.center[1] * np.sin(self.angles)
            inside = np.maximum(0, width2[:, None] - (self.positions - shift[:, None]) ** 2)
            out += 2 * e.attenuation * e.radii[0] * e.radii[1] * np.sqrt(inside) / width2[:, None]
        return out

    def _filter(self, kernel: str, cutoff: float | None, start: int, least: int) -> tuple[int, np.ndarray]:
        """Return the FFT length and the response, which also moves output sample ``start`` to index 0."""
        length = scipy.fft.next_fast_len(least, real=True)
        n = np.arange(length)
        n = np.minimum(n, length - n)
        ramp = np.zeros(length)
        ramp[0] = 0.25
        odd = n % 2 == 1
        ramp[odd] = -1 / (np.pi * n[odd]) ** 2
        frequency = scipy.fft.rfftfreq(length)
        window = kernel_mtf(kernel, frequency / self.pixel, self.nyquist if cutoff is None else cutoff)
        return length, scipy.fft.rfft(ramp).real / self.pixel * window * np.exp(2j * np.pi * frequency * start)


@dataclass(frozen=True)
class _Plan:
    """A planned transform between an N x N image and radial lines of its spectrum, in one precision."""

    transform: Any
    real: type
    complex: type

    def execute(self, data: np.ndarray) -> np.ndarray:
        return cast(np.ndarray, self.transform.execute(data))


# finufft's plans cannot be pickled and must not be used by two threads at once: so neither fields nor globals.
_plans = threading.local()


def _slices(kind: int, size: int, views: int, period: int, eps: float) -> _Plan:
    """Return the type 1 (lines to image) or type 2 (image to lines) transform of this geometry, from the cache."""
    kept: OrderedDict[tuple[Any, ...], _Plan] = _plans.__dict__.setdefault("kept", OrderedDict())
    key = (kind, size, views, period, eps)
    if key not in kept:
        real, complex_ = (np.float32, np.complex64) if eps >= 1e-4 else (np.float64, np.complex128)
        # Oversampling 1.25 takes a wider kernel and a far smaller FFT than 2: four times as fast on one thread here.
        sign = 1 if kind == 1 else -1
        dtype = np.dtype(complex_).name
        transform = finufft.Plan(kind, (size, size), 1, eps, sign, dtype=dtype, nthreads=1, upsampfac=1.25)
        u, v = _lines(views, period)
        transform.setpts(u.astype(real), v.astype(real))
        kept[key] = _Plan(transform, real, complex_)
        while len(kept) > PLANS_KEPT:
            kept.popitem(last=False)
    kept.move_to_end(key)
    return kept[key]


def _lines(views: int, period: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the angular frequencies, per pixel, of the positive half of every line (a real image needs no more)."""
    angle = np.arange(views)[:, None] * (np.pi / views)
    radius = scipy.fft.rfftfreq(period) * 2 * np.pi
    return (radius * np.cos(angle)).ravel(), (radius * np.sin(angle)).ravel()


@functools.lru_cache(maxsize=2 * PLANS_KEPT)
def _phase(views: int, period: int, size: int, first: float, dtype: type) -> np.ndarray:
    """Return the factors that put the rotation axis in the array's centre and the first sample at ``first`` pixels."""
    u, v = _lines(views, period)
    # finufft counts pixels from -(N // 2); the centre of the array lies at (N - 1)/2.
    half = (size - 1) / 2 - size // 2
    shift = first * scipy.fft.rfftfreq(period) * 2 * np.pi
    phase: np.ndarray = np.exp(1j * ((u + v) * half).reshape(views, -1) + 1j * shift).astype(dtype)
    phase.flags.writeable = False  # shared by every caller
    return phase


def _one_sided(period: int) -> np.ndarray:
    """Return the weights that make the real part of half a spectrum's sum the sum over the whole of it."""
    weight = np.full(period // 2 + 1, 2.0)
    weight[0] = 1.0
    if period % 2 == 0:
        weight[-1] = 1.0
    return weight


def _circle(size: int) -> np.ndarray:
    """Return the inscribed circle, bool, shape ``(size, size)``."""
    r2 = (np.arange(size) - (size - 1) / 2) ** 2
    return r2[:, None] + r2 <= (size / 2) ** 2


def _require_shape(array: np.ndarray, shape: tuple[int, int], what: str) -> None:
    got = np.shape(array)
    if got[-2:] != shape or np.iscomplexobj(array):
        raise DataError(
            f"{what} must be real with shape (..., {shape[0]}, {shape[1]}), got {got} of {np.asarray(array).dtype}",
            fix="make the ParallelBeam with the size, views and detectors of the data",
        )
    require_finite(np.asarray(array), what)

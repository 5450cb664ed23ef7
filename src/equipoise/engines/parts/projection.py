"""Parallel-beam CT in two dimensions: projection and filtered back-projection.

What is public: `ParallelBeam` (`project`, `fbp`, `line_integrals`) and `Ellipse`, whose `chords` are the closed form of
the line integrals along any rays. What other geometries share lies beside it: the filters in `parts.kernels`, detector
noise and Hounsfield units in `parts.attenuation`, the transform in `parts.fourier_slices`.

Conventions. An image has shape ``(N, N)``; its first axis is u, its second v, and the centre of the array is the
rotation axis. View k is at t = k·180°/views and detector j at s = (j - (detectors - 1)/2)·pixel, where
s = u·cos t + v·sin t. Lengths are in mm, attenuation in 1/mm (divide cm⁻¹ by 10), so line integrals have no unit.

References
----------
Kak AC, Slaney M. Principles of Computerized Tomographic Imaging. IEEE Press 1988, ch. 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.fft

from equipoise.engines.parts.attenuation import require_finite
from equipoise.engines.parts.fourier_slices import FourierSlices
from equipoise.engines.parts.kernels import ramp_response
from equipoise.engines.parts.legal import require_within
from equipoise.errors import DataError

PIXEL_MM = (1e-6, 1e6)
"""Legal size of a pixel: lengths are in mm by convention, and any other unit does."""
MOST_SAMPLES = 100_000
"""Along a side of an image or a sinogram: beyond, it fits into no memory."""


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

    def chords(self, angle: np.ndarray, distance: np.ndarray) -> np.ndarray:
        """Return the line integrals along rays: twice the attenuation, 2ab√(w² - s²)/w², w the shadow's half width.

        Parameters
        ----------
        angle
            Of the ray's normal from u towards v, radians.
        distance
            Of the ray from the rotation axis along that normal, mm; both broadcast against each other.
        """
        a, b = self.radii
        turned = angle - np.radians(self.degrees)
        width2 = (a * np.cos(turned)) ** 2 + (b * np.sin(turned)) ** 2
        shift = self.center[0] * np.cos(angle) + self.center[1] * np.sin(angle)
        inside = np.maximum(0, width2 - (distance - shift) ** 2)
        return np.asarray(2 * self.attenuation * a * b * np.sqrt(inside) / width2)


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
        require_within("size", self.size, 8, MOST_SAMPLES, "pixels")
        require_within("views", self.views, 1, MOST_SAMPLES)
        require_within("pixel", self.pixel, *PIXEL_MM, "mm")
        if self.detectors is not None:
            require_within("detectors", self.detectors, self.size, MOST_SAMPLES)  # fewer would not cover the pixels
        require_within("eps", self.eps, 1e-8, 0.1)

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
        slices = FourierSlices(n, self.views, period, -(self.row - 1) / 2, self.eps)
        stack = np.asarray(image).reshape(-1, n, n)
        out: np.ndarray = np.empty((len(stack), self.views, self.row), slices.real)
        for picture, rows in zip(stack, out, strict=True):
            spectrum = slices.of_image(picture)
            rows[:] = scipy.fft.irfft(spectrum, period, axis=-1, overwrite_x=True)[:, : self.row]
        out *= self.pixel
        return out.reshape(*np.shape(image)[:-2], self.views, self.row)

    def fbp(self, sinogram: np.ndarray, kernel: str = "ramp", cutoff: float | None = None) -> np.ndarray:
        """Return images by filtered back-projection.

        The mean is right: a water disc has 0 HU, without cupping (see `ramp_response`). Between detectors the filtered
        views are band limited (trigonometric interpolation), not linear, so the kernel's MTF is the MTF of the image.

        Parameters
        ----------
        sinogram
            Line integrals, shape ``(..., views, detectors)``.
        kernel
            One of `parts.kernels.KERNELS`: see `kernel_mtf` there.
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
        PlanError
            If there is no such kernel.
        """
        n, row = self.size, self.row
        _require_shape(sinogram, (self.views, row), "sinogram")
        # The filtered views need to be right within the circle only: a margin keeps the wrap's ringing outside.
        period = scipy.fft.next_fast_len(int(np.ceil(1.1 * n)) + 8, real=True)
        start = (row - period) // 2
        padded = scipy.fft.next_fast_len(row + period, real=True)
        response = ramp_response(padded, self.pixel, kernel, self.nyquist if cutoff is None else cutoff)
        response = response * np.exp(2j * np.pi * scipy.fft.rfftfreq(padded) * start)  # sample `start` comes first
        slices = FourierSlices(n, self.views, period, start - (row - 1) / 2, self.eps)
        stack: np.ndarray = np.asarray(sinogram, slices.real).reshape(-1, self.views, row)
        out: np.ndarray = np.empty((len(stack), n, n), slices.real)
        for rows, picture in zip(stack, out, strict=True):
            spectrum = scipy.fft.rfft(rows, padded, axis=-1) * response.astype(slices.complex)
            filtered = scipy.fft.irfft(spectrum, padded, axis=-1, overwrite_x=True)[:, :period]
            picture[:] = slices.to_image(scipy.fft.rfft(filtered, axis=-1))
        out *= np.pi / (self.views * period) * _circle(n)
        return out.reshape(*np.shape(sinogram)[:-2], n, n)

    def line_integrals(self, ellipses: Sequence[Ellipse]) -> np.ndarray:
        """Return the closed-form sinogram of ellipses, shape ``(views, detectors)``."""
        out = np.zeros((self.views, self.row))
        for ellipse in ellipses:
            out += ellipse.chords(self.angles[:, None], self.positions)
        return out


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


__all__ = ["Ellipse", "ParallelBeam"]

"""Fan-beam CT: rays from a focal spot on a circle to detectors on an arc, and their rebinning to parallel rays.

Conventions are those of `equipoise.engines.parts.projection`: a ray has the angle t of its normal and the signed
distance s from the rotation axis. A fan ray of the view at b and the fan angle g is the parallel ray t = b + g,
s = R·sin g, with R the distance of the focal spot from the axis. The fan turns once around: each ray is measured twice,
from both ends; detectors sit a quarter of their pitch off centre, so that the second pass falls between the first.

References
----------
Kak AC, Slaney M. Principles of Computerized Tomographic Imaging. IEEE Press 1988, ch. 3.4 (fan-beam, re-sorting).
Keys RG. Cubic convolution interpolation for digital image processing. IEEE Trans Acoust 1981.
doi:10.1109/TASSP.1981.1163711
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.fft
from numba import njit

from equipoise.engines.parts.legal import require_within
from equipoise.engines.parts.projection import Ellipse, ParallelBeam

QUARTER = 0.25
_SPARE = 8


@dataclass(frozen=True)
class FanBeam:
    """A fan-beam scanner about the field of view of a parallel one.

    Parameters
    ----------
    parallel
        What the rays are rebinned to: the field of view, its views and the pitch of its detectors, which the fan's
        have at the rotation axis.
    source_mm
        From the focal spot to the rotation axis.
    axis_mm
        Where the rotation axis lies, in mm from the field of view's centre.

    Raises
    ------
    PlanError
        If the focal spot would lie in the patient.
    """

    parallel: ParallelBeam
    source_mm: float = 570.0
    axis_mm: tuple[float, float] = (0.0, 0.0)

    def __post_init__(self) -> None:
        reach = self._reach
        # Nearer than that the focal spot would lie in the patient.
        require_within("source_mm", self.source_mm, float(np.ceil(1.2 * reach)), np.inf, "mm")

    @property
    def views(self) -> int:
        """Views of the whole turn."""
        return 2 * self.parallel.views

    @property
    def elements(self) -> int:
        """Detectors of the arc: they see the whole field of view from everywhere."""
        return 2 * int(np.ceil(np.arcsin(self._reach / self.source_mm) / self._pitch)) + 4

    @property
    def _reach(self) -> float:
        return float(np.hypot(*self.axis_mm)) + (self.parallel.row / 2 + 1) * self.parallel.pixel

    @property
    def _pitch(self) -> float:
        return self.parallel.pixel / self.source_mm

    @property
    def fan_angles(self) -> np.ndarray:
        """Angle of each element from the central ray in radians, shape ``(elements,)``."""
        return (np.arange(self.elements) - (self.elements - 1) / 2 + QUARTER) * self._pitch

    @property
    def rays(self) -> tuple[np.ndarray, np.ndarray]:
        """Angle of each ray's normal, and its distance from the rotation axis in mm, shape ``(views, elements)``."""
        view = np.arange(self.views) * (2 * np.pi / self.views)
        angle = view[:, None] + self.fan_angles
        return angle, np.broadcast_to(self.source_mm * np.sin(self.fan_angles), angle.shape)

    def distances(self) -> tuple[np.ndarray, np.ndarray]:
        """Return angles and distances from the field of view's centre, shape ``(views, elements)``."""
        angle, distance = self.rays
        if not any(self.axis_mm):
            return angle, distance
        return angle, distance + self.axis_mm[0] * np.cos(angle) + self.axis_mm[1] * np.sin(angle)

    def line_integrals(self, ellipses: Sequence[Ellipse]) -> np.ndarray:
        """Return the closed-form fan sinogram of ellipses, shape ``(views, elements)``."""
        out = np.zeros((self.views, self.elements))
        if not ellipses:
            return out
        angle, distance = self.distances()
        for ellipse in ellipses:
            out += ellipse.chords(angle, distance)
        return out

    def project(self, image: np.ndarray, moved_mm: np.ndarray | None = None) -> np.ndarray:
        """Return the line integrals of an image along the fan's rays.

        Parameters
        ----------
        image
            Attenuation in 1/mm, shape ``(N, N)``, zero outside the inscribed circle.
        moved_mm
            Where the object is during each view, shape ``(views, 2)``, in mm; ``None`` leaves it in place.

        Returns
        -------
        numpy.ndarray
            Float32, shape ``(views, elements)``: read off a parallel sinogram of twice the views, band limited to twice
            the detectors, by cubic convolution.
        """
        p = self.parallel
        dense = ParallelBeam(p.size, 2 * p.views, p.pixel, p.row + 2 * _SPARE, p.eps)
        rows = dense.project(image)
        # Twice the samples of a band-limited row: zeros are added to its spectrum.
        fine = scipy.fft.irfft(scipy.fft.rfft(rows, axis=-1), 2 * rows.shape[-1], axis=-1).astype(np.float32) * 2
        angle, distance = self.distances()
        if moved_mm is not None:
            distance = distance - moved_mm[:, :1] * np.cos(angle) - moved_mm[:, 1:] * np.sin(angle)
        place = distance / p.pixel * 2 + (rows.shape[-1] - 1)
        return np.asarray(_from_parallel(fine, angle.ravel(), place.ravel()).reshape(angle.shape))

    def rebin(self, sinogram: np.ndarray) -> np.ndarray:
        """Return parallel line integrals, the mean of both measurements of each ray, shape ``(views, detectors)``.

        Parameters
        ----------
        sinogram
            Shape ``(2 views, elements)``; taken as 0 beyond the arc.
        """
        p = self.parallel
        angle = p.angles[:, None]
        distance = p.positions - self.axis_mm[0] * np.cos(angle) - self.axis_mm[1] * np.sin(angle)
        fan = np.arcsin(np.clip(distance / self.source_mm, -1, 1))
        middle, turn = (self.elements - 1) / 2 - QUARTER, self.views / (2 * np.pi)
        flat = np.ascontiguousarray(sinogram, np.float32)
        first = _from_fan(flat, ((angle - fan) * turn).ravel(), (fan / self._pitch + middle).ravel())
        second = _from_fan(flat, ((angle + np.pi + fan) * turn).ravel(), (-fan / self._pitch + middle).ravel())
        return np.asarray(((first + second) / 2).reshape(distance.shape))


@njit(inline="always")  # type: ignore[untyped-decorator]
def _weights(x: float, out: np.ndarray) -> None:
    """Write the four weights of cubic convolution at ``x`` in [0, 1) behind the second sample."""
    out[0] = ((-0.5 * x + 1.0) * x - 0.5) * x
    out[1] = (1.5 * x - 2.5) * x * x + 1.0
    out[2] = ((-1.5 * x + 2.0) * x + 0.5) * x
    out[3] = (0.5 * x - 0.5) * x * x


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _from_parallel(rows: np.ndarray, angle: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Read a half-turn sinogram at any angle: half a turn on, the row is the same from behind."""
    views, width = rows.shape
    out = np.zeros(angle.size, np.float32)
    across, along = np.empty(4), np.empty(4)
    for n in range(angle.size):
        y = angle[n] * views / np.pi
        v = int(np.floor(y))
        _weights(y - v, across)
        total = 0.0
        for a in range(4):
            view = v - 1 + a
            # Of twice the samples the last but one mirrors the first: the last lies half a detector beyond.
            x = width - 2 - place[n] if (view // views) % 2 else place[n]
            s = int(np.floor(x))
            if s < 1 or s + 2 >= width:
                continue
            _weights(x - s, along)
            row = rows[view % views]
            total += across[a] * (
                along[0] * row[s - 1] + along[1] * row[s] + along[2] * row[s + 1] + along[3] * row[s + 2]
            )
        out[n] = total
    return out


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _from_fan(rows: np.ndarray, view: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Read a full-turn sinogram between its views, which are periodic, and elements."""
    views, width = rows.shape
    out = np.zeros(view.size, np.float32)
    across, along = np.empty(4), np.empty(4)
    for n in range(view.size):
        v, s = int(np.floor(view[n])), int(np.floor(place[n]))
        if s < 1 or s + 2 >= width:
            continue
        _weights(view[n] - v, across)
        _weights(place[n] - s, along)
        total = 0.0
        for a in range(4):
            row = rows[(v - 1 + a) % views]
            total += across[a] * (
                along[0] * row[s - 1] + along[1] * row[s] + along[2] * row[s + 1] + along[3] * row[s + 2]
            )
        out[n] = total
    return out


__all__ = ["FanBeam"]

"""Cone-beam projection: the length of every ray in every object of a label map, in one pass.

Joseph's method: a ray is followed plane by plane along the axis that it is closest to, and interpolated linearly in the
other two. Of a label map, the weights of the four neighbours go to their labels; where these are one, which is nearly
everywhere, steps are only counted.

References
----------
Joseph PM. An improved algorithm for reprojecting rays through pixel images. IEEE Trans Med Imaging 1982.
doi:10.1109/TMI.1982.4307572
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numba import njit

from equipoise.engines.imaging.simulate_xray.projection_on_device import thickness_on

View = Literal["PA", "AP", "lateral"]
VIEWS: tuple[View, ...] = ("PA", "AP", "lateral")


@dataclass(frozen=True)
class Beam:
    """A point source and a flat detector, about the middle of a volume.

    Volume and detector share three axes: *across* (the detector's columns), *along* (from detector to source or back)
    and *up*.

    Parameters
    ----------
    source_mm
        Distance of the source from the middle of the volume.
    detector_mm
        Distance of the detector from it.
    shape
        Detector elements: columns, rows.
    pixel_mm
        Their pitch.
    toward
        1: the source lies where the *along* axis ends; -1: where it begins.
    turn, tilt
        Rotation of the patient about the *up* axis, and of the beam about *across*, in degrees.
    shift_mm
        Of the detector against the middle, across and up.
    """

    source_mm: float
    detector_mm: float
    shape: tuple[int, int]
    pixel_mm: float
    toward: int = 1
    turn: float = 0.0
    tilt: float = 0.0
    shift_mm: tuple[float, float] = (0.0, 0.0)

    @property
    def magnification(self) -> float:
        """Of what lies in the middle."""
        return (self.source_mm + self.detector_mm) / self.source_mm

    def rays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Return source, centre of the first element, and the steps of a column and of a row (downwards), in mm."""
        a, b = np.radians(self.turn), np.radians(self.tilt)
        about_up = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
        about_across = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
        rotate = about_up @ about_across
        columns, rows = self.shape
        across, up = self.shift_mm
        first = [
            across - (columns - 1) / 2 * self.pixel_mm, -self.toward * self.detector_mm,
            up + (rows - 1) / 2 * self.pixel_mm,
        ]  # fmt: skip
        source = [across, self.toward * self.source_mm, up]
        step = self.pixel_mm
        return rotate @ source, rotate @ first, rotate @ [step, 0, 0], rotate @ [0, 0, -step]


def oriented(array: np.ndarray, affine: np.ndarray, view: View) -> tuple[np.ndarray, tuple[float, float, float], int]:
    """Return a volume with the axes *across*, *along*, *up* of a view, its spacing, and the source's side.

    Parameters
    ----------
    array
        Shape ``(I, J, K)``.
    affine
        Voxels to RAS+ world coordinates; oblique volumes go with their nearest axes.
    view
        PA and AP films show the patient's left on the right; lateral ones look at the left, the front to the left.
    """
    rotation = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    taken: list[int] = []
    for world in range(3):
        order = np.argsort(-np.abs(rotation[world]))
        taken.append(int(next(k for k in order if k not in taken)))
    signs = [np.sign(rotation[world, k]) for world, k in enumerate(taken)]
    spacing = np.linalg.norm(affine[:3, :3], axis=0)[taken]
    # World is right, front, up; wanted are left, back, up.
    turned = array.transpose(taken)[:: int(-signs[0]), :: int(-signs[1]), :: int(signs[2])]
    if view == "lateral":
        turned, spacing = turned.transpose(1, 0, 2), spacing[[1, 0, 2]]
    left, back, up = (float(s) for s in spacing)
    # PA: from the back. AP: from the front. Lateral: from the right, where the axis to the left begins.
    return np.array(turned, order="C"), (left, back, up), 1 if view == "PA" else -1


@dataclass(frozen=True, eq=False)
class LabelRays:
    """A label map made ready for rays.

    Parameters
    ----------
    padded
        Index of the object in each voxel, with one voxel of air on the first and the last axis.
    cells
        Of each square of four voxels in a plane their common index, or 255.
    spacing
        Across, along, up in mm.
    """

    padded: np.ndarray
    cells: np.ndarray
    spacing: np.ndarray

    @classmethod
    def of(cls, values: np.ndarray, spacing: tuple[float, float, float]) -> LabelRays:
        """Return a label map, uint8, shape ``(across, along, up)``, made ready."""
        padded = np.zeros((values.shape[0] + 2, values.shape[1], values.shape[2] + 2), np.uint8)
        padded[1:-1, :, 1:-1] = values
        return cls(padded, _cells(padded), np.array(spacing))

    def thickness(
        self, beam: Beam, count: int, columns: tuple[int, int] | None = None, device: str = "cpu"
    ) -> np.ndarray:
        """Return the length of each ray in each object in mm, float32, shape ``(columns, rows, count)``.

        Parameters
        ----------
        beam
            The geometry.
        count
            Objects, air (index 0, never counted) included.
        columns
            First and last but one column of the detector; ``None`` is all.
        device
            ``"cuda"`` or ``"cuda:0"`` … go through torch, see `projection_on_device`.
        """
        first, last = columns or (0, beam.shape[0])
        if device != "cpu":
            source, corner, column, row = beam.rays()
            rays = source, corner + first * column, column, row
            return thickness_on(device, self.padded, self.spacing, rays, (last - first, beam.shape[1]), count)
        out = np.zeros((last - first, beam.shape[1], count), np.float32)
        _trace_labels(self.cells, self.padded, self.spacing, *beam.rays(), first, out)
        return out


def project(density: np.ndarray, spacing: tuple[float, float, float], beam: Beam) -> np.ndarray:
    """Return the line integrals of a volume times mm, float32, shape ``(columns, rows)``.

    Parameters
    ----------
    density
        Shape ``(across, along, up)``.
    spacing
        In mm.
    beam
        The geometry.
    """
    padded = np.zeros((density.shape[0] + 2, density.shape[1], density.shape[2] + 2), np.float32)
    padded[1:-1, :, 1:-1] = density
    out = np.zeros(beam.shape, np.float32)
    _trace_density(padded, np.array(spacing), *beam.rays(), out)
    return out


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _cells(padded: np.ndarray) -> np.ndarray:
    na, nb, nc = padded.shape
    cells = np.empty((na - 1, nb, nc - 1), np.uint8)
    for i in range(na - 1):
        for j in range(nb):
            p, q, out = padded[i, j], padded[i + 1, j], cells[i, j]
            for k in range(nc - 1):
                same = (p[k] ^ q[k]) | (p[k] ^ p[k + 1]) | (p[k] ^ q[k + 1])
                out[k] = p[k] if same == 0 else 255
    return cells


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _entry(
    source: np.ndarray, dx: float, dy: float, dz: float, spacing: np.ndarray, na: int, nb: int, nc: int
) -> tuple[float, float, float, float, int, int, float]:
    """Return where a ray starts and steps in voxels across and up, the planes that it meets, and mm per plane."""
    t = spacing[1] / dy
    # Position at plane 0, counted from the padded volume's first voxel.
    to_first = (-(nb - 1) / 2 * spacing[1] - source[1]) / dy
    x0 = (source[0] + to_first * dx) / spacing[0] + (na - 1) / 2
    z0 = (source[2] + to_first * dz) / spacing[2] + (nc - 1) / 2
    sx, sz = t * dx / spacing[0], t * dz / spacing[2]
    low, high = 0.0, nb - 1.0
    for at, step, top in ((x0, sx, na - 1.0), (z0, sz, nc - 1.0)):
        if abs(step) < 1e-12:
            if at < 0 or at >= top:
                high = -1.0
        else:
            one, two = -at / step, (top - at) / step
            low, high = max(low, min(one, two)), min(high, max(one, two))
    first, last = int(np.ceil(low - 1e-9)), int(np.floor(high + 1e-9))
    mm = abs(t) * np.sqrt(dx * dx + dy * dy + dz * dz)
    # The ends may touch the volume's last face by rounding.
    while first <= last and not (0 <= x0 + first * sx < na - 1 and 0 <= z0 + first * sz < nc - 1):
        first += 1
    while first <= last and not (0 <= x0 + last * sx < na - 1 and 0 <= z0 + last * sz < nc - 1):
        last -= 1
    return x0, z0, sx, sz, first, last, mm


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _trace_labels(
    cells: np.ndarray, padded: np.ndarray, spacing: np.ndarray, source: np.ndarray, corner: np.ndarray,
    column: np.ndarray, row: np.ndarray, start: int, out: np.ndarray,
) -> None:  # fmt: skip
    na, nb, nc = padded.shape
    flat = cells.ravel()
    plane, line = nb * (nc - 1), nc - 1
    for u in range(out.shape[0]):
        for v in range(out.shape[1]):
            target = corner + (u + start) * column + v * row
            dx, dy, dz = target[0] - source[0], target[1] - source[1], target[2] - source[2]
            x, z, sx, sz, first, last, mm = _entry(source, dx, dy, dz, spacing, na, nb, nc)
            acc = out[u, v]
            x, z = x + first * sx, z + first * sz
            current, run = 0, 0
            at = first * line
            for n in range(first, last + 1):
                i, k = np.int64(x), np.int64(z)
                found = flat[i * plane + at + k]
                if found == current:
                    run += 1
                else:
                    if current > 0:
                        acc[current] += np.float32(run * mm)
                    if found == 255:
                        fx, fz = x - i, z - k
                        acc[padded[i, n, k]] += np.float32((1 - fx) * (1 - fz) * mm)
                        acc[padded[i + 1, n, k]] += np.float32(fx * (1 - fz) * mm)
                        acc[padded[i, n, k + 1]] += np.float32((1 - fx) * fz * mm)
                        acc[padded[i + 1, n, k + 1]] += np.float32(fx * fz * mm)
                        current, run = 0, 0
                    else:
                        current, run = found, 1
                x += sx
                z += sz
                at += line
            if current > 0:
                acc[current] += np.float32(run * mm)
            acc[0] = 0


@njit(cache=True, nogil=True, fastmath=True)  # type: ignore[untyped-decorator]
def _trace_density(
    padded: np.ndarray, spacing: np.ndarray, source: np.ndarray, corner: np.ndarray, column: np.ndarray,
    row: np.ndarray, out: np.ndarray,
) -> None:  # fmt: skip
    na, nb, nc = padded.shape
    for u in range(out.shape[0]):
        for v in range(out.shape[1]):
            target = corner + u * column + v * row
            dx, dy, dz = target[0] - source[0], target[1] - source[1], target[2] - source[2]
            x, z, sx, sz, first, last, mm = _entry(source, dx, dy, dz, spacing, na, nb, nc)
            total = 0.0
            for n in range(first, last + 1):
                px, pz = x + n * sx, z + n * sz
                i, k = int(px), int(pz)
                fx, fz = px - i, pz - k
                total += (1 - fx) * ((1 - fz) * padded[i, n, k] + fz * padded[i, n, k + 1]) + fx * (
                    (1 - fz) * padded[i + 1, n, k] + fz * padded[i + 1, n, k + 1]
                )
            out[u, v] = total * mm


__all__ = ["VIEWS", "Beam", "LabelRays", "View", "oriented", "project"]

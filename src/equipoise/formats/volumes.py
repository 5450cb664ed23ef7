"""Reads and writes NIfTI: header first, voxels when asked for, the grid exactly as the file states it.

Voxels are never reoriented; the affine says where they lie (RAS+, mm).
"""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from equipoise.core.case import Origin
from equipoise.core.geometry import Geometry, Unit
from equipoise.errors import GeometryMismatchError, UnreadableFileError
from equipoise.formats.headers import Header, header_failure, reading
from equipoise.formats.provenance import origin_mark, origin_marked

NIFTI_SUFFIXES = (".nii", ".nii.gz")

PIXELS = "grid in pixels: no physical size"
"""Text in a NIfTI header's description by which a picture without a physical size is known again. NIfTI's own
"unknown unit" will not do: most files that mean millimetres say that."""

_COMMENT = 6
"""Code of a header extension that holds text, in the NIfTI-1 standard (``NIFTI_ECODE_COMMENT``)."""

_TO_MM = {"mm": 1.0, "unknown": 1.0, "meter": 1000.0, "micron": 0.001}
_REAL = Origin()
_STORED = {"bool": "uint8", "float16": "float32", "int64": "int32", "uint64": "uint32"}


def volume_header(path: Path) -> Header:
    """Return shape, type, affine and origin of a NIfTI file without reading its voxels.

    Raises
    ------
    UnreadableFileError
        Missing, empty, cut short, complex numbers, or more than one axis beyond the third.
    GeometryMismatchError
        The sform and the qform put the voxels in different places.
    """
    with reading(path):
        image = nib.load(path)
        header = image.header
        require_whole_file(path, image)
        affine, unit = _affine(path, header), _unit(header)
        return Header(_shape(path, image), _dtype(path, image), affine, unit, origin=_origin(header))


def read_volume(path: str) -> np.ndarray:
    """Return the voxels of a NIfTI file, shape ``(C, I, J, K)``; slope and intercept are applied."""
    file = Path(path)
    with reading(file):
        image = nib.load(file)
        shape, dtype = _shape(file, image), _dtype(file, image)
        array = np.asanyarray(image.dataobj)
        if array.dtype.names:  # RGB24: one record of three bytes per voxel
            array = np.stack([array[name] for name in ("R", "G", "B")], axis=-1)
        spatial = array.reshape((*shape[1:], shape[0]))
        return np.ascontiguousarray(np.moveaxis(spatial, -1, 0).astype(dtype, copy=False))


def write_volume(path: Path, array: np.ndarray, geometry: Geometry, origin: Origin = _REAL) -> None:
    """Write one channel, shape ``(I, J, K)``, or several, ``(C, I, J, K)`` (then 4-D), as NIfTI on a grid.

    A synthetic origin is kept in an extension of the header, which other programs skip.

    Types that not every NIfTI reader knows are replaced: bool by uint8, float16 by float32, 64-bit integers by 32-bit
    ones where they fit and by float64 where they do not.
    """
    voxels = np.moveaxis(array, 0, -1) if array.ndim == 4 else array
    stored = np.dtype(_STORED.get(voxels.dtype.name, voxels.dtype.name))
    if (
        stored.kind in "iu"
        and voxels.size
        and not (np.iinfo(stored).min <= voxels.min() and voxels.max() <= np.iinfo(stored).max)
    ):
        stored = np.dtype(np.float64)
    image = nib.Nifti1Image(np.asarray(voxels, dtype=stored), geometry.affine)
    image.set_sform(geometry.affine, code=1)
    axes = geometry.affine[:3, :3] / np.linalg.norm(geometry.affine[:3, :3], axis=0)
    # A quaternion cannot hold a shear: a sheared grid is stated by its sform alone, so that the two cannot disagree.
    if np.allclose(axes.T @ axes, np.eye(3), atol=1e-5):
        image.set_qform(geometry.affine, code=1)
    image.header.set_xyzt_units("mm" if geometry.unit == "mm" else "unknown")
    if geometry.unit == "px":
        image.header["descrip"] = PIXELS.encode()
    if origin.kind == "synthetic":
        image.header.extensions.append(nib.nifti1.Nifti1Extension(_COMMENT, origin_mark(origin)))
    nib.save(image, path)


def require_whole_file(path: Path, image: Any) -> None:
    """Raise unless an uncompressed file is as long as its header says; a compressed one shows when it is read."""
    if path.suffix.lower() == ".gz":
        return
    need = int(image.dataobj.offset) + int(np.prod(image.shape)) * image.dataobj.dtype.itemsize
    if path.stat().st_size < need:
        raise UnreadableFileError(
            f"the file is cut short: {path.stat().st_size} bytes, its header promises {need}",
            file=path,
            fix="copy it again from its source",
        )


def _shape(path: Path, image: Any) -> tuple[int, int, int, int]:
    shape = tuple(int(n) for n in image.shape)
    extra = [n for n in shape[3:] if n > 1]
    if len(shape) < 2 or len(extra) > 1 or 0 in shape:
        raise header_failure(path, f"its shape {shape} is no image (I, J[, K[, C]])", "save one file per time point")
    i, j, k = (*shape[:3], 1)[:3]
    channels = 3 if image.dataobj.dtype.names else (extra[0] if extra else 1)
    return channels, i, j, k


def _dtype(path: Path, image: Any) -> np.dtype:
    stored = image.dataobj.dtype
    if stored.names:
        return np.dtype(np.uint8)
    if stored.kind == "c":
        raise header_failure(path, f"its voxels are complex numbers ({stored})", "save the magnitude")
    if image.dataobj.slope != 1.0 or image.dataobj.inter != 0.0:
        return np.dtype(np.float32)
    native: np.dtype = stored.newbyteorder("=")
    return native


def _unit(header: Any) -> Unit:
    return "px" if bytes(header["descrip"].item()).rstrip(b"\0") == PIXELS.encode() else "mm"


def _origin(header: Any) -> Origin:
    """Return the origin that `write_volume` left in the header; NIfTI-2 and Analyze files may have no extensions."""
    comments = (e.content for e in getattr(header, "extensions", ()) if e.get_code() == _COMMENT)
    found = (origin_marked(comment) for comment in comments if isinstance(comment, bytes))
    return next((origin for origin in found if origin.kind == "synthetic"), _REAL)


def _affine(path: Path, header: Any) -> np.ndarray:
    """Return the affine in mm; both orientations that a file states must agree to half a voxel at every corner."""
    sform, s_code = header.get_sform(coded=True)
    qform, q_code = header.get_qform(coded=True)
    if s_code and q_code:
        corners = np.array([(*c, 1) for c in product(*((0, n - 1) for n in (*header.get_data_shape(), 1)[:3]))]).T
        apart = float(np.abs((sform - qform) @ corners).max())
        smallest = float(np.linalg.norm(sform[:3, :3], axis=0).min())
        if apart > 0.5 * smallest:
            raise GeometryMismatchError(
                f"the file's sform (code {int(s_code)}) and qform (code {int(q_code)}) put its voxels up to "
                f"{apart:.3g} mm apart; they must agree to half a voxel ({0.5 * smallest:.3g} mm)\n"
                f"  sform: {_rows(sform)}\n  qform: {_rows(qform)}",
                file=path,
                why="tools choose differently between the two, so image and mask would shift against each other",
                fix="find out which is right, then copy it over the other: with nibabel, "
                "`image.set_qform(image.get_sform(), code=1)` (or the reverse), and save",
            )
    affine = np.array(header.get_best_affine(), dtype=float)
    affine[:3] *= _TO_MM.get(header.get_xyzt_units()[0], 1.0)
    return affine


def _rows(affine: np.ndarray) -> str:
    return "; ".join(" ".join(f"{x:.4g}" for x in row) for row in affine[:3])

"""Opens an image file of any format that we read, by its name: the header now, the voxels later."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from equipoise.core.image import Image, LazyVoxels
from equipoise.errors import PlanError, UnreadableFileError
from equipoise.formats.headers import Header, require_file
from equipoise.formats.pictures import PILLOW_SUFFIXES, TIFF_SUFFIXES, picture_header, read_picture
from equipoise.formats.volumes import NIFTI_SUFFIXES, read_volume, volume_header

SUFFIXES = (*NIFTI_SUFFIXES, *PILLOW_SUFFIXES, *TIFF_SUFFIXES)


def is_volume(path: Path) -> bool:
    """Return whether the name is a NIfTI file's."""
    return path.name.lower().endswith(NIFTI_SUFFIXES)


def is_image(path: Path) -> bool:
    """Return whether the name is one of an image that we read; hidden files are not."""
    return path.name.lower().endswith(SUFFIXES) and not path.name.startswith(".")


def stem_of(path: Path) -> str:
    """Return the file's name without the endings that we know, ``.nii.gz`` included."""
    name = path.name
    for suffix in sorted(SUFFIXES, key=len, reverse=True):
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    return path.stem


def open_header(path: Path, spacing: tuple[float, float, float] | None = None, exif: bool = True) -> Header:
    """Return a file's header; ``spacing`` (mm) gives a picture its physical size.

    Raises
    ------
    UnreadableFileError
        Missing, empty, damaged, or of a format that we do not read.
    PlanError
        A spacing for a NIfTI file, which states its own.
    """
    if is_volume(path):
        if spacing is not None:
            raise PlanError(
                "`spacing` is for pictures; a NIfTI file states its own voxel size",
                file=path,
                fix="take `spacing` out, or correct the file's header",
            )
        return volume_header(path)
    if path.name.lower().endswith((*PILLOW_SUFFIXES, *TIFF_SUFFIXES)):
        header = picture_header(path, exif)
        return header if spacing is None else replace(header, affine=np.diag([*spacing, 1.0]), unit="mm")
    require_file(path)
    raise UnreadableFileError(
        f"files ending in {path.suffix or 'nothing'!r} are not read",
        file=path,
        why=f"the endings known are {', '.join(SUFFIXES)}",
        fix="convert it (DICOM to NIfTI: dcm2niix), or rename it if its ending is wrong",
    )


def open_image(
    paths: Sequence[Path], spacing: tuple[float, float, float] | None = None, exif: bool = True
) -> tuple[Image, Header]:
    """Return the image of one file, or of several files that are its channels, with its voxels still unread.

    Raises `GeometryMismatchError` where two channels do not lie on one grid.
    """
    headers = [open_header(path, spacing, exif) for path in paths]
    first = headers[0]
    for path, header in zip(paths[1:], headers[1:], strict=True):
        first.geometry.require_same(header.geometry, f"channel {paths[0].name} and channel {path.name}", str(path))
    shape = (sum(h.shape[0] for h in headers), *first.shape[1:])
    dtype = np.result_type(*(h.dtype for h in headers))
    read = partial(read_channels, tuple(str(p) for p in paths), dtype, exif)
    made = next((header.origin for header in headers if header.origin.kind == "synthetic"), first.origin)
    return Image.on(first.geometry, LazyVoxels(shape, dtype, read)), replace(first, origin=made)


def read_channels(paths: tuple[str, ...], dtype: np.dtype, exif: bool) -> np.ndarray:
    """Return the voxels of one or several files stacked along C, shape ``(C, I, J, K)``."""
    arrays = [read_volume(p) if is_volume(Path(p)) else read_picture(p, exif) for p in paths]
    return arrays[0].astype(dtype, copy=False) if len(arrays) == 1 else np.concatenate(arrays).astype(dtype, copy=False)

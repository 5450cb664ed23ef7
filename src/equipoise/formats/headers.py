"""What a file says of itself before its voxels are read, and one clear error where it says nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from equipoise.core.case import Origin
from equipoise.core.geometry import Geometry, Unit
from equipoise.errors import EquipoiseError, UnreadableFileError

_REAL = Origin()


@dataclass(frozen=True, slots=True, eq=False)
class Header:
    """Shape, type and place of an image file.

    Parameters
    ----------
    shape
        ``(C, I, J, K)``.
    dtype
        Of the voxels as they will be read.
    affine
        4 x 4, voxel index to world.
    unit
        ``"px"`` where the file states no physical size.
    turned
        Whether an EXIF orientation turns the stored pixels.
    origin
        Synthetic where the file itself says that an engine made it.
    """

    shape: tuple[int, int, int, int]
    dtype: np.dtype
    affine: np.ndarray
    unit: Unit
    turned: bool = False
    origin: Origin = _REAL

    @property
    def geometry(self) -> Geometry:
        """The grid."""
        _, i, j, k = self.shape
        return Geometry((i, j, k), self.affine, unit=self.unit)


def header_failure(path: Path, message: str, fix: str) -> UnreadableFileError:
    """Return the error for a file that cannot be used as an image."""
    return UnreadableFileError(f"cannot use this file: {message}", file=path, fix=fix)


def require_file(path: Path) -> None:
    """Raise `UnreadableFileError` unless ``path`` is a file with content."""
    if not path.exists():
        near = (
            sorted(p.name for p in path.parent.glob(f"{path.name.split('.')[0]}.*"))[:3] if path.parent.is_dir() else []
        )
        raise UnreadableFileError(
            "the file is missing",
            file=path,
            why="the table, list or pattern names it" + (f"; the folder has {', '.join(near)}" if near else ""),
            fix="put it there, correct its name, or take the case out",
        )
    if path.is_dir():
        raise UnreadableFileError("this is a folder, and a file is needed", file=path, fix="name the file in it")
    if path.stat().st_size == 0:
        raise UnreadableFileError(
            "the file is empty (0 bytes)", file=path, why="a copy was interrupted", fix="copy it again from its source"
        )


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn whatever a library raises about a broken file into one `UnreadableFileError` that names it."""
    require_file(path)
    try:
        yield
    except EquipoiseError:
        raise
    except MemoryError:
        raise UnreadableFileError(
            "the file does not fit into memory", file=path, fix="cut it into smaller images, or use a larger machine"
        ) from None
    # Pillow, tifffile, nibabel, gzip and imagecodecs share no base for what they raise on cut or foreign bytes.
    except Exception as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> UnreadableFileError:
    said = str(error).strip().splitlines()
    return UnreadableFileError(
        f"the file cannot be read: {said[0] if said else type(error).__name__}",
        file=path,
        why="it is truncated, damaged, or of another format than its name says",
        fix="copy it again from its source, or take the case out",
    )

"""A scalar or colour image that knows where it is, and may not have been read yet."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np

from equipoise.core.geometry import Geometry, Unit, _identity
from equipoise.errors import GeometryMismatchError


@runtime_checkable
class Voxels(Protocol):
    """Anything with a shape and a dtype that numpy can read: an array, or a file that waits."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each axis."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of one value."""

    def __array__(self, dtype: Any = ..., /, *, copy: bool | None = ...) -> np.ndarray[Any, Any]: ...


@dataclass(frozen=True, slots=True, eq=False)
class LazyVoxels:
    """Voxels that are read from their file when numpy asks for them.

    Parameters
    ----------
    shape, dtype
        As the file's header states them.
    read
        A module-level function or `functools.partial` of one (so that it can be sent to another process), without
        arguments, that returns the array.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    read: Callable[[], np.ndarray]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        array = self.read()
        if array.shape != self.shape:
            raise GeometryMismatchError(
                f"the file's header says {self.shape}, its content has {array.shape}", file=str(self.read)
            )
        return np.asarray(array, dtype=dtype)


def require_four_axes(shape: tuple[int, ...], what: str) -> None:
    """Raise unless ``shape`` is ``(C, I, J, K)``."""
    if len(shape) != 4:
        raise GeometryMismatchError(
            f"{what} must have shape (C, I, J, K), got {len(shape)}-D {tuple(shape)}",
            fix="for one 2-D slice use array[None, :, :, None]; for a colour image put the colours first",
        )


@dataclass(frozen=True, slots=True, eq=False)
class Image:
    """An image with its place in the patient.

    Parameters
    ----------
    voxels
        Shape ``(C, I, J, K)``: grey images have ``C == 1``, colour ones 3, a 2-D image has ``K == 1``.
    affine
        4 x 4, voxel index to RAS+ world coordinates in mm.
    frame
        Frame-of-reference UID; two images may be overlaid only if it matches.
    unit
        ``"px"`` where the file states no physical size.
    """

    voxels: Voxels
    affine: np.ndarray = field(default_factory=_identity)
    frame: str | None = None
    unit: Unit = "mm"

    def __post_init__(self) -> None:
        require_four_axes(tuple(self.voxels.shape), "image")
        object.__setattr__(self, "affine", self.geometry.affine)

    @property
    def array(self) -> np.ndarray:
        """The voxels as an array, shape ``(C, I, J, K)``; read from the file now if they were lazy."""
        return np.asarray(self.voxels)

    @property
    def channels(self) -> int:
        """Number of colours or sequences."""
        return int(self.voxels.shape[0])

    @property
    def geometry(self) -> Geometry:
        """The grid, without the voxels."""
        i, j, k = (int(n) for n in self.voxels.shape[1:])
        return Geometry((i, j, k), self.affine, self.frame, self.unit)

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Voxel size along I, J, K, in `unit`."""
        return self.geometry.spacing

    @classmethod
    def on(cls, geometry: Geometry, voxels: Voxels) -> Image:
        """Return an image with these voxels on a given grid."""
        image = cls(voxels, geometry.affine, geometry.frame, geometry.unit)
        geometry.require_same(image.geometry, "grid and voxels")
        return image

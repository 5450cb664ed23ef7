"""What can be annotated (`LabelScheme`) and what was (`LabelMap`, `ClassLabel`)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from equipoise.core.geometry import Geometry, Unit, _identity
from equipoise.core.image import Voxels, require_four_axes
from equipoise.errors import LabelError, did_you_mean


@dataclass(frozen=True, slots=True)
class Label:
    """One structure or finding.

    Parameters
    ----------
    name
        As the field calls it: ``"nodule"``, ``"optic disc"``.
    value
        Its number in label-map files, 1 or more; 0 is background.
    code
        SNOMED CT code, where there is one.
    """

    name: str
    value: int
    code: str | None = None


@dataclass(frozen=True, slots=True)
class LabelScheme:
    """The structures that a set of cases is annotated with, in channel order.

    Parameters
    ----------
    labels
        At least one; names and values are unique.
    exclusive
        Whether a voxel has at most one label. Cup in disc, crossing vessels and projected organs are not exclusive.
    """

    labels: tuple[Label, ...]
    exclusive: bool = True

    def __post_init__(self) -> None:
        names, values = [x.name for x in self.labels], [x.value for x in self.labels]
        if not self.labels:
            raise LabelError("a label scheme needs at least one label")
        if len(set(names)) < len(names) or len(set(values)) < len(values) or min(values) < 1:
            raise LabelError(f"names and values must be unique and values at least 1, got {names} and {values}")

    @classmethod
    def of(cls, names: Iterable[str] | Mapping[str, int], exclusive: bool = True) -> LabelScheme:
        """Return a scheme from names, numbered from 1, or from a mapping of names to values."""
        pairs = names.items() if isinstance(names, Mapping) else ((n, i) for i, n in enumerate(names, 1))
        return cls(tuple(Label(n, v) for n, v in pairs), exclusive)

    @property
    def names(self) -> tuple[str, ...]:
        """The labels' names, in channel order."""
        return tuple(x.name for x in self.labels)

    def channel(self, name: str) -> int:
        """Return the channel of a label; an unknown name raises `LabelError` with the nearest one."""
        if name not in self.names:
            raise LabelError(f"the label scheme has no label {name!r}.{did_you_mean(name, self.names)}")
        return self.names.index(name)

    def as_dict(self) -> dict[str, int]:
        """Return names and values."""
        return {x.name: x.value for x in self.labels}


@dataclass(frozen=True, slots=True, eq=False)
class LabelMap:
    """The annotated structures of one image; they may overlap and may be counted.

    Parameters
    ----------
    voxels
        Integers, shape ``(L, I, J, K)``: one channel per label of the scheme. 0 is "not this label", a positive number
        is the instance (1 everywhere for a structure that is not counted). A bool array is taken as one instance.
    scheme
        The labels, in channel order.
    affine, frame, unit
        As in `Image`.
    ignore
        Bool, shape ``(1, I, J, K)``: voxels that count neither for nor against a prediction, such as a nodule that too
        few readers drew.
    """

    voxels: Voxels
    scheme: LabelScheme
    affine: np.ndarray = field(default_factory=_identity)
    frame: str | None = None
    unit: Unit = "mm"
    ignore: Voxels | None = None

    def __post_init__(self) -> None:
        shape = tuple(self.voxels.shape)
        require_four_axes(shape, "label map")
        if shape[0] != len(self.scheme.labels):
            raise LabelError(f"label map has {shape[0]} channels, the scheme names {self.scheme.names}")
        if np.dtype(self.voxels.dtype).kind not in "bui":
            raise LabelError(
                f"label map has type {self.voxels.dtype}; labels are counted, so they must be integers",
                fix="check that it holds labels, then round it to integers: array.round().astype('uint8')",
            )
        if self.ignore is not None and tuple(self.ignore.shape) != (1, *shape[1:]):
            raise LabelError(f"ignore must have shape {(1, *shape[1:])}, got {tuple(self.ignore.shape)}")
        object.__setattr__(self, "affine", self.geometry.affine)

    @property
    def array(self) -> np.ndarray:
        """The instance numbers, shape ``(L, I, J, K)``; read now if they were lazy."""
        return np.asarray(self.voxels)

    @property
    def geometry(self) -> Geometry:
        """The grid, without the voxels."""
        i, j, k = (int(n) for n in self.voxels.shape[1:])
        return Geometry((i, j, k), self.affine, self.frame, self.unit)

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Voxel size along I, J, K, in `unit`."""
        return self.geometry.spacing

    def mask(self, name: str) -> np.ndarray:
        """Return where a label is, bool, shape ``(I, J, K)``."""
        return self.instances(name) > 0

    def instances(self, name: str) -> np.ndarray:
        """Return the instance numbers of a label, shape ``(I, J, K)``."""
        return np.asarray(self.array[self.scheme.channel(name)])

    def masks(self) -> np.ndarray:
        """Return every label's mask, bool, shape ``(L, I, J, K)``."""
        masks: np.ndarray = self.array > 0
        return masks

    def ignored(self) -> np.ndarray:
        """Return where nothing counts, bool, shape ``(I, J, K)``."""
        if self.ignore is None:
            return np.zeros(self.geometry.shape, bool)
        ignored: np.ndarray = np.asarray(self.ignore)[0].astype(bool)
        return ignored

    def values(self) -> np.ndarray:
        """Return one integer per voxel, shape ``(I, J, K)``: the label's value, 0 for background.

        Raises `LabelError` where labels overlap, since one number cannot say both.
        """
        masks = self.masks()
        if (masks.sum(axis=0, dtype=np.uint8) > 1).any():
            raise LabelError(
                "labels overlap, so one number per voxel cannot hold them",
                fix="write one file per label, or declare which label wins",
            )
        values = np.zeros(masks.shape[1:], dtype=np.uint16)
        for label, mask in zip(self.scheme.labels, masks, strict=True):
            values[mask] = label.value
        return values

    @classmethod
    def on(cls, geometry: Geometry, voxels: Voxels, scheme: LabelScheme, ignore: Voxels | None = None) -> LabelMap:
        """Return a label map with these voxels on a given grid."""
        labels = cls(voxels, scheme, geometry.affine, geometry.frame, geometry.unit, ignore)
        geometry.require_same(labels.geometry, "grid and label map")
        return labels

    @classmethod
    def from_values(cls, geometry: Geometry, values: np.ndarray, scheme: LabelScheme) -> LabelMap:
        """Return the label map of one integer per voxel, shape ``(I, J, K)``.

        Raises `LabelError` on a value that the scheme does not have, or on numbers that are not whole.
        """
        return cls.on(geometry, channels_of(values, scheme), scheme)


def channels_of(values: np.ndarray, scheme: LabelScheme) -> np.ndarray:
    """Return one ``uint8`` channel per label, shape ``(L, *values.shape)``; unknown values raise `LabelError`."""
    if values.dtype.kind == "f":
        if not np.array_equal(values, np.rint(values)):
            raise LabelError(
                "the label map holds numbers that are not whole",
                why="it is a probability map or was resampled with interpolation; its edges are no longer labels",
                fix="threshold it, or resample the original labels with nearest neighbour",
            )
        values = values.astype(np.int64)
    known = {0, *(x.value for x in scheme.labels)}
    unknown = sorted(set(np.unique(values).tolist()) - known)
    if unknown:
        shown = ", ".join(map(str, unknown[:8])) + (" …" if len(unknown) > 8 else "")
        raise LabelError(
            f"label values {shown} are not in the scheme {scheme.as_dict()}",
            why="an unnamed label would silently become background",
            fix="add the label to the scheme in the plan, or correct the file",
        )
    return np.stack([values == x.value for x in scheme.labels]).astype(np.uint8)


@dataclass(frozen=True, slots=True)
class ClassLabel:
    """One class for a whole image, such as "pneumonia".

    Parameters
    ----------
    name
        The class.
    classes
        All classes of the task, in order.
    """

    name: str
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.name not in self.classes:
            raise LabelError(f"{self.name!r} is not one of the classes.{did_you_mean(self.name, self.classes)}")

    @property
    def index(self) -> int:
        """Position among the classes."""
        return self.classes.index(self.name)

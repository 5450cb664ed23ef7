"""Pictures that were made of CT: grey values of 8 bits instead of HU, pixels instead of millimetres."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from equipoise.core import Case, Geometry, Image, LabelMap
from equipoise.errors import DataError, GeometryMismatchError

WHITE = 255
SLICE_MM = 5.0
"""Thickness that is assumed of a slice that was exported as a picture."""


@dataclass(frozen=True)
class Export:
    """What an exported picture lost, stated by the user.

    Parameters
    ----------
    stored
        HU that 0 and 255 stand for; ``None`` where pictures hold HU.
    pixel_mm
        Size of a pixel where the label maps' unit is "px".
    thickness_mm
        Of slices without a size.
    """

    stored: tuple[float, float] | None
    pixel_mm: float | None
    thickness_mm: float | None

    def labels(self, labels: LabelMap) -> LabelMap:
        """Return a label map in mm."""
        if labels.unit == "mm":
            return labels
        return LabelMap.on(self._grid(labels.geometry), labels.voxels, labels.scheme, labels.ignore)

    def case(self, case: Case) -> Case:
        """Return a case in HU and mm.

        Raises
        ------
        DataError
            If grey values are stated and the picture holds others.
        """
        geometry, truth = case.image.geometry, case.truth
        if geometry.unit == "px":
            geometry = self._grid(geometry)
        if isinstance(truth, LabelMap):
            truth = LabelMap.on(geometry, truth.voxels, truth.scheme, truth.ignore)
        if self.stored is None:
            return case if geometry is case.image.geometry else replace(
                case, image=Image.on(geometry, case.image.array), truth=truth
            )  # fmt: skip
        grey = case.image.array
        if grey.min() < 0 or grey.max() > WHITE:
            raise DataError(
                f"case {case.id!r} holds values from {grey.min():g} to {grey.max():g}, but stored = {self.stored!r} "
                f"says that 0 to {WHITE} stand for HU",
                file=case.file,
                fix="leave stored out for images in HU",
            )
        low, high = self.stored
        hu = low + grey.mean(axis=0, keepdims=True, dtype=np.float32) * np.float32((high - low) / WHITE)
        return replace(case, image=Image.on(geometry, hu), truth=truth)

    def image(self, hu: np.ndarray, geometry: Geometry, channels: int) -> Image:
        """Return HU ``(I, J, K)`` as the picture that would have been exported, on its own grid."""
        if self.stored is None:
            return Image.on(geometry, hu[None])
        low, high = self.stored
        grey = np.rint(np.clip((hu - low) / (high - low), 0, 1) * WHITE).astype(np.uint8)
        return Image.on(geometry, np.repeat(grey[None], channels, axis=0))

    def _grid(self, geometry: Geometry) -> Geometry:
        if self.pixel_mm is None:
            raise GeometryMismatchError(
                f"simulate-ct needs square pixels of known size, got {geometry.spacing} {geometry.unit}",
                why="dose, sharpness and structures have sizes in mm; a pixel without a size has none",
                fix="state it: pixel_mm = 0.7 (a chest on 512 pixels) or 1.4 (on 256), or read the DICOM original",
            )
        i, j, _ = geometry.spacing
        along = self.thickness_mm or SLICE_MM
        return Geometry.from_spacing(geometry.shape, (i * self.pixel_mm, j * self.pixel_mm, along))


__all__ = ["SLICE_MM", "WHITE", "Export"]

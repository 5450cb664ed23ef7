"""A folder of NIfTI images with masks of the same name, and a writer of single files.

::

    [[data]]
    kind = "nifti"
    path = "liver"
    images = "images/{id}.nii.gz"
    masks = "masks/{id}.nii.gz"
    labels = { liver = 1, tumour = 2 }
    patients = "patients.csv"
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from equipoise.core.case import Origin
from equipoise.core.image import Image
from equipoise.core.labels import LabelMap
from equipoise.formats.labelling import parse_labels
from equipoise.formats.patterns import rows_by_pattern
from equipoise.formats.rows import Listing
from equipoise.formats.statement import Statement, require_folder
from equipoise.formats.volumes import write_volume


@dataclass(frozen=True, kw_only=True)
class Nifti(Statement):
    """NIfTI images and masks, matched by name.

    The affine is kept as the file states it and voxels are never reoriented. Takes everything that `Statement` takes,
    and:

    Parameters
    ----------
    images
        Pattern of the images, with ``{id}`` where the case's id stands; a list of patterns for channels in several
        files.
    masks
        Pattern of the mask that holds several labels.
    """

    kind: ClassVar[str] = "nifti"

    images: str | tuple[str, ...] = "images/{id}.nii*"
    masks: str = "masks/{id}.nii*"

    def listing(self) -> Listing:
        """Return the images that the patterns find, with their masks."""
        root = require_folder(self.path)
        truth = parse_labels(self.labels, self.masks, self.exclusive, "masks")
        patterns = (self.images,) if isinstance(self.images, str) else self.images
        return Listing(root, rows_by_pattern(root, patterns, truth.keys), truth)


_REAL = Origin()


def write_nifti(path: str | Path, what: Image | LabelMap, origin: Origin = _REAL) -> None:
    """Write an image, or a label map with one number per voxel, as NIfTI on its own grid.

    Parameters
    ----------
    path
        Ends in ``.nii.gz`` or ``.nii``.
    what
        An image (several channels make a 4-D file) or a label map without overlaps; instance numbers are not kept.
    origin
        Of the image; a synthetic one is kept in the file's header.

    Raises
    ------
    LabelError
        Labels overlap: write one file per label instead.
    """
    file = Path(path)
    if isinstance(what, LabelMap):
        values = what.values()
        write_volume(file, values.astype(np.uint8) if values.max(initial=0) < 256 else values, what.geometry)
        return
    array = what.array
    write_volume(file, array if array.shape[0] > 1 else array[0], what.geometry, origin)

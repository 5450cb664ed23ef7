"""The consensus of several reads, finding by finding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy import ndimage

from equipoise.core import Annotation, Case, LabelMap
from equipoise.errors import DataError, PlanError


def with_consensus(case: Case, minimum: int = 3, share: float = 0.5) -> Case:
    """Return the case with the consensus of its reads as truth.

    What the readers drew is taken lesion by lesion: a lesion is a connected piece (edges and corners) of everything
    that anybody drew. One that at least ``minimum`` readers drew keeps the voxels that at least ``share`` of *those*
    readers marked; where fewer drew it, or they agree on no voxel, nobody knows, and all of its voxels are ignored.

    Parameters
    ----------
    case
        With label maps on its image's grid as reads, of different readers.
    minimum
        Readers who make a consensus.
    share
        Of a lesion's readers who must have marked a voxel, above 0 and at most 1.

    Returns
    -------
    Case
        Truth with lesions numbered from 1 in each label, and ``ignore``; reads are kept.

    Raises
    ------
    DataError
        Fewer than ``minimum`` readers read the case, one reader twice, or reads that are no label maps of one scheme.
    PlanError
        ``minimum`` below 1, or ``share`` outside (0, 1].

    References
    ----------
    Armato SG et al. LIDC: an evaluation of radiologist variability in the identification of lung nodules on CT scans.
    Acad Radiol 2009. doi:10.1016/j.acra.2008.07.022
    """
    if minimum < 1 or not 0 < share <= 1:
        raise PlanError(f"minimum must be at least 1 and share in (0, 1], got {minimum} and {share}")
    maps = _maps(case, minimum)
    votes = np.stack([labels.masks() for labels in maps])
    truth = np.zeros(votes.shape[1:], np.uint16)
    ignore = np.zeros((1, *votes.shape[2:]), bool)
    for channel in range(votes.shape[1]):
        lesions, count = ndimage.label(votes[:, channel].any(axis=0), structure=np.ones((3, 3, 3)))
        kept = 0
        for lesion, box in enumerate(ndimage.find_objects(lesions, max_label=count), 1):
            here = lesions[box] == lesion
            drawn = votes[(slice(None), channel, *box)] & here
            readers = int(drawn.any(axis=(1, 2, 3)).sum())
            agreed = drawn.sum(axis=0) >= share * readers
            if readers < minimum or not (agreed & here).any():
                ignore[0][box] |= here
            else:
                kept += 1
                truth[channel][box][agreed & here] = kept
    return replace(case, truth=LabelMap.on(maps[0].geometry, truth, maps[0].scheme, ignore))


def against_the_others(case: Case) -> list[tuple[Annotation, LabelMap]]:
    """Return each read beside the consensus of the other readers, the yardstick for a model's boundary."""
    pairs = []
    for read in case.reads:
        others = tuple(other for other in case.reads if other.reader != read.reader)
        if others:
            pairs.append((read, with_consensus(replace(case, reads=others), minimum=1).labels))
    return pairs


def _maps(case: Case, minimum: int) -> Sequence[LabelMap]:
    """Return the label maps of a case's reads, or raise `DataError`."""
    maps = [read.truth for read in case.reads if isinstance(read.truth, LabelMap)]
    names = [read.reader.id for read in case.reads]
    if len(maps) < max(minimum, 1) or len(maps) < len(names):
        raise DataError(
            f"case {case.id!r} has {len(maps)} reads with a label map, a consensus needs {minimum}",
            file=case.file,
            fix=f"have it read by {max(minimum - len(maps), 1)} more, or leave it out of the test set",
        )
    if len(set(names)) < len(names):
        raise DataError(f"case {case.id!r} was read twice by one of {sorted(set(names))}; keep one read of each reader")
    for labels in maps:
        case.image.geometry.require_same(labels.geometry, "image and read", file=case.file)
        if labels.scheme != maps[0].scheme:
            raise DataError(
                f"the reads of case {case.id!r} have two label schemes: {maps[0].scheme.names} and "
                f"{labels.scheme.names}",
                file=case.file,
            )
    return maps

"""The consensus of several reads, finding by finding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy import ndimage

from equipoise.core import Annotation, Case, LabelMap
from equipoise.errors import LabelError


def consensus(reads: Sequence[Annotation], minimum: int = 3) -> LabelMap:
    """Return where at least half of those readers agree who drew a finding, if at least ``minimum`` drew it.

    A finding is a connected piece of the union of all reads. What fewer than ``minimum`` readers drew is neither
    present nor absent: it is marked *ignore*, and counts neither for nor against a prediction.

    Parameters
    ----------
    reads
        Reads of one image with one label scheme.
    minimum
        Readers that must have drawn a finding.

    Raises
    ------
    LabelError
        Fewer than ``minimum`` reads, or reads of different schemes.

    References
    ----------
    Armato SG et al. The Lung Image Database Consortium and Image Database Resource Initiative. Med Phys 2011.
    doi:10.1118/1.3528204 (several radiologists, no forced consensus).
    """
    maps = [read.truth for read in reads if isinstance(read.truth, LabelMap)]
    if len(maps) < minimum:
        raise LabelError(
            f"a consensus of {minimum} readers needs {minimum} reads, this case has {len(maps)}",
            fix="lower split.min_readers, have more readers draw it, or take test_truth = 'given'",
        )
    first = maps[0]
    for other in maps[1:]:
        first.geometry.require_same(other.geometry, "reads of one case")
        if other.scheme != first.scheme:
            raise LabelError(f"reads have different labels: {first.scheme.names} and {other.scheme.names}")
    votes = np.stack([m.masks() for m in maps])
    agreed = np.zeros(votes.shape[1:], np.uint8)
    ignore = np.zeros(votes.shape[2:], bool)
    for channel in range(votes.shape[1]):
        for finding, drew in _findings(votes[:, channel]):
            if drew >= minimum:
                agreed[channel] |= finding & (2 * votes[:, channel].sum(axis=0) >= drew)
            else:
                ignore |= finding
    return LabelMap.on(first.geometry, agreed, first.scheme, ignore[None] if ignore.any() else None)


def with_consensus(case: Case, minimum: int = 3) -> Case:
    """Return the case with the consensus of its reads as truth."""
    try:
        return replace(case, truth=consensus(case.reads, minimum))
    except LabelError as error:
        raise LabelError(f"case {case.id!r}: {error.message}", file=case.file, why=error.why, fix=error.fix) from error


def against_the_others(case: Case, minimum: int = 1) -> list[tuple[Annotation, LabelMap]]:
    """Return each read beside the consensus of the other readers, the yardstick for a model's boundary."""
    pairs = []
    for read in case.reads:
        others = [other for other in case.reads if other.reader != read.reader]
        if len(others) >= minimum:
            pairs.append((read, consensus(others, minimum)))
    return pairs


def _findings(votes: np.ndarray) -> list[tuple[np.ndarray, int]]:
    """Return each connected piece of the union of ``votes`` (readers, I, J, K), and how many readers drew in it."""
    pieces, count = ndimage.label(votes.any(axis=0), structure=np.ones((3, 3, 3)))
    found = []
    for piece in range(1, count + 1):
        inside = pieces == piece
        found.append((inside, int((votes & inside).any(axis=(1, 2, 3)).sum())))
    return found

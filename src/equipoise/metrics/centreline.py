"""Centre lines of vessels in a picture, and the overlap measured along them.

For 2-D only. A topology-preserving thinning of volumes needs a look-up over 26 neighbours that does not run at a useful
speed in array operations; a volume is refused rather than thinned slice by slice, which would not be its centre line.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from equipoise.errors import GeometryMismatchError
from equipoise.metrics.boundary import bounding_box
from equipoise.metrics.inputs import Mask, check_mask, check_pair

# The eight neighbours in cyclic order from "up"; bit n of a pixel's code is neighbour n.
_RING = ((-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1))


def centre_line(mask: Mask) -> Mask:
    """Thin a 2-D mask to a line one pixel wide with the same pieces, holes and branches.

    Border pixels are peeled off from above, below, left and right in turn. A pixel goes only if its neighbourhood stays
    connected without it and it is no end of a line; for one side at a time all such pixels may go at once without
    changing the topology (Rosenfeld 1975; 8-connected lines on a 4-connected background).

    Parameters
    ----------
    mask
        Boolean, shape (I, J) or (I, J, 1).

    Returns
    -------
    numpy.ndarray
        Boolean, the same shape; a subset of ``mask``. An empty mask gives an empty line.

    Raises
    ------
    equipoise.errors.LabelError
        The mask is not boolean.
    equipoise.errors.GeometryMismatchError
        The mask is not 2-D.

    References
    ----------
    Rosenfeld A. A characterization of parallel thinning algorithms. Inf Control 1975.
    doi:10.1016/S0019-9958(75)90448-9
    """
    check_mask(mask, "mask")
    if mask.ndim == 3 and mask.shape[2] == 1:
        return centre_line(mask[:, :, 0])[:, :, None]
    if mask.ndim != 2:
        raise GeometryMismatchError(
            f"centre lines are found in 2-D masks, got shape {mask.shape}",
            fix="compare volumes with nsd and dice, or project the vessels to a picture first",
        )
    line = np.zeros_like(mask)
    box = bounding_box(mask)
    if box is None:
        return line
    padded = np.pad(mask[box], 1)
    removable = _removable()
    while True:
        before = int(np.count_nonzero(padded))
        for side in (0, 4, 2, 6):
            inside = np.flatnonzero(padded)
            codes = _codes(padded, inside)
            gone = removable[codes] & (codes >> side & 1 == 0)
            padded.ravel()[inside[gone]] = False
        if int(np.count_nonzero(padded)) == before:
            break
    line[box] = padded[1:-1, 1:-1]
    return line


def _codes(padded: Mask, inside: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Neighbour code of each listed pixel of a padded mask."""
    flat = padded.ravel().view(np.uint8)
    codes = np.zeros(len(inside), np.uint8)
    for bit, (down, right) in enumerate(_RING):
        codes |= flat[inside + (down * padded.shape[1] + right)] << np.uint8(bit)
    return codes


@lru_cache(maxsize=1)
def _removable() -> NDArray[np.bool_]:
    """For the 256 neighbour codes, whether the middle pixel may go: a simple point that is no line end."""
    allowed = np.zeros(256, np.bool_)
    for code in range(256):
        ring = [bool(code >> bit & 1) for bit in range(8)]
        # Hilditch's crossing number: runs of inside neighbours, a gap at a corner (odd place) not breaking a run.
        runs = sum(not ring[n] and (ring[(n + 1) % 8] or ring[(n + 2) % 8]) for n in (0, 2, 4, 6))
        allowed[code] = runs == 1 and sum(ring) > 1
    return allowed


def cl_dice(truth: Mask, predicted: Mask) -> float:
    """Centre-line Dice of two vessel masks, in [0, 1]; higher is better.

    The harmonic mean of two shares: of the predicted centre line that lies inside the true mask, and of the true centre
    line that lies inside the predicted mask. Unlike Dice it gives a thin branch the weight of its length.

    Both masks empty gives NaN, one empty gives 0.

    Parameters
    ----------
    truth, predicted
        Boolean, shape (I, J) or (I, J, 1), the same for both.

    Raises
    ------
    equipoise.errors.LabelError
        A mask is not boolean.
    equipoise.errors.GeometryMismatchError
        The masks are not 2-D or not on one grid.

    References
    ----------
    Shit S et al. clDice: a novel topology-preserving loss function for tubular structure segmentation. CVPR 2021.
    doi:10.1109/CVPR46437.2021.01629
    """
    check_pair(truth, predicted)
    true_line, predicted_line = centre_line(truth), centre_line(predicted)
    true_length, predicted_length = int(true_line.sum()), int(predicted_line.sum())
    if true_length == 0 and predicted_length == 0:
        return math.nan
    if true_length == 0 or predicted_length == 0:
        return 0.0
    correct = int((predicted_line & truth).sum()) / predicted_length
    found = int((true_line & predicted).sum()) / true_length
    return 2 * correct * found / (correct + found) if correct + found else 0.0

"""Lesion by lesion: what was found, what was missed, what was made up."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.optimize import linear_sum_assignment

from equipoise.errors import DataError, GeometryMismatchError, LabelError, did_you_mean
from equipoise.metrics.boundary import bounding_box
from equipoise.metrics.inputs import Mask, check_mask, check_spacing
from equipoise.metrics.measurement import diameter

Instances = NDArray[np.integer]
Rule = Literal["iou", "overlap"]
RULES: tuple[Rule, ...] = ("iou", "overlap")


@dataclass(frozen=True, slots=True)
class Detection:
    """Counts of a lesion-wise comparison; add cases with ``+`` before reading a ratio.

    Parameters
    ----------
    true_positives
        Lesions of the truth that were found.
    false_positives
        Predicted lesions that match none, outside the ignored regions.
    false_negatives
        Lesions of the truth that were missed.
    ignored
        Predicted lesions left out because they lie in an ignored region.
    """

    true_positives: int
    false_positives: int
    false_negatives: int
    ignored: int = 0

    def __add__(self, other: Detection) -> Detection:
        return Detection(
            self.true_positives + other.true_positives,
            self.false_positives + other.false_positives,
            self.false_negatives + other.false_negatives,
            self.ignored + other.ignored,
        )

    @property
    def sensitivity(self) -> float:
        """Share of true lesions found, in [0, 1]; NaN if there are none to find."""
        return _share(self.true_positives, self.true_positives + self.false_negatives)

    @property
    def precision(self) -> float:
        """Share of predicted lesions that are true, in [0, 1]; NaN if nothing was predicted."""
        return _share(self.true_positives, self.true_positives + self.false_positives)

    @property
    def f1(self) -> float:
        """``2 TP / (2 TP + FP + FN)`` in [0, 1]; NaN if there was no lesion and none was predicted."""
        return _share(2 * self.true_positives, 2 * self.true_positives + self.false_positives + self.false_negatives)


def _share(part: int, whole: int) -> float:
    return part / whole if whole else math.nan


def lesions(mask: Mask) -> NDArray[np.int32]:
    """Give each connected part of a boolean mask a number 1, 2, …; voxels touching at a corner are connected.

    Full connectivity (8 neighbours in 2-D, 26 in 3-D) keeps an oblique thin lesion in one piece.
    """
    check_mask(mask, "mask")
    numbered, _ = ndimage.label(mask, structure=np.ones((3,) * mask.ndim, np.bool_))
    return np.asarray(numbered, np.int32)


def detect(
    truth: Mask | Instances,
    predicted: Mask | Instances,
    *,
    rule: Rule = "iou",
    threshold: float = 0.1,
    ignore: Mask | None = None,
) -> Detection:
    """Match predicted lesions to true lesions and count.

    Parameters
    ----------
    truth, predicted
        One shape, each either boolean (connected parts are lesions, see `lesions`) or an integer instance map
        (0 background, each other value one lesion).
    rule
        ``"iou"``: one to one; a pair may match if its intersection over union exceeds ``threshold``, and the pairs are
        chosen to match as many lesions as possible, then to overlap most. ``"overlap"``: a true lesion is found if any
        predicted one shares a voxel with it; a predicted lesion is false if it touches no true one. The loose rule
        suits point-like targets and rewards one blob over everything: read it with precision and Dice.
    threshold
        For ``"iou"``, in [0, 1). The default 0.1 is the usual one for lesions in volumes, where a small shift costs
        much overlap (Jaeger 2020, Baumgartner 2021); above 0.5 no lesion can have two partners.
    ignore
        Boolean: regions where truth is not known, such as lesions drawn by too few readers. A predicted lesion that
        matches nothing and has more than half of its voxels there is not counted as false; a lesion of the truth with
        more than half of its voxels there is not asked for, and what was matched to it is not counted either.

    Returns
    -------
    Detection
        Without a true lesion the sensitivity is NaN and predicted lesions still count as false; nothing predicted gives
        precision NaN. F1 is NaN only if both are empty.

    Raises
    ------
    equipoise.errors.DataError
        Shapes, types, rule or threshold make no sense.

    References
    ----------
    Jaeger PF et al. Retina U-Net. ML4H, PMLR 116, 2020. arXiv:1811.08661

    Baumgartner M et al. nnDetection. MICCAI 2021. doi:10.1007/978-3-030-87240-3_51

    Examples
    --------
    >>> truth = np.array([1, 1, 0, 2, 2, 0, 0])
    >>> found = detect(truth, np.array([0, 7, 0, 0, 0, 0, 8]))
    >>> found.true_positives, found.false_positives, found.false_negatives
    (1, 1, 1)
    """
    if rule not in RULES:
        raise DataError(f"rule must be one of {', '.join(RULES)}, got {rule!r}." + did_you_mean(str(rule), RULES))
    if not 0 <= threshold < 1:
        raise DataError(f"threshold must lie in [0, 1), got {threshold}", fix="give an intersection over union")
    for name, array in (("truth", truth), ("predicted", predicted)):
        _check_lesions(array, name)
    hidden = np.zeros(truth.shape, np.bool_) if ignore is None else ignore
    check_mask(hidden, "ignore")
    if not truth.shape == predicted.shape == hidden.shape:
        raise GeometryMismatchError(
            f"shapes differ: truth {truth.shape}, predicted {predicted.shape}, ignore {hidden.shape}",
            fix="resample all of them onto the grid of the truth (nearest neighbour)",
        )
    box = bounding_box((truth != 0) | (predicted != 0))
    if box is None:
        return Detection(0, 0, 0)
    one, two, hidden = _numbered(truth[box]), _numbered(predicted[box]), hidden[box]
    asked = ~_mostly(one, hidden)
    # What is drawn on a lesion that is not asked for is neither right nor wrong, wherever its rim lies.
    hidden = hidden | np.r_[False, ~asked][one]
    found, used = _match(one, two, asked, rule, threshold)
    left_out = ~used & _mostly(two, hidden)
    return Detection(
        true_positives=int(found.sum()),
        false_positives=int((~used & ~left_out).sum()),
        false_negatives=int((asked & ~found).sum()),
        ignored=int(left_out.sum()),
    )


def longest_diameter(lesions_of: Mask | Instances, spacing: Sequence[float]) -> float:
    """Longest in-slice diameter of any one lesion, in the unit of ``spacing``: each lesion is measured by itself.

    Two lesions at opposite ends of an organ are as long as the longer one, not as far as they lie apart.

    Parameters
    ----------
    lesions_of
        Shape (I, J) or (I, J, K): a mask, whose connected parts are lesions, or an instance map, as in `detect`.
    spacing
        Voxel size, one number per axis.

    Returns
    -------
    float
        As `diameter` of that lesion; 0 where there is none.

    Raises
    ------
    equipoise.errors.DataError
        The array holds no lesions, has other than 2 or 3 axes, or the spacing does not fit it.

    Examples
    --------
    >>> longest_diameter(np.array([[1, 1, 0, 0, 2]]), (1.0, 1.0)).__round__(3)
    2.0
    """
    _check_lesions(lesions_of, "lesions_of")
    size = check_spacing(spacing, lesions_of.ndim)
    numbered = _numbered(lesions_of)
    boxes = [(k, box) for k, box in enumerate(ndimage.find_objects(numbered), 1) if box is not None]
    # No lesion is longer in a slice than the diagonal of its box: the small ones need not be measured.
    reach = [
        math.hypot(*((b.stop - b.start) * step for b, step in zip(box[:2], size, strict=False))) for _, box in boxes
    ]
    longest = 0.0
    for index in sorted(range(len(boxes)), key=lambda i: -reach[i]):
        if reach[index] <= longest:
            break
        number, box = boxes[index]
        longest = max(longest, diameter(numbered[box] == number, size))
    return longest


def _check_lesions(array: Mask | Instances, name: str) -> None:
    """Raise `LabelError` unless ``array`` is a boolean mask or counts lesions from 0."""
    if not isinstance(array, np.ndarray) or not (array.dtype == np.bool_ or np.issubdtype(array.dtype, np.integer)):
        got = f"an array of {array.dtype}" if isinstance(array, np.ndarray) else type(array).__name__
        raise LabelError(
            f"{name} must be a boolean mask or an integer instance map, got {got}",
            fix=f"cut a probability with {name} > 0.5, or round an instance map to integers",
        )
    if array.dtype != np.bool_ and array.min(initial=0) < 0:
        raise LabelError(
            f"{name} has the negative label {array.min()}", fix="use 0 for background and 1, 2, … for lesions"
        )


def _numbered(array: Mask | Instances) -> Instances:
    """Give the lesions of a mask or an instance map the numbers 1 to n without gaps."""
    if array.dtype == np.bool_:
        return lesions(array.astype(np.bool_, copy=False))
    if int(array.max(initial=0)) > array.size:  # numbers that stand for something else: sorting them takes less room
        values, numbers = np.unique(array, return_inverse=True)
        return np.asarray(numbers.reshape(array.shape) + int(values[0] != 0), np.int32)
    there = np.bincount(array.ravel()) > 0
    there[:1] = False
    return np.asarray(np.cumsum(there, dtype=np.int32)[array])


def _mostly(numbered: Instances, region: Mask) -> NDArray[np.bool_]:
    """For each lesion 1 to n, whether more than half of its voxels lie in ``region``."""
    size = np.bincount(numbered.ravel())[1:]
    within = np.bincount(numbered[region], minlength=len(size) + 1)[1:]
    return np.asarray(2 * within > size)


def _match(
    one: Instances, two: Instances, asked: NDArray[np.bool_], rule: Rule, threshold: float
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which true lesions are found, and which predicted lesions match one that is asked for."""
    size_one, size_two = (np.bincount(numbered.ravel(), minlength=2)[1:] for numbered in (one, two))
    found, used = np.zeros(len(asked), np.bool_), np.zeros(int(two.max(initial=0)), np.bool_)
    # Only lesions that share a voxel can match: a prediction of ten thousand specks makes no table of all pairs.
    meeting = (one > 0) & (two > 0) & np.r_[False, asked][one]
    codes, shared = np.unique(one[meeting] * np.int64(len(used) + 1) + two[meeting], return_counts=True)
    first, second = codes // (len(used) + 1) - 1, codes % (len(used) + 1) - 1
    if rule == "overlap":
        found[first] = used[second] = True
        return found, used
    overlap = shared / (size_one[first] + size_two[second] - shared)
    allowed = overlap > threshold
    first, second, overlap = first[allowed], second[allowed], overlap[allowed]
    row_of, rows_of = np.unique(first, return_inverse=True)
    column_of, columns_of = np.unique(second, return_inverse=True)
    # One match more outweighs any gain in overlap: all overlaps together are less than the number of lesions.
    worth = np.zeros((len(row_of), len(column_of)))
    worth[rows_of, columns_of] = 1 + overlap / (len(row_of) + 1)
    rows, columns = linear_sum_assignment(worth, maximize=True)
    kept = worth[rows, columns] > 0
    found[row_of[rows[kept]]] = True
    used[column_of[columns[kept]]] = True
    return found, used

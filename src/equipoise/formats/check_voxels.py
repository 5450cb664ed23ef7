"""Looks at one case's voxels: is the image an image, is the mask its mask, is anything marked."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from equipoise.core.case import Case
from equipoise.core.labels import ClassLabel, LabelMap
from equipoise.errors import DataError
from equipoise.formats.check_listing import Opened
from equipoise.formats.check_swapped import image_is_mask, one_file, picture_as_mask, two_values
from equipoise.formats.finding import Finding, from_error
from equipoise.formats.likeness import perceptual_hash
from equipoise.formats.masks import mask_numbers
from equipoise.formats.orientation import mask_contrasts, thumbnails

TINY = 10
"""Voxels. Below it one voxel more or less moves Dice by more than .05."""

FULL = 0.95
"""Share of the image above which a mask is more likely inverted than true."""


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """What is kept of a case after its voxels were read, to compare cases with each other.

    Parameters
    ----------
    opened
        The case.
    digest
        SHA-256 of its voxels.
    look
        Perceptual hash; ``None`` where the image shows nothing.
    foreground
        Voxels per label; ``None`` where there is no label map that could be read.
    thumbnails
        See `orientation.thumbnails`; ``None`` where the image shows nothing or is a volume.
    contrasts
        How well the mask fits as it is and turned, see `orientation.mask_contrasts`.
    """

    opened: Opened
    digest: str
    look: str | None
    foreground: Mapping[str, int] | None
    thumbnails: Mapping[str, np.ndarray] | None
    contrasts: np.ndarray | None

    @property
    def case(self) -> Case:
        """The case itself."""
        return self.opened.case

    @property
    def voxels(self) -> int:
        """Number of voxels of one channel."""
        return int(np.prod(self.case.image.geometry.shape))

    @property
    def present(self) -> tuple[str, ...]:
        """The labels, or the class, that it has."""
        if isinstance(self.case.truth, ClassLabel):
            return (self.case.truth.name,)
        return tuple(name for name, n in (self.foreground or {}).items() if n)


def look_at(opened: Opened, again: str) -> tuple[Seen | None, list[Finding]]:
    """Read a case whole and return what is kept of it, `None` if its image cannot be read, and what is wrong."""
    case = opened.case
    try:
        array = case.image.array
    except DataError as error:
        return None, [_unread(error, case, again)]
    findings = _image_findings(case, array)
    shows = not any(f.code in ("constant", "not-finite") for f in findings)
    two = shows and two_values(array, opened)
    masks, problem = _masks_of(opened, two, again)
    findings += problem
    if two and not any(f.code == "swapped" for f in findings):
        findings.append(image_is_mask(case))
    foreground = None
    if masks is not None:
        foreground = dict(zip(case.labels.scheme.names, np.count_nonzero(masks, axis=(1, 2, 3)).tolist(), strict=True))
        if not case.synthetic:
            findings += _truth_findings(opened, foreground, masks)
    digest = hashlib.sha256(repr((array.shape, array.dtype.str)).encode() + np.ascontiguousarray(array).tobytes())
    seen = Seen(
        opened,
        digest.hexdigest(),
        perceptual_hash(array) if shows else None,
        foreground,
        # The voxel order of a volume is the file's own business: its affine says which way is up.
        thumbnails(array, masks) if shows and array.shape[3] == 1 else None,
        mask_contrasts(array, masks) if shows and masks is not None else None,
    )
    return seen, findings


def _unread(error: DataError, case: Case, again: str) -> Finding:
    found = from_error(error, case.id, again, case.file)
    # A lazy reader knows its arguments only; the case knows the file's name.
    return found if found.file and Path(found.file).exists() else replace(found, code="unreadable", file=case.file)


def _image_findings(case: Case, array: np.ndarray) -> list[Finding]:
    file = case.file or ""
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        count = int(array.size - np.isfinite(array).sum())
        return [
            Finding(
                "not-finite",
                "error",
                case.file,
                f"case {case.id!r}: {count:,} of {array.size:,} values are NaN or infinite",
                "one of them turns every weight of a network into NaN",
                f"find out what they stand for; if it is air or padding, set them to the lowest value: "
                f"`array = numpy.nan_to_num(array, nan=numpy.nanmin(array))`, and save {Path(file).name} again",
                ids=(case.id,),
                shown=(case,) if np.isfinite(array).any() else (),
            )
        ]
    if array.min() == array.max():
        return [
            Finding(
                "constant",
                "error",
                case.file,
                f"case {case.id!r}: every value of the image is {array.min():g}",
                "there is nothing to see in it; an export or a conversion went wrong",
                "export it again from its source, or take the case out of the table",
                ids=(case.id,),
            )
        ]
    return []


def _masks_of(opened: Opened, two: bool, again: str) -> tuple[np.ndarray | None, list[Finding]]:
    """Return the masks as bool, shape ``(L, I, J, K)``, or `None` and what hinders it."""
    case = opened.case
    findings = []
    for read in case.reads:
        if isinstance(read.truth, LabelMap):
            try:
                read.truth.masks()
            except DataError as error:
                findings.append(_mask_problem(error, opened, two, again))
    if not isinstance(case.truth, LabelMap):
        return None, findings
    if same := one_file(opened):
        return None, [*findings, same]
    try:
        masks = case.truth.masks()
        case.truth.ignored()
    except DataError as error:
        return None, [*findings, _mask_problem(error, opened, two, again)]
    return masks, findings


def _mask_problem(error: DataError, opened: Opened, two: bool, again: str) -> Finding:
    """Return the finding of a mask that no rule can read: often it is a picture, put where the mask should be."""
    bare = replace(opened.case, truth=None)
    return picture_as_mask(error, opened, two) or replace(_unread(error, opened.case, again), shown=(bare,))


def _truth_findings(opened: Opened, foreground: Mapping[str, int], masks: np.ndarray) -> list[Finding]:
    case = opened.case
    if not any(foreground.values()):
        return [] if opened.absent else [_empty(opened, _mask_file(opened), "nothing is marked")]
    findings = [
        _empty(opened, file, f"nothing is marked as {name}, and there is a mask for it")
        for name, n in foreground.items()
        if n == 0 and (file := _own_file(opened, name)) is not None
    ]
    name, most = max(foreground.items(), key=lambda item: item[1])
    share = most / masks[0].size
    if share >= FULL:
        findings.append(_covers_all(opened, name, share))
    small = {name: n for name, n in foreground.items() if 0 < n < TINY}
    if small:
        findings.append(
            Finding(
                "tiny",
                "warning",
                _mask_file(opened, next(iter(small))),
                f"case {case.id!r}: " + ", ".join(f"{name} has {n} voxel(s)" for name, n in small.items()),
                f"it may be a slip of the pen; below {TINY} voxels one voxel more or less moves Dice by over .05",
                'look at the picture; erase it if it is a slip; else score by `primary = "nsd"` under [metric], whose '
                "tolerance forgives a voxel",
                ids=(case.id,),
                shown=(case,),
            )
        )
    return findings


def _empty(opened: Opened, file: str | None, what: str) -> Finding:
    case = opened.case
    return Finding(
        "empty",
        "warning",
        file,
        f"case {case.id!r}: {what}",
        "nobody can tell 'looked for and not there' from 'not drawn yet', and a model learns the first",
        "draw it; or, if there is nothing, empty its cell in the table (or delete the mask) and state "
        '`missing = "absent"` in the plan',
        ids=(case.id,),
        shown=(case,),
    )


def _covers_all(opened: Opened, name: str, share: float) -> Finding:
    case = opened.case
    fix = "look at the picture; if it is inverted, state which number is the label and which is background"
    file = _own_file(opened, name)
    stored = np.unique(mask_numbers(Path(file)).values) if file else np.zeros(0)
    if stored.size == 2:
        entry = opened.labels[name]
        key = entry["file"] if isinstance(entry, Mapping) else entry
        low, high = (int(v) for v in stored)
        fix = f'if it is inverted: `labels.{name} = {{ file = "{key}", value = {low}, background = {high} }}`'
    return Finding(
        "full",
        "warning",
        file or _mask_file(opened),
        f"case {case.id!r}: {name} covers {share:.1%} of the image",
        "such a mask is mostly inverted: background and structure have changed places",
        fix,
        ids=(case.id,),
        shown=(case,),
    )


def _mask_file(opened: Opened, label: str | None = None) -> str | None:
    """Return a mask file of a case: that of a label if it has one of its own, else the first."""
    own = _own_file(opened, label) if label else None
    return own or next((str(f) for found in opened.row.masks.values() for f in found), opened.case.file)


def _own_file(opened: Opened, label: str) -> str | None:
    """Return the mask file in which a label alone is drawn, if the plan gives it one."""
    keys = {name: e.get("file") if isinstance(e, Mapping) else e for name, e in opened.labels.items()}
    key = keys.get(label)
    if not isinstance(key, str) or list(keys.values()).count(key) > 1:
        return None
    return next((str(file) for file in opened.row.masks.get(key, ())), None)

"""Opens every case of a set for a check, and goes on behind faults that end a normal reading."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from equipoise.core import registry
from equipoise.core.case import Case
from equipoise.core.image import LazyVoxels
from equipoise.core.labels import LabelMap, LabelScheme
from equipoise.errors import DataError, GeometryMismatchError, LabelError, PatientUnknownError
from equipoise.formats.finding import Finding, from_error
from equipoise.formats.imagefile import open_image
from equipoise.formats.masks import mask_numbers
from equipoise.formats.rows import Row, keep_where
from equipoise.formats.stated import completed
from equipoise.formats.statement import Statement

_ANYBODY = "(?P<patient>.+)"
"""A patient of its own for every file: stands in where nobody said who it is, so that the rest can be checked."""


@dataclass(frozen=True, slots=True, eq=False)
class Opened:
    """A case whose headers could be read.

    Parameters
    ----------
    case
        Its id and patient are unique over all sets of one check.
    row
        Its files.
    part
        Prefix of the set: "" for the data, another for the external site.
    known
        Whether somebody said which patient it is.
    absent
        Whether the plan says that no mask file means "not there", and none is named.
    labels
        The plan's `labels`, for fixes.
    """

    case: Case
    row: Row
    part: str
    known: bool
    absent: bool
    labels: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Opening:
    """What opening a set gave: its readable cases, its findings, and the number of rows."""

    cases: list[Opened]
    findings: list[Finding]
    rows: int


def open_set(spec: Mapping[str, Any] | str, part: str, again: str) -> Opening:
    """Open all cases of a set.

    Parameters
    ----------
    spec
        As in `equipoise.formats.read`.
    part
        Put before ids and patients.
    again
        The command that runs this check, for fixes.

    Raises
    ------
    PlanError, UnknownKindError
        The specification itself is wrong.
    """
    kind = registry.make("formats", completed(spec))
    if not isinstance(kind, Statement):
        return _open_other(kind, part, again)
    findings: list[Finding] = []
    known = True
    for _ in range(3):  # each fault of the whole set is stated once, set aside, and reading is tried again
        try:
            attempts = list(kind.attempts())
        except PatientUnknownError as error:
            findings.append(from_error(error, "", again, kind.path))
            if not known:
                break
            known = False
            kind = replace(kind, patient=_ANYBODY, patients=None, one_image_one_patient=False)
        except LabelError as error:
            lacking = _missing_masks(kind, error)
            findings += lacking or [from_error(error, "", again, kind.path)]
            if not lacking:
                break
            kind = replace(kind, missing="unlabelled")
        except DataError as error:
            findings += _same_ids(kind) or [from_error(error, "", again, kind.path)]
            break
        else:
            return _sorted_out(kind, attempts, findings, part, known, again)
    return Opening([], findings, len(_rows(kind)))


def _sorted_out(
    kind: Statement,
    attempts: Sequence[tuple[Row, Case | DataError]],
    findings: list[Finding],
    part: str,
    known: bool,
    again: str,
) -> Opening:
    cases = []
    for row, found in attempts:
        if isinstance(found, DataError):
            findings.append(_refused(row, found, kind, part, again))
            continue
        case = replace(found, id=part + found.id, patient=part + found.patient)
        absent = kind.missing == "absent" and not any(row.masks.values())
        cases.append(Opened(case, row, part, known, absent, kind.labels))
    return Opening(cases, findings, len(attempts))


def _open_other(kind: Any, part: str, again: str) -> Opening:
    """Open a format that lists no rows; its first fault ends the reading."""
    try:
        found: list[Case] = kind.read()
    except DataError as error:
        return Opening([], [from_error(error, "", again)], 0)
    cases = [replace(c, id=part + c.id, patient=part + c.patient) for c in found]
    opened = [Opened(c, Row(c.id, (Path(c.file),) if c.file else ()), part, True, False, {}) for c in cases]
    return Opening(opened, [], len(opened))


def _missing_masks(kind: Statement, error: LabelError) -> list[Finding]:
    """Return a finding per case that names no mask, if that is what the error was about."""
    if kind.missing != "refuse":
        return []
    unstated = kind.listing().labelling.unstated
    return [
        Finding(
            "missing-mask",
            "error",
            str(row.images[0]),
            f"case {row.id!r} names no mask file for {', '.join(names)}",
            error.why or "",
            error.fix or "",
            ids=(row.id,),
        )
        for row in _rows(kind)
        if (names := unstated(row.masks))
    ]


def _same_ids(kind: Statement) -> list[Finding]:
    """Return a finding per id that stands for several cases."""
    by_id: dict[str, list[Path]] = defaultdict(list)
    for row in _rows(kind):
        by_id[row.id].append(row.images[0])
    return [
        Finding(
            "duplicate-id",
            "error",
            str(files[1]),
            f"{len(files)} cases are called {name!r}: {', '.join(str(f) for f in files[:4])}",
            "predictions and annotations are filed under the id, so one would overwrite the other; "
            "the rest is checked once the ids differ",
            "give each an id of its own in the table's column `case`, or take the repeated row out",
            ids=(name,),
        )
        for name, files in by_id.items()
        if len(files) > 1
    ]


def _rows(kind: Statement) -> tuple[Row, ...]:
    """Return the rows that the format lists; none where not even that works, which is then a finding already."""
    try:
        listing = kind.listing()
        return keep_where(listing.rows, kind.where, listing.table)
    except DataError:
        return ()


def _refused(row: Row, error: DataError, kind: Statement, part: str, again: str) -> Finding:
    """Return the finding of a case that could not be opened; a mask on another grid is shown as it would be laid."""
    found = from_error(error, part + row.id, again, str(row.images[0]))
    masks = {str(file) for files in row.masks.values() for file in files}
    if not isinstance(error, GeometryMismatchError) or error.file not in masks:
        return found
    try:
        image, _ = open_image(row.images, exif=kind.exif)
    except DataError:
        return found
    shape = image.geometry.shape
    laid = LazyVoxels((1, *shape), np.dtype(np.uint8), partial(_laid, Path(error.file), shape, kind.exif))
    outline = LabelMap.on(image.geometry, laid, LabelScheme.of(["mask laid on pixel by pixel"]))
    case = Case(part + row.id, "unknown", image, file=str(row.images[0]))
    return replace(found, shown=(case,), outline=outline)


def _laid(file: Path, shape: tuple[int, int, int], exif: bool) -> np.ndarray:
    """Return a mask laid on a grid voxel by voxel from the first one on, as a tool that ignores the header would."""
    values = mask_numbers(file, exif).values
    drawn = values != values.min()
    laid = np.zeros((1, *shape), np.uint8)
    i, j, k = (min(a, b) for a, b in zip(shape, drawn.shape, strict=True))
    laid[0, :i, :j, :k] = drawn[:i, :j, :k]
    return laid

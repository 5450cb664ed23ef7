"""What a user states about a set of images, whatever format it is in, and how cases come of it.

A format is a subclass that finds the rows (`Statement.listing`); everything else is the same for all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Literal

from equipoise.core.case import Case
from equipoise.core.image import Image
from equipoise.core.labels import ClassLabel, LabelMap
from equipoise.core.people import Annotation, Reader
from equipoise.errors import DataError, LabelError, PlanError, did_you_mean
from equipoise.formats.headers import Header
from equipoise.formats.imagefile import open_image
from equipoise.formats.labelling import Labelling
from equipoise.formats.patients import UNKNOWN, patients_of_rows
from equipoise.formats.provenance import origin_of
from equipoise.formats.rows import (
    Listing,
    Row,
    columns_of,
    inside,
    join_table,
    keep_where,
    require_column,
    require_mapping,
    require_unique_ids,
    root_of,
)

Missing = Literal["refuse", "absent", "skip", "unlabelled"]


@dataclass(frozen=True, kw_only=True)
class Statement:
    """What is stated about a set of images.

    Parameters
    ----------
    path
        The folder, or the table or list in it.
    labels
        What is labelled: see `equipoise.formats.labelling.parse_labels`.
    patient
        Column, or regular expression with a group ``patient`` on the file name.
    patients
        CSV file with the columns ``case`` and ``patient``, and any others, which then count as columns of the set.
    one_image_one_patient
        State this, and no patient, only if no two images show one person; reports print it.
    site, scanner, modality, licence
        A column, or a text that holds for all cases (``"=text"`` where a column is called nearly the same).
    spacing
        Pixel size of pictures in mm: one number, one per axis (x, y[, z]), or a column. Without it lengths are in
        pixels.
    exclusive
        Whether a voxel has at most one label. Default: yes for numbers in one file, no for one mask file per label.
    where
        Keep only the cases whose column has this value, or one of these values.
    primary
        The label that matters most.
    missing
        What it means that a case names no mask file for a label: ``"refuse"`` (the default: an error that asks),
        ``"absent"`` (looked for, not there), ``"skip"`` (leave the case out), ``"unlabelled"`` (keep it without truth).
    attributes
        Columns to keep as strata of the report.
    class_label, classes
        Column that holds one class for the whole image, instead of ``labels``; its classes in order.
    exif
        Turn pictures as their EXIF orientation says, images and masks alike.
    """

    kind: ClassVar[str] = ""

    path: str
    labels: dict[str, Any] = field(default_factory=dict)
    patient: str | None = None
    patients: str | None = None
    one_image_one_patient: bool = False
    site: str | None = None
    scanner: str | None = None
    modality: str | None = None
    licence: str | None = None
    spacing: float | str | tuple[float, ...] | None = None
    exclusive: bool | None = None
    where: dict[str, Any] = field(default_factory=dict)
    primary: str | None = None
    missing: Missing = "refuse"
    attributes: tuple[str, ...] = ()
    class_label: str | None = None
    classes: tuple[str, ...] = ()
    exif: bool = True

    def __post_init__(self) -> None:
        require_mapping(self.labels, "labels", 'labels = { vessel = "mask" }')
        require_mapping(self.where, "where", 'where = { split = "training" }')
        if self.labels and self.class_label:
            raise PlanError("a set has `labels` (drawn) or a `class_label` (one for the image), not both")

    def listing(self) -> Listing:
        """Return the rows that the format finds; nothing but tables and lists is read."""
        raise NotImplementedError

    def read(self) -> list[Case]:
        """Return all cases, their headers checked and their voxels unread.

        Raises
        ------
        DataError
            The first file, cell or label that is not usable; its message names the file and the fix.
        PlanError
            The statement itself cannot be right.
        """
        cases: list[Case] = []
        for _, found in self.attempts():
            if isinstance(found, DataError):
                raise found
            cases.append(found)
        return cases

    def attempts(self) -> Iterator[tuple[Row, Case | DataError]]:
        """Yield each row with its case, or with the error that its files cause, so that a check can list them all.

        Raises what concerns the whole set: no rows, unknown columns, patients not stated.
        """
        listing = self.listing()
        rows = listing.rows
        if not rows:
            raise DataError(
                "no image was found", file=listing.table or listing.root, fix="correct `path` or the pattern"
            )
        if self.patients is not None:
            rows = join_table(rows, inside(listing.root, self.patients))
        rows = keep_where(rows, self.where, listing.table)
        require_unique_ids(rows, listing.table)
        facts = self._facts(rows, listing)
        rows = self._with_truth(rows, listing)
        people = patients_of_rows(rows, listing, self.patient, self.patients, self.one_image_one_patient)
        classes = self._classes(rows)
        for row, patient in zip(rows, people, strict=True):
            try:
                yield row, self._case(row, patient, facts, listing, classes)
            except DataError as error:
                yield row, error

    def _classes(self, rows: tuple[Row, ...]) -> tuple[str, ...]:
        """Return the stated classes, or those that occur, in alphabetical order."""
        column = self.class_label
        if self.classes or column is None:
            return self.classes
        return tuple(sorted({row.facts[column] for row in rows if row.facts.get(column)}))

    def _facts(self, rows: tuple[Row, ...], listing: Listing) -> dict[str, str]:
        """Return, by field, the column or the ``=text`` that it comes from, after checking all columns."""
        columns = columns_of(rows)
        for name in self.attributes:
            require_column(name, columns, "`attributes`", listing.table)
        if self.class_label:
            require_column(self.class_label, columns, "`class_label`", listing.table)
        if isinstance(self.spacing, str):
            require_column(self.spacing, columns, "`spacing`", listing.table)
        scheme = listing.labelling.scheme
        if self.primary is not None and (scheme is None or self.primary not in scheme.names):
            names = scheme.names if scheme else ()
            raise PlanError(f"`primary` names no label: {self.primary!r}.{did_you_mean(self.primary, names)}")
        stated = {
            name: getattr(self, name) or listing.stated.get(name) for name in ("site", "scanner", "modality", "licence")
        }
        return {name: _column_or_text(name, text, columns, listing) for name, text in stated.items() if text}

    def _with_truth(self, rows: tuple[Row, ...], listing: Listing) -> tuple[Row, ...]:
        """Return the rows to read, after applying `missing` to those that name no file for a label."""
        lacking = {row.id: listing.labelling.unstated(row.masks) for row in rows}
        lacking = {row: names for row, names in lacking.items() if names}
        if not lacking or self.missing in ("absent", "unlabelled"):
            return rows
        if self.missing == "skip":
            kept = tuple(row for row in rows if row.id not in lacking)
            if kept:
                return kept
        case, names = next(iter(lacking.items()))
        some = f"{len(lacking)} of {len(rows)} cases name no mask file for a label"
        everyone = f"{some}, such as {case!r} for {', '.join(names)}"
        if self.missing == "skip":
            raise LabelError(f'{everyone}; with `missing = "skip"` none is left', file=listing.table or listing.root)
        raise LabelError(
            everyone,
            file=listing.table or listing.root,
            why="it can mean 'looked for and not there' or 'nobody looked', and a model would learn the wrong one",
            fix='state `missing = "absent"` (it is not there), `"skip"` (leave such cases out) or `"unlabelled"` '
            "(keep the image without truth); or correct the names",
        )

    def _case(
        self, row: Row, patient: str, facts: Mapping[str, str], listing: Listing, classes: tuple[str, ...]
    ) -> Case:
        image, header = open_image(row.images, self._spacing(row), self.exif)
        known = {name: _fact(row, text) for name, text in facts.items()}
        reads = [
            Annotation(Reader(reader), drawn)
            for reader, labelling in listing.readers.items()
            # All cells empty: this reader did not see the case, whatever `missing` says of single labels.
            if len(labelling.unstated(row.masks)) < len(labelling.rules)
            and (drawn := self._drawn(row, labelling, image, header)) is not None
        ]
        truth: LabelMap | ClassLabel | None = self._drawn(row, listing.labelling, image, header)
        if self.class_label and row.facts.get(self.class_label):
            truth = ClassLabel(row.facts[self.class_label], classes)
        return Case(
            row.id,
            patient,
            image,
            truth,
            next((o for o in (row.origin, origin_of(row.facts), header.origin) if o.kind == "synthetic"), row.origin),
            site=known.get("site"),
            scanner=known.get("scanner"),
            reads=tuple(reads),
            licence=known.get("licence"),
            modality=known.get("modality"),
            attributes=MappingProxyType({name: _number(row.facts.get(name, "")) for name in self.attributes}),
            file=str(row.images[0]),
        )

    def _drawn(self, row: Row, labelling: Labelling, image: Image, header: Header) -> LabelMap | None:
        """Return what was drawn, or `None` where nothing is stated."""
        lacking = labelling.unstated(row.masks)
        if lacking and self.missing != "absent":
            return None
        return labelling.label_map(row.masks, image, header, self.exif)

    def _spacing(self, row: Row) -> tuple[float, float, float] | None:
        stated: Any = row.facts.get(self.spacing, "") if isinstance(self.spacing, str) else self.spacing
        if stated is None:
            return None
        try:
            sizes = [float(s) for s in (stated if isinstance(stated, (tuple, list)) else [stated])]
        except ValueError:
            sizes = []
        if len(sizes) not in (1, 2, 3) or not all(0 < s < float("inf") for s in sizes):
            raise DataError(
                f"`spacing` must be one to three positive numbers (mm), got {stated!r} for case {row.id!r}",
                file=row.images[0],
                fix="spacing = 0.2, or [0.2, 0.2], or the name of a column that is filled for every case",
            )
        x, y, z = (*(sizes * 2 if len(sizes) == 1 else sizes), 1.0)[:3]
        return x, y, z


def _column_or_text(name: str, text: str, columns: Mapping[str, str], listing: Listing) -> str:
    """Return a column's name, or ``=text``; a text that nearly names a column is refused, since it may be a slip."""
    if text.startswith("=") or text in columns:
        return text
    near = did_you_mean(text, columns)
    if near.startswith(" Did") and name in ("site", "scanner"):
        raise DataError(
            f"`{name} = {text!r}` is no column.{near}",
            file=listing.table,
            fix=f'correct it, or write `{name} = "={text}"` if that is the {name} of every case',
        )
    return f"={text}"


def _fact(row: Row, text: str) -> str | None:
    value = text[1:] if text.startswith("=") else row.facts.get(text, "")
    return value if value.lower() not in UNKNOWN else None


def _number(text: str) -> str | float:
    try:
        return float(text)
    except ValueError:
        return text


def require_folder(path: str) -> Path:
    """Return the folder of a set, or raise `DataError` if the path is a file."""
    root = root_of(path)
    if not root.is_dir():
        raise DataError("this is a file, and a folder is needed", file=root, fix=f'path = "{root.parent}"')
    return root


def reader_labellings(readers: Mapping[str, Labelling], truth: Labelling) -> dict[str, Labelling]:
    """Return the readers' labellings after checking that each names the same labels as the truth, in its order."""
    for reader, labelling in readers.items():
        names: Sequence[str] = labelling.scheme.names if labelling.scheme else ()
        wanted: Sequence[str] = truth.scheme.names if truth.scheme else ()
        if tuple(names) != tuple(wanted):
            raise PlanError(
                f"reader {reader!r} draws {', '.join(names) or 'nothing'}, the truth {', '.join(wanted) or 'nothing'}",
                fix="name the same labels in the same order under `labels` and under each of `readers`",
            )
    return dict(readers)

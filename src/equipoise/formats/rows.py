"""What a format finds before anything is opened: one row per case, and how its columns are called."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from equipoise.core.case import Origin
from equipoise.errors import DataError, PlanError, UnreadableFileError, did_you_mean
from equipoise.formats.headers import require_file
from equipoise.formats.labelling import Labelling

_REAL = Origin()


@dataclass(frozen=True, slots=True)
class Row:
    """One case, as a table, a list or a naming pattern states it.

    Parameters
    ----------
    id
        Unique in its set.
    images
        One file, or one per channel.
    masks
        Mask files by column or pattern; an empty tuple where none is named.
    facts
        Everything else that the row states, by column.
    origin
        Real, unless a provenance file says otherwise.
    """

    id: str
    images: tuple[Path, ...]
    masks: Mapping[str, tuple[Path, ...]] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)
    origin: Origin = _REAL


@dataclass(frozen=True, slots=True)
class Listing:
    """All rows of a set and what its own files say of them.

    Parameters
    ----------
    root
        The folder; patterns for the patient are tried on paths relative to it.
    rows
        In the order of the table, or by name.
    labelling
        The truth.
    readers
        Single reads by reader, with the same labels.
    stated
        What the files themselves say for `site`, `scanner`, `modality`, `licence` or `patient`: a column or ``=text``.
    table
        The file that the columns come from, for messages.
    """

    root: Path
    rows: tuple[Row, ...]
    labelling: Labelling
    readers: Mapping[str, Labelling] = field(default_factory=dict)
    stated: Mapping[str, str] = field(default_factory=dict)
    table: Path | None = None


def root_of(path: str) -> Path:
    """Return the folder of a set; `UnreadableFileError` if there is none."""
    root = Path(path).expanduser()
    if not root.exists():
        near = did_you_mean(root.name, (p.name for p in root.parent.iterdir())) if root.parent.is_dir() else ""
        raise UnreadableFileError(f"there is no such folder.{near}", file=root, fix="correct `path`")
    return root


def inside(root: Path, name: str) -> Path:
    """Return the file that a cell names, relative to the set's folder unless absolute."""
    path = root / name
    return path if path.exists() or "\\" not in name else root / name.replace("\\", "/")  # tables written on Windows


def read_table(path: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV file as dictionaries; comma, semicolon or tab, with or without a byte-order mark.

    Raises
    ------
    UnreadableFileError
        Missing, empty, not UTF-8, without rows, with two columns of one name, or with a row of another length.
    """
    require_file(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UnreadableFileError(
            f"the table is not UTF-8 text ({error.reason} at byte {error.start})",
            file=path,
            fix="save it again as 'CSV UTF-8'",
        ) from error
    delimiter = max(",;\t", key=text.partition("\n")[0].count)
    try:
        cells = [
            [c.strip() for c in line]
            for line in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
            if line
        ]
    except csv.Error as error:
        raise UnreadableFileError(f"the table is damaged: {error}", file=path, fix="export it again") from error
    if len(cells) < 2:
        raise UnreadableFileError("the table has no rows under its header", file=path, fix="export it again")
    header, *rows = cells
    twice = sorted({c for c in header if header.count(c) > 1})
    if twice:
        raise UnreadableFileError(f"two columns are called {twice[0]!r}", file=path, fix="rename one")
    for number, row in enumerate(rows, 2):
        if len(row) != len(header):
            raise UnreadableFileError(
                f"row {number} has {len(row)} cells, the header {len(header)}",
                file=path,
                why="every cell after the fault would stand in the wrong column",
                fix="quote cells that hold the separator, or fill the row up",
            )
    return [dict(zip(header, row, strict=True)) for row in rows]


def require_column(name: str, columns: Mapping[str, Any], what: str, table: Path | None) -> str:
    """Return ``name`` if it is a column, else raise `DataError` with the nearest one."""
    if name in columns:
        return name
    raise DataError(
        f"there is no column {name!r} for {what}.{did_you_mean(name, columns)}",
        file=table,
        fix=f"correct the name; the columns are {', '.join(columns) or 'none'}",
    )


def keep_where(rows: tuple[Row, ...], where: Mapping[str, Any], table: Path | None) -> tuple[Row, ...]:
    """Return the rows whose columns have the wanted value (or one of a list of values)."""
    for column, wanted in where.items():
        require_column(column, columns_of(rows), "`where`", table)
        options = {as_text(v) for v in (wanted if isinstance(wanted, (list, tuple)) else [wanted])}
        found = sorted({row.facts.get(column, "") for row in rows})
        rows = tuple(row for row in rows if row.facts.get(column, "") in options)
        if not rows:
            raise DataError(
                f"no case has {column} = {' or '.join(sorted(options))}",
                file=table,
                fix=f"the values there are {', '.join(found[:12])}{' …' if len(found) > 12 else ''}",
            )
    return rows


def join_table(rows: tuple[Row, ...], path: Path) -> tuple[Row, ...]:
    """Return the rows with the columns of a second table added, matched by its column ``case``."""
    lines = read_table(path)
    require_column("case", lines[0], "the case's id", path)
    by_case: dict[str, dict[str, str]] = {}
    for line in lines:
        if line["case"] in by_case:
            raise DataError(f"case {line['case']!r} stands in the table twice", file=path, fix="delete one of its rows")
        by_case[line["case"]] = line
    lost = [row.id for row in rows if row.id not in by_case]
    if lost:
        raise DataError(
            f"{len(lost)} of {len(rows)} cases are not in the table, such as {lost[0]!r}."
            f"{did_you_mean(lost[0], by_case)}",
            file=path,
            fix="add a row for each; the column `case` holds the file's name without its ending",
        )
    return tuple(
        Row(row.id, row.images, row.masks, MappingProxyType({**row.facts, **by_case[row.id]}), row.origin)
        for row in rows
    )


def require_unique_ids(rows: tuple[Row, ...], table: Path | None) -> None:
    """Raise unless every case has an id of its own."""
    seen: dict[str, Row] = {}
    for row in rows:
        if row.id in seen:
            raise DataError(
                f"two cases are called {row.id!r}: {seen[row.id].images[0].name} and {row.images[0].name}",
                file=table or row.images[0],
                why="predictions and annotations are filed under the id",
                fix="give each its own, or take the repeated row out",
            )
        seen[row.id] = row


def columns_of(rows: tuple[Row, ...]) -> dict[str, str]:
    """Return the names of all columns, as keys."""
    return {name: "" for row in rows for name in row.facts}


def as_text(value: Any) -> str:
    """Return a value as a table's cell would hold it; true and false as in JSON and TOML."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def require_mapping(value: Any, name: str, example: str) -> None:
    """Raise `PlanError` unless a plan's value is a table."""
    if not isinstance(value, Mapping):
        raise PlanError(f"`{name}` must be a table, got {value!r}", fix=example)

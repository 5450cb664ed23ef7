"""Writes cases as a folder that says itself how it is read: images, masks, a table, and a statement beside them."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from equipoise.core.case import Case
from equipoise.core.labels import LabelMap, LabelScheme
from equipoise.errors import LabelError
from equipoise.formats.labelling import IGNORE
from equipoise.formats.nifti import write_nifti
from equipoise.formats.provenance import origin_record
from equipoise.formats.stated import write_statement
from equipoise.formats.volumes import read_volume, volume_header, write_volume

TABLE = "index.csv"
_MASK = "label"

Wrote = Callable[[Case], None]
"""Called with every case, once its files are written."""


def write_folder(cases: Iterable[Case], folder: Path, wrote: Wrote | None = None) -> list[dict[str, Any]]:
    """Write cases one after the other as NIfTI files; none is kept in memory.

    Labels that exclude each other become numbers in one mask file; labels that may overlap, and objects that are
    counted, become one file per label with the objects' numbers. What is written is read back by
    ``{"kind": "folder", "path": folder}`` alone, and by ``equipoise check``.

    Parameters
    ----------
    cases
        Each with a label map; all with one label scheme, ids differ.
    folder
        An empty folder.
    wrote
        Told of every case.

    Returns
    -------
    list of dict
        The rows of the table: files, patient, origin, engine, seed, parents, scanner, modality, licence, and the
        acquisition's attributes as JSON.

    Raises
    ------
    LabelError
        A case has another label scheme than the first, or labels overlap that exclude each other by their scheme.
    DataError
        A case has no label map.
    OSError
        A file cannot be written.
    """
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    scheme: LabelScheme | None = None
    for case in cases:
        scheme = scheme or case.labels.scheme
        if case.labels.scheme != scheme:
            raise LabelError(
                f"case {case.id!r} has labels {case.labels.scheme.as_dict()}, the first has {scheme.as_dict()}",
                fix="give all cases of one folder one label scheme",
            )
        rows.append(_write_case(case, folder))
        if wrote is not None:
            wrote(case)
    if scheme is not None:
        _finish(folder, rows, scheme)
    return rows


def _finish(folder: Path, rows: list[dict[str, Any]], scheme: LabelScheme) -> None:
    apart = not all(_MASK in row for row in rows)
    if apart:  # one case with counted objects, and all masks are written as its are
        for row in rows:
            _take_apart(row, folder, scheme)
    ignore = any(IGNORE in row for row in rows)
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with (folder / TABLE).open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
    labels: dict[str, Any] = dict(scheme.as_dict())
    if apart:
        labels = {name: {"file": _column(name), "instances": True} for name in scheme.names}
    labels |= {IGNORE: {"file": IGNORE, "value": 1}} if ignore else {}
    stated = {name: name for name in ("patient", "site", "scanner", "modality", "licence")}
    masks = {} if apart else {"mask": _MASK}
    data = {"kind": "folder", "table": TABLE, **masks, "labels": labels, "exclusive": scheme.exclusive, **stated}
    write_statement(folder, _about(rows), data)


def _about(rows: Sequence[Mapping[str, Any]]) -> str:
    made = [row for row in rows if row["origin"] == "synthetic"]
    engines = ", ".join(sorted({row["engine"] for row in made}))
    said = f"{len(rows)} cases"
    if made:
        said += f", of which {len(made)} are synthetic, made by {engines}: no patient is shown"
    return said


def _write_case(case: Case, folder: Path) -> dict[str, Any]:
    image = f"images/{case.id}.nii.gz"
    write_nifti(folder / image, case.image, case.origin)
    labels = case.labels
    if labels.scheme.exclusive and labels.array.max(initial=0) <= 1:
        masks = {_MASK: f"labels/{case.id}.nii.gz"}
        write_nifti(folder / masks[_MASK], labels)
    else:
        masks = _write_apart(case.id, folder, labels)
    if labels.ignore is not None:
        masks[IGNORE] = f"labels/{case.id}_{IGNORE}.nii.gz"
        write_volume(folder / masks[IGNORE], labels.ignored().astype(np.uint8), labels.geometry)
    facts = {name: getattr(case, name) for name in ("site", "licence", "modality", "scanner")}
    made = origin_record(case.origin)
    return {
        "case": case.id,
        "patient": case.patient,
        "image": image,
        **masks,
        **made,
        "parents": json.dumps(made["parents"]),
        **facts,
        "acquisition": json.dumps(dict(case.attributes), default=str),
    }


def _write_apart(case: str, folder: Path, labels: LabelMap) -> dict[str, str]:
    """Write one file per label, with the numbers of its objects; return the files by column."""
    files = {}
    for label in labels.scheme.labels:
        numbers = labels.instances(label.name)
        # The label's number keeps two names apart that differ in what files cannot hold.
        name = f"labels/{case}_{label.value}_{re.sub(r'[^A-Za-z0-9.-]', '_', label.name)}.nii.gz"
        files[_column(label.name)] = name
        write_volume(folder / name, numbers.astype(np.min_scalar_type(int(numbers.max(initial=0)))), labels.geometry)
    return files


def _take_apart(row: dict[str, Any], folder: Path, scheme: LabelScheme) -> None:
    """Replace a case's one mask file, in which nothing was counted, by one file per label."""
    if _MASK not in row:
        return
    file = folder / row.pop(_MASK)
    labels = LabelMap.from_values(volume_header(file).geometry, read_volume(str(file))[0], scheme)
    file.unlink()
    row |= _write_apart(row["case"], folder, labels)


def _column(label: str) -> str:
    return f"{_MASK} {label}"

"""Writes cases as an nnU-Net v2 raw data set, with the provenance of every case beside it."""

from __future__ import annotations

import csv
import errno
import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from equipoise.core.case import Case
from equipoise.core.image import Image
from equipoise.core.labels import LabelMap, LabelScheme
from equipoise.errors import DataError, GeometryMismatchError, LabelError, PlanError, WorkspaceError, WorkspaceFullError
from equipoise.formats.nnunet_labels import LabelCode, label_code
from equipoise.formats.pictures import write_png
from equipoise.formats.provenance import origin_record
from equipoise.formats.volumes import write_volume

PROVENANCE = "provenance.json"

Progress = Callable[[int, int], None]
"""Called with the number of cases written and of all."""

_COLUMNS = (
    "file", "case", "origin", "patient", "site", "scanner", "modality", "licence", "engine", "seed", "parents", "spec"
)  # fmt: skip


def write_nnunet(
    cases: Iterable[Case],
    path: str | Path,
    name: str,
    channel_names: Sequence[str],
    progress: Progress | None = None,
    labels: Sequence[str] | None = None,
) -> Path:
    """Write cases as a raw data set that nnU-Net v2 trains on.

    Grey and RGB pictures of 8 bits without a physical size become PNG; everything else NIfTI with its affine. Labels
    that exclude each other become numbers, labels that lie inside each other become nnU-Net regions. Instances become
    their label: nnU-Net segments structures, it does not count them.

    Parameters
    ----------
    cases
        Real and synthetic, each with a label map; ids must differ.
    path
        The folder to make, called ``Dataset###_Name`` as nnU-Net demands. It must not exist.
    name
        Of the data set, in words.
    channel_names
        One per channel, such as ``["CT"]`` or ``["R", "G", "B"]``; nnU-Net normalises by them.
    progress
        Called after every case.
    labels
        Write these labels only. Default: all.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    LabelError
        A case without label map, another scheme, or labels that overlap without one lying inside the other.
    GeometryMismatchError
        A case with another number of channels.
    WorkspaceError, WorkspaceFullError
        The folder exists or cannot be written; the disk is full. Nothing is left behind.

    References
    ----------
    Isensee F et al. nnU-Net. Nat Methods 2021. doi:10.1038/s41592-020-01008-z
    """
    everything = list(cases)
    target = _require_target(Path(path).expanduser())
    scheme = _require_alike(everything, channel_names)
    chosen = _chosen(scheme, labels)
    code = label_code(everything, chosen)
    files = _file_names(everything)
    as_png = all(_is_picture(case.image) for case in everything)
    partial = target.with_name(f".{target.name}.partial-{os.getpid()}")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        (partial / "imagesTr").mkdir(parents=True)
        (partial / "labelsTr").mkdir()
        for number, case in enumerate(everything, 1):
            _write_case(partial, case, files[case.id], code, as_png)
            if progress is not None:
                progress(number, len(everything))
        _write_json(partial / "dataset.json", _description(everything, name, channel_names, code, as_png))
        kept = LabelScheme(tuple(x for x in scheme.labels if x.name in chosen), scheme.exclusive and not code.nested)
        _write_provenance(partial, everything, files, kept)
        partial.rename(target)
    except OSError as error:
        raise _not_written(target, error) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return target


def _require_target(target: Path) -> Path:
    if not re.fullmatch(r"Dataset\d{3}_[A-Za-z0-9_\-]+", target.name):
        raise PlanError(
            f"nnU-Net demands a folder called Dataset###_Name, got {target.name!r}",
            fix=f"such as {target.parent / 'Dataset501_BestMix'}",
        )
    if target.exists():
        raise WorkspaceError(
            "the folder exists, and nothing is overwritten",
            file=target,
            why="a model may have been trained on what is in it",
            fix="choose another number, or delete it yourself",
        )
    return target


def _require_alike(cases: Sequence[Case], channel_names: Sequence[str]) -> LabelScheme:
    """Return the scheme that all cases share."""
    if not cases:
        raise DataError("there are no cases to write", fix="choose an arm with cases")
    bare = [c.id for c in cases if not isinstance(c.truth, LabelMap)]
    if bare:
        raise LabelError(
            f"{len(bare)} of {len(cases)} cases have no label map, such as {bare[0]!r}",
            why="nnU-Net trains on labelled images only",
            fix="leave them out",
        )
    scheme = cases[0].labels.scheme
    for case in cases:
        if case.labels.scheme != scheme:
            raise LabelError(
                f"case {case.id!r} has labels {case.labels.scheme.as_dict()}, case {cases[0].id!r} {scheme.as_dict()}",
                file=case.file,
                fix="give all cases one label scheme",
            )
        if case.image.channels != len(channel_names):
            raise GeometryMismatchError(
                f"case {case.id!r} has {case.image.channels} channels, {len(channel_names)} are named",
                file=case.file,
                fix=f"channel_names = {[f'channel {i}' for i in range(case.image.channels)]}, or leave the case out",
            )
    return scheme


def _chosen(scheme: LabelScheme, labels: Sequence[str] | None) -> tuple[str, ...]:
    names = tuple(labels) if labels is not None else scheme.names
    for name in names:
        scheme.channel(name)
    if not names:
        raise LabelError("no label is left to write")
    return names


def _file_names(cases: Sequence[Case]) -> dict[str, str]:
    """Return a file name for each case: its id where that is one, else the id with what files cannot hold replaced."""
    names: dict[str, str] = {}
    taken: set[str] = set()
    for case in cases:
        if case.id in names:
            raise DataError(f"two cases are called {case.id!r}", file=case.file, fix="give each an id of its own")
        plain = re.sub(r"[^A-Za-z0-9._\-]", "_", case.id).lstrip(".") or "case"
        name, number = plain, 1
        while name.lower() in taken:  # some file systems take A and a for one name
            number += 1
            name = f"{plain}-{number}"
        names[case.id] = name
        taken.add(name.lower())
    return names


def _is_picture(image: Image) -> bool:
    shape = image.voxels.shape
    in_pixels = image.unit == "px" and np.allclose(image.affine, np.eye(4))
    return shape[3] == 1 and shape[0] in (1, 3) and image.voxels.dtype == np.uint8 and in_pixels


def _write_case(folder: Path, case: Case, file: str, code: LabelCode, as_png: bool) -> None:
    array, values = case.image.array, code.numbers(case)
    if as_png:
        write_png(folder / "imagesTr" / f"{file}_0000.png", array)
        write_png(folder / "labelsTr" / f"{file}.png", values[None])
        return
    geometry = case.image.geometry
    for number, channel in enumerate(array):
        write_volume(folder / "imagesTr" / f"{file}_{number:04d}.nii.gz", channel, geometry, case.origin)
    write_volume(folder / "labelsTr" / f"{file}.nii.gz", values, geometry)


def _description(
    cases: Sequence[Case], name: str, channel_names: Sequence[str], code: LabelCode, as_png: bool
) -> dict[str, Any]:
    """Return the content of ``dataset.json``."""
    labels: dict[str, int | list[int]] = {"background": 0}
    labels |= {n: list(c) if len(c) > 1 else c[0] for n, c in code.covers.items()}
    if code.ignore is not None:
        labels["ignore"] = code.ignore
    content: dict[str, Any] = {
        "name": name,
        "channel_names": {str(i): n for i, n in enumerate(channel_names)},
        "labels": labels,
        "numTraining": len(cases),
        "file_ending": ".png" if as_png else ".nii.gz",
        "licence": "; ".join(sorted({c.licence or "not stated" for c in cases})),
        "description": f"{sum(not c.synthetic for c in cases)} real and {sum(c.synthetic for c in cases)} synthetic "
        f"cases, see {PROVENANCE}",
    }
    if code.nested:
        content["regions_class_order"] = [code.values[n] for n in code.names]
    return content


def _write_provenance(folder: Path, cases: Sequence[Case], files: Mapping[str, str], scheme: LabelScheme) -> None:
    records: list[dict[str, Any]] = [
        {
            "file": files[c.id],
            "case": c.id,
            **origin_record(c.origin),
            "patient": c.patient,
            "site": c.site,
            "scanner": c.scanner,
            "modality": c.modality,
            "licence": c.licence,
        }
        for c in cases
    ]
    labels = [{"name": x.name, "value": x.value, "code": x.code} for x in scheme.labels]
    _write_json(folder / PROVENANCE, {"labels": labels, "exclusive": scheme.exclusive, "cases": records})
    with (folder / "provenance.csv").open("w", newline="", encoding="utf-8") as stream:
        table = csv.DictWriter(stream, _COLUMNS)
        table.writeheader()
        table.writerows({**r, "parents": " ".join(r["parents"])} for r in records)


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _not_written(target: Path, error: OSError) -> WorkspaceError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return WorkspaceFullError(
            "the disk is full; nothing was written", file=target, fix="free space and write again"
        )
    return WorkspaceError(
        f"the data set cannot be written: {error.strerror or error}",
        file=target,
        fix="choose a folder that you may write to",
    )

"""Guesses the format of a bare path. What is guessed is a specification to look at and correct, never a patient."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from equipoise.errors import DataError, UnreadableFileError
from equipoise.formats.imagefile import is_image, is_volume, stem_of
from equipoise.formats.jsonfile import read_json
from equipoise.formats.masks import mask_numbers
from equipoise.formats.patterns import ID
from equipoise.formats.rows import inside, read_table, root_of
from equipoise.formats.stated import STATEMENT, stated_in

_MASK_WORD = re.compile(r"^(mask|label|seg|segmentation|annotation|gt|truth|instance)s?(?=[_\W\d]|$)", re.IGNORECASE)
_READER_WORD = re.compile(r"^(?P<what>.*?)_?(?P<reader>(reader|rater|observer|annotator)_?\w+)$", re.IGNORECASE)
_PATIENT_WORD = re.compile(r"^(patient|subject|participant)(_?id)?$", re.IGNORECASE)
_SITE_WORD = re.compile(r"^(\w+_)?(site|hospital|cent(er|re)|institution)(_?id|_\w+)?$", re.IGNORECASE)
_FOLDER_IMAGES = ("images", "image", "imgs", "img", "imagesTr")
_FOLDER_MASKS = ("masks", "mask", "labels", "label", "labelsTr", "segmentations", "gt")
_LOOKED_FOR = (
    f"{STATEMENT} (as `equipoise sample` writes it), dataset.json (nnU-Net v2: `channel_names` and `file_ending`; "
    "decathlon: `training`), one *.json with `training` (MONAI data list), one *.csv with an image column, folders "
    "images/ and masks/ (or labels/), *.nii[.gz] files"
)
_SAMPLE = 5  # masks that are opened to see which numbers they hold


def detect(path: str | Path) -> dict[str, Any]:
    """Return the specification that a bare path seems to mean.

    It names labels ``label_1`` … where the files give them no name, and names a patient only if a column is called so:
    else reading it raises `PatientUnknownError` with the lines to add.

    Parameters
    ----------
    path
        A folder, a JSON list or a CSV table.

    Raises
    ------
    UnreadableFileError
        There is no such path.
    DataError
        Nothing known is in it; the message says what was looked for.
    """
    root = root_of(str(path))
    if root.is_file():
        return _from_file(root)
    if (told := stated_in(root)) is not None:
        return told
    if (root / "dataset.json").exists():
        return _from_json(root / "dataset.json")
    lists = sorted(root.glob("*.json"))
    if len(lists) == 1 and "training" in read_json(lists[0]):
        return _from_json(lists[0])
    tables = sorted(root.glob("*.csv"))
    if len(tables) == 1 and (spec := _from_table(tables[0])) is not None:
        return {**spec, "path": str(root)}
    spec = _from_names(root)
    if spec is None:
        raise _nothing(root)
    return spec


def _from_file(file: Path) -> dict[str, Any]:
    if file.suffix.lower() == ".json":
        return _from_json(file)
    if file.suffix.lower() == ".csv":
        spec = _from_table(file)
        if spec is not None:
            return {**spec, "path": str(file)}
    raise _nothing(file)


def _from_json(file: Path) -> dict[str, Any]:
    content = read_json(file)
    if "channel_names" in content and "file_ending" in content:
        return {"kind": "nnunet", "path": str(file.parent)}
    if file.name == "dataset.json" and "training" in content and "labels" in content:
        return {"kind": "msd", "path": str(file.parent)}
    if isinstance(content.get("training"), list) and content["training"]:
        spec: dict[str, Any] = {"kind": "datalist", "path": str(file)}
        first = content["training"][0]
        if isinstance(first, Mapping):
            masks = [
                [file.parent / e["label"]]
                for e in content["training"][:_SAMPLE]
                if isinstance(e, Mapping) and isinstance(e.get("label"), str)
            ]
            spec |= _labels_in([m for (m,) in masks], "label", "mask")
            spec |= _named(list(first))
        return spec
    raise _nothing(file)


def _from_table(table: Path) -> dict[str, Any] | None:
    """Return the specification of a table with an image column, or `None` if it has none."""
    rows = read_table(table)
    columns = [c for c in rows[0] if any(is_image(Path(r[c])) for r in rows if r[c])]
    masks = [c for c in columns if _MASK_WORD.match(c)]
    images = [c for c in columns if c not in masks]
    if not images:
        return None
    image = next((c for c in images if c.lower() in ("image", "img", "file", "filename", "path")), images[0])
    spec: dict[str, Any] = {"kind": "folder", "path": str(table.parent), "table": table.name, "image": image}
    spec |= _named(list(rows[0]))
    readers = {c: m for c in masks if (m := _READER_WORD.match(c))}
    single = [c for c in masks if c not in readers]
    if len(readers) > 1 and not single:
        first = max(readers, key=lambda c: sum(bool(r[c]) for r in rows))  # who read most, and the first of those
        name = _MASK_WORD.sub("", readers[first]["what"]).strip("_ ") or "structure"
        return spec | {
            "labels": {name: first},
            "readers": {m["reader"]: {name: c} for c, m in readers.items()},
        }
    counted = [c for c in single if c.lower().startswith("instance")]
    if len(counted) == 1:
        return spec | {"labels": {"structure": {"file": counted[0], "instances": True}}}
    if len(single) == 1:
        files = [inside(table.parent, r[single[0]]) for r in rows if r[single[0]]]
        return spec | _labels_in(files[:_SAMPLE], single[0], "mask")
    labels = {(_MASK_WORD.sub("", c).strip("_ ") or c): c for c in single or masks}
    return spec | ({"labels": labels} if labels else {})


def _named(columns: Sequence[str]) -> dict[str, Any]:
    """Return the columns that are called as patients and sites are."""
    patient = next((c for c in columns if _PATIENT_WORD.match(c)), None)
    site = next((c for c in columns if _SITE_WORD.match(c)), None)
    return ({"patient": patient} if patient else {}) | ({"site": site} if site else {})


def _from_names(root: Path) -> dict[str, Any] | None:
    images = next((n for n in _FOLDER_IMAGES if (root / n).is_dir()), None)
    inner = root / images if images else root
    files = sorted(p for p in inner.iterdir() if is_image(p))
    if not files:
        return None
    volumes = all(is_volume(p) for p in files)
    place = f"{images}/" if images else ""
    pattern = f"{place}{ID}{_ending(files)}"
    spec: dict[str, Any] = {"kind": "nifti" if volumes else "folder", "path": str(root), "images": pattern}
    folders = [n for n in _FOLDER_MASKS if (root / n).is_dir()]
    if not images or not folders:
        return spec
    masks = f"{folders[0]}/{ID}{_ending([p for p in (root / folders[0]).iterdir() if is_image(p)])}"
    drawn = [p for f in files[:_SAMPLE] for p in (root / folders[0]).glob(f"{stem_of(f)}.*") if is_image(p)]
    if not drawn:
        raise DataError(
            f"{folders[0]}/ holds no mask with the name of an image, such as {stem_of(files[0])}",
            file=root / folders[0],
            fix=f'state the pattern: `labels = {{ structure = "{folders[0]}/{ID}_mask.*" }}`',
        )
    return spec | _labels_in(drawn, masks, "masks")


def _ending(files: Sequence[Path]) -> str:
    """Return the ending that all files share, or a pattern for any."""
    endings = {p.name[len(stem_of(p)) :] for p in files}
    return endings.pop() if len(endings) == 1 else ".*"


def _labels_in(files: Sequence[Path], key: str, mask_word: str) -> dict[str, Any]:
    """Return the labels that a few mask files seem to hold: one structure, or numbers.

    A file that cannot be opened says nothing about labels; whoever reads the set meets it again and names it.
    """
    if not files:
        return {}
    held: set[float] = set()
    for file in files:
        with suppress(UnreadableFileError):
            held.update(np.unique(mask_numbers(file).values).tolist())
    numbers = sorted(int(v) for v in held if v > 0 and float(v).is_integer())
    if len(held) <= 2 or len(numbers) > 32:
        # More numbers than a scheme would have: soft edges or instances. The rule of two values then asks.
        return {"labels": {"structure": key}}
    return {mask_word: key, "labels": {f"label_{v}": v for v in numbers}}


def _nothing(path: Path) -> DataError:
    inside = path.iterdir() if path.is_dir() else [path]
    endings = Counter(p.suffix.lower() or p.name for p in inside if p.is_file())
    held = ", ".join(f"{count} {ending}" for ending, count in endings.most_common(5)) or "no files"
    return DataError(
        f"no known layout of images was found; it holds {held}",
        file=path,
        why=f"looked for {_LOOKED_FOR}",
        fix='describe it in a plan: `kind = "folder"` with a table or with patterns, see docs/formats.md; images in '
        "one file (.npz, .npy, .mat, .h5) must be saved as PNG, TIFF or NIfTI, one each, first",
    )

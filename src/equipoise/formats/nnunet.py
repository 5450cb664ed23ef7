"""nnU-Net v2 raw data sets: ``imagesTr``, ``labelsTr``, ``dataset.json``.

The writer is `equipoise.formats.nnunet_writer.write_nnunet`; what it writes is read back with patients, sites and
the origin of synthetic cases, from the ``provenance.json`` that it leaves beside ``dataset.json``.

References
----------
Isensee F et al. nnU-Net. Nat Methods 2021. doi:10.1038/s41592-020-01008-z; format: ``documentation/dataset_format.md``
of the nnU-Net repository.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Literal

from equipoise.core.labels import Label, LabelScheme
from equipoise.errors import DataError, UnreadableFileError
from equipoise.formats.jsonfile import json_part, labels_of, read_json
from equipoise.formats.labelling import Labelling, parse_labels
from equipoise.formats.nnunet_writer import PROVENANCE, write_nnunet
from equipoise.formats.provenance import origin_of
from equipoise.formats.rows import Listing, Row
from equipoise.formats.statement import Statement, require_folder

__all__ = ["NnUnet", "write_nnunet"]

_MASK = "label"
_FACTS = ("patient", "site", "scanner", "licence", "modality")


@dataclass(frozen=True, kw_only=True)
class NnUnet(Statement):
    """A raw data set of nnU-Net v2, 3-D or 2-D, regions and the ``ignore`` label included.

    Takes everything that `Statement` takes; ``labels`` replaces those of ``dataset.json``. The layout names no
    patients, unless equipoise wrote it.

    Parameters
    ----------
    part
        ``"train"`` (``imagesTr``, ``labelsTr``) or ``"test"`` (``imagesTs``, and ``labelsTs`` if there is one).
    """

    kind: ClassVar[str] = "nnunet"

    part: Literal["train", "test"] = "train"

    def listing(self) -> Listing:
        """Return the cases of ``imagesTr``, each with its channels and its mask."""
        root = require_folder(self.path)
        file = root / "dataset.json"
        content = read_json(file)
        ending = json_part(content, "file_ending", str, file)
        channels = len(json_part(content, "channel_names", dict, file))
        end = "Tr" if self.part == "train" else "Ts"
        truth = parse_labels(
            self.labels or labels_of(json_part(content, "labels", dict, file), file), _MASK, self.exclusive, "labels"
        )
        drawn = root / f"labels{end}"
        if self.part == "test" and not drawn.is_dir():
            truth = Labelling()
        found = _images(root / f"images{end}", ending, channels, file)
        told = _provenance(root / PROVENANCE)
        if told and not self.labels and truth.scheme is not None:
            scheme = _scheme(told, truth.scheme, root / PROVENANCE)
            rules = {rule.name: rule for rule in truth.rules}
            truth = Labelling(tuple(rules[n] for n in scheme.names), scheme, truth.ignore)
        masks = {case: {_MASK: (drawn / f"{case}{ending}",)} if truth.scheme else {} for case in found}
        records = {str(r.get("file")): r for r in told.get("cases", ()) if isinstance(r, dict)}
        rows = tuple(_row(case, images, masks[case], records.get(case, {})) for case, images in found.items())
        facts = {name for row in rows for name in row.facts}
        return Listing(root, rows, truth, stated={n: n for n in _FACTS if n in facts}, table=file)


def _images(folder: Path, ending: str, channels: int, described: Path) -> dict[str, tuple[Path, ...]]:
    """Return the channel files of each case; a natural RGB image holds all its channels in one file."""
    if not folder.is_dir():
        raise UnreadableFileError("there is no such folder", file=folder, fix="an nnU-Net raw data set has one")
    expression = re.compile(rf"(?P<case>.+)_(?P<channel>\d{{4}}){re.escape(ending)}")
    found: dict[str, dict[int, Path]] = {}
    for path in sorted(folder.iterdir()):
        match = expression.fullmatch(path.name)
        if match and not path.name.startswith("."):
            found.setdefault(match["case"], {})[int(match["channel"])] = path
    if not found:
        raise DataError(
            f"no file is called CASE_0000{ending}",
            file=folder,
            why=f"{described.name} states the ending {ending!r}, and nnU-Net numbers channels with four digits",
            fix="rename the images, or correct `file_ending`",
        )
    for case, files in found.items():
        one_file = channels == 3 and ending.lower() in (".png", ".bmp", ".tif") and list(files) == [0]
        lacking = [n for n in range(channels) if n not in files]
        if not one_file and (lacking or len(files) != channels):
            raise UnreadableFileError(
                f"case {case!r} has channels {sorted(files)}, {described.name} names {channels}",
                file=folder / f"{case}_{(lacking or [channels])[0]:04d}{ending}",
                fix="add the missing file, or correct `channel_names`",
            )
    return {case: tuple(files[n] for n in sorted(files)) for case, files in found.items()}


def _row(case: str, images: tuple[Path, ...], masks: Mapping[str, tuple[Path, ...]], record: Mapping[str, Any]) -> Row:
    """Return a case's row with what the provenance file says of it."""
    facts = {name: str(record[name]) for name in _FACTS if record.get(name)}
    name = str(record.get("case") or case)
    return Row(name, images, MappingProxyType(masks), MappingProxyType({"case": name, **facts}), origin_of(record))


def _provenance(path: Path) -> dict[str, Any]:
    return read_json(path) if path.exists() else {}


def _scheme(told: Mapping[str, Any], scheme: LabelScheme, path: Path) -> LabelScheme:
    """Return the scheme with the order, values and codes that the labels had before they were numbered for nnU-Net."""
    try:
        before = LabelScheme(
            tuple(Label(str(x["name"]), int(x["value"]), x.get("code")) for x in told["labels"]),
            bool(told["exclusive"]),
        )
        if set(before.names) != set(scheme.names):
            raise ValueError(f"labels {', '.join(before.names)} against {', '.join(scheme.names)}")
        return before
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UnreadableFileError(
            f"the provenance file does not fit dataset.json ({error})",
            file=path,
            why="it tells real cases from synthetic ones, and whom those were learned from",
            fix="write the data set again; or, if it was edited on purpose, correct both files",
        ) from error

"""The layout of the Medical Segmentation Decathlon: ``dataset.json`` with a list ``training``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

from equipoise.errors import UnreadableFileError
from equipoise.formats.imagefile import stem_of
from equipoise.formats.jsonfile import json_part, labels_of, read_json
from equipoise.formats.labelling import parse_labels
from equipoise.formats.rows import Listing, Row
from equipoise.formats.statement import Statement, require_folder

_LABEL = "label"


@dataclass(frozen=True, kw_only=True)
class Msd(Statement):
    """``dataset.json`` with ``training``: pairs of ``image`` and ``label``; labels, modality and licence are in it.

    Takes everything that `Statement` takes; ``labels``, ``modality`` and ``licence`` replace what the file says. The
    layout names no patients.

    References
    ----------
    Antonelli M et al. The Medical Segmentation Decathlon. Nat Commun 2022. doi:10.1038/s41467-022-30695-9
    """

    kind: ClassVar[str] = "msd"

    def listing(self) -> Listing:
        """Return the training pairs."""
        root = require_folder(self.path)
        file = root / "dataset.json"
        content = read_json(file)
        items = json_part(content, "training", list, file)
        labels = self.labels or labels_of(json_part(content, "labels", dict, file), file)
        truth = parse_labels(labels, _LABEL, self.exclusive, "labels")
        rows = tuple(_row(root, item, number, file) for number, item in enumerate(items, 1))
        return Listing(root, rows, truth, stated=_stated(content), table=file)


def _row(root: Path, item: Any, number: int, file: Path) -> Row:
    if not isinstance(item, dict) or not isinstance(item.get("image"), str) or not isinstance(item.get(_LABEL), str):
        raise UnreadableFileError(
            f"entry {number} of `training` must be an object with `image` and `label`, got {item!r}", file=file
        )
    image = root / item["image"]
    case = stem_of(image)
    return Row(case, (image,), MappingProxyType({_LABEL: (root / item[_LABEL],)}), MappingProxyType({"case": case}))


def _stated(content: dict[str, Any]) -> dict[str, str]:
    """Return modality and licence as the file states them."""
    stated = {}
    modality = content.get("modality")
    if isinstance(modality, dict):
        modality = ", ".join(str(modality[k]) for k in sorted(modality, key=str))
    if isinstance(modality, str) and modality:
        stated["modality"] = f"={modality}"
    licence = content.get("licence", content.get("license"))
    if isinstance(licence, str) and licence:
        stated["licence"] = f"={licence}"
    return stated

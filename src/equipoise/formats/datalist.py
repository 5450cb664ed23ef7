"""A MONAI data list: a JSON file with sections of ``{"image": …, "label": …}``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

from equipoise.errors import DataError, UnreadableFileError, did_you_mean
from equipoise.formats.imagefile import stem_of
from equipoise.formats.jsonfile import json_part, read_json
from equipoise.formats.labelling import parse_labels
from equipoise.formats.rows import Listing, Row, as_text, inside, root_of
from equipoise.formats.statement import Statement


@dataclass(frozen=True, kw_only=True)
class Datalist(Statement):
    """Cases listed in a JSON file, as MONAI's ``load_decathlon_datalist`` reads them.

    Every other key of an entry (``fold``, ``patient`` …) is a column. Takes everything that `Statement` takes, and:

    Parameters
    ----------
    section
        Which list of the file.
    root
        Folder that its paths start from. Default: the file's own.
    image
        Key of the image; its value may be a list of channels.
    mask
        Key of the mask that holds several labels.
    case
        Key of the case's id. Default: ``case`` or ``id`` if entries have one, else the image's name.
    """

    kind: ClassVar[str] = "datalist"

    section: str = "training"
    root: str | None = None
    image: str = "image"
    mask: str = "label"
    case: str | None = None

    def listing(self) -> Listing:
        """Return the section's entries."""
        file = root_of(self.path)
        if file.is_dir():
            file = _only_json(file)
        items = json_part(read_json(file), self.section, list, file)
        root = root_of(self.root) if self.root is not None else file.parent
        truth = parse_labels(self.labels, self.mask, self.exclusive, "mask")
        rows = tuple(self._row(item, number, root, file, truth.keys) for number, item in enumerate(items, 1))
        return Listing(root, rows, truth, table=file)

    def _row(self, item: Any, number: int, root: Path, file: Path, keys: tuple[str, ...]) -> Row:
        entry: Mapping[str, Any] = {self.image: item} if isinstance(item, str) else item
        if not isinstance(entry, Mapping):
            raise UnreadableFileError(f"entry {number} of `{self.section}` is no object: {item!r}", file=file)
        images = _files(entry.get(self.image), root)
        if not images:
            raise UnreadableFileError(
                f"entry {number} of `{self.section}` names no `{self.image}`.{did_you_mean(self.image, entry)}",
                file=file,
            )
        facts = {str(k): as_text(v) for k, v in entry.items() if isinstance(v, (str, int, float))}
        name = self.case if self.case is not None else next((k for k in ("case", "id") if k in facts), None)
        if name is not None and name not in facts:
            raise DataError(f"entry {number} has no key {name!r}.{did_you_mean(name, facts)}", file=file)
        case = stem_of(images[0]) if name is None else facts[name]
        masks = {key: _files(entry.get(key), root) for key in keys}
        return Row(case, images, MappingProxyType(masks), MappingProxyType({"case": case, **facts}))


def _files(value: Any, root: Path) -> tuple[Path, ...]:
    names = value if isinstance(value, list) else [value]
    return tuple(inside(root, name) for name in names if isinstance(name, str) and name)


def _only_json(folder: Path) -> Path:
    lists = sorted(folder.glob("*.json"))
    if len(lists) != 1:
        raise DataError(
            f"one list (*.json) is needed in the folder, there are {len(lists)}",
            file=folder,
            fix="give the file as `path`",
        )
    return lists[0]

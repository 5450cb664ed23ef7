"""A folder of images with a table, or with names that tell image and mask apart.

With a table::

    [[data]]
    kind = "folder"
    path = "retina"
    patient = "patient"
    site = "hospital"
    labels = { vessel = "mask" }
    readers = { second = { vessel = "mask_second" } }

Without one::

    images = "images/{id}.png"
    labels = { lung = "masks/{id}_lung.png", lesion = "masks/{id}_lesion.png" }
    patient = "(?P<patient>p[0-9]+)_"
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

from equipoise.errors import DataError, PlanError
from equipoise.formats.imagefile import stem_of
from equipoise.formats.labelling import Labelling, parse_labels
from equipoise.formats.patterns import rows_by_pattern
from equipoise.formats.rows import Listing, Row, inside, read_table, require_column, require_mapping, root_of
from equipoise.formats.statement import Statement, reader_labellings


@dataclass(frozen=True, kw_only=True)
class Folder(Statement):
    """PNG, JPEG, TIFF or NIfTI files, listed by a CSV table or found by naming patterns.

    Takes everything that `Statement` takes, and:

    Parameters
    ----------
    table
        CSV file, relative to ``path``. Default: the only one in the folder.
    image
        Column of the image, or columns of its channels.
    mask
        Column of the mask that holds several labels, where ``labels`` gives numbers.
    case
        Column of the case's id. Default: ``case`` or ``id`` if there is such a column, else the image's name.
    readers
        Reader to his or her labels, in the same form as ``labels``: single reads, kept beside the truth. An empty cell
        means that the reader did not read this case.
    images, masks
        Patterns instead of a table: ``images`` for the images (a list for channels), ``masks`` for the mask that holds
        several labels. ``labels`` then gives patterns or numbers.
    """

    kind: ClassVar[str] = "folder"

    table: str | None = None
    image: str | tuple[str, ...] = "image"
    mask: str | None = None
    case: str | None = None
    readers: dict[str, Any] = field(default_factory=dict)
    images: str | tuple[str, ...] | None = None
    masks: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        require_mapping(self.readers, "readers", 'readers = { second = { vessel = "mask_second" } }')
        if self.images is not None and self.table is not None:
            raise PlanError("state `table` or `images` (a pattern), not both")
        if self.mask is not None and self.masks is not None:
            raise PlanError("state `mask` (a column) or `masks` (a pattern), not both")

    def listing(self) -> Listing:
        """Return the table's rows, or those that the patterns find."""
        root = root_of(self.path)
        word = "mask" if self.images is None else "masks"
        mask = self.mask or self.masks
        truth = parse_labels(self.labels, mask, self.exclusive, word)
        readers = reader_labellings(
            {reader: parse_labels(drawn, mask, self.exclusive, word) for reader, drawn in self.readers.items()}, truth
        )
        keys = tuple(dict.fromkeys(key for labelling in (truth, *readers.values()) for key in labelling.keys))
        if self.images is not None:
            patterns = (self.images,) if isinstance(self.images, str) else self.images
            return Listing(root, rows_by_pattern(root, patterns, keys), truth, readers)
        table = root if root.is_file() else self._table(root)
        return self._listed(table.parent if root.is_file() else root, table, keys, truth, readers)

    def _table(self, root: Path) -> Path:
        if self.table is not None:
            return root / self.table
        tables = sorted(root.glob("*.csv"))
        if len(tables) != 1:
            names = ", ".join(t.name for t in tables[:5]) or "none"
            raise DataError(
                f"one table (*.csv) is needed in the folder, there are {len(tables)}: {names}",
                file=root,
                fix='name it: `table = "index.csv"`; or give patterns: `images = "images/{id}.png"`',
            )
        return tables[0]

    def _listed(
        self, root: Path, table: Path, keys: tuple[str, ...], truth: Labelling, readers: dict[str, Labelling]
    ) -> Listing:
        lines = read_table(table)
        images = (self.image,) if isinstance(self.image, str) else self.image
        for name in images:
            require_column(name, lines[0], "the image", table)
        for name in keys:
            require_column(name, lines[0], "a mask", table)
        case = self.case if self.case is not None else next((c for c in ("case", "id") if c in lines[0]), None)
        if case is not None:
            require_column(case, lines[0], "the case's id", table)
        rows = []
        for number, line in enumerate(lines, 2):
            if not all(line[name] for name in images):
                raise DataError(f"row {number} names no image", file=table, fix="fill the cell, or delete the row")
            files = tuple(inside(root, line[name]) for name in images)
            name = line[case] if case is not None else stem_of(files[0])
            if not name:
                raise DataError(f"row {number} has no id in column {case!r}", file=table, fix="fill the cell")
            masks = {key: (inside(root, line[key]),) if line[key] else () for key in keys}
            rows.append(Row(name, files, MappingProxyType(masks), MappingProxyType(line)))
        return Listing(root, tuple(rows), truth, readers, table=table)

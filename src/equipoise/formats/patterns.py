"""Finds images and their masks by naming patterns such as ``images/{id}.png`` and ``masks/{id}_vessel.png``."""

from __future__ import annotations

import glob
import re
from bisect import bisect_left
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from types import MappingProxyType

from equipoise.errors import DataError, PlanError
from equipoise.formats.imagefile import is_image, stem_of
from equipoise.formats.rows import Row

ID = "{id}"


def rows_by_pattern(root: Path, images: Sequence[str], masks: Sequence[str]) -> tuple[Row, ...]:
    """Return one row per image that a pattern finds.

    Parameters
    ----------
    root
        Folder that the patterns start from.
    images
        One pattern, or one per channel. ``*`` is anything but a slash, ``{id}`` the case's id; without ``{id}`` the id
        is the file's name without its ending.
    masks
        Patterns with ``{id}``; several files may match one, and a label is then their union.

    Raises
    ------
    DataError
        No file matches, or a case lacks a channel.
    PlanError
        A pattern without ``{id}`` where one is needed.
    """
    for pattern in (*images, *masks):
        if not pattern or Path(pattern).is_absolute():
            raise PlanError(f"the pattern {pattern!r} must be relative to the folder", fix=f"such as 'images/{ID}.png'")
    for pattern in (*masks, *(images[1:] and images)):
        if ID not in pattern:
            raise PlanError(
                f"the pattern {pattern!r} does not say where the case's id stands",
                fix=f"write {ID} in its place, such as 'masks/{ID}.png'",
            )
    found = _ids(root, images[0])
    if not found:
        raise DataError(
            f"no image matches {images[0]!r}",
            file=root,
            fix=f"correct the pattern; the folder holds {_contents(root)}",
        )
    files = _Files(root)
    rows = []
    for case, first in sorted(found.items()):
        channels = [first, *(_only(files.of(pattern, case), pattern, case, first) for pattern in images[1:])]
        drawn = {pattern: files.of(pattern, case) for pattern in masks}
        rows.append(Row(case, tuple(channels), MappingProxyType(drawn), MappingProxyType({"case": case})))
    _require_one_owner(rows)
    return tuple(rows)


def _only(files: tuple[Path, ...], pattern: str, case: str, image: Path) -> Path:
    if len(files) != 1:
        raise DataError(
            f"case {case!r} has {len(files)} files for the channel {pattern!r}, one is needed",
            file=image,
            fix="add the missing channel, or make the pattern narrower",
        )
    return files[0]


def _require_one_owner(rows: Sequence[Row]) -> None:
    """Raise if one mask file matches two cases, as ``1_2_x.png`` does for the ids 1 and 1_2 under ``{id}_*.png``."""
    owners: dict[tuple[str, Path], str] = {}
    for row in rows:
        for pattern, files in row.masks.items():
            for file in files:
                other = owners.setdefault((pattern, file), row.id)
                if other != row.id:
                    raise DataError(
                        f"the pattern {pattern!r} gives this mask to case {other!r} and to case {row.id!r}",
                        file=file,
                        why="one of them would be trained on the other's annotation",
                        fix="make the pattern narrower, or list the files in a table",
                    )


def _ids(root: Path, pattern: str) -> dict[str, Path]:
    expression = _expression(pattern)
    found: dict[str, Path] = {}
    for path in sorted(root.glob(pattern.replace("[", "[[]").replace(ID, "*"))):
        name = path.relative_to(root).as_posix()
        match = expression.fullmatch(name)
        if match is None or not is_image(path):
            continue
        case = match["id"] if ID in pattern else stem_of(path)
        if case in found:
            raise DataError(
                f"two images have the id {case!r}: {found[case].relative_to(root)} and {name}",
                file=root,
                fix=f"put {ID} where the names differ, such as '{ID}/image.nii.gz'",
            )
        found[case] = path
    return found


def _expression(pattern: str) -> re.Pattern[str]:
    """Return the pattern as a regular expression whose group ``id`` stands for ``{id}``."""
    parts = {"**/": "(?:.*/)?", "*": "[^/]*", "?": "[^/]"}
    pieces = re.split(r"(\{id\}|\*\*/|\*|\?)", pattern)
    text, seen = "", False
    for piece in pieces:
        if piece == ID:
            text += "(?P=id)" if seen else "(?P<id>[^/]+?)"
            seen = True
        else:
            text += parts.get(piece, re.escape(piece))
    return re.compile(text)


class _Files:
    """The files of each folder, listed once: a thousand cases in one folder are not a thousand listings."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._listed: dict[Path, list[str]] = {}

    def of(self, pattern: str, case: str) -> tuple[Path, ...]:
        """Return the image files that match a pattern for one case, sorted by name."""
        folder, _, last = pattern.rpartition("/")
        if "*" in folder or "?" in folder:
            literal = pattern.replace("[", "[[]").replace(ID, glob.escape(case))
            return tuple(p for p in sorted(self._root.glob(literal)) if is_image(p))
        place = self._root / folder.replace(ID, case)
        if place not in self._listed:
            self._listed[place] = sorted(p.name for p in place.iterdir()) if place.is_dir() else []
        names, start = self._listed[place], re.split(r"[*?]", last, maxsplit=1)[0].replace(ID, case)
        shape = last.replace("[", "[[]").replace(ID, glob.escape(case))
        matches = []
        for name in names[bisect_left(names, start) :]:
            if not name.startswith(start):
                break
            if fnmatchcase(name, shape) and is_image(place / name):
                matches.append(place / name)
        return tuple(matches)


def _contents(root: Path) -> str:
    names = sorted(p.name + ("/" if p.is_dir() else "") for p in root.iterdir())
    return (", ".join(names[:6]) + (" …" if len(names) > 6 else "")) or "nothing"

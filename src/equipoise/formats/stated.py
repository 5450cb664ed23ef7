"""The statement that a folder can carry itself: ``equipoise.json``, what a plan's ``[data]`` section would say of it.

A folder with one is read by ``equipoise check FOLDER`` and by ``kind = "folder"``, ``path = FOLDER`` with no further
words. What a plan states itself goes before it, and a plan that names a table or patterns of its own states everything.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from equipoise.formats.jsonfile import json_part, read_json

STATEMENT = "equipoise.json"


def write_statement(folder: Path, about: str, data: Mapping[str, Any]) -> None:
    """Write what a folder says of itself.

    Parameters
    ----------
    folder
        Where the images are.
    about
        One sentence for a person who opens the file.
    data
        The keys of a ``[data]`` section, without ``path``.
    """
    content = json.dumps({"about": about, "data": dict(data)}, indent=2, ensure_ascii=False)
    (folder / STATEMENT).write_text(content + "\n", encoding="utf-8")


def stated_in(folder: Path) -> dict[str, Any] | None:
    """Return what a folder says of itself, its path included; `None` where it says nothing.

    Raises
    ------
    UnreadableFileError
        The statement is damaged.
    """
    file = folder / STATEMENT
    if not file.is_file():
        return None
    return {**json_part(read_json(file), "data", dict, file), "path": str(folder)}


def completed(spec: Mapping[str, Any] | str) -> Mapping[str, Any] | str:
    """Return a set's specification with what its folder says of itself, where the specification leaves that open."""
    if not isinstance(spec, Mapping) or not isinstance(spec.get("path"), str) or {"table", "images"} & set(spec):
        return spec
    told = stated_in(Path(spec["path"]).expanduser())
    return spec if told is None or told.get("kind") != spec.get("kind") else {**told, **spec}

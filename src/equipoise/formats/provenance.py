"""The origin of a case as plain values: in a table's columns, in a list's records, and inside the image file itself."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from equipoise.core.case import Origin

_MARK = "equipoise"
"""Key of the record inside a NIfTI file, so that other programs' comments are not taken for one."""


def origin_record(origin: Origin) -> dict[str, Any]:
    """Return an origin as values that JSON and tables can hold; `origin_of` reads it back."""
    return {
        "origin": origin.kind,
        "engine": origin.engine,
        "spec": origin.spec,
        "seed": origin.seed,
        "parents": sorted(origin.parents),
    }


def origin_of(record: Mapping[str, Any]) -> Origin:
    """Return the origin that a record or a table's row states; real unless its ``origin`` is "synthetic".

    ``parents`` is a list, or JSON of one in a table's cell.
    """
    if record.get("origin") != "synthetic":
        return Origin()
    parents = record.get("parents") or []
    if isinstance(parents, str):
        try:
            parents = json.loads(parents)
        except ValueError:
            parents = parents.split()
    return Origin(
        "synthetic",
        str(record.get("engine") or "unknown engine"),
        _text(record.get("spec")),
        _text(record.get("seed")),
        frozenset(map(str, parents if isinstance(parents, list) else [parents])),
    )


def origin_mark(origin: Origin) -> bytes:
    """Return what a NIfTI file carries in its header, so that a case stays synthetic where its table is lost."""
    return json.dumps({_MARK: origin_record(origin)}).encode()


def origin_marked(comment: bytes) -> Origin:
    """Return the origin in a comment of a file's header; real where the comment is somebody else's."""
    try:
        content = json.loads(comment.rstrip(b"\0"))
    except ValueError:
        return Origin()
    record = content.get(_MARK) if isinstance(content, dict) else None
    return origin_of(record) if isinstance(record, dict) else Origin()


def _text(value: Any) -> str | None:
    return str(value) if value else None

"""Reads annotated images in the layouts that they come in. One file per format; see ``docs/formats.md``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from equipoise.core import registry
from equipoise.core.case import Case
from equipoise.errors import DataError, UnknownKindError
from equipoise.formats.detection import detect
from equipoise.formats.stated import completed

__all__ = ["attempts", "detect", "read"]


def read(spec: Mapping[str, Any] | str) -> list[Case]:
    """Return the cases that a specification names, headers checked and voxels unread.

    Parameters
    ----------
    spec
        ``{"kind": "folder", "path": "retina", "labels": {"vessel": "mask"}, …}``, or the bare name of a kind.

    Raises
    ------
    DataError
        A file, cell or label is not usable, or two cases have one id.
    PlanError, UnknownKindError
        The specification itself is wrong.
    """
    cases: list[Case] = []
    for _, found in attempts(spec):
        if isinstance(found, DataError):
            raise found
        cases.append(found)
    _require_unique(cases, spec)
    return cases


def attempts(spec: Mapping[str, Any] | str) -> Iterator[tuple[str, Case | DataError]]:
    """Yield each case's id with the case, or with the error that its files cause, so that a check can list them all.

    Raises at once what concerns the whole set, as `read` does.
    """
    kind = registry.make("formats", completed(spec))
    if hasattr(kind, "attempts"):
        for row, found in kind.attempts():
            yield row.id, found
        return
    if not hasattr(kind, "read"):
        raise UnknownKindError(f"{type(kind).__name__} is registered as a format, but it has no `read`")
    for case in kind.read():
        yield case.id, case


def _require_unique(cases: list[Case], spec: Mapping[str, Any] | str) -> None:
    if not cases:
        raise DataError(f"{spec!r} holds no case")
    seen: set[str] = set()
    for case in cases:
        if case.id in seen:
            raise DataError(
                f"two cases are called {case.id!r}",
                file=case.file,
                why="predictions and annotations are filed under the id",
                fix="give each an id of its own",
            )
        seen.add(case.id)

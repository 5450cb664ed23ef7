"""Content-addressed files: written once, never changed, safe against a crash at any moment."""

from __future__ import annotations

import errno
import hashlib
import os
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.exc import DatabaseError

from equipoise.errors import UnreadableFileError, WorkspaceFullError


@dataclass(frozen=True, slots=True)
class ObjectStore:
    """Objects under their SHA-256, as ``root/ab/cdef…``.

    Any process may put; a name is taken only by a rename of a complete file, so a killed writer leaves no half object.
    """

    root: Path

    def put(self, data: bytes) -> str:
        """Store ``data`` and return its SHA-256."""
        name = hashlib.sha256(data).hexdigest()
        path = self.path(name)
        if not path.exists():
            write_atomically(path, data)
        return name

    def get(self, name: str) -> bytes:
        """Return the content, checked against its name."""
        path = self.path(name)
        try:
            data = path.read_bytes()
        except OSError as error:
            raise UnreadableFileError(
                f"object {name[:12]}… is missing from the workspace",
                file=path,
                fix="restore the folder from a backup, or run `equipoise resume` to make it again",
            ) from error
        if hashlib.sha256(data).hexdigest() != name:
            raise UnreadableFileError(
                f"object {name[:12]}… is damaged: its content has another hash than its name",
                file=path,
                why="a damaged model or image would change results silently",
                fix=f"delete it (`rm {path}`) and run `equipoise resume` to make it again",
            )
        return data

    def has(self, name: str) -> bool:
        """Whether the object is there."""
        return self.path(name).exists()

    def path(self, name: str) -> Path:
        """Return where an object lies."""
        return self.root / name[:2] / name[2:]


def write_atomically(path: Path, data: bytes) -> None:
    """Write a whole file or nothing: a temporary name beside it, flushed to the disk, then renamed."""
    with full_disk_is_clear(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".writing-")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).chmod(0o644)
            Path(temporary).replace(path)
        except BaseException:
            with suppress(FileNotFoundError):
                Path(temporary).unlink()
            raise


@contextmanager
def full_disk_is_clear(path: Path) -> Iterator[None]:
    """Turn "no space left", said by the system or by the database, into `WorkspaceFullError`."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise _full(path) from error
    except DatabaseError as error:
        if getattr(error.orig, "sqlite_errorcode", None) != sqlite3.SQLITE_FULL:
            raise
        raise _full(path) from error


def _full(path: Path) -> WorkspaceFullError:
    return WorkspaceFullError(
        "the disk is full; everything finished so far is kept",
        file=path,
        why="a result that is not on the disk does not exist",
        fix="free some space, then run `equipoise resume`",
    )

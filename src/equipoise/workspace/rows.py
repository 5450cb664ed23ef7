"""Rows of results as Parquet files."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from equipoise.errors import UnreadableFileError
from equipoise.workspace.objects import write_atomically


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> str:
    """Write rows whole or not at all, and return the file's SHA-256; equal rows give equal bytes."""
    buffer = io.BytesIO()
    pl.DataFrame(list(rows), infer_schema_length=None).write_parquet(buffer, compression="zstd", statistics=False)
    data = buffer.getvalue()
    write_atomically(path, data)
    return hashlib.sha256(data).hexdigest()


def read_rows(path: Path, expected: str) -> pl.DataFrame:
    """Return the rows of a file that must have a SHA-256; a damaged or changed file raises `UnreadableFileError`."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise _unreadable(path, str(error)) from error
    if hashlib.sha256(data).hexdigest() != expected:
        raise _unreadable(path, "it is not the file that was written")
    return pl.read_parquet(io.BytesIO(data))


def _unreadable(path: Path, problem: str) -> UnreadableFileError:
    return UnreadableFileError(
        f"a result file cannot be used: {problem}",
        file=path,
        why="changed rows would change the verdict unseen",
        fix=f"delete it (`rm {path}`) and run `equipoise resume` to compute it again",
    )

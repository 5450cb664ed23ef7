"""Rows of results as Parquet files."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from equipoise.errors import UnreadableFileError
from equipoise.workspace.objects import write_atomically


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows whole or not at all; equal rows give equal bytes."""
    buffer = io.BytesIO()
    pl.DataFrame(list(rows), infer_schema_length=None).write_parquet(buffer, compression="zstd", statistics=False)
    write_atomically(path, buffer.getvalue())


def read_rows(paths: Iterable[Path]) -> pl.DataFrame:
    """Return the rows of several files under each other; a damaged file raises `UnreadableFileError`."""
    frames = []
    for path in paths:
        try:
            frames.append(pl.read_parquet(path))
        except (OSError, pl.exceptions.PolarsError) as error:
            raise UnreadableFileError(
                f"the result file cannot be read ({error})",
                file=path,
                fix=f"delete it (`rm {path}`) and run `equipoise resume` to compute it again",
            ) from error
    return pl.concat(frames, how="diagonal_relaxed") if frames else pl.DataFrame()

"""One project folder, and everything that is kept in it."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
from sqlalchemy import Engine, create_engine, event, inspect, select, text
from sqlalchemy.exc import DatabaseError
from sqlalchemy.orm import Session

from equipoise.errors import WorkspaceBusyError, WorkspaceError
from equipoise.workspace.objects import ObjectStore, full_disk_is_clear
from equipoise.workspace.rows import read_rows, write_rows
from equipoise.workspace.schema import LogRow, OpeningRow, PlanRow, TaskRow

HEAD = "0001"
"""The newest migration."""


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One line of the append-only log."""

    number: int
    time: str
    what: str
    detail: dict[str, Any]
    hash: str


@dataclass(frozen=True, slots=True)
class Opening:
    """One opening of a sealed test set; ``number`` counts the plans that have opened it."""

    number: int
    plan: str
    opened: datetime


class Workspace:
    """A project folder: ``equipoise.db``, ``objects/``, ``results/``, ``reports/``, ``exports/``.

    Parameters
    ----------
    path
        The folder; made if it does not exist.
    url
        Another database than the folder's own SQLite file, such as a PostgreSQL URL.
    """

    def __init__(self, path: Path, url: str | None = None) -> None:
        self.path = Path(path).resolve()
        if self.path.exists() and not self.path.is_dir():
            raise WorkspaceError("a workspace is a folder; this is a file", file=self.path, fix="name another path")
        try:
            with full_disk_is_clear(self.path):
                self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise WorkspaceError(
                f"the folder cannot be made ({error.strerror})", file=self.path, fix="name another with --workspace"
            ) from error
        self.objects = ObjectStore(self.path / "objects")
        self._database = create_engine(url or f"sqlite:///{self.path / 'equipoise.db'}")
        if self._database.dialect.name == "sqlite":
            event.listen(self._database, "connect", _durable)
        self._upgrade()

    def close(self) -> None:
        """Give the database connections back."""
        self._database.dispose()

    def __enter__(self) -> Workspace:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the workspace for one writer; a second run gets `WorkspaceBusyError`, a dead one's lock is free."""
        path = self.path / "equipoise.lock"
        with path.open("a+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                file.seek(0)
                raise WorkspaceBusyError(
                    f"another run is writing here: {file.read().strip() or 'unknown process'}",
                    file=self.path,
                    why="two writers would interleave their results",
                    fix="wait for it, stop it, or name another folder with --workspace",
                ) from error
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()} since {_now().isoformat(timespec='seconds')}")
            file.flush()
            yield

    # --- plans and the log ---------------------------------------------------------------------------------------

    def add_plan(self, plan: str, toml: str, sealed: Mapping[str, Any]) -> dict[str, Any]:
        """Write a plan before anything is trained, and return what was sealed with it (the first time)."""
        with self._changing() as session:
            known = session.get(PlanRow, plan)
            if known is None:
                known = PlanRow(hash=plan, text=toml, sealed=dict(sealed), created=_now())
                session.add(known)
            return dict(known.sealed)

    def plans(self) -> list[tuple[str, str]]:
        """Return hash and text of each plan, oldest first."""
        with Session(self._database) as session:
            return [(p.hash, p.text) for p in session.scalars(select(PlanRow).order_by(PlanRow.created))]

    def sealed(self, plan: str) -> dict[str, Any]:
        """Return what was sealed with a plan, empty if the plan is not known."""
        with Session(self._database) as session:
            known = session.get(PlanRow, plan)
            return {} if known is None else dict(known.sealed)

    def log(self, what: str, **detail: Any) -> None:
        """Append a line to the log."""
        with self._changing() as session:
            last = session.scalar(select(LogRow).order_by(LogRow.number.desc()).limit(1))
            previous = last.hash if last else "0" * 64
            time = _now().isoformat()
            digest = _chained(previous, time, what, detail)
            session.add(LogRow(time=time, what=what, detail=detail, previous=previous, hash=digest))

    def read_log(self) -> list[LogEntry]:
        """Return the log, oldest first; a broken chain raises `WorkspaceError` naming the first wrong line."""
        entries, previous = [], "0" * 64
        with Session(self._database) as session:
            for row in session.scalars(select(LogRow).order_by(LogRow.number)):
                if row.previous != previous or row.hash != _chained(previous, row.time, row.what, row.detail):
                    raise WorkspaceError(
                        f"line {row.number} of the log was changed after it was written",
                        file=self.path / "equipoise.db",
                        why="the log is the proof of when the plan was sealed and the test set opened",
                        fix="restore the workspace from a backup, or start a new one",
                    )
                previous = row.hash
                entries.append(LogEntry(row.number, row.time, row.what, row.detail, row.hash))
        return entries

    def open_test_set(self, test_set: str, plan: str) -> Opening:
        """Record that a plan opens a test set and return which opening it is; the same plan opens it only once."""
        with self._changing() as session:
            rows = list(
                session.scalars(select(OpeningRow).where(OpeningRow.test_set == test_set).order_by(OpeningRow.number))
            )
            for number, row in enumerate(rows, 1):
                if row.plan == plan:
                    return Opening(number, plan, row.opened)
            now = _now()
            session.add(OpeningRow(test_set=test_set, plan=plan, opened=now))
            return Opening(len(rows) + 1, plan, now)

    def openings(self, test_set: str) -> list[Opening]:
        """Return every opening of a test set, in order."""
        with Session(self._database) as session:
            rows = session.scalars(
                select(OpeningRow).where(OpeningRow.test_set == test_set).order_by(OpeningRow.number)
            )
            return [Opening(i, row.plan, row.opened) for i, row in enumerate(rows, 1)]

    # --- tasks and rows ------------------------------------------------------------------------------------------

    def finish(
        self, key: str, kind: str, rows: Sequence[Mapping[str, Any]], result: Mapping[str, Any], seconds: float
    ) -> None:
        """Keep what a task returned: rows first, then the line that says it is done."""
        digest = write_rows(self._rows_file(key), rows) if rows else None
        with self._changing() as session:
            done = TaskRow(key=key, kind=kind, rows=digest, result=dict(result), seconds=seconds, finished=_now())
            session.merge(done)

    def finished(self, keys: Sequence[str]) -> dict[str, tuple[dict[str, Any], float]]:
        """Return result and seconds of those tasks that are done and whose files are still there."""
        return {
            row.key: (dict(row.result), row.seconds)
            for row in self._tasks(keys)
            if row.rows is None or self._rows_file(row.key).exists()
        }

    def rows(self, keys: Sequence[str]) -> pl.DataFrame:
        """Return the rows of finished tasks, in the order of ``keys``; a changed file raises `UnreadableFileError`."""
        written = {row.key: row.rows for row in self._tasks(keys) if row.rows is not None}
        frames = [read_rows(self._rows_file(key), written[key]) for key in keys if key in written]
        return pl.concat(frames, how="diagonal_relaxed") if frames else pl.DataFrame()

    def _tasks(self, keys: Sequence[str]) -> list[TaskRow]:
        found: list[TaskRow] = []
        with Session(self._database) as session:
            # In parts: a database takes a limited number of parameters in one question.
            for start in range(0, len(keys), 500):
                found += session.scalars(select(TaskRow).where(TaskRow.key.in_(keys[start : start + 500])))
        return found

    def _rows_file(self, key: str) -> Path:
        return self.path / "results" / key[:2] / f"{key}.parquet"

    # --- the database --------------------------------------------------------------------------------------------

    @contextmanager
    def _changing(self) -> Iterator[Session]:
        """Give a session whose changes are on the disk when it ends, or not at all."""
        with full_disk_is_clear(self.path / "equipoise.db"), Session(self._database) as session, session.begin():
            yield session

    def _upgrade(self) -> None:
        try:
            if _revision(self._database) != HEAD:
                with self.writing():
                    _migrate(self._database)
        except DatabaseError as error:
            raise WorkspaceError(
                f"the database of the workspace cannot be used ({error.orig})",
                file=self.path / "equipoise.db",
                why="it keeps which results are finished and when the test set was opened",
                fix="restore the file from a backup, or name another folder with --workspace",
            ) from error


def _revision(database: Engine) -> str | None:
    if not inspect(database).has_table("alembic_version"):
        return None
    with database.connect() as connection:
        row = connection.execute(text("SELECT version_num FROM alembic_version")).first()
    return None if row is None else str(row[0])


def _migrate(database: Engine) -> None:
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    config.attributes["engine"] = database
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise WorkspaceError(
            f"the workspace was made by a newer version of equipoise ({error})",
            fix="install that version: pip install --upgrade equipoise",
        ) from error


def _durable(connection: Any, _record: object) -> None:
    """Write ahead, and to the disk before a commit returns: an acknowledged result survives a power cut."""
    cursor = connection.cursor()
    for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON", "busy_timeout = 10000"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _chained(previous: str, time: str, what: str, detail: Mapping[str, Any]) -> str:
    content = json.dumps([previous, time, what, detail], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(content.encode()).hexdigest()


def _now() -> datetime:
    return datetime.now(UTC)

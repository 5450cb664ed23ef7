"""What every task of an experiment is given, what it returns, and the key that decides its result."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from equipoise import __version__
from equipoise.core import Split
from equipoise.experiment.data import Source
from equipoise.experiment.plan import Plan
from equipoise.experiment.scoring import Row
from equipoise.workspace import ObjectStore

Progress = Callable[[str, int, int, float], None]
"""Called with the stage, tasks done, tasks in all, and the seconds that are likely left."""


@dataclass(frozen=True, slots=True)
class Context:
    """What every task of a plan needs.

    Parameters
    ----------
    plan, source, split
        The plan, where its cases are, and who trains, validates and tests.
    content
        Fingerprint of the training and validation data: a changed file makes other tasks.
    objects
        Folder of the object store.
    """

    plan: Plan
    source: Source
    split: Split
    content: str
    objects: str

    @property
    def store(self) -> ObjectStore:
        """The object store."""
        return ObjectStore(Path(self.objects))

    @property
    def engines(self) -> Path:
        """Folder below the workspace where engines keep the checkpoints of their fits."""
        return Path(self.objects).parent / "engines"


@dataclass(frozen=True, slots=True)
class Result:
    """What a task returns: rows for the Parquet file, and facts for the database."""

    rows: list[Row]
    facts: dict[str, Any]
    seconds: float


class Task(Protocol):
    """A piece of work whose result is decided by its key."""

    @property
    def kind(self) -> str:
        """What it does."""

    @property
    def key(self) -> str:
        """Hash of all that decides the result."""

    def run(self) -> Result:
        """Do it."""


def key_of(context: Context, *parts: object) -> str:
    """Return the hash of all that decides the result of a task."""
    content = [__version__, context.content, context.plan.seed, *parts]
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=_jsonable).encode()).hexdigest()


def _jsonable(value: Any) -> Any:
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    raise TypeError(f"{type(value).__name__} has no place in a task's key")

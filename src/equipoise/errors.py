"""The errors that equipoise raises on purpose.

Every message says what we got, what we need and what to do. One class per decision that a caller can take::

    EquipoiseError
    ├── DataError                    the input files or cases are not usable as they are
    │   ├── UnreadableFileError      a file is missing, empty, truncated or of another format
    │   ├── GeometryMismatchError    two images that must lie on one grid do not
    │   ├── LabelError               a label is missing, unknown or empty
    │   └── PatientUnknownError      nobody said which patient a case belongs to
    ├── PlanError                    the plan cannot be run as written
    │   └── NotEnoughCasesError      it asks for more real cases than there are
    ├── LeakageError                 a held-out patient reached something that is trained
    ├── VaultError                   the sealed test set was asked for without the right token
    ├── EngineError                  an engine failed or made something that is no image
    ├── TrainingError                a learner failed or diverged
    ├── WorkspaceError               the project folder cannot be used
    │   ├── WorkspaceBusyError       another run is writing to it
    │   └── WorkspaceFullError       the disk is full
    ├── UnknownKindError             no such engine, learner, format … is registered
    └── MissingDependencyError       an optional package is not installed
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path


class EquipoiseError(Exception):
    """Base of every error that equipoise raises on purpose.

    Parameters
    ----------
    message
        What went wrong: what we got and what we need.
    file
        The file it is about, if there is one.
    why
        Why it matters.
    fix
        The exact command or change that mends it.
    """

    def __init__(
        self, message: str, *, file: str | Path | None = None, why: str | None = None, fix: str | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.file = None if file is None else str(file)
        self.why = why
        self.fix = fix

    def __str__(self) -> str:
        rows = [("file", self.file), ("why it matters", self.why), ("fix", self.fix)]
        return "\n".join([self.message, *(f"  {name}: {text}" for name, text in rows if text)])

    def as_dict(self) -> dict[str, str | None]:
        """Return the parts as a dictionary, for ``--json``."""
        return {
            "error": type(self).__name__,
            "message": self.message,
            "file": self.file,
            "why": self.why,
            "fix": self.fix,
        }


class DataError(EquipoiseError, ValueError):
    """The input files or cases are not usable as they are."""


class UnreadableFileError(DataError):
    """A file is missing, empty, truncated or of another format than its name says."""


class GeometryMismatchError(DataError):
    """Two images that must lie on one grid do not."""


class LabelError(DataError):
    """A label is missing, unknown, of the wrong type or empty."""


class PatientUnknownError(DataError):
    """Nobody said which patient a case belongs to."""


class PlanError(EquipoiseError, ValueError):
    """The plan cannot be run as it is written."""


class NotEnoughCasesError(PlanError):
    """The plan asks for more real cases than there are."""


class LeakageError(EquipoiseError, ValueError):
    """A validation or test patient reached something that is trained or fitted."""


class VaultError(EquipoiseError, RuntimeError):
    """The sealed test set was asked for without the token of the sealed plan."""


class EngineError(EquipoiseError, RuntimeError):
    """An engine failed, or made something that is not a usable case."""


class TrainingError(EquipoiseError, RuntimeError):
    """A learner failed or diverged."""


class WorkspaceError(EquipoiseError, RuntimeError):
    """The project folder cannot be used."""


class WorkspaceBusyError(WorkspaceError):
    """Another run is writing to the project folder."""


class WorkspaceFullError(WorkspaceError):
    """The disk is full; what was finished is kept."""


class UnknownKindError(EquipoiseError, LookupError):
    """No such engine, learner, format … is registered."""


class MissingDependencyError(EquipoiseError, ImportError):
    """An optional package is not installed."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ``" Did you mean 'x'?"`` with the nearest known name, else the list of known ones.

    Examples
    --------
    >>> did_you_mean("dise", ["dice", "hd95"])
    " Did you mean 'dice'?"
    """
    options = sorted(set(known))
    near = difflib.get_close_matches(name, options, n=1, cutoff=0.6)
    if near:
        return f" Did you mean '{near[0]}'?"
    return f" Known: {', '.join(options)}." if options else " None is known."

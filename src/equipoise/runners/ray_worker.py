"""What a worker of a Ray cluster does with a task, and what it must have in common with the driver."""

from __future__ import annotations

import pickle
import platform
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from equipoise import __version__
from equipoise.errors import EquipoiseError, WorkspaceError

NUMBERS_COME_FROM = ("numpy", "scipy", "numba", "finufft", "torch", "monai")
"""Libraries whose version may change the last bit of a result, and therefore must be the same everywhere."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What a worker must have in common with the driver.

    Parameters
    ----------
    versions
        Of equipoise and of the libraries that its numbers come from.
    mark
        A file that the driver has just written into the shared folder.
    machine
        Name of the driver's machine.
    """

    versions: dict[str, str]
    mark: str | None
    machine: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a task ended with: a result, or an error with its traceback as text."""

    result: Any = None
    error: Exception | None = None
    trace: str = ""


def attempt(place: str, terms: bytes, work: bytes) -> bytes:
    """Run one task in a worker; ``place`` is the key under which it says where it is.

    Everything goes as bytes: Ray would hand out arrays as read-only views, and wrap errors in a class of its own.
    """
    _tell_place(place)
    agreed: Terms = pickle.loads(terms)
    try:
        _require_same_versions(agreed)
        _require_shared_folder(agreed)
        function, task = _unpacked(work)
        return pickle.dumps(Outcome(function(task)))
    except Exception as error:  # anything that a task raises is carried to the driver
        return _packed_error(error, agreed.machine)


def _tell_place(place: str) -> None:
    import ray
    from ray.experimental.internal_kv import _internal_kv_put

    _internal_kv_put(place, ray.get_runtime_context().get_node_id())


def place_of(place: str) -> str | None:
    """Return the id of the machine on which a task has begun, or None."""
    from ray.experimental.internal_kv import _internal_kv_get

    told: bytes | None = _internal_kv_get(place)
    return None if told is None else told.decode()


def place_forget(place: str) -> None:
    """Forget where a task has run."""
    from ray.experimental.internal_kv import _internal_kv_del

    _internal_kv_del(place)


def _require_same_versions(agreed: Terms) -> None:
    mine = versions()
    other = [name for name in agreed.versions if agreed.versions[name] != mine.get(name)]
    if other:
        raise EquipoiseError(
            f"machine {platform.node()} of the Ray cluster has "
            + ", ".join(f"{name} {mine.get(name)} (the driver: {agreed.versions[name]})" for name in other),
            why="other versions may give other rows, and one experiment must not mix them",
            fix="install the same versions on every machine and restart its Ray: pip install "
            + " ".join(f"{name}=={agreed.versions[name]}" for name in other),
        )


def _require_shared_folder(agreed: Terms) -> None:
    if agreed.mark is None or Path(agreed.mark).exists():
        return
    folder = Path(agreed.mark).parent
    seen = "has another folder of that name" if folder.is_dir() else "does not have it"
    raise WorkspaceError(
        f"machine {platform.node()} of the Ray cluster does not see the workspace's objects: it {seen}",
        file=folder,
        why="models and synthetic cases go from one task to the next through this folder",
        fix=f"put the workspace on a file system that is mounted at the same path on every machine (the driver is "
        f"{agreed.machine}), then `equipoise resume --on ray`; see docs/clusters.md",
    )


def _unpacked(work: bytes) -> tuple[Callable[[Any], Any], Any]:
    try:
        function, task = pickle.loads(work)
    except (ImportError, AttributeError) as error:
        raise EquipoiseError(
            f"machine {platform.node()} of the Ray cluster cannot load a task: {error}",
            fix="install the same packages, your own engines and learners among them, on every machine",
        ) from error
    return function, task


def _packed_error(error: Exception, driver: str) -> bytes:
    """Return the error as bytes that the driver can read, whatever it holds."""
    trace = "".join(traceback.format_exception(error))
    here = platform.node()
    if isinstance(error, EquipoiseError) and here != driver and here not in error.message:
        error.message += f" [on machine {here}]"  # a file that is missing may be there on the driver's
    try:
        packed = pickle.dumps(Outcome(error=error, trace=trace))
        pickle.loads(packed)  # an exception with its own __init__ often pickles and cannot be read again
    except Exception:  # no more is known of a stranger's exception than that it cannot travel
        packed = pickle.dumps(Outcome(error=EquipoiseError(f"{type(error).__name__}: {error}"), trace=trace))
    return packed


def opened(packed: bytes) -> Any:
    """Return the result of a task, or raise the error that it ended with."""
    outcome: Outcome = pickle.loads(packed)
    if outcome.error is None:
        return outcome.result
    if not isinstance(outcome.error, EquipoiseError):
        outcome.error.add_note(f"raised in a worker of the Ray cluster:\n{outcome.trace}")
    raise outcome.error


@cache
def versions() -> dict[str, str]:
    """Return the versions of equipoise and of `NUMBERS_COME_FROM` that are installed here."""
    found = {"equipoise": __version__}
    for name in NUMBERS_COME_FROM:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "(not installed)"
    return found

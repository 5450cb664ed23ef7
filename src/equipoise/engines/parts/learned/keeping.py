"""Where fits keep their files, and who hears how far they are; without torch, so that whoever fits may say so.

Both hold inside a block, for whatever is fitted there: an engine's two-method contract needs no word about them.
"""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path

Heard = Callable[[int, int, float], None]
"""Called with the steps taken, the steps at most, and the seconds that are likely left."""


@dataclass(frozen=True, slots=True)
class _Kept:
    folder: Path
    used: list[Path] = field(default_factory=list)
    locks: ExitStack = field(default_factory=ExitStack)


_kept: ContextVar[_Kept | None] = ContextVar("folder of checkpoints", default=None)
_listener: ContextVar[Heard | None] = ContextVar("who hears of a fit", default=None)


@contextmanager
def kept_in(folder: Path | None) -> Iterator[list[Path]]:
    """Let fits inside the block keep their checkpoints below a folder, and resume from what they find there.

    Parameters
    ----------
    folder
        Made when the first fit asks for its place; ``None`` keeps nothing.

    Yields
    ------
    list of pathlib.Path
        Grows by the folder of each fit, in the order in which they ask.
    """
    kept = None if folder is None else _Kept(folder)
    token = _kept.set(kept)
    try:
        with kept.locks if kept else ExitStack():
            yield kept.used if kept else []
    finally:
        _kept.reset(token)


def folder_for(fingerprint: str) -> Path | None:
    """Return where the fit with this fingerprint keeps its files; ``None`` if nobody wants any kept.

    The folder is this process's until the block of `kept_in` ends: another one that fits the same waits, and then finds
    the finished fit instead of training it a second time.
    """
    kept = _kept.get()
    if kept is None:
        return None
    folder = kept.folder / fingerprint[:16]
    if folder not in kept.used:
        kept.folder.mkdir(parents=True, exist_ok=True)
        lock = kept.locks.enter_context(folder.with_suffix(".lock").open("a"))
        # A file system without locks costs a second training of the same bytes, no more: files are renamed when whole.
        with suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_EX)
        kept.used.append(folder)
    return folder


@contextmanager
def heard_by(listener: Heard) -> Iterator[None]:
    """Let trainings inside the block tell a listener after each step how far they are."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


def tell(step: int, steps: int, seconds_left: float) -> None:
    """Tell whoever listens how far a training is."""
    listener = _listener.get()
    if listener is not None:
        listener(step, steps, seconds_left)


__all__ = ["Heard", "folder_for", "heard_by", "kept_in", "tell"]

"""The fit of an engine on an arm's patients: kept on the disk, resumed, shared by the arms, and heard of meanwhile.

An engine that trains for minutes keeps checkpoints below the workspace, so that a run that was killed goes on where its
fits stopped, and streamed arms of one size and replicate, which share a fit, train it once.
"""

from __future__ import annotations

import json
import math
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from equipoise.core import Case, Engine, patients_of
from equipoise.core.registry import canonical
from equipoise.engines.parts.learned.keeping import heard_by, kept_in
from equipoise.experiment.context import Context, Progress
from equipoise.experiment.synthesis import fitted

UNHEARD_S = 1.0
"""A fit that is over by then is not worth a line on the screen."""

LOOK_EVERY_S = 0.5

GRIDS = 4
"""Sample grids of a fit that the report may show: the first, one in the middle, the best and the last."""


@dataclass(frozen=True, slots=True)
class Fit:
    """A fitted engine.

    Parameters
    ----------
    engine
        Ready to sample.
    seconds
        That this took here; little if a finished fit was found.
    training
        What a task's facts keep of how it went: see `equipoise.experiment.trained_engines`. ``None`` for an engine
        that has no ``history`` to tell.
    """

    engine: Engine
    seconds: float
    training: dict[str, Any] | None


def fit_engine(context: Context, name: str, cases: Sequence[Case], replicate: int) -> Fit:
    """Return an engine of the plan fitted on an arm's cases, from its checkpoint where there is one.

    Parameters
    ----------
    context
        The experiment.
    name
        Of the engine in the plan.
    cases
        Of the arm's patients, in order of id.
    replicate
        Number of the replicate.
    """
    start = time.perf_counter()
    spec = canonical(context.plan.engines[name].spec)
    with kept_in(context.engines) as folders, _written(context.engines / "progress", name):
        engine = fitted(spec, cases, context.split, context.plan.seed, *stream_names(cases, replicate))
        training = _training(context, engine, cases, replicate, folders)
    return Fit(engine, time.perf_counter() - start, training)


def stream_names(cases: Sequence[Case], replicate: int) -> tuple[object, ...]:
    """Return the names of the random stream that every engine of one size and replicate is fitted with and draws from.

    Not the engine's own: engines with equal anatomies render the same label maps, so that their arms differ only in the
    imaging model and what it learned (common random numbers).
    """
    return replicate, len(patients_of(cases))


def _training(
    context: Context, engine: Any, cases: Sequence[Case], replicate: int, folders: Sequence[Path]
) -> dict[str, Any] | None:
    history: Mapping[str, Any] | None = getattr(engine, "history", None)
    if not history:
        return None
    best = int(history["best_step"])
    found = [sorted(folder.glob("step-*.png")) for folder in folders]
    # Of an engine that trains in stages, the last one makes the images.
    grids = {int(path.stem.removeprefix("step-")): path for path in next((f for f in found[::-1] if f), [])}
    return {
        "n": len(patients_of(cases)),
        "replicate": replicate,
        "looks": [[look["step"], _finite(look["distance"]), _finite(look["diversity"])] for look in history["looks"]],
        "best_step": best,
        "stopped": history["stopped"],
        "seconds": history["seconds"],
        "grids": [[step, context.store.put(grids[step].read_bytes())] for step in _shown(sorted(grids), best)],
    }


def _shown(steps: Sequence[int], best: int) -> list[int]:
    """Return the first step, one in the middle, the best and the last."""
    if len(steps) <= GRIDS:
        return list(steps)
    middle = steps[len(steps) // 2] if steps[len(steps) // 2] != best else steps[len(steps) // 4]
    return sorted({steps[0], middle, *({best} & set(steps)), steps[-1]})


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


# --- progress, from whatever process a fit runs in -------------------------------------------------------------------


@contextmanager
def _written(folder: Path, name: str) -> Iterator[None]:
    """Let a fit inside the block write how far it is to a small file: the driver may be another process."""
    file = folder / f"{name}.{os.getpid()}.json"
    said = begun = time.perf_counter()

    def heard(step: int, steps: int, left: float) -> None:
        nonlocal said
        now = time.perf_counter()
        if now - begun < UNHEARD_S or now - said < LOOK_EVERY_S:
            return
        said = now
        temporary = file.with_suffix(".tmp")
        folder.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps([name, step, steps, left]), encoding="utf-8")
        temporary.replace(file)

    try:
        with heard_by(heard):
            yield
    finally:
        file.unlink(missing_ok=True)


@contextmanager
def watched(folder: Path, progress: Progress | None) -> Iterator[None]:
    """Tell, while the block runs, how far the fits of all workers are: one line per engine.

    Parameters
    ----------
    folder
        `Context.engines`.
    progress
        Who is told; nobody if ``None``.
    """
    if progress is None:
        yield
        return
    over, told = threading.Event(), dict[str, int]()
    for left_by_the_killed in (folder / "progress").glob("*.json"):
        left_by_the_killed.unlink(missing_ok=True)

    def look() -> None:
        while not over.wait(LOOK_EVERY_S):
            for name, (step, steps, left) in _heard(folder / "progress").items():
                told[name] = steps
                progress(f"fitting {name}", step, steps, left)

    watcher = threading.Thread(target=look, name="progress of fits", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()
        for name, steps in told.items():
            progress(f"fitting {name}", steps, steps, 0.0)


def _heard(folder: Path) -> dict[str, tuple[int, int, float]]:
    """Return the steps taken and to take of each engine's fits that are under way, and the longest time left."""
    found: dict[str, tuple[int, int, float]] = {}
    for path in sorted(folder.glob("*.json")):
        with suppress(OSError, ValueError):  # a fit that ends meanwhile takes its file away
            name, step, steps, left = json.loads(path.read_text(encoding="utf-8"))
            before = found.get(name, (0, 0, 0.0))
            found[name] = (before[0] + step, before[1] + steps, max(before[2], left))
    return found


__all__ = ["Fit", "fit_engine", "stream_names", "watched"]

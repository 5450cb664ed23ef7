"""What a fit will cost, from a few of its own steps, one of its looks, and a count of what it keeps."""

from __future__ import annotations

import io
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from equipoise.core import Case
from equipoise.engines.parts.learned.cost import Cost
from equipoise.engines.parts.learned.course import Course, Run, Trainee
from equipoise.engines.parts.learned.fitting import ENCODER_STEPS, Prepared, prepare
from equipoise.engines.parts.learned.grid import grid
from equipoise.engines.parts.learned.keeping import kept_in
from equipoise.engines.parts.learned.memory import beside, count
from equipoise.engines.parts.learned.presets import Presets
from equipoise.engines.parts.learned.sampling import anatomy_for
from equipoise.engines.parts.learned.trained import Build, one_thread
from equipoise.features.encoder import train_encoder

WARM_UP = 2
"""Steps that choose kernels and fill caches, and are not timed."""

TIMED = 5
"""Steps that are."""

FEW = 2
"""Steps of the encoder, of which one is timed."""


def cost_of(engine: Any, cases: Sequence[Case], rng: np.random.Generator, presets: Presets, build: Build) -> Cost:
    """Return what fitting an engine of one stage costs on this machine at most.

    Parameters
    ----------
    engine, cases, rng, presets, build
        As `equipoise.engines.parts.learned.fitting.learn` takes them.

    Raises
    ------
    EquipoiseError
        Whatever `fit` would refuse before its training.
    """
    imaging, shapes = rng.spawn(2)
    with kept_in(None):
        begun = time.perf_counter()
        anatomy_for(engine, cases, shapes)
        fixed = Cost(time.perf_counter() - begun, 0.0, 0.0)
        ready, prepared = prepared_cost(engine, cases, imaging, presets, build)
        return fixed + prepared + stage_cost(ready, cases, build(engine, ready.setup, ready.weights()))


def prepared_cost(
    engine: Any, cases: Sequence[Case], rng: np.random.Generator, presets: Presets, build: Build, **more: Any
) -> tuple[Prepared, Cost]:
    """Return training cases ready to be probed, and what making them ready for a whole fit costs.

    Parameters
    ----------
    engine, cases, rng, presets, build, **more
        As `equipoise.engines.parts.learned.fitting.prepare` takes them.
    """
    begun = time.perf_counter()
    ready = prepare(engine, cases, rng, presets, build=build, encoder_steps=FEW, **more)
    seconds = time.perf_counter() - begun
    steps = 0 if ready.private else max(min(ENCODER_STEPS, ready.setup.size.steps) - FEW, 0)
    if steps:
        with one_thread(ready.setup.size.device):
            seconds += steps * _encoder_step(ready, cases)
    return ready, Cost(seconds, 0.0, 0.0, ready.choices)


def stage_cost(ready: Prepared, cases: Sequence[Case], trainee: Trainee, course: Course | None = None) -> Cost:
    """Return what one training of a fit costs at most; costs of stages add up.

    Parameters
    ----------
    ready
        From `prepared_cost`.
    cases
        The training cases.
    trainee
        New; it takes a few steps and is then of no more use.
    course
        As `Prepared.train` takes it.
    """
    run = ready.run(trainee, course)
    with one_thread(ready.setup.size.device):
        run.begin()
        each = _step_seconds(run)
        look, picture = _look_seconds(run)
        tensors, _ = run.checkpoint(1)
        bytes_kept = float(sum(tensor.nbytes for tensor in tensors.values()))
        best = 0 if run.kept or not run.judge else sum(value.nbytes for value in run.average.values())
        memory = _memory(ready, cases, trainee)
    looks = len(run.look_steps())
    seconds = each * run.course.steps + looks * look
    return Cost(seconds, memory, bytes_kept + best + looks * picture, ready.choices)


def _step_seconds(run: Run) -> float:
    """Return the mean seconds of a step: of ordinary ones, and of the rarer one that does more, if there is one."""
    taken = [_timed(run, 1 + number) for number in range(WARM_UP + TIMED)][WARM_UP:]
    usual = float(np.median(taken))
    period = int(getattr(run.trainee, "period", 1))
    if period == 1 or run.course.steps < period:
        return usual
    return usual + (_timed(run, period) - usual) / period


def _timed(run: Run, step: int) -> float:
    begun = time.perf_counter()
    run.step(step)  # its losses are read, so that a device has finished
    return time.perf_counter() - begun


def _look_seconds(run: Run) -> tuple[float, float]:
    """Return the seconds of a look with its checkpoint's copying, and the bytes of its grid."""
    begun, size = time.perf_counter(), 0.0
    if run.judge:
        made = run.look(1, run.judge)
        file = io.BytesIO()
        grid(run.judge.batch, made).save(file, "PNG")
        size = float(file.tell())
    tensors, _ = run.checkpoint(1)
    for tensor in tensors.values():
        tensor.detach().cpu().clone()
    return time.perf_counter() - begun, size


def _encoder_step(ready: Prepared, cases: Sequence[Case]) -> float:
    """Return the seconds of a step of the judging encoder's training."""
    seen = [cases[i] for i in ready.among]
    times = []
    for steps in (1, 1 + FEW):
        begun = time.perf_counter()
        train_encoder(seen, np.random.default_rng(0), min(ready.setup.patch[:2]), steps)
        times.append(time.perf_counter() - begun)
    return max(times[1] - times[0], 0.0) / FEW


def _memory(ready: Prepared, cases: Sequence[Case], trainee: Trainee) -> float:
    setup, size = ready.setup, ready.setup.size
    counted = count(trainee, setup.patch, setup.channels, setup.planes, size.device == "cpu")
    together = ready.private.spending.privacy.patches if ready.private else size.batch
    needed = counted.bytes(setup.patch, min(size.at_once or together, together))
    looked_at = ready.judge is not None
    return needed + beside(size.device, cases, setup.patch, setup.channels, setup.planes, looked_at)


__all__ = ["cost_of", "prepared_cost", "stage_cost"]

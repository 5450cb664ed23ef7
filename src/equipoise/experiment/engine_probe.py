"""What an engine costs on this machine, without training one to its end."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from equipoise.core import Case, Engine, check_no_leak, rng_for
from equipoise.core.registry import canonical, make, parameters
from equipoise.engines.parts.learned.keeping import kept_in
from equipoise.errors import EngineError, EquipoiseError
from equipoise.experiment.context import Context
from equipoise.experiment.synthesis import fitted, sampled

SAMPLES = 4
"""Cases that are made to time one, after a first one that compiles kernels."""

NOT_SHORTENED = ("sampling_steps",)
"""Parameters called steps that are no steps of a training."""


@dataclass(frozen=True, slots=True)
class EngineTimed:
    """What an engine takes.

    Parameters
    ----------
    engine
        Fitted, by a few steps only where a whole fit takes long.
    made
        Some of its cases.
    fit, refit, sample
        Seconds of a whole fit, of one that finds it finished on the disk, and of one case.
    memory, disk
        Bytes of a fit's network and training, and of what it keeps; 0 for an engine that trains no network.
    choices
        What the engine chose by itself to fit this machine, in sentences.
    """

    engine: Engine
    made: tuple[Case, ...]
    fit: float
    refit: float
    sample: float
    memory: float = 0.0
    disk: float = 0.0
    choices: tuple[str, ...] = ()


def probe_engine(context: Context, name: str, cases: tuple[Case, ...]) -> EngineTimed:
    """Return what an engine of the plan takes, fitted on these cases.

    An engine with a method ``cost(cases, rng)`` says itself what its whole fit takes; then it is fitted by one step,
    only to time the making of cases. Any other engine is fitted whole. Nothing is left on the disk.

    Raises
    ------
    EngineError
        The engine cannot be fitted, or its cost not be told.
    LeakageError
        A case is of a held-out patient.
    """
    spec, seed = context.plan.engines[name].spec, context.plan.seed
    engine = make("engines", spec)
    asked = _asked(engine, context, cases) if hasattr(engine, "cost") else None
    short = canonical(spec if asked is None else {**spec, **_shortened(engine)})
    with tempfile.TemporaryDirectory() as folder, kept_in(Path(folder)):
        start = time.perf_counter()
        ready = fitted(short, cases, context.split, seed, "probe")
        refit = fit = time.perf_counter() - start
        if asked is not None:
            start = time.perf_counter()
            fitted(short, cases, context.split, seed, "probe")
            refit = time.perf_counter() - start
    made = tuple(sampled(ready, cases[0], 1, seed, "probe", "first"))
    start = time.perf_counter()
    made += tuple(sampled(ready, cases[0], SAMPLES, seed, "probe"))
    sample = (time.perf_counter() - start) / SAMPLES
    if asked is None:
        return EngineTimed(ready, made, fit, refit, sample)
    told = (float(asked.memory_bytes), float(asked.disk_bytes), tuple(asked.choices))
    return EngineTimed(ready, made, float(asked.seconds), refit, sample, *told)


def _asked(engine: Any, context: Context, cases: tuple[Case, ...]) -> Any:
    check_no_leak(cases, context.split.held_out, what="the probe of an engine's cost")
    try:
        return engine.cost(cases, rng_for(context.plan.seed, "probe", "cost"))
    except EquipoiseError:
        raise
    except Exception as error:  # an engine may be anybody's plug-in: its faults end in one clear message
        raise EngineError(
            f"engine {engine.kind!r} failed while its cost was told: {type(error).__name__}: {error}",
            why="a plan without its cost cannot be decided on",
            fix="correct the engine or its parameters",
        ) from error


def _shortened(engine: Any) -> dict[str, int]:
    """Return the parameters that make a fit one step long in each of its stages."""
    names = [n for n in parameters(type(engine)) if n == "steps" or n.endswith("_steps")]
    # A stage that the plan leaves out by 0 stays out.
    return {name: 1 for name in names if name not in NOT_SHORTENED and getattr(engine, name) != 0}


__all__ = ["EngineTimed", "probe_engine"]

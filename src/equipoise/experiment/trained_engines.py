"""What the engines that train themselves have to tell: how each fit went, and whether the set is too small for them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from scipy.stats import t as student

from equipoise.core import rng_for
from equipoise.experiment.measurements import Estimate
from equipoise.stats import Interval, fit_power_law

DRAWS = 2000
"""Of the mean distance at each size, for the interval of the learning curve."""

REACH = 10.0
"""Multiple of the largest size beyond which a number of patients is given as "more than"."""


@dataclass(frozen=True, slots=True)
class EngineLook:
    """One look at held-out patients in the middle of a training; ``None`` where the images were not finite.

    Parameters
    ----------
    step
        When.
    distance
        Of the images from held-out real ones; around 0 they cannot be told from images of other training patients.
    diversity
        Of the images, as a share of the real ones'.
    """

    step: int
    distance: float | None
    diversity: float | None


@dataclass(frozen=True, slots=True)
class EngineFit:
    """How one fit went.

    Parameters
    ----------
    n, replicate
        Patients that it was fitted on, and which draw of them.
    looks
        In the order of the steps.
    best_step
        Whose weights were kept; 0 if no look was good.
    stopped
        Why it ended.
    seconds
        That the training took, over all interruptions.
    grids
        Step and object of some sample grids.
    """

    n: int
    replicate: int
    looks: list[EngineLook]
    best_step: int
    stopped: str
    seconds: float
    grids: list[tuple[int, str]] = field(default_factory=list)

    @property
    def best(self) -> EngineLook | None:
        """The look whose weights were kept."""
        return next((look for look in self.looks if look.step == self.best_step), None)


@dataclass(frozen=True, slots=True)
class SetSize:
    """Whether the set is large enough for an engine, by the engine's own learning curve.

    Parameters
    ----------
    state
        ``"warning"`` where a size of the plan is too small, ``"not run"`` where that cannot be told.
    distances
        Number of patients, and the held-out distance of the weights that were kept: mean of the replicates with a t
        interval from their spread, pooled over the sizes.
    enough
        Patients from which twice as many bring the images nearer by less than two fits on the same number differ.
    sentence
        All of it in words.
    """

    state: Literal["ok", "warning", "not run"]
    distances: list[tuple[int, Estimate]]
    enough: Estimate | None
    sentence: str


@dataclass(frozen=True, slots=True)
class GridRow:
    """One row of a sample grid: ``"real"``, ``"labels"`` or the step; a PNG in base64."""

    name: str
    png: str
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class TrainedEngine:
    """An engine of the plan that trained itself; ``grid`` shows its first fit at the largest size."""

    name: str
    kind: str
    fits: list[EngineFit]
    set_size: SetSize
    grid: list[GridRow] = field(default_factory=list)


def fits_of(facts: Iterable[Mapping[str, Any]]) -> list[EngineFit]:
    """Return the different fits in the facts of tasks: arms of one size and replicate share one."""
    found: dict[tuple[int, int], EngineFit] = {}
    for told in (f.get("training") for f in facts):
        if told:
            looks = [EngineLook(*look) for look in told["looks"]]
            grids = [(int(step), str(name)) for step, name in told["grids"]]
            fit = EngineFit(
                told["n"], told["replicate"], looks, told["best_step"], told["stopped"], told["seconds"], grids
            )
            found.setdefault((fit.n, fit.replicate), fit)
    return [found[at] for at in sorted(found)]


def set_size(name: str, fits: Sequence[EngineFit], seed: int) -> SetSize:
    """Return what an engine's held-out distance, over the numbers of patients it was fitted on, says of the set's size.

    No threshold is set by hand: a set is called too small where, by a power law through the sizes, twice as many
    patients would still bring the images nearer by more than two fits on the same number of patients differ by chance.

    Parameters
    ----------
    name
        Of the engine.
    fits
        At one or more sizes, in one or more replicates.
    seed
        Of the interval's draws.
    """
    at: dict[int, list[float]] = {}
    for fit in fits:
        if fit.best is not None and fit.best.distance is not None:
            at.setdefault(fit.n, []).append(fit.best.distance)
    sizes = sorted(at)
    spread, free = _pooled([at[n] for n in sizes])
    distances = [(n, _estimate(at[n], spread, free)) for n in sizes]
    measured = " and ".join(f"{_words(e)} at {_patients(n)}" for n, e in distances)
    if not distances:
        return SetSize("not run", [], None, f"{name}: no look at held-out images was good, so nothing can be said.")
    said = f"{name}: the distance from held-out images is {measured}"
    if len(sizes) < 2:
        ask = "whether more patients would bring it down is not known; a second size under arms.sizes would show it"
        return SetSize("not run", distances, None, f"{said}; it was fitted on one number of patients only, so {ask}.")
    if not spread:
        ask = "two replicates or more would tell a difference between sizes from chance"
        return SetSize("not run", distances, None, f"{said}; each was fitted once: {ask}.")
    return _judged(said, distances, spread, free, rng_for(seed, "set size", name))


def _judged(
    said: str, distances: list[tuple[int, Estimate]], spread: float, free: int, rng: np.random.Generator
) -> SetSize:
    """Return the verdict of a power law through the distances at two sizes or more."""
    sizes = [n for n, _ in distances]
    means = np.array([e.value for _, e in distances])
    counts = np.array([len(e.replicates) for _, e in distances])
    draws = means + spread / np.sqrt(counts) * rng.standard_t(free, (DRAWS, len(sizes)))
    law = fit_power_law(sizes, -draws, upper=max(0.0, float(-means.min())))
    if not law.identifiable:
        return SetSize("ok", distances, None, f"{said}; that more patients bring it down is not shown.")
    limit = REACH * sizes[-1]
    point, every = (_enough(b, c, spread) for b, c in ((law.b, law.c), (law.draws[:, 1], law.draws[:, 2])))
    found = Interval.of_draws(float(point), every, law.level)
    low, value, high = (min(max(x, 1.0), limit) for x in (found.low, found.estimate, found.high))
    enough = Estimate(value, low, high, found.level)
    about = f"more than {limit:g} patients" if value >= limit else f"about {_patients(math.ceil(value))}"
    about += f" [{math.ceil(low)}, {'more' if high >= limit else math.ceil(high)}]"
    reason = f"up to there, twice as many bring it down by more than two fits differ by chance ({_number(spread)})"
    if sizes[0] >= value:
        return SetSize("ok", distances, enough, f"{said}; {about} are enough for it: {reason}.")
    return SetSize("warning", distances, enough, f"{said}: below {about} it has too little to learn from; {reason}.")


def _enough(b: Any, c: Any, spread: float) -> Any:
    """Return the n at which ``b n^-c - b (2 n)^-c`` falls to the spread of a fit."""
    gain = np.maximum(np.asarray(b) * (1 - 2.0 ** -np.asarray(c)), 1e-300)
    return np.exp(np.clip(np.log(gain / spread) / c, 0.0, 100.0))


def _pooled(groups: Sequence[Sequence[float]]) -> tuple[float, int]:
    """Return the standard deviation within the groups, and its degrees of freedom."""
    free = sum(len(group) - 1 for group in groups)
    if free < 1:
        return 0.0, 0
    squares = sum(float(np.square(np.array(group) - np.mean(group)).sum()) for group in groups)
    return math.sqrt(squares / free), free


def _estimate(values: Sequence[float], spread: float, free: int) -> Estimate:
    mean = float(np.mean(values))
    half = float(student.ppf(0.975, free)) * spread / math.sqrt(len(values)) if free else math.nan
    return Estimate(mean, mean - half, mean + half, replicates=[float(v) for v in values], conditional=free < 1)


def _words(estimate: Estimate) -> str:
    if math.isnan(estimate.low):
        return f"{_number(estimate.value)} (one fit)"
    return f"{_number(estimate.value)} [{_number(estimate.low)}, {_number(estimate.high)}]"


def _number(value: float) -> str:
    if abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.2f}" if abs(value) >= 0.1 or value == 0 else f"{value:.2g}"


def _patients(n: int) -> str:
    return f"{n} patient{'' if n == 1 else 's'}"


__all__ = ["EngineFit", "EngineLook", "GridRow", "SetSize", "TrainedEngine", "fits_of", "set_size"]

"""How well labels fit images: one prediction's figures, and what they say of an engine, each with its interval.

Signed offset is the mean distance of the predicted boundary from the label's: *positive where the prediction is larger
than the label*. An engine that draws its structures 2 pixels too small for their labels has an offset of about -2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from equipoise.core import Case, Predictor
from equipoise.experiment.measurements import Estimate
from equipoise.metrics import boundary_offset, dice
from equipoise.stats import Estimate as Measured
from equipoise.stats import by_patient, mean_interval

Row = dict[str, Any]

FIGURES = ("dice", "offset")
RESAMPLES = 4000


@dataclass(frozen=True, slots=True)
class Obedience:
    """Dice and signed boundary offset of predictions against labels, or a difference of them.

    Parameters
    ----------
    dice
        Means over patients; ``None`` where fewer than two have a value.
    offset
        Positive: the prediction is larger than the label. Cases where one of them is empty have none.
    """

    dice: Estimate | None
    offset: Estimate | None


@dataclass(frozen=True, slots=True)
class LabelFidelity:
    """Whether one engine's images obey one label.

    Parameters
    ----------
    engine, label
        Which; ``unit`` is that of the offset.
    n, replicate
        Training patients of the segmenters, the same that the engine was fitted on.
    steps
        That each segmenter was trained for.
    streamed
        Whether the cases were drawn for this.
    real
        Held-out real training cases, each by the segmenter that has not seen its patient.
    synthetic
        Cases of the engine: the mean over the segmenters.
    difference
        Synthetic less real.
    """

    engine: str
    label: str
    unit: str
    n: int
    replicate: int
    steps: int
    streamed: bool
    real: Obedience
    synthetic: Obedience
    difference: Obedience


@dataclass(frozen=True, slots=True)
class Dropped:
    """What the filter of one engine dropped, over all its fits.

    Parameters
    ----------
    made
        Cases drawn, the dropped ones included.
    implausible, near_copy, disobedient
        Dropped under each rule; ``None`` where the rule was off.
    off
        Why a rule was off that the plan left to the engine.
    """

    engine: str
    made: int
    kept: int
    implausible: int | None
    near_copy: int | None
    disobedient: int | None
    off: dict[str, str] = field(default_factory=dict)

    @property
    def dropped(self) -> int:
        """Cases dropped, in all."""
        return self.made - self.kept


@dataclass(frozen=True, slots=True)
class Fidelity:
    """What was found about all engines.

    Parameters
    ----------
    message
        Why something could not be computed; empty if all could.
    """

    labels: list[LabelFidelity] = field(default_factory=list)
    dropped: list[Dropped] = field(default_factory=list)
    message: str = ""


def figures(predictors: Sequence[Predictor], case: Case, labels: Sequence[str]) -> list[Row]:
    """Return one row per label: Dice and offset of a case's predictions, the mean over the predictors.

    Each figure is that of one segmenter, on average; averaging their probabilities instead would give synthetic cases,
    which several segmenters may judge, a better segmenter than held-out real ones have. A segmenter that has seen a
    case's parents is asked only if all have.
    """
    fresh = [p for p in predictors if not p.parents & case.people] or list(predictors)
    truth, spacing = case.labels, case.labels.spacing
    counted = ~truth.ignored()
    found: dict[str, list[tuple[float, float]]] = {}
    for predictor in fresh:
        predicted = predictor.predict(case.image)
        for name in labels or truth.scheme.names:
            a, b = truth.mask(name) & counted, predicted.mask(name) & counted
            found.setdefault(name, []).append((dice(a, b), boundary_offset(a, b, spacing)))
    return [
        {"case": case.id, "patient": case.patient, "label": name, **dict(zip(FIGURES, _means(values), strict=True))}
        for name, values in found.items()
    ]


def obeyed(rows: Sequence[Row]) -> float:
    """Return the mean Dice over a case's labels, NaN where no label is in it or predicted."""
    values = [row["dice"] for row in rows if np.isfinite(row["dice"])]
    return float(np.mean(values)) if values else float("nan")


def compared(
    real: Sequence[Row], synthetic: Sequence[Row], rng: np.random.Generator
) -> tuple[Obedience, Obedience, Obedience]:
    """Return what one label's rows say of real and synthetic cases, and of the difference, with 95 % intervals.

    Patients are resampled, and for synthetic cases what stands for a patient; the two groups independently of one
    another. The segmenters are the same in every resample: intervals are conditional on these fits.

    Parameters
    ----------
    real, synthetic
        Rows of `figures` for one label.
    rng
        Resamples.
    """
    means: dict[str, list[Estimate | None]] = {}
    for name in FIGURES:
        here, there = (_measured(rows, name, rng) for rows in (real, synthetic))
        means[name] = [_shown(here), _shown(there), _difference(here, there, rng)]
    a, b, c = (Obedience(means["dice"][i], means["offset"][i]) for i in range(3))
    return a, b, c


def _means(values: Sequence[tuple[float, float]]) -> list[float]:
    columns = [[x for x in column if np.isfinite(x)] for column in zip(*values, strict=True)]
    return [float(np.mean(column)) if column else float("nan") for column in columns]


def _measured(rows: Sequence[Row], name: str, rng: np.random.Generator) -> Measured | None:
    if not rows:
        return None
    values, _ = by_patient([row[name] for row in rows], [row["patient"] for row in rows])
    return mean_interval(values, rng, resamples=RESAMPLES) if np.isfinite(values).sum() > 1 else None


def _difference(real: Measured | None, synthetic: Measured | None, rng: np.random.Generator) -> Estimate | None:
    if real is None or synthetic is None:
        return None
    # Both are sorted: put together at random they are independent again.
    draws = rng.permutation(synthetic.draws) - real.draws
    low, high = np.quantile(draws, [0.025, 0.975])
    return Estimate(
        synthetic.estimate - real.estimate,
        float(low),
        float(high),
        patients=real.patients + synthetic.patients,
        excluded=real.excluded + synthetic.excluded,
        conditional=True,
    )


def _shown(measured: Measured | None) -> Estimate | None:
    if measured is None:
        return None
    return Estimate(
        measured.estimate,
        measured.low,
        measured.high,
        measured.level,
        patients=measured.patients,
        excluded=measured.excluded,
        conditional=True,
    )


__all__ = ["Dropped", "Fidelity", "LabelFidelity", "Obedience", "compared", "figures", "obeyed"]

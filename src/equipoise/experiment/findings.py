"""What an experiment found: the content of ``report.json``, and all that the report page may show.

Every part is a plain dataclass of strings, numbers, lists and other parts, so that `dataclasses.asdict` is the JSON.
A number that could not be computed is ``None``, and the sentence of its section says why.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from equipoise.experiment.measurements import (
    ArmResult,
    Boundary,
    Curve,
    CurvePoint,
    DetectionAndCalibration,
    Estimate,
    MixedEffects,
    Prevalence,
    Reliability,
    Secondary,
    Stratum,
    Verdict,
)
from equipoise.experiment.obedience import Fidelity
from equipoise.experiment.trained_engines import TrainedEngine

SCHEMA = 1

Light = Literal["green", "amber", "red", "not audited"]


@dataclass(frozen=True, slots=True)
class Exchange:
    """How many real patients the best mix is worth, or why that cannot be said."""

    real_equivalent: Estimate | None
    message: str


@dataclass(frozen=True, slots=True)
class Money:
    """Prices, and the score that the fitted law expects for each purchase.

    Parameters
    ----------
    prices
        Price book: name to price.
    real_counts, synthetic_counts
        Axes of the grid.
    expected, expected_low, expected_high
        Expected primary metric and its 95 % interval, ``[synthetic][real]``; ``None`` where no law could be fitted.
    cost
        Cost, ``[synthetic][real]``.
    """

    currency: str
    prices: dict[str, float]
    real_counts: list[float]
    synthetic_counts: list[float]
    expected: list[list[float]] | None
    cost: list[list[float]]
    message: str
    expected_low: list[list[float]] | None = None
    expected_high: list[list[float]] | None = None


@dataclass(frozen=True, slots=True)
class Advice:
    """What to buy next; "buy nothing yet" where no purchase reaches the difference that the plan calls relevant."""

    action: Literal["buy real", "buy mix", "buy nothing yet", "not enough evidence"]
    sentence: str
    budget: float
    currency: str
    real: int
    synthetic: int
    expected_gain: Estimate | None
    always_real_gain: Estimate | None
    train_next: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the leakage check or the first page: what was looked for and what was found."""

    name: str
    state: Literal["ok", "warning", "failed", "not run"]
    text: str


@dataclass(frozen=True, slots=True)
class DataCard:
    """What was compared."""

    name: str
    modality: str | None
    unit: str
    spacing: str
    labels: list[str]
    cases: int
    patients: int
    parts: dict[str, dict[str, int]]
    sites: dict[str, int]
    licences: dict[str, int]
    assumptions: list[str]
    truth: str


@dataclass(frozen=True, slots=True)
class Gate:
    """Whether real-only training has reached its plateau or a stated reference."""

    reached: bool
    sentence: str
    reference: float | None = None
    reference_source: str | None = None
    score: Estimate | None = None


@dataclass(frozen=True, slots=True)
class Power:
    """What the test set could have shown, computed before training."""

    patients: int
    replicates: int
    margin: float
    minimum_detectable: float
    power_at_margin: float
    sentence: str


@dataclass(frozen=True, slots=True)
class Lineage:
    """One engine as it was fitted."""

    name: str
    kind: str
    spec: dict[str, Any]
    fits: int
    parents: int
    made: int
    dropped: int
    fit_seconds: float
    mode: Literal["frozen", "streamed"]
    licence: str


@dataclass(frozen=True, slots=True)
class Outline:
    """Closed outlines on a picture, in its pixels: ``paths`` holds ``[[x, y], …]`` each."""

    name: str
    paths: list[list[list[float]]]


@dataclass(frozen=True, slots=True)
class Picture:
    """One image as a PNG with outlines over it.

    Parameters
    ----------
    role
        ``"real"``, ``"synthetic"`` (side by side, quiz), ``"worst"`` or ``"best"`` (predictions on the test set).
    png
        Base64 of the image alone, at native contrast.
    window
        How grey values were mapped, in words.
    pixel
        Size of one pixel in ``unit``, for the scale bar.
    score
        Primary metric per arm shown, for ``worst`` and ``best``.
    """

    role: Literal["real", "synthetic", "worst", "best"]
    case: str
    png: str
    width: int
    height: int
    window: str
    pixel: float
    unit: str
    outlines: list[Outline]
    engine: str | None = None
    seed: str | None = None
    parents: list[str] = field(default_factory=list)
    licence: str | None = None
    score: dict[str, float] = field(default_factory=dict)
    simulated: bool = False


@dataclass(frozen=True, slots=True)
class TunedArm:
    """What an arm chose by cross-validation inside its own training patients.

    Parameters
    ----------
    candidates
        What each candidate changes in the learner, as JSON.
    scores
        Mean primary metric over the arm's patients when they were held out, per candidate; ``None`` where it could not
        be trained or nothing could be scored.
    chosen
        Position of the winner.
    """

    arm: str
    n: int
    budget: str
    replicate: int
    candidates: list[str]
    scores: list[float | None]
    chosen: int


@dataclass(frozen=True, slots=True)
class MetricCard:
    """The primary metric and how it is read."""

    name: str
    title: str
    unit: str
    higher_is_better: bool
    margin: float
    definition: str


@dataclass(frozen=True, slots=True)
class Findings:
    """Everything that the report shows.

    Parameters
    ----------
    verdict
        Three plain sentences: the answer with its interval, how sure and on what, what to do next.
    status
        Verdict word of the headline arm.
    headline
        The result the first sentence speaks of.
    instrument_check
        Whether pixels are simulated, so that the verdict speaks about the instrument and not about medicine.
    lights
        ``utility``, ``privacy``, ``annotation``, ``licence`` to state and words.
    first_page
        Everything that must not be missed: deviations, A/A flag, gate, numbered openings, assumptions.
    """

    title: str
    created: str
    plan_hash: str
    plan: str
    verdict: list[str]
    status: Verdict
    headline: ArmResult | None
    instrument_check: bool
    simulated_label: str | None
    lights: dict[str, tuple[Light, str]]
    first_page: list[Check]
    data: DataCard
    leakage: list[Check]
    gate: Gate
    power: Power
    metric: MetricCard
    arms: list[ArmResult]
    secondary: list[Secondary]
    curves: list[Curve]
    exchange: Exchange
    money: Money
    advice: Advice
    strata: list[Stratum]
    boundary: list[Boundary]
    lineage: list[Lineage]
    pictures: list[Picture]
    reproduce: dict[str, str]
    limits: list[str]
    mixed_effects: MixedEffects | None = None
    detection_and_calibration: DetectionAndCalibration | None = None
    tuning: list[TunedArm] = field(default_factory=list)
    trained_engines: list[TrainedEngine] = field(default_factory=list)
    fidelity: Fidelity = field(default_factory=Fidelity)
    schema: int = SCHEMA

    def as_dict(self) -> dict[str, Any]:
        """Return plain lists and dictionaries, ready for JSON."""
        return asdict(self)


__all__ = [
    "SCHEMA",
    "Advice",
    "ArmResult",
    "Boundary",
    "Check",
    "Curve",
    "CurvePoint",
    "DataCard",
    "DetectionAndCalibration",
    "Estimate",
    "Exchange",
    "Findings",
    "Gate",
    "Light",
    "Lineage",
    "MetricCard",
    "MixedEffects",
    "Money",
    "Outline",
    "Picture",
    "Power",
    "Prevalence",
    "Reliability",
    "Secondary",
    "Stratum",
    "TunedArm",
    "Verdict",
]

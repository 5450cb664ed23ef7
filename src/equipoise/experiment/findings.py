"""What an experiment found: the content of ``report.json``, and all that the report page may show.

Every part is a plain dataclass of strings, numbers, lists and other parts, so that `dataclasses.asdict` is the JSON.
A number that could not be computed is ``None``, and the sentence of its section says why.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

SCHEMA = 1

Verdict = Literal["better", "worse", "not inferior", "equal", "not proven"]
Light = Literal["green", "amber", "red", "not audited"]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean or difference with its interval; never shown without it.

    Parameters
    ----------
    value, low, high
        Point and interval at ``level``.
    replicates
        One value per replicate, the small dots behind the interval.
    conditional
        Whether there were too few replicates to speak beyond "these fits".
    """

    value: float
    low: float
    high: float
    level: float = 0.95
    replicates: list[float] = field(default_factory=list)
    patients: int = 0
    excluded: int = 0
    conditional: bool = False


@dataclass(frozen=True, slots=True)
class ArmResult:
    """One arm at one size, budget and place.

    Parameters
    ----------
    arm
        Name, such as ``"mixed 1:1"``.
    family
        ``"real"``, ``"duplicate"``, ``"synthetic"``, ``"mix"``, ``"pretrain"``, ``"weighted"`` or ``"self-training"``.
    ratio
        Synthetic : real in cases; 0 for real, ``None`` for synthetic only.
    n
        Real patients paid for.
    budget
        Equal steps or equal epochs.
    where
        ``"validation"``, ``"target validation"``, ``"inside"`` (sealed test) or ``"target"`` (external site, sealed).
    mean
        Of the primary metric.
    difference
        Paired, against ``real`` at the same n, budget and place; ``None`` for ``real`` itself.
    verdict, p_holm
        Of the difference; Holm over the planned contrasts of one place.
    distinct_synthetic, sampling_weight
        Different synthetic cases seen, and the share of draws that were synthetic.
    """

    arm: str
    family: str
    engine: str | None
    ratio: float | None
    n: int
    budget: Literal["steps", "epochs"]
    where: Literal["validation", "target validation", "inside", "target"]
    mean: Estimate
    difference: Estimate | None
    verdict: Verdict | None
    p_holm: float | None
    control: bool
    distinct_synthetic: float
    sampling_weight: float
    steps: int
    cpu_seconds: float
    loss_weight: float | None = None


@dataclass(frozen=True, slots=True)
class Stratum:
    """A paired difference within one level of a factor (size, site, scanner)."""

    factor: str
    level: str
    arm: str
    n: int
    where: str
    difference: Estimate


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """A point of a learning or ratio curve."""

    x: float
    estimate: Estimate


@dataclass(frozen=True, slots=True)
class Curve:
    """A named curve.

    Parameters
    ----------
    kind
        ``"learning"``: scores over real patients; ``"ratio"``: differences from ``real`` over synthetic : real.
    """

    kind: Literal["learning", "ratio"]
    name: str
    where: str
    budget: str
    points: list[CurvePoint]


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
    expected
        Expected primary metric, ``[synthetic][real]``; ``None`` where no law could be fitted.
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


@dataclass(frozen=True, slots=True)
class Advice:
    """What to buy next."""

    action: Literal["buy real", "buy mix", "not enough evidence"]
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
class Boundary:
    """Boundary accuracy of one arm or reader against the consensus of the (other) readers."""

    who: str
    kind: Literal["reader", "arm"]
    dice: Estimate
    distance: Estimate
    offset: Estimate
    unit: str


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
class MetricCard:
    """The primary metric and how it is read."""

    name: str
    title: str
    unit: str
    higher_is_better: bool
    margin: float
    definition: str


@dataclass(frozen=True, slots=True)
class Secondary:
    """A further metric of one arm at one size and place, with its difference from real."""

    metric: str
    unit: str
    arm: str
    n: int
    where: str
    budget: str
    mean: Estimate
    difference: Estimate | None


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
    schema: int = SCHEMA

    def as_dict(self) -> dict[str, Any]:
        """Return plain lists and dictionaries, ready for JSON."""
        return asdict(self)

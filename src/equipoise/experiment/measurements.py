"""What was measured, each number with its interval: the parts of `equipoise.experiment.findings` that hold results."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Verdict = Literal["better", "worse", "not inferior", "equal", "not proven"]


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
class Boundary:
    """Boundary accuracy of one arm or reader against the consensus of the (other) readers."""

    who: str
    kind: Literal["reader", "arm"]
    dice: Estimate
    distance: Estimate
    offset: Estimate
    unit: str


@dataclass(frozen=True, slots=True)
class Reliability:
    """Observed against predicted frequency of one arm, voxels of all test cases and replicates pooled.

    Parameters
    ----------
    shifted
        Whether the probabilities were moved from the prevalence of the arm's training to that of ``real``.
    points
        One per filled bin of a tenth: mean predicted probability, and the observed share with its interval over
        patients.
    shares
        Share of the voxels in each point's bin.
    """

    arm: str
    n: int
    where: str
    budget: str
    shifted: bool
    points: list[CurvePoint]
    shares: list[float]


@dataclass(frozen=True, slots=True)
class Prevalence:
    """How common a label was among the voxels that an arm was trained on, and that ``real`` was; mean of replicates."""

    arm: str
    n: int
    budget: str
    label: str
    trained: float
    real: float


@dataclass(frozen=True, slots=True)
class DetectionAndCalibration:
    """Lesions found and made up, diameter, and whether probabilities mean what they say.

    Parameters
    ----------
    metrics
        Every arm at the headline size and budget; what was measured after the shift of prevalence says so in its name.
    reliability
        Curves of ``real`` and the headline arm, as they are and where the prevalence changed also after the shift.
    prevalence
        Where the learner counts it.
    lesion_labels
        Labels that detection is reported for.
    rule
        Which labels these are and how lesions were matched.
    message
        What could not be computed and why; empty if all could.
    """

    metrics: list[Secondary]
    reliability: list[Reliability]
    prevalence: list[Prevalence]
    lesion_labels: list[str]
    rule: str
    message: str


@dataclass(frozen=True, slots=True)
class MixedEffects:
    """Where the spread of the headline difference comes from, and whether a second method gives its interval too.

    Parameters
    ----------
    difference
        The headline difference with the interval of a mixed-effects model.
    patient, replicate, residual
        Standard deviations with their intervals, in the unit of the metric.
    agrees
        Whether the interval is like the bootstrap's, by the rule that ``sentence`` states.
    """

    difference: Estimate
    patient: Estimate
    replicate: Estimate
    residual: Estimate
    agrees: bool
    sentence: str

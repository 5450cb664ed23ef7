"""The plan: one TOML file that says everything, checked whole before anything is written."""

from __future__ import annotations

import hashlib
import json
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, cast

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from equipoise.core.registry import canonical, make
from equipoise.errors import EquipoiseError, PlanError, did_you_mean
from equipoise.experiment.engine_plan import EnginePlan as EnginePlan
from equipoise.experiment.engine_plan import FidelityPlan
from equipoise.features.filtering import LEAST_PATIENTS

Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Spec = dict[str, Any]

REPLICATES_TO_CLAIM = 5
"""With fewer, a result is conditional on the fits that were made."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class SplitPlan(_Part):
    """How the patients are split; shares sum to 1.

    ``test_truth = "consensus"`` scores held-out patients against the consensus of at least ``min_readers`` readers;
    what fewer drew is ignored there. ``accept_near_duplicates`` lists pairs of case ids that were looked at and are
    different patients.
    """

    train: Share = 0.5
    validation: Share = 0.15
    test: Share = 0.35
    test_truth: Literal["given", "consensus"] = "given"
    min_readers: int = Field(default=3, ge=2)
    accept_near_duplicates: tuple[tuple[str, str], ...] = ()
    near_duplicates: Literal["refuse", "report"] = "refuse"

    @model_validator(mode="after")
    def _sums_to_one(self) -> SplitPlan:
        if abs(self.train + self.validation + self.test - 1) > 1e-6 or min(self.train, self.validation, self.test) <= 0:
            raise ValueError("train, validation and test must be above 0 and sum to 1")
        return self


class TargetPlan(_Part):
    """The site that the model is for, if it is another one; some of its patients may serve as validation."""

    site: str | None = None
    validation_patients: int = Field(default=0, ge=0)


class TuningPlan(_Part):
    """How every arm chooses the learner's parameters for itself, on its own training patients only.

    ``candidates`` lists what each of them changes in ``training.learner``; ``{}`` is the learner as it stands. In
    every arm, size and replicate each is trained ``folds`` times for ``steps`` steps (``training.steps`` where it is
    not given), every time without another part of the arm's patients, and scored on these by the primary metric. The
    best mean wins, the first one of equals; then the arm is trained on all its patients. ``tuning = "none"`` takes
    the learner as it stands.
    """

    candidates: tuple[Spec, ...] = ()
    folds: int = Field(default=3, ge=2, le=5)
    steps: int | None = Field(default=None, ge=2)

    @model_validator(mode="before")
    @classmethod
    def _none_is_no_candidates(cls, content: Any) -> Any:
        if content == "none":
            return {}
        if isinstance(content, str):
            raise ValueError("tuning must be 'none' or a table [training.tuning] with candidates")
        named = content.get("candidates", ()) if isinstance(content, dict) else None
        if content and isinstance(named, (list, tuple)) and len(named) < 2:
            raise ValueError("name at least two candidates to choose from, or write tuning = 'none'")
        return content

    @model_validator(mode="after")
    def _candidates_differ(self) -> TuningPlan:
        if any("kind" in candidate for candidate in self.candidates):
            raise ValueError("a candidate changes parameters of training.learner; it cannot name another kind")
        if any(candidate in self.candidates[:position] for position, candidate in enumerate(self.candidates)):
            raise ValueError("two candidates are the same")
        return self

    @model_serializer(mode="wrap")
    def _as_it_is_written(self, rest: SerializerFunctionWrapHandler) -> Any:
        return rest(self) if self.candidates else "none"


class TrainingPlan(_Part):
    """The recipe, the same in every arm."""

    learner: Spec = {"kind": "unet", "preset": "cpu-small"}
    augment: Spec = {"kind": "classical"}
    steps: int = Field(default=240, ge=2)
    tuning: TuningPlan = TuningPlan()

    def tuned(self, candidate: int | None) -> Spec:
        """Return the learner's specification with a candidate's changes."""
        return self.learner if candidate is None else {**self.learner, **self.tuning.candidates[candidate]}


class ArmsPlan(_Part):
    """What is compared. Ratios are synthetic : real, in cases.

    Under *equal steps* each arm takes ``training.steps`` steps; under *equal epochs* as many as its number of cases
    asks for, at most ``epoch_cap`` times as many, the checkpoint chosen on validation. ``all_arms_at`` names the sizes
    at which every arm is run; at the others only ``real`` is.
    """

    sizes: tuple[Annotated[int, Field(ge=1)], ...] = (4, 8, 16)
    all_arms_at: tuple[int, ...] | None = None
    replicates: int = Field(default=3, ge=1)
    ratios: tuple[Positive, ...] = (0.25, 1.0, 4.0)
    weights: tuple[Annotated[float, Field(ge=0)], ...] = (0.0, 0.3, 1.0)
    budgets: tuple[Literal["steps", "epochs"], ...] = ("steps", "epochs")
    epoch_cap: float = Field(default=3.0, ge=1)
    skip: tuple[Literal["pretrain", "weighted", "self-training", "synthetic only"], ...] = ()

    @model_validator(mode="after")
    def _sizes_are_known(self) -> ArmsPlan:
        if list(self.sizes) != sorted(set(self.sizes)):
            raise ValueError(f"sizes must rise and be different, got {list(self.sizes)}")
        strange = set(self.all_arms_at or ()) - set(self.sizes)
        if strange:
            raise ValueError(f"all_arms_at names {sorted(strange)}, which are not among the sizes {list(self.sizes)}")
        return self


class MetricPlan(_Part):
    """The primary metric, its margin (declared before, in the metric's unit) and the tolerance of NSD."""

    primary: Literal["dice", "nsd"] = "dice"
    labels: tuple[str, ...] = ()
    margin: Positive = 0.02
    tolerance: Positive = 2.0
    convention: Literal["deepmind", "monai"] = "deepmind"


class GatePlan(_Part):
    """The score that a competent model reaches, published or between readers, and where the figure comes from."""

    reference: float | None = None
    source: str | None = None
    slack: float = Field(default=0.05, ge=0)

    @model_validator(mode="after")
    def _has_a_source(self) -> GatePlan:
        if self.reference is not None and not self.source:
            raise ValueError("a reference needs its source: who reached it, on what")
        return self


class PricePlan(_Part):
    """The price book."""

    currency: str = "EUR"
    real_case: float = Field(default=60.0, ge=0)
    synthetic_case: float = Field(default=0.02, ge=0)
    engine_fit: float = Field(default=0.0, ge=0)


class PowerPlan(_Part):
    """Spread assumed for the power statement that is printed before anything is trained."""

    sd_patients: Positive = 0.06
    sd_replicates: Positive = 0.01


class Plan(_Part):
    """An experiment, whole."""

    title: str
    seed: int = Field(default=0, ge=0)
    data: Spec
    external: Spec | None = None
    split: SplitPlan = SplitPlan()
    target: TargetPlan = TargetPlan()
    training: TrainingPlan = TrainingPlan()
    fidelity: FidelityPlan = FidelityPlan()
    arms: ArmsPlan = ArmsPlan()
    engines: dict[str, EnginePlan]
    metric: MetricPlan = MetricPlan()
    gate: GatePlan = GatePlan()
    prices: PricePlan = PricePlan()
    power: PowerPlan = PowerPlan()

    @model_validator(mode="after")
    def _has_an_engine(self) -> Plan:
        if not self.engines:
            raise ValueError("name at least one engine under [engines.NAME]; `equipoise engines` lists the kinds")
        return self

    @model_validator(mode="after")
    def _can_be_filtered(self) -> Plan:
        smallest = min(self.arms.all_arms_at or self.arms.sizes, default=LEAST_PATIENTS)
        if smallest < LEAST_PATIENTS and any(engine.filter.on for engine in self.engines.values()):
            raise ValueError(
                f"a filter is fitted on {LEAST_PATIENTS} or more patients, and engines are run with {smallest}: leave "
                "that size out of arms.sizes or arms.all_arms_at, or take the filter from the engine"
            )
        return self

    @model_validator(mode="after")
    def _can_be_tuned(self) -> Plan:
        if self.training.tuning.candidates and min(self.arms.sizes, default=2) < 2:
            raise ValueError(
                "training.tuning holds out some of an arm's patients from the others, and arms.sizes asks for arms of "
                "1 patient: leave the size 1 out, or write tuning = 'none'"
            )
        return self

    @model_serializer(mode="wrap")
    def _as_it_is_written(self, rest: SerializerFunctionWrapHandler) -> Any:
        # A plan that says nothing of label fidelity keeps the hash that it was sealed under before there was any.
        return {key: value for key, value in rest(self).items() if key != "fidelity" or self.fidelity != FidelityPlan()}

    @property
    def hash(self) -> str:
        """SHA-256 of the whole plan, in one spelling."""
        return hashlib.sha256(canonical(self.model_dump(mode="json")).encode()).hexdigest()

    def sources(self, root: Path | None) -> list[Spec]:
        """Return the specifications of the data, their paths made absolute under ``root``."""
        return [_rooted(spec, root) for spec in (self.data, self.external) if spec is not None]


def load_plan(path: Path) -> Plan:
    """Read a plan file; `PlanError` names the file, the key and the nearest known one."""
    try:
        text = path.read_text(encoding="utf-8")
        return parse_plan(tomllib.loads(text), file=path)
    except OSError as error:
        raise PlanError("the plan cannot be read", file=path, fix="name an existing TOML file") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise PlanError(f"the plan is not valid TOML: {error}", file=path, fix="correct that line") from error


def parse_plan(content: dict[str, Any], file: Path | None = None) -> Plan:
    """Return a checked plan; engines, learner and formats are built once, so that their parameters are checked too."""
    try:
        plan = Plan.model_validate(content)
    except ValidationError as error:
        raise PlanError("\n".join(_sentence(e) for e in error.errors()), file=file, fix="correct the plan") from error
    try:
        for group, specs in {
            "engines": [e.spec for e in plan.engines.values()],
            "learners": [
                plan.training.tuned(candidate) for candidate in (None, *range(len(plan.training.tuning.candidates)))
            ],
            "augmentations": [plan.training.augment],
            "formats": [spec for spec in (plan.data, plan.external) if spec is not None],
        }.items():
            for spec in specs:
                made = make(group, spec)
                if plan.training.tuning.candidates and not getattr(made, "found", True):
                    raise PlanError(
                        "training.augment is searched on validation patients, training.tuning tunes without them",
                        fix="leave one of both out",
                    )
    except EquipoiseError as error:
        raise PlanError(error.message, file=file, fix=error.fix or "correct the plan") from error
    return plan


def _sentence(error: Any) -> str:
    *parents, last = [str(p) for p in error["loc"]] or ["plan"]
    where = ".".join([*parents, last])
    if error["type"] == "extra_forbidden":
        return f"unknown key {where!r}.{did_you_mean(last, _keys(parents))}"
    if error["type"] == "missing":
        return f"the plan has no {where!r}"
    return f"{where}: {error['msg'].removeprefix('Value error, ')}" + (
        f" (got {error['input']!r})" if isinstance(error["input"], (str, int, float, bool)) else ""
    )


def _keys(parents: list[str]) -> list[str]:
    """Return the keys known at a place of the plan."""
    model: Any = Plan
    for name in parents:
        if name in getattr(model, "model_fields", {}):
            model = EnginePlan if name == "engines" else model.model_fields[name].annotation
    return list(getattr(model, "model_fields", {}))


def _rooted(spec: Spec, root: Path | None) -> Spec:
    if root is None or "path" not in spec:
        return spec
    return {**spec, "path": str((root / spec["path"]).resolve())}


def flat(content: dict[str, Any], prefix: str = "") -> dict[str, str]:
    """Return nested settings as dotted names and JSON values, to be compared line by line."""
    lines: dict[str, str] = {}
    for key, value in content.items():
        if isinstance(value, dict):
            lines |= flat(cast(dict[str, Any], value), f"{prefix}{key}.")
        else:
            lines[f"{prefix}{key}"] = json.dumps(value, sort_keys=True)
    return lines


def deviations(earlier: Plan, later: Plan) -> list[str]:
    """Return what a later plan does otherwise than an earlier one, a line each."""
    a, b = (flat(p.model_dump(mode="json")) for p in (earlier, later))
    return [
        f"{key}: {a.get(key, 'absent')} became {b.get(key, 'absent')}"
        for key in sorted(a.keys() | b.keys())
        if a.get(key) != b.get(key)
    ]

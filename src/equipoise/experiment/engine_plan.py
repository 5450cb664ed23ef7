"""What the plan says about an engine, which of its cases are dropped, and whether its labels fit its images."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

Quantile = Annotated[float, Field(gt=0, lt=1, strict=True)]

MOST_STEPS = 400
"""Of a cross-fitted segmenter, where the plan does not say otherwise."""


class FidelityPlan(BaseModel):
    """Whether the labels of synthetic cases fit their images, told by a segmenter trained on real ones.

    The segmenter is the plan's learner, trained ``folds`` times on an engine's largest group of training patients, each
    time without another part of them, for ``steps`` steps (``training.steps``, at most 400, where it is not given). It
    is shared by all engines, so that this costs ``folds`` short trainings per experiment and is on for every engine;
    ``fidelity = false`` leaves it out. ``cases`` synthetic cases of each engine are looked at. It decides nothing.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    on: bool = True
    folds: int = Field(default=3, ge=2, le=5)
    steps: int | None = Field(default=None, ge=1)
    cases: int = Field(default=24, ge=2)

    @model_validator(mode="before")
    @classmethod
    def _true_and_false(cls, content: Any) -> Any:
        return {"on": content} if isinstance(content, bool) else content

    def steps_of(self, training_steps: int) -> int:
        """Return the steps in effect."""
        return self.steps or min(training_steps, MOST_STEPS)


class FilterPlan(BaseModel):
    """Which frozen cases of an engine are dropped and drawn again; ``filter = true`` takes the values below.

    Each rule is a quantile of what real training patients do among one another, or ``false``. ``implausible``: farther
    from the training images than this share of real images is from those of other patients. ``near_copy``: nearer to
    one training image than all but this share of real images is to those of other patients; ``"auto"`` is 0.05 for
    engines that render images, and off for those that change real images, which would all be dropped by design.
    ``disobedient``: Dice of the label under this quantile of held-out real cases (it trains the segmenter of
    ``[fidelity]`` for every group of patients). At most ``draws`` times the cases that are needed are drawn.
    ``features`` are those of an encoder trained on the training images beside hand-made ones (with ``"auto"`` from 24
    images on), or hand-made ones alone.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    on: bool = False
    implausible: Quantile | Literal[False] = 0.99
    near_copy: Quantile | Literal["auto", False] = "auto"
    disobedient: Quantile | Literal[False] = False
    draws: float = Field(default=4.0, gt=1, le=100)
    features: Literal["auto", "encoder", "handmade"] = "auto"

    @model_validator(mode="before")
    @classmethod
    def _true_and_tables(cls, content: Any) -> Any:
        if isinstance(content, bool):
            return {"on": content}
        return {"on": True, **content} if isinstance(content, dict) else content

    @model_validator(mode="after")
    def _has_a_rule(self) -> FilterPlan:
        if self.on and (self.implausible, self.near_copy, self.disobedient) == (False, False, False):
            raise ValueError("every rule is off: leave the filter out, or give implausible, near_copy or disobedient")
        return self


class EnginePlan(BaseModel):
    """An engine, as its kind and parameters, and how its cases are used.

    ``arms = "all"`` runs every arm with it; ``"few"`` only synthetic-only and the mix whose ratio is nearest to 1:1,
    under the plan's first budget. ``known_gap`` marks an engine whose distance from the data is known, because the data
    are simulated too: it checks the instrument and is never the headline. ``filter`` drops frozen cases by a rule.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    spec: dict[str, Any]
    mode: Literal["frozen", "streamed"] = "frozen"
    arms: Literal["all", "few"] = "all"
    known_gap: Literal["zero", "large"] | None = None
    filter: FilterPlan = FilterPlan(on=False)

    @model_validator(mode="before")
    @classmethod
    def _kind_beside_mode(cls, content: Any) -> Any:
        """Take the engine's own parameters from beside ``mode`` and the others, as they stand in the TOML table."""
        if not isinstance(content, dict) or "spec" in content:
            return content
        own = {key: content[key] for key in ("mode", "arms", "known_gap", "filter") if key in content}
        return {**own, "spec": {key: value for key, value in content.items() if key not in own}}

    @model_validator(mode="after")
    def _filters_what_is_frozen(self) -> EnginePlan:
        if self.filter.on and self.mode == "streamed":
            raise ValueError("what a stream will hold is never known whole, so a filter needs mode = 'frozen'")
        return self

    @model_serializer(mode="wrap")
    def _as_it_is_written(self, rest: SerializerFunctionWrapHandler) -> Any:
        return {key: value for key, value in rest(self).items() if key != "filter" or self.filter.on}


__all__ = ["EnginePlan", "FidelityPlan", "FilterPlan"]

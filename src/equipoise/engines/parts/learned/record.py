"""How a training is to go, and how it went."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from equipoise.engines.parts.learned.held_out import Look

COLLAPSED = 0.1
"""Diversity, as a share of the real images', below which a generator makes one image only."""


@dataclass(frozen=True, slots=True)
class Course:
    """How long and how a training goes.

    Parameters
    ----------
    steps
        At most.
    batch
        Patches in each.
    looks
        How often held-out images are looked at.
    patience
        Looks without a better one after which the training stops.
    decay
        Of the running average of the weights, per step.
    foreground
        Share of patches around a labelled voxel.
    """

    steps: int
    batch: int
    looks: int = 10
    patience: int = 6
    decay: float = 0.999
    foreground: float = 0.5


@dataclass(slots=True)
class Record:
    """How a training went.

    Parameters
    ----------
    looks
        At held-out images.
    losses
        Mean of each loss between two looks, by name.
    best_step
        The step whose weights were kept.
    stopped
        Why it ended.
    seconds
        Wall-clock time, over all interruptions.
    choices
        What the free memory changed of the preset, as a plan would state it.
    """

    looks: list[Look] = field(default_factory=list)
    losses: list[dict[str, float]] = field(default_factory=list)
    best_step: int = 0
    stopped: str = ""
    seconds: float = 0.0
    choices: list[str] = field(default_factory=list)

    @property
    def best(self) -> float:
        """The least distance of a look whose images were varied."""
        return min((look.distance for look in self.looks if look.diversity >= COLLAPSED), default=math.inf)


__all__ = ["COLLAPSED", "Course", "Record"]

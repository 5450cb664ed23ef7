"""Kind ``real``: the label maps of the training patients, as they are."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from equipoise.core import LabelMap
from equipoise.engines.parts.placement import Placement
from equipoise.engines.parts.training_maps import DrawsTrainingMaps, TrainingMaps, Window


@dataclass(frozen=True)
class Real(DrawsTrainingMaps):
    """Label maps of training patients, whole or cut into patches at native spacing.

    The patients are parents of whatever is rendered from their maps.

    Parameters
    ----------
    patch
        Side of a patch in voxels; 0 draws whole maps.
    foreground
        With ``patch``, the share of patches around a labelled voxel.
    """

    kind: ClassVar[str] = "real"

    patch: int = 0
    foreground: float = 0.5
    _maps: TrainingMaps | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        self.require_patches()

    def laid(self, window: Window, rng: np.random.Generator) -> tuple[LabelMap, Placement]:
        """Return the label map of a window as it is."""
        return window.placed()

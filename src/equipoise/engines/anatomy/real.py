"""Kind ``real``: the label maps of the training patients, as they are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np

from equipoise.core import Case, LabelMap
from equipoise.engines.parts.legal import require_within
from equipoise.engines.parts.placement import Placement
from equipoise.engines.parts.training_maps import TrainingMaps, require_fitted


@dataclass(frozen=True)
class Real:
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
        require_within("real.patch", self.patch, 0, 4096, "voxels")
        require_within("real.foreground", self.foreground, 0, 1)

    @property
    def parents(self) -> frozenset[str]:
        """The training patients."""
        return self._maps.parents if self._maps else frozenset()

    def fit(self, cases: Sequence[Case], rng: np.random.Generator) -> Real:
        """Return an anatomy that holds the label maps of these cases."""
        return replace(self, _maps=TrainingMaps.of(cases, rng))

    def draw(self, n: int, rng: np.random.Generator) -> Iterator[LabelMap]:
        """Yield ``n`` label maps."""
        for labels, _ in self.draw_placed(n, rng):
            yield labels

    def draw_placed(self, n: int, rng: np.random.Generator) -> Iterator[tuple[LabelMap, Placement]]:
        """Yield ``n`` label maps and the training case that each is a window on.

        Raises `EngineError` before `fit`.
        """
        maps = require_fitted(self._maps, self.kind)
        for _ in range(n):
            (stream,) = rng.spawn(1)
            yield maps.draw(self.patch, self.foreground, stream).placed()

"""How tissue takes up stain: levels by structure, and what varies between sections.

Levels are optical densities of a 4 µm section along the stain's own vector, as unmixing reads them off routine slides:
chromatin 0.4 to 1.2 in haematoxylin, cytoplasm and collagen 0.1 to 0.5 in eosin.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from equipoise.engines.parts.tissue_scene import ANY, EPITHELIAL, FIBROBLAST, LYMPHOCYTE, MITOSIS, RED_CELL

CHROMATIN: dict[int, float] = {
    EPITHELIAL: 0.62, LYMPHOCYTE: 0.9, FIBROBLAST: 0.7, MITOSIS: 1.3, RED_CELL: 0.0, ANY: 0.7
}  # fmt: skip
"""Haematoxylin of a nucleus by its kind."""

BETWEEN: dict[int, float] = {
    EPITHELIAL: 0.22, LYMPHOCYTE: 0.15, FIBROBLAST: 0.22, MITOSIS: 0.1, RED_CELL: 0.1, ANY: 0.22
}  # fmt: skip
"""Standard deviation of its logarithm between nuclei of a case."""

CLUMPED: dict[int, float] = {
    EPITHELIAL: 1.0, LYMPHOCYTE: 1.0, FIBROBLAST: 0.8, MITOSIS: 0.4, RED_CELL: 0.0, ANY: 1.0
}  # fmt: skip
"""Strength of the chromatin's clumps, relative to that of epithelial nuclei."""

IN_NUCLEUS = 0.5
"""Eosin in a nucleus, relative to cytoplasm."""

RED = 0.62
"""Of a red cell, along its own vector."""


@dataclass(frozen=True)
class Look:
    """What one section shows, whatever its structures.

    Parameters
    ----------
    haematoxylin, eosin
        Factors on all levels.
    cytoplasm, basophilia, collagen
        Eosin and haematoxylin of cytoplasm, eosin of collagen.
    chromatin
        Amplitude of the clumps of chromatin.
    vesicular
        How much of an epithelial nucleus's chromatin lies on its membrane, 0 to 1.
    nucleoli
        Mean number in an epithelial nucleus.
    clearing
        How empty cytoplasm is between nucleus and membrane, 0 to 1: fat, glycogen and mucin are washed out.
    membrane
        Borders of cells: 1 dark lines, -1 open clefts.
    gaps
        Share of the stroma that is open.
    halo
        How often a nucleus has shrunk away from what surrounds it.
    secretion
        Eosin of what fills lumina.
    """

    haematoxylin: float
    eosin: float
    cytoplasm: float
    basophilia: float
    collagen: float
    chromatin: float
    vesicular: float
    nucleoli: float
    clearing: float
    membrane: float
    gaps: float
    halo: float
    secretion: float


@dataclass(frozen=True)
class Looks:
    """Ranges that a look is drawn from."""

    haematoxylin: tuple[float, float]
    eosin: tuple[float, float]
    chromatin: tuple[float, float]
    vesicular: tuple[float, float]
    clearing: tuple[float, float]
    membrane: tuple[float, float]
    gaps: tuple[float, float]

    def draw(self, rng: np.random.Generator) -> Look:
        """Return the look of one section."""
        low, high = self.clearing
        return Look(
            haematoxylin=float(np.exp(rng.uniform(*np.log(self.haematoxylin)))),
            eosin=float(np.exp(rng.uniform(*np.log(self.eosin)))),
            cytoplasm=float(rng.uniform(0.16, 0.34)),
            basophilia=float(rng.uniform(0.05, 0.2)),
            collagen=float(rng.uniform(0.22, 0.42)),
            chromatin=float(rng.uniform(*self.chromatin)),
            vesicular=float(rng.uniform(*self.vesicular)),
            nucleoli=float(rng.uniform(0.2, 1.6)),
            # Clear cells are the exception: most sections have little of it.
            clearing=low + (high - low) * float(rng.random()) ** 2,
            membrane=float(rng.uniform(*self.membrane)),
            gaps=float(rng.uniform(*self.gaps)),
            halo=float(rng.uniform(0.0, 0.6)),
            secretion=max(float(rng.uniform(-0.15, 0.2)), 0.0),
        )


def table_of(
    kind: np.ndarray, look: Look, stains: Mapping[int, Sequence[float]], rng: np.random.Generator
) -> np.ndarray:
    """Return how each body is stained: haematoxylin, eosin, red, clumps, vesicular, halo; float32, ``(N + 1, 6)``.

    Parameters
    ----------
    kind
        Of each body, shape ``(N + 1,)``; entry 0 is not used.
    look
        Of the section.
    stains
        ``(haematoxylin, eosin)`` by kind, instead of the table's.
    """
    level, between, clumped = (np.array([t[k] for k in range(ANY + 1)]) for t in (CHROMATIN, BETWEEN, CLUMPED))
    eosin = np.full(ANY + 1, IN_NUCLEUS * look.cytoplasm)
    eosin[RED_CELL] = 0.0
    for number, (h, e) in stains.items():
        level[number], eosin[number] = h, e
    each = np.exp(between[kind] * rng.standard_normal(len(kind)))
    red = np.where(kind == RED_CELL, RED * look.eosin * each, 0.0)
    vesicular = np.where(np.isin(kind, (EPITHELIAL, ANY)), look.vesicular * rng.uniform(0.6, 1.2, len(kind)), 0.1)
    halo = (rng.random(len(kind)) < look.halo) * rng.uniform(0.3, 1.0, len(kind))
    halo[kind == MITOSIS] = 0.8
    columns = [
        level[kind] * look.haematoxylin * each,
        eosin[kind] * look.eosin,
        red,
        clumped[kind] * look.chromatin,
        np.clip(vesicular, 0, 0.9),
        halo,
    ]
    return np.stack(columns, axis=1).astype(np.float32)


__all__ = ["Look", "Looks", "table_of"]

"""A statistical shape model: principal components of aligned signed distances, and how they vary with the pose.

Structures that the same patients show are one block, whose boundaries keep together; a structure that some patients
lack is a block of its own, learned from those who have it.

References
----------
Leventon ME, Grimson WEL, Faugeras O. Statistical shape influence in geodesic active contours. CVPR 2000.
doi:10.1109/CVPR.2000.855835. Cootes TF, Taylor CJ, Cooper DH, Graham J. Active shape models: their training and
application. CVIU 1995. doi:10.1006/cviu.1995.1004
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from equipoise.engines.anatomy.learned.frame import BAND
from equipoise.engines.anatomy.learned.spread import Joint
from equipoise.errors import DataError

LEAST = 3
"""Maps that show a structure, without which its shape cannot vary in two ways."""

FARTHEST = 3.0
"""Standard deviations within which a given shape is rebuilt; further out the model says nothing."""


@dataclass(frozen=True, eq=False)
class Block:
    """Structures that occur together.

    Parameters
    ----------
    members
        Their numbers.
    mean
        Of their fields, shape ``(P,)``.
    modes
        Unit vectors, shape ``(M, P)``, by falling variance.
    sd
        Of the maps along each mode, shape ``(M,)``.
    weight
        Of each value, by which structures of all sizes count alike, shape ``(P,)``.
    explained
        Share of the variance of each mode, and after them of every mode that was left out.
    """

    members: tuple[int, ...]
    mean: np.ndarray
    modes: np.ndarray
    sd: np.ndarray
    weight: np.ndarray
    explained: np.ndarray

    @classmethod
    def of(cls, fields: np.ndarray, members: tuple[int, ...], variance: float) -> Block:
        """Return the block of fields, shape ``(N, S, *shape)``, with the modes that explain a share of the variance."""
        chosen = fields[:, list(members)]
        mean = chosen.mean(axis=0)
        spread = np.square(chosen - mean).sum(axis=tuple(range(2, chosen.ndim))).mean(axis=0)
        weight = np.repeat(1 / np.sqrt(np.maximum(spread, 1e-12)), mean[0].size).astype(np.float32)
        centred = (chosen - mean).reshape(len(chosen), -1) * weight
        # Few rows, many columns: the modes come from the small matrix of inner products.
        values, vectors = np.linalg.eigh(centred.astype(np.float64) @ centred.T.astype(np.float64))
        values, vectors = np.maximum(values[::-1], 0), vectors[:, ::-1]
        real = values > 1e-6 * max(values[0], 1e-12)
        real[len(chosen) - 1 :] = False
        values, vectors = values[real], vectors[:, real]
        explained = values / max(values.sum(), 1e-12)
        count = int(np.searchsorted(np.cumsum(explained), variance - 1e-9) + 1) if len(values) else 0
        modes = (vectors[:, :count].T @ centred) / np.sqrt(values[:count, None])
        sd = np.sqrt(values[:count] / (len(chosen) - 1))
        return cls(members, mean.ravel(), modes.astype(np.float32), sd, weight, explained)

    def scores(self, fields: np.ndarray) -> np.ndarray:
        """Return the scores of fields ``(N, S, *shape)`` along the modes, shape ``(N, M)``, in standard deviations."""
        chosen = fields[:, list(self.members)].reshape(len(fields), -1)
        along: np.ndarray = ((chosen - self.mean) * self.weight) @ self.modes.T
        scores: np.ndarray = along / self.sd
        return scores

    def rebuilt(self, scores: np.ndarray) -> np.ndarray:
        """Return the block's fields, shape ``(P,)``, at scores ``(M,)``."""
        moved: np.ndarray = self.mean + ((scores * self.sd) @ self.modes) / self.weight
        return moved


@dataclass(frozen=True, eq=False)
class ShapeModel:
    """Blocks of structures, and how their modes and the pose vary together.

    Parameters
    ----------
    blocks
        Every structure is in one.
    joint
        Of the scores of all blocks, then the centre along each axis and the logarithm of the size.
    shape
        Of the working grid.
    """

    blocks: tuple[Block, ...]
    joint: Joint
    shape: tuple[int, int, int]

    @classmethod
    def of(
        cls, fields: np.ndarray, present: np.ndarray, poses: np.ndarray, names: Sequence[str], variance: float
    ) -> ShapeModel:
        """Return the model of aligned maps.

        Parameters
        ----------
        fields
            Shape ``(N, S, I, J, K)``.
        present
            Which structures each map shows, bool, shape ``(N, S)``.
        poses
            Of the maps: the centre along each axis and the logarithm of the size, shape ``(N, 4)``.
        names
            Of the structures, for messages.
        variance
            Share of the variance that the modes of each block explain.

        Raises
        ------
        DataError
            A structure is in fewer than `LEAST` maps.
        """
        blocks, scores = [], []
        for pattern in dict.fromkeys(tuple(column) for column in present.T):
            members = tuple(int(s) for s in np.flatnonzero((np.array(pattern) == present.T).all(axis=1)))
            shown = np.array(pattern)
            if shown.sum() < LEAST:
                raise DataError(
                    f"{', '.join(repr(names[s]) for s in members)}: only {shown.sum()} of {len(present)} training "
                    f"maps show it, a shape model needs {LEAST}",
                    why="two shapes are a straight line from one to the other",
                    fix="add cases that show it, leave the label out of the plan, or use the anatomy `warped`",
                )
            block = Block.of(fields[shown], members, variance)
            rows = np.full((len(present), len(block.sd)), np.nan)
            rows[shown] = block.scores(fields[shown])
            blocks.append(block)
            scores.append(rows)
        joint = Joint.of(np.concatenate([*scores, poses], axis=1))
        return cls(tuple(blocks), joint, (fields.shape[2], fields.shape[3], fields.shape[4]))

    @property
    def modes(self) -> int:
        """Number of modes of all blocks."""
        return sum(len(block.sd) for block in self.blocks)

    def draw(self, rng: np.random.Generator, present: np.ndarray, spread: float) -> tuple[np.ndarray, np.ndarray]:
        """Return fields, shape ``(S, *shape)``, and a pose, shape ``(4,)``, within ``spread`` standard deviations.

        Structures that are not ``present``, bool, shape ``(S,)``, are outside everywhere.
        """
        row = self.joint.draw(rng, spread)
        fields = self._at(row[: self.modes])
        fields[~present] = BAND
        return fields, row[self.modes :]

    def rebuilt(self, fields: np.ndarray) -> np.ndarray:
        """Return the model's nearest shapes to fields ``(N, S, *shape)``, of the same shape."""
        scores = np.concatenate([np.clip(b.scores(fields), -FARTHEST, FARTHEST) for b in self.blocks], axis=1)
        return np.stack([self._at(row) for row in scores])

    def _at(self, scores: np.ndarray) -> np.ndarray:
        out = np.full((sum(len(b.members) for b in self.blocks), *self.shape), BAND, np.float32)
        first = 0
        for block in self.blocks:
            after = first + len(block.sd)
            out[list(block.members)] = block.rebuilt(scores[first:after]).reshape(-1, *self.shape)
            first = after
        return out


__all__ = ["LEAST", "Block", "ShapeModel"]

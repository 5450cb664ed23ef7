"""How well a small classifier tells real images from simulated ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from equipoise.core import Case
from equipoise.errors import DataError
from equipoise.features.handmade import features_of, patches_of

SHRINKAGE = 0.1
"""Share of the pooled covariance that is replaced by its diagonal."""

RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class ToldApart:
    """The area under the ROC curve of real against simulated, per image, with its interval.

    Parameters
    ----------
    auc, low, high
        0.5: not told apart; 1: always. 95 % bootstrap over patients and simulated cases.
    real, simulated
        Images of each kind.
    clues
        Indices of the features that count most, strongest first.
    """

    auc: float
    low: float
    high: float
    real: int
    simulated: int
    clues: tuple[int, ...]


def tell_apart(
    real: Sequence[Case],
    simulated: Sequence[Case],
    rng: np.random.Generator,
    side: int = 64,
    count: int = 8,
    folds: int = 5,
) -> ToldApart:
    """Return how well a regularised linear discriminant on hand-made features tells real from simulated images.

    Each image is scored by a classifier that has seen no image of its patient. This measures fidelity, which never
    decides what to train on: an image may be told apart by its noise and still teach what it should.

    Parameters
    ----------
    real, simulated
        At least ``folds`` patients, and as many simulated cases.
    rng
        Places patches, deals the folds, and resamples.
    side
        Of the patches, in pixels; smaller where an image is.
    count
        Patches per image; an image's score is their mean.
    folds
        Of the cross-validation by patient.

    Raises
    ------
    DataError
        If there are fewer patients or simulated cases than folds.

    References
    ----------
    Friedman JH. Regularized discriminant analysis. JASA 1989;84:165-175. doi:10.1080/01621459.1989.10478752
    """
    everything = [*real, *simulated]
    people = np.array([case.patient for case in everything])
    kind = np.array([0] * len(real) + [1] * len(simulated))
    if min(len(set(people[kind == k])) for k in (0, 1)) < folds:
        raise DataError(
            f"telling apart needs at least {folds} patients and as many simulated cases, "
            f"got {len(set(people[kind == 0]))} and {len(set(people[kind == 1]))}",
            fix="give more cases, or fewer folds",
        )
    side = min([side, *(n for case in everything for n in case.image.geometry.shape[:2])])
    placing, dealing, resampling = rng.spawn(3)
    values = np.stack(
        [np.stack([features_of(p) for p in patches_of(c.image, side, count, placing)]) for c in everything]
    )
    fold = _deal(people, kind, folds, dealing)
    score = np.zeros(len(everything))
    weight = np.zeros(values.shape[-1])
    for number in range(folds):
        kept = fold != number
        direction, centre, scale = _discriminant(values[kept], kind[kept])
        score[~kept] = (((values[~kept] - centre) / scale) @ direction).mean(axis=1)
        weight += np.abs(direction)
    low, high = _interval(score, kind, people, resampling)
    clues = tuple(int(i) for i in np.argsort(weight)[::-1][:5])
    return ToldApart(_auc(score, kind), low, high, len(real), len(simulated), clues)


def _deal(people: np.ndarray, kind: np.ndarray, folds: int, rng: np.random.Generator) -> np.ndarray:
    """Return the fold of each image: patients stay whole, and each fold has both kinds."""
    fold = np.zeros(len(people), int)
    for k in (0, 1):
        names = rng.permutation(np.unique(people[kind == k]))
        place = {name: i % folds for i, name in enumerate(names)}
        fold[kind == k] = [place[name] for name in people[kind == k]]
    return fold


def _discriminant(values: np.ndarray, kind: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the direction from real to simulated in standardised features, their mean and their SD."""
    flat, labels = values.reshape(-1, values.shape[-1]), np.repeat(kind, values.shape[1])
    centre, scale = flat.mean(axis=0), np.maximum(flat.std(axis=0), 1e-9)
    z = (flat - centre) / scale
    means = [z[labels == k].mean(axis=0) for k in (0, 1)]
    inner = np.concatenate([z[labels == k] - means[k] for k in (0, 1)])
    pooled = inner.T @ inner / len(inner)
    pooled = (1 - SHRINKAGE) * pooled + SHRINKAGE * np.diag(np.diag(pooled)) + 1e-6 * np.eye(len(pooled))
    return np.linalg.solve(pooled, means[1] - means[0]), centre, scale


def _auc(score: np.ndarray, kind: np.ndarray) -> float:
    ranks = stats.rankdata(score)
    many, few = int((kind == 1).sum()), int((kind == 0).sum())
    return float((ranks[kind == 1].sum() - many * (many + 1) / 2) / (many * few))


def _interval(score: np.ndarray, kind: np.ndarray, people: np.ndarray, rng: np.random.Generator) -> tuple[float, float]:
    groups = {k: [np.flatnonzero((people == p) & (kind == k)) for p in np.unique(people[kind == k])] for k in (0, 1)}
    drawn = []
    for _ in range(RESAMPLES):
        picked = np.concatenate([g[i] for g in groups.values() for i in rng.integers(len(g), size=len(g))])
        drawn.append(_auc(score[picked], kind[picked]))
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(low), float(high)

"""k-means of voxel values: the sub-labels of tissue that nobody labelled."""

from __future__ import annotations

import numpy as np


def cluster(values: np.ndarray, clusters: int, rng: np.random.Generator) -> tuple[np.ndarray, float]:
    """Return k-means centres, and how soft the borders between them are.

    Parameters
    ----------
    values
        Shape ``(N, C)``, N at least 1.
    clusters
        How many centres; fewer come back where there are not so many different values.
    rng
        Of the subsample of 20,000 values and of the first centres.

    Returns
    -------
    tuple
        Centres, float32, shape ``(clusters, C)``, and half their mean nearest distance.

    References
    ----------
    Arthur D, Vassilvitskii S. k-means++: the advantages of careful seeding. SODA 2007:1027-1035.
    """
    values = values[rng.choice(len(values), min(len(values), 20_000), replace=False)]
    centres = values[rng.integers(len(values))][None]
    for _ in range(1, clusters):
        far = distances(values, centres).min(axis=1)
        if far.sum() <= 0:
            break
        centres = np.concatenate([centres, values[rng.choice(len(values), p=far / far.sum())][None]])
    for _ in range(20):
        nearest = distances(values, centres).argmin(axis=1)
        centres = np.stack(
            [values[nearest == t].mean(axis=0) if (nearest == t).any() else c for t, c in enumerate(centres)]
        )
    if len(centres) == 1:
        return centres.astype(np.float32), 0.1
    apart = np.sqrt(distances(centres, centres)) + np.diag(np.full(len(centres), np.inf))
    return centres.astype(np.float32), max(0.5 * float(apart.min(axis=1).mean()), 0.02)


def distances(values: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Return squared distances, shape ``(N, K)``, of values ``(N, C)`` from centres ``(K, C)``."""
    squares: np.ndarray = ((values[:, None].astype(np.float64) - centres[None]) ** 2).sum(axis=-1)
    return squares

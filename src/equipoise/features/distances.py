"""Distances between two sets of images, taken on their features: how close, how varied, how plausible.

None of them decides anything in this project: they say when a training may stop and which samples are implausible, and
stand in the report beside their measured correlation with utility.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import linalg

from equipoise.errors import DataError


def kernel_distance(real: np.ndarray, made: np.ndarray) -> float:
    """Return the squared maximum mean discrepancy of two sets of features under a cubic kernel, without bias.

    Unlike the Fréchet distance its expectation does not depend on the number of images, so that sets of a dozen images
    can be compared; around 0 two sets are alike, and small negative values are chance.

    Parameters
    ----------
    real, made
        Shape ``(N, D)`` and ``(M, D)``, at least two rows each.

    Raises
    ------
    DataError
        If there are fewer than two rows, or the widths differ.

    References
    ----------
    Binkowski M et al. Demystifying MMD GANs (kernel Inception distance). ICLR 2018. arXiv:1801.01401
    """
    x, y = _two(real, made)
    inner_x, inner_y, across = _cubic(x, x), _cubic(y, y), _cubic(x, y)
    n, m = len(x), len(y)
    own = (inner_x.sum() - np.trace(inner_x)) / (n * (n - 1)) + (inner_y.sum() - np.trace(inner_y)) / (m * (m - 1))
    return float(own - 2 * across.mean())


def frechet_distance(real: np.ndarray, made: np.ndarray) -> float:
    """Return the Fréchet distance of the normal distributions with the two sets' means and covariances.

    It falls with the number of images: compare only sets of equal size.

    Parameters
    ----------
    real, made
        Shape ``(N, D)`` and ``(M, D)``, at least two rows each.

    References
    ----------
    Dowson DC, Landau BV. The Fréchet distance between multivariate normal distributions. J Multivar Anal
    1982;12:450-455. Heusel M et al. GANs trained by a two time-scale update rule. NeurIPS 2017. arXiv:1706.08500
    """
    x, y = _two(real, made)
    gap = x.mean(axis=0) - y.mean(axis=0)
    a, b = (np.atleast_2d(np.cov(z, rowvar=False)) for z in (x, y))
    # tr sqrt(ab) = tr sqrt(sqrt(a) b sqrt(a)): symmetric, so that rounding makes no imaginary parts.
    values, vectors = linalg.eigh(a)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    shared = np.sqrt(np.maximum(linalg.eigvalsh(root @ b @ root), 0)).sum()
    return float(max(gap @ gap + np.trace(a) + np.trace(b) - 2 * shared, 0.0))


@dataclass(frozen=True, slots=True)
class Manifold:
    """How two sets of images lie among one another.

    Parameters
    ----------
    precision
        Share of made images that lie as near to a real image as its k-th real neighbour: plausible ones.
    recall
        Share of real images that lie as near to a made image as its k-th made neighbour: what is covered.
    density
        Real neighbourhoods around a made image, over k: 1 where both sets are alike.
    coverage
        Share of real images in whose own neighbourhood a made image lies.
    """

    precision: float
    recall: float
    density: float
    coverage: float


def manifold(real: np.ndarray, made: np.ndarray, k: int = 5) -> Manifold:
    """Return precision, recall, density and coverage of made images.

    Parameters
    ----------
    real, made
        Shape ``(N, D)`` and ``(M, D)``, more than ``k`` rows each.
    k
        Neighbours that span a neighbourhood.

    Raises
    ------
    DataError
        If a set has no more than ``k`` rows.

    References
    ----------
    Kynkäänniemi T et al. Improved precision and recall metric for assessing generative models. NeurIPS 2019.
    arXiv:1904.06991. Naeem MF et al. Reliable fidelity and diversity metrics. ICML 2020. arXiv:2002.09797
    """
    x, y = _two(real, made)
    if min(len(x), len(y)) <= k:
        raise DataError(
            f"neighbourhoods of {k} need more than {k} images in each set, got {len(x)} and {len(y)}",
            fix=f"give more images, or k = {max(min(len(x), len(y)) - 1, 1)}",
        )
    across = _apart(x, y)
    own_x, own_y = (np.sort(_apart(z, z), axis=1)[:, k] for z in (x, y))  # the first neighbour is oneself
    within = across <= own_x[:, None]
    return Manifold(
        float(within.any(axis=0).mean()),
        float((across <= own_y[None]).any(axis=1).mean()),
        float(within.sum() / (k * len(y))),
        float((across.min(axis=1) <= own_x).mean()),
    )


def spread(features: np.ndarray) -> float:
    """Return the mean distance between two different rows, 0 if all are the same: the diversity of a set.

    Parameters
    ----------
    features
        Shape ``(N, D)``, at least two rows.
    """
    x, _ = _two(features, features)
    return float(_apart(x, x).sum() / (len(x) * (len(x) - 1)))


def _two(real: np.ndarray, made: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    x, y = np.asarray(real, float), np.asarray(made, float)
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1] or min(len(x), len(y)) < 2:
        raise DataError(
            f"two sets of features need at least two rows each and one width, got shapes {x.shape} and {y.shape}",
            fix="give features of two or more images of each set, from one encoder",
        )
    return x, y


def _cubic(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    kernel: np.ndarray = (x @ y.T / x.shape[1] + 1) ** 3
    return kernel


def _apart(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return Euclidean distances, shape ``(N, M)``."""
    squared = (x**2).sum(1)[:, None] + (y**2).sum(1)[None] - 2 * x @ y.T
    apart: np.ndarray = np.sqrt(np.maximum(squared, 0))
    if x is y:
        np.fill_diagonal(apart, 0)  # rounding leaves up to 1e-7 there
    return apart


__all__ = ["Manifold", "frechet_distance", "kernel_distance", "manifold", "spread"]

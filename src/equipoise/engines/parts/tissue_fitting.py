"""Fitting of a `TissueModel`: dividing what training images show into sub-labels, and measuring each of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from equipoise.core import Case, LabelMap
from equipoise.engines.parts.appearance import blur
from equipoise.engines.parts.clusters import cluster, distances
from equipoise.engines.parts.texture import Texture, measure_texture
from equipoise.errors import DataError

PropertyOf = Callable[[Case], np.ndarray]
"""From a real case to the properties that a simulator needs, float32, shape ``(P, I, J, K)``."""

SAMPLED = 8192
"""Voxels per case and region that the clusters are estimated from."""

EDGES = (0.0, 0.5, 0.8, 1.2, 1.8, 2.7)
"""Widths of a border between sub-labels, as the SD of a Gaussian in voxels, that are tried on the training images."""

FEWEST = 8
"""Voxels of a sub-label in one case below which its values say nothing."""


@dataclass(frozen=True, eq=False)
class Look:
    """The properties of each sub-label in one case.

    Parameters
    ----------
    mean
        Shape ``(K, P)``.
    spread
        Factor of the covariance of the grain, shape ``(K * D, P, P)`` at D depths, see `grains_of`.
    """

    mean: np.ndarray
    spread: np.ndarray


@dataclass(frozen=True, eq=False)
class Fitted:
    """What some cases say, in their order: see `TissueModel`."""

    region: np.ndarray
    maps: list[np.ndarray]
    looks: list[Look]
    texture: Texture
    edge: float


def fit_tissue(
    cases: Sequence[Case],
    property_of: PropertyOf,
    rng: np.random.Generator,
    classes: int,
    inner: int,
    smooth: float,
    depths: Sequence[int],
) -> Fitted:
    """Return what training cases say; parameters and errors as of `TissueModel.fit`."""
    if not cases:
        raise DataError("there is no training case to learn tissue from", fix="give at least one real case")
    values = [_checked(property_of(case), case) for case in cases]
    regions = [regions_of(case.labels) for case in cases]
    soft = [_normalised(blur(v, (smooth,) * 3)) for v in values]
    centres, region = _centres(soft, regions, len(cases[0].labels.scheme.labels), classes, inner, rng)
    maps = [_assign(s, r, centres, region) for s, r in zip(soft, regions, strict=True)]
    edge = min(
        EDGES, key=lambda width: sum(_misfit(v, m, len(region), width) for v, m in zip(values, maps, strict=True))
    )
    count = len(region)
    grains = [grains_of(m, depths) for m in maps]
    rest = [v - _drawn(v, m, count, edge) for v, m in zip(values, maps, strict=True)]
    spreads = [_spread(r, g, count * (len(depths) + 1)) for r, g in zip(rest, grains, strict=True)]
    looks = _completed(
        [Look(_means(v, m, count), spread) for v, m, spread in zip(values, maps, spreads, strict=True)],
        _pooled(values, maps, count),
        np.repeat(region, len(depths) + 1),
    )
    texture = measure_texture(
        [_standardised(r, g, look) for r, g, look in zip(rest, grains, looks, strict=True)],
        [np.ones(m.shape, bool) for m in maps],
    )
    return Fitted(region, maps, looks, texture, edge)


def regions_of(labels: LabelMap) -> np.ndarray:
    """Return 0 where nothing is labelled and ``n + 1`` under label n, the later one on top; uint8 ``(I, J, K)``."""
    regions = np.zeros(labels.geometry.shape, np.uint8)
    for number, channel in enumerate(labels.array, 1):
        regions[channel > 0] = number
    return regions


def grains_of(under: np.ndarray, depths: Sequence[int]) -> np.ndarray:
    """Return the kind of grain in every voxel, int, shape ``(I, J, K)``: its sub-label, and how deep in it it lies.

    What clustering cannot follow lies along the borders of sub-labels, and the middle of a wide one is calm: glass is
    clear, however ragged the tissue at its edge.

    Parameters
    ----------
    under
        Sub-labels.
    depths
        Rising distances from the nearest other sub-label in voxels (along the axes, diagonals included) that divide
        grain into ``len(depths) + 1`` kinds of each sub-label; none for one kind.
    """
    kind = under.astype(np.intp) * (len(depths) + 1)
    for depth in depths:
        size = [1 if n == 1 else 2 * depth + 1 for n in under.shape]
        kind += ndimage.maximum_filter(under, size) == ndimage.minimum_filter(under, size)
    return kind


def _checked(values: np.ndarray, case: Case) -> np.ndarray:
    if not np.isfinite(values).all():
        raise DataError(f"case {case.id!r} holds NaN or infinite values", file=case.file, fix="repair or leave it out")
    return np.ascontiguousarray(values, np.float32)


def _normalised(values: np.ndarray) -> np.ndarray:
    """Return the values with mean 0 and SD 1 per property: gain and offset of one examination make no sub-labels."""
    mean, sd = values.mean(axis=(1, 2, 3), keepdims=True), values.std(axis=(1, 2, 3), keepdims=True)
    normal: np.ndarray = (values - mean) / np.maximum(sd, 1e-6)
    return normal


def _centres(
    soft: Sequence[np.ndarray],
    regions: Sequence[np.ndarray],
    labels: int,
    classes: int,
    inner: int,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the centres of all sub-labels ``(K, P)`` and the region of each ``(K,)``."""
    found, owner = [], []
    for number in range(labels + 1):
        seen = [_subsample(s[:, r == number].T, rng) for s, r in zip(soft, regions, strict=True)]
        pooled = np.concatenate(seen)
        if not len(pooled):  # a label that no training case shows
            pooled = np.concatenate([s.reshape(len(s), -1).mean(axis=1)[None] for s in soft])
        centres, _ = cluster(pooled, inner if number else classes, rng)
        found.append(centres)
        owner += [number] * len(centres)
    return np.concatenate(found), np.array(owner)


def _subsample(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return values if len(values) <= SAMPLED else values[rng.choice(len(values), SAMPLED, replace=False)]


def _assign(soft: np.ndarray, regions: np.ndarray, centres: np.ndarray, region: np.ndarray) -> np.ndarray:
    """Return the nearest sub-label of the voxel's own region, uint8 ``(I, J, K)``."""
    under = np.zeros(regions.shape, np.uint8)
    for number in np.unique(regions):
        options, here = np.flatnonzero(region == number), regions == number
        best = np.concatenate(
            [distances(part, centres[options]).argmin(axis=1) for part in _blocks(soft[:, here].T)]
            or [np.zeros(0, int)]
        )
        under[here] = options[best]
    return under


def _blocks(values: np.ndarray, size: int = 262_144) -> list[np.ndarray]:
    return [values[i : i + size] for i in range(0, len(values), size)]


def _means(values: np.ndarray, under: np.ndarray, count: int) -> np.ndarray:
    """Return the mean of each sub-label, ``(K, P)``; NaN for one with too few voxels."""
    flat = under.ravel()
    size = np.bincount(flat, minlength=count)
    sums = np.stack([np.bincount(flat, channel.ravel(), count) for channel in values], axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(size[:, None] >= FEWEST, sums / size[:, None], np.nan)


def _drawn(values: np.ndarray, under: np.ndarray, count: int, edge: float) -> np.ndarray:
    """Return the values with every sub-label replaced by its mean, and soft borders."""
    means = _means(values, under, count)
    means = np.where(np.isnan(means), np.nan_to_num(np.nanmean(means, axis=0)), means)
    return blur(np.moveaxis(means[under], -1, 0).astype(np.float32), (edge,) * 3)


def _misfit(values: np.ndarray, under: np.ndarray, count: int, edge: float) -> float:
    return float(np.square(values - _drawn(values, under, count, edge), dtype=np.float64).mean())


def _spread(rest: np.ndarray, under: np.ndarray, count: int) -> np.ndarray:
    """Return the factor of the covariance of each kind of grain, ``(K, P, P)``; NaN for one with too few voxels."""
    channels = len(rest)
    spread = np.full((count, channels, channels), np.nan)
    for number in range(count):
        inside = rest[:, under == number].astype(np.float64)
        if inside.shape[1] >= max(FEWEST, 2 * channels):
            spread[number] = _root(np.atleast_2d(np.cov(inside)))
    return spread


def _root(covariance: np.ndarray) -> np.ndarray:
    """Return the symmetric square root: of any number of channels, none of which is the first."""
    power, axes = np.linalg.eigh(covariance)
    root: np.ndarray = (axes * np.sqrt(np.maximum(power, 0))) @ axes.T
    return root


def _pooled(values: Sequence[np.ndarray], maps: Sequence[np.ndarray], count: int) -> np.ndarray:
    """Return the mean of each sub-label over the voxels of all cases, ``(K, P)``."""
    size = sum(np.bincount(m.ravel(), minlength=count) for m in maps)
    sums = sum(
        np.stack([np.bincount(m.ravel(), channel.ravel(), count) for channel in v], axis=-1)
        for v, m in zip(values, maps, strict=True)
    )
    mean: np.ndarray = sums / np.maximum(size, 1)[:, None]
    return mean


def _completed(looks: Sequence[Look], pooled: np.ndarray, region: np.ndarray) -> list[Look]:
    """Return the looks with what a case shows too little of taken from the mean over the others.

    Where every case shows too little, the mean is that of all their voxels, and the spread that of the sub-labels of
    the same region, else of all.
    """
    with np.errstate(invalid="ignore"):
        mean, spread = (_nanmean(np.stack([getattr(x, name) for x in looks])) for name in ("mean", "spread"))
    mean = np.where(np.isnan(mean), pooled, mean)
    for number in np.flatnonzero(np.isnan(spread).any(axis=(1, 2))):
        alike = _nanmean(spread[region == region[number]])
        spread[number] = np.nan_to_num(_nanmean(spread) if np.isnan(alike).any() else alike)
    return [
        Look(np.where(np.isnan(x.mean), mean, x.mean), np.where(np.isnan(x.spread), spread, x.spread)) for x in looks
    ]


def _nanmean(values: np.ndarray) -> np.ndarray:
    """Return the mean over the first axis of what is known; NaN where nothing is."""
    known = ~np.isnan(values)
    count = known.sum(axis=0)
    mean: np.ndarray = np.where(count > 0, np.where(known, values, 0).sum(axis=0) / np.maximum(count, 1), np.nan)
    return mean


def _standardised(rest: np.ndarray, under: np.ndarray, look: Look) -> np.ndarray:
    """Return the rest in units of its own sub-label's spread, float32 ``(P, I, J, K)``."""
    scale = np.sqrt(np.maximum(np.einsum("kpq,kpq->kp", look.spread, look.spread), 1e-12))
    unit: np.ndarray = (rest / np.moveaxis(scale[under], -1, 0)).astype(np.float32)
    return unit


__all__ = ["Fitted", "Look", "PropertyOf", "fit_tissue", "grains_of", "regions_of"]

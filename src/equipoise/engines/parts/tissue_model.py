"""What training images say about the tissue inside every label, and about the tissue that nobody labelled.

A segmentation names one structure; all else is "background", although it holds several tissues, and a chest film's lung
holds ribs. A simulator that drew either as one flat value would give itself away at once. Each region (a label, or what
has none) is therefore divided into internal sub-labels by clustering what the images show, in the physical property
that the simulator needs: echogenicity, optical density, attenuation. A scene is drawn from the sub-labels of one
training case, the values of another one, and a texture measured on all of them; the physics comes on top.

References
----------
Billot B, Greve DN, Puonti O, et al. SynthSeg: segmentation of brain MRI scans of any contrast and resolution without
retraining. Medical Image Analysis 2023;86:102789. doi:10.1016/j.media.2023.102789
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from equipoise.core import Case, LabelMap, patients_of
from equipoise.engines.parts.appearance import blur
from equipoise.engines.parts.clusters import cluster, distances
from equipoise.engines.parts.placement import Placement
from equipoise.engines.parts.texture import Texture, measure_texture
from equipoise.errors import DataError, LabelError

PropertyOf = Callable[[Case], np.ndarray]
"""From a real case to the properties that a simulator needs, float32, shape ``(P, I, J, K)``."""

SAMPLED = 8192
"""Voxels per case and region that the clusters are estimated from."""

EDGES = (0.0, 0.5, 0.8, 1.2, 1.8, 2.7)
"""Widths of a border between sub-labels, as the SD of a Gaussian in voxels, that are tried on the training images."""

FEWEST = 8
"""Voxels of a sub-label in one case below which its values say nothing."""

COARSE = 32
"""Samples per axis at which label maps are compared."""


@dataclass(frozen=True, eq=False)
class _Look:
    """The properties of each sub-label in one case: mean ``(K, P)`` and the factor of the covariance ``(K, P, P)``."""

    mean: np.ndarray
    spread: np.ndarray


@dataclass(frozen=True, eq=False)
class TissueModel:
    """Sub-labels of every training case, how each looks in each case, and their common texture.

    Parameters
    ----------
    scheme_names
        The labels, in channel order.
    region
        Of each sub-label: 0 for unlabelled tissue, ``n + 1`` for label n; shape ``(K,)``.
    maps
        Sub-label of every voxel by training case, uint8, shape ``(I, J, K)``.
    looks
        By training case; a sub-label that a case does not show has the mean over the others.
    texture
        Of the properties within sub-labels.
    edge
        Width of the borders between sub-labels, as the SD of a Gaussian in voxels.
    parents
        The patients.
    """

    scheme_names: tuple[str, ...]
    region: np.ndarray
    maps: Mapping[str, np.ndarray]
    looks: Mapping[str, _Look]
    texture: Texture
    edge: float
    parents: frozenset[str]

    @classmethod
    def fit(
        cls,
        cases: Sequence[Case],
        property_of: PropertyOf,
        rng: np.random.Generator,
        classes: int = 6,
        inner: int = 3,
        smooth: float = 1.5,
    ) -> TissueModel:
        """Return what some training cases say.

        Parameters
        ----------
        cases
            With label maps of one scheme.
        property_of
            Inverse of the imaging.
        rng
            Of the subsamples and the first cluster centres.
        classes, inner
            Sub-labels of what nobody labelled, and of each label.
        smooth
            SD in voxels of the blur before clustering, so that noise and grain make no sub-labels of their own.

        Raises
        ------
        DataError
            If there is no case, or a property is not a finite number.
        """
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
        measured = [_measure(v, m, len(region), edge) for v, m in zip(values, maps, strict=True)]
        looks = _completed([look for look, _ in measured], _pooled(values, maps, len(region)), region)
        texture = measure_texture(
            [_standardised(rest, m, look) for (_, rest), m, look in zip(measured, maps, looks, strict=True)],
            [np.ones(m.shape, bool) for m in maps],
        )
        ids = [case.id for case in cases]
        return cls(
            cases[0].labels.scheme.names,
            region,
            dict(zip(ids, maps, strict=True)),
            dict(zip(ids, looks, strict=True)),
            texture,
            edge,
            patients_of(cases),
        )

    def scene(
        self, labels: LabelMap, placement: Placement | None, rng: np.random.Generator, texture: float = 1.0
    ) -> np.ndarray:
        """Return properties under a label map.

        Parameters
        ----------
        labels
            With the labels of the training cases.
        placement
            Where a training case's tissue came to lie; without one, the case whose labels lie most alike is stretched
            over the grid.
        rng
            Chooses the case whose values are taken, and draws the texture.
        texture
            Factor on the strength of the texture: less than 1 where the simulator adds the imaging's own noise.

        Returns
        -------
        np.ndarray
            float32, shape ``(P, I, J, K)``.
        """
        if labels.scheme.names != self.scheme_names:
            raise LabelError(
                f"tissue was learned under the labels {self.scheme_names}, this map has {labels.scheme.names}",
                fix="fit the engine on cases with the labels that it is to render",
            )
        names = sorted(self.looks)
        look = self.looks[names[int(rng.integers(len(names)))]]
        under = self.sublabels(labels, placement)
        mean = blur(np.moveaxis(look.mean[under], -1, 0).astype(np.float32), (self.edge,) * 3)
        grain = self.texture.draw(labels.geometry.shape, len(mean), rng)
        spread = (look.spread * texture).astype(np.float32)[under]
        drawn: np.ndarray = mean + np.einsum("ijkpq,qijk->pijk", spread, grain, optimize=True)
        return drawn

    def sublabels(self, labels: LabelMap, placement: Placement | None = None) -> np.ndarray:
        """Return the sub-label of every voxel of a label map, uint8, shape ``(I, J, K)``.

        A sub-label never crosses the border of its label: where the training case's labels do not lie exactly under
        the given ones, the nearest voxel of the right region decides.
        """
        if placement is None or placement.source not in self.maps:
            placement = self._stretched(labels)
        carried = placement.carry(self.maps[placement.source][None])[0]
        wanted = regions_of(labels)
        wrong = self.region[carried] != wanted
        for number in np.unique(wanted[wrong]):
            good = (self.region[carried] == number) & ~wrong
            here = wrong & (wanted == number)
            if good.any():
                nearest = ndimage.distance_transform_edt(~good, return_distances=False, return_indices=True)
                carried[here] = carried[tuple(axis[here] for axis in nearest)]
            else:
                carried[here] = np.flatnonzero(self.region == number)[0]
        found: np.ndarray = carried
        return found

    def _stretched(self, labels: LabelMap) -> Placement:
        """Return the training case with the most similar label map, stretched over the grid."""
        shape = np.array(labels.geometry.shape)
        wanted = _sampled(regions_of(labels))
        alike = {name: float((self.region[_sampled(m)] == wanted).mean()) for name, m in self.maps.items()}
        source = max(sorted(alike), key=lambda name: alike[name])
        scale = np.array(self.maps[source].shape) / shape
        i, j, k = labels.geometry.shape
        return Placement(source, (i, j, k), np.diag(scale), 0.5 * scale - 0.5)


def regions_of(labels: LabelMap) -> np.ndarray:
    """Return 0 where nothing is labelled and ``n + 1`` under label n, the later one on top; uint8 ``(I, J, K)``."""
    regions = np.zeros(labels.geometry.shape, np.uint8)
    for number, channel in enumerate(labels.array, 1):
        regions[channel > 0] = number
    return regions


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


def _measure(values: np.ndarray, under: np.ndarray, count: int, edge: float) -> tuple[_Look, np.ndarray]:
    """Return how each sub-label looks in a case, and what is left of the image."""
    rest = values - _drawn(values, under, count, edge)
    channels = len(values)
    spread = np.full((count, channels, channels), np.nan)
    for number in range(count):
        inside = rest[:, under == number].astype(np.float64)
        if inside.shape[1] >= max(FEWEST, 2 * channels):
            spread[number] = _root(np.atleast_2d(np.cov(inside)))
    return _Look(_means(values, under, count), spread), rest


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


def _completed(looks: Sequence[_Look], pooled: np.ndarray, region: np.ndarray) -> list[_Look]:
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
        _Look(np.where(np.isnan(x.mean), mean, x.mean), np.where(np.isnan(x.spread), spread, x.spread)) for x in looks
    ]


def _nanmean(values: np.ndarray) -> np.ndarray:
    """Return the mean over the first axis of what is known; NaN where nothing is."""
    known = ~np.isnan(values)
    count = known.sum(axis=0)
    mean: np.ndarray = np.where(count > 0, np.where(known, values, 0).sum(axis=0) / np.maximum(count, 1), np.nan)
    return mean


def _standardised(rest: np.ndarray, under: np.ndarray, look: _Look) -> np.ndarray:
    """Return the rest in units of its own sub-label's spread, float32 ``(P, I, J, K)``."""
    scale = np.sqrt(np.maximum(np.einsum("kpq,kpq->kp", look.spread, look.spread), 1e-12))
    unit: np.ndarray = (rest / np.moveaxis(scale[under], -1, 0)).astype(np.float32)
    return unit


def _sampled(array: np.ndarray) -> np.ndarray:
    """Return an array at `COARSE` places per axis."""
    index = [
        ((np.arange(COARSE if n > 1 else 1) + 0.5) * n / (COARSE if n > 1 else 1)).astype(int) for n in array.shape
    ]
    few: np.ndarray = array[np.ix_(*index)]
    return few

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

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from equipoise.core import Case, LabelMap, patients_of
from equipoise.engines.parts.appearance import blur
from equipoise.engines.parts.placement import Placement
from equipoise.engines.parts.texture import Texture
from equipoise.engines.parts.tissue_fitting import Look, PropertyOf, fit_tissue, grains_of, regions_of
from equipoise.errors import LabelError

COARSE = 32
"""Samples per axis at which label maps are compared."""


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
    depths
        At which the grain of a sub-label differs, see `equipoise.engines.parts.tissue_fitting.grains_of`.
    """

    scheme_names: tuple[str, ...]
    region: np.ndarray
    maps: Mapping[str, np.ndarray]
    looks: Mapping[str, Look]
    texture: Texture
    edge: float
    parents: frozenset[str]
    depths: tuple[int, ...] = ()

    @classmethod
    def fit(
        cls,
        cases: Sequence[Case],
        property_of: PropertyOf,
        rng: np.random.Generator,
        classes: int = 6,
        inner: int = 3,
        smooth: float = 1.5,
        depths: tuple[int, ...] = (),
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
        depths
            Distances in voxels from the border of a sub-label between which its grain is measured apart.

        Raises
        ------
        DataError
            If there is no case, or a property is not a finite number.
        """
        fitted = fit_tissue(cases, property_of, rng, classes, inner, smooth, depths)
        ids = [case.id for case in cases]
        return cls(
            cases[0].labels.scheme.names,
            fitted.region,
            dict(zip(ids, fitted.maps, strict=True)),
            dict(zip(ids, fitted.looks, strict=True)),
            fitted.texture,
            fitted.edge,
            patients_of(cases),
            depths,
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
        spread = (look.spread * texture).astype(np.float32)[grains_of(under, self.depths)]
        drawn: np.ndarray = mean + np.einsum("ijkpq,qijk->pijk", spread, grain, optimize=True)
        return drawn

    def sublabels(self, labels: LabelMap, placement: Placement | None = None) -> np.ndarray:
        """Return the sub-label of every voxel of a label map, uint8, shape ``(I, J, K)``.

        A sub-label never crosses the border of its label: where the training case's labels do not lie exactly under
        the given ones, the nearest voxel of the right region decides.
        """
        if placement is None or placement.source not in self.maps:
            placement = self.stretched(labels)
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

    def stretched(self, labels: LabelMap) -> Placement:
        """Return the training case with the most similar label map, stretched over the grid."""
        shape = np.array(labels.geometry.shape)
        wanted = _sampled(regions_of(labels))
        alike = {name: float((self.region[_sampled(m)] == wanted).mean()) for name, m in self.maps.items()}
        source = max(sorted(alike), key=lambda name: alike[name])
        scale = np.array(self.maps[source].shape) / shape
        i, j, k = labels.geometry.shape
        return Placement(source, (i, j, k), np.diag(scale), 0.5 * scale - 0.5)


def _sampled(array: np.ndarray) -> np.ndarray:
    """Return an array at `COARSE` places per axis."""
    index = [
        ((np.arange(COARSE if n > 1 else 1) + 0.5) * n / (COARSE if n > 1 else 1)).astype(int) for n in array.shape
    ]
    few: np.ndarray = array[np.ix_(*index)]
    return few


__all__ = ["TissueModel", "regions_of"]

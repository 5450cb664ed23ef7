"""What lies under the labels of films: the thickness of the patient, and what there is in it.

A film's attenuation varies slowly with how thick the patient is, and quickly with ribs, vessels and lung markings. The
slow part is carried along with the labels of a training film, each region's own, with the tones of another one;
sub-labels and texture are learned of what is left, which they do not have to draw in steps.

References
----------
Immerkær J. Fast noise variance estimation. Comput Vis Image Underst 1996. doi:10.1006/cviu.1996.0060
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from equipoise.core import Case, LabelMap
from equipoise.engines.parts.placement import Placement
from equipoise.engines.parts.tissue_fitting import regions_of
from equipoise.engines.parts.tissue_model import TissueModel

AttenuationOf = Callable[[Case], np.ndarray]
"""From a film to its attenuation (a natural logarithm), float32, shape ``(I, J)``."""

SLOW = 1 / 24
"""Standard deviation of the Gaussian below which structures are none of the patient's thickness, of the longer side."""
NODES = 48
"""Per axis that thickness is kept at; finer than `SLOW`."""
BORDER_PX = 1.0
"""Standard deviation of the blur of borders between regions: no outline of a film is sharper."""
QUANTILES = np.linspace(0, 1, 9)
"""Of the slow part, between which one film's tones are another one's."""
LEAST_NOISE = 0.25 / 255
"""Of the whole range: 8-bit grey values show no less."""


@dataclass(frozen=True, eq=False)
class Thickness:
    """The slow part of one film's attenuation.

    Parameters
    ----------
    nodes
        Of each region (nothing labelled, then each label) as if it filled the film, float32, shape ``(R, N, N)``.
    tones
        Quantiles over the film, at `QUANTILES`.
    shape
        Columns and rows of the film.
    """

    nodes: np.ndarray
    tones: np.ndarray
    shape: tuple[int, int]

    @classmethod
    def of(cls, attenuation: np.ndarray, regions: np.ndarray, count: int) -> tuple[Thickness, np.ndarray]:
        """Return the slow part of an attenuation of shape ``(I, J)``, and the same on the film's own pixels."""
        sigma = SLOW * max(attenuation.shape)
        fields = []
        own = np.zeros_like(attenuation)
        for number in range(count):
            inside = regions == number
            slow = _spread_out(attenuation, inside, sigma)
            fields.append(ndimage.zoom(slow, [NODES / n for n in slow.shape], order=1, grid_mode=True, mode="nearest"))
            own[inside] = slow[inside]
        i, j = attenuation.shape
        own = ndimage.gaussian_filter(own, BORDER_PX)
        return cls(np.array(fields, np.float32), np.quantile(own, QUANTILES), (i, j)), own


@dataclass(frozen=True, eq=False)
class FilmTissue:
    """Thickness by training film, and a model of the detail.

    Parameters
    ----------
    thickness
        By training case.
    detail
        Of what thickness leaves.
    noise
        Standard deviation of each film's white noise, as a natural logarithm.
    """

    thickness: Mapping[str, Thickness]
    detail: TissueModel
    noise: tuple[float, ...]

    @classmethod
    def fit(
        cls, cases: Sequence[Case], attenuation_of: AttenuationOf, span: float, rng: np.random.Generator,
        sublabels: tuple[int, int],
    ) -> FilmTissue:  # fmt: skip
        """Return what films say.

        Parameters
        ----------
        attenuation_of
            Inverse of the display.
        span
            Of the attenuations that a film can show.
        sublabels
            Kinds of detail outside and inside of labels.
        """
        count = len(cases[0].labels.scheme.labels) + 1
        thickness, detail, noise = {}, {}, []
        for case in cases:
            attenuation = attenuation_of(case)
            thickness[case.id], slow = Thickness.of(attenuation, regions_of(case.labels)[..., 0], count)
            detail[case.id] = (attenuation - slow)[None, ..., None].astype(np.float32)
            noise.append(max(noise_of(attenuation), LEAST_NOISE * span))
        model = TissueModel.fit(cases, lambda case: detail[case.id], rng, *sublabels, smooth=1.0)
        return cls(thickness, model, tuple(noise))

    def draw(self, labels: LabelMap, placement: Placement | None, grain: float, rng: np.random.Generator) -> np.ndarray:
        """Return the attenuation of a film's label map, float32, shape ``(I, J)``.

        Parameters
        ----------
        placement
            Where a training film came to lie; without one, a drawn one is stretched over the grid.
        grain
            Share of the films' texture that is drawn.
        """
        names = sorted(self.thickness)
        chosen, other = (names[int(n)] for n in rng.integers(len(names), size=2))
        known = placement is not None and placement.source in self.thickness
        source = placement.source if placement is not None and known else chosen
        detail = self.detail.scene(labels, placement, rng, grain)[0, ..., 0]
        own, taken = self.thickness[source], self.thickness[other]
        at = _places(labels, placement if known else None, own.shape)
        regions = regions_of(labels)[..., 0]
        slow = np.zeros(regions.shape, np.float32)
        for number in np.unique(regions):
            inside = regions == number
            read = ndimage.map_coordinates(own.nodes[number], at[:, inside], order=1, mode="nearest")
            slow[inside] = read
        # One curve for all regions, or a border would show where two of them hold the same tissue.
        slow = ndimage.gaussian_filter(slow, BORDER_PX)
        rising = own.tones + 1e-6 * np.arange(len(QUANTILES))  # equal ones (a black border) would leave it open
        slow = np.interp(slow, rising, taken.tones).astype(np.float32)
        drawn: np.ndarray = slow + detail
        return drawn


def noise_of(attenuation: np.ndarray) -> float:
    """Return the standard deviation of white noise: of half of the pixels, which lie on no edge (Immerkær's mask)."""
    mask = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)
    return float(1.4826 / 6 * np.median(np.abs(ndimage.convolve(attenuation, mask, mode="nearest"))))


def _spread_out(values: np.ndarray, inside: np.ndarray, sigma: float) -> np.ndarray:
    """Return the values of a region smoothed within it, and continued beyond; of an empty one, the mean of all."""
    if not inside.any():
        return np.full(values.shape, values.mean(), np.float32)
    shown = np.where(inside, values, 0).astype(np.float32)
    weight = ndimage.gaussian_filter(inside.astype(np.float32), sigma, mode="constant")
    slow = ndimage.gaussian_filter(shown, sigma, mode="constant") / np.maximum(weight, 1e-6)
    nearest = ndimage.distance_transform_edt(weight < 1e-3, return_distances=False, return_indices=True)
    continued: np.ndarray = slow[tuple(nearest)]
    return continued


def _places(labels: LabelMap, placement: Placement | None, shape: tuple[int, int]) -> np.ndarray:
    """Return where each pixel of a drawn grid lies between the nodes of a film, float, shape ``(2, I, J)``."""
    if placement is None:
        i, j, _ = labels.geometry.shape
        share = np.stack(np.meshgrid((np.arange(i) + 0.5) / i, (np.arange(j) + 0.5) / j, indexing="ij"))
    else:
        pixels = np.indices((*shape, 1)).astype(np.uint16)[:2]
        share = (placement.carry(pixels)[..., 0] + 0.5) / np.array(shape)[:, None, None]
    places: np.ndarray = share * NODES - 0.5
    return places


__all__ = ["FilmTissue", "Thickness", "noise_of"]

"""What the label maps of training cases say about nuclei: how many there are, how large, how long."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from equipoise.core import Case, Geometry, LabelMap, LabelScheme, patients_of
from equipoise.engines.parts.nuclear_shapes import instances_of, kinds_by_shape, outlines_of, size_of_pixel
from equipoise.engines.parts.tissue_scene import ANY, Meaning, meanings_of
from equipoise.errors import DataError, LabelError

LEAST_UM2 = 4.0
"""Area below which an outline is a slip of the pen."""


@dataclass(frozen=True, eq=False)
class Population:
    """The nuclei of one training case.

    Parameters
    ----------
    geometry
        Its grid.
    um
        Size of its pixels in µm.
    area_mm2
        Of the whole field.
    kind
        Of each nucleus, shape ``(N,)``.
    diameter_um
        Of the circle of the same area, shape ``(N,)``.
    stretch
        Long over short axis, shape ``(N,)``.
    """

    geometry: Geometry
    um: float
    area_mm2: float
    kind: np.ndarray
    diameter_um: np.ndarray
    stretch: np.ndarray

    def per_mm2(self, kind: int) -> float:
        """Return nuclei of a kind per mm² of the field."""
        return float((self.kind == kind).sum()) / self.area_mm2


@dataclass(frozen=True, eq=False)
class Learned:
    """Populations of all training cases, the labels they are to be shown with, and whose they are."""

    populations: tuple[Population, ...]
    scheme: LabelScheme
    meanings: tuple[Meaning, ...]
    counts: bool
    parents: frozenset[str]


def learn_from(cases: Sequence[Case], um_per_px: float) -> Learned:
    """Return what the label maps say.

    Parameters
    ----------
    cases
        With label maps of one scheme.
    um_per_px
        Size of a pixel in µm where the maps state none.

    Raises
    ------
    DataError
        If there is no case.
    LabelError
        If a label is not one that procedural tissue has, or schemes differ.
    """
    if not cases:
        raise DataError("tissue got no case to learn from", fix="give training cases, or set learn = false")
    scheme = cases[0].labels.scheme
    meanings = meanings_of(scheme.names, "anatomy 'tissue'")
    for case in cases:
        if case.labels.scheme != scheme:
            raise LabelError(
                f"case {case.id!r} is annotated with {case.labels.scheme.names}, others with {scheme.names}",
                file=case.file,
                fix="give all training cases one label scheme",
            )
    populations = tuple(_population(case.labels, meanings, um_per_px) for case in cases)
    return Learned(populations, scheme, meanings, any(m.bodies for m in meanings), patients_of(cases))


def _population(labels: LabelMap, meanings: Sequence[Meaning], um_per_px: float) -> Population:
    um = size_of_pixel(labels, um_per_px)
    kinds, diameters, stretches = [], [], []
    for channel, meaning in zip(labels.array, meanings, strict=True):
        if meaning.bodies:
            _, diameter, stretch, _ = outlines_of(instances_of(channel), um)
            kept = np.pi / 4 * diameter**2 >= LEAST_UM2
            diameter, stretch = diameter[kept], stretch[kept]
            named = meaning.bodies[0] if ANY not in meaning.bodies else None
            kinds.append(kinds_by_shape(diameter, stretch) if named is None else np.full(len(diameter), named))
            diameters.append(diameter)
            stretches.append(stretch)
    i, j, _ = labels.geometry.shape
    kind, diameter, stretch = (np.concatenate([*x, np.zeros(0)]) for x in (kinds, diameters, stretches))
    return Population(labels.geometry, um, i * j * um * um * 1e-6, kind.astype(int), diameter, stretch)


__all__ = ["Learned", "Population", "learn_from"]

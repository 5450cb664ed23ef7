"""Concentrations of the stains under a label map, by the tables: of tissue, and of what was drawn on it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from equipoise.core import LabelMap
from equipoise.engines.imaging.simulate_histology.looks import Look, Looks, table_of
from equipoise.engines.imaging.simulate_histology.painting import paint
from equipoise.engines.imaging.simulate_histology.surroundings import scene_of
from equipoise.engines.parts.appearance import correlated_noise
from equipoise.engines.parts.drawn_over import DrawnOver, imaged_over
from equipoise.engines.parts.legal import require_known
from equipoise.engines.parts.nuclear_shapes import size_of_pixel
from equipoise.engines.parts.placement import pushed
from equipoise.engines.parts.tissue_scene import MEANINGS, Meaning, SceneVoxels, known_as

AROUND_UM = 12.0
"""Of tissue around what was drawn on it that is painted with it: more than a cell."""

GRAIN_UM, GRAIN = 0.5, 0.2
"""Scale and amplitude (of the logarithm) of the grain of structures whose stains are stated."""

Shown = Callable[[np.ndarray, LabelMap], np.ndarray]
"""Changes concentrations ``(3, I, J, 1)`` of a label map to those that training pictures show."""


@dataclass(frozen=True)
class Section:
    """How sections look.

    Parameters
    ----------
    looks
        Ranges that a section's look is drawn from.
    stains
        ``[haematoxylin, eosin]`` of a structure by its label's name.
    um_per_px
        Size of a pixel of maps that state none.
    """

    looks: Looks
    stains: Mapping[str, Sequence[float]]
    um_per_px: float

    def painted(self, labels: LabelMap, rng: np.random.Generator, shown: Shown | None = None) -> np.ndarray:
        """Return concentrations of haematoxylin, eosin and red cells, float32, shape ``(3, I, J, 1)``.

        Where something was drawn on tissue that a scene is known of, the tissue is painted as if nothing had been drawn
        on it, and moved with its labels; only what differs is painted anew.

        Parameters
        ----------
        shown
            What becomes of the concentrations of structures whose stains are not stated.

        Raises
        ------
        LabelError
            If a label is neither known nor stated.
        """
        streams = rng.spawn(4)
        return self._painted(labels, self.looks.draw(streams[0]), streams, shown)

    def over(
        self, values: np.ndarray, labels: LabelMap, where: np.ndarray, paint: Callable[[LabelMap], np.ndarray]
    ) -> np.ndarray:
        """Return concentrations ``(3, I, J, 1)`` of which some, bool ``(I, J, 1)``, are painted anew."""
        around = int(AROUND_UM / size_of_pixel(labels, self.um_per_px)) + 1
        return imaged_over(values, labels, where, paint, around)

    def _painted(
        self, labels: LabelMap, look: Look, streams: Sequence[np.random.Generator], shown: Shown | None
    ) -> np.ndarray:
        voxels = labels.voxels
        if isinstance(voxels, DrawnOver) and isinstance(innermost(labels).voxels, SceneVoxels):
            tissue = pushed(self._painted(voxels.under, look, streams, shown), voxels.pushes)
            own = [stream.spawn(1)[0] for stream in streams]
            return self.over(tissue, labels, voxels.changed(), lambda piece: self._painted(piece, look, own, shown))
        looking, scening, painting, stating = streams
        names = labels.scheme.names
        meanings = [_meaning(name) for name in names]
        known = [n for n, m in zip(names, meanings, strict=True) if m is not None]
        require_known("simulate-histology", labels, [*MEANINGS, *self.stains, *known], "stains")
        um = size_of_pixel(labels, self.um_per_px)
        scene = scene_of(labels, meanings, um, scening)
        stated = {
            body: self.stains[name]
            for name, meaning in zip(names, meanings, strict=True)
            if meaning is not None and name in self.stains
            for body in meaning.bodies
        }
        painted = paint(scene, look, table_of(scene.kind, look, stated, looking), um, painting)[..., None]
        if shown is not None:
            painted = shown(painted, labels)
        for name, meaning in zip(names, meanings, strict=True):
            if name in self.stains and (meaning is None or not meaning.bodies):
                self._state(painted, labels, name, look, um, stating)
        return painted

    def _state(
        self, painted: np.ndarray, labels: LabelMap, name: str, look: Look, um: float, rng: np.random.Generator
    ) -> None:
        """Paint a structure with its stated stains."""
        where = labels.mask(name)
        noise = correlated_noise((1, *labels.geometry.shape), (GRAIN_UM / um, GRAIN_UM / um, 0), rng)[0]
        grain = np.exp(GRAIN * noise)
        for stain, factor in enumerate((look.haematoxylin, look.eosin)):
            painted[stain][where] = np.float32(factor * self.stains[name][stain]) * grain[where]


def innermost(labels: LabelMap) -> LabelMap:
    """Return the label map that everything else was drawn on; of any other map itself."""
    while isinstance(labels.voxels, DrawnOver):
        labels = labels.voxels.under
    return labels


def _meaning(name: str) -> Meaning | None:
    known = known_as(name)
    return None if known is None else MEANINGS[known]


__all__ = ["Section", "Shown", "innermost"]

"""Making the tissue of lesions in a real image: only around them, and nothing else is touched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage

from equipoise.core import Geometry, LabelMap
from equipoise.engines.imaging.inpainting.grounds import Ground
from equipoise.engines.parts.learned.examples import up_to
from equipoise.engines.parts.learned.given import Given
from equipoise.engines.parts.learned.intensity import Intensity
from equipoise.engines.parts.placement import Box, Placement

MARGIN = 4.0
"""Width of the new tissue around a lesion where none is stated, in its image's smallest voxels."""


@dataclass(frozen=True, eq=False)
class Painter:
    """What paints.

    Parameters
    ----------
    learned
        Of the inner engine: how it renders, and how truths become numbers.
    intensity
        How images do.
    margin
        Width of the new tissue around a lesion, in the image's unit; ``None``: `MARGIN` voxels.
    context
        Voxels of the real image around it that the network sees at the least.
    passes
        See `Given`.
    """

    learned: Any
    intensity: Intensity
    margin: float | None
    context: int
    passes: int

    def painted(self, ground: Ground, labels: LabelMap, lesions: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return a training case's image, shape ``(C, I, J, K)``, with new tissue in and around lesions.

        Parameters
        ----------
        ground
            The training case.
        labels
            What the image is to show.
        lesions
            What is made anew, bool, shape ``(I, J, K)``.
        rng
            Of the noise.
        """
        image = ground.case.image.array.copy()
        fresh = self.fresh(lesions, labels.geometry)
        for group in grouped(fresh > 0, self._room()):
            (stream,) = rng.spawn(1)
            only = np.zeros(lesions.shape, np.float32)
            for box in group:
                only[box] = fresh[box]
            window = self._window(group, lesions.shape)
            image[:, *window] = self._made(ground, labels, image[:, *window], 1 - only[window], window, stream)
        return image

    def fresh(self, lesions: np.ndarray, geometry: Geometry) -> np.ndarray:
        """Return the share of new tissue, float32, shape ``(I, J, K)``.

        1 in lesions and in the inner half of the margin, from there smoothly down to 0.
        """
        sides = [s for s, n in zip(geometry.spacing, geometry.shape, strict=True) if n > 1]
        margin = MARGIN * min(sides) if self.margin is None else self.margin
        if margin == 0:
            return lesions.astype(np.float32)
        away = ndimage.distance_transform_edt(~lesions, sampling=geometry.spacing)
        t = np.clip(2 * (1 - away / margin), 0, 1)
        return np.asarray(t * t * (3 - 2 * t), np.float32)

    def _room(self) -> np.ndarray:
        """Return the longest sides of new tissue that one training patch shows with its context."""
        patch = np.array(self.learned.setup.patch)
        return np.where(patch == 1, 1, np.maximum(patch - 2 * self.context, 1))

    def _window(self, group: Sequence[Box], shape: Sequence[int]) -> Box:
        """Return the piece of the image that the network sees: a training patch, or more for what is larger."""
        multiple, box = self.learned.setup.multiple, []
        for axis, (n, patch) in enumerate(zip(shape, self.learned.setup.patch, strict=True)):
            low, high = min(b[axis].start for b in group), max(b[axis].stop for b in group)
            side = high - low + 2 * self.context
            side = 1 if n == 1 else min(max(-(-side // multiple) * multiple, patch), n)
            first = min(max((low + high - side) // 2, 0), n - side)
            box.append(slice(first, first + side))
        return box[0], box[1], box[2]

    def _made(
        self,
        ground: Ground,
        labels: LabelMap,
        stored: np.ndarray,
        keep: np.ndarray,
        window: Box,
        rng: np.random.Generator,
    ) -> np.ndarray:
        """Return a window of the image with new tissue, as stored; where all is kept, it is the same bit for bit."""
        # Here, not above: `equipoise engines` must list this kind without importing torch.
        from equipoise.engines.parts.learned.trained import one_thread

        intensity = self.intensity
        known = intensity.encode(stored, ground.number)
        planes = self._planes(ground, labels, window)
        setup = self.learned.setup
        fitting = (up_to(x, setup.patch, setup.multiple) for x in (planes, known, keep[None]))
        told, image, stays = (np.asarray(x, np.float32)[None] for x in fitting)
        with one_thread(setup.size.device):
            made = self.learned.trainee.render(told, rng, given=Given(image, stays[:, 0], self.passes))[0]
        i, j, k = keep.shape
        # What the scale cuts off the real image comes back as far as the real image does.
        cut = stored.astype(np.float64) - intensity.decode(known, ground.number)
        values = intensity.decode(made[:, :i, :j, :k], ground.number).astype(np.float64) + keep * cut
        if stored.dtype.kind in "iu":
            most = np.iinfo(stored.dtype)
            values = np.clip(np.rint(values), most.min, most.max)
        return np.where(keep == 1, stored, values.astype(stored.dtype))

    def _planes(self, ground: Ground, labels: LabelMap, window: Box) -> np.ndarray:
        conditions = self.learned.conditions
        shape = tuple(s.stop - s.start for s in window)
        offset = np.array([s.start for s in window], float)
        affine = np.eye(4)
        affine[:3, 3] = offset
        array = np.ascontiguousarray(labels.array[:, *window])
        piece = LabelMap(array, labels.scheme, labels.affine @ affine, labels.frame, labels.unit)
        tissue, under = conditions.tissue, None
        if tissue is not None:
            under = tissue.sublabels(piece, Placement(ground.case.id, shape, offset=offset))
        return np.asarray(conditions.of(piece, shape, under))


def grouped(fresh: np.ndarray, room: np.ndarray) -> list[list[Box]]:
    """Return the boxes of new tissue, those together that one window has room for.

    Parameters
    ----------
    fresh
        Where tissue is new, bool, shape ``(I, J, K)``.
    room
        Longest sides of what is made at a time; what is connected is made at a time however long it is.
    """
    parts, _ = ndimage.label(fresh, np.ones((3, 3, 3)))
    groups: list[list[Box]] = []
    for box in ndimage.find_objects(parts):
        for group in groups:
            sides = [max(b[a].stop for b in [*group, box]) - min(b[a].start for b in [*group, box]) for a in range(3)]
            if (np.array(sides) <= room).all():
                group.append(box)
                break
        else:
            groups.append([box])
    return groups


__all__ = ["Painter", "grouped"]

"""Painting lesions into a label map: what they cover, their core, and the rim around them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from equipoise.engines.anatomy.lesion.ground import Ground
from equipoise.engines.anatomy.lesion.shape import grow
from equipoise.engines.parts.placement import Box


@dataclass(frozen=True, eq=False)
class Painter:
    """Paints lesions of one manner on a ground."""

    ground: Ground

    def paint(self, mask: np.ndarray, box: Box, number: int, rng: np.random.Generator) -> None:
        """Paint one lesion.

        Parameters
        ----------
        mask, box
            Where it is, bool, and the part of the map that the mask covers.
        number
            Its instance.
        rng
            Of the widths of its rim and its core.
        """
        ground = self.ground
        manner = ground.manner
        whole = ground.scheme.channel(manner.whole)
        if manner.rim is not None:
            self._paint_rim(manner.rim, mask, box, number, rng)
        self._cover(mask, box, whole)
        block = ground.array[:, *box]
        block[whole][mask] = number
        if manner.core is not None:
            share = float(rng.uniform(*manner.texture[2]))
            deep = self._depth(mask)
            i, j, k = np.unravel_index(int(deep.argmax()), deep.shape)
            inner = grow(deep, mask, (int(i), int(j), int(k)), max(round(share * mask.sum()), 1), 0.0)
            core = ground.scheme.channel(manner.core)
            block[whole][inner] = 0  # core and shell are two substances: they never overlap
            block[core][inner] = number
        if ground.ignore is not None:
            ground.ignore[:, *box][0][mask] = False

    def _paint_rim(
        self, rim: tuple[str, tuple[float, float]], mask: np.ndarray, box: Box, number: int, rng: np.random.Generator
    ) -> None:
        ground = self.ground
        name, (low, high) = rim
        width = float(rng.uniform(low, high))
        middle = tuple((s.start + s.stop) // 2 for s in box)
        side = 0.5 * max((s.stop - s.start) * v for s, v in zip(box, ground.voxel, strict=True))
        wide, _, _ = ground.box_about((middle[0], middle[1], middle[2]), side + width)
        here = np.zeros(ground.geometry.shape, bool)
        here[box] = mask
        near = ndimage.distance_transform_edt(~here[wide], sampling=ground.voxel) <= width
        ring = near & ground.allowed(wide, ground.lesions() | here)
        channel = ground.scheme.channel(name)
        self._cover(ring, wide, channel)
        ground.array[:, *wide][channel][ring] = number

    def _depth(self, mask: np.ndarray) -> np.ndarray:
        """Return how deep in mm each voxel of a lesion lies; of equally deep ones the middle counts as deepest."""
        ground = self.ground
        edge = [(1, 1) if n > 1 else (0, 0) for n in mask.shape]
        inner = tuple(slice(a, a + n) for (a, _), n in zip(edge, mask.shape, strict=True))
        deep = ndimage.distance_transform_edt(np.pad(mask, edge), sampling=ground.voxel)[inner]
        middle = (np.argwhere(mask) * ground.voxel).mean(axis=0)
        away = np.linalg.norm(np.moveaxis(np.indices(mask.shape), 0, -1) * ground.voxel - middle, axis=-1)
        return np.asarray(np.where(mask, deep + 1e-3 * float(ground.voxel.min()) / (1 + away), 0))

    def _cover(self, mask: np.ndarray, box: Box, channel: int) -> None:
        """Take away what a lesion covers.

        In an exclusive scheme that is everything. Where labels overlap, a lung or a body holds the lesion and stays: it
        is what the lesion arose in, or encloses it whole. A vessel that it meets ends at it.
        """
        ground = self.ground
        block = ground.array[:, *box]
        for other in range(len(block)):
            holds = not ground.scheme.exclusive and (other in ground.host or bool((block[other][mask] > 0).all()))
            if other != channel and not holds:
                block[other][mask] = 0


__all__ = ["Painter"]

"""Laying lesions into one label map: place by place, pushed aside first, painted afterwards."""

from __future__ import annotations

import numpy as np

from equipoise.core import LabelMap
from equipoise.engines.anatomy.lesion.drawing import Drawer
from equipoise.engines.anatomy.lesion.findings import RIGID
from equipoise.engines.anatomy.lesion.ground import Ground
from equipoise.engines.anatomy.lesion.manner import Laid, Manner, NoRoomError
from equipoise.engines.anatomy.lesion.mass_effect import REACH, displaced, push_aside
from equipoise.engines.anatomy.lesion.painting import Painter
from equipoise.engines.anatomy.lesion.planning import Planned, Planner
from equipoise.engines.anatomy.lesion.shape import crack_heights, diameter_of, grow, heights_of, length_of, voxels_of
from equipoise.engines.parts.drawn_over import drawn_over
from equipoise.engines.parts.placement import Placement, Push
from equipoise.engines.parts.retina import Eye

CANDIDATE_RADII = 2.6
"""Half side of the box in which a lesion is painted, in radii of its sphere."""
CRACKS = 40
"""Planes that are tried for one fracture line."""


class LesionMap:
    """One label map of the base into which lesions are drawn.

    Parameters
    ----------
    labels
        The base's map.
    manner
        What is drawn.
    placement
        Of a training case's tissue, or the eye that is seen.

    Raises
    ------
    GeometryMismatchError
        If the map states no voxel size and ``px_mm`` is missing.
    """

    def __init__(self, labels: LabelMap, manner: Manner, placement: Placement | None = None) -> None:
        self.labels = labels
        self.ground = Ground(labels, manner, placement if isinstance(placement, Eye) else None)
        self.painter = Painter(self.ground)
        self.placement = placement

    def drawn(self, drawer: Drawer, rng: np.random.Generator) -> tuple[LabelMap, Placement | None, tuple[Laid, ...]]:
        """Return the map with lesions, its placement and the lesions; `NoRoomError` where one finds no place."""
        ground = self.ground
        plans = Planner(ground, drawer).plans(rng)
        pushes = []
        for plan in plans:
            if plan.mass_effect > 0:
                pushes.append(self._push(plan))
                pushes[-1].displace(ground.array)
                if ground.ignore is not None:
                    pushes[-1].displace(ground.ignore)
        occupied = ground.lesions()
        first = ground.last() + 1
        laid = tuple(self._lay(plan, number, occupied, rng) for number, plan in enumerate(plans, first))
        moved = tuple(pushes)
        voxels = drawn_over(ground.array, self.labels, moved)
        made = LabelMap.on(ground.geometry, voxels, ground.scheme, ground.ignore)
        return made, None if self.placement is None else displaced(self.placement, moved), laid

    def _push(self, plan: Planned) -> Push:
        ground = self.ground
        box, points, start = ground.box_about(plan.voxel, REACH * 1.3 * plan.look.size / 2)
        return push_aside(plan.body, plan.mass_effect, points, box, ground.any_of(RIGID, box), ground.voxel, start)

    def _lay(self, plan: Planned, number: int, occupied: np.ndarray, rng: np.random.Generator) -> Laid:
        ground = self.ground
        line = ground.manner.finding.form == "line"
        box, points, start = ground.box_about(plan.voxel, (0.6 if line else CANDIDATE_RADII / 2) * plan.look.size)
        allowed = ground.allowed(box, occupied)
        allowed[tuple(start)] = True  # pushing others aside may have moved a border over the centre
        if line:
            mask, size = self._crack(plan, points, allowed, start, rng)
        else:
            mask, size = self._body(plan, points, allowed, start, rng)
        self.painter.paint(mask, box, number, rng)
        occupied[box] |= mask
        return Laid(plan.voxel, plan.look, size, plan.share, plan.mass_effect, number)

    def _body(
        self, plan: Planned, points: np.ndarray, allowed: np.ndarray, start: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, float]:
        ground = self.ground
        height = heights_of(plan.body, points, ground.voxel, plan.look.margin, rng)
        count = self._count(plan)
        i, j, k = (int(x) for x in start)
        mask = grow(height, allowed, (i, j, k), count, -np.inf)
        size = diameter_of(int(mask.sum()), ground.voxel, ground.flat)
        if not plan.bound.holds(size) or mask.sum() < 0.5 * count:
            raise NoRoomError(f"a structure has no room for {plan.look.size:.3g} mm")
        return mask, size

    def _count(self, plan: Planned) -> int:
        """Return the number of voxels nearest to the drawn size that measures what the condition allows."""
        ground = self.ground
        wanted = max(round(voxels_of(plan.look.size, ground.voxel, ground.flat)), 1)
        for step in (0, 1, -1):
            if wanted + step >= 1 and plan.bound.holds(diameter_of(wanted + step, ground.voxel, ground.flat)):
                return wanted + step
        raise NoRoomError(
            f"voxels of {' x '.join(f'{s:.3g}' for s in ground.voxel)} mm are too coarse for {plan.look.size:.3g} mm"
        )

    def _crack(
        self, plan: Planned, points: np.ndarray, allowed: np.ndarray, start: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, float]:
        ground = self.ground
        across = ground.voxel[:2] if ground.flat else ground.voxel
        width = max(ground.manner.width_mm, 1.8 * float(across.max()))
        i, j, k = (int(x) for x in start)
        best, size = np.zeros(allowed.shape, bool), 0.0
        for _ in range(CRACKS):  # a bone is long in one direction only: most planes cut it short
            height = crack_heights(points[i, j, k], points, plan.look, width, ground.flat, rng)
            mask = grow(height, allowed, (i, j, k), allowed.size, 0.0)
            length = length_of(mask, ground.voxel) if mask.any() else 0.0
            if plan.bound.holds(length) and length > size:
                best, size = mask, length
            if size > 0.7 * plan.look.size:
                break
        if size == 0:
            raise NoRoomError(f"no bone at the chosen place is cut by a line of {plan.look.size:.3g} mm")
        return best, size


__all__ = ["LesionMap"]

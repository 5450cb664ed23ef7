"""Which lesions one label map gets, and where: looks, places, shapes, and how they keep clear of each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from equipoise.engines.anatomy.lesion.clauses import Clause, Interval
from equipoise.engines.anatomy.lesion.drawing import Drawer, weighted_choice
from equipoise.engines.anatomy.lesion.ground import EVERYWHERE, Ground
from equipoise.engines.anatomy.lesion.manner import NoRoomError
from equipoise.engines.anatomy.lesion.mass_effect import REACH
from equipoise.engines.anatomy.lesion.shape import Look, diameter_of, draw_shape, voxels_of
from equipoise.engines.anatomy.lesion.sites import Sites, resolve
from equipoise.engines.parts.nodule import Nodule

ATTEMPTS = 40
"""Places that are tried for one lesion before the map is given up."""
Options = Sequence[tuple[Clause, np.ndarray, float]]


@dataclass(frozen=True)
class Planned:
    """A lesion that is to be laid.

    Parameters
    ----------
    look
        As drawn.
    index, voxel
        The candidate place, and its voxel in the label map.
    share
        How deep it lies, see `Laid`.
    bound
        Sizes that the condition allows there.
    body
        Its shape, in mm.
    mass_effect
        Share of its volume that displaces its surroundings.
    """

    look: Look
    index: int
    voxel: tuple[int, int, int]
    share: float
    bound: Interval
    body: Nodule
    mass_effect: float


@dataclass(frozen=True, eq=False)
class Planner:
    """Plans lesions on a ground, as a drawer draws them."""

    ground: Ground
    drawer: Drawer

    def plans(self, rng: np.random.Generator) -> list[Planned]:
        """Return the lesions of one map; `NoRoomError` where one finds no place."""
        ground, manner, drawer = self.ground, self.ground.manner, self.drawer
        there = ground.lesions()
        host = ground.home(EVERYWHERE) & ~there
        sites = Sites(ground.array, ground.scheme, ground.voxel, host, manner.periphery, manner.near_mm)
        if not len(sites.index):
            raise NoRoomError(f"it shows nothing of what they arise in ({ground.host_names})")
        count = drawer.draw_count(rng)
        options = drawer.options(count, sites)
        if not options:
            raise NoRoomError("no place in it satisfies the condition")
        options = [(self._shown(clause), chosen, weight) for clause, chosen, weight in options]
        prior, clear = self._prior(sites), np.full(len(sites.index), np.inf)
        if there.any():
            clear = sites.distance(ground.own)
        found: list[Planned] = []
        group: np.ndarray | None = None
        for _ in range(count):
            plan = self._plan(options, sites, prior, group, clear, rng)
            found.append(plan)
            if group is None and manner.finding.grouping != "scattered":
                group = self._group(sites, plan, rng)
            away = np.linalg.norm(sites.points - sites.points[plan.index], axis=1)
            clear = np.minimum(clear, away - plan.look.size / 2)
        return found

    def _plan(
        self,
        options: Options,
        sites: Sites,
        prior: np.ndarray,
        group: np.ndarray | None,
        clear: np.ndarray,
        rng: np.random.Generator,
    ) -> Planned:
        for _ in range(ATTEMPTS):
            look, weights = self.drawer.draw(options, prior if group is None else prior * group, rng)
            apart = look.size / 2 + (REACH - 1) * look.size / 2 * (self.ground.manner.finding.mass_effect[1] > 0)
            index = weighted_choice(weights * (clear > apart + self.ground.voxel.min()), rng)
            if index is None:
                continue
            i, j, k = (int(x) for x in sites.index[index])
            body = draw_shape(np.array([i, j, k]) * self.ground.voxel, look, self.ground.flat, rng)
            bound = self._bound(look, index, options)
            pushed = float(rng.uniform(*self.ground.manner.finding.mass_effect))
            return Planned(look, index, (i, j, k), sites.share_at(index), bound, body, pushed)
        raise NoRoomError("the lesions that were asked for do not fit beside each other")

    def _bound(self, look: Look, index: int, options: Options) -> Interval:
        """Return the sizes that the condition allows at a place to a lesion of this look."""
        for clause, chosen, _ in options:
            if chosen[index] and clause.bound("size").holds(look.size):
                return clause.bound("size")
        return Interval()

    def _shown(self, clause: Clause) -> Clause:
        """Raise `NoRoomError` if the grid can show no lesion of a clause's sizes; return the clause."""
        ground, bound = self.ground, clause.bound("size")
        if ground.manner.finding.form != "body":
            return clause
        largest = min(ground.manner.finding.diameter_mm[1], bound.high)
        smallest = diameter_of(1, ground.voxel, ground.flat)
        # Less than half a voxel would be drawn as a whole one, and so larger than anything that was asked for.
        if voxels_of(largest, ground.voxel, ground.flat) < 0.5 or not (
            np.isinf(bound.high) or not bound.meet(Interval(low=smallest)).empty
        ):
            raise NoRoomError(f"a single voxel measures {smallest:.3g} mm, more than the {largest:.3g} mm asked for")
        return clause

    def _prior(self, sites: Sites) -> np.ndarray:
        finding = self.ground.manner.finding
        near = tuple(c for name in finding.near for c in resolve(name, self.ground.scheme))
        if not near:
            return np.ones(len(sites.index))
        far = sites.distance(near)
        return np.ones(len(far)) if np.isinf(far).all() else np.exp(-far / finding.near_mm) + 1e-4

    def _group(self, sites: Sites, first: Planned, rng: np.random.Generator) -> np.ndarray:
        """Return how likely further lesions of the first one's group are at each candidate."""
        radius = self.ground.manner.finding.group_mm
        centre = sites.points[first.index].copy()
        if self.ground.manner.finding.grouping == "ring":
            direction = rng.standard_normal(3) * (np.arange(3) < (2 if self.ground.flat else 3))
            centre += radius * direction / np.linalg.norm(direction)
            away = np.linalg.norm(sites.points - centre, axis=1) - radius
            return np.asarray(np.exp(-0.5 * (away / (0.18 * radius)) ** 2))
        away = np.linalg.norm(sites.points - centre, axis=1)
        return np.asarray(np.exp(-0.5 * (away / radius) ** 2))


__all__ = ["Planned", "Planner"]

"""Laying lesions into one label map: place by place, pushed aside first, painted afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import ndimage

from equipoise.core import Label, LabelMap, LabelScheme
from equipoise.engines.anatomy.lesion.drawing import Drawer, weighted_choice
from equipoise.engines.anatomy.lesion.findings import PASSING, RIGID, Finding
from equipoise.engines.anatomy.lesion.mass_effect import REACH, Box, Displaced, Push, push_aside
from equipoise.engines.anatomy.lesion.shape import (
    Look,
    crack_heights,
    diameter_of,
    draw_shape,
    grow,
    heights_of,
    length_of,
    voxels_of,
)
from equipoise.engines.anatomy.lesion.sites import Sites, covered, host_channels, resolve
from equipoise.engines.anatomy.lesion.where import Clause, Interval
from equipoise.engines.parts.nodule import Nodule
from equipoise.engines.parts.placement import Placement
from equipoise.engines.parts.retina import Eye
from equipoise.errors import GeometryMismatchError, LabelError

ATTEMPTS = 40
"""Places that are tried for one lesion before the map is given up."""
CANDIDATE_RADII = 2.6
"""Half side of the box in which a lesion is painted, in radii of its sphere."""


_EVERYWHERE: Box = (slice(None), slice(None), slice(None))


class NoRoomError(Exception):
    """One label map has no place for what was asked for; another one may have."""


@dataclass(frozen=True)
class Laid:
    """A lesion that was drawn.

    Parameters
    ----------
    voxel
        Where it arose, in the label map.
    look
        As drawn.
    size
        As it measures on the grid, in mm.
    share
        How deep it arose, from 0 at the border of its structure to 1 at the deepest place; NaN where no condition
        asked.
    mass_effect
        Share of its volume that displaced its surroundings.
    instance
        Its number in the label map.
    """

    voxel: tuple[int, int, int]
    look: Look
    size: float
    share: float
    mass_effect: float
    instance: int


@dataclass(frozen=True, eq=False)
class Manner:
    """What is drawn and under which labels; fields as of `Lesion`."""

    name: str
    finding: Finding
    label: str
    texture: tuple[str | None, str | None, tuple[float, float]]
    rim: tuple[str, tuple[float, float]] | None
    width_mm: float
    inside: tuple[str, ...]
    periphery: float
    near_mm: float
    keep: bool
    px_mm: float | None

    @property
    def whole(self) -> str:
        """Label of a lesion but for its core."""
        return self.texture[0] or self.label

    @property
    def core(self) -> str | None:
        """Label of its core, if it has one."""
        return None if self.texture[1] is None else self.texture[1] or self.label

    @property
    def names(self) -> tuple[str, ...]:
        """Every label that is drawn."""
        own = [self.whole, self.core, self.rim[0] if self.rim else None]
        return tuple(dict.fromkeys(name for name in own if name))


@dataclass(frozen=True)
class _Planned:
    look: Look
    index: int
    voxel: tuple[int, int, int]
    share: float
    bound: Interval
    body: Nodule
    mass_effect: float


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
        if labels.unit == "px" and manner.px_mm is None:
            raise GeometryMismatchError(
                "lesions have sizes in mm, and the label maps state no size of a pixel",
                why="a microaneurysm is measured in µm, not in pixels",
                fix="state it: px_mm = 0.006 for a fundus picture of about 2,000 pixels, for example",
            )
        self.manner, self.geometry = manner, labels.geometry
        self.flat = labels.geometry.ndim == 2
        self.voxel = np.array(labels.spacing) * (manner.px_mm if labels.unit == "px" and manner.px_mm else 1.0)
        self.ignore = None if labels.ignore is None else np.asarray(labels.ignore).astype(bool)
        self.scheme = _extended(labels.scheme, manner)
        self.array = self._prepared(labels)
        self.placement = placement
        self.shown = _field_of(placement, labels.geometry.shape) if isinstance(placement, Eye) else None

    def drawn(self, drawer: Drawer, rng: np.random.Generator) -> tuple[LabelMap, Placement | None, tuple[Laid, ...]]:
        """Return the map with lesions, its placement and the lesions; `NoRoomError` where one finds no place."""
        plans = self._plans(drawer, rng)
        pushes = []
        for plan in plans:
            if plan.mass_effect > 0:
                pushes.append(self._push(plan))
                pushes[-1].displace(self.array)
                if self.ignore is not None:
                    pushes[-1].displace(self.ignore)
        occupied = self._lesions()
        first = self._last() + 1
        laid = tuple(self._lay(plan, number, occupied, rng) for number, plan in enumerate(plans, first))
        made = LabelMap.on(self.geometry, self.array, self.scheme, self.ignore)
        placement = None if self.placement is None else Displaced.after(self.placement, tuple(pushes))
        return made, placement, laid

    def _prepared(self, labels: LabelMap) -> np.ndarray:
        """Return the base's channels and empty ones for what is new, without lesions of the base unless kept."""
        old = labels.array
        room = int(old.max(initial=0)) + self.manner.finding.count[1]
        array = np.zeros((len(self.scheme.labels), *old.shape[1:]), np.uint8 if room < 256 else np.uint16)
        array[: len(old)] = old
        known = [n for n in self.manner.names if n in labels.scheme.names]
        if self.manner.keep or not known:
            return array
        gone = np.zeros(old.shape[1:], bool)
        for name in known:
            channel = self.scheme.channel(name)
            gone |= array[channel] > 0
            array[channel] = 0
        rest = (array > 0).any(axis=0)
        if self.scheme.exclusive and gone.any() and rest.any():
            # What was a lesion becomes what lies beside it, be it labelled or not.
            _, nearest = ndimage.distance_transform_edt(gone, sampling=self.voxel, return_indices=True)
            array[:, gone] = array[:, nearest[0][gone], nearest[1][gone], nearest[2][gone]]
        return array

    @cached_property
    def _own(self) -> tuple[int, ...]:
        """Channels that lesions are drawn in."""
        return tuple(self.scheme.channel(name) for name in self.manner.names)

    @cached_property
    def _host(self) -> tuple[int, ...]:
        """Channels of what lesions arise in; none is whatever is labelled."""
        found = host_channels(
            self.scheme, self.manner.inside, self.manner.finding.inside, f"lesion.inside of {self.manner.name}"
        )
        every = tuple(c for c in range(len(self.array)) if c not in self._own)
        return found or tuple(c for c in every if self.array[c].any())

    def _lesions(self) -> np.ndarray:
        return self._covered(self._own, _EVERYWHERE)

    def _last(self) -> int:
        return max(int(self.array[channel].max(initial=0)) for channel in self._own)

    def _covered(self, channels: Sequence[int], box: Box) -> np.ndarray:
        """Return where any of some channels is, bool, within a box."""
        return covered(self.array, channels, box)

    def _home(self, box: Box) -> np.ndarray:
        """Return where lesions may arise, bool, within a box; everywhere in a map that labels nothing."""
        home = self._covered(self._host, box) if self._host else np.ones(self.array[0][box].shape, bool)
        return home if self.shown is None else np.asarray(home & self.shown[box])

    def _plans(self, drawer: Drawer, rng: np.random.Generator) -> list[_Planned]:
        manner, there = self.manner, self._lesions()
        sites = Sites(
            self.array, self.scheme, self.voxel, self._home(_EVERYWHERE) & ~there, manner.periphery, manner.near_mm
        )
        if not len(sites.index):
            raise NoRoomError("it shows nothing of the structure that lesions arise in")
        count = drawer.draw_count(rng)
        options = drawer.options(count, sites)
        if not options:
            raise NoRoomError("no place in it satisfies the condition")
        options = [(self._shown(clause, drawer), chosen, weight) for clause, chosen, weight in options]
        prior, clear = self._prior(sites), np.full(len(sites.index), np.inf)
        if there.any():
            clear = sites.distance(self._own)
        found: list[_Planned] = []
        group: np.ndarray | None = None
        for _ in range(count):
            plan = self._plan(drawer, options, sites, prior, group, clear, rng)
            found.append(plan)
            if group is None and manner.finding.grouping != "scattered":
                group = self._group(sites, plan, rng)
            away = np.linalg.norm(sites.points - sites.points[plan.index], axis=1)
            clear = np.minimum(clear, away - plan.look.size / 2)
        return found

    def _plan(
        self,
        drawer: Drawer,
        options: Sequence[tuple[Clause, np.ndarray, float]],
        sites: Sites,
        prior: np.ndarray,
        group: np.ndarray | None,
        clear: np.ndarray,
        rng: np.random.Generator,
    ) -> _Planned:
        for _ in range(ATTEMPTS):
            look, weights = drawer.draw(options, prior if group is None else prior * group, rng)
            apart = look.size / 2 + (REACH - 1) * look.size / 2 * (self.manner.finding.mass_effect[1] > 0)
            index = weighted_choice(weights * (clear > apart + self.voxel.min()), rng)
            if index is None:
                continue
            i, j, k = (int(x) for x in sites.index[index])
            body = draw_shape(np.array([i, j, k]) * self.voxel, look, self.flat, rng)
            bound = self._bound(look, index, options)
            pushed = float(rng.uniform(*self.manner.finding.mass_effect))
            return _Planned(look, index, (i, j, k), sites.share_at(index), bound, body, pushed)
        raise NoRoomError("the lesions that were asked for do not fit beside each other")

    def _bound(self, look: Look, index: int, options: Sequence[tuple[Clause, np.ndarray, float]]) -> Interval:
        """Return the sizes that the condition allows at a place to a lesion of this look."""
        for clause, chosen, _ in options:
            if chosen[index] and clause.bound("size").holds(look.size):
                return clause.bound("size")
        return Interval()

    def _shown(self, clause: Clause, drawer: Drawer) -> Clause:
        """Raise `NoRoomError` if the grid can show no lesion of a clause's sizes; return the clause."""
        bound = clause.bound("size")
        if self.manner.finding.form == "body" and not np.isinf(bound.high):
            smallest = diameter_of(1, self.voxel, self.flat)
            if not bound.meet(Interval(low=smallest)).empty or bound.holds(smallest):
                return clause
            raise NoRoomError(f"a single voxel measures {smallest:.3g} mm, more than the condition allows")
        return clause

    def _prior(self, sites: Sites) -> np.ndarray:
        finding = self.manner.finding
        near = tuple(c for name in finding.near for c in resolve(name, self.scheme))
        if not near:
            return np.ones(len(sites.index))
        far = sites.distance(near)
        return np.ones(len(far)) if np.isinf(far).all() else np.exp(-far / finding.near_mm) + 1e-4

    def _group(self, sites: Sites, first: _Planned, rng: np.random.Generator) -> np.ndarray:
        """Return how likely further lesions of the first one's group are at each candidate."""
        radius = self.manner.finding.group_mm
        centre = sites.points[first.index].copy()
        if self.manner.finding.grouping == "ring":
            direction = rng.standard_normal(3) * (np.arange(3) < (2 if self.flat else 3))
            centre += radius * direction / np.linalg.norm(direction)
            away = np.linalg.norm(sites.points - centre, axis=1) - radius
            return np.asarray(np.exp(-0.5 * (away / (0.18 * radius)) ** 2))
        away = np.linalg.norm(sites.points - centre, axis=1)
        return np.asarray(np.exp(-0.5 * (away / radius) ** 2))

    def _box(self, voxel: tuple[int, int, int], reach: float) -> tuple[Box, np.ndarray, np.ndarray]:
        """Return a box about a voxel, the points of its voxels in mm, and the voxel's place in it."""
        shape = self.geometry.shape
        half = [0 if n == 1 else int(np.ceil(reach / s)) + 1 for n, s in zip(shape, self.voxel, strict=True)]
        low = [max(v - h, 0) for v, h in zip(voxel, half, strict=True)]
        high = [min(v + h + 1, n) for v, h, n in zip(voxel, half, shape, strict=True)]
        box = (slice(low[0], high[0]), slice(low[1], high[1]), slice(low[2], high[2]))
        axes = [np.arange(a, b) * s for a, b, s in zip(low, high, self.voxel, strict=True)]
        return box, np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1), np.array(voxel) - low

    def _any(self, names: Sequence[str], box: Box) -> np.ndarray:
        return self._covered(sorted({c for name in names for c in resolve(name, self.scheme)}), box)

    def _push(self, plan: _Planned) -> Push:
        box, points, start = self._box(plan.voxel, REACH * 1.3 * plan.look.size / 2)
        return push_aside(plan.body, plan.mass_effect, points, box, self._any(RIGID, box), self.voxel, start)

    def _allowed(self, box: Box, occupied: np.ndarray) -> np.ndarray:
        """Return where a lesion may grow within a box."""
        within = self.manner.finding.within
        free: np.ndarray = ~occupied[box]
        if "anything" in within:
            return np.asarray(free & ~self._any(RIGID, box))
        named = within and any(resolve(name, self.scheme) for name in within)
        home = self._any(within, box) if named else self._home(box)
        return np.asarray(free & (home | self._any(PASSING, box)))

    def _lay(self, plan: _Planned, number: int, occupied: np.ndarray, rng: np.random.Generator) -> Laid:
        line = self.manner.finding.form == "line"
        box, points, start = self._box(plan.voxel, (0.6 if line else CANDIDATE_RADII / 2) * plan.look.size)
        allowed = self._allowed(box, occupied)
        allowed[tuple(start)] = True  # pushing others aside may have moved a border over the centre
        if line:
            mask, size = self._crack(plan, points, allowed, start, rng)
        else:
            mask, size = self._body(plan, points, allowed, start, rng)
        self._paint(mask, box, number, rng)
        occupied[box] |= mask
        return Laid(plan.voxel, plan.look, size, plan.share, plan.mass_effect, number)

    def _body(
        self, plan: _Planned, points: np.ndarray, allowed: np.ndarray, start: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, float]:
        height = heights_of(plan.body, points, self.voxel, plan.look.margin, rng)
        count = self._count(plan)
        i, j, k = (int(x) for x in start)
        mask = grow(height, allowed, (i, j, k), count, -np.inf)
        size = diameter_of(int(mask.sum()), self.voxel, self.flat)
        if not plan.bound.holds(size) or mask.sum() < 0.5 * count:
            raise NoRoomError(f"a structure has no room for {plan.look.size:.3g} mm")
        return mask, size

    def _count(self, plan: _Planned) -> int:
        """Return the number of voxels nearest to the drawn size that measures what the condition allows."""
        wanted = max(round(voxels_of(plan.look.size, self.voxel, self.flat)), 1)
        for step in (0, 1, -1):
            if wanted + step >= 1 and plan.bound.holds(diameter_of(wanted + step, self.voxel, self.flat)):
                return wanted + step
        raise NoRoomError(
            f"voxels of {' x '.join(f'{s:.3g}' for s in self.voxel)} mm are too coarse for {plan.look.size:.3g} mm"
        )

    def _crack(
        self, plan: _Planned, points: np.ndarray, allowed: np.ndarray, start: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, float]:
        across = self.voxel[:2] if self.flat else self.voxel
        width = max(self.manner.width_mm, 1.8 * float(across.max()))
        i, j, k = (int(x) for x in start)
        best, size = np.zeros(allowed.shape, bool), 0.0
        for _ in range(ATTEMPTS):  # a bone is long in one direction only: most planes cut it short
            height = crack_heights(points[i, j, k], points, plan.look, width, self.flat, rng)
            mask = grow(height, allowed, (i, j, k), allowed.size, 0.0)
            length = length_of(mask, self.voxel) if mask.any() else 0.0
            if plan.bound.holds(length) and length > size:
                best, size = mask, length
            if size > 0.7 * plan.look.size:
                break
        if size == 0:
            raise NoRoomError(f"no bone at the chosen place is cut by a line of {plan.look.size:.3g} mm")
        return best, size

    def _paint(self, mask: np.ndarray, box: Box, number: int, rng: np.random.Generator) -> None:
        manner = self.manner
        whole = self.scheme.channel(manner.whole)
        if manner.rim is not None:
            self._paint_rim(manner.rim, mask, box, number, rng)
        self._cover(mask, box, whole)
        block = self.array[:, *box]
        block[whole][mask] = number
        if manner.core is not None:
            share = float(rng.uniform(*manner.texture[2]))
            deep = self._depth(mask)
            i, j, k = np.unravel_index(int(deep.argmax()), deep.shape)
            inner = grow(deep, mask, (int(i), int(j), int(k)), max(round(share * mask.sum()), 1), 0.0)
            core = self.scheme.channel(manner.core)
            block[whole][inner] = 0  # core and shell are two substances: they never overlap
            block[core][inner] = number
        if self.ignore is not None:
            self.ignore[:, *box][0][mask] = False

    def _paint_rim(
        self, rim: tuple[str, tuple[float, float]], mask: np.ndarray, box: Box, number: int, rng: np.random.Generator
    ) -> None:
        name, (low, high) = rim
        width = float(rng.uniform(low, high))
        middle = tuple((s.start + s.stop) // 2 for s in box)
        side = 0.5 * max((s.stop - s.start) * v for s, v in zip(box, self.voxel, strict=True))
        wide, _, _ = self._box((middle[0], middle[1], middle[2]), side + width)
        here = np.zeros(self.geometry.shape, bool)
        here[box] = mask
        near = ndimage.distance_transform_edt(~here[wide], sampling=self.voxel) <= width
        ring = near & self._allowed(wide, self._lesions() | here)
        channel = self.scheme.channel(name)
        self._cover(ring, wide, channel)
        self.array[:, *wide][channel][ring] = number

    def _depth(self, mask: np.ndarray) -> np.ndarray:
        """Return how deep in mm each voxel of a lesion lies; of equally deep ones the middle counts as deepest."""
        edge = [(1, 1) if n > 1 else (0, 0) for n in mask.shape]
        inner = tuple(slice(a, a + n) for (a, _), n in zip(edge, mask.shape, strict=True))
        deep = ndimage.distance_transform_edt(np.pad(mask, edge), sampling=self.voxel)[inner]
        middle = (np.argwhere(mask) * self.voxel).mean(axis=0)
        away = np.linalg.norm(np.moveaxis(np.indices(mask.shape), 0, -1) * self.voxel - middle, axis=-1)
        return np.asarray(np.where(mask, deep + 1e-3 * float(self.voxel.min()) / (1 + away), 0))

    def _cover(self, mask: np.ndarray, box: Box, channel: int) -> None:
        """Take away what a lesion covers.

        In an exclusive scheme that is everything. Where labels overlap, a lung or a body holds the lesion and stays: it
        is what the lesion arose in, or encloses it whole. A vessel that it meets ends at it.
        """
        block = self.array[:, *box]
        for other in range(len(block)):
            holds = not self.scheme.exclusive and (other in self._host or bool((block[other][mask] > 0).all()))
            if other != channel and not holds:
                block[other][mask] = 0


def _field_of(eye: Eye, shape: tuple[int, int, int]) -> np.ndarray:
    """Return the round piece of fundus that a camera shows, bool ``(I, J, K)``: nothing arises in its black frame."""
    x, y = np.arange(shape[0])[:, None, None], np.arange(shape[1])[None, :, None]
    inside = np.hypot(x - eye.field.x, y - eye.field.y) < eye.field.radius
    return np.broadcast_to(inside, shape)


def _extended(scheme: LabelScheme, manner: Manner) -> LabelScheme:
    """Return the scheme with the labels that it lacks, numbered on."""
    labels = list(scheme.labels)
    for name in manner.names:
        if name not in scheme.names:
            value = max(x.value for x in labels) + 1
            if value > 65535:
                raise LabelError(f"no number is left for the label {name!r}: the scheme goes up to {value - 1}")
            labels.append(Label(name, value, manner.finding.code if name == manner.label else None))
    return LabelScheme(tuple(labels), scheme.exclusive)


__all__ = ["Laid", "LesionMap", "Manner", "NoRoomError"]

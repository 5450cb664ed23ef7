"""Where in a label map a lesion may arise: candidate voxels, how deep they lie, what they are near to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy import ndimage

from equipoise.core import LabelScheme
from equipoise.engines.anatomy.lesion.clauses import Clause, Place
from equipoise.engines.anatomy.lesion.findings import GROUPS
from equipoise.errors import LabelError, did_you_mean

MOST_POINTS = 700_000
"""Voxels of a map at which places are judged; larger maps are judged at every second or third voxel."""
GAP = 0.04
"""Of a structure's size: narrower gaps in it, such as its vessels, are no border of it."""


UNLABELLED = "unlabelled"
"""What has no label, as a structure: the retina of a map of its vessels."""
NOTHING = -1
"""Its channel."""


def covered(array: np.ndarray, channels: Sequence[int], box: tuple[slice, slice, slice] | None = None) -> np.ndarray:
    """Return where any of some channels is, bool, within a box of ``array``, shape ``(L, I, J, K)``."""
    block = array if box is None else array[:, *box]
    found = np.zeros(block.shape[1:], bool)
    for channel in channels:
        found |= (block > 0).any(axis=0) ^ True if channel == NOTHING else block[channel] > 0
    return found


def resolve(name: str, scheme: LabelScheme) -> tuple[int, ...]:
    """Return the channels that a structure's name stands for; none if the scheme has no such structure.

    That is the label of this name, the parts of a group (`GROUPS`), or all labels that end with the name, as
    ``"kidney"`` means ``"left kidney"`` and ``"right kidney"``. ``"unlabelled"`` is what has no label. Capitals do not
    count.
    """
    wanted = " ".join(name.lower().split())
    names = [x.lower() for x in scheme.names]
    if wanted == UNLABELLED:
        return (NOTHING,)
    if wanted in names:
        return (names.index(wanted),)
    parts = GROUPS.get(wanted, ())
    found = [n for n, x in enumerate(names) if x in parts or x.endswith(f" {wanted}")]
    return tuple(found)


def require_structure(name: str, scheme: LabelScheme, who: str) -> tuple[int, ...]:
    """Return the channels of a structure; `LabelError` with the nearest name where there is none."""
    found = resolve(name, scheme)
    if not found:
        raise LabelError(
            f"{who}: the label maps have no structure {name!r}.{did_you_mean(name.lower(), scheme.names)}",
            fix=f"name one of {', '.join(scheme.names)}",
        )
    return found


@dataclass(eq=False)
class Sites:
    """The candidate voxels of one label map.

    Parameters
    ----------
    array, scheme
        The map's instance numbers, shape ``(L, I, J, K)``, and its labels.
    voxel
        mm.
    host
        Bool, shape ``(I, J, K)``: where lesions may arise.
    rim
        The periphery is what lies less deep than this share of the way from the border to the deepest place.
    near_mm
        How near is near, where a condition does not say.
    """

    array: np.ndarray
    scheme: LabelScheme
    voxel: np.ndarray
    host: np.ndarray
    rim: float
    near_mm: float
    _far: dict[tuple[int, ...], np.ndarray] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        shape = np.array(self.host.shape)
        step = 1
        while np.prod(np.ceil(shape / np.where(shape > 1, step, 1))) > MOST_POINTS:
            step += 1
        self._every = tuple(slice(step // 2 if n > 2 * step else 0, None, step if n > 1 else 1) for n in shape)
        self._step = np.where(shape > 1, step, 1)
        coarse = self.host[self._every]
        first = np.array([s.start for s in self._every])
        self._coarse = coarse
        self.index = np.argwhere(coarse) * self._step + first
        """Voxels, int ``(N, 3)``."""
        self.points = self.index * self.voxel
        """The same in mm from the first voxel."""
        self._share: np.ndarray | None = None

    @property
    def share(self) -> np.ndarray:
        """How deep each candidate lies: 0 at the host's border, 1 at the deepest place of its part; ``(N,)``."""
        if self._share is None:
            self._share = self._depth_share()[self._coarse]
        return self._share

    def share_at(self, candidate: int) -> float:
        """Return `share` of one candidate; NaN if no condition has asked for it yet."""
        return float("nan") if self._share is None else float(self._share[candidate])

    def distance(self, channels: tuple[int, ...]) -> np.ndarray:
        """Return the distance in mm of each candidate to the nearest voxel of some labels; inf where there is none."""
        if channels not in self._far:
            seen = covered(self.array, channels)
            # A thin structure must not slip between the places looked at: any voxel of a block counts.
            widened = ndimage.maximum_filter(seen, tuple(self._step)) if self._step.max() > 1 else seen
            coarse = widened[self._every]
            far = self._transform(~coarse) if coarse.any() else np.full(coarse.shape, np.inf)
            self._far[channels] = far[self._coarse]
        return self._far[channels]

    def chosen(self, clause: Clause) -> np.ndarray:
        """Return which candidates satisfy a clause's places, bool ``(N,)``."""
        good = np.ones(len(self.index), bool)
        for place in clause.places:
            good &= self._satisfied(place) == place.wanted
        return good

    def _satisfied(self, place: Place) -> np.ndarray:
        if place.relation == "periphery":
            return self.share < self.rim
        channels = require_structure(place.structure, self.scheme, "where")
        if place.relation == "near":
            return self.distance(channels) <= (self.near_mm if place.mm is None else place.mm)
        i, j, k = self.index.T
        return covered(self.array[:, i, j, k], channels)

    def _transform(self, inside: np.ndarray) -> np.ndarray:
        far: np.ndarray = ndimage.distance_transform_edt(inside, sampling=self.voxel * self._step)
        return far

    def _depth_share(self) -> np.ndarray:
        coarse = self._coarse
        if coarse.all():  # a host without a border within the picture ends at the picture's edge
            pad = [(1, 1) if n > 1 else (0, 0) for n in coarse.shape]
            inner = tuple(slice(a, a + n) for (a, _), n in zip(pad, coarse.shape, strict=True))
            depth = self._transform(np.pad(coarse, pad))[inner]
            return np.asarray(depth / depth.max())
        size = self.voxel * self._step
        amount = float(coarse.sum() * np.prod(size[:2] if coarse.shape[2] == 1 else size))
        gap = GAP * (np.sqrt(amount) if coarse.shape[2] == 1 else np.cbrt(amount))
        closed: np.ndarray = np.asarray(self._transform(~coarse) <= gap)
        if closed.all():
            closed = coarse
            gap = 0.0
        depth = np.maximum(self._transform(closed) - gap, 0)
        parts, count = ndimage.label(closed)
        deepest = np.concatenate([[1.0], ndimage.maximum(depth, parts, np.arange(1, count + 1))])
        share: np.ndarray = depth / np.maximum(deepest, 1e-6)[parts]
        return share


def host_channels(
    scheme: LabelScheme, inside: Sequence[str], usual: Sequence[Sequence[str]], who: str
) -> tuple[int, ...]:
    """Return the channels of the structures that lesions may arise in; none means whatever is labelled.

    Parameters
    ----------
    scheme
        Of the map.
    inside
        Structures that were asked for.
    usual
        Otherwise the first row of which the scheme has a structure.
    who
        For messages.

    Raises
    ------
    LabelError
        If the label scheme lacks a structure that was asked for.
    """
    if inside:
        return tuple(sorted({c for name in inside for c in require_structure(name, scheme, who)}))
    for row in usual:
        channels = {c for name in row for c in resolve(name, scheme)}
        if channels:
            return tuple(sorted(channels))
    return ()


__all__ = ["MOST_POINTS", "NOTHING", "UNLABELLED", "Sites", "covered", "host_channels", "require_structure", "resolve"]

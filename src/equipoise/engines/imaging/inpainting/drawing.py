"""Label maps of training cases with lesions set in, as an anatomy draws them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from equipoise.core import LabelMap
from equipoise.core.registry import make
from equipoise.engines.imaging.inpainting.grounds import Ground, Grounds, lesions_in
from equipoise.engines.imaging.inpainting.pieces import Piece, grown, pieces_of
from equipoise.engines.imaging.inpainting.places import Laid, Places
from equipoise.engines.parts.placement import Box, Placement
from equipoise.engines.parts.rendering import placed
from equipoise.errors import EngineError, EquipoiseError, LabelError

TRIES = 12
"""Drawn maps in a row none of whose lesions may find a place."""

HEALTHY_SHOWN = 2
"""Cases without lesions that an anatomy is shown to see whether it draws lesions by itself."""

APART = 3
"""Voxels that lesions keep clear of each other."""


@dataclass(frozen=True, eq=False)
class Inset(Placement):
    """A label map that lies on a training case as it is, with lesions set in.

    Parameters
    ----------
    lesions
        How many were set in.
    drawn_from
        Id of the training case that the anatomy drew them from; empty if from none.
    """

    lesions: int = 0
    drawn_from: str = ""


@dataclass(frozen=True, eq=False)
class LesionMaps:
    """What draws them; it offers what an anatomy does.

    Parameters
    ----------
    anatomy
        Fitted; draws the label maps whose lesions are taken.
    grounds
        The training cases.
    places
        Where lesions occur in them.
    count
        Smallest and largest number in a map; ``None`` for as many as the anatomy draws.
    parents
        The training patients.
    """

    anatomy: Any
    grounds: Grounds
    places: Places
    count: tuple[int, int] | None
    parents: frozenset[str]

    def draw_placed(self, n: int, rng: np.random.Generator) -> Iterator[tuple[LabelMap, Inset]]:
        """Yield ``n`` label maps, and the training case that each lies on.

        Raises
        ------
        EngineError
            If no lesion of several maps in a row finds a place.
        LabelError
            If the anatomy draws none of the lesions' labels.
        """
        (shapes,) = rng.spawn(1)
        maps = placed(self.anatomy, n * TRIES, shapes)
        for _ in range(n):
            (stream,) = rng.spawn(1)
            yield self._one(maps, stream)

    def _one(
        self, maps: Iterator[tuple[LabelMap, Placement | None]], rng: np.random.Generator
    ) -> tuple[LabelMap, Inset]:
        empty = tried = 0
        for drawn, placement in maps:
            self._require_named(drawn)
            made = self._in_place(drawn, placement) or self._moved(drawn, placement, rng)
            if made is not None:
                return made
            tried += 1
            empty += not lesions_in_any(drawn, self.grounds.names)
            if tried == TRIES:
                break
        raise EngineError(
            f"inpainting: no lesion of {tried} drawn label maps in a row could be set into a training image: {empty} "
            f"of them showed none, the others' fit into none of {len(self.grounds.open)} images at a place like those "
            "where the training cases have theirs",
            why="a lesion in tissue that it does not arise in, or cut off by the image's border, teaches what is wrong",
            fix='give larger images or smaller lesions (lesions = {kind = "warped", scale = 0.3}), or let them go into '
            'images that have lesions already: into = "any"',
        )

    def _require_named(self, drawn: LabelMap) -> None:
        names, known = self.grounds.names, set(drawn.scheme.names)
        # What an anatomy adds to all labels of the training cases is what it draws: theirs lay there already.
        added = known > set(self.grounds.every[0].case.labels.scheme.names)
        if added or not known & set(names):
            raise LabelError(
                f"inpainting: the anatomy of `lesions` draws {', '.join(drawn.scheme.names)}, and none of its own is "
                f"what the training cases call {', '.join(names)}",
                fix=f'let it draw them: lesions = {{kind = "lesion", label = "{names[0]}", ...}}',
            )

    def _in_place(self, drawn: LabelMap, placement: Placement | None) -> tuple[LabelMap, Inset] | None:
        """Return what an anatomy drew on a training case as that lies, which it knows better than we; else ``None``."""
        if placement is None or placement.nodes is not None or self.count is not None:
            return None
        ground = self.grounds.named(placement.source)
        moved = not (np.array_equal(placement.matrix, np.eye(3)) and not placement.offset.any())
        if ground is None or moved or placement.shape != ground.case.image.geometry.shape:
            return None
        lesions = _channels(drawn, self.grounds.names)
        lesions[:, lesions_in(ground.case.labels, self.grounds.names)] = 0
        if not lesions.any():
            return None
        numbers = len(np.unique(lesions[lesions > 0]))
        return self._made(ground, [(_whole(drawn), lesions)], numbers, placement.source)

    def _moved(
        self, drawn: LabelMap, placement: Placement | None, rng: np.random.Generator
    ) -> tuple[LabelMap, Inset] | None:
        """Return a training case's map with the lesions of a drawn one set in, or ``None`` if they do not fit."""
        pieces = pieces_of(drawn, self.grounds.names)
        if not pieces:
            return None
        ground = self.grounds.open[int(rng.integers(len(self.grounds.open)))]
        geometry = ground.case.image.geometry
        alike = drawn.scheme.names == ground.case.labels.scheme.names
        taken = grown(lesions_in(ground.case.labels, self.grounds.names), APART)
        laid: list[Laid] = []
        for piece in self._chosen(pieces, rng):
            position = self.places.position(drawn, piece.centre) if alike else None
            if drawn.unit == geometry.unit:
                piece = piece.at_spacing(drawn.spacing, geometry.spacing)
            found = self.places.lay(piece, position, ground, taken, rng)
            if found is not None:
                laid.append(found)
                there = np.zeros(geometry.shape, bool)
                there[found[0]] = (found[1] > 0).any(axis=0)
                taken = taken | grown(there, APART)
        if not laid or (self.count and len(laid) < self.count[0]):
            return None
        return self._made(ground, laid, len(laid), placement.source if placement else "")

    def _chosen(self, pieces: list[Piece], rng: np.random.Generator) -> list[Piece]:
        if self.count is None:
            return pieces
        wanted = int(rng.integers(self.count[0], self.count[1] + 1))
        return [pieces[i] for i in rng.choice(len(pieces), wanted, replace=wanted > len(pieces))]

    def _made(self, ground: Ground, laid: Sequence[Laid], lesions: int, source: str) -> tuple[LabelMap, Inset]:
        truth = ground.case.labels
        own = [truth.scheme.channel(name) for name in self.grounds.names]
        counted = {c for c in own if any(g.case.labels.array[c].max(initial=0) > 1 for g in self.grounds.every)}
        array = truth.array.astype(np.uint16)
        for box, numbers in laid:
            new = (numbers > 0).any(axis=0)
            if truth.scheme.exclusive:
                array[:, *box][:, new] = 0
            for channel, values in zip(own, numbers, strict=True):
                here = array[channel][box]
                # Numbers go on from the case's own where instances are counted.
                first = int(array[channel].max(initial=0)) if channel in counted else 0
                each = np.unique(values[values > 0]) if channel in counted else np.array([1])
                numbered = first + 1 + np.minimum(np.searchsorted(each, values), len(each) - 1)
                here[values > 0] = numbered[values > 0]
        smallest = truth.array.dtype if array.max() <= _most(truth.array.dtype) else np.dtype(np.uint16)
        made = LabelMap.on(truth.geometry, array.astype(smallest), truth.scheme, truth.ignore)
        return made, Inset(ground.case.id, truth.geometry.shape, lesions=lesions, drawn_from=source)


def anatomy_for(spec: Mapping[str, Any] | str, grounds: Grounds, rng: np.random.Generator) -> Any:
    """Return the anatomy that draws lesions, fitted.

    One that draws lesions itself, which shows where its training maps have none, is fitted on the cases that they go
    into. All others only hand on what they were shown, and are fitted on the cases that have lesions: else most of
    their maps would be empty where most cases are healthy.
    """
    anatomy, (showing, fitting) = make("anatomies", spec), rng.spawn(2)
    healthy = [ground.case for ground in grounds.open if ground.healthy][:HEALTHY_SHOWN]
    try:
        itself = bool(healthy) and any(
            lesions_in_any(labels, grounds.names) for labels in anatomy.fit(healthy, showing).draw(1, showing)
        )
    except EquipoiseError:
        itself = False  # it needs more or other cases; what is wrong beside that, it says below
    chosen = grounds.open if itself else [ground for ground in grounds.every if not ground.healthy]
    return anatomy.fit([ground.case for ground in chosen], fitting)


def lesions_in_any(labels: LabelMap, names: tuple[str, ...]) -> bool:
    """Whether a map shows any label of these names; its scheme may lack some."""
    return bool(_channels(labels, names).any())


def _channels(labels: LabelMap, names: tuple[str, ...]) -> np.ndarray:
    """Return a copy of the channels of these names, shape ``(N, I, J, K)``; empty where the scheme lacks one."""
    known, empty = labels.scheme.names, np.zeros(labels.geometry.shape, labels.array.dtype)
    return np.stack([labels.array[known.index(name)] if name in known else empty for name in names])


def _whole(labels: LabelMap) -> Box:
    i, j, k = labels.geometry.shape
    return slice(0, i), slice(0, j), slice(0, k)


def _most(dtype: np.dtype[Any]) -> int:
    return 1 if dtype.kind == "b" else int(np.iinfo(dtype).max)


__all__ = ["Inset", "LesionMaps", "anatomy_for"]

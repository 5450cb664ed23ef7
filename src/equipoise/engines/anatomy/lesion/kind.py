"""Kind ``lesion``: lesions of a grammar, drawn into the label maps of any other anatomy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from equipoise.core import Case, LabelMap
from equipoise.core.registry import make, require_types
from equipoise.engines.anatomy.lesion.drawing import DISTRIBUTIONS, SHAPES, Drawer, Spread
from equipoise.engines.anatomy.lesion.findings import ANYTHING, FINDINGS, TEXTURES, Finding
from equipoise.engines.anatomy.lesion.laying import LesionMap
from equipoise.engines.anatomy.lesion.manner import Laid, Manner, NoRoomError
from equipoise.engines.anatomy.lesion.where import parse_where
from equipoise.engines.parts.legal import require_anatomy, require_one_of, require_range, require_within
from equipoise.engines.parts.placement import Placement
from equipoise.engines.parts.rendering import placed
from equipoise.errors import EngineError, PlanError

TRIES = 12
"""Maps of the base in a row that may have no place for what was asked for."""


def _chest() -> dict[str, Any]:
    return {"kind": "phantom", "structures": ["nodule", "vessel", "chest wall", "lung"], "learn": False}


@dataclass(frozen=True)
class Lesion:
    """Lesions of one finding, with sizes, shapes and places as asked for, in the label maps of another anatomy.

    Where a parameter is ``None``, the finding's own range holds; `equipoise.engines.anatomy.lesion.findings` lists them
    with their sources. Every lesion of a map satisfies ``where``, and lesions of the same label that the base drew are
    taken out first unless ``keep`` is set.

    Parameters
    ----------
    base
        The anatomy that draws the body: a specification such as ``{kind = "head"}``.
    finding
        ``"nodule"``, ``"mass"``, ``"cyst"``, ``"haemorrhage"``, ``"white-matter lesion"``, ``"fracture line"``,
        ``"microaneurysm"`` or ``"exudate"``.
    where
        Which lesions to draw: ``"lesion < 6 mm and site = periphery"``. See
        `equipoise.engines.anatomy.lesion.where` for the grammar.
    label
        Name under which lesions are labelled, and by which imaging looks up or is told how they look (contrast); the
        finding's by default. A label that the base has gets further instances, another one is added to the scheme.
    texture
        What they are made of: ``"solid"``, ``"ground-glass"``, ``"part-solid"``, ``"cystic"`` or ``"haemorrhagic"``. A
        core or a whole of another substance is labelled as what it is: ``"ground-glass nodule"``, ``"cyst"``,
        ``"haemorrhage"``.
    rim, rim_mm
        Label of a rim around them, such as ``"oedema"``, and the range of its width in mm.
    diameter_mm, distribution
        Range of the diameter of the sphere, in a slice of the circle, of equal size, in mm (of a fracture line its
        length); ``"log-uniform"``, ``"log-normal"`` or ``"uniform"`` within it.
    count
        Smallest and largest number in a map.
    sphericity
        Range from 0.2 to 1, round, see `Look`.
    spiculation, lobulation, margin
        Ranges within 0 to 1; a margin of 1 is ill-defined.
    width_mm
        Of a fracture line.
    mass_effect
        Range of the share of a lesion's volume that displaces its surroundings, 0 to 0.95; the rest replaces them.
    inside
        Structures that lesions arise in, by label, group (``"lung"``, ``"bone"``, ``"brain"``), common ending
        (``"kidney"``) or as ``"unlabelled"``; empty is the finding's own, else whatever is labelled.
    within
        Structures that they may grow into; empty is the finding's own. ``["anything"]`` is all but bone and skin.
    periphery
        Share of the way from the border of what they arise in to its deepest place that counts as its periphery.
    near_mm
        How near is near, where the condition says no distance.
    grouping, group_mm
        ``"scattered"``, ``"cluster"`` or ``"ring"`` (circinate exudates), and the group's radius in mm.
    keep
        Whether lesions of this label that the base drew stay.
    px_mm
        Size of a pixel in mm, for bases whose images state none.

    References
    ----------
    In `equipoise.engines.anatomy.lesion.findings`: Fleischner glossary and guidelines, BI-RADS, STRIVE, Fazekas, ETDRS.
    """

    kind: ClassVar[str] = "lesion"

    base: dict[str, Any] | str = field(default_factory=_chest)
    finding: str = "nodule"
    where: str = ""
    label: str | None = None
    texture: str = "solid"
    rim: str | None = None
    rim_mm: tuple[float, float] = (3.0, 15.0)
    diameter_mm: tuple[float, float] | None = None
    distribution: str = "log-uniform"
    count: tuple[int, int] | None = None
    sphericity: tuple[float, float] | None = None
    spiculation: tuple[float, float] | None = None
    lobulation: tuple[float, float] | None = None
    margin: tuple[float, float] | None = None
    width_mm: float = 0.8
    mass_effect: tuple[float, float] | None = None
    inside: tuple[str, ...] = ()
    within: tuple[str, ...] = ()
    periphery: float = 0.33
    near_mm: float = 10.0
    grouping: str | None = None
    group_mm: float | None = None
    keep: bool = False
    px_mm: float | None = None
    _base: Any = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        require_anatomy(self.base, "lesion.base")
        require_types(self)
        require_one_of("lesion.finding", self.finding, FINDINGS)
        require_one_of("lesion.texture", self.texture, TEXTURES)
        require_one_of("lesion.distribution", self.distribution, DISTRIBUTIONS)
        if self.grouping is not None:
            require_one_of("lesion.grouping", self.grouping, ("scattered", "cluster", "ring"))
        self._require_ranges()
        for name in ("label", "rim"):
            if getattr(self, name) is not None and not getattr(self, name).strip():
                raise PlanError(f"lesion.{name} is empty", fix=f"name it, or leave {name} out")
        self._drawer.require_possible(self.where)

    def _require_ranges(self) -> None:
        for name, low, high, unit in (
            ("diameter_mm", 0.005, 300.0, "mm"),
            ("sphericity", 0.2, 1.0, ""),
            ("spiculation", 0.0, 1.0, ""),
            ("lobulation", 0.0, 1.0, ""),
            ("margin", 0.0, 1.0, ""),
            ("mass_effect", 0.0, 0.95, ""),
            ("count", 1, 1000, "lesions"),
            ("rim_mm", 0.0, 100.0, "mm"),
        ):
            if getattr(self, name) is not None:
                require_range(f"lesion.{name}", getattr(self, name), low, high, unit)
        require_within("lesion.width_mm", self.width_mm, 0.01, 20, "mm")
        require_within("lesion.periphery", self.periphery, 0.01, 0.99)
        require_within("lesion.near_mm", self.near_mm, 0.001, 500, "mm")
        if self.group_mm is not None:
            require_within("lesion.group_mm", self.group_mm, 0.001, 500, "mm")
        if self.px_mm is not None:
            require_within("lesion.px_mm", self.px_mm, 0.0001, 50, "mm")

    @cached_property
    def _finding(self) -> Finding:
        """The finding with the ranges that were stated."""
        names = ("diameter_mm", "count", "mass_effect", "grouping", "group_mm", *SHAPES)
        stated: dict[str, Any] = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        if self.within:
            stated["within"] = self.within
        return replace(FINDINGS[self.finding], **stated)

    @cached_property
    def _drawer(self) -> Drawer:
        found = self._finding
        spreads = {name: Spread(*getattr(found, name)) for name in SHAPES}
        spreads["size"] = Spread(*found.diameter_mm, self.distribution)
        return Drawer(parse_where(self.where, self.finding), spreads, found.count)

    @property
    def _anatomy(self) -> Any:
        return make("anatomies", self.base) if self._base is None else self._base

    @property
    def parents(self) -> frozenset[str]:
        """The patients that the base was fitted on: lesions are drawn from the literature."""
        return frozenset() if self._base is None else self._base.parents

    def fit(self, cases: Sequence[Case], rng: np.random.Generator) -> Lesion:
        """Return lesions in a base that was fitted on these cases."""
        return replace(self, _base=self._anatomy.fit(cases, rng))

    def draw(self, n: int, rng: np.random.Generator) -> Iterator[LabelMap]:
        """Yield ``n`` label maps.

        Raises
        ------
        EngineError
            If the base's maps have no place for what was asked for.
        LabelError
            If they lack a structure that was named.
        GeometryMismatchError
            If they state no size of a voxel and ``px_mm`` is not given.
        """
        for labels, _, _ in self.draw_described(n, rng):
            yield labels

    def draw_placed(self, n: int, rng: np.random.Generator) -> Iterator[tuple[LabelMap, Placement | None]]:
        """Yield ``n`` label maps with the training case that the base took each from, mass effect included."""
        for labels, placement, _ in self.draw_described(n, rng):
            yield labels, placement

    def draw_described(
        self, n: int, rng: np.random.Generator
    ) -> Iterator[tuple[LabelMap, Placement | None, tuple[Laid, ...]]]:
        """Yield ``n`` label maps, their placements, and what was drawn: place, size and shape of each lesion."""
        (shapes,) = rng.spawn(1)
        maps = placed(self._anatomy, n * TRIES, shapes)
        manner = Manner(
            self.finding,
            self._finding,
            self.label or self.finding,
            TEXTURES[self.texture],
            (self.rim, self.rim_mm) if self.rim else None,
            self.width_mm,
            self.inside,
            tuple(name for name in self.within if name != ANYTHING),
            self.periphery,
            self.near_mm,
            self.keep,
            self.px_mm,
        )
        for _ in range(n):
            (stream,) = rng.spawn(1)
            yield self._one(maps, manner, stream)

    def _one(
        self, maps: Iterator[tuple[LabelMap, Placement | None]], manner: Manner, rng: np.random.Generator
    ) -> tuple[LabelMap, Placement | None, tuple[Laid, ...]]:
        problem = "the base draws no label map"
        for _ in range(TRIES):
            labels, placement = next(maps, (None, None))
            if labels is None:
                break
            try:
                return LesionMap(labels, manner, placement).drawn(self._drawer, rng)
            except NoRoomError as error:
                problem = str(error)
        asked = f" with {self.where!r}" if self.where else ""
        raise EngineError(
            f"no map of {TRIES} in a row has a place for {self.finding}{asked}: {problem}",
            why="a map without what was asked for would be counted as one that shows it",
            fix="allow smaller or fewer lesions, finer voxels, another `where`, or name a larger structure in `inside`",
        )


__all__ = ["Lesion"]

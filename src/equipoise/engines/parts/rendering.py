"""What every simulator does around its physics: draw label maps, render each from its own stream, name the parents."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import cycle, islice
from typing import Any, Self

import numpy as np

from equipoise.core import Case, ClassLabel, Image, LabelMap, Origin
from equipoise.core.registry import canonical, make, spec_of
from equipoise.engines.parts.placement import Placement
from equipoise.errors import DataError, EngineError


@dataclass(frozen=True, eq=False)
class Rendered:
    """A picture of a label map, and how it was taken.

    Parameters
    ----------
    image
        On the grid of ``truth``.
    truth
        The label map as given, or as the acquisition's declared projection or resampling carries it; or a class.
    scanner
        Name of the profile that the acquisition was drawn from.
    attributes
        The acquisition, as numbers and short texts: provenance, and strata of a report.
    modality
        Of the picture, where the engine makes any; else the engine's own.
    """

    image: Image
    truth: LabelMap | ClassLabel
    scanner: str
    attributes: Mapping[str, str | float] = field(default_factory=dict)
    modality: str | None = None


Render = Callable[[Any, Placement | None, np.random.Generator], Rendered]
"""Makes the picture of a label map, or of a class where the engine has learned classes."""


class Simulator:
    """What every simulator of pictures does alike; a kind adds its physics as `learned_from` and `render`.

    A kind is a frozen dataclass with these fields: ``anatomy``, where label maps come from if none are given;
    ``learn``, whether `fit` learns from the training cases; ``_learned`` and ``_anatomy``, what it has learned.
    """

    anatomy: dict[str, Any] | str
    learn: bool
    _learned: Any
    _anatomy: Any

    def learned_from(self, cases: Sequence[Case], rng: np.random.Generator) -> Any:
        """Return what the imaging learns from training cases; it names their patients as ``parents``."""
        raise NotImplementedError

    def render(self, labels: LabelMap, placement: Placement | None, rng: np.random.Generator) -> Rendered:
        """Return the picture of one label map."""
        raise NotImplementedError

    @property
    def parents(self) -> frozenset[str]:
        """The patients that it was fitted on, by the imaging or by the anatomy."""
        return fitted_on(self._learned, self._anatomy)

    def fit(self, cases: Sequence[Case], rng: np.random.Generator) -> Self:
        """Return an engine that shows what the training cases show if ``learn`` is on, and whose anatomy may learn.

        Raises
        ------
        DataError
            If there is no case, an image is none of the kind's, or the anatomy cannot learn from the label maps.
        """
        pictures, shapes = rng.spawn(2)  # what one half learns does not shift the other's draws
        learned = self.learned_from(cases, pictures) if self.learn else None
        anatomy = make("anatomies", self.anatomy).fit(cases, shapes)
        return replace(self, _learned=learned, _anatomy=anatomy)  # type: ignore[type-var]

    def sample(self, n: int, rng: np.random.Generator, labels: Sequence[LabelMap] | None = None) -> Iterator[Case]:
        """Return an iterator of ``n`` cases: of the given label maps in turn, or of maps that the anatomy draws.

        Raises
        ------
        LabelError
            If a label is not known, not stated, and not learned.
        DataError
            If ``labels`` is empty.
        GeometryMismatchError
            If a grid cannot be imaged, or its voxels have an impossible size.
        EngineError
            If the anatomy draws too few maps.
        """
        anatomy = None if labels is not None else self._anatomy or make("anatomies", self.anatomy)
        return render_cases(self, n, rng, labels, anatomy, fitted_on(self._learned), self.render)


def render_cases(
    engine: Any,
    n: int,
    rng: np.random.Generator,
    labels: Sequence[LabelMap] | None,
    anatomy: Any,
    seen: frozenset[str],
    render: Render,
) -> Iterator[Case]:
    """Return an iterator of ``n`` simulated cases: of the given label maps in turn, or of maps that the anatomy draws.

    Patients of *given* label maps are not known here: whoever hands them over adds them to the parents.

    Parameters
    ----------
    engine
        Whose cases they are: names ``kind``, ``modalities`` and the parameters for the provenance.
    n
        How many.
    rng
        Stream of all of them; each case gets a stream of its own, the same whoever draws the maps.
    labels
        Label maps to render, or ``None`` for the anatomy's.
    anatomy
        Draws label maps, or classes; one with ``draw_placed`` tells where a training case's tissue came to lie. What
        one has as ``provenance`` stands in each case's attributes, its names after "anatomy".
    seen
        Patients that the imaging was fitted on.
    render
        Makes one picture.

    Raises
    ------
    DataError
        If ``labels`` is empty.
    EngineError
        If the anatomy draws too few maps.
    """
    if labels is not None and not len(labels):
        raise DataError(f"{engine.kind} got an empty list of label maps", fix="give at least one, or None for its own")
    (shapes,) = rng.spawn(1)
    if labels is not None:
        given = ((truth, None) for truth in islice(cycle(labels), n))
        return _cases(engine, n, given, seen, rng, render, {})
    notes = {f"anatomy {name}": value for name, value in getattr(anatomy, "provenance", {}).items()}
    return _cases(engine, n, placed(anatomy, n, shapes), seen | anatomy.parents, rng, render, notes)


def fitted_on(*learned: Any) -> frozenset[str]:
    """Return the patients that parts of an engine were fitted on; ``None`` is a part that was not fitted."""
    return frozenset().union(*(part.parents for part in learned if part is not None))


def placed(anatomy: Any, n: int, rng: np.random.Generator) -> Iterator[tuple[LabelMap, Placement | None]]:
    """Yield an anatomy's label maps, with their placement where it knows one."""
    if hasattr(anatomy, "draw_placed"):
        yield from anatomy.draw_placed(n, rng)
    else:
        for labels in anatomy.draw(n, rng):
            yield labels, None


def _cases(
    engine: Any,
    n: int,
    maps: Iterator[tuple[Any, Placement | None]],
    parents: frozenset[str],
    rng: np.random.Generator,
    render: Render,
    notes: Mapping[str, str | float],
) -> Iterator[Case]:
    spec = canonical(spec_of(engine))
    # What a network has learned to make is synthetic too, but nothing of it was simulated.
    how = "simulated" if getattr(engine, "simulates", False) else "synthetic"
    for index in range(n):
        (stream,) = rng.spawn(1)
        truth, placement = next(maps, (None, None))
        if truth is None:
            raise EngineError(f"the anatomy of {engine.kind} drew {index} label maps, {n} were asked for")
        key = f"{stream.integers(2**63):016x}"
        made = render(truth, placement, stream)
        yield Case(
            id=f"{engine.kind}-{key}",
            patient=f"synthetic-{engine.kind}-{key}",
            image=made.image,
            truth=made.truth,
            origin=Origin("synthetic", engine.kind, spec, key, parents),
            scanner=f"{how}, {made.scanner}",
            modality=made.modality or engine.modalities[0],
            attributes={**notes, **made.attributes},
        )

"""What every simulator does around its physics: draw label maps, render each from its own stream, name the parents."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import cycle, islice
from typing import Any

import numpy as np

from equipoise.core import Case, Image, LabelMap, Origin
from equipoise.core.registry import canonical, spec_of
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
        The label map as given, or as the acquisition's declared projection or resampling carries it.
    scanner
        Name of the profile that the acquisition was drawn from.
    attributes
        The acquisition, as numbers and short texts: provenance, and strata of a report.
    """

    image: Image
    truth: LabelMap
    scanner: str
    attributes: Mapping[str, str | float] = field(default_factory=dict)


Render = Callable[[LabelMap, Placement | None, np.random.Generator], Rendered]


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
        Draws label maps; one that also offers ``draw_placed`` tells where a training case's tissue came to lie.
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
        return _cases(engine, n, given, seen, rng, render)
    return _cases(engine, n, placed(anatomy, n, shapes), seen | anatomy.parents, rng, render)


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
    maps: Iterator[tuple[LabelMap, Placement | None]],
    parents: frozenset[str],
    rng: np.random.Generator,
    render: Render,
) -> Iterator[Case]:
    spec = canonical(spec_of(engine))
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
            scanner=f"simulated, {made.scanner}",
            modality=engine.modalities[0],
            attributes=made.attributes,
        )

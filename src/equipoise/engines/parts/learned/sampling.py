"""Cases from an engine that has learned."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from equipoise.core import Case, LabelMap
from equipoise.core.registry import make
from equipoise.engines.parts.learned.learnable import require_learnable
from equipoise.engines.parts.learned.privacy import Privacy, require_protected_masks
from equipoise.engines.parts.rendering import render_cases
from equipoise.errors import EngineError


def sample_learned(
    engine: Any, n: int, rng: np.random.Generator, labels: Sequence[LabelMap] | None, learned: Any
) -> Iterator[Case]:
    """Return an iterator of ``n`` cases under the given label maps in turn, or under those of the engine's anatomy.

    An engine that has learned classes makes cases of these, as often as it was shown them or as its ``classes`` say.

    Raises
    ------
    EngineError
        If ``learned`` is ``None``: the engine was not fitted. If label maps are given and it has learned classes.
    LabelError
        If its ``classes`` name one that does not exist.
    """
    if learned is None:
        raise EngineError(
            f"{engine.kind} was not fitted, so it has seen no image",
            fix="fit it on training cases first (a plan does), or use a simulator, which needs none",
        )
    drawn = engine._anatomy
    privacy = Privacy.of(engine.kind, getattr(engine, "privacy", None))
    if privacy is not None:
        shown = require_protected_masks(engine.kind, privacy, drawn) if labels is None else "given from outside"
        learned = replace(learned, attributes={**learned.attributes, "privacy of label maps": shown})
    if learned.classes is not None:
        if labels is not None:
            raise EngineError(
                f"{engine.kind} was fitted on the classes {list(learned.classes.classes)} and was given label maps",
                why="it has never seen where in an image anything is",
                fix="give no label maps; `classes` says which classes it makes, or fit it on cases with label maps",
            )
        drawn = learned.classes.wanted(engine.kind, getattr(engine, "classes", None))
    return render_cases(engine, n, rng, labels, drawn, learned.parents, learned.render)


def anatomy_for(engine: Any, cases: Sequence[Case], rng: np.random.Generator) -> Any:
    """Return an engine's anatomy, fitted; ``None`` where the cases have classes and no label maps.

    Call it before the training: what is wrong with the label maps is then said at once, not after hours.

    Raises
    ------
    DataError, LabelError, PlanError
        Cases that no engine can learn from, see `require_learnable`, or masks of patients who are to be protected.
    """
    if require_learnable(engine.kind, cases, getattr(engine, "classes", None)):
        return None
    anatomy = make("anatomies", engine.anatomy).fit(cases, rng)
    privacy = Privacy.of(engine.kind, getattr(engine, "privacy", None))
    if privacy is not None:
        require_protected_masks(engine.kind, privacy, anatomy)
    return anatomy


__all__ = ["anatomy_for", "sample_learned"]

"""Cases from an engine that has learned."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from equipoise.core import Case, LabelMap
from equipoise.engines.parts.rendering import render_cases
from equipoise.errors import EngineError


def sample_learned(
    engine: Any, n: int, rng: np.random.Generator, labels: Sequence[LabelMap] | None, learned: Any
) -> Iterator[Case]:
    """Return an iterator of ``n`` cases under the given label maps in turn, or under those of the engine's anatomy.

    Raises
    ------
    EngineError
        If ``learned`` is ``None``: the engine was not fitted.
    """
    if learned is None:
        raise EngineError(
            f"{engine.kind} was not fitted, so it has seen no image",
            fix="fit it on training cases first (a plan does), or use a simulator, which needs none",
        )
    return render_cases(engine, n, rng, labels, engine._anatomy, learned.parents, learned.render)


__all__ = ["sample_learned"]

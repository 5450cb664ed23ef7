"""Cases from an engine, checked before anything is trained on them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import cast

import numpy as np

from equipoise.core import Case, Engine, LabelMap, Split, Stream, check_no_leak, rng_for
from equipoise.core.registry import make
from equipoise.errors import EngineError, EquipoiseError

BATCH = 64
"""Cases that a stream asks its engine for at a time."""


def fitted(spec: str, cases: Sequence[Case], split: Split, seed: int, *stream: object) -> Engine:
    """Return an engine fitted on an arm's own training cases; held-out patients raise `LeakageError`."""
    check_no_leak(cases, split.held_out, what="the fit of an engine")
    engine = cast(Engine, make("engines", json.loads(spec)))
    try:
        return engine.fit(cases, rng_for(seed, "fit", *stream))
    except EquipoiseError:
        raise
    except Exception as error:  # an engine may be anybody's plug-in: its faults end in one clear message
        raise _broke(engine.kind, "while it was fitted", error) from error


def sampled(engine: Engine, like: Case, n: int, seed: int, *stream: object) -> Iterator[Case]:
    """Yield ``n`` checked synthetic cases."""
    yield from _checked(engine, like, n, rng_for(seed, "sample", *stream))


def stream_of(engine: Engine, like: Case) -> Stream:
    """Return an endless stream of checked synthetic cases."""

    def stream(rng: np.random.Generator) -> Iterator[Case]:
        while True:
            yield from _checked(engine, like, BATCH, rng.spawn(1)[0])

    return stream


def _checked(engine: Engine, like: Case, n: int, rng: np.random.Generator) -> Iterator[Case]:
    made = 0
    cases = engine.sample(n, rng)
    while made < n:
        try:
            case = next(cases)
        except StopIteration:
            raise EngineError(
                f"engine {engine.kind!r} was asked for {n} cases and made {made}",
                why="the mix would hold fewer synthetic cases than the arm says",
                fix="mend the engine's sample(): it must yield as many cases as it is asked for",
            ) from None
        except EquipoiseError:
            raise
        except Exception as error:  # as above
            raise _broke(engine.kind, f"while it made case {made + 1}", error) from error
        require_usable(engine.kind, case, like)
        made += 1
        yield case


def require_usable(kind: str, case: Case, like: Case) -> None:
    """Raise `EngineError` unless a synthetic case can stand beside the real case ``like``."""
    problem = None
    if not case.synthetic:
        problem = "is not marked as synthetic"
    elif not isinstance(case.truth, LabelMap):
        problem = "has no label map"
    elif case.truth.scheme.names != like.labels.scheme.names:
        problem = f"has labels {case.truth.scheme.names}, the real cases have {like.labels.scheme.names}"
    elif case.image.channels != like.image.channels:
        problem = f"has {case.image.channels} channel(s), the real cases have {like.image.channels}"
    elif case.image.geometry.ndim != like.image.geometry.ndim:
        problem = f"is {case.image.geometry.ndim}-D, the real cases are {like.image.geometry.ndim}-D"
    elif not np.isfinite(case.image.array).all():
        problem = "holds NaN or infinite values"
    if problem:
        raise EngineError(
            f"engine {kind!r}: case {case.id!r} {problem}",
            why="training on it would break or bias every arm that uses this engine",
            fix=f"correct the engine's parameters in the plan, or run without it; see `equipoise sample {kind}`",
        )


def _broke(kind: str, when: str, error: Exception) -> EngineError:
    return EngineError(
        f"engine {kind!r} failed {when}: {type(error).__name__}: {error}",
        why="its arms cannot be run; everything finished is kept",
        fix="correct the engine or its parameters, then `equipoise resume`",
    )

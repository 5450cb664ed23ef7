"""A training case as the engine keeps it: with its range of values, ready to be cut, read and written back."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from equipoise.core import Case, ClassLabel, Image, LabelMap, Origin
from equipoise.core.geometry import Unit
from equipoise.engines.augmentation.stain import restain_light
from equipoise.errors import EngineError

SAMPLED = 4096
"""Voxels per case that grey values are estimated from."""

FOREGROUND = 256
"""Labelled voxels per case that are remembered, to cut patches around."""

Probe = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
"""From positions, int ``(3, N)``, to normalised values ``(C, N)`` and label masks ``(L + 1, N)``, ignored ones last."""

HELD_BYTES = 512 * 2**20
"""Cases are held in memory up to this size; later ones are read from their files again at every use."""


@dataclass(frozen=True, eq=False)
class Source:
    """A training case with what is known of its grey values.

    Parameters
    ----------
    case
        The case, without its single reads.
    low, high
        0.5th and 99.5th percentile per channel, shape ``(C,)``: 0 and 1 of the normalised scale. Per case, since the
        grey values of MRI have no unit.
    floor, ceiling
        Values that nothing may leave, shape ``(C,)``: the case's own extremes; 0 and 255 for 8-bit pictures.
    foreground
        Positions of some labelled voxels, int, shape ``(N, 3)``.
    """

    case: Case
    low: np.ndarray
    high: np.ndarray
    floor: np.ndarray
    ceiling: np.ndarray
    foreground: np.ndarray


def require_alike(cases: Sequence[Case]) -> None:
    """Raise `EngineError` unless there are annotated cases of one kind."""
    if not cases:
        raise EngineError("the augmentation engine was given no case", fix="fit it on at least one training case")
    bare = [c.id for c in cases if c.truth is None]
    if bare:
        raise EngineError(
            f"case(s) {', '.join(bare[:5])} have no truth, so a changed copy would have none either",
            fix="fit the engine on annotated cases only",
        )
    kinds = {(c.image.channels, c.truth.scheme if isinstance(c.truth, LabelMap) else None) for c in cases}
    if len(kinds) > 1:
        found = sorted(f"{n} channel(s), {'a class' if s is None else s.names}" for n, s in kinds)
        raise EngineError(
            f"the cases do not belong together: {'; '.join(found)}",
            fix="fit one engine per number of channels and label scheme",
        )


def labels_of(case: Case) -> np.ndarray:
    """Return the label map's channels; a case with a class has none."""
    return case.truth.array if isinstance(case.truth, LabelMap) else np.zeros((0, *case.image.geometry.shape), np.uint8)


def in_memory(source: Source, image: np.ndarray) -> Source:
    """Return the source with voxels that are held instead of read at every use."""
    case, truth = source.case, source.case.truth
    if isinstance(truth, LabelMap):
        truth = replace(truth, voxels=truth.array, ignore=None if truth.ignore is None else np.asarray(truth.ignore))
    return replace(source, case=replace(case, image=Image.on(case.image.geometry, image), truth=truth))


def measure(
    case: Case, image: np.ndarray, truth: np.ndarray, rng: np.random.Generator
) -> tuple[Source, np.ndarray, np.ndarray]:
    """Return the case with its range, and sampled normalised values ``(N, C)`` with their labels ``(N, L)``."""
    if image.dtype.kind not in "buif" or not np.isfinite(image).all():
        raise EngineError(
            f"case {case.id!r} holds values that are not finite numbers ({image.dtype})",
            file=case.file,
            fix="run `equipoise check`, then repair or leave out the file",
        )
    flat = image.reshape(len(image), -1)
    named = truth.reshape(len(truth), flat.shape[1])
    some = rng.integers(0, flat.shape[1], SAMPLED)
    foreground = np.flatnonzero((named > 0).any(axis=0))
    few = rng.choice(foreground, min(FOREGROUND, len(foreground)), replace=False) if len(foreground) else foreground
    low, high = np.percentile(flat[:, some].astype(np.float64), [0.5, 99.5], axis=1)
    high = np.where(high > low, high, low + 1.0)
    byte = image.dtype == np.uint8
    floor = np.zeros(len(flat)) if byte else flat.min(axis=1).astype(float)
    ceiling = np.full(len(flat), 255.0) if byte else flat.max(axis=1).astype(float)
    places = np.stack(np.unravel_index(few, image.shape[1:]), axis=1)
    seen = np.concatenate([some, few])
    values = ((flat[:, seen].T - low) / (high - low)).astype(np.float32)
    kept = replace(case, reads=(), attributes=dict(case.attributes))  # a plain dictionary can be sent to a worker
    return Source(kept, low, high, floor, ceiling, places), values, named[:, seen].T > 0


def probe_window(u: np.ndarray, labels: np.ndarray) -> Probe:
    """Return how to read a window that is being changed."""

    def at(p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        i, j, k = p
        return u[:, i, j, k], labels[:, i, j, k] > 0

    return at


def probe_source(source: Source) -> Probe:
    """Return how to read a case, without cutting it."""
    array, truth = source.case.image.array, source.case.labels
    named, ignore = truth.array, None if truth.ignore is None else np.asarray(truth.ignore)

    def at(p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        i, j, k = p
        values = (array[:, i, j, k] - source.low[:, None]) / (source.high - source.low)[:, None]
        ignored = np.zeros((1, p.shape[1]), bool) if ignore is None else ignore[:, i, j, k] > 0
        return values, np.concatenate([named[:, i, j, k] > 0, ignored])

    return at


def cut(source: Source, first: np.ndarray, last: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return a window, normalised float32 ``(C, …)`` and int32 labels ``(L + 1, …)`` whose last channel is ignored."""
    i, j, k = (slice(int(a), int(b)) for a, b in zip(first, last, strict=True))
    image = source.case.image.array[:, i, j, k].astype(np.float32)
    image -= source.low.astype(np.float32)[:, None, None, None]
    image /= (source.high - source.low).astype(np.float32)[:, None, None, None]
    truth = source.case.truth
    count = len(truth.scheme.labels) if isinstance(truth, LabelMap) else 0
    labels = np.zeros((count + 1, *image.shape[1:]), np.int32)
    if isinstance(truth, LabelMap):
        labels[:count] = truth.array[:, i, j, k]
        if truth.ignore is not None:
            labels[count] = np.asarray(truth.ignore)[0, i, j, k]
    return np.ascontiguousarray(image), labels


def restore(u: np.ndarray, host: Source) -> np.ndarray:
    """Return the normalised image in the case's own values and type, within its range."""
    low, high, floor, ceiling = (
        x.astype(np.float32)[:, None, None, None] for x in (host.low, host.high, host.floor, host.ceiling)
    )
    values: np.ndarray = np.clip(low + u * (high - low), floor, ceiling)
    dtype = np.dtype(host.case.image.voxels.dtype)
    return np.rint(values).astype(dtype) if dtype.kind in "ui" else values.astype(np.float32)


def placed(host: Source, start: np.ndarray) -> tuple[np.ndarray, str | None, Unit]:
    """Return affine, frame and unit of a window that begins at voxel ``start``."""
    image = host.case.image
    affine = image.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ start
    return affine, image.frame, image.unit


def longest_side(source: Source) -> float:
    """Return the longest side of a case's image, in mm or px."""
    image = source.case.image
    return max(n * s for n, s in zip(image.geometry.shape, image.spacing, strict=True))


def restain(u: np.ndarray, host: Source, amount: float, rng: np.random.Generator) -> np.ndarray:
    """Return a normalised colour image whose two stains are up to ``1.6 ** amount`` times as strong or as weak."""
    low, high, glass = (
        x.astype(np.float32)[:, None, None, None] for x in (host.low, host.high, np.maximum(host.high, host.ceiling))
    )
    light = (low + u * (high - low)) / glass
    scale = np.exp(amount * math.log(1.6) * rng.uniform(-1, 1, 2))
    restained = restain_light(light, scale, 0.15 * amount * rng.uniform(-1, 1, 2))
    return np.asarray((restained * glass - low) / (high - low), np.float32)


def named_after(
    case: Case, donors: Sequence[Source], image: Image, truth: LabelMap | ClassLabel | None, origin: Origin
) -> Case:
    """Return the synthetic case, with what holds of its source still said."""
    licences = {case.licence, *(d.case.licence for d in donors)}
    made_of: dict[str, str | float] = {"source": case.id}
    if donors:
        made_of["donor"] = "; ".join(dict.fromkeys(d.case.id for d in donors))
    return replace(
        case,
        id=f"{origin.engine}-{origin.seed}",
        patient=f"synthetic-{origin.engine}-{origin.seed}",
        image=image,
        truth=truth,
        origin=origin,
        scanner=None,
        reads=(),
        licence=None if None in licences else "; ".join(sorted(x for x in licences if x)),
        attributes={**case.attributes, **made_of},
        file=None,
    )


def roomy(labels: np.ndarray, truth: LabelMap) -> np.dtype[np.generic]:
    """Return the truth's own type, or one that holds the instances which mixing has added."""
    own = np.dtype(truth.voxels.dtype)
    own = np.dtype(np.uint8) if own.kind == "b" else own
    return own if not labels.size or labels.max() <= np.iinfo(own).max else np.dtype(np.int32)


__all__ = [
    "HELD_BYTES",
    "Probe",
    "Source",
    "cut",
    "in_memory",
    "labels_of",
    "longest_side",
    "measure",
    "named_after",
    "placed",
    "probe_source",
    "probe_window",
    "require_alike",
    "restain",
    "restore",
    "roomy",
]

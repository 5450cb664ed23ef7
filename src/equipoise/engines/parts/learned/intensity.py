"""From stored intensities to the -1 … 1 that networks make, and back to what a scanner would have stored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from equipoise.core import Case
from equipoise.errors import DataError

EDGES = (0.1, 99.9)
"""Percentiles of an image that become -1 and 1; what lies beyond is cut."""

TOGETHER = 0.15
"""Images share one scale where their own edges spread by less than this share of the range: CT does, most MRI not."""

SAMPLE = 50_000
"""Voxels of a channel that percentiles are taken from."""


@dataclass(frozen=True, eq=False)
class Intensity:
    """The scale of the training images, per image or for all of them.

    Parameters
    ----------
    low, high
        What becomes -1 and 1, float64, shape ``(N, C)``; one row where all images share a scale.
    dtype
        Of the stored images.
    """

    low: np.ndarray
    high: np.ndarray
    dtype: np.dtype

    @classmethod
    def of(cls, cases: Sequence[Case]) -> Intensity:
        """Return the scale of training images.

        Colours and other 8-bit images keep 0 to 255. Otherwise each image's own edges count, unless they hardly differ.

        Raises
        ------
        DataError
            Images of different types or channels, values that are not numbers, or an image that shows one value only.
        """
        arrays = [np.asarray(case.image.array) for case in cases]
        _require_alike(cases, arrays)
        channels = arrays[0].shape[0]
        if all(a.dtype == np.uint8 for a in arrays):
            return cls(np.zeros((1, channels)), np.full((1, channels), 255.0), np.dtype(np.uint8))
        edges = np.array([[np.percentile(_some(c), EDGES) for c in a] for a in arrays])
        low, high = edges[..., 0], edges[..., 1]
        dtype = _stored(arrays)
        width = np.maximum((high - low).mean(0), 1e-12)
        if (low.std(0) < TOGETHER * width).all() and (high.std(0) < TOGETHER * width).all():
            return cls(low.min(0, keepdims=True), high.max(0, keepdims=True), dtype)
        return cls(low, high, dtype)

    @classmethod
    def within(cls, cases: Sequence[Case], low: float, high: float) -> Intensity:
        """Return a scale that was stated, so that nothing of it comes from the images.

        Raises
        ------
        DataError
            As `of` does.
        """
        arrays = [np.asarray(case.image.array) for case in cases]
        _require_alike(cases, arrays)
        dtype = _stored(arrays)
        channels = arrays[0].shape[0]
        return cls(np.full((1, channels), low), np.full((1, channels), high), dtype)

    def encode(self, array: np.ndarray, source: int) -> np.ndarray:
        """Return an image ``(C, I, J, K)`` of training case number ``source`` in -1 … 1, float32."""
        low, high = self._edges(source)
        scaled = (np.asarray(array, np.float32) - low) * (2 / (high - low)) - 1
        cut: np.ndarray = np.clip(scaled, -1, 1)
        return cut

    def decode(self, values: np.ndarray, source: int) -> np.ndarray:
        """Return an image ``(C, I, J, K)`` from -1 … 1 on the scale of training case number ``source``, as stored."""
        low, high = self._edges(source)
        stored = (np.clip(values, -1, 1).astype(np.float32) + 1) * ((high - low) / 2) + low
        whole: np.ndarray = np.rint(stored) if self.dtype.kind in "iu" else stored
        return whole.astype(self.dtype)

    def _edges(self, source: int) -> tuple[np.ndarray, np.ndarray]:
        row = 0 if len(self.low) == 1 else source % len(self.low)
        low, high = (e[row].astype(np.float32)[:, None, None, None] for e in (self.low, self.high))
        return low, high


def _stored(arrays: Sequence[np.ndarray]) -> np.dtype:
    """Return the type that images are stored in: whole numbers only where all of them are."""
    types = {a.dtype for a in arrays}
    return types.pop() if len(types) == 1 and arrays[0].dtype.kind in "iu" else np.dtype(np.float32)


def _some(channel: np.ndarray) -> np.ndarray:
    flat = channel.reshape(-1)
    return flat[:: max(flat.size // SAMPLE, 1)]


def _require_alike(cases: Sequence[Case], arrays: Sequence[np.ndarray]) -> None:
    for case, array in zip(cases, arrays, strict=True):
        problem = None
        if array.shape[0] != arrays[0].shape[0]:
            problem = f"has {array.shape[0]} channel(s), {cases[0].id!r} has {arrays[0].shape[0]}"
        elif array.dtype.kind not in "buif" or not np.isfinite(_some(array)).all() or not np.isfinite(array).all():
            problem = "holds values that are not finite numbers"
        elif array.min() == array.max():
            problem = f"shows one value only ({array.flat[0]})"
        elif len(array) > 1 and (array.dtype == np.uint8) != (arrays[0].dtype == np.uint8):
            problem = f"is stored as {array.dtype}, {cases[0].id!r} as {arrays[0].dtype}"
        if problem:
            raise DataError(
                f"image of case {case.id!r} {problem}",
                file=case.file,
                why="one network learns images of one kind; nothing can be learned from an empty one",
                fix="leave the case out or convert it; `equipoise check` lists all such cases",
            )


__all__ = ["Intensity"]

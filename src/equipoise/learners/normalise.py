"""From stored intensities to what a network reads: float32 around 0 with a spread near 1."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from equipoise.core.case import Case, patients_of
from equipoise.core.split import Split, check_no_leak
from equipoise.errors import DataError
from equipoise.learners.recipe import Normalise

SAMPLE = 100_000
"""Voxels of a channel that its statistics are taken from: percentiles then vary by less than 1 % of the spread."""

LIMIT = 5.0
"""Normalised values are cut here, in standard deviations, so that a burnt-in marker or a metal implant cannot
dominate a patch."""


@dataclass(frozen=True, slots=True)
class Normaliser:
    """Maps intensities of each channel to z-scores, ``(x - mean) / sd``.

    Parameters
    ----------
    mode
        ``"image"``: mean and standard deviation of each image inside its robust range (0.5 to 99.5 percentile of its
        values other than 0). ``"window"``: fixed bounds, such as HU. ``"fitted"``: constants learned from training
        cases.
    mean, sd, low, high
        Per channel, for ``"fitted"`` and ``"window"`` (a window has one value for all channels); values outside
        ``low`` to ``high`` are cut.
    parents
        The patients that the constants were learned from.
    """

    mode: Normalise = "image"
    mean: tuple[float, ...] = ()
    sd: tuple[float, ...] = ()
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    parents: frozenset[str] = frozenset()

    @classmethod
    def of_window(cls, low: float, high: float) -> Normaliser:
        """Return the normaliser that maps a fixed window to -1 … 1."""
        return cls("window", ((low + high) / 2,), ((high - low) / 2,), (low,), (high,))

    @classmethod
    def fit(cls, cases: Sequence[Case], split: Split, paid: frozenset[str] | None = None) -> Normaliser:
        """Return a normaliser with constants learned from training cases.

        Each case gives the same number of voxels, so that a large scan does not outvote a small one.

        Raises
        ------
        LeakageError
            A case brings a held-out patient, or one that the arm does not pay for.
        """
        check_no_leak(cases, split.held_out, paid, "the normaliser")
        each = max(SAMPLE // len(cases), 200)
        samples = [_inside(channels, each) for channels in zip(*(readable(case) for case in cases), strict=True)]
        moments = [_robust(sample) for sample in samples]
        mean, sd, low, high = (tuple(column) for column in zip(*moments, strict=True))
        return cls("fitted", mean, sd, low, high, patients_of(cases))

    def __call__(self, array: np.ndarray) -> np.ndarray:
        """Return the z-scores of an image, float32, same shape ``(C, I, J, K)``."""
        out = np.empty(array.shape, np.float32)
        for c, channel in enumerate(array):
            mean, sd, low, high = self._constants(c, channel)
            out[c] = np.asarray(np.clip(channel, low, high), np.float32)
            out[c] -= np.float32(mean)
            out[c] *= np.float32(1.0 / sd)
        return np.clip(out, -LIMIT, LIMIT, out=out)

    def _constants(self, c: int, channel: np.ndarray) -> tuple[float, float, float, float]:
        if self.mode == "image":
            mean, sd, _, _ = _robust(_inside([channel], SAMPLE))
            return mean, sd, -np.inf, np.inf
        c = min(c, len(self.mean) - 1)
        return self.mean[c], self.sd[c], self.low[c], self.high[c]


def readable(case: Case) -> np.ndarray:
    """Return a case's image; `DataError` if it has a value that is not a number or the image is empty."""
    return require_numbers(case.image.array, f"case {case.id!r}", case.file)


def require_numbers(array: np.ndarray, what: str, file: str | None = None) -> np.ndarray:
    """Return ``array``; `DataError` if it has no voxel, is complex or has a value that is not a finite number."""
    if array.size == 0 or array.dtype.kind not in "buif":
        raise DataError(
            f"{what} has an image of shape {array.shape} and type {array.dtype}; numbers are needed", file=file
        )
    bad = 0 if array.dtype.kind in "bui" else int(array.size - np.isfinite(array).sum())
    if bad:
        raise DataError(
            f"{what} has {bad} voxel(s) that are NaN or infinite",
            file=file,
            why="one of them makes every weight of the network NaN",
            fix="replace them by the background value: numpy.nan_to_num(array, nan=background)",
        )
    return array


def _inside(channels: Iterable[np.ndarray], each: int) -> np.ndarray:
    """Return up to ``each`` evenly spaced values other than 0 of every array, as float64."""
    found = []
    for channel in channels:
        flat = channel.reshape(-1)
        sample = flat[:: max(flat.size // each, 1)].astype(np.float64)
        tissue = sample[sample != 0]
        found.append(tissue if tissue.size >= 0.01 * sample.size else sample)
    return np.concatenate(found)


def _robust(sample: np.ndarray) -> tuple[float, float, float, float]:
    """Return mean and standard deviation inside the 0.5 to 99.5 percentile, and these two bounds."""
    low, high = (float(v) for v in np.percentile(sample, (0.5, 99.5)))
    cut = np.clip(sample, low, high)
    sd = float(cut.std())
    # A constant image carries nothing: it becomes 0, not a division by 0.
    return float(cut.mean()), sd if sd > 1e-12 * max(abs(low), abs(high), 1e-300) else 1.0, low, high

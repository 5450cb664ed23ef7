"""What `simulate-xray` learns from real films: tones, sharpness by scale, size of values, and tissue under labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy import ndimage

from equipoise.core import Case, LabelScheme, patients_of
from equipoise.core.geometry import Unit
from equipoise.engines.imaging.simulate_xray.film_tissue import FilmTissue
from equipoise.errors import DataError

QUANTILES = np.linspace(0, 1, 33)
SCALES = (1 / 256, 2 / 256, 4 / 256, 8 / 256)
"""Standard deviations of the Gaussians between which sharpness is compared, as a share of the longer side."""
GAINS = (0.5, 2.0)
"""A scale is not weakened or enhanced by more: beyond, structures differ, not processing."""
RANGE = 3.2
"""Span of the attenuation (a natural logarithm) that a film's grey values are taken to show."""
_MOST = 200


@dataclass(frozen=True, eq=False)
class Look:
    """Of one film: grey values at `QUANTILES` (0 to 1), and the spread of the detail between `SCALES`."""

    tones: np.ndarray
    detail: np.ndarray


@dataclass(frozen=True, eq=False)
class Learned:
    """Result of a fit.

    Parameters
    ----------
    looks
        Tones and detail of every film.
    low, high
        Range of the stored values.
    dtype
        Their type.
    channels
        1, or 3 for films that are stored as colour pictures.
    unit
        Whether the films state a size.
    scheme
        Labels of the films, ``None`` where they carry none.
    tissue
        What lies under the labels.
    parents
        Patients that it was learned from.
    """

    looks: tuple[Look, ...]
    low: float
    high: float
    dtype: str
    channels: int
    unit: Unit
    scheme: LabelScheme
    tissue: FilmTissue
    parents: frozenset[str]

    def toned(self, grey: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return a picture with the detail and the tones of one of the films, half way to another one.

        Parameters
        ----------
        grey
            From 0 to 1, shape ``(columns, rows)``.
        """
        one, two = (self.looks[int(rng.integers(len(self.looks)))] for _ in range(2))
        mix = 0.5 * rng.random()
        tones = (1 - mix) * one.tones + mix * two.tones
        detail = one.detail ** (1 - mix) * two.detail**mix
        # Tones first, so that detail is compared at the same contrast; then once more, for what detail has moved.
        picture = _matched(grey, tones)
        picture = _sharpened(picture, detail)
        return _matched(picture, tones)

    def grey_of(self, attenuation: np.ndarray) -> np.ndarray:
        """Return grey values, 0 to 1, of attenuations as `attenuation_of_film` gives them."""
        return np.asarray(np.clip(attenuation / RANGE, 0, 1), np.float32)

    def stored(self, grey: np.ndarray) -> np.ndarray:
        """Return grey values in the type, range and number of colours of the films, shape ``(C, columns, rows)``."""
        values = self.low + np.clip(grey, 0, 1) * (self.high - self.low)
        kind = np.dtype(self.dtype)
        values = np.rint(values).astype(kind) if kind.kind in "iu" else values.astype(np.float32)
        return np.repeat(values[None], self.channels, axis=0)


def learn_from(cases: Sequence[Case], rng: np.random.Generator) -> Learned:
    """Return what films say; `DataError` if there is none, or one is no picture."""
    if not cases:
        raise DataError("simulate-xray got no case to learn from", fix="give training cases, or set learn = false")
    for case in cases:
        _require_film(case)
    chosen = [cases[int(k)] for k in np.sort(rng.permutation(len(cases))[:_MOST])]
    spans = np.array([[float(c.image.array.min()), float(c.image.array.max())] for c in chosen])
    first = np.dtype(cases[0].image.array.dtype)
    low, high = float(spans[:, 0].min()), float(spans[:, 1].max())
    if first == np.uint8:
        low, high = 0.0, 255.0
    looks = tuple(_look((_grey(case) - low) / max(high - low, 1e-6)) for case in chosen)

    def attenuation_of_film(case: Case) -> np.ndarray:
        return np.asarray(RANGE * np.clip((_grey(case) - low) / max(high - low, 1e-6), 0, 1), np.float32)

    return Learned(
        looks,
        low,
        high,
        first.name if first.kind in "iu" else "float32",
        cases[0].image.channels,
        cases[0].image.unit,
        cases[0].labels.scheme,
        FilmTissue.fit(cases, attenuation_of_film, RANGE, rng, _sublabels(cases)),
        patients_of(cases),
    )


def _sublabels(cases: Sequence[Case]) -> tuple[int, int]:
    """Return how many tissues are told apart outside and inside labels: more than usual where a label is large.

    Ribs and vessels lie in what readers label as one lung; a small label has too few pixels for many.
    """
    counts = np.array([case.labels.masks().reshape(len(case.labels.scheme.labels), -1).sum(axis=1) for case in cases])
    outside = min(int((~case.labels.masks().any(axis=0)).sum()) for case in cases)
    shown = counts[counts > 0]
    smallest = int(shown.min()) if shown.size else 0
    return int(np.clip(outside // 100, 6, 12)), int(np.clip(smallest // 100, 3, 10))


def _look(grey: np.ndarray) -> Look:
    return Look(np.quantile(grey, QUANTILES), np.array([max(float(band.std()), 1e-5) for band in _bands(grey)]))


def _bands(grey: np.ndarray) -> list[np.ndarray]:
    """Return the detail of a picture between `SCALES`."""
    side = max(grey.shape)
    blurred = [grey, *(ndimage.gaussian_filter(grey, s * side, mode="nearest", truncate=3) for s in SCALES)]
    return [a - b for a, b in pairwise(blurred)]


def _sharpened(grey: np.ndarray, detail: np.ndarray) -> np.ndarray:
    """Return a picture whose detail at every scale is as strong as in a film."""
    bands = _bands(grey)
    rest = grey - np.sum(bands, axis=0)
    # Only in the middle tones: where a film is black or white, detail is noise, and vendors spare it too.
    middle = np.sqrt(np.clip(4 * rest * (1 - rest), 0, 1))
    for band, wanted in zip(bands, detail, strict=True):
        gain = float(np.clip(wanted / max(float(band.std()), 1e-5), *GAINS))
        rest = rest + band * (1 + (gain - 1) * (middle if gain > 1 else 1.0))
    return np.asarray(rest, np.float32)


def _matched(grey: np.ndarray, tones: np.ndarray) -> np.ndarray:
    """Return a picture with given grey values at `QUANTILES`."""
    own = np.quantile(grey, QUANTILES)
    rising = own + np.arange(len(own)) * 1e-7  # equal tones (a black border) would make the map ambiguous
    return np.asarray(np.interp(grey, rising, tones), np.float32)


def _grey(case: Case) -> np.ndarray:
    grey: np.ndarray = np.asarray(case.image.array[..., 0], np.float32).mean(axis=0)
    return grey


def _require_film(case: Case) -> None:
    array = case.image.array
    if case.image.geometry.ndim != 2 or array.shape[0] not in (1, 3) or not np.isfinite(array.sum(dtype=np.float64)):
        raise DataError(
            f"case {case.id!r} is no film: shape {array.shape}",
            file=case.file,
            why="tones and sharpness are learned from projections, pictures with K = 1 and finite values",
            fix="train on radiographs, or set learn = false to simulate without fitting",
        )


__all__ = ["Learned", "Look", "learn_from"]

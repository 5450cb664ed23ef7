"""What training pictures say: outlines, overlay, grain of the speckle, and the echogenicity of tissue without tables.

A picture is turned back into echogenicity: grey values to dB by the display's curve, speckle smoothed away, and what
lies outside of the fan filled from its rim, so that black paper does not pass for tissue.

References
----------
Kaplan D, Ma Q. On the statistical characteristics of log-compressed Rayleigh signals: theoretical formulation and
experimental results. J Acoust Soc Am 1994. doi:10.1121/1.410562
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy import ndimage

from equipoise.core import Case, LabelMap, patients_of
from equipoise.engines.imaging.simulate_ultrasound.display import decompress
from equipoise.engines.imaging.simulate_ultrasound.grain import Grain, grain_of
from equipoise.engines.imaging.simulate_ultrasound.outline import Outline, frame_of, outline_of
from equipoise.engines.parts.placement import Placement
from equipoise.engines.parts.tissue_model import TissueModel
from equipoise.errors import DataError

MEAN_DB = -1.71
"""Mean level of speckle against its mean power, for the mean of two envelopes; of one look it is -2.51 dB."""
MOST_CASES = 48
"""Training pictures that are looked at; more would only take longer."""
CLASSES = (8, 6)
"""Sub-labels of what nobody labelled, and of each label: a head holds skull, brain, fluid and bright lines."""
NEARLY_BLACK_DB, BELOW_BLACK = 4.0, 1.0
"""Mean level under which the display has cut part of the speckle, and dB below it for every dB missing."""


@dataclass(frozen=True, eq=False)
class Learned:
    """Result of a fit.

    Parameters
    ----------
    parents
        Patients that it was learned from.
    outlines, grains
        By training case.
    frame
        Overlay that all pictures share, shape ``(I, J)``, or ``None``.
    tissue
        Echogenicity in dB above black.
    beyond
        Whether the reader's outlines go on where the fan ends.
    """

    parents: frozenset[str]
    outlines: dict[str, Outline]
    grains: dict[str, Grain]
    frame: np.ndarray | None
    tissue: TissueModel
    beyond: bool
    _shapes: dict[str, tuple[int, int]] = field(default_factory=dict)

    def source(self, labels: LabelMap, placement: Placement | None, rng: np.random.Generator) -> str:
        """Return the training case whose outline is taken: the one whose tissue is drawn, or one that fits the labels.

        Of five drawn cases, the one that shows most of the labels.
        """
        names = sorted(self.outlines)
        if placement is not None and placement.source in self.outlines:
            return placement.source
        drawn = [names[int(n)] for n in rng.integers(len(names), size=5)]
        wanted = np.asarray(labels.masks().any(axis=(0, 3)))
        return max(drawn, key=lambda name: float(wanted[self.seen(name, labels.geometry.shape[:2])].sum()))

    def window(
        self, name: str, shape: tuple[int, int], placement: Placement | None
    ) -> tuple[tuple[float, float], tuple[float, float]]:
        """Return where a training picture's outline comes to lie: pixel = scale x its own + shift, along I and J.

        A picture of the same shape has the same screen. A patch is a window on it; any other map is the whole of it.
        """
        own = self._shapes[name]
        if own == tuple(shape):
            return (1.0, 1.0), (0.0, 0.0)
        if placement is not None and placement.source == name:
            step = (float(placement.matrix[0, 0]), float(placement.matrix[1, 1]))
            middle = np.asarray(placement.matrix @ ((np.array(placement.shape) - 1) / 2) + placement.offset)
            scale = tuple(1 / s if abs(s) > 0.2 else 1.0 for s in step)
            shift = tuple((n - 1) / 2 - f * float(m) for n, f, m in zip(shape, scale, middle, strict=False))
            return (scale[0], scale[1]), (shift[0], shift[1])
        return (shape[0] / own[0], shape[1] / own[1]), (0.0, 0.0)

    def seen(self, name: str, shape: tuple[int, int], placement: Placement | None = None) -> np.ndarray:
        """Return the pixels of a picture that a training case's outline shows, bool, shape ``(I, J)``."""
        own = self.outlines[name].seen(self._shapes[name])
        scale, shift = self.window(name, shape, placement)
        at = [
            np.clip(np.rint(((np.arange(n) + 0.5 - b) / f) - 0.5).astype(int), 0, m - 1)
            for n, m, f, b in zip(shape, own.shape, scale, shift, strict=True)
        ]
        out: np.ndarray = own[np.ix_(at[0], at[1])]
        return out


def learn_from(cases: Sequence[Case], dynamic_range_db: float, gamma: float, rng: np.random.Generator) -> Learned:
    """Return what training cases say.

    Parameters
    ----------
    dynamic_range_db, gamma
        Of the display that is assumed of their scanners; the same values show the pictures' own grey levels again.

    Raises
    ------
    DataError
        If there is no case, or a picture is not one of 8-bit grey values.
    """
    if not cases:
        raise DataError(
            "simulate-ultrasound got no case to learn from", fix="give training cases, or set learn = false"
        )
    chosen = [cases[int(k)] for k in np.sort(rng.permutation(len(cases))[:MOST_CASES])]
    pictures = [grey_of(case) for case in chosen]
    outlines = [outline_of(p[:, :, p.shape[2] // 2]) for p in pictures]
    seen = [o.seen(p.shape[:2]) for o, p in zip(outlines, pictures, strict=True)]
    grains = [
        grain_of(decompress(p[:, :, p.shape[2] // 2], dynamic_range_db, gamma), s)
        for p, s in zip(pictures, seen, strict=True)
    ]
    levels = {
        case.id: echogenicity_of(decompress(p, dynamic_range_db, gamma), s, g)
        for case, p, s, g in zip(chosen, pictures, seen, grains, strict=True)
    }
    beyond = [_share_beyond(case.labels, s) for case, s in zip(chosen, seen, strict=True)]
    ids = [case.id for case in chosen]
    return Learned(
        patients_of(chosen),
        dict(zip(ids, outlines, strict=True)),
        dict(zip(ids, grains, strict=True)),
        frame_of([p[:, :, p.shape[2] // 2] for p in pictures], seen),
        TissueModel.fit(chosen, lambda case: levels[case.id][None], rng, *CLASSES, smooth=1.0),
        float(np.mean(beyond)) > 0.005,
        {i: (p.shape[0], p.shape[1]) for i, p in zip(ids, pictures, strict=True)},
    )


def grey_of(case: Case) -> np.ndarray:
    """Return the grey values of a case, 0 to 255, float32, shape ``(I, J, K)``; colours are averaged."""
    grey = case.image.array.astype(np.float32).mean(axis=0)
    low, high = float(grey.min()), float(grey.max())
    if not (np.isfinite([low, high]).all() and low >= 0 and high <= 255) or high - low < 1e-6:
        raise DataError(
            f"case {case.id!r} is no B-mode picture: values from {low:.4g} to {high:.4g}",
            file=case.file,
            why="echogenicity is read off grey values from 0 (black) to 255 (white)",
            fix="export the pictures as 8-bit PNG, or set learn = false to simulate without fitting",
        )
    scaled: np.ndarray = grey * np.float32(255) if high <= 1.0 else grey
    return scaled


def echogenicity_of(level_db: np.ndarray, seen: np.ndarray, grain: Grain) -> np.ndarray:
    """Return the mean power in dB above black of every voxel, speckle smoothed away, filled outside of the outline."""
    calm = ndimage.gaussian_filter(level_db, (max(0.7 * grain.across, 0.5), max(0.7 * grain.along, 0.5), 0))
    nearest = ndimage.distance_transform_edt(
        ~ndimage.binary_erosion(seen, iterations=2), return_distances=False, return_indices=True
    )
    filled = calm[nearest[0], nearest[1]]
    # What is black may be far below: the tail of the speckle that still shows says that it is not at the threshold.
    filled -= BELOW_BLACK * np.maximum(NEARLY_BLACK_DB - filled, 0)
    power: np.ndarray = (filled - np.float32(MEAN_DB * grain.contrast)).astype(np.float32)
    return power


def _share_beyond(labels: LabelMap, seen: np.ndarray) -> float:
    marked = labels.masks().any(axis=0)
    return float((marked & ~seen[:, :, None]).sum() / max(int(marked.sum()), 1))


__all__ = ["Learned", "echogenicity_of", "grey_of", "learn_from"]

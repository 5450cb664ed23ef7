"""What eye-fundus takes from training cases: grids, fields, where the disc lies, and how dense and wide vessels are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from equipoise.core import Case, Geometry, LabelMap, LabelScheme, patients_of
from equipoise.engines.parts.retina import DISC, DISC_RADIUS_MM, STRUCTURES, Field
from equipoise.engines.parts.retina_photograph import landmarks_from, photograph_of, vessels_of
from equipoise.errors import DataError, did_you_mean

ROUNDS = 5
"""Of matching density and width; each halves what is left, or better."""
_WIDEN, _TWIGS = (0.4, 3.0), (0.15, 3.0)

Trial = Callable[[float, float, np.random.Generator], tuple[float, float]]


@dataclass(frozen=True, eq=False)
class Frame:
    """A picture to be filled.

    Parameters
    ----------
    geometry
        Its grid.
    field
        What of it shows fundus.
    um_per_px
        Scale.
    disc
        Centre of the disc of a training picture, pixels; ``None`` leaves it to the anatomy.
    right
        Whether that was a right eye.
    """

    geometry: Geometry
    field: Field
    um_per_px: float
    disc: np.ndarray | None
    right: bool = False


@dataclass(frozen=True, eq=False)
class Learned:
    """What the training cases had.

    Parameters
    ----------
    parents
        Whose they are.
    scheme
        Their labels.
    frames
        Their pictures.
    share, width
        Mean share of the field under vessels, and mean width of a vessel in pixels; 0 where none is labelled.
    widen, twigs
        Factors on calibres and on the number of twigs that make drawn vessels as wide and as dense.
    """

    parents: frozenset[str]
    scheme: LabelScheme
    frames: tuple[Frame, ...]
    share: float
    width: float
    widen: float = 1.0
    twigs: float = 1.0

    def frame(self, rng: np.random.Generator) -> Frame:
        """Draw one of the pictures."""
        return self.frames[int(rng.integers(len(self.frames)))]

    def matched(self, trial: Trial, rng: np.random.Generator) -> Learned:
        """Return this with factors under which drawn vessels have the density and width of the cases'."""
        if not self.share:
            return self
        widen, twigs = 1.0, 1.0
        (same,) = rng.spawn(1)
        seed = int(same.integers(2**62))
        for _ in range(ROUNDS):
            # The same eyes in every round, so that only the factors change.
            share, width = trial(widen, twigs, np.random.default_rng(seed))
            if share <= 0 or width <= 0:
                break
            widen = float(np.clip(widen * (self.width / width) ** 1.1, *_WIDEN))
            # Length, which is share over width, grows with the root of the number of twigs, or somewhat faster.
            length = (self.share / self.width) / (share / width)
            twigs = float(np.clip(twigs * length**1.5, *_TWIGS))
        return replace(self, widen=widen, twigs=twigs)


def learn_from(cases: Sequence[Case]) -> Learned:
    """Return what the cases' pictures and label maps say.

    Raises
    ------
    DataError
        If there is no case, a picture is no photograph, or a label is no structure of the eye's.
    """
    if not cases:
        raise DataError("there is no training case to learn eyes from", fix="give at least one real case")
    scheme = cases[0].labels.scheme
    for name in scheme.names:
        if name not in STRUCTURES:
            raise DataError(
                f"eye-fundus cannot draw {name!r}.{did_you_mean(name, STRUCTURES)}",
                why="a learned anatomy draws the labels of the training cases, all of them",
                fix='rename the label in the plan, choose anatomy = "warped", or set learn = false',
            )
    seen = [_seen(case) for case in cases]
    radius = float(np.median([s.disc_radius / s.field.radius for s in seen]))
    frames = tuple(
        Frame(case.labels.geometry, s.field, 1000 * DISC_RADIUS_MM / (radius * s.field.radius), s.disc, s.right)
        for case, s in zip(cases, seen, strict=True)
    )
    found = [signature_of(case.labels, s.field) for case, s in zip(cases, seen, strict=True)]
    share, width = np.mean(found, axis=0)
    return Learned(patients_of(cases), scheme, frames, float(share), float(width))


@dataclass(frozen=True, eq=False)
class _Seen:
    field: Field
    disc: np.ndarray
    disc_radius: float
    right: bool


def _seen(case: Case) -> _Seen:
    shown = photograph_of(case)
    names, masks = case.labels.scheme.names, case.labels.masks()[..., 0]
    x, y, radius = shown.disc
    rough = landmarks_from(names, masks, shown.field, 1000 * DISC_RADIUS_MM / radius)
    if DISC in names and masks[names.index(DISC)].any():
        x, y, radius = rough.disc.x, rough.disc.y, float(np.sqrt(rough.disc.a * rough.disc.b))
    return _Seen(shown.field, np.array([x, y]), radius, rough.right)


def signature_of(labels: LabelMap, shown: Field | None) -> tuple[float, float]:
    """Return the share of a field that vessels cover and their mean width in pixels; 0, 0 without vessels."""
    vessels = vessels_of(labels.scheme.names, labels.masks()[..., 0])
    if not vessels.any():
        return 0.0, 0.0
    deep = ndimage.distance_transform_cdt(np.pad(vessels, 1), "chessboard")[1:-1, 1:-1]
    # Across a vessel w pixels wide the depths 1, 2 … 2, 1 have the mean w / 4 + 1 / 2.
    depth = float(deep[vessels].mean())
    area = float(vessels.sum()) / (np.pi * shown.radius**2 if shown else vessels.size)
    return area, 4 * depth - 2


__all__ = ["Frame", "Learned", "learn_from", "signature_of"]

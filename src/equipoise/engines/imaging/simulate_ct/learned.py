"""What `simulate-ct` learns from real CT: densities, textures, where the chest wall lies, how scans were made."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from equipoise.core import Case, Image, LabelMap
from equipoise.engines.imaging.simulate_ct.learned_tissue import LearnedTissue
from equipoise.engines.imaging.simulate_ct.likeness import (
    LUNG_BELOW_HU,
    NEAREST,
    Setting,
    piece_of,
    settings_like,
    signature_of,
    wall_of,
)
from equipoise.engines.imaging.simulate_ct.scene import LUNG, WALL
from equipoise.errors import DataError

SMALLEST_RECOVERY = 0.5
"""The contrast that the scanner leaves of a small structure is not taken for less, lest noise be blown up."""
EVEN = 0.25
"""Largest standard deviation of an object's surroundings, as a share of its contrast, at which its margin is judged."""
MARGINS_MM2 = (0.04, 1.0)
"""Variances of the margin's blur that are believed; beyond them the outline and the object differ in shape."""
TOUCHES_PX = 2.0
"""Gap between an object and the chest wall, in pixels, that blur and partial volume close."""
MOST_VESSEL_HU = 100.0
"""That vessels are believed to add to the lung's median."""
MOST_PIECES = 24
"""Training cases that settings are sought for; more would only take longer."""


@dataclass(frozen=True, eq=False)
class Learned:
    """Result of a fit.

    Parameters
    ----------
    parents
        Patients that it was learned from.
    levels
        Mean HU of every object, by label; of the lung around the objects, one per case, under ``"lung"``.
    textures
        Standard deviation within each object, by label, in HU, without the scanner's noise.
    pleural, wall_mm
        Share of cases with an object at the chest wall, and the others' mean distance from it; ``None`` where the
        training cases cannot tell.
    margin_mm
        Blur of the objects' margins, beside the scanner's; ``None`` where there is no object.
    settings
        How scans that resemble the training images were made.
    tissue
        What all tissue looks like, where the anatomy lays training cases' maps.
    channels
        Of the training pictures.
    """

    parents: frozenset[str]
    levels: Mapping[str, tuple[float, ...]]
    textures: Mapping[str, tuple[float, ...]]
    pleural: float | None
    wall_mm: float | None
    margin_mm: float | None
    settings: tuple[Setting, ...]
    tissue: LearnedTissue | None = None
    channels: int = 1


Simulate = Callable[[Learned, LabelMap, Setting, np.random.Generator], Image]


def learn_from(cases: Sequence[Case], simulate: Simulate, margin_mm: float, rng: np.random.Generator) -> Learned:
    """Return what training cases say.

    Parameters
    ----------
    simulate
        Renders a label map with given densities and a given setting.
    margin_mm
        Blur of the objects' margins that it renders with while ``Learned.margin_mm`` is ``None``.

    Raises
    ------
    DataError
        If an image is not in HU.
    """
    for case in cases:
        _require_hu(case)
    pieces = [piece_of(case, rng) for case in cases]
    noise = float(np.median([np.linalg.norm(np.exp(signature_of(piece)[:2])) for piece in pieces]))
    levels, textures = _densities(cases, noise)
    pleural, wall_mm = _walls(pieces)
    people = frozenset().union(*(case.people for case in cases))
    known = Learned(people, levels, textures, pleural, wall_mm, None, ())
    compared = [pieces[int(k)] for k in rng.permutation(len(pieces))[:MOST_PIECES]]
    settings, simulated = settings_like(compared, lambda *given: simulate(known, *given), rng)
    levels = _lung_without_vessels(levels, compared, simulated)
    return replace(known, levels=levels, margin_mm=_margin(compared, simulated, margin_mm), settings=settings)


def _lung_seen(case: Case) -> float:
    """Return the median HU of what looks like lung around the labels of a case, NaN without any."""
    image = case.image.array[0]
    around = ~np.asarray(case.labels.masks().any(axis=0)) & (image < LUNG_BELOW_HU) & (image > -990)
    return float(np.median(image[around])) if around.sum() > 50 else np.nan


def _lung_without_vessels(
    levels: Mapping[str, tuple[float, ...]], real: Sequence[Case], simulated: Sequence[Case]
) -> dict[str, tuple[float, ...]]:
    """Return the levels with the lung's freed from the vessels that blur mixes in, which are drawn besides.

    What the simulation shows too much at the level that was read off is what vessels add: the median over the cases,
    each with the mean of the `NEAREST` simulations of its own label map.
    """
    seen = np.array([_lung_seen(case) for case in real])
    shown = np.array([_lung_seen(case) for case in simulated]).reshape(len(real), NEAREST).mean(axis=1)
    added = (shown - seen)[np.isfinite(shown - seen)]
    if LUNG not in levels or not added.size:
        return dict(levels)
    shift = float(np.clip(np.median(added), -MOST_VESSEL_HU, MOST_VESSEL_HU))
    return {**levels, LUNG: tuple(level - shift for level in levels[LUNG])}


def _margin(real: Sequence[Case], simulated: Sequence[Case], margin_mm: float) -> float | None:
    """Return the margin's blur that lets simulated objects end as gradually as the real ones, in mm.

    Variances of blurs in sequence add up, so what the simulation with ``margin_mm`` lacks or has too much is added:
    the median over the cases, each with the `NEAREST` simulations of its own label map.
    """
    seen = np.array([_blur_mm(case) ** 2 for case in real])
    shown = np.array([_blur_mm(case) ** 2 for case in simulated]).reshape(len(real), NEAREST)
    judged = np.isfinite(shown)
    usual = np.where(judged, shown, 0).sum(axis=1) / np.maximum(judged.sum(axis=1), 1)
    lacking = (seen - usual)[np.isfinite(seen) & judged.any(axis=1)]
    return float(np.sqrt(np.clip(margin_mm**2 + np.median(lacking), *MARGINS_MM2))) if lacking.size else None


def _blur_mm(case: Case) -> float:
    """Return the mean blur of the objects' margins in mm, NaN without any object."""
    image, masks = case.image.array[0].astype(np.float64), case.labels.masks()
    found = []
    for name in case.labels.scheme.names:
        instances = case.labels.instances(name)
        for number in np.unique(instances[instances > 0]):
            found.append(_object(image, instances == number, np.asarray(masks.any(axis=0)))[2])
    finite = [sigma for sigma in found if np.isfinite(sigma)]
    return float(np.mean(finite)) * case.image.spacing[0] if finite else np.nan


def _densities(
    cases: Sequence[Case], noise: float
) -> tuple[dict[str, tuple[float, ...]], dict[str, tuple[float, ...]]]:
    """Return the mean HU of every object and the texture within the objects, by label, and the lung's HU."""
    levels: dict[str, list[float]] = {name: [] for name in cases[0].labels.scheme.names}
    inner: dict[str, list[float]] = {name: [] for name in levels}
    lung: list[float] = []
    for case in cases:
        image, labelled = case.image.array[0].astype(np.float64), np.asarray(case.labels.masks().any(axis=0))
        for name in levels:
            instances = case.labels.instances(name)
            for number in np.unique(instances[instances > 0]):
                level, texture, _ = _object(image, instances == number, labelled)
                levels[name].append(level)
                inner[name].append(texture)
        if np.isfinite(seen := _lung_seen(case)):
            lung.append(seen)
    if lung:
        levels[LUNG] = lung
    textures = {
        name: tuple(float(np.sqrt(max(sd**2 - noise**2, 4.0))) for sd in found if np.isfinite(sd))
        for name, found in inner.items()
    }
    return {k: tuple(v) for k, v in levels.items() if v}, {k: v for k, v in textures.items() if v}


def _object(image: np.ndarray, mask: np.ndarray, labelled: np.ndarray) -> tuple[float, float, float]:
    """Return an object's density and texture in HU, freed from what blur mixes in from around, and the blur in pixels.

    The object and its surroundings each add their HU times the share that the blurred mask gives them (geometric
    transfer matrix: Rousset OG, Ma Y, Evans AC. Correction for partial volume effects in PET. J Nucl Med 1998).
    The blur is the one that explains the object's margin best. The texture is NaN in an object too small to show one,
    the blur in one that does not lie alone in even surroundings.
    """
    box = ndimage.find_objects(mask.astype(np.uint8))[0]
    wide = tuple(slice(max(0, b.start - 8), b.stop + 8) if k < 2 else slice(b.start, b.stop) for k, b in enumerate(box))
    image, mask, labelled = image[wide], mask[wide], labelled[wide]
    core, grown = _core(mask), ndimage.binary_dilation(mask, _DISC, iterations=2)
    around = ndimage.binary_dilation(mask, _DISC, iterations=5) & ~grown & ~labelled
    seen = float(image[core].mean())
    if not around.any():
        return seen, float(image[core].std()) if core.sum() >= 12 else np.nan, np.nan
    outside = float(image[around].mean())
    at_margin = (grown & ~labelled) | mask
    wrong = []
    shares = [ndimage.gaussian_filter(mask.astype(np.float64), (sigma, sigma, 0)) for sigma in _SIGMAS]
    for share in shares:
        design = np.column_stack([share[at_margin], 1 - share[at_margin]])
        fit, *_ = np.linalg.lstsq(design, image[at_margin], rcond=None)
        wrong.append(float(np.square(image[at_margin] - design @ fit).sum()))
    best = int(np.argmin(wrong))
    recovery = max(float(shares[best][core].mean()), SMALLEST_RECOVERY)
    level = outside + (seen - outside) / recovery
    rest = image - (outside + shares[best] * (level - outside))
    alone = float(image[around].std()) < EVEN * abs(level - outside)
    return level, float(rest[core].std()) if core.sum() >= 12 else np.nan, _SIGMAS[best] if alone else np.nan


_SIGMAS = (0.3, 0.5, 0.65, 0.8, 1.0, 1.25, 1.5, 1.8, 2.2)
"""Blurs that are tried, in pixels."""
_DISC = ndimage.generate_binary_structure(3, 1) & np.array([False, True, False])
"""A voxel and its four neighbours in plane."""


def _core(mask: np.ndarray) -> np.ndarray:
    """Return the mask without its outermost voxels in plane, where the scanner's blur mixes in the lung."""
    for rounds in (2, 1):
        core = ndimage.binary_erosion(mask, _DISC, rounds)
        if core.any():
            return np.asarray(core)
    return mask


def _walls(pieces: Sequence[Case]) -> tuple[float | None, float | None]:
    """Return the share of objects at the chest wall and the mean distance of the others from it in mm.

    Distances are taken as exponential; a wall that does not show is farther away than the picture reaches, and counts
    so (censored observations: events over time at risk). A gap of up to `TOUCHES_PX` cannot be told from none: time at
    risk begins behind it, and so many of those that seem to touch are taken for free as the law puts there.
    """
    touching, seen, at_risk, unseen = 0, 0, 0.0, 0.0
    useful = [p for p in pieces if p.labels.array.any() and not {LUNG, WALL} & set(p.labels.scheme.names)]
    for piece in useful:
        pixel, mask = piece.image.spacing[0], piece.labels.masks().any(axis=0)
        far = ndimage.distance_transform_edt(~mask, (pixel, pixel, 1e6))
        wall = wall_of(piece)
        rim = np.concatenate([far[0].ravel(), far[-1].ravel(), far[:, 0].ravel(), far[:, -1].ravel()])
        gap = float(far[wall].min()) if wall.any() else float(np.median(rim))
        unseen += TOUCHES_PX * pixel / len(useful)
        if wall.any() and gap <= TOUCHES_PX * pixel:
            touching += 1
        else:
            seen += int(wall.any())
            at_risk += max(gap - TOUCHES_PX * pixel, 0.0)
    if not useful:
        return None, None
    share = touching / len(useful)
    if not at_risk:
        return share, None
    # Half a wall is added, so that few pictures without any do not say that there is none.
    wall_mm = at_risk / (seen + 0.5)
    free = float(np.exp(-unseen / wall_mm))
    return max(0.0, 1 - (1 - share) / free), wall_mm


def _require_hu(case: Case) -> None:
    low, high = np.percentile(case.image.array, [1, 99])
    if case.image.channels != 1 or low > -300 or not np.isfinite([low, high]).all():
        raise DataError(
            f"case {case.id!r} is no lung CT in HU: {case.image.channels} channel(s), values {low:.0f} to {high:.0f}",
            file=case.file,
            why="densities in HU cannot be learned from pictures that were windowed or rescaled",
            fix="read the DICOM or NIfTI original, say what the grey values 0 and 255 stand for, such as "
            "stored = [-1250, 250], or set learn = false to simulate without fitting",
        )

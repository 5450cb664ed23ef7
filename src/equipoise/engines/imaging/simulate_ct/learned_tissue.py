"""What training images say about tissue that no table knows: its HU, its texture, and how its scans were made.

Sub-labels of every training case are drawn again (`TissueModel`). Their texture holds what the real scanner added, its
noise and its kernel's look, which would be added twice. So some training cases are scanned in place, with several
kernels and shares of the texture and with the noise that is then missing; the settings that let them look most like
the real image are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise, product

import numpy as np
from scipy import ndimage

from equipoise.core import Case, Image, LabelMap
from equipoise.engines.imaging.simulate_ct.grey import WHITE
from equipoise.engines.imaging.simulate_ct.likeness import Setting
from equipoise.engines.imaging.simulate_ct.scan import WHOLE_PATIENT, Protocol, Surrounding
from equipoise.engines.parts.chest_wall import AIR_HU
from equipoise.engines.parts.placement import Placement
from equipoise.engines.parts.tissue_model import TissueModel
from equipoise.errors import DataError

CLASSES, SMOOTH = (14, 6), 0.7
"""Sub-labels of what nobody labelled and of each label, and SD in voxels of the blur before they are looked for: air,
lung, vessels, fat, muscle, bone, couch are told apart by HU, which noise spoils less than other modalities' grey."""
MOST_PIXELS = 6 * 256**2
"""Of all training slices that settings are sought for."""
MOST_CASES = 6
KERNELS, CUTOFFS = ("soft", "cosine", "sharp", "shepp-logan", "ramp"), (0.7, 1.0)
"""That are tried; cut-offs as shares of what the pixels can show."""
SHARES = (0.1, 0.2, 0.3, 0.45, 0.6, 0.8, 1.0)
"""Of the texture that the training images show, that are tried."""
PHOTONS, DOSES = 3e8, tuple(np.geomspace(4e7, 1e10, 9))
"""Photons at which noise is simulated, and those that are tried: fewer would starve the rays through the shoulders."""
ENDLESS = 1e14
ZONES, BLOCK, QUIET = 3, 6, 0.3
SCALES = (1.0, 2.0, 4.0)
HU_RANGE = (-1024.0, 2000.0)
WHOLE_MM = 220.0
"""Narrowest field of view that shows a whole patient."""

Show = Callable[[np.ndarray, LabelMap, Protocol, np.random.Generator], Image]
"""Scans a scene in HU, shape ``(I, J, K)``, on a label map's grid."""


@dataclass(frozen=True, eq=False)
class LearnedTissue:
    """Result of a fit.

    Parameters
    ----------
    model
        HU of tissue, one property.
    spread_hu
        Usual standard deviation within its sub-labels.
    """

    model: TissueModel
    spread_hu: float

    def scene(
        self, labels: LabelMap, placement: Placement | None, texture_hu: float, rng: np.random.Generator
    ) -> np.ndarray:
        """Return HU under a label map, float32, shape ``(I, J, K)``.

        Parameters
        ----------
        labels
            Of the training cases' scheme.
        placement
            Where a training case's tissue came to lie.
        texture_hu
            Standard deviation that the texture shall have, at most the one that the training images show.
        """
        share = min(texture_hu / self.spread_hu, 1.0)
        return np.asarray(np.clip(self.model.scene(labels, placement, rng, share)[0], *HU_RANGE))


def learn_tissue(
    cases: Sequence[Case], show: Show, rng: np.random.Generator
) -> tuple[LearnedTissue, tuple[Setting, ...]]:
    """Return the tissue of training cases in HU and mm, and settings of scans that look like theirs.

    Raises
    ------
    DataError
        If an image is not in HU.
    """
    for case in cases:
        _require_hu(case)
    whole, chosen, noise = rng.spawn(3)
    model = TissueModel.fit(cases, _hu_of, whole, *CLASSES, smooth=SMOOTH)
    tissue = LearnedTissue(model, _spread(model))
    i, j, _ = cases[0].image.geometry.shape
    count = int(np.clip(MOST_PIXELS // (i * j), 1, MOST_CASES))
    some = [cases[int(k)] for k in chosen.permutation(len(cases))[:count]]
    return tissue, tuple(
        _setting(tissue, case, show, stream) for case, stream in zip(some, noise.spawn(len(some)), strict=True)
    )


def _setting(tissue: LearnedTissue, case: Case, show: Show, rng: np.random.Generator) -> Setting:
    """Return the setting under which a training case's own tissue looks most like its image.

    Reconstruction is linear: three scans for each kernel, of the tissue without its texture, with it, and with noise,
    give the picture of every share of the texture at every dose.
    """
    real, place = _middle(case)
    image = real.image.array[0].astype(np.float32)
    zones = _zones(image)
    wanted = _restlessness(_bands(image), zones)
    (seed,) = rng.spawn(1)
    start = seed.bit_generator.state

    def scene(share: float) -> np.ndarray:
        seed.bit_generator.state = start  # they differ by the texture's strength, not by chance
        return tissue.scene(real.labels, place, share * tissue.spread_hu, seed)

    plain, textured = scene(0.0), scene(1.0)
    best: tuple[float, Setting] | None = None
    for kernel, share in product(KERNELS, CUTOFFS):
        protocol = Protocol(kernel, share * 0.5 / real.image.spacing[0], ENDLESS)
        base, full = (_bands(show(x, real.labels, protocol, rng).array[0]) for x in (plain, textured))
        noise = _bands(show(textured, real.labels, replace(protocol, photons=PHOTONS), rng).array[0]) - full
        for strength, dose in product(SHARES, DOSES):
            seen = base + np.float32(strength) * (full - base) + np.float32(np.sqrt(PHOTONS / dose)) * noise
            away = float(np.linalg.norm(_restlessness(seen, zones) - wanted))
            if best is None or away < best[0]:
                best = away, Setting(replace(protocol, photons=float(dose)), strength * tissue.spread_hu, 0.0)
    if best is None:
        raise RuntimeError("no kernel was tried")
    return best[1]


def _middle(case: Case) -> tuple[Case, Placement]:
    """Return the slice of a case that shows most of its labels, and where it lies in the case."""
    k = int(np.argmax(case.labels.masks().any(axis=0).sum(axis=(0, 1))))
    shape = (*case.image.geometry.shape[:2], 1)
    geometry = replace(case.image.geometry, shape=shape)
    image = Image.on(geometry, case.image.array[..., k : k + 1])
    truth = LabelMap.on(geometry, case.labels.array[..., k : k + 1], case.labels.scheme)
    return replace(case, image=image, truth=truth), Placement(case.id, shape, offset=np.array([0.0, 0.0, k]))


def _zones(image: np.ndarray) -> list[np.ndarray]:
    """Return which blocks of an image are dark, medium and bright: texture and noise differ in air, lung and tissue."""
    mean = _blocks(image)
    edges = np.quantile(mean, np.linspace(0, 1, ZONES + 1))
    return [(mean >= low) & (mean <= high) for low, high in pairwise(edges)]


def _blocks(image: np.ndarray) -> np.ndarray:
    """Return the means over square blocks in plane of images ``(..., I, J, K)``."""
    i, j = (n // BLOCK for n in image.shape[-3:-1])
    cut = image[..., : i * BLOCK, : j * BLOCK, :]
    return np.asarray(cut.reshape(*cut.shape[:-3], i, BLOCK, j, BLOCK, cut.shape[-1]).mean(axis=(-4, -2)))


def _bands(image: np.ndarray) -> np.ndarray:
    """Return details of several scales: differences of Gaussians, float32, shape ``(scales, I, J, K)``."""
    smooth = [image.astype(np.float32), *(ndimage.gaussian_filter(image, (s, s, 0)) for s in SCALES)]
    return np.stack([fine - coarse for fine, coarse in pairwise(smooth)])


def _restlessness(bands: np.ndarray, zones: Sequence[np.ndarray]) -> np.ndarray:
    """Return the logarithm of the rms of details in quiet places, by scale and zone; edges make other places."""
    power = _blocks(bands * bands)
    return np.array([[0.5 * np.log(np.quantile(band[zone], QUIET) + 0.1) for zone in zones] for band in power])


def surrounding_of(scene: np.ndarray, narrow_mm: float) -> Surrounding:
    """Return what lies around a picture, by its narrower side in mm and its rim: air, or more of the patient."""
    rim = np.concatenate([scene[0].ravel(), scene[-1].ravel(), scene[:, 0].ravel(), scene[:, -1].ravel()])
    level = float(np.median(rim))
    if narrow_mm < WHOLE_MM:
        return Surrounding(level, body=True)
    return WHOLE_PATIENT if level < AIR_HU / 2 else Surrounding(level, body=False)


def _hu_of(case: Case) -> np.ndarray:
    return np.asarray(np.clip(case.image.array.astype(np.float32).mean(axis=0, keepdims=True), *HU_RANGE))


def _spread(model: TissueModel) -> float:
    found = np.concatenate([np.abs(look.spread[:, 0, 0]) for look in model.looks.values()])
    return float(max(np.median(found), 1.0))


def _require_hu(case: Case) -> None:
    low, high = float(case.image.array.min()), float(case.image.array.max())
    if low >= 0 and high <= WHITE:
        raise DataError(
            f"case {case.id!r} is not in HU: values from {low:g} to {high:g}",
            file=case.file,
            why="8-bit exports have lost their HU, and densities cannot be learned without",
            fix="say what the grey values 0 and 255 stand for, such as stored = [-1250, 250], or read the original",
        )


__all__ = ["LearnedTissue", "learn_tissue", "surrounding_of"]

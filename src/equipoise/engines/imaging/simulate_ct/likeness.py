"""Which settings of the simulation a real CT image looks like: regression-adjusted approximate Bayesian computation.

Kernel, dose, blur, texture and vessels cannot be read off an image. So pieces of the training cases are simulated with
many settings under their own label maps, each image is summed up in a few numbers, and the settings whose numbers come
near a real image's are moved by a local linear regression to where theirs would equal it.

References
----------
Beaumont MA, Zhang W, Balding DJ. Approximate Bayesian computation in population genetics. Genetics 2002.
doi:10.1093/genetics/162.4.2025
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from scipy import ndimage

from equipoise.core import Case, Geometry, Image, LabelMap
from equipoise.engines.imaging.simulate_ct.scan import Protocol

LIBRARY = 160
"""Simulated scans that real ones are compared with."""
NEAREST, PROPOSED, NEIGHBOURS = 4, 7, 48
"""Settings kept for each real image, of those proposed, and simulated scans that the regression is fitted to."""
STEADY = [0, 1, 3, 5]
"""Of a signature, what does not hang on the few vessels and clouds that a piece happens to hold."""
PIECE = 64
"""Pixels along the side of what is compared."""
KERNELS = ("soft", "cosine", "sharp", "shepp-logan")
RANGES = {
    "log_photons": (np.log(1e6), np.log(1e9)),
    "cutoff": (0.3, 1.1),
    "blur_mm": (0.0, 1.2),
    "log_texture": (np.log(4.0), np.log(80.0)),
    "log_vessels": (np.log(60.0), np.log(2000.0)),
}
"""Ranges that the settings are drawn from, uniformly: photons per mm², cycles/mm, mm, HU, trees per litre."""
WALL_ABOVE_HU, WALL_RADIUS_MM = -400.0, 4.0
LUNG_BELOW_HU = -500.0
VESSEL_ABOVE_LUNG_HU = 200.0
_SCALES = (1.0, 2.0, 4.0)


@dataclass(frozen=True)
class Setting:
    """How one scan is made and what the lung in it looks like.

    Parameters
    ----------
    protocol
        Of the scanner.
    texture_hu
        Standard deviation of the parenchyma's structure, in HU.
    vessels
        Vessel trees that start in a litre of lung.
    """

    protocol: Protocol
    texture_hu: float
    vessels: float


Simulate = Callable[[LabelMap, Setting, np.random.Generator], Image]
"""Renders a label map with a setting."""


def piece_of(case: Case, rng: np.random.Generator) -> Case:
    """Return the slice and the surroundings of an object of a case, at most `PIECE` pixels wide.

    Noise at a place depends on the tissue around it: air outside the body, or the shoulders, would tell nothing about
    the lung near a lesion. A case without any object gives its middle.
    """
    masks = case.labels.masks().any(axis=0)
    middle = np.array(masks.shape) // 2
    centre = np.argwhere(masks)[int(rng.integers(masks.sum()))] if masks.any() else middle
    width = np.minimum(PIECE, masks.shape[:2])
    start = np.clip(centre[:2] - width // 2, 0, np.array(masks.shape[:2]) - width)
    box = (slice(start[0], start[0] + width[0]), slice(start[1], start[1] + width[1]), slice(centre[2], centre[2] + 1))
    di, dj, dk = case.image.spacing
    geometry = Geometry.from_spacing((int(width[0]), int(width[1]), 1), (di, dj, dk), case.image.unit)
    image = Image.on(geometry, case.image.array[:, *box])
    return replace(case, image=image, truth=LabelMap.on(geometry, case.labels.array[:, *box], case.labels.scheme))


def wall_of(case: Case) -> np.ndarray:
    """Return the unlabelled soft tissue that is too broad for a vessel, bool, shape ``(I, J, K)``."""
    pixel = case.image.spacing[0]
    tissue = ndimage.gaussian_filter(case.image.array[0].astype(np.float32), (1, 1, 0)) > WALL_ABOVE_HU
    tissue &= ~case.labels.masks().any(axis=0)
    # Eroded by a disc, then grown back: the picture's edge must not count as the tissue's edge.
    inside = ndimage.distance_transform_edt(np.pad(tissue, ((1, 1), (1, 1), (0, 0)), mode="edge"), (pixel, pixel, 1e6))
    core = inside[1:-1, 1:-1] > WALL_RADIUS_MM
    if not core.any():
        return np.zeros(tissue.shape, bool)
    return np.asarray(tissue & (ndimage.distance_transform_edt(~core, (pixel, pixel, 1e6)) <= WALL_RADIUS_MM + pixel))


def signature_of(case: Case) -> np.ndarray:
    """Return what a scan looks like in numbers, shape ``(6,)``.

    The logarithms of: the restlessness of quiet places at three scales (differences of Gaussians, sigma 0 to 1, 1 to 2
    and 2 to 4 pixels, squared and averaged over blocks of 8 pixels; a low quantile over the blocks leaves vessels and
    walls out); the steepest gradients at sigma 0.7 against those at sigma 1.5 pixels, which falls with blur whatever
    the contrast; the share of the lung that is vessel; and the restlessness from pixel to pixel (second mixed
    differences), which tells kernels apart.
    """
    image = case.image.array[0].astype(np.float32)
    free = np.asarray(~case.labels.masks().any(axis=0))
    smooth = [image, *(ndimage.gaussian_filter(image, (s, s, 0)) for s in _SCALES)]
    found = [_restlessness(fine - coarse, free) for fine, coarse in pairwise(smooth)]
    sharp, blunt = (_steepness(image, sigma) for sigma in (0.7, 1.5))
    steep = blunt >= np.quantile(blunt, 0.97)
    found.append(float(np.log(sharp[steep].mean() + 1) - np.log(blunt[steep].mean() + 1)))
    wall = ndimage.binary_dilation(wall_of(case), iterations=2)
    lung = free & ~wall
    if lung.any():
        lung = lung & ~ndimage.binary_dilation(~free, iterations=3)
    level = np.median(image[lung]) if lung.any() else 0.0
    found.append(float(np.log((smooth[1][lung] > level + VESSEL_ABOVE_LUNG_HU).sum() + 8) - np.log(lung.sum() + 200)))
    mixed = np.diff(np.diff(image, axis=0, append=0.0), axis=1, append=0.0) / 2
    found.append(_restlessness(mixed, free))
    return np.array(found)


def _restlessness(detail: np.ndarray, free: np.ndarray) -> float:
    """Return the logarithm of the rms of fine detail in quiet places, in HU."""
    power = ndimage.uniform_filter(detail**2, (8, 8, 1))[4:-4:4, 4:-4:4]
    clear = ndimage.uniform_filter(free.astype(np.float32), (8, 8, 1))[4:-4:4, 4:-4:4] > 0.99
    inside = power[clear] if clear.any() else power.ravel()
    return float(0.5 * np.log(np.quantile(inside, 0.3) + 1e-3)) if inside.size else 0.0


def _steepness(image: np.ndarray, sigma: float) -> np.ndarray:
    along = [ndimage.gaussian_filter(image, (sigma, sigma, 0), order) for order in ((1, 0, 0), (0, 1, 0))]
    return np.asarray(np.hypot(*along))


def settings_like(
    pieces: Sequence[Case], simulate: Simulate, rng: np.random.Generator
) -> tuple[tuple[Setting, ...], list[Case]]:
    """Return `NEAREST` settings for each piece of a real case under which the simulation looks like it.

    What the regression proposes is simulated again under the piece's own label map. What then comes nearest to the real
    image, by what chance moves little, is kept and corrected where the law is known: noise falls as the square root of
    the dose, for each piece; the vessels and the texture seen are proportional to those drawn, for all together, since
    one piece shows too little of them to tell.

    Returns
    -------
    settings
        `NEAREST` for the first piece, then for the second, and so on.
    simulated
        What the pieces looked like under them, before they were corrected.
    """
    parameters, kernels, features = _library(pieces, simulate, rng)
    scale = features.std(axis=0)[STEADY] + 1e-6
    kept: list[tuple[Setting, Case, np.ndarray, np.ndarray]] = []
    for piece, stream in zip(pieces, rng.spawn(len(pieces)), strict=True):
        wish, tried = signature_of(piece), []
        for setting in _proposed(_features(piece), parameters, kernels, features):
            case = replace(piece, image=simulate(piece.labels, setting, stream))
            tried.append((setting, case, wish, signature_of(case)))
        kept += sorted(tried, key=lambda one: float(np.linalg.norm((one[3] - one[2])[STEADY] / scale)))[:NEAREST]
    proposed, simulated = [one[0] for one in kept], [one[1] for one in kept]
    wanted, shown = (np.array([one[k] for one in kept]) for k in (2, 3))
    # The mean over a piece's settings: where in the patient one simulation lay, which moves its noise, is chance.
    doses = np.repeat(2 * (shown - wanted)[:, 0].reshape(-1, NEAREST).mean(axis=1), NEAREST)
    texture = float(np.exp(np.clip((wanted - shown)[:, 2].mean(), -1, 1)))
    vessels = np.array([setting.vessels for setting in proposed])
    pooled = np.sqrt(vessels * np.exp(np.log(vessels).mean()))  # half of how pieces differ is taken for chance
    expected = (np.exp(shown[:, 4]) * pooled / vessels).mean()
    pooled *= np.clip(np.exp(wanted[:, 4]).mean() / expected, 0.2, 5)
    settings = []
    for setting, dose, trees in zip(proposed, np.exp(np.clip(doses, -2, 2)).tolist(), pooled.tolist(), strict=True):
        protocol = replace(setting.protocol, photons=setting.protocol.photons * dose)
        settings.append(Setting(protocol, setting.texture_hu * texture, trees))
    return tuple(settings), simulated


def _proposed(
    wanted: np.ndarray, parameters: np.ndarray, kernels: np.ndarray, features: np.ndarray
) -> Iterator[Setting]:
    """Yield the settings of the nearest simulated scans, moved by a local linear regression to the wanted features."""
    low, high = np.array(list(RANGES.values())).T
    # The logit keeps what the regression moves inside the ranges.
    unit = np.clip((parameters - low) / (high - low), 0.01, 0.99)
    logit = np.log(unit / (1 - unit))
    which = (np.array(KERNELS)[:, None] == kernels)[1:].astype(float).T
    away = (features - wanted) / (features.std(axis=0) + 1e-6)
    distance = np.linalg.norm(away, axis=1)
    near = np.argsort(distance, kind="stable")[:NEIGHBOURS]
    weight = np.sqrt(np.maximum(1 - (distance[near] / (distance[near[-1]] + 1e-9)) ** 2, 1e-3))
    design = np.column_stack([np.ones(len(near)), away[near], which[near]]) * weight[:, None]
    ridge = 0.05 * np.trace(design.T @ design) / design.shape[1] * np.diag([0.0] + [1.0] * (design.shape[1] - 1))
    slope = np.linalg.solve(design.T @ design + ridge, design.T @ (logit[near] * weight[:, None]))
    for k in near[:PROPOSED]:
        moved = logit[k] - away[k] @ slope[1 : 1 + away.shape[1]]
        yield _setting(str(kernels[k]), low + (high - low) / (1 + np.exp(-moved)))


def _library(
    pieces: Sequence[Case], simulate: Simulate, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Simulate over a wide range of settings; return parameters ``(n, 5)``, kernels and the images' features."""
    low, high = np.array(list(RANGES.values())).T
    parameters = rng.uniform(low, high, (LIBRARY, len(low)))
    kernels = rng.choice(np.array(KERNELS), LIBRARY)
    features = []
    for row, kernel, stream in zip(parameters, kernels, rng.spawn(LIBRARY), strict=True):
        piece = pieces[int(stream.integers(len(pieces)))]
        image = simulate(piece.labels, _setting(str(kernel), row), stream)
        features.append(_features(replace(piece, image=image)))
    return parameters, kernels, np.array(features)


def _features(piece: Case) -> np.ndarray:
    """Return the signature and the size of a voxel, which decides what a setting looks like."""
    return np.concatenate([signature_of(piece), np.log([piece.image.spacing[0], piece.image.spacing[2]])])


def _setting(kernel: str, row: np.ndarray) -> Setting:
    named = dict(zip(RANGES, row.tolist(), strict=True))
    protocol = Protocol(kernel, named["cutoff"], float(np.exp(named["log_photons"])), named["blur_mm"])
    return Setting(protocol, float(np.exp(named["log_texture"])), float(np.exp(named["log_vessels"])))


__all__ = ["LIBRARY", "LUNG_BELOW_HU", "NEAREST", "Setting", "piece_of", "settings_like", "signature_of", "wall_of"]

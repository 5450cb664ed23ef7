"""What `simulate-ct` learns from real CT: densities, textures, kernels, doses, sizes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from scipy import ndimage

from equipoise.core import Case, Geometry, LabelScheme
from equipoise.engines.imaging.simulate_ct.scan import Protocol
from equipoise.engines.parts.nodule import diameters_of
from equipoise.errors import DataError

LIBRARY = 140
"""Simulated scans that real ones are compared with."""
NEAREST = 4
LUNG_BELOW_HU = -500.0
_SCALES = (1.0, 2.0, 4.0)


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
        Standard deviation within objects, by label, in HU, without the scanner's noise; ``"lung"`` likewise.
    protocols
        Settings that resemble the training images.
    log_diameters
        Logarithm of the objects' diameters in mm.
    geometries
        Their grids.
    scheme
        Their labels.
    """

    parents: frozenset[str]
    levels: Mapping[str, tuple[float, ...]]
    textures: Mapping[str, float]
    protocols: tuple[Protocol, ...]
    log_diameters: tuple[float, ...]
    geometries: tuple[Geometry, ...]
    scheme: LabelScheme


Simulate = Callable[[Protocol, float, Sequence[float], np.random.Generator], Case]


def learn_from(cases: Sequence[Case], simulate: Simulate, rng: np.random.Generator) -> Learned:
    """Return what training cases say.

    Parameters
    ----------
    simulate
        Renders a case with given protocol, lung texture (HU) and spacing.
    """
    if not cases:
        raise DataError("simulate-ct got no case to learn from", fix="give training cases, or set learn = false")
    for case in cases:
        _require_hu(case)
    spacing = np.median([case.image.spacing for case in cases], axis=0).tolist()
    settings, signatures = _library(simulate, spacing, rng)
    protocols, lung_sds, noises = [], [], []
    scale = signatures.std(axis=0)
    for case in cases:
        seen = signature_of(case)
        near = np.argsort(np.linalg.norm((signatures - seen) / scale, axis=1), kind="stable")[:NEAREST]
        for k in near:
            # Regression adjustment with the known slope: noise falls as the square root of the dose.
            ratio = float(np.clip(np.exp(2 * (signatures[k, 0] - seen[0])), 0.2, 5))
            protocols.append(replace(settings[k][0], photons=settings[k][0].photons * ratio))
            lung_sds.append(settings[k][1])
        noises.append(np.exp(seen[:2]))
    noise = float(np.linalg.norm(np.median(noises, axis=0)))
    levels, textures = _densities(cases, noise)
    textures["lung"] = float(np.exp(np.mean(np.log(lung_sds))))
    return Learned(
        frozenset().union(*(case.people for case in cases)),
        levels,
        textures,
        tuple(protocols),
        tuple(float(np.log(d)) for case in cases for d in diameters_of(case.labels)),
        tuple(case.labels.geometry for case in cases),
        cases[0].labels.scheme,
    )


def smoothed(values: Sequence[float], rng: np.random.Generator) -> float:
    """Draw from a smoothed bootstrap: one of the values, moved by a Gaussian of Silverman's width."""
    spread = min(float(np.std(values)), float(np.subtract(*np.percentile(values, [75, 25]))) / 1.34 + 1e-9)
    return float(rng.choice(np.asarray(values)) + 0.9 * spread * len(values) ** -0.2 * rng.standard_normal())


def signature_of(case: Case) -> np.ndarray:
    """Return the logarithm of the image's restlessness at three scales, in its quiet places outside the labels.

    Differences of Gaussians (sigma 0 to 1, 1 to 2 and 2 to 4 pixels) are squared and averaged over blocks of 8 pixels;
    a low quantile over the blocks leaves vessels and walls out.
    """
    image, free = case.image.array[0].astype(np.float32), ~case.labels.masks().any(axis=0)
    smooth = [image, *(ndimage.gaussian_filter(image, (s, s, 0)) for s in _SCALES)]
    found = []
    for fine, coarse in pairwise(smooth):
        power = ndimage.uniform_filter((fine - coarse) ** 2, (8, 8, 1))[4:-4:4, 4:-4:4]
        clear = ndimage.uniform_filter(free.astype(np.float32), (8, 8, 1))[4:-4:4, 4:-4:4] > 0.99
        inside = power[clear] if clear.any() else power.ravel()
        found.append(0.5 * np.log(np.quantile(inside, 0.3) + 1e-3))
    return np.array(found)


def _library(
    simulate: Simulate, spacing: Sequence[float], rng: np.random.Generator
) -> tuple[list[tuple[Protocol, float]], np.ndarray]:
    """Simulate scans over a wide range of settings; return the settings and the images' signatures."""
    settings, signatures = [], []
    for _ in range(LIBRARY):
        kernel = ("soft", "sharp")[int(rng.integers(2))]
        photons = float(np.exp(rng.uniform(np.log(1e6), np.log(1e9))))
        protocol = Protocol(kernel, float(rng.uniform(0.3, 1.1)), photons)
        lung_sd = float(np.exp(rng.uniform(np.log(8), np.log(80))))
        settings.append((protocol, lung_sd))
        signatures.append(signature_of(simulate(protocol, lung_sd, spacing, rng)))
    return settings, np.array(signatures)


def _densities(cases: Sequence[Case], noise: float) -> tuple[dict[str, tuple[float, ...]], dict[str, float]]:
    """Return the mean HU of every object and the texture within the objects, by label, and the lung's HU."""
    levels: dict[str, list[float]] = {name: [] for name in cases[0].labels.scheme.names}
    inner: dict[str, list[float]] = {name: [] for name in levels}
    lung: list[float] = []
    for case in cases:
        image = case.image.array[0].astype(np.float64)
        for name in levels:
            instances = case.labels.instances(name)
            for number in np.unique(instances[instances > 0]):
                core = _core(instances == number)
                levels[name].append(float(image[core].mean()))
                if core.sum() >= 12:
                    inner[name].append(float(image[core].std()))
        around = ~case.labels.masks().any(axis=0) & (image < LUNG_BELOW_HU) & (image > -990)
        if around.sum() > 50:
            lung.append(float(np.median(image[around])))
    if lung:
        levels["lung"] = lung
    textures = {k: float(np.sqrt(max(np.median(v) ** 2 - noise**2, 4.0))) for k, v in inner.items() if v}
    return {k: tuple(v) for k, v in levels.items() if v}, textures


def _core(mask: np.ndarray) -> np.ndarray:
    """Return the mask without its outermost voxels in plane, where the scanner's blur mixes in the lung."""
    cross = ndimage.generate_binary_structure(3, 1)
    cross[:, :, [0, 2]] = False
    for rounds in (2, 1):
        core = ndimage.binary_erosion(mask, cross, rounds)
        if core.any():
            return np.asarray(core)
    return mask


def _require_hu(case: Case) -> None:
    low, high = np.percentile(case.image.array, [1, 99])
    if case.image.channels != 1 or low > -300 or not np.isfinite([low, high]).all():
        raise DataError(
            f"case {case.id!r} is no lung CT in HU: {case.image.channels} channel(s), values {low:.0f} to {high:.0f}",
            file=case.file,
            why="densities in HU cannot be learned from pictures that were windowed or rescaled",
            fix="read the DICOM or NIfTI original, or set learn = false to simulate without fitting",
        )

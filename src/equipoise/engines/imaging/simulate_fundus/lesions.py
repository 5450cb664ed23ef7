"""Lesions of the retina in front of its pigment: hard exudates, haemorrhages, microaneurysms, and what users state.

Exudates lie in the outer plexiform layer: lipid that scatters light before it reaches pigment and choroid. Blood
outside of vessels, and microaneurysms of the capillaries between the plexiform layers, absorb it as blood does. All lie
behind the retinal vessels. The label map decides where an exudate hides a vessel: where the vessel's label ends at it.

References
----------
Early Treatment Diabetic Retinopathy Study Research Group. Grading diabetic retinopathy from stereoscopic color fundus
photographs. Ophthalmology 1991;98:786. (a microaneurysm is less than 125 µm wide)
Cusick M et al. Histopathology and regression of retinal hard exudates in diabetic retinopathy after reduction of
elevated serum lipid levels. Ophthalmology 2003;110:2126. (lipid and macrophages in the retina)
Yanoff M, Sassani JW. Ocular Pathology. 7th ed. 2015. (exudates in the outer plexiform layer, blots in
the inner nuclear layer)
Jacques SL. Optical properties of biological tissues: a review. Phys Med Biol 2013;58:R37. (scattering by fat)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from equipoise.engines.imaging.simulate_fundus import optics
from equipoise.engines.imaging.simulate_fundus.layers import LONGEST_UM, PATHS_UM, Layer, Sight
from equipoise.engines.parts.appearance import blur
from equipoise.engines.parts.retina import ARTERY, EXUDATE, HAEMORRHAGE, MICROANEURYSM, VEIN, VESSEL

FAT_PER_UM, FAT_POWER = 0.00184, 0.672
"""Reduced scattering of fatty tissue at 500 nm, and how it falls with the wavelength (Jacques 2013)."""
CAROTENOID_PER_UM = 0.002
"""Density of the carotenoids that plasma's lipids carry, at 460 nm; chosen for a waxy yellow."""
CAPILLARY, STANDING = 0.5 * (optics.ARTERIAL + optics.VENOUS), 0.3
"""Oxygen saturation in capillaries, and of blood that does not flow any more (an estimate)."""
EDGE_PX = 0.5
"""SD that labels are blurred by at least: their own edges are those of pixels."""


@dataclass(frozen=True)
class Body:
    """How thick lesions are, of which a label shows the outline.

    Parameters
    ----------
    flatness
        Greatest thickness over the diameter of a circle of the same area; a sphere has 1.
    most_um
        Thickness that none exceeds: that of the layers of the retina that hold it.
    edge_um
        SD of what blurs its edge, µm.
    vary
        SD of the logarithm of the thickness from lesion to lesion.
    """

    flatness: float
    most_um: float
    edge_um: float
    vary: float


BODIES: Mapping[str, Body] = {
    EXUDATE: Body(1.0, 110.0, 9.0, 0.35),
    HAEMORRHAGE: Body(0.5, 110.0, 22.0, 0.25),
    MICROANEURYSM: Body(1.0, 125.0, 5.0, 0.15),
}
"""From the rear to the front."""


def lesion_layers(
    sight: Sight,
    names: Sequence[str],
    masks: np.ndarray,
    stated: Mapping[str, Sequence[float]],
    um_per_px: float,
    rng: np.random.Generator,
) -> list[Layer]:
    """Return the layers of all labelled lesions, the rearmost first.

    Parameters
    ----------
    sight
        Eye and camera.
    names, masks
        Labels, and bool ``(L, I, J)``.
    stated
        Factors on red, green and blue light by label; they hold instead of a lesion's physics.
    um_per_px
        Scale.
    rng
        Of the lesions' thickness.
    """
    layers = [_stated_layer(masks[names.index(n)], f, len(sight.bands)) for n, f in stated.items() if n in names]
    for name, body in BODIES.items():
        if name in names and name not in stated:
            depth = thickness_of(masks[names.index(name)], body, um_per_px, rng)
            layers.append(sight.layer(depth, *spectra_of(name)))
    return layers


def thickness_of(mask: np.ndarray, body: Body, um_per_px: float, rng: np.random.Generator) -> np.ndarray:
    """Return the thickness in µm of lesions with an outline, float32 ``(I, J)``: domes with a soft edge."""
    parts, count = ndimage.label(mask, np.ones((3, 3)))
    if not count:
        return np.zeros(mask.shape, np.float32)
    every = np.arange(1, count + 1)
    inward = np.maximum(ndimage.distance_transform_edt(mask) - 0.5, 0.25) * mask
    share = inward / np.concatenate([[1.0], ndimage.maximum(inward, parts, every)])[parts]
    dome = np.sqrt(np.maximum(2 * share - share * share, 0))
    # The mean over a half ellipsoid's outline is two thirds of its height, on however few pixels it is drawn.
    wide = 2 * um_per_px * np.sqrt(np.bincount(parts.ravel())[1:] / np.pi)
    height = np.minimum(body.flatness * wide, body.most_um) * np.exp(body.vary * rng.standard_normal(count))
    height *= 2 / 3 / np.maximum(ndimage.mean(dome, parts, every), 1e-6)
    sigma = float(np.hypot(body.edge_um / um_per_px, EDGE_PX))
    thick = (dome * np.concatenate([[0.0], height])[parts]).astype(np.float32)
    return np.asarray(blur(thick[None, :, :, None], (sigma, sigma, 0))[0, :, :, 0])


def uncovered(lumen: np.ndarray, names: Sequence[str], masks: np.ndarray) -> np.ndarray:
    """Return the blood of arteries and veins but for what exudates hide: where its label ends at theirs.

    Blood in front of blood hides nothing.

    Parameters
    ----------
    lumen
        ``(2, I, J)``.
    names, masks
        Labels, and bool ``(L, I, J)``.
    """
    if EXUDATE not in names:
        return lumen
    covered, seen = masks[names.index(EXUDATE)], lumen.copy()
    for blood, own in zip(seen, (ARTERY, VEIN), strict=True):
        labelled = [n for n, name in enumerate(names) if name in (own, VESSEL)]
        if labelled:
            blood[covered & ~masks[labelled].any(axis=0)] = 0
    return seen


def _stated_layer(mask: np.ndarray, factors: Sequence[float], bands: int) -> Layer:
    share = blur(mask[None, :, :, None].astype(np.float32), (0.7, 0.7, 0))[0, :, :, 0]
    few = np.array(factors if bands == 3 else factors[1:2], np.float32)[:, None]
    through = 1 + (few - 1) * np.linspace(0, 1, len(PATHS_UM), dtype=np.float32)
    depth = share * np.float32(LONGEST_UM)
    return Layer(depth, through, np.zeros_like(through), np.zeros(bands, np.float32), depth)


def exudate_spectra() -> tuple[np.ndarray, np.ndarray]:
    """Return what lipid of each of `PATHS_UM` lets through, back and forth, and reflects, ``(NODES, wavelengths)``."""
    thick = np.maximum(PATHS_UM, 1e-3)[:, None]
    # Two fluxes: S is three quarters of the reduced scattering, and diffuse light takes twice the way.
    scattering = 0.75 * FAT_PER_UM * (optics.WAVELENGTHS_NM / 500.0) ** -FAT_POWER * thick
    absorption = 2 * optics.LN10 * CAROTENOID_PER_UM * optics.macular_shape() * thick
    absorption = absorption + 1e-6 * thick
    through = optics.turbid_transmission(absorption, scattering) ** 2
    return through, optics.turbid_layer(absorption, scattering, 0.0)


def spectra_of(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return what a lesion of each of `PATHS_UM` lets through and sends back, ``(NODES, wavelengths)``."""
    if name == EXUDATE:
        return exudate_spectra()
    # A haemorrhage is wider than light spreads in the choroid: what comes from under it has crossed it twice.
    saturation, twice = (STANDING, 0.6) if name == HAEMORRHAGE else (CAPILLARY, optics.DOUBLE_PASS)
    through = optics.vessel_transmission(PATHS_UM, saturation, twice)
    return through, optics.vessel_backscatter(PATHS_UM, saturation)


__all__ = ["BODIES", "Body", "exudate_spectra", "lesion_layers", "thickness_of", "uncovered"]

"""How the ocular fundus reflects light, layer by layer: absorption, scattering, and what a camera's colours receive.

Light crosses lens, macular pigment, retinal blood and retinal pigment epithelium (RPE) on its way in and again on its
way out. Choroid and optic nerve head are turbid layers before sclera or lamina: two-flux theory (Kubelka and
Munk).
All spectra are sampled at `WAVELENGTHS_NM`. Densities are decadic and for one passage.

References
----------
Delori FC, Pflibsen KP. Spectral reflectance of the human ocular fundus. Appl Opt 1989;28:1061. doi:10.1364/AO.28.001061
Preece SJ, Claridge E. Monte Carlo modelling of the spectral reflectance of the human eye. Phys Med Biol 2002;47:2863.
van de Kraats J, van Norren D. Optical density of the aging human ocular media in the visible and the UV. J Opt Soc Am A
2007;24:1842. doi:10.1364/JOSAA.24.001842 (lens)
Walraven PL. CIE report TC 1-36 (macular pigment), as in Bone RA, Landrum JT, Cains A. Vision Res 1992;32:105.
Prahl S. Optical absorption of hemoglobin. Oregon Medical Laser Center 1998 (after Gratzer, Kollias, van Assendelft).
Jacques SL. Optical properties of biological tissues: a review. Phys Med Biol 2013;58:R37. (melanin, scattering)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

WAVELENGTHS_NM = np.arange(400.0, 701.0, 10.0)
LN10 = float(np.log(10))

_OXY = np.array([
    266232, 466840, 480360, 246072, 102580, 62816, 44480, 33209.2, 26629.2, 23684.4, 20932.8, 20035.2, 24202.4, 39956.8,
    53236, 43016, 32613.2, 44496, 50104, 14400.8, 3200, 1506, 942, 610, 442, 368, 319.6, 294, 277.6, 276, 290,
])  # fmt: skip
_DEOXY = np.array([
    223296, 303956, 407560, 528600, 413280, 103292, 23388.8, 16156.4, 14550, 16684, 20862, 25773.6, 31589.6, 39036.4,
    46592, 53412, 53788, 45072, 37020, 28324.4, 14677.2, 9443.6, 6509.6, 5148.8, 4345.2, 3750.12, 3226.56, 2795.12,
    2407.92, 2051.96, 1794.28,
])  # fmt: skip
"""Molar extinction of haemoglobin, 1/(cm mol/l)."""

HAEMOGLOBIN_MOL_L = 150.0 / 64500.0
"""Of whole blood, 150 g/l."""
ARTERIAL, VENOUS, CHOROIDAL = 0.97, 0.60, 0.92
"""Oxygen saturation (Hammer M et al., J Biomed Opt 2008;13:054015: 98 ± 10 % and 65 ± 12 %; Schweitzer D et al., IEEE
Trans Biomed Eng 1999;46:1454; choroid: Alm and Bill 1973)."""

CHOROID_UM = 250.0
"""Thickness of the choroid."""
SCLERA = 0.55
"""Reflectance of the sclera behind it; nearly white."""
BLOOD_SCATTERING_PER_UM = 0.0016
"""Reduced scattering of whole blood at 550 nm: light that leaves the line of sight (Bosschaart N et al., Lasers Med Sci
2014;29:453; falls with the wavelength)."""
BACKWARDS = 0.16
"""Share of it that comes back to the camera (after Hammer M et al., IEEE Trans Biomed Eng 2001;48:592)."""
DOUBLE_PASS = 0.2
"""Share of the light under a vessel that crosses it on both ways; the rest entered the fundus beside it (ibid.)."""


def blood_per_um(saturation: float) -> np.ndarray:
    """Return the absorption of whole blood, natural, per µm of path."""
    molar = saturation * _OXY + (1 - saturation) * _DEOXY
    return np.asarray(LN10 * molar * HAEMOGLOBIN_MOL_L * 1e-4)


def melanin_shape() -> np.ndarray:
    """Return the density of melanin over that at 500 nm (power law of eumelanin, Jacques 2013)."""
    return np.asarray((WAVELENGTHS_NM / 500.0) ** -3.48)


def media_density(age: float) -> np.ndarray:
    """Return the density of lens, cornea and vitreous of a large field at an age in years (van de Kraats 2007)."""
    w, a2 = WAVELENGTHS_NM, age**2
    return np.asarray(
        (0.225 + 0.000031 * a2) * (400 / w) ** 4
        + 14.19 * 10.68 * np.exp(-((0.057 * (w - 273)) ** 2))
        + (0.998 - 0.000063 * a2) * 2.13 * np.exp(-((0.029 * (w - 370)) ** 2))
        + (0.059 + 0.000186 * a2) * 11.95 * np.exp(-((0.021 * (w - 325)) ** 2))
        + (0.016 + 0.000132 * a2) * 1.43 * np.exp(-((0.008 * (w - 325)) ** 2))
        + 0.111
    )


def macular_shape() -> np.ndarray:
    """Return the density of macular pigment over that at its peak, 460 nm (Walraven)."""

    def density(w: np.ndarray) -> np.ndarray:
        return np.asarray(
            0.32 * np.exp(-0.0012 * (436 - w) ** 2)
            + 0.32 * np.exp(-0.0012 * (480 - w) ** 2)
            - 0.123 * np.exp(-0.0012 * (458 - w) ** 2)
            + 0.12042 * np.exp(-0.006 * (457 - w) ** 2)
        )

    return density(WAVELENGTHS_NM) / float(density(np.array([460.0]))[0])


def turbid_layer(absorption: np.ndarray, scattering: np.ndarray, behind: np.ndarray | float) -> np.ndarray:
    """Return the reflectance of a turbid layer on a reflecting one (Kubelka and Munk).

    Parameters
    ----------
    absorption, scattering
        Of the whole layer's thickness, K d and S d; both without unit, ``scattering`` above 0.
    behind
        Reflectance of what lies under it.
    """
    a = 1 + absorption / scattering
    b = np.sqrt(np.maximum(a * a - 1, 1e-12))
    coth = 1 / np.tanh(np.minimum(b * scattering, 50.0))
    return np.asarray((1 - behind * (a - b * coth)) / (a - behind + b * coth))


def turbid_transmission(absorption: np.ndarray, scattering: np.ndarray) -> np.ndarray:
    """Return the share of diffuse light that crosses a turbid layer once; arguments as in `turbid_layer`."""
    a = 1 + absorption / scattering
    b = np.sqrt(np.maximum(a * a - 1, 1e-12))
    deep = np.minimum(b * scattering, 50.0)
    return np.asarray(b / (a * np.sinh(deep) + b * np.cosh(deep)))


def scattering(at_550: float, power: float) -> np.ndarray:
    """Return scattering that falls with wavelength as a power."""
    return np.asarray(at_550 * (WAVELENGTHS_NM / 550.0) ** -power)


def choroid(melanin: np.ndarray, blood_um: np.ndarray) -> np.ndarray:
    """Return the reflectance of choroid on sclera.

    Parameters
    ----------
    melanin
        Density at 500 nm of the whole layer; any shape.
    blood_um
        Thickness of all its blood, as one layer; shape of ``melanin``.

    Returns
    -------
    np.ndarray
        Shape ``(*melanin.shape, wavelengths)``.
    """
    natural = LN10 * melanin[..., None] * melanin_shape() + blood_um[..., None] * blood_per_um(CHOROIDAL)
    # Diffuse light crosses a layer on twice its thickness, on average.
    return turbid_layer(2 * natural, scattering(CHOROID_SCATTERING, 1.0), SCLERA)


CHOROID_SCATTERING = 0.35
"""S d of the choroid at 550 nm."""


@dataclass(frozen=True)
class Fundus:
    """What one eye's layers contain away from macula and disc.

    Parameters
    ----------
    age
        Years, for the lens.
    rpe, melanin
        Density at 500 nm of the pigment epithelium, and of the choroid's melanin.
    blood_um
        The choroid's blood as one layer, µm.
    macular
        Density of macular pigment at its peak, 460 nm.
    sheen
        Reflectance of the nerve fibre layer and the inner limiting membrane at 550 nm where it is thick.
    """

    age: float
    rpe: float
    melanin: float
    blood_um: float
    macular: float
    sheen: float

    def reflectance(self, macular: float = 0.0, rpe: float = 1.0, sheen: float = 0.3) -> np.ndarray:
        """Return the spectrum at a place, media included; arguments are factors on this eye's densities."""
        deep = choroid(np.array(self.melanin), np.array(self.blood_um))
        pigment = LN10 * (self.rpe * rpe * melanin_shape() + self.macular * macular * macular_shape())
        inner = self.sheen * sheen * scattering(1.0, SHEEN_POWER)
        through = np.exp(-2 * LN10 * media_density(self.age))
        return np.asarray(through * (inner + RECEPTORS + np.exp(-2 * pigment) * deep))


SHEEN_POWER = 1.5
"""Nerve fibres are cylinders thinner than the wavelength: they shine more in blue (Knighton et al. 1989)."""
RECEPTORS = 0.009
"""Reflectance of receptors and pigment epithelium before its melanin (1 to 2 % where they are aligned)."""


def vessel_transmission(path_um: np.ndarray, saturation: float, twice: float = DOUBLE_PASS) -> np.ndarray:
    """Return the share of the fundus' light that is seen through blood, shape ``(*path_um.shape, wavelengths)``.

    Part of the light, ``twice``, crosses the blood on both ways, the rest only on its way out.
    """
    once = np.exp(-np.asarray(path_um)[..., None] * (blood_per_um(saturation) + blood_scattering()))
    return np.asarray(twice * once**2 + (1 - twice) * once)


def vessel_backscatter(path_um: np.ndarray, saturation: float) -> np.ndarray:
    """Return the light that blood itself sends back, shape ``(*path_um.shape, wavelengths)``.

    Each depth scatters alike, and what comes from deeper is absorbed on both ways.
    """
    lost = 2 * (blood_per_um(saturation) + blood_scattering())
    return np.asarray(BACKWARDS * blood_scattering() * (1 - np.exp(-np.asarray(path_um)[..., None] * lost)) / lost)


def blood_scattering() -> np.ndarray:
    """Return the reduced scattering of whole blood per µm."""
    return scattering(BLOOD_SCATTERING_PER_UM, 1.0)


def bands(centres_nm: Sequence[float], widths_nm: Sequence[float]) -> np.ndarray:
    """Return the sensitivity of each colour under a flat xenon flash; rows sum to 1.

    Gaussians (mean, SD) and what a colour filter lets through everywhere else, `LEAK`: little, but the fundus returns
    ten times more red than blue.
    """
    shape = np.exp(-0.5 * ((WAVELENGTHS_NM - np.array(centres_nm)[:, None]) / np.array(widths_nm)[:, None]) ** 2) + LEAK
    return np.asarray(shape / shape.sum(axis=1, keepdims=True))


LEAK = 0.02

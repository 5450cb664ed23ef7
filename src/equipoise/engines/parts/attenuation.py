"""Hounsfield units, and what a detector measures: photons, their noise, electronic noise.

References
----------
Hubbell JH, Seltzer SM. Tables of X-ray mass attenuation coefficients. NIST, doi:10.18434/T4D01F (water, liquid).
La Rivière PJ, Bian J, Vargas PA. Penalized-likelihood sinogram restoration for computed tomography.
IEEE Trans Med Imaging 2006. doi:10.1109/TMI.2006.875429
"""

from __future__ import annotations

import numpy as np

from equipoise.engines.parts.legal import require_within
from equipoise.errors import DataError, PlanError

WATER_ENERGIES_KEV = (30.0, 40.0, 50.0, 60.0, 80.0, 100.0, 150.0)
"""Photon energies of `WATER_CM2_PER_G`, in keV."""
WATER_CM2_PER_G = (0.3756, 0.2683, 0.2269, 0.2059, 0.1837, 0.1707, 0.1505)
"""Mass attenuation of liquid water in cm²/g, NIST (Hubbell and Seltzer)."""
EFFECTIVE_KEV = 70.0
"""A monoenergetic stand-in for a filtered 120 kVp beam, in keV."""
EXACT_POISSON_BELOW = 500.0
"""Mean count below which photons are drawn from the exact Poisson law."""


def water_attenuation(kev: float = EFFECTIVE_KEV) -> float:
    """Return the linear attenuation of water in 1/mm at 1 g/cm³: log-log between the NIST energies, 30 to 150 keV."""
    require_within("kev", kev, WATER_ENERGIES_KEV[0], WATER_ENERGIES_KEV[-1], "keV")
    return float(np.exp(np.interp(np.log(kev), np.log(WATER_ENERGIES_KEV), np.log(WATER_CM2_PER_G)))) / 10


def attenuation_from_hu(hu: np.ndarray, kev: float = EFFECTIVE_KEV) -> np.ndarray:
    """Return linear attenuation in 1/mm, mu_water (1 + HU/1000); below -1000 HU (less than vacuum) it is 0."""
    return np.maximum(0, water_attenuation(kev) * (1 + np.asarray(hu) / 1000))


def hu_from_attenuation(attenuation: np.ndarray, kev: float = EFFECTIVE_KEV) -> np.ndarray:
    """Return Hounsfield units, 1000 (mu / mu_water - 1), of linear attenuation in 1/mm."""
    return 1000 * (np.asarray(attenuation) / water_attenuation(kev) - 1)


def add_noise(
    sinogram: np.ndarray, photons: float | np.ndarray, electronic_sd: float, rng: np.random.Generator
) -> np.ndarray:
    """Return line integrals as a detector would measure them: quantum noise, electronic noise, logarithm.

    By Beer and Lambert an element receives Poisson(I0·exp(-p)) photons; its electronics add Gaussian noise. Readings
    below half a photon, where the logarithm has no meaning, are raised to half a photon (photon starvation: streaks).

    Parameters
    ----------
    sinogram
        Line integrals p, no unit, any shape.
    photons
        I0: photons that reach one detector element per view without an object; an array that broadcasts against
        ``sinogram`` describes a bow-tie filter or a modulated tube current. Proportional to dose.
    electronic_sd
        Standard deviation of the electronic noise, as a number of photons.
    rng
        Stream of the draws.

    Returns
    -------
    numpy.ndarray
        As ``sinogram``, single precision. Its variance is close to (1/I + electronic_sd²/I²) with I = I0·exp(-p).

    Notes
    -----
    Below a mean of 500 photons the Poisson law is exact. Above, a normal draw z is bent to the law's third moment,
    I + z√I + (z² - 1)/6 (Cornish and Fisher 1938), whose distance from the law is below the width of one photon.

    References
    ----------
    La Rivière PJ, Bian J, Vargas PA. Penalized-likelihood sinogram restoration for computed tomography.
    IEEE Trans Med Imaging 2006. doi:10.1109/TMI.2006.875429
    """
    clean = np.asarray(sinogram, np.float32)
    flux = np.asarray(photons, np.float32)
    require(bool((flux > 0).all()), f"photons must be above 0, got {np.min(flux)}")
    require_within("electronic_sd", electronic_sd, 0, np.inf, "photons")
    require_finite(clean, "sinogram")
    counts = rng.standard_normal(clean.shape, np.float32)
    sent = np.broadcast_to(flux, clean.shape)
    # Slice by slice, so that a volume needs no more than its counts beside itself.
    slices = range(len(clean)) if clean.ndim > 2 else (...,)
    for k in slices:
        mean = sent[k] * np.exp(-clean[k])
        z = counts[k]
        counts[k] = mean + z * np.sqrt(mean) + (z * z - 1) / 6
    for k in slices:
        mean = sent[k] * np.exp(-clean[k])
        few = mean < EXACT_POISSON_BELOW
        counts[k][few] = rng.poisson(mean[few])
    if electronic_sd > 0:
        for k in slices:
            counts[k] += np.float32(electronic_sd) * rng.standard_normal(clean[k].shape, np.float32)
    np.maximum(counts, np.float32(0.5), out=counts)
    np.divide(sent, counts, out=counts)
    return np.log(counts, out=counts)


def require(good: bool, message: str) -> None:
    """Raise `PlanError` with this message unless the parameter is good."""
    if not good:
        raise PlanError(message)


def require_finite(array: np.ndarray, what: str) -> None:
    """Raise `DataError` if an array holds NaN or infinite values."""
    # One sum is ten times cheaper than a mask and meets every NaN and infinity.
    if not np.isfinite(array.sum(dtype=np.float64)):
        raise DataError(f"{what} holds NaN or infinite values", fix="replace them before projecting, e.g. by -1000 HU")

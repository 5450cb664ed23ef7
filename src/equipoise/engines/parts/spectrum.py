"""X-ray spectra and what attenuates them: photon energies, materials, Beer and Lambert.

References
----------
Hubbell JH, Seltzer SM. Tables of X-ray mass attenuation coefficients and mass energy-absorption coefficients (version
1.4). NIST 2004. doi:10.18434/T4D01F (water, air, metals, iodine, caesium iodide; ICRU-44 tissues)
Kramers HA. On the theory of X-ray absorption and of the continuous X-ray spectrum. Phil Mag 1923.
doi:10.1080/14786442308565244
Boone JM, Seibert JA. An accurate method for computer-generating tungsten anode x-ray spectra from 30 to 140 kV. Med
Phys 1997. doi:10.1118/1.597953 (what such spectra are compared with)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit

from equipoise.engines.parts.legal import require_within
from equipoise.errors import PlanError, did_you_mean

_KEV = np.array([10.0, 15, 20, 30, 40, 50, 60, 80, 100, 150])
_CM2_PER_G = {
    "air": (5.120, 1.614, 0.7779, 0.3538, 0.2485, 0.2080, 0.1875, 0.1662, 0.1541, 0.1356),
    "water": (5.329, 1.673, 0.8096, 0.3756, 0.2683, 0.2269, 0.2059, 0.1837, 0.1707, 0.1505),
    "adipose": (3.268, 1.083, 0.5677, 0.3063, 0.2396, 0.2123, 0.1974, 0.1800, 0.1688, 0.1500),
    "muscle": (5.356, 1.693, 0.8205, 0.3783, 0.2685, 0.2262, 0.2048, 0.1823, 0.1693, 0.1492),
    "lung": (5.459, 1.721, 0.8316, 0.3815, 0.2699, 0.2270, 0.2053, 0.1826, 0.1695, 0.1493),
    "blood": (5.519, 1.744, 0.8428, 0.3852, 0.2715, 0.2278, 0.2057, 0.1827, 0.1695, 0.1492),
    "cortical bone": (28.51, 9.032, 4.001, 1.331, 0.6655, 0.4242, 0.3148, 0.2229, 0.1855, 0.1480),
    "aluminium": (26.23, 7.955, 3.441, 1.128, 0.5685, 0.3681, 0.2778, 0.2018, 0.1704, 0.1378),
    "copper": (215.9, 74.05, 33.79, 10.92, 4.862, 2.613, 1.593, 0.7630, 0.4584, 0.2217),
    "titanium": (110.7, 35.87, 15.85, 4.972, 2.214, 1.213, 0.7661, 0.4052, 0.2721, 0.1649),
    "iron": (170.6, 57.08, 25.68, 8.176, 3.629, 1.958, 1.205, 0.5952, 0.3717, 0.1964),
}
"""Mass attenuation at `_KEV`."""
_EDGES = {
    # Energies with a jump are given twice, below and above the K edge.
    "iodine": ((10, 15, 20, 30, 33.1694, 33.1695, 40, 50, 60, 80, 100, 150),
               (162.6, 55.12, 25.43, 8.561, 6.553, 35.82, 22.10, 12.32, 7.579, 3.510, 1.942, 0.6978)),
    "caesium iodide": ((10, 15, 20, 30, 33.1694, 33.1695, 35.9846, 35.9847, 40, 50, 60, 80, 100, 150),
                       (171.1, 58.15, 26.86, 9.045, 6.923, 21.22, 17.19, 30.27, 22.97, 12.87, 7.921, 3.677, 2.035,
                        0.7290)),
}  # fmt: skip
MATERIALS = ("air", "adipose", "lung", "muscle", "blood", "cortical bone", "iodine", "iron")
"""What a patient is made of; a structure is one of them or a mixture."""
TUNGSTEN_LINES_KEV = ((57.98, 0.29), (59.32, 0.50), (67.2, 0.165), (69.1, 0.045))
"""Characteristic K lines of tungsten and their shares."""
TUNGSTEN_EDGE_KEV = 69.5
ANODE_MM = 1.2
"""Aluminium that hardens the beam as the anode does that it leaves."""


def mass_attenuation(material: str, kev: np.ndarray | float) -> np.ndarray:
    """Return mass attenuation in cm²/g, interpolated between NIST's energies, log-log, 10 to 150 keV."""
    energies, values = _EDGES.get(material, (_KEV, _CM2_PER_G.get(material)))
    if values is None:
        known = [*_CM2_PER_G, *_EDGES]
        raise PlanError(f"there is no material {material!r}.{did_you_mean(material, known)}")
    return np.exp(np.interp(np.log(kev), np.log(energies), np.log(values)))


@dataclass(frozen=True, eq=False)
class Spectrum:
    """Photons by energy, behind the tube's filter.

    Parameters
    ----------
    kev
        Middles of the bins.
    photons
        Share of the photons in each bin; sums to 1.
    """

    kev: np.ndarray
    photons: np.ndarray

    @classmethod
    def of_tube(cls, kvp: float, aluminium_mm: float = 2.5, copper_mm: float = 0.0, bin_kev: float = 1.0) -> Spectrum:
        """Return the spectrum of a tungsten tube: Kramers' continuum with the K lines, filtered.

        Parameters
        ----------
        kvp
            Peak voltage, 40 to 150 kV.
        aluminium_mm, copper_mm
            Filtration, the tube's own included.
        bin_kev
            Width of a bin.

        Notes
        -----
        Kramers' law, photons ~ (E0 - E) / E, is softened by the anode's own absorption, which works as 1.2 mm of
        aluminium: a value chosen so that half-value layers come out as those of diagnostic tubes.
        """
        require_within("kvp", kvp, 40, 150, "kV")
        require_within("aluminium_mm", aluminium_mm, 0, 50, "mm")
        require_within("copper_mm", copper_mm, 0, 5, "mm")
        edges = np.arange(15.0, kvp + bin_kev, bin_kev)
        kev = np.minimum((edges[:-1] + edges[1:]) / 2, 150.0)
        photons = np.maximum(kvp - kev, 0) / kev
        if kvp > TUNGSTEN_EDGE_KEV:
            # Lines grow as (U - 1)^1.63 and make up about a tenth of the photons at 100 kV.
            strength = 0.18 * (kvp / TUNGSTEN_EDGE_KEV - 1) ** 1.63 * photons.sum()
            for line, share in TUNGSTEN_LINES_KEV:
                photons[int(np.argmin(np.abs(kev - line)))] += strength * share
        filters = (("aluminium", 2.70, aluminium_mm + ANODE_MM), ("copper", 8.96, copper_mm))
        for material, density, mm in filters:
            photons = photons * np.exp(-mass_attenuation(material, kev) * density * mm / 10)
        return cls(kev, photons / photons.sum())

    def signal(self, scintillator_mg_cm2: float = 180.0) -> np.ndarray:
        """Return what each bin adds to the signal of a caesium iodide detector that sums up energy; sums to 1."""
        absorbed = 1 - np.exp(-mass_attenuation("caesium iodide", self.kev) * scintillator_mg_cm2 / 1000)
        weight = self.photons * self.kev * absorbed
        return np.asarray(weight / weight.sum())

    def coarse(self, bins: int = 12, scintillator_mg_cm2: float = 180.0) -> tuple[np.ndarray, np.ndarray]:
        """Return energies (keV) and signal of ``bins`` bins of equal signal: enough for bodies, a tenth of the work."""
        weight = self.signal(scintillator_mg_cm2)
        # A bin stays one piece: its middle says where in the cumulative signal it lies.
        group = np.minimum(((np.cumsum(weight) - weight / 2) * bins).astype(int), bins - 1)
        share = np.bincount(group, weight, bins)
        energy = np.bincount(group, weight * self.kev, bins)
        kept = share > 0
        return energy[kept] / share[kept], share[kept]

    def half_value_mm(self) -> float:
        """Return the first half-value layer in mm of aluminium, by air kerma (photons, energy, absorption)."""
        kerma = self.photons * self.kev * np.exp(np.interp(np.log(self.kev), np.log(_KEV), np.log(_AIR_ABSORPTION)))
        depth = np.linspace(0, 20, 2001)
        mu = mass_attenuation("aluminium", self.kev) * 2.70 / 10
        left = (kerma * np.exp(-depth[:, None] * mu)).sum(axis=1) / kerma.sum()
        return float(np.interp(0.5, left[::-1], depth[::-1]))


_AIR_ABSORPTION = (4.742, 1.334, 0.5389, 0.1537, 0.06833, 0.04098, 0.03041, 0.02407, 0.02325, 0.02496)
"""Mass energy absorption of air at `_KEV` in cm²/g (NIST)."""


def transmission(areal: np.ndarray, kev: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Return the share of the signal that passes (Beer and Lambert), summed over energies.

    Parameters
    ----------
    areal
        Areal density of each of `MATERIALS` along a ray in g/cm², shape ``(..., M)``.
    kev, weight
        Energies, and the signal at each without a patient, as of `Spectrum.coarse`.
    """
    mu = np.array([mass_attenuation(m, kev) for m in MATERIALS])
    flat = np.ascontiguousarray(areal.reshape(-1, areal.shape[-1]), np.float32)
    passed = _passed(flat, mu.T.astype(np.float32).copy(), np.asarray(weight, np.float32))
    return np.asarray(passed.reshape(areal.shape[:-1]))


@njit(cache=True, nogil=True, fastmath=True)  # type: ignore[untyped-decorator]
def _passed(areal: np.ndarray, mu: np.ndarray, weight: np.ndarray) -> np.ndarray:
    out = np.zeros(areal.shape[0], np.float32)
    for n in range(areal.shape[0]):
        for e in range(mu.shape[0]):
            p = np.float32(0)
            for m in range(mu.shape[1]):
                p += areal[n, m] * mu[e, m]
            out[n] += weight[e] * np.exp(-p)
    return out


__all__ = ["MATERIALS", "Spectrum", "mass_attenuation", "transmission"]

"""X-ray beams of CT: one energy or a spectrum, through a bow-tie filter and a patient of water, bone and metal.

A spectrum hardens on its way: soft photons are lost first, so a thick object attenuates less per millimetre than a thin
one (cupping, dark bands between bones). Scanners undo this for water alone, by a table of what water would have shown.

References
----------
Brooks RA, Di Chiro G. Beam hardening in X-ray reconstructive tomography. Phys Med Biol 1976.
doi:10.1088/0031-9155/21/3/004
Joseph PM, Spital RD. A method for correcting bone induced artifacts in computed tomography scanners. J Comput Assist
Tomogr 1978. doi:10.1097/00004728-197801000-00017 (water and bone as the two materials of a patient)
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numba import njit

from equipoise.engines.parts.attenuation import EFFECTIVE_KEV, water_attenuation
from equipoise.engines.parts.spectrum import Spectrum, mass_attenuation

DENSITIES_G_CM3 = {"water": 1.0, "cortical bone": 1.92, "titanium": 4.51, "iron": 7.87, "aluminium": 2.70}
BONE_FROM_HU = 100.0
"""Up to here tissue attenuates as water of some density does; denser tissue is a mixture with cortical bone."""
CT_SCINTILLATOR_MG_CM2 = 1000.0
"""CT's ceramic detectors stop nearly all photons."""
MOST_BOWTIE_MM = 150.0
"""Water that the thickest part of a bow-tie filter equals: about a twentieth of the photons pass."""
_WATER_MM = np.linspace(0, 900, 361)
_PATHS = np.linspace(0, 14, 281)
_BOWTIES = np.linspace(0, 1, 33)


@dataclass(frozen=True)
class CtBeam:
    """The photons of a CT scanner.

    Parameters
    ----------
    kev
        Energy at which Hounsfield units are stated, and the only one of a beam without ``kvp``.
    kvp
        Tube voltage in kV; ``None`` is a monochromatic beam.
    aluminium_mm
        Filtration of the tube.
    bowtie_mm
        Radius of the water cylinder whose shadow the bow-tie filter evens out; 0 is no filter.
    """

    kev: float = EFFECTIVE_KEV
    kvp: float | None = None
    aluminium_mm: float = 8.0
    bowtie_mm: float = 0.0

    @cached_property
    def bins(self) -> tuple[np.ndarray, np.ndarray]:
        """Energies in keV, and the share of the detector's signal at each."""
        if self.kvp is None:
            return np.array([self.kev]), np.ones(1)
        return Spectrum.of_tube(self.kvp, self.aluminium_mm).coarse(16, CT_SCINTILLATOR_MG_CM2)

    def attenuation(self, material: str) -> float:
        """Return the linear attenuation of a material at ``kev`` in 1/mm."""
        if material == "water":
            return water_attenuation(self.kev)
        return float(mass_attenuation(material, self.kev)) * DENSITIES_G_CM3[material] / 10

    def bowtie(self, distance: np.ndarray) -> np.ndarray:
        """Return the bow-tie's share of its largest thickness, 0 to 1, for rays at a distance (mm) from the axis."""
        if not self.bowtie_mm:
            return np.zeros_like(distance)
        r = self.bowtie_mm
        missing = 2 * (r - np.sqrt(np.maximum(r**2 - distance**2, 0)))
        return np.asarray(np.minimum(missing / MOST_BOWTIE_MM, 1))

    def passed(self, bowtie: np.ndarray) -> np.ndarray:
        """Return the share of the signal that the bow-tie lets through."""
        shares = np.exp(-_BOWTIES[:, None] * self._bowtie_paths) @ self.bins[1]
        return np.asarray(np.interp(bowtie, _BOWTIES, shares))

    def measured(
        self, water_mm: np.ndarray, bone_mm: np.ndarray, metal_mm: np.ndarray, metal: str, bowtie: np.ndarray
    ) -> np.ndarray:
        """Return -log of the share of the signal that a patient lets through: Beer and Lambert, summed over energies.

        Parameters
        ----------
        water_mm, bone_mm, metal_mm
            Way through water of 1 g/cm³, dense cortical bone, and metal, in mm; any one shape.
        metal
            ``"titanium"`` or ``"iron"``.
        bowtie
            As of `bowtie`; broadcasts.
        """
        shape = np.broadcast_shapes(water_mm.shape, bone_mm.shape, metal_mm.shape, bowtie.shape)
        given = [np.broadcast_to(x, shape).astype(np.float32).ravel() for x in (water_mm, bone_mm, metal_mm, bowtie)]
        paths = np.array([*(self._per_mm(name) for name in ("water", "cortical bone", metal)), self._bowtie_paths])
        weight = self.bins[1].astype(np.float32)
        return np.asarray(_measured(*given, paths.T.astype(np.float32).copy(), weight).reshape(shape))

    def water_corrected(self, measured: np.ndarray, bowtie: np.ndarray) -> np.ndarray:
        """Return what a beam of ``kev`` alone would have shown, were the patient of water: float32.

        This is the first-order correction for beam hardening that scanners apply; bone and metal keep their streaks.
        """
        shape = np.broadcast_shapes(measured.shape, bowtie.shape)
        flat = [np.broadcast_to(x, shape).astype(np.float32).ravel() for x in (measured, bowtie)]
        return np.asarray(_looked_up(*flat, self._correction, np.float32(_PATHS[1])).reshape(shape))

    @cached_property
    def water_scale(self) -> float:
        """Measured attenuation per mm of the water phantom of 200 mm on which an uncorrected scanner is calibrated."""
        way = np.array([200.0])
        nothing = np.zeros(1)
        return float(self.measured(way, nothing, nothing, "iron", nothing)[0]) / 200.0

    def bone_share(self, attenuation: np.ndarray) -> np.ndarray:
        """Return how much of a voxel is dense cortical bone (1.92 g/cm³), by its attenuation at ``kev`` in 1/mm."""
        soft, bone = water_attenuation(self.kev) * (1 + BONE_FROM_HU / 1000), self.attenuation("cortical bone")
        share = np.maximum((attenuation - soft) / (bone - soft), 0)
        return np.asarray(np.where(share > 1, attenuation / bone, share), np.float32)

    def _per_mm(self, material: str) -> np.ndarray:
        energies = self.bins[0]
        if material == "water" and self.kvp is None:
            return np.array([water_attenuation(self.kev)])
        return np.asarray(mass_attenuation(material, energies) * DENSITIES_G_CM3[material] / 10)

    @cached_property
    def _bowtie_paths(self) -> np.ndarray:
        """Attenuation of the whole bow-tie by energy: aluminium that equals `MOST_BOWTIE_MM` of water at ``kev``."""
        thickest = MOST_BOWTIE_MM * water_attenuation(self.kev) / self.attenuation("aluminium")
        return self._per_mm("aluminium") * thickest

    @cached_property
    def _correction(self) -> np.ndarray:
        """Path in water at ``kev`` by bow-tie and measured path, shape ``(bow-ties, paths)``."""
        nothing = np.zeros_like(_WATER_MM)
        rows = []
        for share in _BOWTIES:
            seen = self.measured(_WATER_MM, nothing, nothing, "iron", np.full_like(_WATER_MM, share)).astype(float)
            true = _WATER_MM * water_attenuation(self.kev)
            slope = (true[-1] - true[-2]) / (seen[-1] - seen[-2])
            beyond = np.where(seen[-1] < _PATHS, (_PATHS - seen[-1]) * slope, 0)
            rows.append(np.interp(_PATHS, seen, true) + beyond)
        return np.array(rows, np.float32)


@njit(cache=True, nogil=True, fastmath=True)  # type: ignore[untyped-decorator]
def _measured(
    water: np.ndarray, bone: np.ndarray, metal: np.ndarray, bowtie: np.ndarray, paths: np.ndarray, weight: np.ndarray
) -> np.ndarray:
    out = np.empty(water.size, np.float32)
    for n in range(water.size):
        left, sent = np.float32(0), np.float32(0)
        for e in range(weight.size):
            free = weight[e] * np.exp(-bowtie[n] * paths[e, 3])
            sent += free
            left += free * np.exp(-(water[n] * paths[e, 0] + bone[n] * paths[e, 1] + metal[n] * paths[e, 2]))
        out[n] = np.log(sent / max(left, np.float32(1e-30)))
    return out


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _looked_up(measured: np.ndarray, bowtie: np.ndarray, table: np.ndarray, step: np.float32) -> np.ndarray:
    """Interpolate linearly between the table's rows and columns; beyond them the last slope goes on."""
    rows, columns = table.shape
    out = np.empty(measured.size, np.float32)
    for n in range(measured.size):
        y = bowtie[n] * (rows - 1)
        r = min(int(y), rows - 2)
        y -= r
        x = measured[n] / step
        c = min(max(int(np.floor(x)), 0), columns - 2)
        x -= c
        low = table[r, c] + x * (table[r, c + 1] - table[r, c])
        high = table[r + 1, c] + x * (table[r + 1, c + 1] - table[r + 1, c])
        out[n] = low + y * (high - low)
    return out


__all__ = ["BONE_FROM_HU", "DENSITIES_G_CM3", "CtBeam"]

"""The envelope of one picture by the RF tier: point scatterers, signals at the elements, delay-and-sum."""

from __future__ import annotations

import numpy as np

from equipoise.engines.imaging.simulate_ultrasound import rf
from equipoise.engines.imaging.simulate_ultrasound.beams import BeamGrid
from equipoise.engines.imaging.simulate_ultrasound.bmode import Strengths
from equipoise.engines.imaging.simulate_ultrasound.scanners import PROFILES, Acquisition
from equipoise.engines.imaging.simulate_ultrasound.speckle import FWHM

STEERING_RAD = 0.28
"""Range of angles over which the transmissions are spread; 16 degrees."""
MOST_SCATTERERS = 200_000
"""Of one picture; more would only take longer."""
_PROBES = (0.06, 0.15, 0.3, 0.45, 0.6, 0.75, 0.9)
"""Depths, as shares of the sector's, at which the RF tier's response to a point is measured."""


def beamformed(
    strengths: Strengths,
    acquisition: Acquisition,
    grid: BeamGrid,
    interface_db: float,
    transmits: int,
    elements: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Return the envelope of the RF tier, float32, shape ``(samples, beams)``, levels as in `speckled`.

    Point scatterers at random places sound to all elements after each of ``transmits`` plane waves (diverging waves of
    curved and phased arrays), and the beamformed pictures are added in phase.
    """
    sector, beam = acquisition.sector, acquisition.beam
    array = PROFILES[acquisition.scanner].array(beam.frequency_mhz, elements)
    area = sector.width_at(sector.depth / 2) * sector.depth
    cell = float(np.mean(beam.cell_mm2(grid.depths)))
    number = int(np.clip(acquisition.scatterers * area / cell, 1000, MOST_SCATTERERS))
    inner, outer = sector.width_at(0.0), sector.width_at(sector.depth)
    share, chance = rng.random(number), rng.random(number)
    # Depth so that scatterers are evenly spread over a fan: width grows linearly from inner to outer.
    grown = (outer - inner) / (outer + inner)
    deep = chance if abs(grown) < 1e-6 else (np.sqrt((1 - grown) ** 2 + 4 * grown * chance) - (1 - grown)) / (2 * grown)
    rows = np.minimum((deep * grid.shape[0]).astype(np.int64), grid.shape[0] - 1)
    columns = np.minimum((share * grid.shape[1]).astype(np.int64), grid.shape[1] - 1)
    thick = max(1.0, FWHM * beam.axial_sd_mm / grid.step) * 10 ** (interface_db / 20)
    power = strengths.diffuse[rows, columns] ** 2 + (thick * strengths.specular[rows, columns]) ** 2
    strength = np.sqrt(power) * rng.standard_normal(number)
    across = sector.left + share * (sector.right - sector.left)
    depth = deep * sector.depth
    if sector.straight:
        points = np.column_stack([across, depth, strength])
    else:
        r = sector.radius + depth
        points = np.column_stack([r * np.sin(across), r * np.cos(across) - sector.radius, strength])
    x, z = (grid.x - sector.x).astype(np.float64), (grid.y - sector.y).astype(np.float64)
    total = np.zeros(grid.shape, np.complex64)
    for firing in _firings(acquisition, array, transmits):
        signals, start = rf.element_signals(array, firing, points, sector.depth, ideal=True)
        total += rf.beamform(array, firing, signals, start, x, z, beam.f_number, hann=True)
    response = _energy(acquisition, array, transmits)
    expected = np.sqrt(number / area * np.interp(grid.depths, np.array(_PROBES) * sector.depth, response))
    out: np.ndarray = (np.abs(total) / expected[:, None]).astype(np.float32)
    return out


def _firings(acquisition: Acquisition, array: rf.Array, transmits: int) -> list[rf.Transmit]:
    """Return the transmissions of one picture: plane waves, or waves from virtual sources behind the array."""
    angles = np.linspace(-0.5, 0.5, transmits) * STEERING_RAD if transmits > 1 else np.zeros(1)
    sector = acquisition.sector
    if sector.straight:
        return [rf.Transmit.plane(array, float(a)) for a in angles]
    behind = sector.radius
    if PROFILES[acquisition.scanner].geometry == "phased":
        behind = np.ptp(array.x) / 2 / np.tan((sector.right - sector.left) / 2)
    return [rf.Transmit.focused(array, float(behind * np.sin(a)), -float(behind * np.cos(a))) for a in angles]


def _energy(acquisition: Acquisition, array: rf.Array, transmits: int) -> np.ndarray:
    """Return the integral of the squared response to a point of strength 1 at `_PROBES`, mm²."""
    sector, beam = acquisition.sector, acquisition.beam
    depths = np.array(_PROBES) * sector.depth
    points = np.column_stack([np.zeros_like(depths), depths, np.ones_like(depths)])
    axial = np.linspace(-4, 4, 25) * beam.axial_sd_mm
    found = []
    for depth, sd in zip(depths, beam.lateral_sd_mm(depths), strict=True):
        across = np.linspace(-6, 6, 49) * sd
        x, z = np.meshgrid(across, depth + axial, indexing="ij")
        found.append((x, z, (across[1] - across[0]) * (axial[1] - axial[0])))
    totals = [np.zeros(x.shape, np.complex64) for x, _, _ in found]
    for firing in _firings(acquisition, array, transmits):
        for point, (x, z, _), total in zip(points, found, totals, strict=True):
            signals, start = rf.element_signals(array, firing, point[None], sector.depth, ideal=True)
            total += rf.beamform(array, firing, signals, start, x, z, beam.f_number, hann=True)
    return np.array([float((np.abs(t) ** 2).sum()) * area for t, (_, _, area) in zip(totals, found, strict=True)])


__all__ = ["beamformed"]

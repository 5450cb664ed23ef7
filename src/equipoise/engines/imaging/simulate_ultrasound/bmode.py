"""One B-mode picture: from a scene and an acquisition, through either tier, to grey values on the label map's grid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from scipy import ndimage

from equipoise.engines.imaging.simulate_ultrasound import rf
from equipoise.engines.imaging.simulate_ultrasound.display import compress, gain_by_depth
from equipoise.engines.imaging.simulate_ultrasound.geometry import sample, scan_convert
from equipoise.engines.imaging.simulate_ultrasound.propagation import echo_loss, echoes, interfaces, sharing
from equipoise.engines.imaging.simulate_ultrasound.scanners import PROFILES, Acquisition
from equipoise.engines.imaging.simulate_ultrasound.speckle import FWHM, convolve, envelope, scatter
from equipoise.engines.imaging.simulate_ultrasound.tissues import Scene
from equipoise.engines.parts.appearance import blur

FEWEST_BEAMS, MOST_BEAMS = 64, 320
SOFT_EDGE_PX = 0.7
"""Blur of the impedance before its gradient is taken: the grid's staircase is no interface."""
EDGE_PX = 2.5
"""Pixels over which a so blurred interface extends."""
STEERING_RAD = 0.28
"""Range of angles over which the RF tier's transmissions are spread; 16 degrees."""
NOISE_BELOW_DB = 22.0
"""Level of the electronic noise against liver that the time-gain compensation does not exceed."""
FILTER_SAMPLES = (1.5, 1.5)
"""Standard deviation of the mean that the speckle filter pulls towards, in samples and beams."""
MOST_SCATTERERS = 200_000
"""Of one picture of the RF tier; more would only take longer."""


@dataclass(frozen=True, eq=False)
class BeamGrid:
    """The samples of all beams, and where the picture's pixels lie between them.

    Parameters
    ----------
    depths
        Along the beams, mm; sample k at ``(k + 0.5) * step``.
    step
        mm.
    x, y
        Place of each sample in the picture, mm, shape ``(samples, beams)``.
    share, depth
        Place of each pixel between the beams, see `Sector.beams_of`.
    pixel
        Size of a pixel along I and J, mm.
    reach
        Length of the beams, mm.
    """

    depths: np.ndarray
    step: float
    x: np.ndarray
    y: np.ndarray
    share: np.ndarray
    depth: np.ndarray
    pixel: tuple[float, float]
    reach: float

    @property
    def shape(self) -> tuple[int, int]:
        """Samples and beams."""
        return self.x.shape[0], self.x.shape[1]

    @property
    def seen(self) -> np.ndarray:
        """The pixels that lie in the field of view, bool, shape ``(I, J)``."""
        inside: np.ndarray = (self.share >= 0) & (self.share <= 1) & (self.depth >= 0) & (self.depth <= self.reach)
        return inside

    @classmethod
    def of(cls, acquisition: Acquisition, shape: tuple[int, int], pixel: tuple[float, float]) -> BeamGrid:
        """Return a grid as fine as the point-spread function and the pixels need, not finer."""
        sector, beam = acquisition.sector, acquisition.beam
        step = float(np.clip(1.2 * beam.axial_sd_mm, pixel[1] / 2.5, pixel[1]))
        samples = max(int(np.ceil(sector.depth / step)), 16)
        depths = (np.arange(samples) + 0.5) * step
        finest = max(float(beam.lateral_sd_mm(depths).min()), 0.8 * pixel[0])
        count = int(np.clip(np.ceil(sector.width_at(0.7 * sector.depth) / finest), FEWEST_BEAMS, MOST_BEAMS))
        return cls(depths, step, *sector.places_of(count, depths), *sector.beams_of(shape, pixel), pixel, sector.depth)

    def pitch(self, acquisition: Acquisition) -> np.ndarray:
        """Return the distance of beams at each depth, mm."""
        return acquisition.sector.widths_at(self.depths) / self.shape[1]


@dataclass(frozen=True, eq=False)
class Strengths:
    """What comes back from each sample, shape ``(samples, beams)``, amplitude of liver at the probe = 1.

    Parameters
    ----------
    diffuse
        Root mean square of the scatterers' echo.
    specular
        Echo of interfaces, all in phase, as a share of total reflection.
    """

    diffuse: np.ndarray
    specular: np.ndarray


def strengths_of(scene: Scene, k: int, acquisition: Acquisition, grid: BeamGrid) -> Strengths:
    """Return the echoes of slice ``k`` of a scene after all losses on the way."""
    impedance = scene.impedance[:, :, k]
    flat = impedance.min() == impedance.max()
    planes = [scene.echo_db[:, :, k], scene.attenuation[:, :, k]]
    if not flat:
        soft = blur(impedance[None, :, :, None], (SOFT_EDGE_PX, SOFT_EDGE_PX, 0))[0, :, :, 0]
        planes.extend((*interfaces(soft, grid.pixel), scene.patchy[:, :, k]))
    read = sample(np.stack(planes).astype(np.float32), grid.x, grid.y, grid.pixel)
    sector, beam = acquisition.sector, acquisition.beam
    if flat:
        specular = reflection = np.zeros(grid.shape, np.float32)
    else:
        specular, reflection = echoes(read[2:4], sector.tilt_of(grid.shape[1]), grid.step)
        # The grid spreads an interface over some pixels; the pulse must find all of it at once.
        blurred = max(1.0, EDGE_PX * grid.pixel[1] / (FWHM * beam.axial_sd_mm))
        specular = specular * read[4] * np.float32(blurred)
    spread = sharing(grid.depths, grid.step, beam.f_number, beam.aperture_mm, grid.pitch(acquisition))
    loss = echo_loss(read[1], reflection, beam.frequency_mhz, grid.step, spread, EDGE_PX * grid.pixel[1])
    diffuse = np.empty_like(loss)
    _diffuse(read[0], loss, diffuse)
    return Strengths(diffuse, specular * loss)


def speckled(
    strengths: Strengths,
    acquisition: Acquisition,
    grid: BeamGrid,
    interface_db: float,
    scatterers: np.ndarray,
) -> np.ndarray:
    """Return the envelope of the convolution tier, float32, shape ``(samples, beams)``.

    Parameters
    ----------
    interface_db
        Level of a totally reflecting interface against liver.
    scatterers
        Their field, from `scatter`.
    """
    beam = acquisition.beam
    axial, lateral = beam.axial_sd_mm / grid.step, beam.lateral_sd_mm(grid.depths) / grid.pitch(acquisition)
    # Kernels keep the power of what has a random phase; of a line in phase they would make more: (4 pi)^(1/4) sqrt(sd)
    # across, and the peak of the pulse along the beam.
    in_phase = 1.883 * np.sqrt(np.maximum(lateral, 0.3)) * 0.751 / np.sqrt(max(axial, 0.3))
    scale = (10 ** (interface_db / 20) / in_phase).astype(np.float32)
    field = np.empty_like(scatterers)
    _combine(scatterers, strengths.diffuse, strengths.specular, scale, field)
    return envelope(convolve(field, axial, lateral))


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


_PROBES = (0.06, 0.15, 0.3, 0.45, 0.6, 0.75, 0.9)
"""Depths, as shares of the sector's, at which the RF tier's response to a point is measured."""


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


def displayed(
    envelopes: list[np.ndarray],
    strengths: Strengths,
    acquisition: Acquisition,
    grid: BeamGrid,
    rng: np.random.Generator,
) -> np.ndarray:
    """Return the picture: clutter, reverberation and noise added, compressed, scan-converted; float32, ``(I, J)``.

    Parameters
    ----------
    envelopes
        Independent looks at the same place; their mean is shown.
    """
    a = acquisition
    depths = grid.depths
    amplitude: np.ndarray = np.array(envelopes, np.float32).mean(axis=0)
    if a.speckle < 1:
        calm = blur(amplitude[None, :, :, None], (*FILTER_SAMPLES, 0))[0, :, :, 0]
        _filter(amplitude, calm, np.float32(a.speckle))
    haze = _beside(strengths.diffuse) * np.float32(10 ** (a.clutter_db / 10))
    near = 10 ** (a.reverberation_db / 20) * np.exp(-depths / a.reverberation_mm)
    rings = _rings(grid.shape, max(a.beam.axial_sd_mm / grid.step, 1.0), rng) * near[:, None].astype(np.float32)
    noise = np.float32(10 ** (a.noise_db / 20)) * rng.standard_exponential(grid.shape, dtype=np.float32) ** 0.5
    _add_power(amplitude, haze, rings, noise)
    tgc = 2 * a.tgc * a.beam.frequency_mhz / 10
    # The scanner stops where it would raise nothing but its own noise.
    gain = a.gain_db + np.minimum(gain_by_depth(depths, tgc, a.sliders_db), -a.noise_db - NOISE_BELOW_DB)
    grey = compress(amplitude, gain, a.dynamic_range_db, a.gamma)
    if grid.pixel[1] > 1.4 * grid.step:  # a pixel shows the mean of its samples
        grey = blur(grey[None, :, :, None], (0.35 * grid.pixel[1] / grid.step, 0, 0))[0, :, :, 0]
    return np.where(grid.seen, scan_convert(grey, grid.share, grid.depth, grid.step, 0.0), np.float32(0))


def independent_fields(acquisition: Acquisition, grid: BeamGrid, rng: np.random.Generator) -> np.ndarray:
    """Return a scatterer field for the grid: as many scatterers per sample as the resolution cells need."""
    area = grid.step * grid.pitch(acquisition)
    return scatter(acquisition.scatterers * area / acquisition.beam.cell_mm2(grid.depths), grid.shape[1], rng)


def _beside(diffuse: np.ndarray) -> np.ndarray:
    """Return the mean power around each sample, of what side lobes and the slice's thickness let in."""
    coarse = diffuse[::4, ::2] ** 2
    wide = ndimage.uniform_filter(coarse, (9, max(coarse.shape[1] // 6, 3)), mode="nearest")
    out: np.ndarray = np.repeat(np.repeat(wide, 4, axis=0), 2, axis=1)[: diffuse.shape[0], : diffuse.shape[1]]
    return out


def _rings(shape: tuple[int, int], axial_sd: float, rng: np.random.Generator) -> np.ndarray:
    """Return the pulses that run to and fro between probe and skin: wide across, as fine as the pulse in depth."""
    nodes = max(shape[1] // 12, 2)
    coarse = ndimage.gaussian_filter1d(rng.standard_normal((shape[0], nodes)), axial_sd, axis=0)
    coarse /= max(float(coarse.std()), 1e-9)
    at = np.linspace(0, nodes - 1, shape[1])
    left = np.minimum(at.astype(np.int64), nodes - 2)
    f = at - left
    rings: np.ndarray = np.abs(coarse[:, left] * (1 - f) + coarse[:, left + 1] * f).astype(np.float32)
    return rings


@njit(cache=True, nogil=True, fastmath=True)
def _diffuse(echo_db, loss, out):  # type: ignore[no-untyped-def]
    factor = np.float32(np.log(10.0) / 20)
    for k in range(out.shape[0]):
        for b in range(out.shape[1]):
            out[k, b] = loss[k, b] * np.exp(factor * echo_db[k, b])


@njit(cache=True, nogil=True, fastmath=True)
def _combine(scatterers, diffuse, specular, scale, field):  # type: ignore[no-untyped-def]
    for k in range(diffuse.shape[0]):
        s = scale[k]
        for b in range(diffuse.shape[1]):
            line = s * specular[k, b]
            # An interface is a little rough: its echo is steady with a random part.
            field[0, k, b] = scatterers[0, k, b] * (diffuse[k, b] + np.float32(0.7) * line) + line
            field[1, k, b] = scatterers[1, k, b] * (diffuse[k, b] + np.float32(0.7) * line)


@njit(cache=True, nogil=True, fastmath=True)
def _add_power(amplitude, haze, rings, noise):  # type: ignore[no-untyped-def]
    for k in range(amplitude.shape[0]):
        for b in range(amplitude.shape[1]):
            a, r, n = amplitude[k, b], rings[k, b], noise[k, b]
            # The haze is speckle too: the noise's magnitude, scaled to it, saves a second field.
            amplitude[k, b] = np.sqrt(a * a + r * r + n * n + haze[k, b])


@njit(cache=True, nogil=True, fastmath=True)
def _filter(amplitude, calm, kept):  # type: ignore[no-untyped-def]
    """Pull every amplitude towards the mean around it, on the scale of dB."""
    for k in range(amplitude.shape[0]):
        for b in range(amplitude.shape[1]):
            mean = calm[k, b]
            if mean > 0:
                amplitude[k, b] = mean * (amplitude[k, b] / mean) ** kept


__all__ = ["BeamGrid", "Strengths", "beamformed", "displayed", "independent_fields", "speckled", "strengths_of"]

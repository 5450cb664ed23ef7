"""One B-mode picture: what comes back to the probe, its speckle by the fast tier, and the screen of either tier."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from scipy import ndimage

from equipoise.engines.imaging.simulate_ultrasound.beams import BeamGrid
from equipoise.engines.imaging.simulate_ultrasound.display import compress, gain_by_depth
from equipoise.engines.imaging.simulate_ultrasound.geometry import sample, scan_convert
from equipoise.engines.imaging.simulate_ultrasound.propagation import echo_loss, echoes, interfaces, sharing
from equipoise.engines.imaging.simulate_ultrasound.scanners import Acquisition
from equipoise.engines.imaging.simulate_ultrasound.speckle import FWHM, convolve, envelope, scatter
from equipoise.engines.imaging.simulate_ultrasound.tissues import Scene
from equipoise.engines.parts.appearance import blur

SOFT_EDGE_PX = 0.7
"""Blur of the impedance before its gradient is taken: the grid's staircase is no interface."""
EDGE_PX = 2.5
"""Pixels over which a so blurred interface extends."""
NOISE_BELOW_DB = 22.0
"""Level of the electronic noise against liver that the time-gain compensation does not exceed."""
FILTER_SAMPLES = (1.5, 1.5)
"""Standard deviation of the mean that the speckle filter pulls towards, in samples and beams."""
_LEAST = np.float32(1e-30)
_PER_DB = np.float32(np.log(10.0) / 20)


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
    return Strengths(loss * np.exp(_PER_DB * read[0]), specular * loss)


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
    amplitude = sum(envelopes[1:], envelopes[0]) / np.float32(len(envelopes))
    if a.speckle < 1:
        amplitude = _filtered(amplitude, a.speckle)
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
    return np.where(grid.seen, scan_convert(grey, grid.share, grid.depth, grid.step), np.float32(0))


def independent_fields(acquisition: Acquisition, grid: BeamGrid, rng: np.random.Generator) -> np.ndarray:
    """Return a scatterer field for the grid: as many scatterers per sample as the resolution cells need."""
    area = grid.step * grid.pitch(acquisition)
    return scatter(acquisition.scatterers * area / acquisition.beam.cell_mm2(grid.depths), grid.shape[1], rng)


def _filtered(amplitude: np.ndarray, kept: float) -> np.ndarray:
    """Return the amplitudes pulled towards the mean around each, so that a share of the contrast in dB is kept."""
    calm = np.maximum(blur(amplitude[None, :, :, None], (*FILTER_SAMPLES, 0))[0, :, :, 0], _LEAST)
    ratio = np.maximum(amplitude / calm, _LEAST)
    return np.asarray(calm * np.exp(np.float32(kept) * np.log(ratio)))


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
    across = np.linspace(0, nodes - 1, shape[1]).astype(np.float32) + np.float32(0.5)
    along = np.arange(shape[0], dtype=np.float32)[:, None] + np.float32(0.5)
    places = np.broadcast_to(across, shape), np.broadcast_to(along, shape)
    rings: np.ndarray = np.abs(sample(coarse.T.astype(np.float32)[None], *places, (1.0, 1.0))[0])
    return rings


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


__all__ = ["Strengths", "displayed", "independent_fields", "speckled", "strengths_of"]

"""From the photons behind a patient to the picture on the screen: scatter, grid, noise, blur, processing.

References
----------
Seibert JA, Boone JM. X-ray scatter removal by deconvolution. Med Phys 1988. doi:10.1118/1.596208 (scatter as a broad
convolution of the primary)
Samei E, Flynn MJ. An experimental comparison of detector performance for direct and indirect digital radiography
systems. Med Phys 2003. doi:10.1118/1.1561285 (modulation transfer, noise)
Prokop M, Neitzel U, Schaefer-Prokop C. Principles of image processing in digital chest radiography. J Thorac Imaging
2003. doi:10.1097/00005382-200307000-00002 (dynamic range compression, detail, sigmoid)
"""

from __future__ import annotations

import numpy as np
import scipy.fft

from equipoise.engines.imaging.simulate_xray.rooms import Exposure

SCATTER_SD_MM = 45.0
"""Breadth of the scatter kernel behind a chest and an air gap of some cm."""
DETAIL_SD_MM = 15.0
"""Structures below this are detail, above it latitude."""
FLOOR = 1e-6


def frequencies(shape: tuple[int, int], pixel_mm: float) -> np.ndarray:
    """Return the spatial frequencies in cycles/mm of a real FFT of this shape, without sign."""
    f0, f1 = scipy.fft.fftfreq(shape[0], pixel_mm), scipy.fft.rfftfreq(shape[1], pixel_mm)
    return np.asarray(np.hypot(f0[:, None], f1), np.float32)


def detector_mtf(frequency: np.ndarray, mtf50: float, blur_mm: float, pixel_mm: float) -> np.ndarray:
    """Return the modulation transfer of scintillator, focal spot and element, 1 at frequency 0.

    Parameters
    ----------
    frequency
        In cycles/mm at the detector.
    mtf50
        Where the scintillator passes one half: 1 / (1 + (f / mtf50)²).
    blur_mm
        Width of the focal spot's image at the detector (a box of equal area, taken as round).
    pixel_mm
        Pitch of the elements.
    """
    scintillator = 1 / (1 + (frequency / mtf50) ** 2)
    return np.asarray(scintillator * np.sinc(frequency * blur_mm) * np.sinc(frequency * pixel_mm / np.sqrt(2)))


def filtered(picture: np.ndarray, gain: np.ndarray) -> np.ndarray:
    """Return a picture whose spectrum is multiplied, its borders mirrored; ``gain`` is of the doubled shape."""
    wide = np.pad(picture, [(0, n) for n in picture.shape], mode="symmetric")
    spectrum = scipy.fft.rfft2(wide) * gain
    back: np.ndarray = scipy.fft.irfft2(spectrum, s=wide.shape)
    return np.ascontiguousarray(back[: picture.shape[0], : picture.shape[1]], np.float32)


def doubled(picture: np.ndarray, pixel_mm: float) -> np.ndarray:
    """Return the frequencies that `filtered` needs the gain at."""
    return frequencies((2 * picture.shape[0], 2 * picture.shape[1]), pixel_mm)


def add_scatter(primary: np.ndarray, areal: np.ndarray, exposure: Exposure, pixel_mm: float) -> np.ndarray:
    """Return primary and scattered signal behind the grid, as a share of the open beam.

    Scatter is made where the patient is thick and light is left; it spreads over `SCATTER_SD_MM`.

    Parameters
    ----------
    primary
        Share of the signal that passes unscattered, shape ``(columns, rows)``.
    areal
        Mass of the patient along each ray, g/cm².
    """
    through, spread = exposure.grid
    if exposure.scatter == 0:
        return np.asarray(through * primary)
    # Compton scatter grows with the mass in the beam, and what it yields is absorbed on the way out.
    source = primary * np.minimum(areal / 12, 3.0)
    broad = filtered(source, np.exp(-2 * (np.pi * SCATTER_SD_MM * doubled(primary, pixel_mm)) ** 2))
    inside = areal > 0.3
    reference = float(broad[inside].mean()) if inside.any() else 0.0
    if reference <= 0:
        return np.asarray(through * primary)
    level = exposure.scatter * float(primary[inside & (areal > 3)].mean() if (inside & (areal > 3)).any() else 0)
    return np.asarray(through * primary + spread * np.maximum(broad, 0) * level / reference)


def detect(
    signal: np.ndarray, inside: np.ndarray, exposure: Exposure, pixel_mm: float, rng: np.random.Generator
) -> np.ndarray:
    """Return the detector's reading in photons per element: quantum noise, blur, electronic noise.

    Parameters
    ----------
    signal
        Share of the open beam, shape ``(columns, rows)``.
    inside
        Where the patient is: the automatic exposure control measures there.
    """
    mean = float(signal[inside].mean()) if inside.any() else float(signal.mean())
    flux = exposure.photons * pixel_mm**2 / max(mean, FLOOR)
    counts = signal * flux
    # Quanta are drawn before the scintillator blurs them, so their noise is blurred with the picture.
    noisy = counts + np.sqrt(np.maximum(counts, 0)) * rng.standard_normal(counts.shape, np.float32)
    magnified = exposure.focus_mm * exposure.gap_mm / max(exposure.distance_mm - exposure.gap_mm, 1)
    read = filtered(noisy, detector_mtf(doubled(signal, pixel_mm), exposure.mtf50, magnified, pixel_mm))
    return np.asarray(read + exposure.electronic * pixel_mm * rng.standard_normal(read.shape, np.float32))


def attenuation_of(read: np.ndarray) -> np.ndarray:
    """Return the logarithm of a reading: more is denser; 0 is the brightest one."""
    bright = max(float(np.percentile(read, 99.8)), FLOOR)
    return np.asarray(-np.log(np.maximum(read / bright, 1e-5)), np.float32)


def displayed(attenuation: np.ndarray, inside: np.ndarray, exposure: Exposure, pixel_mm: float) -> np.ndarray:
    """Return grey values from 0 to 1: large-scale contrast compressed, detail enhanced, a sigmoid over the body."""
    low = filtered(attenuation, np.exp(-2 * (np.pi * DETAIL_SD_MM * doubled(attenuation, pixel_mm)) ** 2))
    shown = exposure.latitude * low + exposure.detail * (attenuation - low)
    body = shown[inside] if inside.sum() > 16 else shown.ravel()
    dark, middle, light = np.percentile(body[:: max(1, body.size // 20000)], [3, 45, 98])
    width = exposure.contrast * max(light - dark, 0.05)
    return np.asarray(1 / (1 + np.exp(-4.2 * (shown - middle) / width)), np.float32)


__all__ = [
    "FLOOR", "add_scatter", "attenuation_of", "detect", "detector_mtf", "displayed", "doubled", "filtered",
    "frequencies",
]  # fmt: skip

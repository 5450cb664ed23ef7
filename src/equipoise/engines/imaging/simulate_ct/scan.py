"""From a scene in HU to what a scanner shows of it: attenuation, projection, noise, reconstruction."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from equipoise.engines.parts.attenuation import (
    add_noise,
    attenuation_from_hu,
    hu_from_attenuation,
    water_attenuation,
)
from equipoise.engines.parts.chest_wall import AIR_HU
from equipoise.engines.parts.grid import Grid
from equipoise.engines.parts.projection import Ellipse, ParallelBeam

LUNG_IN_BODY_HU = -800.0
STORED_HU = (-1024.0, 3071.0)
"""What twelve bits of a DICOM CT hold."""


@dataclass(frozen=True)
class Protocol:
    """How one scan is made.

    Parameters
    ----------
    kernel
        Of the reconstruction: see `kernel_mtf`.
    cutoff
        Of the kernel, in cycles/mm.
    photons
        Per mm² of detector without an object, summed over half a turn: proportional to dose; 100 mAs at 120 kV are of
        the order of 1e8. An element of one view gets photons x pixel x slice thickness / views, so thinner slices and
        smaller pixels are noisier.
    blur_mm
        Standard deviation of the Gaussian by which focal spot, detector and motion blur the patient in plane. It comes
        before the detector's noise, so that sharpness and noise are not tied to each other by the kernel alone.
    """

    kernel: str
    cutoff: float
    photons: float
    blur_mm: float = 0.0


@dataclass(frozen=True)
class Gantry:
    """What does not change between scans.

    Parameters
    ----------
    views
        Over half a turn; ``None`` takes what the field of view needs, N·π/2.
    electronic_sd
        Electronic noise of an element per view, in photons.
    body_mm
        Half axes of the patient (lateral, antero-posterior) in mm: they set how many photons arrive.
    kev
        Effective energy of the beam.
    modulation
        Of the tube current by angle: photons of a view ~ exp(modulation x its mean line integral), their sum kept. 0 is
        a constant current; 0.5 gives the least noise, as a perfect automatic exposure control would (Gies 1999).

    References
    ----------
    Gies M et al. Dose reduction in CT by anatomically adapted tube current modulation. I. Med Phys 1999.
    doi:10.1118/1.598779
    """

    views: int | None
    electronic_sd: float
    body_mm: tuple[float, float]
    kev: float
    modulation: float

    def body(self, rng: np.random.Generator) -> list[Ellipse]:
        """Draw the patient outside the field of view: a torso with two lungs, the field somewhere in one of them."""
        a, b = self.body_mm
        water = water_attenuation(self.kev)
        side = 0.45 * a
        lung = (0.36 * a, 0.66 * b)
        u, v = side + 0.5 * lung[0] * rng.uniform(-1, 1), 0.5 * lung[1] * rng.uniform(-1, 1)
        hollow = water * LUNG_IN_BODY_HU / 1000
        return [
            Ellipse(water, (-u, -v), (a, b)),
            Ellipse(hollow, (side - u, -v), lung),
            Ellipse(hollow, (-side - u, -v), lung),
            Ellipse(0.8 * water, (-u, -v - 0.6 * b), (0.09 * a, 0.13 * b)),  # spine
        ]

    def scan(self, scene: np.ndarray, grid: Grid, protocol: Protocol, rng: np.random.Generator) -> np.ndarray:
        """Return the HU that the scanner shows of a scene.

        The field of view is a piece of the patient. Its line integrals are projected; those of the patient around it
        are closed forms, and are needed for the number of photons only: reconstruction being linear, what lies
        outside adds its noise to the picture, and nothing else.

        Parameters
        ----------
        scene
            HU of each slice, shape ``(N, N, K)``.
        grid
            Of the scene.

        Returns
        -------
        numpy.ndarray
            Whole HU, float32, shape ``(N, N, K)``; valid in the inscribed circle, -1000 outside.
        """
        n, pixel = grid.shape[0], grid.voxel[0]
        beam = ParallelBeam(n, self.views or int(np.ceil(n * np.pi / 2)), pixel)
        if protocol.blur_mm > 0:
            scene = ndimage.gaussian_filter(scene, (protocol.blur_mm / pixel, protocol.blur_mm / pixel, 0))
        circle = np.hypot(grid.axis(0)[:, None], grid.axis(1)) <= grid.half[0]
        # Against the lung's mean, so that the field of view ends without an edge.
        mean = float(attenuation_from_hu(np.asarray(LUNG_IN_BODY_HU), self.kev))
        slices = np.moveaxis(attenuation_from_hu(scene, self.kev) - mean, 2, 0) * circle
        inner = beam.project(slices)
        paths = np.maximum(0, beam.line_integrals(self.body(rng)) + inner)
        current = np.exp(self.modulation * paths.mean(axis=-1, keepdims=True))
        current /= current.mean(axis=-2, keepdims=True)
        i0 = current * (protocol.photons * pixel * grid.voxel[2] / beam.views)
        inner += add_noise(paths, i0, self.electronic_sd, rng) - paths
        attenuation = beam.fbp(inner, protocol.kernel, protocol.cutoff) + mean
        hu = np.where(circle, hu_from_attenuation(attenuation, self.kev), AIR_HU)
        stored: np.ndarray = np.rint(np.clip(hu, *STORED_HU)).astype(np.float32)
        return np.moveaxis(stored, 0, 2)

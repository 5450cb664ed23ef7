"""From a scene in HU to what a scanner shows of it: attenuation, projection, noise, reconstruction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import scipy.fft
from scipy import ndimage

from equipoise.engines.imaging.simulate_ct.artefacts import Implant, Motion, along_rays
from equipoise.engines.parts.attenuation import (
    add_noise,
    attenuation_from_hu,
    hu_from_attenuation,
    water_attenuation,
)
from equipoise.engines.parts.beam_hardening import CtBeam
from equipoise.engines.parts.chest_wall import AIR_HU
from equipoise.engines.parts.fan_beam import FanBeam
from equipoise.engines.parts.grid import Grid
from equipoise.engines.parts.kernels import LEAST_CUTOFF, require_kernel
from equipoise.engines.parts.legal import require_within
from equipoise.engines.parts.projection import Ellipse, ParallelBeam

LUNG_IN_BODY_HU = -800.0
STORED_HU = (-1024.0, 3071.0)
"""What twelve bits of a DICOM CT hold."""
_NO_METAL = np.zeros((1, 1), np.float32)


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
        smaller pixels are noisier. A fan's whole turn spends the same.
    blur_mm
        Standard deviation of the Gaussian by which focal spot, detector and motion blur the patient in plane. It comes
        before the detector's noise, so that sharpness and noise are not tied to each other by the kernel alone.
    thickness_mm
        Of the reconstructed slice; ``None`` is the distance of slices. A thicker one adds up the photons that passed
        its neighbours.
    drift_hu
        What water is shown as, for want of calibration.
    motion
        Of the patient during the scan.
    """

    kernel: str
    cutoff: float
    photons: float
    blur_mm: float = 0.0
    thickness_mm: float | None = None
    drift_hu: float = 0.0
    motion: Motion | None = None

    def __post_init__(self) -> None:
        require_kernel(self.kernel)
        require_within("cutoff", self.cutoff, LEAST_CUTOFF, np.inf, "cycles/mm")
        require_within("photons", self.photons, 1e-3, np.inf, "photons per mm²")
        require_within("blur_mm", self.blur_mm, 0, 100, "mm")
        require_within("drift_hu", self.drift_hu, -5000, 5000, "HU")
        if self.thickness_mm is not None:
            require_within("thickness_mm", self.thickness_mm, 1e-3, 1000, "mm")

    def fitting(self, pixel: float) -> Protocol:
        """Return the protocol with a kernel that ends where pixels of a size in mm end: beyond, edges would ring."""
        return replace(self, cutoff=min(self.cutoff, 0.5 / pixel))


@dataclass(frozen=True)
class Surrounding:
    """What lies around the field of view.

    Parameters
    ----------
    level_hu
        Of what surrounds it: the field of view then ends without an edge.
    body
        Whether it is a piece of a patient, whose rest lies outside.
    """

    level_hu: float = LUNG_IN_BODY_HU
    body: bool = True


LUNG_PIECE, WHOLE_PATIENT = Surrounding(), Surrounding(AIR_HU, False)


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
    beam
        Spectrum and bow-tie filter; ``None`` is a monochromatic beam of ``kev`` without a filter.
    water_correction
        Whether the hardening of a spectrum by water is undone.
    source_mm
        From the focal spot to the axis of a fan beam; ``None`` is a parallel beam.

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
    beam: CtBeam | None = None
    water_correction: bool = True
    source_mm: float | None = None

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

    def scan(
        self,
        scene: np.ndarray,
        grid: Grid,
        protocol: Protocol,
        rng: np.random.Generator,
        around: Surrounding = LUNG_PIECE,
        implants: Sequence[Implant] = (),
    ) -> np.ndarray:
        """Return the HU that the scanner shows of a scene.

        The field of view may be a piece of the patient. Its line integrals are projected; those of the patient around
        it are closed forms, and are needed for the number of photons and their spectrum only: reconstruction being
        linear, what lies outside adds its noise and hardening to the picture, and nothing else.

        Parameters
        ----------
        scene
            HU of each slice, shape ``(N, N, K)``.
        grid
            Of the scene.
        around
            What the scene is cut out of.
        implants
            Metal in the scene.

        Returns
        -------
        numpy.ndarray
            Whole HU, float32, shape ``(N, N, K)``; valid in the inscribed circle, -1000 outside.
        """
        n, pixel = grid.shape[0], grid.voxel[0]
        parallel = ParallelBeam(n, self.views or int(np.ceil(n * np.pi / 2)), pixel)
        if protocol.blur_mm > 0:
            scene = ndimage.gaussian_filter(scene, (protocol.blur_mm / pixel, protocol.blur_mm / pixel, 0))
        circle = np.hypot(grid.axis(0)[:, None], grid.axis(1)) <= grid.half[0]
        mean = float(attenuation_from_hu(np.asarray(around.level_hu), self.kev))
        patient = self.body(rng) if around.body else []
        rays = _Rays(parallel, self.source_mm, patient, protocol.motion)
        thickness = protocol.thickness_mm or grid.voxel[2]
        exposure = protocol.photons * pixel * thickness / rays.views
        films = _Films(self, rays, exposure, tuple(implants))
        for k in range(grid.shape[2]):
            films.expose((attenuation_from_hu(scene[..., k], self.kev) - mean) * circle, mean, k)
        films.read(_profile(thickness, grid.voxel[2]), rng)
        shown = np.empty(scene.shape, np.float32)
        for k in range(grid.shape[2]):
            attenuation = parallel.fbp(rays.rebinned(films.inner[k]), protocol.kernel, protocol.cutoff) + mean
            hu = np.where(circle, hu_from_attenuation(attenuation, self.kev), AIR_HU)
            if protocol.drift_hu:
                hu = np.where(circle, hu + protocol.drift_hu * (1 + hu / 1000), AIR_HU)
            shown[..., k] = np.rint(np.clip(hu, *STORED_HU))
        return shown


class _Rays:
    """The rays of a scan, parallel or a fan, and what of them is known in closed form."""

    def __init__(
        self, parallel: ParallelBeam, source_mm: float | None, patient: Sequence[Ellipse], motion: Motion | None
    ) -> None:
        self.parallel, self.fan = parallel, None
        axis = patient[0].center if patient else (0.0, 0.0)  # the patient lies in the middle of the gantry
        if source_mm is not None:
            self.fan = FanBeam(parallel, source_mm, axis)
            self.views = self.fan.views
            _, self.from_axis = self.fan.rays
            self.outside = self.fan.line_integrals(patient)
        else:
            self.views = parallel.views
            t = parallel.angles[:, None]
            self.from_axis = parallel.positions - axis[0] * np.cos(t) - axis[1] * np.sin(t)
            self.outside = parallel.line_integrals(patient)
        turn = 2 * np.pi if self.fan else np.pi
        self._moved = None if motion is None else motion.places(np.arange(self.views) * (turn / self.views))

    def project(self, image: np.ndarray) -> np.ndarray:
        """Return the line integrals of a slice, in motion or not."""
        if self.fan:
            return self.fan.project(image, self._moved)
        rows = self.parallel.project(image)
        if self._moved is None:
            return rows
        t = self.parallel.angles
        shift = (self._moved[:, 0] * np.cos(t) + self._moved[:, 1] * np.sin(t)) / self.parallel.pixel
        length = scipy.fft.next_fast_len(rows.shape[-1] + 2 * int(np.abs(shift).max() + 8), real=True)
        phase = np.exp(-2j * np.pi * scipy.fft.rfftfreq(length) * shift[:, None])
        moved = scipy.fft.irfft(scipy.fft.rfft(rows, length, axis=-1) * phase, length, axis=-1)
        return np.asarray(moved[:, : rows.shape[-1]], rows.dtype)

    def chords(self, ellipses: Sequence[Ellipse]) -> np.ndarray:
        """Return line integrals in closed form, in motion or not."""
        where = self.fan.distances() if self.fan else (self.parallel.angles[:, None], self.parallel.positions)
        return along_rays(ellipses, *where, self._moved)

    def rebinned(self, rows: np.ndarray) -> np.ndarray:
        """Return parallel line integrals."""
        return rows if self.fan is None else self.fan.rebin(rows)


class _Films:
    """What the rays of every slice meet, and what the detector reads."""

    def __init__(self, gantry: Gantry, rays: _Rays, exposure: float, implants: tuple[Implant, ...]) -> None:
        self.gantry, self.rays, self.exposure, self.implants = gantry, rays, exposure, implants
        self.inner: list[np.ndarray] = []
        self._seen: list[np.ndarray] = []
        self._flux: list[np.ndarray] = []
        beam = gantry.beam
        self._bowtie = beam.bowtie(rays.from_axis) if beam is not None and beam.bowtie_mm else _NO_METAL

    def expose(self, excess: np.ndarray, mean: float, k: int) -> None:
        """Send photons through a slice, given as its attenuation beyond ``mean`` in 1/mm."""
        gantry, rays = self.gantry, self.rays
        inner = rays.project(excess)
        metal = [implant for implant in self.implants if implant.first <= k <= implant.last]
        lengths = rays.chords([implant.shape for implant in metal]) if metal else _NO_METAL
        if metal:
            inner = inner + (lengths * CtBeam(gantry.kev).attenuation(metal[0].material)).astype(inner.dtype)
        self.inner.append(inner)
        paths = self._paths(k)
        current = np.exp(gantry.modulation * paths.mean(axis=-1, keepdims=True))
        current /= current.mean(axis=-2, keepdims=True)
        flux = current * self.exposure
        if gantry.beam is None:
            seen = paths
        else:
            seen = self._hardened(gantry.beam, paths, excess + mean, lengths, metal)
            flux = flux * gantry.beam.passed(self._bowtie)
        self._seen.append(np.asarray(seen, np.float32))
        self._flux.append(np.asarray(flux, np.float32))

    def read(self, profile: np.ndarray, rng: np.random.Generator) -> None:
        """Add what noise and hardening change to the line integrals of every slice."""
        seen, flux = np.stack(self._seen), np.stack(self._flux)
        self._seen, self._flux = [], []
        if len(profile) > 1:
            seen = _through(seen, profile)
        noisy = add_noise(seen, flux, self.gantry.electronic_sd, rng)
        beam = self.gantry.beam
        for k, inner in enumerate(self.inner):
            read = noisy[k]
            if beam is not None and self.gantry.water_correction:
                read = beam.water_corrected(read, self._bowtie)
            elif beam is not None:
                read = read * np.float32(water_attenuation(self.gantry.kev) / beam.water_scale)
            inner += read - self._paths(k)

    def _paths(self, k: int) -> np.ndarray:
        return np.asarray(np.maximum(0, self.rays.outside + self.inner[k]))

    def _hardened(
        self, beam: CtBeam, paths: np.ndarray, slice_: np.ndarray, metal_mm: np.ndarray, metal: Sequence[Implant]
    ) -> np.ndarray:
        """Return what a spectrum shows of paths stated at ``kev``: the patient is water, bone and metal."""
        share = beam.bone_share(slice_)
        bone_mm = np.maximum(self.rays.project(share), 0) if share.any() else _NO_METAL
        name = metal[0].material if metal else "iron"
        rest = paths - bone_mm * beam.attenuation("cortical bone") - metal_mm * beam.attenuation(name)
        water_mm = np.maximum(rest, 0) / water_attenuation(self.gantry.kev)
        return beam.measured(water_mm, bone_mm, metal_mm, name, self._bowtie)


def _profile(thickness: float, apart: float) -> np.ndarray:
    """Return what each slice adds to one of a given thickness: its overlap; of odd length, sum 1."""
    reach = int(np.ceil((thickness / apart - 1) / 2 - 1e-6)) if thickness > apart else 0
    edges = (np.arange(2 * reach + 2) - reach - 0.5) * apart
    inside = np.clip(edges, -thickness / 2, thickness / 2)
    share = np.diff(inside)
    return np.asarray(share / share.sum())


def _through(paths: np.ndarray, profile: np.ndarray) -> np.ndarray:
    """Return paths through thick slices: photons add up, not attenuation; at the ends the last slice goes on."""
    out = np.empty_like(paths)
    reach = len(profile) // 2
    for k in range(len(paths)):
        near = np.clip(np.arange(k - reach, k + reach + 1), 0, len(paths) - 1)
        passed = np.zeros(paths.shape[1:], np.float32)
        for n, share in zip(near, profile, strict=True):
            passed += np.float32(share) * np.exp(-paths[n])
        out[k] = -np.log(passed)
    return out


__all__ = ["LUNG_PIECE", "WHOLE_PATIENT", "Gantry", "Protocol", "Surrounding"]

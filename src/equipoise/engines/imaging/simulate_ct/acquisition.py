"""How a case is scanned: drawn from a scanner's profile, from the engine's ranges, or like a training image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from equipoise.engines.imaging.simulate_ct.artefacts import draw_motion
from equipoise.engines.imaging.simulate_ct.likeness import Setting
from equipoise.engines.imaging.simulate_ct.scan import Gantry, Protocol
from equipoise.engines.imaging.simulate_ct.scanners import SCANNERS
from equipoise.engines.parts.beam_hardening import CtBeam

ANY = "any"


@dataclass(frozen=True)
class Ranges:
    """What acquisitions are drawn from; the parameters of `SimulateCT` of the same names."""

    scanner: str | None
    kernels: tuple[str, ...]
    cutoff: tuple[float, float]
    photons: tuple[float, float]
    blur_mm: tuple[float, float]
    lung_sd: float
    vessels: float
    thickness_mm: float | None
    motion_mm: tuple[float, float]
    drift_hu: float
    gantry: Gantry

    def draw(self, learned: Sequence[Setting], rng: np.random.Generator) -> Acquisition:
        """Draw an acquisition: like one of the training images if there are any.

        Parameters
        ----------
        learned
            Settings that a fit has found.
        """
        if self.scanner is None:
            name, gantry, thickness = None, self.gantry, self.thickness_mm
            setting = self._one_of(learned, rng) if learned else self._setting(rng, self)
            return Acquisition(name, setting, gantry, thickness)
        name = self.scanner if self.scanner != ANY else list(SCANNERS)[int(rng.integers(len(SCANNERS)))]
        profile = SCANNERS[name]
        beam = CtBeam(self.gantry.kev, profile.kvp, bowtie_mm=profile.bowtie_mm)
        gantry = replace(self.gantry, beam=beam, source_mm=profile.source_mm, electronic_sd=profile.electronic_sd)
        choices = (self.thickness_mm,) if self.thickness_mm else profile.thickness_mm
        thickness = choices[int(rng.integers(len(choices)))] if choices else None
        setting = self._one_of(learned, rng) if learned else self._setting(rng, profile)
        return Acquisition(name, setting, gantry, thickness)

    def spoiled(self, protocol: Protocol, rng: np.random.Generator) -> Protocol:
        """Draw motion and want of calibration."""
        swing, drift = rng.spawn(2)
        motion = draw_motion(float(swing.uniform(*self.motion_mm)), swing) if self.motion_mm[1] else None
        return replace(protocol, motion=motion, drift_hu=self.drift_hu * float(drift.standard_normal()))

    def _one_of(self, learned: Sequence[Setting], rng: np.random.Generator) -> Setting:
        return learned[int(rng.integers(len(learned)))]

    def _setting(self, rng: np.random.Generator, of: object) -> Setting:
        kernels, cutoff, photons, blur = (getattr(of, name) for name in ("kernels", "cutoff", "photons", "blur_mm"))
        kernel = kernels[int(rng.integers(len(kernels)))]
        sharpness, dose = float(rng.uniform(*cutoff)), float(np.exp(rng.uniform(*np.log(photons))))
        return Setting(Protocol(kernel, sharpness, dose, float(rng.uniform(*blur))), self.lung_sd, self.vessels)


@dataclass(frozen=True)
class Acquisition:
    """How one case is scanned.

    Parameters
    ----------
    profile
        Name of the scanner; ``None`` is none of the named ones.
    setting
        Protocol, and what the lung in the patient looks like.
    gantry
        The machine.
    thickness_mm
        Of slices, where it differs from the grid's.
    """

    profile: str | None
    setting: Setting
    gantry: Gantry
    thickness_mm: float | None

    @property
    def scanner(self) -> str:
        """The profile, or the kernel where there is none."""
        return self.profile or f"{self.setting.protocol.kernel} kernel"

    def protocol(self, slices: int) -> Protocol:
        """Return the protocol of a stack of slices; one alone is as thick as its grid says."""
        thickness = self.thickness_mm if self.profile is None or slices > 1 else None
        return replace(self.setting.protocol, thickness_mm=thickness)


def attributes_of(protocol: Protocol, gantry: Gantry) -> dict[str, str | float]:
    """Return how a scan was made, for the provenance: always kernel and dose, of the rest what was not left out."""
    told: dict[str, str | float] = {
        "kernel": protocol.kernel, "cutoff": protocol.cutoff, "photons": protocol.photons,
    }  # fmt: skip
    if gantry.beam is not None:
        told["beam"] = f"{gantry.beam.kvp:g} kV" if gantry.beam.kvp else f"{gantry.kev:g} keV"
        told["bowtie_mm"] = gantry.beam.bowtie_mm
    if gantry.source_mm is not None:
        told["geometry"] = "fan"
    if protocol.thickness_mm is not None:
        told["thickness_mm"] = protocol.thickness_mm
    if protocol.motion is not None:
        told["motion_mm"] = round(protocol.motion.span_mm, 3)
    if protocol.drift_hu:
        told["drift_hu"] = round(protocol.drift_hu, 2)
    return told


__all__ = ["ANY", "Acquisition", "Ranges", "attributes_of"]

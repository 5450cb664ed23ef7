"""Named scanners, the protocols that they run, and the acquisition that is drawn from them.

Ranges of times follow common clinical and research protocols at each field; TI of FLAIR nulls water at the scanner's
field. Bandwidths give the chemical shift of fat, 3.4 ppm.

References
----------
Haacke EM, Brown RW, Thompson MR, Venkatesan R. Magnetic Resonance Imaging. 1999.
Jack CR, Bernstein MA, Fox NC, et al. The Alzheimer's Disease Neuroimaging Initiative (ADNI): MRI methods. J Magn Reson
Imaging 2008;27:685. doi:10.1002/jmri.21049 (MPRAGE)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from equipoise.engines.imaging.simulate_mri.sequences import PulseSequence, nulling_ti
from equipoise.engines.imaging.simulate_mri.tissues import TISSUES
from equipoise.errors import PlanError

HZ_PER_TESLA = 42.577e6
FAT_PPM = 3.4
Range = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Scanner:
    """A class of scanners.

    Parameters
    ----------
    tesla
        Main field.
    snr
        Mean signal of the object over the SD of a channel's noise, in a fully sampled image.
    coils
        Receiver loops about the object; 1 is a volume coil.
    channels
        Whose squares are added, see `kspace.measure`: 1 where coils are combined by their sensitivities (Rician noise).
    thickness_mm
        Slices of the 2-D protocols.
    resolution
        Share of k-space acquired in plane; the rest is zero-filled.
    bandwidth_hz
        Of one pixel.
    """

    tesla: float
    snr: Range
    coils: int
    channels: int
    thickness_mm: Range
    resolution: Range
    bandwidth_hz: Range


SCANNERS: Mapping[str, Scanner] = {
    "0.064T portable": Scanner(0.064, (5.0, 10.0), 1, 1, (5.0, 6.0), (0.45, 0.65), (150.0, 300.0)),
    "0.55T": Scanner(0.55, (10.0, 22.0), 8, 1, (4.0, 5.0), (0.65, 0.9), (100.0, 200.0)),
    "1.5T clinical": Scanner(1.5, (15.0, 35.0), 8, 1, (4.0, 6.0), (0.7, 0.95), (120.0, 250.0)),
    "1.5T sum of squares": Scanner(1.5, (12.0, 30.0), 4, 4, (4.0, 6.0), (0.7, 0.95), (120.0, 250.0)),
    "3T clinical": Scanner(3.0, (20.0, 45.0), 16, 1, (3.0, 5.0), (0.75, 1.0), (180.0, 350.0)),
    "3T research": Scanner(3.0, (25.0, 55.0), 32, 1, (1.5, 3.0), (0.85, 1.0), (200.0, 400.0)),
    "7T research": Scanner(7.0, (30.0, 60.0), 32, 1, (1.0, 2.0), (0.9, 1.0), (250.0, 500.0)),
}


@dataclass(frozen=True, slots=True)
class Protocol:
    """A contrast that is asked for by name, with the ranges that its times are drawn from, in ms and degrees."""

    sequence: str
    te: Range
    tr: Range
    ti: Range | None = None
    flip: Range = (90.0, 90.0)
    volume: bool = False


PROTOCOLS: Mapping[str, Protocol] = {
    "t1-mprage": Protocol("mprage", (2.2, 4.2), (1900.0, 2500.0), (850.0, 1050.0), (7.0, 10.0), volume=True),
    "t1-spin-echo": Protocol("spin-echo", (8.0, 18.0), (420.0, 680.0)),
    "t1-gradient-echo": Protocol("gradient-echo", (2.0, 5.0), (9.0, 25.0), None, (18.0, 30.0), volume=True),
    "t2-spin-echo": Protocol("spin-echo", (80.0, 115.0), (3500.0, 6000.0)),
    "pd-spin-echo": Protocol("spin-echo", (10.0, 25.0), (2500.0, 4000.0)),
    "flair": Protocol("flair", (90.0, 140.0), (8000.0, 10000.0)),
    "t2star-gradient-echo": Protocol("gradient-echo", (15.0, 28.0), (450.0, 800.0), None, (15.0, 25.0)),
    "bssfp": Protocol("bssfp", (2.0, 2.8), (4.5, 6.0), None, (35.0, 60.0), volume=True),
}


@dataclass(frozen=True, slots=True)
class Stated:
    """Ranges that a user states instead of the protocols' own; ``None`` leaves those."""

    te: Range | None = None
    tr: Range | None = None
    ti: Range | None = None
    flip: Range | None = None


@dataclass(frozen=True, slots=True)
class Acquisition:
    """How one picture was taken.

    Parameters
    ----------
    scanner, protocol
        Their names.
    tesla
        Main field.
    sequence
        With its times.
    snr, coils, channels, thickness_mm, resolution, bandwidth_hz
        As in `Scanner`, drawn.
    volume
        Whether the third axis is encoded as well; otherwise slices of `thickness_mm` are taken.
    """

    scanner: str
    protocol: str
    tesla: float
    sequence: PulseSequence
    snr: float
    coils: int
    channels: int
    thickness_mm: float
    resolution: float
    bandwidth_hz: float
    volume: bool

    @property
    def fat_shift(self) -> float:
        """Chemical shift of fat in pixels along the frequency axis."""
        return FAT_PPM * 1e-6 * HZ_PER_TESLA * self.tesla / self.bandwidth_hz


def draw_acquisition(scanner: str, protocol: str, stated: Stated, rng: np.random.Generator) -> Acquisition:
    """Draw the times of a protocol on a scanner, log-uniform or uniform in their ranges."""
    machine, p = SCANNERS[scanner], PROTOCOLS[protocol]
    u = rng.random(8)
    te, tr, flip = (
        _at(own or usual, x)
        for own, usual, x in ((stated.te, p.te, u[0]), (stated.tr, p.tr, u[1]), (stated.flip, p.flip, u[2]))
    )
    sequence = _sequence(p, stated, machine.tesla, te, tr, flip, float(u[3]))
    snr, thickness, resolution, bandwidth = (
        _at(pair, x)
        for pair, x in zip(
            (machine.snr, machine.thickness_mm, machine.resolution, machine.bandwidth_hz), u[4:], strict=True
        )
    )
    return Acquisition(
        scanner,
        protocol,
        machine.tesla,
        sequence,
        snr,
        machine.coils,
        machine.channels,
        thickness,
        resolution,
        bandwidth,
        p.volume,
    )


def require_possible(protocol: str, stated: Stated) -> None:
    """Raise `PlanError` unless every corner of the ranges is a sequence that can be played out."""
    p = PROTOCOLS[protocol]
    te, tr, flip = stated.te or p.te, stated.tr or p.tr, stated.flip or p.flip
    for longest, shortest in ((te[1], tr[0]), (te[0], tr[1])):
        for angle in flip:
            for share in (0.0, 1.0):
                try:
                    for tesla in (0.064, 3.0, 7.0):
                        _sequence(p, stated, tesla, longest, shortest, angle, share)
                except PlanError as error:
                    raise PlanError(
                        f"protocol {protocol!r}: {error.message}",
                        why=error.why,
                        fix="narrow te_ms, tr_ms, ti_ms and flip_degrees, or choose the protocols that they fit",
                    ) from error


def _sequence(
    p: Protocol, stated: Stated, tesla: float, te: float, tr: float, flip: float, share: float
) -> PulseSequence:
    if p.sequence == "flair" and stated.ti is None:
        water = TISSUES["cerebrospinal fluid"].at(tesla)
        return PulseSequence("flair", te, tr, nulling_ti(water.t1, te, tr))
    own = stated.ti or p.ti
    return PulseSequence(p.sequence, te, tr, _at(own, share) if own else 0.0, flip)


def _at(pair: Range, share: float) -> float:
    return float(pair[0] + (pair[1] - pair[0]) * share)


__all__ = [
    "PROTOCOLS",
    "SCANNERS",
    "Acquisition",
    "Protocol",
    "Scanner",
    "Stated",
    "draw_acquisition",
    "require_possible",
]

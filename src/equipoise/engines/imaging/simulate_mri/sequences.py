"""Steady-state signal of five pulse sequences, in closed form; times in ms, angles in degrees.

Every function takes relaxation times as numbers or arrays of one shape and returns the transverse magnetisation at the
echo relative to the density, signed by nothing: what a magnitude image shows.

References
----------
[1] Haacke EM, Brown RW, Thompson MR, Venkatesan R. Magnetic Resonance Imaging: Physical Principles and Sequence Design.
1999. (spin echo, inversion recovery, spoiled gradient echo: Ernst)
[2] Freeman R, Hill HDW. Phase and intensity anomalies in Fourier transform NMR. J Magn Reson 1971;4:366. (bSSFP)
[3] Deichmann R, Good CD, Josephs O, Ashburner J, Turner R. Optimization of 3-D MP-RAGE sequences for structural brain
imaging. NeuroImage 2000;12:112. doi:10.1006/nimg.2000.0601
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from equipoise.errors import PlanError

Times = float | np.ndarray


def spin_echo(t1: Times, t2: Times, te: float, tr: float) -> np.ndarray:
    """Return the signal of 90° - 180° - echo, spoiled before every excitation (multi-slice, 2-D)."""
    recovered = 1 - 2 * np.exp(-(tr - te / 2) / t1) + np.exp(-tr / t1)
    return np.asarray(np.abs(recovered) * np.exp(-te / t2))


def flair(t1: Times, t2: Times, te: float, tr: float, ti: float) -> np.ndarray:
    """Return the signal of a spin echo after inversion (180° - TI - 90° - 180° - echo); TR from inversion to inversion.

    With the TI of `nulling_ti` of water it is fluid-attenuated; with a short one it suppresses fat (STIR).
    """
    recovered = 1 - 2 * np.exp(-ti / t1) + 2 * np.exp(-(tr - te / 2) / t1) - np.exp(-tr / t1)
    return np.asarray(np.abs(recovered) * np.exp(-te / t2))


def gradient_echo(t1: Times, t2star: Times, te: float, tr: float, flip: Times) -> np.ndarray:
    """Return the signal of a spoiled gradient echo (Ernst)."""
    angle, e1 = np.radians(flip), np.exp(-tr / t1)
    return np.asarray(np.sin(angle) * (1 - e1) / (1 - np.cos(angle) * e1) * np.exp(-te / t2star))


def bssfp(t1: Times, t2: Times, te: float, tr: float, flip: Times, off_resonance_hz: Times = 0.0) -> np.ndarray:
    """Return the signal of balanced steady-state free precession with alternating pulses.

    Where the field is off by 1/(2 TR) the signal breaks down: dark bands.
    """
    angle, e1, e2 = np.radians(flip), np.exp(-tr / t1), np.exp(-tr / t2)
    turned = np.pi + 2e-3 * np.pi * np.asarray(off_resonance_hz) * tr  # alternating pulses turn by 180° per TR
    c = e2 * (e1 - 1) * (1 + np.cos(angle))
    d = (1 - e1 * np.cos(angle)) - (e1 - np.cos(angle)) * e2**2
    transverse = (1 - e1) * np.sin(angle) * np.abs(1 - e2 * np.exp(-1j * turned)) / (c * np.cos(turned) + d)
    return np.asarray(transverse * np.exp(-te / t2))


def mprage(
    t1: Times,
    t2star: Times,
    te: float,
    tr: float,
    ti: float,
    flip: Times,
    echo_spacing: float = 7.0,
    echoes: int = 160,
) -> np.ndarray:
    """Return the signal of an inversion-prepared train of spoiled gradient echoes at the centre of k-space.

    Parameters
    ----------
    t1, t2star
        In ms.
    te
        Of each gradient echo.
    tr
        From inversion to inversion.
    ti
        From inversion to the excitation that fills the centre of k-space, half-way through the train.
    flip
        Of each excitation.
    echo_spacing
        From excitation to excitation, ms.
    echoes
        Excitations after one inversion.
    """
    angle, before = np.radians(flip), echoes // 2
    step, cos = np.exp(-echo_spacing / t1), np.cos(angle)
    start = ti - before * echo_spacing  # of the train
    rest = tr - start - echoes * echo_spacing  # after it
    steady = (1 - step) / (1 - cos * step)  # just before an excitation, if the train went on for ever

    def after(n: int, mz: np.ndarray) -> np.ndarray:
        return np.asarray(steady + (mz - steady) * (cos * step) ** n)

    # The magnetisation before the inversion is an affine map of itself one TR earlier: its fixed point.
    def cycle(mz: np.ndarray) -> np.ndarray:
        at_start = 1 - (1 + mz) * np.exp(-start / t1)
        return np.asarray(1 - (1 - after(echoes, at_start)) * np.exp(-rest / t1))

    zero = np.zeros(np.broadcast(t1, angle).shape)
    offset = cycle(zero)
    fixed = offset / (1 - (cycle(zero + 1) - offset))
    centre = after(before, 1 - (1 + fixed) * np.exp(-start / t1))
    return np.asarray(np.abs(centre) * np.sin(angle) * np.exp(-te / t2star))


def nulling_ti(t1: float, te: float, tr: float) -> float:
    """Return the TI in ms at which `flair` shows nothing of a tissue."""
    return float(t1 * np.log(2 / (1 + 2 * np.exp(-(tr - te / 2) / t1) - np.exp(-tr / t1))))


SEQUENCES = ("spin-echo", "flair", "gradient-echo", "bssfp", "mprage")


@dataclass(frozen=True, slots=True)
class PulseSequence:
    """A sequence with its times.

    Parameters
    ----------
    name
        One of `SEQUENCES`.
    te, tr
        Echo and repetition time in ms, ``0 < te < tr``.
    ti
        Inversion time in ms (``"flair"``, ``"mprage"``), between 0 and ``tr``.
    flip
        Degrees (``"gradient-echo"``, ``"bssfp"``, ``"mprage"``).
    echo_spacing, echoes
        Of the train (``"mprage"``), which must lie between inversion and inversion.
    """

    name: str
    te: float
    tr: float
    ti: float = 0.0
    flip: float = 90.0
    echo_spacing: float = 7.0
    echoes: int = 160

    def __post_init__(self) -> None:
        _possible("te_ms", self.te, 0.0, self.tr, "the echo comes before the next excitation")
        if self.name in ("flair", "mprage"):
            _possible("ti_ms", self.ti, 0.0, self.tr, "the inversion comes before the excitation, within one TR")
        if self.name == "flair":
            _possible("ti_ms + te_ms", self.ti + self.te, 0.0, self.tr, "the echo comes before the next inversion")
        if self.name in ("gradient-echo", "bssfp", "mprage"):
            _possible("flip_degrees", self.flip, 0.0, 180.0, "an excitation turns by less than half a circle")
        if self.name == "mprage":
            first = (self.echoes // 2) * self.echo_spacing
            last = self.tr - (self.echoes - self.echoes // 2) * self.echo_spacing
            _possible("ti_ms", self.ti, first, last, "the train of echoes about TI must fit between two inversions")
            _possible("te_ms", self.te, 0.0, self.echo_spacing, "the echo comes before the train's next excitation")

    def signal(
        self, t1: Times, t2: Times, t2star: Times, density: Times, flip_share: Times = 1.0, off_resonance_hz: Times = 0
    ) -> np.ndarray:
        """Return the signal of tissue.

        Parameters
        ----------
        t1, t2, t2star
            ms; numbers or arrays of one shape.
        density
            Relative to free water.
        flip_share
            Transmit field B1 relative to nominal (gradient echoes; refocusing pulses are taken as perfect).
        off_resonance_hz
            Error of the main field (``"bssfp"``).
        """
        flip = self.flip * np.asarray(flip_share)
        if self.name == "spin-echo":
            shown = spin_echo(t1, t2, self.te, self.tr)
        elif self.name == "flair":
            shown = flair(t1, t2, self.te, self.tr, self.ti)
        elif self.name == "gradient-echo":
            shown = gradient_echo(t1, t2star, self.te, self.tr, flip)
        elif self.name == "bssfp":
            shown = bssfp(t1, t2, self.te, self.tr, flip, off_resonance_hz)
        else:
            shown = mprage(t1, t2star, self.te, self.tr, self.ti, flip, self.echo_spacing, self.echoes)
        return np.asarray(density * shown)


def _possible(name: str, value: float, low: float, high: float, why: str) -> None:
    if not low < value < high:
        raise PlanError(f"{name} = {value:g} is not possible; legal: above {low:g} and below {high:g}", why=why)


__all__ = [
    "SEQUENCES",
    "PulseSequence",
    "bssfp",
    "flair",
    "gradient_echo",
    "mprage",
    "nulling_ti",
    "spin_echo",
]

"""The simulated scanners of the hidden world, as an image-domain model: point spread, noise texture, calibration.

No projection is computed anywhere: the engines' forward model and this one have nothing in common but the physics that
they imitate.

References
----------
Samei E et al. Performance evaluation of computed tomography systems: AAPM TG-233. Med Phys 2019. doi:10.1002/mp.13763
(task transfer function and noise power spectrum as the description of a scanner and kernel)
Solomon JB, Christianson O, Samei E. Quantitative comparison of noise texture across CT scanners from different
manufacturers. Med Phys 2012. doi:10.1118/1.4752209 (peak frequencies of 0.2 to 0.7 cycles/mm)
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy import fft

AIR, TOP = -1024.0, 3071.0
"""Range of a 12-bit CT number in HU."""


@dataclass(frozen=True, slots=True)
class Scanner:
    """How one scanner, with its usual kernel and dose, turns tissue into pixels.

    Parameters
    ----------
    name
        As the cases state it.
    fwhm
        Full width at half maximum of the point spread in the slice plane, mm.
    edge
        Edge enhancement of the kernel: gain at high frequencies over the plain point spread, 0 for none.
    noise
        Standard deviation of a pixel in uniform tissue, HU.
    grain
        Frequency at which the noise power peaks, cycles/mm: low is blotchy, high is fine.
    white
        Share of the noise power that has no texture, 0 to 1.
    streak
        Length of a noise grain along the columns' axis over its width, 1 for round; shoulders draw
        it out.
    offset, gain
        Calibration error: pixels are ``gain * HU + offset``.
    """

    name: str
    fwhm: float
    edge: float
    noise: float
    grain: float
    white: float = 0.0
    streak: float = 1.0
    offset: float = 0.0
    gain: float = 1.0

    def transfer(self, shape: tuple[int, int], spacing: float) -> np.ndarray:
        """Return the transfer function on the grid of `scipy.fft.rfft2`; 1 at frequency 0."""
        f = _frequency(shape, spacing)
        plain = np.exp(-((np.pi * self.fwhm * f) ** 2) / (4 * np.log(2)))
        curve: np.ndarray = plain * (1 + self.edge * (1 - np.exp(-((1.5 * self.fwhm * f) ** 2))))
        return curve

    def blurred(self, tissue: np.ndarray, spacing: float) -> np.ndarray:
        """Return tissue in HU, shape ``(I, J)``, as the scanner resolves it, without noise."""
        shape = (tissue.shape[0], tissue.shape[1])
        seen: np.ndarray = fft.irfft2(fft.rfft2(tissue) * self.transfer(shape, spacing), s=shape)
        return seen

    def noise_field(self, shape: tuple[int, int], spacing: float, rng: np.random.Generator) -> np.ndarray:
        """Return noise of standard deviation `noise` HU and the scanner's texture, shape ``shape``.

        The power is ``(f / grain)^2 exp(2 - 2 f / grain)``: no power at frequency 0, a peak at `grain`.
        """
        f = _frequency(shape, spacing, self.streak) / self.grain
        power = (f * np.exp(1 - f)) ** 2
        # The half-plane of rfft2 holds every column but the first (and for even lengths the last) for its mirror too.
        twice = np.full(power.shape[1], 2.0)
        twice[0] = 1.0
        if shape[1] % 2 == 0:
            twice[-1] = 1.0
        power = power * (shape[0] * shape[1]) / (power * twice).sum()
        power = (1 - self.white) * power + self.white
        field: np.ndarray = fft.irfft2(fft.rfft2(rng.standard_normal(shape)) * np.sqrt(power), s=shape)
        return self.noise * field

    def scan(
        self, tissue: np.ndarray, spacing: float, rng: np.random.Generator, dose: float = 1.0, margin: int = 0
    ) -> np.ndarray:
        """Return CT numbers of one slice.

        Parameters
        ----------
        tissue
            HU, shape ``(I, J)``.
        spacing
            Pixel size, mm.
        rng
            Of the noise.
        dose
            Relative to the scanner's usual one; noise falls with its square root.
        margin
            Pixels at each side that take the wrap-around of the filters and are cut off.

        Returns
        -------
        np.ndarray
            Whole HU in the 12-bit range, float32, shape ``(I - 2 margin, J - 2 margin)``.
        """
        shape = (tissue.shape[0], tissue.shape[1])
        seen = self.blurred(tissue, spacing) + self.noise_field(shape, spacing, rng) / np.sqrt(dose)
        inner = seen[margin : shape[0] - margin, margin : shape[1] - margin]
        numbers: np.ndarray = np.clip(np.rint(self.gain * inner + self.offset), AIR, TOP).astype(np.float32)
        return numbers

    def shifted(self, gap: float) -> Scanner:
        """Return a scanner that is wrong by ``gap``: softer, with white noise and a calibration error."""
        return replace(
            self,
            fwhm=self.fwhm * (1 + gap),
            edge=self.edge * max(1 - gap, 0),
            white=min(self.white + gap, 1.0),
            noise=self.noise * max(1 - 0.5 * gap, 0.1),
            offset=self.offset + 60 * gap,
        )


INTERNAL = (
    Scanner("simulated soft", fwhm=1.65, edge=0.0, noise=17, grain=0.20),
    Scanner("simulated standard", fwhm=1.2, edge=0.25, noise=30, grain=0.32),
    Scanner("simulated sharp", fwhm=0.85, edge=0.8, noise=58, grain=0.52),
    Scanner("simulated low dose", fwhm=1.4, edge=0.1, noise=52, grain=0.26, streak=1.5),
)
"""The inside scanners."""

EXTERNAL = Scanner(
    "simulated external", fwhm=0.7, edge=1.3, noise=88, grain=0.62, white=0.1, streak=2.2, offset=35, gain=0.9
)
"""The scanner of the external site: another kernel, more noise, another calibration."""


def _frequency(shape: tuple[int, int], spacing: float, stretch: float = 1.0) -> np.ndarray:
    """Return the radial frequency in cycles/mm on the grid of `rfft2`; ``stretch`` squeezes the first axis."""
    x, y = fft.fftfreq(shape[0], spacing), fft.rfftfreq(shape[1], spacing)
    radial: np.ndarray = np.hypot(x[:, None] * stretch, y[None])
    return radial

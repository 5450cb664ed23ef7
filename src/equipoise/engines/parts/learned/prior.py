"""What is known of an image before a network has learned anything: its mean, and how much it varies at each frequency.

A network that starts from noise spends most of a short training on learning that images are smooth. This is known from
their power spectrum: the best linear guess at an image under noise is Wiener's filter. The network then learns only
what that guess misses.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.fft import dct

BANDS = 4
"""Bands of frequency per octave that the power is averaged over: few patches give a rough spectrum."""

FAINT = 1e-4
"""Least power, as a share of that of white noise: a band that no patch shows would let no detail through."""


Guess = tuple[torch.Tensor, torch.Tensor]
"""Images, and their root mean square error, shape ``(B, 1, …)``."""


@dataclass(frozen=True, eq=False)
class Prior:
    """Images as Gaussian processes of a known spectrum.

    Parameters
    ----------
    mean, sd
        Of each channel, float32, shape ``(C, 1, …)``, one 1 per axis.
    basis
        Rows are mixtures of channels that do not vary together, as brightness and tints do; orthonormal, ``(C, C)``.
    power
        Of these mixtures' cosine transform, float32, shape ``(C, *patch)``; its mean is 1.

    References
    ----------
    Wiener N. Extrapolation, interpolation, and smoothing of stationary time series. MIT Press 1949. Karras T et al.
    Elucidating the design space of diffusion-based generative models. NeurIPS 2022. arXiv:2206.00364: their
    preconditioning is this one for images whose spectrum is white.
    """

    mean: torch.Tensor
    sd: torch.Tensor
    basis: torch.Tensor
    power: torch.Tensor

    @classmethod
    def of(cls, images: np.ndarray, ndim: int, device: str = "cpu") -> Prior:
        """Return the prior of patches ``(N, C, I, J, K)``; K is 1 in 2-D."""
        flat = torch.from_numpy(np.ascontiguousarray(images[..., 0] if ndim == 2 else images))
        axes = (0, *range(2, flat.ndim))
        one = [-1, *[1] * ndim]
        mean, sd = flat.mean(axes).view(one), flat.std(axes).clamp(min=1e-3).view(one)
        standard = (flat - mean) / sd
        channels = standard.movedim(1, 0).flatten(1)
        basis = torch.linalg.eigh(channels @ channels.T / channels.shape[1]).eigenvectors.T.contiguous()
        power = _banded(transformed(_mixed(standard, basis)).square().mean(0)).clamp(min=FAINT)
        return cls(mean, sd, basis, power).to(device)

    @classmethod
    def natural(cls, channels: int, patch: Sequence[int], device: str = "cpu") -> Prior:
        """Return the prior of images that nobody has looked at: their power falls with the square of the frequency.

        References
        ----------
        Field DJ. Relations between the statistics of natural images and the response properties of cortical cells.
        Journal of the Optical Society of America A 1987. doi:10.1364/JOSAA.4.002379
        """
        power = (_frequency(patch) + 1).pow(-len(patch)).expand(channels, *patch)
        one = [channels, *[1] * len(patch)]
        mean, sd = torch.zeros(one), torch.full(one, 0.5)
        power = (power / power.mean()).clamp(min=FAINT)
        return cls(mean, sd, torch.eye(channels), power).to(device)

    def to(self, device: str) -> Prior:
        """Return it on a device."""
        mean, sd, basis, power = (part.to(device) for part in (self.mean, self.sd, self.basis, self.power))
        return Prior(mean, sd, basis, power)

    @property
    def bounds(self) -> tuple[torch.Tensor, torch.Tensor]:
        """What -1 and 1 are when standardised."""
        return (-1 - self.mean) / self.sd, (1 - self.mean) / self.sd

    def standardised(self, images: torch.Tensor) -> torch.Tensor:
        """Return images ``(B, C, *spatial)`` with mean 0 and variance 1."""
        return (images - self.mean) / self.sd

    def restored(self, images: torch.Tensor) -> torch.Tensor:
        """Undo `standardised`."""
        return images * self.sd + self.mean

    def guess(self, noisy: torch.Tensor, alpha: torch.Tensor, sigma: torch.Tensor) -> Guess:
        """Return the best linear guess at standardised images under noise, and its root mean square error.

        Parameters
        ----------
        noisy
            Shape ``(B, C, *patch)``.
        alpha, sigma
            Shares of image and noise, shape ``(B,)``.

        Returns
        -------
        tuple
            Images of the shape of ``noisy``, and ``(B, 1, …)``.
        """
        alpha, sigma = (x.view(-1, *[1] * (noisy.ndim - 1)) for x in (alpha, sigma))
        total = alpha.square() * self.power + sigma.square()
        filtered = transformed(_mixed(noisy, self.basis)) * (alpha * self.power / total)
        image = _mixed(transformed(filtered, back=True), self.basis.T)
        error = (sigma.square() * self.power / total).mean(tuple(range(1, noisy.ndim)), keepdim=True)
        return image, error.sqrt()


def plainly(guess: torch.Tensor, error: torch.Tensor) -> torch.Tensor:
    """Return a guess at the scale that guesses with this error have on average: 1."""
    return guess / (1 - error.square()).clamp(min=FAINT).sqrt()


def transformed(images: torch.Tensor, back: bool = False) -> torch.Tensor:
    """Return the orthonormal cosine transform (type II) of images ``(..., *patch)`` of 2 or 3 axes, or its inverse.

    Cosines, not waves: a patch is no ring, and its two ends have nothing to do with one another. The axes are all after
    the first of ``(C, *patch)`` or the first two of ``(B, C, *patch)``.
    """
    first = 2 if images.ndim in (4, 5) else 1
    for axis in range(first, images.ndim):
        matrix = _cosines(images.shape[axis]).to(images)
        images = torch.tensordot(images, matrix, ([axis], [0 if back else 1])).movedim(-1, axis)
    return images


def _mixed(images: torch.Tensor, basis: torch.Tensor) -> torch.Tensor:
    """Return images ``(B, C, *spatial)`` with their channels mixed by the rows of a basis."""
    return images if len(basis) == 1 else torch.einsum("dc,bc...->bd...", basis, images)


def _cosines(n: int) -> torch.Tensor:
    return torch.from_numpy(dct(np.eye(n), axis=0, norm="ortho").astype(np.float32))


def _banded(power: torch.Tensor) -> torch.Tensor:
    """Return power ``(C, *patch)`` averaged over bands of the same frequency in cycles per pixel."""
    band = (torch.log2(_frequency(power.shape[1:]) + 1) * BANDS).round().long().flatten()
    count = torch.bincount(band)
    sums = torch.zeros(len(power), len(count)).index_add_(1, band, power.flatten(1))
    return (sums / count.clamp(min=1))[:, band].view(power.shape)


def _frequency(patch: Sequence[int]) -> torch.Tensor:
    """Return the frequency of each coefficient, in half waves along the longest side."""
    grids = torch.meshgrid(*[torch.arange(n) / n for n in patch], indexing="ij")
    return torch.stack(grids).square().sum(0).sqrt() * max(patch)


def rate_at(step: int, steps: int, warm: int = 50, least: float = 0.02) -> float:
    """Return the share of the learning rate at a step: a short rise, then half a cosine down to ``least``.

    References
    ----------
    Loshchilov I, Hutter F. SGDR: stochastic gradient descent with warm restarts. ICLR 2017. arXiv:1608.03983
    """
    down = 0.5 * (1 + math.cos(math.pi * min(step / max(steps, 1), 1)))
    return min(step / warm, 1.0) * (least + (1 - least) * down)


__all__ = ["Guess", "Prior", "plainly", "rate_at", "transformed"]

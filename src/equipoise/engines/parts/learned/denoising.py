"""Denoising: the cosine schedule, velocity targets, and samplers that need few steps."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import torch

LEAST, MOST = 0.002, 0.998
"""Times between which images are noised: at 0 there is nothing to learn, at 1 nothing is left of the image."""

Predict = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""The velocity at a noised image ``(B, C, *spatial)`` and time ``(B,)``."""


def levels(time: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the shares of image and noise at a time from 0 to 1: cosine and sine, so that the variance stays.

    References
    ----------
    Nichol A, Dhariwal P. Improved denoising diffusion probabilistic models. ICML 2021. arXiv:2102.09672
    """
    return torch.cos(0.5 * math.pi * time), torch.sin(0.5 * math.pi * time)


def noised(images: torch.Tensor, noise: torch.Tensor, time: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return images at a time of the way to noise, and their velocity there.

    References
    ----------
    Salimans T, Ho J. Progressive distillation for fast sampling of diffusion models (velocity). ICLR 2022.
    arXiv:2202.00512
    """
    alpha, sigma = (x.view(-1, *[1] * (images.ndim - 1)) for x in levels(time))
    return alpha * images + sigma * noise, alpha * noise - sigma * images


def denoise(
    predict: Predict, noise: torch.Tensor, steps: int, sampler: str = "dpm++", clip: bool = True
) -> torch.Tensor:
    """Return images from noise.

    Parameters
    ----------
    predict
        The velocity.
    noise
        Standard normal, shape ``(B, C, *spatial)``.
    steps
        Calls of ``predict``; 10 to 20 suffice with ``"dpm++"``, 50 with ``"ddim"``.
    sampler
        ``"ddim"``, first order, or ``"dpm++"``, second order in the logarithm of the signal-to-noise ratio (2M).
    clip
        Whether predicted images are held in -1 … 1, as training images are.

    References
    ----------
    Song J, Meng C, Ermon S. Denoising diffusion implicit models. ICLR 2021. arXiv:2010.02502. Lu C et al.
    DPM-Solver++: fast solver for guided sampling of diffusion probabilistic models. 2022. arXiv:2211.01095
    """
    times = _times(steps, sampler).to(noise.device)
    x, before, width = noise, None, None
    for now, then in pairwise(times):
        (alpha, sigma), (alpha_then, sigma_then) = levels(now), levels(then)
        image = alpha * x - sigma * predict(x, now.expand(len(x)))
        image = image.clamp(-1, 1) if clip else image
        step = torch.log(alpha_then / sigma_then) - torch.log(alpha / sigma)
        towards = image
        if sampler == "dpm++" and before is not None and width is not None:
            ratio = width / step
            towards = (1 + 0.5 / ratio) * image - (0.5 / ratio) * before
        # Exact for a constant image along the step; DDIM is its first order.
        x = (sigma_then / sigma) * x - alpha_then * torch.expm1(-step) * towards
        before, width = image, step
    return x / levels(times[-1])[0]


def _times(steps: int, sampler: str) -> torch.Tensor:
    """Return the times from noise to image.

    The second order looks one step back: its steps must be alike in the logarithm of the signal-to-noise ratio, or the
    last one, much longer than the one before, overshoots.
    """
    if sampler == "ddim":
        return torch.linspace(MOST, LEAST, steps + 1)
    ends = [-math.log(math.tan(0.5 * math.pi * time)) for time in (MOST, LEAST)]
    return torch.atan(torch.exp(-torch.linspace(ends[0], ends[1], steps + 1))) * (2 / math.pi)


__all__ = ["LEAST", "MOST", "Predict", "denoise", "levels", "noised"]

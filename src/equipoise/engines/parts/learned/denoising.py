"""Denoising: the cosine schedule, velocity targets, and samplers that need few steps."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch

LEAST, MOST = 0.002, 0.998
"""Times between which images are noised: at 0 there is nothing to learn, at 1 nothing is left of the image."""

STRETCHES = 16
"""Stretches that the way from noise to image is divided into where it is gone several times."""

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


@dataclass(frozen=True, eq=False)
class Known:
    """What of the images is known before they are made.

    Parameters
    ----------
    images
        On the scale of what is made, shape ``(B, C, *spatial)``.
    keep
        1 where they are known, 0 where they are made, between them where both are blended; shape ``(B, 1, *spatial)``.
    passes
        How often each stretch of the way is gone: after each pass but the last, images go back to where the stretch
        began, by new noise, so that what is made can answer to what is known around it. Calls of the network grow as
        this does.
    generator
        Of that noise; on the CPU.
    """

    images: torch.Tensor
    keep: torch.Tensor
    passes: int = 1
    generator: torch.Generator | None = None


def denoise(
    predict: Predict,
    noise: torch.Tensor,
    steps: int,
    sampler: str = "dpm++",
    bounds: tuple[torch.Tensor | float, torch.Tensor | float] | None = (-1.0, 1.0),
    known: Known | None = None,
) -> torch.Tensor:
    """Return images from noise.

    Parameters
    ----------
    predict
        The velocity.
    noise
        Standard normal, shape ``(B, C, *spatial)``.
    steps
        Calls of ``predict`` in one pass; 10 to 20 suffice with ``"dpm++"``, 50 with ``"ddim"``.
    sampler
        ``"ddim"``, first order, or ``"dpm++"``, second order in the logarithm of the signal-to-noise ratio (2M).
    bounds
        That predicted images are held between, as training images are; numbers, or shape ``(C, 1, …)``.
    known
        What stays as it is. Both samplers go exactly along an image that is always predicted alike, so with the
        prediction replaced where the image is known, that part is the known image under its own noise at every time.

    References
    ----------
    Song J, Meng C, Ermon S. Denoising diffusion implicit models. ICLR 2021. arXiv:2010.02502. Lu C et al.
    DPM-Solver++: fast solver for guided sampling of diffusion probabilistic models. 2022. arXiv:2211.01095.
    Lugmayr A et al. RePaint: inpainting using denoising diffusion probabilistic models. CVPR 2022. arXiv:2201.09865
    """
    times = _times(steps, sampler).to(noise.device)
    x, before, width = noise, None, None
    for here, there in _way(steps, known.passes if known else 1):
        now, then = times[here], times[there]
        if known and there < here:
            # What was predicted before the jump belongs to another path: the second order starts anew.
            x, before = _noised_back(x, now, then, known.generator), None
            continue
        (alpha, sigma), (alpha_then, sigma_then) = levels(now), levels(then)
        image = alpha * x - sigma * predict(x, now.expand(len(x)))
        image = _within(image, *bounds) if bounds else image
        image = torch.lerp(image, known.images, known.keep) if known else image
        step = torch.log(alpha_then / sigma_then) - torch.log(alpha / sigma)
        towards = image
        if sampler == "dpm++" and before is not None and width is not None:
            ratio = width / step
            towards = (1 + 0.5 / ratio) * image - (0.5 / ratio) * before
        # Exact for a constant image along the step; DDIM is its first order.
        x = (sigma_then / sigma) * x - alpha_then * torch.expm1(-step) * towards
        before, width = image, step
    made = x / levels(times[-1])[0]
    return torch.where(known.keep == 1, known.images, made) if known else made


def _within(image: torch.Tensor, low: torch.Tensor | float, high: torch.Tensor | float) -> torch.Tensor:
    low, high = (torch.as_tensor(x, dtype=image.dtype, device=image.device) for x in (low, high))
    return torch.maximum(torch.minimum(image, high), low)


def _way(steps: int, passes: int) -> Iterator[tuple[int, int]]:
    """Yield the numbers of the times that the way leads from and to: back after each pass of a stretch but the last."""
    for first in range(0, steps, max(steps // STRETCHES, 1)):
        last = min(first + max(steps // STRETCHES, 1), steps)
        for left in reversed(range(passes)):
            yield from pairwise(range(first, last + 1))
            if left:
                yield last, first


def _noised_back(
    x: torch.Tensor, now: torch.Tensor, then: torch.Tensor, generator: torch.Generator | None
) -> torch.Tensor:
    """Return images that were noised to a time, noised further to an earlier one on the way from noise."""
    (alpha, sigma), (alpha_then, sigma_then) = levels(now), levels(then)
    share = alpha_then / alpha
    fresh = torch.randn(x.shape, generator=generator).to(x.device)
    return share * x + (sigma_then**2 - (share * sigma) ** 2).clamp(min=0).sqrt() * fresh


def _times(steps: int, sampler: str) -> torch.Tensor:
    """Return the times from noise to image.

    The second order looks one step back: its steps must be alike in the logarithm of the signal-to-noise ratio, or the
    last one, much longer than the one before, overshoots.
    """
    if sampler == "ddim":
        return torch.linspace(MOST, LEAST, steps + 1)
    ends = [-math.log(math.tan(0.5 * math.pi * time)) for time in (MOST, LEAST)]
    return torch.atan(torch.exp(-torch.linspace(ends[0], ends[1], steps + 1))) * (2 / math.pi)


__all__ = ["LEAST", "MOST", "Known", "Predict", "denoise", "levels", "noised"]

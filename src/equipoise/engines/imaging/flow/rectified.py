"""Rectified flow: straight ways from noise to images, and how to go them in few steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch

Velocity = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""Image less noise, as guessed at a place ``(B, C, *spatial)`` of the way and a time ``()``: 0 is image, 1 is noise."""


@dataclass(frozen=True, eq=False)
class Known:
    """What is known of the images at the end of the way.

    Parameters
    ----------
    images
        Shape ``(B, C, *spatial)``.
    keep
        1 where it stays, 0 where the way decides, shape ``(B, 1, *spatial)``.
    passes
        How often each step is taken: before each further time part of the way back is gone, by new noise.
    generator
        Of that noise.
    """

    images: torch.Tensor
    keep: torch.Tensor
    passes: int
    generator: torch.Generator

    def put_into(self, x: torch.Tensor, time: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """Return a place of the way at a time with the known part on its own straight way from the noise."""
        return torch.lerp(x, (1 - time) * self.images + time * noise, self.keep)

    def back(self, x: torch.Tensor, then: torch.Tensor, now: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the place at an earlier time of the way, nearer to noise, that ``x`` may have come from, and noise.

        References
        ----------
        Lugmayr A et al. RePaint: inpainting using denoising diffusion probabilistic models. CVPR 2022. arXiv:2201.09865
        """
        noise = torch.randn(x.shape, generator=self.generator).to(x.device)
        share = (1 - now) / (1 - then)
        return share * x + (now**2 - (share * then) ** 2).clamp_min(0).sqrt() * noise, noise


def between(images: torch.Tensor, noise: torch.Tensor, time: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return places on the straight ways from images to noise at times ``(B,)``, and the velocity there.

    References
    ----------
    Liu X, Gong C, Liu Q. Flow straight and fast: learning to generate and transfer data with rectified flow. ICLR 2023.
    arXiv:2209.03003. Lipman Y et al. Flow matching for generative modeling. ICLR 2023. arXiv:2210.02747
    """
    share = time.view(-1, *[1] * (images.ndim - 1))
    return (1 - share) * images + share * noise, images - noise


def draw_times(count: int, generator: torch.Generator, times: str) -> torch.Tensor:
    """Return times from 0 to 1, shape ``(count,)``: ``"uniform"``, or ``"logit-normal"``, most in the middle.

    In the middle of the way the velocity is hardest to guess: near its ends it is the mean image, or the mean noise.

    References
    ----------
    Esser P et al. Scaling rectified flow transformers for high-resolution image synthesis. ICML 2024. arXiv:2403.03206
    """
    if times == "uniform":
        return torch.rand(count, generator=generator)
    return torch.sigmoid(torch.randn(count, generator=generator))


def follow(
    velocity: Velocity, noise: torch.Tensor, steps: int, sampler: str = "euler", known: Known | None = None
) -> torch.Tensor:
    """Return what lies at the end of the way that starts at noise.

    Parameters
    ----------
    velocity
        To follow.
    noise
        Standard normal, shape ``(B, C, *spatial)``.
    steps
        Of equal length in time.
    sampler
        ``"euler"``, one call of the velocity per step, or ``"heun"``, two calls, whose error falls with the square of
        the number of steps.
    known
        Part of the image that the way has to end at.
    """
    x = noise
    times = torch.linspace(1, 0, steps + 1, device=noise.device)
    for now, then in pairwise(times):
        for again in range(known.passes if known else 1):
            if known and again:
                x, noise = known.back(x, then, now)
            x = _stepped(velocity, x, now, then, sampler)
            if known:
                x = known.put_into(x, then, noise)
    return x


def _stepped(velocity: Velocity, x: torch.Tensor, now: torch.Tensor, then: torch.Tensor, sampler: str) -> torch.Tensor:
    way = velocity(x, now)
    if sampler == "heun":
        way = (way + velocity(x + (now - then) * way, then)) / 2
    return x + (now - then) * way


__all__ = ["Known", "Velocity", "between", "draw_times", "follow"]

"""The generator of `gan`, and the random changes that its critic sees images through."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from equipoise.engines.parts.learned.folding import fold, unfold

with warnings.catch_warnings():
    # MONAI and what it imports announce deprecations of their own dependencies; none of them is ours to act on.
    warnings.simplefilter("ignore")
    from monai.networks.blocks import SPADE

GRAIN = 2
"""Planes of noise; the first is added at every scale, both enter at the coarsest."""


class Generator(nn.Module):
    """From labels, noise and a latent, coarse to fine; no part of it knows the size of the image.

    Parameters
    ----------
    ndim
        2 or 3.
    planes, latent
        Of the condition, and numbers that hold for the whole image.
    channels
        Width of each scale, finest first.
    block
        Side of the blocks of voxels that the finest scale treats as channels of one.
    out
        Channels of the image.
    """

    def __init__(self, ndim: int, planes: int, latent: int, channels: tuple[int, ...], block: int, out: int) -> None:
        super().__init__()
        conv = nn.Conv2d if ndim == 2 else nn.Conv3d
        self.block, self.ndim = block, ndim
        told = planes * block**ndim
        widths = channels[::-1]
        self.first = conv(latent + GRAIN, widths[0], 3, 1, 1)
        self.scales = nn.ModuleList(
            Scale(ndim, told, before, width) for before, width in zip((widths[0], *widths), widths, strict=False)
        )
        self.last = conv(channels[0], out * block**ndim, 3, 1, 1)
        for part in self.modules():
            if isinstance(part, conv):
                # Zeros would tell it where a patch ends, and each tile of a large image would show its border.
                part.padding_mode = "replicate"

    def forward(self, planes: torch.Tensor, noise: torch.Tensor, latent: torch.Tensor) -> torch.Tensor:
        """Return images in -1 … 1 for planes, noise and latent of shape ``(B, *, *spatial)``, the latent constant."""
        told = fold(planes, self.block)
        grains = [coarser(noise, self.block * 2**level, keep_variance=True) for level in range(len(self.scales))]
        whole = coarser(latent, self.block * 2 ** (len(self.scales) - 1))
        x = self.first(torch.cat([grains[-1], whole], 1))
        for level, scale in zip(range(len(self.scales))[::-1], self.scales, strict=True):
            x = scale(x, coarser(told, 2**level), grains[level][:, :1])
            if level:
                x = functional.interpolate(x, scale_factor=2, mode="nearest")
        image: torch.Tensor = torch.tanh(self.last(functional.leaky_relu(x, 0.2)))
        return unfold(image, self.block)


class Scale(nn.Module):
    """A residual block whose normalisations are told the labels, with noise of a learned strength per channel."""

    def __init__(self, ndim: int, told: int, before: int, width: int) -> None:
        super().__init__()
        conv = nn.Conv2d if ndim == 2 else nn.Conv3d
        self.norms = nn.ModuleList(
            SPADE(told, n, spatial_dims=ndim, hidden_channels=32, norm="INSTANCE") for n in (before, width)
        )
        self.convs = nn.ModuleList(conv(n, width, 3, 1, 1) for n in (before, width))
        self.short = conv(before, width, 1, bias=False) if before != width else nn.Identity()
        self.strength = nn.Parameter(torch.full((width,), 0.1))

    def forward(self, x: torch.Tensor, told: torch.Tensor, grain: torch.Tensor) -> torch.Tensor:
        """Return the features after this scale."""
        y = x
        for norm, convolve in zip(self.norms, self.convs, strict=True):
            y = convolve(functional.leaky_relu(norm(y, told), 0.2))
        shaped = self.strength.view(1, -1, *[1] * (x.ndim - 2))
        mixed: torch.Tensor = self.short(x) + y + shaped * grain
        return mixed


def coarser(images: torch.Tensor, factor: int, keep_variance: bool = False) -> torch.Tensor:
    """Return means over blocks; with ``keep_variance`` scaled so that white noise stays of variance 1."""
    if factor == 1:
        return images
    pool = functional.avg_pool2d if images.ndim == 4 else functional.avg_pool3d
    small = pool(images, factor)
    return small * factor ** ((images.ndim - 2) / 2) if keep_variance else small


@dataclass(frozen=True, eq=False)
class Changes:
    """Random changes to a batch of images: how much brighter, of more contrast, how far moved, and where cut out.

    Differentiable, and made to real and to made images alike, so that nothing leaks into what is made.

    Parameters
    ----------
    bright, contrast
        Shape ``(B, 1, …)``; 0 changes nothing.
    moves
        Whole voxels along each axis, by image.
    cuts
        The box that is cut out, or ``None``, by image.

    References
    ----------
    Zhao S et al. Differentiable augmentation for data-efficient GAN training. NeurIPS 2020. arXiv:2006.10738
    """

    bright: torch.Tensor
    contrast: torch.Tensor
    moves: list[list[int]]
    cuts: list[tuple[slice, ...] | None]

    @classmethod
    def drawn(cls, count: int, sides: Sequence[int], chance: float, generator: torch.Generator) -> Changes:
        """Return the changes to ``count`` images; ``chance`` is that of each kind of change, per image."""
        one = (-1, *[1] * (len(sides) + 1))

        def amount(low: float, high: float) -> torch.Tensor:
            made = torch.rand(count, generator=generator) < chance
            return torch.where(made, torch.rand(count, generator=generator) * (high - low) + low, 0.0)

        bright, contrast = amount(-0.5, 0.5).view(one), amount(-0.5, 0.5).view(one)
        moves = torch.stack([amount(-1 / 8, 1 / 8) * n for n in sides], 1).round().int().tolist()
        cut = (torch.rand(count, generator=generator) < chance).tolist()
        places = torch.rand(count, len(sides), generator=generator).tolist()
        boxes = [
            tuple(slice(int(p * n / 2), int(p * n / 2) + n // 2) for p, n in zip(place, sides, strict=True))
            for place in places
        ]
        return cls(bright, contrast, moves, [box if yes else None for box, yes in zip(boxes, cut, strict=True)])

    def of(self, piece: slice) -> Changes:
        """Return the changes to some of the images."""
        return Changes(self.bright[piece], self.contrast[piece], self.moves[piece], self.cuts[piece])

    def made_to(self, images: torch.Tensor, planes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return images and planes, shape ``(B, *, *spatial)``, changed together."""
        images = images + self.bright.to(images.device)
        middle = images.mean(tuple(range(1, images.ndim)), keepdim=True)
        images = (images - middle) * (1 + self.contrast.to(images.device)) + middle
        both = torch.cat([images, planes], 1)
        both = torch.stack([_moved(image, by) for image, by in zip(both, self.moves, strict=True)])
        images, planes = both[:, : images.shape[1]], both[:, images.shape[1] :]
        keep = torch.ones(len(images), 1, *images.shape[2:], device=images.device)
        for index, box in enumerate(self.cuts):
            if box is not None:
                keep[index, 0][box] = 0
        return images * keep, planes


def _moved(image: torch.Tensor, by: list[int]) -> torch.Tensor:
    """Return one image ``(C, *spatial)`` shifted by whole voxels, with 0 where nothing comes in."""
    padding = [side for n in reversed(by) for side in (max(n, 0), max(-n, 0))]
    padded = functional.pad(image, padding)
    box = [slice(max(-n, 0), max(-n, 0) + size) for n, size in zip(by, image.shape[1:], strict=True)]
    return padded[(slice(None), *box)]


__all__ = ["GRAIN", "Changes", "Generator", "coarser"]

"""How different two images look to the encoder that was trained on the user's own images: a loss without downloads."""

from __future__ import annotations

import torch
from torch import nn

SLICES = 4
"""Of each patch of a volume, that the encoder sees: it was trained on slices."""


def perceptual_distance(stages: nn.Module, made: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
    """Return the mean squared distance of two batches' feature maps, each feature vector scaled to length 1.

    Beside grain at another place it counts missing grain for more than the difference of pixels does, so that it takes
    some of the blur out of what that alone would learn.

    Parameters
    ----------
    stages
        The convolutional stages of an `equipoise.features.encoder.Encoder`, on the images' device.
    made, real
        Pictures in -1 … 1, shape ``(B, C, I, J)``; gradients flow to ``made``.

    References
    ----------
    Zhang R et al. The unreasonable effectiveness of deep features as a perceptual metric. CVPR 2018. arXiv:1801.03924
    """
    with torch.no_grad():
        aims = [_unit(maps) for maps in stages((real + 1) / 2)]
    found = [_unit(maps) for maps in stages((made + 1) / 2)]
    apart = [(a - b).square().sum(1).mean() for a, b in zip(found, aims, strict=True)]
    return torch.stack(apart).mean()


def slices_of(depth: int, generator: torch.Generator | None = None) -> torch.Tensor:
    """Return the numbers of the `SLICES` slices that are looked at: spread evenly, or drawn by a generator."""
    count = min(SLICES, depth)
    if generator is None:
        return torch.linspace(0, depth - 1, count + 2)[1:-1].round().long()
    return torch.randperm(depth, generator=generator)[:count]


def slices_in(images: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
    """Return pictures ``(N, C, I, J)`` of patches: themselves in 2-D, slices along K of each volume.

    Parameters
    ----------
    images
        Shape ``(B, C, I, J)`` or ``(B, C, I, J, K)``.
    chosen
        Numbers of the slices.
    """
    if images.ndim == 4:
        return images
    return images[..., chosen.to(images.device)].movedim(-1, 1).flatten(0, 1)


def _unit(maps: torch.Tensor) -> torch.Tensor:
    maps = maps.float()
    return maps / (maps.square().sum(1, keepdim=True) + 1e-8).sqrt()


__all__ = ["SLICES", "perceptual_distance", "slices_in", "slices_of"]

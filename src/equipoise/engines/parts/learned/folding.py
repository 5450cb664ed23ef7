"""Blocks of pixels as channels, and whole images by tiles: what lets a small network make a large image."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from torch.nn import functional

with warnings.catch_warnings():
    # MONAI and what it imports announce deprecations of their own dependencies; none of them is ours to act on.
    warnings.simplefilter("ignore")
    from monai.inferers.utils import sliding_window_inference

OVERLAP = 0.25
"""Share of a tile that it has in common with the next one; there they are blended."""

TILES = 8
"""That go through the network at a time, unless there is room for fewer only."""


def fold(images: torch.Tensor, block: int) -> torch.Tensor:
    """Return images ``(B, C, *spatial)`` with blocks of pixels as channels: ``(B, C * block^n, *spatial / block)``.

    References
    ----------
    Shi W et al. Real-time single image and video super-resolution using an efficient sub-pixel convolutional neural
    network. CVPR 2016. doi:10.1109/CVPR.2016.207
    """
    if block == 1:
        return images
    if images.ndim == 4:
        return functional.pixel_unshuffle(images, block)
    b, c, *sides = images.shape
    i, j, k = (n // block for n in sides)
    parts = images.reshape(b, c, i, block, j, block, k, block).permute(0, 1, 3, 5, 7, 2, 4, 6)
    return parts.reshape(b, c * block**3, i, j, k)


def unfold(images: torch.Tensor, block: int) -> torch.Tensor:
    """Undo `fold`."""
    if block == 1:
        return images
    if images.ndim == 4:
        return functional.pixel_shuffle(images, block)
    b, c, i, j, k = images.shape
    parts = images.reshape(b, c // block**3, block, block, block, i, j, k).permute(0, 1, 5, 2, 6, 3, 7, 4)
    return parts.reshape(b, c // block**3, i * block, j * block, k * block)


def over_tiles(
    network: Callable[[torch.Tensor], torch.Tensor],
    images: torch.Tensor,
    patch: tuple[int, ...],
    batch: int = TILES,
    overlap: float = OVERLAP,
) -> torch.Tensor:
    """Return what a network that knows patches answers for images of any size: by tiles, blended where they overlap.

    Denoising an image tile by tile and blending after *every* step keeps the tiles of one mind.

    Parameters
    ----------
    network
        From ``(B, C, *patch)`` to ``(B, D, *patch)``.
    images
        Shape ``(B, C, *spatial)``.
    patch
        Sides that the network was trained on.
    batch
        Tiles at a time.
    overlap
        Share of a side that two tiles have in common.

    References
    ----------
    Bar-Tal O et al. MultiDiffusion: fusing diffusion paths for controlled image generation. ICML 2023.
    arXiv:2302.08113
    """
    if tuple(images.shape[2:]) == patch:
        # A look renders dozens of patches: all at once they would need more memory than training does.
        return torch.cat([network(some) for some in torch.split(images, batch)])
    blended: torch.Tensor = sliding_window_inference(
        images, patch, batch, network, overlap=overlap, mode="gaussian", padding_mode="replicate"
    )
    return blended


__all__ = ["fold", "over_tiles", "unfold"]

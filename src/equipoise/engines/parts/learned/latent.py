"""A latent space: an autoencoder, the scale of what it encodes, and how well held-out images come back from it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from equipoise.engines.parts.learned.examples import Batch
from equipoise.engines.parts.learned.folding import fold, over_tiles, unfold
from equipoise.engines.parts.learned.held_out import Look
from equipoise.engines.parts.learned.perceptual import perceptual_distance, slices_in, slices_of
from equipoise.errors import EngineError

SILENT = 0.01
"""Share of a latent's variance that tells images apart, under which the autoencoder says nothing about them."""


class Latents(nn.Module):
    """An autoencoder with normal latents, read and written at a scale of mean 0 and variance 1.

    Parameters
    ----------
    net
        With MONAI's ``encode``, to mean and standard deviation, and ``decode``.
    channels
        Of the latents.
    block
        Sides of the blocks of voxels that the autoencoder treats as channels of one.
    coarser
        Voxels of the image along each side of a latent, ``block`` included.
    low, high
        Values that the autoencoder knows -1 and 1 as.
    """

    def __init__(
        self, net: nn.Module, channels: int, block: int, coarser: int, low: float = -1.0, high: float = 1.0
    ) -> None:
        super().__init__()
        self.net, self.block, self.coarser = net, block, coarser
        self.low, self.high = low, high
        self.middle: torch.Tensor
        self.scale: torch.Tensor
        self.register_buffer("middle", torch.zeros(channels))
        self.register_buffer("scale", torch.ones(channels))

    @property
    def channels(self) -> int:
        """Of the latents."""
        return len(self.scale)

    def moments(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return mean and standard deviation, not scaled, of the latents of images ``(B, C, *spatial)`` in -1 … 1."""
        known = (images + 1) * ((self.high - self.low) / 2) + self.low
        mean, sd = self.net.encode(self._laid_out(fold(known, self.block)))  # type: ignore[operator]
        return mean.float(), sd.float()

    def restore(self, latents: torch.Tensor) -> torch.Tensor:
        """Return images of latents that are not scaled; they may leave -1 … 1."""
        known = unfold(self.net.decode(self._laid_out(latents)).float(), self.block)  # type: ignore[operator]
        return (known - self.low) * (2 / (self.high - self.low)) - 1

    def grid(self, images: torch.Tensor) -> tuple[int, ...]:
        """Return the shape of the latents of images."""
        return len(images), self.channels, *(n // self.coarser for n in images.shape[2:])

    def encode(self, images: torch.Tensor, noise: torch.Tensor | None = None) -> torch.Tensor:
        """Return scaled latents: drawn by standard normal noise of the shape `grid` states, else their mean."""
        mean, sd = self.moments(images)
        if noise is not None:
            mean = mean + sd * noise
        return (mean - _shaped(self.middle, mean)) * _shaped(self.scale, mean)

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Return images of scaled latents; they may leave -1 … 1."""
        return self.restore(latents / _shaped(self.scale, latents) + _shaped(self.middle, latents))

    def encode_whole(self, images: torch.Tensor, patch: tuple[int, ...], batch: int) -> torch.Tensor:
        """Return the mean latents of images of any size, by tiles of a patch of latents."""

        def at(blocks: torch.Tensor) -> torch.Tensor:
            return self.encode(unfold(blocks, self.coarser))

        return over_tiles(at, fold(images, self.coarser), patch, batch)

    def decode_whole(self, latents: torch.Tensor, patch: tuple[int, ...], batch: int) -> torch.Tensor:
        """Return images of latents of any size, by tiles of a patch of latents."""
        return over_tiles(self.decode, latents, patch, batch)

    def standardise(self, draw: Callable[[], Iterator[torch.Tensor]], generator: torch.Generator) -> None:
        """Compute the scale: mean and standard deviation of each channel over training images.

        Parameters
        ----------
        draw
            Gives batches of images ``(B, C, *spatial)``.
        generator
            Of the latents' own spread.

        Raises
        ------
        EngineError
            No channel tells images apart: the autoencoder was pressed into its prior.
        """
        means, sds = zip(*(self.moments(images) for images in draw()), strict=True)
        mean, sd = torch.cat(means).cpu(), torch.cat(sds).cpu()
        drawn = mean + sd * torch.randn(sd.shape, generator=generator)
        axes = [0, *range(2, drawn.ndim)]
        told = mean.var(axes) / drawn.var(axes).clamp_min(1e-12)
        if not torch.isfinite(drawn).all() or float(told.max()) < SILENT:
            raise EngineError(
                f"the autoencoder's latents say nothing about the images: at most {float(told.max()):.2g} of their "
                "variance comes from them",
                why="what is decoded from them would be one image and noise",
                fix="lower kl by a factor of 10, or raise autoencoder_steps",
            )
        self.middle.copy_(drawn.mean(axes))
        self.scale.copy_(1 / drawn.std(axes).clamp_min(1e-6))

    def _laid_out(self, images: torch.Tensor) -> torch.Tensor:
        """Return images in the memory order of the network's weights, which is what makes it fast on a CPU."""
        if images.ndim == 4:
            return images.contiguous(memory_format=torch.channels_last)
        return images.contiguous()


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """Judges an autoencoder by held-out images that it is given and has to give back.

    Parameters
    ----------
    stages
        Of the encoder that sees differences.
    batch
        Real patches of held-out training patients.
    perceptual, labelled
        Weights of what the encoder sees, and of the difference at labelled voxels, beside the mean absolute difference
        of all.
    labels
        How many of the batch's planes are labels; they come first.
    """

    stages: nn.Module
    batch: Batch
    perceptual: float
    labelled: float
    labels: int

    def look(self, step: int, render: Any, rng: np.random.Generator) -> tuple[Look, np.ndarray]:
        """Return how far reconstructions are from the images, in units of half the range, and the reconstructions.

        Their diversity is stated as the images' own: an autoencoder that gives one image for all is seen by its
        distance, and by `Latents.standardise`.
        """
        made = render(self.batch.images, rng)
        if not np.isfinite(made).all():
            return Look(step, np.inf, 0.0), made
        off = torch.from_numpy(np.abs(made - self.batch.images))
        marked = float((off * label_shares(torch.from_numpy(self.batch.planes[:, : self.labels]))).sum() / off.shape[1])
        with torch.no_grad():
            chosen = slices_of(made.shape[-1])
            a, b = (slices_in(_flat(torch.from_numpy(x)), chosen) for x in (made, self.batch.images))
            seen = float(perceptual_distance(self.stages, a, b))
        distance = float(off.mean()) + self.perceptual * seen + self.labelled * marked
        return Look(step, distance, 1.0), made


def label_shares(masks: torch.Tensor) -> torch.Tensor:
    """Return what each voxel counts where every label counts the same however small it is; they add up to 1, or to 0.

    Parameters
    ----------
    masks
        Of the labels, shape ``(B, L, *spatial)``; labels that a batch does not show are left out.

    Returns
    -------
    torch.Tensor
        Shape ``(B, 1, *spatial)``.
    """
    sizes = masks.sum([0, *range(2, masks.ndim)], keepdim=True)
    shown = int((sizes > 0).sum())
    return (masks / sizes.clamp_min(1)).sum(1, keepdim=True) / max(shown, 1)


def _flat(images: torch.Tensor) -> torch.Tensor:
    return images[..., 0] if images.shape[-1] == 1 else images


def _shaped(values: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    return values.view(1, -1, *[1] * (like.ndim - 2))


__all__ = ["SILENT", "Latents", "Reconstruction", "label_shares"]

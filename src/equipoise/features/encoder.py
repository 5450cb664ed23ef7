"""An encoder trained without labels on the user's own training images: no downloaded weights, no foreign patients.

It learns to know a patch again under another crop, a turn or a mirror, and another brightness, while its features must
vary and not repeat one another (VICReg). Noise, blur and grain are left as they are: a synthetic image that has too
little of them must be seen to differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from equipoise.core import Case, patients_of
from equipoise.errors import DataError, TrainingError
from equipoise.features.handmade import patches_of

WIDTHS = (24, 48, 96, 128)
"""Channels of the stages; each halves the sides."""

SMALLEST = 16
"""Sides of the smallest patch that all stages can read."""

EXPANDED = 256
"""Width of the features that the training compares; thrown away afterwards."""

POOL = 512
"""Patches that a training draws its batches from."""


class Stages(nn.Module):
    """Convolutions with normalisation by groups, halving the sides at each stage."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        widths = (channels, *WIDTHS)
        self.stages = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(a, b, 3, 2, 1),
                nn.GroupNorm(8, b),
                nn.GELU(),
                nn.Conv2d(b, b, 3, 1, 1),
                nn.GroupNorm(8, b),
                nn.GELU(),
            )
            for a, b in pairwise(widths)
        )

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Return the feature maps of all stages for images ``(B, C, I, J)`` with values from 0 to 1."""
        found = []
        x = images * 2 - 1
        for stage in self.stages:
            x = stage(x)
            found.append(x)
        return found


def pooled(maps: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return mean and standard deviation over space of every feature map, shape ``(B, 2 * sum(WIDTHS))``."""
    return torch.cat([torch.cat([m.mean((2, 3)), m.std((2, 3), correction=0)], 1) for m in maps], 1)


@dataclass(frozen=True, eq=False)
class Encoder:
    """Features of image patches, learned from training patients.

    Parameters
    ----------
    parents
        The patients whose images it has seen.
    side
        Of the patches that it was trained on, in pixels.
    channels
        Of the images.
    net
        The convolutional stages; a perceptual loss compares their feature maps.
    loss
        Of the first and the last tenth of the training.
    """

    parents: frozenset[str]
    side: int
    channels: int
    net: Stages = field(repr=False)
    loss: tuple[float, float] = (np.nan, np.nan)

    @property
    def width(self) -> int:
        """Number of features of a patch."""
        return 2 * sum(WIDTHS)

    def embed(self, patches: np.ndarray) -> np.ndarray:
        """Return features of patches ``(N, C, I, J)`` with values from 0 to 1: float32, shape ``(N, width)``."""
        if patches.ndim != 4 or patches.shape[1] != self.channels or min(patches.shape[2:]) < SMALLEST:
            raise DataError(
                f"the encoder reads patches of {self.channels} channel(s) and {SMALLEST} pixels or more, "
                f"got an array of shape {patches.shape}",
                fix="cut patches with `equipoise.features.patches_of` from images of the kind it was trained on",
            )
        device = next(self.net.parameters()).device
        with torch.inference_mode():
            parts = [
                pooled(self.net(torch.from_numpy(np.ascontiguousarray(patches[i : i + 64], np.float32)).to(device)))
                for i in range(0, len(patches), 64)
            ]
        return torch.cat(parts).float().cpu().numpy()

    def of_cases(self, cases: Sequence[Case], count: int, rng: np.random.Generator) -> np.ndarray:
        """Return features of ``count`` patches of each case, shape ``(N, count, width)``; of volumes, of slices."""
        return np.stack([self.embed(patches_of(case.image, self.side, count, rng)) for case in cases])


def train_encoder(
    cases: Sequence[Case],
    rng: np.random.Generator,
    side: int = 64,
    steps: int = 300,
    batch: int = 32,
    device: str = "cpu",
) -> Encoder:
    """Return an encoder trained on images; their labels are not looked at.

    Parameters
    ----------
    cases
        Training cases with images of the same number of channels.
    rng
        Weights, patches and changes.
    side
        Of the patches in pixels, at native spacing; smaller where an image is.
    steps, batch
        Optimiser steps, and patches in each.
    device
        Where to compute.

    Raises
    ------
    DataError
        No case, images smaller than `SMALLEST`, or of different channels.
    TrainingError
        The loss is no longer a number.

    References
    ----------
    Bardes A, Ponce J, LeCun Y. VICReg: variance-invariance-covariance regularization for self-supervised learning.
    ICLR 2022. arXiv:2105.04906
    """
    side = _side(cases, side)
    drawing, weights, changing = rng.spawn(3)
    pool = _pool(cases, side, drawing)
    net, expand = _networks(pool.shape[1], weights, device)
    parameters = [*net.parameters(), *expand.parameters()]
    optimiser = torch.optim.AdamW(parameters, 1e-3, weight_decay=1e-4)
    losses = []
    for step in range(steps):
        chosen = pool[changing.integers(len(pool), size=min(batch, len(pool)))]
        views = [torch.from_numpy(changed(chosen, changing)).to(device) for _ in range(2)]
        loss = vicreg_loss(*(expand(net(view)[-1].mean((2, 3))) for view in views))
        losses.append(loss.item())
        if not np.isfinite(losses[-1]):
            raise TrainingError(
                f"the encoder's loss is {losses[-1]} at step {step + 1}", fix="check the images' values"
            )
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    net.eval().requires_grad_(False)
    tenth = max(steps // 10, 1)
    course = (float(np.mean(losses[:tenth])), float(np.mean(losses[-tenth:]))) if losses else (np.nan, np.nan)
    return Encoder(patients_of(cases), side, pool.shape[1], net, course)


def vicreg_loss(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Return the loss of two views' features, shape ``(B, D)``: alike in pairs, spread out, and without repetition."""
    alike = functional.mse_loss(a, b)
    spread = torch.stack([functional.relu(1 - (z.var(0) + 1e-4).sqrt()).mean() for z in (a, b)]).mean()
    repeated = torch.stack([_off_diagonal(z) for z in (a, b)]).mean()
    return 25 * alike + 25 * spread + repeated


def changed(patches: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return patches cropped by up to a quarter of their side, turned, mirrored, and of other brightness and contrast.

    A crop is moved, never resized: a resized one would lose the grain that tells images apart.
    """
    side = patches.shape[-1]
    kept = side - side // 4
    out = np.empty((*patches.shape[:2], kept, kept), np.float32)
    for i, patch in enumerate(patches):
        a, b = rng.integers(side - kept + 1, size=2)
        view = np.rot90(patch[:, a : a + kept, b : b + kept], int(rng.integers(4)), (1, 2))
        view = view[:, ::-1] if rng.random() < 0.5 else view
        gain, shift = np.exp(0.2 * rng.standard_normal()), 0.1 * rng.standard_normal()
        out[i] = (view - 0.5) * gain + 0.5 + shift
    return out


def _off_diagonal(z: torch.Tensor) -> torch.Tensor:
    centred = z - z.mean(0)
    covariance = centred.T @ centred / max(len(z) - 1, 1)
    return (covariance.square().sum() - covariance.diagonal().square().sum()) / z.shape[1]


def _networks(channels: int, rng: np.random.Generator, device: str) -> tuple[Stages, nn.Module]:
    """Return both networks with weights from the stream; no global random state is used or changed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(rng.integers(2**62)))
        net = Stages(channels)
        # Without normalisation by batch the features take most of a short training to spread out.
        expand = nn.Sequential(
            nn.Linear(WIDTHS[-1], EXPANDED), nn.BatchNorm1d(EXPANDED), nn.GELU(), nn.Linear(EXPANDED, EXPANDED)
        )
    return net.to(device), expand.to(device)


def _side(cases: Sequence[Case], side: int) -> int:
    if not cases:
        raise DataError("an encoder needs training images, got none", fix="give at least one training case")
    smallest = min(n for case in cases for n in case.image.geometry.shape[:2])
    if smallest < SMALLEST:
        raise DataError(
            f"an image has {smallest} pixels along one side; the encoder needs {SMALLEST} or more",
            fix="leave such images out, or resample them",
        )
    return min(side, smallest)


def _pool(cases: Sequence[Case], side: int, rng: np.random.Generator) -> np.ndarray:
    counts: Any = {case.image.channels for case in cases}
    if len(counts) > 1:
        raise DataError(
            f"images have {sorted(counts)} channels; one encoder reads one number of channels",
            fix="convert them to one kind, or leave the odd ones out",
        )
    each = max(POOL // len(cases), 1)
    return np.concatenate([patches_of(case.image, side, each, rng) for case in cases]).astype(np.float32)


__all__ = ["Encoder", "Stages", "changed", "pooled", "train_encoder", "vicreg_loss"]

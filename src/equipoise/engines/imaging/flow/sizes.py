"""Sizes of `flow`: of its velocity network, and of the autoencoder in whose latents it works; without torch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from equipoise.engines.parts.learned.presets import Presets, Size
from equipoise.engines.parts.legal import require_within
from equipoise.errors import PlanError


@dataclass(frozen=True, slots=True)
class Coding:
    """Of an autoencoder.

    Parameters
    ----------
    channels
        Width of each level; each after the first halves the sides.
    fold
        Sides of the blocks of voxels that it treats as channels of one.
    latent
        Channels of the latents.
    steps
        Optimiser steps at most.
    """

    channels: tuple[int, ...]
    fold: int
    latent: int
    steps: int

    @property
    def coarser(self) -> int:
        """Voxels of the image along each side of a latent."""
        return self.fold << (len(self.channels) - 1)


PRESETS: Presets = {
    "cpu-small": {
        2: Size(64, (64, 128, 128), 1, 3000, 8, 5e-4, "cpu"),
        3: Size(32, (64, 128), 1, 1600, 4, 5e-4, "cpu"),
    },
    "gpu": {
        2: Size(256, (128, 256, 256), 1, 60_000, 16, 2e-4, "cuda"),
        3: Size(128, (64, 128, 256), 1, 60_000, 2, 2e-4, "cuda"),
    },
    "gpu-large": {
        2: Size(512, (128, 256, 512, 512), 1, 150_000, 16, 1e-4, "cuda"),
        3: Size(192, (128, 256, 512), 1, 150_000, 2, 1e-4, "cuda"),
    },
}
"""Of the velocity network; patches are in voxels of the image."""

CODINGS: dict[str, dict[int, Coding]] = {
    "cpu-small": {2: Coding((32, 64), 2, 8, 1200), 3: Coding((24, 48), 2, 8, 600)},
    "gpu": {2: Coding((64, 128, 256), 1, 4, 30_000), 3: Coding((32, 64, 128), 1, 4, 30_000)},
    "gpu-large": {2: Coding((128, 256, 512), 1, 8, 60_000), 3: Coding((64, 128, 256), 1, 4, 60_000)},
}


def coding_for(engine: Any, ndim: int) -> Coding:
    """Return the preset's autoencoder with the fields that an engine's parameters state.

    Raises
    ------
    PlanError
        A value that is not possible.
    """
    stated = {
        "channels": engine.autoencoder_channels and tuple(engine.autoencoder_channels),
        "fold": engine.autoencoder_fold,
        "latent": engine.latent_channels,
        "steps": engine.autoencoder_steps,
    }
    coding = CODINGS[engine.preset][ndim]
    coding = replace(coding, **{name: value for name, value in stated.items() if value is not None})
    require_within("flow.autoencoder_fold", coding.fold, 1, 8)
    require_within("flow.latent_channels", coding.latent, 1, 64)
    least = 0 if engine.autoencoder else 1
    require_within("flow.autoencoder_steps", coding.steps, least, 10_000_000)
    if not coding.channels or any(c < 8 or c % 8 for c in coding.channels):
        raise PlanError(
            f"flow.autoencoder_channels = {list(coding.channels)} is not possible; legal: multiples of 8",
            fix="set autoencoder_channels = [32, 64]",
        )
    return coding


__all__ = ["CODINGS", "PRESETS", "Coding", "coding_for"]

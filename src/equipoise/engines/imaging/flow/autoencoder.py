"""The first stage of `flow`: an autoencoder, trained until held-out images come back no better."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import nn

from equipoise.core import rng_for
from equipoise.engines.imaging.flow.architecture import autoencoder_for, build, from_generator
from equipoise.engines.imaging.flow.imported import Imported
from equipoise.engines.imaging.flow.sizes import Coding
from equipoise.engines.parts.learned.course import Course
from equipoise.engines.parts.learned.examples import Batch
from equipoise.engines.parts.learned.fitting import Prepared, Setup
from equipoise.engines.parts.learned.latent import Latents, Reconstruction, label_shares
from equipoise.engines.parts.learned.perceptual import perceptual_distance, slices_in, slices_of
from equipoise.engines.parts.learned.prior import Prior
from equipoise.errors import EngineError

MEASURED = 64
"""Patches that the latents' scale is computed from, at the least."""


class Autoencoding:
    """An autoencoder, its optimiser, and its one step of training."""

    renders = ("latents",)

    def __init__(self, engine: Any, setup: Setup, latents: Latents) -> None:
        self.engine, self.setup, self.latents = engine, setup, latents
        self.networks: dict[str, nn.Module] = {"latents": latents}
        self.optimisers: dict[str, torch.optim.Optimizer] = {
            "latents": torch.optim.AdamW(latents.parameters(), setup.size.learning_rate)
        }
        self.stages = copy.deepcopy(setup.encoder.net).to(setup.size.device)

    def step(self, batch: Batch, generator: torch.Generator, step: int) -> dict[str, float]:
        """Take one step on the voxels' and the encoder's difference and on the latents' distance from normal."""
        images, planes = as_tensor(batch.images, self.setup), as_tensor(batch.planes, self.setup)
        marked = label_shares(planes[:, : self.setup.planes - self.setup.sublabels])
        optimiser = self.optimisers["latents"]
        optimiser.zero_grad(set_to_none=True)
        # Drawn before the batch is cut into pieces, so that their sum is the step of the whole.
        noise = torch.randn(self.latents.grid(images), generator=generator).to(images.device)
        chosen = slices_of(images.shape[-1], generator)
        self.latents.train()
        told: dict[str, float] = {}
        for piece in self.setup.size.pieces(len(images)):
            losses = self._losses(images[piece], marked[piece], noise[piece], chosen, len(images))
            weights = {name: getattr(self.engine, name, 1.0) for name in losses}
            torch.stack([weights[name] * loss for name, loss in losses.items()]).sum().backward()  # type: ignore[no-untyped-call]
            told = {name: told.get(name, 0.0) + loss.item() for name, loss in losses.items()}
        nn.utils.clip_grad_norm_(self.latents.parameters(), 1.0)
        optimiser.step()
        return told

    def render(self, images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return images as they come back from their mean latents."""
        self.latents.eval()
        with torch.inference_mode(), computing(self.setup):
            parts = torch.split(as_tensor(images, self.setup), self.setup.size.at_once or self.setup.size.batch)
            made = torch.cat([self.latents.restore(self.latents.moments(part)[0]) for part in parts])
        return as_array(made.clamp(-1, 1), self.setup)

    def rest(self) -> None:
        """Let go of the optimiser."""
        self.optimisers = {}

    def _losses(
        self, images: torch.Tensor, marked: torch.Tensor, noise: torch.Tensor, chosen: torch.Tensor, count: int
    ) -> dict[str, torch.Tensor]:
        """Return the losses of a piece of a batch of ``count``; those of all pieces add up to the batch's."""
        with computing(self.setup):
            mean, sd = self.latents.moments(images)
            made = self.latents.restore(mean + sd * noise)
            apart = perceptual_distance(self.stages, slices_in(made, chosen), slices_in(images, chosen))
        prior = 0.5 * (mean.square() + sd.square() - 1 - 2 * sd.clamp_min(1e-12).log())
        off, share = (made - images).abs(), len(images) / count
        return {
            "voxels": share * off.mean(),
            "labelled": (off * marked).sum() / off.shape[1],
            "perceptual": share * apart,
            "kl": share * prior.mean(),
        }


def latents_for(setup: Setup, coding: Coding, imported: Imported | None, weights: torch.Generator) -> Latents:
    """Return a latent space whose autoencoder is new, or starts from imported weights; its scale is not known yet."""
    if imported is None:
        architecture = autoencoder_for(setup.ndim, setup.channels, coding.fold, coding.channels, coding.latent)
        net = from_generator(architecture, weights)
        if setup.ndim == 2:
            net = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs lack it
        latents = Latents(net, coding.latent, coding.fold, setup.coarser)
    else:
        net = build(imported.architecture)
        net.load_state_dict(dict(imported.tensors))
        latents = Latents(net, imported.latent, 1, coding.coarser, *imported.value_range)
    return latents.to(setup.size.device)


def course_of(coding: Coding, setup: Setup) -> Course:
    """Return how long and how the autoencoder's training goes."""
    return Course(coding.steps, setup.size.batch)


def judge_of(engine: Any, ready: Prepared) -> Reconstruction:
    """Return who looks at held-out images as they come back."""
    if ready.judge is None:
        raise EngineError("flow cannot be trained without held-out images to look at", fix="use `diffusion`")
    setup, labels = ready.setup, ready.setup.planes - ready.setup.sublabels
    return Reconstruction(setup.encoder.net, ready.judge.batch, engine.perceptual, engine.labelled, labels)


def measure(ready: Prepared, latents: Latents) -> None:
    """Compute the scale of the latents from patches of the training images.

    Raises
    ------
    EngineError
        The latents say nothing about the images.
    """
    generator = torch.Generator().manual_seed(int(rng_for(ready.seed, "spread of latents").integers(2**62)))
    with torch.no_grad(), computing(ready.setup):
        latents.standardise(lambda: _some(ready), generator)


def prior_of(ready: Prepared, latents: Latents) -> Prior:
    """Return what is known of the latents of training images before a velocity is learned."""
    setup = ready.setup
    generator = torch.Generator().manual_seed(int(rng_for(ready.seed, "latents").integers(2**62)))

    def drawn(images: torch.Tensor) -> torch.Tensor:
        return latents.encode(images, torch.randn(latents.grid(images), generator=generator).to(images.device))

    with torch.no_grad(), computing(setup):
        some = torch.cat([drawn(images) for images in _some(ready)])
    return Prior.of(as_array(some, setup), setup.ndim, setup.size.device)


def _some(ready: Prepared) -> Iterator[torch.Tensor]:
    """Yield some training patches, as many at a time as there is memory for."""
    size = ready.setup.size
    for number in range(-(-MEASURED // size.batch)):
        batch = ready.examples.draw(size.batch, rng_for(ready.seed, "scale", number), ready.among)
        images = as_tensor(batch.images, ready.setup)
        yield from (images[piece] for piece in size.pieces(len(images)))


def computing(setup: Setup) -> torch.autocast:
    """Compute in bfloat16 inside the block where the size says so and it is exact enough.

    It is not for volumes on a CPU: there oneDNN's gradient of a convolution over 2 x 2 x 2 voxels, which the coarsest
    level of a small latent grid has, reads memory that nobody wrote.
    """
    device = setup.size.device.split(":")[0]
    return torch.autocast(device, torch.bfloat16, enabled=setup.size.bf16 and (device != "cpu" or setup.ndim == 2))


def as_tensor(array: np.ndarray, setup: Setup) -> torch.Tensor:
    """Return patches ``(B, C, I, J, K)`` on the device, without K in 2-D."""
    flat = np.ascontiguousarray(array[..., 0] if setup.ndim == 2 else array)
    return torch.from_numpy(flat).to(setup.size.device)


def as_array(images: torch.Tensor, setup: Setup) -> np.ndarray:
    """Undo `as_tensor`."""
    array: np.ndarray = images.float().cpu().numpy()
    return array if setup.ndim == 3 else array[..., None]


__all__ = [
    "Autoencoding",
    "as_array",
    "as_tensor",
    "computing",
    "course_of",
    "judge_of",
    "latents_for",
    "measure",
    "prior_of",
]

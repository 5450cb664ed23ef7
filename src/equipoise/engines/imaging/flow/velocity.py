"""The second stage of `flow`: the velocity from noise to latents under label planes, and rendering by it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from equipoise.engines.imaging.flow.architecture import from_generator, velocity_for
from equipoise.engines.imaging.flow.autoencoder import as_array, as_tensor, computing
from equipoise.engines.imaging.flow.imported import Imported
from equipoise.engines.imaging.flow.rectified import Known, between, draw_times, follow
from equipoise.engines.parts.learned.course import Record
from equipoise.engines.parts.learned.examples import Batch
from equipoise.engines.parts.learned.fitting import Setup
from equipoise.engines.parts.learned.folding import TILES, fold, over_tiles, unfold
from equipoise.engines.parts.learned.given import Given
from equipoise.engines.parts.learned.latent import Latents

TIMES = 1000.0
"""Times from 0 to 1 are told to MONAI's networks in thousandths, the scale that their embedding was made for."""

MODALITIES = {"CT": 1, "MR": 8, "MRI": 8}
"""Numbers that MAISI's networks know modalities by; 0 is any other."""

HUNDREDTHS = 100.0
"""MAISI's networks are told spacing in hundredths of a millimetre."""


class Placed(nn.Module):
    """A network of MAISI's that is told the training images' spacing and modality as it was told them before."""

    def __init__(self, net: nn.Module, spacing: tuple[float, float, float], modality: str | None) -> None:
        super().__init__()
        self.net = net
        self.spacing: torch.Tensor
        self.modality: torch.Tensor
        self.register_buffer("spacing", torch.tensor([spacing]) * HUNDREDTHS)
        self.register_buffer("modality", torch.tensor([MODALITIES.get((modality or "").upper(), 0)]))

    def forward(self, x: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        """Return the velocity."""
        told: dict[str, torch.Tensor] = {}
        if getattr(self.net, "include_spacing_input", False):
            told["spacing_tensor"] = self.spacing.expand(len(x), -1)
        if getattr(self.net, "num_class_embeds", None) is not None:
            told["class_labels"] = self.modality.expand(len(x))
        guess: torch.Tensor = self.net(x, time, **told)
        return guess


class Flowing:
    """The velocity network, its optimiser, and its one step of training; the latent space stays as it is."""

    renders = ("velocity",)

    def __init__(self, engine: Any, setup: Setup, network: nn.Module, latents: Latents) -> None:
        self.engine, self.setup, self.network, self.latents = engine, setup, network, latents
        self.reconstructed: Record | None = None
        self.networks: dict[str, nn.Module] = {"velocity": network, "latents": latents}
        self.optimisers: dict[str, torch.optim.Optimizer] = {
            "velocity": torch.optim.AdamW(network.parameters(), setup.size.learning_rate)
        }

    @classmethod
    def of(
        cls,
        engine: Any,
        setup: Setup,
        latents: Latents,
        weights: torch.Generator,
        imported: Imported | None = None,
        modality: str | None = None,
    ) -> Flowing:
        """Return a new one with weights from the generator, or from a file where they are imported.

        Planes that an imported network was never told enter with weights of 0: it starts as it was.
        """
        size, told = setup.size, setup.planes * setup.coarser**setup.ndim + 1
        block = size.fold**setup.ndim
        form = torch.channels_last if setup.ndim == 2 else torch.channels_last_3d
        if imported is None:
            architecture = velocity_for(setup.ndim, size.channels, latents.channels * block)
            network = from_generator(architecture, weights, in_channels=(latents.channels + told) * block)
            return cls(engine, setup, network.to(size.device).to(memory_format=form), latents)  # type: ignore[call-overload]
        network = from_generator(imported.architecture, weights, in_channels=latents.channels + told)
        tensors = dict(imported.tensors)
        first = "conv_in.conv.weight"
        more = tensors[first].new_zeros((len(tensors[first]), told, *tensors[first].shape[2:]))
        network.load_state_dict(tensors | {first: torch.cat([tensors[first], more], 1)})
        return cls(engine, setup, Placed(network, setup.spacing, modality).to(size.device), latents)

    def under(self, engine: Any) -> Flowing:
        """Return the same networks with another engine's options of sampling."""
        other = Flowing(engine, self.setup, self.network, self.latents)
        other.reconstructed = self.reconstructed
        return other

    def step(self, batch: Batch, generator: torch.Generator, step: int) -> dict[str, float]:
        """Take one step on the velocity's squared error."""
        optimiser = self.optimisers["velocity"]
        optimiser.zero_grad(set_to_none=True)
        error = self.gradient(batch, generator)
        nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        optimiser.step()
        return {"velocity": error}

    def gradient(self, batch: Batch, generator: torch.Generator) -> float:
        """Add the gradient of the velocity's squared error to what the weights have, and return the error.

        All randomness is drawn before the batch is cut into pieces, so that their sum is the gradient of the whole.
        """
        images, planes = as_tensor(batch.images, self.setup), as_tensor(batch.planes, self.setup)
        count, device = len(images), images.device
        time = draw_times(count, generator, self.engine.times).to(device)
        forget = (torch.rand(2, count, generator=generator) < self.engine.unconditional).to(device)
        spread, noise = torch.randn((2, *self.latents.grid(images)), generator=generator).to(device)
        told = self._told(planes, *forget)
        self.network.train()
        error = 0.0
        for piece in self.setup.size.pieces(count):
            with torch.no_grad(), computing(self.setup):
                latents = self.latents.encode(images[piece], spread[piece])
            place, velocity = between(latents, noise[piece], time[piece])
            guess = self._velocity(place, told[piece], time[piece])
            loss = (guess - velocity).square().mean() * (len(latents) / count)
            loss.backward()  # type: ignore[no-untyped-call]
            error += loss.item()
        return error

    def render(self, planes: np.ndarray, rng: np.random.Generator, given: Given | None = None) -> np.ndarray:
        """Return images under planes, by the engine's sampler; where something is given, the rest is made around it.

        A latent stays where all its voxels do, and is made anew otherwise; in the end the voxels that stay are copied.
        """
        engine, setup = self.engine, self.setup
        told = self._told(as_tensor(planes, setup))
        blank = torch.zeros_like(told)
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        noise = torch.randn((len(told), self.latents.channels, *told.shape[2:]), generator=generator).to(told.device)
        patch = tuple(n // setup.coarser for n in setup.patch[: setup.ndim])
        tiles = min(setup.size.at_once or TILES, TILES)

        def velocity(x: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
            def at(both: torch.Tensor) -> torch.Tensor:
                return self._velocity(both[:, : x.shape[1]], both[:, x.shape[1] :], time.expand(len(both)))

            followed = over_tiles(at, torch.cat([x, told], 1), patch, tiles)
            if engine.guidance == 1:
                return followed
            return torch.lerp(over_tiles(at, torch.cat([x, blank], 1), patch, tiles), followed, engine.guidance)

        self.network.eval()
        with torch.inference_mode():
            with computing(setup):
                known = self._known(given, patch, tiles, generator) if given else None
            ends = follow(velocity, noise, engine.sampling_steps, engine.sampler, known)
            with computing(setup):
                made = self.latents.decode_whole(ends, patch, tiles)
        images = as_array(made.clamp(-1, 1), setup)
        if given is None:
            return images
        keep = given.keep[:, None]
        # Not a weighted sum throughout: 0 * NaN is NaN, and what stays stays to the last bit.
        return np.where(keep >= 1, given.images, keep * given.images + (1 - keep) * images).astype(np.float32)

    def rest(self) -> None:
        """Let go of the optimiser."""
        self.optimisers = {}

    def _known(self, given: Given, patch: tuple[int, ...], tiles: int, generator: torch.Generator) -> Known:
        images = self.latents.encode_whole(as_tensor(given.images, self.setup), patch, tiles)
        keep = as_tensor(given.keep[:, None], self.setup)
        all_of = fold(keep, self.setup.coarser).amin(1, keepdim=True)
        return Known(images, all_of, given.passes, generator)

    def _velocity(self, latents: torch.Tensor, told: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        block = self.setup.size.fold
        with computing(self.setup):
            guess: torch.Tensor = self.network(fold(torch.cat([latents, told], 1), block), time * TIMES)
        return unfold(guess.float(), block)

    def _told(
        self,
        planes: torch.Tensor,
        no_labels: torch.Tensor | None = None,
        no_sublabels: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Return planes on the grid of the latents, with a last one that says whether labels are known.

        Every voxel of a plane becomes a channel of its latent: nothing that is thinner than a latent is lost.
        """
        labels = planes.shape[1] - self.setup.sublabels
        one = [-1, *[1] * (planes.ndim - 1)]
        keep = torch.ones(len(planes), device=planes.device) if no_labels is None else (~no_labels).float()
        under = keep if no_sublabels is None else keep * (~no_sublabels).float()
        left = torch.cat([planes[:, :labels] * keep.view(one), planes[:, labels:] * under.view(one)], 1)
        folded = fold(left, self.setup.coarser)
        return torch.cat([folded, keep.view(one).expand(-1, 1, *folded.shape[2:])], 1)


__all__ = ["Flowing", "Placed"]

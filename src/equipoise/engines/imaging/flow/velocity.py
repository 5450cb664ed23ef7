"""The second stage of `flow`: the velocity from noise to latents under label planes, and rendering by it."""

from __future__ import annotations

from dataclasses import dataclass
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
from equipoise.engines.parts.learned.prior import Guess, Prior, plainly, rate_at
from equipoise.engines.parts.learned.straight import Straight

TIMES = 1000.0
"""Times from 0 to 1 are told to MONAI's networks in thousandths, the scale that their embedding was made for."""

MODALITIES = {"CT": 1, "MR": 8, "MRI": 8}
"""Numbers that MAISI's networks know modalities by; 0 is any other."""

FIRST = 1e-3
"""Least share of noise that a velocity is computed at: at 0 there is none to tell the way from."""

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


@dataclass(frozen=True, eq=False)
class Beside:
    """What a new velocity network is told beside the place on the way: a linear guess, and what labels alone say."""

    prior: Prior
    straight: Straight

    def guess(self, place: torch.Tensor, time: torch.Tensor) -> Guess:
        """Return the guess at the latents where a way leads to that is at a place at times ``(B,)``."""
        return self.prior.guess(place, 1 - time, time)


class Flowing:
    """The velocity network, its optimiser, and its one step of training; the latent space stays as it is."""

    def __init__(
        self, engine: Any, setup: Setup, network: nn.Module, latents: Latents, beside: Beside | None = None
    ) -> None:
        self.engine, self.setup, self.network, self.latents = engine, setup, network, latents
        self.beside = beside
        self.reconstructed: Record | None = None
        self.networks: dict[str, nn.Module] = {"velocity": network, "latents": latents}
        learning = [*network.parameters()]
        if beside:
            self.networks["straight"] = beside.straight
            learning += beside.straight.parameters()
        self.optimisers: dict[str, torch.optim.Optimizer] = {
            "velocity": torch.optim.AdamW(learning, setup.size.learning_rate)
        }

    @property
    def renders(self) -> tuple[str, ...]:
        """Names of the networks that `render` needs and that are trained."""
        return ("velocity", "straight") if self.beside else ("velocity",)

    @classmethod
    def of(
        cls,
        engine: Any,
        setup: Setup,
        latents: Latents,
        weights: torch.Generator,
        imported: Imported | None = None,
        modality: str | None = None,
        prior: Prior | None = None,
    ) -> Flowing:
        """Return a new one with weights from the generator, or from a file where they are imported.

        A new network learns what ``prior``, of the latents, does not guess. An imported one goes on as it was trained.
        Planes that an imported network was never told enter with weights of 0: it starts as it was.
        """
        size, told = setup.size, setup.planes * setup.coarser**setup.ndim + 1
        block = size.fold**setup.ndim
        form = torch.channels_last if setup.ndim == 2 else torch.channels_last_3d
        if imported is None:
            patch = [n // setup.coarser for n in setup.patch[: setup.ndim]]
            beside = Beside(
                prior or Prior.natural(latents.channels, patch, size.device),
                Straight(latents.channels, latents.channels + told).to(size.device),
            )
            architecture = velocity_for(setup.ndim, size.channels, latents.channels * block)
            network = from_generator(architecture, weights, in_channels=(2 * latents.channels + told) * block)
            return cls(engine, setup, network.to(size.device).to(memory_format=form), latents, beside)  # type: ignore[call-overload]
        network = from_generator(imported.architecture, weights, in_channels=latents.channels + told)
        tensors = dict(imported.tensors)
        first = "conv_in.conv.weight"
        more = tensors[first].new_zeros((len(tensors[first]), told, *tensors[first].shape[2:]))
        network.load_state_dict(tensors | {first: torch.cat([tensors[first], more], 1)})
        return cls(engine, setup, Placed(network, setup.spacing, modality).to(size.device), latents)

    def under(self, engine: Any) -> Flowing:
        """Return the same networks with another engine's options of sampling."""
        other = Flowing(engine, self.setup, self.network, self.latents, self.beside)
        other.reconstructed = self.reconstructed
        return other

    def step(self, batch: Batch, generator: torch.Generator, step: int) -> dict[str, float]:
        """Take one step on the velocity's squared error."""
        for group in self.optimisers["velocity"].param_groups:
            group["lr"] = self.setup.size.learning_rate * rate_at(step, self.setup.size.steps)
        optimiser = self.optimisers["velocity"]
        optimiser.zero_grad(set_to_none=True)
        error = self.gradient(batch, generator)
        nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        optimiser.step()
        return {"velocity": error}

    def gradient(self, batch: Batch, generator: torch.Generator) -> float:
        """Add the gradient of the velocity's squared error to what the weights have, and return the error.

        Where there is a prior, it is of what that misses, in units of what it misses on average at that time. All
        randomness is drawn before the batch is cut into pieces, so that their sum is the gradient of the whole.
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
            missed = self._missed(place, latents, velocity, told[piece], time[piece])
            loss = missed.square().mean() * (len(latents) / count)
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

    def _missed(
        self, place: torch.Tensor, latents: torch.Tensor, velocity: torch.Tensor, told: torch.Tensor, time: torch.Tensor
    ) -> torch.Tensor:
        """Return what the network's answer at a place of the way is off by."""
        if self.beside is None:
            return self._answer(place, told, time) - velocity
        guess, error = self.beside.guess(place, time)
        return self._residual(place, (guess, error), told, time) - (latents - guess) / error

    def _velocity(self, place: torch.Tensor, told: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        if self.beside is None:
            return self._answer(place, told, time)
        time = time.clamp(min=FIRST)
        guess, error = self.beside.guess(place, time)
        latents = guess + error * self._residual(place, (guess, error), told, time)
        return (latents - place) / time.view(-1, *[1] * (place.ndim - 1))

    def _residual(self, place: torch.Tensor, guess: Guess, told: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        """Return what the networks say that the linear guess misses, in units of its error; they see the guess too."""
        read = torch.cat([plainly(*guess), told], 1)
        straight: torch.Tensor = self.networks["straight"](read, 1 - time, time)
        return self._answer(place, read, time) + straight

    def _answer(self, place: torch.Tensor, read: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        block = self.setup.size.fold
        with computing(self.setup):
            answer: torch.Tensor = self.network(fold(torch.cat([place, read], 1), block), time * TIMES)
        return unfold(answer.float(), block)

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

"""Generator and critic of `gan`: one step of both, and rendering."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils.parametrizations import spectral_norm

from equipoise.engines.imaging.gan.networks import GRAIN, Changes, Generator
from equipoise.engines.parts.learned.examples import Batch
from equipoise.engines.parts.learned.fitting import Setup
from equipoise.engines.parts.learned.folding import TILES, over_tiles

with warnings.catch_warnings():
    # MONAI and what it imports announce deprecations of their own dependencies; none of them is ours to act on.
    warnings.simplefilter("ignore")
    from monai.losses import PatchAdversarialLoss
    from monai.networks.nets import MultiScalePatchDiscriminator

PENALTY_EVERY = 16
"""Steps from one gradient penalty to the next; its weight is raised as much (StyleGAN2's lazy regularisation)."""

OVERLAP = 0.5
"""Share of a side that two tiles have in common: more than where tiles are blended after each of many steps, each of
which mends what the one before left."""

POWER_ITERATIONS = 2
"""Of the spectral norms before each network's turn: as many as forward passes would make in a turn."""

STRIDES = 2
"""How often the finer critic halves; the coarser one halves twice as often."""

COARSE = 32
"""Side from which a patch has room for the coarser critic."""


class Adversaries:
    """The two networks, their optimisers, and their step."""

    renders = ("generator",)
    period = PENALTY_EVERY

    def __init__(self, engine: Any, setup: Setup, generator: nn.Module, critic: nn.Module) -> None:
        self.engine, self.setup = engine, setup
        self.generator, self.critic = generator, critic
        self.networks: dict[str, nn.Module] = {"generator": generator, "critic": critic}
        rate = setup.size.learning_rate
        self.optimisers: dict[str, torch.optim.Optimizer] = {
            "generator": torch.optim.Adam(generator.parameters(), rate, (0.0, 0.99)),
            "critic": torch.optim.Adam(critic.parameters(), 2 * rate, (0.0, 0.99)),
        }
        self.hinge = PatchAdversarialLoss(criterion="hinge")

    @classmethod
    def of(cls, engine: Any, setup: Setup, weights: torch.Generator) -> Adversaries:
        """Return new ones with weights from the generator; no global random state is used or changed."""
        size = setup.size
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(torch.randint(2**62, (), generator=weights)))
            generator: nn.Module = Generator(
                setup.ndim, setup.planes, engine.latent, size.channels, size.fold, setup.channels
            )
            critic = MultiScalePatchDiscriminator(
                num_d=2 if min(setup.patch[: setup.ndim]) >= COARSE else 1,
                num_layers_d=STRIDES,
                spatial_dims=setup.ndim,
                channels=size.channels[0],
                in_channels=setup.channels + setup.planes,
                norm=None,
                bias=True,
                minimum_size_im=min(setup.patch[: setup.ndim]),
            )
            for module in critic.modules():
                if isinstance(module, (nn.Conv2d, nn.Conv3d)):
                    spectral_norm(module)
        form = torch.channels_last if setup.ndim == 2 else torch.channels_last_3d
        return cls(
            engine,
            setup,
            generator.to(size.device).to(memory_format=form),  # type: ignore[call-overload]  # torch's stubs lack it
            critic.to(size.device).to(memory_format=form),
        )

    def step(self, batch: Batch, generator: torch.Generator, step: int) -> dict[str, float]:
        """Let the critic learn to tell real from made, then the generator to deceive it.

        All randomness is drawn before the batch is cut into pieces, so that the sum of their gradients is the whole's.
        """
        images, planes = self._tensor(batch.images), self._forgotten(self._tensor(batch.planes), generator)
        count, sides = len(images), images.shape[2:]
        drawn = self._noise(planes, generator)
        seen = [Changes.drawn(count, sides, self.engine.augment, generator) for _ in range(4)]
        pieces = self.setup.size.pieces(count)
        punished = bool(self.engine.gradient_penalty) and step % self.period == 0
        self.generator.train()
        losses: dict[str, float] = {}
        made: torch.Tensor | None = None
        with self._one_turn("critic"):
            for piece in pieces:
                # In pieces each image is made twice: to keep all of them with their gradients is what lacks the room.
                with torch.set_grad_enabled(len(pieces) == 1):
                    made = self.generator(planes[piece], *(x[piece] for x in drawn))
                _add(losses, self._teach_critic(images, made.detach(), planes, seen, piece, punished))
        self.critic.requires_grad_(False)
        with self._one_turn("generator"):
            for piece in pieces:
                if len(pieces) > 1 or made is None:
                    made = self.generator(planes[piece], *(x[piece] for x in drawn))
                _add(losses, self._teach_generator(images, made, planes, seen, piece))
        self.critic.requires_grad_(True)
        return losses

    def render(self, planes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return images under planes: in one pass, or by tiles where the image is larger than the patch."""
        setup = self.setup
        told = self._tensor(planes)
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        noise, latent = self._noise(told, generator)
        cuts = [setup.planes, setup.planes + GRAIN]

        def at(inputs: torch.Tensor) -> torch.Tensor:
            made: torch.Tensor = self.generator(*torch.tensor_split(inputs, cuts, 1))
            return made

        self.generator.eval()
        with torch.inference_mode():
            patch, tiles = setup.patch[: setup.ndim], min(setup.size.at_once or TILES, TILES)
            made = over_tiles(at, torch.cat([told, noise, latent], 1), patch, tiles, OVERLAP).float().cpu().numpy()
        return made if setup.ndim == 3 else made[..., None]

    def rest(self) -> None:
        """Let go of the critic and the optimisers."""
        self.networks = {"generator": self.generator}
        self.optimisers = {}
        del self.critic

    def _teach_critic(
        self,
        images: torch.Tensor,
        made: torch.Tensor,
        planes: torch.Tensor,
        seen: list[Changes],
        piece: slice,
        punished: bool,
    ) -> dict[str, float]:
        share = len(made) / len(images)
        shown, told = seen[0].of(piece).made_to(images[piece], planes[piece])
        shown = shown.detach().requires_grad_(punished)
        on_real, _ = self.critic(torch.cat([shown, told], 1))
        on_made, _ = self.critic(torch.cat(seen[1].of(piece).made_to(made, planes[piece]), 1))
        loss = 0.5 * (self.hinge(on_real, True, True) + self.hinge(on_made, False, True))
        losses = {"critic": loss.item() * share}
        if punished:
            answer = torch.stack([a.mean() * len(shown) for a in on_real]).sum()
            (slope,) = torch.autograd.grad(answer, shown, create_graph=True)
            steep = slope.square().flatten(1).sum(1).mean()
            loss = loss + 0.5 * self.engine.gradient_penalty * self.period * steep
        (loss * share).backward()
        return losses

    def _teach_generator(
        self, images: torch.Tensor, made: torch.Tensor, planes: torch.Tensor, seen: list[Changes], piece: slice
    ) -> dict[str, float]:
        share = len(made) / len(images)
        answers, features = self.critic(torch.cat(seen[2].of(piece).made_to(made, planes[piece]), 1))
        deceiving = self.hinge(answers, target_is_real=True, for_discriminator=False)
        with torch.no_grad():
            _, real = self.critic(torch.cat(seen[3].of(piece).made_to(images[piece], planes[piece]), 1))
        matching = _apart(features, real)
        ((deceiving + self.engine.feature_matching * matching) * share).backward()
        return {"generator": deceiving.item() * share, "feature matching": matching.item() * share}

    @contextmanager
    def _one_turn(self, name: str) -> Iterator[None]:
        """Let one network take a step on the gradients that gather inside the block.

        The critic's spectral norms are estimated anew once, before; inside they stay, or pieces would differ.
        """
        with torch.no_grad():
            self.critic.train()
            for module in self.critic.modules():
                for _ in range(POWER_ITERATIONS if hasattr(module, "parametrizations") else 0):
                    _ = module.weight
            self.critic.eval()
        optimiser = self.optimisers[name]
        optimiser.zero_grad(set_to_none=True)
        yield
        optimiser.step()

    def _noise(self, planes: torch.Tensor, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        count, sides = len(planes), planes.shape[2:]
        noise = torch.randn((count, GRAIN, *sides), generator=generator)
        latent = torch.randn((count, self.engine.latent, *[1] * len(sides)), generator=generator)
        return noise.to(planes.device), latent.expand(-1, -1, *sides).to(planes.device)

    def _forgotten(self, planes: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Return planes whose sub-labels are left out in some patches."""
        kept = torch.rand(len(planes), generator=generator) >= self.engine.forget
        labels = planes.shape[1] - self.setup.sublabels
        under = planes[:, labels:] * kept.to(planes.device).float().view(-1, *[1] * (planes.ndim - 1))
        return torch.cat([planes[:, :labels], under], 1)

    def _tensor(self, array: np.ndarray) -> torch.Tensor:
        flat = np.ascontiguousarray(array[..., 0] if self.setup.ndim == 2 else array)
        return torch.from_numpy(flat).to(self.setup.size.device)


def _add(losses: dict[str, float], more: Mapping[str, float]) -> None:
    """Add the losses of a piece to those of the pieces before."""
    for name, value in more.items():
        losses[name] = losses.get(name, 0.0) + value


def _apart(made: list[list[torch.Tensor]], real: list[list[torch.Tensor]]) -> torch.Tensor:
    """Return the mean distance of the critics' features of made and real images.

    Means over each image are compared, not pixels: a made image under the same labels is another image.
    """
    axes = [
        functional.l1_loss(a.mean(tuple(range(2, a.ndim))), b.mean(tuple(range(2, b.ndim))))
        for one, other in zip(made, real, strict=True)
        for a, b in zip(one, other, strict=True)
    ]
    return torch.stack(axes).mean()


__all__ = ["Adversaries"]

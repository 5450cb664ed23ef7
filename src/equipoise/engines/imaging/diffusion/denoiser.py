"""The network of `diffusion`, its one step of training, and its sampling."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from torch import nn

from equipoise.engines.parts.learned.denoising import LEAST, MOST, denoise, noised
from equipoise.engines.parts.learned.examples import Batch
from equipoise.engines.parts.learned.fitting import Setup
from equipoise.engines.parts.learned.folding import fold, over_tiles, unfold

with warnings.catch_warnings():
    # MONAI and what it imports announce deprecations of their own dependencies; none of them is ours to act on.
    warnings.simplefilter("ignore")
    from monai.networks.nets import DiffusionModelUNet

TIMES = 1000.0
"""Times from 0 to 1 are told to MONAI's network in thousandths, the scale that its embedding was made for."""


class Denoiser:
    """The network, its optimiser, and its one step of training."""

    renders = ("denoiser",)

    def __init__(self, engine: Any, setup: Setup, network: nn.Module) -> None:
        self.engine, self.setup = engine, setup
        self.network = network
        self.networks: dict[str, nn.Module] = {"denoiser": network}
        self.optimisers: dict[str, torch.optim.Optimizer] = {
            "denoiser": torch.optim.AdamW(network.parameters(), setup.size.learning_rate)
        }

    @classmethod
    def of(cls, engine: Any, setup: Setup, weights: torch.Generator) -> Denoiser:
        """Return a new one with weights from the generator; no global random state is used or changed."""
        size, block = setup.size, setup.size.fold**setup.ndim
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(torch.randint(2**62, (), generator=weights)))
            network = DiffusionModelUNet(
                spatial_dims=setup.ndim,
                # One plane more says whether the labels are known: a guided network must tell "none" from "left out".
                in_channels=(setup.channels + setup.planes + 1) * block,
                out_channels=setup.channels * block,
                channels=size.channels,
                attention_levels=(False,) * len(size.channels),
                num_res_blocks=1,
                norm_num_groups=8,
                num_head_channels=size.channels[-1] // 4,
            )
        form = torch.channels_last if setup.ndim == 2 else torch.channels_last_3d
        return cls(engine, setup, network.to(size.device).to(memory_format=form))

    def under(self, engine: Any) -> Denoiser:
        """Return the same network with another engine's options of sampling."""
        return Denoiser(engine, self.setup, self.network)

    def step(self, batch: Batch, generator: torch.Generator, step: int) -> dict[str, float]:
        """Take one step on the velocity's squared error."""
        images, planes = self._tensor(batch.images), self._tensor(batch.planes)
        count = len(images)
        time = torch.rand(count, generator=generator) * (MOST - LEAST) + LEAST
        noise = torch.randn(images.shape, generator=generator)
        forget = torch.rand(2, count, generator=generator) < self.engine.unconditional
        device = self.setup.size.device
        noisy, velocity = noised(images, noise.to(device), time.to(device))
        self.network.train()
        guess = self._velocity(noisy, self._conditioned(planes, *forget.to(device)), time.to(device))
        loss = (guess - velocity).square().mean()
        optimiser = self.optimisers["denoiser"]
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        optimiser.step()
        return {"velocity": loss.item()}

    def render(self, planes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return images under planes, by the engine's sampler."""
        engine, setup = self.engine, self.setup
        told = self._tensor(planes)
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        noise = torch.randn((len(told), setup.channels, *told.shape[2:]), generator=generator).to(setup.size.device)
        known = self._conditioned(told, *[torch.zeros(len(told), dtype=torch.bool, device=told.device)] * 2)
        blank = torch.zeros_like(known)
        patch = setup.patch[: setup.ndim]

        def predict(x: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
            def at(both: torch.Tensor) -> torch.Tensor:
                image, under = both[:, : setup.channels], both[:, setup.channels :]
                return self._velocity(image, under, time[:1].expand(len(both)))

            followed = over_tiles(at, torch.cat([x, known], 1), patch)
            if engine.guidance == 1:
                return followed
            free = over_tiles(at, torch.cat([x, blank], 1), patch)
            return torch.lerp(free, followed, engine.guidance)

        self.network.eval()
        with torch.inference_mode():
            made = denoise(predict, noise, engine.sampling_steps, engine.sampler).float().cpu().numpy()
        return made if setup.ndim == 3 else made[..., None]

    def rest(self) -> None:
        """Let go of the optimiser."""
        self.optimisers = {}

    def _velocity(self, images: torch.Tensor, planes: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        block = self.setup.size.fold
        form = torch.channels_last if self.setup.ndim == 2 else torch.channels_last_3d
        read = fold(torch.cat([images, planes], 1), block).contiguous(memory_format=form)
        with torch.autocast(self.setup.size.device.split(":")[0], torch.bfloat16, enabled=self.setup.size.bf16):
            guess = self.network(read, time * TIMES)
        return unfold(guess.float(), block)

    def _conditioned(self, planes: torch.Tensor, no_labels: torch.Tensor, no_sublabels: torch.Tensor) -> torch.Tensor:
        """Return planes with a last one that says whether labels are known; some are left out."""
        one = [-1, *[1] * (planes.ndim - 1)]
        labels = planes.shape[1] - self.setup.sublabels
        keep = (~no_labels).float().view(one)
        under = (~(no_labels | no_sublabels)).float().view(one)
        known = keep.expand(-1, 1, *planes.shape[2:])
        return torch.cat([planes[:, :labels] * keep, planes[:, labels:] * under, known], 1)

    def _tensor(self, array: np.ndarray) -> torch.Tensor:
        flat = np.ascontiguousarray(array[..., 0] if self.setup.ndim == 2 else array)
        return torch.from_numpy(flat).to(self.setup.size.device)


__all__ = ["Denoiser"]

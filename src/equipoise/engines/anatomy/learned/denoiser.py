"""The network of the diffusion over signed distances, its one step of training, and its sampling."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import torch
from torch import nn

from equipoise.engines.parts.device import device_of
from equipoise.engines.parts.learned.denoising import LEAST, MOST, denoise, noised
from equipoise.engines.parts.learned.examples import Batch
from equipoise.engines.parts.learned.folding import fold, unfold

with warnings.catch_warnings():
    # MONAI and what it imports announce deprecations of their own dependencies; none of them is ours to act on.
    warnings.simplefilter("ignore")
    from monai.networks.nets import DiffusionModelUNet

TIMES = 1000.0
"""Times from 0 to 1 are told to MONAI's network in thousandths, the scale that its embedding was made for."""

BLOCK = 2
"""Sides of the blocks of points that the network treats as channels of one: boundaries are smooth over two points."""


NOISIER = 2.0
"""Smooth fields shine through noise that hides a photograph: where a structure lies is learned under more of it."""


class FieldDenoiser:
    """Learns the velocity of noised signed distances, given constant planes."""

    renders = ("fields",)

    def __init__(self, network: nn.Module, shape: tuple[int, ...], options: Any) -> None:
        self.shape, self.flat = shape, shape[-1] == 1
        self.device, self.sampling_steps = options.device, options.sampling_steps
        self.networks: dict[str, nn.Module] = {"fields": network}
        self.optimisers: dict[str, torch.optim.Optimizer] = {
            "fields": torch.optim.AdamW(network.parameters(), options.learning_rate)
        }

    @classmethod
    def of(cls, shape: tuple[int, ...], planes: int, options: Any, seed: int) -> FieldDenoiser:
        """Return a new one for fields ``(S, I, J, K)``; no global random state is used or changed."""
        ndim = 2 if shape[-1] == 1 else 3
        block, widths = BLOCK**ndim, options.channels
        device = device_of("anatomy 'learned'", options.device)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = DiffusionModelUNet(
                spatial_dims=ndim,
                in_channels=shape[0] * block + planes,
                out_channels=shape[0] * block,
                channels=widths,
                # Far parts of one shape must agree: at the coarsest level every point sees every other.
                attention_levels=(*(False,) * (len(widths) - 1), True),
                num_res_blocks=1,
                norm_num_groups=8,
                num_head_channels=widths[-1] // 4,
            )
        form = torch.channels_last if ndim == 2 else torch.channels_last_3d
        return cls(network.to(device).to(memory_format=form), shape, options)

    def step(self, batch: Batch, generator: torch.Generator, step: int) -> dict[str, float]:
        """Take one step on the velocity's squared error."""
        fields, planes = self._tensor(batch.images), self._tensor(batch.planes)
        time = _noisier(torch.rand(len(fields), generator=generator) * (MOST - LEAST) + LEAST)
        noise = torch.randn(fields.shape, generator=generator)
        noisy, velocity = noised(fields, noise.to(self.device), time.to(self.device))
        self.networks["fields"].train()
        loss = (self._velocity(noisy, planes, time.to(self.device)) - velocity).square().mean()
        optimiser = self.optimisers["fields"]
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.networks["fields"].parameters(), 1.0)
        optimiser.step()
        return {"velocity": loss.item()}

    def render(self, planes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return fields in -1 … 1, shape ``(B, S, I, J, K)``, under planes ``(B, M, I, J, K)``."""
        told = self._tensor(planes)
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        noise = torch.randn((len(told), self.shape[0], *told.shape[2:]), generator=generator).to(self.device)
        self.networks["fields"].eval()
        with torch.inference_mode():
            made = denoise(lambda x, time: self._velocity(x, told, time), noise, self.sampling_steps)
        array = made.clamp(-1, 1).float().cpu().numpy()
        return array[..., None] if self.flat else array

    def rest(self) -> None:
        """Let go of the optimiser, and draw on the CPU from now on: single maps are small."""
        self.optimisers, self.device = {}, "cpu"
        self.networks["fields"].to("cpu")

    def _velocity(self, fields: torch.Tensor, planes: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        # Constant planes need no folding: one of their points stands for a block.
        sides = [n // BLOCK for n in planes.shape[2:]]
        constant = planes.flatten(2)[:, :, :1].view(*planes.shape[:2], *(1 for _ in sides))
        constant = constant.expand(*planes.shape[:2], *sides)
        form = torch.channels_last if self.flat else torch.channels_last_3d
        read = torch.cat([fold(fields, BLOCK), constant], 1).contiguous(memory_format=form)
        return unfold(self.networks["fields"](read, time * TIMES), BLOCK)

    def _tensor(self, array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(array[..., 0] if self.flat else array)).to(self.device)


def _noisier(time: torch.Tensor) -> torch.Tensor:
    """Return times whose noise is `NOISIER` times as strong beside the image.

    References
    ----------
    Hoogeboom E, Heek J, Salimans T. simple diffusion (shifted schedules). ICML 2023. arXiv:2301.11093
    """
    return torch.atan(NOISIER * torch.tan(0.5 * math.pi * time)) / (0.5 * math.pi)


__all__ = ["FieldDenoiser"]

"""The network of `diffusion`, its one step of training, and its sampling."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from torch import nn

from equipoise.engines.parts.learned.denoising import LEAST, MOST, Known, denoise, levels, noised
from equipoise.engines.parts.learned.examples import Batch
from equipoise.engines.parts.learned.fitting import Setup
from equipoise.engines.parts.learned.folding import TILES, fold, over_tiles, unfold
from equipoise.engines.parts.learned.given import Given
from equipoise.engines.parts.learned.prior import Guess, Prior, plainly, rate_at
from equipoise.engines.parts.learned.straight import Straight

with warnings.catch_warnings():
    # MONAI and what it imports announce deprecations of their own dependencies; none of them is ours to act on.
    warnings.simplefilter("ignore")
    from monai.networks.nets import DiffusionModelUNet

TIMES = 1000.0
"""Times from 0 to 1 are told to MONAI's network in thousandths, the scale that its embedding was made for."""

MIDDLE, SPREAD = 0.7, 1.6
"""Of the logistic-normal times that a training draws. Late ones count: where nearly all is noise, what a whole patch is
like, dark surround or bright tissue, is decided. Esser P et al. Scaling rectified flow transformers for high-resolution
image synthesis. ICML 2024. arXiv:2403.03206"""


class Denoiser:
    """The network, its optimiser, and its one step of training."""

    renders = ("denoiser", "straight")

    def __init__(self, engine: Any, setup: Setup, network: nn.Module, straight: Straight) -> None:
        self.engine, self.setup = engine, setup
        self.network, self.straight = network, straight
        self.prior = setup.prior or Prior.natural(setup.channels, setup.patch[: setup.ndim], setup.size.device)
        self.networks: dict[str, nn.Module] = {"denoiser": network, "straight": straight}
        self.optimisers: dict[str, torch.optim.Optimizer] = {
            "denoiser": torch.optim.AdamW([*network.parameters(), *straight.parameters()], setup.size.learning_rate)
        }

    @classmethod
    def of(cls, engine: Any, setup: Setup, weights: torch.Generator) -> Denoiser:
        """Return a new one with weights from the generator; no global random state is used or changed."""
        size, block = setup.size, setup.size.fold**setup.ndim
        # The guess is seen too, and one plane says whether the labels are known: a guided network must tell "none" from
        # "left out".
        seen = setup.channels + setup.planes + 1
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(torch.randint(2**62, (), generator=weights)))
            network = DiffusionModelUNet(
                spatial_dims=setup.ndim,
                in_channels=(setup.channels + seen) * block,
                out_channels=setup.channels * block,
                channels=size.channels,
                attention_levels=(False,) * len(size.channels),
                num_res_blocks=1,
                norm_num_groups=8,
                num_head_channels=size.channels[-1] // 4,
            )
        form = torch.channels_last if setup.ndim == 2 else torch.channels_last_3d
        straight = Straight(setup.channels, seen).to(size.device)
        return cls(engine, setup, network.to(size.device).to(memory_format=form), straight)

    def under(self, engine: Any) -> Denoiser:
        """Return the same network with another engine's options of sampling."""
        return Denoiser(engine, self.setup, self.network, self.straight)

    def step(self, batch: Batch, generator: torch.Generator, step: int) -> dict[str, float]:
        """Take one step on the velocity's squared error."""
        self.pace(step)
        optimiser = self.optimisers["denoiser"]
        optimiser.zero_grad(set_to_none=True)
        error = self.gradient(batch, generator)
        nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        optimiser.step()
        return {"residual": error}

    def pace(self, step: int) -> None:
        """Set the learning rate of a step."""
        for group in self.optimisers["denoiser"].param_groups:
            group["lr"] = self.setup.size.learning_rate * rate_at(step, self.setup.size.steps)

    def gradient(self, batch: Batch, generator: torch.Generator) -> float:
        """Add to the weights' gradients that of the squared error, and return the error.

        It is of what the linear guess at the image misses, in units of what that misses on average. All randomness is
        drawn before the batch is cut into pieces, so that their sum is the gradient of the whole.
        """
        images, planes = self.prior.standardised(self._tensor(batch.images)), self._tensor(batch.planes)
        count, device = len(images), images.device
        time = torch.sigmoid(MIDDLE + SPREAD * torch.randn(count, generator=generator)).clamp(LEAST, MOST).to(device)
        noise = torch.randn(images.shape, generator=generator).to(device)
        forget = (torch.rand(2, count, generator=generator) < self.engine.unconditional).to(device)
        noisy, _ = noised(images, noise, time)
        told = self._conditioned(planes, *forget)
        guess, rms = self.prior.guess(noisy, *levels(time))
        missed = (images - guess) / rms
        self.network.train()
        error = 0.0
        for piece in self.setup.size.pieces(count):
            answer = self._residual(noisy[piece], (guess[piece], rms[piece]), told[piece], time[piece])
            loss = (answer - missed[piece]).square().sum() / missed.numel()
            loss.backward()  # type: ignore[no-untyped-call]
            error += loss.item()
        return error

    def render(self, planes: np.ndarray, rng: np.random.Generator, given: Given | None = None) -> np.ndarray:
        """Return images under planes, by the engine's sampler; where something is given, the rest is made around it."""
        engine, setup = self.engine, self.setup
        told = self._tensor(planes)
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        noise = torch.randn((len(told), setup.channels, *told.shape[2:]), generator=generator).to(setup.size.device)
        known = self._conditioned(told, *[torch.zeros(len(told), dtype=torch.bool, device=told.device)] * 2)
        blank = torch.zeros_like(known)
        patch, tiles = setup.patch[: setup.ndim], min(setup.size.at_once or TILES, TILES)

        def predict(x: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
            def at(both: torch.Tensor) -> torch.Tensor:
                image, under = both[:, : setup.channels], both[:, setup.channels :]
                return self._velocity(image, under, time[:1].expand(len(both)))

            followed = over_tiles(at, torch.cat([x, known], 1), patch, tiles)
            if engine.guidance == 1:
                return followed
            free = over_tiles(at, torch.cat([x, blank], 1), patch, tiles)
            return torch.lerp(free, followed, engine.guidance)

        stays = None
        if given is not None:
            images, keep = self.prior.standardised(self._tensor(given.images)), self._tensor(given.keep[:, None])
            stays = Known(images, keep, given.passes, generator)
        self.network.eval()
        with torch.inference_mode():
            made = denoise(predict, noise, engine.sampling_steps, engine.sampler, self.prior.bounds, stays)
            array: np.ndarray = self.prior.restored(made).float().cpu().numpy()
        return array if setup.ndim == 3 else array[..., None]

    def rest(self) -> None:
        """Let go of the optimiser."""
        self.optimisers = {}

    def _velocity(self, noisy: torch.Tensor, planes: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        alpha, sigma = (x.view(-1, *[1] * (noisy.ndim - 1)) for x in levels(time))
        guess, error = self.prior.guess(noisy, *levels(time))
        return (alpha * noisy - guess - error * self._residual(noisy, (guess, error), planes, time)) / sigma

    def _residual(self, noisy: torch.Tensor, wiener: Guess, planes: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        """Return what the network says that the linear guess misses, in units of its error.

        It sees the guess too, at the scale that guesses have at that time: that a whole patch is dark cannot be seen in
        single pixels where noise is a hundred times stronger, and is plain in the guess.
        """
        read = torch.cat([plainly(*wiener), planes], 1)
        block = self.setup.size.fold
        form = torch.channels_last if self.setup.ndim == 2 else torch.channels_last_3d
        folded = fold(torch.cat([noisy, read], 1), block).contiguous(memory_format=form)
        with torch.autocast(self.setup.size.device.split(":")[0], torch.bfloat16, enabled=self.setup.size.bf16):
            answer = self.network(folded, time * TIMES)
        straight: torch.Tensor = self.straight(read, *levels(time))
        return unfold(answer.float(), block) + straight

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

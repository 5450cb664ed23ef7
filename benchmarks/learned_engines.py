"""A training step and sampling of `diffusion` against MONAI's own scheduler and inferer, with the very same network.

64 x 64 simulated ultrasound, the preset `cpu-small`, one thread. MONAI's loop is the one of its tutorials:
`DDPMScheduler` adds the noise and says what velocity to predict, `DiffusionInferer` with `DDIMScheduler` makes the
images, in float32. Both sides are given the same batches and the same trained weights. Sampling is compared at equal
numbers of steps, and at the fewest steps whose images are as near to held-out ones. Exit status 1: a target is missed.

    python benchmarks/learned_engines.py [--steps 300]
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before numpy: one thread on both sides

import argparse
import copy
import math
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

from equipoise.core import rng_for
from equipoise.core.registry import make
from equipoise.engines.imaging.diffusion import Diffusion
from equipoise.engines.imaging.diffusion.denoiser import Denoiser
from equipoise.engines.imaging.diffusion.engine import PRESETS
from equipoise.engines.parts.learned.fitting import Prepared, prepare
from equipoise.engines.parts.learned.folding import fold, unfold

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from monai.inferers import DiffusionInferer
    from monai.networks.schedulers import DDIMScheduler, DDPMScheduler

IMAGES, SAMPLED, ROUNDS = 32, 8, 7
TARGET = 1.0
AS_NEAR = 0.1
"""Share of a distance by which another counts as equally near."""


class Folded(nn.Module):
    """The denoiser's network, with weights of its own, as MONAI's loop calls one: whole pixels in, whole pixels out."""

    def __init__(self, denoiser: Denoiser) -> None:
        super().__init__()
        self.net = copy.deepcopy(denoiser.network).to(memory_format=torch.contiguous_format)
        self.block = denoiser.setup.size.fold

    def forward(self, x: torch.Tensor, timesteps: torch.Tensor, context: Any = None) -> torch.Tensor:
        """Return the velocity of images ``(B, C, I, J)``."""
        return unfold(self.net(fold(x, self.block), timesteps), self.block)


class Velocity(nn.Module):
    """What the trained denoiser predicts, as MONAI's inferer asks for it: the velocity at one of its thousand times."""

    def __init__(self, denoiser: Denoiser, scheduler: DDIMScheduler) -> None:
        super().__init__()
        self.denoiser, self.alphas = denoiser, scheduler.alphas_cumprod
        # Their arithmetic: float32, channels first.
        size = replace(denoiser.setup.size, bf16=False)
        net = copy.deepcopy(denoiser.network).to(memory_format=torch.contiguous_format)
        self.plain = Denoiser(denoiser.engine, replace(denoiser.setup, size=size), net)

    def forward(self, x: torch.Tensor, timesteps: torch.Tensor, context: Any = None) -> torch.Tensor:
        """Return the velocity of images with their planes as further channels, ``(B, C + M, I, J)``."""
        # The time of our cosine that has the same share of image.
        alpha = self.alphas[timesteps.long().clamp(max=len(self.alphas) - 1)].sqrt().clamp(max=1)
        told = (2 / math.pi) * torch.acos(alpha)
        channels = self.denoiser.setup.channels
        return self.plain._velocity(x[:, :channels], x[:, channels:], told.clamp(0.002, 0.998).expand(len(x)))


def alternated(calls: dict[str, Callable[[], Any]], rounds: int = ROUNDS) -> dict[str, float]:
    """Return median CPU seconds, round by round in turn, so that a busy machine is busy for all."""
    for call in calls.values():
        call()
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            start = time.process_time()
            call()
            times[name].append(time.process_time() - start)
    return {name: float(np.median(t)) for name, t in times.items()}


def training_step(ready: Prepared, denoiser: Denoiser) -> float:
    """Print the time of one training step on both sides, and return their ratio."""
    batch = ready.examples.draw(ready.setup.size.batch, rng_for(0, "batch"), ready.among)
    generator = torch.Generator().manual_seed(0)
    scheduler = DDPMScheduler(schedule="cosine", prediction_type="v_prediction")
    net = Folded(denoiser)
    optimiser = torch.optim.AdamW(net.parameters(), 1e-4)
    images, planes = (torch.from_numpy(np.ascontiguousarray(x[..., 0])) for x in (batch.images, batch.planes))
    told = torch.cat([planes, torch.ones_like(planes[:, :1])], 1)

    def theirs() -> None:
        noise = torch.randn(images.shape, generator=generator)
        when = torch.randint(0, 1000, (len(images),), generator=generator)
        noisy = scheduler.add_noise(original_samples=images, noise=noise, timesteps=when)
        guess = net(torch.cat([noisy, told], 1), when)
        loss = nn.functional.mse_loss(guess, scheduler.get_velocity(images, noise, when))
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()

    took = alternated({"ours": lambda: denoiser.step(batch, generator, 1), "MONAI": theirs})
    ratio = took["MONAI"] / took["ours"]
    ours, monai = 1e3 * took["ours"], 1e3 * took["MONAI"]
    print(f"one step of {len(images)} patches: ours {ours:.0f} ms, MONAI {monai:.0f} ms: {ratio:.2f}x")
    return ratio


def trained(ready: Prepared) -> Denoiser:
    """Return the denoiser after the preset's way of training."""
    denoiser = Denoiser.of(ready.engine, ready.setup, ready.weights())
    ready.train(denoiser)
    return denoiser


def monai_images(denoiser: Denoiser, planes: np.ndarray, steps: int, rng: np.random.Generator) -> np.ndarray:
    """Return images that MONAI's inferer makes of the same network."""
    low, high = (float(b.min()) if i == 0 else float(b.max()) for i, b in enumerate(denoiser.prior.bounds))
    scheduler = DDIMScheduler(
        schedule="cosine", prediction_type="v_prediction", clip_sample_min=low, clip_sample_max=high
    )
    scheduler.set_timesteps(steps)
    told = torch.from_numpy(np.ascontiguousarray(planes[..., 0]))
    told = torch.cat([told, torch.ones_like(told[:, :1])], 1)
    generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
    noise = torch.randn((len(told), denoiser.setup.channels, *told.shape[2:]), generator=generator)
    model = Velocity(denoiser, scheduler).eval()
    made = DiffusionInferer(scheduler).sample(noise, model, scheduler, conditioning=told, mode="concat", verbose=False)
    return denoiser.prior.restored(made).numpy()[..., None]


def sampling(ready: Prepared, denoiser: Denoiser) -> list[float]:
    """Print times and held-out distances by number of steps, and return both ratios."""
    planes = ready.judge.batch.planes[:SAMPLED]

    def ours(steps: int) -> Denoiser:
        return denoiser.under(replace(ready.engine, sampling_steps=steps))

    default = ready.engine.sampling_steps
    took = alternated(
        {
            "ours": lambda: ours(default).render(planes, rng_for(0, "ours")),
            "MONAI": lambda: monai_images(denoiser, planes, default, rng_for(0, "theirs")),
        },
        3,
    )
    ours_s, monai_s = took["ours"] / SAMPLED, took["MONAI"] / SAMPLED
    print(f"\n{default} steps: ours {ours_s:.3f} s an image, MONAI {monai_s:.3f} s: {monai_s / ours_s:.2f}x")
    print(f"\n{'steps':>6}{'ours, distance':>16}{'MONAI, distance':>17}")
    near: dict[str, dict[int, float]] = {"ours": {}, "MONAI": {}}
    for steps in (8, 16, 32, 64):
        near["ours"][steps] = distance(ready, ours(steps).render)
        near["MONAI"][steps] = distance(ready, lambda p, r, s=steps: monai_images(denoiser, p, s, r))
        print(f"{steps:>6}{near['ours'][steps]:>16.3f}{near['MONAI'][steps]:>17.3f}", flush=True)
    bound = (1 + AS_NEAR) * near["ours"][default]
    fewest = {side: min((s for s, d in found.items() if d <= bound), default=0) for side, found in near.items()}
    if not fewest["MONAI"]:
        print(f"ours needs {fewest['ours']} steps; MONAI's images are not as near with 64 steps or fewer")
        return [took["MONAI"] / took["ours"]]
    equal = (took["MONAI"] * fewest["MONAI"]) / (took["ours"] * fewest["ours"])
    print(f"equally near: ours {fewest['ours']} steps, MONAI {fewest['MONAI']}: {equal:.2f}x an image")
    return [took["MONAI"] / took["ours"], equal]


def distance(ready: Prepared, render: Callable[..., np.ndarray]) -> float:
    """Return the held-out distance of what is rendered, mean of two seeds."""
    return float(np.mean([ready.judge.look(0, render, rng_for(seed, "seed"))[0].distance for seed in range(2)]))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=300, help="of the training (the preset takes 3000)")
    steps = parser.parse_args().steps
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    cases = tuple(make("engines", "simulate-ultrasound").sample(IMAGES, rng_for(0, "cases")))
    engine = Diffusion(steps=steps, sublabels=0)
    ready = prepare(engine, cases, rng_for(0, "fit"), PRESETS)
    print(f"{len(cases)} simulated ultrasound images, patches of {ready.setup.patch[:2]}, one thread, CPU time\n")
    ratios = [training_step(ready, Denoiser.of(engine, ready.setup, ready.weights()))]
    ratios += sampling(ready, trained(ready))
    missed = [f"{r:.2f}x" for r in ratios if r < TARGET]
    print("\ntarget of 1x met" if not missed else f"\nmissed: {', '.join(missed)}")
    return bool(missed)


if __name__ == "__main__":
    sys.exit(main())

"""The same steps for a batch of patches at once, as torch tensors on a processor or a graphics card.

A policy draws the steps of each patch (`draw` of `Classical`, `Trivial`, `Rand` or `Searched`); patches whose step at
one place in the order is of one type are changed together. What has no chance of its own equals the numpy steps up to
rounding; noise is drawn on the device from a generator of its own, seeded by the step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from equipoise.engines.augmentation import acquisition_steps as acquisition
from equipoise.engines.augmentation import steps as plain
from equipoise.engines.augmentation.stain import DARKEST, SAMPLED, stain_vectors
from equipoise.engines.augmentation.torch_grids import blurred, coarsened, moments, moved, remapped, spline
from equipoise.engines.parts.device import device_of, require_device
from equipoise.errors import DataError


class Drawing(Protocol):
    """An augmentation whose steps can be drawn before they are done."""

    def draw(self, shape: tuple[int, ...], rng: np.random.Generator) -> tuple[plain.Step | None, ...]:
        """Return the steps of a patch of shape ``(C, I, J, K)``."""


@dataclass(frozen=True)
class Batched:
    """An augmentation for batches.

    Parameters
    ----------
    augment
        What draws the steps of each patch.
    device
        ``"cpu"``, ``"cuda"`` or ``"cuda:0"`` …

    Raises
    ------
    PlanError
        A device that cannot be.
    """

    augment: Drawing
    device: str = "cpu"

    def __post_init__(self) -> None:
        require_device("augmentation", self.device)

    def __call__(
        self, images: np.ndarray | Tensor, labels: np.ndarray | Tensor, rng: np.random.Generator
    ) -> tuple[Tensor, Tensor]:
        """Return changed copies of a batch on the device.

        Parameters
        ----------
        images
            float32, shape ``(B, C, I, J, K)``.
        labels
            Integers, shape ``(B, L, I, J, K)``.
        rng
            Each patch draws its steps from it, one patch after the other, as the numpy path does.

        Raises
        ------
        DataError
            The two are not batches on one grid.
        EngineError
            The device is not there.
        """
        if (
            images.ndim != 5
            or labels.ndim != 5
            or (images.shape[0], *images.shape[2:])
            != (
                labels.shape[0],
                *labels.shape[2:],
            )
        ):
            raise DataError(
                f"images {tuple(images.shape)} and labels {tuple(labels.shape)} must be (B, C, I, J, K) and "
                "(B, L, I, J, K) on one grid",
                fix="give one batch; for a single patch use image[None] and labels[None]",
            )
        device = device_of("augmentation", self.device)
        drawn = [self.augment.draw(tuple(images.shape[1:]), rng) for _ in range(len(images))]
        there = torch.as_tensor(images, dtype=torch.float32, device=device).clone()
        return apply_batch(drawn, there, torch.as_tensor(labels, device=device).clone())


def apply_batch(drawn: Sequence[Sequence[plain.Step | None]], images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return a batch after each patch's steps; the tensors are the caller's copies and are written to.

    Parameters
    ----------
    drawn
        Steps of each patch.
    images, labels
        Shapes ``(B, C, I, J, K)`` and ``(B, L, I, J, K)``, on one device.
    """
    for place in zip_longest(*drawn):
        groups: dict[type, list[int]] = {}
        for index, step in enumerate(place):
            if step is not None:
                groups.setdefault(type(step), []).append(index)
        for kind, members in groups.items():
            chosen = [place[n] for n in members]
            if kind in _MOVES:
                images[members], labels[members] = _MOVES[kind](chosen, images[members], labels[members])
            else:
                images[members] = _LOOKS[kind](chosen, images[members])
    return images, labels


def _column(values: Any, x: Tensor) -> Tensor:
    """Return numbers ``(B,)`` or ``(B, C)`` as float32 that broadcasts over ``(B, C, I, J, K)``."""
    numbers = torch.as_tensor(np.array(values), dtype=torch.float32, device=x.device)
    return numbers.reshape(*numbers.shape, *[1] * (5 - numbers.ndim))


def _noise(noises: Sequence[np.ndarray | int], shape: tuple[int, ...], device: torch.device) -> Tensor:
    """Return white noise of each patch, ``(B, *shape)``: what is given, or from the device's generator."""
    made = []
    for noise in noises:
        if isinstance(noise, int):
            stream = torch.Generator(device).manual_seed(noise)
            made.append(torch.randn(shape, generator=stream, device=device))
        else:
            made.append(torch.as_tensor(noise, device=device))
    return torch.stack(made)


def _mirror(chosen: Sequence[plain.Mirror], x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    for n, step in enumerate(chosen):
        axes = [axis + 1 for axis in step.axes]
        x[n], y[n] = torch.flip(x[n], axes), torch.flip(y[n], axes)
    return x, y


def _move(chosen: Sequence[plain.Move], x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Move all patches at once; those that bend with nodes at other distances get their field in their own call."""
    shape = (int(x.shape[2]), int(x.shape[3]), int(x.shape[4]))
    fields = torch.zeros((len(chosen), 3, *shape), device=x.device)
    for n, step in enumerate(chosen):
        if step.nodes is not None:
            fields[n] = spline(torch.as_tensor(step.nodes, device=x.device), step.step, shape)
    if shape[2] == 1:
        fields[:, 2] = 0
    matrices = np.stack([step.matrix for step in chosen])
    offsets = np.stack([step.offset(shape) for step in chosen])
    return moved(x, y, matrices, offsets, fields)


def _gaussian(chosen: Sequence[plain.Noise], x: Tensor) -> Tensor:
    return x + _column([s.sd for s in chosen], x) * _noise([s.noise for s in chosen], tuple(x.shape[1:]), x.device)


def _sharpen(chosen: Sequence[plain.Sharpen], x: Tensor) -> Tensor:
    return x + _column([s.amount for s in chosen], x) * (x - blurred(x, [(1.0, 1.0, 1.0)] * len(x)))


def _gain(chosen: Sequence[plain.Gain], x: Tensor) -> Tensor:
    low = moments(x)[2]
    return (x - low) * _column([s.factor for s in chosen], x) + low


def _contrast(chosen: Sequence[plain.Contrast], x: Tensor) -> Tensor:
    mean, _, low, high = moments(x)
    return torch.clamp(mean + _column([s.factor for s in chosen], x) * (x - mean), low, high)


def _curve(chosen: Sequence[plain.Curve], x: Tensor) -> Tensor:
    mean, sd, low, high = moments(x)
    tables = torch.as_tensor(np.stack([s.table for s in chosen]), device=x.device)
    bent = remapped(x, low, high, tables)
    new_mean, new_sd, _, _ = moments(bent)
    factor = torch.where(new_sd > 0, sd / new_sd.clamp_min(1e-12), torch.ones_like(sd))
    return mean + factor * (bent - new_mean)


def _window(chosen: Sequence[plain.Window], x: Tensor) -> Tensor:
    low, high = x.amin(dim=(1, 2, 3, 4), keepdim=True), x.amax(dim=(1, 2, 3, 4), keepdim=True)
    start, end = (_column([getattr(s, name) for s in chosen], x) for name in ("low", "high"))
    return torch.clamp(low + (x - low - start * (high - low)) / (end - start), low, high)


def _shade(chosen: Sequence[plain.Shade], x: Tensor) -> Tensor:
    low = moments(x)[2]
    shape = (int(x.shape[2]), int(x.shape[3]), int(x.shape[4]))
    fields = [spline(torch.as_tensor(s.nodes, device=x.device), s.step, shape) for s in chosen]
    return (x - low) * torch.exp(torch.stack(fields)) + low


def _rician(chosen: Sequence[acquisition.RicianNoise], x: Tensor) -> Tensor:
    low = moments(x)[2]
    noise = _noise([s.noise for s in chosen], (2, *x.shape[1:]), x.device)
    sd = _column([s.sd for s in chosen], x)
    return torch.hypot(x - low + sd * noise[:, 0], sd * noise[:, 1]) + low


def _speckle(chosen: Sequence[acquisition.Speckle], x: Tensor) -> Tensor:
    noise = _noise([s.noise for s in chosen], (2, *x.shape[2:]), x.device)
    unit = _column([s.unit(tuple(x.shape[1:])) for s in chosen], x)
    field = blurred(noise, [s.grain for s in chosen]) * unit
    share = _column([s.share for s in chosen], x)
    decibels = torch.log(torch.hypot(1 - share + share * field[:, :1], share * field[:, 1:]).clamp_min(0.05))
    decibels = decibels - decibels.mean(dim=(1, 2, 3, 4), keepdim=True)
    _, _, low, high = moments(x)
    width = torch.where(high > low, high - low, torch.ones_like(low))
    echo = ((x - low) / (0.1 * width)).clamp(0, 1)
    return x + echo * width * (decibels / acquisition.DYNAMIC_RANGE)


def _ghost(chosen: Sequence[acquisition.Ghost], x: Tensor) -> Tensor:
    low = moments(x)[2]
    out = torch.empty_like(x)
    for n, step in enumerate(chosen):
        lines = [1] * 4
        lines[step.axis + 1] = -1
        weight = torch.as_tensor(step.weights(x.shape[step.axis + 2]), dtype=x.dtype, device=x.device).reshape(lines)
        spectrum = torch.fft.fft(x[n] - low[n], dim=step.axis + 1) * weight
        out[n] = torch.fft.ifft(spectrum, dim=step.axis + 1).abs()
    return out + low


def _spike(chosen: Sequence[acquisition.Spike], x: Tensor) -> Tensor:
    _, sd, low, _ = moments(x)
    angle = _column([s.phase for s in chosen], x)
    for axis in range(3):
        lines = [1] * 5
        lines[axis + 2] = -1
        place = torch.arange(x.shape[axis + 2], dtype=torch.float32, device=x.device).reshape(lines)
        angle = angle + 2 * math.pi * _column([s.frequency[axis] for s in chosen], x) * place
    stripes = _column([s.amount for s in chosen], x) * sd * torch.cos(angle)
    return torch.abs(x - low + stripes) + low


def _illumination(chosen: Sequence[acquisition.Illumination], x: Tensor) -> Tensor:
    low = moments(x)[2]
    light = np.stack([s.light(tuple(x.shape[1:])) for s in chosen])
    return (x - low) * torch.as_tensor(light, device=x.device)[:, None, :, :, None] + low


def _colours(chosen: Sequence[acquisition.MixColours], x: Tensor) -> Tensor:
    matrices = torch.as_tensor(np.stack([s.matrix for s in chosen]), dtype=torch.float32, device=x.device)
    return torch.einsum("bcd,bdijk->bcijk", matrices, x)


def _restain(chosen: Sequence[acquisition.Restain], x: Tensor) -> Tensor:
    _, _, low, high = moments(x)
    width = torch.where(high > low, high - low, torch.ones_like(low)) / (1 - DARKEST)
    density = -torch.log(((x - low) / width + DARKEST).clamp_min(DARKEST)).flatten(2)
    few = density[:, :, :: max(1, density.shape[2] // SAMPLED)].cpu().numpy()
    vectors = np.stack([stain_vectors(d) for d in few])
    forth, back = (torch.as_tensor(m, dtype=torch.float32, device=x.device) for m in (vectors, np.linalg.inv(vectors)))
    amounts = back @ density
    tissue = 1 - torch.exp(-2 * density.sum(dim=1, keepdim=True).clamp_min(0))
    scale, shift = (_column([getattr(s, n) for s in chosen], x).flatten(2) for n in ("scale", "shift"))
    amounts[:, :2] = scale * amounts[:, :2] + shift * tissue
    return (torch.exp(-(forth @ amounts)).reshape(x.shape) - DARKEST) * width + low


_MOVES: dict[type, Callable[..., tuple[Tensor, Tensor]]] = {plain.Mirror: _mirror, plain.Move: _move}
_LOOKS: dict[type, Callable[..., Tensor]] = {
    plain.Noise: _gaussian,
    plain.Blur: lambda chosen, x: blurred(x, [s.sigma for s in chosen]),
    plain.Sharpen: _sharpen,
    plain.Shift: lambda chosen, x: x + _column([s.amount for s in chosen], x),
    plain.Gain: _gain,
    plain.Contrast: _contrast,
    plain.LowResolution: lambda chosen, x: coarsened(x, [s.factor for s in chosen]),
    plain.Curve: _curve,
    plain.Window: _window,
    plain.Shade: _shade,
    acquisition.RicianNoise: _rician,
    acquisition.Speckle: _speckle,
    acquisition.Ghost: _ghost,
    acquisition.Spike: _spike,
    acquisition.Illumination: _illumination,
    acquisition.MixColours: _colours,
    acquisition.Restain: _restain,
}

__all__ = ["Batched", "Drawing", "apply_batch"]

"""The U-Net itself, its initialisation, its loss, and one thread for all of it."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from equipoise.errors import TrainingError
from equipoise.learners.recipe import Device, Loss, Norm

NORMS: dict[Norm, tuple[str, dict[str, bool]]] = {"batch": ("batch", {}), "instance": ("instance", {"affine": True})}

RARE = -2.0
"""Logit that training starts from, a probability of 0.12: most voxels are background, and learning that first would
cost a tenth of a short training."""

with warnings.catch_warnings():
    # MONAI and what it imports announce deprecations of their own dependencies; none of them is ours to act on.
    warnings.simplefilter("ignore")
    from monai.networks.nets import DynUNet


@dataclass(frozen=True, slots=True)
class Architecture:
    """What is needed to build the network again.

    Parameters
    ----------
    ndim
        2 or 3.
    channels_in, labels
        Of the image and of the scheme.
    channels
        Width of each level.
    strides
        Per level and axis.
    norm
        ``"batch"`` or ``"instance"``.
    fold
        Per axis: sides of the blocks of voxels that the network treats as channels of one.
    """

    ndim: int
    channels_in: int
    labels: int
    channels: tuple[int, ...]
    strides: tuple[tuple[int, ...], ...]
    fold: tuple[int, ...]
    norm: Norm


class FoldedUNet(nn.Module):
    """A U-Net that reads blocks of voxels as channels of one, and answers for each voxel of the block.

    With a fold of 2 the widest level works on a quarter of the pixels (an eighth of the voxels) and nothing of the
    image is thrown away; on fundus vessels two pixels wide that costs no Dice at equal time.

    References
    ----------
    Shi W et al. Real-time single image and video super-resolution using an efficient sub-pixel convolutional neural
    network. 2016. doi:10.1109/CVPR.2016.207
    """

    def __init__(self, net: nn.Module, fold: tuple[int, ...]) -> None:
        super().__init__()
        self.net = net
        self.fold = fold

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return logits, shape ``(B, L, *spatial)``, for images of shape ``(B, C, *spatial)``."""
        n = len(self.fold)
        blocks = [n for pair in zip(_over(images.shape[2:], self.fold), self.fold, strict=True) for n in pair]
        outer, inner = list(range(2, 2 * n + 2, 2)), list(range(3, 2 * n + 3, 2))
        folded = images.reshape(*images.shape[:2], *blocks).permute(0, 1, *inner, *outer).flatten(1, n + 1)
        form = torch.channels_last if n == 2 else torch.channels_last_3d
        logits = self.net(folded.contiguous(memory_format=form)).unflatten(1, (-1, *self.fold))
        back = [axis for pair in zip(range(n + 2, 2 * n + 2), range(2, n + 2), strict=True) for axis in pair]
        unfolded: torch.Tensor = logits.permute(0, 1, *back).reshape(len(images), -1, *images.shape[2:])
        return unfolded


def _over(lengths: Sequence[int], parts: Sequence[int]) -> list[int]:
    return [length // part for length, part in zip(lengths, parts, strict=True)]


def build(architecture: Architecture, device: Device, generator: torch.Generator | None = None) -> nn.Module:
    """Return the network with weights from ``generator``; no global random state is used or changed.

    A plain U-Net of two 3-voxel convolutions, normalisation and leaky ReLU per level, with transposed
    convolutions upwards.

    References
    ----------
    Ronneberger O, Fischer P, Brox T. U-Net: convolutional networks for biomedical image segmentation. 2015.
    doi:10.1007/978-3-319-24574-4_28. Isensee F et al. nnU-Net. Nat Methods 2021. doi:10.1038/s41592-020-01008-z
    (strides that follow the patch).
    """
    levels, block = len(architecture.strides), math.prod(architecture.fold)
    with torch.random.fork_rng(devices=[]):  # layers draw weights when they are made; ours replace them below
        net = FoldedUNet(
            DynUNet(
                architecture.ndim,
                architecture.channels_in * block,
                architecture.labels * block,
                kernel_size=[3] * levels,
                strides=architecture.strides,
                upsample_kernel_size=architecture.strides[1:],
                filters=architecture.channels,
                norm_name=NORMS[architecture.norm],
            ),
            architecture.fold,
        )
    if generator is not None:
        initialise(net, generator)
    form = torch.channels_last if architecture.ndim == 2 else torch.channels_last_3d
    placed: nn.Module = net.to(device).to(memory_format=form)  # type: ignore[call-overload]  # torch's stubs lack it
    return placed


def initialise(net: nn.Module, generator: torch.Generator) -> None:
    """Draw every weight anew: He's normal initialisation for convolutions, identity for normalisations.

    References
    ----------
    He K et al. Delving deep into rectifiers. 2015. doi:10.1109/ICCV.2015.123
    """
    for module in net.modules():
        if isinstance(module, nn.modules.conv._ConvNd):
            nn.init.kaiming_normal_(module.weight, a=0.01, nonlinearity="leaky_relu", generator=generator)
            if module.bias is not None:  # only the last layer has one
                nn.init.constant_(module.bias, RARE)


def weights_of(net: nn.Module) -> dict[str, torch.Tensor]:
    """Return a copy of weights and running statistics by name, on the CPU.

    `state_dict` would not do: MONAI's network names its layers twice.
    """
    named = (*net.named_parameters(), *net.named_buffers())
    return {name: value.detach().to("cpu", copy=True).contiguous() for name, value in named}


def set_weights(net: nn.Module, weights: Mapping[str, torch.Tensor]) -> None:
    """Copy what `weights_of` returned into a network; `ValueError` if names or shapes differ."""
    named = dict((*net.named_parameters(), *net.named_buffers()))
    shapes = {name: tuple(value.shape) for name, value in named.items()}
    given = {name: tuple(value.shape) for name, value in weights.items()}
    if given != shapes:
        odd = sorted(name for name in shapes | given if shapes.get(name) != given.get(name))
        raise ValueError(f"weights {odd[:3]} do not fit the network")
    with torch.no_grad():
        for name, value in named.items():
            value.copy_(weights[name])


def segmentation_loss(
    logits: torch.Tensor, target: torch.Tensor, counted: torch.Tensor, weights: torch.Tensor, loss: Loss
) -> torch.Tensor:
    """Return the loss of a batch: soft Dice over the batch, cross-entropy per voxel, or their sum.

    Parameters
    ----------
    logits, target
        Shape ``(B, L, *spatial)``; every label is a yes-or-no question of its own, so that labels may overlap.
    counted
        0 or 1, shape ``(B, 1, *spatial)``: voxels at 0 have no part in the loss.
    weights
        Per patch, shape ``(B,)``; only their ratios matter.
    loss
        ``"dice+bce"``, ``"dice"`` or ``"bce"``.

    References
    ----------
    Milletari F et al. V-Net (soft Dice). 2016. doi:10.1109/3DV.2016.79
    """
    spatial = tuple(range(2, logits.ndim))
    share = (weights / weights.sum().clamp_min(1e-12)).view(-1, *[1] * (logits.ndim - 1))
    terms = []
    if "bce" in loss:
        each = functional.binary_cross_entropy_with_logits(logits, target, reduction="none") * counted
        voxels = counted.sum(spatial).clamp_min(1) * logits.shape[1]
        terms.append((share.view(-1, 1) * each.sum(spatial) / voxels).sum())
    if "dice" in loss:
        # Over the whole batch: a patch without the label has no Dice of its own, and small ones a very noisy one.
        probability = torch.sigmoid(logits)
        scale = share * counted * len(weights)
        axes = (0, *spatial)
        overlap = (probability * target * scale).sum(axes)
        total = ((probability + target) * scale).sum(axes)
        terms.append((1 - (2 * overlap + 1) / (total + 1)).mean())
    return torch.stack(terms).sum()


def require_device(device: Device) -> None:
    """Raise `TrainingError` if the device is not there."""
    if device == "cuda" and not torch.cuda.is_available():
        raise TrainingError(
            "the learner is set to device 'cuda' and PyTorch finds no CUDA device",
            fix="set preset = 'cpu-small' or device = 'cpu', or install a CUDA build of torch",
        )


@contextmanager
def one_thread(device: Device) -> Iterator[None]:
    """Compute on one CPU thread inside the block: same sums in the same order everywhere, and arms run in parallel."""
    before = torch.get_num_threads()
    if device == "cpu":
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def as_input(array: np.ndarray, ndim: int, device: Device) -> torch.Tensor:
    """Return ``(B, C, I, J, K)`` as a float32 tensor in the memory order it is fast in; without K for a 2-D network."""
    tensor = torch.from_numpy(np.ascontiguousarray(array[..., 0] if ndim == 2 else array)).to(device)
    form = torch.channels_last if ndim == 2 else torch.channels_last_3d
    return tensor.float().contiguous(memory_format=form)

"""MONAI's networks from a description that a checkpoint's header can hold."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

with warnings.catch_warnings():
    # MONAI and what it imports announce deprecations of their own dependencies; none of them is ours to act on.
    warnings.simplefilter("ignore")
    from monai.apps.generation.maisi.networks.autoencoderkl_maisi import AutoencoderKlMaisi
    from monai.apps.generation.maisi.networks.diffusion_model_unet_maisi import DiffusionModelUNetMaisi
    from monai.networks.nets import AutoencoderKL, DiffusionModelUNet

AUTOENCODERS: dict[str, Any] = {"AutoencoderKL": AutoencoderKL, "AutoencoderKlMaisi": AutoencoderKlMaisi}
VELOCITIES: dict[str, Any] = {
    "DiffusionModelUNet": DiffusionModelUNet,
    "DiffusionModelUNetMaisi": DiffusionModelUNetMaisi,
}

OURS: dict[str, dict[str, Any]] = {
    "AutoencoderKL": {"use_checkpoint": False, "use_flash_attention": False},
    # Its way to large volumes is to cut every convolution into pieces; ours is tiles, so nothing is cut here.
    "AutoencoderKlMaisi": {
        "use_checkpointing": False,
        "use_flash_attention": False,
        "num_splits": 1,
        "norm_float16": False,
        "print_info": False,
        "save_mem": False,
    },
    "DiffusionModelUNet": {"use_flash_attention": False},
    "DiffusionModelUNetMaisi": {"use_flash_attention": False},
}
"""What is always set, whatever a description says: how it is computed, never what."""

Architecture = Mapping[str, Any]
"""``{"class": "AutoencoderKL", "with": {…}}``, the arguments as MONAI names them."""


def build(architecture: Architecture, **changed: Any) -> nn.Module:
    """Return a network with MONAI's random first weights.

    Parameters
    ----------
    architecture
        See `Architecture`.
    **changed
        Arguments to replace.

    Raises
    ------
    TypeError, ValueError
        Arguments that MONAI does not know or that do not fit together.
    """
    name = architecture["class"]
    network: nn.Module = (AUTOENCODERS | VELOCITIES)[name](**{**architecture["with"], **OURS[name], **changed})
    return network


def widths_of(architecture: Architecture) -> tuple[int, ...]:
    """Return the channels of each level; each halves the sides."""
    arguments = architecture["with"]
    return tuple(arguments["num_channels"] if "num_channels" in arguments else arguments["channels"])


def autoencoder_for(ndim: int, channels: int, block: int, widths: tuple[int, ...], latent: int) -> dict[str, Any]:
    """Return the description of an autoencoder to train.

    Parameters
    ----------
    ndim
        2 or 3.
    channels
        Of the images.
    block
        Sides of the blocks of voxels that it treats as channels of one.
    widths
        Channels of each level.
    latent
        Channels of the latents.
    """
    arguments = {
        "spatial_dims": ndim,
        "in_channels": channels * block**ndim,
        "out_channels": channels * block**ndim,
        "num_res_blocks": [1] * len(widths),
        "channels": list(widths),
        "attention_levels": [False] * len(widths),
        "latent_channels": latent,
        "norm_num_groups": 8,
        "with_encoder_nonlocal_attn": False,
        "with_decoder_nonlocal_attn": False,
    }
    return {"class": "AutoencoderKL", "with": arguments}


def velocity_for(ndim: int, widths: tuple[int, ...], latent: int) -> dict[str, Any]:
    """Return the description of a velocity network to train; its input has the condition's planes in addition."""
    arguments = {
        "spatial_dims": ndim,
        "in_channels": latent,
        "out_channels": latent,
        "channels": list(widths),
        "attention_levels": [False] * (len(widths) - 1) + [True],
        "num_res_blocks": 1,
        "norm_num_groups": 8,
        "num_head_channels": widths[-1] // 4,
    }
    return {"class": "DiffusionModelUNet", "with": arguments}


def from_generator(architecture: Architecture, generator: torch.Generator, **changed: Any) -> nn.Module:
    """Return a network with first weights from a generator; no global random state is used or changed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(torch.randint(2**62, (), generator=generator)))
        return build(architecture, **changed)


__all__ = [
    "AUTOENCODERS",
    "VELOCITIES",
    "Architecture",
    "autoencoder_for",
    "build",
    "from_generator",
    "velocity_for",
    "widths_of",
]

"""What an autoencoder's weights say of its architecture: everything but the groups of its normalisation."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch

from equipoise.errors import EngineError


def autoencoder_from_shapes(tensors: Mapping[str, torch.Tensor], groups: int | None, file: str) -> dict[str, Any]:
    """Return the description of the autoencoder that weights belong to.

    Parameters
    ----------
    tensors
        Of MONAI's AutoencoderKL or AutoencoderKlMaisi.
    groups
        Of every normalisation.
    file
        For messages.

    Raises
    ------
    EngineError
        ``groups`` is not stated, or the weights are not laid out as those of these autoencoders.
    """
    if groups is None:
        raise EngineError(
            "no configuration says how this autoencoder is built, and its weights do not show in how many groups it "
            "normalises",
            file=file,
            why="with another number the weights fit and every image comes out wrong",
            fix="give the configuration with --config FILE.json, or the number with --groups 32 (MONAI's default)",
        )
    encoder, decoder = (_blocks(tensors, side) for side in ("encoder", "decoder"))
    try:
        maisi = "encoder.blocks.0.conv.conv.weight" in tensors
        first, last = (tensors[f"encoder.blocks.0.{'conv.conv' if maisi else 'conv'}.weight"], _last(tensors, decoder))
        levels, attended, nonlocal_encoder = _levels(encoder)
        _, _, nonlocal_decoder = _levels(decoder)
        arguments = {
            "spatial_dims": first.ndim - 2,
            "in_channels": first.shape[1],
            "out_channels": last.shape[0],
            "num_channels" if maisi else "channels": [widths[-1] for widths in levels],
            "num_res_blocks": [len(widths) for widths in levels],
            "attention_levels": attended,
            "latent_channels": next(v for k, v in tensors.items() if k.startswith("quant_conv_mu.")).shape[0],
            "norm_num_groups": groups,
            "with_encoder_nonlocal_attn": nonlocal_encoder,
            "with_decoder_nonlocal_attn": nonlocal_decoder,
            "include_fc": any(".out_proj." in name for name in tensors),
            "use_combined_linear": any(".qkv." in name for name in tensors),
            "use_convtranspose": any(".deconv." in name for name in tensors),
        }
    except (KeyError, IndexError, StopIteration) as error:
        raise EngineError(
            "the weights are not laid out as those of an autoencoder of MONAI's",
            file=file,
            fix="give the configuration that it was trained with: --config FILE.json",
        ) from error
    return {"class": "AutoencoderKlMaisi" if maisi else "AutoencoderKL", "with": arguments}


def _blocks(tensors: Mapping[str, torch.Tensor], side: str) -> list[tuple[str, int]]:
    """Return kind and output channels of each block of one side: ``res``, ``attention``, ``norm`` or ``conv``."""
    found: dict[int, tuple[str, int]] = {}
    for name, value in tensors.items():
        place = re.match(rf"{side}\.blocks\.(\d+)\.(.+)", name)
        if place is None:
            continue
        number, rest = int(place.group(1)), place.group(2)
        if rest.startswith("conv1."):
            found[number] = ("res", len(value))
        elif rest.startswith("attn."):
            found[number] = ("attention", 0)
        elif number not in found and rest.endswith("weight"):
            found[number] = ("norm" if value.ndim == 1 else "conv", len(value))
    return [found[number] for number in sorted(found)]


def _levels(blocks: list[tuple[str, int]]) -> tuple[list[list[int]], list[bool], bool]:
    """Return the residual blocks' channels by level, which levels attend, and whether all places are attended to."""
    inner = [kind for kind, _ in blocks[1:-2]]
    # Attention to all places stands between two residual blocks, after the levels of an encoder, before a decoder's.
    ends, starts = inner[-3:], inner[:3]
    whole = ["res", "attention", "res"]
    after = ends == whole
    before = starts == whole and inner[3:4] != ["attention"]
    cut = blocks[1:-2][: -3 if after else None] if after else blocks[1:-2][3 if before else 0 :]
    levels: list[list[int]] = [[]]
    attended = [False]
    for kind, width in cut:
        if kind == "conv":
            levels.append([])
            attended.append(False)
        elif kind == "res":
            levels[-1].append(width)
        else:
            attended[-1] = True
    return levels, attended, after or before


def _last(tensors: Mapping[str, torch.Tensor], decoder: list[tuple[str, int]]) -> torch.Tensor:
    prefix = f"decoder.blocks.{len(decoder) - 1}."
    return next(v for k, v in tensors.items() if k.startswith(prefix) and k.endswith("weight"))


__all__ = ["autoencoder_from_shapes"]

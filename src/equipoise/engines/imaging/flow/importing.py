"""Turn a MONAI bundle or a MAISI checkpoint into a file that `flow` starts from, with its hash and licence."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import torch

from equipoise.engines.imaging.flow.architecture import AUTOENCODERS, Architecture, build
from equipoise.engines.imaging.flow.foreign import Bundle, Weights, definitions, predicts_velocity, weights_in
from equipoise.engines.imaging.flow.from_shapes import autoencoder_from_shapes
from equipoise.engines.parts.learned.checkpoint import write_checkpoint
from equipoise.errors import EngineError, WorkspaceError

UNIT = (0.0, 1.0)
"""Range of the images that MONAI's autoencoders are trained on, unless the bundle states another."""


@dataclass(frozen=True, eq=False)
class Found:
    """A network in a bundle.

    Parameters
    ----------
    architecture
        That its weights fit.
    weights
        From which file.
    """

    architecture: Architecture
    weights: Weights


def import_checkpoint(
    source: Path, out: Path, licence: str | None = None, config: Path | None = None, groups: int | None = None
) -> dict[str, Any]:
    """Write an imported file and return what it says of itself.

    Parameters
    ----------
    source
        A ``.pt``, ``.pth``, ``.ckpt`` or ``.safetensors`` file, a bundle's folder, or its zip.
    out
        File to write, ``.safetensors``; must not exist.
    licence
        Under which the weights may be used; else the bundle must say so.
    config
        JSON with the networks' definitions, where the bundle has none.
    groups
        Of the normalisation of an autoencoder without a definition: the one number that weights do not show.

    Raises
    ------
    UnreadableFileError, EngineError
        A file that is damaged, holds code, states no licence, or is of another architecture.
    WorkspaceError
        ``out`` exists or cannot be written.
    """
    _require_free(out)
    bundle = Bundle.at(source)
    known = licence or bundle.licence()
    if not known:
        raise EngineError(
            "nobody says under which licence these weights may be used",
            file=source,
            why="it holds for every image made with them, and a data set of unknown licence cannot be given on",
            fix='state it as the publisher does: --licence "Apache-2.0"',
        )
    configs = bundle.configs(config)
    architectures = [found for content in configs for found in definitions(content)]
    files = [weights_in(bundle.read(name), name) for name in bundle.checkpoints()]
    autoencoder = _autoencoder(files, architectures, groups, source)
    velocity, why_not = _velocity(files, architectures, configs, autoencoder)
    metadata = bundle.metadata()
    parts = {"autoencoder": autoencoder} | ({"velocity": velocity} if velocity else {})
    described: dict[str, Any] = {}
    tensors: dict[str, torch.Tensor] = {}
    for part, found in parts.items():
        tensors |= {f"{part}/{name}": value for name, value in found.weights.tensors.items()}
        described[part] = _described(bundle, found, known, metadata)
    about = {"parts": described, "trained_on": metadata.get("data_source"), "left_out": why_not}
    try:
        write_checkpoint(out, tensors, about)
    except OSError as error:
        raise WorkspaceError(
            f"the file cannot be written: {error}", file=out, fix="name one with --out where there is room"
        ) from error
    return about


def _require_free(out: Path) -> None:
    if out.suffix != ".safetensors":
        raise WorkspaceError(
            f"imported weights are written as .safetensors, {out.name!r} ends otherwise",
            file=out,
            why="other formats can carry code",
            fix=f"--out {out.with_suffix('.safetensors')}",
        )
    if out.exists():
        raise WorkspaceError("this already exists and is not overwritten", file=out, fix="name a new file with --out")


def _autoencoder(
    files: Sequence[Weights], architectures: Sequence[Architecture], groups: int | None, source: Path
) -> Found:
    candidates = [f for f in files if "quant_conv_mu" in " ".join(f.tensors) and _starts(f, "encoder.blocks.0.")]
    if not candidates:
        held = ", ".join(f"{f.name} ({next(iter(f.tensors))!r} …)" for f in files) or "no checkpoint"
        raise EngineError(
            f"no autoencoder of MONAI's AutoencoderKL or AutoencoderKlMaisi was found; there is: {held}",
            file=source,
            why="`flow` works in the latents of such an autoencoder",
            fix="name its checkpoint, or the folder of the bundle that it is part of",
        )
    defined = [a for a in architectures if a["class"] in AUTOENCODERS]
    fits = [Found(a, f) for f in candidates for a in defined if _same_shapes(a, f.tensors)]
    if not fits and not defined:
        shaped = [(autoencoder_from_shapes(f.tensors, groups, f.name), f) for f in candidates]
        fits = [Found(a, f) for a, f in shaped if _same_shapes(a, f.tensors)]
    # An autoencoder of label maps, such as MAISI's, reads other channels than it writes.
    images = {f.weights.name: f for f in fits if _argument(f, "in_channels") == _argument(f, "out_channels")}
    if len(images) > 1:
        raise EngineError(
            f"several autoencoders of images were found: {', '.join(images)}",
            file=source,
            fix="name the one checkpoint instead of the bundle",
        )
    if not images:
        raise EngineError(
            f"the weights of {', '.join(f.name for f in candidates)} do not fit "
            + (
                f"any of the {len(defined)} autoencoder(s) that the configuration defines"
                if defined
                else "any known one"
            ),
            file=source,
            why="weights of another architecture would encode images into nothing",
            fix="give the configuration that it was trained with: --config FILE.json",
        )
    return next(iter(images.values()))


def _velocity(
    files: Sequence[Weights],
    architectures: Sequence[Architecture],
    configs: Sequence[Mapping[str, Any]],
    autoencoder: Found,
) -> tuple[Found | None, str | None]:
    """Return the velocity network of a bundle, or why there is none that can be taken."""
    candidates = [f for f in files if _starts(f, "conv_in.") and _starts(f, "time_embed.") and _starts(f, "up_blocks.")]
    if not candidates:
        return None, None
    latent = _argument(autoencoder, "latent_channels")
    defined = [a for a in architectures if a["class"] not in AUTOENCODERS]
    fits = [Found(a, f) for f in candidates for a in defined if _same_shapes(a, f.tensors)]
    if not fits:
        return None, "no definition fits its weights, and weights do not show how many heads they have"
    guided = [f for f in fits if not f.architecture["with"].get("with_conditioning")]
    taken = [f for f in guided if _argument(f, "in_channels") == _argument(f, "out_channels") == latent]
    if not taken:
        return None, "it is guided by more than noise and time, or works on other latents"
    regions = ("include_top_region_index_input", "include_bottom_region_index_input")
    if any(taken[0].architecture["with"].get(name) for name in regions):
        return None, "it must be told the body regions that each image begins and ends in"
    flows = next((told for told in map(predicts_velocity, configs) if told is not None), None)
    if not flows:
        how = "no scheduler is defined" if flows is None else "its scheduler is not one of rectified flow"
        return None, f"{how}: what it predicts would not be a velocity"
    return taken[0], None


def _described(bundle: Bundle, found: Found, licence: str, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the header says of a network."""
    return {
        "architecture": {"class": found.architecture["class"], "with": dict(found.architecture["with"])},
        "source": PurePosixPath(found.weights.name).name,
        "sha256": hashlib.sha256(bundle.read(found.weights.name)).hexdigest(),
        "format": f"MONAI {found.architecture['class']}",
        "licence": licence,
        "value_range": list(_value_range(metadata)),
        "scale": found.weights.scale,
    }


def _value_range(metadata: Mapping[str, Any]) -> tuple[float, float]:
    for name in ("autoencoder_data_format", "network_data_format"):
        inputs = metadata.get(name, {}).get("inputs", {})
        span = inputs.get("image", {}).get("value_range") if isinstance(inputs, Mapping) else None
        if isinstance(span, list) and len(span) == 2 and all(isinstance(v, (int, float)) for v in span):
            return float(span[0]), float(span[1])
    return UNIT


def _same_shapes(architecture: Architecture, tensors: Mapping[str, torch.Tensor]) -> bool:
    """Whether the weights are exactly those of the architecture; nothing is allocated to find out."""
    try:
        with torch.device("meta"):
            expected = build(architecture).state_dict()
    except (TypeError, ValueError):
        return False
    return {k: v.shape for k, v in expected.items()} == {k: v.shape for k, v in tensors.items()}


def _starts(weights: Weights, prefix: str) -> bool:
    return any(name.startswith(prefix) for name in weights.tensors)


def _argument(found: Found, name: str) -> int:
    return int(found.architecture["with"][name])


__all__ = ["import_checkpoint"]

"""Checkpoints and bundles that others wrote: weights, definitions and licence, read without running their code."""

from __future__ import annotations

import inspect
import io
import json
import pickle
import re
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors

from equipoise.engines.imaging.flow.architecture import AUTOENCODERS, VELOCITIES, Architecture
from equipoise.errors import EngineError, UnreadableFileError

WEIGHTS = (".pt", ".pth", ".ckpt", ".safetensors")
WRAPPED = ("unet_state_dict", "autoencoder_state_dict", "state_dict", "model_state_dict", "model", "network")
"""Names under which trainers put the weights beside other things; MAISI's put even an autoencoder under the first."""

_NUMPY: Any = np._core.multiarray  # type: ignore[attr-defined]  # where pickles of numpy say that they come from
HARMLESS = [np.dtype, np.ndarray, _NUMPY.scalar, _NUMPY._reconstruct]
HARMLESS += [type(np.dtype(name)) for name in ("f2", "f4", "f8", "i4", "i8", "?")]
"""What trainers write beside weights, such as the loss so far: numbers of numpy, which run nothing when read."""

RENAMED = {"num_channels": "channels"}
"""Arguments as MONAI's generative repository called them, before the networks moved into MONAI."""


@dataclass(frozen=True, eq=False)
class Bundle:
    """Files by name, of a folder, a zip, or one checkpoint and what lies around it.

    Parameters
    ----------
    root
        The folder, the zip or the checkpoint.
    files
        Names, with forward slashes, to where they are: a path, or a member of the zip.
    only
        Name of the one checkpoint to look at, if it was named.
    """

    root: Path
    files: Mapping[str, Path | None]
    only: str | None = None

    @classmethod
    def at(cls, path: Path) -> Bundle:
        """Return the bundle at a path.

        Raises
        ------
        UnreadableFileError
            There is nothing, or nothing that is a checkpoint.
        """
        if path.is_dir():
            return cls(path, {p.relative_to(path).as_posix(): p for p in sorted(path.rglob("*")) if p.is_file()})
        if not path.is_file():
            raise UnreadableFileError("there is no such file", file=path, fix="name a checkpoint, a bundle or its zip")
        if path.suffix == ".zip":
            try:
                with zipfile.ZipFile(path) as archive:
                    return cls(path, {name: None for name in sorted(archive.namelist()) if not name.endswith("/")})
            except zipfile.BadZipFile as error:
                raise UnreadableFileError(
                    f"the zip cannot be read: {error}", file=path, fix="fetch it again"
                ) from error
        if path.suffix not in WEIGHTS:
            raise UnreadableFileError(
                f"{path.suffix or 'a file without ending'} is no kind of checkpoint that is known",
                file=path,
                fix=f"name a file that ends in {', '.join(WEIGHTS)}, a bundle's folder, or its zip",
            )
        around = path.parent.parent if path.parent.name == "models" else path.parent
        found = {p.relative_to(around).as_posix(): p for p in sorted(around.glob("configs/*.json"))}
        found |= {p.name: p for p in sorted(around.glob("LICENSE*"))} if found else {}
        name = path.relative_to(around).as_posix()
        return cls(path, found | {name: path}, name)

    def read(self, name: str) -> bytes:
        """Return a file's bytes."""
        path = self.files[name]
        if path is not None:
            return path.read_bytes()
        with zipfile.ZipFile(self.root) as archive:
            return archive.read(name)

    def named(self, *endings: str) -> list[str]:
        """Return the names of files that end so."""
        return [name for name in self.files if name.endswith(endings)]

    def checkpoints(self) -> list[str]:
        """Return the names of the checkpoints."""
        return [self.only] if self.only else self.named(*WEIGHTS)

    def metadata(self) -> dict[str, Any]:
        """Return the content of metadata.json, or nothing."""
        found = self.named("metadata.json")
        return _json(self.read(found[0]), found[0]) if found else {}

    def licence(self) -> str | None:
        """Return the licence that metadata or a LICENSE file states, if any does."""
        metadata = self.metadata()
        stated = metadata.get("license") or metadata.get("licence")
        if stated:
            return str(stated)
        for name in self.files:
            if PurePosixPath(name).name.upper().startswith(("LICENSE", "LICENCE")):
                lines = [line.strip() for line in self.read(name).decode("utf-8", "replace").splitlines()]
                return ", ".join([line for line in lines if line][:2]) or None
        return None

    def configs(self, extra: Path | None) -> list[dict[str, Any]]:
        """Return the contents of configuration files, the one that was named first."""
        found = [_json(extra.read_bytes(), str(extra))] if extra else []
        names = sorted(self.named(".json"), key=lambda name: (not name.endswith("inference.json"), name))
        contents = [_json(self.read(name), name) for name in names if PurePosixPath(name).parent.name == "configs"]
        return [c for c in found + contents if isinstance(c, dict)]


@dataclass(frozen=True, eq=False)
class Weights:
    """What a checkpoint holds.

    Parameters
    ----------
    name
        Of the file.
    tensors
        By name.
    scale
        That latents were multiplied by, if the file says so.
    """

    name: str
    tensors: Mapping[str, torch.Tensor]
    scale: float | None


def weights_in(data: bytes, name: str) -> Weights:
    """Return the weights that a file's bytes hold; no code that it may contain is run.

    Raises
    ------
    UnreadableFileError
        The file is damaged, holds code, or no weights.
    """
    try:
        content: Any
        if name.endswith(".safetensors"):
            content = load_safetensors(data)
        else:
            with torch.serialization.safe_globals(HARMLESS):
                content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UnreadableFileError(
            "the file holds more than weights: reading it would run code",
            file=name,
            why="a pickle can do on this computer whatever its author wanted; no such file is ever opened in full",
            fix="save the state dict alone: torch.save(network.state_dict(), FILE), or as .safetensors",
        ) from error
    except (SafetensorError, RuntimeError, EOFError, ValueError, KeyError, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else "it ends too early"
        raise UnreadableFileError(
            f"the checkpoint cannot be read: {type(error).__name__}: {reason}",
            file=name,
            fix="fetch the file again and compare its hash with the publisher's",
        ) from error
    tensors = _unwrapped(content)
    if not tensors:
        raise UnreadableFileError("the file holds no weights", file=name, fix="name a file with a state dict")
    bad = [key for key, value in tensors.items() if not torch.isfinite(value).all()]
    if bad:
        raise UnreadableFileError(
            f"weights {bad[0]!r} hold values that are not numbers", file=name, fix="fetch it again"
        )
    scale = content.get("scale_factor") if isinstance(content, Mapping) else None
    return Weights(name, tensors, None if scale is None else float(scale))


def definitions(config: Mapping[str, Any]) -> Iterator[Architecture]:
    """Yield the networks that a bundle's configuration defines, with references resolved and no expression run."""
    for value in config.values():
        target = str(value.get("_target_", "")).rsplit(".", 1)[-1] if isinstance(value, Mapping) else ""
        known = AUTOENCODERS | VELOCITIES
        if target not in known:
            continue
        allowed = inspect.signature(known[target]).parameters
        # Defaults are written down too: what is read back later must not depend on MONAI's version.
        arguments = {name: p.default for name, p in allowed.items() if p.default is not p.empty}
        for name, given in value.items():
            plain = _resolved(given, config)
            name = name if name in allowed else RENAMED.get(name, name)
            if name in allowed and plain is not None:
                arguments[name] = plain
        yield {"class": target, "with": arguments}


def predicts_velocity(config: Mapping[str, Any]) -> bool | None:
    """Whether a configuration's scheduler is of rectified flow; ``None`` where it names none."""
    schedulers = {
        name: str(value["_target_"]).rsplit(".", 1)[-1]
        for name, value in config.items()
        if isinstance(value, Mapping) and "Scheduler" in str(value.get("_target_", ""))
    }
    for name in ("noise_scheduler", "scheduler", *schedulers):
        if name in schedulers:
            return "flow" in schedulers[name].lower()
    return None


def _resolved(value: Any, config: Mapping[str, Any], depth: int = 0) -> Any:
    """Return a value with ``@name`` replaced by what it names; ``None`` for an expression, which is never run."""
    if isinstance(value, list):
        inner = [_resolved(v, config, depth) for v in value]
        return None if any(v is None for v in inner) else inner
    if not isinstance(value, str):
        return value
    reference = re.fullmatch(r"\$?@([\w:#]+)", value)
    if reference is None:
        return None if value.startswith("$") else value
    found: Any = config
    for part in re.split(r"::|#", reference.group(1)):
        found = found.get(part) if isinstance(found, Mapping) else None
    return None if found is None or depth > 8 else _resolved(found, config, depth + 1)


def _unwrapped(content: Any) -> dict[str, torch.Tensor]:
    if not isinstance(content, Mapping):
        return {}
    for name in WRAPPED:
        if isinstance(content.get(name), Mapping):
            return _unwrapped(content[name])
    prefixes = r"^(module\.|_orig_mod\.)+"
    return {
        re.sub(prefixes, "", str(name)): value.float() if value.is_floating_point() else value
        for name, value in content.items()
        if isinstance(value, torch.Tensor) and name != "scale_factor"
    }


def _json(data: bytes, name: str) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(data)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise EngineError(
            f"the configuration cannot be read: {error}", file=name, fix="correct it; it must be JSON"
        ) from error
    return content


__all__ = ["Bundle", "Weights", "definitions", "predicts_velocity", "weights_in"]

"""Checkpoints as safetensors with their description in the header: never a pickle, never half a file."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from equipoise.errors import EngineError

FORMAT = "equipoise-engine-1"

_folder: ContextVar[Path | None] = ContextVar("folder of checkpoints", default=None)


@contextmanager
def kept_in(folder: Path | None) -> Iterator[None]:
    """Let fits inside the block keep their checkpoints below a folder, and resume from what they find there."""
    token = _folder.set(folder)
    try:
        yield
    finally:
        _folder.reset(token)


def folder_for(fingerprint: str) -> Path | None:
    """Return where the fit with this fingerprint keeps its files; ``None`` if nobody wants any kept."""
    folder = _folder.get()
    return None if folder is None else folder / fingerprint[:16]


def write_checkpoint(path: Path, tensors: Mapping[str, torch.Tensor], about: Mapping[str, Any]) -> None:
    """Write a checkpoint in one step: whoever is killed meanwhile finds the one before.

    Parameters
    ----------
    path
        Its folder is made.
    tensors
        By name; they are copied to the CPU.
    about
        What JSON can hold: architecture, fingerprint, step, curve.
    """
    plain = {name: tensor.detach().to("cpu").contiguous().clone() for name, tensor in tensors.items()}
    header = {"format": FORMAT, "about": json.dumps(about, sort_keys=True)}
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    with temporary.open("wb") as file:
        file.write(save(plain, header))
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def read_checkpoint(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Return tensors and description of a checkpoint.

    Raises
    ------
    EngineError
        The file is missing, damaged, or not one of ours.
    """
    try:
        with safe_open(str(path), "pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a mapping
    except (SafetensorError, OSError) as error:
        raise _unreadable(path, f"{type(error).__name__}: {error}") from error
    if header.get("format") != FORMAT:
        raise _unreadable(path, f"its header says {header.get('format', 'nothing')!r}, not {FORMAT!r}")
    about: dict[str, Any] = json.loads(header["about"])
    return tensors, about


def _unreadable(path: Path, reason: str) -> EngineError:
    return EngineError(
        f"checkpoint cannot be read: {reason}",
        file=str(path),
        why="weights from a damaged or foreign file would make images of nothing",
        fix=f"delete {path.name} to train again, or give the file that this engine wrote",
    )


def flattened(state: Mapping[str, Any], prefix: str) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Return an optimiser's ``state_dict`` as tensors by name, and the rest as JSON can hold it."""
    tensors = {
        f"{prefix}/{number}/{name}": value
        for number, values in state["state"].items()
        for name, value in values.items()
        if isinstance(value, torch.Tensor)
    }
    return tensors, {"param_groups": state["param_groups"]}


def unflattened(tensors: Mapping[str, torch.Tensor], rest: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """Return the ``state_dict`` that `flattened` took apart."""
    state: dict[int, dict[str, torch.Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith(f"{prefix}/"):
            _, number, field = name.rsplit("/", 2)
            state.setdefault(int(number), {})[field] = value
    return {"state": state, "param_groups": rest["param_groups"]}


__all__ = ["flattened", "folder_for", "kept_in", "read_checkpoint", "unflattened", "write_checkpoint"]

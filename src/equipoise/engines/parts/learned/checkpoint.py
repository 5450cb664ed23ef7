"""Checkpoints as safetensors with their description in the header: never a pickle, never half a file."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from equipoise.engines.parts.learned.keeping import folder_for, kept_in
from equipoise.errors import EngineError, WorkspaceFullError

FORMAT = "equipoise-engine-1"


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

    Raises
    ------
    WorkspaceFullError
        The disk is full; nothing is left of what was half written.
    """
    plain = {name: tensor.detach().to("cpu").contiguous().clone() for name, tensor in tensors.items()}
    header = {"format": FORMAT, "about": json.dumps(about, sort_keys=True)}
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(save(plain, header))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise WorkspaceFullError(
            f"no room for a checkpoint of {sum(v.nbytes for v in plain.values()) / 2**20:.0f} MiB",
            file=str(path),
            why="the one before is kept, and the training goes on from it",
            fix="free some space and run the same command again",
        ) from error


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
    try:
        about: dict[str, Any] = json.loads(header["about"])
    except (KeyError, ValueError) as error:
        raise _unreadable(path, "its description is missing or damaged") from error
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

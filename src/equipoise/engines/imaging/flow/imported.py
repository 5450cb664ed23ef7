"""Weights that `equipoise engines import` has written, ready for `flow` to start from."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from equipoise.engines.parts.learned.checkpoint import read_checkpoint
from equipoise.errors import EngineError, UnreadableFileError

PARTS = ("autoencoder", "velocity")
"""Networks that an imported file may hold."""


@dataclass(frozen=True, eq=False)
class Imported:
    """One network of an imported file.

    Parameters
    ----------
    part
        ``"autoencoder"`` or ``"velocity"``.
    file
        That it was read from.
    architecture, tensors
        As `equipoise.engines.imaging.flow.architecture.build` and ``load_state_dict`` take them.
    about
        What the file says of it: ``source``, ``sha256``, ``format``, ``licence``, and of an autoencoder
        ``value_range``, of a velocity ``scale``.
    digest
        SHA-256 of the imported file.
    """

    part: str
    file: Path
    architecture: Mapping[str, Any]
    tensors: Mapping[str, torch.Tensor]
    about: Mapping[str, Any]
    digest: str

    @property
    def value_range(self) -> tuple[float, float]:
        """What an autoencoder knows the darkest and the brightest value as."""
        low, high = self.about["value_range"]
        return float(low), float(high)

    @property
    def latent(self) -> int:
        """Channels of the latents."""
        arguments = self.architecture["with"]
        return int(arguments["latent_channels" if self.part == "autoencoder" else "out_channels"])

    @property
    def scale(self) -> float | None:
        """What latents were multiplied by where a velocity was trained, if the file says so."""
        scale = self.about.get("scale")
        return None if scale is None else float(scale)

    def provenance(self) -> dict[str, str]:
        """Return what every case says of the weights that its engine started from."""
        told = {name: str(self.about[name]) for name in ("source", "sha256", "licence")}
        return {f"{self.part} {name}": value for name, value in told.items()}

    def require_fits(self, ndim: int, channels: int) -> None:
        """Raise `EngineError` unless the network works on images of these axes and with these channels."""
        arguments = self.architecture["with"]
        has = (int(arguments["spatial_dims"]), int(arguments["in_channels"]))
        if has != (ndim, channels):
            what = "images" if self.part == "autoencoder" else "latents"
            raise EngineError(
                f"the imported {self.part} reads {has[0]}-D {what} of {has[1]} channel(s), "
                f"these are {ndim}-D of {channels}",
                file=str(self.file),
                why="its weights have that shape",
                fix=f"leave {self.part} out to train one of your own, or import one that was trained on such {what}",
            )


def read_imported(file: str, part: str) -> Imported:
    """Return one network of an imported file.

    Raises
    ------
    EngineError
        The file is missing, damaged, not written by `equipoise engines import`, or does not hold the network.
    """
    path = Path(file)
    tensors, about = _read(path)
    if part not in about.get("parts", {}):
        held = ", ".join(about.get("parts", {})) or "none of ours"
        raise EngineError(
            f"this file holds no {part} (it holds: {held})",
            file=str(path),
            fix="write one with `equipoise engines import CHECKPOINT --out FILE`, or leave the parameter out",
        )
    own = {name.removeprefix(f"{part}/"): value for name, value in tensors.items() if name.startswith(f"{part}/")}
    described = about["parts"][part]
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return Imported(part, path, described["architecture"], own, described, digest)


def _read(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    if path.suffix != ".safetensors" or not path.is_file():
        raise UnreadableFileError(
            "this is no imported checkpoint" if path.exists() else "there is no such file",
            file=str(path),
            why="`flow` starts from files whose origin and licence are recorded",
            fix="write one with `equipoise engines import CHECKPOINT --out FILE.safetensors`",
        )
    return read_checkpoint(path)


__all__ = ["PARTS", "Imported", "read_imported"]

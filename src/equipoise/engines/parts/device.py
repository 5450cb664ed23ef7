"""The device that an engine computes on: its name checked at once, its presence when it is used."""

from __future__ import annotations

import re
from typing import Any

from equipoise.errors import EngineError, PlanError


def require_device(kind: str, name: str) -> None:
    """Raise `PlanError` unless ``name`` can be a device's; whether it is there is asked when it is used."""
    if not isinstance(name, str) or not re.fullmatch(r"cpu|cuda(:\d+)?", name):
        raise PlanError(
            f"{kind}.device = {name!r} is not known; legal: 'cpu', 'cuda', or one of several as 'cuda:0'",
            fix="set device = 'cpu'",
        )


def device_of(kind: str, name: str) -> Any:
    """Return a torch device, ``"cpu"`` included; `EngineError` if it is not there. Imports torch."""
    import torch

    there = torch.cuda.device_count() if name != "cpu" and torch.cuda.is_available() else 0
    if name != "cpu" and int(name.partition(":")[2] or 0) >= there:
        raise EngineError(
            f"{kind} is set to device {name!r} and PyTorch finds {there or 'no'} CUDA device{'s' * (there != 1)} here",
            fix="set device = 'cpu', or one of the devices that are there, or install a CUDA build of torch",
        )
    return torch.device(name)


__all__ = ["device_of", "require_device"]

"""The encoder that judges a fit, kept with it: a fit that goes on, or is found finished, does not train it again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from equipoise.core import Case, patients_of
from equipoise.engines.parts.learned.checkpoint import read_checkpoint, write_checkpoint
from equipoise.features.encoder import Encoder, Stages, train_encoder

FILE = "encoder.safetensors"


def kept_encoder(
    folder: Path | None, cases: Sequence[Case], rng: np.random.Generator, side: int, steps: int
) -> Encoder:
    """Return the encoder that `train_encoder` makes of these cases, read from a fit's folder if it is there.

    Parameters
    ----------
    folder
        Of this fit and no other: whose fingerprint decides cases and ``rng``. ``None`` keeps nothing.
    cases, rng, side, steps
        As in `train_encoder`.

    Raises
    ------
    EngineError
        The file is damaged.
    """
    path = None if folder is None else folder / FILE
    asked = [side, steps]
    if path is not None and path.exists():
        tensors, about = read_checkpoint(path)
        # A patch that was chosen anew for another amount of memory needs another encoder.
        if about["asked"] == asked:
            with torch.device("meta"):  # no first weights are drawn: they would come from everybody's generator
                net = Stages(about["channels"])
            net.load_state_dict(tensors, assign=True)
            net.eval().requires_grad_(False)
            first, last = about["loss"]
            return Encoder(patients_of(cases), about["side"], about["channels"], net, (first, last))
    encoder = train_encoder(cases, rng, side, steps)
    if path is not None:
        told = {"asked": asked, "side": encoder.side, "channels": encoder.channels, "loss": list(encoder.loss)}
        write_checkpoint(path, encoder.net.state_dict(), told)
    return encoder


__all__ = ["kept_encoder"]

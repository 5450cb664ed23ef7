"""A trained U-Net: prediction on the native grid, and its file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load as tensors_of
from safetensors.torch import save as bytes_of
from torch import nn

from equipoise.core.contracts import FitRecord
from equipoise.core.geometry import Geometry
from equipoise.core.image import Image
from equipoise.core.labels import Label, LabelMap, LabelScheme
from equipoise.errors import DataError, UnreadableFileError
from equipoise.learners.network import (
    Architecture,
    as_input,
    build,
    one_thread,
    require_device,
    set_weights,
    weights_of,
)
from equipoise.learners.normalise import Normaliser, require_numbers
from equipoise.learners.recipe import Device, Recipe
from equipoise.learners.sliding_window import predict_windows

FORMAT = "equipoise-unet-1"
WINDOW_VOXELS = 1 << 18
"""Voxels per call in prediction: enough to keep one thread busy, little enough to stay in its cache."""


@dataclass(frozen=True, slots=True, eq=False)
class TrainedUNet:
    """A U-Net with its weights, and everything needed to use it and to know where it comes from.

    Parameters
    ----------
    scheme
        The labels it predicts.
    architecture
        Of the network.
    recipe
        The values in effect when it was trained.
    normaliser
        Applied to each image before the network.
    parents
        Every patient that the weights, the normaliser or the synthetic training cases were learned from.
    record
        How the training went.
    """

    scheme: LabelScheme
    architecture: Architecture
    recipe: Recipe
    normaliser: Normaliser
    parents: frozenset[str]
    record: FitRecord
    _network: nn.Module = field(repr=False)
    _device: Device = field(default="cpu", repr=False)

    def probability(self, image: Image) -> np.ndarray:
        """Return the probability of each label, float32, shape ``(L, I, J, K)``, on the image's own grid.

        Raises
        ------
        DataError
            Another number of channels or axes than in training, or values that are not numbers.
        """
        self._require_same_kind(image)
        array = self.normaliser(require_numbers(image.array, "the image to predict"))
        window = (*self.recipe.patch, 1)[:3]
        batch = max(WINDOW_VOXELS // int(np.prod(window)), 1)
        self._network.eval()
        with one_thread(self._device):
            return predict_windows(
                array, window, self.recipe.overlap, batch, len(self.scheme.labels), self.probabilities
            )

    def probabilities(self, patches: np.ndarray) -> np.ndarray:
        """Return the network's answer to normalised patches: ``(B, C, I, J, K)`` to ``(B, L, I, J, K)``."""
        device = self._device
        with torch.inference_mode(), torch.autocast(device, torch.bfloat16, enabled=self.recipe.bf16):
            logits = self._network(as_input(patches, self.architecture.ndim, device))
        values: np.ndarray = torch.sigmoid(logits.float()).cpu().numpy()
        return values[..., None] if self.architecture.ndim == 2 else values

    def decide(self, probability: np.ndarray, geometry: Geometry) -> LabelMap:
        """Return the label map that these probabilities amount to, on their grid.

        A voxel has each label whose probability is above one half; of exclusive labels, only the most probable one.
        """
        present = probability > 0.5
        if self.scheme.exclusive:
            present &= np.arange(len(probability))[:, None, None, None] == probability.argmax(0)
        return LabelMap.on(geometry, present.astype(np.uint8), self.scheme)

    def predict(self, image: Image) -> LabelMap:
        """Return the predicted label map on the image's own grid."""
        return self.decide(self.probability(image), image.geometry)

    def weights(self) -> dict[str, torch.Tensor]:
        """Return a copy of the weights by name, on the CPU."""
        return weights_of(self._network)

    def to_bytes(self) -> bytes:
        """Return the model as safetensors with its description as JSON in the header; never a pickle."""
        description = {
            "format": FORMAT,
            "scheme": asdict(self.scheme),
            "architecture": asdict(self.architecture),
            "recipe": asdict(self.recipe),
            "normaliser": {**asdict(self.normaliser), "parents": sorted(self.normaliser.parents)},
            "parents": sorted(self.parents),
            # How long it took is no part of the model: the same training gives the same bytes.
            "record": asdict(replace(self.record, seconds=0.0)),
        }
        weights = self.weights()
        # NaN is legal here (a step without a validation score) and Python's JSON reads it back.
        text = json.dumps(description, sort_keys=True)
        # One key only: safetensors writes several in an order that changes from run to run.
        data: bytes = bytes_of(weights, metadata={"equipoise": _digest(text, weights) + text})
        return data

    @classmethod
    def from_bytes(cls, data: bytes, device: Device = "cpu") -> TrainedUNet:
        """Return the model that `to_bytes` wrote.

        Raises
        ------
        UnreadableFileError
            The bytes are empty, cut off, changed, or not a model of this kind.
        """
        require_device(device)
        try:
            weights = tensors_of(data)
            about = _description(data, weights)
            architecture = Architecture(**_tuples(about["architecture"]))
            network = build(architecture, device)
            set_weights(network, weights)
            return cls(
                scheme=LabelScheme(tuple(Label(**x) for x in about["scheme"]["labels"]), about["scheme"]["exclusive"]),
                architecture=architecture,
                recipe=Recipe(**_tuples(about["recipe"])),
                normaliser=Normaliser(
                    **{**_tuples(about["normaliser"]), "parents": frozenset(about["normaliser"]["parents"])}
                ),
                parents=frozenset(about["parents"]),
                record=FitRecord(**_tuples(about["record"])),
                _network=network.eval(),
                _device=device,
            )
        except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError, IndexError) as error:
            raise UnreadableFileError(
                f"these {len(data)} bytes are not a U-Net written by this program ({type(error).__name__}: {error})",
                why="a model that is cut off or changed would predict something else than what was measured",
                fix="copy the file again, or train the arm again with `equipoise resume`",
            ) from error

    def _require_same_kind(self, image: Image) -> None:
        wanted = (self.architecture.channels_in, self.architecture.ndim)
        got = (image.channels, image.geometry.ndim)
        if got != wanted:
            raise DataError(
                f"the image has {got[0]} channel(s) in {got[1]}-D, the model was trained on {wanted[0]} in "
                f"{wanted[1]}-D",
                fix="give it images of the kind that it was trained on, or train another model",
            )


def _description(data: bytes, weights: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """Return the JSON in the header (8 bytes of length, then the header); `ValueError` if anything was changed."""
    length = int.from_bytes(data[:8], "little")
    stored = json.loads(data[8 : 8 + length])["__metadata__"]["equipoise"]
    digest, text = stored[:64], stored[64:]
    if digest != _digest(text, weights):
        raise ValueError("its content does not have the checksum that was written with it")
    about = json.loads(text)
    if about["format"] != FORMAT:
        raise ValueError(f"format {about['format']!r}, this version reads {FORMAT!r}")
    return dict(about)


def _digest(text: str, weights: Mapping[str, torch.Tensor]) -> str:
    """Return the SHA-256 of description and weights."""
    digest = hashlib.sha256(text.encode())
    for name in sorted(weights):
        digest.update(name.encode())
        digest.update(weights[name].numpy().tobytes())
    return digest.hexdigest()


def _tuples(fields: dict[str, Any]) -> dict[str, Any]:
    """Return the fields with JSON's lists as tuples again."""
    return {name: _tuple(value) for name, value in fields.items()}


def _tuple(value: Any) -> Any:
    return tuple(map(_tuple, value)) if isinstance(value, list) else value

"""The kind ``unet``: a U-Net on patches at native resolution, in two or three dimensions.

`recipe` holds the presets, `task` what a training is about, `patches` how it is fed, `network` the layers and the loss,
`training_loop` the loop, `trained_unet` prediction and the model's file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import nn

from equipoise.core.case import Case
from equipoise.core.contracts import Augment, Predictor
from equipoise.core.mix import TrainingSet
from equipoise.core.registry import parameters
from equipoise.errors import PlanError, TrainingError
from equipoise.learners.network import build, one_thread, require_device, set_weights
from equipoise.learners.recipe import Device, Loss, Norm, Normalise, Recipe, fill
from equipoise.learners.task import Task, require_fair, task_of
from equipoise.learners.trained_unet import TrainedUNet
from equipoise.learners.training_loop import Training


@dataclass(frozen=True)
class UNet:
    """A plain U-Net with a plain training loop.

    Fields left ``None`` take the value of the preset; `recipe` shows them, and the trained model keeps the values in
    effect. Where the labelled structures of the training cases are larger than the preset's patch, an open ``patch``
    grows until it holds them with their surroundings, and an open ``fold`` and ``batch`` keep the cost of a step
    (`equipoise.learners.recipe.with_room`).

    Parameters
    ----------
    preset
        ``"cpu-small"`` trains in seconds on one CPU thread; ``"gpu"`` is a network of nnU-Net's size.
    patch
        Side in voxels, or one length per axis; cut at native spacing. Never longer than the longest image, and rounded
        up to what the network can halve. Left open it follows the extent of the labelled structures.
    batch
        Patches per step.
    fold
        Side of the blocks of voxels that the network treats as one: 1 for the finest detail, 2 is four times as fast
        on slices, 4 suits organs that fill hundreds of pixels (with a larger ``patch``).
    channels
        Width of each level of the network; each level after the first halves the resolution.
    norm
        ``"batch"`` normalises by the statistics of the training images, ``"instance"`` by each image's own: less
        accurate where test images look like training images, more robust where they do not.
    learning_rate
        Peak of a schedule with a short rise and a cosine decay over the steps.
    weight_decay
        Of AdamW (Loshchilov I, Hutter F. 2019. arXiv:1711.05101).
    loss
        ``"dice+bce"``, ``"dice"`` or ``"bce"``.
    foreground
        Share of patches that are placed on foreground, 0 to 1.
    normalise
        ``"image"``: z-score per image; ``"window"``: fixed ``window``, for HU; ``"fitted"``: constants from the
        training cases, whose patients become parents of the model.
    window
        Lower and upper bound in the image's own unit.
    overlap
        Least share of a prediction window that its neighbour covers too.
    bf16
        Convolve in bfloat16 (weights stay float32).
    finetune
        Factor on the learning rate when the training continues from a model.
    device
        ``"cpu"`` or ``"cuda"``.
    """

    kind: ClassVar[str] = "unet"

    preset: Literal["cpu-small", "gpu"] = "cpu-small"
    patch: int | tuple[int, ...] | None = None
    batch: int | None = None
    fold: int | None = None
    channels: tuple[int, ...] | None = None
    norm: Norm | None = None
    learning_rate: float | None = None
    weight_decay: float | None = None
    loss: Loss | None = None
    foreground: float | None = None
    normalise: Normalise | None = None
    window: tuple[float, float] | None = None
    overlap: float | None = None
    bf16: bool | None = None
    finetune: float | None = None
    device: Device | None = None

    def __post_init__(self) -> None:
        # A wrong number must be found when the plan is read, not when the first training starts.
        self.recipe(self._axes())

    def recipe(self, ndim: int) -> Recipe:
        """Return the values in effect for slices (2) or volumes (3).

        Raises
        ------
        PlanError
            A value is out of range, or ``patch`` has another number of axes.
        """
        if ndim not in (2, 3):
            raise PlanError(f"patch must have 2 or 3 lengths, got {self.patch}", fix="give one length for all axes")
        return fill(self._stated(), self.preset, ndim)

    def fit(
        self,
        training: TrainingSet,
        validation: Sequence[Case],
        steps: int,
        rng: np.random.Generator,
        augment: Augment | None = None,
        start: Predictor | None = None,
        select: bool = False,
    ) -> TrainedUNet:
        """Return a U-Net trained for ``steps`` steps; see `equipoise.core.contracts.Learner.fit`.

        On the CPU, the same arguments and the same stream give the same weights, bit for bit.

        Raises
        ------
        DataError, LabelError
            Cases of different kinds, without label maps, or with values that are not numbers.
        LeakageError
            A validation case is a test or a training patient, or ``start`` has seen a patient that it may not.
        PlanError
            ``steps`` below 1, or ``select`` without validation cases.
        TrainingError
            The loss is no longer a number, no labelled voxel was ever drawn, ``start`` does not fit, or no such device.
        """
        order, patches, weights, sample = rng.spawn(4)
        require_fair(training, validation, steps, select, start)
        if start is not None and not isinstance(start, TrainedUNet):
            raise TrainingError(
                f"a U-Net cannot continue from a {type(start).__name__}",
                fix="give `start` a model that a learner of kind 'unet' has trained",
            )
        task = task_of(self.recipe, training, start, self._stated(), sample)
        require_device(task.recipe.device)
        with one_thread(task.recipe.device):
            network = _network(task, start, weights)
            loop = Training(task, network, training.draws(order), patches, augment, training.stream is not None)
            record = loop.run(steps, validation, select)
        return TrainedUNet(
            scheme=task.scheme,
            architecture=task.architecture,
            recipe=task.recipe,
            normaliser=task.normaliser,
            parents=task.parents,
            record=record,
            _network=network,
            _device=task.recipe.device,
        )

    def load(self, data: bytes) -> TrainedUNet:
        """Return the model that `TrainedUNet.to_bytes` wrote, on this learner's device.

        Raises
        ------
        UnreadableFileError
            The bytes are empty, cut off, changed, or not a model of this kind.
        """
        return TrainedUNet.from_bytes(data, self.recipe(self._axes()).device)

    def _stated(self) -> dict[str, Any]:
        """Return the values that the plan states."""
        values = {name: getattr(self, name) for name in parameters(type(self)) if name != "preset"}
        return {name: value for name, value in values.items() if value is not None}

    def _axes(self) -> int:
        return 2 if self.patch is None or isinstance(self.patch, int) else len(self.patch)


def _network(task: Task, start: TrainedUNet | None, rng: np.random.Generator) -> nn.Module:
    """Return a network with fresh weights, or a copy of the one to continue from."""
    device = task.recipe.device
    generator = torch.Generator().manual_seed(int(rng.integers(2**63)))
    network = build(task.architecture, device, generator)
    if start is not None:
        set_weights(network, start.weights())
    return network

"""What networks are built for, and an engine that has been trained."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from equipoise.core import ClassLabel, Image, LabelMap
from equipoise.engines.parts.learned.class_labels import ClassLabels
from equipoise.engines.parts.learned.course import Record, Trainee
from equipoise.engines.parts.learned.examples import Conditions, up_to
from equipoise.engines.parts.learned.intensity import Intensity
from equipoise.engines.parts.learned.presets import Size
from equipoise.engines.parts.learned.prior import Prior
from equipoise.engines.parts.placement import Placement
from equipoise.engines.parts.rendering import Rendered
from equipoise.errors import LabelError
from equipoise.features.encoder import Encoder

STRETCHED = 1.5
"""Sub-labels of a training case are stretched by no more than this: they have a size of their own."""


@dataclass(frozen=True, eq=False)
class Setup:
    """What the networks are built for.

    Parameters
    ----------
    ndim
        2 or 3.
    channels
        Of the images.
    planes
        That they are conditioned on; the last ``sublabels`` of them may be unknown (0).
    sublabels
        See `Conditions`.
    patch
        Voxels along I, J, K.
    size
        Of the networks and the training.
    encoder
        Trained on the training images, for perceptual losses.
    coarser
        Voxels of the image along each side of one voxel of what the sized network works on: more than 1 in a latent
        space.
    spacing
        Of the training images along I, J, K.
    prior
        What is known of patches before anything is learned; ``None`` where training images must not tell it.
    """

    ndim: int
    channels: int
    planes: int
    sublabels: int
    patch: tuple[int, int, int]
    size: Size
    encoder: Encoder
    coarser: int = 1
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)
    prior: Prior | None = None

    @property
    def multiple(self) -> int:
        """What the sides of images must be multiples of."""
        return multiple_of(self.size, self.coarser)


def multiple_of(size: Size, coarser: int) -> int:
    """Return what sides must be multiples of, for a network that folds and halves them ``coarser`` than the image."""
    return coarser * size.fold << (len(size.channels) - 1)


Build = Callable[[Any, Setup, torch.Generator], Trainee]
"""Makes an engine's networks for a setup, with first weights from a generator."""


@contextmanager
def one_thread(device: str) -> Iterator[None]:
    """Compute on one CPU thread inside the block: the same sums in the same order, and fits run side by side."""
    before = torch.get_num_threads()
    if device == "cpu":
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@dataclass(frozen=True, eq=False)
class Learned:
    """A trained engine.

    Parameters
    ----------
    trainee
        Renders, with the weights that were kept.
    setup, intensity, conditions
        What it was built for, and how images and truths become numbers.
    record
        How the training went.
    parents
        The patients.
    modality
        Of their images, where they state it.
    attributes
        Of every case that it makes, such as whose weights it started from.
    classes
        What it makes images of, where the truth of a case is a class.
    """

    trainee: Trainee
    setup: Setup
    intensity: Intensity
    conditions: Conditions
    record: Record
    parents: frozenset[str]
    modality: str | None
    attributes: Mapping[str, str | float] = field(default_factory=dict)
    classes: ClassLabels | None = None

    def render(self, truth: LabelMap | ClassLabel, placement: Placement | None, rng: np.random.Generator) -> Rendered:
        """Return an image with the scale of a random training image, on the label map's grid or that image's."""
        drawing, scaling, placing = rng.spawn(3)
        under, source = None, int(scaling.integers(2**31))
        if isinstance(truth, LabelMap):
            self._require_labels(truth)
            grid, under = truth.geometry, self._under(truth, placement)
        elif self.classes is not None:
            # Of the same class: where each image has a scale of its own, brightness may be what tells classes apart.
            source, grid = self.classes.like(truth, placing)
        planes = self.conditions.of(truth, grid.shape, under).astype(np.float32)
        with one_thread(self.setup.size.device):
            made = self.trainee.render(up_to(planes, self.setup.patch, self.setup.multiple)[None], drawing)[0]
        made = made[:, : grid.shape[0], : grid.shape[1], : grid.shape[2]]
        array = self.intensity.decode(made, source)
        return Rendered(Image.on(grid, array), truth, "learned", self.attributes, self.modality)

    def _under(self, labels: LabelMap, placement: Placement | None) -> np.ndarray | None:
        """Return the sub-label of each voxel, ``None`` where there is no saying.

        A map that comes from no training case, and is as large as theirs, has those of the case that lies most alike.
        """
        tissue = self.conditions.tissue
        if tissue is None:
            return None
        if placement is None or placement.source not in tissue.maps:
            placement = tissue.stretched(labels)
            scale = placement.matrix.diagonal()
            if max(scale.max(), 1 / scale.min()) > STRETCHED:
                return None
        return tissue.sublabels(labels, placement)

    def _require_labels(self, labels: LabelMap) -> None:
        scheme = self.conditions.scheme
        if scheme is None or labels.scheme.names != scheme.names:
            names = scheme.names if scheme else self.conditions.classes
            raise LabelError(
                f"the engine was fitted on the labels {names}, this map has {labels.scheme.names}",
                fix="fit it on cases with the labels that it is to render, or choose an anatomy that draws those",
            )


__all__ = ["Build", "Learned", "Setup", "multiple_of", "one_thread"]

"""Kind ``flow``: images from noise on a straight way, in the latent space of an autoencoder, under a label map."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, ClassVar

import numpy as np

from equipoise.core import Case, LabelMap
from equipoise.engines.imaging.flow.sizes import PRESETS
from equipoise.engines.parts.learned.cost import Cost
from equipoise.engines.parts.learned.presets import require_memory
from equipoise.engines.parts.learned.privacy import refuse_privacy
from equipoise.engines.parts.learned.sampling import anatomy_for, sample_learned
from equipoise.engines.parts.legal import require_anatomy, require_one_of, require_within
from equipoise.errors import PlanError


@dataclass(frozen=True)
class Flow:
    """Latent rectified flow, conditioned on label maps and on sub-labels of what nobody labelled.

    An autoencoder learns first to write images as a grid of latents several times coarser, judged by held-out images
    that must come back from it; then a network learns the velocity of the straight ways from noise to those latents.
    What it works on is small: this is the engine for large images and volumes. Whole ones are made in overlapping tiles
    of latents, blended after every step, and decoded in tiles. Label planes reach the latents' grid voxel by voxel, so
    that structures of one voxel's width are kept.

    Parameters
    ----------
    preset
        ``"cpu-small"``, ``"gpu"`` or ``"gpu-large"``: the values of what is left open below.
    patch, channels, fold, steps, batch, learning_rate, device, bf16, at_once
        As in `equipoise.engines.parts.learned.presets.Size`, of the velocity network; ``fold`` is in latents, ``patch``
        in voxels of the image. Batch, rate, device, precision and ``at_once`` hold for the autoencoder too.
    memory
        GiB that a fit may take at most; 80 % of what is free by default. Where that is too little, arithmetic, patches
        at once and patches give way in this order, unless stated, and every case says what was changed.
    latent_channels, autoencoder_channels, autoencoder_fold, autoencoder_steps
        As in `equipoise.engines.imaging.flow.sizes.Coding`.
    autoencoder, velocity
        Files of `equipoise engines import` to start from. ``autoencoder_steps = 0`` leaves the autoencoder as it is.
    labelled
        Weight of the difference at labelled voxels, each label as much as any other, beside that of all voxels: thin
        structures are what an autoencoder leaves out first.
    perceptual
        Weight of the difference that an encoder trained on the same images sees, beside that of pixels.
    kl
        Weight of the latents' distance from a standard normal distribution.
    times
        Of the way that training sees: ``"logit-normal"``, mostly its middle, or ``"uniform"``.
    sampler, sampling_steps
        ``"euler"`` or ``"heun"``, which calls the network twice in each of the steps that make an image.
    guidance
        1 follows the labels as learned, more exaggerates them, 0 leaves them out.
    unconditional
        Share of training patches whose labels are left out, and again of those whose sub-labels are.
    sublabels
        Classes of unlabelled tissue that the network is told of; 0 tells it the labels only. A label map from no
        training case has those of the one that lies most alike, if it is about as large, else none.
    classes
        Where the truth of the training cases is a class: those to make, with weights or without; by default each as
        often as it was seen.
    privacy
        Is refused: `diffusion` can protect patients.
    anatomy
        Draws the label maps.

    References
    ----------
    Rombach R et al. High-resolution image synthesis with latent diffusion models. CVPR 2022. arXiv:2112.10752. Liu X,
    Gong C, Liu Q. Flow straight and fast. ICLR 2023. arXiv:2209.03003. Guo P et al. MAISI: medical AI for synthetic
    imaging. WACV 2025. arXiv:2409.11169. Ho J, Salimans T. Classifier-free diffusion guidance. 2022. arXiv:2207.12598
    """

    kind: ClassVar[str] = "flow"
    dimensions: ClassVar[tuple[int, ...]] = (2, 3)
    modalities: ClassVar[tuple[str, ...]] = ("any",)
    needs: ClassVar[str] = "Annotated training images, 50 or more; minutes to hours of training."
    renders_labels: ClassVar[bool] = True

    preset: str = "cpu-small"
    patch: int | None = None
    channels: tuple[int, ...] | None = None
    fold: int | None = None
    steps: int | None = None
    batch: int | None = None
    learning_rate: float | None = None
    device: str | None = None
    bf16: bool | None = None
    at_once: int | None = None
    memory: float | None = None
    latent_channels: int | None = None
    autoencoder_channels: tuple[int, ...] | None = None
    autoencoder_fold: int | None = None
    autoencoder_steps: int | None = None
    autoencoder: str | None = None
    velocity: str | None = None
    labelled: float = 1.0
    perceptual: float = 3.0
    kl: float = 1e-3
    times: str = "logit-normal"
    sampler: str = "euler"
    sampling_steps: int = 16
    guidance: float = 1.0
    unconditional: float = 0.1
    sublabels: int = 4
    classes: Mapping[str, float] | tuple[str, ...] | None = None
    privacy: Mapping[str, Any] | None = None
    anatomy: Mapping[str, Any] | str = "warped"
    _anatomy: Any = field(default=None, repr=False, compare=False)
    _learned: Any = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        require_one_of("flow.preset", self.preset, PRESETS)
        require_one_of("flow.sampler", self.sampler, ("euler", "heun"))
        require_one_of("flow.times", self.times, ("logit-normal", "uniform"))
        require_within("flow.sampling_steps", self.sampling_steps, 1, 1000)
        require_within("flow.guidance", self.guidance, 0, 20)
        require_within("flow.unconditional", self.unconditional, 0, 0.9)
        require_within("flow.sublabels", self.sublabels, 0, 32)
        require_within("flow.labelled", self.labelled, 0, 100)
        require_within("flow.perceptual", self.perceptual, 0, 100)
        require_within("flow.kl", self.kl, 0, 1)
        require_memory(self.kind, self.memory)
        refuse_privacy(
            self.kind,
            self.privacy,
            "autoencoder and velocity would each meet every patient, and no accountant here counts both",
        )
        self._require_files()
        require_anatomy(self.anatomy)

    def _require_files(self) -> None:
        if self.velocity and not self.autoencoder:
            raise PlanError(
                "flow.velocity names a file and flow.autoencoder names none",
                why="a velocity is of use in the latent space that it was trained in only",
                fix=f"set autoencoder = {self.velocity!r} too: one import writes both into one file",
            )
        shaped: dict[str, tuple[str, ...]] = {
            "autoencoder": ("latent_channels", "autoencoder_channels", "autoencoder_fold"),
            "velocity": ("channels", "fold"),
        }
        for file, names in shaped.items():
            stated = [name for name in names if getattr(self, name) is not None]
            if getattr(self, file) and stated:
                raise PlanError(
                    f"flow.{stated[0]} is stated, and flow.{file} names a file that states it too",
                    why="imported weights have the shape that they were trained in",
                    fix=f"leave {' and '.join(stated)} out",
                )

    def fit(self, cases: Sequence[Case], rng: np.random.Generator) -> Flow:
        """Return the engine trained on these cases; see `equipoise.engines.imaging.flow.learning.learn_flow`."""
        # Here, not above: `equipoise engines` must list this kind without importing torch.
        from equipoise.engines.imaging.flow.learning import learn_flow

        imaging, shapes = rng.spawn(2)
        # First, so that label maps that cannot be used are refused before the training.
        anatomy = anatomy_for(self, cases, shapes)
        return replace(self, _learned=learn_flow(self, cases, imaging), _anatomy=anatomy)

    def cost(self, cases: Sequence[Case], rng: np.random.Generator) -> Cost:
        """Return what `fit` on these cases takes here at most, from a short probe; nothing is kept of it."""
        from equipoise.engines.imaging.flow.learning import cost_of_flow

        return cost_of_flow(self, cases, rng)

    @property
    def history(self) -> dict[str, Any] | None:
        """How the second training went, as `equipoise.engines.parts.learned.course.Record` has it."""
        return self._learned and asdict(self._learned.record)

    def sample(self, n: int, rng: np.random.Generator, labels: Sequence[LabelMap] | None = None) -> Iterator[Case]:
        """Return an iterator of ``n`` cases under the given label maps in turn, or under the anatomy's."""
        # Options of sampling are this engine's, which may differ from those that it was fitted with.
        learned = self._learned and replace(self._learned, trainee=self._learned.trainee.under(self))
        return sample_learned(self, n, rng, labels, learned)


__all__ = ["Flow"]

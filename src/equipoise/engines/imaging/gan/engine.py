"""Kind ``gan``: images under a label map, learned by a generator from a critic that it tries to deceive."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, ClassVar

import numpy as np

from equipoise.core import Case, LabelMap
from equipoise.engines.parts.learned.cost import Cost
from equipoise.engines.parts.learned.presets import Presets, Size, require_memory
from equipoise.engines.parts.learned.privacy import refuse_privacy
from equipoise.engines.parts.learned.sampling import anatomy_for, sample_learned
from equipoise.engines.parts.legal import require_anatomy, require_one_of, require_within

PRESETS: Presets = {
    "cpu-small": {
        2: Size(64, (32, 64, 128), 2, 2000, 8, 2e-4, "cpu", False),
        3: Size(32, (24, 48, 96), 2, 1500, 4, 2e-4, "cpu", False),
    },
    "gpu": {
        2: Size(256, (64, 128, 256, 256), 2, 40_000, 16, 2e-4, "cuda", False),
        3: Size(128, (32, 64, 128, 256), 2, 40_000, 2, 2e-4, "cuda", False),
    },
    "gpu-large": {
        2: Size(512, (64, 128, 256, 512, 512), 2, 100_000, 16, 1e-4, "cuda", False),
        3: Size(128, (64, 128, 256, 512), 2, 100_000, 4, 1e-4, "cuda", False),
    },
}


@dataclass(frozen=True)
class Gan:
    """Adversarial synthesis under label maps: the labels set scale and shift of every layer of the generator.

    A critic of patches at two scales sees image and labels together; both real and made images reach it moved, cut and
    brightened at random, so that tens of images suffice. One pass makes an image: no engine that learns is faster.

    Parameters
    ----------
    preset
        ``"cpu-small"``, ``"gpu"`` or ``"gpu-large"``: the values of what is left open below.
    patch, channels, fold, steps, batch, learning_rate, device, at_once
        As in `equipoise.engines.parts.learned.presets.Size`; the critic learns twice as fast.
    memory
        GiB that a fit may take at most; 80 % of what is free by default. Where that is too little, arithmetic, patches
        at once and patches give way in this order, unless stated, and every case says what was changed.
    sublabels
        Classes of unlabelled tissue that the generator is told of; 0 tells it the labels only. A label map from no
        training case has those of the one that lies most alike, if it is about as large, else none.
    forget
        Share of training patches whose sub-labels are left out, so that it can do without.
    latent
        Numbers that decide what an image as a whole looks like; grain has noise of its own at every scale.
    feature_matching
        Weight of the distance between the critic's features of real and made images.
    gradient_penalty
        Weight of the squared gradient of the critic at real images (R1), at every 16th step.
    augment
        Chance that each random change is made to what the critic sees.
    classes
        Where the truth of the training cases is a class: those to make, with weights or without; by default each as
        often as it was seen.
    privacy
        Is refused: `diffusion` can protect patients.
    anatomy
        Draws the label maps.

    References
    ----------
    Park T et al. Semantic image synthesis with spatially-adaptive normalization. CVPR 2019. arXiv:1903.07291. Wang TC
    et al. High-resolution image synthesis and semantic manipulation with conditional GANs. CVPR 2018. arXiv:1711.11585.
    Lim JH, Ye JC. Geometric GAN (hinge loss). 2017. arXiv:1705.02894. Mescheder L, Geiger A, Nowozin S. Which training
    methods for GANs do actually converge? (R1). ICML 2018. arXiv:1801.04406. Zhao S et al. Differentiable augmentation
    for data-efficient GAN training. NeurIPS 2020. arXiv:2006.10738
    """

    kind: ClassVar[str] = "gan"
    dimensions: ClassVar[tuple[int, ...]] = (2, 3)
    modalities: ClassVar[tuple[str, ...]] = ("any",)
    needs: ClassVar[str] = "Annotated training images, 30 or more; minutes to hours of training."
    renders_labels: ClassVar[bool] = True

    preset: str = "cpu-small"
    patch: int | None = None
    channels: tuple[int, ...] | None = None
    fold: int | None = None
    steps: int | None = None
    batch: int | None = None
    learning_rate: float | None = None
    device: str | None = None
    at_once: int | None = None
    memory: float | None = None
    sublabels: int = 4
    forget: float = 0.1
    latent: int = 16
    feature_matching: float = 10.0
    gradient_penalty: float = 1.0
    augment: float = 0.5
    classes: Mapping[str, float] | tuple[str, ...] | None = None
    privacy: Mapping[str, Any] | None = None
    anatomy: Mapping[str, Any] | str = "warped"
    _anatomy: Any = field(default=None, repr=False, compare=False)
    _learned: Any = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        require_one_of("gan.preset", self.preset, PRESETS)
        require_within("gan.sublabels", self.sublabels, 0, 32)
        require_within("gan.forget", self.forget, 0, 1)
        require_within("gan.latent", self.latent, 1, 1024)
        require_within("gan.feature_matching", self.feature_matching, 0, 1000)
        require_within("gan.gradient_penalty", self.gradient_penalty, 0, 1000)
        require_within("gan.augment", self.augment, 0, 1)
        require_memory(self.kind, self.memory)
        refuse_privacy(
            self.kind,
            self.privacy,
            "each patient would meet the critic and the generator in one step, and no accountant here counts both",
        )
        require_anatomy(self.anatomy)

    def fit(self, cases: Sequence[Case], rng: np.random.Generator) -> Gan:
        """Return the engine trained on these cases; see `equipoise.engines.parts.learned.fitting.learn`."""
        # Here, not above: `equipoise engines` must list this kind without importing torch.
        from equipoise.engines.imaging.gan.adversaries import Adversaries
        from equipoise.engines.parts.learned.fitting import learn

        imaging, shapes = rng.spawn(2)
        # First, so that label maps that cannot be used are refused before the training.
        anatomy = anatomy_for(self, cases, shapes)
        return replace(self, _learned=learn(self, cases, imaging, PRESETS, Adversaries.of), _anatomy=anatomy)

    def cost(self, cases: Sequence[Case], rng: np.random.Generator) -> Cost:
        """Return what `fit` on these cases takes here at most, from a short probe; nothing is kept of it."""
        from equipoise.engines.imaging.gan.adversaries import Adversaries
        from equipoise.engines.parts.learned.probe import cost_of

        return cost_of(self, cases, rng, PRESETS, Adversaries.of)

    @property
    def history(self) -> dict[str, Any] | None:
        """How the training went, as `equipoise.engines.parts.learned.course.Record` has it; ``None`` before `fit`."""
        return self._learned and asdict(self._learned.record)

    def sample(self, n: int, rng: np.random.Generator, labels: Sequence[LabelMap] | None = None) -> Iterator[Case]:
        """Return an iterator of ``n`` cases under the given label maps in turn, or under the anatomy's."""
        return sample_learned(self, n, rng, labels, self._learned)


__all__ = ["Gan"]

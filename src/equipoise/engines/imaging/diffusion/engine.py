"""Kind ``diffusion``: images from noise, denoised step by step under a label map."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, ClassVar

import numpy as np

from equipoise.core import Case, LabelMap
from equipoise.engines.parts.learned.cost import Cost
from equipoise.engines.parts.learned.presets import Presets, Size, require_memory
from equipoise.engines.parts.learned.privacy import Privacy
from equipoise.engines.parts.learned.sampling import anatomy_for, sample_learned
from equipoise.engines.parts.legal import require_anatomy, require_one_of, require_within

PRESETS: Presets = {
    "cpu-small": {
        2: Size(64, (64, 64, 64, 128), 2, 3000, 8, 2e-3, "cpu"),
        3: Size(32, (48, 64, 128), 2, 2000, 4, 2e-3, "cpu"),
    },
    "gpu": {
        2: Size(256, (64, 128, 256, 256), 2, 40_000, 16, 2e-4, "cuda"),
        3: Size(128, (32, 64, 128, 256), 2, 40_000, 2, 2e-4, "cuda"),
    },
    "gpu-large": {
        2: Size(512, (128, 256, 256, 512), 2, 100_000, 16, 1e-4, "cuda"),
        3: Size(128, (64, 128, 256, 512), 2, 100_000, 4, 1e-4, "cuda"),
    },
}


@dataclass(frozen=True)
class Diffusion:
    """Denoising diffusion, conditioned on label maps and on sub-labels of what nobody labelled.

    Velocity is predicted on a cosine schedule; labels are left out at random while it trains, so that sampling can be
    guided towards them. Whole images are denoised in overlapping tiles, blended after every step.

    Parameters
    ----------
    preset
        ``"cpu-small"``, ``"gpu"`` or ``"gpu-large"``: the values of what is left open below.
    patch, channels, fold, steps, batch, learning_rate, device, bf16, at_once
        As in `equipoise.engines.parts.learned.presets.Size`.
    memory
        GiB that a fit may take at most; 80 % of what is free by default. Where that is too little, arithmetic, patches
        at once and patches give way in this order, unless stated, and every case says what was changed.
    sublabels
        Classes of unlabelled tissue that the network is told of; 0 tells it the labels only. A label map from no
        training case has those of the one that lies most alike, if it is about as large, else none.
    sampler, sampling_steps
        ``"dpm++"`` or ``"ddim"``, and how many calls of the network make an image.
    guidance
        1 follows the labels as learned, 0 leaves them out; more leads farther from images without them.
    unconditional
        Share of training patches whose labels are left out, and again of those whose sub-labels are.
    classes
        Where the truth of the training cases is a class: those to make, with weights or without; by default each as
        often as it was seen.
    privacy
        ``{epsilon = 8, delta = 1e-5}`` protects each patient by that much; see
        `equipoise.engines.parts.learned.privacy.Privacy`. ``batch`` is then the patients expected in a step, sub-labels
        are not used, all steps are taken, and no two fits are the same. Taken as known to all: the patients' number and
        pseudonyms, which every case names as parents, and the images' sizes, spacing and type.
    anatomy
        Draws the label maps.

    References
    ----------
    Ho J, Jain A, Abbeel P. Denoising diffusion probabilistic models. NeurIPS 2020. arXiv:2006.11239. Ho J, Salimans T.
    Classifier-free diffusion guidance. 2022. arXiv:2207.12598. Hoogeboom E, Heek J, Salimans T. simple diffusion
    (blocks of pixels as channels). ICML 2023. arXiv:2301.11093
    """

    kind: ClassVar[str] = "diffusion"
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
    bf16: bool | None = None
    at_once: int | None = None
    memory: float | None = None
    sublabels: int = 4
    sampler: str = "dpm++"
    sampling_steps: int = 16
    guidance: float = 1.0
    unconditional: float = 0.1
    classes: Mapping[str, float] | tuple[str, ...] | None = None
    privacy: Mapping[str, Any] | None = None
    anatomy: Mapping[str, Any] | str = "warped"
    _anatomy: Any = field(default=None, repr=False, compare=False)
    _learned: Any = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        require_one_of("diffusion.preset", self.preset, PRESETS)
        require_one_of("diffusion.sampler", self.sampler, ("dpm++", "ddim"))
        require_within("diffusion.sampling_steps", self.sampling_steps, 2, 1000)
        require_within("diffusion.guidance", self.guidance, 0, 20)
        require_within("diffusion.unconditional", self.unconditional, 0, 0.9)
        require_within("diffusion.sublabels", self.sublabels, 0, 32)
        require_memory(self.kind, self.memory)
        Privacy.of(self.kind, self.privacy)
        require_anatomy(self.anatomy)

    def fit(self, cases: Sequence[Case], rng: np.random.Generator) -> Diffusion:
        """Return the engine trained on these cases; see `equipoise.engines.parts.learned.fitting.learn`."""
        # Here, not above: `equipoise engines` must list this kind without importing torch.
        from equipoise.engines.imaging.diffusion.denoiser import Denoiser
        from equipoise.engines.parts.learned.fitting import learn

        imaging, shapes = rng.spawn(2)
        # First, so that label maps that cannot be used are refused before the training.
        anatomy = anatomy_for(self, cases, shapes)
        return replace(self, _learned=learn(self, cases, imaging, PRESETS, Denoiser.of), _anatomy=anatomy)

    def cost(self, cases: Sequence[Case], rng: np.random.Generator) -> Cost:
        """Return what `fit` on these cases takes here at most, from a short probe; nothing is kept of it."""
        from equipoise.engines.imaging.diffusion.denoiser import Denoiser
        from equipoise.engines.parts.learned.probe import cost_of

        return cost_of(self, cases, rng, PRESETS, Denoiser.of)

    @property
    def history(self) -> dict[str, Any] | None:
        """How the training went, as `equipoise.engines.parts.learned.course.Record` has it; ``None`` before `fit`."""
        return self._learned and asdict(self._learned.record)

    def sample(self, n: int, rng: np.random.Generator, labels: Sequence[LabelMap] | None = None) -> Iterator[Case]:
        """Return an iterator of ``n`` cases under the given label maps in turn, or under the anatomy's."""
        # Options of sampling are this engine's, which may differ from those that it was fitted with.
        learned = self._learned and replace(self._learned, trainee=self._learned.trainee.under(self))
        return sample_learned(self, n, rng, labels, learned)


__all__ = ["Diffusion"]

"""Kind ``learned``: label maps that no patient has, from a generative model of the training patients' maps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import ClassVar

import numpy as np

from equipoise.core import Case, LabelMap
from equipoise.core.registry import require_types
from equipoise.engines.anatomy.learned.learning import Learned, learn
from equipoise.engines.parts.device import require_device
from equipoise.engines.parts.legal import require_one_of, require_within
from equipoise.engines.parts.training_maps import TrainingMap, TrainingMaps
from equipoise.errors import EngineError, PlanError

MODELS = ("auto", "pca", "diffusion")


@dataclass(frozen=True)
class LearnedAnatomy:
    """Label maps drawn from a generative model, so that nobody's own mask is used again.

    Structures are brought to one centre and size, described by signed distances on a working grid of bounded size, and
    drawn on the grid of a training map at its own spacing. Shape, size and place vary together as in the training maps;
    a label that some maps lack is lacking as often. Drawn maps whose topology or sizes lie outside of what the training
    maps have are redrawn and counted, and so are copies.

    Parameters
    ----------
    model
        ``"pca"``, principal components of signed distances, for a few dozen maps of organs; ``"diffusion"``, a small
        network, for hundreds, and for crops of vessels or nuclei; ``"auto"``, by number: diffusion from 100 cases on,
        unless principal components follow held-out maps to a Dice of 0.85 (they then draw better, and much faster).
    variance
        Share of the variance that the principal components explain.
    spread
        Standard deviations that shape, size and place may be away from their mean; 0 draws the mean. The diffusion
        holds size and place to it, its shapes are as varied as the training maps.
    resolution
        Points along the working grid's longest side; 0: 96 (2-D) or 40 (3-D) for ``"pca"``, 32 or 24 for
        ``"diffusion"``.
    align
        Whether structures are moved to one centre and size first; off for maps of one place, and for crops.
    tolerance
        Robust standard deviations by which sizes, extents, places and overlaps may leave the training maps' range.
    attempts
        Maps drawn for one that is kept, at most.
    patch, foreground
        Side of a patch in voxels (0: whole maps), and the share of patches around a labelled voxel. ``"pca"`` cuts
        drawn maps, ``"diffusion"`` learns cut ones.
    channels, steps, batch, learning_rate
        Of the diffusion's network and training; ``steps`` 0 is 1500 in 2-D and 800 in 3-D.
    sampling_steps
        Calls of the network per drawn map.
    device
        ``"cpu"`` or ``"cuda"``, for the training; maps are drawn on the CPU.

    References
    ----------
    Leventon ME, Grimson WEL, Faugeras O. Statistical shape influence in geodesic active contours. CVPR 2000.
    doi:10.1109/CVPR.2000.855835. Cootes TF, Taylor CJ, Cooper DH, Graham J. Active shape models: their training and
    application. CVIU 1995. doi:10.1006/cviu.1995.1004. Ho J, Jain A, Abbeel P. Denoising diffusion probabilistic
    models. NeurIPS 2020. arXiv:2006.11239
    """

    kind: ClassVar[str] = "learned"

    model: str = "auto"
    variance: float = 0.95
    spread: float = 2.0
    resolution: int = 0
    align: bool = True
    tolerance: float = 1.0
    attempts: int = 50
    patch: int = 0
    foreground: float = 0.5
    channels: tuple[int, ...] = (32, 64)
    steps: int = 0
    batch: int = 8
    learning_rate: float = 1e-3
    sampling_steps: int = 16
    device: str = "cpu"
    _learned: Learned | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        require_one_of("learned.model", self.model, MODELS)
        require_types(self)
        for name, low, high in (
            ("variance", 0.1, 1),
            ("spread", 0, 4),
            ("tolerance", 0, 100),
            ("attempts", 1, 10_000),
            ("patch", 0, 4096),
            ("foreground", 0, 1),
            ("steps", 0, 10_000_000),
            ("batch", 1, 4096),
            ("learning_rate", 1e-8, 1),
            ("sampling_steps", 2, 1000),
        ):
            require_within(f"learned.{name}", getattr(self, name), low, high)
        if self.resolution:
            require_within("learned.resolution", self.resolution, 12, 512, "points, or 0 for the usual")
        if not 1 < len(self.channels) < 6 or any(c < 8 or c % 8 for c in self.channels):
            raise PlanError(
                f"learned.channels = {list(self.channels)} is not possible; legal: two to five multiples of 8",
                fix="set channels = [32, 64]",
            )
        require_device("learned", self.device)

    @property
    def parents(self) -> frozenset[str]:
        """The training patients."""
        return self._learned.parents if self._learned else frozenset()

    @property
    def provenance(self) -> Mapping[str, str | float]:
        """How it was fitted: the model that was chosen, its working grid, and how well held-out maps are followed."""
        return MappingProxyType(self._fitted().about)

    @property
    def rejected(self) -> Mapping[str, int]:
        """Of the maps drawn since the fit: how many were kept, how many redrawn, and which rules those broke."""
        tally = self._fitted().tally
        return {"kept": tally.kept, "rejected": tally.rejected, **dict(tally.reasons.most_common())}

    def nearest(self, labels: LabelMap) -> tuple[str, float]:
        """Return the training case whose map is nearest to a whole map, and the Dice between them."""
        return self._fitted().known.nearest(labels)

    def fit(self, cases: Sequence[Case], rng: np.random.Generator) -> LearnedAnatomy:
        """Return an anatomy that has learned the label maps of these cases.

        Raises
        ------
        DataError, LabelError, GeometryMismatchError
            Fewer than three maps, all of them empty, a label that none shows, flat maps among volumes, mm among pixels,
            or shapes that this model cannot learn.
        EngineError
            The training failed, or what it draws is not like the training maps.
        """
        return replace(self, _learned=learn(self, cases, rng))

    def draw(self, n: int, rng: np.random.Generator) -> Iterator[LabelMap]:
        """Yield ``n`` label maps.

        Raises `EngineError` before `fit`, and if too many maps in a row are not like the training maps.
        """
        learned = self._fitted()
        for _ in range(n):
            (stream,) = rng.spawn(1)
            labels = learned.draw(stream, self.spread, self.attempts, learned.tally)
            yield self._cut(labels, stream)

    def _cut(self, labels: LabelMap, rng: np.random.Generator) -> LabelMap:
        """Return a patch of a whole map where patches are asked for and the model did not learn them as such."""
        if not self.patch or self.provenance["model"] == "diffusion":
            return labels
        drawn = TrainingMap("drawn", labels, np.argwhere(labels.masks().any(axis=0)))
        return TrainingMaps((drawn,), frozenset()).draw(self.patch, self.foreground, rng).placed()[0]

    def _fitted(self) -> Learned:
        if self._learned is None:
            raise EngineError(
                "anatomy 'learned' was not fitted, so it has seen no label map",
                fix="fit the engine on training cases first (a plan does), or choose a procedural anatomy",
            )
        return self._learned


__all__ = ["LearnedAnatomy"]

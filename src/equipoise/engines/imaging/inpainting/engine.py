"""Kind ``inpainting``: lesions in real images, made by a denoising engine under a lesion mask."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from inspect import signature
from typing import Any, ClassVar

import numpy as np

from equipoise.core import Case, Image, LabelMap, patients_of
from equipoise.core.registry import make, parameters, require_types
from equipoise.engines.imaging.inpainting.drawing import Inset, LesionMaps, anatomy_for
from equipoise.engines.imaging.inpainting.grounds import Grounds, lesion_names, lesions_in
from equipoise.engines.imaging.inpainting.painting import Painter
from equipoise.engines.imaging.inpainting.places import Places
from equipoise.engines.imaging.inpainting.scales import with_room_for_lesions
from equipoise.engines.parts.learned.cost import Cost
from equipoise.engines.parts.legal import require_anatomy, require_one_of, require_range, require_within
from equipoise.engines.parts.placement import Placement
from equipoise.engines.parts.rendering import Rendered, render_cases
from equipoise.errors import EngineError, PlanError


def _diffusion() -> dict[str, Any]:
    return {"kind": "diffusion"}


@dataclass(frozen=True, eq=False)
class Learned:
    """What was fitted: the painter, the training cases, and what draws lesions into them."""

    painter: Painter
    grounds: Grounds
    maps: LesionMaps
    parents: frozenset[str]


@dataclass(frozen=True)
class Inpainting:
    """Lesions in real training images that show none: only they and a margin around them are made.

    A denoising engine learns the training images under their labels. To make a case, a training image without lesions
    is chosen, lesions are set into its label map in tissue and at places like those of the training lesions, and the
    engine makes the tissue there from noise while the rest is held to what the image shows. Outside of lesions and
    margin the image stays the real one, bit by bit; the truth is the real one and the new lesions.

    What is made this way shows real patients: where their images may not go, these may not either.

    Parameters
    ----------
    engine
        What paints: a specification of a kind that makes images from noise in steps, ``"diffusion"`` or ``"flow"``.
    labels
        Which labels are lesions; may be left out where there is one label only. Several may make up one lesion.
    lesions
        Anatomy that draws the lesions' masks. By default the training lesions, deformed. Lesions that an anatomy draws
        on a training image's own label map (``{kind = "lesion", base = "real", label = ...}``) stay where it put them;
        all others are moved to places like those of the training lesions.
    count
        Smallest and largest number of lesions in an image; by default as many as the anatomy draws.
    into
        ``"healthy"``: into training images without lesions, and where there are none into healthy places of the others;
        ``"any"``: into all of them.
    margin
        Width of the new tissue around a lesion, in the images' unit (mm or px): its inner half is new, the outer
        half a blend. 4 voxels by default; 0 cuts sharply.
    context
        Voxels of the real image around all that which the network sees, at the least.
    resample
        How often each stretch of the way from noise is gone (RePaint's jumps). More fits a lesion better into its
        surroundings and takes as many times longer.

    References
    ----------
    Lugmayr A et al. RePaint: inpainting using denoising diffusion probabilistic models. CVPR 2022. arXiv:2201.09865.
    """

    kind: ClassVar[str] = "inpainting"
    dimensions: ClassVar[tuple[int, ...]] = (2, 3)
    modalities: ClassVar[tuple[str, ...]] = ("any",)
    needs: ClassVar[str] = "Annotated training images with and without lesions, 30 or more; minutes to hours."
    renders_labels: ClassVar[bool] = True
    keeps_pixels: ClassVar[bool] = True

    engine: Mapping[str, Any] | str = field(default_factory=_diffusion)
    labels: tuple[str, ...] = ()
    lesions: Mapping[str, Any] | str = "warped"
    count: tuple[int, int] | None = None
    into: str = "healthy"
    margin: float | None = None
    context: int = 8
    resample: int = 4
    _learned: Learned | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        require_types(self)
        require_anatomy(self.lesions, "inpainting.lesions")
        require_one_of("inpainting.into", self.into, ("healthy", "any"))
        require_within("inpainting.context", self.context, 0, 512, "voxels")
        require_within("inpainting.resample", self.resample, 1, 50)
        if self.margin is not None:
            require_within("inpainting.margin", self.margin, 0, 500)
        if self.count is not None:
            require_range("inpainting.count", self.count, 1, 1000)
        inner = make("engines", self.engine)
        if "sampling_steps" not in parameters(type(inner)):
            raise _cannot_keep(inner.kind)
        if getattr(inner, "privacy", None):
            raise PlanError(
                "inpainting.engine.privacy protects nobody: all but the lesions is a patient's own image",
                why="differential privacy of a network is lost where real pixels are copied beside what it makes",
                fix=f'leave out privacy, or use {{kind = "{inner.kind}", privacy = ...}} by itself, which makes whole '
                "images",
            )

    def fit(self, cases: Sequence[Case], rng: np.random.Generator) -> Inpainting:
        """Return the engine trained on these cases.

        Raises
        ------
        LabelError, PlanError, DataError
            If it is not clear which labels are lesions, or no case shows one.
        EngineError
            If drawn lesions find no place, or the inner engine cannot keep what is given.
        """
        names = lesion_names(cases, self.labels)
        grounds = Grounds.of(cases, names, self.into)
        painting, shapes, trying = rng.spawn(3)
        anatomy, parents = anatomy_for(self.lesions, grounds, shapes), patients_of(cases)
        maps = LesionMaps(anatomy, grounds, Places.of(grounds.every, names, None), self.count, parents)
        # Lesions that fit nowhere are refused now, not after the training.
        next(maps.draw_placed(1, trying))
        inner = make("engines", self.engine).fit(cases, painting)
        learned = inner._learned
        if "given" not in signature(learned.trainee.render).parameters:
            raise _cannot_keep(inner.kind)
        maps = replace(maps, places=Places.of(grounds.every, names, learned.conditions.tissue))
        intensity = with_room_for_lesions(learned.intensity, grounds.every, names)
        painter = Painter(learned, intensity, self.margin, self.context, self.resample)
        return replace(self, _learned=Learned(painter, grounds, maps, parents))

    def cost(self, cases: Sequence[Case], rng: np.random.Generator) -> Cost:
        """Return what `fit` on these cases takes here at most: what the inner engine's training does."""
        cost: Cost = make("engines", self.engine).cost(cases, rng)
        return cost

    def sample(self, n: int, rng: np.random.Generator, labels: Sequence[LabelMap] | None = None) -> Iterator[Case]:
        """Return an iterator of ``n`` cases with lesions as drawn, or under the given label maps in turn.

        A given map is rendered on the training image that shows the same beside the map's lesions.

        Raises
        ------
        EngineError
            If the engine was not fitted, a given map fits no training image, or drawn lesions find no place.
        LabelError
            If a given map has other labels, or shows no lesion.
        """
        if self._learned is None:
            raise EngineError(
                "inpainting was not fitted, so it has no image to paint into",
                fix="fit it on training cases first (a plan does)",
            )
        learned = self._learned
        return render_cases(self, n, rng, labels, learned.maps, learned.parents, partial(_render, learned))


def _render(learned: Learned, labels: LabelMap, placement: Placement | None, rng: np.random.Generator) -> Rendered:
    """Return a training image with the lesions of a label map."""
    choosing, painting = rng.spawn(2)
    grounds, names = learned.grounds, learned.grounds.names
    drawn = grounds.named(placement.source) if isinstance(placement, Inset) else None
    ground = drawn or grounds.under(labels, choosing)
    new = lesions_in(labels, names)
    if drawn:
        new &= ~lesions_in(ground.case.labels, names)
    array = learned.painter.painted(ground, labels, new, painting)
    image = Image.on(labels.geometry, array)
    told = {**learned.painter.learned.attributes, **_told(ground.case, placement, new)}
    return Rendered(image, labels, "inpainted", told, ground.case.modality)


def _told(case: Case, placement: Placement | None, new: np.ndarray) -> dict[str, str | float]:
    """Return what a report tells of a painted case."""
    told: dict[str, str | float] = {
        "background": case.id,
        "background patient": case.patient,
        "new lesion voxels": float(new.sum()),
    }
    if isinstance(placement, Inset):
        told |= {"lesions set in": float(placement.lesions), "mask drawn from": placement.drawn_from or "no case"}
    else:
        told["mask drawn from"] = "given"
    return told


def _cannot_keep(kind: str) -> EngineError:
    return EngineError(
        f"inpainting: {kind!r} cannot keep a part of an image and make the rest around it",
        why="an engine that does not go from noise to image in steps has nowhere to hold the background in",
        fix='paint with engine = {kind = "diffusion"} or {kind = "flow"}',
    )


__all__ = ["Inpainting"]

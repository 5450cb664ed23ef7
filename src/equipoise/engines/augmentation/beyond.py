"""The engine that goes beyond the augmentation inside every arm."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from itertools import islice
from typing import ClassVar

import numpy as np

from equipoise.core import Case, Image, LabelMap, Origin, patients_of, rng_for
from equipoise.core.registry import canonical, spec_of
from equipoise.engines.augmentation import looks
from equipoise.engines.augmentation.carving import carve_in
from equipoise.engines.augmentation.lesions import Lesions, copy_in, find_lesions
from equipoise.engines.augmentation.mixing import Window, may_exchange, set_in
from equipoise.engines.augmentation.source import (
    Source,
    cut,
    longest_side,
    named_after,
    placed,
    require_alike,
    restain,
    restore,
    roomy,
)
from equipoise.engines.augmentation.tissue import Tissue, dress_labels, dress_tissue, learn
from equipoise.engines.parts.appearance import blur
from equipoise.engines.parts.warp import SAFE_2D, SAFE_3D, node_counts, warp
from equipoise.errors import EngineError, PlanError

DONORS = 4
"""Cases from which a carved region is tried, and lesions of which a copy is tried."""


@dataclass(frozen=True)
class Augmentation:
    """Training cases with another look, another shape and parts of one another.

    Every synthetic case is a real one, cut, mixed with a second, deformed, and given new grey values: for each tissue
    and each label on its own, then by a curve, colour, shading, sharpness, voxel size and grain. Labels, instance
    numbers and ignored voxels move with the image. The result keeps the case's number type and range of values.

    Two settings are worth starting from. ``strength = 0.3`` stays near the training site. ``strength = 1.0`` is domain
    randomisation: on four fundus photographs it lost .013 Dice inside their site and gained .088 at an unseen one.

    Parameters
    ----------
    strength
        From 0 (a copy) to 1; multiplies all amounts below, which are those at strength 1. Each ``p_`` is the
        probability that its change happens to a case.
    tissue, p_tissue
        SD of the change of each sub-label's mean, as a part of the image's range, and of the logarithm of its contrast.
        What is as dark as the image gets (air, the surround of a photograph) changes with the square of ``strength``.
    structure, p_structure
        SD of the change of each label's contrast, as a part of that contrast.
    curve, p_curve
        Share of a random grey-value curve, from 0 to 1.
    folding
        Probability (times the square of ``strength``) that such a curve may fall, so that tissues swap their order.
    colour, p_colour
        Hue, saturation and mixing of colours; 1 is up to 45 degrees. For images of three channels only.
    stain, p_stain
        Change of both stains' concentrations, 1 is by up to 1.6 times; for stained sections in three channels only.
    bias, p_bias
        SD of the logarithm of a smooth shading.
    sharpen, p_sharpen
        Times that the finest detail is added, up to.
    blur, p_blur
        Largest SD of a blur, in mm (px where the image has no mm).
    resolution, p_resolution
        Voxels up to ``1 + resolution`` times as large, in half of the cases along one axis only.
    texture, p_texture
        Largest SD of noise, as a part of the image's range.
    grain
        Largest correlation length of that noise, in mm (or px).
    elastic, p_elastic
        Largest displacement of a control node, as a part of the limit at which tissue folds; below 1. Nodes are an
        eighth to a third of the image's longest side apart.
    mixing, p_mixing
        Radius of a part of another case, as a part of the image's shortest side (its area, not its radius, grows with
        ``strength``). Set ``p_mixing = 0`` where a structure is one of a kind and is measured whole, such as a head.
    carving, p_carving
        Farthest edge of a region carved out of another case along ``lesion`` (all labels, if that is empty), in units
        of the label's depth; 0 is never. See `carving`.
    lesion, p_lesion
        Label of which single instances are copied into tissue where such lesions occur, seamlessly; empty is never.
    lesion_zoom, lesion_turn
        It is up to ``1 + lesion_zoom`` times as large or as small, and turned by up to that many degrees.
    clusters
        Sub-labels of the unlabelled tissue that are estimated from the training images.
    patch
        Side in voxels of the cases made, cut before the work is done; 0 is the whole image.
    foreground
        With ``patch``, the share of patches around a labelled voxel.

    Raises
    ------
    PlanError
        A parameter out of its range.

    References
    ----------
    Billot B, et al. SynthSeg. Medical Image Analysis 2023. doi:10.1016/j.media.2023.102789

    Ouyang C, Chen C, Li S, et al. Causality-inspired single-source domain generalization for medical image
    segmentation. IEEE TMI 2023;42:1095-1106. doi:10.1109/TMI.2022.3224067
    """

    kind: ClassVar[str] = "augmentation"
    dimensions: ClassVar[tuple[int, ...]] = (2, 3)
    modalities: ClassVar[tuple[str, ...]] = ("any",)
    needs: ClassVar[str] = "At least one annotated training case; two or more for region mixing."
    renders_labels: ClassVar[bool] = False

    strength: float = 0.3
    tissue: float = 0.25
    p_tissue: float = 0.5
    structure: float = 0.7
    p_structure: float = 0.5
    curve: float = 1.0
    p_curve: float = 0.7
    folding: float = 0.5
    colour: float = 1.0
    p_colour: float = 0.7
    stain: float = 0.0
    p_stain: float = 0.7
    bias: float = 0.4
    p_bias: float = 0.4
    sharpen: float = 1.5
    p_sharpen: float = 0.2
    blur: float = 1.5
    p_blur: float = 0.2
    resolution: float = 2.0
    p_resolution: float = 0.3
    texture: float = 0.1
    p_texture: float = 0.5
    grain: float = 1.5
    elastic: float = 0.9
    p_elastic: float = 0.7
    mixing: float = 0.3
    p_mixing: float = 0.3
    carving: float = 0.0
    p_carving: float = 0.5
    lesion: str = ""
    p_lesion: float = 0.7
    lesion_zoom: float = 0.5
    lesion_turn: float = 180.0
    clusters: int = 4
    patch: int = 0
    foreground: float = 0.5
    _sources: tuple[Source, ...] = field(default=(), repr=False, compare=False)
    _tissue: Tissue | None = field(default=None, repr=False, compare=False)
    _lesions: Lesions | None = field(default=None, repr=False, compare=False)
    _parents: frozenset[str] = field(default=frozenset(), repr=False, compare=False)

    def __post_init__(self) -> None:
        shares = {"strength", "curve", "elastic", "foreground", "folding"}
        for name in (f.name for f in fields(self) if not f.name.startswith("_") and f.name != "lesion"):
            value, top = getattr(self, name), 360.0 if name == "lesion_turn" else math.inf
            if name in shares or name.startswith("p_"):
                top = 1.0
            if not 0 <= value <= top or math.isinf(value):
                limit = "0 or more" if math.isinf(top) else f"a number from 0 to {top:.0f}"
                raise PlanError(f"augmentation.{name} must be {limit}, got {value!r}", fix=f"set {name} to {limit}")
        if self.clusters < 1:
            raise PlanError("augmentation.clusters must be 1 or more: the unlabelled tissue is at least one")
        if 0 < self.patch < 8:
            raise PlanError(f"augmentation.patch must be 0 (the whole image) or at least 8 voxels, got {self.patch}")

    def fit(self, cases: Sequence[Case], rng: np.random.Generator) -> Augmentation:
        """Return the engine with these cases, their grey-value ranges and their tissues.

        Parameters
        ----------
        cases
            Annotated (labels or a class), with one number of channels and one label scheme.
        rng
            Chooses the voxels that the tissues are estimated from.

        Raises
        ------
        EngineError
            No or unlike cases, one without truth, values that are not finite, or no case that shows ``lesion``.
        LabelError
            The label scheme has no label of that name.
        """
        require_alike(cases)
        sources, tissue = learn(cases, self.clusters, rng)
        lesions = find_lesions(sources, tissue.centres, self.lesion) if self.lesion else None
        return replace(self, _sources=sources, _tissue=tissue, _lesions=lesions, _parents=patients_of(cases))

    def sample(self, n: int, rng: np.random.Generator, labels: Sequence[LabelMap] | None = None) -> Iterator[Case]:
        """Yield ``n`` changed cases, one at a time; the first ones do not depend on how many are taken.

        Every case names all patients that the engine was fitted on as parents, since the tissues come from all.

        Raises
        ------
        EngineError
            Label maps are given, or the engine has not been fitted.
        """
        if labels is not None:
            raise EngineError(
                "the augmentation engine changes real pairs; it cannot draw an image of given label maps",
                fix="use an engine that renders labels, such as kind = 'simulate-ct'; `equipoise engines` lists them",
            )
        if n < 0:
            raise EngineError(f"the number of cases must be 0 or more, got {n}")
        if self._tissue is None:
            raise EngineError(
                "the augmentation engine has no cases to change",
                fix="call fit(training cases, rng), and use what it returns",
            )
        return self._stream(n, rng, canonical(spec_of(self)), self._tissue)

    def _stream(self, n: int, rng: np.random.Generator, spec: str, tissue: Tissue) -> Iterator[Case]:
        for _ in range(n):
            key = int(rng.integers(2**63))  # one draw per case: a case depends on its place alone
            yield self._make(key, rng_for(key, self.kind), spec, tissue)

    def _make(self, key: int, rng: np.random.Generator, spec: str, tissue: Tissue) -> Case:
        host = self._sources[rng.integers(len(self._sources))]
        start, shape = self._window(host, rng)
        nodes, step = self._bend(host, shape, rng)
        full = host.case.image.geometry.shape
        margin = np.zeros(3) if nodes is None else np.ceil(np.abs(nodes).max(axis=(1, 2, 3))) + 1
        first = np.maximum(start - margin, 0).astype(int)
        last = np.minimum(start + shape + margin, full).astype(int)
        u, labels = cut(host, first, last)
        donors = self._exchange(host, (u, labels, first), tissue, rng)
        if nodes is not None:
            u, labels = warp(u, labels, shape, np.eye(3), start - first, nodes, step)
        channels = len(tissue.counted)
        u = self._look(u, labels[:channels] > 0, tissue, host, rng)
        image = Image(restore(u, host), *placed(host, start))
        truth = host.case.truth
        if isinstance(truth, LabelMap):
            ignore = labels[channels:] > 0 if truth.ignore is not None or labels[channels:].any() else None
            named = labels[:channels].astype(roomy(labels[:channels], truth))
            truth = LabelMap(named, truth.scheme, image.affine, image.frame, image.unit, ignore)
        origin = Origin("synthetic", self.kind, spec, f"{key:016x}", self._parents)
        return named_after(host.case, donors, image, truth, origin)

    def _on(self, probability: float, amount: float, rng: np.random.Generator) -> float:
        """Return the amount at this strength, or 0 if the change does not happen to this case."""
        return amount * self.strength if rng.random() < probability else 0.0

    def _window(self, host: Source, rng: np.random.Generator) -> tuple[np.ndarray, tuple[int, int, int]]:
        """Return the first voxel and the shape of what is cut."""
        full = host.case.image.geometry.shape
        i, j, k = (min(self.patch, n) if self.patch else n for n in full)
        room = np.array(full) - np.array([i, j, k])
        start = rng.integers(0, room + 1)
        if self.patch and len(host.foreground) and rng.random() < self.foreground:
            # The labelled voxel lies anywhere in the middle half, else every patch would have its label in the centre.
            place = host.foreground[rng.integers(len(host.foreground))]
            start = np.clip(place - np.round(np.array([i, j, k]) * rng.uniform(0.25, 0.75, 3)).astype(int), 0, room)
        return start, (i, j, k)

    def _bend(
        self, host: Source, shape: tuple[int, int, int], rng: np.random.Generator
    ) -> tuple[np.ndarray | None, list[float]]:
        """Return displacements of control nodes in voxels that cannot fold, and the nodes' distance."""
        apart = longest_side(host) * math.exp(rng.uniform(math.log(1 / 8), math.log(1 / 3)))
        step = [max(apart / s, 2.0) for s in host.case.image.spacing]
        amount = self._on(self.p_elastic, self.elastic, rng)
        if not amount:
            return None, step
        limit = np.array(step) * amount * (SAFE_2D if shape[2] == 1 else SAFE_3D)
        nodes = 2 * rng.random((3, *node_counts(shape, step)), dtype=np.float32) - 1
        return nodes * limit.astype(np.float32)[:, None, None, None], step

    def _exchange(self, host: Source, window: Window, tissue: Tissue, rng: np.random.Generator) -> list[Source]:
        """Set parts of other cases into a window of the host, in place; return the cases that they came from."""
        donors, counted = [], tissue.counted
        others = [s for s in self._sources if s is not host and may_exchange(s, host)]
        amount = self.mixing * math.sqrt(self.strength) if rng.random() < self.p_mixing else 0.0
        if amount and others:
            donor = others[rng.integers(len(others))]
            donors += [donor] if set_in(donor, host, window, amount, counted, rng) else []
        # What is off draws nothing, so that a specification of before makes the cases of before.
        if self.carving and (amount := self._on(self.p_carving, self.carving, rng)) and others:
            channel, organ = (self._lesions.channel, self._lesions.organ) if self._lesions else (None, None)
            tried = (others[n] for n in rng.permutation(len(others))[:DONORS])
            carved = next((d for d in tried if carve_in(d, host, window, amount, channel, organ, counted, rng)), None)
            donors += [carved] if carved else []
        if self._lesions and (strength := self._on(self.p_lesion, 1.0, rng)):
            zoom, turn = strength * self.lesion_zoom, strength * self.lesion_turn
            what = self._lesions, self._sources, host, window, tissue.centres, zoom, turn, counted, rng
            donors += list(islice(filter(None, (copy_in(*what) for _ in range(DONORS))), 1))
        return donors

    def _look(
        self, u: np.ndarray, masks: np.ndarray, tissue: Tissue, host: Source, rng: np.random.Generator
    ) -> np.ndarray:
        """Return the normalised image with new grey values."""
        spacing = host.case.image.spacing
        if amount := self._on(self.p_tissue, self.tissue, rng):
            dress_tissue(u, tissue, amount, self.strength, rng)
        if amount := self._on(self.p_structure, self.structure, rng):
            dress_labels(u, masks, tissue, amount, rng)
        if amount := self._on(self.p_curve, self.curve, rng):
            looks.bend_curves(u, amount, self.folding * self.strength**2, rng)
        if amount := self._on(self.p_colour, self.colour, rng):
            u = looks.turn_colours(u, amount, rng)
        if self.stain and len(u) == 3 and (amount := self._on(self.p_stain, self.stain, rng)):
            u = restain(u, host, amount, rng)
        if amount := self._on(self.p_bias, self.bias, rng):
            looks.shade(u, amount, [longest_side(host) / 2.5 / s for s in spacing], rng)
        if amount := self._on(self.p_sharpen, self.sharpen, rng):
            u = looks.sharpen(u, amount * rng.random())
        if amount := self._on(self.p_blur, self.blur, rng):
            sigma = amount * rng.random()
            u = blur(u, [sigma / s for s in spacing])
        if amount := self._on(self.p_resolution, self.resolution, rng):
            factor = np.full(3, 1 + amount * rng.random())
            if rng.random() < 0.5:  # thick slices, or a slow scan direction
                factor[np.arange(3) != rng.integers(3 if u.shape[3] > 1 else 2)] = 1
            u = looks.enlarge_voxels(u, factor.tolist())
        if amount := self._on(self.p_texture, self.texture, rng):
            size = self.grain * rng.random()
            looks.add_grain(u, amount * rng.random(), [size / s for s in spacing], rng)
        return u


__all__ = ["Augmentation"]

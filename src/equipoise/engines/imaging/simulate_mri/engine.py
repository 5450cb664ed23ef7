"""Kind ``simulate-mri``: magnetic resonance images of any label map, by signal equations and k-space, or at random."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, ClassVar, Literal

import numpy as np

from equipoise.core import Case, Image, LabelMap
from equipoise.core.registry import make, require_types
from equipoise.engines.imaging.simulate_mri.artefacts import Troubles
from equipoise.engines.imaging.simulate_mri.fields import draw_bias, polynomial_field, within_view
from equipoise.engines.imaging.simulate_mri.kspace import measure
from equipoise.engines.imaging.simulate_mri.learned import Learned, learn_from
from equipoise.engines.imaging.simulate_mri.limits import NUMBERS, RANGES
from equipoise.engines.imaging.simulate_mri.looks import Sublabels, draw_look, shown_through
from equipoise.engines.imaging.simulate_mri.physics import Body, scanned
from equipoise.engines.imaging.simulate_mri.scanners import (
    PROTOCOLS,
    SCANNERS,
    Acquisition,
    Stated,
    draw_acquisition,
    require_possible,
)
from equipoise.engines.imaging.simulate_mri.scene import enclosed
from equipoise.engines.imaging.simulate_mri.tissues import TISSUES, require_tissues, tissues_at
from equipoise.engines.parts.device import require_device
from equipoise.engines.parts.legal import (
    require_anatomy,
    require_grid,
    require_known,
    require_limits,
    require_one_of,
)
from equipoise.engines.parts.placement import Placement
from equipoise.engines.parts.rendering import Rendered, fitted_on, render_cases
from equipoise.errors import PlanError

GREY = 1000.0
"""Grey value of the brightest tissue where none was learned."""

Pair = tuple[float, float]


@dataclass(frozen=True)
class SimulateMRI:
    """Magnetic resonance images of label maps: a scanner's physics, or contrasts that no scanner has.

    With ``contrasts = "physics"`` each labelled tissue gives the signal of a protocol on a scanner at its field, and
    k-space is sampled with everything that goes wrong. With ``"random"`` grey values are drawn by label (SynthSeg).
    Where the engine was fitted and the labels do not tell the whole picture, tissue comes from the training images, and
    k-space is sampled on top. Label maps stay as they are, but for ``"random"`` pictures of the engine's own anatomy,
    whose labels move with the picture.

    Parameters
    ----------
    contrasts
        ``"physics"`` or ``"random"``.
    scanner
        One of `SCANNERS`, or ``None``: each picture's is drawn from all.
    protocols
        Of `PROTOCOLS`, one drawn per picture.
    te_ms, tr_ms, ti_ms, flip_degrees
        Ranges instead of the protocols' own.
    snr
        Range of mean tissue signal over the SD of a channel's noise, instead of the scanner's.
    thickness_mm
        Range of the slices of 2-D protocols, instead of the scanner's. Thick slices are interpolated to the label map's
        grid.
    slice_axes
        Axes of the grid that slices may be stacked along.
    resolution
        Range of the share of k-space that is acquired along an axis, instead of the scanner's.
    partial_fourier
        Range of the share of phase lines that is measured.
    taper
        Range of the share of k-space that is tapered by the reconstruction.
    motion, motion_mm, motion_degrees
        Share of pictures in which the object moves, and the SD of its shifts and turns.
    ghosting, ghost
        Share of pictures with ghosts, and range of their modulation.
    spiking, spike
        Share of pictures with spikes in k-space, and the range of their strength against the mean signal.
    bias
        Largest coefficient of the bias field's logarithm, across `HEAD_MM` mm.
    transmit
        Factor on the inhomogeneity of transmit field (flip angles) and main field (bands of bSSFP).
    fat
        Range of the share of fat's signal that suppression leaves; half of the pictures are taken without.
    texture
        SD of the signal within one tissue, relative.
    tissue
        ``[T1, T2, T2*, density]`` in ms by label: added to `TISSUES`, or instead.
    pixel_mm
        Size of a pixel where the label map states none.
    warp
        With ``"random"``: strength of the affine and elastic map of the engine's own label maps, 0 to 1.
    anatomy
        Where label maps come from if none are given.
    classes, inner
        Sub-labels of unlabelled tissue and of each label, when learning.
    device
        Where ``"random"`` contrasts are computed: ``"cpu"``, or ``"cuda"``, ``"cuda:0"`` … through torch, with the same
        random numbers (see `randomised_on_device` for how closely the pictures agree). ``"physics"`` is always computed
        on the CPU.
    learn
        Whether `fit` learns from the training images, whose patients then become parents.

    References
    ----------
    Haacke EM, Brown RW, Thompson MR, Venkatesan R. Magnetic Resonance Imaging: Physical Principles and Sequence Design.
    1999.
    Billot B, Greve DN, Puonti O, et al. SynthSeg. Medical Image Analysis 2023;86:102789.
    doi:10.1016/j.media.2023.102789
    """

    kind: ClassVar[str] = "simulate-mri"
    dimensions: ClassVar[tuple[int, ...]] = (2, 3)
    modalities: ClassVar[tuple[str, ...]] = ("MRI",)
    needs: ClassVar[str] = "Nothing, or annotated grey MR images to learn from."
    renders_labels: ClassVar[bool] = True
    simulates: ClassVar[bool] = True

    contrasts: Literal["physics", "random"] = "physics"
    scanner: str | None = None
    protocols: tuple[str, ...] = tuple(PROTOCOLS)
    te_ms: Pair | None = None
    tr_ms: Pair | None = None
    ti_ms: Pair | None = None
    flip_degrees: Pair | None = None
    snr: Pair | None = None
    thickness_mm: Pair | None = None
    slice_axes: tuple[int, ...] = (2,)
    resolution: Pair | None = None
    partial_fourier: Pair = (0.75, 1.0)
    taper: Pair = (0.0, 0.4)
    motion: float = 0.25
    motion_mm: float = 0.7
    motion_degrees: float = 0.7
    ghosting: float = 0.15
    ghost: Pair = (0.03, 0.12)
    spiking: float = 0.03
    spike: Pair = (0.05, 0.2)
    bias: float = 0.25
    transmit: float = 1.0
    fat: Pair = (0.1, 0.5)
    texture: float = 0.02
    tissue: Mapping[str, Sequence[float]] = field(default_factory=dict)
    pixel_mm: float = 1.0
    warp: float = 1.0
    anatomy: dict[str, Any] | str = "head"
    classes: int = 12
    inner: int = 4
    device: str = "cpu"
    learn: bool = True
    _learned: Learned | None = field(default=None, repr=False, compare=False)
    _anatomy: Any = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        require_anatomy(self.anatomy)
        require_types(self)
        require_one_of("contrasts", self.contrasts, ("physics", "random"))
        if self.scanner is not None:
            require_one_of("scanner", self.scanner, SCANNERS)
        if not self.protocols:
            raise PlanError(f"protocols must name at least one of {', '.join(PROTOCOLS)}")
        require_limits(self, RANGES, NUMBERS)
        require_device(self.kind, self.device)
        for protocol in self.protocols:
            require_one_of("protocols", protocol, PROTOCOLS)
            require_possible(protocol, self._stated)
        require_tissues(self.tissue)
        if not self.slice_axes or not set(self.slice_axes) <= {0, 1, 2}:
            raise PlanError(f"slice_axes = {self.slice_axes!r} is not possible; legal: one or more of 0, 1, 2")

    @property
    def parents(self) -> frozenset[str]:
        """The patients that it was fitted on, by the imaging or by the anatomy."""
        return fitted_on(self._learned, self._anatomy)

    @property
    def _stated(self) -> Stated:
        return Stated(self.te_ms, self.tr_ms, self.ti_ms, self.flip_degrees)

    def fit(self, cases: Sequence[Case], rng: np.random.Generator) -> SimulateMRI:
        """Return an engine that has learned tissue, grey values, noise and resolution of MR images, if ``learn`` is on.

        Raises
        ------
        DataError
            If there is no case, or an image is constant or not finite.
        """
        pictures, shapes = rng.spawn(2)  # what one half learns does not shift the other's draws
        learned = learn_from(cases, pictures, self.classes, self.inner) if self.learn else None
        return replace(self, _learned=learned, _anatomy=make("anatomies", self.anatomy).fit(cases, shapes))

    def sample(self, n: int, rng: np.random.Generator, labels: Sequence[LabelMap] | None = None) -> Iterator[Case]:
        """Return an iterator of ``n`` cases: of the given label maps in turn, or of maps that the anatomy draws.

        Raises
        ------
        LabelError
            If a label's relaxation is neither known nor stated, and nothing was learned.
        DataError
            If ``labels`` is empty.
        GeometryMismatchError
            If the size of a voxel is not possible.
        EngineError
            If there is no such ``device``.
        """
        anatomy = self._anatomy or make("anatomies", self.anatomy)
        render = partial(self._render, own=labels is None)
        return render_cases(self, n, rng, labels, anatomy, fitted_on(self._learned), render)

    def _render(self, labels: LabelMap, placement: Placement | None, rng: np.random.Generator, own: bool) -> Rendered:
        require_grid(self.kind, labels)
        choices, scene, scan = rng.spawn(3)
        scanner = self.scanner or str(choices.choice(list(SCANNERS)))
        protocol = str(choices.choice(self.protocols))
        taken = draw_acquisition(scanner, protocol, self._stated, choices)
        taken = replace(
            taken,
            snr=float(choices.uniform(*self.snr)) if self.snr else taken.snr,
            resolution=float(choices.uniform(*self.resolution)) if self.resolution else taken.resolution,
            thickness_mm=float(choices.uniform(*self.thickness_mm)) if self.thickness_mm else taken.thickness_mm,
        )
        learned = self._learned
        if learned and labels.scheme.names == learned.tissue.scheme_names and not self._all_known(labels):
            if self.contrasts == "random":
                return self._random(labels, learned.sublabels(labels, placement), False, scene, scan)
            return self._as_learned(labels, placement, learned, scene, scan)
        if self.contrasts == "random":
            return self._random(labels, None, own, scene, scan)
        return self._by_physics(labels, taken, scene, scan)

    def _all_known(self, labels: LabelMap) -> bool:
        return enclosed(labels) and set(labels.scheme.names) <= {*TISSUES, *self.tissue}

    def _spacing(self, labels: LabelMap) -> tuple[float, float, float]:
        return labels.spacing if labels.unit == "mm" else (self.pixel_mm,) * 3

    def _by_physics(
        self, labels: LabelMap, taken: Acquisition, scene: np.random.Generator, scan: np.random.Generator
    ) -> Rendered:
        known = tissues_at(taken.tesla, self.tissue)
        require_known(self.kind, labels, known, "tissue")
        body = Body(self.texture, self.bias, self.transmit, self.fat)
        image, attributes = scanned(
            labels, known, self._spacing(labels), taken, body, self._troubles(), self.slice_axes, scene, scan
        )
        top = max(float(np.percentile(image[::2, ::2], 99.5)), 1e-9)
        image *= np.float32(GREY / top)
        return Rendered(Image.on(labels.geometry, image[None]), labels, taken.scanner, attributes)

    def _as_learned(
        self,
        labels: LabelMap,
        placement: Placement | None,
        learned: Learned,
        scene: np.random.Generator,
        scan: np.random.Generator,
    ) -> Rendered:
        shape, spacing = labels.geometry.shape, self._spacing(labels)
        like = learned.shown[int(scene.integers(len(learned.shown)))]
        values = learned.tissue.scene(labels, placement, scene, learned.texture)
        bias = polynomial_field(shape, within_view(draw_bias(self.bias, scene), shape, spacing))
        troubles = self._troubles()
        sampling = troubles.draw(like.resolution, (1.0, 1.0), (0.0, 0.0), spacing, shape, scan)
        out = np.empty(values.shape, np.float32)
        for channel, (low, high, noise) in enumerate(zip(like.low, like.high, like.noise, strict=True)):
            clean = np.maximum(values[channel], 0) * bias
            scaled = troubles.scaled(sampling, float(clean.mean()))
            out[channel] = low + (high - low) * measure(clean, scaled, noise, 1, scan)
        if learned.whole_numbers:
            np.rint(out, out=out)
        attributes: dict[str, str | float] = {
            "contrast": "as learned",
            "noise": like.noise[0],
            "moves": float(max(len(sampling.poses) - 1, 0)),
        }
        return Rendered(Image.on(labels.geometry, out), labels, "as trained", attributes)

    def _random(
        self,
        labels: LabelMap,
        sublabels: Sublabels | None,
        own: bool,
        scene: np.random.Generator,
        scan: np.random.Generator,
    ) -> Rendered:
        spacing = self._spacing(labels)
        look = draw_look(labels.geometry.shape, spacing, self.bias, self.warp if own else 0.0, scene)
        image, truth = shown_through(labels, sublabels, look, spacing, scene, scan, self.device)
        attributes: dict[str, str | float] = {
            "contrast": "random",
            "gamma": look.gamma,
            "noise": look.noise,
            "coarse": max(look.coarse),
        }
        return Rendered(Image.on(labels.geometry, GREY * image[None]), truth, "random contrast", attributes)

    def _troubles(self) -> Troubles:
        return Troubles(
            self.partial_fourier,
            self.taper,
            self.motion,
            self.motion_mm,
            self.motion_degrees,
            self.ghosting,
            self.ghost,
            self.spiking,
            self.spike,
        )

"""Kind ``simulate-ct``: a CT scan of any label map, with lung where nothing is labelled."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import cycle, islice
from typing import Any, ClassVar

import numpy as np

from equipoise.core import Case, Image, LabelMap, Origin
from equipoise.core.registry import canonical, make, spec_of
from equipoise.engines.imaging.simulate_ct.learned import Learned, learn_from
from equipoise.engines.imaging.simulate_ct.likeness import Setting
from equipoise.engines.imaging.simulate_ct.scan import Gantry, Protocol
from equipoise.engines.imaging.simulate_ct.scene import DENSITIES, Tissues, draw_scene
from equipoise.engines.parts.attenuation import require
from equipoise.engines.parts.grid import Grid
from equipoise.engines.parts.kernels import KERNELS, kernel_mtf
from equipoise.engines.parts.lung import LungModel
from equipoise.errors import DataError, EngineError, GeometryMismatchError, LabelError, did_you_mean


@dataclass(frozen=True)
class SimulateCT:
    """CT slices and volumes of the lung around labelled structures, by attenuation, projection, noise and FBP.

    A structure gets its HU from the table; what nobody labelled is drawn: parenchyma, vessel trees, chest wall. Where
    ``"lung"`` is a label, the lung is there and soft tissue elsewhere; where ``"vessel"`` or ``"chest wall"`` is one,
    none is drawn besides. The truth is the label map as given.

    Parameters
    ----------
    hu
        ``[mean, standard deviation between cases]`` in HU of a structure by its label's name: added to `DENSITIES`, or
        instead of an entry there. ``"lung"``, ``"vessel"`` and ``"ground-glass nodule"`` are used even where they are
        no labels.
    part_solid, ground_glass
        Shares of the objects labelled ``"nodule"`` that are so; the others are solid.
    inner_sd
        Texture within a structure, in HU.
    margin_mm
        Standard deviation of the Gaussian that blurs a structure's margin, beside the scanner's own blur.
    lung_sd
        Texture of the parenchyma, in HU.
    vessels, pleural, wall_mm, fed
        Of what is drawn around: see `LungModel`.
    kernels
        Reconstruction kernels, one drawn per case.
    cutoff
        Range of the kernel's cut-off in cycles/mm, uniform. 0.7 gives `soft` 3.5 lp/cm at 50 % MTF.
    photons
        Range of the dose, log-uniform: photons per mm² over half a turn, see `Protocol`.
    blur_mm
        Range of the blur by focal spot, detector and motion, uniform, see `Protocol`.
    electronic_sd, views, body_mm, kev, modulation
        Of the scanner: see `Gantry`.
    planes
        Most planes that a slice is averaged from, for the parts that are drawn (partial volume of vessels).
    anatomy
        Where label maps come from if none are given: a specification such as ``{kind = "phantom", nodules = 2.0}``.
    learn
        Whether `fit` learns HU, textures, vessels, the wall's distance, kernels, doses and blur from the training
        cases, whose patients then become parents. Without it the imaging stays as it is. The anatomy learns or not by
        a parameter of its own.

    Notes
    -----
    A slice of 96² takes about 20 ms on one thread, a fit of slices 3 to 8 s for 2 to 50 cases. Overlapping labels: the
    later one in the scheme lies on top.

    References
    ----------
    Kak AC, Slaney M. Principles of Computerized Tomographic Imaging. 1988.
    Lee JH et al. High versus low attenuation thresholds to determine the solid component of ground-glass opacity
    nodules. PLoS ONE 2018. doi:10.1371/journal.pone.0205490
    """

    kind: ClassVar[str] = "simulate-ct"
    dimensions: ClassVar[tuple[int, ...]] = (2, 3)
    modalities: ClassVar[tuple[str, ...]] = ("CT",)
    needs: ClassVar[str] = "Nothing, or annotated lung CT in HU and mm with square pixels to learn from."
    renders_labels: ClassVar[bool] = True
    simulates: ClassVar[bool] = True

    hu: Mapping[str, Sequence[float]] = field(default_factory=dict)
    part_solid: float = 0.08
    ground_glass: float = 0.08
    inner_sd: float = 25.0
    margin_mm: float = 0.45
    lung_sd: float = 35.0
    vessels: float = 600.0
    pleural: float = 0.2
    wall_mm: float = 30.0
    fed: float = 0.35
    kernels: tuple[str, ...] = ("soft", "sharp")
    cutoff: tuple[float, float] = (0.6, 0.85)
    photons: tuple[float, float] = (6e6, 1e8)
    blur_mm: tuple[float, float] = (0.1, 0.5)
    electronic_sd: float = 15.0
    views: int | None = None
    body_mm: tuple[float, float] = (170.0, 115.0)
    kev: float = 70.0
    modulation: float = 0.5
    planes: int = 3
    anatomy: dict[str, Any] | str = "phantom"
    learn: bool = True
    _learned: Learned | None = field(default=None, repr=False, compare=False)
    _anatomy: Any = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        require(isinstance(self.hu, Mapping), f"hu must be a table of label = [mean, sd] in HU, got {self.hu!r}")
        for name, pair in self.hu.items():
            good = isinstance(pair, Sequence) and len(pair) == 2 and all(isinstance(x, (int, float)) for x in pair)
            require(
                good and bool(np.isfinite(pair).all()) and pair[1] >= 0, f"hu.{name} must be [mean, sd], got {pair!r}"
            )
        for name in ("part_solid", "ground_glass", "pleural", "fed", "modulation"):
            require(0 <= getattr(self, name) <= 1, f"{name} must lie between 0 and 1, got {getattr(self, name)}")
        require(self.part_solid + self.ground_glass <= 1, "part_solid and ground_glass must not exceed 1 together")
        for name in ("inner_sd", "margin_mm", "lung_sd", "vessels", "wall_mm", "electronic_sd"):
            require(getattr(self, name) >= 0, f"{name} must be 0 or more, got {getattr(self, name)}")
        for name in ("cutoff", "photons"):
            low, high = getattr(self, name)
            require(0 < low <= high, f"{name} must be a range [low, high] above 0, got {(low, high)}")
        require(len(self.kernels) > 0, f"kernels must name at least one of {KERNELS}")
        for kernel in self.kernels:
            kernel_mtf(kernel, 0.0, 1.0)  # refuses an unknown name
        require(self.views is None or self.views >= 8, f"views must be at least 8, got {self.views}")
        require(min(self.body_mm) >= 40, f"body_mm must be at least 40 mm, got {self.body_mm}")
        require(30 <= self.kev <= 150, f"kev must lie between 30 and 150 keV, got {self.kev}")
        require(self.planes >= 1, f"planes must be at least 1, got {self.planes}")
        low, high = self.blur_mm
        require(0 <= low <= high, f"blur_mm must be a range [low, high] of 0 mm or more, got {self.blur_mm}")
        good = isinstance(self.anatomy, (str, Mapping))
        require(good, f'anatomy must be a kind or a table such as {{kind = "phantom"}}, got {self.anatomy!r}')
        make("anatomies", self.anatomy)  # refuses what cannot be made now, not after hours

    @property
    def parents(self) -> frozenset[str]:
        """The patients that it was fitted on, by the imaging or by the anatomy."""
        return self._seen | (self._anatomy.parents if self._anatomy else frozenset())

    @property
    def _seen(self) -> frozenset[str]:
        return self._learned.parents if self._learned else frozenset()

    def fit(self, cases: Sequence[Case], rng: np.random.Generator) -> SimulateCT:
        """Return an engine whose imaging has learned from CT cases in HU if ``learn`` is on, and whose anatomy may.

        Densities are read off the objects, corrected for the blur at their margins. Kernel, dose, blur, texture and
        vessels cannot be read off an image: pieces of the training cases are simulated with many settings, and each
        real image takes those that resemble it (`settings_like`).

        Raises
        ------
        DataError
            If there is no case, an image is not in HU, or the anatomy cannot learn from the label maps.
        """
        pictures, shapes = rng.spawn(2)  # what one half learns does not shift the other's draws
        learned = learn_from(cases, self._simulated, self.margin_mm, pictures) if self.learn else None
        anatomy = make("anatomies", self.anatomy).fit(cases, shapes)
        return replace(self, _learned=learned, _anatomy=anatomy)

    def sample(self, n: int, rng: np.random.Generator, labels: Sequence[LabelMap] | None = None) -> Iterator[Case]:
        """Return an iterator of ``n`` cases: of the given label maps in turn, or of maps that the anatomy draws.

        Patients of *given* label maps are not known here: whoever hands them over adds them to the parents.

        Raises
        ------
        LabelError
            If the density of a label is neither stated nor learned.
        DataError
            If ``labels`` is empty.
        EngineError
            If the anatomy draws too few maps.
        GeometryMismatchError
            If a grid has no mm, or no square pixels.
        """
        if labels is not None and not len(labels):
            raise DataError("simulate-ct got an empty list of label maps", fix="give at least one, or None for its own")
        (shapes,) = rng.spawn(1)  # before the cases' streams, which are then the same whoever draws the maps
        if labels is not None:
            return self._render_all(n, islice(cycle(labels), n), self._seen, rng)
        anatomy = self._anatomy or make("anatomies", self.anatomy)
        return self._render_all(n, anatomy.draw(n, shapes), self._seen | anatomy.parents, rng)

    def _render_all(
        self, n: int, maps: Iterator[LabelMap], parents: frozenset[str], rng: np.random.Generator
    ) -> Iterator[Case]:
        spec = canonical(spec_of(self))
        for index in range(n):
            (stream,) = rng.spawn(1)
            truth = next(maps, None)
            if truth is None:
                raise EngineError(f"anatomy {self.anatomy!r} drew {index} label maps, {n} were asked for")
            key = f"{stream.integers(2**63):016x}"
            protocol, lung = self._setting(stream)
            yield Case(
                id=f"{self.kind}-{key}",
                patient=f"synthetic-{self.kind}-{key}",
                image=self.render(truth, stream, protocol, lung),
                truth=truth,
                origin=Origin("synthetic", self.kind, spec, key, parents),
                scanner=f"simulated, {protocol.kernel} kernel",
                modality="CT",
                attributes={"kernel": protocol.kernel, "cutoff": protocol.cutoff, "photons": protocol.photons},
            )

    def render(
        self, labels: LabelMap, rng: np.random.Generator, protocol: Protocol, lung: LungModel | None = None
    ) -> Image:
        """Return the scan of one label map with a given protocol, HU, on the label map's grid.

        Parameters
        ----------
        lung
            What is drawn where nothing is labelled; ``None`` takes the engine's parameters.
        """
        lung = lung or self._lung(self.lung_sd, self.vessels)
        return self._shown(labels, self._tissues(self._learned), protocol, lung, rng)

    def _shown(
        self, labels: LabelMap, tissues: Tissues, protocol: Protocol, lung: LungModel, rng: np.random.Generator
    ) -> Image:
        """Render a label map in the middle of a square whose inscribed circle holds it."""
        _require_renderable(labels, tissues.known)
        i, j, slices = labels.geometry.shape
        n = 2 * int(np.ceil((np.hypot(i, j) + 8) / 2))
        start = ((n - i) // 2, (n - j) // 2)
        pixel, _, thickness = labels.spacing
        grid = Grid((n, n, slices), (pixel, pixel, thickness))
        wide = ((start[0], n - i - start[0]), (start[1], n - j - start[1]), (0, 0))
        instances = {name: np.pad(labels.instances(name), wide) for name in labels.scheme.names}
        anatomy, noise = rng.spawn(2)  # the dose changes the noise, not the patient
        scene = draw_scene(instances, grid, tissues, lung, self.planes, anatomy)
        shown = Gantry(self.views, self.electronic_sd, self.body_mm, self.kev, self.modulation).scan(
            scene, grid, protocol, noise
        )
        return Image.on(labels.geometry, shown[start[0] : start[0] + i, start[1] : start[1] + j][None].copy())

    def _tissues(self, learned: Learned | None) -> Tissues:
        prior = Tissues({**DENSITIES, **self.hu}, self.inner_sd, self.margin_mm, self.part_solid, self.ground_glass)
        if learned is None:
            return prior
        margin_mm = self.margin_mm if learned.margin_mm is None else learned.margin_mm
        return replace(prior, levels=learned.levels, textures=learned.textures, margin_mm=margin_mm)

    def _lung(self, texture_hu: float, vessels: float, learned: Learned | None = None) -> LungModel:
        """Return what is drawn around the labels, with the wall where the training cases have it."""
        pleural = self.pleural if learned is None or learned.pleural is None else learned.pleural
        wall_mm = self.wall_mm if learned is None or learned.wall_mm is None else learned.wall_mm
        return LungModel(texture_hu, vessels, pleural, wall_mm, self.fed)

    def _setting(self, rng: np.random.Generator) -> tuple[Protocol, LungModel]:
        """Draw how a case is scanned and its lung: like one of the training images, or from the prior."""
        if self._learned:
            found = self._learned.settings[int(rng.integers(len(self._learned.settings)))]
            return found.protocol, self._lung(found.texture_hu, found.vessels, self._learned)
        low, high = np.log(self.photons)
        kernel = self.kernels[int(rng.integers(len(self.kernels)))]
        cutoff, photons = float(rng.uniform(*self.cutoff)), float(np.exp(rng.uniform(low, high)))
        return Protocol(kernel, cutoff, photons, float(rng.uniform(*self.blur_mm))), self._lung(
            self.lung_sd, self.vessels
        )

    def _simulated(self, learned: Learned, labels: LabelMap, setting: Setting, rng: np.random.Generator) -> Image:
        """Render a training case's label map with densities already learned, to compare the case's image with."""
        lung = self._lung(setting.texture_hu, setting.vessels, learned)
        return self._shown(labels, self._tissues(learned), setting.protocol, lung, rng)


def _require_renderable(labels: LabelMap, known: frozenset[str]) -> None:
    """Raise unless pixels are square and in mm, and every label's density is known."""
    geometry = labels.geometry
    if geometry.unit != "mm" or abs(geometry.spacing[0] / geometry.spacing[1] - 1) > 0.01:
        raise GeometryMismatchError(
            f"simulate-ct needs square pixels of known size, got {geometry.spacing} {geometry.unit}",
            fix="give the images' spacing in mm, and resample to square pixels",
        )
    for name in labels.scheme.names:
        if name not in known:
            raise LabelError(
                f"simulate-ct does not know how dense {name!r} is.{did_you_mean(name, known)}",
                fix=f"fit the engine on cases with this label, or state it: hu = {{{name!r} = [mean, sd], ...}}",
            )


__all__ = ["SimulateCT"]

"""Kind ``simulate-ct``: a CT scan of any label map, with lung, soft tissue or air where nothing is labelled."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

import numpy as np

from equipoise.core import Case, Image, LabelMap
from equipoise.core.registry import make
from equipoise.engines.imaging.simulate_ct.acquisition import attributes_of
from equipoise.engines.imaging.simulate_ct.artefacts import Implant, draw_implants
from equipoise.engines.imaging.simulate_ct.body import BodyModel
from equipoise.engines.imaging.simulate_ct.from_parameters import (
    export_of,
    gantry_of,
    lung_of,
    ranges_of,
    tissues_of,
)
from equipoise.engines.imaging.simulate_ct.hounsfield import density_of, surroundings_of
from equipoise.engines.imaging.simulate_ct.learned import Learned, learn_from
from equipoise.engines.imaging.simulate_ct.learned_tissue import LearnedTissue, learn_tissue
from equipoise.engines.imaging.simulate_ct.likeness import Setting
from equipoise.engines.imaging.simulate_ct.limits import require_parameters, require_renderable
from equipoise.engines.imaging.simulate_ct.patient import (
    Patient,
    body_patient,
    learned_patient,
    lung_patient,
    picture_patient,
)
from equipoise.engines.imaging.simulate_ct.scan import LUNG_PIECE, Protocol
from equipoise.engines.imaging.simulate_ct.scene import Tissues
from equipoise.engines.parts.lung import LungModel
from equipoise.engines.parts.placement import Placement
from equipoise.engines.parts.rendering import Rendered, fitted_on, render_cases
from equipoise.errors import DataError


@dataclass(frozen=True)
class SimulateCT:
    """CT slices and volumes of any label map, by attenuation, projection, noise and FBP.

    Structures get their HU from tables by their label's name. What lies around them depends on what is labelled: a map
    of a whole body (`torso`, `head`) lies in air, on a couch; organs of the belly or the brain lie in soft tissue; all
    else in lung, whose parenchyma, vessel trees and chest wall are drawn. There, where ``"lung"`` is a label, the lung
    is there and soft tissue elsewhere; where ``"vessel"`` or ``"chest wall"`` is one, none is drawn besides. The truth
    is the label map as given.

    With anatomies that lay training cases' maps (`real`, `warped`), all tissue is drawn from what `fit` has learned of
    the training images, labelled or not; structures that they do not show are painted into it.

    Parameters
    ----------
    hu
        ``[mean, standard deviation between cases]`` in HU of a structure by its label's name: added to the tables, or
        instead of an entry there. ``"lung"``, ``"vessel"`` and ``"ground-glass nodule"`` are used even where they are
        no labels.
    part_solid, ground_glass
        Shares of the objects labelled ``"nodule"`` that are so; the others are solid.
    inner_sd
        Texture within a structure that no table of whole bodies knows, in HU.
    margin_mm
        Standard deviation of the Gaussian that blurs a structure's margin, beside the scanner's own blur.
    lung_sd
        Texture of the parenchyma, in HU.
    vessels, pleural, wall_mm, fed
        Of what is drawn around: see `LungModel`. In whole bodies ``vessels`` also says how many branches the lungs show
        that are too small to bear a label.
    around
        What lies around the labels, ``"lung"``, ``"soft tissue"`` or ``"air"``, instead of what they suggest.
    couch
        Whether the patient lies on a couch, where the picture shows it.
    contrast_hu
        Range of what contrast medium adds to blood; organs take their share of it (portal-venous phase).
    tissue
        ``"learned"`` draws all tissue from the training images, ``"drawn"`` none, ``"auto"`` where a training case's
        map was laid, or a label has no other density.
    scanner
        A profile of `SCANNERS`, or ``"any"``: it sets tube, bow-tie filter, fan geometry and slice thickness, and in
        place of what a fit has learned or the ranges here, kernel, dose and blur. ``None`` takes the ranges here.
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
    kvp
        Tube voltage in kV; ``None`` is a beam of ``kev`` alone. Patients are then made of water, bone and metal.
    water_correction
        Whether the hardening of the spectrum by water is undone; if not, water of 200 mm is calibrated to 0 HU.
    bowtie_mm
        Radius of the water cylinder that a bow-tie filter evens out; 0 is no filter.
    geometry
        ``"parallel"``, or ``"fan"``, whose rays are rebinned.
    source_mm
        From the focal spot to the axis of a fan.
    thickness_mm
        Of slices, where it differs from their distance: photons through neighbours add up.
    motion_mm
        Range of how far the patient moves during the scan.
    metal
        Share of cases with metal implants.
    metal_mm, metal_kind
        Range of their width, and ``"titanium"`` or ``"iron"``.
    drift_hu
        Standard deviation between cases of what water is shown as; scanners are serviced beyond 4 HU.
    stored
        HU that the grey values 0 and 255 of 8-bit exports stand for, such as ``[-1250, 250]``; pictures are read and
        written so. ``None`` where images hold HU.
    pixel_mm
        Size of a pixel of pictures that state none (unit "px"); their slices are 5 mm thick, or ``thickness_mm``.
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
    later one in the scheme lies on top. Contrast medium hardens a beam as bone of its HU would. Motion is that of the
    whole patient in the slice's plane.

    There is no ``device``: projection and back-projection take 40 to 50 % of the time of a slice of 512². The rest,
    label map, tissue, photons drawn from one stream, and the thousands of small slices of a fit, would stay on the CPU:
    a GPU would at best halve the time, and cost the bytes that a seed promises. Cases are what runs in parallel.

    References
    ----------
    Kak AC, Slaney M. Principles of Computerized Tomographic Imaging. 1988.
    Lee JH et al. High versus low attenuation thresholds to determine the solid component of ground-glass opacity
    nodules. PLoS ONE 2018. doi:10.1371/journal.pone.0205490
    """

    kind: ClassVar[str] = "simulate-ct"
    dimensions: ClassVar[tuple[int, ...]] = (2, 3)
    modalities: ClassVar[tuple[str, ...]] = ("CT",)
    needs: ClassVar[str] = "Nothing, or annotated CT in HU, or in grey values of stated HU, to learn from."
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
    around: Literal["lung", "soft tissue", "air"] | None = None
    couch: bool = True
    contrast_hu: tuple[float, float] = (0.0, 0.0)
    tissue: Literal["auto", "drawn", "learned"] = "auto"
    scanner: str | None = None
    kernels: tuple[str, ...] = ("soft", "sharp")
    cutoff: tuple[float, float] = (0.6, 0.85)
    photons: tuple[float, float] = (6e6, 1e8)
    blur_mm: tuple[float, float] = (0.1, 0.5)
    electronic_sd: float = 15.0
    views: int | None = None
    body_mm: tuple[float, float] = (170.0, 115.0)
    kev: float = 70.0
    modulation: float = 0.5
    kvp: float | None = None
    water_correction: bool = True
    bowtie_mm: float = 0.0
    geometry: Literal["parallel", "fan"] = "parallel"
    source_mm: float = 570.0
    thickness_mm: float | None = None
    motion_mm: tuple[float, float] = (0.0, 0.0)
    metal: float = 0.0
    metal_mm: tuple[float, float] = (3.0, 8.0)
    metal_kind: str = "titanium"
    drift_hu: float = 0.0
    stored: tuple[float, float] | None = None
    pixel_mm: float | None = None
    planes: int = 3
    anatomy: dict[str, Any] | str = "phantom"
    learn: bool = True
    _learned: Learned | None = field(default=None, repr=False, compare=False)
    _anatomy: Any = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        require_parameters(self)

    @property
    def parents(self) -> frozenset[str]:
        """The patients that it was fitted on, by the imaging or by the anatomy."""
        return fitted_on(self._learned, self._anatomy)

    def fit(self, cases: Sequence[Case], rng: np.random.Generator) -> SimulateCT:
        """Return an engine whose imaging has learned from CT cases if ``learn`` is on, and whose anatomy may.

        Densities are read off the objects, corrected for the blur at their margins. Kernel, dose, blur, texture and
        vessels cannot be read off an image: pieces of the training cases are simulated with many settings, and each
        real image takes those that resemble it (`settings_like`).

        Raises
        ------
        DataError
            If there is no case, an image is not in HU, or the anatomy cannot learn from the label maps.
        """
        pictures, shapes = rng.spawn(2)  # what one half learns does not shift the other's draws
        anatomy = make("anatomies", self.anatomy)
        learned = None
        if self.learn:
            if not cases:
                raise DataError(
                    "simulate-ct got no case to learn from", fix="give training cases, or set learn = false"
                )
            known = [export_of(self).case(case) for case in cases]
            laid = self.tissue == "learned" or (self.tissue == "auto" and hasattr(anatomy, "draw_placed"))
            if laid:
                tissue, settings = learn_tissue(known, self._scanned, pictures)
                learned = Learned(tissue.model.parents, {}, {}, None, None, None, settings, tissue)
            else:
                learned = learn_from(known, self._simulated, self.margin_mm, pictures)
            learned = replace(learned, channels=cases[0].image.channels)
        return replace(self, _learned=learned, _anatomy=anatomy.fit(cases, shapes))

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
        anatomy = None if labels is not None else self._anatomy or make("anatomies", self.anatomy)
        return render_cases(self, n, rng, labels, anatomy, fitted_on(self._learned), self._rendered)

    def render(
        self, labels: LabelMap, rng: np.random.Generator, protocol: Protocol, lung: LungModel | None = None
    ) -> Image:
        """Return the scan of one label map with a given protocol, in HU, on the label map's grid.

        Parameters
        ----------
        lung
            What is drawn where nothing is labelled; ``None`` takes the engine's parameters.
        """
        lung = lung or lung_of(self, self.lung_sd, self.vessels)
        return self._shown(labels, tissues_of(self, self._learned), protocol, lung, rng)

    def _rendered(self, labels: LabelMap, placement: Placement | None, rng: np.random.Generator) -> Rendered:
        """Return a case of a label map, scanned as the profile, the ranges or the training images say."""
        learned = self._learned
        drawn = ranges_of(self).draw(learned.settings if learned else (), rng)
        grid, setting = export_of(self).labels(labels), drawn.setting
        anatomy, noise = rng.spawn(2)  # the dose changes the noise, not the patient
        spoils, metal, medium = noise.spawn(3)
        contrast = float(medium.uniform(*self.contrast_hu)) if self.contrast_hu[1] else 0.0
        protocol = ranges_of(self).spoiled(drawn.protocol(grid.geometry.shape[2]), spoils)
        tissues = tissues_of(self, learned, contrast)
        laid = self._laid(grid, placement, tissues)
        if laid is None:
            lung = lung_of(self, setting.texture_hu, setting.vessels, learned)
            patient = self._patient(grid, tissues, lung, anatomy)
        else:
            require_renderable(grid, {*tissues.known, *laid.model.scheme_names})
            patient = learned_patient(grid, placement, laid, tissues, setting.texture_hu, anatomy)
        if patient.around != LUNG_PIECE:
            protocol = protocol.fitting(grid.spacing[0])
        implants = self._implants(patient, metal)
        shown = drawn.gantry.scan(patient.scene, patient.grid, protocol, noise, patient.around, implants)
        told = attributes_of(protocol, drawn.gantry)
        told |= {"contrast_hu": round(contrast, 1)} if contrast else {}
        told |= {"metal": f"{len(implants)} x {self.metal_kind}"} if implants else {}
        channels = learned.channels if learned else 1
        image = export_of(self).image(patient.cropped(shown, grid.geometry.shape), labels.geometry, channels)
        return Rendered(image, labels, drawn.scanner, told)

    def _shown(
        self, labels: LabelMap, tissues: Tissues, protocol: Protocol, lung: LungModel, rng: np.random.Generator
    ) -> Image:
        """Render a label map in mm with a given protocol."""
        anatomy, noise = rng.spawn(2)
        patient = self._patient(labels, tissues, lung, anatomy)
        shown = gantry_of(self).scan(patient.scene, patient.grid, protocol, noise, patient.around)
        return Image.on(labels.geometry, patient.cropped(shown, labels.geometry.shape)[None])

    def _simulated(self, learned: Learned, labels: LabelMap, setting: Setting, rng: np.random.Generator) -> Image:
        """Render a training case's label map with densities already learned, to compare the case's image with."""
        lung = lung_of(self, setting.texture_hu, setting.vessels, learned)
        return self._shown(labels, tissues_of(self, learned), setting.protocol, lung, rng)

    def _scanned(self, scene: np.ndarray, labels: LabelMap, protocol: Protocol, rng: np.random.Generator) -> Image:
        """Scan a given scene on a label map's grid."""
        patient = picture_patient(scene, labels)
        shown = gantry_of(self).scan(patient.scene, patient.grid, protocol, rng, patient.around)
        return Image.on(labels.geometry, patient.cropped(shown, labels.geometry.shape)[None])

    def _patient(self, labels: LabelMap, tissues: Tissues, lung: LungModel, rng: np.random.Generator) -> Patient:
        """Draw what the tables say about a label map, and what lies around."""
        require_renderable(labels, tissues.known)
        names = labels.scheme.names
        around = self.around or surroundings_of(names)
        if around == "lung":
            return lung_patient(labels, tissues, lung, self.planes, rng)
        densities = {name: density_of(name, *tissues.mean_and_sd(name), self.inner_sd) for name in names}
        back = -1 if labels.affine[1, 1] > 0 else 1
        model = BodyModel(densities, tissues.margin_mm, lung.texture_hu, lung.vessels, around, self.couch, back)
        return body_patient(labels, tissues, model, rng)

    def _laid(self, labels: LabelMap, placement: Placement | None, tissues: Tissues) -> LearnedTissue | None:
        """Return the tissue that was learned, if this map is to be drawn with it."""
        tissue = self._learned.tissue if self._learned else None
        names = set(labels.scheme.names)
        if tissue is None or self.tissue == "drawn" or not set(tissue.model.scheme_names) <= names:
            return None
        wanted = self.tissue == "learned" or placement is not None or not names <= tissues.known
        return tissue if wanted else None

    def _implants(self, patient: Patient, rng: np.random.Generator) -> tuple[Implant, ...]:
        if not self.metal or rng.random() >= self.metal:
            return ()
        return draw_implants(patient.scene, patient.grid, patient.free, self.metal_mm, self.metal_kind, rng)


__all__ = ["SimulateCT"]

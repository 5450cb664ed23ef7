"""Kind ``simulate-xray``: a radiograph of any three-dimensional label map, or of the label map of a film."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np

from equipoise.core import Case, Geometry, Image, LabelMap
from equipoise.engines.imaging.simulate_xray.detector import detect
from equipoise.engines.imaging.simulate_xray.film import cast, truth_of
from equipoise.engines.imaging.simulate_xray.learned import Learned, learn_from
from equipoise.engines.imaging.simulate_xray.projection import VIEWS, Beam, View
from equipoise.engines.imaging.simulate_xray.reading import collimated, read
from equipoise.engines.imaging.simulate_xray.rooms import ROOMS, Exposure, draw_exposure
from equipoise.engines.imaging.simulate_xray.targets import require_targets, scheme_of
from equipoise.engines.imaging.simulate_xray.tissues import STRUCTURES, require_substances
from equipoise.engines.parts.device import require_device
from equipoise.engines.parts.legal import (
    require_grid,
    require_known,
    require_one_of,
    require_simulator,
    require_within,
)
from equipoise.engines.parts.placement import Placement
from equipoise.engines.parts.rendering import Rendered, Simulator
from equipoise.errors import GeometryMismatchError, PlanError

GRAIN = 0.95
"""Share of a film's own texture that is drawn anew: the rest is the noise that the detector adds."""
_DEPTH_MM = 130.0
"""From a volume's middle to the patient's skin, for label maps that show no skin."""
_RANGES = (("field_mm", 20, 1000, "mm"), ("lung_density", 0.05, 1.1, "g/cm³"))
_NUMBERS = (
    ("shadow_mm", 0.01, 100, "mm"),
    ("texture", 0, 5, ""),
    ("turn", 0, 30, "degrees"),
    ("tilt", 0, 30, "degrees"),
    ("dose", 1e-4, 1e4, ""),
    ("scatter", 0, 10, ""),
    ("blur", 0.05, 20, ""),
    ("collimation", 0, 1, ""),
    ("pixel_mm", 0.01, 10, "mm"),
    ("levels", 15, 65535, ""),
)


@dataclass(frozen=True)
class SimulateXRay(Simulator):
    """Radiographs by cone-beam projection, Beer and Lambert over a spectrum, scatter, grid, noise, blur and processing.

    A three-dimensional label map is projected; the truth is then the shadow of every structure, on the picture's grid,
    overlapping. A two-dimensional one (of a film) is rendered with tissue learned from films with the same labels, and
    stays as it is.

    Parameters
    ----------
    scanner
        A room of `ROOMS`: ``"flat panel, wall stand"``, ``"storage phosphor, wall stand"``, ``"mobile, at the bed"``,
        ``"film, digitised"``; ``None`` draws one for each picture.
    views
        Projections to draw from, as far as a room takes them: ``"PA"``, ``"AP"``, ``"lateral"`` (with
        ``arms = "raised"`` in the torso, else they lie before the chest).
    size
        Columns and rows of the picture.
    field_mm
        Range of the detector's width; its height follows from ``size``.
    targets
        Labels of the truth and what each is made of: structures of the label map, or one of `GROUPS`. These are
        ``"lungs"`` (their whole shadow), ``"lungs above the diaphragm"`` and ``"cardiac silhouette"`` (as most readers
        outline them: lung behind the heart counts, the heart ends at the aortic arch), ``"lung fields"`` (what neither
        heart nor diaphragm covers), ``"heart"`` (muscle and chambers), ``"cardiomediastinum"``, ``"bones"``. Empty:
        every structure.
    shadow_mm
        A structure's shadow ends where rays run less than this through it.
    materials
        Substance of a structure by its label's name, beside or instead of the table's: ``{lesion = "soft tissue"}``.
    lung_density
        Range of the density of aerated lung, g/cm³.
    texture
        Strength of the lung's and the bones' fine structure that label maps do not hold; 0 is none, 1 usual.
    turn, tilt
        Largest rotation of the patient about the long axis, and of the beam, in degrees.
    dose
        Factor on the photons of the room.
    scatter
        Factor on its scatter; 0 is none.
    blur
        Factor on the width of its blur, detector and focal spot.
    collimation
        Share of pictures with a dark border of the collimator.
    pixel_mm
        Size of a pixel where a film's label map states none.
    levels
        Highest grey value; up to 255 in 8, above in 16 bits.
    anatomy
        Where label maps come from if none are given.
    learn
        Whether `fit` learns tones, sharpness, noise and picture size from the training films, and the tissue under
        their labels; their patients then become parents.
    device
        Where rays through volumes are followed: ``"cpu"``, or ``"cuda"``, ``"cuda:0"`` … through torch, to the
        tolerance of `projection_on_device`; everything else is computed on the CPU.

    Notes
    -----
    The default takes about 1 s a picture on one thread, nearly all for the anatomy; a given 256³ label map 0.1 s.

    References
    ----------
    Bushberg JT et al. The Essential Physics of Medical Imaging. 3rd ed. 2012, ch. 3, 6, 7.
    """

    kind: ClassVar[str] = "simulate-xray"
    dimensions: ClassVar[tuple[int, ...]] = (2,)
    modalities: ClassVar[tuple[str, ...]] = ("X-ray",)
    needs: ClassVar[str] = "Nothing, or annotated films to learn tones and sharpness from."
    renders_labels: ClassVar[bool] = True
    simulates: ClassVar[bool] = True

    scanner: str | None = None
    views: tuple[str, ...] = ("PA", "AP")
    size: tuple[int, int] = (256, 256)
    field_mm: tuple[float, float] = (355.0, 430.0)
    targets: Mapping[str, Sequence[str]] = field(default_factory=dict)
    shadow_mm: float = 1.0
    materials: Mapping[str, str] = field(default_factory=dict)
    lung_density: tuple[float, float] = (0.20, 0.30)
    texture: float = 1.0
    turn: float = 4.0
    tilt: float = 3.0
    dose: float = 1.0
    scatter: float = 1.0
    blur: float = 1.0
    collimation: float = 0.15
    pixel_mm: float = 0.8
    levels: int = 255
    anatomy: dict[str, Any] | str = field(default_factory=lambda: dict(DEFAULT_ANATOMY))
    learn: bool = True
    device: str = "cpu"
    _learned: Learned | None = field(default=None, repr=False, compare=False)
    _anatomy: Any = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        require_simulator(self, ROOMS, _RANGES, _NUMBERS)
        require_device(self.kind, self.device)
        if not self.views:
            raise PlanError(f"views must name at least one of {', '.join(VIEWS)}")
        for view in self.views:
            require_one_of("views", view, VIEWS)
        for count in self.size:
            require_within("size", count, 16, 4096, "pixels")
        require_substances(self.materials)
        require_targets(self.targets)
        if self._rooms() == ():
            raise PlanError(
                f"scanner {self.scanner!r} takes no {' or '.join(self.views)}",
                fix="choose views that it takes, or scanner = none",
            )

    def learned_from(self, cases: Sequence[Case], rng: np.random.Generator) -> Learned:
        """Return the tones and sharpness of films, and the tissue under their labels.

        Raises
        ------
        DataError
            If there is no case, or a case is no picture.
        """
        return learn_from(cases, rng)

    def render(self, labels: LabelMap, placement: Placement | None, rng: np.random.Generator) -> Rendered:
        """Return the radiograph of one label map.

        Parameters
        ----------
        labels
            Of a volume in mm, or of a film.
        placement
            Where a film's label map comes from.
        rng
            Of acquisition, texture and noise.

        Raises
        ------
        GeometryMismatchError
            If a volume has no mm, or a film's label map is to be rendered without films learned.
        LabelError
            If the substance of a structure is not known, or a target is made of structures that are not there.
        EngineError
            If there is no such ``device``.
        """
        how, *rest = rng.spawn(4)
        if labels.geometry.ndim == 2:
            return self._film(labels, placement, how, *rest)
        require_grid(self.kind, labels, (3,), ("mm",))
        require_known(self.kind, labels, {*STRUCTURES, *self.materials}, "materials")
        exposure = self._exposure(how)
        return self._projected(labels, exposure, *rest)

    def _rooms(self) -> tuple[str, ...]:
        """Return the rooms that take one of the views."""
        return tuple(
            name for name, room in ROOMS.items() if self.scanner in (None, name) and set(room.views) & set(self.views)
        )

    def _exposure(self, rng: np.random.Generator) -> Exposure:
        rooms = self._rooms()
        name = rooms[int(rng.integers(len(rooms)))]
        room = ROOMS[name]
        views: tuple[View, ...] = tuple(v for v in room.views if v in self.views)
        drawn = draw_exposure(name, room, views, self.turn, self.tilt, self.field_mm, rng)
        return replace(
            drawn,
            photons=drawn.photons * self.dose,
            scatter=drawn.scatter * self.scatter,
            mtf50=drawn.mtf50 / self.blur,
            focus_mm=drawn.focus_mm * self.blur,
        )

    def _projected(
        self, labels: LabelMap, exposure: Exposure, tissue: np.random.Generator, noise: np.random.Generator,
        tones: np.random.Generator,
    ) -> Rendered:  # fmt: skip
        columns, rows = self.size
        pixel = exposure.field_mm / columns
        back = exposure.gap_mm + _DEPTH_MM
        toward = 1 if exposure.view == "PA" else -1
        shape = (columns, rows)
        turns = exposure.turn, exposure.tilt
        beam = Beam(exposure.distance_mm - back, back, shape, pixel, toward, *turns, exposure.shift_mm)
        lung = float(tissue.uniform(*self.lung_density))
        shadow = cast(labels, exposure.view, beam, self.materials, lung, self.shadow_mm, self.device)
        learned = self._learned
        scheme, targets = scheme_of(labels, self.targets, learned.scheme if learned else None)
        truth = truth_of(shadow, labels.scheme.names, scheme, targets)
        grey = read(shadow, exposure, pixel, self.texture, tissue, noise)
        grey = collimated(learned.toned(grey, tones) if learned else grey, self.collimation, tones)
        geometry = Geometry.from_spacing((columns, rows, 1), (pixel, pixel, 1.0))
        if learned and learned.unit == "px":
            # Films without a stated size: theirs are pixels, so are ours.
            geometry = Geometry.from_spacing((columns, rows, 1), (1.0, 1.0, 1.0), unit="px")
        image = Image.on(geometry, self._stored(grey))
        return Rendered(image, LabelMap.on(geometry, truth[..., None], scheme), exposure.room, exposure.attributes())

    def _stored(self, grey: np.ndarray) -> np.ndarray:
        if self._learned:
            return self._learned.stored(grey)[..., None]
        kind = np.uint8 if self.levels <= 255 else np.uint16
        return np.asarray(np.rint(np.clip(grey, 0, 1) * self.levels), kind)[None, ..., None]

    def _film(
        self, labels: LabelMap, placement: Placement | None, how: np.random.Generator, tissue: np.random.Generator,
        noise: np.random.Generator, tones: np.random.Generator,
    ) -> Rendered:  # fmt: skip
        """Return a picture of a film's label map."""
        if self._learned is None:
            raise GeometryMismatchError(
                f"simulate-xray projects volumes, got a 2-D label map of shape {labels.geometry.shape}",
                why="a film's label map says nothing about what lies along a ray",
                fix="fit the engine on films with these labels (learn = true), or choose a 3-D anatomy such as torso",
            )
        exposure = self._exposure(how)
        require_grid(self.kind, labels, (2,))
        pixel = self.pixel_mm if labels.geometry.unit == "px" else labels.spacing[0]
        films = self._learned.tissue
        attenuation = films.draw(labels, placement, GRAIN, tissue)
        inside = np.ones(attenuation.shape, bool)
        # The films' own blur and scatter are part of what was learned, and how noisy they are: noise is drawn anew.
        share = films.noise[int(how.integers(len(films.noise)))] * np.sqrt((1 - GRAIN**2) / self.dose)
        exposure = replace(exposure, photons=1 / (share * pixel) ** 2, electronic=0.0)
        detected = detect(np.exp(-attenuation).astype(np.float32), inside, exposure, pixel, noise)
        flux = detected / max(float(detected.mean()), 1e-6) * float(np.exp(-attenuation).mean())
        grey = self._learned.grey_of(np.asarray(-np.log(np.maximum(flux, 1e-4)), np.float32))
        image = Image.on(labels.geometry, self._learned.stored(grey)[..., None])
        return Rendered(image, labels, exposure.room, {**exposure.attributes(), "view": "as learned"})


DEFAULT_ANATOMY: Mapping[str, Any] = {"kind": "torso", "size": (224, 160, 208), "spacing": (2.0, 2.0, 2.0)}
"""Fine enough for pictures of 256²; a picture of 512² shows more with a spacing of 1.2 mm."""

__all__ = ["DEFAULT_ANATOMY", "SimulateXRay"]

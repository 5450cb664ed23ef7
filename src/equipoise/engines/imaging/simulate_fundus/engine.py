"""Kind ``simulate-fundus``: a colour photograph of the retina under any label map of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np

from equipoise.core import Case, Image, LabelMap
from equipoise.engines.imaging.simulate_fundus import optics
from equipoise.engines.imaging.simulate_fundus.cameras import CAMERAS, Exposure, Settings
from equipoise.engines.imaging.simulate_fundus.development import compressed
from equipoise.engines.imaging.simulate_fundus.eyes import guessed_eye
from equipoise.engines.imaging.simulate_fundus.fundus import Look, fundus_of
from equipoise.engines.imaging.simulate_fundus.layers import Light, Sight, seen_through, vessel_layers
from equipoise.engines.imaging.simulate_fundus.learned import Learned, learn_from
from equipoise.engines.imaging.simulate_fundus.lesions import lesion_layers, uncovered
from equipoise.engines.imaging.simulate_fundus.picture import aperture_of, exposed
from equipoise.engines.parts.legal import require_grid, require_known, require_simulator, require_within
from equipoise.engines.parts.placement import Placement
from equipoise.engines.parts.rendering import Rendered, Simulator
from equipoise.engines.parts.retina import CUP, DISC, LESIONS, STRUCTURES, Eye
from equipoise.engines.parts.retina_photograph import vessels_of
from equipoise.errors import PlanError

SPACING_MM = (0.0005, 2.0)
TAB_ANGLE = -0.62
"""Where the aperture's tab is, radians from I towards J: upper right."""


@dataclass(frozen=True)
class SimulateFundus(Simulator):
    """Colour photographs of the fundus: layers of pigment and blood, illumination, the eye's and the camera's faults.

    I is rightwards and J downwards. Reflectance is computed over the spectrum from the layers' densities and integrated
    over the bands of a named camera; light crosses retinal vessels by the length of its path through their blood. The
    labels ``artery``, ``vein``, ``vessel``, ``optic disc``, ``optic cup`` and ``fovea`` are known; unlabelled, disc and
    fovea are put where the vessels converge and where they leave room. The anatomy ``eye-fundus`` tells all of that
    exactly. Lesions are ``exudate``, ``haemorrhage`` and ``microaneurysm``, behind the vessels; an exudate hides a
    vessel whose label ends at it. Fitted on photographs, the engine shows label maps of other structures, or of the
    anatomies ``real`` and ``warped``, with tissue learned from them, and simulated eyes in the light and the colours of
    the photographs. The truth is the label map as given.

    Parameters
    ----------
    scanner
        A camera of `CAMERAS`; ``None`` draws one for each picture.
    age
        Range in years: the lens yellows, nerve fibres shine less.
    pigmentation
        Range of the melanin of choroid and pigment epithelium, 0 blond to 1 dark.
    blood_um
        Range of the choroid's blood as one layer, µm.
    macular
        Range of the density of macular pigment at 460 nm.
    sheen
        Factor on what nerve fibres and the inner limiting membrane reflect.
    tigroid
        Factor on how clearly choroidal vessels shine through; 0 hides them.
    reflex
        Factor on the light reflex along vessels.
    exposure
        Range of the exposure over the usual one.
    white_balance
        SD of the logarithm of the blue colour's balance; half of it in red.
    unevenness
        Range of how much lighter one side is lit; large values also throw shadows.
    haze
        Range of the light from the pupil's edge at the rim of the field, as a share of the mean.
    defocus_um
        Range of the SD of the defocus on the retina, µm, beside the camera's own.
    opacity
        Range of the share of the light that turbid media scatter over the picture.
    noise
        Factor on the SD of the camera's photon noise.
    sharpening, quality
        Ranges of the camera's sharpening and of JPEG's quality (101 is not compressed); ``None`` is the camera's own.
    tissues
        Reflectance of a structure by its label's name, as factors on red, green and blue light of the fundus under it:
        ``{drusen = [1.1, 1.4, 1.3]}``. Of a lesion they replace the physics.
    colour
        Whether pictures have three colours; else they are red-free, of the green band alone.
    field_deg
        Field of view in degrees that sets the scale of label maps in pixels without one of their own.
    um_per_px
        Their scale instead, µm.
    texture
        Strength of learned texture; 1 is that of the training pictures.
    anatomy
        Where label maps come from if none are given.
    learn
        Whether `fit` learns from the training cases, whose patients then become parents.

    Notes
    -----
    A picture of 512² takes about 40 ms on one thread beside its anatomy. Scatter is that of layers (two fluxes), not of
    single photons: shadows of vessels on the choroid are not shifted.

    References
    ----------
    See `equipoise.engines.imaging.simulate_fundus.optics`, ``.fundus`` and ``.lesions``. Photographs:
    Saine PJ, Tyler ME. Ophthalmic Photography. 2nd ed. 2002.
    """

    kind: ClassVar[str] = "simulate-fundus"
    dimensions: ClassVar[tuple[int, ...]] = (2,)
    modalities: ClassVar[tuple[str, ...]] = ("fundus",)
    needs: ClassVar[str] = "Nothing, or annotated fundus photographs in 8-bit colours or grey values to learn from."
    renders_labels: ClassVar[bool] = True
    simulates: ClassVar[bool] = True

    scanner: str | None = None
    age: tuple[float, float] = (15.0, 80.0)
    pigmentation: tuple[float, float] = (0.1, 0.9)
    blood_um: tuple[float, float] = (50.0, 130.0)
    macular: tuple[float, float] = (0.2, 0.7)
    sheen: float = 1.0
    tigroid: float = 1.0
    reflex: float = 1.0
    exposure: tuple[float, float] = (0.7, 1.35)
    white_balance: float = 0.18
    unevenness: tuple[float, float] = (0.0, 0.35)
    haze: tuple[float, float] = (0.0, 0.25)
    defocus_um: tuple[float, float] = (0.0, 14.0)
    opacity: tuple[float, float] = (0.08, 0.4)
    noise: float = 1.0
    sharpening: tuple[float, float] | None = None
    quality: tuple[int, int] | None = None
    tissues: Mapping[str, Sequence[float]] = field(default_factory=dict)
    colour: bool = True
    field_deg: float = 45.0
    um_per_px: float | None = None
    texture: float = 1.0
    anatomy: dict[str, Any] | str = "eye-fundus"
    learn: bool = True
    _learned: Learned | None = field(default=None, repr=False, compare=False)
    _anatomy: Any = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not isinstance(self.tissues, Mapping):
            raise PlanError(f"tissues must be a table of label = [red, green, blue], got {self.tissues!r}")
        for label, given in self.tissues.items():
            _require_factors(label, given)
        require_simulator(self, CAMERAS, _RANGES, _NUMBERS)

    def learned_from(self, cases: Sequence[Case], rng: np.random.Generator) -> Learned:
        """Return what photographs say about a camera and its eyes; `DataError` if one is no 8-bit photograph."""
        return learn_from(cases, rng)

    def render(self, labels: LabelMap, placement: Placement | None, rng: np.random.Generator) -> Rendered:
        """Return the photograph of one label map, 8 bit, on its grid.

        Parameters
        ----------
        labels
            One slice.
        placement
            Where a training case's tissue came to lie, or the `Eye` that was drawn.
        """
        require_grid(self.kind, labels, (2,), spacing=SPACING_MM)
        learned = self._learned
        if learned and not isinstance(placement, Eye) and learned.tissue.scheme_names == labels.scheme.names:
            grey, seen, shot = learned.pictured(labels, placement, self.texture, rng)
            stored = compressed(grey, _LEARNED_QUALITY)
            attributes: dict[str, str | float] = {"tissue": "learned", "blur_px": round(shot.blur_px, 2)}
            return self._rendered(stored, labels, seen, "learned camera", attributes)
        require_known(self.kind, labels, [*STRUCTURES, *LESIONS, *self.tissues], "tissues")
        drawing, showing = rng.spawn(2)
        names = [self.scanner] if self.scanner else list(CAMERAS)
        settings = Settings(**{name: getattr(self, name) for name in Settings.__dataclass_fields__})
        person, look, exposure = settings.draw(names[int(drawing.integers(len(names)))], drawing)
        masks = labels.masks()[..., 0]
        given = placement if isinstance(placement, Eye) else None
        eye = given or guessed_eye(labels, masks, self.um_per_px, self.field_deg)
        light = self._light(labels.scheme.names, masks, eye, person, look, exposure, showing)
        attributes = {
            "tissue": "simulated",
            "um_per_px": round(eye.landmarks.um_per_px, 3),
            **_of_person(person, look, eye),
        }
        if learned:
            vessels = vessels_of(labels.scheme.names, masks)
            grey, seen, shot = learned.photographed(light, eye.landmarks, eye.field, vessels, showing)
            attributes["blur_px"] = round(shot.blur_px, 2)
            return self._rendered(compressed(grey, _LEARNED_QUALITY), labels, seen, "learned camera", attributes)
        aperture = aperture_of(masks.shape[1:], eye.field, CAMERAS[exposure.camera], TAB_ANGLE)
        grey = exposed(light.total, exposure, aperture, eye.landmarks.um_per_px, showing)
        return self._rendered(
            grey, labels, aperture.open > 0.5, exposure.camera, {**attributes, **exposure.attributes()}
        )

    def _rendered(
        self, grey: np.ndarray, labels: LabelMap, seen: np.ndarray, camera: str, attributes: dict[str, str | float]
    ) -> Rendered:
        """Return the case's parts; labels beyond the aperture count neither for nor against a prediction."""
        image = Image.on(labels.geometry, np.ascontiguousarray(grey[..., None]))
        beyond = ~seen[None, :, :, None]
        if (labels.masks() & beyond).any():
            if labels.ignore is not None:
                beyond = beyond | np.asarray(labels.ignore).astype(bool)
            labels = replace(labels, ignore=np.ascontiguousarray(beyond))
        return Rendered(image, labels, camera, attributes)

    def _light(
        self,
        names: tuple[str, ...],
        masks: np.ndarray,
        eye: Eye,
        person: optics.Fundus,
        look: Look,
        exposure: Exposure,
        rng: np.random.Generator,
    ) -> Light:
        camera = CAMERAS[exposure.camera]
        bands = optics.bands(camera.centres_nm, camera.widths_nm)
        colours = self._learned.colours if self._learned else 3 if self.colour else 1
        sight = Sight(person, bands if colours == 3 else bands[1:2])
        # An anatomy's outlines are smoother than its masks; a given mask is all there is.
        parts = () if eye.exact else (("disc", DISC), ("cup", CUP))
        drawn = {part: masks[names.index(name)] for part, name in parts if name in names}
        fundus = fundus_of(sight, look, eye.landmarks, drawn, masks.shape[1:], rng)
        vessels = vessel_layers(sight, uncovered(eye.lumen_um, names, masks), eye.axis, look.reflex)
        total = healthy = seen_through(fundus, vessels)
        stated = {name: factors for name, factors in self.tissues.items() if name not in STRUCTURES}
        if any(name in names for name in (*LESIONS, *stated)):
            (thickness,) = rng.spawn(1)
            lesions = lesion_layers(sight, names, masks, stated, eye.landmarks.um_per_px, thickness)
            total = seen_through(fundus, [*lesions, *vessels])
        return Light(fundus, healthy, total)


def _of_person(person: optics.Fundus, look: Look, eye: Eye) -> dict[str, str | float]:
    return {
        "eye": "right" if eye.landmarks.right else "left",
        "age": round(person.age, 1),
        "melanin": round(person.melanin, 3),
        "rpe_melanin": round(person.rpe, 3),
        "choroid_blood_um": round(person.blood_um, 1),
        "macular_pigment": round(person.macular, 3),
        "sheen": round(person.sheen, 4),
        "tigroid": round(look.tigroid, 3),
    }


def _require_factors(label: str, given: object) -> None:
    good = isinstance(given, Sequence) and not isinstance(given, str) and len(given) == 3
    if not good or not all(isinstance(x, (int, float)) for x in given):  # type: ignore[attr-defined]
        raise PlanError(f"tissues.{label} must be [red, green, blue] factors on the fundus, got {given!r}")
    for value in given:  # type: ignore[attr-defined]
        require_within(f"tissues.{label}", value, 0, 20)


_LEARNED_QUALITY = 97
_RANGES = (
    ("age", 0.0, 110.0, "years"),
    ("pigmentation", 0.0, 1.5, ""),
    ("blood_um", 5.0, 400.0, "µm"),
    ("macular", 0.0, 2.0, ""),
    ("exposure", 0.05, 10.0, ""),
    ("unevenness", 0.0, 0.9, ""),
    ("haze", 0.0, 5.0, ""),
    ("defocus_um", 0.0, 300.0, "µm"),
    ("opacity", 0.0, 0.9, ""),
    ("sharpening", 0.0, 3.0, ""),
    ("quality", 5, 101, ""),
)
_NUMBERS = (
    ("sheen", 0.0, 10.0, ""),
    ("tigroid", 0.0, 5.0, ""),
    ("reflex", 0.0, 20.0, ""),
    ("white_balance", 0.0, 1.0, ""),
    ("noise", 0.0, 30.0, ""),
    ("field_deg", 5.0, 200.0, "degrees"),
    ("um_per_px", 0.5, 500.0, "µm"),
    ("texture", 0.0, 5.0, ""),
)

__all__ = ["SimulateFundus"]

"""Kind ``simulate-histology``: an H&E section of any label map of tissue."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np

from equipoise.core import Case, Image, LabelMap
from equipoise.engines.imaging.simulate_histology.exposure import expose, transmitted
from equipoise.engines.imaging.simulate_histology.folds import folded, out_of_focus
from equipoise.engines.imaging.simulate_histology.learned import Learned, learn_from, nuclear_mask
from equipoise.engines.imaging.simulate_histology.looks import Looks
from equipoise.engines.imaging.simulate_histology.scanners import PROFILES, Acquisition, Settings
from equipoise.engines.imaging.simulate_histology.section import Section, innermost
from equipoise.engines.imaging.simulate_histology.stains import LABORATORIES
from equipoise.engines.parts.appearance import blur
from equipoise.engines.parts.drawn_over import divided
from equipoise.engines.parts.legal import (
    require_grid,
    require_one_of,
    require_simulator,
    require_within,
)
from equipoise.engines.parts.nuclear_shapes import size_of_pixel
from equipoise.engines.parts.placement import Placement
from equipoise.engines.parts.rendering import Rendered, Simulator
from equipoise.engines.parts.tissue_scene import SceneVoxels, smooth_noise
from equipoise.errors import PlanError

SPACING_MM = (0.00005, 0.01)
"""0.05 µm is below the resolution of light; above 10 µm a nucleus is no pixel wide."""

UNEVEN = 0.04
"""Standard deviation of a section's thickness within a field, relative to its mean."""

_RANGES = (
    ("haematoxylin", 0.05, 5.0, ""),
    ("eosin", 0.05, 5.0, ""),
    ("thickness_um", 0.5, 20.0, "µm"),
    ("chromatin", 0.0, 1.5, ""),
    ("vesicular", 0.0, 1.0, ""),
    ("clearing", 0.0, 1.0, ""),
    ("membrane", -1.0, 1.0, ""),
    ("gaps", 0.0, 0.9, ""),
    ("aperture", 0.05, 0.95, ""),
    ("defocus_um", 0.0, 20.0, "µm"),
    ("gamma", 0.3, 3.0, ""),
    ("saturation", 0.0, 3.0, ""),
    ("chromatic_um", 0.0, 5.0, "µm"),
    ("electrons", 100.0, 1e7, "electrons"),
    ("jpeg", 1, 100, ""),
)
_NUMBERS = (
    ("stain_degrees", 0.0, 30.0, "degrees"),
    ("texture", 0.0, 3.0, ""),
    ("folds", 0.0, 1.0, ""),
    ("um_per_px", 1000 * SPACING_MM[0], 1000 * SPACING_MM[1], "µm"),
)


@dataclass(frozen=True)
class SimulateHistology(Simulator):
    """H&E pictures: stain in chromatin, cytoplasm and collagen, absorption by Beer-Lambert, optics, sensor, JPEG.

    Known structures are those of `MEANINGS` (nuclei by kind, epithelium, lumen, stroma, gland, red cell). Around
    nuclei that come alone, epithelium and stroma are drawn where nuclei of their kind lie. A fitted engine shows the
    training pictures' stains, glass, sharpness and noise, and gives nuclei and the rest their distribution of
    concentrations; label maps of training patients are shown with tissue that was learned from the pictures. The truth
    is the label map as given.

    Parameters
    ----------
    scanner
        A profile of `PROFILES`; ``None`` draws one per case.
    laboratory
        Published stain vectors, of `LABORATORIES`; ``None`` draws one per case.
    stain_degrees
        Standard deviation of the angle by which a section's stains differ from its laboratory's.
    haematoxylin, eosin
        Ranges of factors on the concentrations, log-uniform.
    thickness_um
        Range of the section's thickness.
    chromatin, vesicular
        Ranges of the amplitude of the chromatin's clumps, and of the share that lies on the nuclear membrane.
    clearing
        Range of how empty cytoplasm is, 0 to 1; low values are more frequent.
    membrane
        Range of cells' borders, from open clefts (-1) to dark lines (1).
    gaps
        Range of the share of stroma that is open.
    folds
        Share of pictures with a tissue fold.
    aperture, gamma, saturation, chromatic_um, electrons, jpeg
        Ranges of numerical aperture, exponent of the light, colour saturation, lateral chromatic shift, photo-electrons
        of a pixel at glass, and JPEG quality (100: not compressed); ``None`` is the scanner's.
    defocus_um
        Range of the distance from the plane of focus.
    texture
        Factor on the grain of learned tissue. Its fine detail is random, and looks stronger than ordered detail does.
    stains
        ``[haematoxylin, eosin]`` of a structure by its label's name, in optical density of a 4 µm section.
    um_per_px
        Size of a pixel of label maps that state none (unit "px").
    anatomy
        Where label maps come from if none are given.
    learn
        Whether `fit` learns from the training cases, whose patients then become parents.

    Notes
    -----
    A tile of 256 x 256 takes about 40 ms on one thread, a fit 1 to 2 s for a picture of 1000 x 1000.

    References
    ----------
    Ruifrok AC, Johnston DA. Quantification of histochemical staining by color deconvolution. Anal Quant Cytol Histol
    2001;23:291-299.

    Macenko M et al. A method for normalizing histology slides for quantitative analysis. ISBI 2009:1107-1110.
    doi:10.1109/ISBI.2009.5193250
    """

    kind: ClassVar[str] = "simulate-histology"
    dimensions: ClassVar[tuple[int, ...]] = (2,)
    modalities: ClassVar[tuple[str, ...]] = ("histology",)
    needs: ClassVar[str] = "Nothing, or annotated H&E pictures in 8-bit RGB to learn from."
    renders_labels: ClassVar[bool] = True
    simulates: ClassVar[bool] = True

    scanner: str | None = None
    laboratory: str | None = None
    stain_degrees: float = 4.0
    haematoxylin: tuple[float, float] = (0.6, 1.4)
    eosin: tuple[float, float] = (0.6, 1.5)
    thickness_um: tuple[float, float] = (3.0, 5.0)
    chromatin: tuple[float, float] = (0.15, 0.4)
    vesicular: tuple[float, float] = (0.1, 0.6)
    clearing: tuple[float, float] = (0.0, 0.9)
    membrane: tuple[float, float] = (-0.8, 0.8)
    gaps: tuple[float, float] = (0.0, 0.35)
    folds: float = 0.04
    aperture: tuple[float, float] | None = None
    defocus_um: tuple[float, float] = (0.0, 0.5)
    gamma: tuple[float, float] | None = None
    saturation: tuple[float, float] | None = None
    chromatic_um: tuple[float, float] | None = None
    electrons: tuple[float, float] | None = None
    jpeg: tuple[int, int] | None = None
    texture: float = 0.85
    stains: Mapping[str, Sequence[float]] = field(default_factory=dict)
    um_per_px: float = 0.25
    anatomy: dict[str, Any] | str = "tissue"
    learn: bool = True
    _learned: Learned | None = field(default=None, repr=False, compare=False)
    _anatomy: Any = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        require_simulator(self, PROFILES, _RANGES, _NUMBERS)
        if self.laboratory is not None:
            require_one_of("laboratory", self.laboratory, LABORATORIES)
        for name, given in self.stains.items():
            if not isinstance(given, Sequence) or isinstance(given, str) or len(given) != 2:
                raise PlanError(
                    f"stains.{name} = {given!r} is not [haematoxylin, eosin]", fix=f"set stains.{name} = [0.7, 0.1]"
                )
            for stain, amount in zip(("haematoxylin", "eosin"), given, strict=True):
                require_within(f"stains.{name}, {stain}", amount, 0.0, 5.0, "optical density of a 4 µm section")

    def learned_from(self, cases: Sequence[Case], rng: np.random.Generator) -> Learned:
        """Return stains, glass, sharpness and tissue of the training pictures; `DataError` if one is not in colours."""
        for case in cases:
            self._require(case.labels)
        return learn_from(cases, self._section.painted, rng)

    def render(self, labels: LabelMap, placement: Placement | None, rng: np.random.Generator) -> Rendered:
        """Return the picture of one label map, 8-bit colours, on its grid.

        Parameters
        ----------
        placement
            Where a training case's tissue came to lie, if the label map is one's.
        """
        self._require(labels)
        taking, painting, folding, sensing = rng.spawn(4)
        um = size_of_pixel(labels, self.um_per_px)
        acquisition = self._acquisition(taking)
        concentrations, acquisition = self._stained(labels, placement, acquisition, um, painting)
        creased = bool(folding.random() < self.folds)
        thickness = 1 + UNEVEN * smooth_noise(labels.geometry.shape[:2], 60.0, um, folding)[..., None]
        if creased:
            concentrations, share = folded(concentrations, um, folding)
        light = transmitted(concentrations, acquisition, thickness)
        if creased:
            light = out_of_focus(light, share, um)
        image = Image.on(labels.geometry, expose(light, acquisition, um, sensing))
        attributes = {"um_per_px": round(um, 4), "fold": float(creased), **acquisition.attributes()}
        return Rendered(image, labels, acquisition.scanner, attributes)

    def _require(self, labels: LabelMap) -> None:
        require_grid(self.kind, labels, ndim=(2,), spacing=SPACING_MM)

    def _acquisition(self, rng: np.random.Generator) -> Acquisition:
        scanners, laboratories = sorted(PROFILES), sorted(LABORATORIES)
        scanner, laboratory = (names[int(rng.integers(len(names)))] for names in (scanners, laboratories))
        settings = Settings(**{name: getattr(self, name) for name in Settings.__dataclass_fields__})
        return settings.draw(self.scanner or scanner, self.laboratory or laboratory, rng)

    def _stained(
        self,
        labels: LabelMap,
        placement: Placement | None,
        acquisition: Acquisition,
        um: float,
        rng: np.random.Generator,
    ) -> tuple[np.ndarray, Acquisition]:
        """Return concentrations, float32, shape ``(3, I, J, 1)``, and the acquisition that shows them."""
        learned = self._learned
        if learned is None or not set(learned.tissue.scheme_names) <= set(labels.scheme.names):
            return self._section.painted(labels, rng), acquisition
        if isinstance(innermost(labels).voxels, SceneVoxels):
            slide = learned.slide(None, rng)
            painted = self._section.painted(labels, rng, lambda c, under: slide.matched(c, nuclear_mask(under)))
            return slide.red_cells(painted), slide.acquisition(acquisition, um)
        known, besides = divided(labels, learned.tissue.scheme_names)
        slide, drawn = learned.scene(known, placement, self.texture, rng)
        if besides.any():
            paint = lambda piece: slide.red_cells(self._section.painted(piece, rng))  # noqa: E731
            fresh = self._section.over(drawn, labels, besides, paint)
            drawn = drawn + blur(besides[None].astype(np.float32), (slide.blur_px, slide.blur_px, 0.0)) * (
                fresh - drawn
            )
        # The pictures' own blur, fringes and noise are part of the tissue that was learned from them.
        clean = replace(slide.acquisition(acquisition, um), blur_um=(0.0, 0.0, 0.0), chromatic_um=0.0, noise=0.0)
        return drawn, clean

    @property
    def _section(self) -> Section:
        looks = Looks(**{name: getattr(self, name) for name in Looks.__dataclass_fields__})
        return Section(looks, self.stains, self.um_per_px)


__all__ = ["SimulateHistology"]

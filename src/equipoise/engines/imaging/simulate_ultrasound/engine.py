"""Kind ``simulate-ultrasound``: a B-mode picture of any label map."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from equipoise.core import Case, Image, LabelMap
from equipoise.engines.imaging.simulate_ultrasound.beams import BeamGrid
from equipoise.engines.imaging.simulate_ultrasound.bmode import displayed, independent_fields, speckled, strengths_of
from equipoise.engines.imaging.simulate_ultrasound.grain import LEARNED_RANGE_DB
from equipoise.engines.imaging.simulate_ultrasound.learned import Learned, learn_from
from equipoise.engines.imaging.simulate_ultrasound.likeness import alike, ignored, learned_scene
from equipoise.engines.imaging.simulate_ultrasound.limits import NUMBERS, RANGES, SPACING_MM, require_tissue
from equipoise.engines.imaging.simulate_ultrasound.rf_picture import beamformed
from equipoise.engines.imaging.simulate_ultrasound.scanners import PROFILES, Acquisition, Settings, suitable
from equipoise.engines.imaging.simulate_ultrasound.speckle import FWHM
from equipoise.engines.imaging.simulate_ultrasound.tissues import TISSUES, Scene, draw_scene, unknown_labels
from equipoise.engines.parts.legal import require_grid, require_known, require_one_of, require_simulator
from equipoise.engines.parts.placement import Placement
from equipoise.engines.parts.rendering import Rendered, Simulator

TIERS = ("convolution", "rf")


@dataclass(frozen=True)
class SimulateUltrasound(Simulator):
    """B-mode pictures and stacks of frames: scatterers by echogenicity, pulse, beam, losses on the way, display.

    I is lateral and J depth; the probe touches the upper side of the picture. Slices along K are frames of one sweep.
    Structures get echogenicity, impedance and attenuation from `TISSUES` by their label's name, so bone and gas throw
    shadows, cysts enhance what lies behind them, and interfaces shine where the beam meets them at a right angle.
    Labels that no table knows are drawn with the echogenicity that `fit` has read off the training pictures, inside
    and around them; the speckle is then that of the training pictures, and so are the fan's outline and what the
    scanner overlays. The truth is the label map as given.

    Parameters
    ----------
    scanner
        A profile of `PROFILES`; ``None`` draws one that is used for pictures of the label map's size.
    tier
        ``"convolution"``: scatterers convolved with a point-spread function that changes with depth. ``"rf"``: signals
        of point scatterers at the elements, delay-and-sum; its side lobes and grating lobes are real; 50 times slower.
    frequency_mhz
        Range of centre frequencies; ``None`` is the profile's.
    focus
        Range of the transmit focus, as a share of the depth.
    tgc
        Range of the attenuation that the time-gain compensation makes up for, dB/cm/MHz.
    slider_db
        Standard deviation of the operator's eight sliders, dB.
    gain_db
        Range of the level of liver above black, dB.
    dynamic_range_db, gamma, looks
        Ranges of the display: dynamic range, exponent of the grey map, looks averaged by compounding; ``None`` is the
        profile's.
    speckle
        Range of the share of the speckle's contrast in dB that the scanner's speckle filter leaves; 1 is no filter.
    noise_db
        Range of the electronic noise against liver at the probe; it grows with the time-gain compensation.
    clutter_db
        Range of the haze that side lobes and slice thickness spread from bright tissue, dB against its surroundings.
    reverberation_db
        Range of the rings under the probe against liver, dB.
    scatterers
        Range of scatterers in a resolution cell; below 10 the speckle is no longer fully developed.
    widen
        Range of the factor by which aberration widens the beam.
    interface_db
        Level of a totally reflecting interface against liver, dB.
    texture
        Factor on patches and streaks of echogenicity within a tissue.
    tissues
        ``[dB against liver, MRayl, dB/cm/MHz]`` of a structure by its label's name, beside or instead of `TISSUES`.
    background
        Tissue of `TISSUES` where nothing is labelled.
    pixel_mm
        Size of a pixel of pictures that state none (unit "px").
    transmits, elements
        Of the RF tier: transmissions that are added up, and most elements of the array.
    shadow_db_mm
        Loss there and back per mm of what is 15 dB brighter than the median, where echogenicity is learned.
    overlay
        Whether learned pictures show what the training pictures have outside of the fan or blacked out.
    ignore_outside
        Whether voxels outside of the fan count neither for nor against a prediction; ``None`` decides by the training
        cases: not if their outlines go on where the fan ends.
    anatomy
        Where label maps come from if none are given.
    learn
        Whether `fit` learns from the training cases, whose patients then become parents.

    Notes
    -----
    Attenuation is that of the centre frequency for the whole pulse. Sound is not refracted, and its speed is 1540 m/s
    everywhere.

    References
    ----------
    Szabo TL. Diagnostic Ultrasound Imaging: Inside Out. 2nd ed. 2014.
    Of tissue properties, and which of them are assumed: see `tissues`.
    """

    kind: ClassVar[str] = "simulate-ultrasound"
    dimensions: ClassVar[tuple[int, ...]] = (2, 3)
    modalities: ClassVar[tuple[str, ...]] = ("ultrasound",)
    needs: ClassVar[str] = "Nothing, or annotated B-mode pictures in 8-bit grey values to learn from."
    renders_labels: ClassVar[bool] = True
    simulates: ClassVar[bool] = True

    scanner: str | None = None
    tier: str = "convolution"
    frequency_mhz: tuple[float, float] | None = None
    focus: tuple[float, float] = (0.35, 0.8)
    tgc: tuple[float, float] = (0.45, 0.75)
    slider_db: float = 1.5
    gain_db: tuple[float, float] = (24.0, 40.0)
    dynamic_range_db: tuple[float, float] | None = None
    gamma: tuple[float, float] | None = None
    looks: tuple[int, int] | None = None
    speckle: tuple[float, float] = (0.55, 1.0)
    noise_db: tuple[float, float] = (-75.0, -55.0)
    clutter_db: tuple[float, float] = (-40.0, -28.0)
    reverberation_db: tuple[float, float] = (-20.0, 0.0)
    scatterers: tuple[float, float] = (10.0, 40.0)
    widen: tuple[float, float] = (1.1, 1.7)
    interface_db: float = 25.0
    texture: float = 1.0
    tissues: Mapping[str, Sequence[float]] = field(default_factory=dict)
    background: str = "soft tissue"
    pixel_mm: float = 0.3
    transmits: int = 3
    elements: int = 192
    shadow_db_mm: float = 0.3
    overlay: bool = True
    ignore_outside: bool | None = None
    anatomy: dict[str, Any] | str = "breast-and-neck"
    learn: bool = True
    _learned: Learned | None = field(default=None, repr=False, compare=False)
    _anatomy: Any = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        require_simulator(self, PROFILES, RANGES, NUMBERS)
        require_one_of("tier", self.tier, TIERS)
        require_one_of("background", self.background, TISSUES)
        for label, given in self.tissues.items():
            require_tissue(label, given)

    def learned_from(self, cases: Sequence[Case], rng: np.random.Generator) -> Learned:
        """Return outlines, grain and echogenicity of B-mode pictures.

        Raises
        ------
        DataError
            If there is no case, or a picture has no 8-bit grey values.
        """
        return learn_from(cases, LEARNED_RANGE_DB, 1.0, rng)

    def render(self, labels: LabelMap, placement: Placement | None, rng: np.random.Generator) -> Rendered:
        """Return the picture of one label map, 8 bit, on its grid.

        Parameters
        ----------
        placement
            Where a training case's tissue came to lie, if the label map is one's.
        """
        require_grid(self.kind, labels, spacing=SPACING_MM)
        learned = self._learned if unknown_labels(labels.scheme.names, self.tissues) else None
        if learned is None or learned.tissue.scheme_names != labels.scheme.names:
            learned = None
            unknown = set(unknown_labels(labels.scheme.names, self.tissues))
            require_known(
                self.kind, labels, [*TISSUES, *self.tissues, *(set(labels.scheme.names) - unknown)], "tissues"
            )
        taking, scening, sounding = rng.spawn(3)
        voxel = self._voxel_mm(labels)
        acquisition = self._acquisition(labels, voxel, taking)
        source = learned.source(labels, placement, taking) if learned else None
        if learned and source:
            acquisition = alike(acquisition, learned, source, labels, placement, voxel)
            scene = learned_scene(learned, labels, placement, acquisition, self.shadow_db_mm, self.texture, scening)
        else:
            scene = draw_scene(labels, self.tissues, self.background, self.texture, voxel, scening)
        i, j, _ = labels.geometry.shape
        grid = BeamGrid.of(acquisition, (i, j), voxel[:2])
        grey, seen = self._shown(scene, acquisition, grid, voxel[2], sounding), grid.seen
        if learned and source and self.overlay:
            seen = seen & learned.seen(source, grey.shape[:2], placement)
            grey *= seen[:, :, None]
            if learned.frame is not None and learned.frame.shape == grey.shape[:2]:
                grey = np.where((seen | (learned.frame == 0))[:, :, None], grey, learned.frame[:, :, None])
        image = Image.on(labels.geometry, np.rint(grey)[None].astype(np.uint8))
        kept = self.ignore_outside is False or (self.ignore_outside is None and learned is not None and learned.beyond)
        truth = labels if kept or seen.all() else ignored(labels, ~seen)
        attributes = {"tier": self.tier, "pixel_mm": round(voxel[0], 4), **acquisition.attributes()}
        return Rendered(image, truth, acquisition.scanner, attributes)

    def _voxel_mm(self, labels: LabelMap) -> tuple[float, float, float]:
        factor = self.pixel_mm if labels.unit == "px" else 1.0
        i, j, k = (float(s * factor) for s in labels.spacing)
        return i, j, k

    def _acquisition(
        self, labels: LabelMap, voxel: tuple[float, float, float], rng: np.random.Generator
    ) -> Acquisition:
        width, height = labels.geometry.shape[0] * voxel[0], labels.geometry.shape[1] * voxel[1]
        names = [self.scanner] if self.scanner else suitable(width, height)
        settings = Settings(**{name: getattr(self, name) for name in Settings.__dataclass_fields__})
        return settings.draw(names[int(rng.integers(len(names)))], width, height, rng)

    def _shown(
        self, scene: Scene, acquisition: Acquisition, grid: BeamGrid, apart_mm: float, rng: np.random.Generator
    ) -> np.ndarray:
        """Return the grey values of all slices, float32, shape ``(I, J, K)``."""
        shape = scene.echo_db.shape
        # Frames of a sweep share the scatterers that both beams hit: those of a Gaussian slice profile.
        kept = float(np.exp(-((apart_mm * FWHM / acquisition.elevation_mm) ** 2) / 4)) if shape[2] > 1 else 0.0
        out = np.empty(shape, np.float32)
        fields: list[np.ndarray] = []
        for k in range(shape[2]):
            strengths = strengths_of(scene, k, acquisition, grid)
            if self.tier == "rf":
                given = (strengths, acquisition, grid, self.interface_db, self.transmits, self.elements)
                envelopes = [beamformed(*given, rng) for _ in range(acquisition.looks)]
            else:
                drawn = [independent_fields(acquisition, grid, rng) for _ in range(acquisition.looks)]
                new, old = np.float32(np.sqrt(1 - kept**2)), np.float32(kept)
                fields = [new * a + old * b for a, b in zip(drawn, fields, strict=True)] if fields else drawn
                envelopes = [speckled(strengths, acquisition, grid, self.interface_db, f) for f in fields]
            out[:, :, k] = displayed(envelopes, strengths, acquisition, grid, rng)
        return out

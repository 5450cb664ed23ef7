"""Kind ``eye-fundus``: optic disc and cup, fovea, arteries and veins of the posterior pole."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np

from equipoise.core import Case, Geometry, Label, LabelMap, LabelScheme
from equipoise.core.registry import require_types
from equipoise.engines.anatomy.eye_fundus.learned import Frame, Learned, learn_from, signature_of
from equipoise.engines.anatomy.eye_fundus.paint import paint_vessels
from equipoise.engines.anatomy.eye_fundus.trees import Shape, Tree, grow_pair
from equipoise.engines.parts.legal import require_limits, require_one_of, require_within
from equipoise.engines.parts.retina import (
    ARTERY,
    CUP,
    DISC,
    FOVEA,
    FOVEA_BELOW,
    STRUCTURES,
    UM_PER_DEGREE,
    VEIN,
    VESSEL,
    Ellipse,
    Eye,
    Field,
    Landmarks,
)
from equipoise.errors import PlanError

_CODES = {DISC: "81016008", FOVEA: "67046006"}
_FOVEA_MM = 0.75
"""Radius of the fovea, by anatomy's definition."""
EYES = ("left", "right", "both")
CENTRES = ("macula", "disc", "between", "any")


@dataclass(frozen=True)
class EyeFundus:
    """The posterior pole as a fundus camera shows it: I to the right, J downwards, the patient upright.

    Arteries and veins are two trees each grown from the disc, with arcades around the macula, twigs where blood is
    missing, calibres by Murray's law, and a zone without vessels at the fovea. Labels overlap: cup in disc, arteries on
    veins. Whatever is drawn further on the retina, such as lesions, may use the landmarks and the blood that
    `draw_placed` yields with each map.

    Parameters
    ----------
    size
        Columns and rows.
    field_deg
        Range of the camera's field of view in degrees of visual angle, 288 µm each; sets the scale.
    um_per_px
        Scale of a pixel instead; the field then is what the picture holds.
    unit
        ``"mm"``, or ``"px"`` for maps without a stated spacing.
    eye
        ``"left"``, ``"right"`` or ``"both"``.
    centre
        What the camera is aimed at: ``"macula"``, ``"disc"``, ``"between"``, ``"any"`` of these.
    structures
        Labels: ``"artery"``, ``"vein"``, ``"optic disc"``, ``"optic cup"``, ``"fovea"``; ``"vessel"`` is both trees.
    murray
        Range of the exponent of Murray's law; 3 is least work, measured are 2.6 to 3.0 (Luo et al. 2017).
    artery_um
        Range of the calibre of the widest artery one disc diameter from the disc, blood column (Wong et al. 2004).
    avr
        Range of artery over vein, 0.6 to 0.8 in health (ibid.).
    twigs
        Range of the ends of each tree on the whole posterior pole.
    tortuosity
        Range of the winding of vessels; 1 is usual, 0 none.
    disc_mm
        Range of the disc's vertical diameter, 1.92 ± 0.29 mm (Jonas et al. 1988); it is 9 % less wide.
    cup
        Range of the cup's diameter over the disc's, 0.2 to 0.6 in health (ibid.).
    fovea_mm
        Range of the distance of disc and fovea, 4.76 ± 0.34 mm (Jonas et al. 2015).
    free_mm
        Range of the radius about the fovea in which a camera sees no vessel.
    labelled_um
        Vessels narrower than this are in the picture but not labelled, as readers leave them out; 0 labels all.
    least_px
        Width that a label has at least, so that the thinnest vessels are not broken into dots.
    learn
        Whether `fit` takes scheme, grids, fields, places of the disc, calibre and density of the vessels from the
        training cases. Their labels must then be among the structures.

    References
    ----------
    Jonas JB, Gusek GC, Naumann GO. Optic disc, cup and neuroretinal rim size. Invest Ophthalmol Vis Sci 1988;29:1151.
    Jonas RA et al. Optic disc - fovea distance. The Beijing Eye Study 2011. PLoS One 2015;10:e0138701.
    Luo T, Gast TJ, Vermeer TJ, Burns SA. Retinal vascular branching in healthy and diabetic subjects. Invest Ophthalmol
    Vis Sci 2017;58:2685.
    Wong TY et al. Computer-assisted measurement of retinal vessel diameters. Ophthalmology 2004;111:1183.
    doi:10.1016/j.ophtha.2003.09.039
    Trees: see `equipoise.engines.anatomy.eye_fundus.trees`.
    """

    kind: ClassVar[str] = "eye-fundus"

    size: tuple[int, int] = (512, 512)
    field_deg: tuple[float, float] = (45.0, 45.0)
    um_per_px: float | None = None
    unit: str = "mm"
    eye: str = "both"
    centre: str = "macula"
    structures: tuple[str, ...] = (ARTERY, VEIN, DISC, CUP, FOVEA)
    murray: tuple[float, float] = (2.6, 3.0)
    artery_um: tuple[float, float] = (95.0, 135.0)
    avr: tuple[float, float] = (0.62, 0.8)
    twigs: tuple[int, int] = (110, 200)
    tortuosity: tuple[float, float] = (0.4, 1.6)
    disc_mm: tuple[float, float] = (1.65, 2.15)
    cup: tuple[float, float] = (0.25, 0.55)
    fovea_mm: tuple[float, float] = (4.2, 4.9)
    free_mm: tuple[float, float] = (0.3, 0.5)
    labelled_um: float = 0.0
    least_px: float = 1.1
    learn: bool = True
    _learned: Learned | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        require_types(self)
        if len(self.size) != 2:
            raise PlanError(f"eye-fundus.size = {self.size!r} is not possible; legal: columns and rows")
        for count in self.size:
            require_within("eye-fundus.size", count, 16, 4096, "pixels")
        require_limits(self, _RANGES, _NUMBERS)
        require_one_of("eye-fundus.unit", self.unit, ("mm", "px"))
        require_one_of("eye-fundus.eye", self.eye, EYES)
        require_one_of("eye-fundus.centre", self.centre, CENTRES)
        for name in self.structures:
            require_one_of("eye-fundus.structures", name, STRUCTURES)
        if not self.structures or len(set(self.structures)) < len(self.structures):
            raise PlanError(
                f"eye-fundus.structures = {self.structures!r} is not possible; legal: each name once, at least one",
                fix=f"choose from {', '.join(STRUCTURES)}",
            )

    @property
    def parents(self) -> frozenset[str]:
        """The patients that it was fitted on."""
        return self._learned.parents if self._learned else frozenset()

    def fit(self, cases: Sequence[Case], rng: np.random.Generator) -> EyeFundus:
        """Return an anatomy with the cases' scheme, grids, fields and vessels if ``learn`` is on, else this one.

        Raises
        ------
        DataError
            If there is no case, a case is no photograph, or a label is none of the structures.
        """
        if not self.learn:
            return self
        learned = learn_from(cases)
        prior = replace(self, _learned=learned)
        return replace(self, _learned=learned.matched(prior.vessel_look, rng))

    def draw(self, n: int, rng: np.random.Generator) -> Iterator[LabelMap]:
        """Yield ``n`` label maps."""
        for labels, _ in self.draw_placed(n, rng):
            yield labels

    def draw_placed(self, n: int, rng: np.random.Generator) -> Iterator[tuple[LabelMap, Eye]]:
        """Yield ``n`` label maps and the eye that each shows."""
        for _ in range(n):
            (stream,) = rng.spawn(1)
            frame, growth, marks = stream.spawn(3)
            view = self._frame(frame)
            place, shape = self._place(view, marks), self._shape(growth)
            pair = grow_pair(self._scaled(shape, place), growth)
            yield self._drawn(view, place, pair)

    def vessel_look(self, widen: float, twigs: float, rng: np.random.Generator) -> tuple[float, float]:
        """Return share of the field under vessels and their mean width, px, at factors on calibre and twigs."""
        if self._learned is None:
            return 0.0, 0.0
        tried = replace(self, _learned=replace(self._learned, widen=widen, twigs=twigs))
        found = [signature_of(labels, eye.field) for labels, eye in tried.draw_placed(_TRIED, rng)]
        share, width = np.mean(found, axis=0)
        return float(share), float(width)

    def _frame(self, rng: np.random.Generator) -> Frame:
        if self._learned:
            return self._learned.frame(rng)
        shown = Field.within(*self.size)
        degrees = float(rng.uniform(*self.field_deg))
        scale = self.um_per_px or degrees * UM_PER_DEGREE / (2 * shown.radius)
        spacing = scale / 1000 if self.unit == "mm" else 1.0
        grid = Geometry.from_spacing((*self.size, 1), (spacing,) * 3, "px" if self.unit == "px" else "mm")
        return Frame(grid, shown, scale, None)

    def _place(self, view: Frame, rng: np.random.Generator) -> Landmarks:
        """Return where disc and fovea lie."""
        um, shown = view.um_per_px, view.field
        away = 1000 * float(rng.uniform(*self.fovea_mm)) / um
        below = FOVEA_BELOW * (1 + 0.35 * float(rng.standard_normal()))
        right = self.eye == "right" or (self.eye == "both" and rng.random() < 0.5)
        centre = self.centre if self.centre != "any" else str(rng.choice(CENTRES[:3]))
        jitter = 0.06 * shown.radius * rng.standard_normal(2)
        tilt = np.arctan(below)
        if view.disc is not None:  # seen in a training picture
            right = view.right
            disc = view.disc + 0.5 * jitter
        else:
            share = {"macula": 1.0, "disc": 0.0, "between": 0.5}[centre]
            aimed = share * away * np.array([np.cos(tilt) * (1 if right else -1), -np.sin(tilt)])
            disc = np.array([shown.x, shown.y]) + aimed + jitter
        side = -1 if right else 1
        fovea = disc + away * np.array([side * np.cos(tilt), np.sin(tilt)])
        tall = 500 * float(rng.uniform(*self.disc_mm)) / um
        wide, turn = tall * float(rng.uniform(0.86, 0.96)), float(rng.normal(0, 0.12))
        ratio = float(rng.uniform(*self.cup))
        drift = 0.25 * (1 - ratio) * wide * np.array([side * rng.uniform(0, 1), rng.uniform(-0.5, 0.5)])
        broad = ratio * wide * float(rng.uniform(0.92, 1.05))
        cup = Ellipse(float(disc[0] + drift[0]), float(disc[1] + drift[1]), broad, ratio * tall, turn)
        outline = Ellipse(float(disc[0]), float(disc[1]), wide, tall, turn)
        return Landmarks(outline, cup, (float(fovea[0]), float(fovea[1])), um)

    def _shape(self, rng: np.random.Generator) -> Shape:
        low, high = self.twigs
        return Shape(
            fovea=(0.0, 0.0),
            free_mm=float(rng.uniform(*self.free_mm)),
            twigs=int(rng.integers(low, high + 1)),
            exponent=float(rng.uniform(*self.murray)),
            artery_um=float(rng.uniform(*self.artery_um)),
            ratio=float(rng.uniform(*self.avr)),
            tortuosity=float(rng.uniform(*self.tortuosity)),
        )

    def _scaled(self, shape: Shape, place: Landmarks) -> Shape:
        """Return the shape with the fovea in its place, and calibre and twigs as learned."""
        side = -1 if place.right else 1
        offset = np.subtract(place.fovea, (place.disc.x, place.disc.y)) * place.um_per_px / 1000
        fovea = (float(side * offset[0]), float(-offset[1]))
        if self._learned is None:
            return replace(shape, fovea=fovea)
        many = max(4, round(shape.twigs * self._learned.twigs))
        return replace(shape, fovea=fovea, twigs=many, artery_um=shape.artery_um * self._learned.widen)

    def _drawn(self, view: Frame, place: Landmarks, pair: tuple[Tree, Tree]) -> tuple[LabelMap, Eye]:
        """Return label map and eye of the trees: all is cut off at the edge of the field."""
        columns, rows, _ = view.geometry.shape
        painted = [
            paint_vessels(pieces_of(tree, place), (columns, rows), place.um_per_px, self.least_px, self.labelled_um)
            for tree in pair
        ]
        i, j = np.arange(columns, dtype=np.float32)[:, None], np.arange(rows, dtype=np.float32)[None]
        size, reach = view.field.radius, 1000 * _FOVEA_MM / place.um_per_px
        shown = Ellipse(view.field.x, view.field.y, size, size).holds(i, j)
        masks = {ARTERY: painted[0][0] > 0, VEIN: painted[1][0] > 0}
        masks[VESSEL] = masks[ARTERY] | masks[VEIN]
        masks[DISC] = place.disc.holds(i, j)
        masks[CUP] = masks[DISC] & place.cup.holds(i, j)
        masks[FOVEA] = Ellipse(*place.fovea, reach, reach).holds(i, j)
        scheme = self._scheme()
        channels = np.stack([(masks[name] & shown).view(np.uint8) for name in scheme.names])
        if scheme.exclusive:
            channels = _exclusive(scheme.names, channels)
        labels = LabelMap.on(view.geometry, channels[..., None], scheme)
        lumen, axis = (np.stack([p[k] for p in painted]) for k in (1, 2))
        eye = Eye(
            source="", shape=view.geometry.shape, landmarks=place, field=view.field, lumen_um=lumen, axis=axis,
        )  # fmt: skip
        return labels, eye

    def _scheme(self) -> LabelScheme:
        if self._learned:
            return self._learned.scheme
        labels = tuple(Label(name, n, _CODES.get(name)) for n, name in enumerate(self.structures, 1))
        return LabelScheme(labels, exclusive=len(labels) == 1)


def pieces_of(tree: Tree, place: Landmarks) -> np.ndarray:
    """Return a tree's vessels as cylinders in pixels, shape ``(P, 5)``: start, end, radius."""
    px = 1000 / place.um_per_px
    side = -1 if place.right else 1
    at = np.array([place.disc.x, place.disc.y]) + tree.at * px * [side, -1]
    below = tree.parent >= 0
    return np.column_stack([at[tree.parent[below]], at[below], tree.radius[below] * px])


def _exclusive(names: tuple[str, ...], channels: np.ndarray) -> np.ndarray:
    """Return the channels with one label per pixel: what lies in front hides what lies behind."""
    free = np.ones(channels.shape[1:], bool)
    for name in (ARTERY, VEIN, VESSEL, CUP, DISC, FOVEA):
        if name in names:
            row = channels[names.index(name)]
            row &= free.astype(np.uint8)
            free &= row == 0
    return channels


_TRIED = 4
_RANGES = (
    ("field_deg", 10.0, 120.0, "degrees"),
    ("murray", 1.5, 5.0, ""),
    ("artery_um", 20.0, 400.0, "µm"),
    ("avr", 0.2, 2.0, ""),
    ("twigs", 4, 600, ""),
    ("tortuosity", 0.0, 5.0, ""),
    ("disc_mm", 0.8, 3.5, "mm"),
    ("cup", 0.05, 0.98, ""),
    ("fovea_mm", 2.5, 7.0, "mm"),
    ("free_mm", 0.1, 1.5, "mm"),
)
_NUMBERS = (
    ("um_per_px", 0.5, 200.0, "µm"),
    ("labelled_um", 0.0, 500.0, "µm"),
    ("least_px", 0.1, 10.0, "pixels"),
)

__all__ = ["EyeFundus", "pieces_of"]

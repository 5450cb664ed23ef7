"""From a case to a `findings.Picture`: the right slice, the way the field looks at it, at native contrast."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image as Pillow

from equipoise.core import Case, Geometry, LabelMap
from equipoise.errors import DataError
from equipoise.experiment.findings import Outline, Picture
from equipoise.report.outlines import marching_squares

LUNG_WINDOW = (-1350.0, 150.0)
"""HU; the lung window of width 1500 at level -600."""
AIR = -200.0
"""HU; values below it make sure that a CT image is in HU, and not shifted or scaled."""
LONGEST = 320
"""Longest side of a picture, in pixels."""
FRAME = 256
"""Side of a frame in CSS pixels; smaller pictures are enlarged by a whole number to fit it, larger ones widen it."""
HEAVIEST = 45_000
"""Bytes of one PNG. Forty pictures of it, in Base64, leave the page under 3 MB."""


@dataclass(frozen=True, slots=True)
class View:
    """How a voxel grid is laid on the screen.

    Parameters
    ----------
    slice
        Index along the axis that points into the screen.
    axes
        Voxel axes of screen row, screen column and depth.
    flip
        Whether rows and columns run against the voxel axis.
    """

    slice: int
    axes: tuple[int, int, int]
    flip: tuple[bool, bool]

    def show(self, array: np.ndarray) -> np.ndarray:
        """Return the slice of an array of shape ``(I, J, K)`` as ``(rows, columns)``."""
        plane = np.transpose(np.asarray(array), self.axes)[:, :, self.slice]
        for axis, against in enumerate(self.flip):
            if against:
                plane = np.flip(plane, axis)
        return plane

    def pixel(self, geometry: Geometry) -> tuple[float, float]:
        """Return row height and column width in the geometry's unit."""
        return geometry.spacing[self.axes[0]], geometry.spacing[self.axes[1]]


def view_of(geometry: Geometry, truth: np.ndarray | None = None) -> View:
    """Return how a grid is shown, at the slice where the truth is largest.

    A 2-D picture keeps its columns and rows. A volume is shown axial as radiologists do: the patient's right on the
    left of the screen and anterior up, whatever order and direction its voxel axes have.

    Parameters
    ----------
    geometry
        The grid.
    truth
        Bool, shape ``(I, J, K)``; without it, or where it is empty, the middle slice is shown.
    """
    if geometry.ndim == 2:
        return View(0, (1, 0, 2), (False, False))
    columns, rows, depth = _world_axes(geometry)
    # The screen's columns run from the patient's right to the left (R of RAS+ decreases), its rows from anterior to
    # posterior (A decreases): an axis is flipped where its voxels run towards right or anterior.
    flip = (geometry.affine[1, rows] > 0, geometry.affine[0, columns] > 0)
    others = tuple(a for a in range(3) if a != depth)
    area = np.zeros(1) if truth is None else np.asarray(truth, dtype=bool).sum(axis=others)
    index = int(np.argmax(area)) if area.any() else geometry.shape[depth] // 2
    return View(index, (rows, columns, depth), (bool(flip[0]), bool(flip[1])))


def enlargement(width: int, height: int) -> int:
    """Return the whole number by which a picture is enlarged on the page, at least 1."""
    return max(1, FRAME // max(1, width, height))


def _world_axes(geometry: Geometry) -> tuple[int, int, int]:
    """Return the voxel axes that lie nearest to the left-right, posterior-anterior and foot-head directions."""
    direction = np.abs(geometry.affine[:3, :3] / np.linalg.norm(geometry.affine[:3, :3], axis=0))
    orders = [(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)]
    return max(orders, key=lambda o: float(sum(direction[world, voxel] for world, voxel in enumerate(o))))


def picture(
    case: Case,
    role: Literal["real", "synthetic", "worst", "best"],
    outlines: Mapping[str, LabelMap],
    labels: Iterable[str] | None = None,
    *,
    score: Mapping[str, float] | None = None,
    window: tuple[float, float] | None = None,
    simulated: bool = False,
    name: str | None = None,
    longest: int = LONGEST,
) -> Picture:
    """Return one picture of a case with outlines over it.

    Parameters
    ----------
    case
        Its image is shown; its truth, where it has one, chooses the slice.
    role
        Where the picture stands in the report.
    outlines
        Name (``"truth"``, or the name of the arm whose prediction it is) to label map on the image's grid.
    labels
        The labels to outline; all by default.
    score
        Primary metric per arm.
    window
        Grey values drawn black and white, in the image's unit. By default the lung window where the values look like
        HU, the values themselves where they are 8-bit, else the 0.5th and 99.5th percentile of the slice.
    simulated
        Whether a simulator made the pixels.
    name
        Shown instead of the case's id.
    longest
        Longest side in pixels; a larger image is averaged over whole blocks of pixels and the factor is stated.

    Raises
    ------
    GeometryMismatchError
        An outline lies on another grid.
    DataError
        The image has no finite value, or ``labels`` names none that an outline has.
    """
    geometry = case.image.geometry
    for what, outline in outlines.items():
        geometry.require_same(outline.geometry, f"image and outline {what!r}", file=case.file)
    wanted = _wanted(outlines, labels)
    view = view_of(geometry, _extent(case, outlines, wanted))
    colours = [view.show(channel) for channel in shown_channels(case)]
    grey, words = _windowed(np.stack(colours, axis=-1), case, window)
    # Non-square pixels would stretch the anatomy: the finer axis is reduced by more until both agree as far as whole
    # numbers can.
    png, factors, note = _smallest(grey, view.pixel(geometry), longest)
    height, width, _ = png.shape
    rows, columns = view.pixel(geometry)
    # A third of a pixel on the screen is less than the width of the line.
    tolerance = 0.35 / enlargement(width, height)
    paths = [
        Outline(_title(what, label, wanted[what]), marching_squares(view.show(outline.mask(label)), factors, tolerance))
        for what, outline in outlines.items()
        for label in wanted[what]
    ]
    return Picture(
        role=role,
        case=name or case.id,
        png=base64.b64encode(_encode(png)).decode("ascii"),
        width=width,
        height=height,
        window=", ".join([words, *([f"slice {view.slice + 1}"] if geometry.ndim == 3 else []), *note]),
        pixel=math.sqrt(rows * factors[0] * columns * factors[1]),
        unit=geometry.unit,
        outlines=paths,
        engine=case.origin.engine,
        seed=case.origin.seed,
        parents=sorted(case.origin.parents),
        licence=case.licence,
        score=dict(score or {}),
        simulated=simulated,
    )


def _wanted(outlines: Mapping[str, LabelMap], labels: Iterable[str] | None) -> dict[str, tuple[str, ...]]:
    if labels is None:
        return {what: outline.scheme.names for what, outline in outlines.items()}
    asked = tuple(labels)
    for outline in outlines.values():
        for label in asked:
            outline.scheme.channel(label)
    return dict.fromkeys(outlines, asked)


def _title(what: str, label: str, labels: tuple[str, ...]) -> str:
    return what if len(labels) == 1 else f"{what} · {label}"


def _extent(case: Case, outlines: Mapping[str, LabelMap], wanted: Mapping[str, tuple[str, ...]]) -> np.ndarray | None:
    """Return where the truth is: that of the case, else of the first outline."""
    if case.image.geometry.ndim == 2:
        return None
    labels = next(iter(wanted.values()), None)
    source = case.truth if isinstance(case.truth, LabelMap) else next(iter(outlines.values()), None)
    if source is None:
        return None
    names = [n for n in labels or source.scheme.names if n in source.scheme.names] or source.scheme.names
    extent: np.ndarray = np.any([source.mask(n) for n in names], axis=0)
    return extent


def shown_channels(case: Case) -> np.ndarray:
    """Return the first channel of a grey or multi-sequence image, all three of a colour one, ``(C, I, J, K)``."""
    array = case.image.array
    colour = array.shape[0] in (3, 4) and (array.dtype == np.uint8 or array.shape[3] == 1)
    return array[:3] if colour else array[:1]


def is_hounsfield(case: Case) -> bool:
    """Return whether the image's values look like HU."""
    return (case.modality or "").upper() == "CT" and bool(np.nanmin(shown_channels(case)) < AIR)


def _windowed(plane: np.ndarray, case: Case, window: tuple[float, float] | None) -> tuple[np.ndarray, str]:
    """Return 8-bit values and how they were made, in words."""
    values = plane.astype(np.float64)
    finite = values[np.isfinite(values)]
    if finite.size == 0:
        raise DataError(f"case {case.id!r} has no finite value to show", file=case.file)
    ct = (case.modality or "").upper() == "CT"
    if window is not None or (ct and finite.min() < AIR):
        low, high = window if window is not None else LUNG_WINDOW
        unit = " HU" if ct and (window == LUNG_WINDOW or finite.min() < AIR) else ""
        words = f"window {low:g} to {high:g}{unit}".replace("-", "−")
    elif plane.dtype == np.uint8 and case.image.geometry.ndim == 2:
        # A photograph or film is looked at as it was stored; a volume's bytes are only a scale.
        low, high, words = 0.0, 255.0, "values as stored, 0 to 255"
    else:
        low, high = (float(v) for v in np.percentile(finite, (0.5, 99.5)))
        words = f"percentiles 0.5 to 99.5: {low:.4g} to {high:.4g}".replace("-", "−")
    if not high > low:
        high = low + 1.0
    shown = np.clip((np.nan_to_num(values, nan=low, posinf=high, neginf=low) - low) / (high - low), 0, 1)
    return np.rint(255 * shown).astype(np.uint8), words


def _smallest(
    plane: np.ndarray, pixel: tuple[float, float], longest: int
) -> tuple[np.ndarray, tuple[int, int], list[str]]:
    """Reduce by the least whole number that meets `longest` and `HEAVIEST`; return plane, factors and what was done."""
    ratio = max(pixel) / min(pixel)
    stretch = round(ratio)
    anisotropic = (stretch, 1) if pixel[0] < pixel[1] else (1, stretch)
    base = anisotropic if stretch > 1 else (1, 1)
    factor = max(1, math.ceil(max(plane.shape[0] / base[0], plane.shape[1] / base[1]) / longest))
    while True:
        factors = (base[0] * factor, base[1] * factor)
        reduced = block_mean(plane, factors)
        if len(_encode(reduced)) <= HEAVIEST or min(reduced.shape[:2]) < 32:
            break
        factor += 1
    if factors == (1, 1):
        return reduced, factors, []
    text = f"{factors[0]}" if factors[0] == factors[1] else f"{factors[0]} (rows) and {factors[1]} (columns)"
    return reduced, factors, [f"reduced by {text}"]


def block_mean(plane: np.ndarray, factors: tuple[int, int]) -> np.ndarray:
    """Return the mean over blocks of ``factors`` rows and columns; edges that fill no block are repeated.

    Parameters
    ----------
    plane
        8-bit, shape ``(rows, columns, colours)``.
    """
    pad = [(0, -n % f) for n, f in zip(plane.shape[:2], factors, strict=True)]
    full = np.pad(plane, [*pad, (0, 0)], mode="edge").astype(np.float64)
    rows, columns, colours = full.shape
    blocks = full.reshape(rows // factors[0], factors[0], columns // factors[1], factors[1], colours)
    return np.asarray(np.rint(blocks.mean(axis=(1, 3))), dtype=np.uint8)


def _encode(plane: np.ndarray) -> bytes:
    """Return a PNG; colour is reduced to the image's own best 256 colours, without dithering."""
    if plane.shape[2] == 1:
        made = Pillow.fromarray(plane[:, :, 0])
    else:
        made = Pillow.fromarray(plane).quantize(256, method=Pillow.Quantize.MEDIANCUT, dither=Pillow.Dither.NONE)
    out = io.BytesIO()
    made.save(out, "PNG", optimize=True)
    return out.getvalue()

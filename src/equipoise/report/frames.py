"""Identical frames: real and synthetic pictures cut to one field of view, one pixel size and one window.

Whole images beside patches tell which is which before anything is looked at, and so do a scale bar of another length or
another contrast. Every picture is therefore cut by the same rule around a voxel of its own structure, as patches for
training are, and shown at the coarsest pixel size that any of them has.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from equipoise.core import Case, Geometry, Image, LabelMap, rng_for
from equipoise.experiment.findings import Picture
from equipoise.report.pictures import LONGEST, LUNG_WINDOW, View, is_hounsfield, picture, shown_channels, view_of

SAME = 1e-3
"""Relative difference up to which two pixel sizes count as one; a header's single precision differs by less."""


@dataclass(frozen=True, slots=True)
class Shown:
    """A case to be shown side by side with others."""

    case: Case
    role: Literal["real", "synthetic"]
    simulated: bool


@dataclass(frozen=True, slots=True)
class Frame:
    """What every picture is cut to.

    Parameters
    ----------
    shape
        Rows and columns, in pixels of the frame.
    pixel
        Side of such a pixel in the images' unit, or ``None`` where they have no unit in common and each keeps its own
        pixels.
    """

    shape: tuple[int, int]
    pixel: float | None

    def step(self, native: float) -> float:
        """Return how many pixels of an image, of size ``native``, one pixel of the frame spans: 1 or more."""
        ratio = 1.0 if self.pixel is None else self.pixel / native
        return 1.0 if abs(ratio - 1) < SAME else ratio


def framed(shown: Sequence[Shown], seed: int) -> list[Picture]:
    """Return one picture per case, all with the same field of view, number of pixels and window.

    The field of view is the largest that lies within every image along screen rows and columns. It is centred on a
    voxel of the structure drawn by the case's name and ``seed``, or on the middle of an image without one, and moved
    inward at a border. Grey values of a coarser pixel are means over its area.

    Parameters
    ----------
    shown
        Cases with label maps.
    seed
        Same seed, same pictures.
    """
    if not shown:
        return []
    views = [view_of(s.case.image.geometry, np.any(s.case.labels.masks(), axis=0)) for s in shown]
    frame = common_frame([s.case.image.geometry for s in shown], views)
    window, stored = _window(shown)
    cut = [_cut(s.case, view, frame, seed, stored) for s, view in zip(shown, views, strict=True)]

    def drawn(longest: int) -> list[Picture]:
        return [
            picture(
                case, s.role, {"truth": case.labels}, window=window, simulated=s.simulated, longest=longest,
                name=case.id if s.case.image.geometry.ndim == 2 else f"{case.id}, slice {view.slice + 1}",
            )
            for s, view, case in zip(shown, views, cut, strict=True)
        ]  # fmt: skip

    pictures = drawn(LONGEST)
    smallest = min(max(p.width, p.height) for p in pictures)
    # One picture may have been reduced by more than the others to stay light: then all are.
    return pictures if all(max(p.width, p.height) == smallest for p in pictures) else drawn(smallest)


def common_frame(grids: Sequence[Geometry], views: Sequence[View]) -> Frame:
    """Return the largest frame that lies within every image, with the coarsest pixel that one of them has."""
    shapes = [(grid.shape[view.axes[0]], grid.shape[view.axes[1]]) for grid, view in zip(grids, views, strict=True)]
    sizes = [view.pixel(grid) for grid, view in zip(grids, views, strict=True)]
    if len({grid.unit for grid in grids}) > 1:
        return Frame((min(s[0] for s in shapes), min(s[1] for s in shapes)), None)
    pixel = max(max(size) for size in sizes)
    rows, columns = (min(s[axis] * p[axis] for s, p in zip(shapes, sizes, strict=True)) for axis in (0, 1))
    return Frame((_whole(rows / pixel), _whole(columns / pixel)), pixel)


def _whole(count: float) -> int:
    return max(1, math.floor(count * (1 + SAME)))


def _window(shown: Sequence[Shown]) -> tuple[tuple[float, float] | None, bool]:
    """Return the window of all pictures, and whether their values are looked at as they were stored.

    Without a window each picture is mapped by its own percentiles, by one rule: the scale of such values is arbitrary,
    and learners normalise it away as well.
    """
    if any(is_hounsfield(s.case) for s in shown):
        return LUNG_WINDOW, False
    real = [s.case for s in shown if s.role == "real"] or [s.case for s in shown]
    if not all(c.image.voxels.dtype == np.uint8 and c.image.geometry.ndim == 2 for c in real):
        return None, False
    return (None, True) if all(s.case.image.voxels.dtype == np.uint8 for s in shown) else ((0.0, 255.0), False)


def _cut(case: Case, view: View, frame: Frame, seed: int, stored: bool) -> Case:
    """Return a case of one slice, cut to the frame and laid out as on the screen: columns along I, rows along J."""
    geometry, labels = case.image.geometry, case.labels
    masks = [view.show(mask) for mask in labels.masks()]
    sizes = view.pixel(geometry)
    centre = _centre(np.any(masks, axis=0), case.id, seed)
    rows, columns = (
        _weights(masks[0].shape[axis], centre[axis], frame.shape[axis], frame.step(sizes[axis])) for axis in (0, 1)
    )
    planes = [rows @ view.show(channel).astype(np.float64) @ columns.T for channel in shown_channels(case)]
    image = np.stack([plane.T for plane in planes])[..., None]
    truth = np.stack([(rows @ mask @ columns.T).T >= 0.5 for mask in masks])[..., None]
    pixel = math.sqrt(sizes[0] * sizes[1]) if frame.pixel is None else frame.pixel
    grid = Geometry.from_spacing((frame.shape[1], frame.shape[0], 1), (pixel, pixel, 1.0), geometry.unit)
    voxels = np.rint(image).astype(np.uint8) if stored else image.astype(np.float32)
    drawn = LabelMap.on(grid, truth.astype(np.uint8), labels.scheme)
    return replace(case, image=Image.on(grid, voxels), truth=drawn, reads=())


def _centre(mask: np.ndarray, name: str, seed: int) -> tuple[float, float]:
    """Return row and column of a labelled pixel, drawn by the case's name, or of the middle without one."""
    found = np.flatnonzero(mask)
    if found.size == 0:
        return mask.shape[0] / 2, mask.shape[1] / 2
    at = int(rng_for(seed, "frame", name).choice(found))
    return at // mask.shape[1] + 0.5, at % mask.shape[1] + 0.5


def _weights(length: int, centre: float, count: int, step: float) -> np.ndarray:
    """Return shares, shape ``(count, length)``: how much each pixel of an image gives to each one of the frame.

    ``count`` intervals of ``step`` pixels around ``centre``, moved inward at a border. With a step of 1 they begin at a
    whole pixel, so that the image is cut and not blurred.
    """
    start = min(max(0.0, centre - count * step / 2), max(0.0, length - count * step))
    start = float(round(start)) if step == 1 else start
    low = start + step * np.arange(count)[:, None]
    pixel = np.arange(length)[None, :]
    overlap = np.clip(np.minimum(low + step, pixel + 1) - np.maximum(low, pixel), 0, None)
    return np.asarray(overlap / overlap.sum(axis=1, keepdims=True))

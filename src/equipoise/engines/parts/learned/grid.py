"""Grids of real, mask and synthetic, to be looked at while an engine trains."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image as Picture

from equipoise.engines.parts.learned.examples import Batch

COLUMNS = 8
SMALLEST = 96
"""Pixels of a tile: smaller patches are enlarged without smoothing."""

PLANE_COLOURS = np.array(
    [
        [230, 159, 0],
        [86, 180, 233],
        [0, 158, 115],
        [240, 228, 66],
        [0, 114, 178],
        [213, 94, 0],
        [204, 121, 167],
        [153, 153, 153],
    ],
    np.uint8,
)
"""Okabe and Ito's colours, which colour-blind readers tell apart."""


def write_grid(path: Path, batch: Batch, made: np.ndarray) -> None:
    """Write a PNG with three rows: real patches, what they are conditioned on, and the images made under it."""
    grid(batch, made).save(_made(path), "PNG")


def grid(batch: Batch, made: np.ndarray) -> Picture.Image:
    """Return the picture: one column per patch; of volumes, the middle slice."""
    count = min(COLUMNS, len(made))
    rows = [
        np.concatenate([tile(patch) for patch in patches[:count]], 1)
        for patches in (
            [_grey(image) for image in batch.images],
            [_coloured(planes) for planes in batch.planes],
            [_grey(image) for image in made],
        )
    ]
    return Picture.fromarray(np.concatenate(rows, 0))


def tile(picture: np.ndarray) -> np.ndarray:
    """Return a picture ``(J, I, 3)`` enlarged by a whole factor to `SMALLEST` or more, with a dark border."""
    factor = -(-SMALLEST // max(picture.shape[:2]))
    large = picture.repeat(factor, 0).repeat(factor, 1)
    return np.pad(large, ((1, 1), (1, 1), (0, 0)))


def _grey(image: np.ndarray) -> np.ndarray:
    """Return the middle slice of an image in -1 … 1 as ``(J, I, 3)``, uint8."""
    flat = np.nan_to_num(image[..., image.shape[-1] // 2])
    shown = np.rint((np.clip(flat, -1, 1) + 1) * 127.5).astype(np.uint8)
    colours = shown if len(shown) == 3 else np.repeat(shown[:1], 3, 0)
    return colours.transpose(2, 1, 0)


def _coloured(planes: np.ndarray) -> np.ndarray:
    flat = planes[..., planes.shape[-1] // 2] > 0.5
    picture = np.zeros((*flat.shape[:0:-1], 3), np.uint8)
    for number, plane in enumerate(flat):
        picture[plane.T] = PLANE_COLOURS[number % len(PLANE_COLOURS)]
    return picture


def _made(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


__all__ = ["grid", "write_grid"]

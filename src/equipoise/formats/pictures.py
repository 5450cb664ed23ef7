"""Reads PNG, JPEG, BMP and TIFF pictures: the header at once, the pixels when they are asked for.

A picture's columns run along I and its rows along J: ``array = pixels.transpose(1, 0)``. TIFF pages run along K.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import tifffile
from PIL import Image as PillowImage

from equipoise.errors import UnreadableFileError
from equipoise.formats.headers import Header, header_failure, reading

PILLOW_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp")
TIFF_SUFFIXES = (".tif", ".tiff")
LOSSY_SUFFIXES = (".jpg", ".jpeg")

_ORIENTATION = 274  # the tag's number in EXIF and in TIFF
_DTYPES = {"L": np.uint8, "RGB": np.uint8, "I;16": np.uint16, "I": np.int32, "F": np.float32}


@dataclass(frozen=True, slots=True, eq=False)
class RawPicture:
    """The stored numbers of a picture, before anybody decides what they mean.

    Parameters
    ----------
    values
        Shape ``(rows, columns, samples, pages)``, upright.
    palette
        Colours of a paletted file, uint8, shape ``(entries, 3)``: the values are then its indices.
    black
        The number that is shown as black, in a TIFF that asks to be shown inverted; else 0.
    """

    values: np.ndarray
    palette: np.ndarray | None = None
    black: int = 0


def picture_header(path: Path, exif: bool = True) -> Header:
    """Return shape, type and orientation of a picture without reading its pixels.

    Parameters
    ----------
    path
        PNG, JPEG, BMP or TIFF.
    exif
        Whether to turn the picture as its EXIF orientation says; viewers do.

    Raises
    ------
    UnreadableFileError
        Missing, empty, or not such a file.
    """
    with reading(path):
        if path.suffix.lower() in TIFF_SUFFIXES:
            return _tiff_header(path, exif)
        with PillowImage.open(path) as picture:
            if picture.mode == "CMYK":
                raise header_failure(path, "its colours are CMYK (print inks), not RGB or grey", "convert it to RGB")
            mode = _image_mode(picture)
            turn = _orientation(path, picture) if exif else 1
            channels = 3 if mode == "RGB" else 1
            dtype = np.dtype(np.uint16 if _deep_colour_png(path) else _DTYPES[mode])
            columns, rows = picture.size if turn < 5 else picture.size[::-1]
        return Header((channels, columns, rows, 1), dtype, np.eye(4), "px", turned=turn != 1)


def read_picture(path: str, exif: bool = True) -> np.ndarray:
    """Return a picture's pixels, shape ``(C, I, J, K)``: grey or RGB, upright; transparency is dropped.

    Paletted pictures are looked up; white-is-zero TIFFs are inverted, so that bright means bright.
    """
    file = Path(path)
    with reading(file):
        if file.suffix.lower() in TIFF_SUFFIXES:
            raw = _tiff_values(file, exif)
            values = raw.values
            if raw.palette is not None:
                values = np.moveaxis(raw.palette[values[:, :, 0]], -1, 2)
            elif raw.black:
                values = raw.black - values
        elif _deep_colour_png(file):
            # Pillow cuts 48-bit PNG to 24 bits without a word.
            values = _upright(
                np.asarray(imagecodecs.png_decode(file.read_bytes()))[:, :, :3, None], _turn_of(file, exif)
            )
        else:
            with PillowImage.open(file) as picture:
                mode = _image_mode(picture)
                pixels = _pixels(picture, mode)
                values = _upright(_four_axes(pixels), _orientation(file, picture) if exif else 1)
        return np.ascontiguousarray(values[:, :, : _colours(values.shape[2])].transpose(2, 1, 0, 3))


def read_raw(path: Path, exif: bool = True) -> RawPicture:
    """Return a picture's stored numbers: palette indices where it has a palette, all samples where it has several."""
    with reading(path):
        if path.suffix.lower() in TIFF_SUFFIXES:
            return _tiff_values(path, exif)
        with PillowImage.open(path) as picture:
            palette = _palette(picture) if picture.mode == "P" else None
            pixels = np.asarray(picture)  # a one-bit file gives False and True
            pixels = pixels.astype(np.uint8) if pixels.dtype == np.bool_ else pixels
            return RawPicture(_upright(_four_axes(pixels), _orientation(path, picture) if exif else 1), palette)


def write_png(path: Path, array: np.ndarray) -> None:
    """Write uint8 or uint16 voxels as PNG.

    Parameters
    ----------
    path
        The file.
    array
        Shape ``(C, I, J, 1)`` with one channel, or three of uint8.
    """
    pixels = array[..., 0].transpose(2, 1, 0)
    PillowImage.fromarray(np.ascontiguousarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)).save(path)


def _image_mode(picture: Any) -> str:
    """Return the grey or RGB mode that a picture's pixels are read in."""
    mode = str(picture.mode)
    if mode in _DTYPES:
        return mode
    if mode.startswith("I;16"):
        return "I;16"
    if mode == "P":
        colours = _palette(picture)
        return "L" if (colours == colours[:, :1]).all() else "RGB"
    return {"1": "L", "LA": "L", "La": "L"}.get(mode, "RGB")


def _pixels(picture: Any, mode: str) -> np.ndarray:
    """Return grey or RGB pixels, shape ``(rows, columns[, 3])``."""
    if picture.mode == "P":  # looked up here, since Pillow mixes a palette's transparency in
        colours = np.zeros((256, 3), np.uint8)
        stored = _palette(picture)
        colours[: len(stored)] = stored
        looked_up: np.ndarray = colours[np.asarray(picture)]
        return looked_up[..., 0] if mode == "L" else looked_up
    return np.asarray(picture if picture.mode == mode else picture.convert(mode))


def _palette(picture: Any) -> np.ndarray:
    """Return the colours of a paletted picture, uint8, shape ``(entries, 3)``."""
    return np.asarray(picture.getpalette("RGB"), np.uint8).reshape(-1, 3)


def _orientation(path: Path, picture: Any) -> int:
    """Return the EXIF orientation, 1 to 8, without reading pixels."""
    if picture.format == "PNG":
        # Pillow reads all pixels to find a PNG's EXIF block, since it may stand behind them: we skip over them.
        exif = PillowImage.Exif()
        block = _png_chunk(path, b"eXIf")
        if block is not None:
            exif.load(block)
    else:
        exif = picture.getexif()
    value = exif.get(_ORIENTATION, 1)
    return value if value in range(1, 9) else 1


def _png_chunk(path: Path, name: bytes) -> bytes | None:
    with path.open("rb") as stream:
        stream.seek(8)
        while len(head := stream.read(8)) == 8:
            length = int.from_bytes(head[:4], "big")
            if head[4:] == name:
                return stream.read(length)
            stream.seek(length + 4, 1)  # a checksum follows the content
    return None


def _turn_of(path: Path, exif: bool) -> int:
    if not exif:
        return 1
    with PillowImage.open(path) as picture:
        return _orientation(path, picture)


def _upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Return pixels ``(rows, columns, …)`` turned and mirrored as the EXIF orientation asks (1 to 8)."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return pixels


def _four_axes(pixels: np.ndarray) -> np.ndarray:
    return pixels[:, :, None, None] if pixels.ndim == 2 else pixels[..., None]


def _colours(samples: int) -> int:
    """Return how many of a file's samples are colour: the rest is transparency."""
    return 3 if samples >= 3 else 1


def _deep_colour_png(path: Path) -> bool:
    if path.suffix.lower() != ".png":
        return False
    with path.open("rb") as stream:
        start = stream.read(26)
    # Bytes 24 and 25 of a PNG are its bit depth and its colour type (2 and 6: RGB without and with transparency).
    return len(start) == 26 and start[24] == 16 and start[25] in (2, 6)


def _tiff_layout(path: Path, series: Any) -> tuple[tuple[int, ...], str]:
    """Return the source axes of rows, columns, samples and pages (-1 where there is none), and all axes."""
    axes = str(series.axes)
    samples = "S" if "S" in axes else ("C" if "C" in axes else "")
    pages = [a for a in axes if a not in f"YX{samples}"]
    long = [a for a in pages if series.shape[axes.index(a)] > 1]
    if "Y" not in axes or "X" not in axes or len(long) > 1:
        raise header_failure(
            path, f"its axes {axes} {series.shape} are no picture and no stack", "save one file per stack"
        )
    page = long[0] if long else ""
    return tuple(axes.index(a) if a else -1 for a in ("Y", "X", samples, page)), axes


def _tiff_header(path: Path, exif: bool) -> Header:
    with tifffile.TiffFile(path) as tiff:
        series, page = tiff.series[0], tiff.pages[0]
        places, _ = _tiff_layout(path, series)
        rows, columns, samples, pages = (series.shape[p] if p >= 0 else 1 for p in places)
        turn = _tiff_turn(page) if exif else 1
        dtype = np.dtype(series.dtype).newbyteorder("=")
        if page.photometric == tifffile.PHOTOMETRIC.PALETTE:
            samples, dtype = 3, np.dtype(np.uint8)
    if turn >= 5:
        rows, columns = columns, rows
    dtype = np.dtype(np.uint8) if dtype == np.bool_ else dtype
    return Header((_colours(samples), columns, rows, pages), dtype, np.eye(4), "px", turned=turn != 1)


def _tiff_turn(page: Any) -> int:
    tag = page.tags.get(_ORIENTATION)
    value = int(tag.value) if tag is not None else 1
    return value if value in range(1, 9) else 1


def _tiff_values(path: Path, exif: bool) -> RawPicture:
    with tifffile.TiffFile(path) as tiff:
        series, page = tiff.series[0], tiff.pages[0]
        places, axes = _tiff_layout(path, series)
        values = series.asarray()
        turn = _tiff_turn(page) if exif else 1
        palette = None
        if page.photometric == tifffile.PHOTOMETRIC.PALETTE and page.colormap is not None:
            palette = (np.asarray(page.colormap).T >> 8).astype(np.uint8)
        black = 0
        if page.photometric == tifffile.PHOTOMETRIC.MINISWHITE and values.dtype.kind in "bu":
            black = 1 if values.dtype == np.bool_ else int(np.iinfo(values.dtype).max)
    if tuple(values.shape) != tuple(series.shape):
        raise UnreadableFileError(f"its header says {series.shape}, its content has {values.shape}", file=path)
    values = values.astype(np.uint8) if values.dtype == np.bool_ else values
    kept = [p for p in places if p >= 0]
    rest = [p for p in range(len(axes)) if p not in kept]
    values = values.transpose(*kept, *rest).reshape([values.shape[p] for p in kept])
    for position, place in enumerate(places):
        if place < 0:
            values = np.expand_dims(values, position)
    return RawPicture(_upright(values.astype(values.dtype.newbyteorder("="), copy=False), turn), palette, black)

"""Tells an image from a mask by its values, to find the two exchanged."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np

from equipoise.core.case import Case
from equipoise.errors import DataError, LabelError
from equipoise.formats.check_listing import Opened
from equipoise.formats.finding import Finding
from equipoise.formats.masks import mask_numbers
from equipoise.formats.pictures import LOSSY_SUFFIXES

MANY = 32
"""Different numbers above which a mask is no label scheme: it holds instances, soft edges, or a picture."""

_AS_DRAWN, _AS_PICTURE = 0.9, 0.5
"""A soft-edged mask has most pixels at its two extremes; in a picture fewer than half of neighbours are equal."""


def two_values(array: np.ndarray, opened: Opened) -> bool:
    """Return whether an image holds two values only, allowing for what JPEG adds around edges."""
    low, high = array.min(), array.max()
    lossy = any(p.name.lower().endswith(LOSSY_SUFFIXES) for p in opened.row.images)
    if not lossy:
        return bool(np.all((array == low) | (array == high)))
    dark, bright = float(np.mean(array <= 8)), float(np.mean(array >= 247))
    return min(dark, bright) > 0.005 and dark + bright >= 0.97


def picture_as_mask(error: DataError, opened: Opened, two: bool) -> Finding | None:
    """Return the finding where a mask cannot be read because it is a picture.

    Parameters
    ----------
    error
        What reading the mask raised.
    two
        Whether the case's image holds two values only: then the two files are exchanged.
    """
    if not isinstance(error, LabelError) or not error.file:
        return None
    count = _numbers_of_picture(Path(error.file))
    if not count:
        return None
    return _swapped(opened.case, Path(error.file), count) if two else _mask_is_image(opened.case, error.file, count)


def image_is_mask(case: Case) -> Finding:
    """Return the finding of an image that holds two values only, as its mask does."""
    return Finding(
        "swapped",
        "error",
        case.file,
        f"case {case.id!r}: the image holds two values only, as a mask does",
        "it is a mask, where the image should be; a model would be shown the answer",
        'put the image there, or correct `image = "…"` (a column) or `images = "…"` (a pattern) in the plan',
        ids=(case.id,),
        shown=(case,),
    )


def one_file(opened: Opened) -> Finding | None:
    """Return the finding where one file is named as image and as mask."""
    case = opened.case
    file = next((p for files in opened.row.masks.values() for p in files if p in opened.row.images), None)
    if file is None:
        return None
    return Finding(
        "swapped",
        "error",
        str(file),
        f"case {case.id!r} names this file as its image and as its mask",
        "a model would learn to copy its input",
        "correct the cell, or the column or pattern under `labels`",
        ids=(case.id,),
        shown=(replace(case, truth=None),),
    )


def _numbers_of_picture(file: Path) -> int:
    """Return how many different numbers a mask file holds if it looks like a picture, else 0."""
    try:
        numbers = mask_numbers(file)
    except DataError:
        return 0
    values = numbers.values
    found, counts = np.unique(values, return_counts=True)
    if found.size <= MANY:
        return 0
    if counts[[0, -1]].sum() >= _AS_DRAWN * values.size:
        return 0
    alike = values[1:] == values[:-1]
    drawn = (values[1:] != found[np.argmax(counts)]) | (values[:-1] != found[np.argmax(counts)])
    return int(found.size) if alike[drawn].mean() < _AS_PICTURE else 0


def _swapped(case: Case, mask: Path, count: int) -> Finding:
    image = Path(case.file or "image")
    beside = image.with_name(f"exchange-{image.name}")
    commands = [("mv", image, beside), ("mv", mask, image), ("mv", beside, mask)]
    fix = " && ".join(shlex.join(map(str, c)) for c in commands)
    if image.suffix != mask.suffix:
        fix = "exchange the two names in the table, or the two patterns in the plan"
    return Finding(
        "swapped",
        "error",
        case.file,
        f"case {case.id!r}: the image holds two values only, and the mask {mask.name} holds {count}: "
        "they are exchanged",
        "a model would learn to draw the picture from its own mask",
        fix,
        ids=(case.id,),
        shown=(replace(case, truth=None),),
    )


def _mask_is_image(case: Case, mask: str, count: int) -> Finding:
    return Finding(
        "swapped",
        "error",
        mask,
        f"case {case.id!r}: its mask holds {count} different values, as a picture does",
        "it is an image, where the mask should be; a model would learn to draw pictures",
        "put the mask there, or correct the column or pattern under `labels`; if it is a probability map, state "
        '`labels.NAME = { file = "…", threshold = 0.5 }` in its own scale',
        ids=(case.id,),
        shown=(replace(case, truth=None),),
    )

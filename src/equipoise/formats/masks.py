"""Turns mask files into label channels, by rules that are stated and never by ``mask > 0``.

Rules, decided for each file on its stored numbers:

*two values*      exactly two different numbers: the higher is the label (3 and 253, 0 and 1, 0 and 255 …). One number
                  only: 0 is an empty mask, anything else is refused, since it may mean "everything" or "nothing".
*value*           the stated numbers (or ``#rrggbb`` colours) are the label, the stated background is not, any other is
                  refused.
*threshold*       at or above the stated number is the label: for soft edges and probability maps.
*instances*       the numbers are kept, 0 is background.

A JPEG mask has no exact values left. It is cut at 128 if at most 5 % of its pixels lie between 64 and 191 and it is an
8-bit black-and-white picture; else a threshold must be stated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from equipoise.errors import LabelError
from equipoise.formats.imagefile import is_volume
from equipoise.formats.pictures import LOSSY_SUFFIXES, RawPicture, read_raw
from equipoise.formats.volumes import read_volume

RINGING_LOW, RINGING_HIGH, RINGING_SHARE = 64, 191, 0.05
"""Grey levels between which a JPEG of a black-and-white mask has only edge pixels, and their largest share."""

WHOLE_TOLERANCE = 1e-3
"""How far a label may lie from a whole number after a file's slope and intercept were applied in floating point."""


@dataclass(frozen=True, slots=True)
class LabelSource:
    """Where one label of one case is drawn.

    Parameters
    ----------
    name
        The label.
    files
        Its mask files; the label is their union. None means: absent in this case.
    values
        The numbers that mean the label; ``None`` follows the rule of two values.
    background
        The numbers that mean nothing, with ``values``.
    threshold
        At or above it is the label.
    instances
        Keep the file's numbers; with several files, the k-th file is instance k.
    others
        Numbers that mean other labels of the same file.
    """

    name: str
    files: tuple[str, ...]
    values: tuple[int, ...] | None = None
    background: tuple[int, ...] = (0,)
    threshold: float | None = None
    instances: bool = False
    others: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class MaskNumbers:
    """The stored numbers of a mask file.

    Parameters
    ----------
    values
        Shape ``(I, J, K)``; colours are packed as ``red << 16 | green << 8 | blue``.
    colours
        Whether they are packed colours.
    brightness
        Of each palette entry, where the file has a palette: the values are its indices.
    inverted
        Whether the file asks to be shown with 0 as white.
    lossy
        Whether the compression has changed them.
    """

    values: np.ndarray
    colours: bool = False
    brightness: np.ndarray | None = None
    inverted: bool = False
    lossy: bool = False


@dataclass(frozen=True, slots=True)
class MaskDecision:
    """What a mask file holds and how it was read, for the data card.

    Parameters
    ----------
    file
        The mask.
    values
        Its different numbers, the first 20.
    foreground
        Those that were taken as the label.
    rule
        By which rule.
    """

    file: str
    values: tuple[float, ...]
    foreground: tuple[float, ...]
    rule: str


def read_label_channels(
    sources: tuple[LabelSource, ...], shape: tuple[int, int, int], dtype: np.dtype, exclusive: bool, exif: bool
) -> np.ndarray:
    """Return the channels of a label map, shape ``(L, I, J, K)``.

    Raises
    ------
    LabelError
        Numbers that no rule covers, or labels that overlap although they were declared exclusive.
    UnreadableFileError
        A damaged file.
    """
    channels = np.zeros((len(sources), *shape), dtype)
    numbers: dict[str, MaskNumbers] = {}
    for channel, source in zip(channels, sources, strict=True):
        for number, file in enumerate(source.files, 1):
            if file not in numbers:  # one multi-valued mask serves several labels
                numbers[file] = mask_numbers(Path(file), exif)
            drawn, _ = _drawn(numbers[file], source, file)
            if source.instances and len(source.files) == 1:
                if drawn.max(initial=0) > np.iinfo(dtype).max:
                    raise LabelError(
                        f"instance number {drawn.max()} is too large: at most {np.iinfo(dtype).max}",
                        file=file,
                        fix="number the instances from 1 upwards",
                    )
                channel[...] = drawn
            else:
                channel[drawn > 0] = number if source.instances else 1
    if exclusive and (np.count_nonzero(channels, axis=0) > 1).any():
        names = [s.name for s, c in zip(sources, channels, strict=True) if c.any()]
        raise LabelError(
            f"labels {', '.join(names)} overlap, and they are declared exclusive",
            file=next((f for s in sources for f in s.files), None),
            why="one voxel would have to be two things",
            fix="state `exclusive = false`, or correct the masks",
        )
    return channels


def decide(file: Path, source: LabelSource, exif: bool = True) -> MaskDecision:
    """Return how a mask file is read: its numbers, those taken as the label, and the rule."""
    numbers = mask_numbers(file, exif)
    drawn, rule = _drawn(numbers, source, str(file))
    values, first = np.unique(numbers.values, return_index=True)
    taken = drawn.reshape(-1)[first] > 0  # every rule looks at a pixel's own number only
    return MaskDecision(str(file), tuple(values[:20].tolist()), tuple(values[taken][:20].tolist()), rule)


def mask_numbers(path: Path, exif: bool = True) -> MaskNumbers:
    """Return the stored numbers of a mask file; `LabelError` where colours or transparency are ambiguous."""
    if is_volume(path):
        array = read_volume(str(path))
        if array.shape[0] != 1:
            raise LabelError(
                f"the mask has {array.shape[0]} channels, one is needed",
                file=path,
                fix="write one file per label, or one file with one number per label",
            )
        return MaskNumbers(array[0])
    raw = read_raw(path, exif)
    lossy = path.name.lower().endswith(LOSSY_SUFFIXES)
    samples = np.moveaxis(raw.values, 2, 0).transpose(0, 2, 1, 3)  # (S, I, J, K)
    if samples.shape[0] == 1:
        brightness = None if raw.palette is None else raw.palette.astype(int).sum(axis=1)
        return MaskNumbers(samples[0], brightness=brightness, inverted=raw.black > 0, lossy=lossy)
    if lossy:  # chroma is subsampled: only the mean of the colours means anything
        return MaskNumbers(samples[:3].mean(axis=0), lossy=True)
    return _from_colours(path, samples, raw)


def _from_colours(path: Path, samples: np.ndarray, raw: RawPicture) -> MaskNumbers:
    """Return the numbers of a mask that was saved with colours, transparency, or both."""
    alpha = samples[-1] if samples.shape[0] in (2, 4) else None
    colours = samples[: -1 if alpha is not None else None]
    grey = bool((colours == colours[:1]).all())
    if alpha is not None and np.unique(alpha).size > 1:
        if np.unique(colours.reshape(len(colours), -1), axis=1).shape[1] > 1:
            raise LabelError(
                "both the colour and the transparency of this mask vary, so either could be the label",
                file=path,
                fix="save it as one grey channel: 0 outside, 255 inside",
            )
        return MaskNumbers(alpha)  # drawn in one colour on a transparent sheet
    if grey:
        return MaskNumbers(colours[0])
    if raw.values.dtype != np.uint8:
        raise LabelError(f"a coloured mask must have 8 bits per colour, got {raw.values.dtype}", file=path)
    red, green, blue = colours.astype(np.int32)
    return MaskNumbers(red << 16 | green << 8 | blue, colours=True)


def _drawn(numbers: MaskNumbers, source: LabelSource, file: str) -> tuple[np.ndarray, str]:
    """Return where the label is (its numbers, for instances), shape ``(I, J, K)``, and the rule that said so."""
    values = numbers.values
    if source.threshold is not None:
        return values >= source.threshold, f"at or above {source.threshold:g}"
    if numbers.lossy:
        return _from_jpeg(values, source, file), "JPEG, cut at 128"
    values = _whole(values, file)
    if source.instances and len(source.files) == 1:
        if values.size and values.min() < 0:
            raise LabelError(f"instance numbers must be 0 or more, got {values.min()}", file=file)
        return values, "instance numbers kept"
    if source.values is not None:
        _require_known(values, source, file, numbers.colours)
        return np.isin(values, source.values), f"value {', '.join(map(str, source.values))}"
    return _higher_of_two(values, numbers, source.name, file)


def _whole(values: np.ndarray, file: str) -> np.ndarray:
    if values.dtype.kind != "f":
        return values
    rounded = np.rint(values)
    if not np.isfinite(values).all() or np.abs(values - rounded).max(initial=0) > WHOLE_TOLERANCE:
        raise LabelError(
            "the mask holds numbers that are not whole",
            file=file,
            why="it is a probability map or was resampled with interpolation; its edges are no longer labels",
            fix="state a threshold (`threshold = 0.5` beside its `file`), or resample with nearest neighbour",
        )
    whole: np.ndarray = rounded.astype(np.int64)
    return whole


def _from_jpeg(values: np.ndarray, source: LabelSource, file: str) -> np.ndarray:
    between = float(np.mean((values > RINGING_LOW) & (values < RINGING_HIGH)))
    if source.values is not None or source.instances or between > RINGING_SHARE or values.min() > RINGING_LOW:
        raise LabelError(
            f"a JPEG mask has no exact numbers ({between:.0%} of this one lie between black and white)",
            file=file,
            why="the compression invents grey levels around every edge",
            fix="use the lossless original (PNG, TIFF); or, if it is black and white, state `threshold = 128` beside "
            "its `file`",
        )
    return values >= 128


def _require_known(values: np.ndarray, source: LabelSource, file: str, colours: bool) -> None:
    known = {*(source.values or ()), *source.background, *source.others}
    unknown = [v for v in np.unique(values).tolist() if v not in known]
    if unknown:
        shown = ", ".join(f"#{v:06x}" if colours else str(v) for v in unknown[:8]) + (" …" if len(unknown) > 8 else "")
        raise LabelError(
            f"the mask holds {shown}; known are {_spelled(sorted(known), colours)} ({source.name} and the others)",
            file=file,
            why="an unnamed label would silently become background",
            fix=f"add {shown} to `labels`, or state it as background: "
            f"`{source.name} = {{ file = …, value = {list(source.values or ())}, background = {[0, *unknown[:3]]} }}`",
        )


def _higher_of_two(values: np.ndarray, numbers: MaskNumbers, name: str, file: str) -> tuple[np.ndarray, str]:
    found = np.unique(values)
    shown = _spelled(found[:6].tolist(), numbers.colours) + (" …" if found.size > 6 else "")
    if found.size == 1 and found[0] == 0:
        return np.zeros(values.shape, bool), "one value, 0: empty"
    if found.size != 2:
        raise LabelError(
            f"a mask of {name!r} must hold exactly two numbers, this one holds {found.size}: {shown}",
            file=file,
            why="with one number other than 0, nobody can tell a full mask from an empty one"
            if found.size == 1
            else "soft edges, several labels or instances are not told apart by guessing",
            fix=f"say it: `{name} = {{ file = …, value = {int(found[0])} }}` if it is full, or "
            f"`{name} = {{ file = …, value = …, background = {int(found[0])} }}` if it is empty"
            if found.size == 1
            else "say it beside its `file`: `value = […], background = […]`; or "
            f"`threshold = {float(found[-1]) / 2:g}` for soft edges; or `instances = true` for numbered objects",
        )
    low, high = (int(v) for v in found)
    if _bright(high, numbers) <= _bright(low, numbers):
        raise LabelError(
            f"of the two numbers {shown} in the mask of {name!r}, the higher is not the brighter one",
            file=file,
            why="the number and the picture on the screen would name different pixels as the label",
            fix=f"state it: `{name} = {{ file = …, value = …, background = … }}`",
        )
    return values == high, f"two values {shown}: the higher is the label"


def _bright(value: int, numbers: MaskNumbers) -> int:
    if numbers.colours:
        return (value >> 16) + (value >> 8 & 255) + (value & 255)
    if numbers.brightness is not None and value < len(numbers.brightness):
        return int(numbers.brightness[value])
    return -value if numbers.inverted else value


def _spelled(values: Sequence[int], colours: bool) -> str:
    return ", ".join(f"#{v:06x}" if colours else str(v) for v in values)

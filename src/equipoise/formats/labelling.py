"""Reads the ``labels`` of a plan: which file, and which numbers in it, mean which structure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from equipoise.core.geometry import Geometry
from equipoise.core.image import Image, LazyVoxels
from equipoise.core.labels import LabelMap, LabelScheme
from equipoise.errors import GeometryMismatchError, LabelError, PlanError, did_you_mean
from equipoise.formats.headers import Header
from equipoise.formats.imagefile import is_volume, open_header
from equipoise.formats.masks import LabelSource, read_label_channels

IGNORE = "ignore"
"""A label of this name marks voxels that count neither for nor against a prediction, as in nnU-Net."""

_KEYS = ("file", "value", "background", "threshold", "instances")


@dataclass(frozen=True, slots=True)
class LabelRule:
    """Where a label is drawn in every case of a set; fields as in `LabelSource`, with columns or patterns for files."""

    name: str
    keys: tuple[str, ...]
    values: tuple[int, ...] | None = None
    background: tuple[int, ...] = (0,)
    threshold: float | None = None
    instances: bool = False


@dataclass(frozen=True, slots=True)
class Labelling:
    """All labels of a set.

    Parameters
    ----------
    rules
        One per label, in the scheme's order.
    scheme
        The labels; `None` where nothing is labelled.
    ignore
        Where voxels that do not count are marked.
    """

    rules: tuple[LabelRule, ...] = ()
    scheme: LabelScheme | None = None
    ignore: LabelRule | None = None

    @property
    def keys(self) -> tuple[str, ...]:
        """Every column or pattern that names mask files."""
        rules = (*self.rules, self.ignore) if self.ignore else self.rules
        return tuple(dict.fromkeys(key for rule in rules for key in rule.keys))

    def unstated(self, masks: Mapping[str, Sequence[Path]]) -> tuple[str, ...]:
        """Return the labels for which a case names no file at all."""
        return tuple(rule.name for rule in self.rules if not any(masks.get(key) for key in rule.keys))

    def label_map(
        self, masks: Mapping[str, Sequence[Path]], image: Image, header: Header, exif: bool = True
    ) -> LabelMap | None:
        """Return one case's label map with its voxels unread; labels without a file are absent in it.

        Parameters
        ----------
        masks
            Key to mask files.
        image, header
            The image that the masks were drawn on.
        exif
            As in `open_header`.

        Raises
        ------
        UnreadableFileError, GeometryMismatchError, LabelError
            A mask is missing or damaged, or lies on another grid than its image.
        """
        if self.scheme is None:
            return None
        on_image = partial(_require_on, image=image, header=header, exif=exif)
        headers = {file: on_image(file) for key in self.keys for file in masks.get(key, ())}
        sources = tuple(self._source(rule, masks) for rule in self.rules)
        dtype = np.result_type(np.uint8, *(_dtype(s, headers) for s in sources))
        shape = image.geometry.shape
        voxels = LazyVoxels(
            (len(sources), *shape),
            dtype,
            partial(read_label_channels, sources, shape, dtype, self.scheme.exclusive, exif),
        )
        ignored = None
        if self.ignore is not None and any(masks.get(key) for key in self.ignore.keys):
            void = (self._source(self.ignore, masks),)
            ignored = LazyVoxels((1, *shape), np.dtype(bool), partial(_read_ignored, void, shape, exif))
        return LabelMap.on(image.geometry, voxels, self.scheme, ignored)

    def _source(self, rule: LabelRule, masks: Mapping[str, Sequence[Path]]) -> LabelSource:
        files = tuple(str(file) for key in rule.keys for file in masks.get(key, ()))
        peers = (*self.rules, self.ignore) if self.ignore else self.rules
        # Numbers of the other labels are known only where those labels are drawn in the same file.
        others = tuple(
            v for peer in peers if peer is not rule and set(peer.keys) & set(rule.keys) for v in peer.values or ()
        )
        return LabelSource(rule.name, files, rule.values, rule.background, rule.threshold, rule.instances, others)


def parse_labels(labels: Mapping[str, Any], mask: str | None, exclusive: bool | None, mask_word: str) -> Labelling:
    """Return the labelling that a plan states.

    Parameters
    ----------
    labels
        Name to a column or pattern (a mask of its own), to a number (in the file that ``mask`` names), to a list of
        either, or to a table with ``file``, ``value``, ``background``, ``threshold``, ``instances``.
    mask
        Column or pattern of the mask that holds several labels.
    exclusive
        Whether labels exclude each other; ``None``: they do if all are numbers in one file.
    mask_word
        How the format calls ``mask``, for messages.

    Raises
    ------
    PlanError
        The statement cannot be understood.
    """
    if not isinstance(labels, Mapping):
        raise PlanError(f"`labels` must be a table of names, got {labels!r}", fix='labels = { vessel = "mask" }')
    rules = [_rule(str(name), entry, mask, mask_word) for name, entry in labels.items()]
    ignore = next((r for r in rules if r.name == IGNORE), None)
    drawn = tuple(r for r in rules if r.name != IGNORE)
    if not drawn:
        if ignore:
            raise PlanError("`labels` names only `ignore`; it needs at least one structure")
        return Labelling()
    numbers = [r.values[0] if r.values and len(r.values) == 1 else 0 for r in drawn]
    own = min(numbers) >= 1 and len(set(numbers)) == len(numbers) and len(drawn) > 1
    values = numbers if own else range(1, len(drawn) + 1)
    apart = len(drawn) == 1 or (
        len({r.keys for r in drawn}) == 1
        and all(r.values for r in drawn)
        and len({v for r in drawn for v in r.values or ()}) == sum(len(r.values or ()) for r in drawn)
    )
    scheme = LabelScheme.of(
        dict(zip((r.name for r in drawn), values, strict=True)), apart if exclusive is None else exclusive
    )
    return Labelling(drawn, scheme, ignore)


def _rule(name: str, entry: Any, mask: str | None, mask_word: str) -> LabelRule:
    if not isinstance(entry, Mapping):
        items = list(entry) if isinstance(entry, (list, tuple)) else [entry]
        if items and all(isinstance(x, str) and not x.startswith("#") for x in items):
            return LabelRule(name, tuple(items))
        entry = {"value": items}
    for key in entry:
        if key not in _KEYS:
            raise PlanError(f"labels.{name} has no key {key!r}.{did_you_mean(str(key), _KEYS)}")
    files = entry.get("file", mask)
    if files is None:
        raise PlanError(
            f"labels.{name} gives a number, but nothing says in which file",
            fix=f'add `{mask_word} = "…"`, or `labels.{name} = {{ file = "…", value = … }}`',
        )
    threshold, instances = entry.get("threshold"), entry.get("instances", False)
    if not isinstance(instances, bool) or isinstance(threshold, (bool, str)):
        raise PlanError(f"labels.{name}: `instances` is true or false and `threshold` a number, got {dict(entry)}")
    stated = [k for k in ("value", "threshold") if k in entry] + (["instances"] if instances else [])
    if len(stated) > 1:
        raise PlanError(f"labels.{name} states {' and '.join(stated)}; one of them says how the file is read")
    return LabelRule(
        name,
        tuple([files] if isinstance(files, str) else files),
        _numbers(name, entry["value"]) if "value" in entry else None,
        _numbers(name, entry.get("background", 0)),
        None if threshold is None else float(threshold),
        instances,
    )


def _numbers(name: str, value: Any) -> tuple[int, ...]:
    """Return whole numbers, or ``#rrggbb`` colours packed into numbers."""
    numbers: list[int] = []
    for item in value if isinstance(value, (list, tuple)) else [value]:
        if isinstance(item, str) and len(item) == 7 and item.startswith("#"):
            try:
                numbers.append(int(item[1:], 16))
                continue
            except ValueError:
                pass
        if not isinstance(item, int) or isinstance(item, bool):
            raise PlanError(
                f"labels.{name} must be whole numbers or colours such as '#ff0000', got {item!r}",
                fix=f'`{name} = 1`, or `{name} = "column"` for a mask file of its own',
            )
        numbers.append(item)
    if not numbers:
        raise PlanError(f"labels.{name} states no number")
    return tuple(numbers)


def _require_on(file: Path, image: Image, header: Header, exif: bool) -> Header:
    """Return a mask's header after checking that it lies on its image's grid."""
    mask = open_header(file, None, exif)
    geometry = mask.geometry
    if not is_volume(file):  # a picture mask has no place of its own: it lies where its image does, if the shape fits
        geometry = Geometry(geometry.shape, image.affine, unit=image.unit)
    elif header.unit == "px" and mask.unit == "mm":
        raise GeometryMismatchError(
            "the mask is a NIfTI file in mm, its image a picture without a physical size",
            file=file,
            fix="state the picture's `spacing`, or store both in one format",
        )
    if header.turned != mask.turned and geometry.shape[:2] == image.geometry.shape[1::-1] != image.geometry.shape[:2]:
        raise GeometryMismatchError(
            f"image {image.geometry.shape} and mask {geometry.shape} have rows and columns exchanged",
            file=file,
            why="one of the two carries an EXIF orientation and the other does not",
            fix="if the mask was drawn on the stored pixels, state `exif = false`",
        )
    image.geometry.require_same(geometry, "image and mask", str(file))
    if is_volume(file) and mask.shape[0] != 1:
        raise LabelError(
            f"the mask has {mask.shape[0]} channels, one is needed",
            file=file,
            fix="write one file per label, or one file with one number per label",
        )
    return mask


def _dtype(source: LabelSource, headers: Mapping[Path, Header]) -> np.dtype:
    """Return the smallest type that holds a label's numbers."""
    if not source.instances or not source.files:
        return np.dtype(np.uint8)
    if len(source.files) > 1:
        return np.dtype(np.uint16)
    header = headers[Path(source.files[0])]
    small = header.shape[0] == 1 and header.dtype in (np.uint8, np.uint16)
    return header.dtype if small else np.dtype(np.int32)


def _read_ignored(sources: tuple[LabelSource, ...], shape: tuple[int, int, int], exif: bool) -> np.ndarray:
    return read_label_channels(sources, shape, np.dtype(np.uint8), False, exif) > 0

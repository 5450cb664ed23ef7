"""One label map of the base, as the ground that lesions are laid into: where they may arise and where they may grow."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
from scipy import ndimage

from equipoise.core import Label, LabelMap, LabelScheme
from equipoise.engines.anatomy.lesion.findings import ANYTHING, PASSING, RIGID
from equipoise.engines.anatomy.lesion.manner import Manner
from equipoise.engines.anatomy.lesion.sites import (
    NOTHING,
    UNLABELLED,
    covered,
    host_channels,
    require_structure,
    resolve,
)
from equipoise.engines.parts.placement import Box
from equipoise.engines.parts.retina import Eye
from equipoise.errors import GeometryMismatchError, LabelError

EVERYWHERE: Box = (slice(None), slice(None), slice(None))


class Ground:
    """A label map with room for lesions; its ``array`` and ``ignore`` change as they are laid.

    Parameters
    ----------
    labels
        The base's map.
    manner
        What is drawn.
    eye
        That is seen, if it is a picture of one.

    Raises
    ------
    GeometryMismatchError
        If the map states no voxel size and ``px_mm`` is missing.
    """

    def __init__(self, labels: LabelMap, manner: Manner, eye: Eye | None = None) -> None:
        if labels.unit == "px" and manner.px_mm is None:
            raise GeometryMismatchError(
                "lesions have sizes in mm, and the label maps state no size of a pixel",
                why="a microaneurysm is measured in µm, not in pixels",
                fix="state it: px_mm = 0.006 for a fundus picture of about 2,000 pixels, for example",
            )
        self.manner, self.geometry = manner, labels.geometry
        self.flat = labels.geometry.ndim == 2
        self.voxel = np.array(labels.spacing) * (manner.px_mm if labels.unit == "px" and manner.px_mm else 1.0)
        self.ignore = None if labels.ignore is None else np.asarray(labels.ignore).astype(bool)
        self.scheme = _extended(labels.scheme, manner)
        self.array = self._prepared(labels)
        for name in manner.within:
            require_structure(name, labels.scheme, f"lesion.within of {manner.name}")
        self.shown = None if eye is None else _field_of(eye, labels.geometry.shape)

    def _prepared(self, labels: LabelMap) -> np.ndarray:
        """Return the base's channels and empty ones for what is new, without lesions of the base unless kept."""
        old = labels.array
        room = int(old.max(initial=0)) + self.manner.finding.count[1]
        array = np.zeros((len(self.scheme.labels), *old.shape[1:]), np.uint8 if room < 256 else np.uint16)
        array[: len(old)] = old
        known = [n for n in self.manner.names if n in labels.scheme.names]
        if self.manner.keep or not known:
            return array
        gone = np.zeros(old.shape[1:], bool)
        for name in known:
            channel = self.scheme.channel(name)
            gone |= array[channel] > 0
            array[channel] = 0
        rest = (array > 0).any(axis=0)
        if self.scheme.exclusive and gone.any() and rest.any():
            # What was a lesion becomes what lies beside it, be it labelled or not.
            _, nearest = ndimage.distance_transform_edt(gone, sampling=self.voxel, return_indices=True)
            array[:, gone] = array[:, nearest[0][gone], nearest[1][gone], nearest[2][gone]]
        return array

    @cached_property
    def own(self) -> tuple[int, ...]:
        """Channels that lesions are drawn in."""
        return tuple(self.scheme.channel(name) for name in self.manner.names)

    @cached_property
    def host(self) -> tuple[int, ...]:
        """Channels of what lesions arise in; none is whatever is labelled."""
        found = host_channels(
            self.scheme, self.manner.inside, self.manner.finding.inside, f"lesion.inside of {self.manner.name}"
        )
        if not found and self.manner.finding.form == "line":
            raise LabelError(
                f"a {self.manner.name} runs through bone, and the label maps name none: {', '.join(self.scheme.names)}",
                fix="choose a base with bone, such as torso, or name what breaks: inside = [...]",
            )
        every = tuple(c for c in range(len(self.array)) if c not in self.own)
        return found or tuple(c for c in every if self.array[c].any())

    @property
    def host_names(self) -> str:
        """What lesions arise in, for messages."""
        return ", ".join(UNLABELLED if c == NOTHING else self.scheme.names[c] for c in self.host) or "its labels"

    def lesions(self) -> np.ndarray:
        """Return where lesions are, bool, shape ``(I, J, K)``."""
        return covered(self.array, self.own, EVERYWHERE)

    def last(self) -> int:
        """Return the highest number that a lesion has; 0 where there is none."""
        return max(int(self.array[channel].max(initial=0)) for channel in self.own)

    def home(self, box: Box) -> np.ndarray:
        """Return where lesions may arise, bool, within a box; everywhere in a map that labels nothing."""
        home = covered(self.array, self.host, box) if self.host else np.ones(self.array[0][box].shape, bool)
        return home if self.shown is None else np.asarray(home & self.shown[box])

    def any_of(self, names: Sequence[str], box: Box) -> np.ndarray:
        """Return where any of some structures is, bool, within a box."""
        return covered(self.array, sorted({c for name in names for c in resolve(name, self.scheme)}), box)

    def box_about(self, voxel: tuple[int, int, int], reach: float) -> tuple[Box, np.ndarray, np.ndarray]:
        """Return a box about a voxel, the points of its voxels in mm, and the voxel's place in it."""
        shape = self.geometry.shape
        half = [0 if n == 1 else int(np.ceil(reach / s)) + 1 for n, s in zip(shape, self.voxel, strict=True)]
        low = [max(v - h, 0) for v, h in zip(voxel, half, strict=True)]
        high = [min(v + h + 1, n) for v, h, n in zip(voxel, half, shape, strict=True)]
        box = (slice(low[0], high[0]), slice(low[1], high[1]), slice(low[2], high[2]))
        axes = [np.arange(a, b) * s for a, b, s in zip(low, high, self.voxel, strict=True)]
        return box, np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1), np.array(voxel) - low

    def allowed(self, box: Box, occupied: np.ndarray) -> np.ndarray:
        """Return where a lesion may grow within a box."""
        within = self.manner.finding.within
        free: np.ndarray = ~occupied[box]
        if ANYTHING in within:
            return np.asarray(free & ~self.any_of(RIGID, box))
        named = within and any(resolve(name, self.scheme) for name in within)
        home = self.any_of(within, box) if named else self.home(box)
        return np.asarray(free & (home | self.any_of(PASSING, box)))


def _field_of(eye: Eye, shape: tuple[int, int, int]) -> np.ndarray:
    """Return the round piece of fundus that a camera shows, bool ``(I, J, K)``: nothing arises in its black frame."""
    x, y = np.arange(shape[0])[:, None, None], np.arange(shape[1])[None, :, None]
    inside = np.hypot(x - eye.field.x, y - eye.field.y) < eye.field.radius
    return np.broadcast_to(inside, shape)


def _extended(scheme: LabelScheme, manner: Manner) -> LabelScheme:
    """Return the scheme with the labels that it lacks, numbered on."""
    labels = list(scheme.labels)
    for name in manner.names:
        if name not in scheme.names:
            value = max(x.value for x in labels) + 1
            if value > 65535:
                raise LabelError(f"no number is left for the label {name!r}: the scheme goes up to {value - 1}")
            labels.append(Label(name, value, manner.finding.code if name == manner.label else None))
    return LabelScheme(tuple(labels), scheme.exclusive)


__all__ = ["EVERYWHERE", "Ground"]

"""What is drawn of lesions and under which labels, and what was drawn."""

from __future__ import annotations

from dataclasses import dataclass

from equipoise.engines.anatomy.lesion.findings import Finding
from equipoise.engines.anatomy.lesion.shape import Look


class NoRoomError(Exception):
    """One label map has no place for what was asked for; another one may have."""


@dataclass(frozen=True)
class Laid:
    """A lesion that was drawn.

    Parameters
    ----------
    voxel
        Where it arose, in the label map.
    look
        As drawn.
    size
        As it measures on the grid, in mm.
    share
        How deep it arose, from 0 at the border of its structure to 1 at the deepest place; NaN where no condition
        asked.
    mass_effect
        Share of its volume that displaced its surroundings.
    instance
        Its number in the label map.
    """

    voxel: tuple[int, int, int]
    look: Look
    size: float
    share: float
    mass_effect: float
    instance: int


@dataclass(frozen=True, eq=False)
class Manner:
    """What is drawn and under which labels; fields as of `Lesion`."""

    name: str
    finding: Finding
    label: str
    texture: tuple[str | None, str | None, tuple[float, float]]
    rim: tuple[str, tuple[float, float]] | None
    width_mm: float
    inside: tuple[str, ...]
    within: tuple[str, ...]
    periphery: float
    near_mm: float
    keep: bool
    px_mm: float | None

    @property
    def whole(self) -> str:
        """Label of a lesion but for its core."""
        return self.texture[0] or self.label

    @property
    def core(self) -> str | None:
        """Label of its core, if it has one."""
        return None if self.texture[1] is None else self.texture[1] or self.label

    @property
    def names(self) -> tuple[str, ...]:
        """Every label that is drawn."""
        own = [self.whole, self.core, self.rim[0] if self.rim else None]
        return tuple(dict.fromkeys(name for name in own if name))


__all__ = ["Laid", "Manner", "NoRoomError"]

"""How label maps become one number per voxel, as nnU-Net stores them: exclusive labels, or nested regions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from equipoise.core.case import Case
from equipoise.errors import LabelError


@dataclass(frozen=True, slots=True)
class LabelCode:
    """Which number stands for which label.

    Parameters
    ----------
    names
        In nnU-Net's order: a label stands before those that lie inside it.
    values
        The number of each, 1 to n.
    covers
        The numbers that belong to each: its own and those of the labels inside it.
    ignore
        The number of voxels that do not count, where there are any.
    """

    names: tuple[str, ...]
    values: Mapping[str, int]
    covers: Mapping[str, tuple[int, ...]]
    ignore: int | None

    @property
    def nested(self) -> bool:
        """Whether some label lies inside another."""
        return any(len(c) > 1 for c in self.covers.values())

    def numbers(self, case: Case) -> np.ndarray:
        """Return one number per voxel, shape ``(I, J, K)``: of the innermost label, for nested ones."""
        truth = case.labels
        values = np.zeros(truth.geometry.shape, np.uint8 if len(self.names) < 255 else np.uint16)
        for name in self.names:
            values[truth.mask(name)] = self.values[name]
        if self.ignore is not None:
            values[truth.ignored()] = self.ignore
        return values


def label_code(cases: Sequence[Case], names: tuple[str, ...]) -> LabelCode:
    """Return the numbers of the labels ``names``, after looking at how they overlap in all cases.

    Raises
    ------
    LabelError
        If two labels overlap and neither lies inside the other in every case.
    """
    meet, outside, first = _overlaps(cases, names)
    inside = _nesting(names, meet, outside, first)
    order = sorted(range(len(names)), key=lambda n: int(inside[:, n].sum()))
    values = {names[n]: value for value, n in enumerate(order, 1)}
    covers = {
        names[a]: tuple(sorted([values[names[a]], *(values[names[b]] for b in range(len(names)) if inside[a, b])]))
        for a in order
    }
    ignored = any(case.labels.ignore is not None for case in cases)
    return LabelCode(tuple(names[n] for n in order), values, covers, len(names) + 1 if ignored else None)


def _overlaps(
    cases: Sequence[Case], names: Sequence[str]
) -> tuple[np.ndarray, np.ndarray, dict[tuple[int, int], Case]]:
    """Return ``meet[a, b]``, whether a and b share a voxel, ``outside[a, b]``, whether some voxel is a and not b.

    The third is the first case in which two labels meet.
    """
    meet = np.zeros((len(names), len(names)), bool)
    outside = np.zeros_like(meet)
    first: dict[tuple[int, int], Case] = {}
    for case in cases:
        masks = [case.labels.mask(n) for n in names]
        for a, one in enumerate(masks):
            for b, other in enumerate(masks):
                meet[a, b] |= bool((one & other).any())
                outside[a, b] |= bool((one & ~other).any())
                if meet[a, b]:
                    first.setdefault((a, b), case)
    return meet, outside, first


def _nesting(
    names: Sequence[str], meet: np.ndarray, outside: np.ndarray, first: Mapping[tuple[int, int], Case]
) -> np.ndarray:
    """Return ``inside[a, b]``, whether label b lies inside label a; raise where labels overlap in another way."""
    # b lies inside a: they meet, and no voxel is b without being a. Two equal labels are taken in the scheme's order.
    inside: np.ndarray = meet & ~outside.T
    for a in range(len(names)):
        inside[a, : a + 1] &= ~inside[: a + 1, a]
        for b in range(a):
            if meet[a, b] and not inside[a, b] and not inside[b, a]:
                raise _overlap(names[b], names[a], first[b, a])
    return inside


def _overlap(one: str, other: str, case: Case) -> LabelError:
    return LabelError(
        f"labels {one!r} and {other!r} overlap in case {case.id!r}, and neither lies inside the other in every case",
        file=case.file,
        why="nnU-Net stores one number per voxel: its regions hold nested labels, and a prediction of half-overlapping "
        "ones could not be stored",
        fix=f"write one data set per label (`labels=[{one!r}]`), or cut the masks so that one lies inside the other",
    )

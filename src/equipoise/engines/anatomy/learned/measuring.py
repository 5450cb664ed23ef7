"""What is counted and measured on a label map: size, place, pieces, holes and neighbours of every label."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy import ndimage

from equipoise.core import LabelMap

SPECK = 0.02
"""Share of a label's largest piece below which a piece is a slip of the pen, neither counted nor drawn."""


@dataclass(frozen=True, eq=False)
class Measures:
    """Of one label map, by what is measured; labels that it does not show are left out.

    Parameters
    ----------
    amounts
        Logarithms of sizes and extents in the map's unit, places as shares of the field of view, shares of its border,
        shares of overlap.
    counts
        Pieces, holes (cavities in 3-D), and handles (tunnels, 3-D only) of each label.
    facts
        Which labels touch, and which are cut by the border.
    """

    amounts: dict[str, float]
    counts: dict[str, int]
    facts: dict[str, bool]


def measured(labels: LabelMap) -> Measures:
    """Return the measures of a map."""
    amounts: dict[str, float] = {}
    counts: dict[str, int] = {}
    facts: dict[str, bool] = {}
    masks, ndim = labels.masks(), labels.geometry.ndim
    spacing, shape = np.array(labels.spacing)[:ndim], np.array(labels.geometry.shape)[:ndim]
    there = [(name, mask[..., 0] if ndim == 2 else mask) for name, mask in zip(labels.scheme.names, masks, strict=True)]
    there = [(name, mask) for name, mask in there if mask.any()]
    for name, mask in there:
        box = ndimage.find_objects(mask.astype(np.uint8))[0]
        inner = mask[box]
        amounts[f"size of {name!r}"] = float(np.log(inner.sum() * spacing.prod()))
        for axis, part, length, width, middle in zip(
            "IJK", box, shape, spacing, ndimage.center_of_mass(inner), strict=False
        ):
            amounts[f"extent of {name!r} along {axis}"] = float(np.log((part.stop - part.start) * width))
            amounts[f"place of {name!r} along {axis}"] = (part.start + middle + 0.5) / length
        facts[f"{name!r} cut by the border"] = any(
            part.start == 0 or part.stop == n for part, n in zip(box, shape, strict=True)
        )
        amounts[f"border taken by {name!r}"] = _border_share(mask)
        instances = labels.instances(name)
        numbered = int(instances.max()) > 1
        counts[f"pieces of {name!r}"] = len(np.unique(instances)) - 1 if numbered else pieces(inner)
        holes, handles = holes_and_handles(inner)
        counts[f"holes in {name!r}"] = holes
        if ndim == 3:
            counts[f"handles of {name!r}"] = handles
    for (one, a), (two, b) in _pairs(there):
        facts[f"{one!r} touches {two!r}"] = touch(a, b)
        amounts[f"share of {one!r} in {two!r}"] = float((a & b).sum() / a.sum())
        amounts[f"share of {two!r} in {one!r}"] = float((a & b).sum() / b.sum())
    return Measures(amounts, counts, facts)


def pieces(mask: np.ndarray) -> int:
    """Return the number of connected pieces of a mask that are no specks; corners connect."""
    sizes = np.bincount(_labelled(mask).ravel())[1:]
    return int((sizes >= SPECK * sizes.max()).sum()) if len(sizes) else 0


def holes_and_handles(mask: np.ndarray) -> tuple[int, int]:
    """Return the holes of a mask (cavities, in 3-D) and its handles (3-D only): its Betti numbers beside the pieces.

    Voxels are closed squares or cubes, so that corners connect the mask and faces the background.
    """
    padded = np.pad(mask, 1)
    holes = ndimage.label(~padded)[1] - 1
    parts = int(_labelled(mask).max())
    return holes, (parts + holes - euler_number(mask)) if mask.ndim == 3 else 0


def euler_number(mask: np.ndarray) -> int:
    """Return vertices less edges plus faces less cubes of a mask's closed voxels, in 2-D or 3-D.

    References
    ----------
    Kong TY, Rosenfeld A. Digital topology: introduction and survey. Computer Vision, Graphics, and Image Processing
    1989. doi:10.1016/0734-189X(89)90147-3
    """
    padded = np.pad(mask.astype(bool), 1)
    total = 0
    for shared in product((False, True), repeat=mask.ndim):
        # A cell of the grid that spans the axes not in ``shared`` is there if any voxel around it is.
        cells = padded
        for axis, between in enumerate(shared):
            if between:
                moved = np.moveaxis(cells, axis, 0)
                cells = np.moveaxis(moved[1:] | moved[:-1], 0, axis)
        total += (-1) ** (mask.ndim - sum(shared)) * int(np.count_nonzero(cells))
    return total


def touch(one: np.ndarray, other: np.ndarray) -> bool:
    """Return whether a voxel of one mask is, or has as a neighbour, a voxel of the other."""
    box = ndimage.find_objects(one.astype(np.uint8))[0]
    near = tuple(slice(max(s.start - 1, 0), s.stop + 1) for s in box)
    if not other[near].any():
        return False
    grown = ndimage.binary_dilation(one[near], np.ones((3,) * one.ndim))
    return bool((grown & other[near]).any())


def without_specks(array: np.ndarray) -> np.ndarray:
    """Return instance numbers, shape ``(L, I, J, K)``, without pieces of a label that are specks beside its largest."""
    out = array.copy()
    for channel in out:
        parts = _labelled(channel > 0)
        sizes = np.bincount(parts.ravel())
        if len(sizes) > 2:
            sizes[0] = 0
            channel[(sizes < SPECK * sizes.max())[parts] & (parts > 0)] = 0
    return out


def _border_share(mask: np.ndarray) -> float:
    """Return the share of the field of view's border that a mask takes."""
    faces = np.concatenate([mask.take(end, axis).ravel() for axis in range(mask.ndim) for end in (0, -1)])
    return float(faces.mean())


def _labelled(mask: np.ndarray) -> np.ndarray:
    found: np.ndarray = ndimage.label(mask, np.ones((3,) * mask.ndim))[0]
    return found


def _pairs(
    there: list[tuple[str, np.ndarray]],
) -> Iterator[tuple[tuple[str, np.ndarray], tuple[str, np.ndarray]]]:
    return ((a, b) for i, a in enumerate(there) for b in there[i + 1 :])


__all__ = ["Measures", "euler_number", "holes_and_handles", "measured", "pieces", "touch", "without_specks"]

"""Which way up: masks that fit their images better when turned, and sites whose images are turned."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

TURNS = ("as they are", "mirrored left to right", "turned upside down", "turned by 180 degrees")
"""How a plane may be laid; the order of the columns of `mask_contrasts`."""

_SIDE = 32
_LONGEST = 256
_RIM = 2


def turned(plane: np.ndarray) -> list[np.ndarray]:
    """Return a plane ``(I, J)`` in each of `TURNS`; I runs rightwards and J downwards."""
    return [plane, plane[::-1], plane[:, ::-1], plane[::-1, ::-1]]


def thumbnail(array: np.ndarray) -> np.ndarray:
    """Return a picture ``(C, I, J, 1)`` as 32 x 32 with mean 0 and deviation 1."""
    flat = array[..., 0].astype(np.float32).mean(axis=0)
    small = ndimage.zoom(
        ndimage.uniform_filter(flat, [max(1, n // _SIDE) for n in flat.shape]),
        [_SIDE / n for n in flat.shape],
        order=1,
        grid_mode=True,
        mode="nearest",
    )
    spread = float(small.std())
    return (small - small.mean()) / spread if spread > 0 else np.zeros_like(small)


def mask_contrasts(array: np.ndarray, masks: np.ndarray) -> np.ndarray | None:
    """Return how much the image changes across a mask's border, with the mask as it is and in each of `TURNS`.

    The figure is the absolute difference between the mean just inside and the mean just outside of the border, in
    standard deviations of the image. Both rims lie side by side, so shading and dark corners count equally in both.

    Parameters
    ----------
    array
        Shape ``(C, I, J, K)``.
    masks
        Bool, shape ``(L, I, J, K)``; their union is taken, in the slice where it is largest.

    Returns
    -------
    numpy.ndarray or None
        Shape ``(4,)``; ``None`` where there is no border.
    """
    union: np.ndarray = np.array(masks.any(axis=0))
    at = int(np.argmax(union.sum(axis=(0, 1))))
    step = max(1, max(union.shape[:2]) // _LONGEST)
    mask = union[::step, ::step, at]
    flat = array[:, ::step, ::step, at].astype(np.float32).mean(axis=0)
    inner = mask & ~ndimage.binary_erosion(mask, iterations=_RIM, border_value=1)
    outer = ndimage.binary_dilation(mask, iterations=_RIM) & ~mask
    spread = float(flat.std())
    if not inner.any() or not outer.any() or spread == 0:
        return None
    return np.array(
        [
            abs(float(flat[a].mean()) - float(flat[b].mean())) / spread
            for a, b in zip(turned(inner), turned(outer), strict=True)
        ]
    )


def better_turn(contrasts: np.ndarray) -> tuple[int, float] | None:
    """Return the turn that nearly all masks of a set prefer and the share that does, if there is one.

    At least eight cases are needed; at least 80 % must prefer one and the same turn by a quarter or more. Symmetric
    structures prefer none by that much.

    Parameters
    ----------
    contrasts
        Shape ``(cases, 4)``.
    """
    if len(contrasts) < 8:
        return None
    best = contrasts.argmax(axis=1)
    clear = contrasts.max(axis=1) > 1.25 * contrasts[:, 0]
    for turn in (1, 2, 3):
        share = float(np.mean((best == turn) & clear))
        if share >= 0.8:
            return turn, share
    return None


def turned_against(one: np.ndarray, other: np.ndarray) -> int | None:
    """Return the turn that makes one mean thumbnail look like another, if it clearly does, else `None`.

    The correlation must be at least .5 turned, and at least .35 higher than as it is.
    """
    likeness = [float(np.corrcoef(laid.ravel(), other.ravel())[0, 1]) for laid in turned(one)]
    best = int(np.argmax(likeness))
    return best if best and likeness[best] >= 0.5 and likeness[best] - likeness[0] >= 0.35 else None

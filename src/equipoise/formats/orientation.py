"""Which way up: masks that fit their images better when turned, and sites whose images are turned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from scipy import ndimage
from scipy.special import stdtr

TURNS = ("as they are", "mirrored left to right", "turned upside down", "turned by 180 degrees")
"""How a plane may be laid; the order of the columns of `mask_contrasts`."""

_LONGEST = 256
_RIM = 2
_SIDE, _FINE = 16, 4
"""Pixels along a thumbnail, and samples along each of them."""
_AROUND = 1.5
"""Side of what is shown of a structure, of the structure's own: half of its width all around is context."""
_SHIFT = 3
"""Pixels of a thumbnail by which two may be moved against each other."""
_CHANCE = 0.01 / 6


def turned(plane: np.ndarray) -> list[np.ndarray]:
    """Return a plane ``(I, J)`` in each of `TURNS`; I runs rightwards and J downwards."""
    return [plane, plane[::-1], plane[:, ::-1], plane[::-1, ::-1]]


def thumbnails(array: np.ndarray, masks: np.ndarray | None) -> dict[str, np.ndarray]:
    """Return small pictures ``(N, 16, 16)`` of a picture ``(C, I, J, 1)`` by which sites are compared.

    ``"picture"`` is all of it. ``"structure"`` is what lies around the labelled structures, and the structures
    themselves: another site lays the patient elsewhere in the picture, and shows more or less of the table.

    Parameters
    ----------
    array
        Channels are averaged.
    masks
        Bool, shape ``(L, I, J, 1)``; their union is taken.
    """
    flat = np.asarray(array[..., 0].astype(np.float32).mean(axis=0))
    found = {"picture": _small(flat, np.zeros(2), np.array(flat.shape))[None]}
    union = np.zeros(0, bool) if masks is None else np.asarray(masks[..., 0].any(axis=0))
    if union.any():
        at = np.argwhere(union)
        low, high = at.min(axis=0), at.max(axis=0) + 1
        middle, half = (low + high) / 2, _AROUND * (high - low) / 2
        found["structure"] = np.stack(
            [_small(plane, middle - half, middle + half) for plane in (flat, union.astype(np.float32))]
        )
    return found


def _small(plane: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Return a rectangle of a plane averaged onto 16 x 16; beyond its edge the plane goes on as it ends."""
    step = (high - low) / (_SIDE * _FINE)
    smooth = ndimage.uniform_filter(plane, [max(1, round(float(s))) for s in step], mode="nearest")
    places = [a + (np.arange(_SIDE * _FINE) + 0.5) * s - 0.5 for a, s in zip(low, step, strict=True)]
    fine = ndimage.map_coordinates(smooth, np.meshgrid(*places, indexing="ij"), order=1, mode="nearest")
    return np.asarray(fine.reshape(_SIDE, _FINE, _SIDE, _FINE).mean(axis=(1, 3)))


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


Patients = Sequence[Sequence[Mapping[str, np.ndarray]]]
"""Of each patient the `thumbnails` of every picture."""


def turned_against(one: Patients, other: Patients) -> int | None:
    """Return the turn that makes one site's pictures look like another's, if there is one, else `None`.

    A picture is compared with the mean picture of the other site in each of `TURNS`, by their correlation; patients
    are the unit. A turn is preferred if 80 % of the patients of both sites prefer it, and prefer it on the mean by more
    than chance. One of the two views must prefer the turn, and none the pictures as they are.

    Notes
    -----
    What looks the same when turned, such as the outline of a body, adds equally to both correlations and drops out of
    their difference. Pictures without any orientation prefer a turn by chance only: one-sided t-tests, at 1 % for the
    three turns and two views together (Bonferroni). The best place of the two on each other counts, as a patient who
    lies higher or lower in the picture would else be taken for a turned one.
    """
    votes = []
    for view in ("picture", "structure"):
        here, there = (_of_view(site, view) for site in (one, other))
        if here and there:
            votes.append([_likeness(here, there), _likeness(there, here)])
    for turn in (1, 2, 3):
        wanted = [all(_prefer(v[:, turn] - v[:, 0]) for v in vote) for vote in votes]
        refused = [all(_prefer(v[:, 0] - v[:, turn]) for v in vote) for vote in votes]
        best = [sum(v.mean(axis=0) for v in vote).argmax() == turn for vote in votes]
        if any(w and b for w, b in zip(wanted, best, strict=True)) and not any(refused):
            return turn
    return None


def _of_view(site: Patients, view: str) -> list[np.ndarray]:
    """Return the thumbnails ``(pictures, N, 16, 16)`` of each patient who has this view."""
    kept = [[shown[view] for shown in patient if view in shown] for patient in site]
    return [np.stack(pictures) for pictures in kept if pictures]


def _likeness(site: list[np.ndarray], other: list[np.ndarray]) -> np.ndarray:
    """Return the correlation of each patient's pictures with the mean of another site, ``(patients, 4 turns)``."""
    pictures, mean = np.concatenate(site), np.mean([p.mean(axis=0) for p in other], axis=0)
    scores = np.stack(
        [
            np.mean([_correlation(laid, pictures[:, n]) for n, laid in enumerate(turns)], axis=0)
            for turns in zip(*(turned(plane) for plane in mean), strict=True)
        ],
        axis=1,
    )
    ends = np.cumsum([len(p) for p in site])[:-1]
    return np.stack([part.mean(axis=0) for part in np.split(scores, ends)])


def _correlation(one: np.ndarray, many: np.ndarray) -> np.ndarray:
    """Return the correlation of a plane with each of many, at the best shift by up to `_SHIFT` pixels.

    Between whole pixels the peak is that of a parabola along each axis: whoever lies half a pixel off must not lose
    against one who happens to lie on the grid.
    """
    shifts = range(-_SHIFT, _SHIFT + 1)
    peaks = np.stack([[_correlation_at(one, many, i, j) for j in shifts] for i in shifts])
    flat = peaks.reshape(-1, len(many))
    i, j = np.unravel_index(flat.argmax(axis=0), peaks.shape[:2])
    at = np.arange(len(many))
    best = top = peaks[i, j, at]
    last = 2 * _SHIFT
    for rows, columns in ((1, 0), (0, 1)):
        # At the end of the range a place is its own neighbour, so nothing is added.
        near = [peaks[np.clip(i + k * rows, 0, last), np.clip(j + k * columns, 0, last), at] for k in (-1, 1)]
        bend = 2 * top - near[0] - near[1]
        inside = (near[0] < top) & (near[1] < top)
        best = best + np.where(inside, (near[1] - near[0]) ** 2 / np.where(inside, 8 * bend, 1), 0)
    return np.asarray(best)


def _correlation_at(one: np.ndarray, many: np.ndarray, i: int, j: int) -> np.ndarray:
    here, there = _overlap(one[None], i, j), _overlap(many, -i, -j)
    here, there = (x - x.mean(axis=1, keepdims=True) for x in (here, there))
    spread = np.sqrt((here**2).sum() * (there**2).sum(axis=1))
    return np.asarray((there @ here[0]) / np.where(spread > 0, spread, np.inf))


def _overlap(planes: np.ndarray, i: int, j: int) -> np.ndarray:
    """Return what planes shifted by ``(i, j)`` share with planes in their place, one row per plane."""
    rows, columns = (slice(max(0, k), _SIDE + min(0, k)) for k in (i, j))
    return planes[:, rows, columns].reshape(len(planes), -1)


def _prefer(gains: np.ndarray) -> bool:
    """Return whether nearly all patients gain, and more on the mean than chance would give."""
    if len(gains) < 3 or np.mean(gains > 0) < 0.8:
        return False
    error = float(gains.std(ddof=1)) / np.sqrt(len(gains))
    return bool(error == 0 or 1 - stdtr(len(gains) - 1, gains.mean() / error) < _CHANCE)

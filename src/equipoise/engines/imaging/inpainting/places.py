"""Where lesions occur: what the training cases' lesions lie in, and where in it; and places alike in other cases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from equipoise.core import LabelMap, rng_for
from equipoise.engines.imaging.inpainting.grounds import Ground, lesions_in
from equipoise.engines.imaging.inpainting.pieces import Piece, grown, pieces_of
from equipoise.engines.parts.placement import Box
from equipoise.engines.parts.tissue_model import TissueModel

SELDOM = 0.1
"""Tissue that makes up less than this share of what lesions lie in is not looked for; nor is a sub-label that is this
many times rarer around them than elsewhere."""

WIDTH = 0.08
"""SD of the Gaussian about a lesion's place, as a share of the sides of what lesions lie in."""

CANDIDATES, TRIED = 4096, 48
"""Voxels of a case that are weighed as a lesion's centre, and how many of them are tried."""

GOOD, BARELY = 0.95, 0.6
"""Share of a lesion that lies in the right tissue: the first good place is taken, else the best that will do."""

Laid = tuple[Box, np.ndarray]
"""A box of an image, and the instance numbers of a lesion in it, one channel per lesion label."""


@dataclass(frozen=True, eq=False)
class Places:
    """What was learned.

    Parameters
    ----------
    names
        Labels that are lesions.
    hosts
        Combinations of other labels that lesions lie in, as `_codes` numbers them; 0 is unlabelled tissue.
    suited
        Whether unlabelled tissue of each sub-label occurs around lesions, bool; empty where there are no sub-labels.
    positions
        Of the training lesions' centres in the box around what lesions lie in, 0 to 1, shape ``(N, 3)``.
    tissue
        The sub-labels of the training cases, or ``None``.
    """

    names: tuple[str, ...]
    hosts: tuple[int, ...]
    suited: np.ndarray
    positions: np.ndarray
    tissue: TissueModel | None

    @classmethod
    def of(cls, grounds: Sequence[Ground], names: tuple[str, ...], tissue: TissueModel | None) -> Places:
        """Return where the lesions of training cases lie."""
        sick = [g.case for g in grounds if not g.healthy]
        hosts = _hosts([case.labels for case in sick], names)
        suited = np.ones(0, bool)
        if tissue is not None:
            count = len(tissue.region)
            around, every = np.zeros(count), np.zeros(count)
            for case in sick:
                under, lesions = tissue.maps[case.id], lesions_in(case.labels, names)
                around += np.bincount(under[grown(lesions, 2) & ~lesions], minlength=count)
                every += np.bincount(under[~lesions], minlength=count)
            suited = around / max(around.sum(), 1) >= SELDOM * every / max(every.sum(), 1)
        learned = cls(names, hosts, suited, np.zeros((0, 3)), tissue)
        found = [learned.position(case.labels, p.centre) for case in sick for p in pieces_of(case.labels, names)]
        return cls(names, hosts, suited, np.array(found), tissue)

    def host_in(self, labels: LabelMap) -> np.ndarray:
        """Return where a lesion may be drawn, bool, shape ``(I, J, K)``: in what lesions lie in."""
        return np.isin(_codes(labels, self.names), self.hosts)

    def position(self, labels: LabelMap, voxels: np.ndarray) -> np.ndarray:
        """Return where voxels ``(…, 3)`` lie in the box around what lesions lie in, 0 to 1 from side to side."""
        host = self.host_in(labels) | lesions_in(labels, self.names)
        if 0 in self.hosts or not host.any():
            host = np.ones(host.shape, bool)
        ends = [np.flatnonzero(host.any(axis=tuple(b for b in range(3) if b != a)))[[0, -1]] for a in range(3)]
        low, high = np.array(ends, float).T
        return np.asarray((voxels - low) / np.maximum(high - low, 1))

    def free_in(self, ground: Ground, taken: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return where a lesion may be drawn in a training case, and where its like occur; both without ``taken``."""
        labels = ground.case.labels
        host = self.host_in(labels) & ~taken & ~labels.ignored()
        if self.tissue is None:
            return host, host
        under = self.tissue.maps[ground.case.id]
        return host, host & (self.suited[under] | (self.tissue.region[under] > 0))

    def lay(
        self, piece: Piece, position: np.ndarray | None, ground: Ground, taken: np.ndarray, rng: np.random.Generator
    ) -> Laid | None:
        """Return where a lesion goes in a training case and what of it is drawn, or ``None`` if it fits nowhere.

        Parameters
        ----------
        piece
            The lesion.
        position
            Of its centre in what lesions lie in, 0 to 1, shape ``(3,)``; ``None`` is that of any training lesion.
        ground
            The training case.
        taken
            Where no lesion may lie, bool, shape ``(I, J, K)``.
        rng
            Draws the place.

        Returns
        -------
        Laid or None
            See `Laid`.
        """
        host, suits = self.free_in(ground, taken)
        middles = np.argwhere(suits)
        if not len(middles):
            return None
        if len(middles) > CANDIDATES:
            middles = middles[rng.choice(len(middles), CANDIDATES, replace=False)]
        near = self.positions if position is None else position[None]
        away = self.position(ground.case.labels, middles)[:, None] - near
        # The smallest distance only sets the scale: far from every training lesion all weights would round to 0.
        apart = np.square(away).sum(-1)
        weight = np.exp(-(apart - apart.min()) / (2 * WIDTH**2)).sum(axis=1)
        tried = rng.choice(len(middles), TRIED, p=weight / weight.sum())
        return _best(piece, middles[tried], host, suits)


def _best(piece: Piece, middles: np.ndarray, host: np.ndarray, suits: np.ndarray) -> Laid | None:
    """Return the piece at the first good one of some places, or at the best, cut to what it may lie in."""
    mask, best = piece.mask, BARELY
    found: Laid | None = None
    side = np.array(mask.shape)
    for middle in middles:
        first = np.rint(middle - (side - 1) / 2).astype(int)
        low, high = np.maximum(first, 0), np.minimum(first + side, host.shape)
        box = (slice(low[0], high[0]), slice(low[1], high[1]), slice(low[2], high[2]))
        inner = tuple(slice(a - f, b - f) for a, b, f in zip(low, high, first, strict=True))
        share = float((mask[inner] & suits[box]).sum() / mask.sum())
        if share > best:
            best, found = share, (box, piece.array[:, *inner] * host[box])
        if share >= GOOD:
            break
    return found


def _hosts(maps: Sequence[LabelMap], names: tuple[str, ...]) -> tuple[int, ...]:
    """Return the combinations of other labels that lesions lie in: under them where labels may overlap, else around.

    Where most of that is labelled, unlabelled tissue is not part of it: what a lesion of the lung touches beyond the
    pleura is not where lesions of the lung arise.
    """
    shares: dict[str, dict[int, float]] = {"under": {}, "around": {}}
    for labels in maps:
        codes, lesions = _codes(labels, names), lesions_in(labels, names)
        for where, mask in (("under", lesions), ("around", grown(lesions, 2) & ~lesions)):
            values, counts = np.unique(codes[mask], return_counts=True)
            for value, count in zip(values, counts, strict=True):
                shares[where][int(value)] = shares[where].get(int(value), 0.0) + count / counts.sum() / len(maps)
    chosen = shares["under"] if 1 - shares["under"].get(0, 0.0) > 0.5 else shares["around"]
    named = {code: share for code, share in chosen.items() if code}
    found = named if sum(named.values()) > 0.5 else chosen
    return tuple(sorted(code for code, share in found.items() if share >= SELDOM * sum(found.values()))) or (0,)


def _codes(labels: LabelMap, names: tuple[str, ...]) -> np.ndarray:
    """Return a number for the labels, lesions left out, that each voxel has; 0 for none; int64, shape ``(I, J, K)``."""
    codes = np.zeros(labels.geometry.shape, np.int64)
    for name, channel in zip(labels.scheme.names, labels.array, strict=True):
        if name not in names:
            codes[channel > 0] ^= int(rng_for(0, "label", name).integers(2**62))  # sums of few never meet by chance
    return codes


__all__ = ["Laid", "Places"]

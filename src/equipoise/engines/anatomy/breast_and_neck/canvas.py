"""A block of tissue under a probe, painted structure by structure; all lengths in mm."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


class Canvas:
    """Structures on a grid; what is painted later covers what was there.

    x runs across the probe with 0 in the middle, y is the depth with 0 at the probe, w runs along the sweep.

    Parameters
    ----------
    shape, spacing
        Of the grid, spacing in mm.
    names
        Labels in the order of the scheme.
    """

    def __init__(self, shape: Sequence[int], spacing: Sequence[float], names: Sequence[str]) -> None:
        i, j, k = shape
        self.x = ((np.arange(i) + 0.5 - i / 2) * spacing[0]).astype(np.float32)[:, None, None]
        self.y = ((np.arange(j) + 0.5) * spacing[1]).astype(np.float32)[None, :, None]
        self.w = ((np.arange(k) + 0.5 - k / 2) * spacing[2]).astype(np.float32)[None, None, :]
        self.spacing = tuple(float(s) for s in spacing)
        self.width, self.height = i * self.spacing[0], j * self.spacing[1]
        self._names = tuple(names)
        self.values = np.zeros((i, j, k), np.uint8)

    def paint(self, name: str, mask: np.ndarray) -> None:
        """Label where ``mask`` is true; it may be broadcast."""
        self.values[np.broadcast_to(mask, self.values.shape)] = self._names.index(name) + 1

    def holds(self, *names: str) -> np.ndarray:
        """Return where one of some labels is, bool, shape ``(I, J, K)``."""
        found: np.ndarray = np.isin(self.values, [self._names.index(n) + 1 for n in names])
        return found

    def share(self, mask: np.ndarray, *names: str) -> float:
        """Return how much of a mask lies on some labels."""
        return float((mask & self.holds(*names)).sum() / max(int(mask.sum()), 1))

    def masks(self) -> np.ndarray:
        """Return one channel per label, uint8, shape ``(L, I, J, K)``."""
        found: np.ndarray = np.stack([self.values == n + 1 for n in range(len(self._names))]).astype(np.uint8)
        return found

    def waves(self, amplitude: float, length: float, rng: np.random.Generator) -> np.ndarray:
        """Return a smooth undulation over x and w, shape ``(I, 1, K)``.

        Five sines of 1 to 3 times ``length`` in mm; its standard deviation is near ``amplitude``.
        """
        out = np.zeros((self.x.shape[0], 1, self.w.shape[2]), np.float32)
        for _ in range(5):
            turn = 2 * np.pi / (length * rng.uniform(1, 3))
            along = turn * rng.uniform(-0.5, 0.5)
            out += np.sin(turn * self.x + along * self.w + rng.uniform(0, 2 * np.pi))
        scaled: np.ndarray = (amplitude * np.sqrt(2 / 5) * out).astype(np.float32)
        return scaled

    def grain(self, lengths: tuple[float, float], rng: np.random.Generator) -> np.ndarray:
        """Return a smooth random field of variance near 1 and some length across and in depth, shape ``(I, J, K)``."""
        out = np.zeros(self.values.shape, np.float32)
        for _ in range(14):
            angle, stretch = rng.uniform(0, 2 * np.pi), rng.uniform(0.6, 1.8)
            a, b = np.cos(angle) * stretch * 2.2 / lengths[0], np.sin(angle) * stretch * 2.2 / lengths[1]
            out += np.cos(a * self.x + b * self.y + 0.7 * a * self.w + rng.uniform(0, 2 * np.pi))
        out *= np.float32(np.sqrt(2 / 14))
        return out

    def ellipse(
        self,
        centre: tuple[float, float],
        radii: tuple[float, float],
        degrees: float = 0.0,
        w: tuple[float, float] | None = None,
    ) -> np.ndarray:
        """Return the squared distance from the centre in units of the half axes: at most 1 inside, ``(I, J, K)``.

        Parameters
        ----------
        centre, radii
            ``(x, y)`` in mm; the first half axis is turned by ``degrees`` from x towards the depth.
        w
            Centre and half axis along the sweep; ``None`` is a tube.
        """
        t = np.radians(degrees)
        u, v = self.x - np.float32(centre[0]), self.y - np.float32(centre[1])
        p = (u * np.float32(np.cos(t)) + v * np.float32(np.sin(t))) / np.float32(radii[0])
        q = (v * np.float32(np.cos(t)) - u * np.float32(np.sin(t))) / np.float32(radii[1])
        out = p * p + q * q
        if w is not None:
            out = out + ((self.w - np.float32(w[0])) / np.float32(w[1])) ** 2
        return np.asarray(out, np.float32)

    def ragged(
        self,
        centre: tuple[float, float],
        radii: tuple[float, float],
        roughness: float,
        lobes: tuple[int, int],
        rng: np.random.Generator,
        degrees: float = 0.0,
    ) -> np.ndarray:
        """Return the mask of an ellipsoid whose radius varies with the angle, bool, shape ``(I, J, K)``.

        Parameters
        ----------
        roughness
            Standard deviation of the radius as a share of it.
        lobes
            Fewest and most bumps around.
        """
        far = np.sqrt(self.ellipse(centre, radii, degrees, (0.0, float(np.mean(radii)))))
        angle = np.arctan2(self.y - centre[1], self.x - centre[0])
        bumps = range(lobes[0], lobes[1] + 1)
        weights = rng.standard_normal(len(bumps)) / np.sqrt(np.arange(1, len(bumps) + 1))
        weights *= roughness / max(float(np.sqrt((weights**2).sum() / 2)), 1e-6)
        edge = sum(a * np.cos(n * angle + rng.uniform(0, 2 * np.pi)) for a, n in zip(weights, bumps, strict=True))
        return np.asarray(far <= 1 + np.clip(edge, -0.7, 1.2))


__all__ = ["Canvas"]

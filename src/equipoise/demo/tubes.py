"""What in the hidden world is long and thin, or round: vessels, airways, small opacities, spicules of nodules.

All are straight tubes in space, in mm from the middle of the picture; the numbers are chosen as those of
`equipoise.demo.world`.

References
----------
Murray CD. The physiological principle of minimum work. PNAS 1926. doi:10.1073/pnas.12.3.207 (radii at a branching)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

Segment = tuple[np.ndarray, np.ndarray, float]
"""Start, end and radius of a tube."""


@dataclass(frozen=True, slots=True, eq=False)
class Tubes:
    """Straight tubes in space; a length of 0 is a ball.

    Parameters
    ----------
    start, end
        mm from the middle of the picture, shape ``(N, 3)``: columns' axis, rows' axis, across the slice.
    radius
        mm, shape ``(N,)``.
    """

    start: np.ndarray
    end: np.ndarray
    radius: np.ndarray

    def coverage(self, shape: tuple[int, int], spacing: float, thickness: float, share: float = 1.0) -> np.ndarray:
        """Return the share of each pixel that the tubes fill in a slice of ``thickness`` mm, shape ``shape``."""
        radius = share * self.radius
        x, y = ((np.arange(n) - (n - 1) / 2) * spacing for n in shape)
        points = np.stack([*(a.ravel() for a in np.meshgrid(x, y, indexing="ij")), np.zeros(x.size * y.size)], axis=1)
        # One plane per 1.25 mm stands for what a thick slice averages.
        count = max(1, round(thickness / 1.25))
        total = np.zeros(len(points))
        for z in thickness * ((np.arange(count) + 0.5) / count - 0.5):
            points[:, 2] = z
            low = np.minimum(self.start, self.end) - radius[:, None]
            high = np.maximum(self.start, self.end) + radius[:, None]
            near = ((low <= [x[-1], y[-1], z]) & (high >= [x[0], y[0], z])).all(axis=1)
            if near.any():
                total += _inside(points, self.start[near], self.end[near], radius[near], spacing)
        return (total / count).reshape(shape)


def vessels(crowd: float, rng: np.random.Generator) -> Tubes:
    """Return vascular trees that come from one side, and single vessels that cross the slice and look like dots."""
    towards = rng.uniform(0, 2 * np.pi)
    out = np.array([np.cos(towards), np.sin(towards), 0.0])
    side = np.array([-out[1], out[0], 0.0])
    segments: list[Segment] = []
    for _ in range(rng.poisson(4.0 * crowd)):
        root = -30 * out + rng.normal(0, 16) * side + np.array([0, 0, rng.normal(0, 7)])
        _grow(segments, root, out + 0.4 * rng.standard_normal(3), float(rng.uniform(0.8, 2.2)), rng)
    for _ in range(rng.poisson(4.0 * crowd)):
        middle = np.array([*rng.uniform(-30, 30, 2), 0.0])
        half = 9 * _unit(np.array([*(0.5 * rng.standard_normal(2)), 1.0]))
        segments.append((middle - half, middle + half, float(0.5 + rng.gamma(2.0, 0.3))))
    return _tubes(segments)


def airways(crowd: float, rng: np.random.Generator) -> Tubes:
    """Return up to a few bronchi, most of them steep."""
    segments = []
    for _ in range(rng.poisson(0.8 * crowd)):
        middle, half = np.array([*rng.uniform(-26, 26, 2), 0.0]), 20 * _unit(rng.standard_normal(3) * (1, 1, 2))
        segments.append((middle - half, middle + half, float(rng.uniform(1.2, 2.6))))
    return _tubes(segments)


def opacities(crowd: float, rng: np.random.Generator) -> Tubes:
    """Return what is dense and no nodule: dots under 3 mm, which the readers did not outline, and bands of scar."""
    segments = []
    for _ in range(rng.poisson(1.5 * crowd)):
        middle = np.array([*rng.uniform(-28, 28, 2), rng.uniform(-1, 1)])
        segments.append((middle, middle, float(rng.uniform(0.6, 1.4))))
    for _ in range(rng.poisson(0.5 * crowd)):
        here = np.array([*rng.uniform(-26, 26, 2), 0.0])
        heading, radius = _unit(np.array([*rng.standard_normal(2), 0.0])), float(rng.uniform(0.6, 2.0))
        for _ in range(rng.integers(2, 6)):
            there = here + 4 * heading
            segments.append((here, there, radius))
            here, heading = there, _unit(heading + 0.25 * rng.standard_normal(3))
    return _tubes(segments)


def spicules(density: np.ndarray, spacing: float, count: int, rng: np.random.Generator) -> Tubes:
    """Return thin strands from a nodule's rim outwards; readers leave them outside the outline."""
    points = np.argwhere(density > 0.5)
    half = (np.array(density.shape) - 1) / 2
    middle = points.mean(axis=0)
    segments = []
    for rim in rng.permutation(points[np.argsort(-np.linalg.norm(points - middle, axis=1))][: 4 * count + 1])[:count]:
        start = (rim - half) * spacing
        heading = _unit((rim - middle) + 0.7 * rng.standard_normal(2))
        end = start + rng.uniform(2, 7) * heading
        segments.append((np.array([*start, 0.0]), np.array([*end, 0.0]), float(rng.uniform(0.25, 0.5))))
    return _tubes(segments)


def _grow(
    segments: list[Segment], start: np.ndarray, direction: np.ndarray, radius: float, rng: np.random.Generator
) -> None:
    """Append a tree: 4 mm pieces that bend and branch, cubes of the radii adding up (Murray 1926), down to 0.5 mm."""
    front = [(start, _unit(direction), radius)]
    while front and len(segments) < 200:
        here, heading, r = front.pop()
        heading = _unit(heading + 0.16 * rng.standard_normal(3))
        there = here + 4.0 * heading
        segments.append((here, there, r))
        if r < 0.5 or there[0] ** 2 + there[1] ** 2 > 45**2:
            continue
        if rng.random() < 0.3:
            big = rng.uniform(0.5, 0.9)
            bend = 0.55 * rng.standard_normal(3)
            front.append((there, _unit(heading + (1 - big) * bend), r * big ** (1 / 3)))
            front.append((there, _unit(heading - big * bend), r * (1 - big) ** (1 / 3)))
        else:
            front.append((there, heading, 0.97 * r))


def _tubes(segments: Sequence[Segment]) -> Tubes:
    start = np.array([s[0] for s in segments], dtype=float).reshape(-1, 3)
    end = np.array([s[1] for s in segments], dtype=float).reshape(-1, 3)
    return Tubes(start, end, np.array([s[2] for s in segments], dtype=float))


def _unit(vector: np.ndarray) -> np.ndarray:
    unit: np.ndarray = vector / np.sqrt(vector @ vector)
    return unit


def _inside(points: np.ndarray, start: np.ndarray, end: np.ndarray, radius: np.ndarray, width: float) -> np.ndarray:
    """Return how far inside the nearest tube each point is, as a coverage from 0 to 1 over an edge of ``width`` mm."""
    axis = end - start
    length = np.linalg.norm(axis, axis=1)
    axis = (axis / np.maximum(length, 1e-9)[:, None]).astype(np.float32)
    p, a = points.astype(np.float32), start.astype(np.float32)
    along = p @ axis.T - (a * axis).sum(axis=1)
    nearest = np.clip(along, 0, length.astype(np.float32))
    squared = (p * p).sum(axis=1)[:, None] - 2 * (p @ a.T) + (a * a).sum(axis=1) - nearest * (2 * along - nearest)
    cover = np.clip((radius.astype(np.float32) - np.sqrt(np.maximum(squared, 0))) / width + 0.5, 0, 1)
    # A tube thinner than a pixel never fills one.
    best: np.ndarray = (cover * np.minimum(1, 2 * radius / width)).max(axis=1)
    return best

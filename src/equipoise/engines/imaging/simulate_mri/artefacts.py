"""Which of the things that go wrong do so in one picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from equipoise.engines.imaging.simulate_mri.kspace import Sampling
from equipoise.engines.imaging.simulate_mri.motion import Pose
from equipoise.engines.imaging.simulate_mri.scanners import Acquisition

MOST_MOVES = 4


@dataclass(frozen=True, slots=True)
class Troubles:
    """How often things go wrong and how badly: see `SimulateMRI` for the fields."""

    partial_fourier: tuple[float, float]
    taper: tuple[float, float]
    motion: float
    motion_mm: float
    motion_degrees: float
    ghosting: float
    ghost: tuple[float, float]
    spiking: float
    spike: tuple[float, float]

    def draw(
        self,
        resolution: tuple[float, float, float],
        partial_fourier: tuple[float, float],
        taper: tuple[float, float],
        spacing: Sequence[float],
        shape: tuple[int, int, int],
        rng: np.random.Generator,
        axes: tuple[int, ...] | None = None,
    ) -> Sampling:
        """Return how one picture's k-space is sampled."""
        axes = tuple(a for a in axes or (0, 1, 2) if shape[a] > 1) or (0,)
        u = rng.random(8)
        phase_axis = axes[int(u[0] * min(len(axes), 2))]
        moves, ghosts, spikes = u[1] < self.motion, u[2] < self.ghosting, u[3] < self.spiking
        poses, places, beat, period = rng.spawn(4)
        return Sampling(
            axes,
            phase_axis,
            resolution,
            float(partial_fourier[0] + (partial_fourier[1] - partial_fourier[0]) * u[4]),
            float(taper[0] + (taper[1] - taper[0]) * u[5]),
            float(beat.uniform(*self.ghost)) if ghosts else 0.0,
            int(period.integers(2, 6)),
            self._spikes(places) if spikes else (),
            self._poses(axes, spacing, shape, poses) if moves else (),
        )

    def scaled(self, sampling: Sampling, level: float) -> Sampling:
        """Return the sampling with spikes in units of the signal, whose mean is ``level``."""
        return replace(sampling, spikes=tuple((place, strength * level) for place, strength in sampling.spikes))

    def _spikes(self, rng: np.random.Generator) -> tuple[tuple[tuple[float, float, float], float], ...]:
        found = []
        for _ in range(1 + int(rng.poisson(0.5))):
            a, b, c = rng.random(3)
            found.append(((float(a), float(b), float(c)), float(rng.uniform(*self.spike))))
        return tuple(found)

    def _poses(
        self, axes: tuple[int, ...], spacing: Sequence[float], shape: tuple[int, int, int], rng: np.random.Generator
    ) -> tuple[Pose, ...]:
        """Return a still start and one to `MOST_MOVES` moves; in slices turns and shifts stay in plane."""
        count = int(rng.integers(1, MOST_MOVES + 1))
        poses = [Pose(0.0)]
        normal = [a for a in range(3) if a not in axes]
        for start in np.sort(rng.uniform(0.1, 0.9, count)):
            shift = self.motion_mm * rng.standard_normal(3) / np.asarray(spacing)
            turn = self.motion_degrees * rng.standard_normal(3)
            for a in range(3):
                if a in normal or shape[a] == 1:
                    shift[a] = 0.0
                elif normal or 1 in shape:
                    turn[a] = 0.0
            x, y, z = shift.tolist()
            p, q, r = turn.tolist()
            poses.append(Pose(float(start), (x, y, z), (p, q, r)))
        return tuple(poses)


def draw_sampling(
    troubles: Troubles,
    taken: Acquisition,
    shape: tuple[int, int, int],
    spacing: Sequence[float],
    slice_axes: Sequence[int],
    rng: np.random.Generator,
) -> tuple[Sampling, int | None]:
    """Return how k-space is sampled, and the axis that slices are stacked along: ``None`` if all are encoded."""
    flat = 1 in shape
    slice_axis = None if taken.volume or flat else int(rng.choice(list(slice_axes)))
    axes = tuple(a for a in range(3) if a != slice_axis)
    # Fewer lines than columns save time; a k-space that is said to be whole is whole.
    phase_share = rng.uniform(0.8, 1.0) if taken.resolution < 1 else 1.0
    drawn = troubles.draw((taken.resolution,) * 3, troubles.partial_fourier, troubles.taper, spacing, shape, rng, axes)
    resolution = [taken.resolution] * 3
    resolution[drawn.phase_axis] *= phase_share
    i, j, k = resolution
    return replace(drawn, resolution=(i, j, k)), slice_axis


__all__ = ["Troubles", "draw_sampling"]

"""Diffusion over aligned signed distances: how it is fitted, judged on held-out maps, and drawn from."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage

from equipoise.core import rng_for
from equipoise.engines.anatomy.learned.denoiser import FieldDenoiser
from equipoise.engines.anatomy.learned.frame import BAND
from equipoise.engines.anatomy.learned.spread import Joint
from equipoise.engines.parts.learned.checkpoint import folder_for
from equipoise.engines.parts.learned.course import Course, Record, Run, load_rendering
from equipoise.engines.parts.learned.examples import Batch, Examples
from equipoise.engines.parts.learned.fitting import one_thread
from equipoise.engines.parts.learned.held_out import Look, Render, hold_out
from equipoise.features.distances import kernel_distance, spread

STEPS_OF_EDGE = 6
"""Points of the working grid over which a boundary rises from inside to outside in what the network sees."""

SMOOTHED = 0.6
"""Standard deviation of the last smoothing, in points of the working grid: what noise is left at a boundary."""

COMPARED = 12
"""Principal components on which drawn maps are compared with held-out ones."""

LOOKED_AT = 32
"""Held-out maps that a look compares, at most."""


@dataclass(frozen=True, eq=False)
class FieldDiffusion:
    """A trained network that draws the shapes of a pose.

    Parameters
    ----------
    denoiser
        The network.
    poses
        How centre and size vary.
    edge
        Distance, in units of the structures' size, that the network knows as 1.
    shape
        Of the working grid.
    varied
        Whether maps differ in which structures they show; the network is then told.
    record
        How the training went.
    """

    denoiser: FieldDenoiser
    poses: Joint
    edge: float
    shape: tuple[int, int, int]
    varied: bool
    record: Record

    @classmethod
    def of(
        cls,
        fields: np.ndarray,
        present: np.ndarray,
        poses: np.ndarray,
        patients: Sequence[str],
        options: Any,
        step: float,
        seed: int,
        mark: str,
    ) -> FieldDiffusion:
        """Return the model of aligned maps.

        Parameters
        ----------
        fields, present, poses, patients
            Of the maps: shapes ``(N, S, I, J, K)``, ``(N, S)`` and ``(N, 4)``, and one each.
        options
            With the fields ``channels``, ``steps``, ``batch``, ``learning_rate`` and ``device``.
        step
            Of the working grid, in units of the structures' size.
        seed
            Of all randomness.
        mark
            Of parameters and stream; the hash of the maps joins it in the name of the checkpoint.

        Raises
        ------
        EngineError
            The training failed; see `equipoise.engines.parts.learned.course.Run.finish`.
        """
        edge = min(BAND, STEPS_OF_EDGE * step)
        images = np.clip(fields / edge, -1, 1).astype(np.float32)
        joint, varied = Joint.of(poses), not present.all()
        planes = [
            _planes(row, shown, joint, varied, images.shape[2:]) for row, shown in zip(poses, present, strict=True)
        ]
        ids = tuple(map(str, range(len(images))))
        examples = Examples(tuple(images), tuple(planes), ((),) * len(images), tuple(patients), ids, images.shape[2:])
        among, out = hold_out(patients, rng_for(seed, "held out"))
        judge = MapJudge.of(examples, among, out[:LOOKED_AT])
        print_of_data = hashlib.sha256(mark.encode() + images.tobytes() + np.stack(planes).tobytes()).hexdigest()
        with one_thread(options.device):
            denoiser = FieldDenoiser.of(
                images.shape[1:], len(planes[0]), options, int(rng_for(seed, "w").integers(2**62))
            )
            course = Course(options.steps, options.batch, foreground=0.0)
            run = Run(
                "anatomy 'learned'",
                denoiser,
                examples,
                course,
                judge,  # type: ignore[arg-type]  # looks at maps as `Judge` looks at images
                among,
                seed,
                folder_for(print_of_data),
                print_of_data,
            )
            load_rendering(denoiser, run.finish())
            denoiser.rest()
        return cls(denoiser, joint, edge, examples.patch, varied, run.record)

    def draw(self, rng: np.random.Generator, present: np.ndarray, reach: float) -> tuple[np.ndarray, np.ndarray]:
        """Return fields, shape ``(S, *shape)``, and a pose, shape ``(4,)``, within ``reach`` standard deviations."""
        row = self.poses.draw(rng, reach)
        with one_thread("cpu"):
            image = self.denoiser.render(_planes(row, present, self.poses, self.varied, self.shape)[None], rng)[0]
        sigma = [0.0, *(SMOOTHED if n > 1 else 0.0 for n in self.shape)]
        return ndimage.gaussian_filter(image * self.edge, sigma, mode="nearest"), row


@dataclass(frozen=True, eq=False)
class MapJudge:
    """Held-out maps, and the principal components on which drawn ones are compared with them.

    Parameters
    ----------
    batch
        The held-out maps and their conditions.
    mean, modes, sd
        Of the maps that are learned from.
    real
        Scores of the held-out maps, in standard deviations.
    """

    batch: Batch
    mean: np.ndarray
    modes: np.ndarray
    sd: np.ndarray
    real: np.ndarray

    @classmethod
    def of(cls, examples: Examples, among: Sequence[int], out: Sequence[int]) -> MapJudge:
        """Return the judge of a training that learns from the maps numbered ``among``."""
        own = np.stack([examples.images[n].ravel() for n in among])
        mean = own.mean(axis=0)
        _, values, modes = np.linalg.svd(own - mean, full_matrices=False)
        count = max(min(COMPARED, int((values > 1e-4 * max(values[0], 1e-9)).sum())), 1)
        modes, sd = modes[:count], np.maximum(values[:count] / np.sqrt(len(own)), 1e-6)
        seen = [*out] if len(out) > 1 else [*out, *among][:2]  # two are the least that a distance needs
        batch = Batch(
            np.stack([examples.images[n] for n in seen]),
            np.stack([examples.planes[n] for n in seen]).astype(np.float32),
            np.array(seen),
        )
        real = (batch.images.reshape(len(seen), -1) - mean) @ modes.T / sd
        return cls(batch, mean, modes, sd, real)

    def look(self, step: int, render: Render, rng: np.random.Generator) -> tuple[Look, np.ndarray]:
        """Return how near and how varied the maps drawn under the held-out conditions are, and the maps."""
        made = render(self.batch.planes, rng)
        if not np.isfinite(made).all():
            return Look(step, np.inf, 0.0), made
        scores = (made.reshape(len(made), -1) - self.mean) @ self.modes.T / self.sd
        return Look(step, kernel_distance(self.real, scores), spread(scores) / max(spread(self.real), 1e-9)), made


def _planes(row: np.ndarray, present: np.ndarray, poses: Joint, varied: bool, shape: tuple[int, ...]) -> np.ndarray:
    """Return what the network is told, planes ``(M, *shape)``: the pose, and where it varies, what is shown."""
    told = np.divide(row - poses.mean, 3 * poses.sd, out=np.zeros(len(row)), where=poses.sd > 0)
    values = [*told, *(present * 2.0 - 1 if varied else ())]
    constant = np.array(values, np.float32)[:, None, None, None]
    return np.broadcast_to(constant, (len(values), *shape))


__all__ = ["FieldDiffusion", "MapJudge"]

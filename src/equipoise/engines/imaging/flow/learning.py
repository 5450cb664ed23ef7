"""Both stages of `flow`, one after the other: their training, and what it will cost."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from equipoise.core import Case
from equipoise.engines.imaging.flow.architecture import widths_of
from equipoise.engines.imaging.flow.autoencoder import Autoencoding, course_of, judge_of, latents_for, measure, prior_of
from equipoise.engines.imaging.flow.imported import Imported, read_imported
from equipoise.engines.imaging.flow.sizes import PRESETS, Coding, coding_for
from equipoise.engines.imaging.flow.velocity import Flowing
from equipoise.engines.parts.learned.cost import Cost
from equipoise.engines.parts.learned.course import Record
from equipoise.engines.parts.learned.fitting import Learned, Prepared, one_thread, prepare
from equipoise.engines.parts.learned.keeping import kept_in
from equipoise.engines.parts.learned.latent import Latents
from equipoise.engines.parts.learned.learnable import require_learnable
from equipoise.engines.parts.learned.presets import Presets
from equipoise.engines.parts.learned.sampling import anatomy_for
from equipoise.engines.parts.learned.trained import Setup


@dataclass(frozen=True, eq=False)
class Stages:
    """What both stages are built from.

    Parameters
    ----------
    engine
        Whose parameters they are.
    coding
        Of the autoencoder.
    autoencoder, velocity
        Imported weights to start from.
    """

    engine: Any
    coding: Coding
    autoencoder: Imported | None
    velocity: Imported | None

    @classmethod
    def of(cls, engine: Any, cases: Sequence[Case]) -> Stages:
        """Return the stages of an engine that is to learn from cases; refuse imported weights that do not fit them."""
        require_learnable(engine.kind, cases, engine.classes)
        ndim, channels = cases[0].image.geometry.ndim, cases[0].image.channels
        coding, autoencoder, velocity = coding_for(engine, ndim), None, None
        if engine.autoencoder:
            autoencoder = read_imported(engine.autoencoder, "autoencoder")
            autoencoder.require_fits(ndim, channels)
            widths = widths_of(autoencoder.architecture)
            coding = replace(coding, channels=widths, fold=1, latent=autoencoder.latent)
        if engine.velocity:
            velocity = read_imported(engine.velocity, "velocity")
            velocity.require_fits(ndim, coding.latent)
        return cls(engine, coding, autoencoder, velocity)

    @property
    def files(self) -> list[Imported]:
        """What is imported."""
        return [part for part in (self.autoencoder, self.velocity) if part]

    @property
    def presets(self) -> Presets:
        """The engine's presets; an imported velocity has the shape that it was trained in."""
        if self.velocity is None:
            return PRESETS
        widths, preset = widths_of(self.velocity.architecture), self.engine.preset
        return {preset: {ndim: replace(size, channels=widths, fold=1) for ndim, size in PRESETS[preset].items()}}

    @property
    def needs(self) -> dict[str, Any]:
        """What `prepare` must know beside the engine."""
        contents = " ".join(part.digest for part in self.files)
        return {"coarser": self.coding.coarser, "contents": contents}

    def first(self, engine: Any, setup: Setup, weights: torch.Generator) -> Autoencoding:
        """Return the first stage, new; it is the one that needs most memory, since it works on whole voxels."""
        return Autoencoding(engine, setup, latents_for(setup, self.coding, self.autoencoder, weights))

    def second(self, ready: Prepared, latents: Latents) -> Flowing:
        """Return the second stage, new."""
        weights = ready.weights("velocity")
        prior = None if self.velocity else prior_of(ready, latents)
        return Flowing.of(self.engine, ready.setup, latents, weights, self.velocity, ready.modality, prior)

    def settle(self, ready: Prepared, latents: Latents) -> None:
        """Compute the latents' scale, and let them be trained no more."""
        latents.eval().requires_grad_(False)
        # The scale that a velocity was trained at holds for the very autoencoder that it was trained with.
        stated = self.velocity.scale if self.velocity and not self.coding.steps else None
        if stated is None:
            measure(ready, latents)
        else:
            latents.scale.fill_(stated)


def learn_flow(engine: Any, cases: Sequence[Case], rng: np.random.Generator) -> Learned:
    """Return an engine whose autoencoder and velocity were trained on cases.

    Raises
    ------
    DataError, LabelError, GeometryMismatchError
        Cases that no engine can learn from.
    EngineError
        A training failed, an imported network does not fit the images, or there is not enough memory.
    """
    stages = Stages.of(engine, cases)
    ready = prepare(engine, cases, rng, stages.presets, build=stages.first, **stages.needs)
    coder = stages.first(engine, ready.setup, ready.weights("autoencoder"))
    reconstructed: Record | None = None
    if stages.coding.steps:
        judge = judge_of(engine, ready)
        reconstructed = ready.train(coder, course_of(stages.coding, ready.setup), "autoencoder", judge)
    with one_thread(ready.setup.size.device):
        stages.settle(ready, coder.latents)
    trainee = stages.second(ready, coder.latents)
    trainee.reconstructed = reconstructed
    learned = ready.learned(trainee, ready.train(trainee, stage="velocity"))
    provenance = {name: value for part in stages.files for name, value in part.provenance().items()}
    return replace(learned, attributes={**learned.attributes, **provenance})


def cost_of_flow(engine: Any, cases: Sequence[Case], rng: np.random.Generator) -> Cost:
    """Return what fitting both stages costs on this machine at most; nothing is kept of the probe.

    Raises
    ------
    EquipoiseError
        Whatever `learn_flow` would refuse before its training.
    """
    from equipoise.engines.parts.learned.probe import prepared_cost, stage_cost

    imaging, shapes = rng.spawn(2)
    with kept_in(None):
        begun = time.perf_counter()
        anatomy_for(engine, cases, shapes)
        drawing = Cost(time.perf_counter() - begun, 0.0, 0.0)
        stages = Stages.of(engine, cases)
        ready, prepared = prepared_cost(engine, cases, imaging, stages.presets, stages.first, **stages.needs)
        coder = stages.first(engine, ready.setup, ready.weights("autoencoder"))
        first = Cost(0.0, 0.0, 0.0)
        if stages.coding.steps:
            judged = replace(ready, judge=judge_of(engine, ready))  # type: ignore[arg-type]  # called as `Judge` is
            first = stage_cost(judged, cases, coder, course_of(stages.coding, ready.setup))
        stages.settle(ready, coder.latents)
        return drawing + prepared + first + stage_cost(ready, cases, stages.second(ready, coder.latents))


__all__ = ["Stages", "cost_of_flow", "learn_flow"]

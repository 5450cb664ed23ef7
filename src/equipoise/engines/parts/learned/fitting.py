"""What every learned engine does around its networks: look at the data, hold patients out, train, keep, and render."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from equipoise.core import Case, LabelMap, patients_of, rng_for
from equipoise.core.registry import canonical, spec_of
from equipoise.engines.parts.learned.checkpoint import folder_for
from equipoise.engines.parts.learned.class_labels import ClassLabels
from equipoise.engines.parts.learned.course import Course, Record, Run, Trainee, load_rendering
from equipoise.engines.parts.learned.examples import Conditions, Examples, patch_for, require_one_spacing, require_sides
from equipoise.engines.parts.learned.held_out import Judge, hold_out
from equipoise.engines.parts.learned.intensity import Intensity
from equipoise.engines.parts.learned.kept_encoder import kept_encoder
from equipoise.engines.parts.learned.learnable import require_learnable
from equipoise.engines.parts.learned.memory import prior_patches
from equipoise.engines.parts.learned.presets import Presets, Size, size_for
from equipoise.engines.parts.learned.prior import Prior
from equipoise.engines.parts.learned.private import Private, private_for, private_intensity
from equipoise.engines.parts.learned.room import remember, settled
from equipoise.engines.parts.learned.trained import Build, Learned, Setup, multiple_of, one_thread
from equipoise.features.encoder import SMALLEST, Encoder, train_encoder

ENCODER_STEPS = 150
"""Of the encoder that judges, at most (a minute on one core), and never more than the engine itself takes."""


@dataclass(frozen=True, eq=False)
class Prepared:
    """The training cases ready to be learned from, and who judges.

    Parameters
    ----------
    engine
        Whose fields are its parameters.
    setup, intensity, conditions, examples
        What networks are built for, how images and truths become numbers, and the patches.
    among
        Numbers of the cases to learn from; the others are held out.
    judge
        Looks at images under the held-out cases' labels; ``None`` where patients are protected.
    seed
        Of everything that follows.
    mark
        Hash of parameters, data and seed.
    parents, modality, classes
        As in `Learned`.
    private
        How patients are protected, if they are.
    choices
        What the free memory changed of the preset.
    """

    engine: Any
    setup: Setup
    intensity: Intensity
    conditions: Conditions
    examples: Examples
    among: list[int]
    judge: Judge | None
    seed: int
    mark: str
    parents: frozenset[str]
    modality: str | None
    classes: ClassLabels | None = None
    private: Private | None = None
    choices: tuple[str, ...] = ()

    def weights(self, *stage: object) -> torch.Generator:
        """Return the generator that a network's first weights are drawn from."""
        return torch.Generator().manual_seed(int(rng_for(self.seed, "weights", *stage).integers(2**62)))

    def train(
        self, trainee: Trainee, course: Course | None = None, stage: str = "", judge: Any | None = None
    ) -> Record:
        """Train networks to the end, leave in them the weights that were kept, and return how it went.

        Parameters
        ----------
        trainee
            What learns.
        course
            As the engine's size states by default.
        stage
            Name of this training among several of one fit: each is kept and resumed on its own.
        judge
            Who looks at what this stage makes, if not `judge`; called as `Judge.look` is.
        """
        remember(folder_for(self.mark), self.setup.size, self.choices)
        run = self.run(trainee, course, stage, judge)
        with one_thread(self.setup.size.device):
            load_rendering(trainee, run.finish())
        trainee.rest()
        return run.record

    def run(self, trainee: Trainee, course: Course | None = None, stage: str = "", judge: Any | None = None) -> Run:
        """Return the training that `train` takes to its end."""
        size = self.setup.size
        mark = hashlib.sha256(f"{self.mark}|{stage}".encode()).hexdigest() if stage else self.mark
        return Run(
            self.engine.kind,
            trainee,
            self.examples,
            course or Course(size.steps, size.batch),
            judge or self.judge,
            self.among,
            int(rng_for(self.seed, stage).integers(2**62)) if stage else self.seed,
            folder_for(mark),
            mark,
            Record(choices=list(self.choices)),
            private=self.private,
        )

    def learned(self, trainee: Trainee, record: Record) -> Learned:
        """Return the engine that this trainee has become."""
        notes: dict[str, str | float] = {"changed for memory": "; ".join(self.choices)} if self.choices else {}
        if self.private:
            notes |= self.private.spending.provenance()
        return Learned(
            trainee,
            self.setup,
            self.intensity,
            self.conditions,
            record,
            self.parents,
            self.modality,
            notes,
            self.classes,
        )


def prepare(
    engine: Any,
    cases: Sequence[Case],
    rng: np.random.Generator,
    presets: Presets,
    coarser: int = 1,
    contents: str = "",
    build: Build | None = None,
    encoder_steps: int = ENCODER_STEPS,
) -> Prepared:
    """Return training cases ready to be learned from.

    Parameters
    ----------
    engine
        Whose fields are its parameters; ``sublabels`` says how finely unlabelled tissue is divided.
    cases
        Training cases, one kind of truth, of at least two patients if anything is to be held out.
    rng
        Of everything.
    presets
        Of the engine.
    coarser
        As in `Setup`.
    contents
        Hashes of files that the engine's parameters name: another content is another training.
    build
        Makes the networks whose memory is counted; without it nothing is changed for lack of memory.
    encoder_steps
        Of the encoder that judges, at most.

    Raises
    ------
    DataError, LabelError, GeometryMismatchError
        Cases that no engine can learn from.
    EngineError
        There is not enough memory.
    """
    classes = require_learnable(engine.kind, cases, getattr(engine, "classes", None))
    seed = int(rng.integers(2**62))
    ndim = cases[0].image.geometry.ndim
    size = size_for(engine, presets, ndim)
    patch_for(cases, size.patch, multiple_of(size, coarser))
    require_one_spacing(cases)
    require_sides(cases, SMALLEST)
    private = private_for(engine, cases, size)
    intensity = private_intensity(engine, private, cases) if private else Intensity.of(cases)
    sublabels = 0 if private else engine.sublabels
    conditions = Conditions.learned(cases, intensity, sublabels, rng_for(seed, "sub-labels"))
    mark = _fingerprint(engine, cases, seed, contents, bool(private))

    def setup_of(size: Size, encoder: Encoder | None = None) -> Setup:
        patch = patch_for(cases, size.patch, multiple_of(size, coarser))
        untaught = encoder or train_encoder(cases[:1], rng_for(seed, "encoder"), min(patch[:2]), 0)
        channels, spacing = cases[0].image.channels, cases[0].image.spacing
        return Setup(ndim, channels, conditions.count, conditions.sublabels, patch, size, untaught, coarser, spacing)

    with one_thread(size.device):
        size, choices = settled(engine, size, cases, setup_of, build, folder_for(mark), private)
        patch = patch_for(cases, size.patch, multiple_of(size, coarser))
        examples = Examples.of(cases, intensity, conditions, patch)
        encoder, judge, among = None, None, list(range(len(cases)))
        if not private:
            among, out = hold_out(examples.patients, rng_for(seed, "held out"))
            seen, steps = [cases[i] for i in among], min(encoder_steps, size.steps)
            encoder = kept_encoder(folder_for(mark), seen, rng_for(seed, "encoder"), min(patch[:2]), steps)
            judge = Judge.of(encoder, examples, out, among, rng_for(seed, "judge"))
    setup = setup_of(size, encoder)
    if not private:
        some = examples.draw(prior_patches(patch), rng_for(seed, "prior"), among).images
        setup = replace(setup, prior=Prior.of(some, ndim, size.device))
    if classes and private:
        classes = classes.without_patients(patch)
    return Prepared(
        engine,
        setup,
        intensity,
        conditions,
        examples,
        among,
        judge,
        seed,
        mark,
        patients_of(cases),
        cases[0].modality,
        classes,
        private,
        choices,
    )


def learn(
    engine: Any,
    cases: Sequence[Case],
    rng: np.random.Generator,
    presets: Presets,
    build: Build,
) -> Learned:
    """Return a trained engine of one stage; ``build`` makes its networks for a setup, with weights from a generator.

    Raises
    ------
    DataError, LabelError, GeometryMismatchError
        As `prepare` does.
    EngineError
        The training failed; see `Run.finish`.
    """
    ready = prepare(engine, cases, rng, presets, build=build)
    trainee = build(engine, ready.setup, ready.weights())
    return ready.learned(trainee, ready.train(trainee))


def _fingerprint(engine: Any, cases: Sequence[Case], seed: int, contents: str, private: bool) -> str:
    """Return the hash of parameters, data and stream: what decides every byte of a fit.

    Where patients are protected their pixels are left out: by their hash anybody could check a guess.
    """
    parameters = [canonical(spec_of(engine)), seed, *([contents] if contents else [])]
    digest = hashlib.sha256(json.dumps(parameters).encode())
    for case in cases:
        digest.update(f"{case.id}|{case.patient}".encode())
        if private:
            continue
        digest.update(np.ascontiguousarray(case.image.array).tobytes())
        if isinstance(case.truth, LabelMap):
            digest.update(np.ascontiguousarray(case.truth.array).tobytes())
        elif case.truth is not None:
            digest.update(case.truth.name.encode())
    return digest.hexdigest()


__all__ = ["Learned", "Prepared", "Setup", "learn", "one_thread", "prepare"]

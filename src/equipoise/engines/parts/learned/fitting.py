"""What every learned engine does around its networks: look at the data, hold patients out, train, keep, and render."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from equipoise.core import Case, Image, LabelMap, patients_of, rng_for
from equipoise.core.registry import canonical, spec_of
from equipoise.engines.parts.learned.checkpoint import folder_for
from equipoise.engines.parts.learned.course import Course, Record, Run, Trainee, load_rendering
from equipoise.engines.parts.learned.examples import Conditions, Examples, patch_for, require_one_spacing
from equipoise.engines.parts.learned.held_out import Judge, hold_out
from equipoise.engines.parts.learned.intensity import Intensity
from equipoise.engines.parts.learned.presets import Presets, Size, size_for
from equipoise.engines.parts.placement import Placement
from equipoise.engines.parts.rendering import Rendered
from equipoise.engines.parts.tissue_model import TissueModel
from equipoise.errors import DataError, LabelError
from equipoise.features.encoder import Encoder, train_encoder

ENCODER_STEPS = 150
"""Of the encoder that judges, at most (a minute on one core), and never more than the engine itself takes."""


@dataclass(frozen=True, eq=False)
class Setup:
    """What the networks are built for.

    Parameters
    ----------
    ndim
        2 or 3.
    channels
        Of the images.
    planes
        That they are conditioned on; the last ``sublabels`` of them may be unknown (0).
    sublabels
        See `Conditions`.
    patch
        Voxels along I, J, K.
    size
        Of the networks and the training.
    encoder
        Trained on the training images, for perceptual losses.
    """

    ndim: int
    channels: int
    planes: int
    sublabels: int
    patch: tuple[int, int, int]
    size: Size
    encoder: Encoder


@dataclass(frozen=True, eq=False)
class Learned:
    """A trained engine.

    Parameters
    ----------
    trainee
        Renders, with the weights that were kept.
    setup, intensity, conditions
        What it was built for, and how images and truths become numbers.
    record
        How the training went.
    parents
        The patients.
    modality
        Of their images, where they state it.
    """

    trainee: Trainee
    setup: Setup
    intensity: Intensity
    conditions: Conditions
    record: Record
    parents: frozenset[str]
    modality: str | None

    def render(self, labels: LabelMap, placement: Placement | None, rng: np.random.Generator) -> Rendered:
        """Return an image under a label map: of a random training image's scale, on the label map's grid."""
        scheme = self.conditions.scheme
        if scheme is None or labels.scheme.names != scheme.names:
            names = scheme.names if scheme else self.conditions.classes
            raise LabelError(
                f"the engine was fitted on the labels {names}, this map has {labels.scheme.names}",
                fix="fit it on cases with the labels that it is to render, or choose an anatomy that draws those",
            )
        shape = labels.geometry.shape
        tissue = self.conditions.tissue
        known = tissue is not None and placement is not None and placement.source in tissue.maps
        under = tissue.sublabels(labels, placement) if tissue is not None and known else None
        planes = self.conditions.of(labels, shape, under).astype(np.float32)
        drawing, scaling = rng.spawn(2)
        with one_thread(self.setup.size.device):
            made = self.trainee.render(_to_multiple(planes, self.setup)[None], drawing)[0]
        made = made[:, : shape[0], : shape[1], : shape[2]]
        array = self.intensity.decode(made, int(scaling.integers(2**31)))
        return Rendered(Image.on(labels.geometry, array), labels, "learned", {}, self.modality)


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
        Looks at images under the held-out cases' labels.
    seed
        Of everything that follows.
    mark
        Hash of parameters, data and seed.
    parents, modality
        As in `Learned`.
    """

    engine: Any
    setup: Setup
    intensity: Intensity
    conditions: Conditions
    examples: Examples
    among: list[int]
    judge: Judge
    seed: int
    mark: str
    parents: frozenset[str]
    modality: str | None

    def weights(self, *stage: object) -> torch.Generator:
        """Return the generator that a network's first weights are drawn from."""
        return torch.Generator().manual_seed(int(rng_for(self.seed, "weights", *stage).integers(2**62)))

    def train(self, trainee: Trainee, course: Course | None = None, stage: str = "") -> Record:
        """Train networks to the end, leave in them the weights that were kept, and return how it went.

        Parameters
        ----------
        trainee
            What learns.
        course
            As the engine's size states by default.
        stage
            Name of this training among several of one fit: each is kept and resumed on its own.
        """
        size = self.setup.size
        mark = hashlib.sha256(f"{self.mark}|{stage}".encode()).hexdigest() if stage else self.mark
        run = Run(
            self.engine.kind,
            trainee,
            self.examples,
            course or Course(size.steps, size.batch),
            self.judge,
            self.among,
            int(rng_for(self.seed, stage).integers(2**62)) if stage else self.seed,
            folder_for(mark),
            mark,
        )
        with one_thread(size.device):
            load_rendering(trainee, run.finish())
        trainee.rest()
        return run.record

    def learned(self, trainee: Trainee, record: Record) -> Learned:
        """Return the engine that this trainee has become."""
        return Learned(trainee, self.setup, self.intensity, self.conditions, record, self.parents, self.modality)


def prepare(engine: Any, cases: Sequence[Case], rng: np.random.Generator, presets: Presets) -> Prepared:
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

    Raises
    ------
    DataError, LabelError, GeometryMismatchError
        Cases that no engine can learn from.
    """
    _require_learnable(engine.kind, cases)
    seed = int(rng.integers(2**62))
    ndim = cases[0].image.geometry.ndim
    size = size_for(engine, presets, ndim)
    patch = patch_for(cases, size.patch, size.fold * 2 ** (len(size.channels) - 1))
    require_one_spacing(cases)
    intensity = Intensity.of(cases)
    conditions = _conditions(cases, intensity, engine.sublabels, rng_for(seed, "sub-labels"))
    examples = Examples.of(cases, intensity, conditions, patch)
    among, out = hold_out(examples.patients, rng_for(seed, "held out"))
    with one_thread(size.device):
        seen, steps = [cases[i] for i in among], min(ENCODER_STEPS, size.steps)
        encoder = train_encoder(seen, rng_for(seed, "encoder"), min(patch[:2]), steps)
        judge = Judge.of(encoder, examples, out, rng_for(seed, "judge"))
    setup = Setup(ndim, examples.images[0].shape[0], conditions.count, conditions.sublabels, patch, size, encoder)
    mark = _fingerprint(engine, cases, seed)
    parents, modality = patients_of(cases), cases[0].modality
    return Prepared(engine, setup, intensity, conditions, examples, among, judge, seed, mark, parents, modality)


def learn(
    engine: Any,
    cases: Sequence[Case],
    rng: np.random.Generator,
    presets: Presets,
    build: Callable[[Any, Setup, torch.Generator], Trainee],
) -> Learned:
    """Return a trained engine of one stage; ``build`` makes its networks for a setup, with weights from a generator.

    Raises
    ------
    DataError, LabelError, GeometryMismatchError
        As `prepare` does.
    EngineError
        The training failed; see `Run.finish`.
    """
    ready = prepare(engine, cases, rng, presets)
    trainee = build(engine, ready.setup, ready.weights())
    return ready.learned(trainee, ready.train(trainee))


@contextmanager
def one_thread(device: str) -> Iterator[None]:
    """Compute on one CPU thread inside the block: the same sums in the same order, and fits run side by side."""
    before = torch.get_num_threads()
    if device == "cpu":
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _require_learnable(kind: str, cases: Sequence[Case]) -> None:
    if len(cases) < 2:
        raise DataError(
            f"{kind} was given {len(cases)} training image(s) and needs two at the least, thirty to be of use",
            fix="add training patients, or use a simulator, which needs none",
        )
    first = cases[0].truth
    for case in cases:
        if type(case.truth) is not type(first) or case.truth is None:
            raise LabelError(
                f"case {case.id!r} has {type(case.truth).__name__} as truth, {cases[0].id!r} {type(first).__name__}",
                file=case.file,
                why="one engine is conditioned on one kind of truth",
                fix="leave out unlabelled cases, or annotate them",
            )
        if isinstance(first, LabelMap) and case.labels.scheme.names != first.scheme.names:
            raise LabelError(
                f"case {case.id!r} has the labels {case.labels.scheme.names}, the first one {first.scheme.names}",
                fix="read all cases with one `labels` table",
            )
    if isinstance(first, LabelMap):
        shown = np.any([case.labels.masks().any((1, 2, 3)) for case in cases], axis=0)
        if not shown.all():
            missing = [name for name, seen in zip(first.scheme.names, shown, strict=True) if not seen]
            raise LabelError(
                f"{kind}: no training mask contains {', '.join(map(repr, missing))}",
                why="the network cannot learn how a structure looks that it is never shown",
                fix="add cases that show it, or leave the label out of the plan's `labels`",
            )


def _conditions(cases: Sequence[Case], intensity: Intensity, sublabels: int, rng: np.random.Generator) -> Conditions:
    truth = cases[0].truth
    if not isinstance(truth, LabelMap):
        return Conditions(None, truth.classes if truth else ())
    if not sublabels:
        return Conditions(truth.scheme)
    number = {case.id: i for i, case in enumerate(cases)}
    tissue = TissueModel.fit(
        cases, lambda case: intensity.encode(case.image.array, number[case.id]), rng, sublabels, inner=1
    )
    return Conditions(truth.scheme, (), tissue)


def _fingerprint(engine: Any, cases: Sequence[Case], seed: int) -> str:
    """Return the hash of parameters, data and stream: what decides every byte of a fit."""
    digest = hashlib.sha256(json.dumps([canonical(spec_of(engine)), seed]).encode())
    for case in cases:
        digest.update(f"{case.id}|{case.patient}".encode())
        digest.update(np.ascontiguousarray(case.image.array).tobytes())
        if isinstance(case.truth, LabelMap):
            digest.update(np.ascontiguousarray(case.truth.array).tobytes())
    return digest.hexdigest()


def _to_multiple(planes: np.ndarray, setup: Setup) -> np.ndarray:
    """Return planes mirrored at their far ends up to a patch, and to sides that the network can halve."""
    multiple = setup.size.fold * 2 ** (len(setup.size.channels) - 1)
    more = []
    for n, p in zip(planes.shape[1:], setup.patch, strict=True):
        m = 1 if p == 1 else multiple
        more.append((0, max(p, -(-n // m) * m) - n))
    return np.pad(planes, [(0, 0), *more], mode="symmetric") if any(b for _, b in more) else planes


__all__ = ["Learned", "Prepared", "Setup", "learn", "one_thread", "prepare"]

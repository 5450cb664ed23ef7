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


def learn(
    engine: Any,
    cases: Sequence[Case],
    rng: np.random.Generator,
    presets: Presets,
    build: Callable[[Any, Setup, torch.Generator], Trainee],
) -> Learned:
    """Return a trained engine.

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
    build
        Makes the networks of an engine for a setup, with weights from a generator.

    Raises
    ------
    DataError, LabelError, GeometryMismatchError
        Cases that no engine can learn from.
    EngineError
        The training failed; see `Run.finish`.
    """
    _require_learnable(engine.kind, cases)
    seed = int(rng.integers(2**62))
    ndim = cases[0].image.geometry.ndim
    chosen = size_for(engine, presets, ndim)
    patch = patch_for(cases, chosen.patch, chosen.fold * 2 ** (len(chosen.channels) - 1))
    require_one_spacing(cases)
    intensity = Intensity.of(cases)
    conditions = _conditions(cases, intensity, engine.sublabels, rng_for(seed, "sub-labels"))
    examples = Examples.of(cases, intensity, conditions, patch)
    among, out = hold_out(examples.patients, rng_for(seed, "held out"))
    with one_thread(chosen.device):
        side = min(patch[:2])
        encoder = train_encoder(
            [cases[i] for i in among], rng_for(seed, "encoder"), side, min(ENCODER_STEPS, chosen.steps)
        )
        setup = Setup(ndim, examples.images[0].shape[0], conditions.count, conditions.sublabels, patch, chosen, encoder)
        weights = torch.Generator().manual_seed(int(rng_for(seed, "weights").integers(2**62)))
        trainee = build(engine, setup, weights)
        mark = _fingerprint(engine, cases, seed)
        judge = Judge.of(encoder, examples, out, rng_for(seed, "judge"))
        run = Run(
            engine.kind,
            trainee,
            examples,
            Course(chosen.steps, chosen.batch),
            judge,
            among,
            seed,
            folder_for(mark),
            mark,
        )
        load_rendering(trainee, run.finish())
        trainee.rest()
    return Learned(trainee, setup, intensity, conditions, run.record, patients_of(cases), cases[0].modality)


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


__all__ = ["Learned", "Setup", "learn", "one_thread"]

"""The training loop: draw, cut, step, look; the best or the last weights are kept."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn

from equipoise.core.case import Case
from equipoise.core.contracts import Augment, FitRecord
from equipoise.core.mix import Draw
from equipoise.core.random import rng_for
from equipoise.errors import TrainingError
from equipoise.learners.network import as_input, segmentation_loss, set_weights, weights_of
from equipoise.learners.patches import Batch, batch_of, cut, place
from equipoise.learners.recipe import learning_rate_at
from equipoise.learners.task import Task

LOOKS = 8
"""Times that the validation score is taken in one training."""

VALIDATION_PATCHES = 32
"""Patches that the score is taken on: about one step's work."""

LONGEST_GRADIENT = 5.0
"""Norm at which gradients are cut: a patch of saturated noise then costs one step, not the training."""


@dataclass(slots=True)
class Tally:
    """Counts what was drawn into batches."""

    draws: int = 0
    synthetic: int = 0
    positives: int = 0
    distinct: set[str] = field(default_factory=set)
    foreground: np.ndarray = field(default_factory=lambda: np.zeros(1))
    voxels: float = 0.0

    def add(self, drawn: Sequence[Draw], batch: Batch, fresh: bool) -> None:
        """Count a batch; a ``fresh`` synthetic case is a new one whatever its name."""
        for draw in drawn:
            if draw.case.synthetic:
                self.distinct.add(f"{draw.case.id}|{self.draws}" if fresh else draw.case.id)
                self.synthetic += 1
            self.draws += 1
        self.positives += int(np.count_nonzero(batch.labels))
        counted = batch.counted > 0
        self.voxels += float(batch.weights @ counted.sum((1, 2, 3, 4)))
        self.foreground = self.foreground + batch.weights @ ((batch.labels > 0) & counted).sum((2, 3, 4))


@dataclass(slots=True, eq=False)
class Training:
    """One training of a network.

    Parameters
    ----------
    task
        What it is about.
    network
        Changed in place.
    draws
        Of the training set.
    rng
        Places and augmentation of patches.
    augment
        Applied to each patch, where there is one.
    streamed
        Whether synthetic cases are fresh at every draw.
    """

    task: Task
    network: nn.Module
    draws: Iterator[Draw]
    rng: np.random.Generator
    augment: Augment | None = None
    streamed: bool = False

    def run(self, steps: int, validation: Sequence[Case], select: bool) -> FitRecord:
        """Train for ``steps`` steps and return how it went; the network holds the weights that are kept.

        Raises
        ------
        TrainingError
            The loss is no longer a number, or nothing labelled was ever drawn.
        """
        begun = time.perf_counter()
        held_out = validation_batch(self.task, validation)
        recipe, tally = self.task.recipe, Tally()
        optimiser = torch.optim.AdamW(self.network.parameters(), recipe.learning_rate, weight_decay=recipe.weight_decay)
        looks = {round(steps * (k + 1) / LOOKS) for k in range(LOOKS)}
        curve: list[tuple[int, float, float]] = []
        losses: list[float] = []
        best, kept = (-math.inf, steps), None
        for step in range(1, steps + 1):
            for group in optimiser.param_groups:
                group["lr"] = learning_rate_at(step - 1, steps, recipe.learning_rate)
            losses.append(self._step(optimiser, tally, step))
            if step not in looks:
                continue
            score = self._score(held_out) if held_out else math.nan
            curve.append((step, float(np.mean(losses)), score))
            losses.clear()
            if select and score > best[0]:
                best, kept = (score, step), weights_of(self.network)
        if not tally.positives:
            raise TrainingError(
                f"none of the {tally.draws} patches drawn has a labelled voxel, so there was nothing to learn",
                fix="check that the truth is not empty with `equipoise check`, and raise `foreground` of the learner",
            )
        if kept is not None:
            set_weights(self.network, kept)
        self.network.eval()
        seconds = time.perf_counter() - begun
        distinct = len(tally.distinct)
        prevalence = tuple((tally.foreground / max(tally.voxels, 1.0)).tolist())
        return FitRecord(steps, tally.draws, tally.synthetic, distinct, seconds, tuple(curve), best[1], prevalence)

    def _step(self, optimiser: torch.optim.Optimizer, tally: Tally, step: int) -> float:
        recipe, task = self.task.recipe, self.task
        batch, drawn = batch_of(
            self.draws,
            recipe.batch,
            task.cases,
            task.patch,
            recipe.foreground,
            self.rng,
            self.augment,
            self.streamed,
        )
        tally.add(drawn, batch, self.streamed)
        self.network.train()
        loss = self._loss(batch)
        value = loss.item()
        if not math.isfinite(value):
            raise TrainingError(
                f"the loss is {value} at step {step} (case {drawn[0].case.id!r} and others), learning rate "
                f"{recipe.learning_rate:g}",
                why="every weight would become NaN; there is no model to keep",
                fix=f"set learning_rate = {recipe.learning_rate / 10:g}, or bf16 = false, in the learner of the plan",
            )
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.network.parameters(), LONGEST_GRADIENT)
        optimiser.step()
        return value

    def _loss(self, batch: Batch) -> torch.Tensor:
        recipe, ndim = self.task.recipe, self.task.architecture.ndim
        images, labels, counted = (
            as_input(x, ndim, recipe.device) for x in (batch.images, batch.labels, batch.counted)
        )
        weights = torch.from_numpy(batch.weights).to(recipe.device)
        with torch.autocast(recipe.device, torch.bfloat16, enabled=recipe.bf16):
            logits = self.network(images)
        return segmentation_loss(logits.float(), labels, counted, weights, recipe.loss)

    def _score(self, held_out: Batch) -> float:
        """Return the Dice of the validation patches, voxels pooled, mean over the labels that they have."""
        recipe, ndim, size = self.task.recipe, self.task.architecture.ndim, self.task.recipe.batch
        labels = self.task.architecture.labels
        sums = np.zeros((3, labels))
        self.network.eval()
        for first in range(0, len(held_out.images), size):
            part = slice(first, first + size)
            with torch.inference_mode(), torch.autocast(recipe.device, torch.bfloat16, enabled=recipe.bf16):
                found = (self.network(as_input(held_out.images[part], ndim, recipe.device)) > 0).cpu().numpy()
            truth = (held_out.labels[part] > 0).reshape(found.shape)
            counts = (held_out.counted[part] > 0).reshape(len(found), 1, *found.shape[2:])
            axes = (0, *range(2, found.ndim))
            sums += [(m & counts).sum(axes) for m in (found & truth, found, truth)]
        both, predicted, true = sums[:, sums[2] > 0]
        return float(np.mean(2 * both / (predicted + true))) if true.size else math.nan


def validation_batch(task: Task, validation: Sequence[Case]) -> Batch | None:
    """Return the validation patches: the same ones whatever the training stream, so that arms compare."""
    if not validation:
        return None
    ordered = sorted(validation, key=lambda case: case.id)
    count = min(len(ordered), VALIDATION_PATCHES)
    chosen = [ordered[i * len(ordered) // count] for i in range(count)]
    parts: list[list[Any]] = [[], [], []]
    labels = len(task.scheme.labels)
    for index, case in enumerate(chosen):
        prepared = task.cases.get(case, keep=False)
        rng = rng_for(0, "validation patches", case.id)
        for _ in range(index, VALIDATION_PATCHES, count):
            image, label = cut(prepared, place(prepared, task.patch, task.recipe.foreground, rng), task.patch)
            counted = label[labels:] == 0 if len(label) > labels else np.ones((1, *task.patch), bool)
            for part, value in zip(parts, (image, label[:labels], counted), strict=True):
                part.append(value)
    images, truth, counts = (np.stack(part) for part in parts)
    return Batch(images, truth, counts, np.ones(len(images), np.float32))

"""The course of a training: step, average, look at held-out images, keep the best, stop; killed and resumed at will.

Randomness is keyed by step, not carried along, so that a training that was killed and resumed takes the very steps that
it would have taken.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn

from equipoise.core import rng_for
from equipoise.engines.parts.learned.checkpoint import flattened, read_checkpoint, unflattened, write_checkpoint
from equipoise.engines.parts.learned.examples import Batch, Examples
from equipoise.engines.parts.learned.grid import write_grid
from equipoise.engines.parts.learned.held_out import Judge, Look
from equipoise.engines.parts.learned.keeping import tell
from equipoise.engines.parts.learned.private import Private
from equipoise.engines.parts.learned.record import COLLAPSED, Course, Record
from equipoise.errors import EngineError

PATIENT_LOOKS = 2
"""Looks in a row that a training may stay collapsed."""

CHECKPOINT = "checkpoint.safetensors"


class Trainee(Protocol):
    """Networks that learn to render images under planes."""

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        """All that is trained, by name."""

    @property
    def optimisers(self) -> Mapping[str, torch.optim.Optimizer]:
        """By name."""

    @property
    def renders(self) -> tuple[str, ...]:
        """Names of the networks that `render` needs: their running average is what renders and is kept."""

    def step(self, batch: Batch, generator: torch.Generator, step: int) -> dict[str, float]:
        """Take one step and return the losses by name."""

    def render(self, planes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return images ``(B, C, I, J, K)`` in -1 … 1."""

    def rest(self) -> None:
        """Let go of what only the training needs."""


@dataclass(slots=True, eq=False)
class Run:
    """A training under way.

    Parameters
    ----------
    kind
        The engine, for messages.
    trainee, examples, course, judge
        What learns, from what, how, and who looks; ``None`` looks at nothing, takes all steps and keeps the last.
    among
        Numbers of the cases to learn from.
    seed
        Of all randomness.
    folder
        Where checkpoints and sample grids go; ``None`` keeps nothing.
    fingerprint
        Of parameters and data: a checkpoint of another training is not continued.
    private
        Takes the steps, if patients are to be protected.
    """

    kind: str
    trainee: Trainee
    examples: Examples
    course: Course
    judge: Judge | None
    among: Sequence[int]
    seed: int
    folder: Path | None = None
    fingerprint: str = ""
    record: Record = field(default_factory=Record)
    average: dict[str, torch.Tensor] = field(default_factory=dict)
    kept: dict[str, torch.Tensor] = field(default_factory=dict)
    private: Private | None = None

    def finish(self) -> dict[str, torch.Tensor]:
        """Train to the end and return the weights that render, by ``network/name``.

        Raises
        ------
        EngineError
            A loss is no longer a number, the images have collapsed into one, or memory is used up; the last good
            checkpoint is kept.
        """
        begun, before = time.perf_counter(), 0.0
        self.begin()
        step = self._resume()
        before, resumed_at = self.record.seconds, step
        recent: list[dict[str, float]] = []
        while step < self.course.steps and not self.record.stopped:
            step += 1
            with enough_memory(self.kind, step):
                recent.append(self.step(step))
            if step in self.look_steps():
                if self.judge:
                    self.record.losses.append({k: float(np.mean([r[k] for r in recent])) for k in recent[-1]})
                    with enough_memory(self.kind, step):
                        self.look(step, self.judge)
                recent.clear()
                self.record.seconds = before + time.perf_counter() - begun
                self._write(step)
            each = (time.perf_counter() - begun) / (step - resumed_at)
            tell(step, self.course.steps, each * (self.course.steps - step))
        tell(self.course.steps, self.course.steps, 0.0)
        self.record.stopped = self.record.stopped or "all steps were taken"
        return self.kept or self.average

    def begin(self) -> None:
        """Let the average begin at the first weights."""
        self.average = {name: value.clone() for name, value in self._rendering().items()}

    def look_steps(self) -> set[int]:
        """Return the steps after which held-out images are looked at and a checkpoint is written."""
        return {max(round(self.course.steps * (k + 1) / self.course.looks), 1) for k in range(self.course.looks)}

    def step(self, step: int) -> dict[str, float]:
        """Take one step, let the average follow, and return the losses."""
        if self.private:
            losses = self.private.step(self.trainee, self.examples, self.among, self.course.foreground, step)
        else:
            rng = rng_for(self.seed, "batch", step)
            batch = self.examples.draw(self.course.batch, rng, self.among, self.course.foreground)
            generator = torch.Generator().manual_seed(int(rng_for(self.seed, "step", step).integers(2**62)))
            losses = self.trainee.step(batch, generator, step)
        bad = [name for name, value in losses.items() if not math.isfinite(value)]
        if bad:
            raise EngineError(
                f"{self.kind}: loss {bad[0]!r} is {losses[bad[0]]} at step {step} of {self.course.steps}",
                why=f"every weight would become NaN; {self._last_good()}",
                fix="lower learning_rate by a factor of 3, or set bf16 = false",
            )
        # Early on the average follows quickly, or it would remember the first random weights for thousands of steps.
        decay = min(self.course.decay, (1 + step) / (10 + step))
        with torch.no_grad():
            for name, value in self._rendering().items():
                if value.is_floating_point():
                    self.average[name].lerp_(value, 1 - decay)
                else:
                    self.average[name].copy_(value)
        return losses

    def look(self, step: int, judge: Judge) -> np.ndarray:
        """Look at held-out images, keep the weights if they are the best so far, and return the images."""
        with self.averaged():
            look, made = judge.look(step, self.trainee.render, rng_for(self.seed, "look"))
        best = self.record.best
        self.record.looks.append(look)
        if look.distance < best and look.diversity >= COLLAPSED:
            self.kept = {name: value.clone() for name, value in self.average.items()}
            self.record.best_step = step
        if self.folder:
            write_grid(self.folder / f"step-{step:06d}.png", judge.batch, made)
        recent = self.record.looks[-PATIENT_LOOKS:]
        if len(recent) == PATIENT_LOOKS and all(x.diversity < COLLAPSED for x in recent) and self._late(step):
            raise EngineError(
                f"{self.kind}: the images have collapsed: at step {step} they vary by {look.diversity:.3f} of what "
                f"real ones do, under the bound of {COLLAPSED}",
                why=f"one image many times teaches nothing; {self._last_good()}",
                fix="lower learning_rate by a factor of 3, train on more patients, or use `diffusion`",
            )
        since = sum(x.step > self.record.best_step for x in self.record.looks)
        if self.record.best_step and since >= self.course.patience:
            self.record.stopped = f"no better held-out images in {since} looks"
        return made

    def _late(self, step: int) -> bool:
        """Whether images should be varied by now: a tenth of the steps is over."""
        return step >= 0.1 * self.course.steps

    def _last_good(self) -> str:
        if self.record.best_step and self.folder:
            return f"the images of step {self.record.best_step} were the best and are kept in {self.folder}"
        return "no good step was kept"

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Let the trainee render with the averaged weights inside the block."""
        live = {name: value.clone() for name, value in self._rendering().items()}
        load_rendering(self.trainee, self.average)
        try:
            yield
        finally:
            load_rendering(self.trainee, live)

    def _rendering(self) -> dict[str, torch.Tensor]:
        return rendering_weights(self.trainee)

    def _write(self, step: int) -> None:
        if self.folder is not None:
            write_checkpoint(self.folder / CHECKPOINT, *self.checkpoint(step))

    def checkpoint(self, step: int) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """Return all that a training needs to be continued after a step."""
        tensors = {f"average/{k}": v for k, v in self.average.items()} | {f"kept/{k}": v for k, v in self.kept.items()}
        rest = {}
        for name, network in self.trainee.networks.items():
            tensors |= {f"network/{name}/{k}": v for k, v in network.state_dict().items()}
        for name, optimiser in self.trainee.optimisers.items():
            found, rest[name] = flattened(optimiser.state_dict(), f"optimiser/{name}")
            tensors |= found
        return tensors, {
            "fingerprint": self.fingerprint,
            "step": step,
            "record": asdict(self.record),
            "optimisers": rest,
        }

    def _resume(self) -> int:
        """Continue from this training's checkpoint if there is one; return the steps already taken."""
        path = self.folder / CHECKPOINT if self.folder else None
        if path is None or not path.exists():
            return 0
        tensors, about = read_checkpoint(path)
        if about.get("fingerprint") != self.fingerprint:
            raise EngineError(
                f"{self.kind}: the checkpoint belongs to a training with other parameters or other data",
                file=str(path),
                fix=f"delete {path.parent} to train anew",
            )
        try:
            return self._restore(tensors, about)
        except (RuntimeError, ValueError, KeyError, TypeError) as error:
            raise EngineError(
                f"{self.kind}: the checkpoint holds another architecture than this training's: "
                f"{' '.join(str(error).split())[:300]}",
                file=str(path),
                why="weights of another network cannot be continued; an update of MONAI or of equipoise may change one",
                fix=f"delete {path.parent} to train anew, or install the versions that wrote it",
            ) from error

    def _restore(self, tensors: Mapping[str, torch.Tensor], about: Mapping[str, Any]) -> int:
        for name, network in self.trainee.networks.items():
            network.load_state_dict(_below(tensors, f"network/{name}/"))
        for name, optimiser in self.trainee.optimisers.items():
            optimiser.load_state_dict(unflattened(tensors, about["optimisers"][name], f"optimiser/{name}"))
        average, kept = _below(tensors, "average/"), _below(tensors, "kept/")
        if set(average) != set(self.average) or any(average[k].shape != v.shape for k, v in self.average.items()):
            raise ValueError("the averaged weights are those of other networks")
        device = next(iter(self.average.values())).device
        self.average, self.kept = ({k: v.to(device) for k, v in group.items()} for group in (average, kept))
        record = dict(about["record"])
        self.record = Record(**record | {"looks": [Look(**look) for look in record["looks"]]})
        return int(about["step"])


@contextmanager
def enough_memory(kind: str, step: int) -> Iterator[None]:
    """Turn what libraries say when memory is used up into one clear error."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, (MemoryError, torch.OutOfMemoryError)) and "can't allocate memory" not in str(error):
            raise
        raise EngineError(
            f"{kind}: memory was used up at step {step}: {' '.join(str(error).split())[:200]}",
            why="something else on this machine may have taken memory since the training began",
            fix="set memory = GiB that it may take, or at_once = 1, then run it again: it goes on from its checkpoint",
        ) from error


def rendering_weights(trainee: Trainee) -> dict[str, torch.Tensor]:
    """Return the weights of the networks that render, by ``network/name``; they are not copies."""
    return {f"{n}/{k}": v for n in trainee.renders for k, v in trainee.networks[n].state_dict().items()}


def load_rendering(trainee: Trainee, weights: Mapping[str, torch.Tensor]) -> None:
    """Put weights by ``network/name`` into the networks that render."""
    for name in trainee.renders:
        trainee.networks[name].load_state_dict(_below(weights, f"{name}/"))


def _below(tensors: Mapping[str, torch.Tensor], prefix: str) -> dict[str, Any]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


__all__ = ["COLLAPSED", "Course", "Record", "Run", "Trainee", "load_rendering", "rendering_weights"]

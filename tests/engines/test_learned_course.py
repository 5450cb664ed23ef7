"""The course of a training: it keeps the best, stops, and survives being killed; on a small trainee of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as Picture
from torch import nn

from equipoise.core import rng_for
from equipoise.engines.parts.learned.checkpoint import folder_for, kept_in, read_checkpoint
from equipoise.engines.parts.learned.course import CHECKPOINT, Course, Run, load_rendering
from equipoise.engines.parts.learned.examples import Conditions, Examples
from equipoise.engines.parts.learned.held_out import Judge
from equipoise.engines.parts.learned.intensity import Intensity
from equipoise.errors import EngineError
from equipoise.features.encoder import train_encoder
from equipoise.testing.engine_contract import phantom_cases


class Painter:
    """Paints each plane in a grey of its own, with grain; what it learns is the greys."""

    renders = ("painter",)

    def __init__(self, fail_at=None, flat=False, drift=0.0):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            net = nn.Conv2d(2, 1, 3, 1, 1)
        self.networks = {"painter": net}
        self.optimisers = {"painter": torch.optim.AdamW(net.parameters(), 2e-2)}
        self.fail_at, self.flat, self.drift = fail_at, flat, drift

    def step(self, batch, generator, step):
        net = self.networks["painter"]
        planes, images = (torch.from_numpy(np.ascontiguousarray(x[..., 0])) for x in (batch.planes, batch.images))
        noise = 0.1 * torch.randn(images.shape, generator=generator)
        loss = (net(planes) + noise - images).square().mean()
        self.optimisers["painter"].zero_grad()
        loss.backward()
        self.optimisers["painter"].step()
        with torch.no_grad():
            net.bias += self.drift
        return {"grey": float("nan") if step == self.fail_at else loss.item()}

    def render(self, planes, rng):
        with torch.no_grad():
            made = self.networks["painter"](torch.from_numpy(np.ascontiguousarray(planes[..., 0]))).numpy()
        if self.flat:
            return np.zeros_like(made)[..., None]
        return (made + 0.05 * rng.standard_normal(made.shape)).astype(np.float32)[..., None]

    def rest(self):
        self.optimisers = {}


def run_of(painter, folder=None, steps=40, looks=8, patience=8, fingerprint="a" * 64):
    """Return a training of the painter on phantom cases."""
    torch.set_num_threads(1)
    cases = phantom_cases(4)
    examples = Examples.of(cases, Intensity.of(cases), Conditions(cases[0].labels.scheme), (24, 24, 1))
    judge = Judge.of(train_encoder(cases, rng_for(0), 24, steps=2, batch=8), examples, [3], [0, 1, 2], rng_for(1))
    course = Course(steps, 4, looks, patience, decay=0.9)
    return Run("painter", painter, examples, course, judge, [0, 1, 2], 5, folder, fingerprint)


def test_a_training_comes_nearer_to_held_out_images():
    run = run_of(Painter())
    weights = run.finish()
    distances = [look.distance for look in run.record.looks]
    assert min(distances) < 0.7 * distances[0]
    assert run.record.losses[-1]["grey"] < run.record.losses[0]["grey"]
    assert run.record.best_step == run.record.looks[int(np.argmin(distances))].step
    assert run.record.stopped == "all steps were taken"
    painter = Painter()
    load_rendering(painter, weights)
    assert run.judge.look(0, painter.render, rng_for(5, "look"))[0].distance == pytest.approx(min(distances), rel=1e-6)


def test_good_pictures_of_something_else_are_far_away():
    judge = run_of(Painter()).judge
    images = judge.batch.images

    def seen_of(order):
        shown = iter(images[order])  # a look asks for some at a time
        return judge.look(1, lambda planes, rng: np.stack([next(shown) for _ in planes]), rng_for(0))[0]

    own, others = seen_of(np.arange(len(images))), seen_of(rng_for(1).permutation(len(images)))
    assert own.distance < 0.01
    assert others.distance > own.distance + 0.1  # the very same pictures, each under the labels of another
    assert others.diversity > 0.8


def test_one_held_out_patient_is_not_the_measure_of_how_much_patients_differ():
    """Images of other patients' brightness are plausible: a held-out patient alone spreads next to nothing."""
    cases = phantom_cases(6)
    examples = Examples.of(cases, Intensity.of(cases), Conditions(cases[0].labels.scheme), (24, 24, 1))
    for number, image in enumerate(examples.images):
        image += 0.1 * number - 0.25
    encoder = train_encoder(cases, rng_for(0), 24, steps=2, batch=8)
    others = [0, 1, 3, 4, 5]
    distances = []
    for among in (others, [2]):
        judge = Judge.of(encoder, examples, [2], among, rng_for(1))
        made = iter(judge.batch.images + 0.1)
        distances.append(
            judge.look(1, lambda planes, _, made=made: np.stack([next(made) for _ in planes]), rng_for(2))[0].distance
        )
    assert distances[0] < 0.2 * distances[1]


def test_a_training_that_gets_worse_stops_and_keeps_the_best():
    run = run_of(Painter(drift=0.03), steps=200, looks=20, patience=3)
    run.finish()
    assert "no better held-out images in 3 looks" in run.record.stopped
    assert run.record.looks[-1].step < 200
    assert run.record.best_step == run.record.looks[-4].step


def test_a_loss_that_is_no_number_ends_with_the_last_good_checkpoint_kept(tmp_path):
    run = run_of(Painter(fail_at=23), tmp_path)
    with pytest.raises(EngineError, match=r"'grey' is nan at step 23 of 40") as caught:
        run.finish()
    assert str(tmp_path) in str(caught.value)
    tensors, about = read_checkpoint(tmp_path / CHECKPOINT)
    assert about["step"] == 20
    assert all(torch.isfinite(t).all() for t in tensors.values())


def test_a_collapsed_generator_is_an_error():
    with pytest.raises(EngineError, match=r"have collapsed: at step 10 they vary by 0\.000"):
        run_of(Painter(flat=True)).finish()


def test_grids_show_real_mask_and_made(tmp_path):
    run_of(Painter(), tmp_path, steps=4, looks=2).finish()
    pictures = sorted(tmp_path.glob("step-*.png"))
    assert [p.name for p in pictures] == ["step-000002.png", "step-000004.png"]
    shown = np.asarray(Picture.open(pictures[-1]))
    real, mask, made = np.split(shown, 3)
    assert np.ptp(mask.reshape(-1, 3), axis=0).min() > 100  # colours
    assert (real[..., 0] == real[..., 1]).all()  # grey
    assert not np.array_equal(real, made)


def test_a_killed_training_resumes_to_the_same_bytes(tmp_path):
    """Killed with SIGKILL in a process of its own; the resumed one ends where an undisturbed one does."""
    whole = run_of(Painter(), tmp_path / "whole").finish()
    program = (
        f"import sys; sys.path[:0] = {[str(Path(__file__).parent)]!r}\n"
        "from pathlib import Path\nimport os, signal, test_learned_course as t\n"
        "class Doomed(t.Painter):\n"
        "    def step(self, batch, generator, step):\n"
        "        if step == 23: os.kill(os.getpid(), signal.SIGKILL)\n"
        "        return super().step(batch, generator, step)\n"
        f"t.run_of(Doomed(), Path({str(tmp_path / 'killed')!r})).finish()\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False)
    assert ended.returncode == -signal.SIGKILL
    assert read_checkpoint(tmp_path / "killed" / CHECKPOINT)[1]["step"] == 20
    run = run_of(Painter(), tmp_path / "killed")
    resumed = run.finish()
    assert len(run.record.looks) == 8
    for name, value in whole.items():
        assert torch.equal(value, resumed[name]), name
    written = [read_checkpoint(tmp_path / name / CHECKPOINT)[0] for name in ("whole", "killed")]
    assert all(torch.equal(written[0][k], written[1][k]) for k in written[0])


def test_a_finished_training_is_not_trained_again(tmp_path):
    first = run_of(Painter(), tmp_path).finish()
    again = run_of(Painter(fail_at=1), tmp_path).finish()  # it would fail if it took a step
    assert all(torch.equal(first[k], again[k]) for k in first)


def test_a_checkpoint_of_another_training_is_not_continued(tmp_path):
    run_of(Painter(), tmp_path).finish()
    with pytest.raises(EngineError, match="other parameters or other data"):
        run_of(Painter(), tmp_path, fingerprint="b" * 64).finish()


def test_nothing_is_kept_unless_somebody_asks(tmp_path):
    assert folder_for("c" * 64) is None
    with kept_in(tmp_path):
        assert folder_for("c" * 64) == tmp_path / ("c" * 16)
    assert folder_for("c" * 64) is None

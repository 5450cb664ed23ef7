"""What a fit will cost, said beforehand, and what gives way where there is too little memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from equipoise.core import rng_for
from equipoise.engines.imaging.diffusion import Diffusion
from equipoise.engines.imaging.diffusion.denoiser import Denoiser
from equipoise.engines.imaging.diffusion.engine import PRESETS as DIFFUSION
from equipoise.engines.imaging.gan import Gan
from equipoise.engines.imaging.gan.adversaries import Adversaries
from equipoise.engines.imaging.gan.engine import PRESETS as GAN
from equipoise.engines.parts.learned import room
from equipoise.engines.parts.learned.cost import Cost
from equipoise.engines.parts.learned.fitting import prepare
from equipoise.engines.parts.learned.keeping import kept_in
from equipoise.engines.parts.learned.memory import Counted, free_memory
from equipoise.engines.parts.learned.presets import Size
from equipoise.engines.parts.learned.room import GIB, to_fit
from equipoise.errors import EngineError, PlanError
from equipoise.testing.engine_contract import phantom_cases

SMALL = {"patch": 16, "channels": (16, 24), "fold": 2, "steps": 2, "batch": 4, "sublabels": 2}
KINDS = {"gan": (Gan, Adversaries.of, GAN), "diffusion": (Diffusion, Denoiser.of, DIFFUSION)}


# --- one step in pieces


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("at_once", [1, 3])
def test_a_step_in_pieces_is_the_whole_step(kind, at_once):
    """Up to the rounding of float32; for `gan` with its gradient penalty, for which every 16th step is taken."""
    cls, build, presets = KINDS[kind]
    more = {"bf16": False} if kind == "diffusion" else {"gradient_penalty": 5.0}
    engine = cls(**SMALL, **more)
    ready = prepare(engine, phantom_cases(3), rng_for(0), presets)
    batch = ready.examples.draw(4, rng_for(1))
    weights = []
    for together in (0, at_once):
        setup = replace(ready.setup, size=replace(ready.setup.size, at_once=together))
        trainee = build(engine, setup, ready.weights())
        before = {n: p.detach().clone() for n, p in _named(trainee)}
        losses = trainee.step(batch, torch.Generator().manual_seed(3), 16)
        grads = {n: p.grad.clone() for n, p in _named(trainee) if p.grad is not None}
        weights.append((grads, losses))
        assert any(not torch.equal(before[n], p) for n, p in _named(trainee))
    (whole, one), (pieces, other) = weights
    assert whole.keys() == pieces.keys()
    largest = max(gradient.abs().max() for gradient in whole.values())
    for name, gradient in whole.items():  # a bias before a normalisation has a gradient of nothing but rounding
        off = (gradient - pieces[name]).abs().max()
        assert off <= 1e-4 * gradient.abs().max() + 1e-6 * largest, (name, off)
    assert one == pytest.approx(other, rel=1e-4)


def _named(trainee):
    return [(f"{n}/{k}", p) for n, network in trainee.networks.items() for k, p in network.named_parameters()]


# --- what gives way

BASE = Size(64, (16, 24), 2, 100, 8, 1e-3, "cpu", False)
OPEN = Diffusion()


def _fit(gib, engine=OPEN, size=BASE):
    """Return what a made-up training of 1 GiB of weights and 1 GiB per patch of 64² does with some memory."""

    def counts(tried):
        return Counted(1 * GIB, 0.0, GIB / 64**2 / 1.35 * (0.5 if tried.bf16 else 1.0))

    return to_fit(engine, size, lambda side: (side, side, 1), 4, size.batch, counts, lambda patch: 0.0, gib * GIB)


@pytest.mark.parametrize(
    ("gib", "choices"),
    [
        (9.1, ()),
        (8.9, ("bf16 = true",)),
        (5.1, ("bf16 = true",)),
        (4.9, ("bf16 = true", "at_once = 4")),
        (2.1, ("bf16 = true", "at_once = 2")),
        (1.6, ("bf16 = true", "at_once = 1")),
        (1.4, ("bf16 = true", "at_once = 1", "patch = 48")),
        (1.2, ("bf16 = true", "at_once = 1", "patch = 32")),
        (1.1, ("bf16 = true", "at_once = 1", "patch = 16")),
    ],
)
def test_precision_then_pieces_then_patch_give_way(gib, choices):
    size, said = _fit(gib)
    assert said == choices
    assert size.batch == BASE.batch  # the step stays the same sum
    assert [f"{n} = {str(getattr(size, n)).lower()}" for n in (c.split(" = ")[0] for c in choices)] == list(choices)


def test_what_the_plan_states_never_gives_way():
    assert _fit(4.9, replace(OPEN, bf16=False))[1] == ("at_once = 2",)
    assert _fit(1.4, replace(OPEN, at_once=1), replace(BASE, at_once=1))[1] == ("bf16 = true", "patch = 48")
    with pytest.raises(EngineError, match=r"smaller channels or a smaller patch"):
        _fit(1.4, replace(OPEN, patch=64))


def test_too_little_memory_for_anything_is_one_clear_error():
    with pytest.raises(EngineError, match=r"needs 9 GiB .* 1 GiB at the least, and may take 0\.9 GiB"):
        _fit(0.9)


@pytest.mark.parametrize(("kind", "memory"), [("gan", 0.215), ("diffusion", 0.175)])
def test_the_same_stated_memory_makes_the_same_choices_and_every_case_says_them(kind, memory):
    cls = KINDS[kind][0]
    engine = cls(**{**SMALL, "patch": None, "batch": 8, "steps": 1}, memory=memory)
    fits = [engine.fit(phantom_cases(3), rng_for(0)) for _ in range(2)]
    choices = [fit._learned.record.choices for fit in fits]
    assert choices[0] == choices[1]
    assert choices[0][0].startswith("at_once = ")
    (case,) = fits[0].sample(1, rng_for(1))
    assert case.attributes["changed for memory"] == "; ".join(choices[0])
    roomy = replace(engine, memory=8.0).fit(phantom_cases(3), rng_for(0))
    assert roomy._learned.record.choices == []
    assert "changed for memory" not in next(roomy.sample(1, rng_for(1))).attributes


def test_free_memory_decides_where_none_is_stated_and_a_begun_fit_goes_on_as_it_began(tmp_path, monkeypatch):
    engine = Gan(**{**SMALL, "patch": None, "batch": 8, "steps": 1})
    monkeypatch.setattr(room, "free_memory", lambda device: 0.215 / 0.8 * GIB)
    with kept_in(tmp_path):
        tight = engine.fit(phantom_cases(3), rng_for(0))
    assert tight._learned.record.choices
    monkeypatch.setattr(room, "free_memory", lambda device: 100.0 * GIB)
    with kept_in(tmp_path):
        again = engine.fit(phantom_cases(3), rng_for(0))
    assert again._learned.setup.size == tight._learned.setup.size
    assert again._learned.record.choices == tight._learned.record.choices


def test_no_memory_leaves_the_folder_as_it_was(tmp_path):
    with kept_in(tmp_path), pytest.raises(EngineError, match="GiB at the least"):
        Gan(**SMALL, memory=0.01).fit(phantom_cases(3), rng_for(0))
    assert [p for p in tmp_path.rglob("*") if p.is_file() and p.suffix != ".lock"] == []


def test_free_memory_is_what_the_machine_says():
    assert 1e7 < free_memory("cpu") < 1e14


@pytest.mark.parametrize("memory", [0.0, -1.0, float("nan")])
def test_impossible_memory_is_refused(memory):
    with pytest.raises(PlanError, match=r"memory"):
        Diffusion(memory=memory)


# --- the cost


def test_costs_of_stages_share_memory_and_add_time():
    assert Cost(1.0, 5.0, 2.0, ("a",)) + Cost(2.0, 3.0, 1.0, ("a", "b")) == Cost(3.0, 5.0, 3.0, ("a", "b"))


def test_a_probe_keeps_nothing_and_scales_with_steps(tmp_path):
    cases, costs = phantom_cases(3), []
    with kept_in(tmp_path):
        for steps in (20, 2000):
            costs.append(Gan(**{**SMALL, "steps": steps}).cost(cases, rng_for(0)))
    assert list(tmp_path.iterdir()) == []
    assert 10 < costs[1].seconds / costs[0].seconds < 200
    assert costs[0].memory_bytes == costs[1].memory_bytes > 0


PROGRAM = """
import json, sys, tempfile, time
from pathlib import Path
import torch
torch.set_num_threads(1)
torch.nn.functional.conv2d(torch.zeros(1, 1, 8, 8), torch.zeros(1, 1, 3, 3))
import equipoise.engines.parts.learned.fitting, equipoise.engines.anatomy.warped
from equipoise.core import rng_for
from equipoise.engines.imaging.diffusion.denoiser import Denoiser
from equipoise.engines.imaging.gan.adversaries import Adversaries
from equipoise.engines.imaging.diffusion import Diffusion
from equipoise.engines.imaging.gan import Gan
from equipoise.engines.parts.learned.keeping import kept_in
from equipoise.testing.engine_contract import phantom_cases
from equipoise.engines.parts.learned import fitting
whole = fitting.Course  # without patience: all steps are to be counted
fitting.Course = lambda steps, batch: whole(steps, batch, patience=10**6)
time.perf_counter = time.process_time  # the machine of a test is shared: count its own seconds
def status(name):
    return next(int(x.split()[1]) * 1024 for x in open("/proc/self/status") if x.startswith(name))
kind, dimension, options, what = sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3]), sys.argv[4]
cases = phantom_cases(4, dimension=dimension)
engine = {"gan": Gan, "diffusion": Diffusion}[kind](**options)
before, begun = status("VmRSS"), time.process_time()
if what == "cost":
    cost = engine.cost(cases, rng_for(0))
    print(json.dumps([cost.seconds, cost.memory_bytes, cost.disk_bytes]))
else:
    with tempfile.TemporaryDirectory() as folder, kept_in(Path(folder)):
        engine.fit(cases, rng_for(0))
        names = [p for p in Path(folder).rglob("*") if p.is_file() and p.name != "encoder.safetensors"]
        disk = sum(p.stat().st_size for p in names)
    print(json.dumps([time.process_time() - begun, status("VmHWM") - before, disk]))
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the peak of memory from /proc")
@pytest.mark.parametrize(
    ("kind", "dimension", "options"),
    [
        ("gan", 2, {"steps": 40}),
        ("diffusion", 2, {"steps": 30, "sampling_steps": 2}),
        ("diffusion", 3, {"steps": 4, "sampling_steps": 2, "channels": [16, 24]}),
    ],
)
def test_a_probe_foretells_a_whole_fit(kind, dimension, options):
    """Within 30 % for memory and disk, and 50 % for CPU seconds: these share caches with whatever else computes."""
    told, found = (
        json.loads(
            subprocess.run(
                [sys.executable, "-W", "ignore", "-c", PROGRAM, kind, str(dimension), json.dumps(options), what],
                env={**os.environ, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"},
                capture_output=True,
                text=True,
                check=True,
            ).stdout
        )
        for what in ("cost", "fit")
    )
    ratio = np.array(told) / np.array(found)
    assert 0.5 < ratio[0] < 1.5, ratio
    assert (ratio[1:] > 0.7).all(), ratio
    assert (ratio[1:] < 1.3).all(), ratio

"""Differential privacy: the accounting, the bound on one patient, the noise, and what does not reach a file."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from equipoise.core import ClassLabel, Image, rng_for
from equipoise.engines.imaging.diffusion import Diffusion
from equipoise.engines.imaging.gan import Gan
from equipoise.engines.parts.learned.checkpoint import read_checkpoint
from equipoise.engines.parts.learned.examples import Conditions, Examples
from equipoise.engines.parts.learned.fitting import prepare
from equipoise.engines.parts.learned.intensity import Intensity
from equipoise.engines.parts.learned.keeping import kept_in
from equipoise.engines.parts.learned.privacy import Privacy, Spending, require_public_range
from equipoise.engines.parts.learned.private import Private, add_noise, clipped_sum
from equipoise.errors import DataError, MissingDependencyError, PlanError
from equipoise.testing.engine_contract import phantom_cases

SMALL = {"patch": 16, "channels": (16, 24), "fold": 2, "steps": 3, "batch": 2, "sampling_steps": 2}
BUDGET = {"epsilon": 8.0, "delta": 1e-3, "range": [-1000, 400], "masks": "unprotected", "patches": 2}


def private(**more):
    return Diffusion(**{**SMALL, "privacy": {**BUDGET, **more}})


# --- the accounting


def test_the_budget_is_what_opacus_says_of_noise_rate_and_steps():
    opacus = pytest.importorskip("opacus.accountants")
    spending = Privacy(8.0, 1e-5).spending("diffusion", patients=400, batch=20, steps=500)
    theirs = opacus.RDPAccountant()
    for _ in range(500):
        theirs.step(noise_multiplier=spending.noise, sample_rate=20 / 400)
    assert spending.rate == 20 / 400
    assert spending.epsilon(500) == pytest.approx(theirs.get_epsilon(1e-5), rel=1e-9)
    assert 7.9 < spending.epsilon(500) <= 8.0


def test_more_steps_spend_more_and_smaller_budgets_take_more_noise():
    pytest.importorskip("opacus")
    spending = Privacy(8.0, 1e-5).spending("diffusion", 400, 20, 500)
    assert spending.epsilon(50) < spending.epsilon(500) < spending.epsilon(1000)
    noises = [Privacy(e, 1e-5).spending("diffusion", 400, 20, 500).noise for e in (16.0, 8.0, 2.0)]
    assert noises[0] < noises[1] < noises[2]
    assert Privacy(8.0, 1e-5).spending("diffusion", 400, 40, 500).noise > noises[1]
    assert Privacy(8.0, 1e-6).spending("diffusion", 400, 20, 500).noise > noises[1]


def test_a_delta_that_lets_a_patient_be_given_away_is_refused():
    with pytest.raises(PlanError, match=r"no protection for 50 patients; it must be below 0\.02"):
        Privacy(8.0, 0.05).spending("diffusion", 50, 5, 10)


def test_without_opacus_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "opacus.accountants.utils", None)
    with pytest.raises(MissingDependencyError, match=r"equipoise\[dp\]"):
        Privacy(8.0, 1e-5).spending("diffusion", 400, 20, 500)


# --- the bound on one patient


class Grey:
    """One network whose weights are drawn towards the images' means; its gradient is a mean over patches."""

    def __init__(self, scale=1.0):
        self.network = nn.Linear(1, 1, bias=False)
        nn.init.zeros_(self.network.weight)
        self.networks = {"grey": self.network}
        self.optimisers = {"grey": torch.optim.SGD(self.network.parameters(), 1.0)}
        self.scale = scale

    def gradient(self, batch, generator):
        level = float(batch.images.mean())
        (self.scale * level * self.network.weight.sum()).backward()
        return level


def _calls(weights, gradients):
    def call(values):
        def add():
            for weight, value in zip(weights, values, strict=True):
                weight.grad = value.clone()

        return add

    return [call(values) for values in gradients]


def test_one_patient_moves_the_sum_by_clip_at_most():
    torch.manual_seed(0)
    weights = [nn.Parameter(torch.zeros(7, 5)), nn.Parameter(torch.zeros(3))]
    patients = [[100 * torch.randn(7, 5), 100 * torch.randn(3)] for _ in range(6)]
    without = clipped_sum(weights, _calls(weights, patients[:5]), 0.7)
    everybody = clipped_sum(weights, _calls(weights, patients), 0.7)
    moved = torch.sqrt(sum((a - b).square().sum() for a, b in zip(everybody, without, strict=True)))
    assert moved.item() == pytest.approx(0.7, rel=1e-4)
    small = [[1e-3 * g for g in patients[5]]]
    length = torch.sqrt(sum(g.square().sum() for g in small[0]))
    total = clipped_sum(weights, _calls(weights, small), 0.7)
    assert length < 0.7
    torch.testing.assert_close(total[0], small[0][0])  # what is short stays as it is


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_gradient_that_is_no_number_counts_as_none(bad):
    weights = [nn.Parameter(torch.zeros(2))]
    (total,) = clipped_sum(weights, _calls(weights, [[torch.tensor([bad, 0.0])], [torch.tensor([0.1, 0.2])]]), 1.0)
    torch.testing.assert_close(total, torch.tensor([0.1, 0.2]))


def _step_of(cases, scale, noise=0.0, clip=0.5):
    """Return the change of the weight by a step on all patients, without noise unless asked for."""
    examples = Examples.of(cases, Intensity.of(cases), Conditions(cases[0].labels.scheme), (16, 16, 1))
    people = len({c.patient for c in cases})
    spending = Spending(Privacy(8.0, 1e-3, clip), noise, 1.0, 1, people)
    trainee = Grey(scale)
    Private(spending, np.random.default_rng(0)).step(trainee, examples, range(len(cases)), 0.0)
    return people * trainee.network.weight.item()


def test_ten_images_of_one_patient_count_as_one_patient():
    """All gradients are longer than clip: each patient adds clip to the sum, however many images there are."""
    cases = phantom_cases(3)
    more = [*cases, *(replace(cases[0], id=f"again-{i}") for i in range(9))]
    one, ten = (abs(_step_of(some, scale=1e4)) for some in (cases, more))
    assert one == pytest.approx(ten, rel=1e-6)
    assert one <= 3 * 0.5 + 1e-6
    strangers = [*cases, *(replace(cases[0], id=f"s-{i}", patient=f"s-{i}") for i in range(9))]
    assert abs(_step_of(strangers, scale=1e4)) == pytest.approx(12 * 0.5, rel=1e-6)


def test_patients_are_drawn_by_independent_lots():
    cases = phantom_cases(3)
    examples = Examples.of(cases, Intensity.of(cases), Conditions(cases[0].labels.scheme), (16, 16, 1))
    private = Private(Spending(Privacy(8.0, 1e-3), 0.0, 0.3, 400, 3), np.random.default_rng(1))
    seen = []

    class Counting(Grey):
        def gradient(self, batch, generator):
            seen[-1].append(int(batch.sources[0]))
            assert len(set(batch.sources)) == 1  # one patient at a time
            return super().gradient(batch, generator)

    trainee = Counting()
    for _ in range(400):
        seen.append([])
        private.step(trainee, examples, [0, 1, 2], 0.0)
    shares = [np.mean([k in s for s in seen]) for k in range(3)]
    assert np.abs(np.array(shares) - 0.3).max() < 0.08  # 3.5 standard errors
    assert {len(s) for s in seen} == {0, 1, 2, 3}


def test_noise_has_the_stated_standard_deviation():
    total = [torch.zeros(200, 100), torch.zeros(5000)]
    add_noise(total, 2.4, torch.Generator().manual_seed(0))
    values = torch.cat([t.flatten() for t in total])
    assert values.std().item() == pytest.approx(2.4, rel=0.02)
    assert abs(values.mean().item()) < 4 * 2.4 / 158
    torch.testing.assert_close(torch.sign(values).mean(), torch.tensor(0.0), atol=0.03, rtol=0)


def test_a_step_carries_noise_of_multiplier_times_clip():
    cases = phantom_cases(3)
    examples = Examples.of(cases, Intensity.of(cases), Conditions(cases[0].labels.scheme), (16, 16, 1))
    private = Private(Spending(Privacy(8.0, 1e-3, 0.5), 3.0, 1.0, 1, 3), np.random.default_rng(2))
    moves = []
    for _ in range(300):
        trainee = Grey(0.0)
        private.step(trainee, examples, [0, 1, 2], 0.0)
        moves.append(3 * trainee.network.weight.item())
    assert np.std(moves) == pytest.approx(3.0 * 0.5, rel=0.15)


# --- the engine


def test_a_private_fit_says_what_it_spent_and_is_never_repeated(tmp_path):
    pytest.importorskip("opacus")
    cases = phantom_cases(4)
    with kept_in(tmp_path):
        engine = private().fit(cases, rng_for(0))
    (case,) = engine.sample(1, rng_for(1))
    said = case.attributes
    assert 7.9 < said["privacy epsilon"] <= 8.0
    assert said["privacy delta"] == 1e-3
    assert said["privacy sample rate"] == 0.5
    assert said["privacy noise multiplier"] > 0.3
    assert said["privacy accountant"].startswith("rdp, Opacus")
    assert said["privacy of label maps"] == "not protected"
    (given,) = engine.sample(1, rng_for(1), [cases[0].labels])
    assert given.attributes["privacy of label maps"] == "given from outside"
    other = private().fit(cases, rng_for(0))
    (again,) = other.sample(1, rng_for(1))
    assert not np.array_equal(case.image.array, again.image.array)  # a seed would let anybody subtract the noise


def test_nothing_private_but_weights_is_kept(tmp_path):
    """No grid, loss, look, best step, encoder or hash of pixels; other pixels leave the same fingerprint."""
    pytest.importorskip("opacus")
    cases = phantom_cases(4)
    with kept_in(tmp_path):
        engine = private().fit(cases, rng_for(0))
    names = sorted(p.name for p in tmp_path.rglob("*") if p.is_file() and p.suffix != ".lock")
    assert names == ["begun.json", "checkpoint.safetensors"]
    tensors, about = read_checkpoint(next(tmp_path.rglob("checkpoint.safetensors")))
    assert (about["record"]["looks"], about["record"]["losses"], about["record"]["best_step"]) == ([], [], 0)
    assert {name.split("/")[0] for name in tensors} == {"average", "network", "optimiser"}
    other = [replace(c, image=Image(c.image.array[:, ::-1].copy(), c.image.affine, unit=c.image.unit)) for c in cases]
    from equipoise.engines.imaging.diffusion.engine import PRESETS

    one, two = (prepare(private(), some, rng_for(0), PRESETS) for some in (cases, other))
    assert one.mark == two.mark
    for name, value in one.setup.encoder.net.state_dict().items():  # weights that no image has changed
        assert torch.equal(value, two.setup.encoder.net.state_dict()[name])
    assert one.setup.prior is None
    assert one.judge is None
    learned = engine._learned
    assert learned.conditions.tissue is None
    assert learned.intensity.low.tolist() == [[-1000.0]]


def test_all_steps_are_taken_and_the_last_average_is_kept(tmp_path):
    pytest.importorskip("opacus")
    with kept_in(tmp_path):
        engine = private().fit(phantom_cases(4), rng_for(0))
    tensors, about = read_checkpoint(next(tmp_path.rglob("checkpoint.safetensors")))
    assert about["step"] == 3
    weights = engine._learned.trainee.network.state_dict()
    assert all(torch.equal(tensors[f"average/denoiser/{k}"], v) for k, v in weights.items())


def test_the_network_normalises_no_patient_by_another():
    pytest.importorskip("opacus")
    from opacus.validators import ModuleValidator

    engine = private().fit(phantom_cases(3), rng_for(0))
    assert ModuleValidator.validate(engine._learned.trainee.network, strict=False) == []


def test_masks_of_patients_need_a_word_and_drawn_ones_do_not():
    pytest.importorskip("opacus")
    budget = {k: v for k, v in BUDGET.items() if k != "masks"}
    with pytest.raises(PlanError, match=r"'warped' draws label maps that it learned from 3 patients"):
        Diffusion(**SMALL, privacy=budget).fit(phantom_cases(3), rng_for(0))


def test_classes_are_made_equally_often_on_a_plain_grid():
    pytest.importorskip("opacus")
    names = ("a", "b")
    cases = [replace(c, truth=ClassLabel(names[i == 0], names)) for i, c in enumerate(phantom_cases(4))]
    engine = private().fit(cases, rng_for(0))
    drawn = engine._learned.classes
    assert drawn.shares == (0.5, 0.5)
    assert [g.shape for g in drawn.grids] == [(16, 16, 1)]
    assert (drawn.grids[0].affine[:3, 3] == 0).all()
    assert next(engine.sample(1, rng_for(1))).image.array.shape == (1, 16, 16, 1)


def test_the_range_of_intensities_is_stated_or_public():
    assert require_public_range("diffusion", Privacy(8, 1e-3), True) == (0.0, 255.0)
    assert require_public_range("diffusion", Privacy(8, 1e-3, range=(-5.0, 5.0)), True) == (-5.0, 5.0)
    with pytest.raises(DataError, match="needs the range of intensities"):
        require_public_range("diffusion", Privacy(8, 1e-3), False)


@pytest.mark.parametrize(
    ("stated", "words"),
    [
        ({}, "needs epsilon and delta"),
        ({"epsilon": 8}, "needs epsilon and delta"),
        ({"epsilon": 0.0, "delta": 1e-5}, "epsilon"),
        ({"epsilon": 8, "delta": 1.0}, "delta"),
        ({"epsilon": 8, "delta": 1e-5, "clip": 0.0}, "clip"),
        ({"epsilon": 8, "delta": 1e-5, "patches": 0}, "patches"),
        ({"epsilon": 8, "delta": 1e-5, "range": [5, 5]}, "empty"),
        ({"epsilon": 8, "delta": 1e-5, "range": [5]}, "range"),
        ({"epsilon": 8, "delta": 1e-5, "masks": "shown"}, "masks"),
        ({"epsilon": 8, "delta": 1e-5, "epsylon": 1}, "no key 'epsylon'.*epsilon"),
    ],
    ids=lambda x: json.dumps(x) if isinstance(x, dict) else "",
)
def test_budgets_that_cannot_be_are_refused_at_once(stated, words):
    with pytest.raises(PlanError, match=words):
        Diffusion(privacy=stated)


def test_an_engine_that_cannot_says_so_before_training():
    with pytest.raises(PlanError, match=r"gan cannot be trained with differential privacy[\s\S]*diffusion"):
        Gan(privacy={"epsilon": 8, "delta": 1e-5})

"""Kind ``flow``: the contract, straight ways, the latent space, what it learns, and every option's effect."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from equipoise.core import Case, Geometry, Image, LabelMap, LabelScheme, rng_for
from equipoise.engines.imaging.flow import Flow
from equipoise.engines.imaging.flow.architecture import autoencoder_for, from_generator
from equipoise.engines.imaging.flow.rectified import Known, between, draw_times, follow
from equipoise.engines.parts.learned.fitting import one_thread
from equipoise.engines.parts.learned.folding import unfold
from equipoise.engines.parts.learned.given import Given
from equipoise.engines.parts.learned.keeping import kept_in
from equipoise.engines.parts.learned.latent import Latents, label_shares
from equipoise.engines.parts.learned.perceptual import perceptual_distance
from equipoise.errors import DataError, EngineError, LabelError, PlanError, UnknownKindError
from equipoise.features.encoder import train_encoder
from equipoise.testing import EngineContract
from equipoise.testing.engine_contract import phantom_cases

SMALL = {
    "patch": 16,
    "channels": (16, 24),
    "steps": 2,
    "batch": 2,
    "sublabels": 2,
    "sampling_steps": 2,
    "autoencoder_channels": (8, 16),
    "autoencoder_fold": 2,
    "autoencoder_steps": 2,
}


@pytest.fixture(autouse=True)
def _one_thread():
    """Threads that wait for one another take most of the time where networks are this small."""
    with one_thread("cpu"):
        yield


class TestContract(EngineContract):
    def make(self):
        return Flow(**SMALL, anatomy={"kind": "warped", "patch": 24})

    @cache  # noqa: B019  # one fit for all tests: fits are the same, which a test of its own sees
    def fitted(self):
        return self.make().fit(self.cases(), rng_for(0, "fit"))

    def __eq__(self, other):
        return type(self) is type(other)

    def __hash__(self):
        return hash(type(self))

    def test_two_fits_of_one_stream_are_the_same(self):
        a, b = (self.make().fit(self.cases(), rng_for(0, "fit")) for _ in range(2))
        for x, y in zip(a.sample(2, rng_for(1)), b.sample(2, rng_for(1)), strict=True):
            np.testing.assert_array_equal(x.image.array, y.image.array)


def gaussian_velocity(mean, sd):
    """Return the exact velocity to normal data, in closed form: the conditional mean of image less noise."""

    def velocity(x, time):
        off = (x - (1 - time) * mean) / ((1 - time) ** 2 * sd**2 + time**2)
        return mean + ((1 - time) * sd**2 - time) * off

    return velocity


def test_the_exact_velocity_to_one_point_is_straight():
    noise = torch.randn((64, 2, 3, 3), generator=torch.Generator().manual_seed(0))
    made = follow(gaussian_velocity(1.7, 0.0), noise, 1)
    assert torch.allclose(made, torch.full_like(made, 1.7), atol=1e-6)


@pytest.mark.parametrize(("sampler", "order"), [("euler", 1), ("heun", 2)])
def test_sampling_of_normal_data_reaches_it_at_the_samplers_order(sampler, order):
    """The way of each noise e ends at mean + sd * e; twice the steps, the error falls by 2^order."""
    noise = torch.randn((500, 1, 2, 2), generator=torch.Generator().manual_seed(1)).double()
    errors = []
    for steps in (8, 16, 32):
        made = follow(gaussian_velocity(0.5, 0.7), noise, steps, sampler)
        errors.append(float((made - (0.5 + 0.7 * noise)).abs().mean()))
    assert errors[0] < 0.1
    assert np.log2(errors[1] / errors[2]) == pytest.approx(order, abs=0.25)


def test_ways_are_straight_and_their_velocity_is_their_slope():
    images, noise = torch.randn((2, 5, 3, 4, 4), generator=torch.Generator().manual_seed(2))
    near, velocity = between(images, noise, torch.full((5,), 0.25))
    far, _ = between(images, noise, torch.full((5,), 0.75))
    assert torch.allclose((near - far) / 0.5, velocity, atol=1e-5)
    assert torch.allclose(between(images, noise, torch.zeros(5))[0], images)
    assert torch.allclose(between(images, noise, torch.ones(5))[0], noise)


def test_logit_normal_times_lie_in_the_middle():
    middle = [
        ((times > 0.25) & (times < 0.75)).float().mean().item()
        for times in (draw_times(20_000, torch.Generator().manual_seed(0), how) for how in ("uniform", "logit-normal"))
    ]
    assert middle[0] == pytest.approx(0.5, abs=0.02)
    assert middle[1] == pytest.approx(0.728, abs=0.02)  # P(|z| < ln 3) of a standard normal z


def test_going_back_keeps_the_spread_of_the_way():
    generator = torch.Generator().manual_seed(3)
    images, noise = 0.8 * torch.randn((20_000, 1), generator=generator), torch.randn((20_000, 1), generator=generator)
    then, now = torch.tensor(0.3), torch.tensor(0.6)
    known = Known(images, torch.zeros_like(images), 2, generator)
    back, _ = known.back(between(images, noise, then.expand(20_000))[0], then, now)
    assert back.std().item() == pytest.approx(float(np.sqrt(0.4**2 * 0.8**2 + 0.6**2)), rel=0.02)


def test_latents_are_standardised_by_their_own_spread():
    latents = Latents(_net(), 3, 2, 4)
    images = torch.rand((40, 1, 32, 32), generator=torch.Generator().manual_seed(5)) * 2 - 1
    with torch.no_grad():
        mean, sd = latents.moments(images)
        drawn = mean + sd * torch.randn(sd.shape, generator=torch.Generator().manual_seed(6))
        latents.standardise(lambda: iter(images.split(8)), torch.Generator().manual_seed(6))
        scaled = latents.encode(images, torch.randn(sd.shape, generator=torch.Generator().manual_seed(7)))
    assert torch.allclose(latents.scale, 1 / drawn.std((0, 2, 3)), rtol=1e-5)
    assert scaled.std((0, 2, 3)).numpy() == pytest.approx(1, abs=0.05)
    assert scaled.mean((0, 2, 3)).numpy() == pytest.approx(0, abs=0.05)
    back = latents.decode(latents.encode(images))
    assert torch.allclose(back, latents.restore(mean), atol=1e-4)


def test_an_autoencoder_that_says_nothing_is_an_error():
    net = _net()
    with torch.no_grad():
        net.quant_conv_mu.conv.weight.zero_()
    with torch.no_grad(), pytest.raises(EngineError, match="say nothing about the images"):
        images = torch.rand((8, 1, 32, 32))
        Latents(net, 3, 2, 4).standardise(lambda: iter([images]), torch.Generator().manual_seed(0))


def test_whole_images_are_written_and_read_in_tiles():
    """Far from the tiles' borders, tiles of a stationary picture decode to what the whole decodes to."""
    latents = Latents(_net(), 3, 2, 4).eval()
    images = 0.3 * torch.randn((1, 1, 64, 96), generator=torch.Generator().manual_seed(8))
    with torch.no_grad():
        tiled = latents.encode_whole(images, (8, 8), 4)
        whole = latents.encode(images)
        assert tiled.shape == whole.shape == latents.grid(images) == (1, 3, 16, 24)
        # GroupNorm sees tiles instead of the whole: equal up to how much its statistics differ between them.
        assert torch.corrcoef(torch.stack([tiled.flatten(), whole.flatten()]))[0, 1] > 0.95
        assert latents.decode_whole(whole, (8, 8), 4).shape == images.shape


def _net():
    architecture = autoencoder_for(2, 1, 2, (8, 16), 3)
    return from_generator(architecture, torch.Generator().manual_seed(4))


def test_the_perceptual_distance_counts_missing_grain_for_more_than_pixels_do():
    """Of white grain, a blur is half as far in squared pixels as other grain is."""
    rng = rng_for(0, "grain")
    cases = [_grainy(rng, n) for n in range(6)]
    stages = train_encoder(cases, rng_for(1), 32, steps=60, batch=16).net
    real, other = (torch.from_numpy(_grain(rng_for(seed))[None]) for seed in (7, 8))
    blurred = torch.zeros_like(real)
    pixels = float((blurred - real).square().mean() / (other - real).square().mean())
    seen = float(perceptual_distance(stages, blurred, real) / perceptual_distance(stages, other, real))
    assert pixels == pytest.approx(0.5, abs=0.1)
    assert seen > 1.25 * pixels
    assert float(perceptual_distance(stages, real, real)) == pytest.approx(0, abs=1e-6)


def _grain(rng):
    return (0.4 * rng.standard_normal((1, 32, 32))).clip(-1, 1).astype(np.float32)


def _grainy(rng, n):
    pixels = ((_grain(rng)[..., None] + 1) * 127).astype(np.uint8)
    return Case(f"g{n}", f"p{n}", Image(pixels))


@cache
def _trained(**options):
    fitting = {"steps": 160, "batch": 8, "sampling_steps": 8, "autoencoder_steps": 80, "learning_rate": 3e-3}
    return Flow(**{**SMALL, **fitting, **options}).fit(phantom_cases(6), rng_for(0, "fit"))


def _images(engine, n=6, seed=3):
    maps = [case.labels for case in phantom_cases(6)]
    return [case.image.array[0, :, :, 0] for case in engine.sample(n, rng_for(seed), maps)]


def _contrast(images):
    """Return how much brighter the organ is than what surrounds it."""
    masks = [case.labels.mask("organ")[:, :, 0] for case in phantom_cases(6)]
    return float(np.mean([im[m].mean() - im[~m].mean() for im, m in zip(images, masks, strict=True)]))


def test_reconstruction_improves_and_the_velocity_is_learned():
    trainee, record = _trained()._learned.trainee, _trained()._learned.record
    errors = [look.distance for look in trainee.reconstructed.looks]
    assert min(errors) < 0.5 * errors[0]
    assert record.losses[-1]["velocity"] < 0.9 * record.losses[0]["velocity"]


def test_images_obey_their_labels():
    expected = _contrast([case.image.array[0, :, :, 0] for case in phantom_cases(6)])
    assert _contrast(_images(_trained())) == pytest.approx(expected, rel=0.4)


def test_guidance_exaggerates_the_labels_or_leaves_them_out():
    none, learned, more = (_contrast(_images(replace(_trained(), guidance=g))) for g in (0.0, 1.0, 2.0))
    assert abs(none) < 0.6 * learned
    assert more > 1.05 * learned


@pytest.mark.parametrize("change", [{"sampling_steps": 3}, {"sampler": "heun"}, {"guidance": 1.5}])
def test_every_option_of_sampling_changes_the_images(change):
    engine = _trained()
    assert np.abs(np.array(_images(engine, 2)) - np.array(_images(replace(engine, **change), 2))).max() > 1


@pytest.mark.parametrize(
    "change",
    [
        {"patch": 24},
        {"channels": (16, 32)},
        {"fold": 2},
        {"steps": 3},
        {"batch": 3},
        {"learning_rate": 1e-2},
        {"bf16": False},
        {"sublabels": 0},
        {"unconditional": 0.5},
        {"times": "uniform"},
        {"latent_channels": 4},
        {"autoencoder_channels": (16, 16)},
        {"autoencoder_fold": 1},
        {"autoencoder_steps": 3},
        {"perceptual": 0.0},
        {"labelled": 0.0},
        {"kl": 0.5},
    ],
    ids=lambda change: next(iter(change)),
)
def test_every_option_of_training_changes_the_images(change):
    made = [np.array(_images(_quick(**options), 2)) for options in ({}, change)]
    assert np.abs(made[0] - made[1]).max() > 0


@cache
def _quick(**options):
    return Flow(**{**SMALL, **options}).fit(phantom_cases(3), rng_for(0))


def test_pieces_of_a_batch_take_the_step_of_the_whole():
    exact = {"batch": 4, "bf16": False}
    whole, pieces = (np.array(_images(_quick(**exact, at_once=n), 2)) for n in (0, 2))
    np.testing.assert_allclose(pieces, whole, atol=2e-3 * np.ptp(whole))
    assert np.abs(pieces - np.array(_images(_quick(batch=3, bf16=False), 2))).max() > 1


def test_the_prior_weighs_what_it_says():
    """A heavier prior leaves latents nearer to a standard normal distribution."""
    prior = [
        _quick(kl=kl, autoencoder_steps=30, learning_rate=3e-3)._learned.trainee.reconstructed.losses[-1]["kl"]
        for kl in (0.0, 0.3)
    ]
    assert prior[1] < 0.7 * prior[0]


def test_every_label_counts_the_same_however_small_it_is():
    masks = torch.zeros(2, 3, 8, 8)
    masks[0, 0, :4] = 1
    masks[1, 1, 2, 5] = 1
    shares = label_shares(masks)
    assert float(shares.sum()) == pytest.approx(1)
    assert float(shares[1, 0, 2, 5]) == pytest.approx(0.5)  # the third label is not shown
    assert float(label_shares(torch.zeros(1, 2, 4, 4)).sum()) == 0


def test_labels_reach_the_latents_voxel_by_voxel():
    """A structure of one voxel's width is told in full; taking every fourth voxel would lose three of four such."""
    engine = _quick()
    trainee = engine._learned.trainee
    planes = torch.zeros(4, 4, 16, 16)
    for place in range(4):
        planes[place, 0, 5 + place] = 1
    told = trainee._told(planes)
    assert told.shape[2:] == (4, 4)
    assert torch.equal(unfold(told[:, :-1], 4), planes)
    sparse = planes[:, 0, ::4, ::4].amax((1, 2))
    assert sparse.sum() == 1
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():  # after so few steps its last layer still says next to nothing
        for weight in trainee.network.parameters():
            weight.add_(0.02 * torch.randn(weight.shape, generator=draw))
    made = [trainee.render(planes[[n]].numpy()[..., None], rng_for(0)) for n in range(4)]
    assert min(np.abs(made[n] - made[0]).max() for n in (1, 2, 3)) > 1e-4


@pytest.mark.slow
def test_lines_of_one_voxel_are_drawn_where_their_label_is():
    """Bright lines, one voxel wide, at random rows: on made images the labelled row is the brightest one."""
    cases = [_lined(n) for n in range(12)]
    options = {**SMALL, "sublabels": 0, "autoencoder_channels": (16, 32), "batch": 8, "sampling_steps": 8}
    engine = Flow(**{**options, "autoencoder_steps": 300, "steps": 400, "learning_rate": 3e-3}).fit(cases, rng_for(0))
    tests = [_lined(n).labels for n in range(100, 124)]
    made = engine.sample(24, rng_for(1), tests)
    hits = [
        int(case.image.array[0, :, :, 0].mean(1).argmax()) == int(truth.mask("line")[:, 0, 0].argmax())
        for case, truth in zip(made, tests, strict=True)
    ]
    assert np.mean(hits) > 0.7  # by chance 1 in 32


def _lined(n):
    rng = rng_for(n, "line")
    row = int(rng.integers(2, 30))
    mask = np.zeros((1, 32, 32, 1), np.uint8)
    mask[0, row] = 1
    pixels = (60 + 10 * rng.standard_normal(mask.shape) + 150 * mask).clip(0, 255).astype(np.uint8)
    grid = Geometry((32, 32, 1))
    return Case(f"l{n}", f"p{n}", Image.on(grid, pixels), LabelMap.on(grid, mask, LabelScheme.of(["line"])))


def test_what_is_given_stays_and_the_rest_is_made_around_it():
    learned = _trained()._learned
    images = np.stack([learned.intensity.encode(c.image.array, n)[:, :40, :40] for n, c in enumerate(phantom_cases(2))])
    planes = [learned.conditions.of(c.labels, (40, 43, 1))[:, :40, :40] for c in phantom_cases(2)]
    told = np.stack(planes).astype(np.float32)
    keep = np.ones((2, 40, 40, 1), np.float32)
    keep[:, 12:28, 12:28] = 0
    made, again = (learned.trainee.render(told, rng_for(1), Given(images, keep, passes=n)) for n in (1, 3))
    stays = np.broadcast_to(keep[:, None] == 1, made.shape)
    for one in (made, again):
        np.testing.assert_array_equal(one[stays], images[stays])
        assert np.abs(one - images)[~stays].mean() > 0.01
    assert np.abs(again - made)[~stays].max() > 0.01
    # What is kept steers the latents inside: what is made next to it is nearer to it than what is made without it.
    inside = (slice(None), slice(None), slice(12, 28), slice(12, 28))
    free = learned.trainee.render(told, rng_for(1))
    assert np.abs(free[inside] - made[inside]).max() > 0.01


def test_what_is_half_given_is_blended():
    trainee = _quick()._learned.trainee
    planes, images = np.zeros((1, 4, 16, 16, 1), np.float32), np.full((1, 1, 16, 16, 1), 0.5, np.float32)
    made, half = (
        trainee.render(planes, rng_for(2), Given(images, np.full((1, 16, 16, 1), keep, np.float32)))
        for keep in (0.0, 0.5)
    )
    assert np.isfinite(half).all()
    assert np.abs(half - 0.5).mean() < np.abs(made - 0.5).mean()


def test_a_whole_image_is_made_by_tiles_without_seams():
    """Steps at the borders of tiles of 16 are no larger than elsewhere."""
    image = np.mean(_images(_trained(), 6), axis=0)
    steps = np.abs(np.diff(image, axis=0)).mean(axis=1)
    assert image.shape == (40, 43)
    assert steps[[11, 15, 23, 27]].mean() < 1.5 * steps.mean()


def test_a_volume_is_made():
    engine = Flow(**SMALL).fit(phantom_cases(3, dimension=3), rng_for(0))
    (case,) = engine.sample(1, rng_for(1))
    assert case.image.array.shape == (1, 40, 43, 34)
    assert case.image.array.std() > 0


class Stopped(BaseException):
    """Stands for whatever ends a process between two steps."""


@pytest.mark.parametrize("stage", ["autoencoder", "velocity"])
def test_a_fit_that_was_stopped_in_either_stage_ends_in_the_same_bytes(stage, tmp_path, monkeypatch):
    from equipoise.engines.imaging.flow import autoencoder, velocity

    options = {**SMALL, "steps": 6, "autoencoder_steps": 6}
    trainee = {"autoencoder": autoencoder.Autoencoding, "velocity": velocity.Flowing}[stage]
    step = trainee.step

    def doomed(self, batch, generator, number):
        if number == 5:
            raise Stopped
        return step(self, batch, generator, number)

    with kept_in(tmp_path):
        monkeypatch.setattr(trainee, "step", doomed)
        with pytest.raises(Stopped):
            Flow(**options).fit(phantom_cases(3), rng_for(0))
        monkeypatch.setattr(trainee, "step", lambda self, b, g, n: step(self, b, g, n) if n >= 5 else _fail(n))
        resumed = Flow(**options).fit(phantom_cases(3), rng_for(0))
    monkeypatch.undo()
    whole = Flow(**options).fit(phantom_cases(3), rng_for(0))
    _assert_same_weights(resumed, whole)


def _fail(number):
    raise AssertionError(f"step {number} was taken a second time")


def _assert_same_weights(one, other):
    for name in ("velocity", "latents"):
        a, b = (e._learned.trainee.networks[name].state_dict() for e in (one, other))
        assert a.keys() == b.keys()
        assert all(torch.equal(a[k], b[k]) for k in a), name


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["autoencoder.Autoencoding", "velocity.Flowing"])
def test_a_killed_fit_resumes_to_the_same_bytes(stage, tmp_path):
    module, name = stage.split(".")
    program = (
        f"import sys; sys.path[:0] = {[str(Path(__file__).parent)]!r}\n"
        "import os, signal, pathlib\n"
        f"import test_flow as t\nfrom equipoise.engines.imaging.flow import {module} as m\n"
        f"step = m.{name}.step\n"
        "def doomed(self, b, g, n):\n"
        "    if n == 5: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return step(self, b, g, n)\n"
        f"m.{name}.step = doomed\n"
        f"with t.kept_in(pathlib.Path({str(tmp_path)!r})):\n"
        "    t.Flow(**t.SMALL | {'steps': 6, 'autoencoder_steps': 6}).fit(t.phantom_cases(3), t.rng_for(0))\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False)
    assert ended.returncode == -signal.SIGKILL
    options = {**SMALL, "steps": 6, "autoencoder_steps": 6}
    with kept_in(tmp_path):
        resumed = Flow(**options).fit(phantom_cases(3), rng_for(0))
    _assert_same_weights(resumed, Flow(**options).fit(phantom_cases(3), rng_for(0)))


@pytest.mark.parametrize(
    ("cases", "error", "words"),
    [
        (lambda: phantom_cases(1), DataError, "needs three at the least"),
        (lambda: [], DataError, "needs three at the least"),
        (lambda: [*phantom_cases(2), phantom_cases(3)[2].without_truth()], LabelError, "case-2.*as truth"),
        (lambda: [*phantom_cases(2), *phantom_cases(3, dimension=3)[2:]], DataError, "others are volumes"),
    ],
    ids=["one image", "none", "no truth", "mixed"],
)
def test_cases_that_cannot_be_learned_from_are_refused(cases, error, words):
    with pytest.raises(error, match=words):
        Flow(**SMALL).fit(cases(), rng_for(0))


@pytest.mark.slow
def test_what_a_fit_costs_is_said_beforehand():
    """Twice the steps of either stage cost more time; nothing is kept, and the fit is the same afterwards."""
    engine = Flow(**{**SMALL, "steps": 1000, "autoencoder_steps": 1000})
    once = engine.cost(phantom_cases(3), rng_for(0))
    more = [
        replace(engine, **{name: 100_000}).cost(phantom_cases(3), rng_for(0)) for name in ("steps", "autoencoder_steps")
    ]
    assert all(cost.seconds > 3 * once.seconds for cost in more)
    assert once.memory_bytes > 0
    assert once.disk_bytes > 0


def test_little_memory_makes_steps_of_several_parts():
    engine = Flow(**SMALL, bf16=True, memory=0.012)
    with pytest.raises(EngineError, match=r"flow needs .* GiB of memory"):
        engine.fit(phantom_cases(3), rng_for(0))


def test_sampling_before_fitting_is_refused():
    with pytest.raises(EngineError, match="not fitted"):
        Flow().sample(1, rng_for(0))


@pytest.mark.parametrize(
    "wrong",
    [
        {"preset": "huge"},
        {"sampler": "ddim"},
        {"times": "late"},
        {"sampling_steps": 0},
        {"guidance": -1.0},
        {"unconditional": 1.0},
        {"sublabels": 99},
        {"perceptual": -1.0},
        {"labelled": -1.0},
        {"kl": 2.0},
        {"velocity": "file.safetensors"},
        {"autoencoder": "file.safetensors", "latent_channels": 4},
        {"memory": -1.0},
        {"privacy": {"epsilon": 8.0, "delta": 1e-5}},
        {"anatomy": "nobody"},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
def test_impossible_parameters_are_refused_at_once(wrong):
    with pytest.raises((PlanError, UnknownKindError)):
        Flow(**wrong)


@pytest.mark.parametrize(
    "wrong",
    [
        {"patch": 8},
        {"channels": (20,)},
        {"autoencoder_channels": (12,)},
        {"autoencoder_fold": 9},
        {"latent_channels": 0},
        {"autoencoder_steps": 0},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
def test_impossible_sizes_are_refused_before_training(wrong):
    with pytest.raises(PlanError, match=next(iter(wrong))):
        Flow(**{**SMALL, **wrong}).fit(phantom_cases(3), rng_for(0))

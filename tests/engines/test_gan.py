"""Kind ``gan``: the contract, what it learns, and the measurable effect of every option."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch

from equipoise.core import rng_for
from equipoise.engines.imaging.gan import Gan
from equipoise.engines.imaging.gan.networks import GRAIN, Changes, Generator, coarser
from equipoise.engines.parts.learned.folding import fold
from equipoise.errors import EngineError, PlanError, UnknownKindError
from equipoise.testing import EngineContract
from equipoise.testing.engine_contract import phantom_cases

SMALL = {"patch": 24, "channels": (16, 24), "fold": 2, "steps": 2, "batch": 2, "sublabels": 2}


class TestContract(EngineContract):
    def make(self):
        return Gan(**SMALL, anatomy={"kind": "warped", "patch": 24})

    @cache  # noqa: B019  # one fit for all tests: fits are the same, which a test of its own sees
    def fitted(self):
        return self.make().fit(self.cases(), rng_for(0, "fit"))

    def __eq__(self, other):
        return type(self) is type(other)

    def __hash__(self):
        return hash(type(self))

    def test_cases_say_that_they_were_learned_and_what_they_show(self):
        (case,) = self.samples(1)
        assert (case.scanner, case.modality) == ("synthetic, learned", "phantom")

    def test_two_fits_of_one_stream_are_the_same(self):
        a, b = (self.make().fit(self.cases(), rng_for(0, "fit")) for _ in range(2))
        for x, y in zip(a.sample(2, rng_for(1)), b.sample(2, rng_for(1)), strict=True):
            np.testing.assert_array_equal(x.image.array, y.image.array)


@cache
def _trained():
    engine = Gan(**{**SMALL, "steps": 200, "batch": 8, "learning_rate": 1e-3})
    return engine.fit(phantom_cases(6), rng_for(0, "fit"))


def _contrast(images):
    masks = [case.labels.mask("organ")[:, :, 0] for case in phantom_cases(6)]
    return float(np.mean([im[m].mean() - im[~m].mean() for im, m in zip(images, masks, strict=True)]))


def _images(engine, n, seed=3):
    maps = [case.labels for case in phantom_cases(6)]
    return [case.image.array[0, :, :, 0] for case in engine.sample(n, rng_for(seed), maps)]


def test_images_obey_their_labels():
    real = [case.image.array[0, :, :, 0] for case in phantom_cases(6)]
    assert _contrast(_images(_trained(), 6)) == pytest.approx(_contrast(real), rel=0.4)


def test_two_images_under_one_label_map_differ():
    (first,), (second,) = (_images(_trained(), 1, seed) for seed in (3, 4))
    assert np.abs(first - second).mean() > 10


@pytest.mark.parametrize(
    "change",
    [
        {"patch": 32},
        {"channels": (16, 32)},
        {"fold": 1},
        {"steps": 3},
        {"batch": 3},
        {"learning_rate": 1e-2},
        {"sublabels": 0},
        {"forget": 1.0},
        {"latent": 4},
        {"feature_matching": 0.0},
        {"augment": 0.0},
    ],
    ids=lambda change: next(iter(change)),
)
def test_every_option_of_training_changes_the_images(change):
    made = [np.array(_images(Gan(**{**SMALL, **c}).fit(phantom_cases(3), rng_for(0)), 2)) for c in ({}, change)]
    assert np.abs(made[0] - made[1]).max() > 0


def test_the_gradient_penalty_acts_at_its_steps():
    made = [
        np.array(_images(Gan(**{**SMALL, "steps": 17, "gradient_penalty": p}).fit(phantom_cases(3), rng_for(0)), 1))
        for p in (0.0, 50.0)
    ]
    assert np.abs(made[0] - made[1]).max() > 0


@pytest.mark.parametrize("ndim", [2, 3])
def test_the_generator_makes_images_of_any_size(ndim):
    torch.manual_seed(0)
    net = Generator(ndim, 3, 4, (16, 24), 2, 1)
    for side in (16, 24):
        shape = (side,) * ndim
        planes, noise = torch.rand(2, 3, *shape), torch.randn(2, 2, *shape)
        made = net(planes, noise, torch.randn(2, 4, *[1] * ndim).expand(-1, -1, *shape))
        assert made.shape == (2, 1, *shape)
        assert made.abs().max() <= 1


def test_coarse_noise_keeps_its_variance():
    noise = torch.randn(1, 1, 256, 256, generator=torch.Generator().manual_seed(0))
    assert coarser(noise, 8, keep_variance=True).std().item() == pytest.approx(1, abs=0.1)
    assert coarser(noise, 8).std().item() == pytest.approx(1 / 8, abs=0.02)


@pytest.mark.parametrize("shape", [(4, 1, 32, 24), (4, 1, 16, 24, 8)])
def test_the_critic_sees_image_and_labels_move_together(shape):
    images = torch.rand(shape)
    planes = (images > 0.5).float()
    count, *sides = (shape[0], *shape[2:])
    always, never = (Changes.drawn(count, sides, p, torch.Generator().manual_seed(0)) for p in (1.0, 0.0))
    seen, told = always.made_to(images, planes)
    shown = (seen != 0) & (told >= 0)
    for image, plane, keep in zip(seen, told, shown, strict=True):
        bright, dark = image[keep & (plane > 0)], image[keep & (plane == 0) & (image != image.flatten()[0])]
        assert bright.min() > dark[dark < bright.min()].max()
    same, _ = never.made_to(images, planes)
    torch.testing.assert_close(same, images)
    live = images.clone().requires_grad_()
    always.made_to(live, planes)[0].sum().backward()
    assert live.grad.abs().sum() > 0


def test_sampling_before_fitting_is_refused():
    with pytest.raises(EngineError, match="not fitted"):
        Gan().sample(1, rng_for(0))


@pytest.mark.parametrize(
    "wrong",
    [
        {"preset": "huge"},
        {"sublabels": 99},
        {"forget": 2.0},
        {"latent": 0},
        {"feature_matching": -1.0},
        {"gradient_penalty": -1.0},
        {"augment": 1.5},
        {"anatomy": "nobody"},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
def test_impossible_parameters_are_refused_at_once(wrong):
    with pytest.raises((PlanError, UnknownKindError)):
        Gan(**wrong)


@pytest.mark.parametrize("ndim", [2, 3])
def test_the_generator_does_not_know_where_a_patch_ends(ndim):
    """Where labels are the same all over and there is no grain, every voxel is alike: tiles would show otherwise."""
    torch.manual_seed(0)
    generator = Generator(ndim, planes=2, latent=3, channels=(8, 16), block=2, out=1)
    shape = (16,) * ndim
    planes, latent = torch.ones(1, 2, *shape), torch.randn(1, 3, *[1] * ndim).expand(1, 3, *shape)
    with torch.no_grad():
        made = generator(planes, torch.zeros(1, GRAIN, *shape), latent)
    assert made.shape == (1, 1, *shape)
    assert float(fold(made, 2).flatten(2).std(2).max()) < 1e-5

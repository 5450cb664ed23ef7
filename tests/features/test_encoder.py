"""The self-trained encoder: what it learns, what it must not overlook, and what it refuses."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from scipy import ndimage

from equipoise.core import Case, Image, rng_for
from equipoise.errors import DataError
from equipoise.features.distances import kernel_distance
from equipoise.features.encoder import Encoder, changed, train_encoder, vicreg_loss
from equipoise.features.handmade import patches_of


def _case(name, seed, size=72, channels=1, change=None):
    """Return a picture of bright discs of several sizes on a grainy ground."""
    rng = rng_for(seed, name)
    grid = np.stack(np.meshgrid(np.arange(size), np.arange(size), indexing="ij"))
    picture = 0.05 * ndimage.gaussian_filter(rng.standard_normal((size, size)), 0.7)
    for _ in range(12):
        centre, radius = rng.uniform(0, size, 2), rng.uniform(2, 9)
        picture += 0.6 * (np.hypot(*(grid - centre[:, None, None])) < radius) * rng.uniform(0.4, 1)
    picture = picture if change is None else change(picture, rng)
    image = Image(np.repeat(picture[None, :, :, None], channels, 0).astype(np.float32))
    return Case(id=f"{name}-{seed}", patient=f"p{seed}", image=image)


def _cases(n, first=0, **options):
    return [_case("discs", first + i, **options) for i in range(n)]


@cache
def _trained(steps=60):
    with torch.random.fork_rng():
        return train_encoder(_cases(6), rng_for(0, "encoder"), side=48, steps=steps)


def test_training_lowers_the_loss_and_names_its_patients():
    encoder = _trained()
    assert encoder.loss[1] < 0.95 * encoder.loss[0]
    assert encoder.parents == {f"p{i}" for i in range(6)}
    assert not any(p.requires_grad for p in encoder.net.parameters())


def test_training_finds_the_other_crop_of_an_unseen_picture_more_often():
    """Among 60 unseen pictures; chance is 1 in 60."""
    patches = np.concatenate([patches_of(c.image, 48, 1, rng_for(9, c.id)) for c in _cases(60, first=50)])
    views = [changed(patches, rng_for(s, "views")) for s in (1, 2)]

    def found(encoder):
        a, b = (encoder.embed(view) for view in views)
        a, b = ((z - z.mean(0)) / (z.std(0) + 1e-6) for z in (a, b))
        a, b = (z / np.linalg.norm(z, axis=1, keepdims=True) for z in (a, b))
        return float(((a @ b.T).argmax(1) == np.arange(len(a))).mean())

    assert found(_trained(150)) > found(_trained(0)) + 0.1


@pytest.mark.parametrize(
    "change",
    [
        lambda p, rng: ndimage.gaussian_filter(p, 1.2),
        lambda p, rng: p + 0.15 * rng.standard_normal(p.shape),
        lambda p, rng: ndimage.gaussian_filter(rng.standard_normal(p.shape), 3),
    ],
    ids=["blurred", "noisy", "without discs"],
)
def test_features_tell_changed_images_from_unseen_real_ones(change):
    encoder, count = _trained(), 12
    seen, unseen, odd = (
        encoder.of_cases(cases, count, rng_for(4, name)).reshape(-1, encoder.width)
        for name, cases in (
            ("seen", _cases(6)),
            ("unseen", _cases(6, first=100)),
            ("odd", _cases(6, first=100, change=change)),
        )
    )
    assert kernel_distance(seen, odd) > 3 * abs(kernel_distance(seen, unseen))


def test_the_same_stream_gives_the_same_encoder_and_leaves_global_randomness_alone():
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    patches = np.full((2, 1, 32, 32), 0.5, np.float32) * np.array([0.2, 1.0], np.float32)[:, None, None, None]
    a, b, c = (train_encoder(_cases(2), rng_for(s), side=32, steps=3).embed(patches) for s in (1, 1, 2))
    np.testing.assert_array_equal(a, b)
    assert np.abs(a - c).max() > 1e-3
    assert torch.equal(before, torch.random.get_rng_state())


def test_vicreg_loss_punishes_collapse_and_repetition():
    rng = torch.Generator().manual_seed(0)
    good = torch.randn(400, 8, generator=rng)
    assert vicreg_loss(good, good) < 0.6
    assert vicreg_loss(torch.zeros(400, 8), torch.zeros(400, 8)) > 24
    assert vicreg_loss(good[:, :1].repeat(1, 8), good[:, :1].repeat(1, 8)) > 5
    assert vicreg_loss(good, -good) > 50


def test_small_images_and_colours_are_read():
    encoder = train_encoder(_cases(2, size=20, channels=3), rng_for(0), side=64, steps=2)
    assert (encoder.side, encoder.channels) == (20, 3)
    assert encoder.of_cases(_cases(2, size=20, channels=3), 3, rng_for(1)).shape == (2, 3, encoder.width)


@pytest.mark.parametrize(
    ("cases", "words"),
    [
        (lambda: [], "needs training images"),
        (lambda: _cases(1, size=12), "needs 16 or more"),
        (lambda: [*_cases(1), *_cases(1, channels=3)], "channels"),
    ],
)
def test_images_that_cannot_be_learned_from_are_refused(cases, words):
    with pytest.raises(DataError, match=words):
        train_encoder(cases(), rng_for(0), steps=1)


def test_patches_of_another_kind_are_refused():
    encoder: Encoder = _trained()
    for shape in ((2, 3, 48, 48), (2, 1, 8, 8), (48, 48)):
        with pytest.raises(DataError, match="the encoder reads patches"):
            encoder.embed(np.zeros(shape, np.float32))

import math

import numpy as np
import pytest
import torch

from equipoise.engines.parts.learned.denoising import levels, noised
from equipoise.engines.parts.learned.prior import Prior, rate_at, transformed


def smooth_patches(count: int = 400, side: int = 32, channels: int = 2, ndim: int = 2) -> np.ndarray:
    """Patches of smooth Gaussian texture with different mean and contrast in each channel."""
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(0)
    shape = (count, channels, side, side, side if ndim == 3 else 1)
    noise = rng.normal(size=shape).astype(np.float32)
    spread = (0, 0, 2, 2, 2 if ndim == 3 else 0)
    flat = gaussian_filter(noise, spread, mode="wrap")
    flat /= flat.std()
    level = np.arange(channels, dtype=np.float32).reshape(1, -1, 1, 1, 1)
    return 0.1 * (1 + level) * flat - 0.3 * level


@pytest.mark.parametrize("shape", [(2, 3, 8, 12), (2, 1, 6, 8, 10), (3, 16, 16)])
def test_the_cosine_transform_keeps_energy_and_is_undone(shape):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    y = transformed(x)
    assert torch.allclose(y.square().sum(), x.square().sum(), rtol=1e-4)
    assert torch.allclose(transformed(y, back=True), x, atol=1e-4)
    assert not torch.allclose(y, x, atol=0.1)


def test_patches_are_standardised_by_channel_and_restored():
    patches = smooth_patches()
    prior = Prior.of(patches, 2)
    flat = torch.from_numpy(patches[..., 0])
    standard = prior.standardised(flat)
    assert torch.allclose(standard.mean((0, 2, 3)), torch.zeros(2), atol=1e-3)
    assert torch.allclose(standard.std((0, 2, 3)), torch.ones(2), atol=1e-2)
    assert torch.allclose(prior.restored(standard), flat, atol=1e-5)
    low, high = prior.bounds
    assert torch.allclose(prior.restored(low.expand(1, 2, 1, 1)), torch.tensor(-1.0), atol=1e-5)
    assert torch.allclose(prior.restored(high.expand(1, 2, 1, 1)), torch.tensor(1.0), atol=1e-5)


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("time", [0.1, 0.5, 0.9])
def test_the_guess_misses_as_much_as_it_says_and_less_than_a_white_one(ndim, time):
    patches = smooth_patches(400 if ndim == 2 else 60, 32 if ndim == 2 else 16, 1, ndim)
    half = len(patches) // 2
    prior = Prior.of(patches[:half], ndim)
    unseen = torch.from_numpy(patches[half:, ..., 0] if ndim == 2 else patches[half:])
    images, t = prior.standardised(unseen), torch.full((len(unseen),), time)
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(1))
    noisy, _ = noised(images, noise, t)
    guess, error = prior.guess(noisy, *levels(t))
    missed = (guess - images).square().mean().sqrt()
    assert missed == pytest.approx(error.mean().item(), rel=0.15)
    alpha, sigma = levels(torch.tensor(time))
    white = (alpha * noisy - images).square().mean().sqrt()  # the best guess at white images of variance 1
    assert white == pytest.approx(sigma.item(), rel=0.1)
    assert missed < 0.9 * white


def test_a_guess_without_noise_is_the_image_and_of_noise_alone_the_mean():
    prior = Prior.of(smooth_patches(), 2)
    images = prior.standardised(torch.from_numpy(smooth_patches(8)[..., 0]))
    clear, error = prior.guess(images, *levels(torch.full((8,), 1e-6)))
    assert torch.allclose(clear, images, atol=1e-2)
    assert error.max() < 1e-4
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    blank, error = prior.guess(noise, *levels(torch.ones(8)))
    assert blank.abs().max() < 1e-2
    assert error.mean() == pytest.approx(1, abs=0.05)


def test_the_prior_of_unseen_images_falls_with_the_square_of_the_frequency():
    prior = Prior.natural(3, (64, 64))
    assert prior.power.shape == (3, 64, 64)
    assert prior.power.mean() == pytest.approx(1, rel=0.05)
    assert prior.power[0, 0, 7] / prior.power[0, 0, 31] == pytest.approx((32 / 8) ** 2, rel=1e-3)
    assert Prior.natural(1, (16, 16, 16)).power.shape == (1, 16, 16, 16)


def test_the_rate_rises_shortly_and_falls_along_a_cosine():
    rates = [rate_at(step, 1000) for step in range(1, 1001)]
    assert rates[24] == pytest.approx(0.5, rel=0.02)
    assert max(rates) <= 1
    assert rates[499] == pytest.approx(0.02 + 0.98 * 0.5, rel=1e-2)
    assert rates[-1] == pytest.approx(0.02)
    assert all(math.isfinite(r) and r > 0 for r in rates)


def test_colours_that_go_together_are_guessed_together():
    rng = np.random.default_rng(0)
    shared = smooth_patches(200, 16, 1)
    tint = 0.005 * rng.normal(size=(200, 3, 16, 16, 1)).astype(np.float32)
    patches = np.repeat(shared, 3, 1) + tint
    prior = Prior.of(patches, 2)
    images, time = prior.standardised(torch.from_numpy(patches[..., 0])), torch.full((200,), 0.5)
    noisy, _ = noised(images, torch.randn(images.shape, generator=torch.Generator().manual_seed(0)), time)
    apart = Prior(prior.mean, prior.sd, torch.eye(3), prior.power.mean(0).expand(3, 16, 16))
    missed = [(p.guess(noisy, *levels(time))[0] - images).square().mean() for p in (prior, apart)]
    assert missed[0] < 0.6 * missed[1]  # three noisy views of one texture are nearly three times as much to go by

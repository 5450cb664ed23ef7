"""What learned engines share: scales, patches, folding, tiles, samplers, checkpoints, and the course of a training."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from equipoise.core import Image, rng_for
from equipoise.engines.parts.learned.checkpoint import flattened, read_checkpoint, unflattened, write_checkpoint
from equipoise.engines.parts.learned.denoising import denoise, levels, noised
from equipoise.engines.parts.learned.examples import Conditions, Examples, patch_for, require_one_spacing
from equipoise.engines.parts.learned.folding import fold, over_tiles, unfold
from equipoise.engines.parts.learned.held_out import hold_out, slices_of
from equipoise.engines.parts.learned.intensity import Intensity
from equipoise.errors import DataError, EngineError, GeometryMismatchError
from equipoise.testing.engine_contract import phantom_cases


def _with_array(case, array):
    return replace(case, image=Image(array, case.image.affine, unit=case.image.unit))


# --- scales


def test_colours_keep_their_8_bits():
    case = phantom_cases(1, channels=3)[0]
    scale = Intensity.of([case])
    np.testing.assert_array_equal(scale.decode(scale.encode(case.image.array, 0), 5), case.image.array)


def test_images_in_fixed_units_share_one_scale_and_others_keep_their_own():
    cases = phantom_cases(4)
    assert len(Intensity.of(cases).low) == 1
    drifting = [_with_array(c, (c.image.array + 1000) * (1 + i)) for i, c in enumerate(cases)]
    scale = Intensity.of(drifting)
    assert len(scale.low) == 4
    for number, case in enumerate(drifting):
        encoded = scale.encode(case.image.array, number)
        assert (encoded.min(), encoded.max()) == (-1, 1)
        inside = np.abs(encoded) < 1
        np.testing.assert_allclose(
            scale.decode(encoded, number)[inside], case.image.array[inside], rtol=1e-4, atol=0.05
        )


def test_integers_come_back_as_integers():
    cases = [_with_array(c, np.rint(c.image.array).astype(np.int16)) for c in phantom_cases(3)]
    assert Intensity.of(cases).decode(np.zeros((1, 4, 4, 1), np.float32), 0).dtype == np.int16


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda a: np.full_like(a, 7), "one value only"),
        (lambda a: np.where(a > 0, np.nan, a), "not finite"),
        (lambda a: np.repeat(a, 2, 0), "channel"),
    ],
)
def test_images_that_do_not_go_together_are_refused(change, words):
    first, second = phantom_cases(2)
    with pytest.raises(DataError, match=words):
        Intensity.of([first, _with_array(second, change(second.image.array))])


def test_grey_images_of_two_types_become_numbers_with_fractions_and_colours_must_be_alike():
    first, second = phantom_cases(2)
    eight_bit = _with_array(second, np.clip(second.image.array, 0, 255).astype(np.uint8))
    assert Intensity.of([first, eight_bit]).dtype == np.float32
    red, green = phantom_cases(2, channels=3)
    with pytest.raises(DataError, match=r"case-1.*stored as float32"):
        Intensity.of([red, _with_array(green, green.image.array.astype(np.float32))])


# --- patches


def _examples(patch=(16, 16, 1), n=3, dimension=2):
    cases = phantom_cases(n, dimension=dimension)
    conditions = Conditions(cases[0].labels.scheme)
    return cases, Examples.of(cases, Intensity.of(cases), conditions, patch)


@pytest.mark.parametrize("dimension", [2, 3])
def test_planes_lie_under_their_images(dimension):
    patch = (16, 16, 1) if dimension == 2 else (16, 16, 8)
    _, examples = _examples(patch, dimension=dimension)
    batch = examples.draw(40, rng_for(0), foreground=1.0)
    assert batch.images.shape == (40, 1, *patch)
    assert batch.planes.shape == (40, 2, *patch)
    organ = batch.planes[:, 0] > 0
    assert batch.images[:, 0][organ].mean() > batch.images[:, 0][~organ].mean() + 0.3


def test_foreground_decides_how_many_patches_show_a_label():
    _, examples = _examples()
    shown = [(examples.draw(300, rng_for(1), foreground=f).planes[:, 1] > 0).any((1, 2, 3)).mean() for f in (0, 1)]
    assert shown[0] < 0.6 < 0.75 < shown[1]


def test_patches_come_only_from_the_cases_asked_for():
    _, examples = _examples()
    assert set(examples.draw(50, rng_for(2), among=[0, 2]).sources) == {0, 2}


def test_images_smaller_than_a_patch_are_mirrored():
    _, examples = _examples(patch=(64, 64, 1))
    batch = examples.draw(2, rng_for(3))
    assert batch.images.shape == (2, 1, 64, 64, 1)
    np.testing.assert_array_equal(batch.images[:, :, 40:], batch.images[:, :, 39:15:-1])


def test_a_patch_fits_the_images_and_the_network():
    flat, deep = phantom_cases(2), phantom_cases(2, dimension=3)
    assert patch_for(flat, 32, 8) == (32, 32, 1)
    assert patch_for(flat, 128, 8) == (40, 48, 1)
    assert patch_for(deep, 32, 8) == (32, 32, 32)
    with pytest.raises(DataError, match="others are volumes"):
        patch_for([*flat, *deep], 32, 8)


def test_one_engine_learns_one_spacing():
    a, b = phantom_cases(2)
    require_one_spacing([a, b])
    coarse = replace(b, image=Image(b.image.array, b.image.affine @ np.diag([2, 2, 1, 1])), truth=None)
    with pytest.raises(GeometryMismatchError, match=r"factor of 2.*case-1"):
        require_one_spacing([a, coarse])


def test_patients_are_held_out_whole():
    people = ["a", "a", "b", "c", "c", "d"]
    among, out = hold_out(people, rng_for(0), share=0.25)
    assert sorted(among + out) == list(range(6))
    assert not {people[i] for i in among} & {people[i] for i in out}
    assert hold_out(["a", "a"], rng_for(0)) == ([0, 1], [0, 1])


def test_slices_of_a_volume_are_read_from_its_middle():
    volume = np.broadcast_to(np.linspace(-1, 1, 9), (2, 1, 4, 4, 9)).astype(np.float32)
    flat = slices_of(volume)
    assert flat.shape == (6, 1, 4, 4)
    np.testing.assert_allclose(flat[:3, 0, 0, 0], [0.25, 0.5, 0.75])


# --- folding, tiles


@pytest.mark.parametrize("shape", [(2, 3, 8, 12), (2, 3, 8, 12, 4)])
def test_folding_loses_nothing(shape):
    images = torch.randn(shape)
    folded = fold(images, 2)
    assert folded.shape == (2, 3 * 2 ** (len(shape) - 2), *(n // 2 for n in shape[2:]))
    assert torch.equal(unfold(folded, 2), images)
    axes = len(shape) - 2
    block = folded[(0, slice(2**axes), *[0] * axes)]
    corner = images[(0, 0, *[slice(2)] * axes)]
    assert sorted(block.tolist()) == sorted(corner.flatten().tolist())


@pytest.mark.parametrize("shape", [(1, 2, 40, 28), (1, 2, 40, 28, 16)])
def test_tiles_of_a_local_function_are_the_function_of_the_whole(shape):
    images = torch.randn(shape)
    patch = (16,) * (len(shape) - 2)
    torch.testing.assert_close(over_tiles(lambda x: 3 * x[:, :1], images, patch), 3 * images[:, :1])


# --- denoising


def _exact(mean, sd):
    """Return the true velocity of a normal distribution: E[velocity | noised]."""

    def predict(x, time):
        alpha, sigma = (v.view(-1, *[1] * (x.ndim - 1)) for v in levels(time))
        variance = (alpha * sd) ** 2 + sigma**2
        image = mean + alpha * sd**2 / variance * (x - alpha * mean)
        noise = (x - alpha * image) / sigma
        return alpha * noise - sigma * image

    return predict


@pytest.mark.parametrize(("sampler", "steps", "tolerance"), [("ddim", 200, 0.02), ("dpm++", 40, 0.02)])
def test_samplers_reach_a_known_distribution(sampler, steps, tolerance):
    noise = torch.randn((20_000, 1), generator=torch.Generator().manual_seed(0))
    made = denoise(_exact(0.3, 0.2), noise, steps, sampler, bounds=None)
    assert made.mean().item() == pytest.approx(0.3, abs=tolerance * 0.2)
    assert made.std().item() == pytest.approx(0.2, rel=tolerance)


def test_the_second_order_sampler_needs_fewer_steps():
    noise = torch.randn((4000, 1), generator=torch.Generator().manual_seed(1))
    exact = denoise(_exact(0.3, 0.2), noise, 4000, "ddim", bounds=None)
    off = {s: (denoise(_exact(0.3, 0.2), noise, 20, s, bounds=None) - exact).abs().mean() for s in ("ddim", "dpm++")}
    assert off["dpm++"] < 0.5 * off["ddim"]


def test_velocity_gives_back_image_and_noise():
    image, noise, time = torch.randn(4, 2, 3, 3), torch.randn(4, 2, 3, 3), torch.rand(4)
    noisy, velocity = noised(image, noise, time)
    alpha, sigma = (v.view(-1, 1, 1, 1) for v in levels(time))
    torch.testing.assert_close(alpha * noisy - sigma * velocity, image)
    torch.testing.assert_close(sigma * noisy + alpha * velocity, noise)


# --- checkpoints


def test_checkpoints_keep_an_optimiser_exactly(tmp_path):
    torch.manual_seed(0)
    net = nn.Linear(3, 2)
    optimiser = torch.optim.AdamW(net.parameters(), 1e-2)
    net(torch.ones(1, 3)).sum().backward()
    optimiser.step()
    tensors, rest = flattened(optimiser.state_dict(), "optimiser/net")
    write_checkpoint(tmp_path / "a.safetensors", tensors, {"optimisers": rest, "step": 7})
    found, about = read_checkpoint(tmp_path / "a.safetensors")
    assert about["step"] == 7
    again = torch.optim.AdamW(net.parameters(), 1e-2)
    again.load_state_dict(unflattened(found, about["optimisers"], "optimiser/net"))
    for a, b in zip(again.state_dict()["state"].values(), optimiser.state_dict()["state"].values(), strict=True):
        assert all(torch.equal(a[k], b[k]) for k in b)
    assert [p.name for p in tmp_path.iterdir()] == ["a.safetensors"]


@pytest.mark.parametrize("damage", ["missing", "short", "foreign", "text"])
def test_damaged_and_foreign_checkpoints_are_refused(tmp_path, damage):
    path = tmp_path / "a.safetensors"
    write_checkpoint(path, {"x": torch.zeros(64)}, {})
    if damage == "missing":
        path.unlink()
    elif damage == "short":
        path.write_bytes(path.read_bytes()[:-32])
    elif damage == "text":
        path.write_text("weights")
    else:
        from safetensors.torch import save_file

        save_file({"x": torch.zeros(2)}, path)
    with pytest.raises(EngineError, match="cannot be read") as caught:
        read_checkpoint(path)
    assert str(path) in str(caught.value)

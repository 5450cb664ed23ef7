from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
import torch

from equipoise.core import rng_for
from equipoise.engines.augmentation import acquisition_steps, steps
from equipoise.engines.augmentation.batched import _LOOKS, _MOVES, Batched, apply_batch
from equipoise.engines.augmentation.classical import Classical
from equipoise.engines.augmentation.operations import OPERATIONS, draw_step
from equipoise.engines.augmentation.policies import Rand, Searched, Trivial
from equipoise.engines.augmentation.steps import Noise, apply
from equipoise.errors import DataError, EngineError, PlanError

SHAPES = [(1, 33, 38, 1), (3, 33, 38, 1), (3, 17, 21, 19)]
ALWAYS: dict[str, Any] = {f.name: 1.0 for f in fields(Classical) if f.name.startswith("p_")}


def batch(shape: tuple[int, ...], size: int = 3) -> tuple[np.ndarray, np.ndarray]:
    rng = rng_for(0, "batch", shape)
    images = rng.standard_normal((size, *shape), dtype=np.float32)
    return images, rng.integers(0, 3, (size, 2, *shape[1:])).astype(np.uint8)


def one_by_one(drawn: list[Any], images: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    pairs = [apply(s, i.copy(), y.copy()) for s, i, y in zip(drawn, images, labels, strict=True)]
    return np.stack([p[0] for p in pairs]), np.stack([p[1] for p in pairs])


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_agrees_with_numpy(name: str, shape: tuple[int, ...]) -> None:
    if OPERATIONS[name].colours and shape[0] != 3:
        return
    images, labels = batch(shape)
    rng = rng_for(1, name)
    drawn: list[Any] = [draw_step(name, shape, s, (1.0, 1.0, 2.0), rng) for s in (0.3, 0.7, 1.0)]
    if hasattr(drawn[0], "noise"):  # the same noise for both: torch and numpy have other generators
        size = {"rician": (2, *shape), "speckle": (2, *shape[1:])}.get(name, shape)
        drawn = [replace(s, noise=rng.standard_normal(size, dtype=np.float32)) for s in drawn]
    x, y = apply_batch([[s] for s in drawn], torch.tensor(images), torch.tensor(labels))
    expected, moved = one_by_one([[s] for s in drawn], images, labels)
    np.testing.assert_allclose(x.numpy(), expected, atol=5e-5)
    # Half-way between two voxels, rounding decides which is nearest.
    assert (y.numpy() == moved).mean() > 0.99
    assert y.dtype == torch.uint8


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    "augment",
    [
        Classical(flip=(0, 1), **ALWAYS),
        replace(Classical(flip=(0,), **ALWAYS), p_elastic=0.5, p_blur=0.5, p_gamma=0.5),
        Trivial(operations=("rotate", "gamma", "blur", "low-resolution"), flip=(0, 1)),
        Rand(operations=("elastic", "contrast", "sharpen"), count=3),
        Searched(operations=("zoom", "shift"), weights=(1.0, 2.0), strengths=(1.0, 0.5)),
    ],
    ids=["classical", "some", "trivial", "rand", "searched"],
)
def test_a_whole_policy_agrees_with_numpy(augment: Any, shape: tuple[int, ...]) -> None:
    images, labels = batch(shape, 5)
    x, y = Batched(augment)(images, labels, rng_for(2, "policy"))
    rng = rng_for(2, "policy")
    expected = [augment(i, m, rng) for i, m in zip(images, labels, strict=True)]
    # The curve of gamma is steep near its end: single-precision differences before it grow a little.
    np.testing.assert_allclose(x.numpy(), np.stack([e[0] for e in expected]), atol=1e-3)
    assert (y.numpy() == np.stack([e[1] for e in expected])).mean() > 0.99


def test_noise_of_the_device_has_its_size_and_repeats() -> None:
    images, labels = np.zeros((3, 1, 60, 60, 1), np.float32), np.zeros((3, 1, 60, 60, 1), np.uint8)
    before = torch.random.get_rng_state()
    augment = Rand(operations=("noise",), count=1, strength=1.0)
    x, again, other = (Batched(augment)(images, labels, rng_for(s))[0] for s in (1, 1, 2))
    assert torch.equal(x, again)
    assert not torch.equal(x, other)
    assert not torch.equal(x[0], x[1])
    assert float(x.std()) == pytest.approx(0.3, rel=5 / np.sqrt(2 * x.numel()))
    assert torch.equal(before, torch.random.get_rng_state()), "the global stream was touched"


def test_what_is_given_is_left_alone() -> None:
    images, labels = (torch.tensor(a) for a in batch(SHAPES[0]))
    kept = images.clone(), labels.clone()
    Batched(Classical(flip=(0, 1), **ALWAYS))(images, labels, rng_for(0))
    assert torch.equal(images, kept[0])
    assert torch.equal(labels, kept[1])


def test_every_step_has_its_batched_twin() -> None:
    found = {
        thing
        for module in (steps, acquisition_steps)
        for name in module.__all__
        if isinstance(thing := getattr(module, name), type) and hasattr(thing, "__dataclass_fields__")
    }
    assert found == set(_LOOKS) | set(_MOVES)
    assert Noise in found


def test_bad_batches_and_devices_are_named() -> None:
    images, labels = batch(SHAPES[0])
    with pytest.raises(DataError, match="one batch"):
        Batched(Classical())(images[0], labels[0], rng_for(0))
    with pytest.raises(DataError, match="one grid"):
        Batched(Classical())(images, labels[:, :, :-1], rng_for(0))
    with pytest.raises(PlanError, match="device"):
        Batched(Classical(), "gpu")
    if not torch.cuda.is_available():
        with pytest.raises(EngineError, match="CUDA"):
            Batched(Classical(), "cuda")(images, labels, rng_for(0))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("shape", SHAPES)
def test_a_graphics_card_agrees_with_numpy(shape: tuple[int, ...]) -> None:
    images, labels = batch(shape)
    augment = Classical(flip=(0, 1), **ALWAYS)
    x, y = Batched(augment, "cuda")(images, labels, rng_for(3))
    rng = rng_for(3)
    expected = [augment(i, m, rng) for i, m in zip(images, labels, strict=True)]
    np.testing.assert_allclose(x.cpu().numpy(), np.stack([e[0] for e in expected]), atol=2e-3)
    assert (y.cpu().numpy() == np.stack([e[1] for e in expected])).mean() > 0.99

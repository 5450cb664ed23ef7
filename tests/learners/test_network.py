from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from equipoise.learners.network import (
    Architecture,
    FoldedUNet,
    as_input,
    build,
    one_thread,
    segmentation_loss,
    set_weights,
    weights_of,
)
from equipoise.learners.recipe import Loss, grid_for


def make(ndim: int = 2, fold: int = 2, seed: int = 0, patch: int = 16) -> nn.Module:
    grid = grid_for((patch,) * ndim, [(64,) * ndim], fold, 3)
    return build(
        Architecture(ndim, 1, 2, (4, 8, 8), grid.strides, grid.fold, "batch"),
        "cpu",
        torch.Generator().manual_seed(seed),
    )


@pytest.mark.parametrize("fold", [(1, 1), (2, 2), (4, 2), (2, 4, 1)])
def test_folding_back_undoes_folding(fold: tuple[int, ...]) -> None:
    image = torch.arange(float(2 * 3 * 8 ** len(fold))).reshape(2, 3, *[8] * len(fold))
    torch.testing.assert_close(FoldedUNet(nn.Identity(), fold)(image), image)


def test_folding_is_the_pixel_shuffle_of_torch() -> None:
    class Widen(nn.Module):
        def forward(self, folded: torch.Tensor) -> torch.Tensor:
            self.seen = folded
            return folded

    image = torch.rand(2, 3, 8, 12)
    inner = Widen()
    FoldedUNet(inner, (2, 2))(image)
    torch.testing.assert_close(inner.seen.contiguous(), nn.functional.pixel_unshuffle(image, 2))


@pytest.mark.parametrize(("ndim", "fold"), [(2, 1), (2, 2), (2, 4), (3, 1), (3, 2)])
def test_there_is_one_answer_per_voxel_and_label(ndim: int, fold: int) -> None:
    assert make(ndim, fold)(torch.rand(2, 1, *[16] * ndim)).shape == (2, 2, *[16] * ndim)


def test_weights_come_from_the_generator_and_nowhere_else() -> None:
    state = torch.random.get_rng_state()
    one, two, other = (weights_of(make(seed=s)) for s in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(one[name], two[name]) for name in one)
    kernels = [name for name, value in one.items() if value.ndim == 4]
    assert not any(torch.equal(one[name], other[name]) for name in kernels)
    spread = [float(one[name].std() * np.sqrt(one[name][0].numel() / 2)) for name in kernels if one[name].numel() > 500]
    np.testing.assert_allclose(spread, 1, atol=0.15)  # He: variance 2 / fan-in


def test_weights_are_copied_whole_or_not_at_all() -> None:
    source, target = make(seed=1), make(seed=2)
    set_weights(target, weights_of(source))
    x = torch.rand(1, 1, 16, 16)
    assert torch.equal(source.eval()(x), target.eval()(x))
    with pytest.raises(ValueError, match="do not fit"):
        set_weights(make(fold=1), weights_of(source))


def test_one_thread_inside_and_as_before_outside() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with one_thread("cpu"):
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 2
        with pytest.raises(RuntimeError), one_thread("cpu"):
            raise RuntimeError
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_a_slice_has_no_third_axis_for_the_network() -> None:
    array = np.arange(24, dtype=np.uint8).reshape(1, 2, 3, 4, 1)
    tensor = as_input(array, 2, "cpu")
    assert tensor.shape == (1, 2, 3, 4)
    assert tensor.dtype == torch.float32
    np.testing.assert_array_equal(tensor.numpy(), array[..., 0])


def loss_of(kind: Loss, logits: torch.Tensor, target: torch.Tensor, **changed: torch.Tensor) -> float:
    counted = changed.get("counted", torch.ones_like(logits[:, :1]))
    weights = changed.get("weights", torch.ones(len(logits)))
    return float(segmentation_loss(logits, target, counted, weights, kind))


def test_losses_have_their_closed_forms() -> None:
    target = torch.zeros(2, 1, 4, 4)
    target[:, :, :2] = 1
    undecided = torch.zeros_like(target)
    assert loss_of("bce", undecided, target) == pytest.approx(np.log(2), rel=1e-6)
    # 32 voxels at 1/2, 16 of them labelled: (2 * 8 + 1) / (16 + 16 + 1).
    assert loss_of("dice", undecided, target) == pytest.approx(1 - 17 / 33, rel=1e-6)
    both = loss_of("dice", undecided, target) + loss_of("bce", undecided, target)
    assert loss_of("dice+bce", undecided, target) == pytest.approx(both, rel=1e-6)
    assert loss_of("dice+bce", 50 * (2 * target - 1), target) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("kind", ["bce", "dice", "dice+bce"])
def test_only_counted_voxels_and_weighted_patches_matter(kind: Loss) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 2, 6, 6, generator=generator)
    target = (torch.rand(3, 2, 6, 6, generator=generator) > 0.5).float()
    counted = torch.ones(3, 1, 6, 6)
    counted[:, :, :, 3:] = 0
    changed = logits.clone()
    changed[..., 3:] += 5
    assert loss_of(kind, changed, target, counted=counted) == pytest.approx(
        loss_of(kind, logits, target, counted=counted), rel=1e-6
    )
    weights = torch.tensor([1.0, 0.0, 3.0])
    some = loss_of(kind, logits, target, weights=weights)
    assert loss_of(kind, logits, target, weights=10 * weights) == pytest.approx(some, rel=1e-5)
    changed = logits.clone()
    changed[1] += 5
    assert loss_of(kind, changed, target, weights=weights) == pytest.approx(some, rel=1e-6)
    assert loss_of(kind, logits, target) != pytest.approx(some, rel=1e-3)

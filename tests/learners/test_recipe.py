from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from equipoise.core.registry import make, spec_of
from equipoise.errors import PlanError
from equipoise.learners.recipe import COMMON, PRESETS, SMALLEST, grid_for, learning_rate_at
from equipoise.learners.unet import UNet


def test_a_preset_fills_only_what_the_plan_leaves_open() -> None:
    recipe = UNet(preset="gpu", batch=4).recipe(2)
    assert recipe.batch == 4
    expected = {**COMMON, **PRESETS["gpu"][2], "batch": 4}
    assert {name: getattr(recipe, name) for name in expected} == expected


@pytest.mark.parametrize("preset", sorted(PRESETS))
@pytest.mark.parametrize("ndim", [2, 3])
def test_a_preset_leaves_nothing_open(preset: str, ndim: int) -> None:
    recipe = UNet(preset=preset).recipe(ndim)  # type: ignore[arg-type]
    assert len(recipe.patch) == ndim
    assert all(getattr(recipe, name) is not None for name in recipe.__slots__ if name != "window")


def test_a_plan_makes_it_by_name() -> None:
    learner = make("learners", {"kind": "unet", "preset": "gpu", "batch": 4, "patch": [64, 96]})
    assert learner == UNet(preset="gpu", batch=4, patch=(64, 96))
    assert make("learners", spec_of(learner)) == learner


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"preset": "cpu-smal"}, "cpu-small"),
        ({"patch": 0}, "patch"),
        ({"patch": (8, 8, 8, 8)}, "patch"),
        ({"batch": 0}, "batch"),
        ({"fold": 0}, "fold"),
        ({"channels": (8, 16)}, "channels"),
        ({"channels": (8, 0, 8)}, "channels"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"weight_decay": -1.0}, "weight_decay"),
        ({"foreground": 1.5}, "foreground"),
        ({"normalise": "window"}, "window"),
        ({"window": (240.0, -160.0)}, "window"),
        ({"overlap": 1.0}, "overlap"),
        ({"finetune": 0.0}, "finetune"),
    ],
)
def test_a_wrong_value_is_named_when_the_plan_is_read(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(PlanError, match=message):
        UNet(**wrong)  # type: ignore[arg-type]


def test_a_patch_of_other_axes_than_the_images_is_refused() -> None:
    with pytest.raises(PlanError, match="2 lengths"):
        UNet(patch=(32, 32)).recipe(3)


@given(
    st.lists(st.integers(1, 400), min_size=2, max_size=3),
    st.lists(st.integers(1, 400), min_size=3, max_size=3),
    st.integers(1, 4),
    st.integers(3, 6),
)
def test_every_patch_can_be_folded_and_halved(patch: list[int], shape: list[int], fold: int, levels: int) -> None:
    grid = grid_for(patch, [shape[: len(patch)]], fold, levels)
    assert 3 <= len(grid.strides) <= levels
    whole = np.prod(grid.strides, axis=0) * grid.fold
    for length, asked, image, unit in zip(grid.patch, patch, shape, whole, strict=False):
        assert length % unit == 0
        assert min(asked, image) <= length < min(asked, image) + unit  # rounded up, never by a whole unit
        assert unit == 1 or length // unit >= SMALLEST


def test_the_usual_patches_stay_as_they_are() -> None:
    grid = grid_for((96, 96), [(565, 584)], 2, 4)
    assert grid.patch == (96, 96)
    assert grid.strides == ((1, 1), (2, 2), (2, 2), (2, 2))


def test_a_thin_volume_is_pooled_in_plane_only() -> None:
    grid = grid_for((64, 64, 64), [(128, 128, 5)], 2, 4)
    assert grid.patch == (64, 64, 5)
    assert grid.fold == (2, 2, 1)
    assert all(stride[2] == 1 for stride in grid.strides)


def test_the_learning_rate_rises_to_its_peak_and_falls_to_a_hundredth() -> None:
    rates = [learning_rate_at(step, 100, 2.0) for step in range(100)]
    assert rates[0] == pytest.approx(0.2)
    assert max(rates) == rates[10] == pytest.approx(2.0)
    assert rates[-1] == pytest.approx(0.02)
    assert np.all(np.diff(rates[:11]) > 0)
    assert np.all(np.diff(rates[10:]) < 0)
    assert learning_rate_at(0, 1, 1.0) > 0

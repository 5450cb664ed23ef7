from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from equipoise.core import Case, Image, LabelMap, LabelScheme, Mix, Origin, Split, TrainingSet, rng_for
from equipoise.learners.extent import typical_extent
from equipoise.learners.recipe import COMMON, LARGEST_FOLD, LEAST_BATCH, PRESETS, Recipe, fill, grid_for, with_room
from equipoise.learners.unet import UNet

SCHEME = LabelScheme.of(["thing"])


def drawn(name: str, mask: np.ndarray, spacing: Sequence[float] = (1.0, 1.0, 1.0), made: bool = False) -> Case:
    """A noisy image that is brighter where the mask is."""
    pixels = mask[None].astype(np.float32) + rng_for(0, name).normal(0, 0.1, (1, *mask.shape)).astype(np.float32)
    image = Image(pixels, np.diag([*spacing, 1.0]))
    origin = Origin("synthetic", "test", parents=frozenset({"a"})) if made else Origin()
    patient = f"made-{name}" if made else name
    return Case(name, patient, image, LabelMap.on(image.geometry, mask[None].astype(np.uint8), SCHEME), origin)


def oval(shape: tuple[int, ...], axes: tuple[float, ...], centre: tuple[float, ...] | None = None) -> np.ndarray:
    """A filled ellipse or ellipsoid with these diameters."""
    middle = centre or tuple((n - 1) / 2 for n in shape)
    grid = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")
    inside = sum(((x - m) / (d / 2)) ** 2 for x, m, d in zip(grid, middle, axes, strict=True)) <= 1
    return inside if inside.ndim == 3 else inside[..., None]


def net(shape: tuple[int, int] = (320, 320), width: int = 5) -> np.ndarray:
    """Connected vessels from edge to edge."""
    mask = np.zeros((*shape, 1), bool)
    for at in range(20, min(shape), 70):
        mask[at : at + width] = True
        mask[:, at : at + width] = True
    return mask


def recipe_on(cases: Sequence[Case], **stated: object) -> Recipe:
    split = Split(frozenset(c.patient for c in cases), frozenset(), frozenset())
    training = TrainingSet(tuple(cases), (), Mix(), split)
    small = {"channels": (4, 8, 8)}
    return UNet(**{**small, **stated}).fit(training, (), 1, rng_for(0, "fit")).recipe  # type: ignore[arg-type]


@pytest.mark.parametrize("diameters", [(150.0, 110.0), (60.0, 60.0), (200.0, 180.0)])
def test_a_filled_oval_is_as_large_as_its_box(diameters: tuple[float, float]) -> None:
    found = typical_extent([drawn("a", oval((320, 260), diameters))], 2)
    np.testing.assert_allclose(found, diameters, rtol=0.05)


def test_vessels_over_the_whole_image_are_as_large_as_a_short_piece_of_them() -> None:
    assert max(typical_extent([drawn("a", net())], 2)) < 40


def test_a_large_structure_counts_among_small_ones_and_beside_vessels() -> None:
    mask = oval((320, 320), (140.0, 120.0)) | oval((320, 320), (20.0, 20.0), (290.0, 290.0))
    np.testing.assert_allclose(typical_extent([drawn("a", mask)], 2), (140, 120), rtol=0.05)
    scheme = LabelScheme.of(["vessel", "organ"], exclusive=False)
    case = drawn("b", mask)
    truth = LabelMap.on(case.image.geometry, np.stack([net(), mask]).astype(np.uint8), scheme)
    np.testing.assert_allclose(typical_extent([replace(case, truth=truth)], 2), (140, 120), rtol=0.05)


def test_a_thick_slice_is_measured_in_millimetres_and_told_in_voxels() -> None:
    flat = drawn("a", oval((120, 120, 16), (80.0, 80.0, 10.0)), (1.0, 1.0, 8.0))  # a ball of 80 mm
    np.testing.assert_allclose(typical_extent([flat], 3), (80, 80, 10), rtol=0.1)


def test_typical_is_the_median_over_cases_that_have_the_label() -> None:
    empty = drawn("e", np.zeros((320, 320, 1), bool))
    ovals = [drawn(str(d), oval((320, 320), (d, d))) for d in (100.0, 120.0, 300.0)]
    np.testing.assert_allclose(typical_extent([empty, *ovals], 2), (120, 120), rtol=0.05)
    assert typical_extent([empty, empty.without_truth()], 2) == (0.0, 0.0)
    assert typical_extent([], 2) == (0.0, 0.0)


def test_a_structure_cut_by_the_edge_is_no_larger_than_what_is_seen() -> None:
    cut = drawn("a", oval((320, 320), (200.0, 200.0), (0.0, 160.0)))
    np.testing.assert_allclose(typical_extent([cut], 2), (100, 200), rtol=0.06)


@pytest.mark.parametrize("preset", sorted(PRESETS))
@pytest.mark.parametrize("ndim", [2, 3])
def test_a_patch_holds_the_structure_at_no_more_than_the_presets_cost(preset: str, ndim: int) -> None:
    usual = fill({}, preset, ndim)
    cost = usual.batch * grid_for(usual.patch, [(2000,) * ndim], usual.fold, len(usual.channels)).positions
    for share in (1.01, 1.3, 1.6, 2.2, 4.0):
        extent = tuple(share * n for n in usual.patch)
        recipe = with_room(usual, extent, [(2000,) * ndim], ())
        grid = grid_for(recipe.patch, [(2000,) * ndim], recipe.fold, len(recipe.channels))
        assert grid.patch == recipe.patch
        assert recipe.batch * grid.positions <= cost
        assert recipe.fold <= LARGEST_FOLD
        assert recipe.batch >= min(LEAST_BATCH, usual.batch)
        assert all(n >= m for n, m in zip(recipe.patch, usual.patch, strict=True))
        if share <= 1.3:
            assert all(n >= e for n, e in zip(recipe.patch, extent, strict=True))


def test_thin_volumes_that_cannot_be_folded_end_in_a_recipe_too() -> None:
    usual = fill({"patch": (12, 12, 96)}, "cpu-small", 3)
    found = with_room(usual, (40.0, 13.0, 400.0), [(60, 14, 500)], ())
    assert found.batch == usual.batch
    assert all(n >= m for n, m in zip(found.patch, (12, 12, 96), strict=True))


def test_a_structure_that_the_preset_holds_changes_nothing() -> None:
    usual = fill({}, "cpu-small", 2)
    assert with_room(usual, usual.patch, [(2000, 2000)], ()) is usual
    cases = [drawn(str(i), oval((200, 160), (90.0, 80.0))) for i in range(2)]
    assert recipe_on(cases).patch == (96, 96)
    assert recipe_on([drawn("v", net())]).patch == (96, 96)


def test_the_recipe_follows_large_structures_and_stated_values_win() -> None:
    heads = [drawn(str(i), oval((320, 216), (160.0, 140.0))) for i in range(3)]
    found = recipe_on(heads, channels=None)
    assert found.fold == 4
    assert LEAST_BATCH <= found.batch < 8
    assert all(160 <= n <= 320 for n in found.patch)
    for stated in (
        {"patch": 64},
        {"patch": (64, 96)},
        {"fold": 2},
        {"batch": 2},
        {"patch": 128, "fold": 4, "batch": 3},
    ):
        recipe = recipe_on(heads, **stated)
        for name, value in stated.items():
            wanted = value if name != "patch" or isinstance(value, tuple) else (value, value)
            assert getattr(recipe, name) == wanted, stated
    alone = recipe_on(heads, patch=64)
    assert (alone.fold, alone.batch) == (PRESETS["cpu-small"][2]["fold"], PRESETS["cpu-small"][2]["batch"])


def test_real_cases_decide_and_only_drawn_ones_become_parents() -> None:
    real = tuple(drawn(name, oval((240, 240), (60.0, 60.0))) for name in "ab")
    made = tuple(drawn(f"s{i}", oval((240, 240), (160.0, 160.0)), made=True) for i in range(2))
    split = Split(frozenset("ab"), frozenset(), frozenset())
    learner = UNet(channels=(4, 8, 8))
    mixed = learner.fit(TrainingSet(real, made, Mix(synthetic=1), split), (), 1, rng_for(0, "fit"))
    assert mixed.recipe.patch == (96, 96)
    alone = learner.fit(TrainingSet(real, made, Mix(real=0, synthetic=1), split), (), 1, rng_for(0, "fit"))
    assert min(alone.recipe.patch) > 160
    assert alone.parents == frozenset("a")
    then = learner.fit(TrainingSet(real, (), Mix(), split), (), 1, rng_for(1, "fit"), start=alone)
    assert (then.recipe.patch, then.recipe.fold, then.recipe.batch) == (
        alone.recipe.patch,
        alone.recipe.fold,
        alone.recipe.batch,
    )


def test_a_stream_is_measured_too_and_trains_on_fresh_cases() -> None:
    real = tuple(drawn(name, oval((240, 240), (150.0, 150.0))) for name in "ab")
    split = Split(frozenset("ab"), frozenset(), frozenset())

    def stream(rng: np.random.Generator) -> itertools.chain[Case]:
        sizes = (rng.uniform(140, 160) for _ in itertools.count())
        cases = (drawn(f"f{rng.integers(1 << 40)}", oval((240, 240), (d, d)), made=True) for d in sizes)
        return itertools.chain(cases)

    training = TrainingSet(real, (), Mix(real=0, synthetic=1), split, stream)
    model = UNet(channels=(4, 8, 8)).fit(training, (), 2, rng_for(0, "fit"))
    assert min(model.recipe.patch) >= 192
    assert model.record.distinct_synthetic == model.record.draws == 2 * model.recipe.batch


@pytest.mark.slow
def test_it_finds_what_the_presets_patch_cannot_hold() -> None:
    """A dark disc with a bright rim: inside, only the rim tells the disc from the dark ground around it."""
    cases = []
    for i in range(6):
        centre = tuple(rng_for(i, "ring").uniform(110, 130, 2))
        disc = oval((240, 240), (170.0, 170.0), centre)
        ring = disc & ~oval((240, 240), (160.0, 160.0), centre)
        cases.append(replace(drawn(str(i), ring), truth=None))
        image = cases[-1].image
        cases[-1] = replace(cases[-1], truth=LabelMap.on(image.geometry, disc[None].astype(np.uint8), SCHEME))
    split = Split(frozenset("0123"), frozenset(), frozenset("45"))
    scores = {}
    for patch in (96, None):
        model = UNet(patch=patch).fit(TrainingSet(tuple(cases[:4]), (), Mix(), split), (), 30, rng_for(0, "fit"))
        overlap = []
        for case in cases[4:]:
            a, b = case.labels.masks(), model.predict(case.image).masks()
            overlap.append(2 * (a & b).sum() / (a.sum() + b.sum()))
        scores[patch] = np.mean(overlap)
    assert scores[None] > scores[96] + 0.05
    assert scores[None] > 0.7


@pytest.mark.parametrize("shape", [(40, 36, 1), (20, 18, 14)])
def test_the_gpu_preset_builds_and_takes_a_step_on_the_cpu(shape: tuple[int, int, int]) -> None:
    sides = tuple(0.6 * n for n in shape if n > 1)
    cases = tuple(drawn(name, oval(tuple(n for n in shape if n > 1), sides)) for name in "ab")
    split = Split(frozenset("ab"), frozenset(), frozenset())
    learner = UNet(preset="gpu", device="cpu", batch=1)
    model = learner.fit(TrainingSet(cases, (), Mix(), split), (), 1, rng_for(0, "fit"))
    wanted = {**COMMON, **PRESETS["gpu"][len(sides)], "device": "cpu", "batch": 1}
    assert {n: getattr(model.recipe, n) for n in wanted if n != "patch"} == {
        n: v for n, v in wanted.items() if n != "patch"
    }
    assert model.probability(cases[0].image).shape == (1, *shape)
    before = UNet(preset="gpu", device="cpu", batch=1, learning_rate=1e-9)
    still = before.fit(TrainingSet(cases, (), Mix(), split), (), 1, rng_for(0, "fit"))
    assert any(not np.allclose(w, still.weights()[n], atol=1e-5) for n, w in model.weights().items())

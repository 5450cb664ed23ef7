from __future__ import annotations

import math
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest

from equipoise.core import rng_for
from equipoise.core.registry import spec_of
from equipoise.engines.augmentation import operations
from equipoise.engines.augmentation.acquisition_steps import (
    Ghost,
    Illumination,
    Restain,
    RicianNoise,
    Speckle,
    Spike,
)
from equipoise.engines.augmentation.classical import Classical
from equipoise.engines.augmentation.operations import MODALITIES, OPERATIONS, draw_step, operations_for
from equipoise.engines.augmentation.policies import Rand, Searched, Trivial
from equipoise.engines.augmentation.randomised import Randomised
from equipoise.engines.augmentation.search import density_utility, search, steps_each
from equipoise.engines.augmentation.stain import stain_vectors
from equipoise.engines.augmentation.steps import Blur, Mirror, Move, Shade, Window, apply
from equipoise.errors import DataError, EngineError, PlanError

SHAPES = [(1, 33, 38, 1), (3, 33, 38, 1), (1, 17, 21, 19)]
MOVING = {"rotate", "zoom", "elastic"}
FOUND: dict[str, Any] = {"operations": ("noise", "rotate"), "weights": (3.0, 1.0), "strengths": (0.5, 1.0)}


def patch(shape: tuple[int, ...], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A smooth normalised patch with a block in it, and the block."""
    labels = np.zeros((1, *shape[1:]), np.uint8)
    labels[:, 4:13, 6:16, : max(1, shape[3] // 2)] = 1
    image, _ = Blur((1.0, 1.0, 1.0))(rng_for(seed, "patch").standard_normal(shape, dtype=np.float32), labels)
    image = image + labels
    return ((image - image.mean()) / image.std()).astype(np.float32), labels


# ---------------------------------------------------------------- operations


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_changes_more_with_more_strength_and_moves_labels_only_if_it_moves(
    name: str, shape: tuple[int, ...]
) -> None:
    if OPERATIONS[name].colours and shape[0] != 3:
        assert name not in operations.possible([name], shape)
        return
    image, labels = patch(shape)
    size = []
    for strength in (0.1, 1.0):
        found = []
        for seed in range(12):
            step = draw_step(name, shape, strength, (1.0, 1.0, 1.0), rng_for(seed, name))
            changed, moved = apply([step], image.copy(), labels.copy())
            assert changed.shape == image.shape
            assert changed.dtype == np.float32
            assert moved.dtype == labels.dtype
            assert np.isfinite(changed).all()
            if name not in MOVING:
                np.testing.assert_array_equal(moved, labels)
            found.append(float(np.abs(changed - image).mean()))
        size.append(float(np.mean(found)))
    assert size[1] > 0.02, "no measurable effect"
    assert size[1] > 1.5 * size[0]
    assert draw_step(name, shape, 0.0, (1.0, 1.0, 1.0), rng_for(0)) is None


def test_impossible_operations_are_left_out_of_a_modality() -> None:
    spaces = {modality: set(operations_for(modality)) for modality in MODALITIES}
    assert {"rician", "ghosting", "spike"} <= spaces["mri"]
    assert not {"rician", "ghosting", "spike", "speckle", "stain"} & (spaces["ct"] | spaces["fundus"] | spaces["any"])
    assert "window" in spaces["ct"]
    assert "window" not in spaces["mri"]
    assert "speckle" in spaces["ultrasound"]
    assert {"stain", "illumination"} <= spaces["histology"]
    assert "illumination" in spaces["fundus"]
    assert "stain" not in spaces["fundus"]
    assert all(spaces["any"] < space for m, space in spaces.items() if m != "any")


@pytest.mark.parametrize("name", sorted(MOVING))
def test_labels_move_with_the_image(name: str) -> None:
    for shape in SHAPES:
        _, labels = patch(shape)
        picture = np.repeat(labels.astype(np.float32), shape[0], axis=0)
        for seed in range(4):
            changed, moved = apply([draw_step(name, shape, 1.0, (1, 1, 1), rng_for(seed))], picture.copy(), labels)
            inside = (changed[0] > 0.5) & (moved[0] > 0)
            assert 2 * inside.sum() / max((changed[0] > 0.5).sum() + moved[0].sum(), 1) > 0.93


# ---------------------------------------------------------------- acquisition: closed forms


def test_rician_noise_of_nothing_is_rayleigh() -> None:
    image = np.zeros((1, 200, 200, 1), np.float32)
    changed, _ = RicianNoise(2.0, 5)(image, np.zeros((1, 200, 200, 1), np.uint8))
    # Mean sd * sqrt(pi / 2); 40,000 samples of SD 0.66 sd each.
    assert abs(float(changed.mean()) - 2 * math.sqrt(math.pi / 2)) < 5 * 0.66 * 2 / 200


def test_full_speckle_is_rayleigh_on_a_logarithmic_scale() -> None:
    image = np.full((1, 200, 200, 1), 1.0, np.float32)
    image[0, 0, 0] = 0  # the black end of the scale
    changed, _ = Speckle(1.0, (0.0, 0.0, 0.0), 3)(image, image.astype(np.uint8))
    nepers = (changed[0, 1:] - changed[0, 1:].mean()) * 60 * math.log(10) / 20
    # The logarithm of a Rayleigh amplitude has an SD of pi / sqrt(24) whatever its power.
    assert abs(float(nepers.std()) - math.pi / math.sqrt(24)) < 0.02
    assert abs(float(changed.mean() - image.mean())) < 0.01  # same brightness


def test_nothing_echoes_where_nothing_is() -> None:
    image = np.zeros((1, 20, 20, 1), np.float32)
    image[:, 10:] = 1
    changed, _ = Speckle(1.0, (1.0, 1.0, 1.0), 3)(image.copy(), image)
    np.testing.assert_array_equal(changed[:, :10], 0)
    assert changed[:, 10:].std() > 0.05


@pytest.mark.parametrize("axis", [0, 1])
def test_a_ghost_is_a_copy_moved_along_its_axis(axis: int) -> None:
    image = np.zeros((1, 40, 40, 1), np.float32)
    image[0, 20, 20] = 1
    changed, _ = Ghost(axis, 2, 1.0)(image.copy(), image)
    # Without every second line, half of the point is seen half a field of view away.
    place = [0, 20, 20, 0]
    place[axis + 1] = 0
    assert float(changed[tuple(place)]) == pytest.approx(0.5, abs=0.04)
    assert float(changed[0, 20, 20, 0]) == pytest.approx(0.5, abs=0.04)
    elsewhere = changed.copy()
    elsewhere[tuple(place)] = elsewhere[0, 20, 20, 0] = 0
    assert float(elsewhere.max()) < 0.04


def test_a_spike_is_one_line_of_the_spectrum() -> None:
    rng = rng_for(0)
    image = 10 + rng.random((1, 40, 40, 1), dtype=np.float32)
    image[0, 0, 0] = 0
    changed, _ = Spike((0.25, 0.1, 0.0), 0.3, 0.6)(image.copy(), image)
    spectrum = np.abs(np.fft.fft2((changed - image)[0, :, :, 0]))
    peak = np.unravel_index(spectrum.argmax(), spectrum.shape)
    assert [min(int(p), 40 - int(p)) for p in peak] == [10, 4]
    # Half of amplitude x voxels lies on either side of zero frequency.
    assert float(spectrum.max()) == pytest.approx(0.5 * 0.6 * float(image.std()) * 1600, rel=0.01)


def test_a_window_keeps_its_part_and_cuts_the_rest() -> None:
    image = np.linspace(-1, 3, 401, dtype=np.float32).reshape(1, -1, 1, 1)
    changed, _ = Window(0.25, 0.75)(image.copy(), image)
    np.testing.assert_allclose(changed.ravel(), np.clip(-1 + 2 * (image.ravel() - 0), -1, 3), atol=1e-5)


def test_the_lamp_and_the_coil_leave_black_black() -> None:
    image, labels = patch(SHAPES[0])
    low = image.min()
    for step in (
        Illumination((0.2, -0.1), 0.7, (0.1, 0.0)),
        Shade(rng_for(0).standard_normal((1, 6, 6, 1), dtype=np.float32), (16.0, 16.0, 16.0)),
    ):
        changed, _ = step(image.copy(), labels)
        assert changed.min() == pytest.approx(low, abs=1e-5)
        assert np.abs(changed - image).mean() > 0.05
    light = Illumination((0.0, 0.0), 0.5, (0.0, 0.0)).light((1, 41, 41, 1))
    assert light[20, 20] == pytest.approx(1.0)
    assert light[0, 20] == pytest.approx(0.75)  # 1 - amount / 2 at a distance of 1


def stained(thick: float = 1.0, shape: tuple[int, int] = (80, 80)) -> tuple[np.ndarray, np.ndarray]:
    """Light through a section of two stains of known colour, and these colours as columns."""
    vectors = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11]]).T
    vectors /= np.linalg.norm(vectors, axis=0)
    amounts = thick * rng_for(1, "stain").gamma(1.0, 0.5, (2, *shape))
    amounts[:, :8] = 0  # glass
    light = np.exp(-np.einsum("cs,sij->cij", vectors, amounts))
    return light[..., None].astype(np.float32), vectors


def test_two_stains_are_found() -> None:
    light, vectors = stained(0.6)
    found = stain_vectors(-np.log(light.reshape(3, -1)))
    angles = [math.degrees(math.acos(min(float(found[:, n] @ vectors[:, n]), 1.0))) for n in range(2)]
    assert max(angles) < 3  # 1st and 99th percentile of the mixtures, not their ends
    np.testing.assert_array_equal(stain_vectors(np.zeros((3, 100))), np.eye(3))


def test_restaining_leaves_glass_clear_and_darkens_what_takes_up_stain() -> None:
    light, _ = stained()
    image = (light - light.mean()) / light.std()
    none, _ = Restain(np.ones(2), np.zeros(2))(image.copy(), light)
    np.testing.assert_allclose(none, image, atol=1e-4)
    more, _ = Restain(np.array([1.5, 1.5]), np.zeros(2))(image.copy(), light)
    np.testing.assert_allclose(more[:, :8], image[:, :8], atol=1e-3)
    assert (more[:, 8:] - image[:, 8:]).mean() < -0.1


# ---------------------------------------------------------------- policies


POLICIES: dict[str, Any] = {"trivial": Trivial(), "rand": Rand(), "searched": Searched(**FOUND)}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", POLICIES)
def test_a_policy_keeps_to_its_stream_and_leaves_what_it_is_given(name: str, shape: tuple[int, ...]) -> None:
    policy, (image, labels) = POLICIES[name], patch(shape)
    kept = image.copy(), labels.copy()
    runs = [[policy(image, labels, rng_for(seed, n))[0] for n in range(4)] for seed in (1, 1, 2)]
    np.testing.assert_array_equal(runs[0], runs[1])
    assert not np.array_equal(runs[0], runs[2])
    np.testing.assert_array_equal(image, kept[0])
    np.testing.assert_array_equal(labels, kept[1])
    assert type(policy)(**{k: _tuples(v) for k, v in spec_of(policy).items() if k != "kind"}) == policy


def _tuples(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def test_trivial_does_one_operation_or_none_all_alike() -> None:
    policy, names = Trivial(modality="ct"), operations_for("ct")
    rng, count = rng_for(0), 3000
    drawn = [policy.draw((1, 32, 32, 1), rng) for _ in range(count)]
    assert all(len(steps) == 2 and steps[0] is None for steps in drawn)
    share = 1 / (len(names) + 1)
    tolerance = 4 * math.sqrt(share * (1 - share) / count)
    assert abs(np.mean([s[1] is None for s in drawn]) - share) < tolerance
    assert abs(np.mean([isinstance(s[1], Window) for s in drawn]) - share) < tolerance
    weak = replace(policy, operations=("blur",), strength=0.2)
    sigmas = [s.sigma[0] for _, s in (weak.draw((1, 32, 32, 1), rng) for _ in range(400)) if isinstance(s, Blur)]
    assert 0.25 < max(sigmas) <= 0.3  # 0.2 of 1.5 voxels
    assert min(sigmas) < 0.05


def test_rand_does_as_many_as_asked_at_one_strength() -> None:
    policy = Rand(count=3, strength=0.5, operations=("blur",))
    for n in range(5):
        _, *steps = policy.draw((1, 32, 32, 1), rng_for(n))
        assert [s.sigma[0] for s in steps if isinstance(s, Blur)] == [0.75] * 3
    image, labels = patch(SHAPES[0])
    np.testing.assert_array_equal(replace(policy, strength=0.0)(image, labels, rng_for(0))[0], image)


def test_searched_draws_by_its_weights_below_its_strengths() -> None:
    policy, rng = Searched(**FOUND, count=1), rng_for(0)
    drawn = [policy.draw((1, 32, 32, 1), rng)[1] for _ in range(2000)]
    assert abs(np.mean([isinstance(s, Move) for s in drawn]) - 0.25) < 4 * math.sqrt(0.25 * 0.75 / 2000)
    noises: list[Any] = [s for s in drawn if s is not None and not isinstance(s, Move)]
    assert 0.14 < max(s.sd for s in noises) <= 0.15  # 0.5 of 0.3


@pytest.mark.parametrize("name", POLICIES)
def test_only_allowed_axes_are_mirrored_and_thick_slices_turn_in_plane(name: str) -> None:
    policy = replace(POLICIES[name], flip=(1,))
    mirrors = [policy.draw((1, 20, 20, 20), rng_for(n))[0] for n in range(200)]
    assert {m.axes for m in mirrors if isinstance(m, Mirror)} == {(1,)}
    assert abs(np.mean([m is not None for m in mirrors]) - 0.5) < 4 * 0.5 / math.sqrt(200)
    thick = {"operations": ("rotate",), "spacing": (1.0, 1.0, 5.0)}
    if name == "searched":
        thick |= {"weights": (1.0,), "strengths": (1.0,)}
    for n in range(20):
        for step in replace(policy, flip=(), **thick).draw((1, 20, 20, 20), rng_for(n)):
            if isinstance(step, Move):
                np.testing.assert_allclose(step.matrix[2], [0, 0, 1])


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Trivial(modality="mrt"), "mri"),
        (lambda: Trivial(operations=("rotat",)), "rotate"),
        (lambda: Trivial(modality="ct", operations=("stain",)), "histology"),
        (lambda: Trivial(strength=1.5), "from 0 to 1"),
        (lambda: Trivial(flip=(3,)), "axes"),
        (lambda: Rand(spacing=(1.0, 0.0, 1.0)), "above 0"),
        (lambda: Rand(count=0), "1 or more"),
        (lambda: Searched(operations=("blur",), weights=(1.0, 2.0), strengths=(1.0,)), "2 weights"),
        (lambda: Searched(operations=("blur",), weights=(0.0,), strengths=(1.0,)), "not all 0"),
        (lambda: Searched(operations=("blur",), weights=(1.0,), strengths=(1.2,)), "from 0 to 1"),
        (lambda: Searched(share=1.0), "share"),
        (lambda: Searched(evaluations=3), "8 or more"),
        (lambda: Searched().draw((1, 8, 8, 1), rng_for(0)), "no weights yet"),
        (lambda: Randomised(share=2.0), "share"),
        (lambda: Randomised(contrast=-1.0), "contrast"),
        (lambda: Randomised(clusters=0), "clusters"),
        (lambda: Randomised(flip=(5,)), "axes"),
    ],
)
def test_wrong_parameters_are_named(make: Any, said: str) -> None:
    with pytest.raises(PlanError, match=said):
        make()


def test_image_and_labels_must_share_a_grid() -> None:
    with pytest.raises(DataError, match="one grid"):
        Trivial()(np.zeros((1, 8, 8, 1), np.float32), np.zeros((1, 8, 9, 1), np.uint8), rng_for(0))


# ---------------------------------------------------------------- domain randomisation


@pytest.mark.parametrize("shape", SHAPES)
def test_randomised_contrast_keeps_labels_mean_and_spread(shape: tuple[int, ...]) -> None:
    image, labels = patch(shape)
    still = Randomised(share=1.0)
    rises = []
    for seed in range(30):
        changed, moved = still(image, labels, rng_for(seed))
        assert np.isfinite(changed).all()
        np.testing.assert_allclose(changed.mean(axis=(1, 2, 3)), image.mean(axis=(1, 2, 3)), atol=0.35)
        assert float(changed.std()) < 1.15 * float(image.std())
        if moved.any() and not moved.all():
            rises.append(float(changed[0][moved[0] > 0].mean() - changed[0][moved[0] == 0].mean()))
    # In the image the block is always brighter; afterwards it may be darker, which is what randomisation is for.
    assert min(rises) < -0.1
    assert max(rises) > 0.5


@pytest.mark.parametrize(
    "change", [{"contrast": 0.0}, {"labels": 0.0}, {"acquisition": 0.0}, {"clusters": 1}, {"strength": 0.3}]
)
def test_every_option_of_randomisation_has_an_effect(change: dict[str, Any]) -> None:
    image, labels = patch(SHAPES[0])
    one, two = (x(image, labels, rng_for(3))[0] for x in (Randomised(share=1.0), Randomised(share=1.0, **change)))
    assert np.abs(one - two).mean() > 0.02


def test_randomisation_at_strength_zero_changes_shapes_only() -> None:
    image, labels = patch(SHAPES[0])
    calm = Randomised(strength=0.0, share=1.0)
    changed = [calm(image, labels, rng_for(n)) for n in range(12)]
    still = [c for c, m in changed if np.array_equal(m, labels)]
    assert still
    for c in still:
        np.testing.assert_allclose(c, image, atol=1e-3)


def test_the_share_that_is_not_randomised_is_classical() -> None:
    image, labels = patch(SHAPES[0])
    rng, same = rng_for(4), rng_for(4)
    same.random()
    np.testing.assert_array_equal(Randomised(share=0.0)(image, labels, rng)[0], Classical()(image, labels, same)[0])


# ---------------------------------------------------------------- the search


def hidden(policy: Any) -> float:
    """A world in which noise helps and everything else harms."""
    if isinstance(policy, Classical):
        return 0.4
    parts = zip(policy.operations, policy.weights, policy.strengths, strict=True)
    return float(sum(w * s * (1 if name == "noise" else -1) for name, w, s in parts))


def noisy(seed: int, sd: float) -> Any:
    rng = rng_for(seed, "utility")
    return lambda policy: hidden(policy) + sd * float(rng.standard_normal())


def test_the_search_finds_what_helps_and_beats_chance() -> None:
    wish = Searched(evaluations=48)
    gains = []
    for seed in range(8):
        found = search(wish, noisy(seed, 0.1), rng_for(seed))
        assert isinstance(found.policy, Searched)
        chance = [t.mean for t in found.tried if t.generation == 1]
        gains.append(hidden(found.policy) - float(np.mean(chance)))
    assert min(gains) > 0
    assert np.mean(gains) > 0.3


@pytest.mark.parametrize("evaluations", [8, 9, 15, 24, 60])
def test_the_search_never_spends_more_than_it_has(evaluations: int) -> None:
    calls: list[Any] = []

    def utility(policy: Any) -> float:
        calls.append(policy)
        return hidden(policy)

    found = search(Searched(evaluations=evaluations), utility, rng_for(1), each=7, reference=Classical())
    assert len(calls) == found.evaluations <= evaluations
    assert len(calls) > evaluations // 2
    assert found.steps == 7 * len(calls)
    assert sum(len(t.scores) for t in found.tried) == len(calls)
    assert found.tried[found.best].mean == max(t.mean for t in found.tried if t.generation != 1 or t.scores)


def test_the_search_repeats_and_keeps_its_record() -> None:
    one, two, three = (search(Searched(), noisy(0, 0.1), rng_for(s), reference=Classical()) for s in (1, 1, 2))
    assert one.as_dict() == two.as_dict()
    assert one.as_dict() != three.as_dict()
    assert one.as_dict()["tried"][one.best]["policy"] == spec_of(one.policy)
    assert {t.generation for t in one.tried} == {0, 1, 2}


def test_classical_wins_where_every_policy_harms() -> None:
    found = search(Searched(), lambda p: 1.0 if isinstance(p, Classical) else 0.0, rng_for(0), reference=Classical())
    assert found.policy == Classical()
    assert found.tried[found.best].generation == 0


def test_failed_evaluations_lose_and_only_failures_are_an_error() -> None:
    def fails(policy: Any) -> float:
        return math.nan if policy.weights[0] > 0.05 else 1.0

    found = search(Searched(), fails, rng_for(0))
    assert isinstance(found.policy, Searched)
    assert found.policy.weights[0] <= 0.05
    with pytest.raises(EngineError, match="none of the"):
        search(Searched(), lambda p: math.nan, rng_for(0))


def test_the_wish_is_kept_in_what_is_found() -> None:
    wish = Searched(operations=("blur", "noise"), count=3, flip=(0,), spacing=(1.0, 1.0, 3.0), evaluations=8)
    found = search(wish, hidden, rng_for(0)).policy
    assert isinstance(found, Searched)
    assert (found.operations, found.count, found.flip, found.spacing) == (("blur", "noise"), 3, (0,), (1.0, 1.0, 3.0))
    assert found.found
    assert not wish.found


def test_steps_of_an_evaluation_stay_within_the_share() -> None:
    for steps in (300, 301, 999):
        wish = Searched(share=0.25, evaluations=10)
        assert wish.evaluations * steps_each(wish, steps) <= 0.25 * steps
    with pytest.raises(PlanError, match="do not fit"):
        steps_each(Searched(), 40)


def test_density_matching_prefers_what_the_model_has_seen() -> None:
    # A "model" that recognises a block by its mean: noise does not disturb it, a large shift of grey values does.
    pairs = [patch(SHAPES[0])] * 8
    truth = float(pairs[0][0][:, pairs[0][1][0] > 0].mean())

    def score(image: np.ndarray, labels: np.ndarray) -> float:
        return -abs(float(image[:, labels[0] > 0].mean()) - truth)

    utility = density_utility(score, pairs, rng_for(0))
    noise, shift = (Rand(count=1, strength=1.0, operations=(name,)) for name in ("noise", "gain"))
    assert utility(noise) > utility(shift)
    chosen, tried = [], []
    for seed in range(6):
        found = search(Searched(operations=("noise", "gain"), count=1), utility, rng_for(seed))
        assert isinstance(found.policy, Searched)
        chosen.append(found.policy.weights[1] * found.policy.strengths[1])
        tried += [t.policy["weights"][1] * t.policy["strengths"][1] for t in found.tried]
    assert np.mean(chosen) < 0.6 * np.mean(tried)


def test_every_field_of_the_policies_is_under_test() -> None:
    shared = {"modality", "operations", "flip", "spacing"}
    assert {f.name for f in fields(Trivial)} == shared | {"strength"}
    assert {f.name for f in fields(Rand)} == shared | {"strength", "count"}
    assert {f.name for f in fields(Searched)} == shared | {"weights", "strengths", "count", "share", "evaluations"}

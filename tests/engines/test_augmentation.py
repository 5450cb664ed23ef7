from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import fields, replace
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from equipoise.core import Case, ClassLabel, Geometry, Image, LabelMap, LabelScheme, LazyVoxels, rng_for
from equipoise.core.registry import canonical, spec_of
from equipoise.engines.augmentation.beyond import Augmentation
from equipoise.engines.augmentation.classical import Classical
from equipoise.engines.augmentation.tissue import dress_labels, dress_tissue, learn
from equipoise.engines.parts import appearance, warp
from equipoise.errors import DataError, EngineError, EquipoiseError, PlanError
from equipoise.testing.engine_contract import phantom_cases

SHAPES = [(1, 33, 38, 1), (3, 33, 38, 1), (2, 17, 21, 19)]


def random_image(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return rng_for(seed, "image").standard_normal(shape, dtype=np.float32)


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * float((a & b).sum()) / float(a.sum() + b.sum())


def scene(case: Case) -> tuple[np.ndarray, np.ndarray]:
    return case.image.array, case.labels.array


def one_change(**on: Any) -> Augmentation:
    """The engine with nothing but the named change, always and at full strength."""
    never: dict[str, Any] = {f.name: 0.0 for f in fields(Augmentation) if f.name.startswith("p_")}
    return Augmentation(**{"strength": 1.0, **never, **on})


def make(engine: Augmentation, cases: Sequence[Case], n: int = 1, seed: int = 0) -> list[Case]:
    return list(engine.fit(cases, rng_for(0, "fit")).sample(n, rng_for(seed, "sample")))


# ---------------------------------------------------------------- shared arithmetic: fields and warps


@pytest.mark.parametrize("shape", [(33, 38, 1), (17, 21, 19)])
def test_a_field_of_linear_nodes_is_linear(shape: tuple[int, int, int]) -> None:
    step = (5.0, 7.5, 6.0)
    places = np.meshgrid(*(np.arange(n) - 1.0 for n in warp.node_counts(shape, step)), indexing="ij")
    slopes = (0.3, -0.2, 0.1 if shape[2] > 1 else 0.0)
    nodes = 2 + sum(a * p * s for a, p, s in zip(slopes, places, step, strict=True))
    voxels = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")
    expected = 2 + sum(a * v for a, v in zip(slopes, voxels, strict=True))
    # Cubic B-splines reproduce straight lines; what is left is single precision.
    np.testing.assert_allclose(warp.smooth_field(nodes[None].astype(np.float32), step, shape)[0], expected, atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("bent", [False, True])
def test_warp_agrees_with_scipy(shape: tuple[int, ...], bent: bool) -> None:
    rng = rng_for(1, shape, bent)
    image, labels = random_image(shape), rng.integers(0, 5, (2, *shape[1:])).astype(np.uint8)
    flat = shape[3] == 1
    matrix = np.eye(3)
    matrix[: 3 - flat, : 3 - flat] += rng.uniform(-0.2, 0.2, (3 - flat, 3 - flat))
    offset = np.where([True, True, not flat], rng.uniform(-3, 3, 3), 0)
    out, step = (shape[1] - 3, shape[2] + 2, 1 if flat else 14), (8.0, 6.0, 7.0)
    nodes = rng.uniform(-2, 2, (3, *warp.node_counts(out, step))).astype(np.float32) if bent else None
    if flat and nodes is not None:
        nodes[2] = 0
    moved, named = warp.warp(image, labels, out, matrix, offset, nodes, step)

    x = np.stack(np.meshgrid(*(np.arange(n) for n in out), indexing="ij")).astype(float)
    if nodes is not None:
        x += warp.smooth_field(nodes, step, out)
    p = np.einsum("ij,j...->i...", matrix, x) + offset[:, None, None, None]
    expected = [ndimage.map_coordinates(c, p, order=1, mode="mirror") for c in image]
    np.testing.assert_allclose(moved, expected, atol=2e-5)
    # Half-way between two voxels either is nearest; random places never are.
    nearest = [ndimage.map_coordinates(c, p, order=0, mode="mirror") for c in labels]
    assert (named == np.array(nearest)).mean() > 0.999


@pytest.mark.parametrize("shape", [(96, 80, 1), (48, 40, 44)])
def test_no_tissue_folds_at_the_largest_allowed_displacement(shape: tuple[int, int, int]) -> None:
    axes = 2 if shape[2] == 1 else 3
    safe = warp.SAFE_2D if axes == 2 else warp.SAFE_3D
    step = (12.0, 16.0, 10.0)
    worst = math.inf
    for seed in range(5):
        # Nodes at plus or minus the limit, none in between: the steepest field there can be.
        signs = rng_for(seed, "fold").choice([-1.0, 1.0], (3, *warp.node_counts(shape, step)))
        nodes = signs * safe * np.array(step)[:, None, None, None]
        d = warp.smooth_field(nodes.astype(np.float32), step, shape)[:axes]
        gradients = [np.stack(np.gradient(c, axis=tuple(range(axes)))) for c in d]
        jacobian = np.stack(gradients).transpose(*range(2, 2 + d.ndim - 1), 0, 1) + np.eye(axes)
        worst = min(worst, float(np.linalg.det(jacobian).min()))
    assert worst > 0


# ---------------------------------------------------------------- shared arithmetic: grey values


@pytest.mark.parametrize("shape", SHAPES)
def test_blur_agrees_with_scipy(shape: tuple[int, ...]) -> None:
    image, sigma = random_image(shape), (1.3, 0.6, 0.9)
    expected = image.astype(float)
    for axis, s in enumerate(sigma, 1):
        if shape[axis] > 1:
            radius = max(1, math.ceil(3 * s))
            expected = ndimage.gaussian_filter1d(expected, s, axis, mode="mirror", radius=radius)
    np.testing.assert_allclose(appearance.blur(image, sigma), expected, atol=1e-5)


def test_blur_below_a_tenth_of_a_voxel_is_a_copy() -> None:
    image = random_image(SHAPES[0])
    out = appearance.blur(image, (0.05, 0.0, 3.0))
    np.testing.assert_array_equal(out, image)
    assert out is not image


@pytest.mark.parametrize("shape", SHAPES)
def test_coarser_voxels_keep_a_ramp_within_half_a_voxel(shape: tuple[int, ...]) -> None:
    ramp = np.broadcast_to(np.arange(shape[1], dtype=np.float32)[:, None, None], shape).copy()
    coarse = appearance.coarsen(ramp, (3.0, 1.0, 1.0))
    # Sampled at the nearest voxel (half a voxel off) and held beyond the outermost samples (one more).
    assert np.abs(coarse - ramp).max() <= 1.5
    np.testing.assert_array_equal(coarse[..., :1, :1].squeeze((-1, -2))[0], coarse[0, :, 0, 0])
    assert len(np.unique(appearance.coarsen(random_image(shape), (3.0, 3.0, 3.0)))) > 10
    np.testing.assert_array_equal(appearance.coarsen(ramp, (1.0, 0.5, 1.0)), ramp)


@pytest.mark.parametrize("sigma", [0.0, 0.8, 2.0])
def test_noise_has_variance_one_and_the_grain_that_was_asked_for(sigma: float) -> None:
    noise = appearance.correlated_noise((2, 200, 200, 1), (sigma, sigma, sigma), rng_for(3, "noise"))[..., 0]
    # Sum of 80,000 squares over about 4 pi sigma^2 independent ones each: 5 standard errors.
    tolerance = 5 * math.sqrt(2 * max(1, 4 * math.pi * sigma**2) / noise.size)
    assert abs(float((noise**2).mean()) - 1) < tolerance
    lag = float((noise[:, 1:] * noise[:, :-1]).mean())
    expected = math.exp(-1 / (4 * sigma**2)) if sigma else 0.0
    assert abs(lag - expected) < tolerance + 0.02  # the Gaussian is cut at 3 sigma


def test_moments_keep_their_digits_far_from_zero() -> None:
    image = (random_image((2, 50, 60, 1)) - np.float32(20_000)).astype(np.float32)
    x = image.reshape(2, -1).astype(float)
    expected = np.stack([x.mean(1), x.std(1), x.min(1), x.max(1)], axis=1)
    np.testing.assert_allclose(appearance.moments(image), expected, rtol=0, atol=1e-6)


@given(st.floats(0.3, 3), st.floats(-1000, 1000), st.floats(0.1, 4000))
@settings(max_examples=40, deadline=None)
def test_a_curve_is_applied_between_its_ends_and_continued_outside(power: float, low: float, width: float) -> None:
    t = np.linspace(0.05, 1, 60)
    inside, outside = low + width * t, np.array([low - width, low + 2.5 * width])
    image = np.concatenate([inside, outside]).astype(np.float32).reshape(1, -1, 1, 1)
    x = np.linspace(0, 1, appearance.CURVE_NODES)
    appearance.remap(image, np.array([low]), np.array([low + width]), (x**power)[None].astype(np.float32))
    got = (image.ravel().astype(float) - low) / width
    # Chords of x**p on 127 pieces: error p |p - 1| t**(p - 2) / 8 / 127**2, plus float32 of values near |low|.
    error = 1e-3 + 4e-7 * (abs(low) + 3 * width) / width
    np.testing.assert_allclose(got[:-2], t**power, atol=error)
    np.testing.assert_allclose(got[-2:], [-1, 2.5], atol=error)


# ---------------------------------------------------------------- the classical augmentation

ALWAYS: dict[str, Any] = {f.name: 1.0 for f in fields(Classical) if f.name.startswith("p_")}
STRENGTHS: dict[str, Any] = {
    "rotation": 30.0,
    "scale": 0.4,
    "elastic": 5.0,
    "flip": (0,),
    "gamma": 0.5,
    "brightness": 0.25,
    "contrast": 0.33,
    "noise": 0.3,
    "blur": 1.0,
    "low_resolution": 1.0,
}
MOVES = {"rotation", "scale", "elastic", "flip"}


def blob(shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """A normalised image of a block off the centre, and its label."""
    labels = np.zeros((1, *shape[1:]), np.uint8)
    labels[:, 5:20, 8:16, : max(1, shape[3] // 2)] = 1
    image = np.repeat(labels.astype(np.float32), shape[0], axis=0) + 0.05 * random_image(shape)
    return (image - image.mean()) / image.std(), labels


@pytest.mark.parametrize("shape", SHAPES)
def test_at_zero_strength_everything_stays(shape: tuple[int, ...]) -> None:
    image, labels = blob(shape)
    off = replace(Classical.off(), **ALWAYS)
    changed, moved = off(image, labels, rng_for(0))
    np.testing.assert_array_equal(changed, image)
    np.testing.assert_array_equal(moved, labels)
    assert not np.shares_memory(changed, image)
    assert not np.shares_memory(moved, labels)


def test_the_table_knows_every_option() -> None:
    others = {"elastic_nodes", "spacing"} | set(ALWAYS)
    assert {f.name for f in fields(Classical)} == set(STRENGTHS) | others
    assert {f"p_{name}" for name in STRENGTHS} == set(ALWAYS)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", STRENGTHS)
def test_each_option_changes_what_it_should(name: str, shape: tuple[int, ...]) -> None:
    image, labels = blob(shape)
    only = replace(Classical.off(), **ALWAYS, **{name: STRENGTHS[name]})
    kept = image.copy(), labels.copy()
    changed, moved = only(image, labels, rng_for(4, name))
    assert changed.shape == image.shape
    assert changed.dtype == np.float32
    assert moved.shape == labels.shape
    assert moved.dtype == labels.dtype
    assert np.abs(changed - image).mean() > 0.02, "no measurable effect"
    assert np.array_equal(moved, labels) == (name not in MOVES)
    np.testing.assert_array_equal(image, kept[0])
    np.testing.assert_array_equal(labels, kept[1])
    stop: dict[str, Any] = {f"p_{name}": 0.0}
    never = replace(only, **stop)
    np.testing.assert_array_equal(never(image, labels, rng_for(4, name))[0], image)


@pytest.mark.parametrize("name", STRENGTHS)
def test_each_probability_is_kept(name: str) -> None:
    image, labels = blob(SHAPES[0])
    only = replace(Classical.off(), **{name: STRENGTHS[name], f"p_{name}": 0.3})
    rng = rng_for(5, name)
    count = sum(not np.array_equal(only(image, labels, rng)[0], image) for _ in range(400))
    assert abs(count / 400 - 0.3) < 4 * math.sqrt(0.3 * 0.7 / 400)


@pytest.mark.parametrize("change", [{"elastic_nodes": 8.0}, {"spacing": (2.0, 1.0, 1.0)}])
def test_lengths_have_their_unit(change: dict[str, Any]) -> None:
    image, labels = blob(SHAPES[0])
    bend = replace(Classical.off(), **ALWAYS, elastic=3.0)
    a, b = (x(image, labels, rng_for(1))[0] for x in (bend, replace(bend, **change)))
    assert np.abs(a - b).mean() > 0.02


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", sorted(MOVES))
def test_labels_move_with_the_image(name: str, shape: tuple[int, ...]) -> None:
    _, labels = blob(shape)
    only = replace(Classical.off(), **ALWAYS, **{name: STRENGTHS[name]})
    for seed in range(5):
        changed, moved = only(labels.astype(np.float32), labels, rng_for(seed, name))
        assert dice(changed > 0.5, moved > 0) > 0.93  # linear and nearest differ within half a voxel of the border


def test_flips_are_exact_and_only_along_allowed_axes() -> None:
    image, labels = random_image((1, 9, 10, 11)), rng_for(0).integers(0, 9, (1, 9, 10, 11)).astype(np.uint8)
    mirror = replace(Classical.off(), flip=(0, 2), p_flip=0.5)
    seen = set()
    for seed in range(40):
        changed, moved = mirror(image, labels, rng_for(seed))
        found = [axes for axes in ((), (1,), (3,), (1, 3)) if np.array_equal(changed, np.flip(image, axes))]
        assert len(found) == 1
        np.testing.assert_array_equal(moved, np.flip(labels, found[0]))
        seen.add(found[0])
    assert len(seen) == 4


def test_thick_slices_turn_within_their_plane_only() -> None:
    image = np.broadcast_to(np.arange(12, dtype=np.float32), (1, 30, 31, 12)).copy()  # differs between slices only
    labels = image.astype(np.uint8)
    turn = replace(Classical.off(), **ALWAYS, rotation=30.0)
    within, _ = replace(turn, spacing=(1.0, 1.0, 5.0))(image, labels, rng_for(0))
    across, _ = turn(image, labels, rng_for(0))
    np.testing.assert_allclose(within, image, atol=1e-5)
    assert np.abs(across - image).max() > 1


def test_a_turned_disc_stays_where_physics_puts_it() -> None:
    # A point 20 mm from the centre stays 20 mm away, though its pixels are 1 mm by 2 mm.
    spacing = np.array([1.0, 2.0])
    i, j = np.meshgrid(np.arange(81), np.arange(41), indexing="ij")
    mm = np.stack([(i - 40) * spacing[0], (j - 20) * spacing[1]])
    disc = (np.hypot(mm[0] - 20, mm[1]) < 5).astype(np.uint8)[None, :, :, None]
    turn = replace(Classical.off(), p_rotation=1.0, rotation=40.0, spacing=(1.0, 2.0, 1.0))
    angles = []
    for seed in range(8):
        _, moved = turn(disc.astype(np.float32), disc, rng_for(seed))
        x, y = (float(c[moved[0, :, :, 0] > 0].mean()) for c in mm)
        assert abs(math.hypot(x, y) - 20) < 0.5  # half a pixel
        angles.append(math.degrees(math.atan2(y, x)))
    assert max(map(abs, angles)) < 42
    assert max(angles) - min(angles) > 20


def test_gamma_keeps_mean_and_spread() -> None:
    image, labels = blob((3, 33, 38, 1))
    only = replace(Classical.off(), **ALWAYS, gamma=1.0)
    changed, _ = only(image, labels, rng_for(2))
    np.testing.assert_allclose(appearance.moments(changed)[:, :2], appearance.moments(image)[:, :2], atol=1e-4)


def test_a_constant_patch_survives_everything() -> None:
    everything = Classical(**{**STRENGTHS, **ALWAYS})
    for shape in SHAPES:
        image, labels = np.zeros(shape, np.float32), np.zeros((1, *shape[1:]), np.uint8)
        assert np.isfinite(everything(image, labels, rng_for(0))[0]).all()


def test_one_stream_one_patch() -> None:
    image, labels = blob(SHAPES[2])
    everything = Classical(**{**STRENGTHS, **ALWAYS})
    a, b, c = (everything(image, labels, rng_for(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(a[0], b[0])
    np.testing.assert_array_equal(a[1], b[1])
    assert not np.array_equal(a[0], c[0])


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"rotation": -1.0}, "rotation"),
        ({"p_blur": 1.5}, "probability"),
        ({"noise": math.nan}, "noise"),
        ({"flip": (3,)}, "axes"),
        ({"spacing": (1.0, 0.0, 1.0)}, "spacing"),
        ({"spacing": (1.0, 1.0)}, "spacing"),
        ({"elastic_nodes": 0.0}, "elastic"),
    ],
)
def test_wrong_parameters_are_named(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(PlanError, match=said):
        Classical(**wrong)


def test_image_and_labels_must_share_a_grid() -> None:
    with pytest.raises(DataError, match="one grid"):
        Classical()(np.zeros((1, 8, 8, 1), np.float32), np.zeros((1, 8, 9, 1), np.uint8), rng_for(0))


def test_classical_is_written_to_a_plan_and_read_back() -> None:
    spec = spec_of(Classical(flip=(0, 1)))
    assert spec.pop("kind") == "classical"
    read: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in spec.items()}
    assert Classical(**read) == Classical(flip=(0, 1))


# ---------------------------------------------------------------- beyond the classical: each change

LOOKS = ("tissue", "structure", "curve", "colour", "bias", "sharpen", "blur", "resolution", "texture")
WORLDS = {
    "grey": partial(phantom_cases, size=48),
    "colour": partial(phantom_cases, size=48, channels=3),
    "volume": partial(phantom_cases, size=26, dimension=3),
}


def source_of(made: Case, cases: Sequence[Case]) -> Case:
    return next(c for c in cases if c.id == made.attributes["source"])


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("name", LOOKS)
def test_each_look_changes_the_image_and_never_the_labels(name: str, world: str) -> None:
    if name == "colour" and world != "colour":
        pytest.skip("grey images have no colour")
    cases = WORLDS[world]()
    for made in make(one_change(**{f"p_{name}": 1.0}), cases, 3, seed=2):
        host = source_of(made, cases)
        spread = float(host.image.array.std())
        assert np.abs(made.image.array.astype(float) - host.image.array).mean() > 0.002 * spread
        np.testing.assert_array_equal(made.labels.array, host.labels.array)
    (copy,) = make(one_change(**{f"p_{name}": 1.0, name: 0.0}), cases)
    np.testing.assert_allclose(copy.image.array, source_of(copy, cases).image.array, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("name", ["folding", "grain", "clusters"])
def test_the_remaining_options_have_an_effect(name: str) -> None:
    change, value = {
        "folding": ("p_curve", 0.0),
        "grain": ("p_texture", 0.0),
        "clusters": ("p_tissue", 1),
    }[name]
    cases = WORLDS["grey"]()
    always: dict[str, Any] = {change: 1.0, **({"folding": 1.0} if name == "folding" else {})}
    a, b = (make(one_change(**x), cases) for x in (always, {**always, name: value}))
    assert np.abs(a[0].image.array - b[0].image.array).mean() > 1  # HU


def test_every_option_is_under_test() -> None:
    tested = {*LOOKS, *(f"p_{n}" for n in LOOKS), "folding", "grain", "clusters"}
    elsewhere = {"strength", "elastic", "p_elastic", "mixing", "p_mixing", "patch", "foreground"}
    elsewhere |= {"stain", "p_stain", "carving", "p_carving", "lesion", "p_lesion", "lesion_zoom", "lesion_turn"}
    assert {f.name for f in fields(Augmentation) if not f.name.startswith("_")} == tested | elsewhere


@pytest.mark.parametrize("world", WORLDS)
def test_strength_zero_is_a_copy(world: str) -> None:
    cases = WORLDS[world]()
    always: dict[str, Any] = {f.name: 1.0 for f in fields(Augmentation) if f.name.startswith("p_")}
    for made in make(Augmentation(strength=0.0, **always), cases, 3):
        host = source_of(made, cases)
        np.testing.assert_allclose(made.image.array, host.image.array, rtol=1e-5, atol=2e-3)  # HU, in single precision
        np.testing.assert_array_equal(made.labels.array, host.labels.array)
        assert made.synthetic


def test_more_strength_changes_more() -> None:
    cases = WORLDS["grey"]()

    def change(strength: float) -> float:
        made = make(Augmentation(strength=strength, p_elastic=0.0, p_mixing=0.0), cases, 30)
        return float(np.mean([np.abs(m.image.array - source_of(m, cases).image.array).mean() for m in made]))

    assert change(0.1) < change(0.3) < change(1.0)


@pytest.mark.parametrize("world", WORLDS)
def test_elastic_moves_labels_with_the_image(world: str) -> None:
    cases = [_drawn_by_its_label(c) for c in WORLDS[world]()]
    changed = 0.0
    for made in make(one_change(p_elastic=1.0), cases, 4):
        image, labels = scene(made)
        assert dice(image[0] > 127, labels[0] > 0) > 0.95
        changed += 1 - dice(labels[0] > 0, source_of(made, cases).labels.array[0] > 0)
    assert changed / 4 > 0.03
    (still,) = make(one_change(p_elastic=1.0, elastic=0.0), cases)
    np.testing.assert_array_equal(still.labels.array, source_of(still, cases).labels.array)


def _drawn_by_its_label(case: Case) -> Case:
    voxels = np.repeat(255 * case.labels.array[:1], case.image.channels, axis=0).astype(np.uint8)
    return replace(case, image=Image.on(case.image.geometry, voxels))


# ---------------------------------------------------------------- region mixing


def counted_cases(n: int = 3, side: int = 60) -> list[Case]:
    """Pictures of many numbered cells; each cell's grey value says whose it is and which number it has."""
    out = []
    for c in range(n):
        numbers = np.zeros((side, side), np.int32)
        for k, (i, j) in enumerate(np.ndindex(6, 6), 1):
            numbers[10 * i + 2 : 10 * i + 8, 10 * j + 2 : 10 * j + 8] = k
        grid = Geometry((side, side, 1), unit="px")
        truth = LabelMap.on(grid, numbers[None, :, :, None], LabelScheme.of(["cell"]))
        image = (1000.0 * (c + 1) + numbers)[None, :, :, None].astype(np.float32)
        out.append(Case(f"c{c}", f"p{c}", Image.on(grid, image), truth, licence=f"L{c}"))
    return out


def test_mixed_instances_keep_numbers_of_their_own() -> None:
    cases = counted_cases()
    mixed = [m for m in make(one_change(p_mixing=1.0, mixing=0.5), cases, 10) if "donor" in m.attributes]
    assert len(mixed) == 10
    for made in mixed:
        host = source_of(made, cases).labels.array
        labels = made.labels.array
        foreign = labels > host.max()
        assert foreign.any()
        assert (labels[~foreign] <= host.max()).all()
        # Where the host kept its pixels it kept its numbers; donated ones are the donor's, moved up by the host's 36.
        np.testing.assert_array_equal(labels[~foreign & (labels > 0)], host[~foreign & (labels > 0)])
        assert labels.max() <= 72
        assert made.licence is not None
        assert set(made.licence.split("; ")) == {
            source_of(made, cases).licence,
            next(c.licence for c in cases if c.id == made.attributes["donor"]),
        }


def test_uncounted_labels_stay_one() -> None:
    for made in make(one_change(p_mixing=1.0, mixing=0.5), WORLDS["grey"](), 5):
        assert set(np.unique(made.labels.array)) <= {0, 1}
        assert made.labels.array.dtype == np.uint8


def test_instance_numbers_outgrow_their_type_without_wrapping() -> None:
    cases = [
        replace(c, truth=replace(c.labels, voxels=(c.labels.array + 200 * (c.labels.array > 0)).astype(np.uint8)))
        for c in counted_cases()
    ]
    made = make(one_change(p_mixing=1.0, mixing=0.5), cases, 5)
    assert max(int(m.labels.array.max()) for m in made) > 255


@pytest.mark.parametrize("world", WORLDS)
def test_pasted_pixels_and_labels_agree(world: str) -> None:
    cases = [_drawn_by_its_label(c) for c in WORLDS[world]()]
    changed = []
    for made in make(one_change(p_mixing=1.0, mixing=0.5), cases, 6):
        image, labels = scene(made)
        changed.append(not np.array_equal(labels, source_of(made, cases).labels.array))
        # The blended seam is grey; it may cross a border, but inside and outside say the same.
        clear = (image[0] < 20) | (image[0] > 235)
        assert clear.mean() > 0.75
        assert dice((image[0] > 127) & clear, (labels[0] > 0) & clear) > 0.93
    assert any(changed)


def test_a_single_case_is_not_mixed_with_itself() -> None:
    (made,) = make(one_change(p_mixing=1.0), WORLDS["grey"]()[:1])
    assert "donor" not in made.attributes


def test_a_class_is_never_mixed() -> None:
    cases = [replace(c, truth=ClassLabel(n, ("a", "b"))) for c, n in zip(WORLDS["grey"](), "aba", strict=True)]
    for made in make(Augmentation(strength=1.0, p_mixing=1.0), cases, 6):
        assert "donor" not in made.attributes
        assert made.truth == source_of(made, cases).truth


# ---------------------------------------------------------------- patches, geometry, provenance, types


@pytest.mark.parametrize("dimension", [2, 3])
def test_a_patch_knows_where_it_was_cut(dimension: int) -> None:
    cases = []
    for case in phantom_cases(dimension=dimension):
        affine = np.array([[0.8, 0.1, 0, 5], [-0.1, 0.8, 0, -7], [0, 0, 1.6, 11], [0, 0, 0, 1.0]])
        grid = Geometry(case.image.geometry.shape, affine)
        x = np.meshgrid(*(np.arange(n) for n in grid.shape), indexing="ij")
        world = sum(a * v for a, v in zip(affine[0, :3], x, strict=True)) + affine[0, 3]
        image = Image.on(grid, world[None].astype(np.float32))  # each voxel says its own position in mm
        cases.append(replace(case, image=image, truth=replace(case.labels, affine=affine)))
    starts = set()
    for made in make(one_change(patch=16), cases, 6):
        assert made.image.geometry.shape == (16, 16, 1 if dimension == 2 else 16)
        x = np.meshgrid(*(np.arange(n) for n in made.image.geometry.shape), indexing="ij")
        a = made.image.affine
        expected = sum(c * v for c, v in zip(a[0, :3], x, strict=True)) + a[0, 3]
        np.testing.assert_allclose(made.image.array[0], expected, atol=1e-4)
        starts.add(tuple(a[:3, 3].round(3)))
    assert len(starts) > 1


def test_bent_patches_come_from_the_same_tissue_as_the_whole() -> None:
    cases = [_drawn_by_its_label(c) for c in WORLDS["grey"]()]
    for made in make(one_change(p_elastic=1.0, patch=24), cases, 6):
        image, labels = scene(made)
        assert image.shape == (1, 24, 24, 1)
        if labels[0].sum() > 100:
            assert dice(image[0] > 127, labels[0] > 0) > 0.93


def test_patches_look_for_labels_as_often_as_asked() -> None:
    cases = []
    for case in phantom_cases(dimension=2, size=120):
        small = np.zeros_like(case.labels.array)
        small[:, 60:63, 70:73] = 1
        cases.append(replace(case, truth=replace(case.labels, voxels=small)))

    def share(foreground: float) -> float:
        made = make(one_change(patch=16, foreground=foreground), cases, 200)
        return float(np.mean([m.labels.array.any() for m in made]))

    assert share(1.0) == 1.0
    assert share(0.0) < 0.1
    assert 0.35 < share(0.5) < 0.65


def test_a_patch_larger_than_the_image_is_the_image() -> None:
    cases = WORLDS["grey"]()
    (made,) = make(Augmentation(patch=500), cases)
    assert made.image.geometry.shape == cases[0].image.geometry.shape


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.float32, np.float64])
def test_type_and_range_are_kept(dtype: type) -> None:
    low, high = (0, 255) if dtype == np.uint8 else (0, 4000) if dtype == np.uint16 else (-1024, 1500)
    cases = []
    for case in phantom_cases():
        x = case.image.array
        voxels = low + (x - x.min()) / (x.max() - x.min()) * (high - low)
        cases.append(replace(case, image=Image.on(case.image.geometry, voxels.astype(dtype))))
    made = make(Augmentation(strength=1.0), cases, 12)
    assert {m.image.array.dtype for m in made} == {np.dtype(np.float32 if dtype == np.float64 else dtype)}
    assert min(float(m.image.array.min()) for m in made) >= low
    assert max(float(m.image.array.max()) for m in made) <= high


def test_ignored_voxels_move_with_the_image() -> None:
    cases = [replace(c, truth=replace(c.labels, ignore=c.labels.array[:1] > 0)) for c in WORLDS["grey"]()]
    for made in make(one_change(p_elastic=1.0, p_mixing=1.0), cases, 4):
        assert made.labels.ignored().any()
        np.testing.assert_array_equal(made.labels.ignored(), made.labels.array[0] > 0)


def test_overlapping_labels_stay_overlapping() -> None:
    for made in make(Augmentation(strength=1.0), WORLDS["volume"](), 3):
        organ, core = made.labels.array > 0
        assert core.any()
        assert not (core & ~organ).any()


def test_every_case_names_all_patients_that_the_tissues_came_from() -> None:
    cases = WORLDS["grey"]()
    engine = Augmentation().fit(cases, rng_for(0))
    made = list(engine.sample(4, rng_for(1)))
    assert {m.origin.parents for m in made} == {frozenset({"real-0", "real-1", "real-2"})}
    assert {m.origin.spec for m in made} == {canonical(spec_of(Augmentation()))}
    again = list(Augmentation().fit(made, rng_for(0)).sample(1, rng_for(1)))
    assert again[0].origin.parents == frozenset({"real-0", "real-1", "real-2"}), "a copy of a copy has the same parents"


def test_lazy_cases_are_read_once() -> None:
    cases, reads = WORLDS["grey"](), []

    def read(case: Case) -> np.ndarray:
        reads.append(case.id)
        return case.image.array

    lazy = [
        replace(
            c,
            image=Image.on(c.image.geometry, LazyVoxels(c.image.array.shape, c.image.array.dtype, partial(read, c))),
        )
        for c in cases
    ]
    engine = Augmentation(strength=1.0).fit(lazy, rng_for(0, "fit"))
    assert sorted(reads) == [c.id for c in cases]
    a = list(engine.sample(3, rng_for(0, "sample")))
    assert len(reads) == len(cases)
    for x, y in zip(a, make(Augmentation(strength=1.0), cases, 3), strict=True):
        np.testing.assert_array_equal(x.image.array, y.image.array)


# ---------------------------------------------------------------- tissues


def test_sub_labels_are_found() -> None:
    cases = []
    for case in phantom_cases(dimension=2, size=60):
        rng = rng_for(0, case.id)
        means = np.repeat([100.0, 130.0, 200.0], 20)[:, None, None]
        image = means + rng.normal(0, 3, (60, 63, 1))
        image[case.labels.array[0] > 0] = 30
        cases.append(replace(case, image=Image.on(case.image.geometry, image[None].astype(np.float32))))
    sources, tissue = learn(cases, 3, rng_for(0))
    low, high = sources[0].low[0], sources[0].high[0]
    found = sorted(float(low + c * (high - low)) for c in tissue.centres[:, 0])
    np.testing.assert_allclose(found, [100, 130, 200], atol=3)
    assert tissue.counted == (False, False)
    assert 0.5 < tissue.contrast[0, 0] < 0.8  # 30 against about 143, on a scale of about 27 to 207


def test_one_sub_label_changes_without_the_others() -> None:
    cases = phantom_cases()
    _, tissue = learn(cases, 4, rng_for(0))
    two = replace(tissue, centres=np.array([[0.2], [0.8]], np.float32), width=0.1)
    u = np.full((1, 40, 40, 1), 0.2, np.float32)
    u[:, 20:] = 0.8
    dress_tissue(u, two, 0.3, 1.0, rng_for(3))
    shifts = float(u[0, 5, 5, 0]) - 0.2, float(u[0, 35, 5, 0]) - 0.8
    assert abs(shifts[0] - shifts[1]) > 0.05


def test_air_changes_with_the_square_of_strength() -> None:
    _, tissue = learn(phantom_cases(), 4, rng_for(0))
    air = replace(tissue, centres=np.array([[0.01], [0.8]], np.float32), width=0.1)

    def shift(empty: float) -> float:
        u = np.full((1, 20, 20, 1), 0.01, np.float32)
        dress_tissue(u, air, 0.3, empty, rng_for(3))
        return abs(float(u[0, 5, 5, 0]) - 0.01)

    assert shift(0.1) < 0.15 * shift(1.0)


def test_a_label_changes_its_contrast_and_nothing_else_does() -> None:
    _, tissue = learn(phantom_cases(), 4, rng_for(0))
    u = np.full((1, 40, 40, 1), 0.4, np.float32)
    masks = np.zeros((2, 40, 40, 1), bool)
    masks[0, 10:20, 10:20] = True
    dress_labels(u, masks, tissue, 1.0, rng_for(1))
    assert abs(float(u[0, 15, 15, 0]) - 0.4) > 0.02
    far = ndimage.binary_dilation(masks[0], iterations=4)
    np.testing.assert_allclose(u[0][~far], 0.4, atol=1e-6)


# ---------------------------------------------------------------- bad input


def _spoilt(**change: Any) -> list[Case]:
    first, *rest = WORLDS["grey"]()
    return [replace(first, **change), *rest]


def _with_nan() -> list[Case]:
    cases = WORLDS["grey"]()
    voxels = cases[1].image.array.copy()
    voxels[0, 3, 3, 0] = np.nan
    return [cases[0], replace(cases[1], image=Image.on(cases[1].image.geometry, voxels))]


@pytest.mark.parametrize(
    ("cases", "said"),
    [
        (list, "no case"),
        (lambda: _spoilt(truth=None), "case-0 have no truth"),
        (lambda: [*WORLDS["grey"](), *WORLDS["colour"]()], "do not belong together"),
        (lambda: _spoilt(truth=ClassLabel("a", ("a", "b"))), "do not belong together"),
        (_with_nan, "'case-1' holds values that are not finite"),
    ],
)
def test_cases_that_cannot_be_learned_from_are_refused(cases: Any, said: str) -> None:
    with pytest.raises(EngineError, match=said):
        Augmentation().fit(cases(), rng_for(0))


def test_sampling_says_what_is_missing() -> None:
    cases = WORLDS["grey"]()
    engine = Augmentation().fit(cases, rng_for(0))
    with pytest.raises(EngineError, match="call fit"):
        Augmentation().sample(1, rng_for(0))
    with pytest.raises(EngineError, match="simulate-ct"):
        engine.sample(1, rng_for(0), [cases[0].labels])
    with pytest.raises(EngineError, match="0 or more"):
        engine.sample(-1, rng_for(0))


@pytest.mark.parametrize(
    "wrong",
    [
        {"strength": 1.5},
        {"strength": -0.1},
        {"p_curve": 2.0},
        {"elastic": 1.2},
        {"texture": math.inf},
        {"texture": math.nan},
        {"clusters": 0},
        {"patch": 3},
        {"patch": -8},
    ],
)
def test_a_parameter_out_of_range_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(PlanError, match=next(iter(wrong))):
        Augmentation(**wrong)


@pytest.mark.parametrize("voxels", [np.zeros((1, 20, 20, 1), np.float32), np.full((3, 9, 30, 1), 7, np.uint8)])
def test_a_constant_image_is_survived(voxels: np.ndarray) -> None:
    grid = Geometry(voxels.shape[1:], unit="px")
    empty = LabelMap.on(grid, np.zeros((1, *voxels.shape[1:]), np.uint8), LabelScheme.of(["x"]))
    cases = [Case(f"c{i}", f"p{i}", Image.on(grid, voxels), empty) for i in range(2)]
    for made in make(Augmentation(strength=1.0), cases, 20):
        assert np.isfinite(made.image.array).all()


def test_errors_are_ours() -> None:
    assert issubclass(EngineError, EquipoiseError)
    assert issubclass(PlanError, EquipoiseError)

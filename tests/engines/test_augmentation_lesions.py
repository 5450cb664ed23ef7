from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import ndimage, sparse
from scipy.sparse.linalg import spsolve
from test_augmentation import make, one_change, source_of

from equipoise.core import Case, ClassLabel, Geometry, Image, LabelMap, LabelScheme, rng_for
from equipoise.engines.augmentation.beyond import Augmentation
from equipoise.engines.augmentation.blending import blend
from equipoise.engines.augmentation.carving import carved_share
from equipoise.engines.augmentation.lesions import find_lesions
from equipoise.errors import EngineError, LabelError, PlanError

# ---------------------------------------------------------------- gradient-domain insertion


def region(shape: tuple[int, int, int], seed: int = 0) -> np.ndarray:
    """A lumpy region in two parts away from the border."""
    noise = ndimage.gaussian_filter(rng_for(seed, "region").standard_normal(shape), [2, 2, 2 if shape[2] > 1 else 0])
    inside = noise > np.quantile(noise, 0.6)
    edge = np.zeros(shape, bool)
    edge[2:-2, 2:-2, 2 : -2 if shape[2] > 1 else None] = True
    return np.asarray(inside & edge)


def solved_by_scipy(host: np.ndarray, source: np.ndarray, inside: np.ndarray, spacing: tuple[float, ...]) -> np.ndarray:
    """The discrete Poisson equation of the paper as a sparse system, solved directly."""
    number = np.full(inside.shape, -1)
    places = np.argwhere(inside)
    number[inside] = np.arange(len(places))
    a, b = sparse.lil_matrix((len(places), len(places))), np.zeros(len(places))
    for n, p in enumerate(places):
        for axis in range(3):
            for sign in (-1, 1):
                q = p.copy()
                q[axis] += sign
                if not 0 <= q[axis] < inside.shape[axis]:
                    continue
                w = spacing[axis] ** -2
                a[n, n] += w
                b[n] += w * (source[tuple(p)] - source[tuple(q)])
                if inside[tuple(q)]:
                    a[n, number[tuple(q)]] -= w
                else:
                    b[n] += w * host[tuple(q)]
    out = host.astype(float).copy()
    out[inside] = spsolve(a.tocsr(), b)
    return out


@pytest.mark.parametrize(("shape", "spacing"), [((30, 27, 1), (1.0, 2.0, 1.0)), ((14, 13, 12), (1.0, 1.0, 2.5))])
def test_blending_solves_the_poisson_equation(shape: tuple[int, int, int], spacing: tuple[float, ...]) -> None:
    rng, inside = rng_for(1, shape), region(shape)
    host, source = (rng.standard_normal((2, *shape)).astype(np.float32) for _ in range(2))
    got = blend(host, source, inside, spacing)
    for c in range(2):
        # Stopped when no voxel changes by more than 1e-5 of the border's range (about 8) in a sweep.
        np.testing.assert_allclose(got[c], solved_by_scipy(host[c], source[c], inside, spacing), atol=1e-3)
    np.testing.assert_array_equal(got[:, ~inside], host[:, ~inside])


@pytest.mark.parametrize("shape", [(40, 40, 1), (20, 20, 20)])
def test_a_copy_into_another_brightness_and_shading_is_seamless(shape: tuple[int, int, int]) -> None:
    rng, inside = rng_for(2, shape), region(shape)
    source = 0.1 * rng.standard_normal((1, *shape)).astype(np.float32)
    ramp = np.linspace(0, 1, shape[0], dtype=np.float32)[:, None, None]
    host = source + 3 + ramp
    # Brightness and a linear shading are harmonic: the same tissue under them is found again exactly.
    np.testing.assert_allclose(blend(host, source, inside), host, atol=1e-3)


def test_the_gradient_across_the_seam_is_no_larger_than_elsewhere() -> None:
    i, j = np.meshgrid(np.arange(80), np.arange(80), indexing="ij")
    inside = (np.hypot(i - 40, j - 40) < 18)[..., None]
    noise = ndimage.gaussian_filter(rng_for(0).standard_normal((2, 80, 80)), (0, 1, 1))[..., None].astype(np.float32)
    lesion = np.exp(-(((i - 40) ** 2 + (j - 40) ** 2) / 60))[None, ..., None].astype(np.float32)
    host, source = noise[:1], noise[1:] + 2 + 3 * lesion
    pasted = np.where(inside, source, host)
    blended = blend(host, source, inside)

    def across(image: np.ndarray) -> float:
        steps = np.abs(np.diff(image[0, :, :, 0], axis=0))
        return float(steps[inside[1:, :, 0] != inside[:-1, :, 0]].mean())

    usual = float(np.abs(np.diff(host[0, :, :, 0], axis=0)).mean())
    assert across(pasted) > 5 * usual
    assert across(blended) < 1.6 * usual  # gradients of two independent noises meet there
    # What makes the lesion a lesion is kept: it rises from rim to middle as it did.
    rise = [float(x[0, 40, 40, 0] - x[0, 40, 24:28, 0].mean()) for x in (source, blended)]
    assert rise[1] == pytest.approx(rise[0], abs=0.5)


def test_a_region_without_border_is_refused() -> None:
    image = np.zeros((1, 4, 4, 1), np.float32)
    with pytest.raises(EngineError, match="whole grid"):
        blend(image, image, np.ones((4, 4, 1), bool))
    np.testing.assert_array_equal(blend(image, image + 1, np.zeros((4, 4, 1), bool)), image)


# ---------------------------------------------------------------- lesions in organs


def bodies(n: int = 5, dimension: int = 2, exclusive: bool = False, healthy: bool = True) -> list[Case]:
    """Grey bodies in air, each with a bright organ that holds dark round lesions; every second body has none."""
    shape = (64, 60, 1) if dimension == 2 else (40, 38, 24)
    spacing = (1.0, 1.0, 1.0) if dimension == 2 else (1.0, 1.0, 1.5)
    out = []
    for c in range(n):
        rng = rng_for(c, "body")
        axes = np.meshgrid(*(np.arange(m) - (m - 1) / 2 for m in shape), indexing="ij")
        far = np.sqrt(sum((x * s) ** 2 for x, s in zip(axes, spacing, strict=True)))
        size = 28 if dimension == 2 else 17
        body, organ = far < size, np.hypot(axes[0] - 3, axes[1] + c) < 0.6 * size
        organ &= far < 0.85 * size
        lesion = np.zeros(shape, bool)
        if not (healthy and c % 2):
            for _ in range(3):
                place = np.argwhere(organ & (far < 0.5 * size))[rng.integers(200)]
                lesion |= (
                    sum(((x - p) * s) ** 2 for x, p, s in zip(np.indices(shape), place, spacing, strict=True)) < 10
                )
        lesion &= organ
        image = 100.0 * body + 60 * organ - 70 * lesion + 4 * rng.standard_normal(shape)
        labels = np.stack([organ & ~lesion if exclusive else organ, lesion]).astype(np.uint8)
        grid = Geometry.from_spacing(shape, spacing)
        truth = LabelMap.on(grid, labels, LabelScheme.of(["organ", "tumour"], exclusive=exclusive))
        out.append(Case(f"c{c}", f"p{c}", Image.on(grid, image[None].astype(np.float32)), truth, licence=f"L{c}"))
    return out


def copied(cases: list[Case], n: int = 20, **also: Any) -> list[Case]:
    made = make(one_change(**{"p_lesion": 1.0, "lesion": "tumour", **also}), cases, n, seed=3)
    return [m for m in made if "donor" in m.attributes]


@pytest.mark.parametrize("exclusive", [False, True])
@pytest.mark.parametrize("dimension", [2, 3])
def test_lesions_are_copied_into_their_organ_only(dimension: int, exclusive: bool) -> None:
    cases = bodies(dimension=dimension, exclusive=exclusive)
    made = copied(cases)
    assert len(made) >= 10
    assert any(int(source_of(m, cases).id[1:]) % 2 for m in made), "never into a healthy body"
    deeper = []
    for m in made:
        host = source_of(m, cases)
        before, after = host.labels.array[1] > 0, m.labels.array[1] > 0
        new = after & ~before
        assert new.any()
        assert (after | ~before).all(), "an old lesion was lost"
        assert (host.labels.array[0][new] > 0).all()
        if exclusive:
            assert not (m.labels.array[0][new] > 0).any()
        else:
            np.testing.assert_array_equal(m.labels.array[0], host.labels.array[0])
        # Dark, as a lesion is, and the label lies on what is dark.
        was, now = (float(x.image.array[0][new].mean()) for x in (host, m))
        assert now < was - 15
        deeper.append(was - now)
        away = ~ndimage.binary_dilation(new, iterations=4)
        np.testing.assert_allclose(m.image.array[0][away], host.image.array[0][away], atol=1e-2)
        assert m.origin.parents == frozenset(c.patient for c in cases)
        assert m.licence is not None
        assert host.licence in m.licence.split("; ")
    # 70 deep in the middle; a copy of a few voxels is interpolated, and a rim outside the organ is fitted to it.
    assert float(np.mean(deeper)) > 30


def test_a_copy_is_seamless_in_a_body_of_another_brightness() -> None:
    cases = bodies()
    cases = [
        replace(c, image=Image.on(c.image.geometry, c.image.array + np.float32(8 * n))) for n, c in enumerate(cases)
    ]
    for m in copied(cases):
        host = source_of(m, cases)
        new = (m.labels.array[1] > 0) & ~(host.labels.array[1] > 0)
        ring = ndimage.binary_dilation(new, iterations=4) & ~ndimage.binary_dilation(new, iterations=2)
        change = float((m.image.array[0] - host.image.array[0])[ring].mean())
        assert abs(change) < 6  # noise has an SD of 4, the lesion is 70 deep


@pytest.mark.parametrize(("option", "weak"), [("lesion_zoom", 0.0), ("lesion_turn", 0.0)])
def test_size_and_angle_have_an_effect(option: str, weak: float) -> None:
    cases = bodies(n=4, healthy=False)
    # An elongated lesion, so that an angle shows.
    for n, c in enumerate(cases):
        array = c.labels.array.copy()
        array[1] = 0
        array[1, 28:31, 22:32] = 1
        cases[n] = replace(c, truth=replace(c.labels, voxels=array))
    other = {"lesion_zoom": "lesion_turn", "lesion_turn": "lesion_zoom"}[option]

    def shapes(value: float) -> np.ndarray:
        out = []
        for m in copied(cases, 30, **{other: 0.0, option: value}):
            new = (m.labels.array[1] > 0) & ~(source_of(m, cases).labels.array[1] > 0)
            i = np.nonzero(new)[0]
            out.append((new.sum(), np.ptp(i) + 1))
        assert len(out) > 5
        return np.array(out)

    column = {"lesion_zoom": 0, "lesion_turn": 1}[option]
    strong = {"lesion_zoom": 0.8, "lesion_turn": 90.0}[option]
    assert shapes(weak)[:, column].std() < 0.15 * shapes(strong)[:, column].std()


def test_numbered_lesions_get_numbers_of_their_own() -> None:
    cases = []
    for c in bodies(healthy=False):
        array = c.labels.array.astype(np.int32)
        array[1] = ndimage.label(array[1])[0]
        cases.append(replace(c, truth=replace(c.labels, voxels=array)))
    for m in copied(cases):
        host = source_of(m, cases).labels.array[1]
        new = (m.labels.array[1] > 0) & (host == 0)
        assert set(np.unique(m.labels.array[1][new])) == {host.max() + 1}


def test_the_organ_and_the_tissue_are_learned() -> None:
    cases = bodies()
    fitted = Augmentation(lesion="tumour").fit(cases, rng_for(0))
    assert fitted._lesions is not None
    assert fitted._lesions.organ == 0
    alone = [
        replace(c, truth=LabelMap.on(c.image.geometry, c.labels.array[1:], LabelScheme.of(["tumour"]))) for c in cases
    ]
    free = Augmentation(lesion="tumour").fit(alone, rng_for(0))
    assert free._lesions is not None
    assert free._lesions.organ is None
    assert free._tissue is not None
    air = int(free._tissue.centres[:, 0].argmin())
    assert not free._lesions.tissues[air]
    for m in copied(alone):
        host = next(c for c in cases if c.id == m.attributes["source"])
        new = (m.labels.array[0] > 0) & ~(host.labels.array[1] > 0)
        assert (host.image.array[0][new] > 50).mean() > 0.9  # never into the air


@pytest.mark.parametrize("strength", [0.0, 1.0])
def test_without_a_lesion_or_strength_nothing_is_copied(strength: float) -> None:
    cases = bodies()
    named = {"lesion": "tumour"} if strength == 0 else {}
    for m in make(one_change(strength=strength, p_lesion=1.0, p_carving=1.0, **named), cases, 4):
        assert "donor" not in m.attributes


def test_bad_lesions_are_named() -> None:
    cases = bodies()
    with pytest.raises(LabelError, match="Did you mean 'tumour'"):
        Augmentation(lesion="tumor").fit(cases, rng_for(0))
    empty = [c for n, c in enumerate(cases) if n % 2]
    with pytest.raises(EngineError, match="none of the 2 training cases"):
        Augmentation(lesion="tumour").fit(empty, rng_for(0))
    classes = [replace(c, truth=ClassLabel("a", ("a", "b"))) for c in cases]
    with pytest.raises(EngineError, match="a class"):
        Augmentation(lesion="tumour").fit(classes, rng_for(0))
    with pytest.raises(PlanError, match="360"):
        Augmentation(lesion_turn=400.0)


def test_a_lesion_that_the_border_cuts_is_not_copied() -> None:
    cases = bodies(n=2, healthy=False)
    array = np.zeros_like(cases[0].labels.array)
    array[1, 0:5, 20:25] = 1
    cut = [replace(c, truth=replace(c.labels, voxels=array)) for c in cases]
    fitted = Augmentation().fit(cut, rng_for(0))
    with pytest.raises(EngineError, match="whole lesion"):
        find_lesions(fitted._sources, np.array([[0.0], [1.0]]), "tumour")


# ---------------------------------------------------------------- carving


@pytest.mark.parametrize("reach", [-2.0, 0.0, 3.0])
def test_a_carved_region_ends_at_its_distance(reach: float) -> None:
    i, j = np.meshgrid(np.arange(61) - 30, np.arange(61) - 30, indexing="ij")
    disc = (np.hypot(i, j) <= 10)[..., None]
    area = float((carved_share(disc, reach, (1.0, 1.0, 1.0)) >= 0.5).sum())
    radius = math.sqrt(disc.sum() / math.pi) + reach
    assert math.sqrt(area / math.pi) == pytest.approx(radius, abs=0.5)  # half a voxel


@pytest.mark.parametrize("dimension", [2, 3])
def test_carving_brings_the_donor_s_lesion_to_the_same_place_with_its_label(dimension: int) -> None:
    cases = bodies(dimension=dimension)
    by_id = {c.id: c for c in cases}
    changed = 0
    made = make(one_change(p_carving=1.0, carving=1.0, lesion="tumour", p_lesion=0.0), cases, 12)
    for m in made:
        if "donor" not in m.attributes:
            continue
        host, donor = source_of(m, cases), by_id[str(m.attributes["donor"])]
        got, theirs, ours = (x.labels.array[1] > 0 for x in (m, donor, host))
        came = got & ~ours
        changed += bool(came.any())
        assert (theirs[came]).all(), "a label that neither case has there"
        assert not (got & ~theirs & ~ours).any()
        if came.sum() > 10:
            assert float(m.image.array[0][came].mean()) < float(host.image.array[0][came].mean()) - 20
        assert {host.patient, donor.patient} <= m.origin.parents
        assert m.licence is not None
        assert {host.licence, donor.licence} <= set(m.licence.split("; "))
    assert changed >= 4


def test_carving_reaches_as_far_as_asked() -> None:
    i, j = np.meshgrid(np.arange(64) - 32, np.arange(64) - 32, indexing="ij")
    disc = (np.hypot(i, j) <= 8)[None, ..., None]
    grid, cases = Geometry((64, 64, 1)), []
    for c in range(3):
        image = 50 * disc + rng_for(c).standard_normal((1, 64, 64, 1)) + 100
        truth = LabelMap.on(grid, disc.astype(np.uint8), LabelScheme.of(["tumour"]))
        cases.append(Case(f"c{c}", f"p{c}", Image.on(grid, image.astype(np.float32)), truth))

    def widest(carving: float) -> float:
        made = make(one_change(p_carving=1.0, carving=carving), cases, 40)
        changed = [np.abs(m.image.array - source_of(m, cases).image.array) > 0.01 for m in made]
        return max(math.sqrt(float(c.sum()) / math.pi) for c in changed)

    for carving in (0.5, 1.0, 2.0):
        # The label's depth is its radius of 8; then comes half of the blend; 40 draws come near the largest.
        assert widest(carving) == pytest.approx(8 + 8 * carving + 1, abs=1.5)


def test_carving_in_a_patch_stays_in_it() -> None:
    for m in make(one_change(p_carving=1.0, carving=1.0, patch=24), bodies(), 12):
        assert m.image.geometry.shape == (24, 24, 1)
        assert np.isfinite(m.image.array).all()


# ---------------------------------------------------------------- stain


def test_stain_changes_colours_within_the_range_and_not_labels() -> None:
    rng = rng_for(0, "section")
    vectors = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11]])
    amounts = rng.gamma(1.0, 0.4, (2, 40, 40))
    amounts[:, :5] = 0
    picture = np.rint(255 * np.exp(-np.einsum("sc,sij->cij", vectors, amounts)))[..., None].astype(np.uint8)
    grid = Geometry((40, 40, 1), unit="px")
    labels = (picture[:1] < 120).astype(np.uint8)
    case = Case("s", "p", Image.on(grid, picture), LabelMap.on(grid, labels, LabelScheme.of(["nucleus"])))
    found = []
    for m in make(one_change(p_stain=1.0, stain=1.0), [case], 8):
        assert m.image.array.dtype == np.uint8
        np.testing.assert_array_equal(m.labels.array, labels)
        assert np.abs(m.image.array[:, :5].astype(float) - 255).max() <= 6  # glass stays clear
        found.append(m.image.array.astype(float).mean(axis=(1, 2, 3)))
    assert np.std(found, axis=0).min() > 2
    (still,) = make(one_change(p_stain=1.0), [case])
    np.testing.assert_array_equal(still.image.array, picture)

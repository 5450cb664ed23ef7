from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from equipoise.core import Geometry, LabelMap, LabelScheme, rng_for
from equipoise.engines.anatomy.tissue import Tissue
from equipoise.engines.imaging.simulate_histology.exposure import compressed, expose, saturated, transmitted
from equipoise.engines.imaging.simulate_histology.folds import folded
from equipoise.engines.imaging.simulate_histology.learned import noise_of, sharpness_of
from equipoise.engines.imaging.simulate_histology.looks import Look, table_of
from equipoise.engines.imaging.simulate_histology.painting import depth_inside, nearest_body, paint, streaks
from equipoise.engines.imaging.simulate_histology.scanners import PROFILES, Acquisition, Settings, blur_of
from equipoise.engines.imaging.simulate_histology.stains import LABORATORIES, matrix_of, turned, unmix
from equipoise.engines.imaging.simulate_histology.surroundings import scene_of
from equipoise.engines.parts.tissue_scene import EPITHELIUM, MEANINGS, SceneVoxels, TissueScene

PLAIN = Acquisition(
    "plain", "macenko", matrix_of(LABORATORIES["macenko"]), 4.0, (0.0, 0.0, 0.0), np.full(3, 255.0), 1.0, 1.0, 0.0, 0.0,
    100, False,
)  # fmt: skip
LOOK = Look(1.0, 1.0, 0.25, 0.1, 0.3, 0.25, 0.3, 1.0, 0.2, 0.2, 0.15, 0.2, 0.0)


def scene(seed: int = 0, size: int = 256, architecture: str = "solid") -> TissueScene:
    (labels,) = Tissue(size=(size, size, 1), architecture=architecture).draw(1, rng_for(seed, "scene"))
    assert isinstance(labels.voxels, SceneVoxels)
    return labels.voxels.scene


def painted(seed: int = 0, look: Look = LOOK) -> np.ndarray:
    drawn = scene(seed)
    return paint(drawn, look, table_of(drawn.kind, look, {}, rng_for(seed, "t")), 0.25, rng_for(seed, "p"))[..., None]


def density(picture: np.ndarray, white: float = 255.0) -> np.ndarray:
    found: np.ndarray = -np.log10(np.maximum(picture.astype(float), 1) / white)
    return found


def macenko(picture: np.ndarray, beta: float = 0.15, alpha: float = 1.0) -> np.ndarray:
    """Macenko et al. 2009 as it is written there, apart from the engine's own: SVD, extreme angles, columns H and E."""
    optical = density(picture).reshape(3, -1).T
    optical = optical[(optical > beta).any(axis=1)]
    _, _, rows = np.linalg.svd(optical, full_matrices=False)
    plane = rows[:2].T
    plane = plane * np.where(plane[0] < 0, -1, 1)
    phi = np.arctan2(optical @ plane[:, 1], optical @ plane[:, 0])
    low, high = np.percentile(phi, [alpha, 100 - alpha])
    ends = [plane @ np.array([np.cos(a), np.sin(a)]) for a in (low, high)]
    ends.sort(key=lambda v: -v[0])
    return np.stack([v / np.linalg.norm(v) for v in ends], axis=1)


def angle(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.degrees(np.arccos(np.clip(a @ b / np.linalg.norm(a) / np.linalg.norm(b), -1, 1))))


@pytest.mark.parametrize("name", sorted(LABORATORIES))
def test_optical_density_is_linear_in_concentration(name: str) -> None:
    # Beer-Lambert before the sensor: exact to float32.
    acquisition = replace(PLAIN, vectors=matrix_of(LABORATORIES[name]))
    for stain in range(3):
        amounts = np.zeros((3, 21, 1, 1), np.float32)
        amounts[stain, :, 0, 0] = np.linspace(0, 2, 21)
        measured = -np.log10(transmitted(amounts, acquisition)[:, :, 0, 0])
        np.testing.assert_allclose(measured, np.outer(acquisition.vectors[:, stain], amounts[stain]), atol=2e-6)
        twice = -np.log10(transmitted(amounts, replace(acquisition, thickness_um=8.0))[:, :, 0, 0])
        np.testing.assert_allclose(twice, 2 * measured, atol=4e-6)


def test_densities_of_two_stains_add_up() -> None:
    one, other = np.zeros((2, 3, 1, 1, 1), np.float32)
    one[0], other[1] = 0.7, 0.4
    both, first, second = (-np.log10(transmitted(c, PLAIN)) for c in (one + other, one, other))
    np.testing.assert_allclose(both, first + second, atol=1e-6)


def test_the_picture_keeps_the_density() -> None:
    # Through the whole exposure, to the rounding of grey values: 0.5/40 of the light at the darkest.
    amounts = np.zeros((3, 60, 4, 1), np.float32)
    amounts[0, :, :, 0] = np.linspace(0, 0.8, 60)[:, None]
    white = np.array([240.0, 232.0, 238.0])
    acquisition = replace(PLAIN, white=white)
    picture = expose(transmitted(amounts, acquisition), acquisition, 0.25, rng_for(0))
    wanted = np.outer(PLAIN.vectors[:, 0], amounts[0, :, 0, 0])
    measured = -np.log10(picture[:, :, 0, 0] / white[:, None])
    np.testing.assert_allclose(measured, wanted, atol=0.006)


@pytest.mark.parametrize("name", sorted(LABORATORIES))
@pytest.mark.parametrize("seed", [0, 1])
def test_stain_vectors_are_recovered_by_standard_unmixing(name: str, seed: int) -> None:
    # Tissue holds no pixel of pure stain in general, so a tenth of it is stained with one only, as on control slides.
    amounts = painted(seed)
    amounts[2] = 0
    amounts[1, :26], amounts[0, 26:52] = 0, 0
    amounts[0, :26] += 0.3
    amounts[1, 26:52] += 0.3
    acquisition = replace(PLAIN, vectors=matrix_of(LABORATORIES[name]), blur_um=blur_of(0.75, 0.1), noise=1.0, jpeg=95)
    picture = expose(transmitted(amounts, acquisition), acquisition, 0.25, rng_for(seed))
    found = macenko(picture)
    for stain in range(2):
        assert angle(found[:, stain], acquisition.vectors[:, stain]) < 3.0


def test_our_own_unmixing_agrees_with_the_standard_one() -> None:
    amounts = painted(3)
    amounts[2] = 0
    picture = expose(transmitted(amounts, PLAIN), PLAIN, 0.25, rng_for(0))
    ours = unmix(picture, rng_for(0))
    theirs = macenko(picture)
    assert angle(ours.vectors[:, 0], theirs[:, 0]) < 3.0
    assert angle(ours.vectors[:, 1], theirs[:, 1]) < 4.0
    np.testing.assert_allclose(np.linalg.norm(ours.vectors, axis=0), 1, atol=1e-6)
    # Concentrations explain the picture.
    shown = ours.white[:, None] * 10.0 ** -(ours.vectors @ ours.concentrations.reshape(3, -1))
    assert np.abs(shown - picture.reshape(3, -1)).mean() < 1.0


def test_gamma_scales_the_density_and_keeps_the_colour() -> None:
    amounts = np.full((3, 8, 8, 1), 0.3, np.float32)
    one, two = (
        density(expose(transmitted(amounts, a), a, 0.25, rng_for(0)))[:, 0, 0, 0]
        for a in (PLAIN, replace(PLAIN, gamma=1.3))
    )
    np.testing.assert_allclose(two, 1.3 * one, rtol=0.02)
    assert angle(one, two) < 1.0


def test_blur_is_that_of_the_aperture() -> None:
    # Rayleigh's first zero lies at 0.61 wavelengths over NA, which is 2.7 standard deviations of the fitted Gaussian.
    red, green, blue = blur_of(0.75, 0.0)
    assert red > green > blue
    assert green == pytest.approx(0.61 * 0.54 / 0.75 / 2.71, rel=0.01)
    assert blur_of(0.75, 2.0)[1] > 4 * green
    assert blur_of(0.40, 0.0)[1] > 1.8 * green


def test_a_line_is_as_wide_as_the_blur() -> None:
    light = np.ones((3, 101, 5, 1), np.float32)
    light[:, 50] = 0.0
    acquisition = replace(PLAIN, blur_um=(0.5, 0.5, 0.5))
    picture = expose(light, acquisition, 0.25, rng_for(0))[1, :, 2, 0].astype(float)
    lost = 255 - picture
    x = np.arange(101) - 50
    assert np.sqrt((lost * x**2).sum() / lost.sum()) * 0.25 == pytest.approx(0.5, abs=0.05)


def test_colours_are_fringed_along_the_scan() -> None:
    light = np.ones((3, 64, 4, 1), np.float32)
    light[:, 32:] = 0.2
    picture = expose(light, replace(PLAIN, chromatic_um=0.5), 0.25, rng_for(0)).astype(float)
    edges = [np.interp(150, picture[c, ::-1, 2, 0], np.arange(64)[::-1]) for c in range(3)]
    assert edges[1] - edges[0] == pytest.approx(2.0, abs=0.1)
    assert edges[2] - edges[1] == pytest.approx(2.0, abs=0.1)


def test_noise_follows_the_light() -> None:
    light = np.ones((3, 64, 64, 1), np.float32)
    light[:, 32:] = 0.25
    acquisition = replace(PLAIN, noise=4.0, white=np.full(3, 200.0))
    picture = expose(light, acquisition, 0.25, rng_for(0)).astype(float)
    bright, dark = picture[:, :32].std(), picture[:, 32:].std()
    assert bright == pytest.approx(4.0 * np.sqrt(200 / 255), rel=0.05)
    assert bright / dark == pytest.approx(2.0, rel=0.06)


def test_noise_and_sharpness_are_measured() -> None:
    amounts = painted(4)
    calm = [expose(transmitted(amounts, a), a, 0.25, rng_for(0))[1, :, :, 0] for a in _blurred()]
    sharp = [sharpness_of(picture, 0.0) for picture in calm]
    assert sharp[0] > 1.2 * sharp[1] > 1.2 * 1.2 * sharp[2]
    rng = rng_for(1)
    flat = 200 + 3.0 * rng.standard_normal((200, 200))
    assert noise_of(flat) == pytest.approx(3.0, rel=0.1)


def _blurred() -> list[Acquisition]:
    return [replace(PLAIN, blur_um=(s, s, s)) for s in (0.1, 0.3, 0.6)]


def test_saturation_leaves_grey_alone() -> None:
    grey = np.full((3, 4, 4, 1), 0.6, np.float32)
    np.testing.assert_allclose(saturated(grey, 0.5), grey, atol=1e-6)
    colour = grey * np.array([1.2, 1.0, 0.8], np.float32)[:, None, None, None]
    assert np.ptp(saturated(colour, 0.5)[:, 0, 0, 0]) == pytest.approx(0.5 * np.ptp(colour[:, 0, 0, 0]), rel=1e-4)


def test_compression_keeps_axes_and_loses_detail() -> None:
    rng = rng_for(0)
    picture = np.zeros((3, 40, 24, 1), np.uint8)
    picture[0, :20], picture[2, :, 12:] = 200, 90
    assert np.abs(compressed(picture, 95, False).astype(int) - picture).mean() < 3
    assert compressed(picture, 100, False) is picture
    noisy = rng.integers(0, 255, picture.shape).astype(np.uint8)
    lost = [np.abs(compressed(noisy, q, False).astype(int) - noisy).mean() for q in (95, 40)]
    assert lost[1] > 2 * lost[0]
    assert np.abs(compressed(noisy, 95, True).astype(int) - noisy).mean() > 2 * lost[0]


def test_a_laboratory_varies_by_the_stated_angle() -> None:
    rng = rng_for(0)
    vector = matrix_of(LABORATORIES["qupath"])[:, 0]
    angles = [angle(turned(vector, 5.0, rng), vector) for _ in range(200)]
    np.testing.assert_allclose(angles, 5.0, atol=1e-3)
    settings_ = Settings(6.0, (4.0, 4.0), None, (0.0, 0.0), None, None, None, None, None)
    drawn = [angle(settings_.draw(sorted(PROFILES)[0], "qupath", rng_for(i)).vectors[:, 0], vector) for i in range(300)]
    assert np.sqrt(np.mean(np.square(drawn))) == pytest.approx(6.0, rel=0.12)


def test_a_fold_lies_on_the_tissue_and_adds_up() -> None:
    amounts = painted(5)
    out, share = folded(amounts, 0.25, rng_for(2))
    assert 0 < share.mean() < 0.8
    np.testing.assert_array_equal(out[:, share == 0], amounts[:, share == 0])
    assert out[:, share == 1].mean() > 1.5 * amounts[:, share == 1].mean()


def test_chromatin_is_where_nuclei_are_and_kinds_differ() -> None:
    drawn = scene(1, 320, "lymphoid")
    amounts = paint(drawn, LOOK, table_of(drawn.kind, LOOK, {}, rng_for(0)), 0.25, rng_for(1))
    inside = drawn.body > 0
    assert amounts[0][inside].mean() > 5 * amounts[0][~inside].mean()
    levels = {k: amounts[0][drawn.kind[drawn.body] == k].mean() for k in (1, 2)}
    assert levels[1] > 1.1 * levels[2], "lymphocytes are denser than fibroblasts"
    assert amounts.min() >= 0


def test_collagen_runs_along_its_fibres() -> None:
    drawn = streaks(np.full((200, 200), 0.5, np.float32), 0.25, rng_for(0))
    steps = np.stack(np.gradient(drawn))
    along = np.abs(steps[0] * np.cos(0.5) + steps[1] * np.sin(0.5)).mean()
    across = np.abs(-steps[0] * np.sin(0.5) + steps[1] * np.cos(0.5)).mean()
    assert across > 1.8 * along
    assert drawn.std() == pytest.approx(1.0, abs=0.1)


def test_distances_are_those_of_the_nearest_body() -> None:
    rng = rng_for(0)
    body = np.zeros((60, 70), np.int32)
    for n in range(1, 9):
        i, j = rng.integers(0, 50, 2)
        body[i : i + 5, j : j + 7] = n
    nearest, distance = nearest_body(body)
    exact = ndimage.distance_transform_edt(body == 0)
    np.testing.assert_allclose(distance, exact, atol=0.3)  # vector propagation errs by a fraction of a pixel
    np.testing.assert_array_equal(nearest[body > 0], body[body > 0])
    depth = depth_inside(body)
    assert (depth[body == 0] == 0).all()
    assert depth[body > 0].min() == 0.5


@settings(max_examples=15)
@given(st.floats(0, 2), st.floats(0, 2), st.floats(1, 10), st.sampled_from(sorted(LABORATORIES)), st.floats(0.5, 2))
def test_more_stain_is_never_brighter(h: float, e: float, thickness: float, name: str, gamma: float) -> None:
    acquisition = replace(PLAIN, vectors=matrix_of(LABORATORIES[name]), thickness_um=thickness, gamma=gamma)
    amounts = np.array([[0, h], [0, e], [0, 0]], np.float32)[:, :, None, None]
    picture = expose(transmitted(amounts, acquisition), acquisition, 0.25, rng_for(0)).astype(int)
    assert (picture[:, 1] <= picture[:, 0]).all()
    assert (picture[:, 0] == 255).all(), "glass is white"


def test_surroundings_of_nuclei_alone_are_tissue() -> None:
    body = np.zeros((1, 200, 200, 1), np.uint16)
    number = 0
    for i in range(6, 190, 36):
        for j in range(6, 90, 36):
            number += 1
            body[0, i : i + 28, j : j + 28] = number
    labels = LabelMap.on(Geometry.from_spacing((200, 200, 1), (0.00025,) * 3), body, LabelScheme.of(["nucleus"]))
    found = scene_of(labels, [MEANINGS["nucleus"]], 0.25, rng_for(0))
    assert (found.compartment[20:170, 20:80] == EPITHELIUM).mean() > 0.9
    assert (found.compartment[:, 170:] == EPITHELIUM).mean() < 0.05
    assert len(found.kind) == number + 1

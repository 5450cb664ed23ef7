from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from equipoise.core import Case, Geometry, Image, LabelMap, LabelScheme, rng_for
from equipoise.core.registry import parameters
from equipoise.engines.anatomy.eye_fundus import EyeFundus
from equipoise.engines.imaging.simulate_fundus import SimulateFundus, optics
from equipoise.engines.imaging.simulate_fundus.cameras import CAMERAS, Exposure
from equipoise.engines.imaging.simulate_fundus.development import compressed, developed
from equipoise.engines.imaging.simulate_fundus.eyes import blood_of
from equipoise.engines.imaging.simulate_fundus.fundus import Look, fundus_of
from equipoise.engines.imaging.simulate_fundus.layers import Sight, seen_through, vessel_layers
from equipoise.engines.imaging.simulate_fundus.picture import (
    Aperture,
    aperture_of,
    exposed,
    illumination,
    scattered,
)
from equipoise.engines.parts.normal_table import quick_normal
from equipoise.engines.parts.retina import Ellipse, Field, Landmarks
from equipoise.engines.parts.retina_photograph import mean_where
from equipoise.errors import DataError, EquipoiseError, GeometryMismatchError, LabelError
from equipoise.testing.engine_contract import EngineContract

# Delori and Pflibsen 1989, Table I: mean reflectance in % of ten subjects at nasal fundus, perifovea and fovea.
MEASURED = np.array([
    [445, 1.01, 0.68, 0.23], [455, 1.14, 0.73, 0.25], [480, 1.44, 0.89, 0.33], [505, 1.82, 1.20, 0.58],
    [522, 1.94, 1.41, 0.94], [540, 1.88, 1.44, 1.11], [548, 2.04, 1.53, 1.18], [560, 2.25, 1.61, 1.24],
    [575, 2.20, 1.62, 1.29], [586, 2.72, 1.88, 1.48], [595, 4.17, 2.62, 2.11], [610, 6.36, 3.99, 3.30],
    [640, 8.46, 5.79, 4.97], [675, 10.21, 7.70, 6.68],
])  # fmt: skip
SITES = ((1, 0.0, 1.0, 1.0), (2, 0.05, 1.9, 0.5), (3, 1.0, 2.1, 0.1))
"""Column of `MEASURED`, and factors on macular pigment, pigment epithelium and nerve fibres, as `layers` has them."""

EYE = {"kind": "eye-fundus", "size": [128, 120], "twigs": [25, 35]}
PLAIN = Exposure("film, digitised", 1.0, (1, 1, 1), 2.2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1e12, 0, 101)


def one(engine: SimulateFundus, seed: int = 0, given: Sequence[LabelMap] | None = None) -> Case:
    return next(engine.sample(1, rng_for(seed, "fundus"), given))


def linear(case: Case) -> np.ndarray:
    return np.asarray((case.image.array[..., 0] / 255.0) ** 2.2)


@functools.cache
def small_photographs(colour: bool = True) -> tuple[Case, ...]:
    return photographs(2, colour, 56)


def photographs(n: int = 3, colour: bool = True, size: int = 120, **changes: object) -> tuple[Case, ...]:
    """Training cases: simulated ones given out as real, with the vessels labelled."""
    anatomy = {**EYE, "structures": ["vessel"], "unit": "px", "size": [size + 8, size]}
    engine = SimulateFundus(anatomy=anatomy, colour=colour, **changes)  # type: ignore[arg-type]
    made = engine.sample(n, rng_for(11, "photographs"))
    return tuple(Case(f"case-{i}", f"real-{i}", c.image, c.labels, modality="fundus") for i, c in enumerate(made))


# ---------------------------------------------------------------- reflectance


def test_spectra_are_those_measured_in_people() -> None:
    eye = optics.Fundus(age=28, rpe=0.115, melanin=0.47, blood_um=72, macular=0.66, sheen=0.022)
    errors = []
    for column, macular, rpe, sheen in SITES:
        modelled = 100 * np.interp(MEASURED[:, 0], optics.WAVELENGTHS_NM, eye.reflectance(macular, rpe, sheen))
        errors.append(np.log(modelled / MEASURED[:, column]))
    assert np.sqrt(np.mean(np.square(errors))) < 0.15
    assert np.abs(errors).max() < 0.35


def test_turbid_layer_has_its_limits() -> None:
    s = np.array([0.1, 1.0, 5.0])
    none = np.full(3, 1e-9)
    np.testing.assert_allclose(optics.turbid_layer(none, s, 0.0), s / (1 + s), rtol=1e-3)
    np.testing.assert_allclose(optics.turbid_layer(none, s, 0.4), (0.4 + s * 0.6) / (1 + s * 0.6), rtol=1e-3)
    ratio = np.array([0.1, 1.0, 8.0])
    endless = 1 + ratio - np.sqrt(ratio**2 + 2 * ratio)
    np.testing.assert_allclose(optics.turbid_layer(200 * ratio, np.full(3, 200.0), 0.4), endless, rtol=1e-6)
    clear = optics.turbid_layer(np.array([0.7]), np.array([1e-4]), 0.5)
    np.testing.assert_allclose(clear, 0.5 * np.exp(-2 * 0.7), rtol=1e-3)


def test_blood_absorbs_by_beer_and_lambert() -> None:
    path = np.array([0.0, 10.0, 40.0, 160.0])
    mu = optics.blood_per_um(0.97) + optics.blood_scattering()
    once = np.exp(-path[:, None] * mu)
    share = optics.DOUBLE_PASS
    np.testing.assert_allclose(optics.vessel_transmission(path, 0.97), share * once**2 + (1 - share) * once)
    # Whole blood at 540 nm: 285 per cm at 150 g/l.
    green = optics.blood_per_um(1.0)[optics.WAVELENGTHS_NM == 540][0]
    assert 1e4 * green == pytest.approx(285, rel=0.02)
    # Isosbestic at 500 and 570, oxygenated brighter at 640.
    for wave, same in ((500, True), (570, True), (640, False)):
        at = wave == optics.WAVELENGTHS_NM
        ratio = optics.blood_per_um(0.0)[at][0] / optics.blood_per_um(1.0)[at][0]
        assert (abs(ratio - 1) < 0.03) == same
        assert same or ratio > 5


def test_backscatter_of_blood_saturates() -> None:
    thin, thick, wide = (optics.vessel_backscatter(np.array([p]), 0.97)[0] for p in (1.0, 200.0, 1e5))
    np.testing.assert_allclose(thin, optics.BACKWARDS * optics.blood_scattering(), rtol=0.6)
    assert (thin < thick).all()
    assert (thick <= wide + 1e-12).all()
    assert wide.max() < 0.15


def test_pigments_have_their_spectra() -> None:
    peak = optics.WAVELENGTHS_NM[np.argmax(optics.macular_shape())]
    assert peak == 460
    assert optics.macular_shape()[optics.WAVELENGTHS_NM >= 560].max() < 0.01
    young, old = optics.media_density(20), optics.media_density(75)
    assert (old > young).all()
    blue = optics.WAVELENGTHS_NM == 420
    assert 0.3 < young[blue][0] < 0.8
    assert 0.8 < old[blue][0] < 1.6
    assert np.allclose(optics.bands((600, 540, 460), (30, 30, 30)).sum(axis=1), 1)


def test_tables_are_the_integral_over_the_spectrum() -> None:
    """Fundus far from disc, macula and vessels, without patterns, against the spectrum integrated directly."""
    eye = optics.Fundus(40, 0.15, 0.8, 90, 0.5, 0.01)
    far = Ellipse(-4000, -4000, 40, 40)
    marks = Landmarks(far, far, (4000, 4000), 25.0)
    bands = optics.bands((610, 540, 455), (32, 34, 25))
    sight = Sight(eye, bands)
    fundus = fundus_of(sight, Look(0, 0, 0, 0, 0), marks, {}, (40, 40), rng_for(0, "t"))
    exact = bands @ eye.reflectance(sheen=0.12)  # the thin layer of fibres far from the disc
    np.testing.assert_allclose(fundus.mean(axis=(1, 2)), exact, rtol=0.03)
    path = np.zeros((2, 40, 40), np.float32)
    np.testing.assert_array_equal(seen_through(fundus, vessel_layers(sight, path, path, 0.0)), fundus)
    path[1] = 90.0
    dark = seen_through(fundus, vessel_layers(sight, path, np.zeros_like(path), 0.0))
    spectrum = eye.reflectance(sheen=0.12) * optics.vessel_transmission(np.array([90.0]), optics.VENOUS)[0]
    through = np.exp(-2 * optics.LN10 * optics.media_density(eye.age))
    spectrum = spectrum + through * optics.vessel_backscatter(np.array([90.0]), optics.VENOUS)[0]
    np.testing.assert_allclose(dark.mean(axis=(1, 2)), bands @ spectrum, rtol=0.06)


# ---------------------------------------------------------------- camera


def open_field(n: int = 200) -> Aperture:
    return Aperture(np.ones((n, n), np.float32), Field((n - 1) / 2, (n - 1) / 2, n / 2))


def test_illumination_falls_to_the_edge_as_set() -> None:
    lit = illumination(replace(PLAIN, vignetting=0.4), open_field(), (200, 200))
    assert lit[100, 100] == pytest.approx(1, abs=0.01)
    assert lit[199, 100] == pytest.approx(0.6, abs=0.02)
    tilted = illumination(replace(PLAIN, tilt=0.3, tilt_angle=0.0), open_field(), (200, 200))
    assert tilted[199, 100] / tilted[0, 100] == pytest.approx(1.3 / 0.7, rel=0.02)


def test_noise_is_that_of_photons() -> None:
    rng = rng_for(0, "photons")
    photons = np.array([1e4, 3e4, 1e5, 1e6])
    variance = []
    for count in photons:
        signal = np.full((1, 300, 300), 0.5, np.float32)
        developed(signal, quick_normal(signal.shape, rng), count, np.ones(1), 1.0, signal)
        variance.append(float((signal / 255).var()))
    slope = np.polyfit(np.log(photons), np.log(variance), 1)[0]
    assert slope == pytest.approx(-1, abs=0.03)
    assert variance[3] == pytest.approx(0.5 / 1e6, rel=0.03)


def test_scatter_lowers_contrast_by_its_share() -> None:
    light = np.ones((3, 200, 200), np.float32)
    light[:, 99:101] = 0.0
    lit = np.ones((25, 25), np.float32)
    for share in (0.0, 0.3):
        got = scattered(light, lit, replace(PLAIN, opacity=share), open_field())[1]
        assert got[150, 100] - got[100, 100] == pytest.approx(1 - share, abs=0.02)


def test_tone_curve_is_the_gamma_below_the_shoulder() -> None:
    def toned(values: np.ndarray) -> np.ndarray:
        grey = np.empty((1, 1, len(values)), np.float32)
        developed(values[None, None].astype(np.float32), np.zeros_like(grey), 1e9, np.ones(1), 2.2, grey)
        return grey

    values = np.linspace(0.02, 0.75, 50)
    np.testing.assert_allclose(toned(values)[0, 0], 255 * values ** (1 / 2.2), rtol=0.01)
    steps = toned(np.linspace(0, 2, 400))
    assert (np.diff(steps[0, 0]) >= 0).all()
    assert steps.max() <= 255


def test_compression_loses_little_and_keeps_axes() -> None:
    x, y = np.meshgrid(np.arange(60), np.arange(44), indexing="ij")
    smooth = np.stack([2 * x + 40, 3 * y + 20, x + y]).astype(np.float32)
    assert np.abs(compressed(smooth, 97).astype(float) - smooth).mean() < 2
    np.testing.assert_array_equal(compressed(smooth, 101), np.rint(smooth))
    assert np.abs(compressed(smooth[:1], 90).astype(float) - smooth[:1]).mean() < 2


def test_apertures() -> None:
    field = Field(100, 90, 80)
    for name, camera in CAMERAS.items():
        seen = aperture_of((200, 180), field, camera, -0.6).open > 0.5
        disc = np.pi * 80**2
        assert seen[100, 90], name
        assert not seen[0, 0]
        assert (seen.sum() < 0.98 * disc) == (camera.flat < 1)
        beyond = np.hypot(*np.ogrid[-100:100, -90:90]) > 82
        assert (seen & beyond).any() == camera.tab


def test_blur_is_as_set() -> None:
    light = np.full((1, 160, 160), 0.004, np.float32)
    light[:, 80:] = 0.012
    for blur_um in (20.0, 60.0):
        grey = exposed(light, replace(PLAIN, blur_um=blur_um), open_field(160), 10.0, rng_for(0, "blur"))
        profile = np.diff((grey[0, :, 60:100].mean(axis=1) / 255) ** 2.2)[40:120]
        at = np.arange(len(profile))
        middle = (profile * at).sum() / profile.sum()
        width = np.sqrt((profile * (at - middle) ** 2).sum() / profile.sum())
        assert width == pytest.approx(blur_um / 10, rel=0.08)


# ---------------------------------------------------------------- pictures


def test_colours_of_the_structures() -> None:
    """Veins darker than arteries, both darker than what is beside them; a bright disc, a dark macula."""
    engine = SimulateFundus(
        anatomy={"kind": "eye-fundus", "size": [256, 256]}, scanner="non-mydriatic, three chips", noise=0.1,
        haze=(0, 0), unevenness=(0, 0),
    )  # fmt: skip
    for seed in range(3):
        case = one(engine, seed)
        light, masks = linear(case), {n: case.labels.mask(n)[..., 0] for n in case.labels.scheme.names}
        vessels = masks["artery"] | masks["vein"]
        x, y = np.ogrid[:256, :256]
        inner = np.hypot(x - 127.5, y - 127.5) < 110
        deep = ndimage.distance_transform_edt(vessels) >= 1.5
        beside = (
            inner & ndimage.binary_dilation(vessels, iterations=5) & ~ndimage.binary_dilation(vessels, iterations=2)
        )
        beside &= ~ndimage.binary_dilation(masks["optic disc"], iterations=8)
        away = inner & deep & ~ndimage.binary_dilation(masks["optic disc"], iterations=3)
        artery = light[:, away & masks["artery"] & ~masks["vein"]].mean(axis=1) / light[:, beside].mean(axis=1)
        vein = light[:, away & masks["vein"] & ~masks["artery"]].mean(axis=1) / light[:, beside].mean(axis=1)
        assert vein[1] < artery[1] < 0.97
        assert vein[0] < artery[0] < 1.35  # in red, blood shines on a dark choroid
        disc = masks["optic disc"] & ~vessels & inner
        assert light[1, disc].mean() > 1.4 * light[1, beside].mean()
        middle = np.argwhere(masks["fovea"]).mean(axis=0)
        centre = np.hypot(x - middle[0], y - middle[1])
        ring = (centre > 25) & (centre < 40) & inner & ~ndimage.binary_dilation(vessels, iterations=2)
        assert light[1, centre < 5].mean() < 0.93 * light[1, ring].mean()
        assert light[0, inner].mean() > light[1, inner].mean() > light[2, inner].mean()


def test_nothing_shows_beyond_the_aperture() -> None:
    for camera in CAMERAS:
        case = one(SimulateFundus(scanner=camera, anatomy=EYE))
        assert case.image.array[:, :3, :3].max() < 16
        assert case.scanner == f"simulated, {camera}"
        assert case.labels.array[:, :2, :2].sum() == 0


def test_eyes_of_the_anatomy_are_told() -> None:
    for eye in ("left", "right"):
        case = one(SimulateFundus(anatomy={**EYE, "eye": eye}))
        assert case.attributes["eye"] == eye


def test_same_picture_of_one_or_three_colours() -> None:
    case = one(SimulateFundus(anatomy=EYE, colour=False))
    assert case.image.array.shape == (1, 128, 120, 1)
    assert case.image.array.std() > 10


def test_a_map_of_vessels_alone_gets_disc_and_macula() -> None:
    """Landmarks of a map without them are found by its vessels; its picture has a disc there."""
    anatomy = EyeFundus(size=(256, 256), structures=("vessel",), unit="px")
    engine = SimulateFundus(haze=(0, 0), unevenness=(0, 0), noise=0.2, opacity=(0.05, 0.05))
    for labels, eye in anatomy.draw_placed(4, rng_for(5, "alone")):
        case = one(engine, given=[labels])
        assert case.labels is labels or np.array_equal(case.labels.array, labels.array)
        green = ndimage.gaussian_filter(linear(case)[1], 3)
        brightest = np.array(np.unravel_index(np.argmax(green), green.shape))
        off = np.hypot(*(brightest - [eye.landmarks.disc.x, eye.landmarks.disc.y]))
        assert off < 0.25 * eye.field.radius
        assert case.attributes["eye"] == ("right" if eye.landmarks.right else "left")
        vessels = labels.mask("vessel")[..., 0]
        beside = ndimage.binary_dilation(vessels, iterations=4) & ~ndimage.binary_dilation(vessels, iterations=2)
        assert linear(case)[1][vessels].mean() < 0.9 * linear(case)[1][beside].mean()


def test_blood_of_a_mask_is_that_of_the_vessels() -> None:
    anatomy = EyeFundus(size=(512, 512), field_deg=(25.0, 25.0), structures=("artery", "vein"), tortuosity=(0, 0))
    labels, eye = next(anatomy.draw_placed(1, rng_for(0, "blood")))
    guessed, _ = blood_of(labels.scheme.names, labels.masks()[..., 0], eye.landmarks.um_per_px)
    inner = np.hypot(*np.ogrid[-256:256, -256:256]) < 240
    for kind in range(2):
        wide = inner & (eye.lumen_um[kind] > 50)
        assert guessed[kind][wide].mean() == pytest.approx(eye.lumen_um[kind][wide].mean(), rel=0.12)
        assert np.corrcoef(guessed[kind][inner], eye.lumen_um[kind][inner])[0, 1] > 0.9


def test_stated_tissues_are_shown() -> None:
    labels = next(EyeFundus(size=(128, 120), structures=("vessel",)).draw(1, rng_for(0, "l")))
    spot = np.zeros((128, 120, 1), np.uint8)
    spot[60:70, 55:65] = 1
    scheme = LabelScheme.of(["vessel", "drusen"], exclusive=False)
    both = LabelMap.on(labels.geometry, np.stack([labels.array[0], spot]), scheme)
    with pytest.raises(LabelError, match="how 'drusen' looks"):
        one(SimulateFundus(), given=[both])
    shown = one(SimulateFundus(tissues={"drusen": [1.2, 2.5, 2.0]}), given=[both])
    plain = one(SimulateFundus(tissues={"drusen": [1.0, 1.0, 1.0]}), given=[both])
    ratio = linear(shown)[:, 62:68, 57:63].mean(axis=(1, 2)) / linear(plain)[:, 62:68, 57:63].mean(axis=(1, 2))
    assert ratio[1] > 1.4
    assert ratio[1] > ratio[0]


def test_labels_beyond_the_aperture_do_not_count() -> None:
    grid = Geometry.from_spacing((90, 90, 1), (1, 1, 1), "px")
    labels = LabelMap.on(grid, np.ones((1, 90, 90, 1), np.uint8), LabelScheme.of(["vessel"]))
    case = one(SimulateFundus(), given=[labels])
    assert case.labels.ignored()[0, 0, 0]
    assert not case.labels.ignored()[45, 45, 0]
    np.testing.assert_array_equal(case.labels.array, labels.array)


PLAIN_ENGINE: Mapping[str, object] = {
    "scanner": "screening, white light", "age": (40.0, 40.0), "pigmentation": (0.5, 0.5), "anatomy": EYE,
    "quality": (101, 101), "opacity": (0.1, 0.1), "haze": (0.0, 0.0), "unevenness": (0.0, 0.0),
}  # fmt: skip
EFFECTS: tuple[tuple[str, object, object], ...] = (
    ("scanner", "hand-held", "film, digitised"),
    ("age", (10.0, 10.0), (80.0, 80.0)),
    ("pigmentation", (0.1, 0.1), (1.0, 1.0)),
    ("blood_um", (40.0, 40.0), (200.0, 200.0)),
    ("macular", (0.0, 0.0), (1.2, 1.2)),
    ("sheen", 0.0, 3.0),
    ("tigroid", 0.0, 3.0),
    ("reflex", 0.0, 8.0),
    ("exposure", (0.7, 0.7), (1.3, 1.3)),
    ("white_balance", 0.0, 0.6),
    ("unevenness", (0.0, 0.0), (0.5, 0.5)),
    ("haze", (0.0, 0.0), (1.0, 1.0)),
    ("defocus_um", (0.0, 0.0), (150.0, 150.0)),
    ("opacity", (0.0, 0.0), (0.7, 0.7)),
    ("noise", 0.2, 6.0),
    ("sharpening", (0.0, 0.0), (2.0, 2.0)),
    ("quality", (10, 10), (101, 101)),
    ("colour", True, False),
)


@pytest.mark.parametrize(("name", "low", "high"), EFFECTS, ids=[e[0] for e in EFFECTS])
def test_every_parameter_shows(name: str, low: object, high: object) -> None:
    pictures = [
        one(SimulateFundus(**{**PLAIN_ENGINE, name: value})).image.array.astype(float)  # type: ignore[arg-type]
        for value in (low, high)
    ]
    assert pictures[0].shape != pictures[1].shape or np.abs(pictures[0] - pictures[1]).mean() > 0.15, name


def test_every_parameter_is_tested() -> None:
    elsewhere = {"tissues", "field_deg", "um_per_px", "texture", "anatomy", "learn"}
    assert {e[0] for e in EFFECTS} | elsewhere == set(parameters(SimulateFundus))


@pytest.mark.parametrize("scale", [{"field_deg": 20.0}, {"um_per_px": 8.0}])
def test_scale_of_pixels_matters(scale: dict[str, float]) -> None:
    labels = next(EyeFundus(size=(128, 120), structures=("vessel",), unit="px").draw(1, rng_for(0, "l")))
    engines = (SimulateFundus(scanner="hand-held"), SimulateFundus(scanner="hand-held", **scale))  # type: ignore[arg-type]
    one_, other = (one(engine, given=[labels]) for engine in engines)
    assert np.abs(one_.image.array.astype(float) - other.image.array).mean() > 2
    assert float(other.attributes["um_per_px"]) < float(one_.attributes["um_per_px"])


@settings(max_examples=12)
@given(
    size=st.tuples(st.integers(20, 90), st.integers(20, 90)),
    scanner=st.sampled_from([None, *CAMERAS]),
    age=st.floats(0, 110),
    pigment=st.floats(0, 1.5),
    haze=st.floats(0, 3),
    opacity=st.floats(0, 0.9),
    defocus=st.floats(0, 300),
    noise=st.floats(0, 20),
    colour=st.booleans(),
    seed=st.integers(0, 99),
)
def test_any_parameters_give_a_picture(
    size: tuple[int, int], scanner: str | None, age: float, pigment: float, haze: float, opacity: float, defocus: float,
    noise: float, colour: bool, seed: int,
) -> None:  # fmt: skip
    engine = SimulateFundus(
        scanner=scanner, age=(age, age), pigmentation=(pigment, pigment), haze=(haze, haze), opacity=(opacity, opacity),
        defocus_um=(defocus, defocus), noise=noise, colour=colour,
        anatomy={"kind": "eye-fundus", "size": size, "twigs": [4, 8]},
    )  # fmt: skip
    case = one(engine, seed)
    assert case.image.array.shape == (3 if colour else 1, *size, 1)
    assert case.image.array.dtype == np.uint8
    assert case.image.array.std() > 0


# ---------------------------------------------------------------- learning


def inner_of(case: Case) -> np.ndarray:
    i, j = (np.arange(n) - (n - 1) / 2 for n in case.image.array.shape[1:3])
    return np.asarray(np.hypot(i[:, None], j[None]) < 0.4 * min(case.image.array.shape[1:3]))


def mean_colour(cases: Sequence[Case]) -> np.ndarray:
    return np.asarray(np.mean([c.image.array[..., 0][:, inner_of(c)].mean(axis=1) for c in cases], axis=0))


def contrast(cases: Sequence[Case]) -> float:
    """Mean logarithm of green on vessels against what is around them."""
    found = []
    for case in cases:
        vessels, light = case.labels.mask("vessel")[..., 0], np.log(linear(case)[1] + 0.01)
        free = 1.0 - ndimage.binary_dilation(vessels, iterations=2)
        found.append((light - mean_where(light, free, 5.0))[vessels & inner_of(case)].mean())
    return float(np.mean(found))


def roughness(cases: Sequence[Case]) -> float:
    high = [c.image.array[1, ..., 0].astype(float) for c in cases]
    return float(
        np.median(
            [np.abs(g - ndimage.gaussian_filter(g, 1.5))[inner_of(c)].mean() for g, c in zip(high, cases, strict=True)]
        )
    )


WORLDS: tuple[dict[str, Any], ...] = (
    {"scanner": "hand-held", "noise": 0.5, "quality": (98, 98), "sharpening": (0.0, 0.0), "opacity": (0.05, 0.1)},
    {
        "scanner": "screening, white light",
        "noise": 5.0,
        "quality": (98, 98),
        "sharpening": (0.0, 0.0),
        "opacity": (0.5, 0.5),
    },
)


@functools.cache
def photographs_of(world: int) -> tuple[Case, ...]:
    return photographs(3, size=160, **WORLDS[world])


@pytest.mark.parametrize(
    "anatomy",
    [{**EYE, "size": [160, 160]}, "warped", pytest.param("real", marks=pytest.mark.slow)],
    ids=["drawn", "warped", "real"],
)
def test_fit_recovers_the_photographs(anatomy: dict[str, object] | str) -> None:
    shown = []
    for world in range(len(WORLDS)):
        real = photographs_of(world)
        fitted = SimulateFundus(anatomy=anatomy).fit(real, rng_for(0, "fit"))
        made = list(fitted.sample(4, rng_for(1, "made")))
        np.testing.assert_allclose(mean_colour(made), mean_colour(real), rtol=0.25, atol=10)
        assert roughness(made) == pytest.approx(roughness(real), rel=0.4)
        assert contrast(made) == pytest.approx(contrast(real), rel=0.45)
        assert all(c.origin.parents == {r.patient for r in real} for c in made)
        assert all(c.image.array.shape == real[0].image.array.shape for c in made)
        shown.append((mean_colour(made), roughness(made), contrast(made)))
    assert shown[0][0][2] < shown[1][0][2]  # blue
    assert shown[0][1] < shown[1][1]
    assert shown[0][2] < shown[1][2]  # deeper vessels without scatter


def test_learned_tissue_is_never_flat() -> None:
    real = photographs(3)
    fitted = SimulateFundus(anatomy="real").fit(real, rng_for(0, "fit"))
    for case in fitted.sample(3, rng_for(1, "made")):
        assert case.attributes["tissue"] == "learned"
        bare = inner_of(case) & ~ndimage.binary_dilation(case.labels.mask("vessel")[..., 0], iterations=2)
        green = ndimage.gaussian_filter(case.image.array[1, ..., 0].astype(float), 2)
        assert green[bare].std() > 3
    strength = [roughness(list(replace(fitted, texture=t).sample(3, rng_for(1, "made")))) for t in (0.0, 1.0, 2.0)]
    assert strength[0] < strength[1] < strength[2]


def test_learned_labels_without_physics_are_rendered() -> None:
    real = [replace(c, truth=replace(c.labels, scheme=LabelScheme.of(["lesion"]))) for c in photographs(2)]
    fitted = SimulateFundus(anatomy="warped").fit(real, rng_for(0, "fit"))
    (made,) = fitted.sample(1, rng_for(0, "made"))
    assert made.labels.scheme.names == ("lesion",)
    (given_,) = fitted.sample(1, rng_for(0, "made"), [real[0].labels])
    np.testing.assert_array_equal(given_.labels.array, real[0].labels.array)


def test_patches_of_real_maps_are_rendered() -> None:
    fitted = SimulateFundus(anatomy={"kind": "real", "patch": 48}).fit(photographs(2), rng_for(0, "fit"))
    for case in fitted.sample(3, rng_for(0, "patch")):
        assert case.image.array.shape == (3, 48, 48, 1)


def test_learning_is_a_choice() -> None:
    cases = photographs(2)
    still = {**EYE, "learn": False}
    kept = SimulateFundus(learn=False, anatomy=still).fit(cases, rng_for(0, "fit"))
    assert kept.parents == frozenset()
    a, b = one(kept), one(SimulateFundus(learn=False, anatomy=still))
    np.testing.assert_array_equal(a.image.array, b.image.array)
    imaging = SimulateFundus(anatomy=still).fit(cases, rng_for(0, "fit"))
    assert imaging.parents == {c.patient for c in cases}
    np.testing.assert_array_equal(one(imaging).labels.array, a.labels.array)
    assert not np.array_equal(one(imaging).image.array, a.image.array)


class TestContract(EngineContract):
    def make(self) -> SimulateFundus:
        return SimulateFundus(anatomy=EYE)

    def cases(self) -> Sequence[Case]:
        return small_photographs()

    def cases_like(self, dimension: int, channels: int) -> Sequence[Case]:
        return small_photographs(channels == 3)


@pytest.mark.slow
class TestContractWithRealMaps(TestContract):
    def make(self) -> SimulateFundus:
        return SimulateFundus(anatomy="real")


@pytest.mark.slow
class TestContractOfThePrior(EngineContract):
    learns = False

    def make(self) -> SimulateFundus:
        return SimulateFundus(anatomy={**EYE, "learn": False}, learn=False)

    def cases(self) -> Sequence[Case]:
        return small_photographs()

    def test_makes_every_dimension_that_it_claims(self) -> None:
        """Its colours are the parameter's, not the cases'."""
        for colour in (True, False):
            made = one(replace(self.make(), colour=colour))
            assert made.image.channels == (3 if colour else 1)


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"scanner": "hand held"}, "Did you mean 'hand-held'"),
        ({"age": (-1.0, 20.0)}, "age"),
        ({"age": (30.0, 20.0)}, "smallest, largest"),
        ({"pigmentation": (0.0, 9.0)}, "pigmentation"),
        ({"exposure": (0.0, 1.0)}, "exposure"),
        ({"opacity": (0.0, 1.0)}, "0 to 0.9"),
        ({"quality": (0, 90)}, "quality"),
        ({"noise": -1.0}, "noise"),
        ({"field_deg": 0.0}, "field_deg"),
        ({"um_per_px": 1e6}, "um_per_px"),
        ({"sheen": float("nan")}, "sheen"),
        ({"tissues": [1.0]}, "table of label"),
        ({"tissues": {"drusen": [1.0, 2.0]}}, r"tissues.drusen must be \[red, green, blue\]"),
        ({"tissues": {"drusen": [1.0, 2.0, -3.0]}}, "tissues.drusen"),
        ({"anatomy": 3}, "anatomy must be a kind"),
        ({"anatomy": "eye-fundas"}, "Did you mean 'eye-fundus'"),
        ({"anatomy": {"kind": "eye-fundus", "twig": 3}}, "Did you mean 'twigs'"),
    ],
)
def test_parameters_out_of_range_are_refused(wrong: dict[str, object], says: str) -> None:
    with pytest.raises(EquipoiseError, match=says):
        SimulateFundus(**wrong)  # type: ignore[arg-type]


def test_unusable_maps_and_cases_are_refused_with_the_fix() -> None:
    def labels(shape: tuple[int, int, int], spacing: float = 0.02, name: str = "vessel") -> LabelMap:
        grid = Geometry.from_spacing(shape, (spacing,) * 3)
        return LabelMap.on(grid, np.ones((1, *shape), np.uint8), LabelScheme.of([name]))

    engine = SimulateFundus()
    for bad, error, says in (
        (labels((32, 32, 8)), GeometryMismatchError, "2-D"),
        (labels((32, 32, 1), 1000.0), GeometryMismatchError, "legal: 0.0005 to 2 mm"),
        (labels((32, 32, 1), name="vessels"), LabelError, "Did you mean 'vessel'"),
    ):
        with pytest.raises(error, match=says):
            one(engine, given=[bad])
    with pytest.raises(DataError, match="empty list"):
        one(engine, given=[])
    with pytest.raises(DataError, match="no training case"):
        engine.fit([], rng_for(0, "fit"))
    case = photographs(1)[0]
    float_ct = replace(case, image=Image.on(case.image.geometry, case.image.array.astype(np.float32) * 10 - 1000))
    with pytest.raises(DataError, match="no fundus photograph"):
        engine.fit([float_ct], rng_for(0, "fit"))
    grey = replace(case, id="grey", image=Image.on(case.image.geometry, case.image.array[1:2]))
    with pytest.raises(DataError, match="different numbers of colours"):
        engine.fit([case, grey], rng_for(0, "fit"))


def test_a_dark_small_or_empty_training_picture_does_no_harm() -> None:
    case = photographs(1)[0]
    empty = replace(case, truth=replace(case.labels, voxels=np.zeros_like(case.labels.array)))
    full = replace(case, image=Image.on(case.image.geometry, np.maximum(case.image.array, 60)))
    for one_ in (empty, full):
        fitted = SimulateFundus(anatomy="real").fit([one_], rng_for(0, "fit"))
        (made,) = fitted.sample(1, rng_for(0, "made"))
        assert made.image.array.std() > 0

"""The scanner of `simulate-ct`: geometry, spectrum, thick slices, metal, motion, calibration, and whole bodies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from fitted_once import FittedOnce
from hypothesis import given, settings
from hypothesis import strategies as st

from equipoise.core import Case, Geometry, Image, LabelMap, LabelScheme, rng_for
from equipoise.engines.anatomy.torso import Torso
from equipoise.engines.imaging.simulate_ct import SimulateCT, learned_tissue
from equipoise.engines.imaging.simulate_ct.artefacts import Implant, Motion, along_rays
from equipoise.engines.imaging.simulate_ct.hounsfield import STRUCTURES_HU, WHOLE_LUNGS, surroundings_of
from equipoise.engines.imaging.simulate_ct.scan import WHOLE_PATIENT, Gantry, Protocol, _profile, _Rays, _through
from equipoise.engines.imaging.simulate_ct.scanners import SCANNERS
from equipoise.engines.parts.beam_hardening import CtBeam
from equipoise.engines.parts.grid import Grid
from equipoise.engines.parts.projection import Ellipse, ParallelBeam
from equipoise.errors import DataError, EquipoiseError, GeometryMismatchError, LabelError

PLAIN = Gantry(None, 0.0, (170.0, 115.0), 70.0, 0.0)
QUIET = Protocol("soft", 0.45, 1e14)
FAN = replace(PLAIN, source_mm=570.0)
TUBE = replace(PLAIN, beam=CtBeam(70.0, 120.0, bowtie_mm=120.0))
GRID = Grid((160, 160, 1), (1.0, 1.0, 3.0))


def discs(*given: tuple[float, float, float, float], grid: Grid = GRID, over: int = 6) -> np.ndarray:
    """HU of discs (x, y, radius, HU) in air, the mean over sub-pixels: the scan's grid is not the phantom's."""
    n = grid.shape[0] * over
    x = (np.arange(n) - (n - 1) / 2) * grid.voxel[0] / over
    fine = np.full((n, n), -1000.0)
    for u, v, radius, hu in given:
        fine[np.hypot(x[:, None] - u, x - v) <= radius] = hu
    mean = fine.reshape(grid.shape[0], over, grid.shape[1], over).mean(axis=(1, 3))
    return np.repeat(mean[:, :, None], grid.shape[2], axis=2)


PHANTOM = ((0.0, 0.0, 70.0, 0.0), (40.0, 0.0, 10.0, 60.0), (-40.0, 0.0, 10.0, -100.0), (0.0, 40.0, 10.0, -850.0))


def around(image: np.ndarray, u: float, v: float, radius: float, grid: Grid = GRID) -> float:
    near = np.hypot(grid.axis(0)[:, None] - u, grid.axis(1) - v) < radius
    return float(image[near].mean())


@pytest.mark.parametrize("gantry", [PLAIN, FAN, TUBE, replace(TUBE, source_mm=570.0)])
def test_water_and_inserts_have_their_hu_on_every_scanner(gantry: Gantry) -> None:
    shown = gantry.scan(discs(*PHANTOM), GRID, QUIET, rng_for(0, "hu"), WHOLE_PATIENT)
    assert around(shown, 0, 0, 12) == pytest.approx(0, abs=2)
    for u, v, radius, hu in PHANTOM[1:]:
        assert around(shown, u, v, radius - 4) == pytest.approx(hu, abs=2)


def test_a_piece_of_a_patient_has_its_hu_in_a_fan_and_a_spectrum_too() -> None:
    lung = np.maximum(discs((0.0, 0.0, 15.0, 40.0)), -800.0)
    for gantry in (PLAIN, FAN, TUBE, replace(TUBE, source_mm=570.0)):
        shown = gantry.scan(lung, GRID, QUIET, rng_for(0, "piece"))
        assert around(shown, 0, 0, 10) == pytest.approx(40, abs=4)
        assert around(shown, 50, 0, 10) == pytest.approx(-800, abs=4)


def test_without_correction_water_cups() -> None:
    gantry = replace(PLAIN, beam=CtBeam(70.0, 120.0), water_correction=False)
    shown = gantry.scan(discs((0.0, 0.0, 70.0, 0.0)), GRID, QUIET, rng_for(0, "cup"), WHOLE_PATIENT)
    x = np.hypot(GRID.axis(0)[:, None], GRID.axis(1))
    assert shown[(x > 55) & (x < 63)].mean() - shown[x < 10].mean() > 10


def test_drift_is_what_water_is_shown_as() -> None:
    shown = PLAIN.scan(discs(*PHANTOM), GRID, replace(QUIET, drift_hu=8.0), rng_for(0, "d"), WHOLE_PATIENT)
    assert around(shown, 0, 0, 12) == pytest.approx(8, abs=2)
    assert around(shown, 0, 40, 6) == pytest.approx(-850 + 8 * 0.15, abs=2)


def test_thick_slices_add_up_photons_of_their_neighbours() -> None:
    np.testing.assert_allclose(_profile(2.0, 2.0), [1])
    np.testing.assert_allclose(_profile(1.0, 2.0), [1])
    np.testing.assert_allclose(_profile(5.0, 2.0), [0.3, 0.4, 0.3])
    paths = np.array([0.0, 2.0, 2.0])[:, None, None]
    mixed = _through(paths.astype(np.float32), np.array([0.3, 0.4, 0.3]))[1, 0, 0]
    assert mixed == pytest.approx(-np.log(0.3 + 0.7 * np.exp(-2)), rel=1e-5)
    assert mixed < 0.7 * 2  # less than the mean attenuation: the non-linear partial volume effect
    grid = Grid((96, 96, 4), (1.5, 1.5, 2.0))
    scene = discs((0.0, 0.0, 50.0, 0.0), grid=grid)
    scene[..., 2:] = np.maximum(scene[..., 2:], discs((20.0, 0.0, 8.0, 60.0), grid=grid)[..., 2:])
    shown = PLAIN.scan(scene, grid, replace(QUIET, thickness_mm=4.0), rng_for(0, "t"), WHOLE_PATIENT)
    means = [around(shown[..., k : k + 1], 20, 0, 4, grid) for k in range(4)]
    np.testing.assert_allclose(means, [0, 15, 45, 60], atol=2.5)
    noise = []
    for thickness in (2.0, 4.0):
        low = replace(QUIET, photons=1e8, thickness_mm=thickness)
        pair = [PLAIN.scan(scene, grid, replace(low, photons=p), rng_for(1, "n"), WHOLE_PATIENT) for p in (1e8, 1e14)]
        noise.append(np.std((pair[0] - pair[1])[20:76, 20:76]))
    assert noise[0] / noise[1] == pytest.approx(np.sqrt(2), rel=0.1)


@pytest.mark.parametrize("source", [None, 570.0])
def test_a_moving_patient_is_projected_where_he_is(source: float | None) -> None:
    beam, motion = ParallelBeam(160, 252, 1.0), Motion(6.0, 30.0, 0.8, 0.1)
    rays = _Rays(beam, source, [], motion)
    disc = Ellipse(0.02, (10.0, -8.0), (40.0, 40.0))
    scene = (discs((10.0, -8.0, 40.0, 1000.0))[..., 0] + 1000) / 2000 * 0.02
    exact, still = rays.chords([disc]), along_rays([disc], *(rays.fan.distances() if rays.fan else _flat(beam)), None)
    assert np.abs(rays.project(scene) - exact).max() < 0.35 * np.abs(still - exact).max()
    assert np.sqrt(np.mean((rays.project(scene) - exact) ** 2)) < 0.15 * np.sqrt(np.mean((still - exact) ** 2))
    places = motion.places(np.linspace(0, np.pi, 300))
    assert np.abs(places.mean(axis=0)).max() < 1e-9  # about where the labels say
    assert np.ptp(places @ [np.cos(np.radians(30)), np.sin(np.radians(30))]) == pytest.approx(6)


def _flat(beam: ParallelBeam) -> tuple[np.ndarray, np.ndarray]:
    return beam.angles[:, None], beam.positions


def test_motion_smears_edges() -> None:
    still, moved = (
        PLAIN.scan(discs(*PHANTOM), GRID, replace(QUIET, motion=m), rng_for(0, "m"), WHOLE_PATIENT)
        for m in (None, Motion(8.0, 0.0, 1.0, 0.0))
    )
    outside = np.hypot(GRID.axis(0)[:, None], GRID.axis(1)) > 73
    assert 3 * (still[outside] > -900).sum() < (moved[outside] > -900).sum()


@pytest.mark.parametrize("beam", [None, CtBeam(70.0, 120.0)])
def test_metal_is_bright_starves_detectors_and_hardens_a_spectrum(beam: CtBeam | None) -> None:
    rods = tuple(Implant(Ellipse(1.0, (x, 0.0), (4.0, 4.0)), "iron", 0, 0) for x in (-30.0, 30.0))
    gantry, water = replace(PLAIN, beam=beam), discs((0.0, 0.0, 70.0, 0.0))

    def shown(photons: float, metal: Sequence[Implant]) -> np.ndarray:
        dose = replace(QUIET, photons=photons)
        return gantry.scan(water, GRID, dose, rng_for(0, "metal"), WHOLE_PATIENT, metal)[..., 0]

    assert around(shown(3e7, rods)[..., None], 30, 0, 2) == 3071
    between = np.s_[76:84, 76:84]
    if beam is None:
        # Rays through both rods keep few photons: noise between them, that a patient without metal does not show.
        noise = [np.std((shown(3e7, m) - shown(1e14, m))[70:90, 76:84]) for m in (rods, ())]
        assert noise[0] > 4 * noise[1]
        assert abs(shown(1e14, rods)[between].mean()) < 20  # one energy does not harden
    else:
        assert shown(1e14, rods)[between].mean() < -100  # the dark band
    later = tuple(replace(rod, first=1, last=1) for rod in rods)
    np.testing.assert_array_equal(shown(3e7, later), shown(3e7, ()))


# ---------------------------------------------------------------- whole bodies


def torso(level: float = -110.0, slices: int = 1) -> LabelMap:
    anatomy = Torso(size=(150, 110, slices), spacing=(2.8, 2.8, 4.0), level_mm=(level, level), vessel_ends=100)
    return next(anatomy.draw(1, rng_for(3, "torso")))


@pytest.mark.parametrize("scanner", SCANNERS)
def test_every_profile_shows_the_torso_as_the_table_says(scanner: str) -> None:
    labels = torso()
    (case,) = SimulateCT(scanner=scanner).sample(1, rng_for(1, scanner), [labels])
    assert case.scanner == f"simulated, {scanner}"
    image = case.image.array[0]
    for name in ("liver", "spleen", "muscle"):
        mean, sd, _ = STRUCTURES_HU[name]
        core = labels.mask(name) & ~labels.mask("liver vessel")
        assert np.median(image[core]) == pytest.approx(mean, abs=3 * sd + 12)
    assert np.median(image[~labels.masks().any(axis=0)]) < -950
    bone = image[labels.mask("vertebra")]
    assert 150 < np.median(bone) < 700
    assert case.attributes["geometry"] == "fan"


def test_all_labels_of_the_torso_are_known_and_lie_in_air() -> None:
    labels = torso(0.0, 3)
    (case,) = SimulateCT(photons=(5e8, 5e8)).sample(1, rng_for(1, "t"), [labels])
    assert case.truth is labels
    lungs = labels.mask("right lower lobe") | labels.mask("right upper lobe")
    assert np.median(case.image.array[0][lungs]) == pytest.approx(-850, abs=110)
    assert surroundings_of(labels.scheme.names) == "air"


def test_lungs_show_small_vessels_that_bear_no_label() -> None:
    labels = torso(0.0)
    quiet = SimulateCT(photons=(1e11, 1e11), lung_sd=0.0, kernels=("soft",), blur_mm=(0.1, 0.1))
    none, some, many = (
        next(replace(quiet, vessels=v).sample(1, rng_for(2, "small"), [labels])).image.array[0]
        for v in (0.0, 600.0, 1200.0)
    )
    lung = np.any([labels.mask(name) for name in WHOLE_LUNGS & set(labels.scheme.names)], axis=0)
    added = [float((shown - none)[lung].mean()) for shown in (some, many)]
    assert added[0] > 3
    assert added[1] > 1.6 * added[0]
    solid = labels.mask("vertebra") | labels.mask("muscle")
    assert abs(float((many - none)[solid].mean())) < 2


def test_surroundings_follow_from_the_labels() -> None:
    assert surroundings_of(["nodule"]) == surroundings_of(["tumour"]) == surroundings_of(["nodule", "lung"]) == "lung"
    assert surroundings_of(["liver", "spleen"]) == surroundings_of(["white matter", "haemorrhage"]) == "soft tissue"
    assert surroundings_of(["fat", "liver"]) == "air"


def test_contrast_medium_brightens_what_takes_it_up() -> None:
    labels = torso()
    plain, enhanced = (
        next(SimulateCT(photons=(1e10, 1e10), contrast_hu=c).sample(1, rng_for(2, "c"), [labels])).image.array[0]
        for c in ((0.0, 0.0), (140.0, 140.0))
    )
    for name, share in (("liver", 0.45), ("spleen", 0.6), ("right kidney", 1.2), ("fat", 0.0)):
        mask = labels.mask(name)
        assert np.median(enhanced[mask]) - np.median(plain[mask]) == pytest.approx(140 * share, abs=14)


# ---------------------------------------------------------------- exported pictures and learned tissue

SCHEME = LabelScheme.of(["lung", "infection"], exclusive=False)
WINDOW = (-1250.0, 250.0)


def exported(n: int = 4, size: int = 56, channels: int = 1) -> list[Case]:
    """8-bit slices of 6 mm pixels whose size and HU were lost: a body with two lungs, and an infection in one."""
    cases = []
    for k in range(n):
        rng = rng_for(k, "exported")
        x = (np.arange(size) - (size - 1) / 2) * 6.0
        u, v = x[:, None], x + rng.uniform(-6, 6)
        wide = rng.uniform(0.9, 1.1)
        body = np.hypot(u / (150 * wide), v / 105) < 1
        lung = np.hypot((np.abs(u) - 62 * wide) / (42 * wide), v / 68) < 1
        ill = lung & (np.hypot(u - 60, v - rng.uniform(-20, 30)) < rng.uniform(16, 30))
        hu = np.where(ill, -350, np.where(lung, -850, np.where(body, 45, -1000))) + 15 * rng.standard_normal(body.shape)
        grey = np.clip((hu - WINDOW[0]) / (WINDOW[1] - WINDOW[0]) * 255, 0, 255).astype(np.uint8)
        grid = Geometry.from_spacing((size, size, 1), (1.0, 1.0, 1.0), unit="px")
        image = Image.on(grid, np.repeat(grey[None, ..., None], channels, axis=0))
        truth = LabelMap.on(grid, np.stack([lung, ill]).astype(np.uint8)[..., None], SCHEME)
        cases.append(Case(f"c{k}", f"p{k}", image, truth))
    return cases


LEARNER = SimulateCT(anatomy="warped", stored=WINDOW, pixel_mm=6.0)


@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_of_lost_hu_are_learned_and_made_in_their_own_grey(channels: int) -> None:
    real = exported(channels=channels)
    fitted = LEARNER.fit(real, rng_for(0, "fit"))
    for case in fitted.sample(4, rng_for(1, "made")):
        image = case.image.array
        assert image.dtype == np.uint8
        assert image.shape == (channels, 56, 56, 1)
        assert case.image.unit == case.labels.unit == "px"
        hu = WINDOW[0] + image[0] * (WINDOW[1] - WINDOW[0]) / 255
        lung, ill = case.labels.mask("lung"), case.labels.mask("infection")
        assert np.median(hu[lung & ~ill]) == pytest.approx(-850, abs=60)
        if ill.sum() > 30:
            assert np.median(hu[ill]) == pytest.approx(-350, abs=90)
        assert case.origin.parents == {c.patient for c in real}
    assert fitted.parents == {c.patient for c in real}


def test_a_structure_that_no_training_case_shows_is_painted_as_the_table_says() -> None:
    fitted = replace(LEARNER, tissue="learned").fit(exported(), rng_for(0, "fit"))
    base = exported(1)[0].labels
    x = np.hypot(np.arange(56)[:, None] - 17, np.arange(56) - 28)[..., None]
    voxels = np.concatenate([base.array, (x < 5)[None].astype(np.uint8)])
    more = LabelMap.on(base.geometry, voxels, LabelScheme.of(["lung", "infection", "mass"], exclusive=False))
    (case,) = fitted.sample(1, rng_for(1, "mass"), [more])
    hu = WINDOW[0] + case.image.array[0] * (WINDOW[1] - WINDOW[0]) / 255
    assert np.median(hu[x < 3]) == pytest.approx(38, abs=60)


def test_known_labels_are_drawn_from_tables_where_nothing_was_learned() -> None:
    pictures = SimulateCT(stored=WINDOW, pixel_mm=6.0, around="lung")
    map_ = LabelMap.on(exported(1)[0].labels.geometry, exported(1)[0].labels.array[:1], LabelScheme.of(["lung"]))
    (case,) = pictures.sample(1, rng_for(1, "given"), [map_])
    assert case.image.array.dtype == np.uint8
    assert case.labels is map_


class TestLearnedTissue(FittedOnce):
    @pytest.fixture(autouse=True)
    def quick(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(learned_tissue, "MOST_CASES", 1)
        monkeypatch.setattr(learned_tissue, "KERNELS", ("soft",))

    def make(self) -> SimulateCT:
        return LEARNER

    def cases(self) -> Sequence[Case]:
        return exported(3, 40)

    def cases_like(self, dimension: int, channels: int) -> Sequence[Case]:
        if dimension == 2:
            return self.cases()
        flat = exported(2, 40)
        grid = Geometry.from_spacing((40, 40, 4), (1.0, 1.0, 1.0), unit="px")
        return [
            replace(
                case,
                image=Image.on(grid, np.repeat(case.image.array, 4, axis=3)),
                truth=LabelMap.on(grid, np.repeat(case.labels.array, 4, axis=3), SCHEME),
            )
            for case in flat
        ]


# ---------------------------------------------------------------- bad input, any parameters


def test_what_cannot_be_rendered_or_learned_is_refused_with_the_fix() -> None:
    (case, *_), stream = exported(1), rng_for(0, "bad")
    huge = replace(torso(), affine=np.diag([1000.0, 1000.0, 3.0, 1.0]))
    strange = LabelMap.on(case.labels.geometry, case.labels.array, LabelScheme.of(["lung", "infektion"]))
    bright = replace(case, image=Image.on(case.image.geometry, case.image.array.astype(np.float32) * 9))
    bad: list[tuple[type[EquipoiseError], str, object]] = [
        (GeometryMismatchError, "pixel_mm = 0.7", lambda: next(SimulateCT().sample(1, stream, [case.labels]))),
        (
            GeometryMismatchError,
            "spacing .* legal: 0.02 to 50 mm",
            lambda: next(SimulateCT().sample(1, stream, [huge])),
        ),
        (LabelError, "how dense 'infektion' is", lambda: next(LEARNER.sample(1, stream, [strange]))),
        (DataError, "stored =", lambda: replace(LEARNER, stored=None).fit([case], stream)),
        (DataError, "leave stored out", lambda: LEARNER.fit([bright], stream)),
        (DataError, "no case", lambda: LEARNER.fit([], stream)),
    ]
    for error, says, call in bad:
        with pytest.raises(error, match=says):
            call()  # type: ignore[operator]


@settings(max_examples=12)
@given(
    st.sampled_from([None, "any", *SCANNERS]),
    st.sampled_from(["parallel", "fan"]),
    st.one_of(st.none(), st.floats(80, 140)),
    st.floats(0, 200),
    st.floats(0, 10),
    st.booleans(),
    st.one_of(st.none(), st.floats(0.5, 12)),
)
def test_any_acquisition_gives_a_finite_scan_and_the_same_twice(
    scanner: str | None,
    geometry: str,
    kvp: float | None,
    bowtie: float,
    motion: float,
    metal: bool,
    thick: float | None,
) -> None:
    anatomy = {"kind": "phantom", "size": [24, 28, 2]}
    engine = SimulateCT(
        scanner=scanner,
        geometry=geometry,  # type: ignore[arg-type]
        kvp=kvp,
        bowtie_mm=bowtie,
        motion_mm=(0.0, motion),
        metal=float(metal),
        thickness_mm=thick,
        anatomy=anatomy,
    )
    one, two = (next(engine.sample(1, rng_for(5, "any"))) for _ in range(2))
    np.testing.assert_array_equal(one.image.array, two.image.array)
    assert np.isfinite(one.image.array).all()
    assert one.image.array.min() >= -1024
    assert one.image.array.std() > 0
    one.image.geometry.require_same(one.labels.geometry)

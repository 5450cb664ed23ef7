"""The engine: contract, options, what a fit learns, outlines, bad input."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from equipoise.core import Case, Geometry, Image, LabelMap, LabelScheme, rng_for
from equipoise.core.registry import canonical, make, spec_of
from equipoise.engines.imaging.simulate_ultrasound import SimulateUltrasound, grain
from equipoise.engines.imaging.simulate_ultrasound.geometry import Sector
from equipoise.engines.imaging.simulate_ultrasound.outline import frame_of, outline_of
from equipoise.engines.imaging.simulate_ultrasound.tissues import TISSUES, tissue_of
from equipoise.engines.parts.placement import Placement
from equipoise.errors import DataError, EquipoiseError, GeometryMismatchError, LabelError, PlanError
from equipoise.testing import EngineContract

SMALL: dict[str, object] = {"kind": "breast-and-neck", "size": [56, 60, 1], "spacing": [0.5, 0.5, 0.5]}
HEAD = LabelScheme.of(["head"])


def screen(i: int, shape: tuple[int, int, int] = (96, 80, 1), unit: str = "px") -> Case:
    """A picture as from a scanner: a fan of grey speckle, a dark disc with a bright rim in it, an overlay, a box."""
    rng = rng_for(i, "screen")
    x, y = np.meshgrid(np.arange(shape[0]) + 0.5, np.arange(shape[1]) + 0.5, indexing="ij")
    centre = (shape[0] / 2 + rng.uniform(-6, 6), shape[1] * 0.55 + rng.uniform(-4, 4))
    far = np.hypot(x - centre[0], y - centre[1]) / (0.22 * shape[1])
    level = np.where(far < 0.85, 25.0, np.where(far < 1.1, 200.0, 95.0 + 20 * np.sin(y / 9)))[:, :, None]
    grain = ndimage.gaussian_filter(rng.standard_normal((2, *shape)), (0, 1.2, 0.8, 0))
    shown = level + 25 * np.log10(np.hypot(*(grain / grain.std())) + 0.05)
    fan = Sector(shape[0] / 2, 4.0, 40.0 + i % 3, -0.62, 0.6, shape[1] - 8.0).seen(shape[:2], (1.0, 1.0))
    shown = np.where(fan[:, :, None], np.clip(shown, 4, 255), 0)
    shown[60:74, 60:68] = 0
    shown[0:3, 5:35] = 180
    grid = Geometry(shape, unit=unit)  # type: ignore[arg-type]
    mask = np.broadcast_to((far < 1.1)[None, :, :, None], (1, *shape)).astype(np.uint8)
    return Case(f"screen-{i}", f"real-{i}", Image.on(grid, shown[None].astype(np.uint8)), LabelMap.on(grid, mask, HEAD))


def screens(n: int = 3, **how: object) -> list[Case]:
    return [screen(i, **how) for i in range(n)]  # type: ignore[arg-type]


def block(
    names: Sequence[str] = ("cyst",), shape: tuple[int, int, int] = (64, 64, 1), spacing: float = 0.5
) -> LabelMap:
    x, y, _ = np.indices(shape)
    masks = [(np.hypot(x - 32, y - 24 - 8 * k) < 8 - 2 * k) for k in range(len(names))]
    return LabelMap.on(
        Geometry.from_spacing(shape, (spacing, spacing, 0.6)),
        np.stack(masks).astype(np.uint8),
        LabelScheme.of(names, exclusive=False),
    )


PLAIN: dict[str, object] = {
    "scanner": "linear 7.5 MHz",
    "tgc": (0.54, 0.54),
    "slider_db": 0.0,
    "gain_db": (32.0, 32.0),
    "dynamic_range_db": (60.0, 60.0),
    "gamma": (1.0, 1.0),
    "looks": (1, 1),
    "speckle": (1.0, 1.0),
    "noise_db": (-120.0, -120.0),
    "clutter_db": (-120.0, -120.0),
    "reverberation_db": (-120.0, -120.0),
    "scatterers": (40.0, 40.0),
    "texture": 0.0,
    "anatomy": SMALL,
}


def picture(labels: LabelMap | None = None, seed: int = 0, **changed: object) -> np.ndarray:
    engine = SimulateUltrasound(**{**PLAIN, **changed})  # type: ignore[arg-type]
    return engine.render(labels or block(), None, rng_for(seed, "picture")).image.array[0].astype(float)


# ---------------------------------------------------------------- what the picture shows


def test_cyst_is_black_and_what_lies_behind_it_is_brighter() -> None:
    shown = np.mean([picture(seed=s) for s in range(6)], axis=0)[:, :, 0]
    inside, beside, behind = shown[28:36, 20:28], shown[4:14, 36:44], shown[28:36, 36:44]
    assert inside.mean() < 0.3 * beside.mean()
    assert behind.mean() > beside.mean() + 8


def test_bone_shines_and_throws_a_shadow() -> None:
    shown = np.mean([picture(block(("rib",)), seed=s) for s in range(6)], axis=0)[:, :, 0]
    assert shown[30:34, 14:18].max() > shown[4:14, 14:18].mean() + 60
    assert shown[30:34, 44:52].mean() < 0.4 * shown[4:10, 44:52].mean()


def test_later_labels_lie_on_top() -> None:
    both = block(("liver", "cyst"))
    turned = replace(both, voxels=both.array[::-1].copy(), scheme=LabelScheme.of(["cyst", "liver"], exclusive=False))
    overlap = np.s_[30:34, 28:32, 0]
    assert (both.array[:, 30:34, 28:32] > 0).all()
    on_top, below = (np.mean([picture(x, seed=s)[overlap].mean() for s in range(4)]) for x in (both, turned))
    assert on_top < 0.5 * below


def test_frames_of_a_sweep_share_scatterers_and_single_pictures_do_not() -> None:
    def correlation(spacing: float) -> float:
        grid = Geometry.from_spacing((64, 64, 6), (0.5, 0.5, spacing))
        labels = LabelMap.on(grid, np.ones((1, 64, 64, 6), np.uint8), LabelScheme.of(["liver"]))
        shown = picture(labels)
        return float(np.corrcoef(shown[:, 10:, 2].ravel(), shown[:, 10:, 3].ravel())[0, 1])

    assert correlation(0.1) > 0.8
    assert abs(correlation(5.0)) < 0.3


def test_rf_tier_shows_the_same_scene() -> None:
    labels = block(("cyst",))
    fast = picture(labels)
    exact = picture(labels, tier="rf", transmits=3, elements=64, scatterers=(12.0, 12.0))
    for shown in (fast[:, :, 0], exact[:, :, 0]):
        assert shown[28:36, 20:28].mean() < 0.6 * shown[16:22, 36:44].mean()


CHANGES: Sequence[tuple[str, Mapping[str, object], Mapping[str, object]]] = (
    ("scanner", {}, {"scanner": "curvilinear 5 MHz"}),
    ("tier", {}, {"tier": "rf", "transmits": 1, "elements": 32}),
    ("frequency_mhz", {"frequency_mhz": (6.0, 6.0)}, {"frequency_mhz": (9.0, 9.0)}),
    ("focus", {"focus": (0.2, 0.2)}, {"focus": (0.9, 0.9)}),
    ("tgc", {}, {"tgc": (0.8, 0.8)}),
    ("slider_db", {}, {"slider_db": 5.0}),
    ("gain_db", {}, {"gain_db": (40.0, 40.0)}),
    ("dynamic_range_db", {}, {"dynamic_range_db": (45.0, 45.0)}),
    ("gamma", {}, {"gamma": (1.5, 1.5)}),
    ("looks", {}, {"looks": (4, 4)}),
    ("speckle", {}, {"speckle": (0.4, 0.4)}),
    ("noise_db", {}, {"noise_db": (-10.0, -10.0)}),
    ("clutter_db", {}, {"clutter_db": (-6.0, -6.0)}),
    ("reverberation_db", {}, {"reverberation_db": (20.0, 20.0)}),
    ("scatterers", {}, {"scatterers": (1.0, 1.0)}),
    ("widen", {"widen": (1.0, 1.0)}, {"widen": (3.0, 3.0)}),
    ("interface_db", {}, {"interface_db": 55.0}),
    ("texture", {}, {"texture": 2.0}),
    ("tissues", {}, {"tissues": {"cyst": [10.0, 1.6, 0.5]}}),
    ("background", {}, {"background": "fat"}),
    ("transmits", {"tier": "rf", "transmits": 1, "elements": 32}, {"tier": "rf", "transmits": 3, "elements": 32}),
    ("elements", {"tier": "rf", "transmits": 1, "elements": 16}, {"tier": "rf", "transmits": 1, "elements": 48}),
)


SLOW = ("transmits", "elements")


@pytest.mark.parametrize(
    ("name", "one", "other"),
    [pytest.param(*x, id=x[0], marks=[pytest.mark.slow] if x[0] in SLOW else []) for x in CHANGES],
)
def test_every_option_changes_the_picture(name: str, one: Mapping[str, object], other: Mapping[str, object]) -> None:
    assert name in {**one, **other}
    assert np.abs(picture(**one) - picture(**other)).mean() > 1


def test_options_act_as_they_say() -> None:
    liver = LabelMap.on(
        Geometry.from_spacing((64, 64, 1), (0.5, 0.5, 0.5)),
        np.ones((1, 64, 64, 1), np.uint8),
        LabelScheme.of(["liver"]),
    )
    brighter = picture(liver, gain_db=(38.0, 38.0)).mean() - picture(liver).mean()
    assert brighter == pytest.approx(255 / 60 * 6, rel=0.15)
    one, four = picture(liver)[8:-8, 8:-8].std(), picture(liver, looks=(4, 4))[8:-8, 8:-8].std()
    assert four == pytest.approx(one / 2.2, rel=0.2)
    assert picture(liver, speckle=(0.5, 0.5))[8:-8, 8:-8].std() < 0.8 * one
    px = replace(liver, affine=np.eye(4), unit="px")
    fine, coarse = (picture(px, pixel_mm=size) for size in (0.2, 0.6))
    assert np.abs(fine - coarse).mean() > 3


def test_fan_is_black_outside_and_does_not_count_there() -> None:
    labels = block(shape=(96, 64, 1), spacing=1.0)
    engine = SimulateUltrasound(**{**PLAIN, "scanner": "phased 2.5 MHz"})  # type: ignore[arg-type]
    made = engine.render(labels, None, rng_for(0, "fan"))
    assert made.image.array[0, :5, :20].max() == 0
    outside = made.truth.ignored()
    assert made.image.array[0][outside].max() == 0
    assert 0.2 < outside.mean() < 0.8
    kept = replace(engine, ignore_outside=False).render(labels, None, rng_for(0, "fan"))
    assert not kept.truth.ignored().any()


def test_acquisition_is_provenance() -> None:
    (case,) = SimulateUltrasound(**PLAIN).sample(1, rng_for(0, "own"))  # type: ignore[arg-type]
    assert case.scanner == "simulated, linear 7.5 MHz"
    assert case.modality == "ultrasound"
    assert case.image.array.dtype == np.uint8
    assert 6 <= float(case.attributes["frequency_mhz"]) <= 9
    assert case.attributes["geometry"] == "linear"
    assert case.attributes["gain_db"] == 32.0
    json.dumps(dict(case.attributes))


def test_labels_find_their_tissue_by_words() -> None:
    assert tissue_of("left kidney", {}) is TISSUES["kidney"]
    assert tissue_of("Fetal_skull", {}) is TISSUES["fetal skull"]
    assert tissue_of("ribs", {}) is TISSUES["rib"]
    assert tissue_of("head", {}) is None
    stated = tissue_of("liver", {"liver": [3.0, 1.7, 0.9]})
    assert stated is not None
    assert (stated.echo_db, stated.impedance, stated.attenuation) == (3.0, 1.7, 0.9)


def test_default_needs_nothing() -> None:
    (case,) = SimulateUltrasound().sample(1, rng_for(0, "default"))
    assert case.image.array.shape == (1, 256, 256, 1)
    assert case.origin.parents == frozenset()
    again = make("engines", json.loads(canonical(spec_of(SimulateUltrasound(**PLAIN))))) if _registered() else None  # type: ignore[arg-type]
    assert again is None or spec_of(again) == spec_of(SimulateUltrasound(**PLAIN))  # type: ignore[arg-type]


def _registered() -> bool:
    from equipoise.core.registry import kinds

    return "simulate-ultrasound" in kinds("engines")


@settings(max_examples=12)
@given(
    scanner=st.sampled_from([None, "linear 12 MHz", "curvilinear 3.5 MHz", "endocavity 6.5 MHz", "phased 2.5 MHz"]),
    size=st.tuples(st.integers(4, 70), st.integers(4, 70), st.integers(1, 2)),
    spacing=st.floats(0.02, 3.0),
    gain=st.floats(-20, 100),
    density=st.floats(0.2, 200),
    seed=st.integers(0, 99),
)
def test_any_legal_parameters_give_a_picture(
    scanner: str | None, size: tuple[int, int, int], spacing: float, gain: float, density: float, seed: int
) -> None:
    rng = rng_for(seed, "any")
    masks = (rng.random((2, *size)) < 0.3).astype(np.uint8)
    labels = LabelMap.on(
        Geometry.from_spacing(size, (spacing, 1.3 * spacing, 0.7)),
        masks,
        LabelScheme.of(["rib", "blood"], exclusive=False),
    )
    engine = SimulateUltrasound(
        scanner=scanner, gain_db=(gain, gain), scatterers=(density, density), looks=(1, 2), anatomy=SMALL
    )  # type: ignore[arg-type]
    made = engine.render(labels, None, rng)
    assert made.image.array.shape == (1, *size)
    assert made.image.array.dtype == np.uint8
    np.testing.assert_array_equal(made.truth.array, masks)


# ---------------------------------------------------------------- learning


def test_outline_of_a_screen_is_found() -> None:
    case = screen(1)
    grey = case.image.array[0, :, :, 0].astype(np.float32)
    fan = Sector(48, 4.0, 41.0, -0.62, 0.6, 72.0).seen((96, 80), (1.0, 1.0))
    found = outline_of(grey)
    box = np.zeros_like(fan)
    box[60:74, 60:68] = True
    wanted = fan & ~box
    assert (found.seen((96, 80)) & wanted).sum() / (found.seen((96, 80)) | wanted).sum() > 0.93
    assert len(found.boxes) == 1
    assert found.boxes[0] == pytest.approx((60, 74, 60, 68), abs=2)


def test_full_picture_has_a_rectangular_outline() -> None:
    rng = rng_for(0, "full")
    grey = (60 + 20 * rng.standard_normal((90, 70))).clip(5, 255).astype(np.float32)
    assert outline_of(grey).seen((90, 70)).mean() > 0.97
    assert outline_of(grey).sector.straight


def test_overlay_is_what_nearly_all_pictures_share() -> None:
    cases = screens(9)
    pictures = [case.image.array[0, :, :, 0].astype(np.float32) for case in cases]
    fans = [outline_of(p).seen(p.shape) for p in pictures]
    pictures[3][8:12, 70:78] = 200  # a name on one picture
    frame = frame_of(pictures, fans)
    assert frame is not None
    assert frame[0:3, 6:24] == pytest.approx(180)
    assert not frame[8:12, 70:78].any()
    assert frame_of(pictures[:4], fans[:4]) is None


def test_fitted_pictures_look_like_the_training_pictures() -> None:
    cases = screens(9)
    engine = SimulateUltrasound(anatomy={"kind": "real"}).fit(cases, rng_for(0, "fit"))
    made = list(engine.sample(6, rng_for(1, "made")))

    def parts(case: Case) -> tuple[float, float, float]:
        grey, mask = case.image.array[0, :, :, 0].astype(float), case.labels.mask("head")[:, :, 0]
        rim = mask & ~ndimage.binary_erosion(mask, iterations=2)
        inner = ndimage.binary_erosion(mask, iterations=6)
        around = ndimage.binary_dilation(mask, iterations=6) & ~ndimage.binary_dilation(mask, iterations=2)
        return grey[inner].mean(), grey[rim].mean(), grey[around & (grey > 0)].mean()

    real, drawn = np.mean([parts(c) for c in cases], axis=0), np.mean([parts(c) for c in made], axis=0)
    assert drawn == pytest.approx(real, rel=0.25, abs=12)
    for case in made:
        assert case.image.array[0, 0:3, 6:24].min() == 180
        assert case.image.array[0, 4:8, 6:16].max() == 0
        assert case.origin.parents <= {f"real-{i}" for i in range(9)}
    bare = replace(engine, overlay=False)
    assert next(bare.sample(1, rng_for(1, "made"))).image.array[0, 0:3, 6:24].max() == 0


def test_grain_is_found_again() -> None:
    known = [grain.Grain(0.8, 0.8, 1.0), grain.Grain(1.7, 1.0, 0.8), grain.Grain(2.2, 1.3, 0.4)]
    inner = np.zeros((grain.RULER_SIDE,) * 2, bool)
    inner[3:-3, 3:-3] = True
    for want, shown in zip(known, grain.even_tissue(known, rng_for(1, "grain")), strict=True):
        found = grain.grain_of(shown, inner)
        assert found.across == pytest.approx(want.across, rel=0.35)
        assert found.along == pytest.approx(want.along, rel=0.35)
        assert found.contrast == pytest.approx(want.contrast, rel=0.35)


def test_speckle_made_elsewhere_is_shown_again() -> None:
    rng, everywhere = rng_for(2, "grain"), np.ones((160, 160), bool)
    for across, along, kept in ((0.8, 0.8, 1.0), (1.7, 1.0, 0.5), (2.2, 1.3, 0.8)):
        fields = ndimage.gaussian_filter(rng.standard_normal((2, grain.LOOKS, 160, 160)), (0, 0, across, along))
        level = 30 + kept * 20 * np.log10(np.hypot(*fields / fields.std()).mean(axis=0))
        found = grain.grain_of(level.astype(np.float32), everywhere)
        (shown,) = grain.even_tissue([found], rng)
        wanted, got = (grain.likeness(x, np.ones(x.shape, bool)) for x in (level, shown))
        np.testing.assert_allclose(got[0], wanted[0], atol=0.15)
        assert got[1] == pytest.approx(wanted[1], rel=0.2)


def test_what_a_fan_does_not_show_is_taken_to_be_even_to_both_sides() -> None:
    # A zoomed picture whose right upper corner was blacked out: the left side lies beyond the border.
    rng, shape = rng_for(0, "zoomed"), (120, 90)
    fan = Sector(60, -40, 120.0, -0.42, 0.42, 200)
    grey = np.where(fan.seen(shape, (1.0, 1.0)), 60 + 20 * rng.random(shape), 0)
    grey[104:, :14] = 0
    found = outline_of(grey).sector
    assert found.straight or abs(found.left + found.right) < 0.15


def test_learned_tissue_is_seen_however_deep_the_fan() -> None:
    engine = SimulateUltrasound(anatomy={"kind": "real"}, frequency_mhz=(7.0, 7.0), tgc=(0.7, 0.7), pixel_mm=3.0)
    engine = engine.fit(screens(3), rng_for(0, "fit"))
    case = screen(0)
    made = engine.render(case.labels, Placement(case.id, case.labels.geometry.shape), rng_for(0, "deep"))
    lower = np.s_[0, 30:66, 50:70]
    both = [np.asarray(image.array[lower], float) for image in (made.image, case.image)]
    assert both[0].mean() == pytest.approx(both[1].mean(), rel=0.35)
    assert both[0].std() > 10


def test_bright_tissue_that_was_learned_shadows_as_stated() -> None:
    engine = SimulateUltrasound(anatomy={"kind": "real"}).fit(screens(3), rng_for(0, "fit"))
    case = screen(0)
    placed = Placement(case.id, case.labels.geometry.shape)
    lit, shadowed = (
        replace(engine, shadow_db_mm=db)
        .render(case.labels, placed, rng_for(0, "s"))
        .image.array[0, 40:56, 62:]
        .astype(float)
        .mean()
        for db in (0.0, 4.0)
    )
    assert shadowed < lit - 8


def test_patches_show_their_piece_of_the_screen() -> None:
    engine = SimulateUltrasound(anatomy={"kind": "real", "patch": 40}).fit(screens(3), rng_for(0, "fit"))
    for made in engine.sample(4, rng_for(2, "patch")):
        assert made.image.array.shape == (1, 40, 40, 1)
        assert made.image.array.std() > 5


def test_outlines_that_go_on_beyond_the_fan_keep_counting() -> None:
    cases = screens(3)
    inside = SimulateUltrasound(anatomy={"kind": "real"}).fit(cases, rng_for(0, "fit"))
    assert next(inside.sample(1, rng_for(1, "s"))).labels.ignored().any()
    wide = [replace(c, truth=replace(c.labels, voxels=np.ones_like(c.labels.array))) for c in cases]
    beyond = SimulateUltrasound(anatomy={"kind": "real"}).fit(wide, rng_for(0, "fit"))
    assert not next(beyond.sample(1, rng_for(1, "s"))).labels.ignored().any()


class TestSimulateUltrasound(EngineContract):
    """Learned pictures on the training patients' label maps."""

    def make(self) -> SimulateUltrasound:
        return SimulateUltrasound(anatomy={"kind": "real"})

    def cases(self) -> Sequence[Case]:
        return screens(2)

    def cases_like(self, dimension: int, channels: int) -> Sequence[Case]:
        return screens(2, shape=(96, 80, 1 if dimension == 2 else 3))


class TestSimulateUltrasoundThatDoesNotLearn(EngineContract):
    learns = False

    def make(self) -> SimulateUltrasound:
        return SimulateUltrasound(learn=False, anatomy=SMALL, tissues={"head": [-10.0, 1.6, 0.6]})

    def cases(self) -> Sequence[Case]:
        return screens(2)

    def test_makes_every_dimension_that_it_claims(self) -> None:
        """Its grids are the anatomy's, not the cases'."""
        for frames in (1, 3):
            engine = SimulateUltrasound(anatomy={**SMALL, "size": [56, 60, frames]})
            (made,) = engine.sample(1, rng_for(1, "sample"))
            assert made.image.array.shape == (1, 56, 60, frames)


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"scanner": "linear 7 MHz"}, "Did you mean 'linear 7.5 MHz'"),
        ({"tier": "RF"}, "tier = 'RF'"),
        ({"background": "livr"}, "Did you mean 'liver'"),
        ({"frequency_mhz": (0.0, 5.0)}, "frequency_mhz .* 0.5 to 40 MHz"),
        ({"frequency_mhz": (9.0, 5.0)}, "frequency_mhz"),
        ({"dynamic_range_db": (0.0, 60.0)}, "dynamic_range_db"),
        ({"tgc": (-1.0, 0.5)}, "tgc"),
        ({"scatterers": (0.0, 10.0)}, "scatterers"),
        ({"pixel_mm": 0.0}, "pixel_mm"),
        ({"transmits": 0}, "transmits"),
        ({"speckle": (0.5, 1.5)}, "speckle"),
        ({"tissues": {"head": [1.0]}}, "tissues.head"),
        ({"tissues": {"head": [0.0, 0.0, 0.5]}}, "MRayl"),
        ({"tissues": [1.0]}, "tissues must be a table"),
        ({"anatomy": 3}, "anatomy must be a kind"),
        ({"anatomy": "brest-and-neck"}, "breast-and-neck"),
    ],
)
def test_impossible_parameters_are_refused(wrong: Mapping[str, object], says: str) -> None:
    with pytest.raises(EquipoiseError, match=says):
        SimulateUltrasound(**wrong)  # type: ignore[arg-type]


def test_unusable_label_maps_and_cases_are_refused_with_the_fix() -> None:
    engine, rng = SimulateUltrasound(anatomy=SMALL), rng_for(0, "bad")
    for spacing in (0.001, 1000.0):
        labels = replace(block(), affine=np.diag([spacing, spacing, 1.0, 1.0]))
        with pytest.raises(GeometryMismatchError, match=r"0\.005 to 5 mm"):
            next(engine.sample(1, rng, [labels]))
    with pytest.raises(LabelError, match="tissues = "):
        next(engine.sample(1, rng, [block(("head",))]))
    with pytest.raises(DataError, match="empty list"):
        next(engine.sample(1, rng, []))
    with pytest.raises(DataError, match="no case"):
        engine.fit([], rng)
    hu = replace(screen(0), image=Image.on(screen(0).image.geometry, np.full((1, 96, 80, 1), -900.0, np.float32)))
    with pytest.raises(DataError, match="8-bit"):
        engine.fit([hu], rng)
    with pytest.raises(PlanError):
        SimulateUltrasound(gamma=(0.0, 1.0))
    fitted = engine.fit(screens(2), rng)
    with pytest.raises(LabelError, match="tissues = "):
        next(fitted.sample(1, rng, [block(("wombat",))]))

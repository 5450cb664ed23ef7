from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from equipoise.core import Case, Geometry, Image, LabelMap, LabelScheme, rng_for
from equipoise.core.registry import parameters
from equipoise.engines.imaging.simulate_mri import SimulateMRI
from equipoise.engines.imaging.simulate_mri.scanners import PROTOCOLS, SCANNERS
from equipoise.engines.imaging.simulate_mri.sequences import PulseSequence
from equipoise.engines.imaging.simulate_mri.tissues import TISSUES
from equipoise.errors import DataError, EquipoiseError, GeometryMismatchError, LabelError, PlanError
from equipoise.testing.engine_contract import EngineContract, phantom_cases

STATED = {"organ": (900.0, 80.0, 60.0, 0.8), "core": (1400.0, 120.0, 90.0, 0.9)}
REAL = {"kind": "real"}
STILL = SimulateMRI(
    scanner="3T research",
    protocols=("t1-mprage",),
    motion=0.0,
    ghosting=0.0,
    spiking=0.0,
    bias=0.0,
    transmit=0.0,
    texture=0.0,
    snr=(1e5, 1e5),
    resolution=(1.0, 1.0),
    partial_fourier=(1.0, 1.0),
    taper=(0.0, 0.0),
    fat=(1.0, 1.0),
    learn=False,
)
"""Nothing goes wrong."""


class TestLearned(EngineContract):
    def make(self) -> SimulateMRI:
        return SimulateMRI(anatomy=REAL)


class TestTables(EngineContract):
    def make(self) -> SimulateMRI:
        return SimulateMRI(anatomy=REAL, tissue=STATED, learn=False)


class TestRandom(EngineContract):
    def make(self) -> SimulateMRI:
        return SimulateMRI(contrasts="random", anatomy={"kind": "warped"}, learn=False)


def slab(names: Sequence[str], shape: tuple[int, int, int] = (40, 44, 24), unit: Any = "mm") -> LabelMap:
    """Layers of tissue along I, thick enough to have an inside."""
    geometry = Geometry.from_spacing(shape, (1.5, 1.5, 2.0), unit)
    array = np.zeros((len(names), *shape), np.uint8)
    edges = np.linspace(4, shape[0] - 4, len(names) + 1).astype(int)
    for n, (a, b) in enumerate(pairwise(edges)):
        array[n, a:b, 4:-4] = 1
    return LabelMap.on(geometry, array, LabelScheme.of(names))


LAYERS = slab(("scalp", "subcutaneous fat", "grey matter", "white matter", "cerebrospinal fluid"))


def picture(engine: SimulateMRI, labels: LabelMap = LAYERS, seed: int = 0) -> Case:
    (case,) = engine.sample(1, rng_for(seed, "picture"), [labels])
    return case


def inside(case: Case, name: str) -> float:
    """Mean over the middle of a layer."""
    rows = np.flatnonzero(case.labels.mask(name).any(axis=(1, 2)))
    return float(case.image.array[0, rows[1] + 1 : rows[-2], 8:-8, 6:-6].mean())


# ---------------------------------------------------------------- physics through the whole engine


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("scanner", ["0.064T portable", "1.5T clinical", "7T research"])
def test_the_picture_shows_the_signal_equation(protocol: str, scanner: str) -> None:
    lean = slab(("scalp", "muscle", "grey matter", "white matter", "cerebrospinal fluid"))  # fat would shift
    tissue = {name: TISSUES[name].at(SCANNERS[scanner].tesla) for name in lean.scheme.names}
    stated = {name: (t.t1, t.t2, t.t2star, t.density) for name, t in tissue.items()}  # nobody deviates from the mean
    case = picture(replace(STILL, scanner=scanner, protocols=(protocol,), tissue=stated), lean)
    seen = np.array([inside(case, n) for n in ("grey matter", "white matter", "cerebrospinal fluid")])
    at = case.attributes
    sequence = PulseSequence(
        PROTOCOLS[protocol].sequence,
        float(at["te_ms"]),
        float(at["tr_ms"]),
        float(at.get("ti_ms", 0.0)),
        float(at.get("flip_degrees", 90.0)),
    )
    wanted = np.array(
        [
            float(sequence.signal(t.t1, t.t2, t.t2star, t.density))
            for t in (tissue[n] for n in ("grey matter", "white matter", "cerebrospinal fluid"))
        ]
    )
    np.testing.assert_allclose(seen / seen.max(), wanted / wanted.max(), atol=0.03)


def test_fat_is_shifted_by_its_frequency() -> None:
    labels = slab(("scalp", "subcutaneous fat", "grey matter"))
    profiles = {}
    for scanner in ("0.064T portable", "7T research"):
        # T1-weighted, so that fat is bright and its border shows.
        image = picture(replace(STILL, scanner=scanner, protocols=("t1-gradient-echo",)), labels, seed=3).image.array[0]
        profiles[scanner] = image
    same, moved = profiles["0.064T portable"], profiles["7T research"]
    fat = labels.mask("subcutaneous fat")

    # At 7 T fat leaves a part of its place empty or covers what lies beside it.
    def spread(x: np.ndarray) -> float:
        return float(x[fat].std() / x[fat].mean())

    assert spread(moved) > 1.5 * spread(same)


def test_snr_is_as_stated() -> None:
    labels = slab(("scalp",))
    clean = picture(replace(STILL, tissue={"scalp": (900, 47, 30, 0.7)}), labels).image.array[0]
    noisy = picture(replace(STILL, tissue={"scalp": (900, 47, 30, 0.7)}, snr=(20.0, 20.0)), labels).image.array[0]
    part = (slice(8, -8), slice(8, -8), slice(2, -2))
    assert noisy[part].mean() / noisy[part].std() == pytest.approx(20, rel=0.07)
    assert clean[part].std() < 0.01 * clean[part].mean()


def test_slices_are_thick_along_their_axis_only() -> None:
    engine = replace(STILL, protocols=("t2-spin-echo",), thickness_mm=(12.0, 12.0))
    labels = slab(("scalp",))
    half = labels.array.copy()
    half[:, :, :, 12:] = 0
    case = picture(engine, LabelMap.on(labels.geometry, half, labels.scheme))
    along_k = case.image.array[0, 20, 20]
    along_i = case.image.array[0, :, 20, 4]
    assert case.attributes["thickness_mm"] == 12.0
    assert np.abs(np.diff(along_k)).max() < 0.5 * along_k.max()
    assert np.abs(np.diff(along_i)).max() > 0.5 * along_i.max()


# ---------------------------------------------------------------- every option does something

CHANGES: dict[str, dict[str, object]] = {
    "contrasts": {"contrasts": "random"},
    "scanner": {"scanner": "0.064T portable"},
    "protocols": {"protocols": ("t2-spin-echo",)},
    "te_ms": {"te_ms": (6.0, 6.0)},
    "tr_ms": {"tr_ms": (3000.0, 3000.0)},
    "ti_ms": {"ti_ms": (700.0, 700.0)},
    "flip_degrees": {"flip_degrees": (14.0, 14.0)},
    "snr": {"snr": (4.0, 4.0)},
    "thickness_mm": {"protocols": ("t2-spin-echo",), "slice_axes": (0,), "thickness_mm": (15.0, 15.0)},
    "slice_axes": {"protocols": ("t2-spin-echo",), "slice_axes": (0,)},
    "resolution": {"resolution": (0.3, 0.3)},
    "partial_fourier": {"partial_fourier": (0.55, 0.55)},
    "taper": {"taper": (1.0, 1.0)},
    "motion": {"motion": 1.0},
    "motion_mm": {"motion": 1.0, "motion_mm": 8.0},
    "motion_degrees": {"motion": 1.0, "motion_degrees": 9.0},
    "ghosting": {"ghosting": 1.0},
    "ghost": {"ghosting": 1.0, "ghost": (0.6, 0.6)},
    "spiking": {"spiking": 1.0},
    "spike": {"spiking": 1.0, "spike": (2.0, 2.0)},
    "bias": {"bias": 0.9},
    "transmit": {"transmit": 2.0},
    "fat": {"fat": (0.0, 0.0)},
    "texture": {"texture": 0.2},
    "tissue": {"tissue": {"grey matter": (400.0, 90.0, 60.0, 1.0)}},
}
FITTED = {"anatomy", "classes", "inner", "learn", "pixel_mm", "warp", "device"}
"""Tested on their own below, or in `test_simulate_mri_device`."""


def test_every_option_is_in_the_table() -> None:
    assert {*CHANGES, *FITTED} == set(parameters(SimulateMRI))


@pytest.mark.parametrize("option", CHANGES)
def test_every_option_has_a_measurable_effect(option: str) -> None:
    change = dict(CHANGES[option])
    wanted = change.pop(option)
    before = replace(STILL, **change)  # type: ignore[arg-type]
    after = replace(before, **{option: wanted})  # type: ignore[arg-type]
    seed = next(s for s in range(9) if option != "fat" or picture(after, seed=s).attributes["fat"] == 0.0)
    one, two = (picture(engine, seed=seed).image.array for engine in (before, after))
    assert np.abs(one - two).mean() > 0.002 * np.abs(one).mean()


def test_size_of_a_pixel_counts_where_the_file_states_none() -> None:
    labels = slab(("scalp", "grey matter"), unit="px")
    engine = replace(STILL, bias=0.5)
    small, large = (picture(replace(engine, pixel_mm=p), labels).image for p in (0.5, 4.0))
    assert small.unit == "px"
    assert np.abs(small.array - large.array).mean() > 1


def test_random_contrast_moves_its_own_labels_and_never_given_ones() -> None:
    anatomy = {"kind": "head", "size": [40, 44, 40], "spacing": [5.0, 5.0, 5.0]}
    moving, still = (SimulateMRI(contrasts="random", anatomy=anatomy, warp=w) for w in (1.0, 0.0))
    (a,), (b,) = (list(e.sample(1, rng_for(0, "own"))) for e in (moving, still))
    assert (a.labels.array != b.labels.array).any()
    given, _ = next(iter(moving.sample(1, rng_for(0, "own"), [b.labels]))), None
    np.testing.assert_array_equal(given.labels.array, b.labels.array)
    # Where the labels went, the picture went: grey values differ between labels more than within.
    values, grey = a.labels.values().ravel(), a.image.array[0].ravel()
    total = sum(float(grey[values == v].var()) * (values == v).mean() for v in np.unique(values))
    assert total < 0.6 * grey.var()


def test_instances_move_with_the_picture() -> None:
    array = np.zeros((2, 32, 32, 1), np.uint8)
    array[0, 4:14, 4:14], array[0, 18:28, 18:28], array[1, 8:24, 8:24] = 1, 2, 1
    labels = LabelMap.on(Geometry((32, 32, 1)), array, LabelScheme.of(["nodule", "organ"], exclusive=False))
    case = Case("a", "p", Image.on(labels.geometry, np.ones((1, 32, 32, 1), np.float32)), labels)
    engine = SimulateMRI(contrasts="random", anatomy=REAL, learn=False).fit([case], rng_for(0, "fit"))
    (made,) = engine.sample(1, rng_for(4, "s"))
    assert set(np.unique(made.labels.instances("nodule"))) == {0, 1, 2}
    assert (made.labels.array != array).any()


# ---------------------------------------------------------------- learning


def real_case(i: int, noise: float = 0.05, scale: float = 500.0, channels: int = 1) -> Case:
    rng = rng_for(i, "real")
    geometry = Geometry.from_spacing((32, 36, 28), (1.0, 1.0, 1.0))
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in geometry.shape), indexing="ij")
    far = np.sqrt((x - rng.uniform(-0.2, 0.2)) ** 2 + y**2 + z**2)
    tissue = np.where(far < 0.5, 0.6, np.where(y > 0.3, 0.9, 0.25))
    noisy = np.hypot(tissue + noise * rng.standard_normal((channels, *tissue.shape)), noise * rng.standard_normal())
    truth = LabelMap.on(geometry, (far < 0.5).astype(np.uint8)[None], LabelScheme.of(["vessel wall"]))
    return Case(f"c{i}", f"p{i}", Image.on(geometry, (scale * noisy).astype(np.float32)), truth)


def test_fit_learns_contrast_scale_and_noise() -> None:
    cases = [real_case(i) for i in range(4)]
    engine = SimulateMRI(anatomy=REAL, motion=0, ghosting=0, spiking=0, bias=0).fit(cases, rng_for(0, "fit"))
    for case in engine.sample(4, rng_for(1, "s")):
        image, mask = case.image.array[0], case.labels.mask("vessel wall")
        outside = image[~mask]
        assert float(np.median(image[mask])) == pytest.approx(300, rel=0.12)
        assert np.percentile(outside, 20) == pytest.approx(125, rel=0.25)
        assert np.percentile(outside, 90) == pytest.approx(450, rel=0.15)
        assert case.scanner == "simulated, as trained"
        assert case.origin.parents == {"p0", "p1", "p2", "p3"}


def test_noise_that_is_learned_is_that_of_the_cases() -> None:
    spreads = []
    for noise in (0.02, 0.1):
        cases = [real_case(i, noise) for i in range(3)]
        engine = SimulateMRI(anatomy=REAL, motion=0, ghosting=0, spiking=0, bias=0).fit(cases, rng_for(0, "fit"))
        (made,) = engine.sample(1, rng_for(1, "s"))
        spreads.append(float(made.image.array[0][made.labels.mask("vessel wall")].std()) / 500)
    assert spreads[0] == pytest.approx(0.02, abs=0.02)
    assert spreads[1] == pytest.approx(0.1, rel=0.35)


def test_numbers_of_sublabels_matter_and_several_sequences_are_learned() -> None:
    cases = [real_case(i, channels=2) for i in range(3)]
    engine = SimulateMRI(anatomy=REAL).fit(cases, rng_for(0, "fit"))
    (made,) = engine.sample(1, rng_for(1, "s"))
    assert made.image.channels == 2
    for change in ({"classes": 1}, {"inner": 1}):
        (other,) = replace(SimulateMRI(anatomy=REAL), **change).fit(cases, rng_for(0, "fit")).sample(1, rng_for(1, "s"))
        assert (other.image.array != made.image.array).any()
    (prior,) = (
        SimulateMRI(anatomy=REAL, learn=False, tissue={"vessel wall": (900, 60, 40, 0.8)})
        .fit(cases, rng_for(0, "fit"))
        .sample(1, rng_for(1, "s"))
    )
    assert prior.image.channels == 1
    assert prior.origin.parents == {"p0", "p1", "p2"}, "the anatomy still comes from the patients"


def test_pictures_of_learned_tissue_in_random_contrast() -> None:
    engine = SimulateMRI(contrasts="random", anatomy=REAL).fit([real_case(i) for i in range(3)], rng_for(0, "fit"))
    ratios = []
    for case in engine.sample(12, rng_for(0, "s")):
        mask = case.labels.mask("vessel wall")
        ratios.append(case.image.array[0][mask].mean() / case.image.array[0][~mask].mean())
    assert min(ratios) < 0.95
    assert max(ratios) > 1.05


def test_whole_numbers_stay_whole() -> None:
    cases = [
        replace(c, image=Image.on(c.image.geometry, c.image.array.astype(np.int16))) for c in map(real_case, range(2))
    ]
    (made,) = SimulateMRI(anatomy=REAL).fit(cases, rng_for(0, "fit")).sample(1, rng_for(0, "s"))
    np.testing.assert_array_equal(made.image.array, np.rint(made.image.array))


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"te_ms": (3000.0, 3000.0), "protocols": ("t2-spin-echo",), "tr_ms": (2000.0, 2000.0)}, "te_ms = 3000"),
        ({"te_ms": (-5.0, 4.0)}, "te_ms"),
        ({"ti_ms": (3000.0, 3500.0), "protocols": ("t1-mprage",)}, "ti_ms"),
        ({"flip_degrees": (0.0, 300.0)}, "flip_degrees"),
        ({"snr": (0.0, 5.0)}, "snr"),
        ({"scanner": "3T clincal"}, "3T clinical"),
        ({"protocols": ()}, "protocols"),
        ({"protocols": ("t1-mprag",)}, "t1-mprage"),
        ({"resolution": (0.0, 1.0)}, "resolution"),
        ({"resolution": (0.9, 0.5)}, "resolution"),
        ({"partial_fourier": (0.2, 1.0)}, "partial_fourier"),
        ({"thickness_mm": (0.0, 3.0)}, "thickness_mm"),
        ({"slice_axes": (3,)}, "slice_axes"),
        ({"motion": 2.0}, "motion"),
        ({"bias": float("nan")}, "bias"),
        ({"tissue": {"x": (50.0, 80.0, 20.0, 1.0)}}, "tissue.x"),
        ({"tissue": {"x": "fat"}}, "tissue.x"),
        ({"contrasts": "any"}, "contrasts"),
        ({"anatomy": "hed"}, "head"),
        ({"anatomy": 3}, "anatomy"),
        ({"pixel_mm": 0.0}, "pixel_mm"),
        ({"classes": 0}, "classes"),
        ({"device": "gpu"}, "device"),
        ({"device": "cuda:x"}, "device"),
    ],
)
def test_impossible_parameters_name_the_parameter(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(EquipoiseError, match=said):
        SimulateMRI(**arguments)


def test_unknown_label_is_refused_by_name() -> None:
    with pytest.raises(LabelError, match=r"white mater.*Did you mean 'white matter'"):
        picture(STILL, slab(("scalp", "white mater")))


@pytest.mark.parametrize("spacing", [5e-5, 1000.0])
def test_impossible_spacing_is_refused(spacing: float) -> None:
    labels = LabelMap.on(
        Geometry.from_spacing((8, 8, 8), (spacing, 1.0, 1.0)), np.ones((1, 8, 8, 8), np.uint8), LabelScheme.of(["fat"])
    )
    with pytest.raises(GeometryMismatchError, match=r"spacing.*legal"):
        picture(STILL, labels)


def test_images_that_teach_nothing_are_refused() -> None:
    good = real_case(0)
    grid = good.image.geometry
    flat = replace(good, image=Image.on(grid, np.ones((1, *grid.shape), np.float32)))
    nan = replace(good, image=Image.on(grid, np.full((1, *grid.shape), np.nan, np.float32)))
    for cases, said in (
        ([flat], "constant"),
        ([nan], "NaN"),
        ([], "no case"),
        ([good, real_case(1, channels=2)], "channels"),
    ):
        with pytest.raises(DataError, match=said):
            SimulateMRI(anatomy=REAL).fit(cases, rng_for(0, "fit"))


def test_empty_list_of_label_maps_is_refused() -> None:
    with pytest.raises(DataError, match="empty list"):
        STILL.sample(1, rng_for(0, "s"), [])


def test_ranges_that_no_protocol_can_play_name_the_protocol() -> None:
    with pytest.raises(PlanError, match="t1-mprage"):
        SimulateMRI(te_ms=(20.0, 30.0))


# ---------------------------------------------------------------- any parameters, any map


@hypothesis_settings(max_examples=25)
@given(
    st.sampled_from(["physics", "random"]),
    st.sampled_from([None, *SCANNERS]),
    st.sampled_from(list(PROTOCOLS)),
    st.tuples(st.integers(2, 24), st.integers(2, 24), st.integers(1, 12)),
    st.tuples(*[st.floats(0.3, 6.0)] * 3),
    st.lists(st.sampled_from(sorted(TISSUES)), min_size=1, max_size=5, unique=True),
    st.floats(0, 1),
    st.floats(0, 1),
    st.sampled_from([(0,), (1,), (2,), (0, 1, 2)]),
    st.sampled_from(["mm", "px"]),
    st.integers(0, 2**31),
)
def test_any_picture_is_finite_on_its_grid_with_its_labels(
    contrasts: Any,
    scanner: str | None,
    protocol: str,
    shape: tuple[int, int, int],
    spacing: tuple[float, float, float],
    names: list[str],
    often: float,
    bias: float,
    slice_axes: tuple[int, ...],
    unit: Any,
    seed: int,
) -> None:
    engine = SimulateMRI(
        contrasts,
        scanner,
        (protocol,),
        motion=often,
        ghosting=often,
        spiking=often,
        bias=bias,
        slice_axes=slice_axes,
        motion_mm=3.0,
        motion_degrees=5.0,
    )
    rng = np.random.default_rng(seed)
    array = rng.integers(0, 2, (len(names), *shape)).astype(np.uint8)
    labels = LabelMap.on(Geometry.from_spacing(shape, spacing, unit), array, LabelScheme.of(names, exclusive=False))
    (case,) = engine.sample(1, rng, [labels])
    assert case.image.array.shape == (1, *shape)
    assert case.image.array.dtype == np.float32
    assert np.isfinite(case.image.array).all()
    assert case.image.array.min() >= 0
    np.testing.assert_array_equal(case.labels.array, array)


def test_cases_of_the_contract_have_nothing_to_do_with_mri() -> None:
    # Negative grey values (z-scores, CT) are learned as they are: the zero moves, the picture keeps its scale.
    cases = phantom_cases(dimension=3)
    (made,) = SimulateMRI(anatomy=REAL).fit(cases, rng_for(0, "fit")).sample(1, rng_for(0, "s"))
    seen = np.concatenate([c.image.array.ravel() for c in cases])
    assert np.percentile(made.image.array, 50) == pytest.approx(np.percentile(seen, 50), abs=0.15 * float(np.ptp(seen)))


def test_learned_state_is_no_parameter() -> None:
    assert {f.name for f in fields(SimulateMRI)} - set(parameters(SimulateMRI)) == {"_learned", "_anatomy"}

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from equipoise.core import Case, Geometry, Image, LabelMap, LabelScheme, rng_for
from equipoise.core.registry import make, parameters
from equipoise.engines.anatomy.real import Real
from equipoise.engines.anatomy.tissue import Tissue
from equipoise.engines.anatomy.warped import Warped
from equipoise.engines.imaging.simulate_histology import SimulateHistology
from equipoise.engines.imaging.simulate_histology.scanners import PROFILES
from equipoise.engines.imaging.simulate_histology.stains import LABORATORIES, matrix_of, unmix
from equipoise.errors import DataError, EquipoiseError, GeometryMismatchError, LabelError, PlanError
from equipoise.testing import EngineContract

GRID = Geometry.from_spacing((96, 100, 1), (0.0005, 0.0005, 0.004))
CALM: dict[str, Any] = {"anatomy": {"kind": "tissue", "size": (96, 100, 1), "um_per_px": 0.5}, "folds": 0.0}


def histology_cases(n: int = 3, names: Sequence[str] = ("nucleus",), unit: Any = "px") -> tuple[Case, ...]:
    """Pictures that no engine made: round nuclei of known stains, in an eosin field with a clear corner."""
    return tuple(_histology_case(i, names, unit) for i in range(n))


def _histology_case(i: int, names: Sequence[str], unit: Any) -> Case:
    rng = rng_for(i, "histology case")
    ni, nj = 110, 114
    x, y = np.meshgrid(np.arange(ni), np.arange(nj), indexing="ij")
    body = np.zeros((len(names), ni, nj, 1), np.uint16)
    number = 0
    for ci in range(14, ni - 8, 24):
        for cj in range(14, nj - 8, 24):
            number += 1
            a = rng.uniform(-3, 3, 2)
            body[0, (x - ci - a[0]) ** 2 + (y - cj - a[1]) ** 2 <= rng.uniform(50, 90), 0] = number
    inside = body[0, :, :, 0] > 0
    grain = ndimage.gaussian_filter(rng.standard_normal((2, ni, nj)), (0, 2, 2)) * 6
    amounts = np.zeros((3, ni, nj))
    amounts[0] = np.where(inside, 0.7, 0.05) * np.exp(0.25 * grain[0])
    amounts[1] = np.where(inside, 0.1, 0.35) * np.exp(0.25 * grain[1])
    amounts[:, x + y < 50] *= 0.02
    light = 10.0 ** -np.einsum("cs,sij->cij", matrix_of(LABORATORIES["landini-1"]), amounts)
    light = ndimage.gaussian_filter(light, (0, 0.8, 0.8))
    colours = 245 * light + 1.0 * rng.standard_normal(light.shape)
    grid = Geometry.from_spacing((ni, nj, 1), (1.0, 1.0, 1.0) if unit == "px" else (0.0005, 0.0005, 0.004), unit)
    image = Image.on(grid, np.clip(np.rint(colours), 0, 255).astype(np.uint8)[..., None])
    return Case(f"case-{i}", f"real-{i}", image, LabelMap.on(grid, body, LabelScheme.of(names)))


def one(engine: SimulateHistology, seed: int = 0, labels: LabelMap | None = None) -> Case:
    return next(engine.sample(1, rng_for(seed, "one"), None if labels is None else [labels]))


def field(names: Sequence[str] = ("epithelium", "nucleus")) -> LabelMap:
    masks = np.zeros((len(names), 96, 100, 1), np.uint16)
    masks[0, :60] = 1
    if len(names) > 1:
        for n, (i, j) in enumerate([(10, 10), (10, 40), (40, 20), (70, 70)], 1):
            masks[1, i : i + 16, j : j + 16] = n
    return LabelMap.on(GRID, masks, LabelScheme.of(names, exclusive=False))


class TestContract(EngineContract):
    def make(self) -> SimulateHistology:
        return SimulateHistology(um_per_px=0.5, anatomy={"kind": "tissue", "size": (96, 100, 1), "um_per_px": 0.5})

    def cases(self) -> Sequence[Case]:
        return histology_cases(2)

    def test_makes_every_dimension_that_it_claims(self) -> None:
        (made,) = self.samples(1)
        assert made.image.geometry.ndim == 2
        assert made.image.channels == 3
        assert made.image.array.dtype == np.uint8


@functools.cache
def _on_training_maps() -> SimulateHistology:
    return TestContractOnTrainingMaps().make().fit(histology_cases(2), rng_for(0, "fit"))


class TestContractOnTrainingMaps(EngineContract):
    def make(self) -> SimulateHistology:
        return SimulateHistology(um_per_px=0.5, anatomy={"kind": "warped", "patch": 80})

    def cases(self) -> Sequence[Case]:
        return histology_cases(2)

    def fitted(self) -> SimulateHistology:
        return _on_training_maps()  # that a fit repeats itself is tested above

    def test_makes_every_dimension_that_it_claims(self) -> None:
        (made,) = self.samples(1)
        assert made.image.geometry.shape == (80, 80, 1)


class TestContractOfThePrior(EngineContract):
    learns = False

    def make(self) -> SimulateHistology:
        anatomy = {"kind": "tissue", "size": (96, 100, 1), "um_per_px": 0.5, "learn": False}
        return SimulateHistology(learn=False, anatomy=anatomy)

    def cases(self) -> Sequence[Case]:
        return histology_cases(unit="mm")

    def test_makes_every_dimension_that_it_claims(self) -> None:
        assert self.samples(1)[0].image.channels == 3


def test_works_alone_and_says_how_it_was_taken() -> None:
    case = one(SimulateHistology())
    assert case.image.array.shape == (3, 256, 256, 1)
    assert case.scanner is not None
    assert case.scanner.removeprefix("simulated, ") in PROFILES
    assert case.attributes["laboratory"] in LABORATORIES
    assert case.attributes["um_per_px"] == 0.25
    assert 3 <= float(case.attributes["thickness_um"]) <= 5
    assert case.origin.parents == frozenset()


CHANGES: dict[str, tuple[Any, Any]] = {
    "scanner": (sorted(PROFILES)[0], sorted(PROFILES)[1]),
    "laboratory": ("qupath", "ruifrok-johnston"),
    "stain_degrees": (0.0, 12.0),
    "haematoxylin": ((0.5, 0.5), (1.5, 1.5)),
    "eosin": ((0.5, 0.5), (1.5, 1.5)),
    "thickness_um": ((2.0, 2.0), (8.0, 8.0)),
    "chromatin": ((0.0, 0.0), (0.5, 0.5)),
    "vesicular": ((0.0, 0.0), (0.9, 0.9)),
    "clearing": ((0.0, 0.0), (1.0, 1.0)),
    "membrane": ((-1.0, -1.0), (1.0, 1.0)),
    "gaps": ((0.0, 0.0), (0.7, 0.7)),
    "folds": (0.0, 1.0),
    "aperture": ((0.2, 0.2), (0.9, 0.9)),
    "defocus_um": ((0.0, 0.0), (4.0, 4.0)),
    "gamma": ((0.6, 0.6), (1.6, 1.6)),
    "saturation": ((0.3, 0.3), (1.3, 1.3)),
    "chromatic_um": ((0.0, 0.0), (2.0, 2.0)),
    "electrons": ((400.0, 400.0), (1e6, 1e6)),
    "jpeg": ((10, 10), (100, 100)),
    "stains": ({}, {"stroma": [0.0, 1.2]}),
    "anatomy": ({**CALM["anatomy"], "architecture": "lymphoid"}, {**CALM["anatomy"], "architecture": "glandular"}),
}


def test_every_parameter_is_in_the_table() -> None:
    assert {*CHANGES, "um_per_px", "learn", "texture"} == set(parameters(SimulateHistology))


@pytest.mark.parametrize("name", CHANGES)
def test_every_parameter_has_a_measurable_effect(name: str) -> None:
    base = SimulateHistology(**{**CALM, "scanner": sorted(PROFILES)[0], "laboratory": "macenko"})
    pictures = [one(replace(base, **{name: value}), 2).image.array.astype(float) for value in CHANGES[name]]
    assert np.abs(pictures[0] - pictures[1]).mean() > 0.4


SIGNS = {"haematoxylin": -1, "eosin": -1, "thickness_um": -1, "gamma": -1, "clearing": 1, "gaps": 1}


@pytest.mark.parametrize(("name", "sign"), SIGNS.items())
def test_effects_have_the_right_sign(name: str, sign: int) -> None:
    base = SimulateHistology(**{**CALM, "scanner": sorted(PROFILES)[0], "laboratory": "macenko"})
    low, high = (one(replace(base, **{name: value}), 2).image.array.astype(float).mean() for value in CHANGES[name])
    assert sign * (high - low) > 0.4


def test_pixels_without_a_size_take_the_stated_one() -> None:
    labels = LabelMap(np.ones((1, 96, 96, 1), np.uint8), LabelScheme.of(["stroma"]), unit="px")
    fine, coarse = (
        one(SimulateHistology(um_per_px=um, folds=0, defocus_um=(0, 0), jpeg=(100, 100)), 1, labels)
        for um in (0.25, 1.0)
    )
    assert fine.attributes["um_per_px"] == 0.25
    assert coarse.attributes["um_per_px"] == 1.0
    rough = [np.abs(np.diff(c.image.array.astype(float), axis=1)).mean() / c.image.array.std() for c in (fine, coarse)]
    assert rough[1] > 1.2 * rough[0], "at a coarser pixel, neighbours have less in common"


def test_labels_show() -> None:
    engine = SimulateHistology(folds=0.0)
    case = one(engine, 0, field())
    grey = case.image.array.astype(float).mean(axis=0)
    assert grey[case.labels.mask("nucleus")].mean() < grey[~case.labels.mask("nucleus")].mean() - 25
    glass = one(engine, 0, field(["lumen", "nucleus"]))
    inner = ndimage.binary_erosion(glass.labels.mask("lumen") & ~glass.labels.mask("nucleus"), np.ones((3, 3, 1)), 4)
    outside = ~glass.labels.mask("lumen") & ~glass.labels.mask("nucleus")
    values = glass.image.array.astype(float).mean(axis=0)
    assert values[inner].mean() > values[outside].mean() + 10


def test_stated_stains_are_shown() -> None:
    given = {"keratin": [0.0, 0.9]}
    engine = SimulateHistology(
        folds=0.0, stains=given, laboratory="macenko", stain_degrees=0.0, eosin=(1.0, 1.0), thickness_um=(4.0, 4.0),
        gamma=(1.0, 1.0), saturation=(1.0, 1.0), defocus_um=(0.0, 0.0), jpeg=(100, 100), scanner=sorted(PROFILES)[0],
    )  # fmt: skip
    case = one(engine, 0, field(["keratin"]))
    inner = np.zeros(case.image.geometry.shape, bool)
    inner[5:55, 5:-5] = True
    density = -np.log10(case.image.array[:, inner].astype(float) / 240).mean(axis=1)
    vector = matrix_of(LABORATORIES["macenko"])[:, 1]
    assert density @ vector == pytest.approx(0.9, rel=0.12)
    assert np.degrees(np.arccos(density @ vector / np.linalg.norm(density))) < 4


def test_fit_finds_stains_glass_noise_and_concentrations() -> None:
    cases = histology_cases()
    engine = SimulateHistology(um_per_px=0.5, anatomy={"kind": "tissue", "um_per_px": 0.5}, folds=0.0)
    fitted = engine.fit(cases, rng_for(0))
    assert fitted._learned is not None
    wanted = matrix_of(LABORATORIES["landini-1"])
    for slide in fitted._learned.slides.values():
        for stain in range(2):
            assert np.degrees(np.arccos(slide.vectors[:, stain] @ wanted[:, stain])) < 5
        np.testing.assert_allclose(slide.white, 245, atol=6)
        assert 0.5 < slide.noise < 2.5
        assert 0.4 <= slide.blur_px < 2.0
        assert slide.nuclei is not None
        assert np.median(slide.nuclei.quantiles[0]) == pytest.approx(0.7, rel=0.25)
    # What the fitted engine shows is nearer to the training pictures than what the prior shows.
    real = np.mean([_nuclear_and_other(c) for c in cases], axis=0)
    learned = np.mean([_nuclear_and_other(c) for c in fitted.sample(6, rng_for(1))], axis=0)
    prior = [_nuclear_and_other(c) for c in replace(fitted, _learned=None).sample(6, rng_for(1))]
    assert np.abs(learned - real).mean() < 12
    assert np.abs(learned - real).mean() < np.mean([np.abs(p - real).mean() for p in prior])


def _nuclear_and_other(case: Case) -> np.ndarray:
    mask = case.labels.array[0] > 0
    colours = case.image.array.astype(float)
    return np.concatenate([colours[:, mask].mean(axis=1), np.median(colours[:, ~mask], axis=1)])


@pytest.mark.parametrize("names", [("nucleus",), ("mystery",)])
def test_training_maps_never_get_a_flat_background(names: tuple[str]) -> None:
    cases = histology_cases(3, names)
    fitted = SimulateHistology(um_per_px=0.5, folds=0.0, anatomy="real").fit(cases, rng_for(0))
    for made in fitted.sample(2, rng_for(3)):
        outside = made.labels.array[0] == 0
        values = made.image.array.astype(float)[:, outside]
        assert values.std(axis=1).min() > 5
        corner = made.image.array[:, :22, :22][:, outside[:22, :22]].mean()
        assert corner > values.mean() + 15, "what nobody labelled lies where the training case has it"
    calm, rough = (one(replace(fitted, texture=t), 3).image.array.astype(float) for t in (0.0, 1.5))
    assert np.abs(np.diff(rough, axis=1)).mean() > 1.2 * np.abs(np.diff(calm, axis=1)).mean()
    warped = replace(fitted, _anatomy=Warped(patch=64).fit(cases, rng_for(0)))
    assert one(warped, 1).image.array.shape == (3, 64, 64, 1)
    assert replace(fitted, _anatomy=Real(patch=64).fit(cases, rng_for(0))).parents == {"real-0", "real-1", "real-2"}


def test_unmixing_explains_a_picture() -> None:
    (case,) = histology_cases(1)
    found = unmix(case.image.array, rng_for(0))
    nuclear = case.labels.mask("nucleus")
    assert found.concentrations[0][nuclear].mean() > 4 * found.concentrations[0][~nuclear].mean()
    grey = unmix(np.full((3, 20, 20, 1), 200, np.uint8), rng_for(0))
    assert np.isfinite(grey.concentrations).all()


@settings(max_examples=12)
@given(
    st.integers(8, 70), st.integers(8, 70), st.floats(0.1, 3.0), st.sampled_from(sorted(PROFILES)),
    st.sampled_from(sorted(LABORATORIES)), st.floats(-1, 1), st.floats(0, 0.9), st.floats(0, 1), st.floats(0, 10),
    st.integers(1, 100),
)  # fmt: skip
def test_any_legal_parameters_make_a_picture(
    i: int, j: int, um: float, scanner: str, laboratory: str, membrane: float, gaps: float, folds: float, z: float,
    quality: int,
) -> None:  # fmt: skip
    engine = SimulateHistology(
        scanner, laboratory, membrane=(membrane, membrane), gaps=(gaps, gaps), folds=folds, defocus_um=(0.0, z),
        jpeg=(quality, quality),
    )  # fmt: skip
    labels = next(Tissue((i, j, 1), um).draw(1, rng_for(i, "m")))
    case = one(engine, j, labels)
    assert case.image.array.shape == (3, i, j, 1)
    np.testing.assert_array_equal(case.labels.array, labels.array)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"scanner": "line scaner"}, "scanner = 'line scaner'"),
        ({"laboratory": "qpath"}, "Did you mean 'qupath'"),
        ({"thickness_um": (-1.0, 4.0)}, "thickness_um"),
        ({"thickness_um": (4.0, 3.0)}, "0.5 to 20 µm"),
        ({"aperture": (0.5, 1.4)}, "0.05 to 0.95"),
        ({"electrons": (0.0, 1.0)}, "electrons"),
        ({"jpeg": (0, 200)}, "jpeg"),
        ({"stain_degrees": float("nan")}, "stain_degrees"),
        ({"folds": 2.0}, "folds = 2.0"),
        ({"texture": -1.0}, "texture"),
        ({"um_per_px": 0.0}, "um_per_px = 0.0"),
        ({"um_per_px": 1000.0}, "0.05 to 10 µm"),
        ({"stains": {"keratin": [1.0]}}, "stains.keratin"),
        ({"stains": {"keratin": [-1.0, 0.0]}}, "stains.keratin, haematoxylin = -1"),
        ({"stains": 3}, "table"),
        ({"anatomy": 3}, "anatomy must be"),
        ({"anatomy": "tisue"}, "Did you mean 'tissue'"),
    ],
)
def test_impossible_parameters_are_named(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(EquipoiseError, match=says):
        SimulateHistology(**wrong)


def test_impossible_maps_are_named() -> None:
    engine = SimulateHistology()
    with pytest.raises(LabelError, match="'optic disc'"):
        one(engine, 0, LabelMap.on(GRID, np.ones((1, 96, 100, 1), np.uint8), LabelScheme.of(["optic disc"])))
    for spacing in (1e-5, 0.8, 1000.0):
        grid = Geometry.from_spacing((16, 16, 1), (spacing, spacing, 1.0))
        with pytest.raises(GeometryMismatchError, match=r"5e-05 to 0\.01 mm"):
            one(engine, 0, LabelMap.on(grid, np.ones((1, 16, 16, 1), np.uint8), LabelScheme.of(["nucleus"])))
    volume = LabelMap(np.ones((1, 8, 8, 8), np.uint8), LabelScheme.of(["nucleus"]), unit="px")
    with pytest.raises(GeometryMismatchError, match="2-D"):
        one(engine, 0, volume)
    with pytest.raises(DataError, match="empty list"):
        list(engine.sample(1, rng_for(0), []))


def test_pictures_that_are_not_histology_are_refused() -> None:
    (case,) = histology_cases(1)
    grey = replace(case, image=Image.on(case.image.geometry, case.image.array[:1]))
    with pytest.raises(DataError, match="no colour picture"):
        SimulateHistology().fit([grey], rng_for(0))
    units = replace(case, image=Image.on(case.image.geometry, case.image.array.astype(np.float32) - 1000))
    with pytest.raises(DataError, match="8-bit RGB"):
        SimulateHistology().fit([units], rng_for(0))
    with pytest.raises(DataError, match="no case"):
        SimulateHistology().fit([], rng_for(0))
    with pytest.raises(PlanError, match="no parameter"):
        make("engines", {"kind": "simulate-histology", "stain": "x"})

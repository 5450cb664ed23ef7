from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from equipoise.core import Case, Geometry, Image, LabelMap, LabelScheme, rng_for
from equipoise.core.registry import parameters
from equipoise.engines.anatomy.tissue import Tissue
from equipoise.engines.anatomy.tissue.layout import ARCHITECTURES
from equipoise.engines.parts.nuclear_shapes import instances_of, kinds_by_shape, outlines_of, size_of_pixel
from equipoise.engines.parts.tissue_scene import EPITHELIAL, FIBROBLAST, LYMPHOCYTE, SceneVoxels, known_as, meanings_of
from equipoise.errors import DataError, LabelError, PlanError
from equipoise.testing import AnatomyContract

SMALL = Tissue(size=(128, 120, 1), um_per_px=0.5)


def draw(anatomy: Tissue, seed: int = 0) -> LabelMap:
    return next(anatomy.draw(1, rng_for(seed, "tissue")))


def nuclei_cases(n: int = 3, counted: bool = True) -> tuple[Case, ...]:
    """Colour pictures of round nuclei of 8 µm on grids of 0.5 µm that state no size."""
    return tuple(_nuclei_case(i, counted) for i in range(n))


def _nuclei_case(i: int, counted: bool) -> Case:
    rng = rng_for(i, "nuclei")
    ni, nj = 96, 100 + i
    x, y = np.meshgrid(np.arange(ni), np.arange(nj), indexing="ij")
    body = np.zeros((1, ni, nj, 1), np.uint16)
    number = 0
    for ci in range(12, ni - 8, 24):
        for cj in range(12, nj - 8, 24):
            number += 1
            a = rng.uniform(-3, 3, 2)
            body[0, (x - ci - a[0]) ** 2 + (y - cj - a[1]) ** 2 <= 64, 0] = number if counted else 1
    colours = np.array([[225, 170, 205], [110, 70, 150]], float)[(body[0] > 0).astype(int)].transpose(3, 0, 1, 2)
    noisy = colours + 12 * ndimage.gaussian_filter(rng.standard_normal(colours.shape), (0, 1, 1, 0))
    grid = Geometry.from_spacing((ni, nj, 1), (1.0, 1.0, 1.0), unit="px")
    truth = LabelMap.on(grid, body, LabelScheme.of({"nucleus": 7}))
    return Case(f"case-{i}", f"real-{i}", Image.on(grid, np.clip(noisy, 0, 255).astype(np.uint8)), truth)


class TestContract(AnatomyContract):
    def make(self) -> Tissue:
        return Tissue(um_per_px=0.5)

    def cases(self) -> Sequence[Case]:
        return nuclei_cases()


class TestContractOfThePrior(AnatomyContract):
    learns = False

    def make(self) -> Tissue:
        return replace(SMALL, learn=False)


@pytest.mark.parametrize("architecture", ["solid", "stromal", "lymphoid"])
def test_nuclei_are_as_dense_as_asked(architecture: str) -> None:
    anatomy = Tissue(
        size=(600, 600, 1), um_per_px=0.5, architecture=architecture, density_mm2=(5000, 5000),
        lymphocytes_mm2=(1500, 1500), fibroblasts_mm2=(1000, 1000), mitoses=(0, 0),
        diameters_um={"epithelial nucleus": (6.5, 6.5)},
    )  # fmt: skip
    labels = draw(anatomy, 1)
    assert isinstance(labels.voxels, SceneVoxels)
    scene = labels.voxels.scene
    area = {c: (scene.compartment == c).sum() * 0.25e-6 for c in (2, 3)}
    found = np.bincount(scene.kind[1:], minlength=6)
    if area[2] > 0.01:
        assert found[EPITHELIAL] / area[2] == pytest.approx(5000, rel=0.15)
    if architecture == "lymphoid":
        assert 4500 < found[LYMPHOCYTE] / area[3] < 12_000
    else:
        assert found[LYMPHOCYTE] / area[3] == pytest.approx(1500, rel=0.2)
        assert found[FIBROBLAST] / area[3] == pytest.approx(1000, rel=0.2)


def test_nuclei_have_the_size_and_shape_of_their_kind() -> None:
    anatomy = Tissue(size=(800, 800, 1), architecture="solid", um_per_px=0.25, lymphocytes_mm2=(2000, 2000))
    labels = draw(anatomy, 3)
    seen: dict[str, tuple[float, float]] = {}
    for name in ("epithelial nucleus", "lymphocyte", "fibroblast"):
        _, diameter, stretch, _ = outlines_of(labels.instances(name)[:, :, 0].astype(int), 0.25)
        seen[name] = float(np.median(diameter)), float(np.median(stretch))
    assert 5.5 < seen["epithelial nucleus"][0] < 11
    assert 4.4 < seen["lymphocyte"][0] < 6.8
    assert seen["lymphocyte"][1] < 1.3 < 2.0 < seen["fibroblast"][1]


def test_instances_are_whole_and_do_not_overlap() -> None:
    labels = draw(Tissue(size=(300, 300, 1), architecture="solid", um_per_px=0.5), 4)
    assert labels.scheme.exclusive
    assert labels.masks().sum(axis=0).max() == 1
    channel = labels.instances("epithelial nucleus")[:, :, 0]
    numbers = np.unique(channel)[1:]
    assert list(numbers) == list(range(1, len(numbers) + 1)), "numbers rise without gaps"
    pieces = [ndimage.label(channel == n, np.ones((3, 3)))[1] for n in numbers]
    assert np.mean(np.array(pieces) == 1) > 0.95


def test_merged_nuclei_are_those_of_all_kinds() -> None:
    apart, merged = draw(SMALL, 5), draw(replace(SMALL, labels=("nucleus",)), 5)
    kinds = ("epithelial nucleus", "lymphocyte", "fibroblast", "mitosis")
    np.testing.assert_array_equal(np.any([apart.mask(k) for k in kinds], axis=0), merged.mask("nucleus"))
    assert merged.instances("nucleus").max() == sum(apart.instances(k).max() for k in kinds)
    gland = draw(replace(SMALL, architecture="glandular", labels=("gland", "nucleus", "epithelial nucleus")), 5)
    assert not gland.scheme.exclusive
    assert (gland.mask("nucleus") | ~gland.mask("epithelial nucleus")).all()


def test_glands_have_nuclei_at_their_base_around_a_lumen() -> None:
    anatomy = Tissue(size=(500, 500, 1), um_per_px=0.5, architecture="glandular")
    closer = 0
    for seed in range(4):
        labels = draw(anatomy, seed)
        assert isinstance(labels.voxels, SceneVoxels)
        scene = labels.voxels.scene
        lumen, stroma = (ndimage.distance_transform_edt(scene.compartment != c) for c in (1, 3))
        cells = (scene.kind[scene.body] == EPITHELIAL) & (scene.body > 0)
        assert cells[scene.compartment == 2].mean() > 0.1
        closer += int(stroma[cells].mean() < lumen[cells].mean())
    assert closer == 4


def test_fibroblasts_lie_along_the_fibres() -> None:
    labels = draw(Tissue(size=(500, 500, 1), um_per_px=0.5, architecture="stromal"), 2)
    assert isinstance(labels.voxels, SceneVoxels)
    numbers = labels.instances("fibroblast")[:, :, 0].astype(int)
    known, _, stretch, direction = outlines_of(numbers, 0.5)
    fibres = labels.voxels.scene.fibres
    doubled = [np.angle(np.exp(2j * fibres[numbers == n]).mean()) for n in known]
    alike = np.cos(np.array(doubled) - 2 * direction)[(known > 0) & (stretch > 2)]
    assert alike.mean() > 0.8


def test_learns_number_size_and_grid() -> None:
    cases = nuclei_cases(2)
    anatomy = Tissue(um_per_px=0.5, architecture="solid").fit(cases, rng_for(0))
    maps = list(anatomy.draw(12, rng_for(1)))
    assert all(m.unit == "px" and m.scheme.as_dict() == {"nucleus": 7} for m in maps)
    wanted = np.mean([c.labels.array.max() for c in cases])
    assert np.mean([m.array.max() for m in maps]) == pytest.approx(wanted, rel=0.35)
    sizes = np.concatenate([outlines_of(m.array[0, :, :, 0].astype(int), 0.5)[1][1:] for m in maps])
    assert np.median(sizes) == pytest.approx(8.0, rel=0.15)
    uncounted = Tissue(um_per_px=0.5).fit(nuclei_cases(2, counted=False), rng_for(0))
    assert uncounted._learned is not None
    assert len(uncounted._learned.populations[0].kind) == cases[0].labels.array.max()
    assert draw(replace(anatomy, size=(64, 64, 1))).geometry.shape == (64, 64, 1)


def test_kinds_are_read_off_shapes() -> None:
    kinds = kinds_by_shape(np.array([9.0, 5.5, 7.0]), np.array([1.3, 1.1, 3.5]))
    assert list(kinds) == [EPITHELIAL, LYMPHOCYTE, FIBROBLAST]
    mask = np.zeros((12, 12, 1), np.uint8)
    mask[1:4, 1:4], mask[7:10, 7:10] = 1, 1
    assert instances_of(mask).max() == 2
    assert size_of_pixel(LabelMap(mask[None], LabelScheme.of(["a"]), unit="px"), 0.4) == pytest.approx(0.4)


def test_ellipses_are_measured() -> None:
    x, y = np.meshgrid(np.arange(120) - 60, np.arange(120) - 60, indexing="ij")
    u, v = x * np.cos(0.4) + y * np.sin(0.4), -x * np.sin(0.4) + y * np.cos(0.4)
    numbers = ((u / 40) ** 2 + (v / 16) ** 2 <= 1).astype(int)
    known, diameter, stretch, direction = outlines_of(numbers, 0.5)
    assert diameter[known == 1][0] == pytest.approx(0.5 * 2 * np.sqrt(40 * 16), rel=0.01)
    assert stretch[known == 1][0] == pytest.approx(2.5, rel=0.02)
    assert direction[known == 1][0] == pytest.approx(0.4, abs=0.02)


CHANGES: dict[str, Any] = {
    "size": (96, 96, 1),
    "um_per_px": 0.25,
    "architecture": "lymphoid",
    "density_mm2": (1000.0, 1000.0),
    "lymphocytes_mm2": (9000.0, 9000.0),
    "fibroblasts_mm2": (5000.0, 5000.0),
    "mitoses": (0.5, 0.5),
    "diameters_um": {"epithelial nucleus": (14.0, 15.0)},
    "labels": ("nucleus",),
}


def test_every_parameter_is_in_the_table() -> None:
    assert {*CHANGES, "learn"} == set(parameters(Tissue))


@pytest.mark.parametrize("name", CHANGES)
def test_every_parameter_changes_the_maps(name: str) -> None:
    base = replace(SMALL, size=(256, 256, 1), architecture="solid")
    one, other = draw(base, 1), draw(replace(base, **{name: CHANGES[name]}), 1)
    same = one.array.shape == other.array.shape and one.spacing == other.spacing
    assert not (same and np.array_equal(one.array, other.array))


def test_learning_can_be_switched_off() -> None:
    assert replace(SMALL, learn=False).fit(nuclei_cases(), rng_for(0)).parents == frozenset()


@settings(max_examples=15)
@given(
    st.integers(8, 90), st.integers(8, 90), st.floats(0.1, 3.0), st.sampled_from(ARCHITECTURES), st.floats(0, 20_000),
    st.integers(0, 50),
)  # fmt: skip
def test_any_legal_parameters_draw_a_map(
    i: int, j: int, um: float, architecture: str, density: float, seed: int
) -> None:
    anatomy = Tissue((i, j, 1), um, architecture, (density, density), (density, density), (density, density))
    labels = draw(anatomy, seed)
    assert labels.array.shape == (8, i, j, 1)
    assert labels.masks().sum(axis=0).max() <= 1
    assert labels.spacing[0] == pytest.approx(um / 1000)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"size": (64, 64, 4)}, "tissue.size"),
        ({"size": (4, 64, 1)}, "tissue.size along I = 4"),
        ({"um_per_px": 0.0}, "0.05 to 5 µm"),
        ({"um_per_px": 1000.0}, "tissue.um_per_px = 1000"),
        ({"architecture": "glandula"}, "Did you mean 'glandular'"),
        ({"density_mm2": (9000.0, 10.0)}, "tissue.density_mm2"),
        ({"density_mm2": (-1.0, 10.0)}, "tissue.density_mm2"),
        ({"mitoses": (0.0, 2.0)}, "tissue.mitoses"),
        ({"diameters_um": {"nucleus": (3.0, 4.0)}}, "tissue.diameters_um"),
        ({"diameters_um": {"lymphocyte": (0.0, 4.0)}}, "1 to 40 µm"),
        ({"diameters_um": 3}, "table"),
        ({"labels": ()}, "empty"),
        ({"labels": ("nucleous",)}, "Did you mean 'nucleus'"),
    ],
)
def test_impossible_parameters_are_named(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(PlanError, match=says):
        Tissue(**wrong)


def test_labels_that_tissue_does_not_have_are_refused() -> None:
    (case,) = nuclei_cases(1)
    other = replace(case, truth=LabelMap.on(case.image.geometry, case.labels.array, LabelScheme.of(["optic disc"])))
    with pytest.raises(LabelError, match="draws no 'optic disc'"):
        Tissue().fit([other], rng_for(0))
    with pytest.raises(LabelError, match="others with"):
        renamed = LabelMap.on(case.image.geometry, case.labels.array, LabelScheme.of(["cells"]))
        Tissue().fit([case, replace(case, id="b", truth=renamed)], rng_for(0))
    with pytest.raises(DataError, match="no case"):
        Tissue().fit([], rng_for(0))
    assert known_as("Inflammatory_cell") == "lymphocyte"
    assert len(meanings_of(["Nuclei", "gland"], "x")) == 2

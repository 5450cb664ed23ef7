"""The engine that knows the hidden world."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from equipoise.core import Case, Geometry, Image, LabelMap, LabelScheme, rng_for
from equipoise.demo.oracle import DemoWorld
from equipoise.demo.scanner import INTERNAL
from equipoise.errors import EngineError, PlanError
from equipoise.testing.engine_contract import EngineContract

SCHEME = LabelScheme.of(["nodule"])


def slices(n: int = 3) -> tuple[Case, ...]:
    cases = []
    for k in range(n):
        grid = Geometry.from_spacing((48, 56, 1), (0.7, 0.7, 2.5))
        x, y = np.meshgrid(np.arange(48) - 20 - 2 * k, np.arange(56) - 30, indexing="ij")
        mask = (np.hypot(x / 1.3, y) < 7).astype(np.uint8)[None, :, :, None]
        image = Image.on(grid, np.full((1, 48, 56, 1), -800, np.float32))
        facts = {"texture": 5.0, "subtlety": 5.0}
        cases.append(Case(f"c{k}", f"p{k}", image, LabelMap.on(grid, mask, SCHEME), attributes=facts))
    return tuple(cases)


class TestDemoWorld(EngineContract):
    def make(self) -> DemoWorld:
        return DemoWorld()

    def cases(self) -> Sequence[Case]:
        return slices()

    def cases_like(self, dimension: int, channels: int) -> Sequence[Case]:
        return slices()


class TestDemoWorldWithGap(TestDemoWorld):
    def make(self) -> DemoWorld:
        return DemoWorld(gap=1.0)


def test_own_masks_are_deformed_ones_on_the_grid() -> None:
    made = list(DemoWorld().fit(slices(1), rng_for(0)).sample(12, rng_for(1)))
    (parent,) = slices(1)
    areas = [int(c.labels.mask("nodule").sum()) for c in made]
    original = int(parent.labels.mask("nodule").sum())
    assert all(0.4 * original < a < 2.0 * original for a in areas)
    assert len(set(areas)) > 6
    assert not any(np.array_equal(c.labels.array, parent.labels.array) for c in made)
    assert all(c.origin.parents == {"p0"} for c in made)
    assert {c.scanner for c in made} <= {s.name for s in INTERNAL}
    assert all(c.attributes["pixels"] == "simulated" for c in made)


def test_instances_stay_apart() -> None:
    (case,) = slices(1)
    array = case.labels.array.copy()
    array[0, 38:44, 6:14, 0] = 2
    two = replace(case, truth=replace(case.labels, voxels=array))
    numbers = [set(np.unique(c.labels.array)) for c in DemoWorld().fit([two], rng_for(0)).sample(8, rng_for(2))]
    assert {0, 1, 2} in numbers
    assert all(found <= {0, 1, 2} for found in numbers)


def test_gap_makes_nodules_too_bright_and_the_lung_empty() -> None:
    inside, outside = {}, {}
    for gap in (0.0, 1.0):
        made = list(DemoWorld(gap=gap).fit(slices(), rng_for(0)).sample(16, rng_for(3)))
        inside[gap] = np.mean([c.image.array[0][c.labels.mask("nodule")].mean() for c in made])
        outside[gap] = np.mean([(c.image.array[0][~c.labels.mask("nodule")] > -500).mean() for c in made])
    assert inside[1.0] > inside[0.0] + 250
    assert outside[1.0] < 0.5 * outside[0.0]


def test_pixels_of_training_cases_are_not_looked_at() -> None:
    one = list(DemoWorld().fit(slices(), rng_for(0)).sample(1, rng_for(1)))
    blank = [replace(c, image=Image.on(c.image.geometry, np.zeros(c.image.array.shape, np.float32))) for c in slices()]
    two = list(DemoWorld().fit(blank, rng_for(0)).sample(1, rng_for(1)))
    np.testing.assert_array_equal(one[0].image.array, two[0].image.array)


def test_parents_are_all_fitted_patients_even_without_a_nodule() -> None:
    first, second, third = slices()
    empty = replace(third, truth=replace(third.labels, voxels=np.zeros_like(third.labels.array)))
    (made,) = DemoWorld().fit([first, second, empty], rng_for(0)).sample(1, rng_for(1))
    assert made.origin.parents == {"p0", "p1", "p2"}


def _without(case: Case, what: str) -> Case:
    grid = case.image.geometry
    if what == "truth":
        return replace(case, truth=None)
    if what == "nodule":
        return replace(case, truth=replace(case.labels, voxels=np.zeros_like(case.labels.array)))
    if what == "name":
        return replace(case, truth=LabelMap.on(grid, case.labels.array, LabelScheme.of(["organ"])))
    if what == "unit":
        grid = Geometry(grid.shape, grid.affine, unit="px")
        return replace(case, image=Image.on(grid, case.image.array), truth=LabelMap.on(grid, case.labels.array, SCHEME))
    deep = Geometry.from_spacing((48, 56, 2), (0.7, 0.7, 2.5))
    return replace(
        case,
        image=Image.on(deep, np.zeros((1, 48, 56, 2), np.float32)),
        truth=LabelMap.on(deep, np.repeat(case.labels.array, 2, axis=3), SCHEME),
    )


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("truth", "no label map"),
        ("nodule", "shows a nodule"),
        ("name", "lung nodules only"),
        ("unit", "slices in mm"),
        ("slice", "slices in mm"),
    ],
)
def test_what_the_world_cannot_draw_is_refused(what: str, message: str) -> None:
    with pytest.raises(EngineError, match=message):
        DemoWorld().fit([_without(slices(1)[0], what)], rng_for(0))


def test_misuse_is_refused() -> None:
    with pytest.raises(EngineError, match="no masks"):
        DemoWorld().sample(1, rng_for(0))
    fitted = DemoWorld().fit(slices(), rng_for(0))
    with pytest.raises(EngineError, match="0 or more"):
        fitted.sample(-1, rng_for(0))
    with pytest.raises(EngineError, match="empty list"):
        fitted.sample(1, rng_for(0), [])
    for gap in (-0.1, float("nan"), float("inf")):
        with pytest.raises(PlanError, match="gap"):
            DemoWorld(gap=gap)

"""Anatomies `real` and `warped`: the label maps of training patients, and where they came from."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from equipoise.core import Case, Geometry, Image, LabelMap, LabelScheme, rng_for
from equipoise.engines.anatomy.real import Real
from equipoise.engines.anatomy.warped import Warped
from equipoise.engines.parts.placement import Placement
from equipoise.errors import EngineError, PlanError
from equipoise.testing import AnatomyContract
from equipoise.testing.anatomy_contract import lesion_cases


class TestReal(AnatomyContract):
    def make(self):
        return Real()


class TestRealPatches(AnatomyContract):
    keeps_grids = False

    def make(self):
        return Real(patch=24, foreground=1.0)


class TestWarped(AnatomyContract):
    def make(self):
        return Warped()


class TestWarpedVolumes(AnatomyContract):
    def make(self):
        return Warped()

    def cases(self):
        return lesion_cases(dimension=3)


def _maps(anatomy, n=12, dimension=2):
    fitted = anatomy.fit(lesion_cases(dimension=dimension), rng_for(0, "fit"))
    return list(fitted.draw_placed(n, rng_for(1, "draw")))


def test_real_maps_are_those_of_the_patients():
    known = {case.id: case.labels for case in lesion_cases()}
    for labels, placement in _maps(Real()):
        np.testing.assert_array_equal(labels.array, known[placement.source].array)
        labels.geometry.require_same(known[placement.source].geometry)


def test_a_patch_lies_where_its_affine_says():
    known = {case.id: case.labels for case in lesion_cases()}
    for labels, placement in _maps(Real(patch=20, foreground=1.0)):
        assert labels.geometry.shape == (20, 20, 1)
        assert labels.masks().any()
        source = known[placement.source]
        to_source = np.linalg.inv(source.affine) @ labels.affine
        first = np.rint(to_source[:3, 3]).astype(int)
        part = source.array[:, first[0] : first[0] + 20, first[1] : first[1] + 20]
        np.testing.assert_array_equal(labels.array, part)


@pytest.mark.parametrize("dimension", [2, 3])
def test_placement_carries_what_the_labels_do(dimension):
    """Whatever lies under a label in the source lies under it in the drawn map."""
    known = {case.id: case.labels for case in lesion_cases(dimension=dimension)}
    for labels, placement in _maps(Warped(amount=1.0, degrees=30), dimension=dimension):
        np.testing.assert_array_equal(placement.carry(known[placement.source].array), labels.array)


def test_deformation_never_tears_a_structure():
    """Nor is it seen twice: what a turn brings into view beyond the border goes on, instead of being mirrored."""
    for labels, _ in _maps(Warped(amount=1.0, coarseness=0.1, degrees=40, scale=0.2), n=60):
        assert ndimage.label(labels.mask("lesion"), np.ones((3, 3, 3)))[1] <= 1


@pytest.mark.parametrize("dimension", [2, 3])
def test_patches_show_nothing_beyond_the_map_where_there_is_room(dimension):
    """Beyond the border the outermost voxels would go on as streaks."""
    shape = (60, 66, 1 if dimension == 2 else 40)
    grid = Geometry.from_spacing(shape, (1.0, 1.0, 1.0))
    labels = LabelMap.on(grid, np.ones((1, *shape), np.uint8), LabelScheme.of(["lesion"]))
    case = Case("a", "a", Image.on(grid, np.zeros((1, *shape), np.float32)), labels)
    index = np.stack(np.meshgrid(*(np.arange(1, n + 1) for n in shape), indexing="ij"))
    fitted = Warped(amount=0.5, degrees=20.0, scale=0.1, patch=20).fit([case], rng_for(0, "f"))
    at_border = 0
    for _, placement in fitted.draw_placed(30, rng_for(1, "d")):
        for axis in range(dimension):
            seen = placement.carry(index[axis][None])[0]
            straight = np.diff(seen, axis=axis) == 0
            at_border += int((straight & (np.isin(seen, (1, shape[axis])).take(range(1, 20), axis))).sum())
    assert at_border < 0.002 * 30 * dimension * 20**dimension, "the map's outermost voxels go on into the patch"


@pytest.mark.parametrize("dimension", [2, 3])
def test_beyond_the_border_the_outermost_voxels_go_on(dimension):
    shape = (9, 8, 1 if dimension == 2 else 7)
    values = np.random.default_rng(3).integers(0, 9, (1, *shape))
    carried = Placement("a", shape, np.eye(3), np.array([-4.0, 3.0, 0.0])).carry(values)
    i, j = np.clip(np.arange(9) - 4, 0, 8), np.clip(np.arange(8) + 3, 0, 7)
    np.testing.assert_array_equal(carried, values[:, i][:, :, j])


@pytest.mark.parametrize(
    ("change", "effect"),
    [
        ({"amount": 0.0}, "same shape"),
        ({"degrees": 0.0}, "changes"),
        ({"scale": 0.0}, "changes"),
        ({"coarseness": 0.6}, "changes"),
        ({"flip": True}, "changes"),
        ({"patch": 24}, "changes"),
    ],
)
def test_every_option_changes_the_maps(change, effect):
    base = _maps(Warped(), n=8)
    other = _maps(Warped(**change), n=8)
    differ = [
        a.array.shape != b.array.shape or (a.array != b.array).any() for (a, _), (b, _) in zip(base, other, strict=True)
    ]
    assert any(differ), effect


def test_foreground_share_decides_where_patches_lie():
    on, off = (np.mean([m.masks().any() for m, _ in _maps(Real(patch=10, foreground=f), n=60)]) for f in (1.0, 0.0))
    assert on == 1.0
    assert off < 0.8


def test_scale_spreads_the_sizes():
    areas = {
        s: [m.masks().sum() for m, p in _maps(Warped(amount=0, degrees=0, scale=s), n=80) if p.source == "case-0"]
        for s in (0.0, 0.2)
    }
    assert np.std(np.log(areas[0.0])) < 0.02
    # Area goes with the square of the size.
    assert np.std(np.log(areas[0.2])) == pytest.approx(0.4, rel=0.45)


def test_unlabelled_and_ignored_voxels_come_along():
    cases = [replace(c, truth=_with_ignore(c.labels)) for c in lesion_cases()]
    fitted = Warped().fit(cases, rng_for(0, "fit"))
    for labels, _ in fitted.draw_placed(6, rng_for(1, "d")):
        assert labels.ignored().any()
        assert labels.ignored().mean() == pytest.approx(0.5, abs=0.25)


def _with_ignore(labels: LabelMap) -> LabelMap:
    ignore = np.zeros((1, *labels.geometry.shape), bool)
    ignore[:, : labels.geometry.shape[0] // 2] = True
    return replace(labels, ignore=ignore)


@pytest.mark.parametrize("make", [Real, Warped])
def test_nothing_is_drawn_before_the_fit(make):
    with pytest.raises(EngineError, match="has seen none"):
        next(make().draw(1, rng_for(0, "x")))


@pytest.mark.parametrize(
    ("make", "bad"),
    [
        (Real, {"patch": -1}),
        (Real, {"foreground": 1.5}),
        (Warped, {"amount": 2.0}),
        (Warped, {"degrees": float("nan")}),
        (Warped, {"coarseness": 0.0}),
        (Warped, {"scale": -0.1}),
    ],
)
def test_impossible_parameters_are_refused(make, bad):
    (name,) = bad
    with pytest.raises(PlanError, match=f"{name} = .* legal"):
        make(**bad)

"""Sub-labels of tissue: found again, carried with the labels, drawn with their own values and texture."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from equipoise.core import Case, Geometry, Image, LabelMap, LabelScheme, rng_for
from equipoise.engines.anatomy.warped import Warped
from equipoise.engines.parts.texture import Texture, measure_texture
from equipoise.engines.parts.tissue_fitting import grains_of
from equipoise.engines.parts.tissue_model import TissueModel, regions_of
from equipoise.errors import DataError, LabelError

SCHEME = LabelScheme.of(["organ"])


def _case(number: int, channels: int = 1, gain: float = 1.0) -> Case:
    """Return a disc (the label, with a dark core) on tissue of two kinds, left and right; values 10, 40, 70, 100."""
    rng = rng_for(number, "case")
    geometry = Geometry.from_spacing((96, 80, 1), (1.0, 1.0, 1.0))
    x, y, _ = np.indices(geometry.shape)
    far = np.hypot(x - 48 - rng.integers(-6, 7), y - 40 - rng.integers(-6, 7))
    value = np.where(x < 30 + rng.integers(0, 8), 40.0, 70.0)
    value[far <= 20] = 100.0
    value[far <= 8] = 10.0
    noise = 3.0 * ndimage.gaussian_filter(rng.standard_normal((channels, 96, 80)), (0, 1.5, 1.5)) * 5.3
    pixels = gain * (value[None] + noise[..., None])
    truth = LabelMap.on(geometry, (far <= 20)[None].astype(np.uint8), SCHEME)
    return Case(f"c{number}", f"p{number}", Image.on(geometry, pixels.astype(np.float32)), truth)


def _property(case: Case) -> np.ndarray:
    return np.asarray(case.image.array, np.float32)


@pytest.fixture(scope="module")
def model() -> TissueModel:
    return TissueModel.fit([_case(i) for i in range(4)], _property, rng_for(0, "fit"), classes=2, inner=2)


def test_finds_the_tissues_that_nobody_labelled(model):
    assert list(model.region) == [0, 0, 1, 1]
    look = model.looks["c0"]
    np.testing.assert_allclose(sorted(look.mean[:2, 0]), [40, 70], atol=2)
    np.testing.assert_allclose(sorted(look.mean[2:, 0]), [10, 100], atol=4)


def test_a_scene_has_the_values_and_spread_of_the_tissues(model):
    case = _case(9)
    scene = np.mean([model.scene(case.labels, None, rng_for(i, "s")) for i in range(20)], axis=0)
    inside = case.labels.mask("organ")
    assert scene[0][inside].mean() == pytest.approx(case.image.array[0][inside].mean(), abs=4)
    one = model.scene(case.labels, None, rng_for(0, "s"))[0]
    calm = ndimage.binary_erosion(~inside, np.ones((3, 3, 1)), iterations=6)
    calm[25:45] = False
    left = one[:20][calm[:20]]
    assert left.std() == pytest.approx(3.0, rel=0.35)


def test_texture_option_scales_the_grain(model):
    labels = _case(9).labels
    flat, rough = (model.scene(labels, None, rng_for(0, "s"), texture=t) for t in (0.0, 1.0))
    again = model.scene(labels, None, rng_for(0, "s"), texture=2.0)
    np.testing.assert_allclose(again - flat, 2 * (rough - flat), atol=1e-3)


def test_gain_of_one_examination_makes_no_sublabels():
    cases = [_case(i, gain=g) for i, g in enumerate((1.0, 0.5, 2.0, 1.3))]
    model = TissueModel.fit(cases, _property, rng_for(0, "fit"), classes=2, inner=2)
    for case, gain in zip(cases, (1.0, 0.5, 2.0, 1.3), strict=True):
        np.testing.assert_allclose(sorted(model.looks[case.id].mean[:2, 0]), [40 * gain, 70 * gain], rtol=0.08)


def test_sublabels_move_with_a_warped_map_exactly():
    cases = [_case(i) for i in range(4)]
    model = TissueModel.fit(cases, _property, rng_for(0, "fit"), classes=2, inner=2)
    anatomy = Warped(amount=1.0, degrees=25).fit(cases, rng_for(0, "fit"))
    for labels, placement in anatomy.draw_placed(5, rng_for(1, "draw")):
        under = model.sublabels(labels, placement)
        np.testing.assert_array_equal(under, placement.carry(model.maps[placement.source][None])[0])
        np.testing.assert_array_equal(model.region[under], regions_of(labels))


def test_no_sublabel_crosses_the_border_of_its_label(model):
    """Also under a map that no training case has."""
    geometry = Geometry.from_spacing((64, 64, 1), (1.0, 1.0, 1.0))
    mask = np.zeros((1, 64, 64, 1), np.uint8)
    mask[0, 4:20, 40:60] = 1
    labels = LabelMap.on(geometry, mask, SCHEME)
    np.testing.assert_array_equal(model.region[model.sublabels(labels)], regions_of(labels))


def test_the_case_most_alike_lends_its_tissue(model):
    for number in range(4):
        np.testing.assert_array_equal(model.sublabels(_case(number).labels), model.maps[f"c{number}"])


def test_colours_keep_their_correlation():
    def grey(case: Case) -> np.ndarray:
        return np.concatenate([_property(case), 0.5 * _property(case)])

    model = TissueModel.fit([_case(i) for i in range(3)], grey, rng_for(0, "fit"), classes=2, inner=2)
    scene = model.scene(_case(7).labels, None, rng_for(0, "s"))
    assert np.corrcoef(scene[0].ravel(), scene[1].ravel())[0, 1] > 0.99


def test_parents_and_streams(model):
    assert model.parents == {"p0", "p1", "p2", "p3"}
    labels = _case(9).labels
    a, b, c = (model.scene(labels, None, rng_for(seed, "s")) for seed in (0, 0, 1))
    np.testing.assert_array_equal(a, b)
    assert (a != c).any()


def test_refuses_other_labels_and_broken_images(model):
    other = replace(_case(9).labels, scheme=LabelScheme.of(["tumour"]))
    with pytest.raises(LabelError, match="tissue was learned under the labels"):
        model.scene(other, None, rng_for(0, "s"))
    case = _case(0)
    broken = case.image.array.copy()
    broken[0, 3, 3] = np.nan
    with pytest.raises(DataError, match="NaN"):
        TissueModel.fit([replace(case, image=Image.on(case.image.geometry, broken))], _property, rng_for(0, "f"))
    with pytest.raises(DataError, match="no training case"):
        TissueModel.fit([], _property, rng_for(0, "f"))


def test_a_label_of_few_voxels_has_its_own_value():
    """Three voxels a case, in more sub-labels than voxels: too few for one case, not for all together."""
    cases = []
    for number in range(3):
        case = _case(number)
        mask, pixels = np.zeros((1, 96, 80, 1), np.uint8), case.image.array.copy()
        mask[0, 5:8, 5] = 1
        pixels[0, 5:8, 5] = 500 + number
        truth = LabelMap.on(case.image.geometry, mask, SCHEME)
        cases.append(Case(case.id, case.patient, Image.on(case.image.geometry, pixels), truth))
    model = TissueModel.fit(cases, _property, rng_for(0, "fit"), classes=3, inner=6)
    scene = model.scene(cases[0].labels, None, rng_for(0, "s"), texture=0)
    assert scene[0][cases[0].labels.mask("organ")].mean() > 250  # beside 40: the border is soft over three voxels
    assert max(look.mean[model.region == 1].min() for look in model.looks.values()) > 450


@pytest.mark.parametrize("shape", [(128, 120, 1), (40, 44, 36)])
def test_texture_is_found_again(shape):
    """A field that is drawn from a measured texture has its grain and variance."""
    rng = rng_for(0, "texture")
    sigma = tuple(1.5 if n > 1 else 0 for n in shape)
    fields = [ndimage.gaussian_filter(rng.standard_normal(shape), sigma) for _ in range(6)]
    fields = [(f / f.std())[None].astype(np.float32) for f in fields]
    texture = measure_texture(fields, [np.ones(shape, bool)] * 6)
    drawn = texture.draw(shape, 6, rng)
    assert drawn.var() == pytest.approx(1.0, rel=0.1)
    real, made = (np.mean([_neighbour(f) for f in some]) for some in ([f[0] for f in fields], drawn))
    assert made == pytest.approx(real, abs=0.03)


def _neighbour(field: np.ndarray) -> float:
    return float(np.corrcoef(field[:-2].ravel(), field[2:].ravel())[0, 1])


def test_white_texture_is_white():
    drawn = Texture(np.ones(32)).draw((64, 64, 1), 4, rng_for(0, "w"))
    assert abs(np.mean([_neighbour(f) for f in drawn])) < 0.02
    assert drawn.std() == pytest.approx(1.0, rel=0.02)


def _ragged(number: int) -> Case:
    """Return a clear pool in tissue: calm within, rough along its border, as glass at torn tissue is."""
    rng = rng_for(number, "ragged")
    geometry = Geometry.from_spacing((96, 80, 1), (1.0, 1.0, 1.0))
    x, y, _ = np.indices(geometry.shape)
    depth = 26 - np.hypot(x - 48, y - 40)
    rough = np.where(np.abs(depth) < 3, 12.0, 0.5)
    value = np.where(depth > 0, 0.0, 100.0) + rough * rng.standard_normal(geometry.shape)
    truth = LabelMap.on(geometry, np.zeros((1, *geometry.shape), np.uint8), SCHEME)
    return Case(f"r{number}", f"p{number}", Image.on(geometry, value[None].astype(np.float32)), truth)


def test_the_middle_of_a_tissue_is_as_calm_as_it_was():
    cases = [_ragged(i) for i in range(3)]
    x, y, _ = np.indices(cases[0].labels.geometry.shape)
    depth = 26 - np.hypot(x - 48, y - 40)
    found = {}
    for depths in ((), (1, 4)):
        model = TissueModel.fit(cases, _property, rng_for(0, "fit"), classes=2, inner=1, depths=depths)
        scene = model.scene(cases[0].labels, None, rng_for(2, "s"))[0]
        found[depths] = scene[depth > 9].std(), scene[np.abs(depth) < 2].std()
    assert found[()][0] > 1.5, "one grain for all of a tissue makes its middle rough"
    assert found[(1, 4)][0] == pytest.approx(0.5, rel=0.35)
    assert found[(1, 4)][1] > 20, "its border stays one"
    assert len(model.looks["r0"].spread) == 3 * len(model.region)
    inner = grains_of(np.ones((9, 9, 1), np.uint8), (1, 4))
    np.testing.assert_array_equal(inner, 3 * 1 + 2)


def test_depths_count_from_the_nearest_other_sub_label():
    under = np.zeros((12, 5, 1), np.uint8)
    under[6:] = 1
    np.testing.assert_array_equal(grains_of(under, (1, 3))[:, 2, 0], [2, 2, 2, 1, 1, 0, 3, 4, 4, 5, 5, 5])

from __future__ import annotations

import pickle
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from equipoise.core import LabelMap, LabelScheme, rng_for
from equipoise.core.registry import parameters
from equipoise.engines.anatomy.torso import Torso
from equipoise.engines.anatomy.torso.organs import EJECTION, contraction
from equipoise.engines.anatomy.torso.structures import CHANNEL, LOBES, SCHEME
from equipoise.engines.anatomy.torso.trees import MURRAY, grow_tree
from equipoise.engines.parts.value_map import MOST_INDICES, ValueMap, value_map
from equipoise.errors import PlanError
from equipoise.testing.anatomy_contract import AnatomyContract

COARSE = Torso(size=(44, 32, 44), spacing=(10.0, 10.0, 10.0), vessel_ends=12)
ONE = Torso(
    size=(110, 80, 150), spacing=(4.0, 4.0, 4.0), level_mm=(-60.0, -60.0), sex="male", age=(45.0, 45.0),
    bmi=(24.0, 24.0),     stature_cm=(176.0, 176.0), breath=(1.0, 1.0), phase=(0.0, 0.0), vessel_ends=100,
)  # fmt: skip
"""A man of 45, long enough to hold the kidneys; still varied in build."""


def draw(anatomy: Torso, seed: int = 0) -> LabelMap:
    return next(anatomy.draw(1, rng_for(seed, "torso")))


def counts(labels: LabelMap) -> dict[str, float]:
    """Volume of every structure in ml."""
    voxels = labels.voxels
    assert isinstance(voxels, ValueMap)
    found = np.bincount(voxels.channel[voxels.values[voxels.values > 0]], minlength=len(SCHEME.labels))
    return {n: float(v) * float(np.prod(labels.spacing)) / 1000 for n, v in zip(SCHEME.names, found, strict=True)}


def mask(labels: LabelMap, *names: str) -> np.ndarray:
    voxels = labels.voxels
    assert isinstance(voxels, ValueMap)
    found: np.ndarray = np.any([voxels.instances(SCHEME.channel(n)) > 0 for n in names], axis=0)
    return found


@pytest.fixture(scope="module")
def men() -> list[dict[str, float]]:
    return [counts(m) for m in ONE.draw(6, rng_for(1, "men"))]


class TestContract(AnatomyContract):
    learns = False

    def make(self) -> Torso:
        return COARSE


@pytest.mark.parametrize(
    ("structures", "low", "high"),
    [
        # ml, ICRP Publication 89 and, for the aerated lungs, total lung capacity of men of 176 cm (ECCS: 6.9 ± 0.7 l).
        (LOBES, 4800, 8000),
        (("liver", "liver vessel"), 1100, 2300),
        (("spleen",), 70, 300),
        (("right kidney",), 90, 230),
        (("left kidney",), 90, 230),
        (("pancreas",), 50, 180),
        (("gallbladder",), 8, 60),
        # MRI at the end of diastole (Maceira 2006: 142 ± 21, range 102 to 183); papillary muscle is wall here.
        (("left ventricle",), 90, 185),
        (("right ventricle",), 60, 210),
        (("left atrium",), 25, 110),
        (("right atrium",), 35, 130),
    ],
)
def test_organs_have_the_size_of_reference_man(
    men: list[dict[str, float]], structures: tuple[str, ...], low: float, high: float
) -> None:
    mean = np.mean([sum(v[s] for s in structures) for v in men])
    assert low < mean < high, f"{structures}: {mean:.0f} ml"


def test_every_structure_and_object_is_drawn() -> None:
    labels = draw(replace(ONE, sex="female", size=(110, 80, 240), spacing=(4.0, 4.0, 2.5)), 3)
    voxels = labels.voxels
    assert isinstance(voxels, ValueMap)
    seen = np.unique(voxels.values)
    missing = {SCHEME.names[CHANNEL[i]] for i in range(1, len(CHANNEL)) if i not in seen}
    assert missing <= {"gas"}, missing  # the bowel may hold none
    assert labels.scheme is SCHEME
    assert len(CHANNEL) - 1 <= MOST_INDICES
    assert all(label.code is None or label.code.isdigit() for label in SCHEME.labels)
    ribs = voxels.instances(SCHEME.channel("rib"))
    assert set(np.unique(ribs)) == set(range(25))
    assert counts(draw(ONE))["breast"] == 0


def test_sides_and_neighbours() -> None:
    labels = draw(ONE, 2)

    def middle(name: str) -> np.ndarray:
        at = ndimage.center_of_mass(mask(labels, name))
        world: np.ndarray = labels.affine @ [*at, 1]
        return world[:3]

    # RAS+: x to the right, y to the front, z up.
    assert middle("liver")[0] > 25
    assert middle("spleen")[0] < -40
    assert middle("right upper lobe")[0] > 40
    assert middle("left lower lobe")[0] < -40
    assert middle("left ventricle")[0] < middle("right ventricle")[0] < middle("right atrium")[0]
    assert middle("right ventricle")[1] > middle("left ventricle")[1] > middle("left atrium")[1]
    assert middle("sternum")[1] > middle("aorta")[1] > middle("vertebra")[1]
    assert middle("right upper lobe")[2] > middle("right middle lobe")[2] > middle("right kidney")[2]
    # Vessels and airways lie in the lungs: without them a lobe could fall apart.
    lungs = mask(labels, *LOBES, "lung vessel")
    _, pieces = ndimage.label(lungs)
    sizes = np.sort(np.bincount(ndimage.label(lungs)[0].ravel())[1:])[::-1]
    assert pieces >= 2
    assert sizes[:2].sum() > 0.99 * lungs.sum(), "lungs are two, without islands"
    # No lung touches the air around the body.
    assert not (ndimage.binary_dilation(labels.voxels.values == 0) & lungs).any()  # type: ignore[attr-defined]


def test_muscles_of_the_wall_are_told_apart_by_fat() -> None:
    """From the pleura outwards at the side, and across the back, fat and muscle take turns."""
    cut = draw(replace(ONE, size=(440, 320, 1), spacing=(1.0, 1.0, 3.0), level_mm=(40.0, 40.0), bmi=(26.0, 26.0)), 4)
    names = np.array(["air", *SCHEME.names])
    voxels = cut.voxels
    assert isinstance(voxels, ValueMap)
    seen = names[np.where(voxels.values > 0, voxels.channel[voxels.values] + 1, 0)][..., 0]

    def layers(line: np.ndarray, of: str) -> int:
        inside = (line == of).astype(int)
        return int((np.diff(inside) == 1).sum())

    # Lines from the spine's middle to the back, beside the spinous process: at least two muscles behind each other.
    middle = int(np.argwhere(seen == "vertebra")[:, 0].mean())
    backs = [layers(seen[middle + side * x, 160:], "muscle") for side in (-1, 1) for x in range(45, 60)]
    assert np.mean(backs) >= 2
    # In front, lateral to the breast bone: the pectoral muscle lies before the intercostal ones, with fat between.
    fronts = [layers(seen[middle + side * x, :160], "muscle") for side in (-1, 1) for x in range(50, 80)]
    assert np.mean(fronts) >= 1.7


def test_bone_encloses_the_spinal_cord_and_lungs_do_not_meet_behind_it() -> None:
    labels = draw(replace(ONE, spacing=(2.0, 2.0, 4.0), size=(200, 150, 60), level_mm=(20.0, 20.0)), 6)
    cord, bone = mask(labels, "spinal cord"), mask(labels, "vertebra", "disc")
    lungs = mask(labels, *LOBES)
    assert (cord.sum(axis=(0, 1)) * 4 / 100 > 1.0).all(), "an area of 1 cm² and more at every height"
    enclosed = 0
    for k in range(cord.shape[2]):
        i, j = (int(x) for x in np.argwhere(cord[..., k]).mean(axis=0))
        enclosed += bone[i, :j, k].any() and bone[i - 25 : i, j - 4 : j + 8, k].any() and bone[i, j:, k].any()
        assert not lungs[i - 8 : i + 9, j:, k].any()
    assert enclosed > 0.7 * cord.shape[2]


def test_the_heart_is_less_than_half_as_wide_as_the_chest() -> None:
    for seed in range(4):
        labels = draw(ONE, seed)
        heart = np.flatnonzero(mask(labels, "myocardium").any(axis=(1, 2)))
        lungs = np.flatnonzero(mask(labels, *LOBES).any(axis=(1, 2)))
        assert 0.36 < np.ptp(heart) / np.ptp(lungs) < 0.52


def test_a_beat_ejects_what_is_stated() -> None:
    full, empty = (counts(draw(replace(ONE, phase=(p, p)), 5)) for p in (0.0, 0.4))
    assert 1 - empty["left ventricle"] / full["left ventricle"] == pytest.approx(EJECTION, abs=0.05)
    assert empty["left atrium"] > full["left atrium"]
    assert contraction(0.0) == contraction(1.0) == 0
    assert contraction(0.4) == 1


def test_a_breath_moves_the_diaphragm() -> None:
    full, empty = (draw(replace(ONE, breath=(b, b)), 6) for b in (1.0, 0.0))
    air = [sum(counts(m)[n] for n in LOBES) for m in (full, empty)]
    assert air[1] < 0.75 * air[0]
    dome = [np.argwhere(mask(m, "liver"))[:, 2].max() for m in (full, empty)]
    assert 30 < 4 * (dome[1] - dome[0]) < 65


def test_habitus_age_and_sex() -> None:
    thin, heavy = (counts(draw(replace(ONE, bmi=(b, b)), 7)) for b in (20.0, 34.0))
    assert heavy["fat"] > 2 * thin["fat"]
    young, old = (counts(draw(replace(ONE, age=(a, a)), 7)) for a in (25.0, 80.0))
    assert old["aorta"] > 1.25 * young["aorta"]
    man, woman = (counts(draw(replace(ONE, sex=s), 8)) for s in ("male", "female"))
    assert sum(woman[n] for n in LOBES) < sum(man[n] for n in LOBES)


def test_volumes_do_not_depend_on_the_grid() -> None:
    coarse, fine = counts(draw(ONE, 9)), counts(draw(replace(ONE, size=(147, 107, 200), spacing=(3.0, 3.0, 3.0)), 9))
    for name in ("liver", "left upper lobe", "left ventricle", "aorta", "spleen", "muscle"):
        assert fine[name] == pytest.approx(coarse[name], rel=0.05), name


def test_a_slice_is_a_cut_of_the_volume() -> None:
    volume = draw(replace(ONE, size=(110, 80, 51), level_mm=(-40.0, -40.0)), 10)
    cut = draw(replace(ONE, size=(110, 80, 1), level_mm=(-40.0, -40.0)), 10)
    assert cut.geometry.ndim == 2
    np.testing.assert_array_equal(volume.array[..., 25:26], cut.array)
    assert mask(cut, "left ventricle").any()
    np.testing.assert_allclose(cut.affine[:3, 3], volume.affine[:3, 3] + [0, 0, 25 * 4.0])


def test_raised_arms_leave_the_chest_free() -> None:
    cut = replace(ONE, size=(130, 80, 1), level_mm=(-40.0, -40.0))
    assert mask(draw(cut, 10), "humerus").any()
    assert not mask(draw(replace(cut, arms="raised"), 10), "humerus").any()


CHANGES: dict[str, Any] = {
    "size": (40, 32, 44),
    "spacing": (9.0, 10.0, 10.0),
    "level_mm": (40.0, 40.0),
    "sex": "female",
    "age": (90.0, 95.0),
    "bmi": (40.0, 42.0),
    "stature_cm": (150.0, 151.0),
    "breath": (0.0, 0.1),
    "phase": (0.4, 0.4),
    "vessel_ends": 0,
    "arms": "raised",
}


def test_every_parameter_is_in_the_table() -> None:
    assert set(CHANGES) == set(parameters(Torso))


@pytest.mark.parametrize("name", CHANGES)
def test_every_parameter_changes_the_maps(name: str) -> None:
    base = replace(COARSE, sex="male", phase=(0.0, 0.0))
    one, other = draw(base, 1), draw(replace(base, **{name: CHANGES[name]}), 1)
    same = one.geometry.shape == other.geometry.shape and one.spacing == other.spacing
    assert not (same and np.array_equal(one.array, other.array))


@settings(max_examples=12)
@given(
    st.tuples(*[st.integers(1, 40)] * 3), st.floats(2, 30), st.floats(18, 100), st.floats(15, 50), st.floats(0, 1),
    st.sampled_from(["any", "female", "male"]), st.floats(-160, 160), st.integers(0, 50),
)  # fmt: skip
def test_any_legal_parameters_draw_a_map(
    size: tuple[int, int, int], spacing: float, age: float, bmi: float, breath: float, sex: Any, level: float, ends: int
) -> None:
    anatomy = Torso(
        size, (spacing,) * 3, (level, level), sex, (age, age), (bmi, bmi), (140.0, 210.0), (breath, breath),
        (0.0, 1.0), ends,
    )  # fmt: skip
    labels = draw(anatomy, 11)
    assert labels.array.shape == (len(SCHEME.labels), *size)
    assert labels.masks().sum(axis=0).max() <= 1


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"size": (0, 4, 4)}, "torso.size"),
        ({"size": (4, 4)}, "torso.size"),
        ({"spacing": (0.0, 1.0, 1.0)}, r"torso.spacing\[0\] = 0"),
        ({"spacing": (1.0, 1.0, 1000.0)}, "0.3 to 50 mm"),
        ({"sex": "men"}, "Did you mean 'female'|Did you mean 'male'|Known"),
        ({"age": (10.0, 20.0)}, "torso.age"),
        ({"bmi": (30.0, 20.0)}, "torso.bmi"),
        ({"breath": (0.0, 1.5)}, "torso.breath"),
        ({"phase": (float("nan"), 1.0)}, "torso.phase"),
        ({"stature_cm": (100.0, 180.0)}, "torso.stature_cm"),
        ({"level_mm": (-900.0, 0.0)}, "torso.level_mm"),
        ({"vessel_ends": -1}, "torso.vessel_ends"),
        ({"arms": "rased"}, "Did you mean 'raised'"),
    ],
)
def test_impossible_parameters_are_named(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(PlanError, match=says):
        Torso(**wrong)


def test_branches_keep_murrays_law_and_reach_every_point() -> None:
    rng = rng_for(0, "tree")
    points = rng.uniform(-40, 40, (120, 3))
    pieces = grow_tree(np.array([0.0, 0, -60]), points, 6.0, rng)
    assert len(pieces) == 2 * 120 - 1
    tips = {tuple(np.round(p, 6)) for p in pieces[:, 3:6]}
    assert all(tuple(np.round(p, 6)) in tips for p in points)
    for piece in pieces:
        daughters = pieces[np.all(np.abs(pieces[:, :3] - piece[3:6]) < 1e-9, axis=1)]
        if len(daughters):
            assert (daughters[:, 6] ** MURRAY).sum() == pytest.approx(piece[6] ** MURRAY, rel=1e-6)
    assert grow_tree(np.zeros(3), np.zeros((0, 3)), 1.0, rng).shape == (0, 8)


def test_value_map_is_the_label_map() -> None:
    rng = rng_for(1, "values")
    array = np.zeros((3, 9, 8, 7), np.uint8)
    where = rng.integers(0, 4, (9, 8, 7))
    for c in range(3):
        array[c][where == c + 1] = rng.integers(1, 4, (where == c + 1).sum())
    labels = LabelMap(array, LabelScheme.of(["a", "b", "c"]))
    objects, overlap = value_map(labels)
    assert not overlap
    np.testing.assert_array_equal(np.asarray(objects), array)
    again, _ = value_map(LabelMap(pickle.loads(pickle.dumps(objects)), labels.scheme))
    np.testing.assert_array_equal(again.values, objects.values)
    array[0, 0, 0, 0], array[2, 0, 0, 0] = 1, 2
    top, overlap = value_map(LabelMap(array, LabelScheme.of(["a", "b", "c"], exclusive=False)))
    assert overlap
    assert np.asarray(top)[0, 0, 0, 0] == 0
    assert np.asarray(top)[2, 0, 0, 0] == 2
    many = np.arange(1, 1001).reshape(1, 10, 10, 10)
    with pytest.raises(ValueError, match="254"):
        value_map(LabelMap(many, LabelScheme.of(["a"])))

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from scipy import ndimage

from equipoise.core import Geometry, LabelMap, rng_for
from equipoise.engines.anatomy.head import Head
from equipoise.engines.anatomy.head.atlas import LANDMARKS_MM, SCHEME, SULCI, VOLUMES_ML
from equipoise.engines.anatomy.head.cortex import FOLD_MM, FOLD_NODES, random_wave
from equipoise.engines.anatomy.head.hemisphere import hemisphere
from equipoise.errors import PlanError
from equipoise.testing.anatomy_contract import AnatomyContract

SMALL = Head(size=(48, 52, 48), spacing=(4.4, 4.4, 4.4))
MEDIUM = Head(size=(100, 116, 100), spacing=(2.0, 2.0, 2.0), jitter_mm=0.0)


class TestHead(AnatomyContract):
    learns = False

    def make(self) -> Head:
        return SMALL


def one(anatomy: Head, seed: int = 0) -> LabelMap:
    return next(anatomy.draw(1, rng_for(seed, "head")))


def volumes(labels: LabelMap) -> dict[str, float]:
    """mL by structure, with both parts of the hippocampus and the cerebellum together."""
    ml = float(np.prod(labels.spacing)) / 1000
    found = {name: ml * float(labels.mask(name).sum()) for name in labels.scheme.names}
    found["hippocampus"] = found["hippocampus anterior"] + found["hippocampus posterior"]
    found["cerebellum"] = found["cerebellar cortex"] + found["cerebellar white matter"]
    return found


@pytest.mark.parametrize(("age", "atrophy"), [(25.0, 0.0), (55.0, 0.1), (75.0, 0.3), (88.0, 0.6)])
def test_volumes_are_those_of_people(age: float, atrophy: float) -> None:
    for seed in range(2):
        labels = one(replace(MEDIUM, age=(age, age), atrophy=(atrophy, atrophy)), seed)
        found = volumes(labels)
        for name, (low, high) in VOLUMES_ML.items():
            assert low <= found[name] <= high, f"{name}: {found[name]:.1f} mL at {age:g} years"


def test_volume_within_the_skull_is_as_stated() -> None:
    brain = ("cerebrospinal fluid", "grey matter", "white matter", "cerebellar cortex", "cerebellar white matter",
             "brainstem", "ventricle", "thalamus", "caudate", "putamen", "pallidum", "hippocampus anterior",
             "hippocampus posterior", "amygdala")  # fmt: skip
    for wanted in (1250.0, 1450.0, 1650.0):
        coarse = replace(MEDIUM, size=(68, 78, 68), spacing=(3.0, 3.0, 3.0))
        engine = replace(coarse, intracranial_ml=(wanted, wanted), variation_mm=0.0, tilt_degrees=0.0)
        # The head's own proportions vary by 2.5 % per axis: the mean over some heads is what is stated.
        heads = [volumes(one(engine, seed)) for seed in range(4)]
        totals = [sum(head[name] for name in brain) for head in heads]
        assert np.mean(totals) == pytest.approx(wanted, rel=0.06)


def test_age_and_atrophy_do_what_is_known() -> None:
    young, old, ill = (
        volumes(one(replace(MEDIUM, age=(a, a), atrophy=(b, b), intracranial_ml=(1450.0, 1450.0)), 3))
        for a, b in ((25.0, 0.0), (85.0, 0.0), (85.0, 0.8))
    )
    for name in ("ventricle", "cerebrospinal fluid"):
        assert young[name] < old[name] < ill[name]
    for name in ("grey matter", "hippocampus", "thalamus"):
        assert young[name] > old[name] > ill[name]
    assert old["ventricle"] > 1.4 * young["ventricle"]


def test_layers_lie_in_order_from_the_vertex_inwards() -> None:
    labels = one(replace(MEDIUM, tilt_degrees=0.0, centre="brain"))
    values = labels.values()
    i = values.shape[0] // 2 + 8
    inverse = np.linalg.inv(labels.affine)
    j = int((inverse @ [0, -20, 0, 1])[1])
    column = values[i, j, ::-1]
    first = [
        int(np.argmax(column == labels.scheme.as_dict()[n]))
        for n in ("scalp", "skull", "cerebrospinal fluid", "grey matter", "white matter")
    ]
    assert first == sorted(first)
    assert min(first) > 0


def test_the_brain_is_whole_and_the_sides_are_alike() -> None:
    labels = one(replace(MEDIUM, tilt_degrees=0.0, variation_mm=0.0))
    white = labels.mask("white matter")
    parts, count = ndimage.label(white)
    sizes = np.bincount(parts.ravel())[1:]
    assert sizes.max() > 0.9 * white.sum(), f"white matter lies in {count} pieces"
    for name in ("thalamus", "caudate", "putamen", "pallidum", "hippocampus anterior"):
        mask = labels.mask(name)
        middle = round(float((np.linalg.inv(labels.affine) @ [0, 0, 0, 1])[0]))
        left, right = mask[:middle].sum(), mask[middle + 1 :].sum()
        assert left == pytest.approx(right, rel=0.15), name
        _, pieces = ndimage.label(mask)
        assert pieces == 2, f"{name} lies in {pieces} pieces"


def test_anterior_and_posterior_hippocampus_are_divided_across() -> None:
    labels = one(replace(MEDIUM, tilt_degrees=0.0))
    places = {n: np.argwhere(labels.mask(f"hippocampus {n}")).mean(axis=0) for n in ("anterior", "posterior")}
    assert places["anterior"][1] > places["posterior"][1] + 3
    assert places["anterior"][2] < places["posterior"][2]


BRAIN = ("grey matter", "white matter", "thalamus", "caudate", "putamen", "pallidum", "ventricle",
         "hippocampus anterior", "hippocampus posterior", "amygdala")  # fmt: skip


def coronal(y: float, age: float, atrophy: float, seed: int) -> list[tuple[np.ndarray, np.ndarray, LabelMap]]:
    """Both hemispheres in a coronal slice of 0.5 mm: the brain, what lies within its convex-like contour, labels."""
    head = Head(size=(300, 3, 340), spacing=(0.5, 0.5, 0.5), jitter_mm=0.0, tilt_degrees=0.0, variation_mm=0.0)
    head = replace(head, age=(age, age), atrophy=(atrophy, atrophy), intracranial_ml=(1450.0, 1450.0))
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(LANDMARKS_MM, "brain", (0.0, y, 10.0))
        labels = one(replace(head, centre="brain"), seed)
    values = labels.values()[:, 1]
    brain = np.isin(values, [labels.scheme.as_dict()[n] for n in BRAIN])
    found = []
    for half in (brain[:150], brain[150:]):
        mask = np.pad(half, 40)
        near = ndimage.distance_transform_edt(~mask) <= 24  # closed over 12 mm: across every sulcus
        hull = (ndimage.distance_transform_edt(near) > 24) | mask
        found.append((mask, ndimage.binary_fill_holes(hull), labels))
    return found


def outline(mask: np.ndarray) -> float:
    """Length of a contour in pixels, after Cauchy and Crofton: borders along both axes times pi / 4."""
    return float(np.pi / 4 * sum(np.count_nonzero(np.diff(mask, axis=a)) for a in (0, 1)))


def test_gyrification_and_depth_of_sulci_are_those_of_people() -> None:
    """Zilles 1988: 2.55 on coronal slices, most of people between 2.3 and 2.8. Ono 1990: sulci of 10 to 25 mm."""
    ratios, depths = [], []
    for seed in range(2):
        for y in (40.0, 10.0, -15.0, -40.0, -65.0):
            for brain, hull, _ in coronal(y, 35.0, 0.0, seed):
                ratios.append(outline(brain) / outline(hull))
                edge = brain & ~ndimage.binary_erosion(brain)
                depths.append(0.5 * ndimage.distance_transform_edt(hull)[edge])
    assert 2.25 < np.mean(ratios) < 2.95
    assert np.std(ratios) > 0.05
    deep = np.concatenate(depths)
    assert 15 < np.percentile(deep, 98) < 28
    assert 2 < np.median(deep) < 9
    assert np.std(deep) > 3.5, "sulci of one depth are a star"


def test_sulci_widen_with_age_and_atrophy() -> None:
    """CSF within the contour of the hemisphere, per length of the brain's surface: half the width of a sulcus."""
    widths = []
    for age, atrophy in ((25.0, 0.0), (80.0, 0.0), (80.0, 0.7)):
        halves = [half for y in (10.0, -40.0) for half in coronal(y, age, atrophy, 1)]
        widths.append(sum((h & ~b).sum() for b, h, _ in halves) / sum(outline(b) for b, _, _ in halves))
    assert widths[0] * 1.2 < widths[1]
    assert widths[1] * 1.15 < widths[2]


def test_the_ribbon_is_as_thick_as_cortex() -> None:
    """Grey matter's distance from the white surface, at its other border: 2.5 mm on the mean, 1.5 to 4.5 nearly all."""
    block = Head(size=(70, 120, 90), spacing=(0.7, 0.7, 0.7), jitter_mm=0.0, tilt_degrees=0.0, age=(35.0, 35.0))
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(LANDMARKS_MM, "brain", (42.0, -30.0, 45.0))  # frontal and parietal lobe of the right side
        labels = one(replace(block, centre="brain", atrophy=(0.0, 0.0)))
    grey, white, fluid = (labels.mask(n) for n in ("grey matter", "white matter", "cerebrospinal fluid"))
    pial = grey & ndimage.binary_dilation(fluid)
    pial[[0, -1]] = pial[:, [0, -1]] = pial[..., [0, -1]] = False
    across = 0.7 * ndimage.distance_transform_edt(~white)[pial]
    assert 2.0 < np.median(across) < 3.3
    assert np.mean((across > 1.4) & (across < 4.6)) > 0.75


def test_every_primary_sulcus_is_laid_out_in_its_depth() -> None:
    lattice = hemisphere()
    hull, along, reach = lattice[..., 0], lattice[..., 4], lattice[..., 5]
    assert np.isfinite(lattice).all()
    courses = (np.abs(hull + 3) < 2) & (np.abs(along) < 1.5) & (reach > 5)
    assert courses.sum() > 300
    assert reach.max() == pytest.approx(max(depth for depth, _ in SULCI.values()), rel=0.15)
    # Not from one sulcus to the next by a jump that would look like a third: where the sign changes so, none reaches.
    jump = (np.abs(np.diff(along, axis=1)) > 6) & (np.minimum(reach[:, 1:], reach[:, :-1]) > 4) & (hull[:, 1:] < 0)
    assert jump.mean() < 1e-3


def test_brain_lies_in_fluid() -> None:
    labels = one(Head(size=(120, 140, 120), spacing=(1.5, 1.5, 1.5), age=(40.0, 40.0), centre="brain"), 4)
    values, code = labels.values(), labels.scheme.as_dict()
    brain = np.isin(values, [code["grey matter"], code["white matter"]])
    bone = values == code["skull"]
    touching = ndimage.binary_dilation(bone) & brain
    assert touching.sum() < 0.02 * (brain & ~ndimage.binary_erosion(brain)).sum()


def test_cerebellum_has_leaves() -> None:
    head = Head(size=(1, 140, 120), spacing=(0.5, 0.5, 0.5), centre="cerebellum", jitter_mm=0.0, tilt_degrees=0.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(LANDMARKS_MM, "cerebellum", (8.0, -60.0, -34.0))
        labels = one(replace(head, variation_mm=0.0))
    cortex, white = (labels.mask(n)[0] for n in ("cerebellar cortex", "cerebellar white matter"))
    assert outline(white) > 1.8 * 2 * np.sqrt(np.pi * white.sum()), "a tree, no disc"
    assert 0.8 < cortex.sum() / white.sum() < 6


def test_waves_have_the_length_that_is_asked_for() -> None:
    for length in (18.0, 30.0, 60.0):
        field = random_wave(length, FOLD_NODES, FOLD_MM, rng_for(0, length))
        assert field.shape == (FOLD_NODES,) * 3
        assert field.std() == pytest.approx(1, rel=1e-3)
        # A random wave has gradients of variance (2 pi / wave)^2 / 3 along each axis; a difference over two nodes sees
        # sinc of it, here within 10 % below 30 mm.
        slope = (np.roll(field, -1, 0) - np.roll(field, 1, 0)) / (2 * FOLD_MM)
        assert slope.std() == pytest.approx(2 * np.pi / length / np.sqrt(3), rel=0.15)


def test_gyri_are_as_wide_as_asked_for() -> None:
    """Fewer and wider gyri: less border between white and grey matter on one slice."""
    borders = []
    for wave in (15.0, 38.0):
        labels = one(Head(size=(200, 240, 1), spacing=(0.8, 0.8, 1.0), centre="brain", fold_mm=(wave, wave)))
        borders.append(outline(labels.mask("white matter")[..., 0]))
    assert borders[0] > 1.1 * borders[1]


CHANGES: dict[str, dict[str, Any]] = {
    "size": {"size": (40, 52, 48)},
    "spacing": {"spacing": (4.0, 4.0, 4.0)},
    "centre": {"centre": "hippocampus"},
    "jitter_mm": {"jitter_mm": 20.0},
    "age": {"age": (20.0, 20.0)},
    "atrophy": {"atrophy": (1.0, 1.0)},
    "intracranial_ml": {"intracranial_ml": (1900.0, 1900.0)},
    "fold_mm": {"fold_mm": (38.0, 38.0)},
    "skull_mm": {"skull_mm": (11.0, 11.0)},
    "scalp_mm": {"scalp_mm": (14.0, 14.0)},
    "tilt_degrees": {"tilt_degrees": 25.0},
    "variation_mm": {"variation_mm": 5.0},
}


def test_every_option_is_in_the_table() -> None:
    assert set(CHANGES) == {f.name for f in fields(Head)}


@pytest.mark.parametrize("option", CHANGES)
def test_every_option_has_a_measurable_effect(option: str) -> None:
    a, b = one(SMALL), one(replace(SMALL, **CHANGES[option]))
    differs = a.array.shape != b.array.shape or (a.values() != b.values()).mean() > 0.005
    assert differs or not np.allclose(a.affine, b.affine, atol=1.0)


@pytest.mark.parametrize("centre", LANDMARKS_MM)
def test_a_grid_is_centred_on_what_it_names(centre: str) -> None:
    labels = one(Head(size=(40, 48, 40), spacing=(1.0, 1.0, 1.0), centre=centre, jitter_mm=0.0, tilt_degrees=0.0))
    middle = labels.affine @ [19.5, 23.5, 19.5, 1]
    np.testing.assert_allclose(middle[:3], LANDMARKS_MM[centre], atol=1e-6)
    if centre in ("ventricle", "hippocampus", "left hippocampus"):
        name = "ventricle" if centre == "ventricle" else "hippocampus anterior"
        assert labels.mask(name).sum() > 300
    if centre == "cerebellum":
        assert labels.mask("cerebellar cortex").mean() > 0.2


def test_a_slice_is_the_slice_of_the_volume() -> None:
    flat = Head(size=(100, 116, 1), spacing=(2.0, 2.0, 2.0), jitter_mm=0.0, variation_mm=0.0)
    volume = replace(flat, size=(100, 116, 3))
    a, b = one(flat), one(volume)
    np.testing.assert_array_equal(a.values()[..., 0], b.values()[..., 1])
    assert a.geometry.ndim == 2


def test_grid_is_right_anterior_superior() -> None:
    labels = one(replace(MEDIUM, tilt_degrees=0.0))
    assert isinstance(labels.geometry, Geometry)
    eye, cerebellum = (np.argwhere(labels.mask(n)).mean(axis=0) for n in ("eye", "cerebellar cortex"))
    assert eye[1] > cerebellum[1] + 30


def test_codes_are_unique_where_they_are_given() -> None:
    codes = [label.code for label in SCHEME.labels if label.code]
    assert len(codes) >= 8
    assert len(set(codes)) == len(codes)
    assert all(code.isdigit() and 6 <= len(code) <= 18 for code in codes)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"size": (0, 10, 10)}, "head.size"),
        ({"size": (10, 10)}, "head.size"),
        ({"spacing": (0.0, 1.0, 1.0)}, "head.spacing"),
        ({"spacing": (1000.0, 1.0, 1.0)}, "head.spacing"),
        ({"centre": "hipocampus"}, "Did you mean 'hippocampus'"),
        ({"age": (5.0, 30.0)}, "head.age"),
        ({"age": (60.0, 30.0)}, "head.age"),
        ({"atrophy": (0.0, 2.0)}, "head.atrophy"),
        ({"intracranial_ml": (100.0, 1500.0)}, "head.intracranial_ml"),
        ({"fold_mm": (1.0, 20.0)}, "head.fold_mm"),
        ({"variation_mm": -1.0}, "head.variation_mm"),
        ({"tilt_degrees": 90.0}, "head.tilt_degrees"),
    ],
)
def test_impossible_parameters_are_refused(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(PlanError, match=said):
        Head(**arguments)


@hypothesis_settings(max_examples=15)
@given(
    st.tuples(st.integers(1, 40), st.integers(1, 40), st.integers(1, 40)),
    st.tuples(*[st.floats(0.2, 12.0)] * 3),
    st.sampled_from(sorted(LANDMARKS_MM)),
    st.floats(20, 95),
    st.floats(0, 1),
    st.floats(0, 30),
    st.floats(0, 5),
    st.integers(0, 2**31),
)
def test_any_head_is_a_valid_map(
    size: tuple[int, int, int],
    spacing: tuple[float, float, float],
    centre: str,
    age: float,
    atrophy: float,
    tilt: float,
    variation: float,
    seed: int,
) -> None:
    head = Head(
        size, spacing, centre, age=(age, age), atrophy=(atrophy, atrophy), tilt_degrees=tilt, variation_mm=variation
    )
    labels = one(head, seed)
    assert labels.array.shape == (len(SCHEME.labels), *size)
    assert labels.masks().sum(axis=0).max() <= 1
    assert labels.spacing == pytest.approx(spacing)

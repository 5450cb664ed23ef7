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
from equipoise.engines.anatomy.head.atlas import LANDMARKS_MM, SCHEME, VOLUMES_ML
from equipoise.engines.anatomy.head.kind import LATTICE_MM, folding_field
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
    labels = one(replace(MEDIUM, tilt_degrees=0.0))
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


def test_cortex_is_folded() -> None:
    """A smooth shell of this volume would have a surface of about 0.09 m²; both hemispheres have two to three times."""
    labels = one(
        Head(size=(140, 170, 130), spacing=(1.2, 1.2, 1.2), age=(30.0, 30.0), atrophy=(0.0, 0.0), centre="brain")
    )
    white = labels.mask("white matter")
    # Area of the border between white and grey matter by counting faces, which overstates a smooth one by 3/2.
    grey = labels.mask("grey matter")
    faces = sum(np.count_nonzero(white[tuple(a)] & grey[tuple(b)]) for axis in range(3) for a, b in _neighbours(axis))
    area = faces * 1.2**2 / 1.5 / 1e6
    assert 0.11 < area < 0.25
    thickness = float(grey.sum()) * 1.2**3 / (area * 1e6)
    assert 2.0 < thickness < 5.0


def _neighbours(axis: int) -> list[tuple[list[slice], list[slice]]]:
    one_, two = [slice(None)] * 3, [slice(None)] * 3
    one_[axis], two[axis] = slice(1, None), slice(None, -1)
    return [(one_, two), (two, one_)]


def test_gyri_have_the_width_that_is_asked_for() -> None:
    for wave in (18.0, 30.0):
        field, gx, *_ = folding_field(wave, rng_for(0, wave))
        assert field.std() == pytest.approx(1, rel=1e-3)
        # A random wave has gradients of variance (2 pi / wave)^2 / 3 along each axis.
        assert gx.std() == pytest.approx(2 * np.pi / wave / np.sqrt(3), rel=0.1)
        numeric = (np.roll(field, -1, 0) - np.roll(field, 1, 0)) / (2 * LATTICE_MM)
        assert np.corrcoef(numeric.ravel(), gx.ravel())[0, 1] > 0.99


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

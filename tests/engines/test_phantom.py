from __future__ import annotations

import json
import pickle
from dataclasses import fields, replace

import numpy as np
import pytest

from equipoise.core import Anatomy, Case, Geometry, Image, LabelMap, LabelScheme, rng_for
from equipoise.core.registry import canonical, parameters, spec_of
from equipoise.engines.anatomy.phantom import Phantom, stretch_of
from equipoise.engines.parts.nodule import diameters_of
from equipoise.errors import DataError, LabelError, PlanError

VOLUME = Phantom(size=(64, 64, 40), spacing=(0.8, 0.8, 1.0))


def maps(anatomy: Anatomy, n: int = 6, seed: int = 0) -> list[LabelMap]:
    return list(anatomy.draw(n, rng_for(seed, "maps")))


def real_case(patient: str, diameter: float, label: str = "lesion") -> Case:
    geometry = Geometry.from_spacing((72, 60, 1), (0.6, 0.6, 2.0))
    i, j = np.indices((72, 60)) - np.array([36, 30])[:, None, None]
    mask = (np.hypot(i, j) * 0.6 <= diameter / 2)[None, :, :, None].astype(np.uint8)
    truth = LabelMap.on(geometry, mask, LabelScheme.of([label]))
    return Case(f"case-{patient}", patient, Image.on(geometry, np.zeros((1, 72, 60, 1), np.float32)), truth)


def test_same_stream_same_maps_and_no_map_is_empty() -> None:
    for anatomy in (Phantom(), VOLUME, Phantom(diameter_mm=3.0, size=(12, 12, 1), spacing=(5.0, 5.0, 10.0))):
        first, again, other = maps(anatomy), maps(anatomy), maps(anatomy, seed=1)
        for a, b in zip(first, again, strict=True):
            np.testing.assert_array_equal(a.array, b.array)
            assert a.mask("nodule").any()
        assert any(not np.array_equal(a.array, b.array) for a, b in zip(first, other, strict=True))
        np.testing.assert_array_equal(maps(anatomy, 2)[1].array, first[1].array)


def test_diameters_have_the_stated_median_and_spread() -> None:
    anatomy = replace(VOLUME, diameter_mm=9.0, diameter_spread=0.25, spicules=0.0, lobulation=0.0)
    logs = np.log([diameters_of(m)[0] for m in maps(anatomy, 60)])
    assert np.exp(np.median(logs)) == pytest.approx(9.0, rel=0.12)
    assert logs.std() == pytest.approx(0.25, rel=0.3)


def test_extended_maps_name_what_surrounds_the_nodule() -> None:
    anatomy = Phantom(structures=("lesion", "vessel", "chest wall", "lung"), pleural=1.0)
    for labels in maps(anatomy):
        assert labels.scheme.names == ("lesion", "vessel", "chest wall", "lung")
        lesion, vessel, wall, lung = labels.masks()
        assert not (wall & lung).any()
        assert (wall | lung | lesion).all()
        assert not (lesion & (wall | vessel)).any()
        assert vessel.any()
        assert wall.any()  # pleural: the wall touches the lesion, so it is in the picture
        grown = np.zeros_like(lesion)
        for axis in (0, 1):
            for step in (-2, -1, 1, 2):
                grown |= np.roll(lesion, step, axis)
        assert (grown & wall).any()


CHANGES: dict[str, object] = {
    "size": (80, 96, 1),
    "spacing": (0.5, 0.5, 1.25),
    "structures": ("nodule", "vessel"),
    "nodules": 4.0,
    "diameter_mm": 14.0,
    "diameter_spread": 0.0,
    "elongation": 0.4,
    "lobulation": 0.25,
    "spicules": 10.0,
    "offset_mm": 25.0,
    "vessels": 100.0,
    "pleural": 1.0,
    "wall_mm": 5.0,
    "fed": 1.0,
    "learn": False,
}


def test_every_parameter_is_in_the_table() -> None:
    assert set(CHANGES) == set(parameters(Phantom))
    assert {f.name for f in fields(Phantom) if f.name.startswith("_")} == {"_learned", "_parents"}


@pytest.mark.parametrize("name", CHANGES)
def test_every_parameter_changes_the_maps(name: str) -> None:
    base = Phantom(structures=("nodule", "vessel", "chest wall", "lung"), pleural=0.0, fed=0.0)
    changed = replace(base, **{name: CHANGES[name]})  # type: ignore[arg-type]
    if name == "learn":
        cases = [real_case("p1", 12.0, "nodule"), real_case("p2", 8.0, "nodule")]
        base, changed = (x.fit(cases, rng_for(0, "fit")) for x in (base, changed))
    pairs = zip(maps(base), maps(changed), strict=True)
    assert any(a.geometry.spacing != b.geometry.spacing or not np.array_equal(a.array, b.array) for a, b in pairs)


def test_fit_takes_sizes_grid_and_label_and_names_its_parents() -> None:
    cases = [real_case(f"p{k}", d) for k, d in enumerate((10.0, 11.0, 12.0, 13.0))]
    fitted = VOLUME.fit(cases, rng_for(0, "fit"))
    assert fitted.parents == {"p0", "p1", "p2", "p3"}
    assert Phantom(learn=False).fit(cases, rng_for(0, "fit")).parents == frozenset()
    drawn = maps(fitted, 40)
    assert drawn[0].scheme.names == ("lesion",)
    assert drawn[0].geometry.shape == (72, 60, 1)
    assert drawn[0].spacing == pytest.approx((0.6, 0.6, 2.0))
    assert 9 < np.median([diameters_of(m)[0] for m in drawn]) < 14
    assert pickle.loads(pickle.dumps(fitted)).parents == fitted.parents


def ellipse_case(patient: str, centres: list[tuple[float, float]], axes: tuple[float, float]) -> Case:
    """Ellipses at given places, in mm from the middle, with given half axes."""
    case = real_case(patient, 8.0)
    instances = np.zeros((1, 72, 60, 1), np.uint8)
    i, j = (np.indices((72, 60)) - np.array([35.5, 29.5])[:, None, None]) * 0.6
    for number, (x, y) in enumerate(centres, 1):
        instances[0, :, :, 0][np.hypot((i - x) / axes[0], (j - y) / axes[1]) <= 1] = number
    return replace(case, truth=replace(case.labels, voxels=instances))


@pytest.mark.parametrize("centres", [[(12.0, -6.0)], [(-12.0, 8.0), (10.0, 8.0)]])
def test_fit_takes_places_and_numbers(centres: list[tuple[float, float]]) -> None:
    cases = [ellipse_case(f"p{k}", centres, (3.0, 3.0)) for k in range(3)]
    # Ellipsoids, whose middle is the middle of the voxels drawn.
    fitted = Phantom(lobulation=0.0, spicules=0.0).fit(cases, rng_for(0, "fit"))
    moved: list[list[np.ndarray]] = [[] for _ in centres]
    for labels in maps(fitted, 60):
        instances = labels.array[0]
        assert instances.max() == len(centres)
        for number in range(1, len(centres) + 1):
            place = (np.argwhere(instances == number).mean(axis=0)[:2] - [35.5, 29.5]) * 0.6
            nearest = int(np.argmin([np.hypot(*(place - centre)) for centre in centres]))
            moved[nearest].append(place - centres[nearest])
    # A twentieth of the picture's side along I where places differ (nowhere more), else none; and half a voxel, twice:
    # the training masks and what is drawn are both rounded to the grid.
    sd = 0.1 * 72 * 0.6 / 2 if len(centres) > 1 else 0.0
    for away in moved:
        assert len(away) == 60
        assert np.abs(np.mean(away, axis=0)).max() < 3.3 * sd / np.sqrt(60) + 0.6
        assert np.abs(away).max() < 4 * sd + 0.6


def test_fit_takes_elongation() -> None:
    shown = []
    for ratio in (1.0, 1.6, 2.4):
        cases = [ellipse_case(f"p{k}", [(0.0, 0.0)], (6.0 * ratio**0.5, 6.0 / ratio**0.5)) for k in range(8)]
        fitted = Phantom(lobulation=0.02, spicules=0.0).fit(cases, rng_for(0, "fit"))
        drawn = [stretch_of(labels.array[0] > 0, labels.spacing) for labels in maps(fitted, 60)]
        shown.append(np.exp(np.mean(drawn)))
    assert shown[0] < 1.15
    assert shown[1] == pytest.approx(1.6, rel=0.15)
    assert shown[2] == pytest.approx(2.4, rel=0.2)


def test_stretch_is_the_ratio_of_half_axes_in_mm() -> None:
    voxel = (0.5, 0.5, 1.0)
    i, j, k = ((np.arange(n) - (n - 1) / 2) * d for n, d in zip((80, 40, 24), voxel, strict=True))
    solid = np.square(i / 15)[:, None, None] + np.square(j / 7.5)[:, None] + np.square(k / 10) <= 1
    assert np.exp(stretch_of(solid, voxel)) == pytest.approx(2.0, rel=0.02)
    assert np.exp(stretch_of(solid[:, :, 12:13], voxel)) == pytest.approx(2.0, rel=0.02)
    assert stretch_of(np.ones((1, 1, 1), bool), (1.0, 1.0, 1.0)) == 0


def test_specification_is_json_without_what_was_learned() -> None:
    spec = json.loads(canonical(spec_of(Phantom(nodules=2.0))))
    assert spec["kind"] == "phantom"
    assert spec["nodules"] == 2.0
    assert not any(name.startswith("_") for name in spec)


def test_bad_parameters_and_cases_are_refused_with_the_fix() -> None:
    for wrong, says in (
        ({"structures": ("nodule", "vesel")}, "Did you mean 'vessel'"),
        ({"structures": ()}, "at least the nodule"),
        ({"diameter_mm": 0.0}, "diameter_mm"),
        ({"pleural": 1.5}, "between 0 and 1"),
        ({"size": (0, 4, 4)}, "size"),
        ({"spacing": (1.0, 1.0, 0.0)}, "spacing"),
        ({"nodules": 0.0}, "nodules"),
        ({"lobulation": -1.0}, "lobulation"),
    ):
        with pytest.raises(PlanError, match=says):
            Phantom(**wrong)
    empty = real_case("p", 3.0)
    hollow = replace(empty, truth=replace(empty.labels, voxels=np.zeros((1, 72, 60, 1), np.uint8)))
    with pytest.raises(DataError, match="no training label map holds an object"):
        Phantom().fit([hollow], rng_for(0, "fit"))
    with pytest.raises(DataError, match="no case"):
        Phantom().fit([], rng_for(0, "fit"))
    both = np.concatenate([empty.labels.array] * 2)
    two = replace(empty, truth=LabelMap.on(empty.labels.geometry, both, LabelScheme.of(["nodule", "organ"])))
    with pytest.raises(DataError, match="learn = false"):
        Phantom().fit([two], rng_for(0, "fit"))
    with pytest.raises(LabelError, match="'case-q'"):
        Phantom().fit([empty, real_case("q", 3.0, "tumour")], rng_for(0, "fit"))

"""Soft tissue under a probe: contract, layers in order, sizes as stated, options, bad input."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from equipoise.core import LabelMap, rng_for
from equipoise.engines.anatomy.breast_and_neck import BreastAndNeck, breast, fetal_head, neck
from equipoise.errors import EquipoiseError
from equipoise.testing import AnatomyContract

SIZE = (120, 120, 1)


def maps(n: int = 6, seed: int = 0, **how: object) -> list[LabelMap]:
    return list(BreastAndNeck(**{"size": SIZE, **how}).draw(n, rng_for(seed, "block")))  # type: ignore[arg-type]


def depth_of(labels: LabelMap, name: str) -> float:
    """Mean depth in mm."""
    return float((np.argwhere(labels.mask(name))[:, 1].mean() + 0.5) * labels.spacing[1])


def test_every_voxel_is_labelled_in_every_scene() -> None:
    for scene in ("breast", "neck", "fetal head"):
        for labels in maps(3, scene=scene):
            assert labels.masks().any(axis=0).all()
            assert all(x.code is None or x.code.isdigit() for x in labels.scheme.labels)


def test_layers_of_the_breast_lie_in_their_order() -> None:
    for labels in maps(8, lesions=()):
        order = [depth_of(labels, n) for n in ("skin", "glandular tissue", "pectoral muscle")]
        assert order == sorted(order)
        skin = labels.mask("skin").sum(axis=1).mean() * labels.spacing[1]
        assert breast.SKIN_MM[0] - 0.4 <= skin <= breast.SKIN_MM[1] + 0.4
        assert labels.mask("skin")[:, 0].all()
        for name in breast.LESIONS:
            assert not labels.mask(name).any()


def test_lesions_have_the_stated_size_and_lie_in_the_gland() -> None:
    for kind in breast.LESIONS:
        sizes = []
        for labels in maps(8, lesions=(kind,), number=2.0, diameter_mm=(8.0, 8.0), spacing=(0.3, 0.3, 0.5), seed=2):
            parts, count = ndimage.label(labels.mask(kind)[:, :, 0])
            whole = [k for k in range(1, count + 1) if not _cut(parts == k)]
            sizes += [2 * np.sqrt((parts == k).sum() * 0.09 / np.pi) for k in whole]
            if labels.mask(kind).any():
                assert depth_of(labels, "skin") < depth_of(labels, kind) < 32
        assert np.median(sizes) == pytest.approx(8, rel=0.15)


def _cut(mask: np.ndarray) -> bool:
    return bool(mask[0].any() or mask[-1].any() or mask[:, 0].any() or mask[:, -1].any())


def test_carcinomas_are_more_ragged_than_cysts() -> None:
    def ragged(kind: str) -> float:
        found = []
        for labels in maps(8, lesions=(kind,), diameter_mm=(12.0, 12.0), number=1.0, seed=3):
            mask = labels.mask(kind)[:, :, 0]
            if mask.any() and not _cut(mask):
                rim = mask & ~ndimage.binary_erosion(mask)
                found.append(rim.sum() ** 2 / mask.sum())
        return float(np.mean(found))

    assert ragged("carcinoma") > 1.25 * ragged("cyst")


def test_neck_holds_its_organs_where_they_belong() -> None:
    wide = {"spacing": (0.65, 0.4, 0.5), "size": (160, 120, 1), "lesions": ()}
    for labels in maps(8, scene="neck", **wide):
        for name in ("thyroid", "trachea", "carotid artery", "jugular vein", "vertebra", "strap muscle"):
            assert labels.mask(name).any(), name
        assert depth_of(labels, "skin") < depth_of(labels, "strap muscle") < depth_of(labels, "thyroid")
        assert depth_of(labels, "trachea") < depth_of(labels, "vertebra")
        parts, count = ndimage.label(labels.mask("carotid artery")[:, :, 0])
        for k in range(1, count + 1):
            if not _cut(parts == k):
                diameter = 2 * np.sqrt((parts == k).sum() * 0.26 / np.pi)
                assert neck.CAROTID_MM[0] - 1 <= diameter <= neck.CAROTID_MM[1] + 1


def test_size_of_the_head_follows_the_age() -> None:
    """Against another source: BPD in cm = weeks / 4, with an error up to 7.5 % (doi:10.5468/ogs.2016.59.2.91)."""
    for weeks in (24.0, 28.0, 32.0, 36.0):
        assert fetal_head.biparietal_mm(weeks) == pytest.approx(10 * weeks / 4, rel=0.075)
    ages = [fetal_head.biparietal_mm(w) for w in np.linspace(14, 39, 60)]
    assert (np.diff(ages) > 0).all()
    for weeks in (16.0, 24.0, 36.0):
        areas = []
        for labels in maps(10, scene="fetal head", weeks=(weeks, weeks), spacing=(1.4, 1.4, 0.5), size=(140, 140, 1)):
            areas.append(labels.mask("fetal head").sum() * 1.4**2)
        short = fetal_head.biparietal_mm(weeks)
        assert np.mean(areas) == pytest.approx(np.pi / 4 * short**2 / fetal_head.INDEX, rel=0.12)


def test_head_is_one_ellipse_with_the_brain_inside_the_skull() -> None:
    for labels in maps(6, scene="fetal head", size=(160, 160, 1)):
        whole = labels.mask("fetal head")
        for name in ("fetal skull", "fetal brain", "midline", "thalamus", "cavum septi pellucidi"):
            assert labels.mask(name).any(), name
            assert not (labels.mask(name) & ~whole).any(), name
        assert not (labels.mask("fetal scalp") & labels.mask("fetal brain")).any()
        assert ndimage.label(whole)[1] == 1
        assert not (whole ^ ndimage.binary_fill_holes(whole)).any()


def test_frames_of_a_stack_go_on_smoothly() -> None:
    for scene in ("breast", "neck", "fetal head"):
        (labels,) = maps(1, scene=scene, size=(80, 80, 4))
        values = np.argmax(labels.array, axis=0)
        changed = (values[:, :, 1:] != values[:, :, :-1]).mean()
        assert 0 < changed < 0.12


CHANGES: list[tuple[str, Mapping[str, object]]] = [
    ("scene", {"scene": "neck"}),
    ("size", {"size": (100, 120, 1)}),
    ("spacing", {"spacing": (0.5, 0.5, 0.5)}),
    ("lesions", {"lesions": ("cyst",)}),
    ("number", {"number": 8.0}),
    ("diameter_mm", {"diameter_mm": (20.0, 25.0)}),
]


@pytest.mark.parametrize(("name", "changed"), CHANGES, ids=[name for name, _ in CHANGES])
def test_every_option_changes_what_is_drawn(name: str, changed: Mapping[str, object]) -> None:
    one, other = (
        maps(3, number=changed.get("number", 2.0)) if name != "number" else maps(3),
        maps(3, **{"number": 2.0, **changed}),
    )
    assert any(
        a.array.shape != b.array.shape or not np.array_equal(a.array, b.array) for a, b in zip(one, other, strict=True)
    )


@settings(max_examples=15)
@given(
    scene=st.sampled_from(["breast", "neck", "fetal head"]),
    size=st.tuples(st.integers(8, 60), st.integers(8, 60), st.integers(1, 3)),
    pixel=st.floats(0.05, 8.0),
    number=st.floats(0, 4),
    seed=st.integers(0, 99),
)
def test_any_legal_block_can_be_drawn(
    scene: str, size: tuple[int, int, int], pixel: float, number: float, seed: int
) -> None:
    (labels,) = BreastAndNeck(scene=scene, size=size, spacing=(pixel, pixel, 0.5), number=number).draw(
        1, rng_for(seed, "any")
    )
    assert labels.array.shape[1:] == size
    assert labels.masks().any(axis=0).all()
    assert labels.scheme.exclusive == (scene != "fetal head")
    if labels.scheme.exclusive:
        assert labels.masks().sum(axis=0).max() == 1


class TestBreast(AnatomyContract):
    learns = False

    def make(self) -> BreastAndNeck:
        return BreastAndNeck(size=(48, 52, 1))


class TestNeck(TestBreast):
    def make(self) -> BreastAndNeck:
        return BreastAndNeck(scene="neck", size=(48, 52, 2))


class TestFetalHead(TestBreast):
    def make(self) -> BreastAndNeck:
        return BreastAndNeck(scene="fetal head", size=(48, 52, 1))


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"scene": "brest"}, "Did you mean 'breast'"),
        ({"size": (0, 10, 1)}, "size = "),
        ({"size": (64, 64)}, "size = "),
        ({"spacing": (0.0, 0.1, 0.1)}, "spacing along I"),
        ({"spacing": (0.1, 1000.0, 0.1)}, "spacing along J"),
        ({"spacing": (0.1, 0.1)}, "three numbers"),
        ({"lesions": ("nodule",)}, "lesions = 'nodule'"),
        ({"scene": "fetal head", "lesions": ("cyst",)}, "without lesions"),
        ({"number": -1.0}, "number"),
        ({"diameter_mm": (5.0, 2.0)}, "diameter_mm"),
        ({"weeks": (5.0, 20.0)}, "14 to 39 weeks"),
    ],
)
def test_impossible_blocks_are_refused(wrong: Mapping[str, object], says: str) -> None:
    with pytest.raises(EquipoiseError, match=says):
        replace(BreastAndNeck(), **wrong)  # type: ignore[arg-type]

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from equipoise.core import Case, Geometry, Image, LabelMap, LabelScheme, rng_for
from equipoise.engines.anatomy.lesion import Lesion
from equipoise.engines.anatomy.lesion.clauses import Interval
from equipoise.engines.anatomy.lesion.drawing import Spread
from equipoise.engines.anatomy.lesion.findings import FINDINGS
from equipoise.engines.anatomy.lesion.mass_effect import undisplaced
from equipoise.engines.anatomy.lesion.shape import Look, diameter_of, draw_shape
from equipoise.engines.parts.nodule import diameters_of
from equipoise.engines.parts.tissue_model import TissueModel
from equipoise.errors import EngineError, GeometryMismatchError, LabelError, PlanError, UnknownKindError
from equipoise.testing import AnatomyContract
from equipoise.testing.anatomy_contract import lesion_cases

WARPED = {"kind": "warped", "degrees": 4.0}


class TestInAPhantom(AnatomyContract):
    learns = False

    def make(self) -> Lesion:
        return Lesion()


class TestInVolumes(AnatomyContract):
    learns = False

    def make(self) -> Lesion:
        base = {"kind": "phantom", "size": [40, 40, 16], "learn": False}
        return Lesion(base=base, finding="cyst", label="nodule", diameter_mm=(4.0, 9.0))


class TestInWarpedMaps(AnatomyContract):
    def make(self) -> Lesion:
        return Lesion(base=WARPED, label="lesion", diameter_mm=(3.0, 8.0))


class TestInRealVolumes(AnatomyContract):
    def make(self) -> Lesion:
        return Lesion(base="real", finding="mass", label="lesion", diameter_mm=(5.0, 9.0), count=(1, 2))

    def cases(self) -> Sequence[Case]:
        return lesion_cases(3, dimension=3)


@dataclass(frozen=True)
class Body:
    """Two ellipsoidal lungs, each with a vessel, in a body with a bony ring: what is where is known exactly."""

    kind: ClassVar[str] = "body"
    flat: bool = True
    exclusive: bool = True
    unit: str = "mm"
    spacing: float = 1.0

    parents = frozenset()

    def draw(self, n: int, rng: np.random.Generator) -> Iterator[LabelMap]:
        shape = (100, 80, 1) if self.flat else (80, 64, 40)
        i, j, k = np.indices(shape)
        x, y, z = (2 * (a - (m - 1) / 2) / m for a, m in zip((i, j, k), shape, strict=True))
        left, right = (((x - s) / 0.38) ** 2 + (y / 0.7) ** 2 + (z / 0.9) ** 2 < 1 for s in (-0.45, 0.45))
        vessel = (left | right) & (np.abs(y) < 0.04)
        body = x**2 + y**2 + (z / 1.2) ** 2 < 0.94
        bone = body & (x**2 + y**2 + (z / 1.2) ** 2 > 0.86)
        masks = [left & ~vessel, right & ~vessel, vessel, bone, body & ~bone & ~left & ~right]
        if not self.exclusive:
            masks[4] = body
        names = ["left lung", "right lung", "lung vessel", "rib", "muscle"]
        scheme = LabelScheme.of(names, exclusive=self.exclusive)
        geometry = Geometry.from_spacing(shape, (self.spacing,) * 3, unit=self.unit)  # type: ignore[arg-type]
        for _ in range(n):
            rng.spawn(1)
            yield LabelMap.on(geometry, np.stack(masks).astype(np.uint8), scheme)


def inside(body: Body, **parameters: Any) -> Lesion:
    return Lesion(base="phantom", _base=body, **{"finding": "nodule", "inside": ("lung",), **parameters})


def drawn(lesion: Lesion, n: int = 6) -> list[Any]:
    return list(lesion.draw_described(n, rng_for(5, "draw")))


@pytest.mark.parametrize("flat", [True, False])
@pytest.mark.parametrize("exclusive", [True, False])
def test_small_peripheral_lesions_are_what_was_asked_for(flat: bool, exclusive: bool) -> None:
    made = inside(Body(flat, exclusive), where="lesion < 6 mm and site = periphery", count=(2, 4))
    (body,) = Body(flat, exclusive).draw(1, rng_for(0))
    lung = body.mask("left lung") | body.mask("right lung") | body.mask("lung vessel")
    depth = ndimage.distance_transform_edt(np.pad(lung, 1))[1:-1, 1:-1, (slice(None) if flat else slice(1, -1))]
    if flat:
        depth = ndimage.distance_transform_edt(np.pad(lung[..., 0], 1))[1:-1, 1:-1, None]
    for labels, _, laid in drawn(made):
        assert 2 <= len(laid) <= 4
        sizes = diameters_of(LabelMap.on(labels.geometry, labels.array[-1:], LabelScheme.of(["nodule"])))
        assert len(sizes) == len(laid)
        assert max(sizes) < 6
        np.testing.assert_allclose(sizes, [x.size for x in sorted(laid, key=lambda x: x.instance)], rtol=1e-6)
        for one in laid:
            # Within a voxel of the outer third of the way to the deepest place of a lung.
            assert depth[one.voxel] <= 0.33 * depth.max() + 1.0
        assert not (labels.mask("nodule") & ~lung).any(), "a nodule left the lung"


def test_centre_is_not_periphery_and_in_is_inside() -> None:
    (body,) = Body().draw(1, rng_for(0))
    for labels, _, laid in drawn(inside(Body(), where="site = centre and in right lung", diameter_mm=(3, 8))):
        for one in laid:
            assert one.share >= 0.33
            assert body.mask("right lung")[one.voxel]
            assert labels.mask("nodule")[one.voxel]


def test_near_and_not_near() -> None:
    (body,) = Body().draw(1, rng_for(0))
    away = ndimage.distance_transform_edt(~body.mask("lung vessel"))
    near = [away[x.voxel] for *_, laid in drawn(inside(Body(), where="near lung vessel within 4 mm")) for x in laid]
    far = [away[x.voxel] for *_, laid in drawn(inside(Body(), where="not near vessel within 4 mm")) for x in laid]
    assert max(near) <= 4 < min(far)


def test_places_are_spread_over_all_that_is_allowed() -> None:
    """Neither alternative of an `or` is forgotten, and a rare clause is as rare as its places are."""
    made = inside(Body(), where="in left lung or in right lung and lesion < 4 mm", count=(1, 1), diameter_mm=(3, 8))
    laid = [one for *_, found in drawn(made, 150) for one in found]
    (body,) = Body().draw(1, rng_for(0))
    right = [x for x in laid if body.mask("right lung")[x.voxel]]
    assert all(x.size < 4 for x in right)
    wanted = (np.log(4 / 3) / np.log(8 / 3)) / (1 + np.log(4 / 3) / np.log(8 / 3))
    sd = np.sqrt(wanted * (1 - wanted) / len(laid))
    assert abs(len(right) / len(laid) - wanted) < 4 * sd


@pytest.mark.parametrize("form", ["log-uniform", "log-normal", "uniform"])
def test_truncated_sizes_keep_their_distribution(form: str) -> None:
    spread, rng = Spread(2.0, 30.0, form), rng_for(1, form)
    allowed = Interval(4.0, 9.0, high_open=True)
    values = np.array([spread.draw(allowed, rng) for _ in range(2000)])
    assert (values >= 4).all()
    assert (values < 9).all()
    middle = spread.mass(Interval(4.0, 6.0)) / spread.mass(allowed)
    assert abs((values < 6).mean() - middle) < 4 * np.sqrt(0.25 / 2000)


@pytest.mark.parametrize("flat", [True, False])
def test_size_is_met_to_a_voxel_whatever_the_shape_and_the_border(flat: bool) -> None:
    made = inside(
        Body(flat), diameter_mm=(9.0, 12.0), spiculation=(0.5, 1.0), lobulation=(0.5, 0.9), where="site = periphery"
    )
    voxel = np.ones(3)
    for labels, _, laid in drawn(made, 4):
        for one in laid:
            part = labels.instances("nodule") == one.instance
            assert ndimage.label(part)[1] == 1, "a lesion fell apart"
            count = int(part.sum())
            assert diameter_of(count - 1, voxel, flat) < one.look.size < diameter_of(count + 1, voxel, flat)


@pytest.mark.parametrize("sphericity", [0.5, 0.8, 1.0])
@pytest.mark.parametrize("flat", [True, False])
def test_sphericity_is_that_of_the_axes(sphericity: float, flat: bool) -> None:
    body = draw_shape(np.zeros(3), Look(10.0, sphericity), flat, rng_for(2))
    axes = np.sort(1 / np.linalg.norm(body.frame, axis=1))[::-1]
    if flat:
        measured = np.sqrt(min(axes[[0, 2]] / axes[[2, 0]])) if sphericity < 1 else 1.0
    else:
        measured = np.cbrt(axes[1] * axes[2] / axes[0] ** 2)
    assert measured == pytest.approx(sphericity, rel=1e-9)
    assert np.prod(axes) == pytest.approx(1.0)


def roundness(mask: np.ndarray) -> float:
    """Overlap of an object with the circle of its size about its centre: small where it is lobed, ragged or spiky."""
    at = np.argwhere(mask).mean(axis=0)
    away = np.linalg.norm(np.moveaxis(np.indices(mask.shape), 0, -1) - at, axis=-1)
    circle = away <= np.sqrt(mask.sum() / np.pi)
    return float((mask & circle).sum() / (mask | circle).sum())


@pytest.mark.parametrize("option", ["spiculation", "lobulation", "margin", "sphericity"])
def test_every_shape_option_is_seen(option: str) -> None:
    plain = {"sphericity": (1.0, 1.0), "spiculation": (0.0, 0.0), "lobulation": (0.0, 0.0), "margin": (0.0, 0.0)}
    most = 0.5 if option == "sphericity" else 1.0

    def measured(**changed: tuple[float, float]) -> float:
        lesion = inside(Body(), diameter_mm=(13, 13), count=(1, 1), where="in left lung", **(plain | changed))
        values = []
        for labels, _, _ in drawn(lesion, 5):
            mask = labels.mask("nodule")[..., 0]
            if option == "sphericity":
                low, high = np.linalg.eigvalsh(np.cov(np.argwhere(mask).T))
                values.append(np.sqrt(low / high))
            else:
                values.append(roundness(mask))
        return float(np.mean(values))

    assert measured(**{option: (most, most)}) < measured() - 0.05


@given(st.floats(0.0, 0.95), st.floats(0.5, 40.0), st.sampled_from([2, 3]))
def test_mass_effect_never_folds_and_fades(share: float, radius: float, dimension: int) -> None:
    r = np.linspace(0.0, 4 * radius, 4001)
    before = undisplaced(r, np.full(r.shape, radius), share, dimension)
    assert (np.diff(before) > 0).all(), "two places would be mapped to one"
    assert (before <= r + 1e-9).all()
    np.testing.assert_allclose(before[r > 3 * radius], r[r > 3 * radius])
    # What lay in the lesion's place has gone from there: its share of the volume lies outside now.
    assert before[r >= radius][0] ** dimension == pytest.approx((1 - share) * radius**dimension, rel=0.02)


def test_mass_effect_moves_what_is_near_and_spares_bone() -> None:
    still, moved = (
        inside(Body(), finding="mass", mass_effect=(f, f), diameter_mm=(14, 14), where="in left lung and centre")
        for f in (0.0, 0.9)
    )
    (base,) = Body().draw(1, rng_for(0))
    changed = []
    for (a, _, one), (b, _, other) in zip(drawn(still), drawn(moved), strict=True):
        assert one[0].voxel == other[0].voxel
        np.testing.assert_array_equal(b.mask("rib") | b.mask("mass"), base.mask("rib") | b.mask("mass"))
        free = ~(a.mask("mass") | b.mask("mass"))
        changed.append(int((a.values() != b.values())[free].sum()))
        lungs = np.any([b.mask(x) for x in ("left lung", "right lung", "lung vessel", "mass")], axis=0)
        assert ndimage.label(lungs[..., 0], np.ones((3, 3)))[1] == 2, "a lung was torn"
        vessel = (b.mask("lung vessel") | b.mask("mass"))[..., 0]
        assert ndimage.label(vessel, np.ones((3, 3)))[1] <= 3, "a vessel was torn, not bent"
    assert min(changed) > 0


def test_placement_carries_the_mass_effect() -> None:
    """What is known of the training case voxel by voxel lies under the labels that moved with it."""
    cases = [replace(case, truth=_two_labels(case)) for case in lesion_cases(3)]
    lesion = Lesion(
        base=WARPED, finding="cyst", label="lesion", inside=("organ",), mass_effect=(0.9, 0.9), diameter_mm=(6, 9)
    ).fit(cases, rng_for(0))
    by_id = {case.id: case.labels for case in cases}
    displaced = 0
    for labels, placement in lesion.draw_placed(8, rng_for(1)):
        assert placement is not None
        source = by_id[placement.source]
        organ = placement.carry(source.array)[source.scheme.channel("organ")] > 0
        free = ~labels.mask("lesion")
        was_lesion = placement.carry(source.array)[source.scheme.channel("lesion")] > 0
        np.testing.assert_array_equal(organ[free & ~was_lesion], labels.mask("organ")[free & ~was_lesion])
        displaced += int(hasattr(placement, "pushes") and bool(placement.pushes))
    assert displaced == 8


def test_tissue_follows_lesions() -> None:
    cases = lesion_cases(4)
    model = TissueModel.fit(cases, lambda case: case.image.array, rng_for(0), classes=2, inner=2)
    lesion = Lesion(base="real", label="lesion", finding="mass", diameter_mm=(6, 9)).fit(cases, rng_for(0))
    for labels, placement in lesion.draw_placed(4, rng_for(3)):
        scene = model.scene(labels, placement, rng_for(4))[0]
        assert scene[labels.mask("lesion")].mean() > -200
        assert scene[~labels.mask("lesion")].mean() < -700


def _two_labels(case: Case) -> LabelMap:
    lesion = case.labels.array[0]
    i, j, _ = np.indices(lesion.shape)
    organ = ((i - 24) ** 2 + (j - 26) ** 2 < 380) & (lesion == 0)
    return LabelMap.on(case.labels.geometry, np.stack([lesion, organ]), LabelScheme.of(["lesion", "organ"]))


@pytest.mark.parametrize("texture", ["ground-glass", "part-solid", "cystic", "haemorrhagic"])
@pytest.mark.parametrize("exclusive", [True, False])
def test_texture_is_labelled_as_what_it_is(texture: str, exclusive: bool) -> None:
    names = {
        "ground-glass": ("ground-glass nodule",),
        "part-solid": ("ground-glass nodule", "nodule"),
        "cystic": ("nodule", "cyst"),
        "haemorrhagic": ("nodule", "haemorrhage"),
    }[texture]
    for labels, _, laid in drawn(
        inside(Body(exclusive=exclusive), texture=texture, diameter_mm=(8, 12), count=(1, 1)), 3
    ):
        assert labels.scheme.names[5:] == names
        parts = [labels.mask(name) for name in names]
        assert all(part.any() for part in parts)
        if len(parts) == 2:  # the core is one piece, away from the border
            whole = np.any(parts, axis=0)[..., 0]
            core = parts[1][..., 0]
            assert ndimage.label(core)[1] == 1
            assert not (parts[0] & parts[1]).any()
            depth = ndimage.distance_transform_edt(np.pad(whole, 1))[1:-1, 1:-1]
            assert depth[core].mean() > depth[whole & ~core].mean() + 0.5
        size = diameter_of(int(np.any(parts, axis=0).sum()), np.ones(3), True)
        assert size == pytest.approx(laid[0].size)


def test_what_holds_a_lesion_stays_and_what_meets_it_ends() -> None:
    (base,) = Body(exclusive=False).draw(1, rng_for(0))
    lesion = inside(Body(exclusive=False), where="near lung vessel within 3 mm", diameter_mm=(9, 12), count=(1, 1))
    for labels, _, _ in drawn(lesion, 4):
        nodule = labels.mask("nodule")
        assert (nodule & base.mask("lung vessel")).any()
        assert not (nodule & labels.mask("lung vessel")).any()
        assert labels.mask("muscle")[nodule].all(), "the body encloses it"


def test_a_rim_surrounds() -> None:
    for labels, _, _ in drawn(inside(Body(), rim="oedema", rim_mm=(3, 3), diameter_mm=(6, 9), where="centre"), 3):
        away = ndimage.distance_transform_edt(~labels.mask("nodule"))[labels.mask("oedema")]
        assert away.size
        assert away.max() <= 3


def test_a_fracture_runs_through_bone_only() -> None:
    lesion = Lesion(base="phantom", _base=Body(flat=False), finding="fracture line", where="10 mm < lesion < 25 mm")
    (base,) = Body(flat=False).draw(1, rng_for(0))
    for labels, _, (one,) in drawn(lesion, 3):
        crack = labels.mask("fracture line")
        assert not (crack & ~base.mask("rib")).any()
        assert 10 < one.size < 25
        assert 2 * crack.sum() < base.mask("rib").sum()


@pytest.mark.parametrize("grouping", ["cluster", "ring"])
def test_groups_lie_together(grouping: str) -> None:
    def spread(**stated: Any) -> float:
        made = drawn(inside(Body(), count=(6, 6), diameter_mm=(2, 3), **stated), 8)
        return float(np.mean([np.std([x.voxel for x in laid], axis=0).sum() for *_, laid in made]))

    assert spread(grouping=grouping, group_mm=6.0) < 0.5 * spread(grouping="scattered")


def test_lesions_of_the_base_give_way_unless_kept() -> None:
    cases = lesion_cases(3)
    for keep in (False, True):
        lesion = Lesion(base="real", label="lesion", count=(1, 1), diameter_mm=(3, 5), keep=keep)
        for labels in lesion.fit(cases, rng_for(0)).draw(4, rng_for(1)):
            assert len(np.unique(labels.instances("lesion"))) - 1 == 1 + keep


def test_two_findings_in_one_map() -> None:
    inner = inside(Body(), diameter_mm=(5, 8))
    both = Lesion(base="phantom", _base=inner, finding="cyst", inside=("lung",), diameter_mm=(5, 8))
    for labels in both.draw(3, rng_for(0)):
        assert labels.mask("nodule").any()
        assert labels.mask("cyst").any()


def test_pixels_need_a_size() -> None:
    with pytest.raises(GeometryMismatchError, match="no size of a pixel"):
        drawn(inside(Body(unit="px")))
    for labels, _, laid in drawn(inside(Body(unit="px"), px_mm=0.5, diameter_mm=(6, 6)), 2):
        assert labels.unit == "px"
        assert laid[0].size == pytest.approx(6, rel=0.05)
        assert (labels.instances("nodule") == laid[0].instance).sum() == pytest.approx(np.pi / 4 * 12**2, rel=0.05)


def test_ignored_voxels_move_and_end_under_a_lesion() -> None:
    (case, *_) = lesion_cases(1)
    ignore = np.zeros((1, *case.labels.geometry.shape), bool)
    ignore[:, :, :26] = True
    truth = LabelMap.on(case.labels.geometry, case.labels.array, case.labels.scheme, ignore)
    lesion = Lesion(base="real", label="lesion", diameter_mm=(5, 8), mass_effect=(0.5, 0.5), count=(1, 1))
    for labels in lesion.fit([replace(case, truth=truth)], rng_for(0)).draw(4, rng_for(0)):
        assert labels.ignored().any()
        assert not (labels.ignored() & labels.mask("lesion")).any()


@pytest.mark.parametrize(
    ("parameters", "error", "message"),
    [
        ({"finding": "nodul"}, PlanError, "Did you mean 'nodule'"),
        ({"where": "lesion < 2 mm"}, PlanError, "impossible: size is drawn from 3 to 30"),
        ({"where": "count > 9"}, PlanError, "number of lesions in a map from 1 to 3"),
        ({"finding": "cyst", "where": "spiculated"}, PlanError, "spiculation is drawn from 0 to 0"),
        ({"diameter_mm": (9.0, 3.0)}, PlanError, "not a range"),
        ({"diameter_mm": (-1.0, 3.0)}, PlanError, "not a range"),
        ({"mass_effect": (0.0, 1.0)}, PlanError, "within 0 to 0.95"),
        ({"count": (0, 3)}, PlanError, "not a range"),
        ({"texture": "solidd"}, PlanError, "Did you mean 'solid'"),
        ({"label": " "}, PlanError, "label is empty"),
        ({"base": 3}, PlanError, "lesion.base must be a kind or a table"),
        ({"base": "phantm"}, UnknownKindError, "Did you mean 'phantom'"),
        ({"base": {"kind": "tissue", "um_per_px": 0}}, PlanError, "tissue.um_per_px = 0"),
        ({"where": 5}, PlanError, "lesion.where must be str, got 5"),
        ({"inside": "lung"}, PlanError, "lesion.inside must be a list"),
        ({"count": (1.5, 3)}, PlanError, r"lesion.count\[0\] must be int"),
        ({"near_mm": float("nan")}, PlanError, "lesion.near_mm = nan"),
        ({"diameter_mm": (1.0, float("inf"))}, PlanError, "within 0.005 to 300 mm"),
    ],
)
def test_what_cannot_be_drawn_is_said_at_once(parameters: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Lesion(**parameters)


@pytest.mark.parametrize(
    ("parameters", "error", "message"),
    [
        ({"where": "in left lunge"}, LabelError, "Did you mean 'left lung'"),
        ({"inside": ("livver",)}, LabelError, "no structure 'livver'"),
        ({"within": ("livver",)}, LabelError, "lesion.within of nodule: the label maps have no structure 'livver'"),
        ({"where": "near livver"}, LabelError, "no structure 'livver'"),
        ({"inside": ("left lung",), "label": "left lung"}, EngineError, r"nothing of what they arise in \(left lung\)"),
        ({"diameter_mm": (0.05, 0.3)}, EngineError, "a single voxel measures .* mm, more than the 0.3 mm asked for"),
        ({"where": "in rib"}, EngineError, "no place in it satisfies"),
        ({"diameter_mm": (90, 90)}, EngineError, "no map of 12 in a row"),
        ({"where": "lesion < 1 mm", "diameter_mm": (0.5, 3)}, EngineError, "a single voxel measures"),
        ({"count": (200, 200), "diameter_mm": (9, 9)}, EngineError, "do not fit beside each other"),
    ],
)
def test_what_finds_no_place_is_said(parameters: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        drawn(inside(Body(), **parameters), 1)


@pytest.mark.parametrize(
    ("base", "finding", "message"),
    [
        ("tissue", "fracture line", "runs through bone, and the label maps name none"),
        ("tissue", "microaneurysm", r"nothing of what they arise in \(unlabelled\)"),
        ({"kind": "phantom", "learn": False}, "microaneurysm", "a single voxel measures"),
        ({"kind": "tissue", "size": [48, 48, 1]}, "nodule", "no map of 12 in a row has a place for nodule: "),
    ],
)
def test_a_base_without_the_site_is_said(base: Any, finding: str, message: str) -> None:
    with pytest.raises((EngineError, LabelError), match=message):
        drawn(Lesion(base=base, finding=finding), 1)


def test_an_unfitted_learned_base_says_what_to_do() -> None:
    with pytest.raises(EngineError, match="has seen none"):
        drawn(Lesion(base="warped"), 1)


@settings(max_examples=16)  # of a volume each
@given(
    st.sampled_from(sorted(FINDINGS)),
    st.booleans(),
    st.booleans(),
    st.integers(0, 999),
    st.sampled_from(["", "site = periphery", "in left lung", "near rib within 20 mm", "not in lung vessel"]),
)
def test_any_finding_in_any_map(finding: str, flat: bool, exclusive: bool, seed: int, where: str) -> None:
    size = (4.0, 9.0)
    lesion = Lesion(
        base="phantom",
        _base=Body(flat, exclusive),
        finding=finding,
        inside=("lung", "rib"),
        where=where,
        diameter_mm=size,
        count=(1, 3),
    )
    (base,) = Body(flat, exclusive).draw(1, rng_for(0))
    for labels, _, laid in islice(lesion.draw_described(1, rng_for(seed, "any")), 1):
        assert labels.scheme.names == (*base.scheme.names, finding)
        assert 1 <= len(laid) <= 3
        mask = labels.mask(finding)
        assert mask.any()
        if exclusive:
            assert labels.masks().sum(axis=0).max() == 1
        numbers = labels.instances(finding)
        assert set(np.unique(numbers)) - {0} == {x.instance for x in laid}
        assert all(labels.array[-1][x.voxel] == x.instance for x in laid)


def test_image_is_not_needed() -> None:
    """An anatomy is drawn from labels alone: cases whose pixels cannot be read are enough."""
    case = lesion_cases(1)[0]
    blank = replace(case, image=Image.on(case.image.geometry, np.zeros_like(case.image.array)))
    a, b = (
        list(Lesion(base="real", label="lesion", diameter_mm=(3, 5)).fit([c], rng_for(0)).draw(2, rng_for(1)))
        for c in (case, blank)
    )
    for one, other in zip(a, b, strict=True):
        np.testing.assert_array_equal(one.array, other.array)

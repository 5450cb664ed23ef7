from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage, optimize

from equipoise.core import Case, Geometry, Image, LabelMap, LabelScheme, rng_for
from equipoise.engines.anatomy.eye_fundus import EyeFundus
from equipoise.engines.anatomy.eye_fundus.kind import pieces_of
from equipoise.engines.anatomy.eye_fundus.learned import signature_of
from equipoise.engines.anatomy.eye_fundus.paint import paint_vessels
from equipoise.engines.anatomy.eye_fundus.trees import Shape, Tree, grow_pair
from equipoise.engines.parts.retina import Ellipse, Eye, Landmarks
from equipoise.errors import DataError, EquipoiseError
from equipoise.testing.anatomy_contract import AnatomyContract

SHAPE = Shape((4.5, -0.5), 0.4, 60, 2.8, 110.0, 0.7, 1.0)
SMALL = EyeFundus(size=(96, 90), twigs=(20, 30))


def trees(seed: int = 0, **changes: object) -> tuple[Tree, Tree]:
    return grow_pair(replace(SHAPE, **changes), rng_for(seed, "trees"))  # type: ignore[arg-type]


def eyes(anatomy: EyeFundus, n: int = 3, seed: int = 0) -> list[tuple[LabelMap, Eye]]:
    return list(anatomy.draw_placed(n, rng_for(seed, "eyes")))


def photographs(n: int = 3, exclusive: bool = True, **changes: object) -> tuple[Case, ...]:
    """Training cases: drawn vessels, dark on a field with a bright disc, black outside."""
    anatomy = EyeFundus(size=(180, 170), structures=("vessel",), unit="px", **changes)  # type: ignore[arg-type]
    made = []
    for i, (labels, eye) in enumerate(eyes(anatomy, n, seed=3)):
        x, y = np.ogrid[:180, :170]
        light = np.where(np.hypot(x - eye.field.x, y - eye.field.y) <= eye.field.radius, 120.0, 3.0)
        light = np.where(eye.landmarks.disc.holds(x, y) & (light > 50), 210.0, light)
        light = np.where(labels.mask("vessel")[..., 0], 0.7 * light, light)
        picture = np.stack([light, 0.6 * light, 0.3 * light]) + rng_for(i, "noise").normal(0, 1.5, (3, 180, 170))
        image = Image.on(labels.geometry, np.clip(picture, 0, 255).astype(np.uint8)[..., None])
        truth = LabelMap.on(labels.geometry, labels.array, LabelScheme.of({"vessel": 7}, exclusive))
        made.append(Case(f"case-{i}", f"real-{i}", image, truth, modality="fundus"))
    return tuple(made)


# ---------------------------------------------------------------- Murray's law


@pytest.mark.parametrize("exponent", [2.2, 2.7, 3.0, 3.6])
def test_calibres_at_branchings_follow_the_exponent_as_set(exponent: float) -> None:
    for tree in trees(exponent=exponent):
        radii = tree.branchings()
        assert len(radii) > 30

        def misfit(x: float, r: np.ndarray) -> float:
            return float((r[1] / r[0]) ** x + (r[2] / r[0]) ** x - 1)

        found = [optimize.brentq(misfit, 0.5, 20, args=(r,)) for r in radii]
        np.testing.assert_allclose(found, exponent, rtol=1e-6)


def test_calibres_on_the_label_map_are_those_of_the_tree() -> None:
    """Murray's exponent again, measured on pixels: straight Y with daughters by the law, drawn and measured."""
    exponent, parent, ratio = 2.7, 60.0, 0.8  # µm
    major = parent / (1 + ratio**exponent) ** (1 / exponent)
    pieces = np.array([[20, 150, 150, 150, parent], [150, 150, 280, 60, major], [150, 150, 280, 240, ratio * major]])
    pieces[:, 4] /= 5.0
    label, lumen, _ = paint_vessels(pieces.astype(float), (300, 300), 5.0, 1.0, 0.0)
    places = [(slice(70, 100), slice(100, 200)), (slice(240, 260), slice(50, 120)), (slice(240, 260), slice(180, 250))]
    across = [1.0, *(130 / np.hypot(130, 90),) * 2]  # width along J to width across the vessel
    from_label = [5 * float(label[p].sum(axis=1).mean()) * c / 2 for p, c in zip(places, across, strict=True)]
    from_blood = [float(np.median(lumen[p].max(axis=1))) / 2 for p in places]
    for measured in (from_label, from_blood):
        np.testing.assert_allclose(measured, [parent, major, ratio * major], rtol=0.05)
    r0, r1, r2 = from_blood
    assert optimize.brentq(lambda x: (r1 / r0) ** x + (r2 / r0) ** x - 1, 1, 8) == pytest.approx(exponent, abs=0.1)


def test_path_through_blood_is_the_chord_of_a_cylinder() -> None:
    pieces = np.array([[-20.0, 30.0, 120.0, 30.0, 12.0]])
    _, lumen, axis = paint_vessels(pieces, (100, 61), 10.0, 1.0, 0.0)
    offset = np.abs(np.arange(61) - 30)
    chord = 20 * np.sqrt(np.maximum(144 - offset**2, 0))
    inside = offset < 11
    np.testing.assert_allclose(lumen[50][inside], chord[inside], rtol=0.03)
    assert lumen[50][offset > 13].max() == 0
    assert axis[50, 30] > 0.9
    assert axis[50, 41] < 0.05
    # A vessel a tenth of a pixel wide still holds its blood: area of the cross section over a pixel.
    _, thin, _ = paint_vessels(np.array([[-20.0, 30.3, 120.0, 30.3, 0.05]]), (100, 61), 10.0, 1.0, 0.0)
    assert thin[50].sum() * 10 == pytest.approx(np.pi * 0.5**2, rel=0.6)


# ---------------------------------------------------------------- trees


def test_calibre_and_ratio_are_as_set() -> None:
    for seed in range(3):
        artery, vein = trees(seed, tortuosity=0.0)
        widths = []
        for tree in (artery, vein):
            far = np.abs(np.linalg.norm(tree.at, axis=1) - 2.7) < 0.4
            widths.append(2000 * float(tree.radius[far].max()))
        assert widths[0] == pytest.approx(110, rel=1e-6)
        assert widths[0] / widths[1] == pytest.approx(0.7, rel=1e-6)


def test_branches_leave_at_angles_of_the_retina() -> None:
    """Zamir 1979: daughters of retinal arteries part by about 60° to 90° in all."""
    angles = []
    for seed in range(3):
        for tree in trees(seed, tortuosity=0.0, twigs=120):
            order = np.argsort(tree.parent, kind="stable")
            parents, first, count = np.unique(tree.parent[order], return_index=True, return_counts=True)
            for p, k in zip(parents[count == 2], first[count == 2], strict=True):
                a, b = (tree.at[order[k + n]] - tree.at[p] for n in (0, 1))
                angles.append(np.degrees(np.arccos(np.clip(a @ b / np.linalg.norm(a) / np.linalg.norm(b), -1, 1))))
    assert 45 < np.median(angles) < 85
    assert np.percentile(angles, 5) > 15


def test_no_vessel_enters_the_zone_about_the_fovea() -> None:
    for seed in range(3):
        for tree in trees(seed, free_mm=0.5, tortuosity=2.0, twigs=150):
            assert np.linalg.norm(tree.at - SHAPE.fovea, axis=1).min() >= 0.5 - 1e-9


def test_arcades_surround_the_macula() -> None:
    """The widest vessels beside the fovea run 2 to 4.5 mm above and below it, none within 1.5 mm."""
    for seed in range(4):
        for tree in trees(seed, twigs=120):
            near = np.abs(tree.at[:, 0] - SHAPE.fovea[0]) < 0.5
            height = tree.at[near, 1] - SHAPE.fovea[1]
            for side in (1, -1):
                beside = height * side > 0
                widest = height[beside][np.argmax(tree.radius[near][beside])] * side
                assert 1.5 < widest < 5


def test_tortuosity_lengthens_vessels() -> None:
    shown = [np.mean([t.tortuosity() for s in range(3) for t in trees(s, tortuosity=x)]) for x in (0.0, 1.0, 3.0)]
    assert shown[0] < shown[1] < shown[2]
    assert shown[2] > 1.05


def test_every_node_hangs_on_the_root() -> None:
    for tree in trees():
        assert tree.parent[0] == -1
        assert (tree.parent[1:] < np.arange(1, len(tree.parent))).all()
        assert (tree.parent[1:] >= 0).all()
        assert (tree.radius[tree.parent[1:]] >= tree.radius[1:] - 1e-12).all()


# ---------------------------------------------------------------- label maps


def test_labels_overlap_as_anatomy_does() -> None:
    for labels, _ in eyes(EyeFundus(size=(200, 200))):
        assert not labels.scheme.exclusive
        disc, cup = labels.mask("optic disc"), labels.mask("optic cup")
        assert 0 < cup.sum() < 0.5 * disc.sum()
        assert (cup & ~disc).sum() == 0
        assert (labels.mask("artery") & labels.mask("vein")).any()
        assert (labels.mask("artery") & disc).any()


def test_vessel_is_both_trees() -> None:
    apart = EyeFundus(size=(150, 150), structures=("artery", "vein"))
    merged = replace(apart, structures=("vessel",))
    (a, _), (b, _) = eyes(apart, 1)[0], eyes(merged, 1)[0]
    np.testing.assert_array_equal(b.mask("vessel"), a.mask("artery") | a.mask("vein"))
    assert b.scheme.exclusive


def test_left_and_right_eyes() -> None:
    for eye, sign in (("right", 1), ("left", -1)):
        for labels, drawn in eyes(EyeFundus(size=(120, 120), eye=eye), 4):
            x = [np.argwhere(labels.mask(name))[:, 0].mean() for name in ("optic disc", "fovea")]
            assert sign * (x[0] - x[1]) > 20
            assert drawn.landmarks.right == (eye == "right")
    sides = {e.landmarks.right for _, e in eyes(EyeFundus(size=(64, 64), twigs=(8, 8)), 12)}
    assert sides == {True, False}


def test_scale_and_unit() -> None:
    (labels, eye), *_ = eyes(EyeFundus(size=(300, 300), field_deg=(30.0, 30.0)))
    assert labels.spacing[0] == pytest.approx(30 * 0.288 / (2 * 0.485 * 300))
    assert labels.unit == "mm"
    (labels, eye), *_ = eyes(EyeFundus(size=(300, 300), um_per_px=20.0, unit="px"))
    assert labels.spacing == (1, 1, 1)
    assert labels.unit == "px"
    tall = 2 * eye.landmarks.disc.b * 20 / 1000
    assert 1.65 <= tall <= 2.15


def test_nothing_is_labelled_beyond_the_field() -> None:
    for labels, eye in eyes(EyeFundus(size=(200, 160))):
        x, y = np.ogrid[:200, :160]
        beyond = np.hypot(x - eye.field.x, y - eye.field.y) > eye.field.radius + 1
        assert not labels.masks()[..., 0][:, beyond].any()


def test_thin_vessels_are_not_broken() -> None:
    (labels, _), *_ = eyes(EyeFundus(size=(220, 220), structures=("artery",), artery_um=(40.0, 40.0)))
    _, parts = ndimage.label(labels.mask("artery")[..., 0], np.ones((3, 3)))
    assert parts < 15  # some trees leave the field and return


EFFECTS: tuple[tuple[str, dict[str, object], dict[str, object]], ...] = (
    ("field_deg", {"field_deg": (30.0, 30.0)}, {"field_deg": (60.0, 60.0)}),
    ("um_per_px", {"um_per_px": 20.0}, {"um_per_px": 60.0}),
    ("centre", {"centre": "disc"}, {"centre": "macula"}),
    ("eye", {"eye": "left"}, {"eye": "right"}),
    ("murray", {"murray": (2.2, 2.2)}, {"murray": (3.4, 3.4)}),
    ("artery_um", {"artery_um": (90.0, 90.0)}, {"artery_um": (200.0, 200.0)}),
    ("avr", {"avr": (0.5, 0.5)}, {"avr": (0.9, 0.9)}),
    ("twigs", {"twigs": (20, 20)}, {"twigs": (120, 120)}),
    ("tortuosity", {"tortuosity": (0.0, 0.0)}, {"tortuosity": (3.0, 3.0)}),
    ("disc_mm", {"disc_mm": (1.5, 1.5)}, {"disc_mm": (2.4, 2.4)}),
    ("cup", {"cup": (0.2, 0.2)}, {"cup": (0.8, 0.8)}),
    ("fovea_mm", {"fovea_mm": (3.6, 3.6)}, {"fovea_mm": (5.2, 5.2)}),
    ("free_mm", {"free_mm": (0.2, 0.2)}, {"free_mm": (1.2, 1.2)}),
    ("labelled_um", {"labelled_um": 0.0}, {"labelled_um": 90.0}),
    ("least_px", {"least_px": 1.0}, {"least_px": 4.0}),
)


@pytest.mark.parametrize(("name", "one", "other"), EFFECTS, ids=[e[0] for e in EFFECTS])
def test_every_parameter_shows(name: str, one: dict[str, object], other: dict[str, object]) -> None:
    maps = [eyes(EyeFundus(size=(160, 160), **x), 1)[0][0].array for x in (one, other)]  # type: ignore[arg-type]
    assert (maps[0] != maps[1]).sum() > 20, name


def test_unlabelled_vessels_still_hold_blood() -> None:
    (all_, one), (few, other) = (eyes(EyeFundus(size=(160, 160), labelled_um=x), 1)[0] for x in (0.0, 80.0))
    assert few.mask("artery").sum() < 0.8 * all_.mask("artery").sum()
    np.testing.assert_array_equal(one.lumen_um, other.lumen_um)


@settings(max_examples=12)
@given(
    size=st.tuples(st.integers(16, 150), st.integers(16, 150)),
    degrees=st.floats(15, 100),
    exponent=st.floats(1.6, 4.9),
    twigs=st.integers(4, 90),
    winding=st.floats(0, 4),
    centre=st.sampled_from(["macula", "disc", "between", "any"]),
    seed=st.integers(0, 99),
)
def test_any_parameters_draw_a_valid_eye(
    size: tuple[int, int], degrees: float, exponent: float, twigs: int, winding: float, centre: str, seed: int
) -> None:
    anatomy = EyeFundus(
        size=size, field_deg=(degrees, degrees), murray=(exponent, exponent), twigs=(twigs, twigs),
        tortuosity=(winding, winding), centre=centre,
    )  # fmt: skip
    ((labels, eye),) = eyes(anatomy, 1, seed)
    assert labels.array.shape == (5, *size, 1)
    assert labels.masks().any()
    assert np.isfinite(eye.lumen_um).all()
    assert eye.lumen_um.min() >= 0
    assert 0 <= eye.axis.min() <= eye.axis.max() <= 1


# ---------------------------------------------------------------- learning


def test_fit_recovers_density_width_and_place() -> None:
    for twigs, width in ((40, 150.0), (170, 110.0)):
        cases = photographs(3, twigs=(twigs, twigs), artery_um=(width, width))
        fitted = EyeFundus().fit(cases, rng_for(0, "fit"))
        made = eyes(fitted, 5)
        assert {labels.scheme for labels, _ in made} == {cases[0].labels.scheme}
        real = np.mean([signature_of(c.labels, made[0][1].field) for c in cases], axis=0)
        drawn = np.mean([signature_of(x[0], x[1].field) for x in made], axis=0)
        np.testing.assert_allclose(drawn, real, rtol=0.25)
        assert fitted.parents == {c.patient for c in cases}


def test_fit_sees_field_and_disc() -> None:
    cases = photographs(3)
    truths = [eye for _, eye in eyes(EyeFundus(size=(180, 170), structures=("vessel",), unit="px"), 3, seed=3)]
    fitted = EyeFundus().fit(cases, rng_for(0, "fit"))
    assert fitted._learned is not None
    for frame, truth in zip(fitted._learned.frames, truths, strict=True):
        assert frame.field.radius == pytest.approx(truth.field.radius, rel=0.03)
        assert frame.um_per_px == pytest.approx(truth.landmarks.um_per_px, rel=0.25)
        assert frame.disc is not None
        assert np.hypot(*(frame.disc - [truth.landmarks.disc.x, truth.landmarks.disc.y])) < 0.15 * truth.field.radius


def test_learns_only_if_it_is_to() -> None:
    cases = photographs(2)
    kept = SMALL.__class__(size=(64, 64), learn=False).fit(cases, rng_for(0, "fit"))
    assert kept.parents == frozenset()
    assert next(kept.draw(1, rng_for(0, "d"))).scheme.names == ("artery", "vein", "optic disc", "optic cup", "fovea")


def test_exclusive_scheme_is_kept() -> None:
    case = photographs(1)[0]
    scheme = LabelScheme.of(["artery", "vein", "optic disc"], exclusive=True)
    masks = np.concatenate([case.labels.array, np.zeros((2, 180, 170, 1), np.uint8)])
    given = replace(case, truth=LabelMap.on(case.labels.geometry, masks, scheme))
    for labels in EyeFundus().fit([given], rng_for(0, "fit")).draw(3, rng_for(0, "d")):
        assert labels.scheme == scheme
        assert labels.masks().sum(axis=0).max() == 1
        assert labels.masks().reshape(3, -1).any(axis=1).all()


@functools.cache
def few_photographs() -> tuple[Case, ...]:
    return photographs(2, twigs=(30, 30))


class TestContract(AnatomyContract):
    def make(self) -> EyeFundus:
        return SMALL

    def cases(self) -> Sequence[Case]:
        return few_photographs()


class TestContractOfTheDefault(AnatomyContract):
    learns = False

    def make(self) -> EyeFundus:
        return replace(SMALL, learn=False)


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"size": (512,)}, "size"),
        ({"size": (8, 512)}, "16 to 4096"),
        ({"field_deg": (0.0, 40.0)}, "field_deg"),
        ({"field_deg": (50.0, 40.0)}, "smallest, largest"),
        ({"um_per_px": 0.0}, "um_per_px"),
        ({"murray": (0.0, 3.0)}, "murray"),
        ({"avr": (0.7, float("nan"))}, "avr"),
        ({"twigs": (0, 10)}, "twigs"),
        ({"cup": (0.2, 1.5)}, "cup"),
        ({"eye": "third"}, "Known: both, left, right"),
        ({"centre": "makula"}, "Did you mean 'macula'"),
        ({"unit": "cm"}, "unit"),
        ({"structures": ()}, "at least one"),
        ({"structures": ("artery", "artery")}, "each name once"),
        ({"structures": ("arteries",)}, "Did you mean 'artery'"),
    ],
)
def test_parameters_out_of_range_are_refused(wrong: dict[str, object], says: str) -> None:
    with pytest.raises(EquipoiseError, match=says):
        EyeFundus(**wrong)  # type: ignore[arg-type]


def test_unusable_cases_are_refused_with_the_fix() -> None:
    case = photographs(1)[0]
    strange = replace(case, truth=replace(case.labels, scheme=LabelScheme.of(["vessels"])))
    grid = Geometry.from_spacing((20, 20, 1), (1, 1, 1))
    hounsfield = Case(
        "ct", "p", Image.on(grid, np.full((1, 20, 20, 1), -500.0)),
        LabelMap.on(grid, np.ones((1, 20, 20, 1), np.uint8), LabelScheme.of(["vessel"])),
    )  # fmt: skip
    with pytest.raises(DataError, match="Did you mean 'vessel'"):
        EyeFundus().fit([strange], rng_for(0, "fit"))
    with pytest.raises(DataError, match="no training case"):
        EyeFundus().fit([], rng_for(0, "fit"))
    with pytest.raises(DataError, match="no fundus photograph"):
        EyeFundus().fit([hounsfield], rng_for(0, "fit"))


def test_pieces_lie_where_the_eye_does() -> None:
    tree = Tree(np.array([[0.0, 0.0], [1.0, 0.5]]), np.array([-1, 0]), np.array([0.1, 0.05]))
    disc = Ellipse(100, 80, 40, 42)
    left = Landmarks(disc, disc, (300, 90), 20.0)
    np.testing.assert_allclose(pieces_of(tree, left), [[100, 80, 150, 55, 2.5]])
    right = replace(left, fovea=(-100, 90))
    np.testing.assert_allclose(pieces_of(tree, right), [[100, 80, 50, 55, 2.5]])

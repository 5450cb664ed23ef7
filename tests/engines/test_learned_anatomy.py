"""The anatomy `learned`: known families of shapes come back as they were, and what is unlike them does not."""

from __future__ import annotations

import subprocess
import sys
import warnings
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import cKDTree

from equipoise.core import Case, Geometry, Image, LabelMap, LabelScheme, rng_for
from equipoise.core.registry import make
from equipoise.engines.anatomy.learned import LearnedAnatomy, learning
from equipoise.engines.anatomy.learned.checks import COPY, Known, Rules
from equipoise.engines.anatomy.learned.field_diffusion import FieldDiffusion
from equipoise.engines.anatomy.learned.frame import Frame, signed_distance
from equipoise.engines.anatomy.learned.measuring import euler_number, holes_and_handles, measured, pieces
from equipoise.engines.anatomy.learned.spread import Joint
from equipoise.engines.anatomy.learned.structures import Structures
from equipoise.engines.parts.learned.checkpoint import kept_in
from equipoise.errors import DataError, EngineError, EquipoiseError, GeometryMismatchError, LabelError, PlanError
from equipoise.testing.anatomy_contract import AnatomyContract, lesion_cases

ONE = LabelScheme.of(["organ"])
TWO = LabelScheme.of(["organ", "core"], exclusive=False)
HALVES = LabelScheme.of(["front", "back"])


class TestFewMaps(AnatomyContract):
    def make(self) -> LearnedAnatomy:
        return LearnedAnatomy(resolution=32)


class TestVolumes(TestFewMaps):
    def make(self) -> LearnedAnatomy:
        return LearnedAnatomy(resolution=16)

    def cases(self) -> Sequence[Case]:
        return lesion_cases(dimension=3)


class TestPatches(TestFewMaps):
    keeps_grids = False

    def make(self) -> LearnedAnatomy:
        return LearnedAnatomy(resolution=32, patch=24, foreground=1.0)


# ---------------------------------------------------------------- families of shapes whose parameters are known


def ellipse(shape: tuple[int, ...], centre: Sequence[float], axes: Sequence[float], spacing: float = 1.0) -> np.ndarray:
    x, y = ((np.arange(n) * spacing) for n in shape)
    return ((x[:, None] - centre[0]) / axes[0]) ** 2 + ((y[None] - centre[1]) / axes[1]) ** 2 <= 1


def case_of(masks: Sequence[np.ndarray], number: int, scheme: LabelScheme, spacing: float = 1.0, **where: Any) -> Case:
    array = np.stack(masks).astype(np.uint8)
    array = array if array.ndim == 4 else array[..., None]
    geometry = Geometry.from_spacing(array.shape[1:], (spacing,) * 3, **where)
    image = Image.on(geometry, np.zeros((1, *geometry.shape), np.float32))
    return Case(f"case-{number}", f"patient-{number}", image, LabelMap.on(geometry, array, scheme))


def ellipses(n: int, seed: int = 0, moves: float = 3.0, shape: tuple[int, int] = (64, 56)) -> list[Case]:
    """Two parameters: half axes of 10 to 18 and 8 to 13; they lie about the middle."""
    rng = rng_for(seed, "ellipses")
    middle = (np.array(shape) - 1) / 2
    return [
        case_of([ellipse(shape, middle + rng.normal(0, moves, 2), (rng.uniform(10, 18), rng.uniform(8, 13)))], i, ONE)
        for i in range(n)
    ]


def cored(n: int, lacking: float = 0.0, seed: int = 0) -> list[Case]:
    """An ellipse with a disc inside, which a share of the maps lacks."""
    rng = rng_for(seed, "cored")
    out = []
    for i in range(n):
        centre, axes = rng.normal((24, 22), 1.5), rng.uniform((10, 8), (14, 11))
        core = ellipse((48, 44), centre + np.array([2, 0]), (rng.uniform(3.5, 5.5),) * 2) & (i >= round(lacking * n))
        out.append(case_of([ellipse((48, 44), centre, axes), core], i, TWO))
    return out


def halved(n: int, seed: int = 0) -> list[Case]:
    """An ellipse of two halves that touch along a line which wanders."""
    rng = rng_for(seed, "halved")
    out = []
    for i in range(n):
        centre, axes = rng.normal((24, 22), 1.5), rng.uniform((11, 9), (16, 12))
        whole = ellipse((48, 44), centre, axes)
        front = np.arange(48)[:, None] < centre[0] + rng.uniform(-3, 3) + 0.2 * (np.arange(44)[None] - 22)
        out.append(case_of([whole & front, whole & ~front], i, HALVES))
    return out


def half_axes(labels: LabelMap) -> np.ndarray:
    """Half axes of an ellipse from its second moments."""
    at = np.argwhere(labels.masks()[0])[:, :2] * np.array(labels.spacing)[:2]
    return 2 * at.std(axis=0)


@cache
def fitted(family: str, **options: Any) -> LearnedAnatomy:
    cases = {"ellipses": ellipses(24), "cored": cored(24, 0.25), "halved": halved(24)}[family]
    return LearnedAnatomy(**{"resolution": 48, **options}).fit(cases, rng_for(0, "fit"))


def drawn(anatomy: LearnedAnatomy, n: int = 30, seed: int = 1) -> list[LabelMap]:
    return list(anatomy.draw(n, rng_for(seed, "draw")))


def test_two_parameters_are_two_modes_and_come_back_as_they_were_spread() -> None:
    anatomy = fitted("ellipses", spread=3.0, tolerance=3.0)
    # Alignment takes the size; the ratio of the axes is left, and how it bends in a linear model.
    explained = anatomy._learned.model.blocks[0].explained
    assert anatomy.provenance["modes"] <= 3
    assert explained[0] > 0.8
    assert explained[:2].sum() > 0.9
    assert anatomy.provenance["Dice of 'organ' held out and rebuilt"] > 0.97
    assert anatomy.provenance["Dice of 'organ' through the working grid"] > 0.98
    real = np.array([half_axes(c.labels) for c in ellipses(24)])
    made = np.array([half_axes(m) for m in drawn(anatomy, 120)])
    # 24 maps know a mean to sd / 5 and an sd to a seventh; three times that, and the draws' own chance.
    assert (np.abs(made.mean(axis=0) - real.mean(axis=0)) < 0.8 * real.std(axis=0)).all()
    assert (made.std(axis=0) / real.std(axis=0) > 0.6).all()
    assert (made.std(axis=0) / real.std(axis=0) < 1.5).all()
    for labels in drawn(anatomy):
        mask = labels.masks()[0, ..., 0]
        whole = ellipse(mask.shape, np.argwhere(mask).mean(axis=0), half_axes(labels))
        assert 2 * (whole & mask).sum() / (whole.sum() + mask.sum()) > 0.95, "what is drawn is no ellipse"


def test_drawn_maps_have_the_topology_and_sizes_of_training_maps_and_are_no_copies() -> None:
    for family in ("ellipses", "cored", "halved"):
        anatomy = fitted(family)
        maps = drawn(anatomy)
        training = {"ellipses": ellipses(24), "cored": cored(24, 0.25), "halved": halved(24)}[family]
        sizes = np.array([c.labels.masks()[0].sum() for c in training])
        assert all(pieces(m.masks()[0]) == 1 for m in maps)
        assert abs(np.mean([m.masks()[0].sum() for m in maps]) / sizes.mean() - 1) < 0.15
        nearest = [anatomy.nearest(m) for m in maps]
        assert max(dice for _, dice in nearest) < COPY
        assert {name for name, _ in nearest} <= {c.id for c in training}
        assert anatomy.rejected["kept"] >= 30


def test_a_structure_inside_another_stays_there_and_is_lacking_as_often() -> None:
    maps = drawn(fitted("cored"), 80)
    with_core = [m for m in maps if m.masks()[1].any()]
    assert all((m.masks()[1] <= m.masks()[0]).all() for m in with_core)
    assert abs(1 - len(with_core) / len(maps) - 0.25) < 0.15  # three standard errors of a share of 80


def test_halves_of_an_exclusive_scheme_touch_without_a_gap() -> None:
    for labels in drawn(fitted("halved"), 20):
        front, back = labels.masks()[..., 0]
        assert not (front & back).any()
        assert holes_and_handles(front | back)[0] == 0
        assert pieces(front | back) == 1


def test_instances_that_name_places_keep_their_numbers() -> None:
    def pair(i: int, names_places: bool) -> Case:
        rng = rng_for(i, "pair")
        left, right = (ellipse((60, 40), (x, 20 + rng.normal(0, 1)), rng.uniform(7, 10, 2)) for x in (18, 42))
        numbers = (1, 2) if names_places or rng.random() < 0.5 else (2, 1)
        case = case_of([left], i, ONE)
        voxels = (numbers[0] * left + numbers[1] * right).astype(np.uint8)[None, ..., None]
        return replace(case, truth=replace(case.labels, voxels=voxels))

    for names_places in (True, False):
        cases = [pair(i, names_places) for i in range(12)]
        structures = Structures.of([c.labels for c in cases])
        assert len(structures.each) == (2 if names_places else 1)
        assert structures.counted == (not names_places,)
        for labels in drawn(LearnedAnatomy(resolution=48).fit(cases, rng_for(0)), 5):
            found = [np.argwhere(labels.array[0] == k)[:, 0].mean() for k in (1, 2)]
            assert found[0] < found[1]
            assert labels.array.max() == 2


def test_maps_of_mixed_spacing_are_learned_in_mm() -> None:
    """The same discs of 8 to 12 mm on voxels of 0.5, 1 and 2 mm."""
    rng = rng_for(0, "spacing")
    cases = []
    for i in range(15):
        spacing = (0.5, 1.0, 2.0)[i % 3]
        side = round(48 / spacing)
        mask = ellipse((side, side), (24, 24), (rng.uniform(8, 12),) * 2, spacing)
        cases.append(case_of([mask], i, ONE, spacing))
    maps = drawn(LearnedAnatomy(resolution=48).fit(cases, rng_for(0)), 30)
    assert {m.spacing[0] for m in maps} == {0.5, 1.0, 2.0}
    for spacing in (0.5, 1.0, 2.0):
        radii = [np.sqrt(m.masks().sum() / np.pi) * spacing for m in maps if m.spacing[0] == spacing]
        assert 8 < np.mean(radii) < 12


def test_a_map_survives_the_working_grid_and_back() -> None:
    case = ellipses(1)[0]
    structures = Structures.of([case.labels])
    frame = Frame.of([case.labels], structures, 48, True)
    pose = frame.pose(case.labels, structures)
    fields = frame.draw(frame.fields(case.labels, pose, structures), pose, case.labels.geometry)
    again, truth = fields[0] < 0, case.labels.masks()[0]
    assert 2 * (again & truth).sum() / (again.sum() + truth.sum()) > 0.985
    edge = cKDTree(np.argwhere(truth ^ np.roll(truth, 1, 0)))
    assert edge.query(np.argwhere(again ^ truth))[0].max(initial=0) <= 2.5, "only at the boundary"


# ---------------------------------------------------------------- every option


def test_spread_holds_shapes_to_their_mean() -> None:
    def spread(value: float) -> float:
        return float(np.std([half_axes(m) for m in drawn(fitted("ellipses", spread=value), 20)], axis=0).mean())

    assert spread(0.5) < 0.5 * spread(2.0)
    same = [m.array for m in drawn(fitted("ellipses", spread=0.0), 3)]
    assert np.array_equal(same[0], same[1])


def test_variance_chooses_the_number_of_modes() -> None:
    few, many = fitted("halved", variance=0.6), fitted("halved", variance=0.99)
    assert few.provenance["modes"] < many.provenance["modes"]
    assert few.provenance["variance kept"] >= 0.6
    name = "Dice of 'front' held out and rebuilt"
    assert few.provenance[name] < many.provenance[name]


def test_resolution_is_that_of_the_working_grid() -> None:
    coarse, fine = fitted("halved", resolution=16), fitted("halved", resolution=64)
    assert max(map(int, str(coarse.provenance["working grid"]).split(" x "))) == 16
    name = "Dice of 'front' through the working grid"
    assert coarse.provenance[name] < fine.provenance[name]


def test_alignment_takes_the_place_out_of_the_shape() -> None:
    cases = ellipses(24, moves=6.0)
    on, off = (LearnedAnatomy(resolution=48, align=a, tolerance=3).fit(cases, rng_for(0)) for a in (True, False))
    assert on.provenance["modes"] < off.provenance["modes"]
    name = "Dice of 'organ' held out and rebuilt"
    assert on.provenance[name] > off.provenance[name] + 0.01


def test_tolerance_decides_how_many_are_redrawn() -> None:
    strict, loose = (fitted("halved", tolerance=t, spread=3.0) for t in (0.0, 8.0))
    for anatomy in (strict, loose):
        drawn(anatomy, 40)
    assert strict.rejected["rejected"] > 2 * loose.rejected["rejected"] + 5
    assert strict.provenance["rejected in a pilot"] > loose.provenance["rejected in a pilot"]
    assert sum(strict.rejected.values()) > strict.rejected["kept"] + strict.rejected["rejected"], "reasons are counted"


def test_attempts_end_in_an_error_that_says_what_fails() -> None:
    anatomy = fitted("ellipses", attempts=3)
    learned = anatomy._learned
    assert learned is not None
    nothing = replace(learned.rules, ranges={"size of 'organ'": (50.0, 51.0)})
    hopeless = replace(anatomy, _learned=replace(learned, rules=nothing))
    with pytest.raises(EngineError, match=r"drew 3 maps and none .* size of 'organ' is too small \(3 x\)") as caught:
        next(hopeless.draw(1, rng_for(0)))
    assert "spread" in str(caught.value)


def test_patches_are_cut_at_native_spacing_around_labels() -> None:
    whole, cut = fitted("ellipses"), fitted("ellipses", patch=20, foreground=1.0)
    anywhere = fitted("ellipses", patch=20, foreground=0.0)
    around, all_over = drawn(cut), drawn(anywhere)
    assert {m.geometry.shape for m in around} == {(20, 20, 1)}
    assert {m.spacing for m in around} == {m.spacing for m in drawn(whole)}
    assert np.mean([m.masks().any() for m in around]) > np.mean([m.masks().any() for m in all_over])


# ---------------------------------------------------------------- diffusion

SMALL = {"model": "diffusion", "resolution": 16, "channels": (16, 32), "batch": 8, "learning_rate": 2e-3}


@cache
def diffused(**options: Any) -> LearnedAnatomy:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return LearnedAnatomy(**{**SMALL, "tolerance": 3.0, **options}).fit(cored(40, 0.25), rng_for(0, "fit"))


def test_a_diffusion_of_few_maps_warns_and_noise_is_not_handed_out() -> None:
    # After two steps it draws noise, which the rules refuse.
    hasty = LearnedAnatomy(**{**SMALL, "steps": 2, "attempts": 2})
    with (
        pytest.warns(UserWarning, match="trains a diffusion on 12 label maps"),
        pytest.raises(EngineError, match="drew 2 maps and none is like the training maps: "),
    ):
        hasty.fit(discs(12), rng_for(0))


def discs(n: int) -> list[Case]:
    return [case_of([ellipse((24, 24), (11.5, 11.5), (5 + 0.1 * i,) * 2)], i, ONE) for i in range(n)]


def trained(cases: Sequence[Case] = (), **options: Any) -> FieldDiffusion:
    """The diffusion alone, on aligned fields, for as few steps as show what an option does."""
    cases = cases or cored(12, 0.25)
    maps = [c.labels for c in cases]
    structures = Structures.of(maps)
    frame = Frame.of(maps, structures, 16, True, even=4)
    poses = [frame.pose(m, structures) for m in maps]
    fields = np.stack([frame.fields(m, p, structures) for m, p in zip(maps, poses, strict=True)])
    rows = np.array([[*p.centre, np.log(p.size)] for p in poses])
    kind = LearnedAnatomy(**{**SMALL, "steps": 10, "sampling_steps": 2, **options})
    patients = [c.patient for c in cases]
    return FieldDiffusion.of(fields, structures.present, rows, patients, kind, frame.step, 3, "a mark")


def weights(model: FieldDiffusion) -> np.ndarray:
    return np.concatenate([p.detach().numpy().ravel() for p in model.denoiser.networks["fields"].parameters()])


def test_options_of_the_training_reach_it() -> None:
    usual = trained()
    assert usual.record.looks[-1].step == 10
    assert trained(steps=5).record.looks[-1].step == 5
    assert len(weights(trained(channels=(16, 16)))) < len(weights(usual))
    slow, fast = trained(learning_rate=1e-6), usual
    assert slow.record.losses[-1]["velocity"] > fast.record.losses[-1]["velocity"]
    larger = trained(batch=16)
    assert not np.array_equal(weights(larger), weights(usual))


def test_every_case_says_how_its_anatomy_was_fitted() -> None:
    engine = make("engines", {"kind": "simulate-xray", "anatomy": {"kind": "learned"}}).fit(discs(12), rng_for(0))
    (case,) = engine.sample(1, rng_for(1))
    assert case.attributes["anatomy model"] == "pca"
    assert case.attributes["anatomy modes"] == engine._anatomy.provenance["modes"]
    (given,) = engine.sample(1, rng_for(1), [case.labels])
    assert not [name for name in given.attributes if name.startswith("anatomy")]


def test_volumes_are_diffused_on_a_coarse_grid() -> None:
    model = trained(lesion_cases(5, 3), steps=3)
    fields, row = model.draw(rng_for(0), np.array([True]), 2.0)
    assert fields.shape == (1, *model.shape)
    assert min(model.shape) > 1
    assert max(model.shape) == 16
    assert row.shape == (4,)
    assert model.record.losses[-1]["velocity"] > 0


def test_sampling_steps_are_calls_of_the_network() -> None:
    for steps in (4, 9):
        model, calls = trained(steps=2, sampling_steps=steps), []
        model.denoiser.networks["fields"].register_forward_hook(lambda *_: calls.append(1))  # noqa: B023
        model.draw(rng_for(0), np.array([True, True]), 2.0)
        assert len(calls) == steps


def test_the_network_is_told_of_pose_and_of_what_is_shown() -> None:
    model = trained(steps=60)
    shown, lacking = (model.draw(rng_for(5), np.array([True, core]), 2.0) for core in (True, False))
    np.testing.assert_array_equal(shown[1], lacking[1])  # the same pose
    assert shown[0][1].mean() < lacking[0][1].mean(), "where the core is lacking, all is outside of it"
    still = model.draw(rng_for(6), np.array([True, True]), 0.0)[1]
    np.testing.assert_allclose(still, model.poses.mean)


def test_a_kept_training_is_continued_and_not_repeated(tmp_path: Path) -> None:
    with kept_in(tmp_path):
        first = trained()
        (kept,) = tmp_path.glob("*/checkpoint.safetensors")
        written = kept.stat().st_mtime_ns
        again = trained()
    np.testing.assert_array_equal(weights(first), weights(again))
    np.testing.assert_array_equal(weights(first), weights(trained()))  # and the same bytes where nothing is kept
    assert kept.stat().st_mtime_ns == written
    assert list(kept.parent.glob("step-*.png"))


def test_a_device_that_is_not_there_is_one_error() -> None:
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    with pytest.raises(EngineError, match="'cuda'"):
        trained(device="cuda")


def test_crops_keep_the_patients_and_lie_around_labels() -> None:
    cases = many_dots(3)
    crops = learning._crops(cases, 20, 1.0, rng_for(0))
    assert len(crops) >= learning.CROPS
    assert {m.geometry.shape for _, _, m in crops} == {(20, 20, 1)}
    assert {(name, patient) for name, patient, _ in crops} == {(c.id, c.patient) for c in cases}
    assert all(m.masks().any() for _, _, m in crops)


@pytest.mark.slow
def test_diffusion_learns_crops_of_a_population_that_modes_refuse() -> None:
    options = {"resolution": 24, "steps": 800, "align": False, "patch": 24}
    with pytest.raises(DataError, match="pieces in a typical map"):
        LearnedAnatomy(model="pca", resolution=24).fit(many_dots(8), rng_for(0))
    anatomy = LearnedAnatomy(model="diffusion", **options).fit(many_dots(8), rng_for(0))
    maps = drawn(anatomy, 30)
    assert {m.geometry.shape for m in maps} == {(24, 24, 1)}

    def per_piece(some: Sequence[LabelMap]) -> float:
        return float(np.mean([m.masks().sum() / pieces(m.masks()[0]) for m in some if m.masks().any()]))

    real = [m for _, _, m in learning._crops(many_dots(8), 24, 0.5, rng_for(1))]
    assert per_piece(maps) == pytest.approx(per_piece(real), rel=0.3)
    assert np.mean([m.masks().mean() for m in maps]) == pytest.approx(
        np.mean([m.masks().mean() for m in real]), rel=0.5
    )
    assert np.mean([pieces(m.masks()[0]) for m in maps]) > 1.3
    assert len(anatomy.parents) == 8


@pytest.mark.slow
def test_diffusion_draws_two_labels_with_their_topology_and_sizes() -> None:
    anatomy = diffused(steps=600)
    assert anatomy.provenance["model"] == "diffusion"
    maps = drawn(anatomy, 30)
    assert anatomy.rejected["rejected"] <= anatomy.rejected["kept"], "at least half pass at once"
    assert all(pieces(m.masks()[0]) == 1 for m in maps)
    assert all((m.masks()[1] <= m.masks()[0]).all() for m in maps)
    real = [c.labels.masks()[0].sum() for c in cored(40, 0.25)]
    made = [m.masks()[0].sum() for m in maps]
    assert abs(np.mean(made) / np.mean(real) - 1) < 0.15
    assert 0.4 < np.std(made) / np.std(real) < 1.8
    assert max(anatomy.nearest(m)[1] for m in maps) < COPY
    assert abs(np.mean([not m.masks()[1].any() for m in maps]) - 0.25) < 0.25


@pytest.mark.slow
class TestDiffusion(AnatomyContract):
    def make(self) -> LearnedAnatomy:
        return LearnedAnatomy(**{**SMALL, "steps": 300, "tolerance": 5.0})

    def cases(self) -> Sequence[Case]:
        return cored(12)

    def fitted(self) -> Any:
        return _fitted_quietly(self.make(), tuple(self.cases()))

    @pytest.mark.filterwarnings("ignore:anatomy 'learned' trains")
    def test_fit_changes_nothing_it_was_given(self) -> None:
        super().test_fit_changes_nothing_it_was_given()


_FITS: dict[LearnedAnatomy, LearnedAnatomy] = {}


def _fitted_quietly(anatomy: LearnedAnatomy, cases: tuple[Case, ...]) -> LearnedAnatomy:
    if anatomy not in _FITS:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            _FITS[anatomy] = anatomy.fit(cases, rng_for(0, "fit"))
    return _FITS[anatomy]


def chosen(cases: Sequence[Case], **options: Any) -> str:
    return learning._chosen(LearnedAnatomy(resolution=24, **options), cases, rng_for(0))[0]


def test_auto_chooses_by_number_and_by_what_modes_can_follow() -> None:
    assert LearnedAnatomy(resolution=16).fit(discs(12), rng_for(0)).provenance["model"] == "pca"
    assert chosen(scattered(learning.MANY_CASES - 1)) == "pca"
    assert chosen(scattered(learning.MANY_CASES)) == "diffusion"
    assert chosen(ellipses(learning.MANY_CASES)) == "pca", "modes follow ellipses"
    assert chosen(ellipses(12), model="diffusion") == "diffusion"
    assert chosen(scattered(learning.MANY_CASES), model="pca") == "pca"


# ---------------------------------------------------------------- what is measured


def test_topology_of_known_bodies() -> None:
    ball = np.ones((5, 5, 5), bool)
    shell = ball.copy()
    shell[2, 2, 2] = False
    ring = np.ones((5, 5, 1), bool)
    ring[2, 2] = False
    assert (euler_number(ball), holes_and_handles(ball)) == (1, (0, 0))
    assert (euler_number(shell), holes_and_handles(shell)) == (2, (1, 0))
    assert (euler_number(ring), holes_and_handles(ring)) == (0, (0, 1))
    assert holes_and_handles(ring[..., 0]) == (1, 0)
    two = np.zeros((9, 5), bool)
    two[:3], two[6:] = True, True
    assert (euler_number(two), pieces(two)) == (2, 2)
    two[6:] = False
    two[8, 2] = True  # a speck of less than a fiftieth is no piece
    assert pieces(np.pad(two, ((0, 0), (0, 60)), constant_values=False) | _wide(two)) == 1


def _wide(mask: np.ndarray) -> np.ndarray:
    out = np.zeros((mask.shape[0], mask.shape[1] + 60), bool)
    out[:3] = True
    return out


@given(st.integers(0, 10**6), st.sampled_from([2, 3]))
@settings(max_examples=15)
def test_euler_number_agrees_with_an_independent_count(seed: int, ndim: int) -> None:
    measure = pytest.importorskip("skimage.measure")
    mask = rng_for(seed, "mask").random((7, 6, 5)[:ndim]) < 0.5
    assert euler_number(mask) == measure.euler_number(mask, connectivity=ndim)


def test_signed_distance_of_a_disc() -> None:
    mask = ellipse((61, 61), (30, 30), (20, 20))
    distance = signed_distance(mask[..., None], np.ones(3))[..., 0]
    radius = np.hypot(*(np.indices((61, 61)) - 30))
    assert np.abs(distance - (radius - 20)).max() < 1.0  # a voxel's own diagonal
    assert ((distance < 0) == mask).all()


def test_rules_name_what_is_wrong() -> None:
    rules = Rules.of([c.labels for c in cored(12)], 1.0)
    good = cored(13)[-1].labels

    def broken(change: Any) -> str:
        array = good.array.copy()
        change(array)
        return " | ".join(rules.broken(replace(good, voxels=array)))

    assert rules.broken(cored(12)[3].labels) == ()
    assert "too many pieces of 'organ'" in broken(lambda a: a[0].__setitem__((slice(0, 4), slice(0, 9)), 1))
    assert "too many holes in 'core'" in broken(lambda a: a[1].__setitem__(tuple(np.argwhere(a[1])[30]), 0))
    assert "'organ' cut by the border" in broken(lambda a: a[0].__setitem__((slice(None), slice(20, 24)), 1))
    assert "size of 'core' is too large" in broken(lambda a: a.__setitem__(1, a[0]))
    assert "touches" in broken(lambda a: a.__setitem__(1, np.roll(a[1], 20, 1)))


def test_a_training_map_is_found_to_be_a_copy() -> None:
    cases = ellipses(6)
    known = Known.of([c.id for c in cases], [c.labels for c in cases])
    assert known.nearest(cases[4].labels) == ("case-4", 1.0)
    assert known.nearest(replace(cases[0].labels, voxels=np.zeros_like(cases[0].labels.array)))[1] == 0.0


def test_what_varies_together_is_drawn_together() -> None:
    rng = rng_for(0, "joint")
    rows = rng.multivariate_normal([1, 2], [[1, 0.9], [0.9, 1]], 200)
    rows[:20, 1] = np.nan
    joint = Joint.of(np.column_stack([rows, np.full(200, 5.0)]))
    made = np.array([joint.draw(rng, 3.0) for _ in range(800)])
    assert np.corrcoef(made[:, 0], made[:, 1])[0, 1] > 0.75
    np.testing.assert_allclose(made.mean(axis=0), [1, 2, 5], atol=0.25)
    assert (made[:, 2] == 5).all(), "what does not vary stays"
    held = np.array([joint.draw(rng, 1.0) for _ in range(100)])
    assert (np.abs(held - joint.mean) <= joint.sd + 1e-9).all()


@given(
    n=st.integers(3, 6),
    seed=st.integers(0, 10**6),
    spacing=st.floats(0.3, 3.0),
    shape=st.tuples(st.integers(20, 40), st.integers(20, 40)),
)
@settings(max_examples=5)
def test_whatever_is_learned_is_drawn_on_a_grid_of_the_data(
    n: int, seed: int, spacing: float, shape: tuple[int, int]
) -> None:
    rng = rng_for(seed, "property")
    masks = [ellipse(shape, np.array(shape) / 2 + rng.normal(0, 1, 2), rng.uniform(4, 9, 2)) for _ in range(n)]
    cases = [case_of([m], i, ONE, spacing) for i, m in enumerate(masks)]
    anatomy = LearnedAnatomy(resolution=24, tolerance=5).fit(cases, rng_for(seed, "fit"))
    for labels in anatomy.draw(3, rng_for(seed, "draw")):
        assert labels.geometry.shape == (*shape, 1)
        assert labels.spacing == pytest.approx((spacing,) * 3)
        assert labels.masks().any()
        assert measured(labels).counts["pieces of 'organ'"] == 1


# ---------------------------------------------------------------- bad input


def flat(n: int = 4) -> list[Case]:
    return ellipses(n)


def emptied(cases: Sequence[Case]) -> list[Case]:
    return [replace(c, truth=replace(c.labels, voxels=np.zeros_like(c.labels.array))) for c in cases]


def turned(case: Case) -> Case:
    affine = np.diag([-1.0, 1, 1, 1])
    return replace(case, image=replace(case.image, affine=affine), truth=replace(case.labels, affine=affine))


def many_dots(n: int) -> list[Case]:
    rng = rng_for(0, "dots")
    out = []
    for i in range(n):
        grid = np.zeros((60, 60), bool)
        for x, y in rng.integers(3, 57, (14, 2)):
            grid |= ellipse((60, 60), (x, y), (2.5, 2.5))
        out.append(case_of([grid], i, ONE))
    return out


def scattered(n: int) -> list[Case]:
    rng = rng_for(0, "scattered")
    out = []
    for i in range(n):
        mask = np.zeros((48, 48), bool)
        for _ in range(3):
            mask |= ellipse((48, 48), rng.uniform(8, 40, 2), rng.uniform(2, 6, 2))
        out.append(case_of([mask], i, ONE))
    return out


def threads(n: int) -> list[Case]:
    out = []
    for i in range(n):
        mask = np.zeros((200, 200), bool)
        mask[10:190, 60 + i], mask[100, 20:180] = True, True
        out.append(case_of([mask], i, ONE))
    return out


BAD: dict[str, tuple[Any, type[EquipoiseError], str]] = {
    "no map": (list, DataError, r"was given 0 label map"),
    "one map": (lambda: flat(1), DataError, r"was given 1 label map.*needs 3"),
    "two maps": (lambda: flat(2), DataError, r"was given 2 label map"),
    "all empty": (lambda: emptied(flat()), DataError, r"all 4 label maps are empty"),
    "a class never present": (lambda: cored(6, 1.0), LabelError, r"no training mask contains 'core'"),
    "a class twice present": (lambda: cored(8, 0.75), DataError, r"'core': only 2 of 8 training maps show it"),
    "flat among volumes": (lambda: [*flat(), *lesion_cases(1, 3)], LabelError, r"has the labels"),
    "a volume": (
        lambda: [*flat(), case_of([np.ones((8, 8, 8), bool)], 9, ONE)],
        DataError,
        r"is 3-D of shape .* 2-D",
    ),
    "pixels among mm": (
        lambda: [*flat(), case_of([ellipse((64, 56), (30, 30), (9, 9))], 9, ONE, unit="px")],
        GeometryMismatchError,
        r"is measured in px",
    ),
    "mirrored": (lambda: [*flat(), turned(flat(1)[0])], GeometryMismatchError, r"point along \(-1, 2\)"),
    "a population": (lambda: many_dots(6), DataError, r"14|1\d pieces in a typical map.*"),
    "threads": (lambda: threads(6), DataError, r"too thin for the working grid"),
    "no common shape": (lambda: scattered(12), DataError, r"held-out training maps rebuilt .* mean Dice of 0\.\d"),
    "no label map": (lambda: [replace(c, truth=None) for c in flat()], DataError, r"has no label map"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_clear_error(name: str) -> None:
    make, error, message = BAD[name]
    with pytest.raises(error, match=message) as caught:
        LearnedAnatomy(resolution=24).fit(make(), rng_for(0))
    assert name == "no label map" or caught.value.fix, "the message says what to do"


def test_unsuitable_shapes_are_sent_to_the_kind_that_can() -> None:
    with pytest.raises(DataError) as caught:
        LearnedAnatomy(resolution=24).fit(many_dots(6), rng_for(0))
    for kind in ("warped", "tissue", "eye-fundus", "diffusion"):
        assert kind in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": "pac"}, r"Did you mean 'pca'"),
        ({"variance": 0.0}, r"learned\.variance"),
        ({"spread": -1.0}, r"learned\.spread"),
        ({"resolution": 5}, r"learned\.resolution"),
        ({"tolerance": float("nan")}, r"learned\.tolerance"),
        ({"attempts": 0}, r"learned\.attempts"),
        ({"patch": -1}, r"learned\.patch"),
        ({"foreground": 2.0}, r"learned\.foreground"),
        ({"channels": (12,)}, r"learned\.channels"),
        ({"steps": -1}, r"learned\.steps"),
        ({"batch": 0}, r"learned\.batch"),
        ({"learning_rate": 0.0}, r"learned\.learning_rate"),
        ({"sampling_steps": 1}, r"learned\.sampling_steps"),
        ({"device": "gpu"}, r"learned\.device"),
        ({"align": "yes"}, r"learned\.align"),
    ],
)
def test_impossible_parameters_are_refused_at_once(options: dict[str, Any], message: str) -> None:
    with pytest.raises(PlanError, match=message):
        LearnedAnatomy(**options)


def test_drawing_before_fitting_is_an_error() -> None:
    with pytest.raises(EngineError, match="was not fitted"):
        next(LearnedAnatomy().draw(1, rng_for(0)))


def test_empty_maps_are_drawn_as_often_as_they_are_given() -> None:
    cases = [*ellipses(12), *emptied(ellipses(6, seed=1))]
    cases = [replace(c, id=f"c{i}", patient=f"p{i}") for i, c in enumerate(cases)]
    anatomy = LearnedAnatomy(resolution=32).fit(cases, rng_for(0))
    empty = np.mean([not m.masks().any() for m in drawn(anatomy, 90)])
    assert abs(empty - 1 / 3) < 0.15
    assert len(anatomy.parents) == 18


def test_the_kind_is_imported_without_torch() -> None:
    program = "import sys, equipoise.engines.anatomy.learned; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0

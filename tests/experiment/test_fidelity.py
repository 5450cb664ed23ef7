from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import EntryPoint
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
import toys
from scipy import ndimage

from equipoise.core import Case, FitRecord, Image, LabelMap, Origin, patients_of, rng_for
from equipoise.engines.augmentation.beyond import Augmentation
from equipoise.engines.imaging.diffusion import Diffusion
from equipoise.engines.imaging.inpainting import Inpainting
from equipoise.errors import EngineError, LeakageError, NotEnoughCasesError, PlanError
from equipoise.experiment import screening
from equipoise.experiment.fidelity import CrossFit, Judge
from equipoise.experiment.findings import Lineage
from equipoise.experiment.obedience import compared, figures, obeyed
from equipoise.experiment.plan import parse_plan
from equipoise.experiment.preparation import Prepared, prepare
from equipoise.experiment.run import Finished, run
from equipoise.experiment.screening import screen_for, sift, why_off
from equipoise.experiment.tasks import Synthesise
from equipoise.report.story import tell
from equipoise.runners import InProcess
from equipoise.workspace import Workspace
from equipoise.workspace.cases import case_from_bytes
from making import SCHEME, blob_case

Finish = Callable[..., Finished]
ARMS = {"sizes": [8], "replicates": 1, "ratios": [1.0], "budgets": ["steps"], "skip": ["pretrain", "weighted"]}


def calm_case(name: str) -> Case:
    """A case with so little noise that a threshold finds its disc and nothing else."""
    case = blob_case(name)
    disc = case.labels.array.astype(np.float32)
    return replace(case, image=Image(disc + 0.3 * (case.image.array - disc)))


@dataclass(frozen=True)
class CalmCases:
    kind: ClassVar[str] = "calm-cases"

    def read(self) -> list[Case]:
        return [calm_case(f"c{i:02d}") for i in range(24)]


@dataclass(frozen=True)
class OtherEngine:
    """Images of new patients, or as ``does`` says."""

    kind: ClassVar[str] = "other-engine"
    dimensions: ClassVar[tuple[int, ...]] = (2,)
    modalities: ClassVar[tuple[str, ...]] = ("any",)
    needs: ClassVar[str] = "one annotated case."
    renders_labels: ClassVar[bool] = True
    does: str = "new"
    every: int = 1
    _cases: tuple[Case, ...] = field(default=(), repr=False, compare=False)

    def fit(self, cases: Sequence[Case], rng: np.random.Generator) -> OtherEngine:
        return replace(self, _cases=tuple(cases))

    def sample(self, n: int, rng: np.random.Generator, labels: Sequence[LabelMap] | None = None) -> Iterator[Case]:
        for i in range(n):
            key = int(rng.integers(1 << 40))
            case = calm_case(f"new-{key}")
            array, truth = case.image.array.copy(), case.labels.array.copy()
            if i % self.every == 0:
                array, truth = self._done(array, truth, rng, i)
            image = Image(array.astype(np.float32))
            origin = Origin("synthetic", self.kind, parents=patients_of(self._cases))
            yield Case(f"o-{key}", f"synthetic-{key}", image, LabelMap.on(image.geometry, truth, SCHEME), origin)

    def _done(self, array: Any, truth: Any, rng: np.random.Generator, i: int) -> tuple[Any, Any]:
        match self.does:
            case "dilate":
                disc = ndimage.generate_binary_structure(2, 1)
                inside = ndimage.binary_dilation(truth[0, :, :, 0], disc, iterations=1)
                truth = ndimage.binary_dilation(inside, np.ones((3, 3)))[None, :, :, None].astype(np.uint8)
            case "erode":
                inside = ndimage.binary_erosion(truth[0, :, :, 0], np.ones((3, 3)))
                truth = inside[None, :, :, None].astype(np.uint8)
            case "shuffle":
                truth = blob_case(f"else-{rng.integers(1 << 40)}").labels.array
            case "copy":
                parent = self._cases[i % len(self._cases)]
                array, truth = parent.image.array, parent.labels.array
            case "noise":
                array = 3 * rng.standard_normal(array.shape)
            case _:
                pass
        return array, truth


@pytest.fixture(autouse=True)
def _other_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("other-engine", f"{__name__}:OtherEngine", "equipoise.engines")
    monkeypatch.setitem(toys.ENTRIES, "equipoise.engines", [*toys.ENTRIES["equipoise.engines"], point])
    calm = EntryPoint("calm-cases", f"{__name__}:CalmCases", "equipoise.formats")
    monkeypatch.setitem(toys.ENTRIES, "equipoise.formats", [*toys.ENTRIES["equipoise.formats"], calm])


def content(engines: dict[str, Any], **changes: Any) -> dict[str, Any]:
    training = {"steps": 40, "learner": {"kind": "toy-learner", "noise": 0.01}, "augment": {"kind": "none"}}
    return {"data": {"kind": "calm-cases"}, "engines": engines, "arms": ARMS, "training": training, **changes}


def prepared_in(workspace: Workspace, **changes: Any) -> Prepared:
    return prepare(parse_plan(toys.plan_content(**changes)), None, workspace.path / "objects")


def engine_of(does: str, **more: Any) -> dict[str, Any]:
    return {"kind": "other-engine", "does": does, "arms": "few", **more}


# --- one prediction's figures ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Says:
    """A model that answers with a given label map."""

    labels: LabelMap
    parents: frozenset[str] = frozenset()
    record: ClassVar[FitRecord] = FitRecord(0, 0, 0, 0, 0.0)

    def predict(self, image: Image) -> LabelMap:
        return self.labels


def square(half: int) -> LabelMap:
    mask = np.zeros((1, 40, 40, 1), np.uint8)
    mask[:, 20 - half : 20 + half, 20 - half : 20 + half] = 1
    return LabelMap.on(Image(np.zeros((1, 40, 40, 1), np.float32)).geometry, mask, SCHEME)


def square_case(half: int, **more: Any) -> Case:
    return Case("square", "p", Image(np.zeros((1, 40, 40, 1), np.float32)), square(half), **more)


def test_a_larger_prediction_has_a_positive_offset_and_a_smaller_one_a_negative() -> None:
    (larger,) = figures([Says(square(12))], square_case(10), ())
    (smaller,) = figures([Says(square(8))], square_case(10), ())
    assert larger["offset"] == pytest.approx(2, abs=0.15)
    assert smaller["offset"] == pytest.approx(-2, abs=0.15)
    assert larger["dice"] == pytest.approx(2 * 400 / (400 + 576))


def test_figures_are_means_over_models_and_not_of_their_average() -> None:
    (both,) = figures([Says(square(12)), Says(square(8))], square_case(10), ())
    assert both["dice"] == pytest.approx((2 * 400 / (400 + 576) + 2 * 256 / (400 + 256)) / 2)
    assert both["offset"] == pytest.approx(0, abs=0.1)


def test_models_that_have_not_seen_the_parents_are_asked_first() -> None:
    made = square_case(10, origin=Origin("synthetic", "x", parents=frozenset({"a"})))
    seen, fresh = Says(square(10), frozenset({"a", "b"})), Says(square(12), frozenset({"b"}))
    assert figures([seen, fresh], made, ())[0]["offset"] == pytest.approx(2, abs=0.15)
    assert figures([seen, replace(fresh, parents=frozenset({"a"}))], made, ())[0]["offset"] == pytest.approx(1, abs=0.1)


def test_ignored_voxels_do_not_count() -> None:
    ignore = np.zeros((1, 40, 40, 1), bool)
    ignore[:, 32:] = True
    case = square_case(10)
    spill = square(10).array.copy()
    spill[:, 34:38, 5:35] = 1
    said = Says(LabelMap.on(case.image.geometry, spill, SCHEME))
    told = replace(case, truth=LabelMap.on(case.image.geometry, case.labels.array, SCHEME, ignore))
    assert figures([said], told, ())[0]["dice"] == 1
    assert figures([said], case, ())[0]["dice"] < 1


def test_a_missed_structure_has_no_offset_and_is_counted() -> None:
    empty = Says(LabelMap.on(square_case(10).image.geometry, np.zeros((1, 40, 40, 1), np.uint8), SCHEME))
    (row,) = figures([empty], square_case(10), ())
    assert row["dice"] == 0
    assert np.isnan(row["offset"])
    assert obeyed([row]) == 0
    found = [{**row, "patient": f"p{i}", "offset": np.nan if i == 0 else 1.0 + 0.1 * i} for i in range(5)]
    real, _, _ = compared(found, found, rng_for(0, "x"))
    assert real.offset
    assert real.offset.excluded == 1
    assert real.offset.patients == 4


def test_the_interval_of_the_difference_is_that_of_two_independent_groups() -> None:
    rng = rng_for(0, "groups")
    rows = [
        [{"patient": f"{g}-{i}", "dice": m + 0.1 * z, "offset": m} for i, z in enumerate(rng.standard_normal(40))]
        for g, m in (("real", 0.8), ("synthetic", 0.6))
    ]
    _, _, apart = compared(*rows, rng_for(0, "resample"))
    means = [np.mean([row["dice"] for row in group]) for group in rows]
    error = np.sqrt(sum(np.var([row["dice"] for row in group], ddof=1) / 40 for group in rows))
    assert apart.dice
    assert apart.dice.value == pytest.approx(means[1] - means[0])
    assert (apart.dice.high - apart.dice.low) / 2 == pytest.approx(1.96 * error, rel=0.12)
    assert apart.dice.conditional


def test_one_case_gives_no_interval() -> None:
    rows = [{"patient": "a", "dice": 0.5, "offset": 0.1}]
    real, made, apart = compared(rows * 2, [], rng_for(0, "x"))
    assert (real.dice, made.dice, apart.dice) == (None, None, None)


# --- whole experiments -----------------------------------------------------------------------------------------------


def test_what_was_done_to_the_labels_is_found(finish: Finish) -> None:
    does = ("new", "dilate", "erode", "shuffle")
    finished = finish(**content({name: engine_of(name) for name in does}, fidelity={"cases": 8, "folds": 2}))
    found = {line.engine: line for line in finished.fidelity.labels}
    assert set(found) == set(does)
    offset = {name: line.difference.offset for name, line in found.items()}
    dice = {name: line.difference.dice for name, line in found.items()}
    assert all(offset.values())
    assert all(dice.values())
    assert abs(offset["new"].value) < 0.5
    assert abs(dice["new"].value) < 0.05
    assert offset["dilate"].value == pytest.approx(-2, abs=0.5)
    assert offset["dilate"].high < 0
    assert offset["erode"].value == pytest.approx(1, abs=0.5)
    # Two discs of chance share something; a label that fits shares nearly all.
    chance = [figures([Says(blob_case(f"a{i}").labels)], blob_case(f"b{i}"), ())[0]["dice"] for i in range(40)]
    assert found["shuffle"].synthetic.dice.value == pytest.approx(float(np.mean(chance)), abs=0.2)
    assert dice["shuffle"].high < -0.2
    line = found["new"]
    assert (line.n, line.unit, line.steps, line.streamed) == (8, "mm", 40, False)
    assert line.real.dice.patients == 8
    assert line.synthetic.dice.patients == 8


def test_a_streamed_engine_is_judged_on_cases_drawn_for_it(finish: Finish) -> None:
    finished = finish(**content({"s": engine_of("dilate", mode="streamed")}, fidelity={"cases": 6, "folds": 2}))
    (line,) = finished.fidelity.labels
    assert line.streamed
    assert line.synthetic.dice.patients == 6
    assert line.difference.offset.value == pytest.approx(-2, abs=0.5)


def test_folds_steps_and_cases_are_those_of_the_plan(workspace: Workspace) -> None:
    for plan, steps in (({"folds": 4, "steps": 7, "cases": 5}, 7), ({"folds": 2}, 40)):
        prepared = prepared_in(workspace, **content({"n": engine_of("new")}, fidelity=plan))
        cross = CrossFit(prepared.context, prepared.subset(8, 0), 0)
        result = cross.run()
        assert len(result.facts["models"]) == plan["folds"]
        assert sorted(row["patient"] for row in result.rows) == sorted(cross.patients)
        assert prepared.plan.fidelity.steps_of(prepared.plan.training.steps) == steps
    few = prepared_in(workspace, **content({"n": engine_of("new")}, fidelity={"steps": 7}))
    more = prepared_in(workspace, **content({"n": engine_of("new")}, fidelity={"steps": 8}))
    assert len({CrossFit(p.context, cross.patients, 0).key for p in (few, more, prepared)}) == 3


def test_fidelity_can_be_left_out_and_says_so(finish: Finish) -> None:
    finished = finish(**content({"n": engine_of("new")}, fidelity=False))
    assert finished.fidelity.labels == []
    assert "fidelity = false" in finished.fidelity.message


def test_a_plan_that_says_nothing_of_it_keeps_its_hash() -> None:
    plain, stated = (parse_plan(toys.plan_content(**more)) for more in ({}, {"fidelity": {"folds": 3}}))
    assert plain.hash == stated.hash
    assert "fidelity" not in plain.model_dump()
    assert "filter" not in plain.model_dump()["engines"]["toy"]
    other = parse_plan(toys.plan_content(fidelity={"folds": 4}))
    assert other.hash != plain.hash
    assert parse_plan(other.model_dump(mode="json")).hash == other.hash


def test_one_patient_is_told_and_stops_nothing(finish: Finish) -> None:
    finished = finish(**content({"n": engine_of("new")}, arms={**ARMS, "sizes": [1]}))
    assert finished.fidelity.labels == []
    assert "one training patient" in finished.fidelity.message


def test_held_out_patients_are_refused(workspace: Workspace) -> None:
    prepared = prepared_in(workspace, **content({"n": engine_of("new", filter=True)}))
    train, tests = prepared.subset(8, 0), sorted(prepared.split.test)
    validation = sorted(prepared.split.validation)
    for stranger in (tests[0], validation[0]):
        with pytest.raises(LeakageError, match="cross-fitted"):
            CrossFit(prepared.context, (*train, stranger), 0).run()
        with pytest.raises(LeakageError, match="filter"):
            sift(prepared.context, "n", OtherEngine(), (*train, stranger), 2, 0)
        with pytest.raises(LeakageError):
            Judge(prepared.context, "n", (*train[:3], stranger), 0, (), (), 2).run()


def test_a_learner_that_peeks_at_its_fold_is_refused(workspace: Workspace) -> None:
    prepared = prepared_in(workspace, **content({"n": engine_of("new")}))
    other = prepared.subset(9, 0)[-1]

    class Knows(toys.ToyLearner):
        def fit(self, *args: Any, **more: Any) -> Any:
            return replace(super().fit(*args, **more), parents=frozenset({other}))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("equipoise.experiment.fidelity.make", lambda group, spec: Knows())
        with pytest.raises(LeakageError, match="from memory"):
            CrossFit(prepared.context, prepared.subset(8, 0), 0).run()


# --- the filter ------------------------------------------------------------------------------------------------------


def frozen_of(prepared: Prepared, name: str, count: int = 6) -> tuple[dict[str, Any], list[Case]]:
    facts = Synthesise(prepared.context, name, prepared.subset(8, 0), 0, count).run().facts
    return facts, [case_from_bytes(prepared.context.store.get(key)) for key in facts["cases"]]


def test_copies_and_noise_are_dropped_counted_and_replaced(workspace: Workspace) -> None:
    engines = {
        "copies": engine_of("copy", every=2, filter={"implausible": False}),
        "noise": engine_of("noise", every=2, filter=True),
        "free": engine_of("copy", every=2),
    }
    prepared = prepared_in(workspace, **content(engines))
    copies, kept = frozen_of(prepared, "copies")
    real = [case.image.array for case in prepared.context.source.cases().values()]
    assert len(kept) == 6
    assert not any(np.array_equal(case.image.array, array) for case in kept for array in real)
    assert copies["dropped"]["near_copy"] >= 3
    assert copies["dropped"]["implausible"] is None  # off, and said to be
    assert copies["made"] == 6 + sum(n or 0 for n in copies["dropped"].values())
    noise, kept = frozen_of(prepared, "noise")
    assert noise["dropped"]["implausible"] >= 3
    assert all(case.image.array.std() < 1.5 for case in kept)
    free, kept = frozen_of(prepared, "free")
    assert "dropped" not in free
    assert sum(np.array_equal(case.image.array, array) for case in kept for array in real) == 3


def test_what_passed_has_the_patients_of_the_filter_as_parents(workspace: Workspace) -> None:
    prepared = prepared_in(workspace, **content({"n": engine_of("new", filter=True)}))
    facts, kept = frozen_of(prepared, "n", 2)
    assert all(case.origin.parents == frozenset(prepared.subset(8, 0)) for case in kept)
    assert set(facts["parents"]) == set(prepared.subset(8, 0))
    assert facts["limits"]["implausible"] > 0


def test_disobedient_cases_are_dropped_by_cross_fitted_segmenters(workspace: Workspace) -> None:
    rule = {"implausible": False, "near_copy": False, "disobedient": 0.05}
    prepared = prepared_in(workspace, **content({"s": engine_of("shuffle", every=2, filter=rule)}))
    facts, kept = frozen_of(prepared, "s")
    assert facts["dropped"]["disobedient"] >= 3
    bright = [case.image.array[case.labels.masks()].mean() for case in kept]
    assert min(bright) > 0.8  # the label lies on its disc: one of chance would hold some of the dark ground


def test_an_engine_without_anything_else_is_refused_with_the_counts(workspace: Workspace) -> None:
    prepared = prepared_in(workspace, **content({"c": engine_of("copy", filter={"implausible": False, "draws": 2})}))
    with pytest.raises(EngineError) as caught:
        frozen_of(prepared, "c", 4)
    assert "0 of 8 cases passed its filter and 4 are needed; dropped: 8 as near-copy" in str(caught.value)
    assert "near_copy = false" in str(caught.value)


def test_the_near_copy_rule_is_off_for_engines_that_change_real_images(finish: Finish) -> None:
    engines = {"toy": {"kind": "toy-engine", "arms": "few", "filter": {"implausible": 0.9, "draws": 20}}}
    finished = finish(**content(engines, data={"kind": "toy-cases"}))
    (line,) = finished.fidelity.dropped
    assert line.near_copy is None
    assert "changes real images" in line.off["near_copy"]
    stated = parse_plan(toys.plan_content(**content({"toy": {"kind": "toy-engine", "filter": {"near_copy": 0.1}}})))
    assert stated.engines["toy"].filter.near_copy == 0.1


@pytest.mark.parametrize(("kind", "keeps"), [(Inpainting, True), (Augmentation, True), (Diffusion, False)])
def test_an_engine_that_keeps_real_pixels_is_known(kind: type, keeps: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = parse_plan(toys.plan_content(**content({"toy": {"kind": "toy-engine", "filter": {"near_copy": "auto"}}})))
    monkeypatch.setattr(screening, "load", lambda group, name: kind)
    assert ("near_copy" in why_off(plan, "toy")) is keeps


def test_more_draws_let_more_pass(workspace: Workspace) -> None:
    few = engine_of("copy", every=2, filter={"implausible": False, "draws": 1.1})
    many = engine_of("copy", every=2, filter={"implausible": False, "draws": 8})
    prepared = prepared_in(workspace, **content({"few": few, "many": many}))
    with pytest.raises(EngineError, match="are needed"):
        frozen_of(prepared, "few")
    assert len(frozen_of(prepared, "many")[1]) == 6


def test_the_filter_is_part_of_the_key(workspace: Workspace) -> None:
    engines = {
        "a": engine_of("new"), "b": engine_of("new", filter=True), "c": engine_of("new", filter={"implausible": 0.9}),
        "d": engine_of("new", filter={"disobedient": 0.1}),
    }  # fmt: skip
    keys = []
    for steps in (5, 6):
        prepared = prepared_in(workspace, **content(engines, fidelity={"steps": steps}))
        keys.append([Synthesise(prepared.context, name, prepared.subset(8, 0), 0, 4).key for name in engines])
    assert len(set(keys[0])) == 4
    assert [one == two for one, two in zip(*keys, strict=True)] == [True, True, True, False]


def test_counts_reach_the_log_and_the_findings_and_a_second_run_does_nothing(workspace: Workspace) -> None:
    engines = {"copies": engine_of("copy", every=2, filter={"implausible": False})}
    prepared = prepared_in(workspace, **content(engines, fidelity={"cases": 4, "folds": 2}))
    finished = run(prepared, workspace, InProcess(), "", None)
    (line,) = finished.fidelity.dropped
    assert line.dropped == line.near_copy == line.made - line.kept > 0
    told = [entry.detail for entry in workspace.read_log() if entry.what == "filtered synthetic cases"]
    assert [t["dropped"]["near_copy"] for t in told] == [line.near_copy]
    findings = tell(finished, workspace, "", "")
    assert findings.fidelity == finished.fidelity
    lineage: list[Lineage] = findings.lineage
    assert (lineage[0].made, lineage[0].dropped) == (line.made, line.dropped)

    class Refuses(InProcess):
        def map(self, function: Any, tasks: Any) -> Any:
            assert not list(tasks), "nothing is left to do"
            return iter(())

    again = run(prepared, workspace, Refuses(), "", None)
    assert again.fidelity == finished.fidelity
    assert sum(entry.what == "filtered synthetic cases" for entry in workspace.read_log()) == 1


@pytest.mark.parametrize(
    ("engine", "words"),
    [
        ({"filter": {"near_cop": 0.1}}, "Did you mean 'near_copy'"),
        ({"filter": {"implausible": 1.5}}, "less than 1"),
        ({"filter": {"implausible": False, "near_copy": False}}, "every rule is off"),
        ({"filter": True, "mode": "streamed"}, "mode = 'frozen'"),
        ({"filter": {"draws": 0.5}}, "greater than 1"),
        ({"filter": 3}, "filter"),
    ],
)
def test_wrong_filters_are_named_when_the_plan_is_read(engine: dict[str, Any], words: str) -> None:
    with pytest.raises(PlanError) as caught:
        parse_plan(toys.plan_content(engines={"n": {"kind": "toy-engine", **engine}}, arms=ARMS))
    assert words in str(caught.value)


def test_too_few_patients_for_a_filter_are_told(workspace: Workspace) -> None:
    engines = {"n": engine_of("new", filter=True)}
    with pytest.raises(PlanError, match="3 or more patients, and engines are run with 2"):
        prepared_in(workspace, **content(engines, arms={**ARMS, "sizes": [2, 8]}))
    prepared = prepared_in(workspace, **content(engines, arms={**ARMS, "sizes": [2, 8], "all_arms_at": [8]}))
    cases = [c for c in prepared.context.source.cases().values() if c.patient in prepared.subset(2, 0)]
    with pytest.raises(NotEnoughCasesError, match="3 or more training patients"):
        screen_for(prepared.context, "n", OtherEngine(), cases, 0)


def test_the_engines_own_patch_is_the_scale_of_the_filter(workspace: Workspace) -> None:
    prepared = prepared_in(workspace, **content({"n": engine_of("new", filter=True)}))
    cases = [c for c in prepared.context.source.cases().values() if c.patient in prepared.subset(8, 0)]
    limits = [
        screen_for(prepared.context, "n", SimpleNamespace(patch=patch), cases, 0).limits["implausible"]  # type: ignore[arg-type]
        for patch in (8, 24, None)
    ]
    assert limits[0] != limits[1] == limits[2]  # no image is wider than 24

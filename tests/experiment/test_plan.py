from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import toys

from equipoise.errors import PlanError
from equipoise.experiment.arms import planned_arms
from equipoise.experiment.plan import deviations, load_plan, parse_plan


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"titel": "x"}, "unknown key 'titel'. Did you mean 'title'"),
        ({"arms": {"sises": [2]}}, "unknown key 'arms.sises'. Did you mean 'sizes'"),
        ({"arms": {"sizes": [4, 2]}}, "sizes must rise"),
        ({"arms": {"sizes": [2], "all_arms_at": [3]}}, "not among the sizes"),
        ({"split": {"train": 0.5, "validation": 0.2, "test": 0.2}}, "sum to 1"),
        ({"metric": {"margin": "wide"}}, "metric.margin"),
        ({"engines": {"x": {"kind": "toy-engin"}}}, "Did you mean 'toy-engine'"),
        ({"engines": {"x": {"kind": "toy-engine", "gab": 1}}}, "Did you mean 'gap'"),
        (
            {"training": {"learner": {"kind": "toy-learner", "nois": 1}, "augment": {"kind": "none"}}},
            "Did you mean 'noise'",
        ),
        ({"data": {"kind": "toy-cases", "cont": 3}}, "Did you mean 'count'"),
        ({"data": {"count": 3}}, "must name its kind"),
    ],
)
def test_a_wrong_plan_names_the_key_and_the_nearest(change: dict[str, Any], words: str) -> None:
    with pytest.raises(PlanError) as caught:
        parse_plan(toys.plan_content(**change), Path("p.toml"))
    assert words in str(caught.value)
    assert "p.toml" in str(caught.value)


def test_a_missing_section_is_named() -> None:
    content = toys.plan_content()
    del content["data"]
    with pytest.raises(PlanError, match="the plan has no 'data'"):
        parse_plan(content)


@pytest.mark.parametrize("text", ["title = ", "\x00"])
def test_a_file_that_is_no_toml(text: str, tmp_path: Path) -> None:
    (tmp_path / "p.toml").write_text(text)
    with pytest.raises(PlanError, match="not valid TOML"):
        load_plan(tmp_path / "p.toml")


def test_a_plan_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="cannot be read"):
        load_plan(tmp_path / "p.toml")


def test_the_hash_is_of_the_meaning_not_of_the_spelling() -> None:
    plan = parse_plan(toys.plan_content())
    spelled_out = parse_plan({**toys.plan_content(), "seed": 0})
    assert plan.hash == spelled_out.hash
    assert plan.hash != parse_plan(toys.plan_content(seed=1)).hash


def test_a_plan_survives_its_own_dump() -> None:
    plan = parse_plan(toys.plan_content())
    assert parse_plan(plan.model_dump(mode="json")).hash == plan.hash


def test_deviations_are_listed_key_by_key() -> None:
    one, two = parse_plan(toys.plan_content()), parse_plan(toys.plan_content(seed=3))
    assert deviations(one, two) == ["seed: 0 became 3"]


def test_every_ratio_has_the_duplicate_of_its_length_under_equal_epochs() -> None:
    plan = parse_plan(toys.plan_content(arms={"sizes": [4], "ratios": [0.25, 1.0, 4.0]}))
    arms = planned_arms(plan)
    epochs = {a.arm.name: a.steps for a in arms if a.budget == "epochs" and a.family == "duplicate"}
    assert epochs == {
        "real duplicated to 0.25:1": round(6 * 1.25),
        "real duplicated to 1:1": 12,
        "real duplicated to 4:1": 18,
    }
    for arm in arms:
        if arm.budget == "epochs" and arm.family == "mix":
            twin = next(a for a in arms if a.arm.name == f"real duplicated to {arm.ratio:g}:1" and a.budget == "epochs")
            assert twin.steps == arm.steps


def test_an_engine_of_few_arms_has_few() -> None:
    few = {"toy": {"kind": "toy-engine", "arms": "few"}}
    plan = parse_plan(toys.plan_content(arms={"sizes": [4]}, engines=few))
    assert {a.arm.name for a in planned_arms(plan) if a.arm.engine} == {"synthetic only", "mixed 1:1"}

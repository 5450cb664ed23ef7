from __future__ import annotations

import json
from pathlib import Path

import pytest
import toys
from typer.testing import CliRunner

from equipoise.cli.app import app
from equipoise.core import registry
from equipoise.errors import EquipoiseError

PLAN = """
title = "Blobs"
[data]
kind = "toy-cases"
count = 40
[arms]
sizes = [2, 4]
replicates = 2
ratios = [1.0]
[training]
steps = 6
learner = { kind = "toy-learner" }
augment = { kind = "none" }
[engines.toy]
kind = "toy-engine"
"""


@pytest.fixture(autouse=True)
def _toys_are_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "entry_points", lambda group: toys.ENTRIES.get(group, []))


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    (tmp_path / "blobs.toml").write_text(PLAN)
    return tmp_path / "blobs.toml"


def call(*words: object) -> str:
    result = CliRunner().invoke(app, [str(w) for w in words], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_from_plan_to_verdict_to_export(plan: Path, tmp_path: Path) -> None:
    folder = tmp_path / "w"
    said = call("compare", plan, "--workspace", folder, "--on", "process")
    for line in ("Verdict", "Best arm", "Exchange rate", "Next purchase", "Privacy", "Report", "Export"):
        assert f"\n{line}" in f"\n{said}"
    assert "not audited" in said
    page, findings = (folder / "reports" / f"report.{kind}" for kind in ("html", "json"))
    assert page.stat().st_size > 10_000
    content = json.loads(findings.read_text())
    assert content["verdict"][0] in said.replace("\n", " ")
    assert len(content["arms"]) > 10

    again = json.loads(call("resume", folder, "--on", "process", "--json"))
    assert again["verdict"] == content["verdict"]

    advice = json.loads(call("recommend", folder, "--budget", 5000, "--json"))
    assert advice["advice"]["budget"] == 5000
    assert advice["margin"] == 0.02
    said = call("recommend", folder, "--budget", 5000)
    for line in (f"Advice         {advice['advice']['action']}", f"Next purchase  {advice['advice']['sentence']}"):
        assert line in said
    with pytest.raises(EquipoiseError, match="a budget must be 0 or more"):
        call("recommend", folder, "--budget", -5)

    exported = json.loads(call("export", "nnunet", folder, "--arm", "mixed 1:1", "--json"))
    assert (exported["real"], exported["synthetic"]) == (4, 4)
    assert (Path(exported["path"]) / "dataset.json").exists()
    best = json.loads(call("export", "nnunet", folder, "--arm", "best", "--number", 7, "--json"))
    assert best["real"] + best["synthetic"] > 0


def test_a_dry_run_says_what_it_would_take_and_writes_nothing(plan: Path, tmp_path: Path) -> None:
    said = json.loads(call("compare", plan, "--workspace", tmp_path / "w", "--on", "process", "--dry-run", "--json"))
    assert said["trainings"] > 20
    assert said["hours"] > 0
    assert said["power"]["minimum_detectable"] > 0
    assert not (tmp_path / "w").exists()


def test_engines_are_listed_with_what_they_need() -> None:
    (engine,) = json.loads(call("engines", "--json"))["engines"]
    assert engine["kind"] == "toy-engine"
    assert engine["needs"] == "one annotated case"
    assert "toy-engine" in call("engines")


def test_anatomies_are_listed_beside_the_engines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()  # the kinds that are installed
    listed = json.loads(call("engines", "--json"))
    said = call("engines")
    assert {"torso", "head", "real", "warped", "lesion"} <= {row["kind"] for row in listed["anatomies"]}
    for row in [*listed["engines"], *listed["anatomies"]]:
        assert row["does"]
        assert row["kind"] in said


def test_a_sample_is_files_a_table_and_a_contact_sheet(plan: Path, tmp_path: Path) -> None:
    out = tmp_path / "made"
    call("sample", "toy-engine", "--out", out, "--n", 3, "--plan", plan, "--set", "gap=0.5")
    assert len(list((out / "images").iterdir())) == 3
    assert (out / "index.csv").read_text().count("synthetic") >= 3
    assert (out / "contact_sheet.png").stat().st_size > 1000
    with pytest.raises(EquipoiseError, match="already exists"):
        call("sample", "toy-engine", "--out", out, "--plan", plan)
    with pytest.raises(EquipoiseError, match="Did you mean 'gap'"):
        call("sample", "toy-engine", "--out", tmp_path / "x", "--set", "gab=0.5")


@pytest.mark.parametrize("command", ["resume", "recommend"])
def test_a_folder_without_an_experiment_is_said(command: str, tmp_path: Path) -> None:
    with pytest.raises(EquipoiseError, match="no experiment in this folder"):
        call(command, tmp_path)


def test_an_unknown_arm_names_the_nearest(plan: Path, tmp_path: Path) -> None:
    call("compare", plan, "--workspace", tmp_path / "w", "--on", "process", "--json")
    with pytest.raises(EquipoiseError, match="Did you mean 'mixed 1:1'"):
        call("export", "nnunet", tmp_path / "w", "--arm", "mixed 1:2")

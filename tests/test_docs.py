"""The docs say what the code does."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from typer.main import get_command

from equipoise.cli import reference
from equipoise.cli.app import app
from equipoise.core.registry import GROUPS, kinds
from equipoise.experiment.plan import load_plan, parse_plan

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def commands() -> dict[str, set[str]]:
    """Every command with its options."""
    found: dict[str, set[str]] = {}

    def walk(command: object, name: str) -> None:
        for sub, child in getattr(command, "commands", {}).items():
            walk(child, f"{name} {sub}".strip())
        if not hasattr(command, "commands"):
            found[name] = {option for p in command.params for option in p.opts}  # type: ignore[attr-defined]

    walk(get_command(app), "")
    return found


def test_the_reference_is_what_the_code_says(tmp_path: Path) -> None:
    reference.write(app, tmp_path / "reference.md")
    written = (ROOT / "docs" / "reference.md").read_text()
    assert written == (tmp_path / "reference.md").read_text(), "run `make docs`"


def test_every_kind_and_command_is_in_the_reference() -> None:
    text = (ROOT / "docs" / "reference.md").read_text()
    for group in GROUPS:
        for kind in kinds(group):
            assert f"### `{kind}`" in text
    for command in commands():
        assert f"### `equipoise {command}`" in text


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_commands_in_the_docs_exist_with_their_options(page: Path) -> None:
    known = commands()
    lines = re.findall(r"^ {4}equipoise (.+)$", page.read_text(), flags=re.M)
    for line in lines:
        if page.name == "architecture.md":
            continue  # draws later work too
        words = line.split("#")[0].split()
        name = next((" ".join(words[:k]) for k in (2, 1) if " ".join(words[:k]) in known), None)
        assert name, f"{page.name}: no command {line!r}"
        for word in words:
            if word.startswith("--"):
                assert word.split("=")[0] in known[name], f"{page.name}: {name} has no option {word}"


def test_the_plan_in_the_readme_is_a_plan() -> None:
    (block,) = re.findall(r"```toml\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.S)
    plan = parse_plan(tomllib.loads(block))
    assert plan.metric.margin == 0.02


@pytest.mark.parametrize("file", sorted((ROOT / "examples").glob("*.toml")), ids=lambda p: p.stem)
def test_example_plans_are_plans(file: Path) -> None:
    plan = load_plan(file)
    assert "--data DIR" in file.read_text()
    assert plan.arms.replicates >= 3


def test_make_targets_named_in_the_docs_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.M))
    for page in PAGES:
        for target in re.findall(r"(?<=`)make ([a-z]+)|^ {4}make ([a-z]+)", page.read_text(), flags=re.M):
            assert (target[0] or target[1]) in targets

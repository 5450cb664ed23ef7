"""What shows learned engines: the plans of their trials, and the gallery's script and page."""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image as Picture

from equipoise.core import Case, LabelMap, registry, rng_for
from equipoise.experiment.arms import planned_arms
from equipoise.experiment.plan import load_plan
from making import blob_case
from picture_set import PLAN_HEAD, PictureSet

ROOT = Path(__file__).parents[1]
EVIDENCE = ROOT / "evidence"
PLANS = sorted((ROOT / "examples" / "learned").glob("*.toml"))
TINY = 'steps = 4\npatch = 16\nchannels = [16, 24]\nbatch = 2\nsublabels = 0\nanatomy = { kind = "warped", patch = 32 }'


@pytest.fixture(scope="module")
def scripts() -> Iterator[Any]:
    """Give the scripts by name."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(EVIDENCE)
        yield lambda name: importlib.import_module(name)


@pytest.fixture
def _flow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Register `flow` where it is not: it may be newer than the installed list of entry points."""
    own = EntryPoint("flow", "equipoise.engines.imaging.flow:Flow", "equipoise.engines")

    def entries(group: str) -> list[EntryPoint]:
        found = list(importlib.metadata.entry_points(group=group))
        return found + [own] * (group == own.group and own.name not in {e.name for e in found})

    monkeypatch.setattr(registry, "entry_points", entries)


def toml(name: str) -> dict[str, Any]:
    return tomllib.loads((EVIDENCE / name).read_text(encoding="utf-8"))


# --- the plans -------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("_flow")
@pytest.mark.parametrize("file", PLANS, ids=lambda p: p.stem)
def test_engines_of_a_plan_differ_in_the_imaging_only(file: Path) -> None:
    plan = load_plan(file)
    assert list(plan.engines) == ["simulate", "augmentation", "diffusion", "gan", "flow"]
    assert {e.mode for e in plan.engines.values()} == {"frozen"}
    rendering = [e.spec for name, e in plan.engines.items() if name != "augmentation"]
    assert all(spec["anatomy"] == rendering[0]["anatomy"] for spec in rendering)
    assert plan.engines["augmentation"].spec.get("patch", 0) == rendering[0]["anatomy"].get("patch", 0)
    assert all(spec["preset"] == "cpu-small" for spec in rendering[1:])


@pytest.mark.usefixtures("_flow")
@pytest.mark.parametrize("file", PLANS, ids=lambda p: p.stem)
def test_every_engine_makes_as_many_cases_beside_the_same_controls(file: Path) -> None:
    plan = load_plan(file)
    simulated = load_plan(ROOT / "examples" / "simulated" / file.name)
    assert (plan.data, plan.external, plan.split) == (simulated.data, simulated.external, simulated.split)
    assert (plan.gate, plan.metric) == (simulated.gate, simulated.metric)
    assert plan.arms.replicates >= 3
    assert plan.fidelity.on
    arms = planned_arms(plan)
    assert any(a.family == "duplicate" for a in arms)
    counts = {name: sorted(a.arm.mix.counts(10) for a in arms if a.arm.engine == name) for name in plan.engines}
    assert all(found == counts["gan"] for found in counts.values())
    assert len(counts["gan"]) >= 3
    assert "--data DIR" in file.read_text(encoding="utf-8")


# --- the gallery -----------------------------------------------------------------------------------------------------


def test_entries_name_plans_and_say_whose_pictures_are_shown() -> None:
    entries = toml("learned_gallery.toml")["set"]
    assert sorted(ROOT / e["plan"] for e in entries) == PLANS
    for entry in entries:
        assert ("attribution" in entry) != ("not_shown" in entry)
        licence = tomllib.loads((ROOT / entry["plan"]).read_text(encoding="utf-8"))["data"]["licence"]
        allowed = licence.lstrip("=") in ("CC0", "CC BY 4.0")
        assert allowed or "attribution" not in entry, "a picture is shown whose licence does not let it be passed on"


def test_the_page_of_sheets_is_what_the_script_writes(scripts: Any) -> None:
    place = scripts("learned_gallery").Place()
    written = scripts("learned_page").page(toml("learned_gallery.toml")["set"], place.read(), place.sheets)
    assert place.page.read_text(encoding="utf-8") == written, "run `python evidence/learned_gallery.py`"
    for file in place.sheets.glob("*"):
        assert file.suffix == ".jpg"
        assert file.stat().st_size <= 100_000


@dataclass(frozen=True)
class Trial:
    """A gallery of one set of blobs, in folders of its own, fitted in this process."""

    gallery: ModuleType
    folder: Path

    def run(self, *words: str) -> int:
        given = ["--data", str(self.folder), "--out", str(self.folder / "out"), *words]
        return int(self.gallery.main(given))

    @property
    def found(self) -> dict[str, Any]:
        return json.loads((self.folder / "out" / "learned_gallery.json").read_text())["Blobs"]  # type: ignore[no-any-return]


@pytest.fixture
def trial(scripts: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Trial:
    PictureSet.of_patients(tmp_path / "blobs")
    engines = f'replicates = 1\n[engines.gan]\nkind = "gan"\n{TINY}\n[engines.other]\nkind = "no-such-engine"\n'
    (tmp_path / "plan.toml").write_text(PLAN_HEAD + engines)
    entry = f'[[set]]\nname = "Blobs"\nshows = "Blobs"\nplan = "{tmp_path}/plan.toml"\nmost = 3\n'
    (tmp_path / "entries.toml").write_text(entry + 'not_shown = "they are shy"\nlooks = { gan = "Round" }\n')
    gallery = scripts("learned_gallery")
    monkeypatch.setattr(gallery, "ENTRIES", tmp_path / "entries.toml")
    monkeypatch.setattr(gallery, "alone", scripts("learned_drawing").fitted_and_drawn)
    return Trial(gallery, tmp_path)


def rows_of(sheet: Path) -> int:
    """Return how many rows of pictures a sheet of 3 patients' patches has."""
    with Picture.open(sheet) as opened:
        return round(opened.height / opened.width * 2)


def test_a_set_is_fitted_drawn_kept_and_not_done_twice(trial: Trial, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--engine", "gan", "--keep", str(trial.folder / "keep"), "--look", str(trial.folder / "look"))
    assert trial.run(*words) == 0
    fit = trial.found["gan"]
    assert (fit["patients"], fit["images"], fit["shape"], fit["device"]) == (3, 3, [32, 32, 1], "CPU")
    assert [look[0] for look in fit["looks"]] == [1, 2, 3, 4]
    assert fit["seconds"] > 0
    assert 0.05 < fit["peak_gb"] < 50
    sheet, look = trial.folder / "out" / "learned" / "blobs-gan.jpg", trial.folder / "look" / "blobs-gan.png"
    assert (rows_of(sheet), rows_of(look)) == (2, 3), "the sheet shows real pictures, or the other does not"
    assert sheet.stat().st_size <= 100_000
    page = (trial.folder / "out" / "learned.md").read_text(encoding="utf-8")
    for text in ("![Blobs: deformed label maps", "Round Stopped:", "they are shy", "| `gan` | 3 | 3 | 32 x 32 |"):
        assert text in page
    capsys.readouterr()
    before = trial.found
    assert trial.run(*words) == 0
    assert "done already" in capsys.readouterr().err
    assert trial.found == before
    assert trial.run(*words, "--again") == 0
    again = trial.found["gan"]
    assert again["looks"] == before["gan"]["looks"]
    assert again["seconds"] > before["gan"]["seconds"], "time over all interruptions"


def test_steps_attribution_and_other_settings_are_other_fits(trial: Trial) -> None:
    assert trial.run("--engine", "gan", "--steps", "2") == 0
    short = trial.found["gan"]
    assert [look[0] for look in short["looks"]] == [1, 2]
    entries = trial.folder / "entries.toml"
    entries.write_text(entries.read_text().replace("not_shown", "attribution").replace("most = 3", "most = 4"))
    assert trial.run("--only", "Blobs", "--engine", "gan", "--steps", "2") == 0
    assert trial.found["gan"]["patients"] == 4
    assert trial.found["gan"]["key"] != short["key"]
    assert rows_of(trial.folder / "out" / "learned" / "blobs-gan.jpg") == 3
    assert "Real pictures: they are shy." in (trial.folder / "out" / "learned.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "words",
    [
        ["--look", str(ROOT / "docs")],
        ["--keep", str(ROOT / "evidence")],
        ["--only", "PET"],
        ["--steps", "20"],
        ["--steps", "0"],
    ],
    ids=" ".join,
)
def test_what_cannot_be_is_said_and_nothing_written(
    scripts: Any, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    gallery = scripts("learned_gallery")
    before = gallery.Place().page.read_bytes()
    assert gallery.main(words) == 2
    assert "fix" in capsys.readouterr().err
    assert gallery.Place().page.read_bytes() == before


def test_a_plan_without_the_engine_is_said(trial: Trial, capsys: pytest.CaptureFixture[str]) -> None:
    assert trial.run("--engine", "diffusion") == 2
    assert "the plan has no engine of kind 'diffusion'" in capsys.readouterr().err


def test_a_fit_that_fails_is_told_and_the_others_go_on(
    trial: Trial, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = trial.folder / "plan.toml"
    text.write_text(text.read_text().replace("patch = 16", "learning_rate = 1.0\npatch = 16"))
    (trial.folder / "blobs" / "index.csv").write_text("id,image,mask,patient,site\n")
    assert trial.run("--engine", "gan") == 1
    assert "Blobs, gan:" in capsys.readouterr().err
    assert "Not measured yet." in (trial.folder / "out" / "learned.md").read_text(encoding="utf-8")


def test_a_window_shows_the_same_pixels_as_its_labels(scripts: Any) -> None:
    drawing = scripts("learned_drawing")
    case = blob_case("a", side=60)
    cut = drawing.window(case, 24, rng_for(0, "window"))
    assert cut.image.geometry.shape == cut.labels.geometry.shape == (24, 24, 1)
    inside = cut.image.array[0][cut.labels.array[0] > 0]
    outside = cut.image.array[0][cut.labels.array[0] == 0]
    assert inside.mean() > outside.mean() + 0.8, "labels lie elsewhere than what they label"
    whole = drawing.window(case, 0, rng_for(0, "window"))
    np.testing.assert_array_equal(whole.image.array, case.image.array)


def test_deformed_maps_are_nobodys(scripts: Any) -> None:
    case = blob_case("a", side=60)
    moved = scripts("learned_drawing").deformed(case, 0, rng_for(0, "deformed"))
    assert isinstance(moved, LabelMap)
    drawn = case.labels.array > 0
    assert 0.05 < ((moved.array > 0) != drawn).sum() / drawn.sum() < 1.5


def test_shown_cases_are_of_as_many_patients_as_there_are(scripts: Any) -> None:
    cases = [blob_case(f"{p}{i}", p) for p in "ab" for i in range(9)] + [blob_case("z", "z")]
    shown: Sequence[Case] = scripts("learned_drawing").spread(cases)
    assert sorted(c.patient for c in shown[:3]) == ["a", "b", "z"]
    assert len(shown) == scripts("learned_drawing").PER_ROW


@pytest.mark.slow
def test_a_fit_has_a_process_of_its_own(
    trial: Trial, scripts: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.undo()
    drawing, gallery = scripts("learned_drawing"), scripts("learned_gallery")
    entry = tomllib.loads((tmp_path / "entries.toml").read_text())["set"][0]
    fitting = drawing.fitting_of(entry, tmp_path / "plan.toml", "gan", tmp_path, None, 2)
    here = drawing.fitted_and_drawn(fitting, tmp_path / "here.png")
    there = gallery.alone(fitting, tmp_path / "there.png", None)
    assert there["looks"] == here["looks"]
    assert (tmp_path / "there.png").read_bytes() == (tmp_path / "here.png").read_bytes()

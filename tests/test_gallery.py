"""The gallery's script, and that what it wrote is what the repository shows."""

from __future__ import annotations

import importlib
import json
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image as Picture

from equipoise.core import LabelScheme
from equipoise.core.registry import kinds, parameters
from equipoise.core.registry import load as load_kind
from making import blob_case

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def gallery() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "evidence")
        yield importlib.import_module("gallery")


def entries() -> list[dict]:  # type: ignore[type-arg]
    return tomllib.loads((ROOT / "evidence" / "gallery.toml").read_text(encoding="utf-8"))["modality"]


def test_the_page_is_what_the_script_writes(gallery: ModuleType) -> None:
    measured = json.loads((ROOT / "evidence" / "gallery.json").read_text(encoding="utf-8"))
    assert (ROOT / "docs" / "gallery.md").read_text(encoding="utf-8") == gallery.page(entries(), measured)


def test_sheets_are_small_and_of_engines_that_the_list_names(gallery: ModuleType) -> None:
    known = {gallery.slug(entry["name"]) for entry in entries()} | {"cost"}
    for file in (ROOT / "docs" / "gallery").iterdir():
        assert file.stem in known
        assert file.stat().st_size <= 150_000


@pytest.mark.parametrize("entry", entries(), ids=lambda entry: entry["name"])
def test_parameters_are_those_of_the_engine(entry: dict) -> None:  # type: ignore[type-arg]
    if entry["engine"] not in kinds("engines"):
        pytest.skip(f"{entry['engine']} is not registered")
    names = parameters(load_kind("engines", entry["engine"]))
    real = entry.get("real", {})
    for row in [*(row.get("parameters", {}) for row in entry["row"]), real.get("fitted", {}), real.get("unfitted", {})]:
        assert set(row) <= set(names)
    if real:
        assert (ROOT / real["plan"]).exists()


def test_what_a_case_costs_is_of_the_engines_in_the_gallery() -> None:
    rows = json.loads((ROOT / "evidence" / "cost.json").read_text(encoding="utf-8"))
    assert {row["kind"] for row in rows} <= {entry["engine"] for entry in entries()}
    assert all(row["peak_gb"] < 1.5 for row in rows)
    shown = (ROOT / "docs" / "gallery" / "cost.svg").read_text(encoding="utf-8")
    assert shown.count("<path") >= len(rows), "a measured point has no marker"


def test_a_sheet_is_made_to_fit(gallery: ModuleType) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (900, 900, 3), dtype=np.uint8)
    assert len(gallery.compressed(Picture.fromarray(noise))) <= 150_000


def test_only_named_labels_are_outlined(gallery: ModuleType) -> None:
    case = blob_case("a")
    assert gallery.outlined(case, ["lung"]).labels.scheme.names == ("blob",)
    assert gallery.outlined(case, ["blob"]).labels.scheme == LabelScheme.of(["blob"])


@pytest.mark.parametrize("words", [["--look", str(ROOT / "docs")], ["--only", "PET"]])
def test_what_is_not_allowed_is_said(gallery: ModuleType, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    before = (ROOT / "docs" / "gallery.md").read_bytes()
    assert gallery.main(words) == 2
    assert "fix" in capsys.readouterr().err
    assert (ROOT / "docs" / "gallery.md").read_bytes() == before


def measured_of(entry: dict, *rest: object) -> dict:  # type: ignore[type-arg]
    kept = {"auc": 0.9, "low": 0.8, "high": 1.0, "images": [26, 26]}
    when = {"commit": "abc1234", "day": "2031-02-03"}
    return {"plan": "A plan", "patients": 20, **when, "unfitted": kept, "fitted": kept}


def test_an_interrupted_run_is_kept_and_goes_on(
    gallery: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    drawn: list[str] = []

    def draw(entry: dict, folder: Path) -> list[str]:  # type: ignore[type-arg]
        if entry["name"] == "MRI" and drawn.count("CT") == 1:
            raise KeyboardInterrupt
        drawn.append(entry["name"])
        return ["this", "that"]

    monkeypatch.setattr(gallery, "draw", draw)
    monkeypatch.setattr(gallery, "measure", measured_of)
    monkeypatch.setattr(gallery, "when", lambda: {"commit": "abc1234", "day": "2031-02-03"})
    before = (ROOT / "docs" / "gallery.md").read_bytes()
    words = ["--data", str(tmp_path), "--out", str(tmp_path), "--resume", "--most", "20"]
    with pytest.raises(KeyboardInterrupt):
        gallery.main(words)
    assert "| CT | A plan | 20 | 26 | 0.90 [0.80, 1.00] | 0.90 [0.80, 1.00] | 2031-02-03, abc1234 |" in (
        (tmp_path / "gallery.md").read_text(encoding="utf-8")
    )
    drawn.append("CT")
    assert gallery.main(words) == 0
    assert drawn[:3] == ["CT", "X-ray", "CT"]
    assert set(drawn[3:]) == {entry["name"] for entry in entries()} - {"CT", "X-ray"}
    count = len(drawn)
    assert gallery.main(words) == 0
    assert len(drawn) == count, "everything was drawn and measured at this commit"
    assert gallery.main([*words, "--only", "CT", "--most", "7"]) == 0
    assert drawn[count:] == ["CT"]
    monkeypatch.setattr(gallery, "when", lambda: {"commit": "abc1234, changed", "day": "2031-02-03"})
    assert gallery.main([*words, "--only", "CT"]) == 0
    assert drawn[count:] == ["CT", "CT"]
    assert (ROOT / "docs" / "gallery.md").read_bytes() == before


def test_the_commit_is_said(gallery: ModuleType) -> None:
    found = gallery.when()
    assert found["day"].count("-") == 2
    assert found["commit"]

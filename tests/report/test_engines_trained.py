"""The section of the engines' trainings: what it says, draws and shows, and how little it weighs."""

from __future__ import annotations

import base64
import io
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from equipoise.experiment.findings import Findings
from equipoise.experiment.trained_engines import EngineFit, EngineLook, GridRow, TrainedEngine, set_size
from equipoise.report import render
from equipoise.report.engines_trained import engines_trained, set_size_checks
from equipoise.report.page import write_report
from equipoise.report.pictures import HEAVIEST
from equipoise.report.sample_grids import grid_of, steps_shown
from equipoise.workspace import ObjectStore

EVIL = "<script>alert('x')</script>\"&<img src=x onerror=alert(1)>"


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Pillow.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def grid(rng: np.random.Generator, tile: int = 98, noise: float = 0.3) -> np.ndarray:
    """Three rows of eight tiles: grey, coloured labels, grey."""
    grey = [128 + 60 * noise * rng.standard_normal((tile, 8 * tile)) for _ in range(2)]
    colours = np.repeat(np.array([[230, 159, 0], [0, 158, 115]], np.uint8), 4 * tile, axis=0)
    labels = np.broadcast_to(colours, (tile, 8 * tile, 3))
    rows = [np.repeat(np.clip(g, 0, 255).astype(np.uint8)[..., None], 3, axis=2) for g in grey]
    return np.concatenate([rows[0], labels, rows[1]])


def fits() -> list[EngineFit]:
    return [
        EngineFit(
            n,
            replicate,
            [EngineLook(step, 4 / n**0.5 * (1 + 60 / step) + 0.05 * replicate, 1 - 40 / step) for step in (100, 200)],
            200,
            "all steps were taken",
            90.0,
        )
        for n in (4, 16)
        for replicate in range(3)
    ]


def engine(name: str = "diffusion", rows: list[GridRow] | None = None) -> TrainedEngine:
    return TrainedEngine(name, "diffusion", fits(), set_size(name, fits(), 0), rows or [])


def test_no_trained_engine_is_said(rich: Findings) -> None:
    section = engines_trained(rich)
    assert section.state == "empty"
    assert "No engine of this plan trained a network" in section.sentence


def test_the_training_is_said_drawn_and_tabulated(rich: Findings) -> None:
    section = engines_trained(replace(rich, trained_engines=[engine()]))
    assert section.sentence.startswith("Diffusion, fitted on 16 patients, came to a distance of 1.30 to 1.40 at step")
    assert "too little to learn from" in section.sentence
    distance, diversity = re.findall(r"<desc[^>]*>(.*?)</desc>", "".join(section.figures))
    assert "replicate 1, step 100: 1.60" in distance
    assert "replicate 3, step 200: 1.40, kept" in distance
    assert "replicate 1, step 100: 0.60" in diversity
    every, looks = section.tables
    assert len(every.rows) == 6
    assert len(looks.rows) == 12
    assert [cell.text for cell in every.rows[0]] == [
        "diffusion", "4", "1", "200", "200", "2.60", "0.80", "all steps were taken", "1.5",
    ]  # fmt: skip


def test_only_a_set_that_is_too_small_is_on_the_first_page() -> None:
    small, unknown = engine(), replace(engine("gan"), set_size=set_size("gan", fits()[:3], 0))
    (check,) = set_size_checks([small, unknown])
    assert (check.name, check.state) == ("Set too small for an engine", "warning")
    assert "Diffusion: the distance from held-out images is 2.65 [" in check.text


def test_a_training_without_looks_and_looks_that_failed_are_shown(rich: Findings) -> None:
    blind = [EngineFit(4, 0, [], 0, "all steps were taken", 60.0)]
    failed = [EngineFit(4, 0, [EngineLook(10, None, 0.0)], 0, "all steps were taken", 60.0)]
    for made, words in ((blind, "without looks"), (failed, "never came to a good image")):
        trained = TrainedEngine("x", "gan", made, set_size("x", made, 0))
        page = render(replace(rich, trained_engines=[trained]))
        assert words in page
        assert "nan" not in page.split('id="engines"')[1].split("</section>")[0].lower()


def kept(folder: Path, noise: float) -> tuple[EngineFit, ObjectStore]:
    rng, store = np.random.default_rng(3), ObjectStore(folder)
    grids = [(step, store.put(png(grid(rng, 200, noise)))) for step in (100, 150, 200)]
    return replace(fits()[-1], grids=grids), store


@pytest.mark.parametrize(("noise", "columns"), [(0.0, 8), (1.0, 4)])
def test_rows_of_a_grid_are_cut_and_bounded(tmp_path: Path, noise: float, columns: int) -> None:
    rows = grid_of(*kept(tmp_path, noise))
    assert [row.name for row in rows] == ["real", "labels", "100", "150", "200"]
    assert steps_shown(rows) == [100, 150, 200]
    assert all(len(base64.b64decode(row.png)) <= HEAVIEST for row in rows)
    assert {row.width for row in rows} == {100 * columns}, "rows of 200 pixels are halved"
    pictures = {row.name: Pillow.open(io.BytesIO(base64.b64decode(row.png))) for row in rows}
    assert pictures["real"].mode == "L"
    assert tuple(pictures["labels"].convert("RGB").getpixel((0, 0))) == (230, 159, 0)
    assert pictures["200"].size == (rows[-1].width, rows[-1].height) == (100 * columns, 100)


def test_grids_reach_the_page_and_the_json(rich: Findings, tmp_path: Path) -> None:
    rows = grid_of(*kept(tmp_path / "objects", 0.2))
    findings = replace(rich, trained_engines=[engine("diffusion", rows)])
    text = write_report(findings, tmp_path / "r").read_text(encoding="utf-8")
    assert "synthetic patches of diffusion under these labels after 150 steps" in text
    assert "step 200 (kept)" in text
    told = json.loads((tmp_path / "r" / "report.json").read_text(encoding="utf-8"))["trained_engines"][0]
    assert told["grid"][0]["name"] == "real"
    assert told["fits"][0]["looks"][0] == {"step": 100, "distance": pytest.approx(3.2), "diversity": 0.6}
    assert told["fits"][0]["stopped"] == "all steps were taken"
    assert told["set_size"]["enough"]["value"] > 16


def test_names_are_escaped(rich: Findings) -> None:
    row = GridRow("real", "", 10, 10)
    page = render(replace(rich, trained_engines=[engine(EVIL, [row, replace(row, name="100")])]))
    assert "<script>alert" not in page
    assert "<img src=x" not in page

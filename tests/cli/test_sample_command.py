from __future__ import annotations

import csv
import json
from dataclasses import dataclass, field, replace
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from PIL import Image as Picture
from typer.testing import CliRunner

from equipoise.cli import sampling
from equipoise.cli.app import app
from equipoise.cli.contact_sheet import CELL, MOST, contact_sheet
from equipoise.core import Case, Geometry, Image, LabelMap, LabelScheme, Origin, registry
from equipoise.errors import EngineError, EquipoiseError, PlanError, UnknownKindError, WorkspaceError
from making import blob_case


@dataclass(frozen=True)
class Dots:
    kind: ClassVar[str] = "dots"
    radius: int = 4
    parents = frozenset()

    def fit(self, cases: Any, rng: np.random.Generator) -> Dots:
        return self

    def draw(self, n: int, rng: np.random.Generator) -> Any:
        geometry = Geometry((24, 24, 1))
        i, j, _ = np.indices(geometry.shape)
        for _ in range(n):
            x, y = rng.uniform(8, 16, 2)
            disc = ((i - x) ** 2 + (j - y) ** 2 < self.radius**2).astype(np.uint8)
            yield LabelMap.on(geometry, disc[None], LabelScheme.of(["dot"]))


@dataclass(frozen=True)
class Renderer:
    kind: ClassVar[str] = "renderer"
    dimensions: ClassVar[tuple[int, ...]] = (2,)
    modalities: ClassVar[tuple[str, ...]] = ("MRI",)
    needs: ClassVar[str] = "nothing"
    simulates: ClassVar[bool] = True
    anatomy: dict[str, Any] | str = field(default_factory=lambda: {"kind": "dots"})
    fails_at: int = -1

    def sample(self, n: int, rng: np.random.Generator, labels: Any = None) -> Any:
        for k, truth in enumerate(registry.make("anatomies", self.anatomy).draw(n, rng)):
            if k == self.fails_at:
                raise RuntimeError("coil is hot")
            pixels = (truth.array + 0.1 * rng.standard_normal(truth.array.shape)).astype(np.float32)
            yield Case(
                f"r-{k}",
                f"synthetic-{k}",
                Image.on(truth.geometry, pixels),
                truth,
                Origin("synthetic", "renderer"),
                scanner=f"simulated, {'new' if k % 2 else 'old'} magnet",
                attributes={"TE ms": 30.0},
            )


@dataclass(frozen=True)
class Mapless:
    kind: ClassVar[str] = "mapless"
    strength: float = 1.0

    def sample(self, n: int, rng: np.random.Generator, labels: Any = None) -> Any:
        return iter(())


KINDS = {"equipoise.engines": (Renderer, Mapless), "equipoise.anatomies": (Dots,)}


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    def entries(group: str) -> list[EntryPoint]:
        return [EntryPoint(cls.kind, f"{__name__}:{cls.__name__}", group) for cls in KINDS.get(group, ())]

    monkeypatch.setattr(registry, "entry_points", entries)


def call(*words: object) -> str:
    result = CliRunner().invoke(app, ["sample", *map(str, words)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def rows_of(out: Path) -> list[dict[str, str]]:
    with (out / "index.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_files_table_and_sheet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Path] = []
    monkeypatch.setattr(sampling.terminal, "open_page", opened.append)
    out = tmp_path / "made"
    said = call("renderer", "--anatomy", "dots", "--n", 5, "--out", out, "--preview")
    assert len(list((out / "images").iterdir())) == len(list((out / "labels").iterdir())) == 5
    assert "old magnet, new magnet" in said
    assert "5 simulated" in said
    assert opened == [out / "contact_sheet.png"]
    first = rows_of(out)[0]
    assert first["scanner"] == "simulated, old magnet"
    assert json.loads(first["acquisition"]) == {"TE ms": 30.0}
    assert not list(tmp_path.glob(".*")), "a temporary folder was left"
    told = json.loads(call("renderer", "--n", 2, "--out", tmp_path / "other", "--json"))
    assert told["scanners"] == ["simulated, old magnet", "simulated, new magnet"]
    assert len(opened) == 1, "only --preview opens the sheet"


def test_an_anatomy_may_have_parameters(tmp_path: Path) -> None:
    sizes = []
    for radius in (3, 6):
        out = tmp_path / f"r{radius}"
        call("renderer", "--anatomy", f"{{kind = 'dots', radius = {radius}}}", "--n", 1, "--out", out)
        sizes.append((out / "labels" / "r-0.nii.gz").stat().st_size)
        assert rows_of(out)
    assert sizes[0] != sizes[1]


@pytest.mark.parametrize(
    ("words", "error", "message"),
    [
        (("renderer", "--anatomy", "dot"), UnknownKindError, "Did you mean 'dots'"),
        (("renderer", "--anatomy", "{kind = 'dots', radios = 3}"), PlanError, "Did you mean 'radius'"),
        (("renderer", "--anatomy", "dots", "--set", "anatomy=dots"), PlanError, "both name an anatomy"),
        (("mapless", "--anatomy", "dots"), PlanError, "takes no --anatomy"),
        (("mapless",), EngineError, "made no case"),
        (("renderer", "--set", "fails_at=2"), EngineError, "RuntimeError: coil is hot"),
    ],
)
def test_what_cannot_be_made_leaves_nothing(
    words: tuple[str, ...], error: type[EquipoiseError], message: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=message):
        call(*words, "--n", 4, "--out", tmp_path / "made")
    assert list(tmp_path.iterdir()) == []


def test_what_exists_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep me")
    with pytest.raises(WorkspaceError, match="not overwritten"):
        call("renderer", "--out", tmp_path)
    assert (tmp_path / "mine.txt").read_text() == "keep me"


def test_a_file_in_the_way_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(WorkspaceError, match="cannot be written"):
        call("renderer", "--out", tmp_path / "file" / "made")


def test_time_left_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from contextlib import contextmanager

    told: list[tuple[str, int, int, float]] = []

    @contextmanager
    def listening(quiet: bool) -> Any:
        yield lambda *words: told.append(words)

    monkeypatch.setattr(sampling.terminal, "progress", listening)
    call("renderer", "--n", 3, "--out", tmp_path / "made")
    assert [(done, total) for _, done, total, _ in told] == [(0, 3), (1, 3), (2, 3), (3, 3)]
    assert told[1][3] > 0
    assert told[-1][3] == 0


def marked(sheet: Picture.Image, colour: tuple[int, int, int]) -> np.ndarray:
    return np.equal(np.asarray(sheet), colour).all(axis=-1)


GOLD, BLUE = (255, 196, 0), (86, 180, 233)


def test_outlines_lie_on_what_they_outline() -> None:
    (case,) = (replace(blob_case("a", side=50), origin=Origin("synthetic", "x")),)
    y, x = np.nonzero(marked(contact_sheet([case]), GOLD)[:CELL])
    i, j, _ = np.nonzero(case.labels.mask("blob"))
    scale = CELL / 50
    assert abs(x.mean() / scale - (i.mean() + 0.5)) < 0.5
    assert abs(y.mean() / scale - (j.mean() + 0.5)) < 0.5


def test_many_cases_are_capped_with_a_note() -> None:
    cases = [blob_case(str(k)) for k in range(MOST + 3)]
    full, capped = contact_sheet(cases[:MOST]), contact_sheet(cases)
    assert capped.width == full.width
    assert capped.height == full.height + 13, "a line says how many there are"
    assert contact_sheet(cases[:4], total=90).height > contact_sheet(cases[:4]).height


def volume(where: int) -> Case:
    """A body on every slice, widest in the middle, and a small lesion on one slice."""
    shape = (32, 32, 20)
    i, j, k = np.indices(shape)
    radius = 13 - 0.5 * np.abs(k - 10)
    body = (i - 16) ** 2 + (j - 16) ** 2 < radius**2
    lesion = body & (np.abs(i - 16) < 2) & (np.abs(j - 16) < 2) & (k == where)
    truth = LabelMap.on(Geometry(shape), np.stack([body, lesion]).astype(np.uint8), LabelScheme.of(["b", "l"], False))
    pixels = np.broadcast_to(np.arange(20, dtype=np.float32), shape)[None]
    return Case("v", "p", Image.on(truth.geometry, pixels), truth, Origin("synthetic", "x"))


@pytest.mark.parametrize("where", [3, 15])
def test_a_volume_is_shown_where_its_lesion_is(where: int) -> None:
    assert marked(contact_sheet([volume(where)]), BLUE)[:CELL].any()


def test_colour_and_touching_instances() -> None:
    numbers = np.zeros((1, 40, 40, 1), np.uint16)
    numbers[0, 10:20, 10:30], numbers[0, 20:30, 10:30] = 1, 2
    truth = LabelMap(numbers, LabelScheme.of(["cell"]))
    rgb = np.zeros((3, 40, 40, 1), np.uint8)
    rgb[0] = 180
    sheet = contact_sheet([Case("c", "p", Image(rgb), truth, Origin("synthetic", "x"))])
    pixels = np.asarray(sheet)
    assert tuple(pixels[5, 5]) == (180, 0, 0)
    border = marked(sheet, GOLD)[:CELL]
    between = border[int(CELL / 2), int(CELL * 0.47) : int(CELL * 0.53)]
    assert between.any(), "cells that touch are outlined one by one"
    assert not border[int(CELL / 2), int(CELL * 0.3) : int(CELL * 0.45)].any()


def test_crowded_maps_are_shown_without_outlines_too() -> None:
    names = [f"s{k}" for k in range(8)]
    masks = np.zeros((8, 32, 32, 1), np.uint8)
    for k in range(8):
        masks[k, 4 * k : 4 * k + 3, 4:28] = 1
    truth = LabelMap(masks, LabelScheme.of(names))
    sheet = contact_sheet([Case("c", "p", Image(np.zeros((1, 32, 32, 1), np.uint8)), truth, Origin("synthetic", "x"))])
    assert not marked(sheet, GOLD)[:CELL].any()
    assert marked(sheet, GOLD)[CELL : 2 * CELL].any()


def test_a_case_without_a_label_map_is_shown() -> None:
    sheet = contact_sheet([blob_case("a").without_truth()])
    assert np.asarray(sheet)[:CELL, :CELL].std() > 10

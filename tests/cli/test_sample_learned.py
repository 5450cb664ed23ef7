"""``equipoise sample`` with an engine that learns: fitted on a folder, heard of, kept, and continued."""

from __future__ import annotations

import json
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Picture
from typer.testing import CliRunner

from equipoise.cli import sampling
from equipoise.cli.app import app
from equipoise.engines.parts.learned.course import Run
from equipoise.errors import DataError, EngineError, PlanError
from making import blob_case

TINY = [
    word
    for setting in ("patch=16", "channels=[16,24]", "fold=2", "steps=3", "batch=2", "sublabels=2", "sampling_steps=2")
    for word in ("--set", setting)
]


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    lines = ["image,mask,patient"]
    for k in range(4):
        case = blob_case(f"c{k}", side=24)
        grey = np.clip(80 + 100 * case.image.array[0, :, :, 0], 0, 255).astype(np.uint8)
        Picture.fromarray(grey.T).save(folder / f"i{k}.png")
        Picture.fromarray((255 * case.labels.mask("blob")[:, :, 0]).astype(np.uint8).T).save(folder / f"m{k}.png")
        lines.append(f"i{k}.png,m{k}.png,p{k}")
    (folder / "index.csv").write_text("\n".join(lines) + "\n")
    return folder


def call(*words: object) -> str:
    result = CliRunner().invoke(app, ["sample", *map(str, words)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def bytes_of(out: Path) -> list[bytes]:
    return [path.read_bytes() for path in sorted((out / "images").iterdir())]


def test_one_command_fits_and_samples_and_the_same_one_goes_on(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[str, int, int, float]] = []

    @contextmanager
    def listening(quiet: bool) -> Any:
        yield lambda *words: told.append(words)

    monkeypatch.setattr(sampling.terminal, "progress", listening)
    taken: list[int] = []
    whole = Run.step
    monkeypatch.setattr(Run, "step", lambda self, step: taken.append(step) or whole(self, step))
    words = ["diffusion", "--fit", images, *TINY, "--n", 2, "--keep", tmp_path / "kept"]
    labels = ["--labels", "{ nucleus = 'mask' }"]
    said = call(*words, *labels, "--out", tmp_path / "a")
    assert "Trained" in said
    assert "of 3 kept, held-out distance" in said
    assert taken == [1, 2, 3]
    assert [(stage, step) for stage, step, *_ in told if stage == "fitting"][:2] == [("fitting", 1), ("fitting", 2)]
    again = json.loads(call(*words, *labels, "--out", tmp_path / "b", "--json"))
    assert taken == [1, 2, 3], "the finished training was done again"
    assert again["training"]["stopped"]
    assert bytes_of(tmp_path / "a") == bytes_of(tmp_path / "b")
    assert "nucleus" in (tmp_path / "a" / "equipoise.json").read_text(encoding="utf-8")
    call(*words, "--out", tmp_path / "c")
    assert "nucleus" not in (tmp_path / "c" / "equipoise.json").read_text(encoding="utf-8")


def test_engines_with_one_seed_draw_the_same_label_maps(images: Path, tmp_path: Path) -> None:
    masks = []
    for kind, tiny in (("diffusion", TINY), ("gan", TINY[:-2])):
        out = tmp_path / kind
        call(kind, "--fit", images, *tiny, "--n", 2, "--seed", 4, "--out", out)
        # A case's name ends with the key of its random stream, the same for both engines.
        masks.append({path.name.removeprefix(kind): path.read_bytes() for path in (out / "labels").iterdir()})
    assert len(masks[0]) == 2
    assert masks[0] == masks[1]


def test_an_engine_that_has_learned_nothing_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="diffusion has learned from no image yet") as caught:
        call("diffusion", "--n", 8, "--out", tmp_path / "made")
    assert f"equipoise sample diffusion --fit FOLDER --n 8 --out {tmp_path / 'made'}" in str(caught.value.fix)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "error", "message"),
    [
        (["--labels", "{ a = 'mask' }"], PlanError, "describe images, and none are named"),
        (["--fit", "images", "--plan", "p.toml"], PlanError, "both name images"),
        (["--fit", "images", "--labels", "mask"], PlanError, "is no table"),
        (["--fit", "images", "--labels", "{}"], DataError, "no image of this set is annotated"),
    ],
)
def test_wrong_words_are_said(
    words: list[str], error: type[Exception], message: str, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(images.parent)
    with pytest.raises(error, match=message):
        call("gan", *words, "--out", "made")
    assert not Path("made").exists()

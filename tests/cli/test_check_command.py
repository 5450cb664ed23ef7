"""`equipoise check`: exit code, what it prints, JSON, and the page."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from equipoise.cli import checking, main
from picture_set import PLAN_HEAD, SIDE, PictureSet, anatomy

Run = Callable[..., tuple[int, str, str]]

PLAN = (
    PLAN_HEAD.replace('"blobs"', '"."')
    + """\
[engines.a]
kind = "augmentation"
"""
)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """Run ``equipoise check …`` as the shell would; return exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)

    def call(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["equipoise", "check", *map(str, words)])
        with pytest.raises(SystemExit) as stopped:
            main()
        out, err = capsys.readouterr()
        return int(stopped.value.code or 0), out, err

    return call


@pytest.fixture
def pictures(tmp_path: Path) -> PictureSet:
    return PictureSet.of_patients(tmp_path / "blobs")


def empty_masks(pictures: PictureSet, count: int) -> None:
    for n in range(count):
        Image.fromarray(np.zeros((SIDE, SIDE), np.uint8)).save(pictures.mask(n))


def test_a_clean_folder_exits_0_and_writes_the_page(run: Run, pictures: PictureSet, tmp_path: Path) -> None:
    code, out, _ = run("blobs")
    assert code == 0
    assert "10 cases of 10 patients: nothing to mend" in out
    assert re.search(r"structure\s+10\s+10", out)
    page = (tmp_path / "check.html").read_text()
    assert "nothing to mend" in page
    assert "http://" not in page.replace("http://www.w3.org", "")


def test_a_finding_exits_1_and_says_file_why_and_fix(run: Run, pictures: PictureSet) -> None:
    empty_masks(pictures, 1)
    code, out, _ = run("blobs", "--out", "report")
    assert code == 1
    assert "1 warning" in out
    assert "blobs/masks/c0.png" in out
    assert "why it matters: nobody can tell" in out
    assert 'missing = "absent"' in out
    assert "Again  equipoise check blobs" in out


@pytest.mark.parametrize("damaged", [1, 7])
@pytest.mark.parametrize("table", [True, False])
def test_a_mask_of_no_bytes_in_a_bare_folder_is_a_finding(
    run: Run, pictures: PictureSet, damaged: int, table: bool
) -> None:
    for n in range(damaged):
        pictures.mask(n).write_bytes(b"")
    if not table:
        (pictures.root / "index.csv").unlink()
    code, out, err = run("blobs", "--json", *([] if table else ["--one-image-one-patient"]))
    found = json.loads(out)["findings"]
    assert (code, err) == (1, "")
    files = {Path(f["file"]).name for f in found if f["code"] == "unreadable"}
    assert files == {f"c{n}.png" for n in range(damaged)}
    assert all("0 bytes" in f["what"] for f in found if f["code"] == "unreadable")


def test_json_holds_every_finding_and_nothing_else(run: Run, pictures: PictureSet) -> None:
    empty_masks(pictures, 7)
    code, out, err = run("blobs", "--json")
    content: dict[str, Any] = json.loads(out)
    assert (code, content["clean"], err) == (1, False, "")
    assert [f["code"] for f in content["findings"]] == ["empty"] * 7
    assert all(f[name] for f in content["findings"] for name in ("file", "what", "why", "fix", "severity"))
    assert content["labels"]["structure"]["cases"] == 3
    assert Path(content["page"]).is_file()


def test_a_finding_that_repeats_is_printed_five_times_and_counted(run: Run, pictures: PictureSet) -> None:
    empty_masks(pictures, 7)
    _, out, _ = run("blobs")
    assert out.count("masks/c") == checking.SHOWN
    assert "… and 2 more" in out
    assert out.count("why it matters") == 1


def test_the_page_shows_suspicious_overlays(run: Run, pictures: PictureSet, tmp_path: Path) -> None:
    Image.fromarray(anatomy(1, 40)[1]).save(pictures.mask(1))
    pictures.image(3).write_bytes(pictures.image(2).read_bytes())
    run("blobs", "--out", tmp_path)
    page = (tmp_path / "check.html").read_text()
    assert page.count("data:image/png;base64") == 2
    assert "c2 | c3" in page
    assert "image and mask on different grids" in page


def test_pictures_are_limited_per_kind_of_finding(run: Run, tmp_path: Path) -> None:
    many = PictureSet(tmp_path / "many")
    for n in range(checking.PICTURES + 3):
        many.add(f"c{n}", f"p{n}", anatomy(n)[0], np.zeros((SIDE, SIDE), np.uint8))
    many.write()
    assert run("many")[0] == 1
    page = (tmp_path / "check.html").read_text()
    assert page.count("data:image/png;base64") == checking.PICTURES
    assert f"of the first {checking.PICTURES} findings" in page


def test_a_plan_is_checked_with_its_own_labels_and_sizes(run: Run, pictures: PictureSet) -> None:
    plan = pictures.root / "plan.toml"
    plan.write_text(PLAN)
    code, out, _ = run(plan)
    assert (code, "Blobs  10 cases of 10 patients: nothing to mend" in out) == (0, True)
    plan.write_text(PLAN.replace("sizes = [2]", "sizes = [2, 5]"))
    code, out, _ = run(plan)
    assert code == 1
    assert "asks for 5 training patients; its split of 10 gives 4" in out
    assert "sizes = [2]" in out


def test_the_external_set_is_checked_too(run: Run, pictures: PictureSet, tmp_path: Path) -> None:
    other = PictureSet(tmp_path / "other")
    for n in range(4):
        other.add(f"c{n}", f"p{n}", *anatomy(n if n == 0 else 100 + n))
    other.write()
    external = '[external]\nkind = "folder"\npath = "other"\nlabels = { blob = "mask" }\npatient = "patient"\n'
    plan = tmp_path / "plan.toml"
    plan.write_text(PLAN.replace('path = "."', 'path = "blobs"') + external)
    code, out, _ = run(plan, "--data", tmp_path, "--json")
    content = json.loads(out)
    assert (code, content["cases"], content["patients"]) == (1, 14, 14)
    (found,) = content["findings"]
    assert (found["code"], found["ids"]) == ("duplicate-patient", ["c0", "external:c0"])


def test_accepted_pairs_of_a_plan_are_no_finding(run: Run, pictures: PictureSet) -> None:
    pictures.image(3).write_bytes(pictures.image(2).read_bytes())
    plan = pictures.root / "plan.toml"
    plan.write_text(PLAN)
    assert run(plan)[0] == 1
    plan.write_text(PLAN.replace("[split]", '[split]\naccept_near_duplicates = [["c2", "c3"]]'))
    assert run(plan)[0] == 0


def test_patients_can_be_stated_on_the_command_line(run: Run, pictures: PictureSet) -> None:
    for row in pictures.rows:
        del row["patient"]
    pictures.write()
    code, out, _ = run("blobs")
    assert code == 1
    assert "patients not stated" in out
    assert "equipoise check blobs --one-image-one-patient" in out
    assert run("blobs", "--one-image-one-patient")[0] == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nowhere"], "no such folder"),
        (["nothing"], "no known layout"),
        (["nowhere.toml"], "the plan cannot be read"),
        (["blobs", "--out", "file/check.html"], "could not be written"),
    ],
)
def test_what_cannot_be_checked_is_one_clear_error(
    run: Run, pictures: PictureSet, tmp_path: Path, words: list[str], said: str
) -> None:
    (tmp_path / "nothing").mkdir()
    (tmp_path / "file").write_text("")
    code, _, err = run(*words)
    assert code == 2
    assert said in err
    assert "fix:" in err
    assert "Traceback" not in err

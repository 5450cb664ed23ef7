"""Every kind of bad input ends in one clear error, says what to do, and leaves the workspace usable.

Each row spoils a small good set or its plan, runs the real command line, and expects the error by its type, by the file
that it names and by what it says. Then the fault is taken out again and the workspace must be as good as new.
"""

from __future__ import annotations

import errno
import json
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import EntryPoint, EntryPoints, entry_points
from pathlib import Path
from typing import Any, ClassVar

import nibabel as nib
import numpy as np
import pytest
from PIL import Image
from scipy import ndimage
from sqlalchemy import event
from sqlalchemy.pool import Pool

from equipoise.cli import main
from equipoise.core import Case, LabelMap, Origin, registry
from equipoise.core import Image as CaseImage
from equipoise.workspace import Workspace
from equipoise.workspace import objects as objects_module
from picture_set import PLAN_HEAD, SIDE, PictureSet, anatomy

PLAN = (
    PLAN_HEAD
    + """\
replicates = 1
ratios = [1.0]
weights = [0.0, 1.0]
budgets = ["steps"]
skip = ["pretrain", "weighted", "self-training"]
[training]
steps = 2
learner = { kind = "unet", preset = "cpu-small", patch = 32, batch = 2 }
[engines.e]
kind = "augmentation"
patch = 32
"""
)


@dataclass(frozen=True)
class Outcome:
    """What a command left: exit code and both streams."""

    code: int
    out: str
    err: str


@dataclass
class Bench:
    """A folder with a good set and its plan, and the command line to run on them."""

    root: Path
    pictures: PictureSet
    call: Callable[..., Outcome]
    text: str = PLAN

    def plan(self, old: str, new: str) -> Path:
        """Change the plan."""
        assert old in self.text
        self.text = self.text.replace(old, new)
        return self.root / "plan.toml"

    def compare(self, *words: str) -> Outcome:
        """Run the plan as it is now."""
        (self.root / "plan.toml").write_text(self.text)
        return self.call("compare", "plan.toml", "--workspace", "w", "--on", "process", *words)

    def check(self) -> Outcome:
        """Run the gate on the plan as it is now."""
        (self.root / "plan.toml").write_text(self.text)
        return self.call("check", "plan.toml", "--json")


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Bench:
    monkeypatch.chdir(tmp_path)

    def call(*words: str) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["equipoise", *words])
        code = 0
        try:
            main()
        except SystemExit as stopped:
            code = int(stopped.code or 0)
        return Outcome(code, *capsys.readouterr())

    return Bench(tmp_path, PictureSet.of_patients(tmp_path / "blobs"), call)


# --- files and labels: one row each ---------------------------------------------------------------------------------


def lost_mask(b: Bench) -> Path:
    b.pictures.mask(3).unlink()
    return b.pictures.mask(3)


def unnamed_mask(b: Bench) -> Path:
    b.pictures.rows[3]["mask"] = ""
    b.pictures.write()
    return b.pictures.root / "index.csv"


def swapped_mask(b: Bench) -> Path:
    row = b.pictures.rows[3]
    row["image"], row["mask"] = row["mask"], row["image"]
    b.pictures.write()
    return b.pictures.mask(3)


def mask_of_another_shape(b: Bench) -> Path:
    Image.fromarray(anatomy(3, SIDE - 1)[1]).save(b.pictures.mask(3))
    return b.pictures.mask(3)


def volumes(b: Bench) -> Path:
    """Put NIfTI volumes in the place of the pictures, and return the folder."""
    root = b.root / "volumes"
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    for n in range(10):
        rng = np.random.default_rng(n)
        mask = np.zeros((16, 16, 6), np.uint8)
        mask[3:9, 4:10, 1:5] = 1
        texture = ndimage.gaussian_filter(rng.standard_normal(mask.shape), (1.5, 1.5, 1)) + mask
        save_volume(root / f"images/v{n}.nii.gz", texture.astype(np.float32))
        save_volume(root / f"masks/v{n}.nii.gz", mask)
    b.plan('kind = "folder"\npath = "blobs"', 'kind = "nifti"\npath = "volumes"')
    b.plan('patient = "patient"', "one_image_one_patient = true")
    b.plan('{ blob = "mask" }', "{ blob = 1 }")
    return root


def save_volume(file: Path, array: np.ndarray, shift: float = 0.0) -> None:
    affine = np.diag([1.0, 1.0, 2.0, 1.0])
    affine[:3, 3] = shift
    nib.save(nib.Nifti1Image(array, affine), file)


def mask_of_another_affine(b: Bench) -> Path:
    file = volumes(b) / "masks/v3.nii.gz"
    save_volume(file, np.asarray(nib.load(file).dataobj), shift=7.0)
    return file


def sixteen_bit_labels(b: Bench) -> Path:
    b.plan('{ blob = "mask" }', '{ blob = 255 }\nmask = "mask"')
    mask = (anatomy(3)[1] > 0).astype(np.uint16) * 40_000
    Image.fromarray(mask).save(b.pictures.mask(3))
    return b.pictures.mask(3)


def float_labels(b: Bench) -> Path:
    file = volumes(b) / "masks/v3.nii.gz"
    save_volume(file, np.asarray(nib.load(file).dataobj).astype(np.float32) * 0.7)
    return file


def unknown_label_value(b: Bench) -> Path:
    b.plan('{ blob = "mask" }', '{ blob = 255 }\nmask = "mask"')
    mask = anatomy(3)[1]
    mask[40:, 40:] = 7
    Image.fromarray(mask).save(b.pictures.mask(3))
    return b.pictures.mask(3)


def empty_image(b: Bench) -> Path:
    b.pictures.image(3).write_bytes(b"")
    return b.pictures.image(3)


def empty_mask_file(b: Bench) -> Path:
    b.pictures.mask(3).write_bytes(b"")
    return b.pictures.mask(3)


def truncated_image(b: Bench) -> Path:
    return cut(b.pictures.image(3), 0.5)


def truncated_volume(b: Bench) -> Path:
    return cut(volumes(b) / "images/v3.nii.gz", 0.6)


def cut(file: Path, share: float) -> Path:
    content = file.read_bytes()
    file.write_bytes(content[: int(share * len(content))])
    return file


def folder_of_nothing(b: Bench) -> Path:
    shutil.rmtree(b.pictures.root)
    b.pictures.root.mkdir()
    return b.pictures.root


def no_patient_column(b: Bench) -> Path:
    for row in b.pictures.rows:
        del row["patient"]
    b.pictures.write()
    b.plan('patient = "patient"\n', "")
    return b.pictures.root / "index.csv"


@dataclass(frozen=True)
class Row:
    """One kind of bad data: how it is made, and what must be said about it."""

    spoil: Callable[[Bench], Path]
    error: str
    said: str
    fix: str
    gate: str


ROWS = [
    Row(lost_mask, "UnreadableFileError", "missing", "put it there", "missing-file"),
    Row(unnamed_mask, "LabelError", "name no mask file", 'missing = "absent"', "missing-mask"),
    Row(swapped_mask, "LabelError", "must hold exactly two numbers", "threshold", "swapped"),
    Row(mask_of_another_shape, "GeometryMismatchError", "shapes differ", "resample", "geometry"),
    Row(mask_of_another_affine, "GeometryMismatchError", "another origin", "correct the header", "geometry"),
    Row(sixteen_bit_labels, "LabelError", "40000", "add 40000 to `labels`", "labels"),
    Row(float_labels, "LabelError", "not whole", "threshold = 0.5", "labels"),
    Row(unknown_label_value, "LabelError", "the mask holds 7", "add 7 to `labels`", "labels"),
    Row(empty_image, "UnreadableFileError", "0 bytes", "copy it again", "unreadable"),
    Row(empty_mask_file, "UnreadableFileError", "0 bytes", "copy it again", "unreadable"),
    Row(truncated_image, "UnreadableFileError", "cannot be read", "copy it again", "unreadable"),
    Row(truncated_volume, "UnreadableFileError", "cannot be read", "copy it again", "unreadable"),
    Row(folder_of_nothing, "DataError", "one table", "images/{id}.png", "set"),
    Row(no_patient_column, "PatientUnknownError", "which patient", "one_image_one_patient = true", "patient-unknown"),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.spoil.__name__)
def test_bad_data_is_one_clear_error_and_a_finding_of_the_gate(bench: Bench, row: Row) -> None:
    file = row.spoil(bench)

    ended = bench.compare("--json")
    told = clear_error(ended)
    assert told["error"] == row.error
    assert Path(told["file"]) == file
    assert row.said in told["message"]
    assert row.fix in told["fix"]
    usable(bench)

    checked = bench.check()
    assert checked.code == 1
    found = json.loads(checked.out)["findings"]
    assert [f["code"] for f in found] == [row.gate]
    assert all(found[0][part] for part in ("file", "what", "why", "fix"))


def clear_error(ended: Outcome) -> dict[str, Any]:
    """Return the error as JSON after checking that it is one, and that nothing else was said."""
    assert ended.code == 2, ended
    assert "Traceback" not in ended.out + ended.err
    told: dict[str, Any] = json.loads(ended.out)
    assert set(told) == {"error", "message", "file", "why", "fix"}
    assert told["message"]
    assert told["fix"]
    return told


def usable(bench: Bench) -> None:
    """Check that the workspace opens, that its log is whole, and that the next run may write."""
    with Workspace(bench.root / "w") as workspace, workspace.writing():
        workspace.read_log()
        left = [p for p in (bench.root / "w").rglob(".*") if p.is_file()]
        assert left == []


def test_the_error_is_readable_in_the_terminal_too(bench: Bench) -> None:
    file = mask_of_another_shape(bench)
    ended = bench.compare()
    assert ended.code == 2
    lines = ended.err.splitlines()
    assert "shapes differ, (48, 48, 1) and (47, 47, 1)" in lines[-4]
    assert lines[-3] == f"  file: {file}"
    assert lines[-2].startswith("  why it matters: ")
    assert lines[-1].startswith("  fix: ")
    assert "Traceback" not in ended.err


def test_whole_float_and_sixteen_bit_labels_are_no_fault(bench: Bench) -> None:
    Image.fromarray((anatomy(3)[1] > 0).astype(np.uint16) * 40_000).save(bench.pictures.mask(3))
    assert bench.check().code == 0
    masks = volumes(bench) / "masks"
    for file in masks.iterdir():
        save_volume(file, np.asarray(nib.load(file).dataobj).astype(np.float64))
    assert bench.check().code == 0


# --- patients -------------------------------------------------------------------------------------------------------


def test_one_patient_in_two_folders_under_two_ids(bench: Bench) -> None:
    both = bench.pictures
    both.rows.clear()
    for hospital, patients in (("north", range(8)), ("south", range(4, 12))):
        for n in patients:
            image, mask = anatomy(n)
            both.add(f"{hospital}/{n}", f"{hospital}-{n}", image, mask, hospital)
    both.write()

    told = clear_error(bench.compare("--json"))
    assert told["error"] == "LeakageError"
    assert "near-duplicate images of different patients" in told["message"]
    assert "north/" in told["message"]
    assert "same patient id" in told["fix"]
    usable(bench)

    found = json.loads(bench.check().out)["findings"]
    assert [(f["code"], f["ids"]) for f in found] == [
        ("duplicate-patient", [f"north/{n}", f"south/{n}"]) for n in range(4, 8)
    ]

    both.rows = [row for row in both.rows if row["id"] not in {f"south/{n}" for n in range(4, 8)}]
    both.write()
    assert bench.check().code == 0
    assert bench.compare("--json").code == 0


def test_one_image_one_patient_is_stated_by_the_user_and_printed_on_the_first_page(bench: Bench) -> None:
    no_patient_column(bench)
    clear_error(bench.compare("--json"))
    bench.plan("[data]\n", "[data]\none_image_one_patient = true\n")
    assert bench.check().code == 0
    ended = bench.compare("--json")
    assert ended.code == 0, ended
    page = Path(json.loads(ended.out)["report"])
    first = json.loads(page.with_name("report.json").read_text())["first_page"]
    (stated,) = [c for c in first if c["name"] == "One image = one patient"]
    assert stated["state"] == "warning"
    assert stated["text"] in page.read_text()


def test_a_plan_that_asks_for_more_real_cases_than_there_are(bench: Bench) -> None:
    bench.plan("sizes = [2]", "sizes = [2, 50]")
    told = clear_error(bench.compare("--json"))
    assert told["error"] == "NotEnoughCasesError"
    assert "50 training patients are asked for, 4 are there" in told["message"]
    assert "at most 4" in told["fix"]
    usable(bench)
    found = json.loads(bench.check().out)["findings"]
    assert [f["code"] for f in found] == ["not-enough"]


# --- engines --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Broken:
    """Copies its training cases, and breaks where it is told to."""

    kind: ClassVar[str] = "broken"

    at: str = "nowhere"
    _cases: tuple[Case, ...] = ()

    def fit(self, cases: Sequence[Case], rng: np.random.Generator) -> Broken:
        if self.at == "fit":
            raise ZeroDivisionError("no cases weigh anything")
        return replace(self, _cases=tuple(cases))

    def sample(self, n: int, rng: np.random.Generator, labels: Sequence[LabelMap] | None = None) -> Iterator[Case]:
        for index in range(n):
            if self.at == "sample" and index == 1:
                raise IndexError("the second case is not there")
            real = self._cases[index % len(self._cases)]
            array = real.image.array.astype(np.float32)
            if self.at == "nan":
                array[0, 5, 5, 0] = np.nan
            parents = frozenset(c.patient for c in self._cases)
            image = CaseImage.on(real.image.geometry, array)
            yield Case(
                f"made-{index}", f"made-{index}", image, real.truth, Origin("synthetic", self.kind, parents=parents)
            )


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Register the engine as a plug-in would be."""
    ours = EntryPoint("broken", f"{__name__}:Broken", "equipoise.engines")

    def found(group: str) -> EntryPoints:
        known = entry_points(group=group)
        return EntryPoints([*known, ours]) if group == "equipoise.engines" else known

    monkeypatch.setattr(registry, "entry_points", found)


@pytest.mark.parametrize("mode", ["frozen", "streamed"])
@pytest.mark.parametrize(
    ("at", "said"),
    [
        ("fit", "failed while it was fitted: ZeroDivisionError: no cases weigh anything"),
        ("sample", "failed while it made case 2: IndexError"),
        ("nan", "case 'made-0' holds NaN"),
    ],
)
def test_an_engine_that_breaks(bench: Bench, broken: None, at: str, mode: str, said: str) -> None:
    good = bench.text
    bench.plan('kind = "augmentation"\npatch = 32', f'kind = "broken"\nat = "{at}"\nmode = "{mode}"')
    told = clear_error(bench.compare("--json"))
    assert told["error"] == "EngineError"
    assert "'broken'" in told["message"]
    assert said in told["message"]
    assert told["why"]
    usable(bench)
    if (at, mode) == ("nan", "frozen"):
        bench.text = good
        assert bench.compare("--json").code == 0


# --- the disk and the workspace -------------------------------------------------------------------------------------


@pytest.mark.parametrize("after", [0, 1, 4])
def test_a_full_disk_keeps_what_is_finished(bench: Bench, monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    written = 0
    real = objects_module.os.fsync

    def full(handle: int) -> None:
        nonlocal written
        written += 1
        if written > after:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(handle)

    with monkeypatch.context() as patched:
        patched.setattr(objects_module.os, "fsync", full)
        told = clear_error(bench.compare("--json"))
    assert written == after + 1
    assert told["error"] == "WorkspaceFullError"
    assert "disk is full" in told["message"]
    assert str(bench.root / "w") in told["file"]
    assert "free some space" in told["fix"]
    usable(bench)
    assert bench.call("resume", "w", "--on", "process", "--json").code == 0 if after else bench.compare().code == 0


def test_a_full_disk_under_the_database(bench: Bench) -> None:
    with Workspace(bench.root / "w"):
        pass
    good = bench.text
    bench.text += "# " + "no room for this " * 20_000

    def small(connection: Any, _: object) -> None:
        # SQLite then says itself that the "database or disk is full".
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages}")

    event.listen(Pool, "connect", small)
    try:
        told = clear_error(bench.compare("--json"))
    finally:
        event.remove(Pool, "connect", small)
    assert told["error"] == "WorkspaceFullError"
    usable(bench)
    bench.text = good
    assert bench.compare("--json").code == 0


def test_two_runs_in_one_workspace(bench: Bench) -> None:
    with Workspace(bench.root / "w") as first, first.writing():
        told = clear_error(bench.compare("--json"))
        assert told["error"] == "WorkspaceBusyError"
        assert "another run is writing" in told["message"]
        assert told["file"] == str(bench.root / "w")
        assert "--workspace" in told["fix"]
        assert first.plans() == []
    usable(bench)
    assert bench.compare("--json").code == 0

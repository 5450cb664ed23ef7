"""What `equipoise sample` writes is read by `check`, by a bare path and by the exporter, and refused as real data."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from PIL import Image as Picture

from equipoise.cli import main
from equipoise.core import Case, Image, LabelMap, LabelScheme, Origin
from equipoise.errors import LabelError, UnreadableFileError
from equipoise.formats import detect, read
from equipoise.formats.check import check_sets
from equipoise.formats.folder_writer import write_folder
from equipoise.formats.nnunet import write_nnunet
from equipoise.formats.stated import STATEMENT
from making import SCHEME, blob_case
from picture_set import PLAN_HEAD

MADE = Origin("synthetic", "simulate-ct", '{"kind":"simulate-ct"}', "s1", frozenset({"p 2", "p1"}))
ENGINES = {
    "simulate-ct": "{kind='phantom', size=[64,64,1]}",
    "simulate-mri": "{kind='head', size=[64,64,1], spacing=[3.75,3.75,1.0]}",
    "simulate-ultrasound": "{kind='breast-and-neck', size=[64,64,1], spacing=[0.6,0.6,0.3]}",
    "simulate-histology": "{kind='tissue', size=[64,64,1]}",
    "simulate-fundus": "{kind='eye-fundus', size=[64,64]}",
    "simulate-xray": "{kind='torso', size=[48,48,48], spacing=[9.0,9.0,9.0]}",
}
SLOW = [pytest.mark.slow]


def call(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    monkeypatch.setattr(sys, "argv", ["equipoise", *map(str, words)])
    with pytest.raises(SystemExit) as stopped:
        main()
    return int(stopped.value.code or 0)


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=SLOW * (kind not in ("simulate-ct", "simulate-histology"))) for kind in ENGINES]
)
def test_a_sampled_folder_is_checked_with_no_further_words(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    size = ["--set", "size=[64,64]"] if kind == "simulate-xray" else []
    assert (
        call(monkeypatch, "sample", kind, "--n", 2, "--anatomy", ENGINES[kind], *size, "--out", "made", "--json") == 0
    )
    capsys.readouterr()
    assert call(monkeypatch, "check", "made", "--json") == 0
    checked: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert (checked["cases"], checked["read"], checked["patients"]) == (2, 2, 0)
    assert checked["synthetic"] == {kind: 2}
    assert sum(label["voxels"] for label in checked["labels"].values()) > 0
    page = Path("check.html").read_text()
    assert "all 2 cases are simulated: no test data" in page
    for case in read(detect("made")):
        assert (case.origin.kind, case.origin.engine, case.patient) == ("synthetic", kind, f"synthetic-{case.id}")
        assert case.modality
        assert (case.scanner or "").startswith("simulated, ")


def test_a_plan_refuses_a_sampled_folder_as_real_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    cases = [replace(blob_case(f"c{i}", seed=i), origin=MADE) for i in range(6)]
    write_folder(cases, tmp_path / "blobs")
    plan = tmp_path / "plan.toml"
    # Stated by hand, labels and all, and by the path alone: the origin is found either way.
    stated = PLAN_HEAD[: PLAN_HEAD.index("labels")] + PLAN_HEAD[PLAN_HEAD.index("[split]") :]
    for head in (stated, stated.replace('path = "blobs"', 'path = "blobs"\nlabels = { blob = 1 }\nmask = "label"')):
        plan.write_text(head + '[engines.a]\nkind = "augmentation"\n')
        assert call(monkeypatch, "check", plan, "--json") == 1
        found = json.loads(capsys.readouterr().out)["findings"]
        (refused,) = [f for f in found if f["code"] == "synthetic"]
        assert "6 of 6 cases are synthetic, made by simulate-ct" in refused["what"]
        assert call(monkeypatch, "compare", plan, "--workspace", tmp_path / "w", "--on", "process") == 2
        assert "must be real" in capsys.readouterr().err


def case_of(masks: np.ndarray, name: str, **changes: Any) -> Case:
    scheme = changes.pop("scheme", LabelScheme.of({"one": 1, "two/2": 7}))
    pixels = np.random.default_rng(int(masks.sum())).normal(size=(1, *masks.shape[1:])).astype(np.float32)
    given: dict[str, Any] = {"origin": MADE, "scanner": "simulated, scanner", "modality": "CT", **changes}
    return Case(name, f"synthetic-{name}", Image(pixels, unit="px"), LabelMap(masks, scheme, unit="px"), **given)


def masks_of(*boxes: tuple[int, int, int, int]) -> np.ndarray:
    masks = np.zeros((2, 12, 10, 1), np.uint16)
    for channel, start, stop, number in boxes:
        masks[channel, start:stop, 2:8] = number
    return masks


@pytest.mark.parametrize("exclusive", [True, False])
@pytest.mark.parametrize("counted", [1, 300])
def test_everything_comes_back(tmp_path: Path, exclusive: bool, counted: int) -> None:
    scheme = LabelScheme.of({"one": 1, "two/2": 7}, exclusive)
    masks = [masks_of((0, 1, 4, 1), (1, 5, 6, 1)), masks_of((0, 2, 3, 1), (0, 4, 5, counted))]
    cases = [case_of(m, f"c{i}", scheme=scheme, site="Bern", licence="CC0") for i, m in enumerate(masks)]
    rows = write_folder(iter(cases), tmp_path / "made")
    assert [row["case"] for row in rows] == ["c0", "c1"]
    files = len(list((tmp_path / "made" / "labels").iterdir()))
    assert files == (2 if exclusive and counted == 1 else 4)
    for before, after in zip(cases, read({"kind": "folder", "path": str(tmp_path / "made")}), strict=True):
        np.testing.assert_array_equal(after.image.array, before.image.array)
        np.testing.assert_array_equal(after.labels.array, before.labels.array)
        assert after.labels.scheme.names == before.labels.scheme.names
        assert (after.labels.scheme.exclusive, after.image.unit) == (exclusive, "px")
        for name in ("patient", "site", "scanner", "modality", "licence", "origin"):
            assert getattr(after, name) == getattr(before, name), name


def test_voxels_that_do_not_count_come_back(tmp_path: Path) -> None:
    before = case_of(masks_of((0, 1, 4, 1)), "c")
    ignore = np.zeros((1, 12, 10, 1), bool)
    ignore[:, 8:] = True
    write_folder([replace(before, truth=replace(before.labels, ignore=ignore))], tmp_path)
    (after,) = read(detect(tmp_path))
    np.testing.assert_array_equal(after.labels.ignored(), ignore[0])
    np.testing.assert_array_equal(after.labels.array, before.labels.array)


def test_real_cases_stay_real(tmp_path: Path) -> None:
    write_folder([case_of(masks_of((0, 1, 4, 1)), "c", origin=Origin())], tmp_path)
    (case,) = read(detect(tmp_path))
    assert case.origin == Origin()
    header = nib.load(tmp_path / "images" / "c.nii.gz").header
    assert not header.extensions


def test_a_case_stays_synthetic_where_its_table_is_lost(tmp_path: Path) -> None:
    write_folder([case_of(masks_of((0, 1, 4, 1)), "c")], tmp_path)
    for name in ("index.csv", STATEMENT):
        (tmp_path / name).unlink()
    spec = {"path": str(tmp_path), "masks": "labels/{id}.nii.gz", "labels": {"one": 1}, "one_image_one_patient": True}
    for kind in ("nifti", "folder"):
        (case,) = read({**spec, "kind": kind, "images": "images/{id}.nii.gz"})
        assert case.origin == MADE


def test_a_case_stays_synthetic_where_its_image_is_converted(tmp_path: Path) -> None:
    write_folder([case_of(masks_of((0, 1, 4, 1)), "c")], tmp_path)
    for name in ("images", "labels"):
        Picture.fromarray(np.eye(12, 10, dtype=np.uint8).T).save(tmp_path / name / "c.png")
    table = tmp_path / "index.csv"
    table.write_text(table.read_text().replace(".nii.gz", ".png"))
    (case,) = read(detect(tmp_path))
    assert case.origin == MADE


def test_another_programs_comment_is_no_origin(tmp_path: Path) -> None:
    write_folder([case_of(masks_of((0, 1, 4, 1)), "c", origin=Origin())], tmp_path)
    file = tmp_path / "images" / "c.nii.gz"
    for comment in (b"made by dcm2niix", b'{"equipoise": 3}', b'["equipoise"]', b"\xff\xfe"):
        image = nib.load(file)
        image.header.extensions.clear()
        image.header.extensions.append(nib.nifti1.Nifti1Extension(6, comment))
        nib.save(nib.Nifti1Image(np.asanyarray(image.dataobj), image.affine, image.header), file)
        (case,) = read(detect(tmp_path))
        assert case.origin == Origin()


def test_a_sampled_folder_goes_to_nnunet_and_comes_back_synthetic(tmp_path: Path) -> None:
    write_folder([case_of(masks_of((0, 1, 4, 1), (1, 5, 9, 1)), f"c{i}") for i in range(2)], tmp_path / "made")
    target = write_nnunet(read(detect(tmp_path / "made")), tmp_path / "Dataset501_Made", "made", ["CT"])
    back = read(detect(target))
    assert [case.origin for case in back] == [MADE, MADE]
    (target / "provenance.json").unlink()
    bare = read({**detect(target), "one_image_one_patient": True})
    assert [case.origin for case in bare] == [MADE, MADE]


def test_what_a_plan_states_goes_before_what_the_folder_says(tmp_path: Path) -> None:
    write_folder([case_of(masks_of((0, 1, 4, 1), (1, 5, 9, 1)), "c")], tmp_path)
    spec = {"kind": "folder", "path": str(tmp_path)}
    (case,) = read({**spec, "labels": {"both": [1, 7]}, "site": "=Basel"})
    assert (case.labels.scheme.names, case.site) == (("both",), "Basel")
    (own,) = read({**spec, "table": "index.csv", "one_image_one_patient": False})
    assert own.truth is None, "a plan that names the table states everything"


def test_a_damaged_statement_is_one_clear_error(tmp_path: Path) -> None:
    write_folder([case_of(masks_of((0, 1, 4, 1)), "c")], tmp_path)
    (tmp_path / STATEMENT).write_text('{"about": "cut')
    with pytest.raises(UnreadableFileError, match="no valid JSON"):
        detect(tmp_path)
    (tmp_path / STATEMENT).write_text('{"about": "x", "dat": {}}')
    with pytest.raises(UnreadableFileError, match="Did you mean 'dat'"):
        read({"kind": "folder", "path": str(tmp_path)})


def test_cases_of_two_schemes_do_not_go_into_one_folder(tmp_path: Path) -> None:
    masks = masks_of((0, 1, 4, 1))
    with pytest.raises(LabelError, match="one label scheme"):
        write_folder([case_of(masks, "a"), case_of(masks[:1], "b", scheme=SCHEME)], tmp_path)


# --- the check of synthetic cases beside real ones -----------------------------------------------------------------


def codes_of(folder: Path) -> list[str]:
    return [finding.code for finding in check_sets({"": detect(folder)}, "again").findings]


def test_truth_that_no_hand_drew_is_not_doubted(tmp_path: Path) -> None:
    def tiny(origin: Origin, folder: str) -> list[str]:
        cases = [replace(blob_case(f"c{i}", seed=i), origin=origin) for i in range(2)]
        write_folder(
            [replace(c, truth=replace(c.labels, voxels=_corner(c.labels.array))) for c in cases], tmp_path / folder
        )
        return codes_of(tmp_path / folder)

    assert tiny(MADE, "made") == []
    assert tiny(Origin(), "real") == ["few-patients", "tiny", "tiny"]


def _corner(array: np.ndarray) -> np.ndarray:
    small = np.zeros_like(array, dtype=np.uint8)
    small[:, 10:12, 10:12] = 1
    return small


def test_synthetic_cases_do_not_stand_in_for_patients(tmp_path: Path) -> None:
    real = [blob_case(f"r{i}", seed=i) for i in range(2)]
    made = [replace(blob_case(f"m{i}", seed=9 + i), origin=MADE) for i in range(5)]
    write_folder([*real, *made], tmp_path)
    found = check_sets({"": detect(tmp_path)}, "again")
    assert [f.code for f in found.findings] == ["few-patients"]
    assert (found.patients, found.labels["blob"].patients, found.made_by) == (2, 2, {"simulate-ct": 5})
    assert {patient for _, _, patient in found.annotated} == {"patient-r0", "patient-r1"}


def test_copies_of_synthetic_images_are_found_and_likeness_is_not(tmp_path: Path) -> None:
    first = blob_case("a")
    alike = replace(first.image, voxels=first.image.array + np.float32(1e-4))
    for name, image, codes in (("copies", first.image, ["duplicate-image"]), ("alike", alike, [])):
        second = replace(first, id="b", patient="synthetic-b", image=image)
        write_folder([replace(case, origin=MADE) for case in (first, second)], tmp_path / name)
        assert codes_of(tmp_path / name) == codes
    real = [replace(blob_case(f"r{i}", seed=i)) for i in range(1, 4)]
    write_folder([*real, replace(real[0], id="copy", patient="synthetic-c", origin=MADE)], tmp_path / "stolen")
    assert codes_of(tmp_path / "stolen") == ["duplicate-patient"]

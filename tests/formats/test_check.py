"""The gate: each fault is found once, with its file, and a clean set has none."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from equipoise.formats.check import CODES, Checked, Finding, check_sets
from equipoise.formats.orientation import better_turn, mask_contrasts
from picture_set import SIDE, PictureSet, anatomy

AGAIN = "equipoise check set"


class Set(PictureSet):
    """A set with its check."""

    def check(self, **more: Any) -> Checked:
        self.write()
        stated = {"kind": "folder", "path": str(self.root), "labels": {"blob": "mask"}}
        stated |= {"patient": "patient", "site": "site", **more}
        return check_sets({"": {k: v for k, v in stated.items() if v is not None}}, AGAIN)


@pytest.fixture
def clean(tmp_path: Path) -> Set:
    made = Set(tmp_path)
    for n in range(10):
        made.add(f"c{n}", f"p{n // 2}", *anatomy(n))
    return made


def only(checked: Checked, code: str) -> Finding:
    assert [f.code for f in checked.findings] == [code]
    (found,) = checked.findings
    assert code in CODES
    assert found.what
    assert found.why
    assert found.fix
    return found


def test_a_clean_set_has_no_finding_and_exact_counts(clean: Set) -> None:
    checked = clean.check()
    assert checked.findings == ()
    assert (checked.cases, checked.read, checked.patients) == (10, 10, 5)
    blob = checked.labels["blob"]
    marked = sum(int((np.asarray(Image.open(clean.mask(n))) > 0).sum()) for n in range(10))
    assert (blob.cases, blob.patients, blob.voxels) == (10, 5, marked)
    assert blob.share == pytest.approx(marked / (10 * SIDE * SIDE))
    assert checked.facts["Size"] == "48 x 48 pixels"


def test_progress_reaches_the_number_of_cases(clean: Set) -> None:
    clean.check()
    told: list[tuple[int, int]] = []
    spec = {"kind": "folder", "path": str(clean.root), "labels": {"blob": "mask"}, "patient": "patient"}
    check_sets({"": spec}, AGAIN, progress=lambda done, total: told.append((done, total)))
    assert told == [(n, 10) for n in range(1, 11)]


def _empty_file(s: Set) -> Path:
    s.image(3).write_bytes(b"")
    return s.image(3)


def _cut_image(s: Set) -> Path:
    content = s.image(3).read_bytes()
    s.image(3).write_bytes(content[: len(content) // 2])
    return s.image(3)


def _cut_mask(s: Set) -> Path:
    content = s.mask(3).read_bytes()
    s.mask(3).write_bytes(content[: content.index(b"IDAT") + 8])
    return s.mask(3)


def _lost_mask(s: Set) -> Path:
    s.mask(3).unlink()
    return s.mask(3)


def _no_mask(s: Set) -> Path:
    s.rows[3]["mask"] = ""
    return s.image(3)


def _other_shape(s: Set) -> Path:
    Image.fromarray(anatomy(3, 40)[1]).save(s.mask(3))
    return s.mask(3)


def _unknown_value(s: Set) -> Path:
    mask = anatomy(3)[1]
    mask[40:, 40:] = 77
    Image.fromarray(mask).save(s.mask(3))
    return s.mask(3)


def _mask_is_image(s: Set) -> Path:
    Image.fromarray(anatomy(103)[0]).save(s.mask(3))
    return s.mask(3)


def _image_is_mask(s: Set) -> Path:
    Image.fromarray(anatomy(103)[1]).save(s.image(3))
    return s.image(3)


def _exchanged(s: Set) -> Path:
    s.rows[3]["image"], s.rows[3]["mask"] = s.rows[3]["mask"], s.rows[3]["image"]
    return s.image(3)


def _one_file(s: Set) -> Path:
    s.rows[3]["mask"] = s.rows[3]["image"]
    return s.image(3)


def _constant(s: Set) -> Path:
    Image.fromarray(np.full((SIDE, SIDE), 9, np.uint8)).save(s.image(3))
    return s.image(3)


def _empty_mask(s: Set) -> Path:
    Image.fromarray(np.zeros((SIDE, SIDE), np.uint8)).save(s.mask(3))
    return s.mask(3)


def _tiny(s: Set) -> Path:
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[5, 5:9] = 255
    Image.fromarray(mask).save(s.mask(3))
    return s.mask(3)


def _inverted(s: Set) -> Path:
    mask = np.full((SIDE, SIDE), 255, np.uint8)
    mask[20:26, 20:26] = 0
    Image.fromarray(mask).save(s.mask(3))
    return s.mask(3)


def _copied_to_another_patient(s: Set) -> Path:
    shutil.copy(s.image(3), s.image(8))
    return s.image(3)


def _copied_within_a_patient(s: Set) -> Path:
    shutil.copy(s.image(2), s.image(3))
    return s.image(2)


def _saved_again_for_another_patient(s: Set) -> Path:
    Image.open(s.image(3)).save(s.root / "images/again.jpg", quality=90)
    s.rows[8]["image"] = "images/again.jpg"
    return s.image(3)


def _spelled_otherwise(s: Set) -> Path:
    s.rows[3]["patient"] = "P-01"
    return s.image(2)


def _colour(s: Set) -> Path:
    Image.fromarray(np.stack([anatomy(3)[0]] * 3, axis=2)).save(s.image(3))
    return s.image(3)


def _huge(s: Set) -> Path:
    image, mask = anatomy(3, 400)
    Image.fromarray(image).save(s.image(3))
    Image.fromarray(mask).save(s.mask(3))
    return s.image(3)


@pytest.mark.parametrize(
    ("spoil", "code", "severity", "read"),
    [
        (_empty_file, "unreadable", "error", 9),
        (_cut_image, "unreadable", "error", 9),
        (_cut_mask, "unreadable", "error", 10),
        (_lost_mask, "missing-file", "error", 9),
        (_no_mask, "missing-mask", "error", 10),
        (_other_shape, "geometry", "error", 9),
        (_unknown_value, "labels", "error", 10),
        (_mask_is_image, "swapped", "error", 10),
        (_image_is_mask, "swapped", "error", 10),
        (_exchanged, "swapped", "error", 10),
        (_one_file, "swapped", "error", 10),
        (_constant, "constant", "error", 10),
        (_empty_mask, "empty", "warning", 10),
        (_tiny, "tiny", "warning", 10),
        (_inverted, "full", "warning", 10),
        (_copied_to_another_patient, "duplicate-patient", "error", 10),
        (_copied_within_a_patient, "duplicate-image", "warning", 10),
        (_saved_again_for_another_patient, "near-duplicate", "warning", 10),
        (_spelled_otherwise, "patient-spelling", "warning", 10),
        (_colour, "mixed", "error", 10),
        (_huge, "size", "warning", 10),
    ],
)
def test_one_fault_is_one_finding_that_names_its_file(
    clean: Set, spoil: Callable[[Set], Path], code: str, severity: str, read: int
) -> None:
    file = spoil(clean)
    checked = clean.check()
    found = only(checked, code)
    assert (found.severity, found.file) == (severity, str(file))
    assert (checked.cases, checked.read) == (10, read)


def test_all_faults_are_listed_in_one_run_errors_first(clean: Set) -> None:
    for spoil in (_empty_mask, _no_mask, _cut_image, _mask_is_image, _other_shape, _tiny):
        spoil(clean)
        clean.rows.append(clean.rows.pop(3))  # the next fault strikes another case
    found = clean.check().findings
    assert [f.code for f in found] == ["missing-mask", "unreadable", "geometry", "swapped", "empty", "tiny"]
    assert [f.severity for f in found] == ["error"] * 4 + ["warning"] * 2


def test_a_set_without_patients_is_checked_all_the_same(clean: Set) -> None:
    for row in clean.rows:
        row["who"] = row.pop("patient")
    _cut_image(clean)
    checked = clean.check(patient=None)
    assert [f.code for f in checked.findings] == ["patient-unknown", "unreadable"]
    assert "one_image_one_patient = true" in checked.findings[0].fix
    assert checked.patients is None
    assert checked.labels["blob"].patients is None


def test_one_image_under_two_unnamed_patients_is_still_seen(clean: Set) -> None:
    for row in clean.rows:
        row["who"] = row.pop("patient")
    _copied_to_another_patient(clean)
    codes = [f.code for f in clean.check(patient=None).findings]
    assert codes == ["patient-unknown", "duplicate-image"]


def test_one_id_for_two_cases_names_all_their_files(clean: Set) -> None:
    clean.rows[4]["id"] = clean.rows[7]["id"] = "c1"
    checked = clean.check()
    found = only(checked, "duplicate-id")
    assert all(clean.rows[n]["image"] in found.what for n in (1, 4, 7))
    assert (checked.cases, checked.read) == (10, 0)


def test_pairs_that_were_looked_at_are_no_finding(clean: Set) -> None:
    _saved_again_for_another_patient(clean)
    found = only(clean.check(), "near-duplicate")
    assert 'accept_near_duplicates = [["c3", "c8"]]' in found.fix
    spec = {"kind": "folder", "path": str(clean.root), "labels": {"blob": "mask"}, "patient": "patient"}
    assert check_sets({"": spec}, AGAIN, accepted=[("c8", "c3")]).findings == ()


def test_a_hundred_copies_are_one_finding(clean: Set) -> None:
    image, mask = anatomy(0)
    for n in range(100):
        clean.add(f"copy{n}", f"q{n}", image, mask)
    found = only(clean.check(), "duplicate-patient")
    assert len(found.ids) == 101


def test_duplicates_between_the_set_and_the_external_one_are_found(clean: Set, tmp_path: Path) -> None:
    clean.check()
    spec = {"kind": "folder", "path": str(tmp_path), "labels": {"blob": "mask"}, "patient": "patient"}
    checked = check_sets({"": spec, "external:": spec}, AGAIN)
    assert {f.code for f in checked.findings} == {"duplicate-patient"}
    assert len(checked.findings) == 10
    assert checked.patients == 10


def test_what_the_plan_says_is_absent_is_no_empty_truth(clean: Set) -> None:
    _no_mask(clean)
    checked = clean.check(missing="absent")
    assert checked.findings == ()
    assert checked.empty == 1


def test_an_empty_mask_of_one_of_two_labels_is_found(clean: Set) -> None:
    for n, row in enumerate(clean.rows):
        row["second"] = clean.png(f"second/{n}.png", anatomy(n)[1][:, ::-1] * (n != 6))
    found = only(clean.check(labels={"blob": "mask", "rest": "second"}, exclusive=False), "empty")
    assert found.file == str(clean.root / "second/6.png")
    assert "rest" in found.what


def test_a_label_that_no_case_has_and_one_of_too_few_patients(clean: Set) -> None:
    mask = anatomy(5)[1]
    mask[40:, 40:] = 100
    Image.fromarray(mask).save(clean.mask(5))
    checked = clean.check(labels={"blob": 255, "corner": 100, "ghost": 7}, mask="mask")
    assert {(f.code, f.severity) for f in checked.findings} == {
        ("absent-label", "warning"),
        ("few-patients", "warning"),
    }
    assert checked.labels["corner"].patients == 1


def test_instances_and_soft_edges_are_not_taken_for_pictures(clean: Set) -> None:
    labelled = np.zeros((SIDE, SIDE), np.uint8)
    for n in range(40):
        y, x = divmod(n, 7)
        labelled[2 + 7 * y : 7 + 7 * y, 1 + 6 * x : 6 + 6 * x] = n + 1
    Image.fromarray(labelled).save(clean.mask(3))
    assert only(clean.check(), "labels").file == str(clean.mask(3))
    soft = ndimage.gaussian_filter(anatomy(3)[1].astype(float), 0.5)
    Image.fromarray(soft.astype(np.uint8)).save(clean.mask(3))
    assert only(clean.check(), "labels").file == str(clean.mask(3))


def test_the_commands_for_exchanged_files_put_them_right(clean: Set) -> None:
    import subprocess

    _exchanged(clean)
    found = only(clean.check(), "swapped")
    subprocess.run(found.fix, shell=True, check=True)
    assert clean.check().findings == ()


def test_a_mask_on_another_grid_is_shown_as_it_would_be_laid(clean: Set) -> None:
    _other_shape(clean)
    found = only(clean.check(), "geometry")
    (case,) = found.shown
    assert found.outline is not None
    case.image.geometry.require_same(found.outline.geometry)
    laid = found.outline.array[0, :, :, 0].T
    np.testing.assert_array_equal(laid[:40, :40] > 0, anatomy(3, 40)[1] > 0)
    assert not laid[40:].any()


def test_masks_that_were_saved_upside_down(clean: Set) -> None:
    for n in range(10):
        Image.fromarray(anatomy(n)[1][::-1]).save(clean.mask(n))
    found = only(clean.check(), "mirrored-masks")
    assert "upside down" in found.what


def test_symmetric_masks_prefer_no_turn() -> None:
    rng = np.random.default_rng(1)
    contrasts = []
    for _ in range(20):
        x, y = np.mgrid[:64, :64] - 31.5
        disc = x**2 + y**2 < rng.uniform(10, 25) ** 2
        image = 100 * disc + 20 * rng.standard_normal((64, 64))
        contrasts.append(mask_contrasts(image[None, :, :, None], disc[None, :, :, None]))
    assert better_turn(np.array(contrasts)) is None


def test_a_site_whose_images_are_turned(clean: Set) -> None:
    shading = np.linspace(-60, 60, SIDE)[:, None]
    for n in range(20, 30):
        image, mask = anatomy(n)
        clean.add(f"c{n}", f"p{n}", np.clip(image + shading, 0, 255).astype(np.uint8), mask, "B")
        image, mask = anatomy(n + 50)
        turned = np.clip(image + shading, 0, 255).astype(np.uint8)[::-1]
        clean.add(f"d{n}", f"q{n}", turned.copy(), mask[::-1].copy(), "C")
    clean.rows = clean.rows[10:]
    found = only(clean.check(), "turned-images")
    assert "upside down" in found.what
    assert {"'B'", "'C'"} == {word for word in found.what.split() if word in ("'B'", "'C'")}


def volume(path: Path, array: np.ndarray, spacing: float = 1.0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, np.diag([spacing, spacing, spacing, 1.0])), path)


@pytest.fixture
def volumes(tmp_path: Path) -> Path:
    for n in range(5):
        rng = np.random.default_rng(n)
        texture = ndimage.gaussian_filter(rng.standard_normal((24, 24, 9)), (2, 2, 1))
        mask = np.zeros((24, 24, 9), np.uint8)
        mask[4 + n : 12, 6:15, 2:7] = 1
        volume(tmp_path / f"images/v{n}.nii.gz", (texture + 0.3 * mask).astype(np.float32))
        volume(tmp_path / f"masks/v{n}.nii.gz", mask)
    return tmp_path


def volumes_checked(root: Path, **more: Any) -> Checked:
    spec = {"kind": "nifti", "path": str(root), "labels": {"organ": 1}, "one_image_one_patient": True, **more}
    return check_sets({"": spec}, AGAIN)


def test_volumes_clean_nan_affine_and_spacing(volumes: Path) -> None:
    assert volumes_checked(volumes).findings == ()

    array = np.asarray(nib.load(volumes / "images/v1.nii.gz").dataobj).copy()
    array[3, 3, 3] = np.nan
    volume(volumes / "images/v1.nii.gz", array)
    found = only(volumes_checked(volumes), "not-finite")
    assert "1 of 5,184 values" in found.what
    volume(volumes / "images/v1.nii.gz", np.nan_to_num(array))

    mask = np.asarray(nib.load(volumes / "masks/v2.nii.gz").dataobj)
    volume(volumes / "masks/v2.nii.gz", mask, spacing=1.25)
    found = only(volumes_checked(volumes), "geometry")
    assert found.file == str(volumes / "masks/v2.nii.gz")
    assert "1.25" in found.what

    image = np.asarray(nib.load(volumes / "images/v2.nii.gz").dataobj)
    volume(volumes / "masks/v2.nii.gz", mask, spacing=5)
    volume(volumes / "images/v2.nii.gz", image, spacing=5)
    assert only(volumes_checked(volumes), "spacing").file == str(volumes / "images/v2.nii.gz")


def test_float_labels_are_taken_if_whole_and_refused_if_not(volumes: Path) -> None:
    mask = np.asarray(nib.load(volumes / "masks/v2.nii.gz").dataobj).astype(np.float32)
    volume(volumes / "masks/v2.nii.gz", mask)
    assert volumes_checked(volumes).findings == ()
    volume(volumes / "masks/v2.nii.gz", 0.5 * mask)
    found = only(volumes_checked(volumes), "labels")
    assert "not whole" in found.what


def test_every_code_is_explained_in_the_docs() -> None:
    text = (Path(__file__).parents[2] / "docs/check.md").read_text()
    rows = [line.split("|")[1].strip(" `") for line in text.splitlines() if line.startswith("| `")]
    assert sorted(rows) == sorted(CODES)

"""A folder with a table or with naming patterns."""

import pickle
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from equipoise.core.labels import ClassLabel, LabelMap
from equipoise.errors import (
    DataError,
    GeometryMismatchError,
    LabelError,
    PatientUnknownError,
    PlanError,
    UnreadableFileError,
)
from equipoise.formats import read
from equipoise.formats.folder import Folder

SHAPE = (6, 8)  # rows, columns


def png(path: Path, array: np.ndarray) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(array, np.uint8)).save(path)
    return str(path)


@pytest.fixture
def eyes(tmp_path: Path) -> Path:
    """Three pictures of two people, a vessel mask each, a second reader of the first, discs on two."""
    rows = ["id,image,who,hospital,mask,second,disc,grade"]
    for n, (who, second, disc) in enumerate(
        [("p1", "second/0.png", "disc/0.png"), ("p1", "", "disc/1.png"), ("p2", "", "")]
    ):
        png(tmp_path / f"images/{n}.png", np.full((*SHAPE, 3), 10 * n))
        mask = np.zeros(SHAPE)
        mask[1 : 3 + n, 2:5] = 255
        png(tmp_path / f"mask/{n}.png", mask)
        if second:
            png(tmp_path / second, np.roll(mask, 1, axis=1))
        if disc:
            png(tmp_path / disc, mask)
        rows.append(f"case{n},images/{n}.png,{who},Leeds,mask/{n}.png,{second},{disc},{n}")
    (tmp_path / "index.csv").write_text("\n".join(rows) + "\n")
    return tmp_path


def test_a_table_gives_cases_with_everything_it_says(eyes: Path) -> None:
    cases = read(
        {
            "kind": "folder",
            "path": str(eyes),
            "labels": {"vessel": "mask"},
            "readers": {"two": {"vessel": "second"}},
            "patient": "who",
            "site": "hospital",
            "modality": "fundus",
            "licence": "CC BY 4.0",
            "attributes": ["grade"],
            "spacing": [0.5, 0.25],
        }
    )
    assert [c.id for c in cases] == ["case0", "case1", "case2"]
    assert [c.patient for c in cases] == ["p1", "p1", "p2"]
    first = cases[0]
    assert (first.site, first.modality, first.licence, first.attributes["grade"]) == (
        "Leeds",
        "fundus",
        "CC BY 4.0",
        0.0,
    )
    assert first.image.array.shape == (3, 8, 6, 1)
    assert first.image.spacing == (0.5, 0.25, 1.0)
    assert first.image.unit == "mm"
    assert first.labels.mask("vessel")[:, :, 0].T.sum() == 2 * 3
    assert first.labels.mask("vessel")[2, 1, 0]
    assert [r.reader.id for r in first.reads] == ["two"]
    assert isinstance(first.reads[0].truth, LabelMap)
    assert first.reads[0].truth.mask("vessel")[3, 1, 0]
    assert not first.reads[0].truth.mask("vessel")[2, 1, 0]
    assert cases[1].reads == ()


def test_listing_reads_no_voxel(eyes: Path) -> None:
    for file in (*eyes.glob("images/*"), *eyes.glob("mask/*")):
        content = file.read_bytes()
        file.write_bytes(content[: content.index(b"IDAT") + 6])  # the header stays, the pixels go
    cases = Folder(path=str(eyes), labels={"vessel": "mask"}, patient="who").read()
    assert cases[0].image.geometry.shape == (8, 6, 1)
    with pytest.raises(UnreadableFileError, match="cannot be read"):
        _ = cases[0].image.array
    with pytest.raises(UnreadableFileError, match="cannot be read"):
        _ = cases[0].labels.array


def test_cases_travel_to_other_processes(eyes: Path) -> None:
    (case, *_) = Folder(path=str(eyes), labels={"vessel": "mask"}, patient="who").read()
    image, labels = pickle.loads(pickle.dumps((case.image, case.labels)))
    np.testing.assert_array_equal(image.array, case.image.array)
    np.testing.assert_array_equal(labels.array, case.labels.array)


@pytest.mark.parametrize(
    ("missing", "ids", "labelled"),
    [
        ("absent", ["case0", "case1", "case2"], 3),
        ("skip", ["case0", "case1"], 2),
        ("unlabelled", ["case0", "case1", "case2"], 2),
    ],
)
def test_an_empty_cell_means_what_the_plan_says(eyes: Path, missing: Any, ids: list[str], labelled: int) -> None:
    spec = {"path": str(eyes), "labels": {"vessel": "mask", "disc": "disc"}, "patient": "who"}
    with pytest.raises(LabelError, match="1 of 3 cases") as caught:
        Folder(**spec).read()
    assert 'missing = "absent"' in str(caught.value.fix)
    readers = {"two": {"vessel": "second", "disc": "second"}}
    cases = Folder(**spec, missing=missing, readers=readers).read()
    assert [c.id for c in cases] == ids
    assert sum(c.truth is not None for c in cases) == labelled
    assert [len(c.reads) for c in cases][:2] == [1, 0]
    assert not cases[0].labels.scheme.exclusive
    if missing == "absent":
        assert cases[2].labels.mask("vessel").any()
        assert not cases[2].labels.mask("disc").any()


def test_numbers_in_one_mask(eyes: Path) -> None:
    for n in range(3):
        mask = np.zeros(SHAPE)
        mask[1, 1:4], mask[4, 1:3], mask[0, 0] = 1, 7, 9
        png(eyes / f"mask/{n}.png", mask)
    spec = {"path": str(eyes), "mask": "mask", "patient": "who"}
    (case, *_) = Folder(**spec, labels={"cup": 1, "rim": 7, "ignore": 9}).read()
    assert case.labels.scheme.as_dict() == {"cup": 1, "rim": 7}
    assert case.labels.scheme.exclusive
    assert case.labels.masks().sum(axis=(1, 2, 3)).tolist() == [3, 2]
    assert case.labels.ignored().sum() == 1
    (case, *_) = Folder(**spec, labels={"disc": [1, 7], "rim": 7, "ignore": 9}).read()
    assert case.labels.masks().sum(axis=(1, 2, 3)).tolist() == [5, 2]
    assert not case.labels.scheme.exclusive
    (case, *_) = Folder(**spec, labels={"cup": 1, "rim": 7}).read()
    with pytest.raises(LabelError, match="holds 9") as caught:
        _ = case.labels.array
    assert "0.png" in str(caught.value.file)


def test_patterns_unite_several_masks_and_count_instances(tmp_path: Path) -> None:
    for case in ("p1_a", "p1_b", "p2_[1]"):
        png(tmp_path / f"images/{case}.png", np.zeros(SHAPE))
        for n in range(3):
            mask = np.zeros(SHAPE)
            mask[2 * n, :2] = 255
            png(tmp_path / f"cells/{case}/{n}.png", mask)
    spec = {"path": str(tmp_path), "images": "images/*.png", "patient": "^(?P<patient>p[0-9]+)_"}
    cases = Folder(**spec, labels={"cell": "cells/{id}/*.png"}).read()
    assert [c.patient for c in cases] == ["p1", "p1", "p2"]
    assert cases[2].labels.array.sum() == 6
    counted = Folder(**spec, labels={"cell": {"file": "cells/{id}/*.png", "instances": True}}).read()
    assert np.unique(counted[0].labels.array).tolist() == [0, 1, 2, 3]


def test_one_mask_for_two_cases_is_refused(tmp_path: Path) -> None:
    for case in ("1", "1_2"):
        png(tmp_path / f"images/{case}.png", np.zeros(SHAPE))
        png(tmp_path / f"masks/{case}_x.png", np.zeros(SHAPE))
    folder = Folder(
        path=str(tmp_path), images="images/{id}.png", labels={"x": "masks/{id}_*.png"}, one_image_one_patient=True
    )
    with pytest.raises(DataError, match="to case '1' and to case '1_2'"):
        folder.read()


def test_nifti_files_in_a_table_keep_their_grid(tmp_path: Path) -> None:
    affine = np.array([[-0.9, 0, 0, 80], [0, 0, 2.5, -30], [0, 0.9, 0, 12], [0, 0, 0, 1]])
    for n in range(2):
        nib.save(nib.Nifti1Image(np.random.default_rng(n).normal(size=(5, 6, 7)), affine), tmp_path / f"i{n}.nii.gz")
        nib.save(
            nib.Nifti1Image(np.eye(6, 7, dtype=np.uint8)[None].repeat(5, 0) * 2, affine), tmp_path / f"m{n}.nii.gz"
        )
    (tmp_path / "t.csv").write_text("image;mask;patient\ni0.nii.gz;m0.nii.gz;a\ni1.nii.gz;m1.nii.gz;b\n")
    cases = Folder(path=str(tmp_path / "t.csv"), labels={"front": 1, "back": 2}, mask="mask").read()
    assert [c.id for c in cases] == ["i0", "i1"]
    np.testing.assert_allclose(cases[0].image.affine, affine, atol=1e-6)
    assert cases[0].labels.masks().sum(axis=(1, 2, 3)).tolist() == [0, 30]
    with pytest.raises(PlanError, match="states its own voxel size"):
        Folder(path=str(tmp_path), labels={}, spacing=0.5).read()


def test_where_spacing_column_and_classes(eyes: Path) -> None:
    text = (eyes / "index.csv").read_text().replace("grade", "mm").replace(",0\n", ",0.5\n")
    (eyes / "index.csv").write_text(text)
    folder = Folder(path=str(eyes), where={"mm": ["0.5", 2]}, spacing="mm", patient="who", class_label="who")
    cases = folder.read()
    assert [c.id for c in cases] == ["case0", "case2"]
    assert [c.image.spacing[0] for c in cases] == [0.5, 2.0]
    assert cases[1].truth == ClassLabel("p2", ("p1", "p2"))


BAD: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"labels": {"vessel": "masc"}}, DataError, "Did you mean 'mask'"),
    ({"image": "imgae"}, DataError, "Did you mean 'image'"),
    ({"patient": "whom"}, DataError, "Did you mean 'who'"),
    ({"patient": None}, PatientUnknownError, "one_image_one_patient = true"),
    ({"patient": "(?P<patient>x+)"}, PatientUnknownError, "0.png"),
    ({"patient": "([a-z]+"}, PlanError, "group named patient"),
    ({"patient": "(?P<patient>[a-z"}, PlanError, "not a valid regular expression"),
    ({"one_image_one_patient": True}, PlanError, "keep the second"),
    ({"patients": "nobody.csv"}, UnreadableFileError, "the file is missing"),
    ({"site": "hospitl"}, DataError, "Did you mean 'hospital'"),
    ({"where": {"grad": 1}}, DataError, "Did you mean 'grade'"),
    ({"where": {"grade": 9}}, DataError, "the values there are 0, 1, 2"),
    ({"attributes": ("grades",)}, DataError, "Did you mean 'grade'"),
    ({"primary": "vesel"}, PlanError, "Did you mean 'vessel'"),
    ({"spacing": "grade"}, DataError, "positive numbers"),
    ({"labels": {"vessel": 1}}, PlanError, 'mask = "…"'),
    ({"labels": {"vessel": {"file": "mask", "treshold": 3}}}, PlanError, "Did you mean 'threshold'"),
    ({"labels": {"vessel": {"file": "mask", "value": 1, "threshold": 3}}}, PlanError, "one of them"),
    ({"labels": {"vessel": {"file": "mask", "value": "red"}}}, PlanError, "#ff0000"),
    ({"labels": {"vessel": {"file": "mask", "value": "#gg0000"}}}, PlanError, "whole numbers or colours"),
    ({"labels": {"ignore": "mask"}}, PlanError, "at least one structure"),
    ({"readers": {"two": {"vessels": "second"}}}, PlanError, "draws vessels, the truth vessel"),
    ({"readers": {"two": {"vessel": "sekond"}}}, DataError, "Did you mean 'second'"),
    ({"table": "other.csv"}, UnreadableFileError, "missing"),
    ({"images": "pictures/*.png", "labels": {}}, DataError, "no image matches"),
    ({"images": "images/*.png", "labels": {"vessel": "mask/*.png"}}, PlanError, "{id}"),
    ({"path": "/nowhere/at/all"}, UnreadableFileError, "no such folder"),
]


@pytest.mark.parametrize(("change", "error", "says"), BAD, ids=[f"{i}-{b[2][:18]}" for i, b in enumerate(BAD)])
def test_a_wrong_plan_is_one_error_that_says_what_to_write(
    eyes: Path, change: dict[str, Any], error: type[Exception], says: str
) -> None:
    spec = {"path": str(eyes), "labels": {"vessel": "mask"}, "patient": "who", **change}
    with pytest.raises(error) as caught:
        Folder(**spec).read()
    assert type(caught.value) is error
    assert says in str(caught.value)


def break_file(eyes: Path, how: str) -> None:
    table, mask = eyes / "index.csv", eyes / "mask/1.png"
    if how == "mask missing":
        mask.unlink()
    elif how == "mask empty file":
        mask.write_bytes(b"")
    elif how == "mask other shape":
        png(mask, np.zeros((5, 8)))
    elif how == "image of another kind":
        (eyes / "images/1.png").write_text("GIF89a")
    elif how == "unknown ending":
        (eyes / "images/1.png").rename(eyes / "images/1.dcm")
        table.write_text(table.read_text().replace("images/1.png", "images/1.dcm"))
    elif how == "patient unknown":
        table.write_text(table.read_text().replace(",p2,", ",unknown,"))
    elif how == "same id":
        table.write_text(table.read_text().replace("case1", "case0"))
    elif how == "no image":
        table.write_text(table.read_text().replace("images/1.png", ""))
    elif how == "ragged":
        table.write_text(table.read_text() + "case9,images/0.png\n")
    elif how == "no rows":
        table.write_text("id,image\n")
    elif how == "two columns":
        table.write_text(table.read_text().replace("second", "mask", 1))
    elif how == "latin-1":
        table.write_bytes(table.read_bytes().replace(b"Leeds", b"K\xf6ln"))
    elif how == "two tables":
        (eyes / "more.csv").write_text("a\n1\n")


@pytest.mark.parametrize(
    ("how", "error", "says"),
    [
        ("mask missing", UnreadableFileError, "1.png"),
        ("mask empty file", UnreadableFileError, "0 bytes"),
        ("mask other shape", GeometryMismatchError, "shapes differ"),
        ("image of another kind", UnreadableFileError, "cannot be read"),
        ("unknown ending", UnreadableFileError, "dcm2niix"),
        ("patient unknown", PatientUnknownError, "1 of 3 cases"),
        ("same id", DataError, "two cases are called 'case0'"),
        ("no image", DataError, "row 3 names no image"),
        ("ragged", UnreadableFileError, "row 5 has 2 cells"),
        ("no rows", UnreadableFileError, "no rows"),
        ("two columns", UnreadableFileError, "two columns are called 'mask'"),
        ("latin-1", UnreadableFileError, "UTF-8"),
        ("two tables", DataError, "there are 2"),
    ],
)
def test_bad_files_are_one_error_each(eyes: Path, how: str, error: type[Exception], says: str) -> None:
    break_file(eyes, how)
    with pytest.raises(error) as caught:
        Folder(path=str(eyes), labels={"vessel": "mask"}, patient="who").read()
    assert says in str(caught.value)
    assert caught.value.file  # type: ignore[attr-defined]


def test_attempts_lists_every_bad_case(eyes: Path) -> None:
    break_file(eyes, "mask missing")
    break_file(eyes, "image of another kind")
    (eyes / "images/2.png").write_bytes(b"")
    folder = Folder(path=str(eyes), labels={"vessel": "mask"}, patient="who")
    found = {row.id: type(case).__name__ for row, case in folder.attempts()}
    assert found == {"case0": "Case", "case1": "UnreadableFileError", "case2": "UnreadableFileError"}


def test_the_statement_one_image_one_patient_may_not_contradict_the_table(eyes: Path) -> None:
    table = eyes / "index.csv"
    assert Folder(path=str(eyes), one_image_one_patient=True).read()[1].patient == "case1"
    table.write_text(table.read_text().replace("who", "patient"))
    with pytest.raises(PatientUnknownError, match="names 'p1' for 2 images"):
        Folder(path=str(eyes), one_image_one_patient=True).read()


def test_orientation_tag_on_the_image_only(eyes: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(np.zeros((*SHAPE, 3), np.uint8)).save(eyes / "images/1.png", exif=exif)
    with pytest.raises(GeometryMismatchError, match="exif = false"):
        Folder(path=str(eyes), labels={"vessel": "mask"}, patient="who").read()
    assert len(Folder(path=str(eyes), labels={"vessel": "mask"}, patient="who", exif=False).read()) == 3

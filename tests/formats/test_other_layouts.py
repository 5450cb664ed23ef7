"""Decathlon and MONAI lists, the registry's way in, and the guess from a bare path."""

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from equipoise.core import registry
from equipoise.core.labels import ClassLabel
from equipoise.errors import (
    DataError,
    LabelError,
    PatientUnknownError,
    PlanError,
    UnknownKindError,
    UnreadableFileError,
)
from equipoise.formats import attempts, detect, read
from equipoise.formats.datalist import Datalist
from equipoise.formats.msd import Msd


def volume(path: Path, labelled: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    array = np.zeros((4, 5, 6), np.uint8)
    if labelled:
        array[0], array[1] = 1, 2
    nib.save(nib.Nifti1Image(array, np.eye(4)), path)


def picture(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array.astype(np.uint8)).save(path)


@pytest.fixture
def decathlon(tmp_path: Path) -> Path:
    for n in (1, 2):
        volume(tmp_path / f"imagesTr/h_{n:03d}.nii.gz")
        volume(tmp_path / f"labelsTr/h_{n:03d}.nii.gz", labelled=True)
        (tmp_path / f"imagesTr/._h_{n:03d}.nii.gz").write_bytes(b"left by macOS")
    content = {
        "name": "H",
        "licence": "CC-BY-SA 4.0",
        "modality": {"0": "MRI"},
        "labels": {"0": "background", "1": "Anterior", "2": "Posterior"},
        "training": [
            {"image": f"./imagesTr/h_{n:03d}.nii.gz", "label": f"./labelsTr/h_{n:03d}.nii.gz"} for n in (1, 2)
        ],
        "test": [],
    }
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    return tmp_path


def test_decathlon(decathlon: Path) -> None:
    with pytest.raises(PatientUnknownError):
        Msd(path=str(decathlon)).read()
    cases = Msd(path=str(decathlon), one_image_one_patient=True, primary="Anterior").read()
    assert [c.id for c in cases] == ["h_001", "h_002"]
    assert (cases[0].licence, cases[0].modality) == ("CC-BY-SA 4.0", "MRI")
    assert cases[0].labels.scheme.as_dict() == {"Anterior": 1, "Posterior": 2}
    assert cases[0].labels.array.sum(axis=(1, 2, 3)).tolist() == [30, 30]
    whole = Msd(path=str(decathlon), one_image_one_patient=True, labels={"whole": [1, 2]}, licence="mine").read()
    assert (whole[0].labels.mask("whole").sum(), whole[0].licence) == (60, "mine")
    back = {"label": {"value": 2, "background": [0, 1]}}
    assert Msd(path=str(decathlon), one_image_one_patient=True, labels=back).read()[0].labels.array.sum() == 30


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"training": [{"image": "a.nii.gz"}]}, UnreadableFileError, "entry 1"),
        ({"training": {}}, UnreadableFileError, "must be a list"),
        ({"training": []}, DataError, "no image was found"),
        ({"labels": {"0": "background"}}, LabelError, "names no structure"),
        ({"labels": {"1": "a", "2": "a"}}, LabelError, "two labels are called"),
        ({"labels": {"1": "Anterior"}}, LabelError, "holds 2"),
    ],
)
def test_decathlon_that_is_broken(decathlon: Path, change: dict[str, Any], error: type[DataError], says: str) -> None:
    file = decathlon / "dataset.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    with pytest.raises(error) as caught:
        _ = Msd(path=str(decathlon), one_image_one_patient=True).read()[0].labels.array
    assert says in str(caught.value)
    assert caught.value.file


@pytest.fixture
def monai(tmp_path: Path) -> Path:
    entries = []
    for n in range(3):
        for name in ("t1", "t2"):
            volume(tmp_path / f"{name}/{n}.nii.gz")
        volume(tmp_path / f"seg/{n}.nii.gz", labelled=True)
        entries.append(
            {
                "image": [f"t1/{n}.nii.gz", f"t2/{n}.nii.gz"],
                "label": f"seg/{n}.nii.gz",
                "fold": n % 2,
                "patient": f"p{n}",
            }
        )
    content = {"training": entries, "validation": ["t1/0.nii.gz"], "classes": [{"image": "t1/0.nii.gz", "label": 1}]}
    (tmp_path / "list.json").write_text(json.dumps(content))
    return tmp_path / "list.json"


def test_monai_list(monai: Path) -> None:
    cases = Datalist(path=str(monai), labels={"a": 1, "b": 2}, where={"fold": 0}, attributes=("fold",)).read()
    assert [(c.id, c.patient, c.attributes["fold"]) for c in cases] == [("0", "p0", 0.0), ("2", "p2", 0.0)]
    assert cases[0].image.array.shape == (2, 4, 5, 6)
    assert cases[0].labels.array.sum() == 60
    (bare,) = Datalist(path=str(monai), section="validation", one_image_one_patient=True).read()
    assert bare.truth is None
    (graded,) = Datalist(
        path=str(monai), section="classes", one_image_one_patient=True, class_label="label", classes=("0", "1")
    ).read()
    assert graded.truth == ClassLabel("1", ("0", "1"))


@pytest.mark.parametrize(
    ("spec", "error", "says"),
    [
        ({"section": "trainig"}, DataError, "Did you mean 'training'"),
        ({"image": "images"}, UnreadableFileError, "Did you mean 'image'"),
        ({"case": "caze"}, DataError, "no key 'caze'"),
        ({"mask": "labels", "labels": {"a": 1}}, LabelError, "3 of 3 cases"),
        ({"root": "/nowhere"}, UnreadableFileError, "no such folder"),
        ({"labels": ["a"]}, PlanError, "must be a table"),
    ],
)
def test_monai_list_that_is_wrong(monai: Path, spec: dict[str, Any], error: type[Exception], says: str) -> None:
    with pytest.raises(error) as caught:
        Datalist(path=str(monai), **spec).read()
    assert says in str(caught.value)


def test_kinds_are_found_by_name_and_round_trip(monai: Path) -> None:
    spec = {"kind": "datalist", "path": str(monai), "labels": {"a": 1, "b": 2}, "spacing": None}
    made = registry.make("formats", spec)
    assert isinstance(made, Datalist)
    assert registry.make("formats", registry.spec_of(made)) == made
    assert [c.id for c in read(spec)] == ["0", "1", "2"]
    assert [i for i, _ in attempts(spec)] == ["0", "1", "2"]
    with pytest.raises(UnknownKindError, match="Did you mean 'datalist'"):
        read({**spec, "kind": "datalst"})
    with pytest.raises(PlanError, match="Did you mean 'labels'"):
        read({**spec, "lables": {}})
    with pytest.raises(PlanError, match="missing must be one of"):
        read({**spec, "missing": "ignore"})


def guessed(path: Path) -> dict[str, Any]:
    """The guess without its path."""
    return {k: v for k, v in detect(path).items() if k != "path"}


def test_guess_lists(decathlon: Path, monai: Path) -> None:
    assert guessed(decathlon)["kind"] == "msd"
    assert guessed(monai) == {
        "kind": "datalist",
        "mask": "label",
        "labels": {"label_1": 1, "label_2": 2},
        "patient": "patient",
    }
    (decathlon / "dataset.json").write_text('{"channel_names": {"0": "CT"}, "file_ending": ".nii.gz", "labels": {}}')
    assert guessed(decathlon) == {"kind": "nnunet"}


def test_guess_folders_and_read_them(tmp_path: Path) -> None:
    disc = np.eye(8) * 253 + 2
    for n in range(2):
        volume(tmp_path / f"ct/images/{n}.nii.gz")
        volume(tmp_path / f"ct/labels/{n}.nii.gz", labelled=True)
        picture(tmp_path / f"us/images/{n}.jpg", disc)
        picture(tmp_path / f"us/masks/{n}.png", disc)
        volume(tmp_path / f"bare/{n}.nii")
    assert guessed(tmp_path / "ct") == {
        "kind": "nifti",
        "images": "images/{id}.nii.gz",
        "masks": "labels/{id}.nii.gz",
        "labels": {"label_1": 1, "label_2": 2},
    }
    assert guessed(tmp_path / "us") == {
        "kind": "folder",
        "images": "images/{id}.jpg",
        "labels": {"structure": "masks/{id}.png"},
    }
    assert guessed(tmp_path / "bare") == {"kind": "nifti", "images": "{id}.nii"}
    for name in ("ct", "us", "bare"):
        with pytest.raises(PatientUnknownError):
            read(detect(tmp_path / name))
        cases = read({**detect(tmp_path / name), "one_image_one_patient": True})
        assert [c.id for c in cases] == ["0", "1"]
        assert name == "bare" or cases[0].labels.array.any()


def test_guess_tables(tmp_path: Path) -> None:
    for n in range(3):
        picture(tmp_path / f"i/{n}.png", np.zeros((4, 5)))
        picture(tmp_path / f"m/{n}.png", np.eye(4, 5) * 255)
    table = tmp_path / "index.csv"

    def columns(header: str, row: str) -> dict[str, Any]:
        table.write_text("\n".join([header, *(row.replace("N", str(n)) for n in range(3))]))
        spec = guessed(tmp_path)
        assert (spec.pop("kind"), spec.pop("table"), spec.pop("image")) == ("folder", "index.csv", "image")
        cases = read({**detect(tmp_path), **({} if "patient" in spec else {"one_image_one_patient": True})})
        assert cases[1].labels.array.any()
        return spec

    assert columns("image,mask,patient_id,site", "i/N.png,m/N.png,pN,S") == {
        "labels": {"structure": "mask"},
        "patient": "patient_id",
        "site": "site",
    }
    assert columns("image,mask_lung,mask_heart", "i/N.png,m/N.png,m/N.png") == {
        "labels": {"lung": "mask_lung", "heart": "mask_heart"}
    }
    assert columns("image,mask_reader1,mask_reader2", "i/N.png,m/N.png,m/N.png") == {
        "labels": {"structure": "mask_reader1"},
        "readers": {"reader1": {"structure": "mask_reader1"}, "reader2": {"structure": "mask_reader2"}},
    }
    assert columns("image,mask,instances", "i/N.png,m/N.png,m/N.png") == {
        "labels": {"structure": {"file": "instances", "instances": True}}
    }


def test_nothing_to_guess(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no known layout") as caught:
        detect(tmp_path)
    assert "dataset.json" in str(caught.value)
    (tmp_path / "a.csv").write_text("age,sex\n1,f\n")
    with pytest.raises(DataError, match="no known layout"):
        detect(tmp_path / "a.csv")
    (tmp_path / "a.json").write_text("{}")
    with pytest.raises(DataError, match="no known layout"):
        detect(tmp_path / "a.json")
    with pytest.raises(UnreadableFileError, match="no such folder"):
        detect(tmp_path / "nothing")


@pytest.mark.parametrize("kind", ["folder", "nifti", "nnunet", "msd", "datalist"])
def test_every_parameter_is_in_the_docs(kind: str) -> None:
    text = (Path(__file__).parents[2] / "docs/formats.md").read_text()
    for name in (kind, *registry.parameters(registry.load("formats", kind))):
        assert f"`{name}`" in text, name

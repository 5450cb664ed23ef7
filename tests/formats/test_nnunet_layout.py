"""nnU-Net v2 raw data sets, written and read."""

import csv
import errno
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image as PillowImage

from equipoise.core.case import Case, Origin
from equipoise.core.geometry import Geometry
from equipoise.core.image import Image
from equipoise.core.labels import ClassLabel, Label, LabelMap, LabelScheme
from equipoise.errors import (
    DataError,
    EquipoiseError,
    GeometryMismatchError,
    LabelError,
    PatientUnknownError,
    PlanError,
    UnreadableFileError,
    WorkspaceError,
    WorkspaceFullError,
)
from equipoise.formats import nnunet_writer
from equipoise.formats.nnunet import NnUnet, write_nnunet

GRID = Geometry((6, 5, 4), np.array([[-0.7, 0, 0, 9], [0, 0.7, 0, 8], [0, 0, 2, 7], [0, 0, 0, 1.0]]))
FLAT = Geometry((6, 5, 1), unit="px")


def case(name: str, masks: np.ndarray, scheme: LabelScheme, geometry: Geometry = GRID, **more: Any) -> Case:
    image = more.pop("image", np.random.default_rng(0).normal(size=(1, *geometry.shape)).astype(np.float32))
    ignore = more.pop("ignore", None)
    truth = LabelMap.on(geometry, masks.astype(np.uint8), scheme, ignore)
    return Case(name, more.pop("patient", name), Image.on(geometry, image), truth, **more)


def boxes(*sizes: int, geometry: Geometry = GRID) -> np.ndarray:
    """One channel per size: the first so many rows of the grid."""
    masks = np.zeros((len(sizes), *geometry.shape), bool)
    for mask, size in zip(masks, sizes, strict=True):
        mask[:size] = True
    return masks


def test_real_and_synthetic_cases_come_back_with_their_origin(tmp_path: Path) -> None:
    scheme = LabelScheme((Label("liver", 3), Label("tumour", 9, "108369006")))
    masks = boxes(2, 0)
    masks[1, 4:] = True
    made = Origin("synthetic", "simulate-ct", '{"kind":"simulate-ct"}', "12", frozenset({"p1", "p 2"}))
    cases = [
        case("a", masks, scheme, patient="p1", site="Leeds", scanner="S", licence="CC BY 4.0", modality="CT"),
        case("syn/1", masks[:, ::-1], scheme, patient="synthetic-1", origin=made),
        case("syn_1", masks, scheme, patient="p3"),
    ]
    calls: list[tuple[int, int]] = []
    target = tmp_path / "Dataset001_Mix"
    assert write_nnunet(cases, target, "a mix", ["CT"], lambda n, of: calls.append((n, of))) == target
    assert calls == [(1, 3), (2, 3), (3, 3)]
    content = json.loads((target / "dataset.json").read_text())
    assert content["labels"] == {"background": 0, "liver": 1, "tumour": 2}
    assert content["channel_names"] == {"0": "CT"}
    assert (content["numTraining"], content["file_ending"]) == (3, ".nii.gz")
    assert sorted(p.name for p in (target / "labelsTr").iterdir()) == ["a.nii.gz", "syn_1-2.nii.gz", "syn_1.nii.gz"]
    with (target / "provenance.csv").open() as stream:
        table = list(csv.DictReader(stream))
    assert [r["origin"] for r in table] == ["real", "synthetic", "real"]
    assert table[1]["parents"] == "p 2 p1"
    back = {c.id: c for c in NnUnet(path=str(target)).read()}
    assert set(back) == {"a", "syn/1", "syn_1"}
    for one in cases:
        other = back[one.id]
        assert (other.patient, other.site, other.scanner, other.licence, other.modality, other.origin) == (
            one.patient, one.site, one.scanner, one.licence, one.modality, one.origin,
        )  # fmt: skip
        assert other.labels.scheme == scheme
        np.testing.assert_array_equal(other.labels.array, one.labels.array)
        np.testing.assert_array_equal(other.image.array, one.image.array)
    assert [p.name for p in tmp_path.iterdir()] == ["Dataset001_Mix"]


def test_nested_labels_become_regions(tmp_path: Path) -> None:
    scheme = LabelScheme.of(["core", "whole", "enhancing", "vessel"], exclusive=False)
    masks = boxes(3, 4, 1, 0)
    masks[3, 5] = True
    cases = [case("a", masks, scheme), case("b", boxes(2, 2, 0, 0), scheme)]
    write_nnunet(cases, tmp_path / "Dataset002_Nested", "nested", ["T1"])
    content = json.loads((tmp_path / "Dataset002_Nested/dataset.json").read_text())
    labels = content["labels"]
    values = {n: (v if isinstance(v, list) else [v]) for n, v in labels.items() if n != "background"}
    assert set(values["enhancing"]) < set(values["core"]) < set(values["whole"])
    assert len(values["vessel"]) == 1
    # What nnU-Net does with a prediction: it paints the regions in this order, each with its number.
    stored = np.asarray(nib.load(tmp_path / "Dataset002_Nested/labelsTr/a.nii.gz").dataobj)
    painted = np.zeros_like(stored)
    for value, region in zip(content["regions_class_order"], values.values(), strict=True):
        painted[np.isin(stored, region)] = value
    np.testing.assert_array_equal(painted, stored)
    back = NnUnet(path=str(tmp_path / "Dataset002_Nested")).read()
    for one, other in zip(cases, back, strict=True):
        assert other.labels.scheme == scheme
        np.testing.assert_array_equal(other.labels.array, one.labels.array)
    (tmp_path / "Dataset002_Nested/provenance.json").unlink()
    foreign = NnUnet(path=str(tmp_path / "Dataset002_Nested"), one_image_one_patient=True).read()[0]
    assert not foreign.labels.scheme.exclusive
    np.testing.assert_array_equal(foreign.labels.mask("core"), masks[0])


def test_half_overlapping_labels_are_refused_and_one_may_be_written_alone(tmp_path: Path) -> None:
    scheme = LabelScheme.of(["lung", "heart"], exclusive=False)
    masks = boxes(4, 0)
    masks[1, 3:] = True
    cases = [case("fine", boxes(4, 2), scheme), case("bad", masks, scheme)]
    with pytest.raises(LabelError, match=r"'lung' and 'heart' overlap.*neither lies inside") as caught:
        write_nnunet(cases, tmp_path / "Dataset003_X", "x", ["xray"])
    assert "labels=['lung']" in str(caught.value.fix)
    assert not list(tmp_path.iterdir())
    write_nnunet(cases, tmp_path / "Dataset003_X", "x", ["xray"], labels=["heart"])
    back = NnUnet(path=str(tmp_path / "Dataset003_X")).read()
    assert back[0].labels.scheme.names == ("heart",)
    np.testing.assert_array_equal(back[0].labels.array[0], masks[1])  # sorted by file name: "bad" first


@pytest.mark.parametrize("colours", [1, 3])
def test_pictures_become_png(tmp_path: Path, colours: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (colours, *FLAT.shape), dtype=np.uint8)
    one = case("a", boxes(2, geometry=FLAT), LabelScheme.of(["disc"]), FLAT, image=pixels)
    target = tmp_path / "Dataset004_Fundus"
    write_nnunet([one], target, "fundus", ["R", "G", "B"][:colours])
    assert sorted(p.name for p in target.rglob("*.png")) == ["a.png", "a_0000.png"]
    with PillowImage.open(target / "imagesTr/a_0000.png") as picture:
        np.testing.assert_array_equal(np.asarray(picture).reshape(5, 6, colours), pixels[..., 0].transpose(2, 1, 0))
    (back,) = NnUnet(path=str(target)).read()
    np.testing.assert_array_equal(back.image.array, pixels)
    np.testing.assert_array_equal(back.labels.array, one.labels.array)
    assert back.image.unit == "px"


def test_pictures_with_a_size_or_of_another_depth_become_nifti(tmp_path: Path) -> None:
    sized = Geometry((6, 5, 1), np.diag([0.2, 0.3, 1, 1]))
    scheme = LabelScheme.of(["head"])
    byte = np.random.default_rng(0).integers(0, 255, (3, 6, 5, 1), dtype=np.uint8)
    cases = [
        case("a", boxes(2, geometry=sized), scheme, sized, image=byte),
        case("b", boxes(2, geometry=FLAT), scheme, FLAT, image=byte.astype(np.float32)),
    ]
    write_nnunet(cases, tmp_path / "Dataset005_US", "us", ["R", "G", "B"])
    back = NnUnet(path=str(tmp_path / "Dataset005_US")).read()
    assert [c.image.unit for c in back] == ["mm", "px"]
    assert back[0].image.spacing == pytest.approx((0.2, 0.3, 1))
    assert [c.image.array.dtype for c in back] == [np.uint8, np.float32]
    np.testing.assert_array_equal(back[0].image.array, byte)


def test_ignore_is_the_highest_number(tmp_path: Path) -> None:
    ignore = np.zeros((1, *GRID.shape), bool)
    ignore[0, 5] = True
    scheme = LabelScheme.of(["nodule"])
    write_nnunet(
        [case("a", boxes(2), scheme, ignore=ignore), case("b", boxes(2), scheme)],
        tmp_path / "Dataset006_N",
        "n",
        ["CT"],
    )
    assert json.loads((tmp_path / "Dataset006_N/dataset.json").read_text())["labels"]["ignore"] == 2
    back = NnUnet(path=str(tmp_path / "Dataset006_N")).read()
    np.testing.assert_array_equal(back[0].labels.ignored(), ignore[0])
    assert not back[1].labels.ignored().any()
    assert back[0].labels.scheme == scheme


SCHEME = LabelScheme.of(["x"])
REFUSED: list[tuple[str, Callable[[list[Case]], list[Case]], type[EquipoiseError], str]] = [
    ("none", lambda cases: [], DataError, "no cases"),
    ("unlabelled", lambda cases: [cases[0], cases[1].without_truth()], LabelError, "1 of 2"),
    ("class", lambda cases: [replace(cases[0], truth=ClassLabel("a", ("a",)))], LabelError, "1 of 1"),
    ("twice", lambda cases: [cases[0], cases[0]], DataError, "two cases are called 'a'"),
    ("scheme", lambda cases: [cases[0], case("c", boxes(1), LabelScheme.of(["y"]))], LabelError, "one label scheme"),
    (
        "channels",
        lambda cases: [case("c", boxes(1), SCHEME, image=np.zeros((2, *GRID.shape)))],
        GeometryMismatchError,
        "2 channels, 1 are named",
    ),
]


@pytest.mark.parametrize(("what", "spoil", "error", "says"), REFUSED, ids=[r[0] for r in REFUSED])
def test_what_cannot_be_written_is_refused_whole(
    tmp_path: Path, what: str, spoil: Callable[[list[Case]], list[Case]], error: type[EquipoiseError], says: str
) -> None:
    cases = spoil([case("a", boxes(1), SCHEME), case("b", boxes(2), SCHEME)])
    with pytest.raises(error, match=says):
        write_nnunet(cases, tmp_path / "Dataset007_X", "x", ["CT"])
    assert not list(tmp_path.iterdir())


def test_names_and_existing_folders(tmp_path: Path) -> None:
    cases = [case("a", boxes(1), SCHEME)]
    with pytest.raises(PlanError, match="Dataset###_Name"):
        write_nnunet(cases, tmp_path / "mine", "x", ["CT"])
    write_nnunet(cases, tmp_path / "Dataset008_X", "x", ["CT"])
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")}
    with pytest.raises(WorkspaceError, match="nothing is overwritten"):
        write_nnunet(cases, tmp_path / "Dataset008_X", "x", ["CT"])
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")} == before
    with pytest.raises(LabelError, match="no label 'xx'"):
        write_nnunet(cases, tmp_path / "Dataset009_X", "x", ["CT"], labels=["xx"])


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[Path] = []

    def full(path: Path, *_: object) -> None:
        if len(written) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        path.write_bytes(b"x")
        written.append(path)

    monkeypatch.setattr(nnunet_writer, "write_volume", full)
    with pytest.raises(WorkspaceFullError, match="disk is full"):
        write_nnunet([case(n, boxes(1), SCHEME) for n in "abc"], tmp_path / "Dataset010_X", "x", ["CT"])
    assert len(written) == 3
    assert not list(tmp_path.iterdir())


def foreign(root: Path, ending: str = ".nii.gz", channels: int = 2) -> Path:
    """A data set that somebody else made."""
    for folder in ("imagesTr", "labelsTr", "imagesTs"):
        (root / folder).mkdir(parents=True)
    for name in ("la_001", "la_002"):
        for channel in range(channels):
            save(root / f"imagesTr/{name}_{channel:04d}{ending}", np.full((5, 6), channel + 1, np.uint8))
        save(root / f"labelsTr/{name}{ending}", np.eye(5, 6, dtype=np.uint8) * 2)
    save(root / f"imagesTs/la_009_0000{ending}", np.zeros((5, 6), np.uint8))
    content = {
        "channel_names": {str(i): f"c{i}" for i in range(channels)},
        "labels": {"background": 0, "wall": 1, "cavity": 2},
        "numTraining": 2,
        "file_ending": ending,
    }
    (root / "dataset.json").write_text(json.dumps(content))
    return root


def save(path: Path, pixels: np.ndarray) -> None:
    if path.name.endswith(".nii.gz"):
        nib.save(nib.Nifti1Image(pixels.T[..., None], np.eye(4)), path)
    elif path.suffix == ".tif":
        tifffile.imwrite(path, pixels)
    else:
        PillowImage.fromarray(pixels).save(path)


@pytest.mark.parametrize("ending", [".nii.gz", ".png", ".tif", ".bmp"])
def test_foreign_sets_of_any_ending(tmp_path: Path, ending: str) -> None:
    root = foreign(tmp_path, ending)
    with pytest.raises(PatientUnknownError, match="one_image_one_patient = true"):
        NnUnet(path=str(root)).read()
    cases = NnUnet(path=str(root), patient="(?P<patient>la_[0-9]+)_").read()
    assert [(c.id, c.patient) for c in cases] == [("la_001", "la_001"), ("la_002", "la_002")]
    assert cases[0].image.array.shape == (2, 6, 5, 1)
    assert cases[0].image.array[:, 0, 0, 0].tolist() == [1, 2]
    assert cases[0].labels.scheme == LabelScheme.of({"wall": 1, "cavity": 2})
    assert cases[0].labels.mask("cavity")[3, 3, 0]
    only = NnUnet(path=str(root), labels={"heart": [1, 2]}, one_image_one_patient=True).read()
    assert only[0].labels.mask("heart").sum() == 5


def test_the_test_part_may_be_unlabelled(tmp_path: Path) -> None:
    (one,) = NnUnet(path=str(foreign(tmp_path, channels=1)), part="test", one_image_one_patient=True).read()
    assert (one.id, one.truth) == ("la_009", None)


@pytest.mark.parametrize(
    ("how", "error", "says"),
    [
        ("channel", UnreadableFileError, "has channels [0]"),
        ("label", UnreadableFileError, "missing"),
        ("json", UnreadableFileError, "no valid JSON"),
        ("list", UnreadableFileError, "an object"),
        ("key", UnreadableFileError, "no `channel_names`"),
        ("type", UnreadableFileError, "must be a dict"),
        ("ending", DataError, "no file is called CASE_0000.mha"),
        ("number", LabelError, "must be whole"),
        ("folder", UnreadableFileError, "no such folder"),
        ("unknown value", LabelError, "holds 2"),
        ("provenance", UnreadableFileError, "does not fit"),
    ],
)
def test_a_broken_set_is_one_error(tmp_path: Path, how: str, error: type[EquipoiseError], says: str) -> None:
    root = foreign(tmp_path / "set")
    file = root / "dataset.json"
    content = json.loads(file.read_text())
    if how == "channel":
        (root / "imagesTr/la_002_0001.nii.gz").unlink()
    elif how == "label":
        (root / "labelsTr/la_002.nii.gz").unlink()
    elif how == "folder":
        (root / "imagesTr").rename(root / "images")
    elif how == "provenance":
        (root / "provenance.json").write_text('{"labels": [{"name": "lung", "value": 1}], "exclusive": true}')
    else:
        file.write_text(
            {
                "json": "{",
                "list": "[]",
                "key": json.dumps({**content, "channel_names": None}).replace("channel_names", "channels"),
                "type": json.dumps({**content, "labels": ["wall"]}),
                "ending": json.dumps({**content, "file_ending": ".mha"}),
                "number": json.dumps({**content, "labels": {"background": 0, "wall": 1.5}}),
                "unknown value": json.dumps({**content, "labels": {"background": 0, "wall": 1}}),
            }[how]
        )
    with pytest.raises(error) as caught:
        _ = NnUnet(path=str(root), one_image_one_patient=True).read()[0].labels.array
    assert says in str(caught.value)
    assert caught.value.file


@st.composite
def sets(draw: st.DrawFn) -> list[Case]:
    rng = np.random.default_rng(draw(st.integers(0, 2**31)))
    scheme = LabelScheme.of({"a": 4, "b": 2, "c": 11})
    flat, channels, dtype = (
        draw(st.booleans()),
        draw(st.sampled_from([1, 3])),
        draw(st.sampled_from(["u1", "i2", "f4"])),
    )
    cases = []
    for number in range(draw(st.integers(1, 3))):
        shape = (*draw(st.tuples(*[st.integers(1, 4)] * 2)), 1 if flat else draw(st.integers(2, 3)))
        turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
        affine = np.eye(4)
        if not (flat and draw(st.booleans())):
            affine[:3, :3], affine[:3, 3] = turn @ np.diag(rng.uniform(0.4, 3, 3)), rng.uniform(-99, 99, 3)
        geometry = Geometry(shape, affine, unit="px" if flat else "mm")
        truth = LabelMap.from_values(geometry, rng.choice([0, 2, 4, 11], size=shape), scheme)
        image = Image.on(geometry, (200 * rng.random((channels, *shape))).astype(dtype))
        synthetic = draw(st.booleans())
        origin = Origin("synthetic", "e", None, str(number), frozenset({"p"})) if synthetic else Origin()
        cases.append(Case(f"c{number}", f"p{number}", image, truth, origin, site=draw(st.sampled_from([None, "s"]))))
    return cases


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cases=sets())
def test_what_is_written_is_read_back(tmp_path_factory: pytest.TempPathFactory, cases: list[Case]) -> None:
    target = tmp_path_factory.mktemp("raw") / "Dataset011_Any"
    write_nnunet(cases, target, "any", [f"c{i}" for i in range(cases[0].image.channels)])
    for one, other in zip(cases, NnUnet(path=str(target)).read(), strict=True):
        assert (one.id, one.patient, one.origin, one.site) == (other.id, other.patient, other.origin, other.site)
        one.image.geometry.require_same(other.image.geometry)
        assert one.image.unit == other.image.unit
        assert one.image.array.dtype == other.image.array.dtype
        np.testing.assert_array_equal(one.image.array, other.image.array)
        assert one.labels.scheme == other.labels.scheme
        np.testing.assert_array_equal(one.labels.array, other.labels.array)

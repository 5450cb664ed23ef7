"""Real pixels: DICOM files that a test writes as TCIA would, for one patient of the database."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from equipoise.annotation.consensus import with_consensus
from equipoise.demo.lidc_pixels import Lidc
from equipoise.errors import DataError, EquipoiseError, GeometryMismatchError, NotEnoughCasesError, UnreadableFileError
from equipoise.formats.lidc import Scan, read_scans

PATIENT = "LIDC-IDRI-0078"
ORIGIN = (-166.0, -171.7)


def _slice(scan: Scan, z: float, path: Path, **changes: object) -> None:
    """Write a slice whose stored value tells column and row: ``4 column + row``; HU is that minus 1024."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid(entropy_srcs=[str(path)])
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID, data.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
    data.Modality, data.PatientID = "CT", scan.patient
    data.StudyInstanceUID, data.SeriesInstanceUID = scan.study, scan.series
    data.FrameOfReferenceUID = "1.2.3.4"
    data.Manufacturer, data.ManufacturerModelName = "Maker", "Model 16"
    data.ImagePositionPatient = [*ORIGIN, z]
    data.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    data.PixelSpacing = [scan.spacing, scan.spacing]
    data.SliceThickness = scan.thickness
    data.Rows = data.Columns = 512
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 12, 11, 0
    data.RescaleSlope, data.RescaleIntercept = 1, -1024
    for name, value in changes.items():
        setattr(data, name, value)
    rows, columns = np.mgrid[: data.Rows, : data.Columns]
    data.PixelData = (4 * columns + rows).astype("<u2").tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    data.save_as(path, enforce_file_format=True)


@pytest.fixture(scope="module")
def scan() -> Scan:
    (scan,) = read_scans([PATIENT])
    return scan


def _write(scan: Scan, root: Path, **changes: object) -> Path:
    """Write the slices that carry outlines, with the names that TCIA's downloader gives."""
    folder = root / PATIENT / "01-01-2000" / "3000522.000000-04919"
    for k, z in enumerate(sorted({z for nodule in scan.nodules for z in nodule.positions}), 1):
        _slice(scan, z, folder / f"1-{k:03d}.dcm", **changes)
    return folder


def _problem(root: Path) -> EquipoiseError:
    with pytest.raises(EquipoiseError) as caught:
        for case in Lidc(str(root)).read():
            np.asarray(case.image.array)
    return caught.value


@pytest.mark.parametrize("inside", ["", "LIDC-IDRI"])
def test_pixels_and_outlines_lie_on_one_grid(scan: Scan, tmp_path: Path, inside: str) -> None:
    _write(scan, tmp_path / inside)
    (case,) = Lidc(str(tmp_path)).read()
    assert case.patient == PATIENT
    assert case.attributes["pixels"] == "CT"
    assert case.scanner == "Maker Model 16"
    assert case.image.frame == "1.2.3.4"
    assert case.image.spacing == pytest.approx((scan.spacing, scan.spacing, scan.thickness))
    assert not isinstance(case.image.voxels, np.ndarray)  # unread until asked for
    # The first voxel's place in the patient gives its column and row, and these its value.
    column = (-case.image.affine[0, 3] - ORIGIN[0]) / scan.spacing
    row = (-case.image.affine[1, 3] - ORIGIN[1]) / scan.spacing
    pixels = case.image.array[0, :, :, 0]
    i, j = np.mgrid[:64, :64]
    np.testing.assert_allclose(pixels, 4 * (column + i) + (row + j) - 1024, atol=1e-3)
    # The outline's own voxels, found without the crop.
    z = float(case.image.affine[2, 3])
    everybody = [read.mask(z, (0, 0), (512, 512)) for nodule in scan.nodules for read in nodule.reads]
    where = np.argwhere(case.labels.mask("nodule")[:, :, 0]) + np.rint([column, row]).astype(int)
    assert any(mask[tuple(where.T)].all() for mask in everybody)


def test_reference_works_on_real_pixels(scan: Scan, tmp_path: Path) -> None:
    _write(scan, tmp_path)
    (case,) = Lidc(str(tmp_path)).read()
    assert with_consensus(case).labels.mask("nodule").any()


def test_views_do_not_depend_on_the_folder_that_is_given(scan: Scan, tmp_path: Path) -> None:
    _write(scan, tmp_path)
    cases = Lidc(str(tmp_path), slices=2, size=48, seed=3).read()
    assert [c.id for c in cases] == [f"{PATIENT}-0", f"{PATIENT}-1"]
    again = Lidc(str(tmp_path / PATIENT), slices=2, size=48, seed=3).read()  # the patient's own folder
    for a, b in zip(cases, again, strict=True):
        np.testing.assert_array_equal(a.image.array, b.image.array)


def test_name_in_the_database_is_tried_first(scan: Scan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / PATIENT / scan.study / scan.series
    outlines = {o.z: o.file for n in scan.nodules for r in n.reads for o in r.outlines}
    for z, name in outlines.items():
        _slice(scan, z, folder / str(name))
    opened = []
    real = pydicom.dcmread
    monkeypatch.setattr(pydicom, "dcmread", lambda path, **keywords: (opened.append(path), real(path, **keywords))[1])
    assert len(Lidc(str(tmp_path)).read()) == 1
    assert len(opened) == 2  # one header of the series, one of the slice


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"PixelSpacing": [0.7, 0.7]}, "pixels measure"),
        ({"Rows": 256, "Columns": 256}, "256 x 256 pixels"),
        ({"ImageOrientationPatient": [1, 0, 0, 0, 0, -1]}, "axial"),
    ],
)
def test_other_grid_is_refused(scan: Scan, tmp_path: Path, changes: dict[str, object], message: str) -> None:
    _write(scan, tmp_path, **changes)
    problem = _problem(tmp_path)
    assert isinstance(problem, GeometryMismatchError)
    assert message in str(problem)
    assert problem.file is not None
    assert problem.file.endswith(".dcm")


def test_missing_slice_is_named(scan: Scan, tmp_path: Path) -> None:
    folder = _write(scan, tmp_path)
    for path in sorted(folder.glob("*.dcm"))[1:]:
        path.unlink()
    problem = _problem(tmp_path)
    assert isinstance(problem, DataError)
    assert "is not in the folder" in str(problem)
    assert "download the series again" in str(problem)


def test_truncated_and_foreign_files(scan: Scan, tmp_path: Path) -> None:
    folder = _write(scan, tmp_path)
    for path in folder.glob("*.dcm"):
        path.write_bytes(path.read_bytes()[:-300_000])
    assert isinstance(_problem(tmp_path), UnreadableFileError)
    for path in folder.glob("*.dcm"):
        path.write_bytes(b"")
    assert isinstance(_problem(tmp_path), UnreadableFileError)


def test_folder_without_the_collection(tmp_path: Path) -> None:
    (tmp_path / "something").mkdir()
    assert "none of the" in str(_problem(tmp_path))
    assert "cancerimagingarchive" in str(_problem(tmp_path))
    assert "is no folder" in str(_problem(tmp_path / "missing"))


def test_another_series_of_the_patient_is_not_taken(scan: Scan, tmp_path: Path) -> None:
    _write(scan, tmp_path, SeriesInstanceUID="1.2.3")
    assert "none of the" in str(_problem(tmp_path))


def test_more_patients_than_are_there(scan: Scan, tmp_path: Path) -> None:
    _write(scan, tmp_path)
    with pytest.raises(NotEnoughCasesError, match=r"^2 patients with a nodule .* asked for, 1 have a nodule"):
        Lidc(str(tmp_path), patients=2).read()

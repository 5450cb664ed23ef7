"""NIfTI: grid as in the file, slope, colour and channels, damage, round trip, and listing speed."""

import gzip
import time
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from equipoise.core.geometry import Geometry
from equipoise.core.image import Image
from equipoise.core.labels import LabelMap, LabelScheme
from equipoise.errors import DataError, GeometryMismatchError, LabelError, UnreadableFileError
from equipoise.formats.nifti import Nifti, write_nifti
from equipoise.formats.volumes import read_volume, volume_header, write_volume

OBLIQUE = np.array([[-0.8, 0.1, 0, 60], [0.1, 0.8, 0, -20], [0, 0, 3.0, 5], [0, 0, 0, 1]])


def save(path: Path, array: np.ndarray, affine: np.ndarray = OBLIQUE, **header: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(array, affine)
    if "slope" in header:
        image.header.set_slope_inter(header["slope"], header.get("inter", 0))
    if "unit" in header:
        image.header.set_xyzt_units(header["unit"])
    nib.save(image, path)
    return path


def test_voxels_stay_and_the_affine_says_where_they_lie(tmp_path: Path) -> None:
    array = np.random.default_rng(0).integers(-900, 900, (5, 6, 7)).astype(np.int16)
    file = save(tmp_path / "a.nii.gz", array)
    header = volume_header(file)
    assert (header.shape, header.dtype) == ((1, 5, 6, 7), np.int16)
    np.testing.assert_allclose(header.affine, OBLIQUE, atol=1e-6)
    np.testing.assert_array_equal(read_volume(str(file))[0], array)


def test_slope_and_intercept_are_applied(tmp_path: Path) -> None:
    file = save(tmp_path / "a.nii", np.full((3, 3, 3), 100, np.int16), slope=0.5, inter=-1024)
    assert volume_header(file).dtype == np.float32
    np.testing.assert_allclose(read_volume(str(file)), 100 * 0.5 - 1024)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((4, 5), (1, 4, 5, 1)), ((4, 5, 1), (1, 4, 5, 1)), ((4, 5, 6, 3), (3, 4, 5, 6)), ((4, 5, 6, 1, 2), (2, 4, 5, 6))],
)
def test_axes_beyond_the_third_are_channels(tmp_path: Path, shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
    array = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    file = save(tmp_path / "a.nii.gz", array)
    assert volume_header(file).shape == expected
    np.testing.assert_array_equal(
        read_volume(str(file))[-1].ravel(), array.reshape(*expected[1:], expected[0])[..., -1].ravel()
    )


def test_colour_and_big_endian(tmp_path: Path) -> None:
    colour = np.zeros((3, 4, 5), np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")]))
    colour["G"] = 9
    file = save(tmp_path / "a.nii.gz", colour)
    assert volume_header(file).shape == (3, 3, 4, 5)
    assert read_volume(str(file))[:, 0, 0, 0].tolist() == [0, 9, 0]
    nib.Nifti1Image(np.arange(8, dtype=">i2").reshape(2, 2, 2), OBLIQUE, nib.Nifti1Header(endianness=">")).to_filename(
        tmp_path / "b.nii"
    )
    assert read_volume(str(tmp_path / "b.nii")).dtype.isnative
    assert read_volume(str(tmp_path / "b.nii")).ravel().tolist() == list(range(8))


@pytest.mark.parametrize(("unit", "factor"), [("micron", 1e-3), ("meter", 1e3), ("mm", 1), ("unknown", 1)])
def test_units_become_mm(tmp_path: Path, unit: str, factor: float) -> None:
    file = save(tmp_path / "a.nii.gz", np.zeros((3, 3, 3), np.uint8), np.diag([2, 2, 4, 1.0]), unit=unit)
    np.testing.assert_allclose(volume_header(file).geometry.spacing, np.array([2, 2, 4]) * factor, rtol=1e-6)


def test_sform_and_qform_that_disagree_are_both_named(tmp_path: Path) -> None:
    image = nib.Nifti1Image(np.zeros((20, 20, 20), np.uint8), np.eye(4))
    image.set_sform(np.eye(4), code=1)
    image.set_qform(np.diag([1, 1, 1.01, 1]), code=1)
    nib.save(image, tmp_path / "near.nii.gz")
    volume_header(tmp_path / "near.nii.gz")  # 0.19 mm at the far corner: the same voxel
    image.set_qform(np.diag([-1.0, 1, 1, 1]), code=1)
    nib.save(image, tmp_path / "far.nii.gz")
    with pytest.raises(GeometryMismatchError, match=r"sform.*qform.*38 mm apart") as caught:
        volume_header(tmp_path / "far.nii.gz")
    assert caught.value.file == str(tmp_path / "far.nii.gz")


def test_damage_is_one_clear_error(tmp_path: Path) -> None:
    whole = save(tmp_path / "a.nii.gz", np.random.default_rng(0).normal(size=(20, 20, 20))).read_bytes()
    cut = tmp_path / "cut.nii.gz"
    cut.write_bytes(whole[: len(whole) // 2])
    assert volume_header(cut).shape == (1, 20, 20, 20)
    with pytest.raises(UnreadableFileError, match="cannot be read"):
        read_volume(str(cut))
    plain = tmp_path / "cut.nii"
    plain.write_bytes(gzip.decompress(whole)[:-500])
    with pytest.raises(UnreadableFileError, match="cut short"):
        volume_header(plain)
    for name, content in {
        "empty.nii.gz": b"",
        "text.nii.gz": b"patient,age\n1,2\n" * 50,
        "text.nii": b"x" * 400,
    }.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UnreadableFileError) as caught:
            volume_header(tmp_path / name)
        assert caught.value.fix
    with pytest.raises(UnreadableFileError, match="complex"):
        volume_header(save(tmp_path / "k.nii.gz", np.zeros((2, 2, 2), np.complex64)))
    with pytest.raises(UnreadableFileError, match="no image"):
        volume_header(save(tmp_path / "t.nii.gz", np.zeros((2, 2, 2, 3, 3), np.uint8)))


def pair(root: Path, case: str, mask: np.ndarray, affine: np.ndarray = OBLIQUE) -> None:
    save(root / f"images/{case}.nii.gz", np.ones((4, 5, 6), np.float32))
    save(root / f"masks/{case}.nii.gz", mask, affine)


def test_masks_by_name(tmp_path: Path) -> None:
    mask = np.zeros((4, 5, 6), np.float64)
    mask[1], mask[2] = 1, 2
    pair(tmp_path, "p1_a", mask)
    pair(tmp_path, "p1_b", mask)
    cases = Nifti(path=str(tmp_path), labels={"liver": [1, 2], "tumour": 2}, patient="(?P<patient>p.)_").read()
    assert [(c.id, c.patient) for c in cases] == [("p1_a", "p1"), ("p1_b", "p1")]
    assert cases[0].labels.masks().sum(axis=(1, 2, 3)).tolist() == [60, 30]


@pytest.mark.parametrize(
    ("mask", "affine", "error", "says"),
    [
        (np.zeros((4, 5, 7)), OBLIQUE, GeometryMismatchError, "shapes differ"),
        (np.zeros((4, 5, 6)), OBLIQUE @ np.diag([1, 1, -1, 1]), GeometryMismatchError, "another origin or orientation"),
        (np.zeros((4, 5, 6)), np.diag([1, 1, 1, 1.0]), GeometryMismatchError, "spacing"),
        (np.zeros((4, 5, 6, 2)), OBLIQUE, LabelError, "2 channels"),
        (np.full((4, 5, 6), 0.3), OBLIQUE, LabelError, "not whole"),
        (np.full((4, 5, 6), 5.0), OBLIQUE, LabelError, "holds 5"),
        (None, OBLIQUE, LabelError, "1 of 1 cases"),
    ],
)
def test_a_mask_that_does_not_fit(
    tmp_path: Path, mask: np.ndarray | None, affine: np.ndarray, error: type[DataError], says: str
) -> None:
    pair(tmp_path, "a", np.zeros((4, 5, 6)) if mask is None else mask, affine)
    if mask is None:
        (tmp_path / "masks/a.nii.gz").unlink()
    with pytest.raises(error) as caught:
        _ = Nifti(path=str(tmp_path), labels={"liver": 1}, one_image_one_patient=True).read()[0].labels.array
    assert says in str(caught.value)


def test_patients_and_sites_from_a_second_table(tmp_path: Path) -> None:
    for case in ("a", "b"):
        pair(tmp_path, case, np.zeros((4, 5, 6)))
    (tmp_path / "patients.csv").write_text("case,patient,site\na,p1,Leeds\nb,p1,York\n")
    nifti = Nifti(path=str(tmp_path), labels={"liver": 1}, patients="patients.csv", site="site", where={"site": "York"})
    (case,) = nifti.read()
    assert (case.id, case.patient, case.site) == ("b", "p1", "York")
    (tmp_path / "patients.csv").write_text("case,patient,site\na,p1,Leeds\n")
    with pytest.raises(DataError, match="1 of 2 cases are not in the table"):
        nifti.read()


shapes = st.tuples(*[st.integers(1, 5)] * 3)
dtypes = st.sampled_from(["uint8", "int16", "uint16", "int32", "float32", "float64"])


@st.composite
def geometries(draw: st.DrawFn) -> Geometry:
    rng = np.random.default_rng(draw(st.integers(0, 2**31)))
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag(rng.uniform(0.3, 3, 3))
    if draw(st.booleans()):
        affine[:3, :3] += 0.05 * rng.normal(size=(3, 3))  # sheared: a quaternion cannot hold it
    affine[:3, 3] = rng.uniform(-200, 200, 3)
    return Geometry(draw(shapes), affine, unit=draw(st.sampled_from(["mm", "px"])))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(geometry=geometries(), dtype=dtypes, channels=st.integers(1, 3), seed=st.integers(0, 2**31))
def test_what_is_written_is_read_back(tmp_path: Path, geometry: Geometry, dtype: str, channels: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    image = Image.on(geometry, (200 * rng.random((channels, *geometry.shape))).astype(dtype))
    scheme = LabelScheme.of({"a": 2, "b": 5, "c": 300 if seed % 2 else 7})
    values = rng.choice([0, *scheme.as_dict().values()], size=geometry.shape)
    truth = LabelMap.from_values(geometry, values, scheme)
    for folder, what in (("images", image), ("masks", truth)):
        (tmp_path / folder).mkdir(exist_ok=True)
        write_nifti(tmp_path / folder / "x.nii.gz", what)
    (case,) = Nifti(path=str(tmp_path), labels=scheme.as_dict(), one_image_one_patient=True).read()
    assert case.image.array.dtype == image.array.dtype
    np.testing.assert_array_equal(case.image.array, image.array)
    case.image.geometry.require_same(geometry)
    assert case.image.unit == geometry.unit
    assert case.labels.scheme == scheme
    np.testing.assert_array_equal(case.labels.array, truth.array)


def test_integers_that_fit_no_nifti_type_are_widened(tmp_path: Path) -> None:
    grid = Geometry((2, 2, 2))
    write_volume(tmp_path / "a.nii", np.full((2, 2, 2), 2**40), grid)
    assert (read_volume(str(tmp_path / "a.nii")) == 2**40).all()
    write_volume(tmp_path / "b.nii", np.full((2, 2, 2), -7), grid)
    assert read_volume(str(tmp_path / "b.nii")).dtype == np.int32


def test_a_thousand_headers_are_listed_in_three_seconds(tmp_path: Path) -> None:
    one = save(tmp_path / "one.nii.gz", np.zeros((64, 64, 64), np.int16)).read_bytes()
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
        for n in range(1000):
            (tmp_path / folder / f"{n:04d}.nii.gz").write_bytes(one)
    nifti = Nifti(path=str(tmp_path), labels={"liver": 1}, one_image_one_patient=True)
    start = time.process_time()  # of this process, so that a busy machine does not fail the test
    cases = nifti.read()
    assert len(cases) == 1000
    assert time.process_time() - start < 6.0  # 2,000 headers: image and mask of each

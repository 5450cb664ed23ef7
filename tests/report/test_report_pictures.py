from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image as Pillow

from equipoise.core import Case, Geometry, Image, LabelMap, LabelScheme, Origin
from equipoise.errors import DataError, GeometryMismatchError, LabelError
from equipoise.experiment.findings import Picture
from equipoise.report.outlines import marching_squares
from equipoise.report.pictures import HEAVIEST, LONGEST, block_mean, picture, view_of

ONE = LabelScheme.of(["thing"])


def pixels(shown: Picture) -> np.ndarray:
    return np.asarray(Pillow.open(io.BytesIO(base64.b64decode(shown.png))).convert("RGB"))


def flat(array: np.ndarray, mask: np.ndarray, **more: object) -> Case:
    """Return a 2-D case of pixels given as rows and columns."""
    geometry = Geometry((array.shape[1], array.shape[0], 1), unit="px")
    voxels = array.transpose(2, 1, 0)[..., None] if array.ndim == 3 else array.T[None, :, :, None]
    labels = LabelMap.on(geometry, mask.T[None, :, :, None].astype(np.uint8), ONE)
    return Case("case", "patient", Image.on(geometry, voxels), labels, **more)  # type: ignore[arg-type]


def area(paths: list[list[list[float]]]) -> float:
    total = 0.0
    for path in paths:
        x, y = np.array(path).T
        total += 0.5 * float(np.sum(x * np.roll(y, -1) - y * np.roll(x, -1)))
    return abs(total)


def test_a_2d_picture_keeps_columns_and_rows() -> None:
    array = np.zeros((40, 60), np.uint8)
    array[5, 50] = 255
    mask = np.zeros((40, 60), bool)
    mask[10:20, 30:50] = True
    case = flat(array, mask)
    shown = picture(case, "real", {"truth": case.labels})
    assert (shown.width, shown.height, shown.unit, shown.pixel) == (60, 40, "px", 1.0)
    assert pixels(shown)[5, 50, 0] == 255
    x, y = np.array(shown.outlines[0].paths[0]).T
    assert (x.min(), x.max(), y.min(), y.max()) == (30, 50, 10, 20)
    assert shown.window == "values as stored, 0 to 255"


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
@pytest.mark.parametrize("signs", [(1, 1, 1), (-1, 1, -1), (-1, -1, 1)])
def test_a_volume_is_axial_with_right_on_the_left_and_anterior_up(
    order: tuple[int, int, int], signs: tuple[int, int, int]
) -> None:
    # In RAS+ order: a bright voxel far right, a grey one far anterior, both in the fifth slice from the feet.
    ras, mask = np.zeros((20, 24, 9), np.float32), np.zeros((20, 24, 9), bool)
    ras[18, 12, 4], ras[10, 22, 4], mask[3:17, 3:20, 4] = 100, 50, True
    affine = np.diag([1.0, 1.0, 1.0, 1.0])
    for axis, sign in enumerate(signs):
        if sign < 0:
            ras, mask, affine[:, axis] = np.flip(ras, axis), np.flip(mask, axis), -affine[:, axis]
    stored = np.eye(4)
    stored[:, :3] = affine[:, list(order)]
    volume, truth = ras.transpose(order)[None], mask.transpose(order)[None]
    case = Case("c", "p", Image(volume, stored), LabelMap(truth.astype(np.uint8), ONE, stored))
    shown = picture(case, "real", {"truth": case.labels}, window=(0, 100))
    seen = pixels(shown)[:, :, 0]
    assert seen.shape == (24, 20)
    assert seen[11, 1] == 255  # the patient's right is on the left of the screen
    assert seen[1, 9] == 128  # anterior is up
    assert "slice 5" in shown.window


def test_the_slice_with_most_truth_is_shown() -> None:
    mask = np.zeros((16, 16, 8), bool)
    mask[4:6, 4:6, 2], mask[4:12, 4:12, 6] = True, True
    assert view_of(Geometry((16, 16, 8)), mask).slice == 6
    assert view_of(Geometry((16, 16, 8)), np.zeros_like(mask)).slice == 4
    assert view_of(Geometry((16, 16, 8))).slice == 4


def test_windows_are_stated() -> None:
    rng, mask = np.random.default_rng(0), np.ones((32, 32), bool)
    hounsfield = flat(rng.uniform(-1000, 400, (32, 32)).astype(np.float32), mask, modality="CT")
    assert picture(hounsfield, "real", {}).window == "window −1350 to 150 HU"
    ramp = np.linspace(0, 1000, 1024, dtype=np.float32).reshape(32, 32)
    mri = picture(flat(ramp, mask, modality="MRI"), "real", {})
    assert mri.window == "percentiles 0.5 to 99.5: 5 to 995"
    assert pixels(mri)[0, 0, 0] == 0
    assert pixels(mri)[-1, -1, 0] == 255
    assert picture(hounsfield, "real", {}, window=(-160, 240)).window == "window −160 to 240 HU"


def test_flat_and_broken_images() -> None:
    mask = np.ones((8, 8), bool)
    assert pixels(picture(flat(np.full((8, 8), 7.0, np.float32), mask), "real", {})).max() == 0
    holes = np.full((8, 8), np.nan, np.float32)
    with pytest.raises(DataError, match="no finite value"):
        picture(flat(holes, mask), "real", {})
    holes[0] = 3
    assert picture(flat(holes, mask), "real", {}).width == 8


def test_a_large_image_is_averaged_and_says_by_how_much() -> None:
    array = np.zeros((700, 900), np.uint8)
    mask = np.zeros((700, 900), bool)
    mask[300:600, 300:600] = True
    array[mask] = 200
    shown = picture(flat(array, mask), "real", {"truth": flat(array, mask).labels})
    assert (shown.width, shown.height) == (300, 234)
    assert max(shown.width, shown.height) <= LONGEST
    assert shown.pixel == 3.0
    assert "reduced by 3" in shown.window
    x, y = np.array(shown.outlines[0].paths[0]).T
    assert (x.min(), x.max(), y.min(), y.max()) == (100, 200, 100, 200)
    assert pixels(shown)[150, 150, 0] == 200


def test_noise_and_colour_stay_light() -> None:
    rng, mask = np.random.default_rng(1), np.ones((600, 600), bool)
    for array in (
        rng.integers(0, 256, (600, 600), dtype=np.uint8),
        rng.integers(0, 256, (600, 600, 3), dtype=np.uint8),
    ):
        shown = picture(flat(array, mask), "real", {})
        assert len(base64.b64decode(shown.png)) <= HEAVIEST


def test_colour_stays_colour() -> None:
    array = np.zeros((32, 48, 3), np.uint8)
    array[:, :24], array[:, 24:] = (200, 30, 10), (10, 40, 220)
    seen = pixels(picture(flat(array, np.ones((32, 48), bool)), "real", {}))
    assert tuple(seen[3, 3]) == (200, 30, 10)
    assert tuple(seen[3, 40]) == (10, 40, 220)


def test_thick_slices_are_not_squeezed() -> None:
    # 0.5 mm columns and 1 mm rows: columns are averaged in pairs.
    affine = np.diag([0.5, 1.0, 3.0, 1.0])
    case = Case("c", "p", Image(np.random.default_rng(0).random((1, 64, 40, 5)).astype(np.float32), affine))
    shown = picture(case, "real", {})
    assert (shown.width, shown.height, shown.pixel) == (32, 40, 1.0)


def test_outlines_of_a_disc_have_its_area_and_a_ring_two_paths() -> None:
    y, x = np.mgrid[:200, :200] - 99.5
    disc = np.hypot(x, y) < 60
    exact = marching_squares(disc)
    assert area(exact) == pytest.approx(np.pi * 60**2, rel=0.01)
    fewer = marching_squares(disc, tolerance=0.5)
    assert len(fewer[0]) < 0.5 * len(exact[0])
    assert area(fewer) == pytest.approx(area(exact), rel=0.02)
    assert len(marching_squares(disc & (np.hypot(x, y) > 30))) == 2
    assert marching_squares(np.zeros((4, 4), bool)) == []
    assert marching_squares(np.ones((4, 6), bool)) != []


def test_block_means_by_hand() -> None:
    plane = np.array([[0, 2, 10], [4, 6, 10], [8, 8, 20]], np.uint8)[..., None]
    np.testing.assert_array_equal(block_mean(plane, (2, 2))[..., 0], [[3, 10], [8, 20]])


def test_labels_are_chosen_and_named() -> None:
    scheme = LabelScheme.of(["cup", "disc"], exclusive=False)
    voxels = np.zeros((2, 20, 20, 1), np.uint8)
    voxels[0, 8:12, 8:12], voxels[1, 4:16, 4:16] = 1, 1
    case = Case("c", "p", Image(np.zeros((1, 20, 20, 1), np.uint8)), LabelMap(voxels, scheme))
    both = picture(case, "best", {"truth": case.labels, "mixed 1:1": case.labels})
    assert [o.name for o in both.outlines] == ["truth · cup", "truth · disc", "mixed 1:1 · cup", "mixed 1:1 · disc"]
    assert [o.name for o in picture(case, "best", {"truth": case.labels}, ["cup"]).outlines] == ["truth"]
    with pytest.raises(LabelError, match="Did you mean 'cup'"):
        picture(case, "best", {"truth": case.labels}, ["cap"])


def test_lineage_travels_with_the_picture_and_other_grids_are_refused() -> None:
    mask = np.ones((16, 16), bool)
    origin = Origin("synthetic", "simulate-ct", "{}", "7/a", frozenset({"P2", "P1"}))
    case = flat(np.zeros((16, 16), np.uint8), mask, origin=origin, licence="CC0")
    shown = picture(case, "synthetic", {}, score={"real": 0.5}, simulated=True, name="one")
    assert (shown.engine, shown.seed, shown.parents, shown.licence) == ("simulate-ct", "7/a", ["P1", "P2"], "CC0")
    assert (shown.case, shown.score, shown.simulated) == ("one", {"real": 0.5}, True)
    other = flat(np.zeros((8, 16), np.uint8), np.ones((8, 16), bool))
    with pytest.raises(GeometryMismatchError, match="image and outline 'truth'"):
        picture(case, "synthetic", {"truth": other.labels})

"""Which numbers of a mask file are the label: every trap once."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import tifffile
from PIL import Image

from equipoise.errors import LabelError
from equipoise.formats.masks import LabelSource, decide, read_label_channels

DISC = np.hypot(*np.mgrid[-15:16, -15:16]) < 8


def drawn(file: Path, **rule: object) -> np.ndarray:
    """The one channel that a source gives, as rows and columns."""
    source = LabelSource("lesion", (str(file),), **rule)  # type: ignore[arg-type]
    return read_label_channels((source,), (31, 31, 1), np.dtype(np.int32), False, True)[0, :, :, 0].T


@pytest.mark.parametrize(("low", "high"), [(0, 255), (0, 1), (3, 253), (254, 255), (0, 128)])
def test_the_higher_of_two_values_is_the_label(tmp_path: Path, low: int, high: int) -> None:
    Image.fromarray(np.where(DISC, high, low).astype(np.uint8)).save(tmp_path / "m.png")
    np.testing.assert_array_equal(drawn(tmp_path / "m.png"), DISC)
    decision = decide(tmp_path / "m.png", LabelSource("lesion", ()))
    assert decision.values == (low, high)
    assert decision.foreground == (high,)
    assert "the higher" in decision.rule


def paletted(path: Path, low: int, high: int, colours: dict[int, tuple[int, int, int]]) -> None:
    picture = Image.fromarray(np.where(DISC, high, low).astype(np.uint8)).convert("P")
    table = [0] * 768
    for index, colour in colours.items():
        table[3 * index : 3 * index + 3] = colour
    picture.putpalette(table)
    picture.save(path)


def test_paletted_mask_with_indices_3_and_253(tmp_path: Path) -> None:
    paletted(tmp_path / "m.png", 3, 253, {3: (0, 0, 0), 253: (255, 255, 255)})
    np.testing.assert_array_equal(drawn(tmp_path / "m.png"), DISC)


def test_palette_that_shows_the_higher_index_darker_is_refused_until_stated(tmp_path: Path) -> None:
    paletted(tmp_path / "m.png", 0, 1, {0: (255, 255, 255), 1: (0, 0, 0)})
    with pytest.raises(LabelError, match="not the brighter") as caught:
        drawn(tmp_path / "m.png")
    assert "background" in str(caught.value.fix)
    np.testing.assert_array_equal(drawn(tmp_path / "m.png", values=(1,)), DISC)


def test_white_is_zero_mask_is_refused_until_stated(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "m.tif", DISC, photometric="miniswhite")
    with pytest.raises(LabelError, match="not the brighter"):
        drawn(tmp_path / "m.tif")
    np.testing.assert_array_equal(drawn(tmp_path / "m.tif", values=(1,)), DISC)


def test_one_value_is_empty_only_if_it_is_zero(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((31, 31), np.uint8)).save(tmp_path / "empty.png")
    assert not drawn(tmp_path / "empty.png").any()
    Image.fromarray(np.full((31, 31), 3, np.uint8)).save(tmp_path / "odd.png")
    with pytest.raises(LabelError, match="exactly two numbers") as caught:
        drawn(tmp_path / "odd.png")
    assert "background = 3" in str(caught.value.fix)
    assert not drawn(tmp_path / "odd.png", values=(253,), background=(3,)).any()


def test_soft_edges_need_a_threshold(tmp_path: Path) -> None:
    soft = np.clip(255 * (8.5 - np.hypot(*np.mgrid[-15:16, -15:16])), 0, 255).astype(np.uint8)
    Image.fromarray(soft).save(tmp_path / "m.png")
    with pytest.raises(LabelError, match="threshold"):
        drawn(tmp_path / "m.png")
    np.testing.assert_array_equal(drawn(tmp_path / "m.png", threshold=128), soft >= 128)


def test_jpeg_rings_and_is_cut_at_128(tmp_path: Path) -> None:
    big = np.kron(DISC, np.ones((7, 7), bool))  # not 8: edges must fall inside the blocks of 8 that JPEG works on
    Image.fromarray(np.where(big, 255, 0).astype(np.uint8)).save(tmp_path / "m.jpg", quality=70)
    assert np.unique(np.asarray(Image.open(tmp_path / "m.jpg"))).size > 2
    source = LabelSource("lesion", (str(tmp_path / "m.jpg"),))
    read = read_label_channels((source,), (217, 217, 1), np.dtype(np.uint8), False, True)[0, :, :, 0].T
    assert np.mean(read != big) < 0.001
    with pytest.raises(LabelError, match="no exact numbers"):
        drawn(tmp_path / "m.jpg", values=(255,))


def test_grey_jpeg_is_no_mask(tmp_path: Path) -> None:
    Image.fromarray(np.tile(np.arange(31, dtype=np.uint8) * 8, (31, 1))).save(tmp_path / "m.jpg")
    with pytest.raises(LabelError, match="JPEG"):
        drawn(tmp_path / "m.jpg")
    assert drawn(tmp_path / "m.jpg", threshold=128).any()


def test_rgb_rgba_and_alpha_only(tmp_path: Path) -> None:
    grey = np.where(DISC, 255, 0).astype(np.uint8)
    opaque = np.full_like(grey, 255)
    for name, layers in {
        "rgb": [grey] * 3,
        "rgba": [grey] * 3 + [opaque],
        "la": [grey, opaque],
        "red": [grey, 0 * grey, 0 * grey],
        "sheet": [opaque, 0 * grey, 0 * grey, grey],
    }.items():
        Image.fromarray(np.stack(layers, -1)).save(tmp_path / f"{name}.png")
        np.testing.assert_array_equal(drawn(tmp_path / f"{name}.png"), DISC, err_msg=name)
    Image.fromarray(np.stack([grey, grey, grey, 255 - grey], -1)).save(tmp_path / "both.png")
    with pytest.raises(LabelError, match="transparency"):
        drawn(tmp_path / "both.png")


def test_colours_are_values(tmp_path: Path) -> None:
    colours = np.zeros((31, 31, 3), np.uint8)
    colours[DISC] = (255, 0, 0)
    colours[:3] = (0, 0, 255)
    Image.fromarray(colours).save(tmp_path / "m.png")
    np.testing.assert_array_equal(drawn(tmp_path / "m.png", values=(0xFF0000,), others=(0x0000FF,)), DISC)
    with pytest.raises(LabelError, match="#0000ff"):
        drawn(tmp_path / "m.png", values=(0xFF0000,))


def test_16_bit_instances_and_floats(tmp_path: Path) -> None:
    numbers = np.zeros((31, 31), np.uint16)
    numbers[2:5, 2:5], numbers[9:12, 9:12] = 7, 40000
    tifffile.imwrite(tmp_path / "m.tif", numbers, compression="lzw")
    np.testing.assert_array_equal(drawn(tmp_path / "m.tif", instances=True), numbers)
    tifffile.imwrite(tmp_path / "f.tif", DISC.astype(np.float32) * 0.5)
    with pytest.raises(LabelError, match="not whole"):
        drawn(tmp_path / "f.tif")
    tifffile.imwrite(tmp_path / "g.tif", DISC.astype(np.float32))
    np.testing.assert_array_equal(drawn(tmp_path / "g.tif"), DISC)


def test_several_files_are_united_or_counted(tmp_path: Path) -> None:
    files = []
    for n, part in enumerate([DISC & (np.arange(31) < 15), DISC & (np.arange(31) > 15)]):
        Image.fromarray((part * 255).astype(np.uint8)).save(tmp_path / f"{n}.png")
        files.append(str(tmp_path / f"{n}.png"))
    shape = (31, 31, 1)
    union = read_label_channels((LabelSource("lung", tuple(files)),), shape, np.dtype(np.uint8), False, True)
    assert union.sum() == (DISC & (np.arange(31) != 15)).sum()
    counted = LabelSource("lung", tuple(files), instances=True)
    assert np.unique(read_label_channels((counted,), shape, np.dtype(np.uint16), False, True)).tolist() == [0, 1, 2]


def test_nifti_labels_through_slope_and_intercept(tmp_path: Path) -> None:
    image = nib.Nifti1Image((DISC[..., None] * 255).astype(np.uint8), np.eye(4))
    image.header.set_slope_inter(2.0 / 255, 0)
    nib.save(image, tmp_path / "m.nii.gz")
    source = LabelSource("lesion", (str(tmp_path / "m.nii.gz"),), values=(2,))
    channels = read_label_channels((source,), (31, 31, 1), np.dtype(np.uint8), False, True)
    np.testing.assert_array_equal(channels[0, :, :, 0], DISC)


def test_exclusive_labels_that_overlap_are_refused(tmp_path: Path) -> None:
    Image.fromarray((DISC * 255).astype(np.uint8)).save(tmp_path / "m.png")
    both = tuple(LabelSource(n, (str(tmp_path / "m.png"),)) for n in ("cup", "disc"))
    with pytest.raises(LabelError, match="overlap"):
        read_label_channels(both, (31, 31, 1), np.dtype(np.uint8), True, True)
    assert read_label_channels(both, (31, 31, 1), np.dtype(np.uint8), False, True).all(axis=0).sum() == DISC.sum()

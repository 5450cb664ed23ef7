"""Header and pixels of pictures: orientation, colour modes, TIFF flavours."""

from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageOps

from equipoise.errors import UnreadableFileError
from equipoise.formats.pictures import picture_header, read_picture, read_raw, write_png

RAMP = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20  # 3 rows, 4 columns


def test_columns_run_along_i_and_rows_along_j(tmp_path: Path) -> None:
    Image.fromarray(RAMP).save(tmp_path / "a.png")
    array = read_picture(str(tmp_path / "a.png"))
    assert array.shape == (1, 4, 3, 1)
    assert array[0, 3, 0, 0] == RAMP[0, 3]  # upper right corner


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("ending", ["png", "tiff"])
def test_exif_orientation_turns_as_pillow_does(tmp_path: Path, orientation: int, ending: str) -> None:
    file = tmp_path / f"a.{ending}"
    if ending == "png":
        exif = Image.Exif()
        exif[274] = orientation
        Image.fromarray(RAMP).save(file, exif=exif)
        with Image.open(file) as picture:
            upright = np.asarray(ImageOps.exif_transpose(picture))
    else:
        tifffile.imwrite(file, RAMP, extratags=[(274, "H", 1, orientation, True)])
        exif = Image.Exif()
        exif[274] = orientation
        Image.fromarray(RAMP).save(tmp_path / "same.png", exif=exif)
        with Image.open(tmp_path / "same.png") as picture:
            upright = np.asarray(ImageOps.exif_transpose(picture))
    np.testing.assert_array_equal(read_picture(str(file))[0, :, :, 0].T, upright)
    assert picture_header(file).shape == (1, *upright.T.shape, 1)
    np.testing.assert_array_equal(read_picture(str(file), exif=False)[0, :, :, 0].T, RAMP)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_header_foretells_shape_and_type(tmp_path: Path, mode: str) -> None:
    rng = np.random.default_rng(0)
    rgba = Image.fromarray(rng.integers(0, 255, (5, 7, 4), dtype=np.uint8))
    picture = Image.fromarray(rng.integers(0, 60000, (5, 7), dtype=np.uint16)) if mode == "I;16" else rgba.convert(mode)
    picture.save(tmp_path / "a.png")
    header, array = picture_header(tmp_path / "a.png"), read_picture(str(tmp_path / "a.png"))
    assert header.shape == array.shape
    assert header.dtype == array.dtype
    assert array.shape[0] == (3 if mode in ("P", "RGB", "RGBA") else 1)


def test_deep_colour_png_keeps_its_16_bits(tmp_path: Path) -> None:
    deep = np.random.default_rng(1).integers(0, 65535, (4, 6, 3), dtype=np.uint16)
    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(deep))
    array = read_picture(str(tmp_path / "a.png"))
    np.testing.assert_array_equal(array[..., 0].transpose(2, 1, 0), deep)
    assert picture_header(tmp_path / "a.png").dtype == np.uint16


@pytest.mark.parametrize(
    ("stored", "options", "shape"),
    [
        (RAMP, {"compression": "lzw"}, (1, 4, 3, 1)),
        (RAMP.astype(np.uint16) * 250, {}, (1, 4, 3, 1)),
        (RAMP.astype(np.float32), {"compression": "zlib"}, (1, 4, 3, 1)),
        (np.stack([RAMP] * 3, -1), {"photometric": "rgb"}, (3, 4, 3, 1)),
        (np.stack([RAMP] * 3), {"photometric": "rgb", "planarconfig": "separate"}, (3, 4, 3, 1)),
        (np.stack([RAMP, RAMP + 1]), {"photometric": "minisblack"}, (1, 4, 3, 2)),
        (RAMP > 99, {"photometric": "minisblack"}, (1, 4, 3, 1)),
    ],
)
def test_tiff_flavours(tmp_path: Path, stored: np.ndarray, options: dict, shape: tuple[int, ...]) -> None:
    tifffile.imwrite(tmp_path / "a.tif", stored, **options)
    header, array = picture_header(tmp_path / "a.tif"), read_picture(str(tmp_path / "a.tif"))
    assert header.shape == array.shape == shape
    assert header.dtype == array.dtype
    expected = stored if stored.ndim == 2 else (stored[0] if stored.shape[-1] != 3 else stored[..., 0])
    np.testing.assert_array_equal(array[0, :, :, 0].T, expected)


def test_white_is_zero_is_inverted(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", RAMP, photometric="miniswhite")
    np.testing.assert_array_equal(read_picture(str(tmp_path / "a.tif"))[0, :, :, 0].T, 255 - RAMP)


def test_palette_is_looked_up_for_images_and_kept_for_masks(tmp_path: Path) -> None:
    picture = Image.fromarray((RAMP > 99).astype(np.uint8)).convert("P")
    picture.putpalette([0, 0, 0, 200, 10, 30] + [0] * 762)
    picture.save(tmp_path / "a.png")
    assert read_picture(str(tmp_path / "a.png"))[:, 3, 2, 0].tolist() == [200, 10, 30]
    raw = read_raw(tmp_path / "a.png")
    assert np.unique(raw.values).tolist() == [0, 1]
    assert raw.palette is not None
    assert raw.palette[1].tolist() == [200, 10, 30]


@pytest.mark.parametrize("ending", ["png", "jpg", "tif", "bmp"])
@pytest.mark.parametrize("damage", ["empty", "cut", "foreign", "missing", "folder"])
def test_damage_is_one_clear_error(tmp_path: Path, ending: str, damage: str) -> None:
    file = tmp_path / f"a.{ending}"
    noise = np.random.default_rng(2).integers(0, 255, (64, 64), dtype=np.uint8)
    Image.fromarray(noise).save(file)
    content = file.read_bytes()
    if damage == "folder":
        file.unlink()
        file.mkdir()
    elif damage == "missing":
        file.unlink()
    else:
        half = content[: len(content) // 2]
        file.write_bytes({"empty": b"", "cut": half, "foreign": b"no picture at all" * 9}[damage])
    with pytest.raises(UnreadableFileError) as caught:
        read_picture(str(file))
    assert caught.value.file == str(file)
    assert caught.value.fix


def test_png_round_trip(tmp_path: Path) -> None:
    array = np.random.default_rng(3).integers(0, 255, (3, 5, 4, 1), dtype=np.uint8)
    write_png(tmp_path / "a.png", array)
    np.testing.assert_array_equal(read_picture(str(tmp_path / "a.png")), array)

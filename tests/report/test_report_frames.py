from __future__ import annotations

import base64
import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image as Pillow

from equipoise.core import Case, Geometry, Image, LabelMap, LabelScheme, Origin
from equipoise.experiment.findings import Picture
from equipoise.report.frames import Shown, common_frame, framed
from equipoise.report.pictures import HEAVIEST, view_of

ONE = LabelScheme.of(["thing"])


def pixels(shown: Picture) -> np.ndarray:
    return np.asarray(Pillow.open(io.BytesIO(base64.b64decode(shown.png))).convert("RGB"))


def disc(
    name: str,
    side: int,
    spacing: float,
    radius: float,
    *,
    synthetic: bool = False,
    dtype: type = np.uint8,
    unit: str = "mm",
) -> Shown:
    """A bright disc of a radius in mm, off centre, on a noisy ground."""
    rng = np.random.default_rng(len(name))
    i, j = (np.mgrid[:side, :side] + 0.5) * spacing
    mask = np.hypot(i - 0.6 * side * spacing, j - 0.45 * side * spacing) < radius
    values = np.where(mask, 200, 40) + rng.integers(0, 9, (side, side))
    geometry = Geometry.from_spacing((side, side, 1), (spacing, spacing, 1.0), unit)  # type: ignore[arg-type]
    origin = Origin("synthetic", "made", parents=frozenset({"p"})) if synthetic else Origin()
    labels = LabelMap.on(geometry, mask[None, ..., None].astype(np.uint8), ONE)
    case = Case(name, name, Image.on(geometry, values[None, ..., None].astype(dtype)), labels, origin)
    return Shown(case, "synthetic" if synthetic else "real", False)


def area(picture: Picture) -> float:
    """Of the outlines, in the unit squared."""
    total = 0.0
    for path in picture.outlines[0].paths:
        x, y = np.array(path).T
        total += 0.5 * float(np.sum(x * np.roll(y, -1) - y * np.roll(x, -1)))
    return abs(total) * picture.pixel**2


def test_whole_images_beside_patches_have_one_frame() -> None:
    shown = [disc("a", 300, 0.5, 6), disc("b", 210, 0.7, 6), disc("made", 64, 0.6, 6, synthetic=True)]
    real, other, made = framed(shown, seed=3)
    # The patch is 38.4 mm wide and the coarsest pixel .7 mm: 54 of them.
    frames = {(p.width, p.height, round(p.pixel, 6), p.unit) for p in (real, other, made)}
    assert frames == {(54, 54, 0.7, "mm")}
    for p in (real, other):
        assert area(p) == pytest.approx(np.pi * 36, rel=0.08)  # the disc is whole, at its true size


def test_a_crop_of_the_same_pixel_size_is_not_blurred() -> None:
    whole, patch = disc("a", 120, 1.0, 9), disc("p", 48, 1.0, 9, synthetic=True)
    seen = pixels(framed([whole, patch], 0)[0])[:, :, 0]
    screen = whole.case.image.array[0, :, :, 0].T
    places = [
        (r, c) for r in range(120 - 47) for c in range(120 - 47) if np.array_equal(screen[r : r + 48, c : c + 48], seen)
    ]
    assert len(places) == 1
    r, c = places[0]
    assert whole.case.labels.mask("thing")[:, :, 0].T[r : r + 48, c : c + 48].any()
    assert framed([whole, patch], 0)[0].window == "values as stored, 0 to 255"


def test_the_outline_lies_on_what_it_outlines() -> None:
    for p in framed([disc("a", 200, 0.5, 8), disc("made", 40, 1.0, 8, synthetic=True)], 1):
        seen = pixels(p)[:, :, 0] > 120
        assert area(p) == pytest.approx(seen.sum() * p.pixel**2, rel=0.06)


def test_pictures_are_drawn_by_name_and_seed_only() -> None:
    a, b, made = disc("a", 200, 1.0, 40), disc("b", 200, 1.0, 40), disc("m", 32, 1.0, 8, synthetic=True)
    first, again = framed([a, b, made], 5), framed([b, a, made], 5)
    assert first[0] == again[1]
    assert first[1] == again[0]
    assert first[0] != framed([a, b, made], 6)[0]


def test_a_volume_gives_the_slice_with_most_truth_and_says_which() -> None:
    geometry = Geometry.from_spacing((40, 50, 12), (1.0, 1.0, 3.0))
    mask = np.zeros((40, 50, 12), bool)
    mask[10:20, 20:34, 7], mask[12:14, 22:24, 2] = True, True
    values = np.random.default_rng(0).random((1, 40, 50, 12)).astype(np.float32) + mask
    labels = LabelMap.on(geometry, mask[None].astype(np.uint8), ONE)
    volume = Shown(Case("v", "v", Image.on(geometry, values), labels), "real", False)
    patch = geometry.from_spacing((24, 24, 6), (1.0, 1.0, 3.0))
    small = LabelMap.on(patch, mask[None, 5:29, 15:39, 3:9].astype(np.uint8), ONE)
    origin = Origin("synthetic", "made", parents=frozenset({"p"}))
    made = Shown(Case("m", "m", Image.on(patch, values[:, 5:29, 15:39, 3:9]), small, origin), "synthetic", False)
    whole, part = framed([volume, made], 0)
    assert (whole.width, whole.height) == (part.width, part.height) == (24, 24)
    assert (whole.case, part.case) == ("v, slice 8", "m, slice 5")
    assert all(p.window.startswith("percentiles") for p in (whole, part))


@pytest.mark.parametrize(
    ("real", "made", "modality", "words"),
    [
        (np.uint8, np.uint8, None, {"values as stored, 0 to 255"}),
        (np.uint8, np.float32, None, {"window 0 to 255"}),
        (np.float32, np.float32, "CT", {"window −1350 to 150 HU"}),
    ],
)
def test_real_and_synthetic_share_their_window(real: type, made: type, modality: str | None, words: set[str]) -> None:
    shown = [disc("a", 64, 1.0, 9, dtype=real), disc("m", 32, 1.0, 9, synthetic=True, dtype=made)]
    if modality:
        first = shown[0].case
        air = replace(first, modality=modality, image=Image.on(first.image.geometry, first.image.array - 900))
        shown = [replace(shown[0], case=air), replace(shown[1], case=replace(shown[1].case, modality=modality))]
    assert {p.window for p in framed(shown, 0)} == words


def test_one_heavy_picture_makes_all_smaller() -> None:
    rng = np.random.default_rng(0)
    geometry = Geometry.from_spacing((300, 300, 1), (1.0, 1.0, 1.0))
    labels = LabelMap.on(geometry, np.ones((1, 300, 300, 1), np.uint8), ONE)
    noise = rng.integers(0, 256, (1, 300, 300, 1), dtype=np.uint8)
    heavy, light = (
        Shown(Case(name, name, Image.on(geometry, voxels), labels), "real", False)
        for name, voxels in (("heavy", noise), ("light", np.zeros_like(noise)))
    )
    a, b = framed([heavy, light], 0)
    assert (a.width, a.height, a.pixel) == (b.width, b.height, b.pixel)
    assert a.width < 300
    assert len(base64.b64decode(a.png)) <= HEAVIEST


def test_images_without_a_common_unit_keep_their_pixels() -> None:
    shown = [disc("a", 100, 0.5, 9), disc("m", 48, 1.0, 9, synthetic=True, unit="px")]
    a, m = framed(shown, 0)
    assert (a.width, a.height, a.unit, a.pixel) == (48, 48, "mm", 0.5)
    assert (m.width, m.height, m.unit, m.pixel) == (48, 48, "px", 1.0)


def test_an_image_without_structure_is_cut_in_its_middle_and_nothing_gives_nothing() -> None:
    bare = disc("bare", 90, 1.0, 0.0)
    marked = bare.case.image.array.copy()
    marked[0, 45, 45, 0] = 255
    bare = replace(bare, case=replace(bare.case, image=Image.on(bare.case.image.geometry, marked)))
    seen = pixels(framed([bare, disc("m", 30, 1.0, 5, synthetic=True)], 0)[0])[:, :, 0]
    assert seen[15, 15] == 255
    assert framed([], 0) == []


def test_the_frame_holds_the_narrowest_image_along_each_side() -> None:
    wide, tall = (Geometry.from_spacing(shape, (1.0, 1.0, 1.0)) for shape in ((80, 30, 1), (20, 60, 1)))
    frame = common_frame([wide, tall], [view_of(wide), view_of(tall)])
    assert (frame.shape, frame.pixel) == ((30, 20), 1.0)

"""Sites whose pictures are turned: what is found, and how often nothing is found where nothing is."""

from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from equipoise.formats.check import check_sets
from equipoise.formats.detection import detect
from equipoise.formats.orientation import thumbnails, turned, turned_against
from picture_set import PictureSet

SIDE = 64
ShownBy = list[list[dict[str, np.ndarray]]]


def slice_through(rng: np.random.Generator, height: float, bare: bool = False) -> tuple[np.ndarray, np.ndarray | None]:
    """A body, the same upside down, at a given height of the picture; two organs in it that are not."""
    x, y = np.mgrid[:SIDE, :SIDE] / SIDE - 0.5
    x, y = x + rng.normal(0, 0.01), y - height + rng.normal(0, 0.01)
    body = (x / 0.42) ** 2 + (y / 0.3) ** 2 < 1
    organ = ((x - 0.1) / 0.1) ** 2 + ((y + 0.08) / 0.1) ** 2 < 1
    other = ((x + 0.15) / 0.06) ** 2 + ((y - 0.1) / 0.08) ** 2 < 1
    image = 100.0 * body + 25 * organ + 15 * other + 12 * rng.standard_normal((SIDE, SIDE))
    return image[None, :, :, None], None if bare else np.asarray((organ | other)[None, :, :, None])


def site(
    rng: np.random.Generator, patients: int, height: float, turn: int = 0, pictures: int = 1, bare: bool = False
) -> ShownBy:
    def one() -> dict[str, np.ndarray]:
        image, masks = slice_through(rng, height, bare)
        image = turned(image[0, :, :, 0])[turn][None, :, :, None]
        masks = None if masks is None else turned(masks[0, :, :, 0])[turn][None, :, :, None]
        return thumbnails(image, masks)

    return [[one() for _ in range(pictures)] for _ in range(patients)]


@pytest.mark.parametrize("turn", [0, 1, 2, 3])
def test_a_turned_site_is_found_wherever_the_patient_lies(turn: int) -> None:
    # The outline is symmetric and one site has it higher: the plain pictures fit better wherever the outlines meet.
    rng = np.random.default_rng(turn)
    found = turned_against(site(rng, 9, 0.12, turn), site(rng, 10, -0.08))
    assert found == (turn or None)


def test_a_site_without_truth_is_compared_at_the_best_place() -> None:
    rng = np.random.default_rng(0)
    upright = site(rng, 30, -1 / 16, bare=True)
    # As they stand, the outlines of those who lie lower meet best upside down.
    for lower in (0.02, 0.04, 0.06, 0.08):
        assert turned_against(site(rng, 30, lower, bare=True), upright) is None
    assert turned_against(site(rng, 30, 0.0, 2, bare=True), upright) == 2


def test_patients_are_the_unit() -> None:
    rng = np.random.default_rng(1)
    many = site(rng, 2, 0.0, 2, pictures=20)
    assert turned_against(many, site(rng, 10, 0.0)) is None
    assert turned_against([[shown] for patient in many for shown in patient], site(rng, 10, 0.0)) == 2


def test_pictures_without_an_orientation_are_rarely_called_turned() -> None:
    rng = np.random.default_rng(2)

    def tissue() -> ShownBy:
        images = ndimage.gaussian_filter(rng.standard_normal((8, SIDE, SIDE)), (0, 5, 5))
        return [[thumbnails(image[None, :, :, None], image[None, :, :, None] > 0.1)] for image in images]

    flagged = sum(turned_against(tissue(), tissue()) is not None for _ in range(60))
    # At most 1 % by the tests' construction: 3 or more of 60 would happen in 2 of 100 such runs.
    assert flagged <= 2


def test_a_picture_without_contrast_prefers_nothing() -> None:
    even = [[thumbnails(np.full((1, SIDE, SIDE, 1), 7.0), np.ones((1, SIDE, SIDE, 1), bool))]] * 8
    assert turned_against(even, even) is None


def test_a_folder_with_a_turned_site_is_named(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    made = PictureSet(tmp_path)
    for n in range(18):
        image, masks = slice_through(rng, 0.1 if n < 8 else -0.1)
        assert masks is not None
        picture = np.clip(image[0, :, :, 0].T + 40, 0, 255).astype(np.uint8)
        mask = (255 * masks[0, :, :, 0].T).astype(np.uint8)
        if n < 8:
            picture, mask = picture[::-1].copy(), mask[::-1].copy()
        made.add(f"c{n}", f"p{n}", picture, mask, "north" if n < 8 else "south")
    made.rows = [{"site_inferred" if key == "site" else key: value for key, value in row.items()} for row in made.rows]
    made.write()
    (found,) = check_sets({"": detect(tmp_path)}, "equipoise check set").findings
    assert found.code == "turned-images"
    # The smaller site is named as the turned one; who is right, nobody can tell from the pictures.
    assert "'north' look like the 10 of 'south' turned upside down" in found.what

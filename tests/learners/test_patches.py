from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import numpy as np
import pytest

from equipoise.core import Draw, Image, LabelMap, rng_for
from equipoise.errors import TrainingError
from equipoise.learners.normalise import Normaliser
from equipoise.learners.patches import Prepared, PreparedCases, batch_of, cut, place, prepare
from equipoise.testing.disc_cases import SCHEME, disc_case


def numbered(shape: tuple[int, int, int]) -> Prepared:
    """A case whose every voxel holds its own flat index."""
    image = np.arange(np.prod(shape), dtype=np.float32).reshape(1, *shape)
    labels = np.zeros((1, *shape), np.uint8)
    labels[0, -1, -1, -1] = 1
    return Prepared(image, labels, None, (np.array([image.size - 1]),))


def test_a_patch_is_the_voxels_at_its_place() -> None:
    case = numbered((12, 10, 6))
    image, labels = cut(case, (3, 2, 1), (4, 4, 2))
    np.testing.assert_array_equal(image, case.image[:, 3:7, 2:6, 1:3])
    assert labels.shape == (1, 4, 4, 2)


def test_what_lies_outside_is_reflected_and_does_not_count() -> None:
    image, labels = cut(numbered((3, 8, 1)), (-2, 0, 0), (8, 8, 1))
    assert labels.shape == (2, 8, 8, 1)
    np.testing.assert_array_equal(labels[1, :, 0, 0], [1, 1, 0, 0, 0, 1, 1, 1])
    np.testing.assert_array_equal(image[0, :, 0, 0] // 8, [2, 1, 0, 1, 2, 1, 0, 1])


@pytest.mark.parametrize("foreground", [0.0, 0.3, 1.0])
def test_the_share_of_foreground_patches_is_the_one_asked_for(foreground: float) -> None:
    case, rng = numbered((200, 200, 1)), rng_for(0, "place")
    hits = 0
    for _ in range(1000):
        at = place(case, (8, 8, 1), foreground, rng)
        assert all(0 <= a <= 192 for a in at[:2])
        hits += int(cut(case, at, (8, 8, 1))[1].any())
    # One labelled voxel in the corner: a patch placed anywhere holds it once in 193^2. Five standard errors.
    assert abs(hits / 1000 - foreground) <= 5 * np.sqrt(foreground * (1 - foreground) / 1000) + 0.001


def test_foreground_is_not_always_in_the_centre() -> None:
    labels = np.zeros((1, 100, 100, 1), np.uint8)
    labels[0, 50, 50, 0] = 1
    case = Prepared(np.zeros((1, 100, 100, 1), np.float32), labels, None, (np.flatnonzero(labels[0]),))
    rng = rng_for(0, "place")
    found = {tuple(50 - np.array(place(case, (16, 16, 1), 1.0, rng)[:2])) for _ in range(400)}
    assert len(found) > 150
    assert all(0 <= v < 16 for at in found for v in at)


def test_ignored_foreground_attracts_no_patch() -> None:
    case = disc_case(0)
    ignore = np.ones((1, *case.image.geometry.shape), bool)
    hidden = LabelMap.on(case.image.geometry, case.labels.array, SCHEME, ignore)
    assert prepare(dataclasses.replace(case, truth=hidden), Normaliser()).seeds == ()
    assert len(prepare(case, Normaliser()).seeds) == 2


def cases_of(budget: int = 1 << 20) -> PreparedCases:
    return PreparedCases(Normaliser(), SCHEME, channels=1, ndim=2, budget=budget)


def test_a_case_is_prepared_once_within_the_budget() -> None:
    one, two = disc_case(0), disc_case(1)
    cases = cases_of(budget=prepare(one, Normaliser()).nbytes)
    assert cases.get(one) is cases.get(one)
    assert cases.get(two) is not cases.get(two)
    fresh = cases_of()
    assert fresh.get(one, keep=False) is not fresh.get(one, keep=False)


def test_a_lazy_image_is_read_once() -> None:
    reads: list[int] = []

    class Waiting:
        shape, dtype = (1, 40, 36, 1), np.dtype("f4")

        def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
            reads.append(1)
            return np.asarray(disc_case(0).image.array, dtype)

    case = dataclasses.replace(disc_case(0), image=Image(Waiting(), unit="px"))
    draws = itertools.repeat(Draw(case, 1.0))
    batch_of(draws, 6, cases_of(), (16, 16, 1), 0.5, rng_for(0, "b"))
    assert len(reads) == 1


def test_an_augmentation_in_place_does_not_reach_the_remembered_case() -> None:
    def spoil(image: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        image[:] = 7
        labels[:] = 0
        return image, labels

    cases, case = cases_of(), disc_case(0)
    before = cases.get(case).image.copy()
    batch, drawn = batch_of(itertools.repeat(Draw(case, 0.25)), 3, cases, (40, 36, 1), 0.5, rng_for(0, "b"), spoil)
    np.testing.assert_array_equal(cases.get(case).image, before)
    assert (batch.images == 7).all()
    assert len(drawn) == 3
    np.testing.assert_array_equal(batch.weights, np.float32([0.25] * 3))


def test_padding_moves_through_the_augmentation_with_the_labels() -> None:
    def turn(image: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        return np.flip(image, 1), np.flip(labels, 1)

    case = disc_case(0)
    batches = [
        batch_of(iter([Draw(case, 1.0)]), 1, cases_of(), (47, 36, 1), 0.5, rng_for(0, "b"), how)[0]
        for how in (None, turn)
    ]
    plain, turned = (batch.counted[0, 0, :, 0, 0] for batch in batches)
    np.testing.assert_array_equal(plain[::-1], turned)
    assert plain.sum() == 40
    assert plain.tolist() != turned.tolist()  # 7 missing lines: 4 on one side and 3 on the other


@pytest.mark.parametrize(
    "how",
    [lambda x, y, rng: (x[:, :-1], y), lambda x, y, rng: (x, y[:1]), lambda x, y, rng: (x * np.nan, y)],
    ids=["image shape", "labels shape", "NaN"],
)
def test_an_augmentation_that_breaks_a_patch_is_named(how: Any) -> None:
    with pytest.raises(TrainingError, match="augmentation"):
        batch_of(iter([Draw(disc_case(0), 1.0)]), 1, cases_of(), (16, 16, 1), 0.5, rng_for(0, "b"), how)

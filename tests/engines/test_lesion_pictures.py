"""A lesion changes the picture where it lies, and nowhere else: what the base knows beside its labels is handed on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import ndimage
from test_simulate_histology import histology_cases

from equipoise.core import LabelMap, LabelScheme, rng_for
from equipoise.core.registry import make
from equipoise.engines.anatomy.lesion import Lesion
from equipoise.engines.anatomy.lesion.mass_effect import displaced
from equipoise.engines.imaging.simulate_fundus import SimulateFundus
from equipoise.engines.imaging.simulate_histology import SimulateHistology
from equipoise.engines.parts.drawn_over import DrawnOver, divided, imaged_over
from equipoise.engines.parts.placement import Displaced, Placement, Push
from equipoise.engines.parts.retina import Eye
from equipoise.engines.parts.tissue_scene import SceneVoxels

TISSUE: dict[str, Any] = {"kind": "tissue", "size": [128, 120, 1], "um_per_px": 0.5, "architecture": "glandular"}
SPOT: dict[str, Any] = {"kind": "lesion", "finding": "nodule", "diameter_mm": [0.012, 0.02], "count": [1, 1]}
EYE: dict[str, Any] = {"kind": "eye-fundus", "size": [192, 192]}
EXUDATE: dict[str, Any] = {"kind": "lesion", "base": EYE, "finding": "exudate", "diameter_mm": [0.4, 0.6]}
H_AND_E: dict[str, Any] = {"folds": 0.0, "stains": {"necrosis": [0.1, 0.7]}, "jpeg": (100, 100)}


def with_and_without(engine: Any, lesion: dict[str, Any], seed: int = 0) -> tuple[Any, Any, np.ndarray]:
    """Render a base and the same with a lesion from one stream; return both and how far each pixel is from it."""
    anatomy: Lesion = make("anatomies", lesion)
    if engine.parents:
        anatomy = anatomy.fit(histology_cases(2), rng_for(0, "anatomy"))
    marked, placement = next(anatomy.draw_placed(1, rng_for(seed, "draw")))
    (shapes,) = rng_for(seed, "draw").spawn(1)
    base = anatomy._anatomy
    plain = next(base.draw_placed(1, shapes)) if hasattr(base, "draw_placed") else (next(base.draw(1, shapes)), None)
    pictures = [
        engine.render(*drawn, rng_for(seed, "render")).image.array[..., 0].astype(int)
        for drawn in (plain, (marked, placement))
    ]
    new = marked.mask(anatomy.label or anatomy.finding)[..., 0]
    return pictures[0], pictures[1], ndimage.distance_transform_edt(~new)


LABELS = {
    "what no base has": {"label": "necrosis"},
    "a compartment": {"label": "stroma", "keep": True},
    "glass": {"label": "lumen", "keep": True, "where": "in stroma"},
    "a rim": {"label": "necrosis", "rim": "stroma", "rim_mm": [0.001, 0.002], "keep": True},
    "two": {"label": "necrosis", "count": [2, 2]},
}


@pytest.mark.parametrize("given", LABELS.values(), ids=LABELS)
def test_tissue_around_a_lesion_is_that_without(given: dict[str, Any]) -> None:
    plain, marked, away = with_and_without(SimulateHistology(**H_AND_E), {**SPOT, "base": TISSUE, **given})
    changed = np.abs(plain - marked).max(axis=0)
    assert changed[away == 0].mean() > 10, "the lesion does not show"
    # Half a µm of optics, and the rim.
    assert changed[away > (8 if "rim" in given else 4)].max() == 0


def test_a_lesion_among_nuclei_alone_leaves_the_glands_where_they_are() -> None:
    """The scheme names nuclei only: without the scene, the engine would guess compartments anew."""
    base = {**TISSUE, "labels": ["nucleus"]}
    lesion = {**SPOT, "base": base, "label": "necrosis", "inside": ["unlabelled"]}
    plain, marked, away = with_and_without(SimulateHistology(**H_AND_E), lesion)
    assert np.abs(plain - marked)[:, away > 4].max() == 0


def test_pushed_tissue_is_moved_not_drawn_anew() -> None:
    lesion = {**SPOT, "base": TISSUE, "label": "necrosis", "mass_effect": [0.9, 0.9], "within": ["anything"]}
    plain, marked, away = with_and_without(SimulateHistology(**H_AND_E), lesion)
    changed = np.abs(plain - marked).max(axis=0)
    radius = np.sqrt((away == 0).sum() / np.pi)
    near = (away > 4) & (away < 0.8 * radius)
    assert changed[near].mean() > 3, "nothing was pushed aside"
    assert changed[away > 3 * radius].max() == 0, "the push fades within three radii"
    labels = next(make("anatomies", lesion).draw(1, rng_for(0, "draw")))
    assert isinstance(labels.voxels, DrawnOver)
    assert isinstance(labels.voxels.under.voxels, SceneVoxels)
    # Nuclei stay dark where their labels moved to.
    grey, nuclei = marked.mean(axis=0), labels.mask("epithelial nucleus")[..., 0]
    tissue = labels.mask("epithelium")[..., 0]
    assert grey[nuclei & near].mean() < grey[tissue & near].mean() - 10


def test_lesions_upon_lesions_keep_the_tissue() -> None:
    first = {**SPOT, "base": TISSUE, "label": "necrosis"}
    engine = SimulateHistology(**{**H_AND_E, "stains": {"necrosis": [0.1, 0.7], "keratin": [0.0, 1.2]}})
    plain, marked, away = with_and_without(engine, {**SPOT, "base": first, "label": "keratin", "inside": ["stroma"]})
    changed = np.abs(plain - marked).max(axis=0)
    assert changed[away == 0].mean() > 10
    assert changed[away > 4].max() == 0


@pytest.fixture(scope="module")
def fitted() -> SimulateHistology:
    anatomy = {**TISSUE, "size": [96, 100, 1]}
    return SimulateHistology(um_per_px=0.5, anatomy=anatomy, **H_AND_E).fit(histology_cases(2), rng_for(0, "fit"))


@pytest.mark.parametrize("base", [TISSUE, "real", {"kind": "warped", "degrees": 4.0}], ids=str)
def test_a_fitted_engine_shows_training_tissue_around_a_lesion(fitted: SimulateHistology, base: Any) -> None:
    # Label maps of these cases state no size: 0.5 µm.
    lesion = {**SPOT, "base": base, "label": "necrosis", "inside": ["unlabelled"], "px_mm": 0.0005}
    plain, marked, away = with_and_without(fitted, lesion)
    changed = np.abs(plain - marked).max(axis=0)
    assert changed[away == 0].mean() > 10
    assert np.quantile(changed[away > 6], 0.99) == 0
    assert changed[away > 6].mean() < 0.2, "only sub-labels that the lesion hid may have moved"


@pytest.mark.parametrize("push", [[0.0, 0.0], [0.8, 0.8]], ids=["replaced", "pushed"])
def test_a_fundus_around_an_exudate_is_that_without(push: list[float]) -> None:
    engine = SimulateFundus(tissues={"exudate": (1.2, 1.6, 1.3)}, quality=(101, 101))
    lesion = {**EXUDATE, "count": [1, 1], "mass_effect": push, "within": ["anything"]}
    plain, marked, away = with_and_without(engine, lesion)
    changed = np.abs(plain - marked).max(axis=0)
    radius = np.sqrt((away == 0).sum() / np.pi)
    assert changed[away == 0].mean() > 3, "the exudate does not show"
    # Stray light and the exposure go by the whole picture.
    assert changed[away > (4 * radius + 5 if push[0] else 6)].max() <= 2


def test_an_eye_moves_with_its_labels() -> None:
    lesion: Lesion = make("anatomies", {**EXUDATE, "mass_effect": [0.9, 0.9], "within": ["anything"]})
    moved = 0
    for labels, eye in lesion.draw_placed(3, rng_for(4)):
        assert isinstance(eye, Eye)
        blood = (eye.lumen_um > 0).any(axis=0)
        vessels = (labels.mask("artery") | labels.mask("vein"))[..., 0]
        free = ~labels.mask("exudate")[..., 0]
        assert (vessels & free & ~blood).sum() <= 0.01 * vessels.sum()
        i, j = (round(x) for x in eye.landmarks.fovea)
        assert labels.mask("fovea")[i, j, 0] or labels.mask("exudate")[i, j, 0]
        moved += not eye.exact
    assert moved < 3, "an exudate far from the disc does not move it"


def test_a_push_on_the_fovea_and_the_disc_is_followed() -> None:
    (_, eye) = next(make("anatomies", EYE).draw_placed(1, rng_for(0)))
    columns, rows, _ = eye.shape
    i, j = np.indices((columns, rows))
    five_right = np.ravel_multi_index((np.maximum(i - 5, 0), j), (columns, rows))
    push = Push((slice(0, columns), slice(0, rows), slice(0, 1)), five_right.ravel())
    after = displaced(eye, (push,))
    assert isinstance(after, Eye)
    assert after.landmarks.fovea == pytest.approx((eye.landmarks.fovea[0] + 5, eye.landmarks.fovea[1]), abs=1)
    assert not after.exact
    np.testing.assert_array_equal(after.lumen_um[:, 5:], eye.lumen_um[:, :-5])
    assert displaced(eye, ()) is eye


def test_a_displaced_placement_still_says_how_the_case_was_laid() -> None:
    first = Placement("a", (4, 4, 1), np.diag([2.0, 2.0, 1.0]), np.array([1.0, 0.0, 0.0]))
    push = Push((slice(0, 2), slice(0, 1), slice(0, 1)), np.array([1, 1]))
    for after in (first.displaced((push,)), first.displaced((push,)).displaced((push,))):
        assert isinstance(after, Displaced)
        assert after.source == "a"
        np.testing.assert_array_equal(after.matrix, first.matrix)
        np.testing.assert_array_equal(after.offset, first.offset)
        values = np.arange(100).reshape(1, 10, 10, 1)
        wanted = first.carry(values)
        wanted[0, 0, 0, 0] = wanted[0, 1, 0, 0]
        np.testing.assert_array_equal(after.carry(values), wanted)
    assert first.displaced(()) is first


def test_pieces_are_imaged_anew_and_nothing_else() -> None:
    array = np.zeros((2, 9, 8, 1), np.uint8)
    array[0, 4:6, 3:5] = 1
    labels = LabelMap(array, LabelScheme.of(["a", "b"]))
    seen: list[LabelMap] = []

    def paint(piece: LabelMap) -> np.ndarray:
        seen.append(piece)
        return np.full((1, *piece.geometry.shape), 7.0)

    out = imaged_over(np.zeros((1, 9, 8, 1)), labels, labels.mask("a"), paint, 2)
    np.testing.assert_array_equal(out[0] == 7, labels.mask("a"))
    assert seen[0].geometry.shape == (6, 6, 1)
    np.testing.assert_array_equal(seen[0].affine[:3, 3], (2, 1, 0))
    assert imaged_over(out, labels, labels.mask("b"), paint, 2) is not out
    assert len(seen) == 1, "nothing is painted where nothing is new"
    known, others = divided(labels, ["b"])
    assert known.scheme.names == ("b",)
    np.testing.assert_array_equal(others, labels.mask("a"))

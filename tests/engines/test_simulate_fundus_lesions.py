from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from equipoise.core import Case, Geometry, LabelMap, LabelScheme, rng_for
from equipoise.core.registry import make
from equipoise.engines.imaging.simulate_fundus import SimulateFundus, optics
from equipoise.engines.imaging.simulate_fundus.layers import PATHS_UM
from equipoise.engines.imaging.simulate_fundus.lesions import BODIES, Body, exudate_spectra, spectra_of, thickness_of
from equipoise.engines.parts.placement import Placement
from equipoise.engines.parts.retina import LESIONS, Eye

EYE: dict[str, Any] = {"kind": "eye-fundus", "size": [200, 180], "um_per_px": 20.0, "twigs": [40, 60]}
CALM: dict[str, Any] = {"noise": 0.05, "quality": (101, 101), "haze": (0.0, 0.0), "unevenness": (0.0, 0.0)}
FINDINGS: dict[str, tuple[dict[str, Any], int]] = {
    "exudate": ({"count": [6, 10], "diameter_mm": [0.15, 0.4]}, 1),
    "haemorrhage": ({"diameter_mm": [0.2, 0.6], "count": [2, 3], "inside": ["unlabelled"], "mass_effect": [0, 0]}, -1),
    "microaneurysm": ({"diameter_mm": [0.06, 0.12], "count": [8, 12]}, -1),
}
"""What is asked for of each finding, and whether it is brighter or darker than the fundus in green light."""


def lesion(finding: str, **changes: Any) -> dict[str, Any]:
    return {"kind": "lesion", "base": EYE, "finding": finding, **FINDINGS[finding][0], **changes}


def drawn(spec: dict[str, Any], seed: int = 0) -> tuple[LabelMap, Placement | None]:
    labels, placement = next(make("anatomies", spec).draw_placed(1, rng_for(seed, "lesions")))
    return labels, placement


def linear(engine: SimulateFundus, labels: LabelMap, placement: Placement | None) -> np.ndarray:
    picture = engine.render(labels, placement, rng_for(3, "render")).image.array[..., 0]
    return np.asarray((picture / 255.0) ** 2.2)


def contrast(light: np.ndarray, where: np.ndarray, vessels: np.ndarray) -> np.ndarray:
    """Return the logarithm of each colour on lesions over what surrounds them."""
    free = ~ndimage.binary_dilation(vessels, iterations=1)
    near = ndimage.binary_dilation(where, iterations=6) & ~ndimage.binary_dilation(where, iterations=3)
    return np.asarray(np.log(light[:, where & free].mean(axis=1) / light[:, near & free].mean(axis=1)))


# ---------------------------------------------------------------- what is seen


@pytest.mark.parametrize("finding", LESIONS)
@pytest.mark.parametrize("seed", [0, 1])
def test_a_finding_shows_as_it_does_in_eyes(finding: str, seed: int) -> None:
    labels, eye = drawn(lesion(finding), seed)
    before = labels.array.copy()
    shown = linear(SimulateFundus(**CALM), labels, eye)
    np.testing.assert_array_equal(labels.array, before)
    where = labels.mask(finding)[..., 0]
    vessels = labels.mask("artery")[..., 0] | labels.mask("vein")[..., 0]
    sign = FINDINGS[finding][1]
    green = contrast(shown, where, vessels)[1]
    assert sign * green > 0.15
    healthy = linear(SimulateFundus(**CALM, tissues={finding: (1.0, 1.0, 1.0)}), labels, eye)
    change = np.log((shown[1] + 1e-3) / (healthy[1] + 1e-3))
    assert sign * change[where & ~vessels].mean() > 0.15
    away = (ndimage.distance_transform_edt(~where) > 8) & (healthy[1] > 0.01)
    assert change[away].std() < 0.05  # but for exposure, which follows what the camera sees


def test_exudates_are_yellow_and_blood_is_red() -> None:
    colours = {}
    for finding in ("exudate", "haemorrhage"):
        labels, eye = drawn(lesion(finding))
        vessels = labels.mask("artery")[..., 0] | labels.mask("vein")[..., 0]
        light = linear(SimulateFundus(**CALM, scanner="non-mydriatic, three chips"), labels, eye)
        colours[finding] = contrast(light, labels.mask(finding)[..., 0], vessels)
    assert colours["exudate"][1] > colours["exudate"][0]  # green gains over red: less red than the fundus
    assert colours["haemorrhage"][0] > colours["haemorrhage"][1]  # red is lost least


@pytest.mark.parametrize("finding", LESIONS)
def test_sample_takes_lesions_as_its_anatomy(finding: str) -> None:
    engine = SimulateFundus(anatomy=lesion(finding, diameter_mm=[0.12, 0.4]))
    (case,) = engine.sample(1, rng_for(0, "sample"))
    assert finding in case.labels.scheme.names
    assert case.labels.mask(finding).any()
    assert case.origin.parents == frozenset()
    (again,) = engine.sample(1, rng_for(0, "sample"))
    np.testing.assert_array_equal(case.image.array, again.image.array)


def disc_on_vessel(finding: str, overlapping: bool) -> LabelMap:
    """A vein along I, 160 µm wide, and a round lesion on it; the vein's label goes on under it, or ends at it."""
    grid = Geometry.from_spacing((200, 200, 1), (0.02, 0.02, 0.02))
    i, j = np.mgrid[:200, :200]
    spot = np.hypot(i - 60, j - 120) < 9
    vein = (np.abs(j - 120) < 4.5) & (overlapping | ~spot)
    return LabelMap.on(
        grid, np.stack([vein, spot]).astype(np.uint8)[..., None], LabelScheme.of(["vein", finding], exclusive=False)
    )


@pytest.mark.parametrize(("finding", "hidden"), [("exudate", True), ("haemorrhage", False), ("microaneurysm", False)])
def test_the_label_map_says_whether_an_exudate_hides_a_vessel(finding: str, hidden: bool) -> None:
    engine = SimulateFundus(**CALM, defocus_um=(0.0, 0.0))
    over, end = (linear(engine, disc_on_vessel(finding, o), None)[1] for o in (True, False))
    core = np.s_[57:64, 119:122]
    beside = np.s_[57:64, 126:128]
    assert over[core].mean() < 0.8 * over[beside].mean()  # the vein is in front
    if hidden:
        assert end[core].mean() > 1.2 * over[core].mean()
        assert end[core].mean() > 0.9 * end[beside].mean()
    else:
        assert end[core].mean() < 0.95 * end[beside].mean()


def test_an_ill_defined_margin_has_a_softer_edge() -> None:
    width = []
    for margin in (0.0, 1.0):
        found = []
        for seed in range(4):
            spec = lesion(
                "haemorrhage", count=[1, 1], diameter_mm=[0.6, 0.6], margin=[margin, margin], lobulation=[0, 0],
                sphericity=[1.0, 1.0], inside=["unlabelled", "fovea"],
            )  # fmt: skip
            labels, eye = drawn(spec, seed)
            where = labels.mask("haemorrhage")[..., 0]
            depth = thickness_of(where, BODIES["haemorrhage"], 20.0, rng_for(0, "t"))
            i, j = np.nonzero(where)
            far = np.hypot(*np.ogrid[-i.mean() : 200 - i.mean(), -j.mean() : 180 - j.mean()])
            profile = np.array([depth[(far >= r) & (far < r + 1)].mean() for r in range(26)]) / depth[where].mean()
            found.append(((profile > 0.15) & (profile < 0.85)).sum())
            assert isinstance(eye, Eye)
        width.append(np.mean(found))
    assert width[1] > width[0] + 0.5


def test_mass_effect_leaves_the_eye_where_it_is() -> None:
    spec = lesion("haemorrhage", count=[1, 1], diameter_mm=[0.7, 0.9], mass_effect=[0.8, 0.8], within=["anything"])
    labels, placement = drawn(spec)
    _, first = drawn({**spec, "mass_effect": [0.0, 0.0]})
    assert isinstance(placement, Eye)
    assert isinstance(first, Eye)
    assert (placement.landmarks.disc, placement.landmarks.right) == (first.landmarks.disc, first.landmarks.right)
    assert not np.array_equal(placement.lumen_um, first.lumen_um), "blood is pushed with the labels"
    light = linear(SimulateFundus(**CALM), labels, placement)[1]
    lesions = labels.mask("haemorrhage")[..., 0]
    near = (ndimage.distance_transform_edt(~lesions) < 30) & ~ndimage.binary_dilation(lesions, iterations=3)
    vessels = (labels.mask("artery") | labels.mask("vein"))[..., 0]
    beside = ndimage.binary_dilation(vessels, iterations=4) & ~ndimage.binary_dilation(vessels, iterations=2)
    assert light[vessels & near].mean() < 0.92 * light[beside & near].mean()


def test_stated_factors_hold_instead_of_physics() -> None:
    labels, eye = drawn(lesion("exudate"))
    where = ndimage.binary_erosion(labels.mask("exudate")[..., 0])
    dark = linear(SimulateFundus(**CALM, tissues={"exudate": (0.5, 0.5, 0.5)}), labels, eye)
    bright = linear(SimulateFundus(**CALM), labels, eye)
    assert dark[1, where].mean() < 0.6 * bright[1, where].mean()


@pytest.mark.parametrize("finding", LESIONS)
def test_lesions_show_in_the_light_of_training_photographs(finding: str) -> None:
    engine = SimulateFundus(anatomy={**EYE, "structures": ["vessel"], "unit": "px"})
    made = engine.sample(2, rng_for(0, "photographs"))
    photographs = [Case(f"c{i}", f"real-{i}", c.image, c.labels, modality="fundus") for i, c in enumerate(made)]
    given = lesion(finding, base={"kind": "real"}, px_mm=0.02, inside=["unlabelled"])
    fitted = SimulateFundus(anatomy=given, um_per_px=20.0).fit(photographs, rng_for(0, "fit"))
    (case,) = fitted.sample(1, rng_for(0, "made"))
    assert case.origin.parents == {"real-0", "real-1"}
    assert case.attributes["tissue"] == "simulated"
    light = np.asarray((case.image.array[..., 0] / 255.0) ** 2.2)
    found = contrast(
        light, case.labels.mask(finding)[..., 0] & ~case.labels.ignored()[..., 0], case.labels.mask("vessel")[..., 0]
    )
    assert FINDINGS[finding][1] * found[1] > 0.03


# ---------------------------------------------------------------- physics


@pytest.mark.parametrize("radius", [0.5, 2.0, 12.0, 40.0])
def test_a_sphere_holds_its_volume_on_any_number_of_pixels(radius: float) -> None:
    far = np.hypot(*np.mgrid[-50:51, -50:51])
    mask = far <= radius
    thick = thickness_of(mask, Body(1.0, 1e9, 0.0, 0.0), 10.0, rng_for(0, "sphere"))
    equal = 10 * np.sqrt(mask.sum() / np.pi)
    assert 100 * thick.sum() == pytest.approx(4 / 3 * np.pi * equal**3, rel=0.02)
    flat = thickness_of(mask, Body(1.0, 60.0, 0.0, 0.0), 10.0, rng_for(0, "sphere"))
    assert 100 * flat.sum() <= 2 / 3 * 60 * 100 * mask.sum() * 1.001


def test_no_lesion_has_no_thickness() -> None:
    assert not thickness_of(np.zeros((9, 9), bool), BODIES["exudate"], 10.0, rng_for(0, "t")).any()


def test_lipid_reflects_more_the_thicker_it_is_and_blue_least() -> None:
    through, back = exudate_spectra()
    wave = optics.WAVELENGTHS_NM
    np.testing.assert_allclose(through[0], 1, atol=1e-4)
    np.testing.assert_allclose(back[0], 0, atol=1e-4)
    assert (np.diff(back, axis=0) > 0).all()
    assert (np.diff(through, axis=0) < 0).all()
    assert (np.sqrt(through) + back <= 1 + 1e-6).all()  # once through and back: nothing is made of nothing
    thick = np.searchsorted(PATHS_UM, 90.0)
    assert back[thick, wave == 460] < 0.9 * back[thick, wave == 540]
    # A thin layer sends back S d: three quarters of the reduced scattering, 16.3 per cm at 550 nm.
    thin = (back[1] / PATHS_UM[1])[wave == 600]
    assert 1e4 * thin[0] == pytest.approx(0.75 * 18.4 * (600 / 500) ** -0.672, rel=0.02)


def test_standing_blood_is_darker_in_red_than_that_of_capillaries() -> None:
    red = optics.WAVELENGTHS_NM == 640
    depth = np.searchsorted(PATHS_UM, 60.0)
    through = {name: spectra_of(name)[0][depth, red][0] for name in ("haemorrhage", "microaneurysm")}
    assert through["haemorrhage"] < 0.95 * through["microaneurysm"]


def test_thickness_varies_from_lesion_to_lesion() -> None:
    mask = np.zeros((100, 20), bool)
    mask[5:95:10, 8:12] = True
    body = BODIES["exudate"]
    heights = [thickness_of(mask, replace(body, vary=v), 20.0, rng_for(0, "t"))[5:95:10, 10].std() for v in (0.0, 0.4)]
    assert heights[0] == pytest.approx(0, abs=1e-3)
    assert heights[1] > 3

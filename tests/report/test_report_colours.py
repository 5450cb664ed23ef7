from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from equipoise.experiment.findings import Findings
from equipoise.report.colours import (
    CONTROL,
    DARK,
    LIGHT,
    REAL,
    SYNTHETIC,
    contrast,
    encoded,
    from_oklab,
    linear,
    mixed,
    share_of,
    style_of,
    to_oklab,
)

# Machado GM, Oliveira MM, Fernandes LAF. A physiologically-based model for simulation of color vision deficiency.
# IEEE TVCG 2009; severity 1.0, on linear RGB.
DEFICIENCIES = {
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
}


def seen(colour: str, deficiency: str) -> np.ndarray:
    return to_oklab(np.clip(np.array(DEFICIENCIES[deficiency]) @ linear(colour), 0, 1))


def test_the_ends_are_the_two_colours_and_oklab_is_its_own_inverse() -> None:
    assert (mixed(0), mixed(1)) == (REAL, SYNTHETIC)
    for colour in ("#000000", "#FFFFFF", REAL, SYNTHETIC, "#7F00FF"):
        assert encoded(from_oklab(to_oklab(linear(colour)))) == colour
    # Ottosson's own example: sRGB white is L = 1, a = b = 0.
    np.testing.assert_allclose(to_oklab(np.ones(3)), [1, 0, 0], atol=1e-4)


def test_contrast_is_that_of_the_standard() -> None:
    assert contrast("#000000", "#FFFFFF") == pytest.approx(21)
    assert contrast("#777777", "#FFFFFF") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
def test_text_and_marks_meet_aa(theme: dict[str, str]) -> None:
    for name in ("ink", "quiet", "link", "green", "amber", "red", "none"):
        for ground in ("page", "soft"):
            assert contrast(theme[name], theme[ground]) >= 4.5, (name, ground)
    for colour in [CONTROL, *(mixed(s) for s in np.linspace(0, 1, 11))]:
        assert contrast(colour, theme["page"]) >= 3, colour
    for colour in [CONTROL, mixed(0), mixed(0.5), mixed(1)]:
        assert contrast(colour, theme["band"]) >= 2.7, colour  # large marks with a shape of their own


@pytest.mark.parametrize("deficiency", DEFICIENCIES)
def test_real_mix_and_synthetic_stay_apart_for_colour_blind_readers(deficiency: str) -> None:
    shares = [0, 0.2, 0.5, 0.8, 1]
    colours = [seen(mixed(s), deficiency) for s in shares]
    # A difference of 0.02 in OKLab is just noticeable.
    assert np.linalg.norm(colours[0] - colours[-1]) > 0.2
    assert all(np.linalg.norm(a - b) > 0.02 for a, b in pairwise(colours))
    # Gold to blue runs one way along blue-yellow, the axis that both deficiencies keep.
    assert all(a[2] > b[2] for a, b in pairwise(colours))


def test_shape_or_hatch_doubles_the_colour(rich: Findings) -> None:
    by_family = {a.family: style_of(a) for a in rich.arms}
    looks = [(s.shape, s.hatched) for s in by_family.values()]
    assert len(set(looks)) == len(looks) == 7
    assert by_family["real"].colour == by_family["duplicate"].colour == REAL
    assert by_family["self-training"].colour == CONTROL


def test_the_share_of_a_ratio() -> None:
    assert [share_of(r) for r in (0, 0.25, 1, 4, None, float("inf"))] == [0, 0.2, 0.5, 0.8, 1, 1]

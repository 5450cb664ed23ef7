from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_projection import INSERTS_IN_WATER, WATER, insert_means, rasterise, relative_rms

from equipoise.core.random import rng_for
from equipoise.engines.parts.attenuation import add_noise, hu_from_attenuation
from equipoise.engines.parts.fan_beam import FanBeam
from equipoise.engines.parts.kernels import kernel_mtf
from equipoise.engines.parts.projection import Ellipse, ParallelBeam
from equipoise.errors import PlanError

BEAM = ParallelBeam(256, 402, 1.0)


@pytest.mark.parametrize("axis", [(0.0, 0.0), (70.0, -40.0)])
def test_rays_run_from_the_focal_spot_to_the_elements(axis: tuple[float, float]) -> None:
    fan = FanBeam(BEAM, 400.0, axis)
    angle, distance = fan.distances()
    view = 37
    turned = view * 2 * np.pi / fan.views
    spot = np.array(axis) + 400 * np.array([-np.sin(turned), np.cos(turned)])
    through = spot[0] * np.cos(angle[view]) + spot[1] * np.sin(angle[view])
    np.testing.assert_allclose(through, distance[view], atol=1e-9)
    # Both ends of a ray see the same: half a turn and twice the fan angle on.
    disc = [Ellipse(1.0, (10.0, -20.0), (30.0, 20.0), 15.0)]
    there = disc[0].chords(angle, distance)
    np.testing.assert_allclose(there, disc[0].chords(angle + np.pi, -distance), atol=1e-9)


@pytest.mark.parametrize("axis", [(0.0, 0.0), (70.0, -40.0)])
def test_fan_projection_is_the_closed_form(axis: tuple[float, float]) -> None:
    fan = FanBeam(BEAM, 570.0, axis)
    shapes = [Ellipse(WATER, (5, -7), (100, 90)), Ellipse(0.01, (30, 20), (20, 12), 40)]
    assert relative_rms(fan.project(rasterise(BEAM, shapes)), fan.line_integrals(shapes)) < 0.01


def test_a_moving_object_is_projected_where_it_is() -> None:
    fan = FanBeam(BEAM, 570.0)
    moved = 6 * np.column_stack([np.sin(np.linspace(0, 5, fan.views)), np.cos(np.linspace(0, 3, fan.views))])
    disc = Ellipse(WATER, (10.0, -20.0), (60.0, 60.0))
    angle, distance = fan.distances()
    shifted = distance - moved[:, :1] * np.cos(angle) - moved[:, 1:] * np.sin(angle)
    exact = disc.chords(angle, shifted)
    still = relative_rms(fan.project(rasterise(BEAM, [disc])), fan.line_integrals([disc]))
    assert relative_rms(fan.project(rasterise(BEAM, [disc]), moved), exact) < 1.1 * still < 0.02
    assert relative_rms(fan.project(rasterise(BEAM, [disc])), exact) > 0.05


@pytest.mark.parametrize("axis", [(0.0, 0.0), (70.0, -40.0)])
def test_water_and_inserts_have_their_hu_after_rebinning(axis: tuple[float, float]) -> None:
    fan = FanBeam(BEAM, 570.0, axis)
    hu = hu_from_attenuation(BEAM.fbp(fan.rebin(fan.line_integrals(INSERTS_IN_WATER)), "soft", 0.45))
    for level, seen in insert_means(BEAM, hu):
        assert seen == pytest.approx(level, abs=2)


@settings(max_examples=8)
@given(st.floats(400, 900), st.floats(-60, 60), st.floats(-60, 60))
def test_rebinning_is_right_for_any_geometry(source: float, u: float, v: float) -> None:
    beam = ParallelBeam(96, 160, 1.5)
    fan = FanBeam(beam, source, (u, v))
    shapes = [Ellipse(WATER, (4, -3), (60, 50), 20)]
    assert relative_rms(fan.rebin(fan.line_integrals(shapes)), beam.line_integrals(shapes)) < 0.01


def test_variance_of_a_fan_falls_as_one_over_dose() -> None:
    beam = ParallelBeam(96, 150, 2.0)
    fan = FanBeam(beam)
    clean = fan.line_integrals([Ellipse(WATER, radii=(80, 80))])
    doses = np.geomspace(2e4, 2e5, 3)
    variances = []
    for dose in doses:
        noisy = [fan.rebin(add_noise(clean, dose, 0, rng_for(k, "fan", dose)) - clean) for k in range(120)]
        noise = beam.fbp(np.stack(noisy), "soft", 0.25)[:, 20:76:6, 20:76:6]
        variances.append(np.var(noise))
    assert np.size(noise) >= 10_000
    assert np.polyfit(np.log(doses), np.log(variances), 1)[0] == pytest.approx(-1, abs=0.03)


def test_mtf_of_a_fan_is_the_kernels_times_that_of_cubic_convolution() -> None:
    beam = ParallelBeam(128, 210, 0.5, eps=1e-5)
    fan = FanBeam(beam, 300.0)
    wide = 0.9  # mm: a Gaussian, so that its line integrals are known in closed form along any ray
    _, distance = fan.distances()
    profile = np.exp(-(distance**2) / (2 * wide**2))
    seen = beam.fbp(fan.rebin(profile), "soft", 0.8)
    frequency = np.fft.rfftfreq(128, 0.5)
    mtf = np.abs(np.fft.rfft(seen.sum(axis=0)))
    expected = np.exp(-2 * (np.pi * wide * frequency) ** 2) * kernel_mtf("soft", frequency, 0.8)
    passed = frequency < 0.5
    np.testing.assert_allclose(mtf[passed] / mtf[0], expected[passed] / expected[0], atol=0.02)


def test_a_focal_spot_in_the_patient_is_refused() -> None:
    with pytest.raises(PlanError, match=r"source_mm = 120 is not possible; legal: 155 or more mm"):
        FanBeam(BEAM, 120)

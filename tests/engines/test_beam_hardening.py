from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_projection import INSERTS_HU, INSERTS_IN_WATER, WATER, insert_means, radius_mm

from equipoise.engines.parts.attenuation import attenuation_from_hu, hu_from_attenuation, water_attenuation
from equipoise.engines.parts.beam_hardening import CtBeam
from equipoise.engines.parts.projection import Ellipse, ParallelBeam
from equipoise.engines.parts.spectrum import mass_attenuation

BEAM = ParallelBeam(256, 402, 1.0)
NONE = np.zeros((1, 1))
TUBE = CtBeam(70.0, 120.0)


def water_mm(ellipses: list[Ellipse]) -> np.ndarray:
    path: np.ndarray = BEAM.line_integrals(ellipses) / WATER
    return path


def reconstructed(beam: CtBeam, measured: np.ndarray, bowtie: np.ndarray = NONE) -> np.ndarray:
    hu: np.ndarray = hu_from_attenuation(BEAM.fbp(beam.water_corrected(measured, bowtie), "soft", 0.45))
    return hu


def test_measured_attenuation_is_beer_and_lambert_over_the_spectrum() -> None:
    energies, weight = TUBE.bins
    assert weight.sum() == pytest.approx(1)
    water, bone, metal = np.array([150.0]), np.array([12.0]), np.array([2.0])
    made_of = (("water", 1.0), ("cortical bone", 1.92), ("titanium", 4.51))
    mu = [mass_attenuation(material, energies) * density / 10 for material, density in made_of]
    exact = -np.log((weight * np.exp(-(150 * mu[0] + 12 * mu[1] + 2 * mu[2]))).sum())
    assert TUBE.measured(water, bone, metal, "titanium", np.zeros(1))[0] == pytest.approx(exact, rel=1e-5)


def test_one_energy_does_not_harden() -> None:
    beam, way = CtBeam(70.0), np.linspace(0, 400, 9)
    seen = beam.measured(way, np.zeros(1), np.zeros(1), "iron", np.zeros(1))
    np.testing.assert_allclose(seen, way * water_attenuation(70.0), rtol=1e-5)
    assert TUBE.measured(way, np.zeros(1), np.zeros(1), "iron", np.zeros(1))[-1] < 0.98 * 400 * TUBE.water_scale


@given(st.floats(80, 140), st.floats(0, 1), st.floats(0, 600))
def test_water_correction_undoes_what_water_does(kvp: float, bowtie: float, way: float) -> None:
    beam, share = CtBeam(70.0, round(kvp), bowtie_mm=150.0), np.array([bowtie])
    seen = beam.measured(np.array([way]), np.zeros(1), np.zeros(1), "iron", share)
    assert beam.water_corrected(seen, share)[0] == pytest.approx(way * water_attenuation(70.0), abs=2e-3)


@pytest.mark.parametrize("bowtie_mm", [0.0, 130.0])
def test_water_has_zero_hu_after_correction_and_cups_without(bowtie_mm: float) -> None:
    beam = CtBeam(70.0, 120.0, bowtie_mm=bowtie_mm)
    share = beam.bowtie(np.broadcast_to(BEAM.positions, (402, 256)))
    measured = beam.measured(water_mm([Ellipse(WATER, radii=(110, 110))]), NONE, NONE, "iron", share)
    r, right = radius_mm(BEAM), reconstructed(beam, measured, share)
    rings = [right[(r >= a) & (r < a + 15)].mean() for a in (0, 30, 60, 85)]
    assert np.abs(rings).max() < 2
    raw = hu_from_attenuation(BEAM.fbp(measured * (WATER / beam.water_scale), "soft", 0.45))
    cupping = raw[(r > 85) & (r < 100)].mean() - raw[r < 15].mean()
    # A bow-tie hardens the beam at the rim more than the thinner rim of the object does less: it caps.
    assert (cupping < -15) if bowtie_mm else (cupping > 15)
    assert abs(raw[r < 15].mean()) < 40  # a water phantom of 200 mm is calibrated to 0 HU


def test_soft_tissue_keeps_its_hu_and_bone_its_streaks() -> None:
    soft = [e for e, hu in zip(INSERTS_IN_WATER[1:], INSERTS_HU, strict=True) if hu < 100]
    hu = reconstructed(TUBE, TUBE.measured(water_mm([INSERTS_IN_WATER[0], *soft]), NONE, NONE, "iron", NONE))
    for level, seen in insert_means(BEAM, hu):
        if level < 100:
            assert seen == pytest.approx(level, abs=2)
    bones = [Ellipse(1.0, (x, 0.0), (14.0, 14.0)) for x in (-55.0, 55.0)]
    holes = [Ellipse(-WATER, e.center, e.radii) for e in bones]
    water = water_mm([INSERTS_IN_WATER[0], *holes])
    hu = reconstructed(TUBE, TUBE.measured(water, BEAM.line_integrals(bones), NONE, "iron", NONE))
    between, beside = hu[100:156, 126:130].mean(), hu[126:130, 50:80].mean()
    assert between < beside - 10  # the dark band between two dense bones


def test_bone_and_water_of_a_voxel_add_up_to_its_attenuation() -> None:
    hu = np.array([-900.0, 0.0, 99.0, 300.0, 1000.0, 1600.0, 2500.0])
    mu = attenuation_from_hu(hu)
    share = TUBE.bone_share(mu)
    assert (share[:3] == 0).all()
    assert (np.diff(share[2:]) > 0).all()
    rest = mu - share * TUBE.attenuation("cortical bone")
    assert (rest > -1e-6).all()  # water of no negative density
    assert rest[-1] == pytest.approx(0, abs=1e-6)


def test_bowtie_evens_out_the_shadow_of_its_cylinder() -> None:
    beam = CtBeam(70.0, bowtie_mm=90.0)
    s = np.linspace(0, 70, 8)
    cylinder = np.exp(-2 * np.sqrt(90**2 - s**2) * water_attenuation(70.0))
    np.testing.assert_allclose(beam.passed(beam.bowtie(s)) * cylinder, cylinder[0], rtol=0.01)
    assert beam.passed(beam.bowtie(np.array([300.0])))[0] == pytest.approx(0.055, abs=0.01)
    hard = CtBeam(70.0, 120.0, bowtie_mm=90.0)
    assert hard.measured(np.array([50.0]), NONE[0], NONE[0], "iron", np.ones(1)) < hard.measured(
        np.array([50.0]), NONE[0], NONE[0], "iron", np.zeros(1)
    )

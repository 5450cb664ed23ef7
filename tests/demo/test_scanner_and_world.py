"""The hidden world and its scanners."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from equipoise.core import rng_for
from equipoise.demo.scanner import EXTERNAL, INTERNAL, Scanner
from equipoise.demo.tubes import Tubes
from equipoise.demo.world import MARGIN, Finding, World

SHAPE, SPACING = (256, 256), 0.7


@pytest.mark.parametrize("scanner", [*INTERNAL, EXTERNAL], ids=lambda s: s.name)
def test_noise_has_the_stated_level(scanner: Scanner) -> None:
    field = scanner.noise_field(SHAPE, SPACING, rng_for(0, scanner.name))
    # 65,536 correlated pixels: grains of about (1 / grain)^2 mm2 leave over 1,500 independent ones, a standard error
    # of 2 % on the standard deviation.
    assert field.std() == pytest.approx(scanner.noise, rel=0.06)
    assert abs(field.mean()) < 0.05 * scanner.noise


@pytest.mark.parametrize("scanner", INTERNAL, ids=lambda s: s.name)
def test_noise_power_peaks_at_the_stated_frequency(scanner: Scanner) -> None:
    plain = replace(scanner, streak=1.0)
    rng = rng_for(1, scanner.name)
    power = sum(np.abs(np.fft.fft2(plain.noise_field(SHAPE, SPACING, rng))) ** 2 for _ in range(10))
    f = np.hypot(*np.meshgrid(np.fft.fftfreq(256, SPACING), np.fft.fftfreq(256, SPACING)))
    # Rings of hundreds of frequencies, ten fields: 3 % standard error or less. The peak itself is too flat to locate.
    rings = [(f > low) & (f < low + 0.04) for low in np.arange(0.04, 0.68, 0.04)]
    measured = np.array([power[ring].mean() for ring in rings])
    stated = np.array([np.mean((f[ring] * np.exp(-f[ring] / scanner.grain)) ** 2) for ring in rings])
    np.testing.assert_allclose(measured / measured.sum(), stated / stated.sum(), atol=0.01)
    assert 0.04 * (int(np.argmax(stated)) + 1.5) == pytest.approx(scanner.grain, abs=0.03)


def test_streaks_lie_along_the_columns() -> None:
    field = replace(EXTERNAL, white=0.0).noise_field(SHAPE, SPACING, rng_for(2))
    along = np.mean(field[1:] * field[:-1]) / field.var()
    across = np.mean(field[:, 1:] * field[:, :-1]) / field.var()
    assert along > across + 0.1


def test_dose_scales_noise_by_its_root() -> None:
    tissue = np.zeros(SHAPE)
    scanner = INTERNAL[1]
    full, quarter = (scanner.scan(tissue, SPACING, rng_for(3), dose).std() for dose in (1.0, 0.25))
    assert quarter == pytest.approx(2 * full, rel=0.02)  # rounding to whole HU adds 1/12 HU2


def test_uniform_tissue_keeps_its_number() -> None:
    for scanner in INTERNAL:
        seen = scanner.scan(np.full(SHAPE, 40.0), SPACING, rng_for(4))
        assert seen.mean() == pytest.approx(40, abs=2)
    assert EXTERNAL.scan(np.full(SHAPE, 40.0), SPACING, rng_for(4)).mean() == pytest.approx(0.9 * 40 + 35, abs=2)


def test_point_spread_has_the_stated_width() -> None:
    # Without edge enhancement the point spread is a Gaussian: its second moment is (FWHM / 2.3548)^2 in each direction.
    scanner = INTERNAL[0]
    point = np.zeros((129, 129))
    point[64, 64] = 1.0
    seen = scanner.blurred(point, 0.5)
    x = (np.arange(129) - 64) * 0.5
    assert seen.sum() == pytest.approx(1)
    assert np.sqrt((seen * x[:, None] ** 2).sum()) == pytest.approx(scanner.fwhm / 2.3548, rel=1e-3)


def test_sharp_kernels_overshoot_at_an_edge() -> None:
    edge = np.where(np.arange(128) < 64, -850.0, 40.0)[:, None] * np.ones((1, 64))
    soft, external = (s.blurred(edge, SPACING)[32:96].max() for s in (INTERNAL[0], EXTERNAL))
    assert soft < 40.5  # the grid cannot hold the Gaussian's last percent
    assert external > 50


def test_external_scanner_differs_from_every_inside_one() -> None:
    assert EXTERNAL.noise > 1.4 * max(s.noise for s in INTERNAL)
    assert EXTERNAL.fwhm < min(s.fwhm for s in INTERNAL)
    assert EXTERNAL.edge > max(s.edge for s in INTERNAL)
    assert (EXTERNAL.gain, EXTERNAL.offset) != (1.0, 0.0)


def test_ball_and_tube_fill_their_area() -> None:
    ball = Tubes(np.zeros((1, 3)), np.zeros((1, 3)), np.array([6.0]))
    area = ball.coverage((65, 65), 0.5, 0.5).sum() * 0.25
    assert area == pytest.approx(np.pi * 36, rel=0.01)
    tube = Tubes(np.array([[0.0, -50, 0]]), np.array([[0.0, 50, 0]]), np.array([3.0]))
    assert tube.coverage((65, 65), 0.5, 0.5).sum() * 0.25 == pytest.approx(6.0 * 32.5, rel=0.01)


def test_thick_slices_dilute_a_ball() -> None:
    ball = Tubes(np.zeros((1, 3)), np.zeros((1, 3)), np.array([1.5]))
    thin, thick = (ball.coverage((33, 33), 0.5, t)[16, 16] for t in (1.0, 5.0))
    assert thin == 1
    assert 0.3 < thick < 0.8


def test_tube_above_the_slice_is_not_seen() -> None:
    high = Tubes(np.array([[-9.0, 0, 4]]), np.array([[9.0, 0, 4]]), np.array([1.0]))
    assert not high.coverage((33, 33), 0.5, 2.0).any()


def _disc(radius: float = 8.0) -> np.ndarray:
    x = np.arange(64) - 31.5
    return (np.hypot(x[:, None], x) < radius).astype(float)


def test_solid_nodules_are_dense_and_ground_glass_is_not() -> None:
    disc = _disc()
    mean = {}
    for texture in (1.0, 5.0):
        pictures = [
            World(wall=0.0).picture([Finding(disc, 5, texture)], 0.7, 1.25, INTERNAL[0], rng_for(k, "t"))
            for k in range(12)
        ]
        mean[texture] = np.mean([p[_disc(5.0) > 0].mean() for p in pictures])
        around = np.mean([p[disc == 0].mean() for p in pictures])
        assert mean[texture] > around + 100
    assert -60 < mean[5.0] < 90
    assert -700 < mean[1.0] < -350


def test_lung_is_air_and_a_wall_is_not() -> None:
    nothing: list[Finding] = []
    lung = [World(wall=0.0).picture(nothing, 0.7, 1.25, INTERNAL[0], rng_for(k)) for k in range(8)]
    wall = [World(wall=1.0).picture(nothing, 0.7, 1.25, INTERNAL[0], rng_for(k)) for k in range(8)]
    assert -930 < np.mean([np.median(p) for p in lung]) < -780
    assert np.mean([(p > -200).mean() for p in wall]) > np.mean([(p > -200).mean() for p in lung]) + 0.15


def test_world_listens_to_its_stream_only() -> None:
    finding = [Finding(_disc(), 4, 4, 4, 4)]
    a, b, c = (World().picture(finding, 0.7, 2.0, EXTERNAL, rng_for(k)) for k in (1, 1, 2))
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(a, c)
    assert a.dtype == np.float32
    np.testing.assert_array_equal(a, np.rint(a))
    assert a.min() >= -1024


def test_shape_is_the_one_that_is_asked_for() -> None:
    rng = rng_for(0)
    assert World().picture([], 0.7, 1.0, INTERNAL[0], rng, (40, 56)).shape == (40, 56)
    assert World().tissue([], 0.7, 1.0, (40, 56), rng).shape == (40 + 2 * MARGIN, 56 + 2 * MARGIN)


def test_no_gap_is_the_world_itself() -> None:
    assert World().shifted(0.0) == World()
    assert all(s.shifted(0.0) == s for s in INTERNAL)


def test_full_gap_empties_the_lung_and_overdraws_the_nodule() -> None:
    wrong = World().shifted(1.0)
    assert (wrong.crowd, wrong.wall, wrong.grain) == (0, 0, 0)
    inside = np.pad(_disc(), MARGIN) > 0
    right, bright = (
        np.mean([w.tissue([Finding(_disc())], 0.7, 1.0, (64, 64), rng_for(k))[inside].mean() for k in range(4)])
        for w in (World(), wrong)
    )
    assert bright == pytest.approx(right + 500, abs=60)

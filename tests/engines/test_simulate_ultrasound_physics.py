"""Ultrasound against closed forms: speckle statistics, widths of beams, slopes of attenuation, geometry, display."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from equipoise.core import rng_for
from equipoise.engines.imaging.simulate_ultrasound import bmode
from equipoise.engines.imaging.simulate_ultrasound.beams import BeamGrid
from equipoise.engines.imaging.simulate_ultrasound.display import compress, decompress, gain_by_depth
from equipoise.engines.imaging.simulate_ultrasound.engine import SimulateUltrasound
from equipoise.engines.imaging.simulate_ultrasound.geometry import Sector, sample, scan_convert
from equipoise.engines.imaging.simulate_ultrasound.propagation import echo_loss, echoes, interfaces, sharing
from equipoise.engines.imaging.simulate_ultrasound.rf import Array, Transmit, beamform, element_signals
from equipoise.engines.imaging.simulate_ultrasound.rf_picture import beamformed
from equipoise.engines.imaging.simulate_ultrasound.scanners import PROFILES, Acquisition, Settings
from equipoise.engines.imaging.simulate_ultrasound.speckle import SOUND_MM_PER_US, Beam, convolve, envelope, scatter
from equipoise.engines.imaging.simulate_ultrasound.tissues import Scene

RAYLEIGH_SNR = 1.913  # sqrt(pi / (4 - pi)): mean over standard deviation of a Rayleigh variable
MHZ = 5.0
WAVELENGTH = SOUND_MM_PER_US / MHZ


def acquisition(
    scanner: str = "linear 7.5 MHz", width: float = 38.0, height: float = 40.0, **other: object
) -> Acquisition:
    engine = SimulateUltrasound()
    settings = Settings(**{name: getattr(engine, name) for name in Settings.__dataclass_fields__})
    drawn = settings.draw(scanner, width, height, rng_for(0, "acquisition"))
    return replace(drawn, **other)  # type: ignore[arg-type]


def even_scene(shape: tuple[int, int], echo: float = 0.0, attenuation: float = 0.0) -> Scene:
    ones = np.ones((*shape, 1), np.float32)
    return Scene(echo * ones, 1.6 * ones, attenuation * ones, ones)


# ---------------------------------------------------------------- speckle


def test_convolution_tier_has_rayleigh_speckle() -> None:
    beam = Beam(MHZ, 0.7, 2.0, 30.0, 20.0, 3.0)
    step, pitch = 0.05, 0.15
    depths = 10 + (np.arange(500) + 0.5) * step
    cells = 500 * step * 200 * pitch / float(beam.cell_mm2(depths).mean())
    values = []
    for seed in range(3):
        per_sample = 20 * step * pitch / beam.cell_mm2(depths)  # 20 scatterers per resolution cell
        field = convolve(
            scatter(per_sample, 200, rng_for(seed, "speckle")),
            beam.axial_sd_mm / step,
            beam.lateral_sd_mm(depths) / pitch,
        )
        values.append(envelope(field))
    assert 3 * cells >= 3000
    shown = np.array(values)
    assert shown.mean() / shown.std() == pytest.approx(RAYLEIGH_SNR, abs=0.05)
    assert (shown**2).mean() == pytest.approx(1, abs=0.05)


def test_few_scatterers_give_more_contrast_than_rayleigh() -> None:
    beam = Beam(MHZ, 0.7, 2.0, 30.0, 20.0, 3.0)
    depths = 10 + (np.arange(400) + 0.5) * 0.05
    sd = beam.lateral_sd_mm(depths) / 0.15
    snr = []
    for density in (1.0, 40.0):
        field = scatter(density * 0.05 * 0.15 / beam.cell_mm2(depths), 160, rng_for(1, "few"))
        shown = envelope(convolve(field, beam.axial_sd_mm / 0.05, sd))
        snr.append(shown.mean() / shown.std())
        assert (field**2).sum(axis=0).mean() == pytest.approx(1, abs=0.15)
    assert snr[0] < 1.6 < snr[1]


def test_rf_tier_has_rayleigh_speckle() -> None:
    array = Array.linear(48, 0.3, MHZ)
    transmit, f_number = Transmit.plane(array), 2.0
    rng = rng_for(3, "rf speckle")
    across, low, high = 6.0, 9.0, 22.0
    cell = 1.21 * WAVELENGTH * f_number * 2.3548 * SOUND_MM_PER_US / 2 * array.pulse_sd_us
    area = (2 * across + 4) * (high - low + 4)
    cells, values = 0.0, []
    for _ in range(5):
        number = int(20 * area / cell)
        places = np.column_stack([rng.uniform(-across - 2, across + 2, number), rng.uniform(low - 2, high + 2, number)])
        points = np.column_stack([places, rng.standard_normal(number)])
        signals, start = element_signals(array, transmit, points, high + 2, ideal=True)
        x, z = np.meshgrid(np.arange(-across, across, 0.3), np.arange(low, high, 0.06), indexing="ij")
        shown = np.abs(beamform(array, transmit, signals, start, x, z, f_number))
        values.append(shown / np.sqrt((shown**2).mean(axis=0)))
        cells += 2 * across * (high - low) / cell
    assert cells >= 3000
    everything = np.array(values)
    assert everything.mean() / everything.std() == pytest.approx(RAYLEIGH_SNR, abs=0.05)


def test_point_spread_function_is_as_wide_as_stated() -> None:
    beam = Beam(MHZ, 0.7, 2.0, 40.0, 20.0, 2.0)
    assert 2.3548 * float(beam.lateral_sd_mm(np.array([20.0]))[0]) == pytest.approx(0.89 * WAVELENGTH * 2, rel=0.1)
    deep = beam.lateral_sd_mm(np.array([20.0, 60.0, 100.0]))
    assert deep[0] < deep[1] < deep[2]
    assert np.diff(Beam(MHZ, 0.7, 2.0, 40.0, 40.0, 2.0).lateral_sd_mm(np.array([40.0, 5.0])))[0] > 0
    field = np.zeros((2, 61, 61), np.float32)
    field[0, 30, 30] = 1
    shown = envelope(convolve(field, 3.0, np.full(61, 4.0)))
    for profile, sd in ((shown[:, 30], 3.0), (shown[30], 4.0)):
        spread = np.sqrt((profile * (np.arange(61) - 30) ** 2).sum() / profile.sum())
        assert spread == pytest.approx(sd, rel=0.03)


def test_speckle_is_as_bright_at_the_border_as_within() -> None:
    power = np.mean(
        [
            envelope(convolve(scatter(np.full(80, 50.0), 80, rng_for(s, "rim")), 3.0, np.full(80, 4.0))) ** 2
            for s in range(60)
        ],
        axis=0,
    )
    assert power[:3].mean() == pytest.approx(1, abs=0.1)
    assert power[:, :3].mean() == pytest.approx(1, abs=0.1)
    assert power[:, -3:].mean() == pytest.approx(1, abs=0.1)


# ---------------------------------------------------------------- widths of the RF tier


def width(profile: np.ndarray, x: np.ndarray) -> float:
    """Full width at half of the peak's amplitude (-6 dB)."""
    profile = profile / profile.max()
    peak = int(profile.argmax())
    right = np.interp(-0.5, -profile[peak:], x[peak:])
    return float(right - np.interp(0.5, profile[: peak + 1], x[: peak + 1]))


@pytest.mark.parametrize(("depth", "f_number"), [(25.0, 2.5), (30.0, 3.0), (40.0, 4.0)])
def test_plane_wave_is_1_21_wavelengths_wide_per_f_number(depth: float, f_number: float) -> None:
    array = Array.linear(128, 0.3, MHZ)
    x = np.linspace(-3, 3, 401)
    for ideal in (False, True):
        signals, start = element_signals(
            array, Transmit.plane(array), np.array([[0.0, depth, 1.0]]), depth + 10, ideal=ideal
        )
        shown = beamform(array, Transmit.plane(array), signals, start, x, np.full_like(x, depth), f_number)
        assert width(np.abs(shown), x) == pytest.approx(1.21 * WAVELENGTH * f_number, rel=0.1)


@pytest.mark.parametrize(("depth", "f_number"), [(20.0, 2.0), (30.0, 3.0)])
def test_two_way_focus_is_0_89_wavelengths_wide_per_f_number(depth: float, f_number: float) -> None:
    array = Array.linear(96, 0.3, MHZ)
    transmit = Transmit.focused(array, 0.0, depth, f_number)
    x, shown = np.linspace(-2.2, 2.2, 121), []
    for place in x:  # the beam stays, the scatterer moves through it
        signals, start = element_signals(array, transmit, np.array([[place, depth, 1.0]]), depth + 10)
        shown.append(abs(beamform(array, transmit, signals, start, np.zeros(1), np.full(1, depth), f_number)[0]))
    assert width(np.array(shown), x) == pytest.approx(0.89 * WAVELENGTH * f_number, rel=0.1)


def test_a_point_is_shown_where_it_is() -> None:
    array = Array.curved(64, 0.4, 50.0, 3.5)
    for transmit in (Transmit.plane(array, 0.1), Transmit.focused(array, 2.0, -40.0)):
        signals, start = element_signals(array, transmit, np.array([[4.0, 45.0, 1.0]]), 70, ideal=True)
        x, z = np.meshgrid(np.linspace(0, 8, 81), np.linspace(42, 48, 121), indexing="ij")
        shown = np.abs(beamform(array, transmit, signals, start, x, z, 1.5))
        i, j = np.unravel_index(shown.argmax(), shown.shape)
        assert x[i, j] == pytest.approx(4.0, abs=0.2)
        assert z[i, j] == pytest.approx(45.0, abs=0.1)


def test_element_signals_are_those_of_a_direct_sum() -> None:
    """Against the definition: every transmitter, every receiver, one pulse each, nothing interpolated."""
    array = Array.linear(6, 0.3, MHZ)
    points = np.array([[0.4, 12.0, 1.0], [-0.7, 13.1, -0.6]])
    transmit = Transmit.focused(array, 0.2, 15.0)
    signals, start = element_signals(array, transmit, points, 20.0, loss_db_per_mm=0.2)
    t = start + np.arange(signals.shape[1]) / array.rate_mhz
    wanted = np.zeros_like(signals)
    for x, z, strength in points:
        r = np.hypot(x - array.x, z)
        sine = (x - array.x) / r
        gain = (z / r) * np.sinc(array.width_mm * sine * MHZ / SOUND_MM_PER_US) / np.sqrt(r) * 10 ** (-0.2 * r / 20)
        for e in range(6):
            for s in range(6):
                at = transmit.delays_us[s] + (r[s] + r[e]) / SOUND_MM_PER_US
                pulse = np.exp(-0.5 * ((t - at) / array.pulse_sd_us) ** 2)
                wanted[e] += strength * gain[s] * gain[e] * pulse * np.exp(-2j * np.pi * MHZ * at)
    assert np.abs(signals - wanted).max() < 0.01 * np.abs(wanted).max()


# ---------------------------------------------------------------- attenuation, reflection


@pytest.mark.parametrize("attenuation", [0.3, 0.7, 1.5])
def test_attenuation_slope_is_as_set(attenuation: float) -> None:
    """20 log10 of the echo falls by 2 x attenuation x frequency per cm, in both tiers."""
    frequency = 4.0
    step, depths = 0.1, (np.arange(400) + 0.5) * 0.1
    even = np.full((400, 96), attenuation, np.float32)
    loss = echo_loss(even, np.zeros_like(even), frequency, step, sharing(depths, step, 2.0, 30.0, np.full(400, 0.3)))
    slope = np.polyfit(depths / 10, 20 * np.log10(loss.mean(axis=1)), 1)[0]
    assert slope == pytest.approx(-2 * attenuation * frequency, rel=0.01)
    beam = Beam(frequency, 0.7, 2.0, 30.0, 20.0, 3.0)
    field = scatter(np.full(400, 50.0), 96, rng_for(0, "slope"))
    shown = envelope(convolve(field * loss, beam.axial_sd_mm / step, beam.lateral_sd_mm(depths) / 0.3))
    measured = np.polyfit(depths / 10, 10 * np.log10((shown**2).mean(axis=1)), 1)[0]
    assert measured == pytest.approx(-2 * attenuation * frequency, abs=0.35)
    array = Array.linear(16, 0.3, frequency)
    peaks = []
    for db in (0.0, attenuation * frequency / 10):
        points = np.array([[0.0, z, 1.0] for z in (10.0, 20.0, 30.0)])
        signals, start = element_signals(array, Transmit.plane(array), points, 40.0, loss_db_per_mm=db)
        places = np.array([10.0, 20.0, 30.0])
        peaks.append(
            20 * np.log10(np.abs(beamform(array, Transmit.plane(array), signals, start, np.zeros(3), places, 8.0)))
        )
    fall = np.polyfit([1.0, 2.0, 3.0], peaks[1] - peaks[0], 1)[0]
    assert fall == pytest.approx(-2 * attenuation * frequency, rel=0.02)


def test_echo_of_an_interface_is_its_reflection_coefficient() -> None:
    impedance = np.full((8, 60), 1.4, np.float32)
    impedance[:, 30:] = 1.7
    gradient = interfaces(impedance, (0.2, 0.2))
    total = gradient[1, 4].sum() * 0.2
    assert np.tanh(total) == pytest.approx((1.7 - 1.4) / (1.7 + 1.4), rel=1e-3)
    right, _ = echoes(gradient.transpose(0, 2, 1), np.zeros(8, np.float32), 0.2)
    aslant, _ = echoes(gradient.transpose(0, 2, 1), np.full(8, 0.8, np.float32), 0.2)
    assert right.max() == pytest.approx(np.tanh(total / 2), rel=0.02)  # central differences: two samples of half each
    assert aslant.max() < 0.3 * right.max()


def test_reflectors_and_absorbers_throw_shadows_and_fluid_enhances() -> None:
    plain = even_scene((128, 128), attenuation=0.6)
    shot = acquisition(tgc=0.6, sliders_db=np.zeros(8), looks=1)
    grid = BeamGrid.of(shot, (128, 128), (0.3, 0.3))
    box = np.s_[48:80, 40:60]
    behind = np.s_[
        int(0.62 * grid.shape[0]) : int(0.7 * grid.shape[0]), int(0.45 * grid.shape[1]) : int(0.55 * grid.shape[1])
    ]

    def level(scene: Scene) -> float:
        return float(20 * np.log10(bmode.strengths_of(scene, 0, shot, grid).diffuse[behind].mean()))

    def with_box(**values: float) -> Scene:
        changed = {name: getattr(plain, name).copy() for name in values}
        for name, value in values.items():
            changed[name][box] = value
        return replace(plain, **changed)

    frequency = shot.beam.frequency_mhz
    cyst = level(with_box(attenuation=0.0)) - level(plain)
    # 6 mm without attenuation; the aperture sees past some of it.
    assert 0.5 * 2 * 0.6 * frequency * 0.6 < cyst < 1.02 * 2 * 0.6 * frequency * 0.6
    assert level(with_box(attenuation=5.0)) - level(plain) < -15
    assert -9.6 < level(with_box(impedance=7.4)) - level(plain) < -5  # both faces of bone reflect 0.64: 1 - R² twice


def test_loss_of_an_interface_does_not_depend_on_how_many_samples_it_takes() -> None:
    for samples in (1, 4, 9):
        steps = np.zeros((80, 8), np.float32)
        steps[20 : 20 + samples] = np.arctanh(0.6) / samples
        steps[50 : 50 + samples] = -np.arctanh(0.6) / samples
        loss = echo_loss(np.zeros_like(steps), steps, 5.0, 0.1, np.zeros(80), edge_mm=1.0)
        assert loss[45, 4] == pytest.approx(1 - 0.36, rel=0.05)
        assert loss[75, 4] == pytest.approx((1 - 0.36) ** 2, rel=0.1)


def test_small_obstacles_throw_fading_shadows() -> None:
    attenuation = np.zeros((400, 128), np.float32)
    attenuation[40:60, 62:66] = 20.0
    spread = sharing((np.arange(400) + 0.5) * 0.1, 0.1, 2.0, 30.0, np.full(400, 0.3))
    loss = echo_loss(attenuation, np.zeros_like(attenuation), 5.0, 0.1, spread)
    assert loss[70, 64] < 0.7 * loss[395, 64]


# ---------------------------------------------------------------- geometry and display


@pytest.mark.parametrize(
    "sector", [Sector(20, 0, 0.0, -15, 15, 38), Sector(20, 3, 30.0, -0.5, 0.5, 30), Sector(20, 1, 0.5, -0.7, 0.6, 35)]
)
def test_scan_conversion_brings_every_sample_to_its_place(sector: Sector) -> None:
    depths = (np.arange(200) + 0.5) * sector.depth / 200
    x, y = sector.places_of(96, depths)
    picture = scan_convert(
        (x + 10 * y).astype(np.float32), *sector.beams_of((200, 200), (0.2, 0.2)), sector.depth / 200
    )
    i, j = (np.arange(200) + 0.5) * 0.2, (np.arange(200) + 0.5) * 0.2
    wanted = i[:, None] + 10 * j[None]
    inner = sector.seen((200, 200), (0.2, 0.2))
    assert 0.3 < inner.mean() < 0.98
    assert np.abs(picture - wanted)[inner].max() < 3.5  # at the rim the outermost sample counts
    assert np.median(np.abs(picture - wanted)[inner]) < 0.01
    back = sample(picture[None], x[20:-20, 10:-10], y[20:-20, 10:-10], (0.2, 0.2))[0]
    assert np.median(np.abs(back - (x + 10 * y)[20:-20, 10:-10])) < 0.01


@pytest.mark.parametrize("shape", [(40, 30), (1, 30), (40, 1)])
def test_places_on_a_grid_are_read_as_any_others(shape: tuple[int, int]) -> None:
    values = rng_for(0, "values").standard_normal((3, *shape)).astype(np.float32)
    row, column = np.linspace(-1, 9, 50, dtype=np.float32), np.linspace(-2, 13, 60, dtype=np.float32)[:, None]
    x, y = np.broadcast_to(row, (60, 50)), np.broadcast_to(column, (60, 50))
    # Two interpolations of numbers near 1, in another order: some roundings of float32 apart.
    anywhere = sample(values, x.copy(), y.copy(), (0.2, 0.4))
    np.testing.assert_allclose(sample(values, x, y, (0.2, 0.4)), anywhere, atol=1e-5)
    np.testing.assert_allclose(sample(values, x.T, y.T, (0.2, 0.4)), anywhere.swapaxes(1, 2), atol=1e-5)
    assert anywhere[0, 0, 0] == pytest.approx(values[0, 0, 0])  # beyond the border
    assert anywhere[2, -1, -1] == pytest.approx(values[2, -1, -1])


def test_fan_widens_with_depth_and_beams_lie_in_it() -> None:
    fan = Sector(50, 5, 40.0, -0.5, 0.5, 80)
    assert fan.width_at(0) == pytest.approx(40)
    assert fan.width_at(80) == pytest.approx(120)
    x, y = fan.places_of(64, np.array([0.0, 80.0]))
    assert np.hypot(x - 50, y - (5 - 40)) == pytest.approx(np.array([[40.0] * 64, [120.0] * 64]), rel=1e-5)


def test_log_compression_is_linear_in_decibels_and_invertible() -> None:
    amplitude = 10 ** (np.linspace(-20, 100, 121) / 20).astype(np.float32)[:, None]
    grey = compress(amplitude, np.zeros(121), 60.0, 1.0)[:, 0]
    inside = slice(21, 80)
    assert np.diff(grey[inside]) == pytest.approx(255 / 60, rel=1e-3)
    assert grey[0] == 0
    assert grey[-1] == 255
    for gamma in (0.7, 1.0, 1.4):
        level = decompress(compress(amplitude, np.zeros(121), 60.0, gamma)[:, 0], 60.0, gamma)
        assert level[inside] == pytest.approx(np.linspace(-20, 100, 121)[inside], abs=0.05)


def test_gain_compensates_what_it_assumes() -> None:
    depths = (np.arange(100) + 0.5) * 0.4
    assert gain_by_depth(depths, 0.6, np.zeros(8)) == pytest.approx(0.6 * depths)
    assert gain_by_depth(depths, 0.0, np.arange(8.0))[[0, -1]] == pytest.approx([0, 7], abs=0.01)


@pytest.mark.parametrize("scanner", ["linear 7.5 MHz", "curvilinear 5 MHz", "phased 2.5 MHz"])
def test_both_tiers_show_one_level(scanner: str) -> None:
    """Liver at 0 dB has a mean power of 1 in either tier, wherever the receive aperture is whole."""
    size = (38.0, 38.0) if scanner.startswith("linear") else (90.0, 90.0)
    shot = replace(acquisition(scanner, *size), looks=1, scatterers=12.0)
    if scanner.startswith("linear"):
        shot = replace(shot, sector=replace(shot.sector, left=-9.0, right=9.0, depth=20.0))
    shape, pixel = (64, 64), (size[0] / 64, size[1] / 64)
    grid = BeamGrid.of(shot, shape, pixel)
    strengths = bmode.strengths_of(even_scene(shape), 0, shot, grid)
    middle = np.s_[grid.shape[0] // 4 : 3 * grid.shape[0] // 4, 3 * grid.shape[1] // 8 : 5 * grid.shape[1] // 8]
    fast = bmode.speckled(strengths, shot, grid, 30.0, bmode.independent_fields(shot, grid, rng_for(0, "tier")))
    exact = beamformed(strengths, shot, grid, 30.0, 1, 64, rng_for(0, "tier"))
    assert 10 * np.log10((fast[middle] ** 2).mean()) == pytest.approx(0, abs=1)
    assert 10 * np.log10((exact[middle] ** 2).mean()) == pytest.approx(0, abs=2.5)


def test_profiles_are_possible_probes() -> None:
    for name, scanner in PROFILES.items():
        low, high = scanner.frequency_mhz
        assert low <= float(name.split()[-2]) <= high
        assert scanner.pitch_mm <= 2 * SOUND_MM_PER_US / low
        if scanner.geometry == "curvilinear":
            assert np.degrees(scanner.aperture_mm / scanner.radius_mm) == pytest.approx(scanner.angle_deg, rel=0.15)

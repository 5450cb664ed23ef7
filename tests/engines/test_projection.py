from __future__ import annotations

import pickle
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from itertools import pairwise
from multiprocessing import get_context

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.registration import phase_cross_correlation
from skimage.transform import iradon, radon

from equipoise.core.random import rng_for
from equipoise.engines.parts import fourier_slices
from equipoise.engines.parts.attenuation import (
    add_noise,
    attenuation_from_hu,
    hu_from_attenuation,
    water_attenuation,
)
from equipoise.engines.parts.kernels import KERNELS, kernel_mtf, mtf_frequency
from equipoise.engines.parts.projection import Ellipse, ParallelBeam
from equipoise.errors import DataError, EquipoiseError, PlanError

WATER = water_attenuation()


SHEPP_LOGAN = [
    Ellipse(1.0, (0.0, 0.0), (0.92, 0.69)),
    Ellipse(-0.8, (-0.0184, 0.0), (0.874, 0.6624)),
    Ellipse(-0.2, (0.0, 0.22), (0.31, 0.11), -18),
    Ellipse(-0.2, (0.0, -0.22), (0.41, 0.16), 18),
    Ellipse(0.1, (0.35, 0.0), (0.25, 0.21)),
    Ellipse(0.1, (0.1, 0.0), (0.046, 0.046)),
    Ellipse(0.1, (-0.1, 0.0), (0.046, 0.046)),
    Ellipse(0.1, (-0.605, -0.08), (0.023, 0.046)),
    Ellipse(0.1, (-0.606, 0.0), (0.023, 0.023)),
    Ellipse(0.1, (-0.605, 0.06), (0.046, 0.023)),
]
"""The phantom with the contrasts of Toft (1996); the side of the image is 2."""


def rasterise(beam: ParallelBeam, ellipses: list[Ellipse], oversampling: int = 8) -> np.ndarray:
    """Mean attenuation of every pixel, by counting sub-pixels."""
    n = beam.size * oversampling
    x = (np.arange(n) - (n - 1) / 2) * beam.pixel / oversampling
    out = np.zeros((n, n))
    for e in ellipses:
        t = np.radians(e.degrees)
        u, v = x[:, None] - e.center[0], x[None] - e.center[1]
        p, q = u * np.cos(t) + v * np.sin(t), v * np.cos(t) - u * np.sin(t)
        out[(p / e.radii[0]) ** 2 + (q / e.radii[1]) ** 2 <= 1] += e.attenuation
    mean: np.ndarray = out.reshape(beam.size, oversampling, beam.size, oversampling).mean(axis=(1, 3))
    return mean


INSERTS_HU = (-1000.0, -850.0, -100.0, 60.0, 300.0, 1200.0)
INSERTS_IN_WATER = [
    Ellipse(WATER, (0.0, 0.0), (110.0, 95.0)),
    *(
        Ellipse(WATER * hu / 1000, (60 * np.cos(k * np.pi / 3), 60 * np.sin(k * np.pi / 3)), (15.0, 15.0))
        for k, hu in enumerate(INSERTS_HU)
    ),
]
"""Line integrals in closed form, so that projection and reconstruction share no grid."""


def insert_means(beam: ParallelBeam, hu: np.ndarray) -> list[tuple[float, float]]:
    """The HU that should be seen, and the mean seen: of the inserts, and of water in the middle."""
    x = (np.arange(beam.size) - (beam.size - 1) / 2) * beam.pixel
    found = [(0.0, float(hu[np.hypot(x[:, None], x) < 35].mean()))]
    for ellipse, level in zip(INSERTS_IN_WATER[1:], INSERTS_HU, strict=True):
        near = np.hypot(x[:, None] - ellipse.center[0], x - ellipse.center[1]) < 10
        found.append((level, float(hu[near].mean())))
    return found


def relative_rms(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.sqrt(np.mean((a - b) ** 2) / np.mean(b**2)))


def radius_mm(beam: ParallelBeam) -> np.ndarray:
    x = (np.arange(beam.size) - (beam.size - 1) / 2) * beam.pixel
    r: np.ndarray = np.hypot(x[:, None], x)
    return r


# ---------------------------------------------------------------- closed forms


@pytest.mark.parametrize(("size", "detectors"), [(384, None), (383, 384), (384, 401)])
def test_sinogram_of_a_disc_is_its_chords(size: int, detectors: int | None) -> None:
    beam = ParallelBeam(size, 60, 0.7, detectors)
    radius = 0.45 * size * beam.pixel
    s = np.broadcast_to(beam.positions, (60, beam.row))
    chords = 2 * WATER * np.sqrt(np.maximum(0, radius**2 - s**2))
    disc = Ellipse(WATER, radii=(radius, radius))
    np.testing.assert_allclose(beam.line_integrals([disc]), chords, atol=1e-12)
    # What remains is the average over a pixel's area, which rounds the sinogram's vertical tangent.
    assert relative_rms(beam.project(rasterise(beam, [disc])), chords) < 0.002


@settings(max_examples=15, deadline=None)
@given(st.floats(-15, 15), st.floats(-15, 15), st.floats(15, 30), st.floats(15, 30), st.floats(0, 180))
def test_projection_of_any_ellipse_is_its_closed_form(u: float, v: float, a: float, b: float, degrees: float) -> None:
    beam = ParallelBeam(128, 40, 0.8)
    ellipses = [Ellipse(0.02, (u, v), (a, b), degrees), Ellipse(-0.005, (u, v), (a / 2, b / 2), degrees + 30)]
    assert relative_rms(beam.project(rasterise(beam, ellipses)), beam.line_integrals(ellipses)) < 0.015


def test_water_disc_has_zero_hu_without_cupping() -> None:
    beam = ParallelBeam(256, 400, 1.0)
    sinogram = beam.line_integrals([Ellipse(WATER, radii=(100, 100))])
    hu = hu_from_attenuation(beam.fbp(sinogram, "soft"))
    r = radius_mm(beam)
    rings = [hu[(r >= low) & (r < low + 15)].mean() for low in (0, 20, 40, 60, 80)]
    assert np.abs(rings).max() < 1
    assert abs(hu[(r > 110) & (r < 125)].mean() + 1000) < 1
    assert (beam.fbp(sinogram)[r > 129] == 0).all()


@pytest.mark.parametrize("kernel", ["soft", "sharp"])
def test_water_and_inserts_have_their_hu(kernel: str) -> None:
    beam = ParallelBeam(256, 402, 1.0)
    hu = hu_from_attenuation(beam.fbp(beam.line_integrals(INSERTS_IN_WATER), kernel, 0.45))
    for level, seen in insert_means(beam, hu):
        assert seen == pytest.approx(level, abs=2)


def test_corners_do_not_fold_back() -> None:
    beam = ParallelBeam(64, 48, 1.0, detectors=95)
    image = np.zeros((64, 64))
    image[2, 2] = 1.0  # 41.7 mm from the axis: seen by the outer detectors only
    shadow = np.abs(beam.project(image))
    middle = np.abs(beam.positions) < 15
    at_45 = shadow[12]
    assert abs(beam.positions[at_45.argmax()] + 29.5 * np.sqrt(2)) <= 0.5
    assert at_45[middle].max() < 0.03 * at_45.max()


def test_reconstruction_undoes_projection_of_a_smooth_scene() -> None:
    beam = ParallelBeam(128, 220, 0.9, eps=1e-6)
    x = (np.arange(128) - 63.5) / 12
    scene = np.exp(-((x[:, None] - 1) ** 2) / 2 - (x[None] + 1.5) ** 2)
    assert np.abs(beam.fbp(beam.project(scene)) - scene).max() < 2e-3  # first axis u, second v: no transposition


# ---------------------------------------------------------------- differential


def test_error_against_the_phantom_is_below_that_of_scikit_image() -> None:
    n, views = 191, 288  # odd, so that both rotate about the same point
    beam = ParallelBeam(n, views, 2 / n)
    phantom, exact = rasterise(beam, SHEPP_LOGAN), beam.line_integrals(SHEPP_LOGAN)
    theta = np.degrees(beam.angles)
    # radon's first view runs down the first axis, ours along the second: a quarter turn between the conventions
    theirs_sinogram = radon(np.rot90(phantom), theta, circle=True)
    theirs = np.rot90(iradon(theirs_sinogram, theta, circle=True, filter_name="ramp"), -1)
    ours_sinogram = beam.project(phantom)
    ours = beam.fbp(ours_sinogram)
    inside = radius_mm(beam) < 0.98
    error = [float(np.sqrt(np.mean((x - phantom)[inside] ** 2))) for x in (ours, theirs)]
    assert error[0] <= error[1]
    sinogram_error = [relative_rms(x, exact) for x in (ours_sinogram, theirs_sinogram.T * beam.pixel)]
    assert sinogram_error[0] <= sinogram_error[1] < 0.02
    # No shift: the finest displacement that registers ours to the phantom is none.
    shift, _, _ = phase_cross_correlation(phantom * inside, ours * inside, upsample_factor=50)
    assert np.abs(shift).max() <= 0.02
    # No ring: around the axis, where a bad channel or a ramp without its mean would draw circles, means stay right.
    r, brain = radius_mm(beam), (phantom > 0.19) & (phantom < 0.21)
    rings = [
        [float((x - phantom)[brain & (r >= a) & (r < b)].mean()) for a, b in pairwise(np.linspace(0.05, 0.8, 16))]
        for x in (ours, theirs)
    ]
    assert np.abs(rings[0]).max() <= 0.01
    assert np.std(rings[0]) <= np.std(rings[1])


# ---------------------------------------------------------------- kernels


@pytest.mark.parametrize("kernel", KERNELS)
def test_measured_mtf_of_a_wire_is_the_kernels(kernel: str) -> None:
    beam = ParallelBeam(128, 210, 0.5, eps=1e-5)
    cutoff = 0.8 * beam.nyquist
    wire = np.zeros((128, 128))
    wire[64, 64] = 1
    seen = np.fft.fft2(beam.fbp(beam.project(wire), kernel, cutoff))
    frequency = np.abs(np.fft.fftfreq(128, beam.pixel))
    for axis in (0, 1):
        mtf = np.abs(np.take(seen, 0, axis=1 - axis))
        passed = (frequency < 0.9 * cutoff) & (frequency > 0)
        np.testing.assert_allclose(mtf[passed], kernel_mtf(kernel, frequency[passed], cutoff), atol=0.03)
        assert mtf[frequency > 1.1 * cutoff].max() < 0.05


def test_table_of_the_kernels_docstring() -> None:
    table = {
        "ramp": (7.0, 7.0),
        "shepp-logan": (7.0, 7.0),
        "cosine": (4.67, 6.55),
        "soft": (3.5, 5.57),
        "sharp": (5.53, 6.43),
    }
    assert set(table) == set(KERNELS)
    for kernel, (half, tenth) in table.items():
        assert mtf_frequency(kernel, 0.7, 0.5) == pytest.approx(half, abs=0.01)
        assert mtf_frequency(kernel, 0.7, 0.1) == pytest.approx(tenth, abs=0.01)
        assert kernel_mtf(kernel, 0.0, 0.7) == 1
    assert kernel_mtf("sharp", np.linspace(0, 0.7, 500), 0.7).max() == pytest.approx(1.28, abs=0.01)


# ---------------------------------------------------------------- noise and units


def test_water_is_that_of_nist_and_hu_go_there_and_back() -> None:
    assert water_attenuation(60) == pytest.approx(0.02059)
    assert water_attenuation(80) < water_attenuation(70) < water_attenuation(60)
    hu = np.array([-1000.0, -850.0, 0.0, 40.0, 1200.0])
    np.testing.assert_allclose(hu_from_attenuation(attenuation_from_hu(hu, 60), 60), hu, atol=1e-9)
    assert attenuation_from_hu(np.array(-1010.0)) == 0


@pytest.mark.parametrize("mean", [40.0, 900.0, 1e5])
def test_noise_has_the_moments_of_poisson_and_electronics(mean: float) -> None:
    p = np.full(400_000, 1.5)
    flux, electronic = mean * np.exp(1.5), 3.0
    counts = flux * np.exp(-add_noise(p, flux, electronic, rng_for(3, "moments", mean)).astype(float))
    sd = np.sqrt(mean + electronic**2)
    assert counts.mean() == pytest.approx(mean, abs=5 * sd / np.sqrt(p.size))
    assert counts.var() == pytest.approx(mean + electronic**2, rel=0.02)
    third = np.mean((counts - counts.mean()) ** 3) / sd**3  # a Poisson law's third moment is its mean
    assert third == pytest.approx(mean / sd**3, abs=0.02)


def test_starved_detectors_stay_finite() -> None:
    noisy = add_noise(np.full((50, 50), 14.0), 1e3, 2.0, rng_for(0, "starved"))
    assert np.isfinite(noisy).all()
    assert noisy.max() == pytest.approx(np.log(1e3 / 0.5), abs=1e-4)


def test_variance_falls_as_one_over_dose() -> None:
    """Slope of log variance over log dose -1 ± 0.03 over a decade, from more than 10⁴ independent samples a dose."""
    beam = ParallelBeam(128, 180, 1.5)
    clean = beam.line_integrals([Ellipse(WATER, radii=(80, 80))])
    apart = np.s_[..., 28:101:8, 28:101:8]  # 12 mm apart, where this kernel's noise is no longer correlated
    doses = np.geomspace(2e4, 2e5, 5)  # the darkest ray keeps 900 photons: none starves
    variances = []
    for dose in doses:
        noise = [
            beam.fbp(add_noise(clean, dose, 0, rng_for(k, "dose", dose)) - clean, "soft", 0.3)[apart]
            for k in range(102)
        ]
        variances.append(np.var(noise, axis=0, ddof=1).mean())
    assert np.size(noise) > 10_000
    slope = np.polyfit(np.log(doses), np.log(variances), 1)[0]
    assert slope == pytest.approx(-1, abs=0.03)


@pytest.mark.parametrize("kernel", KERNELS)
def test_noise_power_is_the_ramp_times_the_squared_mtf(kernel: str) -> None:
    beam = ParallelBeam(128, 210, 1.0)
    noise = 0.01 * rng_for(5, "power").standard_normal((24, 210, 128))
    patch = beam.fbp(noise, kernel)[:, 32:96, 32:96] * np.hanning(64)[:, None] * np.hanning(64)
    power = (np.abs(np.fft.fft2(patch)) ** 2).mean(axis=0)
    f = np.hypot(*np.meshgrid(*[np.fft.fftfreq(64, beam.pixel)] * 2))
    edges = np.linspace(0.06, 0.42, 10)
    spectrum = np.array([power[(f >= a) & (f < b)].mean() for a, b in pairwise(edges)])
    law = np.array([(f * kernel_mtf(kernel, f, 0.5) ** 2)[(f >= a) & (f < b)].mean() for a, b in pairwise(edges)])
    np.testing.assert_allclose(spectrum / spectrum.sum(), law / law.sum(), rtol=0.15, atol=0.004)


# ---------------------------------------------------------------- use


def test_batches_equal_single_images() -> None:
    beam = ParallelBeam(48, 40, 1.0)
    images = rng_for(1, "batch").random((2, 3, 48, 48))
    sinograms = beam.project(images)
    assert sinograms.shape == (2, 3, 40, 48)
    np.testing.assert_array_equal(sinograms[1, 2], beam.project(images[1, 2]))
    np.testing.assert_array_equal(beam.fbp(sinograms)[1, 2], beam.fbp(sinograms[1, 2]))
    assert beam.project(images[:0]).shape == (0, 3, 40, 48)


def _project(job: tuple[ParallelBeam, np.ndarray]) -> np.ndarray:
    return job[0].fbp(job[0].project(job[1]))


def test_threads_and_processes_give_the_same_bytes() -> None:
    beam = pickle.loads(pickle.dumps(ParallelBeam(64, 60, 1.0)))
    assert beam == ParallelBeam(64, 60, 1.0)
    jobs = [(beam, rng_for(i, "job").random((64, 64))) for i in range(8)]
    alone = [_project(job) for job in jobs]
    with ThreadPoolExecutor(4) as threads:
        np.testing.assert_array_equal(list(threads.map(_project, jobs)), alone)
    with ProcessPoolExecutor(1, get_context("spawn")) as processes:
        np.testing.assert_array_equal(processes.submit(_project, jobs[0]).result(), alone[0])


def test_plans_are_reused_and_their_number_is_bounded() -> None:
    image = np.ones((32, 32))
    for views in range(20, 20 + 2 * fourier_slices.PLANS_KEPT):
        ParallelBeam(32, views, 1.0).project(image)
    kept = fourier_slices._plans.kept
    assert len(kept) == fourier_slices.PLANS_KEPT
    before = dict(kept)
    ParallelBeam(32, 20 + 2 * fourier_slices.PLANS_KEPT - 1, 0.4).project(image)  # another pixel size: same transform
    assert dict(kept) == before


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"size": 4}, "size = 4 is not possible; legal: 8 to 100000 pixels"),
        ({"views": 0}, "views = 0 .* legal: 1 to"),
        ({"pixel": 0.0}, "pixel = 0.0 .* legal: 1e-06"),
        ({"pixel": float("inf")}, "pixel = inf"),
        ({"detectors": 20}, "detectors = 20 .* legal: 32 to"),
        ({"eps": 1e-12}, "eps = 1e-12 .* legal: 1e-08 to 0.1"),
    ],
)
def test_parameters_out_of_range_are_refused(fields: dict[str, float], says: str) -> None:
    with pytest.raises(PlanError, match=says):
        ParallelBeam(**{"size": 32, "views": 20, "pixel": 1.0, **fields})  # type: ignore[arg-type]


def test_unusable_data_are_refused_with_what_is_needed() -> None:
    beam = ParallelBeam(32, 20, 1.0)
    nan = np.zeros((32, 32))
    nan[3, 3] = np.nan
    stream = rng_for(0, "bad")
    bad: list[tuple[type[EquipoiseError], str, object]] = [
        (DataError, r"shape \(\.\.\., 32, 32\)", lambda: beam.project(np.zeros((31, 32)))),
        (DataError, r"shape \(\.\.\., 20, 32\)", lambda: beam.fbp(np.zeros((32, 20)))),
        (DataError, "must be real", lambda: beam.project(np.zeros((32, 32), complex))),
        (DataError, "NaN", lambda: beam.project(nan)),
        (
            PlanError,
            "legal: ramp, shepp-logan, cosine, soft, sharp. Did you mean 'sharp'",
            lambda: beam.fbp(np.zeros((20, 32)), "sharpe"),
        ),
        (PlanError, "cutoff", lambda: beam.fbp(np.zeros((20, 32)), cutoff=0.0)),
        (PlanError, "photons must be above 0", lambda: add_noise(np.zeros(3), 0, 0, stream)),
        (PlanError, "electronic_sd", lambda: add_noise(np.zeros(3), 1e4, -1, stream)),
        (DataError, "NaN", lambda: add_noise(nan, 1e4, 0, stream)),
        (PlanError, "kev = 10 .* legal: 30 to 150 keV", lambda: water_attenuation(10)),
        (PlanError, "level", lambda: mtf_frequency("soft", 0.7, 1.5)),
    ]
    for error, says, call in bad:
        with pytest.raises(error, match=says):
            call()  # type: ignore[operator]

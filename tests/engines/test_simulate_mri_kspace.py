"""k-space, noise and fields against closed forms; the fused random-contrast kernel against plain numpy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from scipy import ndimage, special

from equipoise.core import rng_for
from equipoise.engines.imaging.simulate_mri.fields import (
    coil_field,
    draw_bias,
    polynomial_field,
    random_field,
    transmit_field,
)
from equipoise.engines.imaging.simulate_mri.kspace import Sampling, measure
from equipoise.engines.imaging.simulate_mri.learned import acquired_share, noise_of
from equipoise.engines.imaging.simulate_mri.motion import Pose, moved, turned
from equipoise.engines.imaging.simulate_mri.randomised import Look, random_contrast
from equipoise.engines.imaging.simulate_mri.scene import along, slicing
from equipoise.engines.parts.warp import node_counts, warp
from equipoise.errors import PlanError

WHOLE = Sampling()


def blob(shape: tuple[int, int, int] = (32, 36, 20)) -> np.ndarray:
    axes = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    inside = (axes[0] / 0.6) ** 2 + (axes[1] / 0.7) ** 2 + (axes[2] / 0.8) ** 2 < 1
    return np.asarray(inside * (1 + 0.3 * np.sin(9 * axes[0]) + 0.2 * axes[1]), np.float32)


def quiet(image: np.ndarray, sampling: Sampling = WHOLE) -> np.ndarray:
    return measure(image, sampling, 0.0, 1, None)


def test_a_whole_k_space_gives_the_object_back() -> None:
    np.testing.assert_allclose(quiet(blob()), blob(), atol=1e-6)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("zero_filled", [8, 16, 32])
def test_gibbs_overshoot_of_a_straight_edge(zero_filled: int, axis: int) -> None:
    n = 4096
    edge = np.zeros((n, 2, 2), np.float32)
    edge[n // 4 : 3 * n // 4] = 1
    shape = [1.0, 1.0, 1.0]
    shape[axis] = 1 / zero_filled
    edge = np.ascontiguousarray(np.moveaxis(edge, 0, axis))
    ringing = quiet(edge, Sampling(resolution=(shape[0], shape[1], shape[2])))
    assert 100 * (ringing.max() - 1) == pytest.approx(8.9, abs=0.3)  # Wilbraham and Gibbs: 8.949 % of the step
    tapered = quiet(edge, Sampling(resolution=(shape[0], shape[1], shape[2]), taper=1.0))
    assert tapered.max() - 1 < 0.02


def ramp(shape: tuple[int, ...], shift: tuple[float, float, float]) -> np.ndarray:
    total: np.ndarray = np.zeros((1, 1, 1))
    for axis, (n, s) in enumerate(zip(shape, shift, strict=True)):
        total = total + (np.fft.fftfreq(n) * s).reshape([-1 if a == axis else 1 for a in range(3)])
    return np.asarray(np.exp(-2j * np.pi * total))


def without_unpaired(spectrum: np.ndarray) -> np.ndarray:
    """Leave out the highest frequency of an even axis, which stands for both signs at once."""
    out = spectrum.copy()
    for axis, n in enumerate(out.shape):
        if n % 2 == 0:
            out[tuple(n // 2 if a == axis else slice(None) for a in range(3))] = 0
    return out


@pytest.mark.parametrize("shift", [(3.0, 0.0, 0.0), (0.0, -5.0, 2.0), (1.3, -2.7, 0.4)])
def test_motion_equals_the_shift_theorem(shift: tuple[float, float, float]) -> None:
    image = blob()
    expected = np.fft.fftn(image) * ramp(image.shape, shift)
    found = np.fft.fftn(moved(image, (Pose(0.0, shift),), 1))
    np.testing.assert_allclose(without_unpaired(found), without_unpaired(expected), atol=2e-5 * np.abs(expected).max())


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_motion_between_lines_mixes_two_shifted_k_spaces(axis: int) -> None:
    image, shift, n = blob(), (2.5, -1.5, 1.0), blob().shape[axis]
    still = np.fft.fftn(image)
    later = np.argsort(np.argsort(np.fft.fftfreq(n), kind="stable"), kind="stable") >= round(0.4 * n)
    after = later.reshape([-1 if a == axis else 1 for a in range(3)])
    expected = np.where(after, still * ramp(image.shape, shift), still)
    found = np.fft.fftn(moved(image, (Pose(0.0), Pose(0.4, shift)), axis))
    np.testing.assert_allclose(without_unpaired(found), without_unpaired(expected), atol=2e-5 * np.abs(still).max())


def test_a_whole_shift_rolls_the_image() -> None:
    image = blob()
    rolled = quiet(image, Sampling(poses=(Pose(0.0, (4.0, -3.0, 2.0)),)))
    np.testing.assert_allclose(rolled, np.roll(image, (4, -3, 2), (0, 1, 2)), atol=1e-5)


def test_a_turn_is_that_of_scipy() -> None:
    image = ndimage.gaussian_filter(blob((40, 40, 24)), 1.5)
    for axes, degrees in (((1, 2), (12.0, 0, 0)), ((0, 2), (0, 7.0, 0)), ((0, 1), (0, 0, -20.0))):
        expected = [ndimage.rotate(image, s * sum(degrees), axes, reshape=False, order=1) for s in (1, -1)]
        found = turned(image, degrees)
        assert min(np.abs(found - e)[4:-4, 4:-4, 4:-4].max() for e in expected) < 1e-3


def test_a_turn_that_leaves_the_grid_stays_finite() -> None:
    image = blob((6, 40, 9))
    found = turned(image, (80.0, 170.0, 60.0), (30.0, -50.0, 4.0))
    assert np.isfinite(found).all()
    assert found.min() >= 0
    assert found.max() <= image.max()


@pytest.mark.parametrize("signal", [0.0, 0.5, 1.0, 2.0, 5.0])
def test_rician_mean_and_variance(signal: float) -> None:
    sd = 0.8
    shown = measure(np.full((64, 64, 64), signal, np.float32), WHOLE, sd, 1, rng_for(1, signal)).astype(float)
    x = -(signal**2) / (2 * sd**2)
    # Laguerre polynomial of order 1/2: Gudbjartsson and Patz 1995.
    laguerre = np.exp(x / 2) * ((1 - x) * special.iv(0, -x / 2) - x * special.iv(1, -x / 2))
    mean = sd * np.sqrt(np.pi / 2) * laguerre
    variance = 2 * sd**2 + signal**2 - mean**2
    count = shown.size
    assert shown.mean() == pytest.approx(mean, abs=5 * np.sqrt(variance / count))
    assert shown.var() == pytest.approx(variance, rel=0.015)


@pytest.mark.parametrize("channels", [2, 4])
def test_several_channels_give_non_central_chi_noise(channels: int) -> None:
    sd, signal = 0.7, 1.5
    shown = measure(np.full((48, 48, 48), signal, np.float32), WHOLE, sd, channels, rng_for(2, channels)).astype(float)
    # The second moment of a non-central chi law: A^2 + 2 L sd^2 (Constantinides 1997).
    assert np.square(shown).mean() == pytest.approx(signal**2 + 2 * channels * sd**2, rel=0.01)
    empty = measure(np.zeros((48, 48, 48), np.float32), WHOLE, sd, channels, rng_for(3, channels)).astype(float)
    chi = sd * np.sqrt(2) * special.gamma(channels + 0.5) / special.gamma(channels)
    assert empty.mean() == pytest.approx(chi, rel=0.01)


def test_noise_of_zero_filled_pictures_is_less_and_smoother() -> None:
    flat = np.full((48, 48, 48), 20.0, np.float32)
    whole = measure(flat, WHOLE, 1.0, 1, rng_for(0, "n"))
    coarse = measure(flat, Sampling(resolution=(0.5, 0.5, 0.5)), 1.0, 1, rng_for(0, "n"))
    share = (2 * 11 + 1) ** 3 / 48**3  # lines below half of the highest frequency, on both sides and zero
    assert coarse.std() == pytest.approx(whole.std() * np.sqrt(share), rel=0.1)
    neighbours = [np.corrcoef(x[:-1].ravel(), x[1:].ravel())[0, 1] for x in (whole, coarse)]
    assert neighbours[0] < 0.05
    assert neighbours[1] > 0.5


def test_ghosts_lie_where_the_modulation_says() -> None:
    image = np.zeros((32, 48, 1), np.float32)
    image[12:20, 4:10] = 1.0
    for period in (2, 4):
        shown = quiet(image, Sampling(axes=(0, 1), phase_axis=1, ghost=0.2, ghost_period=period))
        ghost = np.roll(image, 48 // period, 1) > 0
        # Every second line weakened is one ghost of the full modulation, a slower beat two of half.
        assert shown[ghost].mean() == pytest.approx(0.2 if period == 2 else 0.1, abs=1e-3)


def test_a_spike_adds_one_wave_of_its_strength() -> None:
    image = np.full((32, 32, 1), 1.0, np.float32)
    at = ((20.5 / 32, 16.5 / 32, 0.0), 0.3)  # four cycles across I
    shown = quiet(image, Sampling(axes=(0, 1), spikes=(at,)))
    i = np.arange(32)[:, None, None]
    np.testing.assert_allclose(
        shown, np.abs(1 + 0.3 * np.exp(2j * np.pi * 4 * i / 32)) * np.ones_like(image), atol=1e-5
    )


def test_partial_fourier_blurs_along_the_phase_axis_only() -> None:
    edge = np.zeros((48, 48, 1), np.float32)
    edge[16:32] = 1.0
    for axis in (0, 1):
        image = np.ascontiguousarray(np.moveaxis(edge, 0, axis))
        partial = Sampling(axes=(0, 1), phase_axis=axis, partial_fourier=0.6)
        assert np.abs(np.diff(quiet(image, partial), axis=axis)).max() < 0.9  # the step is spread over two voxels
        across = Sampling(axes=(0, 1), phase_axis=1 - axis, partial_fourier=0.6)
        np.testing.assert_allclose(quiet(image, across), image, atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "parameter"),
    [
        ({"resolution": (0.0, 1.0, 1.0)}, "resolution"),
        ({"partial_fourier": 0.4}, "partial_fourier"),
        ({"taper": 1.5}, "taper"),
        ({"ghost": -0.1}, "ghost"),
        ({"ghost_period": 1}, "ghost_period"),
        ({"poses": (Pose(1.5),)}, "pose.start"),
    ],
)
def test_impossible_sampling_is_refused(arguments: dict[str, object], parameter: str) -> None:
    with pytest.raises(PlanError, match=f"{parameter}.*legal"):
        Sampling(**arguments)  # type: ignore[arg-type]


@hypothesis_settings(max_examples=30)
@given(
    st.tuples(st.integers(1, 17), st.integers(4, 20), st.integers(1, 12)),
    st.tuples(*[st.floats(0.05, 1.0)] * 3),
    st.floats(0.5, 1.0),
    st.floats(0.0, 1.0),
    st.floats(0.0, 1.0),
    st.lists(st.tuples(st.floats(0, 1), st.floats(-20, 20), st.floats(-90, 90)), max_size=3),
    st.sampled_from([0, 1]),
    st.integers(0, 2**31),
)
def test_whatever_is_sampled_is_a_finite_magnitude(
    shape: tuple[int, int, int],
    resolution: tuple[float, float, float],
    partial: float,
    taper: float,
    ghost: float,
    moves: list[tuple[float, float, float]],
    phase_axis: int,
    seed: int,
) -> None:
    rng = np.random.default_rng(seed)
    poses = tuple(Pose(a, (b, -b, 0.5 * b), (c, 0.3 * c, -c)) for a, b, c in sorted(moves))
    sampling = Sampling((0, 1, 2), phase_axis, resolution, partial, taper, ghost, 3, (((0.3, 0.9, 0.5), 0.4),), poses)
    image = rng.random(shape, np.float32)
    shown = measure(image, sampling, 0.1, 2, rng)
    assert shown.shape == shape
    assert shown.dtype == np.float32
    assert np.isfinite(shown).all()
    assert shown.min() >= 0


# ---------------------------------------------------------------- fields


def test_polynomial_field_is_the_polynomial() -> None:
    shape, c = (7, 9, 5), rng_for(0, "c").normal(size=(3, 4, 2))
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    expected = np.polynomial.polynomial.polyval3d(x, y, z, c)
    np.testing.assert_allclose(polynomial_field(shape, c, exponential=False), expected, atol=2e-6)
    np.testing.assert_allclose(polynomial_field(shape, c), np.exp(expected), rtol=2e-5)
    flat = polynomial_field((7, 9, 1), c)
    np.testing.assert_allclose(
        flat[..., 0], np.exp(np.polynomial.polynomial.polyval2d(x[..., 0], y[..., 0], c[..., 0])), rtol=2e-5
    )


def test_bias_has_no_constant_and_no_high_order() -> None:
    c = draw_bias(0.5, rng_for(0, "b"))
    degree = np.indices(c.shape).sum(axis=0)
    assert c[0, 0, 0] == 0
    assert (c[degree > 3] == 0).all()
    assert np.abs(c).max() <= 0.5
    assert (c[(degree > 0) & (degree <= 3)] != 0).all()


def test_random_field_has_unit_variance_and_its_grain() -> None:
    fields = np.stack([random_field((48, 48, 48), (1.0, 1.0, 1.0), g, rng_for(0, g)) for g in (4.0, 12.0)])
    assert fields[0].std() == pytest.approx(1, rel=0.1)
    steps = [float(np.diff(f, axis=0).std()) for f in fields]
    assert steps[0] == pytest.approx(3 * steps[1], rel=0.3)  # three times finer, three times steeper


def test_coils_are_brighter_at_the_border_and_a_volume_coil_is_even() -> None:
    field = coil_field((40, 40, 20), (5.0, 5.0, 5.0), 8, 1.0)
    assert field.mean() == pytest.approx(1, abs=1e-5)
    assert field[0, 20, 10] > 1.2 * field[20, 20, 10]
    assert (coil_field((8, 8, 4), (1.0, 1.0, 1.0), 1, 1.0) == 1).all()


def test_transmit_field_swings_more_at_high_field() -> None:
    swings = [np.ptp(transmit_field((40, 48, 40), (5.0, 5.0, 5.0), t, rng_for(0, "t"))) for t in (0.5, 1.5, 3.0, 7.0)]
    assert swings == sorted(swings)
    assert 0.1 < swings[2] < 0.8


# ---------------------------------------------------------------- slices


def test_slices_keep_the_mean_and_a_line() -> None:
    cut, back = slicing(40, 1.0, 4.0, 1.0)
    assert cut.shape == (8, 40)
    np.testing.assert_allclose(cut.sum(axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(back.sum(axis=1), 1, atol=1e-6)
    line = np.arange(40, dtype=np.float32)
    np.testing.assert_allclose((back @ (cut @ line))[3:-3], line[3:-3], atol=1e-3)
    one, _ = slicing(10, 3.0, 2.5, 0.2)
    np.testing.assert_array_equal(one, np.eye(10))
    image = blob()
    np.testing.assert_allclose(along(np.eye(36, dtype=np.float32), image, 1), image)


# ---------------------------------------------------------------- what is learned


def test_noise_is_read_off_an_image() -> None:
    smooth = ndimage.gaussian_filter(rng_for(0, "s").normal(size=(40, 40, 30)), 4)
    for sd in (0.01, 0.1):
        noisy = smooth / smooth.std() + sd * rng_for(1, sd).normal(size=smooth.shape)
        assert noise_of(noisy) == pytest.approx(sd, rel=0.1)
    assert noise_of(np.zeros((5, 5, 5))) == 0.0


@pytest.mark.parametrize("share", [0.5, 0.75, 1.0])
def test_zero_filling_is_seen(share: float) -> None:
    image = measure(blob((64, 64, 32)), Sampling(resolution=(share, 1.0, 1.0)), 0.02, 1, rng_for(0, share))
    assert acquired_share(image, 0) == pytest.approx(share, abs=0.08)


# ---------------------------------------------------------------- random contrast


def labels_of(shape: tuple[int, int, int] = (24, 28, 20)) -> np.ndarray:
    return (3 * random_field(shape, (1, 1, 1), 6.0, rng_for(0, "l")) + 3).clip(0, 5).astype(np.uint8)


MEAN, NONE = np.array([0.0, 0.9, 0.3, 0.6, 0.45, 0.75]), np.zeros(6)


def test_without_anything_random_a_picture_is_its_labels_means() -> None:
    labels = labels_of()
    image, seen = random_contrast(labels, labels.shape, Look(MEAN, NONE), rng_for(0, "p"))
    np.testing.assert_array_equal(seen, labels)
    np.testing.assert_allclose(image, MEAN[labels], atol=1e-5)


@pytest.mark.parametrize("flat", [False, True])
def test_labels_go_where_warp_sends_them(flat: bool) -> None:
    labels = labels_of((24, 28, 1) if flat else (24, 28, 20))
    step = (6.0, 7.0, 5.0)
    rng = rng_for(1, flat)
    nodes = rng.uniform(-1.5, 1.5, (3, *node_counts(labels.shape, step))).astype(np.float32)
    matrix, offset = np.eye(3), np.zeros(3)
    turn = 0.1
    matrix[:2, :2] = [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
    offset[:2] = (2.0, -1.0)
    look = Look(MEAN, NONE, matrix, offset, nodes, step)
    _, seen = random_contrast(labels, labels.shape, look, rng_for(0, "p"))
    _, expected = warp(
        np.zeros((1, *labels.shape), np.float32), labels[None], labels.shape, matrix, offset, nodes, step
    )
    inner = (slice(5, -5), slice(5, -5), slice(None) if flat else slice(4, -4))
    # The two differ at the border, which one mirrors and the other continues, and by rounding of halves.
    assert (seen[inner] == expected[0][inner]).mean() > 0.998


def test_grey_values_bias_gamma_and_noise_are_as_stated() -> None:
    labels = np.ones((40, 40, 40), np.uint8)
    mean, sd = np.array([0.0, 0.5]), np.array([0.0, 0.08])
    plain = Look(mean, sd)
    image, _ = random_contrast(labels, labels.shape, plain, rng_for(0, "p"))
    assert image.mean() == pytest.approx(0.5, abs=0.002)
    assert image.std() == pytest.approx(0.08, rel=0.02)
    bent, _ = random_contrast(labels, labels.shape, replace(plain, sd=NONE[:2], gamma=2.0), rng_for(0, "p"))
    np.testing.assert_allclose(bent, 0.25, atol=1e-4)
    bias = draw_bias(0.3, rng_for(0, "b"))
    uneven, _ = random_contrast(labels, labels.shape, replace(plain, sd=NONE[:2], bias=bias), rng_for(0, "p"))
    np.testing.assert_allclose(uneven, np.minimum(0.5 * polynomial_field(labels.shape, bias), 1), atol=1e-4)
    noisy, _ = random_contrast(labels, labels.shape, replace(plain, sd=NONE[:2], noise=0.05), rng_for(0, "p"))
    assert noisy.std() == pytest.approx(0.05, rel=0.02)
    soft, _ = random_contrast(labels, labels.shape, replace(plain, blur=(1.0, 1.0, 1.0)), rng_for(0, "p"))
    assert soft.std() < 0.3 * image.std()
    coarse, _ = random_contrast(labels, labels.shape, replace(plain, coarse=(1.0, 1.0, 4.0)), rng_for(0, "p"))
    assert np.abs(np.diff(coarse, 2, axis=2)).mean() < 0.6 * np.abs(np.diff(image, 2, axis=2)).mean()

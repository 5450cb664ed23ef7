from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage, stats

from equipoise.core import Case, Geometry, Image, LabelMap, LabelScheme, rng_for
from equipoise.core.registry import parameters
from equipoise.engines.anatomy.torso import Torso
from equipoise.engines.imaging.simulate_xray import SimulateXRay
from equipoise.engines.imaging.simulate_xray import detector as chain
from equipoise.engines.imaging.simulate_xray import projection_on_device as on_device
from equipoise.engines.imaging.simulate_xray.film import cast
from equipoise.engines.imaging.simulate_xray.film_tissue import FilmTissue, noise_of
from equipoise.engines.imaging.simulate_xray.projection import VIEWS, Beam, LabelRays, View, oriented, project
from equipoise.engines.imaging.simulate_xray.rooms import ROOMS, Exposure
from equipoise.engines.parts.placement import Placement
from equipoise.engines.parts.spectrum import MATERIALS, Spectrum, mass_attenuation, transmission
from equipoise.engines.parts.value_map import value_map
from equipoise.errors import DataError, EngineError, EquipoiseError, GeometryMismatchError, LabelError, PlanError
from equipoise.testing.engine_contract import EngineContract, phantom_cases

SMALL = {"kind": "torso", "size": (56, 40, 52), "spacing": (8.0, 8.0, 8.0), "vessel_ends": 20}
ENGINE = SimulateXRay(size=(48, 48), anatomy=SMALL)
BEAM = Beam(1000.0, 200.0, (61, 57), 3.1, turn=7.0, tilt=-4.0, shift_mm=(9.0, -6.0))


@pytest.fixture(scope="module")
def torso() -> LabelMap:
    return next(Torso(size=(110, 80, 104), spacing=(4.0, 4.0, 4.0), vessel_ends=100).draw(1, rng_for(1, "torso")))


def grid(shape: Sequence[int], spacing: Sequence[float]) -> list[np.ndarray]:
    axes = [(np.arange(n) - (n - 1) / 2) * d for n, d in zip(shape, spacing, strict=True)]
    return list(np.meshgrid(*axes, indexing="ij", sparse=True))


def rays(beam: Beam) -> tuple[np.ndarray, np.ndarray]:
    """Source, and direction of each ray (unit vectors, columns x rows x 3)."""
    source, first, column, row = beam.rays()
    u, v = np.meshgrid(np.arange(beam.shape[0]), np.arange(beam.shape[1]), indexing="ij")
    to = first + u[..., None] * column + v[..., None] * row - source
    return source, to / np.linalg.norm(to, axis=2, keepdims=True)


def through_sphere(beam: Beam, centre: Sequence[float], radius: float) -> np.ndarray:
    source, way = rays(beam)
    along = way @ (np.asarray(centre) - source)
    miss = np.sum((np.asarray(centre) - source) ** 2) - along**2
    return np.asarray(2 * np.sqrt(np.maximum(radius**2 - miss, 0)))


def through_box(beam: Beam, low: Sequence[float], high: Sequence[float]) -> np.ndarray:
    source, way = rays(beam)
    one, two = (np.asarray(low) - source) / way, (np.asarray(high) - source) / way
    return np.asarray(np.maximum(np.maximum(one, two).min(axis=2) - np.minimum(one, two).max(axis=2), 0))


# ---------------------------------------------------------------- rays


@pytest.mark.parametrize("toward", [1, -1])
@pytest.mark.parametrize("turn", [0.0, 7.0, -20.0])
def test_the_way_through_a_sphere(turn: float, toward: int) -> None:
    beam = replace(BEAM, turn=turn, toward=toward)
    spacing = (1.0, 1.25, 0.9)
    x, y, z = grid((130, 110, 150), spacing)
    centre, radius = (5.0, -6.0, 4.0), 50.0
    away = np.sqrt((x - centre[0]) ** 2 + (y - centre[1]) ** 2 + (z - centre[2]) ** 2)
    exact = through_sphere(beam, centre, radius)
    full = exact > radius  # the rim is a step of the voxel's size
    assert full.sum() > 100
    ours = LabelRays.of((away <= radius).astype(np.uint8), spacing).thickness(beam, 2)[..., 1]
    partial = np.clip((radius - away) / 1.05 + 0.5, 0, 1).astype(np.float32)
    smooth = project(partial, spacing, beam)
    assert np.sqrt(np.mean((ours - exact)[full] ** 2)) < 0.005 * 2 * radius
    assert np.abs(smooth - exact)[full].max() < 0.005 * 2 * radius
    assert ours.sum() == pytest.approx(exact.sum(), rel=0.005)
    assert smooth.sum() == pytest.approx(exact.sum(), rel=0.005)
    assert not ours[exact == 0].sum() > 0.002 * ours.sum()


def test_the_way_through_boxes_beside_each_other() -> None:
    spacing, shape = (2.0, 1.5, 1.0), (60, 80, 110)
    values = np.zeros(shape, np.uint8)
    values[10:50, 20:50, 20:90] = 1
    values[10:50, 50:60, 20:90] = 2
    low = [(n - (s - 1) / 2 - 0.5) * d for n, s, d in zip((10, 20, 20), shape, spacing, strict=True)]
    high = [(n - (s - 1) / 2 - 0.5) * d for n, s, d in zip((50, 50, 90), shape, spacing, strict=True)]
    beam = replace(BEAM, turn=0.0, tilt=0.0, shape=(48, 48), pixel_mm=1.5)
    got = LabelRays.of(values, spacing).thickness(beam, 3)
    one = through_box(beam, low, high)
    two = through_box(beam, [low[0], high[1], low[2]], [high[0], high[1] + 15, high[2]])
    # Within a voxel of the sides, neighbours share a ray: those rays are left out.
    narrow = through_box(beam, [low[0] + 2, low[1], low[2] + 1], [high[0] - 2, high[1] + 15, high[2] - 1])
    inside = narrow > 0.999 * (45 + 15)
    assert inside.mean() > 0.5
    np.testing.assert_allclose(got[..., 1][inside], one[inside], rtol=0.005)
    np.testing.assert_allclose(got[..., 2][inside], two[inside], rtol=0.005)
    assert (got[..., 0] == 0).all()


def test_every_millimetre_belongs_to_one_structure(torso: LabelMap) -> None:
    values = torso.voxels.values  # type: ignore[attr-defined]
    turned, spacing, toward = oriented(values, torso.affine, "AP")
    beam = replace(BEAM, toward=toward, pixel_mm=7.0)
    each = LabelRays.of(turned, spacing).thickness(beam, 256)
    body = project((turned > 0).astype(np.float32), spacing, beam)
    np.testing.assert_allclose(each.sum(axis=2), body, rtol=1e-4, atol=1e-2)


def test_columns_in_parts_are_the_whole(torso: LabelMap) -> None:
    turned, spacing, _ = oriented(torso.voxels.values, torso.affine, "PA")  # type: ignore[attr-defined]
    cells = LabelRays.of(turned, spacing)
    whole = cells.thickness(BEAM, 200)
    np.testing.assert_array_equal(whole[20:31], cells.thickness(BEAM, 200, (20, 31)))


def test_magnification() -> None:
    x, y, z = grid((80, 80, 80), (1.0, 1.0, 1.0))
    ball = (x**2 + y**2 + z**2 <= 20**2).astype(np.uint8)
    beam = Beam(1500.0, 300.0, (200, 200), 0.5)
    way = LabelRays.of(ball, (1.0, 1.0, 1.0)).thickness(beam, 2)[..., 1]
    # Rays run half a diameter through the sphere at a distance of √3/2 radii from its centre.
    radius = np.sqrt((way > 20).sum() * 0.25 / np.pi)
    assert radius == pytest.approx(1.2 * 20 * np.sqrt(3) / 2, rel=0.01)
    assert beam.magnification == pytest.approx(1.2)


def test_any_ray_of_a_line_of_sight_is_joseph_s(torso: LabelMap) -> None:
    """Against a plain implementation, written from the definition."""
    rng = rng_for(0, "joseph")
    volume = rng.random((13, 17, 15)).astype(np.float32)
    spacing = np.array([2.0, 1.5, 3.0])
    beam = Beam(90.0, 40.0, (9, 7), 4.0, -1, 11.0, 6.0, (3.0, -2.0))
    source, way = rays(beam)
    want = np.zeros(beam.shape)
    for u in range(9):
        for v in range(7):
            for n in range(17):
                t = ((n - 8) * 1.5 - source[1]) / way[u, v, 1]
                at = (source + t * way[u, v]) / spacing + (np.array(volume.shape) - 1) / 2
                i, k = int(np.floor(at[0])), int(np.floor(at[2]))
                for di in (0, 1):
                    for dk in (0, 1):
                        if 0 <= i + di < 13 and 0 <= k + dk < 15:
                            share = (1 - abs(at[0] - i - di)) * (1 - abs(at[2] - k - dk))
                            want[u, v] += share * volume[i + di, n, k + dk] * 1.5 / abs(way[u, v, 1])
    np.testing.assert_allclose(project(volume, (2.0, 1.5, 3.0), beam), want, rtol=1e-4, atol=1e-4)


def test_agreement_with_diffdrr() -> None:
    renderers = pytest.importorskip("diffdrr.renderers", reason="DiffDRR is a development oracle")
    torch = pytest.importorskip("torch")
    x, y, z = grid((64, 64, 64), (2.0, 2.0, 2.0))
    values = (x**2 + y**2 + z**2 <= 45**2).astype(np.uint8) + ((x - 10) ** 2 + y**2 + z**2 <= 24**2)
    beam = Beam(900.0, 150.0, (96, 96), 1.5, turn=5.0)
    source, first, column, row = beam.rays()
    u, v = np.meshgrid(np.arange(96), np.arange(96), indexing="ij")
    target = (first + u[..., None] * column + v[..., None] * row).reshape(-1, 3)
    # Voxels, as DiffDRR counts them: centres at whole numbers.
    to = [torch.tensor(p / 2.0 + 31.5, dtype=torch.float64)[None] for p in (source[None], target)]
    length = torch.tensor(np.linalg.norm(target - source, axis=1))[None, None]
    density, mask = torch.ones(64, 64, 64, dtype=torch.float64), torch.tensor(values, dtype=torch.float64)
    drr = renderers.Siddon()(density, to[0], to[1], length, mask=mask)[0].numpy().reshape(-1, 96, 96)
    ours = LabelRays.of(values.astype(np.uint8), (2.0, 2.0, 2.0)).thickness(beam, 3)
    for label in (1, 2):
        difference = ours[..., label] - drr[label]
        # Both are exact but for how they treat a voxel's border: up to half a voxel (1 mm) at each of a ray's ends.
        assert np.sqrt(np.mean(difference**2)) < 1.5
        assert ours[..., label].sum() == pytest.approx(drr[label].sum(), rel=0.01)


# ---------------------------------------------------------------- other devices


def agree(ours: np.ndarray, theirs: np.ndarray) -> None:
    """Ways on another device are those of the CPU, but where a ray runs along an edge."""
    far = np.abs(ours - theirs) > on_device.AGREES_MM
    assert ours.max() > 50
    assert far.mean() <= on_device.EDGES


@pytest.mark.parametrize("view", VIEWS)
def test_ways_through_torch_are_those_of_the_cpu(torso: LabelMap, view: View) -> None:
    pytest.importorskip("torch")
    objects, _ = value_map(torso)
    turned, spacing, toward = oriented(objects.values, torso.affine, view)
    beam = replace(BEAM, pixel_mm=7.1, toward=toward)
    made, count = LabelRays.of(turned, spacing), len(objects.channel)
    theirs = on_device.thickness_on("cpu", made.padded, made.spacing, beam.rays(), beam.shape, count)
    agree(made.thickness(beam, count), theirs)


@pytest.mark.parametrize("name", ["gpu", "cuda:", "cuda:x", "mps", ""])
def test_a_device_that_cannot_be_is_refused(name: str) -> None:
    with pytest.raises(PlanError, match=r"simulate-xray\.device = .* legal: 'cpu', 'cuda'"):
        SimulateXRay(device=name)


def test_a_device_that_is_not_there_is_named(torso: LabelMap) -> None:
    torch = pytest.importorskip("torch")
    absent = f"cuda:{torch.cuda.device_count()}"
    with pytest.raises(EngineError, match=f"'{absent}' and PyTorch finds .* CUDA device.*\n.*set device = 'cpu'"):
        list(replace(ENGINE, device=absent).sample(1, rng_for(0, "s"), [torso]))


def test_torch_is_imported_only_where_it_is_asked_for() -> None:
    code = (
        "import sys; from equipoise.core import rng_for; "
        "from equipoise.engines.imaging.simulate_xray import SimulateXRay; "
        f"list(SimulateXRay(size=(24, 24), anatomy={SMALL!r}).sample(1, rng_for(0, 's'))); "
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


@pytest.mark.gpu
def test_pictures_of_a_gpu_are_those_of_the_cpu(torso: LabelMap) -> None:
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("PyTorch finds no CUDA device on this machine: nothing to compare")
    made = LabelRays.of(oriented(value_map(torso)[0].values, torso.affine, "PA")[0], torso.spacing)
    agree(made.thickness(BEAM, 256), made.thickness(BEAM, 256, device="cuda"))
    (one,), (other,) = (list(replace(ENGINE, device=d).sample(1, rng_for(0, "s"), [torso])) for d in ("cpu", "cuda"))
    assert (one.labels.array != other.labels.array).mean() < 1e-3
    assert np.abs(one.image.array.astype(int) - other.image.array).max() <= 1


# ---------------------------------------------------------------- photons


def test_beer_and_lambert() -> None:
    kev, weight = np.array([60.0]), np.array([1.0])
    areal = np.zeros((3, len(MATERIALS)))
    areal[:, MATERIALS.index("muscle")] = [0.0, 5.0, 20.0]
    np.testing.assert_allclose(transmission(areal, kev, weight), np.exp(-0.2048 * areal[:, 3]), rtol=1e-5)
    two = transmission(areal, np.array([40.0, 100.0]), np.array([0.3, 0.7]))
    mu = mass_attenuation("muscle", np.array([40.0, 100.0]))
    np.testing.assert_allclose(two, (np.exp(-areal[:, 3, None] * mu) * [0.3, 0.7]).sum(axis=1), rtol=1e-5)


@pytest.mark.parametrize(
    ("kvp", "low", "high"), [(60, 1.9, 2.5), (80, 2.6, 3.3), (100, 3.3, 4.2), (120, 3.9, 5.1), (140, 4.5, 5.9)]
)
def test_half_value_layers_are_those_of_real_tubes(kvp: float, low: float, high: float) -> None:
    # 2.5 mm Al: TASMIP and IPEM 78 give about 2.2, 3.0, 3.7, 4.4 and 5.1 mm; the smallest legal ones are 1.8 to 4.4.
    assert low < Spectrum.of_tube(kvp, 2.5).half_value_mm() < high


def test_spectra() -> None:
    soft, hard = Spectrum.of_tube(80, 2.5), Spectrum.of_tube(120, 2.5)
    assert soft.photons.sum() == pytest.approx(1)
    assert soft.kev.max() < 80
    assert (hard.photons @ hard.kev) > (soft.photons @ soft.kev) > 38
    assert Spectrum.of_tube(80, 2.5, 0.2).half_value_mm() > soft.half_value_mm()
    lines = hard.photons[(hard.kev > 58.5) & (hard.kev < 60)].max()
    assert lines > 2 * hard.photons[(hard.kev > 61) & (hard.kev < 64)].mean()
    # The beam hardens: the second half of a thick body stops less than the first.
    water = np.zeros((3, len(MATERIALS)))
    water[:, 3] = [0, 10, 20]
    first, second = -np.diff(np.log(transmission(water, soft.kev, soft.signal())))
    assert second < 0.97 * first


def test_few_energies_are_enough() -> None:
    tube = Spectrum.of_tube(110, 3.0, 0.1)
    rng = rng_for(0, "bodies")
    areal = np.zeros((200, len(MATERIALS)))
    areal[:, MATERIALS.index("muscle")] = rng.uniform(0, 25, 200)
    areal[:, MATERIALS.index("cortical bone")] = rng.uniform(0, 3, 200)
    exact, fast = transmission(areal, tube.kev, tube.signal()), transmission(areal, *tube.coarse())
    np.testing.assert_allclose(np.log(fast), np.log(exact), atol=0.02)


def test_attenuation_jumps_at_the_edge_of_iodine() -> None:
    below, above = mass_attenuation("iodine", np.array([33.0, 33.4]))
    assert above / below > 5
    with pytest.raises(PlanError, match="Did you mean 'iodine'"):
        mass_attenuation("iodin", 50.0)
    with pytest.raises(PlanError, match="40 to 150 kV"):
        Spectrum.of_tube(20)


EXPOSURE = Exposure(
    "test", "PA", 110.0, (2.5, 0.0), 1800.0, 30.0, 2.0, (0.7, 0.12), 4e4, 1.3, 0.6, 0.0, 1.0, 1.0, 1.0, 0.0, 0.0,
    (0.0, 0.0), 400.0,
)  # fmt: skip


def test_scatter_and_grid() -> None:
    primary = np.full((64, 64), 0.05, np.float32)
    mass = np.full((64, 64), 12.0, np.float32)
    free = chain.add_scatter(primary, mass, replace(EXPOSURE, grid=(1.0, 1.0)), 5.0)
    np.testing.assert_allclose(free / primary, 1 + 2.0, rtol=1e-3)
    behind = chain.add_scatter(primary, mass, EXPOSURE, 5.0)
    np.testing.assert_allclose(behind / primary, 0.7 + 0.12 * 2.0, rtol=1e-3)
    none = chain.add_scatter(primary, mass, replace(EXPOSURE, scatter=0.0), 5.0)
    np.testing.assert_allclose(none, 0.7 * primary)
    # Scatter is broad: a narrow lead strip is filled by it.
    strip = primary.copy()
    strip[30:33] = 0
    filled = chain.add_scatter(strip, mass, replace(EXPOSURE, grid=(1.0, 1.0)), 1.0)
    assert filled[31].mean() > 0.5 * filled[5].mean() * 2 / 3


def test_noise_is_quantum_noise() -> None:
    flat, inside = np.ones((256, 256), np.float32), np.ones((256, 256), bool)
    sd = {}
    for photons in (1e3, 4e3, 1.6e4):
        shot = replace(EXPOSURE, photons=photons, mtf50=1e6, focus_mm=0.0)
        read = chain.detect(flat, inside, shot, 0.2, rng_for(1, "noise"))
        assert read.mean() == pytest.approx(photons * 0.04, rel=0.01)
        sd[photons] = read.std() / read.mean()
        # The element's own blur takes the same share of every noise.
    assert sd[1e3] / sd[4e3] == pytest.approx(2, rel=0.02)
    assert sd[4e3] / sd[1.6e4] == pytest.approx(2, rel=0.02)
    plain, electronic = (
        chain.detect(flat, inside, replace(EXPOSURE, electronic=e), 0.2, rng_for(1, "noise")).std() for e in (0.0, 50.0)
    )
    assert electronic == pytest.approx(np.hypot(plain, 50 * 0.2), rel=0.02)


@pytest.mark.parametrize("cycles", [8, 16, 32])
def test_blur_is_the_stated_transfer(cycles: int) -> None:
    n, pixel = 128, 0.2
    # A cosine that is symmetric about the borders, so that mirroring them changes nothing.
    wave = np.cos(np.pi * 2 * cycles * (np.arange(n) + 0.5) / n)[:, None] * np.ones(n) * 0.3 + 1
    frequency = np.array([cycles / (n * pixel)])
    sharp = chain.detector_mtf(frequency, 1.3, 0.1, pixel)[0]
    seen = chain.filtered(wave.astype(np.float32), chain.detector_mtf(chain.doubled(wave, pixel), 1.3, 0.1, pixel))
    assert np.ptp(seen) / np.ptp(wave) == pytest.approx(sharp, rel=1e-3)
    assert chain.detector_mtf(np.array([1.3]), 1.3, 0.0, 1e-9)[0] == pytest.approx(0.5)


def test_processing_keeps_the_order_and_enhances_detail() -> None:
    x = np.linspace(0, 4, 200, dtype=np.float32)[:, None] * np.ones((1, 64), np.float32)
    x[100, 32] += 0.1
    inside = np.ones(x.shape, bool)
    plain = chain.displayed(x, inside, EXPOSURE, 1.0)
    assert 0 <= plain.min() < 0.2
    assert 0.8 < plain.max() <= 1
    assert (np.diff(plain[:95, 5]) > 0).all(), "denser is brighter"
    strong = chain.displayed(x, inside, replace(EXPOSURE, detail=2.0), 1.0)
    assert strong[100, 32] - strong[100, 20] > 1.5 * (plain[100, 32] - plain[100, 20])
    assert np.ptp(chain.attenuation_of(np.array([[1.0, np.exp(-2)]]))) == pytest.approx(2, abs=0.01)


# ---------------------------------------------------------------- truth


def test_views_show_the_body_as_films_do(torso: LabelMap) -> None:
    for view in ("PA", "AP", "lateral"):
        engine = SimulateXRay(views=(view,), turn=0.0, tilt=0.0, size=(64, 64), anatomy=SMALL)
        (case,) = engine.sample(1, rng_for(2, view), [torso])
        at = {
            n: np.argwhere(case.labels.mask(n)[..., 0]).mean(axis=0)
            for n in ("liver", "left ventricle", "sternum", "vertebra")
        }  # fmt: skip
        assert at["liver"][1] > at["left ventricle"][1], "rows run downwards"
        if view == "lateral":
            assert at["sternum"][0] < at["vertebra"][0], "the front is on the left"
        else:
            assert at["liver"][0] < at["left ventricle"][0], "the patient's left is on the right"


def test_the_heart_looks_larger_from_the_front(torso: LabelMap) -> None:
    """It lies in front: far from the detector in AP, near to it in PA."""
    width = {}
    for view, toward in (("PA", 1), ("AP", -1)):
        beam = Beam(1000.0, 180.0, (128, 128), 3.4, toward)
        shadow = cast(torso, view, beam, {}, 0.26, 1.0)  # type: ignore[arg-type]
        heart = shadow.masks[torso.scheme.channel("myocardium")] > 0
        width[view] = np.ptp(np.flatnonzero(heart.any(axis=1)))
    assert width["AP"] > width["PA"]


def test_projected_truth_is_the_shadow(torso: LabelMap) -> None:
    beam = Beam(1600.0, 200.0, (96, 96), 4.2)
    shadow = cast(torso, "PA", beam, {}, 0.26, 1.0)
    turned, spacing, _ = oriented(torso.voxels.values, torso.affine, "PA")  # type: ignore[attr-defined]
    channel = torso.voxels.channel  # type: ignore[attr-defined]
    each = LabelRays.of(turned, spacing).thickness(beam, len(channel))
    for c, name in enumerate(torso.scheme.names):
        mine = each[..., 1:][..., channel[1:] == c]
        np.testing.assert_array_equal(shadow.masks[c] > 0, mine.sum(axis=2) >= 1.0, err_msg=name)
    ribs = shadow.masks[torso.scheme.channel("rib")]
    own = each[..., 1:][..., channel[1:] == torso.scheme.channel("rib")]
    seen = ribs > 0
    assert (np.take_along_axis(own, ribs[..., None].astype(int) - 1, 2)[..., 0][seen] == own.max(axis=2)[seen]).all()
    assert len(np.unique(ribs)) > 15
    assert torso.voxels.values.max() < len(channel), "the given label map was changed"  # type: ignore[attr-defined]
    assert shadow.lung_mm.max() > 100
    assert shadow.areal.sum(axis=2).max() > 15


def test_overlapping_volumes_cast_all_their_shadows() -> None:
    x, y, z = grid((40, 40, 40), (5.0, 5.0, 5.0))
    body, lesion = x**2 + y**2 + z**2 < 90**2, (x - 20) ** 2 + y**2 + z**2 < 20**2
    scheme = LabelScheme.of(["body", "lesion"], exclusive=False)
    labels = LabelMap.on(
        Geometry.from_spacing((40, 40, 40), (5.0, 5.0, 5.0)), np.stack([body, lesion]).astype(np.uint8), scheme
    )  # fmt: skip
    (case,) = SimulateXRay(size=(64, 64), anatomy=SMALL).sample(1, rng_for(0, "x"), [labels])
    masks = case.labels.masks()
    assert (masks[1] & ~masks[0]).sum() == 0, "the lesion's shadow lies in the body's, which is whole"
    assert masks[1].any()
    assert not case.labels.scheme.exclusive


def test_groups_are_what_readers_outline(torso: LabelMap) -> None:
    targets = {
        "lung": ["lung fields"],
        "middle": ["cardiomediastinum"],
        "whole": ["lungs"],
        "bone": ["bones"],
        "above": ["lungs above the diaphragm"],
        "heart": ["cardiac silhouette"],
        "muscle": ["heart"],
    }
    engine = SimulateXRay(targets=targets, views=("PA",), size=(128, 128), anatomy=SMALL)
    (case,) = engine.sample(1, rng_for(0, "x"), [torso])
    assert case.labels.scheme.names == tuple(targets)
    lung, middle, whole, bone, above, heart, muscle = (case.labels.mask(n)[..., 0] for n in targets)
    assert not (lung & middle).any()
    assert lung.sum() < above.sum() < whole.sum()
    assert (muscle & heart).sum() > 0.97 * muscle.sum()
    assert muscle.sum() < heart.sum() < middle.sum()
    assert (above & heart).any(), "there is lung behind the heart"
    assert (lung & whole).sum() > 0.97 * lung.sum()
    assert 0.42 < lung.sum() / whole.sum() < 0.9  # the rest lies behind the heart and below the domes
    assert 0.15 < heart.mean() / lung.mean() < 0.8
    assert bone.mean() > 0.2
    grey = case.image.array[0, ..., 0].astype(float)
    assert grey[middle].mean() > grey[lung].mean() + 30, "lungs are dark"


# ---------------------------------------------------------------- engine


class TestContract(EngineContract):
    def make(self) -> SimulateXRay:
        return ENGINE


class TestWithoutLearning(EngineContract):
    learns = False

    def make(self) -> SimulateXRay:
        return replace(ENGINE, learn=False)

    def test_given_labels_are_rendered_unchanged_or_refused(self) -> None:
        with pytest.raises(GeometryMismatchError, match="2-D label map"):
            list(self.fitted().sample(1, rng_for(0, "x"), [c.labels for c in self.cases()]))


CHANGES: dict[str, Any] = {
    "scanner": "film, digitised",
    "views": ("lateral",),
    "size": (40, 48),
    "field_mm": (200.0, 210.0),
    "targets": {"lung": ("lungs",)},
    "shadow_mm": 30.0,
    "materials": {"liver": "lung"},
    "lung_density": (0.8, 0.8),
    "texture": 0.0,
    "turn": 20.0,
    "tilt": 20.0,
    "dose": 0.01,
    "scatter": 0.0,
    "blur": 8.0,
    "collimation": 1.0,
    "pixel_mm": 8.0,
    "levels": 4095,
    "anatomy": {**SMALL, "breath": (0.0, 0.0)},
    "learn": False,
}


def test_every_parameter_is_in_the_table() -> None:
    # A device must not change the picture beyond its tolerance: tested below.
    assert {*CHANGES, "device"} == set(parameters(SimulateXRay))


def films(n: int = 4, unit: Any = "px") -> list[Case]:
    """Bright ovals in noise, as small 8-bit pictures."""
    cases = []
    for k, case in enumerate(phantom_cases(n)):
        grey = ((case.image.array + 1000) / 1400 * 200 + 20).astype(np.uint8)
        geometry = Geometry.from_spacing(case.image.geometry.shape, (1.0, 1.0, 1.0), unit=unit)
        truth = LabelMap.on(geometry, case.labels.array, case.labels.scheme)
        cases.append(Case(f"film-{k}", f"p-{k}", Image.on(geometry, grey), truth))
    return cases


@pytest.mark.parametrize("name", CHANGES)
def test_every_parameter_changes_the_picture(name: str) -> None:
    base = replace(ENGINE, views=("PA",), collimation=0.0)
    changed = replace(base, **{name: CHANGES[name]})
    if name in ("learn", "pixel_mm"):
        known = films()
        base, changed = (e.fit(known, rng_for(0, "fit")) for e in (base, changed))
    labels = [films()[0].labels] if name == "pixel_mm" else None
    (one,), (other,) = (list(e.sample(1, rng_for(4, "s"), labels)) for e in (base, changed))
    same_image = one.image.array.shape == other.image.array.shape and np.array_equal(one.image.array, other.image.array)
    same_truth = one.labels.scheme == other.labels.scheme and np.array_equal(one.labels.array, other.labels.array)
    assert not (same_image and same_truth)
    if name in ("dose", "scatter", "blur", "texture", "lung_density", "materials", "levels", "collimation", "pixel_mm"):
        assert same_truth, "the picture alone depends on it"
    if name in ("targets", "shadow_mm"):
        assert same_image, "the truth alone depends on it"


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_say_how_a_picture_was_taken(room: str) -> None:
    views = ("PA", "AP", "lateral")
    (case,) = replace(ENGINE, scanner=room, views=views).sample(1, rng_for(1, room))
    assert case.scanner == f"simulated, {room}"
    assert case.attributes["view"] in ROOMS[room].views
    low, high = ROOMS[room].kvp
    assert low <= float(case.attributes["kvp"]) <= high
    assert case.image.array.dtype == np.uint8
    assert case.image.unit == "mm"
    assert 7 < case.image.spacing[0] < 10


def test_less_dose_is_more_noise(torso: LabelMap) -> None:
    engine = SimulateXRay(size=(64, 64), anatomy=SMALL, texture=0.0, collimation=0.0, levels=65535, blur=0.05)
    engine = replace(engine, scanner="film, digitised", views=("PA",))
    pictures = {
        dose: next(replace(engine, dose=dose).sample(1, rng_for(1, "n"), [torso])).image.array.astype(float)
        for dose in (1e-2, 1e-1, 1e4)
    }
    noise = {dose: np.std(pictures[dose] - pictures[1e4]) for dose in (1e-2, 1e-1)}
    assert noise[1e-2] / noise[1e-1] == pytest.approx(np.sqrt(10), rel=0.25)


def test_fit_takes_tones_and_range_of_the_films(torso: LabelMap) -> None:
    known = films(6)
    fitted = SimulateXRay(size=(64, 64), anatomy=SMALL, collimation=0.0).fit(known, rng_for(0, "fit"))
    assert fitted.parents == {f"p-{k}" for k in range(6)}
    made = [c.image.array for c in fitted.sample(4, rng_for(1, "s"), [torso])]
    real = np.stack([np.quantile(c.image.array, [0.1, 0.5, 0.9]) for c in known]).mean(axis=0)
    ours = np.stack([np.quantile(m, [0.1, 0.5, 0.9]) for m in made]).mean(axis=0)
    plain = SimulateXRay(size=(64, 64), anatomy=SMALL, collimation=0.0).sample(4, rng_for(1, "s"), [torso])
    before = np.stack([np.quantile(c.image.array, [0.1, 0.5, 0.9]) for c in plain]).mean(axis=0)
    assert np.abs(ours - real).max() < 10
    assert np.abs(before - real).max() > 2 * np.abs(ours - real).max()


def test_films_are_rendered_with_learned_tissue() -> None:
    known = films(4)
    fitted = SimulateXRay(anatomy="real").fit(known, rng_for(0, "fit"))
    made = list(fitted.sample(8, rng_for(1, "s")))
    seen = []
    for case in made:
        grey, organ = case.image.array[0, ..., 0].astype(float), case.labels.mask("organ")[..., 0]
        assert case.image.unit == "px"
        assert case.image.array.dtype == np.uint8
        assert grey[organ].std() > 3
        assert grey[~organ].std() > 3
        seen.append((grey[organ].mean(), grey[~organ].mean()))
    real = [
        (c.image.array[0][c.labels.mask("organ")].mean(), c.image.array[0][~c.labels.mask("organ")].mean())
        for c in known
    ]
    # Tones inside and outside a label are those of the films, within what few samples of few films can be.
    np.testing.assert_allclose(np.mean(seen, axis=0), np.mean(real, axis=0), atol=20)


def shaded(k: int, side: int = 96) -> tuple[Case, np.ndarray]:
    """A film that gets denser to one side, with a light oval, fine grain and a shade that no label follows."""
    x, y = np.indices((side, side)) / side
    rng = rng_for(k, "shaded")
    oval = np.hypot((x - 0.5) / 0.25, (y - 0.5) / 0.35) < 1
    shade = 40 + 130 * (x if k % 2 else 1 - x) * (0.4 + 0.6 * y) + 50 * ~oval
    grey = np.clip(shade + 4 * rng.standard_normal(x.shape), 0, 255).astype(np.uint8)
    grid_px = Geometry((side, side, 1), unit="px")
    labels = LabelMap.on(grid_px, oval[None, ..., None].astype(np.uint8), LabelScheme.of(["organ"]))
    return Case(f"film-{k}", f"p-{k}", Image.on(grid_px, grey[None, ..., None]), labels), shade


def test_tissue_of_films_is_shaded_as_the_patient_and_not_in_steps() -> None:
    made = [shaded(k) for k in range(4)]
    by_id = {case.id: (case.image.array[0, ..., 0] / 80).astype(np.float32) for case, _ in made}
    cases = [case for case, _ in made]
    tissue = FilmTissue.fit(cases, lambda c: by_id[c.id], 3.2, rng_for(0, "fit"), (6, 3))
    for number, (case, shade) in enumerate(made):
        drawn = tissue.draw(case.labels, Placement(case.id, (96, 96, 1)), 0.0, rng_for(number, "draw"))
        # Tones are another film's: what is where must be this one's.
        assert stats.spearmanr(drawn[::3, ::3].ravel(), shade[::3, ::3].ravel()).statistic > 0.97
        rest = drawn - ndimage.gaussian_filter(drawn, 2)
        oval = case.labels.mask("organ")[..., 0]
        calm = ndimage.binary_erosion(oval, iterations=5)
        assert np.abs(rest[calm]).max() < 0.12, "steps within a region"  # of 10 levels, one is 0.2
    without = tissue.draw(cases[0].labels, None, 1.0, rng_for(9, "draw"))
    oval = cases[0].labels.mask("organ")[..., 0]
    assert without[~oval].mean() > without[oval].mean() + 0.2


def test_noise_of_a_film_is_measured_beside_its_edges() -> None:
    x, _ = np.indices((128, 128)) / 128
    edges = 2 * x + (x > 0.5) + ndimage.gaussian_filter(rng_for(0, "slow").standard_normal((128, 128)), 6) * 5
    for sd in (0.01, 0.05):
        noisy = (edges + sd * rng_for(1, "fast").standard_normal(x.shape)).astype(np.float32)
        assert noise_of(noisy) == pytest.approx(sd, rel=0.1)


def test_pictures_train_beside_films_where_labels_agree() -> None:
    known = [
        replace(
            c, truth=LabelMap.on(c.labels.geometry, c.labels.array, LabelScheme.of({"heart": 7, "lungs": 2}, False))
        )
        for c in films()
    ]
    fitted = ENGINE.fit(known, rng_for(0, "fit"))
    (case,) = fitted.sample(1, rng_for(0, "s"))
    assert case.labels.scheme == known[0].labels.scheme
    assert case.image.unit == "px"
    assert case.labels.masks().reshape(2, -1).any(axis=1).all()


@settings(max_examples=12)
@given(
    st.sampled_from([None, *ROOMS]), st.tuples(st.integers(16, 48), st.integers(16, 48)), st.floats(60, 1000),
    st.floats(0.05, 1.1), st.floats(0, 5), st.floats(0, 30), st.floats(0, 30), st.floats(1e-4, 1e4), st.floats(0, 10),
    st.floats(0.05, 20), st.integers(15, 65535),
)  # fmt: skip
def test_any_legal_parameters_make_a_picture(
    scanner: str | None, size: tuple[int, int], field: float, lung: float, texture: float, turn: float, tilt: float,
    dose: float, scatter: float, blur: float, levels: int,
) -> None:  # fmt: skip
    engine = SimulateXRay(
        scanner, ("PA", "AP", "lateral"), size, (field, field), {}, 1.0, {}, (lung, lung), texture, turn, tilt, dose,
        scatter, blur, 0.5, 0.8, levels, SMALL,
    )  # fmt: skip
    labels = phantom_volume()
    (case,) = engine.sample(1, rng_for(1, "h"), [labels])
    assert case.image.array.shape == (1, *size, 1)
    assert case.image.array.max() <= levels
    assert case.labels.array.shape[1:] == (*size, 1)


def phantom_volume() -> LabelMap:
    x, y, z = grid((40, 30, 36), (9.0, 9.0, 10.0))
    body = (x / 150) ** 2 + (y / 100) ** 2 < 1 + 0 * z
    lung = ((np.abs(x) - 70) / 55) ** 2 + (y / 70) ** 2 + (z / 120) ** 2 < 1
    scheme = LabelScheme.of(["body", "lung"])
    masks = np.stack([body & ~lung, lung]).astype(np.uint8)
    return LabelMap.on(Geometry((40, 30, 36), np.diag([-9.0, -9.0, 10.0, 1.0])), masks, scheme)


def test_bad_input_is_named() -> None:
    volume = phantom_volume()
    unknown = LabelMap.on(volume.geometry, volume.array, LabelScheme.of(["body", "lnug"]))
    no_size = LabelMap.on(Geometry(volume.geometry.shape, unit="px"), volume.array, volume.scheme)
    huge = LabelMap.on(Geometry.from_spacing(volume.geometry.shape, (1.0, 1.0, 1000.0)), volume.array, volume.scheme)
    flat = films()[0].labels
    for labels, error, says in (
        (unknown, LabelError, "Did you mean 'lung'"),
        (no_size, GeometryMismatchError, "states none"),
        (huge, GeometryMismatchError, "1000"),
        (flat, GeometryMismatchError, "2-D label map"),
    ):
        with pytest.raises(error, match=says):
            list(ENGINE.sample(1, rng_for(0, "x"), [labels]))
    with pytest.raises(LabelError, match=r"targets\.lung asks for 'lungz'.*Did you mean 'lungs'"):
        list(replace(ENGINE, targets={"lung": ("lungz",)}).sample(1, rng_for(0, "x")))
    with pytest.raises(DataError, match="empty list"):
        list(ENGINE.sample(1, rng_for(0, "x"), []))
    with pytest.raises(DataError, match="no case"):
        ENGINE.fit([], rng_for(0, "x"))
    with pytest.raises(DataError, match="is no film"):
        ENGINE.fit(phantom_cases(2, dimension=3), rng_for(0, "x"))
    assert list(replace(ENGINE, materials={"lnug": "lung"}).sample(1, rng_for(0, "x"), [unknown]))


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"scanner": "flat pannel, wall stand"}, "Did you mean 'flat panel, wall stand'"),
        ({"scanner": "mobile, at the bed", "views": ("PA",)}, "takes no PA"),
        ({"views": ()}, "at least one"),
        ({"views": ("pa",)}, "views = 'pa'"),
        ({"size": (8, 64)}, "16 to 4096"),
        ({"size": (64,)}, "size"),
        ({"field_mm": (0.0, 300.0)}, "field_mm"),
        ({"dose": -1.0}, "dose = -1"),
        ({"scatter": float("nan")}, "scatter"),
        ({"lung_density": (0.3, 0.2)}, "lung_density"),
        ({"shadow_mm": 0.0}, "shadow_mm"),
        ({"materials": {"liver": "leed"}}, "materials.liver"),
        ({"pixel_mm": 0.0}, "pixel_mm"),
        ({"levels": 1}, "levels"),
        ({"anatomy": {"kind": "torso", "sise": 3}}, "Did you mean 'size'"),
        ({"turn": 90.0}, "turn"),
    ],
)
def test_impossible_parameters_are_named(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(EquipoiseError, match=says):
        replace(ENGINE, **wrong)

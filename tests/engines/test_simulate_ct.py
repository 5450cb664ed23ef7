from __future__ import annotations

import json
import pickle
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import pytest
from fitted_once import FittedOnce
from scipy import ndimage
from scipy.stats import chi2

from equipoise.core import Case, Engine, Geometry, Image, LabelMap, LabelScheme, rng_for
from equipoise.core.registry import canonical, make, parameters, spec_of
from equipoise.engines.anatomy.phantom import Phantom
from equipoise.engines.imaging.simulate_ct import SimulateCT, engine, learned, learned_tissue, likeness
from equipoise.engines.imaging.simulate_ct.scan import Protocol
from equipoise.errors import (
    DataError,
    EngineError,
    EquipoiseError,
    GeometryMismatchError,
    LabelError,
    PlanError,
    UnknownKindError,
)
from equipoise.testing.anatomy_contract import lesion_cases
from equipoise.testing.engine_contract import EngineContract

AFFINE = np.array([[-0.7, 0, 0, 12.0], [0, -0.7, 0, -30.0], [0, 0, 2.5, 55.0], [0, 0, 0, 1.0]])
SCHEME = LabelScheme.of(["nodule"])
CLEAN = SimulateCT(
    hu={"nodule": (50.0, 0.0), "lung": (-850.0, 0.0)},
    part_solid=0.0,
    ground_glass=0.0,
    inner_sd=0.0,
    lung_sd=0.0,
    vessels=0.0,
    fed=0.0,
    pleural=0.0,
    wall_mm=1e4,
)
"""Nothing but a nodule in even lung (but for its gradient)."""


def disc(radius_mm: float = 12.0, size: int = 64, names: Sequence[str] = ("nodule",)) -> LabelMap:
    x = (np.arange(size) - (size - 1) / 2) * 0.7
    mask = (np.hypot(x[:, None], x) <= radius_mm).astype(np.uint8)
    voxels = np.zeros((len(names), size, size, 1), np.uint8)
    voxels[0, :, :, 0] = mask
    return LabelMap.on(Geometry((size, size, 1), AFFINE), voxels, LabelScheme.of(names, exclusive=False))


def picture(engine: SimulateCT, labels: LabelMap, seed: int = 0, protocol: Protocol | None = None) -> np.ndarray:
    protocol = protocol or Protocol("soft", 0.7, 5e7)
    shown: np.ndarray = engine.render(labels, rng_for(seed, "picture"), protocol).array[0]
    return shown


def radius_of(labels: LabelMap) -> np.ndarray:
    x = (np.arange(labels.geometry.shape[0]) - (labels.geometry.shape[0] - 1) / 2) * 0.7
    r: np.ndarray = np.hypot(x[:, None], x)[..., None]
    return r


# ---------------------------------------------------------------- physics


@pytest.mark.parametrize("kernel", ["soft", "sharp"])
@pytest.mark.parametrize("hu", [-600.0, 50.0, 300.0])
def test_a_structure_has_its_hu(hu: float, kernel: str) -> None:
    engine, labels = replace(CLEAN, hu={"nodule": (hu, 0.0), "lung": (-850.0, 0.0)}), disc()
    image = picture(engine, labels, 1, Protocol(kernel, 0.7, 5e9))
    r = radius_of(labels)
    assert image[r < 9].mean() == pytest.approx(hu, abs=2)
    assert np.median(image[(r > 16) & (r < 22)]) == pytest.approx(-850, abs=25)  # ± the gravity gradient


def test_the_edge_lies_where_the_label_says() -> None:
    labels = disc()
    image = picture(CLEAN, labels, 2, Protocol("soft", 0.7, 1e10))[:, :, 0]
    half = (image > -400).sum() * 0.7**2
    assert np.sqrt(half / np.pi) == pytest.approx(np.sqrt(labels.array.sum() * 0.7**2 / np.pi), abs=0.1)


def test_noise_falls_as_the_square_root_of_dose() -> None:
    labels = disc()
    clean = picture(CLEAN, labels, 3, Protocol("soft", 0.7, 1e13))
    sd = {p: np.std(picture(CLEAN, labels, 3, Protocol("soft", 0.7, p)) - clean) for p in (2e7, 8e7, 3.2e8)}
    assert sd[2e7] / sd[8e7] == pytest.approx(2, rel=0.05)
    assert sd[8e7] / sd[3.2e8] == pytest.approx(2, rel=0.05)
    assert 4 < sd[8e7] < 40  # what a chest CT shows


def test_electronic_noise_and_a_larger_patient_cost_more_than_dose_alone() -> None:
    labels, low = disc(), Protocol("soft", 0.7, 1e7)

    def noise(engine: SimulateCT) -> float:
        return float(np.std(picture(engine, labels, 4, low) - picture(engine, labels, 4, replace(low, photons=1e13))))

    base = noise(CLEAN)
    assert noise(replace(CLEAN, electronic_sd=150.0)) > 1.3 * base
    assert noise(replace(CLEAN, body_mm=(210.0, 150.0))) > 1.3 * base
    assert noise(replace(CLEAN, kev=110.0)) != base


def test_blur_softens_the_patient_and_leaves_the_noise() -> None:
    labels = disc()
    crisp, soft = (
        [picture(CLEAN, labels, 5, Protocol("soft", 0.7, p, blur)) for p in (2e8, 1e13)] for blur in (0.0, 1.0)
    )
    slope = [np.abs(np.diff(x[1][:, 32, 0])).max() for x in (crisp, soft)]
    # An edge of Gaussian blur s rises by contrast / (s·√2π) per mm; the kernel adds its own.
    assert slope[1] < 0.8 * slope[0]
    assert slope[1] < 900 / (1.0 * np.sqrt(2 * np.pi)) * 0.7
    assert np.std(soft[0] - soft[1]) == pytest.approx(np.std(crisp[0] - crisp[1]), rel=0.05)


def test_tube_current_by_angle_spends_the_dose_better() -> None:
    labels, low = disc(), Protocol("soft", 0.7, 2e7)

    def noise(modulation: float) -> np.ndarray:
        engine = replace(CLEAN, modulation=modulation, electronic_sd=0.0, body_mm=(230.0, 110.0))
        shown: np.ndarray = picture(engine, labels, 4, low) - picture(engine, labels, 4, replace(low, photons=1e13))
        return shown

    assert np.std(noise(0.5)) < 0.97 * np.std(noise(0.0))
    assert np.std(noise(0.5)) < np.std(noise(1.0))


def test_sharp_kernel_resolves_more_and_is_noisier() -> None:
    labels = disc()
    soft, sharp = (
        [picture(CLEAN, labels, 5, Protocol(kernel, 0.7, p)) for p in (2e8, 1e13)] for kernel in ("soft", "sharp")
    )
    assert np.std(sharp[0] - sharp[1]) > 1.4 * np.std(soft[0] - soft[1])
    slope = [np.abs(np.diff(x[1][:, 32, 0])).max() for x in (soft, sharp)]
    assert slope[1] > 1.25 * slope[0]


def test_thinner_slices_are_noisier() -> None:
    thin, thick = (np.diag([0.7, 0.7, dz, 1.0]) for dz in (1.0, 4.0))
    sds = []
    for affine in (thin, thick):
        labels = replace(disc(), affine=affine)
        pair = [picture(CLEAN, labels, 6, Protocol("soft", 0.7, p)) for p in (2e8, 1e13)]
        sds.append(np.std(pair[0] - pair[1]))
    assert sds[0] / sds[1] == pytest.approx(2, rel=0.1)


def test_ground_glass_is_faint_and_part_solid_lies_between() -> None:
    base = replace(CLEAN, hu={"nodule": (30.0, 0.0), "ground-glass nodule": (-600.0, 0.0), "lung": (-850.0, 0.0)})
    labels = disc()
    r = radius_of(labels)

    def mean(part_solid: float, ground_glass: float) -> float:
        engine = replace(base, part_solid=part_solid, ground_glass=ground_glass)
        return float(np.mean([picture(engine, labels, k)[r < 11].mean() for k in range(4)]))

    solid, part, glass = mean(0, 0), mean(1, 0), mean(0, 1)
    assert solid == pytest.approx(30, abs=20)
    assert glass == pytest.approx(-600, abs=20)
    assert glass + 100 < part < solid - 100


# ---------------------------------------------------------------- contract


def test_same_stream_same_bytes_whatever_the_number() -> None:
    engine: Engine = SimulateCT()
    one, two = (list(engine.sample(3, rng_for(7, "s"))) for _ in range(2))
    (first,) = engine.sample(1, rng_for(7, "s"))
    (other,) = engine.sample(1, rng_for(8, "s"))
    for a, b in zip(one, two, strict=True):
        np.testing.assert_array_equal(a.image.array, b.image.array)
        assert a.id == b.id
    np.testing.assert_array_equal(first.image.array, one[0].image.array)
    assert not np.array_equal(first.image.array, other.image.array)
    assert len({c.id for c in one}) == 3


def test_truth_is_the_map_as_given_on_the_image_grid() -> None:
    given = [disc(), disc(5.0)]
    cases = list(SimulateCT().sample(3, rng_for(0, "truth"), given))
    assert [c.truth for c in cases] == [given[0], given[1], given[0]]
    for case in cases:
        case.image.geometry.require_same(case.labels.geometry)
        np.testing.assert_array_equal(case.image.geometry.affine, AFFINE)
        assert case.synthetic
        assert case.patient.startswith("synthetic-")
        assert case.origin.engine == "simulate-ct"
        assert case.origin.parents == frozenset()
        assert json.loads(case.origin.spec or "")["kind"] == "simulate-ct"
    assert not np.array_equal(cases[0].image.array, cases[2].image.array)  # another patient under the same map


def test_volumes_extended_maps_and_empty_maps_are_rendered() -> None:
    rng = rng_for(2, "volumes")
    volume = Phantom(size=(40, 48, 10), spacing=(0.8, 0.8, 2.5), structures=("nodule", "vessel", "chest wall", "lung"))
    (case,) = SimulateCT(part_solid=0.0, ground_glass=0.0).sample(1, rng, list(volume.draw(1, rng)))
    image, labels = case.image.array[0], case.labels
    assert image.shape == (40, 48, 10)
    for name, low, high in (("nodule", -200, 150), ("lung", -900, -650), ("vessel", -700, 100)):
        assert low < np.median(image[labels.mask(name)]) < high
    if labels.mask("chest wall").sum() > 200:
        assert -150 < np.median(image[labels.mask("chest wall")]) < 100
    empty = replace(disc(), voxels=np.zeros((1, 64, 64, 1), np.uint8))
    (case,) = SimulateCT(wall_mm=1e4, pleural=0.0).sample(1, rng, [empty])
    assert np.isfinite(case.image.array).all()
    assert np.median(case.image.array) < -650


def test_instances_differ_in_density() -> None:
    voxels = np.zeros((1, 64, 64, 1), np.uint8)
    voxels[0, 10:24, 10:24], voxels[0, 40:54, 40:54] = 1, 2
    labels = replace(disc(), voxels=voxels)
    image = picture(replace(CLEAN, hu={"nodule": (0.0, 150.0)}), labels, 9, Protocol("soft", 0.7, 1e10))
    assert abs(image[14:20, 14:20].mean() - image[44:50, 44:50].mean()) > 20


CHANGES: dict[str, object] = {
    "hu": {"nodule": [120.0, 0.0]},
    "part_solid": 0.9,
    "ground_glass": 0.9,
    "inner_sd": 120.0,
    "margin_mm": 2.0,
    "lung_sd": 90.0,
    "vessels": 2000.0,
    "pleural": 1.0,
    "wall_mm": 2.0,
    "fed": 1.0,
    "kernels": ("sharp",),
    "cutoff": (0.35, 0.4),
    "photons": (1e6, 2e6),
    "blur_mm": (1.5, 2.0),
    "electronic_sd": 200.0,
    "views": 40,
    "body_mm": (260.0, 200.0),
    "kev": 140.0,
    "planes": 1,
    "modulation": 0.0,
    "anatomy": {"kind": "phantom", "diameter_mm": 20.0},
    "learn": False,
    "around": "soft tissue",
    "couch": False,
    "contrast_hu": (150.0, 250.0),
    "tissue": "drawn",
    "scanner": "older scanner",
    "kvp": 100.0,
    "water_correction": False,
    "bowtie_mm": 120.0,
    "geometry": "fan",
    "source_mm": 300.0,
    "thickness_mm": 8.0,
    "motion_mm": (3.0, 6.0),
    "metal": 1.0,
    "metal_mm": (15.0, 20.0),
    "metal_kind": "iron",
    "drift_hu": 30.0,
    "stored": (-1100.0, 400.0),
    "pixel_mm": 1.4,
}
BASES: dict[str, dict[str, object]] = {
    "water_correction": {"kvp": 120.0},
    "source_mm": {"geometry": "fan"},
    "metal_mm": {"metal": 1.0},
    "metal_kind": {"metal": 1.0},
    "tissue": {"anatomy": "warped"},
    "pixel_mm": {"pixel_mm": 0.7},
}
"""What a parameter needs beside it to have an effect."""


def slab() -> LabelMap:
    """A body in air, with room for a couch below."""
    x = (np.arange(64) - 31.5) * 4.0
    body = np.hypot(x[:, None] / 110, (x + 30) / 70) <= 1
    grid = Geometry((64, 64, 1), np.diag([-4.0, -4.0, 3.0, 1.0]))
    return LabelMap.on(grid, body[None, ..., None].astype(np.uint8), LabelScheme.of(["body"]))


GIVEN: dict[str, list[LabelMap]] = {"couch": [slab()], "pixel_mm": [replace(disc(), affine=np.eye(4), unit="px")]}
"""Label maps in which a parameter has an effect, where those of the default anatomy do not do."""


def test_every_parameter_is_in_the_table() -> None:
    assert set(CHANGES) == set(parameters(SimulateCT))
    assert {f.name for f in fields(SimulateCT) if f.name.startswith("_")} == {"_learned", "_anatomy"}


@pytest.mark.parametrize("name", CHANGES)
def test_every_parameter_changes_the_picture(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    base = SimulateCT(kernels=("soft",), part_solid=0.05, ground_glass=0.05, fed=0.0, pleural=0.0)
    base = replace(base, **BASES.get(name, {}))  # type: ignore[arg-type]
    changed = replace(base, **{name: CHANGES[name]})  # type: ignore[arg-type]
    if name in ("learn", "tissue"):
        monkeypatch.setattr(likeness, "LIBRARY", 12)
        monkeypatch.setattr(learned_tissue, "MOST_CASES", 1)
        base, changed = (e.fit(scans(3), rng_for(0, "fit")) for e in (base, changed))
    given = GIVEN.get(name)
    pairs = zip(*(list(e.sample(3, rng_for(4, "change"), given)) for e in (base, changed)), strict=True)
    # Whole HU are stored: rounding alone makes up 0.4 HU rms.
    rms = [float(np.sqrt(np.mean((a.image.array - b.image.array) ** 2))) for a, b in pairs]
    assert max(rms) > 1


# ---------------------------------------------------------------- fit


def scans(
    n: int = 6,
    kernel: str = "soft",
    photons: float = 5e7,
    blur_mm: float = 0.3,
    vessels: float = 600.0,
    **changes: object,
) -> list[Case]:
    world = SimulateCT(
        hu={"nodule": (-60.0, 15.0), "lung": (-780.0, 10.0)},
        part_solid=0.0,
        ground_glass=0.0,
        anatomy={"kind": "phantom", "diameter_mm": 16.0, "diameter_spread": 0.1, "spicules": 0.0},
        kernels=(kernel,),
        photons=(photons, photons),
        cutoff=(0.7, 0.7),
        blur_mm=(blur_mm, blur_mm),
        vessels=vessels,
        **changes,  # type: ignore[arg-type]
    )
    made = world.sample(n, rng_for(11, "world"))
    return [Case(f"c{k}", f"p{k}", case.image, case.labels) for k, case in enumerate(made)]


def quiet_sd(cases: Sequence[Case]) -> float:
    sds = []
    for case in cases:
        x = case.image.array[0, :, :, 0]
        fine = (x[1:, 1:] - x[:-1, 1:] - x[1:, :-1] + x[:-1, :-1]) / 2
        sds.append(
            np.quantile([fine[a : a + 8, b : b + 8].std() for a in range(0, 80, 8) for b in range(0, 80, 8)], 0.3)
        )
    return float(np.median(sds))


@dataclass(frozen=True)
class World:
    """Cases of a known world, and what an engine that was fitted on them makes."""

    real: list[Case]
    fitted: SimulateCT
    made: list[Case]


@pytest.fixture(scope="module")
def worlds() -> tuple[World, World]:
    """Two worlds that differ in everything which a fit learns of scanner and lung."""
    settings_ = ("soft", 3e7, 0.1, 100.0), ("sharp", 2e8, 1.1, 1500.0)
    return tuple(_world(*one) for one in settings_)  # type: ignore[return-value]


def _world(kernel: str, photons: float, blur_mm: float, vessels: float) -> World:
    real = scans(18, kernel, photons, blur_mm, vessels)
    fitted = SimulateCT().fit(real, rng_for(0, "fit"))
    return World(real, fitted, list(fitted.sample(48, rng_for(1, "made"))))


def test_fit_recovers_density_size_and_noise(worlds: tuple[World, World]) -> None:
    for world in worlds:
        real, made = world.real, world.made
        inside = [np.median(c.image.array[0][c.labels.mask("nodule")]) for c in made if c.labels.array.sum() > 60]
        # Vessels and blur lift the lung's median above its parenchyma's.
        lung = [np.median([np.median(c.image.array[c.image.array < -500]) for c in x]) for x in (real, made)]
        assert np.median(inside) == pytest.approx(-60, abs=40)
        assert lung[1] == pytest.approx(lung[0], abs=25)
        areas = [[float(c.labels.array.sum()) for c in x] for x in (real, made)]
        assert np.median(areas[1]) == pytest.approx(np.median(areas[0]), rel=0.35)
        assert quiet_sd(made) == pytest.approx(quiet_sd(real), rel=0.35)
        assert world.fitted.parents == {c.patient for c in real}
        assert all(c.origin.parents == world.fitted.parents for c in made)
    back = pickle.loads(pickle.dumps(worlds[0].fitted))
    first = next(back.sample(1, rng_for(1, "made")))
    np.testing.assert_array_equal(first.image.array, worlds[0].made[0].image.array)


def steepness(cases: Sequence[Case]) -> float:
    """Median over cases of the steepest edges of the objects, in HU per pixel."""
    slopes = []
    for case in cases:
        near = ndimage.binary_dilation(case.labels.array.any(axis=(0, 3)), iterations=2)
        slopes.append(np.percentile(np.hypot(*np.gradient(case.image.array[0, :, :, 0]))[near], 90))
    return float(np.median(slopes))


def test_fit_recovers_blur(worlds: tuple[World, World]) -> None:
    crisp, blurred = worlds
    for world in worlds:
        assert steepness(world.made) == pytest.approx(steepness(world.real), rel=0.3)
    assert steepness(crisp.made) > 1.3 * steepness(blurred.made)


def vessel_share(cases: Sequence[Case]) -> tuple[float, float]:
    """Logarithm of the mean share of vessels over the cases, and its standard error by their scatter."""
    shares = np.exp([likeness.signature_of(case)[4] for case in cases])
    return float(np.log(shares.mean())), float(shares.std(ddof=1) / shares.mean() / np.sqrt(len(cases)))


def test_fit_recovers_how_many_vessels_there_are(worlds: tuple[World, World]) -> None:
    shown = [(vessel_share(world.real), vessel_share(world.made)) for world in worlds]
    for (seen, error), (own, own_error) in shown:
        # What 18 and 48 pictures of one lung differ by: 3.3 standard errors, exceeded once in 1,000.
        assert abs(own - seen) < 3.3 * np.hypot(error, own_error)
    (few, few_error), (many, many_error) = (own for _, own in shown)
    assert many - few > 3.3 * np.hypot(few_error, many_error)


@pytest.mark.slow
def test_fit_recovers_vessels_of_worlds_that_it_has_not_seen() -> None:
    """Worlds drawn from the engine's own ranges; z is the error in units of what 12 training pieces can tell."""
    z = []
    for seed in range(300, 308):
        draw, prior = np.random.default_rng(seed), SimulateCT()
        photons, cutoff, blur = (
            float(draw.uniform(low, high)) for low, high in (np.log(prior.photons), prior.cutoff, prior.blur_mm)
        )
        world = SimulateCT(
            vessels=float(np.exp(draw.uniform(*likeness.RANGES["log_vessels"]))),
            lung_sd=float(np.exp(draw.uniform(np.log(15), np.log(60)))),
            kernels=(str(draw.choice(prior.kernels)),),
            cutoff=(cutoff, cutoff),
            blur_mm=(blur, blur),
            photons=(float(np.exp(photons)), float(np.exp(photons))),
        )
        sampled = [
            Case(f"c{k}", f"p{k}", c.image, c.labels) for k, c in enumerate(world.sample(52, rng_for(seed, "w")))
        ]
        real, fresh = sampled[:12], sampled[12:]
        made = list(SimulateCT().fit(real, rng_for(seed, "fit")).sample(40, rng_for(seed, "made")))
        (_, told), (own, own_error), (true, true_error) = (
            vessel_share(x) for x in ([likeness.piece_of(c, rng_for(seed, "piece")) for c in real], made, fresh)
        )
        z.append((own - true) / np.linalg.norm([told, own_error, true_error]))
    # Under an estimator that adds no error of its own the squares sum to chi-squared on 8 degrees of freedom.
    assert np.square(z).sum() < chi2.ppf(0.999, 8)


@pytest.mark.parametrize(
    ("pleural", "wall_mm", "n"), [(0.0, 4.0, 150), (0.3, 10.0, 60), (0.6, 25.0, 60), (0.0, 1e4, 10)]
)
def test_fit_recovers_where_the_wall_is(pleural: float, wall_mm: float, n: int) -> None:
    pieces = [
        likeness.piece_of(case, rng_for(k, "piece"))
        for k, case in enumerate(scans(n, pleural=pleural, wall_mm=wall_mm))
    ]
    share, away = learned._walls(pieces)
    assert share is not None
    assert away is not None
    pixel, reach = 0.7, likeness.PIECE * 0.7 / 2 - 8.0  # from an object of 8 mm radius in the middle to the edge
    if wall_mm > 100 * reach:
        assert share == 0
        assert away > n * reach  # none in n pictures: farther than all that they show
        return
    # The mean of m exponential gaps has a relative error of 1 / sqrt(m); m is how many walls lie in the picture but
    # are seen not to touch. A pixel is what the wall's edge is known to.
    hidden = 1 - np.exp(-learned.TOUCHES_PX * pixel / wall_mm)
    expected = n * (1 - pleural) * (np.exp(-learned.TOUCHES_PX * pixel / wall_mm) - np.exp(-reach / wall_mm))
    assert abs(np.log(away / wall_mm)) < 3.3 / np.sqrt(expected) + pixel / wall_mm
    # The share is that of binomial draws, blown up where gaps too small to see are taken off again.
    touching = pleural + (1 - pleural) * hidden
    assert abs(share - pleural) < 3.3 * np.sqrt(touching * (1 - touching) / n) / (1 - hidden)


def test_fit_sees_that_every_object_touches_the_wall() -> None:
    assert learned._walls([likeness.piece_of(case, rng_for(0, "piece")) for case in scans(10, pleural=1.0)])[0] == 1


def test_density_of_small_objects_is_freed_from_blur() -> None:
    for radius in (2.0, 4.0, 10.0):
        labels = disc(radius)
        image = picture(CLEAN, labels, 3, Protocol("soft", 0.7, 1e11, 0.5))
        mask = labels.mask("nodule")
        level, _, blur = learned._object(image.astype(float), mask, mask)
        assert level == pytest.approx(50, abs=90)
        assert 0.7 < blur < 1.8
        seen = image[learned._core(mask)].mean()
        assert abs(level - 50) <= max(abs(seen - 50), 30)
    assert picture(CLEAN, disc(2.0), 3, Protocol("soft", 0.7, 1e11, 0.5))[disc(2.0).mask("nodule")].mean() < -150


def test_each_half_learns_by_its_own_parameter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(likeness, "LIBRARY", 8)
    cases = scans(3)
    people = {case.patient for case in cases}
    still = {"kind": "phantom", "learn": False}
    neither = SimulateCT(learn=False, anatomy=still).fit(cases, rng_for(0, "fit"))
    imaging = SimulateCT(anatomy=still).fit(cases, rng_for(0, "fit"))
    anatomy = SimulateCT(learn=False).fit(cases, rng_for(0, "fit"))
    both = SimulateCT().fit(cases, rng_for(0, "fit"))
    assert neither.parents == frozenset()
    assert imaging.parents == anatomy.parents == both.parents == people

    def one(engine: SimulateCT, given: Sequence[LabelMap] | None = None) -> Case:
        return next(engine.sample(1, rng_for(3, "s"), given))

    # What was learned shows in the half that has learned it, and nowhere else.
    np.testing.assert_array_equal(one(imaging).labels.array, one(neither).labels.array)
    np.testing.assert_array_equal(one(anatomy).labels.array, one(both).labels.array)
    assert not np.array_equal(one(imaging).image.array, one(neither).image.array)
    given = [cases[0].labels]
    np.testing.assert_array_equal(one(anatomy, given).image.array, one(neither, given).image.array)
    np.testing.assert_array_equal(one(imaging, given).image.array, one(both, given).image.array)
    # Maps that are given bring no parents of the anatomy's.
    assert one(anatomy).origin.parents == people
    assert one(anatomy, given).origin.parents == frozenset()
    assert one(both, given).origin.parents == people


def test_maps_are_those_of_the_anatomy() -> None:
    spec = {"kind": "phantom", "size": [48, 56, 1], "structures": ["lesion", "lung"], "nodules": 3.0}
    engine = SimulateCT(anatomy=spec, hu={"lesion": [40.0, 5.0]})
    for case in engine.sample(2, rng_for(0, "own")):
        assert case.labels.scheme.names == ("lesion", "lung")
        assert case.image.array.shape == (1, 48, 56, 1)
    assert make("engines", json.loads(canonical(spec_of(engine)))) == replace(
        engine, hu={"lesion": [40.0, 5.0]}, anatomy=spec
    )


def test_an_anatomy_that_gives_up_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    class Tired(Phantom):
        def draw(self, n: int, rng: np.random.Generator) -> Iterator[LabelMap]:
            return super().draw(min(n, 1), rng)

    monkeypatch.setattr(engine, "make", lambda group, spec: Tired())
    stream = SimulateCT().sample(2, rng_for(0, "tired"))
    next(stream)
    with pytest.raises(EngineError, match="drew 1 label maps, 2 were asked for"):
        next(stream)


def test_fit_learns_labels_it_does_not_know(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(likeness, "LIBRARY", 12)
    case = scans(1)[0]
    strange = replace(case, truth=replace(case.labels, scheme=LabelScheme.of(["tumour"])))
    fitted = SimulateCT().fit([strange], rng_for(0, "fit"))
    (own,) = fitted.sample(1, rng_for(0, "made"))
    assert own.labels.scheme.names == ("tumour",)
    (made,) = fitted.sample(1, rng_for(0, "made"), [strange.labels])
    assert made.labels is strange.labels


def test_fit_reads_large_volumes_around_the_objects(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(likeness, "LIBRARY", 8)
    case = next(SimulateCT(anatomy={"kind": "phantom", "size": (112, 104, 8)}).sample(1, rng_for(5, "world")))
    real = Case("c", "p", case.image, case.labels)
    piece = likeness.piece_of(real, rng_for(0, "piece"))
    assert piece.image.array.shape == (1, 64, 64, 1)
    assert piece.labels.array.any()
    (made,) = SimulateCT().fit([real], rng_for(0, "fit")).sample(1, rng_for(1, "made"))
    assert made.image.array.shape == (1, 112, 104, 8)
    empty = replace(real, truth=replace(real.labels, voxels=np.zeros_like(real.labels.array)))
    assert likeness.piece_of(empty, rng_for(0, "piece")).image.array.shape == (1, 64, 64, 1)


# ---------------------------------------------------------------- contract


class TestSimulateCT(FittedOnce):
    @pytest.fixture(autouse=True)
    def quick(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(likeness, "LIBRARY", 8)
        monkeypatch.setattr(likeness, "PROPOSED", likeness.NEAREST)

    def make(self) -> SimulateCT:
        return SimulateCT(views=48)

    def cases(self) -> Sequence[Case]:
        return lesion_cases()

    def cases_like(self, dimension: int, channels: int) -> Sequence[Case]:
        return lesion_cases(dimension=dimension)


class TestSimulateCTWithPriorImaging(TestSimulateCT):
    """The anatomy learns alone."""

    def make(self) -> SimulateCT:
        return SimulateCT(views=48, learn=False, hu={"lesion": [30.0, 20.0]})


class TestSimulateCTThatDoesNotLearn(EngineContract):
    learns = False

    def make(self) -> SimulateCT:
        still = {"kind": "phantom", "learn": False, "size": [40, 44, 1]}
        return SimulateCT(views=48, learn=False, anatomy=still, hu={"lesion": [30.0, 20.0]})

    def cases(self) -> Sequence[Case]:
        return lesion_cases()

    def test_makes_every_dimension_that_it_claims(self) -> None:
        """Its grids are the parameters', not the cases'."""
        for size in ([40, 44, 1], [40, 44, 6]):
            (made,) = SimulateCT(anatomy={"kind": "phantom", "size": size}).sample(1, rng_for(1, "sample"))
            assert made.image.array.shape == (1, *size)


# ---------------------------------------------------------------- bad input


def test_unknown_labels_and_unusable_cases_are_refused_with_the_fix() -> None:
    stream = rng_for(0, "bad")
    eight_bit = Case(
        "jpeg", "p", Image(np.full((1, 32, 32, 1), 120.0)), LabelMap(np.ones((1, 32, 32, 1), np.uint8), SCHEME)
    )
    pixels = replace(disc(), unit="px")
    oblong = replace(disc(), affine=np.diag([0.7, 1.4, 2.0, 1.0]))
    bad: list[tuple[type[EquipoiseError], str, object]] = [
        (
            LabelError,
            "how dense 'nodul' is. Did you mean 'nodule'",
            lambda: next(SimulateCT().sample(1, stream, [disc(names=("nodul",))])),
        ),
        (LabelError, "hu = ", lambda: next(SimulateCT().sample(1, stream, [disc(names=("tumour",))]))),
        (GeometryMismatchError, "square pixels of known size", lambda: next(SimulateCT().sample(1, stream, [pixels]))),
        (GeometryMismatchError, "square pixels", lambda: next(SimulateCT().sample(1, stream, [oblong]))),
        (DataError, "empty list", lambda: next(SimulateCT().sample(1, stream, []))),
        (DataError, "no case", lambda: SimulateCT().fit([], stream)),
        (DataError, "no lung CT in HU", lambda: SimulateCT().fit([eight_bit], stream)),
    ]
    for error, says, call in bad:
        with pytest.raises(error, match=says):
            call()  # type: ignore[operator]


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"hu": [1, 2]}, r"simulate-ct.hu must be a table, .* got \[1, 2\]"),
        ({"hu": {"nodule": "ab"}}, r"hu.nodule must be \[mean, sd\], got 'ab'; legal: two numbers in HU"),
        ({"hu": {"nodule": [float("nan"), 1.0]}}, "hu.nodule"),
        ({"hu": {"nodule": [1.0]}}, r"hu.nodule must be \[mean, sd\]"),
        ({"hu": {"nodule": ["a", "b"]}}, "hu.nodule"),
        ({"hu": {"nodule": [0.0, -1.0]}}, "hu.nodule"),
        ({"kernels": ("soft", "sharpe")}, "Did you mean 'sharp'"),
        ({"kernels": ()}, r"kernels = \(\) .* legal: one or more"),
        ({"kernels": ("soft", "bone")}, r"kernels\[1\] = 'bone' .* legal: ramp, shepp-logan, cosine, soft, sharp"),
        ({"kernels": (3,)}, r"kernels\[0\] must be str, got 3"),
        ({"kernels": "soft"}, "kernels must be a list.* got 'soft'"),
        ({"photons": None}, "photons must be a list.* got None"),
        ({"photons": (1e6, "many")}, r"photons\[1\] must be float, got 'many'"),
        ({"scanner": 5}, "scanner must be str, got 5"),
        ({"views": "x"}, "views must be int, got 'x'"),
        ({"views": 30.5}, "views must be int, got 30.5"),
        ({"views": True}, "views must be int, got True"),
        ({"kev": None}, "kev must be float, got None"),
        ({"body_mm": 170.0}, "body_mm must be a list of 2.* got 170.0"),
        ({"motion_mm": (1.0, 2.0, 3.0)}, "motion_mm must be a list of 2"),
        ({"couch": "yes"}, "couch must be bool, got 'yes'"),
        ({"stored": "8 bit"}, "stored must be a list of 2.* got '8 bit'"),
        ({"metal_kind": None}, "metal_kind must be str, got None"),
        ({"learn": None}, "learn must be bool, got None"),
        ({"photons": (2.0, 1.0)}, r"photons = \(2.0, 1.0\) is not a range"),
        ({"cutoff": (0.0, 1.0)}, r"cutoff = \(0.0, 1.0\) is not a range"),
        ({"part_solid": 0.7, "ground_glass": 0.7}, "part_solid = 0.7 and ground_glass = 0.7 .* legal: a sum of 0 to 1"),
        ({"fed": 2.0}, "fed"),
        ({"vessels": -1.0}, "vessels"),
        ({"views": 2}, "views"),
        ({"body_mm": (10.0, 10.0)}, "body_mm"),
        ({"kev": 10.0}, "keV"),
        ({"planes": 0}, "planes"),
        ({"blur_mm": (0.5, 0.1)}, r"blur_mm = \(0.5, 0.1\) is not a range"),
        ({"modulation": 1.5}, "modulation"),
        ({"views": 0}, "views = 0 is not possible; legal: 8 to 20000"),
        ({"photons": (-1e6, 1e6)}, "photons .* legal: within 1 to 1e"),
        ({"kvp": 20.0}, "kvp = 20.0 is not possible; legal: 60 to 150 kV"),
        ({"scanner": "chest, standard doze"}, "Did you mean 'chest, standard dose'"),
        ({"geometry": "cone"}, "geometry must be one of .'parallel', 'fan'., got 'cone'"),
        ({"metal_kind": "gold"}, "metal_kind"),
        ({"metal": 1.2}, "metal = 1.2"),
        ({"around": "water"}, "around"),
        ({"tissue": "lerned"}, "Did you mean 'learned'"),
        ({"stored": (250.0, -1250.0)}, "stored"),
        ({"stored": (0.0, 3.0)}, r"stored\[1\] = 3.0 .* legal: 10 to 10000 HU"),
        ({"thickness_mm": 0.0}, "thickness_mm = 0.0 is not possible; legal: 0.1 to 50 mm"),
        ({"source_mm": 50.0}, "source_mm"),
        ({"motion_mm": (5.0, 1.0)}, "motion_mm"),
        ({"pixel_mm": 0.0}, "pixel_mm"),
        ({"anatomy": 3}, "anatomy must be a kind"),
        ({"anatomy": "phantum"}, "Did you mean 'phantom'"),
        ({"anatomy": {"kind": "phantom", "sise": 3}}, "Did you mean 'size'"),
        ({"anatomy": {"kind": "phantom", "pleural": 3.0}}, "between 0 and 1"),
    ],
)
def test_parameters_out_of_range_are_refused(wrong: Mapping[str, object], says: str) -> None:
    with pytest.raises(UnknownKindError if wrong.get("anatomy") == "phantum" else PlanError, match=says):
        SimulateCT(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"kernel": 3}, "kernel = 3 .* legal: ramp, shepp-logan, cosine, soft, sharp"),
        ({"kernel": None}, "kernel = None .* legal: ramp"),
        ({"kernel": "sharpe"}, "Did you mean 'sharp'"),
        ({"cutoff": None}, "cutoff = None is not possible; legal: 1e-06 or more cycles/mm"),
        ({"photons": None}, "photons = None is not possible; legal: 0.001 or more photons per mm²"),
        ({"photons": "many"}, "photons = 'many'"),
        ({"photons": -1.0}, "photons = -1.0"),
        ({"blur_mm": -0.1}, "blur_mm = -0.1"),
        ({"thickness_mm": "thin"}, "thickness_mm = 'thin' .* legal: 0.001 to 1000 mm"),
        ({"drift_hu": float("nan")}, "drift_hu = nan"),
    ],
)
def test_impossible_protocols_are_refused(wrong: Mapping[str, object], says: str) -> None:
    with pytest.raises(PlanError, match=says):
        Protocol(**{"kernel": "soft", "cutoff": 0.7, "photons": 1e8, **wrong})  # type: ignore[arg-type]


def test_cases_that_the_anatomy_cannot_draw_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(likeness, "LIBRARY", 8)
    case = scans(1)[0]
    both = np.concatenate([case.labels.array, np.ones_like(case.labels.array)])
    scheme = LabelScheme.of(["nodule", "organ"], exclusive=False)
    two = replace(case, truth=LabelMap.on(case.labels.geometry, both, scheme))
    with pytest.raises(DataError, match="learn = false"):
        SimulateCT().fit([two], rng_for(0, "fit"))
    fitted = SimulateCT(anatomy={"kind": "phantom", "learn": False}).fit([two], rng_for(0, "fit"))
    assert next(fitted.sample(1, rng_for(0, "own"), [two.labels])).labels is two.labels


def test_specification_is_json_without_what_was_learned() -> None:
    spec = json.loads(canonical(spec_of(SimulateCT(hu={"tumour": [30.0, 5.0]}))))
    assert spec["hu"] == {"tumour": [30.0, 5.0]}
    assert not any(name.startswith("_") for name in spec)


def test_plan_error_is_the_type_for_parameters() -> None:
    with pytest.raises(PlanError):
        SimulateCT(planes=0)

from __future__ import annotations

import numpy as np
import pytest

from equipoise.core.random import rng_for
from equipoise.engines.parts.chest_wall import Wall, place_wall, wall_hu
from equipoise.engines.parts.grid import Grid, power_law
from equipoise.engines.parts.nodule import draw_nodule, paint
from equipoise.engines.parts.vessels import grow_vessels, vessel_share


def test_a_straight_vessel_fills_its_volume() -> None:
    grid = Grid((60, 60, 60), (0.5, 0.5, 0.5))
    for radius, tolerance in ((3.0, 0.02), (1.0, 0.06)):
        pieces = np.array([[-10.0, 0.1, 0.2, 10.0, 0.3, -0.2, radius, radius]])
        length = np.linalg.norm(pieces[0, 3:6] - pieces[0, :3])
        capsule = np.pi * radius**2 * length + 4 / 3 * np.pi * radius**3
        assert vessel_share(pieces, grid).sum() * 0.5**3 == pytest.approx(capsule, rel=tolerance)


def test_a_vessel_thinner_than_a_voxel_is_faint_not_absent() -> None:
    grid = Grid((40, 40, 1), (1.0, 1.0, 1.0))
    peak = [vessel_share(np.array([[-15.0, 0.5, 0, 15.0, 0.5, 0, r, r]]), grid).max() for r in (0.1, 0.2, 0.4)]
    assert 0 < peak[0] < peak[1] < peak[2] < 1


def test_trees_follow_murray_and_keep_off_the_pleura() -> None:
    grid, wall = Grid((80, 80, 40), (1.0, 1.0, 1.0)), Wall(0.3, 30.0, 90.0)
    pieces = grow_vessels(grid, 2000.0, wall, [], rng_for(1, "trees"))
    ends = {tuple(np.round(p[3:6], 6)): p[7] for p in pieces}
    daughters: dict[tuple[float, ...], list[float]] = {}
    for p in pieces:
        daughters.setdefault(tuple(np.round(p[:3], 6)), []).append(float(p[6]))
    forks = [(ends[at], radii) for at, radii in daughters.items() if at in ends and len(radii) == 2]
    assert len(forks) > 50
    for parent, radii in forks:
        assert sum(r**3 for r in radii) == pytest.approx(parent**3, rel=1e-6)
    forked = np.array([at for at, radii in daughters.items() if at in ends and len(radii) == 2])
    assert wall.depth(forked[:, 0], forked[:, 1]).max() < -3.9


@pytest.mark.parametrize("gap", [0.0, 7.5])
def test_the_wall_leaves_the_labels_in_the_lung_at_the_gap(gap: float) -> None:
    for k in range(20):
        rng = rng_for(k, "wall")
        points = rng.normal(0, 8, (40, 2)) + rng.uniform(-15, 15, 2)
        depth = place_wall(points, gap, rng).depth(points[:, 0], points[:, 1])
        assert depth.max() == pytest.approx(-gap, abs=1e-6)


def test_the_wall_has_muscle_ribs_and_air_outside() -> None:
    grid = Grid((200, 200, 1), (1.0, 1.0, 1.0))
    hu, share = wall_hu(Wall(0.0, 10.0, 90.0), grid, rng_for(0, "wall"))
    assert share[20, 100, 0] == 0
    assert share[150, 100, 0] == 1
    wall = hu[share == 1]
    assert (wall > 600).any()
    assert ((wall > -150) & (wall < 100)).mean() > 0.3
    assert hu[199, 100, 0] == -1000


def test_power_law_field_has_unit_variance_and_its_exponent() -> None:
    grid = Grid((128, 128, 2), (0.7, 0.7, 1.0))
    fields = np.stack([power_law(grid, 3.0, 30.0, rng_for(k, "field")) for k in range(12)])
    assert fields.var() == pytest.approx(1, abs=0.25)  # a few long waves carry most of it
    power = (np.abs(np.fft.fft2(fields.sum(axis=3))) ** 2).mean(axis=0)  # the slices' sum: k_z = 0
    f = np.hypot(*np.meshgrid(*[np.fft.fftfreq(128, 0.7)] * 2))
    low, high = power[(f > 0.1) & (f < 0.12)].mean(), power[(f > 0.4) & (f < 0.48)].mean()
    assert np.log2(low / high) / 2 == pytest.approx(3.0, abs=0.15)  # two octaves apart


def test_a_smooth_nodule_is_an_ellipsoid_of_its_volume() -> None:
    grid = Grid((56, 56, 56), (0.5, 0.5, 0.5))
    for k in range(5):
        nodule = draw_nodule(np.zeros(3), 14.0, 0.15, 0.0, 0.0, rng_for(k, "ellipsoid"))
        volume = (paint([nodule], grid) > 0).sum() * 0.5**3
        assert volume == pytest.approx(np.pi / 6 * 14.0**3, rel=0.02)


def test_lobules_and_spicules_roughen_the_surface() -> None:
    grid = Grid((54, 54, 54), (0.6, 0.6, 0.6))

    def surface_to_volume(lobulation: float, spicules: float) -> float:
        ratios = []
        for k in range(4):
            mask = paint([draw_nodule(np.zeros(3), 14.0, 0.0, lobulation, spicules, rng_for(k, "rough"))], grid) > 0
            faces = sum(int(np.diff(mask.astype(np.int8), axis=a).astype(bool).sum()) for a in range(3))
            ratios.append(faces / mask.sum() ** (2 / 3))
        return float(np.mean(ratios))

    round_ = surface_to_volume(0, 0)
    assert surface_to_volume(0.15, 0) > 1.03 * round_
    assert surface_to_volume(0, 12) > 1.05 * round_

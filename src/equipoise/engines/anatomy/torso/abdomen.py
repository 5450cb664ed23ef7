"""The organs below the diaphragm, with the muscles behind them, in fat.

References
----------
Federle MP et al. Imaging Anatomy: Chest, Abdomen, Pelvis. 2nd ed. 2017 (course of colon, pancreas, crura, psoas)
ICRP. Publication 89, Ann ICRP 2002 (volumes)
"""

from __future__ import annotations

import numpy as np

from equipoise.engines.anatomy.torso.body import Person, Profiles
from equipoise.engines.anatomy.torso.canvas import Canvas, smooth_curve
from equipoise.engines.anatomy.torso.structures import ABDOMEN, index_of

BOWEL_LOOPS = 18
"""Loops of small bowel above the second lumbar vertebra."""


def paint_abdomen(canvas: Canvas, person: Person, profiles: Profiles, rng: np.random.Generator) -> None:
    """Paint the organs; what is left between them is fat."""
    solid, hollow = rng.spawn(2)
    # Organs hang on the diaphragm; the kidneys follow it half way.
    drop = 0.5 * np.array([0, 0, person.lift])
    vary = 1 + 0.06 * rng.standard_normal(8)
    _muscles(canvas, profiles)
    _kidneys(canvas, person, drop, vary[3])
    # The pancreas lies before the great vessels; liver and stomach lie against it.
    head = smooth_curve(np.array([[-33, -6, -178], [-12, -16, -160], [22, -8, -148], [70, 22, -132]]) + drop, 5)
    thick = np.interp(np.linspace(0, 1, len(head)), [0, 0.3, 0.5, 1], [17, 11, 12, 10]) * vary[4]
    canvas.chain(index_of("pancreas"), head, thick, [ABDOMEN])
    _liver(canvas, profiles, vary, solid)
    left = profiles.domes[1]
    spleen = np.array([24, 37, 50]) * vary[2]
    canvas.ellipsoid(index_of("spleen"), (102, 44, left - 42), spleen, [ABDOMEN], _turned(np.radians(22), 1))
    _stomach(canvas, left, hollow)
    _colon(canvas, profiles, hollow)
    _small_bowel(canvas, hollow)


def _muscles(canvas: Canvas, profiles: Profiles) -> None:
    """Paint the crura of the diaphragm, psoas and quadratus lumborum."""
    muscle, over = index_of("muscle"), [ABDOMEN]
    spine = profiles.at(np.array([-90.0, -150, -200, -260]))[:, 6]
    for side in (-1, 1):
        crus = smooth_curve(
            [[side * 17, spine[0] - 30, -90], [side * 19, spine[1] - 16, -150], [side * 14, spine[2] - 14, -205]], 5
        )
        forward = np.tile([1.0, 0.0, 0.0], (len(crus), 1))
        canvas.chain(muscle, crus, np.linspace(13, 7, len(crus)), over, flat=0.4, normals=forward)
        psoas = smooth_curve(
            [[side * 25, spine[1] + 6, -155], [side * 33, spine[2] + 4, -200], [side * 44, spine[3] + 2, -270]], 6
        )
        canvas.chain(muscle, psoas, np.linspace(6, 21, len(psoas)), over)
        square = smooth_curve(
            [[side * 46, spine[1] + 24, -165], [side * 60, spine[2] + 26, -205], [side * 68, spine[3] + 28, -270]], 6
        )
        canvas.chain(muscle, square, np.linspace(12, 22, len(square)), over, flat=0.45, normals=_backwards(square))


def _backwards(curve: np.ndarray) -> np.ndarray:
    return np.tile([0.25, 1.0, 0.0], (len(curve), 1))


def _kidneys(canvas: Canvas, person: Person, drop: np.ndarray, vary: float) -> None:
    # First of the organs: the liver lies about the right one, with the fat of its capsule between.
    capsule = float(np.clip(0.7 * (person.bmi - 17), 2, 12))
    both = [ABDOMEN, index_of("fat")]
    for name, side, low in (("right kidney", -1, -172.0), ("left kidney", 1, -160.0)):
        centre = np.array([side * 60.0, 44.0, low]) + drop
        axes, semi = _turned(np.radians(side * 14), 1), np.array([27.5, 22, 54]) * vary
        canvas.ellipsoid(index_of("fat"), centre, semi + capsule, [ABDOMEN], axes)
        behind = centre + np.array([-side * 10.0, 12, 0])  # the fat goes on to the muscles behind
        canvas.ellipsoid(index_of("fat"), behind, semi + capsule + np.array([4.0, 6.0, 0.0]), [ABDOMEN], axes)
        index = index_of(name)
        canvas.ellipsoid(index, centre, semi, both, axes)
        # The sinus opens to the middle and the front, between two lips of parenchyma.
        canvas.ellipsoid(index_of("fat"), centre + np.array([-side * 19.0, -6, 0]), (19, 6.5, 17), [index], axes)
        canvas.ellipsoid(index_of("fat"), centre + np.array([-side * 8.0, -3, 0]), (8, 10, 22), [index], axes)


def _liver(canvas: Canvas, profiles: Profiles, vary: np.ndarray, rng: np.random.Generator) -> None:
    right, inside, liver = float(profiles.domes[0]), [ABDOMEN], index_of("liver")
    canvas.ellipsoid(liver, (-62, -4, right - 46), np.array([78, 86, 70]) * vary[0], inside)
    canvas.ellipsoid(liver, (-92, 12, right - 74), np.array([42, 66, 66]) * vary[0], inside)
    # The left lobe runs out to a thin edge before the stomach.
    tip = rng.uniform(40, 78)
    lobe = smooth_curve([[-40, -20, right - 44], [0, -42, right - 36], [tip, -56, right - 34]], 5)
    thick = np.interp(np.linspace(0, 1, len(lobe)), [0, 0.45, 1], [60, 44, 10]) * vary[1]
    canvas.chain(liver, lobe, thick, inside, flat=0.8, normals=np.tile([0.3, 0.0, 1.0], (len(lobe), 1)))
    # The fissure of the falciform ligament, and the porta, hold fat.
    canvas.ellipsoid(index_of("fat"), (-14, -62, right - 74), (2.5, 24, 26), [liver], _turned(np.radians(8), 2))
    canvas.ellipsoid(index_of("fat"), (-24, -8, right - 78), (17, 6, 8), [liver])
    low = right - 98 + 6 * rng.standard_normal()
    sac = np.array([13, 15, 27]) * rng.uniform(0.75, 1.15)
    canvas.ellipsoid(index_of("gallbladder"), (-46, -52, low), sac, [ABDOMEN, liver], _turned(np.radians(-25), 0))


def _stomach(canvas: Canvas, left: float, rng: np.random.Generator) -> None:
    stomach = index_of("stomach")
    body = smooth_curve([[50, 16, left - 26], [62, -10, left - 58], [52, -46, left - 105], [10, -62, left - 130]], 6)
    canvas.chain(stomach, body, np.interp(np.linspace(0, 1, len(body)), [0, 0.4, 1], [36, 34, 18]), [ABDOMEN])
    # In somebody who stands, gas rises to the fundus and ends at a level.
    level = left - rng.uniform(20, 55)
    bubble = rng.uniform(0.55, 1.0)
    if rng.random() < 0.8:
        canvas.ellipsoid(
            index_of("gas"), (54, 8, left - 32), np.array([34, 34, 30]) * bubble, [stomach], above=level
        )  # fmt: skip


def _colon(canvas: Canvas, profiles: Profiles, rng: np.random.Generator) -> None:
    """Paint the colon from the ascending to the descending part, with gas in some of its pouches."""
    right, left = profiles.domes
    sag = rng.uniform(-20, 25)
    path = smooth_curve(
        [
            [-102, 14, -250], [-100, 6, -200], [-92, -30, min(right - 118, -178)], [-52, -72, -196 - sag],
            [0, -80, -206 - sag], [46, -76, -186 - sag / 2], [84, -46, left - 92], [110, -4, left - 84],
            [114, 26, left - 120], [110, 34, -215], [108, 32, -260],
        ],
        5,
    ) + 2.5 * rng.standard_normal(3)  # fmt: skip
    # Pouches: the calibre swings along the way.
    radius = rng.uniform(14, 20) * (1 + 0.16 * np.sin(np.arange(len(path)) * 1.15 + rng.uniform(0, 6)))
    bowel, gas = index_of("bowel"), index_of("gas")
    canvas.chain(bowel, path, radius, [ABDOMEN])
    filled = np.convolve(rng.standard_normal(len(path) + 8), np.ones(9) / 3, mode="valid") > 0.25
    rise = np.array([0.0, -3.0, 1.0])
    for n in np.flatnonzero(filled[:-1] & filled[1:]):
        canvas.chain(gas, path[n : n + 2] + rise, radius[n : n + 2] - 5.0, [bowel])


def _small_bowel(canvas: Canvas, rng: np.random.Generator) -> None:
    """Paint loops with fat between them."""
    bowel = index_of("bowel")
    for _ in range(BOWEL_LOOPS):
        start = rng.uniform([-55, -80, -250], [92, -8, -145])
        steps = rng.standard_normal((4, 3)) * [34, 22, 20]
        path = smooth_curve(np.clip(start + np.cumsum(steps, axis=0), [-70, -84, -270], [98, 4, -135]), 5)
        radius = rng.uniform(8.5, 13)
        canvas.chain(ABDOMEN, path, radius + 2.0, [bowel])
        canvas.chain(bowel, path, radius, [ABDOMEN])


def _turned(angle: float, about: int) -> np.ndarray:
    """Return the axes of an ellipsoid that is turned about one axis."""
    c, s = np.cos(angle), np.sin(angle)
    a, b = [k for k in range(3) if k != about]
    turn = np.eye(3)
    turn[a, a], turn[a, b], turn[b, a], turn[b, b] = c, s, -s, c
    return turn


__all__ = ["paint_abdomen"]

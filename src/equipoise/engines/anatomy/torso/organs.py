"""Heart, great vessels, airways and oesophagus."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from equipoise.engines.anatomy.torso.body import Person, Profiles
from equipoise.engines.anatomy.torso.canvas import Canvas, smooth_curve
from equipoise.engines.anatomy.torso.structures import ABDOMEN, LOBES, MEDIASTINUM, index_of, indices_of

AXIS = np.array([0.68, -0.48, -0.555]) / np.linalg.norm([0.68, -0.48, -0.555])
"""From the heart's base to its apex: to the left, the front, and down."""
_SIDE = np.cross(AXIS, [0.0, 0.0, 1.0]) / np.linalg.norm(np.cross(AXIS, [0.0, 0.0, 1.0]))
_FRAME = np.stack([AXIS, _SIDE, np.cross(AXIS, _SIDE)])
_CHEST = [MEDIASTINUM, *indices_of(*LOBES)]
EJECTION = 0.62
"""Share of the left ventricle's blood that a beat moves (MRI: 0.67 ± 0.05, Maceira 2006; CT is a little lower)."""
HILA = np.array([[-41.0, 10.0, 12.0], [43.0, 14.0, 22.0]])
"""Where vessels and bronchi enter the right and the left lung; the left one lies higher."""


def contraction(phase: float) -> float:
    """Return how far the ventricles have emptied, 0 to 1, at a phase of the cycle (0.4 is the end of systole)."""
    phase %= 1.0
    return float(np.sin(np.pi / 2 * phase / 0.4) ** 2 if phase < 0.4 else np.cos(np.pi / 2 * (phase - 0.4) / 0.6) ** 2)


def paint_chest(canvas: Canvas, person: Person, profiles: Profiles, rng: np.random.Generator) -> None:
    """Paint heart, great vessels, airways and oesophagus."""
    size, place = rng.spawn(2)
    shift = np.array([0.0, 0.0, 0.45 * person.lift]) + [2.5, 2.0, 3.0] * place.standard_normal(3)
    grow = (
        1.04
        * (1 + 0.05 * size.standard_normal())
        * (0.965 if person.female else 1.0)
        * (1 + 0.0012 * (person.age - 45))
    )
    _great_vessels(canvas, person, profiles, shift, place)
    _heart(canvas, person, shift, grow)
    _airways(canvas, place)


def _heart(canvas: Canvas, person: Person, shift: np.ndarray, grow: float) -> None:
    full = contraction(person.phase)
    # A muscle does not lose volume: what the cavity loses in width, the wall gains.
    empty = (1 - EJECTION * full) ** (1 / 3)
    # In expiration the heart lies flatter and broader.
    broad = 1 + 0.07 * (1 - person.breath)
    unit = grow * np.array([broad, 1.0, 1.0])
    wall = 9.5 + 4.0 * full
    atria = 0.88 + 0.12 * full
    left = np.array([38.0, -30.0, -55.0]) + shift
    parts = {
        "left ventricle": (left, np.array([44.0, 25.0, 25.0]) * empty, wall, _FRAME),
        "right ventricle": (
            np.array([18.0, -55.0, -57.0]) + shift, np.array([47.0, 29.0, 25.0]) * (0.3 + 0.7 * empty), 4.0, _FRAME
        ),
        "right atrium": (np.array([-22.0, -22.0, -43.0]) + shift, np.array([25.0, 27.0, 33.0]) * atria, 2.5, np.eye(3)),
        "left atrium": (np.array([9.0, 14.0, -22.0]) + shift, np.array([35.0, 21.0, 26.0]) * atria, 2.5, np.eye(3)),
    }  # fmt: skip
    over = [*_CHEST, *indices_of("fat", "vena cava", "pulmonary artery")]
    # Fat fills the grooves, the most about the apex (the fat pad of the cardiophrenic angle).
    for name, (centre, semi, thick, axes) in parts.items():
        ends = semi * unit + thick + (5.0 if "ventricle" in name else 3.0)
        canvas.ellipsoid(index_of("fat"), centre, ends, _CHEST, axes)
    # The pericardium rests on the diaphragm: no lung comes between.
    canvas.ellipsoid(index_of("fat"), left + 20 * AXIS + np.array([-4, -4, -18]), (44, 30, 20), _CHEST)
    canvas.ellipsoid(index_of("fat"), left + np.array([-34, -10, -18]), (42, 30, 22), _CHEST)
    for centre, semi, thick, axes in parts.values():
        canvas.ellipsoid(index_of("myocardium"), centre, semi * unit + thick, over, axes)
    for name in ("right atrium", "left atrium", "right ventricle"):
        centre, semi, _, axes = parts[name]
        canvas.ellipsoid(index_of(name), centre, semi * unit, [index_of("myocardium")], axes)
    centre, semi, thick, axes = parts["left ventricle"]
    # The septum belongs to the left ventricle: its wall goes over the other chambers.
    inner = [index_of("myocardium"), *indices_of("right ventricle", "left atrium", "right atrium")]
    canvas.ellipsoid(index_of("myocardium"), centre, semi * unit + thick, inner, axes)
    canvas.ellipsoid(index_of("left ventricle"), centre, semi * unit, inner, axes)


def _great_vessels(
    canvas: Canvas, person: Person, profiles: Profiles, shift: np.ndarray, rng: np.random.Generator
) -> None:
    # Width and length of the aorta grow with age (Hager 2002: ascending 31 mm on the mean, + 1.0 mm a decade or so).
    wide = (13.0 if person.female else 14.2) + 0.06 * (person.age - 45) + 0.7 * rng.standard_normal()
    unfold = 0.16 * (person.age - 45)
    spine = profiles.at(np.array([20.0, -60, -140, -230]))[:, 6]
    # The arch and what hangs on it lie still; the root follows the heart.
    half = unfold / 2
    aorta = [
        [2, -22, -22, 1.08], [-10 - half, -30, 6, 1.08], [-12 - unfold, -26, 34, 1.06], [0, -8, 61 + half, 1.0],
        [17 + half, 18, 66 + half, 0.97], [27 + half, 40, 50, 0.93], [26 + half, spine[0] - 16, 20, 0.9],
        [20 + 0.7 * half, spine[1] - 22, -60, 0.84], [8, spine[2] - 26, -140, 0.74], [4, spine[3] - 28, -230, 0.68],
    ]  # fmt: skip
    curve = smooth_curve(np.array(aorta) + np.concatenate([0.4 * shift * [1, 1, 0], [0]]), 6)
    over = [*_CHEST, ABDOMEN, *indices_of("fat", "muscle")]
    vein, artery = index_of("vena cava"), index_of("pulmonary artery")

    def both(index: int, points: Sequence[Sequence[float]], radius: tuple[float, ...]) -> None:
        path = smooth_curve(points, 5)
        r = np.interp(np.linspace(0, 1, len(path)), np.linspace(0, 1, len(radius)), radius)
        canvas.chain(index_of("fat"), path, r + 3.0, _CHEST)
        canvas.chain(index, path, r, over)

    both(vein, [[-24, -14, -20], [-27, -10, 20], [-26, -12, 60], [-25, -15, 84]], (11.5, 10.5))
    both(vein, [[-25, -15, 84], [-34, -14, 104], [-40, -10, 130], [-42, 0, 200]], (8.0, 6.5))
    both(vein, [[-25, -15, 84], [0, -22, 94], [26, -16, 108], [38, -6, 140], [42, 0, 200]], (8.0, 6.0))
    both(vein, [[-22, -8, -45], [-24, 2, -85], [-24, 22, -140], [-20, 26, -230]], (12.5, 11.0))
    both(artery, [[16, -52, -18], [21, -42, 8], [19, -22, 26], [16, -4, 30]], (14.0, 13.5))
    both(artery, [[16, -6, 30], [-8, 0, 24], [-32, 6, 18], [*HILA[0]]], (11.5, 9.5, 9.0))
    both(artery, [[17, -8, 30], [32, 4, 34], [44, 15, 28], [50, 22, 8]], (11.5, 9.5, 8.5))
    canvas.chain(index_of("fat"), curve[:, :3], wide * curve[:, 3] + 3, _CHEST)
    canvas.chain(index_of("aorta"), curve[:, :3], wide * curve[:, 3], over)
    for start, end in (([-7, -14, 56], [-34, -4, 132]), ([4, -4, 62], [24, 6, 140]), ([16, 14, 66], [36, 16, 140])):
        middle = [(a + b) / 2 + 2 for a, b in zip(start, end, strict=True)]
        both(index_of("aorta"), [start, middle, end], (5.5, 4.2))


def _airways(canvas: Canvas, rng: np.random.Generator) -> None:
    bend = 3 + 2 * rng.standard_normal()
    over = [*_CHEST, *indices_of("fat", "soft tissue", "muscle")]
    paths: list[tuple[list[list[float]], float]] = [
        ([[0, 4, 240], [0, 8, 180], [-1, 12, 120], [-bend, 17, 70], [-bend, 18, 46]], 8.8),
        ([[-bend, 18, 46], [-20, 16, 26], [-38, 14, 8], [-52, 20, -14]], 6.8),
        ([[-bend, 18, 46], [18, 20, 27], [36, 22, 14], [52, 28, -6]], 6.2),
        ([[-28, 15, 20], [-46, 12, 26], [-58, 10, 36]], 4.4),
        ([[34, 22, 15], [48, 12, 16], [58, 6, 26]], 4.4),
    ]
    for points, radius in paths:
        path = smooth_curve(points, 5)
        thick = np.linspace(radius, 0.8 * radius, len(path))
        canvas.chain(index_of("soft tissue"), path, thick + 2.0, over)
    for points, radius in paths:
        path = smooth_curve(points, 5)
        canvas.chain(index_of("airway"), path, np.linspace(radius, 0.8 * radius, len(path)), over)
    gullet = smooth_curve([[3, 24, 200], [2, 30, 100], [6, 34, 40], [6, 36, -30], [22, 20, -95]], 8)
    canvas.chain(index_of("oesophagus"), gullet, 7.0, [MEDIASTINUM, *indices_of("fat", "soft tissue")])


__all__ = ["AXIS", "EJECTION", "HILA", "contraction", "paint_chest"]

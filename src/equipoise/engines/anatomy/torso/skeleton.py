"""Spine, ribs with their cartilage, breast bone, and the shoulder girdle with the muscles about it."""

from __future__ import annotations

import numpy as np

from equipoise.engines.anatomy.torso.body import VERTEBRAE, Person, Profiles, vertebra_z
from equipoise.engines.anatomy.torso.canvas import Canvas, smooth_curve
from equipoise.engines.anatomy.torso.structures import ABDOMEN, LOBES, MEDIASTINUM, index_of, indices_of

RIB_DROP = (36.0, 56.0, 72.0, 86.0, 98.0, 108.0, 116.0, 116.0, 108.0, 94.0, 62.0, 36.0)
"""How much lower the front end of each rib lies than its head, mm."""
RIB_END = (0.78, 0.83, 0.85, 0.86, 0.86, 0.85, 0.82, 0.76, 0.70, 0.64, 0.50, 0.33)
"""How far around the chest each rib reaches: 0 at the spine, 1 at the breast bone."""
_SOFT = [*indices_of("fat", "muscle", "soft tissue", *LOBES), MEDIASTINUM, ABDOMEN]


def paint_skeleton(canvas: Canvas, person: Person, profiles: Profiles, rng: np.random.Generator) -> None:
    """Paint all bones."""
    shoulders, cage, spine = rng.spawn(3)
    # Symmetric but for a few mm: nobody's two sides are alike.
    for side in (-1, 1):
        _shoulder(canvas, person, profiles, side, shoulders)
    _spine(canvas, profiles, spine)
    for side in (-1, 1):
        for n in range(12):
            _rib(canvas, person, profiles, side, n, cage)
    _sternum(canvas, profiles)


def _spine(canvas: Canvas, profiles: Profiles, rng: np.random.Generator) -> None:
    middles = vertebra_z()
    bend = 3.0 * rng.standard_normal()  # a slight scoliosis is the rule
    canal = []
    for n, z in enumerate(middles):
        height = VERTEBRAE[n]
        disc = np.interp(n, [0, 3, 14, 17], [4.0, 3.5, 6.5, 9.5])
        row = profiles.at(z)
        x, y = bend * np.sin(z / 90), float(row[6])
        wide, deep = (
            np.interp(n, [0, 2, 10, 14, 17], [12, 14, 16.5, 20, 23]),
            np.interp(n, [0, 2, 10, 17], [8, 9, 14, 16.5]),
        )
        # A stack of two cylinders with a waist, the body's end plates are wider than its middle.
        top, bottom = z + height / 2 - disc, z - height / 2
        bone = index_of("vertebra", n + 1)
        for lift, waist in ((0.0, 1.0), (0.33, 0.93), (0.67, 0.93), (1.0, 1.0)):
            h = bottom + lift * (top - bottom)
            reach = (top - bottom) / 5
            canvas.ellipsoid(
                bone, (x, y, h), (1.15 * wide * waist, 1.15 * deep * waist, 3 * reach), _SOFT,
                above=max(bottom, h - reach), below=min(top, h + reach),
            )  # fmt: skip
        canvas.ellipsoid(
            index_of("disc", n + 1), (x, y, z + height / 2 - disc / 2), (1.12 * wide, 1.12 * deep, 3 * disc), _SOFT,
            above=top, below=z + height / 2,
        )  # fmt: skip
        back = y + deep + 16.0
        arch = np.array([[x - 0.62 * wide, y + deep - 2, z + 2], [x - 10, back, z], [x, back + 4, z - 2]])
        for turn in (1, -1):
            side = arch * [turn, 1, 1] + [x - turn * x, 0, 0]
            canvas.chain(bone, smooth_curve(side, 4), np.linspace(4.2, 3.4, len(smooth_curve(side, 4))), _SOFT)
            # Joints and laminae reach from vertebra to vertebra: at the level of a disc they are still there.
            joint = np.array(
                [
                    [x + turn * 0.8 * wide, back - 5, z - height / 2 + 1],
                    [x + turn * 0.85 * wide, back - 7, z + height / 2 - 1],
                ]
            )
            canvas.chain(bone, joint, np.array([5.0, 4.6]), _SOFT)
            lamina = np.array([[x + turn * 0.7 * wide, back - 2, z - 5], [x + turn * 2, back + 4, z - 8]])
            canvas.chain(bone, lamina, np.array([3.6, 3.6]), _SOFT)
            out = np.array([[x + turn * 10, back - 3, z + 1], [x + turn * 1.75 * wide, back + 2, z + 3]])
            canvas.chain(bone, out, np.array([4.0, 3.6]), _SOFT)
        fall = np.interp(n, [0, 2, 8, 14, 17], [6, 12, 24, 14, 6])
        spine = np.array([[x, back + 2, z - 2], [x, back + 30, z - 2 - fall]])
        canvas.chain(bone, spine, np.array([6.5, 7.5]), _SOFT, flat=0.42, normals=np.tile([1.0, 0, 0], (2, 1)))
        canal.append([x, y + 1.12 * deep + 7.5, z])
    bones = [*_SOFT, *indices_of("vertebra", "disc")]
    path = smooth_curve(canal, 5)
    canvas.chain(index_of("fat"), path, 10.5, bones, flat=0.8, normals=np.tile([0.0, 1.0, 0.0], (len(path), 1)))
    canvas.chain(
        index_of("spinal cord"),
        path,
        8.2,
        [index_of("fat")],
        flat=0.85,
        normals=np.tile([0.0, 1.0, 0.0], (len(path), 1)),
    )


def _rib(canvas: Canvas, person: Person, profiles: Profiles, side: int, n: int, rng: np.random.Generator) -> None:
    level = vertebra_z()[n + 2] + VERTEBRAE[n + 2] / 2 - 2
    # In expiration the front ends sink.
    drop = RIB_DROP[n] * (1.16 - 0.16 * person.breath) * (1 + 0.04 * rng.standard_normal())
    end = min(RIB_END[n] * (1 + 0.012 * rng.standard_normal()), 0.9)
    along = np.linspace(0.17, end, 44)
    share = (along - 0.1) / (end - 0.1)
    z = level + 3 * np.sin(np.pi * np.minimum(share / 0.3, 1)) - drop * share**1.75
    curve = profiles.wall(z, side, np.pi * along, 4.2)
    head = [side * 17.0, float(profiles.at(level)[6]) + 6, level]
    tubercle = [side * 34.0, float(profiles.at(level)[6]) + 24, level + 3]
    curve = np.vstack([smooth_curve([head, tubercle, curve[0]], 5)[:-1], curve])
    outward = curve.copy()
    outward[:, 1] -= profiles.at(curve[:, 2])[:, 2]
    outward[:, 2] = 0.0
    # The cavity narrows upwards: the first ribs lie flat.
    tilt = np.interp(n, [0, 1, 2, 4], [2.2, 0.9, 0.45, 0.1])
    outward /= np.linalg.norm(outward, axis=1, keepdims=True)
    outward[:, 2] = tilt
    high = np.interp(n, [0, 1, 4, 9, 11], [8.0, 7.3, 7.6, 7.4, 5.5]) * np.interp(
        np.linspace(0, 1, len(curve)), [0, 0.1, 0.5, 1], [0.75, 0.85, 1.0, 1.08]
    )
    number = 1 + n + (12 if side > 0 else 0)
    canvas.chain(index_of("rib", number), curve, high, _SOFT, flat=0.52, normals=outward)
    if n < 10:
        _cartilage(canvas, profiles, side, n, curve[-1])


def _cartilage(canvas: Canvas, profiles: Profiles, side: int, n: int, start: np.ndarray) -> None:
    """Paint what joins a rib to the breast bone; ribs 8 to 10 reach it by their upper neighbour."""
    target = np.array([side * np.interp(n, [0, 2, 6, 9], [22, 16, 11, 16]), 0.0, 0.0])
    target[2] = np.interp(n, [0, 1, 6, 9], [104.0, 76.0, -36.0, -60.0])
    if n >= 7:
        target[:2] = start[:2] * [0.62, 1.0]
        target[2] = start[2] + 34
    row = profiles.at(target[2])
    target[1] = min(row[2] - row[1] * (1 - abs(target[0] / row[0]) ** 2.35) ** (1 / 2.35) - 4, start[1] + 25)
    middle = (start + target) / 2 + [0, -5.0, -5.0 if n > 2 else 0.0]
    index = index_of("cartilage", 1 + n + (10 if side > 0 else 0))
    curve = smooth_curve([start, middle, target], 5)
    normals = np.tile([0.25 * side, -1.0, 0.0], (len(curve), 1))
    canvas.chain(index, curve, 6.2, _SOFT, flat=0.62, normals=normals)


def _sternum(canvas: Canvas, profiles: Profiles) -> None:
    heights = np.array([110.0, 100, 88, 74, 55, 30, 0, -25, -42, -55])
    half = np.array([24.0, 30, 26, 18, 15, 16, 19, 17, 10, 5])
    front = profiles.at(heights)
    y = front[:, 2] - front[:, 1] - 5
    # A broad flat bone: strips beside each other.
    for offset in np.linspace(-1, 1, 9):
        points = np.column_stack([offset * np.maximum(half - 4, 1), y, heights])
        normals = np.tile([0.0, -1.0, 0.25], (len(points), 1))
        canvas.chain(index_of("sternum"), points, np.minimum(half, 5.0), _SOFT, flat=0.9, normals=normals)


def _shoulder(canvas: Canvas, person: Person, profiles: Profiles, side: int, rng: np.random.Generator) -> None:
    up, forward = 7 * rng.standard_normal(), 5 * rng.standard_normal()
    turn = np.array([side, 1.0, 1.0])
    move = np.array([0.0, forward, up])
    glenoid = np.array([150.0, 28, 112]) * turn + move
    head = np.array([174.0, 22, 114]) * turn + move
    raised = person.arms_raised
    if raised:
        # The shoulder blade turns with the arm, its lower end forward and outward.
        glenoid, head = np.array([146.0, 20, 126]) * turn + move, np.array([164.0, 12, 142]) * turn + move
    elbow = np.array([150.0, -6, 400] if raised else [214.0, 30, -120]) * turn + move
    acromion = np.array([168.0, 26, 150]) * turn + move
    high, low = np.array([84.0, 98, 122]) * turn + move / 2, np.array([116.0, 108, -22]) * turn + move / 2
    if raised:
        low = np.array([150.0, 84, -2]) * turn + move / 2
    _flesh(canvas, person, side, (glenoid, head, elbow, acromion, high, low))
    over = [*_SOFT]
    blade = index_of("scapula", 1 if side < 0 else 2)
    across = np.cross(glenoid - high, low - high)
    for share in np.linspace(0, 1, 14):
        a, b = high + share * (low - high), glenoid + np.array([side * -8, 6, -6]) + share * (low - glenoid)
        canvas.chain(blade, np.array([a, b]), 9.0, over, flat=0.17, normals=np.tile(across, (2, 1)))
    canvas.chain(blade, smooth_curve([glenoid, glenoid * 0.6 + low * 0.4 + np.array([0, 6, 0]), low], 6), 4.8, over)
    canvas.chain(blade, smooth_curve([high, (high + low) / 2 + [-3 * side, 0, 0], low], 6), 2.6, over)
    ridge = smooth_curve([high * 0.72 + low * 0.28, high * 0.35 + glenoid * 0.65 + np.array([0, 26, 22]), acromion], 6)
    canvas.chain(
        blade, ridge, np.linspace(3.0, 7.0, len(ridge)), over, flat=0.7, normals=np.tile([0, 0, 1.0], (len(ridge), 1))
    )
    canvas.ellipsoid(blade, glenoid, (8, 13, 18), over)
    coracoid = smooth_curve(
        [
            glenoid + np.array([-6 * side, -4, 16]),
            glenoid + np.array([-4 * side, -26, 22]),
            glenoid + np.array([8 * side, -34, 12]),
        ],
        4,
    )
    canvas.chain(blade, coracoid, np.linspace(6.5, 4.5, len(coracoid)), over)
    arm = index_of("humerus", 1 if side < 0 else 2)
    canvas.ellipsoid(arm, head, (23, 23, 24), over)
    along = (elbow - head) / np.linalg.norm(elbow - head)
    shaft = smooth_curve([head + 9 * along, head + 42 * along + np.array([4.0 * side, 0, 0]), elbow], 12)
    canvas.chain(arm, shaft, np.interp(np.arange(len(shaft)), [0, 4, 8], [19, 13.5, 11.5]), over)
    _clavicle(canvas, profiles, side, acromion)


def _clavicle(canvas: Canvas, profiles: Profiles, side: int, acromion: np.ndarray) -> None:
    row = profiles.at(112)
    y = float(row[2] - row[1])
    points = [
        [side * 20.0, y - 5, 112], [side * 42.0, y - 14, 122], [side * 70.0, y - 12, 131], [side * 102.0, y + 16, 139],
        [side * 132.0, y + 50, 146], [*(acromion + np.array([-6 * side, -12, 0]))],
    ]  # fmt: skip
    curve = smooth_curve(points, 5)
    thick = np.interp(np.linspace(0, 1, len(curve)), [0, 0.12, 0.35, 0.8, 1], [10.5, 8.0, 6.2, 6.4, 7.6])
    normals = np.tile([0.0, -0.3, 1.0], (len(curve), 1))
    over = [*_SOFT, *indices_of("rib", "cartilage")]
    canvas.chain(index_of("clavicle", 1 if side < 0 else 2), curve, thick, over, flat=0.85, normals=normals)


def _flesh(canvas: Canvas, person: Person, side: int, joints: tuple[np.ndarray, ...]) -> None:
    """Paint the muscles of shoulder and arm, with fat about them, outside the trunk's own muscles."""
    glenoid, head, elbow, acromion, high, low = joints
    neck = np.array([side * 45.0, 28, 176])
    parts = [
        (
            smooth_curve([neck, (neck + acromion) / 2 + [0, 6, 5], acromion + np.array([0, 0, -6])], 10),
            (20.0, 26.0, 24.0),
        ),  # trapezius
        (
            smooth_curve([head + np.array([3 * side, 0, 0]), (head + elbow) / 2 + [2 * side, 0, 0], elbow], 12),
            (44.0, 40.0, 36.0),
        ),
        (
            smooth_curve([np.array([side * 70.0, -52, 86]), np.array([side * 125.0, -34, 100]), head], 10),
            (22.0, 28.0, 32.0),
        ),
        (
            smooth_curve([low + np.array([10 * side, -14, -30]), low * 0.5 + glenoid * 0.5, head], 10),
            (16.0, 28.0, 34.0),
        ),
        (smooth_curve([high, (high + glenoid) / 2, glenoid], 10), (24.0, 30.0, 34.0)),
    ]
    for index, more, over in (
        (index_of("fat"), person.fat_mm[0] * 0.7, [0]),
        (index_of("muscle"), 0.0, [0, index_of("fat")]),
    ):
        for curve, radii in parts:
            thick = np.interp(np.linspace(0, 2, len(curve)), [0, 1, 2], radii) + more
            canvas.chain(index, curve, thick, over)


__all__ = ["RIB_DROP", "RIB_END", "paint_skeleton"]

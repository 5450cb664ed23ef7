"""A breast under a linear probe.

Order of the layers, shapes of masses and tissue composition follow BI-RADS. The thicknesses of all layers but the skin,
the distance of ligaments and ribs, and the proportions of lesions are assumed.

References
----------
Technical note: skin thickness measurements using high-resolution flat-panel cone-beam dedicated breast CT. Med Phys
2013. doi:10.1118/1.4793257 (0.87 to 2.34 mm, mean 1.44 mm, 137 breasts)
American College of Radiology. BI-RADS Atlas, Ultrasound. 2013.
"""

from __future__ import annotations

import numpy as np
from scipy.special import ndtri

from equipoise.core.labels import Label
from equipoise.engines.anatomy.breast_and_neck.canvas import Canvas

LABELS = (
    Label("skin", 1, "39937001"),
    Label("fat", 2, "55603005"),
    Label("glandular tissue", 3),
    Label("Cooper's ligament", 4),
    Label("fascia", 5),
    Label("pectoral muscle", 6, "127954009"),
    Label("rib", 7, "113197003"),
    Label("lung", 8, "39607008"),
    Label("cyst", 9),
    Label("fibroadenoma", 10),
    Label("carcinoma", 11),
)
LESIONS = ("cyst", "fibroadenoma", "carcinoma")
SKIN_MM, SUBCUTANEOUS_MM, GLAND_MM = (0.87, 2.34), (3.0, 11.0), (8.0, 20.0)
RETROMAMMARY_MM, MUSCLE_MM, RIB_MM = (1.0, 6.0), (4.0, 11.0), (5.0, 8.0)
LIGAMENTS_MM = (7.0, 13.0)
"""Distance of Cooper's ligaments."""


def draw(canvas: Canvas, lesions: dict[str, tuple[float, ...]], rng: np.random.Generator) -> None:
    """Paint skin, fat with ligaments, gland, muscle, ribs and lung, and lesions in the gland.

    Parameters
    ----------
    lesions
        Diameters in mm to draw, by label.
    """
    c = canvas
    layers, inner, found = rng.spawn(3)
    skin = np.float32(layers.uniform(*SKIN_MM)) + c.waves(0.1, 12, layers)
    front = skin + np.float32(layers.uniform(*SUBCUTANEOUS_MM)) + c.waves(0.8, 12, layers)
    front = np.maximum(front - _crests(c, layers), skin + 0.8)  # ligaments lift the gland towards the skin
    back = np.maximum(front + 2, front.mean() + np.float32(layers.uniform(*GLAND_MM)) + c.waves(0.8, 16, layers))
    muscle = back + np.float32(layers.uniform(*RETROMAMMARY_MM)) + c.waves(0.3, 25, layers)
    chest = muscle + np.float32(layers.uniform(*MUSCLE_MM)) + c.waves(0.3, 30, layers)
    c.paint("fat", np.ones((1, 1, 1), bool))
    c.paint("skin", c.y <= skin)
    share = layers.uniform(0.3, 0.95)  # of gland in the glandular zone: BI-RADS composition a to c
    lobules = c.grain((4.5, 2.4), inner) < np.float32(ndtri(share))
    c.paint("glandular tissue", (c.y > front) & (c.y <= back) & lobules)
    _ligaments(c, skin, front, inner)
    c.paint("pectoral muscle", c.y > muscle)
    gaps = c.grain((3.0, 3.0), inner)
    for depth in (muscle, muscle + (chest - muscle) * np.float32(inner.uniform(0.4, 0.6))):
        thick = max(0.2, 0.55 * c.spacing[1]) * (1 + 0.4 * gaps)
        c.paint("fascia", (np.abs(c.y - depth + 0.15 * gaps) <= thick) & (gaps > -1.4))
    _chest_wall(c, chest, inner)
    for kind, sizes in lesions.items():
        for size in sizes:
            _lesion(c, kind, size, (float(front.mean()), float(back.mean())), found)


def _crests(c: Canvas, rng: np.random.Generator) -> np.ndarray:
    """Return how far the front of the gland is drawn to the skin, mm, shape ``(I, 1, K)``."""
    out = np.zeros((c.x.shape[0], 1, c.w.shape[2]), np.float32)
    for place in _places(c, rng):
        lean = rng.uniform(-0.3, 0.3)
        out += np.float32(rng.uniform(0.5, 3.0)) * np.exp(-np.abs(c.x - place - lean * c.w) / np.float32(1.8))
    return out


def _places(c: Canvas, rng: np.random.Generator) -> list[float]:
    place, places = -c.width / 2 + float(rng.uniform(0, LIGAMENTS_MM[1])), []
    while place < c.width / 2:
        places.append(place)
        place += float(rng.uniform(*LIGAMENTS_MM))
    return places


def _ligaments(c: Canvas, skin: np.ndarray, front: np.ndarray, rng: np.random.Generator) -> None:
    """Paint thin, bent, uneven sheets in the fat; not all reach from the gland to the skin."""
    gaps = c.grain((2.0, 2.0), rng)
    for place in _places(c, rng):
        lean, half = rng.normal(0, 1.1), rng.uniform(0.06, 0.2)
        rise = c.y - front
        bend = np.float32(rng.uniform(0.3, 0.9)) * np.sin(rise / rng.uniform(1.5, 3.5) + rng.uniform(0, 2 * np.pi))
        line = place + np.float32(lean) * rise + bend + np.float32(rng.uniform(-0.3, 0.3)) * c.w
        top = skin + (front - skin) * np.float32(max(rng.uniform(-0.6, 0.6), 0))
        thick = max(half, 0.5 * c.spacing[0]) * np.sqrt(1 + lean**2)
        here = (np.abs(c.x - line) <= thick * (1 + 0.35 * gaps)) & (c.y > top) & (c.y <= front + 1) & (gaps > -1.1)
        c.paint("Cooper's ligament", here)


def _chest_wall(c: Canvas, chest: np.ndarray, rng: np.random.Generator) -> None:
    """Paint ribs as ovals with muscle between them, and the lung behind."""
    thick = float(rng.uniform(*RIB_MM))
    pleura = chest + np.float32(thick + rng.uniform(0.5, 2.0))
    c.paint("fascia", (c.y > pleura - 0.35) & (c.y <= pleura))
    c.paint("lung", c.y > pleura)
    if rng.random() < 0.5:  # the probe lies along a rib as often as across several
        place = float(rng.uniform(-c.width / 2, c.width / 2))
        while place < c.width / 2 + 10:
            level = float(chest[int(np.clip((place / c.width + 0.5) * len(chest), 0, len(chest) - 1)), 0, 0])
            oval = c.ellipse((place, level + thick / 2), (float(rng.uniform(5, 7.5)), thick / 2))
            c.paint("rib", oval <= 1)
            place += float(rng.uniform(20, 27))


def _lesion(c: Canvas, kind: str, size: float, zone: tuple[float, float], rng: np.random.Generator) -> None:
    """Paint one lesion at the best of several places in the gland."""
    flat = {"cyst": (0.55, 0.95), "fibroadenoma": (0.45, 0.7), "carcinoma": (0.8, 1.35)}[kind]
    flatness = float(rng.uniform(*flat))
    radii = (size / 2 / np.sqrt(flatness), size / 2 * np.sqrt(flatness))
    degrees = float(rng.uniform(-12, 12) if kind != "carcinoma" else rng.uniform(-30, 30))
    rough, lobes = {"cyst": (0.015, (2, 4)), "fibroadenoma": (0.05, (2, 6)), "carcinoma": (0.17, (3, 17))}[kind]
    seed, best, most = int(rng.integers(2**63)), None, -1.0
    for _ in range(6):
        low = zone[0] + 0.6 * radii[1]
        depth = float(rng.uniform(low, max(zone[1] - 0.5 * radii[1], low + 0.1)))
        reach = max(c.width / 2 - radii[0], 0.05 * c.width)
        depth = min(depth, max(c.height - radii[1], radii[1]))
        place = (float(rng.uniform(-reach, reach)), depth)
        mask = c.ragged(place, radii, rough, lobes, np.random.default_rng(seed), degrees)
        share = c.share(mask, "glandular tissue", "fat", "Cooper's ligament")
        if share > most:
            best, most = mask, share
    if best is not None:
        c.paint(kind, best)


__all__ = ["LABELS", "LESIONS", "draw"]

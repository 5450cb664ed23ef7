"""A neck at the level of the thyroid, cut across, under a linear probe.

The trachea's width lies within the published limits; all other thicknesses, diameters and distances are assumed.

References
----------
Breatnach E, Abbott GC, Fraser RG. Dimensions of the normal human trachea. AJR 1984. doi:10.2214/ajr.142.5.903 (coronal
diameter of the air column 13 to 25 mm in men, 10 to 21 mm in women)
"""

from __future__ import annotations

import numpy as np

from equipoise.core.labels import Label
from equipoise.engines.anatomy.breast_and_neck.canvas import Canvas

LABELS = (
    Label("skin", 1, "39937001"),
    Label("fat", 2, "55603005"),
    Label("muscle", 3, "127954009"),
    Label("strap muscle", 4),
    Label("fascia", 5),
    Label("thyroid", 6, "69748006"),
    Label("vessel wall", 7),
    Label("carotid artery", 8, "32062004"),
    Label("jugular vein", 9, "12123001"),
    Label("tracheal cartilage", 10),
    Label("trachea", 11, "44567001"),
    Label("oesophagus", 12, "32849002"),
    Label("vertebra", 13),
    Label("nodule", 14),
    Label("cyst", 15),
)
LESIONS = ("nodule", "cyst")
SKIN_MM, FAT_MM, STRAP_MM = (1.0, 2.2), (2.0, 7.0), (2.0, 4.5)
LOBE_DEPTH_MM, LOBE_WIDTH_MM, ISTHMUS_MM = (12.0, 18.0), (13.0, 20.0), (2.0, 5.0)
CAROTID_MM, WALL_MM, JUGULAR_MM, TRACHEA_MM = (5.0, 8.0), (0.5, 0.9), (6.0, 15.0), (15.0, 22.0)


def draw(canvas: Canvas, lesions: dict[str, tuple[float, ...]], rng: np.random.Generator) -> None:
    """Paint skin, fat, muscles, thyroid, trachea, both vessels and the spine, and lesions in the thyroid.

    The probe stands over a lobe or over the isthmus: the body's midline lies anywhere in the picture.
    """
    c = canvas
    layers, organs, found = rng.spawn(3)
    middle = float(organs.choice([-1.0, 0.0, 1.0], p=[0.4, 0.2, 0.4]) * organs.uniform(9, 15) + organs.normal(0, 1))
    skin = np.float32(layers.uniform(*SKIN_MM)) + c.waves(0.1, 12, layers)
    deep = skin + np.float32(layers.uniform(*FAT_MM)) + c.waves(0.4, 20, layers)
    strap = deep + np.float32(layers.uniform(*STRAP_MM)) + c.waves(0.25, 14, layers)
    c.paint("muscle", np.ones((1, 1, 1), bool))
    c.paint("fat", c.y <= strap + 26)
    base = float(strap.mean())
    spine = base + float(organs.uniform(21, 28))
    c.paint("muscle", c.y > spine - 7 + c.waves(0.6, 14, layers))
    bone = spine + c.waves(0.5, 14, layers) + np.float32(0.012) * (c.x - np.float32(middle)) ** 2
    c.paint("vertebra", c.y > bone)
    c.paint("strap muscle", (c.y > deep) & (c.y <= strap))
    c.paint("skin", c.y <= skin)
    for side in (-1.0, 1.0):
        _sternomastoid(c, middle + side * organs.uniform(25, 31), deep, organs)
    gaps = c.grain((3.0, 3.0), layers)
    for depth in (deep, strap):
        thick = max(0.15, 0.55 * c.spacing[1]) * (1 + 0.4 * gaps)
        c.paint("fascia", (np.abs(c.y - depth + 0.12 * gaps) <= thick) & (gaps > -1.4))
    trachea = float(organs.uniform(*TRACHEA_MM)) / 2
    at = base + float(organs.uniform(*ISTHMUS_MM)) + 0.85 * trachea
    boxes = _thyroid(c, middle, base, trachea, at, strap, organs)
    _trachea(c, middle, trachea, at, organs)
    for side in (-1.0, 1.0):
        _vessels(c, middle + side * (trachea + boxes[1] + organs.uniform(1.5, 5.0)), side, base, organs)
    for kind, sizes in lesions.items():
        for size in sizes:
            _lesion(c, kind, size, found)


def _sternomastoid(c: Canvas, place: float, deep: np.ndarray, rng: np.random.Generator) -> None:
    thick = float(rng.uniform(6, 10))
    level = float(deep.mean()) + 0.45 * thick
    lens = c.ellipse((place, level), (float(rng.uniform(13, 18)), thick / 2), float(rng.uniform(-8, 8)))
    c.paint("fascia", (lens <= 1.12) & (c.y > deep))
    c.paint("muscle", (lens <= 1) & (c.y > deep))


def _thyroid(
    c: Canvas,
    middle: float,
    base: float,
    trachea: float,
    at: float,
    strap: np.ndarray,
    rng: np.random.Generator,
) -> tuple[float, float]:
    """Paint two lobes beside the trachea and the isthmus before it; return the lobes' mean depth and width."""
    tall, wide = float(rng.uniform(*LOBE_DEPTH_MM)), float(rng.uniform(*LOBE_WIDTH_MM))
    isthmus = c.ellipse((middle, at), (trachea + 5.0, at - base)) <= 1
    c.paint("thyroid", isthmus & (c.y < at) & (c.y > strap))
    for side in (-1.0, 1.0):
        place = (middle + side * (trachea + 0.32 * wide), base + 0.53 * tall * float(rng.uniform(0.95, 1.1)))
        radii = (wide / 2 * float(rng.uniform(0.9, 1.1)), tall / 2 * float(rng.uniform(0.9, 1.1)))
        lobe = c.ragged(place, radii, 0.05, (2, 5), rng, side * float(rng.uniform(0, 20)))
        c.paint("thyroid", lobe & (c.y > strap))
    return tall, 0.75 * wide


def _trachea(c: Canvas, middle: float, radius: float, at: float, rng: np.random.Generator) -> None:
    """Paint a ring of cartilage that is open behind, with air in it, and the oesophagus at its left."""
    across = c.ellipse((middle, at), (radius, 0.85 * radius))
    c.paint("tracheal cartilage", (across <= 1) & (c.y < at + 0.5 * radius))
    c.paint("trachea", c.ellipse((middle, at), (radius - 1.3, 0.85 * radius - 1.3)) <= 1)
    place = (middle + radius * float(rng.uniform(0.5, 0.9)), at + 0.9 * radius)
    outer = c.ellipse(place, (float(rng.uniform(4.5, 7)), float(rng.uniform(2.5, 4))))
    c.paint("oesophagus", (outer <= 1) & ~c.holds("trachea", "tracheal cartilage"))


def _vessels(c: Canvas, place: float, side: float, base: float, rng: np.random.Generator) -> None:
    """Paint the common carotid with its wall, and the jugular vein beside and before it, more or less pressed flat."""
    radius, wall = float(rng.uniform(*CAROTID_MM)) / 2, float(rng.uniform(*WALL_MM))
    centre = (place + side * radius, base + float(rng.uniform(9, 14)))
    width, press = float(rng.uniform(*JUGULAR_MM)) / 2, float(rng.uniform(0.35, 0.85))
    vein = (centre[0] + side * (radius + 0.7 * width), centre[1] - float(rng.uniform(0.5, 1.4)) * radius)
    turned = side * float(rng.uniform(-10, 25))
    thin = max(0.35, 0.6 * c.spacing[1])
    c.paint("vessel wall", c.ellipse(vein, (width + thin, press * width + thin), turned) <= 1)
    c.paint("jugular vein", c.ellipse(vein, (width, press * width), turned) <= 1)
    bend = np.float32(rng.uniform(-0.1, 0.1)) * c.w  # along the sweep the vessel runs a little aslant
    far = np.sqrt((c.x - np.float32(centre[0]) - bend) ** 2 + (c.y - np.float32(centre[1])) ** 2)
    c.paint("vessel wall", far <= radius + wall)
    c.paint("carotid artery", far <= radius)


def _lesion(c: Canvas, kind: str, size: float, rng: np.random.Generator) -> None:
    """Paint one lesion at the best of several places in the thyroid."""
    inside = np.argwhere(c.holds("thyroid"))
    flatness = float(rng.uniform(0.7, 1.15))
    radii = (size / 2 / np.sqrt(flatness), size / 2 * np.sqrt(flatness))
    rough, lobes = (0.02, (2, 4)) if kind == "cyst" else (0.08, (2, 9))
    seed, best, most = int(rng.integers(2**63)), None, -1.0
    for _ in range(8):
        if len(inside):
            i, j, _ = inside[int(rng.integers(len(inside)))]
            place = (float(c.x[i, 0, 0]), float(c.y[0, j, 0]))
        else:  # a block too small to hold the thyroid
            place = (0.0, c.height / 2)
        mask = c.ragged(place, radii, rough, lobes, np.random.default_rng(seed))
        share = c.share(mask, "thyroid")
        if share > most:
            best, most = mask, share
    if best is not None:
        c.paint(kind, best & ~c.holds("trachea", "tracheal cartilage", "carotid artery", "vessel wall"))


__all__ = ["LABELS", "LESIONS", "draw"]

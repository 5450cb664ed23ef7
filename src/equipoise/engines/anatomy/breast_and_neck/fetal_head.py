"""A fetal head in the uterus, in the plane that is measured: thalami, cavum septi pellucidi, midline.

Thicknesses of the mother's layers, skull, scalp and placenta, and the places of the landmarks within the head, are
assumed.

References
----------
Snijders RJM, Nicolaides KH. Fetal biometry at 14-40 weeks' gestation. Ultrasound Obstet Gynecol 1994 (mean biparietal
diameter by week; `BIPARIETAL_MM` was taken from a secondary tabulation in whole mm, not from the paper).
Hadlock FP, Deter RL, Carpenter RJ, Park SK. Estimating fetal age: effect of head shape on BPD. AJR 1981 (cephalic index
of 78.3 on the mean; one standard deviation lies at 74 and 83).
"""

from __future__ import annotations

import numpy as np

from equipoise.core.labels import Label
from equipoise.engines.anatomy.breast_and_neck.canvas import Canvas

LABELS = (
    Label("fetal head", 1),
    Label("skin", 2, "39937001"),
    Label("fat", 3, "55603005"),
    Label("muscle", 4, "127954009"),
    Label("uterine wall", 5),
    Label("placenta", 6, "78067005"),
    Label("amniotic fluid", 7, "77012006"),
    Label("fetal scalp", 8, "41695006"),
    Label("fetal skull", 9, "89546000"),
    Label("fetal brain", 10, "12738006"),
    Label("midline", 11),
    Label("cavum septi pellucidi", 12),
    Label("thalamus", 13, "42695009"),
    Label("lateral ventricle", 14, "66720007"),
    Label("choroid plexus", 15, "80621003"),
)
INDEX, INDEX_SD = 0.783, 0.044
"""Cephalic index, biparietal over occipitofrontal diameter."""
BIPARIETAL_MM = {14: 28.0, 16: 34.0, 18: 39.0, 20: 45.0, 24: 57.0, 28: 69.0, 32: 77.0, 36: 86.0, 39: 89.0}
"""Mean biparietal diameter by completed week."""
SKIN_MM, FAT_MM, MUSCLE_MM = (1.5, 3.0), (4.0, 20.0), (4.0, 9.0)
WALL_MM, PLACENTA_MM = (4.0, 10.0), (18.0, 35.0)


def biparietal_mm(weeks: float) -> float:
    """Return the mean biparietal diameter at an age, mm: linear between the weeks of `BIPARIETAL_MM`."""
    return float(np.interp(weeks, list(BIPARIETAL_MM), list(BIPARIETAL_MM.values())))


def draw(canvas: Canvas, weeks: float, rng: np.random.Generator) -> np.ndarray:
    """Paint the mother's tissue, fluid, placenta and head; return the head's whole outline, bool, ``(I, J, K)``.

    The outline is the ellipse around the skull's outer rim, as sonographers draw it.
    """
    c = canvas
    mother, head, brain = rng.spawn(3)
    across = biparietal_mm(weeks) * float(np.exp(head.normal(0, 0.04)))
    index = float(np.clip(head.normal(INDEX, INDEX_SD), 0.68, 0.9))
    along = across / index
    degrees = float(head.normal(0, 14))
    wall = _wall(c, mother)
    room = c.height - wall - across - 6
    depth = wall + float(np.clip(mother.uniform(2, 14), 0, max(0.5 * room, 1))) + across / 2 + 2
    centre = (float(head.normal(0, 0.07)) * c.width, min(depth, c.height - 0.35 * across))
    _uterus(c, wall, centre, along, across, mother)
    radii = (along / 2, across / 2)
    deep = (0.0, across / 2)
    scalp = float(np.interp(weeks, [14, 40], [1.0, 3.0]))
    skull = float(np.interp(weeks, [14, 40], [1.1, 2.3])) * float(head.uniform(0.85, 1.15))

    def ring(inset: float) -> np.ndarray:
        size = (radii[0] - inset, radii[1] - inset)
        return np.asarray(c.ellipse(centre, size, degrees, (0.0, deep[1] - inset)) <= 1)

    whole = ring(0.0)
    c.paint("fetal scalp", ring(-scalp))
    c.paint("fetal skull", whole)
    c.paint("fetal brain", ring(skull))
    _sutures(c, whole & ~ring(skull), centre, head)
    _brain(c, centre, (radii[0] - skull, radii[1] - skull), degrees, brain)
    return whole


def _wall(c: Canvas, rng: np.random.Generator) -> float:
    """Paint skin, fat, muscle and the uterus's wall from above; return the mean depth of its inner face."""
    depth = np.zeros((c.x.shape[0], 1, c.w.shape[2]), np.float32)
    limit = 0.3 * c.height / (SKIN_MM[1] + FAT_MM[1] + MUSCLE_MM[1] + WALL_MM[1])
    scale = min(1.0, max(limit, 0.15))
    c.paint("uterine wall", np.ones((1, 1, 1), bool))
    for name, (low, high) in zip(
        ("skin", "fat", "muscle", "uterine wall"), (SKIN_MM, FAT_MM, MUSCLE_MM, WALL_MM), strict=True
    ):
        thick = np.float32(scale * rng.uniform(low, high))
        below = np.maximum(depth + 0.5 * thick, depth + thick + c.waves(0.05 * float(thick), 30, rng))
        c.paint(name, (c.y > depth) & (c.y <= below))
        depth = below
    return float(depth.mean())


def _uterus(
    c: Canvas, wall: float, centre: tuple[float, float], along: float, across: float, rng: np.random.Generator
) -> None:
    """Paint the cavity with fluid, and the placenta on its front or back wall."""
    half = (0.5 * along * float(rng.uniform(1.15, 1.6)), 0.5 * across * float(rng.uniform(1.1, 1.45)))
    middle = (centre[0] + float(rng.normal(0, 0.06)) * c.width, max(centre[1], wall + half[1]))
    far = c.ellipse(middle, half, float(rng.normal(0, 8))) + c.grain((30, 30), rng) * np.float32(0.06)
    cavity = (far <= 1) & (c.y > wall + c.waves(0.6, 20, rng))
    c.paint("amniotic fluid", cavity)
    where = rng.random()
    if where < 0.7:
        thick = float(rng.uniform(*PLACENTA_MM)) * min(1.0, across / 80 + 0.3)
        turn = float(rng.uniform(-0.7, 0.7))
        along_wall = (c.y - middle[1]) * (1 if where < 0.35 else -1) + turn * (c.x - middle[0]) - 0.1 * across
        sheet = thick * np.sqrt(np.clip(along_wall / (0.5 * across), 0, 1)) + c.waves(1.2, 18, rng)
        c.paint("placenta", cavity & (np.sqrt(np.maximum(far, 0)) * half[1] > half[1] - sheet) & (along_wall > 0))


def _sutures(c: Canvas, ring: np.ndarray, centre: tuple[float, float], rng: np.random.Generator) -> None:
    """Open the skull at one to three sutures."""
    angle = np.arctan2(c.y - centre[1], c.x - centre[0])
    for _ in range(int(rng.integers(1, 4))):
        away = np.abs(np.angle(np.exp(1j * (angle - rng.uniform(0, 2 * np.pi)))))
        c.paint("fetal scalp", ring & (away < rng.uniform(0.02, 0.06)))


def _brain(
    c: Canvas, centre: tuple[float, float], radii: tuple[float, float], degrees: float, rng: np.random.Generator
) -> None:
    """Paint the landmarks of the plane: the front of the head points left or right."""
    front = float(rng.choice([-1.0, 1.0]))
    t = np.radians(degrees)
    a, b = radii

    def at(u: float, v: float) -> tuple[float, float]:
        """Return a place given as shares of the half axes, u towards the front and v downwards."""
        p, q = front * u * a, v * b
        return (
            centre[0] + p * float(np.cos(t)) - q * float(np.sin(t)),
            centre[1] + p * float(np.sin(t)) + q * float(np.cos(t)),
        )

    def oval(u: float, v: float, wide: float, high: float, turn: float = 0.0) -> np.ndarray:
        size = (wide * a, high * b)
        return np.asarray(c.ellipse(at(u, v), size, degrees + front * turn, (0.0, max(size))) <= 1)

    inside = c.holds("fetal brain")
    for side in (-1.0, 1.0):
        spread = float(rng.uniform(0.3, 0.4))
        c.paint(
            "lateral ventricle", inside & oval(-0.45, side * spread, 0.3, float(rng.uniform(0.07, 0.16)), side * 14)
        )
        plexus = oval(
            -0.42, side * (spread + 0.02), float(rng.uniform(0.13, 0.2)), float(rng.uniform(0.07, 0.13)), side * 14
        )
        c.paint("choroid plexus", inside & plexus)
        c.paint("thalamus", inside & oval(-0.02, side * 0.15, 0.19, float(rng.uniform(0.11, 0.15)), -side * 12))
    u, v = c.x - np.float32(centre[0]), c.y - np.float32(centre[1])
    p = front * (u * np.float32(np.cos(t)) + v * np.float32(np.sin(t))) / np.float32(a)
    q = v * np.float32(np.cos(t)) - u * np.float32(np.sin(t)) + c.waves(0.012 * b, 0.5 * a, rng)
    half = max(0.012 * b, 0.6 * c.spacing[1])
    broken = ((p > -0.93) & (p < -0.2)) | ((p > 0.56) & (p < 0.95)) | ((p > 0.02) & (p < 0.25))
    c.paint("midline", inside & (np.abs(q) <= half) & broken)
    cavum = oval(0.4, 0.0, float(rng.uniform(0.09, 0.13)), float(rng.uniform(0.06, 0.1)))
    rim = oval(0.4, 0.0, 0.15, 0.13)
    c.paint("midline", inside & rim & ~cavum & (np.abs(q) > 0.045 * b))
    c.paint("cavum septi pellucidi", inside & cavum)
    for side in (-1.0, 1.0):  # insula and Sylvian fissure: a bright line beside each hemisphere's middle
        c.paint("midline", inside & oval(0.1, side * 0.62, float(rng.uniform(0.12, 0.2)), 0.018, side * 8))


__all__ = ["LABELS", "biparietal_mm", "draw"]

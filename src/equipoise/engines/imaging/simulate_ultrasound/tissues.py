"""What tissues are to ultrasound, and a label map turned into a scene of their properties.

Attenuation of skin, liver, breast, heart, connective tissue and blood is that of the first table below within 0.05
dB/cm/MHz, impedance of skin and fat that of the second within 0.02 MRayl. Published values of one tissue differ by half
and more; all others here are assumed within that range, and `tissues` of the engine states better ones. Echogenicity
has no tables: levels follow the order in which radiology describes tissues (bone and gas, fibrous tissue, gland, liver,
muscle, fat of the breast, blood and cysts), in dB of mean backscattered power against liver, and are assumed.

References
----------
Table 4 (attenuation of tissues) in Diagnostics 2023;13:855. doi:10.3390/diagnostics13050855
Table A2 (impedance and attenuation of skin, fat, muscle, bone) in Sensors 2023;23:5942. doi:10.3390/s23135942
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from equipoise.core import LabelMap
from equipoise.engines.imaging.simulate_ultrasound.geometry import sample
from equipoise.engines.parts.appearance import correlated_noise


@dataclass(frozen=True)
class Tissue:
    """Acoustic properties of one tissue.

    Parameters
    ----------
    echo_db
        Mean backscattered power against liver, dB.
    impedance
        MRayl.
    attenuation
        dB/cm/MHz.
    blobs_db, streaks_db
        Standard deviation of the echogenicity in round patches of some 2 mm, and in streaks along the skin.
    spread_db
        Standard deviation of the echogenicity between patients.
    """

    echo_db: float
    impedance: float = 1.63
    attenuation: float = 0.5
    blobs_db: float = 1.0
    streaks_db: float = 0.0
    spread_db: float = 1.5


TISSUES: Mapping[str, Tissue] = {
    "soft tissue": Tissue(-2, 1.62, 0.54, 1.5, 1.5),
    "skin": Tissue(9, 1.99, 0.35, 0.5, 2.0),
    "fat": Tissue(-9, 1.40, 0.48, 1.5, 1.3),
    "glandular tissue": Tissue(2, 1.54, 0.75, 2.5, 2.0),
    "breast": Tissue(0, 1.54, 0.75, 2.5, 2.0),
    "cooper's ligament": Tissue(4, 1.72, 1.57, 3.5, 1.0),
    "fascia": Tissue(4, 1.74, 1.57, 3.5, 1.0),
    "muscle": Tissue(-7, 1.62, 1.09, 0.7, 4.5),
    "strap muscle": Tissue(-9, 1.62, 1.09, 0.7, 3.5),
    "tendon": Tissue(6, 1.84, 4.7, 0.5, 3.0),
    "thyroid": Tissue(3, 1.66, 0.5, 0.8, 0.3),
    "blood": Tissue(-36, 1.68, 0.2, 0.5, 0.0, 2.0),
    "artery": Tissue(-36, 1.68, 0.2, 0.5, 0.0, 2.0),
    "vein": Tissue(-34, 1.68, 0.2, 0.5, 0.0, 2.0),
    "vessel wall": Tissue(5, 1.75, 0.8, 0.5, 0.5),
    "vessel": Tissue(-32, 1.68, 0.2, 0.5, 0.0, 2.0),
    "aorta": Tissue(-36, 1.68, 0.2, 0.5, 0.0, 2.0),
    "cartilage": Tissue(-12, 1.75, 1.0, 0.7, 0.3),
    "bone": Tissue(4, 7.38, 6.9, 1.0, 0.0),
    "rib": Tissue(4, 7.38, 6.9, 1.0, 0.0),
    "spine": Tissue(4, 7.38, 6.9, 1.0, 0.0),
    "vertebra": Tissue(4, 7.38, 6.9, 1.0, 0.0),
    "skull": Tissue(6, 5.0, 6.9, 1.0, 0.0),  # cortical bone with diploe
    "fetal skull": Tissue(9, 2.6, 3.5, 3.0, 0.0, 2.0),  # poorly mineralised
    "fetal scalp": Tissue(-3, 1.66, 0.6, 1.0, 1.0),
    "fetal brain": Tissue(-15, 1.56, 0.4, 4.0, 1.5, 2.0),
    "midline": Tissue(1, 1.66, 0.6, 5.0, 2.5),
    "fetal head": Tissue(-13, 1.56, 0.4, 3.0, 1.0, 2.0),
    "thalamus": Tissue(-17, 1.57, 0.4, 1.0, 0.0),
    "choroid plexus": Tissue(-2, 1.60, 0.6, 3.5, 0.0),
    "cavum septi pellucidi": Tissue(-34, 1.50, 0.05, 0.5, 0.0),
    "ventricle": Tissue(-32, 1.50, 0.05, 0.5, 0.0),
    "amniotic fluid": Tissue(-40, 1.49, 0.01, 1.0, 0.0, 2.0),
    "uterine wall": Tissue(-3, 1.64, 0.7, 2.0, 1.5),
    "placenta": Tissue(1, 1.62, 0.5, 2.0, 0.5),
    "brain": Tissue(-4, 1.62, 0.6, 1.0, 0.3),
    "grey matter": Tissue(-6, 1.62, 0.6, 1.0, 0.0),
    "white matter": Tissue(-2, 1.62, 0.6, 1.0, 0.0),
    "csf": Tissue(-40, 1.49, 0.01, 0.5, 0.0),
    "liver": Tissue(0, 1.69, 0.5, 0.8, 0.0),
    "spleen": Tissue(2, 1.66, 0.5, 0.6, 0.0),
    "pancreas": Tissue(3, 1.66, 0.7, 1.5, 0.0),
    "kidney": Tissue(-3, 1.62, 0.7, 1.5, 0.0),
    "heart": Tissue(-2, 1.67, 0.52, 1.0, 1.5),
    "gallbladder": Tissue(-40, 1.49, 0.02, 0.5, 0.0),
    "bladder": Tissue(-40, 1.49, 0.02, 0.5, 0.0),
    "fluid": Tissue(-40, 1.49, 0.02, 0.5, 0.0),
    "cyst": Tissue(-42, 1.50, 0.02, 0.5, 0.0, 2.0),
    "lymph node": Tissue(-8, 1.63, 0.5, 1.5, 0.0),
    "nodule": Tissue(-6, 1.66, 0.7, 2.0, 0.3, 3.0),
    "lesion": Tissue(-10, 1.66, 1.1, 2.0, 0.5, 3.0),
    "fibroadenoma": Tissue(-8, 1.60, 0.6, 1.0, 0.5, 2.0),
    "carcinoma": Tissue(-15, 1.68, 2.2, 2.0, 0.3, 2.5),
    "mass": Tissue(-10, 1.66, 1.1, 2.0, 0.5, 3.0),
    "tumour": Tissue(-10, 1.66, 1.1, 2.0, 0.5, 3.0),
    "haemorrhage": Tissue(-4, 1.63, 0.4, 3.0, 0.0, 4.0),
    "calcification": Tissue(14, 4.0, 8.0, 1.0, 0.0),
    "air": Tissue(10, 0.05, 2.0, 2.0, 4.0),  # see `GAS`
    "trachea": Tissue(10, 0.05, 2.0, 2.0, 4.0),
    "oesophagus": Tissue(-5, 1.62, 1.0, 4.0, 1.0),
    "lung": Tissue(8, 0.2, 1.6, 2.0, 5.0),
    "pleura": Tissue(10, 1.75, 1.0, 0.5, 1.0),
}
"""By label name. Of a longer name the longest entry that it contains as words counts: ``"left kidney"`` is kidney."""

GAS = ("air", "trachea", "lung")
"""What shows behind gas is the echo running to and fro before it. Echogenicity and attenuation of these entries stand
for that dirty shadow and its length, not for sound in gas; their impedance is bounded, they reflect above 0.7 already.
"""
BLOB_MM, STREAK_MM = (1.6, 1.6), (4.0, 0.35)
"""Standard deviation of the patches along I and J, mm."""


def tissue_of(name: str, stated: Mapping[str, Sequence[float]]) -> Tissue | None:
    """Return the properties of a label: as stated by the user, from the table, or ``None``."""
    if name in stated:
        echo_db, impedance, attenuation = stated[name]
        return Tissue(float(echo_db), float(impedance), float(attenuation))
    return _from_table(name)


@cache
def _from_table(name: str) -> Tissue | None:
    low = name.lower().replace("_", " ")
    held = [entry for entry in TISSUES if re.search(rf"\b{re.escape(entry)}(s|es)?\b", low)]
    return TISSUES[max(held, key=len)] if held else None


@dataclass(frozen=True, eq=False)
class Scene:
    """What is there to be imaged, on the grid of the label map.

    Parameters
    ----------
    echo_db
        Echogenicity, dB against liver, shape ``(I, J, K)``.
    impedance
        MRayl, same shape.
    attenuation
        dB/cm/MHz, same shape.
    patchy
        Factor on the echoes of interfaces: they are not equally smooth everywhere. Same shape.
    """

    echo_db: np.ndarray
    impedance: np.ndarray
    attenuation: np.ndarray
    patchy: np.ndarray


def draw_scene(
    labels: LabelMap,
    stated: Mapping[str, Sequence[float]],
    background: str,
    texture: float,
    voxel_mm: Sequence[float],
    rng: np.random.Generator,
) -> Scene:
    """Return the scene of a label map whose structures are all known; a later label lies on top.

    Parameters
    ----------
    stated
        Properties that the user states, see `tissue_of`.
    background
        Tissue where nothing is labelled.
    texture
        Factor on the patches and streaks; 0 is an even level in every structure.
    voxel_mm
        Size of a voxel.
    """
    used = [tissue_of(name, stated) or TISSUES["soft tissue"] for name in (background, *labels.scheme.names)]
    index = np.zeros(labels.geometry.shape, np.uint8)
    for number, channel in enumerate(labels.array, 1):
        index[channel > 0] = number
    drawn = rng.standard_normal(len(used))
    echo = [t.echo_db + t.spread_db * d for t, d in zip(used, drawn, strict=True)]
    levels = np.take(np.array(echo, np.float32), index)
    patchy = np.ones(index.shape, np.float32)
    if texture > 0:
        blobs, streaks, smooth = rng.spawn(3)
        patchy = np.exp(np.float32(0.5 * texture) * patches(index.shape, voxel_mm, (1.2, 1.2, 1.2), smooth))
        for part, stream, size in (("blobs_db", blobs, BLOB_MM), ("streaks_db", streaks, STREAK_MM)):
            weight = np.array([texture * getattr(t, part) for t in used], np.float32)
            if weight.any():
                levels += np.take(weight, index) * patches(index.shape, voxel_mm, (*size, size[0]), stream)
    impedance = np.take(np.array([t.impedance for t in used], np.float32), index)
    attenuation = np.take(np.array([t.attenuation for t in used], np.float32), index)
    return Scene(levels, impedance, attenuation, patchy)


def patches(
    shape: tuple[int, ...], voxel_mm: Sequence[float], sd_mm: Sequence[float], rng: np.random.Generator
) -> np.ndarray:
    """Return Gaussian noise of variance near 1 and a grain in mm, float32, shape ``(I, J, K)``.

    Drawn on nodes one standard deviation apart and read linearly between them, which costs what the grain is worth.
    """
    step = [max(s, v) for s, v in zip(sd_mm, voxel_mm, strict=True)]
    nodes = [int(np.ceil(n * v / s)) + 2 for n, v, s in zip(shape[:2], voxel_mm, step, strict=False)]
    along_k = (sd_mm[2] / voxel_mm[2],) if shape[2] > 1 else (0.0,)
    coarse = correlated_noise((1, *nodes, shape[2]), (1.0, 1.0, *along_k), rng)[0]
    i = ((np.arange(shape[0]) + 0.5) * voxel_mm[0] + 0.5 * step[0]).astype(np.float32)
    j = ((np.arange(shape[1]) + 0.5) * voxel_mm[1] + 0.5 * step[1]).astype(np.float32)
    x, y = np.broadcast_to(i[:, None], shape[:2]), np.broadcast_to(j[None], shape[:2])
    read = sample(np.moveaxis(coarse, 2, 0), x, y, (step[0], step[1]))
    return np.moveaxis(read, 0, 2)


def unknown_labels(names: Iterable[str], stated: Mapping[str, Sequence[float]]) -> list[str]:
    """Return the labels that neither the table nor the user knows."""
    return [name for name in names if tissue_of(name, stated) is None]


__all__ = ["GAS", "TISSUES", "Scene", "Tissue", "draw_scene", "patches", "tissue_of", "unknown_labels"]

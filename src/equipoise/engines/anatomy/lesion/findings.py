"""What each finding looks like and where it lies, from the clinical literature.

Ranges are wide on purpose: they say what exists, not how often. How often is a study's own question, and `where` or
the anatomy's parameters answer it.

References
----------
[1] Hansell DM, Bankier AA, MacMahon H, et al. Fleischner Society: glossary of terms for thoracic imaging. Radiology
2008;246:697-722. doi:10.1148/radiol.2462070712 (nodule up to 30 mm, mass above; spiculation, lobulation)

[2] MacMahon H, Naidich DP, Goo JM, et al. Guidelines for management of incidental pulmonary nodules. Radiology
2017;284:228-243. doi:10.1148/radiol.2017161659 (part-solid and ground-glass nodules; 6 and 8 mm)

[3] D'Orsi CJ, Sickles EA, Mendelson EB, Morris EA, et al. ACR BI-RADS Atlas. 5th ed. 2013 (mass: oval, round,
irregular; circumscribed, indistinct, spiculated)

[4] Wardlaw JM, Smith EE, Biessels GJ, et al. Neuroimaging standards for research into small vessel disease (STRIVE).
Lancet Neurol 2013;12:822-838. doi:10.1016/S1474-4422(13)70124-8 (white-matter hyperintensities; lacunes 3 to 15 mm)

[5] Fazekas F, Chawluk JB, Alavi A, et al. MR signal abnormalities at 1.5 T in Alzheimer's dementia and normal aging.
AJR 1987;149:351-356. doi:10.2214/ajr.149.2.351 (periventricular caps, punctate and confluent foci)

[6] Kothari RU, Brott T, Broderick JP, et al. The ABCs of measuring intracerebral hemorrhage volumes. Stroke
1996;27:1304-1305. doi:10.1161/01.STR.27.8.1304 (ellipsoids; 1 to 100 mL)

[7] Early Treatment Diabetic Retinopathy Study Research Group. Grading diabetic retinopathy from stereoscopic color
fundus photographs. Ophthalmology 1991;98:786-806. doi:10.1016/S0161-6420(13)38012-9 (microaneurysm below 125 µm; hard
exudates, often in rings)

[8] Bosniak MA. The current radiological approach to renal cysts. Radiology 1986;158:1-10.
doi:10.1148/radiology.158.1.3510019

[9] Rogers LF, West OC. Imaging Skeletal Trauma. 4th ed. 2015 (fracture lines and their width)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Range = tuple[float, float]

ANYTHING = "anything"
"""All but bone and skin, as what a lesion may grow into."""


@dataclass(frozen=True)
class Finding:
    """The ranges that a finding is drawn from, where the user states none.

    Parameters
    ----------
    diameter_mm
        Of the sphere, in a slice of the circle, of equal size; of a fracture line its length.
    count
        Smallest and largest number in a map.
    inside
        Structures that it arises in: every one of the first row of which the map names at least one.
    sphericity, spiculation, lobulation, margin, mass_effect
        See `Lesion`.
    near, near_mm
        Structures that it favours, and the distance within which its frequency falls to 1/e.
    within
        What it may grow into; empty is what it arises in, ``("anything",)`` all but bone and skin.
    grouping
        How the lesions of a map lie to each other.
    group_mm
        Radius of a cluster or ring.
    form
        ``"body"``, or ``"line"`` for a crack.
    code
        SNOMED CT, where we are sure of one.
    """

    diameter_mm: Range
    count: tuple[int, int]
    inside: tuple[tuple[str, ...], ...]
    sphericity: Range = (0.75, 1.0)
    spiculation: Range = (0.0, 0.0)
    lobulation: Range = (0.0, 0.5)
    margin: Range = (0.0, 0.3)
    mass_effect: Range = (0.0, 0.0)
    near: tuple[str, ...] = ()
    near_mm: float = 10.0
    within: tuple[str, ...] = ()
    grouping: Literal["scattered", "cluster", "ring"] = "scattered"
    group_mm: float = 1.0
    form: Literal["body", "line"] = "body"
    code: str | None = None


_SOFT = (("glandular tissue",), ("thyroid",), ("lung",), ("liver",), ("brain",))
FINDINGS: Mapping[str, Finding] = {
    # [1, 2]
    "nodule": Finding((3.0, 30.0), (1, 3), _SOFT, (0.7, 1.0), (0.0, 1.0), (0.0, 0.8), (0.0, 0.5), code="27925004"),
    # [1, 3]: above 30 mm in the lung; most masses of the breast are smaller
    "mass": Finding(
        (10.0, 60.0),
        (1, 1),
        _SOFT,
        (0.6, 1.0),
        (0.0, 1.0),
        (0.1, 1.0),
        (0.0, 0.8),
        mass_effect=(0.3, 0.8),
        within=(ANYTHING,),
        code="4147007",
    ),
    # [3, 8]
    "cyst": Finding(
        (3.0, 50.0),
        (1, 3),
        (("kidney",), ("liver",), ("glandular tissue",), ("thyroid",), ("brain",)),
        (0.8, 1.0),
        lobulation=(0.0, 0.25),
        margin=(0.0, 0.1),
        mass_effect=(0.2, 0.8),
        within=(ANYTHING,),
    ),
    # [6]
    "haemorrhage": Finding(
        (10.0, 55.0),
        (1, 1),
        (("putamen", "thalamus", "white matter", "caudate"), ("brain",)),
        (0.6, 0.95),
        lobulation=(0.1, 0.8),
        margin=(0.1, 0.6),
        mass_effect=(0.3, 0.8),
        near=("putamen", "thalamus"),
        near_mm=15.0,
        within=("brain", "ventricle", "cerebrospinal fluid"),
        code="50960005",
    ),
    # [4, 5]
    "white-matter lesion": Finding(
        (2.0, 14.0),
        (3, 25),
        (("white matter",), ("brain",)),
        (0.6, 0.95),
        lobulation=(0.1, 0.7),
        margin=(0.1, 0.7),
        near=("ventricle",),
        near_mm=8.0,
    ),
    # [9]; the spread across the line is `Lesion.width_mm`
    "fracture line": Finding((10.0, 60.0), (1, 1), (("bone",),), margin=(0.0, 0.6), form="line", code="72704001"),
    # [7]
    "microaneurysm": Finding(
        (0.03, 0.12),
        (3, 25),
        (("retina",), ("unlabelled",)),
        (0.85, 1.0),
        lobulation=(0.0, 0.3),
        near=("artery", "vein", "vessel"),
        near_mm=0.6,
    ),
    # [7]
    "exudate": Finding(
        (0.05, 0.5),
        (5, 40),
        (("retina",), ("unlabelled",)),
        (0.6, 1.0),
        lobulation=(0.2, 0.9),
        margin=(0.0, 0.4),
        near=("fovea",),
        near_mm=2.0,
        grouping="ring",
        group_mm=0.8,
    ),
}

TEXTURES: Mapping[str, tuple[str | None, str | None, Range]] = {
    "solid": (None, None, (0.0, 0.0)),
    "ground-glass": ("ground-glass nodule", None, (0.0, 0.0)),
    "part-solid": ("ground-glass nodule", "", (0.1, 0.6)),
    "cystic": (None, "cyst", (0.2, 0.7)),
    "haemorrhagic": (None, "haemorrhage", (0.1, 0.5)),
}
"""What a lesion is made of: the label of the whole (``None``: its own), of the core (``""``: its own), and the
core's share of the volume. Imaging gives each label its own look, so this is how texture and contrast
are asked for [2, 3, 8]."""

GROUPS: Mapping[str, tuple[str, ...]] = {
    "lung": (
        "lung",
        "right upper lobe",
        "right middle lobe",
        "right lower lobe",
        "left upper lobe",
        "left lower lobe",
    ),
    "bone": (
        "bone", "skull", "vertebra", "rib", "sternum", "clavicle", "scapula", "humerus", "bone marrow", "cortical bone",
        "femur", "fetal skull",
    ),
    "brain": (
        "brain", "fetal brain", "grey matter", "white matter", "cerebellar cortex", "cerebellar white matter",
        "brainstem", "thalamus", "caudate", "putamen", "pallidum", "hippocampus", "hippocampus anterior",
        "hippocampus posterior", "amygdala",
    ),
    "heart": ("heart", "myocardium", "left ventricle", "right ventricle", "left atrium", "right atrium"),
    "pleura": ("chest wall", "rib", "diaphragm"),
    "retina": ("retina", "fundus"),
}  # fmt: skip
"""Structures that people name as a whole, where label maps name their parts."""

RIGID = ("bone", "cartilage", "skin", "scalp", "fetal scalp")
"""What a lesion neither pushes aside nor grows into, unless it arises there."""

PASSING = ("vessel", "artery", "vein", "airway", "bronchus", "capillary", "duct")
"""What runs through a structure without being another one: a lesion of the structure covers it."""

__all__ = ["ANYTHING", "FINDINGS", "GROUPS", "PASSING", "RIGID", "TEXTURES", "Finding"]

"""How dense the structures of the body are on CT, in HU without contrast medium, and what contrast medium adds.

References
----------
Lamba R, McGahan JP, Corwin MT, et al. CT Hounsfield numbers of soft tissues on unenhanced abdominal CT scans:
variability between two different manufacturers' MDCT scanners. AJR 2014. doi:10.2214/AJR.12.10037 (liver, spleen,
kidney, muscle, blood, fat)
Schneider U, Pedroni E, Lomax A. The calibration of CT Hounsfield units for radiotherapy treatment planning. Phys Med
Biol 1996. doi:10.1088/0031-9155/41/1/009 (bone, marrow, cartilage)
Bushberg JT et al. The Essential Physics of Medical Imaging. 3rd ed. 2012, ch. 10 (brain, lung, fluids)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

_LUNG = (-850.0, 30.0, 35.0)
_BONE = (230.0, 45.0, 45.0)
_BLOOD = (42.0, 5.0, 4.0)
_MUSCLE = (54.0, 5.0, 9.0)
_GREY, _WHITE, _FLUID = (37.0, 1.5, 1.5), (28.0, 1.5, 1.5), (8.0, 2.0, 1.5)

STRUCTURES_HU: Mapping[str, tuple[float, float, float]] = {
    **dict.fromkeys(
        (
            "lungs",
            "left lung",
            "right lung",
            "right upper lobe",
            "right middle lobe",
            "right lower lobe",
            "left upper lobe",
            "left lower lobe",
        ),
        _LUNG,
    ),
    **dict.fromkeys(
        (
            "left ventricle",
            "right ventricle",
            "left atrium",
            "right atrium",
            "heart",
            "aorta",
            "pulmonary artery",
            "vena cava",
            "liver vessel",
        ),
        _BLOOD,
    ),
    "lung vessel": (30.0, 5.0, 4.0),
    **dict.fromkeys(("vertebra", "rib", "sternum", "clavicle", "scapula", "humerus", "femur", "pelvis", "bone"), _BONE),
    "skull": (950.0, 90.0, 60.0),
    "bone marrow": (320.0, 60.0, 60.0),
    "cartilage": (110.0, 20.0, 10.0),
    "disc": (75.0, 10.0, 6.0),
    **dict.fromkeys(("fat", "subcutaneous fat"), (-102.0, 6.0, 9.0)),
    "breast": (-55.0, 25.0, 45.0),
    **dict.fromkeys(("muscle", "tongue"), _MUSCLE),
    "soft tissue": (38.0, 8.0, 10.0),
    "body": (40.0, 10.0, 25.0),
    "scalp": (25.0, 8.0, 10.0),
    "skin": (35.0, 8.0, 8.0),
    "myocardium": (47.0, 5.0, 4.0),
    "oesophagus": (35.0, 6.0, 10.0),
    "stomach": (25.0, 12.0, 12.0),
    "bowel": (28.0, 10.0, 18.0),
    "gallbladder": (10.0, 5.0, 2.0),
    "spinal cord": (32.0, 4.0, 5.0),
    "liver": (57.0, 7.0, 5.0),
    "spleen": (48.0, 4.0, 4.0),
    **dict.fromkeys(("kidney", "left kidney", "right kidney"), (32.0, 4.0, 4.0)),
    "pancreas": (40.0, 6.0, 12.0),
    "thyroid": (105.0, 12.0, 8.0),
    **dict.fromkeys(("grey matter", "cerebellar cortex", "caudate", "putamen", "pallidum", "thalamus"), _GREY),
    **dict.fromkeys(("hippocampus", "hippocampus anterior", "hippocampus posterior", "amygdala"), _GREY),
    **dict.fromkeys(("white matter", "cerebellar white matter", "brainstem"), _WHITE),
    "brain": (33.0, 2.0, 3.0),
    **dict.fromkeys(("cerebrospinal fluid", "ventricle"), _FLUID),
    "eye": (12.0, 3.0, 2.0),
    "white-matter lesion": (20.0, 3.0, 2.0),
    "oedema": (20.0, 3.0, 2.0),
    "haemorrhage": (65.0, 6.0, 5.0),
    "cyst": (8.0, 5.0, 2.0),
    "effusion": (12.0, 6.0, 4.0),
    "consolidation": (30.0, 15.0, 20.0),
    "mass": (38.0, 12.0, 10.0),
    "calcification": (500.0, 150.0, 60.0),
    "fracture line": (20.0, 10.0, 5.0),
    **dict.fromkeys(("gas", "trachea"), (-995.0, 3.0, 2.0)),
}
"""Mean, standard deviation between cases, and texture within, in HU, by the label's name.

Bones are marrow inside a cortex (`CORTEX_HU`)."""

CORTEX_MM: Mapping[str, float] = {
    "vertebra": 0.7, "rib": 1.0, "sternum": 0.8, "clavicle": 1.3, "scapula": 0.9, "humerus": 2.0, "femur": 2.5,
    "pelvis": 1.2, "bone": 1.2,
}  # fmt: skip
"""Thickness of the cortical shell of bones."""
CORTEX_HU = 1150.0

ENHANCES: Mapping[str, float] = {
    **dict.fromkeys(("aorta", "left ventricle", "right ventricle", "left atrium", "right atrium", "heart"), 1.0),
    **dict.fromkeys(("pulmonary artery", "lung vessel", "vessel"), 1.0),
    **dict.fromkeys(("vena cava", "liver vessel"), 0.95),
    **dict.fromkeys(("kidney", "left kidney", "right kidney"), 1.2),
    "spleen": 0.6, "liver": 0.45, "pancreas": 0.5, "myocardium": 0.5, "thyroid": 0.6, "muscle": 0.1, "mass": 0.3,
    "stomach": 0.1, "bowel": 0.35, "haemorrhage": 0.0,
}  # fmt: skip
"""Enhancement of structures against that of blood, in the portal-venous phase."""

OUTER = frozenset({"fat", "subcutaneous fat", "muscle", "soft tissue", "body", "skin", "scalp"})
"""Labels of maps that show the whole patient: air surrounds them."""
_CHEST = frozenset({"nodule", "ground-glass nodule", "vessel", "chest wall", "airway", "lung", "lung vessel"})
_IN_AIR_OR_LUNG = frozenset(n for n, (hu, _, _) in STRUCTURES_HU.items() if hu < -200) | {"consolidation", "mass"}
WHOLE_LUNGS = frozenset(n for n, row in STRUCTURES_HU.items() if row == _LUNG)


@dataclass(frozen=True)
class Density:
    """HU of a structure: mean, standard deviation between cases, and texture within; and its cortex in mm."""

    mean: float
    sd: float
    texture: float
    cortex_mm: float = 0.0


def density_of(name: str, mean: float, sd: float, texture: float) -> Density:
    """Return the density of a structure of given mean and spread, with the texture and cortex that tables know."""
    return Density(mean, sd, STRUCTURES_HU[name][2] if name in STRUCTURES_HU else texture, CORTEX_MM.get(name, 0.0))


def surroundings_of(names: Iterable[str]) -> str:
    """Return what lies around labelled structures: ``"air"``, ``"lung"`` or ``"soft tissue"``."""
    named = set(names)
    if named & OUTER:
        return "air"
    deep = named - _CHEST - _IN_AIR_OR_LUNG
    return "soft tissue" if deep and deep <= set(STRUCTURES_HU) else "lung"


__all__ = [
    "CORTEX_HU",
    "CORTEX_MM",
    "ENHANCES",
    "OUTER",
    "STRUCTURES_HU",
    "WHOLE_LUNGS",
    "Density",
    "density_of",
    "surroundings_of",
]

"""What structures are made of: densities in g/cm³ of `MATERIALS`, by the names that label maps carry.

References
----------
ICRU. Tissue substitutes in radiation dosimetry and measurement. Report 44, 1989.
Woodard HQ, White DR. The composition of body tissues. Br J Radiol 1986. doi:10.1259/0007-1285-59-708-1209
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from equipoise.engines.parts.spectrum import MATERIALS
from equipoise.errors import PlanError, did_you_mean

Mixture = Mapping[str, float]
"""Material to density in g/cm³."""

SUBSTANCES: Mapping[str, Mixture] = {
    "air": {"air": 0.0012},
    "lung": {"lung": 0.26},
    "fat": {"adipose": 0.95},
    "soft tissue": {"muscle": 1.05},
    "loose tissue": {"adipose": 0.48, "muscle": 0.52},
    "gland": {"adipose": 0.50, "muscle": 0.50},
    "blood": {"blood": 1.06},
    "cartilage": {"muscle": 1.04, "cortical bone": 0.05},
    "marrow": {"adipose": 0.78, "cortical bone": 0.30},
    "cortical bone": {"cortical bone": 1.92},
    "water": {"muscle": 1.0},
    "ground glass": {"lung": 0.55},
    "contrast medium": {"blood": 1.06, "iodine": 0.015},
    "steel": {"iron": 7.9},
}
"""Substances that ``materials`` may name. Marrow is spongy bone: beams and what lies between them."""

_BONES = ("vertebra", "rib", "sternum", "clavicle", "scapula", "humerus", "bone", "skull", "femur", "pelvis")
_LUNGS = (
    "lung", "lungs", "left lung", "right lung", "right upper lobe", "right middle lobe", "right lower lobe",
    "left upper lobe", "left lower lobe",
)  # fmt: skip
_BLOOD = (
    "lung vessel", "vessel", "left ventricle", "right ventricle", "left atrium", "right atrium", "aorta",
    "pulmonary artery", "vena cava", "liver vessel", "haemorrhage",
)  # fmt: skip
_SOFT = (
    "muscle", "chest wall", "heart", "myocardium", "oesophagus", "liver", "spleen", "right kidney", "left kidney",
    "kidney", "stomach", "disc", "nodule", "mass", "cyst", "tumour", "lesion", "consolidation", "brain",
    "effusion", "bowel", "pancreas", "gallbladder", "spinal cord",
)  # fmt: skip
STRUCTURES: Mapping[str, str] = {
    **dict.fromkeys(_LUNGS, "lung"),
    **dict.fromkeys(_BLOOD, "blood"),
    **dict.fromkeys(_SOFT, "soft tissue"),
    **dict.fromkeys(_BONES, "marrow"),
    "fat": "fat",
    "soft tissue": "loose tissue",
    "body": "soft tissue",
    "breast": "gland",
    "airway": "air",
    "trachea": "air",
    "gas": "air",
    "cartilage": "cartilage",
    "calcification": "cortical bone",
    "ground-glass nodule": "ground glass",
    "contrast medium": "contrast medium",
    "device": "steel",
}
"""Structure to substance. Bones are marrow inside a shell of cortical bone."""
CORTEX_MM: Mapping[str, float] = {
    "vertebra": 0.4, "rib": 1.0, "sternum": 0.4, "clavicle": 1.4, "scapula": 0.7, "humerus": 1.8,
    **dict.fromkeys(("bone", "pelvis"), 1.0), "skull": 2.0, "femur": 2.5,
}  # fmt: skip
"""Thickness of the cortical shell of bones in mm."""


def substance_of(name: str, stated: Mapping[str, str]) -> str | None:
    """Return the substance of a structure, ``None`` if nobody knows."""
    return stated.get(name, STRUCTURES.get(name))


def mixture(substance: str, lung_g_cm3: float) -> np.ndarray:
    """Return the densities of `MATERIALS` in a substance, g/cm³."""
    parts = dict(SUBSTANCES[substance])
    if substance == "lung":
        parts = {"lung": lung_g_cm3}
    return np.array([parts.get(m, 0.0) for m in MATERIALS])


def require_substances(materials: Mapping[str, str]) -> None:
    """Raise `PlanError` unless ``materials`` names substances that exist."""
    for label, substance in materials.items():
        if not isinstance(substance, str) or substance not in SUBSTANCES:
            raise PlanError(
                f"materials.{label} = {substance!r} is no substance.{did_you_mean(str(substance), SUBSTANCES)}"
            )


__all__ = ["CORTEX_MM", "STRUCTURES", "SUBSTANCES", "mixture", "require_substances", "substance_of"]

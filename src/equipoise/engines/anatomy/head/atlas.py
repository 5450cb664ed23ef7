"""Where the parts of an average adult head lie, and how they change with age.

In mm, right-anterior-superior, the anterior commissure near the origin. Places follow the landmarks of the MNI and
Talairach atlases [1], sizes the volumes of large series [2, 3]; the drawn volumes are compared with them in the tests.

References
----------
[1] Mai JK, Majtanik M, Paxinos G. Atlas of the Human Brain. 4th ed. 2015.
[2] Potvin O, Mouiha A, Dieumegarde L, Duchesne S. Normative data for subcortical regional volumes over the lifetime of
the adult human brain. NeuroImage 2016;137:9. doi:10.1016/j.neuroimage.2016.05.016
[3] Fjell AM, Walhovd KB. Structural brain changes in aging: courses, causes and cognitive consequences. Rev Neurosci
2010;21:187. doi:10.1515/revneuro.2010.21.3.187 (thinning, ventricles, hippocampus by age)
[4] Fischl B, Dale AM. Measuring the thickness of the human cerebral cortex. PNAS 2000;97:11050.
doi:10.1073/pnas.200033797 (2.7 mm on gyri, 2.2 mm in sulci)
[5] Lillie EM, Urban JE, Lynch SK, Weaver AA, Stitzel JD. Evaluation of skull cortical thickness changes with age and
sex from computed tomography scans. J Bone Miner Res 2016;31:299. doi:10.1002/jbmr.2613
"""

from __future__ import annotations

import numpy as np

from equipoise.core import Label, LabelScheme

STRUCTURES: tuple[tuple[str, str | None], ...] = (
    ("scalp", "41695006"),
    ("subcutaneous fat", None),
    ("muscle", None),
    ("skull", "89546000"),
    ("bone marrow", None),
    ("eye", "81745001"),
    ("cerebrospinal fluid", None),
    ("grey matter", None),
    ("white matter", None),
    ("cerebellar cortex", None),
    ("cerebellar white matter", None),
    ("brainstem", "15926001"),
    ("ventricle", "35764002"),
    ("thalamus", "42695009"),
    ("caudate", "11000004"),
    ("putamen", "89278009"),
    ("pallidum", None),
    ("hippocampus anterior", None),
    ("hippocampus posterior", None),
    ("amygdala", "4958002"),
)
"""Names and, where they are certain, SNOMED CT codes of the structures, in label order."""

SCHEME = LabelScheme(tuple(Label(name, value, code) for value, (name, code) in enumerate(STRUCTURES, 1)))

(
    AIR,
    SCALP,
    FAT,
    MUSCLE,
    SKULL,
    MARROW,
    EYE,
    CSF,
    GREY,
    WHITE,
    CEREBELLAR_CORTEX,
    CEREBELLAR_WHITE,
    BRAINSTEM,
    VENTRICLE,
    THALAMUS,
    CAUDATE,
    PUTAMEN,
    PALLIDUM,
    HIPPOCAMPUS_ANTERIOR,
    HIPPOCAMPUS_POSTERIOR,
    AMYGDALA,
) = range(len(STRUCTURES) + 1)

VOLUMES_ML: dict[str, tuple[float, float]] = {
    "grey matter": (330.0, 680.0),
    "white matter": (310.0, 620.0),
    "ventricle": (6.0, 110.0),
    "thalamus": (9.0, 19.0),
    "caudate": (4.5, 11.0),
    "putamen": (6.0, 13.0),
    "pallidum": (2.0, 5.0),
    "hippocampus": (3.5, 10.0),
    "amygdala": (1.6, 4.6),
    "brainstem": (14.0, 36.0),
    "cerebellum": (90.0, 190.0),
}
"""Plausible volumes of both sides together, in mL, between 20 years and severe atrophy at 90 [2, 3]."""

LANDMARKS_MM: dict[str, tuple[float, float, float]] = {
    "head": (0.0, -10.0, -6.0),
    "brain": (0.0, -20.0, 10.0),
    "ventricle": (0.0, -16.0, 12.0),
    "hippocampus": (27.0, -20.0, -15.0),
    "left hippocampus": (-27.0, -20.0, -15.0),
    "basal ganglia": (0.0, 2.0, 4.0),
    "cerebellum": (0.0, -60.0, -34.0),
}
"""What a grid may be centred on."""


def _array(*rows: tuple[float, ...]) -> np.ndarray:
    return np.array(rows, np.float64)


# (cx, cy, cz, rx, ry, rz); those off the midline are mirrored.
CEREBRUM = _array((0, -17, 17, 66, 84, 55))[0]
TEMPORAL = _array((43, -13, -23, 22, 43, 20))[0]
CAVITY = _array((43, -13, -23, 22, 43, 20), (0, -62, -31, 51, 34, 27), (0, -20, -20, 22, 17, 18))
CEREBELLUM = _array((0, -60, -30, 44, 29, 32), (24, -64, -32, 27, 31, 27))
HYPOTHALAMUS = _array((0, -3, -7, 9, 11, 7))[0]
OCCIPITAL = _array((18, -72, -4, 19, 22, 16))[0]
BRAINSTEM_PARTS = _array((0, -27, -9, 11.5, 8, 11), (10, -18, -9, 7, 8, 12), (0, -20, -29, 16, 12.5, 13))
"""Tectum and tegmentum, a cerebral peduncle, pons."""
CORE = _array((0, -8, 2, 36, 38, 22))[0]
PEDUNCLE = _array((16, -38, -32, 9, 14, 7))[0]
FACE = _array(
    (0, 44, -62, 58, 50, 66),
    (0, 62, -98, 34, 34, 26),
    (0, 98, -50, 13, 14, 20),
    (0, -40, -110, 58, 56, 70),
    (50, 10, -56, 20, 36, 34),
)
AIRWAYS = _array((0, 56, -52, 12, 32, 20), (26, 58, -58, 13, 15, 16), (0, 16, -34, 12, 11, 8), (13, 72, -4, 11, 4, 9))
ORBIT = _array((31, 52, -33, 19, 25, 18))[0]
EYEBALL = _array((32, 64, -33, 12.3, 12.3, 12.3))[0]

# Tubes: rows of x, y, z, radius.
MEDIAL_BASE = _array((17, 8, -19, 7), (17, -8, -22, 8.5), (21, -24, -21, 9), (20, -38, -13, 9), (16, -54, -4, 9))
"""Uncus, parahippocampal and lingual gyrus."""
CALLOSUM = _array(
    (0, 20, -2, 2.5), (0, 30, 7, 5), (0, 22, 19, 4), (0, 0, 27, 3.2), (0, -24, 24, 3.4), (0, -38, 13, 5.5)
)
VENTRICLE_BODY = _array(
    (3.9, 32, 2, 1.4), (3.9, 22, 8, 3.0), (3.8, 4, 15, 2.6), (4.4, -12, 19, 2.4), (6.9, -24, 19.5, 2.4)
)
"""Frontal horn and body, in coordinates x of which are `VENTRICLE_WIDE` times as small, and which rise to the side."""
VENTRICLE_WIDE, VENTRICLE_RISE = 0.6, 0.25
LATERAL_VENTRICLE = _array(
    (11.5, -22, 20, 3.6), (17, -28, 19, 4.8), (25, -42, 10, 5.8), (27, -50, 6, 4.6), (25, -68, 4, 1.6)
)
"""Body, atrium and occipital horn."""
TEMPORAL_HORN = _array((26, -42, 8, 4.5), (36, -32, -8, 2.0), (37, -20, -16, 1.3), (33, -7, -22, 1.6))
THIRD_VENTRICLE = _array((0, -11, 1, 2.0, 13, 9))[0]
FOURTH_VENTRICLE = _array((0, -44, -31, 7, 5, 10))[0]
CORD = _array((0, -30, -42, 8.5), (0, -38, -58, 7), (0, -42, -80, 6), (0, -46, -150, 6))
PHARYNX = _array((0, 22, -62, 9), (0, 8, -84, 8), (0, 2, -150, 9))
THALAMUS_PARTS = _array((12.0, -18, 7, 10.5, 15.9, 9.9), (17, -27, 6, 8.4, 8.4, 8))
CAUDATE_TUBE = _array((12, 17, 0, 5.7), (14, 14, 8, 6.7), (16.5, 2, 17, 5.0), (19, -14, 21, 3.2), (25, -28, 18, 2.4))
PUTAMEN_PARTS = _array((27.2, 2, 1, 6.9, 18.0, 11.4))
PALLIDUM_PARTS = _array((19.8, -4, -0.5, 5.6, 10.0, 7.2))
HIPPOCAMPUS_WIDE, HIPPOCAMPUS_FLAT = 0.82, 1.22
HIPPOCAMPUS_TUBE = _array(
    (23, -9, -21, 5.7), (28, -14, -21, 6.2), (30, -22, -17, 5.3), (29, -30, -10, 4.8), (25, -38, -2, 3.9)
) * np.array([HIPPOCAMPUS_WIDE, 1.0, HIPPOCAMPUS_FLAT, 1.0])
"""Wider than high: round where x and z are multiplied by these factors."""
AMYGDALA_PART = _array((23, -1, -18, 7.8, 8.2, 8.0))[0]
SULCI: dict[str, tuple[float, np.ndarray]] = {
    "central": (17.0, _array((9, -30, 72), (24, -27, 66), (36, -23, 57), (45, -16, 46), (54, -10, 34), (60, -7, 21))),
    "precentral": (13.0, _array((28, -8, 62), (38, -4, 52), (46, 4, 40), (54, 8, 26), (56, 10, 14))),
    "postcentral": (13.0, _array((26, -42, 66), (38, -38, 56), (48, -30, 46), (56, -22, 36))),
    "superior temporal": (18.0, _array((50, 6, -24), (60, -12, -14), (63, -28, -6), (60, -44, 4), (52, -60, 18))),
    "inferior temporal": (9.0, _array((56, -8, -30), (61, -28, -22), (58, -46, -14), (50, -62, -6))),
    "superior frontal": (14.0, _array((22, 46, 30), (25, 32, 42), (27, 16, 51), (27, 0, 58))),
    "inferior frontal": (14.0, _array((42, 44, 10), (46, 30, 22), (48, 14, 32))),
    "intraparietal": (19.0, _array((42, -38, 46), (36, -52, 50), (29, -66, 46), (26, -80, 34), (30, -90, 18))),
    "cingulate": (
        13.0,
        _array((1, 46, -6), (1, 46, 12), (1, 34, 30), (1, 10, 41), (1, -18, 43), (1, -34, 50), (4, -44, 64)),
    ),
    "parieto-occipital": (18.0, _array((1, -58, 10), (1, -68, 24), (6, -78, 38))),
    "calcarine": (18.0, _array((1, -54, 4), (1, -68, 7), (1, -84, 5), (8, -98, 1))),
    "collateral": (13.0, _array((34, -6, -40), (33, -24, -36), (30, -42, -18), (28, -60, -14), (24, -80, -14))),
    "olfactory": (9.0, _array((11, 50, -22), (12, 34, -25), (14, 18, -25))),
}
"""Primary sulci: largest depth in mm, and points of their course on the right hemisphere."""
UNCAL_APEX_MM = -20.0
"""Where the anterior hippocampus ends: y of the uncal apex."""


def by_age(years: float, atrophy: float) -> dict[str, float]:
    """Return what age and additional atrophy (0 to 1) do.

    Returns
    -------
    dict
        ``thickness`` of the cortex and half ``width`` of sulci and ``gap`` below the skull, in mm; ``ventricles``,
        ``hippocampus`` and ``nuclei``: factors on lengths.
    """
    late = max(years - 60.0, 0.0) / 30.0
    adult = (years - 20.0) / 70.0
    return {
        "thickness": 3.0 - 0.3 * adult - 0.25 * atrophy,
        "width": 0.38 + 0.38 * adult**1.5 + 0.45 * atrophy,
        "gap": 1.2 + 0.7 * adult**1.5 + 0.9 * atrophy,
        "ventricles": 0.92 + 0.45 * adult**2 + 0.65 * atrophy,
        "hippocampus": 1.0 - 0.05 * late - 0.14 * atrophy,
        "nuclei": 1.02 - 0.05 * adult - 0.04 * atrophy,
    }

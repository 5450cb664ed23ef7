"""Relaxation times and proton densities of tissue by field strength.

T1 at a field between two measured ones is interpolated on logarithms, and below 1.5 T follows the power law that was
measured for brain (Rooney 2007): white matter B0^0.382, grey matter and other soft tissue B0^0.376; the T1 of free
water does not change. T2 is interpolated likewise and kept below 1.5 T. T2* follows from 1/T2* = 1/T2 + R2', where R2'
grows linearly with the field (susceptibility). Proton densities are relative to free water.

References
----------
[1] Wright PJ, Mougin OE, Totman JJ, et al. Water proton T1 measurements in brain tissue at 7, 3, and 1.5T. MAGMA
2008;21:121. doi:10.1007/s10334-008-0104-8 (T1 of cortex, white matter, caudate, putamen)
[2] Rooney WD, Johnson G, Li X, et al. Magnetic field and tissue dependencies of human brain longitudinal 1H2O
relaxation in vivo. MRM 2007;57:308. doi:10.1002/mrm.21122 (thalamus, pallidum, CSF, blood, power laws)
[3] Peters AM, Brookes MJ, Hoogenraad FG, et al. T2* measurements in human brain at 1.5, 3 and 7 T. Magn Reson Imaging
2007;25:748. doi:10.1016/j.mri.2007.02.014
[4] Stanisz GJ, Odrobina EE, Pun J, et al. T1, T2 relaxation and magnetization transfer in tissue at 3T. MRM
2005;54:507. doi:10.1002/mrm.20605 (T2 of brain; blood, muscle, heart)
[5] de Bazelaire CM, Duhamel GD, Rofsky NM, Alsop DC. MR imaging relaxation times of abdominal and pelvic tissues
measured in vivo at 3.0 T. Radiology 2004;230:652. doi:10.1148/radiol.2303021331
[6] Collins DL, Zijdenbos AP, Kollokian V, et al. Design and construction of a realistic digital brain phantom. IEEE TMI
1998;17:463. doi:10.1109/42.712135 (skin, with muscle, at 1.5 T)
[7] Cox EF, Gowland PA. Simultaneous quantification of T2 and T'2 using a combined gradient echo-spin echo sequence at
ultrahigh field. MRM 2010;64:1440. doi:10.1002/mrm.22522 (T2 at 1.5, 3 and 7 T: 80 to 87, 68 to 76 and 46 to 47 ms)
[8] Yacoub E, Duong TQ, Van De Moortele PF, et al. Spin-echo fMRI in humans using high spatial resolutions and high
magnetic fields. MRM 2003;49:655. (T2 at 7 T)
[9] Whittall KP, MacKay AL, Graeb DA, et al. In vivo measurement of T2 distributions and water contents in normal human
brain. MRM 1997;37:34. (proton densities of grey and white matter)
[10] Reichert IL, Robson MD, Gatehouse PD, et al. Magnetic resonance imaging of cortical bone with ultrashort TE pulse
sequences. Magn Reson Imaging 2005;23:611.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from equipoise.errors import PlanError

FIELDS_TESLA = (0.05, 12.0)
"""Fields for which the laws above are trusted."""

LONGEST_MS = 1e5
"""No tissue relaxes more slowly; free water takes 4 s."""

SOFT_EXPONENT, WHITE_EXPONENT, WATER_EXPONENT = 0.376, 0.382, 0.0


@dataclass(frozen=True, slots=True)
class Relaxation:
    """What the signal of one tissue depends on, at one field.

    Parameters
    ----------
    t1, t2, t2star
        Relaxation times in ms.
    density
        Protons relative to free water.
    spread
        Relative standard deviation between people of T1, T2 and density.
    """

    t1: float
    t2: float
    t2star: float
    density: float
    spread: float = 0.0


@dataclass(frozen=True, slots=True)
class Tissue:
    """Measured relaxation of one tissue.

    Parameters
    ----------
    t1, t2
        ms by field in tesla, rising fields; at least one.
    susceptible
        R2' in 1/s per tesla: 1/T2* - 1/T2.
    density
        Protons relative to free water.
    spread
        Relative standard deviation between people of T1, T2 and density.
    exponent
        Of the power law of T1 where no field above or below was measured.
    """

    t1: Mapping[float, float]
    t2: Mapping[float, float]
    susceptible: float
    density: float
    spread: float = 0.04
    exponent: float = SOFT_EXPONENT

    def at(self, tesla: float) -> Relaxation:
        """Return the relaxation at a field."""
        t2 = _between(self.t2, tesla, 0.0)
        return Relaxation(
            _between(self.t1, tesla, self.exponent),
            t2,
            1e3 / (1e3 / t2 + self.susceptible * tesla),
            self.density,
            self.spread,
        )


def _between(known: Mapping[float, float], tesla: float, exponent: float) -> float:
    """Return a time at a field: log-log between measured ones, a power law outside."""
    fields = sorted(known)
    if tesla <= fields[0]:
        return known[fields[0]] * math.pow(tesla / fields[0], exponent)
    if tesla >= fields[-1]:
        return known[fields[-1]] * math.pow(tesla / fields[-1], exponent)
    upper = next(f for f in fields if f >= tesla)
    lower = max(f for f in fields if f <= tesla)
    if upper == lower:
        return known[upper]
    share = math.log(tesla / lower) / math.log(upper / lower)
    return math.exp((1 - share) * math.log(known[lower]) + share * math.log(known[upper]))


def _t(*values: float) -> dict[float, float]:
    """Return times at 1.5, 3 and 7 T, as many as are known."""
    return dict(zip((1.5, 3.0, 7.0), values, strict=False))


_WATER = Tissue(_t(4300.0), _t(2000.0, 1800.0, 1050.0), 0.15, 1.0, 0.03, WATER_EXPONENT)
_CORTEX = Tissue(_t(1197, 1607, 1939), _t(95, 99, 55), 1.5, 0.82)
_WHITE = Tissue(_t(646, 838, 1126), _t(72, 69, 46), 2.3, 0.70, exponent=WHITE_EXPONENT)
_HIPPOCAMPUS = Tissue(_t(1215, 1630, 1960), _t(98, 101, 57), 1.8, 0.84)
_MUSCLE = Tissue(_t(1008, 1412), _t(44, 50), 3.0, 0.78)
_SKIN = Tissue(_t(900, 1100), _t(47, 42), 4.0, 0.72, 0.08)
_FAT = Tissue(_t(343, 382, 450), _t(58, 68, 60), 4.0, 0.90, 0.06, 0.1)
_BONE = Tissue(_t(200, 230), _t(0.5, 0.4), 100.0, 0.20, 0.1)
_BLOOD = Tissue(_t(1441, 1932, 2290), _t(290, 275, 68), 8.0, 0.90)
_AIR = Tissue(_t(1.0), _t(0.01), 0.0, 0.0, 0.0, 0.0)
_LIVER = Tissue(_t(586, 809), _t(46, 34), 7.0, 0.70)

TISSUES: Mapping[str, Tissue] = {
    "air": _AIR,
    "cerebrospinal fluid": _WATER,
    "ventricle": _WATER,
    "grey matter": _CORTEX,
    "white matter": _WHITE,
    "cerebellar cortex": Tissue(_t(1150, 1550, 1880), _t(95, 97, 55), 1.8, 0.81),
    "cerebellar white matter": _WHITE,
    "brainstem": Tissue(_t(720, 930, 1230), _t(76, 72, 48), 2.5, 0.73, exponent=WHITE_EXPONENT),
    "thalamus": Tissue(_t(940, 1215, 1500), _t(82, 78, 48), 3.0, 0.76),
    "caudate": Tissue(_t(1109, 1395, 1684), _t(85, 80, 48), 4.0, 0.81),
    "putamen": Tissue(_t(1084, 1332, 1644), _t(80, 74, 42), 6.0, 0.80),
    "pallidum": Tissue(_t(746, 995, 1250), _t(66, 58, 32), 8.0, 0.74),
    "hippocampus": _HIPPOCAMPUS,
    "hippocampus anterior": _HIPPOCAMPUS,
    "hippocampus posterior": _HIPPOCAMPUS,
    "amygdala": Tissue(_t(1180, 1590, 1930), _t(98, 100, 57), 1.8, 0.84),
    "scalp": _SKIN,
    "skin": _SKIN,
    "subcutaneous fat": _FAT,
    "fat": _FAT,
    "muscle": _MUSCLE,
    "skull": _BONE,
    "bone": _BONE,
    "cortical bone": _BONE,
    "bone marrow": Tissue(_t(549, 586), _t(49, 49), 30.0, 0.75, 0.15, 0.1),
    "eye": _WATER,
    "blood": _BLOOD,
    "artery": _BLOOD,
    "vein": _BLOOD,
    "aorta": _BLOOD,
    "heart": Tissue(_t(1030, 1471), _t(40, 47), 6.0, 0.80),
    "myocardium": Tissue(_t(1030, 1471), _t(40, 47), 6.0, 0.80),
    "liver": _LIVER,
    "spleen": Tissue(_t(1057, 1328), _t(79, 61), 5.0, 0.80),
    "kidney": Tissue(_t(966, 1142), _t(87, 76), 4.0, 0.82),
    "pancreas": Tissue(_t(584, 725), _t(46, 43), 4.0, 0.76),
    "prostate": Tissue(_t(1317, 1597), _t(88, 74), 3.0, 0.82),
    "lung": Tissue(_t(1100, 1270), _t(45, 41), 250.0, 0.20, 0.15),
    "cyst": Tissue(_t(3500.0), _t(1200.0, 1100.0, 800.0), 0.2, 0.98, 0.1, WATER_EXPONENT),
    "oedema": Tissue(_t(1350, 1750, 2150), _t(150, 145, 90), 1.2, 0.88, 0.12),
    "white-matter lesion": Tissue(_t(1150, 1450, 1800), _t(135, 130, 85), 1.5, 0.82, 0.12),
    "tumour": Tissue(_t(1300, 1700, 2050), _t(130, 125, 80), 1.8, 0.85, 0.15),
    "haemorrhage": Tissue(_t(700, 850, 1000), _t(60, 45, 25), 25.0, 0.78, 0.2),
    "lesion": Tissue(_t(1200, 1550, 1900), _t(130, 125, 80), 1.8, 0.84, 0.2),
}
"""By the name of the label. Cortex, white matter, caudate and putamen T1 [1]; CSF T1 and the order of thalamus and
pallidum between white matter and putamen [2]; R2' from the T2* of [3]; T2 of grey and white matter to 3 T, of blood,
muscle and heart [4], at 7 T [8], all within 15 ms of the shorter ones in vivo [7]; abdomen, marrow and fat [5];
densities of grey and white matter [9]; skin at 1.5 T [6]; bone [10]. Amygdala, hippocampus, cerebellum and brainstem
have the cortex' and white matter's times, moved by a few per cent. Lesions are wide ranges about clinical descriptions
(long T1 and T2; short T2* of blood), which no single study measured; so are the other densities."""

OUTER = ("scalp", "skin", "body", "subcutaneous fat")
"""Labels that enclose a body: where a map names one, what nobody labelled is air."""


def tissues_at(tesla: float, stated: Mapping[str, Sequence[float]]) -> dict[str, Relaxation]:
    """Return every known tissue at a field; what a user stated is taken as it is, whatever the field."""
    known = {name: tissue.at(tesla) for name, tissue in TISSUES.items()}
    return known | {name: Relaxation(*(float(x) for x in values)) for name, values in stated.items()}


def require_tissues(stated: Mapping[str, Sequence[float]]) -> None:
    """Raise `PlanError` unless every entry is ``[T1, T2, T2*, density]``, in ms and relative to free water."""
    for name, values in stated.items():
        good = isinstance(values, Sequence) and len(values) == 4 and all(isinstance(x, (int, float)) for x in values)
        if not good or not (LONGEST_MS >= values[0] >= values[1] >= values[2] > 0 and 0 <= values[3] <= 1.5):
            raise PlanError(
                f"tissue.{name} = {values!r} is not possible; legal: [T1, T2, T2*, density] with "
                f"{LONGEST_MS:g} ms >= T1 >= T2 >= T2* > 0 and a density from 0 to 1.5",
                fix=f'such as tissue = {{ "{name}" = [1200, 90, 60, 0.8] }}',
            )


__all__ = ["FIELDS_TESLA", "OUTER", "TISSUES", "Relaxation", "Tissue", "require_tissues", "tissues_at"]

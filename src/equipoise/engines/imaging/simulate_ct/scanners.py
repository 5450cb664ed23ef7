"""Scanner profiles by name: tube, filter, geometry, dose, reconstruction.

Doses are those that common protocols deliver; photons per mm² of detector follow from them within a factor of two.

References
----------
AAPM. Adult routine chest, chest-abdomen-pelvis, lung cancer screening and head CT protocols. aapm.org/pubs/ctprotocols.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Scanner:
    """What a scanner and its protocol do; every pair is a range that a scan is drawn from.

    Parameters
    ----------
    kernels
        One is drawn.
    cutoff
        Of the kernel, cycles/mm, uniform.
    photons
        Per mm² over half a turn, log-uniform.
    blur_mm
        By focal spot and detector, uniform.
    electronic_sd
        Photons per element and view.
    kvp
        Tube voltage in kV.
    bowtie_mm
        Radius of the water cylinder that the bow-tie filter evens out.
    source_mm
        From the focal spot to the axis.
    thickness_mm
        Of slices, one is drawn; none leaves it to the label map's grid.
    """

    kernels: tuple[str, ...]
    cutoff: tuple[float, float]
    photons: tuple[float, float]
    blur_mm: tuple[float, float]
    electronic_sd: float
    kvp: float
    bowtie_mm: float
    source_mm: float
    thickness_mm: tuple[float, ...] = ()


SCANNERS: Mapping[str, Scanner] = {
    "chest, standard dose": Scanner(
        ("soft", "cosine"), (0.62, 0.78), (1e8, 2.5e8), (0.15, 0.35), 10, 120, 230, 570, (1.5, 2.5, 3.0)
    ),
    "chest, high resolution": Scanner(("sharp",), (0.8, 1.05), (1e8, 2.5e8), (0.1, 0.25), 10, 120, 230, 570, (1.0,)),
    "chest, low-dose screening": Scanner(
        ("soft", "sharp"), (0.62, 0.85), (2.5e7, 5e7), (0.15, 0.35), 8, 110, 230, 570, (1.0, 1.5, 2.5)
    ),
    "abdomen": Scanner(("soft",), (0.5, 0.65), (2e8, 5e8), (0.2, 0.4), 10, 120, 230, 570, (3.0, 5.0)),
    "emergency, whole body": Scanner(
        ("soft", "shepp-logan"), (0.5, 0.65), (1.5e8, 3e8), (0.25, 0.5), 12, 130, 230, 590, (1.5, 3.0, 5.0)
    ),
    "older scanner": Scanner(("soft",), (0.4, 0.5), (8e7, 2e8), (0.45, 0.8), 20, 120, 210, 540, (5.0, 8.0)),
    "head": Scanner(("soft", "cosine"), (0.45, 0.6), (4e8, 1e9), (0.2, 0.4), 10, 120, 130, 570, (2.5, 5.0)),
}
"""Profiles; `scanner = "any"` draws one."""

__all__ = ["SCANNERS", "Scanner"]

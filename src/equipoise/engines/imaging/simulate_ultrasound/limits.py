"""What the parameters of `simulate-ultrasound` may be."""

from __future__ import annotations

from collections.abc import Sequence

from equipoise.engines.parts.legal import require_within
from equipoise.errors import PlanError

SPACING_MM = (0.005, 5.0)
RANGES = (
    ("frequency_mhz", 0.5, 40.0, "MHz"),
    ("focus", 0.02, 5.0, "of the depth"),
    ("tgc", 0.0, 3.0, "dB/cm/MHz"),
    ("gain_db", -20.0, 100.0, "dB"),
    ("dynamic_range_db", 10.0, 120.0, "dB"),
    ("gamma", 0.2, 5.0, ""),
    ("looks", 1, 16, ""),
    ("speckle", 0.0, 1.0, ""),
    ("noise_db", -150.0, 20.0, "dB"),
    ("clutter_db", -150.0, 0.0, "dB"),
    ("reverberation_db", -150.0, 40.0, "dB"),
    ("scatterers", 0.2, 1000.0, "per resolution cell"),
    ("widen", 1.0, 10.0, ""),
)
NUMBERS = (
    ("slider_db", 0.0, 20.0, "dB"),
    ("interface_db", -50.0, 80.0, "dB"),
    ("texture", 0.0, 5.0, ""),
    ("pixel_mm", *SPACING_MM, "mm"),
    ("transmits", 1, 64, ""),
    ("elements", 8, 512, ""),
    ("shadow_db_mm", 0.0, 20.0, "dB/mm"),
)
OF_TISSUE = (("dB against liver", -80, 40), ("MRayl", 0.001, 20), ("dB/cm/MHz", 0, 50))
"""What a tissue states, each with its smallest and largest legal value."""


def require_tissue(label: str, given: object) -> None:
    """Raise `PlanError` unless a tissue states its echogenicity, impedance and attenuation, each of them possible."""
    if not isinstance(given, Sequence) or isinstance(given, str) or len(given) != len(OF_TISSUE):
        raise PlanError(f"tissues.{label} must be [dB against liver, MRayl, dB/cm/MHz], got {given!r}")
    for value, (what, low, high) in zip(given, OF_TISSUE, strict=True):
        require_within(f"tissues.{label} ({what})", value, low, high)


__all__ = ["NUMBERS", "RANGES", "SPACING_MM", "require_tissue"]

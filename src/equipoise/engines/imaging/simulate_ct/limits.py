"""What the parameters of `simulate-ct` may be, and which label maps it can render."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from equipoise.core import LabelMap
from equipoise.engines.imaging.simulate_ct.acquisition import ANY
from equipoise.engines.imaging.simulate_ct.artefacts import METALS
from equipoise.engines.imaging.simulate_ct.scanners import SCANNERS
from equipoise.engines.parts.kernels import require_kernel
from equipoise.engines.parts.legal import (
    require_grid,
    require_one_of,
    require_simulator,
    require_within,
)
from equipoise.errors import GeometryMismatchError, LabelError, PlanError, did_you_mean

SPACING_MM = (0.02, 50.0)
NUMBERS = (
    ("part_solid", 0, 1, ""),
    ("ground_glass", 0, 1, ""),
    ("pleural", 0, 1, ""),
    ("fed", 0, 1, ""),
    ("modulation", 0, 1, ""),
    ("metal", 0, 1, ""),
    ("inner_sd", 0, 1000, "HU"),
    ("margin_mm", 0, 20, "mm"),
    ("lung_sd", 0, 500, "HU"),
    ("vessels", 0, 20000, "trees per litre"),
    ("wall_mm", 0, 1e6, "mm"),
    ("electronic_sd", 0, 1e6, "photons"),
    ("drift_hu", 0, 200, "HU"),
    ("kev", 30, 150, "keV"),
    ("kvp", 60, 150, "kV"),
    ("views", 8, 20000, ""),
    ("planes", 1, 50, ""),
    ("bowtie_mm", 0, 400, "mm"),
    ("source_mm", 200, 2000, "mm"),
    ("thickness_mm", 0.1, 50, "mm"),
    ("pixel_mm", *SPACING_MM, "mm"),
)
LEAST_HU = 10.0
"""Between the HU that 0 and 255 stand for: less would show noise alone."""
RANGES = (
    ("cutoff", 1e-3, 100, "cycles/mm"),
    ("photons", 1, 1e16, "photons per mm²"),
    ("blur_mm", 0, 50, "mm"),
    ("motion_mm", 0, 100, "mm"),
    ("metal_mm", 0.2, 100, "mm"),
    ("contrast_hu", 0, 1000, "HU"),
    ("stored", -5000, 10000, "HU"),
)


def require_parameters(engine: Any) -> None:
    """Raise `PlanError`, which names the parameter, its value and what is legal, unless all are possible."""
    require_simulator(engine, (*SCANNERS, ANY), RANGES, NUMBERS)
    _require_hu_table(engine.hu)
    require_one_of("metal_kind", engine.metal_kind, METALS)
    if engine.part_solid + engine.ground_glass > 1:
        raise PlanError(
            f"part_solid = {engine.part_solid} and ground_glass = {engine.ground_glass} are not possible together; "
            "legal: a sum of 0 to 1"
        )
    if not engine.kernels:
        raise PlanError("kernels = () is not possible; legal: one or more", fix='set kernels = ["soft"]')
    for index, kernel in enumerate(engine.kernels):
        require_kernel(kernel, f"kernels[{index}]")
    for axis, half in enumerate(engine.body_mm):
        require_within(f"body_mm[{axis}]", half, 40, 1000, "mm")
    if engine.stored is not None:
        require_within("stored[1]", engine.stored[1], engine.stored[0] + LEAST_HU, RANGES[-1][2], "HU")


def require_renderable(labels: LabelMap, known: Iterable[str]) -> None:
    """Raise unless pixels are square and in mm, and every label's density is known."""
    require_grid("simulate-ct", labels, spacing=SPACING_MM)
    if labels.unit != "mm" or abs(labels.spacing[0] / labels.spacing[1] - 1) > 0.01:
        raise GeometryMismatchError(
            f"simulate-ct needs square pixels of known size, got {labels.spacing} {labels.unit}",
            fix="give the images' spacing in mm, or pixel_mm for pictures without; resample to square pixels",
        )
    options = set(known)
    for name in labels.scheme.names:
        if name not in options:
            raise LabelError(
                f"simulate-ct does not know how dense {name!r} is.{did_you_mean(name, options)}",
                why="a structure without a density cannot be imaged, and leaving it out would break its truth",
                fix=f"fit the engine on cases with this label, or state it: hu = {{{name!r} = [mean, sd], ...}}",
            )


def _require_hu_table(hu: Mapping[str, Sequence[float]]) -> None:
    for name, pair in hu.items():
        good = isinstance(pair, Sequence) and not isinstance(pair, str) and len(pair) == 2
        good = good and all(isinstance(x, (int, float, np.number)) and np.isfinite(x) for x in pair) and pair[1] >= 0
        if not good:
            raise PlanError(
                f"hu.{name} must be [mean, sd], got {pair!r}; legal: two numbers in HU, sd 0 or more",
                fix=f'write hu = {{ "{name}" = [40, 10] }}',
            )


__all__ = ["require_parameters", "require_renderable"]

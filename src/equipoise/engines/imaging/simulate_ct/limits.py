"""What the parameters of `simulate-ct` may be, and which label maps it can render."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from equipoise.core import LabelMap
from equipoise.core.registry import make
from equipoise.engines.imaging.simulate_ct.acquisition import ANY
from equipoise.engines.imaging.simulate_ct.artefacts import METALS
from equipoise.engines.imaging.simulate_ct.scanners import SCANNERS
from equipoise.engines.parts.attenuation import require
from equipoise.engines.parts.kernels import KERNELS, kernel_mtf
from equipoise.engines.parts.legal import require_grid, require_one_of, require_range, require_within
from equipoise.errors import GeometryMismatchError, LabelError, did_you_mean

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
RANGES = (
    ("cutoff", 1e-3, 100, "cycles/mm"),
    ("photons", 1, 1e16, "photons per mm²"),
    ("blur_mm", 0, 50, "mm"),
    ("motion_mm", 0, 100, "mm"),
    ("metal_mm", 0.2, 100, "mm"),
    ("contrast_hu", 0, 1000, "HU"),
)
CHOICES = (
    ("geometry", ("parallel", "fan")),
    ("tissue", ("auto", "drawn", "learned")),
    ("metal_kind", METALS),
    ("scanner", (*SCANNERS, ANY)),
    ("around", ("lung", "soft tissue", "air")),
)


def require_parameters(engine: Any) -> None:
    """Raise `PlanError`, which names the parameter, its value and what is legal, unless all are possible."""
    _require_hu_table(engine.hu)
    for name, low, high, unit in NUMBERS:
        if getattr(engine, name) is not None:
            require_within(name, getattr(engine, name), low, high, unit)
    for name, low, high, unit in RANGES:
        require_range(name, getattr(engine, name), low, high, unit)
    for name, options in CHOICES:
        if getattr(engine, name) is not None:
            require_one_of(name, getattr(engine, name), options)
    require(engine.part_solid + engine.ground_glass <= 1, "part_solid and ground_glass must not exceed 1 together")
    require(len(engine.kernels) > 0, f"kernels must name at least one of {KERNELS}")
    for kernel in engine.kernels:
        kernel_mtf(kernel, 0.0, 1.0)  # refuses an unknown name
    for axis, half in enumerate(engine.body_mm):
        require_within(f"body_mm[{axis}]", half, 40, 1000, "mm")
    if engine.stored is not None:
        require_range("stored", engine.stored, -5000, 10000, "HU")
        require(engine.stored[1] >= engine.stored[0] + 10, f"stored must span 10 HU and more, got {engine.stored}")
    good = isinstance(engine.anatomy, (str, Mapping))
    require(good, f'anatomy must be a kind or a table such as {{kind = "phantom"}}, got {engine.anatomy!r}')
    make("anatomies", engine.anatomy)  # refuses what cannot be made now, not after hours


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
    require(isinstance(hu, Mapping), f"hu must be a table of label = [mean, sd] in HU, got {hu!r}")
    for name, pair in hu.items():
        good = isinstance(pair, Sequence) and len(pair) == 2 and all(isinstance(x, (int, float)) for x in pair)
        require(good and bool(np.isfinite(pair).all()) and pair[1] >= 0, f"hu.{name} must be [mean, sd], got {pair!r}")


__all__ = ["require_parameters", "require_renderable"]

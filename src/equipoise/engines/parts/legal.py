"""One clear error for every parameter or grid that cannot be: its name, its value, and the legal range."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from equipoise.core import LabelMap
from equipoise.core.registry import make, require_types
from equipoise.errors import GeometryMismatchError, LabelError, PlanError, did_you_mean

SPACING_MM = (0.0001, 50.0)
"""Legal size of a voxel: 0.1 µm is below the resolution of light, 50 mm above any slice that is still an image."""


def require_within(name: str, value: float, low: float, high: float, unit: str = "") -> None:
    """Raise `PlanError` unless ``low <= value <= high``; NaN never is."""
    if not isinstance(value, (int, float, np.number)) or not low <= value <= high:
        raise PlanError(
            f"{name} = {value!r} is not possible; legal: {_span(low, high)}{_space(unit)}",
            fix=f"set {name} to a number from {low:g} to {high:g}"
            if high < np.inf
            else f"set {name} to {low:g} or more",
        )


def require_range(name: str, pair: Sequence[float], low: float, high: float, unit: str = "") -> None:
    """Raise `PlanError` unless ``pair`` is ``[smallest, largest]`` with ``low <= smallest <= largest <= high``."""
    good = isinstance(pair, Sequence) and not isinstance(pair, str) and len(pair) == 2
    good = good and all(isinstance(x, (int, float, np.number)) for x in pair) and low <= pair[0] <= pair[1] <= high
    if not good:
        raise PlanError(
            f"{name} = {pair!r} is not a range [smallest, largest]; legal: within {_span(low, high)}{_space(unit)}",
            fix=f"give two rising numbers, such as {name} = [{low:g}, {high if np.isfinite(high) else low + 1:g}]",
        )


Limit = tuple[str, float, float, str]
"""A parameter, its smallest and largest legal value, and their unit."""


def require_limits(kind: Any, ranges: Iterable[Limit], numbers: Iterable[Limit]) -> None:
    """Raise `PlanError` unless every range and number among a kind's parameters is legal; ``None`` is not looked at."""
    for check, limits in ((require_range, ranges), (require_within, numbers)):
        for name, low, high, unit in limits:
            if getattr(kind, name) is not None:
                check(name, getattr(kind, name), low, high, unit)


def require_one_of(name: str, value: str, known: Iterable[str]) -> None:
    """Raise `PlanError` with the nearest known name unless ``value`` is one of them."""
    options = tuple(known)
    if value not in options:
        raise PlanError(f"{name} = {value!r} is not known.{did_you_mean(str(value), options)}")


def require_anatomy(spec: Mapping[str, Any] | str, name: str = "anatomy") -> None:
    """Raise unless an anatomy can be made of its specification, the parameter ``name``: said now, not after hours."""
    if not isinstance(spec, (str, Mapping)):
        raise PlanError(f'{name} must be a kind or a table such as {{kind = "real"}}, got {spec!r}')
    make("anatomies", spec)


def require_simulator(
    engine: Any, scanners: Iterable[str], ranges: Iterable[Limit] = (), numbers: Iterable[Limit] = ()
) -> None:
    """Raise `PlanError` on the first parameter of a simulator that cannot be.

    Its anatomy must be one that can be made, each parameter of its type, and ``scanner`` the name of a profile.

    Parameters
    ----------
    engine
        With the parameters ``anatomy`` and ``scanner``.
    scanners
        Names of the profiles.
    ranges, numbers
        See `require_limits`.
    """
    require_anatomy(engine.anatomy)
    require_types(engine)
    if engine.scanner is not None:
        require_one_of("scanner", engine.scanner, scanners)
    require_limits(engine, ranges, numbers)


def require_grid(
    kind: str,
    labels: LabelMap,
    ndim: Sequence[int] = (2, 3),
    units: Sequence[str] = ("mm", "px"),
    spacing: tuple[float, float] = SPACING_MM,
) -> None:
    """Raise `GeometryMismatchError` unless an engine can render on a label map's grid.

    Parameters
    ----------
    kind
        The engine, for the message.
    labels
        The label map.
    ndim
        Numbers of dimensions that it can render.
    units
        Units of length that it understands; without ``"px"`` the images need a physical spacing.
    spacing
        Smallest and largest legal voxel in mm; asked of grids in mm only.
    """
    grid = labels.geometry
    if grid.ndim not in ndim:
        need = " or ".join(f"{n}-D" for n in ndim)
        raise GeometryMismatchError(
            f"{kind} needs a {need} label map, got {grid.ndim}-D of shape {grid.shape}",
            fix="choose an anatomy that draws such maps; `equipoise engines` lists them",
        )
    if grid.unit not in units:
        raise GeometryMismatchError(
            f"{kind} needs the size of a voxel, the label map states none (unit {grid.unit!r})",
            why="physics has lengths in mm; a pixel without a size has none",
            fix="state the spacing where the data are read: spacing = [x, y] in mm",
        )
    low, high = spacing
    if grid.unit == "mm" and not all(low <= s <= high for s in grid.spacing):
        raise GeometryMismatchError(
            f"{kind}: spacing ({', '.join(f'{s:.6g}' for s in grid.spacing)}) mm is not possible; "
            f"legal: {_span(low, high)} mm along each axis",
            fix="correct the header of the label map, or state the spacing where the data are read",
        )


def require_known(kind: str, labels: LabelMap, known: Iterable[str], parameter: str) -> None:
    """Raise `LabelError` on a label whose physics is neither in the tables, nor stated, nor learned.

    Parameters
    ----------
    kind
        The engine, for the message.
    labels
        The label map.
    known
        Names that the engine can render.
    parameter
        The engine's parameter that states an unknown one's properties, for the fix.
    """
    options = set(known)
    for name in labels.scheme.names:
        if name not in options:
            raise LabelError(
                f"{kind} does not know how {name!r} looks.{did_you_mean(name, options)}",
                why="a structure without properties cannot be imaged, and leaving it out would break its truth",
                fix=f'state it, {parameter} = {{ "{name}" = ... }}, or fit the engine on annotated images (learn)',
            )


def _span(low: float, high: float) -> str:
    return f"{low:g} or more" if not np.isfinite(high) else f"{low:g} to {high:g}"


def _space(unit: str) -> str:
    return f" {unit}" if unit else ""

"""What an engine made while it trained: real patches, their labels, and images under them, step after step."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

import numpy as np
from PIL import Image as Pillow

from equipoise.experiment.run import Finished
from equipoise.experiment.trained_engines import EngineFit, GridRow, TrainedEngine, fits_of, set_size
from equipoise.report.pictures import HEAVIEST
from equipoise.workspace import ObjectStore

COLUMNS = 8
"""Tiles side by side in a sample grid."""

TALLEST = 160
"""Pixels of a row; larger patches are shown at a whole fraction of their size, each pixel a mean."""

ROWS = ("real", "labels")
"""What a sample grid shows above the images."""


def trained_engines(finished: Finished, store: ObjectStore) -> list[TrainedEngine]:
    """Return how the engines of an experiment trained, those that tell: one entry per engine of the plan.

    Parameters
    ----------
    finished
        The experiment.
    store
        Where its sample grids are.
    """
    plan, found = finished.prepared.plan, []
    for name, engine in plan.engines.items():
        facts = [told for who, told in finished.syntheses if who == name]
        facts += [told for (arm, _), told in finished.trained.items() if arm.arm.engine == name]
        fits = fits_of(facts)
        if fits:
            shown = max(fits, key=lambda fit: (fit.n, -fit.replicate))
            size = set_size(name, fits, plan.seed)
            found.append(TrainedEngine(name, str(engine.spec["kind"]), fits, size, grid_of(shown, store)))
    return found


def grid_of(fit: EngineFit, store: ObjectStore) -> list[GridRow]:
    """Return the rows of a fit's sample grids: real and labels once, then one row per step.

    No row weighs more than a picture of the report: columns are left out until the heaviest fits.
    """
    pictures = [(step, _pixels(store.get(name))) for step, name in fit.grids]
    if not pictures:
        return []
    rows = dict(zip(ROWS, np.array_split(pictures[0][1], 3)[:2], strict=True))
    rows |= {str(step): np.array_split(pixels, 3)[2] for step, pixels in pictures}
    for columns in (COLUMNS, 6, 4, 3, 2, 1):
        made = [_row(name, pixels, columns) for name, pixels in rows.items()]
        if max(len(row.png) for row in made) <= HEAVIEST * 4 / 3:
            break
    return made


def _pixels(png: bytes) -> np.ndarray:
    return np.asarray(Pillow.open(io.BytesIO(png)).convert("RGB"))


def _row(name: str, pixels: np.ndarray, columns: int) -> GridRow:
    """Return the first tiles of a row as a PNG: grey where it is, of few colours where it has few."""
    shown = pixels[:, : pixels.shape[1] * columns // COLUMNS]
    picture = Pillow.fromarray(np.ascontiguousarray(shown)).reduce(-(-len(shown) // TALLEST))
    if (shown == shown[..., :1]).all():
        picture = picture.convert("L")
    elif name == "labels":
        picture = picture.quantize(64, dither=Pillow.Dither.NONE)
    file = io.BytesIO()
    picture.save(file, "PNG", optimize=True)
    return GridRow(name, base64.b64encode(file.getvalue()).decode(), *picture.size)


def steps_shown(rows: Sequence[GridRow]) -> list[int]:
    """Return the steps that rows of a sample grid show."""
    return [int(row.name) for row in rows if row.name not in ROWS]


__all__ = ["grid_of", "steps_shown", "trained_engines"]

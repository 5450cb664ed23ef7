"""Small cases for tests."""

from __future__ import annotations

import numpy as np

from equipoise.core import Case, Image, LabelMap, LabelScheme, Origin

SCHEME = LabelScheme.of(["blob"])


def blob_case(name: str, patient: str | None = None, side: int = 24, seed: int = 0, **more: object) -> Case:
    """A noisy grey image with a bright disc, and the disc as its truth."""
    rng = np.random.default_rng([seed, *name.encode()])
    x, y = np.meshgrid(np.arange(side), np.arange(side), indexing="ij")
    cx, cy = rng.uniform(side * 0.35, side * 0.65, 2)
    r = rng.uniform(side * 0.15, side * 0.3)
    disc = ((x - cx) ** 2 + (y - cy) ** 2 <= r**2)[..., None]
    image = Image((disc[None] + 0.3 * rng.standard_normal((1, side, side, 1))).astype(np.float32))
    truth = LabelMap.on(image.geometry, disc[None].astype(np.uint8), SCHEME)
    return Case(name, patient or f"patient-{name}", image, truth, **more)


def synthetic(name: str, *parents: str) -> Case:
    """A synthetic case learned from some patients."""
    return blob_case(name, f"synthetic-{name}", origin=Origin("synthetic", "test", parents=frozenset(parents)))

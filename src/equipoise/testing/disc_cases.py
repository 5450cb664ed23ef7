"""Cases for tests of learners: a disc with a core, easy to learn and impossible to guess."""

from __future__ import annotations

import dataclasses

import numpy as np

from equipoise.core import Case, Image, LabelMap, LabelScheme, Origin, rng_for

SCHEME = LabelScheme.of(["rim", "core"])


def disc_case(index: int, shape: tuple[int, int, int] = (40, 36, 1)) -> Case:
    """Return a bright core in a grey rim on a noisy ground: easy to learn, impossible to guess.

    Patient and content depend on ``index`` only. Arrays are read-only, as files mapped into memory are.
    """
    rng = rng_for(index, "disc")
    centre = [rng.uniform(0.3, 0.7) * n if n > 1 else 0.0 for n in shape]
    radius = rng.uniform(0.18, 0.3) * min(n for n in shape if n > 1)
    axes = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")
    distance = np.sqrt(sum((axis - at) ** 2 for axis, at in zip(axes, centre, strict=True)))
    core, rim = distance < 0.55 * radius, (distance >= 0.55 * radius) & (distance < radius)
    pixels = (200.0 * core + 100.0 * rim + rng.normal(0.0, 20.0, shape))[None].astype(np.float32)
    labels = np.stack([rim, core]).astype(np.uint8)
    pixels.flags.writeable = labels.flags.writeable = False
    image = Image(pixels, unit="px")
    return Case(
        f"case-{index}",
        f"patient-{index}",
        image,
        LabelMap.on(image.geometry, labels, SCHEME),
    )


def made_from(case: Case, parent: int) -> Case:
    """Return a case as a synthetic one that was learned from patient ``parent``."""
    origin = Origin("synthetic", "test", parents=patients(parent))
    return dataclasses.replace(case, id=f"{case.id}-made", patient=f"made-{case.patient}", origin=origin)


def patients(*indices: int) -> frozenset[str]:
    """Return the names of the patients with these numbers."""
    return frozenset(f"patient-{i}" for i in indices)


__all__ = ["SCHEME", "disc_case", "made_from", "patients"]

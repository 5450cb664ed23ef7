"""One scan of a label map: tissue of one person, signal equations, receivers, slices, and k-space."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from equipoise.core import LabelMap
from equipoise.engines.imaging.simulate_mri.artefacts import Troubles, draw_sampling
from equipoise.engines.imaging.simulate_mri.fields import (
    HEAD_MM,
    coil_field,
    draw_bias,
    polynomial_field,
    random_field,
    within_view,
)
from equipoise.engines.imaging.simulate_mri.kspace import Sampling, measure
from equipoise.engines.imaging.simulate_mri.scanners import Acquisition
from equipoise.engines.imaging.simulate_mri.scene import FATTY, FILLING, along, enclosed, filled, signal_map, slicing
from equipoise.engines.imaging.simulate_mri.tissues import Relaxation
from equipoise.engines.parts.tissue_model import regions_of

Spacing = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Body:
    """What a scan shows beside its protocol: fields as of `SimulateMRI`."""

    texture: float
    bias: float
    transmit: float
    fat: tuple[float, float]


def scanned(
    labels: LabelMap,
    known: Mapping[str, Relaxation],
    spacing: Spacing,
    taken: Acquisition,
    body: Body,
    troubles: Troubles,
    slice_axes: Sequence[int],
    scene: np.random.Generator,
    scan: np.random.Generator,
) -> tuple[np.ndarray, dict[str, str | float]]:
    """Return a magnitude image, float32, shape ``(I, J, K)``, relative to free water, and its acquisition.

    Parameters
    ----------
    labels
        What is scanned; what nobody labelled is air where the map names the body's outside, else patches of tissue.
    known
        Relaxation of every label, and of `FILLING`, at the scanner's field.
    spacing
        mm.
    taken
        Scanner, protocol and times.
    body
        Texture and fields.
    troubles
        What may go wrong.
    slice_axes
        Axes that slices may be stacked along.
    scene, scan
        Streams of what lies in the scanner, and of what the scanner does.
    """
    index, names = regions_of(labels), ["air", *labels.scheme.names]
    if not enclosed(labels):
        filled(index, len(names), len(FILLING), spacing, scene)
        names += FILLING
    left = float(scan.uniform(*body.fat)) if scan.random() < 0.5 else 1.0
    tissues = [_of_this_person(known[name], left if name in FATTY else 1.0, scene) for name in names]
    shape = labels.geometry.shape
    sampling, slice_axis = draw_sampling(troubles, taken, shape, spacing, slice_axes, scan)
    frequency_axis = next((a for a in sampling.axes if a != sampling.phase_axis), sampling.phase_axis)
    fatty = [name in FATTY for name in names]
    shown = signal_map(index, tissues, fatty, taken, spacing, body.transmit, frequency_axis, scene)
    if body.texture > 0:
        shown *= 1 + np.float32(body.texture) * random_field(shape, spacing, 4.0, scene)
    shown *= _receive(shape, spacing, taken.coils, body.bias, scene)
    level = float(shown[index > 0].mean()) if index.any() else 1.0
    noise, sampled = level / taken.snr, troubles.scaled(sampling, level)
    attributes = _attributes(taken, sampling, slice_axis) | {"fat": left}
    if slice_axis is None:
        return measure(shown, sampled, noise, taken.channels, scan), attributes
    gap = 0.1 * taken.thickness_mm
    cut, back = slicing(shape[slice_axis], spacing[slice_axis], taken.thickness_mm - gap, gap)
    slices = measure(along(cut, shown, slice_axis), sampled, noise, taken.channels, scan)
    return along(back, slices, slice_axis), attributes


def _receive(
    shape: tuple[int, int, int], spacing: Spacing, coils: int, amount: float, rng: np.random.Generator
) -> np.ndarray:
    """Return what the receivers make of an even object: coils, and what is left after their correction."""
    bias = polynomial_field(shape, within_view(draw_bias(amount, rng), shape, spacing))
    if coils > 1 and amount > 0:
        # Scanners divide by the body coil's picture, which leaves a part of the surface coils' profile.
        left = np.float32(rng.uniform(0.0, 0.4))
        extent = max(n * s for n, s in zip(shape, spacing, strict=True))
        bias *= coil_field(shape, spacing, coils, 1.0 * max(1.0, HEAD_MM / extent)) ** left
    return bias


def _of_this_person(tissue: Relaxation, left: float, rng: np.random.Generator) -> Relaxation:
    """Return a tissue with the times of one person: T1, T2 and density vary by its spread, 1/T2* - 1/T2 does not.

    Of its signal a share ``left`` is not suppressed.
    """
    a, b, c = 1 + tissue.spread * np.clip(rng.standard_normal(3), -2, 2)
    t2 = min(tissue.t2 * b, tissue.t1 * a)
    rate = 1 / t2 + 1 / tissue.t2star - 1 / tissue.t2
    return Relaxation(tissue.t1 * a, t2, 1 / rate, left * tissue.density * c, tissue.spread)


def _attributes(taken: Acquisition, sampling: Sampling, slice_axis: int | None) -> dict[str, str | float]:
    s = taken.sequence
    found: dict[str, str | float] = {
        "protocol": taken.protocol,
        "tesla": taken.tesla,
        "te_ms": s.te,
        "tr_ms": s.tr,
        "snr": taken.snr,
        "resolution": taken.resolution,
        "partial_fourier": sampling.partial_fourier,
        "moves": float(max(len(sampling.poses) - 1, 0)),
        "ghost": sampling.ghost,
        "spikes": float(len(sampling.spikes)),
    }
    if s.name in ("flair", "mprage"):
        found["ti_ms"] = s.ti
    if s.name not in ("spin-echo", "flair"):
        found["flip_degrees"] = s.flip
    if slice_axis is not None:
        found["thickness_mm"] = taken.thickness_mm
    return found


__all__ = ["Body", "scanned"]

"""Sub-labels of the unlabelled tissue, and a new look for each of them and for each label.

A segmentation names one structure; everything else is "background", although it holds several tissues. Changing the
grey values of the whole background at once would leave the relation between those tissues untouched, which is just what
differs between scanners and stains. They are therefore estimated by clustering the training images' grey values.

References
----------
Billot B, Greve DN, Puonti O, et al. SynthSeg: segmentation of brain MRI scans of any contrast and resolution without
retraining. Medical Image Analysis 2023;86:102789. doi:10.1016/j.media.2023.102789
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numba import njit

from equipoise.core import Case
from equipoise.engines.augmentation.source import HELD_BYTES, Source, in_memory, labels_of, measure
from equipoise.engines.parts.appearance import blur
from equipoise.engines.parts.clusters import cluster


@dataclass(frozen=True, eq=False)
class Tissue:
    """What the training cases taught about tissues, on the normalised scale.

    Parameters
    ----------
    centres
        Typical grey value or colour of each sub-label of the unlabelled tissue, float32, shape ``(T, C)``.
    width
        Half the usual distance between two neighbouring centres: the softness of the border between sub-labels.
    contrast
        Difference between a label and the unlabelled tissue, float32, shape ``(L, C)``, at least 0.05.
    counted
        For each label, whether any case numbers its instances.
    """

    centres: np.ndarray
    width: float
    contrast: np.ndarray
    counted: tuple[bool, ...]


def learn(cases: Sequence[Case], clusters: int, rng: np.random.Generator) -> tuple[tuple[Source, ...], Tissue]:
    """Return the cases with their grey-value ranges, and what their tissues look like.

    Raises `EngineError` on a case with values that are not finite.
    """
    sources, plain, labelled, counted = [], [], [], []
    held = 0
    for case in cases:
        image, truth = case.image.array, labels_of(case)
        source, values, names = measure(case, image, truth, rng)
        held += image.nbytes + truth.nbytes
        sources.append(source if held > HELD_BYTES else in_memory(source, image))
        plain.append(values[~names.any(axis=1)])
        # Mean and count of every label, so that a large case does not hide a small one.
        labelled.append([values[names[:, n]].mean(axis=0) if names[:, n].any() else None for n in range(len(truth))])
        counted.append([bool((channel > 1).any()) for channel in truth])
    channels = cases[0].image.channels
    pooled = np.concatenate([p for p in plain if len(p)] or [np.zeros((1, channels), np.float32)])
    centres, width = cluster(pooled, clusters, rng)
    contrast = np.full((len(counted[0]), channels), 0.05, np.float32)
    for n in range(len(counted[0])):
        means = [mean for mean in (row[n] for row in labelled) if mean is not None]
        if means:
            contrast[n] = np.maximum(np.abs(np.mean(means, axis=0) - pooled.mean(axis=0)), 0.05)
    return tuple(sources), Tissue(centres, width, contrast, tuple(bool(any(c)) for c in zip(*counted, strict=True)))


def dress_tissue(u: np.ndarray, tissue: Tissue, amount: float, empty: float, rng: np.random.Generator) -> None:
    """Give every sub-label a new mean and contrast, in place.

    Parameters
    ----------
    u
        Normalised image, float32, shape ``(C, I, J, K)``.
    tissue
        The sub-labels.
    amount
        SD of the change of a sub-label's mean, as a part of the image's range, and of the logarithm of its contrast.
    empty
        Times that amount for a sub-label at the dark end of every channel: air, or the surround of a photograph.
    rng
        Decides.
    """
    size = tissue.centres.shape
    # One common change and one per channel: without the first, colours would scatter over the whole wheel.
    much = np.where((np.abs(tissue.centres) < 0.1).all(axis=1, keepdims=True), amount * empty, amount)
    shifts = much * (rng.standard_normal((size[0], 1)) + 0.5 * rng.standard_normal(size)) / math.sqrt(1.25)
    gains = np.exp(much * rng.standard_normal((size[0], 1))) - 1
    # Who belongs where is decided on a smoothed image, so that noise does not jump between two sub-labels.
    smooth = blur(u, (1.0, 1.0, 1.0)).reshape(len(u), -1)
    changes = shifts.astype(np.float32), np.broadcast_to(gains, size).astype(np.float32)
    _dress(u.reshape(len(u), -1), smooth, tissue.centres, np.float32(1 / tissue.width**2), *changes)


def dress_labels(u: np.ndarray, masks: np.ndarray, tissue: Tissue, amount: float, rng: np.random.Generator) -> None:
    """Change each label's contrast against what surrounds it, and its inner contrast, in place.

    Parameters
    ----------
    u
        Normalised image, float32, shape ``(C, I, J, K)``.
    masks
        Bool, shape ``(L, I, J, K)``; they may overlap.
    tissue
        Knows each label's typical contrast.
    amount
        SD of the change, as a part of that contrast; at 1 a label now and then vanishes or turns from bright to dark.
    rng
        Decides, with as many draws for an absent label as for a present one.
    """
    for mask, contrast in zip(masks, tissue.contrast, strict=True):
        common, own = rng.standard_normal(), rng.standard_normal(len(u))
        gain = math.exp(0.3 * amount * rng.standard_normal()) - 1
        if not mask.any():
            continue
        soft = blur(mask[None].astype(np.float32), (0.6, 0.6, 0.6))[0]  # partial volume at the rim
        total = float(soft.sum())
        for c in range(len(u)):
            mean = float(np.vdot(soft, u[c])) / total
            shift = amount * float(contrast[c]) * (common + 0.5 * float(own[c])) / math.sqrt(1.25)
            u[c] += soft * (np.float32(shift - gain * mean) + np.float32(gain) * u[c])


@njit(cache=True, nogil=True, error_model="numpy")  # no test for division by 0 per voxel
def _dress(values, smooth, centres, sharpness, shifts, gains):  # type: ignore[no-untyped-def]
    channels, tissues = values.shape[0], centres.shape[0]
    change = np.empty(channels, np.float32)
    one = np.float32(1.0)
    for v in range(values.shape[1]):
        total = np.float32(0.0)
        change[:] = 0
        for t in range(tissues):
            far = one
            for c in range(channels):
                e = smooth[c, v] - centres[t, c]
                far += sharpness * e * e
            # Falls as fast as is needed, and costs a tenth of an exponential.
            weight = one / (far * far * far)
            total += weight
            for c in range(channels):
                change[c] += weight * (shifts[t, c] + gains[t, c] * (values[c, v] - centres[t, c]))
        for c in range(channels):
            values[c, v] += change[c] / total


__all__ = ["Tissue", "dress_labels", "dress_tissue", "learn"]

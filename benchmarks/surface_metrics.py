"""Time Dice + HD95 + NSD on one pair of masks, against MONAI and DeepMind's surface-distance.

Run ``python benchmarks/surface_metrics.py``. Every side runs in this process on one thread; figures are medians, and
outputs must agree to 1e-6 under each convention (else the exit status is 1). Speed targets are printed, not enforced:
a busy machine must not fail a build.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from scipy import ndimage

from equipoise.core import rng_for
from equipoise.metrics import CONVENTIONS, Convention, dice, surface_metrics

SPACING = (0.8, 0.8, 1.5)
TOLERANCE = 2.0
REPEATS = 3
ENOUGH = 0.3  # s; a quick side is repeated this long, for its median to be steady
AGREE = 1e-6
TARGET = {"organ": 5.0, "lesion": 50.0}  # times faster than MONAI

Masks = tuple[np.ndarray, np.ndarray]
Figures = tuple[float, float, float]  # Dice, HD95, NSD


@dataclass(frozen=True)
class Timing:
    """Median seconds and figures of one side on one pair."""

    seconds: float
    figures: Figures


def smooth_pair(kind: str, size: int) -> Masks:
    """Draw a smooth structure and an imperfect prediction of it on a ``size``³ grid.

    ``organ`` has about the share of the image that a liver has of an abdominal CT (a tenth); ``lesion`` is about a
    twelfth of the image wide. The prediction follows the truth up to a smooth boundary error of about a voxel.
    """
    rng = rng_for(0, "benchmarks/surface_metrics", kind, size)
    radius, centre = (0.62, 0.0) if kind == "organ" else (0.08, 0.3)
    axis = (np.linspace(-1, 1, size, dtype=np.float32) - np.float32(centre)) / np.float32(radius)
    x, y, z = np.meshgrid(axis / 0.9, axis, axis / 1.1, indexing="ij", sparse=True)
    distance = np.sqrt(x**2 + y**2 + z**2)
    shape, error = (
        ndimage.zoom(rng.standard_normal((8, 8, 8)).astype(np.float32), size / 8, order=3, mode="nearest")
        for _ in range(2)
    )
    voxel = 2 / size / radius  # one voxel, in the units of ``distance``
    surface = distance + 0.08 * shape
    return surface < 1, surface + voxel * error < 1


def ours(pair: Masks, convention: Convention) -> Figures:
    found = surface_metrics(*pair, SPACING, (TOLERANCE,), convention)
    return dice(*pair), found.hd95, found.nsd[TOLERANCE]


def monai_side(pair: Masks) -> Callable[[], Figures]:
    """MONAI's three functions; the tensors are made beforehand, which is in its favour."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import torch
        from monai import metrics
    torch.set_num_threads(1)
    truth, predicted = (torch.from_numpy(mask[None, None]) for mask in pair)
    options = {"include_background": True, "spacing": SPACING}

    def run() -> Figures:
        return (
            float(metrics.compute_dice(predicted.float(), truth.float(), include_background=True)),
            float(metrics.compute_hausdorff_distance(predicted, truth, percentile=95, **options)),
            float(metrics.compute_surface_dice(predicted, truth, class_thresholds=[TOLERANCE], **options)),
        )

    return run


def deepmind_side(pair: Masks) -> Callable[[], Figures]:
    import surface_distance as peer

    def run() -> Figures:
        found = peer.compute_surface_distances(*pair, SPACING)
        return (
            float(peer.compute_dice_coefficient(*pair)),
            float(peer.compute_robust_hausdorff(found, 95)),
            float(peer.compute_surface_dice_at_tolerance(found, TOLERANCE)),
        )

    return run


PEERS: dict[Convention, Callable[[Masks], Callable[[], Figures]]] = {"monai": monai_side, "deepmind": deepmind_side}


def timed(run: Callable[[], Figures], repeats: int) -> Timing:
    seconds: list[float] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the peers call names that newer scipy deprecates
        while len(seconds) < repeats or (sum(seconds) < ENOUGH and len(seconds) < 50):
            start = time.perf_counter()
            figures = run()
            seconds.append(time.perf_counter() - start)
    return Timing(statistics.median(seconds), figures)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[128, 256], help="edge of the cubic image, voxels")
    parser.add_argument("--repeats", type=int, default=REPEATS, help="least runs of each side; the median counts")
    options = parser.parse_args(arguments)
    if min(options.sizes) < 32 or options.repeats < 1:
        parser.error("sizes must be 32 or more, repeats 1 or more")
    print(f"Dice + HD95 + NSD at {TOLERANCE} mm, voxels {SPACING} mm, one thread, median of {options.repeats}+ runs")
    print(f"{'pair':<12}{'convention':<12}{'peer, s':>10}{'ours, s':>10}{'ratio':>9}{'target':>9}{'largest gap':>14}")
    agree = True
    for kind in TARGET:
        for size in options.sizes:
            pair = smooth_pair(kind, size)
            for convention in CONVENTIONS:
                side = PEERS[convention](pair)
                theirs = timed(side, options.repeats)
                mine = timed(partial(ours, pair, convention), options.repeats)
                gap = max(abs(a - b) for a, b in zip(mine.figures, theirs.figures, strict=True))
                agree = agree and gap <= AGREE * max(1.0, *theirs.figures)
                target = f"{TARGET[kind]:.0f}x" if convention == "monai" else "-"
                print(
                    f"{kind + ' ' + str(size):<12}{convention:<12}{theirs.seconds:>10.4f}{mine.seconds:>10.4f}"
                    f"{theirs.seconds / mine.seconds:>8.1f}x{target:>9}{gap:>14.1e}"
                )
    print("outputs agree to 1e-6" if agree else "OUTPUTS DIFFER by more than 1e-6")
    return 0 if agree else 1


if __name__ == "__main__":
    sys.exit(main())

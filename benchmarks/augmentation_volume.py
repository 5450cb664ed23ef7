"""Augmentation of 128 x 128 x 128 patches: milliseconds of one thread against MONAI and batchgeneratorsv2.

Every change alone, the affine map alone, and the whole list (each change on every patch), as medians of processor time
in one process, one after the other. Where a change has no chance in it, the results are compared too. A peer that is
not installed is left out and named; to time batchgeneratorsv2, put it on the Python path.
"""

from __future__ import annotations

import importlib
import importlib.util
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import numpy as np
import torch

import augmentation as pieces
from equipoise.core import rng_for
from equipoise.engines.augmentation.batched import Batched
from equipoise.engines.augmentation.classical import Classical
from equipoise.engines.augmentation.steps import Blur, Contrast, Curve, LowResolution, Move

SHAPE = (1, 128, 128, 128)
OURS = Classical(flip=(0, 1, 2))
PROBABILITIES = [f.name for f in fields(Classical) if f.name.startswith("p_")]
WANTED = 3.0
"""Times faster than each peer that the whole list has to be."""

Peer = Callable[[Classical, tuple[int, ...]], Callable[[], Any]]


def settings() -> dict[str, Classical]:
    """Return what is timed: each change on every patch, then several together."""
    never = dict.fromkeys(PROBABILITIES, 0.0)
    always = dict.fromkeys(PROBABILITIES, 1.0)
    chosen = {name.removeprefix("p_"): {**never, name: 1.0} for name in PROBABILITIES}
    chosen["rotation + scale"] = {**never, "p_rotation": 1.0, "p_scale": 1.0}
    chosen["all but elastic"] = {**always, "p_elastic": 0.0}
    chosen["all"] = always
    return {name: replace(OURS, **values) for name, values in chosen.items()}  # type: ignore[arg-type]


def milliseconds(call: Callable[[], Any], times: int = 5) -> float:
    """Return the median time of a call after a first one, in ms of this process' processor time."""
    call()
    found = []
    for _ in range(times):
        start = time.process_time()
        call()
        found.append(time.process_time() - start)
    return 1e3 * statistics.median(found)


def peers() -> dict[str, Peer]:
    """Return the peers that are installed; say which are not."""
    found: dict[str, Peer] = {"MONAI": pieces.monai_transform}
    try:
        importlib.import_module("batchgeneratorsv2.transforms.spatial.spatial")
        found["batchgeneratorsv2"] = pieces.batchgenerators_transform
    except ImportError as error:
        print(f"batchgeneratorsv2 is skipped: {error}. To time it: pip install batchgeneratorsv2")
    return found


def agreement() -> list[tuple[str, str, float]]:
    """Return change, peer and largest difference in SD of the image, on a smooth volume."""
    from monai import transforms as t

    rng = rng_for(0, "smooth")
    image, _ = Blur((2.0, 2.0, 2.0))(rng.standard_normal((1, 64, 64, 64), dtype=np.float32), np.zeros((1, 64, 64, 64)))
    image = (image - image.mean()) / image.std()
    none = np.zeros((1, 64, 64, 64), np.uint8)

    def ours(step: Any) -> np.ndarray:
        changed: np.ndarray = step(image.copy(), none)[0]
        return changed

    def far(a: np.ndarray, b: Any, margin: int = 0) -> float:
        inner = (slice(None), *[slice(margin, 64 - margin)] * 3)
        return float(np.abs(a[inner] - np.asarray(b)[inner]).max())

    there = torch.from_numpy(image.copy())
    turn = t.Affine(rotate_params=(0, 0, 0.3), padding_mode="border", mode="bilinear", image_only=True)
    c, s = np.cos(0.3), np.sin(0.3)
    matrix = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]])
    gamma = t.AdjustContrast(gamma=1.5, retain_stats=True)
    rows = [
        ("rotation by 0.3 rad (middle)", "MONAI", far(ours(Move(matrix)), turn(there.clone()), 16)),
        ("gamma 1.5", "MONAI", far(ours(Curve.gamma([1.5], False)), gamma(there.clone()))),
        (
            "blur, SD 1",
            "MONAI",
            far(ours(Blur((1.0, 1.0, 1.0))), t.GaussianSmooth(1.0, approx="sampled")(there.clone()), 6),
        ),
    ]
    if importlib.util.find_spec("batchgeneratorsv2"):
        part = importlib.import_module
        bg = "batchgeneratorsv2.transforms."
        contrast = part(bg + "intensity.contrast").ContrastTransform(lambda *a, **k: 1.3, True, False, 1.0)
        smooth = part(bg + "noise.gaussian_blur").GaussianBlurTransform(lambda *a, **k: 1.0, True, False, 1.0)
        coarse = part(bg + "spatial.low_resolution").SimulateLowResolutionTransform(
            lambda *a, **k: 0.5, True, True, False, None, 1.0
        )
        power = part(bg + "intensity.gamma").GammaTransform(lambda *a, **k: 1.5, 0.0, False, 1.0, 1.0)
        for name, step, transform in (
            ("contrast 1.3", Contrast(np.array([1.3])), contrast),
            ("blur, SD 1", Blur((1.0, 1.0, 1.0)), smooth),
            ("voxels twice as large", LowResolution((2.0, 2.0, 2.0)), coarse),
            ("gamma 1.5", Curve.gamma([1.5], False), power),
        ):
            rows.append((name, "batchgeneratorsv2", far(ours(step), transform(image=there.clone())["image"])))
    return rows


def batched_milliseconds(device: str, size: int) -> float:
    """Return what one of ``size`` patches costs, wall clock, all changes at nnU-Net's probabilities."""
    images = torch.randn((size, *SHAPE), device=device)
    labels = (torch.rand((size, *SHAPE), device=device) > 0.8).to(torch.uint8)
    # White noise drawn on the processor would be most of the work.
    work, rng = Batched(replace(OURS, p_noise=0.0), device), rng_for(0, "batched")
    found = []
    for _ in range(4):
        start = time.perf_counter()
        work(images, labels, rng)
        if device != "cpu":
            torch.cuda.synchronize()
        found.append(time.perf_counter() - start)
    return 1e3 * statistics.median(found[1:]) / size


def main() -> int:
    """Print the tables; 1 if the whole list is not `WANTED` times faster than every peer there is."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    others = peers()
    print(f"{'128^3, ms per patch':22}{'ours':>9}" + "".join(f"{name:>24}" for name in others))
    slow = False
    for name, a in settings().items():
        own = milliseconds(pieces.own_transform(a, SHAPE))
        row = f"{name:22}{own:9.1f}"
        for build in others.values():
            ms = milliseconds(build(a, SHAPE), 3)
            row += f"{ms:14.1f} = {ms / own:6.1f}x"
            slow |= name == "all" and ms < WANTED * own
        print(row, flush=True)
    print("\nLargest difference of results, in SD of the image")
    for name, peer, worst in agreement():
        print(f"{name:32}{peer:20}{worst:10.1e}")
    device, size = ("cuda", 8) if torch.cuda.is_available() else ("cpu", 1)
    where = torch.cuda.get_device_name() if device == "cuda" else "one thread"
    print(f"\nBatched in torch on {where}, as in training: {batched_milliseconds(device, size):.1f} ms per patch")
    return int(slow)


if __name__ == "__main__":
    sys.exit(main())

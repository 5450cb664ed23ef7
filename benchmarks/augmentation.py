"""Milliseconds of one thread that a training step spends on augmentation, against MONAI and batchgeneratorsv2.

All do the same list of changes: each of them always (the work of one call), the same without elastic deformation (where
the peers are slowest), and at nnU-Net's probabilities (what training pays on average). batchgeneratorsv2 is timed if it
can be imported; it is not installed for this.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

import numpy as np  # noqa: E402
import torch  # noqa: E402

from equipoise.core import Case, Geometry, Image, LabelMap, LabelScheme, rng_for  # noqa: E402
from equipoise.engines.augmentation.beyond import Augmentation  # noqa: E402
from equipoise.engines.augmentation.classical import Classical  # noqa: E402

PATCHES = {"grey 96 x 96": (1, 96, 96, 1), "colour 96 x 96": (3, 96, 96, 1), "volume 48^3": (1, 48, 48, 48)}
OURS = Classical(flip=(0, 1))
PROBABILITIES = {f.name: 1.0 for f in fields(Classical) if f.name.startswith("p_")}


def pair(shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Return a normalised patch and a label of a fifth of it."""
    rng = rng_for(0, "patch", shape)
    return rng.standard_normal(shape, dtype=np.float32), (rng.random((1, *shape[1:])) > 0.8).astype(np.uint8)


def monai_transform(a: Classical, shape: tuple[int, ...]) -> Callable[[], Any]:
    """Return MONAI's dictionary transforms for the same changes."""
    from monai import transforms as t

    flat = shape[3] == 1
    image, labels = pair(shape)
    data = {"image": torch.from_numpy(image[..., 0] if flat else image)}
    data["label"] = torch.from_numpy(labels[..., 0] if flat else labels)
    both: dict[str, Any] = {"keys": ["image", "label"], "mode": ["bilinear", "nearest"]}
    zoom, angle = (1 / 1.4 - 1, 0.4), np.radians(a.rotation)
    spatial: dict[str, Any] = {
        "rotate_range": angle if flat else (angle,) * 3,
        "scale_range": [zoom] * (2 if flat else 3),
        "padding_mode": "reflection",
    }
    steps: list[Any] = [t.RandFlipd(["image", "label"], prob=a.p_flip, spatial_axis=x) for x in a.flip]
    moves = 1 - (1 - a.p_rotation) * (1 - a.p_scale)
    if a.p_elastic and flat:  # it includes the affine map
        bend = t.Rand2DElasticd(spacing=(24, 24), magnitude_range=(2, 5), prob=a.p_elastic, **both, **spatial)
        steps.append(bend)
    elif a.p_elastic:
        steps.append(
            t.Rand3DElasticd(sigma_range=(5, 7), magnitude_range=(50, 100), prob=a.p_elastic, **both, **spatial)
        )
    if moves and a.p_elastic < 1:
        steps.append(t.RandAffined(prob=moves, **both, **spatial))
    steps += [
        t.RandGaussianNoised("image", prob=a.p_noise, std=0.3),
        t.RandGaussianSmoothd("image", (0.5, 1), (0.5, 1), (0.5, 1), prob=a.p_blur),
        t.RandShiftIntensityd("image", 0.25, prob=a.p_brightness),
        t.RandScaleIntensityFixedMeand("image", factors=0.33, preserve_range=True, prob=a.p_contrast),
        t.RandSimulateLowResolutiond(
            "image",
            prob=a.p_low_resolution,
            zoom_range=(0.5, 1),
            upsample_mode="bilinear" if flat else "trilinear",
        ),
        t.RandAdjustContrastd("image", prob=a.p_gamma, gamma=(0.67, 1.5), retain_stats=True),
    ]
    whole = t.Compose(steps).set_random_state(0)
    return lambda: whole(data)


def batchgenerators_transform(a: Classical, shape: tuple[int, ...]) -> Callable[[], Any]:
    """Return batchgeneratorsv2's transforms for the same changes."""
    part = importlib.import_module  # the package is optional, so type checkers need not find it
    bg = "batchgeneratorsv2.transforms."
    intensity, contrast = part(bg + "intensity.brightness"), part(bg + "intensity.contrast")
    gamma, noise, smooth = (
        part(bg + x) for x in ("intensity.gamma", "intensity.gaussian_noise", "noise.gaussian_blur")
    )
    coarse, mirror, space = (part(bg + "spatial." + x) for x in ("low_resolution", "mirroring", "spatial"))
    flat = shape[3] == 1
    image, labels = pair(shape)
    size = shape[1:3] if flat else shape[1:]
    angle = float(np.radians(a.rotation))
    chance = part(bg + "utils.random").RandomTransform
    quarter = contrast.BGContrast((0.75, 1.25))
    whole = part(bg + "utils.compose").ComposeTransforms(
        [
            space.SpatialTransform(
                size,
                0,
                False,
                p_elastic_deform=a.p_elastic,
                p_rotation=a.p_rotation,
                rotation=(-angle, angle),
                p_scaling=a.p_scale,
                scaling=(1 / 1.4, 1.4),
                p_synchronize_scaling_across_axes=1,
                padding_mode_image="reflection",
                border_mode_seg="reflection",
            ),
            chance(noise.GaussianNoiseTransform((0, 0.1), 1, True), a.p_noise),
            chance(smooth.GaussianBlurTransform((0.5, 1.0), True, False, 1), a.p_blur),
            chance(intensity.MultiplicativeBrightnessTransform(quarter, False, 1), a.p_brightness),
            chance(contrast.ContrastTransform(quarter, True, False, 1), a.p_contrast),
            chance(coarse.SimulateLowResolutionTransform((0.5, 1), True, True, False, None, 1), a.p_low_resolution),
            chance(gamma.GammaTransform(contrast.BGContrast((0.67, 1.5)), 0, False, 1, 1), a.p_gamma),
            mirror.MirrorTransform(tuple(a.flip)),
        ]
    )
    im, seg = (torch.from_numpy(x[..., 0] if flat else x) for x in (image, labels.astype(np.int16)))
    return lambda: whole(image=im.clone(), segmentation=seg.clone())


def own_transform(a: Classical, shape: tuple[int, ...]) -> Callable[[], Any]:
    """Return our augmentation of one patch."""
    image, labels = pair(shape)
    rng = rng_for(0, "augment")
    return lambda: a(image, labels, rng)


def milliseconds(call: Callable[[], Any], seconds: float = 1.5) -> tuple[float, float]:
    """Return mean and median time of a call, in ms of this thread's processor."""
    for _ in range(5):
        call()
    times: list[float] = []
    while sum(times) < seconds and len(times) < 400:
        start = time.process_time()
        call()
        times.append(time.process_time() - start)
    return 1e3 * statistics.mean(times), 1e3 * statistics.median(times)


def engine_milliseconds() -> list[tuple[str, float]]:
    """Return what the engine needs per case at full strength."""
    rows = []
    for name, shape, patch in (
        ("colour 256 x 256", (3, 256, 256, 1), 0),
        ("colour 999 x 960, patch 96", (3, 999, 960, 1), 96),
        ("volume 48^3", (1, 48, 48, 48), 0),
    ):
        grid = Geometry((shape[1], shape[2], shape[3]), unit="px")
        cases = []
        for i in range(3):
            image, labels = pair(shape)
            smooth = 60 + 100 * labels[0] + 10 * image
            truth = LabelMap.on(grid, labels, LabelScheme.of(["x"]))
            pixels = np.clip(smooth, 0, 255).astype(np.uint8)
            cases.append(Case(f"c{i}", f"p{i}", Image.on(grid, pixels), truth))
        engine = Augmentation(strength=1.0, patch=patch).fit(cases, rng_for(0, "fit"))
        stream = engine.sample(10**9, rng_for(0, "sample"))
        rows.append((name, milliseconds(lambda stream=stream: next(stream), 2.5)[0]))  # type: ignore[misc]
    return rows


def main() -> int:
    """Print the tables; 1 if ours is slower than MONAI anywhere."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    peers: dict[str, Callable[[Classical, tuple[int, ...]], Callable[[], Any]]] = {"MONAI": monai_transform}
    if importlib.util.find_spec("batchgeneratorsv2"):
        peers["batchgeneratorsv2"] = batchgenerators_transform
    settings = {
        "every change": replace(OURS, **PROBABILITIES),  # type: ignore[arg-type]
        "no elastic": replace(OURS, **{**PROBABILITIES, "p_elastic": 0.0}),  # type: ignore[arg-type]
        "as in training": OURS,
    }
    print("Classical augmentation, mean ms per patch on one thread (median in brackets)")
    slower = False
    for name, shape in PATCHES.items():
        for setting, a in settings.items():
            ours, middle = milliseconds(own_transform(a, shape))
            row = f"{name:16} {setting:15} ours {ours:8.3f} ({middle:7.3f})"
            for peer, build in peers.items():
                theirs, median = milliseconds(build(a, shape))
                row += f"   {peer} {theirs:8.2f} ({median:7.2f}) = {theirs / ours:5.1f}x"
                slower |= peer == "MONAI" and theirs < ours
            print(row, flush=True)
    print("\nEngine `augmentation` at strength 1, mean ms per synthetic case on one thread")
    for name, ms in engine_milliseconds():
        print(f"{name:28} {ms:8.2f}")
    return int(slower)


if __name__ == "__main__":
    sys.exit(main())

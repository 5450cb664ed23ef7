"""Label map to MRI of random contrast, bias field and motion against TorchIO and MONAI, in one process on one thread.

128 x 128 x 128 voxels, 12 labels. Random contrast: both sides do affine, elastic deformation, Gaussian grey values by
label, blur, bias field, gamma, anisotropy and noise, with TorchIO's own defaults for the strengths, and new random
numbers in every call. Outputs are compared where both sides can be given the same numbers: the bias field of the same
coefficients (TorchIO), grey values by label (their means), motion (a whole shift rolls). Exit status 1 if a target is
missed.

    python benchmarks/mri_random_contrast.py

TorchIO is no dependency: `pip install torchio` in an environment of its own to compare. MONAI is one.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before numpy: one thread on both sides
os.environ["ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"] = "1"

import importlib.util
import sys
import time
import tracemalloc
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from equipoise.core import rng_for
from equipoise.engines.anatomy.head import Head
from equipoise.engines.imaging.simulate_mri.fields import draw_bias, polynomial_field
from equipoise.engines.imaging.simulate_mri.looks import draw_look
from equipoise.engines.imaging.simulate_mri.motion import Pose, moved
from equipoise.engines.imaging.simulate_mri.randomised import random_contrast

SIZE, LABELS, ROUNDS = 128, 12, 7
SHAPE = (SIZE, SIZE, SIZE)
TARGETS = {"random contrast, TorchIO": 20, "bias field, TorchIO": 30, "bias field, MONAI": 2, "motion, TorchIO": 5}


def label_map() -> np.ndarray:
    """Return nested shells, uint8: as many labels as a head of SynthSeg's size has, all of them present."""
    i = np.indices(SHAPE) - (SIZE - 1) / 2
    far = np.sqrt((i[0] / 0.9) ** 2 + i[1] ** 2 + (i[2] / 0.95) ** 2)
    return np.digitize(-far, np.linspace(-0.46 * SIZE, -4, LABELS - 1)).astype(np.uint8)


def our_chain(labels: np.ndarray) -> Callable[[], Any]:
    rng = rng_for(0, "ours")

    def run() -> Any:
        look = draw_look(SHAPE, (1.0, 1.0, 1.0), 0.5, 1.0, rng)
        # Blur, coarse voxels and noise in every call, as the peer has them.
        thick = float(rng.uniform(1.5, 5))
        look = replace(look, blur=(0.6, 0.6, 0.375 * thick), coarse=(1.0, 1.0, thick), noise=0.05)
        look = replace(look, mean=rng.uniform(0, 1, LABELS), sd=rng.uniform(0.01, 0.1, LABELS))
        return random_contrast(labels, SHAPE, look, rng)

    return run


def their_chain(labels: np.ndarray) -> Callable[[], Any]:
    import torchio as tio

    subject = tio.Subject(label=tio.LabelMap(tensor=torch.from_numpy(labels.astype(np.int16))[None]))
    chain = tio.Compose(
        [
            tio.RandomAffine(),
            tio.RandomElasticDeformation(),
            tio.RandomLabelsToImage(label_key="label", image_key="image"),
            tio.RandomBlur(),
            tio.RandomBiasField(),
            tio.RandomGamma(),
            tio.RandomAnisotropy(),
            tio.RandomNoise(),
        ]
    )
    return lambda: chain(subject)


def rounds(calls: dict[str, Callable[[], Any]]) -> dict[str, float]:
    """Return median CPU times in ms, round by round in turn, so that a busy machine is busy for all."""
    for call in calls.values():
        call()
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(ROUNDS):
        for name, call in calls.items():
            start = time.process_time()
            call()
            times[name].append(1e3 * (time.process_time() - start))
    return {name: float(np.median(t)) for name, t in times.items()}


def bias_calls(image: np.ndarray) -> dict[str, Callable[[], Any]]:
    from monai.transforms import RandBiasField

    rng = rng_for(0, "bias")
    out, field = np.empty_like(image), np.empty_like(image)

    def ours() -> np.ndarray:
        return np.multiply(image, polynomial_field(SHAPE, draw_bias(0.5, rng), out=field), out=out)

    monai = RandBiasField(degree=3, coeff_range=(0.0, 0.5), prob=1.0)
    calls: dict[str, Callable[[], Any]] = {"ours": ours, "MONAI": lambda: monai(image[None])}
    if importlib.util.find_spec("torchio"):
        import torchio as tio

        scalar, torchio = tio.ScalarImage(tensor=torch.from_numpy(image)[None]), tio.RandomBiasField()
        calls["TorchIO"] = lambda: torchio(scalar)
    return calls


def motion_calls(image: np.ndarray) -> dict[str, Callable[[], Any]]:
    rng = rng_for(0, "motion")

    def ours() -> np.ndarray:
        poses = [Pose(0.0)]
        for start in np.sort(rng.uniform(0.2, 0.8, 2)):  # two moves, as TorchIO's default
            (a, b, c), (p, q, r) = rng.uniform(-10, 10, (2, 3)).tolist()
            poses.append(Pose(float(start), (a, b, c), (p, q, r)))
        return np.abs(moved(image, tuple(poses), 1))

    calls: dict[str, Callable[[], Any]] = {"ours": ours}
    if importlib.util.find_spec("torchio"):
        import torchio as tio

        scalar, torchio = tio.ScalarImage(tensor=torch.from_numpy(image)[None]), tio.RandomMotion()
        calls["TorchIO"] = lambda: torchio(scalar)
    return calls


def compared() -> list[tuple[str, float, float]]:
    """Return what the outputs differ by, and by how much they may."""
    found = []
    if importlib.util.find_spec("torchio"):
        import torchio as tio

        # TorchIO lists its coefficients of x^i y^j z^k with i + j + k <= 3 in this order.
        c = np.zeros((4, 4, 4))
        listed = []
        for i in range(4):
            for j in range(4 - i):
                for k in range(4 - i - j):
                    c[i, j, k] = 0.1 * np.cos(7 * i + 3 * j + k)
                    listed.append(c[i, j, k])
        theirs = tio.BiasField.generate_bias_field(torch.zeros(1, *SHAPE), 3, listed)
        ours = polynomial_field(SHAPE, c)
        found.append(("bias field, mean difference", float(np.abs(ours - theirs).mean() / ours.mean()), 1e-5))
    image = rng_for(0, "shift").random(SHAPE, np.float32)
    shift = (3.0, -5.0, 2.0)
    shifted = np.abs(moved(image, (Pose(0.0, shift),), 1))
    found.append(
        ("whole shift against numpy.roll", float(np.abs(shifted - np.roll(image, (3, -5, 2), (0, 1, 2))).max()), 1e-4)
    )
    labels = label_map()
    look = draw_look(SHAPE, (1.0, 1.0, 1.0), 0.0, 0.0, rng_for(0, "look"))
    mean, sd = np.linspace(0.2, 0.8, LABELS), np.full(LABELS, 0.05)
    look = replace(look, mean=mean, sd=sd, gamma=1.0, blur=(0.0,) * 3, coarse=(1.0,) * 3, noise=0.0)
    drawn, _ = random_contrast(labels, SHAPE, look, rng_for(1, "look"))
    off = max(abs(float(drawn[labels == n].mean()) - mean[n]) for n in range(LABELS))
    found.append(("grey value of a label against its mean", off, 0.005))
    return found


def against_size() -> None:
    """Print time and memory of a head and its physics from 64^3 to 256^3."""
    from equipoise.engines.imaging.simulate_mri import SimulateMRI

    print(f"\n{'voxels':>8}{'head s':>9}{'picture s':>11}{'peak MB of the picture':>24}")
    for n in (64, 128, 192, 256):
        head = Head(size=(n, n, n), spacing=(218 / n,) * 3)
        engine = SimulateMRI(anatomy="head", protocols=("t1-mprage",), scanner="3T clinical", motion=1.0)
        start = time.process_time()
        (labels,) = head.draw(1, rng_for(0, "size"))
        drawn = time.process_time() - start
        tracemalloc.start()
        next(engine.sample(1, rng_for(0, "warm"), [labels]))
        peak = tracemalloc.get_traced_memory()[1] / 2**20
        tracemalloc.stop()
        start = time.process_time()
        next(engine.sample(1, rng_for(0, "size"), [labels]))
        print(f"{n:>6}^3{drawn:9.2f}{time.process_time() - start:11.2f}{peak:24.0f}", flush=True)


def main() -> int:
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    labels = label_map()
    image = (labels / LABELS + 0.05 * rng_for(0, "image").standard_normal(SHAPE)).astype(np.float32)
    chains: dict[str, Callable[[], Any]] = {"ours": our_chain(labels)}
    if importlib.util.find_spec("torchio"):
        chains["TorchIO"] = their_chain(labels)
    else:
        print("TorchIO is not installed here: its rows are left out (see the top of this file).")
    print(f"MRI {SIZE}^3, one thread; median CPU ms of {ROUNDS} rounds\n")
    missed = []
    tasks = (("random contrast", chains), ("bias field", bias_calls(image)), ("motion", motion_calls(image)))
    for task, calls in tasks:
        found = rounds(calls)
        for peer, ms in found.items():
            if peer == "ours":
                continue
            ratio, target = ms / found["ours"], TARGETS[f"{task}, {peer}"]
            print(f"{task:16} ours {found['ours']:7.1f}   {peer:8}{ms:8.1f} = {ratio:5.1f}x   target {target}x")
            if ratio < target:
                missed.append(f"{task}: {ratio:.1f}x {peer}, target {target}x")
    print()
    for name, value, limit in compared():
        print(f"{name:42} {value:.2g} (at most {limit:g})")
        if value > limit:
            missed.append(f"{name}: {value:.2g}")
    against_size()
    print("\nmissed: " + "; ".join(missed) if missed else "\nevery target met")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())

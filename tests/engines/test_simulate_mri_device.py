"""Random contrast through torch against the kernel of the CPU; on a GPU where there is one."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from equipoise.core import Case, rng_for
from equipoise.engines.imaging.simulate_mri import SimulateMRI
from equipoise.engines.imaging.simulate_mri.looks import draw_look
from equipoise.engines.imaging.simulate_mri.randomised import Look, random_contrast
from equipoise.engines.imaging.simulate_mri.randomised_on_device import (
    GREY_AGREES,
    LABELS_DIFFER,
    random_contrast_on,
)
from equipoise.errors import EngineError

LABELS = 12
HEAD = {"kind": "head", "size": [56, 64, 48], "spacing": [3.4, 3.4, 3.6]}


def drawn(shape: tuple[int, int, int], warp: float, seed: int) -> tuple[np.ndarray, Look]:
    """Blocks of labels and everything that is random about a picture of them."""
    rng = rng_for(seed, "device", *shape)
    i, j, k = np.indices(shape)
    labels = ((i // 9 + j // 7 + k // 5) % LABELS).astype(np.uint8)
    look = draw_look(shape, (1.0, 1.3, 0.8), 0.5, warp, rng)
    return labels, replace(look, mean=rng.uniform(0, 1, LABELS), sd=rng.uniform(0, 0.1, LABELS))


def assert_alike(device: str, labels: np.ndarray, look: Look, seed: int) -> None:
    image, seen = random_contrast(labels, labels.shape, look, rng_for(seed, "scan"))
    other, shown = random_contrast_on(device, labels, labels.shape, look, rng_for(seed, "scan"))
    assert (other.dtype, shown.dtype, other.shape) == (np.float32, np.uint8, image.shape)
    differs = seen != shown
    assert differs.mean() <= LABELS_DIFFER
    if not differs.any():
        np.testing.assert_allclose(other, image, atol=GREY_AGREES)
    else:  # the blur carries what another label shows to the voxels around it
        assert (np.abs(other - image) > GREY_AGREES).mean() <= 0.02


@hypothesis_settings(max_examples=25)
@given(
    st.tuples(st.integers(2, 40), st.integers(2, 40), st.integers(1, 40)),
    st.sampled_from([0.0, 0.5, 1.0]),
    st.integers(0, 2**31),
)
def test_torch_paints_what_the_kernel_paints(shape: tuple[int, int, int], warp: float, seed: int) -> None:
    assert_alike("cpu", *drawn(shape, warp, seed), seed)


def test_each_part_of_a_look_counts_on_a_device() -> None:
    labels, look = drawn((24, 28, 20), 1.0, 0)
    look = replace(look, gamma=1.4, noise=0.05, blur=(0.6, 0.6, 1.5), coarse=(1.0, 1.0, 3.0))
    whole, _ = random_contrast_on("cpu", labels, labels.shape, look, rng_for(0, "scan"))
    for change in (
        {"gamma": 1.0},
        {"noise": 0.0},
        {"blur": (0.0, 0.0, 0.0)},
        {"coarse": (1.0, 1.0, 1.0)},
        {"bias": np.zeros((1, 1, 1))},
        {"nodes": None},
        {"offset": look.offset + 3},
    ):
        part = replace(look, **change)
        image, _ = random_contrast_on("cpu", labels, labels.shape, part, rng_for(0, "scan"))
        assert np.abs(image - whole).mean() > 1e-3, change
        assert_alike("cpu", labels, part, 0)


def pictures(device: str, count: int = 2) -> list[Case]:
    engine = SimulateMRI(contrasts="random", anatomy=HEAD, device=device)
    return list(engine.sample(count, rng_for(3, "device")))


def test_a_device_that_is_not_there_is_named_with_the_fix() -> None:
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    with pytest.raises(EngineError, match=rf"'cuda:{count + 4}'[\s\S]*fix: set device = 'cpu'"):
        pictures(f"cuda:{count + 4}")
    if not count:
        with pytest.raises(EngineError, match=r"'cuda' and PyTorch finds no CUDA device"):
            pictures("cuda")


def test_torch_is_imported_only_when_asked_for() -> None:
    code = (
        "import sys; from equipoise.core import rng_for;"
        "from equipoise.engines.imaging.simulate_mri import SimulateMRI;"
        f"next(SimulateMRI(contrasts='random', anatomy={HEAD!r}).sample(1, rng_for(0, 'x')));"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.gpu
def test_a_gpu_paints_what_the_kernel_paints() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device: PyTorch finds none on this machine")
    for seed, shape in enumerate(((64, 72, 60), (96, 80, 1), (33, 40, 128))):
        assert_alike("cuda", *drawn(shape, 1.0, seed), seed)
    for a, b, c in zip(pictures("cpu"), pictures("cuda"), pictures("cuda:0"), strict=True):
        assert (a.labels.array != b.labels.array).mean() <= LABELS_DIFFER
        np.testing.assert_array_equal(b.image.array, c.image.array)

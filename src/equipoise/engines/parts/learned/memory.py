"""What a training needs of memory, counted beforehand.

Nothing is measured: what a step keeps for its way back is counted on small patches, exactly and the same every time,
and grows in proportion with patches and voxels. So the same memory, stated, always leads to the same training.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from equipoise.core import Case
from equipoise.engines.parts.learned.course import Trainee
from equipoise.engines.parts.learned.examples import Batch
from equipoise.engines.parts.learned.held_out import PATCHES, TOGETHER

PROBED = 32
"""Side of the patches on which a step is counted, or the smallest that the network halves to two voxels."""

ON_TOP = 1.35
"""What a step needs over what it keeps for its way back: gradients on their way, and buffers of convolutions."""

ENCODER = 11_000
"""Bytes per squared side of a patch that the judging encoder's training needs, plus its pool of patches."""

PRIOR_VOXELS = 2**21
"""Of all patches together that an image's mean and spectrum are taken from."""

POOLED = 512 * 4 * 3
"""Bytes per pixel and channel of that pool, while it is put together."""

LIBRARIES = 150.0 * 2**20
"""What PyTorch, MONAI and SciPy load and set up in the machine's memory on first use."""


@dataclass(frozen=True, slots=True)
class Counted:
    """Bytes that one training takes, by what they depend on.

    Parameters
    ----------
    weights
        Of all networks, their gradients, moments, averages and copies.
    step
        Kept by a step whatever its size.
    voxel
        Kept by a step for each voxel of each patch that goes through together.
    """

    weights: float
    step: float
    voxel: float

    def bytes(self, patch: Sequence[int], at_once: int) -> float:
        """Return what training needs with these patches, so many together."""
        return self.weights + ON_TOP * (self.step + self.voxel * math.prod(patch) * at_once)


def small_patch(patch: tuple[int, int, int], multiple: int) -> tuple[int, int, int]:
    """Return a patch that is small enough to count on, and large enough for every part of a network."""
    side = -(-max(PROBED, 2 * multiple) // multiple) * multiple
    i, j, k = (min(n, side) for n in patch)
    return i, j, k


def count(trainee: Trainee, patch: tuple[int, int, int], channels: int, planes: int, on_disk: bool = True) -> Counted:
    """Return what a training takes, from two of its steps, on one patch and on two.

    Parameters
    ----------
    trainee
        To throw away: it takes the steps.
    patch
        That it was built for, `small_patch` or the training's own: what a step keeps grows with its voxels.
    channels, planes
        As in `Setup`.
    on_disk
        Whether checkpoints are written from the same memory.
    """
    kept = [_kept_by_a_step(trainee, n, channels, planes, patch) for n in (1, 2)]
    each = kept[1] - kept[0]
    everything, rendering = (
        sum(v.numel() * v.element_size() for name in names for v in trainee.networks[name].state_dict().values())
        for names in (trainee.networks, trainee.renders)
    )
    # Weights, gradients and two moments; the average, the best so far and the live ones during a look.
    weights = 4.0 * everything + 3 * rendering
    # A checkpoint is weights, moments, average and best, once as copies and once as the bytes of the file.
    written = 2 * (3 * everything + 2 * rendering) if on_disk else 0
    return Counted(weights + written, max(kept[0] - each, 0), each / math.prod(patch))


def data_bytes(cases: Sequence[Case], channels: int, planes: int) -> float:
    """Return what the prepared training images take: float32, and one byte per plane."""
    return float(sum(math.prod(case.image.geometry.shape) for case in cases) * (4 * channels + planes))


def look_bytes(patch: Sequence[int], channels: int, planes: int) -> tuple[float, float]:
    """Return what a look takes where it is computed, and what its patches, real and made, take in the machine's memory.

    While an image is rendered, its planes are there as told, as left out, and joined with it, and a few copies of it.
    """
    voxels = 4.0 * math.prod(patch)
    return TOGETHER * voxels * (5 * (planes + 1) + 6 * channels), PATCHES * voxels * (planes + 3 * channels)


def prior_patches(patch: Sequence[int]) -> int:
    """Return from how many patches mean and spectrum are taken: fewer of large volumes, which have many voxels each."""
    return min(max(PRIOR_VOXELS // math.prod(patch), 8), 256)


def encoder_bytes(patch: Sequence[int], channels: int) -> float:
    """Return what the training of the judging encoder takes, which is over before the engine's begins."""
    return float(min(patch[:2]) ** 2 * (ENCODER + POOLED * channels))


def beside(
    device: str, cases: Sequence[Case], patch: Sequence[int], channels: int, planes: int, looked_at: bool = True
) -> float:
    """Return what a training takes beside its networks and steps: libraries, data, the encoder, and looks, if any."""
    looks, shown = look_bytes(patch, channels, planes) if looked_at else (0.0, 0.0)
    if device != "cpu":
        return looks
    prior = 4.0 * prior_patches(patch) * math.prod(patch) * (3 * (planes + 1) + 5 * channels)
    judged = max(encoder_bytes(patch, channels), looks + shown, prior) if looked_at else 0.0
    return LIBRARIES + data_bytes(cases, channels, planes) + judged


def free_memory(device: str) -> float:
    """Return the bytes that are free on a device; of the machine's, what this process's control group is allowed."""
    if device != "cpu":
        return float(torch.cuda.mem_get_info(device)[0])
    found = [math.inf]
    with suppress(OSError, ValueError, IndexError):
        rows = dict(row.split(":") for row in Path("/proc/meminfo").read_text().splitlines())
        found.append(1024.0 * int(rows["MemAvailable"].split()[0]))
    for limit, used in (
        ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
        ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ):
        with suppress(OSError, ValueError):  # absent, or "max"
            found.append(float(int(Path(limit).read_text()) - int(Path(used).read_text())))
    return max(min(found), 0.0)


def _kept_by_a_step(trainee: Trainee, patches: int, channels: int, planes: int, patch: tuple[int, int, int]) -> float:
    """Return the most bytes that a step keeps for its way back, on so many patches."""
    rng = np.random.default_rng(0)
    images = rng.uniform(-1, 1, (patches, channels, *patch)).astype(np.float32)
    told = (rng.random((patches, planes, *patch)) < 0.5).astype(np.float32)
    with _counting(trainee.networks) as book:
        period = getattr(trainee, "period", 1)  # the step that does all there is to do
        trainee.step(Batch(images, told, np.zeros(patches, int)), torch.Generator().manual_seed(0), period)
    return float(book["most"])


@contextmanager
def _counting(networks: Mapping[str, torch.nn.Module]) -> Iterator[dict[str, float]]:
    """Yield a book whose ``"most"`` is the most bytes that graphs built inside the block held at any time."""
    weights = {v.untyped_storage().data_ptr() for n in networks.values() for v in n.state_dict().values()}
    holders: dict[int, int] = {}
    book = {"now": 0.0, "most": 0.0}

    def release(storage: int, size: int) -> None:
        holders[storage] -= 1
        if not holders[storage]:
            book["now"] -= size

    def hold(tensor: torch.Tensor) -> _Held:
        held = _Held(tensor)
        storage = tensor.untyped_storage().data_ptr()
        if storage not in weights:
            size = tensor.untyped_storage().nbytes()
            holders[storage] = holders.get(storage, 0) + 1
            if holders[storage] == 1:
                book["now"] += size
                book["most"] = max(book["most"], book["now"])
            weakref.finalize(held, release, storage, size)
        return held

    with torch.autograd.graph.saved_tensors_hooks(hold, lambda held: held.tensor):
        yield book


@dataclass(eq=False)
class _Held:
    tensor: torch.Tensor


__all__ = ["Counted", "beside", "count", "free_memory", "prior_patches", "small_patch"]

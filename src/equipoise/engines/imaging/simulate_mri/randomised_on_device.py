"""`random_contrast` through torch, for a GPU: the same draws from the same stream, the same maths in the same order.

Random numbers are drawn by numpy, so that a stream means one picture on any device. Sums are rounded differently: grey
values agree to `GREY_AGREES`, and a label differs where a place falls between two voxels to the last bit of a float32,
in at most `LABELS_DIFFER` of the voxels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from equipoise.engines.imaging.simulate_mri.randomised import QUANTILES, Look, control_nodes, gamma_curve
from equipoise.engines.parts.appearance import coarse_index, gaussian_taps
from equipoise.engines.parts.device import device_of
from equipoise.engines.parts.warp import cubic_weights

if TYPE_CHECKING:
    import torch

    Put = Callable[..., torch.Tensor]
    """From an array to a tensor on the device, float32 unless stated."""

GREY_AGREES = 5e-6
"""Largest difference of grey values (0 to about 1) from those of the CPU, where the labels are the same."""
LABELS_DIFFER = 1e-4
"""Largest share of voxels that show another label than on the CPU."""


def random_contrast_on(
    device: str, labels: np.ndarray, shape: tuple[int, int, int], look: Look, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return what `random_contrast` does, computed on a device: ``"cpu"`` (by torch), ``"cuda"``, ``"cuda:0"`` ….

    Raises
    ------
    EngineError
        If there is no such device.
    """
    import torch

    on = device_of("simulate-mri", device)

    def put(array: Any, kind: torch.dtype = torch.float32) -> torch.Tensor:
        return torch.as_tensor(np.ascontiguousarray(array), device=on).to(kind)

    quantiles = put(QUANTILES)
    drawn = put(rng.integers(0, 65536, shape, np.uint16).astype(np.int32), torch.int32)
    seen = _labels_seen(put(labels, torch.uint8), _places(shape, look, put))
    at = seen.int()
    value = put(look.mean)[at] + put(look.sd)[at] * quantiles[drawn]
    if look.bias.size > 1:
        value *= _bias(look.bias, shape, put)
    image = _bent(value, put(gamma_curve(look.gamma)))
    for axis, sigma in enumerate(look.blur):
        if max(look.blur) >= 0.1 and sigma >= 0.1 and shape[axis] > 1:
            image = _blurred(image, axis, gaussian_taps(min(sigma, shape[axis])))
    for axis, factor in enumerate(look.coarse):
        image = _coarse(image, axis, factor, put)
    if look.noise > 0:
        drawn = put(rng.integers(0, 65536, shape, np.uint16).astype(np.int32), torch.int32)
        image = (image + float(np.float32(look.noise)) * quantiles[drawn]).abs()
    return image.cpu().numpy(), seen.cpu().numpy()


def _places(shape: tuple[int, int, int], look: Look, put: Put) -> list[torch.Tensor]:
    """Return where in the label map each voxel looks, plus a half: three tensors that broadcast to ``shape``."""
    i, j = (np.arange(n)[:, None] if a == 0 else np.arange(n)[None] for a, n in enumerate(shape[:2]))
    m = np.asarray(look.matrix, np.float64)
    rows = [put(np.float32(m[a, 0] * i + m[a, 1] * j + look.offset[a]))[..., None] + 0.5 for a in range(3)]
    k = put(np.arange(shape[2]))
    if look.nodes is None:
        return [float(np.float32(m[a, 2])) * k + rows[a] for a in range(3)]
    moved = put(control_nodes(look))
    for axis, (n, step) in enumerate(zip(shape, look.step, strict=True), 1):
        weights = np.array([cubic_weights(x / step) for x in range(n)])
        base, w = put(weights[:, 0], _whole()), put(weights[:, 1:])
        line = [-1 if a == axis else 1 for a in range(4)]
        parts = [w[:, t].reshape(line) * moved.index_select(axis, base + t) for t in range(4)]
        moved = parts[0] + parts[1] + parts[2] + parts[3]
    d0, d1, d2 = moved[0], moved[1], moved[2] + k
    f = m.astype(np.float32).tolist()
    return [f[a][0] * d0 + f[a][1] * d1 + f[a][2] * d2 + rows[a] for a in range(3)]


def _whole() -> torch.dtype:
    import torch

    return torch.int64


def _labels_seen(labels: torch.Tensor, places: list[torch.Tensor]) -> torch.Tensor:
    p, q, r = (x.clamp(0, n - 1).to(_whole()) for x, n in zip(places, labels.shape, strict=True))
    return labels[p, q, r]


def _bias(coefficients: np.ndarray, shape: tuple[int, int, int], put: Put) -> torch.Tensor:
    """Return the exponential of a polynomial: planes in double precision, rows on the device."""
    x, y, z = ((2 * np.arange(n) - (n - 1)) / max(n - 1, 1) for n in shape)
    powers = [np.stack([a**n for n in range(c)]) for a, c in zip((x, y, z), coefficients.shape, strict=True)]
    planes = put(np.einsum("pqr,pi,qj->ijr", coefficients, powers[0], powers[1]))
    total = planes[..., :1] * put(powers[2][0])
    for n in range(1, coefficients.shape[2]):
        total = total + planes[..., n : n + 1] * put(powers[2][n])
    field: torch.Tensor = total.exp()
    return field


def _bent(value: torch.Tensor, curve: torch.Tensor) -> torch.Tensor:
    last = curve.shape[0] - 1
    value = (value * last).clamp(0, last)
    node = value.int().clamp(max=last - 1)
    low = curve[node]
    return low + (value - node) * (curve[node + 1] - low)


def _blurred(image: torch.Tensor, axis: int, taps: np.ndarray) -> torch.Tensor:
    """Return the image filtered along an axis, mirrored once at its borders, as by `appearance.blur`."""
    n, radius = image.shape[axis], len(taps) // 2
    weights = taps[radius:].tolist()

    def beside(t: int) -> torch.Tensor:
        index = np.abs(np.arange(n) + t)
        index = np.clip(np.where(index >= n, 2 * (n - 1) - index, index), 0, n - 1)
        return image.index_select(axis, _index(index, image))

    out: torch.Tensor = weights[0] * image
    for t in range(1, radius + 1):
        out += weights[t] * (beside(-t) + beside(t))
    return out


def _coarse(image: torch.Tensor, axis: int, factor: float, put: Put) -> torch.Tensor:
    n = image.shape[axis]
    few = max(1, round(n / factor)) if factor > 1 else n
    if few >= n:
        return image
    first, second, weight = coarse_index(n, few)
    w = put(weight).reshape([-1 if a == axis else 1 for a in range(3)])
    low, high = (image.index_select(axis, _index(index, image)) for index in (first, second))
    mixed: torch.Tensor = low * (1 - w) + high * w
    return mixed


def _index(index: np.ndarray, like: torch.Tensor) -> torch.Tensor:
    import torch

    return torch.as_tensor(index, dtype=torch.int64, device=like.device)


__all__ = ["GREY_AGREES", "LABELS_DIFFER", "random_contrast_on"]

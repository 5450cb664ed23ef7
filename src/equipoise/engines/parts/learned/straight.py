"""What labels tell without any network: how bright each is, where noise hides it.

A convolutional network with normalised groups sees well how the parts of a patch differ, and badly what all of it has
in common: whether a patch of one label only is bright or dark. A weighted sum of planes says just that.
"""

from __future__ import annotations

import torch
from torch import nn

KNOTS, EDGE = 12, 6.0
"""At how many ratios of image to noise weights are kept, evenly in their logarithm, from -6 to 6."""

GAIN = 10.0
"""How much faster these weights learn than the network's: an optimiser moves all of its weights about alike, and these
are few and large. Starting from their least-squares solution instead made the network learn worse: it then has little
to gain from labels, and does not take them up."""


class Straight(nn.Module):
    """Each channel of an answer as a weighted sum of planes and of their means over the patch.

    Weights are piecewise linear in the logarithm of the signal-to-noise ratio, and 0 to begin with.

    Parameters
    ----------
    channels, planes
        Of the answer, and of what it is read from.
    """

    knots: torch.Tensor

    def __init__(self, channels: int, planes: int) -> None:
        super().__init__()
        self.register_buffer("knots", torch.linspace(-EDGE, EDGE, KNOTS), persistent=False)
        self.weights = nn.Parameter(torch.zeros(KNOTS, channels, 2 * planes))

    def forward(self, planes: torch.Tensor, alpha: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        """Return ``(B, channels, *spatial)`` of planes ``(B, planes, *spatial)``.

        ``alpha`` and ``sigma`` are the shares of image and noise, shape ``(B,)``.
        """
        ratio, width = torch.log(alpha / sigma).clamp(-EDGE, EDGE), self.knots[1] - self.knots[0]
        near = (1 - (ratio[:, None] - self.knots).abs() / width).clamp(min=0)
        own, shared = (GAIN * torch.einsum("bk,kcp->bcp", near, self.weights)).chunk(2, -1)
        axes = tuple(range(2, planes.ndim))
        common = torch.einsum("bcp,bp->bc", shared, planes.mean(axes))
        return torch.einsum("bcp,bp...->bc...", own, planes) + common.view(*common.shape, *[1] * len(axes))


__all__ = ["Straight"]

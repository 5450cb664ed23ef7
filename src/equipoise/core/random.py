"""Keyed random streams: the same result in one process, in eight, or on a cluster."""

from __future__ import annotations

import hashlib

import numpy as np


def rng_for(seed: int, *names: object) -> np.random.Generator:
    """Return a stream that depends only on ``seed`` and ``names``, not on what ran before.

    Parameters
    ----------
    seed
        The seed of the experiment.
    names
        What the stream is for, from coarse to fine: ``"engine", "diffusion", replicate``.

    Examples
    --------
    >>> bool(rng_for(7, "split").random() == rng_for(7, "split").random())
    True
    """
    return np.random.default_rng(seed_for(seed, *names))


def seed_for(seed: int, *names: object) -> int:
    """Return the 128-bit seed of `rng_for`, for libraries with generators of their own."""
    # repr of a tuple, not a join on "/": ("a/b",) and ("a", "b") must be two streams.
    digest = hashlib.sha256(repr((int(seed), *map(str, names))).encode()).digest()
    return int.from_bytes(digest[:16], "big")

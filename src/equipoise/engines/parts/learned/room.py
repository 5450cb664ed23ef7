"""What gives way where a training has too little memory, and how a training that was begun goes on as it began."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from equipoise.core import Case
from equipoise.engines.parts.learned.course import Trainee
from equipoise.engines.parts.learned.memory import (
    Counted,
    beside,
    count,
    free_memory,
    small_patch,
)
from equipoise.engines.parts.learned.presets import Size
from equipoise.errors import EngineError

SHARE = 0.8
"""Of the free memory that a training may take, unless the plan states how much."""

SMALLEST_PATCH = 16

LAVISH = 1000.0
"""Bytes per voxel and channel, a few times what networks that fold their input take."""

LAVISH_WEIGHTS = 30_000.0
"""Bytes per squared channel of each level: weights of volumes' convolutions, and all that is kept of them."""

BEGUN = "begun.json"

GIB = 2**30

Counts = Callable[[Size], Counted]
"""What a training of a size takes; its patch and its batch do not matter."""


def to_fit(
    engine: Any,
    size: Size,
    patch_of: Callable[[int], tuple[int, int, int]],
    multiple: int,
    together: int,
    counts: Counts,
    rest: Callable[[Sequence[int]], float],
    room: float,
) -> tuple[Size, tuple[str, ...]]:
    """Return a size that fits into memory, and what was changed for that, as a plan would state it.

    In this order, each only if the one before was not enough: bfloat16 where the engine can; fewer patches at once, so
    that a step is the same sum in more parts; smaller patches. What the plan states is never changed.

    Parameters
    ----------
    engine
        Whose fields the plan states; ``None`` is open.
    size
        Of its preset.
    patch_of
        The patch for a wanted side.
    multiple
        Sides of patches are multiples of it.
    together
        Patches that one step would take at once.
    counts, rest
        What training takes, and what the data and the encoder take beside it for a patch.
    room
        Bytes.

    Raises
    ------
    EngineError
        Nothing fits.
    """

    def needs(tried: Size, counted: Counted) -> float:
        patch = patch_of(tried.patch)
        return counted.bytes(patch, min(tried.at_once or together, together)) + rest(patch)

    def chosen(tried: Size) -> tuple[Size, tuple[str, ...]]:
        changed = [name for name in ("bf16", "at_once", "patch") if getattr(tried, name) != getattr(size, name)]
        return tried, tuple(f"{name} = {str(getattr(tried, name)).lower()}" for name in changed)

    counted, tried = counts(size), size
    wanted = needs(size, counted)
    if wanted <= room:
        return size, ()
    if not size.bf16 and getattr(engine, "bf16", True) is None:
        tried = replace(size, bf16=True)
        counted = counts(tried)
        if needs(tried, counted) <= room:
            return chosen(tried)
    for smaller in _smaller(engine, tried, multiple, together):
        tried = smaller
        if needs(tried, counted) <= room:
            return chosen(tried)
    raise EngineError(
        f"{engine.kind} needs {wanted / GIB:.2g} GiB of memory to train as it is set, "
        f"{needs(tried, counted) / GIB:.2g} GiB at the least, and may take {room / GIB:.2g} GiB",
        why="a training that runs out of memory is killed without a word, after minutes or hours",
        fix="free memory, use a machine with more, or set smaller channels"
        + ("" if engine.patch is None else " or a smaller patch")
        + ("" if getattr(engine, "memory", None) is None else f"; the plan allows memory = {engine.memory:g}"),
    )


def _smaller(engine: Any, size: Size, multiple: int, together: int) -> Iterator[Size]:
    """Yield sizes that need less and less."""
    if getattr(engine, "at_once", None) is None:
        at_once = together
        while at_once > 1:
            at_once = -(-at_once // 2)
            size = replace(size, at_once=at_once)
            yield size
    if engine.patch is None:
        for quarters in (3, 2, 1):
            side = max(size.patch * quarters // 4 // multiple * multiple, multiple, SMALLEST_PATCH)
            yield replace(size, patch=side)


def settled(
    engine: Any,
    size: Size,
    cases: Sequence[Case],
    setup_of: Callable[[Size], Any],
    build: Callable[[Any, Any, torch.Generator], Trainee] | None,
    folder: Path | None,
    private: Any = None,
) -> tuple[Size, tuple[str, ...]]:
    """Return the size that a training takes, and what of it was changed for lack of memory.

    A training that was begun goes on as it began, however much memory is free by then.

    Parameters
    ----------
    engine, size, cases
        What is to learn from what.
    setup_of
        What networks of a size are built for.
    build
        Builds them; ``None`` leaves the size as it is.
    folder
        Where the training keeps its files.
    private
        How patients are protected: their patches go through one patient at a time.

    Raises
    ------
    EngineError
        Nothing fits.
    """
    if build is None:
        return size, ()
    begun = folder and _remembered(folder)
    if begun:
        return replace(size, **begun["size"]), tuple(begun["choices"])
    room = room_for(engine, size.device)
    setup = setup_of(size)
    together = private.spending.privacy.patches if private else size.batch
    if getattr(engine, "memory", None) is None and _lavish(size, setup, together) < room:
        return size, ()

    def counts(tried: Size) -> Counted:
        # Each count has networks of its own: they take steps, and nothing else may learn from those.
        patch = small_patch(setup.patch, setup.multiple)
        whole = replace(setup, patch=patch, size=replace(tried, at_once=0))
        trainee = build(engine, whole, torch.Generator().manual_seed(0))
        return count(trainee, patch, setup.channels, setup.planes, size.device == "cpu")

    def rest(patch: Sequence[int]) -> float:
        return beside(size.device, cases, patch, setup.channels, setup.planes, looked_at=not private)

    def patch_of(side: int) -> tuple[int, int, int]:
        patch: tuple[int, int, int] = setup_of(replace(size, patch=side)).patch
        return patch

    return to_fit(engine, size, patch_of, setup.multiple, together, counts, rest, room)


def remember(folder: Path | None, size: Size, choices: Sequence[str]) -> None:
    """Write down as what a training begins, once."""
    if folder is None or (folder / BEGUN).exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    names = ("bf16", "at_once", "patch")
    about = {"size": {name: getattr(size, name) for name in names}, "choices": list(choices)}
    temporary = folder / f"{BEGUN}.{os.getpid()}.tmp"
    temporary.write_text(json.dumps(about))
    temporary.replace(folder / BEGUN)


def _remembered(folder: Path) -> dict[str, Any] | None:
    path = folder / BEGUN
    if not path.exists():
        return None
    try:
        about: dict[str, Any] = json.loads(path.read_text())
        _ = about["choices"], about["size"]["patch"]
    except (ValueError, KeyError, TypeError) as error:
        raise EngineError(
            "the note of how a training began cannot be read",
            file=str(path),
            why="its checkpoint must go on with the patches that it began with",
            fix=f"delete {folder} to train anew",
        ) from error
    return about


def _lavish(size: Size, setup: Any, together: int) -> float:
    """Return more bytes than such a training takes, without building a network: most machines have them."""
    levels = sum(width / 2 ** (setup.ndim * level) for level, width in enumerate(size.channels))
    weights = LAVISH_WEIGHTS * sum(w * w for w in size.channels)
    return float(LAVISH * levels * math.prod(setup.patch) * together + weights)


def room_for(engine: Any, device: str) -> float:
    """Return the bytes that a training may take: what the plan states, or a share of what is free."""
    stated = getattr(engine, "memory", None)
    return float(stated) * GIB if stated is not None else SHARE * free_memory(device)


__all__ = ["BEGUN", "GIB", "remember", "room_for", "settled", "to_fit"]

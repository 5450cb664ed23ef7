"""A piece of tissue under the microscope: compartments, and every nucleus with its kind.

A label map says what a study annotates, often nuclei alone. Whoever draws tissue knows more, and whoever renders it
needs more: a label map whose voxels are a `SceneVoxels` carries the whole scene, and shows of it what its scheme names.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from equipoise.engines.parts.warp import node_counts, smooth_field
from equipoise.errors import LabelError, did_you_mean

UNKNOWN, LUMEN, EPITHELIUM, STROMA = 0, 1, 2, 3
"""Compartments; unknown is what nobody labelled."""

EPITHELIAL, LYMPHOCYTE, FIBROBLAST, MITOSIS, RED_CELL, ANY = 0, 1, 2, 3, 4, 5
"""Kinds of counted bodies: nuclei, red cells, and nuclei of a kind that nobody named."""

NUCLEI = (EPITHELIAL, LYMPHOCYTE, FIBROBLAST, MITOSIS, ANY)


@dataclass(frozen=True)
class Meaning:
    """What a label shows: kinds of counted bodies, or compartments with all that lies in them."""

    bodies: tuple[int, ...] = ()
    compartments: tuple[int, ...] = ()


MEANINGS: dict[str, Meaning] = {
    "lumen": Meaning(compartments=(LUMEN,)),
    "epithelium": Meaning(compartments=(EPITHELIUM,)),
    "stroma": Meaning(compartments=(STROMA,)),
    "gland": Meaning(compartments=(EPITHELIUM, LUMEN)),
    "epithelial nucleus": Meaning((EPITHELIAL,)),
    "lymphocyte": Meaning((LYMPHOCYTE,)),
    "fibroblast": Meaning((FIBROBLAST,)),
    "mitosis": Meaning((MITOSIS,)),
    "red cell": Meaning((RED_CELL,)),
    "nucleus": Meaning(NUCLEI),
}
"""What is known of tissue, by the label's name."""

SPELLINGS: dict[str, tuple[str, ...]] = {
    "lumen": ("lumen", "lumina", "glass", "background glass", "white space"),
    "epithelium": ("epithelium", "tumor", "tumour", "carcinoma"),
    "stroma": ("stroma", "connective tissue", "collagen"),
    "gland": ("gland", "glands", "crypt", "acinus"),
    "epithelial nucleus": ("epithelial nucleus", "epithelial", "epithelial cell", "neoplastic", "tumor cell"),
    "lymphocyte": ("lymphocyte", "lymphocytes", "inflammatory", "inflammatory cell", "lymphocyte nucleus"),
    "fibroblast": ("fibroblast", "fibroblasts", "connective", "spindle", "fibroblast nucleus", "stromal nucleus"),
    "mitosis": ("mitosis", "mitoses", "mitotic figure", "mitotic"),
    "red cell": ("red cell", "red blood cell", "erythrocyte"),
    "nucleus": ("nucleus", "nuclei", "nuclear", "cell nucleus", "cell", "cells"),
}
"""How data sets write them; case, ``_`` and ``-`` do not count."""

_BY_SPELLING = {spelling: name for name, spellings in SPELLINGS.items() for spelling in spellings}


def known_as(name: str) -> str | None:
    """Return the entry of `MEANINGS` that a label's name stands for, or ``None``."""
    return _BY_SPELLING.get(" ".join(name.lower().replace("_", " ").replace("-", " ").split()))


def meanings_of(names: Sequence[str], who: str) -> tuple[Meaning, ...]:
    """Return what each label shows; `LabelError` for one that procedural tissue does not have."""
    found = [known_as(name) for name in names]
    for name, meaning in zip(names, found, strict=True):
        if meaning is None:
            raise LabelError(
                f"{who} draws no {name!r}.{did_you_mean(name, _BY_SPELLING)}",
                why="a label that is never drawn would be taught as absent",
                fix=f"rename the label if it is one of {', '.join(sorted(MEANINGS))}, or take the label maps of "
                'training cases: anatomy = "warped"',
            )
    return tuple(MEANINGS[x] for x in found if x is not None)


@dataclass(frozen=True, eq=False)
class TissueScene:
    """Compartments and bodies of one field of view.

    Parameters
    ----------
    compartment
        uint8, shape ``(I, J)``: `LUMEN`, `EPITHELIUM`, `STROMA` or `UNKNOWN`, under the bodies too.
    body
        Number of the body in each pixel, int32, shape ``(I, J)``; 0 is none.
    kind
        Kind of each body by its number, uint8, shape ``(N + 1,)``; entry 0 is not used.
    fibres
        Direction of collagen fibres in radians from I towards J, float32, shape ``(I, J)``.
    """

    compartment: np.ndarray
    body: np.ndarray
    kind: np.ndarray
    fibres: np.ndarray

    def channel(self, meaning: Meaning) -> np.ndarray:
        """Return the instances of a label, uint16, shape ``(I, J)``; a compartment is not counted."""
        if meaning.compartments:
            return np.isin(self.compartment, meaning.compartments).astype(np.uint16)
        chosen = np.isin(self.kind, meaning.bodies)
        chosen[0] = False
        table = np.where(chosen, np.cumsum(chosen), 0).astype(np.uint16)
        counted: np.ndarray = table[self.body]
        return counted


@dataclass(frozen=True, eq=False)
class SceneVoxels:
    """Voxels of a `LabelMap` that show some of a scene.

    Parameters
    ----------
    scene
        The whole of it.
    meanings
        What each channel shows.
    exclusive
        Whether a pixel has at most one label: bodies then lie on compartments, and later labels on earlier ones.
    """

    scene: TissueScene
    meanings: tuple[Meaning, ...]
    exclusive: bool = True

    @property
    def shape(self) -> tuple[int, ...]:
        """``(L, I, J, 1)``."""
        return (len(self.meanings), *self.scene.body.shape, 1)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of one value."""
        return np.dtype(np.uint16)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        full = np.stack([self.scene.channel(meaning) for meaning in self.meanings])[..., None]
        if self.exclusive:
            taken = np.zeros(full.shape[1:], bool)
            for c in sorted(range(len(full)), key=lambda c: (not self.meanings[c].bodies, -c)):
                full[c][taken] = 0
                taken |= full[c] > 0
        return full if dtype is None else full.astype(dtype)


def smooth_noise(shape: tuple[int, int], scale_um: float, um: float, rng: np.random.Generator) -> np.ndarray:
    """Return a smooth random field of mean 0 and standard deviation near 1, float32, shape ``(I, J)``."""
    step = (max(scale_um / um, 2.0),) * 2 + (1.0,)
    nodes = rng.standard_normal((1, *node_counts((*shape, 1), step))).astype(np.float32)
    field: np.ndarray = 1.5 * smooth_field(nodes, step, (*shape, 1))[0, :, :, 0]
    return field


__all__ = [
    "ANY",
    "EPITHELIAL",
    "EPITHELIUM",
    "FIBROBLAST",
    "LUMEN",
    "LYMPHOCYTE",
    "MEANINGS",
    "MITOSIS",
    "NUCLEI",
    "RED_CELL",
    "STROMA",
    "UNKNOWN",
    "Meaning",
    "SceneVoxels",
    "TissueScene",
    "known_as",
    "meanings_of",
    "smooth_noise",
]

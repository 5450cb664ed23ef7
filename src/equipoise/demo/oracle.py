"""The engine of the instrument check: it knows the hidden world, and can be made wrong by a known amount.

With ``gap = 0`` its pictures come from the world itself, so an instrument that works finds them as good as real ones.
With ``gap = 1`` they come from a world that is emptier, smoother and brighter, on softer scanners with white noise, and
an instrument that works finds that out. Nobody has such an engine for real patients, and it says nothing about others.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import cycle, islice
from typing import ClassVar

import numpy as np
from scipy import ndimage

from equipoise.core import Case, Image, LabelMap, Origin, patients_of, rng_for
from equipoise.core.registry import canonical, spec_of
from equipoise.demo.scanner import INTERNAL
from equipoise.demo.world import Finding, World
from equipoise.errors import EngineError, PlanError

NODULE = "nodule"


@dataclass(frozen=True, slots=True, eq=False)
class Shape:
    """What is kept of one training case.

    Parameters
    ----------
    labels
        Its truth.
    attributes
        ``subtlety`` and ``texture`` are used where they are known.
    licence
        Of the annotation.
    """

    labels: LabelMap
    attributes: Mapping[str, str | float]
    licence: str | None


@dataclass(frozen=True)
class DemoWorld:
    """Simulated chest CT slices from the hidden world itself: the zero-gap engine of the demo, or one with a known gap.

    Label maps are those of the training patients, moved, turned, mirrored and smoothly deformed, or the given ones.
    Vessels, airways, walls, noise and scanner are drawn anew for every picture; scanners are the inside ones.

    Parameters
    ----------
    gap
        How wrong the world is: 0 is the world itself, 1 a poor imitation; numbers above 1 go on in the same direction.
    bend
        Largest smooth displacement of a training mask, mm.

    References
    ----------
    The masks are LIDC-IDRI's: Armato SG et al. Med Phys 2011. doi:10.1118/1.3528204
    """

    kind: ClassVar[str] = "demo-world"
    dimensions: ClassVar[tuple[int, ...]] = (2,)
    modalities: ClassVar[tuple[str, ...]] = ("CT",)
    needs: ClassVar[str] = "Annotated slices in mm with a label called nodule; made for the demo only."
    renders_labels: ClassVar[bool] = True

    gap: float = 0.0
    bend: float = 1.5
    _shapes: tuple[Shape, ...] = field(default=(), repr=False, compare=False)
    _parents: frozenset[str] = field(default=frozenset(), repr=False, compare=False)

    def __post_init__(self) -> None:
        for name in ("gap", "bend"):
            if not 0 <= getattr(self, name) < 100:
                raise PlanError(
                    f"demo-world.{name} must be 0 or more, got {getattr(self, name)!r}", fix=f"{name} = 0.0"
                )

    def fit(self, cases: Sequence[Case], rng: np.random.Generator) -> DemoWorld:
        """Return the engine with these cases' masks; it looks at no pixel.

        Raises
        ------
        EngineError
            No case, one that is no annotated slice in mm, or no nodule in any of them.
        """
        for case in cases:
            if not isinstance(case.truth, LabelMap):
                raise EngineError(f"case {case.id!r} has no label map", fix="fit demo-world on annotated cases only")
            _require_slice(case.truth, f"case {case.id!r}")
        shapes = tuple(Shape(case.labels, case.attributes, case.licence) for case in cases)
        drawn = tuple(s for s in shapes if s.labels.mask(NODULE).any())
        if not drawn:
            raise EngineError(
                f"none of the {len(cases)} training case(s) shows a nodule, so there is no mask to draw from",
                fix="fit the engine on more cases",
            )
        return replace(self, _shapes=drawn, _parents=patients_of(cases))

    def sample(self, n: int, rng: np.random.Generator, labels: Sequence[LabelMap] | None = None) -> Iterator[Case]:
        """Yield ``n`` simulated cases, one at a time; the first ones do not depend on how many are taken.

        Raises
        ------
        EngineError
            The engine is not fitted, or a given label map is no slice in mm with a label called nodule.
        """
        if n < 0:
            raise EngineError(f"the number of cases must be 0 or more, got {n}")
        if not self._shapes:
            raise EngineError(
                "demo-world has no masks to draw from", fix="call fit(training cases, rng), and use what it returns"
            )
        if labels is not None:
            if not labels:
                raise EngineError("an empty list of label maps was given", fix="give at least one, or None")
            for given in labels:
                _require_slice(given, "a given label map")
        return self._stream(n, rng, labels, canonical(spec_of(self)))

    def _stream(self, n: int, rng: np.random.Generator, labels: Sequence[LabelMap] | None, spec: str) -> Iterator[Case]:
        given: Iterator[LabelMap | None] = cycle(labels) if labels else cycle([None])
        for mask in islice(given, n):
            key = int(rng.integers(2**63))  # one draw per case: a case depends on its place alone
            yield self._make(key, rng_for(key, self.kind), mask, spec)

    def _make(self, key: int, rng: np.random.Generator, given: LabelMap | None, spec: str) -> Case:
        shape = self._shapes[int(rng.integers(len(self._shapes)))]
        labels = _warped(shape.labels, self.bend, rng) if given is None else given
        scanner = INTERNAL[int(rng.integers(len(INTERNAL)))].shifted(self.gap)
        i, j, thickness = labels.spacing
        instances = labels.instances(NODULE)[:, :, 0]
        findings = [_finding(instances == k, shape.attributes, rng) for k in np.unique(instances[instances > 0])]
        pixels = (
            World()
            .shifted(self.gap)
            .picture(findings, (i + j) / 2, thickness, scanner, rng, (instances.shape[0], instances.shape[1]))
        )
        return Case(
            id=f"demo-world-{key:016x}",
            patient=f"synthetic-demo-world-{key:016x}",
            image=Image.on(labels.geometry, pixels[None, :, :, None]),
            truth=labels,
            origin=Origin("synthetic", self.kind, spec, f"{key:016x}", self._parents),
            scanner=scanner.name,
            licence=shape.licence,
            modality="CT",
            attributes={"pixels": "simulated", "gap": float(self.gap)},
        )


def _require_slice(labels: LabelMap, what: str) -> None:
    """Raise `EngineError` unless the world can draw a picture of these labels."""
    if NODULE not in labels.scheme.names:
        raise EngineError(
            f"{what} has the labels {labels.scheme.names}; the demo's world knows lung nodules only",
            fix="use another engine for this data: `equipoise engines` lists them",
        )
    if labels.geometry.ndim != 2 or labels.geometry.unit != "mm":
        raise EngineError(
            f"{what} has shape {labels.geometry.shape} in {labels.geometry.unit}; the demo's world draws slices in mm",
            fix="cut slices (K = 1) and state their spacing",
        )


def _finding(mask: np.ndarray, attributes: Mapping[str, str | float], rng: np.random.Generator) -> Finding:
    """Return one nodule as the world knows it, rated as in the parent case or, where that is unknown, as in LIDC."""
    # One reader's edge is as sharp as a pixel; four differ by about a pixel, which blurs the world's own nodules.
    density = ndimage.gaussian_filter(mask.astype(float), 0.9, mode="nearest")
    return Finding(
        density,
        subtlety=float(attributes.get("subtlety", 4.0)),
        texture=float(attributes.get("texture", 5.0)),
        # Of LIDC's reads 88 % state no calcification, and spiculation 1 to 5 in 67, 17.5, 7.5, 4 and 4 %.
        calcification=6.0 if rng.random() < 0.88 else float(rng.uniform(3, 5)),
        spiculation=float(rng.choice([1, 2, 3, 4, 5], p=[0.67, 0.175, 0.075, 0.04, 0.04])),
    )


def _warped(labels: LabelMap, bend: float, rng: np.random.Generator) -> LabelMap:
    """Return a label map on the same grid with its nodules elsewhere, turned, mirrored, resized and bent.

    Masks are moved as fields from 0 to 1 and cut at one half, which keeps their edges smooth. A deformation that drops
    every nodule is drawn again, and after a few times not applied.
    """
    array = labels.array[:, :, :, 0]
    spacing = float(np.mean(labels.spacing[:2]))
    for _ in range(5):
        where = _coordinates(labels.mask(NODULE)[:, :, 0], bend / spacing, rng)
        moved = np.zeros_like(array)
        for channel, instance in _instances(array):
            field = ndimage.map_coordinates((array[channel] == instance).astype(float), where, order=1)
            moved[channel][field > 0.5] = instance
        if moved[labels.scheme.channel(NODULE)].sum() > 0:
            return replace(labels, voxels=moved[:, :, :, None], ignore=None)
    return replace(labels, voxels=labels.array.copy(), ignore=None)


def _instances(array: np.ndarray) -> list[tuple[int, int]]:
    """Return every channel and instance number that occurs."""
    return [(c, int(k)) for c, channel in enumerate(array) for k in np.unique(channel[channel > 0])]


def _coordinates(mask: np.ndarray, bend: float, rng: np.random.Generator) -> np.ndarray:
    """Return where each pixel of the new map comes from in the old one, shape ``(2, I, J)``."""
    size = np.array(mask.shape)
    angle, scale = rng.uniform(0, 2 * np.pi), np.exp(rng.uniform(-0.25, 0.25))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) / scale
    if rng.random() < 0.5:
        turn = turn @ np.diag([1.0, -1.0])
    pixels = np.argwhere(mask)
    centre = pixels.mean(axis=0)
    reach = min(scale * float(np.linalg.norm(pixels - centre, axis=1).max()) + 2, float(size.min()) / 2)
    target = reach + rng.random(2) * np.maximum(size - 1 - 2 * reach, 0)
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in size), indexing="ij")).astype(float)
    source = np.tensordot(turn, grid - target[:, None, None], axes=1) + centre[:, None, None]
    # A displacement that changes over about 8 pixels and whose largest component is `bend` pixels.
    waves = ndimage.gaussian_filter(rng.standard_normal((2, *size)), (0, 8, 8), mode="wrap")
    where: np.ndarray = source + bend * rng.random() * waves / np.abs(waves).max()
    return where

"""A case, and where it comes from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from equipoise.core.image import Image
from equipoise.core.labels import ClassLabel, LabelMap
from equipoise.core.people import Annotation
from equipoise.errors import DataError, EngineError, PatientUnknownError


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a case comes from.

    Parameters
    ----------
    kind
        ``"synthetic"`` if any pixel was made by an engine.
    engine
        The engine's kind, for synthetic cases.
    spec
        The engine's parameters as JSON.
    seed
        The key of the random stream that it was drawn from.
    parents
        The *patients* that the engine, its normaliser, its filter or its label maps were learned from. Empty for pure
        simulation.
    """

    kind: Literal["real", "synthetic"] = "real"
    engine: str | None = None
    spec: str | None = None
    seed: str | None = None
    parents: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        if self.kind not in ("real", "synthetic"):
            raise DataError(f"origin must be 'real' or 'synthetic', got {self.kind!r}")
        if self.kind == "synthetic" and not self.engine:
            raise EngineError("a synthetic case must name the engine that made it, else it has no provenance")
        if self.kind == "real" and (self.engine or self.parents):
            raise EngineError(f"a case made by engine {self.engine!r} must be marked synthetic, not real")


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """Everything that is known of one examination of one patient.

    Parameters
    ----------
    id
        Unique in its set.
    patient
        Pseudonym of the patient; splits are made by it, so it must be stated.
    image
        The examination.
    truth
        What training or testing takes as true: a label map, a class, or nothing.
    origin
        Real, or which engine made it from whom.
    site, scanner
        Where and on what it was taken, where known: strata of the report.
    reads
        The single annotations behind the truth, where they are known.
    licence
        Under which the pixels and the annotation may be used; ``None`` is "not stated".
    modality
        Such as ``"CT"``, ``"MRI"``, ``"fundus"``.
    attributes
        Anything else that a report may stratify by.
    file
        The image's file, for messages.
    """

    id: str
    patient: str
    image: Image
    truth: LabelMap | ClassLabel | None = None
    origin: Origin = Origin()
    site: str | None = None
    scanner: str | None = None
    reads: tuple[Annotation, ...] = ()
    licence: str | None = None
    modality: str | None = None
    attributes: Mapping[str, str | float] = field(default_factory=dict)
    file: str | None = None

    def __post_init__(self) -> None:
        if not self.patient:
            raise PatientUnknownError(
                f"case {self.id!r} names no patient",
                file=self.file,
                why="without it, images of one person can stand on both sides of a split, and the result means nothing",
                fix="name the patient column, or state `one_image_one_patient = true` if that is so",
            )
        if isinstance(self.truth, LabelMap):
            self.image.geometry.require_same(self.truth.geometry, file=self.file)

    @property
    def synthetic(self) -> bool:
        """Whether an engine made it."""
        return self.origin.kind == "synthetic"

    @property
    def people(self) -> frozenset[str]:
        """Every real patient that the case shows or was learned from."""
        return self.origin.parents if self.synthetic else frozenset({self.patient})

    @property
    def labels(self) -> LabelMap:
        """The truth as a label map; `DataError` if it is a class or missing."""
        if not isinstance(self.truth, LabelMap):
            raise DataError(f"case {self.id!r} has no label map", file=self.file)
        return self.truth

    def without_truth(self) -> Case:
        """Return the case as an unlabelled one: no truth, no reads."""
        return replace(self, truth=None, reads=())


def patients_of(cases: Iterable[Case]) -> frozenset[str]:
    """Return every real patient that the cases show or were learned from."""
    return frozenset().union(*(case.people for case in cases))

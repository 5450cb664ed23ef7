"""A format, an engine and a learner that run in milliseconds, so that whole experiments fit in a test.

The learner finds the grey value that separates blob from background; it truly learns from what it is given, so a wrong
training set shows in its scores.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import EntryPoint
from itertools import islice
from typing import Any, ClassVar

import numpy as np

from equipoise.core import Case, FitRecord, Geometry, Image, LabelMap, Origin, TrainingSet, patients_of, registry
from equipoise.experiment.plan import parse_plan
from equipoise.experiment.preparation import prepare
from equipoise.experiment.run import Finished, run
from equipoise.runners import InProcess
from equipoise.workspace import Workspace
from making import SCHEME, blob_case


@dataclass(frozen=True)
class ToyCases:
    kind: ClassVar[str] = "toy-cases"
    count: int = 24
    seed: int = 0
    site: str = "inside"
    unlabelled: int = 0
    prefix: str = "c"

    def read(self) -> list[Case]:
        cases = [blob_case(f"{self.prefix}{i:02d}", seed=self.seed, site=self.site) for i in range(self.count)]
        return [c.without_truth() if i < self.unlabelled else c for i, c in enumerate(cases)]


@dataclass(frozen=True)
class ToyEngine:
    """Copies with another brightness; ``fault`` makes it break in one way."""

    kind: ClassVar[str] = "toy-engine"
    dimensions: ClassVar[tuple[int, ...]] = (2,)
    modalities: ClassVar[tuple[str, ...]] = ("any",)
    needs: ClassVar[str] = "one annotated case"
    gap: float = 0.0
    fault: str = ""
    _cases: tuple[Case, ...] = field(default=(), repr=False, compare=False)

    def fit(self, cases: Sequence[Case], rng: np.random.Generator) -> ToyEngine:
        if self.fault == "raises in fit":
            raise RuntimeError("no fit today")
        return replace(self, _cases=tuple(cases))

    def sample(self, n: int, rng: np.random.Generator, labels: Sequence[LabelMap] | None = None) -> Iterator[Case]:
        for i in range(n - (self.fault == "makes too few")):
            if self.fault == "raises":
                raise RuntimeError("no sample today")
            parent = self._cases[i % len(self._cases)]
            array = parent.image.array + np.float32(self.gap) + 0.1 * rng.standard_normal(parent.image.array.shape)
            array = np.full_like(array, np.nan) if self.fault == "NaN" else array.astype(np.float32)
            parents = patients_of(self._cases)
            if self.fault == "names a stranger":
                parents |= {"patient-stranger"}
            origin = Origin("synthetic", self.kind, parents=parents)
            case = Case(f"toy-{i}-{rng.integers(1 << 40)}", f"synthetic-{i}", Image(array), parent.truth, origin)
            yield replace(case, origin=Origin()) if self.fault == "says real" else case


@dataclass(frozen=True)
class ToyModel:
    threshold: float
    parents: frozenset[str]
    record: FitRecord

    def probability(self, image: Image) -> np.ndarray:
        return (1 / (1 + np.exp(-8 * (image.array - self.threshold)))).astype(np.float32)

    def decide(self, probability: np.ndarray, geometry: Geometry) -> LabelMap:
        return LabelMap.on(geometry, (probability > 0.5).astype(np.uint8), SCHEME)

    def predict(self, image: Image) -> LabelMap:
        return self.decide(self.probability(image), image.geometry)

    def to_bytes(self) -> bytes:
        return json.dumps([self.threshold, sorted(self.parents)]).encode()


@dataclass(frozen=True)
class ToyLearner:
    kind: ClassVar[str] = "toy-learner"
    noise: float = 0.05
    slow: float = 0.0
    peeks: bool = False

    def fit(
        self,
        training: TrainingSet,
        validation: Sequence[Case],
        steps: int,
        rng: np.random.Generator,
        augment: Any = None,
        start: Any = None,
        select: bool = False,
    ) -> ToyModel:
        time.sleep(self.slow)
        drawn = list(islice(training.draws(rng), 2 * steps))
        cuts = []
        for draw in drawn:
            inside, image = draw.case.labels.masks(), draw.case.image.array
            cuts.append(((image[inside].mean() + image[~inside].mean()) / 2, draw.weight))
        threshold = float(np.average([c for c, _ in cuts], weights=[w for _, w in cuts]))
        threshold += float(rng.normal(0, self.noise))
        made = [d.case.id for d in drawn if d.case.synthetic]
        shares, weights = zip(*((d.case.labels.masks().mean(), d.weight) for d in drawn), strict=True)
        share = float(np.average(shares, weights=weights))
        record = FitRecord(steps, len(drawn), len(made), len(set(made)), 0.0, prevalence=(share,))
        seen = {c.patient for c in validation} if self.peeks else set()
        before = start.parents if start else frozenset()
        return ToyModel(threshold, training.parents | before | seen, record)

    def load(self, data: bytes) -> ToyModel:
        threshold, parents = json.loads(data)
        return ToyModel(threshold, frozenset(parents), FitRecord(0, 0, 0, 0, 0.0))


@dataclass(frozen=True)
class NoAugmentation:
    kind: ClassVar[str] = "none"

    def __call__(
        self, image: np.ndarray, labels: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        return image, labels


ENTRIES = {
    "equipoise.formats": [EntryPoint("toy-cases", "toys:ToyCases", "equipoise.formats")],
    "equipoise.engines": [EntryPoint("toy-engine", "toys:ToyEngine", "equipoise.engines")],
    "equipoise.learners": [EntryPoint("toy-learner", "toys:ToyLearner", "equipoise.learners")],
    "equipoise.augmentations": [EntryPoint("none", "toys:NoAugmentation", "equipoise.augmentations")],
}


def register() -> None:
    """Make the toys known to the registry of this process."""
    registry.entry_points = lambda group: ENTRIES.get(group, [])  # type: ignore[attr-defined]


def plan_content(**changes: Any) -> dict[str, Any]:
    """A plan over the toys; keyword arguments replace whole sections."""
    content: dict[str, Any] = {
        "title": "toy",
        "data": {"kind": "toy-cases"},
        "arms": {"sizes": [2, 4], "replicates": 2, "ratios": [0.5, 1.0]},
        "training": {"steps": 6, "learner": {"kind": "toy-learner"}, "augment": {"kind": "none"}},
        "engines": {"toy": {"kind": "toy-engine"}},
        "metric": {"margin": 0.05},
    }
    return {**content, **changes}


def finished_in(workspace: Workspace, **changes: Any) -> Finished:
    """Run a toy plan to its end."""
    prepared = prepare(parse_plan(plan_content(**changes)), None, workspace.path / "objects")
    return run(prepared, workspace, InProcess(), "", None)

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
import pytest
from contract_of import contract_of, rules_of

from equipoise.core import Case, ClassLabel, Image, LabelMap, Origin, rng_for
from equipoise.core.registry import canonical, spec_of
from equipoise.engines.augmentation.beyond import Augmentation
from equipoise.errors import EngineError
from equipoise.testing.engine_contract import EngineContract, phantom_cases


class TestAugmentation(EngineContract):
    def make(self) -> Augmentation:
        return Augmentation(strength=1.0)


class TestAugmentationOfColours(TestAugmentation):
    def cases(self) -> Sequence[Case]:
        return phantom_cases(channels=3)


class TestAugmentationOfVolumes(TestAugmentation):
    def cases(self) -> Sequence[Case]:
        return phantom_cases(dimension=3, size=24)


class TestAugmentationOfPatches(EngineContract):
    def make(self) -> Augmentation:
        return Augmentation(strength=0.3, patch=16)


class TestAugmentationOfClasses(TestAugmentation):
    def cases(self) -> Sequence[Case]:
        return [replace(c, truth=ClassLabel("sick", ("well", "sick"))) for c in phantom_cases()]


# ---------------------------------------------------------------- the suite itself catches what it is for


@dataclass(frozen=True)
class Honest:
    """Noise on the training images: passes; each subclass below breaks one rule."""

    kind: ClassVar[str] = "honest"
    dimensions: ClassVar[tuple[int, ...]] = (2, 3)
    modalities: ClassVar[tuple[str, ...]] = ("any",)
    needs: ClassVar[str] = "One training case."
    renders_labels: ClassVar[bool] = False

    sigma: float = 5.0
    _cases: tuple[Case, ...] = field(default=(), repr=False, compare=False)

    def fit(self, cases: Sequence[Case], rng: np.random.Generator) -> Any:
        return replace(self, _cases=tuple(cases))

    def sample(self, n: int, rng: np.random.Generator, labels: Sequence[LabelMap] | None = None) -> Iterator[Case]:
        if labels is not None:
            raise EngineError("cannot render labels")
        return self._stream(n, rng)

    def _stream(self, n: int, rng: np.random.Generator) -> Iterator[Case]:
        for _ in range(n):
            yield self._make(int(rng.integers(2**63)))

    def _make(self, key: int) -> Case:
        host = self._cases[key % len(self._cases)]
        noise = rng_for(key).standard_normal(host.image.array.shape)
        voxels = (host.image.array + self.sigma * noise).astype(np.float32)
        parents = frozenset(c.patient for c in self._cases)
        origin = Origin("synthetic", self.kind, canonical(spec_of(self)), str(key), parents)
        image = Image.on(host.image.geometry, voxels)
        return replace(host, id=f"h-{key}", patient=f"synthetic-{key}", image=image, origin=origin)


class Deaf(Honest):
    def sample(self, n: int, rng: np.random.Generator, labels: Any = None) -> Iterator[Case]:
        return super().sample(n, rng_for(0), labels)


class Forgetful(Honest):
    def sample(self, n: int, rng: np.random.Generator, labels: Any = None) -> Iterator[Case]:
        return super().sample(n, np.random.default_rng(), labels)


class Counting(Honest):
    def _stream(self, n: int, rng: np.random.Generator) -> Iterator[Case]:
        return iter([self._make(int(k)) for k in rng.integers(2**63, size=n)[::-1]] if n < 10 else [])


class Eager(Honest):
    def sample(self, n: int, rng: np.random.Generator, labels: Any = None) -> Any:
        return list(super().sample(min(n, 3), rng, labels))


class Orphan(Honest):
    def _make(self, key: int) -> Case:
        case = super()._make(key)
        return replace(case, origin=replace(case.origin, parents=frozenset()))


class Kidnapper(Honest):
    def _make(self, key: int) -> Case:
        case = super()._make(key)
        return replace(case, origin=replace(case.origin, parents=frozenset({"somebody else"})))


class Impostor(Honest):
    def _make(self, key: int) -> Case:
        return replace(super()._make(key), origin=Origin())


class Namesake(Honest):
    def _make(self, key: int) -> Case:
        return replace(super()._make(key), patient="real-0")


class Twin(Honest):
    def _make(self, key: int) -> Case:
        return replace(super()._make(key), id="h")


class Undefined(Honest):
    def _make(self, key: int) -> Case:
        case = super()._make(key)
        case.image.array[0, 0, 0, 0] = np.nan
        return case


class Vandal(Honest):
    def _make(self, key: int) -> Case:
        self._cases[0].labels.array[:] = 0
        return super()._make(key)


class Alias(Honest):
    def _make(self, key: int) -> Case:
        return replace(super()._make(key), image=self._cases[0].image)


class Careless(Honest):
    def sample(self, n: int, rng: np.random.Generator, labels: Any = None) -> Iterator[Case]:
        return super().sample(n, rng)


class Braggart(Honest):
    renders_labels: ClassVar[bool] = True

    def sample(self, n: int, rng: np.random.Generator, labels: Any = None) -> Iterator[Case]:
        cases = super().sample(n, rng)
        return (replace(c, truth=replace(c.labels, voxels=1 - c.labels.array)) for c in cases)


class Flat(Honest):
    def _make(self, key: int) -> Case:
        case = super()._make(key)
        if case.image.geometry.ndim == 2:
            return case
        image = Image(case.image.array[..., :1], case.image.affine)
        return replace(case, image=image, truth=replace(case.labels, voxels=case.labels.array[..., :1]))


class Restless(Honest):
    def fit(self, cases: Sequence[Case], rng: np.random.Generator) -> Any:
        return replace(super().fit(cases, rng), sigma=self.sigma + 1)


class Nameless(Honest):
    needs: ClassVar[str] = ""


BROKEN = {
    Deaf: "test_listens_to_its_stream",
    Forgetful: "test_same_stream_same_cases",
    Counting: "test_first_cases_do_not_depend_on_how_many_are_taken",
    Eager: "test_yields_one_at_a_time",
    Orphan: "test_origin_names_engine_parameters_and_parents",
    Kidnapper: "test_origin_names_engine_parameters_and_parents",
    Impostor: "test_origin_names_engine_parameters_and_parents",
    Namesake: "test_patients_never_collide_with_real_ones",
    Twin: "test_ids_are_unique",
    Undefined: "test_values_are_finite_and_of_a_plain_type",
    Vandal: "test_fit_changes_nothing_it_was_given",
    Alias: "test_cases_own_their_voxels",
    Careless: "test_given_labels_are_rendered_unchanged_or_refused",
    Braggart: "test_given_labels_are_rendered_unchanged_or_refused",
    Flat: "test_makes_every_dimension_that_it_claims",
    Restless: "test_fit_changes_nothing_it_was_given",
    Nameless: "test_declares_what_it_is",
}
TESTS = rules_of(EngineContract)


@pytest.mark.parametrize("name", TESTS)
def test_an_honest_engine_passes(name: str) -> None:
    getattr(contract_of(EngineContract, Honest, phantom_cases()), name)()


@pytest.mark.parametrize(("cls", "name"), BROKEN.items(), ids=lambda x: getattr(x, "__name__", x))
def test_a_broken_engine_is_caught(cls: type[Honest], name: str) -> None:
    with pytest.raises(AssertionError):
        getattr(contract_of(EngineContract, cls, phantom_cases()), name)()


def test_every_rule_that_can_be_broken_alone_is() -> None:
    # The others fail only together with these, or with an exception of the engine's own.
    spared = {
        "test_truth_lies_on_the_image",
        "test_specification_round_trip",
        "test_no_case_is_asked_for",
        "test_survives_the_way_to_a_worker",
        "test_one_stream_does_not_repeat_itself",
    }
    assert set(TESTS) - set(BROKEN.values()) == spared

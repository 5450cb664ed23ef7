from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
import pytest
from contract_of import contract_of, rules_of

from equipoise.core import Case, LabelMap, LabelScheme
from equipoise.engines.anatomy.phantom import Phantom
from equipoise.testing.anatomy_contract import AnatomyContract, lesion_cases


class TestPhantom(AnatomyContract):
    def make(self) -> Phantom:
        return Phantom()


class TestPhantomOfVolumes(TestPhantom):
    def cases(self) -> Sequence[Case]:
        return lesion_cases(dimension=3)


class TestPhantomThatDoesNotLearn(AnatomyContract):
    learns = False

    def make(self) -> Phantom:
        return Phantom(learn=False, size=(40, 44, 1), structures=("nodule", "vessel", "chest wall", "lung"))


class TestPhantomWithSurroundings(TestPhantom):
    """Learned surroundings, under an exclusive scheme and with the nodule not the first label."""

    def cases(self) -> Sequence[Case]:
        scheme = LabelScheme.of(["lung", "lesion", "vessel"])

        def extended(case: Case) -> Case:
            lesion = case.labels.array[0]
            lung = (lesion == 0).astype(np.uint8)
            voxels = np.stack([lung, lesion, np.zeros_like(lung)])
            return replace(case, truth=LabelMap.on(case.labels.geometry, voxels, scheme))

        return [extended(case) for case in lesion_cases()]


# ---------------------------------------------------------------- the suite itself catches what it is for


@dataclass(frozen=True)
class Honest:
    """Training masks, moved: passes; each subclass below breaks one rule."""

    kind: ClassVar[str] = "honest"

    reach: int = 5
    _cases: tuple[Case, ...] = field(default=(), repr=False, compare=False)

    @property
    def parents(self) -> frozenset[str]:
        return frozenset(case.patient for case in self._cases)

    def fit(self, cases: Sequence[Case], rng: np.random.Generator) -> Any:
        return replace(self, _cases=tuple(cases))

    def draw(self, n: int, rng: np.random.Generator) -> Iterator[LabelMap]:
        for _ in range(n):
            yield self._one(rng)

    def _one(self, rng: np.random.Generator) -> LabelMap:
        labels = self._cases[int(rng.integers(len(self._cases)))].labels
        shift = rng.integers(-self.reach, self.reach + 1, 2).tolist()
        return replace(labels, voxels=np.roll(labels.array, shift, (1, 2)))


class Deaf(Honest):
    def draw(self, n: int, rng: np.random.Generator) -> Iterator[LabelMap]:
        return super().draw(n, np.random.default_rng(0))


class Forgetful(Honest):
    def draw(self, n: int, rng: np.random.Generator) -> Iterator[LabelMap]:
        return super().draw(n, np.random.default_rng())


class Monotonous(Honest):
    def draw(self, n: int, rng: np.random.Generator) -> Iterator[LabelMap]:
        labels = self._one(rng)
        return (labels for _ in range(n))


class Counting(Honest):
    def draw(self, n: int, rng: np.random.Generator) -> Iterator[LabelMap]:
        rng.random(n if n < 100 else 1)
        return super().draw(n, rng)


class Eager(Honest):
    def draw(self, n: int, rng: np.random.Generator) -> Any:
        return list(super().draw(min(n, 6), rng))


class Generous(Honest):
    def draw(self, n: int, rng: np.random.Generator) -> Iterator[LabelMap]:
        return super().draw(max(n, 1), rng)


class Empty(Honest):
    def _one(self, rng: np.random.Generator) -> LabelMap:
        labels = super()._one(rng)
        return replace(labels, voxels=np.zeros_like(labels.array))


class Translator(Honest):
    def _one(self, rng: np.random.Generator) -> LabelMap:
        return replace(super()._one(rng), scheme=LabelScheme.of(["Läsion"]))


class Stretched(Honest):
    def _one(self, rng: np.random.Generator) -> LabelMap:
        return replace(super()._one(rng), affine=np.diag([2.0, 2.0, 2.0, 1.0]))


class Orphan(Honest):
    parents = frozenset()


class Kidnapper(Honest):
    parents = frozenset({"somebody else"})


class Vandal(Honest):
    def _one(self, rng: np.random.Generator) -> LabelMap:
        labels = super()._one(rng)
        self._cases[0].labels.array[:] = 0
        return labels


class Restless(Honest):
    def fit(self, cases: Sequence[Case], rng: np.random.Generator) -> Any:
        return replace(super().fit(cases, rng), reach=self.reach + 1)


class Amnesiac(Honest):
    def __getstate__(self) -> dict[str, Any]:
        return {"reach": self.reach, "_cases": self._cases[:1]}


class Nameless(Honest):
    kind: ClassVar[str] = ""


BROKEN = {
    Deaf: "test_listens_to_its_stream",
    Forgetful: "test_same_stream_same_maps",
    Monotonous: "test_one_stream_does_not_repeat_itself",
    Counting: "test_first_maps_do_not_depend_on_how_many_are_taken",
    Eager: "test_yields_one_at_a_time",
    Generous: "test_no_map_is_asked_for",
    Empty: "test_maps_are_valid",
    Translator: "test_all_maps_have_one_scheme",
    Stretched: "test_learned_grids_are_those_of_the_cases",
    Orphan: "test_parents_are_patients_it_was_fitted_on",
    Kidnapper: "test_parents_are_patients_it_was_fitted_on",
    Vandal: "test_fit_changes_nothing_it_was_given",
    Restless: "test_fit_changes_nothing_it_was_given",
    Amnesiac: "test_survives_the_way_to_a_worker",
    Nameless: "test_is_a_frozen_kind",
}
TESTS = rules_of(AnatomyContract)


@pytest.mark.parametrize("name", TESTS)
def test_an_honest_anatomy_passes(name: str) -> None:
    getattr(contract_of(AnatomyContract, Honest, lesion_cases()), name)()


@pytest.mark.parametrize(("cls", "name"), BROKEN.items(), ids=lambda x: getattr(x, "__name__", x))
def test_a_broken_anatomy_is_caught(cls: type[Honest], name: str) -> None:
    with pytest.raises(AssertionError):
        getattr(contract_of(AnatomyContract, cls, lesion_cases()), name)()


def test_every_rule_that_can_be_broken_alone_is() -> None:
    # A round trip fails only with an exception of the anatomy's own.
    assert set(TESTS) - set(BROKEN.values()) == {"test_specification_round_trip"}

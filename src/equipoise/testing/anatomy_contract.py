"""What every anatomy must keep to, as tests to inherit.

::

    class TestMine(AnatomyContract):
        def make(self):
            return Mine(size=(64, 64, 1))
"""

from __future__ import annotations

import dataclasses
import json
import pickle
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from equipoise.core import Case, Geometry, Image, LabelMap, LabelScheme, patients_of, rng_for
from equipoise.core.registry import canonical, kinds, make, parameters, spec_of


def lesion_cases(n: int = 4, dimension: int = 2) -> tuple[Case, ...]:
    """Return small training cases with one lesion each, an ellipse or ellipsoid, on grids of different sizes.

    Parameters
    ----------
    n
        Cases, one per patient ``"real-0"``, ``"real-1"`` …; the spacing is 0.6 mm, then 0.7 mm, and so on.
    dimension
        2 or 3.
    """
    return tuple(_lesion_case(i, dimension) for i in range(n))


def _lesion_case(i: int, dimension: int) -> Case:
    rng = rng_for(i, "lesion case")
    geometry = Geometry.from_spacing((48, 52 + i, 1 if dimension == 2 else 20), (0.6 + 0.1 * i,) * 2 + (1.5,))
    centre = (np.array(geometry.shape) - 1) / 2 + [rng.uniform(-8, 8), rng.uniform(-8, 8), 0]
    offsets = (np.indices(geometry.shape) - centre[:, None, None, None]) * np.array(geometry.spacing)[
        :, None, None, None
    ]
    axes = rng.uniform(3, 7, 3)[:, None, None, None]
    mask = (np.square(offsets / axes).sum(axis=0) <= 1)[None].astype(np.uint8)
    pixels = np.where(mask, 0.0, -850.0) + 20 * rng.standard_normal(mask.shape)
    truth = LabelMap.on(geometry, mask, LabelScheme.of({"lesion": 3}))
    return Case(f"case-{i}", f"real-{i}", Image.on(geometry, pixels.astype(np.float32)), truth)


class AnatomyContract:
    """Subclass, override `make` (and `cases` if the anatomy is choosy), inherit the tests.

    Attributes
    ----------
    learns
        Whether what is drawn depends on the training cases. An anatomy that does not learn names no parents.
    keeps_grids
        Whether a learned anatomy draws on the training cases' own grids.
    """

    learns: bool = True
    keeps_grids: bool = True

    def make(self) -> Any:
        """Return a new anatomy, not fitted, as small and fast as its parameters allow."""
        raise NotImplementedError("override make() to return your anatomy")

    def cases(self) -> Sequence[Case]:
        """Return training cases with label maps that the anatomy can learn from."""
        return lesion_cases()

    def fitted(self) -> Any:
        """Return the anatomy, fitted on `cases`."""
        return self.make().fit(self.cases(), rng_for(0, "fit"))

    def maps(self, n: int = 6, seed: int = 1) -> list[LabelMap]:
        """Return ``n`` label maps."""
        return list(self.fitted().draw(n, rng_for(seed, "draw")))

    def test_is_a_frozen_kind(self) -> None:
        """The class names its kind, and nothing changes its parameters."""
        anatomy = self.make()
        assert isinstance(anatomy.kind, str)
        assert anatomy.kind
        assert dataclasses.is_dataclass(anatomy)
        assert type(anatomy).__dataclass_params__.frozen, "an anatomy is a frozen dataclass"  # type: ignore[union-attr]

    def test_same_stream_same_maps(self) -> None:
        """Same parameters, cases and stream: same maps."""
        for a, b in zip(self.maps(), self.maps(), strict=True):
            _assert_same(a, b)

    def test_listens_to_its_stream(self) -> None:
        """Another stream, other maps."""
        assert _differ(self.maps(seed=1), self.maps(seed=2))

    def test_one_stream_does_not_repeat_itself(self) -> None:
        """The maps of one stream are not all one map."""
        first, *others = self.maps()
        assert _differ([first] * len(others), others)

    def test_first_maps_do_not_depend_on_how_many_are_taken(self) -> None:
        """The first of two are the first of six: a stream may be cut anywhere."""
        for a, b in zip(self.maps(2), self.maps(6)[:2], strict=True):
            _assert_same(a, b)

    def test_yields_one_at_a_time(self) -> None:
        """Maps are drawn when they are asked for, so that they can be streamed for ever."""
        stream = self.fitted().draw(10**12, rng_for(1, "draw"))
        assert isinstance(stream, Iterator)
        _assert_same(next(stream), self.maps(1)[0])

    def test_no_map_is_asked_for(self) -> None:
        """None asked for, none drawn."""
        assert self.maps(0) == []

    def test_maps_are_valid(self) -> None:
        """Every map shows something, keeps to its scheme, and lies on a grid that can hold an image."""
        for labels in self.maps():
            assert labels.array.dtype.kind in "biu"
            assert labels.array.min() >= 0
            assert labels.masks().any(), "a map without any object trains nothing"
            assert labels.array.shape[1:] == labels.geometry.shape
            assert min(labels.spacing) > 0
            if labels.scheme.exclusive:
                assert labels.masks().sum(axis=0).max() <= 1, "labels of an exclusive scheme overlap"

    def test_all_maps_have_one_scheme(self) -> None:
        """Maps of one anatomy can be trained on together, and with the cases that it has learned from."""
        schemes = {labels.scheme for labels in self.maps()}
        assert len(schemes) == 1
        if self.learns:
            assert schemes == {self.cases()[0].labels.scheme}, "names, values or order of the labels were changed"

    def test_learned_grids_are_those_of_the_cases(self) -> None:
        """A learned map has shape, spacing and unit of some training case."""
        if self.learns and self.keeps_grids:
            known = {_grid(case.labels) for case in self.cases()}
            assert {_grid(labels) for labels in self.maps(12)} <= known

    def test_parents_are_patients_it_was_fitted_on(self) -> None:
        """An anatomy that learns names its patients and no others; before it learns, none."""
        assert self.make().parents == frozenset()
        parents = self.fitted().parents
        assert isinstance(parents, frozenset)
        assert parents <= patients_of(self.cases()), "a parent that the anatomy was never shown"
        assert bool(parents) == self.learns, "an anatomy that learns names its patients, else none"

    def test_fit_changes_nothing_it_was_given(self) -> None:
        """Fitting and drawing leave parameters and training cases as they were."""
        anatomy, cases = self.make(), self.cases()
        before, kept = spec_of(anatomy), [case.labels.array.copy() for case in cases]
        fitted = anatomy.fit(cases, rng_for(0, "fit"))
        list(fitted.draw(2, rng_for(1, "draw")))
        assert type(fitted) is type(anatomy)
        assert spec_of(anatomy) == before == spec_of(fitted), "fit learns state, it does not change parameters"
        for case, array in zip(cases, kept, strict=True):
            np.testing.assert_array_equal(case.labels.array, array)

    def test_specification_round_trip(self) -> None:
        """The parameters survive the way through JSON and the registry."""
        anatomy = self.make()
        spec = json.loads(canonical(spec_of(anatomy)))
        if anatomy.kind in kinds("anatomies"):
            again = make("anatomies", spec)
            assert again == anatomy
        else:
            again = type(anatomy)(**{name: getattr(anatomy, name) for name in parameters(type(anatomy))})
        assert spec_of(again) == spec_of(anatomy)

    def test_survives_the_way_to_a_worker(self) -> None:
        """A fitted anatomy can be pickled, draws the same maps there and knows the same parents."""
        anatomy = self.fitted()
        there = pickle.loads(pickle.dumps(anatomy))
        assert there.parents == anatomy.parents
        for a, b in zip(anatomy.draw(2, rng_for(1, "d")), there.draw(2, rng_for(1, "d")), strict=True):
            _assert_same(a, b)


def _grid(labels: LabelMap) -> tuple[Any, ...]:
    return labels.geometry.shape, tuple(round(x, 6) for x in labels.spacing), labels.unit


def _differ(some: Sequence[LabelMap], others: Sequence[LabelMap]) -> bool:
    pairs = zip(some, others, strict=True)
    return any(a.array.shape != b.array.shape or not np.array_equal(a.array, b.array) for a, b in pairs)


def _assert_same(a: LabelMap, b: LabelMap) -> None:
    np.testing.assert_array_equal(a.array, b.array)
    np.testing.assert_array_equal(a.affine, b.affine)
    assert (a.scheme, a.unit, a.frame) == (b.scheme, b.unit, b.frame)


__all__ = ["AnatomyContract", "lesion_cases"]

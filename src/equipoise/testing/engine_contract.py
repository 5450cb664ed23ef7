"""What every engine must keep to, as tests to inherit.

::

    class TestMine(EngineContract):
        def make(self):
            return Mine(size=64)
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from equipoise.core import Case, Geometry, Image, LabelMap, LabelScheme, patients_of, rng_for
from equipoise.core.registry import canonical, kinds, make, parameters, spec_of
from equipoise.errors import EngineError

COLOUR = frozenset({"any", "fundus", "histology", "endoscopy", "dermoscopy"})
"""Modalities whose images have three colours."""


def phantom_cases(n: int = 3, dimension: int = 2, channels: int = 1, size: int = 40) -> tuple[Case, ...]:
    """Return small annotated training cases: an ellipsoid with a core, in noise, at another place in each patient.

    Parameters
    ----------
    n
        Cases, one per patient ``"real-0"``, ``"real-1"`` …
    dimension
        2 or 3; a volume has slices twice as thick as its pixels.
    channels
        1 is float32 grey from about -1000 to 400, as in CT; 3 is an 8-bit colour picture.
    size
        Voxels along I; J has 3 more and K, in 3-D, 6 fewer, so that swapped axes do not pass.
    """
    shape = (size, size + 3, 1 if dimension == 2 else size - 6)
    grid = Geometry.from_spacing(shape, (0.8, 0.8, 1.6))
    scheme = LabelScheme.of(["organ", "core"], exclusive=False)
    return tuple(_phantom(i, grid, channels, scheme) for i in range(n))


def _phantom(i: int, grid: Geometry, channels: int, scheme: LabelScheme) -> Case:
    rng = rng_for(i, "phantom case")
    axes = np.meshgrid(*(np.linspace(-1, 1, n) if n > 1 else np.zeros(1) for n in grid.shape), indexing="ij")
    far = sum((x - c) ** 2 for x, c in zip(axes, rng.uniform(-0.2, 0.2, 3), strict=True))
    masks = np.stack([far < 0.25, far < 0.06]).astype(np.uint8)
    tissue = 0.35 + 0.3 * masks[0] + 0.2 * masks[1] + 0.1 * np.sin(4 * axes[0]) * np.cos(3 * axes[1])
    tinted = tissue * np.linspace(1, 0.7, channels)[:, None, None, None]
    noisy = np.clip(tinted + 0.03 * rng.standard_normal((channels, *grid.shape)), 0, 1)
    voxels = np.rint(255 * noisy).astype(np.uint8) if channels == 3 else (1400 * noisy - 1000).astype(np.float32)
    image, truth = Image.on(grid, voxels), LabelMap.on(grid, masks, scheme)
    return Case(
        f"case-{i}",
        f"real-{i}",
        image,
        truth,
        site="A",
        licence="CC0-1.0",
        modality="phantom",
        attributes={"n": 1.0},
    )


class EngineContract:
    """Subclass, override `make` (and `cases` if the engine is choosy), inherit the tests.

    Attributes
    ----------
    learns
        Whether samples depend on the training cases. An engine that does not learn names no parents.
    channels
        Numbers of channels that it makes, where that does not follow from its modalities: ``(3,)`` for colour only.
    """

    learns: bool = True
    channels: tuple[int, ...] | None = None

    def make(self) -> Any:
        """Return a new engine, not fitted, as small and fast as its parameters allow."""
        raise NotImplementedError("override make() to return your engine")

    def cases(self) -> Sequence[Case]:
        """Return annotated training cases that the engine can learn from."""
        return phantom_cases(dimension=min(self.make().dimensions))

    def fitted(self) -> Any:
        """Return the engine, fitted on `cases`."""
        return self.make().fit(self.cases(), rng_for(0, "fit"))

    def samples(self, n: int = 3, seed: int = 1) -> list[Case]:
        """Return ``n`` synthetic cases."""
        return list(self.fitted().sample(n, rng_for(seed, "sample")))

    def test_declares_what_it_is(self) -> None:
        """The class says its kind, dimensions, modalities and needs, for `equipoise engines`."""
        cls = type(self.make())
        assert isinstance(cls.kind, str)
        assert cls.kind
        assert cls.dimensions
        assert set(cls.dimensions) <= {2, 3}, "dimensions are 2 (images) and 3 (volumes)"
        assert cls.modalities
        assert all(isinstance(m, str) and m for m in cls.modalities)
        assert cls.needs.endswith("."), "`needs` is one sentence for `equipoise engines`"
        assert isinstance(cls.renders_labels, bool)

    def test_same_stream_same_cases(self) -> None:
        """Same parameters, cases and stream: same bytes."""
        for a, b in zip(self.samples(), self.samples(), strict=True):
            _assert_same(a, b)

    def test_listens_to_its_stream(self) -> None:
        """Another stream, another image."""
        (a,), (b,) = self.samples(1, seed=1), self.samples(1, seed=2)
        assert a.image.array.shape != b.image.array.shape or not np.array_equal(a.image.array, b.image.array)

    def test_one_stream_does_not_repeat_itself(self) -> None:
        """Two cases of one stream differ."""
        a, b = self.samples(2)
        assert a.image.array.shape != b.image.array.shape or not np.array_equal(a.image.array, b.image.array)

    def test_first_cases_do_not_depend_on_how_many_are_taken(self) -> None:
        """The first of one is the first of three: a stream may be cut anywhere."""
        for a, b in zip(self.samples(1), self.samples(3)[:1], strict=True):
            _assert_same(a, b)

    def test_truth_lies_on_the_image(self) -> None:
        """Every case has truth, on the image's own grid."""
        for case in self.samples():
            assert case.truth is not None, "a synthetic case without truth trains nothing"
            if isinstance(case.truth, LabelMap):
                case.image.geometry.require_same(case.truth.geometry)
                assert np.array_equal(case.image.affine, case.truth.affine)
                assert case.image.unit == case.truth.unit

    def test_values_are_finite_and_of_a_plain_type(self) -> None:
        """Images are float32 or integers, finite, and not constant."""
        for case in self.samples():
            array = case.image.array
            assert array.dtype == np.float32 or array.dtype.kind in "iu", f"image of type {array.dtype}"
            assert np.isfinite(array).all()
            assert array.std() > 0, "a constant image"
            if isinstance(case.truth, LabelMap):
                assert case.truth.array.min() >= 0

    def test_origin_names_engine_parameters_and_parents(self) -> None:
        """Every case says what made it, how, and from which patients."""
        engine, trained = self.fitted(), patients_of(self.cases())
        for case in engine.sample(2, rng_for(1, "sample")):
            assert case.synthetic, "a case that an engine made is never real"
            assert case.origin.engine == engine.kind
            assert case.origin.spec is not None
            assert json.loads(case.origin.spec) == json.loads(canonical(spec_of(engine)))
            assert case.origin.seed is not None
            assert case.origin.parents <= trained, "a parent that the engine was never shown"
            assert bool(case.origin.parents) == self.learns, "an engine that learns names its patients, else none"

    def test_ids_are_unique(self) -> None:
        """Ids are unique within and across streams, and differ from the real ones."""
        made = [*self.samples(3, seed=1), *self.samples(3, seed=2)]
        ids = [c.id for c in made] + [c.id for c in self.cases()]
        assert len(set(ids)) == len(ids)

    def test_patients_never_collide_with_real_ones(self) -> None:
        """No synthetic case passes for a real patient, or for another synthetic one."""
        made = [*self.samples(3, seed=1), *self.samples(3, seed=2)]
        patients = [c.patient for c in made]
        assert len(set(patients)) == len(patients), "two synthetic cases of one patient would look like repeated visits"
        assert not set(patients) & patients_of(self.cases())

    def test_fit_changes_nothing_it_was_given(self) -> None:
        """Fitting and sampling leave the engine's parameters and the training cases as they were."""
        engine, cases = self.make(), self.cases()
        before, kept = spec_of(engine), [(c.image.array.copy(), _truth_bytes(c)) for c in cases]
        fitted = engine.fit(cases, rng_for(0, "fit"))
        list(fitted.sample(2, rng_for(1, "sample")))
        assert type(fitted) is type(engine)
        assert spec_of(engine) == before == spec_of(fitted), "fit learns state, it does not change parameters"
        for case, (image, truth) in zip(cases, kept, strict=True):
            np.testing.assert_array_equal(case.image.array, image)
            assert _truth_bytes(case) == truth

    def test_cases_own_their_voxels(self) -> None:
        """Changing a synthetic image cannot change a real one."""
        for made in self.samples(2):
            for real in self.cases():
                assert not np.shares_memory(made.image.array, real.image.array)

    def test_specification_round_trip(self) -> None:
        """The parameters survive the way through JSON and the registry."""
        engine = self.make()
        spec = json.loads(canonical(spec_of(engine)))
        if engine.kind in kinds("engines"):
            assert spec_of(make("engines", spec)) == spec_of(engine)
        else:
            again = type(engine)(**{name: getattr(engine, name) for name in parameters(type(engine))})
            assert spec_of(again) == spec_of(engine)

    def test_yields_one_at_a_time(self) -> None:
        """Cases are made when they are asked for, so that they can be streamed for ever."""
        stream = self.fitted().sample(10**12, rng_for(1, "sample"))
        assert isinstance(stream, Iterator)
        _assert_same(next(stream), self.samples(1)[0])

    def test_no_case_is_asked_for(self) -> None:
        """None asked for, none made."""
        assert self.samples(0) == []

    def test_survives_the_way_to_a_worker(self) -> None:
        """A fitted engine can be pickled and makes the same cases there."""
        engine = self.fitted()
        there = pickle.loads(pickle.dumps(engine))
        for a, b in zip(engine.sample(2, rng_for(1, "s")), there.sample(2, rng_for(1, "s")), strict=True):
            _assert_same(a, b)

    def test_makes_every_dimension_that_it_claims(self) -> None:
        """2-D, colour and 3-D cases come out as they went in, where the class claims them."""
        cls = type(self.make())
        for dimension in cls.dimensions:
            grey_or_colour = (1, 3) if dimension == 2 and COLOUR & set(cls.modalities) else (1,)
            for channels in self.channels or grey_or_colour:
                cases = self.cases_like(dimension, channels)
                (made,) = self.make().fit(cases, rng_for(0, "fit")).sample(1, rng_for(1, "sample"))
                assert made.image.geometry.ndim == dimension
                assert made.image.channels == channels
                assert np.isfinite(made.image.array).all()

    def cases_like(self, dimension: int, channels: int) -> Sequence[Case]:
        """Return training cases of one dimension and number of channels, for the test above."""
        return phantom_cases(dimension=dimension, channels=channels)

    def test_given_labels_are_rendered_unchanged_or_refused(self) -> None:
        """Given label maps come back as truth, voxel for voxel; an engine that cannot do that says so."""
        engine = self.fitted()
        labels = [c.labels for c in self.cases() if isinstance(c.truth, LabelMap)][:1]
        if not labels:
            return
        if engine.renders_labels:
            (made,) = engine.sample(1, rng_for(1, "sample"), labels)
            np.testing.assert_array_equal(made.labels.array, labels[0].array)
            made.image.geometry.require_same(labels[0].geometry)
        else:
            assert _refuses(engine, labels), "an engine that cannot render labels says so, it does not ignore them"


def _refuses(engine: Any, labels: list[LabelMap]) -> bool:
    try:
        list(engine.sample(1, rng_for(1, "sample"), labels))
    except EngineError:
        return True
    return False


def _truth_bytes(case: Case) -> bytes:
    return case.truth.array.tobytes() if isinstance(case.truth, LabelMap) else repr(case.truth).encode()


def _assert_same(a: Case, b: Case) -> None:
    assert a.id == b.id
    assert a.patient == b.patient
    assert a.image.array.dtype == b.image.array.dtype
    np.testing.assert_array_equal(a.image.array, b.image.array)
    np.testing.assert_array_equal(a.image.affine, b.image.affine)
    assert _truth_bytes(a) == _truth_bytes(b)
    assert a.origin == b.origin


__all__ = ["EngineContract", "phantom_cases"]

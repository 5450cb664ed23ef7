"""What every learner must do. Subclass `LearnerContract`, override `make`, inherit the tests."""

from __future__ import annotations

import dataclasses
import random
import sys
from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from equipoise.core import (
    Case,
    Image,
    LabelMap,
    LabelScheme,
    Learner,
    Mix,
    Predictor,
    Split,
    Stream,
    TrainingSet,
    rng_for,
)
from equipoise.core.registry import parameters, spec_of
from equipoise.errors import DataError, EquipoiseError, LeakageError, PlanError, UnreadableFileError
from equipoise.testing.disc_cases import SCHEME, disc_case, made_from, patients


class LearnerContract:
    """Tests that any learner of label maps passes.

    Attributes
    ----------
    steps
        Enough for `make` to learn the discs.
    shape
        Of the images: a learner of volumes states one with ``K > 1``.
    """

    steps: int = 60
    shape: tuple[int, int, int] = (40, 36, 1)

    def make(self) -> Learner:
        """Return the learner, small enough to train in a few seconds."""
        raise NotImplementedError

    def case(self, index: int) -> Case:
        """Return a labelled real case."""
        return disc_case(index, shape=self.shape)

    def training(
        self,
        mix: Mix | None = None,
        synthetic: Sequence[Case] = (),
        stream: Stream | None = None,
        real: Sequence[Case] | None = None,
    ) -> TrainingSet:
        """Return a guarded set of patients 0 to 3; 10 and 11 validate, 20 and 21 are the sealed test."""
        split = Split(patients(0, 1, 2, 3), patients(10, 11), patients(20, 21))
        cases = tuple(self.case(i) for i in range(4)) if real is None else tuple(real)
        return TrainingSet(cases, tuple(synthetic), mix or Mix(), split, stream)

    def validation(self) -> list[Case]:
        """Return the validation cases."""
        return [self.case(10), self.case(11)]

    def made(self, count: int) -> list[Case]:
        """Return synthetic cases, learned from patients 0, 1 … and looking like real ones."""
        return [made_from(self.case(50 + i), parent=i) for i in range(count)]

    def quick(self, training: TrainingSet | None = None, seed: int = 0, steps: int = 2) -> Predictor:
        """Return a predictor after a few steps."""
        return self.make().fit(training or self.training(), (), steps, rng_for(seed, "fit"))

    # What it is

    def test_it_is_a_frozen_kind_made_of_its_parameters(self) -> None:
        """Its specification makes an equal one, and nothing changes it."""
        learner = self.make()
        assert dataclasses.is_dataclass(learner)
        assert isinstance(learner.kind, str)
        fields = {name: value for name, value in spec_of(learner).items() if name != "kind"}
        assert list(fields) == parameters(type(learner))
        back = {n: tuple(v) if isinstance(v, list) else v for n, v in fields.items()}
        assert type(learner)(**back) == learner
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(learner, next(iter(fields), "kind"), None)

    # What it learns

    def test_it_learns(self) -> None:
        """An easy task is learned, with the labels kept apart and the loss going down."""
        model = self.make().fit(self.training(), self.validation(), self.steps, rng_for(0, "fit"))
        case = self.case(20)
        found, truth = model.predict(case.image).masks(), case.labels.masks()
        for label, (a, b) in enumerate(zip(found, truth, strict=True)):
            overlap = 2 * (a & b).sum() / (a.sum() + b.sum())
            assert overlap > 0.7, f"Dice of {SCHEME.names[label]!r} is {overlap:.2f} after {self.steps} steps"
        assert not (found[0] & found[1]).any(), "labels of an exclusive scheme overlap"
        losses = [loss for _, loss, _ in model.record.curve]
        assert losses[-1] < losses[0]

    def test_same_stream_same_model(self) -> None:
        """One stream gives one model, bit for bit on the CPU."""
        image = self.case(20).image
        one, two = self.quick(seed=3), self.quick(seed=3)
        np.testing.assert_array_equal(one.probability(image), two.probability(image))
        assert one.to_bytes() == two.to_bytes()

    def test_it_listens_to_its_stream(self) -> None:
        """Another stream gives another model."""
        image = self.case(20).image
        assert not np.array_equal(self.quick(seed=1).probability(image), self.quick(seed=2).probability(image))

    def test_it_leaves_global_random_state_alone(self) -> None:
        """No global generator is drawn from or seeded."""
        torch = sys.modules.get("torch")
        before = random.getstate(), torch.random.get_rng_state().numpy() if torch else None
        self.quick()
        assert random.getstate() == before[0]
        if torch:
            np.testing.assert_array_equal(torch.random.get_rng_state().numpy(), before[1])

    def test_weight_of_synthetic_cases_counts(self) -> None:
        """`Draw.weight` reaches the loss."""
        image = self.case(20).image
        made = self.made(4)
        light, heavy = (self.quick(self.training(Mix(1, 1, weight), made)) for weight in (0.01, 1.0))
        assert not np.array_equal(light.probability(image), heavy.probability(image))

    def test_ignored_voxels_teach_nothing(self) -> None:
        """Labels under `LabelMap.ignore` may say anything."""

        def ignoring(case: Case, wrong: bool) -> Case:
            labels = np.array(case.labels.array)
            ignore = np.zeros((1, *labels.shape[1:]), bool)
            ignore[:, : labels.shape[1] // 2] = True
            if wrong:
                labels[:, ignore[0]] = 1 - labels[:, ignore[0]]
            truth = LabelMap.on(case.image.geometry, labels, SCHEME, ignore)
            return dataclasses.replace(case, truth=truth)

        image = self.case(20).image
        sets = [[ignoring(self.case(i), wrong) for i in range(4)] for wrong in (False, True)]
        one, two = (self.quick(self.training(real=cases), steps=3) for cases in sets)
        np.testing.assert_array_equal(one.probability(image), two.probability(image))

    def test_the_augmentation_is_used(self) -> None:
        """Each patch passes through it once, as a copy of the stated types."""
        seen: list[tuple[np.ndarray, np.ndarray]] = []

        def darken(image: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
            seen.append((image, labels))
            image *= rng.uniform(-1.0, 0.5)
            return image, labels

        image = self.case(20).image
        plain, changed = self.quick(), self.make().fit(self.training(), (), 2, rng_for(0, "fit"), augment=darken)
        assert not np.array_equal(plain.probability(image), changed.probability(image))
        assert len(seen) == changed.record.draws
        assert {(x.dtype, x.ndim, y.dtype, y.ndim) for x, y in seen} == {(np.dtype("f4"), 4, np.dtype("u1"), 4)}

    def test_it_continues_from_a_model(self) -> None:
        """``start`` matters, and its parents are kept."""
        image = self.case(20).image
        first = self.quick(self.training(Mix(0, 1), self.made(4)))
        second = self.make().fit(self.training(), (), 2, rng_for(1, "fit"), start=first)
        afresh = self.quick(seed=1)
        assert not np.array_equal(second.probability(image), afresh.probability(image))
        assert second.parents == patients(0, 1, 2, 3)

    def test_the_best_checkpoint_is_kept_on_request(self) -> None:
        """``select`` keeps the step of the highest score."""
        model = self.make().fit(self.training(), self.validation(), 8, rng_for(0, "fit"), select=True)
        scores = {step: score for step, _, score in model.record.curve}
        assert model.record.best_step in scores
        assert scores[model.record.best_step] == max(scores.values())

    # What it predicts

    def test_predictions_lie_on_the_images_own_grid(self) -> None:
        """Whatever the size: as trained, larger, smaller than a patch."""
        model = self.quick()
        i, j, k = self.shape
        for shape in [(i, j, k), (i + 13, j + 7, k if k == 1 else k + 3), (9, 5, k if k == 1 else 3)]:
            image = disc_case(20, shape=shape).image
            probability, labels = model.probability(image), model.predict(image)
            assert probability.shape == (2, *shape)
            assert probability.dtype == np.float32
            assert 0 <= probability.min() <= probability.max() <= 1
            assert labels.scheme == SCHEME
            image.geometry.require_same(labels.geometry)
            np.testing.assert_array_equal(model.decide(probability, image.geometry).array, labels.array)

    def test_prediction_repeats(self) -> None:
        """A prediction changes nothing in the model."""
        model, image = self.quick(), self.case(20).image
        np.testing.assert_array_equal(model.probability(image), model.probability(image))

    # What it remembers

    def test_it_survives_its_file(self) -> None:
        """Read back, it predicts the same bits and knows the same history."""
        model, image = self.quick(), self.case(20).image
        data = model.to_bytes()
        back = self.make().load(data)
        np.testing.assert_array_equal(back.probability(image), model.probability(image))
        assert back.parents == model.parents
        # NaN equals itself in text only; how long it took is no part of a model, or no two files would be equal.
        assert repr(back.record) == repr(dataclasses.replace(model.record, seconds=0.0))
        assert back.to_bytes() == data == self.make().load(data).to_bytes()

    def test_a_damaged_file_is_refused(self) -> None:
        """Empty, foreign, cut off, lengthened or changed by a bit: each is one clear error."""
        data = self.quick().to_bytes()
        flipped = bytearray(data)
        flipped[-5] ^= 0x40
        for damaged in [b"", b"\x80\x04model", data[: len(data) // 2], data[:-4], data + b"\0", bytes(flipped)]:
            with pytest.raises(UnreadableFileError) as caught:
                self.make().load(damaged)
            assert caught.value.fix

    def test_the_record_counts_what_was_drawn(self) -> None:
        """Steps, draws and distinct synthetic cases are those of the training."""
        record = self.quick(self.training(Mix(1, 0.75), self.made(3)), steps=6).record
        assert record.steps == record.best_step == 6
        assert 0 < record.synthetic_draws < record.draws
        assert record.distinct_synthetic == min(3, record.synthetic_draws)
        assert record.seconds > 0
        assert record.curve[-1][0] == 6

    def test_every_case_of_a_stream_is_a_new_one(self) -> None:
        """Streamed cases count one by one, whatever their names."""

        def stream(rng: np.random.Generator) -> Iterator[Case]:
            while True:
                yield made_from(self.case(50), parent=int(rng.integers(4)))

        record = self.quick(self.training(Mix(1, 1), stream=stream), steps=4).record
        assert record.distinct_synthetic == record.synthetic_draws > 0

    def test_parents_are_everybody_it_has_learned_from(self) -> None:
        """Real patients, or the parents of synthetic ones only."""
        assert self.quick().parents == patients(0, 1, 2, 3)
        made = [made_from(self.case(50), parent=1)]
        assert self.quick(self.training(Mix(0, 0.25), made)).parents == patients(1)

    # What it refuses

    def test_sealed_and_training_patients_do_not_validate(self) -> None:
        """A checkpoint is chosen on validation patients, on nobody else."""
        for index in (20, 0):
            with pytest.raises(LeakageError, match=f"patient-{index}"):
                self.make().fit(self.training(), [self.case(index)], 1, rng_for(0, "fit"))

    def test_a_start_that_has_seen_the_test_is_refused(self) -> None:
        """The firewall reaches through a first model."""
        other = Split(patients(20, 21), patients(10), patients(3))
        first = self.quick(TrainingSet((self.case(20),), (), Mix(), other))
        with pytest.raises(LeakageError, match="patient-20"):
            self.make().fit(self.training(), (), 1, rng_for(0, "fit"), start=first)

    def test_a_start_that_nobody_paid_for_is_refused(self) -> None:
        """A first model brings no annotation in for free."""
        first = self.quick()
        with pytest.raises(LeakageError, match="patient-"):
            self.make().fit(self.training(real=[self.case(0)]), (), 1, rng_for(0, "fit"), start=first)

    def test_nothing_to_do_is_refused(self) -> None:
        """No steps, and nothing to select on."""
        with pytest.raises(PlanError, match="steps"):
            self.quick(steps=0)
        with pytest.raises(PlanError, match="validation"):
            self.make().fit(self.training(), (), 1, rng_for(0, "fit"), select=True)

    def test_bad_cases_end_in_an_error_that_teaches(self) -> None:
        """Each kind of bad case is named."""
        case = self.case(0)
        holed = np.array(case.image.array)
        holed[0, 3, 3, 0] = np.nan
        nothing = LabelMap.on(case.image.geometry, np.zeros_like(case.labels.array), SCHEME)
        other = LabelMap.on(case.image.geometry, case.labels.array, LabelScheme.of(["rim", "hole"]))
        colour = Image(np.repeat(case.image.array, 3, axis=0), unit="px")
        bad = {
            "NaN": [dataclasses.replace(case, image=Image.on(case.image.geometry, holed))],
            "no label map": [case.without_truth()],
            "labelled voxel": [dataclasses.replace(case, truth=nothing)],
            "hole": [dataclasses.replace(case, truth=other), self.case(1)],
            "channel": [dataclasses.replace(case, image=colour), self.case(1)],
        }
        for message, cases in bad.items():
            with pytest.raises(EquipoiseError, match=message):
                self.quick(self.training(real=cases), steps=4)

    def test_an_image_of_another_kind_is_not_predicted(self) -> None:
        """Other channels, and values that are not numbers."""
        model, case = self.quick(), self.case(20)
        colour = Image(np.repeat(case.image.array, 3, axis=0))
        holed = np.array(case.image.array)
        holed[0, 0, 0, 0] = np.inf
        for image in (colour, Image(holed)):
            with pytest.raises(DataError):
                model.predict(image)


__all__ = ["LearnerContract"]

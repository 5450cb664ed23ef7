"""Kind ``diffusion``: the contract, what it learns, and the measurable effect of every option."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from equipoise.core import LabelMap, LabelScheme, rng_for
from equipoise.engines.imaging.diffusion import Diffusion
from equipoise.engines.parts.learned import trained
from equipoise.errors import DataError, EngineError, LabelError, PlanError, UnknownKindError
from equipoise.testing import EngineContract
from equipoise.testing.engine_contract import phantom_cases

SMALL = {"patch": 16, "channels": (16, 24), "fold": 2, "steps": 2, "batch": 2, "sublabels": 2, "sampling_steps": 2}


class TestContract(EngineContract):
    def make(self):
        return Diffusion(**SMALL, anatomy={"kind": "warped", "patch": 24})

    @cache  # noqa: B019  # one fit for all tests: fits are the same, which a test of its own sees
    def fitted(self):
        return self.make().fit(self.cases(), rng_for(0, "fit"))

    def __eq__(self, other):
        return type(self) is type(other)

    def __hash__(self):
        return hash(type(self))

    def test_cases_say_that_they_were_learned_and_what_they_show(self):
        (case,) = self.samples(1)
        assert (case.scanner, case.modality) == ("synthetic, learned", "phantom")

    def test_two_fits_of_one_stream_are_the_same(self):
        a, b = (self.make().fit(self.cases(), rng_for(0, "fit")) for _ in range(2))
        for x, y in zip(a.sample(2, rng_for(1)), b.sample(2, rng_for(1)), strict=True):
            np.testing.assert_array_equal(x.image.array, y.image.array)


@cache
def _trained(**options):
    engine = Diffusion(**{**SMALL, "steps": 150, "batch": 8, "channels": (24, 32), "sampling_steps": 8, **options})
    return engine.fit(phantom_cases(6), rng_for(0, "fit"))


def _images(engine, n=6, seed=3):
    maps = [case.labels for case in phantom_cases(6)]
    return [case.image.array[0, :, :, 0] for case in engine.sample(n, rng_for(seed), maps)]


def _contrast(engine):
    """Return how much brighter the organ is than what surrounds it, in HU-like units; 420 in the training images."""
    masks = [case.labels.mask("organ")[:, :, 0] for case in phantom_cases(6)]
    return float(np.mean([im[m].mean() - im[~m].mean() for im, m in zip(_images(engine), masks, strict=True)]))


def test_images_obey_their_labels():
    real = [case.image.array[0, :, :, 0] for case in phantom_cases(6)]
    masks = [case.labels.mask("organ")[:, :, 0] for case in phantom_cases(6)]
    expected = float(np.mean([im[m].mean() - im[~m].mean() for im, m in zip(real, masks, strict=True)]))
    assert _contrast(_trained()) == pytest.approx(expected, rel=0.35)


def test_guidance_leads_from_no_labels_to_the_learned_ones():
    engine = _trained()
    none, half, learned = (_contrast(replace(engine, guidance=g)) for g in (0.0, 0.5, 1.0))
    assert abs(none) < 0.6 * learned
    assert 1.2 * abs(none) < half < learned


@pytest.mark.parametrize("change", [{"sampling_steps": 3}, {"sampler": "ddim"}, {"guidance": 1.5}])
def test_every_option_of_sampling_changes_the_images(change):
    engine = _trained()
    assert np.abs(np.array(_images(engine, 2)) - np.array(_images(replace(engine, **change), 2))).max() > 1


@pytest.mark.parametrize(
    "change",
    [
        {"patch": 24},
        {"channels": (16, 32)},
        {"fold": 1},
        {"steps": 3},
        {"batch": 3},
        {"learning_rate": 1e-2},
        {"bf16": False},
        {"sublabels": 0},
        {"unconditional": 0.5},
    ],
    ids=lambda change: next(iter(change)),
)
def test_every_option_of_training_changes_the_images(change):
    made = [np.array(_images(Diffusion(**{**SMALL, **c}).fit(phantom_cases(3), rng_for(0)), 2)) for c in ({}, change)]
    assert np.abs(made[0] - made[1]).max() > 0


def test_a_whole_image_is_made_by_tiles_without_seams():
    """Steps at the borders of tiles of 16 are no larger than elsewhere."""
    image = np.mean(_images(_trained(), 6), axis=0)
    steps = np.abs(np.diff(image, axis=0)).mean(axis=1)
    assert image.shape == (40, 43)
    assert steps[[11, 15, 23, 27]].mean() < 1.5 * steps.mean()


def test_sublabels_change_the_image_and_may_be_unknown(monkeypatch):
    engine = _trained(anatomy="real")
    (case,) = engine.sample(1, rng_for(4))
    (known,) = engine.sample(1, rng_for(4), [case.labels])
    monkeypatch.setattr(trained, "STRETCHED", 0.0)
    (unknown,) = engine.sample(1, rng_for(4), [case.labels])
    assert np.abs(known.image.array - unknown.image.array).max() > 1


def test_a_volume_is_made():
    engine = Diffusion(**SMALL).fit(phantom_cases(3, dimension=3), rng_for(0))
    (case,) = engine.sample(1, rng_for(1))
    assert case.image.array.shape == (1, 40, 43, 34)


@pytest.mark.parametrize(
    ("cases", "error", "words"),
    [
        (lambda: phantom_cases(1), DataError, "needs three at the least"),
        (lambda: [*phantom_cases(2), phantom_cases(3)[2].without_truth()], LabelError, "case-2.*as truth"),
        (lambda: [*phantom_cases(2), *phantom_cases(3, dimension=3)[2:]], DataError, "others are volumes"),
        (lambda: [_without(c, "core") for c in phantom_cases(3)], LabelError, "no training mask contains 'core'"),
    ],
    ids=["one image", "no truth", "mixed", "a class that is never shown"],
)
def test_cases_that_cannot_be_learned_from_are_refused(cases, error, words):
    with pytest.raises(error, match=words):
        Diffusion(**SMALL).fit(cases(), rng_for(0))


def _without(case, name):
    array = case.labels.array.copy()
    array[case.labels.scheme.names.index(name)] = 0
    return replace(case, truth=LabelMap(array, case.labels.scheme, case.labels.affine))


def test_other_labels_are_refused():
    case = phantom_cases(1)[0]
    other = LabelMap(case.labels.array[:1], LabelScheme.of(["tumour"]), case.labels.affine)
    with pytest.raises(LabelError, match=r"fitted on the labels .*organ.*core.*tumour"):
        list(_trained().sample(1, rng_for(0), [other]))


def test_sampling_before_fitting_is_refused():
    with pytest.raises(EngineError, match="not fitted"):
        Diffusion().sample(1, rng_for(0))


@pytest.mark.parametrize(
    "wrong",
    [
        {"preset": "huge"},
        {"sampler": "euler"},
        {"sampling_steps": 1},
        {"guidance": -1.0},
        {"unconditional": 1.0},
        {"sublabels": 99},
        {"anatomy": "nobody"},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
def test_impossible_parameters_are_refused_at_once(wrong):
    with pytest.raises((PlanError, UnknownKindError)):
        Diffusion(**wrong)


@pytest.mark.parametrize("wrong", [{"patch": 8}, {"channels": (20,)}, {"batch": 0}, {"learning_rate": 7.0}])
def test_impossible_sizes_are_refused_before_training(wrong):
    with pytest.raises(PlanError, match=next(iter(wrong))):
        Diffusion(**{**SMALL, **wrong}).fit(phantom_cases(3), rng_for(0))


def test_a_device_that_is_not_there_is_refused():
    import torch

    if torch.cuda.is_available():
        pytest.skip("a CUDA device is here")
    with pytest.raises(EngineError, match="finds no CUDA devices here"):
        Diffusion(**SMALL, device="cuda").fit(phantom_cases(3), rng_for(0))


def test_a_map_from_no_training_case_has_the_sublabels_of_the_one_that_lies_most_alike():
    cases = phantom_cases(3)
    engine = Diffusion(patch=16, channels=(8, 16), steps=1, batch=2).fit(cases, rng_for(0))
    learned, tissue = engine._learned, engine._learned.conditions.tissue
    for case in cases:
        np.testing.assert_array_equal(learned._under(case.labels, None), tissue.maps[case.id])
    larger = phantom_cases(1, size=48)[0].labels  # 1.2 times as large
    assert learned._under(larger, None).shape == larger.geometry.shape
    assert learned._under(phantom_cases(1, size=80)[0].labels, None) is None  # twice as large: so would its tissue be
    assert replace(engine, sublabels=0).fit(cases, rng_for(0))._learned._under(larger, None) is None

"""Learned engines whose training cases have a class instead of a label map."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import cache
from itertools import islice

import numpy as np
import pytest

from equipoise.core import ClassLabel, Image, LabelMap, rng_for
from equipoise.engines.imaging.diffusion import Diffusion
from equipoise.engines.imaging.gan import Gan
from equipoise.errors import EngineError, LabelError, PlanError
from equipoise.testing.engine_contract import phantom_cases

CLASSES = ("smooth", "grainy")
SMALL = {"patch": 16, "channels": (16, 24), "fold": 2, "batch": 8, "learning_rate": 2e-3}
ENGINES = {
    "gan": lambda **more: Gan(**{**SMALL, "steps": 120, **more}),
    "diffusion": lambda **more: Diffusion(**{**SMALL, "steps": 150, "sampling_steps": 8, **more}),
}


def class_cases(n=6, grainy=None):
    """Return cases that are dark and smooth or bright and grainy, every other one or the first ``grainy``."""
    cases = []
    for i, case in enumerate(phantom_cases(n)):
        rng = rng_for(i, "texture")
        kind = int(i < grainy) if grainy is not None else i % 2
        level, noise = ((-500, 30), (100, 250))[kind]
        array = (level + noise * rng.standard_normal(case.image.array.shape)).astype(np.float32)
        image = Image(array, case.image.affine, unit=case.image.unit)
        cases.append(replace(case, image=image, truth=ClassLabel(CLASSES[kind], CLASSES)))
    return cases


@cache
def trained(kind):
    return ENGINES[kind]().fit(class_cases(), rng_for(0, "fit"))


@pytest.mark.parametrize("kind", ENGINES)
def test_images_of_each_class_look_like_it(kind):
    """Each image keeps to its own class in brightness (600 apart in the real ones) and in grain (30 and 250)."""
    made = {
        name: [c.image.array for c in replace(trained(kind), classes=(name,)).sample(4, rng_for(1))] for name in CLASSES
    }
    dark, bright = (np.array([a.mean() for a in made[name]]) for name in CLASSES)
    assert dark.max() + 300 < bright.min()
    fine, coarse = (np.mean([a.std() for a in made[name]]) for name in CLASSES)
    assert coarse > 2 * fine


def _disc(sign, seed):
    """Return an 8-bit image with a bright or a dark disc in its middle, and the disc."""
    x, y = np.meshgrid(np.linspace(-1, 1, 24), np.linspace(-1, 1, 24), indexing="ij")
    disc = x**2 + y**2 < 0.3
    grey = 128 + sign * 60 * disc + 10 * rng_for(seed).standard_normal(disc.shape)
    return grey.clip(0, 255).astype(np.uint8)[None, :, :, None], disc


@pytest.mark.slow
@pytest.mark.parametrize("kind", ENGINES)
def test_where_images_share_a_scale_the_network_itself_tells_classes_apart(kind):
    """8-bit images keep 0 to 255: nothing but the class plane says whether the disc is bright or dark."""
    cases = []
    for i, case in enumerate(phantom_cases(8)):
        image = Image(_disc((-1, 1)[i % 2], i)[0], case.image.affine, unit=case.image.unit)
        cases.append(replace(case, image=image, truth=ClassLabel(CLASSES[i % 2], CLASSES)))
    engine = ENGINES[kind](patch=24, steps=400).fit(cases, rng_for(0, "fit"))
    disc = _disc(1, 0)[1]
    dark, bright = (
        np.array([a[disc].mean() - a[~disc].mean() for a in (c.image.array[0, :, :, 0].astype(float) for c in made)])
        for made in (list(replace(engine, classes=(name,)).sample(4, rng_for(1))) for name in CLASSES)
    )
    assert dark.mean() < -20 < 20 < bright.mean()
    assert (dark < bright).all()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ENGINES)
def test_classes_that_differ_in_nothing_but_their_level_keep_it(kind):
    """A network with normalised layers sees no level; 8-bit images keep theirs, 80 and 160 of 255 here."""
    cases = []
    for i, case in enumerate(phantom_cases(8)):
        grey = (80, 160)[i % 2] + 12 * rng_for(i).standard_normal((1, 24, 24, 1))
        image = Image(grey.clip(0, 255).astype(np.uint8), case.image.affine, unit=case.image.unit)
        cases.append(replace(case, image=image, truth=ClassLabel(CLASSES[i % 2], CLASSES)))
    engine = ENGINES[kind](patch=24, steps=400).fit(cases, rng_for(0, "fit"))
    for name, level in zip(CLASSES, (80, 160), strict=True):
        means = [c.image.array.mean() for c in replace(engine, classes=(name,)).sample(6, rng_for(1))]
        assert np.median(means) == pytest.approx(level, abs=10)
        assert np.abs(np.array(means) - level).max() < 35


@pytest.mark.parametrize("kind", ENGINES)
def test_cases_say_their_class_and_where_they_come_from(kind):
    real = class_cases()
    for case in trained(kind).sample(3, rng_for(2)):
        assert isinstance(case.truth, ClassLabel)
        assert case.truth.classes == CLASSES
        assert case.origin.parents == {c.patient for c in real}
        assert case.image.array.shape == real[0].image.array.shape
        assert (case.scanner, case.modality) == ("synthetic, learned", "phantom")


def test_classes_come_as_often_as_they_were_seen_or_as_they_are_wanted():
    engine = Gan(**{**SMALL, "steps": 1}).fit(class_cases(8, grainy=2), rng_for(0))
    drawn = engine._learned.classes

    def shares(wanted):
        names = Counter(label.name for label in islice(drawn.wanted("gan", wanted).draw(2000, rng_for(3)), 2000))
        return names["grainy"] / 2000

    assert shares(None) == pytest.approx(0.25, abs=0.03)
    assert shares(("smooth", "grainy")) == pytest.approx(0.5, abs=0.04)
    assert shares({"smooth": 1, "grainy": 9}) == pytest.approx(0.9, abs=0.03)
    assert shares({"grainy": 2.0}) == 1
    assert {c.truth.name for c in replace(engine, classes={"grainy": 1.0}).sample(4, rng_for(4))} == {"grainy"}


def test_a_class_that_does_not_exist_is_named_with_those_that_do():
    with pytest.raises(LabelError, match=r"names 'grany'.*Did you mean 'grainy'.*'smooth', 'grainy'"):
        Gan(**SMALL, steps=1, classes=("grany",)).fit(class_cases(3), rng_for(0))
    with pytest.raises(LabelError, match="names 'tumour'"):
        replace(trained("gan"), classes={"tumour": 1.0}).sample(1, rng_for(0))


@pytest.mark.parametrize("weights", [{"smooth": -1.0}, {"smooth": 0.0}, {"smooth": float("nan")}, ()])
def test_weights_that_cannot_be_are_refused(weights):
    with pytest.raises(PlanError, match="classes"):
        replace(trained("gan"), classes=weights).sample(1, rng_for(0))


def test_classes_wanted_of_cases_with_label_maps_are_refused():
    with pytest.raises(PlanError, match="label maps, not classes"):
        Gan(**SMALL, steps=1, classes=("smooth",)).fit(phantom_cases(3), rng_for(0))


def test_label_maps_given_to_an_engine_of_classes_are_refused():
    with pytest.raises(EngineError, match=r"fitted on the classes \['smooth', 'grainy'\].*label maps"):
        trained("gan").sample(1, rng_for(0), [phantom_cases(1)[0].labels])


def test_a_class_that_no_image_shows_is_refused():
    with pytest.raises(LabelError, match="no training image is of the class 'grainy'"):
        Gan(**SMALL, steps=1).fit(class_cases(4, grainy=0), rng_for(0))


def test_two_lists_of_classes_are_refused():
    cases = class_cases(3)
    other = replace(cases[2], truth=ClassLabel("smooth", ("smooth", "spiky")))
    with pytest.raises(LabelError, match=r"case-2.*spiky"):
        Gan(**SMALL, steps=1).fit([*cases[:2], other], rng_for(0))


def test_a_stream_of_classes_repeats():
    one, two = (list(trained("diffusion").sample(2, rng_for(5))) for _ in range(2))
    for a, b in zip(one, two, strict=True):
        np.testing.assert_array_equal(a.image.array, b.image.array)
        assert a.truth == b.truth
        assert not isinstance(a.truth, LabelMap)

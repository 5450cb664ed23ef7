"""Kind ``inpainting``: the contract, what stays and what is made, where lesions go, and the effect of every option."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache
from importlib.metadata import EntryPoint, EntryPoints, entry_points

import numpy as np
import pytest
import torch
from scipy import ndimage

from equipoise.core import Case, ClassLabel, Geometry, Image, LabelMap, LabelScheme, registry, rng_for
from equipoise.core.registry import make
from equipoise.engines.imaging.inpainting import Inpainting
from equipoise.engines.imaging.inpainting.grounds import Grounds
from equipoise.engines.imaging.inpainting.painting import grouped
from equipoise.engines.imaging.inpainting.pieces import pieces_of
from equipoise.engines.imaging.inpainting.places import Places
from equipoise.engines.parts.learned.denoising import Known, denoise, levels, noised
from equipoise.errors import DataError, EngineError, LabelError, PlanError, UnknownKindError
from equipoise.testing import EngineContract

TINY = {
    "kind": "diffusion",
    "patch": 16,
    "channels": (16, 24),
    "fold": 2,
    "steps": 2,
    "batch": 2,
    "sublabels": 2,
    "sampling_steps": 2,
}
CONTRAST = 420.0
"""How much brighter than the organ a lesion of the phantoms is."""


def lesion_phantoms(
    n=6, dimension=2, channels=1, exclusive=False, sick=lambda i: i % 2 == 0, contrast=0.3, side=1.0, count=1
):
    """Cases with an organ; in the sick ones there are bright lesions in one half of it."""
    return tuple(
        _phantom(i, (48, 52, 1 if dimension == 2 else 20), channels, exclusive, sick(i) * count, contrast, side)
        for i in range(n)
    )


def _phantom(i, shape, channels, exclusive, count, contrast, side):
    rng = rng_for(i, "lesion phantom")
    x = np.indices(shape) - ((np.array(shape) - 1) / 2)[:, None, None, None]
    organ = (x[0] / 19) ** 2 + (x[1] / 21) ** 2 + (x[2] / 9) ** 2 < 1
    lesions = np.zeros(shape, np.uint8)
    for number in range(1, count + 1):
        centre = [side * rng.uniform(5, 10), (2 * number - count - 1) * 5 + rng.uniform(-2, 2), rng.uniform(-3, 3)]
        axes = rng.uniform(3, 4.5, 3) * [1, 1, 0.6]
        far = sum(((x[a] - centre[a] * (shape[a] > 1)) / axes[a]) ** 2 for a in range(3))
        lesions[(far < 1) & organ] = number
    tissue = 0.3 + 0.25 * organ + contrast * (lesions > 0) + 0.05 * np.sin(x[0] / 5) * np.cos(x[1] / 6)
    tinted = tissue * np.linspace(1, 0.7, channels)[:, None, None, None]
    noisy = np.clip(tinted + 0.03 * rng.standard_normal((channels, *shape)), 0, 1)
    voxels = np.rint(255 * noisy).astype(np.uint8) if channels == 3 else (1400 * noisy - 1000).astype(np.float32)
    grid = Geometry.from_spacing(shape, (0.8, 0.8, 1.6))
    masks = np.stack([organ & (lesions == 0) if exclusive else organ, lesions]).astype(np.uint8)
    truth = LabelMap.on(grid, masks, LabelScheme.of(["organ", "lesion"], exclusive=exclusive))
    return Case(f"case-{i}", f"real-{i}", Image.on(grid, voxels), truth, modality="phantom")


def painting(**options):
    return Inpainting(**{"engine": TINY, "labels": ("lesion",), "context": 2, **options})


@cache
def fitted(dimension=2, **options):
    return painting(**options).fit(lesion_phantoms(dimension=dimension), rng_for(0, "fit"))


@cache
def trained():
    options = TINY | {"steps": 120, "batch": 8, "learning_rate": 2e-3, "sampling_steps": 4}
    engine = painting(engine=options).fit(lesion_phantoms(10), rng_for(0, "fit"))
    # Looks at held-out images need few steps; what is looked at here is sampled with more.
    return _sampling(engine)


def _sampling(engine, **options):
    """The same trained network with other options of sampling."""
    learned = engine._learned.painter.learned
    under = learned.trainee.under(make("engines", TINY | {"sampling_steps": 8} | options))
    return repainted(engine, learned=replace(learned, trainee=under))


def sampled(engine, n=4, seed=1):
    """Synthetic cases, each with its background."""
    real = {ground.case.id: ground.case for ground in engine._learned.grounds.every}
    return [(case, real[case.attributes["background"]]) for case in engine.sample(n, rng_for(seed, "sample"))]


def repainted(engine, **changes):
    """The same engine and trained network with another margin, context or number of passes."""
    return replace(engine, _learned=replace(engine._learned, painter=replace(engine._learned.painter, **changes)))


class TestContract(EngineContract):
    def make(self):
        return painting()

    def cases(self):
        return lesion_phantoms(4)

    def cases_like(self, dimension, channels):
        return lesion_phantoms(4, dimension, channels)

    @cache  # noqa: B019  # one fit for all tests: fits are the same, which a test of its own sees
    def fitted(self):
        return self.make().fit(self.cases(), rng_for(0, "fit"))

    def __eq__(self, other):
        return type(self) is type(other)

    def __hash__(self):
        return hash(type(self))

    def test_two_fits_of_one_stream_are_the_same(self):
        a, b = (self.make().fit(self.cases(), rng_for(0, "fit")) for _ in range(2))
        for x, y in zip(a.sample(2, rng_for(1)), b.sample(2, rng_for(1)), strict=True):
            np.testing.assert_array_equal(x.image.array, y.image.array)


# --- what stays and what is made


@pytest.mark.parametrize("dimension", [2, 3])
def test_the_real_image_stays_bit_by_bit_but_around_new_lesions(dimension):
    for case, real in sampled(fitted(dimension)):
        new = case.labels.mask("lesion")
        away = ndimage.distance_transform_edt(~new, sampling=case.image.spacing)
        same = (case.image.array == real.image.array)[0]
        assert same[away >= 4 * 0.8].all()
        assert not same[new].any()
        assert not same[(away > 0) & (away < 1.5)].any(), "the margin is new too"
        assert case.image.array.dtype == real.image.array.dtype


def test_8_bit_colours_stay_too():
    engine = painting().fit(lesion_phantoms(4, channels=3), rng_for(0))
    ((case, real),) = sampled(engine, 1)
    away = ndimage.distance_transform_edt(~case.labels.mask("lesion"), sampling=case.image.spacing)
    assert (case.image.array == real.image.array)[:, away >= 3.2].all()
    assert case.image.array.dtype == np.uint8


def test_truth_is_the_real_one_and_the_new_lesion():
    for case, real in sampled(fitted()):
        assert not real.labels.mask("lesion").any()
        assert case.labels.mask("lesion").sum() == case.attributes["new lesion voxels"] > 5
        np.testing.assert_array_equal(case.labels.mask("organ"), real.labels.mask("organ"))


def test_in_an_exclusive_scheme_the_lesion_replaces_its_host():
    engine = painting().fit(lesion_phantoms(4, exclusive=True), rng_for(0))
    for case, real in sampled(engine, 2):
        new = case.labels.mask("lesion")
        assert case.labels.masks().sum(axis=0).max() == 1
        np.testing.assert_array_equal(case.labels.mask("organ"), real.labels.mask("organ") & ~new)
        assert (real.labels.mask("organ")[new]).all()


def test_instances_are_counted_on_where_the_training_cases_count_them():
    engine = painting(into="any").fit(lesion_phantoms(4, sick=lambda i: True, count=2), rng_for(0))
    for case, real in sampled(engine, 3):
        before, after = real.labels.instances("lesion"), case.labels.instances("lesion")
        np.testing.assert_array_equal(after[before > 0], before[before > 0])
        assert before.max() == 2
        assert after.max() > 2
        assert sorted(np.unique(after)) == list(range(after.max() + 1))


def test_a_case_names_its_background_and_where_its_mask_is_from():
    cases = {case.id: case for case in lesion_phantoms()}
    for case, real in sampled(fitted()):
        told = case.attributes
        assert told["background patient"] == real.patient
        assert cases[told["mask drawn from"]].labels.mask("lesion").any()
        assert case.origin.parents == {c.patient for c in cases.values()}
        assert (case.scanner, case.modality) == ("synthetic, inpainted", "phantom")


# --- what it learns


def _contrast(engine, n=6):
    pairs = sampled(engine, n)
    change = [(c.image.array - r.image.array)[0][c.labels.mask("lesion")].mean() for c, r in pairs]
    return float(np.mean(change))


def test_lesions_look_like_the_training_lesions():
    """Bright ones are painted as bright, and that because of the label: without it the same network makes organ."""
    assert _contrast(trained()) == pytest.approx(CONTRAST, rel=0.35)
    assert abs(_contrast(_sampling(trained(), guidance=0.0))) < 0.4 * CONTRAST


def test_a_lesion_may_be_brighter_than_all_that_its_background_shows():
    """These images have a scale each, and on a healthy one's own scale nothing is brighter than its organ."""
    assert len(trained()._learned.painter.intensity.low) > 1
    for case, real in sampled(trained()):
        assert np.median(case.image.array[0][case.labels.mask("lesion")]) > np.percentile(real.image.array, 99.9)


def _steps(image):
    return np.abs(np.diff(image[0, :, :, 0], axis=0))


def test_there_is_no_seam():
    """Steps across the border of what was made are like those of the real image there, and like those within."""
    across, within, real_there = [], [], []
    for case, real in sampled(trained(), 8):
        changed = (case.image.array != real.image.array)[0, :, :, 0]
        margin = changed & ~ndimage.binary_dilation(case.labels.mask("lesion")[:, :, 0])
        border = changed[1:] != changed[:-1]
        across.append(_steps(case.image.array)[border].mean())
        real_there.append(_steps(real.image.array)[border].mean())
        within.append(_steps(case.image.array)[margin[1:] & margin[:-1]].mean())
    assert np.mean(across) < 1.25 * np.mean(real_there)
    assert np.mean(across) < 1.25 * np.mean(within)


def test_going_back_and_forth_fits_lesions_better_into_their_surroundings():
    """What is made beside a lesion differs less from the real tissue there: with one pass it comes out too rough."""
    rough = []
    for passes in (1, 4):
        excess = []
        for case, real in sampled(repainted(trained(), passes=passes), 8):
            near = ndimage.binary_dilation(case.labels.mask("lesion")[:, :, 0])
            margin = (case.image.array != real.image.array)[0, :, :, 0] & ~near
            both = margin[1:] & margin[:-1]
            excess.append(_steps(case.image.array)[both].mean() / _steps(real.image.array)[both].mean())
        rough.append(np.mean(excess))
    assert rough[1] < 0.95 * rough[0]
    assert abs(rough[1] - 1) < 0.35


# --- denoising around what is known


def _correlated(rho, spread=0.3):
    """The velocity of two pixels that are normal with a correlation: what a perfect network would answer."""
    cov = spread**2 * torch.tensor([[1.0, rho], [rho, 1.0]])

    def predict(x, time):
        alpha, sigma = levels(time[:1])
        flat = x.reshape(len(x), 2)
        inverse = torch.linalg.inv(alpha**2 * cov + sigma**2 * torch.eye(2))
        image = alpha * flat @ inverse @ cov
        return ((alpha * flat - image) / sigma).reshape(x.shape)

    return predict


@pytest.mark.parametrize("sampler", ["ddim", "dpm++"])
def test_what_is_made_follows_what_is_known(sampler):
    """With a perfect network the second pixel is normal about rho times the first; more passes come nearer to that."""
    count, rho, first = 4000, 0.9, 0.4
    known = torch.full((count, 1, 1, 2), first)
    keep = torch.tensor([1.0, 0.0]).view(1, 1, 1, 2).expand(count, 1, 1, 2)
    errors = []
    for passes in (1, 10):
        generator = torch.Generator().manual_seed(3)
        noise = torch.randn(count, 1, 1, 2, generator=generator)
        stays = Known(known, keep, passes, generator)
        made = denoise(_correlated(rho), noise, 40, sampler, bounds=None, known=stays)
        assert (made[..., 0] == first).all()
        errors.append(abs(float(made[..., 1].mean()) - rho * first))
        if passes == 10:
            assert float(made[..., 1].std()) == pytest.approx(0.3 * math.sqrt(1 - rho**2), rel=0.25)
    assert errors[1] < 0.04
    assert errors[1] < 0.3 * errors[0]


@pytest.mark.parametrize("sampler", ["ddim", "dpm++"])
def test_the_known_part_is_at_every_time_what_noise_makes_of_it(sampler):
    known, seen = torch.linspace(-0.9, 0.9, 8).view(1, 1, 2, 4), []

    def predict(x, time):
        seen.append((x.clone(), time))
        return torch.zeros_like(x)

    noise = torch.randn(1, 1, 2, 4, generator=torch.Generator().manual_seed(0))
    denoise(predict, noise, 8, sampler, known=Known(known, torch.ones(1, 1, 2, 4)))
    for x, time in seen[1:]:
        torch.testing.assert_close(x, noised(known, noise, time)[0], atol=5e-3, rtol=0)


def test_after_a_jump_back_the_noise_is_as_strong_as_it_was():
    generator = torch.Generator().manual_seed(0)
    known = torch.zeros(1, 1, 64, 64)
    sizes = {}

    def predict(x, time):
        sizes.setdefault(round(float(time[0]), 4), []).append(float(x.std()))
        return torch.zeros_like(x)

    noise = torch.randn(1, 1, 64, 64, generator=generator)
    denoise(predict, noise, 8, known=Known(known, torch.ones(1, 1, 64, 64), 3, generator))
    for time, found in sizes.items():
        assert len(found) == 3, "each stretch is gone three times"
        assert found == pytest.approx([math.sin(math.pi / 2 * time)] * 3, rel=0.05)


# --- where lesions go


def test_lesions_go_where_training_lesions_lie():
    """In the organ, and in the half of it in which the training cases have theirs."""
    for side in (1.0, -1.0):
        engine = painting().fit(lesion_phantoms(side=side), rng_for(0))
        places = []
        for case, real in sampled(engine, 8):
            new = case.labels.mask("lesion")
            assert real.labels.mask("organ")[new].all()
            places.append(side * (np.argwhere(new).mean(axis=0)[0] - 23.5))
        assert np.mean(places) == pytest.approx(7.5, abs=4), "5 to 10 voxels from the middle, as in training"
        assert (np.array(places) > -2).all()


def test_unlabelled_hosts_are_told_by_their_grey_values():
    """Only lesions are labelled here: they must still go into the organ, which is what lies around them."""

    def only_lesions(case):
        scheme = LabelScheme.of(["lesion"])
        return replace(case, truth=LabelMap.on(case.image.geometry, case.labels.array[1:], scheme))

    phantoms = lesion_phantoms(8, side=1.0)
    organ = phantoms[0].labels.mask("organ")
    engine = painting(labels=()).fit([only_lesions(case) for case in phantoms], rng_for(0))
    shares = [organ[case.labels.mask("lesion")].mean() for case, _ in sampled(engine, 8)]
    assert np.mean(shares) > 0.9


def test_places_are_learned_from_under_and_around_lesions():
    cases = lesion_phantoms(4)
    every = Grounds.of(cases, ("lesion",), "healthy").every
    places = Places.of(every, ("lesion",), None)
    np.testing.assert_array_equal(places.host_in(cases[1].labels), cases[1].labels.mask("organ"))
    assert places.positions.shape == (2, 3)
    assert (places.positions[:, 0] > 0.5).all()


def test_where_no_case_is_healthy_lesions_go_beside_those_that_are_there():
    cases = lesion_phantoms(4, sick=lambda i: True)
    for case, real in sampled(painting().fit(cases, rng_for(0)), 4):
        before = real.labels.mask("lesion")
        assert before.any()
        assert (case.labels.mask("lesion") & before).sum() == before.sum()
        new = case.labels.mask("lesion") & ~before
        assert not (ndimage.binary_dilation(before, iterations=2) & new).any()


# --- options


def test_labels_say_what_is_painted():
    organs = painting(labels=("organ", "lesion")).fit(
        [*lesion_phantoms(3), replace(lesion_phantoms(4)[3], truth=_emptied(lesion_phantoms(4)[3].labels))], rng_for(0)
    )
    ((case, real),) = sampled(organs, 1)
    assert real.id == "case-3"
    assert case.labels.mask("organ").any()


def _emptied(labels):
    return LabelMap.on(labels.geometry, np.zeros_like(labels.array), labels.scheme)


def test_count_says_how_many_lesions():
    for count in (1, 3):
        for case, _ in sampled(fitted(count=(count, count)), 3):
            assert ndimage.label(case.labels.mask("lesion"))[1] == count == case.attributes["lesions set in"]


def test_into_says_which_images():
    healthy = {real.id for _, real in sampled(fitted(), 12)}
    both = {real.id for _, real in sampled(fitted(into="any"), 12)}
    assert healthy <= {"case-1", "case-3", "case-5"}
    assert both - healthy


def test_lesions_may_come_from_any_anatomy():
    """Those of the training cases as they are are of their sizes; drawn ones are of the size asked for, in place."""
    real_sizes = {int(case.labels.mask("lesion").sum()) for case in lesion_phantoms()}
    as_they_are = {int(case.labels.mask("lesion").sum()) for case, _ in sampled(fitted(lesions="real"))}
    assert as_they_are <= real_sizes
    grammar = {"kind": "lesion", "base": "real", "label": "lesion", "inside": ("organ",), "diameter_mm": (2.5, 3.0)}
    for case, real in sampled(painting(lesions=grammar).fit(lesion_phantoms(), rng_for(0)), 4):
        new = case.labels.mask("lesion")
        each = [2 * math.sqrt(n * 0.64 / math.pi) for n in np.bincount(ndimage.label(new)[0].ravel())[1:]]
        assert min(each) > 2.2
        assert max(each) < 3.3
        assert real.labels.mask("organ")[new].all()


def test_few_sick_cases_among_many_healthy_ones_suffice():
    """One in twelve: a base's maps would mostly be empty, so masks come from the case that has a lesion."""
    engine = painting().fit(lesion_phantoms(12, sick=lambda i: i == 5), rng_for(0))
    assert {case.attributes["mask drawn from"] for case, _ in sampled(engine, 20)} == {"case-5"}


def test_margin_says_how_wide_the_new_tissue_is():
    wide = []
    for margin in (0.0, 2.4, 6.0):
        furthest = 0.0
        for case, real in sampled(repainted(fitted(), margin=margin)):
            away = ndimage.distance_transform_edt(~case.labels.mask("lesion"), sampling=case.image.spacing)
            furthest = max(furthest, float(away[(case.image.array != real.image.array)[0]].max()))
        wide.append(furthest)
    assert wide[0] == 0
    assert 1.2 < wide[1] < 2.4 < wide[2] < 6.0


@pytest.mark.parametrize("change", [{"context": 8}, {"passes": 3}])
def test_context_and_passes_change_what_is_made(change):
    ((one, _),), ((other, _),) = sampled(fitted(), 1), sampled(repainted(fitted(), **change), 1)
    np.testing.assert_array_equal(one.labels.array, other.labels.array)
    assert np.abs(one.image.array - other.image.array).max() > 1


def test_what_was_asked_for_reaches_the_painter():
    painter = painting(margin=1.5, context=5, resample=3).fit(lesion_phantoms(3), rng_for(0))._learned.painter
    assert (painter.margin, painter.context, painter.passes) == (1.5, 5, 3)


def test_the_engine_that_paints_is_the_one_asked_for():
    ((one, _),) = sampled(fitted(), 1)
    ((other, _),) = sampled(fitted(engine=_hashable(TINY | {"sampler": "ddim"})), 1)
    np.testing.assert_array_equal(one.labels.array, other.labels.array)
    assert np.abs(one.image.array - other.image.array).max() > 1


@pytest.fixture
def flow(monkeypatch):
    """Register the latent engine, if it is not."""
    ours = EntryPoint("flow", "equipoise.engines.imaging.flow:Flow", "equipoise.engines")

    def found(group):
        known = entry_points(group=group)
        return EntryPoints([*known, ours]) if group == "equipoise.engines" and "flow" not in known.names else known

    monkeypatch.setattr(registry, "entry_points", found)


@pytest.mark.parametrize("dimension", [2, 3])
def test_latent_engines_paint_too(flow, dimension):
    small = {"autoencoder_channels": (8, 16), "autoencoder_fold": 2, "autoencoder_steps": 2}
    rest = {name: value for name, value in TINY.items() if name not in ("kind", "fold")}
    engine = painting(engine={"kind": "flow", **rest, **small})
    ((case, real),) = sampled(engine.fit(lesion_phantoms(3, dimension), rng_for(0)), 1)
    away = ndimage.distance_transform_edt(~case.labels.mask("lesion"), sampling=case.image.spacing)
    changed = (case.image.array != real.image.array)[0]
    assert not changed[away >= 3.2].any()
    assert changed[away == 0].all()


class _hashable(dict):
    def __hash__(self):
        return hash(tuple(self))


# --- cost


def test_its_cost_is_that_of_the_training():
    cost = painting().cost(lesion_phantoms(3), rng_for(0))
    assert cost.seconds > 0
    assert cost.memory_bytes > 0


def test_only_a_window_around_a_lesion_is_made():
    """Of a large image the network sees a training patch; lesions beside each other share one."""
    engine = fitted()
    sides = []
    render = engine._learned.painter.learned.trainee.render

    class Watched:
        def render(self, planes, rng, given=None):
            sides.append(planes.shape[2:])
            return render(planes, rng, given=given)

    watched = replace(engine._learned.painter.learned, trainee=Watched())
    sampled(repainted(engine, learned=watched), 4)
    assert len(sides) == 4
    assert all(side[0] <= 24 and side[1] <= 24 for side in sides)


def test_lesions_near_each_other_are_made_together():
    fresh = np.zeros((60, 60, 1), bool)
    fresh[5:10, 5:10] = fresh[5:10, 14:18] = fresh[40:45, 40:45] = True
    assert sorted(len(group) for group in grouped(fresh, np.array([16, 16, 1]))) == [1, 2]
    assert len(grouped(fresh, np.array([8, 8, 1]))) == 3


def test_pieces_are_whole_lesions_of_their_size_in_mm():
    labels = lesion_phantoms(1, count=2)[0].labels
    pieces = pieces_of(labels, ("lesion",))
    assert sum(int(p.mask.sum()) for p in pieces) == labels.mask("lesion").sum()
    finer = pieces[0].at_spacing((0.8, 0.8, 1.6), (0.4, 0.4, 1.6))
    assert finer.mask.sum() == pytest.approx(4 * pieces[0].mask.sum(), rel=0.1)


# --- given label maps


def test_a_given_map_is_rendered_on_the_image_that_it_fits():
    (drawn, real), *_ = sampled(fitted())
    (made,) = fitted().sample(1, rng_for(5), [drawn.labels])
    assert made.attributes["background"] == real.id or real.id in {"case-1", "case-3", "case-5"}
    np.testing.assert_array_equal(made.labels.array, drawn.labels.array)
    assert (made.image.array != drawn.image.array)[0][drawn.labels.mask("lesion")].all(), "other noise"


def _with(labels, **masks):
    array = labels.array.copy()
    for name, mask in masks.items():
        array[labels.scheme.channel(name)] = mask
    return LabelMap.on(labels.geometry, array, labels.scheme)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (lambda m: _with(m, organ=np.roll(m.mask("organ"), 5, 0)), EngineError, "6 show other structures"),
        (lambda m: lesion_phantoms(1, dimension=3)[0].labels, EngineError, "6 have another grid"),
        (lambda m: _with(m, lesion=0), LabelError, "nothing to paint"),
        (lambda m: LabelMap(m.array, LabelScheme.of(["organ", "tumour"]), m.affine), LabelError, "was fitted on the"),
    ],
    ids=["other organ", "other grid", "no lesion", "other labels"],
)
def test_a_given_map_that_fits_no_image_is_refused(change, error, words):
    labels = change(lesion_phantoms(1)[0].labels)
    with pytest.raises(error, match=words):
        list(fitted().sample(1, rng_for(0), [labels]))


# --- bad input


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"engine": "gan"}, EngineError, "'gan' cannot keep"),
        ({"engine": "simulate-ct"}, EngineError, "cannot keep"),
        ({"engine": TINY | {"privacy": {"epsilon": 8.0, "delta": 1e-3}}}, PlanError, "protects nobody"),
        ({"engine": "difusion"}, UnknownKindError, "diffusion"),
        ({"lesions": "warpd"}, UnknownKindError, "warped"),
        ({"into": "sick"}, PlanError, "into"),
        ({"margin": -1.0}, PlanError, "margin"),
        ({"context": -1}, PlanError, "context"),
        ({"resample": 0}, PlanError, "resample"),
        ({"count": (0, 2)}, PlanError, "count"),
    ],
    ids=lambda value: str(value)[:24] if isinstance(value, dict) else None,
)
def test_impossible_options_are_refused_at_once(options, error, words):
    with pytest.raises(error, match=words):
        painting(**options)


@pytest.mark.parametrize(
    ("options", "cases", "error", "words"),
    [
        ({"labels": ("lesoin",)}, lambda: lesion_phantoms(4), LabelError, "Did you mean 'lesion'"),
        ({"labels": ()}, lambda: lesion_phantoms(4), PlanError, "must be told which"),
        ({}, lambda: lesion_phantoms(2, sick=lambda i: False), LabelError, "none of 2 training images shows 'lesion'"),
        ({}, lambda: (), DataError, "no training image"),
        (
            {},
            lambda: [replace(c, truth=ClassLabel("sick", ("well", "sick"))) for c in lesion_phantoms(2)],
            LabelError,
            "ClassLabel as truth",
        ),
    ],
    ids=["misspelt", "unsaid", "absent", "nothing", "classes"],
)
def test_cases_without_lesions_to_learn_are_refused(options, cases, error, words):
    with pytest.raises(error, match=words):
        painting(**options).fit(cases(), rng_for(0))


def test_before_fit_there_is_nothing_to_paint_into():
    with pytest.raises(EngineError, match="not fitted"):
        painting().sample(1, rng_for(0))


def test_one_healthy_image_suffices_and_two_images_in_all_do_not():
    ((_, real),) = sampled(painting().fit(lesion_phantoms(3), rng_for(0)), 1)
    assert real.id == "case-1"
    with pytest.raises(DataError, match="was given 2 training image"):
        painting().fit(lesion_phantoms(2), rng_for(0))


def test_lesions_everywhere_leave_no_place():
    cases = [replace(c, truth=_with(c.labels, lesion=c.labels.mask("organ"))) for c in lesion_phantoms(3)]
    with pytest.raises(EngineError, match="no lesion of 12 drawn label maps"):
        painting().fit(cases, rng_for(0))


def test_lesions_that_the_anatomy_does_not_name_are_refused():
    engine = painting(lesions={"kind": "lesion", "base": "real", "label": "nodule", "inside": ("organ",)})
    with pytest.raises(LabelError, match="none of its own is what the training cases call lesion"):
        engine.fit(lesion_phantoms(3), rng_for(0))

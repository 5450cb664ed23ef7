from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from equipoise.core import Case, Image, rng_for
from equipoise.errors import NotEnoughCasesError
from equipoise.features.filtering import LEAST_PATIENTS, Rules, Screen, fit_screen
from equipoise.testing.disc_cases import disc_case

REAL = [disc_case(i) for i in range(20)]
NEW = [disc_case(1000 + i) for i in range(40)]
"""Of other patients, made by the same rule as the real ones: what an honest engine would make."""


def changed(cases: Sequence[Case], change: Callable[[np.ndarray, np.random.Generator], np.ndarray]) -> list[Case]:
    rng = rng_for(0, "change")
    return [
        replace(case, image=Image(change(case.image.array.copy(), rng).astype(np.float32), unit="px")) for case in cases
    ]


def reasons(screen: Screen, cases: Sequence[Case]) -> Counter[str | None]:
    return Counter(screen.reason(case, rng_for(i, "look")) for i, case in enumerate(cases))


@pytest.fixture(scope="module")
def screen() -> Screen:
    return fit_screen(REAL, rng_for(0, "screen"), side=32)


def test_noise_and_blur_are_implausible(screen: Screen) -> None:
    noise = changed(NEW[:10], lambda a, rng: 100 * rng.standard_normal(a.shape))
    grainy = changed(NEW[:10], lambda a, rng: a + 40 * rng.standard_normal(a.shape))
    blurred = changed(NEW[:10], lambda a, rng: (a + np.roll(a, 1, 1) + np.roll(a, 1, 2)) / 3)
    for cases in (noise, grainy, blurred):
        assert reasons(screen, cases) == {"implausible": 10}


def test_copies_are_found_shifted_and_brightened_too(screen: Screen) -> None:
    assert reasons(screen, REAL) == {"near_copy": 20}
    shifted = changed(REAL, lambda a, rng: np.roll(a, (2, -1), (1, 2)))
    brighter = changed(REAL, lambda a, rng: 1.3 * a + 10)
    for cases in (shifted, brighter):
        assert reasons(screen, cases)["near_copy"] >= 18


def test_an_honest_engine_loses_no_more_than_the_quantiles_say(screen: Screen) -> None:
    dropped = len(NEW) - reasons(screen, NEW)[None]
    # With 20 images no limit is finer than 1 / 21 (and 5 % for copies): more than the 99.9 % point is no chance.
    assert dropped <= stats.binom.ppf(0.999, len(NEW), 1 / 21 + 0.05)


def test_the_quantile_decides_how_many_are_implausible() -> None:
    strict = fit_screen(REAL, rng_for(0, "screen"), Rules(0.5, None), side=32)
    dropped = reasons(strict, NEW)["implausible"]
    # Of real images of other patients about half lie beyond the median.
    assert stats.binom.ppf(0.001, len(NEW), 0.3) <= dropped <= stats.binom.ppf(0.999, len(NEW), 0.6)
    loose = fit_screen(REAL, rng_for(0, "screen"), Rules(0.99, None), side=32)
    assert loose.limits["implausible"] > strict.limits["implausible"]


def test_the_quantile_decides_how_near_a_copy_may_come() -> None:
    limits = [fit_screen(REAL, rng_for(0, "s"), Rules(None, p), side=32).limits for p in (0.02, 0.5)]
    assert limits[0]["near_copy"] < limits[1]["near_copy"]
    assert limits[0]["near_copy correlation"] > limits[1]["near_copy correlation"]


def test_a_rule_that_is_off_drops_nothing(screen: Screen) -> None:
    noise = changed(NEW[:4], lambda a, rng: 100 * rng.standard_normal(a.shape))
    no_copies = fit_screen(REAL, rng_for(0, "screen"), Rules(None, 0.05), side=32)
    assert reasons(no_copies, noise) == {None: 4}
    assert set(no_copies.limits) == {"near_copy", "near_copy correlation"}
    plausible = fit_screen(REAL, rng_for(0, "screen"), Rules(0.99, None), side=32)
    assert reasons(plausible, REAL)["near_copy"] == 0


def test_a_real_image_is_compared_with_other_patients_only() -> None:
    twins = [*REAL, *(replace(case, id=f"{case.id}-again") for case in REAL)]
    # The same image twice, of the same patient: its own copy is no neighbour, so the limits stay as they were.
    once, twice = (fit_screen(c, rng_for(0, "screen"), Rules(None, 0.02), 32, encoder=False) for c in (REAL, twins))
    assert twice.limits["near_copy"] == pytest.approx(once.limits["near_copy"], rel=1e-6)
    assert twice.limits["near_copy correlation"] == pytest.approx(once.limits["near_copy correlation"], rel=1e-6)


def test_disobedient_cases_are_under_the_quantile_of_held_out_real_ones() -> None:
    score = {case.id: i / 100 for i, case in enumerate(NEW)}
    real = list(np.linspace(0.105, 0.905, 41))
    screen = fit_screen(REAL, rng_for(0, "s"), Rules(None, None, 0.05), obeys=lambda c: score[c.id], obedience=real)
    assert screen.floor == pytest.approx(0.145)
    assert reasons(screen, NEW) == {"disobedient": 15, None: 25}
    nothing = fit_screen(REAL, rng_for(0, "s"), Rules(None, None, 0.05), obeys=lambda c: np.nan, obedience=real)
    assert reasons(nothing, NEW[:3]) == {None: 3}  # no label, nothing to obey


def test_disobedience_without_a_scored_real_case_is_refused() -> None:
    with pytest.raises(NotEnoughCasesError, match="no held-out real case could be scored"):
        fit_screen(REAL, rng_for(0, "s"), Rules(None, None, 0.05), obeys=lambda c: 1.0, obedience=[np.nan])


def test_two_patients_are_too_few() -> None:
    few = [*REAL[: LEAST_PATIENTS - 1], replace(REAL[0], id="another image of the first")]
    with pytest.raises(NotEnoughCasesError, match="3 or more training patients, got 2"):
        fit_screen(few, rng_for(0, "s"))


def test_what_it_was_fitted_on_are_its_parents(screen: Screen) -> None:
    assert screen.parents == {case.patient for case in REAL}


def test_same_stream_same_decisions(screen: Screen) -> None:
    again = fit_screen(REAL, rng_for(0, "screen"), side=32)
    assert again.limits == screen.limits
    assert reasons(again, NEW[:10]) == reasons(screen, NEW[:10])


def test_images_of_other_sizes_can_be_judged(screen: Screen) -> None:
    wide = [disc_case(2000 + i, (60, 44, 1)) for i in range(5)]
    small = [disc_case(2100 + i, (24, 30, 1)) for i in range(2)]
    assert all(screen.reason(case, rng_for(0, "x")) in (None, "implausible") for case in [*wide, *small])


def test_volumes() -> None:
    shape = (24, 22, 12)
    real = [disc_case(i, shape) for i in range(6)]
    screen = fit_screen(real, rng_for(0, "v"), side=16)
    assert reasons(screen, real) == {"near_copy": 6}
    noise = changed([disc_case(100 + i, shape) for i in range(3)], lambda a, rng: 100 * rng.standard_normal(a.shape))
    assert reasons(screen, noise) == {"implausible": 3}
    assert reasons(screen, [disc_case(200 + i, shape) for i in range(6)])[None] >= 4


@pytest.mark.slow
def test_the_encoder_finds_the_same_and_keeps_what_is_honest() -> None:
    real = [disc_case(i) for i in range(30)]
    screen = fit_screen(real, rng_for(0, "e"), side=32)
    by_hand = fit_screen(real, rng_for(0, "e"), side=32, encoder=False)
    assert screen.limits["implausible"] != by_hand.limits["implausible"]  # 30 images: the encoder is there by itself
    noise = changed(NEW[:10], lambda a, rng: 100 * rng.standard_normal(a.shape))
    assert reasons(screen, noise) == {"implausible": 10}
    assert reasons(screen, real) == {"near_copy": 30}
    assert reasons(screen, changed(real, lambda a, rng: a + 5 * rng.standard_normal(a.shape)))["near_copy"] >= 24
    assert len(NEW) - reasons(screen, NEW)[None] <= stats.binom.ppf(0.999, len(NEW), 1 / 31 + 0.05)

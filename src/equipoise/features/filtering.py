"""Which synthetic images are dropped before anything is trained on them: by rules fitted on training patients only.

Every rule compares a synthetic image with the training images, and takes its limit from how real images of one training
patient compare with those of the *other* training patients: what a real new patient may do, a synthetic image may too.

``implausible``
    The mean over its patches of the distance to the nearest training patch, in standardised features, is beyond a
    quantile of real images. One strange corner makes an image strange, wherever it lies.
``near_copy``
    As a whole it is nearer in features to *one* training image than a quantile of real images is to any image of
    another patient, *and* its pixels correlate with those of the same image, after the best small shift, more than they
    do between patients. Both, because images of one organ may share either. A copy that was mirrored or turned is not
    found.
``disobedient``
    A score of how well the image obeys its label (given from outside) is under a quantile of held-out real cases.

With n training images no quantile can be finer than 1 / n: an honest engine is dropped with a probability of about
1 / (n + 1) at least. The encoder has seen all training patients, the nearest neighbours of a real image are of others.
Distances are in standard deviations: 1 is one of them in every feature.

References
----------
Roth K et al. Towards total recall in industrial anomaly detection (distance to the nearest training patch). CVPR 2022.
arXiv:2106.08265
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy import fft
from scipy.spatial.distance import cdist
from skimage.transform import resize

from equipoise.core import Case, Image, patients_of
from equipoise.errors import NotEnoughCasesError
from equipoise.features.handmade import features_of, normalised, patches_of

REASONS = ("implausible", "near_copy", "disobedient")
"""In this order; a case that breaks several rules counts under the first."""

LEAST_PATIENTS = 3
"""With fewer there is no telling how alike two patients are."""

ENOUGH_FOR_ENCODER = 24
"""Training images from which an encoder is trained."""

ENCODER_STEPS = 150
SIDE = 64
"""Of the patches, in pixels, where an engine states none."""

BANK, MOST_PATCHES, FEWEST_PATCHES = 2048, 8, 4
"""Training patches in all about, and patches per image at most and at least."""

THUMB, THUMB_DEPTH, SHIFT = 48, 16, 4
"""Sides of the reduced image whose pixels are correlated, its slices if it is a volume, and the largest shift."""

SLICES = 3
"""Of a volume, that a whole image's features are the mean of."""

UNUSUAL = 8.0
"""A feature counts at most so many standard deviations: one that hardly varies in training must not decide alone."""

Features = Callable[[np.ndarray], list[np.ndarray]]
"""Of patches or whole slices ``(N, C, I, J)`` in 0 … 1: groups of features, each of shape ``(N, D)``."""

Obeys = Callable[[Case], float]
"""How well an image obeys its label, more is better; NaN where there is nothing to obey."""


@dataclass(frozen=True, slots=True)
class Rules:
    """The quantile of each rule; ``None`` is off.

    Parameters
    ----------
    implausible
        Share of real images that count as plausible, 0 to 1.
    near_copy
        Share of real images that lie as near to another patient's image as a copy would.
    disobedient
        Share of held-out real cases that obey their label less than what is kept.
    """

    implausible: float | None = 0.99
    near_copy: float | None = 0.05
    disobedient: float | None = None


@dataclass(frozen=True, eq=False)
class _Scale:
    """Features in standard deviations of the training images; each of several groups of them weighs the same."""

    mean: np.ndarray
    sd: np.ndarray
    weight: np.ndarray

    @classmethod
    def of(cls, values: np.ndarray, groups: Sequence[int]) -> _Scale:
        weight = np.concatenate([np.full(n, (len(groups) * n) ** -0.5) for n in groups])
        return cls(values.mean(0), np.maximum(values.std(0), 1e-4), weight)

    def __call__(self, values: np.ndarray) -> np.ndarray:
        scaled: np.ndarray = np.clip((values - self.mean) / self.sd, -UNUSUAL, UNUSUAL) * self.weight
        return scaled


@dataclass(frozen=True, eq=False)
class _Patches:
    """The training images' patches, and how far from them an image may lie."""

    features: Features
    side: int
    count: int
    scale: _Scale
    bank: np.ndarray
    limit: float

    @classmethod
    def of(
        cls, cases: Sequence[Case], features: Features, side: int, quantile: float, rng: np.random.Generator
    ) -> _Patches:
        count = int(np.clip(BANK // len(cases), FEWEST_PATCHES, MOST_PATCHES))
        found = [features(patches_of(case.image, side, count, rng)) for case in cases]
        raw = np.stack([np.concatenate(groups, 1) for groups in found])
        scale = _Scale.of(raw.reshape(-1, raw.shape[-1]), [group.shape[1] for group in found[0]])
        values, owner = scale(raw), np.array([case.patient for case in cases])
        far = [_strangeness(v, values[owner != p].reshape(-1, v.shape[-1])) for v, p in zip(values, owner, strict=True)]
        limit = float(np.quantile(far, quantile, method="higher"))
        return cls(features, side, count, scale, values.reshape(-1, values.shape[-1]), limit)

    def distance(self, image: Image, rng: np.random.Generator) -> float:
        """Return how far an image lies from the training patches, in standard deviations of a feature."""
        side = min(self.side, *image.geometry.shape[:2])
        found = self.features(patches_of(image, side, self.count, rng))
        return _strangeness(self.scale(np.concatenate(found, 1)), self.bank)


@dataclass(frozen=True, eq=False)
class _Copies:
    """The training images as wholes, and how near and how alike another patient's image is to them."""

    features: Features
    scale: _Scale
    known: np.ndarray
    spectra: np.ndarray
    thumb: tuple[int, ...]
    near: float
    alike: float

    @classmethod
    def of(cls, cases: Sequence[Case], features: Features, quantile: float) -> _Copies:
        volume = cases[0].image.geometry.ndim == 3
        thumb = (cases[0].image.channels, THUMB, THUMB, THUMB_DEPTH if volume else 1)
        found = [_whole(case.image, features) for case in cases]
        raw = np.stack([np.concatenate(groups) for groups in found])
        scale = _Scale.of(raw, [len(group) for group in found[0]])
        known, spectra = scale(raw), np.stack([_spectrum(case.image, thumb) for case in cases])
        owner = np.array([case.patient for case in cases])
        apart = cdist(known, known)
        near, alike = np.empty(len(cases)), np.empty(len(cases))
        for i, patient in enumerate(owner):
            others = owner != patient
            near[i] = apart[i, others].min()
            alike[i] = _correlation(spectra[i], spectra[others], thumb).max()
        limits = np.quantile(near, quantile, method="lower"), np.quantile(alike, 1 - quantile, method="higher")
        return cls(features, scale, known, spectra, thumb, float(limits[0]), float(limits[1]))

    def of_image(self, image: Image) -> tuple[np.ndarray, np.ndarray]:
        """Return distance and correlation to every training image."""
        apart = cdist(self.scale(np.concatenate(_whole(image, self.features)))[None], self.known)[0]
        return apart, _correlation(_spectrum(image, self.thumb), self.spectra, self.thumb)


@dataclass(frozen=True, eq=False)
class Screen:
    """Rules with their limits, fitted on training patients.

    Parameters
    ----------
    parents
        These patients; what passes is learned from them too.
    obeys, floor
        Score of a case's label, and the least that is kept.
    """

    parents: frozenset[str]
    patches: _Patches | None = field(repr=False)
    copies: _Copies | None = field(repr=False)
    obeys: Obeys | None = field(repr=False)
    floor: float | None = None

    @property
    def limits(self) -> dict[str, float]:
        """What is compared with: distance, distance and correlation of copies, and score; only of rules that are on."""
        found = {"implausible": self.patches.limit} if self.patches else {}
        if self.copies:
            found |= {"near_copy": self.copies.near, "near_copy correlation": self.copies.alike}
        return found if self.floor is None else {**found, "disobedient": self.floor}

    def reason(self, case: Case, rng: np.random.Generator) -> str | None:
        """Return which of `REASONS` a case is dropped for, or ``None``; ``rng`` places patches."""
        if self.patches and self.patches.distance(case.image, rng) > self.patches.limit:
            return "implausible"
        if self.copies:
            apart, alike = self.copies.of_image(case.image)
            if ((apart < self.copies.near) & (alike > self.copies.alike)).any():
                return "near_copy"
        if self.obeys is not None and self.floor is not None and self.obeys(case) < self.floor:
            return "disobedient"
        return None


def fit_screen(
    cases: Sequence[Case],
    rng: np.random.Generator,
    rules: Rules = Rules(),
    side: int = SIDE,
    encoder: bool | None = None,
    obeys: Obeys | None = None,
    obedience: Sequence[float] = (),
) -> Screen:
    """Return the rules with their limits.

    Parameters
    ----------
    cases
        Annotated real cases of training patients.
    rng
        Encoder and patches.
    rules
        Quantiles.
    side
        Of the patches in pixels, about the engine's own; smaller where an image is.
    encoder
        Whether to compare in features of an encoder trained on the images (at least 16 pixels wide) beside hand-made
        ones, or in these alone; ``None``: from `ENOUGH_FOR_ENCODER` images on.
    obeys, obedience
        For ``disobedient``: the score of a case, and the scores of held-out real cases.

    Raises
    ------
    NotEnoughCasesError
        Fewer than `LEAST_PATIENTS` patients, or no score of a real case where ``disobedient`` is on.
    """
    people = {case.patient for case in cases}
    if len(people) < LEAST_PATIENTS:
        raise NotEnoughCasesError(
            f"a filter is fitted on {LEAST_PATIENTS} or more training patients, got {len(people)}",
            why="its limits are how alike images of different patients are",
            fix="leave such small sizes out of arms.sizes, or take `filter` from the engine",
        )
    side = min([side, *(n for case in cases for n in case.image.geometry.shape[:2])])
    learning, placing = rng.spawn(2)
    features: Features = _handmade
    if rules.implausible is not None or rules.near_copy is not None:
        features = _features(cases, side, encoder, learning)
    floor = None
    if rules.disobedient is not None:
        scores = [score for score in obedience if np.isfinite(score)]
        if obeys is None or not scores:
            raise NotEnoughCasesError(
                "no held-out real case could be scored, so there is no limit for disobedient cases",
                fix="take `disobedient` from the filter",
            )
        floor = float(np.quantile(scores, rules.disobedient, method="lower"))
    return Screen(
        patients_of(cases),
        None if rules.implausible is None else _Patches.of(cases, features, side, rules.implausible, placing),
        None if rules.near_copy is None else _Copies.of(cases, features, rules.near_copy),
        obeys,
        floor,
    )


def _features(cases: Sequence[Case], side: int, encoder: bool | None, rng: np.random.Generator) -> Features:
    # Here, not above: the plan and the hand-made features must not wait for torch.
    from equipoise.features.encoder import SMALLEST, train_encoder

    if not (len(cases) >= ENOUGH_FOR_ENCODER and side >= SMALLEST if encoder is None else encoder):
        return _handmade
    embed = train_encoder(cases, rng, side, ENCODER_STEPS).embed
    # The encoder was trained to overlook brightness and contrast, and knows noise and blur less well than a formula.
    return lambda patches: [embed(patches), *_handmade(patches)]


def _handmade(patches: np.ndarray) -> list[np.ndarray]:
    return [np.stack([features_of(patch) for patch in patches])]


def _strangeness(values: np.ndarray, bank: np.ndarray) -> float:
    return float(cdist(values, bank).min(1).mean())


def _whole(image: Image, features: Features) -> list[np.ndarray]:
    """Return the features of a whole image; of a volume, the mean of some slices."""
    array = normalised(image)
    depth = array.shape[-1]
    chosen = np.unique(np.linspace(0, depth - 1, min(SLICES, depth) + 2)[1:-1].round().astype(int))
    return [group.mean(0) for group in features(np.moveaxis(array[..., chosen], -1, 0))]


def _spectrum(image: Image, thumb: tuple[int, ...]) -> np.ndarray:
    """Return the Fourier transform of the reduced image, each voxel in standard scores over the image."""
    small = resize(normalised(image), thumb, order=1, anti_aliasing=True).astype(np.float32)
    small -= small.mean()
    small /= max(float(np.sqrt((small**2).sum())), 1e-9)
    found: np.ndarray = fft.rfftn(small, axes=(1, 2, 3))
    return found


def _correlation(one: np.ndarray, many: np.ndarray, thumb: tuple[int, ...]) -> np.ndarray:
    """Return the highest correlation of an image with each of many over small shifts; borders are wrapped."""
    whole = fft.irfftn((np.conj(one) * many).sum(1), s=thumb[1:], axes=(1, 2, 3))
    window = np.ix_(*(np.arange(-min(SHIFT, n // 8), min(SHIFT, n // 8) + 1) for n in thumb[1:]))
    found: np.ndarray = whole[:, *window].reshape(len(many), -1).max(1)
    return found


__all__ = ["LEAST_PATIENTS", "REASONS", "Rules", "Screen", "fit_screen"]

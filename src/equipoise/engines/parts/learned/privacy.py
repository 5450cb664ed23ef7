"""Differential privacy as a plan states it, and what a training spends of it: no network, no image.

The unit is the patient. Two sets of training cases are neighbours if one has all images of one patient more, and what a
private training gives away says little about which of both it saw, in the sense of Dwork's (ε, δ).
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from equipoise.engines.parts.legal import require_range, require_within
from equipoise.errors import DataError, MissingDependencyError, PlanError, did_you_mean

KEYS = ("epsilon", "delta", "clip", "patches", "range", "masks")
"""What a plan may state."""

ACCOUNTANT = "rdp"

UNPROTECTED = "unprotected"


@dataclass(frozen=True, slots=True)
class Privacy:
    """A budget, and how it is kept.

    Parameters
    ----------
    epsilon, delta
        The budget of the whole training, per patient. δ must be below one in as many as there are patients.
    clip
        Largest length of one patient's gradient: what is longer is shortened to it.
    patches
        Of each patient drawn into a step, from any of that patient's images; their mean gradient is the patient's.
    range
        Intensities that become black and white. 8-bit images have 0 to 255; of others the range must be stated, since
        to look it up in the images would give something of them away.
    masks
        ``"unprotected"`` allows an anatomy that draws the label maps of patients; nothing hides those.
    """

    epsilon: float
    delta: float
    clip: float = 1.0
    patches: int = 4
    range: tuple[float, float] | None = None
    masks: str = ""

    @classmethod
    def of(cls, kind: str, stated: Mapping[str, Any] | None) -> Privacy | None:
        """Return what a plan states, ``None`` if it states nothing.

        Raises
        ------
        PlanError
            An unknown key, a missing one, or a value that cannot be.
        """
        if stated is None:
            return None
        for key in stated:
            if key not in KEYS:
                raise PlanError(f"{kind}.privacy has no key {key!r}.{did_you_mean(key, KEYS)}")
        if "epsilon" not in stated or "delta" not in stated:
            raise PlanError(
                f"{kind}.privacy states {sorted(stated) or 'nothing'}; it needs epsilon and delta per patient",
                fix="set privacy = {epsilon = 8, delta = 1e-5}",
            )
        require_within(f"{kind}.privacy.epsilon", stated["epsilon"], 0.01, 1000)
        require_within(f"{kind}.privacy.delta", stated["delta"], 1e-15, 0.1)
        require_within(f"{kind}.privacy.clip", stated.get("clip", 1.0), 1e-6, 1e6)
        require_within(f"{kind}.privacy.patches", stated.get("patches", 4), 1, 4096)
        span = stated.get("range")
        if span is not None:
            require_range(f"{kind}.privacy.range", span, -1e9, 1e9)
            if span[0] == span[1]:
                raise PlanError(f"{kind}.privacy.range = {list(span)} is empty", fix="state the darkest and brightest")
        if stated.get("masks", "") not in ("", UNPROTECTED):
            raise PlanError(f"{kind}.privacy.masks = {stated['masks']!r} is not known; legal: {UNPROTECTED!r}")
        values = dict(stated) | ({"range": (float(span[0]), float(span[1]))} if span is not None else {})
        return cls(**values | {"patches": int(stated.get("patches", 4))})

    def spending(self, kind: str, patients: int, batch: int, steps: int) -> Spending:
        """Return how the budget is spent over a training.

        Parameters
        ----------
        kind
            The engine, for messages.
        patients
            In all.
        batch
            Expected in each step.
        steps
            Of the training; all of them are taken.

        Raises
        ------
        PlanError
            The budget cannot be kept by any noise, or δ says nothing for so many patients.
        MissingDependencyError
            Opacus is not installed.
        """
        if self.delta >= 1 / patients:
            raise PlanError(
                f"{kind}.privacy.delta = {self.delta:g} is no protection for {patients} patients; it must be below "
                f"{1 / patients:.2g}",
                why="giving one random patient away entirely would keep to it",
                fix=f"set delta = {10 ** (-len(str(patients)) - 1):g}",
            )
        rate = min(batch / patients, 1.0)
        try:
            from opacus.accountants.utils import get_noise_multiplier
        except ImportError as error:
            raise MissingDependencyError(
                "differential privacy needs Opacus, whose accountant says how much noise a budget takes",
                fix="pip install 'equipoise[dp]'",
            ) from error
        try:
            with _quiet():
                noise = get_noise_multiplier(
                    target_epsilon=self.epsilon,
                    target_delta=self.delta,
                    sample_rate=rate,
                    steps=steps,
                    accountant=ACCOUNTANT,
                )
        except ValueError as error:
            raise PlanError(
                f"{kind}: no noise keeps epsilon = {self.epsilon:g} at delta = {self.delta:g} over {steps} steps",
                fix="raise epsilon, take fewer steps or a smaller batch, or train on more patients",
            ) from error
        return Spending(self, float(noise), rate, steps, patients)


@dataclass(frozen=True, slots=True)
class Spending:
    """How a training keeps a budget.

    Parameters
    ----------
    privacy
        The budget.
    noise
        Standard deviation of the noise in every component of a step's sum of gradients, in units of ``clip``.
    rate
        Chance that a patient is drawn into a step, independently of all others.
    steps, patients
        In all.

    References
    ----------
    Abadi M et al. Deep learning with differential privacy. CCS 2016. arXiv:1607.00133. Mironov I, Talwar K, Zhang L.
    Rényi differential privacy of the sampled Gaussian mechanism. 2019. arXiv:1908.10530
    """

    privacy: Privacy
    noise: float
    rate: float
    steps: int
    patients: int

    def epsilon(self, steps: int) -> float:
        """Return the ε that so many steps spend, by Opacus' accountant."""
        from opacus.accountants import create_accountant

        accountant = create_accountant(ACCOUNTANT)
        accountant.history = [(self.noise, self.rate, steps)]
        with _quiet():
            return float(accountant.get_epsilon(self.privacy.delta))

    def provenance(self) -> dict[str, str | float]:
        """Return what every synthetic case says of it."""
        return {
            "privacy epsilon": round(self.epsilon(self.steps), 4),
            "privacy delta": self.privacy.delta,
            "privacy unit": "patient, added or removed",
            "privacy noise multiplier": self.noise,
            "privacy sample rate": self.rate,
            "privacy clip": self.privacy.clip,
            "privacy steps": float(self.steps),
            "privacy accountant": f"{ACCOUNTANT}, Opacus {version('opacus')}",
        }


def require_protected_masks(kind: str, privacy: Privacy, anatomy: Any) -> str:
    """Return in words how label maps are protected, or raise.

    Raises
    ------
    PlanError
        The anatomy has learned from patients, and the plan does not say that their masks may be shown.
    """
    if anatomy is None or not anatomy.parents:
        return "no patient's mask is used" if anatomy is not None else "classes only"
    if privacy.masks == UNPROTECTED:
        return "not protected"
    raise PlanError(
        f"{kind}: anatomy {anatomy.kind!r} draws label maps that it learned from {len(anatomy.parents)} patients, and "
        "differential privacy covers the images only",
        why="the outline of a patient's organ in a released mask is as much that patient's as the pixels are",
        fix='set anatomy = "phantom" or another one that uses no patient, or, if masks may be shown, '
        f'privacy = {{..., masks = "{UNPROTECTED}"}}',
    )


def refuse_privacy(kind: str, stated: Mapping[str, Any] | None, why: str) -> None:
    """Raise `PlanError` if a plan asks for privacy of an engine that cannot give it."""
    if stated is not None:
        raise PlanError(
            f"{kind} cannot be trained with differential privacy",
            why=why,
            fix='use {kind = "diffusion", privacy = {epsilon = 8, delta = 1e-5}}, or leave privacy out',
        )


def require_public_range(kind: str, privacy: Privacy, eight_bit: bool) -> tuple[float, float]:
    """Return the intensities that become black and white, known without looking at an image.

    Parameters
    ----------
    eight_bit
        Whether all images are stored as 0 to 255.
    """
    if privacy.range is not None:
        return privacy.range
    if eight_bit:
        return 0.0, 255.0
    raise DataError(
        f"{kind}: privacy needs the range of intensities, and these images are not of 8 bits",
        why="the darkest and the brightest voxel of the training images are some patient's",
        fix="state it: privacy = {..., range = [-1000, 400]}, by what the scanner stores and not by these images",
    )


def patients_in_order(patients: Sequence[str]) -> dict[str, list[int]]:
    """Return the numbers of each patient's cases, patients by name."""
    numbers: dict[str, list[int]] = {name: [] for name in sorted(set(patients))}
    for number, name in enumerate(patients):
        numbers[name].append(number)
    return numbers


class _quiet(warnings.catch_warnings):  # used as a function is
    """Silence Opacus' advice on its search for Rényi orders: without it ε is only stated a little too high."""

    def __enter__(self) -> Any:
        entered = super().__enter__()
        warnings.filterwarnings("ignore", message="Optimal order is the")
        return entered


__all__ = [
    "Privacy",
    "Spending",
    "patients_in_order",
    "refuse_privacy",
    "require_protected_masks",
    "require_public_range",
]

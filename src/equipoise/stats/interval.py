"""A value with its interval, where a bound may be infinite."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from equipoise.stats.inputs import Floats


@dataclass(frozen=True)
class Interval:
    """A value with its interval; a bound may be infinite ("more than the curve can tell")."""

    estimate: float
    low: float
    high: float
    level: float

    @classmethod
    def of_draws(cls, estimate: float, draws: Floats, level: float) -> Interval:
        """Return ``estimate`` between the order statistics of ``draws``, shape (B,), that hold ``level`` of them."""
        # Infinite draws are legal here, and interpolating towards one would give NaN: take order statistics outwards.
        tail = (1.0 - level) / 2.0
        low = float(np.quantile(draws, tail, method="lower"))
        high = float(np.quantile(draws, 1.0 - tail, method="higher"))
        return cls(float(estimate), low, high, level)

    def __str__(self) -> str:
        return f"{self.estimate:.3g} [{self.low:.3g}, {self.high:.3g}]"

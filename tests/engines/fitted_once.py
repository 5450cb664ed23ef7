"""A contract that fits its engine once for all tests which only draw from it, and twice to see that fits repeat."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from equipoise.core import rng_for
from equipoise.testing.engine_contract import EngineContract


class FittedOnce(EngineContract):
    _fits: ClassVar[dict[type, Any]] = {}

    def fitted(self) -> Any:
        if type(self) not in self._fits:
            self._fits[type(self)] = super().fitted()
        return self._fits[type(self)]

    def test_a_fit_repeats(self) -> None:
        again = super().fitted()
        assert again is not self.fitted()
        one, two = (list(e.sample(3, rng_for(2, "again"))) for e in (again, self.fitted()))
        for a, b in zip(one, two, strict=True):
            np.testing.assert_array_equal(a.image.array, b.image.array)
            np.testing.assert_array_equal(a.labels.array, b.labels.array)

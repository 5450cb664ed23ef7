"""The map of money: what each number of real and synthetic cases costs, and the score to be expected of it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from equipoise.experiment.findings import Money
from equipoise.experiment.plan import PricePlan
from equipoise.stats import ExchangeRate, PowerLaw

GRID = 9
"""Points along each axis."""


def money_map(
    prices: PricePlan,
    sizes: Sequence[int],
    law: PowerLaw | None,
    rate: ExchangeRate | None,
    most: float,
    message: str,
) -> Money:
    """Return the grid of costs, and of expected scores with their intervals where a law could be fitted.

    Parameters
    ----------
    prices, sizes
        Price book, and real cases of the real-only arms.
    law, rate
        Curve of real-only training, and the exchange rate; where no rate is proven synthetic cases count nothing.
    most
        Synthetic cases at the upper end of the map.
    message
        What is said about the exchange rate.
    """
    real = np.linspace(sizes[0], 2 * sizes[-1], GRID)
    synthetic = np.linspace(0, max(most, 1.0), GRID)
    cost = prices.real_case * real[None, :] + prices.synthetic_case * synthetic[:, None]
    cost += prices.engine_fit * (synthetic[:, None] > 0)
    expected: list[list[list[float]]] = []
    if law is not None and law.identifiable:
        expected = [values.tolist() for values in _expected(law, rate, real, synthetic)]
    elif law is not None:
        message = f"{law.message} {message}" if law.message else message
    book = {"real case": prices.real_case, "synthetic case": prices.synthetic_case, "engine fit": prices.engine_fit}
    value, low, high = expected or (None, None, None)
    return Money(
        currency=prices.currency,
        prices=book,
        real_counts=real.tolist(),
        synthetic_counts=synthetic.tolist(),
        expected=value,
        cost=cost.tolist(),
        message=message,
        expected_low=low,
        expected_high=high,
    )


def _expected(
    law: PowerLaw, rate: ExchangeRate | None, real: np.ndarray, synthetic: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the expected score and both ends of its 95 % interval, each of shape ``(synthetic, real)``.

    A draw takes curve and exchange rate from the same resample of patients and replicates, so what moves both moves
    them together. A draw whose exchange rate is infinite expects the plateau; one in which synthetic cases do harm
    takes real cases away, at most down to one.
    """
    a, b, c = law.draws.T
    each = np.zeros_like(a) if rate is None or rate.draws is None else rate.draws / rate.synthetic
    point = 0.0 if rate is None or rate.worth is None else rate.worth.estimate / rate.synthetic
    low, high = np.empty((2, synthetic.size, real.size))
    for i, made in enumerate(synthetic):
        worth = real[:, None] + (each * made if made else np.zeros_like(each))
        scores = a - b * np.maximum(worth, 1.0) ** -c
        low[i], high[i] = np.quantile(scores, [0.025, 0.975], axis=1)
    counts = real[None, :] + point * synthetic[:, None]
    return np.asarray(law.a - law.b * counts**-law.c), low, high

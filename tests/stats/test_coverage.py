"""Calibration: intervals hold the truth as often as they say, and nulls are rejected no more often than allowed."""

from __future__ import annotations

import numpy as np
import pytest
from coverage_grid import GRID, Cell, Result, expected_student_width, simulate

#: Lowest true coverage that we accept for a nominal 95 %.
FLOOR = 0.935
QUICK = 300
SLOW = 2000

QUICK_CELLS = [
    Cell(20, 3, 0.02, 0.02, 0.0),
    Cell(20, 3, 0.06, 0.0, 0.0),
    Cell(20, 5, 0.006, 0.03, 0.06),
]


def _error(rate: float, repetitions: int) -> float:
    return float(np.sqrt(rate * (1 - rate) / repetitions))


def _require_calibrated(cell: Cell, result: Result, repetitions: int) -> None:
    # Two standard errors of the simulation below the floor: a method that truly covers 93.5 % passes 39 times in 40.
    assert result.covered >= FLOOR - 2 * _error(FLOOR, repetitions)
    assert result.rejected <= 1 - FLOOR + 2 * _error(FLOOR, repetitions)
    # Never wider than the rule that counts the interaction twice; Monte Carlo error of the widths is below 1.5 %.
    assert result.width_to_whole <= 1.015
    # Nor wider than a t interval on k - 1 degrees of freedom with the interaction counted once more (sqrt 2 at most).
    assert result.width_to_known <= 1.03 * np.sqrt(2) * expected_student_width(cell.replicates)


@pytest.mark.parametrize("cell", QUICK_CELLS, ids=str)
def test_interval_covers_quickly(cell: Cell) -> None:
    _require_calibrated(cell, simulate(cell, QUICK, seed=5, resamples=1000), QUICK)


@pytest.mark.slow
@pytest.mark.parametrize("cell", [cell for cell in GRID if cell.law == "normal"], ids=str)
def test_interval_covers(cell: Cell) -> None:
    _require_calibrated(cell, simulate(cell, SLOW, seed=2), SLOW)


@pytest.mark.slow
@pytest.mark.parametrize("cell", [cell for cell in GRID if cell.law != "normal"], ids=str)
def test_interval_covers_other_laws(cell: Cell) -> None:
    # Skewness -2 at 20 patients with nothing else varying is where the interval falls short: measured 91 %, and said
    # so in docs/statistics.md. The plain bootstrap has 89 % there.
    hardest = cell.law == "skewed" and cell.patients == 20 and cell.sd_replicates == 0
    floor = 0.90 if hardest else FLOOR
    assert simulate(cell, SLOW, seed=2).covered >= floor - 2 * _error(floor, SLOW)


def test_plain_bootstrap_over_three_replicates_does_not_cover() -> None:
    """The reason for the replicate component; were it to pass, the component would be superfluous."""
    result = simulate(Cell(100, 3, 0.02, 0.02, 0.0), QUICK, seed=6, resamples=1000)
    assert result.plain_covered < 0.60
    assert result.covered >= FLOOR - 2 * _error(FLOOR, QUICK)


def test_width_is_that_of_student_where_only_replicates_vary() -> None:
    """Without patient spread the interval is S / sqrt(k) * t[k-1], whose mean width is known in closed form."""
    cell = Cell(20, 5, 0.0005, 0.02, 0.0)
    result = simulate(cell, QUICK, seed=7, resamples=1000)
    # The mean of 300 chi variables on 4 degrees of freedom has a relative error of 2 %.
    assert result.width_to_known == pytest.approx(expected_student_width(5), rel=0.06)

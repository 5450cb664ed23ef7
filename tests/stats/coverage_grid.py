"""Simulated coverage of the interval of a paired difference, over a grid of spreads and sizes.

``python tests/stats/coverage_grid.py --repetitions 2000`` prints the table of docs/statistics.md.

Truth is known: values follow ``A[r] + B[p] + E[r, p]`` with mean 0. Every repetition calls the public
`paired_difference`. Beside it stand a plain bootstrap of patients over the mean of the replicates (what is usually
done), the rule without the correction for interaction (the whole spread S of the replicate means), the rule that takes
the interaction off S^2 at once (plug-in), Satterthwaite's interval from the variance components, and the width that
someone would reach who knew the true variances (``2 * 1.96 * SE``), which no method can have with k - 1 degrees of
freedom.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass

import numpy as np
from scipy.special import gammaincinv, stdtrit

from equipoise.stats import paired_difference, patient_bootstrap, variance_components
from equipoise.stats.power import behrens_fisher_quantile

HEADER = (
    "| P | k | SD patients | SD replicates | SD interaction | law of patients | **covers** | p < .05 under the null "
    "| plain bootstrap covers | plug-in covers | Satterthwaite covers | **width / known variances** | width / whole S "
    "| Satterthwaite's width / known |\n" + "|---" * 14 + "|\n"
)


@dataclass(frozen=True)
class Cell:
    """One row of the grid; spreads in the units of the metric (think of Dice differences)."""

    patients: int
    replicates: int
    sd_patients: float
    sd_replicates: float
    sd_interaction: float
    law: str = "normal"

    @property
    def standard_error(self) -> float:
        """True standard error of the mean difference."""
        k, p = self.replicates, self.patients
        variance = self.sd_replicates**2 / k + self.sd_patients**2 / p + self.sd_interaction**2 / (k * p)
        return float(np.sqrt(variance))

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        """Differences of shape (R, P) with mean 0."""
        shape = (self.replicates, self.patients)
        if self.law == "skewed":  # many small losses and a few large ones, as Dice differences have: skewness -2
            patient = 1.0 - rng.exponential(size=shape[1])
        elif self.law == "heavy-tailed":
            patient = rng.standard_t(4, size=shape[1]) / np.sqrt(2)
        else:
            patient = rng.standard_normal(shape[1])
        replicate = rng.standard_normal((shape[0], 1))
        noise = rng.standard_normal(shape)
        return self.sd_patients * patient + self.sd_replicates * replicate + self.sd_interaction * noise


@dataclass(frozen=True)
class Result:
    """Shares and mean widths over the repetitions of one cell."""

    covered: float
    plain_covered: float
    rejected: float
    plug_in_covered: float
    satterthwaite_covered: float
    width_to_known: float
    width_to_whole: float
    satterthwaite_to_known: float


GRID = [
    Cell(p, k, sd_p, sd_r, sd_e)
    for k in (3, 5)
    for p in (20, 100)
    for sd_p, sd_r, sd_e in [
        (0.06, 0.0, 0.0),
        (0.06, 0.0, 0.06),
        (0.06, 0.006, 0.06),
        (0.06, 0.02, 0.03),
        (0.06, 0.02, 0.18),
        (0.02, 0.02, 0.0),
        (0.02, 0.0, 0.20),
        (0.006, 0.03, 0.06),
    ]
]
GRID += [Cell(p, 3, 0.06, 0.006, 0.03, law) for p in (20, 100) for law in ("skewed", "heavy-tailed")]
# The hardest for any interval of a mean: skewed patients, and replicates that add nothing to hide it.
GRID += [Cell(p, 3, 0.06, 0.0, 0.0, "skewed") for p in (20, 100)]


def simulate(cell: Cell, repetitions: int, seed: int, resamples: int = 2000) -> Result:
    """Repeat the trial and count how often the intervals hold the truth, which is 0."""
    rng = np.random.default_rng([seed, cell.patients, cell.replicates, GRID.index(cell) if cell in GRID else 999])
    shares, widths = np.zeros(5), np.zeros(3)
    zero = np.zeros((cell.replicates, cell.patients))
    for _ in range(repetitions):
        values = cell.draw(rng)
        found = paired_difference(values, zero, rng, resamples=resamples)
        low, high = np.quantile(patient_bootstrap(values.mean(axis=0), rng, resamples), [0.025, 0.975])
        check = variance_components(values)
        left = max(0.0, found.sd_between_replicates**2 - check.interaction / cell.patients) ** 0.5
        plug_in = _half_width(cell, found.sd_between_patients, left)
        shares += [
            found.low <= 0 <= found.high,
            low <= 0 <= high,
            found.p_value < 0.05,
            abs(found.estimate) <= plug_in,
            check.low <= 0 <= check.high,
        ]
        whole = 2 * _half_width(cell, found.sd_between_patients, found.sd_between_replicates)
        widths += [found.high - found.low, whole, check.high - check.low]
    shares, known = shares / repetitions, 2 * 1.959964 * cell.standard_error * repetitions
    ratios = widths[0] / known, widths[0] / widths[1], widths[2] / known
    return Result(*(float(share) for share in shares), *(float(ratio) for ratio in ratios))


def _half_width(cell: Cell, sd_patients: float, sd_replicates: float) -> float:
    """Half-width of the interval that simply adds two t errors, of patients and of replicates."""
    first, second = sd_patients / np.sqrt(cell.patients), sd_replicates / np.sqrt(cell.replicates)
    quantile = np.interp(np.arctan2(second, first), *_table(cell.patients, cell.replicates))
    return float(np.hypot(first, second) * quantile)


_TABLES: dict[tuple[int, int], tuple[np.ndarray, np.ndarray]] = {}


def _table(patients: int, replicates: int) -> tuple[np.ndarray, np.ndarray]:
    if (patients, replicates) not in _TABLES:
        angles = np.linspace(0, np.pi / 2, 49)
        quantiles = behrens_fisher_quantile(np.tan(angles), patients - 1, replicates - 1, 0.975)
        _TABLES[patients, replicates] = (angles, quantiles)
    return _TABLES[patients, replicates]


def expected_student_width(replicates: int) -> float:
    """Mean width of a t interval on k - 1 degrees of freedom over that with known variance."""
    df = replicates - 1
    chances = (np.arange(20_000) + 0.5) / 20_000
    mean_chi = float(np.sqrt(2 * gammaincinv(df / 2, chances) / df).mean())
    return float(stdtrit(df, 0.975)) * mean_chi / 1.959964


def row(cell: Cell, result: Result) -> str:
    """Return one line of the table, in Markdown."""
    c, r = cell, result
    size = (
        f"| {c.patients} | {c.replicates} | {c.sd_patients:g} | {c.sd_replicates:g} | {c.sd_interaction:g} | {c.law} "
    )
    listed = (r.covered, r.rejected, r.plain_covered, r.plug_in_covered, r.satterthwaite_covered)
    shares = " ".join(f"| {100 * share:.1f} %" for share in listed)
    return f"{size}{shares} | {r.width_to_known:.2f} | {r.width_to_whole:.2f} | {r.satterthwaite_to_known:.2f} |\n"


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=2000)
    parser.add_argument("--resamples", type=int, default=2000)
    options = parser.parse_args()
    error = 100 * np.sqrt(0.95 * 0.05 / options.repetitions)
    sys.stdout.write(
        f"{options.repetitions} repetitions; one Monte Carlo standard error at 95 % is {error:.2f} points.\n\n"
    )
    sys.stdout.write(HEADER)
    for cell in GRID:
        sys.stdout.write(row(cell, simulate(cell, options.repetitions, seed=1, resamples=options.resamples)))
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

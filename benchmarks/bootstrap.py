"""Patient bootstrap: counts times matrix, against a plain loop over resamples.

Run ``python benchmarks/bootstrap.py``. Two loops are timed, for "plain loop" can mean either: one in Python alone,
which picks patients one by one, and one that leaves each resample's picking and averaging to numpy. Both do what ours
does: 10,000 resamples of 120 patients. Exit status 1 if ours is less than 40 times as fast as the plain Python loop or
if the results disagree.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable

import numpy as np

from equipoise.stats import patient_bootstrap

PATIENTS, RESAMPLES, REPEATS, TARGET = 120, 10_000, 7, 40.0
#: Ours is so short that one run in a time slice of another process would decide; several stand for each loop.
OURS_PER_LOOP = 5


def python_loop(values: np.ndarray) -> np.ndarray:
    """One column, one patient at a time."""
    stream, listed = random.Random(1), values.tolist()
    picks = range(len(listed))
    return np.array([sum(listed[stream.choice(picks)] for _ in picks) / len(listed) for _ in range(RESAMPLES)])


def numpy_loop(values: np.ndarray) -> np.ndarray:
    """All columns, one resample at a time, NaN left out; ``values`` has shape (columns, patients)."""
    rng = np.random.default_rng(2)
    draws = np.empty((RESAMPLES, len(values)))
    for index in range(RESAMPLES):
        draws[index] = np.nanmean(values[:, rng.integers(PATIENTS, size=PATIENTS)], axis=1)
    return draws


def ours(values: np.ndarray) -> np.ndarray:
    return patient_bootstrap(values, np.random.default_rng(3), resamples=RESAMPLES)


def median_times(loop: Callable[[np.ndarray], np.ndarray], values: np.ndarray) -> tuple[float, float, float]:
    """Median seconds of the loop and of ours, run in turns so that both meet the same load, and their worst gap."""
    first, second = loop(values), ours(values)
    slow, fast = [], []
    for _ in range(REPEATS):
        slow.append(_seconds(loop, values))
        fast += [_seconds(ours, values) for _ in range(OURS_PER_LOOP)]
    gap = worst_disagreement(first.reshape(RESAMPLES, -1), second.reshape(RESAMPLES, -1))
    return statistics.median(slow), statistics.median(fast), gap


def _seconds(function: Callable[[np.ndarray], np.ndarray], values: np.ndarray) -> float:
    start = time.perf_counter()
    function(values)
    return time.perf_counter() - start


def worst_disagreement(first: np.ndarray, second: np.ndarray) -> float:
    """Largest difference of a mean, SD or 95 % bound, in Monte Carlo standard errors of that figure.

    A tail quantile's standard error is ``sqrt(q (1 - q) / B) / density``: about 2.67 SD / sqrt(B) at 2.5 %; the SD's is
    about 0.71 SD / sqrt(B). Each difference has two such errors.
    """
    scale = first.std(axis=0) * np.sqrt(2 / RESAMPLES)
    gaps = [np.abs(first.mean(axis=0) - second.mean(axis=0)) / scale]
    gaps.append(np.abs(first.std(axis=0) - second.std(axis=0)) / (0.71 * scale))
    for q in (0.025, 0.975):
        gaps.append(np.abs(np.quantile(first, q, axis=0) - np.quantile(second, q, axis=0)) / (2.67 * scale))
    return float(np.max(gaps))


def main() -> int:
    rng = np.random.default_rng(0)
    one = rng.beta(8, 2, PATIENTS)
    many = rng.beta(8, 2, (24, PATIENTS))
    many[3, :15] = np.nan
    cases = [
        ("1 column, plain Python loop", python_loop, one, TARGET),
        ("24 columns with NaN, numpy loop", numpy_loop, many, None),
        ("1 column, numpy loop", numpy_loop, one[None], None),
    ]
    runs = f"medians of {REPEATS} (loop) and {REPEATS * OURS_PER_LOOP} (ours) runs, in turns"
    print(f"{RESAMPLES} resamples of {PATIENTS} patients; {runs}")
    print(f"{'against':34}{'loop, s':>10}{'ours, s':>10}{'ratio':>8}{'worst gap':>12}")
    failed = False
    for name, loop, values, target in cases:
        slow, fast, gap = median_times(loop, values)
        print(f"{name:34}{slow:10.3f}{fast:10.4f}{slow / fast:7.0f}x{gap:9.1f} SE")
        failed |= gap > 5.0 or (target is not None and slow / fast < target)
    print(
        "failed: too slow or not the same law"
        if failed
        else f"passed: at least {TARGET:.0f}x, and the same law within 5 SE"
    )
    return int(failed)


if __name__ == "__main__":
    raise SystemExit(main())

"""How quantities of a map vary together: a normal distribution held within so many standard deviations."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import truncnorm

UNCORRELATED = 1e-6
"""Correlation below which two quantities were made uncorrelated; chance does not come so near to 0."""


@dataclass(frozen=True, eq=False)
class Joint:
    """A normal distribution fitted to few rows, some of whose values may be unknown.

    Parameters
    ----------
    mean, sd
        Of each quantity, shape ``(M,)``; an sd is 0 for what does not vary.
    root
        Square root of the correlation, shape ``(M, M)``.
    """

    mean: np.ndarray
    sd: np.ndarray
    root: np.ndarray

    @classmethod
    def of(cls, rows: np.ndarray) -> Joint:
        """Return the distribution of rows, shape ``(N, M)``; NaN is unknown.

        Correlations are drawn towards 0 by as much as chance alone would spread them: thirty patients show few.

        References
        ----------
        Schäfer J, Strimmer K. A shrinkage approach to large-scale covariance matrix estimation. Stat Appl Genet Mol
        Biol 2005. doi:10.2202/1544-6115.1175
        """
        count, width = rows.shape
        known = np.isfinite(rows)
        here = np.maximum(known.sum(axis=0), 1)
        mean = np.where(known, rows, 0).sum(axis=0) / here
        centred = np.where(known, rows - mean, 0)
        sd = np.sqrt(np.square(centred).sum(axis=0) / np.maximum(here - 1, 1))
        sd = np.where(sd > 1e-9 * np.maximum(np.abs(mean), 1e-9), sd, 0)
        # An unknown value counts as the mean, which only weakens its correlations; the matrix stays a correlation.
        scaled = np.divide(centred, sd, out=np.zeros_like(centred), where=sd > 0)
        length = np.linalg.norm(scaled, axis=0)
        scaled = np.divide(scaled, length, out=np.zeros_like(scaled), where=length > 0)
        correlation = scaled.T @ scaled
        # Scores along principal components are uncorrelated by construction, which says nothing about the rest.
        apart = correlation[~np.eye(width, dtype=bool) & (np.abs(correlation) > UNCORRELATED)]
        chance = np.square(1 - np.square(apart)).sum() / max(count - 1, 1)
        correlation *= 1 - min(chance / max(np.square(apart).sum(), 1e-12), 1.0)
        np.fill_diagonal(correlation, 1.0)
        values, vectors = np.linalg.eigh(correlation)
        return cls(mean, sd, vectors * np.sqrt(np.maximum(values, 0)) @ vectors.T)

    def draw(self, rng: np.random.Generator, spread: float) -> np.ndarray:
        """Return one row, every value within ``spread`` standard deviations of its mean, shape ``(M,)``."""
        uniform = rng.random(len(self.mean))
        if spread == 0:
            return self.mean.copy()
        scores = self.root @ truncnorm.ppf(uniform, -spread, spread)
        row: np.ndarray = self.mean + self.sd * np.clip(scores, -spread, spread)
        return row


__all__ = ["Joint"]

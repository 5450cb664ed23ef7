"""Statistics of a trial of training data: no number without its interval.

Patients are the unit, and replicates are a random effect.

Values have shape (R, P) everywhere: R replicates (training subset, engine fit and initialisation redrawn) of the same P
held-out patients; NaN marks a patient without the metric, who is excluded and counted. Randomness comes in as a
`numpy.random.Generator`.
"""

from __future__ import annotations

from equipoise.stats.bootstrap import by_patient, patient_bootstrap
from equipoise.stats.crossed import CrossedDraws, crossed_draws
from equipoise.stats.equivalence import Equivalence, NonInferiority, Verdict, non_inferiority, tost, verdict
from equipoise.stats.exchange import ExchangeRate, exchange_rate
from equipoise.stats.interval import Interval
from equipoise.stats.multiplicity import bonferroni_level, holm
from equipoise.stats.null_law import NullLaw, null_law
from equipoise.stats.paired import Difference, Estimate, mean_interval, paired_difference
from equipoise.stats.permutation import sign_flip
from equipoise.stats.power import PlannedPower, minimum_detectable_difference, planned_power, power_at
from equipoise.stats.power_law import PowerLaw, fit_power_law
from equipoise.stats.variance import VarianceComponents, variance_components

__all__ = [
    "CrossedDraws",
    "Difference",
    "Equivalence",
    "Estimate",
    "ExchangeRate",
    "Interval",
    "NonInferiority",
    "NullLaw",
    "PlannedPower",
    "PowerLaw",
    "VarianceComponents",
    "Verdict",
    "bonferroni_level",
    "by_patient",
    "crossed_draws",
    "exchange_rate",
    "fit_power_law",
    "holm",
    "mean_interval",
    "minimum_detectable_difference",
    "non_inferiority",
    "null_law",
    "paired_difference",
    "patient_bootstrap",
    "planned_power",
    "power_at",
    "sign_flip",
    "tost",
    "variance_components",
    "verdict",
]

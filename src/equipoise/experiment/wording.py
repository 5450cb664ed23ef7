"""Numbers with their intervals, in words."""

from __future__ import annotations

from equipoise.experiment.findings import Estimate

TITLES = {"dice": "Dice", "nsd": "NSD"}
"""Metrics as the field writes them."""


def words(estimate: Estimate | None) -> str:
    """Return ``"0.812 [0.790, 0.834]"``."""
    if estimate is None:
        return "no value"
    sign = "+" if estimate.low < 0 or estimate.value < 0.5 else ""
    return f"{estimate.value:{sign}.3f} [{estimate.low:{sign}.3f}, {estimate.high:{sign}.3f}]"


def capital(sentence: str) -> str:
    """Return a sentence with its first letter large."""
    return sentence[:1].upper() + sentence[1:]

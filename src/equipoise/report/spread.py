"""Where the spread of the headline difference comes from, and whether a second method gives its interval too."""

from __future__ import annotations

from equipoise.experiment.findings import Findings
from equipoise.report.wording import count, decimals_for, interval, listed, sentence, with_unit


def spread(findings: Findings) -> list[str]:
    """Return the mixed-effects check in words; nothing where it was not made."""
    found = findings.mixed_effects
    if found is None:
        return []
    parts = {"between patients": found.patient, "between replicates": found.replicate, "the rest": found.residual}
    decimals = decimals_for(parts.values())
    unit = findings.metric.unit
    said = listed(f"{with_unit(interval(e, decimals), unit)} {name}" for name, e in parts.items())
    shown = with_unit(interval(found.difference, decimals_for([found.difference]), signed=True), unit)
    one = found.difference
    return [
        f"Mixed-effects check of the headline ({count(one.patients, 'patient')}, crossed with the replicates): the "
        f"difference is {shown}, and its standard deviation is {said}. Few replicates tell their own spread only "
        "roughly, so that interval is wide.",
        sentence(found.sentence),
    ]

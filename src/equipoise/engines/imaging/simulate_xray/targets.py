"""The labels of a radiograph: which of them there are, and what each is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from equipoise.core import Label, LabelMap, LabelScheme
from equipoise.engines.imaging.simulate_xray.film import GROUPS
from equipoise.errors import LabelError, PlanError, did_you_mean

Targets = Mapping[str, Sequence[str]]


def require_targets(targets: Targets) -> None:
    """Raise `PlanError` unless every target lists the names that it is made of."""
    for label, parts in targets.items():
        listed = isinstance(parts, Sequence) and not isinstance(parts, str) and len(parts) > 0
        if not listed or not all(isinstance(part, str) for part in parts):
            raise PlanError(
                f"targets.{label} = {parts!r} is no list of names; legal: structures of the label map, or "
                f"{', '.join(GROUPS)}",
                fix=f'such as targets = {{ "{label}" = ["lungs"] }}',
            )


def scheme_of(
    labels: LabelMap, targets: Targets, learned: LabelScheme | None
) -> tuple[LabelScheme, dict[str, tuple[str, ...]]]:
    """Return the labels of the truth, and what they are made of.

    Parameters
    ----------
    labels
        The volume that is projected.
    targets
        What was asked for; empty is every structure.
    learned
        Labels of the films that were learned from.

    Raises
    ------
    LabelError
        If a target asks for a structure that the volume does not show.
    """
    names = labels.scheme.names
    made_of = {label: tuple(parts) for label, parts in targets.items()}
    for label, parts in made_of.items():
        for part in parts:
            if part not in names and part not in GROUPS:
                raise LabelError(
                    f"targets.{label} asks for {part!r}, which the label map does not show."
                    f"{did_you_mean(part, [*names, *GROUPS])}",
                    fix=f"name structures of the anatomy, or groups: {', '.join(GROUPS)}",
                )
    if learned is not None and all(n in made_of or n in names or n in GROUPS for n in learned.names):
        # Films and pictures then train one model: same labels, same order.
        return learned, made_of
    if made_of:
        return LabelScheme(tuple(Label(n, k) for k, n in enumerate(made_of, 1)), exclusive=False), made_of
    return LabelScheme(labels.scheme.labels, exclusive=False), {}


__all__ = ["require_targets", "scheme_of"]

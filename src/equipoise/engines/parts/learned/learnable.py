"""What training cases must have in common before any network sees them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from equipoise.core import Case, ClassLabel, LabelMap
from equipoise.engines.parts.learned.class_labels import ClassLabels, Wanted, require_classes
from equipoise.errors import DataError, LabelError

FEWEST = 3
"""Images that a network may be trained on at all: two to learn how images differ, and one held out."""


def require_learnable(kind: str, cases: Sequence[Case], wanted: Wanted = None) -> ClassLabels | None:
    """Return the classes of cases, ``None`` where they have label maps; raise unless one engine can learn from them.

    Parameters
    ----------
    kind
        The engine, for messages.
    cases
        All that it is to learn from.
    wanted
        Classes that the plan wants it to make.

    Raises
    ------
    DataError
        Fewer than `FEWEST`.
    LabelError
        Truth of several kinds or schemes, none, a label that no mask contains, a class that no case shows, or a wanted
        class that does not exist.
    PlanError
        Classes wanted where there are label maps.
    """
    if len(cases) < FEWEST:
        named = ", ".join(repr(case.id) for case in cases)
        raise DataError(
            f"{kind} was given {len(cases)} training image(s) ({named or 'none'}) and needs three at the least, thirty "
            "to be of use",
            why="two images are told by heart, and none is left to see how bad the others become",
            fix="add training patients, or use a simulator, which needs none",
        )
    first = cases[0].truth
    for case in cases:
        if type(case.truth) is not type(first) or case.truth is None:
            raise LabelError(
                f"case {case.id!r} has {type(case.truth).__name__} as truth, {cases[0].id!r} {type(first).__name__}",
                file=case.file,
                why="one engine is conditioned on one kind of truth",
                fix="leave out unlabelled cases, or annotate them",
            )
        if isinstance(first, LabelMap) and case.labels.scheme.names != first.scheme.names:
            raise LabelError(
                f"case {case.id!r} has the labels {case.labels.scheme.names}, the first one {first.scheme.names}",
                file=case.file,
                fix="read all cases with one `labels` table",
            )
        if isinstance(first, ClassLabel) and case.truth.classes != first.classes:  # type: ignore[union-attr]
            raise LabelError(
                f"case {case.id!r} has one of the classes {case.truth.classes}, {cases[0].id!r} of {first.classes}",  # type: ignore[union-attr]
                file=case.file,
                fix="read all cases with one list of classes",
            )
    classes = ClassLabels.of(cases)
    names = classes.classes if classes else ()
    if classes and 0 in classes.shares:
        missing = [name for name, share in zip(names, classes.shares, strict=True) if not share]
        raise LabelError(
            f"{kind}: no training image is of the class {', '.join(map(repr, missing))}",
            why="the network cannot learn how a class looks that it is never shown",
            fix="add cases of it, or leave it out of the classes of the task",
        )
    require_classes(kind, wanted, names)
    if isinstance(first, LabelMap):
        shown = np.any([case.labels.masks().any((1, 2, 3)) for case in cases], axis=0)
        if not shown.all():
            missing = [name for name, seen in zip(first.scheme.names, shown, strict=True) if not seen]
            raise LabelError(
                f"{kind}: no training mask contains {', '.join(map(repr, missing))}",
                why="the network cannot learn how a structure looks that it is never shown",
                fix="add cases that show it, or leave the label out of the plan's `labels`",
            )
    return classes


__all__ = ["require_learnable"]

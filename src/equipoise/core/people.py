"""Who annotated what, and how long it took."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from equipoise.core.labels import ClassLabel, LabelMap


@dataclass(frozen=True, slots=True)
class Reader:
    """A person who annotates.

    Parameters
    ----------
    id
        Pseudonym; never a name.
    specialty
        Such as ``"thoracic radiology"``.
    years
        Years of experience in it.
    """

    id: str
    specialty: str | None = None
    years: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Annotation:
    """One read of one case by one reader.

    Parameters
    ----------
    reader
        Who drew it.
    truth
        What was drawn.
    seconds
        Active reading time.
    finished
        When it was completed.
    ratings
        Ordinal ratings of the finding, such as ``{"malignancy": 4}``.
    """

    reader: Reader
    truth: LabelMap | ClassLabel
    seconds: float | None = None
    finished: datetime | None = None
    ratings: tuple[tuple[str, int], ...] = ()

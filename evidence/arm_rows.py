"""The arms of one engine in a JSON file that ``collect.py`` wrote, as the cells of a table."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Arms:
    """One engine's arms with the controls, at the largest number of patients where there are mixes.

    Parameters
    ----------
    rows
        One per arm and place, under the budget that the plan names first.
    n
        Real patients.
    """

    rows: Sequence[Row]
    n: int

    @classmethod
    def of(cls, found: Mapping[str, Any], engine: str | None = None) -> Arms:
        """Return the arms of an engine by its name in the plan; without one, those of all engines."""
        mine = [a for a in found["arms"] if engine is None or a["engine"] in (None, engine)]
        mixes = [a for a in mine if a["family"] == "mix"]
        n, budget = max(a["n"] for a in mixes), mixes[0]["budget"]
        return cls([a for a in mine if a["n"] == n and a["budget"] == budget], n)

    @property
    def places(self) -> list[str]:
        """Where sealed patients were scored."""
        return [where for where in ("inside", "target") if any(a["where"] == where for a in self.rows)]

    @property
    def best_mix(self) -> str:
        """The mix with the best mean on validation, which is where a plan chooses."""
        mixes = [a for a in self.rows if a["family"] == "mix" and a["where"] == "validation"]
        return str(max(mixes, key=lambda a: float(a["mean"]["value"]))["arm"])

    def named(self, family: str) -> str | None:
        """Return the name of the first arm of a family, or ``None`` if the plan left it out."""
        return next((str(a["arm"]) for a in self.rows if a["family"] == family), None)

    def mean(self, where: str, name: str = "real") -> str:
        """Return an arm's mean with its interval."""
        return "{value:.3f} [{low:.3f}, {high:.3f}]".format(**self._arm(where, name)["mean"])

    def difference(self, where: str, name: str | None) -> str:
        """Return an arm's difference from ``real`` with its interval and its verdict."""
        if name is None:
            return "not run"
        arm = self._arm(where, name)
        return f"{interval(arm['difference'], '+.3f')} {arm['verdict']}"

    def _arm(self, where: str, name: str) -> Row:
        return next(a for a in self.rows if a["where"] == where and a["arm"] == name)


def interval(estimate: Mapping[str, Any], form: str) -> str:
    """Return an estimate with its interval, each number in this form."""
    return "{:{f}} [{:{f}}, {:{f}}]".format(*(estimate[key] for key in ("value", "low", "high")), f=form)


def engines_of(found: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the name in the plan and the kind of each engine that a trial ran, in the plan's order."""
    run = {a["engine"] for a in found["arms"]}
    for name, engine in tomllib.loads(found["plan"])["engines"].items():
        if name in run:
            yield name, str(engine["kind"])


def gate(found: Mapping[str, Any]) -> str:
    """Return whether real-only training was good enough for a claim."""
    return "reached" if found["gate"]["reached"] else "not reached: no claim"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return a table in Markdown."""
    return [f"| {' | '.join(head)} |", "|---" * len(head) + "|", *(f"| {' | '.join(row)} |" for row in rows)]

"""What a section of the page is made of: a sentence, figures, collapsed tables, and how it was computed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from equipoise.experiment.findings import ArmResult, Estimate, Findings
from equipoise.report.colours import Style, mixed, style_of
from equipoise.report.marks import glyph
from equipoise.report.svg import tag
from equipoise.report.wording import interval, known, plain, with_unit


@dataclass(frozen=True, slots=True)
class Cell:
    """A table cell: what is shown, and the number it is sorted by."""

    text: str | Markup
    sort: float | None = None


@dataclass(frozen=True, slots=True)
class Table:
    """A collapsed, sortable table."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]


@dataclass(frozen=True, slots=True)
class Section:
    """One section of the page.

    Parameters
    ----------
    key
        Anchor, unique on the page.
    title
        Short, for heading and contents.
    sentence
        One plain sentence with its number and interval, or why there is none.
    figures, tables, how
        In this order below the sentence; tables and explanations are collapsed.
    state
        ``"shown"``, ``"empty"`` (nothing to show, and the sentence says why) or ``"not audited"``.
    simulated
        Whether the figures rest on simulated pixels and carry the badge.
    """

    key: str
    title: str
    sentence: str
    figures: Sequence[Markup] = ()
    tables: Sequence[Table] = ()
    how: Sequence[str] = ()
    state: str = "shown"
    simulated: bool = True

    @property
    def short(self) -> str:
        """One word for the contents, made of the anchor."""
        return self.key.capitalize()


FAMILIES = ("real", "duplicate", "mix", "weighted", "pretrain", "synthetic", "self-training")


def in_order(arms: Iterable[ArmResult]) -> list[ArmResult]:
    """Return the arms by size; first those without an engine, then each engine's, from mixes to synthetic only."""

    def place(arm: ArmResult) -> tuple[int, str, int, float, str]:
        family = FAMILIES.index(arm.family) if arm.family in FAMILIES else len(FAMILIES)
        return arm.n, arm.engine or "", family, arm.ratio if known(arm.ratio) else float("inf"), arm.arm

    return sorted(arms, key=place)


def styles(findings: Findings) -> dict[str, Style]:
    """Return how each arm is drawn, by its name."""
    return {arm.arm: style_of(arm) for arm in findings.arms}


def named(style: Style, name: str, hollow: bool = False) -> Markup:
    """Return an arm's marker and name."""
    return tag("span", glyph(style, hollow), tag("span", name), class_="arm")


def legend(entries: Iterable[Markup | str]) -> Markup:
    """Return the key of a figure."""
    return tag("ul", *(tag("li", entry) for entry in entries), class_="legend")


def figure(*parts: Markup | None, caption: str = "") -> Markup:
    """Return a figure with its caption."""
    return tag("div", *parts, tag("p", caption, class_="caption") if caption else None, class_="figure-body")


def text_cell(text: str | Markup) -> Cell:
    """Return a cell of words."""
    return Cell(text)


def number_cell(value: float | None, decimals: int = 0) -> Cell:
    """Return a cell of one exact number, such as a count."""
    return Cell(plain(value, decimals), value if known(value) else None)


def estimate_cell(estimate: Estimate | None, decimals: int, signed: bool = False, empty: str = "–") -> Cell:
    """Return a cell of an estimate with its interval; ``empty`` where there is none by design."""
    if estimate is None:
        return Cell(empty)
    return Cell(interval(estimate, decimals, signed), estimate.value if known(estimate.value) else None)


def conditional_note(estimates: Iterable[Estimate | None]) -> list[str]:
    """Return the sentence that is owed where there were too few replicates."""
    if any(e is not None and e.conditional for e in estimates):
        return [
            "These intervals are conditional on these fits: there were too few replicates to speak about a training "
            "run that was not made."
        ]
    return []


def interval_note(findings: Findings) -> str:
    """Return how intervals are to be read."""
    several = {e.level for a in findings.arms for e in (a.mean, a.difference) if e is not None and known(e.level)}
    shown = " and ".join(f"{100 * x:g} %" for x in sorted(several, reverse=True)) or "95 %"
    return (
        f"Intervals are {shown} intervals over patients, with a component for the replicates (training subset, engine "
        "fit and initialisation drawn anew). Small dots are the replicates."
    )


def with_difference_unit(findings: Findings) -> str:
    """Return the name of the difference axis, with its unit and which side is good."""
    metric = findings.metric
    better = "right is better" if metric.higher_is_better else "left is better"
    return f"{short_difference(findings)}, {better}"


def short_difference(findings: Findings) -> str:
    """Return the name of the difference axis for a narrow panel."""
    unit = findings.metric.unit
    return with_unit(f"difference in {findings.metric.title} from real", f"({unit})" if unit else "")


def margin_text(findings: Findings) -> str:
    """Return the margin of the plan, as "±0.02 mm"."""
    margin = findings.metric.margin
    return with_unit(f"±{margin:g}", findings.metric.unit) if known(margin) else "not declared"


def place_legend() -> Markup:
    """Return the key of filled and hollow markers."""
    style = Style(mixed(0.5), "diamond")
    return legend([named(style, "filled: inside"), named(style, "hollow: target site", hollow=True)])


def score_name(findings: Findings) -> str:
    """Return the primary metric with its unit."""
    metric = findings.metric
    return with_unit(metric.title, f"({metric.unit})" if metric.unit else "")

"""The report page: findings in, one self-contained HTML page out, and ``report.json`` beside it."""

from __future__ import annotations

import errno
import json
import os
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from equipoise.errors import EquipoiseError, WorkspaceError, WorkspaceFullError
from equipoise.experiment.findings import Findings
from equipoise.report import opening
from equipoise.report.boundary import boundary
from equipoise.report.calibration import calibration
from equipoise.report.closing import limits, lineage, reproduce
from equipoise.report.colours import DARK, LIGHT, REAL, SYNTHETIC
from equipoise.report.content import Section
from equipoise.report.engines_trained import engines_trained
from equipoise.report.fidelity import fidelity
from equipoise.report.forest import forest
from equipoise.report.gallery import predictions, simulated_badge
from equipoise.report.groups import strata
from equipoise.report.jsonable import strict
from equipoise.report.learning_curve import learning_curve
from equipoise.report.other_metrics import secondary
from equipoise.report.purchases import purchases
from equipoise.report.ratio_curve import ratio_curve
from equipoise.report.svg import tag


def render(findings: Findings) -> str:
    """Return the report as one HTML page that needs no network and no other file.

    Parameters
    ----------
    findings
        Everything that the page shows.

    Returns
    -------
    str
        The same text for the same findings, on every machine.
    """
    return page(
        "report.html",
        findings=findings,
        verdict=opening.verdict_sentences(findings),
        lamps=opening.lamps(findings),
        headline=opening.headline_figure(findings),
        first_page=opening.check_list(findings.first_page),
        gate=opening.gate_sentence(findings),
        sections=sections(findings),
        simulated=findings.simulated_label or ("simulated pixels" if findings.instrument_check else None),
    )


def sections(findings: Findings) -> list[Section]:
    """Return every section below the verdict, in the order of the page; none is ever left out."""
    return [
        opening.compared(findings),
        forest(findings),
        ratio_curve(findings),
        learning_curve(findings),
        purchases(findings),
        strata(findings),
        boundary(findings),
        predictions(findings),
        engines_trained(findings),
        fidelity(findings),
        lineage(findings),
        secondary(findings),
        calibration(findings),
        reproduce(findings),
        limits(findings),
    ]


def page(template: str, **content: Any) -> str:
    """Return a template filled with content, in the look that all pages share."""
    return _templates().get_template(template).render(**content)


@cache
def _templates() -> Environment:
    made = Environment(
        loader=PackageLoader("equipoise.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals["theme_light"] = _variables(LIGHT)
    made.globals["theme_dark"] = _variables(DARK)
    made.globals["real"], made.globals["synthetic"] = REAL, SYNTHETIC
    made.globals["badge"] = simulated_badge
    made.globals["hatch"] = _hatch()
    return made


def _variables(theme: Mapping[str, str]) -> Markup:
    return Markup("".join(f"--{name}:{value};" for name, value in theme.items()))


def _hatch() -> Markup:
    """Return the hatch of duplicated real data, defined once for the page."""
    stripes = tag("path", d="M-1 1L1 -1M0 4L4 0M3 5L5 3", stroke=REAL, stroke_width=1.5)
    ground = tag("rect", width=4, height=4, fill="var(--page)")
    pattern = tag("pattern", ground, stripes, id="hatch", width=4, height=4, patternUnits="userSpaceOnUse")
    return tag("svg", tag("defs", pattern), width=0, height=0, class_="defs", aria_hidden="true", focusable="false")


def write_report(findings: Findings, folder: str | Path) -> Path:
    """Write ``report.html`` and ``report.json`` and return the path of the page.

    Each is written under a temporary name and renamed, so that a reader never meets half a file.

    Parameters
    ----------
    folder
        Made if it does not exist.

    Raises
    ------
    WorkspaceFullError
        The disk is full.
    WorkspaceError
        The folder cannot be written to.
    """
    target = Path(folder)
    text = json.dumps(strict(findings.as_dict()), allow_nan=False, ensure_ascii=False, indent=1) + "\n"
    write_text(target / "report.json", text)
    return write_text(target / "report.html", render(findings))


def write_text(file: Path, text: str) -> Path:
    """Write a file under a temporary name in its folder, then rename it."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)
        try:
            with os.fdopen(handle, "w", encoding="utf-8", newline="\n", errors="replace") as out:
                out.write(text)
            Path(temporary).chmod(0o644)
            Path(temporary).replace(file)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise _cannot_write(file, error) from error
    return file


def _cannot_write(file: Path, error: OSError) -> EquipoiseError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return WorkspaceFullError(
            "the disk is full, so the report could not be written",
            file=file,
            why="the results themselves are kept; only the page is missing",
            fix="free some space and write the report again",
        )
    return WorkspaceError(
        f"the report could not be written: {error.strerror or error}",
        file=file,
        why="the results themselves are kept; only the page is missing",
        fix="choose a folder that you may write to",
    )

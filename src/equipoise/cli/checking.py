"""What ``equipoise check`` does: it finds the sets, checks them, draws the suspicious ones, and says what it found."""

from __future__ import annotations

import shlex
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

import numpy as np
from rich.markup import escape
from rich.table import Table

from equipoise.cli import terminal
from equipoise.core import Case, Image, split_patients
from equipoise.core.registry import kinds, load
from equipoise.errors import EquipoiseError
from equipoise.experiment.data import EXTERNAL
from equipoise.experiment.findings import Picture
from equipoise.experiment.plan import Plan, load_plan
from equipoise.formats import detect
from equipoise.formats.check import CODES, Checked, Finding, check_sets
from equipoise.report.check_page import CheckFindings, CheckItem, write_check
from equipoise.report.pictures import picture, view_of

SHOWN = 5
"""Findings of one kind that the terminal prints; all are in the page and in ``--json``."""

PICTURES = 12
"""Pictures per kind of finding in the page, so that it stays small enough to open."""

_SIDE = 256
"""Height of two images that are shown beside each other, in pixels."""


@dataclass(frozen=True, slots=True)
class _Target:
    """What is checked: the sets, and the plan if there is one."""

    title: str
    command: str
    sets: Mapping[str, Mapping[str, Any]]
    plan: Plan | None = None


def check(path: Path, data: Path | None, out: Path | None, one_image_one_patient: bool, as_json: bool) -> int:
    """Check a folder, a table, a list or a plan, write the page, and return the exit code.

    Parameters
    ----------
    path
        Folder, CSV, JSON or plan (``.toml``).
    data
        Folder that a plan's paths start from; by default the plan's own.
    out
        The page, or the folder to write it in; by default ``check.html`` here.
    one_image_one_patient
        The user states that no two images show one patient.
    as_json
        Print JSON and no progress.

    Returns
    -------
    int
        0 if nothing was found, else 1.

    Raises
    ------
    EquipoiseError
        There is nothing to check, the plan is wrong, or the page cannot be written.
    """
    target = _target(path, data, one_image_one_patient)
    with terminal.progress(as_json) as told:
        accepted = target.plan.split.accept_near_duplicates if target.plan else ()
        reading = _timed(told, "reading the images")
        checked = check_sets(target.sets, target.command, accepted, reading, real_only=target.plan is not None)
        findings = [*_not_enough(target.plan, checked, path), *(_told(f, target) for f in checked.findings)]
        items = _items(findings, _timed(told, "drawing"))
    file = out / "check.html" if out is not None and out.is_dir() else out or Path("check.html")
    page = write_check(_page(target, path, checked, items), file)
    if as_json:
        terminal.as_json(_content(path, checked, findings, page))
    else:
        _print(target, checked, findings, page)
    return 1 if findings else 0


def _target(path: Path, data: Path | None, one_each: bool) -> _Target:
    parts = ["equipoise", "check", str(path), *(["--data", str(data)] if data else [])]
    stated = {"one_image_one_patient": True} if one_each else {}
    if path.suffix.lower() != ".toml":
        command = shlex.join([*parts, *(["--one-image-one-patient"] if one_each else [])])
        return _Target(path.resolve().name, command, {"": {**detect(path), **stated}})
    plan = load_plan(path)
    specs = plan.sources(data if data is not None else path.parent)
    sets = dict(zip(("", EXTERNAL), specs, strict=False))
    sets[""] = {**sets[""], **stated}
    return _Target(plan.title, shlex.join(parts), sets, plan)


def _timed(told: Callable[[str, int, int, float], None], stage: str) -> Callable[[int, int], None]:
    start = time.perf_counter()

    def progress(done: int, total: int) -> None:
        told(stage, done, total, (time.perf_counter() - start) / done * (total - done))

    return progress


def _told(finding: Finding, target: _Target) -> Finding:
    """Return a finding whose fix also says what to do where there is no plan to write the line into."""
    if finding.code != "patient-unknown" or target.plan is not None or "one_image_one_patient" not in finding.fix:
        return finding
    return replace(finding, fix=f"{finding.fix}; for this check alone: `{target.command} --one-image-one-patient`")


def _not_enough(plan: Plan | None, checked: Checked, path: Path) -> list[Finding]:
    """Return a finding if the plan asks for more training patients than its split can give."""
    if plan is None or checked.read < checked.cases or checked.patients is None:
        return []
    people = {who for part, site, who in checked.annotated if part == "" and site != (plan.target.site or "")}
    shares = {"train": plan.split.train, "validation": plan.split.validation, "test": plan.split.test}
    # How many patients each part gets depends on their number only, not on who they are.
    train = len(split_patients(dict.fromkeys(people, ""), shares, plan.seed)["train"])
    if max(plan.arms.sizes) <= train:
        return []
    sizes = [n for n in plan.arms.sizes if n <= train] or [max(train, 1)]
    return [
        Finding(
            "not-enough",
            "error",
            str(path),
            f"the plan asks for {max(plan.arms.sizes)} training patients; its split of {len(people)} gives {train}",
            "the other patients validate and test; a patient cannot do both",
            f"under [arms]: `sizes = {sizes}`; or give training a larger share under [split]",
        )
    ]


def _items(findings: Sequence[Finding], progress: Callable[[int, int], None]) -> list[CheckItem]:
    drawn: Counter[str] = Counter()
    items = []
    for number, found in enumerate(findings, 1):
        shown = _picture(found) if found.shown and drawn[found.code] < PICTURES else None
        drawn[found.code] += shown is not None
        items.append(CheckItem(CODES[found.code], found.severity, found.file, found.what, found.why, found.fix, shown))
        progress(number, len(findings))
    return items


def _picture(finding: Finding) -> Picture | None:
    """Return the picture of a finding; `None` where the files do not even allow that."""
    try:
        if len(finding.shown) > 1:
            return picture(_side_by_side(finding.shown), "real", {})
        (case,) = finding.shown
        truth = {"truth": case.labels} if hasattr(case.truth, "scheme") else {}
        outlines = truth if finding.outline is None else {"mask": finding.outline}
        role: Literal["real", "synthetic"] = "synthetic" if case.synthetic else "real"
        return picture(case, role, outlines, simulated=_simulates(case.origin.engine))
    except (EquipoiseError, ValueError):
        return None


def _side_by_side(cases: Sequence[Case]) -> Case:
    """Return one picture of several images, each in its own grey values, with a line between them."""
    planes = [_plane(case) for case in cases]
    line = np.full((3, 4, _SIDE), 255, np.uint8)
    array = np.concatenate([x for plane in planes for x in (plane, line)][:-1], axis=1)
    return Case(" | ".join(c.id for c in cases), "several", Image(array[..., None], unit="px"), file=cases[0].file)


def _plane(case: Case) -> np.ndarray:
    """Return the slice of an image that is shown, uint8, shape ``(3, columns, _SIDE)``."""
    view = view_of(case.image.geometry)
    array = case.image.array
    channels = array[:3] if array.shape[0] in (3, 4) else array[[0, 0, 0]]
    pixels = np.stack([view.show(channel).T for channel in channels]).astype(np.float64)
    low, high = np.nanpercentile(pixels, (0.5, 99.5))
    grey = np.nan_to_num(np.clip((pixels - low) / ((high - low) or 1.0), 0, 1))
    width = max(1, round(pixels.shape[1] * _SIDE / pixels.shape[2]))
    columns, rows = (np.arange(n) * m // n for n, m in ((width, pixels.shape[1]), (_SIDE, pixels.shape[2])))
    return np.asarray(np.rint(255 * grey[:, columns][:, :, rows]), dtype=np.uint8)


def _page(target: _Target, path: Path, checked: Checked, items: Sequence[CheckItem]) -> CheckFindings:
    classes = {
        name: {k: n for k in ("cases", "patients", "voxels") if (n := getattr(c, k)) is not None}
        for name, c in checked.labels.items()
    }
    facts = dict(checked.facts)
    facts |= {"Share of all voxels": shares} if (shares := _shares(checked)) else {}
    facts |= {"Patients": "nobody said who they are"} if checked.patients is None else {}
    facts["Cases not annotated"] = str(checked.without_truth)
    facts["Cases with nothing marked"] = str(checked.empty)
    hidden = Counter(i.code for i in items)
    if any(n > PICTURES for n in hidden.values()):
        facts["Pictures"] = f"of the first {PICTURES} findings of each kind"
    made = _made(checked)
    return CheckFindings(target.title, str(path), checked.cases, checked.patients, classes, items, facts, made)


def _simulates(engine: str | None) -> bool:
    """Return whether an engine simulates; one that is not installed here may be anything that makes images."""
    return engine in kinds("engines") and bool(getattr(load("engines", str(engine)), "simulates", False))


def _made(checked: Checked) -> str | None:
    """Return how many cases no patient stands behind, in words; `None` if there are none."""
    if not checked.made_by:
        return None
    count = sum(checked.made_by.values())
    word = "simulated" if all(map(_simulates, checked.made_by)) else "synthetic"
    return f"{'all' if count == checked.read else f'{count} of'} {checked.read} cases are {word}: no test data"


def _shares(checked: Checked) -> str:
    return ", ".join(f"{name} {c.share:.2%}" for name, c in checked.labels.items() if c.share is not None)


def _content(path: Path, checked: Checked, findings: Sequence[Finding], page: Path) -> dict[str, Any]:
    return {
        "checked": str(path),
        "clean": not findings,
        "cases": checked.cases,
        "read": checked.read,
        "patients": checked.patients,
        "labels": {name: asdict(c) for name, c in checked.labels.items()},
        "synthetic": dict(checked.made_by),
        "without_truth": checked.without_truth,
        "empty": checked.empty,
        "facts": dict(checked.facts),
        "findings": [f.as_dict() for f in findings],
        "page": str(page),
    }


def _print(target: _Target, checked: Checked, findings: Sequence[Finding], page: Path) -> None:
    out = terminal.out
    out.print(f"[bold]{escape(target.title)}[/]  {_verdict(checked, findings)}")
    if made := _made(checked):
        out.print(f"[bold]{made}[/]")
    if checked.labels:
        out.print(_label_table(checked))
    for code, group in groupby(sorted(findings, key=lambda f: f.severity), key=lambda f: (f.severity, f.code)):
        _print_group(*code, list(group))
    out.print()
    terminal.lines([("Page", str(page)), *([("Again", target.command)] if findings else [])])


def _verdict(checked: Checked, findings: Sequence[Finding]) -> str:
    size = f"{checked.cases} cases"
    size += f" of {checked.patients} patients" if checked.patients is not None else ", patients not stated"
    if not findings:
        return f"{size}: [green]nothing to mend[/]"
    count = Counter(f.severity for f in findings)
    said = " and ".join(f"{n} {word}{'s' * (n > 1)}" for word in ("error", "warning") if (n := count[word]))
    return f"{size}: {said}"


def _label_table(checked: Checked) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
    table.add_column("Label")
    for name in ("cases", "patients", "voxels", "share of voxels"):
        table.add_column(name, justify="right")
    for name, c in checked.labels.items():
        voxels = "" if c.voxels is None else f"{c.voxels:,}"
        share = "" if c.share is None else f"{c.share:.2%}"
        table.add_row(escape(name), str(c.cases), "–" if c.patients is None else str(c.patients), voxels, share)
    for name, n in (("nothing marked", checked.empty), ("not annotated", checked.without_truth)):
        if n:
            table.add_row(f"[dim]{name}[/]", str(n))
    return table


def _print_group(severity: str, code: str, group: Sequence[Finding]) -> None:
    out = terminal.out
    colour = "red" if severity == "error" else "yellow"
    out.print(f"\n[bold {colour}]{severity}[/] [bold]{CODES[code]}[/] [dim]{len(group)}[/]")
    # What all have in common is said once.
    for name, texts in (("why it matters", {f.why for f in group}), ("fix", {f.fix for f in group})):
        if len(texts) == 1:
            out.print(f"  [dim]{name}:[/] {escape(texts.pop())}")
    for found in group[:SHOWN]:
        out.print(f"  {escape(found.file or _subject(found))}")
        out.print(f"    {escape(found.what)}")
        for name in ("why", "fix"):
            if len({getattr(f, name) for f in group}) > 1:
                out.print(f"    [dim]{'why it matters' if name == 'why' else name}:[/] {escape(getattr(found, name))}")
    if len(group) > SHOWN:
        out.print(f"  [dim]… and {len(group) - SHOWN} more, in the page and in --json[/]")


def _subject(finding: Finding) -> str:
    """Return what a finding without a file is about."""
    return ", ".join(finding.ids) or "the set as a whole"

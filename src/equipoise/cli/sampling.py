"""``equipoise sample``: cases of one engine as files, with a contact sheet to look at."""

from __future__ import annotations

import shlex
import shutil
import time
import tomllib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from equipoise.cli import terminal
from equipoise.cli.contact_sheet import MOST, contact_sheet
from equipoise.core import Case, rng_for
from equipoise.core.registry import load, make, parameters
from equipoise.errors import EngineError, EquipoiseError, PlanError, WorkspaceError
from equipoise.experiment.data import part_cases
from equipoise.experiment.plan import load_plan
from equipoise.experiment.preparation import prepare
from equipoise.formats.folder_writer import write_folder

SHEET = "contact_sheet.png"
Told = Callable[[str, int, int, float], None]


def sample(
    kind: str,
    out: Path,
    n: int,
    seed: int,
    settings: Sequence[str],
    plan: Path | None,
    data: Path | None,
    as_json: bool,
    anatomy: str | None = None,
    preview: bool = False,
) -> None:
    """Write ``n`` cases of an engine, their table, a statement that says how they are read, and a contact sheet.

    Parameters
    ----------
    kind, settings, anatomy
        The engine, its parameters as ``name=value``, and where its label maps come from: a kind of anatomy, or a
        specification in TOML.
    out
        Folder to write; nothing is there unless all cases were made.
    n, seed
        How many, and from which stream.
    plan, data
        Fit the engine on this plan's training patients.
    as_json
        Print JSON instead of text.
    preview
        Whether to open the contact sheet, for somebody who sits in front of a screen.

    Raises
    ------
    WorkspaceError
        If ``out`` exists.
    EngineError
        If the engine fails, or needs training patients and has none.
    PlanError, UnknownKindError
        If a parameter or a kind is unknown, with the nearest known name.
    """
    if out.exists():
        raise WorkspaceError("this already exists and is not overwritten", file=out, fix="name a new folder with --out")
    engine = make("engines", {"kind": kind, **_settings(kind, settings, anatomy)})
    simulated = getattr(engine, "simulates", False)
    with terminal.progress(as_json) as told, _said(kind, out, plan), _writing(out) as folder:
        # Without a plan an engine samples from what it knows unfitted, if it knows anything.
        real = _training_cases(plan, data)
        ready = engine.fit(real, rng_for(seed, "fit")) if real else engine
        first, rows = _write_cases(ready.sample(n, rng_for(seed, "sample")), n, folder, told)
        contact_sheet(first, simulated, len(rows)).save(folder / SHEET)
    scanners = list(dict.fromkeys(row["scanner"] for row in rows if row["scanner"]))
    if preview:
        terminal.open_page(out / SHEET)
    if as_json:
        sheet = str(out / SHEET)
        terminal.as_json({"path": str(out), "cases": len(rows), "contact_sheet": sheet, "scanners": scanners})
        return
    lines = [("Cases", f"{len(rows)} {'simulated' if simulated else 'synthetic'}"), ("Written", str(out))]
    if scanners:
        lines.append(("Scanners", ", ".join(name.removeprefix("simulated, ") for name in scanners)))
    again = shlex.join(["equipoise", "check", str(out)])
    terminal.lines([*lines, ("Look", str(out / SHEET)), ("Check", again)])


def _settings(kind: str, settings: Sequence[str], anatomy: str | None) -> dict[str, Any]:
    """Return the engine's parameters; ``anatomy`` is a bare kind or a table in TOML."""
    found = _parameters(settings)
    if anatomy is None:
        return found
    if "anatomy" in found:
        raise PlanError("--anatomy and --set anatomy=... both name an anatomy", fix="leave one of them out")
    if "anatomy" not in parameters(load("engines", kind)):
        raise PlanError(
            f"engine {kind!r} draws no label maps, so it takes no --anatomy",
            fix="leave --anatomy out, or choose an engine that renders label maps; `equipoise engines` lists them",
        )
    spec = _parameters([f"anatomy={anatomy}"])["anatomy"]
    make("anatomies", spec)  # an unknown name is said before anything is fitted
    return {**found, "anatomy": spec}


@contextmanager
def _writing(out: Path) -> Iterator[Path]:
    """Give a temporary folder beside ``out`` that takes its name when everything in it is finished."""
    temporary = out.with_name(f".{out.name}.writing")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir(parents=True)
        yield temporary
        temporary.rename(out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def _said(kind: str, out: Path, plan: Path | None) -> Iterator[None]:
    """Turn whatever an engine raises into an error that says what to do."""
    try:
        yield
    except EngineError as error:
        if plan is not None:
            raise
        fix = error.fix or f"fit it on training patients: equipoise sample {kind} --plan PLAN --data DIR --out {out}"
        raise EngineError(error.message, why=error.why, fix=fix) from error
    except EquipoiseError:
        raise
    except OSError as error:
        raise WorkspaceError(
            f"the cases cannot be written: {error}", file=out, fix="name a folder with --out that has room"
        ) from error
    except Exception as error:  # an engine may be anybody's plug-in
        raise EngineError(f"engine {kind!r} failed: {type(error).__name__}: {error}") from error


def _write_cases(cases: Iterator[Case], n: int, folder: Path, told: Told) -> tuple[list[Case], list[dict[str, Any]]]:
    """Write cases as they are made; return those of the contact sheet and the rows of the table."""
    first: list[Case] = []
    start, done = time.perf_counter(), 0
    told("sampling", 0, n, 0.0)

    def wrote(case: Case) -> None:
        nonlocal done
        done += 1
        if len(first) < MOST:  # a hundred volumes would not fit into memory
            first.append(case)
        told("sampling", done, n, (time.perf_counter() - start) / done * (n - done))

    rows = write_folder(cases, folder, wrote)
    if not rows:
        raise EngineError(f"the engine made no case, {n} were asked for")
    return first, rows


def _parameters(settings: Sequence[str]) -> dict[str, Any]:
    """Return ``name=value`` pairs as parameters; values are TOML, bare words are texts."""
    found: dict[str, Any] = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals:
            raise PlanError(f"--set {setting!r} is not of the form name=value", fix="for example --set strength=0.3")
        try:
            found[name.strip()] = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            found[name.strip()] = value.strip()
    return found


def _training_cases(plan: Path | None, data: Path | None) -> list[Case]:
    """Return the cases that an engine may be fitted on: a plan's training patients, or none."""
    if plan is None:
        return []
    prepared = prepare(load_plan(plan), data if data is not None else plan.parent, Path())
    return part_cases(prepared.context.source, prepared.split.train)

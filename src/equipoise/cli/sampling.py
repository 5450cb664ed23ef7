"""``equipoise sample``: cases of one engine as files, with a contact sheet to look at."""

from __future__ import annotations

import shlex
import shutil
import time
import tomllib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from equipoise.cli import terminal
from equipoise.cli.contact_sheet import MOST, contact_sheet
from equipoise.core import Case, rng_for
from equipoise.core.registry import canonical, load, make, parameters
from equipoise.engines.parts.learned.keeping import heard_by, kept_in
from equipoise.errors import DataError, EngineError, EquipoiseError, PlanError, WorkspaceError
from equipoise.experiment.data import listed, part_cases
from equipoise.experiment.plan import load_plan
from equipoise.experiment.preparation import prepare
from equipoise.formats import detect
from equipoise.formats.folder_writer import write_folder
from equipoise.report.jsonable import strict

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
    fit: Fitting | None = None,
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
    fit
        Fit the engine on these images instead of a plan's, and where its training is kept.

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
    fit = fit or Fitting()
    _require_something_to_learn_from(engine, plan, fit, n, out)
    simulated = getattr(engine, "simulates", False)
    with terminal.progress(as_json) as told, _said(kind, out, plan or fit.path), _writing(out) as folder:
        # Without a plan or a folder an engine samples from what it knows unfitted, if it knows anything.
        real = _training_cases(plan, data) if plan else fit.cases()
        with kept_in(fit.keep), heard_by(lambda step, steps, left: told("fitting", step, steps, left)):
            ready = engine.fit(real, rng_for(seed, "fit")) if real else engine
        first, rows = _write_cases(ready.sample(n, rng_for(seed, "sample")), n, folder, told)
        contact_sheet(first, simulated, len(rows)).save(folder / SHEET)
    scanners = list(dict.fromkeys(row["scanner"] for row in rows if row["scanner"]))
    if preview:
        terminal.open_page(out / SHEET)
    history = getattr(ready, "history", None)
    if as_json:
        said = {"path": str(out), "cases": len(rows), "contact_sheet": str(out / SHEET), "scanners": scanners}
        terminal.as_json(strict({**said, "training": history} if history else said))
        return
    lines = [("Cases", f"{len(rows)} {'simulated' if simulated else 'synthetic'}"), ("Written", str(out))]
    if history:
        lines.insert(0, ("Trained", _trained(history)))
    if scanners:
        lines.append(("Scanners", ", ".join(name.removeprefix("simulated, ") for name in scanners)))
    again = shlex.join(["equipoise", "check", str(out)])
    terminal.lines([*lines, ("Look", str(out / SHEET)), ("Check", again)])


@dataclass(frozen=True, slots=True)
class Fitting:
    """What an engine is fitted on without a plan, and where its training is kept.

    Parameters
    ----------
    path
        Folder, table or list of annotated images, as `equipoise check` takes it.
    labels
        What is labelled there, a TOML table that replaces what was found out.
    one_image_one_patient
        The user states that no two images show one patient.
    keep
        Folder of the checkpoints: the same command continues a training that was stopped. ``None`` keeps nothing.
    """

    path: Path | None = None
    labels: str | None = None
    one_image_one_patient: bool = False
    keep: Path | None = None

    def cases(self) -> list[Case]:
        """Return the annotated cases, none if there is no path.

        Raises
        ------
        DataError
            A case is synthetic, none is annotated, or something cannot be read.
        PlanError
            ``labels`` is no table.
        """
        if self.path is None:
            return []
        spec = detect(self.path)
        if self.labels is not None:
            stated = _parameters([f"labels={self.labels}"])["labels"]
            if not isinstance(stated, dict):
                raise PlanError(f"--labels {self.labels!r} is no table", fix="write --labels '{ vessel = \"mask\" }'")
            spec["labels"] = stated
        if self.one_image_one_patient:
            spec["one_image_one_patient"] = True
        found = [case for case in listed([canonical(spec)]).values() if case.truth is not None]
        if not found:
            raise DataError(
                "no image of this set is annotated, so an engine has no label to learn from",
                file=self.path,
                fix="name the masks with --labels '{ vessel = \"mask\" }', or annotate the images",
            )
        return sorted(found, key=lambda case: case.id)


def _require_something_to_learn_from(engine: Any, plan: Path | None, fit: Fitting, n: int, out: Path) -> None:
    """Raise unless an engine that must learn has images to learn from, and from one place only."""
    if plan is not None and fit.path is not None:
        raise PlanError("--plan and --fit both name images to learn from", fix="leave one of them out")
    if fit.path is None and (fit.labels is not None or fit.one_image_one_patient):
        raise PlanError("--labels and --one-image-one-patient describe images, and none are named", fix="add --fit DIR")
    if plan is None and fit.path is None and getattr(engine, "history", engine) is None:
        again = shlex.join(["equipoise", "sample", engine.kind, "--fit", "FOLDER", "--n", str(n), "--out", str(out)])
        raise EngineError(
            f"{engine.kind} has learned from no image yet",
            why="what it makes comes from annotated training images alone",
            fix=f"name a folder of them: {again}",
        )


def _trained(history: dict[str, Any]) -> str:
    """Return how a training went, in words."""
    best = next((look for look in history["looks"] if look["step"] == history["best_step"]), None)
    taken = history["looks"][-1]["step"] if history["looks"] else 0
    kept = f"step {best['step']} of {taken} kept, held-out distance {best['distance']:.3g}" if best else "no good look"
    return f"{kept}; {history['stopped']}; {history['seconds'] / 60:.1f} min"


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
def _said(kind: str, out: Path, learned_from: Path | None) -> Iterator[None]:
    """Turn whatever an engine raises into an error that says what to do."""
    try:
        yield
    except EngineError as error:
        if learned_from is not None:
            raise
        fix = error.fix or f"fit it on training patients: equipoise sample {kind} --fit FOLDER --out {out}"
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


def _training_cases(plan: Path, data: Path | None) -> list[Case]:
    """Return the cases that an engine may be fitted on: a plan's training patients."""
    prepared = prepare(load_plan(plan), data if data is not None else plan.parent, Path())
    return part_cases(prepared.context.source, prepared.split.train)

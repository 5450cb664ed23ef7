"""What the commands do: they join the layers and print."""

from __future__ import annotations

import shlex
import tomllib
from collections.abc import Sequence
from contextlib import closing
from importlib.resources import as_file, files
from pathlib import Path

from equipoise.advice import advise
from equipoise.cli import terminal
from equipoise.core import Case
from equipoise.core.registry import kinds, load
from equipoise.errors import PlanError, WorkspaceError
from equipoise.experiment import checks, conclude
from equipoise.experiment.contrasts import Scores, arm_results
from equipoise.experiment.export import training_cases
from equipoise.experiment.findings import Findings
from equipoise.experiment.forecast import EngineCost, estimate_cost
from equipoise.experiment.plan import Plan, load_plan, parse_plan
from equipoise.experiment.preparation import prepare
from equipoise.experiment.run import Finished, run
from equipoise.experiment.wording import words
from equipoise.formats.nnunet import write_nnunet
from equipoise.report.jsonable import strict
from equipoise.report.page import write_report
from equipoise.report.story import tell
from equipoise.runners import InProcess, make_runner
from equipoise.workspace import Workspace


def demo_plan(lidc: Path | None = None) -> Path:
    """Return the plan of the embedded default, or of the same with the user's own LIDC-IDRI images."""
    name = "demo.toml" if lidc is None else "demo_lidc.toml"
    with as_file(files("equipoise.demo") / name) as path:
        return path


def compare(
    plan_file: Path,
    folder: Path,
    root: Path | None,
    on: str,
    workers: int,
    as_json: bool,
    dry_run: bool,
    command: str | None = None,
) -> None:
    """Run a plan and write its report; ``command`` is what reproduces it, by default `compare` with that plan."""
    plan = load_plan(plan_file)
    # Kept with the plan, so that `equipoise resume` finds the data from any folder.
    root = (root if root is not None else plan_file.parent).resolve()
    if dry_run:
        _dry_run(plan, root, folder, on, workers, as_json)
        return
    command = command or shlex.join(["equipoise", "compare", plan_file.name, "--data", "DIR"])
    _run(plan, plan_file.read_text(encoding="utf-8"), folder, root, on, workers, as_json, command)


def resume(folder: Path, on: str, workers: int, as_json: bool) -> None:
    """Go on with the newest plan of a workspace."""
    plan, toml, root, command = _stored(folder)
    command = command or shlex.join(["equipoise", "compare", f"{folder.stem}.toml", "--data", "DIR"])
    _run(plan, toml, folder, root, on, workers, as_json, command)


def recommend(folder: Path, budget: float | None, as_json: bool) -> None:
    """Advise from the rows of a finished experiment."""
    with _existing(folder) as workspace:
        finished = _finished(folder, workspace)
        advised = advise(Scores(finished), budget)
    margin = finished.prepared.plan.metric.margin
    if as_json:
        from dataclasses import asdict

        content = {"advice": asdict(advised.advice), "exchange": asdict(advised.exchange), "margin": margin}
        terminal.as_json(strict(content))
        return
    terminal.lines(
        [
            ("Advice", advised.advice.action),
            ("Next purchase", advised.advice.sentence),
            ("Exchange rate", advised.exchange.message),
        ]
    )


def export_nnunet(folder: Path, arm: str, out: Path | None, number: int, labels: list[str], as_json: bool) -> None:
    """Write an arm's training set as an nnU-Net v2 data set."""
    with _existing(folder) as workspace:
        finished = _finished(folder, workspace)
        chosen = arm
        if arm == "best":
            scores = Scores(finished)
            chosen = conclude.recommended(scores, arm_results(scores))
        cases = training_cases(finished, workspace, chosen)
    name = f"Dataset{number:03d}_equipoise"
    target = (out or folder / "exports") / name
    with terminal.progress(as_json) as told:

        def wrote(done: int, total: int) -> None:
            told("writing", done, total, 0.0)

        title = finished.prepared.plan.title
        write_nnunet(cases, target, title, channel_names(cases[0]), wrote, labels or None)
    synthetic = sum(case.synthetic for case in cases)
    if as_json:
        terminal.as_json({"arm": chosen, "path": str(target), "real": len(cases) - synthetic, "synthetic": synthetic})
        return
    terminal.lines(
        [("Arm", chosen), ("Cases", f"{len(cases) - synthetic} real, {synthetic} synthetic"), ("Written", str(target))]
    )


def channel_names(case: Case) -> list[str]:
    """Return the channels' names as nnU-Net takes them: it normalises ``CT`` by its own rule."""
    if case.image.channels == 3:
        return ["R", "G", "B"]
    first = case.modality or "image"
    return [first] if case.image.channels == 1 else [f"{first} {i}" for i in range(case.image.channels)]


def engines(as_json: bool) -> None:
    """List the kinds of engines, and of the anatomies that draw label maps for them."""
    made_by = {kind: load("engines", kind) for kind in kinds("engines")}
    rows = [
        {
            "kind": kind,
            "modalities": list(cls.modalities),
            "dimensions": list(cls.dimensions),
            "needs": cls.needs,
            "does": _first_line(cls),
        }
        for kind, cls in made_by.items()
    ]
    anatomies = [{"kind": kind, "does": _first_line(load("anatomies", kind))} for kind in kinds("anatomies")]
    if as_json:
        terminal.as_json({"engines": rows, "anatomies": anatomies})
        return
    said: list[tuple[str, str]] = []
    for row in rows:
        dimensions = " and ".join(f"{d}-D" for d in row["dimensions"])
        said.append((row["kind"], row["does"]))
        said.append(("", f"{', '.join(row['modalities'])}; {dimensions}. Needs: {row['needs']}"))
    if anatomies:
        said += [("", ""), ("Anatomies", "draw the label maps: anatomy = KIND, or --anatomy KIND")]
        said += [(row["kind"], row["does"]) for row in anatomies]
    if said:
        terminal.lines(said)


def _first_line(cls: type) -> str:
    """Return what a kind does, as its documentation says first."""
    return (cls.__doc__ or "").strip().splitlines()[0]


def _run(plan: Plan, toml: str, folder: Path, root: Path, on: str, workers: int, as_json: bool, command: str) -> None:
    with (
        closing(make_runner(on, workers)) as runner,
        Workspace(folder) as workspace,
        terminal.progress(as_json) as told,
    ):
        prepared = prepare(plan, root, workspace.path / "objects", told)
        power = checks.planned(plan, prepared.split)
        if not as_json:
            terminal.error.print(power.sentence)
        finished = run(prepared, workspace, runner, toml, root, told, command)
        findings = tell(finished, workspace, toml, command)
        report = write_report(findings, workspace.path / "reports")
    if as_json:
        terminal.as_json({"report": str(report), "verdict": findings.verdict, "status": findings.status})
        return
    terminal.lines(seven_lines(findings, report, folder))
    terminal.open_page(report)


def seven_lines(findings: Findings, report: Path, folder: Path) -> list[tuple[str, str]]:
    """Return what the terminal says at the end, in this order."""
    best = findings.headline
    arm = "none could be compared"
    if best is not None:
        arm = f"{best.arm} at n = {best.n}: {findings.metric.title} {words(best.mean)}"
        if best.difference is not None:
            arm += f", {words(best.difference)} from real alone"
    return [
        ("Verdict", findings.verdict[0]),
        ("Best arm", arm),
        ("Exchange rate", findings.exchange.message),
        ("Next purchase", findings.advice.sentence),
        ("Privacy", findings.lights["privacy"][0]),
        ("Report", str(report)),
        ("Export", f"equipoise export nnunet {folder} --arm best"),
    ]


def _dry_run(plan: Plan, root: Path, folder: Path, on: str, workers: int, as_json: bool) -> None:
    with closing(make_runner(on, workers)) as runner, terminal.progress(as_json) as told:
        prepared = prepare(plan, root, folder / "objects", told)
        cost = estimate_cost(prepared, runner)
    power = checks.planned(plan, prepared.split)
    if as_json:
        from dataclasses import asdict

        terminal.as_json({**asdict(cost), "power": asdict(power), "plan": plan.hash})
        return
    terminal.lines(
        [
            ("Arms", f"{cost.arms} arms and sizes, {cost.trainings} trainings with {plan.arms.replicates} replicates"),
            ("Time", f"about {_hours(cost.hours)} on {cost.workers} process(es)"),
            ("Memory", terminal.size(cost.memory)),
            ("Disk", terminal.size(cost.disk)),
            *_engine_lines(cost.engines),
            ("Money", f"{cost.money:,.2f} {cost.currency} for annotation and synthetic cases, by the plan's prices"),
            ("Power", power.sentence),
        ]
    )


def _engine_lines(engines: Sequence[EngineCost]) -> list[tuple[str, str]]:
    """Return what the fits of each engine that trains a network will take, and what it chose to fit this machine."""
    lines: list[tuple[str, str]] = []
    for engine in engines:
        each = f" ({_hours(engine.hours / engine.fits)} each)" if engine.fits > 1 else ""
        fits = f"{engine.fits} fit{'s' if engine.fits > 1 else ''} of {engine.name}"
        room = f"{terminal.size(engine.memory)} of memory, {terminal.size(engine.disk)} of disk"
        lines.append(("Training engines" if not lines else "", f"{fits}: about {_hours(engine.hours)}{each}, {room}"))
        lines += [("", f"{engine.name}: {choice}") for choice in engine.choices]
    return lines


def _hours(hours: float) -> str:
    return f"{hours:.1f} h" if hours >= 1 else f"{60 * hours:.1f} min"


def _existing(folder: Path) -> Workspace:
    """Return a workspace that is there already; asking about one must not make one."""
    if not (folder / "equipoise.db").exists():
        raise WorkspaceError(
            "there is no experiment in this folder", file=folder, fix="run `equipoise compare PLAN` or `equipoise demo`"
        )
    return Workspace(folder)


def _stored(folder: Path) -> tuple[Plan, str, Path, str]:
    """Return the newest plan of a workspace, its text, the folder its data paths start from, and its command."""
    with _existing(folder) as workspace:
        plans = workspace.plans()
        if not plans:
            raise WorkspaceError("no plan was started in this folder", file=folder, fix="run `equipoise compare PLAN`")
        newest, toml = plans[-1]
        sealed = workspace.sealed(newest)
    try:
        plan = parse_plan(tomllib.loads(toml))
        return plan, toml, Path(sealed.get("root") or "."), str(sealed.get("command") or "")
    except tomllib.TOMLDecodeError as error:
        raise PlanError(f"the stored plan is damaged: {error}", file=folder) from error


def finished_experiment(folder: Path) -> Finished:
    """Return the finished experiment of a workspace."""
    with _existing(folder) as workspace:
        return _finished(folder, workspace)


def _finished(folder: Path, workspace: Workspace) -> Finished:
    """Return the finished experiment of a workspace; nothing is trained."""
    plan, toml, root, _ = _stored(folder)
    prepared = prepare(plan, root, workspace.path / "objects")
    return run(prepared, workspace, InProcess(allowed=False), toml, root)

"""The ``equipoise`` command."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from equipoise import __version__
from equipoise.cli import terminal
from equipoise.errors import EquipoiseError

app = typer.Typer(
    name="equipoise",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Fair trials of training data for medical-imaging AI: synthetic, real, or which mix of both.",
)
export = typer.Typer(no_args_is_help=True, help="Write the winning mix for another trainer.")
app.add_typer(export, name="export")
engines = typer.Typer(invoke_without_command=True)
app.add_typer(engines, name="engines")

PlanFile = Annotated[Path, typer.Argument(help="The plan, a TOML file.")]
Folder = Annotated[Path | None, typer.Option("--workspace", "-w", help="Project folder; default: the plan's name.")]
Data = Annotated[Path | None, typer.Option("--data", help="Folder that the plan's data paths start from.")]
On = Annotated[str, typer.Option("--on", help="Where tasks run: process, processes, ray.")]
Workers = Annotated[int, typer.Option("--workers", help="Processes of one thread each; 0 is one per core.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print what it would take, and train nothing.")]
Budget = Annotated[float | None, typer.Option("--budget", help="Money to spend, in the plan's currency.")]


@app.command()
def demo(
    workspace: Annotated[Path, typer.Option("--workspace", "-w", help="Project folder.")] = Path("demo"),
    on: On = "processes",
    workers: Workers = 0,
    lidc: Annotated[Path | None, typer.Option("--lidc", help="Folder of the real LIDC-IDRI DICOM files.")] = None,
    json: AsJson = False,
    dry_run: DryRun = False,
) -> None:
    """Run the whole story on the embedded default: real annotation, simulated pixels."""
    from equipoise.cli import work

    command = "equipoise demo" + (" --lidc DIR" if lidc else "")
    plan = work.demo_plan(lidc)
    work.compare(plan, workspace, lidc, on, workers, as_json=json, dry_run=dry_run, command=command)


@app.command()
def compare(
    plan: PlanFile,
    workspace: Folder = None,
    data: Data = None,
    on: On = "processes",
    workers: Workers = 0,
    json: AsJson = False,
    dry_run: DryRun = False,
) -> None:
    """Compare real, synthetic and mixed training data on your own annotated images, and write the report."""
    from equipoise.cli import work

    folder = workspace or Path(f"{plan.stem}.equipoise")
    work.compare(plan, folder, data, on, workers, as_json=json, dry_run=dry_run)


@app.command()
def plan(
    plan: PlanFile,
    workspace: Folder = None,
    data: Data = None,
    on: On = "processes",
    workers: Workers = 0,
    json: AsJson = False,
) -> None:
    """Print what a plan would take on this machine (time, memory, disk, money) and could show; nothing is trained."""
    compare(plan, workspace, data, on, workers, json, dry_run=True)


@app.command()
def resume(
    workspace: Annotated[Path, typer.Argument(help="Project folder.")] = Path("demo"),
    on: On = "processes",
    workers: Workers = 0,
    json: AsJson = False,
) -> None:
    """Go on where a run was stopped; finished tasks are not done again."""
    from equipoise.cli import work

    work.resume(workspace, on, workers, as_json=json)


@app.command()
def recommend(
    workspace: Annotated[Path, typer.Argument(help="Project folder of a finished experiment.")] = Path("demo"),
    budget: Budget = None,
    json: AsJson = False,
) -> None:
    """Say what to buy next for a budget: real annotations, a mix, or what to train first."""
    from equipoise.cli import work

    work.recommend(workspace, budget, as_json=json)


@export.command("nnunet")
def export_nnunet(
    workspace: Annotated[Path, typer.Argument(help="Project folder of a finished experiment.")] = Path("demo"),
    arm: Annotated[str, typer.Option("--arm", help="An arm's name, or best.")] = "best",
    out: Annotated[Path | None, typer.Option("--out", help="Folder to write; default: in the workspace.")] = None,
    number: Annotated[int, typer.Option("--number", help="nnU-Net data set number.", min=1, max=999)] = 501,
    label: Annotated[list[str] | None, typer.Option("--label", help="Write these labels only; repeatable.")] = None,
    json: AsJson = False,
) -> None:
    """Write an arm's training set as an nnU-Net v2 data set with its provenance."""
    from equipoise.cli import work

    work.export_nnunet(workspace, arm, out, number, label or [], as_json=json)


@app.command()
def check(
    path: Annotated[Path, typer.Argument(help="A folder, a CSV, a dataset.json, or a plan (.toml).")],
    data: Data = None,
    out: Annotated[Path | None, typer.Option("--out", help="Where to write check.html.")] = None,
    one_image_one_patient: Annotated[
        bool, typer.Option("--one-image-one-patient", help="State that no two images show one patient.")
    ] = False,
    json: AsJson = False,
) -> None:
    """Check annotated images before anything is trained on them; exit 1 if something was found."""
    from equipoise.cli import checking

    raise typer.Exit(checking.check(path, data, out, one_image_one_patient, as_json=json))


@engines.callback()
def list_engines(context: typer.Context, json: AsJson = False) -> None:
    """List the engines, what they make and need, and the anatomies that draw label maps for them."""
    from equipoise.cli import work

    if context.invoked_subcommand is None:
        work.engines(as_json=json)


@engines.command("import")
def engines_import(
    file: Annotated[Path, typer.Argument(help="Checkpoint (.pt, .safetensors), or a MONAI bundle: folder or zip.")],
    out: Annotated[Path, typer.Option("--out", help="File to write, .safetensors; must not exist.")],
    licence: Annotated[str | None, typer.Option("--licence", help="Of the weights; default: the bundle's own.")] = None,
    config: Annotated[Path | None, typer.Option("--config", help="JSON that defines the networks.")] = None,
    groups: Annotated[int | None, typer.Option("--groups", help="Of its normalisation, if no config.", min=1)] = None,
    json: AsJson = False,
) -> None:
    """Turn a MONAI bundle or a MAISI checkpoint into a file that `flow` starts from, with its hash and licence.

    Nothing in it is run: of a pickle, weights are read and nothing else.
    """
    from equipoise.cli import importing

    importing.import_checkpoint(file, out, licence, config, groups, as_json=json)


@app.command()
def sample(
    kind: Annotated[str, typer.Argument(help="Kind of engine; see `equipoise engines`.")],
    out: Annotated[Path, typer.Option("--out", help="Folder to write; must not exist.")],
    n: Annotated[int, typer.Option("--n", help="Number of cases.", min=1)] = 4,
    seed: Annotated[int, typer.Option("--seed", help="Same seed, same cases.")] = 0,
    anatomy: Annotated[
        str | None, typer.Option("--anatomy", help="Where label maps come from: a kind, or its specification in TOML.")
    ] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="A parameter, as name=value (TOML value).")] = None,
    plan: Annotated[Path | None, typer.Option("--plan", help="Fit on the training patients of this plan.")] = None,
    data: Data = None,
    fit: Annotated[
        Path | None, typer.Option("--fit", help="Fit on these annotated images: a folder, a CSV or a dataset.json.")
    ] = None,
    labels: Annotated[
        str | None, typer.Option("--labels", help="What is labelled in --fit, a TOML table: '{ vessel = \"mask\" }'.")
    ] = None,
    one_image_one_patient: Annotated[
        bool, typer.Option("--one-image-one-patient", help="State that no two images of --fit show one patient.")
    ] = False,
    keep: Annotated[
        Path | None, typer.Option("--keep", help="Keep the training here; the same command goes on where it stopped.")
    ] = None,
    preview: Annotated[bool, typer.Option("--preview", help="Open the contact sheet when it is finished.")] = False,
    json: AsJson = False,
) -> None:
    """Make synthetic annotated cases with one engine, with a contact sheet to look at.

    The folder says itself how it is read (equipoise.json) and that its cases are synthetic: `equipoise check DIR` takes
    it as it is, `kind = "folder"` reads it by its path alone, and a plan refuses it as real data. An engine that learns
    is fitted first: `equipoise sample diffusion --fit DIR --keep TRAINING --out MADE --preview`.
    """
    from equipoise.cli import sampling

    fitting = sampling.Fitting(fit, labels, one_image_one_patient, keep)
    sampling.sample(
        kind, out, n, seed, set_ or [], plan, data, as_json=json, anatomy=anatomy, preview=preview, fit=fitting
    )


@app.command()
def docs(out: Annotated[Path, typer.Argument(help="Markdown file to write.")]) -> None:
    """Write the reference of commands, plan keys and kinds."""
    from equipoise.cli import reference

    reference.write(app, out)


@app.callback(invoke_without_command=True)
def _version(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        terminal.out.print(__version__)
        raise typer.Exit


def main() -> None:
    """Run the command line; what went wrong is said in one message, never as a traceback."""
    try:
        app()
    except EquipoiseError as error:
        terminal.fail(error, as_json="--json" in sys.argv)
        sys.exit(2)
    except KeyboardInterrupt:
        terminal.error.print("Stopped. Everything finished is kept: `equipoise resume WORKSPACE` goes on.")
        sys.exit(130)

"""``equipoise sample``: cases of one engine as files, with a contact sheet to look at."""

from __future__ import annotations

import base64
import csv
import io
import json
import math
import shutil
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image as Picture
from PIL import ImageDraw

from equipoise.cli import terminal
from equipoise.core import Case, rng_for
from equipoise.core.registry import make
from equipoise.errors import EngineError, EquipoiseError, LabelError, PlanError, WorkspaceError
from equipoise.experiment.data import part_cases
from equipoise.experiment.plan import load_plan
from equipoise.experiment.preparation import prepare
from equipoise.formats.nifti import write_nifti
from equipoise.report.pictures import picture

CELL = 200
"""Side of one picture of the contact sheet, in pixels."""

OUTLINE = (255, 196, 0)


def sample(
    kind: str,
    out: Path,
    n: int,
    seed: int,
    settings: Sequence[str],
    plan: Path | None,
    data: Path | None,
    as_json: bool,
) -> None:
    """Write ``n`` cases of an engine, their table and a contact sheet."""
    if out.exists():
        raise WorkspaceError("this already exists and is not overwritten", file=out, fix="name a new folder with --out")
    engine = make("engines", {"kind": kind, **_parameters(settings)})
    with terminal.progress(as_json) as told:
        real = _training_cases(plan, data)
        try:
            cases = []
            # Without a plan an engine samples from what it knows unfitted, if it knows anything.
            ready = engine.fit(real, rng_for(seed, "fit")) if real else engine
            for case in ready.sample(n, rng_for(seed, "sample")):
                cases.append(case)
                told("sampling", len(cases), n, 0.0)
        except EngineError as error:
            if real:
                raise
            fix = f"fit it on training patients: equipoise sample {kind} --plan PLAN --data DIR --out {out}"
            raise EngineError(error.message, why=error.why, fix=fix) from error
        except EquipoiseError:
            raise
        except Exception as error:  # an engine may be anybody's plug-in
            raise EngineError(f"engine {kind!r} failed: {type(error).__name__}: {error}") from error
        _write(cases, out, getattr(engine, "simulates", False))
    if as_json:
        terminal.as_json({"path": str(out), "cases": len(cases), "contact_sheet": str(out / "contact_sheet.png")})
        return
    terminal.lines(
        [("Cases", f"{len(cases)} synthetic"), ("Written", str(out)), ("Look", str(out / "contact_sheet.png"))]
    )


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


def _write(cases: Sequence[Case], out: Path, simulated: bool) -> None:
    """Write everything to a temporary folder beside ``out`` and rename it."""
    temporary = out.with_name(f".{out.name}.writing")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        for folder in ("images", "labels"):
            (temporary / folder).mkdir(parents=True)
        rows = [_write_case(case, temporary) for case in cases]
        columns = list(dict.fromkeys(name for row in rows for name in row))
        with (temporary / "index.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(rows)
        contact_sheet(cases, simulated).save(temporary / "contact_sheet.png")
        temporary.rename(out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write_case(case: Case, folder: Path) -> dict[str, Any]:
    write_nifti(folder / "images" / f"{case.id}.nii.gz", case.image)
    row: dict[str, Any] = {"case": case.id, "patient": case.patient, "image": f"images/{case.id}.nii.gz"}
    try:
        write_nifti(folder / "labels" / f"{case.id}.nii.gz", case.labels)
        row["label"] = f"labels/{case.id}.nii.gz"
    except LabelError:  # overlapping labels: one file each
        for label in case.labels.scheme.labels:
            name = f"labels/{case.id}_{label.name.replace(' ', '_')}.nii.gz"
            alone = type(case.labels).from_values(
                case.labels.geometry,
                case.labels.mask(label.name).astype(int),
                type(case.labels.scheme).of([label.name]),
            )
            write_nifti(folder / name, alone)
            row[f"label {label.name}"] = name
    origin = case.origin
    return {
        **row,
        "origin": origin.kind,
        "engine": origin.engine,
        "seed": origin.seed,
        "parents": json.dumps(sorted(origin.parents)),
        "licence": case.licence,
    }


def contact_sheet(cases: Sequence[Case], simulated: bool = False) -> Picture.Image:
    """Return the cases side by side with thin outlines of their labels, each marked as what it is."""
    columns = math.ceil(math.sqrt(len(cases) * 1.4))
    rows = math.ceil(len(cases) / columns)
    sheet = Picture.new("RGB", (columns * CELL, rows * (CELL + 14)), (24, 24, 24))
    draw = ImageDraw.Draw(sheet)
    word = "simulated" if simulated else "synthetic"
    for number, case in enumerate(cases):
        shown = picture(case, "synthetic", {"truth": case.labels}, simulated=simulated)
        image = Picture.open(io.BytesIO(base64.b64decode(shown.png))).convert("RGB")
        scale = CELL / max(image.size)
        size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        x, y = number % columns * CELL, number // columns * (CELL + 14)
        sheet.paste(image.resize(size, Picture.Resampling.NEAREST), (x, y))
        for outline in shown.outlines:
            for path in outline.paths:
                draw.line([(x + px * scale, y + py * scale) for px, py in path], fill=OUTLINE, width=1)
        draw.text((x + 3, y + CELL + 1), f"{word}: {case.origin.engine}"[: CELL // 7], fill=(220, 220, 220))
    return sheet

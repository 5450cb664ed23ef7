"""One fit of `learned_gallery.py`, in a process of its own: fitted, measured, and its images drawn."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import math
import os
import resource
import sys
import time
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as Picture
from PIL import ImageDraw

from equipoise.cli.contact_sheet import BACK, CELL, LINE, TEXT
from equipoise.core import Case, Image, LabelMap, rng_for
from equipoise.core.registry import canonical, kinds, load, make, parameters
from equipoise.engines.parts.learned.keeping import heard_by, kept_in
from equipoise.errors import PlanError
from equipoise.experiment.data import part_cases
from equipoise.experiment.plan import Plan, parse_plan
from equipoise.experiment.preparation import prepare
from equipoise.report.pictures import picture, view_of

PER_ROW, SEED, TELL_EVERY_S = 6, 1, 5.0


@dataclass(frozen=True, slots=True)
class Fitting:
    """A fit to be done.

    Parameters
    ----------
    name, plan, data
        Of the entry; the plan's file, and the folder that its data paths start from.
    spec
        Of the engine.
    most
        Training patients at most.
    shows_real
        Whether the set's licence lets a picture of it stand in the repository.
    keep
        Folder of checkpoints; ``None`` keeps nothing.
    key
        Hash of all that decides the sheet.
    """

    name: str
    plan: Path
    data: Path
    spec: Mapping[str, Any]
    most: int
    shows_real: bool
    keep: Path | None
    key: str


def fitting_of(
    entry: Mapping[str, Any], file: Path, kind: str, data: Path, keep: Path | None, steps: int | None
) -> Fitting:
    """Return what fitting an engine for an entry takes; `PlanError` if its plan has no engine of this kind."""
    plan = plan_of(file)
    specs = [dict(e.spec) for e in plan.engines.values() if e.spec["kind"] == kind]
    if not specs:
        raise PlanError(f"the plan has no engine of kind {kind!r}", file=file, fix=f"add [engines.{kind}] to it")
    spec = specs[0]
    if steps is not None:
        # All stages of an engine that trains in several.
        stages = [n for n in parameters(load("engines", kind)) if n == "steps" or n.endswith("_steps")]
        spec |= {name: steps for name in stages if name != "sampling_steps"}
    decides = [canonical(spec), canonical(plan.data), plan.split.model_dump(), plan.seed, entry["most"], PER_ROW, SEED]
    key = hashlib.sha256(json.dumps([*decides, "attribution" in entry]).encode()).hexdigest()
    return Fitting(entry["name"], file, data, spec, entry["most"], "attribution" in entry, keep, key)


def plan_of(file: Path) -> Plan:
    """Return a plan without those of its engines that are not registered: they are not needed here."""
    content = tomllib.loads(file.read_text(encoding="utf-8"))
    content["engines"] = {name: e for name, e in content["engines"].items() if e["kind"] in kinds("engines")}
    return parse_plan(content, file)


def fitted_and_drawn(fitting: Fitting, sheet: Path, triples: Path | None = None) -> dict[str, Any]:
    """Fit an engine, draw the sheet that may be shown, and the one with real pictures where a file for it is named.

    Parameters
    ----------
    fitting
        What to do.
    sheet
        PNG of label maps and the images made under them; of real pictures too where the licence lets them.
    triples
        PNG of real | label map | synthetic.

    Returns
    -------
    dict
        What the page shows: how the training went, what it took, on what machine.
    """
    plan = plan_of(fitting.plan)
    prepared = prepare(plan, fitting.data, Path())
    train = sorted(prepared.split.train)
    people = [train[i] for i in rng_for(SEED, "patients", fitting.name).permutation(len(train))][: fitting.most]
    cases = part_cases(prepared.context.source, frozenset(people))
    held_out = spread(part_cases(prepared.context.source, prepared.split.validation))
    engine = make("engines", fitting.spec)
    with kept_in(fitting.keep), timed(fitting) as took:
        engine = engine.fit(cases, rng_for(SEED, "fit", fitting.name))
    history = engine.history
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**30 if sys.platform == "darwin" else 2**20)
    real = [window(case, patch_of(fitting.spec), rng_for(SEED, "window", case.id)) for case in held_out]
    start = time.perf_counter()
    under_real = list(engine.sample(len(real), rng_for(SEED, "sample", fitting.name), [c.labels for c in real]))
    each = (time.perf_counter() - start) / len(real)
    if fitting.shows_real:
        drawn(fitting.spec, under_real, real).save(sheet)
    else:
        shapes = [deformed(case, patch_of(fitting.spec), rng_for(SEED, "deformed", case.id)) for case in held_out]
        drawn(fitting.spec, list(engine.sample(len(shapes), rng_for(SEED, "shown", fitting.name), shapes))).save(sheet)
    if triples is not None:
        triples.parent.mkdir(parents=True, exist_ok=True)
        drawn(fitting.spec, under_real, real).save(triples)
    return {
        "plan": plan.title,
        "patients": len(people),
        "images": len(cases),
        "shape": list(real[0].image.geometry.shape),
        "spec": dict(fitting.spec),
        "seconds": took[0],
        "peak_gb": peak,
        "sample_s": each,
        "looks": [[x["step"], finite(x["distance"]), finite(x["diversity"])] for x in history["looks"]],
        "best_step": history["best_step"],
        "stopped": history["stopped"],
        "choices": history["choices"],
        "shows_real": fitting.shows_real,
        **machine(fitting.spec),
    }


# --- label maps of held-out patients ---------------------------------------------------------------------------------


def spread(cases: Sequence[Case]) -> list[Case]:
    """Return some cases, of as many patients as there are."""
    order = [cases[i] for i in rng_for(SEED, "held out").permutation(len(cases))]
    turn: dict[str, int] = {}
    ranks = []
    for case in order:
        turn[case.patient] = turn.get(case.patient, -1) + 1
        ranks.append(turn[case.patient])
    return [order[i] for i in np.argsort(ranks, kind="stable")[:PER_ROW]]


def patch_of(spec: Mapping[str, Any]) -> int:
    """Return the side of the patches that an engine's anatomy draws, 0 for whole maps."""
    anatomy = spec.get("anatomy", {})
    return int(anatomy.get("patch", 0)) if isinstance(anatomy, Mapping) else 0


def window(case: Case, patch: int, rng: np.random.Generator) -> Case:
    """Return a case, or a window of it around a label."""
    anatomy = make("anatomies", {"kind": "real", "patch": patch, "foreground": 1.0}).fit([case], rng)
    ((labels, placement),) = anatomy.draw_placed(1, rng)
    first = np.rint(placement.offset).astype(int)
    box = tuple(slice(int(a), int(a) + n) for a, n in zip(first, placement.shape, strict=True))
    image = Image.on(labels.geometry, np.ascontiguousarray(case.image.array[:, *box]))
    return Case(case.id, case.patient, image, labels, modality=case.modality)


def deformed(case: Case, patch: int, rng: np.random.Generator) -> LabelMap:
    """Return a case's label map, or a window of it, turned and deformed: nobody's drawing is passed on."""
    anatomy = make("anatomies", {"kind": "warped", "patch": patch, "foreground": 1.0}).fit([case], rng)
    labels: LabelMap = next(anatomy.draw(1, rng))
    return labels


# --- the sheet -------------------------------------------------------------------------------------------------------


def drawn(spec: Mapping[str, Any], made: Sequence[Case], real: Sequence[Case] = ()) -> Picture.Image:
    """Return rows of real images, where there are any, of label maps, and of the images made under them."""
    rows = [("real, held out", [grey(case, "real") for case in real])] if real else []
    rows.append((f"label maps of held-out patients{'' if real else ', deformed'}", [coloured(c.labels) for c in made]))
    rows.append((f"synthetic: {spec['kind']}", [grey(case, "synthetic") for case in made]))
    high = [max(part.height for part in parts) + LINE + 4 for _, parts in rows]
    sheet = Picture.new("RGB", (len(made) * CELL, sum(high)), BACK)
    draw, top = ImageDraw.Draw(sheet), 0
    for (title, parts), height in zip(rows, high, strict=True):
        draw.text((3, top + 1), title, fill=TEXT)
        for number, part in enumerate(parts):
            sheet.paste(part, (number * CELL, top + LINE + 2))
        top += height
    return sheet


def grey(case: Case, role: Any) -> Picture.Image:
    """Return an image as the report shows one, at the slice where the labels are largest."""
    shown = picture(case, role, {})
    with Picture.open(io.BytesIO(base64.b64decode(shown.png))) as opened:
        return fitted_in(opened.convert("RGB"))


def coloured(labels: LabelMap) -> Picture.Image:
    """Return a label map in colours, at the slice that `grey` shows."""
    from equipoise.engines.parts.learned.grid import PLANE_COLOURS

    masks = labels.masks()
    view = view_of(labels.geometry, np.any(masks, axis=0, keepdims=True)[0])
    flat = np.zeros((*view.show(masks[0]).shape, 3), np.uint8)
    # The largest first: labels may lie within one another, a lesion within its organ.
    for number in sorted(range(len(masks)), key=lambda number: -int(masks[number].sum())):
        flat[view.show(masks[number]) > 0] = PLANE_COLOURS[number % len(PLANE_COLOURS)]
    return fitted_in(Picture.fromarray(flat), Picture.Resampling.NEAREST)


def fitted_in(image: Picture.Image, shrink: Picture.Resampling = Picture.Resampling.BOX) -> Picture.Image:
    """Return a picture that fits a cell: shrunk by averaging, enlarged as it is."""
    scale = (CELL - 4) / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, shrink if scale < 1 else Picture.Resampling.NEAREST)


# --- what it took ----------------------------------------------------------------------------------------------------


@contextmanager
def timed(fitting: Fitting) -> Iterator[list[float]]:
    """Yield a list that holds, after the block, the seconds that the fit took over all interruptions; tell progress."""
    file = None if fitting.keep is None else fitting.keep / f"{fitting.key}.seconds"
    before = float(file.read_text()) if file is not None and file.exists() else 0.0
    begun = told = time.perf_counter()
    took = [before]

    def note() -> None:
        took[0] = before + time.perf_counter() - begun
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(f"{took[0]:.1f}")

    def heard(step: int, steps: int, left: float) -> None:
        nonlocal told
        if time.perf_counter() - told > TELL_EVERY_S:
            told = time.perf_counter()
            note()
            who = f"{fitting.name}, {fitting.spec['kind']}"
            sys.stderr.write(f"{who}: step {step} of {steps}, {left / 60:.0f} min left\n")

    with heard_by(heard):
        yield took
    note()


def machine(spec: Mapping[str, Any]) -> dict[str, str]:
    """Return where this ran, and whether on a processor or a card."""
    import torch

    if spec.get("device", "cpu" if spec.get("preset", "cpu-small") == "cpu-small" else "cuda") != "cpu":
        return {"device": "GPU", "machine": torch.cuda.get_device_name()}
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {"device": "CPU", "machine": f"one thread on a machine of {cores} cores, no GPU"}


def finite(value: float) -> float | None:
    """Return a number, or ``None`` where it is none: JSON has no NaN."""
    return float(value) if math.isfinite(value) else None

"""Draw the gallery of simulated images: ``python evidence/gallery.py [--data DIR] [--only MODALITY] [--look DIR]``.

Writes ``docs/gallery/<modality>.jpg`` and ``docs/gallery.md`` from the entries of ``evidence/gallery.toml``. With
``--data`` (the folder that the plans' data paths start from), half of each plan's training patients are learned from,
and a small classifier tries to tell simulated images from the other half's; its area under the curve is kept in
``evidence/gallery.json``. What ``python benchmarks/simulation_cost.py --write`` has measured is shown below. With
``--look`` real and simulated pictures are laid side by side in a folder of your own: real pictures never enter the
repository.
"""

from __future__ import annotations

import argparse
import io
import json
import statistics
import sys
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from PIL import Image as Picture

from equipoise.cli.contact_sheet import contact_sheet
from equipoise.core import Case, LabelMap, LabelScheme, rng_for
from equipoise.core.registry import kinds, make
from equipoise.errors import EquipoiseError, PlanError
from equipoise.experiment.data import part_cases
from equipoise.experiment.plan import load_plan
from equipoise.experiment.preparation import prepare
from equipoise.features import tell_apart

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
PER_ROW, LARGEST, SEED = 4, 150_000, 1
OPENING = """\
# Gallery of simulated images

Every picture on this page is simulated; no patient is shown. Outlines are the exact labels, in the colours named below
each sheet; under every picture stand its engine and the scanner profile that it was drawn from. Of torso and head some
labels only are outlined. Where many are, the picture is shown without outlines as well. Drawn by
`python evidence/gallery.py`.

## Told from real images

A small linear classifier on hand-made features (`equipoise.features.tell_apart`) sees simulated images and real ones
of patients that the simulator was not fitted on. An area under the curve of 0.5 means that it cannot tell them apart,
1 that it always can. This describes fidelity; it says nothing about what the images are worth for training, which
`docs/evidence.md` measures. Intervals are 95 %, by bootstrap over patients. Unfitted images show procedural anatomy,
fitted ones deformed label maps of the training patients, so the two differ in anatomy too.

| modality | real images | patients | unfitted | fitted |
|---|---|---|---|---|"""
ENTRIES, MEASURED, COST = HERE / "gallery.toml", HERE / "gallery.json", HERE / "cost.json"


def draw(entry: Mapping[str, Any], folder: Path) -> list[str]:
    """Write the sheet of a modality, at most `LARGEST` bytes; return what its rows show."""
    cases: list[Case] = []
    shown = []
    for row in entry["row"]:
        try:
            engine = make("engines", {"kind": entry["engine"], **row.get("parameters", {})})
            made = engine.sample(PER_ROW, rng_for(SEED, entry["name"], row["shows"]))
            cases += [outlined(case, entry.get("outline", ())) for case in made]
            shown.append(row["shows"])
        except EquipoiseError as error:
            say(f"{entry['name']}, {row['shows']}: left out, {error.message}")
    if cases:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{slug(entry['name'])}.jpg").write_bytes(
            compressed(contact_sheet(cases, simulated=True, columns=PER_ROW))
        )
    return shown


def outlined(case: Case, names: Sequence[str]) -> Case:
    """Return a case with these of its labels only; with all of them if none is named."""
    labels = case.labels
    kept = [name for name in labels.scheme.names if name in names]
    if not kept:
        return case
    channels = [labels.scheme.channel(name) for name in kept]
    scheme = LabelScheme.of({name: labels.scheme.as_dict()[name] for name in kept}, labels.scheme.exclusive)
    return replace(case, truth=LabelMap.on(labels.geometry, labels.array[channels], scheme))


def compressed(sheet: Picture.Image) -> bytes:
    """Return a JPEG of at most `LARGEST` bytes: as good as that allows, and then smaller."""
    while True:
        for quality in (90, 80, 70, 60):
            out = io.BytesIO()
            sheet.save(out, "JPEG", quality=quality, optimize=True)
            if out.tell() <= LARGEST:
                return out.getvalue()
        sheet = sheet.resize((sheet.width * 4 // 5, sheet.height * 4 // 5), Picture.Resampling.LANCZOS)


def measure(entry: Mapping[str, Any], data: Path, most: int, look: Path | None) -> dict[str, Any]:
    """Return how well simulated images are told from real ones, unfitted and fitted on other patients."""
    real = entry["real"]
    prepared = prepare(load_plan(ROOT / real["plan"]), data, Path())
    train = sorted(prepared.split.train)
    people = [train[i] for i in rng_for(SEED, "halves", entry["name"]).permutation(len(train))][: 2 * most]
    learned, held_out = (
        part_cases(prepared.context.source, frozenset(half))
        for half in (people[: len(people) // 2], people[len(people) // 2 :])
    )
    found: dict[str, Any] = {"plan": prepared.context.plan.title, "patients": len(people) - len(people) // 2}
    for how in ("unfitted", "fitted"):
        engine = make("engines", {"kind": entry["engine"], **real[how]})
        if how == "fitted":
            engine = engine.fit(learned, rng_for(SEED, "fit", entry["name"]))
        made = list(engine.sample(len(held_out), rng_for(SEED, how, entry["name"])))
        apart = tell_apart(held_out, made, rng_for(SEED, "apart", entry["name"]))
        found[how] = {"auc": apart.auc, "low": apart.low, "high": apart.high, "images": [apart.real, apart.simulated]}
        say(f"{entry['name']}, {how}: AUC {apart.auc:.2f} [{apart.low:.2f}, {apart.high:.2f}]")
        if look is not None:
            look.mkdir(parents=True, exist_ok=True)
            contact_sheet(held_out[:12]).save(look / f"{slug(entry['name'])}_real.png")
            contact_sheet(made[:12], simulated=True).save(look / f"{slug(entry['name'])}_{how}.png")
    return found


def page(entries: Sequence[Mapping[str, Any]], measured: Mapping[str, Any]) -> str:
    """Return ``docs/gallery.md``."""
    lines = [OPENING]
    for entry in entries:
        if "real" in entry:
            kept = measured.get(entry["name"], {}).get("told_apart")
            cells = [kept["plan"], str(kept["patients"])] if kept else ["not measured", ""]
            cells += [area(kept[how]) if kept else "" for how in ("unfitted", "fitted")]
            lines.append(f"| {' | '.join([entry['name'], *cells])} |")
    for entry in entries:
        name = entry["name"]
        file = ROOT / "docs" / "gallery" / f"{slug(name)}.jpg"
        shown = measured.get(name, {}).get("shows")
        if not shown or not file.exists():
            continue
        rows = "; ".join(shown)
        alt = f"Simulated {name} images with outlines of their labels"
        lines += ["", f"## {name}", "", f"`{entry['engine']}`, simulated: {rows}.", ""]
        lines.append(f"![{alt}](gallery/{file.name})")
    if COST.exists():
        names = {entry["engine"]: entry["name"] for entry in entries}
        lines += cost(json.loads(COST.read_text(encoding="utf-8")), names)
    return "\n".join(lines) + "\n"


def cost(rows: Sequence[Mapping[str, Any]], names: Mapping[str, str]) -> list[str]:
    """Return the section on what a case costs: a sentence, the figure, and the table folded away."""

    def spread(form: str, n: int) -> tuple[str, float]:
        chosen = [row for row in rows if (row["form"], row["n"]) == (form, n)]
        times = [statistics.median(row["render_s"]) for row in chosen]
        return f"{duration(min(times))} to {duration(max(times))}", max(row["peak_gb"] for row in chosen)

    picture, volume = spread("picture", 256), spread("volume", 256)
    lines = ["", "## What a case costs", ""]
    lines += [
        f"On one thread a simulated picture of 256² takes {picture[0]} of CPU by modality, a volume of 256³",
        f"{volume[0]} and at most {volume[1]:.2f} GB of memory with Python and all libraries. Times are of the",
        "rendering of a given label map, as medians, with each repeat as a dot and their range as a line;",
        "`python benchmarks/simulation_cost.py` prints them and says what is shown at which size. An X-ray of a volume",
        "is a picture of 256².",
        "",
        "![CPU time and peak memory of simulated cases against their size](gallery/cost.svg)",
        "",
        "<details><summary>Table</summary>",
        "",
        "| modality | size | CPU time | repeats | label map drawn in | peak memory |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        times, size = row["render_s"], f"{row['n']}{'³' if row['form'] == 'volume' else '²'}"
        cells = [names[row["kind"]], size, duration(statistics.median(times)), str(len(times))]
        cells += [duration(row["anatomy_s"]), f"{row['peak_gb']:.2f} GB"]
        lines.append(f"| {' | '.join(cells)} |")
    return [*lines, "", "</details>"]


def duration(seconds: float) -> str:
    """Return a time in ms, or in s from one second on."""
    return f"{seconds:.1f} s" if seconds >= 1 else f"{1000 * seconds:.0f} ms"


def area(kept: Mapping[str, Any]) -> str:
    """Return an area under the curve with its interval."""
    return f"{kept['auc']:.2f} [{kept['low']:.2f}, {kept['high']:.2f}]"


def slug(name: str) -> str:
    """Return a modality's name as a file's."""
    return name.lower().replace(" ", "-")


def say(text: str) -> None:
    """Tell what is going on."""
    sys.stderr.write(text + "\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Draw, and measure where real data are at hand."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder that the plans' data paths start from")
    parser.add_argument("--only", action="append", help="a modality; repeatable")
    parser.add_argument("--most", type=int, default=40, help="patients in each half of the real images")
    parser.add_argument("--look", type=Path, help="folder outside the repository for real beside simulated pictures")
    parser.add_argument("--no-pictures", action="store_true", help="measure only")
    given = parser.parse_args(arguments)
    entries = tomllib.loads(ENTRIES.read_text(encoding="utf-8"))["modality"]
    measured = json.loads(MEASURED.read_text(encoding="utf-8")) if MEASURED.exists() else {}
    try:
        if given.look is not None and given.look.resolve().is_relative_to(ROOT):
            raise PlanError(
                "--look lies in the repository", why="real pictures must never be committed", fix="elsewhere"
            )
        names = [entry["name"] for entry in entries]
        for name in given.only or ():
            if name not in names:
                raise PlanError(f"no modality {name!r} in {ENTRIES.name}", fix=f"one of {', '.join(names)}")
    except PlanError as error:
        say(str(error))
        return 2
    for entry in entries:
        if given.only and entry["name"] not in given.only:
            continue
        if entry["engine"] not in kinds("engines"):
            say(f"{entry['name']}: left out, no engine {entry['engine']!r} is registered")
            continue
        kept = measured.setdefault(entry["name"], {})
        if not given.no_pictures:
            kept["shows"] = draw(entry, ROOT / "docs" / "gallery")
        if given.data is not None and "real" in entry:
            try:
                kept["told_apart"] = measure(entry, given.data, given.most, given.look)
            except EquipoiseError as error:
                say(f"{entry['name']}: not measured, {error}")
    MEASURED.write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")
    (ROOT / "docs" / "gallery.md").write_text(page(entries, measured), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

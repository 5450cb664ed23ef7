"""Draw the gallery of simulated images: ``python evidence/gallery.py [--data DIR] [--only MODALITY] [--look DIR]``.

Writes ``docs/gallery/<modality>.jpg`` and ``docs/gallery.md`` from the entries of ``evidence/gallery.toml``. With
``--data`` (the folder that the plans' data paths start from), half of each plan's training patients are learned from,
and a small classifier tries to tell simulated images from the other half's; its area under the curve is kept in
``evidence/gallery.json`` with its day and commit. Every modality is kept as soon as it is finished; after an
interruption ``--resume`` goes on with those that this commit has not drawn and measured yet. What
``python benchmarks/simulation_cost.py --write`` has measured is shown below. With ``--look`` real and simulated sheets
are laid side by side in a folder of your own: real pictures never enter the repository. ``--out`` writes the page, its
pictures and its figures elsewhere, for a trial.
"""

from __future__ import annotations

import argparse
import io
import json
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gallery_page import area, page, slug
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
PER_ROW, LARGEST, SEED, FOLDS = 4, 150_000, 1, 5
ENTRIES = HERE / "gallery.toml"


@dataclass(frozen=True, slots=True)
class Place:
    """Where the page, its pictures and its figures are written: the repository's own places, or one folder."""

    page: Path = ROOT / "docs" / "gallery.md"
    measured: Path = HERE / "gallery.json"

    @classmethod
    def of(cls, out: Path | None) -> Place:
        """Return the places in a folder of the user's."""
        return cls() if out is None else cls(out / "gallery.md", out / "gallery.json")

    @property
    def pictures(self) -> Path:
        """The folder of the sheets, which the page names relative to itself."""
        return self.page.parent / "gallery"

    def read(self) -> dict[str, Any]:
        """Return what was drawn and measured before."""
        kept: dict[str, Any] = json.loads(self.measured.read_text(encoding="utf-8")) if self.measured.exists() else {}
        return kept

    def write(self, entries: Sequence[Mapping[str, Any]], measured: Mapping[str, Any]) -> None:
        """Write figures and page."""
        self.page.parent.mkdir(parents=True, exist_ok=True)
        self.measured.write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")
        self.page.write_text(page(entries, measured, self.pictures), encoding="utf-8")


def draw(entry: Mapping[str, Any], folder: Path) -> list[str]:
    """Write the sheet of a modality, at most `LARGEST` bytes; return what its rows show."""
    cases: list[Case] = []
    shown = []
    for row in entry["row"]:
        try:
            engine = make("engines", {"kind": entry["engine"], **row.get("parameters", {})})
            made = engine.sample(PER_ROW, rng_for(SEED, entry["name"], row["shows"]))
            names = row.get("outline", entry.get("outline", ()))
            cases += [outlined(case, names) for case in told(made, f"{entry['name']}, {row['shows']}", PER_ROW)]
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
    name, real = entry["name"], entry["real"]
    prepared = prepare(load_plan(ROOT / real["plan"]), data, Path())
    train = sorted(prepared.split.train)
    people = [train[i] for i in rng_for(SEED, "halves", name).permutation(len(train))][: 2 * most]
    learned, held_out = (
        part_cases(prepared.context.source, frozenset(half))
        for half in (people[: len(people) // 2], people[len(people) // 2 :])
    )
    patients = len(people) - len(people) // 2
    found: dict[str, Any] = {"plan": prepared.context.plan.title, "patients": patients, **when()}
    if look is not None:
        look.mkdir(parents=True, exist_ok=True)
        contact_sheet(bare(held_out[:12])).save(look / f"{slug(name)}_real.png")
    for how in ("unfitted", "fitted"):
        engine = make("engines", {"kind": entry["engine"], **real[how]})
        if how == "fitted":
            say(f"{name}, fitted: learning from {len(learned)} images of {len(people) // 2} patients")
            engine = engine.fit(learned, rng_for(SEED, "fit", name))
        made = told(engine.sample(len(held_out), rng_for(SEED, how, name)), f"{name}, {how}", len(held_out))
        apart = tell_apart(held_out, made, rng_for(SEED, "apart", name), folds=min(FOLDS, patients))
        found[how] = {"auc": apart.auc, "low": apart.low, "high": apart.high, "images": [apart.real, apart.simulated]}
        say(f"{name}, {how}: AUC {area(found[how])}")
        if look is not None:
            shown = bare(made[:12], real.get("outline", ()))
            contact_sheet(shown, simulated=True).save(look / f"{slug(name)}_{how}.png")
    return found


def bare(cases: Sequence[Case], names: Sequence[str] = ()) -> list[Case]:
    """Return cases to look at: pictures without outlines; volumes with these labels, which choose the slice shown."""
    return [c.without_truth() if c.image.geometry.ndim == 2 else outlined(c, names) for c in cases]


def when() -> dict[str, str]:
    """Return the commit and the day; a commit whose sources were changed since is said to be so."""
    run = ["git", "-C", str(ROOT)]
    commit = subprocess.run([*run, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    changed = subprocess.run(
        [*run, "status", "--porcelain", "--", "src", "examples", "evidence/gallery.toml"],
        capture_output=True,
        text=True,
        check=False,
    )
    name = commit.stdout.strip() or "no commit"
    return {"commit": f"{name}, changed" if changed.stdout.strip() else name, "day": f"{datetime.now(UTC):%Y-%m-%d}"}


def told(cases: Iterable[Case], what: str, count: int) -> list[Case]:
    """Return all cases, telling every few seconds how many there are."""

    def counted() -> Iterator[Case]:
        start = last = time.monotonic()
        for number, case in enumerate(cases, 1):
            now = time.monotonic()
            if now - last > 5 or number == count:
                say(f"{what}: {number} of {count} in {now - start:.0f} s")
                last = now
            yield case

    return list(counted())


def say(text: str) -> None:
    """Tell what is going on."""
    sys.stderr.write(text + "\n")


def finished(entry: Mapping[str, Any], kept: Mapping[str, Any], given: argparse.Namespace) -> bool:
    """Return whether a modality was drawn and measured as it would be now: same entry, same commit, same number."""
    now = when()["commit"]
    drawn = given.no_pictures or kept.get("drawn") == now
    apart = kept.get("told_apart", {})
    measured = (
        given.data is None or "real" not in entry or (apart.get("commit"), apart.get("most")) == (now, given.most)
    )
    return bool(drawn and measured and not now.endswith("changed"))


def asked(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder that the plans' data paths start from")
    parser.add_argument("--only", action="append", help="a modality; repeatable")
    parser.add_argument("--resume", action="store_true", help="leave out what this commit has drawn and measured")
    parser.add_argument("--most", type=int, default=40, help="patients in each half of the real images")
    parser.add_argument("--look", type=Path, help="folder outside the repository for real beside simulated pictures")
    parser.add_argument("--out", type=Path, help="folder for page, pictures and figures, instead of the repository's")
    parser.add_argument("--no-pictures", action="store_true", help="measure only")
    return parser.parse_args(arguments)


def chosen(entries: Sequence[Mapping[str, Any]], given: argparse.Namespace) -> list[Mapping[str, Any]]:
    """Return the modalities to work on; `PlanError` where the command line names what is not there."""
    if given.look is not None and given.look.resolve().is_relative_to(ROOT):
        raise PlanError("--look lies in the repository", why="real pictures must never be committed", fix="elsewhere")
    names = [entry["name"] for entry in entries]
    for name in given.only or ():
        if name not in names:
            raise PlanError(f"no modality {name!r} in {ENTRIES.name}", fix=f"one of {', '.join(names)}")
    return [entry for entry in entries if not given.only or entry["name"] in given.only]


def main(arguments: Sequence[str] | None = None) -> int:
    """Draw, and measure where real data are at hand."""
    given = asked(arguments)
    entries = tomllib.loads(ENTRIES.read_text(encoding="utf-8"))["modality"]
    place = Place.of(given.out)
    measured = place.read()
    try:
        wanted = chosen(entries, given)
    except PlanError as error:
        say(str(error))
        return 2
    for entry in wanted:
        name = entry["name"]
        if entry["engine"] not in kinds("engines"):
            say(f"{name}: left out, no engine {entry['engine']!r} is registered")
            continue
        kept = measured.setdefault(name, {})
        if given.resume and finished(entry, kept, given):
            say(f"{name}: drawn and measured at this commit already")
            continue
        if not given.no_pictures:
            kept["shows"] = draw(entry, place.pictures)
            kept["drawn"] = when()["commit"]
            place.write(entries, measured)
        if given.data is not None and "real" in entry:
            try:
                kept["told_apart"] = {**measure(entry, given.data, given.most, given.look), "most": given.most}
            except EquipoiseError as error:
                say(f"{name}: not measured, {error}")
        place.write(entries, measured)
    place.write(entries, measured)
    return 0


if __name__ == "__main__":
    sys.exit(main())

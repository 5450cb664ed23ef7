"""Fit learned engines on six sets and draw what they make: ``python evidence/learned_gallery.py --data DIR``.

For every entry of ``evidence/learned_gallery.toml`` and each of `gan`, `diffusion` and `flow`, the engine of that name
in the entry's plan is fitted on training patients and renders the label maps of validation patients; sealed ones are
never read. Every fit is a process of its own, so that its peak memory is its own. Written are sheets in
``docs/learned/``, figures in ``evidence/learned_gallery.json`` and the page ``docs/learned.md``, after every fit.

What is done with these very settings is skipped; ``--again`` does it anew. With ``--keep DIR`` a fit that was killed
goes on from its checkpoint. Real pictures enter the repository only of sets whose licence lets them, which the entry
then says; the other sheets show label maps and synthetic images, and ``--look DIR`` has real | label map | synthetic.
``--out`` writes page, sheets and figures elsewhere, and ``--steps`` trains shorter, for a trial.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from gallery import compressed, say, when
from gallery_page import slug
from learned_drawing import Fitting, fitted_and_drawn, fitting_of
from learned_page import ENGINES, page
from PIL import Image as Picture

from equipoise.core.registry import kinds
from equipoise.errors import EquipoiseError, PlanError
from equipoise.runners.local import ONE_THREAD

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
ENTRIES = HERE / "learned_gallery.toml"
LARGEST = 100_000
"""Bytes of a sheet."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where the page, its sheets and its figures are written: the repository's own places, or one folder."""

    page: Path = ROOT / "docs" / "learned.md"
    measured: Path = HERE / "learned_gallery.json"

    @classmethod
    def of(cls, out: Path | None) -> Place:
        """Return the places in a folder of the user's."""
        return cls() if out is None else cls(out / "learned.md", out / "learned_gallery.json")

    @property
    def sheets(self) -> Path:
        """The folder of the sheets, which the page names relative to itself."""
        return self.page.parent / "learned"

    def sheet(self, entry: Mapping[str, Any], kind: str) -> Path:
        """Return the file of one sheet."""
        return self.sheets / f"{slug(entry['name'])}-{kind}.jpg"

    def read(self) -> dict[str, Any]:
        """Return what was drawn and measured before."""
        kept: dict[str, Any] = json.loads(self.measured.read_text(encoding="utf-8")) if self.measured.exists() else {}
        return kept

    def write(self, entries: Sequence[Mapping[str, Any]], measured: Mapping[str, Any]) -> None:
        """Write figures, if there are any, and the page: whole files or nothing."""
        self.page.parent.mkdir(parents=True, exist_ok=True)
        texts = {self.page: page(entries, measured, self.sheets)}
        if measured:
            texts[self.measured] = json.dumps(measured, indent=1) + "\n"
        for file, text in texts.items():
            temporary = file.with_name(f".{file.name}.tmp")
            temporary.write_text(text, encoding="utf-8")
            temporary.replace(file)


def asked(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder that the plans' data paths start from; else page only")
    parser.add_argument("--only", action="append", help="an entry's name; repeatable")
    parser.add_argument("--engine", action="append", choices=ENGINES, help="a kind; repeatable")
    parser.add_argument("--keep", type=Path, help="folder of checkpoints, outside the repository, to resume from")
    parser.add_argument("--steps", type=int, help="train so many steps at most, instead of the plan's")
    parser.add_argument("--again", action="store_true", help="fit and draw what is done already, too")
    parser.add_argument("--look", type=Path, help="folder outside the repository for real beside synthetic pictures")
    parser.add_argument("--out", type=Path, help="folder for page, sheets and figures, instead of the repository's")
    return parser.parse_args(arguments)


def chosen(entries: Sequence[Mapping[str, Any]], given: argparse.Namespace) -> list[Mapping[str, Any]]:
    """Return the entries to work on; `PlanError` where the command line asks for what cannot be."""
    for option in ("look", "keep"):
        folder = getattr(given, option)
        if folder is not None and folder.resolve().is_relative_to(ROOT):
            raise PlanError(
                f"--{option} lies in the repository",
                why="real pictures, and weights learned from them, must never be committed",
                fix="name a folder elsewhere",
            )
    if given.steps is not None and given.steps < 1:
        raise PlanError(f"--steps is {given.steps}; a training takes 1 step or more", fix="leave it out, or 20")
    if given.steps is not None and given.out is None:
        raise PlanError(
            "--steps needs --out",
            why="a sheet of a training that was cut short must not stand in the docs as what an engine can do",
            fix="add --out DIR",
        )
    names = [entry["name"] for entry in entries]
    for name in given.only or ():
        if name not in names:
            raise PlanError(f"no entry {name!r} in {ENTRIES.name}", fix=f"one of {', '.join(names)}")
    return [entry for entry in entries if not given.only or entry["name"] in given.only]


def work(
    entries: Sequence[Mapping[str, Any]], given: argparse.Namespace
) -> Iterator[tuple[Mapping[str, Any], Fitting]]:
    """Yield what is to be fitted; an engine that is not registered, or that a plan does not have, is left out."""
    for entry in entries:
        for kind in given.engine or ENGINES:
            if kind not in kinds("engines"):
                say(f"{entry['name']}, {kind}: left out, no such engine is registered")
                continue
            yield entry, fitting_of(entry, ROOT / entry["plan"], kind, given.data.resolve(), given.keep, given.steps)


def alone(fitting: Fitting, drawn: Path, triples: Path | None) -> dict[str, Any]:
    """Return what a fit in a process of its own was like; the sheets lie in the two folders."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        try:
            return pool.submit(fitted_and_drawn, fitting, drawn, triples).result()
        except BrokenProcessPool as error:
            raise EquipoiseError(
                f"the process that fitted {fitting.spec['kind']} ended without a word",
                why="that is how a system ends a process when memory is used up",
                fix="close other programs, then run this again: with --keep it goes on from its checkpoint",
            ) from error


def small(sheet: Path) -> bytes:
    """Return a sheet as a JPEG of at most `LARGEST` bytes."""
    with Picture.open(sheet) as opened:
        picture = opened.convert("RGB")
    while len(data := compressed(picture)) > LARGEST:
        picture = picture.resize((picture.width * 4 // 5, picture.height * 4 // 5), Picture.Resampling.LANCZOS)
    return data


def draw(entry: Mapping[str, Any], fitting: Fitting, place: Place, look: Path | None) -> dict[str, Any]:
    """Fit one engine on one set, keep its sheet, and return all figures with its own."""
    kind = str(fitting.spec["kind"])
    with tempfile.TemporaryDirectory() as folder:
        sheet = Path(folder) / "sheet.png"
        triples = None if look is None else look / f"{slug(entry['name'])}-{kind}.png"
        found = alone(fitting, sheet, triples)
        place.sheets.mkdir(parents=True, exist_ok=True)
        place.sheet(entry, kind).write_bytes(small(sheet))
    measured = place.read()  # anew: another of these may have written meanwhile
    measured.setdefault(entry["name"], {})[kind] = {**found, "key": fitting.key, **when()}
    return measured


def main(arguments: Sequence[str] | None = None) -> int:
    """Fit and draw what is not done; exit status 1 if a fit failed, 2 if nothing could be begun."""
    given = asked(arguments)
    entries = tomllib.loads(ENTRIES.read_text(encoding="utf-8"))["set"]
    place = Place.of(given.out)
    measured, failed = place.read(), 0
    try:
        wanted = chosen(entries, given)
        todo = list(work(wanted, given)) if given.data is not None else []
    except PlanError as error:
        say(str(error))
        return 2
    for entry, fitting in todo:
        kind = str(fitting.spec["kind"])
        done = measured.get(entry["name"], {}).get(kind, {}).get("key") == fitting.key
        if done and place.sheet(entry, kind).exists() and not given.again:
            say(f"{entry['name']}, {kind}: done already with these settings")
            continue
        say(f"{entry['name']}, {kind}: begun")
        try:
            measured = draw(entry, fitting, place, given.look)
        except EquipoiseError as error:
            say(f"{entry['name']}, {kind}: {error}")
            failed += 1
        place.write(entries, measured)
    place.write(entries, measured)
    return int(failed > 0)


if __name__ == "__main__":
    for variable, one in ONE_THREAD.items():
        os.environ.setdefault(variable, one)  # of the processes that fit
    sys.exit(main())

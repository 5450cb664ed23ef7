"""Write the table of all engines, ``docs/engines.md``: ``python evidence/engines_page.py``.

One row per registered engine: what it makes, needs and is conditioned on comes from the code; time, memory and utility
from the JSON files beside this script, and "not measured" stands where they have none; what it builds on and where it
fails from ``engines.toml``, ``gallery.toml`` and ``learned_gallery.toml``.
"""

from __future__ import annotations

import json
import statistics
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from arm_rows import Arms, engines_of, gate, table
from gallery_page import duration as short
from learned_page import duration

from equipoise.core.registry import kinds, load, parameters

HERE = Path(__file__).resolve().parent
PAGE = HERE.parent / "docs" / "engines.md"
NOT_MEASURED = "not measured"
OPENING = """\
# Engines

Every engine that is registered, what it needs, and what it was measured to be worth. Written by
`python evidence/engines_page.py` from the code and from the files under `evidence/`; do not edit. Parameters are in
`docs/reference.md`, pictures in `docs/gallery.md` and `docs/learned.md`, all trials in `docs/evidence.md`.

Nothing is claimed here that is not measured: "not measured" means just that. Times are of one thread. Peak memory is
that of the whole process, with Python and all libraries.

## What each makes and needs
"""
NEEDS = ("engine", "modalities", "form", "conditions", "learns from", "time on a CPU", "time on a GPU", "peak memory")
WORTH = """
## What each is worth, and where it fails

*Utility* is the difference in Dice from real-only training on the same n real patients, sealed patients of the same
site, with its 95 % interval: of the best mix (chosen on validation), and of synthetic cases alone, made by an engine
fitted on these n. "No claim" marks trials whose real-only training missed the competence gate. All arms are in
`docs/evidence.md`, differences on other sites among them.
"""


@dataclass(frozen=True, slots=True)
class Measured:
    """What was measured, and what people wrote down."""

    cost: Sequence[Mapping[str, Any]]
    cost_measured: str
    fits: Mapping[str, Sequence[Mapping[str, Any]]]
    trials: Mapping[str, Mapping[str, Any]]
    notes: Mapping[str, Mapping[str, str]]
    seen: Mapping[str, Sequence[str]]

    @classmethod
    def read(cls, folder: Path = HERE) -> Measured:
        """Return what the files in a folder say."""
        written = tomllib.loads((folder / "engines.toml").read_text(encoding="utf-8"))
        fits: dict[str, list[Mapping[str, Any]]] = {}
        trials: dict[str, Mapping[str, Any]] = {}
        for file in sorted(folder.glob("*.json")):
            found = json.loads(file.read_text(encoding="utf-8"))
            if file.name == "learned_gallery.json":
                for modality, by_kind in found.items():
                    for kind, fit in by_kind.items():
                        fits.setdefault(kind, []).append({**fit, "modality": modality})
            elif isinstance(found, dict) and "arms" in found:
                trials[file.stem] = found
        cost = json.loads((folder / "cost.json").read_text(encoding="utf-8"))
        return cls(cost, written["cost_measured"], fits, trials, written["engine"], dict(_seen(folder)))


def _seen(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield by kind what a person saw on its pictures."""
    found: dict[str, list[str]] = {}
    for entry in tomllib.loads((folder / "gallery.toml").read_text(encoding="utf-8"))["modality"]:
        if "gives_away" in entry:
            found.setdefault(entry["engine"], []).append(f"given away by {entry['gives_away']}")
    for entry in tomllib.loads((folder / "learned_gallery.toml").read_text(encoding="utf-8"))["set"]:
        for kind, text in entry.get("looks", {}).items():
            if text:
                found.setdefault(kind, []).append(f"{entry['name']}: {text.rstrip('.')}")
    yield from found.items()


def page(measured: Measured, names: Sequence[str] | None = None) -> str:
    """Return the page; ``names`` are the kinds of engines, by default all that are registered."""
    every = list(kinds("engines")) if names is None else list(names)
    needs = [needs_of(kind, load("engines", kind), measured) for kind in every]
    worth = [worth_of(kind, measured) for kind in every]
    lines = [OPENING, *table(NEEDS, needs), WORTH]
    lines += table(("engine", "measured utility", "known failures", "builds on, with its licence"), worth)
    return "\n".join(lines) + "\n"


def needs_of(kind: str, cls: Any, measured: Measured) -> list[str]:
    """Return the cells of the first table."""
    dimensions = " and ".join(f"{d}-D" for d in getattr(cls, "dimensions", ()))
    cpu, memory = cost_of(kind, measured, "CPU")
    gpu, on_card = cost_of(kind, measured, "GPU")
    if gpu == NOT_MEASURED and "device" not in parameters(cls) and kind != "inpainting":
        gpu = "CPU only"
    return [
        f"`{kind}`",
        ", ".join(getattr(cls, "modalities", ())) or "not stated",
        dimensions or "not stated",
        conditions(cls),
        str(getattr(cls, "needs", "not stated")).rstrip("."),
        cpu,
        gpu,
        memory if on_card == NOT_MEASURED else f"{memory}; {on_card} beside a GPU",
    ]


def conditions(cls: Any) -> str:
    """Return what images are made under, as its parameters say."""
    names = parameters(cls)
    found = ["label maps"] if getattr(cls, "renders_labels", False) else ["a real case's own labels"]
    found += ["classes"] if {"classes", "preset"} <= set(names) else []  # simulate-mri's are tissues
    found += ["sub-labels of unlabelled tissue"] if {"sublabels", "clusters", "learn"} & set(names) else []
    found += ["scanner"] if "scanner" in names else []
    return ", ".join(found)


def cost_of(kind: str, measured: Measured, device: str) -> tuple[str, str]:
    """Return the time of a fit and of an image, and the memory, each with when and where, on a processor or a card."""
    fits = [fit for fit in measured.fits.get(kind, ()) if fit["device"] == device]
    if fits:
        time = f"a fit {between([f['seconds'] for f in fits])}, an image {between([f['sample_s'] for f in fits])}"
        days = sorted({fit["day"] for fit in fits})
        where = ", ".join(sorted({fit["machine"] for fit in fits}))
        when = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
        return f"{time} ({len(fits)} set(s), {when}, {where})", f"{max(f['peak_gb'] for f in fits):.1f} GB"
    rows = [row for row in measured.cost if row["kind"] == kind and row["n"] == 256]
    if not rows or device == "GPU":
        return NOT_MEASURED, NOT_MEASURED
    sides = {"picture": "256²", "volume": "256³"}
    told = [f"{sides[r['form']]} in {short(statistics.median(r['render_s']))}" for r in rows]
    return f"{', '.join(told)} ({measured.cost_measured})", f"{max(r['peak_gb'] for r in rows):.2f} GB"


def between(seconds: Sequence[float]) -> str:
    """Return the shortest and the longest of some times."""
    low, high = duration(min(seconds)), duration(max(seconds))
    return low if low == high else f"{low} to {high}"


def worth_of(kind: str, measured: Measured) -> list[str]:
    """Return the cells of the second table."""
    told = [line for name, found in measured.trials.items() for line in utility(name, found, kind)]
    note = measured.notes.get(kind, {})
    fails = [*([note["fails"]] if "fails" in note else []), *measured.seen.get(kind, ())]
    return [
        f"`{kind}`",
        "<br>".join(told) or NOT_MEASURED,
        "; ".join(fails) or "not written down",
        note.get("builds_on", "not written down"),
    ]


def utility(name: str, found: Mapping[str, Any], kind: str) -> Iterator[str]:
    """Yield what each engine of a kind was worth inside the training site, in one trial."""
    title = name.removeprefix("simulated_").removeprefix("learned_").replace("_", " ")
    for engine, its_kind in engines_of(found):
        if its_kind == kind:
            arms = Arms.of(found, engine)
            claim = "" if found["gate"]["reached"] else f"; {gate(found).partition(': ')[2]}"
            yield (
                f"{title}, n = {arms.n}: mix {arms.difference('inside', arms.best_mix)}, "
                f"alone {arms.difference('inside', arms.named('synthetic'))}{claim}"
            )


def main(out: Path = PAGE) -> None:
    """Write the page."""
    out.write_text(page(Measured.read()), encoding="utf-8")
    sys.stdout.write(f"{out.name}: {len(kinds('engines'))} engines\n")


if __name__ == "__main__":
    main()

"""The page that ``python evidence/learned_gallery.py`` writes: sheets, how each training went, and what it took."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from arm_rows import table
from gallery_page import slug

ENGINES = ("gan", "diffusion", "flow")
NOT_YET = "Not yet looked at."
OPENING = """\
# Gallery of learned images

`gan`, `diffusion` and `flow`, each fitted on real images of one set per modality with the preset `cpu-small`, and what
they draw under label maps of validation patients, whom they have not seen. **Every image marked "synthetic" was made by
an engine and shows no patient.** Engines, parameters and splits are those of the plans under `examples/learned`, whose
trials say what such images are worth for training (`docs/evidence.md`); nothing here was picked by hand. Tissue that
nobody labelled is left to the engine here; in a trial, sub-labels of the training images tell it more.

Licences decide what is shown. Real pictures stand here only where the set's licence lets single pictures be passed on
with attribution; each section says why its set is shown without. There, label maps are deformed as well, so that
nobody's drawing is passed on either. Sheets of real | label map | synthetic, of the same validation patients, are
written elsewhere by

    python evidence/learned_gallery.py --data DIR --keep DIR --look DIR

*Held-out distance* compares images with real ones of training patients whom the training did not see, in features of
an encoder trained on the others: around 0 it cannot tell them apart. It decides which step is kept, and when to stop.
*Diversity* is how much images vary, as a share of real ones. Both describe fidelity and decide nothing about use.
"""
HEAD = ("engine", "patients", "images", "size", "best step", "distance", "diversity", "time to fit", "an image")
HEAD_TOO = ("peak memory", "machine", "measured")


def page(entries: Sequence[Mapping[str, Any]], measured: Mapping[str, Any], sheets: Path) -> str:
    """Return the page in Markdown; sheets that are not in the folder are left out."""
    lines = [OPENING]
    for entry in entries:
        name, found = entry["name"], measured.get(entry["name"], {})
        lines += [f"## {name}", "", f"{entry['shows']}. Plan: `{entry['plan']}`. {licence(entry)}", ""]
        kept = {kind: found[kind] for kind in ENGINES if kind in found}
        if not kept:
            lines += ["Not measured yet.", ""]
            continue
        lines += [*table((*HEAD, *HEAD_TOO), [figures(kind, kept[kind]) for kind in kept]), ""]
        for kind, fit in kept.items():
            lines += section(entry, kind, fit, sheets)
        lines += ["<details><summary>Held-out distance by step</summary>", "", *courses(kept), "", "</details>", ""]
    return "\n".join(lines).rstrip() + "\n"


def licence(entry: Mapping[str, Any]) -> str:
    """Return whether real pictures of a set are shown, and whose they are or why they are not."""
    if "attribution" in entry:
        return f"Real pictures: {entry['attribution']}."
    return f"Real pictures are not shown: {entry['not_shown']}."


def figures(kind: str, fit: Mapping[str, Any]) -> list[str]:
    """Return the cells of one fit."""
    best = next((look for look in fit["looks"] if look[0] == fit["best_step"]), [0, None, None])
    last = fit["looks"][-1][0] if fit["looks"] else 0
    sides = [side for side in fit["shape"] if side > 1]
    return [
        f"`{kind}`",
        str(fit["patients"]),
        str(fit["images"]),
        " x ".join(map(str, sides)),
        f"{fit['best_step']} of {last}",
        number(best[1]),
        number(best[2]),
        duration(fit["seconds"]),
        duration(fit["sample_s"]),
        f"{fit['peak_gb']:.1f} GB",
        fit["machine"],
        f"{fit['day']}, {fit['commit']}",
    ]


def section(entry: Mapping[str, Any], kind: str, fit: Mapping[str, Any], sheets: Path) -> list[str]:
    """Return one engine's sheet, and what a person who looked at it says."""
    file = sheets / f"{slug(entry['name'])}-{kind}.jpg"
    rows = "real images, label maps and" if fit["shows_real"] else "deformed label maps and"
    lines = [f"![{entry['name']}: {rows} synthetic images by {kind}](learned/{file.name})", ""] if file.exists() else []
    ended = f"Stopped: {fit['stopped']}."
    if fit["choices"]:
        ended += f" Changed for lack of memory: {'; '.join(fit['choices'])}."
    seen = entry.get("looks", {}).get(kind) or NOT_YET
    return [*lines, f"`{kind}`: {seen} {ended}", ""]


def courses(kept: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the table of every look at held-out images: distance, and diversity after it."""
    rows = [
        [f"`{kind}`", str(step), number(distance), number(diversity)]
        for kind, fit in kept.items()
        for step, distance, diversity in fit["looks"]
    ]
    return table(("engine", "step", "distance", "diversity"), rows)


def number(value: float | None) -> str:
    """Return a figure, or that it was none."""
    return "not finite" if value is None else f"{value:.2f}"


def duration(seconds: float) -> str:
    """Return a time in ms, s or min."""
    if seconds >= 120:
        return f"{seconds / 60:.0f} min"
    return f"{seconds:.1f} s" if seconds >= 1 else f"{1000 * seconds:.0f} ms"

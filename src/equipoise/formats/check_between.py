"""Compares the cases of a set with each other: mixtures, outliers, orientation, and how often each label occurs."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from itertools import combinations

import numpy as np

from equipoise.core.labels import ClassLabel, LabelMap
from equipoise.formats.check_voxels import Seen
from equipoise.formats.finding import Finding, LabelCount
from equipoise.formats.orientation import TURNS, better_turn, turned_against

FEWEST = 3
"""Patients that a label needs, so that training, validation and test can each have one."""

WILD_SPACING, WILD_SIZE = 3.0, 4.0
"""Factors from the median beyond which one case's voxel size, or number of voxels along an axis, is an outlier."""

_GROUP = 8
"""Images that a site needs to be compared with another."""


def mixtures(seen: Sequence[Seen]) -> list[Finding]:
    """Return what keeps the cases from being read by one model: channels, dimensions, units, labels."""
    kinds: dict[str, Callable[[Seen], Hashable]] = {
        "number of channels": lambda s: s.case.image.channels,
        "number of dimensions": lambda s: s.case.image.geometry.ndim,
        "unit of length": lambda s: s.case.image.unit,
        "labels": lambda s: s.case.truth.scheme.names if isinstance(s.case.truth, LabelMap) else None,
    }
    fixes = {
        "number of channels": "convert them to one kind, such as with Pillow: "
        "`Image.open(file).convert('L').save(file)` for grey; or leave them out with `where`",
        "number of dimensions": "keep slices or volumes, not both; leave the others out with `where`",
        "unit of length": "state `spacing` for the pictures, or store all as NIfTI",
        "labels": "name the same labels, in the same order, for all sets",
    }
    findings = []
    for what, of in kinds.items():
        values = Counter(v for s in seen if (v := of(s)) is not None)
        if len(values) < 2:
            continue
        usual, _ = values.most_common(1)[0]
        for s in seen:
            value = of(s)
            if value is not None and value != usual:
                findings.append(
                    Finding(
                        "mixed",
                        "error",
                        s.case.file,
                        f"case {s.case.id!r} has another {what} than most: {_words(value)}, they have {_words(usual)}",
                        "one model cannot read both",
                        fixes[what],
                        (s.case.id,),
                        (s.case,),
                    )
                )
    return findings


def _words(value: Hashable) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def outliers(seen: Sequence[Seen]) -> list[Finding]:
    """Return cases whose voxel size or number of voxels is far from the median of their set."""
    findings = []
    for part in sorted({s.opened.part for s in seen}):
        own = [s for s in seen if s.opened.part == part]
        if len(own) < 4:  # a median of fewer says nothing about who is the odd one
            continue
        spacings = np.array([s.case.image.spacing for s in own])
        shapes = np.array([s.case.image.geometry.shape for s in own], dtype=float)
        wild = [_away(spacings, WILD_SPACING), _away(shapes, WILD_SIZE)]
        middle = np.median(spacings, axis=0), np.median(shapes, axis=0)
        for s, strange_spacing, strange_size in zip(own, *wild, strict=True):
            if strange_spacing:
                findings.append(_outlier(s, "spacing", s.case.image.spacing, middle[0], s.case.image.unit))
            elif strange_size:
                findings.append(_outlier(s, "size", s.case.image.geometry.shape, middle[1], "voxels"))
    return findings


def _away(values: np.ndarray, factor: float) -> np.ndarray:
    ratio = values / np.median(values, axis=0)
    return np.asarray(((ratio > factor) | (ratio < 1 / factor)).any(axis=1))


def _outlier(s: Seen, code: str, own: Sequence[float], usual: np.ndarray, unit: str) -> Finding:
    why = {
        "spacing": "a wrong voxel size makes every volume, diameter and distance wrong; a true one needs resampling",
        "size": "it may be a thumbnail, a crop or a whole sheet; patches of it show another scale",
    }
    fix = {
        "spacing": "compare with the scanner's record and correct the header (or the plan's `spacing`); if it is true, "
        "resample it to the others' spacing",
        "size": "export it again at the size of the others, or leave it out with `where`",
    }
    numbers = [" x ".join(f"{x:.4g}" for x in v) for v in (own, usual)]
    return Finding(
        code,
        "warning",
        s.case.file,
        f"case {s.case.id!r}: {code} {numbers[0]} {unit}, the median of its set is {numbers[1]}",
        why[code],
        fix[code],
        (s.case.id,),
        (s.case,),
    )


def orientations(seen: Sequence[Seen]) -> list[Finding]:
    """Return sets whose masks fit their images better when turned, and sites whose images are turned."""
    findings = []
    for part in sorted({s.opened.part for s in seen}):
        own = [s for s in seen if s.opened.part == part]
        drawn = [s for s in own if s.contrasts is not None]
        found = better_turn(np.array([s.contrasts for s in drawn]))
        if found:
            findings.append(_masks_turned(drawn, *found))
    sites: dict[tuple[str, str], list[Seen]] = defaultdict(list)
    for s in seen:
        if s.thumbnails is not None:
            sites[s.opened.part, s.case.site or ""].append(s)
    large = sorted((group for group in sites.values() if len(group) >= _GROUP), key=lambda group: -len(group))
    for most, few in combinations(large, 2):
        turn = turned_against(_by_patient(few), _by_patient(most))
        if turn is not None:
            findings.append(_images_turned(few, most, turn))
    return findings


def _by_patient(site: Sequence[Seen]) -> list[list[Mapping[str, np.ndarray]]]:
    """Return the thumbnails of each patient's pictures."""
    patients: dict[str, list[Mapping[str, np.ndarray]]] = defaultdict(list)
    for s in site:
        patients[s.case.patient].append(s.thumbnails or {})
    return list(patients.values())


def _masks_turned(drawn: list[Seen], turn: int, share: float) -> Finding:
    case = drawn[0].case
    return Finding(
        "mirrored-masks",
        "error",
        case.file,
        f"{share:.0%} of {len(drawn)} masks fit their images better {TURNS[turn]}",
        "image and mask were saved with different orientations, so the masks mark other tissue than the reader drew",
        "look at the pictures, then save the masks again turned the same way; for pictures with an EXIF orientation "
        "try `exif = false`",
        tuple(s.case.id for s in drawn),
        (case,),
    )


def _images_turned(few: list[Seen], most: list[Seen], turn: int) -> Finding:
    case = few[0].case
    return Finding(
        "turned-images",
        "warning",
        case.file,
        f"the {len(few)} images of {case.site or case.id!r} look like the {len(most)} of "
        f"{most[0].case.site or most[0].case.id!r} {TURNS[turn]}",
        "a model trained on one orientation fails on the other, and the gap would be taken for one between scanners",
        "look at the pictures; turn images and masks of one of the two, both in the same way",
        tuple(s.case.id for s in few),
        (case, most[0].case),
    )


def label_counts(seen: Sequence[Seen]) -> dict[str, LabelCount]:
    """Return, by label or class, how many cases, patients and voxels have it."""
    names: dict[str, None] = {}
    for s in seen:
        truth = s.case.truth
        names |= dict.fromkeys(truth.classes if isinstance(truth, ClassLabel) else s.foreground or ())
    drawn = [s for s in seen if s.foreground is not None]
    total = sum(s.voxels for s in drawn)
    known, counts = all(s.opened.known for s in seen), {}
    for name in names:
        having = [s for s in seen if name in s.present]
        voxels = sum((s.foreground or {}).get(name, 0) for s in drawn) if drawn else None
        share = voxels / total if voxels is not None and total else None
        people = len({s.case.patient for s in having if not s.case.synthetic})
        counts[name] = LabelCount(len(having), people if known else None, voxels, share)
    return counts


def scarce(counts: Mapping[str, LabelCount], file: str) -> list[Finding]:
    """Return labels that no case has, or too few patients."""
    findings = []
    for name, count in counts.items():
        if count.cases == 0:
            what, code = f"no case has the label {name!r}", "absent-label"
            fix = f"correct its number, column or pattern: `labels.{name} = …`; or take it out of the plan"
        elif count.patients is not None and count.patients < FEWEST:
            what, code = f"only {count.patients} patient(s) have the label {name!r}", "few-patients"
            fix = f"annotate it in more patients, or take `{name}` out of `labels`"
        else:
            continue
        why = f"training, validation and test each need a patient with it, so at least {FEWEST}"
        findings.append(Finding(code, "warning", file, what, why, fix))
    return findings


def makers(seen: Sequence[Seen]) -> dict[str, int]:
    """Return the number of synthetic cases by engine, the largest first."""
    return dict(Counter(str(s.case.origin.engine) for s in seen if s.case.synthetic).most_common())


def made(seen: Sequence[Seen]) -> list[Finding]:
    """Return one finding per set that holds synthetic cases."""
    findings = []
    for part in sorted({s.opened.part for s in seen}):
        own = [s for s in seen if s.opened.part == part]
        found = [s for s in own if s.case.synthetic]
        if found:
            by = ", ".join(makers(found))
            findings.append(
                Finding(
                    "synthetic",
                    "error",
                    found[0].case.file,
                    f"{len(found)} of {len(own)} cases are synthetic, made by {by}",
                    "validation and test on made images say nothing about patients, so an experiment needs real ones",
                    "name a folder of real annotated images as `path`; synthetic cases come from the plan's [engines], "
                    "fitted on each arm's own patients",
                    tuple(s.case.id for s in found),
                    (found[0].case,),
                )
            )
    return findings


def facts_of(seen: Sequence[Seen]) -> dict[str, str]:
    """Return sizes, spacings, channels and sites in words."""
    if not seen:
        return {}
    shapes = np.array([s.case.image.geometry.shape for s in seen])
    spacings = np.array([s.case.image.spacing for s in seen])
    flat = shapes[:, 2].max() == 1
    axes = 2 if flat else 3
    units = sorted({s.case.image.unit for s in seen})
    sites = Counter(s.case.site for s in seen if s.case.site)
    facts = {
        "Size": _range(shapes[:, :axes], "{:.0f}") + (" pixels" if flat else " voxels"),
        "Spacing": "none stated: lengths are in pixels"
        if units == ["px"]
        else _range(spacings[:, :axes], "{:.3g}") + " mm",
        "Channels": ", ".join(str(n) for n in sorted({s.case.image.channels for s in seen})),
    }
    if engines := makers(seen):
        facts["Synthetic"] = ", ".join(f"{n} of {len(seen)} made by {name}" for name, n in engines.items())
    if sites:
        facts["Sites"] = ", ".join(f"{name} ({n})" for name, n in sites.most_common(8))
    return facts


def _range(values: np.ndarray, form: str) -> str:
    low, high = values.min(axis=0), values.max(axis=0)
    return " x ".join(
        form.format(a) if np.isclose(a, b) else f"{form.format(a)} to {form.format(b)}"
        for a, b in zip(low, high, strict=True)
    )

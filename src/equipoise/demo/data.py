"""The demo's cases: real outlines of lung nodules on simulated pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from scipy import ndimage

from equipoise.core import Case, Image, rng_for
from equipoise.demo.scanner import EXTERNAL, INTERNAL
from equipoise.demo.views import View, draw_views
from equipoise.demo.world import Finding, World
from equipoise.errors import PlanError


@dataclass(frozen=True)
class Demo:
    """Lung nodules as LIDC's radiologists outlined them, with pixels from the hidden world of simulated scanners.

    The annotation is real: outlines, readers, ratings, pixel size and slice thickness. The pixels are simulated and
    evidence of nothing about CT; every case says so in ``attributes["pixels"]``.

    Each case's truth is the drawing of one reader (who is drawn once per scan): what a group that can afford one reader
    trains on. Held-out cases are scored against the readers' consensus.

    Parameters
    ----------
    patients
        How many of the 1,010; 491 have a section of a nodule of 6 mm or more that three readers drew.
    slices
        Slices shown of each patient, at most.
    size
        Columns and rows of a picture, at the scan's own pixel size (0.46 to 0.98 mm).
    seed
        Of patients, slices, readers and pixels. A patient's pictures do not depend on who else is in the set.
    external_share
        Share of the patients who were scanned at the other site.
    """

    kind: ClassVar[str] = "demo"

    patients: int = 400
    slices: int = 1
    size: int = 64
    seed: int = 0
    external_share: float = 0.2

    def __post_init__(self) -> None:
        if not 0 <= self.external_share < 1:
            raise PlanError(f"external_share must be from 0 to below 1, got {self.external_share}")

    def read(self) -> list[Case]:
        """Return the cases, patients in the order of their pseudonyms.

        Raises
        ------
        MissingDependencyError
            The annotation database is not installed.
        PlanError, NotEnoughCasesError
            Parameters out of range, or more patients asked for than qualify.
        """
        views = sorted(draw_views(self.patients, self.slices, self.size, self.seed), key=_patient_and_number)
        names = sorted({view.scan.patient for view in views})
        away = rng_for(self.seed, "demo site").permutation(len(names))[: round(self.external_share * len(names))]
        external = {names[k] for k in away}
        return [self._case(view, view.scan.patient in external) for view in views]

    def _case(self, view: View, external: bool) -> Case:
        inside = INTERNAL[int(rng_for(self.seed, "demo scanner", view.scan.patient).integers(len(INTERNAL)))]
        scanner = EXTERNAL if external else inside
        pixels = World().picture(
            findings_of(view),
            view.scan.spacing,
            view.scan.thickness,
            scanner,
            rng_for(self.seed, "demo pixels", view.scan.patient, view.number),
            (view.size, view.size),
        )
        return view.case(
            Image.on(view.geometry, pixels[None, :, :, None]),
            "simulated",
            site="external" if external else "internal",
            scanner=scanner.name,
        )


def findings_of(view: View) -> list[Finding]:
    """Return the nodules of a view as the hidden world draws them: the readers' mean drawing, rounded off."""
    findings = []
    for drawn in view.nodules:
        density = ndimage.gaussian_filter(drawn.mean(), 0.6, mode="nearest")
        names = ("subtlety", "texture", "calcification", "spiculation")
        findings.append(Finding(density, **{name: drawn.nodule.rating(name) for name in names}))
    return findings


def _patient_and_number(view: View) -> tuple[str, int]:
    return view.scan.patient, view.number

"""The demo's nodules on their real CT pixels, for those who have the LIDC-IDRI images (125 GB, from TCIA)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from equipoise.core import Case, Image, LazyVoxels
from equipoise.demo.views import MATRIX, View, draw_views
from equipoise.errors import DataError, GeometryMismatchError, UnreadableFileError
from equipoise.formats.lidc import series_with_nodules

if TYPE_CHECKING:
    from pydicom.dataset import FileDataset

SAME_POSITION_MM = 0.05
"""Largest difference between the slice position of an outline and that of its DICOM file, mm."""
SAME_SPACING_MM = 1e-3
GET_IT = "download LIDC-IDRI from https://www.cancerimagingarchive.net/collection/lidc-idri and give its folder"


@dataclass(frozen=True)
class Lidc:
    """Lung nodules of LIDC-IDRI with their real pixels: the cases of `equipoise.demo.data.Demo` without the simulation.

    Each case's truth is the drawing of one reader; held-out cases get the readers' consensus where the plan says so.
    Pixels are read when they are asked for; `read` opens the headers. Where the files are named as in the database
    (``43.dcm``) that is one header a case, else up to all of the series (about half a second).

    Parameters
    ----------
    path
        Folder with the patients' folders (``LIDC-IDRI-0001`` ...), directly or inside ``LIDC-IDRI``; any of them may be
        missing.
    patients
        How many; ``None`` for all that are there and have a nodule of 6 mm that three readers drew.
    slices, size, seed
        As in `Demo`.
    """

    kind: ClassVar[str] = "lidc"

    path: str
    patients: int | None = None
    slices: int = 1
    size: int = 64
    seed: int = 0

    def read(self) -> list[Case]:
        """Return the cases, patients in the order of their pseudonyms.

        Raises
        ------
        UnreadableFileError
            The folder, a slice or its header cannot be read.
        DataError
            No series of the database is in the folder, or a slice of one is missing.
        GeometryMismatchError
            A slice lies elsewhere, or has another pixel size or orientation, than the outlines state.
        PlanError, NotEnoughCasesError
            Parameters out of range, or more patients asked for than there are.
        """
        folders = self._series()
        views = draw_views(self.patients, self.slices, self.size, self.seed, series=folders)
        views.sort(key=lambda view: (view.scan.patient, view.number))
        return [_case(view, folders[view.scan.series]) for view in views]

    def _series(self) -> dict[str, Path]:
        """Return series UID to folder, of the series that the database has nodules in."""
        root = Path(self.path).expanduser()
        if not root.is_dir():
            raise UnreadableFileError(f"{self.path!r} is no folder", file=root, fix=GET_IT)
        known = series_with_nodules()
        people = set(known.values())
        homes = [f for top in (root, root / "LIDC-IDRI") if top.is_dir() for f in sorted(top.iterdir())]
        homes = [f for f in [*homes, root] if f.name in people and f.is_dir()]
        found: dict[str, Path] = {}
        for folder in sorted({file.parent for home in homes for file in home.rglob("*.dcm")}):
            first = min(folder.glob("*.dcm"))
            uid = str(_header(first, ["SeriesInstanceUID"]).get("SeriesInstanceUID", ""))
            if uid in known:
                found.setdefault(uid, folder)
        if not found:
            raise DataError(
                f"none of the {len(known)} annotated CT series is in the folder ({len(homes)} patient folders seen)",
                file=root,
                fix=f"{GET_IT}: it holds folders called LIDC-IDRI-0001 and so on, with .dcm files inside",
            )
        return found


def _case(view: View, folder: Path) -> Case:
    path, header = _slice(view, folder)
    spacing = _checked(header, view, path)
    x, y, z = (float(v) for v in header.ImagePositionPatient)
    # DICOM's x and y grow to the patient's left and back, ours to the right and front.
    affine = np.diag([-spacing, -spacing, view.scan.thickness, 1.0])
    affine[:3, 3] = (-(x + spacing * view.corner[0]), -(y + spacing * view.corner[1]), z)
    pixels = LazyVoxels(
        (1, view.size, view.size, 1), np.dtype(np.float32), partial(read_patch, path, view.corner, view.size)
    )
    frame = str(header.get("FrameOfReferenceUID", "")) or None
    maker = " ".join(str(header.get(name, "")) for name in ("Manufacturer", "ManufacturerModelName")).strip()
    return view.case(Image(pixels, affine, frame), "CT", scanner=maker or None, file=str(path))


def _slice(view: View, folder: Path) -> tuple[Path, FileDataset]:
    """Return the file of a view's slice and its header."""
    target = view.nodules[0].nodule
    names = {o.file for read in target.reads for o in read.outlines if o.z == view.z and o.file}
    guesses = [folder / name for name in sorted(names) if (folder / name).is_file()]
    for path in [*guesses, *sorted(set(folder.glob("*.dcm")) - set(guesses))]:
        header = _header(path)
        position = header.get("ImagePositionPatient")
        if header.get("SeriesInstanceUID") != view.scan.series or position is None:
            continue
        if abs(float(position[2]) - view.z) <= SAME_POSITION_MM:
            return path, header
    raise DataError(
        f"the slice of {view.scan.patient} at z = {view.z:g} mm is not in the folder",
        file=folder,
        why="the readers' outline lies on it",
        fix="download the series again; it is incomplete",
    )


def _header(path: Path, tags: list[str] | None = None) -> FileDataset:
    """Return a file's header, or raise `UnreadableFileError`."""
    import pydicom
    from pydicom.errors import InvalidDicomError

    try:
        return pydicom.dcmread(path, stop_before_pixels=True, specific_tags=tags)
    except (InvalidDicomError, OSError, EOFError, ValueError) as error:
        raise UnreadableFileError(
            f"this is no readable DICOM file: {error}", file=path, fix="download the series again"
        ) from error


def _checked(header: FileDataset, view: View, path: Path) -> float:
    """Return the pixel size in mm after comparing the slice with what the outlines were drawn on."""
    size = (int(header.get("Columns", 0)), int(header.get("Rows", 0)))
    spacing = [float(s) for s in header.get("PixelSpacing", [0.0, 0.0])]
    orientation = [float(v) for v in header.get("ImageOrientationPatient", [0.0] * 6)]
    problem = None
    if size != (MATRIX, MATRIX):
        problem = f"it has {size[0]} x {size[1]} pixels, the outlines were drawn on {MATRIX} x {MATRIX}"
    elif max(abs(s - view.scan.spacing) for s in spacing) > SAME_SPACING_MM:
        problem = f"its pixels measure {spacing} mm, the outlines state {view.scan.spacing:g} mm"
    elif not np.allclose(orientation, [1, 0, 0, 0, 1, 0], atol=1e-3):
        problem = f"its orientation is {orientation}, the outlines were drawn on axial slices"
    if problem:
        raise GeometryMismatchError(
            f"slice z = {view.z:g} mm of {view.scan.patient} does not fit its outlines: {problem}",
            file=path,
            why="the outline would mark other tissue than the reader saw",
            fix="use the files as TCIA provides them, not resampled or converted",
        )
    return view.scan.spacing


def read_patch(path: Path, corner: tuple[int, int], size: int) -> np.ndarray:
    """Return HU of a square of a CT slice, float32, shape ``(1, size, size, 1)``; what lies outside the field is -1024.

    Parameters
    ----------
    path
        A DICOM file of one axial slice.
    corner
        First column and row.
    size
        Columns and rows.

    Raises
    ------
    UnreadableFileError
        The pixels are truncated or cannot be decoded.
    """
    import pydicom

    try:
        data = pydicom.dcmread(path)
        stored = data.pixel_array.astype(np.float32)
    except (OSError, EOFError, ValueError, AttributeError, NotImplementedError, RuntimeError) as error:
        raise UnreadableFileError(
            f"the pixels cannot be read: {error}", file=path, fix="download the series again"
        ) from error
    hu = stored * float(data.get("RescaleSlope", 1)) + float(data.get("RescaleIntercept", 0))
    i, j = corner
    # Rows come first in DICOM, columns first here.
    patch: np.ndarray = np.maximum(hu.T[i : i + size, j : j + size], -1024.0)
    return np.ascontiguousarray(patch[None, :, :, None], dtype=np.float32)

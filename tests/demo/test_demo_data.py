"""The demo's cases, and the reference that held-out ones get."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from equipoise.annotation.consensus import with_consensus
from equipoise.core import Annotation, Case, Geometry, Image, LabelMap, LabelScheme, Reader
from equipoise.demo.data import Demo
from equipoise.demo.scanner import EXTERNAL, INTERNAL
from equipoise.errors import DataError, NotEnoughCasesError, PlanError
from equipoise.formats.lidc import read_scans


def test_patients_sites_and_scanners(demo_cases: list[Case]) -> None:
    assert len({c.patient for c in demo_cases}) == len(demo_cases) == 40
    assert Counter(c.site for c in demo_cases) == {"internal": 32, "external": 8}
    inside = {c.scanner for c in demo_cases if c.site == "internal"}
    assert inside == {s.name for s in INTERNAL}
    assert {c.scanner for c in demo_cases if c.site == "external"} == {EXTERNAL.name}


def test_every_case_says_that_its_pixels_are_simulated(demo_cases: list[Case]) -> None:
    for case in demo_cases:
        assert case.attributes["pixels"] == "simulated"
        assert case.scanner is not None
        assert case.scanner.startswith("simulated")
        assert case.licence is not None
        assert "CC BY" in case.licence
        assert case.modality == "CT"


def test_geometry_is_that_of_the_scan(demo_cases: list[Case]) -> None:
    scans = {s.patient: s for s in reversed(read_scans([c.patient for c in demo_cases])) if s.nodules}
    for case in demo_cases:
        scan = scans[case.patient]
        assert case.image.geometry.shape == (64, 64, 1)
        assert case.image.unit == "mm"
        assert case.image.spacing == pytest.approx((scan.spacing, scan.spacing, scan.thickness))
        assert case.image.affine[2, 3] in scan.positions


def test_truth_is_one_reader_and_reads_are_all(demo_cases: list[Case]) -> None:
    chosen = Counter()
    for case in demo_cases:
        drawn = [read.truth.mask("nodule") for read in case.reads if isinstance(read.truth, LabelMap)]
        same = [k for k, mask in enumerate(drawn) if np.array_equal(mask, case.labels.mask("nodule"))]
        assert same
        assert all(mask.any() for mask in drawn)
        assert 3 <= len(drawn) <= 4
        assert len({read.reader.id for read in case.reads}) == len(drawn)
        chosen[same[0]] += 1
        assert float(case.attributes["diameter_mm"]) >= 6
    assert len(chosen) >= 3  # the slot is drawn, not always the first


def test_nodule_lies_inside_and_not_always_in_the_middle(demo_cases: list[Case]) -> None:
    centres = []
    for case in demo_cases:
        mask = case.labels.instances("nodule")[:, :, 0] == 1
        assert not mask[[0, -1]].any()
        assert not mask[:, [0, -1]].any()
        centres.append(np.argwhere(mask).mean(axis=0))
    assert np.std(centres, axis=0).min() > 5


def test_nodules_are_seen_in_the_pixels(demo_cases: list[Case]) -> None:
    differences = []
    for case in demo_cases:
        nodule, pixels = with_consensus(case).labels.mask("nodule"), case.image.array[0]
        differences.append(pixels[nodule].mean() - np.median(pixels[~nodule]))
    assert np.mean([d > 100 for d in differences]) > 0.6  # the rest lie on chest walls or are ground glass
    assert np.median(differences) > 300


def test_same_specification_same_bytes(demo_cases: list[Case]) -> None:
    again = Demo(patients=6).read()
    by_id = {c.id: c for c in demo_cases}
    for case in again:  # site aside, a patient's picture does not depend on who else is in the set
        assert case.id in by_id
        np.testing.assert_array_equal(case.labels.array, by_id[case.id].labels.array)
        if case.scanner == by_id[case.id].scanner:
            np.testing.assert_array_equal(case.image.array, by_id[case.id].image.array)
    other = {c.id: c for c in Demo(patients=6, seed=1).read()}
    assert set(other) != {c.id for c in again}


def test_more_slices_are_other_slices() -> None:
    cases = Demo(patients=8, slices=3, size=72).read()
    assert cases[0].image.geometry.shape == (72, 72, 1)
    places = [(c.patient, round(float(c.image.affine[2, 3]), 3), c.labels.array.tobytes()) for c in cases]
    assert len(set(places)) == len(cases) > 12
    assert max(Counter(c.patient for c in cases).values()) == 3


def test_no_external_site() -> None:
    assert {c.site for c in Demo(patients=5, external_share=0.0).read()} == {"internal"}


def test_readers_agree_as_in_the_literature(demo_cases: list[Case]) -> None:
    # Each reader against the consensus of the others: about .8 is usual for LIDC, small nodules less.
    scores = []
    for case in demo_cases:
        for k, read in enumerate(case.reads):
            others = replace(case, reads=(*case.reads[:k], *case.reads[k + 1 :]))
            truth = with_consensus(others, minimum=2).labels.mask("nodule")
            mine = read.truth.mask("nodule")  # type: ignore[union-attr]
            scores.append(2 * (truth & mine).sum() / (truth.sum() + mine.sum()))
    assert 0.75 < np.mean(scores) < 0.92


@pytest.mark.slow
def test_the_default_set_is_made_in_time() -> None:
    started = time.process_time()
    assert len(Demo().read()) == 400
    assert time.process_time() - started < 30  # about 6 s on an idle machine; shared ones count shared cycles


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"patients": 0}, PlanError),
        ({"slices": 0}, PlanError),
        ({"size": 8}, PlanError),
        ({"size": 1024}, PlanError),
        ({"external_share": 1.0}, PlanError),
        ({"patients": 5000}, NotEnoughCasesError),  # more than the database has
        pytest.param({"patients": 870}, NotEnoughCasesError, marks=pytest.mark.slow),  # more than qualify
    ],
)
def test_impossible_wishes_are_refused(fields: dict[str, int], error: type[Exception]) -> None:
    with pytest.raises(error):
        Demo(**fields).read()  # type: ignore[arg-type]


SCHEME = LabelScheme.of(["lesion"])


def _case(*masks: np.ndarray) -> Case:
    geometry = Geometry.from_spacing((*masks[0].shape, 1), (1.0, 1.0, 1.0))
    maps = [LabelMap.on(geometry, mask[None, :, :, None].astype(np.uint8), SCHEME) for mask in masks]
    image = Image.on(geometry, np.zeros((1, *masks[0].shape, 1), np.float32))
    reads = tuple(Annotation(Reader(f"r{k}"), labels) for k, labels in enumerate(maps))
    return Case("a", "p", image, maps[0], reads=reads)


def _boxes(*boxes: tuple[int, int, int, int]) -> np.ndarray:
    mask = np.zeros((40, 40), bool)
    for i, j, w, h in boxes:
        mask[i : i + w, j : j + h] = True
    return mask


def test_consensus_counts_the_readers_of_each_lesion() -> None:
    big = [_boxes((5, 5, 8, 8)), _boxes((5, 5, 8, 8)), _boxes((5, 5, 8, 4)), _boxes((5, 5, 8, 4))]
    big[0] |= _boxes((25, 25, 4, 4))  # only two drew this one
    big[1] |= _boxes((26, 25, 4, 4))
    result = with_consensus(_case(*big)).labels
    # Two of four marked the lower half: half of them is enough.
    np.testing.assert_array_equal(result.mask("lesion")[:, :, 0], _boxes((5, 5, 8, 8)))
    np.testing.assert_array_equal(result.ignored()[:, :, 0], _boxes((25, 25, 5, 4)))


def test_share_is_of_those_who_drew_the_lesion() -> None:
    three = [_boxes((5, 5, 8, 8)), _boxes((5, 5, 8, 4)), _boxes((5, 5, 8, 4)), _boxes()]
    result = with_consensus(_case(*three)).labels  # one of three marked the lower half
    np.testing.assert_array_equal(result.mask("lesion")[:, :, 0], _boxes((5, 5, 8, 4)))
    lenient = with_consensus(_case(*three), share=1 / 3).labels
    np.testing.assert_array_equal(lenient.mask("lesion")[:, :, 0], _boxes((5, 5, 8, 8)))


def test_lesions_are_numbered() -> None:
    two = _boxes((5, 5, 4, 4), (20, 20, 6, 6))
    labels = with_consensus(_case(two, two, two)).labels
    assert sorted(np.unique(labels.array).tolist()) == [0, 1, 2]
    assert (labels.array == 2).sum() == 36


def test_readers_who_agree_on_no_voxel_leave_the_lesion_open() -> None:
    chain = [_boxes((5, 5, 3, 3)), _boxes((8, 5, 3, 3)), _boxes((11, 5, 3, 3))]
    labels = with_consensus(_case(*chain)).labels
    assert not labels.mask("lesion").any()
    np.testing.assert_array_equal(labels.ignored()[:, :, 0], _boxes((5, 5, 9, 3)))


def test_reference_changes_nothing_else() -> None:
    case = _case(*[_boxes((5, 5, 8, 8))] * 3)
    held_out = with_consensus(case)
    assert held_out.reads is case.reads
    assert held_out.image is case.image
    np.testing.assert_array_equal(case.labels.array[0, :, :, 0], _boxes((5, 5, 8, 8)))


def test_too_few_or_repeated_readers_are_refused() -> None:
    mask = _boxes((5, 5, 8, 8))
    with pytest.raises(DataError, match="2 reads with a label map, a consensus needs 3"):
        with_consensus(_case(mask, mask))
    case = _case(mask, mask, mask)
    with pytest.raises(DataError, match="read twice"):
        with_consensus(replace(case, reads=(*case.reads, case.reads[0])))
    with pytest.raises(PlanError, match="share"):
        with_consensus(case, share=0.0)

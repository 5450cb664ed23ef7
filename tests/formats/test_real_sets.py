"""Real public sets, where they are: each trap that they hold, once."""

import csv
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from equipoise.core.case import Case
from equipoise.core.labels import LabelMap
from equipoise.formats import read
from equipoise.formats.nnunet import write_nnunet

SETS = Path(os.environ.get("EQUIPOISE_SHARED", Path(__file__).parents[3] / "shared" / "data"))


def cases_of(name: str, **spec: Any) -> list[Case]:
    if not (SETS / name / "index.csv").exists():
        pytest.skip(f"the public set {name} is not in {SETS} (set EQUIPOISE_SHARED to the folder that holds it)")
    return read({"kind": "folder", "path": str(SETS / name), **spec})


def dice(one: np.ndarray, other: np.ndarray) -> float:
    return 2.0 * float((one & other).sum()) / float(one.sum() + other.sum())


def test_vessels_with_a_second_reader_on_half() -> None:
    cases = cases_of(
        "retina/drive",
        labels={"vessel": "mask_reader1"},
        readers={"second": {"vessel": "mask_reader2"}},
        patient="patient",
        site="site",
        modality="fundus",
    )
    assert len(cases) == len({c.patient for c in cases}) == 40
    assert {c.site for c in cases} == {"DRIVE_NL"}
    both = [c for c in cases if c.reads]
    assert len(both) == 20
    agreement = []
    for case in both:
        assert isinstance(case.reads[0].truth, LabelMap)
        agreement.append(dice(case.labels.mask("vessel"), case.reads[0].truth.mask("vessel")))
    assert np.mean(agreement) == pytest.approx(0.788, abs=0.001)  # as the set's own description states
    assert both[0].image.array.shape == (3, 565, 584, 1)


def test_two_eyes_of_one_child() -> None:
    cases = cases_of("retina/chase_db1", labels={"vessel": "mask_reader1"}, patient="patient")
    assert (len(cases), len({c.patient for c in cases})) == (28, 14)


def test_many_sweeps_and_one_filled_ellipse() -> None:
    cases = cases_of("ultrasound/hc18", labels={"head": "mask"}, patient="patient", attributes=["area_px"])
    assert (len(cases), len({c.patient for c in cases})) == (532, 430)
    for case in cases[::100]:
        assert case.labels.mask("head").sum() > 0


def test_infection_overlaps_lung() -> None:
    cases = cases_of(
        "ct/covid19_lung_infection",
        labels={"lung": "mask_lung", "infection": "mask_infection"},
        patient="patient_inferred",
        site="site_inferred",
        primary="infection",
    )
    assert len({c.patient for c in cases}) == 19
    assert len({c.site for c in cases}) == 2
    masks = next(m for m in (c.labels.masks() for c in cases) if m.all(axis=0).any())
    assert not cases[0].labels.scheme.exclusive
    assert masks[0].sum() > masks[1].sum()


def test_nuclei_keep_their_numbers() -> None:
    cases = cases_of(
        "histology/monuseg",
        labels={"nucleus": {"file": "instances", "instances": True}},
        patient="patient",
        site="tss_site",
        attributes=["n_nuclei"],
    )
    for case in cases[:3]:
        assert np.unique(case.labels.instances("nucleus")).size - 1 == case.attributes["n_nuclei"]


def test_volumes_in_a_table_and_out_to_nnunet(tmp_path: Path) -> None:
    cases = cases_of(
        "mri/msd_hippocampus",
        mask="mask",
        labels={"anterior": 1, "posterior": 2},
        one_image_one_patient=True,
    )
    assert len(cases) == 120
    with (SETS / "mri/msd_hippocampus/index.csv").open() as stream:
        counts = {r["id"]: [int(r["vox_ant"]), int(r["vox_post"])] for r in csv.DictReader(stream)}
    for case in cases[:5]:
        assert case.labels.masks().sum(axis=(1, 2, 3)).tolist() == counts[case.id]
    write_nnunet(cases[:5], tmp_path / "Dataset004_Hippocampus", "hippocampus", ["MRI"])
    back = read({"kind": "nnunet", "path": str(tmp_path / "Dataset004_Hippocampus")})
    for one, other in zip(cases[:5], back, strict=True):
        assert one.id == other.id
        one.image.geometry.require_same(other.image.geometry)
        np.testing.assert_array_equal(one.image.array, other.image.array)
        np.testing.assert_array_equal(one.labels.array, other.labels.array)

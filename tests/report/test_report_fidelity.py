from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from equipoise.experiment.findings import Estimate, Findings
from equipoise.experiment.obedience import Dropped, Fidelity, LabelFidelity, Obedience
from equipoise.report import render, write_report
from equipoise.report.fidelity import fidelity
from equipoise.report.wording import interval


def around(value: float, half: float, patients: int = 24, excluded: int = 0) -> Estimate:
    return Estimate(value, value - half, value + half, patients=patients, excluded=excluded, conditional=True)


def line(engine: str, label: str, dice: float, offset: float, streamed: bool = False) -> LabelFidelity:
    real = Obedience(around(0.81, 0.03, 32), around(0.10, 0.06, 32, 1))
    made = Obedience(around(0.81 + dice, 0.02), around(0.10 + offset, 0.05, excluded=2))
    apart = Obedience(around(dice, 0.04, 56), around(offset, 0.08, 56, 3))
    return LabelFidelity(engine, label, "mm", 32, 0, 120, streamed, real, made, apart)


LINES = [
    line("simulate-fundus", "vessel", -0.01, 0.02),
    line("simulate-fundus", "disc", 0.005, -0.03),
    line("augmentation", "vessel", 0.03, 0.01),
    line("augmentation", "disc", 0.02, 0.0),
    line("diffusion", "vessel", -0.15, -0.62),
    line("diffusion", "disc", -0.03, -0.09),
    line("gan", "vessel", -0.22, 0.31, streamed=True),
    line("gan", "disc", -0.05, 0.04, streamed=True),
]
DROPPED = [
    Dropped("diffusion", 120, 96, 15, 6, 3),
    Dropped("augmentation", 98, 96, 2, None, None, {"near_copy": "this engine changes real images"}),
]


@pytest.fixture
def told(rich: Findings) -> Findings:
    return replace(rich, fidelity=Fidelity(LINES, DROPPED, "flow: a segmenter failed."))


def test_the_sentence_names_the_worst_with_its_interval_and_the_dropped(told: Findings) -> None:
    section = fidelity(told)
    assert section.state == "shown"
    assert "the labels fit least in diffusion: vessel is drawn smaller than labelled" in section.sentence
    assert "Dice −0.150 [−0.190, −0.110] from 0.810 [0.780, 0.840]" in section.sentence
    assert "−0.62 [−0.70, −0.54] mm" in section.sentence
    assert "24 of the 120 cases of diffusion (15 implausible, 6 near-copies and 3 disobedient)" in section.sentence
    assert "2 of the 98 cases of augmentation (2 implausible)" in section.sentence


def test_every_number_stands_in_the_table_with_its_interval(told: Findings) -> None:
    page = render(told)
    for x in LINES:
        for pair in (x.real, x.synthetic, x.difference):
            for e in (pair.dice, pair.offset):
                assert e
                assert any(interval(e, d, signed) in page for d in range(5) for signed in (True, False)), e
    every, dropped = fidelity(told).tables
    assert len(every.rows) == len(LINES)
    assert [str(cell.text) for cell in dropped.rows[1][1:]] == ["98", "2", "off", "off", "96"]


def test_a_mark_per_engine_and_label_in_two_panels(told: Findings) -> None:
    part = render(told).split('<section id="fidelity"')[1].split("</section>")[0]
    assert part.count('class="mark"') == 2 * len(LINES)
    assert part.count('class="zero"') == 2 * len(LINES)
    assert "positive where the prediction is larger than the label" in part
    assert "Cases of gan were drawn for this" in part
    assert "augmentation: near-copy is off, since this engine changes real images." in part
    assert "Flow: a segmenter failed." in part
    assert "decides nothing" in part


def test_nothing_proven_is_said_calmly(rich: Findings) -> None:
    section = fidelity(replace(rich, fidelity=Fidelity(LINES[:2])))
    assert "none is shown to draw otherwise than its labels say" in section.sentence
    assert len(section.tables) == 1


def test_what_was_not_run_says_why(rich: Findings) -> None:
    silent = fidelity(replace(rich, fidelity=Fidelity()))
    assert (silent.state, silent.tables) == ("not audited", [])
    off = fidelity(replace(rich, fidelity=Fidelity([], DROPPED, "the plan says fidelity = false")))
    assert off.sentence.startswith("The plan says fidelity = false.")
    assert "24 of the 120" in off.sentence  # what was dropped is told all the same
    assert len(off.tables) == 1


def test_what_could_not_be_computed_is_called_so(rich: Findings) -> None:
    hole = replace(LINES[0], difference=Obedience(None, None), synthetic=Obedience(None, None))
    section = fidelity(replace(rich, fidelity=Fidelity([hole, LINES[4]])))
    assert str(section.tables[0].rows[0][4].text) == "not computed"
    only_dice = replace(LINES[4], difference=Obedience(LINES[4].difference.dice, None))
    assert render(replace(rich, fidelity=Fidelity([only_dice])))


def test_the_json_holds_it(told: Findings, tmp_path: Path) -> None:
    write_report(told, tmp_path)
    content = json.loads((tmp_path / "report.json").read_text())["fidelity"]
    assert content["labels"][4]["difference"]["offset"]["value"] == -0.62
    assert content["dropped"][0]["near_copy"] == 6


def test_names_are_escaped(rich: Findings) -> None:
    evil = replace(LINES[4], engine="<script>alert(1)</script>", label="<b>")
    found = Fidelity([evil], [replace(DROPPED[0], engine="<i>")], "<u>")
    page = render(replace(rich, fidelity=found))
    assert "<script>alert(1)" not in page
    assert "<i>" not in page.split('<section id="fidelity"')[1].split("</section>")[0]

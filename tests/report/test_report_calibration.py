from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from markupsafe import Markup

from equipoise.experiment.findings import (
    CurvePoint,
    DetectionAndCalibration,
    Estimate,
    Findings,
    Prevalence,
    Reliability,
    Secondary,
)
from equipoise.report import render
from equipoise.report.calibration import calibration
from equipoise.report.colours import CONTROL, REAL, mixed
from equipoise.report.jsonable import strict
from equipoise.report.wording import interval


def estimate(value: float, half: float) -> Estimate:
    return Estimate(value, value - half, value + half, patients=24)


def curve(arm: str, where: str, tilt: float, shifted: bool = False) -> Reliability:
    at = np.linspace(0.05, 0.95, 10)
    points = [CurvePoint(float(x), estimate(float(x ** (1 + tilt)), 0.04)) for x in at]
    return Reliability(arm, 8, where, "steps", shifted, points, [0.82, *[0.02] * 9])


@pytest.fixture
def found() -> DetectionAndCalibration:
    """Invented numbers; ``synthetic only`` is far off, the mix a little."""
    metrics = [
        Secondary(metric, unit, arm, 8, where, "steps", estimate(base + effect, half),
                  None if arm == "real" else estimate(effect, half))
        for metric, unit, base, half in (
            ("lesions found", "", 0.71, 0.061), ("false alarms", "per case", 1.4, 0.32),
            ("diameter error", "mm", -0.8, 0.43), ("calibration error", "", 0.0213, 0.0042),
            ("calibration error, prevalence corrected", "", 0.0211, 0.0041),
        )
        for arm, effect in (("real", 0.0), ("mixed 1:1", 0.5 * half), ("synthetic only", -1.5 * half))
        for where in ("inside", "target")
    ]  # fmt: skip
    reliability = [
        curve(*which) for where in ("inside", "target")
        for which in (("real", where, 0.2), ("mixed 1:1", where, 0.6), ("mixed 1:1", where, 0.3, True))
    ]  # fmt: skip
    prevalence = [
        Prevalence("real", 8, "steps", "nodule", 0.02, 0.02),
        Prevalence("mixed 1:1", 8, "steps", "nodule", 0.04, 0.02),
    ]
    return DetectionAndCalibration(metrics, reliability, prevalence, ["nodule"], "Lesions are counted for: nodule.", "")


def test_the_sentence_comes_first_and_states_what_the_headline_arm_finds(
    rich: Findings, found: DetectionAndCalibration
) -> None:
    section = calibration(replace(rich, detection_and_calibration=found))
    assert section.sentence.startswith(
        "Target site, mixed 1:1 finds 0.74 [0.68, 0.80] (+0.03 [−0.03, +0.09] from real)"
    )
    assert "false alarms per case" in section.sentence
    assert "after the correction for prevalence, by 0.023" in section.sentence


def test_every_number_is_on_the_page_with_its_interval(rich: Findings, found: DetectionAndCalibration) -> None:
    page = Markup(render(replace(rich, detection_and_calibration=found))).striptags()
    shown = [e for s in found.metrics for e in (s.mean, s.difference) if e]
    shown += [p.estimate for c in found.reliability for p in c.points]
    for e in shown:
        assert any(interval(e, d, signed) in page for d in range(5) for signed in (True, False)), e
    assert "4.00" in page  # the doubled prevalence, in percent


def test_real_is_gold_the_mix_is_between_and_the_corrected_curve_is_grey(
    rich: Findings, found: DetectionAndCalibration
) -> None:
    charts = str(calibration(replace(rich, detection_and_calibration=found)).figures[1])
    assert re.search(rf'stroke="{REAL}" class="curve">', charts)
    assert re.search(rf'stroke="{mixed(0.5)}" class="curve">', charts)
    assert re.search(rf'stroke="{CONTROL}" class="curve" stroke-dasharray', charts)
    assert charts.count('class="reference"') == 2  # where what is said is what is, in both places


def test_without_detection_or_any_scores_the_section_says_why(rich: Findings, found: DetectionAndCalibration) -> None:
    assert calibration(replace(rich, detection_and_calibration=None)).state == "empty"
    old = DetectionAndCalibration([], [], [], [], "", "Scored before: run the plan in a new workspace.")
    assert calibration(replace(rich, detection_and_calibration=old)).sentence == old.message
    organ = replace(found, metrics=[s for s in found.metrics if s.metric == "calibration error"], prevalence=[])
    assert calibration(replace(rich, detection_and_calibration=organ)).sentence.startswith(
        "Target site, the probabilities"
    )


def test_it_is_in_the_json_and_holes_are_called_so(rich: Findings, found: DetectionAndCalibration) -> None:
    nan = float("nan")
    hole = Estimate(nan, nan, nan)
    holes = replace(found, metrics=[replace(s, mean=hole, difference=hole) for s in found.metrics])
    findings = replace(rich, detection_and_calibration=holes)
    assert "not computed" in Markup(render(findings)).striptags()
    content = json.loads(json.dumps(strict(findings.as_dict()), allow_nan=False))["detection_and_calibration"]
    assert content["reliability"][0]["points"][0]["estimate"]["value"] == pytest.approx(0.05**1.2)

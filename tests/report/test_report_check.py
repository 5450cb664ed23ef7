from __future__ import annotations

import re
from pathlib import Path

from equipoise.experiment.findings import Findings
from equipoise.report.check_page import CheckFindings, CheckItem, render_check, write_check


def test_every_finding_is_shown_with_why_and_fix_worst_first(rich: Findings, tmp_path: Path) -> None:
    items = [
        CheckItem(
            "assumption", "note", None, "one image = one patient was stated", "nobody checked it", "add a column"
        ),
        CheckItem(
            "geometry", "error", "a/<b>.png", "grids differ", "it marks other tissue", "resample", rich.pictures[0]
        ),
        CheckItem("near-duplicate", "warning", "c.png", "two patients share an image", "they may be one", "join them"),
    ]
    found = CheckFindings(
        "retina", "data/<x>", 40, 28, {"vessel": {"cases": 40, "pixels": 1234}}, items, {"Format": "folder"}
    )
    text = render_check(found)
    for item in items:
        for words in (item.code, item.what[1:], item.why[1:], item.fix):
            assert words in text
    headings = re.findall(r"<h3>.*?</span> ([\w-]+) <", text)
    assert headings == ["geometry", "near-duplicate", "assumption"]
    lead = re.search(r'class="lead">(.*?)<', text)
    assert lead
    assert lead[1] == (
        "40 cases of 28 patients, with 1 error, 1 warning and 1 note: the errors must be mended before an experiment "
        "can run."
    )
    assert "a/&lt;b&gt;.png" in text
    assert "1,234" in text
    assert text.count("data:image/png;base64,") == 1
    file = write_check(found, tmp_path / "check.html")
    assert file.read_text(encoding="utf-8") == text
    assert [p.name for p in tmp_path.iterdir()] == ["check.html"]


def test_nothing_to_mend_is_said_calmly() -> None:
    text = render_check(CheckFindings("clean", "data", 4, 4, {}, []))
    assert "4 cases of 4 patients, and nothing to mend." in text
    assert "No label was found." in text


def test_patients_whom_nobody_stated_are_not_counted() -> None:
    text = render_check(CheckFindings("bare", "data", 4, None, {}, []))
    assert "4 cases, patients not stated, and nothing to mend." in text

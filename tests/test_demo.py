"""The embedded default, whole, with few patients and steps: what `make demo` does."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest
from typer.testing import CliRunner

from equipoise.cli import work
from equipoise.cli.app import app

pytestmark = pytest.mark.slow


def no_network(*_: object, **__: object) -> None:
    raise AssertionError("the demo asked for the network")


def test_the_demo_runs_to_its_seven_lines_without_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = work.demo_plan().read_text()
    for old, new in {
        "patients = 260": "patients = 60",
        "sizes = [8, 32, 64]": "sizes = [4, 8]",
        "all_arms_at = [8]": "all_arms_at = [4]",
        "replicates = 3": "replicates = 2",
        "steps = 120": "steps = 4",
    }.items():
        assert old in text
        text = text.replace(old, new)
    (tmp_path / "small.toml").write_text(text)
    monkeypatch.setattr(socket.socket, "connect", no_network)
    words = ["compare", str(tmp_path / "small.toml"), "--workspace", str(tmp_path / "w"), "--on", "process"]
    result = CliRunner().invoke(app, words, catch_exceptions=False)
    assert result.exit_code == 0
    lines = [line for line in result.stdout.splitlines() if line.strip()]
    assert [line.split("  ")[0] for line in lines] == [
        "Verdict",
        "Best arm",
        "Exchange rate",
        "Next purchase",
        "Privacy",
        "Report",
        "Export",
    ]
    assert "Instrument check" in lines[0]
    page = (tmp_path / "w" / "reports" / "report.html").read_text()
    assert len(page) < 3_000_000
    assert "real annotation, simulated pixels" in page
    findings = json.loads((tmp_path / "w" / "reports" / "report.json").read_text())
    assert findings["instrument_check"]
    assert {a["where"] for a in findings["arms"]} == {"validation", "inside", "target"}
    assert all(picture["simulated"] for picture in findings["pictures"])
    assert {check["name"] for check in findings["first_page"]} >= {"Competence gate", "A/A check", "Instrument check"}

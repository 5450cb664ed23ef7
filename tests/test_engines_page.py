"""The tables of trials, and the page of all engines."""

from __future__ import annotations

import copy
import importlib
import json
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from equipoise.core.registry import kinds

ROOT = Path(__file__).parents[1]
EVIDENCE = ROOT / "evidence"


@pytest.fixture(scope="module")
def scripts() -> Iterator[Any]:
    """Give the scripts by name."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(EVIDENCE)
        yield lambda name: importlib.import_module(name)


# --- the tables ------------------------------------------------------------------------------------------------------


def test_the_table_of_simulators_is_the_one_in_the_evidence(scripts: Any, capsys: pytest.CaptureFixture[str]) -> None:
    scripts("simulated_table").main()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) > 8
    written = (ROOT / "docs" / "evidence.md").read_text(encoding="utf-8").splitlines()
    assert all(line in written for line in lines)


def learned_trial() -> dict[str, Any]:
    """A trial of two engines, the second one's mixes better by 0.1, made from a committed trial of one."""
    found: dict[str, Any] = json.loads((EVIDENCE / "simulated_retina.json").read_text(encoding="utf-8"))
    found["plan"] = found["plan"].replace("[engines.simulate]", '[engines.gan]\nkind = "gan"\n[engines.simulate]')
    arms = []
    for arm in found["arms"]:
        if arm["engine"] is None:
            arms.append(arm)
            continue
        for name, more in (("simulate", 0.0), ("gan", 0.1)):
            other = copy.deepcopy(arm) | {"engine": name, "arm": f"{arm['arm']} · {name}"}
            other["difference"] = {
                k: v + more if k in ("value", "low", "high") else v for k, v in arm["difference"].items()
            }
            arms.append(other)
    figure = {"value": -0.03, "low": -0.05, "high": -0.01}
    fidelity = {
        "engine": "gan",
        "label": "vessel",
        "unit": "px",
        "n": 4,
        "difference": {"dice": figure, "offset": None},
    }
    return found | {"arms": arms, "fidelity": {"labels": [fidelity, fidelity | {"n": 2}]}}


def test_each_engine_has_a_row_with_its_own_arms(
    scripts: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = learned_trial()
    (tmp_path / "learned_retina_two.json").write_text(json.dumps(found))
    (tmp_path / "learned_gallery.json").write_text("{}")
    scripts("learned_table").main(tmp_path)
    head, _, *lines = capsys.readouterr().out.splitlines()
    cells = [dict(zip(head.split(" | "), line.split(" | "), strict=True)) for line in lines]
    assert [(c["| set"], c["place"], c["engine"]) for c in cells] == [
        ("| retina two", where, engine) for where in ("inside", "target") for engine in ("gan", "simulate")
    ]
    before = json.loads((EVIDENCE / "simulated_retina.json").read_text(encoding="utf-8"))
    alone = next(a for a in before["arms"] if a["family"] == "synthetic" and a["where"] == "inside")["difference"][
        "value"
    ]
    assert cells[0]["synthetic only"].startswith(f"{alone + 0.1:+.3f} [")
    assert cells[1]["synthetic only"].startswith(f"{alone:+.3f} [")
    assert cells[0]["labels obeyed: Dice, offset"] == "vessel -0.030 [-0.050, -0.010], offset not measured"
    assert cells[1]["labels obeyed: Dice, offset"] == "not measured"
    assert cells[0]["gate, reference |"].startswith("reached, 0.788")


def test_an_empty_folder_is_said(scripts: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scripts("learned_table").main(tmp_path)
    said = capsys.readouterr()
    assert not said.out
    assert "examples/learned" in said.err


# --- the page of all engines -----------------------------------------------------------------------------------------


def test_the_page_of_engines_is_up_to_date_and_has_all_of_them(scripts: Any) -> None:
    pages = scripts("engines_page")
    text = (ROOT / "docs" / "engines.md").read_text(encoding="utf-8")
    assert text == pages.page(pages.Measured.read()), "run `python evidence/engines_page.py`"
    for kind in kinds("engines"):
        assert text.count(f"\n| `{kind}` |") == 2, f"{kind} has no row in each table"


def test_what_is_written_by_hand_is_there_for_every_engine() -> None:
    written = tomllib.loads((EVIDENCE / "engines.toml").read_text(encoding="utf-8"))["engine"]
    for kind in kinds("engines"):
        assert {"builds_on", "fails"} == set(written[kind]), kind


def test_rows_say_what_was_measured_and_what_was_not(scripts: Any) -> None:
    pages = scripts("engines_page")
    whole = pages.Measured.read()
    fit = {
        "device": "CPU",
        "seconds": 600.0,
        "sample_s": 0.5,
        "peak_gb": 1.26,
        "day": "2031-02-03",
        "machine": "an abacus",
    }
    card = fit | {"device": "GPU", "machine": "Card X", "seconds": 90.0}
    notes = {"gan": {"builds_on": "sand", "fails": "wind"}}
    one = pages.Measured(
        [], "", {"gan": [fit, fit | {"seconds": 1200.0}]}, {"learned_retina": learned_trial()}, notes, {}
    )
    (row,) = (line for line in pages.page(one, ["gan", "diffusion"]).splitlines() if line.startswith("| `gan` | any"))
    assert "a fit 10 min to 20 min, an image 500 ms (2 set(s), 2031-02-03, an abacus) | not measured | 1.3 GB |" in row
    assert "classes" in row
    assert "(1 set(s), 2031-02-03, Card X)" in pages.page(pages.Measured([], "", {"gan": [card]}, {}, {}, {}), ["gan"])
    worth = pages.worth_of("gan", one)
    assert worth[1].startswith("retina, n = 4: mix +0.097 [")
    assert worth[2:] == ["wind", "sand"]
    assert pages.worth_of("diffusion", one)[1:] == ["not measured", "not written down", "not written down"]
    assert "no claim" in pages.worth_of("simulate-histology", whole)[1]
    assert "given away by" in pages.worth_of("simulate-ct", whole)[2]

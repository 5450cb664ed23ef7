from __future__ import annotations

import errno
import json
import re
from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from equipoise.errors import WorkspaceError, WorkspaceFullError
from equipoise.experiment.findings import Check, Estimate, Findings
from equipoise.report import page as page_module
from equipoise.report import render, write_report
from equipoise.report.jsonable import strict
from equipoise.report.wording import decimals_for, interval, plain

SECTIONS = [
    "compared", "arms", "ratio", "worth", "money", "groups", "boundary", "pictures", "engines", "fidelity", "lineage",
    "metrics", "calibration", "reproduce", "limits",
]  # fmt: skip
VOID = {"meta", "link", "img", "br", "hr", "input"}


class Page(HTMLParser):
    """Collects what a test asks about a page, and that every element is closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {k: v or "" for k, v in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open, tag
        assert self.open.pop() == tag, tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] not in ("script", "style"):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def ids(self) -> list[str]:
        return [a["id"] for _, a in self.elements if "id" in a]


@pytest.fixture(scope="module")
def pages(rich: Findings, empty: Findings, nasty: Findings) -> dict[str, str]:
    return {"rich": render(rich), "empty": render(empty), "nasty": render(nasty)}


def estimates(value: Any) -> Iterator[Estimate]:
    if isinstance(value, Estimate):
        yield value
    elif is_dataclass(value):
        for f in fields(value):
            yield from estimates(getattr(value, f.name))
    elif isinstance(value, dict):
        for v in value.values():
            yield from estimates(v)
    elif isinstance(value, (list, tuple)):
        for v in value:
            yield from estimates(v)


@pytest.mark.parametrize("name", ["rich", "empty", "nasty"])
def test_every_section_is_there_in_order_and_linked(pages: dict[str, str], name: str) -> None:
    page = Page(pages[name])
    assert page.open == []
    assert [a["id"] for t, a in page.elements if t == "section"] == SECTIONS
    assert len(page.ids()) == len(set(page.ids()))
    links = [a["href"] for t, a in page.elements if t == "a"]
    assert {f"#{s}" for s in SECTIONS} <= set(links)
    assert all(link[1:] in page.ids() for link in links)


@pytest.mark.parametrize("name", ["rich", "empty", "nasty"])
def test_nothing_is_fetched(pages: dict[str, str], name: str) -> None:
    for tag, attributes in Page(pages[name]).elements:
        for key in ("src", "href", "srcset", "data", "action", "poster", "xlink:href"):
            if key in attributes:
                assert attributes[key].startswith(("data:", "#")), (tag, attributes[key])
    style = " ".join(re.findall(r"<style>(.*?)</style>", pages[name], re.S))
    assert "@import" not in style
    assert not re.search(r"url\(\s*['\"]?(?!#)", style)
    assert "default-src 'none'" in pages[name]
    script = " ".join(re.findall(r"<script>(.*?)</script>", pages[name], re.S))
    assert not re.search(r"fetch\(|XMLHttpRequest|WebSocket|sendBeacon|import\(", script)


def test_every_estimate_appears_with_its_interval(rich: Findings, pages: dict[str, str]) -> None:
    text = Page(pages["rich"]).text
    found = list(estimates(rich))
    assert len(found) > 150
    for e in found:
        ways = {interval(e, d, signed) for d in range(5) for signed in (True, False)}
        assert any(way in text for way in ways), e


def test_the_zero_line_and_the_margin_are_drawn_in_every_forest_row(rich: Findings, pages: dict[str, str]) -> None:
    forest = pages["rich"].split('id="arms"')[1].split('id="ratio"')[0]
    rows = forest.count('class="s-row"')
    assert rows == 2 * 8
    assert forest.count('class="zero"') == rows
    assert forest.count('class="band"') == rows
    assert forest.count('class="mark"') == len([a for a in rich.arms if a.difference])


def test_replicates_are_dots_behind_the_interval(pages: dict[str, str]) -> None:
    forest = pages["rich"].split('id="arms"')[1].split('id="ratio"')[0]
    mark = re.search(r'<g class="mark">.*?</g>', forest, re.S)
    assert mark
    assert mark[0].count('class="replicate"') == 3
    assert mark[0].index('class="replicate"') < mark[0].index('class="interval"')


def test_an_arm_far_away_leaves_the_axis_as_an_arrow(rich: Findings) -> None:
    far = [
        replace(a, difference=Estimate(-0.6, -0.62, -0.58)) if a.family == "synthetic" else a for a in rich.arms
    ]  # fmt: skip
    row = render(replace(rich, arms=far)).split('id="forest-steps-0-7"')[0].rsplit("s-row", 1)[1]
    assert "synthetic only" in row
    text = render(replace(rich, arms=far))
    assert "−0.600 [−0.620, −0.580]" in text
    ticks = [float(t.replace("−", "-").replace("+", "")) for t in re.findall(r'class="tick">([^<]+)<', text)[:6]]
    assert min(ticks) > -0.5


def test_instrument_check_begins_the_verdict_and_simulated_is_a_visible_badge(pages: dict[str, str]) -> None:
    lead = re.search(r'<p class="lead">(.*?)</p>', pages["rich"])
    assert lead
    assert lead[1].startswith("Instrument check: ")
    for key in ("compared", "arms", "ratio", "worth", "money", "groups", "boundary", "pictures", "metrics"):
        part = pages["rich"].split(f'<section id="{key}"')[1].split("</h2>")[1][:200]
        assert 'class="badge">Simulated<' in part, key
    shots = pages["rich"].count('<figure class="shot"')
    assert shots == 32
    assert pages["rich"].count("<figcaption>") == shots
    assert all('class="badge"' in c for c in pages["rich"].split("<figcaption>")[1:])


def test_no_instrument_check_without_simulation(pages: dict[str, str]) -> None:
    text = Page(pages["empty"]).text
    assert "Instrument check" not in text
    assert "Simulated" not in text


def test_a_missing_audit_says_so(pages: dict[str, str]) -> None:
    page = Page(pages["empty"])
    states = {a["id"]: a["class"] for t, a in page.elements if t == "section"}
    assert states["groups"] == states["boundary"] == "state-not-audited"
    assert page.text.count("not audited") >= 4
    for name in ("Utility", "Privacy", "Annotation quality", "Licence"):
        assert f"{name} not audited" in page.text
    assert "Competence gate not reached" in page.text
    assert "The exchange rate was not computed." in page.text


def test_the_first_page_stands_above_every_section(rich: Findings) -> None:
    loud = replace(rich, first_page=[Check("Second opening", "failed", "this is opening number 2.")])
    text = render(loud)
    assert text.index("this is opening number 2.") < text.index('<section id="compared"')
    assert 'class="state failed">failed<' in text


def test_the_gate_sentence_is_not_said_twice(rich: Findings) -> None:
    twice = replace(rich, first_page=[Check("Competence gate", "ok", rich.gate.sentence)])
    assert Page(render(twice)).text.count(rich.gate.sentence) == 1


def test_a_page_with_forty_pictures_is_under_three_megabytes(rich: Findings, pages: dict[str, str]) -> None:
    assert len(pages["rich"].encode()) < 3e6
    forty = (rich.pictures * 2)[:40]
    assert len(render(replace(rich, pictures=forty)).encode()) < 3e6


def test_the_same_findings_give_the_same_bytes(rich: Findings, pages: dict[str, str]) -> None:
    assert render(rich) == pages["rich"]


def test_code_in_names_stays_text(pages: dict[str, str]) -> None:
    page = Page(pages["nasty"])
    assert [t for t, _ in page.elements].count("script") == 1
    assert not any("onerror" in a for _, a in page.elements)
    assert all(a.get("src", "data:").startswith("data:") for t, a in page.elements if t == "img")
    assert "<script>alert('x')</script>" in page.text
    assert not [k for _, a in page.elements for k in a if k.startswith("on")]


def test_numbers_that_are_none_are_called_so(pages: dict[str, str]) -> None:
    text = Page(pages["nasty"]).text
    assert "not computed" in text
    assert "nan" not in re.sub(r"[^a-z ]", " ", text.lower()).split()
    assert not re.search(r'="[^"]*\bnan\b[^"]*"', pages["nasty"])


def test_a_verdict_without_a_number_is_not_shown(rich: Findings) -> None:
    hole = Estimate(float("nan"), float("nan"), float("nan"))
    arms = [replace(a, difference=hole, verdict="better") if a.arm == "mixed 4:1" else a for a in rich.arms]
    forest = render(replace(rich, arms=arms)).split('id="forest-steps-0-4-t"')[1].split("s-row")[0]
    assert "not computed" in forest
    assert "better" not in forest


def test_lower_is_better_turns_the_words(rich: Findings) -> None:
    text = Page(render(replace(rich, metric=replace(rich.metric, higher_is_better=False, unit="mm")))).text
    assert "left is better" in text
    assert "right is better" not in text


def test_two_engines_get_panels_of_their_own(rich: Findings) -> None:
    more = [replace(c, name="augmentation") for c in rich.curves if c.name == "simulate-ct"]
    text = render(replace(rich, curves=[*rich.curves, *more]))
    assert text.count("simulate-ct: inside, equal steps") >= 1
    assert text.count("augmentation: inside, equal steps") >= 1


def test_figures_are_labelled_for_screen_readers(pages: dict[str, str]) -> None:
    page = Page(pages["rich"])
    ids = set(page.ids())
    drawn = [a for t, a in page.elements if t == "svg" and a.get("role") == "img"]
    assert len(drawn) > 40
    assert all(set(a["aria-labelledby"].split()) <= ids for a in drawn)
    silent = [a for t, a in page.elements if t == "svg" and "role" not in a and "aria-hidden" not in a]
    assert all(a.get("overflow") == "visible" for a in silent)  # a marker inside a labelled figure
    assert all(a.get("alt") for t, a in page.elements if t == "img")


def test_lineage_of_every_picture_is_behind_it(rich: Findings, pages: dict[str, str]) -> None:
    assert pages["rich"].count('<template class="lineage">') == len(rich.pictures)
    part = pages["rich"].split("<template")[2]
    for words in (
        "Engine",
        "simulate-ct",
        "Seed",
        "7/simulate-ct/6",
        "Parents",
        "P-001, P-017",
        "Licence",
        "CC BY 3.0",
    ):
        assert words in part


def test_written_files_and_the_round_trip(rich: Findings, nasty: Findings, tmp_path: Path) -> None:
    file = write_report(rich, tmp_path / "reports" / "one")
    assert file.name == "report.html"
    assert file.read_text(encoding="utf-8") == render(rich)
    assert sorted(p.name for p in file.parent.iterdir()) == ["report.html", "report.json"]
    read = json.loads(file.with_suffix(".json").read_text(encoding="utf-8"))
    assert read == strict(rich.as_dict())
    assert read["arms"][1]["difference"]["value"] == rich.arms[1].difference.value  # type: ignore[union-attr]
    write_report(nasty, tmp_path)
    text = (tmp_path / "report.json").read_text(encoding="utf-8")
    hole = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert hole["metric"]["margin"] is None


@pytest.mark.parametrize(("number", "kind"), [(errno.ENOSPC, WorkspaceFullError), (errno.EACCES, WorkspaceError)])
def test_a_disk_that_refuses_is_one_clear_error(
    rich: Findings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, kind: type[Exception]
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(number, "no")

    monkeypatch.setattr(page_module.os, "fdopen", refuse)
    with pytest.raises(kind, match="report could not be written"):
        write_report(rich, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_a_file_is_one_clear_error(empty: Findings, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("x")
    with pytest.raises(WorkspaceError, match="could not be written"):
        write_report(empty, tmp_path / "taken")


def test_numbers_in_words() -> None:
    assert plain(-0.0004, 3) == "0.000"
    assert plain(-1234.5, 1) == "−1,234.5"
    assert plain(None) == plain(float("inf")) == "not computed"
    assert interval(Estimate(0.1, -0.02, 0.22), 2, signed=True) == "+0.10 [−0.02, +0.22]"
    assert decimals_for([Estimate(0, -0.016, 0.016)]) == 3
    assert decimals_for([Estimate(0, -0.09, 0.09)]) == 2
    assert decimals_for([Estimate(0, -6, 6)]) == 0
    assert decimals_for([None, Estimate(float("nan"), 0, 1)]) == 3

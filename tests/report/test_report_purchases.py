from __future__ import annotations

import re
from dataclasses import replace

import pytest

from equipoise.experiment.findings import Advice, Estimate, Findings
from equipoise.report.content import Section
from equipoise.report.forest import forest
from equipoise.report.gallery import side_by_side
from equipoise.report.purchases import purchases
from equipoise.report.wording import interval


def drawn(section: Section) -> str:
    return "".join(str(f) for f in section.figures)


def test_every_expected_score_has_its_interval(rich: Findings) -> None:
    book, section = rich.money, purchases(rich)
    assert book.expected is not None
    assert book.expected_low is not None
    assert book.expected_high is not None
    tips = re.findall(r"<title>([^<]*expected)</title>", drawn(section))
    rows = section.tables[-1].rows
    assert len(tips) == len(rows) == 81
    for at in (0, 40, 80):
        i, j = divmod(at, 9)
        e = Estimate(book.expected[i][j], book.expected_low[i][j], book.expected_high[i][j])
        assert f"Dice {interval(e, 3)} expected" in tips[at]
        assert rows[at][3].text == interval(e, 3)
        assert rows[at][3].sort == e.value
    # The narrowest stands at 4 real patients, +- .0112, the widest at 64, +- .0292.
    narrow = Estimate(book.expected[0][0], book.expected_low[0][0], book.expected_high[0][0])
    wide = Estimate(book.expected[0][8], book.expected_low[0][8], book.expected_high[0][8])
    assert f"at their narrowest {interval(narrow, 3)}" in drawn(section)
    assert f"at their widest {interval(wide, 3)}" in drawn(section)


def test_an_expected_score_without_an_interval_is_not_shown(rich: Findings) -> None:
    section = purchases(replace(rich, money=replace(rich.money, expected_low=None)))
    assert "Dice not computed" in drawn(section)
    assert "Its intervals were not computed." in drawn(section)
    assert {row[3].text for row in section.tables[-1].rows} == {"not computed"}
    costs = purchases(replace(rich, money=replace(rich.money, expected=None)))
    assert {row[3].text for row in costs.tables[-1].rows} == {"no law fitted"}


def test_nothing_to_buy_is_said_with_the_margin(rich: Findings) -> None:
    gain = Estimate(0.002, 0.001, 0.004)
    said = "Buy nothing yet: the best purchase gains less than matters."
    advice = Advice("buy nothing yet", said, 600, "EUR", 0, 0, gain, gain)
    section = purchases(replace(rich, advice=advice))
    text = re.sub(r"<[^>]+>", " ", drawn(section))
    assert section.sentence == said
    assert "The best purchase would gain" in text
    assert "+0.0020 [+0.0010, +0.0040]" in text
    near = Estimate(0.005, 0.0004, 0.016)
    shown = drawn(purchases(replace(rich, advice=replace(advice, expected_gain=near, always_real_gain=near))))
    assert "+0.0050 [+0.0004, +0.0160]" in shown  # a bound above 0 does not read as 0
    assert re.search(r"Smallest relevant gain\s+0.02", text)
    assert "Purchase" not in text.replace("Price", "")


@pytest.mark.parametrize("agrees", [True, False])
def test_the_mixed_effects_check_is_told_below_the_forest(rich: Findings, agrees: bool) -> None:
    assert rich.mixed_effects is not None
    found = replace(rich.mixed_effects, agrees=agrees)
    how = " ".join(forest(replace(rich, mixed_effects=found)).how)
    for e, name in (
        (found.patient, "between patients"),
        (found.replicate, "between replicates"),
        (found.residual, "the rest"),
    ):
        assert re.search(rf"{re.escape(interval(e, 3))} {name}", how), name
    assert found.sentence in how
    assert "Mixed-effects" not in " ".join(forest(replace(rich, mixed_effects=None)).how)


def test_frames_are_said_to_be_identical_only_where_they_are(rich: Findings) -> None:
    assert "the same frame, 67.2 mm by 67.2 mm" in str(side_by_side(rich))
    first, *rest = rich.pictures
    assert "the same frame" not in str(side_by_side(replace(rich, pictures=[replace(first, width=90), *rest])))

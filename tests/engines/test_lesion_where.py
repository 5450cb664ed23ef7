from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from equipoise.engines.anatomy.lesion.clauses import Clause, Interval, Place
from equipoise.engines.anatomy.lesion.where import WORDS, parse_where
from equipoise.errors import PlanError

PERIPHERY = Place("periphery")


def holds(clauses: tuple[Clause, ...], **values: float) -> bool:
    return any(all(clause.bound(name).holds(x) for name, x in values.items()) for clause in clauses)


def test_the_example_of_the_manual() -> None:
    (clause,) = parse_where("lesion < 6 mm and site = periphery")
    assert clause.bound("size") == Interval(high=6, high_open=True)
    assert clause.places == (PERIPHERY,)


@pytest.mark.parametrize(
    ("text", "size", "wanted"),
    [
        ("lesion < 6", 6.0, False),
        ("lesion <= 6 mm", 6.0, True),
        ("nodule > 0.6 cm", 6.0, False),
        ("diameter >= 6000 um", 6.0, True),
        ("3 mm <= size < 6", 3.0, True),
        ("3 mm <= size < 6", 6.0, False),
        ("6 > lesion", 5.9, True),
        ("not lesion < 6", 5.9, False),
        ("not (3 <= lesion < 6)", 2.9, True),
        ("not (3 <= lesion < 6)", 4.0, False),
        ("lesion < 3 or lesion > 9", 5.0, False),
        ("lesion < 3 or lesion > 9", 10.0, True),
        ("lesion < 3 or lesion < 9 and lesion > 5", 4.0, False),
        ("(lesion < 3 or lesion < 9) and lesion > 5", 6.0, True),
    ],
)
def test_sizes(text: str, size: float, wanted: bool) -> None:
    assert holds(parse_where(text, "nodule"), size=size) is wanted


@pytest.mark.parametrize(
    ("text", "places"),
    [
        ("periphery", (PERIPHERY,)),
        ("site = centre", (Place("periphery", wanted=False),)),
        ("site != centre", (PERIPHERY,)),
        ("not site = periphery", (Place("periphery", wanted=False),)),
        ("in right upper lobe", (Place("in", "right upper lobe"),)),
        ("site = in 'Left Lung'", (Place("in", "Left Lung"),)),
        ("near pleura", (Place("near", "pleura"),)),
        ("not near ventricle within 1 cm", (Place("near", "ventricle", 10.0, False),)),
        ("site = near chest wall within 5 mm and in lung", (Place("near", "chest wall", 5.0), Place("in", "lung"))),
    ],
)
def test_places(text: str, places: tuple[Place, ...]) -> None:
    (clause,) = parse_where(text)
    assert clause.places == places


def test_words_are_conditions_on_shape() -> None:
    assert holds(parse_where("round"), sphericity=0.95, lobulation=0.1, margin=0.1)
    assert not holds(parse_where("not shape = round"), sphericity=0.95, lobulation=0.1, margin=0.1)
    assert len(parse_where("irregular")) == 2
    for word in WORDS:
        assert parse_where(word) == parse_where(f"shape = {word}") == parse_where(WORDS[word])


def test_counts() -> None:
    assert holds(parse_where("count = 3"), count=3)
    assert not holds(parse_where("count != 3"), count=3)
    assert holds(parse_where("count != 3"), count=4)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("leson < 6", "character 1.*Did you mean 'lesion'"),
        ("site = perifery", "Did you mean 'periphery'"),
        ("spiculate", "Did you mean 'spiculated'"),
        ("lesion < 6 kg", "'kg' is no unit of length"),
        ("lesion < many", "compared with a number"),
        ("lesion = 6 mm", "never exactly a number"),
        ("count < 2.5", "whole numbers"),
        ("margin < 0.5 mm", "margin has no unit"),
        ("(lesion < 6", "bracket is not closed"),
        ("lesion < 6 site = centre", "after the end"),
        ("lesion < 6 and", "a condition is missing"),
        ("site = near", "must be followed by a structure"),
        ("site periphery", "after site comes ="),
        ("lesion < 6 & centre", "'&' at character 12 cannot be read"),
        ("lesion > 6 and lesion < 3", "contradicts itself"),
        ("in lung and not in lung", "contradicts itself"),
        (" and ".join(["(lesion < 3 or lesion > 9 or count = 2)"] * 1 + [f"(count != {n} or round)" for n in range(9)]),
         "alternatives"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_said_where(text: str, message: str) -> None:
    with pytest.raises(PlanError, match=message):
        parse_where(text)


QUANTITY = st.sampled_from(["size", "margin", "sphericity"])
COMPARED = st.builds(
    lambda q, order, x: (f"{q} {order} {x}", lambda v: eval(f"v[{q!r}] {order} {x}", {"v": v})),
    QUANTITY,
    st.sampled_from(["<", "<=", ">", ">="]),
    st.integers(0, 4),
)
CONDITION = st.recursive(
    COMPARED,
    lambda inner: st.one_of(
        st.builds(lambda a: (f"not ({a[0]})", lambda v: not a[1](v)), inner),
        st.builds(lambda a, b: (f"({a[0]}) and ({b[0]})", lambda v: a[1](v) and b[1](v)), inner, inner),
        st.builds(lambda a, b: (f"({a[0]}) or ({b[0]})", lambda v: a[1](v) or b[1](v)), inner, inner),
    ),
    max_leaves=5,
)


@given(CONDITION, st.fixed_dictionaries({q: st.integers(-1, 5) for q in ("size", "margin", "sphericity")}))
def test_clauses_mean_what_the_text_says(condition, values) -> None:  # type: ignore[no-untyped-def]
    text, means = condition
    try:
        clauses = parse_where(text)
    except PlanError:  # "contradicts itself": then nothing may satisfy it
        clauses = ()
    assert holds(clauses, **values) == means(values)

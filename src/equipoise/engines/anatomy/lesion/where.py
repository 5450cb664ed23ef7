"""The language in which a user says which lesions to draw: ``lesion < 6 mm and site = periphery``.

::

    condition   = conjunction { "or" conjunction }
    conjunction = factor { "and" factor }
    factor      = "not" factor | "(" condition ")" | comparison | place | word
    comparison  = [ number [ unit ] order ] quantity order number [ unit ]
    quantity    = "lesion" | "size" | "diameter" | the finding's name | "count"
                | "sphericity" | "spiculation" | "lobulation" | "margin"
    order       = "<" | "<=" | ">" | ">=", and for "count" also "=" | "!="
    unit        = "mm" | "cm" | "um" (sizes only; mm where none is written)
    place       = [ "site" ( "=" | "!=" ) ] ( "periphery" | "centre" | "in" structure | "near" structure [ within ] )
    within      = "within" number [ unit ]
    word        = [ "shape" "=" ] one of `WORDS`
    structure   = words as the label map names it, or 'quoted'

A condition is turned into clauses of which one has to hold. A clause is a box of sizes and shapes and a set of places,
so lesions are drawn inside it, and nothing is drawn to be thrown away.
"""

from __future__ import annotations

import re

from equipoise.engines.anatomy.lesion.clauses import QUANTITIES, Clause, Clauses, Interval, Place, both, tidy
from equipoise.errors import PlanError, did_you_mean

MEANS_SIZE = ("lesion", "size", "diameter")
MEANS_COUNT = ("count", "number")
WORDS = {
    "round": "sphericity >= 0.9 and lobulation < 0.3 and margin < 0.4",
    "oval": "sphericity >= 0.7 and sphericity < 0.9 and lobulation < 0.3 and margin < 0.4",
    "irregular": "lobulation >= 0.6 or margin >= 0.6",
    "lobulated": "lobulation >= 0.4",
    "spiculated": "spiculation >= 0.4",
    "circumscribed": "margin < 0.25 and spiculation < 0.1",
    "indistinct": "margin >= 0.5",
}
"""Words of BI-RADS and the Fleischner glossary, as shares of what a shape may have at most; see `draw_shape`."""
MOST_CLAUSES = 64
_MM = {"mm": 1.0, "cm": 10.0, "um": 1e-3, "µm": 1e-3, "μm": 1e-3}
_RESERVED = ("and", "or", "not", "within", "in", "near", "site", "shape")
_TOKEN = re.compile(
    r"\s*(?:(?P<number>\d+(?:\.\d+)?|\.\d+)|(?P<order><=|>=|==|!=|≤|≥|<|>|=)|(?P<bracket>[()])"
    r"|'(?P<single>[^']*)'|\"(?P<double>[^\"]*)\"|(?P<word>[^\W\d_][\w'-]*))"
)
_SAME = {"==": "=", "≤": "<=", "≥": ">="}
_MIRRORED = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "=": "=", "!=": "!="}
_NEGATED = {"<": ">=", "<=": ">", ">": "<=", ">=": "<", "=": "!=", "!=": "="}


def parse_where(text: str, finding: str = "lesion") -> Clauses:
    """Return the clauses of a condition; of an empty one, a single clause that everything satisfies.

    Parameters
    ----------
    text
        The condition, see the grammar above.
    finding
        A further name for the lesion's size: ``"nodule"`` allows ``nodule < 6 mm``.

    Raises
    ------
    PlanError
        Where the text leaves the grammar, with the position and the nearest known word; where it contradicts itself.

    Examples
    --------
    >>> [clause] = parse_where("3 mm <= lesion < 6 mm and site = periphery")
    >>> clause.bound("size")
    Interval(low=3.0, high=6.0, low_open=False, high_open=True)
    >>> clause.places
    (Place(relation='periphery', structure='', mm=None, wanted=True),)
    """
    if not text.strip():
        return (Clause(),)
    reader = _Reader(text, finding)
    found = tidy(reader.condition(False))
    reader.end()
    if not found:
        raise PlanError(f"where = {text!r} contradicts itself: no lesion is possible", fix="loosen one of its parts")
    return found


class _Reader:
    """Reads a condition from left to right. Under a ``not`` everything is read as its opposite (De Morgan)."""

    def __init__(self, text: str, finding: str) -> None:
        self.text, self.finding = text, finding
        self.tokens = self._tokens()
        self.at = 0

    def condition(self, opposite: bool) -> Clauses:
        found = self.conjunction(opposite)
        while self._word("or"):
            found = self._joined(found, self.conjunction(opposite), opposite)
        return found

    def conjunction(self, opposite: bool) -> Clauses:
        found = self.factor(opposite)
        while self._word("and"):
            found = self._joined(found, self.factor(opposite), not opposite)
        return found

    def _joined(self, a: Clauses, b: Clauses, together: bool) -> Clauses:
        if (len(a) * len(b) if together else len(a) + len(b)) > MOST_CLAUSES:
            raise self._error(f"this has more than {MOST_CLAUSES} alternatives", fix="split it into several arms")
        return both(a, b) if together else tidy((*a, *b))

    def factor(self, opposite: bool) -> Clauses:
        if self._word("not"):
            return self.factor(not opposite)
        if self._take("bracket", "("):
            found = self.condition(opposite)
            if not self._take("bracket", ")"):
                raise self._error("a bracket is not closed", fix="add )")
            return found
        kind, value = self._peek()
        if kind == "number":
            return self._chained(opposite)
        if kind != "word":
            raise self._error("a condition is missing" if kind == "end" else f"{value!r} cannot stand here")
        if value in ("in", "near", "site", "periphery", "centre", "center", "peripheral", "central"):
            return self._place(opposite)
        if self._word("shape"):
            if not self._take("order", "="):
                raise self._error("after shape comes =", fix="for example shape = round")
            return self._shape(self._words(), opposite)
        return self._named(opposite)

    def _named(self, opposite: bool) -> Clauses:
        start = self.at
        name = self._words()
        if self._peek()[0] != "order":
            return self._shape(name, opposite, start)
        quantity = self._quantity(name, start)
        return self._compare(quantity, self._order(), self._number(quantity), opposite)

    def _chained(self, opposite: bool) -> Clauses:
        start = self.at
        self.at += 1
        while self._peek()[0] == "word":
            self.at += 1
        first = self._order()
        at_name = self.at
        quantity = self._quantity(self._words(), at_name)
        after = self.at
        self.at = start
        low = self._number(quantity)
        self.at = after
        lower = self._compare(quantity, _MIRRORED[first], low, opposite)
        if self._peek()[0] != "order":
            return lower
        upper = self._compare(quantity, self._order(), self._number(quantity), opposite)
        return tidy((*lower, *upper)) if opposite else both(lower, upper)

    def _compare(self, quantity: str, order: str, value: float, opposite: bool) -> Clauses:
        if order in ("=", "!=") and quantity != "count":
            raise self._error(f"{quantity} is measured, never exactly a number", fix="use <, <=, > or >=")
        order = _NEGATED[order] if opposite else order
        intervals = {
            "<": (Interval(high=value, high_open=True),),
            "<=": (Interval(high=value),),
            ">": (Interval(low=value, low_open=True),),
            ">=": (Interval(low=value),),
            "=": (Interval(value, value),),
            "!=": (Interval(high=value, high_open=True), Interval(low=value, low_open=True)),
        }[order]
        place = QUANTITIES.index(quantity)
        free = (Interval(),) * len(QUANTITIES)
        return tuple(Clause((*free[:place], interval, *free[place + 1 :])) for interval in intervals)

    def _place(self, opposite: bool) -> Clauses:
        wanted = not opposite
        if self._word("site"):
            if self._take("order", "!="):
                wanted = not wanted
            elif not (self._take("order", "=") or self._take("order", "==")):
                raise self._error("after site comes = or !=", fix="for example site = periphery")
        if self._word("near"):
            structure = self._structure("near")
            return (Clause(places=(Place("near", structure, self._within(), wanted),)),)
        if self._word("in"):
            return (Clause(places=(Place("in", self._structure("in"), None, wanted),)),)
        start, word = self.at, self._words()
        if word in ("periphery", "peripheral"):
            return (Clause(places=(Place("periphery", wanted=wanted),)),)
        if word in ("centre", "center", "central"):
            return (Clause(places=(Place("periphery", wanted=not wanted),)),)
        self.at = start
        near = did_you_mean(word, ("periphery", "centre", "in", "near"))
        raise self._error(f"there is no site {word!r}.{near}", fix="site = periphery, centre, in NAME or near NAME")

    def _within(self) -> float | None:
        return self._number("size") if self._word("within") else None

    def _structure(self, relation: str) -> str:
        kind, value = self._peek()
        if kind == "quoted":
            self.at += 1
            name = value.strip()
        else:
            name = self._words()
        if not name:
            raise self._error(f"{relation!r} must be followed by a structure", fix=f"for example {relation} lung")
        return name

    def _shape(self, word: str, opposite: bool, start: int | None = None) -> Clauses:
        if word in WORDS:
            return _Reader(WORDS[word], self.finding).condition(opposite)
        self.at = self.at - 1 if start is None else start
        known = (*WORDS, *QUANTITIES, "lesion", self.finding, "periphery", "centre", "site", "near", "in", "not")
        raise self._error(
            f"{word!r} is not known.{did_you_mean(word, known)}",
            fix=f"shape words are {', '.join(WORDS)}; quantities, to compare with a number, "
            f"{', '.join(('lesion', *QUANTITIES))}",
        )

    def _quantity(self, name: str, start: int) -> str:
        if name in (*MEANS_SIZE, self.finding.lower()):
            return "size"
        if name in MEANS_COUNT:
            return "count"
        if name in QUANTITIES:
            return name
        self.at = start
        known = (*MEANS_SIZE, self.finding, *QUANTITIES)
        raise self._error(f"{name!r} has no size or number.{did_you_mean(name, known)}")

    def _number(self, quantity: str) -> float:
        kind, value = self._peek()
        if kind != "number":
            raise self._error(f"{quantity} is compared with a number", fix="for example lesion < 6 mm")
        self.at += 1
        factor = 1.0
        kind, unit = self._peek()
        if kind == "word" and unit not in _RESERVED:
            if quantity != "size":
                raise self._error(f"{quantity} has no unit, got {unit!r}")
            if unit not in _MM:
                raise self._error(f"{unit!r} is no unit of length.{did_you_mean(unit, ('mm', 'cm', 'um'))}")
            factor = _MM[unit]
            self.at += 1
        number = float(value)
        if quantity == "count" and number != int(number):
            raise self._error(f"lesions are counted in whole numbers, got {value}")
        return number * factor

    def _order(self) -> str:
        kind, value = self._peek()
        if kind != "order":
            raise self._error("a comparison is missing", fix="<, <=, > or >=")
        self.at += 1
        return _SAME.get(value, value)

    def _words(self) -> str:
        taken: list[str] = []
        while self._peek()[0] == "word" and (self._peek()[1] not in _RESERVED):
            taken.append(self._peek()[1])
            self.at += 1
        return " ".join(taken)

    def _word(self, word: str) -> bool:
        return self._take("word", word)

    def _take(self, kind: str, value: str) -> bool:
        if self._peek() == (kind, value):
            self.at += 1
            return True
        return False

    def _peek(self) -> tuple[str, str]:
        return self.tokens[min(self.at, len(self.tokens) - 1)][:2]

    def end(self) -> None:
        kind, value = self._peek()
        if kind != "end":
            raise self._error(
                f"{value!r} comes after the end of a condition", fix="join conditions with and / or, or use brackets"
            )

    def _tokens(self) -> list[tuple[str, str, int]]:
        found: list[tuple[str, str, int]] = []
        at = 0
        while self.text[at:].strip():
            match = _TOKEN.match(self.text, at)
            if match is None:
                at += len(self.text[at:]) - len(self.text[at:].lstrip())
                raise PlanError(f"where = {self.text!r}: {self.text[at]!r} at character {at + 1} cannot be read")
            kind = str(match.lastgroup)
            value = match[kind]
            if kind in ("single", "double"):
                kind = "quoted"
            found.append((kind, value.lower() if kind == "word" else value, match.start(match.lastgroup or 0)))
            at = match.end()
        return [*found, ("end", "", len(self.text))]

    def _error(self, message: str, fix: str | None = None) -> PlanError:
        place = self.tokens[min(self.at, len(self.tokens) - 1)][2]
        return PlanError(f"where = {self.text!r}, at character {place + 1}: {message}", fix=fix)


__all__ = ["MEANS_SIZE", "WORDS", "parse_where"]

from __future__ import annotations

import pickle
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint
from typing import ClassVar, Literal

import pytest

from equipoise.core import registry
from equipoise.errors import EquipoiseError, LeakageError, PlanError, UnknownKindError, did_you_mean


@dataclass(frozen=True)
class Toy:
    kind: ClassVar[str] = "toy"
    steps: int = 20
    strength: float = 1.0
    mode: Literal["fast", "good"] = "fast"
    size: tuple[int, ...] | None = None
    _learned: int = field(default=0, repr=False)


@pytest.fixture(autouse=True)
def _toy_is_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = EntryPoint("toy", f"{__name__}:Toy", "equipoise.engines")
    monkeypatch.setattr(registry, "entry_points", lambda group: [entry])


def test_a_specification_round_trips() -> None:
    spec = {"kind": "toy", "steps": 3, "strength": 2, "mode": "good", "size": [4, 5]}
    toy = registry.make("engines", spec)
    assert toy == Toy(3, 2.0, "good", (4, 5))
    assert registry.make("engines", registry.spec_of(toy)) == toy
    assert "_learned" not in registry.spec_of(toy)


@pytest.mark.parametrize(
    ("spec", "error", "word"),
    [
        ({"kind": "toi"}, UnknownKindError, "Did you mean 'toy'"),
        ({"kind": "toy", "step": 3}, PlanError, "Did you mean 'steps'"),
        ({"kind": "toy", "steps": 3.5}, PlanError, "toy.steps must be int"),
        ({"kind": "toy", "steps": True}, PlanError, "toy.steps must be int"),
        ({"kind": "toy", "mode": "god"}, PlanError, "Did you mean 'good'"),
        ({"kind": "toy", "size": ["a"]}, PlanError, "toy.size"),
        ({"kind": "toy", "_learned": 3}, PlanError, "no parameter"),
        ({"steps": 3}, PlanError, "must name its kind"),
    ],
)
def test_a_wrong_specification_names_the_nearest(spec: dict, error: type[Exception], word: str) -> None:
    with pytest.raises(error, match=word):
        registry.make("engines", spec)


def test_an_unknown_group_names_the_nearest() -> None:
    with pytest.raises(UnknownKindError, match="Did you mean 'engines'"):
        registry.kinds("engine")


def test_errors_say_what_which_file_why_and_the_fix_also_from_another_process() -> None:
    error = LeakageError("a leak", file="x.nii", why="it counts", fix="mend it")
    copy = pickle.loads(pickle.dumps(error))
    assert str(copy) == str(error)
    for text in ("a leak", "x.nii", "it counts", "mend it"):
        assert text in str(copy)
    assert isinstance(copy, EquipoiseError)
    assert copy.as_dict()["error"] == "LeakageError"


def test_no_near_name_lists_all() -> None:
    assert did_you_mean("zzz", ["dice", "hd95"]) == " Known: dice, hd95."

"""A contract for a kind that is made without arguments, to test the contract itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from equipoise.core import Case


def contract_of(suite: type, cls: type, training: Sequence[Case]) -> Any:
    class Contract(suite):  # type: ignore[misc]
        def make(self) -> Any:
            return cls()

        def cases(self) -> Sequence[Case]:
            return training

    return Contract()


def rules_of(suite: type) -> list[str]:
    """The tests that one inherits."""
    return [name for name in dir(suite) if name.startswith("test_")]

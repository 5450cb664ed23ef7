from __future__ import annotations

import pytest

from equipoise.core import Case
from equipoise.demo.data import Demo


@pytest.fixture(scope="session")
def demo_cases() -> list[Case]:
    return Demo(patients=40).read()

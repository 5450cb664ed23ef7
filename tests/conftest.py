"""Options and data that every test may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

# The same examples in every run: a red run is a change of the code, not of the dice. No deadline: machines are shared.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--require-services", action="store_true", help="a missing service (browser, cluster, data) fails, not skips"
    )


def missing(config: pytest.Config, what: str) -> None:
    """Skip by name what is not installed here; with ``--require-services``, fail."""
    if config.getoption("--require-services"):
        pytest.fail(f"{what} is required by --require-services and is missing")
    pytest.skip(f"{what} is missing")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of public data sets, or a skip: they are never part of the repository."""
    folder = Path(os.environ.get("EQUIPOISE_SHARED", Path(__file__).parents[2] / "shared")) / "data"
    if not folder.is_dir():
        pytest.skip(f"no public data sets in {folder}; set EQUIPOISE_SHARED to their parent folder")
    return folder

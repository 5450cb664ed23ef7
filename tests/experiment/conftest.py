from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import toys

from equipoise.core import registry
from equipoise.experiment.run import Finished
from equipoise.workspace import Workspace


@pytest.fixture(autouse=True, scope="module")
def _toys_are_registered() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "entry_points", lambda group: toys.ENTRIES.get(group, []))
        yield


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    with Workspace(tmp_path / "w") as opened:
        yield opened


@pytest.fixture
def finish(workspace: Workspace) -> Callable[..., Finished]:
    """Run a toy plan to its end in the test's workspace."""
    return partial(toys.finished_in, workspace)

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import sqlite3
import time
from pathlib import Path

import numpy as np
import pytest

from equipoise.errors import UnreadableFileError, WorkspaceBusyError, WorkspaceError, WorkspaceFullError
from equipoise.workspace import ObjectStore, Workspace
from equipoise.workspace import objects as objects_module
from equipoise.workspace.cases import case_from_bytes, case_to_bytes
from making import blob_case, synthetic

KEY = "ab" * 32


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    with Workspace(tmp_path / "w") as opened:
        yield opened


def test_objects_are_named_by_their_content_and_checked(tmp_path: Path) -> None:
    store = ObjectStore(tmp_path)
    name = store.put(b"abc")
    assert store.put(b"abc") == name
    assert store.get(name) == b"abc"
    store.path(name).write_bytes(b"abd")
    with pytest.raises(UnreadableFileError, match="damaged"):
        store.get(name)
    with pytest.raises(UnreadableFileError, match="missing"):
        store.get("0" * 64)


def test_a_full_disk_is_said_and_leaves_no_half_object(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    store = ObjectStore(tmp_path)
    monkeypatch.setattr(objects_module.os, "fsync", full)
    with pytest.raises(WorkspaceFullError, match="disk is full"):
        store.put(b"abc")
    monkeypatch.undo()
    assert not [p for p in tmp_path.rglob("*") if p.is_file()]
    assert store.get(store.put(b"abc")) == b"abc"


def test_rows_of_finished_tasks_come_back_in_the_order_asked(workspace: Workspace) -> None:
    other = "cd" * 32
    workspace.finish(KEY, "train", [{"a": 1, "b": None}], {"model": "x"}, 1.5)
    workspace.finish(other, "train", [{"a": 2, "b": "z"}], {}, 0.5)
    assert workspace.rows([other, KEY])["a"].to_list() == [2, 1]
    assert workspace.finished([KEY, "ee" * 32]) == {KEY: ({"model": "x"}, 1.5)}


def test_a_task_whose_rows_were_lost_is_not_finished(workspace: Workspace) -> None:
    workspace.finish(KEY, "train", [{"a": 1}], {}, 1.0)
    next((workspace.path / "results").rglob("*.parquet")).unlink()
    assert workspace.finished([KEY]) == {}


def test_two_writers_are_one_too_many(workspace: Workspace) -> None:
    with workspace.writing(), Workspace(workspace.path) as second:
        with pytest.raises(WorkspaceBusyError, match="another run is writing"), second.writing():
            pass
        assert second.read_log() == []


def test_the_log_cannot_be_changed_unseen(workspace: Workspace) -> None:
    workspace.log("sealed", plan="p")
    workspace.log("opened", plan="p")
    assert [entry.what for entry in workspace.read_log()] == ["sealed", "opened"]
    with sqlite3.connect(workspace.path / "equipoise.db") as raw:
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            raw.execute("UPDATE log SET what = 'never'")
        raw.execute("DROP TRIGGER log_no_update")
        raw.execute("UPDATE log SET what = 'never' WHERE number = 1")
    raw.close()
    with pytest.raises(WorkspaceError, match="line 1 of the log was changed"):
        workspace.read_log()


def test_openings_are_numbered_and_a_resume_is_no_second_one(workspace: Workspace) -> None:
    for plan in ("one", "two"):
        workspace.add_plan(plan, "", {})
    assert workspace.open_test_set("set", "one").number == 1
    assert workspace.open_test_set("set", "one").number == 1
    assert workspace.open_test_set("set", "two").number == 2
    assert [o.plan for o in workspace.openings("set")] == ["one", "two"]


def test_what_was_sealed_first_stays(workspace: Workspace) -> None:
    assert workspace.add_plan("p", "text", {"seal": 1}) == {"seal": 1}
    assert workspace.add_plan("p", "text", {"seal": 2}) == {"seal": 1}


def test_a_damaged_database_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "equipoise.db").write_bytes(b"this is no database" * 400)
    with pytest.raises(WorkspaceError, match="cannot be used"):
        Workspace(tmp_path)


def test_a_file_is_no_workspace(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("x")
    with pytest.raises(WorkspaceError, match="this is a file"):
        Workspace(tmp_path / "f")


def _finish_for_ever(path: Path) -> None:
    with Workspace(path) as workspace:
        for number in range(10_000):
            workspace.finish(f"{number:064x}", "train", [{"number": number}], {"number": number}, 0.0)
            print(number, flush=True, file=open(path / "acknowledged", "a"))  # noqa: SIM115, PTH123


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_nothing_acknowledged_is_lost_to_sigkill(tmp_path: Path) -> None:
    with Workspace(tmp_path):
        pass
    child = multiprocessing.get_context("spawn").Process(target=_finish_for_ever, args=(tmp_path,))
    child.start()
    acknowledged = tmp_path / "acknowledged"
    deadline = time.time() + 60
    while time.time() < deadline and not (acknowledged.exists() and acknowledged.read_text().count("\n") > 20):
        time.sleep(0.02)
    os.kill(child.pid or 0, signal.SIGKILL)
    child.join()
    promised = [int(line) for line in acknowledged.read_text().split()]
    assert len(promised) > 20
    with Workspace(tmp_path) as workspace, workspace.writing():
        keys = [f"{number:064x}" for number in promised]
        assert len(workspace.finished(keys)) == len(promised)
        assert workspace.rows(keys)["number"].to_list() == promised


def test_a_case_survives_the_store_byte_for_byte() -> None:
    case = synthetic("s", "a", "b")
    data = case_to_bytes(case)
    again = case_from_bytes(data)
    np.testing.assert_array_equal(again.image.array, case.image.array)
    np.testing.assert_array_equal(again.labels.array, case.labels.array)
    assert (again.id, again.patient, again.origin) == (case.id, case.patient, case.origin)
    assert case_to_bytes(again) == data
    with pytest.raises(UnreadableFileError, match="no stored case"):
        case_from_bytes(data[:100])
    assert blob_case("x").origin.kind == "real"

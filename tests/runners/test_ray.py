"""The Ray runner on a real local cluster: two nodes of one CPU, a third that is killed, workers that are killed."""

from __future__ import annotations

import importlib.util
import json
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
import types
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import toys
from cluster_work import (
    InFolder,
    die_always,
    die_once,
    halves,
    hang_there,
    last_for_ever,
    refuse,
    second,
    sees,
    square,
    toy_task,
    toy_task_that_hangs,
)

from equipoise.core import registry
from equipoise.errors import EquipoiseError, MissingDependencyError, PlanError, WorkspaceError
from equipoise.experiment.plan import parse_plan
from equipoise.experiment.preparation import prepare
from equipoise.experiment.run import run
from equipoise.experiment.tasks import Result, Task, Train, run_task
from equipoise.runners import InProcess, Runner, make_runner, ray_cluster
from equipoise.runners.ray_cluster import RayCluster
from equipoise.workspace import Workspace

pytestmark = pytest.mark.ray

TESTS = Path(__file__).parents[1]
IMPORTED_FROM = os.pathsep.join(str(TESTS / folder) for folder in ("runners", "experiment", "."))
PATIENCE_S = 60


# The cluster. -------------------------------------------------------------------------------------------------------


def wait_for(condition: Callable[[], Any], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"waited {PATIENCE_S} s in vain: {what}"
        time.sleep(0.05)


def processes_with(mark: str) -> list[tuple[int, str]]:
    """The processes that inherited an environment variable, with their commands; not zombies, and not ourselves."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if int(folder.name) != os.getpid() and mark.encode() in (folder / "environ").read_bytes():
                found.append((int(folder.name), (folder / "cmdline").read_text()[:200]))
        except OSError:
            continue
    return found


def alive(pid: str) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


@pytest.fixture(scope="module")
def ray(pytestconfig: pytest.Config) -> Iterator[types.ModuleType]:
    if importlib.util.find_spec("ray") is None:
        ours = pytestconfig.pluginmanager.get_plugin(str(TESTS / "conftest.py"))
        ours.missing(pytestconfig, "ray (pip install 'equipoise[ray]')")
    with pytest.MonkeyPatch.context() as environment:
        # A cluster without a token would run anybody's code while the tests last. Ray reads this when it is imported.
        if "ray" not in sys.modules:
            environment.setenv("RAY_AUTH_MODE", "token")
            environment.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
        environment.delenv("RAY_ADDRESS", raising=False)
        yield importlib.import_module("ray")


@pytest.fixture(scope="module")
def cluster(ray: types.ModuleType) -> Iterator[Any]:
    """Two nodes of one CPU; at the end none of their processes may be left."""
    from ray.cluster_utils import Cluster

    mark = f"EQUIPOISE_TEST={secrets.token_hex(8)}"
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv(*mark.split("="))
        environment.setenv("PYTHONPATH", IMPORTED_FROM)
        # A machine that is silent is given up after 10 s, where Ray by itself takes a minute.
        soon = {"health_check_period_ms": 500, "health_check_timeout_ms": 3000, "health_check_failure_threshold": 3}
        head = {"num_cpus": 1, "include_dashboard": False, "_system_config": soon}
        started = Cluster(initialize_head=True, head_node_args=head)
        started.add_node(num_cpus=1)
        yield started
        ray.shutdown()
        started.shutdown()
    wait_for(lambda: not processes_with(mark), "the end of the cluster's processes")


@pytest.fixture(scope="module")
def runner(cluster: Any) -> Iterator[RayCluster]:
    """A runner that stays in the cluster from one test to the next: joining it costs seconds."""
    with RayCluster(address=cluster.address) as joined:
        yield joined


@pytest.fixture
def outside(ray: types.ModuleType, runner: RayCluster) -> str:
    """The address of the cluster, for a test that joins it itself."""
    runner.close()
    assert not ray.is_initialized()
    return str(runner.address)


# The same rows. -----------------------------------------------------------------------------------------------------


class OnCluster:
    """A runner whose workers know the toys; ``lost`` is a node that is killed while it trains an arm."""

    def __init__(self, runner: Runner, folder: Path, cluster: Any = None, lost: Any = None) -> None:
        self.runner, self.folder, self.cluster, self.lost = runner, folder, cluster, lost

    def map(self, function: Callable[[Task], Result], tasks: Sequence[Task]) -> Iterator[tuple[int, Result]]:
        assert function is run_task
        if self.lost is not None and tasks and isinstance(tasks[0], Train):
            node, self.lost = self.lost, None
            (self.folder / node.node_id).touch()
            threading.Thread(target=self._kill, args=(node,), daemon=True).start()
            return self.runner.map(toy_task_that_hangs, [(str(self.folder), task) for task in tasks])
        return self.runner.map(toy_task, tasks)

    def close(self) -> None:
        self.runner.close()

    def _kill(self, node: Any) -> None:
        wait_for((self.folder / "hangs").exists, "a task on the node that is to be killed")
        self.cluster.remove_node(node, allow_graceful=False)
        (self.folder / "killed").touch()


def rows_of(folder: Path, runner: Runner) -> pl.DataFrame:
    with Workspace(folder) as workspace:
        prepared = prepare(parse_plan(toys.plan_content()), None, workspace.path / "objects")
        rows = run(prepared, workspace, runner, "", None).rows
        assert not list((workspace.path / "objects").glob(".shared-*"))
    return rows


@pytest.fixture(scope="module")
def in_process(tmp_path_factory: pytest.TempPathFactory) -> pl.DataFrame:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "entry_points", lambda group: toys.ENTRIES.get(group, []))
        return rows_of(tmp_path_factory.mktemp("in process"), InProcess())


@pytest.fixture
def _toys_are_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "entry_points", lambda group: toys.ENTRIES.get(group, []))


@pytest.mark.usefixtures("_toys_are_registered")
def test_a_whole_experiment_gives_the_same_rows_bit_for_bit(
    runner: RayCluster, in_process: pl.DataFrame, tmp_path: Path
) -> None:
    rows = rows_of(tmp_path / "w", OnCluster(runner, tmp_path))
    assert rows.height > 100
    assert rows.equals(in_process)


@pytest.mark.usefixtures("_toys_are_registered")
def test_a_node_killed_in_mid_task_changes_no_row(
    cluster: Any, runner: RayCluster, in_process: pl.DataFrame, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    lost = cluster.add_node(num_cpus=1)
    rows = rows_of(tmp_path / "w", OnCluster(runner, tmp_path, cluster, lost))
    assert (tmp_path / "hangs").exists()
    wait_for((tmp_path / "killed").exists, "the end of the killed node")
    assert rows.equals(in_process)
    assert capfd.readouterr().out == ""


def test_a_node_that_goes_silent_loses_no_task(
    cluster: Any, runner: RayCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_cluster, "_LOOK_EVERY_S", 2.0)
    mark = f"EQUIPOISE_SILENT={secrets.token_hex(8)}"
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv(*mark.split("="))
        lost = cluster.add_node(num_cpus=1)
    (tmp_path / lost.node_id).touch()
    results = runner.map(hang_there, [(str(tmp_path), number) for number in range(60)])
    found = [next(results)]
    assert (tmp_path / "hangs").exists()
    pids = [pid for pid, _ in processes_with(mark)]
    try:
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)  # its connections stay open, as those of a machine without power
        found += results
    finally:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        cluster.remove_node(lost, allow_graceful=False)
    assert sorted(found) == [(i, i) for i in range(60)]


def test_both_nodes_work_with_one_thread_per_task(runner: RayCluster) -> None:
    found = dict(runner.map(square, range(12)))
    assert {index: result[0] for index, result in found.items()} == {i: i * i for i in range(12)}
    assert {result[1] for result in found.values()} == {"1"}
    assert len({result[2] for result in found.values()}) == 2


def test_arrays_arrive_as_they_would_from_here(runner: RayCluster) -> None:
    (_, array), *_ = runner.map(halves, [3.0])
    assert array.flags.writeable
    assert array.tobytes() == halves(3.0).tobytes()


# Killed workers. ----------------------------------------------------------------------------------------------------


def test_a_killed_worker_is_retried(runner: RayCluster, tmp_path: Path) -> None:
    tasks = [(str(tmp_path), number) for number in range(6)]
    assert sorted(result for _, result in runner.map(die_once, tasks)) == list(range(6))
    assert (tmp_path / "3").exists()


def test_a_task_that_kills_every_worker_ends_in_one_clear_error(runner: RayCluster, tmp_path: Path) -> None:
    with pytest.raises(EquipoiseError, match="lost 2 time") as caught:
        list(replace(runner, attempts=2).map(die_always, [str(tmp_path)]))
    assert "memory" in str(caught.value)
    assert "equipoise resume" in str(caught.value)
    assert len(list(tmp_path.iterdir())) == 2


# Errors. ------------------------------------------------------------------------------------------------------------


def test_an_error_comes_through_with_its_fix(runner: RayCluster) -> None:
    with pytest.raises(PlanError) as caught:
        list(runner.map(refuse, ["ours"]))
    assert type(caught.value) is PlanError
    assert str(caught.value) == str(PlanError("no", fix="yes"))
    with pytest.raises(ValueError, match="minus") as plain:
        list(runner.map(refuse, ["plain"]))
    assert type(plain.value) is ValueError
    assert plain.value.args == ("minus",)
    assert "in refuse" in plain.value.__notes__[0]
    with pytest.raises(EquipoiseError, match="Odd: odd"):
        list(runner.map(refuse, ["odd"]))


def test_a_worker_that_does_not_see_the_folder_is_refused(runner: RayCluster, tmp_path: Path) -> None:
    assert [seen for _, seen in runner.map(sees, [InFolder(tmp_path)] * 2)] == [True, True]
    # A task that takes the mark away leaves the next one where a worker is that has another folder of that name.
    one_by_one = replace(runner, workers=1)
    with pytest.raises(WorkspaceError, match="does not see the workspace's objects: it has another folder") as caught:
        list(one_by_one.map(sees, [InFolder(tmp_path, erase=True), InFolder(tmp_path)]))
    assert caught.value.file == str(tmp_path)
    assert "same path on every machine" in str(caught.value.fix)
    assert not list(tmp_path.iterdir())
    assert [seen for _, seen in runner.map(sees, [InFolder(tmp_path / "dry run")])] == [False]
    assert not list(tmp_path.iterdir()), "no workspace is made where there is none"


def test_other_versions_are_refused(runner: RayCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = ray_cluster.versions()
    monkeypatch.setattr(ray_cluster, "versions", lambda: {**mine, "numpy": "0.1"})
    with pytest.raises(EquipoiseError, match=rf"numpy {mine['numpy']} \(the driver: 0.1\)") as caught:
        list(runner.map(halves, [1.0]))
    assert str(caught.value.fix).endswith("pip install numpy==0.1")


def test_a_package_that_is_missing_on_a_worker_is_named(runner: RayCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    plug_in = types.ModuleType("a_plug_in")
    exec("def work(x):\n    return x", plug_in.__dict__)
    monkeypatch.setitem(sys.modules, "a_plug_in", plug_in)
    with pytest.raises(EquipoiseError, match="cannot load a task: No module named 'a_plug_in'"):
        list(runner.map(plug_in.work, [1]))


def test_a_cluster_that_can_never_run_a_task_is_an_error(runner: RayCluster) -> None:
    with pytest.raises(EquipoiseError, match=r"no machine of the Ray cluster could run a task.*1 CPU and 1 GPU"):
        list(replace(runner, gpus=1, patience=0.5).map(halves, [1.0]))


@pytest.mark.usefixtures("outside")
@pytest.mark.parametrize("address", ["127.0.0.1:1", "nonsense"])
def test_no_cluster_at_the_address_is_said_at_once(ray: types.ModuleType, address: str) -> None:
    start = time.monotonic()
    with pytest.raises(EquipoiseError, match=f"no Ray cluster can be joined at {address}") as caught:
        list(RayCluster(address).map(halves, [1.0]))
    assert "ray start" in str(caught.value.fix)
    assert time.monotonic() - start < PATIENCE_S
    assert not ray.is_initialized()


def test_ray_that_is_not_installed_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    assert list(make_runner("ray").map(halves, [])) == []
    with pytest.raises(MissingDependencyError) as caught:
        list(make_runner("ray").map(halves, [1.0]))
    assert caught.value.fix == "pip install 'equipoise[ray]'"


@pytest.mark.parametrize("wrong", [{"workers": -1}, {"attempts": 0}, {"gpus": -0.5}, {"patience": -1.0}])
def test_numbers_without_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(PlanError, match=next(iter(wrong))):
        RayCluster(**wrong)


# Who starts, who stops, and how much is under way. ------------------------------------------------------------------


class Counted(Sequence[tuple[str, int]]):
    """Tasks that note which of them have been asked for."""

    def __init__(self, folder: Path, count: int) -> None:
        self.folder, self.count, self.asked = folder, count, set[int]()

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: Any) -> Any:
        if index >= self.count:
            raise IndexError
        self.asked.add(index)
        return str(self.folder), index


def test_few_tasks_are_under_way_and_closing_ends_them(runner: RayCluster, tmp_path: Path) -> None:
    tasks = Counted(tmp_path, 1000)
    results = runner.map(last_for_ever, tasks)
    assert next(results) == (0, 0)
    wait_for(lambda: any(tmp_path.iterdir()), "a task that lasts")
    assert len(tasks.asked) == 4, "two for each of the two CPUs"
    results.close()
    wait_for(lambda: not any(alive(path.name) for path in tmp_path.iterdir()), "the end of the workers")
    assert dict(runner.map(halves, [2.0, 4.0])).keys() == {0, 1}, "the CPUs are free again"


def test_workers_limits_what_runs_at_once(runner: RayCluster, tmp_path: Path) -> None:
    tasks = Counted(tmp_path, 3)
    for index, result in replace(runner, workers=1).map(second, tasks):
        assert index == result
        assert len(tasks.asked) == index + 1


def test_ray_of_the_caller_is_used_and_left_as_it_is(ray: types.ModuleType, outside: str) -> None:
    ray.init(address=outside, log_to_driver=False)
    try:
        with RayCluster("127.0.0.1:1") as other:
            assert len(list(other.map(halves, [1.0, 2.0]))) == 2
        assert ray.is_initialized()
    finally:
        ray.shutdown()


def test_a_runner_that_is_dropped_leaves_the_cluster(
    ray: types.ModuleType, outside: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", outside)
    before = signal.getsignal(signal.SIGTERM)
    dropped = make_runner("ray")
    assert len(list(dropped.map(halves, [1.0]))) == 1
    assert len(list(dropped.map(halves, [1.0]))) == 1
    assert ray.is_initialized()
    del dropped
    assert not ray.is_initialized()
    assert signal.getsignal(signal.SIGTERM) == before


ALONE = """
import json, sys
from cluster_work import die_always, die_once
from equipoise.errors import EquipoiseError
from equipoise.runners.ray_cluster import RayCluster
runner = RayCluster(workers=2, attempts=2)
found = sorted(runner.map(die_once, [(sys.argv[1], number) for number in range(5)]))
try:
    list(runner.map(die_always, [sys.argv[2]]))
except EquipoiseError as error:
    print(json.dumps([found, error.message]))
"""


def test_without_a_cluster_ray_runs_here_and_leaves_nothing_behind(ray: types.ModuleType, tmp_path: Path) -> None:
    for name in ("home", "once", "always"):
        (tmp_path / name).mkdir()
    mark = f"EQUIPOISE_TEST={secrets.token_hex(8)}"
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    name, value = mark.split("=")
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", ALONE, str(tmp_path / "once"), str(tmp_path / "always")],
        env={**kept, "HOME": str(tmp_path / "home"), "PYTHONPATH": IMPORTED_FROM, name: value},
        capture_output=True,
        text=True,
        timeout=3 * PATIENCE_S,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    found, message = json.loads(done.stdout)  # one line: nothing of Ray's own is printed
    assert found == [[i, i] for i in range(5)]
    assert "lost 2 time" in message
    assert not list((tmp_path / "home").iterdir()), "no token is left in the home folder"
    wait_for(lambda: not processes_with(mark), "the end of Ray's processes")

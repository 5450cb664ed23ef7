"""Engines that train themselves, in an experiment: kept, resumed, shared, heard of, costed; on the same label maps."""

from __future__ import annotations

import importlib.metadata
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import toys
from typer.testing import CliRunner

from equipoise.cli.app import app
from equipoise.core import Case, registry
from equipoise.engines.parts.learned import kept_encoder
from equipoise.engines.parts.learned.course import Run
from equipoise.engines.parts.learned.keeping import folder_for, heard_by, kept_in, tell
from equipoise.errors import EngineError
from equipoise.experiment import fits as fits_module
from equipoise.experiment.data import part_cases
from equipoise.experiment.fits import fit_engine, watched
from equipoise.experiment.forecast import estimate_cost
from equipoise.experiment.plan import load_plan, parse_plan
from equipoise.experiment.preparation import Prepared, prepare
from equipoise.experiment.synthesis import sampled
from equipoise.experiment.tasks import Synthesise
from equipoise.experiment.trained_engines import EngineFit, EngineLook, fits_of, set_size
from equipoise.runners import InProcess
from equipoise.testing.engine_contract import phantom_cases
from equipoise.workspace import Workspace
from equipoise.workspace.cases import case_from_bytes
from making import blob_case

TINY = {"patch": 16, "channels": [16, 24], "fold": 2, "steps": 10, "batch": 2, "sublabels": 2}
DIFFUSION = {"kind": "diffusion", **TINY, "sampling_steps": 2}
GAN = {"kind": "gan", **TINY}


@dataclass(frozen=True)
class Phantoms:
    kind: ClassVar[str] = "phantoms"

    def read(self) -> list[Case]:
        return [replace(case, patient=f"p{i:02d}") for i, case in enumerate(phantom_cases(14))]


@dataclass(frozen=True)
class Costly(toys.ToyEngine):
    """Says what it costs, and sleeps a tenth of a second per step of its fit."""

    kind: ClassVar[str] = "costly"
    steps: int = 36_000

    @dataclass(frozen=True)
    class Cost:
        seconds: float = 3600.0
        memory_bytes: int = 3 << 30
        disk_bytes: int = 5 << 20
        choices: tuple[str, ...] = ("patch 96 instead of 128: 24 GB would not hold it",)

    def cost(self, cases: Sequence[Case], rng: np.random.Generator) -> Cost:
        if self.fault == "cannot say":
            raise RuntimeError("no card")
        return self.Cost()

    def fit(self, cases: Sequence[Case], rng: np.random.Generator) -> Costly:
        time.sleep(0.1 * self.steps)
        return super().fit(cases, rng)


OWN = {
    "equipoise.formats": [EntryPoint("phantoms", f"{__name__}:Phantoms", "equipoise.formats")],
    "equipoise.engines": [EntryPoint("costly", f"{__name__}:Costly", "equipoise.engines")],
}


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    def entries(group: str) -> list[EntryPoint]:
        return [*toys.ENTRIES.get(group, ()), *OWN.get(group, ()), *importlib.metadata.entry_points(group=group)]

    monkeypatch.setattr(registry, "entry_points", entries)


def prepared_in(folder: Path, engines: dict[str, Any], **changes: Any) -> Prepared:
    arms = {"sizes": [4], "replicates": 1, "ratios": [1.0], "budgets": ["steps"]}
    content = toys.plan_content(**{"arms": arms, "data": {"kind": "phantoms"}, "engines": engines, **changes})
    return prepare(parse_plan(content), None, folder / "objects")


# --- kept, resumed, shared ---------------------------------------------------------------------------------------


def steps_taken(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    taken: list[int] = []
    whole = Run.step
    monkeypatch.setattr(Run, "step", lambda self, step: taken.append(step) or whole(self, step))
    return taken


def test_arms_that_share_a_fit_train_it_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context = (prepared := prepared_in(tmp_path, {"d": DIFFUSION})).context
    cases = part_cases(context.source, prepared.subset(4, 0))
    taken, encoders = steps_taken(monkeypatch), []
    whole = kept_encoder.train_encoder
    monkeypatch.setattr(kept_encoder, "train_encoder", lambda *given: encoders.append(1) or whole(*given))
    first = fit_engine(context, "d", cases, 0)
    assert taken == list(range(1, len(taken) + 1))
    once = len(taken)
    second = fit_engine(context, "d", cases, 0)
    assert len(taken) == once, "the finished fit was trained again"
    assert len(encoders) == 1, "the encoder that judges was trained again"
    assert second.seconds < first.seconds
    assert first.training == second.training
    a, b = (next(sampled(f.engine, cases[0], 1, 0)).image.array for f in (first, second))
    np.testing.assert_array_equal(a, b)
    fit_engine(context, "d", part_cases(context.source, prepared.subset(4, 1)), 1)
    assert taken[once] == 1, "another replicate is another fit"


def test_a_fit_keeps_what_the_report_needs(tmp_path: Path) -> None:
    context = (prepared := prepared_in(tmp_path, {"d": DIFFUSION})).context
    facts = Synthesise(context, "d", prepared.subset(4, 0), 0, 2).run().facts
    (fit,) = fits_of([facts, facts])
    assert [look.step for look in fit.looks] == list(range(1, len(fit.looks) + 1))
    assert fit.best_step in [look.step for look in fit.looks]
    assert (fit.n, fit.replicate) == (4, 0)
    assert fit.stopped
    assert fit.seconds > 0
    steps = [step for step, _ in fit.grids]
    assert {1, fit.best_step, fit.looks[-1].step} <= set(steps)
    assert all(context.store.get(name).startswith(b"\x89PNG") for _, name in fit.grids)
    json.dumps(facts, allow_nan=False)


HOLD = """
import sys
from pathlib import Path
from equipoise.engines.parts.learned.keeping import folder_for, kept_in
with kept_in(Path(sys.argv[1])):
    folder_for("a" * 64)
    print("held", flush=True)
    sys.stdin.readline()
"""


def test_a_second_process_waits_for_a_fit_that_is_under_way(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        asked, got = threading.Event(), threading.Event()

        def ask() -> None:
            with kept_in(tmp_path) as used:
                folder_for("b" * 64)
                asked.set()
                assert folder_for("a" * 64) == tmp_path / ("a" * 16)
                got.set()
                assert folder_for("a" * 64) == used[-1], "a fit may ask twice"

        waiting = threading.Thread(target=ask)
        waiting.start()
        assert asked.wait(20), "another fit need not wait"
        assert not got.wait(0.5)
        other.communicate("\n", timeout=20)
        assert got.wait(20)
        waiting.join(20)
    assert folder_for("a" * 64) is None


PLAN = """
title = "Discs"
[data]
kind = "folder"
path = "data"
patient = "patient"
labels = { blob = "mask" }
[training]
learner = { kind = "unet", preset = "cpu-small" }
steps = 2
[arms]
sizes = [4]
replicates = 1
ratios = [1.0]
budgets = ["steps"]
skip = ["pretrain", "weighted", "self-training"]
[engines.diffusion]
kind = "diffusion"
arms = "few"
patch = 16
channels = [16, 24]
fold = 2
steps = 80
batch = 4
sublabels = 2
sampling_steps = 2
"""


def write_pictures(folder: Path, count: int) -> None:
    from PIL import Image as Picture

    folder.mkdir()
    lines = ["image,mask,patient"]
    for k in range(count):
        case = blob_case(f"c{k:02d}", side=32)
        grey = np.clip(80 + 100 * case.image.array[0, :, :, 0], 0, 255).astype(np.uint8)
        Picture.fromarray(grey.T).save(folder / f"i{k:02d}.png")
        Picture.fromarray((255 * case.labels.mask("blob")[:, :, 0]).astype(np.uint8).T).save(folder / f"m{k:02d}.png")
        lines.append(f"i{k:02d}.png,m{k:02d}.png,p{k:02d}")
    (folder / "index.csv").write_text("\n".join(lines) + "\n")


@pytest.mark.slow
def test_a_killed_compare_goes_on_in_the_middle_of_a_fit(tmp_path: Path) -> None:
    write_pictures(tmp_path / "data", 16)
    plan = tmp_path / "plan.toml"
    plan.write_text(PLAN)
    work = [sys.executable, "-c", "from equipoise.cli import main; main()"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [*work, "compare", str(plan), "--workspace", str(tmp_path / "w"), "--on", "process", "--json"]
    with subprocess.Popen(command, env=environment, start_new_session=True, stdout=subprocess.DEVNULL) as running:
        until = time.monotonic() + 240
        while not list((tmp_path / "w").glob("engines/*/checkpoint.safetensors")) and time.monotonic() < until:
            assert running.poll() is None, "it ended before it could be killed"
            time.sleep(0.02)
        os.killpg(running.pid, signal.SIGKILL)
    (folder,) = {path.parent for path in (tmp_path / "w").glob("engines/*/step-*.png")}
    before = {path.name: path.stat().st_mtime_ns for path in folder.glob("step-*.png")}
    assert 0 < len(before) < 10, "it was not in the middle of the fit"

    resumed = [*work, "resume", str(tmp_path / "w"), "--on", "process", "--json"]
    subprocess.run(resumed, env=environment, check=True, stdout=subprocess.DEVNULL, timeout=500)
    # The look that the kill came after is kept; one that was drawn but not yet kept may be drawn again.
    first = min(before)
    assert (folder / first).stat().st_mtime_ns == before[first], "the fit began anew"

    alone = prepare(load_plan(plan), tmp_path, tmp_path / "other" / "objects")
    with Workspace(tmp_path / "w") as workspace:
        context = replace(alone.context, objects=str(workspace.path / "objects"))
        task = Synthesise(context, "diffusion", alone.subset(4, 0), 0, 4)
        ((facts, _),) = workspace.finished([task.key]).values()
    whole = replace(task, context=alone.context).run().facts
    assert facts["cases"] == whole["cases"], "objects are named by their bytes"
    # Distances are sums whose order depends on where the arrays lie in memory: equal to their last digits.
    np.testing.assert_allclose(facts["training"]["looks"], whole["training"]["looks"], rtol=1e-6)


def test_the_experiment_is_listed_without_torch() -> None:
    code = (
        "import sys, equipoise.experiment.run, equipoise.experiment.forecast, equipoise.engines.parts.learned.keeping;"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# --- the same label maps ---------------------------------------------------------------------------------------------


def truths(prepared: Prepared, name: str, replicate: int) -> list[np.ndarray]:
    task = Synthesise(prepared.context, name, prepared.subset(4, replicate), replicate, 3)
    names = task.run().facts["cases"]
    return [case_from_bytes(prepared.context.store.get(key)).labels.array for key in names]


def test_engines_with_one_anatomy_render_the_same_label_maps(tmp_path: Path) -> None:
    anatomy = {"kind": "warped", "patch": 24}
    engines = {
        name: {**spec, "anatomy": anatomy}
        for name, spec in {
            "d": {**DIFFUSION, "steps": 1}, "g": {**GAN, "steps": 1}, "mri": {"kind": "simulate-mri", "learn": True}
        }.items()
    }  # fmt: skip
    engines["other"] = {**engines["g"], "anatomy": {"kind": "warped", "patch": 24, "amount": 0.3}}
    prepared = prepared_in(tmp_path, engines)
    drawn = {name: truths(prepared, name, 0) for name in engines}
    for one, two in (("d", "g"), ("d", "mri")):
        for a, b in zip(drawn[one], drawn[two], strict=True):
            np.testing.assert_array_equal(a, b)
    assert not all(np.array_equal(a, b) for a, b in zip(drawn["g"], drawn["other"], strict=True))
    again = truths(prepared, "g", 1)
    assert not any(np.array_equal(a, b) for a, b in zip(drawn["g"], again, strict=True)), "replicates are redrawn"


# --- progress ------------------------------------------------------------------------------------------------------


def test_a_long_fit_is_heard_of_with_the_time_that_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fits_module, "UNHEARD_S", 0.0)
    monkeypatch.setattr(fits_module, "LOOK_EVERY_S", 0.01)
    context = (prepared := prepared_in(tmp_path, {"d": DIFFUSION})).context
    stale = context.engines / "progress"
    stale.mkdir(parents=True)
    (stale / "gone.1.json").write_text('["gone", 1, 2, 3.0]')
    told: list[tuple[str, int, int, float]] = []
    with watched(context.engines, lambda *words: told.append(words)):
        fit_engine(context, "d", part_cases(context.source, prepared.subset(4, 0)), 0)
    assert {stage for stage, *_ in told} == {"fitting d"}
    done = [step for _, step, _, _ in told]
    assert done == sorted(done)
    assert len(set(done)) > 2
    assert told[-1] == ("fitting d", 10, 10, 0.0)
    assert all(left > 0 for _, step, _, left in told if step < 10)
    assert not list(stale.iterdir())


def test_a_short_fit_is_not_heard_of(tmp_path: Path) -> None:
    told: list[Any] = []
    with watched(tmp_path, lambda *words: told.append(words)), fits_module._written(tmp_path / "progress", "quick"):
        tell(1, 2, 3.0)
    assert told == []


def test_who_listens_is_told() -> None:
    told: list[Any] = []
    tell(1, 2, 3.0)
    with heard_by(lambda *words: told.append(words)):
        tell(2, 4, 1.5)
    tell(3, 4, 0.5)
    assert told == [(2, 4, 1.5)]


# --- cost first ------------------------------------------------------------------------------------------------------

BLOBS = {"kind": "toy-cases"}


def costed(folder: Path, mode: str, **engine: Any) -> Any:
    arms = {"sizes": [4], "replicates": 2, "ratios": [0.5, 1.0], "budgets": ["steps"]}
    plan = {"c": {"kind": "costly", "mode": mode, **engine}}
    return estimate_cost(prepared_in(folder, plan, arms=arms, data=BLOBS), InProcess())


@pytest.mark.parametrize("mode", ["frozen", "streamed"])
def test_an_engine_says_its_cost_and_is_not_fitted_for_it(tmp_path: Path, mode: str) -> None:
    start = time.perf_counter()
    cost = costed(tmp_path, mode)
    assert time.perf_counter() - start < 20, "an hour of fitting was started"
    (engine,) = cost.engines
    assert (engine.name, engine.kind, engine.fits) == ("c", "costly", 2)
    assert engine.hours == pytest.approx(2.0)
    assert (engine.memory, engine.disk) == (3 << 30, 10 << 20)
    assert "patch 96" in engine.choices[0]
    # One fit per replicate, however many arms draw from it; the other arms find it.
    assert 2.0 < cost.hours < 2.1
    assert cost.disk > 10 << 20
    assert not list(tmp_path.iterdir())


def test_engines_without_networks_are_not_listed(tmp_path: Path) -> None:
    prepared = prepared_in(tmp_path, {"toy": {"kind": "toy-engine"}}, data=BLOBS)
    assert estimate_cost(prepared, InProcess()).engines == ()


def test_a_cost_that_cannot_be_told_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="'costly' failed while its cost was told: RuntimeError: no card"):
        costed(tmp_path, "frozen", fault="cannot say")


@pytest.mark.parametrize("words", [["plan"], ["compare", "--dry-run"]], ids=["plan", "dry run"])
def test_the_cost_of_engines_is_printed_first(tmp_path: Path, words: list[str]) -> None:
    file = tmp_path / "p.toml"
    file.write_text(
        'title = "t"\ndata = { kind = "toy-cases" }\nengines = { c = { kind = "costly" } }\n'
        'arms = { sizes = [4], replicates = 3, ratios = [1.0], budgets = ["steps"] }\n'
        'training = { steps = 6, learner = { kind = "toy-learner" }, augment = { kind = "none" } }\n'
    )
    said = CliRunner().invoke(app, [words[0], str(file), *words[1:], "--on", "process"], catch_exceptions=False).stdout
    assert "3 fits of c: about 3.0 h (1.0 h each), 3.0 GiB of memory, 15 MiB of disk" in said
    assert "c: patch 96 instead of 128" in said
    asked = [words[0], str(file), *words[1:], "--on", "process", "--json"]
    told = json.loads(CliRunner().invoke(app, asked, catch_exceptions=False).stdout)
    assert told["engines"][0]["hours"] == pytest.approx(3.0)
    assert told["engines"][0]["choices"] == ["patch 96 instead of 128: 24 GB would not hold it"]


# --- is the set too small? -------------------------------------------------------------------------------------------


def fits(distances: dict[int, Sequence[float]]) -> Iterator[EngineFit]:
    for n, values in distances.items():
        for replicate, distance in enumerate(values):
            looks = [EngineLook(5, distance + 1, 0.5), EngineLook(10, distance, 1.0)]
            yield EngineFit(n, replicate, looks, 10, "all steps were taken", 60.0)


def test_a_set_is_too_small_while_more_patients_help_beyond_chance() -> None:
    law = {n: [3 / n**0.5 + e for e in (-0.1, 0.0, 0.1)] for n in (4, 8, 16, 32)}
    found = set_size("diffusion", list(fits(law)), 0)
    assert found.state == "warning"
    assert [n for n, _ in found.distances] == [4, 8, 16, 32]
    assert found.distances[0][1].value == pytest.approx(1.5)
    # Doubling gains 3 (1 - 2^-0.5) n^-0.5, which is the spread of 0.1 at n = 77.
    assert found.enough is not None
    assert found.enough.value == pytest.approx((3 * (1 - 2**-0.5) / 0.1) ** 2, rel=0.1)
    assert found.enough.low < found.enough.value < found.enough.high
    assert "1.50 [" in found.sentence
    assert "too little to learn from" in found.sentence
    # The same curve with fits that differ more says less about more patients.
    rough = {n: [3 / n**0.5 + e for e in (-0.3, 0.0, 0.3)] for n in (4, 8, 16, 32)}
    more = set_size("diffusion", list(fits(rough)), 0).enough
    assert more is not None
    assert more.value < 0.3 * found.enough.value


def test_a_set_that_is_large_enough_is_called_so() -> None:
    law = {n: [3 / n + e for e in (-0.1, 0.0, 0.1)] for n in (32, 64, 128)}
    assert set_size("gan", list(fits(law)), 0).state == "ok"
    flat = {n: [0.5 + e for e in (-0.1, 0.0, 0.1)] for n in (4, 8, 16)}
    found = set_size("gan", list(fits(flat)), 0)
    assert (found.state, found.enough) == ("ok", None)
    assert "is not shown" in found.sentence


@pytest.mark.parametrize(
    ("distances", "words"),
    [
        ({8: [0.5, 0.6]}, "one number of patients only"),
        ({4: [2.0], 8: [1.0]}, "each was fitted once"),
        ({4: [float("nan")]}, "no look at held-out images was good"),
    ],
)
def test_what_cannot_be_told_is_not_said(distances: dict[int, Sequence[float]], words: str) -> None:
    made = [replace(f, best_step=0) if np.isnan(f.looks[-1].distance or 0) else f for f in fits(distances)]
    found = set_size("gan", made, 0)
    assert (found.state, found.enough) == ("not run", None)
    assert words in found.sentence

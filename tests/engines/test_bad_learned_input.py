"""Input that no learned engine can use: one clear error that names the file or the case, and nothing half written."""

from __future__ import annotations

import errno
import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from equipoise.core import ClassLabel, Image, LabelMap, rng_for
from equipoise.engines.imaging.diffusion import Diffusion
from equipoise.engines.imaging.gan import Gan
from equipoise.engines.imaging.gan.adversaries import Adversaries
from equipoise.engines.parts.learned import checkpoint
from equipoise.engines.parts.learned.checkpoint import read_checkpoint, write_checkpoint
from equipoise.engines.parts.learned.keeping import kept_in
from equipoise.errors import EngineError, EquipoiseError, WorkspaceFullError
from equipoise.testing.engine_contract import phantom_cases

SMALL = {"patch": 16, "channels": (16, 24), "fold": 2, "steps": 2, "batch": 2, "sublabels": 0}
ENGINES = {"gan": Gan(**SMALL), "diffusion": Diffusion(**SMALL, sampling_steps=2)}


def _changed(case, change):
    array = change(case.image.array)
    return replace(case, image=Image(array, case.image.affine, unit=case.image.unit), file="data/odd.nii.gz")


def _coarser(case, factor):
    affine = case.image.affine @ np.diag([factor, factor, factor, 1])
    truth = LabelMap(case.labels.array, case.labels.scheme, affine)
    return replace(case, image=Image(case.image.array, affine), truth=truth, file="data/odd.nii.gz")


def _never(case, name):
    array = case.labels.array.copy()
    array[case.labels.scheme.channel(name)] = 0
    return replace(case, truth=LabelMap(array, case.labels.scheme, case.labels.affine))


def _last(change):
    cases = phantom_cases(3)
    return [*cases[:2], change(cases[2])]


BAD = {
    "two images only": (lambda: phantom_cases(2), r"2 training image.*'case-0', 'case-1'.*three at the least"),
    "none": (lambda: [], r"0 training image.*three at the least"),
    "a constant image": (lambda: _last(lambda c: _changed(c, np.zeros_like)), r"case-2.*one value only[\s\S]*odd\.nii"),
    "not a number": (
        lambda: _last(lambda c: _changed(c, lambda a: a * np.float32("nan"))),
        r"case-2.*not finite[\s\S]*odd\.nii",
    ),
    "masks without a label": (
        lambda: [_never(c, "core") for c in phantom_cases(3)],
        "no training mask contains 'core'",
    ),
    "another spacing": (lambda: _last(lambda c: _coarser(c, 3.0)), r"factor of 3.*case-2[\s\S]*odd\.nii"),
    "a volume among images": (
        lambda: [*phantom_cases(2), replace(phantom_cases(3, dimension=3)[2], file="data/odd.nii.gz")],
        r"2-D and the others are volumes.*case-0.*case-2[\s\S]*odd\.nii",
    ),
    "no truth": (lambda: _last(lambda c: replace(c, truth=None, file="data/odd.nii.gz")), r"case-2[\s\S]*odd\.nii"),
    "a class among maps": (
        lambda: _last(lambda c: replace(c, truth=ClassLabel("ill", ("ill", "well")))),
        r"case-2.*ClassLabel as truth",
    ),
    "tiny images": (
        lambda: [_cropped(c, 10) for c in phantom_cases(3)],
        r"case-0.*10 x 10 pixels, and 16 along each side",
    ),
}


def _cropped(case, n):
    image = Image(case.image.array[:, :n, :n].copy(), case.image.affine, unit=case.image.unit)
    masks = np.ones((2, n, n, 1), np.uint8)
    return replace(case, image=image, truth=LabelMap(masks, case.labels.scheme, case.labels.affine))


@pytest.mark.parametrize("kind", ENGINES)
@pytest.mark.parametrize("name", BAD)
def test_bad_cases_are_one_clear_error_and_leave_no_file(kind, name, tmp_path):
    cases, words = BAD[name]
    with kept_in(tmp_path), pytest.raises(EquipoiseError) as caught:
        ENGINES[kind].fit(cases(), rng_for(0))
    assert re.search(words, str(caught.value)), str(caught.value)
    assert "Traceback" not in str(caught.value)
    assert caught.value.fix
    assert [p for p in tmp_path.rglob("*") if p.is_file() and p.suffix != ".lock"] == []


@pytest.mark.parametrize("kind", ENGINES)
def test_images_of_many_sizes_are_learned_from(kind):
    """Mixed sizes are no error: patches are cut from each."""
    cases = [_cropped(c, 30 + 5 * i) for i, c in enumerate(phantom_cases(3))]
    engine = ENGINES[kind].fit(cases, rng_for(0))
    assert {c.image.array.shape for c in engine.sample(2, rng_for(1), [c.labels for c in cases[:2]])} == {
        (1, 30, 30, 1),
        (1, 35, 35, 1),
    }


# --- the kept folder


@pytest.fixture
def begun(tmp_path):
    """Return the checkpoint of a finished fit, and what fits the same again."""

    def again():
        with kept_in(tmp_path):
            return ENGINES["gan"].fit(phantom_cases(3), rng_for(0))

    again()
    (path,) = tmp_path.rglob("checkpoint.safetensors")
    return path, again


def test_a_corrupted_checkpoint_is_named_and_left(begun):
    path, again = begun
    bad = path.read_bytes()[:200]
    path.write_bytes(bad)
    with pytest.raises(EngineError, match=r"cannot be read[\s\S]*checkpoint\.safetensors[\s\S]*delete"):
        again()
    assert path.read_bytes() == bad
    path.unlink()
    assert again().history["stopped"]  # as the message says


@pytest.mark.parametrize("part", ["network", "average"])
def test_a_checkpoint_of_another_architecture_is_named_and_left(begun, part):
    path, again = begun
    tensors, about = read_checkpoint(path)
    name = next(n for n in tensors if n.startswith(f"{part}/") and tensors[n].ndim == 4)
    write_checkpoint(path, tensors | {name: torch.zeros(3, 3, 1, 1)}, about)
    bad = path.read_bytes()
    with pytest.raises(EngineError, match=r"another architecture[\s\S]*checkpoint\.safetensors[\s\S]*train anew"):
        again()
    assert path.read_bytes() == bad


@pytest.mark.parametrize("change", [{"record": {"looks": [], "wings": 2}}, {"optimisers": {}}, {"step": None}])
def test_a_checkpoint_with_another_description_is_named(begun, change):
    path, again = begun
    tensors, about = read_checkpoint(path)
    write_checkpoint(path, tensors, about | change)
    with pytest.raises(EngineError, match=r"checkpoint\.safetensors"):
        again()


def test_a_damaged_description_is_named(tmp_path):
    from safetensors.torch import save_file

    path = tmp_path / "a.safetensors"
    for header in ({"format": checkpoint.FORMAT}, {"format": checkpoint.FORMAT, "about": "{"}):
        save_file({"x": torch.zeros(2)}, path, header)
        with pytest.raises(EngineError, match="description is missing or damaged"):
            read_checkpoint(path)


@pytest.mark.parametrize("text", ["", "[]", json.dumps({"choices": []})])
def test_a_damaged_note_of_how_a_fit_began_is_named(begun, text):
    path, again = begun
    (path.parent / "begun.json").write_text(text)
    with pytest.raises(EngineError, match=r"how a training began cannot be read[\s\S]*begun\.json"):
        again()


# --- no memory, no disk


@pytest.mark.parametrize("failure", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")])
def test_memory_that_runs_out_is_one_clear_error_and_the_fit_can_go_on(tmp_path, monkeypatch, failure):
    step = Adversaries.step
    engine = replace(ENGINES["gan"], steps=4)

    def failing(self, batch, generator, number):
        if number == 3:
            raise failure
        return step(self, batch, generator, number)

    monkeypatch.setattr(Adversaries, "step", failing)
    with kept_in(tmp_path), pytest.raises(EngineError, match=r"memory was used up at step 3[\s\S]*at_once = 1"):
        engine.fit(phantom_cases(3), rng_for(0))
    (path,) = tmp_path.rglob("checkpoint.safetensors")
    assert read_checkpoint(path)[1]["step"] == 2
    monkeypatch.setattr(Adversaries, "step", step)
    with kept_in(tmp_path):
        assert engine.fit(phantom_cases(3), rng_for(0)).history["looks"][-1]["step"] == 4


def test_other_faults_are_not_called_a_lack_of_memory(monkeypatch):
    def failing(self, batch, generator, number):
        raise RuntimeError("something else")

    monkeypatch.setattr(Adversaries, "step", failing)
    with pytest.raises(RuntimeError, match="something else"):
        ENGINES["gan"].fit(phantom_cases(3), rng_for(0))


def test_a_full_disk_leaves_the_checkpoint_before(tmp_path, monkeypatch):
    path = tmp_path / "a.safetensors"
    write_checkpoint(path, {"x": torch.ones(2)}, {})

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoint.os, "fsync", full)
    with pytest.raises(WorkspaceFullError, match=r"no room for a checkpoint"):
        write_checkpoint(path, {"x": torch.zeros(2)}, {})
    assert [p.name for p in tmp_path.iterdir()] == ["a.safetensors"]
    assert read_checkpoint(path)[0]["x"].tolist() == [1, 1]

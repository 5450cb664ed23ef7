from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch

from equipoise.core import Image, LabelMap, LabelScheme, Mix, Split, TrainingSet, rng_for
from equipoise.core.registry import parameters
from equipoise.errors import TrainingError
from equipoise.learners.patches import Batch
from equipoise.learners.trained_unet import TrainedUNet
from equipoise.learners.training_loop import Tally
from equipoise.learners.unet import UNet
from equipoise.testing.disc_cases import disc_case, patients

SPLIT = Split(patients(0, 1, 2, 3), patients(10), patients(20))
SMALL: dict[str, Any] = {"patch": 16, "batch": 2, "channels": (4, 8, 8)}
DISCS = TrainingSet(tuple(disc_case(i) for i in range(4)), (), Mix(), SPLIT)


def trained(steps: int = 2, start: TrainedUNet | None = None, **fields: Any) -> TrainedUNet:
    return UNet(**{**SMALL, **fields}).fit(DISCS, (), steps, rng_for(0, "fit"), start=start)


CHANGES: dict[str, dict[str, Any]] = {
    "patch": {"patch": 24},
    "batch": {"batch": 3},
    "fold": {"fold": 1},
    "channels": {"channels": (4, 8, 12)},
    "norm": {"norm": "instance"},
    "learning_rate": {"learning_rate": 1e-3},
    "weight_decay": {"weight_decay": 0.5},
    "loss": {"loss": "bce"},
    "foreground": {"foreground": 1.0},
    "normalise": {"normalise": "fitted"},
    "window": {"normalise": "window", "window": (0.0, 150.0)},
    "overlap": {"overlap": 0.6},
    "bf16": {"bf16": False},
}


def test_every_field_does_something() -> None:
    # preset: test_recipe; device and finetune: below.
    assert {*CHANGES, "preset", "device", "finetune"} == set(parameters(UNet))
    image = disc_case(20).image
    plain = trained().probability(image)
    for name, change in CHANGES.items():
        assert not np.array_equal(trained(**change).probability(image), plain), f"{name} has no effect"
    other = trained(normalise="window", window=(0.0, 300.0)).probability(image)
    assert not np.array_equal(trained(**CHANGES["window"]).probability(image), other)


def test_finetune_slows_the_second_training_down() -> None:
    first = trained()
    moved = {}
    for factor in (0.01, 1.0):
        second = trained(start=first, finetune=factor).weights()
        moved[factor] = sum(
            float((second[n] - w).abs().sum()) for n, w in first.weights().items() if "conv" in n and w.ndim == 4
        )
    assert 0 < moved[0.01] < 0.1 * moved[1.0]


def test_a_device_that_is_not_there_is_named() -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    with pytest.raises(TrainingError, match="cuda"):
        trained(device="cuda")
    with pytest.raises(TrainingError, match="cuda"):
        UNet(device="cuda").load(trained().to_bytes())


@pytest.mark.gpu
def test_it_trains_on_a_gpu() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    model = trained(device="cuda", steps=8)
    image = disc_case(20).image
    on_cpu = UNet().load(model.to_bytes()).probability(image)
    # bfloat16 keeps 8 bits, and the two devices sum in another order.
    np.testing.assert_allclose(on_cpu, model.probability(image), atol=0.05)


def test_effective_values_travel_with_the_model() -> None:
    model = trained(patch=100)
    assert model.recipe.patch == (40, 40)  # the longest image has 40 x 36 pixels; 36 is rounded up to be halved
    assert UNet().load(model.to_bytes()).recipe == model.recipe


def test_a_model_file_is_safetensors_with_its_history_in_the_header() -> None:
    data = trained(normalise="fitted").to_bytes()
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    about = json.loads(header["__metadata__"]["equipoise"][64:])
    assert about["parents"] == about["normaliser"]["parents"] == sorted(patients(0, 1, 2, 3))
    assert about["record"]["steps"] == 2
    assert about["scheme"]["labels"][1]["name"] == "core"


def test_a_loss_that_is_no_number_says_what_to_change() -> None:
    # A rate of 1 alone is survived thanks to the cut gradient; NaN weights are what a diverged start hands over.
    first = trained()
    for parameter in first._network.parameters():
        parameter.data.fill_(float("nan"))
    with pytest.raises(TrainingError, match="loss is nan at step 1") as caught:
        trained(start=first)
    assert "learning_rate = " in str(caught.value.fix)


def test_a_start_of_another_network_is_refused() -> None:
    with pytest.raises(TrainingError, match="widths"):
        trained(start=trained(), channels=(8, 8, 8))


def test_validation_scores_do_not_depend_on_selecting_or_on_the_stream_order() -> None:
    validation = [disc_case(10)]
    kept, last = (
        UNet(**SMALL).fit(DISCS, validation, 8, rng_for(0, "fit"), select=select).record for select in (True, False)
    )
    assert [score for *_, score in kept.curve] == [score for *_, score in last.curve]
    assert last.best_step == 8
    assert all(0 <= score <= 1 for *_, score in last.curve)
    assert all(np.isnan(score) for *_, score in trained(8).record.curve)


def test_labels_that_overlap_are_predicted_overlapping() -> None:
    scheme = LabelScheme.of(["disc", "cup"], exclusive=False)
    cases = []
    for case in DISCS.real:
        rim, core = case.labels.masks()
        truth = LabelMap.on(case.image.geometry, np.stack([rim | core, core]), scheme)
        cases.append(dataclasses.replace(case, truth=truth))
    training = TrainingSet(tuple(cases), (), Mix(), SPLIT)
    model = UNet(patch=32, batch=4, channels=(8, 16, 16)).fit(training, (), 50, rng_for(0, "fit"))
    disc, cup = model.predict(disc_case(20).image).masks()
    assert cup.sum() > 20
    assert (disc & cup).sum() > 0.8 * cup.sum()


def test_exclusive_labels_go_to_the_most_probable_one() -> None:
    model, image = trained(30), disc_case(20).image
    probability, found = model.probability(image), model.predict(image).masks()
    np.testing.assert_array_equal(found.any(0), (probability > 0.5).any(0))
    np.testing.assert_array_equal(found.argmax(0)[found.any(0)], probability.argmax(0)[found.any(0)])


def test_images_smaller_than_the_patch_train_and_predict() -> None:
    cases = tuple(disc_case(i, shape=(11, 9, 1)) for i in range(4))
    model = UNet(patch=96, batch=2).fit(TrainingSet(cases, (), Mix(), SPLIT), (), 2, rng_for(0, "fit"))
    assert model.recipe.patch == (12, 10)
    assert model.probability(Image(np.ones((1, 3, 2, 1)))).shape == (2, 3, 2, 1)


def test_the_package_does_not_import_torch() -> None:
    code = "import sys, equipoise.learners; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_prevalence_trained_at_is_that_of_what_was_drawn() -> None:
    # Patches as large as the images, every case twice; what lies outside an image does not count.
    model = trained(steps=4, patch=40, foreground=0.0)
    drawn = np.mean([case.labels.masks().mean((1, 2, 3)) for case in DISCS.real], axis=0)
    assert model.record.prevalence == pytest.approx(drawn)
    assert UNet().load(model.to_bytes()).record.prevalence == model.record.prevalence


def test_prevalence_weighs_cases_as_the_loss_does_and_leaves_out_what_does_not_count() -> None:
    labels = np.zeros((2, 1, 2, 2, 1), np.uint8)
    labels[0, 0, 0] = labels[1, 0, 0, 0] = 1
    counted = np.ones((2, 1, 2, 2, 1), np.uint8)
    counted[0, 0, 0, 0] = 0
    tally = Tally()
    tally.add([], Batch(np.zeros((2, 1, 2, 2, 1), np.float32), labels, counted, np.float32([1.0, 0.5])), False)
    assert tally.foreground.tolist() == [1 + 0.5 * 1]
    assert tally.voxels == 3 + 0.5 * 4

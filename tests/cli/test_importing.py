"""``equipoise engines import``: what it writes, says and refuses; and that `equipoise engines` still lists."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from monai.networks.nets import AutoencoderKL
from typer.testing import CliRunner

from equipoise.cli.app import app
from equipoise.engines.imaging.flow.imported import read_imported
from equipoise.errors import EngineError

TINY = {
    "spatial_dims": 2,
    "channels": [8, 8],
    "num_res_blocks": [1, 1],
    "attention_levels": [False, False],
    "latent_channels": 3,
    "norm_num_groups": 8,
    "with_encoder_nonlocal_attn": False,
    "with_decoder_nonlocal_attn": False,
}


def call(*words: object) -> str:
    result = CliRunner().invoke(app, ["engines", *map(str, words)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    torch.save(AutoencoderKL(**TINY).state_dict(), tmp_path / "autoencoder.pt")
    return tmp_path / "autoencoder.pt"


def test_a_checkpoint_becomes_a_file_that_flow_reads(checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "mine.safetensors"
    said = call("import", checkpoint, "--out", out, "--licence", "CC-BY-4.0", "--groups", 8)
    assert "MONAI AutoencoderKL, 2-D, 1 channel(s) to 3 at 1/2 of the sides" in said
    assert "CC-BY-4.0" in said
    assert "no test patient is among them" in said
    assert f"--set autoencoder={out}" in said
    found = read_imported(str(out), "autoencoder")
    assert found.about["sha256"] in said
    assert found.provenance()["autoencoder licence"] == "CC-BY-4.0"
    other = tmp_path / "other.safetensors"
    told = json.loads(call("import", checkpoint, "--out", other, "--licence", "MIT", "--groups", 8, "--json"))
    assert (told["path"], told["parts"]["autoencoder"]["licence"]) == (str(other), "MIT")


def test_a_configuration_may_be_named(checkpoint: Path, tmp_path: Path) -> None:
    config = tmp_path / "networks.json"
    config.write_text(json.dumps({"net": {"_target_": "monai.networks.nets.AutoencoderKL", **TINY}}))
    call("import", checkpoint, "--out", tmp_path / "o.safetensors", "--licence", "MIT", "--config", config)
    assert read_imported(str(tmp_path / "o.safetensors"), "autoencoder").latent == 3


def test_a_licence_is_needed_and_nothing_is_left(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="--licence"):
        call("import", checkpoint, "--out", tmp_path / "o.safetensors", "--groups", 8)
    assert list(tmp_path.iterdir()) == [checkpoint]


def test_engines_are_still_listed() -> None:
    listed = json.loads(call("--json"))
    assert any(row["kind"] == "gan" for row in listed["engines"])
    assert "gan" in call()

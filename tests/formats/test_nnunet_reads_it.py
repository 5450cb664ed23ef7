"""nnU-Net's own integrity check, fingerprint and planning on what we write; needs the extra ``nnunet``."""

import os
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from equipoise.core import Case, Geometry, Image, LabelMap, LabelScheme
from equipoise.formats.nnunet_writer import write_nnunet
from making import blob_case

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        find_spec("nnunetv2") is None, reason="nnU-Net is not installed: pip install 'equipoise[nnunet]'"
    ),
]

#: nnU-Net runs as a process of its own, as it does for users: it reads its folders from the environment when imported.
OWN_CHECK = """
import sys
from nnunetv2.experiment_planning.verify_dataset_integrity import verify_dataset_integrity
from nnunetv2.experiment_planning.dataset_fingerprint.fingerprint_extractor import DatasetFingerprintExtractor
from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner
if __name__ == "__main__":
    verify_dataset_integrity(sys.argv[1], 1)
    DatasetFingerprintExtractor(501, 1).run()
    plans = ExperimentPlanner(501).plan_experiment()
    print("configurations", *sorted(plans["configurations"]), plans["image_reader_writer"])
"""


def picture_case(n: int) -> Case:
    """A colour picture with a cup in a disc: regions."""
    x, y = np.mgrid[:80, :64]
    r = np.hypot(x - 40, y - 30)
    pixels = np.random.default_rng(n).integers(0, 255, (3, 80, 64, 1), dtype=np.uint8)
    image = Image(pixels, unit="px")
    masks = np.stack([r < 20, r < 8])[..., None].astype(np.uint8)
    return Case(
        f"eye {n}/left",
        f"p{n}",
        image,
        LabelMap.on(image.geometry, masks, LabelScheme.of(["disc", "cup"], exclusive=False)),
    )


def volume_case(n: int) -> Case:
    """A turned volume of two channels with two labels and voxels to ignore."""
    turn = np.array([[0.8, -0.6, 0.0], [0.6, 0.8, 0.0], [0.0, 0.0, 1.0]]) @ np.diag([-0.7, 0.7, 2.5])
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = turn, [12.0, -30.0, 55.0]
    geometry = Geometry((40, 36, 18 + n), affine)
    at = np.indices(geometry.shape)
    first = np.square(at - np.array([14, 14, 8])[:, None, None, None]).sum(axis=0) < 40
    second = np.square(at - np.array([28, 26, 9])[:, None, None, None]).sum(axis=0) < 30
    voxels = np.random.default_rng(n).normal(size=(2, *geometry.shape)) + first
    ignore = np.zeros((1, *geometry.shape), bool)
    ignore[:, :4] = True
    truth = LabelMap.on(geometry, np.stack([first, second]).astype(np.uint8), LabelScheme.of(["one", "two"]))
    return Case(f"v{n}", f"p{n}", Image.on(geometry, voxels.astype(np.float32)), replace(truth, ignore=ignore))


SETS = {
    "grey": ([blob_case(f"c{n}", side=32) for n in range(4)], ["image"], "2d"),
    "pictures": ([picture_case(n) for n in range(4)], ["R", "G", "B"], "2d NaturalImage2DIO"),
    "volumes": ([volume_case(n) for n in range(4)], ["MR", "CT"], "2d 3d_fullres SimpleITKIO"),
}


@pytest.mark.parametrize("name", SETS)
def test_nnunet_reads_what_is_written(name: str, tmp_path: Path) -> None:
    cases, channels, expected = SETS[name]
    for folder in ("raw", "preprocessed", "results"):
        (tmp_path / folder).mkdir()
    written = write_nnunet(cases, tmp_path / "raw" / "Dataset501_Check", name, channels)
    (tmp_path / "own_check.py").write_text(OWN_CHECK)
    folders = {f"nnUNet_{folder}": str(tmp_path / folder) for folder in ("raw", "preprocessed", "results")}
    done = subprocess.run(
        [sys.executable, str(tmp_path / "own_check.py"), str(written)],
        env={**os.environ, **folders},
        capture_output=True,
        text=True,
        timeout=540,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "verify_dataset_integrity Done" in done.stdout
    assert "Error" not in done.stdout
    assert "Warning" not in done.stdout  # nnU-Net warns of affines, origins and directions that differ
    (configurations,) = [line for line in done.stdout.splitlines() if line.startswith("configurations")]
    assert all(word in configurations.split() for word in expected.split())

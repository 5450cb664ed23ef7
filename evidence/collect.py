"""Keep an experiment's rows as evidence: ``python evidence/collect.py WORKSPACE NAME``.

Writes ``evidence/NAME.parquet`` (one row per arm, size, budget, replicate, place and patient, with the primary metric
and its companions; no images, no patient names) and ``evidence/NAME.json`` (plan, hash, command, machine, every arm
with its interval). The rows are rebuilt by the command in the JSON.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import polars as pl

from equipoise.cli.work import finished_experiment

HERE = Path(__file__).parent
METRICS = ("dice", "nsd", "hd95", "assd", "offset", "volume_error")
PARTS = (
    "first_page",
    "gate",
    "power",
    "metric",
    "exchange",
    "advice",
    "arms",
    "strata",
    "boundary",
    "fidelity",
    "limits",
)
KEYS = ("arm", "n", "budget", "replicate", "where", "patient")


def main(folder: Path, name: str) -> None:
    """Write both files."""
    rows = finished_experiment(folder).rows
    patients = {p: f"p{i:04d}" for i, p in enumerate(sorted(rows["patient"].unique().to_list()))}
    finite = [pl.when(pl.col(m).is_finite()).then(pl.col(m)).mean().cast(pl.Float32).alias(m) for m in METRICS]
    small = rows.with_columns(pl.col("patient").replace_strict(patients)).group_by(KEYS).agg(finite).sort(KEYS)
    small.write_parquet(HERE / f"{name}.parquet", compression="zstd", compression_level=19)
    report = json.loads((folder / "reports" / "report.json").read_text())
    kept = {key: report[key] for key in ("title", "created", "plan_hash", "plan", "verdict", "status", "reproduce")}
    kept["machine"] = f"{len(os.sched_getaffinity(0))} cores, no GPU"
    for key in PARTS:
        kept[key] = report[key]
    (HERE / f"{name}.json").write_text(json.dumps(kept, indent=1) + "\n")
    sys.stdout.write(f"{small.height} rows, {(HERE / f'{name}.parquet').stat().st_size // 1024} KiB\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])

# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""Training start-up on a large parquet: our dataset class against what verl's own does.

    python tests/benchmarks/bench_startup.py [--rows 531850] [--folder DIR]

Writes a parquet of synthetic rows (116 frame paths each; no frame exists), then in a process each: makes
`MedVidDataset` and reads 100 random rows; `datasets.load_dataset("parquet")` and 100 random rows. Prints seconds,
peak memory (process, imports included), bytes that the loader leaves on disk, and the ratios.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
FRAMES, READS, BATCH = 116, 100, 184
PAIRS = [(source, task) for source in ("AVOS", "CoPESD", "NurViD") for task in ("tal", "dvc", "nap", "vs", "rc")]


def write(path: Path, rows: int) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from data_preprocess.parquet_schema import schema
    from data_preprocess.pipeline import ROW_GROUP

    columns = schema(True)
    with pq.ParquetWriter(path, columns, compression="zstd") as writer:
        for start in range(0, rows, ROW_GROUP):
            batch = [row(number) for number in range(start, min(start + ROW_GROUP, rows))]
            writer.write_table(pa.Table.from_pylist(batch, columns))


def row(number: int) -> dict:
    source, task = PAIRS[number % len(PAIRS)]
    clip = f"/data/frames/{source}/video_{number // 40:06d}"
    start = number * 7 % 5000
    extra = {
        "index": number,
        "file": "annotations.json",
        "split": "train",
        "task": task,
        "source": source,
        "question": f"When does step {number} happen? " * 12,
        "answer": f"{number % 90}.0-{number % 90 + 5}.0 seconds.",
        "model_family": "qwen2_5_vl",
        "prompt_tokens": 5000 + number % 4000,
    }
    return {
        "data_source": f"medvidbench/{source}/{task}",
        "prompt": [{"role": "user", "content": "<video>" + extra["question"]}],
        "videos": [
            {
                "video": [f"{clip}/frame_{(start + 30 * k):08d}.jpg" for k in range(FRAMES)],
                "sample_fps": 1.0,
                "resized_height": 112,
                "resized_width": 224,
            }
        ],
        "ability": task,
        "reward_model": {"style": "rule", "ground_truth": json.dumps({"text": extra["answer"], "row": number})},
        "extra_info": extra,
    }


def measure(kind: str, path: str, cache: str) -> None:
    """One line of JSON: seconds to start and for a read, peak bytes. The imports are not in the seconds."""
    import numpy as np

    picks = np.random.default_rng(0)
    if kind == "ours":
        os.environ.setdefault("VERL_PLATFORM", "cpu")
        import recipes.medgrpo.plugin  # noqa: F401  isort: skip
        from omegaconf import OmegaConf

        from recipes.medgrpo.data.dataset import MedVidDataset

        idle, start = peak(), time.perf_counter()
        config = {"train_batch_size": BATCH, "max_prompt_length": 8192, "cache_dir": cache}
        data = MedVidDataset(path, None, OmegaConf.create(config), None)
    else:
        import datasets

        idle, start = peak(), time.perf_counter()
        data = datasets.load_dataset("parquet", data_files=path, cache_dir=cache)["train"]
    started = time.perf_counter() - start
    items = picks.integers(0, len(data), READS).tolist()
    start = time.perf_counter()
    for item in items:
        data[item]
    reading = (time.perf_counter() - start) / READS
    disk = sum(file.stat().st_size for file in Path(cache).rglob("*") if file.is_file())
    print(json.dumps({"start_s": started, "read_s": reading, "peak": peak(), "idle": idle, "disk": disk}))


def peak() -> int:
    """Most memory that this process has held, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def run(kind: str, path: Path, cache: Path) -> dict:
    cache.mkdir()
    command = [sys.executable, __file__, "--measure", kind, "--folder", str(cache), "--file", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    return json.loads(done.stdout.splitlines()[-1])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=531_850)
    parser.add_argument("--folder", help="where the temporary files go")
    parser.add_argument("--measure", choices=("ours", "datasets"), help=argparse.SUPPRESS)
    parser.add_argument("--file", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        measure(args.measure, args.file, args.folder)
        return 0
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        path = Path(folder) / "train.parquet"
        write(path, args.rows)
        print(f"{args.rows} rows, {path.stat().st_size / 1e6:.0f} MB")
        figures = {kind: run(kind, path, Path(folder) / kind) for kind in ("ours", "datasets")}
    for kind, x in figures.items():
        print(
            f"{kind:9} start {x['start_s']:8.2f} s   row {1000 * x['read_s']:7.2f} ms   peak {x['peak'] / 1e9:5.2f} GB "
            f"({x['idle'] / 1e9:.2f} before)   written to disk {x['disk'] / 1e6:8.1f} MB"
        )
    ours, theirs = figures["ours"], figures["datasets"]
    print(f"start-up {theirs['start_s'] / ours['start_s']:.1f} times as fast as datasets.load_dataset")
    print(
        f"a row takes {ours['read_s'] / theirs['read_s']:.1f} times as long, peak {ours['peak'] / theirs['peak']:.2f}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())

# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Annotations to parquet: rows a second and peak memory of the preprocessor, beside a bare loop and `datasets`.

    python tests/benchmarks/bench_preprocess.py                 # 531,850 rows, as the full set has; about 10 minutes
    python tests/benchmarks/bench_preprocess.py --rows 50000

The bare loop is the least that anybody could do: `orjson.loads` on each line, six columns taken from the row, and
`pyarrow.ParquetWriter` in batches of 10,000. `datasets.Dataset.from_list(...).to_parquet` gets the same columns of at
most 50,000 rows, since it holds all of them in memory. Contenders take turns; medians of the rounds are compared.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[2]

BARE = """
import sys, orjson, pyarrow as pa, pyarrow.parquet as pq
columns = pa.schema({"id": pa.string(), "qa_type": pa.string(), "data_source": pa.string(), "question": pa.string(),
                     "answer": pa.string(), "video": pa.list_(pa.string())})
def table(rows):
    turns = [row["conversations"] for row in rows]
    values = {name: [row.get(name) for row in rows] for name in ("id", "qa_type", "data_source", "video")}
    values["question"] = [turn[0]["value"] for turn in turns]
    values["answer"] = [turn[1]["value"] for turn in turns]
    return pa.table({name: pa.array(values[name], columns.field(name).type) for name in columns.names})
rows = []
with open(sys.argv[1], "rb") as file, pq.ParquetWriter(sys.argv[2], columns) as writer:
    for line in file:
        if line[:1] == b"{":
            rows.append(orjson.loads(line.rstrip(b",\\n")))
            if len(rows) == 10_000:
                writer.write_table(table(rows))
                rows.clear()
    if rows:
        writer.write_table(table(rows))
"""

DATASETS = """
import sys, orjson, datasets
datasets.disable_progress_bars()
rows = []
with open(sys.argv[1], "rb") as file:
    for line in file:
        if line[:1] == b"{" and len(rows) < int(sys.argv[3]):
            row = orjson.loads(line.rstrip(b",\\n"))
            turns = row["conversations"]
            keep = {name: row.get(name) for name in ("id", "qa_type", "data_source", "video")}
            rows.append(keep | {"question": turns[0]["value"], "answer": turns[1]["value"]})
datasets.Dataset.from_list(rows).to_parquet(sys.argv[2])
"""


class Peak(threading.Thread):
    """Samples the proportional memory (PSS, in bytes) of a process and its children."""

    def __init__(self, pid: int):
        super().__init__(daemon=True)
        self.process, self.peak, self.done = psutil.Process(pid), 0, threading.Event()

    def run(self) -> None:
        while not self.done.wait(0.5):
            total = 0
            try:
                for process in (self.process, *self.process.children(recursive=True)):
                    total += process.memory_full_info().pss
            except psutil.Error:
                continue
            self.peak = max(self.peak, total)


def timed(command: list[str]) -> tuple[float, int]:
    """Wall seconds and peak bytes of a command."""
    begun = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=ROOT)
    peak = Peak(process.pid)
    peak.start()
    status = process.wait()
    peak.done.set()
    peak.join()
    if status:
        raise SystemExit(f"failed with {status}: {' '.join(command[:3])} ...")
    return time.perf_counter() - begun, peak.peak


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=531_850)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--folder", help="where to work (a temporary folder)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        made = [sys.executable, "data_preprocess/synthetic.py", "--output", str(folder / "set"), "--no-frames"]
        seconds, _ = timed([*made, "--rows", str(options.rows)])
        source = folder / "set/train_annotations.json"
        size = source.stat().st_size
        print(f"{options.rows} rows, {size / 1e9:.2f} GB, written in {seconds:.0f} s; {os.cpu_count()} cores")
        few = min(options.rows, 50_000)
        ours = [sys.executable, "data_preprocess/medvidbench.py", "--annotations", str(source), "--verify", "none"]
        ours += ["--frames-root", str(folder), "--output", str(folder / "out"), "--workers", str(options.workers)]
        contenders = {
            "bare loop": ([sys.executable, "-c", BARE, str(source), str(folder / "bare.parquet")], options.rows),
            "medvidbench.py": ([*ours, "--force"], options.rows),
            "datasets": ([sys.executable, "-c", DATASETS, str(source), str(folder / "ds.parquet"), str(few)], few),
        }
        rates: dict[str, list[float]] = {name: [] for name in contenders}
        peaks: dict[str, int] = dict.fromkeys(contenders, 0)
        for _ in range(options.rounds):
            for name, (command, rows) in contenders.items():
                seconds, peak = timed(command)
                rates[name].append(rows / seconds)
                peaks[name] = max(peaks[name], peak)
        bare = statistics.median(rates["bare loop"])
        for name, values in rates.items():
            rate = statistics.median(values)
            print(f"{name:<16} {rate:>8.0f} rows/s  {rate / bare:>5.2f} x bare loop  peak {peaks[name] / 1e6:>6.0f} MB")
        audit = json.loads((folder / "out/audit.json").read_text())
        outputs = {name: entry["rows"] for name, entry in audit["outputs"].items()}
        size = sum((folder / "out" / name).stat().st_size for name in outputs)
        print(f"written: {outputs}, {size / 1e6:.0f} MB; rejected: {audit['rows']['rejected']}")


if __name__ == "__main__":
    main()

# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Annotations to rows: rows a second and peak memory of the half of the curation that needs no captioner.

    python tests/benchmarks/bench_curation.py                    # 531,850 rows; about 3 minutes on an idle machine
    python tests/benchmarks/bench_curation.py --rows 50000 --engine ray      # by two of Ray Data's workers

Synthetic annotations of all eight sources are written first; then `curate.py all --subset N` reads them, lists what can
be asked, chooses and writes. Beside it stands the least that anybody could do with the result: `orjson` reads its rows
and writes them again.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import orjson
import psutil

ROOT = Path(__file__).resolve().parents[2]


def measured(command: list[str]) -> tuple[float, float, float]:
    """Seconds on the clock, seconds of the processor and peak memory (bytes) of a command that succeeds."""
    begun = time.perf_counter()
    process = psutil.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    peak = busy = 0.0
    while process.poll() is None:
        try:
            peak = max(peak, process.memory_info().rss)
            busy = sum(process.cpu_times()[:2])
        except psutil.Error:
            pass
        time.sleep(0.1)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)}: status {process.returncode}")
    return time.perf_counter() - begun, busy, peak


def bare(file: Path, target: Path) -> float:
    """Seconds of the processor to read and write the rows of a file without looking at them."""
    begun = time.process_time()
    with open(file, "rb") as lines, open(target, "wb") as out:
        for line in lines:
            if line.startswith(b"{"):
                out.write(orjson.dumps(orjson.loads(line.rstrip(b",\n"))))
    return time.process_time() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=531_850, help="rows to write (default: as the full set has)")
    parser.add_argument("--videos", type=int, default=40, help="videos of each source (default 40)")
    parser.add_argument("--seconds", type=int, default=1200, help="length of a video (default 1200)")
    parser.add_argument("--engine", default="local", help="local or ray, as of curate.py (default local)")
    options = parser.parse_args()
    # A pass over a video of each source makes some 400 rows where videos last 20 minutes.
    passes = max(2, round(options.rows / options.videos / options.seconds * 1200 / 370) + 1)
    with tempfile.TemporaryDirectory() as folder:
        sources, output = Path(folder, "sources"), Path(folder, "rows")
        command = [sys.executable, "data_preprocess/curate.py"]
        sizes = ["--videos", str(options.videos), "--seconds", str(options.seconds), "--no-media"]
        measured([*command, "synthetic", "--output", str(sources), *sizes])
        arguments = ["--root", str(sources), "--output", str(output), "--subset", str(options.rows)]
        arguments += ["--engine", options.engine, "--set", f"passes={passes}"]
        wall, busy, peak = measured([*command, "all", *arguments])
        file = output / "annotations.json"
        rows = orjson.loads((output / "curation.json").read_bytes())["rows"]
        least = bare(file, Path(folder, "bare"))
        size = file.stat().st_size
    print(f"{rows:,} rows, {size / 1e9:.2f} GB of JSON, {passes} passes over {options.videos} videos of each source")
    print(f"curate.py: {wall:.0f} s: {rows / wall:,.0f} rows a second; peak memory {peak / 1e9:.2f} GB")
    if options.engine == "local":
        # Ray's workers are other processes, whose time and memory are not counted here.
        print(f"{busy:.0f} s of one core: {rows / busy:,.0f} rows a second of a core")
        print(f"reading and writing the rows with orjson alone: {least:.0f} s of one core; ratio {busy / least:.1f}")


if __name__ == "__main__":
    main()

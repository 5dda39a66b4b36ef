# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""What the report of a long run weighs and how long it takes to write, and what a watched run costs a step.

    python tests/benchmarks/bench_report.py [--steps 5000] [--answers 10] [--data DIR] [--keep DIR]

The run is invented (`tests/recipes/reporting/made_run.py`): answers to real rows of the synthetic set, scored and
recorded by the real code. Times are seconds of the processor, which other work on the machine lengthens least; what is
to be read are their ratios within one call.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests/recipes/reporting")]

from made_run import Maker  # noqa: E402

from recipes.medgrpo.reporting.payload import as_json  # noqa: E402
from recipes.medgrpo.reporting.write import Report, write_report  # noqa: E402

TASKS = ("tal", "stg", "nap", "cvs", "sa")
"""Of these, no text is embedded or judged: thousands of steps are scored in a minute."""


def synthetic(folder: Path) -> Path:
    """The synthetic set as parquet, a little of it."""
    for command in (
        ["data_preprocess/synthetic.py", "--output", folder / "raw", "--videos-per-source", 6, "--rows-per-pair", 6],
        [
            *("data_preprocess/medvidbench.py", "--annotations", folder / "raw/train_annotations.json"),
            *("--frames-root", folder / "raw/frames", "--output", folder / "data", "--model-family", "qwen2_5_vl"),
            *("--val-fraction", 0.3),
        ],
    ):
        subprocess.run([sys.executable, *map(str, command)], cwd=ROOT, check=True, capture_output=True)
    return folder / "data"


def size(folder: Path) -> float:
    """Megabytes."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=5000)
    parser.add_argument("--answers", type=int, default=10, help="of a step, in groups of 5")
    parser.add_argument("--data", type=Path, help="the preprocessor's folder (default: the synthetic set, made anew)")
    parser.add_argument("--keep", type=Path, help="where to leave run and report (default: nowhere)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = args.keep or Path(scratch)
        data = args.data or synthetic(Path(scratch))
        maker = Maker(folder / "run", data, tasks=TASKS, rows=4, rollouts=5, steps=args.steps)
        maker.calibrate()
        maker.recorder.begin(0)
        begun = time.process_time()
        for step in range(1, args.steps):
            maker.step(step, args.answers // 5)
        made = (time.process_time() - begun) / args.steps
        print(f"{args.steps} steps, {args.steps * args.answers} answers: run {size(folder / 'run'):.1f} MB")
        report = Report([folder / "run"], data=data, rows_per_pair=12, most=10**9)
        begun = time.process_time()
        report.refresh()
        read = time.process_time() - begun
        maker.step(args.steps, args.answers // 5)
        begun = time.process_time()
        assert report.refresh()
        one_more = time.process_time() - begun
        begun = time.process_time()
        assert not report.refresh()
        nothing = time.process_time() - begun
        pieces = {}
        for name in ("index", "curves_r0", "rollouts_r0", "distributions_r0"):
            begun = time.process_time()
            text = as_json(report.piece(name))
            pieces[name] = time.process_time() - begun
            print(f"  {name}: {len(text) / 1e6:.2f} MB in {pieces[name]:.2f} s")
        begun = time.process_time()
        text = as_json(report.piece("rollouts_r0", args.steps))
        print(f"  the newest step alone: {len(text) / 1e3:.1f} kB in {1e3 * (time.process_time() - begun):.1f} ms")
        begun = time.process_time()
        write_report(report, folder / "report", single=False)
        written = time.process_time() - begun
        files = sum(1 for _ in (folder / "report").rglob("*"))
        print(f"report: {size(folder / 'report'):.1f} MB in {files} files, read {read:.1f} s, written {written:.1f} s")
        print(f"a look at one new step {one_more:.3f} s ({read / one_more:.0f} times less than reading all of them),")
        print(f"a look at nothing new {nothing:.4f} s; recording the step took {made:.3f} s")


if __name__ == "__main__":
    main()

# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""Evaluation of a file as large as the public test set, through the command.

    python tests/benchmarks/bench_evaluate.py [--folder DIR]

Makes synthetic annotations with the public test file's 6,245 rows by task and answers to them (the reference, in two
of five cases another row's, some cut short, some no answer), other videos as training rows, then runs the leaderboard
mode plainly, with the blind baseline and with the offline judge. Prints seconds, start-up included, and their ratio to
the 20 s that the plain run may take on two cores.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
BAR_S = 20.0
# Rows of the public test file.
ROWS = {
    "tal": 1637,
    "stg": 780,
    "dense_captioning": 751 + 728,
    "region_caption": 138 + 168,
    "cvs_assessment": 648,
    "next_action": 670,
    "video_summary": 302 + 263,
    "skill_assessment": 160,
}


def make(folder: Path) -> None:
    """`test.json` and `train.json` of different videos, and `results.json` to the test rows."""
    from data_preprocess import synthetic
    from data_preprocess.synthetic_rows import Settings

    settings = Settings(videos=120, variants="plain", profile="full")
    synthetic.generate(folder / "synthetic", settings, 33_000, 0, frames=False)
    rows = json.loads((folder / "synthetic/train_annotations.json").read_text(encoding="utf-8"))
    rng = random.Random(0)
    videos = sorted({(row["data_source"], row["metadata"]["video_id"]) for row in rows})
    rng.shuffle(videos)
    held_out = set(videos[: len(videos) // 2])
    counts: Counter[str] = Counter()
    test, train, answers = [], [], {}
    said: dict[tuple[str, str], str] = {}
    for row in rows:
        kind = row["qa_type"].removesuffix("_gpt").removesuffix("_gemini")
        kind = "dense_captioning" if kind == "dc" else kind
        if (row["data_source"], row["metadata"]["video_id"]) not in held_out:
            train.append(row)
        elif counts[kind] < ROWS[kind]:
            counts[kind] += 1
            gold = row["conversations"][1]["value"]
            answer = said.get((row["data_source"], kind), gold) if rng.random() < 0.4 else gold
            answer = answer[: len(answer) // 2] if rng.random() < 0.03 else answer
            answer = "I do not know." if rng.random() < 0.02 else answer
            said[row["data_source"], kind] = gold
            question = row["conversations"][0]["value"].replace("<video>\n", "")
            keys = {"metadata": row["metadata"], "qa_type": row["qa_type"], "data_source": row["data_source"]}
            answers[str(len(test))] = keys | {"question": question, "answer": answer, "struc_info": None}
            test.append(row)
    if counts != ROWS:
        raise SystemExit(f"rows by task: expected {ROWS}, got {dict(counts)}")
    for name, content in (("test", test), ("train", train[:6270]), ("results", answers)):
        (folder / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")


def seconds(folder: Path, *arguments: str) -> float:
    """Wall seconds of the command."""
    command = [sys.executable, "-m", "recipes.medgrpo.evaluate", "score", "--results", str(folder / "results.json")]
    command += ["--ground-truth", str(folder / "test.json"), "--mode", "leaderboard", "--output", str(folder / "out")]
    began = time.perf_counter()
    subprocess.run(
        [*command, *arguments],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=True,
    )
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="where to work; default a temporary folder")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or Path(temporary)
        make(folder)
        print(f"{'leaderboard mode, 6,245 rows':<40}{'seconds':>9}{'of 20 s':>9}")
        for name, arguments in (
            ("plain", ()),
            ("with --blind-baseline (6,270 rows)", ("--blind-baseline", str(folder / "train.json"))),
            ("with --judge offline", ("--judge", "offline")),
        ):
            took = seconds(folder, *arguments)
            print(f"{name:<40}{took:>9.1f}{took / BAR_S:>9.2f}", flush=True)


if __name__ == "__main__":
    main()

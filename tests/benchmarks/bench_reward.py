# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Rule rewards: time per answer on one core, and the worst time of an answer made to take long.

    python tests/benchmarks/bench_reward.py [--answers 400] [--rounds 5]

For each of the six rule tasks (dense captioning without its captions): the median time of `compute_score` over
answers that all differ, typical ones (the grammar) and deviating ones (readable at format 0.5, or not at all), and
its ratio to the bar of 50 microseconds. Then the longest that any adversarial answer takes, at 1 MB and at the longest
text that is read, against the bar of 50 milliseconds. Every answer is timed in each of several rounds, and its best
round counts: on a busy machine the others measure the neighbours.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from reward_score.answers import (
    ASPECTS,
    CVS_COMPONENTS,
    MAX_CHARS,
    MAX_ITEMS,
    Event,
    render_cvs,
    render_dvc,
    render_sa,
    render_stg,
    render_tal,
)
from reward_score.medgrpo import compute_score

BAR_US = 50.0
BAR_MS = 50.0
MEGABYTE = 1_000_000
LABELS = ["cutting", "tying", "suturing", "carlot-triangle-dissection", "lift flap with forceps", "adjust camera"]
WORDS = "the surgeon hook grasper cuts lifts holds duct liver tissue gently while clip artery is placed".split()
UNITS = ["1-", "1 - ", "[", "[[1, ", "9", " ", "\n", "seconds: ", "1 seconds: [", "1.0-2.0 seconds ", "between 1 and "]
UNITS += [
    "1.0-2.0, ",
    "1-2 –",
    "- 1. 1-2",
    "1s-1s",
    "1: [1, 2, 3, ",
    "Two structures",
    "Cystic plate: *",
    "Cystic plate:1",
]
UNITS += [
    "Time and motion: ",
    "the next action is ",
    "the ",
    "(",
    "\u200b",
    "１",
    "<|a",
    "user",
    "a b ",
    "é",
    "2.5",
    "1-2: a\n",
]
UNITS += ["1.0-2.0 seconds: a\n", "1.0 seconds: [1, 2, 3, 4] ", "1.0-2.0 seconds: a ", "0.0-1.0 seconds - a "]

Row = tuple[str, str]
"""An answer and its reference as a JSON string."""


def _tenth(source: random.Random, most: float = 300.0) -> float:
    return round(source.uniform(0, most), 1)


def _spans(source: random.Random, most: int) -> list[tuple[float, float]]:
    starts = [_tenth(source) for _ in range(source.randint(1, most))]
    return [(start, round(start + _tenth(source, 40), 1)) for start in starts]


def _near(source: random.Random, spans: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    return [(abs(round(a + source.gauss(0, 2), 1)), abs(round(b + source.gauss(0, 2), 1))) for a, b in spans]


def _tal(source: random.Random) -> tuple[str, dict[str, Any]]:
    gold = _spans(source, 3)
    return render_tal(_near(source, gold)), {"spans": gold}


def _stg(source: random.Random) -> tuple[str, dict[str, Any]]:
    start = source.randint(0, 60)
    gold = {}
    for n in range(source.randint(3, 8)):
        (x1, x2), (y1, y2) = (sorted(source.uniform(0, 800) for _ in range(2)) for _ in range(2))
        gold[float(start + 8 * n)] = [x1, y1, x2, y2]
    said = {t: tuple(round(v + source.gauss(0, 9), 2) for v in box) for t, box in gold.items()}
    return render_stg(said), {"boxes": {str(t): box for t, box in gold.items()}, "stride": 8}


def _dvc(source: random.Random) -> tuple[str, dict[str, Any]]:
    gold = [Event(a, b, " ".join(source.choices(WORDS, k=12))) for a, b in _spans(source, 4)]
    said = [
        Event(a, b, " ".join(source.choices(WORDS, k=12))) for a, b in _near(source, [(e.start, e.end) for e in gold])
    ]
    return render_dvc(said), {"events": [vars(event) for event in gold]}


def _nap(source: random.Random) -> tuple[str, dict[str, Any]]:
    return source.choice(LABELS) + source.choice(["", f" {source.randint(0, 10**6)}"]), {"label": source.choice(LABELS)}


def _cvs(source: random.Random) -> tuple[str, dict[str, Any]]:
    gold, said = ({name: source.randint(0, 2) for name in CVS_COMPONENTS} for _ in range(2))
    return render_cvs(said), {"scores": gold}


def _sa(source: random.Random) -> tuple[str, dict[str, Any]]:
    gold, said = ({name: source.randint(1, 5) for name in ASPECTS} for _ in range(2))
    return render_sa(said), {"scores": gold}


MAKERS: dict[str, Callable[[random.Random], tuple[str, dict[str, Any]]]] = {
    "tal": _tal,
    "stg": _stg,
    "dvc": _dvc,
    "nap": _nap,
    "cvs": _cvs,
    "sa": _sa,
}


def deviate(source: random.Random, text: str) -> str:
    """The answer as an untuned model might put it: words around, other signs, cut off, a part repeated, not at all."""
    number = source.randint(0, 10**6)
    return source.choice(
        [
            lambda: f"Sure, here is answer {number}: {text}",
            lambda: f"{text} Note {number}: this is my best estimate.",
            lambda: text.replace("-", " to ").replace(": ", " = "),
            lambda: text.replace(", ", "\n- "),
            lambda: text[: source.randint(1, len(text))],
            lambda: f"{text} {text[: len(text) // 2]}",
            lambda: f"I cannot tell from these {number} frames.",
        ]
    )()


def crowded(task: str) -> list[str]:
    """Answers with as many parts as are read, all different and all overlapping."""
    spans = [(n / 10, 100 + n / 7) for n in range(MAX_ITEMS)]
    if task == "tal":
        return [render_tal(spans)]
    if task == "dvc":
        return [render_dvc(Event(a, b, f"cut {a}") for a, b in spans)]
    if task == "stg":
        return [render_stg({n / 2: (0.0, 0.0, 500.0 + n, 400.0) for n in range(MAX_ITEMS)})]
    return []


def timed(task: str, rows: Sequence[Row], rounds: int) -> list[float]:
    """Seconds of each answer, the best of some rounds after one that is not counted."""
    name = f"medvidbench/CoPESD/{task}"
    best = [float("inf")] * len(rows)

    async def run(count: bool) -> None:
        for number, (answer, truth) in enumerate(rows):
            begun = time.perf_counter()
            await compute_score(name, answer, truth, EXTRA)
            if count:
                best[number] = min(best[number], time.perf_counter() - begun)

    for turn in range(rounds + 1):
        asyncio.run(run(turn > 0))
    return best


EXTRA = {
    "sample_interval": 1.0,
    "model_family": "qwen2_5_vl",
    "canvas": [1306, 1009],
    "processed_size": [168, 168],
    "question": "When?",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints both tables; 1 when a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--answers", type=int, default=400, help="answers of each kind (%(default)s)")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args(arguments)
    source = random.Random(0)
    missed = False
    print(f"{'task':5} {'typical us':>11} {'deviating us':>13} {'worst ratio to 50 us':>21}")
    for task, make in MAKERS.items():
        made = [make(source) for _ in range(options.answers)]
        typical = [(answer, json.dumps(truth)) for answer, truth in made]
        deviating = [(deviate(source, answer), truth) for answer, truth in typical]
        medians = [1e6 * statistics.median(timed(task, rows, options.rounds)) for rows in (typical, deviating)]
        missed |= max(medians) > BAR_US
        print(f"{task:5} {medians[0]:11.1f} {medians[1]:13.1f} {max(medians) / BAR_US:21.2f}")
    print(f"\n{'task':5} {'1 MB, ms':>9} {'longest read, ms':>17} {'ratio to 50 ms':>15}  slowest")
    for task, make in MAKERS.items():
        truth = json.dumps(make(source)[1])
        figures = []
        for chars in (MEGABYTE, MAX_CHARS):
            rows = [((unit * (chars // len(unit) + 1))[:chars], truth) for unit in UNITS]
            rows += [(answer, truth) for answer in crowded(task)]
            seconds = timed(task, rows, options.rounds)
            slowest = max(range(len(rows)), key=seconds.__getitem__)
            figures.append((1e3 * seconds[slowest], repr([*UNITS, "many parts"][slowest])))
        worst = max(figures)
        missed |= worst[0] > BAR_MS
        print(f"{task:5} {figures[0][0]:9.2f} {figures[1][0]:17.2f} {worst[0] / BAR_MS:15.2f}  {worst[1]}")
    return int(missed)


if __name__ == "__main__":
    raise SystemExit(main())

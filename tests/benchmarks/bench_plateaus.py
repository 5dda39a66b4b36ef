# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Ties and plateaus: what ways of normalising pay at the ends of the scale, and to answers that look at no frame.

    python tests/benchmarks/bench_plateaus.py [--statistics statistics.json]

Each way is made from the statistics of three SFT models: a recorded one (of a short CPU run, `cpu_run_statistics.json`,
or another file), a poor and a good one, whose distributions stand in `POOR` and `GOOD`. Columns:

- saturated: share of the SFT model's values whose normalised value is below 0.02 or above 0.98.
- slope at p90: of the normalised value at the SFT model's 90th percentile; median and least over pairs and signals.
- tied: pairs in which a right answer whose format is halved does not beat a wrong answer of whole format.
- box: what a raw signal of 0.07 (a box as large as the frame) earns of a right answer's reward, most over stg pairs.
- constant: reward of the best answer that is the same for a whole task, over that of a right answer: for the task
  where it is most (`constants`: learnt on other rows by the blind baseline, the commonest captions, the whole clip).
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from functools import cache
from math import log
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from data_preprocess.synthetic_rows import Settings as SyntheticSettings
from data_preprocess.synthetic_rows import rows as synthetic_rows
from recipes.medgrpo.evaluation.blind import learn, read_training_rows
from recipes.medgrpo.evaluation.constant_answers import Constant, Piece, asked_times
from recipes.medgrpo.evaluation.truths import Truth
from recipes.medgrpo.terminal import table
from reward_score.answers import ASPECTS, CVS_COMPONENTS, render_cvs, render_sa
from reward_score.medgrpo import score_many
from reward_score.normalization import DEFAULT_K, NEEDED, Normalizer, logistic, saturated
from reward_score.reward import get_scorer
from reward_score.statistics import DEFAULT_MIN_IQR, FORMAT, Statistics, summarize

RECORDED = Path(__file__).with_name("cpu_run_statistics.json")
HALVED = 0.5
"""The format of a readable deviation."""
BOX = 0.07
"""The IoU of a box as large as the frame, as it was seen in spatio-temporal grounding."""
LEARN, SCORED = 48, 16
"""Rows of a pair that constants are learnt on, and others that they are scored on."""

Map = Callable[[float], float]
Maps = Mapping[str, Mapping[str, Map]]

# --- SFT models -------------------------------------------------------------------------------------------------------

POOR = {
    "tal": {"iou": ("beta", 1.5, 6, 0.6)},
    "stg": {"iou": ("beta", 1, 15, 0.85)},
    "nap": {"exact": ("share", 1, 0.06)},
    "sa": {"exact": ("share", 6, 0.15), "closeness": ("share", 24, 0.4)},
    "cvs": {"exact": ("share", 3, 0.15), "closeness": ("share", 6, 0.4)},
    "vs": {"similarity": ("beta", 3, 7, 0), "judge": ("beta", 1, 9, 0.3)},
    "dvc": {
        "temporal_f1": ("beta", 1.5, 5, 0.5),
        "similarity": ("beta", 3, 7, 0.2),
        "judge": ("beta", 1, 9, 0.3),
    },
}
GOOD = {
    "tal": {"iou": ("beta", 6, 3, 0.02)},
    "stg": {"iou": ("beta", 5, 4, 0.05)},
    "nap": {"exact": ("share", 1, 0.75)},
    "sa": {"exact": ("share", 6, 0.75), "closeness": ("share", 24, 0.9)},
    "cvs": {"exact": ("share", 3, 0.75), "closeness": ("share", 6, 0.9)},
    "vs": {"similarity": ("beta", 9, 3, 0), "judge": ("beta", 6, 4, 0)},
    "dvc": {"temporal_f1": ("beta", 6, 3, 0.02), "similarity": ("beta", 9, 3, 0), "judge": ("beta", 6, 4, 0)},
}
"""Raw signals by task (rc as vs): ``beta`` with its two parameters and the share of zeros among them, ``share`` of so
many parts that are right, each with that probability."""


def model_statistics(
    model: Mapping[str, Mapping[str, tuple]], pairs: Mapping[str, object], seed: int = 0
) -> Statistics:
    """Statistics of 512 answers a pair, drawn from a model's distributions."""
    rng = np.random.default_rng(seed)

    def draw(kind: str, *parameters: float) -> np.ndarray:
        if kind == "share":
            parts, right = parameters
            return rng.binomial(int(parts), right, 512) / parts
        values = rng.beta(*parameters[:2], 512)
        values[rng.random(512) < parameters[2]] = 0.0
        return values

    def of_task(task: str) -> Mapping[str, tuple]:
        return model["vs" if task == "rc" else task]

    rows = {pair: {signal: summarize(draw(*made)) for signal, made in of_task(_task(pair)).items()} for pair in pairs}
    return Statistics.from_dict({"format": FORMAT, "pairs": rows})


def models(recorded: Path = RECORDED) -> dict[str, Statistics]:
    """Statistics by the SFT model's name."""
    found = Statistics.load(recorded)
    return {
        "recorded": found,
        "poor": model_statistics(POOR, found.pairs),
        "good": model_statistics(GOOD, found.pairs),
    }


def _task(pair: str) -> str:
    return pair.rpartition("/")[2]


# --- ways of normalising ----------------------------------------------------------------------------------------------


def blended(linear_share: float | None) -> Callable[[Statistics], Maps]:
    """The logistic with the raw signal's own share beside it, as the reward has it; None is the default."""

    def make(statistics: Statistics) -> Maps:
        normalizer = Normalizer(statistics, linear_share=linear_share)
        return {
            pair: {signal: lambda x, pair=pair, signal=signal: normalizer(pair, signal, x) for signal in signals}
            for pair, signals in statistics.pairs.items()
        }

    return make


def from_rows(used: Callable[[np.ndarray, float], tuple[float, float]]) -> Callable[[Statistics], Maps]:
    """The logistic with a median and a spread that are made of a signal's quantiles and its task's mean spread."""

    def make(statistics: Statistics) -> Maps:
        spreads: dict[tuple[str, str], list[float]] = defaultdict(list)
        for pair, signals in statistics.pairs.items():
            for signal, row in signals.items():
                spreads[_task(pair), signal].append(row.iqr)
        maps: dict[str, dict[str, Map]] = defaultdict(dict)
        for pair, signals in statistics.pairs.items():
            for signal, row in signals.items():
                p50, iqr = used(np.array(row.quantiles), float(np.mean(spreads[_task(pair), signal])))
                maps[pair][signal] = lambda x, p50=p50, iqr=iqr: logistic(x, p50, iqr)
        return maps

    return make


def _spread(values: np.ndarray) -> float:
    return max(float(np.subtract(*np.percentile(values, [75, 25]))), DEFAULT_MIN_IQR)


def _upper_quartiles(values: np.ndarray, pooled: float) -> tuple[float, float]:
    p50, p75, p95 = np.percentile(values, [50, 75, 95])
    return p50, max(_spread(values), 2 * (p75 - p50), p95 - p50)


def _pooled(values: np.ndarray, pooled: float) -> tuple[float, float]:
    return float(np.median(values)), max(_spread(values), pooled)


def _non_zero(values: np.ndarray, pooled: float) -> tuple[float, float]:
    kept = values[values > 0]
    return (float(np.median(kept)), _spread(kept)) if kept.size else (1.0, 1.0)


def _headroom(values: np.ndarray, pooled: float) -> tuple[float, float]:
    """A spread of at least the way from the median to 1, a median such that nothing earns at most a quarter."""
    lowest = log(3) / DEFAULT_K
    p50 = float(np.median(values))
    spread = max(_spread(values), 1 - p50)
    if p50 >= lowest * spread:
        return p50, spread
    spread = max(_spread(values), 1 / (1 + lowest))
    return lowest * spread, spread


WAYS: dict[str, Callable[[Statistics], Maps]] = {
    "logistic alone (the paper's)": blended(0.0),
    "IQR at least by the upper quartiles": from_rows(_upper_quartiles),
    "IQR at least the task's mean": from_rows(_pooled),
    "statistics of non-zero answers": from_rows(_non_zero),
    "IQR at least 1 - p50, p50 raised": from_rows(_headroom),
    "a quarter raw": blended(0.25),
    "half raw": blended(0.5),
    "0.65 raw": blended(0.65),
    "as much raw as needed (the default)": blended(NEEDED),
}

# --- answers that look at no frame ------------------------------------------------------------------------------------


def constants(task: str, learnt: Constant, rows: list[Truth]) -> dict[str, Constant]:
    """Answers to every row of a task: what the blind baseline learnt on rows of one of its pairs, and plain ones."""
    whole = (Piece(0.0, 1.0),)
    if task in ("vs", "rc"):
        captions = Counter(row.ground["text"] for row in rows).most_common(6)
        return {f"caption {number}": Constant(text) for number, (text, _) in enumerate(captions)}
    if task == "dvc":
        captions = Counter(event["caption"] for row in rows for event in row.ground["events"]).most_common(2)
        return {
            f"{name} {number}": Constant(pieces=pieces, caption=caption)
            for name, pieces in (("learnt", learnt.pieces), ("whole clip", whole))
            for number, (caption, _) in enumerate(captions)
        }
    found = {"learnt": learnt}
    if task == "tal":
        found["whole clip"] = Constant(pieces=whole)
    elif task == "stg":
        found["whole frame"] = Constant(box=(0.0, 0.0, 854.0, 480.0))
    elif task == "nap":
        labels = Counter(row.ground["label"] for row in rows).most_common(3)
        found |= {f"label {number}": Constant(label) for number, (label, _) in enumerate(labels)}
    else:
        names, render, scores = (
            (CVS_COMPONENTS, render_cvs, range(3)) if task == "cvs" else (ASPECTS, render_sa, range(1, 6))
        )
        found |= {f"all {score}": Constant(render(dict.fromkeys(names, score))) for score in scores}
    return found


@cache
def constant_answers() -> dict[str, dict[str, dict[str, list[dict[str, float]]]]]:
    """By task, answer and pair: the results of the answer on synthetic rows, format and raw signals."""
    made = [row for row, _ in synthetic_rows(SyntheticSettings(profile="tiny"), 23 * (LEARN + SCORED), False)]
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / name for name in ("learn.json", "score.json")]
        for file, rows in zip(files, (made[: 23 * LEARN], made[23 * LEARN :]), strict=True):
            file.write_text(json.dumps(rows))
        blind = learn(files[0], "strict", captions=False)
        answered, _ = read_training_rows(files[1])
    pairs: dict[str, list[list[Truth]]] = {
        pair: [[row for row in one if row.data_source == pair] for one in (blind.rows, answered)]
        for pair in sorted(blind.pairs)
    }
    found: dict[str, dict[str, dict[str, list[dict[str, float]]]]] = defaultdict(lambda: defaultdict(dict))
    for pair, (rows, _) in pairs.items():
        task = _task(pair)
        for name, constant in constants(task, blind.pairs[pair].constant, rows).items():
            for other, (_, others) in pairs.items():
                if _task(other) == task:
                    found[task][f"{pair}: {name}"][other] = _results(constant, others)
    return found


def _results(constant: Constant, rows: list[Truth]) -> list[dict[str, float]]:
    answers = [
        constant.answer(
            "strict", row.seconds or 60.0, asked_times(row.extra["question"], row.ground) if constant.box else ()
        )
        for row in rows
    ]
    return score_many(
        [(row.data_source, answer, row.ground_truth, row.extra) for row, answer in zip(rows, answers, strict=True)],
        dvc_captions=True,
    )


# --- what each way pays -----------------------------------------------------------------------------------------------


def reward(maps: Maps, pair: str, raw: Mapping[str, float], form: float = 1.0) -> float:
    """The reward of an answer under these maps, with the captions of dense captioning."""
    return get_scorer(dvc_captions=True).reward(pair, form, raw, lambda source, signal, x: maps[source][signal](x))


def constant_share(maps: Maps, task: str) -> float:
    """Mean reward of the best constant answer to a task, over that of right answers; its pairs count alike."""
    best, right = 0.0, []
    for pairs in constant_answers()[task].values():
        earned = []
        right = [reward(maps, pair, dict.fromkeys(maps[pair], 1.0)) for pair in pairs]
        for pair, results in pairs.items():
            raws = [({signal: one[f"raw_{signal}"] for signal in maps[pair]}, one["format"]) for one in results]
            earned.append(np.mean([reward(maps, pair, raw, form) for raw, form in raws]))
        best = max(best, float(np.mean(earned)))
    return best / float(np.mean(right))


def measure(make: Callable[[Statistics], Maps], statistics: Statistics, with_constants: bool = True) -> dict:
    """The columns of the table; ``constants`` by task."""
    maps = make(statistics)
    beyond, slopes, tied, box = [], [], 0, 0.0
    for pair, signals in statistics.pairs.items():
        right, wrong = (reward(maps, pair, dict.fromkeys(signals, value)) for value in (1.0, 0.0))
        tied += HALVED * right <= wrong + 1e-9
        if _task(pair) == "stg":
            box = max(box, reward(maps, pair, {"iou": BOX}) / right)
        for signal, row in signals.items():
            beyond.append(saturated(np.array([maps[pair][signal](x) for x in row.quantiles])).mean())
            x, step = row.quantiles[90], 0.005
            slopes.append((maps[pair][signal](x + step) - maps[pair][signal](x - step)) / (2 * step))
    found = {
        "saturated": float(np.mean(beyond)),
        "slope_median": float(np.median(slopes)),
        "slope_least": float(min(slopes)),
        "tied": int(tied),
        "box": box,
    }
    if with_constants:
        found["constants"] = {task: constant_share(maps, task) for task in constant_answers()}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--statistics", type=Path, default=RECORDED, help="of the recorded SFT model")
    args = parser.parse_args()
    for model, statistics in models(args.statistics).items():
        rows = []
        for name, make in WAYS.items():
            found = measure(make, statistics)
            task = max(found["constants"], key=found["constants"].__getitem__)
            rows.append(
                [
                    name,
                    f"{found['saturated']:.1%}",
                    f"{found['slope_median']:.2f}",
                    f"{found['slope_least']:.4f}",
                    f"{found['tied']} of {len(statistics.pairs)}",
                    f"{found['box']:.2f}",
                    f"{found['constants'][task]:.2f} ({task})",
                ]
            )
        print(f"\n{model} SFT model")
        print(table(["", "saturated", "slope at p90", "least", "tied", "box", "constant"], rows))


if __name__ == "__main__":
    main()

# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""What the optional signal of temporal grounding, `wasserstein`, says beside the IoU, on recorded answers.

    python tests/benchmarks/bench_tal_signal.py --recorded raw_signals.jsonl --data train.parquet

The answers of a calibration are scored again with `tal_wasserstein`, with raw signals as they are. Rewards are the IoU
alone, the nearness alone, and their mean (the setting's). Columns, over groups of answers to one row:

- dead: share of groups without spread, which teach nothing.
- std: mean standard deviation of the rewards in a group.
- agree: of two answers of a group whose IoUs differ, how often the reward orders them the same way.
- best: mean IoU, the strict metric, of the answer that the reward holds best in its group (ties: their mean).
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from recipes.medgrpo.data.rows import Rows
from recipes.medgrpo.files import read_json_lines
from recipes.medgrpo.terminal import table
from recipes.medgrpo.training.groups import TIE
from reward_score.medgrpo import score_many

REWARDS = {"iou": (1.0, 0.0), "wasserstein": (0.0, 1.0), "both": (0.5, 0.5)}


def groups_of(recorded: Path, data: str) -> dict[str, list[np.ndarray]]:
    """By pair: of each row the (answers, 3) formats, IoUs and nearnesses of its answers."""
    rows = Rows.open([data])
    places = {key: place for place, key in enumerate(rows.annotations())}
    said = [one for one in read_json_lines(recorded) if str(one.get("data_source", "")).endswith("/tal")]
    found = defaultdict(list)
    for one in said:
        found[one["data_source"], (one["file"] or None, one["index"])].append(one["answer"])
    pairs: dict[str, list[np.ndarray]] = defaultdict(list)
    for (pair, key), answers in found.items():
        row = rows.row(places[key])
        truth, extra = row["reward_model"]["ground_truth"], row["extra_info"]
        scores = score_many([(pair, answer, truth, extra) for answer in answers], tal_wasserstein=True)
        pairs[pair].append(np.array([[x["format"], x["raw_iou"], x["raw_wasserstein"]] for x in scores]))
    return pairs


def measured(groups: list[np.ndarray], weights: tuple[float, float]) -> list[float]:
    dead, std, agree, best = [], [], [], []
    for group in groups:
        rewards = group[:, 0] * (group[:, 1:] @ weights)
        dead.append(np.ptp(rewards) < TIE)
        std.append(rewards.std(ddof=1) if len(rewards) > 1 else 0.0)
        for a, b in itertools.combinations(range(len(group)), 2):
            if (off := group[a, 1] - group[b, 1]) and group[a, 0] == group[b, 0]:
                agree.append((rewards[a] - rewards[b]) * off > 0)
        best.append(group[rewards > rewards.max() - TIE, 1].mean())
    return [float(np.mean(column)) if column else float("nan") for column in (dead, std, agree, best)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recorded", required=True, type=Path, help="raw_signals.jsonl of a calibration")
    parser.add_argument("--data", required=True, help="the parquet file whose rows were answered")
    args = parser.parse_args()
    pairs = groups_of(args.recorded, args.data)
    pairs["all"] = [group for groups in list(pairs.values()) for group in groups]
    lines = [
        [pair.removeprefix("medvidbench/"), len(groups), name, *measured(groups, weights)]
        for pair, groups in pairs.items()
        for name, weights in REWARDS.items()
    ]
    print(table(("pair", "groups", "reward", "dead", "std", "agree", "best"), lines))


if __name__ == "__main__":
    main()

# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""Draw raw signals and rewards per dataset-task pair, before and after normalisation.

    python -m recipes.medgrpo pictures --recorded raw_signals.jsonl --statistics statistics.json --output DIR
    python -m recipes.medgrpo pictures --recorded outputs/RUN/grpo --output DIR

Writes `histograms.json` (every number that is drawn), one `histograms_<task>.png` per task, `overview.png` (mean and
spread of each pair before and after) and, from a training run, `gradient_share.png` (each pair's share over steps).
"Before" is the reward without normalisation. "After" is the logistic's reward with `--statistics`, or else the recorded
reward.

Without matplotlib the command writes only the numbers, prints a line that says what is missing, and exits with 0, so
that a script that draws at its end does not fail.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd

from recipes.medgrpo.answers.recorded import Recorded, read_recorded
from recipes.medgrpo.files import write_json
from recipes.medgrpo.studies.normalizers import effects as study
from recipes.medgrpo.terminal import Parser, command, real
from reward_score.bootstrap import finite
from reward_score.normalization import DEFAULT_K, NEEDED, Normalizer, saturated
from reward_score.reward import get_scorer
from reward_score.statistics import Statistics

BINS = 20
STEP_BINS = 60
"""Most columns of the share over steps; a longer run's steps share them."""
MISSING = "pictures left out, matplotlib is not installed: pip install 'medgrpo-verl[report]'"


def histogram(values: np.ndarray) -> dict:
    """Counts over `BINS` equal bins of 0..1, and n, mean, variance, median, IQR and saturated share of the values.

    The share is that of the values as they are drawn: raw signals, and rewards of which no parse is 0. Calibration and
    the training's curves look at the normalised values of the answers that parse.
    """
    p25, median, p75 = np.percentile(values, [25, 50, 75]).tolist()
    return {
        "counts": np.histogram(values, bins=BINS, range=(0, 1))[0].tolist(),
        "n": len(values),
        "mean": float(values.mean()),
        "variance": float(values.var()),
        "median": median,
        "iqr": p75 - p25,
        "saturated": float(saturated(values).mean()),
    }


def histograms(recorded: Recorded, before: np.ndarray, after: np.ndarray) -> dict[str, dict]:
    """By pair: `signals` (histogram of each raw signal), `before` and `after` (of the reward)."""
    return {
        pair: {
            "signals": {name: histogram(column) for name, column in signals.items()},
            "before": histogram(before[rows]),
            "after": histogram(after[rows]),
        }
        for pair, (rows, signals) in recorded.by_pair().items()
    }


def shares_over_steps(recorded: Recorded) -> dict | None:
    """Every pair's share of the sum of tokens x |advantage|, over the steps; None without steps or advantages.

    `steps` are the first steps of the columns, `shares` by pair a number a column, None where the pair was not in it.
    """
    if recorded.step is None or recorded.advantage is None:
        return None
    steps = np.unique(recorded.step)
    firsts = np.array([block[0] for block in np.array_split(steps, min(STEP_BINS, len(steps)))])
    column = np.searchsorted(firsts, recorded.step, side="right") - 1
    pulls = pd.Series(study.weights_of(recorded) * np.abs(recorded.advantage))
    table = pulls.groupby([column, recorded.data_source]).sum().unstack()
    table = table.div(table.sum(axis=1), axis=0)
    shares = {pair: [finite(share) for share in table[pair]] for pair in table}
    return {"steps": firsts.tolist(), "shares": shares}


@command("pictures")
def main(argv: list[str] | None = None) -> int:
    parser = Parser("pictures", __doc__)
    parser.add_argument("--recorded", required=True, nargs="+", type=Path, help="raw_signals.jsonl, or a run's folder")
    parser.add_argument("--statistics", type=Path, help="compute the rewards after normalisation with this file")
    parser.add_argument("--output", required=True, type=Path, help="folder to write to")
    parser.add_argument("--k", type=real(0, above=True), default=DEFAULT_K, help="steepness of the logistic")
    parser.add_argument("--dvc-captions", action="store_true", help="dense captioning is rewarded for its captions too")
    parser.add_argument("--without-judge", action="store_true", help="captions are rewarded for similarity alone")
    args = parser.parse_args(argv)
    recorded = read_recorded(args.recorded)
    scorer = get_scorer(dvc_captions=args.dvc_captions, judge=None if args.without_judge else "offline")
    before = study.rewards_of(recorded, scorer, Normalizer(None))
    if args.statistics is None:
        after, after_name = recorded.score, "recorded"
    else:
        logistic = Normalizer(Statistics.load(args.statistics), "logistic", args.k, linear_share=NEEDED)
        after, after_name = study.rewards_of(recorded, scorer, logistic), "logistic"
    edges = np.linspace(0, 1, BINS + 1).round(6).tolist()
    numbers = {"format": 1, "bins": edges, "after": after_name, "pairs": histograms(recorded, before, after)}
    if (over_steps := shares_over_steps(recorded)) is not None:
        numbers["gradient_share"] = over_steps
    write_json(args.output / "histograms.json", numbers)
    try:
        from recipes.medgrpo.studies import drawing
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "matplotlib":
            raise
        print(MISSING, file=sys.stderr)
        return 0
    for file in drawing.draw(numbers, args.output):
        print(file)
    return 0


if __name__ == "__main__":
    sys.exit(main())

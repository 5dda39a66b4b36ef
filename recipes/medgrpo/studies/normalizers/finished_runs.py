# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""What finished runs of several normalisers and advantages came to, for the comparison of normalisers."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from recipes.medgrpo.files import InputError, read_json
from recipes.medgrpo.studies.normalizers import effects as study
from recipes.medgrpo.studies.recorded import RecordedError, files_of, read_recorded
from reward_score.bootstrap import finite


def run_rows(runs: Iterable[Path]) -> dict[str, dict]:
    """By run: what its `summary.json` says of status, accuracy and rewards, and the gradient shares of its rollouts.

    Raises:
        InputError: a run without a summary that can be read, or with rollouts that cannot.
    """
    rows = {}
    for run in runs:
        try:
            summary = read_json(Path(run) / "summary.json")
            rows[str(run)] = {
                "status": summary["status"],
                "steps": summary["steps"],
                "acc_before": summary["sft"] and summary["sft"]["acc"],
                "acc_after": summary["medgrpo"] and summary["medgrpo"]["acc"],
                "acc_change": summary.get("acc_change"),
                "reward_first5": summary["reward_first5"],
                "reward_last5": summary["reward_last5"],
                "by_pair": summary.get("by_pair"),
            }
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"{run}: summary.json: expected a finished run's summary: {error!r}") from error
        rows[str(run)]["gradient_share"] = trained_shares(Path(run))
    return rows


def trained_shares(run: Path) -> dict | None:
    """Each pair's share of the sum of tokens x |advantage| that a run was trained on; None without its rollouts.

    A pair's ease is the mean of its raw signals over the whole run.
    """
    try:
        files_of(run)
    except RecordedError:
        return None
    recorded = read_recorded([run])
    if recorded.advantage is None:
        return None
    layout = study.Layout(recorded)
    shares = study.normal(np.bincount(layout.pair, study.weights_of(recorded) * np.abs(recorded.advantage)))
    ease = layout.pair_mean(np.nanmean(np.stack(list(recorded.raw.values())), axis=0))
    summary = study.share_summary(shares, ease)
    return {
        "pairs": dict(zip(layout.pairs, shares.tolist(), strict=True)),
        "summary": {name: finite(value) for name, value in summary.items()},
    }

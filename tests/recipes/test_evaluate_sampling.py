# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

import numpy as np
import pytest

from recipes.medgrpo.evaluation.comparison import ComparisonError, paired_difference
from recipes.medgrpo.evaluation.strict import overall, pair_scores


def evaluation(videos: int, seed: int, shift: float = 0.0, rows: int = 4, noise: float = 0.0) -> list[dict]:
    """Records of two sources and three pairs; a video's difficulty is drawn with `seed`, as is its rows' noise."""
    rng = np.random.default_rng(seed)
    extra = np.random.default_rng([seed, int(shift * 1000)])
    records = []
    for number in range(videos):
        source = ("AVOS", "CoPESD")[number % 2]
        level = 0.3 + 0.2 * rng.random()
        for row in range(rows):
            task = ("tal", "vs")[row % 2] if source == "CoPESD" else "tal"
            records.append(
                {
                    "data_source": f"medvidbench/{source}/{task}",
                    "index": number * rows + row,
                    "sample": 0,
                    "video": f"{source}/{number}",
                    "acc": level + shift + noise * float(extra.normal()),
                    "format": 1.0,
                }
            )
    return records


def test_a_pair_counts_once_however_many_rows_it_has():
    def record(source, acc):
        return {"data_source": source, "acc": acc, "format": acc}

    scores = pair_scores([record("a/tal", 1.0)] * 3 + [record("a/vs", 0.0)] + [record("b/vs", 0.5)])
    assert scores["a/tal"] == {"acc": 1.0, "format": 1.0, "n": 3}
    assert overall(scores) == {"acc": 0.5, "format": 0.5}


def test_a_constant_shift_is_found_exactly():
    found = paired_difference([(evaluation(8, 0), evaluation(8, 0, shift=0.1))])
    assert found["acc_change"] == pytest.approx(0.1)
    # What the checkpoints have in common cancels answer by answer: nothing is left to vary.
    assert found["low"] == pytest.approx(0.1) and found["high"] == pytest.approx(0.1)
    assert (found["runs"], found["videos"]) == (1, 8)


def test_in_a_comparison_too_a_pair_counts_once():
    def record(pair, index, acc):
        source = pair.split("/")[0]
        return {"data_source": pair, "index": index, "sample": 0, "video": f"{source}/{index}", "acc": acc}

    before = [record("AVOS/tal", k, 0.0) for k in range(9)] + [record("JIGSAWS/sa", 9, 0.0)]
    after = [{**row, "acc": float(row["data_source"] == "JIGSAWS/sa")} for row in before]
    assert paired_difference([(before, after)])["acc_change"] == pytest.approx(0.5)


def test_the_order_of_the_records_does_not_matter():
    before, after = evaluation(8, 0), evaluation(8, 0, shift=0.1, noise=0.2)
    assert paired_difference([(before, after)]) == paired_difference([(before[::-1], after)])


def test_the_interval_shrinks_with_the_number_of_videos():
    def width(videos):
        found = paired_difference([(evaluation(videos, 1), evaluation(videos, 1, shift=0.1, noise=0.3))])
        assert found["low"] < found["acc_change"] < found["high"]
        return found["high"] - found["low"]

    few, many = width(12), width(192)
    assert many < few / 2.5  # a sixteenth of the variance


def test_rows_of_one_video_are_no_independent_evidence():
    """Sixteen copies of each video's rows tell nothing more, and the interval knows."""

    def width(copies):
        before = evaluation(12, 1)
        after = evaluation(12, 1, shift=0.1, noise=0.3)
        pair = [[{**r, "sample": k} for k in range(copies) for r in records] for records in (before, after)]
        found = paired_difference([tuple(pair)])
        return found["high"] - found["low"]

    assert width(16) == pytest.approx(width(1), rel=1e-9)


def test_the_interval_covers_the_true_change():
    def covers(seed):
        found = paired_difference(
            [(evaluation(30, seed), evaluation(30, seed, shift=0.05, noise=0.2))], resamples=400, seed=seed
        )
        return found["low"] <= 0.05 <= found["high"]

    # 95 % in the limit; over 200 trials, 85 % is more than six standard errors away.
    assert np.mean([covers(seed) for seed in range(200)]) > 0.85


def test_runs_are_averaged_and_narrow_the_interval():
    runs = [(evaluation(16, seed), evaluation(16, seed, shift=0.1, noise=0.3)) for seed in range(4)]
    singles = [paired_difference([run]) for run in runs]
    pooled = paired_difference(runs)
    assert pooled["acc_change"] == pytest.approx(np.mean([single["acc_change"] for single in singles]))
    assert pooled["high"] - pooled["low"] < 0.75 * np.mean([single["high"] - single["low"] for single in singles])
    # The sixteen videos are the same in every run.
    assert (pooled["runs"], pooled["videos"]) == (4, 16)


def test_a_run_pooled_with_itself_has_its_own_interval():
    run = (evaluation(16, 0), evaluation(16, 0, shift=0.1, noise=0.3))
    alone, twice = paired_difference([run]), paired_difference([run, run])
    assert twice == alone | {"runs": 2}


def test_runs_on_other_videos_are_more_evidence():
    def on_other_videos(records, number):
        return [{**record, "video": f"{record['video']}/{number}"} for record in records]

    run = (evaluation(16, 0), evaluation(16, 0, shift=0.1, noise=0.3))
    alone = paired_difference([run])
    both = paired_difference([run, tuple(on_other_videos(side, 1) for side in run)])
    assert both["videos"] == 32
    assert both["high"] - both["low"] < 0.85 * (alone["high"] - alone["low"])


def test_a_single_video_has_no_interval():
    found = paired_difference([(evaluation(1, 0), evaluation(1, 0, shift=0.1))])
    assert found["acc_change"] == pytest.approx(0.1) and found["low"] is found["high"] is None


def test_a_pair_with_one_video_breaks_no_resample():
    before = evaluation(6, 0) + [
        {"data_source": "medvidbench/JIGSAWS/sa", "index": 99, "sample": 0, "video": "JIGSAWS/9", "acc": 0.0}
    ]
    after = [{**record, "acc": record["acc"] + 0.2} for record in before]
    found = paired_difference([(before, after)])
    assert found["low"] == pytest.approx(0.2) and found["high"] == pytest.approx(0.2)


def test_the_same_seed_gives_the_same_interval():
    runs = [(evaluation(8, 0), evaluation(8, 0, shift=0.1, noise=0.2))]
    assert paired_difference(runs, seed=1) == paired_difference(runs, seed=1)
    assert paired_difference(runs, seed=1) != paired_difference(runs, seed=2)


def test_evaluations_of_other_rows_are_not_compared():
    with pytest.raises(ComparisonError, match="share 28 of 28 and 32"):
        paired_difference([(evaluation(7, 0), evaluation(8, 0))])


def two_files(names):
    rows = [{"data_source": "medvidbench/AVOS/tal", "index": 0, "sample": 0, "video": f"AVOS/{v}"} for v in range(2)]
    before = [{**row, **name, "acc": 0.0} for row, name in zip(rows, names, strict=True)]
    return before, [{**row, "acc": acc} for row, acc in zip(before, (1.0, 0.5), strict=True)]


def test_rows_of_two_annotation_files_may_have_the_same_number():
    before, after = two_files([{"file": "a.json"}, {"file": "b.json"}])
    assert paired_difference([(before, after[::-1])])["acc_change"] == pytest.approx(0.75)


@pytest.mark.parametrize("names", [[{}, {}], [{"file": "a.json"}, {"file": "a.json"}]])
def test_an_answer_that_is_there_twice_is_not_silently_dropped(names):
    with pytest.raises(ComparisonError, match="twice"):
        paired_difference([two_files(names)])

# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""What a comparison of normalisers must find where the answer is known."""

import json

import numpy as np
import pytest

from recipes.medgrpo.answers.recorded import RecordedError, read_recorded
from recipes.medgrpo.studies.normalizers import effects as study
from recipes.medgrpo.studies.normalizers.command import add_true_gradients, compare, main, normalizers_of
from recipes.medgrpo.training.advantages import ADVANTAGES
from reward_score.normalization import Normalizer
from reward_score.reward import get_scorer
from reward_score.statistics import Statistics, summarize

EASY, HARD = "medvidbench/AVOS/tal", "medvidbench/CoPESD/stg"
CAPTION = "medvidbench/CoPESD/vs"


def row(p50: float, iqr: float, n: int = 64) -> dict:
    """A statistics row of a uniform distribution about its median."""
    return summarize(np.linspace(p50 - iqr, p50 + iqr, 2 * n + 1))


STATISTICS = {
    "format": 1,
    "pairs": {
        EASY: {"iou": row(0.8, 0.2)},
        HARD: {"iou": row(0.0, 0.4)},
        CAPTION: {"similarity": row(0.5, 0.4), "judge": row(0.5, 0.1)},
    },
}


def group(source: str, index: int, *answers, forms=None) -> list[dict]:
    """The answers to one row: numbers are IoUs, pairs of numbers similarity and judge."""
    records = []
    for sample, raw in enumerate(answers):
        signals = {"raw_similarity": raw[0], "raw_judge": raw[1]} if isinstance(raw, tuple) else {"raw_iou": raw}
        form = 1.0 if forms is None else forms[sample]
        common = {"file": "t.json", "index": index, "sample": sample, "data_source": source, "video": "v"}
        records.append(common | {"format": form, "score": 0.0, "acc": 0.0} | signals)
    return records


def write(path, records):
    lines = [{"header": {}}, *records]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.fixture
def compared(tmp_path):
    """`compare` of some records under all normalisers and advantages, on `STATISTICS`."""

    def run(records, **settings):
        scorer = get_scorer()
        recorded, _ = study.usable(read_recorded([write(tmp_path / "raw.jsonl", records)]), scorer)
        names = ("zscore", "percentile_rank", "minmax")
        normalizers = normalizers_of(names, Statistics.from_dict(STATISTICS), 3.0, None)
        return compare(recorded, scorer, normalizers, ADVANTAGES, resamples=50, **settings)

    return run


def shares(result, advantage, normalizer) -> dict[str, float]:
    cell = result["cells"][advantage][normalizer]["pairs"]
    return {pair: values["gradient_share"] for pair, values in cell.items()}


# The easy pair's rewards lie 0.4 apart in every group, the hard one's 0.1.
TWO_PAIRS = [
    *group(EASY, 1, 0.6, 1.0),
    *group(EASY, 2, 0.5, 0.9),
    *group(HARD, 3, 0.0, 0.1),
    *group(HARD, 4, 0.2, 0.1),
]


def test_without_std_raw_rewards_pay_a_pair_by_its_spread_and_with_it_all_alike(compared):
    result, _ = compared(TWO_PAIRS)
    assert shares(result, "dr_grpo", "none") == pytest.approx({EASY: 0.8, HARD: 0.2}, abs=1e-12)
    # Epsilon: std + 1e-6 with a std of 0.28 and of 0.07.
    assert shares(result, "grpo", "none") == pytest.approx({EASY: 0.5, HARD: 0.5}, abs=1e-5)
    assert result["cells"]["dr_grpo"]["none"]["largest_pair"] == EASY
    assert result["cells"]["dr_grpo"]["none"]["summary"]["easy_over_hard"]["value"] == pytest.approx(4)
    assert result["cells"]["dr_grpo"]["none"]["summary"]["easy_spearman"]["value"] == pytest.approx(1)
    # Two tasks of one pair each, standardised apart.
    assert shares(result, "per_task", "none")[EASY] < 0.6


def test_longer_answers_pull_harder(tmp_path):
    rollouts = [
        {"step": 1, "group": name, "data_source": source, "format": 1.0, "score": 0.0, "raw_iou": iou, "tokens": tokens}
        for name, source, tokens in (("a", EASY, 30), ("b", HARD, 10))
        for iou in (0.2, 0.4)
    ]
    path = tmp_path / "step_000001.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in rollouts))
    recorded = read_recorded([path])
    made = {name: Normalizer(None, "none") for name in ("none", "logistic", "affine")}
    result, _ = compare(recorded, get_scorer(), made, ["grpo"], resamples=10)
    assert shares(result, "grpo", "none") == pytest.approx({EASY: 0.75, HARD: 0.25})
    # 0.2 apart in both: rewards know nothing of length.
    size = {p: v["mean_abs_advantage"] for p, v in result["cells"]["grpo"]["none"]["pairs"].items()}
    assert size[EASY] == pytest.approx(size[HARD])


def test_a_pair_with_more_answers_can_be_made_to_count_once(compared):
    records = TWO_PAIRS + group(EASY, 5, 0.3, 0.7) + group(EASY, 6, 0.1, 0.5)
    assert shares(compared(records)[0], "grpo", "none")[EASY] == pytest.approx(2 / 3, abs=1e-5)
    assert shares(compared(records, equal_pairs=True)[0], "grpo", "none")[EASY] == pytest.approx(0.5, abs=1e-5)


def test_standardising_a_group_takes_an_affine_map_out_again(compared):
    result, vectors = compared([*TWO_PAIRS, *group(EASY, 7, 0.2, 0.5, 0.7), *group(HARD, 8, 0.3, 0.0, 0.9)])
    assert vectors["grpo", "affine"] == pytest.approx(vectors["grpo", "none"], abs=2e-5)
    left = result["cells"]["grpo"]["affine"]["left_of_none"]["all"]
    assert left["within"] < 1e-9 and left["across"] < 1e-9
    parts = result["parts"]["grpo"]
    assert parts["epsilon"]["within"] < 1e-9
    assert parts["format"] == parts["epsilon"]
    # Three answers in a group: the logistic bends their distances, nothing else is left.
    assert parts["curvature"]["within"] > 1e-3
    assert "mixture" not in parts
    # Without the std an affine map still leaves each pair's direction, and changes the pairs' weights.
    left = result["cells"]["dr_grpo"]["affine"]["left_of_none"]["all"]
    assert left["within"] < 1e-12 and left["across"] > 1e-2


def test_two_signals_are_weighed_anew(compared):
    """Raw: 0.45 against 0.475, the second wins. In spreads: -0.5 + 1.5 halves, the first does."""
    result, vectors = compared(group(CAPTION, 1, (0.4, 0.5), (0.6, 0.35)))
    assert vectors["grpo", "none"][0] < 0 < vectors["grpo", "none"][1]
    assert vectors["grpo", "affine"][0] > 0 > vectors["grpo", "affine"][1]
    assert result["parts"]["grpo"]["mixture"]["within"] == pytest.approx(2)
    assert "curvature" not in result["parts"]["grpo"]


def test_where_every_raw_signal_is_zero_only_a_normaliser_pays_for_the_format(compared):
    result, vectors = compared([*group(EASY, 1, 0.6, 1.0), *group(HARD, 2, 0.0, 0.0, forms=[1.0, 0.5])])
    # The median is 0: an answer at it earns 0.5, half of that with a poor format.
    assert vectors["dr_grpo", "none"].tolist() == pytest.approx([-0.2, 0.2, 0, 0])
    assert vectors["dr_grpo", "logistic"][2:] == pytest.approx([0.125, -0.125])
    assert result["rewards"]["none"]["dead_groups"] == 0.5
    assert result["rewards"]["none"]["pairs"][HARD]["dead_groups"] == 1
    assert result["rewards"]["logistic"]["pairs"][HARD]["dead_groups"] == 0
    # With all formats 1 nothing is left of it.
    cell = result["cells"]["grpo"]["logistic"]
    assert cell["left_of_none"]["stg"]["within"] == 1
    assert cell["left_of_none_formats_1"]["stg"]["within"] == 0


def test_saturation_counts_answers_that_parse(compared):
    records = group(HARD, 1, 0.0, 0.01, 0.5, 0.99, forms=[0.0, 1.0, 1.0, 0.5])
    result, _ = compared(records + group(EASY, 2, 0.1, 0.2))
    assert result["rewards"]["none"]["pairs"][HARD]["saturated"] == pytest.approx(2 / 3)


@pytest.mark.parametrize("source, x", [(EASY, 0.8), (HARD, 0.0)])
def test_the_tangent_touches_the_logistic_at_the_median(source, x):
    """Also where few answers or a spread of 0 made the logistic work with other numbers."""
    pairs = {EASY: {"iou": row(0.8, 0.2)}, HARD: {"iou": summarize([0.0] * 64)}}
    logistic = Normalizer(Statistics.from_dict({"format": 1, "pairs": pairs}), "logistic")
    tangent = study.Tangent(logistic)
    assert tangent(source, "iou", x) == pytest.approx(logistic(source, "iou", x))
    step = 1e-5
    slope = (logistic(source, "iou", x + step) - logistic(source, "iou", x - step)) / (2 * step)
    assert (tangent(source, "iou", x + 1) - tangent(source, "iou", x)) == pytest.approx(slope, rel=1e-6)


def test_summary_numbers_of_known_shares():
    even = study.share_summary(np.full(4, 0.25), np.arange(4.0))
    assert even["effective_pairs"] == pytest.approx(4)
    assert even["easy_over_hard"] == 1 and np.isnan(even["easy_spearman"])
    uneven = study.share_summary(np.array([[0.75, 0.25], [1.0, 0.0]]), np.array([0.9, 0.1]))
    assert uneven["effective_pairs"] == pytest.approx([np.exp(-0.75 * np.log(0.75) - 0.25 * np.log(0.25)), 1])
    assert uneven["easy_spearman"] == pytest.approx([1, 1])
    assert uneven["easy_over_hard"][0] == 3 and np.isnan(uneven["easy_over_hard"][1])
    three = study.share_summary(np.array([0.5, 0.3, 0.2]), np.array([0.1, 0.5, 0.9]))
    assert three["easy_over_hard"] == pytest.approx(0.4)


def test_intervals_are_those_of_the_groups(compared):
    """Groups of a pair that pull alike leave nothing to chance; one that pulls harder does."""
    summary = compared(TWO_PAIRS)[0]["cells"]["dr_grpo"]["none"]["summary"]["smallest"]
    assert (summary["low"], summary["high"]) == pytest.approx((0.2, 0.2))
    wild = [*TWO_PAIRS, *group(EASY, 9, 0.0, 1.0)]
    summary = compared(wild)[0]["cells"]["dr_grpo"]["none"]["summary"]["smallest"]
    # Groups of 0.4, 0.4 and 1: the drawn total lies between 1.2 and 3.
    assert summary["value"] == pytest.approx(0.2 / 2.0)
    assert 0.2 / 3.2 <= summary["low"] < summary["value"] < summary["high"] == pytest.approx(0.2 / 1.4)
    assert compared(wild)[0] == compared(wild)[0]


def test_shares_of_nothing_are_not_defined():
    """Where nobody pulls there is no effective pair, and no evenness."""
    found = study.share_summary(np.zeros((1, 3)), np.array([0.1, 0.2, 0.3]))
    for name in ("effective_pairs", "easy_over_hard", "easy_spearman"):
        assert np.isnan(found[name]).all(), name


def test_spread_and_std_of_every_group(tmp_path):
    records = [*group(EASY, 1, 0.6, 1.0, 0.7), *group(HARD, 2, 0.2, 0.2), *group(EASY, 3, 0.9, 0.1)]
    recorded = read_recorded([write(tmp_path / "raw.jsonl", [records[at] for at in (3, 0, 5, 1, 4, 2, 6)])])
    layout, values = study.Layout(recorded), recorded.raw["iou"]
    assert layout.spread(values) == pytest.approx([0.4, 0.0, 0.8])
    expected = [np.std([0.6, 1.0, 0.7], ddof=1), 0.0, np.std([0.9, 0.1], ddof=1)]
    assert layout.group_std(values) == pytest.approx(expected, abs=1e-12)
    assert [layout.pairs[at] for at in layout.group_pair] == [EASY, HARD, EASY]


def test_one_minus_cosine():
    a = np.array([1.0, 2.0, -3.0])
    assert study.one_minus_cosine(a, 1e-9 * a) == pytest.approx(0, abs=1e-30)
    assert study.one_minus_cosine(a, -a) == pytest.approx(2)
    assert study.one_minus_cosine(a, 0 * a) == 1 and study.one_minus_cosine(0 * a, 0 * a) == 0


def test_lone_answers_and_unrewarded_tasks_are_left_out_and_said(tmp_path):
    records = [*TWO_PAIRS, *group(EASY, 9, 0.4), *group(CAPTION, 10, (0.1, 0.2), (0.3, 0.4))]
    recorded = read_recorded([write(tmp_path / "raw.jsonl", records)])
    kept, notes = study.usable(recorded, get_scorer(rewarded_tasks=("tal", "stg")))
    assert len(kept) == len(TWO_PAIRS)
    assert notes == [
        "2 answers of tasks without reward left out",
        "1 answers alone in their group left out: a group needs two",
    ]
    with pytest.raises(RecordedError, match="no group of two answers"):
        study.usable(recorded.take(np.array([8])), get_scorer())


def command(tmp_path, records, *more, statistics=STATISTICS) -> int:
    file = write(tmp_path / "raw.jsonl", records)
    (tmp_path / "statistics.json").write_text(json.dumps(statistics))
    named = ["--recorded", str(file), "--statistics", str(tmp_path / "statistics.json")]
    return main([*named, "--output", str(tmp_path / "out"), "--resamples", "20", *more])


def test_the_command_writes_numbers_and_tables(tmp_path, capsys):
    assert command(tmp_path, TWO_PAIRS) == 0
    result = json.loads((tmp_path / "out/comparison.json").read_text())
    assert set(result["cells"]) == set(ADVANTAGES)
    assert set(result["cells"]["grpo"]) == {"none", "logistic", "zscore", "percentile_rank", "minmax", "affine"}
    assert shares(result, "dr_grpo", "none") == pytest.approx({EASY: 0.8, HARD: 0.2})
    table = (tmp_path / "out/comparison.md").read_text()
    assert "| none, dr_grpo | 4.00 [4.00, 4.00] | 1.00 [1.00, 1.00] | 1.6 [1.6, 1.6] |" in " ".join(table.split())
    assert table in capsys.readouterr().out


def test_a_cell_can_be_chosen(tmp_path):
    assert command(tmp_path, TWO_PAIRS, "--normalizers", "zscore", "--advantages", "dr_grpo") == 0
    result = json.loads((tmp_path / "out/comparison.json").read_text())
    assert list(result["cells"]) == ["dr_grpo"]
    # What others are measured by is always there.
    assert set(result["cells"]["dr_grpo"]) == {"none", "logistic", "zscore", "affine"}


def test_without_a_statistics_file_the_answers_make_their_own(tmp_path):
    file = write(tmp_path / "raw.jsonl", TWO_PAIRS)
    assert main(["--recorded", str(file), "--output", str(tmp_path / "out"), "--resamples", "5"]) == 0
    assert "no --statistics given" in (tmp_path / "out/comparison.md").read_text()


def test_what_the_statistics_lack_is_named(tmp_path, capsys):
    bare = {"format": 1, "pairs": {EASY: STATISTICS["pairs"][EASY]}}
    assert command(tmp_path, TWO_PAIRS, statistics=bare) == 2
    assert f"no statistics for {HARD}, signal iou" in capsys.readouterr().err
    old = {key: STATISTICS["pairs"][EASY]["iou"][key] for key in ("n", "p25", "p50", "p75", "iqr")}
    assert command(tmp_path, TWO_PAIRS, statistics={"format": 1, "pairs": {EASY: {"iou": old}}}) == 2
    assert f"{EASY}: iou: mean: missing" in capsys.readouterr().err


def test_a_missing_signal_is_named(tmp_path, capsys):
    records = group(CAPTION, 1, (0.4, 0.5), (0.6, 0.35))
    for record in records:
        del record["raw_judge"]
    assert command(tmp_path, records) == 2
    assert "raw_judge: an answer of vs lacks it" in capsys.readouterr().err
    assert command(tmp_path, records, "--without-judge", "--normalizers", "none") == 0


class Orthogonal:
    """Gradients of length 1 at right angles: a pair's norm is that of its advantages."""

    def __init__(self, places):
        self.places = np.array(places)

    def norm(self, advantages):
        return float(np.linalg.norm(advantages[self.places]) / len(self.places))

    def resampled(self, advantages, resamples, rng):
        return np.full(resamples, self.norm(advantages))


def test_true_gradients_are_shared_by_their_norms(compared):
    result, vectors = compared(TWO_PAIRS)
    add_true_gradients(result, vectors, {EASY: Orthogonal(range(4)), HARD: Orthogonal(range(4, 8))}, resamples=5)
    found = result["cells"]["dr_grpo"]["none"]["true_gradient"]
    assert {pair: row["share"] for pair, row in found["pairs"].items()} == pytest.approx({EASY: 0.8, HARD: 0.2})
    assert found["pairs"][EASY]["norm"] == pytest.approx(0.4 / 4)
    assert found["summary"]["easy_spearman"]["value"] == pytest.approx(1)

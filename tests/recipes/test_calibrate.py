# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""From raw signals to a statistics file, several of them together, and two files compared."""

import json
import random
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recipes.medgrpo.calibrate import main
from recipes.medgrpo.evaluation.percentiles import Series, difference, intervals, pair_statistics, series_of
from reward_score import bootstrap
from reward_score.errors import BadStatistics
from reward_score.normalization import Normalizer, logistic, needed_share
from reward_score.statistics import Statistics, summarize

TAL, NAP = "medvidbench/AVOS/tal", "medvidbench/CoPESD/nap"
HEADER = {
    "model": "a" * 64,
    "data": "d" * 64,
    "code": "c" * 64,
    "settings": {"samples": 4, "rows_per_pair": None, "temperature": 1.0, "max_new_tokens": 96, "seed": 0},
    "scoring": {"judge": "offline", "dvc_captions": True},
}


def answers(pair, signal, values, *, videos=10, file="train.json", form=1.0):
    return [
        {
            "file": file,
            "index": number,
            "data_source": pair,
            "video": f"AVOS/{number % videos}",
            "sample": 0,
            "format": form,
            f"raw_{signal}": value,
        }
        for number, value in enumerate(values)
    ]


SPREAD = answers(TAL, "iou", [number / 50 for number in range(50)])
WRONG = answers(NAP, "exact", [0.0] * 18 + [1.0] * 2, file="other.json")


def without_signals(record):
    return {key: value for key, value in record.items() if not key.startswith("raw_")}


def raw_file(folder, name, records, **header):
    path = folder / name
    lines = [{"header": HEADER | header}, *records]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def merge(output, *files, more=()):
    return main(["--merge", *map(str, files), "--output", str(output), *more])


def test_statistics_of_one_run(tmp_path, capsys):
    raw = raw_file(tmp_path, "raw_signals.jsonl", SPREAD + WRONG)
    assert merge(tmp_path / "statistics.json", raw) == 0
    content = json.loads((tmp_path / "statistics.json").read_text())
    assert content["judge"] == "offline-lexical"
    assert content["model"] == {"sha256": HEADER["model"]}
    assert content["code"] == {"sha256": HEADER["code"]}
    assert content["degenerate"] == {"min_iqr": 0.1, "min_samples": 32}
    iou = content["pairs"][TAL]["iou"]
    assert {key: iou[key] for key in summarize([0.0])} == summarize([number / 50 for number in range(50)])
    assert iou["videos"] == 10
    assert iou["used"] == {"p50": iou["p50"], "iqr": iou["iqr"], "why": []}
    assert content["pairs"][NAP]["exact"]["used"] == {
        "p50": 0.0,
        "iqr": 0.1,
        "why": ["two_valued", "few_samples", "zero_iqr"],
    }
    # What the file says is used is what the reward does use.
    normalizer = Normalizer(Statistics.load(tmp_path / "statistics.json"))
    assert normalizer(NAP, "exact", 0.2) == logistic(0.2, 0.0, 0.1)
    table = capsys.readouterr().out
    assert "two_valued few_samples zero_iqr" in table
    assert "70 answers, 100% parse" in table


def test_the_file_is_read_by_people_too(tmp_path):
    raw = raw_file(tmp_path, "raw_signals.jsonl", SPREAD)
    merge(tmp_path / "statistics.json", raw)
    lines = (tmp_path / "statistics.json").read_text().splitlines()
    assert len(lines) < 70
    assert sum("quantiles" in line for line in lines) == 1


def test_degenerate_settings_go_into_the_file_and_from_there_into_the_reward(tmp_path):
    raw = raw_file(tmp_path, "raw_signals.jsonl", WRONG)
    merge(tmp_path / "statistics.json", raw, more=("--min-iqr", "0.5", "--min-samples", "4"))
    content = json.loads((tmp_path / "statistics.json").read_text())
    assert content["pairs"][NAP]["exact"]["used"] == {"p50": 0.0, "iqr": 0.5, "why": ["two_valued", "zero_iqr"]}
    assert Normalizer(Statistics.load(tmp_path / "statistics.json"))(NAP, "exact", 1.0) == logistic(1.0, 0.0, 0.5)
    with pytest.raises(SystemExit):
        merge(tmp_path / "statistics.json", raw, more=("--min-iqr", "0"))


def test_saturated_is_the_share_of_the_answers_that_parse():
    # Median 0, spread 0, widened to 0.1: 0 earns 0.5, 1 is saturated; two of four answers that parse are right.
    records = answers(NAP, "exact", [0.0] * 6) + answers(NAP, "exact", [1.0, 1.0, 0.0, 0.0])
    for record in records[:6]:
        record["format"] = 0.0
    records += answers(TAL, "iou", [0.0] * 4, form=0.0)
    pairs = pair_statistics(records, min_samples=1)
    assert (pairs[NAP]["exact"]["n"], pairs[NAP]["exact"]["p50"]) == (10, 0.0)
    assert pairs[NAP]["exact"]["saturated"] == 0.5
    assert pairs[TAL]["iou"]["saturated"] is None


def plain_intervals(values, videos, seed, resamples):
    """The bootstrap by hand: every resample written out."""
    count = int(videos.max()) + 1
    draws = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=resamples)
    drawn = np.array([np.percentile(np.repeat(values, times[videos]), [25, 50, 75]) for times in draws])
    drawn = np.c_[drawn, drawn[:, 2] - drawn[:, 0]]
    return np.percentile(drawn, [2.5, 97.5], axis=0).T


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.floats(0, 1) | st.sampled_from([0.0, 0.5, 1.0]), st.integers(0, 5)), min_size=2, max_size=40
    ).filter(lambda rows: len({video for _, video in rows}) > 1)
)
def test_the_bootstrap_is_that_of_whole_videos(rows):
    values = np.array([value for value, _ in rows])
    videos = np.unique([video for _, video in rows], return_inverse=True)[1]
    found = intervals(Series(values, videos, values >= 0), seed=3, resamples=50)
    expected = plain_intervals(values, videos, seed=3, resamples=50)
    assert np.array([found[name] for name in ("p25", "p50", "p75", "iqr")]) == pytest.approx(expected, abs=1e-9)


def test_answers_about_one_video_are_not_independent():
    spread = np.linspace(0, 1, 200)
    alone = intervals(Series(spread, np.arange(200), spread >= 0))
    # The same answers, but every video's lie close together: twenty videos say less than two hundred.
    grouped = intervals(Series(spread, np.arange(200) // 10, spread >= 0))
    width = [found["p50"][1] - found["p50"][0] for found in (alone, grouped)]
    assert width[1] > 2 * width[0]
    assert alone["p50"][0] < 0.5 < alone["p50"][1]
    assert intervals(Series(spread, np.zeros(200, int), spread >= 0)) is None


def test_intervals_do_not_depend_on_the_order_of_answers():
    shuffled = SPREAD[:]
    random.Random(1).shuffle(shuffled)
    assert pair_statistics(shuffled)[TAL]["iou"]["ci"] == pair_statistics(SPREAD)[TAL]["iou"]["ci"]
    assert list(series_of(WRONG + SPREAD)) == [TAL, NAP]


def test_chunks_of_resamples_change_nothing(monkeypatch):
    series = series_of(SPREAD)[TAL]["iou"]
    whole = intervals(series)
    monkeypatch.setattr(bootstrap, "MOST_WEIGHTS", 777)
    assert intervals(series) == whole


def test_two_halves_merged_are_the_whole(tmp_path):
    whole = raw_file(tmp_path, "whole.jsonl", SPREAD + WRONG)
    halves = [
        raw_file(tmp_path, "one.jsonl", SPREAD[:30]),
        raw_file(tmp_path, "two.jsonl", WRONG + SPREAD[30:], data="e" * 64),
    ]
    assert merge(tmp_path / "a.json", whole) == 0
    assert merge(tmp_path / "b.json", *halves) == 0
    a, b = (json.loads((tmp_path / name).read_text()) for name in ("a.json", "b.json"))
    assert a["pairs"] == b["pairs"]
    assert b["data"] == {"sha256": ["d" * 64, "e" * 64]}
    assert [run["file"] for run in b["sampling"]["runs"]] == ["one.jsonl", "two.jsonl"]


def test_another_seed_samples_other_answers_to_the_same_rows(tmp_path):
    runs = [
        raw_file(tmp_path, f"{seed}.jsonl", SPREAD, settings=HEADER["settings"] | {"seed": seed, "samples": seed + 1})
        for seed in (0, 1)
    ]
    assert merge(tmp_path / "statistics.json", *runs) == 0
    assert json.loads((tmp_path / "statistics.json").read_text())["pairs"][TAL]["iou"]["n"] == 100


OPENAI = {"judge": "openai", "dvc_captions": True, "judge_settings": {"base_url": "http://a", "model": "some-model"}}


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"model": "b" * 64}, "two.jsonl: model: expected that of"),
        ({"code": "b" * 64}, "two.jsonl: code: expected that of"),
        ({"scoring": OPENAI}, "two.jsonl: scoring: expected that of"),
        ({"settings": HEADER["settings"] | {"temperature": 0.7}}, "two.jsonl: temperature: expected that of"),
        ({"settings": HEADER["settings"] | {"engine": {"rollout": "vllm"}}}, "two.jsonl: engine: expected that of"),
    ],
)
def test_runs_that_do_not_go_together_are_refused(tmp_path, capsys, other, words):
    one = raw_file(tmp_path, "one.jsonl", SPREAD)
    two = raw_file(tmp_path, "two.jsonl", WRONG, **other)
    assert merge(tmp_path / "statistics.json", one, two) == 2
    error = capsys.readouterr().err.strip()
    assert words in error and len(error.splitlines()) == 1
    assert not (tmp_path / "statistics.json").exists()


def test_the_same_judge_may_be_asked_elsewhere(tmp_path):
    elsewhere = OPENAI | {"judge_settings": OPENAI["judge_settings"] | {"base_url": "http://b"}}
    one = raw_file(tmp_path, "one.jsonl", SPREAD[:10], scoring=OPENAI)
    two = raw_file(tmp_path, "two.jsonl", SPREAD[10:], scoring=elsewhere)
    assert merge(tmp_path / "statistics.json", one, two) == 0
    assert json.loads((tmp_path / "statistics.json").read_text())["judge"] == "openai:some-model"


def test_the_same_answer_twice_is_refused(tmp_path, capsys):
    one = raw_file(tmp_path, "one.jsonl", SPREAD)
    two = raw_file(tmp_path, "two.jsonl", SPREAD[7:8])
    assert merge(tmp_path / "statistics.json", one, two) == 2
    assert "two.jsonl: file train.json, index 7, sample 0, seed 0: the same answer is in" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ([], "line 1: header"),
        ([SPREAD[0]], "line 1: header"),
        ([{"header": {"model": "a", "data": "d", "settings": [4, 8]}}], "line 1: header: code"),
        ([{"header": HEADER}], "no answers"),
        ([{"header": HEADER}, SPREAD[0], SPREAD[1] | {"raw_iou": None}], "line 3: raw_iou: expected a finite number"),
        ([{"header": HEADER}, SPREAD[0] | {"format": float("nan")}], "line 2: format: expected a finite number"),
        ([{"header": HEADER}, {"data_source": TAL}], "line 2: video: missing, expected str"),
        ([{"header": HEADER}, [1]], "line 2: expected one JSON object"),
        ([{"header": HEADER}, SPREAD[0] | {"raw_iou": 7}], "line 2: raw_iou: expected a finite number, 0 to 1, got 7"),
        ([{"header": HEADER}, SPREAD[0] | {"raw_iou": 10**400}], "line 2: raw_iou: expected a finite number"),
        ([{"header": HEADER}, SPREAD[0] | {"data_source": "AVOS"}], "line 2: data_source 'AVOS': expected medvid"),
        ([{"header": HEADER}, SPREAD[0], without_signals(SPREAD[1])], "line 3: signals: expected raw_iou as in"),
        ([{"header": HEADER}, without_signals(SPREAD[0])], "line 2: signals: expected raw_..."),
    ],
)
def test_a_bad_file_is_one_line_with_its_place(tmp_path, capsys, lines, words):
    path = tmp_path / "raw_signals.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert merge(tmp_path / "statistics.json", path) == 2
    error = capsys.readouterr().err.strip()
    assert words in error and len(error.splitlines()) == 1


@pytest.mark.parametrize("content", [b"\xff\xfe", b"[" * 100_000 + b"\n{}\n"])
def test_a_file_of_no_text_or_endless_brackets_is_named(tmp_path, capsys, content):
    path = tmp_path / "raw_signals.jsonl"
    path.write_bytes(content)
    assert merge(tmp_path / "statistics.json", path) == 2
    error = capsys.readouterr().err.strip()
    assert str(path) in error and len(error.splitlines()) == 1


def test_a_file_that_is_not_there_or_not_finished(tmp_path, capsys):
    partial = raw_file(tmp_path, "raw_signals.jsonl.partial", SPREAD)
    for path in (tmp_path / "none.jsonl", partial):
        assert merge(tmp_path / "statistics.json", path) == 2
        assert f"{path}: expected the raw_signals.jsonl of a finished calibration" in capsys.readouterr().err


def test_what_cannot_be_written_or_sampled_is_one_line(tmp_path, capsys):
    raw = raw_file(tmp_path, "raw.jsonl", SPREAD)
    (tmp_path / "file").write_text("")
    assert merge(tmp_path / "file/statistics.json", raw) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("calibrate: error: ") and str(tmp_path / "file") in error and len(error.splitlines()) == 1


def test_a_malformed_interval_is_no_interval(two_files, tmp_path, capsys):
    capsys.readouterr()
    content = json.loads(two_files[0].read_text())
    for number, ci in enumerate(("wide", {"p50": ["a", 2]}, [1, 2])):
        content["pairs"][TAL]["iou"]["ci"] = ci
        (tmp_path / f"{number}.json").write_text(json.dumps(content))
        assert main(["--diff", str(tmp_path / f"{number}.json"), str(two_files[0])]) == 0
        assert f"{TAL} iou: p50 0.490 -> 0.490 [" in capsys.readouterr().out


@pytest.fixture
def two_files(tmp_path):
    """Statistics of two runs: tal moved up, one row only in the first, one only in the second."""
    higher = answers(TAL, "iou", [0.3 + number / 100 for number in range(50)])
    same = answers("medvidbench/AVOS/cvs", "exact", [0.0, 0.5, 1.0] * 20)
    only = answers("medvidbench/AVOS/sa", "closeness", [0.5, 0.6, 0.9])
    a, b = tmp_path / "a.json", tmp_path / "b.json"
    merge(a, raw_file(tmp_path, "a.jsonl", SPREAD + WRONG + [dict(r, file="c.json") for r in same]))
    for number, record in enumerate(same + only):
        record["index"] = 1000 + number
    merge(b, raw_file(tmp_path, "b.jsonl", higher + same + only, model="b" * 64))
    return a, b


def test_difference_of_two_files(two_files, tmp_path, capsys):
    capsys.readouterr()
    a, b = map(str, two_files)
    assert main(["--diff", a, b, "--output", str(tmp_path / "changes.json")]) == 0
    text = capsys.readouterr().out
    found = json.loads((tmp_path / "changes.json").read_text())
    assert found["only_a"] == [f"{NAP}: exact"] and found["only_b"] == ["medvidbench/AVOS/sa: closeness"]
    assert "model" in found["origin"] and "judge" not in found["origin"]
    tal, cvs = found["changes"]
    assert (tal["pair"], tal["signal"]) == (TAL, "iou")
    assert tal["p50"] == pytest.approx([0.49, 0.545]) and tal["iqr"] == pytest.approx([0.49, 0.245])
    assert all(low < value < high for value, (low, high) in zip(tal["p50"], tal["p50_ci"], strict=True))
    at = tal["reward"]["at"]

    def paid(x, p50, iqr):
        share = needed_share(p50, iqr)
        return share * x + (1 - share) * logistic(x, p50, iqr)

    def moved(x):
        return paid(x, 0.545, 0.245) - paid(x, 0.49, 0.49)

    assert tal["reward"]["change"] == pytest.approx(moved(at))
    assert all(abs(moved(x)) <= abs(tal["reward"]["change"]) + 1e-9 for x in np.linspace(0, 1, 101))
    assert cvs["reward"]["change"] == 0.0
    assert f"only in {a}: {NAP}: exact" in text
    assert "p50 0.490 [" in text and "-> 0.545 [" in text


def test_a_file_of_the_first_version_can_be_compared(two_files, tmp_path, capsys):
    row = {"n": 64, "p25": 0.1, "p50": 0.2, "p75": 0.5, "iqr": 0.4}
    old = tmp_path / "old.json"
    old.write_text(json.dumps({"format": 1, "pairs": {TAL: {"iou": row}}}))
    assert main(["--diff", str(old), str(two_files[0])]) == 0
    assert "p50 0.200 -> 0.490 [" in capsys.readouterr().out
    (tmp_path / "broken.json").write_text("{")
    assert main(["--diff", str(old), str(tmp_path / "broken.json")]) == 2
    assert "broken.json: cannot be read as JSON" in capsys.readouterr().err
    with pytest.raises(BadStatistics):
        difference(old, tmp_path / "none.json")


@pytest.mark.skipif(find_spec("recipes") is None, reason="below verl, whose own __init__ imports torch")
def test_comparing_needs_no_model_library(two_files):
    code = (
        "import sys\n"
        "from recipes.medgrpo.calibrate import main\n"
        "assert main(['--diff', *sys.argv[1:]]) == 0\n"
        "heavy = {'torch', 'transformers', 'verl', 'ray'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    root = Path(__file__).resolve().parents[2]
    subprocess.run([sys.executable, "-c", code, *map(str, two_files)], cwd=root, check=True, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize(
    "argv",
    [[], ["--output", "x"], ["--merge", "a"], ["--diff", "a"], ["--merge", "a", "--diff"]]
    + [["--model", "m", "--data", "d", "--output", "x", "--samples", "0"]],
)
def test_the_command_says_what_it_lacks(argv):
    with pytest.raises(SystemExit) as stop:
        main(argv)
    assert stop.value.code == 2


def test_sampling_and_merging_say_the_same_of_the_same_answers(qwen2_5_vl, tmp_path):
    output, raw = tmp_path / "statistics.json", tmp_path / "raw_signals.jsonl"
    command = ["--model", str(qwen2_5_vl.path), "--data", str(qwen2_5_vl.data / "train.parquet")]
    command += ["--rows-per-pair", "1", "--samples", "2", "--max-new-tokens", "4", "--tasks", "tal", "nap"]
    assert main([*command, "--output", str(output)]) == 0
    content, answered = json.loads(output.read_text()), raw.read_bytes()
    expected = {"samples": 2, "rows_per_pair": 1, "temperature": 1.0, "max_new_tokens": 4, "seed": 0}
    assert content["sampling"] == expected | {"engine": "transformers"}
    assert content["data"]["file"] == "train.parquet"
    assert all(row["n"] == 2 for signals in content["pairs"].values() for row in signals.values())
    assert merge(tmp_path / "merged.json", raw) == 0
    merged = json.loads((tmp_path / "merged.json").read_text())
    assert merged["pairs"] == content["pairs"]
    assert [merged[key] for key in ("judge", "model", "code")] == [content[key] for key in ("judge", "model", "code")]
    # Again, with other constants: nothing is sampled anew.
    assert main([*command, "--output", str(output), "--min-iqr", "0.3"]) == 0
    assert raw.read_bytes() == answered
    assert all(
        row["used"]["iqr"] >= 0.3
        for signals in json.loads(output.read_text())["pairs"].values()
        for row in signals.values()
    )

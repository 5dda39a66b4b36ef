# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""The study of a judge: its figures beside other people's formulas, its probes, its files, and what it refuses."""

import csv
import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from mock_judge_server import MockJudge, Reply, honest  # noqa: E402

from recipes.medgrpo.answers.questions import InputError  # noqa: E402
from recipes.medgrpo.evaluation.verdicts import Asked, ask  # noqa: E402
from recipes.medgrpo.studies.judge import agreement  # noqa: E402
from recipes.medgrpo.studies.judge import edits as wording
from recipes.medgrpo.studies.judge.command import main  # noqa: E402
from recipes.medgrpo.studies.judge.expectations import EXPECTATIONS, holds  # noqa: E402
from recipes.medgrpo.studies.judge.probes import ORDERINGS, PAGE_SPECIFIC, PAGE_VAGUE, PROBES, built  # noqa: E402
from recipes.medgrpo.studies.judge.ratings import Item, read_pairs, read_ratings, read_references  # noqa: E402
from reward_score.bootstrap import Bootstrap  # noqa: E402
from reward_score.judge import DIMENSIONS, Judge, JudgeSettingsError, OfflineJudge  # noqa: E402
from reward_score.judge.prompting import load_prompt  # noqa: E402

SUMMARY = (
    "First the surgeon grasps the gallbladder with a grasper. Then the hook dissects the left side of the cystic duct. "
    "Two clips are placed on the cystic artery."
)
REFERENCES = [
    Item("v1", "A", "vs", SUMMARY, SUMMARY),
    Item(
        "v2",
        "A",
        "vs",
        *["First the surgeon closes the wound with a needle driver. Then the nurse dries the skin."] * 2,
    ),
    Item("v3", "B", "vs", *["The nurse washes the hair with warm water, before a towel is used."] * 2),
]


def measured(measure, rows, counts=None) -> dict:
    rows = np.asarray(rows, dtype=float)
    found = measure(rows, np.ones((1, len(rows))) if counts is None else np.asarray(counts)[None])
    return {name: values[0] for name, values in found.items()}


def figures(human, judge, counts=None) -> dict:
    return measured(agreement.agreement, np.stack([human, judge], axis=1), counts)


def estimated(bootstrap, human, judge, clusters) -> dict:
    pairs = np.stack([human, judge], axis=1).astype(float)
    why = agreement.reasons(pairs, ("human", "judge"))
    return agreement.estimate(bootstrap, agreement.agreement, pairs, clusters, why)


def tables(out: Path, study: str) -> dict:
    assert "nan" not in (out / f"{study}.md").read_text().lower().replace("nano", "")
    return json.loads((out / f"{study}.json").read_text())


# Figures


def test_figures_worked_by_hand():
    # Four items. Agree on two, one apart on one, three apart on one.
    found = figures([1, 2, 5, 5], [1, 3, 5, 2])
    assert found["exact"] == 0.5
    assert found["within_one"] == 0.75
    assert found["bias"] == pytest.approx(-0.5)
    # Chance: both say 1 in 1/16, 2 in 1/16, 3 and 4 never, 5 in 2/16: 4/16. (0.5 - 0.25) / (1 - 0.25).
    assert found["kappa"] == pytest.approx(1 / 3)
    # Squares as rated 0 + 1 + 0 + 9 = 10; by chance, all 16 pairs of 1 2 5 5 with 1 3 5 2:
    # 1: 0 4 16 1, 2: 1 1 9 0, 5 twice: 16 4 0 9. In all 21 + 11 + 58 = 90, a fourth of it is paid.
    assert found["kappa_quadratic"] == pytest.approx(1 - 10 / 22.5)
    # Deviations -2.25 -1.25 1.75 1.75 and -1.75 0.25 2.25 -0.75: products 6.25, squares 12.75 and 8.75.
    assert found["pearson"] == pytest.approx(6.25 / math.sqrt(12.75 * 8.75))
    # Ranks 1 2 3.5 3.5 and 1 3 4 2: products 3, squares 4.5 and 5.
    assert found["spearman"] == pytest.approx(3 / math.sqrt(4.5 * 5))


def test_halves_are_rounded_up():
    assert agreement.rounded([1.5, 2.5, 3.49, 4.5, 5]).tolist() == [2, 3, 3, 5, 5]
    assert figures([3, 2], [2.5, 1.49])["exact"] == 0.5


@pytest.mark.parametrize("seed", range(5))
def test_figures_are_those_of_scipy_and_sklearn(seed):
    scipy_stats = pytest.importorskip("scipy.stats")
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(seed)
    human = rng.integers(1, 6, 60)
    judge = np.clip(human + rng.integers(-2, 3, 60), 1, 5)
    found = figures(human, judge)
    assert found["pearson"] == pytest.approx(scipy_stats.pearsonr(human, judge)[0])
    assert found["spearman"] == pytest.approx(scipy_stats.spearmanr(human, judge)[0])
    assert found["kappa"] == pytest.approx(metrics.cohen_kappa_score(human, judge))
    assert found["kappa_quadratic"] == pytest.approx(metrics.cohen_kappa_score(human, judge, weights="quadratic"))


def test_a_weight_of_two_is_the_item_twice():
    rng = np.random.default_rng(3)
    human, judge = rng.uniform(1, 5, 12), rng.uniform(1, 5, 12)
    times = rng.integers(0, 4, 12)
    weighted = figures(human, judge, times)
    twice = figures(np.repeat(human, times), np.repeat(judge, times))
    assert len(weighted) == 7
    for name in weighted:
        assert weighted[name] == pytest.approx(twice[name]), name


def test_videos_are_drawn_whole():
    # Ten copies of one video tell no more than one: items drawn one by one would give a narrow interval.
    rng = np.random.default_rng(0)
    human, judge = rng.integers(1, 6, 8), rng.integers(1, 6, 8)
    once = estimated(Bootstrap([f"v{i}" for i in range(8)]), human, judge, [f"v{i}" for i in range(8)])
    clusters = [f"v{i}" for i in range(8) for _ in range(10)]
    often = estimated(Bootstrap(clusters), np.repeat(human, 10), np.repeat(judge, 10), clusters)
    assert often["n"] == 80 and often["videos"] == once["videos"] == 8
    for name in ("pearson", "bias", "exact"):
        assert often[name] == pytest.approx(once[name])


def test_an_interval_is_the_percentiles_of_seeded_resamples():
    clusters = ["a", "a", "b", "c"]
    difference = np.array([0.0, 1.0, 2.0, -1.0])
    drawn = np.random.default_rng(7).multinomial(3, [1 / 3] * 3, 500)
    weights = drawn[:, [0, 0, 1, 2]]
    means = (weights * difference).sum(1) / weights.sum(1)
    found = estimated(Bootstrap(clusters, resamples=500, seed=7), [2, 2, 2, 3], [2, 3, 4, 2], clusters)["bias"]
    assert found["value"] == 0.5
    assert [found["low"], found["high"]] == pytest.approx(np.quantile(means, [0.025, 0.975]).tolist())


def test_what_is_undefined_is_none_with_a_reason():
    clusters = ["a", "b", "c"]
    found = estimated(Bootstrap(clusters), [3, 3, 3], [3, 4, 3], clusters)
    for name in ("pearson", "spearman"):
        assert found[name] == {
            "value": None,
            "low": None,
            "high": None,
            "undefined": 0,
            "why": "constant ratings: human",
        }
    assert found["kappa"]["value"] == 0  # defined: no better than chance
    same = estimated(Bootstrap(clusters), [3, 3, 3], [3, 3, 3], clusters)
    assert same["kappa"]["value"] is None and "same category" in same["kappa"]["why"]
    assert same["exact"]["value"] == 1 and same["pearson"]["why"] == "constant ratings: human and judge"
    none = estimated(Bootstrap(clusters), [], [], [])
    assert none["n"] == 0 and none["bias"]["why"] == "no ratings"


def test_resamples_without_a_value_are_counted_not_used():
    # Whenever one video alone is drawn, its ratings are constant.
    found = estimated(Bootstrap(["a", "b"]), [1, 5], [1, 5], ["a", "b"])["pearson"]
    assert found["value"] == found["low"] == found["high"] == 1
    assert 800 < found["undefined"] < 1200


def test_one_video_has_no_interval():
    found = estimated(Bootstrap(["a"]), [1, 2], [1, 3], ["a", "a"])
    assert found["pearson"]["value"] == pytest.approx(1) and found["pearson"]["low"] is None


def test_repeatability_worked_by_hand():
    # Means 2 and 4, variances within 2 and 0: MSW 1, MSB 2 * (1 + 1) / 1 = 4. (4 - 1) / (4 + 1).
    found = measured(agreement.repeatability, [[1, 3], [4, 4]])
    assert found == {"identical": 0.5, "within_sd": pytest.approx(1.0), "icc": pytest.approx(0.6)}


def test_repeatability_of_a_constant_judge_has_no_icc():
    why = {"icc": "all scores are the same"}
    scores = np.array([[3, 3], [3, 3]])
    found = agreement.estimate(Bootstrap(["a", "b"]), agreement.repeatability, scores, ["a", "b"], why)
    assert found["identical"]["value"] == 1 and found["within_sd"]["value"] == 0
    assert found["icc"]["value"] is None and found["icc"]["why"] == "all scores are the same"


# Ratings


def ratings_csv(path: Path, rows: list[dict], columns=None) -> Path:
    columns = columns or list(dict.fromkeys(key for row in rows for key in row))
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
    return path


def rating(number: int = 0, scores=(4, 4, 4, 4, 4), **more) -> dict:
    return {
        "video": f"v{number % 5}",
        "source": "AB"[number % 2],
        "task": "rc",
        "reference": f"The grasper lifts the gallbladder {number} times.",
        "prediction": "A grasper lifts the organ, once or twice.",
        **dict(zip(DIMENSIONS, scores, strict=True)),
        **more,
    }


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"terminology": "6"}, "line 3: terminology: expected a number of 1 to 5, or nothing, found 6"),
        ({"specificity": "good"}, "line 3: specificity: expected a number of 1 to 5, or nothing, found good"),
        ({"action_state": "nan"}, "line 3: action_state: expected a number of 1 to 5"),
        ({"task": "tal"}, "line 3: task: expected one of vs, rc, dvc, qa, image, found tal"),
        ({"reference": " "}, "line 3: reference: expected text, not blank"),
        ({"video": ""}, "line 3: video: expected text, not blank"),
    ],
)
def test_a_bad_cell_is_told_with_its_place(tmp_path, capsys, changes, told):
    path = ratings_csv(tmp_path / "r.csv", [rating(0), rating(1) | changes])
    assert main(["agreement", "--ratings", str(path), "--output", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert f"{path}: {told}" in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_lines_are_counted_through_cells_of_several_lines(tmp_path):
    path = ratings_csv(tmp_path / "r.csv", [rating(0, prediction="one\ntwo\nthree"), rating(1, terminology="x")])
    with pytest.raises(InputError, match="line 5: terminology"):
        read_ratings([path])
    path = ratings_csv(tmp_path / "r.csv", [rating(0), rating(1, prediction="one\ntwo", terminology="x")])
    with pytest.raises(InputError, match="line 3: terminology"):
        read_ratings([path])


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "line 1: header: expected a column video"),
        ("video,source,task,reference\n", "line 1: header: expected a column prediction"),
        (",".join(("video,source,task,reference,prediction", *DIMENSIONS)) + "\na,b\n", "line 2: columns: expected 10"),
        (",".join(("video,video,source,task,reference,prediction", *DIMENSIONS)) + "\n", "each column once"),
        (
            ",".join(("video,source,task,reference,prediction,judge_terminology", *DIMENSIONS)),
            "judge_instruments_anatomy",
        ),
        (",".join(("video,source,task,reference,prediction", *DIMENSIONS)) + '\n"a,b\n', "line 2: expected CSV"),
        (",".join(("video,source,task,reference,prediction", *DIMENSIONS)) + "\na,b,rc,c,d,,,,,\n", "found none"),
    ],
)
def test_a_file_of_another_shape_is_refused(tmp_path, text, told):
    path = tmp_path / "r.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=told):
        read_ratings([path])


def test_a_missing_file_and_one_in_another_encoding_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"r\.csv: expected a readable file"):
        read_ratings([tmp_path / "r.csv"])
    (tmp_path / "l.csv").write_bytes("vidéo".encode("latin-1"))
    with pytest.raises(InputError, match=r"l\.csv: expected UTF-8"):
        read_ratings([tmp_path / "l.csv"])


def test_an_item_is_rated_once_by_each_rater(tmp_path):
    both = [rating(0, rater="ann"), rating(0, (2, 2, 2, 2, ""), rater="bob")]
    found = read_ratings([ratings_csv(tmp_path / "r.csv", both)])
    assert len(found.items) == 1 and found.raters == ["ann", "bob"]
    (terminology, *_, action), (others_terminology, *_, others_action) = found.mean()[0], found.mean(without=0)[0]
    assert (terminology, action) == (3, 4)
    assert others_terminology == 2 and math.isnan(others_action)
    path = ratings_csv(tmp_path / "twice.csv", [*both, rating(0, rater="bob")])
    with pytest.raises(InputError, match=r"line 4: rater: expected each item once.*line 3"):
        read_ratings([path])


def synthetic_ratings(path: Path, raters: int = 2, judge: bool = False) -> Path:
    """Noisy copies of hidden true scores, as if by raters; not human data."""
    rng = np.random.default_rng(0)
    rows = []
    for number in range(40):
        truth = rng.integers(1, 6, len(DIMENSIONS))
        own = {f"judge_{name}": value for name, value in zip(DIMENSIONS, truth, strict=True)} if judge else {}
        for rater in range(raters):
            noisy = np.clip(truth + rng.integers(-1, 2, len(DIMENSIONS)), 1, 5)
            rows.append(rating(number, noisy, rater=f"r{rater}", **own))
    return ratings_csv(path, rows)


def test_a_judge_that_knows_the_truth_agrees_better_than_its_raters(tmp_path):
    path = synthetic_ratings(tmp_path / "r.csv", judge=True)
    out = tmp_path / "out"
    assert main(["agreement", "--ratings", str(path), "--output", str(out), "--resamples", "200"]) == 0
    report = tables(out, "agreement")
    judge = report["judge_against_humans"]["overall"]
    humans = report["humans_against_humans"]["each_against_the_others"]
    assert report["raters"] == ["r0", "r1"] and report["items"] == 40 and report["videos"] == 10
    assert judge["pooled"]["n"] == 200 and judge["mean"]["n"] == judge["terminology"]["n"] == 40
    assert humans["pooled"]["n"] == 400
    for name in ("pearson", "kappa_quadratic"):
        assert judge["pooled"][name]["value"] > humans["pooled"][name]["value"] > 0.6
        assert judge["pooled"][name]["low"] < judge["pooled"][name]["value"] < judge["pooled"][name]["high"]
    assert judge["pooled"]["within_one"]["value"] == 1
    by_source = report["judge_against_humans"]["sources"]
    assert sum(found["pooled"]["n"] for found in by_source.values()) == 200 and set(by_source) == {"A", "B"}
    assert set(report["humans_against_humans"]["pairs"]) == {"r0 - r1"}
    assert not (out / "judge").exists()  # the file's own scores cost no call


def test_the_offline_judge_beside_ratings_and_again(tmp_path):
    path = synthetic_ratings(tmp_path / "r.csv", raters=1)
    out = tmp_path / "out"
    command = ["agreement", "--ratings", str(path), "--output", str(out), "--resamples", "50"]
    assert main(command) == 0
    first = tables(out, "agreement")
    assert first["judge"] == OfflineJudge.name and first["judged"] == 40 and first["failures"] == {}
    assert first["humans_against_humans"] is None
    assert main(command) == 0
    assert tables(out, "agreement") == first


def test_a_blank_rating_is_left_out_of_its_dimension_and_of_the_means(tmp_path):
    path = ratings_csv(tmp_path / "r.csv", [rating(0), rating(1), rating(2, (4, "", 4, 4, 4))])
    assert main(["agreement", "--ratings", str(path), "--output", str(tmp_path), "--resamples", "20"]) == 0
    rows = tables(tmp_path, "agreement")["judge_against_humans"]["overall"]
    assert {name: found["n"] for name, found in rows.items()} == {
        **dict.fromkeys(DIMENSIONS, 3),
        "instruments_anatomy": 2,
        "mean": 2,
        "pooled": 14,
    }


# Asking


def items(count: int) -> list[Item]:
    return [Item(f"v{n}", "A", "rc", "The grasper lifts the gallbladder.", f"Prediction {n}.") for n in range(count)]


def asked(server: MockJudge, store: Path, wanted, at_once=32, **settings):
    judge = Judge(
        server.base_url, "key", "m", store=str(store), backoff_s=0.001, max_attempts=1, timeout_s=5, **settings
    )
    return ask(judge, [item.asked for item in wanted], patient=True, at_once=at_once)


@pytest.fixture(autouse=True)
def loopback(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def test_failures_are_counted_and_asked_again_and_nothing_is_judged_twice(tmp_path):
    kept, wanted = tmp_path / "judge", items(12)
    down = {"Prediction 3.", "Prediction 7."}

    def behave(request):
        text = request.between("CANDIDATE")
        if text in down:
            return Reply(status=500)
        return Reply(content="no verdict" if text == "Prediction 5." else honest(request, 4))

    with MockJudge(behave) as server:
        first = asked(server, kept, wanted)
        assert first.failures == {"JudgeUnavailable": 2, "JudgeMalformed": 1}
        assert first.broken == {"JudgeUnavailable"}
        assert wanted[3].asked not in first.scores
        assert first.scores[wanted[0].asked] == dict.fromkeys(DIMENSIONS, 4)
        assert len(first.scores) == 9
        down.clear()
        before = len(server.requests)
        second = asked(server, kept, wanted)
        again = sorted(request.between("CANDIDATE") for request in server.requests[before:])
    assert again == ["Prediction 3.", "Prediction 5.", "Prediction 7."]
    assert len(second.scores) == 11 and not second.broken


def test_what_is_asked_differently_is_asked_anew(tmp_path):
    kept, (one,) = tmp_path / "judge", items(1)
    with MockJudge(lambda request: Reply(content=honest(request, 2))) as server:
        asked(server, kept, [one])
        asked(server, kept, [Item(**{**vars(one), "video": "another"})])
        assert len(server.requests) == 1
        asked(server, kept, [Item(**{**vars(one), "question": "What happens?"})])
        asked(server, kept, [Item(**{**vars(one), "task": "vs"})])
        asked(server, kept, [one], prompt="rubric")
        assert len(server.requests) == 4


def test_a_rejected_key_ends_the_study(tmp_path):
    with MockJudge(lambda request: Reply(status=401)) as server:
        with pytest.raises(JudgeSettingsError):
            asked(server, tmp_path / "judge", items(50), at_once=2)
        assert len(server.requests) < 10


# The commands with an endpoint


@pytest.fixture
def endpoint(monkeypatch):
    monkeypatch.setenv("MEDGRPO_JUDGE_API_KEY", "sk-secret")

    def arguments(server: MockJudge) -> list[str]:
        return ["--judge", "openai", "--judge-base-url", server.base_url, "--judge-model", "m"]

    return arguments


def test_agreement_with_an_endpoint(tmp_path, endpoint):
    path, out = synthetic_ratings(tmp_path / "r.csv", raters=1), tmp_path / "out"
    with MockJudge(lambda request: Reply(content=honest(request, 3))) as server:
        command = ["agreement", "--ratings", str(path), "--output", str(out), "--resamples", "20", *endpoint(server)]
        assert main(command) == 0
        assert len(server.requests) == 40
        assert main(command) == 0
        assert len(server.requests) == 40
    report = tables(out, "agreement")
    assert report["judge"].startswith("m/") and report["judged"] == 40
    assert "constant ratings: judge" in report["judge_against_humans"]["overall"]["pooled"]["pearson"]["why"]
    assert not any(b"sk-secret" in file.read_bytes() for file in out.rglob("*") if file.is_file())


def test_repeat_asks_as_often_as_told_past_the_cache(tmp_path, endpoint):
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text("".join(json.dumps(vars(item)) + "\n" for item in items(6)))
    out = tmp_path / "out"
    seen: dict[str, int] = {}

    def behave(request):
        # The first item gets 2, 4, 2, 4, ...; all others 3 or 5 by their number, always.
        text = request.between("CANDIDATE")
        seen[text] = seen.get(text, 0) + 1
        score = (4, 2)[seen[text] % 2] if text == "Prediction 0." else 3 + 2 * (int(text[11]) % 2)
        return Reply(content=honest(request, score))

    with MockJudge(behave) as server:
        command = ["repeat", "--pairs", str(pairs), "--times", "4", "--output", str(out), *endpoint(server)]
        assert main(command) == 0
        assert len(server.requests) == 24
        assert main(command) == 0
        assert len(server.requests) == 24
    mean = tables(out, "repeat")["rows"]["mean"]
    assert mean["n"] == 6 and mean["identical"]["value"] == pytest.approx(5 / 6)
    # One item varies, with variance 4/3 of 2 4 2 4.
    assert mean["within_sd"]["value"] == pytest.approx(math.sqrt(4 / 3 / 6))
    assert 0.7 < mean["icc"]["value"] < 1


def test_the_offline_judge_repeats_itself(tmp_path):
    out = tmp_path / "out"
    path = synthetic_ratings(tmp_path / "r.csv", raters=1)
    assert len(read_pairs(path)) == 40
    assert main(["repeat", "--pairs", str(path), "--times", "2", "--output", str(out)]) == 0
    rows = tables(out, "repeat")["rows"]
    assert rows["mean"]["identical"]["value"] == 1 and rows["mean"]["within_sd"]["value"] == 0


# Probes


def text_of(probe: str, reference: int = 0) -> str | None:
    item = built(REFERENCES)[REFERENCES[reference]][probe]
    return None if item is None else item.prediction


def test_what_edits_do_to_a_sentence():
    assert text_of("negated").startswith("First the surgeon does not grasp the gallbladder with a grasper.")
    assert "Two clips are not placed" in text_of("negated")  # clips are no verb here
    assert text_of("reversed_action") == (
        "First the surgeon releases the gallbladder with a grasper. Then the hook sutures the left side of the cystic "
        "duct. Two clips are removed on the cystic artery."
    )
    assert "right side" in text_of("wrong_side")
    assert "with a tool" in text_of("generic_words") and "gallbladder" not in text_of("generic_words")
    assert (
        text_of("reversed_steps", 1)
        == "First the nurse dries the skin. Then the surgeon closes the wound with a needle driver."
    )
    assert text_of("no_punctuation").count(".") == 0
    assert text_of("upper_case") == SUMMARY.upper()
    assert len(text_of("half").split()) == len(SUMMARY.split()) // 2
    for word in ("grasper", "hook"):
        assert word not in text_of("swapped_instrument")
    for word in ("gallbladder", "cystic"):
        assert word not in text_of("wrong_anatomy")
    assert text_of("other_video") == REFERENCES[1].reference
    assert text_of("other_source") == REFERENCES[2].reference


def test_a_probe_that_does_not_apply_is_skipped():
    assert text_of("reversed_steps", 2) is None  # one sentence
    assert text_of("other_video", 2) is None  # no other of its source
    assert text_of("negated", 2) is not None


def test_another_video_is_another_video():
    text = "The nurse writes the value on the chart."
    same_video = [REFERENCES[0], Item("v1", "A", "vs", text, text)]
    assert all(made["other_video"] is None for made in built(same_video).values())
    alike = [REFERENCES[0], Item("v9", "A", "vs", SUMMARY + " Slowly.", "")]  # may well mean the same
    assert all(made["other_video"] is None for made in built(alike).values())


def test_an_edit_keeps_capitals_plurals_and_articles():
    assert (
        wording.replace("Graspers hold an aspirator.", {"grasper": "hook", "aspirator": "clip"}) == "Hooks hold a clip."
    )
    assert wording.replace("A hook.", {"hook": "aspirator"}) == "An aspirator."
    assert wording.replace("unhooked", {"hook": "clip"}) is None
    assert wording.forms("dry") == ("dry", "dries", "dried", "drying")
    assert wording.forms("clip") == ("clip", "clips", "clipped", "clipping")
    assert wording.forms("tie") == ("tie", "ties", "tied", "tying")
    assert wording.forms("push")[1] == "pushes" and wording.forms("work on")[3] == "working on"


def test_probes_are_the_same_every_time_whatever_the_order():
    first, second = built(REFERENCES, seed=4), built(REFERENCES[::-1], seed=4)
    assert first == second
    assert built(REFERENCES, seed=5) != first


def test_no_word_table_changes_a_word_into_itself_or_one_of_its_group():
    for table in (wording.SYNONYMS, wording.PLAIN, wording.REVERSED, wording.SIDES):
        assert all(word != new and word == word.lower() for word, new in table.items())
    words = [word for group in (*wording.INSTRUMENTS, *wording.STRUCTURES) for word in group]
    assert len(words) == len(set(words)) and not set(words) & set(wording.ELSEWHERE)


def test_probes_name_what_exists():
    names = [probe.name for probe in PROBES]
    assert len(names) == len(set(names))
    for probe in PROBES:
        assert probe.expect in EXPECTATIONS and set(probe.touches) <= set(DIMENSIONS) and probe.against in names
    for ordering in ORDERINGS:
        assert {ordering.better, ordering.worse} <= set(names) and set(ordering.touches) <= set(DIMENSIONS)


@pytest.mark.parametrize(
    ("expect", "score", "met"),
    [
        ("highest", 4.5, True),
        ("highest", 4.4, False),
        ("same", 4.5, True),
        ("same", 4.4, False),
        ("near", 4, True),
        ("near", 3.9, False),
        ("not_higher", 5, True),
        ("lower", 5, False),
        ("lower", 4.9, True),
        ("far", 3, True),
        ("far", 3.1, False),
        ("lowest", 1.4, True),
        ("lowest", 1.5, False),
    ],
)
def test_an_expectation_is_of_every_touched_dimension(expect, score, met):
    base = dict.fromkeys(DIMENSIONS, 5.0)
    scores = dict.fromkeys(DIMENSIONS, 3.0) | {"terminology": score}
    assert holds(expect, scores, base, ("terminology",)) is met
    assert holds(expect, dict.fromkeys(DIMENSIONS, score), base, ()) is met
    if expect in ("same", "near", "highest"):
        assert not holds(expect, scores, base, DIMENSIONS)


def references_file(path: Path) -> Path:
    rows = [{**vars(item)} for item in REFERENCES]
    for row in rows:
        del row["prediction"]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_probes_with_the_offline_judge(tmp_path):
    out = tmp_path / "out"
    path = references_file(tmp_path / "references.jsonl")
    assert main(["probes", "--references", str(path), "--output", str(out), "--resamples", "50"]) == 0
    report = tables(out, "probes")
    found = report["probes"]
    assert set(found) == {probe.name for probe in PROBES}
    for name, one in found.items():
        assert one["n"] + one["skipped"] == 3 and one["failed"] == 0, name
    assert found["reference"]["means"]["mean"] == 5 and found["reference"]["holds"]["value"] == 1
    assert found["swapped_instrument"]["holds"]["value"] == found["negated"]["holds"]["value"] == 1
    ordered = {(one["better"], one["worse"]): one["holds"]["value"] for one in report["orderings"]}
    assert ordered["hedged", "negated"] == ordered["plain_words", "generic_sentence"] == 1
    # It knows no synonyms, and a study that hid this would be no study.
    assert found["synonyms"]["holds"]["value"] == 0
    pair = {(one["candidate"], one["reference"]): one["scores"] for one in report["page_pair"]["judged"]}
    assert len(pair) == 4
    assert report["page_pair"]["cosine"]["value"] == pytest.approx(0.495, abs=0.001)


def test_a_generous_judge_fails_the_probes(tmp_path, endpoint):
    out = tmp_path / "out"
    path = references_file(tmp_path / "references.jsonl")
    with MockJudge(lambda request: Reply(content=honest(request, 5))) as server:
        command = ["probes", "--references", str(path), "--output", str(out), "--limit", "2", *endpoint(server)]
        assert main(command) == 0
    found = tables(out, "probes")["probes"]
    assert found["reference"]["n"] == 2
    for name, one in found.items():
        good = one["expect"] in ("highest", "same", "near", "not_higher")
        assert one["holds"]["value"] in (None, float(good)), name


def test_what_the_judge_refuses_is_counted_and_no_score(tmp_path, endpoint):
    out = tmp_path / "out"
    path = references_file(tmp_path / "references.jsonl")

    def behave(request):
        refused = request.between("CANDIDATE").isupper()
        return Reply(refusal="No.") if refused else Reply(content=honest(request, 5))

    with MockJudge(behave) as server:
        assert main(["probes", "--references", str(path), "--output", str(out), *endpoint(server)]) == 0
    report = tables(out, "probes")
    assert report["failures"] == {"JudgeRefused": 3} and report["incomplete"] is None
    shouted = report["probes"]["upper_case"]
    assert shouted["n"] == 0 and shouted["failed"] == 3 and shouted["skipped"] == 0
    assert shouted["means"]["mean"] is None and shouted["holds"]["value"] is None


def test_a_study_that_an_endpoint_left_incomplete_says_so_and_is_finished_later(tmp_path, endpoint, capsys):
    path, out = synthetic_ratings(tmp_path / "r.csv", raters=1), tmp_path / "out"
    bad = ["lifts the gallbladder 7 times"]

    def behave(request):
        broken = any(text in request.between("REFERENCE") for text in bad)
        return Reply(status=400) if broken else Reply(content=honest(request, 3))

    with MockJudge(behave) as server:
        command = ["agreement", "--ratings", str(path), "--output", str(out), "--resamples", "20", *endpoint(server)]
        assert main(command) == 1
        assert "JudgeUnavailable 1" in capsys.readouterr().err
        report = tables(out, "agreement")
        assert "JudgeUnavailable 1" in report["incomplete"] and report["judged"] == 39
        assert report["judge_against_humans"]["overall"]["mean"]["n"] == 39
        bad.clear()
        before = len(server.requests)
        assert main(command) == 0
        assert len(server.requests) == before + 1
    assert tables(out, "agreement")["incomplete"] is None


def test_the_project_pages_pair_comes_out_far_apart():
    judge = OfflineJudge()
    itself = judge.compare(PAGE_SPECIFIC, PAGE_SPECIFIC).mean
    assert judge.compare(PAGE_VAGUE, PAGE_SPECIFIC).mean <= itself - 2
    assert judge.compare(PAGE_SPECIFIC, PAGE_VAGUE).mean <= itself - 2


def parquet(path: Path, task: str, gold: dict, **more: Any) -> Path:
    extra = {"task": task, "source": "AVOS", "video_id": "v", **more}
    row = {"reward_model": {"style": "rule", "ground_truth": json.dumps(gold)}, "extra_info": extra}
    pq.write_table(pa.Table.from_pylist([row]), path)
    return path


def test_references_of_a_parquet(tmp_path):
    gold = {"text": "0-1: A. 1-2: B.", "events": [{"caption": "A cut."}, {"caption": "A knot."}, {"caption": "A cut."}]}
    found = read_references(parquet(tmp_path / "dvc.parquet", "dvc", gold))
    assert [(item.task, item.cluster, item.reference) for item in found] == [
        ("dvc", "AVOS/v", "A cut."),
        ("dvc", "AVOS/v", "A knot."),
    ]
    assert read_references(parquet(tmp_path / "rc.parquet", "rc", {"text": "A cut."}))[0].reference == "A cut."
    with pytest.raises(InputError, match="found none"):
        read_references(parquet(tmp_path / "tal.parquet", "tal", {"text": "0-1 seconds."}))
    with pytest.raises(InputError, match="row 0: expected extra_info"):
        read_references(parquet(tmp_path / "bad.parquet", "dvc", {"text": "A cut."}))


def test_an_endpoint_is_asked_about_the_kind_that_is_chosen_in_the_words_that_are_named(tmp_path, endpoint):
    clip, *stills = "The hook cuts the cystic duct.", "The hook is on the liver.", "The grasper holds the gallbladder."
    file, kinds = tmp_path / "rows.parquet", load_prompt().kinds
    rows = [
        pq.read_table(parquet(file, "rc", {"text": text}, video_id=f"v{at}", frames=1 if at else 8))
        for at, text in enumerate([clip, *stills])
    ]
    pq.write_table(pa.concat_tables(rows), file)

    def asked(*options: str) -> tuple[dict[str, set[str]], list]:
        """The kinds that each reference is asked about as; and all that is asked, without the kinds' words."""
        seen: dict[str, set[str]] = {}
        rest = []
        with MockJudge(lambda request: Reply(content=honest(request))) as server:
            command = ["probes", "--references", str(file), "--output", str(tmp_path / "out"), "--resamples", "20"]
            assert main([*command, *endpoint(server), *options]) == 0
        for request in server.requests:
            reference = request.between("REFERENCE")
            if reference in (PAGE_SPECIFIC, PAGE_VAGUE):
                continue
            [kind] = [name for name, words in kinds.items() if words in request.prompt]
            seen.setdefault(reference, set()).add(kind)
            rest.append(request.prompt.replace(kinds[kind], "").replace(request.nonce, ""))
        return seen, sorted(rest)

    as_stills, theirs = asked("--kind", "image")
    assert as_stills == dict.fromkeys(stills, {"image"}) and not any(clip in prompt for prompt in theirs)
    # The verdicts of one kind are no verdicts of another: everything is asked again, and nothing but the kind differs.
    as_clips, ours = asked("--kind", "image", "--ask-as", "rc")
    assert as_clips == dict.fromkeys(stills, {"rc"}) and ours == theirs
    report = tables(tmp_path / "out", "probes")
    assert (report["kind"], report["asked_as"], report["items"]) == ("image", "rc", 2)
    # The clip alone, and then all: only what is not in the store is asked.
    assert asked("--kind", "video")[0] == {clip: {"rc"}}
    assert asked("--ask-as", "vs")[0] == dict.fromkeys([clip, *stills], {"vs"})
    assert asked("--kind", "image") == ({}, [])


def test_a_kind_that_no_reference_is_of_is_one_line(tmp_path, capsys):
    file = references_file(tmp_path / "references.jsonl")
    assert main(["probes", "--references", str(file), "--kind", "image", "--output", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.endswith("expected references of kind image, found none\n")
    assert not (tmp_path / "out/probes.json").exists()


def test_answers_about_lectures_are_studied_with_their_questions(tmp_path):
    """From the preprocessor's parquet and from ratings, through probes and agreement."""
    why = "Why is the duct clipped before it is cut?"
    answer = "The surgeon clips the cystic duct first, because bile would otherwise leak into the abdomen."
    file = parquet(tmp_path / "qa.parquet", "qa", {"text": answer}, question=why)
    [item] = read_references(file)
    assert (item.task, item.reference, item.question) == ("qa", answer, why)
    assert item.asked == Asked(answer, answer, "qa", why)
    [texts] = built([item]).values()
    made = {name: one for name, one in texts.items() if one is not None}
    assert {"half", "swapped_instrument", "wrong_anatomy", "blank_like", "bribed"} - set(made) <= {"swapped_instrument"}
    assert all(one.question == why and one.task == "qa" for one in made.values())
    assert main(["probes", "--references", str(file), "--output", str(tmp_path), "--resamples", "20"]) == 0
    report = json.loads((tmp_path / "probes.json").read_text())
    assert report["items"] == 1 and report["probes"]["half"]["holds"]["value"] == 1.0

    header = ",".join(("video,source,task,question,reference,prediction", *DIMENSIONS))
    lines = [f'v{n},AVOS,qa,{why},"{answer}",{said},{",".join([score] * 5)}' for n, (said, score) in enumerate(RATED)]
    (tmp_path / "ratings.csv").write_text("\n".join([header, *lines]))
    more = ["--output", str(tmp_path), "--resamples", "20"]
    assert main(["agreement", "--ratings", str(tmp_path / "ratings.csv"), *more]) == 0
    report = json.loads((tmp_path / "agreement.json").read_text())
    assert (
        report["items"] == len(RATED) and report["judge_against_humans"]["overall"]["mean"]["spearman"]["value"] > 0.9
    )


RATED = (
    ("The surgeon clips the cystic duct first because bile would leak into the abdomen.", "5"),
    ("The surgeon clips the duct first.", "3"),
    ("Something is done.", "1"),
)
"""Answers, and what people gave them in all dimensions."""


def test_bad_json_lines_are_told_with_their_line(tmp_path):
    path = tmp_path / "pairs.jsonl"
    path.write_text(json.dumps(vars(items(1)[0])) + "\n[1]\n")
    with pytest.raises(InputError, match=r"pairs\.jsonl: line 2: line: expected a JSON object"):
        read_pairs(path)
    path.write_text('{"video": "v"}\n')
    with pytest.raises(InputError, match="line 1: source: expected text, found nothing"):
        read_pairs(path)
    path.write_text(json.dumps({**vars(items(1)[0]), "prediction": 3}) + "\n")
    with pytest.raises(InputError, match="line 1: prediction: expected text, found 3"):
        read_pairs(path)

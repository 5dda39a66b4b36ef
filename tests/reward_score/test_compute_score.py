# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The reward as verl sees it: one answer in, a flat dict of numbers out."""

import asyncio
import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reward_score.answers import ASPECTS, CVS_COMPONENTS, PARSERS, Event, render_dvc, render_stg, render_tal
from reward_score.errors import BadGroundTruth, BadStatistics, MissingStatistics, UnknownTask
from reward_score.medgrpo import compute_score, get_scorer, needed_signals, score_many
from reward_score.normalization import logistic
from reward_score.tasks import TASKS

EVENTS = [Event(0, 88, "the surgeon cuts the tissue"), Event(90, 95, "the assistant ties a knot")]
BOXES = {66.0: (100.0, 50.0, 300.0, 200.0), 74.0: (110.0, 60.0, 310.0, 210.0)}
CAPTION = "The surgeon dissects the gallbladder from the liver bed with a hook."
TRUTH = {
    "tal": {"text": "22.0-78.0, 89.0-94.0 seconds.", "spans": [[22, 78], [89, 94]]},
    "stg": {"text": render_stg(BOXES), "boxes": {str(t): list(b) for t, b in BOXES.items()}, "stride": 8},
    "dvc": {"text": render_dvc(EVENTS), "events": [vars(event) for event in EVENTS]},
    "nap": {"text": "tying", "label": "tying"},
    "vs": {"text": CAPTION},
    "rc": {"text": CAPTION},
    "cvs": {
        "text": "Two structures: 2, Cystic plate: 1, Hepatocystic triangle: 0",
        "scores": dict(zip(CVS_COMPONENTS, (2, 1, 0), strict=True)),
    },
    "sa": {
        "text": ", ".join(f"{aspect}: 3/5" for aspect in ASPECTS),
        "scores": dict.fromkeys(ASPECTS, 3),
    },
}
RULE_TASKS = ("tal", "stg", "dvc", "nap", "cvs", "sa")


def source(task):
    return f"medvidbench/AVOS/{task}"


def score(task, answer, extra_info=None, **chosen):
    return asyncio.run(compute_score(source(task), answer, json.dumps(TRUTH[task]), extra_info, **chosen))


def statistics_file(folder, signals, p50=0.5, iqr=0.5):
    row = {"n": 64, "p25": p50 - iqr / 2, "p50": p50, "p75": p50 + iqr / 2, "iqr": iqr}
    pairs = {source(task): dict.fromkeys(names, row) for task, names in signals.items()}
    path = folder / "statistics.json"
    path.write_text(json.dumps({"format": 1, "pairs": pairs}))
    return str(path)


@pytest.mark.parametrize("task", TASKS)
def test_the_right_answer_gets_everything(task):
    result = score(task, TRUTH[task]["text"])
    assert result["score"] == result["acc"] == pytest.approx(1)
    assert result["format"] == 1


def test_names_of_the_parts():
    parts = {task: sorted(key for key in score(task, TRUTH[task]["text"]) if key.startswith("raw_")) for task in TASKS}
    assert parts == {
        "tal": ["raw_iou"],
        "stg": ["raw_iou"],
        "dvc": ["raw_temporal_f1"],
        "nap": ["raw_exact"],
        "vs": ["raw_judge", "raw_similarity"],
        "rc": ["raw_judge", "raw_similarity"],
        "cvs": ["raw_closeness", "raw_exact"],
        "sa": ["raw_closeness", "raw_exact"],
    }


def test_every_task_has_weights_that_sum_to_one_and_the_shared_parser():
    assert set(TASKS) == set(PARSERS)
    for task in TASKS.values():
        assert sum(task.weights.values()) == pytest.approx(1)
        assert sum(task.acc.values()) == pytest.approx(1)
        assert task.parse is PARSERS[task.name]


NO_ANSWERS = [
    "",
    "   ",
    "\n",
    "....",
    "<|im_end|>",
    None,
    3,
    ["tying"],
    b"tying",
    {"a": 1},
    "１２",
    "\ud800",
    "x" * 10**6,
]


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("answer", NO_ANSWERS, ids=lambda answer: repr(answer)[:12])
def test_no_answer_is_exactly_nothing_even_where_the_median_is_nothing(task, answer, tmp_path):
    signals = {name: tuple(TASKS[name].weights) for name in TASKS}
    path = statistics_file(tmp_path, signals, p50=0.0, iqr=0.0)
    for order in ("after", "before"):
        result = score(task, answer, statistics=path, format_order=order)
        assert set(result.values()) == {0.0}
        assert all(type(value) is float for value in result.values())


HACKS = [
    ("tal", "22.0-78.0, 89.0-94.0, " + ", ".join(f"{i}.0-{i + 1}.0" for i in range(200, 250)) + " seconds.", 1, 2 / 52),
    ("tal", "22.0-78.0 seconds.", 1, 0.5),
    ("tal", "78.0-22.0, 94.0-89.0 seconds.", 1, 0),
    ("tal", "22.0-78.0, 22.0-78.0, 89.0-94.0 seconds.", 1, 2 / 3),
    ("tal", "nan-78.0, 89.0-94.0 seconds.", 0.5, 0.5),
    ("tal", "２２.0-78.0, 89.0-94.0 seconds.", 0.5, 0.5),
    ("tal", "0.0-1800.0 seconds.", 1, 56 / 1800 / 2),
    ("stg", "66.0 seconds: [100, 50, 300, 200]", 1, 0.5),
    ("stg", "66.0 seconds: [100, 50, 300, 200] 74.0 seconds: [nan, 60, 310, 210]", 0.5, 0.5),
    ("stg", "66.0 seconds: [300, 200, 100, 50] 74.0 seconds: [110, 60, 310, 210]", 1, 0.5),
    ("stg", "66.0 seconds: [100, 50, 300, 200] 66.0 seconds: [1, 2, 3, 4]", 0.5, 0),
    ("dvc", "0.0-88.0 seconds: cut", 1, 2 / 3),
    ("dvc", "0.0-88.0 seconds: ", 0, 0),
    ("dvc", "0.0-95.0 seconds: cut 90.0-95.0 seconds: tie", 0.5, 1),
    ("dvc", "\n".join(["0.0-88.0 seconds: cut"] * 50), 1, 2 / 52),
    ("nap", "cutting, tying, suturing", 1, 0),
    ("nap", "The next action is tying.", 0.5, 1),
    ("nap", "I cannot tell, perhaps some knot", 1, 0),
    ("cvs", "Two structures: 2", 0.5, 1 / 3),
    ("cvs", "Two structures: 2, Cystic plate: 12, Hepatocystic triangle: -1", 0.5, 1 / 3),
    ("cvs", "Two structures: 0, Two structures: 1, Two structures: 2", 0, 0),
    ("sa", "Respect for tissue: 3/5", 0.5, 1 / 6),
    ("sa", ", ".join(f"{aspect}: {n}/5" for n in range(1, 6) for aspect in ASPECTS), 0, 0),
]


@pytest.mark.parametrize(("task", "answer", "form", "acc"), HACKS)
def test_known_hacks(task, answer, form, acc):
    result = score(task, answer)
    assert result["format"] == form
    assert result["acc"] == pytest.approx(acc)
    assert result["score"] <= form * max(value for key, value in result.items() if key.startswith("raw_")) + 1e-12


def test_the_end_token_is_not_the_answers():
    for answer in ("tying<|im_end|>", "tying<|endoftext|>", "tying<|im_end|>\n"):
        assert score("nap", answer)["score"] == 1
    assert score("nap", "tying<|im_end|><|im_end|>")["score"] == 0


def test_boxes_come_back_from_the_models_space():
    for family, size in (("qwen2_5_vl", (448, 252)), ("qwen3_vl", (1000, 1000))):
        extra = {"canvas": [854, 480], "processed_size": size, "model_family": family}
        spoken = {t: (x1 * size[0] / 854, y1 * size[1] / 480, x2 * size[0] / 854, y2 * size[1] / 480)
                  for t, (x1, y1, x2, y2) in BOXES.items()}  # fmt: skip
        assert score("stg", render_stg(spoken), extra)["acc"] > 0.99
        assert score("stg", render_stg(BOXES), extra)["acc"] < 0.6
    with pytest.raises(BadGroundTruth, match="canvas"):
        score("stg", render_stg(BOXES), {"model_family": "qwen3_vl"})


def test_the_sampling_interval_widens_an_instant():
    truth = json.dumps({"text": "66.0-66.0 seconds.", "spans": [[66, 66]]})
    result = score_many([(source("tal"), "64.0-68.0 seconds.", truth, {"sample_interval": 2.0})])[0]
    assert result["raw_iou"] == pytest.approx(0.5)


def test_normalised_then_multiplied_by_format(tmp_path):
    path = statistics_file(tmp_path, {"tal": ["iou"], "cvs": ["exact", "closeness"]})
    half = "22.0-78.0"
    assert score("tal", half)["score"] == pytest.approx(0.5 * 0.5)
    assert score("tal", half, statistics=path)["score"] == pytest.approx(0.5 * 0.5)
    before = score("tal", half, statistics=path, format_order="before")["score"]
    assert before == pytest.approx(logistic(0.25, 0.5, 0.5))
    assert score("tal", half, statistics=path, normalizer="none")["score"] == pytest.approx(0.25)
    cvs = score("cvs", TRUTH["cvs"]["text"].replace("2", "1"), statistics=path)
    expected = (logistic(2 / 3, 0.5, 0.5) + logistic(2.5 / 3, 0.5, 0.5)) / 2
    assert cvs["score"] == pytest.approx(expected)
    assert cvs["acc"] == pytest.approx(2 / 3)


def test_a_pair_without_statistics_is_an_error_and_never_a_number(tmp_path):
    path = statistics_file(tmp_path, {"tal": ["iou"]})
    with pytest.raises(MissingStatistics, match="medvidbench/AVOS/nap"):
        score("nap", "tying", statistics=path)
    assert score("nap", "tying", statistics=path, rewarded_tasks=["tal"]) == {
        "score": 0.0,
        "acc": 1.0,
        "format": 1.0,
        "raw_exact": 1.0,
    }


def test_what_the_launcher_can_ask(tmp_path):
    assert needed_signals()["dvc"] == ("temporal_f1",)
    assert needed_signals(dvc_captions=True)["dvc"] == ("temporal_f1", "similarity", "judge")
    assert needed_signals(rewarded_tasks=["tal"], statistics="no/such/file")["nap"] == ()
    assert needed_signals(normalizer="none")["tal"] == ()
    with pytest.raises(BadStatistics, match="no/such/file"):
        get_scorer(statistics="no/such/file")


@pytest.mark.parametrize(
    ("chosen", "error", "words"),
    [
        ({"minimum_iqr": 0.1}, TypeError, "minimum_iqr"),
        ({"format_order": "never"}, ValueError, "format_order"),
        ({"judge": "gpt"}, ValueError, "judge"),
        ({"normalizer": "softmax"}, ValueError, "softmax"),
        ({"rewarded_tasks": ["tag"]}, ValueError, "tag"),
        ({"rewarded_tasks": "tal"}, ValueError, "list"),
        ({"k": 0}, ValueError, "k"),
    ],
)
def test_bad_settings(chosen, error, words):
    with pytest.raises(error, match=words):
        score("tal", "22.0-78.0 seconds.", **chosen)


@pytest.mark.parametrize("name", ["medvidbench/AVOS/tag", "AVOS/tal", "medvidbench//tal", "", None])
def test_unknown_task(name):
    with pytest.raises(UnknownTask):
        score_many([(name, "x", "{}", None)])


@pytest.mark.parametrize(
    ("task", "truth"),
    [
        ("tal", "{"),
        ("tal", "[]"),
        ("tal", {"spans": [[0, 1]]}),
        ("tal", '{"spans": []}'),
        ("tal", '{"spans": [[0]]}'),
        ("tal", '{"spans": [[0, NaN]]}'),
        ("stg", '{"boxes": {"x": [1, 2, 3, 4]}}'),
        ("stg", '{"boxes": {"1.0": [1, 2, 3]}}'),
        ("dvc", '{"events": [{"start": 0, "end": 1}]}'),
        ("nap", '{"label": " "}'),
        ("vs", "{}"),
        ("cvs", '{"scores": {"two_structures": 3}}'),
        ("sa", '{"scores": {}}'),
    ],
)
def test_a_bad_reference_is_an_error_that_names_the_row(task, truth):
    with pytest.raises(BadGroundTruth, match="row 0: ground_truth"):
        score_many([(source(task), TRUTH[task]["text"], truth, None)])


def test_captions_are_compared_by_meaning_and_by_the_judge():
    paraphrase = "A hook is used by the surgeon to dissect the gallbladder off the liver bed."
    right, near, far = (score("vs", text) for text in (CAPTION, paraphrase, "A nurse washes her hands at a sink."))
    assert 1 > near["raw_similarity"] > far["raw_similarity"] + 0.3
    assert right["raw_judge"] == 1 > near["raw_judge"] > far["raw_judge"]
    assert near["acc"] == pytest.approx((near["raw_similarity"] + near["raw_judge"]) / 2)
    alone = score("vs", paraphrase, judge=None)
    assert alone["score"] == alone["acc"] == alone["raw_similarity"] == pytest.approx(near["raw_similarity"])


def test_dense_captions_count_when_asked():
    one = render_dvc(EVENTS[:1])
    result = score("dvc", one, dvc_captions=True)
    assert result["raw_similarity"] == pytest.approx(0.5)
    assert result["raw_judge"] == pytest.approx(0.5)
    assert result["acc"] == pytest.approx(2 / 3)
    assert result["score"] == pytest.approx(0.5 * 2 / 3 + 0.25 * 0.5 + 0.25 * 0.5)
    elsewhere = score("dvc", "300.0-310.0 seconds: the surgeon cuts the tissue", dvc_captions=True)
    assert elsewhere["score"] == elsewhere["raw_similarity"] == elsewhere["raw_judge"] == 0


def test_many_at_once_is_the_same_as_one_by_one():
    texts = ["tying", "22.0-80.0, 89.0-94.0 seconds.", CAPTION[:40], "", render_dvc(EVENTS[:1])]
    rows = [(source(task), text, json.dumps(TRUTH[task]), None) for task in TASKS for text in texts]
    together = score_many(rows, dvc_captions=True)
    for row, result in zip(rows, together, strict=True):
        assert asyncio.run(compute_score(*row, dvc_captions=True)) == pytest.approx(result, abs=1e-6)


def test_settings_as_a_configuration_library_hands_them_in():
    omegaconf = pytest.importorskip("omegaconf")
    chosen = dict(omegaconf.OmegaConf.create({"rewarded_tasks": ["tal", "nap"], "judge_settings": {}, "k": 2}))
    assert score("nap", "tying", **chosen)["score"] == 1
    assert score("cvs", TRUTH["cvs"]["text"], **chosen)["score"] == 0
    assert get_scorer(**chosen) is get_scorer(**chosen)
    assert get_scorer(**chosen) is get_scorer(rewarded_tasks=["tal", "nap"], judge_settings={}, k=2)
    assert get_scorer(rewarded_tasks=["tal"]) is not get_scorer(rewarded_tasks=["nap"])


def test_rule_tasks_need_no_model_library():
    code = (
        "import sys, json, asyncio\n"
        "from reward_score.medgrpo import compute_score\n"
        "truth = json.dumps({'text': 'tying', 'label': 'tying'})\n"
        "result = asyncio.run(compute_score('medvidbench/AVOS/nap', 'tying', truth))\n"
        "assert result['score'] == 1\n"
        "heavy = {'torch', 'transformers', 'verl', 'openai', 'scipy'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    root = Path(__file__).resolve().parents[2]
    subprocess.run([sys.executable, "-c", code], cwd=root, check=True)


SCRAPS = [
    "22.0-78.0",
    " seconds",
    ".",
    ", ",
    "66.0 seconds: [100, 50, 300, 200]",
    "\n",
    "nan",
    "tying",
    "Cystic plate: 1",
]
SCRAPS += ["0.0-88.0 seconds: cut", "Time and motion: 3/5", " ", "１", "[", "Two structures: 2", "-", ":", "<|im_end|>"]


@settings(max_examples=120, deadline=None)
@given(st.sampled_from(RULE_TASKS), st.lists(st.sampled_from(SCRAPS), max_size=12).map("".join))
def test_any_answer_gets_numbers_within_bounds(task, answer):
    result = score(task, answer)
    assert all(math.isfinite(value) and 0 <= value <= 1 for value in result.values())
    assert result["score"] <= result["format"]
    assert not {"reward", "pred"} & set(result)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from([task for task in RULE_TASKS if task != "dvc"]), st.data())
def test_only_what_says_the_right_thing_is_right(task, data):
    text = TRUTH[task]["text"]
    right = PARSERS[task](text).value
    start = data.draw(st.integers(0, len(text) - 1))
    end = data.draw(st.integers(start + 1, len(text)))
    for edited in (text[:start] + text[end:], text[:end] + text[start:end] + text[end:], text + " " + text[start:end]):
        result = score(task, edited)
        assert (result["acc"] > 1 - 1e-9) == (PARSERS[task](edited).value == right), edited
        assert result["score"] <= result["acc"] * result["format"] + 1e-9 or task in ("cvs", "sa")


@settings(max_examples=80, deadline=None)
@given(
    st.lists(
        st.builds(
            Event,
            st.integers(0, 90).map(float),
            st.integers(0, 99).map(float),
            st.sampled_from(["cut", "tie", "the surgeon cuts"]),
        ),
        min_size=1,
        max_size=4,
    ),
    st.data(),
)
def test_padding_repeating_and_blanking_a_dense_caption_never_pays(events, data):
    before = score("dvc", render_dvc(events))["acc"]
    junk = Event(500.0, 510.0, "junk")
    twin = data.draw(st.sampled_from(events))
    assert score("dvc", render_dvc([*events, junk]))["acc"] <= before
    assert score("dvc", render_dvc([*events, *[twin] * 9]))["score"] <= before
    blank = render_dvc(EVENTS).replace(EVENTS[0].caption, "")
    assert score("dvc", blank)["score"] <= 0.5 * 2 / 3


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 100), st.integers(1, 60)), min_size=1, max_size=5, unique=True),
    st.lists(st.tuples(st.integers(0, 100), st.integers(1, 60)), min_size=1, max_size=4),
    st.randoms(),
)
def test_the_order_of_the_reference_does_not_matter(gold, predicted, random):
    gold = [[start, start + length] for start, length in gold]
    answer = render_tal([(start, start + length) for start, length in predicted])
    shuffled = gold[:]
    random.shuffle(shuffled)
    a, b = score_many([(source("tal"), answer, json.dumps({"text": "x", "spans": g}), None) for g in (gold, shuffled)])
    assert a == pytest.approx(b)

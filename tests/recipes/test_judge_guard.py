# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""A judge that gives no verdicts ends every command that scores with one line, and leaves no result behind."""

import csv
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pyarrow.parquet as pq
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from mock_judge_server import DIMENSIONS, MockJudge, Reply, honest  # noqa: E402

from recipes.medgrpo import calibrate, evaluate  # noqa: E402
from recipes.medgrpo.inference import engines  # noqa: E402
from recipes.medgrpo.judge_guard import JudgeFailed, check, count, fault  # noqa: E402
from recipes.medgrpo.reward_options import defining, signal_settings_of  # noqa: E402
from recipes.medgrpo.studies.ablation import command as ablation  # noqa: E402
from recipes.medgrpo.studies.judge import command as judge_study  # noqa: E402

VERDICTLESS = {
    "is down": Reply(status=503, headers={"Retry-After": "400"}),
    "refuses all": Reply(None, refusal="I cannot."),
    "filters all": Reply(status=400, body={"error": {"code": "data_inspection_failed", "message": "no"}}),
    "garbles all": Reply("I would say four."),
    "says nothing": Reply(""),
    "only thinks": Reply("", finish_reason="length"),
}


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("MEDGRPO_JUDGE_API_KEY", "key")
    # The commands have no option for it, and nobody needs to wait.
    monkeypatch.setattr("reward_score.paid_call.attempts.random.uniform", lambda low, high: 0.0)


class Echo:
    """An engine that says the reference."""

    batch, temperature, identity = 64, 0.0, "echo"
    described: dict = {"kind": "echo"}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def answers(self, jobs):
        return [engines_reply(job.row["extra_info"]["answer"]) for job in jobs]

    def notes(self):
        return []


def engines_reply(text):
    from recipes.medgrpo.inference.jobs import Reply as Said

    return Said(text, False)


@pytest.fixture
def place(synthetic_data, tmp_path, monkeypatch):
    """The commands' inputs: a parquet, answers to it that say the references, a run of the ablation, texts to judge."""
    monkeypatch.setattr(engines, "make", lambda args, kind: Echo())
    monkeypatch.setattr(engines, "check", lambda args, kind: None)
    data = synthetic_data["qwen2_5_vl"] / "val.parquet"
    rows = pq.read_table(data).to_pylist()
    lines = [{"header": {"settings": {"samples": 1}}}]
    for row in rows:
        extra = row["extra_info"]
        about = {name: extra[name] for name in ("file", "index")} | {"data_source": row["data_source"], "sample": 0}
        about |= {"video": f"{extra['source']}/{extra['video_id']}", "answer": extra["answer"], "truncated": False}
        if row["ability"] == "stg":
            about["box_space"] = {name: extra[name] for name in ("canvas", "processed_size", "model_family")}
        lines.append(about)
    answers = "".join(json.dumps(line) + "\n" for line in lines)
    run = tmp_path / "run"
    for folder in ("eval/sft", "rows/A/eval/medgrpo", "data"):
        (run / folder).mkdir(parents=True)
    for folder in ("eval/sft", "rows/A/eval/medgrpo"):
        (run / folder / "answers.jsonl").write_text(answers)
    (run / "rows/A/summary.json").write_text('{"status": "complete"}')
    (run / "data/val.parquet").write_bytes(data.read_bytes())
    texts = tmp_path / "texts.csv"
    with open(texts, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["video", "source", "task", "reference", "prediction", *DIMENSIONS])
        writer.writerows([f"v{n}", "A", "rc", "The hook cuts.", f"Text {n}.", 1, 2, 3, 4, 5] for n in range(12))
    return SimpleNamespace(data=data, answers=run / "eval/sft/answers.jsonl", run=run, texts=texts)


COMMANDS = {
    "evaluate strict": (evaluate, lambda p: ["score", "--results", p.answers, "--ground-truth", p.data]),
    "evaluate leaderboard": (
        evaluate,
        lambda p: ["score", "--results", p.answers, "--ground-truth", p.data, "--mode", "leaderboard"],
    ),
    "evaluate compare": (evaluate, lambda p: ["compare", p.answers, p.answers, "--ground-truth", p.data]),
    "evaluate sample": (evaluate, lambda p: ["sample", "--model", "m", "--data", p.data]),
    "calibrate": (calibrate, lambda p: ["--model", "m", "--data", p.data, "--samples", "1"]),
    "ablation": (ablation, lambda p: ["--runs", p.run]),
    "judge_study agreement": (judge_study, lambda p: ["agreement", "--ratings", p.texts]),
    "judge_study repeat": (judge_study, lambda p: ["repeat", "--pairs", p.texts, "--times", "2"]),
    "judge_study probes": (judge_study, lambda p: ["probes", "--references", p.data, "--limit", "2"]),
}
FINAL = ("*.json", "*.md", "answers.jsonl", "raw_signals.jsonl", "records.jsonl")


def called(name, place, out, behave, capsys):
    """(exit status, lines on stderr, the final files) of a command with an endpoint's judge."""
    module, arguments = COMMANDS[name]
    output = out / "statistics.json" if name == "calibrate" else out
    with MockJudge(behave) as server:
        judge = ["--judge", "openai", "--judge-base-url", server.base_url, "--judge-model", "m"]
        if name.startswith("evaluate") or name == "ablation":
            judge += ["--resamples", "20"] if "sample" not in name else []
        status = module.main([str(word) for word in [*arguments(place), "--output", output, *judge]])
    said = capsys.readouterr()
    lines = [line for line in said.err.replace("\r", "\n").splitlines() if ": error: " in line]
    return status, lines, sorted(path.name for kind in FINAL for path in out.glob(kind)), said.out


@pytest.mark.parametrize("how", VERDICTLESS)
@pytest.mark.parametrize("name", COMMANDS)
def test_a_judge_without_verdicts_leaves_no_result(name, how, place, tmp_path, capsys):
    status, lines, files, _ = called(name, place, tmp_path / "out", lambda request: VERDICTLESS[how], capsys)
    assert (status, len(lines), files) == (2, 1, [])
    assert "judge" in lines[0]


@pytest.mark.parametrize("name", COMMANDS)
def test_some_refusals_are_counted_and_do_not_end_it(name, place, tmp_path, capsys):
    def behave(request):
        refused = request.number % 6 == 1
        return Reply(None, refusal="I cannot.") if refused else Reply(honest(request, 3))

    # A text that is refused is asked about once more, and then judged: so refuse by text.
    refused: set[str] = set()

    def by_text(request):
        text = request.between("CANDIDATE")
        reply = behave(request)
        if reply.refusal and len(refused) < 2:
            refused.add(text)
        return Reply(None, refusal="I cannot.") if text in refused else Reply(honest(request, 3))

    status, lines, files, out = called(name, place, tmp_path / "out", by_text, capsys)
    assert (status, lines) == (0, [])
    assert files
    written = "".join(path.read_text() for kind in ("*.json", "*.md") for path in (tmp_path / "out").glob(kind))
    assert "without the judge's verdict" in written or "without a judgement" in written or "JudgeRefused" in written


def test_answers_that_a_judge_refused_are_judged_again_when_it_is_back(place, tmp_path, capsys):
    out = tmp_path / "out"
    status, *_ = called("calibrate", place, out, lambda request: Reply(None, refusal="I cannot."), capsys)
    assert status == 2
    status, _, files, _ = called("calibrate", place, out, lambda request: Reply(honest(request, 5)), capsys)
    assert (status, files) == (0, ["raw_signals.jsonl", "statistics.json"])
    assert "unjudged" not in (out / "raw_signals.jsonl").read_text()


def test_statistics_of_signals_that_no_judge_gave_are_not_made(tmp_path, capsys):
    header = {"model": "a", "data": "d", "code": "c", "settings": {"temperature": 1.0, "max_new_tokens": 9, "seed": 0}}
    lines = [{"header": header | {"scoring": {"judge": "offline"}}}]
    for number in range(20):
        about = {"file": "f", "index": number, "data_source": "medvidbench/AVOS/rc", "video": f"v{number}", "sample": 0}
        lines.append(about | {"format": 1.0, "raw_similarity": 0.5, "raw_judge": 0.0, "unjudged": 1.0})
    (tmp_path / "raw_signals.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    out = tmp_path / "statistics.json"
    assert calibrate.main(["--merge", str(tmp_path / "raw_signals.jsonl"), "--output", str(out)]) == 2
    assert "a verdict on 0 of 20 answers: 20 were refused or malformed" in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize(
    ("given", "refused", "broken", "fewest", "found"),
    [
        (0, 0, 0, 1, None),
        (10, 0, 0, 1, None),
        (0, 1, 0, 1, "all"),
        (0, 7, 0, 8, None),
        (5, 5, 0, 1, None),
        (4, 5, 0, 1, "refused"),
        (4, 0, 5, 1, "failed"),
        (5, 0, 5, 1, None),
        (0, 0, 1, 1, "failed"),
    ],
)
def test_the_limits(given, refused, broken, fewest, found):
    assert fault(given, refused, broken, fewest=fewest) == found


def test_answers_that_nobody_asked_about_dilute_no_share():
    unread = {"format": 0.0, "raw_judge": 0.0, "raw_similarity": 0.0}
    judged = {"format": 1.0, "raw_judge": 0.0, "raw_similarity": 0.3}
    rule = {"format": 1.0, "raw_iou": 0.5}
    nothing = judged | {"raw_similarity": 0.0}
    refused = judged | {"unjudged": 1.0}
    assert count([unread, judged, rule, nothing, refused, refused]) == {"judged": 1, "unjudged": 2}
    with pytest.raises(JudgeFailed, match="a verdict on 1 of 3 answers: 2 were refused"):
        check(count([unread, judged, refused, refused] + [rule] * 50))
    assert check(count([judged, refused])) == ["answers without the judge's verdict: 1 of 2, scored as wrong"]
    assert check(count([judged | {"unjudged": float("nan")}])) == check(count([])) == []


def test_a_command_is_told_a_code_of_a_content_filter():
    words = ["score", "--results", "r", "--output", "o", "--judge", "openai", "--judge-model", "m"]
    args = evaluate.parse([*words, "--judge-filter-codes", "E-77", "E-78"])
    assert signal_settings_of(args)["judge_settings"]["filter_codes"] == ["E-77", "E-78"]
    assert "filter_codes" not in defining(signal_settings_of(args))["judge_settings"]

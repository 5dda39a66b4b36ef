# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

import json
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from recipes.medgrpo.summary import (
    PEARSON,
    REWARD,
    judge_line,
    main,
    merge_attempts,
    summarise,
    text,
    verdict,
    with_lost_steps,
)
from recipes.medgrpo.training.step_lines import step_line

ROOT = Path(__file__).resolve().parents[2]


def logged(step: int, reward: float) -> dict:
    """A line of verl's file logger."""
    return {"step": step, "data": {REWARD: reward, PEARSON: 0.9995, "nested": {"x": 1}, "bad": float("nan")}}


def test_a_resumed_attempt_replaces_the_steps_that_it_trained_again():
    first = [logged(step, 0.1) for step in (1, 2, 3, 4)]  # killed after step 4, the last checkpoint was step 2
    second = [logged(step, 0.9) for step in (3, 4, 5)]
    merged = merge_attempts([first, second])
    assert [record["step"] for record in merged] == [1, 2, 3, 4, 5]
    assert [record["attempt"] for record in merged] == [1, 1, 2, 2, 2]
    assert [record[REWARD] for record in merged] == [0.1, 0.1, 0.9, 0.9, 0.9]


def test_an_attempt_that_never_reached_a_step_changes_nothing():
    merged = merge_attempts([[logged(1, 0.5)], [], [{"step": 0, "data": {"val/x": 1.0}}]])
    assert [record["step"] for record in merged] == [1]


def test_a_step_whose_log_a_kill_took_is_read_from_the_state_it_went_on_from(tmp_path):
    # Killed between the checkpoint of step 2 and its line in the log.
    attempts = merge_attempts([[logged(1, 0.1)], [logged(3, 0.3)]])
    (tmp_path / "step_2.json").write_text(json.dumps({"step": 2, "metrics": {REWARD: 0.2}}))
    (tmp_path / "step_4.json").write_text(json.dumps({"step": 4, "metrics": {REWARD: 0.4}}))
    whole = with_lost_steps(attempts, tmp_path, trained=2)
    assert [(record["step"], record["attempt"], record[REWARD]) for record in whole] == [
        (1, 1, 0.1),
        (2, 1, 0.2),
        (3, 2, 0.3),
    ]
    # The last step's line may be the one that is missing; its checkpoint says that it was trained.
    assert with_lost_steps(attempts, tmp_path, trained=4)[-1] == {"step": 4, "attempt": 2, REWARD: 0.4}
    # States of a version that kept no metrics, and no state at all, leave the gap.
    (tmp_path / "step_2.json").write_text(json.dumps({"step": 2}))
    assert [record["step"] for record in with_lost_steps(attempts, tmp_path / "none", trained=2)] == [1, 3]
    assert [record["step"] for record in with_lost_steps(attempts, tmp_path, trained=2)] == [1, 3]


def test_only_finite_numbers_are_kept():
    assert set(merge_attempts([[logged(1, 0.5)]])[0]) == {"step", "attempt", REWARD, PEARSON}


def write_run(folder, steps: int, accs: dict[str, float]):
    (folder / "attempts").mkdir(parents=True)
    (folder / "plan.json").write_text(json.dumps({"model": "qwen2_5_vl", "seed": 0, "steps": 12}))
    lines = [json.dumps(logged(step, step / 100)) for step in range(1, steps + 1)]
    (folder / "attempts/grpo_1.jsonl").write_text("\n".join(lines).replace("NaN", "null") + "\n")
    for name, acc in accs.items():
        where = folder / "eval" / name
        where.mkdir(parents=True)
        score = {"acc": acc, "format": 1.0}
        pairs = {"medvidbench/AVOS/tal": {**score, "n": 4}}
        (where / "scores.json").write_text(json.dumps({"overall": score, "pairs": pairs}))
        rows = [
            {"data_source": "medvidbench/AVOS/tal", "index": i, "sample": 0, "video": f"AVOS/{i}", "acc": acc}
            for i in range(4)
        ]
        (where / "answers.jsonl").write_text("\n".join(json.dumps(row) for row in [{"header": 1}, *rows]))


def test_the_summary_of_a_whole_run(tmp_path):
    write_run(tmp_path, 12, {"sft": 0.25, "medgrpo": 0.5})
    summary = summarise(tmp_path, wall_s=10.0)
    assert summary["status"] == "complete"
    assert (summary["steps"], summary["pairs"], summary["wall_s"]) == (12, 1, 10.0)
    assert abs(summary["reward_first5"] - 0.03) < 1e-12 and abs(summary["reward_last5"] - 0.10) < 1e-12
    assert summary["acc_change"]["acc_change"] == 0.25 and summary["acc_change"]["low"] == 0.25
    assert summary["resumed_from"] is None and summary["probs_pearson_min"] == 0.9995
    assert (tmp_path / "metrics.jsonl").read_text().count("\n") == 12
    assert "AVOS/tal" in text(summary) and "above 0" in text(summary)


def test_an_attempt_without_a_checkpoint_to_go_on_from_is_no_resume(tmp_path):
    write_run(tmp_path, 12, {"sft": 0.25, "medgrpo": 0.5})
    (tmp_path / "attempts/grpo_1.jsonl").rename(tmp_path / "attempts/grpo_2.jsonl")
    (tmp_path / "attempts/grpo_1.jsonl").write_text("")
    assert summarise(tmp_path)["resumed_from"] is None


def test_a_run_that_stopped_early_is_not_complete(tmp_path):
    write_run(tmp_path, 7, {"sft": 0.25})
    summary = summarise(tmp_path)
    assert summary["status"] == "incomplete" and summary["medgrpo"] is None
    assert "steps" in text(summary)


def test_an_interval_that_touches_zero_says_so():
    assert "no change shown" in verdict({"acc_change": 0.1, "low": -0.1, "high": 0.3, "videos": 9})
    assert "above 0" in verdict({"acc_change": 0.2, "low": 0.1, "high": 0.3, "videos": 9})
    assert "no interval" in verdict({"acc_change": 0.2, "low": None, "high": None, "videos": 1})


def test_the_console_keeps_the_few_figures_that_matter():
    line = "(TaskRunner pid=1) step:3 - medgrpo/pairs_mean/reward:0.51 - actor/grad_norm:2e-05 - timing_s/step:7.25"
    assert step_line(line) == (3, {"reward": 0.51, "seconds": 7.25})
    assert step_line("(WorkerDict pid=2) Saved model to global_step_3") is None


def test_two_kinds_of_runs_are_compared_seed_by_seed(tmp_path, capsys):
    """The trained models' answers, whatever their SFT models scored, and what the steps say of their groups."""
    from recipes.medgrpo.summary import main

    for name, sft, acc, entropy in (
        ("a0", 0.9, 0.6, 1.0),
        ("a1", 0.1, 0.8, 2.0),
        ("b0", 0.2, 0.5, 3.0),
        ("b1", 0, 0.5, 3.0),
    ):
        write_run(tmp_path / name, 12, {"sft": sft, "medgrpo": acc})
        steps = [{"step": 1, "actor/entropy": entropy, "medgrpo/groups/dead_share": 0.25}, {"step": 2}]
        (tmp_path / name / "metrics.jsonl").write_text("".join(json.dumps(step) + "\n" for step in steps))
    runs = [str(tmp_path / name) for name in ("a0", "a1", "b0", "b1")]
    assert main(["--pool", *runs[:2], "--against", *runs[2:]]) == 0
    said = capsys.readouterr().out
    changes = [re.search(rf"{re.escape(name)} +(\S+)", said)[1] for name in (*runs[:2], "mean of the runs")]
    assert changes == ["+0.100", "+0.300", "+0.200"]
    assert re.search(r"entropy +1\.500 against 3\.000", said)
    assert re.search(r"share of dead groups +0\.250 against 0\.250", said)
    with pytest.raises(SystemExit):
        main(["--pool", *runs[:2], "--against", runs[2]])
    assert "expected as many runs as --pool has, 2, found 1" in capsys.readouterr().err


@pytest.mark.skipif(find_spec("recipes") is None, reason="below verl, whose own __init__ imports torch")
def test_pooling_needs_no_model_library(tmp_path):
    """A bare shell, without what the training script sets, on any machine."""
    code = "import sys, recipes.medgrpo.summary; print(sorted({'torch', 'transformers', 'verl'} & set(sys.modules)))"
    environment = {key: value for key, value in os.environ.items() if not key.startswith("VERL")}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


def test_the_plan_says_who_judged():
    assert judge_line({"model": "qwen3_vl"}) == "offline-lexical-v2 (word overlap, not a language model)"
    planned = {"judge": "openai", "judge_model": "gpt-4.1"}
    assert judge_line(planned) == "openai:gpt-4.1"
    assert judge_line(planned | {"judge_prompt": "rubric"}) == "openai:gpt-4.1/rubric-v1"


def errors_of(capsys, *arguments):
    """The one line that a command ends with."""
    assert main([str(argument) for argument in arguments]) == 2
    said = capsys.readouterr().err
    assert said.startswith("summary: error: ") and said.count("\n") == 1
    return said


def other_answers(folder, **changes):
    file = folder / "eval/medgrpo/answers.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    lines[-1].update(changes)
    file.write_text("\n".join(map(json.dumps, lines)))


def other_pairs(folder):
    file = folder / "eval/medgrpo/scores.json"
    scores = json.loads(file.read_text())
    scores["pairs"] = {"medvidbench/AVOS/dvc": {"acc": 1, "format": 1, "n": 1}}
    file.write_text(json.dumps(scores))


DAMAGE = {
    "a missing file": (lambda run: (run / "eval/sft/answers.jsonl").unlink(), "eval/sft/answers.jsonl: no such file"),
    "an empty file": (lambda run: (run / "eval/sft/answers.jsonl").write_text(""), "expected answers, found none"),
    "a header alone": (lambda run: (run / "eval/sft/answers.jsonl").write_text('{"header": 1}'), "found none"),
    "no object": (lambda run: (run / "eval/sft/answers.jsonl").write_text("3\n4\n"), "expected an object, found int"),
    "no JSON": (lambda run: (run / "eval/sft/answers.jsonl").write_text("x\ny\n"), "line 1 is not JSON"),
    "another row": (lambda run: other_answers(run, index=77), "the two evaluations share 3 of 4 and 4 answers"),
    "a row twice": (lambda run: other_answers(run, index=0), "the same row (pair, file, index) and sample twice"),
    "no figure": (lambda run: other_answers(run, acc=None), "acc: expected a finite number, found None"),
    "a NaN": (lambda run: other_answers(run, acc=float("nan")), "acc: expected a finite number, found nan"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_unequal_or_damaged_files_are_one_line(tmp_path, capsys, damage):
    for name in ("a", "b"):
        write_run(tmp_path / name, 12, {"sft": 0.25, "medgrpo": 0.5})
    change, said = DAMAGE[damage]
    change(tmp_path / "b")
    assert said in errors_of(capsys, "--pool", tmp_path / "a", tmp_path / "b")
    assert said in errors_of(capsys, "--run", tmp_path / "b")
    assert not (tmp_path / "b/summary.json").exists()


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("plan.json", "[]", "plan.json: expected an object, found list"),
        ("plan.json", '{"model": "x"}', "expected steps, model, seed, found no steps, seed"),
        ("attempts/grpo_1.jsonl", "[1]\n[2]\n", "grpo_1.jsonl: a step: expected an object"),
        ("attempts/grpo_1.jsonl", '{"step": 1, "data": 3}\n', "grpo_1.jsonl: data: expected an object"),
        ("eval/sft/scores.json", "{}", "eval/sft/scores.json: expected overall, pairs"),
        ("eval/sft/scores.json", "x", "eval/sft/scores.json: the file is not JSON"),
    ],
)
def test_a_run_with_a_damaged_file_is_one_line(tmp_path, capsys, file, content, said):
    write_run(tmp_path, 12, {"sft": 0.25, "medgrpo": 0.5})
    (tmp_path / file).write_text(content)
    assert said in errors_of(capsys, "--run", tmp_path)


def test_scores_of_other_pairs_are_one_line(tmp_path, capsys):
    write_run(tmp_path, 12, {"sft": 0.25, "medgrpo": 0.5})
    other_pairs(tmp_path)
    assert "scores of other pairs: medvidbench/AVOS/dvc, medvidbench/AVOS/tal" in errors_of(capsys, "--run", tmp_path)


def test_an_empty_or_a_missing_folder_is_one_line_and_stays_as_it_is(tmp_path, capsys):
    write_run(tmp_path / "a", 12, {"sft": 0.25, "medgrpo": 0.5})
    (tmp_path / "empty").mkdir()
    assert "empty/eval/sft/answers.jsonl: no such file" in errors_of(
        capsys, "--pool", tmp_path / "a", tmp_path / "empty"
    )
    assert "plan.json" in errors_of(capsys, "--run", tmp_path / "empty")
    for option in ("--run", "--show"):
        assert "none: no such folder" in errors_of(capsys, option, tmp_path / "none")
    assert "none: no such folder" in errors_of(capsys, "--pool", tmp_path / "none", tmp_path / "a")
    assert not (tmp_path / "none").exists() and not list((tmp_path / "empty").iterdir())
    assert main(["--show", str(tmp_path / "empty")]) == 1

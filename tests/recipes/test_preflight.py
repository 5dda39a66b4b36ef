# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

import asyncio
import json
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import save_file

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from mock_judge_server import MockJudge, Reply, honest  # noqa: E402

from recipes.medgrpo.planning.machine import (  # noqa: E402
    GPU_PACKAGES,
    PINNED,
    VERL,
    check_gpus,
    check_model,
    check_packages,
)
from recipes.medgrpo.preflight import check_lengths, main  # noqa: E402
from recipes.medgrpo.training.checkpoints import TRACKER  # noqa: E402
from reward_score.paid_call.limits import Estimate, Limits  # noqa: E402
from reward_score.paid_call.store import open_store  # noqa: E402

ROW = {"n": 8, "p25": 0.1, "p50": 0.2, "p75": 0.4, "iqr": 0.30000000000000004}


@pytest.fixture
def run(tmp_path):
    """A run that could start: rows of two pairs and statistics for both."""
    rows = [
        {
            "data_source": f"medvidbench/{source}/{task}",
            "ability": task,
            "extra_info": {"model_family": "qwen2_5_vl", "index": 0},
        }
        for source, task in (("AVOS", "tal"), ("JIGSAWS", "sa"))
    ]
    for split in ("train", "val"):
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / f"{split}.parquet")
    pairs = {"medvidbench/AVOS/tal": {"iou": ROW}, "medvidbench/JIGSAWS/sa": {"exact": ROW, "closeness": ROW}}
    (tmp_path / "statistics.json").write_text(json.dumps({"format": 1, "judge": "offline-lexical", "pairs": pairs}))
    return tmp_path


def preflight(run, *more: str) -> int:
    return main(
        ["--data", str(run), "--statistics", str(run / "statistics.json"), "--checkpoints", str(run / "grpo"), *more]
    )


def test_all_is_well(run, capsys):
    assert preflight(run) == 0
    assert capsys.readouterr().out.strip() == "0"


def test_a_pair_without_statistics_is_named_before_the_run(run, capsys):
    statistics = json.loads((run / "statistics.json").read_text())
    del statistics["pairs"]["medvidbench/JIGSAWS/sa"]["closeness"]
    (run / "statistics.json").write_text(json.dumps(statistics))
    assert preflight(run) == 2
    assert "medvidbench/JIGSAWS/sa: closeness" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (("--advantage", "drpo"), "step_5.json: missing, and the advantage drpo cannot go on without"),
        (("--normalizer", "adaptive"), "step_5.json: missing, and the normalizer adaptive cannot go on without"),
        (("--advantage", "per_task"), None),
    ],
)
def test_what_learns_needs_its_state_to_resume(run, capsys, settings, words):
    actor = run / "grpo/global_step_5/actor"
    actor.mkdir(parents=True)
    for kind in ("model", "optim", "extra_state"):
        (actor / f"{kind}_world_size_1_rank_0.pt").write_text("x")
    (run / "grpo/global_step_5/data.pt").write_text("x")
    (run / "grpo" / TRACKER).write_text("5")
    assert preflight(run, *settings) == (0 if words is None else 2)
    assert (words or "") in capsys.readouterr().err
    (run / "grpo/sampler").mkdir()
    (run / "grpo/sampler/step_5.json").write_text("{}")
    assert preflight(run, *settings) == 0


def test_the_signal_of_tal_wasserstein_needs_statistics_where_the_reward_has_it(run, capsys):
    assert preflight(run, "--tal-wasserstein") == 2
    assert "no statistics for medvidbench/AVOS/tal: wasserstein: calibrate" in capsys.readouterr().err
    assert preflight(run, "--tal-wasserstein", "--tasks", "sa") == 0
    assert preflight(run, "--tal-wasserstein", "--normalizer", "none") == 0
    statistics = json.loads((run / "statistics.json").read_text())
    statistics["pairs"]["medvidbench/AVOS/tal"]["wasserstein"] = ROW
    (run / "statistics.json").write_text(json.dumps(statistics))
    assert preflight(run, "--tal-wasserstein") == 0
    assert preflight(run) == 0  # a signal that is not read does no harm


def test_tasks_that_are_not_trained_need_no_statistics(run):
    statistics = json.loads((run / "statistics.json").read_text())
    del statistics["pairs"]["medvidbench/JIGSAWS/sa"]
    (run / "statistics.json").write_text(json.dumps(statistics))
    assert preflight(run, "--tasks", "tal") == 0


def test_statistics_of_another_judge_are_refused(run, capsys):
    assert preflight(run, "--judge", "openai", "--judge-model", "some-model") == 2
    error = capsys.readouterr().err
    assert "calibrated with the judge 'offline-lexical'" in error and "openai:some-model" in error


OPENAI = ("--judge", "openai", "--judge-base-url", "http://127.0.0.1:9/v1", "--judge-model")


@pytest.fixture
def judged(run, monkeypatch):
    """The same run with statistics of a model's judgement, and a key."""
    statistics = json.loads((run / "statistics.json").read_text())
    (run / "statistics.json").write_text(json.dumps(statistics | {"judge": "openai:gpt-4.1"}))
    for name in ("MEDGRPO_JUDGE_API_KEY", "MEDGRPO_JUDGE_API_KEY_FILE", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MEDGRPO_JUDGE_API_KEY", KEY)
    return run


KEY = "key-never-to-be-shown"


def test_a_judge_that_could_work(judged, capsys):
    more = ("--judge-store", str(judged / "judge"), "--judge-budget-usd", "3", "--judge-in-flight", "8")
    assert preflight(judged, *OPENAI, "gpt-4.1", *more) == 0
    # verl's servers run a model of that name; their address comes later.
    assert preflight(judged, "--judge", "router", "--judge-model", "gpt-4.1", *more) == 0
    said = capsys.readouterr()
    assert KEY not in said.out + said.err


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--judge-base-url", "127.0.0.1:9/v1"), "base_url: expected http"),
        (("--judge-model", " "), "no model"),
        (("--judge-model", "of-no-known-price", "--judge-budget-usd", "1"), "no price of 'of-no-known-price' is known"),
        (("--judge-store", "{run}/statistics.json/judge"), "statistics.json/judge: the judge's store cannot be"),
        (("--judge-prompt", "rubric"), "training uses 'openai:gpt-4.1/rubric-v1'"),
    ],
)
def test_a_judge_that_cannot_work_is_found_before_ray(judged, capsys, more, words):
    assert preflight(judged, *OPENAI, "gpt-4.1", *(part.format(run=judged) for part in more)) == 2
    said = capsys.readouterr().err
    assert words in said and KEY not in said


def test_a_judge_without_a_key_is_found_before_ray(judged, capsys, monkeypatch):
    monkeypatch.delenv("MEDGRPO_JUDGE_API_KEY")
    assert preflight(judged, *OPENAI, "gpt-4.1") == 2
    assert "preflight: judge: no key: set MEDGRPO_JUDGE_API_KEY" in capsys.readouterr().err


def test_a_budget_that_is_spent_is_found_before_ray(judged, capsys):
    async def spend():
        store = open_store(str(judged / "judge"))
        store.settle(await store.admit("gpt-4.1", Estimate(100, 2.0), Limits(), 10), 100, 2.0, 0.1)
        await store.close()

    asyncio.run(spend())
    more = ("--judge-store", str(judged / "judge"), "--judge-budget-usd")
    assert preflight(judged, *OPENAI, "gpt-4.1", *more, "2") == 2
    assert "$2.0000 of the judge's budget of $2.0000 are spent: raise it" in capsys.readouterr().err
    assert preflight(judged, *OPENAI, "gpt-4.1", *more, "2.5") == 0


def test_a_ping_asks_once_and_only_when_it_is_asked_for(judged, capsys):
    with MockJudge(lambda request: Reply(content=honest(request, score=4))) as server:
        ping = ("--judge-base-url", server.base_url, "--judge-store", str(judged / "judge"))
        assert preflight(judged, *OPENAI, "gpt-4.1", *ping) == 0
        assert server.requests == []
        for _ in range(2):  # never from the cache
            assert preflight(judged, *OPENAI, "gpt-4.1", *ping, "--judge-ping") == 0
        assert len(server.requests) == 2
    said = capsys.readouterr().err
    assert said.count("mean score 4.0, 100 prompt and 20 completion tokens") == 2 and KEY not in said


def test_a_ping_that_fails_stops_the_start(judged, capsys):
    with MockJudge(lambda request: Reply(status=401, body={"error": {"message": "no"}})) as server:
        assert preflight(judged, *OPENAI, "gpt-4.1", "--judge-base-url", server.base_url, "--judge-ping") == 2
    said = capsys.readouterr().err
    assert "--judge-ping: Judge" in said and KEY not in said


def test_data_made_for_the_other_family_are_refused(run, capsys):
    assert preflight(run, "--model-family", "qwen2_5_vl") == 0
    assert preflight(run, "--model-family", "qwen3_vl") == 2
    assert "made for qwen2_5_vl, the model is qwen3_vl" in capsys.readouterr().err


@pytest.mark.parametrize("broken", ["statistics.json", "train.parquet"])
def test_a_broken_file_is_one_line_with_its_name(run, capsys, broken):
    (run / broken).write_text("{")
    assert preflight(run) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and broken in lines[0]


def test_tasks_that_are_none_are_named(run, capsys):
    assert preflight(run, "--tasks", "tal", "talk") == 2
    assert "--tasks: talk: expected some of tal stg" in capsys.readouterr().err


def test_captions_without_a_judge_need_no_statistics_of_one_and_take_any_judges(run):
    rows = [{"data_source": "medvidbench/AVOS/vs", "ability": "vs", "extra_info": {"model_family": "qwen2_5_vl"}}]
    for split in ("train", "val"):
        pq.write_table(pa.Table.from_pylist(rows), run / f"{split}.parquet")
    pairs = {"medvidbench/AVOS/vs": {"similarity": ROW}}
    (run / "statistics.json").write_text(json.dumps({"format": 1, "judge": "openai:gpt-4.1", "pairs": pairs}))
    assert preflight(run) == 2
    assert preflight(run, "--no-judge") == 0


def sft(run, *more: str) -> int:
    return main(["--stage", "sft", "--data", str(run), "--checkpoints", str(run / "sft"), *more])


def test_sft_needs_data_only_and_tells_its_step(run, capsys):
    (run / "statistics.json").unlink()
    assert sft(run) == 0
    assert capsys.readouterr().out.strip() == "0"
    step = run / "sft/global_step_500"
    step.mkdir(parents=True)
    (step / "model_world_size_8_rank_0.pt").write_text("x")
    (run / "sft" / TRACKER).write_text("500")
    assert sft(run) == 0
    assert capsys.readouterr().out.strip() == "500"
    (run / "sft" / TRACKER).write_text("1000")
    assert sft(run) == 2
    assert "says '1000', and there is no such checkpoint" in capsys.readouterr().err


@pytest.mark.parametrize("stage", ["sft", "rl"])
def test_what_is_not_given_is_asked_for_unless_something_else_is_known_to_be_wrong(tmp_path, capsys, stage):
    with pytest.raises(SystemExit):
        main(["--stage", stage, "--checkpoints", str(tmp_path)])
    assert "are required: --data" in capsys.readouterr().err
    assert main(["--stage", stage, "--checkpoints", str(tmp_path), "--partial"]) == 2
    assert capsys.readouterr().err == ""


def test_stills_are_found_where_they_cannot_be_trained_on(run, capsys):
    def rows(*marks):
        return [
            {
                "data_source": "medvidbench/AVOS/tal",
                "ability": "tal",
                "prompt": [{"role": "user", "content": f"{mark}What?"}],
                "extra_info": {"model_family": "qwen2_5_vl", "index": at, "frames": 1},
            }
            for at, mark in enumerate(marks)
        ]

    pq.write_table(pa.Table.from_pylist(rows("<video>", "<video>")), run / "train.parquet")
    assert preflight(run, "--no-stills") == 0
    pq.write_table(pa.Table.from_pylist(rows("<video>", "<image>", "<image>")), run / "train.parquet")
    assert preflight(run) == 0
    assert preflight(run, "--no-stills") == 2
    assert "train.parquet: 2 rows show an image: expected rows of clips, or N_GPUS=1 and, " in capsys.readouterr().err
    # Rows that are not trained on are not shown.
    assert preflight(run, "--no-stills", "--tasks", "sa") == 0


def test_rows_without_a_prompt_length_are_found_on_a_machine_that_trains_long_clips(run):
    assert check_lengths(run) == [
        f"{run / split}.parquet: 2 rows without extra_info.prompt_tokens: preprocess with --tokenizer"
        for split in ("train", "val")
    ]
    for split, lengths in (("train", (700, 900)), ("val", (700, None))):
        rows = [{"extra_info": {"prompt_tokens": length}} for length in lengths]
        pq.write_table(pa.Table.from_pylist(rows), run / f"{split}.parquet")
    assert check_lengths(run) == [
        f"{run}/val.parquet: 1 rows without extra_info.prompt_tokens: preprocess with --tokenizer"
    ]


def test_every_package_that_is_not_the_pinned_one_is_named(tmp_path):
    pinned = tmp_path / "gpu.txt"
    pinned.write_text("# a comment\nverl==0.0.1\nno-such-package==2.0\n" + f"pyarrow=={version('pyarrow')}\n")
    assert check_packages(pinned, ("verl", "pyarrow", "no-such-package")) == [
        f"verl {version('verl')} is installed, {pinned} has 0.0.1",
        f"no-such-package is not installed, {pinned} has 2.0",
    ]


def test_the_gpu_set_pins_every_package_that_is_looked_at():
    assert PINNED.is_file()
    lines = PINNED.read_text().splitlines()
    assert {line.split("==")[0] for line in lines} >= set(GPU_PACKAGES)
    assert f"verl=={VERL}" in lines


SMI = "0, NVIDIA H100 80GB HBM3, 81559, 4\n1, NVIDIA H100 80GB HBM3, 81559, 40960\n2, NVIDIA A10, 23028, 0\n"


@pytest.mark.parametrize(
    ("number", "gib", "words"),
    [
        (1, 79, []),
        (2, 79, ["GPU 1 (NVIDIA H100 80GB HBM3): 40.0 GiB are in use by something else"]),
        (1, 100, ["GPU 0 (NVIDIA H100 80GB HBM3) has 79.6 GiB, 100 needed"]),
        (
            8,
            79,
            ["3 GPUs found, 8 needed", "GPU 1 (NVIDIA H100 80GB HBM3): 40.0 GiB", "GPU 2 (NVIDIA A10) has 22.5 GiB"],
        ),
    ],
)
def test_gpus_are_counted_and_weighed(tmp_path, monkeypatch, number, gib, words):
    tool = tmp_path / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\ncat <<'END'\n{SMI}END\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    problems = check_gpus(number, gib)
    assert len(problems) == len(words) and all(word in line for word, line in zip(words, problems, strict=True))


@pytest.mark.parametrize(
    ("visible", "number", "words"), [("0,2", 2, []), ("1", 1, ["GPU 1"]), ("0", 2, ["1 GPUs found"])]
)
def test_gpus_that_the_run_does_not_see_may_be_in_use(tmp_path, monkeypatch, visible, number, words):
    tool = tmp_path / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\ncat <<'END'\n{SMI}END\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    problems = check_gpus(number, 20)
    assert len(problems) == len(words) and all(word in line for word, line in zip(words, problems, strict=True))


def test_a_machine_that_does_not_tell_its_gpus_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    (line,) = check_gpus(8, 79)
    assert line.startswith("nvidia-smi does not tell the GPUs")


@pytest.fixture
def model(tmp_path) -> Path:
    """A model's folder with one weight."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "qwen3_vl"}))
    save_file({"lm_head.weight": np.zeros(2, np.float32)}, folder / "model.safetensors")
    return folder


def test_a_whole_model_of_the_family_is_well(model):
    assert check_model(model, "qwen3_vl") == []
    assert check_model(model, "qwen2_5_vl") == [f"{model}/config.json: model_type is 'qwen3_vl', expected 'qwen2_5_vl'"]


def test_a_model_that_is_not_whole_is_named(model):
    weights = model / "model.safetensors"
    save_file({"base_model.model.q_proj.lora_A.default.weight": np.zeros(2, np.float32)}, weights)
    assert check_model(model, None) == [f"{model}: holds LoRA adapters beside the base, expected a merged model"]
    weights.write_bytes(b"x")
    (line,) = check_model(model, None)
    assert line.startswith(f"{model}: its weights cannot be read")
    weights.unlink()
    (line,) = check_model(model, None)
    assert "neither model.safetensors nor model.safetensors.index.json" in line
    index = {"weight_map": {"a": "part-1.safetensors", "b": "part-2.safetensors"}}
    (model / "model.safetensors.index.json").write_text(json.dumps(index))
    (model / "part-1.safetensors").touch()
    assert check_model(model, None) == [
        f"{model}: part-2.safetensors is missing, and model.safetensors.index.json names it"
    ]


def test_everything_wrong_with_a_machine_comes_in_one_list_with_the_rest(run, capsys, monkeypatch, model):
    monkeypatch.setenv("PATH", str(run))
    machine = ("--machine", "gpu", "--gpus", "8", "--host-gib", "1e6", "--free-gib", "1e9", "--model", str(model))
    assert preflight(run, *machine, "--model-family", "qwen2_5_vl", "--tasks", "talk") == 2
    said = capsys.readouterr().err
    for words in ("--tasks: talk", "prompt_tokens", "nvidia-smi", "HOST_GIB", "GiB needed for", "model_type is"):
        assert words in said


@pytest.mark.parametrize(("family", "needed"), [("qwen3_vl", False), ("qwen3_5", True)])
def test_a_family_that_keeps_states_needs_their_kernels(run, capsys, monkeypatch, family, needed):
    """Whatever else is missing here: the set of all families, and for one of them one package more."""
    from importlib.metadata import PackageNotFoundError

    def nothing(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr("recipes.medgrpo.planning.machine.version", nothing)
    assert preflight(run, "--machine", "gpu", "--model-family", family) == 2
    said = capsys.readouterr().err
    assert "flash-attn is not installed" in said
    assert ("flash-linear-attention is not installed" in said) == needed


def test_a_full_disk_is_found_before_the_first_checkpoint(run, capsys):
    assert preflight(run, "--free-gib", "1e9") == 2
    assert "GiB needed" in capsys.readouterr().err


def test_a_broken_tracker_is_repaired(run, capsys):
    (run / "grpo").mkdir()
    (run / "grpo" / TRACKER).write_text("")
    assert preflight(run) == 0
    assert not (run / "grpo" / TRACKER).exists()
    assert "starting from the first step" in capsys.readouterr().err


FULL_ROW = ROW | {"mean": 0.3, "std": 0.1, "min": 0.0, "max": 1.0, "quantiles": [0.2] * 101}


@pytest.mark.parametrize("normalizer", ["logistic", "none", "zscore", "percentile_rank", "minmax", "adaptive"])
def test_statistics_with_every_field_serve_every_normalizer(run, normalizer):
    statistics = json.loads((run / "statistics.json").read_text())
    for signals in statistics["pairs"].values():
        signals |= dict.fromkeys(signals, FULL_ROW)
    (run / "statistics.json").write_text(json.dumps(statistics))
    assert preflight(run, "--normalizer", normalizer) == 0


def test_every_field_that_the_normalizer_needs_is_named(run, capsys):
    assert preflight(run, "--normalizer", "adaptive") == 0
    assert preflight(run, "--normalizer", "zscore") == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 6
    assert all("the normalizer zscore needs it" in line for line in lines)
    assert "medvidbench/JIGSAWS/sa: closeness: std" in lines[-1]


def test_a_row_of_another_pair_breaks_the_reward_too(run, capsys):
    statistics = json.loads((run / "statistics.json").read_text())
    for signals in statistics["pairs"].values():
        signals |= dict.fromkeys(signals, FULL_ROW)
    statistics["pairs"]["medvidbench/Elsewhere/nap"] = {"exact": ROW}
    (run / "statistics.json").write_text(json.dumps(statistics))
    assert preflight(run, "--normalizer", "minmax") == 2
    assert "medvidbench/Elsewhere/nap: exact: min" in capsys.readouterr().err


def test_tasks_that_earn_no_reward_or_raw_rewards_need_no_statistics(run, capsys):
    statistics = json.loads((run / "statistics.json").read_text())
    del statistics["pairs"]["medvidbench/JIGSAWS/sa"]
    (run / "statistics.json").write_text(json.dumps(statistics))
    assert preflight(run) == 2
    assert preflight(run, "--rewarded-tasks", "tal", "stg") == 0
    assert preflight(run, "--normalizer", "none") == 0

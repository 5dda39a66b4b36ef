# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

import itertools

import pytest
from parquet_rows import given_out

from recipes.medgrpo.files import InputError


def test_every_row_of_every_file_draws_its_own_numbers(plugged):
    from recipes.medgrpo.inference.run import row_seed

    keys = list(itertools.product((0, 1), (0, 1, 2), (0, 1), (None, "a.json", "b.json")))
    seeds = {row_seed(*key) for key in keys}
    assert len(seeds) == len(keys) and all(0 <= seed < 2**63 for seed in seeds)


def test_a_row_draws_the_same_numbers_again(plugged):
    from recipes.medgrpo.inference.run import row_seed

    assert row_seed(3, 7, 1, "a.json") == row_seed(3, 7, 1, "a.json")
    # Rows that do not say their file keep the seeds that they always had.
    assert row_seed(3, 7, 1) == row_seed(3, 7, 1, "") == row_seed(3, 7, 1, None)


def test_answers_say_which_file_their_row_is_of(qwen2_5_vl, tmp_path):
    """Two files whose rows have the same numbers, in one parquet: every answer has a key of its own."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from recipes.medgrpo.evaluation.comparison import paired_difference
    from recipes.medgrpo.inference.local_engines import InProcess
    from recipes.medgrpo.inference.scored_samples import sample_and_score
    from recipes.medgrpo.reward_options import signal_settings

    table = pq.read_table(qwen2_5_vl.data / "train.parquet")
    row = next(row for row in given_out(qwen2_5_vl.data / "train.parquet") if row["ability"] == "tal")
    rows = [{**row, "extra_info": {**row["extra_info"], "file": name}} for name in ("a.json", "b.json")]
    pq.write_table(pa.Table.from_pylist(rows, table.schema), tmp_path / "rows.parquet")
    records = sample_and_score(
        str(tmp_path / "rows.parquet"),
        tmp_path / "answers.jsonl",
        engine=InProcess(str(qwen2_5_vl.path), "cpu", 1.0),
        samples=2,
        max_new_tokens=4,
        scoring=signal_settings(),
    )
    assert [(record["file"], record["sample"]) for record in records] == [
        *(("a.json", 0), ("a.json", 1), ("b.json", 0), ("b.json", 1))
    ]
    assert paired_difference([(records, records)])["acc_change"] == 0


def test_answers_outlive_the_reward_that_scored_them(qwen2_5_vl, tmp_path):
    """Another reward's scores are worked out anew, whole file or part of one, and nothing is sampled again."""
    import json

    from recipes.medgrpo.files import read_json_lines
    from recipes.medgrpo.inference.answer_log import partial_of
    from recipes.medgrpo.inference.local_engines import InProcess
    from recipes.medgrpo.inference.scored_samples import sample_and_score
    from recipes.medgrpo.reward_options import signal_settings

    file = tmp_path / "answers.jsonl"

    def sampled():
        return sample_and_score(
            str(qwen2_5_vl.data / "val.parquet"),
            file,
            engine=InProcess(str(qwen2_5_vl.path), "cpu", 1.0),
            samples=1,
            rows_per_pair=1,
            max_new_tokens=4,
            tasks=["tal", "stg"],
            scoring=signal_settings(),
        )

    first = sampled()
    assert first == read_json_lines(file)[1:] == sampled()
    boxes = next(record for record in first if record["data_source"].endswith("/stg"))
    assert set(boxes["box_space"]) == {"canvas", "processed_size", "model_family"}

    header, *records = read_json_lines(file)
    header["header"]["code"] = "of another day"
    at = next(number for number, record in enumerate(records) if record["data_source"].endswith("/tal"))
    for record in records:
        record.update(acc=9.0, raw_gone=1.0)
    records[at]["answer"] = "0.0-5.0 seconds."
    lines = [json.dumps(line) + "\n" for line in (header, *records)]

    file.write_text("".join(lines))
    again = sampled()
    assert [record["answer"] for record in again] == [record["answer"] for record in records]
    assert again[at]["format"] == 1.0 and all(record["acc"] <= 1 and "raw_gone" not in record for record in again)
    assert [r for n, r in enumerate(again) if n != at] == [r for n, r in enumerate(first) if n != at]
    assert read_json_lines(file)[0]["header"]["code"] != "of another day"

    # Answers of another model are not overwritten.
    header["header"]["model"] = "another"
    file.write_text("".join(json.dumps(line) + "\n" for line in (header, *records)))
    assert sampled() == first
    former = file.with_name("answers.former.jsonl")
    assert read_json_lines(former)[0]["header"]["model"] == "another"

    # Killed half-way: what is there is scored anew and kept, the rest is sampled.
    file.unlink()
    partial_of(file).write_text("".join(lines[: at + 2]))
    assert sampled()[: at + 1] == again[: at + 1] and read_json_lines(file)[1:][at + 1 :] == first[at + 1 :]
    assert not partial_of(file).exists()


def arguments(*more):
    import argparse

    from recipes.medgrpo.inference.sampling_options import add_sampling_arguments

    parser = argparse.ArgumentParser()
    add_sampling_arguments(parser)
    return parser.parse_args(["--model", "/model", "--data", "val.parquet", *more])


def test_the_command_line_names_the_engine(plugged, monkeypatch):
    from recipes.medgrpo.inference.sampling_options import sampling_of

    monkeypatch.setenv("VERL_PLATFORM", "cpu")
    plain = sampling_of(arguments())["engine"]
    assert (plain.described["name"], plain.device, plain.temperature) == ("transformers", "cpu", 1.0)
    asked = arguments("--engine", "rollout", "--override", "actor_rollout_ref.rollout.top_k=7")
    servers = sampling_of(asked)["engine"].servers
    assert (servers.model, servers.config_name, servers.truncation["top_k"]) == ("/model", "medgrpo_cpu", 7)
    made = sampling_of(arguments("--engine", "rollout", "--config", "medgrpo_gpu"))["engine"]
    assert made.servers.rollout.name == "vllm"


def test_settings_of_servers_without_servers_are_refused(plugged):
    from recipes.medgrpo.inference.sampling_options import sampling_of

    with pytest.raises(InputError, match="^--config, --override: expected together with --engine rollout$"):
        sampling_of(arguments("--config", "medgrpo_gpu"))

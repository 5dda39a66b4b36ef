# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

import asyncio
import json
import pickle
import re
from collections import Counter

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from omegaconf import OmegaConf

from recipes.medgrpo.data.families import FAMILIES
from recipes.medgrpo.data.rows import DataError
from recipes.medgrpo.data.schedule import quotas


@pytest.fixture
def dataset(plugged):
    """The module, imported as verl imports it: after the plugin."""
    from recipes.medgrpo.data import dataset

    return dataset


def prompts(family, split="train", max_samples=-1, **data):
    from recipes.medgrpo.data.dataset import MedVidDataset

    template = FAMILIES[family.name].convention.template
    given = {"train_batch_size": 23, "max_prompt_length": 1024, "apply_chat_template_kwargs": template, **data}
    config = OmegaConf.create(given)
    file = str(family.data / f"{split}.parquet")
    return MedVidDataset(file, family.processor.tokenizer, config, family.processor, max_samples)


def in_file(folder, split) -> list[dict]:
    """The rows of a parquet file, as the dataset gives them out: with the places of their frames, and their own."""
    rows = pq.read_table(folder / f"{split}.parquet").to_pylist()
    for number, row in enumerate(rows):
        for video in row["videos"]:
            video["video"] = [str(folder / path) for path in video["video"]]
            video["listed_in"] = f"{folder}/{split}.parquet: row {number}"
    return rows


def with_lengths(family, path, lengths) -> str:
    rows = pq.read_table(family.data / "train.parquet").slice(0, len(lengths)).to_pylist()
    for row, length in zip(rows, lengths, strict=True):
        row["extra_info"]["prompt_tokens"] = length
    pq.write_table(pa.Table.from_pylist(rows), path)
    return str(path)


def test_only_the_named_tasks_are_read(dataset, qwen2_5_vl):
    table = dataset.read_rows(str(qwen2_5_vl.data / "train.parquet"), ["tal", "sa"])
    assert set(table.column("ability")) == {"tal", "sa"}


def test_a_task_that_no_row_has_is_an_error(dataset, qwen2_5_vl):
    with pytest.raises(dataset.DataError, match="sgt"):
        dataset.read_rows(str(qwen2_5_vl.data / "train.parquet"), ["sgt"])


def test_a_misspelt_task_among_good_ones_is_an_error(dataset, qwen2_5_vl):
    with pytest.raises(dataset.DataError, match="sgt"):
        dataset.read_rows(str(qwen2_5_vl.data / "train.parquet"), ["tal", "sgt"])


def test_rows_known_to_be_too_long_are_left_out(dataset, qwen2_5_vl, tmp_path):
    file = with_lengths(qwen2_5_vl, tmp_path / "rows.parquet", [100, 101, None, 99])
    table = dataset.read_rows(file, max_tokens=100)
    assert [row["extra_info"]["prompt_tokens"] for row in table.to_pylist()] == [100, None, 99]
    assert dataset.read_rows(file).num_rows == 4
    with pytest.raises(dataset.DataError, match="no row left"):
        dataset.read_rows(with_lengths(qwen2_5_vl, tmp_path / "long.parquet", [9, 9]), max_tokens=8)


def test_several_files_are_one_table(dataset, qwen2_5_vl):
    files = [str(qwen2_5_vl.data / f"{split}.parquet") for split in ("train", "val")]
    assert dataset.read_rows(files).num_rows == sum(pq.read_metadata(file).num_rows for file in files)


def test_a_row_is_read_from_its_row_group_in_whichever_process(dataset, qwen2_5_vl, tmp_path):
    table = pq.read_table(qwen2_5_vl.data / "train.parquet")
    files = [str(tmp_path / name) for name in ("a.parquet", "b.parquet")]
    pq.write_table(table.slice(0, 11), files[0], row_group_size=2)
    pq.write_table(table.slice(11), files[1], row_group_size=3)
    rows, expected = dataset.read_rows(files), table.to_pylist()
    for number, row in enumerate(expected):
        (video,) = row["videos"]
        video["video"] = [str(tmp_path / path) for path in video["video"]]
        video["listed_in"] = f"{files[number >= 11]}: row {number - 11 * (number >= 11)}"
    order = [12, 0, 11, 10, len(expected) - 1, 1]
    assert [rows.row(place) for place in order] == [expected[place] for place in order]
    again = pickle.loads(pickle.dumps(rows.take(order)))
    assert again.to_pylist() == [expected[place] for place in order]
    assert again.column("data_source") == [expected[place]["data_source"] for place in order]


def test_opening_reads_no_frame_list(dataset, qwen2_5_vl, tmp_path):
    """What is not needed to choose rows may even be broken until it is asked for."""
    source = qwen2_5_vl.data / "train.parquet"
    column = next(
        column
        for k in range(pq.read_metadata(source).num_columns)
        if (column := pq.read_metadata(source).row_group(0).column(k)).path_in_schema.startswith("videos.")
    )
    content = bytearray(source.read_bytes())
    start = column.dictionary_page_offset or column.data_page_offset
    content[start : start + column.total_compressed_size] = bytes(column.total_compressed_size)
    (tmp_path / "broken.parquet").write_bytes(content)
    rows = dataset.read_rows(str(tmp_path / "broken.parquet"))
    assert len(rows) == pq.read_metadata(source).num_rows
    with pytest.raises(dataset.DataError, match="broken.parquet: cannot read row group 0"):
        rows.row(0)


def test_a_dataset_travels_to_another_process(qwen2_5_vl):
    data = prompts(qwen2_5_vl, "val")
    data[0]
    state = data.__getstate__()
    assert pickle.loads(pickle.dumps(state["dataframe"])).row(2) == data.dataframe.row(2)
    assert len(pickle.dumps(state["dataframe"])) < 100_000


def test_qwen2_5_vl_is_not_given_times_that_it_cannot_be_told(dataset):
    row = {
        "prompt": [{"role": "user", "content": "<video>When?"}],
        "videos": [{"video": ["a", "b"], "sample_fps": 1.0, "frame_seconds": [0.0, 5.0]}],
        "extra_info": {"index": 7, "model_family": "qwen2_5_vl"},
    }
    with pytest.raises(dataset.DataError, match="row 7: videos.frame_seconds"):
        dataset.chat_of(row)
    chat = dataset.chat_of({**row, "extra_info": {"index": 7, "model_family": "qwen3_vl"}})
    assert chat[0]["content"][0]["frame_seconds"] == [0.0, 5.0]


def test_a_file_that_is_no_parquet_of_ours_is_named(dataset, tmp_path):
    (tmp_path / "text.parquet").write_text("not a parquet")
    pq.write_table(pa.table({"x": [1]}), tmp_path / "other.parquet")
    for name, words in (("absent", "cannot be read"), ("text", "cannot be read"), ("other", "data_source")):
        with pytest.raises(dataset.DataError, match=rf"{name}\.parquet: .*{words}"):
            dataset.read_rows(str(tmp_path / f"{name}.parquet"))


def test_marks_become_videos_in_order(dataset):
    chat = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "<video>\nand <video>?"}]
    assert dataset.split_content(chat, [{"video": ["a"]}, {"video": ["b"]}]) == [
        {"role": "system", "content": [{"type": "text", "text": "Be brief."}]},
        {
            "role": "user",
            "content": [
                {"type": "video", "video": ["a"]},
                {"type": "text", "text": "\nand "},
                {"type": "video", "video": ["b"]},
                {"type": "text", "text": "?"},
            ],
        },
    ]


@pytest.mark.parametrize(
    "text, videos",
    [
        ("<video>", 2),
        ("none", 1),
        ("<video> <video>", 1),
        ("<video>", 0),
    ],
)
def test_marks_and_videos_have_to_match(dataset, text, videos):
    with pytest.raises(dataset.DataError, match="<video>"):
        dataset.split_content([{"role": "user", "content": text}], [{"video": ["a"]}] * videos)


def test_every_training_batch_is_balanced(qwen2_5_vl):
    from torch.utils.data import DataLoader
    from verl.utils.dataset.rl_dataset import collate_fn

    data = prompts(qwen2_5_vl, train_batch_size=25, medgrpo={"steps": 3, "seed": 1})
    assert len(data) == 75
    sources = data.dataframe.column("data_source")
    for batch in DataLoader(data, batch_size=25, shuffle=False, collate_fn=collate_fn):
        assert Counter(batch["data_source"]) == quotas(sources, 25)
        assert {"raw_prompt", "reward_model", "extra_info", "index"} <= batch.keys()


def test_the_schedule_follows_its_settings(qwen2_5_vl):
    def order(**options):
        return prompts(qwen2_5_vl, medgrpo=options).order.tolist()

    assert order(steps=2, seed=1) == order(steps=4, seed=1)[:46]
    assert order(steps=2, seed=1) != order(steps=2, seed=2)
    assert len(order()) == prompts(qwen2_5_vl).dataframe.num_rows // 23 * 23


def test_training_on_a_subset_shows_the_same_rows_again(qwen2_5_vl):
    data = prompts(qwen2_5_vl, medgrpo={"rows_per_pair": 1, "steps": 3})
    assert len({data[k]["index"] for k in range(len(data))}) == data.dataframe.num_rows == 23


def test_the_mix_may_be_what_the_training_has_learnt(qwen2_5_vl, tmp_path):
    (tmp_path / "step_1.json").write_text(json.dumps({"mix": {"tal": 3.0, "stg": 1.0}, "prompts": 46}))
    options = {"mix": "learnt", "learnt_from": str(tmp_path), "steps": 2}
    found = prompts(qwen2_5_vl, train_batch_size=46, medgrpo=options)
    steps = [[found[at]["ability"] for at in range(start, start + 46)] for start in (0, 46)]
    with pytest.raises(DataError, match="mix=learnt: expected a number of steps"):
        prompts(qwen2_5_vl, train_batch_size=46, medgrpo=options | {"steps": None})
    assert len(found) == 92 and steps[1].count("tal") > 1.5 * steps[0].count("tal")


def test_held_out_rows_come_in_file_order(qwen2_5_vl):
    data = prompts(qwen2_5_vl, "val", medgrpo={"steps": 9})
    file = pq.read_table(qwen2_5_vl.data / "val.parquet").to_pylist()
    assert [data[k]["index"] for k in range(len(data))] == [row["extra_info"]["index"] for row in file]
    assert len(prompts(qwen2_5_vl, "val", max_samples=5)) == 5


def test_an_item_is_what_the_row_says(qwen2_5_vl):
    item = prompts(qwen2_5_vl, "val")[3]
    row = in_file(qwen2_5_vl.data, "val")[3]
    video, text = item["raw_prompt"][-1]["content"]
    assert video == {"type": "video", **row["videos"][0]}
    assert "<video>" + text["text"] == row["prompt"][-1]["content"]
    for name in ("data_source", "ability", "reward_model", "extra_info"):
        assert item[name] == row[name]


def test_verl_is_handed_the_clips(dataset, qwen2_5_vl):
    chat = qwen2_5_vl.messages(0)
    images, videos, audios = asyncio.run(dataset.MedVidDataset.process_multi_modal_info(chat, 14, None))
    assert images is None and audios is None
    frames, metadata = videos[0]
    expected = chat[-1]["content"][0]
    assert tuple(frames.shape[2:]) == (expected["resized_height"], expected["resized_width"])
    assert metadata["fps"] == expected["sample_fps"]
    text = [{"role": "user", "content": [{"type": "text", "text": "no clip"}]}]
    assert asyncio.run(dataset.MedVidDataset.process_multi_modal_info(text, 14, None)) == (None, None, None)


def answers(family, split="train", **config):
    from recipes.medgrpo.data.dataset import MedVidSFTDataset

    config = OmegaConf.create({"max_length": 1024, **config})
    return MedVidSFTDataset(
        [str(family.data / f"{split}.parquet")], family.processor.tokenizer, config, family.processor
    )


def test_sft_continues_the_prompt_of_rl_with_the_reference_answer(family):
    data = answers(family)
    for row in (0, 9, 20):
        item, request = data[row], family.request(row)
        prompt = len(request.prompt_ids)
        assert item["input_ids"][:prompt].tolist() == request.prompt_ids
        reference = data.rows.row(row)["extra_info"]["answer"]
        assert family.processor.tokenizer.decode(item["input_ids"][prompt:]) == f"{reference}<|im_end|>\n"
        # Learned: the answer and its end, neither the prompt nor the line break after it.
        assert item["loss_mask"].tolist() == [0] * prompt + [1] * (len(item["input_ids"]) - prompt - 1) + [0]


def test_sft_shows_the_frames_and_places_of_rl(family):
    item, request = answers(family)[0], family.request(0)
    answer = item["input_ids"][len(request.prompt_ids) :].tolist()
    _, positions, inputs = family.actor_inputs(request, answer)
    assert torch.equal(item["position_ids"], positions)
    for name in ("pixel_values_videos", "video_grid_thw"):
        assert torch.equal(item["multi_modal_inputs"][name], inputs[name])


def test_sft_keeps_no_clip_that_it_has_shown(qwen2_5_vl, monkeypatch):
    """An epoch shows a clip once: what every data loader's worker kept would be memory lost."""
    from recipes.medgrpo.data import processing, video

    clips, vision = video.ClipCache(), processing.VisionCache()
    monkeypatch.setattr(video, "_CACHE", clips)
    processing.install(vision)
    try:
        data = answers(qwen2_5_vl)
        for row in range(3):
            assert len(data[row]["multi_modal_inputs"]["pixel_values_videos"])
    finally:
        processing.install()
    assert vision.runs == 3 and len(vision._slots) == 0
    assert clips.decodes == 0


def test_sft_counts_what_is_too_long_and_says_which(dataset, qwen2_5_vl):
    data = answers(qwen2_5_vl, max_length=20)
    index = data.rows.row(2)["extra_info"]["index"]
    with pytest.raises(dataset.DataError, match=rf"row {index}: \d+ tokens, data.max_length is 20"):
        data[2]


def test_sft_on_fewer_rows_than_a_batch_is_one_line(dataset, qwen2_5_vl):
    """Of what is trained on; held-out rows may be few."""
    train, val = (str(qwen2_5_vl.data / f"{split}.parquet") for split in ("train", "val"))
    config = OmegaConf.create({"max_length": 1024, "train_batch_size": 10_000, "train_files": [train]})
    rows = pq.read_metadata(train).num_rows
    with pytest.raises(DataError, match=f"train.parquet: {rows} rows, expected at least a batch of 10000"):
        dataset.MedVidSFTDataset([train], qwen2_5_vl.processor.tokenizer, config, qwen2_5_vl.processor)
    assert len(dataset.MedVidSFTDataset(val, qwen2_5_vl.processor.tokenizer, config, qwen2_5_vl.processor)) > 0


def test_sft_trains_on_the_named_tasks(qwen2_5_vl):
    data = answers(qwen2_5_vl, medgrpo={"tasks": ["sa"]})
    assert set(data.rows.column("ability")) == {"sa"} and len(data) == len(data.rows)


def test_verl_renders_prompts_as_all_other_rooms_do(dataset, family):
    """verl's agent loop takes what a template is told from the configuration alone."""
    other = {} if FAMILIES[family.name].convention.thinks else {"enable_thinking": False}
    expected = re.escape(str(FAMILIES[family.name].convention.template))
    with pytest.raises(dataset.DataError, match=f"apply_chat_template_kwargs: expected {expected} for {family.name}"):
        prompts(family, apply_chat_template_kwargs=other)

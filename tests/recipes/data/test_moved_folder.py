# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""A data folder that is moved and renamed gives the trainers the same tensors, and says what is missing where."""

import os
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from omegaconf import OmegaConf


def shown(family, folder, rows) -> list:
    """What some rows become: the rollout's and the policy's frames (PPO), and every tensor of the SFT trainer."""
    from recipes.medgrpo.data.dataset import MedVidDataset, MedVidSFTDataset
    from recipes.medgrpo.data.families import family_of
    from recipes.medgrpo.data.video import ClipCache, clips_of

    tokenizer, processor = family.processor.tokenizer, family.processor
    val, train = str(folder / "val.parquet"), str(folder / "train.parquet")
    data = {"max_prompt_length": 1024, "apply_chat_template_kwargs": family_of(processor).convention.template}
    ppo = MedVidDataset(val, tokenizer, OmegaConf.create(data), processor)
    sft = MedVidSFTDataset([train], tokenizer, OmegaConf.create({"max_length": 1024}), processor)
    found = []
    for row in rows:
        item, learned = ppo[row], sft[row]
        # A cache of its own: frames of the folder before the move must not be handed out again.
        ((frames, metadata),) = clips_of(item["raw_prompt"], ClipCache())
        inputs = learned.pop("multi_modal_inputs")
        found.append([item["index"], metadata, frames, *learned.values(), *inputs.values()])
    return found


def same(one, other) -> bool:
    return torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other


@pytest.fixture
def data(family, tmp_path):
    """A copy of the family's data, so that moving it disturbs nobody."""
    shutil.copytree(family.data, tmp_path / "made here/DATA")
    return tmp_path / "made here/DATA"


def test_a_moved_folder_gives_both_trainers_the_same_tensors(family, data, tmp_path, monkeypatch):
    before = shown(family, data, (0, 3, 7))
    moved = tmp_path / "cluster/renamed"
    moved.parent.mkdir()
    os.rename(data, moved)
    # A trainer's workers stand anywhere, and a path of the command line may be relative.
    monkeypatch.chdir(moved.parent)
    for folder in (moved, moved.relative_to(moved.parent)):
        after = shown(family, folder, (0, 3, 7))
        for one, other in zip(before, after, strict=True):
            assert all(same(a, b) for a, b in zip(one, other, strict=True))


def test_calibration_answers_alike_from_a_moved_folder(qwen2_5_vl, tmp_path):
    from recipes.medgrpo.inference.local_engines import InProcess
    from recipes.medgrpo.inference.scored_samples import sample_and_score
    from recipes.medgrpo.reward_options import signal_settings

    def answers(folder, name):
        settings = {"samples": 1, "max_new_tokens": 4, "tasks": ["cvs"], "scoring": signal_settings()}
        engine = InProcess(str(qwen2_5_vl.path), "cpu", 1.0)
        return sample_and_score(str(folder / "train.parquet"), tmp_path / name, engine=engine, **settings)

    shutil.copytree(qwen2_5_vl.data, tmp_path / "DATA")
    before = answers(tmp_path / "DATA", "before.jsonl")
    os.rename(tmp_path / "DATA", tmp_path / "renamed")
    assert answers(tmp_path / "renamed", "after.jsonl") == before
    # What was sampled before the move is kept: the file's content is what counts, not its place.
    whole = (tmp_path / "before.jsonl").read_bytes()
    assert answers(tmp_path / "renamed", "before.jsonl") == before
    assert (tmp_path / "before.jsonl").read_bytes() == whole


def test_a_copy_in_memory_of_the_parquet_shows_the_frames_beside_the_original(qwen2_5_vl, monkeypatch, tmp_path):
    """With `data.use_shm` verl reads a copy of the parquet, which has no frames beside it."""
    from recipes.medgrpo.data.dataset import MedVidDataset
    from recipes.medgrpo.data.video import ClipCache, clips_of

    def copied(src, **_):
        return str(shutil.copy(src, tmp_path / "copy.parquet"))

    monkeypatch.setattr("verl.utils.fs.copy_to_local", copied)
    file = str(qwen2_5_vl.data / "val.parquet")
    config = OmegaConf.create({"max_prompt_length": 1024, "use_shm": True})
    ppo = MedVidDataset(file, qwen2_5_vl.processor.tokenizer, config, qwen2_5_vl.processor)
    assert ppo.data_files == [str(tmp_path / "copy.parquet")] and clips_of(ppo[0]["raw_prompt"], ClipCache())


def test_frames_that_were_left_behind_are_named_with_row_and_parquet(qwen2_5_vl, tmp_path):
    """A parquet file that is copied without its frames."""
    from recipes.medgrpo.data.dataset import MedVidDataset
    from recipes.medgrpo.data.video import FrameReadError, clips_of

    file = shutil.copy(qwen2_5_vl.data / "val.parquet", tmp_path / "val.parquet")
    config = OmegaConf.create({"max_prompt_length": 1024})
    ppo = MedVidDataset(str(file), qwen2_5_vl.processor.tokenizer, config, qwen2_5_vl.processor)
    item = ppo[4]
    first = pq.read_table(file).slice(4, 1).to_pylist()[0]["videos"][0]["video"][0]
    with pytest.raises(FrameReadError) as caught:
        clips_of(item["raw_prompt"])
    said = str(caught.value)
    assert said.startswith(f"{tmp_path}/{first}: cannot read this frame: ") and "\n" not in said
    assert said.endswith(f"(listed in {tmp_path}/val.parquet: row 4)")


def test_a_frame_without_a_path_is_named_with_row_and_parquet(qwen2_5_vl, tmp_path):
    import pyarrow as pa

    from recipes.medgrpo.data.rows import DataError, Rows

    table = pq.read_table(qwen2_5_vl.data / "val.parquet")
    rows = table.to_pylist()[:3]
    rows[2]["videos"][0]["video"][1] = ""
    pq.write_table(pa.Table.from_pylist(rows, table.schema), tmp_path / "val.parquet")
    with pytest.raises(DataError, match=r"val\.parquet: row 2: videos\.video: expected the path of each frame"):
        Rows.open([str(tmp_path / "val.parquet")]).row(2)


def test_absolute_paths_are_what_verls_own_dataset_class_reads(qwen2_5_vl, synthetic_data, tmp_path):
    """With `--absolute-frame-paths`, from any working directory; without it verl finds no frame."""
    from verl.utils.dataset.rl_dataset import RLHFDataset

    from data_preprocess.medvidbench import main

    raw = synthetic_data["qwen2_5_vl"].parent / "raw"
    where = ("--annotations", raw / "train_annotations.json", "--frames-root", raw / "frames", "--tasks", "nap")
    size = ("--min-pixels", "3136", "--max-pixels", "6272", "--val-fraction", "0", "--workers", "1")
    config = OmegaConf.create({"filter_overlong_prompts": False, "cache_dir": str(tmp_path / "cache")})
    for options, works in ((("--absolute-frame-paths",), True), ((), False)):
        output = tmp_path / f"works {works}"
        assert main([*map(str, where), *size, "--output", str(output), *options]) == 0
        file = str(output / "train.parquet")
        data = RLHFDataset(file, qwen2_5_vl.processor.tokenizer, config, qwen2_5_vl.processor)
        messages = data[0]["raw_prompt"]
        if works:
            _, videos, _ = RLHFDataset._process_multi_modal_info(messages, 14, config)
            assert len(videos) == 1
        else:
            with pytest.raises(FileNotFoundError):
                RLHFDataset._process_multi_modal_info(messages, 14, config)


@pytest.mark.parametrize("text", [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())])
def test_a_parquet_of_another_writer_is_read_beside_ours(tmp_path, text):
    from recipes.medgrpo.data.rows import DataError, Rows

    extra = pa.array([{"split": "train", "prompt_tokens": 9}])
    clip = pa.array([[{"video": ["/x.jpg"]}]])

    def write(name, kind, extra):
        pair = pa.array(["medvidbench/AVOS/tal"]).cast(kind)
        table = pa.table(
            {"data_source": pair, "ability": pa.array(["tal"]).cast(kind), "extra_info": extra, "videos": clip}
        )
        pq.write_table(table, tmp_path / name)
        return str(tmp_path / name)

    ours, other = write("ours.parquet", pa.string(), extra), write("other.parquet", text, extra)
    rows = Rows.open([ours, other])
    assert rows.column("data_source") == ["medvidbench/AVOS/tal"] * 2 and rows.column("prompt_tokens") == [9, 9]
    assert rows.row(1)["ability"] == "tal"
    for broken in (pa.array([{"split": {"x": 1}}]), pa.array([{"prompt_tokens": "many"}])):
        with pytest.raises(DataError, match=r"broken\.parquet: .*expected the"):
            Rows.open([ours, write("broken.parquet", text, broken)])

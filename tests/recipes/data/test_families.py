# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""What differs between model families stands in one place, and is what transformers does."""

from contextlib import contextmanager

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from omegaconf import OmegaConf
from parquet_rows import given_out

from recipes.medgrpo.data.families import FAMILIES, Family, family_of
from reward_score.conventions import CONVENTIONS

# Bounds in pixels of the released checkpoints' processors: of a frame (Qwen2.5-VL), of a clip (the others).
RELEASED = {"qwen2_5_vl": (3136, 12845056), "qwen3_vl": (4096, 25165824), "qwen3_5": (4096, 25165824)}


def video_processor(name: str, low: int, high: int):
    size = {"shortest_edge": low, "longest_edge": high}
    family = FAMILIES[name]
    return family.from_transformers("video_processor")(size=size, patch_size=family.convention.patch_size)


def test_every_room_knows_the_same_families():
    assert list(FAMILIES) == list(CONVENTIONS)


def test_a_family_is_found_by_type_configuration_or_processor(family):
    expected = FAMILIES[family.name]
    for what in (family.name, family.engine.model.config, family.processor):
        assert family_of(what) is expected
    assert family.engine.model.config.vision_config.patch_size == expected.convention.patch_size
    assert family.processor.video_processor.patch_size == expected.convention.patch_size


@pytest.mark.parametrize("what", ["llava", object()])
def test_an_unknown_family_is_refused_by_name(what):
    with pytest.raises(
        ValueError, match="model family '(llava|object)', expected one of qwen2_5_vl, qwen3_vl, qwen3_5"
    ):
        family_of(what)


def test_another_family_would_have_to_say_all_of_this():
    for family in FAMILIES.values():
        # What a class takes over from another family's is said there.
        own = [kind for kind in type(family).__mro__ if kind not in Family.__mro__]
        said = {name for kind in own for name in vars(kind)} | set(vars(family.convention))
        assert set(Family.__annotations__) | {"vision_positions", "size_seen"} <= said


# Released bounds leave the preprocessor's sizes alone; the others make larger, or smaller as a clip gets longer.
SEEN = [
    ("qwen2_5_vl", RELEASED["qwen2_5_vl"], 180, (252, 140), (252, 140)),
    ("qwen2_5_vl", (100352, 602112), 2, (252, 140), (448, 252)),
    ("qwen2_5_vl", (784, 6272), 2, (252, 140), (84, 56)),
    ("qwen3_vl", RELEASED["qwen3_vl"], 180, (256, 128), (256, 128)),
    ("qwen3_vl", (4096, 32768 * 8), 8, (256, 128), (256, 128)),
    ("qwen3_vl", (4096, 32768 * 8), 12, (256, 128), (192, 96)),
    ("qwen3_vl", (128 * 1024, 768 * 1024), 2, (256, 128), (384, 192)),
    ("qwen3_5", RELEASED["qwen3_5"], 180, (256, 128), (256, 128)),
    ("qwen3_5", (4096, 32768 * 8), 12, (256, 128), (192, 96)),
]


@pytest.mark.parametrize("name, bounds, frames, size, expected", SEEN)
def test_the_size_that_a_model_sees_is_known_without_a_picture(plugged, name, bounds, frames, size, expected):
    processor = video_processor(name, *bounds)
    family = FAMILIES[name]
    assert family.size_seen(processor, frames, size) == expected
    if frames < 100:  # and it is the size that the processor makes
        clip = torch.zeros(frames, 3, size[1], size[0], dtype=torch.uint8)
        out = processor(videos=[clip], do_sample_frames=False, return_tensors="pt")
        _, rows, columns = out["video_grid_thw"][0].tolist()
        assert (columns * family.convention.patch_size, rows * family.convention.patch_size) == expected
    if expected == size:
        family.check_size(processor, frames, size)
    else:
        with pytest.raises(ValueError, match=f"of {size[0]}x{size[1]} would be shown as {expected[0]}x{expected[1]}"):
            family.check_size(processor, frames, size)


@contextmanager
def resizing(processor):
    """A processor that enlarges, as one with transformers' default bounds does."""
    video = processor.video_processor
    size, video.size = video.size, video_processor(family_of(processor).name, 128 * 1024, 1024 * 1024).size
    try:
        yield
    finally:
        video.size = size


def datasets(family, file):
    from recipes.medgrpo.data.dataset import MedVidDataset, MedVidSFTDataset

    tokenizer = family.processor.tokenizer
    prompts = OmegaConf.create({"train_batch_size": 23, "max_prompt_length": 1024})
    answers = OmegaConf.create({"max_length": 1024})
    prompts.apply_chat_template_kwargs = FAMILIES[family.name].convention.template
    yield MedVidDataset(str(file), tokenizer, prompts, family.processor, -1)
    yield MedVidSFTDataset([str(file)], tokenizer, answers, family.processor)


def test_a_processor_that_would_resize_stops_training_and_sampling(family):
    from recipes.medgrpo.data.rows import DataError
    from recipes.medgrpo.data.video import clips_of

    for data in datasets(family, family.data / "val.parquet"):
        data[0]
        with resizing(family.processor), pytest.raises(DataError, match=r"row \d+: \d+ frames of .* would be shown as"):
            data[0]
    engine, messages = family.engine, family.messages(0)
    clips = clips_of(messages)
    with resizing(engine.processor), pytest.raises(ValueError, match="would be shown as"):
        engine.prompt_ids(messages, clips)
    assert engine.prompt_ids(messages, clips)


def test_rows_of_another_family_are_refused(qwen2_5_vl, qwen3_vl, qwen3_5):
    from recipes.medgrpo.data.rows import DataError

    # The last two have the same processor, and the same frames and boxes: only prompts differ.
    for model, rows in ((qwen2_5_vl, qwen3_vl), (qwen3_vl, qwen2_5_vl), (qwen3_5, qwen3_vl), (qwen3_vl, qwen3_5)):
        for data in datasets(model, rows.data / "val.parquet"):
            with pytest.raises(DataError, match=f"made for {rows.name}, the model is {model.name}"):
                data[0]


def test_a_region_that_is_not_drawn_is_not_asked_about(qwen2_5_vl, tmp_path):
    from recipes.medgrpo.data.rows import DataError

    rows = [row for row in given_out(qwen2_5_vl.data / "train.parquet") if row["ability"] == "rc"]
    rows[1]["extra_info"]["flags"] = ["box_not_drawn"]
    rows = rows[:2]
    for row in rows:
        row["extra_info"]["split"] = "val"
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet")
    for data in datasets(qwen2_5_vl, tmp_path / "rows.parquet"):
        data[0]
        with pytest.raises(DataError, match=f"row {rows[1]['extra_info']['index']}: the region .* is not drawn"):
            data[1]

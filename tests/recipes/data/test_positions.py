# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""Every part of the stack must tell the model the same, true times."""

import re
import types
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from parquet_rows import given_out

from recipes.medgrpo.data.positions import rope_index, sequence_positions, temporal_positions

RATES = [0.1, 0.5, 0.75, 1.0, 2.0, 3.0]
FRAMES = 12
TEXT, IMAGE, VIDEO = 0, 1, 2


def true_times(fps: float, frames: int = FRAMES) -> list[int]:
    """floor(seconds * 2) of each pair of frames, in exact arithmetic."""
    step = 2 / Fraction(str(fps)) * 2
    return [int(k * step) for k in range(-(-frames // 2))]


def times_of(family, ids: torch.Tensor, positions: torch.Tensor) -> list[int]:
    """Temporal positions of a clip's patches, from its first, of (4, n) positions."""
    axis = positions[1][family.on_frames(ids)]
    return torch.unique_consecutive(axis - axis[0]).tolist()


@pytest.mark.parametrize("fps", RATES)
def test_actor_and_rollout_place_frames_at_their_true_times(qwen2_5_vl, fps):
    request = qwen2_5_vl.request(frames=FRAMES, fps=fps)
    ids, actor, _ = qwen2_5_vl.actor_inputs(request)
    assert times_of(qwen2_5_vl, ids[0], actor) == true_times(fps)
    assert torch.equal(qwen2_5_vl.rollout_positions(request), actor)


@pytest.mark.parametrize("fps", RATES)
def test_sft_places_frames_where_the_actor_does(qwen2_5_vl, tmp_path, fps):
    import pyarrow as pa
    import pyarrow.parquet as pq
    from omegaconf import OmegaConf

    from recipes.medgrpo.data.dataset import MedVidSFTDataset

    rows = given_out(qwen2_5_vl.data / "train.parquet")[:1]
    rows[0]["videos"][0]["sample_fps"] = fps
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "row.parquet")
    config = OmegaConf.create({"max_length": 1024})
    dataset = MedVidSFTDataset(
        str(tmp_path / "row.parquet"), qwen2_5_vl.processor.tokenizer, config, qwen2_5_vl.processor
    )
    request = qwen2_5_vl.request(fps=fps)
    prompt = len(request.prompt_ids)
    item = dataset[0]
    assert item["input_ids"][:prompt].tolist() == request.prompt_ids
    _, actor, _ = qwen2_5_vl.actor_inputs(request, item["input_ids"][prompt:].tolist())
    assert torch.equal(item["position_ids"], actor)


@pytest.mark.parametrize("fps", RATES)
def test_text_goes_on_after_the_largest_position_of_the_clip(qwen2_5_vl, fps):
    ids, positions, _ = qwen2_5_vl.actor_inputs(qwen2_5_vl.request(frames=FRAMES, fps=fps))
    frames = qwen2_5_vl.on_frames(ids[0])
    after = int(frames.nonzero().max()) + 1
    assert positions[1:, after].tolist() == [int(positions[1:, frames].max()) + 1] * 3
    assert positions[0].tolist() == list(range(ids.shape[1]))


@pytest.mark.parametrize("fps", [0.5, 0.75, 3.0])
def test_without_the_replacement_frames_stand_elsewhere(qwen2_5_vl, untouched_rope_index, fps):
    request = qwen2_5_vl.request(frames=FRAMES, fps=fps)
    ids = torch.tensor([request.prompt_ids])
    grids = qwen2_5_vl.engine._vision(request.videos)["video_grid_thw"]
    kinds = VIDEO * qwen2_5_vl.on_frames(ids).long()
    for seconds in (None, torch.tensor([2 / fps])):
        vision, _ = untouched_rope_index(
            qwen2_5_vl.processor, ids, kinds, video_grid_thw=grids, second_per_grid_ts=seconds
        )
        axis = vision[0, 0][qwen2_5_vl.on_frames(ids[0])]
        found = torch.unique(axis - axis[0]).tolist()
        # Given the seconds, whole ones are right: what is lost there is the part after the point.
        assert (found == true_times(fps)) == (seconds is not None and 2 / fps == int(2 / fps))


def test_the_rollout_knows_the_times_even_if_the_actor_does_not(qwen2_5_vl, untouched_rope_index, monkeypatch):
    """What `MEDGRPO_TIME_FIX=0` is for: an actor beside a rollout that, like vLLM, is right."""
    from transformers import Qwen2_5_VLProcessor
    from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLModel

    monkeypatch.delattr(Qwen2_5_VLProcessor, "get_rope_index_kwargs")
    monkeypatch.setattr(Qwen2_5_VLModel, "get_rope_index", untouched_rope_index)
    request = qwen2_5_vl.request(frames=FRAMES, fps=0.5)
    ids = torch.tensor(request.prompt_ids)
    assert times_of(qwen2_5_vl, ids, qwen2_5_vl.rollout_positions(request)) == true_times(0.5)


def test_an_image_stands_where_transformers_puts_it(qwen2_5_vl, untouched_rope_index):
    config = qwen2_5_vl.engine.model.config
    grid = torch.tensor([[1, 4, 6]])
    kinds = torch.tensor([[TEXT] * 3 + [IMAGE] * 6 + [TEXT] * 4])
    ids = torch.full_like(kinds, 7).masked_fill(kinds == IMAGE, config.image_token_id)
    owner = types.SimpleNamespace(config=config)
    ours, our_delta = rope_index(owner, ids, kinds, image_grid_thw=grid)
    theirs, their_delta = untouched_rope_index(qwen2_5_vl.processor, ids, kinds, image_grid_thw=grid)
    assert torch.equal(ours, theirs)
    assert our_delta.flatten().tolist() == their_delta.flatten().tolist()


def test_padding_and_neighbours_change_no_position(qwen2_5_vl):
    requests = [qwen2_5_vl.request(0, frames=4, fps=0.5), qwen2_5_vl.request(9, frames=12, fps=3.0)]
    width = max(len(request.prompt_ids) for request in requests) + 3
    ids = torch.full((2, width), qwen2_5_vl.engine.pad)
    mask = torch.zeros_like(ids)
    for row, request in enumerate(requests):
        ids[row, width - len(request.prompt_ids) :] = torch.tensor(request.prompt_ids)
        mask[row, width - len(request.prompt_ids) :] = 1
    videos = [video for request in requests for video in request.videos]
    grids = qwen2_5_vl.engine._vision(videos)["video_grid_thw"]
    batch = qwen2_5_vl.engine.positions(ids, mask, grids, [metadata for _, metadata in videos])
    for row, request in enumerate(requests):
        assert torch.equal(batch[:, row, mask[row].bool()], qwen2_5_vl.rollout_positions(request))


def test_the_delta_is_what_generation_adds_to_a_token_count(qwen2_5_vl):
    request = qwen2_5_vl.request(frames=FRAMES, fps=0.5)
    ids = torch.tensor([request.prompt_ids])
    grids = qwen2_5_vl.engine._vision(request.videos)["video_grid_thw"]
    kinds = VIDEO * qwen2_5_vl.on_frames(ids).long()
    positions, delta = rope_index(
        qwen2_5_vl.processor, ids, kinds, video_grid_thw=grids, second_per_grid_ts=torch.tensor([4.0])
    )
    assert int(positions.max()) + 1 == ids.shape[1] + int(delta)


def test_two_clips_in_one_prompt_have_their_own_times():
    kinds = [TEXT] * 2 + [VIDEO] * 4 + [TEXT] + [VIDEO] * 4 + [TEXT] * 2
    grids = [[2, 2, 4], [2, 2, 4]]
    placed = sequence_positions(kinds, [], grids, [4.0, 1.0], merge=2, tokens_per_second=2)
    #           text  clip at 2: 0 s and 4 s   text  clip at 11: 0 s and 1 s     text
    assert placed[0].tolist() == [0, 1, 2, 2, 10, 10, 11, 12, 12, 14, 14, 15, 16]
    assert placed[1].tolist() == [0, 1, 2, 2, 2, 2, 11, 12, 12, 12, 12, 15, 16]
    assert placed[2].tolist() == [0, 1, 2, 3, 2, 3, 11, 12, 13, 12, 13, 15, 16]


@settings(max_examples=200, deadline=None)
@given(
    numerator=st.integers(1, 60),
    denominator=st.integers(1, 20),
    count=st.integers(1, 100),
    rate=st.sampled_from([2, 4]),
)
def test_temporal_positions_are_the_exact_floor(numerator, denominator, count, rate):
    fps = Fraction(numerator, denominator)
    found = temporal_positions(count, 2 / float(fps), rate).tolist()
    assert found == [int(k * 2 / fps * rate) for k in range(count)]


@pytest.mark.parametrize("fps", RATES)
def test_qwen3_vl_reads_the_true_times_in_its_prompt(qwen3_vl, fps):
    request = qwen3_vl.request(frames=FRAMES, fps=fps)
    said = re.findall(r"<([\d.]+) seconds>", qwen3_vl.processor.tokenizer.decode(request.prompt_ids))
    # A patch spans two frames and is said to stand in their middle.
    assert said == [f"{(2 * k + 0.5) / fps:.1f}" for k in range(FRAMES // 2)]


def test_qwen3_vl_reads_the_time_of_a_frame_without_a_partner(qwen3_vl):
    request = qwen3_vl.request(frames=7, fps=0.1)
    said = re.findall(r"<([\d.]+) seconds>", qwen3_vl.processor.tokenizer.decode(request.prompt_ids))
    assert said == ["5.0", "25.0", "45.0", "60.0"]


@pytest.mark.parametrize("fps", [0.1, 3.0])
def test_qwen3_vl_actor_and_rollout_agree(qwen3_vl, fps):
    request = qwen3_vl.request(frames=FRAMES, fps=fps)
    _, actor, _ = qwen3_vl.actor_inputs(request)
    assert torch.equal(qwen3_vl.rollout_positions(request), actor)

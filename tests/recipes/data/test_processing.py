# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""The work that a prompt's rollouts share, counted in verl's own agent loop."""

import asyncio
import copy
import gc
import re
import types

import pytest
import torch

ROLLOUTS = 8


class Server:
    """In the rollout server's place: the same short answer to everyone, one token longer for each request."""

    def __init__(self, word: int):
        self.word, self.asked = word, []

    async def generate(self, prompt_ids, **_):
        self.asked.append(prompt_ids)
        answer = [self.word] * len(self.asked)
        return types.SimpleNamespace(
            token_ids=answer, log_probs=[0.0] * len(answer), routed_experts=None, num_preempted=0, extra_fields={}
        )


def rollouts(family, messages, pixels: str | None = None) -> tuple[list, Server]:
    """What verl computes for the n rollouts of a prompt: prompt ids, then twice the actor's inputs and positions."""
    from omegaconf import OmegaConf
    from verl.experimental.agent_loop.agent_loop import AgentLoopWorker, DictConfigWrap
    from verl.experimental.agent_loop.single_turn_agent_loop import SingleTurnAgentLoop

    from recipes.medgrpo.data.dataset import MedVidDataset

    server = Server(family.processor.tokenizer.encode("a")[0])
    rollout = {"prompt_length": 2048, "response_length": 16, "full_determinism": False}
    config = OmegaConf.create({"actor_rollout_ref": {"rollout": rollout}, "data": {"medgrpo": {"pixels": pixels}}})

    async def one() -> tuple:
        loop = SingleTurnAgentLoop(
            trainer_config=DictConfigWrap(config),
            server_manager=server,
            tokenizer=family.processor.tokenizer,
            processor=family.processor,
            dataset_cls=MedVidDataset,
            data_config=DictConfigWrap(config.data),
            hf_model_type=family.processor.config.model_type,
        )
        output = await loop.run({}, raw_prompt=messages)
        worker = types.SimpleNamespace(
            processor=family.processor, tokenizer=family.processor.tokenizer, _get_mm_processor_kwargs=lambda audios: {}
        )
        ids = torch.tensor([[*output.prompt_ids, *output.response_ids]])
        for _ in range(2):  # for the reward, and for the actor
            inputs = AgentLoopWorker._compute_multi_modal_inputs(worker, output, ids)
            positions = AgentLoopWorker._compute_position_ids(worker, ids, torch.ones_like(ids), inputs)
        return output.prompt_ids, positions, inputs

    async def all_of_them():
        return await asyncio.gather(*(one() for _ in range(ROLLOUTS)))

    # The shortest answer first: who is answered first is left to threads.
    return sorted(asyncio.run(all_of_them()), key=lambda found: found[1].shape[-1]), server


@pytest.fixture
def fresh(plugged, monkeypatch):
    """Empty caches; (clips, vision)."""
    from recipes.medgrpo.data import processing, video

    clips, vision = video.ClipCache(), processing.VisionCache()
    monkeypatch.setattr(video, "_CACHE", clips)
    monkeypatch.setattr(processing, "CACHE", vision)
    processing.install(vision)
    yield clips, vision
    processing.install()


def test_eight_rollouts_of_a_prompt_take_one_decode_and_one_run_of_the_video_processor(family, fresh):
    clips, vision = fresh
    outputs, server = rollouts(family, family.messages(0))
    assert len(server.asked) == ROLLOUTS and all(ids == server.asked[0] for ids in server.asked)
    assert (clips.decodes, vision.runs) == (1, 1)
    rollouts(family, family.messages(0, frames=3))
    assert (clips.decodes, vision.runs) == (2, 2)


def test_what_is_remembered_is_what_the_processor_computes(family, fresh, monkeypatch):
    from recipes.medgrpo.data import processing

    outputs, _ = rollouts(family, family.messages(0))
    forgetful = processing.VisionCache()
    monkeypatch.setattr(forgetful, "get", lambda process, *_: process())
    processing.install(forgetful)
    for (ids, positions, inputs), (own_ids, own_positions, own_inputs) in zip(
        outputs, rollouts(family, family.messages(0))[0], strict=True
    ):
        assert ids == own_ids and torch.equal(positions, own_positions)
        assert inputs.keys() == own_inputs.keys()
        assert all(torch.equal(torch.as_tensor(inputs[k]), torch.as_tensor(own_inputs[k])) for k in inputs)


@pytest.mark.parametrize("weights", [torch.float32, torch.bfloat16])
def test_pixels_in_bfloat16_are_what_the_actor_makes_of_them(family, fresh, weights):
    """verl's actor keeps fp32 weights, which FSDP2 hands out in bfloat16, and runs under autocast."""
    (ids, positions, plain), (_, _, halved) = (
        rollouts(family, family.messages(0), pixels)[0][0] for pixels in (None, "bfloat16")
    )
    pixels = halved["pixel_values_videos"]
    assert plain["pixel_values_videos"].dtype == torch.float32 and pixels.dtype == torch.bfloat16
    model = copy.deepcopy(family.engine.model).to(weights)
    logits, gradients = [], []
    for inputs in (plain, halved):
        vision = {name: inputs[name] for name in ("pixel_values_videos", "video_grid_thw")}
        tokens = torch.tensor([[*ids, 0]])
        with torch.autocast("cpu", torch.bfloat16):
            out = model(input_ids=tokens, position_ids=positions.transpose(0, 1), **vision).logits
        model.zero_grad()
        out.float().logsumexp(-1).sum().backward()
        logits.append(out)
        gradients.append(model.model.visual.patch_embed.proj.weight.grad.clone())
    assert torch.equal(*logits) and torch.equal(*gradients)
    assert gradients[0].abs().max() > 0
    # More would be seen: pixels of two digits fewer are other logits.
    coarse = vision | {"pixel_values_videos": (pixels * 64).round() / 64}
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        out = model(input_ids=tokens, position_ids=positions.transpose(0, 1), **coarse).logits
    assert not torch.equal(out, logits[0])


def test_pixels_in_bfloat16_cross_the_queue_as_they_are(qwen2_5_vl, fresh):
    from transfer_queue.utils import serial_utils

    inputs = rollouts(qwen2_5_vl, qwen2_5_vl.messages(0), "bfloat16")[0][0][2]
    back = serial_utils.decode(serial_utils.encode(inputs))
    assert back["pixel_values_videos"].dtype == torch.bfloat16
    assert torch.equal(back["pixel_values_videos"], inputs["pixel_values_videos"])


def test_an_unknown_type_of_pixels_is_named(qwen2_5_vl, fresh):
    from recipes.medgrpo.data.rows import DataError

    with pytest.raises(DataError, match="data.medgrpo.pixels is 'float16', expected bfloat16 or null"):
        rollouts(qwen2_5_vl, qwen2_5_vl.messages(0), "float16")


def test_more_prompts_than_the_cache_holds_are_decoded_once_each(qwen2_5_vl, fresh):
    from recipes.medgrpo.data.video import clips_of

    clips, _ = fresh
    prompts = [qwen2_5_vl.messages(0, frames=frames) for frames in range(1, 13)]
    assert len(prompts) > clips.capacity
    for messages in prompts:
        for _ in range(ROLLOUTS):
            clips_of(messages)
    assert clips.decodes == len(prompts)


def test_a_rollout_may_write_to_its_own_grid(family, fresh):
    clip = family.request(0).videos[0]
    settings = {"video_metadata": [clip[1]], "do_sample_frames": False, "return_tensors": "pt"}
    first, runs = family.processor.video_processor([clip[0]], **settings), fresh[1].runs
    expected = first["video_grid_thw"].clone()
    first["video_grid_thw"].zero_()
    first["extra"] = 1
    second = family.processor.video_processor([clip[0]], **settings)
    assert torch.equal(second["video_grid_thw"], expected) and "extra" not in second
    assert second["pixel_values_videos"] is first["pixel_values_videos"]
    assert fresh[1].runs == runs


def test_other_times_of_the_same_frames_are_another_result(qwen2_5_vl, fresh):
    from verl.utils.tokenizer import build_multimodal_processor_inputs

    frames, metadata = qwen2_5_vl.request(0).videos[0]
    seconds = [
        build_multimodal_processor_inputs(qwen2_5_vl.processor, text=["a"], videos=[(frames, {**metadata, "fps": fps})])
        for fps in (1.0, 4.0)
    ]
    assert [float(inputs["second_per_grid_ts"][0]) for inputs in seconds] == [2.0, 0.5]


def small(cache, processor, frames):
    return cache.get(lambda: {"pixel_values_videos": frames.float()}, processor, frames, {})


def test_a_result_goes_with_its_frames(plugged):
    from recipes.medgrpo.data.processing import VisionCache

    class Processor:
        pass

    cache, processor = VisionCache(), Processor()
    frames = torch.zeros(4, dtype=torch.uint8)
    small(cache, processor, frames)
    assert len(cache._slots) == 1
    del frames
    gc.collect()
    assert len(cache._slots) == 0


def test_the_oldest_results_make_room(plugged):
    from recipes.medgrpo.data.processing import VisionCache

    class Processor:
        pass

    cache, processor = VisionCache(limit=40), Processor()
    clips = [torch.full((4,), k, dtype=torch.uint8) for k in range(4)]
    for frames in [*clips, clips[3], clips[2]]:
        assert torch.equal(small(cache, processor, frames)["pixel_values_videos"], frames.float())
    assert cache.runs == 4 and len(cache._slots) == 2
    small(cache, processor, clips[0])
    assert cache.runs == 5


def test_a_failure_is_not_remembered(plugged):
    from recipes.medgrpo.data.processing import VisionCache

    class Processor:
        pass

    cache, processor, frames = VisionCache(), Processor(), torch.zeros(4, dtype=torch.uint8)

    def broken():
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        cache.get(broken, processor, frames, {})
    assert small(cache, processor, frames)["pixel_values_videos"].shape == (4,)


@pytest.mark.parametrize("seconds", [[0.0, 0.7, 5.2, 9.94], [3.0, 3.5, 61.0]])
def test_qwen3_vl_reads_the_times_that_the_row_lists(qwen3_vl, seconds):
    from recipes.medgrpo.data.video import clips_of

    messages = qwen3_vl.messages(0, frames=len(seconds))
    part = next(part for part in messages[-1]["content"] if part["type"] == "video")
    part["frame_seconds"] = seconds
    clips = clips_of(messages)
    text = qwen3_vl.processor.tokenizer.decode(qwen3_vl.engine.prompt_ids(messages, clips))
    even = seconds + seconds[-1:] * (len(seconds) % 2)
    means = [(first + second) / 2 for first, second in zip(even[::2], even[1::2], strict=True)]
    assert [float(time) for time in re.findall(r"<([\d.]+) seconds>", text)] == pytest.approx(
        [round(mean, 1) for mean in means], abs=0.051
    )


def test_as_many_times_as_frames(qwen3_vl):
    from recipes.medgrpo.data.video import FrameReadError, clips_of

    messages = qwen3_vl.messages(0, frames=4)
    next(part for part in messages[-1]["content"] if part["type"] == "video")["frame_seconds"] = [0.0, 1.0]
    with pytest.raises(FrameReadError, match="2 times, expected 4"):
        clips_of(messages)


def test_what_is_remembered_in_inference_mode_still_allows_gradients(plugged):
    from recipes.medgrpo.data.processing import VisionCache

    cache, clip, processor = VisionCache(), torch.zeros(2, 3, 4, 4), type("Processor", (), {})()
    with torch.inference_mode():
        cache.get(lambda: {"pixel_values_videos": clip + 1}, processor, clip, {})
    pixels = cache.get(lambda: None, processor, clip, {})["pixel_values_videos"]
    weight = torch.ones((), requires_grad=True)
    (weight * pixels).sum().backward()
    assert cache.runs == 1 and weight.grad == pixels.sum()

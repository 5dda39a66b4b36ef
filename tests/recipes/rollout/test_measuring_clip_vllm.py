# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""The clip that vLLM measures its memory with is as large as the longest real one. Runs where vLLM is."""

import json
import re
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from recipe_shell import ROOT, run  # noqa: E402

if find_spec("vllm") is None:
    pytest.skip("vllm is not installed", allow_module_level=True)
pytestmark = pytest.mark.vllm

# By family: its recipe, and the bounds of a picture's pixels in the published model's processor.
FAMILIES = {
    "qwen2_5_vl": ("run_medgrpo_qwen2_5_vl_7b.sh", 3136, 12_845_056),
    "qwen3_vl": ("run_medgrpo_qwen3_vl_4b.sh", 65_536, 16_777_216),
}


def tokens_of(model: Path, limits: dict) -> int:
    """Vision tokens of vLLM's own dummy clip for a model under these limits."""
    from vllm.config import ModelConfig
    from vllm.multimodal import MULTIMODAL_REGISTRY

    config = ModelConfig(model=str(model), dtype="bfloat16", max_model_len=6144, limit_mm_per_prompt=limits)
    inputs = MULTIMODAL_REGISTRY.get_dummy_mm_inputs(config, mm_counts={"video": 1})
    (place,) = inputs["mm_placeholders"]["video"]
    return place.get_num_embeds()


@pytest.mark.parametrize("name", FAMILIES)
def test_the_measuring_clip_has_the_longest_clips_tokens(name, request, tmp_path):
    from data_preprocess.geometry import MAX_PIXELS

    script, low, high = FAMILIES[name]
    family = request.getfixturevalue(name)
    shutil.copytree(family.path, model := tmp_path / "model")
    for file in model.glob("*processor_config.json"):
        said = json.loads(file.read_text())
        for part in (said, *(value for value in said.values() if isinstance(value, dict))):
            if "longest_edge" in (part.get("size") or {}):
                part["size"] = {"shortest_edge": low, "longest_edge": high}
        file.write_text(json.dumps(said))
    config = json.loads((model / "config.json").read_text())
    config["text_config"]["max_position_embeddings"] = 8192
    (model / "config.json").write_text(json.dumps(config))
    config = yaml.safe_load((ROOT / "recipes/medgrpo/config/medgrpo_gpu.yaml").read_text())
    limits = config["actor_rollout_ref"]["rollout"]["engine_kwargs"]["vllm"]["limit_mm_per_prompt"]
    told = run(script, "--dry-run", cwd=tmp_path).stdout
    limits["video"] |= {side: int(size) for side, size in re.findall(r"limit_mm_per_prompt\.video\.(\w+)=(\d+)", told)}
    longest = 91 * (MAX_PIXELS // family.processor.video_processor.patch_size**2 // 4)
    assert tokens_of(model, limits) == longest
    # Left to itself, vLLM takes a far larger one; told of real frames, it makes a far smaller one.
    assert tokens_of(model, {"image": 0, "video": 1}) > 2 * longest
    frames = {"count": 1, "num_frames": 182, "width": 224, "height": 160}
    assert tokens_of(model, {"image": 0, "video": frames}) < longest / 10

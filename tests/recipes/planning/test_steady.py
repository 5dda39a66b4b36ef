# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""Host memory of a run at work: clips are those that are really handed on, and the recipes ask for enough of it."""

import re
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from recipe_shell import run  # noqa: E402

from data_preprocess.geometry import ASSUMED_SIZE  # noqa: E402
from recipes.medgrpo import plan  # noqa: E402
from recipes.medgrpo.planning import steady  # noqa: E402
from recipes.medgrpo.planning.recipe_settings import read_settings  # noqa: E402
from recipes.medgrpo.planning.shapes import read_shape  # noqa: E402
from recipes.medgrpo.planning.tokens import clip_of  # noqa: E402


@pytest.mark.parametrize(("model", "name"), [("Qwen2.5-VL-7B", "qwen2_5_vl"), ("Qwen3-VL-4B", "qwen3_vl")])
def test_a_clips_pixels_are_as_large_as_the_processors(model, name, request):
    import torch

    family = request.getfixturevalue(name)
    clip = clip_of(4, ASSUMED_SIZE, name, 0)
    frames = torch.zeros(4, 3, clip.size[1], clip.size[0], dtype=torch.uint8)
    settings = {"do_sample_frames": False, "do_resize": False, "return_tensors": "pt"}
    metadata = [{"fps": 1.0, "frames_indices": [0, 1, 2, 3], "total_num_frames": 4}]
    made = family.processor.video_processor([frames], video_metadata=metadata, **settings)["pixel_values_videos"]
    assert steady.pixels(read_shape(model), clip) == made.to(torch.bfloat16).nbytes


def test_what_waits_grows_with_rollouts_and_what_is_kept_with_workers():
    shape, clip = read_shape("Qwen2.5-VL-7B"), clip_of(180, ASSUMED_SIZE, "qwen2_5_vl", 300)

    def training(*overrides: str) -> dict[str, float]:
        return steady.host(shape, read_settings("rl", overrides), clip, 8)["training"]

    usual = training()
    assert training("actor_rollout_ref.rollout.n=16")["rollouts in the queue"] == 2 * usual["rollouts in the queue"]
    fewer = training("actor_rollout_ref.rollout.agent.num_workers=4")
    assert fewer["clips of the agent workers"] < usual["clips of the agent workers"]
    assert fewer["processes"] == usual["processes"] - 4 * steady.PROCESS
    sft = [read_settings("sft", [f"data.num_workers={workers}"]) for workers in (2, 8)]
    two, eight = (steady.host(shape, settings, clip, 8)["training"]["clips of the data loaders"] for settings in sft)
    assert eight == 4 * two


@pytest.mark.parametrize("gpus", [8, 1])
@pytest.mark.parametrize(
    ("script", "model", "stage"),
    [
        ("run_medgrpo_qwen2_5_vl_7b.sh", "Qwen2.5-VL-7B", "rl"),
        ("run_medgrpo_qwen3_vl_4b.sh", "Qwen3-VL-4B", "rl"),
        ("run_sft_qwen2_5_vl_7b.sh", "Qwen2.5-VL-7B", "sft"),
        ("run_sft_qwen3_vl_4b.sh", "Qwen3-VL-4B", "sft"),
    ],
)
def test_the_recipes_ask_for_the_memory_that_the_plan_counts(script, model, stage, gpus, tmp_path):
    done = run(script, "--dry-run", cwd=tmp_path, N_GPUS=str(gpus), LORA_RANK="0" if gpus > 1 else "64")
    asked = float(re.search(r"--host-gib (\d+)", done.stdout)[1])
    options = ["--model", model, "--stage", stage, "--gpus", str(gpus)]
    if gpus == 1:
        options += ["--lora-rank", "64", *(["--prompts", "16", "--utilization", "0.5"] if stage == "rl" else [])]
    phases = plan.make(plan.parse(options))["memory"]["host_gib"]
    counted = max(sum(parts.values()) for parts in phases.values())
    assert counted <= asked <= 1.35 * counted

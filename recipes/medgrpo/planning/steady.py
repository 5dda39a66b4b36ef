# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""What lies in a node's host memory, part by part, while the model is loaded and while the run is at work. Bytes.

Counted: weights that are loaded, offloaded or gathered for a checkpoint; clips on their way; processes.
Each rollout's pixels wait in verl's queue until the actor has had them. An agent worker keeps the clips that it used
last, with the pixels of each; vLLM keeps the pixels of the clips that it was asked about since the last weights. The
sizes of clips are those of the processors; `COPIES` and the sizes of processes are estimates, measured on no GPU.
"""

from __future__ import annotations

import math

from data_preprocess.geometry import FRAMES_PER_TOKEN
from recipes.medgrpo.planning import memory
from recipes.medgrpo.planning.memory import GIB
from recipes.medgrpo.planning.recipe_settings import Settings
from recipes.medgrpo.planning.shapes import Shape
from recipes.medgrpo.planning.tokens import Clip

COPIES = 3
"""Of the pixels in the queue at its peak: stored, in transit, and with the ranks that fetched them. An estimate."""
RECEIVER = 4 * GIB
"""What each vLLM engine keeps of processed clips at most (`mm_processor_cache_gb`)."""
CUDA_PROCESS, PROCESS = 3 * GIB, 1 * GIB
"""A process with CUDA's libraries, and one with torch and transformers alone. Estimates."""
PREFETCH = 2
"""Batches that each worker of a data loader has ready, torch's default."""
OTHERS = 12
"""Ray's own processes, the trainer, and the eight stores of verl's queue."""


def pixels(shape: Shape, clip: Clip) -> float:
    """Bytes of a clip as the model takes it."""
    return clip.patches * memory.pixel_bytes(shape)


def host(shape: Shape, settings: Settings, clip: Clip, gpus: int) -> dict[str, dict[str, float]]:
    """Parts by phase, `loading` and `training`, of a node, all prompts with this clip.

    Args:
        clip: the longest.
        gpus: all of them.
    """
    here = gpus / settings.nodes
    weights = memory.host(shape, settings, gpus)
    loading = {"copies of the weights": weights.pop("copies of the weights while loading")}
    loading["processes"] = here * CUDA_PROCESS + OTHERS * PROCESS
    gathered = {"weights of a checkpoint": float(settings.master_bytes * shape.parameters)}
    work = _rl(shape, settings, clip, here) if settings.stage == "rl" else _sft(shape, settings, clip, gpus)
    return {"loading": loading, "training": weights | gathered | work}


def _rl(shape: Shape, settings: Settings, clip: Clip, here: float) -> dict[str, float]:
    replicas = here / settings.tensor_parallel
    prompts, agents = settings.prompts / settings.nodes, settings.agent_workers / settings.nodes
    width, height = clip.size
    frames = 3 * width * height * (clip.frames + clip.frames % FRAMES_PER_TOKEN)
    # It imports torch, for which `--help` need not wait.
    from recipes.medgrpo.data.video import CLIPS

    known = CLIPS + math.ceil(prompts / agents)
    # A replica is asked about each prompt that one of its rollouts belongs to.
    asked = prompts * (1 if settings.one_replica else min(settings.rollouts, replicas)) / replicas
    return {
        "rollouts in the queue": COPIES * prompts * settings.rollouts * pixels(shape, clip),
        "clips of the agent workers": agents * known * (frames + pixels(shape, clip)),
        "clips of vLLM": replicas * min(RECEIVER, asked * pixels(shape, clip)),
        # On each GPU a rank and vLLM's worker; for each replica a server and an engine.
        "processes": 2 * here * CUDA_PROCESS
        + (2 * replicas + agents + settings.reward_workers / settings.nodes + OTHERS) * PROCESS,
    }


def _sft(shape: Shape, settings: Settings, clip: Clip, gpus: int) -> dict[str, float]:
    here = gpus / settings.nodes
    ready = settings.loader_workers * PREFETCH * math.ceil(settings.prompts / gpus)
    return {
        "clips of the data loaders": here * ready * pixels(shape, clip),
        "processes": here * (CUDA_PROCESS + settings.loader_workers * PROCESS) + PROCESS,
    }

# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""What a plan takes from the recipes: their own configuration files, read, not repeated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from recipes.medgrpo.planning.shapes import PlanError

CONFIG = Path(__file__).resolve().parents[1] / "config"
FILES = {"rl": ("base", "medgrpo_gpu"), "sft": ("sft_base", "sft_gpu")}
STANDARD_ROWS = 51_505
"""Rows of MedVidBench's Standard set, which the paper's SFT stage goes through."""

_BYTES = {"fp32": 4, "float32": 4, "bf16": 2, "bfloat16": 2}


@dataclass(frozen=True)
class Settings:
    """One stage of training. Tokens are per GPU and micro-batch where they end in `_tokens`.

    `steps`: updates, None where only the rows tell (SFT: `epochs`); `master_bytes`: of a stored weight, its gradient
    and each of Adam's two moments; `offload`: these leave the GPU while vLLM works; `host_weights`: they live in
    host memory and come layer by layer (FSDP2's offload policy).
    """

    stage: str
    prompts: int
    rollouts: int
    steps: int | None
    epochs: int
    prompt_limit: int
    response_tokens: int
    micro_tokens: int
    log_prob_tokens: int
    utilization: float
    tensor_parallel: int
    max_num_seqs: int
    batched_tokens: int
    master_bytes: int
    reduce_bytes: int
    checkpointing: bool
    offload: bool
    host_weights: bool
    freeze_vision: bool
    lora_rank: int
    lora_merged: bool
    nodes: int

    def tower(self, family: str) -> str:
        """How far the backward pass goes in the vision tower: `trained`, `through` it, or `forward` only.

        Adapters are on the text layers alone. But with them verl calls `enable_input_require_grads`, which in
        transformers 5.9 makes the output of Qwen2.5-VL's patch embedding ask for a gradient, of Qwen3-VL's not.
        """
        if self.lora_rank:
            return "through" if family == "qwen2_5_vl" else "forward"
        return "forward" if self.freeze_vision else "trained"


def _pick(config: Any, key: str, otherwise: Any = None) -> Any:
    try:
        value = OmegaConf.select(config, key, default=otherwise)
    except OmegaConfBaseException as error:
        raise PlanError(f"{key}: {str(error).splitlines()[0]}") from error
    return otherwise if value is None else value


def _kind(name: str) -> int:
    if name not in _BYTES:
        raise PlanError(f"{name!r}: expected one of {', '.join(_BYTES)}")
    return _BYTES[name]


def read_settings(stage: str, overrides: Sequence[str] = ()) -> Settings:
    """The recipe's settings with hydra-like overrides, `key=value`; what neither names is verl's default.

    Raises:
        PlanError: an override that is none, or a value that cannot be.
    """
    for override in overrides:
        if "=" not in override:
            raise PlanError(f"--override {override!r}: expected key=value")
    try:
        config = OmegaConf.merge(
            *(OmegaConf.load(CONFIG / f"{name}.yaml") for name in FILES[stage]),
            OmegaConf.from_dotlist([override.lstrip("+") for override in overrides]),
        )
        return _rl(config) if stage == "rl" else _sft(config)
    except (OmegaConfBaseException, TypeError, ValueError) as error:
        raise PlanError(f"settings: {str(error).splitlines()[0]}") from error


def _rl(config: Any) -> Settings:
    actor, rollout, model = "actor_rollout_ref.actor", "actor_rollout_ref.rollout", "actor_rollout_ref.model"
    fsdp = f"{actor}.fsdp_config"
    return Settings(
        stage="rl",
        prompts=int(_pick(config, "data.train_batch_size")),
        rollouts=int(_pick(config, f"{rollout}.n")),
        steps=int(_pick(config, "trainer.total_training_steps")),
        epochs=1,
        prompt_limit=int(_pick(config, "data.max_prompt_length")),
        response_tokens=int(_pick(config, "data.max_response_length")),
        micro_tokens=int(_pick(config, f"{actor}.ppo_max_token_len_per_gpu")),
        log_prob_tokens=int(_pick(config, f"{rollout}.log_prob_max_token_len_per_gpu")),
        utilization=float(_pick(config, f"{rollout}.gpu_memory_utilization")),
        tensor_parallel=int(_pick(config, f"{rollout}.tensor_model_parallel_size", 1)),
        max_num_seqs=int(_pick(config, f"{rollout}.max_num_seqs")),
        batched_tokens=int(_pick(config, f"{rollout}.max_num_batched_tokens")),
        master_bytes=_kind(_pick(config, f"{fsdp}.model_dtype", "fp32")),
        reduce_bytes=_kind(_pick(config, f"{fsdp}.mixed_precision.reduce_dtype", "fp32")),
        checkpointing=bool(_pick(config, f"{model}.enable_gradient_checkpointing", True)),
        offload=bool(_pick(config, f"{fsdp}.param_offload", False)),
        host_weights=bool(_pick(config, f"{fsdp}.offload_policy", False)),
        freeze_vision=bool(_pick(config, f"{fsdp}.freeze_vision", False)),
        lora_rank=int(_pick(config, f"{model}.lora_rank", 0)),
        # The recipes give vLLM whole weights, with the adapters in them.
        lora_merged=bool(_pick(config, f"{model}.lora.merge", True)),
        nodes=int(_pick(config, "trainer.nnodes", 1)),
    )


def _sft(config: Any) -> Settings:
    steps = _pick(config, "trainer.total_training_steps")
    return Settings(
        stage="sft",
        prompts=int(_pick(config, "data.train_batch_size")),
        rollouts=1,
        steps=None if steps is None else int(steps),
        epochs=int(_pick(config, "trainer.total_epochs")),
        prompt_limit=int(_pick(config, "data.max_length")),
        response_tokens=int(_pick(OmegaConf.load(CONFIG / "medgrpo_gpu.yaml"), "data.max_response_length")),
        micro_tokens=int(_pick(config, "data.max_token_len_per_gpu")),
        log_prob_tokens=0,
        utilization=0.0,
        tensor_parallel=1,
        max_num_seqs=0,
        batched_tokens=0,
        master_bytes=_kind(_pick(config, "engine.model_dtype", "fp32")),
        reduce_bytes=_kind(_pick(config, "engine.mixed_precision.reduce_dtype", "fp32")),
        checkpointing=bool(_pick(config, "model.enable_gradient_checkpointing", True)),
        offload=bool(_pick(config, "engine.param_offload", False)),
        host_weights=bool(_pick(config, "engine.offload_policy", False)),
        freeze_vision=bool(_pick(config, "engine.freeze_vision", False)),
        lora_rank=int(_pick(config, "model.lora_rank", 0)),
        lora_merged=False,
        nodes=int(_pick(config, "trainer.nnodes", 1)),
    )

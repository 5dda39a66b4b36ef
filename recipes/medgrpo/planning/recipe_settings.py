# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""What a plan takes from the recipes: their own configuration files, read, not repeated."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from recipes.medgrpo.data.families import FAMILIES
from recipes.medgrpo.planning import PlanError

CONFIG = Path(__file__).resolve().parents[1] / "config"
FILES = {"rl": ("base", "medgrpo_gpu"), "sft": ("sft_base", "sft_gpu")}
STANDARD_ROWS = 51_505
"""Rows of MedVidBench's Standard set, which the paper's SFT stage goes through."""

_BYTES = {"fp32": 4, "float32": 4, "bf16": 2, "bfloat16": 2}


@dataclass(frozen=True)
class Settings:
    """One stage of training. Tokens are per GPU and micro-batch where they end in `_tokens`.

    `steps`: updates, None where only the rows tell (SFT: `epochs`); `master_bytes`: of a stored weight, its gradient
    and each of Adam's two moments; `one_replica`: all rollouts of a prompt are answered by one; `offload`: weights and
    moments leave the GPU while vLLM works; `host_weights`: they live in host memory and come layer by layer (FSDP2's
    offload policy).
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
    one_replica: bool
    agent_workers: int
    reward_workers: int
    loader_workers: int
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

        Adapters are on the text layers alone; `Family.adapters_reach_tower` says what that means for the tower.
        """
        if self.lora_rank:
            return "through" if FAMILIES[family].adapters_reach_tower else "forward"
        return "forward" if self.freeze_vision else "trained"


def _pick(config: Any, key: str, otherwise: Any = None) -> Any:
    try:
        value = OmegaConf.select(config, key, default=otherwise)
    except OmegaConfBaseException as error:
        raise PlanError(f"{key}: {str(error).splitlines()[0]}") from error
    return otherwise if value is None else value


def _bytes(name: str) -> int:
    if name not in _BYTES:
        raise PlanError(f"{name!r}: expected one of {', '.join(_BYTES)}")
    return _BYTES[name]


_ACTOR, _ROLLOUT, _MODEL = (f"actor_rollout_ref.{part}" for part in ("actor", "rollout", "model"))
_FSDP = f"{_ACTOR}.fsdp_config"
# By field: its type, its key in RL and in SFT (a number where the stage has no such setting), verl's default.
_KEYS: dict[str, tuple[Callable[[Any], Any], str | int, str | int, Any]] = {
    "prompts": (int, "data.train_batch_size", "data.train_batch_size", None),
    "rollouts": (int, f"{_ROLLOUT}.n", 1, None),
    "epochs": (int, 1, "trainer.total_epochs", None),
    "prompt_limit": (int, "data.max_prompt_length", "data.max_length", None),
    "micro_tokens": (int, f"{_ACTOR}.ppo_max_token_len_per_gpu", "data.max_token_len_per_gpu", None),
    "log_prob_tokens": (int, f"{_ROLLOUT}.log_prob_max_token_len_per_gpu", 0, None),
    "utilization": (float, f"{_ROLLOUT}.gpu_memory_utilization", 0, None),
    "tensor_parallel": (int, f"{_ROLLOUT}.tensor_model_parallel_size", 1, 1),
    "max_num_seqs": (int, f"{_ROLLOUT}.max_num_seqs", 0, None),
    "one_replica": (bool, f"{_ROLLOUT}.router_config_path", 0, None),
    "agent_workers": (int, f"{_ROLLOUT}.agent.num_workers", 0, 8),
    "reward_workers": (int, "reward.num_workers", 0, 8),
    "loader_workers": (int, 0, "data.num_workers", 8),
    "batched_tokens": (int, f"{_ROLLOUT}.max_num_batched_tokens", 0, None),
    "master_bytes": (_bytes, f"{_FSDP}.model_dtype", "engine.model_dtype", "fp32"),
    "reduce_bytes": (_bytes, f"{_FSDP}.mixed_precision.reduce_dtype", "engine.mixed_precision.reduce_dtype", "fp32"),
    "checkpointing": (bool, f"{_MODEL}.enable_gradient_checkpointing", "model.enable_gradient_checkpointing", True),
    "offload": (bool, f"{_FSDP}.param_offload", "engine.param_offload", False),
    "host_weights": (bool, f"{_FSDP}.offload_policy", "engine.offload_policy", False),
    "freeze_vision": (bool, f"{_FSDP}.freeze_vision", "engine.freeze_vision", False),
    "lora_rank": (int, f"{_MODEL}.lora_rank", "model.lora_rank", 0),
    # The recipes give vLLM whole weights, with the adapters in them.
    "lora_merged": (bool, f"{_MODEL}.lora.merge", 0, True),
    "nodes": (int, "trainer.nnodes", "trainer.nnodes", 1),
}


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
        values = {}
        for name, (kind, rl, sft, default) in _KEYS.items():
            key = rl if stage == "rl" else sft
            values[name] = kind(_pick(config, key, default) if isinstance(key, str) else key)
        steps = _pick(config, "trainer.total_training_steps")
        # SFT has no answers to write; a plan of it reckons with answers as long as RL allows them.
        answers = config if stage == "rl" else OmegaConf.load(CONFIG / "medgrpo_gpu.yaml")
        return Settings(
            stage=stage,
            steps=int(steps) if steps is not None or stage == "rl" else None,
            response_tokens=int(_pick(answers, "data.max_response_length")),
            **values,
        )
    except (OmegaConfBaseException, TypeError, ValueError) as error:
        raise PlanError(f"settings: {str(error).splitlines()[0]}") from error

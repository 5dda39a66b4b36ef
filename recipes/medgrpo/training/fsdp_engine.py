# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""verl's FSDP engine with four things that verl 0.9.1 lacks: a linear schedule, a frozen vision tower, whole LoRA
checkpoints, and a pass over rollouts in which their prompts are shared.

A configuration asks for it by name, and verl imports this module when it reads that name:

    optim:                              # actor.optim in the RL stage
      _target_: recipes.medgrpo.training.fsdp_engine.OptimizerConfig
      lr_scheduler_type: linear         # verl's FSDP engine knows constant and cosine
    engine:                             # actor.fsdp_config in the RL stage
      _target_: recipes.medgrpo.training.fsdp_engine.EngineConfig
      freeze_vision: true               # verl's actor.freeze_vision_tower is read by none of its engines
      share_prompts: true               # `shared_prompts`: each prompt once for all its rollouts, and no padding

Importing registers the engine in verl's `EngineRegistry` for this machine's vendor, which verl prefers to the engine
that it registers for the device alone. With none of these settings and without LoRA it does what verl's own does.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import GenerationConfig, get_linear_schedule_with_warmup
from verl.utils.device import get_device_name, get_vendor
from verl.utils.fsdp_utils import (
    load_fsdp_model_to_gpu,
    merged_lora_context,
    normalize_peft_param_name,
    offload_fsdp_model_to_cpu,
)
from verl.utils.model import get_hf_auto_model_class
from verl.utils.transformers_compat import drop_tied_target_keys
from verl.workers.config import FSDPEngineConfig, FSDPOptimizerConfig
from verl.workers.config import OptimizerConfig as AnyOptimizerConfig
from verl.workers.engine import EngineRegistry, FSDPEngineWithLMHead

from recipes.medgrpo.training.shared_prompts import ATTENTION, can_share, shared_inputs, shared_outputs

LINEAR = "linear"
VISION = ".visual."
"""In the names of the parameters that turn frames into vision tokens, in every model family."""


@dataclass
class OptimizerConfig(FSDPOptimizerConfig):
    """verl's optimiser settings, with `lr_scheduler_type: linear`: after the warm-up a line to 0 at the last step."""

    def __post_init__(self):
        if self.lr_scheduler_type != LINEAR:
            return super().__post_init__()
        if self.min_lr_ratio or self.warmup_style is not None:
            raise ValueError("optim: a linear schedule ends at 0, expected no min_lr_ratio and no warmup_style")
        # FSDPOptimizerConfig asserts one of its own two schedules.
        AnyOptimizerConfig.__post_init__(self)


@dataclass
class EngineConfig(FSDPEngineConfig):
    """verl's FSDP settings, with two of ours.

    Attributes:
        freeze_vision: whether the vision tower and its projection keep their weights.
        share_prompts: whether rollouts of a prompt share its tokens, in models whose text layers all attend.
    """

    freeze_vision: bool = False
    share_prompts: bool = False


def freeze_vision(module: torch.nn.Module) -> int:
    """Stop the vision parameters of a Qwen-VL model from training; returns how many numbers that are.

    Raises ValueError for a model without a vision tower.
    """
    frozen = [parameter for name, parameter in module.named_parameters() if VISION in f".{name}"]
    if not frozen:
        raise ValueError(f"freeze_vision: {type(module).__name__} has no parameter named *{VISION}*")
    for parameter in frozen:
        parameter.requires_grad_(False)
    return sum(parameter.numel() for parameter in frozen)


class MedGRPOEngine(FSDPEngineWithLMHead):
    """See the module's docstring."""

    def initialize(self):
        super().initialize()
        manager = self.checkpoint_manager
        # FSDPCheckpointManager.save_checkpoint writes a LoRA model under PEFT's names into `huggingface/`: loading
        # that gives a random model and a warning. The merged model goes there instead.
        self._saves_merged = self._is_lora and manager.should_save_hf_model
        if self._saves_merged:
            manager.checkpoint_save_contents = [part for part in manager.checkpoint_save_contents if part != "hf_model"]

    def _build_module(self):
        module = super()._build_module()
        if getattr(self.engine_config, "freeze_vision", False):
            numbers = freeze_vision(module)
            if self.rank == 0:
                print(f"freeze_vision: {numbers:,} parameters keep their values")
        self._shares_prompts = getattr(self.engine_config, "share_prompts", False) and can_share(module.config)
        if self._shares_prompts:
            module.set_attn_implementation({"text_config": ATTENTION})
        return module

    def prepare_model_inputs(self, micro_batch):
        if not self._shares_prompts:
            return super().prepare_model_inputs(micro_batch)
        return shared_inputs(micro_batch)

    def prepare_model_outputs(self, output, output_args, micro_batch, logits_processor_func):
        if not self._shares_prompts:
            return super().prepare_model_outputs(output, output_args, micro_batch, logits_processor_func)
        return shared_outputs(output.logits[0], output_args, micro_batch)

    def _build_lr_scheduler(self, optimizer):
        config = self.optimizer_config
        if config.lr_scheduler_type != LINEAR:
            return super()._build_lr_scheduler(optimizer)
        total, warmup = config.total_training_steps, config.lr_warmup_steps
        if total <= 0:
            raise ValueError(f"optim.total_training_steps is {total}, and a line has to end somewhere")
        if warmup is None or warmup <= 0:
            warmup = int(config.lr_warmup_steps_ratio * total)
        # Its step is in verl's checkpoints, so that a resumed run goes on along the line.
        return get_linear_schedule_with_warmup(optimizer, num_warmup_steps=warmup, num_training_steps=total)

    def save_checkpoint(self, local_path: str, *args, **kwargs) -> None:
        super().save_checkpoint(local_path, *args, **kwargs)
        if self._saves_merged:
            self._save_merged(Path(local_path) / "huggingface")

    def _save_merged(self, folder: Path) -> None:
        """Write the model with its adapters merged in, as any reader of HF checkpoints expects it; all ranks call."""
        if self._is_offload_param:
            load_fsdp_model_to_gpu(self.module)
        state = {}
        with merged_lora_context(self.module, backup_adapters=True):
            for name, value in normalize_peft_param_name(self.module.state_dict()).items():
                whole = value.full_tensor() if hasattr(value, "full_tensor") else value
                if self.rank == 0:
                    # A copy: the merged weights are undone when the context ends.
                    state[name] = whole.detach().to("cpu", copy=True)
        if self._is_offload_param:
            offload_fsdp_model_to_cpu(self.module)
        if self.rank == 0:
            config = self.model_config.hf_config
            with torch.device("meta"):
                model = get_hf_auto_model_class(hf_config=config).from_config(config)
            # verl has written the start model's; the new model's own would replace it.
            if (folder / "generation_config.json").is_file():
                model.generation_config = GenerationConfig.from_pretrained(folder)
            drop_tied_target_keys(state, model, config)
            model.save_pretrained(folder, state_dict=state)
        torch.distributed.barrier()


# As EngineRegistry.get_engine_cls looks: a machine's vendor before its device.
EngineRegistry.register(
    model_type="language_model",
    backend=["fsdp2"],
    device=os.getenv("VERL_ENGINE_DEVICE") or get_device_name(),
    vendor=os.getenv("VERL_ENGINE_VENDOR") or get_vendor(),
)(MedGRPOEngine)

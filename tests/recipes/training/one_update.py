# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""What verl's actor makes of one fixed batch: `python one_update.py DATA MODEL OUTPUT [SETTING...]`.

A process of its own because verl replaces the forward passes of transformers' models for the whole process. Writes
(torch) the log-probabilities and entropies (nested over rollouts), the loss and all gradients.
"""

from __future__ import annotations

import os
import sys
import types
from functools import partial
from pathlib import Path

import recipes.medgrpo.plugin  # noqa: F401  isort: skip

import torch
import verl  # noqa: F401
from hydra import compose, initialize_config_dir
from verl.experimental.agent_loop.agent_loop import AgentLoopWorker
from verl.utils import tensordict_utils
from verl.utils.config import omega_conf_to_dataclass
from verl.utils.tensordict_utils import list_of_dict_to_tensordict
from verl.workers.engine import EngineRegistry
from verl.workers.utils.losses import ppo_loss

from recipes.medgrpo.data.dataset import chat_of, read_rows
from recipes.medgrpo.data.video import clips_of
from recipes.medgrpo.rollout.transformers_engine import prompt_ids

CONFIG = Path(__file__).resolve().parents[3] / "recipes/medgrpo/config"
# Answers to each prompt and their tokens: groups of several sizes, and more answers than one attention call serves.
LENGTHS = [[7, 1, 19, 4], [12], [3, 3, 30], [2 + at % 9 for at in range(40)], [5, 8]]


def rollouts(processor, data: Path):
    """A batch as verl's agent loop puts it together, the answers of all prompts mixed."""
    draw = torch.Generator().manual_seed(0)
    rows, fields = read_rows(str(data / "train.parquet")), []
    worker = types.SimpleNamespace(
        processor=processor, tokenizer=processor.tokenizer, _get_mm_processor_kwargs=lambda audios: {}
    )
    for place, lengths in enumerate(LENGTHS):
        messages = chat_of(rows.row(7 * place))
        clips = clips_of(messages)
        if place == len(LENGTHS) - 1:
            # The words of the prompt before, and its clip backwards: it must share nothing with it.
            messages = chat_of(rows.row(7 * (place - 1)))
            clips = [(frames.flip(0), metadata) for frames, metadata in clips_of(messages)]
        asked = torch.tensor(prompt_ids(processor, messages, clips))
        output = types.SimpleNamespace(multi_modal_data={"videos": clips}, mm_processor_kwargs=None)
        for length in lengths:
            said = torch.randint(300, 400, (length,), generator=draw)
            ids, ones = torch.cat([asked, said]), torch.ones(length, dtype=torch.int64)
            seen = AgentLoopWorker._compute_multi_modal_inputs(worker, output, ids)
            places = AgentLoopWorker._compute_position_ids(worker, ids[None], torch.ones_like(ids)[None], seen)
            fields.append(
                {"prompts": asked, "responses": said, "input_ids": ids, "position_ids": places[0]}
                | {"multi_modal_inputs": seen, "response_mask": ones, "loss_mask": ones}
                | {"old_log_probs": torch.randn(length, generator=draw) / 8 - 6}
                | {"advantages": torch.randn(1, generator=draw).repeat(length)}
            )
    mixed = torch.randperm(len(fields), generator=draw).tolist()
    return list_of_dict_to_tensordict([fields[at] for at in mixed])


def main(data: str, model: str, output: str, *settings: str) -> None:
    torch.set_num_threads(1)
    os.environ |= {"MEDGRPO_DATA": data, "MEDGRPO_MODEL": model, "MEDGRPO_STATISTICS": "none"}
    torch.distributed.init_process_group("gloo", init_method=f"file://{output}.store", rank=0, world_size=1)
    with initialize_config_dir(str(CONFIG), version_base=None):
        parts = compose("medgrpo_cpu", [*settings]).actor_rollout_ref
    checkpoint, actor = omega_conf_to_dataclass(parts.model), omega_conf_to_dataclass(parts.actor)
    checkpoint.model_type = "language_model"
    engine = EngineRegistry.new(
        model_type="language_model",
        backend=actor.engine.strategy,
        model_config=checkpoint,
        engine_config=actor.engine,
        optimizer_config=actor.optim,
        checkpoint_config=actor.checkpoint,
    )
    engine.initialize()
    batch = rollouts(checkpoint.processor, Path(data))

    def asked(tokens: int, **more):
        copy = batch.copy()
        tensordict_utils.assign_non_tensor(
            copy,
            temperature=0.8,
            use_remove_padding=False,
            use_fused_kernels=False,
            use_dynamic_bsz=True,
            max_token_len_per_gpu=tokens,
            global_batch_size=len(batch),
            **more,
        )
        tensordict_utils.maybe_fix_3d_position_ids(copy)
        return copy

    with engine.eval_mode():
        scored = asked(parts.rollout.log_prob_max_token_len_per_gpu, calculate_entropy=True)
        made = engine.infer_batch(scored, loss_function=None)["model_output"]
    with engine.train_mode():
        engine.optimizer_zero_grad()
        trained = asked(actor.ppo_max_token_len_per_gpu)
        losses = engine.forward_backward_batch(trained, partial(ppo_loss, config=actor))["loss"]
        gradients = {name: parameter.grad for name, parameter in engine.module.named_parameters()}
        gradients = {name: value.full_tensor() for name, value in gradients.items() if value is not None}
    torch.save(
        {name: [row.clone() for row in made[name].unbind()] for name in ("log_probs", "entropy")}
        | {"loss": sum(losses), "gradients": gradients}
        | {"answers": batch["responses"].offsets().diff().tolist()},
        output,
    )


if __name__ == "__main__":
    main(*sys.argv[1:])

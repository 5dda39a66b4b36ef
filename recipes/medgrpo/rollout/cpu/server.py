# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""A verl rollout server that samples with transformers on the CPU (`rollout.name=transformers_cpu`).

Requests that wait are served by one call of the engine. Whatever goes wrong while they are served is handed to
each of them: an unanswered request would let the trainer wait for ever.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import ray
import torch
from verl.utils.config import omega_conf_to_dataclass
from verl.utils.tokenizer import normalize_token_ids
from verl.workers.config import HFModelConfig
from verl.workers.rollout.base import BaseRollout
from verl.workers.rollout.replica import RolloutMode, RolloutReplica, TokenOutput
from verl.workers.rollout.utils import get_vision_placeholder_token_ids

from recipes.medgrpo.rollout.transformers_engine import Answer, Request, SamplingSettings, TransformersEngine

# A batch is complete when no request has come for this long: rollouts of a step arrive in a burst.
QUIET_S = 0.15
# Rollouts that one call serves at most; verl's `rollout.max_num_seqs` may ask for fewer.
MOST = 256


def actor_name(replica_rank: int) -> str:
    return f"transformers_cpu_server_{replica_rank}"


def _give(answer: asyncio.Future, result: Answer | Exception) -> None:
    # It is done already if it was given before, or if its caller gave it up.
    if answer.done():
        return
    if isinstance(result, Exception):
        answer.set_exception(result)
    else:
        answer.set_result(result)


class TransformersServer:
    """One model, one queue. A Ray actor; all methods are coroutines of one event loop."""

    def __init__(self, config, model_config, replica_rank: int):
        from transformers import AutoModelForImageTextToText

        self.config = omega_conf_to_dataclass(config)
        checkpoint: HFModelConfig = omega_conf_to_dataclass(model_config, dataclass_type=HFModelConfig)
        torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1))
        model = AutoModelForImageTextToText.from_pretrained(
            checkpoint.local_path, config=checkpoint.hf_config, dtype=torch.float32
        )
        banned = get_vision_placeholder_token_ids(checkpoint.processor) or ()
        self.engine = TransformersEngine(model, checkpoint.processor, banned)
        self.replica_rank = replica_rank
        self.most = max(1, min(MOST, self.config.max_num_seqs))
        self.global_steps: int | None = None
        # How often each prompt was asked since the weights came.
        self.asked: Counter[str] = Counter()
        self.lock = asyncio.Lock()
        self.waiting: list[tuple[Request, SamplingSettings, asyncio.Future]] = []
        self.arrived = 0.0
        self.worker: asyncio.Task | None = None

    def ready(self) -> bool:
        return True

    async def update_weights(self, state: dict[str, torch.Tensor], global_steps: int | None = None) -> None:
        async with self.lock:
            model = self.engine.model
            missing, unexpected = model.load_state_dict(state, strict=False)
            if model.config.tie_word_embeddings:
                tied = set(model._tied_weights_keys or [])
                missing = [name for name in missing if name not in tied]
            if missing or unexpected:
                raise RuntimeError(
                    f"actor and rollout hold different models: missing {missing[:3]}, unexpected {unexpected[:3]}"
                )
            model.tie_weights()
            if global_steps is not None:
                self.global_steps = global_steps
                self.asked.clear()

    async def generate(
        self,
        prompt_ids,
        sampling_params: dict[str, Any],
        request_id: str,
        image_data=None,
        video_data=None,
        answers: int = 1,
        **kwargs,
    ) -> TokenOutput:
        """As verl's servers. With more `answers` than one, `others` of its extra fields has the rest of them."""
        loop = asyncio.get_running_loop()
        shown = [*(video_data or []), *((image, None) for image in image_data or [])]
        request = Request(normalize_token_ids(prompt_ids), shown, seed=0)
        request = replace(request, key=request.group_key())
        asked: list[asyncio.Future] = [loop.create_future() for _ in range(answers)]
        settings = self._settings(sampling_params)
        for answer in asked:
            self.waiting.append((self._seeded(request, sampling_params.get("seed")), settings, answer))
        self.arrived = loop.time()
        if self.worker is None or self.worker.done():
            self.worker = asyncio.create_task(self._serve())
        first, *others = [
            TokenOutput(
                token_ids=result.token_ids,
                log_probs=result.log_probs if sampling_params.get("logprobs") else None,
                stop_reason="length" if result.truncated else "completed",
                extra_fields={"global_steps": self.global_steps},
            )
            for result in await asyncio.gather(*asked)
        ]
        if others:
            first.extra_fields["others"] = others
        return first

    def _seeded(self, request: Request, seed: int | None = None) -> Request:
        """With the seed that was asked for, as with vLLM, or one of its own.

        Training asks for none. The server's own follows from what is asked and how often, not from who asked first.
        """
        group = request.group_key()
        if seed is not None:
            return replace(request, seed=int(seed), key=group)
        number = self.asked[group]
        self.asked[group] += 1
        text = repr((int(self.config.seed or 0), self.global_steps, group, number))
        seed = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1
        return replace(request, seed=seed, key=group)

    def _settings(self, parameters: dict[str, Any]) -> SamplingSettings:
        limit = parameters.get("max_tokens") or parameters.get("max_new_tokens") or self.config.response_length
        return SamplingSettings(
            max_new_tokens=int(limit),
            temperature=float(parameters.get("temperature", 1.0)),
            top_p=float(parameters.get("top_p", 1.0)),
            top_k=int(parameters.get("top_k", -1)),
        )

    async def _serve(self) -> None:
        loop = asyncio.get_running_loop()
        while self.waiting:
            while len(self.waiting) < self.most and loop.time() - self.arrived < QUIET_S:
                await asyncio.sleep(QUIET_S / 3)
            settings = self.waiting[0][1]
            batch = [item for item in self.waiting if item[1] == settings][: self.most]
            taken = {id(item) for item in batch}
            self.waiting = [item for item in self.waiting if id(item) not in taken]
            asked = [answer for _, _, answer in batch]

            def told(place: int, result: Answer, asked=asked) -> None:
                # What is ready is scored by others while the rest is being sampled.
                loop.call_soon_threadsafe(_give, asked[place], result)

            answers: Sequence[Answer | Exception]
            try:
                async with self.lock:
                    requests = [request for request, _, _ in batch]
                    answers = await loop.run_in_executor(None, self._sample, requests, settings, told)
                if len(answers) != len(batch):
                    raise RuntimeError(f"the engine gave {len(answers)} answers to {len(batch)} requests")
            except Exception as error:
                answers = [error] * len(batch)
            for answer, result in zip(asked, answers, strict=True):
                _give(answer, result)

    def _sample(
        self, requests: list[Request], settings: SamplingSettings, told: Callable[[int, Answer], None]
    ) -> list[Answer]:
        try:
            return self.engine.generate(requests, settings, told)
        except StopIteration as error:
            # The one exception that a future refuses: whoever awaits it would wait for ever.
            raise RuntimeError("the engine ran out of clips: expected one for every video of a prompt") from error

    async def _nothing(self, *args, **kwargs) -> None:
        """Steps of a GPU server's life that a CPU server has no use for."""

    wake_up = sleep = clear_kv_cache = release_kv_cache = resume_kv_cache = _nothing
    abort_all_requests = resume_generation = start_profile = stop_profile = wait_for_requests_to_drain = _nothing


class TransformersReplica(RolloutReplica):
    async def init_standalone(self):
        """Without the worker per GPU that verl starts to hold its device and to receive weights from a trainer."""
        self.rollout_mode = RolloutMode.STANDALONE
        await self.launch_servers()

    async def launch_servers(self):
        server = ray.remote(TransformersServer).options(
            name=actor_name(self.replica_rank), num_cpus=0, max_concurrency=self.max_concurrency
        )
        self.servers = [
            server.remote(config=self.config, model_config=self.model_config, replica_rank=self.replica_rank)
        ]
        await self.servers[0].ready.remote()
        self._server_handle = self.servers[0]
        self._server_address = f"transformers_cpu://{self.replica_rank}"


class TransformersServerAdapter(BaseRollout):
    """Lives in the training worker and sends the server all weights after each update."""

    def __init__(self, config, model_config, device_mesh, replica_rank: int = -1):
        super().__init__(config, model_config, device_mesh)
        self.rank = int(os.environ["RANK"])
        self.replica_rank = self.rank if replica_rank == -1 else replica_rank
        self._server = None

    async def resume(self, tags):
        return

    async def release(self):
        return

    @torch.no_grad()
    async def update_weights(self, weights, global_steps=None, wire_format="named_tensors", **kwargs):
        if wire_format != "named_tensors":
            raise NotImplementedError(f"weights come as {wire_format!r}, the CPU rollout takes named_tensors")
        # Every rank has to iterate: gathering a sharded tensor is a collective operation.
        state = {name: tensor.detach().to("cpu", copy=True) for name, tensor in weights}
        if self._server is None:
            self._server = ray.get_actor(actor_name(self.replica_rank))
        await self._server.update_weights.remote(state, global_steps)

# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""verl's single-turn agent loop, which does once what the rollouts of a prompt have in common.

verl 0.9.1 starts every rollout anew (`verl/experimental/agent_loop/agent_loop.py`): it instantiates the loop from the
configuration, renders and tokenises the prompt, sends prompt and clip to the server, calls the processor twice for the
answer, once for a reward that does not look at it, has the answer scored in another process, and puts it into the queue
by itself. For tiny models this takes longer than sampling. It also puts the prompt's pixels into the queue a second
time, for SGLang, which nothing of ours serves with.

`actor_rollout_ref.rollout.agent.agent_loop_manager_class` names `Manager`. What reaches the queue is the same but for
those second pixels (`tests/recipes/rollout/test_agent_loops.py`).
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import ray
import torch
import transfer_queue as tq
from tensordict import TensorDict
from torch.utils.weak import WeakTensorKeyDictionary
from verl import DataProto
from verl.experimental.agent_loop.agent_loop import DictConfigWrap, ToolListWrap
from verl.experimental.agent_loop.single_turn_agent_loop import SingleTurnAgentLoop
from verl.trainer.ppo.reward import load_reward_manager
from verl.trainer.ppo.v1.agent_loop_tq import AgentLoopManagerTQ, AgentLoopWorkerTQ
from verl.utils.rollout_trace import rollout_trace_attr
from verl.utils.tensordict_utils import list_of_dict_to_tensordict
from verl.workers.rollout.llm_server import LLMServerClient
from verl.workers.rollout.replica import TokenOutput

from recipes.medgrpo.rollout.cpu.registration import ROLLOUT
from recipes.medgrpo.rollout.finite_answers import check_finite

SINGLE_TURN = "single_turn_agent"
KEPT = 512
"""Prompts whose tokens are remembered: more than a step has at once on a CPU."""
GATHER_S = 0.02
"""How long the first rollout of a prompt waits for the others, before the server is asked."""


class Remembered:
    """The results of the `KEPT` calls that were asked for last."""

    def __init__(self) -> None:
        self._results: OrderedDict[Any, Any] = OrderedDict()

    def get(self, key: Any, make: Callable[[], Any]) -> Any:
        if key not in self._results:
            self._results[key] = make()
        self._results.move_to_end(key)
        while len(self._results) > KEPT:
            self._results.popitem(last=False)
        return self._results[key]

    def forget(self, key: Any) -> None:
        self._results.pop(key, None)


class GroupClient:
    """verl's client, which asks a server of ours once for all rollouts of a prompt that ask together."""

    def __init__(self, client: LLMServerClient) -> None:
        self._client = client
        # By what is asked: the ids of the requests, and the task that brings as many answers.
        self._groups: dict[Any, tuple[list[str], asyncio.Task]] = {}

    async def generate(self, request_id: str, *, prompt_ids: list[int], sampling_params: dict, **shown: Any) -> Any:
        """As verl's: the answer to one rollout."""
        parts = [part for name in ("image_data", "video_data") for part in shown.get(name) or ()]
        # A clip comes with its metadata, and its rollouts share its frames; each has an image of its own.
        seen = [id(part[0]) if isinstance(part, tuple) else part.tobytes() for part in parts]
        key = (tuple(prompt_ids), repr(sampling_params), *seen)
        if key not in self._groups:
            asked = {"prompt_ids": prompt_ids, "sampling_params": sampling_params, **shown}
            ids: list[str] = []
            self._groups[key] = ids, asyncio.create_task(self._ask(key, ids, asked))
        ids, task = self._groups[key]
        ids.append(request_id)
        number = len(ids) - 1
        # A rollout that is given up must not take the others' answers with it.
        return (await asyncio.shield(task))[number]

    async def _ask(self, key: Any, ids: list[str], asked: dict[str, Any]) -> list[TokenOutput]:
        try:
            await asyncio.sleep(GATHER_S)
        finally:
            del self._groups[key]
        first = await self._client.generate(ids[0], answers=len(ids), **asked)
        others = first.extra_fields.pop("others", ())
        if 1 + len(others) != len(ids):
            raise RuntimeError(f"the rollout server gave {1 + len(others)} answers to {len(ids)} rollouts")
        # What verl's client says of the first holds for all of them.
        return [first, *(one.model_copy(update={"extra_fields": dict(first.extra_fields)}) for one in others)]


class Puts:
    """The transfer queue, to which what comes while it is busy goes together, in one message."""

    def __init__(self) -> None:
        self._busy = asyncio.Lock()
        # By what belongs into one message: its rows so far, and the task that will send them.
        self._next: dict[Any, tuple[list[tuple], asyncio.Task]] = {}

    async def put(self, key: str, field: dict[str, Any], tag: dict[str, Any], partition: str) -> None:
        """Put one answer's fields and its tag; returns when they are there."""
        kind = (partition, *field)
        if kind not in self._next:
            rows: list[tuple] = []
            self._next[kind] = rows, asyncio.create_task(self._send(kind, rows))
        rows, task = self._next[kind]
        rows.append((key, field, tag))
        number = len(rows) - 1
        if error := (await asyncio.shield(task))[number]:
            raise error

    async def _send(self, kind: Any, rows: list[tuple]) -> list[BaseException | None]:
        """Of each row the error with which it was not put."""
        async with self._busy:
            del self._next[kind]
            try:
                await self._message(kind[0], rows)
                return [None] * len(rows)
            except Exception:
                # A row that cannot be put must not take the others with it.
                alone = (self._message(kind[0], [row]) for row in rows)
                return await asyncio.gather(*alone, return_exceptions=True)

    @staticmethod
    async def _message(partition: str, rows: Sequence[tuple]) -> None:
        keys, fields, tags = (list(part) for part in zip(*rows, strict=True))
        together = list_of_dict_to_tensordict(fields)
        await tq.async_kv_batch_put(keys=keys, fields=together, tags=tags, partition_id=partition)


class Loop(SingleTurnAgentLoop):
    """Serves all rollouts of a worker, and tokenises each prompt once."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._prompts = Remembered()

    async def ct_build_initial_tokens(self, messages: list[dict], *args: Any, **kwargs: Any) -> list[int]:
        # The features that verl hands back here are meant for SGLang.
        kwargs["mm_inputs_out"] = None
        build = super().ct_build_initial_tokens
        key = repr(messages)  # with the files of its clips
        ids = self._prompts.get(key, lambda: asyncio.ensure_future(build(messages, *args, **kwargs)))
        try:
            # A rollout that is given up must not take the others' prompt with it.
            return list(await asyncio.shield(ids))
        except Exception:
            # Whoever asks next may have more luck.
            self._prompts.forget(key)
            raise


class Worker(AgentLoopWorkerTQ.__ray_metadata__.modified_class):  # type: ignore[misc]  # a class that ray made
    """Runs all single-turn rollouts with one `Loop`, makes a clip's inputs once, and scores answers itself."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        client: Any = self.llm_client
        # verl's other clients make answers of their own of a server's.
        own = self.rollout_config.name == ROLLOUT and type(client) is LLMServerClient
        self.llm_client: Any = GroupClient(client) if own else client
        self._rewards: Any = None
        self._puts = Puts()
        self._remember()

    def _remember(self) -> None:
        self._loop: Loop | None = None
        # By the frames themselves, which all rollouts of a prompt share.
        self._clips = WeakTensorKeyDictionary()

    async def _run_agent_loop(
        self, sampling_params: dict, trajectory: dict, *, agent_name: str, trace: bool = True, **kwargs: Any
    ):
        if agent_name != SINGLE_TURN:
            return await super()._run_agent_loop(
                sampling_params, trajectory, agent_name=agent_name, trace=trace, **kwargs
            )
        if self._loop is None:
            self._loop = Loop(
                trainer_config=DictConfigWrap(config=self.config),
                server_manager=self.llm_client,
                tokenizer=self.tokenizer,
                processor=self.processor,
                hf_model_type=self.hf_model_type,
                dataset_cls=self.dataset_cls,
                data_config=DictConfigWrap(self.config.data),
                tools=ToolListWrap(self.tools),
            )
        where = {name: trajectory[name] for name in ("step", "sample_index", "rollout_n", "validate")}
        with rollout_trace_attr(name="agent_loop", trace=trace, **where):
            output = await self._loop.run(sampling_params, **kwargs)
            return await self._agent_loop_postprocess(output, trajectory["validate"], **kwargs)

    async def _agent_loop_postprocess(self, output: Any, validate: bool, **kwargs: Any) -> None:
        """What verl puts of a rollout with one output, put together with that of others."""
        if isinstance(output, list) or self.distillation_enabled:
            return await super()._agent_loop_postprocess(output, validate, **kwargs)
        await self._compute_score([output], kwargs=kwargs)
        asked, said = len(output.prompt_ids), len(output.response_ids)
        input_ids = torch.tensor([*output.prompt_ids, *output.response_ids])
        inputs = self._compute_multi_modal_inputs(output, input_ids)
        positions = self._compute_position_ids(input_ids[None], torch.ones_like(input_ids)[None], inputs)
        field = {**output.as_dict(), **kwargs}
        # The frames themselves; what a model takes of them stands in the inputs.
        field.pop("multi_modal_data", None)
        field["loss_mask"] = field["response_mask"]
        field |= {"input_ids": input_ids, "position_ids": positions[0], "multi_modal_inputs": inputs}
        tag = {
            "status": "success",
            "prompt_len": asked,
            "response_len": said,
            "seq_len": asked + said,
            "global_steps": kwargs["global_steps"],
            "min_global_steps": output.extra_fields.get("min_global_steps"),
            "max_global_steps": output.extra_fields.get("max_global_steps"),
        }
        key = f"{kwargs['uid']}_{kwargs['session_id']}_0"
        await self._puts.put(key, field, tag, "val" if validate else "train")

    async def _compute_score(self, outputs: list, kwargs: dict[str, Any]) -> None:
        """In this process. verl sends each answer to another, with inputs of the model that no reward reads."""
        *_, last = outputs
        scored = last.reward_score is not None or self.reward_loop_worker_handles is None
        # verl's workers know where the servers of a reward model are.
        if scored or self.config.reward.reward_model.enable:
            return await super()._compute_score(outputs, kwargs)
        check_finite(outputs)
        if self._rewards is None:
            self._rewards = load_reward_manager(self.config, self.tokenizer)
        start = time.perf_counter()
        result = await self._rewards.run_single(_scored(last, kwargs))
        last.reward_score = result["reward_score"]
        last.extra_fields["reward_extra_info"] = result["reward_extra_info"]
        last.metrics.compute_score = time.perf_counter() - start

    def _compute_multi_modal_inputs(self, output: Any, input_ids: torch.Tensor) -> dict[str, Any]:
        data = output.multi_modal_data or {}
        videos: list = data.get("videos") or []
        if len(videos) != 1 or data.get("images") or data.get("audios"):
            return super()._compute_multi_modal_inputs(output, input_ids)
        ((frames, metadata),) = videos
        made = self._clips.setdefault(frames, {})
        if (settings := repr((metadata, output.mm_processor_kwargs))) not in made:
            made[settings] = super()._compute_multi_modal_inputs(output, input_ids)
        # The caller takes parts out.
        return dict(made[settings])


def _scored(output: Any, row: dict[str, Any]) -> DataProto:
    """What verl's reward managers get of an answer to this row of the dataset."""
    responses = torch.tensor([output.response_ids])
    columns = {
        **row,
        # A manager adds to it.
        "extra_info": dict(row.get("extra_info") or {}),
        "__num_turns__": output.num_turns,
        "tool_extra_fields": output.extra_fields,
        "prompt_len": len(output.prompt_ids),
        "response_len": len(output.response_ids),
    }
    return DataProto(
        batch=TensorDict({"responses": responses, "attention_mask": torch.ones_like(responses)}, batch_size=1),
        non_tensor_batch={name: np.fromiter([value], dtype=object, count=1) for name, value in columns.items()},
    )


class Manager(AgentLoopManagerTQ):
    """verl's manager with workers of this module."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.agent_loop_workers_class = ray.remote(Worker)

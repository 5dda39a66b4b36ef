# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""verl's single-turn agent loop, which does once what the rollouts of a prompt have in common.

verl 0.9.1 starts every rollout anew (`verl/experimental/agent_loop/agent_loop.py`): it instantiates the loop from the
configuration, renders and tokenises the prompt, sends prompt and clip to the server, and calls the processor twice for
the answer, once for a reward that does not look at it. For tiny models this takes longer than sampling. It also puts
the prompt's pixels into its queue a second time, for SGLang, which nothing of ours serves with.

`actor_rollout_ref.rollout.agent.agent_loop_manager_class` names `Manager`. What reaches the queue is the same but for
those second pixels (`tests/recipes/rollout/test_agent_loops.py`).
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
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
from verl.workers.rollout.replica import TokenOutput

from recipes.medgrpo.rollout.cpu.registration import ROLLOUT
from recipes.medgrpo.rollout.finite_answers import check_finite

SINGLE_TURN = "single_turn_agent"
TYPES = "mm_token_type_ids"
"""The one input that depends on the answer. verl only looks whether it is there."""
KEPT = 512
"""Prompts, and rollouts, whose results are remembered: more than a step has at once on a CPU."""
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

    def __init__(self, client: Any) -> None:
        self._client = client
        self._waiting: dict[Any, list[asyncio.Future]] = {}
        self._asking: set[asyncio.Task] = set()

    async def generate(self, request_id: str, *, prompt_ids: list[int], sampling_params: dict, **shown: Any) -> Any:
        """As verl's: the answer to one rollout."""
        clips = [part for name in ("image_data", "video_data") for part in shown.get(name) or ()]
        # Of a clip with its metadata, its frames.
        frames = [id(part[0] if isinstance(part, tuple) else part) for part in clips]
        key = (tuple(prompt_ids), repr(sampling_params), *frames)
        answer: asyncio.Future = asyncio.get_running_loop().create_future()
        waiting = self._waiting.setdefault(key, [])
        waiting.append(answer)
        if len(waiting) == 1:
            asked = {"prompt_ids": prompt_ids, "sampling_params": sampling_params, **shown}
            task = asyncio.create_task(self._ask(key, request_id, asked))
            self._asking.add(task)
            task.add_done_callback(self._asking.discard)
        return await answer

    async def _ask(self, key: Any, request_id: str, asked: dict[str, Any]) -> None:
        await asyncio.sleep(GATHER_S)
        waiting = self._waiting.pop(key)
        answers: list[TokenOutput | Exception]
        try:
            first = await self._client.generate(request_id, answers=len(waiting), **asked)
            others = first.extra_fields.pop("others", ())
            # What verl's client says of the answer holds for all of them.
            answers = [first, *(one.model_copy(update={"extra_fields": dict(first.extra_fields)}) for one in others)]
        except Exception as error:
            answers = [error] * len(waiting)
        for future, answer in zip(waiting, answers, strict=True):
            if future.done():
                continue  # given up
            if isinstance(answer, Exception):
                future.set_exception(answer)
            else:
                future.set_result(answer)


class Puts:
    """The transfer queue, to which what comes while it is busy goes together, in one message."""

    def __init__(self) -> None:
        self._waiting: list[tuple[str, dict, dict, str, asyncio.Future]] = []
        self._task: asyncio.Task | None = None

    async def put(self, key: str, field: dict[str, Any], tag: dict[str, Any], partition: str) -> None:
        """Put one answer's fields and its tag; returns when they are there."""
        done: asyncio.Future = asyncio.get_running_loop().create_future()
        self._waiting.append((key, field, tag, partition, done))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._send())
        await done

    async def _send(self) -> None:
        while self._waiting:
            kind = self._waiting[0][1].keys(), self._waiting[0][3]
            together = [one for one in self._waiting if (one[1].keys(), one[3]) == kind]
            taken = {id(one[4]) for one in together}
            self._waiting = [one for one in self._waiting if id(one[4]) not in taken]
            keys, fields, tags, (partition, *_), futures = (list(part) for part in zip(*together, strict=True))
            error: Exception | None = None
            try:
                put = list_of_dict_to_tensordict(fields)
                await tq.async_kv_batch_put(keys=keys, fields=put, tags=tags, partition_id=partition)
            except Exception as found:
                error = found
            for done in futures:
                if done.done():
                    continue  # given up
                if error is None:
                    done.set_result(None)
                else:
                    done.set_exception(error)


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
        if self.rollout_config.name == ROLLOUT:
            self.llm_client = GroupClient(self.llm_client)
        self._rewards, self._puts = None, Puts()
        self._remember()

    def _remember(self) -> None:
        self._loop: Loop | None = None
        # By the frames themselves, which all rollouts of a prompt share.
        self._clips = WeakTensorKeyDictionary()
        self._positions = Remembered()

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

    def _compute_position_ids(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, multi_modal_inputs: dict[str, Any], *args: Any
    ) -> torch.Tensor:
        """Asked twice for each rollout, with the same; what is asked for with padding is not remembered."""
        make = super()._compute_position_ids
        grids = {
            # To print a tensor takes a millisecond.
            name: repr(value.tolist() if isinstance(value, torch.Tensor) else value)
            for name, value in multi_modal_inputs.items()
            if not name.startswith("pixel_values")
        }
        grids[TYPES] = str(TYPES in multi_modal_inputs)
        if not attention_mask.all():
            return make(input_ids, attention_mask, multi_modal_inputs, *args)
        found = self._positions.get(
            (tuple(input_ids.flatten().tolist()), tuple(sorted(grids.items()))),
            lambda: make(input_ids, attention_mask, dict(multi_modal_inputs), *args),
        )
        multi_modal_inputs.pop(TYPES, None)
        return found


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

# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""What the rollouts of a prompt have in common is made once, and is what verl makes for each of them."""

import asyncio
import copy
import types

import pytest
import torch

from reward_score.conventions import CONVENTIONS


@pytest.fixture
def worker(family):
    """A worker of ours that has the family's processor and has not been started by ray."""
    from recipes.medgrpo.rollout.agent_loops import Worker

    worker = object.__new__(Worker)
    worker.processor, worker.tokenizer, worker.mm_processor_kwargs = family.processor, family.processor.tokenizer, {}
    worker._remember()
    return worker


def test_inputs_and_positions_are_verls_for_every_answer(family, worker):
    request, other = family.request(0), family.request(5)
    for asked in (request, other, request):
        output = types.SimpleNamespace(multi_modal_data={"videos": list(asked.videos)}, mm_processor_kwargs=None)
        for answer in ([301, 302], [303] * 9, [303] * 9):
            ids, positions, inputs = family.actor_inputs(asked, answer)
            for _ in range(2):
                made = worker._compute_multi_modal_inputs(output, ids)
                assert worker._compute_position_ids(ids, torch.ones_like(ids), made, {})[0].equal(positions)
                assert made.keys() == inputs.keys()
                for name, value in inputs.items():
                    torch.testing.assert_close(made[name], value, rtol=0, atol=0)


def test_a_clip_is_processed_once_for_all_its_answers(family, worker, monkeypatch):
    from verl.experimental.agent_loop import agent_loop

    calls, build = [], agent_loop.build_multimodal_processor_inputs
    monkeypatch.setattr(
        agent_loop,
        "build_multimodal_processor_inputs",
        lambda *args, **kwargs: calls.append(1) or build(*args, **kwargs),
    )
    request = family.request(0)
    output = types.SimpleNamespace(multi_modal_data={"videos": list(request.videos)}, mm_processor_kwargs=None)
    for answer in ([301], [302, 303], [304]):
        worker._compute_multi_modal_inputs(output, torch.tensor([[*request.prompt_ids, *answer]]))
    assert len(calls) == 1


def test_rollouts_of_a_prompt_get_the_engines_prompt_and_tokenise_it_once(family):
    from verl.utils.tokenizer.continuous_token_wiring import create_continuous_token_builder

    from recipes.medgrpo.data.video import clips_of
    from recipes.medgrpo.rollout.agent_loops import Loop, Remembered

    builder = create_continuous_token_builder(
        family.processor.tokenizer,
        hf_model_type=family.engine.model.config.model_type,
        chat_template_kwargs=CONVENTIONS[family.name].template,
        processor=family.processor,
    )
    calls, build = [], builder.build_initial_tokens
    builder.build_initial_tokens = lambda *args, **kwargs: calls.append(1) or build(*args, **kwargs)

    async def prompts():
        loop = object.__new__(Loop)
        loop._prompts, loop.loop = Remembered(), asyncio.get_running_loop()
        loop.continuous_token_builder = builder
        loop.rollout_config = types.SimpleNamespace(prompt_length=512)
        chats = [family.messages(row) for row in (0, 5, 0, 0)]
        return await asyncio.gather(
            *(loop.ct_build_initial_tokens(chat, videos=clips_of(chat), mm_inputs_out={}) for chat in chats)
        )

    first, other, *again = asyncio.run(prompts())
    assert again == [first, first] and first is not again[0]
    assert [first, other] == [family.request(row).prompt_ids for row in (0, 5)]
    assert len(calls) == 2


def answered(family, row, number, *, score=None):
    """One answer to the prompt of a row, as verl's loop hands it on."""
    from verl.experimental.agent_loop.agent_loop import AgentLoopMetrics, AgentLoopOutput

    request = family.request(row)
    said = [301 + number, *[302] * number]
    return AgentLoopOutput(
        prompt_ids=request.prompt_ids,
        response_ids=said,
        response_mask=[1] * len(said),
        response_logprobs=[-0.5] * len(said),
        multi_modal_data={"videos": list(request.videos)},
        reward_score=score,
        num_turns=2,
        metrics=AgentLoopMetrics(),
        extra_fields={"min_global_steps": 3, "max_global_steps": 3, "reward_extra_info": {"acc": 1.0}},
    )


@pytest.fixture
def puts(worker, monkeypatch):
    """What is put into the transfer queue, message by message, by a worker that scores nothing."""
    import transfer_queue

    from recipes.medgrpo.rollout.agent_loops import Puts

    messages = []

    async def put(**message):
        await asyncio.sleep(0)
        messages.append(message)
        if "refused" in message["keys"][0]:
            raise OSError("the queue is full")

    monkeypatch.setattr(transfer_queue, "async_kv_batch_put", put)
    worker.distillation_enabled, worker.reward_loop_worker_handles, worker._puts = False, None, Puts()
    return messages


def put_all(postprocess, family, uids):
    async def together():
        return await asyncio.gather(
            *(
                postprocess(
                    answered(family, row, number, score=0.25 * number),
                    False,
                    **{"uid": uid, "session_id": number, "global_steps": 3, "raw_prompt": [{"role": "user"}]},
                )
                for number, (uid, row) in enumerate(uids)
            ),
            return_exceptions=True,
        )

    return asyncio.run(together())


def plain(value):
    """With numbers in the place of tensors, so that == compares all of it."""
    if isinstance(value, torch.Tensor):
        return value.dtype, value.tolist()
    return {name: plain(part) for name, part in value.items()} if isinstance(value, dict) else value


def rows_of(messages):
    """{key: (tag, partition, fields)} of all messages."""
    from verl.utils.tensordict_utils import unwrap_non_tensor_data

    found = {}
    for message in messages:
        columns = {name: list(message["fields"][name]) for name in message["fields"].keys()}
        for at, (key, tag) in enumerate(zip(message["keys"], message["tags"], strict=True)):
            fields = {name: plain(unwrap_non_tensor_data(column[at])) for name, column in columns.items()}
            found[key] = tag, message["partition_id"], fields
    return found


def test_the_queue_gets_what_verl_puts_there_in_fewer_messages(family, worker, puts):
    from verl.trainer.ppo.v1.agent_loop_tq import AgentLoopWorkerTQ

    uids = [("a", 0), ("a", 0), ("b", 5), ("a", 0)]
    theirs = AgentLoopWorkerTQ.__ray_metadata__.modified_class._agent_loop_postprocess
    put_all(lambda *args, **kwargs: theirs(worker, *args, **kwargs), family, uids)
    expected = rows_of(puts)
    assert len(puts) == len(expected) == len(uids)
    puts.clear()
    put_all(worker._agent_loop_postprocess, family, uids)
    assert len(puts) == 1
    found = rows_of(puts)
    assert list(found) == list(expected) == ["a_0_0", "a_1_0", "b_2_0", "a_3_0"]
    assert found == expected
    assert {"multi_modal_inputs", "position_ids", "rm_scores"} <= expected["a_0_0"][2].keys()


def test_a_row_that_cannot_be_put_takes_no_other_with_it(family, worker, puts):
    lost, *others = put_all(worker._agent_loop_postprocess, family, [("refused", 0), ("a", 0), ("b", 5)])
    assert str(lost) == "the queue is full" and others == [None, None]
    # Together first, then each alone.
    assert [len(message["keys"]) for message in puts] == [3, 1, 1, 1]


def test_what_comes_while_the_queue_is_busy_goes_together(family, worker, puts):
    from recipes.medgrpo.rollout.agent_loops import Puts

    async def scene():
        queue = Puts()

        async def later(key, partition):
            await asyncio.sleep(0)  # the first is on its way
            await queue.put(key, {"tokens": torch.tensor([1])}, {"status": "success"}, partition)

        first = queue.put("a_0_0", {"tokens": torch.tensor([1])}, {"status": "success"}, "train")
        await asyncio.gather(first, later("a_1_0", "train"), later("c_0_0", "val"), later("b_0_0", "train"))

    asyncio.run(scene())
    assert [message["keys"] for message in puts] == [["a_0_0"], ["a_1_0", "b_0_0"], ["c_0_0"]]


REWARD = """
actor_rollout_ref: {model: {tokenizer_path: %s, path: null}}
reward:
  custom_reward_function: {path: "pkg://reward_score.medgrpo", name: compute_score, reward_kwargs: {}}
  reward_model: {enable: false}
  reward_manager: {source: register, name: naive}
"""


class InThisProcess:
    """verl's reward worker, called as if it were an actor of ray."""

    def __init__(self, config):
        from verl.experimental.reward_loop.reward_loop import RewardLoopWorker

        self._worker, self.calls = RewardLoopWorker(config), 0
        self.compute_score = types.SimpleNamespace(remote=self._score)

    async def _score(self, data):
        self.calls += 1
        return await self._worker.compute_score(data)


def test_answers_get_verls_score_without_another_process(family, worker):
    from omegaconf import OmegaConf
    from verl.experimental.agent_loop.agent_loop import AgentLoopWorker

    from recipes.medgrpo.data.dataset import read_rows

    worker.config = OmegaConf.create(REWARD % family.path)
    rows = read_rows(str(family.data / "train.parquet")).to_pylist()[:6]

    def right(row):
        output = answered(family, 0, 0)
        output.response_ids = worker.tokenizer.encode(row["extra_info"]["answer"])
        return output

    async def scored():
        handle = InThisProcess(worker.config)
        worker.reward_loop_worker_handles, worker._rewards = [handle], None
        pairs = []
        for row in rows:
            kwargs = {**row, "raw_prompt": row["prompt"], "uid": "a", "session_id": 0}
            before = copy.deepcopy(kwargs)
            theirs, ours = right(row), right(row)
            await AgentLoopWorker._compute_score(worker, [theirs], kwargs=kwargs)
            calls = handle.calls
            kwargs = copy.deepcopy(before)
            await worker._compute_score([ours], kwargs=kwargs)
            assert handle.calls == calls
            assert kwargs == before  # it goes into the queue
            pairs.append((theirs, ours))
        return pairs

    pairs = asyncio.run(scored())
    for theirs, ours in pairs:
        assert ours.reward_score == theirs.reward_score
        assert ours.extra_fields == theirs.extra_fields
    assert any(ours.reward_score > 0.5 for _, ours in pairs)

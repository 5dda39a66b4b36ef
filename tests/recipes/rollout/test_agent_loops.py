# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""What the rollouts of a prompt have in common is made once, and is what verl makes for each of them."""

import asyncio
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

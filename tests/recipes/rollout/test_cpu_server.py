# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""The rollout server's queue: requests that wait are one batch, and none is left unanswered."""

import asyncio
import os

import pytest
import torch
from PIL import Image

if os.environ.get("VERL_PLATFORM") != "cpu":
    pytest.skip("the CPU rollout belongs to VERL_PLATFORM=cpu", allow_module_level=True)

SAMPLING = {"temperature": 1.0, "top_p": 1.0, "top_k": -1, "logprobs": True}


class Engine:
    """Stands in for the sampler: echoes prompts, remembers batches, fails on command; tells those of `early` first."""

    def __init__(self):
        self.batches = []
        self.failures = []
        self.early = ()

    def generate(self, requests, settings, told):
        from recipes.medgrpo.rollout.transformers_engine import Answer

        self.batches.append(([request.prompt_ids for request in requests], settings))
        for place, ids in self.early:
            told(place, Answer(ids, [-1.0] * len(ids), False))
        if self.failures:
            fault = self.failures.pop(0)
            if isinstance(fault, Exception):
                raise fault
            requests = requests[:fault]
        return [Answer(request.prompt_ids[::-1], [-1.0] * len(request.prompt_ids), False) for request in requests]


@pytest.fixture(scope="module")
def real_server(qwen2_5_vl):
    from omegaconf import OmegaConf

    from recipes.medgrpo.rollout.cpu.server import TransformersServer

    rollout = {"_target_": "verl.workers.config.RolloutConfig", "name": "transformers_cpu", "response_length": 8}
    model = {
        "_target_": "verl.workers.config.HFModelConfig",
        "path": str(qwen2_5_vl.path),
        "override_config": {"attn_implementation": "sdpa"},
    }
    server = TransformersServer(OmegaConf.create({**rollout, "seed": 3}), OmegaConf.create(model), 0)
    torch.set_num_threads(1)  # the server takes every core
    return server


@pytest.fixture
def server(real_server, monkeypatch):
    """The real server with the stand-in engine."""
    monkeypatch.setattr(real_server, "engine", Engine())
    for name, value in (("waiting", []), ("worker", None), ("lock", asyncio.Lock())):
        monkeypatch.setattr(real_server, name, value)
    return real_server


def ask(server, *prompts, **sampling):
    return [server.generate(list(prompt), SAMPLING | sampling, f"id{k}") for k, prompt in enumerate(prompts)]


def run(*coroutines):
    """Results or errors, in order; an answer that never comes is a failure of the test."""

    async def all_of_them():
        return await asyncio.wait_for(asyncio.gather(*coroutines, return_exceptions=True), timeout=5)

    return asyncio.run(all_of_them())


def test_waiting_requests_are_served_in_one_call(server):
    outputs = run(*ask(server, [1, 2], [3, 4], [5]))
    assert [output.token_ids for output in outputs] == [[2, 1], [4, 3], [5]]
    assert [prompts for prompts, _ in server.engine.batches] == [[[1, 2], [3, 4], [5]]]


def test_a_request_that_comes_while_others_are_served_is_the_next_batch(server):
    async def later():
        await asyncio.sleep(0.02)
        return await server.generate([9], SAMPLING, "late")

    async def first():
        output = await server.generate([1], SAMPLING, "first")
        return output, await server.generate([2], SAMPLING, "second")

    (one, two), late = run(first(), later())
    assert (one.token_ids, two.token_ids, late.token_ids) == ([1], [2], [9])
    assert [prompts for prompts, _ in server.engine.batches] == [[[1], [9]], [[2]]]


def test_only_requests_with_the_same_settings_share_a_call(server):
    outputs = run(*ask(server, [1]), *ask(server, [2], temperature=0.0), *ask(server, [3]))
    assert [output.token_ids for output in outputs] == [[1], [2], [3]]
    batches = [(prompts, settings.temperature) for prompts, settings in server.engine.batches]
    assert batches == [([[1], [3]], 1.0), ([[2]], 0.0)]


def test_a_call_serves_no_more_requests_than_verl_s_setting_allows(server, monkeypatch):
    assert server.most == 256
    monkeypatch.setattr(server, "most", 2)
    outputs = run(*ask(server, [1], [2], [3]))
    assert [output.token_ids for output in outputs] == [[1], [2], [3]]
    assert [prompts for prompts, _ in server.engine.batches] == [[[1], [2]], [[3]]]


def test_an_error_of_the_engine_reaches_everyone_who_waits(server):
    server.engine.failures = [MemoryError("out of memory")]
    assert [str(error) for error in run(*ask(server, [1], [2], [3]))] == ["out of memory"] * 3


def test_what_ended_before_an_error_is_answered(server):
    server.engine.early, server.engine.failures = [(1, [7])], [MemoryError("out of memory")]
    first, second, third = run(*ask(server, [1], [2], [3]))
    assert second.token_ids == [7]
    assert [str(error) for error in (first, third)] == ["out of memory"] * 2


def test_after_an_error_requests_are_served_again(server):
    server.engine.failures = [RuntimeError("once")]

    async def retry():
        with pytest.raises(RuntimeError, match="once"):
            await server.generate([1], SAMPLING, "a")
        return await server.generate([2], SAMPLING, "b")

    (output,) = run(retry())
    assert output.token_ids == [2]


def test_too_few_answers_are_an_error_for_all(server):
    server.engine.failures = [1]
    outcomes = run(*ask(server, [1], [2]))
    assert all(isinstance(outcome, Exception) for outcome in outcomes)


def test_a_request_that_was_given_up_takes_no_other_with_it(server):
    async def scene():
        given_up, *others = [asyncio.create_task(request) for request in ask(server, [1], [2], [3])]
        await asyncio.sleep(0.02)
        given_up.cancel()
        return await asyncio.gather(*others)

    (outputs,) = run(scene())
    assert [output.token_ids for output in outputs] == [[2], [3]]


def test_the_response_length_is_the_configs_unless_the_request_says(server):
    run(*ask(server, [1]))
    run(*ask(server, [1], max_tokens=5))
    assert [settings.max_new_tokens for _, settings in server.engine.batches] == [8, 5]


def test_log_probabilities_are_sent_when_asked_for(server):
    with_them, without = run(*ask(server, [1, 2]), *ask(server, [1, 2], logprobs=False))
    assert with_them.log_probs == [-1.0, -1.0] and without.log_probs is None


def test_an_image_reaches_the_engine_after_the_clips_and_without_times(server, monkeypatch):
    asked, generate = [], server.engine.generate
    monkeypatch.setattr(server.engine, "generate", lambda batch, *more: asked.extend(batch) or generate(batch, *more))
    clip, image = (torch.zeros(2, 3, 4, 4), {"fps": 1.0}), Image.new("RGB", (4, 4))
    run(server.generate([1], SAMPLING, "a", image_data=[image], video_data=[clip]))
    assert [list(request.videos) for request in asked] == [[clip, (image, None)]]


def seeds(server, step, prompts):
    """The seeds of these prompts, asked in this order after the weights of `step` came."""
    from recipes.medgrpo.rollout.transformers_engine import Request

    server.global_steps = step
    server.asked.clear()
    return [(prompt[0], server._seeded(Request(list(prompt), [], seed=0)).seed) for prompt in prompts]


def test_every_answer_of_every_step_has_its_own_seed(server):
    prompts = [[1], [1], [2], [2]]
    first, second, again = (seeds(server, step, prompts) for step in (1, 2, 1))
    assert first == again and len({seed for _, seed in [*first, *second]}) == 8


def test_who_asks_first_does_not_decide_the_seeds(server):
    assert sorted(seeds(server, 1, [[1], [2], [1], [2]])) == sorted(seeds(server, 1, [[2], [2], [1], [1]]))


def test_the_real_engine_answers_under_the_servers_seeds(real_server, qwen2_5_vl):
    from recipes.medgrpo.rollout.transformers_engine import Request, SamplingSettings

    request = qwen2_5_vl.request(0)
    state = {name: weight.clone() for name, weight in qwen2_5_vl.engine.model.state_dict().items()}

    async def scene():
        real_server.lock, real_server.worker = asyncio.Lock(), None
        await real_server.update_weights(state, global_steps=4)
        return await real_server.generate(request.prompt_ids, SAMPLING, "a", video_data=list(request.videos))

    output = asyncio.run(scene())
    real_server.asked.clear()
    expected = real_server._seeded(Request(request.prompt_ids, list(request.videos), seed=0))
    answer = qwen2_5_vl.engine.generate([expected], SamplingSettings(8))[0]
    assert output.token_ids == answer.token_ids
    assert output.log_probs == pytest.approx(answer.log_probs, abs=1e-5)
    assert output.stop_reason == ("length" if answer.truncated else "completed")
    assert output.extra_fields["global_steps"] == 4


def test_several_answers_to_one_request_are_those_of_several_requests(real_server, qwen2_5_vl):
    request = qwen2_5_vl.request(0)

    def asked(**more):
        return real_server.generate(request.prompt_ids, SAMPLING, "a", video_data=list(request.videos), **more)

    async def scene():
        real_server.lock, real_server.worker = asyncio.Lock(), None
        real_server.asked.clear()
        alone = await asyncio.gather(asked(), asked(), asked())
        real_server.asked.clear()
        return alone, await asked(answers=3)

    alone, first = asyncio.run(scene())
    together = [first, *first.extra_fields["others"]]
    assert [output.token_ids for output in together] == [output.token_ids for output in alone]
    assert len({tuple(output.token_ids) for output in alone}) == 3
    assert "others" not in alone[0].extra_fields


class Client:
    """verl's client without ray: hands requests to the server and stamps the answer."""

    def __init__(self, server):
        self.server, self.requests = server, []

    async def generate(self, request_id, *, prompt_ids, sampling_params, answers, **shown):
        self.requests.append((prompt_ids, answers))
        output = await self.server.generate(prompt_ids, sampling_params, request_id, answers=answers, **shown)
        output.extra_fields["max_global_steps"] = 7
        return output


def ask_together(server, client, asked):
    """The answers to [(prompt, frames, more of its sampling)], which rollouts ask for at once."""
    from recipes.medgrpo.rollout.agent_loops import GroupClient

    group = GroupClient(client)
    found = run(
        *(
            group.generate(f"id{number}", prompt_ids=prompt, sampling_params=SAMPLING | more, video_data=[(frames, {})])
            for number, (prompt, frames, more) in enumerate(asked)
        )
    )
    assert not group._groups
    return found


def test_rollouts_that_ask_the_same_are_one_request(server):
    client, clip, other = Client(server), torch.zeros(2, 3, 4, 4), torch.zeros(2, 3, 4, 4)
    cold = {"temperature": 0.5}
    asked = [([1, 2], clip, {}), ([3], clip, {}), ([1, 2], clip, {}), ([1, 2], other, {}), ([1, 2], clip, cold)]
    outputs = ask_together(server, client, asked)
    assert client.requests == [([1, 2], 2), ([3], 1), ([1, 2], 1), ([1, 2], 1)]
    assert [output.token_ids for output in outputs] == [[2, 1], [3], [2, 1], [2, 1], [2, 1]]
    assert [output.extra_fields["max_global_steps"] for output in outputs] == [7] * 5
    # Each rollout adds fields of its own.
    assert len({id(output.extra_fields) for output in outputs}) == 5


def test_an_error_reaches_every_rollout_of_the_request(server):
    server.engine.failures = [MemoryError("out of memory")]
    clip = torch.zeros(2, 3, 4, 4)
    errors = ask_together(server, Client(server), [([1], clip, {}), ([1], clip, {})])
    assert [str(error) for error in errors] == ["out of memory"] * 2


@pytest.mark.parametrize(
    ("fault", "words"),
    [(asyncio.CancelledError(), ""), (None, "the rollout server gave 1 answers to 2 rollouts")],
)
def test_no_rollout_waits_for_ever_whatever_ends_the_request(server, fault, words):
    """A client that is cancelled, and one that makes an answer of its own of the server's."""
    from verl.workers.rollout.replica import TokenOutput

    class Lossy(Client):
        async def generate(self, *args, **kwargs):
            if fault is not None:
                raise fault
            return TokenOutput(token_ids=[1])

    clip = torch.zeros(2, 3, 4, 4)
    errors = ask_together(server, Lossy(server), [([1], clip, {}), ([1], clip, {})])
    assert [(isinstance(error, BaseException), str(error)) for error in errors] == [(True, words)] * 2


def test_rollouts_that_show_the_same_still_are_one_request(server):
    from recipes.medgrpo.rollout.agent_loops import GroupClient

    client = Client(server)
    group = GroupClient(client)
    shown = [Image.new("RGB", (4, 4), color) for color in ("red", "red", "blue")]
    run(
        *(
            group.generate(f"id{number}", prompt_ids=[1], sampling_params=SAMPLING, image_data=[image])
            for number, image in enumerate(shown)
        )
    )
    assert client.requests == [([1], 2), ([1], 1)]


def test_new_weights_change_the_model(real_server, qwen2_5_vl):
    state = {name: weight.clone() for name, weight in qwen2_5_vl.engine.model.state_dict().items()}
    name = next(iter(state))
    state[name] = state[name] + 1.0

    async def send(weights):
        real_server.lock = asyncio.Lock()
        await real_server.update_weights(weights, global_steps=5)

    asyncio.run(send(state))
    assert torch.equal(real_server.engine.model.state_dict()[name], state[name])
    assert real_server.global_steps == 5


@pytest.mark.parametrize(
    "wrong",
    [
        "missing",
        "unexpected",
    ],
)
def test_weights_of_another_model_are_refused(real_server, qwen2_5_vl, wrong):
    state = dict(qwen2_5_vl.engine.model.state_dict())
    if wrong == "missing":
        del state["lm_head.weight"]
    else:
        state["lm_head.bias"] = torch.zeros(1)

    async def send():
        real_server.lock = asyncio.Lock()
        await real_server.update_weights(state)

    with pytest.raises(RuntimeError, match=f"different models: .*{wrong} .*lm_head"):
        asyncio.run(send())

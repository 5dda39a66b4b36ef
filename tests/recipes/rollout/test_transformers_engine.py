# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""A sampled answer depends on weights, prompt and seed alone, and its log-probabilities are the actor's."""

import copy
from collections import Counter

import numpy as np
import pytest
import torch

from recipes.medgrpo.rollout.transformers_engine import SamplingSettings, TransformersEngine, _truncate
from reward_score.conventions import CONVENTIONS

SHORT = SamplingSettings(16)


def group(family, rows=(0, 5, 9), seeds=range(3)):
    return [family.request(row, seed=seed) for row in rows for seed in seeds]


def tokens(answers) -> list[list[int]]:
    return [answer.token_ids for answer in answers]


def test_an_answer_does_not_depend_on_the_rest_of_the_batch(family, opinionated):
    requests = group(family)
    together = opinionated.generate(requests, SHORT)
    alone = [opinionated.generate([request], SHORT)[0] for request in requests]
    assert tokens(together) == tokens(alone)
    for one, other in zip(together, alone, strict=True):
        assert one.log_probs == pytest.approx(other.log_probs, abs=1e-4)
    backwards = opinionated.generate(requests[::-1], SHORT)
    assert tokens(backwards[::-1]) == tokens(together)


def test_a_clip_belongs_to_its_own_prompt(family, opinionated):
    """Same words, other frames: they share no prefill."""
    first = family.request(0, frames=6)
    (frames, _), *_ = first.videos
    others = (family.request(row, frames=6) for row in range(1, 20))
    alike = (other for other in others if other.videos[0][0].shape == frames.shape)
    second = next(other for other in alike if not torch.equal(other.videos[0][0], frames))
    swapped = copy.copy(first)
    object.__setattr__(swapped, "videos", second.videos)
    assert first.group_key() != swapped.group_key()
    greedy = SamplingSettings(16, temperature=0)
    both = opinionated.generate([first, swapped], greedy)
    assert both[0].log_probs != pytest.approx(both[1].log_probs, abs=1e-4)
    assert tokens(both)[1] == opinionated.generate([swapped], greedy)[0].token_ids


@pytest.mark.parametrize("change", ["blank", "backwards"])
def test_other_frames_change_the_log_probabilities_of_rollout_and_actor_alike(family, opinionated, change):
    """A forward pass that never got the pixels would not notice either change."""
    request = family.request(0, frames=8)
    ((frames, metadata),) = request.videos
    other = copy.copy(request)
    changed = torch.zeros_like(frames) if change == "blank" else frames.flip(0)
    object.__setattr__(other, "videos", [(changed, metadata)])
    answer = opinionated.generate([request], SHORT)[0]

    def by_the_actor(asked):
        ids, positions, inputs = family.actor_inputs(asked, answer.token_ids)
        rows = family.teacher_forced(opinionated.model, ids, positions, inputs, len(asked.prompt_ids))
        return rows.gather(-1, torch.tensor(answer.token_ids)[:, None])[:, 0]

    seen, unseen = by_the_actor(request), by_the_actor(other)
    assert answer.log_probs == pytest.approx(seen.tolist(), abs=1e-4)
    assert (seen - unseen).abs().max() > 0.01
    # The engine's own answer to the changed clip agrees with the actor about that clip, too.
    again = opinionated.generate([other], SHORT)[0]
    ids, positions, inputs = family.actor_inputs(other, again.token_ids)
    rows = family.teacher_forced(opinionated.model, ids, positions, inputs, len(other.prompt_ids))
    expected = rows.gather(-1, torch.tensor(again.token_ids)[:, None])[:, 0]
    assert again.log_probs == pytest.approx(expected.tolist(), abs=1e-4)


def test_the_seed_decides(family, opinionated):
    same = [family.request(0, seed=7), family.request(0, seed=7), family.request(0, seed=8)]
    first, second, third = tokens(opinionated.generate(same, SHORT))
    assert first == second != third


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_sampled_log_probabilities_are_those_of_a_plain_forward_pass(family, opinionated, temperature):
    requests = group(family, seeds=range(2))
    answers = opinionated.generate(requests, SamplingSettings(16, temperature=temperature))
    for request, answer in zip(requests, answers, strict=True):
        prompt = len(request.prompt_ids)
        ids, positions, inputs = family.actor_inputs(request, answer.token_ids)
        rows = family.teacher_forced(opinionated.model, ids, positions, inputs, prompt)
        rows = torch.log_softmax(rows / temperature, dim=-1)
        expected = rows.gather(-1, torch.tensor(answer.token_ids)[:, None])[:, 0]
        assert answer.log_probs == pytest.approx(expected.tolist(), abs=1e-4)


def pearson_with_and_without_true_times(family, untouched_rope_index) -> tuple[float, float]:
    engine = family.opinionated()
    requests = [family.request(row, seed=row, frames=16, fps=0.5) for row in range(6)]
    rollout, right, wrong = [], [], []
    for request, answer in zip(requests, engine.generate(requests, SamplingSettings(24)), strict=True):
        prompt, said = len(request.prompt_ids), torch.tensor(answer.token_ids)[:, None]
        ids, positions, inputs = family.actor_inputs(request, answer.token_ids)
        kinds = 2 * family.on_frames(ids).long()
        stock, _ = untouched_rope_index(family.processor, ids, kinds, video_grid_thw=inputs["video_grid_thw"])
        stock = torch.cat([torch.arange(ids.shape[1])[None], stock[:, 0]])
        rollout += answer.log_probs
        for placed, into in ((positions, right), (stock, wrong)):
            rows = family.teacher_forced(engine.model, ids, placed, inputs, prompt)
            into += rows.gather(-1, said)[:, 0].tolist()
    rollout, right, wrong = (np.exp(series) for series in (rollout, right, wrong))
    return float(np.corrcoef(rollout, right)[0, 1]), float(np.corrcoef(rollout, wrong)[0, 1])


def test_rollout_and_actor_agree_only_about_true_times(qwen2_5_vl, untouched_rope_index):
    right, wrong = pearson_with_and_without_true_times(qwen2_5_vl, untouched_rope_index)
    assert right > 0.999
    assert wrong < 0.95


def test_greedy_takes_the_likeliest_token(family, opinionated):
    request = family.request(0)
    answer = opinionated.generate([request], SamplingSettings(12, temperature=0))[0]
    ids, positions, inputs = family.actor_inputs(request, answer.token_ids)
    rows = family.teacher_forced(opinionated.model, ids, positions, inputs, len(request.prompt_ids))
    rows[:, opinionated.banned] = -torch.inf
    assert answer.token_ids == rows.argmax(-1).tolist()


def test_top_k_of_one_is_greedy_whatever_the_seed(family, opinionated):
    greedy = opinionated.generate([family.request(0)], SamplingSettings(12, temperature=0))[0]
    narrow = opinionated.generate([family.request(0, seed=s) for s in range(3)], SamplingSettings(12, top_k=1))
    assert tokens(narrow) == [greedy.token_ids] * 3


def test_top_k_and_top_p_keep_the_likeliest():
    heap = torch.tensor([[0.1, 0.5, 0.15, 0.25]], dtype=torch.float64)
    kept = {
        (2, 1.0): [0, 0.5, 0, 0.25],
        (-1, 0.6): [0, 0.5, 0, 0.25],
        (-1, 0.4): [0, 0.5, 0, 0],
        (3, 0.75): [0, 0.5, 0, 0.25],
        (9, 1.0): [0.1, 0.5, 0.15, 0.25],
    }
    for (top_k, top_p), expected in kept.items():
        assert _truncate(heap, SamplingSettings(1, top_k=top_k, top_p=top_p))[0].tolist() == expected


def test_draws_follow_the_probabilities_and_leave_out_banned_tokens(qwen2_5_vl):
    engine = TransformersEngine(qwen2_5_vl.engine.model, qwen2_5_vl.processor, banned_token_ids=[1])
    draws = (torch.arange(1000, dtype=torch.float64) + 0.5) / 1000
    logits = torch.tensor([[0.4, 0.2, 0.1, 0.3]]).log().expand(1000, -1)
    chosen, scores = engine._choose(logits, SamplingSettings(1), draws)
    assert Counter(chosen.tolist()) == {0: 500, 2: 125, 3: 375}
    # The actor knows nothing of what was banned: its log-probabilities are over the whole vocabulary.
    assert scores[chosen == 2].unique().tolist() == pytest.approx([np.log(0.1)])


def test_frame_tokens_are_never_sampled(family):
    banned = family.engine.banned.tolist()
    assert family.engine.model.config.video_token_id in banned
    model = copy.deepcopy(family.engine.model)
    # A model that would say hardly anything else.
    bias = torch.zeros(model.lm_head.out_features)
    bias[banned] = 30.0
    model.lm_head.bias = torch.nn.Parameter(bias)
    engine = TransformersEngine(model, family.engine.processor, banned)
    answers = engine.generate(group(family, rows=(0,)), SHORT) + engine.generate(
        group(family, rows=(0,), seeds=(0,)), SamplingSettings(16, temperature=0)
    )
    assert not {token for answer in answers for token in answer.token_ids} & set(banned)


@pytest.fixture
def ending(qwen2_5_vl):
    """(engine, requests, answers without an end): the engine ends at a token that falls at several places."""
    engine = qwen2_5_vl.opinionated()
    requests = group(qwen2_5_vl, seeds=range(4))
    engine.end = -1
    endless = tokens(engine.generate(requests, SamplingSettings(24)))
    places = {token: [ids.index(token) for ids in endless if token in ids] for token in set(sum(endless, []))}
    some = [token for token in sorted(places) if len(places[token]) < len(endless)]
    engine.end = max(some, key=lambda token: len(set(places[token])))
    assert len(set(places[engine.end])) >= 3
    return engine, requests, endless


def test_answers_stop_at_the_end_and_say_so(ending):
    engine, requests, endless = ending
    answers = engine.generate(requests, SamplingSettings(24))
    for answer, whole in zip(answers, endless, strict=True):
        stop = whole.index(engine.end) + 1 if engine.end in whole else len(whole)
        assert answer.token_ids == whole[:stop] and len(answer.log_probs) == stop
        assert answer.truncated == (engine.end not in whole)
    assert {answer.truncated for answer in answers} == {True, False}


def test_an_answer_that_has_ended_is_told_before_the_others(ending):
    engine, requests, _ = ending
    told, passes = {}, []
    hook = engine.model.register_forward_hook(lambda *_: passes.append(1))
    answers = engine.generate(
        requests, SamplingSettings(24), lambda place, answer: told.update({place: (len(passes), answer)})
    )
    hook.remove()
    # One pass a token, the first of them the prompt's.
    assert told == {
        place: (len(answer.token_ids), answer) for place, answer in enumerate(answers) if not answer.truncated
    }
    assert len({passed for passed, _ in told.values()}) >= 3


def test_finished_answers_cost_little(ending):
    """The loop ends with the longest answer, and rows that are done make up at most a quarter of its work."""
    engine, requests, endless = ending
    ended = [request for request, ids in zip(requests, endless, strict=True) if engine.end in ids[:20]]
    rows = []
    hook = engine.model.register_forward_hook(
        lambda module, args, kwargs, out: rows.append(len(kwargs["input_ids"])), with_kwargs=True
    )
    lengths = [len(answer.token_ids) for answer in engine.generate(ended, SamplingSettings(24))]
    hook.remove()
    prefill, *steps = rows
    assert len(steps) == max(lengths) - 1 < 20
    assert sum(steps) <= sum(length - 1 for length in lengths) / 0.75


def test_a_cache_with_room_holds_what_transformers_own_holds_and_copies_less(plugged):
    from transformers.cache_utils import DynamicLayer

    from recipes.medgrpo.rollout.transformers_engine import ROOM, RoomyLayer

    draw, roomy, own, places = torch.Generator().manual_seed(0), RoomyLayer(), DynamicLayer(), []
    for token, size in enumerate([5, *[1] * (2 * ROOM), 3]):
        rows = 6 if token <= ROOM else 2
        if token == ROOM + 1:
            for layer in (roomy, own):
                layer.reorder_cache(torch.tensor([4, 1]))
        states = [torch.randn(rows, 2, size, 8, generator=draw) for _ in range(2)]
        with torch.inference_mode():
            for found, expected in zip(roomy.update(*states), own.update(*states), strict=True):
                assert found.equal(expected)
        assert roomy.get_seq_length() == own.get_seq_length()
        places.append(roomy.keys.data_ptr())
    # Into a room after the prompt, after rows were chosen, and where the room is full: not for each token.
    assert sum(one != other for one, other in zip(places, places[1:], strict=False)) <= 4


def test_prompts_are_those_of_verls_agent_loop(family):
    from verl.utils.tokenizer.continuous_token_wiring import create_continuous_token_builder

    from recipes.medgrpo.data.video import clips_of

    builder = create_continuous_token_builder(
        family.processor.tokenizer,
        hf_model_type=family.engine.model.config.model_type,
        # As `data.apply_chat_template_kwargs` has it.
        chat_template_kwargs=CONVENTIONS[family.name].template,
        processor=family.processor,
    )
    for row in (0, 9):
        messages = family.messages(row)
        clips = clips_of(messages)
        assert family.engine.prompt_ids(messages, clips) == builder.build_initial_tokens(messages, videos=clips)

# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""Shared prompts change how the actor's pass is worked out, not what comes out of it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

ROOT = Path(__file__).resolve().parents[3]


@st.composite
def lengths(draw) -> tuple[list[int], list[int], list[int]]:
    """Tokens of each rollout's prompt and answer, and the number of its prompt, from 0 as they come."""
    drawn = draw(st.lists(st.tuples(st.integers(0, 4), st.integers(1, 6)), min_size=1, max_size=70))
    seen: dict[int, int] = {}
    owner = [seen.setdefault(prompt, len(seen)) for prompt, _ in drawn]
    prompts = [3 + 2 * prompt for prompt, _ in drawn]
    return prompts, [answer for _, answer in drawn], owner


@settings(max_examples=60, deadline=None)
@given(lengths())
def test_every_token_sees_its_prompt_and_what_came_before_it_and_nothing_else(plugged, drawn):
    from recipes.medgrpo.training.shared_prompts import layout_of

    prompts, answers, owner = drawn
    layout = layout_of(prompts, answers, owner)
    # What each token of the row is: (rollout, its place there), a prompt's by the first rollout that has it.
    named = [(row, at) for row, size in enumerate(map(sum, zip(prompts, answers, strict=True))) for at in range(size)]
    row = [named[place] for place in layout.tokens.tolist()]
    seen: dict[tuple[int, int], set] = {}
    for piece in layout.pieces:
        size = piece.queries.shape[1]
        mask = piece.mask
        if mask is None:
            mask = torch.ones(size, size, dtype=torch.bool).tril().expand(len(piece.queries), 1, -1, -1)
        for flat, place in zip(piece.flat.tolist(), piece.places.tolist(), strict=True):
            sequence, query = divmod(flat, size)
            keys = piece.keys[sequence][mask[sequence, 0, query]].tolist()
            assert len(keys) == len(set(keys)) and row[place] not in seen
            seen[row[place]] = {row[key] for key in keys}
    first = [owner.index(owner[rollout]) for rollout in range(len(owner))]
    expected = {}
    for rollout, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
        for at in range(prompt + answer):
            until = [(rollout if place >= prompt else first[rollout], place) for place in range(at + 1)]
            expected[until[-1]] = set(until)
    assert seen == expected
    before = [row[place] for place in layout.before.tolist()]
    assert before == [
        (rollout if at else first[rollout], prompt + at - 1)
        for rollout, (prompt, answer) in enumerate(zip(prompts, answers, strict=True))
        for at in range(answer)
    ]


def test_prompts_are_alike_in_words_and_frames(plugged):
    from recipes.medgrpo.training.shared_prompts import same_prompts

    ids, other = torch.tensor([1, 2, 3]), torch.tensor([1, 2, 4])
    clip, backwards = torch.arange(4.0), torch.arange(4.0).flip(0)
    inputs = [{"pixel_values_videos": pixels} for pixels in (clip, clip.clone(), backwards, clip, backwards)] + [{}]
    assert same_prompts([ids, ids, ids, other, ids, ids], inputs) == [0, 0, 1, 2, 1, 3]


def update(family, output: Path, *more: str) -> dict:
    """What one update of `one_update.py` makes, by a process with these settings."""
    env = os.environ | {
        "PYTHONPATH": str(ROOT),
        "VERL_USE_EXTERNAL_MODULES": "recipes.medgrpo.plugin",
        "VERL_PLATFORM": "cpu",
        "GLOO_SOCKET_IFNAME": "lo",
        "OMP_NUM_THREADS": "1",
        **{"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"},
    }
    script = [sys.executable, str(Path(__file__).with_name("one_update.py")), str(family.data), str(family.path)]
    done = subprocess.run([*script, str(output), *more], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return torch.load(output)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["qwen2_5_vl", "qwen3_vl", "qwen3_5"])
def test_an_update_has_the_log_probabilities_and_gradients_of_rows_of_their_own(name, request, tmp_path):
    """Qwen3.5 keeps states and cannot share: with the same setting it trains as before."""
    family = request.getfixturevalue(name)
    setting = "actor_rollout_ref.actor.fsdp_config.share_prompts="
    alone, shared = (update(family, tmp_path / value, setting + value) for value in ("false", "true"))
    for kind in ("log_probs", "entropy"):
        for own, one, size in zip(alone[kind], shared[kind], alone["answers"], strict=True):
            # From the prompt's last token to the last but one.
            torch.testing.assert_close(one[-size - 1 : -1], own[-size - 1 : -1], rtol=1e-5, atol=1e-5)
            assert name == "qwen3_5" or not one[: -size - 1].any()
    assert shared["loss"] == pytest.approx(alone["loss"], rel=1e-5)
    assert shared["gradients"].keys() == alone["gradients"].keys()
    for parameter, own in alone["gradients"].items():
        assert (shared["gradients"][parameter] - own).norm() <= 1e-4 * own.norm(), parameter
    # What Qwen3-VL's tower hands to the last text layer's output, at the places of frames, moves no answer.
    still = {parameter for parameter, own in alone["gradients"].items() if not own.any()}
    assert all("deepstack_merger_list.1" in parameter for parameter in still)

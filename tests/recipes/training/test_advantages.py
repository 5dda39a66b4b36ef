# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

import asyncio
import json
import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recipes.medgrpo.training.advantages import ADVANTAGES, make_advantage
from recipes.medgrpo.training.groups import Part
from reward_score.medgrpo import compute_score

TAL, TAL2, SA = "medvidbench/AVOS/tal", "medvidbench/NurViD/tal", "medvidbench/JIGSAWS/sa"


def batch(*groups: tuple[str, list[float]]) -> tuple[np.ndarray, list[str], list[str]]:
    """Rewards, groups and pairs of a step from (pair, rewards) of every prompt."""
    rows = [(reward, f"prompt{at}", pair) for at, (pair, rewards) in enumerate(groups) for reward in rewards]
    rewards, names, pairs = zip(*rows, strict=True)
    return np.array(rewards), list(names), list(pairs)


def advantages(name: str, rewards, groups, pairs, **chosen) -> np.ndarray:
    """Of a fresh advantage; where it reads the parts of rewards, the reward is its only part."""
    return make_advantage(name, **chosen)(rewards, groups, pairs, {"all": Part(rewards, np.ones(len(rewards)))})


UNEVEN = batch((TAL, [0.0, 0.5, 1.0]), (SA, [0.25, 0.75]), (TAL2, [0.1, 0.1, 0.4, 0.6]))


@pytest.mark.parametrize(("name", "by_std"), [("grpo", True), ("dr_grpo", False)])
def test_these_two_are_verls_own(plugged, name, by_std):
    import torch
    from verl.trainer.ppo.core_algos import compute_grpo_outcome_advantage

    rewards, groups, pairs = UNEVEN
    # One token an answer, so that verl's answer is the advantage.
    theirs, _ = compute_grpo_outcome_advantage(
        torch.tensor(rewards)[:, None].clone(),
        torch.ones(len(rewards), 1, dtype=torch.float64),
        np.array(groups, dtype=object),
        norm_adv_by_std_in_grpo=by_std,
    )
    assert make_advantage(name)(rewards, groups, pairs) == pytest.approx(theirs[:, 0].numpy(), rel=1e-12, abs=1e-15)


def test_a_group_whose_answers_all_fail_gets_no_push(tmp_path):
    """Of seven answers none is read. The logistic of 0 is far from 0 here, and none of them may earn it."""
    row = {"n": 64, "p25": 0.0, "p50": 0.0, "p75": 0.1, "iqr": 0.1}
    file = tmp_path / "statistics.json"
    file.write_text(json.dumps({"format": 1, "pairs": {TAL: {"iou": row}}}))
    failures = ["", "no idea", "</answer>", "seconds", "3 to", "ten to twelve", "nan-nan seconds"]
    truth = json.dumps({"text": "3.0-7.0 seconds.", "spans": [[3, 7]]})
    rewards = [asyncio.run(compute_score(TAL, text, truth, statistics=str(file)))["score"] for text in failures]
    group = (np.array(rewards), ["prompt"] * len(rewards), [TAL] * len(rewards))
    for name in ("grpo", "dr_grpo"):
        assert make_advantage(name)(*group).tolist() == [0.0] * len(rewards)


def test_per_task_divides_by_the_spread_of_the_whole_task():
    tal, sa = np.std([0.0, 0.5, 1.0, 0.1, 0.1, 0.4, 0.6], ddof=1), np.std([0.25, 0.75], ddof=1)
    assert make_advantage("per_task")(*UNEVEN) == pytest.approx(
        [
            *(np.array([-0.5, 0.0, 0.5]) / (tal + 1e-6)),
            *(np.array([-0.25, 0.25]) / (sa + 1e-6)),
            *(np.array([-0.2, -0.2, 0.1, 0.3]) / (tal + 1e-6)),
        ]
    )


def test_per_task_can_keep_datasets_apart():
    first = make_advantage("per_task", by="pair")(*UNEVEN)[:3]
    # One prompt of its pair: its own spread, as in GRPO.
    assert first == pytest.approx(make_advantage("grpo")(*UNEVEN)[:3])


def test_the_mean_of_the_task_cancels():
    """Standardised over the task and then centred in the group, as verl does: what is written is the same."""
    rewards, groups, pairs = batch((TAL, [0.0, 0.2, 0.7]), (TAL, [0.9, 1.0, 0.5]))
    task = (rewards - rewards.mean()) / (rewards.std(ddof=1) + 1e-6)
    centred = np.concatenate([task[:3] - task[:3].mean(), task[3:] - task[3:].mean()])
    assert make_advantage("per_task")(rewards, groups, pairs) == pytest.approx(centred)


def test_drpo_of_one_question_each_by_hand():
    """One question a domain is one cluster: T_d = sqrt(1) * mu, sqrt(N_c) * mu_c = mu, so mu squared divides."""
    rewards, groups, pairs = batch((TAL, [0.2, 0.6]), (SA, [0.7, 0.9]))
    grpo = make_advantage("grpo")(rewards, groups, pairs)
    scaled = grpo / np.array([0.4**2, 0.4**2, 0.8**2, 0.8**2])
    assert make_advantage("drpo")(rewards, groups, pairs) == pytest.approx(scaled / (scaled.std(ddof=1) + 1e-6))


def test_drpo_of_two_kinds_of_question_by_hand():
    """Three poor questions and one good one, in one domain: two clusters, and the rare kind pulls harder."""
    poor, good = [0.2, 0.3], [0.8, 0.9]
    rewards, groups, pairs = batch((TAL, poor), (TAL, poor), (TAL, poor), (TAL, good))
    mu_domain = (0.25 / 3 + 0.85 / 1) / (1 / 3 + 1 / 1)
    domain = math.sqrt(4) * mu_domain
    divisor = np.repeat([domain * math.sqrt(3) * 0.25] * 3 + [domain * 0.85], 2)
    scaled = make_advantage("grpo")(rewards, groups, pairs) / divisor
    assert make_advantage("drpo")(rewards, groups, pairs) == pytest.approx(scaled / (scaled.std(ddof=1) + 1e-6))


def test_drpo_counts_the_questions_of_earlier_steps_up_to_its_window():
    step = batch((TAL, [0.4, 0.6]), (SA, [0.4, 0.6]))
    advantage = make_advantage("drpo", window=3)
    shares = []
    for number in range(5):
        advantage(*batch((TAL, [0.4, 0.6])))
        if number in (0, 1, 4):
            # The second domain is seen for the first time in each of these.
            fresh = make_advantage("drpo", window=3)
            fresh.load_state_dict(advantage.state_dict())
            values = fresh(*step)
            shares.append(values[1] / values[3])
    # N_d and N_c grow together here: 2 questions, then 3, and never more.
    assert shares == pytest.approx([1 / 2, 1 / 3, 1 / 3], rel=1e-4)


def test_drpo_does_not_explode_where_rewards_are_zero():
    rewards, groups, pairs = batch((TAL, [0.0, 1e-4]), (SA, [0.0, 1e-4]), (SA, [0.9, 1.0]))
    values = make_advantage("drpo", min_mu=0.1)(rewards, groups, pairs)
    assert np.abs(values).max() < 3
    freer = make_advantage("drpo", min_mu=1e-3)(rewards, groups, pairs)
    assert abs(freer[0] / freer[4]) > 50 * abs(values[0] / values[4])


def test_the_order_of_rollouts_means_nothing_unless_asked_for():
    left, right = [0.1, 0.5, 0.9, 0.9], [0.9, 0.9, 0.1, 0.5]
    same = {"window": 9}
    by_order = [
        make_advantage("drpo", sort=False, **same)(*batch((TAL, left), (TAL, other), (SA, [0, 1.0])))
        for other in (left, right)
    ]
    assert not np.allclose(np.sort(by_order[0]), np.sort(by_order[1]))
    sorted_ = [
        make_advantage("drpo", **same)(*batch((TAL, left), (TAL, other), (SA, [0, 1.0]))) for other in (left, right)
    ]
    assert np.sort(sorted_[0]) == pytest.approx(np.sort(sorted_[1]))


def test_drpo_goes_on_from_its_state_as_if_never_stopped():
    rng = np.random.default_rng(3)
    steps = [batch(*[(pair, rng.random(8).round(2).tolist()) for pair in (TAL, TAL2, SA, TAL)]) for _ in range(6)]
    through, first, second = (make_advantage("drpo", window=5) for _ in range(3))
    whole = [through(*step) for step in steps]
    for step in steps[:3]:
        first(*step)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    for step, expected in zip(steps[3:], whole[3:], strict=True):
        assert second(*step).tolist() == expected.tolist()


def test_drpo_takes_the_questions_apart_in_any_mixture():
    """Answers come back in any order: the same step, its groups' answers interleaved, has the same advantages."""
    rewards, groups, pairs = batch((TAL, [0.2, 0.6, 0.1]), (SA, [0.7, 0.9]), (TAL, [0.3, 0.3, 0.8, 0.4]))
    order = np.array([3, 0, 5, 6, 1, 4, 7, 8, 2])
    mixed, whole = make_advantage("drpo"), make_advantage("drpo")
    found = mixed(rewards[order], [groups[at] for at in order], [pairs[at] for at in order])
    assert found == pytest.approx(whole(rewards, groups, pairs)[order])
    assert mixed.state_dict()["history"][TAL] == [[0.1, 0.2, 0.6], [0.3, 0.3, 0.4, 0.8]]


def test_a_step_larger_than_the_window_is_scaled_all_the_same():
    values = make_advantage("drpo", window=2)(*batch(*[(TAL, [0.3, 0.5])] * 4))
    assert np.isfinite(values).all() and values[:2] == pytest.approx(values[6:])


rewards_of_a_group = st.lists(st.integers(0, 20).map(lambda n: n / 20), min_size=1, max_size=8)


@pytest.mark.parametrize("name", ADVANTAGES)
@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([TAL, TAL2, SA]), rewards_of_a_group), min_size=1, max_size=6))
def test_what_holds_for_every_advantage(name, groups):
    rewards, names, pairs = batch(*groups)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        values = advantages(name, rewards, names, pairs)
    assert values.shape == rewards.shape and np.isfinite(values).all()
    at = 0
    for _, own in groups:
        mine, at = values[at : at + len(own)], at + len(own)
        # verl's estimator subtracts the group's mean: nothing may be left to subtract.
        assert abs(mine.sum()) <= 1e-9 * max(1.0, np.abs(mine).max())
        if max(own) == min(own):
            assert not mine.any()
        else:
            # A better answer never gets less.
            assert (np.diff(mine[np.argsort(own, kind="stable")]) >= -1e-12).all()
    order = np.random.default_rng(0).permutation(len(rewards))
    if name != "drpo":
        shuffled = advantages(name, rewards[order], [names[at] for at in order], [pairs[at] for at in order])
        assert shuffled == pytest.approx(values[order])


def test_a_group_that_differs_by_rounding_only_is_dead():
    tied = [0.1 + 0.2, 0.3, 0.3]
    for name in ADVANTAGES:
        assert advantages(name, *batch((TAL, tied), (SA, [0.0, 1.0])))[:3].tolist() == [0.0, 0.0, 0.0]


def test_nothing_in_nothing_out():
    for name in ADVANTAGES:
        assert make_advantage(name)(np.array([]), [], []).tolist() == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.array([0.0, np.nan]), ["a", "a"], [TAL, TAL]), "reward 1 is not finite"),
        ((np.array([0.0, 1.0]), ["a"], [TAL, TAL]), r"1 groups, 2 pairs: expected one each"),
        ((np.array([0.0, 1.0]), ["a", "a"], [TAL, SA]), r"group 'a' is of two pairs, .*tal and .*sa"),
    ],
)
def test_bad_columns_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        make_advantage("grpo")(*arguments)


@pytest.mark.parametrize(
    ("name", "settings_", "error", "message"),
    [
        ("ppo", {}, ValueError, "advantage 'ppo': expected one of grpo, dr_grpo, per_task, drpo, gdpo"),
        ("grpo", {"window": 3}, TypeError, "advantage grpo: .*"),
        ("drpo", {"windows": 3}, TypeError, "advantage drpo: .*windows"),
        ("drpo", {"window": 0}, ValueError, "window 0: expected a positive whole number"),
        ("drpo", {"min_mu": 0.0}, ValueError, "min_mu 0.0"),
        ("per_task", {"by": "video"}, ValueError, "by 'video': expected task or pair"),
        ("gdpo", {"format_weight": -1}, ValueError, "gdpo: format_weight -1: expected a number from 0"),
        ("ema_grpo", {"decay": 1}, ValueError, "ema_grpo: decay 1: expected a number from 0, below 1"),
        ("ema_grpo", {"most": 0}, ValueError, "ema_grpo: most 0: expected a number above 0"),
        ("ema_grpo", {"by": "group"}, ValueError, "ema_grpo: by 'group': expected task or pair"),
        ("mt_grpo", {"step": math.nan}, ValueError, "mt_grpo: step nan: expected a number from 0"),
        ("mt_grpo", {"decay": 1.0}, ValueError, "mt_grpo: decay 1.0"),
        ("mt_grpo", {"most": 0.5}, ValueError, "mt_grpo: most 0.5: expected a number from 1"),
        ("g2rpo", {"by": "batch"}, ValueError, "g2rpo: by 'batch': expected group or pair or task"),
    ],
)
def test_bad_settings_are_named(name, settings_, error, message):
    with pytest.raises(error, match=message):
        make_advantage(name, **settings_)


@pytest.mark.parametrize(
    "state",
    [{"questions": 3}, [], {"history": {TAL: 3}}, {"history": {TAL: [0.5]}}, {"history": {TAL: [[]]}}]
    + [{"history": {TAL: [[0.5, math.nan]]}}, {"history": {TAL: [["high"]]}}],
)
def test_a_foreign_state_is_refused(state):
    with pytest.raises(ValueError, match="drpo: state"):
        make_advantage("drpo").load_state_dict(state)


def test_what_has_no_state_takes_none():
    with pytest.raises(ValueError, match="Grpo has no state, got history"):
        make_advantage("grpo").load_state_dict({"history": {}})

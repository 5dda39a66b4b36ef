# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""The rivals for several rewards or tasks: each formula computed another way, its memory, and what it is for."""

import json
import math
from statistics import NormalDist

import numpy as np
import pytest

from recipes.medgrpo.training.advantages import make_advantage
from recipes.medgrpo.training.groups import Part, stacked
from reward_score.reward import get_scorer

TAL, TAL2, SA, VS = (f"medvidbench/{pair}" for pair in ("AVOS/tal", "NurViD/tal", "JIGSAWS/sa", "AVOS/vs"))


def batch(*groups: tuple[str, list[float]]) -> tuple[np.ndarray, list[str], list[str]]:
    """Rewards, groups and pairs of a step from (pair, rewards) of every prompt."""
    rows = [(reward, f"prompt{at}", pair) for at, (pair, rewards) in enumerate(groups) for reward in rewards]
    rewards, names, pairs = zip(*rows, strict=True)
    return np.array(rewards), list(names), list(pairs)


def whole(rewards) -> Part:
    return Part(np.asarray(rewards, dtype=float), np.ones(len(rewards)))


def test_gdpo_is_what_verls_own_estimator_computes(plugged):
    import torch
    from omegaconf import OmegaConf
    from verl.trainer.ppo.core_algos import compute_gdpo_outcome_advantage

    values = {"similarity": [0.2, 0.9, 0.4, 0.5, 0.7, 0.1], "judge": [0.25, 0.25, 1.0, 0.0, 0.5, 0.75]}
    groups, weights = ["a", "a", "a", "b", "b", "b"], {"similarity": 0.5, "judge": 0.25}
    ones = torch.ones(6, 1)
    theirs, _ = compute_gdpo_outcome_advantage(
        torch.zeros(6, 1),
        ones,
        np.array(groups, dtype=object),
        config=OmegaConf.create({"gdpo_reward_keys": list(values), "gdpo_reward_weights": list(weights.values())}),
        non_tensor_batch={name: np.array(column) for name, column in values.items()},
        # One token an answer, so that verl's answer is the advantage.
        batch={"prompts": ones, "attention_mask": torch.ones(6, 2, dtype=torch.int64)},
    )
    parts = {name: Part(np.array(column), np.full(6, weights[name])) for name, column in values.items()}
    rewards = sum(part.values * part.weights for part in parts.values())
    assert make_advantage("gdpo")(rewards, groups, [VS] * 6, parts) == pytest.approx(theirs[:, 0].numpy(), abs=1e-5)


def test_gdpo_hears_a_signal_that_another_drowns_out():
    """Two signals of one group, the second a hundredth of the first: in the sum it has no say, in GDPO half of it."""
    loud, quiet = np.array([0.0, 1.0, 0.0, 1.0]), np.array([0.01, 0.01, 0.0, 0.0])
    parts = {"loud": Part(loud, np.full(4, 0.5)), "quiet": Part(quiet, np.full(4, 0.5))}
    group = ["a"] * 4, [VS] * 4
    both = make_advantage("gdpo")(0.5 * loud + 0.5 * quiet, *group, parts)
    assert both[0] == pytest.approx(0.0, abs=1e-3) and both[1] == pytest.approx(-both[2])
    summed = make_advantage("grpo")(0.5 * loud + 0.5 * quiet, *group)
    assert summed[0] == pytest.approx(summed[2], abs=0.02)


def test_gdpo_can_hear_the_format_where_nothing_else_differs():
    """All raw signals are 0: format x raw says nothing, the format as a part of its own says which can be read."""
    rows = [{"iou": (0.0, 1.0), "format": (form, 0.0)} for form in (1.0, 0.5, 0.0, 1.0)]
    rewards, group = np.zeros(4), (["a"] * 4, [TAL] * 4)
    assert not make_advantage("gdpo")(rewards, *group, stacked(rows)).any()
    heard = make_advantage("gdpo", format_weight=0.5)(rewards, *group, stacked(rows))
    assert heard[0] == heard[3] > heard[1] > heard[2]
    assert heard.std(ddof=1) == pytest.approx(1.0, rel=1e-6)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (None, "Gdpo: expected the parts of the rewards, got none"),
        ({"iou": whole([0.5])}, "part iou: expected 2 finite values and weights"),
        ({"iou": whole([0.5, math.nan])}, "part iou: expected 2 finite values and weights"),
    ],
)
def test_gdpo_without_whole_parts_is_refused(parts, message):
    with pytest.raises(ValueError, match=message):
        make_advantage("gdpo")(np.array([0.0, 1.0]), ["a", "a"], [TAL, TAL], parts)


@pytest.mark.parametrize("order", ["after", "before"])
def test_a_reward_is_the_sum_of_its_summands(order):
    scorer = get_scorer(format_order=order, rewarded_tasks=["vs", "tal"])
    for pair, form, raw in (
        (VS, 0.5, {"similarity": 0.6, "judge": 0.25}),
        (TAL, 1.0, {"iou": 0.4}),
        (TAL, 0.0, {"iou": 0.0}),
        (SA, 1.0, {"exact": 1.0, "closeness": 1.0}),  # not rewarded
    ):
        found = scorer.summands(pair, form, raw)
        assert found.pop("format") == (form, 0.0) and set(found) == set(raw)
        assert sum(v * w for v, w in found.values()) == pytest.approx(scorer.reward(pair, form, raw))
        assert sum(w for _, w in found.values()) == pytest.approx(1.0)


def test_summands_of_unlike_tasks_stand_in_columns():
    parts = stacked([{"iou": (0.4, 1.0)}, {"similarity": (0.6, 0.5), "judge": (0.2, 0.5)}])
    assert {name: (part.values.tolist(), part.weights.tolist()) for name, part in parts.items()} == {
        "iou": ([0.4, 0.0], [1.0, 0.0]),
        "similarity": ([0.0, 0.6], [0.0, 0.5]),
        "judge": ([0.0, 0.2], [0.0, 0.5]),
    }


def test_ema_grpo_by_hand_over_two_steps():
    made = make_advantage("ema_grpo", decay=0.9)
    first, second = batch((TAL, [0.2, 0.6]), (TAL2, [0.4, 0.4])), batch((TAL, [0.0, 1.0]), (SA, [0.3, 0.5]))
    # The first step starts the averages: std^2 = mean of squares - square of the mean, over both datasets of the task.
    std = math.sqrt((0.04 + 0.36 + 0.16 + 0.16) / 4 - 0.4**2)
    assert made(*first) == pytest.approx([-0.2 / std, 0.2 / std, 0.0, 0.0], rel=1e-5)
    mean, square = 0.9 * 0.4 + 0.1 * 0.5, 0.9 * 0.18 + 0.1 * 0.5
    std = math.sqrt(square - mean**2)
    assert made(*second) == pytest.approx([-0.5 / std, 0.5 / std, -1.0, 1.0], rel=1e-5)


def test_ema_grpo_divides_by_the_groups_own_spread_where_an_advantage_would_be_huge():
    made = make_advantage("ema_grpo", decay=0.99)
    for _ in range(5):
        made(*batch((TAL, [0.50, 0.51])))
    found = made(*batch((TAL, [0.0, 1.0]), (TAL, [0.50, 0.51])))
    assert found[:2] == pytest.approx([-(0.5**0.5), 0.5**0.5], rel=1e-4)
    assert 0 < abs(found[3]) < 1


def test_ema_grpo_keeps_datasets_apart_where_asked():
    made = make_advantage("ema_grpo", by="pair")
    made(*batch((TAL, [0.0, 1.0]), (TAL2, [0.5, 0.6])))
    assert set(made.state_dict()["moments"]) == {TAL, TAL2}


def test_mt_grpo_starts_as_grpo_and_then_weighs_the_poor_task_more():
    made = make_advantage("mt_grpo", step=4.0)
    step = batch((TAL, [0.0, 0.1]), (SA, [0.8, 0.9]))
    assert made(*step) == pytest.approx(make_advantage("grpo")(*step))
    for _ in range(20):
        found = made(*step)
    assert found[1] > 1.2 * found[3] > 0
    # Two groups share the step: their weights sum to 2.
    assert (found[1] + found[3]) / make_advantage("grpo")(*step)[1] == pytest.approx(2.0, rel=1e-4)


def test_mt_grpo_weighs_by_hand():
    made = make_advantage("mt_grpo", step=2.0, trade=0.5, decay=0.0)
    made(*batch((TAL, [0.2, 0.4]), (SA, [0.6, 0.8])))
    made(*batch((TAL, [0.4, 0.6]), (SA, [0.5, 0.7])))
    # Step 1: nothing gained yet, s = 0.5 J. Step 2: s = gain + 0.5 J.
    x = np.zeros(2)
    for s in (np.array([0.15, 0.35]), np.array([0.2 + 0.25, -0.1 + 0.3])):
        z = np.exp(x) / np.exp(x).sum()
        x = x - 2.0 * z * (s - (z * s).sum())
    assert [made.state_dict()["tasks"][task][0] for task in ("tal", "sa")] == pytest.approx(x.tolist())
    z = np.exp(x) / np.exp(x).sum()
    found = made(*batch((TAL, [0.0, 1.0]), (SA, [0.0, 1.0]), (SA, [0.0, 1.0]), (SA, [0.5, 0.5])))
    # Three live groups: one of tal, two of sa; the dead one does not count.
    grpo = np.array([-1, 1, -1, 1, -1, 1, 0, 0]) * 0.5 / (0.5**0.5 + 1e-6)
    assert found == pytest.approx(grpo * np.repeat(z * 3 / [1, 2], [2, 6]))


def test_mt_grpo_keeps_the_ratio_however_many_groups_are_dead():
    """What a task pulls is its weight: as much from one live group as from four."""
    few, many = ((TAL, [0.0, 1.0]), *[(TAL, [0.5, 0.5])] * 3), ((TAL, [0.0, 1.0]),) * 4
    others = ((SA, [0.0, 1.0]),) * 4
    shares = []
    for tal in (few, many):
        found = np.abs(make_advantage("mt_grpo")(*batch(*tal, *others)))
        shares.append(found[:8].sum() / found.sum())
    assert shares == pytest.approx([0.5, 0.5])
    capped = np.abs(make_advantage("mt_grpo", most=1.0)(*batch(*few, *others)))
    assert capped.max() == pytest.approx(0.5**0.5, rel=1e-4)


def test_mt_grpo_asks_for_more_of_a_task_whose_groups_are_mostly_dead():
    """As many as it takes to have live groups in the ratio of the weights, and not without end."""
    made = make_advantage("mt_grpo", step=0.0, decay=0.0)
    assert made.mix() is None
    made(*batch((TAL, [0.0, 1.0]), (TAL, [0.5, 0.5]), (SA, [0.0, 1.0])))
    assert made.mix() == pytest.approx({"sa": 1 / 3, "tal": 2 / 3})
    made(*batch((TAL, [0.5, 0.5]), (SA, [0.0, 1.0])))
    assert made.mix() == pytest.approx({"sa": 1 / 6, "tal": 5 / 6})


def test_a_new_task_starts_without_a_preference():
    made = make_advantage("mt_grpo", step=4.0)
    for _ in range(5):
        made(*batch((TAL, [0.0, 0.1]), (SA, [0.8, 0.9])))
    made(*batch((VS, [0.2, 0.4])))
    assert made.state_dict()["tasks"]["vs"] == pytest.approx([0.0, 0.3, 1.0])


def test_g2rpo_has_the_quantiles_of_a_normal_distribution():
    quantile = NormalDist().inv_cdf
    found = make_advantage("g2rpo")(*batch((TAL, [0.9, 0.1, 0.2, 0.3])))
    assert found == pytest.approx([quantile(7 / 8), quantile(1 / 8), quantile(3 / 8), quantile(5 / 8)])
    # Two that tie share what their ranks score.
    tied = make_advantage("g2rpo")(*batch((TAL, [0.0, 0.5, 0.5, 1.0])))
    assert tied == pytest.approx([quantile(1 / 8), 0.0, 0.0, quantile(7 / 8)])


@pytest.mark.parametrize("bend", [lambda r: r**3, lambda r: 5 * r - 1, np.exp])
def test_g2rpo_does_not_hear_how_far_apart_rewards_are(bend):
    rewards, groups, pairs = batch((TAL, [0.1, 0.8, 0.3]), (SA, [0.9, 0.2]))
    made = make_advantage("g2rpo")
    assert made(bend(rewards), groups, pairs).tolist() == made(rewards, groups, pairs).tolist()


def test_g2rpo_over_a_task_ranks_its_groups_together():
    found = make_advantage("g2rpo", by="task")(*batch((TAL, [0.0, 0.1]), (TAL2, [0.8, 1.0]), (SA, [0.0, 0.1])))
    scores = [NormalDist().inv_cdf((at + 0.5) / 4) for at in range(4)]
    half = (scores[1] - scores[0]) / 2
    assert found[:4] == pytest.approx([-half, half, -half, half])
    assert found[5] == pytest.approx(NormalDist().inv_cdf(3 / 4))


@pytest.mark.parametrize("name", ["ema_grpo", "mt_grpo"])
def test_what_learns_goes_on_from_its_state_as_if_never_stopped(name):
    rng = np.random.default_rng(3)
    steps = [batch(*[(pair, rng.random(8).round(2).tolist()) for pair in (TAL, TAL2, SA, TAL)]) for _ in range(6)]
    through, first, second = (make_advantage(name) for _ in range(3))
    expected = [through(*step) for step in steps]
    for step in steps[:3]:
        first(*step)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert [second(*step).tolist() for step in steps[3:]] == [one.tolist() for one in expected[3:]]


@pytest.mark.parametrize("content", [[], {}, {"a": 1}, {"KEY": {"tal": [0.5]}}, {"KEY": {"tal": [0.5, math.inf]}}])
@pytest.mark.parametrize(("name", "key"), [("ema_grpo", "moments"), ("mt_grpo", "tasks")])
def test_a_foreign_state_is_refused(name, key, content):
    state = {key if word == "KEY" else word: said for word, said in content.items()} if content else content
    with pytest.raises(ValueError, match=f"{name}: state: expected"):
        make_advantage(name).load_state_dict(state)

# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""The exact model: its answers are really scored, its gradient is the gradient, and its verdict is the rule."""

import asyncio
import json

import numpy as np
import pytest

from recipes.medgrpo.studies.collapse.command import main
from recipes.medgrpo.studies.collapse.policy import CLIP_HIGH, CLIP_LOW, Policy, clipped_slope
from recipes.medgrpo.studies.collapse.run import (
    Rewards,
    Setting,
    collapse_of,
    measures,
    population_advantages,
    prompts_of,
    style_advantages,
    train,
)
from recipes.medgrpo.studies.collapse.world import PAIRS, STYLES, make_world
from reward_score.medgrpo import compute_score

RULED = ("tal", "stg", "nap", "cvs", "sa")


@pytest.fixture(scope="module")
def world():
    """Without captions, which need the sentence encoder."""
    return make_world(tasks=RULED)


def test_every_answer_is_scored_by_the_reward_function(world):
    for at, pair in enumerate(world.pairs):
        for k, text in list(enumerate(world.texts[pair]))[:: len(STYLES) + 1]:
            found = asyncio.run(compute_score(pair, text, json.dumps(PAIRS[pair].truth)))
            assert (world.format[at, k], world.acc[at, k]) == (found["format"], found["acc"])
            assert {f"raw_{name}": x[k] for name, x in world.raw[pair].items()}.items() <= found.items()


def test_a_right_clean_answer_earns_everything_and_talk_nothing(world):
    rewards = Rewards(world, world.statistics(), Setting(normalizer="none"))
    assert rewards.table[:, 0].tolist() == [1.0] * len(world.pairs)
    assert rewards.table[:, STYLES.index("prose")].tolist() == [0.0] * len(world.pairs)


def test_the_starting_medians_are_those_that_are_published(world):
    rows = world.statistics().pairs
    assert rows["medvidbench/CoPESD/stg"]["iou"].p50 == pytest.approx(0.5, abs=0.01)
    assert rows["medvidbench/EgoSurgery/stg"]["iou"].p50 == pytest.approx(0.12, abs=0.01)
    assert world.start.sum(axis=1) == pytest.approx(np.ones(len(world.pairs)))


def test_statistics_have_the_moments_of_the_policy(world):
    for at, (pair, signals) in enumerate(world.statistics().pairs.items()):
        for name, row in signals.items():
            assert row.mean == pytest.approx(world.start[at] @ world.raw[pair][name], abs=2e-3)


def test_the_paper_rewards_have_no_share_of_the_raw_signal_and_the_default_has(world):
    statistics = world.statistics()
    tables = {name: Rewards(world, statistics, Setting(normalizer=name)).table for name in ("paper", "logistic")}
    hard = world.pairs.index("medvidbench/NurViD/tal")  # a median of 0
    wrong = world.texts[world.pairs[hard]].index("60.0-80.0 seconds.")
    assert tables["paper"][hard, wrong] == pytest.approx(0.5)
    assert tables["logistic"][hard, wrong] < 0.25


@pytest.mark.parametrize("coupling", [0.0, 0.3, 1.0])
def test_a_step_climbs_the_expected_reward(world, coupling):
    """Under the whole population and without division, the step is the gradient of the mean expected reward."""
    policy = Policy(world, coupling, rate=1.0)
    table = Rewards(world, world.statistics(), Setting(normalizer="none")).table
    start = policy.probabilities()
    policy.climb(start / len(start) * population_advantages(table, start, "dr_grpo"), start)
    step = policy.parameters.copy()

    def expected(parameters):
        policy.parameters = parameters
        return (policy.probabilities() * table).sum(axis=1).mean()

    rng, size = np.random.default_rng(0), 1e-5
    for at in [*rng.choice(policy.cells, 12, replace=False), *range(policy.cells, len(step))]:
        move = np.zeros(len(step))
        move[at] = size
        assert step[at] == pytest.approx((expected(move) - expected(-move)) / (2 * size), abs=1e-8)


def test_large_groups_tend_to_the_whole_population(world):
    """What sampled groups do, through the trainings' own advantages, is what the formula says of all answers."""
    statistics = world.statistics()
    for advantage in ("grpo", "dr_grpo"):
        same = {"normalizer": "paper", "advantage": advantage, "steps": 1, "rate": 5.0}
        exact, sampled = (train(world, statistics, Setting(**same, group=group)) for group in (None, 20_000))
        for task, row in exact.tasks.items():
            for name in ("format", "acc"):
                moved = row[name] - row[f"{name}_start"]
                assert sampled.tasks[task][name] - row[f"{name}_start"] == pytest.approx(moved, rel=0.1, abs=1e-3)


def test_the_slope_is_that_of_verls_clipped_loss(plugged):
    import torch
    from verl.trainer.ppo.core_algos import compute_policy_loss_vanilla
    from verl.workers.config import ActorConfig

    rng = np.random.default_rng(1)
    ratio, advantage = np.exp(rng.normal(0, 0.8, 64)), rng.normal(0, 1, 64)
    new = torch.tensor(np.log(ratio))[:, None].requires_grad_()
    clip = {"clip_ratio_low": CLIP_LOW, "clip_ratio_high": CLIP_HIGH}
    loss, _ = compute_policy_loss_vanilla(
        torch.zeros(64, 1),
        new,
        torch.tensor(advantage)[:, None],
        torch.ones(64, 1),
        config=ActorConfig(strategy="fsdp2", rollout_n=8, use_dynamic_bsz=True, **clip),
    )
    loss.backward()
    assert clipped_slope(ratio, advantage) / 64 == pytest.approx(-new.grad[:, 0].numpy(), abs=1e-9)


def test_what_a_pair_learns_stays_with_it_unless_styles_are_shared(world):
    statistics = world.statistics()
    for coupling in (0.0, 0.5):
        ended = train(world, statistics, Setting(coupling=coupling, rewarded=("tal",), steps=50, rate=5.0)).tasks
        assert ended["tal"]["format"] > ended["tal"]["format_start"] + 0.01
        moved = abs(ended["cvs"]["format"] - ended["cvs"]["format_start"])
        assert moved == pytest.approx(0.0, abs=1e-12) if coupling == 0 else moved > 0.01


def test_a_seed_decides_a_training(world):
    statistics = world.statistics()
    first, again, other = (train(world, statistics, Setting(steps=20, rate=5.0, seed=seed)) for seed in (1, 1, 2))
    assert first == again != other


@pytest.mark.parametrize("advantage", ["gdpo", "ema_grpo", "mt_grpo", "g2rpo", "per_task", "drpo"])
def test_every_rival_trains_here_too(world, advantage):
    ended = train(world, world.statistics(), Setting("none", advantage, steps=60, rate=3.0)).tasks
    assert ended["cvs"]["format"] > ended["cvs"]["format_start"]


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_more_updates_on_a_batch_move_further_but_clipped(world, optimizer):
    statistics, rate = world.statistics(), {"sgd": 20.0, "adam": 0.1}[optimizer]
    moved = []
    for updates in (1, 4, 64):
        setting = Setting(optimizer=optimizer, rate=rate, updates=updates, steps=1, group=None)
        row = train(world, statistics, setting).tasks["tal"]
        moved.append(row["acc"] - row["acc_start"])
    assert 0 < moved[0] < moved[1]
    # An answer that pulls upwards is left alone once it is 1.3 times as likely.
    assert moved[2] < 16 * moved[1]


def test_an_adaptive_normaliser_follows_the_policy(world):
    statistics = world.statistics()
    setting = Setting("adaptive", steps=30, rate=5.0, rewarded=("tal",))
    rewards = Rewards(world, statistics, setting)
    before = rewards.table.copy()
    easy = world.pairs.index("medvidbench/AVOS/tal")
    rewards.learn(np.full(256, easy), np.zeros(256, dtype=int))  # the right answer, again and again
    # What was twice the median is the median now.
    assert rewards.table[easy, 0] < before[easy, 0] and rewards.table[easy + 1, 0] == before[easy + 1, 0]
    assert train(world, statistics, setting).tasks["tal"]["acc"] > 0


@pytest.mark.parametrize("advantage", ["grpo", "dr_grpo"])
def test_the_mean_advantage_of_a_style_is_where_the_shared_policy_goes(world, advantage):
    """With styles alone to learn, the first exact step moves each style by its probability and mean advantage."""
    statistics, setting = world.statistics(), Setting("paper", advantage, coupling=1.0, group=None)
    found = style_advantages(world, statistics, setting)
    assert set(found) == {*RULED, "all"}
    # Advantages of all answers cancel, and every pair starts with the same styles.
    shares = np.array([world.start[0][world.style[0] == at].sum() for at in range(len(STYLES))])
    for row in found.values():
        assert shares @ np.array(list(row.values())) == pytest.approx(0.0, abs=1e-9)
    policy = Policy(world, coupling=1.0, rate=1.0)
    share = prompts_of(world, None)[:, None] / prompts_of(world, None).sum()
    table = Rewards(world, statistics, setting).table
    policy.climb(share * world.start * population_advantages(table, world.start, advantage), world.start)
    assert policy.parameters[policy.cells :] == pytest.approx(shares * np.array(list(found["all"].values())))


def test_every_task_is_asked_equally_often(world):
    assert prompts_of(world, None).tolist() == [1, 1, 1, 1, 2, 2, 2]
    assert prompts_of(world, ["tal", "cvs"]).tolist() == [1, 1, 0, 0, 0, 0, 2]
    with pytest.raises(ValueError, match="rewarded .*vs.*: expected some of tal, stg, nap, sa, cvs"):
        prompts_of(world, ["vs"])


def test_what_collapse_is():
    start = {"tal": {"format": 0.9, "acc": 0.4}, "vs": {"format": 0.4, "acc": 0.5}}
    assert collapse_of(start, start) is None
    assert collapse_of(start, {"tal": {"format": 0.49, "acc": 0.4}}) == "tal: format"
    assert collapse_of(start, {"tal": {"format": 0.9, "acc": 0.19}}) == "tal: accuracy"
    # A format that was low before has not collapsed.
    assert collapse_of(start, {"vs": {"format": 0.3, "acc": 0.5}}) is None


def test_measures_are_expectations(world):
    found = measures(world, world.start)
    cvs = world.pairs.index("medvidbench/Cholec80_CVS/cvs")
    assert found["cvs"]["acc"] == pytest.approx(world.start[cvs] @ world.acc[cvs])
    p = world.start[cvs][world.start[cvs] > 0]
    assert found["cvs"]["entropy"] == pytest.approx(-(p * np.log(p)).sum())


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--variants", "none:ppo"], "--variants: 'none:ppo': expected NORMALIZER:ADVANTAGE of paper, "),
        (["--groups", "1"], "--groups: expected a whole number from 2, got '1'"),
        (["--groups", "exact", "--variants", "none:gdpo"], "--variants none:gdpo: group exact: expected an advantage"),
        (["--tasks", "tall"], "--tasks tall: expected all, or some of tal, stg"),
        (["--coupling", "2"], "--coupling: expected a number from 0 to 1, got '2'"),
    ],
)
def test_a_wrong_argument_is_one_line(tmp_path, capsys, arguments, line):
    try:
        status = main(["--output", str(tmp_path / "out"), *arguments])
    except SystemExit as stop:
        status = stop.code
    error = capsys.readouterr().err
    assert status == 2 and line in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_the_command_finds_the_collapse_that_the_docs_predict(tmp_path, capsys):
    """Where captions want another style and styles are shared, training without normalisation loses the format."""
    chosen = ["--variants", "none:grpo", "paper:grpo", "none:dr_grpo", "--rates", "9", "--coupling", "1"]
    assert main(["--output", str(tmp_path), *chosen, "--worlds", "agreeing", "conflict"]) == 0
    result = json.loads((tmp_path / "collapse.json").read_text())
    fallen = {(run["conflict"], run["normalizer"], run["advantage"]) for run in result["runs"] if run["collapsed"]}
    assert fallen == {(True, "none", "grpo")}
    assert len(result["runs"]) == 18 and result["settings"]["seeds"] == [0, 1, 2]
    table = (tmp_path / "collapse.md").read_text()
    assert " of 3**, step " in table and table in capsys.readouterr().out

# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

import asyncio
import json
import logging
import math

import numpy as np
import pytest

from recipes.medgrpo.training.advantages import make_advantage
from reward_score.normalization import logistic, needed_share


@pytest.fixture
def sampling(plugged):
    from recipes.medgrpo.training import sampler

    return sampler


def buffer(sampling, **settings):
    """Made as verl's trainer makes it."""
    return sampling.MedGRPOSampler(
        trainer_mode="sync",
        trainer_config={},
        max_off_policy_threshold=None,
        max_off_policy_strategy="drop",
        sampler_kwargs={"group_size": 3, "poll_interval": 0.01, **settings},
        refill_fn=None,
    )


def test_groups_with_too_few_survivors_are_found(sampling):
    keys = ["a_0_0", "a_1_0", "a_2_0", "b_2_0", "c_0_0", "c_0_1", "d_0_0", "d_1_0"]
    # c has two outputs of one and the same rollout.
    assert sampling.small_groups(keys, 2) == {"b", "c"}
    assert sampling.small_groups(keys, 3) == {"b", "c", "d"}
    assert sampling.small_groups(keys, 1) == set()
    assert sampling.small_groups([], 2) == set()


def test_a_prompts_name_may_hold_underscores(sampling):
    assert sampling.group_of("0f_3c_1_0") == "0f_3c"
    assert sampling.small_groups(["x_y_0_0", "x_z_0_0", "x_y_1_0"], 2) == {"x_z"}


TAL, SA = "medvidbench/AVOS/tal", "medvidbench/JIGSAWS/sa"


def test_the_curves_of_a_step(sampling):
    curves = sampling.pair_curves(
        [
            (TAL, 0.2, {"acc": 0.0, "format": 1.0, "raw_iou": 0.1, "score": 0.2}),
            (TAL, 0.4, {"acc": 0.5, "format": 1.0, "raw_iou": 0.5, "score": 0.4}),
            (TAL, 0.6, {"acc": 1.0, "format": 0.5, "raw_iou": 0.9, "score": 0.6}),
            (SA, 0.8, {"acc": 0.75, "format": 1.0, "score": 0.8}),
            (SA, 0.8, {"acc": 0.75, "format": 1.0, "score": 0.8}),
        ]
    )
    assert curves == pytest.approx(
        {
            "medgrpo/AVOS/tal/reward": 0.4,
            "medgrpo/AVOS/tal/acc": 0.5,
            "medgrpo/AVOS/tal/format": 2.5 / 3,
            "medgrpo/AVOS/tal/raw_iou": 0.5,
            "medgrpo/JIGSAWS/sa/reward": 0.8,
            "medgrpo/JIGSAWS/sa/acc": 0.75,
            "medgrpo/JIGSAWS/sa/format": 1.0,
            # Three rows of one pair and two of the other: each pair counts once.
            "medgrpo/pairs_mean/reward": 0.6,
            "medgrpo/pairs_mean/acc": 0.625,
            "medgrpo/pairs_mean/format": (2.5 / 3 + 1) / 2,
        }
    )


def test_no_rows_have_no_curves(sampling):
    assert sampling.pair_curves([]) == {}


def test_a_signal_of_some_rollouts_is_averaged_over_those(sampling):
    rows = [(TAL, 0.0, {"raw_caption": 0.5}), (TAL, 0.0, {})]
    curves = sampling.pair_curves(rows)
    assert curves["medgrpo/AVOS/tal/raw_caption"] == 0.5
    assert "medgrpo/AVOS/tal/acc" not in curves and "medgrpo/pairs_mean/acc" not in curves


def test_attacks_on_the_judge_are_a_curve_of_the_captions(sampling):
    from recipes.medgrpo.training.recording import records

    rows = [answer("a", 0.1), answer("a", 0.1)]
    rows[0].parts["attack"], rows[1].parts["attack"] = 1.0, 0.0
    curves = sampling.pair_curves((one.data_source, one.reward, one.parts) for one in rows)
    assert curves["medgrpo/AVOS/tal/attack"] == 0.5 and "medgrpo/pairs_mean/attack" not in curves
    assert [record["attack"] for record in records(1, rows, np.zeros(2), np.zeros(2))] == [1.0, 0.0]


def test_a_run_stops_when_too_much_fails_for_too_long(sampling):
    watch = buffer(sampling, max_failed_share=0.25, failure_window=3)._watch_failures
    for step, share in enumerate([0.7, 0.0, 0.0, 0.7], 1):
        # One bad step, then another: never more than a quarter of three steps together.
        watch(step, share)
    with pytest.raises(sampling.RolloutFailure, match=r"step 5: 33% .* last 3 steps .*max_failed_share=25%"):
        watch(5, 0.3)


def test_no_run_stops_before_the_window_is_full(sampling):
    watch = buffer(sampling, max_failed_share=0.25, failure_window=3)._watch_failures
    watch(1, 0.9)
    watch(2, 0.9)
    with pytest.raises(sampling.RolloutFailure):
        watch(3, 0.9)


def answer(group: str, reward: float, *, source: str = TAL, tokens: int = 10, form: float = 1.0, **raw: float):
    """A rollout as the sampler reads it from the queue."""
    from recipes.medgrpo.training.curves import Rollout

    parts = {"acc": reward, "format": form} | {f"raw_{name}": value for name, value in raw.items()}
    return Rollout(group, source, tokens, reward, parts)


def test_the_gradient_share_counts_tokens(plugged):
    from recipes.medgrpo.training.curves import training_curves

    rollouts = [answer("a", 0.0, tokens=10), answer("a", 1.0, tokens=30)]
    rollouts += [answer("b", 0.2, source=SA, tokens=40), answer("b", 0.4, source=SA, tokens=40)]
    rewards = np.array([one.reward for one in rollouts])
    curves = training_curves(rollouts, rewards, np.array([-0.5, 0.5, -0.1, 0.1]))
    # 40 tokens at 0.5 against 80 at 0.1.
    assert curves["medgrpo/AVOS/tal/gradient_share"] == pytest.approx(20 / 28)
    assert curves["medgrpo/JIGSAWS/sa/gradient_share"] == pytest.approx(8 / 28)
    assert curves["medgrpo/AVOS/tal/reward_std"] == pytest.approx(0.5**0.5)
    # Both of tal's lie beyond 0.02 and 0.98, none of sa's.
    assert curves["medgrpo/AVOS/tal/saturated"] == 1.0 and curves["medgrpo/JIGSAWS/sa/saturated"] == 0.0
    assert curves["medgrpo/pairs_mean/saturated"] == 0.5


def test_saturation_is_of_the_normalised_value_of_answers_that_parse(plugged):
    from recipes.medgrpo.training.curves import training_curves

    rollouts = [answer("a", 0.0, form=0.0), answer("a", 0.5, form=0.5), answer("a", 0.5), answer("a", 0.985)]
    rewards, none = np.array([one.reward for one in rollouts]), np.zeros(4)
    # The first does not parse; the second is a saturated 1.0 times its format; the fourth is saturated.
    assert training_curves(rollouts, rewards, none)["medgrpo/AVOS/tal/saturated"] == pytest.approx(2 / 3)
    # The format went into the raw signal: the second is 0.5 as it stands.
    before = training_curves(rollouts, rewards, none, format_first=True)
    assert before["medgrpo/AVOS/tal/saturated"] == pytest.approx(1 / 3)
    unpaid = training_curves(rollouts, rewards, none, rewarded=lambda task: task != "tal")
    # Nothing pulled either.
    assert set(unpaid) == {"medgrpo/AVOS/tal/reward_std", "medgrpo/groups/dead_share"}


def test_a_group_is_dead_when_the_rewards_trained_on_tie(plugged):
    from recipes.medgrpo.training.curves import training_curves

    # As scored, the two of `a` are saturated and tie; the window of the policy tells them apart. `b` is alone.
    rollouts = [answer("a", 1.0), answer("a", 1.0), answer("b", 0.3), answer("c", 0.2), answer("c", 0.2)]
    curves = training_curves(rollouts, np.array([0.4, 0.6, 0.3, 0.2, 0.2]), np.zeros(5))
    assert curves["medgrpo/groups/dead_share"] == pytest.approx(2 / 3)


def test_only_a_rollouts_last_output_counts(sampling):
    assert sampling.last_outputs(["a_0_0", "a_1_0", "a_0_1", "a_0_10", "b_c_0_0"]) == ["a_0_10", "a_1_0", "b_c_0_0"]


LENGTHS = [3, 1, 4, 2, 2, 5]


@pytest.mark.parametrize("name", ["dr_grpo", "per_task", "drpo", "ema_grpo", "mt_grpo", "g2rpo"])
def test_verls_own_estimator_leaves_what_was_written(sampling, name):
    """Written as a reward, read back as `PPOTrainer._compute_advantage` reads it, estimated by verl."""
    import torch
    from verl import DataProto
    from verl.trainer.ppo.core_algos import AdvantageEstimator
    from verl.trainer.ppo.v1.utils import compute_advantage_for_multi_trajectories

    # Groups of three, two (tied) and one.
    keys = ["a_0_0", "a_1_0", "a_2_0", "b_0_0", "b_2_0", "c_1_0"]
    groups = [sampling.group_of(key) for key in keys]
    rewards = np.array([0.1, 0.4, 0.9, 0.5, 0.5, 0.7])
    ours = make_advantage(name)(rewards, groups, [TAL, TAL, TAL, SA, SA, TAL])
    assert ours[3:].tolist() == [0.0, 0.0, 0.0] and ours[:3].any()
    written = sampling.reward_rows(ours.tolist(), LENGTHS)
    mask = torch.nested.as_nested_tensor([torch.ones(n) for n in LENGTHS], layout=torch.jagged).to_padded_tensor(0.0)
    data = DataProto.from_single_dict(
        {
            "token_level_rewards": written.to_padded_tensor(0.0),
            "response_mask": mask,
            "uid": np.array(groups, dtype=object),
        }
    )
    estimator = AdvantageEstimator.GRPO
    data = compute_advantage_for_multi_trajectories(
        data, batch_keys=keys, adv_estimator=estimator, num_repeat=3, norm_adv_by_std_in_grpo=False
    )
    assert data.batch["advantages"].numpy() == pytest.approx(ours[:, None] * mask.numpy(), abs=1e-6)


def test_the_reward_stands_where_verl_puts_it(sampling):
    """On the last token, the same nested layout as the agent loop's."""
    import torch
    from verl.experimental.agent_loop.agent_loop import AgentLoopMetrics, AgentLoopOutput

    theirs = [
        AgentLoopOutput(
            prompt_ids=[1],
            response_ids=[2] * length,
            response_mask=[1] * length,
            reward_score=value,
            metrics=AgentLoopMetrics(),
        ).as_dict()["rm_scores"]
        for value, length in ((0.25, 3), (0.75, 1))
    ]
    ours = sampling.reward_rows([0.25, 0.75], [3, 1])
    assert ours.layout == torch.jagged and ours.dtype == theirs[0].dtype
    assert [row.tolist() for row in ours.unbind()] == [row.tolist() for row in theirs]


def test_a_divided_advantage_is_not_divided_again(sampling):
    line = (
        r"sampler_kwargs.advantage=drpo needs algorithm.norm_adv_by_std_in_grpo=False: verl would divide the finished "
        "advantage once more"
    )
    with pytest.raises(ValueError, match=line):
        buffer(sampling, advantage="drpo", norm_adv_by_std=True)
    # Unsaid, it is verl's default.
    with pytest.raises(ValueError, match=line):
        buffer(sampling, advantage="drpo")
    assert buffer(sampling, advantage="drpo", norm_adv_by_std=False).advantage_name == "drpo"


def test_grpo_without_the_division_is_dr_grpo_and_says_so(sampling, caplog):
    with caplog.at_level(logging.WARNING, logger="recipes.medgrpo.training.sampler"):
        made = buffer(sampling, norm_adv_by_std=False)
    assert [record.message for record in caplog.records] == [
        "advantage=grpo with algorithm.norm_adv_by_std_in_grpo=False is dr_grpo"
    ]
    assert made.advantage(np.array([0.0, 1.0]), ["a", "a"], [TAL, TAL]).tolist() == [-0.5, 0.5]


def test_settings_may_come_as_hydra_gives_them(sampling):
    from omegaconf import OmegaConf

    whole = OmegaConf.create(
        {
            "reward_kwargs": {"normalizer": "none", "rewarded_tasks": ["tal"]},
            "sampler": {"group_size": 3, "reward_kwargs": "${reward_kwargs}", "advantage_settings": {}},
        }
    )
    made = sampling.MedGRPOSampler(
        trainer_mode="sync",
        trainer_config={},
        max_off_policy_threshold=None,
        max_off_policy_strategy="drop",
        sampler_kwargs=whole.sampler,
    )
    assert made.scorer.settings.normalizer == "none" and made.scorer.rewarded["tal"] and not made.scorer.rewarded["sa"]


@pytest.fixture
def statistics(tmp_path):
    """A statistics file whose medians are 0.5."""
    row = {"n": 64, "p25": 0.25, "p50": 0.5, "p75": 0.75, "iqr": 0.5}
    file = tmp_path / "statistics.json"
    file.write_text(json.dumps({"format": 1, "pairs": {TAL: {"iou": row}, SA: {"share": row, "closeness": row}}}))
    return str(file)


def adaptive(sampling, statistics, **settings):
    reward = {"statistics": statistics, "normalizer": "adaptive", "min_iqr": 0.1, "min_samples": 1}
    return buffer(sampling, reward_kwargs=reward, adaptive_window=4, adaptive_min_values=2, **settings)


def test_an_adaptive_step_is_measured_by_the_steps_before_it(sampling, statistics):
    made = adaptive(sampling, statistics)
    step = [answer("a", 0.9, iou=0.75), answer("a", 0.9, iou=1.0), answer("b", 0.0, form=0.0, iou=0.0)]
    # The SFT model's statistics for the first step; what does not parse earns exactly 0.

    def earned(p50, iqr):
        share = needed_share(p50, iqr)
        return [share * x + (1 - share) * logistic(x, p50, iqr) for x in (0.75, 1.0)] + [0.0]

    assert made._window_rewards(step).tolist() == earned(0.5, 0.5)
    # Then those of the first: 0, 0.75, 1.
    assert made._window_rewards(step).tolist() == earned(0.75, 0.875 - 0.375)


def test_adaptive_needs_statistics_to_start_from(sampling):
    with pytest.raises(ValueError, match="normalizer=adaptive needs reward_kwargs.statistics"):
        buffer(sampling, reward_kwargs={"normalizer": "adaptive"})


def test_the_state_is_kept_with_the_checkpoints(sampling, tmp_path):
    made = buffer(sampling, state_dir=str(tmp_path))
    for step in range(1, 8):
        if step == 3:
            (tmp_path / "global_step_2").mkdir()
        made._save(step)
    # The checkpoint of step 7 may still come, that of step 6 may not be there: a file each, and that of step 2.
    assert sorted(file.name for file in (tmp_path / "sampler").iterdir()) == [
        "step_2.json",
        "step_6.json",
        "step_7.json",
    ]
    # Resumed after step 2, what an earlier attempt left of later steps goes.
    resumed = buffer(sampling, state_dir=str(tmp_path))
    resumed._restore(2)
    resumed._save(3)
    assert sorted(file.name for file in (tmp_path / "sampler").iterdir()) == ["step_2.json", "step_3.json"]
    # Once its checkpoint is gone, step 2's state still holds the metrics that a kill may have taken; so after a second
    # resume.
    (tmp_path / "global_step_2").rmdir()
    (tmp_path / "global_step_4").mkdir()
    resumed._save(4, {"medgrpo/pairs_mean/reward": 0.5, "nothing": math.nan})
    resumed._save(5)
    again = buffer(sampling, state_dir=str(tmp_path))
    again._restore(4)
    (tmp_path / "global_step_4").rmdir()
    for step in (5, 6, 7):
        again._save(step)
    states = tmp_path / "sampler"
    assert sorted(file.name for file in states.iterdir()) == [f"step_{n}.json" for n in (2, 4, 6, 7)]
    assert json.loads((states / "step_4.json").read_text())["metrics"] == {"medgrpo/pairs_mean/reward": 0.5}


def resumed(order, batch, after):
    """The rows of a step as verl's data loader gives them out that goes on from a checkpoint after step `after`."""
    from omegaconf import OmegaConf
    from torchdata.stateful_dataloader import StatefulDataLoader
    from verl.trainer.ppo.utils import create_rl_sampler

    def loader(rows):
        settings = OmegaConf.create({"shuffle": False})
        return StatefulDataLoader(
            rows, batch_size=batch, num_workers=0, drop_last=True, sampler=create_rl_sampler(settings, rows)
        )

    before = loader(list(range(len(order))))
    for _, _ in zip(range(after), before, strict=False):
        state = before.state_dict()
    again = loader(order)
    again.load_state_dict(state)
    return next(iter(again)).tolist()


def test_learnt_shares_need_an_advantage_that_learns_them(sampling):
    assert buffer(sampling, mix="learnt", advantage="mt_grpo", norm_adv_by_std=False)
    with pytest.raises(ValueError, match="data.medgrpo.mix=learnt: expected the advantage mt_grpo, got grpo"):
        buffer(sampling, mix="learnt")


def test_the_next_batch_is_drawn_by_what_mt_grpo_asks_for(sampling, tmp_path):
    from recipes.medgrpo.data.schedule import LearntOrder, quotas

    made = buffer(sampling, state_dir=str(tmp_path), advantage="mt_grpo", norm_adv_by_std=False)
    made.advantage(np.array([0.0, 1.0, 0.5, 0.5, 0.2, 0.4]), list("aabbcc"), [TAL] * 4 + [SA] * 2)
    made._prompts = 9
    made._save(1)
    pairs = [TAL] * 9 + [SA] * 9
    asked = [pairs[row] for row in resumed(LearntOrder(pairs, 9, 2, 0, made.state_dir), 9, after=1)]
    # Half of tal's groups were dead, so that it takes twice as many.
    assert {pair: asked.count(pair) for pair in (TAL, SA)} == {TAL: 6, SA: 3} == quotas(pairs, 9, made.advantage.mix())


@pytest.mark.parametrize(("step", "left"), [(2, [1, 2]), (0, [])])
def test_records_of_steps_that_a_resumed_run_takes_again_go(sampling, tmp_path, step, left):
    from recipes.medgrpo.training.recording import ENDINGS, step_file

    for folder in ENDINGS:
        (tmp_path / folder).mkdir()
        for number in (1, 2, 3, 12):
            step_file(tmp_path, folder, number).write_text("{}\n")
    buffer(sampling, record_dir=str(tmp_path))._restore(step)
    for folder in ENDINGS:
        assert sorted((tmp_path / folder).iterdir()) == [step_file(tmp_path, folder, number) for number in left]


@pytest.mark.parametrize("said", [-1, True, "some", 1.5])
def test_how_many_answers_are_recorded_is_all_or_a_number(sampling, tmp_path, said):
    with pytest.raises(ValueError, match="record_answers=.*: expected all, or a whole number"):
        buffer(sampling, record_dir=str(tmp_path), record_answers=said)


def test_texts_need_a_tokenizer(sampling, tmp_path):
    with pytest.raises(ValueError, match="record_answers: expected tokenizer beside it"):
        buffer(sampling, record_dir=str(tmp_path), record_answers="all")


@pytest.mark.parametrize("window", ['{"values": {"medvidbench/AVOS/tal": 3}}', "[]", "null"])
def test_a_damaged_window_is_no_state(sampling, statistics, tmp_path, window):
    (tmp_path / "sampler").mkdir()
    content = '{"step": 5, "failed_shares": [], "advantage": {"name": "grpo", "state": {}}, "window": %s}'
    (tmp_path / "sampler/step_5.json").write_text(content % window)
    with pytest.raises(sampling.SamplerStateError, match="step_5.json: cannot be resumed from: adaptive statistics"):
        adaptive(sampling, statistics, state_dir=str(tmp_path))._restore(5)


def test_a_resumed_run_remembers_its_failures(sampling, tmp_path):
    first = buffer(sampling, state_dir=str(tmp_path), failure_window=3)
    for step, share in enumerate([0.0, 0.5, 0.2], 1):
        first._watch_failures(step, share)
        first._save(step)
    resumed = buffer(sampling, state_dir=str(tmp_path), failure_window=3)
    resumed._restore(3)
    with pytest.raises(sampling.RolloutFailure, match="step 4: 40% of the rollouts of the last 3 steps"):
        resumed._watch_failures(4, 0.5)


def test_a_resumed_run_remembers_how_its_pairs_began(sampling, tmp_path, caplog):
    from recipes.medgrpo.training.curves import Rollout

    def answers(form):
        return [Rollout("g", TAL, 9, 0.5, {"format": form})]

    first = buffer(sampling, state_dir=str(tmp_path), drift={"window": 2})
    for step in (1, 2, 3):
        first.drift(step, answers(0.9))
        first._save(step)
    resumed = buffer(sampling, state_dir=str(tmp_path), drift={"window": 2})
    resumed._restore(3)
    assert "medgrpo/drift/pairs" in resumed.drift(4, answers(0.1))
    assert "step 4: AVOS/tal: format 0.50 over its last 2 steps, 0.90 over its first" in caplog.text
    # A state of before there were such warnings begins anew.
    state = json.loads((tmp_path / "sampler/step_3.json").read_text())
    del state["drift"]
    (tmp_path / "sampler/step_3.json").write_text(json.dumps(state))
    former = buffer(sampling, state_dir=str(tmp_path), drift={"window": 2})
    former._restore(3)
    assert "medgrpo/drift/pairs" not in former.drift(4, answers(0.1))


def test_what_learns_goes_on_from_its_state(sampling, statistics, tmp_path):
    settings = {"advantage": "drpo", "norm_adv_by_std": False, "state_dir": str(tmp_path)}
    first = adaptive(sampling, statistics, **settings)
    first.advantage(np.array([0.2, 0.4]), ["a", "a"], [TAL, TAL])
    first._window_rewards([answer("a", 0.9, iou=0.75), answer("a", 0.9, iou=1.0)])
    first._save(5)
    resumed = adaptive(sampling, statistics, **settings)
    resumed._restore(5)
    assert resumed.advantage.state_dict() == first.advantage.state_dict() == {"history": {TAL: [[0.2, 0.4]]}}
    assert resumed.window.state_dict() == first.window.state_dict()


@pytest.mark.parametrize("folder", ["state", None])
def test_what_learns_does_not_go_on_without_its_state(sampling, statistics, tmp_path, folder):
    state_dir = folder and str(tmp_path / folder)
    missing = f"resuming after step 5: .*{'step_5.json' if folder else 'no state_dir is set'}.* is missing, and"
    drpo = {"advantage": "drpo", "norm_adv_by_std": False}
    with pytest.raises(sampling.SamplerStateError, match=f"{missing} advantage=drpo cannot go on"):
        buffer(sampling, state_dir=state_dir, **drpo)._restore(5)
    with pytest.raises(sampling.SamplerStateError, match=f"{missing} normalizer=adaptive cannot go on"):
        adaptive(sampling, statistics, state_dir=state_dir)._restore(5)
    # The first step of a run has nothing to go on from, and plain GRPO needs nothing.
    buffer(sampling, state_dir=state_dir, **drpo)._restore(0)
    buffer(sampling, state_dir=state_dir)._restore(5)


def test_the_state_of_another_advantage_is_no_state(sampling, tmp_path):
    buffer(sampling, state_dir=str(tmp_path))._save(5)
    with pytest.raises(sampling.SamplerStateError, match=r"step_5.json: .* advantage: expected drpo, got grpo"):
        buffer(sampling, state_dir=str(tmp_path), advantage="drpo", norm_adv_by_std=False)._restore(5)
    (tmp_path / "sampler" / "step_5.json").write_text('{"step": 5')
    with pytest.raises(sampling.SamplerStateError, match="step_5.json: cannot be resumed from"):
        buffer(sampling, state_dir=str(tmp_path))._restore(5)


def judged(folder, **settings) -> dict:
    """Reward settings with a judge that keeps its account in a folder."""
    endpoint = {"base_url": "http://127.0.0.1:9/v1", "model": "m", "store": str(folder)}
    return {"reward_kwargs": {"judge": "openai", "judge_settings": endpoint | settings}}


def account(folder, **counts: float) -> None:
    """What the reward workers leave in the store."""
    from reward_score.paid_call.store import open_store

    async def count():
        store = open_store(str(folder))
        store.count("m", {name.replace("__", "/"): number for name, number in counts.items()})
        await store.close()

    asyncio.run(count())


def test_a_resumed_run_remembers_what_its_judge_did(sampling, tmp_path):
    settings = judged(tmp_path / "judge", budget_usd=1.0) | {"state_dir": str(tmp_path)}
    first = buffer(sampling, **settings)
    counts = {"judgements": 4, "failed/JudgeRefused": 6, "cost_usd": 0.6, "cost_usd_total": 0.6}
    first.judge_stops.check_step(5, {"": counts, "m": counts})
    first._save(5)
    resumed = buffer(sampling, **settings)
    resumed._restore(5)
    assert resumed.judge_stops.state_dict() == {"refused": {"": [[6, 10]]}, "dearest": {"m": 0.6}}
    assert resumed.judge_stops.too_dear(0.6)
    # A state of before there was an account.
    state = json.loads((tmp_path / "sampler/step_5.json").read_text())
    del state["judge"]
    (tmp_path / "sampler/step_5.json").write_text(json.dumps(state))
    buffer(sampling, **settings)._restore(5)


def test_what_led_to_a_stop_does_not_stop_the_next_attempt_too(sampling, tmp_path):
    settings = judged(tmp_path / "judge") | {"state_dir": str(tmp_path)}
    first = buffer(sampling, **settings)
    first.failed_shares.append(0.9)
    first.judge_stops.check_step(5, {"": {"judgements": 1, "failed/JudgeRefused": 30}})
    first._save(5)
    with pytest.raises(sampling.JudgeStop, match="no other step fits"):
        first.judge_stops.budget, first.judge_stops.dearest = 1.0, {"m": 1.5}
        first._restored = True
        first.sample(6, "train", 1)
    again = buffer(sampling, **settings)
    again._restore(5)
    assert list(again.failed_shares) == [] and again.judge_stops.refused == {}


def test_a_key_among_the_settings_is_refused_by_the_driver(sampling):
    given = {"judge": "openai", "judge_settings": {"model": "m", "second": {"model": "n", "api_key": "sk-secret"}}}
    with pytest.raises(ValueError, match="hold an api_key") as raised:
        buffer(sampling, reward_kwargs=given)
    assert "sk-secret" not in str(raised.value)


def test_no_step_is_taken_that_may_not_fit_the_budget(sampling, tmp_path):
    made = buffer(sampling, **judged(tmp_path / "judge", budget_usd=1.0))
    made.judge_stops.dearest = {"m": 1.5}
    with pytest.raises(sampling.JudgeStop, match=r"^step 7 was not taken: no other step fits .* nothing was trained"):
        made.sample(7, "train", 1)


def test_a_damaged_account_in_the_state_is_named(sampling, tmp_path):
    (tmp_path / "sampler").mkdir()
    content = '{"failed_shares": [], "advantage": {"name": "grpo", "state": {}}, "judge": {"refused": {"": [3]}}}'
    (tmp_path / "sampler/step_5.json").write_text(content)
    with pytest.raises(sampling.SamplerStateError, match="step_5.json: cannot be resumed from"):
        buffer(sampling, state_dir=str(tmp_path))._restore(5)


@pytest.fixture(scope="module")
def queue(plugged, start_ray):
    """A real TransferQueue on a Ray of its own."""
    import transfer_queue as tq
    from omegaconf import OmegaConf

    start_ray(num_cpus=4, logging_level="ERROR")
    tq.init(OmegaConf.create({"backend": {"SimpleStorage": {"num_data_storage_units": 1}}}))
    yield tq
    tq.close()


def put_group(tq, uid: str, source: str, rewards: dict[int, float], partition: str = "train") -> None:
    """A prompt whose rollouts `rewards` survived, as verl's agent loop leaves it."""
    import torch
    from verl.utils.tensordict_utils import list_of_dict_to_tensordict

    if rewards:
        fields = [
            {
                # verl writes the reward on the last token; answers differ in length.
                "rm_scores": torch.tensor([0.0] * session + [reward]),
                "extra_fields": {"reward_extra_info": {"acc": reward / 2, "format": 1.0, "raw_iou": reward}},
                "data_source": source,
                "extra_info": {"file": "train.json", "index": len(uid), "split": "train"},
                "responses": torch.arange(session + 1),
                "rollout_log_probs": torch.full((session + 1,), -0.5 * (session + 1)),
            }
            for session, reward in rewards.items()
        ]
        tq.kv_batch_put(
            keys=[f"{uid}_{session}_0" for session in rewards],
            partition_id=partition,
            fields=list_of_dict_to_tensordict(fields),
            tags=[{"status": "success", "global_steps": 1}] * len(rewards),
        )
    status = {"is_prompt": True, "status": "finished" if len(rewards) == 3 else "failure", "global_steps": 1}
    tq.kv_batch_put(keys=[uid], partition_id=partition, tags=[status])


@pytest.mark.slow
def test_a_step_with_failures(sampling, queue):
    put_group(queue, "whole", TAL, {0: 0.25, 1: 0.5, 2: 0.75})
    put_group(queue, "lonely", TAL, {1: 1.0})
    put_group(queue, "pair", SA, {0: 0.5, 2: 0.5})
    put_group(queue, "gone", SA, {})
    batch, metrics = buffer(sampling, failure_window=9).sample(1, "train", 4)
    assert set(batch.keys) == {"whole_0_0", "whole_1_0", "whole_2_0", "pair_0_0", "pair_2_0"}
    assert len(batch.tags) == 5
    # What was left out does not stay behind in the queue.
    assert set(queue.kv_list()["train"]) == set(batch.keys)
    assert metrics["medgrpo/rollouts/failed"] == 6 and metrics["medgrpo/groups/dropped"] == 2
    assert metrics["medgrpo/AVOS/tal/reward"] == pytest.approx(0.5)
    assert metrics["medgrpo/AVOS/tal/acc"] == pytest.approx(0.25)
    assert metrics["medgrpo/JIGSAWS/sa/raw_iou"] == pytest.approx(0.5)
    assert metrics["medgrpo/groups/dead_share"] == 0.5
    queue.kv_clear(partition_id="train", keys=batch.keys)


@pytest.mark.slow
def test_a_step_says_how_long_and_how_sure_its_answers_are(sampling, queue):
    put_group(queue, "whole", TAL, {0: 0.25, 1: 0.5, 2: 0.75})
    batch, metrics = buffer(sampling, log_probs=True).sample(1, "train", 1)
    # One, two and three tokens; each token of them drawn with -0.5, -1 and -1.5.
    assert metrics["medgrpo/AVOS/tal/tokens"] == 2
    assert metrics["medgrpo/AVOS/tal/entropy"] == pytest.approx(1.0)
    queue.kv_clear(partition_id="train", keys=batch.keys)
    put_group(queue, "again", TAL, {0: 0.25, 1: 0.5, 2: 0.75})
    batch, metrics = buffer(sampling).sample(1, "train", 1)
    assert metrics["medgrpo/AVOS/tal/tokens"] == 2 and "medgrpo/AVOS/tal/entropy" not in metrics
    queue.kv_clear(partition_id="train", keys=batch.keys)


@pytest.mark.slow
def test_a_step_that_leaves_nothing_to_train_on_stops_the_run(sampling, queue):
    put_group(queue, "gone", TAL, {})
    with pytest.raises(sampling.RolloutFailure, match="step 7: every rollout failed"):
        buffer(sampling).sample(7, "train", 1)
    queue.kv_clear(partition_id="train", keys=["gone"])
    put_group(queue, "lonely", TAL, {0: 1.0})
    with pytest.raises(sampling.RolloutFailure, match="step 8: no group kept 2 rollouts"):
        buffer(sampling, failure_window=9).sample(8, "train", 1)


@pytest.mark.slow
def test_the_judges_account_joins_the_metrics_of_a_step(sampling, queue, tmp_path):
    made = buffer(sampling, **judged(tmp_path))
    put_group(queue, "whole", TAL, {0: 0.25, 1: 0.5, 2: 0.75})
    account(tmp_path, judgements=3, calls=2, cache_hits=1)
    batch, metrics = made.sample(1, "train", 1)
    assert metrics["medgrpo/judge/judgements"] == 3 and metrics["medgrpo/judge/failed_share"] == 0
    assert metrics["medgrpo/AVOS/tal/reward"] == pytest.approx(0.5)
    queue.kv_clear(partition_id="train", keys=batch.keys)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("survivors", "counts", "words"),
    [
        # Where every rollout failed, the judge is named and not the rollouts.
        ({}, {"failed__JudgeBudgetExceeded": 3}, "step 2: the judge's budget is used up: 3 of 3 judgements"),
        ({0: 0.5, 1: 0.5}, {"judgements": 1, "failed__JudgeTimeout": 8}, "step 2: the judge failed in 8 of 9"),
        ({0: 0.0, 1: 0.0, 2: 0.0}, {"failed__JudgeMalformed": 8}, "step 2: all 8 judgements were refused or malformed"),
    ],
)
def test_a_step_is_not_trained_on_without_its_judge(sampling, queue, tmp_path, survivors, counts, words):
    made = buffer(sampling, failure_window=1, record_dir=str(tmp_path), **judged(tmp_path / "judge"))
    put_group(queue, "asked", TAL, survivors)
    account(tmp_path / "judge", **counts)
    with pytest.raises(sampling.JudgeStop, match=words):
        made.sample(2, "train", 1)
    assert not (tmp_path / "rollouts").exists()
    queue.kv_clear(partition_id="train", keys=[*queue.kv_list()["train"]])


@pytest.mark.slow
def test_validation_is_left_to_verl(sampling, queue):
    put_group(queue, "asked", TAL, {0: 1.0}, partition="val")
    batch, metrics = buffer(sampling).sample(1, "val", 1)
    assert batch.keys == ["asked_0_0"]
    assert not any(name.startswith("medgrpo/") for name in metrics)
    queue.kv_clear(partition_id="val", keys=batch.keys)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["grpo", "per_task", "drpo"])
def test_a_step_under_each_advantage(sampling, queue, tmp_path, name):
    put_group(queue, "whole", TAL, {0: 0.25, 1: 0.5, 2: 0.75})
    put_group(queue, "pair", SA, {0: 0.25, 2: 0.5})
    settings = {"advantage": name, "norm_adv_by_std": name == "grpo"}
    made = buffer(sampling, failure_window=9, record_dir=str(tmp_path), state_dir=str(tmp_path), **settings)
    batch, metrics = made.sample(1, "train", 2)
    records = [json.loads(line) for line in (tmp_path / "rollouts/step_000001.jsonl").read_text().splitlines()]
    rewards = np.array([record["score"] for record in records])
    assert sorted(rewards) == [0.25, 0.25, 0.5, 0.5, 0.75]
    expected = make_advantage(name)(rewards, [r["group"] for r in records], [r["data_source"] for r in records])
    assert [record["advantage"] for record in records] == pytest.approx(expected)
    assert {record["tokens"] for record in records} == {1, 2, 3}
    assert set(records[0]) == {
        *("step", "group", "data_source", "file", "index", "tokens", "score", "advantage"),
        *("acc", "format", "raw_iou"),
    }
    rows = {(record["group"], record["file"], record["index"]) for record in records}
    assert rows == {("whole", "train.json", 5), ("pair", "train.json", 4)}
    assert not (tmp_path / "answers").exists()  # record_answers is 0
    read = queue.kv_batch_get(keys=batch.keys, partition_id="train", select_fields=["rm_scores", "data_source"])
    rows = [row.tolist() for row in read["rm_scores"]]
    assert [len(row) for row in rows] == [record["tokens"] for record in records]
    assert [row[-1] for row in rows] == pytest.approx(rewards if name == "grpo" else expected)
    assert not any(any(row[:-1]) for row in rows)
    # The curves are of the rewards, whatever was written.
    assert metrics["medgrpo/AVOS/tal/reward"] == pytest.approx(0.5)
    assert metrics["medgrpo/AVOS/tal/gradient_share"] + metrics["medgrpo/JIGSAWS/sa/gradient_share"] == pytest.approx(1)
    state = json.loads((tmp_path / "sampler/step_1.json").read_text())
    assert state["advantage"]["name"] == name and state["failed_shares"] == [pytest.approx(1 / 6)]
    queue.kv_clear(partition_id="train", keys=batch.keys)


@pytest.mark.slow
def test_gdpo_works_in_the_default_trainer(sampling, queue):
    """What a step writes for verl's estimator is made of each answer's signals, which only the queue has."""
    put_group(queue, "whole", TAL, {0: 0.25, 1: 0.5, 2: 0.75})
    put_group(queue, "small", "medvidbench/NurViD/tal", {0: 0.0, 2: 0.01})
    made = buffer(sampling, failure_window=9, advantage="gdpo", norm_adv_by_std=False)
    batch, metrics = made.sample(1, "train", 2)
    read = queue.kv_batch_get(keys=batch.keys, partition_id="train", select_fields=["rm_scores"])
    found = np.array([row.tolist()[-1] for row in read["rm_scores"]])
    # One signal a task: each group's standard scores, then all divided by their spread.
    scores = {0.25: -1.0, 0.5: 0.0, 0.75: 1.0, 0.0: -(0.5**0.5), 0.01: 0.5**0.5}
    assert sorted(found) == pytest.approx(
        sorted(np.array([*scores.values()]) / np.std([*scores.values()], ddof=1)), rel=1e-3
    )
    assert metrics["medgrpo/AVOS/tal/reward"] == pytest.approx(0.5)
    queue.kv_clear(partition_id="train", keys=batch.keys)


@pytest.mark.slow
def test_adaptive_rewrites_the_reward_itself(sampling, queue, statistics):
    made = adaptive(sampling, statistics, failure_window=9)
    for step, (p50, iqr) in enumerate([(0.5, 0.5), (0.5, 0.25)], 1):
        put_group(queue, f"step{step}", TAL, {0: 0.25, 1: 0.5, 2: 0.75})
        batch, metrics = made.sample(step, "train", 1)
        read = queue.kv_batch_get(keys=batch.keys, partition_id="train", select_fields=["rm_scores"])
        share = needed_share(p50, iqr)
        expected = [share * x + (1 - share) * logistic(x, p50, iqr) for x in (0.25, 0.5, 0.75)]
        assert sorted(row.tolist()[-1] for row in read["rm_scores"]) == pytest.approx(expected)
        assert metrics["medgrpo/AVOS/tal/reward_std"] == pytest.approx(np.std(expected, ddof=1))
        assert metrics["medgrpo/AVOS/tal/reward"] == pytest.approx(0.5)
        queue.kv_clear(partition_id="train", keys=batch.keys)


@pytest.mark.slow
def test_a_step_says_what_was_answered(sampling, queue, statistics, qwen2_5_vl, tmp_path):
    """The text, the row and the normalised value as trained on, read from the queue as verl fills it."""
    from recipes.medgrpo.files import read_json_lines

    tokenizer = {"record_dir": str(tmp_path), "record_answers": "all", "tokenizer": str(qwen2_5_vl.path)}
    made = adaptive(sampling, statistics, failure_window=9, **tokenizer)
    for step, (p50, iqr) in enumerate([(0.5, 0.5), (0.5, 0.25)], 1):
        put_group(queue, f"step{step}", TAL, {0: 0.25, 1: 0.5, 2: 0.75})
        batch, _ = made.sample(step, "train", 1)
        records = read_json_lines(tmp_path / f"rollouts/step_{step:06d}.jsonl")
        said = read_json_lines(tmp_path / f"answers/step_{step:06d}.jsonl.gz")
        share = needed_share(p50, iqr)
        assert [one["place"] for one in said] == [0, 1, 2]
        for one, record in zip(said, records, strict=True):
            raw = record["raw_iou"]
            assert one["normalised"]["iou"] == pytest.approx(share * raw + (1 - share) * logistic(raw, p50, iqr))
            assert one["normalised"]["iou"] == pytest.approx(record["score"])
            ids = list(range(record["tokens"]))
            assert one["text"] == qwen2_5_vl.processor.tokenizer.decode(ids, skip_special_tokens=True)
        queue.kv_clear(partition_id="train", keys=batch.keys)


@pytest.mark.slow
def test_a_picture_of_the_best_boxes_reaches_tensorboard(sampling, queue, qwen2_5_vl, tmp_path, monkeypatch):
    reading = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator", reason="needs tensorboard")
    import torch
    from verl.utils.tensordict_utils import list_of_dict_to_tensordict

    from recipes.medgrpo.data.dataset import chat_of, read_rows
    from recipes.medgrpo.training.tracker_pictures import TAG, WIDTH

    row = read_rows(str(qwen2_5_vl.data / "train.parquet"), ["stg"]).row(0)
    ids = qwen2_5_vl.processor.tokenizer.encode(row["extra_info"]["answer"] + "<|im_end|>", add_special_tokens=False)
    field = {
        "rm_scores": torch.tensor([0.0] * (len(ids) - 1) + [1.0]),
        "extra_fields": {"reward_extra_info": {"acc": 1.0, "format": 1.0, "raw_iou": 1.0}},
        "responses": torch.tensor(ids),
        "raw_prompt": chat_of(row),
        **{name: row[name] for name in ("data_source", "extra_info", "reward_model")},
    }
    keys, tag = ["boxed_0_0", "boxed_1_0"], {"status": "success", "global_steps": 1}
    fields = list_of_dict_to_tensordict([field, field])
    queue.kv_batch_put(keys=keys, partition_id="train", fields=fields, tags=[tag, tag])
    queue.kv_batch_put(keys=["boxed"], partition_id="train", tags=[tag | {"is_prompt": True, "status": "failure"}])
    monkeypatch.setenv("TENSORBOARD_DIR", str(tmp_path / "board"))
    recorded = {"record_dir": str(tmp_path), "record_answers": "all", "tokenizer": str(qwen2_5_vl.path)}
    made = buffer(sampling, failure_window=9, image_every=1, loggers=["console", "tensorboard"], **recorded)
    batch, _ = made.sample(1, "train", 1)
    found = reading.EventAccumulator(str(tmp_path / "board"), {reading.IMAGES: 0})
    found.Reload()
    (shown,) = found.Images(TAG)
    boxes = min(4, len(json.loads(row["reward_model"]["ground_truth"])["boxes"]))
    assert (shown.step, shown.width) == (1, boxes * WIDTH)
    queue.kv_clear(partition_id="train", keys=batch.keys)

# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

import pytest


@pytest.fixture
def sampling(plugged):
    from recipes.medgrpo import sampler

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
            ("a", TAL, 0.2, {"acc": 0.0, "format": 1.0, "raw_iou": 0.1, "score": 0.2}),
            ("a", TAL, 0.4, {"acc": 0.5, "format": 1.0, "raw_iou": 0.5, "score": 0.4}),
            ("b", TAL, 0.6, {"acc": 1.0, "format": 0.5, "raw_iou": 0.9, "score": 0.6}),
            ("c", SA, 0.8, {"acc": 0.75, "format": 1.0, "score": 0.8}),
            ("c", SA, 0.8, {"acc": 0.75, "format": 1.0, "score": 0.8}),
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
            # b, alone, and c, all alike, have no spread.
            "medgrpo/groups/dead_share": 2 / 3,
        }
    )


def test_no_rows_have_no_curves(sampling):
    assert sampling.pair_curves([]) == {}


def test_a_signal_of_some_rollouts_is_averaged_over_those(sampling):
    rows = [("a", TAL, 0.0, {"raw_caption": 0.5}), ("a", TAL, 0.0, {})]
    curves = sampling.pair_curves(rows)
    assert curves["medgrpo/AVOS/tal/raw_caption"] == 0.5
    assert "medgrpo/AVOS/tal/acc" not in curves and "medgrpo/pairs_mean/acc" not in curves


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


@pytest.fixture(scope="module")
def queue(plugged):
    """A real TransferQueue on a Ray of its own."""
    import ray
    import transfer_queue as tq
    from omegaconf import OmegaConf

    ray.init(address="local", num_cpus=4, include_dashboard=False, logging_level="ERROR")
    tq.init(OmegaConf.create({"backend": {"SimpleStorage": {"num_data_storage_units": 1}}}))
    yield tq
    tq.close()
    ray.shutdown()


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
def test_a_step_that_leaves_nothing_to_train_on_stops_the_run(sampling, queue):
    put_group(queue, "gone", TAL, {})
    with pytest.raises(sampling.RolloutFailure, match="step 7: every rollout failed"):
        buffer(sampling).sample(7, "train", 1)
    queue.kv_clear(partition_id="train", keys=["gone"])
    put_group(queue, "lonely", TAL, {0: 1.0})
    with pytest.raises(sampling.RolloutFailure, match="step 8: no group kept 2 rollouts"):
        buffer(sampling, failure_window=9).sample(8, "train", 1)


@pytest.mark.slow
def test_validation_is_left_to_verl(sampling, queue):
    put_group(queue, "asked", TAL, {0: 1.0}, partition="val")
    batch, metrics = buffer(sampling).sample(1, "val", 1)
    assert batch.keys == ["asked_0_0"]
    assert not any(name.startswith("medgrpo/") for name in metrics)
    queue.kv_clear(partition_id="val", keys=batch.keys)

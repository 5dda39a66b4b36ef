# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

from pathlib import Path

import pytest

from recipes.medgrpo.training.checkpoints import TRACKER, is_complete, latest_complete, repair_tracker


def checkpoint(root: Path, step: int, *, without: str = "", empty: str = "", world: int = 2) -> Path:
    """A checkpoint folder with verl's file names; one file may be missing or empty."""
    folder = root / f"global_step_{step}"
    (folder / "actor").mkdir(parents=True)
    names = [
        f"actor/{kind}_world_size_{world}_rank_{rank}.pt"
        for kind in ("model", "optim", "extra_state")
        for rank in range(world)
    ]
    for name in [*names, "data.pt"]:
        if name != without:
            (folder / name).write_bytes(b"" if name == empty else b"x")
    return folder


def test_a_whole_checkpoint_has_every_rank_and_the_dataloader(tmp_path):
    assert is_complete(checkpoint(tmp_path, 1))


@pytest.mark.parametrize(
    "missing", ["data.pt", "actor/optim_world_size_2_rank_1.pt", "actor/model_world_size_2_rank_1.pt"]
)
def test_a_checkpoint_cut_short_by_a_kill_is_not_whole(tmp_path, missing):
    assert not is_complete(checkpoint(tmp_path, 1, without=missing))
    assert not is_complete(checkpoint(tmp_path, 2, empty=missing))


def test_a_good_tracker_is_left_alone(tmp_path):
    checkpoint(tmp_path, 8)
    (tmp_path / TRACKER).write_text("8")
    assert repair_tracker(tmp_path) == (8, None)


@pytest.mark.parametrize("content", ["", "sixteen", "16", "\x00\x00"])
def test_a_broken_tracker_names_the_newest_whole_checkpoint_again(tmp_path, content):
    checkpoint(tmp_path, 4)
    checkpoint(tmp_path, 8)
    checkpoint(tmp_path, 16, without="data.pt")
    (tmp_path / TRACKER).write_text(content)
    step, message = repair_tracker(tmp_path)
    assert step == latest_complete(tmp_path) == 8
    assert (tmp_path / TRACKER).read_text() == "8"
    assert TRACKER in message and "set to 8" in message


def test_steps_are_compared_as_numbers(tmp_path):
    checkpoint(tmp_path, 9)
    checkpoint(tmp_path, 10)
    assert latest_complete(tmp_path) == 10


def test_a_tracker_without_any_whole_checkpoint_is_removed(tmp_path):
    checkpoint(tmp_path, 1, without="data.pt")
    (tmp_path / TRACKER).write_text("1")
    step, message = repair_tracker(tmp_path)
    assert step is None and "starting from the first step" in message
    assert not (tmp_path / TRACKER).exists()


def test_nothing_there_is_nothing_wrong(tmp_path):
    assert repair_tracker(tmp_path / "not_yet") == (None, None)

# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""The registered table of made trainings whose answer is known."""

import json
import re
import shutil

import pytest

from recipes.medgrpo.studies.collapse.command import main
from recipes.medgrpo.studies.collapse.hypotheses import halves, registered

PLANS = {
    "A": {"normalizer": "logistic", "advantage": "grpo", "linear_share": 0},
    "B": {"normalizer": "none", "advantage": "grpo"},
    "B_dr_grpo": {"normalizer": "none", "advantage": "dr_grpo"},
    "adaptive": {"normalizer": "adaptive", "advantage": "grpo"},
}
TASKS = ("tal", "stg", "nap", "sa", "cvs", "dvc", "vs", "rc")
GRADIENT = {"AVOS/tal": 0.4, "CoPESD/stg": 0.4, "CholecT50/vs": 0.1, "EgoSurgery/rc": 0.1}
ROW = {"n": 32, "p25": 0.0, "p50": 0.1, "p75": 0.3, "iqr": 0.3}


def lines(file, records):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(record) + "\n" for record in records))


def evaluation(file, seed, numbers, model="sft", videos=5):
    """Held-out answers: one row of every task in each video, two samples; `numbers(task)` as (acc, format, tokens)."""
    records = [{"header": {"model": model, "data": f"rows of seed {seed}", "settings": {"seed": 0, "samples": 2}}}]
    for video in range(videos):
        for at, task in enumerate(TASKS):
            acc, form, tokens = numbers(task)
            about = {"data_source": f"medvidbench/S/{task}", "file": "a.json", "index": 10 * video + at}
            about |= {"video": f"S/{seed}_{video}", "acc": acc, "format": form, "tokens": tokens}
            records += [about | {"sample": sample} for sample in range(2)]
    lines(file, records)


def training(folder, seed, variant, numbers, world="heterogeneous", rate="0.3", tasks="tal stg vs rc", entropy=0.4):
    """A complete training; its first half of the steps is as SFT was."""
    folder.mkdir(parents=True)
    plan = {"model": "qwen2_5_vl", "seed": seed, "steps": 4, "tasks": tasks, "world": world, "learning_rate": rate}
    (folder / "plan.json").write_text(json.dumps(plan | PLANS[variant]))
    (folder / "summary.json").write_text(json.dumps({"status": "complete"}))
    sft = {"S": (0.4, 0.9, 20.0)}
    evaluation(folder / "eval/sft/answers.jsonl", seed, lambda task: sft["S"])
    evaluation(folder / "eval/step_2/answers.jsonl", seed, lambda task: sft["S"], "after 2")
    evaluation(folder / "eval/medgrpo/answers.jsonl", seed, numbers, variant)
    shares = {f"medgrpo/{pair}/gradient_share": share for pair, share in GRADIENT.items()}
    if variant == "B_dr_grpo":
        shares = {f"medgrpo/{pair}/gradient_share": 0.5 - share for pair, share in GRADIENT.items()}
    step = shares | {"actor/entropy": entropy, "medgrpo/groups/dead_share": 0.1}
    lines(folder / "metrics.jsonl", [step | {"step": number} for number in range(1, 5)])
    # Captions are what the SFT model is good at: they are the easy half.
    means = {"AVOS/tal": {"iou": 0.1}, "CoPESD/stg": {"iou": 0.2}}
    means |= {pair: {"similarity": 0.8, "judge": 0.6} for pair in ("CholecT50/vs", "EgoSurgery/rc")}
    pairs = {
        f"medvidbench/{pair}": {name: ROW | {"mean": mean} for name, mean in row.items()} for pair, row in means.items()
    }
    (folder / "statistics.json").write_text(json.dumps({"format": 1, "pairs": pairs}))
    return folder


def kept(task):
    return 0.5, 0.95, 20.0


def lost(task):
    """Grounding is not readable any more and runs on; what earned no reward is a quarter of what it was."""
    if task in ("vs", "rc"):
        return 0.6, 0.95, 25.0
    return (0.3, 0.3, 26.0) if task in ("tal", "stg") else (0.1, 0.95, 20.0)


@pytest.fixture
def block(tmp_path):
    """Three whole blocks of one setting, in which B alone collapsed."""
    return [
        training(tmp_path / f"heterogeneous_rate0.3_seed{seed}" / name, seed, name, lost if name == "B" else kept)
        for seed in range(3)
        for name in PLANS
    ]


def test_the_known_answer(block):
    found = registered(block)
    tested = {one["hypothesis"]: one for one in found["tested"]}
    assert {name: one["difference"] for name, one in tested.items()} == pytest.approx(
        {"H2": -0.65, "H4": 6.0, "H5": -0.4}
    )
    for one in tested.values():
        # 15 videos, all alike: 10,000 exchanges are drawn, of which hardly any is as far from 0.
        assert one["videos"] == 15 and not one["exact"] and one["p"] < 0.001
        assert one["low"] == pytest.approx(one["difference"]) == one["high"]
        # Three tests of twelve: the least p is multiplied by 12, and no other by less than 10.
        assert one["p_holm"] == pytest.approx(12 * one["p"]) and one["claimed"]
    shown = {one["what"]: one["difference"] for one in found["shown"]}
    # Easy (captions) over hard: A log(.2 / .8), B_dr_grpo log(.8 / .2).
    assert shown["log easy/hard gradient share, B_dr_grpo - A"] == pytest.approx(4 * 0.6931472, abs=1e-5)
    assert shown["entropy at the last step, B - A"] == 0
    (claim,) = found["claims"]
    assert claim["collapsed"] == {"A": 0, "B": 3, "B_dr_grpo": 0, "adaptive": 0} and claim["claim"] == "holds"
    fallen = {(one["seed"], one["variant"]): (one["step"], one["cause"]) for one in found["trainings"]}
    assert fallen[1, "B"] == (4, "cvs: accuracy") and fallen[1, "A"] == (None, None)
    assert not found["not_whole"]


def test_a_block_that_is_not_whole_is_said_and_not_tested(block):
    (block[-2] / "summary.json").write_text(json.dumps({"status": "incomplete"}))
    found = registered(block)
    assert found["not_whole"] == [{"world": "heterogeneous", "rate": 0.3, "seed": 2}]
    assert [one["seeds"] for one in found["tested"]] == [[0, 1]] * 3
    assert {(one["p"], one["p_holm"], one["claimed"]) for one in found["tested"]} == {(None, None, None)}
    assert found["claims"][0]["claim"] == "not tested"
    assert [one["complete"] for one in found["trainings"]].count(False) == 1


def test_one_seed_of_the_other_sign_is_no_effect(tmp_path):
    def of(seed):
        return lambda task: (0.5, 0.95 + (0.01 if seed == 2 else -0.3), 20.0 if seed else 21.0)

    folders = [
        training(tmp_path / f"{seed}/{name}", seed, name, of(seed) if name == "B" else kept)
        for seed in range(3)
        for name in PLANS
    ]
    h2, h4, h5 = registered(folders)["tested"]
    assert h2["p_holm"] < 0.05 and not h2["claimed"]
    assert not h4["claimed"]  # two seeds do not differ at all
    assert (h5["difference"], h5["p"], h5["p_holm"], h5["claimed"]) == (0, 1, 1, False)


def test_a_rise_is_not_the_fall_that_was_registered(tmp_path):
    folders = [
        training(tmp_path / f"{seed}/{name}", seed, name, (lambda task: (0.6, 1.0, 20.0)) if name == "B" else kept)
        for seed in range(3)
        for name in PLANS
    ]
    h2, _, h5 = registered(folders)["tested"]
    assert h2["difference"] > 0 and h2["p_holm"] < 0.05 and not h2["claimed"]
    assert h5["difference"] > 0 and not h5["claimed"]


def test_the_control_and_other_trainings_are_shown_beside_the_blocks(block, tmp_path):
    control = training(tmp_path / "all", 0, "B", kept, tasks="")
    even = training(tmp_path / "even", 0, "A", kept, world="even", rate="0.1")
    found = registered([*block, control, even])
    assert {"B_all", "A"} <= {one["variant"] for one in found["trainings"]}
    assert found["not_whole"] == [{"world": "even", "rate": 0.1, "seed": 0}]
    assert len(found["tested"]) == 3


def test_trainings_that_cannot_be_compared_are_refused(block, tmp_path, capsys):
    twice = tmp_path / "again"
    shutil.copytree(block[0], twice)
    assert main(["--output", str(tmp_path / "out"), "--runs", *map(str, [*block, twice])]) == 2
    assert "is the same training as" in capsys.readouterr().err
    evaluation(block[1] / "eval/sft/answers.jsonl", 0, kept, "another SFT model")
    assert main(["--output", str(tmp_path / "out"), "--runs", *map(str, block)]) == 2
    assert f"{block[1]}: expected the SFT model and held-out rows of {block[0]}" in capsys.readouterr().err
    assert main(["--output", str(tmp_path / "out"), "--runs", str(tmp_path)]) == 2
    assert "plan.json" in capsys.readouterr().err


def test_the_command_writes_the_table(block, tmp_path, capsys):
    assert main(["--output", str(tmp_path / "out"), "--runs", *map(str, block)]) == 0
    said = (tmp_path / "out/trainings.md").read_text()
    assert said.strip() == capsys.readouterr().out.strip()
    assert re.search(r"\| H2 +\| heterogeneous \| 0.3 +\| format +\| -0.650 \[-0.650, -0.650\] .* \| yes +\|", said)
    assert "step 4, cvs: accuracy" in said
    assert json.loads((tmp_path / "out/trainings.json").read_text())["claims"][0]["claim"] == "holds"


def test_trainings_whose_folders_are_gone_are_in_the_file(block, tmp_path, capsys):
    def table(name, *arguments):
        status = main(["--output", str(tmp_path / name), *map(str, arguments)])
        return status, capsys.readouterr().err, tmp_path / name / "trainings.json"

    _, _, whole = table("whole", "--runs", *block)
    # The third block is not whole yet.
    _, _, before = table("before", "--runs", *block[:9])
    for folder in block[:8]:
        shutil.rmtree(folder)
    _, _, after = table("after", "--runs", *block[8:], "--earlier", before)
    assert json.loads(after.read_text()) == json.loads(whole.read_text())
    _, _, alone = table("alone", "--earlier", after)
    assert alone.read_text() == after.read_text()
    assert len(json.loads(before.read_text())["not_whole"]) == 1

    status, said, _ = table("twice", "--runs", *block[8:], "--earlier", after)
    assert status == 2 and "trainings.json: A of heterogeneous, rate 0.3, seed 2 is among the other trainings" in said
    (tmp_path / "old.json").write_text(json.dumps({"format": 1}))
    status, said, _ = table("old", "--earlier", tmp_path / "old.json")
    assert status == 2 and "old.json: format: expected 2, found 1" in said


def test_halves_go_by_the_weighted_mean_of_the_signals(block):
    easy, hard = halves(block[0] / "statistics.json")
    assert (easy, hard) == (["CholecT50/vs", "EgoSurgery/rc"], ["CoPESD/stg", "AVOS/tal"])

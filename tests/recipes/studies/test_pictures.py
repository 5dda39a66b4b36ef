# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""Pictures hold the numbers that they should, and their numbers come without matplotlib too."""

import json
import sys

import numpy as np
import pytest

from recipes.medgrpo.answers.recorded import read_recorded
from recipes.medgrpo.studies import pictures
from reward_score.normalization import needed_share
from reward_score.statistics import summarize

TAL, NAP = "medvidbench/AVOS/tal", "medvidbench/CoPESD/nap"


def rollouts(steps: int = 3) -> list[dict]:
    """Two prompts a step: one pair pulls three times as hard as the other per token, and is as long."""
    rows = []
    for step in range(1, steps + 1):
        for source, signal, values, pull in ((TAL, "raw_iou", (0.2, 0.6), 0.75), (NAP, "raw_exact", (0, 1), 0.25)):
            for value, sign in zip(values, (-1, 1), strict=True):
                row = {"step": step, "group": source, "data_source": source, "format": 1.0, "score": value / 2}
                rows.append(row | {signal: float(value), "tokens": 10, "advantage": sign * pull})
    return rows


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "run/rollouts"
    folder.mkdir(parents=True)
    for step in (1, 2, 3):
        rows = [row for row in rollouts() if row["step"] == step]
        (folder / f"step_{step:06d}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path / "run"


def numbers(run, out, *more) -> dict:
    assert pictures.main(["--recorded", str(run), "--output", str(out), *more]) == 0
    return json.loads((out / "histograms.json").read_text())


def test_a_histogram_s_numbers():
    found = pictures.histogram(np.array([0.0, 0.01, 0.5, 0.5, 0.99, 1.0, 0.26, 0.26]))
    assert sum(found["counts"]) == found["n"] == 8
    assert (found["counts"][0], found["counts"][5], found["counts"][10], found["counts"][19]) == (2, 2, 2, 2)
    assert found["saturated"] == 0.5
    assert found["median"] == pytest.approx(0.38)
    assert found["variance"] == pytest.approx(np.var([0.0, 0.01, 0.5, 0.5, 0.99, 1.0, 0.26, 0.26]))


def test_a_pair_that_pulls_three_times_as_hard_has_three_quarters(run):
    over_steps = pictures.shares_over_steps(read_recorded([run]))
    assert over_steps["steps"] == [1, 2, 3]
    assert over_steps["shares"] == {TAL: pytest.approx([0.75] * 3), NAP: pytest.approx([0.25] * 3)}


def test_a_step_without_a_pair_has_no_share_of_it(tmp_path):
    rows = [row for row in rollouts(2) if row["step"] == 1 or row["data_source"] == TAL]
    file = tmp_path / "step_000001.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert pictures.shares_over_steps(read_recorded([file]))["shares"][NAP] == [0.25, None]


def test_before_and_after(run, tmp_path):
    found = numbers(run, tmp_path / "out")
    assert found["after"] == "recorded"
    tal = found["pairs"][TAL]
    assert tal["signals"].keys() == {"iou"}
    assert tal["signals"]["iou"]["mean"] == tal["before"]["mean"] == pytest.approx(0.4)
    assert tal["after"]["mean"] == pytest.approx(0.2)
    statistics = {"format": 1, "pairs": {TAL: {"iou": summarize([0.2] * 33 + [0.6] * 32)}}}
    statistics["pairs"][NAP] = {"exact": summarize([0.0] * 40 + [1.0] * 24)}
    (tmp_path / "statistics.json").write_text(json.dumps(statistics))
    found = numbers(run, tmp_path / "out", "--statistics", str(tmp_path / "statistics.json"))
    assert found["after"] == "logistic"
    # The logistic of the median answer is a half, the other one lies an IQR above it; their mean raw signal is 0.4.
    logistics = (0.5 + 1 / (1 + np.exp(-3))) / 2
    share = needed_share(0.2, 0.4)
    expected = share * 0.4 + (1 - share) * logistics
    assert found["pairs"][TAL]["after"]["mean"] == pytest.approx(expected)
    assert found["pairs"][TAL]["before"] == tal["before"]


def test_the_pictures_are_drawn(run, tmp_path):
    pytest.importorskip("matplotlib")
    numbers(run, tmp_path / "out")
    files = {file.name: file.read_bytes() for file in (tmp_path / "out").iterdir() if file.suffix == ".png"}
    assert set(files) == {"histograms_tal.png", "histograms_nap.png", "overview.png", "gradient_share.png"}
    assert all(content.startswith(b"\x89PNG") for content in files.values())


def test_without_matplotlib_the_numbers_are_written_and_a_line_says_what_to_install(run, tmp_path, monkeypatch, capsys):
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.delitem(sys.modules, "recipes.medgrpo.studies.drawing", raising=False)
    monkeypatch.delattr("recipes.medgrpo.studies.drawing", raising=False)
    assert numbers(run, tmp_path / "out")["pairs"].keys() == {TAL, NAP}
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["histograms.json"]
    assert "pip install 'medgrpo-verl[report]'" in capsys.readouterr().err


def test_a_bad_file_is_named(tmp_path, capsys):
    assert pictures.main(["--recorded", str(tmp_path / "gone.jsonl"), "--output", str(tmp_path)]) == 2
    assert "gone.jsonl: no such file" in capsys.readouterr().err

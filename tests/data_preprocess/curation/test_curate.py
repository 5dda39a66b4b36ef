# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The command `curate.py`: checks of a copy, and the synthetic trees."""

from __future__ import annotations

import json

import pytest

from data_preprocess import curate
from data_preprocess.curation.sources import READERS


def test_a_check_says_what_is_there_missing_odd_and_wrong_and_writes_nothing(tmp_path, capsys):
    assert curate.main(["synthetic", "--no-media", "--output", str(tmp_path), "--sources", "JIGSAWS", "--errata"]) == 0
    root = tmp_path / "JIGSAWS"
    (root / "Suturing" / "transcriptions" / "Suturing_H002.txt").unlink()
    meta = root / "Knot_Tying" / "meta_file_Knot_Tying.txt"
    meta.write_bytes(meta.read_bytes() + b"Knot_Tying_Z009\tN\t6\t1\t1\t1\t1\t1\t2\r\n")
    before = sorted(tmp_path.rglob("*"))
    capsys.readouterr()
    assert curate.main(["JIGSAWS", "--root", str(root), "--check"]) == 2
    said = capsys.readouterr().out
    assert "trials: 4" in said and "videos: 8" in said
    assert str(root / "Suturing" / "transcriptions" / "Suturing_H002.txt") in said
    assert "empty kinematics; the trial ends with its last gesture: 1 (such as" in said
    assert f"{meta}: line 3, total: expected the sum of the scores, 7, found 6" in said
    assert sorted(tmp_path.rglob("*")) == before


def test_a_copy_without_faults_passes(tmp_path, capsys):
    assert curate.main(["synthetic", "--no-media", "--output", str(tmp_path), "--videos", "1", "--seconds", "60"]) == 0
    for source in READERS:
        assert curate.main([source, "--root", str(tmp_path / source), "--check"]) == 0
        assert capsys.readouterr().out.endswith("wrong:\n  nothing\n")


def test_equal_settings_give_equal_trees_and_another_seed_others(tmp_path):
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        arguments = ["--output", str(tmp_path / name), "--sources", "NurViD", "CoPESD", "--seed", str(seed)]
        assert curate.main(["synthetic", "--no-media", *arguments]) == 0
    tree = {
        name: {file.name: file.read_bytes() for file in (tmp_path / name).rglob("*.json")} for name in ("a", "b", "c")
    }
    assert tree["a"] == tree["b"] != tree["c"]
    assert len(json.loads((tmp_path / "a" / "truth" / "NurViD.json").read_text(encoding="utf-8"))) == 4


def test_wrong_arguments_are_one_line_and_status_2(tmp_path, capsys):
    for more, told in (
        (["--max-rejects", "2"], "from 0 to 1"),
        (["--threads", "0"], "from 1"),
        (["--engine", "x"], ""),
    ):
        with pytest.raises(SystemExit) as ended:
            curate.main(["CoPESD", "--root", str(tmp_path), "--output", str(tmp_path / "out"), *more])
        said = capsys.readouterr().err
        assert ended.value.code == 2 and said.startswith("curate: error: ") and more[0] in said and told in said
    assert curate.main(["CoPESD", "--root", str(tmp_path / "nowhere"), "--check"]) == 2
    assert "expected the folder of CoPESD, found no such folder" in capsys.readouterr().out
    (tmp_path / "CoPESD").mkdir()
    assert curate.main(["synthetic", "--no-media", "--output", str(tmp_path), "--sources", "CoPESD"]) == 2
    said = capsys.readouterr().err
    assert said == f"curate: error: {tmp_path}/CoPESD: expected a folder that is not there yet, found one that is\n"

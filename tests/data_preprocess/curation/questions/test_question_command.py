# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""`curate.py questions`: from a source's files and transcripts to rows that the preprocessor takes."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path

import pytest
from lectured import lecturer

from data_preprocess import medvidbench
from data_preprocess.annotations import parse_record
from data_preprocess.curate import main
from data_preprocess.curation.questions.stand_in import UNKNOWN
from reward_score.medgrpo import compute_score


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("OPENAI_API_KEY", "none")


@pytest.fixture(scope="module")
def sources(tmp_path_factory) -> Path:
    """Trees of the two sources of web videos, with videos and what is said in them."""
    where = tmp_path_factory.mktemp("lectures") / "root"
    given = ("--sources", "AVOS", "NurViD", "--videos", "2", "--seconds", "60")
    assert main(["synthetic", "--output", str(where), *given]) == 0
    return where


def questions(sources: Path, output: Path, model: dict, *more: str, names: tuple[str, ...] = ("AVOS", "NurViD")) -> int:
    given = [f"{name}={value}" for name, value in model.items() if name != "api_key"]
    folders = ("--root", str(sources), "--transcripts", str(sources / "transcripts"), "--output", str(output))
    return main(["questions", *names, *folders, "--extractor", *given, "--writer", *given, *more])


def test_rows_pass_the_preprocessor_and_earn_full_marks(tmp_path, sources, capsys):
    out = tmp_path / "out"
    with lecturer(0.3, tmp_path / "log.jsonl") as model:
        blind = [f"{name}={value}" for name, value in model.items() if name != "api_key"]
        more = ("--frames", "--blind", *blind, "--mistakes", str(tmp_path / "log.jsonl"))
        assert questions(sources, out, model, *more) == 0
    printed = capsys.readouterr().out
    rows = json.loads((out / "questions.json").read_text())
    assert {row["data_source"] for row in rows} == {"AVOS", "NurViD"}
    assert f"{len(rows):,} rows written" in printed and "precision 1.000" in printed
    said = json.loads((out / "curation.json").read_text())
    assert said["rows"] == len(rows) == sum(one["kept"] for one in said["pairs"].values())
    assert said["usage"]["stand-in-c"]["requests"] == said["asked"]["new"] and set(said["sources"]) == {
        "AVOS",
        "NurViD",
    }
    assert min(said["usage"]["stand-in-c"].values()) > 0 and said["cost_usd"] == {"stand-in-c": 0.0}
    assert said["rejected"]["facts"] and said["rejected"]["questions"] and said["open"] == 0
    assert [said["models"][name]["prompt_version"] for name in ("extractor", "writer", "blind")] == [
        *("facts-v1", "questions-v1", "blind-v1")
    ]
    assert UNKNOWN in (out / "guessed.jsonl").read_text()

    files = ["--annotations", str(out / "questions.json"), "--frames-root", str(out / "frames")]
    assert medvidbench.main([*files, "--output", str(tmp_path / "data"), "--workers", "1"]) == 0
    audit = json.loads((tmp_path / "data" / "audit.json").read_text())
    assert audit["rows"]["rejected"] == 0 and audit["rows"]["read"] == len(rows)
    assert audit["curation"] == {"questions.json": said}
    for index, row in enumerate(rows):
        sample = parse_record(row, "questions.json", index)
        scored = asyncio.run(compute_score(sample.pair, sample.answer, json.dumps(sample.ground)))
        assert scored["acc"] == pytest.approx(1.0, abs=1e-6), sample.answer


def test_questions_about_a_video_that_breaks_off_are_dropped_and_the_others_go_on(tmp_path, sources, capsys):
    root, out = tmp_path / "root", tmp_path / "out"
    shutil.copytree(sources, root)
    broken, good = sorted((root / "AVOS/videos").iterdir())
    whole = broken.read_bytes()
    third = len(whole) // 3
    broken.write_bytes(whole[:third] + bytes(range(256)) * (third // 256) + whole[third + third // 256 * 256 :])
    with lecturer() as model:
        assert questions(root / "AVOS", out, model, "--transcripts", str(root / "transcripts"), names=("AVOS",)) == 0
        asked = json.loads((out / "questions.json").read_text())
        assert {row["metadata"]["video_id"] for row in asked} == {broken.stem, good.stem}
        more = ("--transcripts", str(root / "transcripts"), "--frames", "--max-rejects")
        assert questions(root / "AVOS", out, model, *more, "0.2", names=("AVOS",)) == 2
        assert "unusable (--max-rejects), found 1 of 2" in capsys.readouterr().err
        assert questions(root / "AVOS", out, model, *more, "0.5", names=("AVOS",)) == 0
    said = json.loads((out / "curation.json").read_text())
    rows = json.loads((out / "questions.json").read_text())
    assert list(said["sources"]["AVOS"]["rejected"]) == [broken.stem]
    assert {row["metadata"]["video_id"] for row in rows} == {good.stem} and said["rows"] == len(rows)
    assert said["rejected"]["questions"]["video_broken"] == len(asked) - len(rows)
    assert said["asked"]["new"] == 0, "nobody is asked again"


def test_a_lecture_is_cut_where_its_file_says(tmp_path, sources):
    here = sources / "transcripts" / "AVOS"
    name = next(here.glob("*.vtt")).stem
    cuts = here / f"{name}.clips.csv"
    cuts.write_text("start,end\n2.0,17.0\n")
    try:
        with lecturer() as model:
            assert questions(sources / "AVOS", tmp_path, model, "--transcripts", str(here.parent), names=("AVOS",)) == 0
        excerpts = [json.loads(line) for line in (tmp_path / "excerpts.jsonl").read_text().splitlines()]
        [mine] = [one for one in excerpts if one["video_id"] == name]
        assert (mine["numbers"][0], mine["numbers"][-1]) == (30, 255) and mine["said"][0]["start"] == 0.0
    finally:
        cuts.unlink()


def test_what_is_wrong_is_one_line(tmp_path, sources, capsys):
    with lecturer() as model:
        down = {**model, "base_url": "http://127.0.0.1:1/v1", "max_attempts": 1}
        assert questions(sources, tmp_path / "a", down) == 2
        assert questions(sources, tmp_path / "a", {**model, "key_variable": "NOBODY_SET"}) == 2
        assert questions(sources, tmp_path / "a", {**model, "prompts": str(tmp_path)}) == 2
        assert questions(sources, tmp_path / "a", model, "--transcripts", str(tmp_path)) == 2
        with pytest.raises(SystemExit):
            questions(sources, tmp_path / "a", {**model, "speed": 3})
        with pytest.raises(SystemExit):
            questions(sources, tmp_path / "a", model, "--set", "duplicate=many")
        with pytest.raises(SystemExit):
            questions(sources, tmp_path / "a", model, "--blind", "api_key=s")
        cuts = next((sources / "transcripts" / "NurViD").glob("*.vtt")).with_suffix(".clips.csv")
        cuts.write_text("start,end\n9,3\n")
        assert questions(sources, tmp_path / "a", model) == 2
        cuts.unlink()
    told = capsys.readouterr().err
    assert "replies are lacking (CallUnavailable " in told
    assert "curate: error: no key: key_variable names NOBODY_SET, which is not set" in told
    assert "prompt 'facts': expected one of" in told
    assert "expected SOURCE/VIDEO.json, .srt or .vtt of a video of these sources, found none" in told
    assert "--extractor speed: expected NAME=VALUE with one of backoff_s, base_url, " in told
    assert "--set duplicate=many: expected a number from 0" in told
    assert "api_key would be seen by others" in told
    assert ".clips.csv: line 2: expected start and end in seconds, start < end, found" in told
    assert not (tmp_path / "a" / "questions.json").exists()

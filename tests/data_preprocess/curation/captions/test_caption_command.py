# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""`curate.py caption`: from a source's files to rows that the preprocessor takes."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from captioned import paint, stand_ins

from data_preprocess import medvidbench
from data_preprocess.annotations import parse_record
from data_preprocess.curate import main
from data_preprocess.curation.captions.arguments import Contexts
from data_preprocess.curation.captions.context import ShowSettings
from data_preprocess.curation.clips import ClipSettings
from data_preprocess.curation.sources import read
from data_preprocess.curation.sources.reading import Notes
from data_preprocess.curation.sources.settings import ReadSettings
from data_preprocess.curation.synthetic import write_source
from data_preprocess.curation.synthetic.drawing import Scale
from reward_score.medgrpo import compute_score

SOURCES = ("CholecT50", "CholecTrack20", "NurViD")
SHORT = ("--set", "passes=1", "--set", "rates=1:1,0.5:1", "--set", "frames=2", "--set", "longest_side=64")
CLIPS = ClipSettings(passes=1, rates="1:1,0.5:1")


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("OPENAI_API_KEY", "none")


@pytest.fixture(scope="module")
def sources(tmp_path_factory) -> Path:
    """Trees of three sources, with frames."""
    where = tmp_path_factory.mktemp("sources")
    for source in SOURCES:
        write_source(source, where / "root" / source, Scale(videos=2, seconds=90))
        videos = list(read(source, where / "root" / source, ReadSettings(), Notes()))
        paint(where / "frames", list(Contexts(videos, CLIPS, ShowSettings(frames=2), 0)))
    return where


def caption(sources: Path, output: Path, options: list[dict], *more: str, names=SOURCES) -> int:
    sides = []
    for side, one in zip("ab", options, strict=True):
        given = [f"{name}={value}" for name, value in one.items() if name != "api_key"]
        sides += [f"--captioner-{side}", *given]
    folder = sources / "root" if len(names) > 1 else sources / "root" / names[0]
    root = ("--root", str(folder), "--frames-root", str(sources / "frames"), "--output", str(output))
    return main(["caption", *names, *root, *SHORT, *sides, *more])


def rows_of(output: Path) -> list[dict]:
    return json.loads((output / "annotations.json").read_text())


def test_rows_of_all_pairs_pass_the_preprocessor_and_earn_full_marks(tmp_path, sources, capsys):
    with stand_ins() as options:
        assert caption(sources, tmp_path / "out", options) == 0
    printed = capsys.readouterr().out
    rows = rows_of(tmp_path / "out")
    kinds = {(row["data_source"], row["qa_type"]) for row in rows}
    wanted = {("CholecT50", "dense_captioning"), ("CholecT50", "video_summary"), ("CholecTrack20", "region_caption")}
    assert kinds == {
        (source, f"{name}_{side}") for source, name in (*wanted, ("NurViD", "dense_captioning")) for side in "ab"
    }
    assert f"{len(rows):,} rows written" in printed and "captioner a: stand-in-a: $0.0000" in printed
    said = json.loads((tmp_path / "out" / "captions.json").read_text())
    assert said["rows"] == len(rows) and said["rejected"] == {} and said["open"] == 0
    assert said["captioners"]["b"]["prompts"]["dvc"][0] == "dvc-v1"

    files = ["--annotations", str(tmp_path / "out" / "annotations.json"), "--frames-root", str(sources / "frames")]
    assert medvidbench.main([*files, "--output", str(tmp_path / "data"), "--workers", "1"]) == 0
    audit = json.loads((tmp_path / "data" / "audit.json").read_text())
    assert audit["rows"]["rejected"] == 0 and audit["rows"]["read"] == len(rows)


@pytest.mark.parametrize("source", SOURCES)
def test_a_rows_own_answer_is_strictly_right(tmp_path, sources, source):
    with stand_ins() as options:
        assert caption(sources, tmp_path, options, names=(source,)) == 0
    for index, row in enumerate(rows_of(tmp_path)):
        sample = parse_record(row, "annotations.json", index)
        truth = json.dumps(sample.ground)
        scored = asyncio.run(compute_score(f"medvidbench/{source}/{sample.task}", sample.answer, truth))
        assert scored["acc"] == pytest.approx(1.0, abs=1e-6), sample.answer

# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""`curate.py caption`: from a source's files to rows that the preprocessor takes."""

from __future__ import annotations

import asyncio
import csv
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from captioned import paint, stand_ins

from data_preprocess import medvidbench
from data_preprocess.annotations import parse_record
from data_preprocess.curate import main
from data_preprocess.curation.captions.arguments import Contexts
from data_preprocess.curation.captions.context import ShowSettings
from data_preprocess.curation.captions.preference import preferences
from data_preprocess.curation.clips import ClipSettings
from data_preprocess.curation.sources import read
from data_preprocess.curation.sources.reading import Notes
from data_preprocess.curation.sources.settings import ReadSettings
from data_preprocess.curation.synthetic import write_source
from data_preprocess.curation.synthetic.drawing import Scale
from recipes.medgrpo.studies.judge.ratings import read_ratings
from reward_score.judge import DIMENSIONS
from reward_score.medgrpo import compute_score

ROOT = Path(__file__).resolve().parents[4]
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
    return json.loads((output / "captions.json").read_text())


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
    said = json.loads((tmp_path / "out" / "curation.json").read_text())
    assert said["rows"] == len(rows) and said["rejected"] == {} and said["open"] == 0
    assert said["captioners"]["b"]["prompts"]["dvc"][0] == "dvc-v1"
    assert set(said["sources"]) == set(SOURCES) and all(len(one["sha256"]) == 64 for one in said["sources"].values())
    assert said["settings"].items() >= {"seed": 0, "passes": 1, "similarity": 0.3, "hole": 10.0, "frames": 2}.items()
    assert said["usage"]["stand-in-a"]["requests"] == said["asked"]["new"] / 2
    assert min(one["prompt_tokens"] for one in said["usage"].values()) > 0

    files = ["--annotations", str(tmp_path / "out" / "captions.json"), "--frames-root", str(sources / "frames")]
    assert medvidbench.main([*files, "--output", str(tmp_path / "data"), "--workers", "1"]) == 0
    audit = json.loads((tmp_path / "data" / "audit.json").read_text())
    assert audit["rows"]["rejected"] == 0 and audit["rows"]["read"] == len(rows)
    assert audit["curation"] == {"captions.json": said}


@pytest.mark.parametrize("source", SOURCES)
def test_a_rows_own_answer_is_strictly_right(tmp_path, sources, source):
    with stand_ins() as options:
        assert caption(sources, tmp_path, options, names=(source,)) == 0
    for index, row in enumerate(rows_of(tmp_path)):
        sample = parse_record(row, "captions.json", index)
        truth = json.dumps(sample.ground)
        scored = asyncio.run(compute_score(f"medvidbench/{source}/{sample.task}", sample.answer, truth))
        assert scored["acc"] == pytest.approx(1.0, abs=1e-6), sample.answer


def spoilt(sources: Path, where: Path) -> tuple[Path, str]:
    """The sources, where the first frame of CholecT50's first clip is no picture; and its name below the frames."""
    shutil.copytree(sources, where)
    frame = min((where / "frames/CAMMA_data/CholecT50/videos").glob("*/*.png"))
    frame.write_bytes(b"no picture")
    return where, str(frame.relative_to(where / "frames"))


def test_a_clip_with_a_broken_frame_is_left_out_and_named_and_the_others_go_on(tmp_path, sources, capsys):
    broken, frame = spoilt(sources, tmp_path / "sources")
    with stand_ins() as options:
        assert caption(broken, tmp_path / "few", options, "--max-rejects", "0", names=("CholecT50",)) == 2
        told = capsys.readouterr().err.splitlines()[-1]
        assert told.startswith("curate: error: 2 of ") and f"such as frame {frame}: " in told
        assert not (tmp_path / "few" / "captions.json").exists()
        assert caption(broken, tmp_path / "out", options, "--max-rejects", "0.6", names=("CholecT50",)) == 0
    said = json.loads((tmp_path / "out" / "curation.json").read_text())
    [(why, count)] = said["unreadable"].items()
    assert why.startswith(f"frame {frame}: ") and count == 2, "its dense captions and its summary"
    assert f"left out: {why}: 2 contexts" in capsys.readouterr().out
    rows = rows_of(tmp_path / "out")
    assert rows and not any(frame in row["video"] for row in rows)


def test_frames_that_are_not_there_are_written_and_a_broken_video_is_rejected(tmp_path, capsys):
    made = ("--sources", "NurViD", "--videos", "3", "--seconds", "60")
    assert main(["synthetic", "--output", str(tmp_path / "root"), *made]) == 0
    broken, *good = sorted((tmp_path / "root/NurViD/videos").iterdir())
    broken.write_bytes(b"no video")
    with stand_ins() as options:
        assert caption(tmp_path, tmp_path / "no", options, "--frames", names=("NurViD",)) == 2
        assert "at most 0.2 of them unusable (--max-rejects), found 1 of 3" in capsys.readouterr().err
        assert caption(tmp_path, tmp_path / "out", options, "--frames", "--max-rejects", "0.5", names=("NurViD",)) == 0
    said = json.loads((tmp_path / "out" / "curation.json").read_text())
    assert list(said["sources"]["NurViD"]["rejected"]) == [broken.stem] and said["unreadable"] == {}
    rows = rows_of(tmp_path / "out")
    assert {row["metadata"]["video_id"] for row in rows} == {video.stem for video in good}
    assert all((tmp_path / "frames" / path).is_file() for row in rows for path in row["video"])


@pytest.mark.slow
def test_ray_draws_the_same_pictures(tmp_path, sources):
    """The same questions, so the same replies, rows and manifest; a clip with a broken frame among them."""
    broken, _ = spoilt(sources, tmp_path / "sources")
    with stand_ins() as options:
        for engine in ("local", "ray"):
            command = [sys.executable, "data_preprocess/curate.py", "caption", *SOURCES, *SHORT]
            command += ["--root", str(broken / "root"), "--frames-root", str(broken / "frames"), "--engine", engine]
            for side, one in zip("ab", options, strict=True):
                given = [f"{name}={value}" for name, value in one.items() if name != "api_key"]
                command += [f"--captioner-{side}", *given]
            command += ["--max-rejects", "0.5", "--output", str(tmp_path / engine)]
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr[-2000:]
    for file in ("captions.json", "curation.json"):
        assert (tmp_path / "ray" / file).read_bytes() == (tmp_path / "local" / file).read_bytes()
    drawn = [
        {line["key"]: line["pictures"] for line in map(json.loads, (tmp_path / engine / "descriptions.jsonl").open())}
        for engine in ("local", "ray")
    ]
    assert drawn[0] == drawn[1] and drawn[0]


def study(sources: Path, output: Path, options: dict, *more: str) -> int:
    given = [f"{name}={value}" for name, value in options.items() if name != "api_key"]
    root = ("--root", str(sources / "root" / "CholecT50"), "--frames-root", str(sources / "frames"))
    folders = ("--captions", str(output / "captions"), "--output", str(output / "study"))
    return main(["study", "CholecT50", *root, *folders, *SHORT, "--captioner", *given, *more])


def filled_in(study: Path, rater: int, score) -> Path:
    """A rater's file with the same score in all five dimensions of an item."""
    path = study / f"rater_{rater}.csv"
    rows = list(csv.DictReader(path.open()))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows({**row, **dict.fromkeys(DIMENSIONS, score(row))} for row in rows)
    return path


def test_a_study_is_blind_and_its_files_are_read(tmp_path, sources, capsys):
    with stand_ins() as options:
        assert caption(sources, tmp_path / "captions", options, names=("CholecT50",)) == 0
        assert study(sources, tmp_path, options[0], "--items", "2", "--raters", "2") == 0
    folder = tmp_path / "study"
    key = {row["item"]: row["arm"] for row in csv.DictReader((folder / "key.csv").open())}
    assert sorted(key.values()) == ["expert", "expert", "plain", "plain"]
    orders = [[row["item"] for row in csv.DictReader((folder / f"rater_{n}.csv").open())] for n in (1, 2)]
    assert sorted(orders[0]) == sorted(orders[1]) == sorted(key)
    for n, order in enumerate(orders, 1):
        page = (folder / f"rater_{n}.html").read_text()
        assert re.findall(r"<h2>Item (\d+)</h2>", page) == order
        assert page.count("data:image/jpeg") == 2 * len(order) and "expert" not in page and "plain" not in page
        assert not {"expert", "plain"} & set(re.findall(r"\w+", (folder / f"rater_{n}.csv").read_text()))

    files = [filled_in(folder, n, lambda row: 5 if key[row["item"]] == "expert" else 2) for n in (1, 2)]
    rated = read_ratings(files)
    assert rated.raters == ["1", "2"] and len(rated.items) == 4 and sorted(rated.mean()[:, 0]) == [2, 2, 5, 5]
    assert preferences(folder, files) == (4, 0, 0)
    capsys.readouterr()
    assert main(["preference", "--study", str(folder), "--ratings", *map(str, files)]) == 0
    assert capsys.readouterr().out == "with expert prompting 4, without 0, ties 0\nsign test: p = 0.1250\n"
    filled_in(folder, 1, lambda row: 6)
    assert main(["preference", "--study", str(folder), "--ratings", str(files[0])]) == 2
    assert "rater_1.csv: line 2.terminology: expected a number of 1 to 5, or nothing, found" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--at-once", "0"], "--at-once: expected a number from 1"),
        (["--per-pair", "-1"], "--per-pair: expected a number from 0"),
        (["--leave-open", "-1"], "--leave-open: expected a number from 0"),
        (["--transcripts", "no_such"], "--transcripts: expected a folder, found no_such"),
        (["--mistakes", "no_such"], "--mistakes: expected the log of a stand-in, found no file no_such"),
        (["--set", "similarity=7"], "--set similarity=7: expected a number from 0 to 1"),
        (["--set", "event_words_least=90"], "--set event_words_most=80: expected a number from event_words_least"),
        (["prompts=no_such"], "--captioner-b prompts: expected a folder with dvc.txt, found no_such"),
        (["budget_usd=much"], "--captioner-b budget_usd: expected a number, found much"),
    ],
)
def test_wrong_arguments_are_one_line_and_ask_nobody(tmp_path, sources, capsys, more, told):
    # At port 9 nobody answers: a question would take seconds.
    both = [f"--captioner-{side} base_url=http://127.0.0.1:9/v1 model={side}" for side in "ab"]
    places = ["--root", str(sources), "--frames-root", str(sources / "frames"), "--output", str(tmp_path / "out")]
    with pytest.raises(SystemExit) as ended:
        main(["caption", "all", *places, *" ".join(both).split(), *more])
    error = capsys.readouterr().err
    assert ended.value.code == 2 and error.startswith(f"curate caption: error: {told}") and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("given", "told"),
    [("--mistakes x", "x: expected 0 to 1"), ("--port 70000", "--port: expected a number from 0 to 65535")],
)
def test_a_stand_in_with_wrong_arguments_does_not_start(given, told, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["standin", *given.split()])
    assert ended.value.code == 2 and told in capsys.readouterr().err


def test_what_is_wrong_is_one_line(tmp_path, sources, capsys):
    with stand_ins() as options:
        assert caption(sources, tmp_path / "out", [options[0], {**options[1], "key_variable": "NOBODY_SET"}]) == 2
        with pytest.raises(SystemExit) as ended:
            caption(sources, tmp_path / "out", [options[0], options[0]])
        assert ended.value.code == 2
        with pytest.raises(SystemExit):
            caption(sources, tmp_path / "out", [options[0], {**options[1], "speed": 3}])
        down = {**options[1], "base_url": "http://127.0.0.1:1/v1", "max_attempts": 1}
        assert caption(sources, tmp_path / "out", [options[0], down], "--per-pair", "1") == 2
    told = capsys.readouterr().err
    assert "curate: error: no key: key_variable names NOBODY_SET, which is not set" in told
    assert "expected another model's name or sampling than the first's" in told
    assert "--captioner-b speed: expected NAME=VALUE with one of backoff_s, base_url, " in told
    assert "4 of 4 contexts are open (CallUnavailable 4)" in told
    assert not (tmp_path / "out" / "captions.json").exists()
    with pytest.raises(SystemExit):
        main(
            ["caption", "NurViD", "--root", "x", "--frames-root", "x", "--output", "x", "--captioner-a", "api_key=s"]
            + ["--captioner-b", "model=b"]
        )
    assert "api_key would be seen by others" in capsys.readouterr().err

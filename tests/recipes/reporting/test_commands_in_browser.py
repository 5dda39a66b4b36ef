# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""What `report` writes and `watch` serves as real commands, in a real browser: the run's own files say what to see."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from made_run import Maker, made_run, tried
from PIL import Image
from seen_pixels import ANSWER, ASKED, GOLD, edges, pixels
from watching import ROOT, Server

from recipes.medgrpo.data.rows import Rows
from recipes.medgrpo.files import read_json_lines, write_atomic
from reward_score.answers import parse_stg
from reward_score.boxes import to_canvas

pytestmark = pytest.mark.slow
TABS = ("overview", "training", "normalisation", "rollouts", "evaluation")


def halved(answer, draw):
    """Boxes half as far from the corner, so that no line of theirs lies on one of the gold boxes; else an attempt."""
    if "[" not in answer:
        return tried(answer, draw)
    half = lambda found: "[" + ", ".join(f"{float(side) / 2:.1f}" for side in found[1].split(",")) + "]"
    return re.sub(r"\[(.*?)\]", half, answer)


def apart(work, *arguments, **settings):
    """What some work returns that is done in a thread of its own: Playwright's event loop is in the way in this one."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(work, *arguments, **settings).result()


@pytest.fixture(scope="module")
def data(synthetic_data) -> Path:
    return synthetic_data["qwen2_5_vl"]


@pytest.fixture(scope="module")
def run(data, tmp_path_factory) -> Path:
    return apart(made_run, tmp_path_factory.mktemp("runs") / "made", data, rows=1, say=halved)


@pytest.fixture(scope="module")
def page(run, data, tmp_path_factory) -> Path:
    """The page that the command says that it has written."""
    output = tmp_path_factory.mktemp("reports") / "report"
    command = [
        sys.executable,
        "-m",
        "recipes.medgrpo",
        "report",
        str(run),
        "--data",
        str(data),
        "--output",
        str(output),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.partition(": ")[0])


def recorded(run: Path, step: int) -> tuple[list[dict], list[dict]]:
    """The numbers and the texts of a step's answers."""
    texts = read_json_lines(run / f"grpo/answers/step_{step:06d}.jsonl.gz")
    return read_json_lines(run / f"grpo/rollouts/step_{step:06d}.jsonl"), texts


def group_of(numbers: list[dict], task: str) -> tuple[int, list[int]]:
    """The first group of a task in a step: its number, and the places of its answers."""
    groups = list(dict.fromkeys(line["group"] for line in numbers))
    name = next(line["group"] for line in numbers if line["data_source"].endswith(f"/{task}"))
    return groups.index(name), [at for at, line in enumerate(numbers) if line["group"] == name]


def row_of(data: Path, line: dict) -> dict:
    """The row that an answer is about, as the preprocessor wrote it."""
    rows = (row for row in Rows.open([str(data / "train.parquet")]).to_pylist())
    key = (line["file"], line["index"])
    return next(row for row in rows if (row["extra_info"]["file"], row["extra_info"]["index"]) == key)


def go_to_time(view, seconds: float) -> None:
    """Step through the clip until its frame is the one of a time."""
    wanted = f"{float(f'{seconds:.1f}'):g} s"
    for _ in range(40):
        if view.text(".readout").startswith(f"{wanted} ·"):
            return
        view.page.keyboard.press("f")
    raise AssertionError(f"no frame at {wanted}")


def test_every_page_opens_as_a_file_and_says_what_the_run_came_to(window, page, run):
    view = window()
    for tab in TABS:
        view.open(page, f"#{tab}")
        assert view.page.locator("[role=alert]").count() == 0
    summary = json.loads((run / "summary.json").read_text())
    view.turn("#overview")
    said = view.text(".cards")
    assert f"{summary['sft']['acc']:.3f} → {summary['medgrpo']['acc']:.3f}" in said and "complete" in said
    assert view.complaints == []
    assert [url for url in view.requests if not url.startswith(("file:", "data:", "about:"))] == []


def test_a_recorded_answer_is_shown_with_its_text_and_its_score(window, page, run):
    numbers, texts = recorded(run, 2)
    group, places = group_of(numbers, "tal")
    view = window()
    view.open(page, f"#rollouts?at=2.{group}&cards=made")
    cards = view.page.locator("article.answer")
    assert cards.count() == len(places)
    for card, place in zip(cards.all(), places, strict=True):
        earned = card.locator(".earned").inner_text()
        assert f"{numbers[place]['score']:.3f}" in earned and f"{numbers[place]['acc']:.3f}" in earned
        assert card.locator(".text").first.text_content() == texts[place]["text"]


def test_a_filter_counts_as_the_runs_files_do(window, page, run):
    lines = [line for step in (1, 2, 3) for line in recorded(run, step)[0]]
    fits = [line for line in lines if line["data_source"].endswith("/stg") and line["score"] >= 0.2]
    view = window()
    view.open(page, "#rollouts")
    view.page.get_by_label("Pair", exact=True).select_option("task:stg")
    view.page.get_by_label("Reward from").fill("0.2")
    view.page.get_by_label("Reward from").press("Enter")
    groups = {(line["step"], line["group"]) for line in fits}
    assert view.text(".count") == f"{len(fits)} of {len(lines)} answers in {len(groups)} groups"


def test_a_gold_box_and_an_answered_one_are_where_the_files_say(window, page, run, data):
    numbers, texts = recorded(run, 1)
    group, places = group_of(numbers, "stg")
    row = row_of(data, numbers[places[0]])
    extra = row["extra_info"]
    gold = json.loads(row["reward_model"]["ground_truth"])["boxes"]
    time = min(map(float, gold))
    said = parse_stg(texts[places[0]]["text"]).value[time]
    boxes = {
        GOLD: next(box for at, box in gold.items() if float(at) == time),
        ANSWER: to_canvas(said, extra["canvas"], extra["processed_size"], extra["model_family"]),
    }
    view = window()
    view.open(page, f"#rollouts?at=1.{group}&cards=made&answer=0")
    go_to_time(view, time)
    picture = pixels(view, ".stage canvas")
    scale = picture.width / extra["canvas"][0], picture.height / extra["canvas"][1]
    for colour, box in boxes.items():
        expected = [side * scale[place % 2] for place, side in enumerate(box)]
        assert edges(picture, colour) == pytest.approx(expected, abs=3)


def test_the_asked_region_lies_on_the_outline_that_the_model_saw(window, page, run, data):
    numbers, _ = recorded(run, 1)
    group, places = group_of(numbers, "rc")
    row = row_of(data, numbers[places[0]])
    region, canvas = row["extra_info"]["region"], row["extra_info"]["canvas"]
    clip = row["videos"][0]
    times = clip["frame_seconds"] or [at / clip["sample_fps"] for at in range(len(clip["video"]))]
    with Image.open(clip["video"][times.index(region["seconds"][0])]) as opened:
        frame = opened.convert("RGB")
    view = window()
    view.open(page, f"#rollouts?at=1.{group}")
    go_to_time(view, region["seconds"][0])
    picture = pixels(view, ".stage canvas")
    drawn = [
        side / (picture.height if place % 2 else picture.width) for place, side in enumerate(edges(picture, ASKED))
    ]
    assert drawn == pytest.approx([side / canvas[place % 2] for place, side in enumerate(region["box"])], abs=0.015)
    # The preprocessor's own green line, a few pixels wide on a small frame.
    green = [
        side / (frame.height if place % 2 else frame.width) for place, side in enumerate(edges(frame, (0, 255, 0), 90))
    ]
    assert drawn == pytest.approx(green, abs=0.03)


def test_every_pair_opens_without_a_complaint(window, page, run):
    pairs = {line["data_source"] for line in recorded(run, 1)[0]}
    view = window()
    view.open(page)
    for pair in sorted(pairs):
        view.turn(f"#rollouts?pair={pair}")
        name = pair.removeprefix("medvidbench/")
        view.page.wait_for_function("name => document.querySelector('.detail h2').textContent.endsWith(name)", arg=name)
        for part in (".strip canvas", "article.answer .text"):  # frames come when they are loaded
            view.page.wait_for_function("part => document.querySelectorAll(part).length > 1", arg=part)
    assert view.complaints == []


# --- runs of which little is there --------------------------------------------------------------------------------


def reported(output: Path, *runs: Path) -> Path:
    """The page of a report of some runs, each of which has its rows in its own folder."""
    command = [sys.executable, "-m", "recipes.medgrpo", "report", *map(str, runs), "--output", str(output)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.partition(": ")[0])


def seen(view, page: Path) -> dict[str, str]:
    """What each page of a report says; none of them fails, complains or is wider than the window."""
    said = {}
    for tab in TABS:
        view.open(page, f"#{tab}")
        said[tab] = view.text("main .tab")
        assert view.page.evaluate("document.documentElement.scrollWidth") <= view.page.viewport_size["width"]
    assert view.page.locator("[role=alert]").count() == 0 and view.complaints == []
    return said


@pytest.mark.parametrize("width", [1280, 390])
def test_a_run_that_has_only_begun_says_what_is_not_there(window, data, tmp_path, width):
    Maker(tmp_path / "run", data)
    said = seen(window(width), reported(tmp_path / "report", tmp_path / "run"))
    assert "0 steps" in said["overview"] and "This run has no curves yet." in said["training"]
    assert "This run has no statistics." in said["normalisation"]
    assert "This run has no recorded rollouts." in said["rollouts"]
    assert "This run has no two evaluated checkpoints yet." in said["evaluation"]


def test_a_run_of_one_step_without_texts_and_frames(window, data, tmp_path):
    maker = Maker(tmp_path / "run", data, tasks=["tal", "stg", "rc"], rows=1, texts=0)
    apart(maker.step, 1)
    view = window()
    said = seen(view, reported(tmp_path / "report", maker.folder))
    assert "The text was not recorded." in said["rollouts"]
    assert "No frames of this row are in the report." in said["rollouts"]
    view.turn("#training")
    assert view.page.locator(".chart canvas").first.is_visible()


def test_two_runs_of_different_models_lie_over_each_other(window, synthetic_data, tmp_path):
    """Each has its own rows: the models see frames of different sizes and say boxes in different spaces."""
    folders = []
    for number, family in enumerate(("qwen2_5_vl", "qwen3_vl")):
        maker = Maker(tmp_path / family, synthetic_data[family], tasks=["stg"], rows=1, steps=number + 1, say=halved)
        (maker.folder / "data").symlink_to(synthetic_data[family])
        for step in range(1, number + 2):
            apart(maker.step, step)
        folders.append(maker.folder)
    view = window()
    view.open(reported(tmp_path / "report", *folders), "#training?over=r1&level=all&measure=reward&smooth=0")
    view.page.wait_for_selector(".chart canvas")
    assert view.page.locator(".chart .name").all_inner_texts() == ["qwen2_5_vl", "qwen3_vl"]
    places = {}
    for run, folder in enumerate(folders):
        view.turn(f"#rollouts?run=r{run}&at=1.0")
        view.page.wait_for_function("id => document.querySelector('.tools select').value === id", arg=f"r{run}")
        numbers, texts = recorded(folder, 1)
        place = next(at for at, line in enumerate(numbers) if line["group"] == numbers[0]["group"])
        shown = view.page.locator("article.answer .text")
        view.page.wait_for_function(
            "text => document.querySelector('article.answer .text').textContent === text", arg=texts[place]["text"]
        )
        assert shown.count() == 4
        places[run] = edges(pixels(view, ".stage canvas"), GOLD), edges(pixels(view, ".stage canvas"), ANSWER)
    # One row, asked of both: the same gold box, and the answer's in the same place although it is said otherwise.
    assert places[0][0] == pytest.approx(places[1][0], abs=2) and places[0][1] == pytest.approx(places[1][1], abs=3)
    assert view.complaints == []


# --- watch --------------------------------------------------------------------------------------------------------


def hashes(folder: Path) -> dict[Path, str]:
    return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def maker(tmp_path, data) -> Maker:
    made = Maker(tmp_path / "run", data, tasks=["tal", "stg", "rc"], rows=1, say=halved)
    apart(made.calibrate)
    apart(made.step, 1)
    return made


@pytest.fixture
def watched(maker, data):
    started = Server(maker.folder, data)
    yield started
    started.stop()


def steps_shown(view, many: int) -> None:
    """Wait until the page's head says that so many steps are there."""
    view.page.wait_for_function(
        "many => document.querySelector('#live')?.textContent.endsWith(`step ${many}`)", arg=many
    )


def test_steps_of_a_run_at_work_appear_without_a_reload(window, watched, maker):
    view = window()
    view.open(watched.address, "#rollouts")
    steps_shown(view, 1)
    view.page.wait_for_function("() => document.querySelector('.count')?.textContent.length")
    view.page.evaluate("window.mine = 'the same page'")
    shown = view.text(".detail h2")
    many = len(recorded(maker.folder, 1)[0])
    for step in (2, 3):
        apart(maker.step, step)
        steps_shown(view, step)
        view.page.wait_for_function(
            "many => document.querySelector('.count').textContent.startsWith(`${many} of ${many} `)", arg=many * step
        )
    assert view.text(".detail h2") == shown
    numbers, texts = recorded(maker.folder, 3)
    view.turn("#rollouts?at=3.0&cards=made")
    view.page.wait_for_function("() => document.querySelector('.detail h2').textContent.startsWith('Step 3,')")
    assert view.page.locator("article.answer .text").first.text_content() == texts[0]["text"]
    assert f"{numbers[0]['score']:.3f}" in view.text("article.answer .earned")
    assert view.page.evaluate("window.mine") == "the same page"
    assert view.complaints == []


def test_half_written_files_break_nothing_and_are_taken_up_when_they_are_whole(window, watched, maker):
    view = window()
    view.open(watched.address, "#overview")
    steps_shown(view, 1)
    log, half = maker.folder / "attempts/grpo_1.jsonl", maker.folder / "grpo/rollouts/step_000002.jsonl"
    whole = log.read_text()
    log.write_text(whole + '{"step": 2, "data": {"medgrpo/pairs_mean/rew')
    half.write_text('{"step": 2, "gro')
    while "2" not in watched.piece("rollouts_r0")["texts"]:
        watched.next_version()
    for tab in TABS:
        view.turn(f"#{tab}")
        assert view.page.locator("[role=alert]").count() == 0
    assert view.text("#live") == "live · step 1"
    # What is no line at all is said with the file's name, and the rest is shown.
    view.turn("#overview")
    write_atomic(half, '{"step": 2, "gro\n{}\n')
    view.page.wait_for_function("() => document.querySelector('.warnings')?.textContent.includes('step_000002.jsonl')")
    log.write_text(whole)
    apart(maker.step, 2)
    steps_shown(view, 2)
    view.page.wait_for_function("() => !document.querySelector('.warnings')?.textContent.includes('step_000002.jsonl')")
    assert view.complaints == []


def test_the_pages_over_a_run_leave_its_files_as_they_are(window, watched, maker, data):
    apart(maker.step, 2)
    before = hashes(maker.folder) | hashes(data)
    view = window()
    view.open(watched.address)
    steps_shown(view, 2)
    for tab in TABS:
        view.turn(f"#{tab}")
    view.turn("#rollouts?at=2.1&view=row")
    view.page.wait_for_selector(".history li")
    watched.stop()
    assert watched.process.returncode == 0
    assert hashes(maker.folder) | hashes(data) == before

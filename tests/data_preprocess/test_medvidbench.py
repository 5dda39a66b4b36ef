# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The command: annotations and frames in, parquet out."""

import gzip
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from data_preprocess import medvidbench
from data_preprocess.convert import keep_boxed
from data_preprocess.medvidbench import main
from reward_score.answers import parse_stg
from reward_score.boxes import iou, to_canvas

COMMAND = Path(medvidbench.__file__)
BOXES = {"0": [480, 270, 1440, 810], "4.0": [500, 270, 1460, 810]}


def record(number, video, qa_type="next_action", answer="cutting", **changes):
    """A row of EgoSurgery: frames 2 s apart, boxes on a 1920x1080 canvas."""
    frames = [f"/root/data/EgoSurgery/images/{video}/{video}_1_{n:04}.jpg" for n in (1, 2, 3)]
    turns = [{"from": "human", "value": "<video>\nWhat is next?"}]
    if answer is not None:
        turns.append({"from": "gpt", "value": answer})
    metadata = {"video_id": f"{video}_1", "fps": "0.5", "input_video_start_frame": "1", "input_video_end_frame": "3"}
    base = {"id": str(number), "qa_type": qa_type, "data_source": "EgoSurgery", "conversations": turns}
    base |= {"video": frames, "sampled_video_frames": [1, 2, 3], "metadata": metadata, "struc_info": None}
    return {**base, **changes}


def boxed(number, video):
    structure = [{"start": 0, "end": 4, "stride": 4, "object": "hook", "bbox_dict": BOXES}]
    answer = " ".join(f"{float(time)} seconds: {box}" for time, box in BOXES.items())
    return record(number, video, "stg", answer, struc_info=structure)


@pytest.fixture
def place(tmp_path):
    """Frames of five videos, 192x108, and a function that runs the command on rows."""
    for video in "ABCDE":
        folder = tmp_path / "frames/EgoSurgery/images" / video
        folder.mkdir(parents=True)
        for number in (1, 2, 3):
            Image.new("RGB", (192, 108), (60 * number, 0, 90)).save(folder / f"{video}_1_{number:04}.jpg")

    def convert(rows, *options, output="out"):
        (tmp_path / "a.json").write_text(json.dumps(rows))
        arguments = ["--annotations", tmp_path / "a.json", "--frames-root", tmp_path / "frames"]
        return main([*map(str, arguments), "--output", str(tmp_path / output), "--max-pixels", "12544", *options])

    convert.folder = tmp_path
    return convert


def table(place, split, output="out"):
    """The rows of a split; their frames' paths as files of this machine."""
    rows = pq.read_table(place.folder / output / f"{split}.parquet").to_pylist()
    for row in rows:
        for video in row["videos"]:
            video["video"] = [str(place.folder / output / path) for path in video["video"]]
    return rows


def listed(place, output="out"):
    """The frames of all training rows, as the parquet names them."""
    rows = pq.read_table(place.folder / output / "train.parquet").to_pylist()
    return [path for row in rows for video in row["videos"] for path in video["video"]]


def audit(place, output="out"):
    return json.loads((place.folder / output / "audit.json").read_text())


def leftovers(place, output="out"):
    return [entry.name for entry in (place.folder / output).iterdir() if entry.name.startswith(".medvidbench-")]


def test_rows_become_verl_columns(place):
    assert place([record(i, video) for i, video in enumerate("AABBCCDDEE")], "--val-fraction", "0.2") == 0
    train, val = table(place, "train"), table(place, "val")
    assert (len(train), len(val)) == (8, 2)
    assert not {row["extra_info"]["video_id"] for row in train} & {row["extra_info"]["video_id"] for row in val}
    row = train[0]
    assert row["data_source"] == "medvidbench/EgoSurgery/nap" and row["ability"] == "nap"
    assert row["prompt"] == [{"role": "user", "content": "<video>\nWhat is next?"}]
    assert json.loads(row["reward_model"]["ground_truth"]) == {"text": "cutting", "label": "cutting"}
    (video,) = row["videos"]
    assert (video["sample_fps"], video["resized_width"], video["resized_height"]) == (0.5, 140, 84)
    assert len(video["video"]) == 3 and all(path.startswith("frames/") for path in listed(place))
    for path in video["video"]:
        with Image.open(path) as image:
            assert image.size == (140, 84)
    extra = row["extra_info"]
    assert (extra["split"], extra["answer"], extra["task"], extra["source"]) == (
        "train",
        "cutting",
        "nap",
        "EgoSurgery",
    )
    assert (extra["canvas"], extra["processed_size"]) == ([1920, 1080], [140, 84])
    assert (extra["duration"], extra["sample_interval"], extra["frames"]) == (4.0, 2.0, 3)
    assert (extra["time_rule"], extra["row_id"], extra["file"]) == ("table", "0", "a.json")
    assert (extra["response_tokens"], extra["vision_tokens"], extra["flags"]) == (32, 2 * 5 * 3, [])
    assert "prompt_tokens" not in extra and video["frame_seconds"] is None
    assert [row["extra_info"]["index"] for row in train] == sorted(row["extra_info"]["index"] for row in train)


@pytest.mark.parametrize("family", ["qwen2_5_vl", "qwen3_vl", "qwen3_5"])
def test_box_answers_are_said_in_the_models_space_and_come_back(place, family):
    assert place([boxed(0, "A")], "--model-family", family, "--val-fraction", "0") == 0
    (row,) = table(place, "train")
    extra = row["extra_info"]
    said = parse_stg(extra["answer"])
    assert said.format == 1.0 and list(said.value) == [0.0, 4.0]
    for at, box in said.value.items():
        back = to_canvas(box, extra["canvas"], extra["processed_size"], family)
        assert iou(back, BOXES["0" if at == 0 else "4.0"]) > 0.98
    assert json.loads(row["reward_model"]["ground_truth"])["boxes"]["4.0"] == [500.0, 270.0, 1460.0, 810.0]
    assert audit(place)["stg_rounding_iou"]["EgoSurgery"]["min"] > 0.98
    factor = {"qwen2_5_vl": 28, "qwen3_vl": 32, "qwen3_5": 32}[family]
    assert all(side % factor == 0 for side in extra["processed_size"])


def test_a_region_box_is_on_its_frame_alone(place):
    plain = record(0, "A", "region_caption_gpt", "A hook.")
    region = {"start_frame": plain["video"][1], "start_frame_bbox": [480, 270, 1440, 810]}
    assert place([{**plain, "is_RC": True, "RC_info": region}], "--val-fraction", "0") == 0
    (row,) = table(place, "train")
    green = []
    for path in row["videos"][0]["video"]:
        pixels = np.asarray(Image.open(path)).astype(int)
        green.append(int((pixels[..., 1] - pixels[..., 0] > 40).sum()))
    assert green[0] == green[2] == 0 < green[1]


def test_a_row_says_where_its_region_is_and_when_it_is_shown(place):
    """Frames at 0, 2 and 8 s: two ticks fill the hole with the second frame, which bears the region."""
    plain = record(0, "A", "region_caption_gpt", "A hook.", sampled_video_frames=[1, 2, 5])
    region = {"start_frame": plain["video"][1], "start_frame_bbox": [480, 270, 1440, 810]}
    assert place([{**plain, "is_RC": True, "RC_info": region}, record(1, "B")], "--val-fraction", "0") == 0
    asked, other = table(place, "train")
    assert asked["extra_info"]["region"] == {"box": [480.0, 270.0, 1440.0, 810.0], "seconds": [2.0, 4.0]}
    assert other["extra_info"]["region"] is None


def test_a_hole_is_filled_so_that_times_are_right(place):
    """Frames 1, 2 and then 5 of a 0.5 fps source: the list shown has five entries, the model's times are true."""
    row = record(0, "A", sampled_video_frames=[1, 2, 5])
    assert place([row], "--val-fraction", "0") == 0
    (row,) = table(place, "train")
    video = row["videos"][0]["video"]
    assert len(video) == row["extra_info"]["frames"] == 5 and row["extra_info"]["duration"] == 8.0
    assert video[1] == video[2] and video[3] == video[4] and len(set(video)) == 3
    assert audit(place)["timeline"]["EgoSurgery"]["frames_repeated"] == 2


def test_rows_without_answers_are_test_rows(place):
    assert place([record(0, "A", answer=None), record(1, "B")], "--val-fraction", "0") == 0
    (row,) = table(place, "test")
    assert row["extra_info"]["split"] == "test" and row["extra_info"]["answer"] is None
    assert row["reward_model"]["ground_truth"] == "{}"
    assert (row["extra_info"]["clip_start"], row["extra_info"]["clip_end"]) == ("1", "3")
    assert len(table(place, "train")) == 1 and not (place.folder / "out/val.parquet").exists()


def test_a_second_run_has_nothing_to_do_until_something_changes(place, capsys):
    rows = [record(i, video) for i, video in enumerate("ABCDE")]
    assert place(rows) == 0
    first = {name: (place.folder / "out" / name).stat().st_mtime_ns for name in ("train.parquet", "audit.json")}
    assert place(rows) == 0 and "up to date" in capsys.readouterr().out
    assert all((place.folder / "out" / name).stat().st_mtime_ns == when for name, when in first.items())
    assert place(rows, "--seed", "1") == 0 and "up to date" not in capsys.readouterr().out
    assert audit(place)["frames"] == {"made": 0, "reused": 15}
    (place.folder / "out/train.parquet").unlink()
    assert place(rows, "--seed", "1") == 0
    assert (place.folder / "out/train.parquet").exists()


def test_equal_runs_write_equal_bytes(place):
    rows = [record(i, video) for i, video in enumerate("ABCDE")] + [boxed(9, "A")]
    assert place(rows) == 0
    before = (place.folder / "out/train.parquet").read_bytes()
    assert place(rows, "--force") == 0
    assert (place.folder / "out/train.parquet").read_bytes() == before


def test_a_split_that_is_no_longer_written_does_not_stay(place):
    rows = [record(i, video) for i, video in enumerate("ABCDE")]
    assert place(rows) == 0 and (place.folder / "out/val.parquet").exists()
    assert place(rows, "--val-fraction", "0") == 0
    assert not (place.folder / "out/val.parquet").exists() and len(table(place, "train")) == 5


def test_a_bad_row_ends_a_small_run_with_one_line_and_writes_nothing(place, capsys):
    """One of two rows is far more than the 1 % that may be unusable."""
    assert place([record(0, "A"), record(1, "B", qa_type="quiz")]) == 2
    said = capsys.readouterr().err.strip()
    assert "a.json: row 1: qa_type: expected one of" in said and "found quiz (1 of 2 rows are unusable" in said
    assert "\n" not in said
    assert not list((place.folder / "out").glob("*.parquet")) and not leftovers(place)


def test_few_bad_rows_are_counted_and_none_in_strict_mode(place, capsys):
    rows = [record(i, "ABCDE"[i % 5]) for i in range(120)]
    rows[70]["qa_type"] = "quiz"
    assert place(rows, "--strict") == 2
    assert "row 70" in capsys.readouterr().err and not (place.folder / "out/audit.json").exists()
    assert place(rows) == 0
    assert audit(place)["rows"] == {
        "read": 120,
        "written": 119,
        "rejected": 1,
        "other_tasks": 0,
        "not_in_subset": 0,
    }


def test_bad_rows_and_frames_can_be_counted_instead(place):
    (place.folder / "frames/EgoSurgery/images/B/B_1_0002.jpg").write_bytes(b"")
    (place.folder / "frames/EgoSurgery/images/C/C_1_0002.jpg").write_bytes(b"\xff\xd8\xff\xe0 not a picture")
    rows = [record(0, "A"), record(1, "B"), record(2, "C"), record(3, "D", qa_type="quiz"), record(4, "E")]
    assert place(rows, "--max-rejects", "0.6", "--val-fraction", "0") == 0
    assert [row["extra_info"]["index"] for row in table(place, "train")] == [0, 4]
    report = audit(place)
    assert report["rows"] == {"read": 5, "written": 2, "rejected": 3, "other_tasks": 0, "not_in_subset": 0}
    reasons = {entry["reason"]: entry["rows"] for entry in report["rejected"]}
    assert reasons.pop("frame: the file is empty") == reasons.pop("frame: not a readable picture") == 1
    assert list(reasons.values()) == [1] and next(iter(reasons)).startswith("qa_type: expected one of")
    assert any("row 2" in example and "C_1_0002" in example for e in report["rejected"] for example in e["examples"])


@pytest.mark.parametrize("damage, said", [("missing", "no such file"), ("broken", "not a readable picture")])
def test_a_bad_frame_is_named_with_its_row(place, capsys, damage, said):
    frame = place.folder / "frames/EgoSurgery/images/B/B_1_0003.jpg"
    frame.unlink() if damage == "missing" else frame.write_bytes(b"\xff\xd8\xff\xe0 not a picture")
    assert place([record(0, "A"), record(1, "B")]) == 2
    message = capsys.readouterr().err.strip()
    assert "a.json: row 1: frame /root/data/EgoSurgery/images/B/B_1_0003.jpg" in message and said in message


def test_wrong_places_and_settings_are_one_line(place, capsys):
    rows = [record(0, "A")]
    for options, said in (
        (("--max-pixels", "100", "--min-pixels", "50"), "max_pixels 100"),
        (("--frames-root", "/nowhere"), "/nowhere"),
        (("--annotations", "/nowhere.json"), "/nowhere.json: expected a readable file"),
        (("--tasks", "tal"), "no row to write"),
        (("--tokenizer", "/nowhere"), "/nowhere"),
    ):
        assert place(rows, *options) == 2
        message = capsys.readouterr().err.strip()
        assert said in message and message.count("\n") == 0
    for options, said in (
        (("--val-fraction", "1.5"), "--val-fraction 1.5"),
        (("--timeline", "exact"), "--model-family qwen3_vl"),
        (("--max-prompt-tokens", "100"), "--tokenizer"),
        (("--response-tokens", "stg"), "TASK=N"),
        (("--verify", "none", "--frame-store", "x"), "--frame-store"),
        (("--no-frame-store", "--frame-store", "x"), "--no-frame-store"),
        (("--tick-tolerance", "nan"), "--tick-tolerance"),
        (("--response-tokens", "tal=99999999999999999999"), "TASK=N"),
    ):
        with pytest.raises(SystemExit) as caught:
            place(rows, *options)
        assert caught.value.code == 2 and said in capsys.readouterr().err


def test_an_earlier_output_survives_a_failing_run(place):
    assert place([record(0, "A")], "--val-fraction", "0") == 0
    before = (place.folder / "out/train.parquet").read_bytes()
    assert place([record(0, "A"), record(1, "B", qa_type="quiz")], "--val-fraction", "0") == 2
    assert (place.folder / "out/train.parquet").read_bytes() == before


def test_only_the_wanted_tasks_are_written(place):
    assert place([record(0, "A"), boxed(1, "A")], "--tasks", "stg", "--val-fraction", "0") == 0
    assert [row["ability"] for row in table(place, "train")] == ["stg"]
    assert audit(place)["rows"]["other_tasks"] == 1


def test_the_format_can_be_stated_in_a_system_message(place):
    scores = {"two_structures": 2, "cystic_plate": 1, "hepatocystic_triangle": 0}
    rows = [record(0, "A", "cvs_assessment", "scores", struc_info=[{"cvs_scores": scores}]), record(1, "A")]
    assert place(rows, "--val-fraction", "0") == 0
    cvs, nap = table(place, "train")
    assert [turn["role"] for turn in cvs["prompt"]] == ["system", "user"]
    assert cvs["prompt"][0]["content"].endswith(
        "Two structures: <score>, Cystic plate: <score>, Hepatocystic triangle: <score>"
    )
    assert [turn["role"] for turn in nap["prompt"]] == ["user"]
    assert cvs["extra_info"]["answer"] == "Two structures: 2, Cystic plate: 1, Hepatocystic triangle: 0"


def test_without_a_frame_store_the_files_themselves_are_listed(place):
    assert place([record(0, "A")], "--no-frame-store", "--val-fraction", "0") == 0
    (row,) = table(place, "train")
    assert row["videos"][0]["video"][0] == str(place.folder / "frames/EgoSurgery/images/A/A_1_0001.jpg")
    assert listed(place) == row["videos"][0]["video"], "frames outside the parquet's folder keep their absolute paths"
    assert not (place.folder / "out/frames").exists()


def test_frames_are_relative_where_they_lie_below_the_parquet(place):
    """The raw frames too, where they are listed as they are; a store elsewhere is named by its absolute path."""
    rows = [record(0, "A")]
    shutil.copytree(place.folder / "frames", place.folder / "raw/images")
    raw = ("--frames-root", str(place.folder / "raw/images"), "--no-frame-store", "--val-fraction", "0")
    assert place(rows, *raw, output="raw") == 0
    assert listed(place, "raw")[0] == "images/EgoSurgery/images/A/A_1_0001.jpg"
    assert audit(place, "raw")["settings"]["frames_root"] == "images"
    assert place(rows, "--frame-store", str(place.folder / "store"), "--val-fraction", "0") == 0
    assert all(path.startswith(f"{place.folder}/store/") for path in listed(place))


def test_absolute_paths_can_be_asked_for(place):
    assert place([record(0, "A")], "--absolute-frame-paths", "--val-fraction", "0") == 0
    assert all(path.startswith(f"{place.folder}/out/frames/") and os.path.exists(path) for path in listed(place))


def test_an_output_that_was_moved_is_up_to_date_and_names_no_place(place, capsys):
    """Nothing in the folder says where it lies; the annotations and the source frames did not move."""
    rows = [record(i, video) for i, video in enumerate("ABCDE")]
    assert place(rows) == 0
    os.rename(place.folder / "out", place.folder / "renamed")
    here = f"{place.folder}/out"
    assert here not in (place.folder / "renamed/audit.json").read_text()
    for split in ("train", "val"):
        file = pq.read_table(place.folder / f"renamed/{split}.parquet")
        assert here not in str(file.to_pylist()) and here not in str(file.schema.metadata)
    capsys.readouterr()
    assert place(rows, output="renamed") == 0 and "up to date" in capsys.readouterr().out
    assert place(rows, "--seed", "1", output="renamed") == 0
    assert audit(place, "renamed")["frames"] == {"made": 0, "reused": 15}
    assert all(os.path.exists(video) for row in table(place, "train", "renamed") for video in row["videos"][0]["video"])


def test_a_second_writer_is_refused(place, capsys):
    (place.folder / "out").mkdir()
    with medvidbench._alone(place.folder / "out"):
        assert place([record(0, "A")]) == 2
    assert "another run is writing here" in capsys.readouterr().err


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    """One token a character, and Qwen's control tokens."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {character: i for i, character in enumerate(pre_tokenizers.ByteLevel.alphabet())}
    inner = Tokenizer(models.BPE(vocabulary, []))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    special = ["<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|video_pad|>"]
    inner.add_special_tokens(special)
    folder = tmp_path_factory.mktemp("tokenizer")
    PreTrainedTokenizerFast(tokenizer_object=inner, additional_special_tokens=special).save_pretrained(folder)
    return str(folder)


def test_prompt_lengths(place, tokenizer):
    assert place([record(0, "A")], "--tokenizer", tokenizer, "--val-fraction", "0") == 0
    (row,) = table(place, "train")
    # ChatML around the question, each control token and each other character one token; 3 frames of 140x84.
    text = len("user\n" + "\nWhat is next?" + "\n" + "assistant\n") + 3 + 2
    assert row["extra_info"]["prompt_tokens"] == text + 2 * (140 // 28) * (84 // 28)


def test_a_prompt_that_is_too_long_is_rejected_or_loses_frames(place, tokenizer, capsys):
    """Twelve frames are six patches of 15 tokens, three fit: every third frame is left, and the last one."""
    row = record(0, "A", sampled_video_frames=list(range(1, 13)))
    row["video"] = row["video"] * 4
    text = len("user\n" + "\nWhat is next?" + "\n" + "assistant\n") + 3 + 2
    limit = ("--tokenizer", tokenizer, "--val-fraction", "0", "--max-prompt-tokens", str(text + 3 * 15))
    assert place([row], *limit) == 2
    assert f"expected a prompt of at most {text + 45} tokens, found {text + 90} tokens" in capsys.readouterr().err
    assert place([row], *limit, "--thin", "uniform") == 0
    (row,) = table(place, "train")
    extra, (video,) = row["extra_info"], row["videos"]
    assert extra["prompt_tokens"] == text + 45 and extra["frames"] == len(video["video"]) == 5
    assert (video["sample_fps"], extra["duration"]) == (0.5 / 3, 22.0)
    assert audit(place)["timeline"]["EgoSurgery"]["rows_thinned"] == 1


def test_times_outside_the_clip_are_refused_or_kept(place, capsys):
    """The clip lasts 4 s and the frames stand 2 s apart: 6 s is within the tolerance, 60 s is not."""
    rows = [
        record(
            i, "A", "tal", f"0.0-{end} seconds.", struc_info=[{"action": "cut", "spans": [{"start": 0, "end": end}]}]
        )
        for i, end in enumerate((6.0, 60.0))
    ]
    assert place(rows, "--val-fraction", "0") == 2
    assert "a.json: row 1: struc_info: expected times within the clip of 4 s" in capsys.readouterr().err
    assert place(rows, "--val-fraction", "0", "--outside-clip", "keep") == 0
    assert audit(place)["timeline"]["EgoSurgery"]["rows_with_gold_outside"] == 1


def test_frames_can_be_shown_at_their_own_times(place):
    row = record(0, "A", sampled_video_frames=[1, 2, 5])
    assert place([row], "--val-fraction", "0", "--model-family", "qwen3_vl", "--timeline", "exact") == 0
    (video,) = table(place, "train")[0]["videos"]
    assert len(video["video"]) == 3 and video["frame_seconds"] == [0.0, 2.0, 8.0]


def test_a_balanced_subset(place):
    rows = [record(i, "ABCDE"[i % 5]) for i in range(40)] + [boxed(100 + i, "ABCDE"[i % 5]) for i in range(10)]
    assert place(rows, "--val-fraction", "0", "--subset", "16") == 0
    train = table(place, "train")
    assert sorted(row["ability"] for row in train) == ["nap"] * 8 + ["stg"] * 8
    assert place(rows, "--val-fraction", "0", "--subset", "16", "--force") == 0 and table(place, "train") == train


def test_the_files_say_how_they_were_made(place):
    assert place([record(0, "A")], "--val-fraction", "0", "--seed", "7") == 0
    metadata = pq.read_schema(place.folder / "out/train.parquet").metadata
    assert json.loads(metadata[b"medgrpo.splitting"])["seed"] == 7
    assert json.loads(metadata[b"medgrpo.settings"])["model_family"] == "qwen2_5_vl"
    assert metadata[b"medgrpo.fingerprint"].decode() == audit(place)["fingerprint"]
    (entry,) = json.loads(metadata[b"medgrpo.inputs"])
    assert entry["name"] == "a.json" and len(entry["sha256"]) == 64


def test_two_inputs_of_one_name_are_refused(place, capsys):
    (place.folder / "b").mkdir()
    (place.folder / "b/a.json").write_text("[]")
    both = [str(place.folder / "a.json"), str(place.folder / "b/a.json")]
    assert place([record(0, "A")], "--annotations", *both) == 2
    assert "two inputs are named a.json" in capsys.readouterr().err


def test_json_lines_and_gzip_give_the_same_rows(place):
    rows = [record(i, video) for i, video in enumerate("ABCDE")]
    assert place(rows, "--val-fraction", "0") == 0
    wanted = [row["reward_model"] for row in table(place, "train")]
    packed = place.folder / "a.jsonl.gz"
    packed.write_bytes(gzip.compress("\n".join(map(json.dumps, rows)).encode()))
    assert place(rows, "--annotations", str(packed), "--val-fraction", "0", output="gz") == 0
    assert [row["reward_model"] for row in table(place, "train", "gz")] == wanted


def test_an_output_is_not_up_to_date_when_its_frames_are_gone_or_its_bytes_are_others(place, capsys):
    rows = [record(i, video) for i, video in enumerate("ABCDE")]
    assert place(rows) == 0
    shutil.rmtree(place.folder / "out/frames")
    assert place(rows) == 0 and "up to date" not in capsys.readouterr().out.splitlines()[-1]
    (shown,) = table(place, "train")[0]["videos"]
    assert all(Path(path).exists() for path in shown["video"])
    train = place.folder / "out/train.parquet"
    whole = train.read_bytes()
    train.write_bytes(whole[:100] + bytes(100) + whole[200:])
    assert place(rows) == 0 and train.read_bytes() == whole


def test_frames_that_are_there_by_now_bring_their_row_back(place):
    rows = [record(i, video) for i, video in enumerate("ABCDE")]
    frame = place.folder / "frames/EgoSurgery/images/B/B_1_0002.jpg"
    content = frame.read_bytes()
    frame.unlink()
    lenient = ("--max-rejects", "0.5", "--val-fraction", "0")
    assert place(rows, *lenient) == 0 and len(table(place, "train")) == 4
    frame.write_bytes(content)
    assert place(rows, *lenient) == 0 and len(table(place, "train")) == 5


def test_strict_is_asked_of_a_finished_run_too(place):
    rows = [record(0, "A"), record(1, "B", qa_type="quiz")]
    assert place(rows, "--max-rejects", "0.5") == 0
    assert place(rows, "--strict") == 2


def test_a_boxed_frame_that_no_tick_shows_takes_the_tick_nearest_to_its_own_time():
    """Ticks 2 s apart fill the hole between 1.0 and 8.0 s with one frame; the boxed one stands in it, at 6.4 s."""
    picks = keep_boxed((0, 1, 1, 1, 3), (0.0, 2.0, 4.0, 6.0, 8.0), (0.0, 1.0, 6.4, 8.0), (False, False, True, False))
    assert picks == (0, 1, 1, 2, 3)
    assert keep_boxed((0, 2), (0.0, 8.0), (0.0, 1.0, 6.4, 8.0), (False, False, True, False)) == (0, 2)


def test_the_clock_is_a_choice_only_where_two_lengths_disagree(place):
    """A clip with a hole and no declared length has one clock, whatever is asked for."""
    rows = [record(0, "A", sampled_video_frames=[1, 2, 5])]
    assert place(rows, "--val-fraction", "0", "--clock", "index") == 0
    assert table(place, "train")[0]["extra_info"]["duration"] == 8.0


def test_test_videos_that_are_trained_on_are_named(place, capsys):
    rows = [record(0, "A"), record(1, "B"), record(2, "A", answer=None)]
    assert place(rows, "--val-fraction", "0") == 0
    assert audit(place)["test_groups_with_answers"] == ["EgoSurgery/A_1"]
    assert "test videos that are in train or val too: 1, such as EgoSurgery/A_1" in capsys.readouterr().out


def test_an_input_that_changes_while_it_is_read_is_found_out(place, capsys, monkeypatch):
    rows = [record(i, video) for i, video in enumerate("ABCDE")]
    original = medvidbench.make_parts

    def changing(files, *others):
        yield from original(files, *others)
        os.utime(files[0], ns=(1, 1))

    monkeypatch.setattr(medvidbench, "make_parts", changing)
    assert place(rows) == 2
    assert "a.json: expected a file that stays as it is" in capsys.readouterr().err
    assert not list((place.folder / "out").glob("*.parquet")) and not leftovers(place)


def test_names_that_are_no_unicode_are_refused(place, capsys):
    assert place([record(0, "A")], output=os.fsdecode(b"out\xff")) == 2
    assert "not valid Unicode" in capsys.readouterr().err


def test_unknown_keys_are_kept(place):
    assert place([record(0, "A", note="seen twice", train=True)], "--val-fraction", "0") == 0
    assert json.loads(table(place, "train")[0]["extra_info"]["other"]) == {"note": "seen twice"}


@pytest.mark.parametrize("frames", [[0, 1, 2**53], [0, 10**12, 2 * 10**12]])
def test_absurd_frame_numbers_take_no_time(place, frames):
    assert place([record(0, "A", sampled_video_frames=frames)], "--val-fraction", "0") == 0
    assert table(place, "train")[0]["extra_info"]["frames"] <= 6


def test_inspect_writes_nothing(place, capsys):
    rows = [record(0, "A"), boxed(1, "A"), record(2, "B", qa_type="quiz")]
    (place.folder / "a.json").write_text(json.dumps(rows))
    before = sorted(place.folder.rglob("*"))
    assert main(["inspect", str(place.folder / "a.json")]) == 0
    said = capsys.readouterr().out
    assert "3 rows, 2 readable, 1 not" in said and "medvidbench/EgoSurgery/stg" in said and "row 2: qa_type" in said
    assert "metadata.video_id" in said and "480" in said
    assert sorted(place.folder.rglob("*")) == before
    assert main(["inspect", "/nowhere.json"]) == 2 and "/nowhere.json" in capsys.readouterr().err


def test_the_command_runs_from_anywhere_and_a_kill_leaves_no_half_file(place):
    rows = [record(i, "ABCDE"[i % 5]) for i in range(4000)]
    (place.folder / "many.json").write_text(json.dumps(rows))
    arguments = ["--annotations", place.folder / "many.json", "--frames-root", place.folder / "frames"]
    arguments = [sys.executable, str(COMMAND), *map(str, arguments), "--output", str(place.folder / "out")]
    killed = subprocess.Popen(arguments, cwd="/", stderr=subprocess.DEVNULL)
    while killed.poll() is None and not leftovers_or_none(place):
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert not list((place.folder / "out").glob("*.parquet")) and not (place.folder / "out/audit.json").exists()
    done = subprocess.run(arguments, cwd="/", capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "4000 of 4000 rows written" in done.stdout and not leftovers(place)
    assert audit(place)["splits"]["train"] + audit(place)["splits"]["val"] == 4000


def leftovers_or_none(place):
    return (place.folder / "out").is_dir() and leftovers(place)


@pytest.mark.parametrize("family", ["qwen2_5_vl", "qwen3_vl", "qwen3_5"])
def test_the_synthetic_set_goes_through_whole(tmp_path, family):
    command = COMMAND.parent / "synthetic.py"
    if not command.exists():
        pytest.skip("no synthetic set here")
    made = tmp_path / "made"
    options = ["--videos-per-source", "4", "--rows-per-pair", "8", "--test-rows", "--variants", "all"]
    subprocess.run([sys.executable, str(command), "--output", str(made), *options], check=True, capture_output=True)
    files = [str(made / "train_annotations.json"), str(made / "test_annotations.json")]
    output = tmp_path / "out"
    arguments = ["--annotations", *files, "--frames-root", str(made / "frames"), "--output", str(output)]
    assert main([*arguments, "--model-family", family, "--min-pixels", "1024", "--max-pixels", "6272"]) == 0
    report = json.loads((output / "audit.json").read_text())
    assert len(report["pairs"]) == 23 and report["rows"]["rejected"] == 0 and not report["flags"]
    for pair, entry in report["pairs"].items():
        assert entry["train"] and entry["val"] and entry["test"], pair
    assert all(counts.get("rows_with_gold_outside", 0) == 0 for counts in report["timeline"].values())
    assert all(counts.get("rows_with_other_file_numbers", 0) == 0 for counts in report["timeline"].values())
    train, val = (pq.read_table(output / f"{split}.parquet").to_pylist() for split in ("train", "val"))
    videos = [{(r["extra_info"]["source"], r["extra_info"]["video_id"]) for r in rows} for rows in (train, val)]
    assert not videos[0] & videos[1]


def write(place, name, rows):
    (place.folder / name).parent.mkdir(exist_ok=True)
    (place.folder / name).write_text(json.dumps(rows))
    return ("--annotations", str(place.folder / name))


def hashes(place, output="out"):
    return {path.name: path.read_bytes() for path in (place.folder / output).glob("*.parquet")}


@pytest.mark.parametrize("test_first", [False, True])
def test_one_folder_holds_the_training_and_the_test_rows_of_one_configuration(place, capsys, test_first):
    rows = [record(i, video) for i, video in enumerate("ABCDE")]
    questions = write(place, "test.json", [record(0, "A", answer=None)])
    runs = [(), questions][:: -1 if test_first else 1]
    assert place(rows, *runs[0]) == 0
    first = hashes(place)
    assert place(rows, *runs[1]) == 0
    assert hashes(place).keys() == {"train.parquet", "val.parquet", "test.parquet"}
    assert first.items() <= hashes(place).items()
    capsys.readouterr()
    for options in runs:
        assert place(rows, *options) == 0 and "up to date" in capsys.readouterr().out
    # Training rows of another seed take the place of the training rows alone.
    assert place(rows, "--val-fraction", "0") == 0
    assert hashes(place).keys() == {"train.parquet", "test.parquet"}
    assert place(rows, *questions) == 0 and "up to date" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("rows", "options", "said"),
    [
        ([record(0, "A", answer=None)], ("--model-family", "qwen3_vl"), "with another model_family"),
        ([record(0, "A", answer=None)], ("--max-pixels", "6272"), "with another max_pixels"),
        ([record(0, "A"), record(1, "B")], (), "train.parquet stays as it is: it was made of a.json"),
        ([record(0, "A"), record(2, "C", answer=None)], ("--val-fraction", "0"), "it was made of a.json"),
    ],
)
def test_files_of_other_annotations_or_settings_are_never_deleted(place, capsys, rows, options, said):
    assert place([record(i, video) for i, video in enumerate("ABCDE")]) == 0
    before = hashes(place)
    capsys.readouterr()
    assert place([record(i, video) for i, video in enumerate("ABCDE")], *write(place, "b.json", rows), *options) == 2
    message = capsys.readouterr().err.strip()
    assert said in message and "choose another --output" in message and "\n" not in message
    assert hashes(place) == before and audit(place)["splits"]["train"] and not leftovers(place)


def test_a_test_file_of_the_same_name_deletes_nothing(place):
    rows = [record(i, video) for i, video in enumerate("ABCDE")]
    assert place(rows) == 0
    before = hashes(place)
    assert place(rows, *write(place, "elsewhere/a.json", [record(0, "A", answer=None)])) == 0
    assert before.items() <= hashes(place).items() and "test.parquet" in hashes(place)


def test_a_parquet_of_somebody_else_is_left_alone(place, capsys):
    (place.folder / "out").mkdir()
    for content in (b"PAR1", b""):
        (place.folder / "out/val.parquet").write_bytes(content)
        assert place([record(0, "A")], "--val-fraction", "0") == 2
        assert "val.parquet stays as it is: this command did not write it" in capsys.readouterr().err
        assert hashes(place) == {"val.parquet": content}


def test_parts_of_another_run_stay(place):
    other = place.folder / "out/.medvidbench-ffffffff-0"
    other.mkdir(parents=True)
    assert place([record(0, "A")]) == 0 and other.is_dir()


@pytest.mark.parametrize("kind", ["ppm", "png", "jpg"])
@pytest.mark.parametrize("damage", ["gone", "cut"])
def test_stored_frames_that_are_gone_or_cut_are_made_again(place, capsys, kind, damage):
    rows = [record(i, video) for i, video in enumerate("ABCDE")]
    assert place(rows, "--frame-format", kind) == 0
    paths = sorted((place.folder / "out/frames").rglob(f"*.{kind}"))
    whole = {path: path.read_bytes() for path in paths}
    for path in paths[::2]:
        when = path.stat().st_mtime_ns
        if damage == "gone":
            path.unlink()
        else:
            path.write_bytes(whole[path][:100])
            os.utime(path, ns=(when, when))
    capsys.readouterr()
    assert place(rows, "--frame-format", kind) == 0 and "up to date" not in capsys.readouterr().out
    assert {path: path.read_bytes() for path in paths} == whole
    assert audit(place)["frames"] == {"made": len(paths[::2]), "reused": len(paths) - len(paths[::2])}


def test_where_no_row_is_left_the_commonest_reasons_are_told(place, capsys):
    rows = [record(0, "A", qa_type="quiz"), record(1, "B", qa_type="quiz"), record(2, "C", sampled_video_frames=[3])]
    assert place(rows, "--max-rejects", "1") == 2
    said = capsys.readouterr().err.strip()
    assert "no row to write: 3 read, 3 rejected; 2 rows: a.json: row 0: qa_type" in said
    assert "; 1 rows: a.json: row 2" in said and "\n" not in said


def test_a_question_that_the_template_cannot_render_is_its_rows_trouble(place, tokenizer, capsys):
    """One that tampers with the clip's mark, and one that the template itself fails on."""
    (Path(tokenizer) / "chat_template.json").write_text(
        json.dumps(
            {
                "chat_template": "{% for m in messages %}{% for part in m.content %}"
                "{{ 1 // 0 if 'bomb' in part.text|default('') }}"
                "{{ '<|vision_start|><|video_pad|><|vision_end|>' if part.type == 'video' else part.text }}"
                "{% endfor %}{% endfor %}"
            }
        )
    )
    rows = [record(i, "ABCDE"[i % 5]) for i in range(4)]
    for row, asked in zip(
        rows[1:3], ("<video>\nWhat is a <vid<video>eo>?", "<video>\nWhere is the bomb?"), strict=True
    ):
        row["conversations"][0]["value"] = asked
    try:
        assert place(rows, "--tokenizer", tokenizer, "--max-rejects", "0.5", "--val-fraction", "0") == 0
    finally:
        (Path(tokenizer) / "chat_template.json").unlink()
    assert [row["extra_info"]["index"] for row in table(place, "train")] == [0, 3]
    examples = [example for reason in audit(place)["rejected"] for example in reason["examples"]]
    assert all(any(f"a.json: row {row}: conversations.0.value" in example for example in examples) for row in (1, 2))


def test_the_cache_of_the_hub_is_read_where_its_blobs_are_named(place, capsys):
    """Its snapshot holds links to blobs beside it; a folder on another disk is a link as well."""
    snapshot, blobs = place.folder / "hub/snapshots/1", place.folder / "hub/blobs"
    blobs.mkdir(parents=True)
    for path in sorted((place.folder / "frames").rglob("*.jpg")):
        link = snapshot / path.relative_to(place.folder / "frames")
        link.parent.mkdir(parents=True, exist_ok=True)
        blob = blobs / path.name.encode().hex()
        blob.write_bytes(path.read_bytes())
        link.symlink_to(os.path.relpath(blob, link.parent))
    shutil.move(snapshot / "EgoSurgery/images/B", place.folder / "disk")
    (snapshot / "EgoSurgery/images/B").symlink_to(place.folder / "disk")
    for link in (place.folder / "disk").iterdir():
        name = link.name.encode().hex()
        link.unlink()
        link.symlink_to(blobs / name)
    rows = [record(i, video) for i, video in enumerate("ABCDE")]
    root = ("--frames-root", str(snapshot), "--val-fraction", "0")
    assert place(rows, *root) == 2
    assert "a link leads out of the frames root" in (said := capsys.readouterr().err) and "--link-roots" in said
    assert place(rows, *root, "--link-roots", str(blobs)) == 2, "the other disk is not named"
    assert place(rows, *root, "--link-roots", str(blobs), str(place.folder / "disk")) == 0
    assert len(table(place, "train")) == 5


def ego(number, box, video="A"):
    """Boxes of a row of EgoSurgery, at 0 and at 4 seconds."""
    structure = {"start": 0, "end": 4, "stride": 4, "object": "hook", "bbox_dict": {"0": box, "4": box}}
    return record(number, video, "stg", "x", struc_info=[structure])


def test_a_source_whose_boxes_count_something_else_ends_the_run(place, capsys):
    """Of boxes as x, y, width and height only some look odd; nobody trains on the others."""
    rows = [ego(i, [200 + 90 * i, 100, 600, 400], "ABCDE"[i % 5]) for i in range(12)]
    assert place(rows, "--max-rejects", "1") == 2
    said = capsys.readouterr().err.strip()
    assert "EgoSurgery: 7 of 12 rows have boxes that are not on the 1920x1080 canvas" in said
    assert "x, y, width and height" in said and "--box-space EgoSurgery=SPACE" in said and "\n" not in said
    assert place(rows, "--box-space", "EgoSurgery=xywh", "--val-fraction", "0") == 0
    assert json.loads(table(place, "train")[0]["reward_model"]["ground_truth"])["boxes"]["0.0"] == [200, 100, 800, 500]
    assert place(rows, "--max-rejects", "1", "--box-space", "EgoSurgery=canvas", "--val-fraction", "0") == 0
    assert len(table(place, "train")) == 5 and audit(place)["boxes"]["EgoSurgery"]["odd"] == 7


@pytest.mark.parametrize(("count", "status"), [(40, 2), (9, 0)])
def test_boxes_that_all_keep_to_a_part_of_the_canvas_are_told(place, capsys, count, status):
    """0 to 1000 on a canvas of 1920x1080: with many rows it is no accident, with few it is a warning."""
    rows = [ego(i, [i * 10, 100, 500 + i * 10, 600], "ABCDE"[i % 5]) for i in range(count)]
    assert place(rows, "--val-fraction", "0") == status
    said = capsys.readouterr().err
    assert f"EgoSurgery: all boxes of {count} rows on the 1920x1080 canvas lie within" in said and "--box-space" in said
    assert place(rows, "--val-fraction", "0", "--box-space", "EgoSurgery=0-1000") == 0


@pytest.mark.parametrize("space", ["EgoSurgery", "EgoSurgery=pixels", "Nobody=0-1", "EgoSurgery=", "EgoSurgery=0x5"])
def test_a_space_of_boxes_is_one_that_is_known(place, capsys, space):
    with pytest.raises(SystemExit) as caught:
        place([record(0, "A")], "--box-space", space)
    assert caught.value.code == 2 and "--box-space" in capsys.readouterr().err


def test_ids_that_follow_no_rule_are_named(place, capsys):
    assert place([record(0, "A")], "--val-fraction", "0") == 0
    assert audit(place)["own_groups"] == {"EgoSurgery": ["A_1"]}
    assert "warning: EgoSurgery: 1 video ids follow no rule" in capsys.readouterr().err


def test_one_video_under_two_names_is_on_one_side(place):
    rows = [record(i, "ABCDE"[i % 5]) for i in range(20)]
    for row, name in zip(rows, ["07_1", "07_1 ", "EgoSurgery_07_2", "07_1.mp4", "7_3_part2"] * 4, strict=True):
        row["metadata"]["video_id"] = name
    assert place(rows) == 0
    assert len(table(place, "train")) == 20 and not (place.folder / "out/val.parquet").exists()

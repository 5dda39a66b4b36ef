# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Mutations of good files: whatever a reader cannot use is its own error, with the place, and nothing else."""

import copy
import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from data_preprocess import leaks, synthetic
from data_preprocess.annotations import RecordError, parse_record
from data_preprocess.audit import Audit
from data_preprocess.convert import Converter, Settings, _enter
from data_preprocess.frames import UNREADABLE, FrameError, render
from data_preprocess.json_stream import read_rows
from data_preprocess.parquet_schema import schema, to_table

PLAIN = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
ODD = [
    None, True, 0, -1, 1e308, -1e308, 1e-320, 2**63, 2**64, 10**400, float("nan"), float("inf"), "", " ", "1_0", "0x1",
    "１", "nan", "-0.0", "1e999", "\u0000", "\u202e", "é" * 300, "<video>", "<|im_end|>", "a\nb", [], {}, [[]], [{}],
    [None], {"": None}, [1, "2", None], {"a": {"b": {"c": []}}}, "x" * 70_000,
]  # fmt: skip

PIECES = [b"", b'"', b"{", b"}", b"\\", b"[", b"]", b"\n", b"\xff", b"NaN", b",", b"\0"]


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """A row of each pair, with its frames below no folder."""
    folder = tmp_path_factory.mktemp("made") / "set"
    options = ["--videos-per-source", "2", "--rows-per-pair", "1", "--no-frames", "--variants", "all"]
    assert synthetic.main(["--output", str(folder), *options]) == 0
    return json.loads((folder / "train_annotations.json").read_text())


def places(value, at=()):
    """The paths of all values in a JSON value."""
    found = [at] if at else []
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            found += places(value[key], (*at, key))
    return found


def changed(row, draw):
    row = copy.deepcopy(row)
    for _ in range(draw(st.integers(1, 2))):
        path = draw(st.sampled_from(places(row)))
        inside = row
        for key in path[:-1]:
            inside = inside[key]
        action = draw(st.sampled_from(["replace", "replace", "delete", "double"]))
        if action == "replace":
            inside[path[-1]] = copy.deepcopy(draw(st.sampled_from(ODD)))
        elif action == "delete":
            del inside[path[-1]]
        elif isinstance(inside, list):
            inside.insert(path[-1], copy.deepcopy(inside[path[-1]]))
    return row


@settings(PLAIN, max_examples=300)
@given(data=st.data())
def test_a_row_with_odd_values_is_written_whole_or_refused(rows, data):
    row = changed(data.draw(st.sampled_from(rows)), data.draw)
    audit = Audit()
    try:
        sample = parse_record(json.dumps(row).encode(), "a.json", 3)
        audit.identity(sample)
        converted = Converter(Settings("/nowhere", verify="none")).convert(sample, audit)
    except (RecordError, FrameError) as error:
        assert str(error) and "\n" not in str(error)
        audit.reject(error)
    else:
        _enter(converted, audit)
        written = to_table([converted.row], schema(False))
        assert written.num_rows == 1
    assert Audit.from_json(audit.to_json()).report({}) == audit.report({})
    assert json.dumps(audit.report({}))


@settings(PLAIN, max_examples=200)
@given(data=st.data(), lines=st.booleans())
def test_a_file_with_damaged_bytes_gives_rows_or_its_own_error(rows, tmp_path, data, lines):
    few = [
        {**row, "video": row["video"][:2], "sampled_video_frames": row["sampled_video_frames"][:2]} for row in rows[:3]
    ]
    raw = bytearray(("\n".join(map(json.dumps, few)) if lines else json.dumps(few)).encode())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(raw) - 1))
        piece = data.draw(
            st.sampled_from([b"", b'"', b"{", b"}", b"\\", b"[", b"]", b"\n", b"\xff", b"NaN", b",", b"\0"])
        )
        raw[at : at + data.draw(st.integers(0, 3))] = piece
    path = tmp_path / "a.json"
    path.write_bytes(raw)
    try:
        for index, found in read_rows(path):
            try:
                parse_record(found, "a.json", index)
            except RecordError as error:
                assert error.row == index and "\n" not in str(error)
        leaks.run([str(path)])
    except RecordError as error:
        assert str(path) in str(error) and "\n" not in str(error)


@settings(PLAIN, max_examples=150)
@given(data=st.data(), kind=st.sampled_from(["PNG", "JPEG", "PPM", "BMP", "TIFF", "WEBP"]))
def test_a_damaged_picture_is_read_alike_by_the_store_and_by_training(tmp_path, data, kind):
    from recipes.medgrpo.data.video import FrameReadError, decode_clip

    content = io.BytesIO()
    noise = np.random.default_rng(1).integers(0, 256, (14, 28, 3), np.uint8)
    Image.fromarray(noise).save(content, kind)
    raw = bytearray(content.getvalue())
    for _ in range(data.draw(st.integers(0, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / f"frame.{kind.lower()}"
    path.write_bytes(raw[: data.draw(st.integers(1, len(raw)))])
    clip = {"video": [str(path)], "sample_fps": 1.0, "resized_width": 28, "resized_height": 14}
    try:
        stored = np.asarray(render(str(path), (28, 14)))
    except UNREADABLE:
        with pytest.raises(FrameReadError, match="frame"):
            decode_clip(clip)
    else:
        try:
            frames, _ = decode_clip(clip)
        except FrameReadError as error:
            assert kind == "PPM" and "bytes of pixels" in str(error)  # the store's own files have an exact length
        else:
            assert np.array_equal(frames[0].permute(1, 2, 0).numpy(), stored)


@settings(PLAIN, max_examples=150)
@given(data=st.data())
def test_a_damaged_parquet_is_its_own_error(tmp_path, data):
    from recipes.medgrpo.data.rows import DataError, Rows

    extra = [{"split": "train", "prompt_tokens": at, "index": at} for at in range(30)]
    table = pa.table({"data_source": ["medvidbench/AVOS/tal"] * 30, "ability": ["tal"] * 30, "extra_info": extra})
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, row_group_size=10)
    raw = bytearray(sink.getvalue().to_pybytes())
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / "a.parquet"
    path.write_bytes(raw[: data.draw(st.integers(len(raw) // 2, len(raw)))])
    try:
        rows = Rows.open([str(path)])
        assert [rows.row(at)["ability"] for at in range(len(rows))]
    except DataError as error:
        assert str(path) in str(error)

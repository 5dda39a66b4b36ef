# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Where rows begin and end: every layout of a file, cut into chunks anywhere, and what is said of damaged files."""

import gzip
import json
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_preprocess import json_stream
from data_preprocess.annotations import RecordError, parse_record
from data_preprocess.json_stream import block_rows, iter_blocks, read_rows
from data_preprocess.medvidbench import main

LAYOUTS = {
    "list": lambda rows: json.dumps(rows),
    "compact list": lambda rows: json.dumps(rows, separators=(",", ":"), ensure_ascii=False),
    "indented list": lambda rows: json.dumps(rows, indent=2),
    "a row a line": lambda rows: "[\n" + ",\n".join(map(json.dumps, rows)) + "\n]\n",
    "CRLF list": lambda rows: json.dumps(rows, indent=1, ensure_ascii=False).replace("\n", "\r\n"),
    "lines": lambda rows: "".join(json.dumps(row) + "\n" for row in rows),
    "CRLF lines with blank ones": lambda rows: "\r\n\r\n \t".join(json.dumps(row, ensure_ascii=False) for row in rows),
}
# Texts made of what a scan stumbles over.
TEXT = st.lists(st.sampled_from(['"', "\\", "{", "}", "[", "]", ",", "\n", "a", "é", "手", "😀", "~"]), max_size=8).map(
    "".join
)
VALUE = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)


def is_a_row(row: dict) -> bool:
    """A first line that begins with a list of objects is refused: the whole file may be one object around its rows."""
    first = next(iter(row.values()), None)
    return not (isinstance(first, list) and first and isinstance(first[0], dict))


ROWS = st.lists(st.dictionaries(TEXT, VALUE, max_size=4).filter(is_a_row), max_size=5)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("rows")


def write(folder, text, zipped=False, head=b""):
    path = folder / "rows.json"
    data = head + text.encode()
    path.write_bytes(gzip.compress(data) if zipped else data)
    return path


def blocks_of(path, rows_per_block=2, chunk=json_stream.CHUNK):
    return [list(block_rows(block)) for block in iter_blocks([path], rows_per_block, chunk)]


def refused(path, chunk=json_stream.CHUNK):
    with pytest.raises(RecordError) as caught:
        list(iter_blocks([path], 500, chunk))
    message = str(caught.value)
    assert message.startswith(str(path)) and "\n" not in message
    return message.removeprefix(f"{path}: ")


@pytest.mark.parametrize("layout", LAYOUTS)
@settings(max_examples=30, deadline=None)
@given(rows=ROWS, chunk=st.integers(1, 40), zipped=st.booleans(), mark=st.booleans())
def test_rows_are_found_wherever_a_chunk_ends(folder, layout, rows, chunk, zipped, mark):
    text = LAYOUTS[layout](rows)
    path = write(folder, text, zipped, b"\xef\xbb\xbf" if mark else b" \n" if "list" in layout else b"")
    if not text:
        assert "found no data" in refused(path, chunk)
        return
    found = [row for block in blocks_of(path, 2, chunk) for row in block]
    assert [index for index, _ in found] == list(range(len(rows)))
    assert [json.loads(raw) for _, raw in found] == rows


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_file_cut_anywhere_is_an_early_end_or_has_its_first_rows(tmp_path, layout):
    """Behind a whole line nothing shows that a row is missing."""
    rows = [{"a": 'x"}\\'}, {"b": [{"c": "é{"}]}, {}]
    text = LAYOUTS[layout](rows).encode()
    for length in range(len(text)):
        path = tmp_path / "cut.json"
        path.write_bytes(text[:length])
        try:
            found = [json.loads(raw) for _, raw in read_rows(path)]
        except RecordError as error:
            assert "expected valid JSON, found an early end" in str(error) or "found no data" in str(error)
            assert error.row in (None, 0, 1, 2, 3)
        else:
            assert found == rows[: len(found)] and (
                len(found) == 3 or "list" not in layout and layout != "a row a line"
            )


def test_blocks_count_on_over_files_and_never_run_over_two(tmp_path):
    first, second = tmp_path / "a.json", tmp_path / "b.jsonl.gz"
    first.write_text(json.dumps([{"a": n} for n in range(5)]))
    second.write_bytes(gzip.compress(b"".join(b'{"b": %d}\n' % n for n in range(3))))
    blocks = list(iter_blocks([first, second], 2))
    assert [(b.number, os.path.basename(b.file), b.first_row, len(b.starts)) for b in blocks] == [
        (0, "a.json", 0, 2),
        (1, "a.json", 2, 2),
        (2, "a.json", 4, 1),
        (3, "b.jsonl.gz", 0, 2),
        (4, "b.jsonl.gz", 2, 1),
    ]
    assert [b.data is None for b in blocks] == [True, True, True, False, False]
    assert [row for b in blocks for row in block_rows(b)] == [
        *((n, b'{"a": %d}' % n) for n in range(5)),
        *((n, b'{"b": %d}' % n) for n in range(3)),
    ]
    assert list(iter_blocks([first, second], 2)) == blocks


def test_many_rows_over_many_chunks(tmp_path):
    rows = [{"n": n, "text": '{"\\' * (n % 7), "list": [n] * (n % 50)} for n in range(700)]
    for zipped in (False, True):
        path = write(tmp_path, json.dumps(rows), zipped)
        assert [json.loads(raw) for block in blocks_of(path, 64, 1000) for _, raw in block] == rows


def test_an_empty_list_has_no_rows(tmp_path):
    assert blocks_of(write(tmp_path, " [ \n ] \n")) == []


def test_two_zipped_parts_in_one_file(tmp_path):
    path = tmp_path / "rows.gz"
    path.write_bytes(gzip.compress(b'{"a": 1}\n') + gzip.compress(b'{"a": 2}\n'))
    assert [raw for _, raw in read_rows(path)] == [b'{"a": 1}', b'{"a": 2}']


@pytest.mark.parametrize("chunk", [1, 3, 1000])
@pytest.mark.parametrize(
    "content, said",
    [
        (b'[{"a": 1}, {"a": ', "row 1: expected valid JSON, found an early end"),
        (b'[{"a": 1}, {"a": "', "row 1: expected valid JSON, found an early end"),
        (b'[{"a": 1}, {"a": 1}', "row 2: expected valid JSON, found an early end"),
        (b'[{"a": 1}, ', "row 1: expected valid JSON, found an early end"),
        (b"[", "row 0: expected valid JSON, found an early end"),
        (b'{"a": 1}\n{"a": ', "row 1: expected valid JSON, found an early end"),
        (b'{"a": ', "row 0: expected valid JSON, found an early end"),
        (b"", "expected a JSON list or JSON lines, found no data"),
        (b" \n ", "expected a JSON list or JSON lines, found no data"),
        (b"\xef\xbb\xbf", "expected a JSON list or JSON lines, found no data"),
        (b"hello", "expected a JSON list or JSON lines, found 'h"),
        (b'"{}"', "expected a JSON list or JSON lines"),
        (b"3", "expected a JSON list or JSON lines, found '3'"),
        (b"\xff\xfe[\x00", "expected a JSON list or JSON lines, found '\\\\xff"),
        (b'[{"a": 1}, 3, {"a": 2}]', "row 1: expected a JSON object, found '3"),
        (b"[1, 2]", "row 0: expected a JSON object, found '1"),
        (b'["{"]', "row 0: expected a JSON object, found '\""),
        (b'[[{"a": 1}]]', "row 0: expected a JSON object, found '['"),
        (b'[{"a": 1},]', "row 1: expected a JSON object, found ']'"),
        (b'[, {"a": 1}]', "row 0: expected a JSON object, found ','"),
        (b'[{"a": 1},, {"a": 1}]', "row 1: expected a JSON object, found ','"),
        (b'[{"a": 1} {"a": 1}]', "row 1: expected a comma between two objects, found none"),
        (b'[{"a": 1}}, {"a": 1}]', "row 1: expected a JSON object, found '}"),
        (b'[{"a": 1}] x', "expected nothing behind the list, found 'x'"),
        (b'[{"a": 1}]\n[{"a": 1}]', "expected nothing behind the list, found '['"),
        (b'[{"a": 1}] {"a": 1}', "expected nothing behind the list, found an object"),
    ],
)
def test_damaged_files_are_named(tmp_path, content, said, chunk):
    path = tmp_path / "rows.json"
    path.write_bytes(content)
    assert refused(path, chunk).startswith(said)


@pytest.mark.parametrize(
    "text, said",
    [
        ('[{"a": 1},{"a": 2},,{"a": 3}]', "row 2: expected a JSON object, found ','"),
        ('[{"a": 1}, {"a": 2} {"a": 3}]', "row 2: expected a comma between two objects, found none"),
    ],
)
def test_a_gap_is_judged_as_a_whole_wherever_a_chunk_ends(tmp_path, text, said):
    path = write(tmp_path, text)
    for chunk in range(1, len(text) + 1):
        assert refused(path, chunk) == said


def test_rows_before_the_damage_are_given_out(tmp_path):
    blocks = iter_blocks([write(tmp_path, '[{"a": 1}, {"a": 2}, 3]')], 1)
    assert [list(block_rows(next(blocks))) for _ in range(2)] == [[(0, b'{"a": 1}')], [(1, b'{"a": 2}')]]
    with pytest.raises(RecordError, match="row 2"):
        next(blocks)


@pytest.mark.parametrize(
    "text, rows",
    [
        ('[{"a": nan}, {\'a\': 1}, {"a": 1,}, {"a" {}}]', 4),
        ('{"a": nan}\n{\'a\': "it\'s\n{"a": \nhello\n{"a": 1}\n', 5),
    ],
    ids=["list", "lines"],
)
def test_a_bounded_row_that_is_no_json_is_that_rows_own_trouble(tmp_path, text, rows):
    """In lines, damage ends with the line; in a list, it must leave quotes and braces in pairs."""
    found = list(read_rows(write(tmp_path, text)))
    assert [index for index, _ in found] == list(range(rows))
    for index, raw in found[: rows - 1]:
        with pytest.raises(RecordError, match=rf"a\.json: row {index}: expected valid JSON, found "):
            parse_record(raw, "a.json", index)


def test_damaged_gzip_is_named(tmp_path):
    whole = gzip.compress(os.urandom(3000).hex().join(['[{"a": "', '"}]']).encode())
    path = tmp_path / "rows.gz"
    broken = bytearray(whole)
    broken[len(whole) // 2] ^= 255
    for data in (whole[:40], whole[:-4], bytes(broken), whole + b"more", whole[:2]):
        path.write_bytes(data)
        assert "gzip" in refused(path) or "no data" in refused(path)


@pytest.mark.parametrize("text", ['[{"a": "%s', '{"0": {"a": "%s"}, "1": {}}'])
def test_a_row_without_an_end_is_not_read_to_the_end(tmp_path, monkeypatch, text):
    monkeypatch.setattr(json_stream, "MAX_ROW", 1 << 20)
    path = write(tmp_path, text % ("x" * (1 << 21)))
    assert refused(path, 1000).startswith("row 0: expected a row of at most 1 MiB")


def test_a_file_that_is_not_there_or_is_a_folder(tmp_path):
    assert refused(tmp_path / "none.json") == "expected a readable file, found No such file or directory"
    assert refused(tmp_path) == "expected a readable file, found Is a directory"


def test_a_file_that_shrank_since_its_rows_were_found(tmp_path):
    path = write(tmp_path, '[{"a": 1}, {"a": 2}]')
    (block,) = iter_blocks([path], 9)
    path.write_text("[")
    with pytest.raises(RecordError, match="row 0: expected the file as it was"):
        list(block_rows(block))


ROW = '{"qa_type": "tal", "conversations": [{"from": "human", "value": "x"}]}'


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ('{"data": [' + ROW + "]}", "'data'"),
        ('{"data": [' + ROW + ", " + ROW + "]}\n", "'data'"),
        ('{\n "annotations": [\n' + ROW + "\n]}", "'annotations'"),
        ('{\n "info": {"version": 1},\n "data": [' + ROW + "]}", ""),
        (json.dumps(json.loads(ROW), indent=1), ""),
    ],
)
def test_an_object_around_the_rows_is_named(tmp_path, text, name):
    with pytest.raises(RecordError, match="one object over the whole file") as caught:
        list(read_rows(write(tmp_path, text)))
    assert name in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("first", ["conversations", "struc_info"])
def test_a_row_may_begin_with_a_list_of_objects(tmp_path, first):
    text = json.dumps({first: [{"a": 1}]})
    assert [raw.decode() for _, raw in read_rows(write(tmp_path, f"{text}\n{text}"))] == [text, text]


def test_a_pipe_is_named_and_not_waited_for(tmp_path, capsys):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(RecordError, match="a pipe or a device"):
        list(read_rows(pipe))
    run = ["--annotations", str(pipe), "--frames-root", str(tmp_path), "--output", str(tmp_path / "out")]
    for command in (["inspect", str(pipe)], ["leaks", str(pipe)], run):
        assert main(command) == 2
        said = capsys.readouterr().err
        assert f"{pipe}: expected a file that can be read twice, found a pipe" in said and said.count("\n") == 1

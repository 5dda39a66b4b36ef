# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""The look of every command: errors in one line, exit statuses, tables."""

import argparse
import subprocess
import sys
from pathlib import Path

import pytest

from recipes.medgrpo.files import InputError
from recipes.medgrpo.terminal import Parser, command, fields, real, table, whole
from reward_score.errors import BadStatistics

ROOT = Path(__file__).resolve().parents[2]


def started(error: BaseException | None) -> int:
    """The exit status of a command that raises."""

    @command("plan")
    def main(argv=None):
        if error is not None:
            raise error

    return main([])


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (InputError("a.json: row 3:\n no answer"), "plan: error: a.json: row 3: no answer"),
        (BadStatistics("s.json: p50: expected a number"), "plan: error: s.json: p50: expected a number"),
        (FileNotFoundError(2, "No such file or directory", "a.json"), "plan: error: a.json: No such file or directory"),
        (ConnectionError("no server at 10.0.0.1"), "plan: error: no server at 10.0.0.1"),
    ],
)
def test_what_is_wrong_outside_of_the_code_is_one_line(error, line, capsys):
    assert started(error) == 2
    assert capsys.readouterr().err == line + "\n"


def test_an_interrupt_gives_130_and_a_closed_pipe_silence(capsys):
    assert started(None) == 0
    assert started(KeyboardInterrupt()) == 130
    assert capsys.readouterr().err == "plan: interrupted\n"


def test_a_mistake_in_the_code_keeps_its_traceback():
    for error in (ValueError("x"), KeyError("x"), RuntimeError("x")):
        with pytest.raises(type(error)):
            started(error)


def test_a_reader_that_has_seen_enough_ends_a_command_in_silence():
    code = (
        "import sys; from recipes.medgrpo.terminal import command\n"
        "@command('plan')\n"
        "def main(argv=None):\n"
        "    for _ in range(100_000): print('x' * 80)\n"
        "sys.exit(main([]))"
    )
    shell = f'{sys.executable} -c "$CODE" | head -1; echo ${{PIPESTATUS[0]}}'
    done = subprocess.run(["bash", "-c", shell], cwd=ROOT, env={"CODE": code}, capture_output=True, text=True)
    assert done.stdout.splitlines() == ["x" * 80, "0"] and done.stderr == ""


def test_a_wrong_argument_is_one_line_that_names_the_command(capsys):
    parser = Parser("evaluate", "What it does.")
    parser.add_subparsers(required=True).add_parser("score").add_argument("--rows", type=whole(1), help="rows")
    with pytest.raises(SystemExit) as caught:
        parser.parse_args(["score", "--rows", "0"])
    assert caught.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("evaluate score: error: argument --rows: expected a whole number from 1, got '0'")
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        (whole(0), ["0", "7"], ["-1", "1.5", "x", "inf"]),
        (whole(1, 9), ["1", "9"], ["0", "10"]),
        (real(0), ["0", "1e-3"], ["-1", "nan", "inf", "x"]),
        (real(0, 1, above=True), ["0.5", "1"], ["0", "1.1"]),
    ],
)
def test_numbers_are_taken_within_their_bounds(kind, good, bad):
    assert [kind(text) for text in good] == [float(text) for text in good]
    for text in bad:
        with pytest.raises(argparse.ArgumentTypeError, match="expected a"):
            kind(text)


def test_a_table_reads_on_a_terminal_and_as_markdown():
    said = table(["pair", "rows", "acc", "why"], [["AVOS/tal", 1200, 0.5, "a|b\nc"], ["mean", None, 0.25, "-"]])
    assert said.splitlines() == [
        "| pair     |  rows |   acc | why    |",
        "|----------|------:|------:|--------|",
        "| AVOS/tal | 1,200 | 0.500 | a\\|b c |",
        "| mean     |     - | 0.250 | -      |",
    ]
    assert table(["a", "b"], []).count("\n") == 1
    assert fields({"steps": 12, "judge": "offline"}) == "steps  12\njudge  offline"

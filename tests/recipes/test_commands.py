# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""The one way in: the list of commands, and how one of them is started."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from recipes.medgrpo.__main__ import COMMANDS, FORMER, first_sentence, main, modules

ROOT = Path(__file__).resolve().parents[2]


def test_the_list_names_every_command_with_what_its_module_says(capsys):
    assert main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    for stage, commands in COMMANDS.items():
        assert stage in lines
        for name, module in commands.items():
            (line,) = [line for line in lines if line.split()[:1] == [name]]
            assert line.endswith(first_sentence(module)) and len(line) <= 120


def test_the_list_imports_no_library():
    code = "import sys; before = set(sys.modules); from recipes.medgrpo.__main__ import main; main([]); "
    code += "print({name.partition('.')[0] for name in set(sys.modules) - before} - sys.stdlib_module_names)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "{'recipes'}"


def test_every_module_with_a_main_is_in_the_list():
    files = [*(ROOT / "recipes").rglob("*.py"), ROOT / "data_preprocess/synthetic.py"]
    starts = {file for file in files if 'if __name__ == "__main__"' in file.read_text(encoding="utf-8")}
    starts.remove(ROOT / "recipes/medgrpo/__main__.py")
    listed = {ROOT / (module.replace(".", "/") + ".py") for module in modules().values()}
    assert starts <= listed
    for file in listed:
        functions = [node.name for node in ast.parse(file.read_text(encoding="utf-8")).body if hasattr(node, "name")]
        assert "main" in functions, file


@pytest.mark.parametrize(
    ("typed", "hint"),
    [
        ("evalute", "did you mean 'evaluate'?"),
        ("judge_plan", f"is now called '{FORMER['judge_plan']}'"),
        ("zzz", "python -m recipes.medgrpo lists all commands"),
    ],
)
def test_an_unknown_command_is_one_line_that_helps(typed, hint, capsys):
    assert main([typed]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"medgrpo: error: '{typed}' ") and hint in said and said.count("\n") == 1


@pytest.mark.parametrize("command", ["plan", "judge-cost", "medvidbench"])
def test_a_command_gets_its_arguments_and_names_itself(command):
    done = subprocess.run(
        [sys.executable, "-m", "recipes.medgrpo", command, "--help"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert command.replace("-", "_") in done.stdout.splitlines()[0]

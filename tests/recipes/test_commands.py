# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""The one way in: the list of commands, and how one of them is started."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from recipes.medgrpo import evaluate
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


WRONG = {
    "synthetic": ["--output", "{folder}"],
    "curate": ["CoPESD", "--root", "{file}", "--output", "{folder}/out"],
    "medvidbench": ["--annotations", "{file}", "--frames-root", "{folder}", "--output", "{folder}/out"],
    "tiny_model": ["--family", "qwen2_5_vl", "--text", "{file}", "--output", "{folder}/out"],
    "plan": ["--model", "{folder}"],
    "judge_cost": ["--data", "{file}", "--judge-model", "gpt-4.1"],
    "calibrate": ["--diff", "{file}", "{file}"],
    "summary": ["--run", "{folder}"],
    "report": ["{file}", "--output", "{folder}/out"],
    "watch": ["{file}"],
    "generate": ["--model", "{folder}", "--data", "{folder}/x.parquet", "--output", "{folder}/a.jsonl"],
    "evaluate": ["score", "--results", "{file}", "--output", "{folder}/out"],
    "submission": ["--check", "{file}", "--test", "{file}"],
    "intervene": [
        "--model",
        "{folder}",
        "--recorded",
        "{file}",
        "--data",
        "{folder}/x.parquet",
        "--output",
        "{folder}/out",
    ],
    "skill": ["run", "--features", "{folder}", "--output", "{folder}/out"],
    "ablation": ["--runs", "{folder}", "--output", "{folder}/out"],
    "normalizers": ["--recorded", "{file}", "--output", "{folder}/out"],
    "judge_study": ["agreement", "--ratings", "{file}", "--output", "{folder}/out"],
    "embedding_server": ["--port", "0", "--encoder", "{folder}"],
    "judge": ["cache", "stats", "--store", "{folder}"],
}
"""Arguments of each command that reads files, with an input of the wrong kind: a file that is no JSON and a folder."""


@pytest.mark.parametrize("missing", [False, True], ids=["wrong", "missing"])
@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_input_is_one_line_and_exit_status_2(name, missing, tmp_path, capsys):
    folder, file = tmp_path / "folder", tmp_path / "folder/plan.json"
    if not missing or name == "synthetic":
        folder.mkdir()
        file.write_text("{")
        (folder / "config.json").write_text("{")
    arguments = [word.format(folder=folder, file=file) for word in WRONG[name]]
    try:
        status = main([name, *arguments])
    except SystemExit as stopped:
        status = stopped.code
    said = capsys.readouterr()
    assert status == 2 and said.out == "", said
    assert said.err.startswith(f"{name}: error: ") and said.err.count("\n") == 1
    assert str(tmp_path) in said.err


def test_every_command_that_reads_files_is_given_a_wrong_one():
    # The others need no file that is there, or list everything that is wrong: see their own tests.
    assert set(modules()) - set(WRONG) == {"collapse", "judge_check", "preflight", "run_plan", "step_lines"}


@pytest.mark.parametrize("name", modules())
def test_a_wrong_argument_is_one_line_that_names_the_command(name, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([name, "--no-such-option"])
    said = capsys.readouterr().err
    assert stopped.value.code == 2 and f"{name}: error: " in said.splitlines()[-1]


@pytest.mark.parametrize("name", [name for name, module in modules().items() if module.startswith("recipes.")])
def test_an_interrupt_gives_130(name, monkeypatch, capsys):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("argparse.ArgumentParser.parse_args", interrupted)
    monkeypatch.setattr("argparse.ArgumentParser.parse_known_args", interrupted)
    assert importlib.import_module(modules()[name]).main([]) == 130
    assert capsys.readouterr().err == f"{name}: interrupted\n"


@pytest.mark.parametrize(
    ("former", "now"),
    [
        (["--model", "M", "--data", "d"], "sample --model"),
        (["--data", "d", "--model=M"], "sample --model"),
        (["--results", "a", "--mode", "strict", "--per-record"], "score --results"),
        (["--mode", "leaderboard", "--results=a", "--published"], "score --results"),
        (["--compare", "a", "b", "--tasks", "tal"], "compare A B"),
        (["--tasks", "tal", "--compare", "a", "b"], "compare A B"),
    ],
)
def test_evaluate_names_the_subcommand_of_its_former_flags(former, now, capsys):
    with pytest.raises(SystemExit) as left:
        evaluate.parse([*former, "--output", "o"])
    said = capsys.readouterr().err
    assert left.value.code == 2 and f"expected a subcommand: evaluate {now} ..." in said and said.count("\n") == 1


@pytest.mark.parametrize("name", sorted(set(modules()) - {"embedding_server", "medvidbench"}))
def test_help_comes_without_a_model_library_and_explains_every_option(name):
    code = (
        "import sys; from recipes.medgrpo.__main__ import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit: pass\n"
        "assert not {'torch', 'transformers', 'verl', 'vllm'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, name, "--help"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

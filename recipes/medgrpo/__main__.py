# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""Lists every command of the recipe by stage, and starts one.

    python -m recipes.medgrpo                       # the list
    python -m recipes.medgrpo evaluate --help       # one command; installed: `medgrpo evaluate --help`

Each line of the list is the first sentence of the command's own module. It is read as text, so the list needs no
model library.
"""

from __future__ import annotations

import ast
import difflib
import importlib
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path

COMMANDS: dict[str, dict[str, str]] = {
    "Data": {
        "synthetic": "data_preprocess.synthetic",
        "curate": "data_preprocess.curate",
        "medvidbench": "data_preprocess.medvidbench",
        "tiny_model": "recipes.medgrpo.tiny_model",
    },
    "Before a run": {
        "plan": "recipes.medgrpo.plan",
        "judge_cost": "recipes.medgrpo.planning.judge_cost",
        "judge_check": "recipes.medgrpo.training.judge_check",
        "preflight": "recipes.medgrpo.preflight",
    },
    "Training": {
        "run_plan": "recipes.medgrpo.training.run_plan",
        "calibrate": "recipes.medgrpo.calibrate",
        "intervene": "recipes.medgrpo.intervene",
        "step_lines": "recipes.medgrpo.training.step_lines",
        "summary": "recipes.medgrpo.summary",
        "report": "recipes.medgrpo.report",
        "watch": "recipes.medgrpo.watch",
    },
    "Answers and scores": {
        "generate": "recipes.medgrpo.generate",
        "evaluate": "recipes.medgrpo.evaluate",
        "submission": "recipes.medgrpo.submission",
    },
    "Studies": {
        "ablation": "recipes.medgrpo.studies.ablation.command",
        "normalizers": "recipes.medgrpo.studies.normalizers.command",
        "collapse": "recipes.medgrpo.studies.collapse.command",
        "judge_study": "recipes.medgrpo.studies.judge.command",
        "skill": "recipes.medgrpo.studies.skill.command",
    },
    "Servers and stores": {
        "embedding_server": "reward_score.similarity.server",
        "judge": "reward_score.judge.__main__",
    },
}
"""Commands by the stage of the flow: what a user types, and the module whose `main` it is."""

FORMER = {"judge_plan": "judge_cost", "compare_normalizers": "normalizers", "pictures": "report"}
"""Names that commands had in 0.1."""


def modules() -> dict[str, str]:
    """The module of each command."""
    return {name: module for stage in COMMANDS.values() for name, module in stage.items()}


def first_sentence(module: str) -> str:
    """What a command says of itself: the first sentence of its module's docstring. The module is not imported."""
    room, _, rest = module.partition(".")
    package = importlib.util.find_spec(room)
    if package is None or not package.submodule_search_locations:
        raise ModuleNotFoundError(f"{room}: expected this checkout or the installed package on the path", name=room)
    file = Path(package.submodule_search_locations[0]) / (rest.replace(".", "/") + ".py")
    text = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    paragraph = " ".join(text.partition("\n\n")[0].split())
    return paragraph.partition(". ")[0].rstrip(".")


def listing() -> str:
    """The list of all commands."""
    width = max(map(len, modules()))
    start = "python -m recipes.medgrpo COMMAND"
    lines = [f"usage: {start} [ARGUMENT ...]", f"       {start} --help"]
    for stage, commands in COMMANDS.items():
        lines += ["", stage]
        lines += [f"  {name:<{width}}  {first_sentence(module)}" for name, module in commands.items()]
    return "\n".join(lines)


def unknown(name: str) -> str:
    """The line for a command that does not exist: the nearest one, or where the list is."""
    if name in FORMER:
        return f"'{name}' is now called '{FORMER[name]}'"
    near = difflib.get_close_matches(name, modules(), n=1)
    hint = f"did you mean '{near[0]}'?" if near else "python -m recipes.medgrpo lists all commands"
    return f"'{name}' is not a command: {hint}"


def main(argv: Sequence[str] | None = None) -> int:
    """Starts the command that the first argument names; returns its exit status, 2 for an unknown one."""
    given = list(sys.argv[1:] if argv is None else argv)
    if not given or given[0] in ("-h", "--help", "help"):
        print(listing())
        return 0
    name = given[0].replace("-", "_")
    if name not in modules():
        print(f"medgrpo: error: {unknown(name)}", file=sys.stderr)
        return 2
    return importlib.import_module(modules()[name]).main(given[1:])


if __name__ == "__main__":
    sys.exit(main())

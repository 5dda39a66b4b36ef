# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""Imports go one way, between the rooms and between the modules."""

from __future__ import annotations

import ast
import re
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
RECIPE = "recipes.medgrpo"
# Floors of the recipe. A module imports its own floor and those below it. Modules without a room are commands.
FLOORS = {
    **dict.fromkeys(("files", "terminal", "redaction", "reward_options", "judge_guard", "config"), 0),
    **dict.fromkeys(("answers", "data"), 1),
    **dict.fromkeys(("rollout", "plugin"), 2),
    **dict.fromkeys(("training", "planning", "evaluation"), 3),
    "inference": 4,
    "interventions": 5,
    "studies": 6,
    # What shows a run looks at it with everything else.
    "reporting": 6,
    **dict.fromkeys(("report", "watch"), 7),
}
COMMANDS = 5


@cache
def modules() -> dict[str, Path]:
    found = {}
    for room in ("reward_score", "data_preprocess", "recipes"):
        for file in sorted((ROOT / room).rglob("*.py")):
            parts = file.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return found


def imported(module: str) -> set[str]:
    """The modules of ours that a module names in an import, wherever the import stands in it."""
    file, found = modules()[module], set()
    package = module if file.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *filter(None, [node.module])])
            found |= {name if (name := f"{base}.{alias.name}") in modules() else base for alias in node.names}
    return (found & set(modules())) - {module}


def floor(module: str) -> int:
    room = module.removeprefix(f"{RECIPE}.").split(".")[0]
    return FLOORS.get(room, COMMANDS)


@pytest.mark.parametrize(
    ("room", "others"),
    [("reward_score", ()), ("data_preprocess", ("reward_score",)), ("recipes", ("data_preprocess", "reward_score"))],
)
def test_a_room_imports_only_the_rooms_below_it(room, others):
    inside = [module for module in modules() if module.split(".")[0] == room]
    arrows = {(module, name) for module in inside for name in imported(module)}
    assert {(module, name) for module, name in arrows if name.split(".")[0] not in (room, *others)} == set()


def test_the_rooms_of_the_recipe_stand_on_floors():
    recipe = [module for module in modules() if module.startswith(f"{RECIPE}.")]
    up = {
        (module, name)
        for module in recipe
        for name in imported(module)
        if name.startswith(f"{RECIPE}.") and floor(name) > floor(module)
    }
    assert up == set()


def test_no_modules_import_each_other_in_a_circle():
    try:
        list(TopologicalSorter({module: imported(module) for module in modules()}).static_order())
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_no_pattern_is_one_that_some_pythons_read_wrongly():
    """A possessive group, `(...)*+`, is matched wrongly by Python before 3.11.5, which Debian 12 has (gh-106052)."""
    found = {
        f"{file.relative_to(ROOT)}:{number}"
        for file in modules().values()
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1)
        if not line.lstrip().startswith("#") and re.search(r"[^(\\]\)(?:[?*+]|\{[0-9,]+\})\+", line)
    }
    assert found == set()

# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The two trees that go upstream: complete, equal every time, and at work without this checkout."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "upstream"))

import lay_out  # noqa: E402
from overlay import clean_environment, overlay  # noqa: E402
from places import leftovers, place, places, rewrite  # noqa: E402

# Of the CPU tests those that take seconds together: no training, no server, no model.
RECIPE_TESTS = (
    "training/test_advantages training/test_checkpoints training/test_stopping data/test_schedule test_files "
    "evaluation/test_comparison evaluation/test_inputs evaluation/test_strict test_reward_options test_submission"
)
VERL_TESTS = (
    "reward_score/test_answers reward_score/test_boxes reward_score/test_compute_score reward_score/test_judge_prompts "
    "reward_score/test_normalization reward_score/test_statistics data_preprocess/test_geometry "
    "data_preprocess/test_annotations data_preprocess/test_timeline"
)
RECIPE_PACKAGE = "recipe.medgrpo"
VERL_PACKAGES = ("verl.utils.reward_score.medgrpo", "verl.utils.medvidbench")

# A pytest plugin: what the tests imported, by name, as a JSON file.
WITNESS = """
import json, os, sys

def pytest_sessionfinish():
    files = {name: getattr(module, "__file__", None) for name, module in list(sys.modules.items())}
    with open(os.environ["WITNESS_FILE"], "w") as file:
        json.dump({name: path for name, path in files.items() if path}, file)
"""


@pytest.fixture(scope="module")
def trees(tmp_path_factory) -> Path:
    """The laid-out trees, made by the command."""
    out = tmp_path_factory.mktemp("upstream") / "out"
    command = [sys.executable, str(ROOT / "upstream/lay_out.py"), str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return out


@pytest.fixture(scope="module")
def checkout(trees, tmp_path_factory) -> Path:
    """A verl checkout as it would be: the installed verl with our files, and verl-recipe as its `recipe` folder."""
    root = tmp_path_factory.mktemp("verl_checkout") / "verl"
    for folder in ("examples", "tests"):
        shutil.copytree(trees / "verl" / folder, root / folder)
    shutil.copytree(trees / "verl-recipe", root / "recipe")
    installed = Path(importlib.util.find_spec("verl").submodule_search_locations[0])
    overlay(installed, trees / "verl/verl", root / "verl")
    return root


def run(checkout: Path, *command: str, **variables: str) -> subprocess.CompletedProcess:
    """A command in the verl checkout, with an environment that knows nothing of this one."""
    environment = clean_environment(checkout, **{"VERL_PLATFORM": "cpu", **variables})
    return subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True, check=False)


def run_tests(checkout: Path, folder: str, names: str, tmp_path: Path) -> dict[str, Path]:
    """Run tests of the checkout; returns where each module that they imported lies."""
    (tmp_path / "witness.py").write_text(WITNESS)
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-p", "witness"]
    command.append("--hypothesis-profile=ci")  # the checkout's own configuration is verl's
    paths = {"PYTHONPATH": f"{checkout}{os.pathsep}{tmp_path}", "WITNESS_FILE": str(tmp_path / "modules.json")}
    done = run(checkout, *command, *(f"{folder}/{name}.py" for name in names.split()), **paths)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    assert re.search(r"\b[1-9]\d* passed", done.stdout), done.stdout[-500:]
    return {name: Path(path) for name, path in json.loads((tmp_path / "modules.json").read_text()).items()}


def test_every_file_of_the_rooms_has_a_place(trees):
    """No module, configuration, script or test is forgotten: only what belongs to this checkout alone stays behind."""
    behind = {path for path in lay_out.sources(ROOT) if not places(path)}
    stays = ("tests/packaging/", "tests/run.sh", "examples/lib/environment.sh", "examples/docker/")
    stays += ("tests/recipes/test_docker.py", "tests/recipes/test_submission_entry.py")
    assert all(path.startswith(stays) for path in behind), behind
    for path in lay_out.sources(ROOT):
        assert all(lay_out.tree_file(trees, theirs).is_file() for theirs in places(path)), path
    for file in trees.rglob("*.txt"):
        assert leftovers(file.read_text(encoding="utf-8")) == [], file
    for path in (
        "verl/verl/utils/reward_score/medgrpo/medgrpo.py",
        "verl/examples/data_preprocess/medvidbench.py",
        "verl-recipe/medgrpo/README.md",
        "verl-recipe/medgrpo/run_medgrpo_qwen3_vl_4b.sh",
        "verl-recipe/medgrpo/run_medgrpo_qwen3_5_4b.sh",
        "verl-recipe/medgrpo/lib/environment.sh",
        "verl-recipe/medgrpo/config/medgrpo_gpu.yaml",
    ):
        assert (trees / path).is_file(), path


def test_equal_sources_give_equal_bytes(tmp_path):
    for room in ("reward_score/leaderboard", "examples", "docs"):
        if (ROOT / room).is_dir():
            shutil.copytree(ROOT / room, tmp_path / "checkout" / room)
    shutil.copy(ROOT / "pyproject.toml", tmp_path / "checkout")
    contents = []
    for name in ("first", "again"):
        counts = lay_out.lay_out(tmp_path / "checkout", tmp_path / name)
        files = sorted(path for path in (tmp_path / name).rglob("*") if path.is_file())
        assert len(files) == sum(counts.values()) + 1
        contents.append([(str(path.relative_to(tmp_path / name)), path.read_bytes()) for path in files])
    assert contents[0] == contents[1]


def test_only_its_own_work_is_replaced(tmp_path):
    """A folder with anything else in it is left as it is, and so is a made one when the new trees have a problem."""
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(lay_out.LayOutError, match="holds something that this command did not make"):
        lay_out.lay_out(ROOT, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]

    checkout, out = tmp_path / "checkout", tmp_path / "out"
    (checkout / "reward_score").mkdir(parents=True)
    shutil.copy(ROOT / "pyproject.toml", checkout)
    module = checkout / "reward_score/answers.py"
    module.write_text((ROOT / "reward_score/__init__.py").read_text())
    lay_out.lay_out(checkout, out)
    made = (out / "verl/verl/utils/reward_score/medgrpo/answers.py").read_bytes()
    module.write_text("import os\n\nprint(undefined)\n")
    with pytest.raises(lay_out.LayOutError) as caught:
        lay_out.lay_out(checkout, out)
    assert "answers.py: no licence header" in str(caught.value)
    assert "F401" in str(caught.value) and "F821" in str(caught.value)
    assert (out / "verl/verl/utils/reward_score/medgrpo/answers.py").read_bytes() == made
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkout", "out", "thesis.txt"]


@pytest.mark.parametrize(
    ("ours", "before", "after"),
    [
        (
            "recipes/medgrpo/data/rows.py",
            "from data_preprocess import timeline\nfrom reward_score.errors import SettingError\nimport reward_score\n",
            "from verl.utils.medvidbench import timeline\n"
            "from verl.utils.reward_score.medgrpo.errors import SettingError\n"
            "import verl.utils.reward_score.medgrpo as reward_score\n",
        ),
        (
            "recipes/medgrpo/config/base.yaml",
            "path: pkg://reward_score.medgrpo",
            "path: pkg://verl.utils.reward_score.medgrpo.medgrpo",
        ),
        (
            "recipes/medgrpo/config/base.yaml",
            "path: pkg://recipes.medgrpo.data.dataset",
            "path: pkg://recipe.medgrpo.data.dataset",
        ),
        ("examples/a.sh", "python -m recipes.medgrpo plan", "python -m recipe.medgrpo plan"),
        (
            "examples/a.sh",
            "python -m reward_score.judge cache",
            "python -m verl.utils.reward_score.medgrpo.judge cache",
        ),
        (
            "examples/a.sh",
            'ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)\nsource "$ROOT/examples/lib/recipe.sh"',
            'ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)\nsource "$ROOT/recipe/medgrpo/lib/recipe.sh"',
        ),
        (
            "examples/a.sh",
            'python "$ROOT/data_preprocess/medvidbench.py"',
            'python "$ROOT/examples/data_preprocess/medvidbench.py"',
        ),
        (
            "examples/a.sh",
            'python "$ROOT/data_preprocess/synthetic.py"',
            'python "$ROOT/verl/utils/medvidbench/synthetic.py"',
        ),
        ("recipes/medgrpo/a.py", 'ROOT / "constraints" / "gpu.txt"', 'ROOT / "recipe/medgrpo/constraints" / "gpu.txt"'),
        # The root is farther away from a test of verl's, as far from the recipe's modules; `tests` itself moves along.
        ("tests/reward_score/test_a.py", "Path(__file__).resolve().parents[2]", "Path(__file__).resolve().parents[4]"),
        ("tests/reward_score/test_a.py", "Path(__file__).resolve().parents[1]", "Path(__file__).resolve().parents[1]"),
        ("recipes/medgrpo/files.py", "Path(__file__).resolve().parents[2]", "Path(__file__).resolve().parents[2]"),
        (
            "data_preprocess/synthetic.py",
            "Path(__file__).resolve().parent.parent",
            "Path(__file__).resolve().parents[3]",
        ),
        (
            "data_preprocess/a.py",
            'Path(__file__).resolve().parents[1] / "reward_score"',
            'Path(__file__).resolve().parents[3] / "verl/utils/reward_score/medgrpo"',
        ),
        ("tests/reward_score/test_a.py", 'str(ROOT / "tests")', 'str(ROOT / "tests/utils/medgrpo")'),
        ("tests/recipes/test_a.py", 'str(ROOT / "tests")', 'str(ROOT / "recipe/medgrpo/tests")'),
        # Links lead to the same file; one that stays behind is no link any more.
        (
            "recipes/medgrpo/README.md",
            "See [the judge](../../reward_score/judge/README.md#cache) and [the start](../../README.md).",
            "See [the judge](../../verl/utils/reward_score/medgrpo/judge/README.md#cache) and the start.",
        ),
        (
            "reward_score/README.md",
            "[`tests/reward_score/test_hacks.py`](../tests/reward_score/test_hacks.py)",
            "[`tests/utils/medgrpo/reward_score/test_hacks_on_cpu.py`]"
            "(../../../../tests/utils/medgrpo/reward_score/test_hacks_on_cpu.py)",
        ),
        # Words are no names.
        ("recipes/medgrpo/a.py", "reward_score=output.reward_score.item()", "reward_score=output.reward_score.item()"),
        (
            "recipes/medgrpo/a.py",
            "# the recipes, reward_score and data_preprocess",
            "# the recipes, reward_score and data_preprocess",
        ),
    ],
)
def test_names_and_ways_are_rewritten(ours, before, after):
    assert rewrite(before, ours, place(ours)) == after
    assert leftovers(after) == []


def test_a_name_that_is_left_is_found():
    text = "fine\npath: pkg://data_preprocess.rows\nfrom reward_score import tasks\nbash examples/run_a.sh\n"
    assert leftovers(text) == [(2, "pkg://data_preprocess"), (3, "from reward_score"), (4, "examples/run_")]


def test_the_pin_is_in_the_form_that_verl_recipe_installs(trees):
    lines = (trees / "verl-recipe/medgrpo/REQUIRED_VERL.txt").read_text().splitlines()
    fields = dict(line.split("=", 1) for line in lines if not line.startswith("#"))
    assert fields["MODE"] == "pinned_tag"
    assert fields["UPSTREAM"] == "https://github.com/verl-project/verl.git"
    assert (fields["TAG"], fields["PIP_INSTALL"]) == ("v0.9.1", "pip install verl==0.9.1")
    assert "verl==0.9.1" in (ROOT / "pyproject.toml").read_text()
    assert "verl" not in re.findall(r"^[\w-]+", (trees / "verl-recipe/medgrpo/requirements.txt").read_text(), re.M)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("folder", "names", "packages"),
    [
        ("recipe/medgrpo/tests/recipes", RECIPE_TESTS, (RECIPE_PACKAGE, *VERL_PACKAGES)),
        ("tests/utils/medgrpo", " ".join(f"{name}_on_cpu" for name in VERL_TESTS.split()), VERL_PACKAGES),
    ],
    ids=["verl-recipe", "verl"],
)
def test_the_cpu_tests_pass_from_the_trees_alone(checkout, tmp_path, folder, names, packages):
    modules = run_tests(checkout, folder, names, tmp_path)
    assert [
        str(path) for path in modules.values() if ROOT / "tests" in path.parents or path.parent.parent == ROOT
    ] == []
    assert not {"recipes", "reward_score", "data_preprocess"} & {name.split(".")[0] for name in modules}
    for package in packages:
        found = {path for name, path in modules.items() if name == package or name.startswith(package + ".")}
        assert found and all(path.is_relative_to(checkout) for path in found), package


@pytest.mark.slow
def test_a_run_script_composes_from_the_trees_alone(checkout):
    script = "recipe/medgrpo/run_medgrpo_qwen3_vl_4b.sh"
    done = run(checkout, "bash", script, "--cfg", "job", "--resolve")
    assert done.returncode == 0, done.stderr[-3000:]
    assert "path: pkg://recipe.medgrpo.data.dataset" in done.stdout
    assert "path: pkg://verl.utils.reward_score.medgrpo.medgrpo" in done.stdout
    assert "adv_estimator: grpo" in done.stdout and str(ROOT / "recipes") not in done.stdout + done.stderr


def test_verls_example_is_the_preprocessors_command(checkout):
    done = run(checkout, sys.executable, "examples/data_preprocess/medvidbench.py", "--annotations", "missing.json")
    assert done.returncode == 2 and "medvidbench: error:" in done.stderr, done.stderr

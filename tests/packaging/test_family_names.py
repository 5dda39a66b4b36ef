# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""No code but a model family's own, its recipes and published tables names a family."""

import io
import re
import subprocess
import sys
import tokenize
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NAMED = re.compile(r"qwen-?_?(2[._]5|3)", re.IGNORECASE)

# Where a family's own code and data stand, and what is published of models.
OWN = {
    "reward_score/conventions.py",
    "recipes/medgrpo/data/families.py",
    "recipes/medgrpo/data/packing.py",
    "recipes/medgrpo/data/positions.py",
    "recipes/medgrpo/rollout/vllm_times.py",
    "recipes/medgrpo/evaluation/published.py",
    "recipes/medgrpo/studies/ablation/variants.py",
    # The default, in one place for all scripts.
    "examples/lib/commands.sh",
    # One family's smallest model, on one card, and its recipe beside a judge.
    "examples/run_gpu_check.sh",
    "examples/docker/compose.yaml",
}
RECIPES = re.compile(r"examples/run_(sft|medgrpo)_\w+\.sh")


def product_files():
    kept = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    # A copy without git has no caches yet that hold code.
    names = kept.stdout.splitlines() if kept.returncode == 0 else [str(f.relative_to(ROOT)) for f in ROOT.rglob("*")]
    for name in names:
        # The fixes are code of other projects.
        if name.startswith(("tests/", ".venv/", "docs/", "upstream/fixes/")) or name in OWN or RECIPES.fullmatch(name):
            continue
        if Path(name).suffix in (".py", ".sh", ".yaml", ".sbatch") and (ROOT / name).is_file():
            yield name


def code_lines(name):
    """(line number, text) of everything but comments and docstrings."""
    text = (ROOT / name).read_text(encoding="utf-8")
    if not name.endswith(".py"):
        for number, line in enumerate(text.splitlines(), 1):
            yield number, re.sub(r"(^|\s)#.*", "", line)
        return
    alone = True  # whether a string that comes now is a statement of its own
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            continue
        if token.type in (tokenize.NEWLINE, tokenize.NL, tokenize.INDENT, tokenize.DEDENT):
            alone = True
            continue
        if not (token.type == tokenize.STRING and alone):
            yield token.start[0], token.string
        alone = False


def test_no_code_but_a_familys_own_names_one():
    assert {"recipes/medgrpo/plan.py", "examples/run_medgrpo.sh", "data_preprocess/options.py"} <= set(product_files())
    lines = ((name, *line) for name in product_files() for line in code_lines(name))
    found = [f"{name}:{number}: {text}" for name, number, text in lines if NAMED.search(text)]
    # An example in a help text names a model.
    assert [line for line in found if "or a built-in name" not in line] == []


def test_the_search_sees_a_branch_and_no_prose(tmp_path, monkeypatch):
    (tmp_path / "a.py").write_text('"""For qwen3_vl."""\nif family == "qwen3_vl":  # Qwen3-VL\n    pass\n')
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    assert [number for number, text in code_lines("a.py") if NAMED.search(text)] == [2]

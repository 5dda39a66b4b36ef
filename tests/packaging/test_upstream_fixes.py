# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""What verl, transformers and vLLM could take today: every patch applies, and its test needs it.

`python upstream/check_fixes.py` tries each patch alone, and what each issue reproduces.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "upstream"))

import check_fixes  # noqa: E402

PARTS = ("fix.patch", "issue.md", "reproduce.py", "test_fix.py")


def test_every_fix_is_whole_and_in_the_table():
    table = (ROOT / "upstream/README.md").read_text(encoding="utf-8")
    for name in check_fixes.names():
        assert {file.name for file in (check_fixes.FIXES / name).iterdir() if file.is_file()} == set(PARTS), name
        assert len((check_fixes.FIXES / name / "reproduce.py").read_text(encoding="utf-8").splitlines()) < 60, name
        assert f"(fixes/{name}/issue.md)" in table, name


def test_what_is_mended_in_process_names_a_fix_that_is_there():
    named = set()
    for file in (ROOT / "recipes").rglob("*.py"):
        named |= set(re.findall(r"upstream/fixes/(\w+)", file.read_text(encoding="utf-8")))
    assert named and named <= set(check_fixes.names())


@pytest.fixture(scope="module")
def as_installed() -> dict[str, tuple[int, int]]:
    """(passed, failed) of every fix's test with the packages as they are installed."""
    return check_fixes.run_tests(check_fixes.testable(), fixed=False)[0]


@pytest.mark.slow
@pytest.mark.parametrize("name", check_fixes.names())
def test_its_test_fails_without_the_patch(request, name):
    if name not in check_fixes.testable():
        pytest.skip(f"{check_fixes.package_of(name)} is not installed")
    _, failed = request.getfixturevalue("as_installed")[name]
    assert failed > 0


@pytest.mark.slow
def test_their_tests_pass_with_all_patches():
    """In one copy, so that the patches also fit each other."""
    counts, output = check_fixes.run_tests(check_fixes.testable(), fixed=True)
    assert all(passed > 0 and failed == 0 for passed, failed in counts.values()), output[-6000:]

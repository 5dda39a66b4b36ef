# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""A module is mended right after it was imported, and never imported for that."""

import importlib
import sys

import pytest

from recipes.medgrpo.rollout import after_import as mending


@pytest.fixture
def module(tmp_path, monkeypatch) -> str:
    """The name of a module that can be imported, `word` in it."""
    name = "a_module_to_be_mended"
    (tmp_path / f"{name}.py").write_text("word = 'as it was'\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    monkeypatch.setattr(mending, "_MENDS", {})
    yield name
    sys.modules.pop(name, None)


def add(sign: str):
    def mend(module):
        module.word += sign

    return mend


def test_a_module_is_mended_when_it_is_imported_and_not_before(module):
    mending.after_import(module, add("!"))
    assert module not in sys.modules
    assert importlib.import_module(module).word == "as it was!"


def test_a_module_that_is_there_is_mended_at_once_and_only_once(module):
    there = importlib.import_module(module)
    mend = add("!")
    for _ in range(2):
        mending.after_import(module, mend)
    assert there.word == "as it was!"


def test_several_mends_are_applied_in_their_order_also_to_a_module_that_is_loaded_anew(module):
    for sign in "?!":
        mending.after_import(module, add(sign))
    assert importlib.import_module(module).word == "as it was?!"
    del sys.modules[module]
    assert importlib.import_module(module).word == "as it was?!"


def test_other_modules_are_found_as_ever(module):
    mending.after_import(module, add("!"))
    assert importlib.util.find_spec("json").loader.__class__.__name__ == "SourceFileLoader"
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module(f"{module}_of_another_name")

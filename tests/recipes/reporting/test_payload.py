# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""Data as scripts: nothing in them runs, and numbers are short."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recipes.medgrpo.reporting.payload import as_json, plain, script

HOSTILE = '</script><script>alert(1)</script><!-- & \u2028\u2029 \u202eabc "quoted" \\ \x00 \ud800'


def test_no_text_can_end_the_script_and_each_comes_back():
    text = as_json({"text": HOSTILE})
    assert text.isascii() and not set("<>&") & set(text)
    assert json.loads(text) == {"text": HOSTILE}


@given(st.text())
def test_any_text_comes_back(text):
    assert json.loads(as_json([text, {text: 1}])) == [text, {text: 1}]


def test_a_script_is_one_call():
    assert script("rows_r0_0", "[1]") == 'medgrpo.put("rows_r0_0",[1]);\n'


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.123456789, "0.123457"), (1.0, "1"), (123456789.0, "123457000"), (math.nan, "null"), (-math.inf, "null")],
)
def test_numbers_have_six_digits(value, shown):
    assert as_json(value) == shown and as_json(np.array([value])) == f"[{shown}]"


def test_columns_and_tables_become_lists():
    assert plain({"a": np.array([1, 2]), "b": (np.array([[0.5, np.nan]]), np.int64(3))}) == {
        "a": [1, 2],
        "b": [[[0.5, None]], 3],
    }

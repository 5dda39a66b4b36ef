# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The judge's prompt files, how they are filled, and what is taken out of texts first."""

import hashlib
import re
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reward_score.judge import DIMENSIONS
from reward_score.judge.prompting import KINDS, PROMPT_FOLDER, clean, load_prompt, messages, new_nonce, response_format

NONCE = "0123456789abcdef"
OWN = """version: own-v3
=== system ===
Compare a {{kind}}: terminology instruments_anatomy specificity procedure_context action_state.
The marked lines carry the code {{nonce}}.
=== user ===
[{{nonce}} REFERENCE BEGINS]
{{reference}}
[{{nonce}} REFERENCE ENDS]
[{{nonce}} CANDIDATE BEGINS]
{{candidate}}
[{{nonce}} CANDIDATE ENDS]
=== kind other ===
medical text
"""


def filled(prompt, **changes):
    texts = {"nonce": NONCE, "candidate": "the candidate", "reference": "the reference", "task": "vs", "question": None}
    return [message["content"] for message in messages(prompt, **{**texts, **changes})]


@pytest.mark.parametrize(("name", "version"), [("comparative", "comparative-v2"), ("rubric", "rubric-v1")])
def test_shipped_prompts(name, version):
    prompt = load_prompt(name)
    assert prompt.version == version
    assert prompt.digest == hashlib.sha256((PROMPT_FOLDER / f"{name}.txt").read_bytes()).hexdigest()
    assert set(prompt.kinds) == {*KINDS, "other"}
    for dimension in DIMENSIONS:
        anchors = re.search(rf"^{dimension} - .*\n((?:[1-5]: .+\n)+)", prompt.system, re.MULTILINE)[1]
        assert re.findall(r"^\d", anchors, re.MULTILINE) == ["5", "4", "3", "2", "1"]
    assert set(response_format()["json_schema"]["schema"]["required"]) == {"nonce", *DIMENSIONS}


@pytest.mark.parametrize("name", ["comparative", "rubric"])
@pytest.mark.parametrize("task", [*KINDS, "nap"])
def test_texts_are_fenced_and_described_by_kind(name, task):
    prompt = load_prompt(name)
    system, user = filled(prompt, task=task, question="What does the hook do?")
    assert f"carry the code {NONCE}." in system
    assert prompt.kinds[task if task in KINDS else "other"] in system
    assert "{{" not in system + user
    assert user.startswith(f"[{NONCE} QUESTION BEGINS]\nWhat does the hook do?\n[{NONCE} QUESTION ENDS]\n")
    assert f"\n[{NONCE} REFERENCE BEGINS]\nthe reference\n[{NONCE} REFERENCE ENDS]\n" in user
    assert f"\n[{NONCE} CANDIDATE BEGINS]\nthe candidate\n[{NONCE} CANDIDATE ENDS]\n" in user


def test_the_same_words_come_first_in_every_request_of_a_kind():
    """Endpoints charge less for a beginning that they have seen: the code of a request comes late."""
    system = filled(load_prompt())[0]
    assert system.index(NONCE) > 0.8 * len(system)


def test_a_blank_question_is_left_out():
    assert "QUESTION" not in filled(load_prompt(), question=" \u200b\n")[1]


def test_texts_are_inserted_in_one_pass():
    braces = "{{reference}} {{nonce}} {{kind}} {0} %s \\1 \\g<0>"
    user = filled(load_prompt(), candidate=braces)[1]
    assert f"CANDIDATE BEGINS]\n{braces}\n[" in user
    assert user.count("the reference") == filled(load_prompt())[1].count("the reference")


def test_a_prompt_of_ones_own_is_named_by_its_path(tmp_path):
    (tmp_path / "own.txt").write_text(OWN.replace("\n", "\r\n"), newline="")
    prompt = load_prompt(str(tmp_path / "own.txt"))
    assert prompt == load_prompt(tmp_path / "own.txt")
    assert (prompt.version, dict(prompt.kinds)) == ("own-v3", {"other": "medical text"})
    system, user = filled(prompt, task="rc")
    assert system.startswith("Compare a medical text:")
    assert user.endswith(f"the candidate\n[{NONCE} CANDIDATE ENDS]")


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("version: own-v3\n", "", "version: NAME"),
        ("version: own-v3", "version: own v3", "version: NAME"),
        ("=== system ===", "=== sytem ===", "section 'sytem': unknown"),
        ("=== kind other ===", "=== kind rx ===", "section 'kind rx': unknown"),
        ("=== kind other ===\nmedical text\n", "", "section 'kind other': is missing"),
        ("medical text", " ", "section 'kind other': is empty"),
        ("medical text", "{{task}}", "{{task}}"),
        ("medical text", "a\n=== kind other ===\nb", "section 'kind other': occurs twice"),
        ("specificity", "precision", "section 'system': expected it to hold 'specificity'"),
        ("code {{nonce}}.", "code.", "section 'system': expected it to hold '{{nonce}}'"),
        ("{{kind}}", "{{reference}}", "section 'system': the placeholder {{reference}}"),
        ("[{{nonce}} CANDIDATE ENDS]", "", "section 'user': expected it to hold"),
        ("[{{nonce}} REFERENCE BEGINS]", "[REFERENCE BEGINS]", "section 'user': expected it to hold"),
        ("[{{nonce}} CANDIDATE ENDS]", "[{{nonce}} CANDIDATE ENDS]\n{{candidate}}", "holds {{candidate}} twice"),
    ],
)
def test_a_wrong_file_is_named_with_its_section(tmp_path, old, new, told):
    path = tmp_path / "own.txt"
    path.write_text(OWN.replace(old, new, 1))
    with pytest.raises(ValueError, match=re.escape(told)) as raised:
        load_prompt(path)
    assert str(path) in str(raised.value)


@pytest.mark.parametrize("name", ["nowhere", "./nowhere.txt", "."])
def test_a_prompt_that_is_not_there(name):
    with pytest.raises(ValueError, match="expected"):
        load_prompt(name)


def test_a_file_that_is_no_text(tmp_path):
    (tmp_path / "own.txt").write_bytes(b"version: a\n\xff")
    with pytest.raises(ValueError, match="UTF-8"):
        load_prompt(tmp_path / "own.txt")


def test_every_nonce_is_new():
    nonces = {new_nonce() for _ in range(1000)}
    assert len(nonces) == 1000
    assert all(re.fullmatch("[0-9a-f]{16}", nonce) for nonce in nonces)


# --- what is taken out of a text --------------------------------------------------------------------------------------


def defined_clean(text: str) -> str:
    """What `clean` means, one character after the other."""
    unseen = {"Cc", "Cf", "Cs", "Co", "Cn"}
    return "".join(c for c in text if c in "\n\t" or unicodedata.category(c) not in unseen).strip()


def test_every_character_alone():
    for start in range(0, 0x110000, 0x100):
        text = "x".join(map(chr, range(start, start + 0x100)))
        assert clean(text) == defined_clean(text), hex(start)


@given(st.text(st.characters(exclude_categories=()), max_size=200))
@settings(max_examples=200, deadline=None)
def test_any_text(text):
    assert clean(text) == defined_clean(text)


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("  The hook\tcuts.\n", "The hook\tcuts."),
        ("gra\u200bsp\u2060er\u202e\U000e0041", "grasper"),
        ("a\x00b\x7f\r\n", "ab"),
        ("lone \ud800 surrogate", "lone  surrogate"),
        ("µm β é 胆囊 \U0001f600", "µm β é 胆囊 \U0001f600"),
        ("\u200b\ufeff \x07", ""),
    ],
)
def test_examples(text, left):
    assert clean(text) == left

# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""What is sent to a judge model: a prompt file, filled once, with both texts fenced by a random nonce.

``prompts/`` holds two: ``comparative`` (how close is the candidate to the reference, the reward's) and ``rubric`` (how
good is the description, for evaluation; its words are ours, the leaderboard's own text is not ours to copy). A file
of one's own in the same form may be named by its path instead:

    version: my-prompt-v1
    === system ===
    ... names the five dimensions, says {{kind}} and {{nonce}}
    === user ===
    ... {{question}}, and the reference and the candidate between their marked lines, as in ``comparative.txt``
    === kind other ===
    ... what the texts describe; likewise ``kind vs``, ``kind rc``, ``kind dvc``, ``kind image``
"""

from __future__ import annotations

import secrets
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

from ..errors import BadSetting
from ..paid_call.prompt_files import PLACEHOLDER, filled, read_prompt_file
from .judgement import DIMENSIONS, HIGHEST, LOWEST

PROMPT_FOLDER = Path(__file__).with_name("prompts")
KINDS = ("vs", "rc", "dvc", "image")
"""The kinds of text a prompt tells apart: three tasks, and a still image. Any other task is `OTHER_KIND`."""
OTHER_KIND = "other"
NONCE_BYTES = 8

_PLACEHOLDERS = {"system": {"nonce", "kind"}, "user": {"nonce", "kind", "question", "reference", "candidate"}}
_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn"})


@dataclass(frozen=True)
class Prompt:
    """A prompt file.

    Attributes:
        version: what the file calls itself; part of the judge's name.
        digest: SHA-256 of the file's bytes, in hex.
        system, user: the two messages, with ``{{placeholders}}``.
        kinds: what the texts describe, by kind; `OTHER_KIND` is always there.
    """

    version: str
    digest: str
    system: str
    user: str
    kinds: Mapping[str, str]


@cache
def load_prompt(name_or_path: str | Path = "comparative") -> Prompt:
    """Read a prompt file: one of ``prompts/`` by its name, or any by its path.

    A file is read once in a process, so that a run judges with one prompt.

    Raises:
        BadSetting: no such file, or a section is missing, unknown, given twice or without a placeholder it needs.
            Names file and section.
    """
    file = read_prompt_file(name_or_path, PROMPT_FOLDER)
    sections = _checked(file.path, file.sections)
    kinds = {name.removeprefix("kind "): text for name, text in sections.items() if name.startswith("kind ")}
    return Prompt(file.version, file.digest, sections["system"], sections["user"], kinds)


def new_nonce() -> str:
    """A code that no answer can know, new for every request."""
    return secrets.token_hex(NONCE_BYTES)


def clean(text: str) -> str:
    """The text without what cannot be seen or sent, stripped.

    Control and format characters (zero-width, direction marks, tags) could hide instructions, and lone surrogates
    cannot be encoded. New lines and tabs stay.
    """
    if text.replace("\n", "").replace("\t", "").isprintable():  # one pass in C, true for nearly every text
        return text.strip()
    return "".join(c for c in text if c in "\n\t" or unicodedata.category(c) not in _UNSEEN).strip()


def messages(
    prompt: Prompt, *, nonce: str, candidate: str, reference: str, task: str, question: str | None
) -> list[dict[str, str]]:
    """Chat messages of one judgement. Texts are inserted in one pass, so braces in them mean nothing.

    Args:
        prompt: what is asked.
        nonce: the code that fences the texts and that the verdict must carry, new for every request.
        candidate, reference: the two texts, `clean` already.
        task: one of `KINDS`; anything else is described as `OTHER_KIND`.
        question: what both texts answer, None or blank to leave it out.
    """
    fenced = ""
    if question and (question := clean(question)):
        fenced = f"[{nonce} QUESTION BEGINS]\n{question}\n[{nonce} QUESTION ENDS]\n"
    values = {
        "nonce": nonce,
        "kind": prompt.kinds.get(task) or prompt.kinds[OTHER_KIND],
        "question": fenced,
        "reference": reference,
        "candidate": candidate,
    }
    return [
        {"role": role, "content": filled(text, values)}
        for role, text in (("system", prompt.system), ("user", prompt.user))
    ]


def response_format() -> dict[str, Any]:
    """The verdict as a strict JSON schema, for endpoints with structured output."""
    scores = {name: {"type": "integer", "enum": list(range(LOWEST, HIGHEST + 1))} for name in DIMENSIONS}
    schema = {
        "type": "object",
        "properties": {"nonce": {"type": "string"}, **scores},
        "required": ["nonce", *DIMENSIONS],
        "additionalProperties": False,
    }
    return {"type": "json_schema", "json_schema": {"name": "verdict", "strict": True, "schema": schema}}


def _checked(path: Path, sections: Sequence[tuple[str, str]]) -> dict[str, str]:
    """The sections by name. Raises BadSetting for the first that would make a prompt without a fence or a sense."""

    def wrong(name: str, expected: str) -> NoReturn:
        raise BadSetting(f"{path}: section '{name}': {expected}")

    placeholders = {**_PLACEHOLDERS, **{f"kind {kind}": set() for kind in (*KINDS, OTHER_KIND)}}
    found: dict[str, str] = {}
    for name, text in sections:
        if name not in placeholders:
            wrong(name, f"unknown, expected one of {', '.join(placeholders)}")
        if name in found:
            wrong(name, "occurs twice")
        if not text:
            wrong(name, "is empty")
        if unfit := [one for one in PLACEHOLDER.findall(text) if one not in placeholders[name]]:
            wrong(name, f"the placeholder {{{{{unfit[0]}}}}} cannot be filled here")
        found[name] = text
    needed = {
        "system": ("{{nonce}}", *DIMENSIONS),
        "user": tuple(
            f"[{{{{nonce}}}} {what.upper()} BEGINS]\n{{{{{what}}}}}\n[{{{{nonce}}}} {what.upper()} ENDS]"
            for what in ("reference", "candidate")
        ),
        f"kind {OTHER_KIND}": (),
    }
    for name, pieces in needed.items():
        if name not in found:
            wrong(name, "is missing")
        for piece in pieces:
            if piece not in found[name]:
                wrong(name, f"expected it to hold {piece!r}")
    for what in ("reference", "candidate"):  # a second place would stand outside of the fence
        if found["user"].count(f"{{{{{what}}}}}") > 1:
            wrong("user", f"holds {{{{{what}}}}} twice")
    return found

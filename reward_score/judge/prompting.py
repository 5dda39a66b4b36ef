# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""What is sent to a judge model: the prompt file, filled once, with both texts fenced by a random nonce."""

from __future__ import annotations

import re
import secrets
import unicodedata
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from .judgement import DIMENSIONS, HIGHEST, LOWEST

PROMPT_FILE = Path(__file__).with_name("prompt.txt")
KINDS = {
    "vs": "a summary of a medical video clip",
    "rc": "a description of what happens inside one marked region of a medical video clip",
    "dvc": "a description of one event of a medical video clip",
}
"""What the two texts are, by task."""
OTHER_KIND = "a description of a medical video clip"
NONCE_BYTES = 8

_PLACEHOLDER = re.compile(r"\{\{(\w+)\}\}")
_SECTIONS = re.compile(r"version: (\S+)\n=== system ===\n(.*)\n=== user ===\n(.*)\Z", re.DOTALL)


@dataclass(frozen=True)
class Prompt:
    """A prompt file: its version and its two messages with ``{{placeholders}}``."""

    version: str
    system: str
    user: str


@cache
def load_prompt(path: Path = PROMPT_FILE) -> Prompt:
    """Read a prompt file. Raises ValueError, naming the file, when a section is missing."""
    match = _SECTIONS.match(path.read_text(encoding="utf-8"))
    if not match:
        raise ValueError(f"{path}: expected a 'version:' line, '=== system ===' and '=== user ==='")
    return Prompt(match[1], match[2].strip(), match[3].strip())


def new_nonce() -> str:
    """A code that no answer can know, new for every request."""
    return secrets.token_hex(NONCE_BYTES)


def clean(text: str) -> str:
    """The text without what cannot be seen or sent, stripped.

    Control and format characters (zero-width, direction marks, tags) could hide instructions, and lone surrogates
    cannot be encoded. New lines and tabs stay.
    """
    kept = (c if c in "\n\t" or unicodedata.category(c) not in {"Cc", "Cf", "Cs", "Co", "Cn"} else "" for c in text)
    return "".join(kept).strip()


def messages(
    prompt: Prompt, *, nonce: str, candidate: str, reference: str, task: str, question: str | None
) -> list[dict[str, str]]:
    """Chat messages of one comparison. Texts are inserted in one pass, so braces in them mean nothing."""
    fenced = ""
    if question and question.strip():
        fenced = f"\n[{nonce} QUESTION BEGINS]\n{clean(question)}\n[{nonce} QUESTION ENDS]\n"
    values = {
        "nonce": nonce,
        "kind": KINDS.get(task, OTHER_KIND),
        "question": fenced,
        "reference": reference,
        "candidate": candidate,
    }
    return [
        {"role": role, "content": _PLACEHOLDER.sub(lambda match: values[match[1]], text)}
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

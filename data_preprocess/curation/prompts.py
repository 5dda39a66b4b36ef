# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The prompts of the models that are asked: files of a system and a user text with known placeholders."""

from __future__ import annotations

from collections.abc import Set
from pathlib import Path

from reward_score.paid_call.prompt_files import PLACEHOLDER, PromptFile, read_prompt_file

SECTIONS = ("system", "user")


class PromptError(ValueError):
    """A prompt file that cannot be used."""


def chat_prompt(name: str, folder: Path, placeholders: Set[str]) -> PromptFile:
    """The prompt of a name, whose placeholders are among those given.

    Raises:
        PromptError: it has other sections or placeholders.
        BadSetting: as `read_prompt_file`.
    """
    file = read_prompt_file(name, folder)
    names = [section for section, _ in file.sections]
    if sorted(names) != sorted(SECTIONS):
        raise PromptError(f"{file.path}: expected the sections system and user, found {', '.join(names) or 'none'}")
    for section, text in file.sections:
        if unknown := set(PLACEHOLDER.findall(text)) - placeholders:
            told = f"section '{section}': the placeholder {{{{{sorted(unknown)[0]}}}}} cannot be filled here"
            raise PromptError(f"{file.path}: {told}")
    return file

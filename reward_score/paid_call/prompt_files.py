# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Prompts as text files: a line ``version: NAME``, then sections, each below its heading ``=== name ===``.

A section may hold ``{{placeholders}}``, which are filled in one pass, so that braces in a text mean nothing.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..errors import BadSetting

PLACEHOLDER = re.compile(r"\{\{(\w+)\}\}")
_HEADING = re.compile(r"^=== (.*?) ===[ \t]*$\n?", re.MULTILINE)
_NAME = re.compile(r"[\w-]+", re.ASCII)
_VERSION = re.compile(r"version: ([\w.-]+)\s*", re.ASCII)


@dataclass(frozen=True)
class PromptFile:
    """A prompt file as it stands: nothing is checked but its form.

    Attributes:
        path: where it is.
        version: what the file calls itself.
        digest: SHA-256 of the file's bytes, in hex.
        sections: (name, text) of each section, stripped, in order.
    """

    path: Path
    version: str
    digest: str
    sections: tuple[tuple[str, str], ...]


def read_prompt_file(name_or_path: str | Path, folder: Path) -> PromptFile:
    """A prompt file: one of ``folder`` by its name, or any by its path.

    Raises:
        BadSetting: no such file, or it does not begin with its version.
    """
    path = Path(name_or_path)
    if isinstance(name_or_path, str) and _NAME.fullmatch(name_or_path):
        path = folder / f"{name_or_path}.txt"
        if not path.is_file():
            names = ", ".join(sorted(file.stem for file in folder.glob("*.txt")))
            raise BadSetting(f"prompt {name_or_path!r}: expected one of {names}, or the path of a file")
    try:
        data = path.read_bytes()
        # Line ends of another system must not change what is asked; the digest is of the bytes as they are.
        text = data.decode("utf-8").replace("\r\n", "\n")
    except (OSError, UnicodeDecodeError) as error:
        raise BadSetting(f"{path}: {type(error).__name__}: expected a prompt file in UTF-8") from None
    head, *parts = _HEADING.split(text)
    version = _VERSION.fullmatch(head)
    if not version:
        raise BadSetting(f"{path}: before the first section: expected the one line 'version: NAME'")
    sections = tuple(zip(parts[::2], (part.strip() for part in parts[1::2]), strict=True))
    return PromptFile(path, version[1], hashlib.sha256(data).hexdigest(), sections)


def filled(text: str, values: Mapping[str, str]) -> str:
    """A section's text with its placeholders filled."""
    return PLACEHOLDER.sub(lambda match: values[match[1]], text).lstrip("\n")

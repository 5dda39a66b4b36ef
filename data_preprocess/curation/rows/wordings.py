# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Questions in words of our own, drawn by a hash of what is asked from `wordings.toml` or a user's file of its form."""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from string import Formatter
from typing import Any

from data_preprocess.annotations import TASKS
from data_preprocess.curation.sources.reading import SourceError
from data_preprocess.geometry import SOURCES

FILE = Path(__file__).with_name("wordings.toml")
WORDED = tuple(task for task in TASKS if task != "qa")
"""The tasks that a file has wordings of. Questions of `qa` are written with their answers."""
FIELDS = ("labels", "options", "target", "start", "end", "stride", "time", "kind", "procedure")
"""Placeholders that a wording may have."""


class Wordings:
    """The wordings of a file.

    Raises:
        SourceError: no TOML, a task or a source without a wording, or an unknown placeholder; the key is named.
    """

    def __init__(self, file: Path = FILE):
        try:
            said = file.read_bytes()
            content = tomllib.loads(said.decode())
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise SourceError(file, "", "a TOML file of wordings", str(error)) from None
        self.digest = hashlib.sha256(said).hexdigest()
        self.roles = _texts(file, "roles", content.get("roles"))
        self.sources = _tables(file, "sources", content.get("sources"), SOURCES)
        self.tasks = _tables(file, "tasks", content.get("tasks"), WORDED)

    def ask(self, task: str, source: str, drawn: int, **fields: object) -> str:
        """A question.

        Args:
            task: one of `WORDED`.
            source: of the clip.
            drawn: any whole number from 0; equal ones give equal wordings.
            fields: what the placeholders of the task's wordings stand for.
        """
        return self._drawn((self.roles, self.sources[source], self.tasks[task]), drawn, fields)

    def about(self, question: str, source: str, drawn: int, **fields: object) -> str:
        """A question that is there, behind a role and the source's sentence; arguments as in `ask`."""
        return f"{self._drawn((self.roles, self.sources[source]), drawn, fields)} {question}"

    @staticmethod
    def _drawn(lists: Sequence[Sequence[str]], drawn: int, fields: Mapping[str, object]) -> str:
        parts = []
        for texts in lists:
            drawn, place = divmod(drawn, len(texts))
            parts.append(texts[place].format_map(fields))
        return " ".join(parts)


@lru_cache(maxsize=4)
def wordings(file: str = "") -> Wordings:
    """The wordings of a file, our own without one; read once."""
    return Wordings(Path(file)) if file else Wordings()


def _tables(file: Path, key: str, value: Any, names: tuple[str, ...]) -> Mapping[str, list[str]]:
    given = value if isinstance(value, dict) else {}
    if lacking := [name for name in names if name not in given]:
        raise SourceError(file, key, f"a list of texts for each of {', '.join(names)}", f"none for {lacking[0]}")
    return {name: _texts(file, f"{key}.{name}", given[name]) for name in names}


def _texts(file: Path, key: str, value: Any) -> list[str]:
    if not isinstance(value, list) or not value or not all(isinstance(text, str) and text.strip() for text in value):
        raise SourceError(file, key, "a list of texts", value)
    for at, text in enumerate(value):
        try:
            named = [name for _, name, _, _ in Formatter().parse(text) if name is not None]
        except ValueError as error:
            raise SourceError(file, f"{key}.{at}", "placeholders in braces", str(error)) from None
        for name in named:
            if name not in FIELDS:
                raise SourceError(file, f"{key}.{at}", f"placeholders of {', '.join(FIELDS)}", f"{{{name}}}")
    return value

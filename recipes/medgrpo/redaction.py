# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""A run in numbers, for an issue: versions, plan, summary and audit without names, paths and texts.

Gated data must not reach a public page. So nothing is left out by name: a text stays only if it is one of the words
that the project itself writes, and everything else becomes a count of characters.
"""

from __future__ import annotations

import platform
import re
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from data_preprocess.annotations import SOURCES, TASKS
from recipes.medgrpo.files import read_json

PACKAGES = ("medgrpo-verl", "verl", "torch", "transformers", "vllm", "ray", "qwen-vl-utils")
FILES = {"plan": "plan.json", "summary": "summary.json", "audit": "data/audit.json"}
# Settings with a closed set of values, which the project's own code writes.
WORDS = frozenset(
    "status model model_family normalizer advantage truth clock timeline outside_clip verify frame_format "
    "system_prompt thin training_judge".split()
)
_WORD = re.compile(r"[a-z][a-z0-9_-]{0,31}")
# A digit makes a video's name of a word, so only the figures that the project names with one may have it.
_KEY = re.compile(r"[a-z][a-z_]{0,47}|p\d\d|sha256|reward_(?:first|last)\d")
_PAIR = re.compile(rf"medvidbench/(?:{'|'.join(map(re.escape, SOURCES))})/(?:{'|'.join(TASKS)})")


def versions() -> dict[str, str | None]:
    """Python and the packages that a run depends on; None where one is not installed."""
    found: dict[str, str | None] = {"python": platform.python_version(), "system": platform.platform()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def redacted(value: Any, key: str = "") -> Any:
    """A JSON value without names and texts. Numbers stay, and so do the words of settings and the 23 pairs.

    Args:
        value: as read from JSON.
        key: the key that it stands under.
    """
    if isinstance(value, Mapping):
        ours = [name for name in value if _KEY.fullmatch(name) or _PAIR.fullmatch(name)]
        named = {name: redacted(value[name], name) for name in ours}
        others = [redacted(one) for name, one in value.items() if name not in named]
        return named | ({"(names removed)": others} if others else {})
    if isinstance(value, list):
        return [redacted(one, key) for one in value]
    if not isinstance(value, str) or value in TASKS or (key in WORDS and _WORD.fullmatch(value)):
        return value
    return f"(text of {len(value)} characters)"


def run_in_numbers(run: Path) -> dict[str, Any]:
    """What a maintainer needs to know of a run; a file that is not there is None.

    Raises:
        OSError, InputError: a file that cannot be read or is not JSON.
    """
    found: dict[str, Any] = {"versions": versions()}
    for name, place in FILES.items():
        file = run / place
        found[name] = redacted(read_json(file)) if file.exists() else None
    return found

# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Next-action labels: when two spellings are the same label.

Labels keep the spelling of the data, mistakes included (``carlot-triangle-dissection``). The lists are those of
``leaderboard/vocabulary.json``, one file for both modes. Here they serve to see that no two labels fold into one: a
right answer is the reference's own label, and whatever else is said, another label of the list or none, is wrong. It
is not moved to the nearest class.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

VOCABULARY = Path(__file__).parent / "leaderboard" / "vocabulary.json"

# Letters and digits of any alphabet are the label; everything between them (hyphens, slashes, brackets) is one gap.
_WORD = re.compile(r"[^\W_]+")


@lru_cache(maxsize=1)
def _vocabulary() -> dict[str, Any]:
    return json.loads(VOCABULARY.read_text(encoding="utf-8"))


@lru_cache(maxsize=1)
def label_lists() -> Mapping[str, Sequence[str]]:
    """Every known list of labels as the data spells them, by name: a source, or ``NurViD: <procedure>``.

    EgoSurgery has no list: its labels are those of its answers.
    """
    vocabulary = _vocabulary()
    procedures = {f"NurViD: {name}": labels for name, labels in vocabulary["procedures"].items()}
    return vocabulary["actions"] | procedures


@lru_cache(maxsize=16)
def aliases(source: str) -> Mapping[str, str]:
    """Other names of a source's labels and the label that each means, both folded."""
    return {_fold(name): _fold(label) for name, label in _vocabulary()["aliases"].get(source, {}).items()}


def _fold(label: str) -> str:
    return " ".join(_WORD.findall(unicodedata.normalize("NFKC", label).casefold()))


@lru_cache(maxsize=4096)
def fold_label(label: str, source: str = "") -> str:
    """One spelling per label: NFKC, case folded, words with single blanks for whatever stood between, aliases."""
    folded = _fold(label)
    return aliases(source).get(folded, folded)


def same_label(predicted: str, gold: str, source: str = "") -> bool:
    """Whether two labels are the same one for a source. A blank label is the same as none."""
    folded = fold_label(predicted, source)
    return bool(folded) and folded == fold_label(gold, source)

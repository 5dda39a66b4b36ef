# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Published results, to print beside one's own: models by the leaderboard's ten columns."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from recipes.medgrpo.files import InputError

TABLE = Path(__file__).with_name("published.json")


class UnknownModel(InputError):
    """A name that the table does not have."""


@cache
def _table() -> dict[str, dict[str, float]]:
    return {row["model"]: row["columns"] for row in json.loads(TABLE.read_text(encoding="utf-8"))["models"]}


def published(names: Sequence[str] | None = None) -> dict[str, dict[str, float]]:
    """By model its columns, keys as in `reward_score.leaderboard.COLUMNS`; a column that is not known is absent.

    Args:
        names: which models, in this order, upper and lower case alike; None for all.

    Raises:
        UnknownModel: a name that is not in the table; the message lists those that are.
    """
    table = _table()
    if names is None:
        return dict(table)
    by_name = {name.lower(): name for name in table}
    for name in names:
        if name.lower() not in by_name:
            raise UnknownModel(f"published results: no model {name!r}: expected some of {', '.join(table)}")
    return {by_name[name.lower()]: table[by_name[name.lower()]] for name in names}

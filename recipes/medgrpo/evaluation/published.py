# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Published results, to print beside one's own: models by the leaderboard's ten columns."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from recipes.medgrpo.files import InputError

TABLE = Path(__file__).with_name("published.json")


def published(names: Sequence[str] | None = None) -> dict[str, dict[str, float]]:
    """By model its columns, keys as in `reward_score.leaderboard.COLUMNS`; a column that is not known is absent.

    Args:
        names: which models, in this order, upper and lower case alike; None for all.

    Raises:
        InputError: a name that is not in the table; the message lists those that are.
    """
    models = json.loads(TABLE.read_text(encoding="utf-8"))["models"]
    known = {row["model"].lower(): row for row in models}
    for name in names or ():
        if name.lower() not in known:
            expected = ", ".join(row["model"] for row in models)
            raise InputError(f"published results: no model {name!r}: expected some of {expected}")
    chosen = models if names is None else [known[name.lower()] for name in names]
    return {row["model"]: row["columns"] for row in chosen}

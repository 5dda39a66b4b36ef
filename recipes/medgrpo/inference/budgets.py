# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""How many tokens an answer may take.

The default is the row's own `extra_info.response_tokens`, which the preprocessor writes from its table by task
(`data_preprocess.chat.RESPONSE_TOKENS`, with the reasons: 256 hold 99.4 % of the box lists and 128 cost a tenth of
the score, spans take 128, one label 32, and dense captions grow with the clip). Rows without it take the table's.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence

from data_preprocess.chat import RESPONSE_TOKENS
from recipes.medgrpo.terminal import whole


def budgets(words: Sequence[str] | None) -> dict[str, int]:
    """`128` for all tasks, or `tal=128 stg=512` for some; what is not named keeps its default.

    Raises:
        argparse.ArgumentTypeError: something else.
    """
    named: dict[str, int] = {}
    for word in words or ():
        task, equals, tokens = word.rpartition("=")
        if equals and task not in RESPONSE_TOKENS:
            raise argparse.ArgumentTypeError(
                f"--max-new-tokens {word}: expected a task of {', '.join(RESPONSE_TOKENS)}, found {task!r}"
            )
        try:
            value = whole(1)(tokens)
        except argparse.ArgumentTypeError as error:
            raise argparse.ArgumentTypeError(f"--max-new-tokens {word}: {error}") from None
        named |= {task: value} if equals else dict.fromkeys(RESPONSE_TOKENS, value)
    return named


def budget_of(row: Mapping, asked: Mapping[str, int]) -> int:
    """The most tokens that the answer to a row of the parquet may take."""
    task = row["ability"]
    return int(asked.get(task) or row["extra_info"].get("response_tokens") or RESPONSE_TOKENS[task])

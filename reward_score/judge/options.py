# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""What a `Judge` is told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..paid_call import options
from ..paid_call.limits import check


@dataclass(frozen=True, kw_only=True)
class Options(options.Options):
    """Arguments of `Judge`: those of every paid call, and its own. Without another one, the key is in
    ``MEDGRPO_JUDGE_API_KEY``, the file named by ``MEDGRPO_JUDGE_API_KEY_FILE``, or ``OPENAI_API_KEY``.

    Attributes:
        prompt: ``comparative``, ``rubric``, or a file of that form.
        max_candidate_chars: what comes after this many characters of a candidate is not judged.
    """

    key_variables: ClassVar[tuple[str, ...]] = (
        *("MEDGRPO_JUDGE_API_KEY", "MEDGRPO_JUDGE_API_KEY_FILE"),
        *options.KEY_VARIABLES,
    )

    prompt: str = "comparative"
    max_candidate_chars: int = 8_000

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self, "max_candidate_chars", lambda value: value > 0, "more than 0")

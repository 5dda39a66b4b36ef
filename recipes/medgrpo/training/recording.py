# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""The answers of each training step as files: every answer in numbers, and what some or all of them said.

    rollouts/step_000001.jsonl      one line per answer: its row, reward, parts, advantage
    answers/step_000001.jsonl.gz    one line per answer whose text is kept, `place` counts the lines of the file above

Each file appears whole. A step that is trained again replaces its files. Nothing of the judge's settings is written.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from recipes.medgrpo.files import write_json, write_json_lines
from recipes.medgrpo.redaction import versions
from recipes.medgrpo.training.curves import Rollout, recorded
from reward_score.reward import END_TOKENS, MARK

ROLLOUTS, ANSWERS, VERSIONS = "rollouts", "answers", "versions.json"
ENDINGS = {ROLLOUTS: ".jsonl", ANSWERS: ".jsonl.gz"}
"""Folders of recorded steps, and how the names in each end."""


def step_file(root: Path, folder: str, step: int) -> Path:
    """Where the answers of a step are recorded, below the folder of checkpoints."""
    return Path(root) / folder / f"step_{step:06d}{ENDINGS[folder]}"


def step_of(file: Path) -> int | None:
    """The step that a file's name stands for, None for a file of another kind."""
    number = file.name.partition(".")[0].removeprefix("step_")
    return int(number) if number.isdigit() else None


def records(
    step: int,
    rollouts: Sequence[Rollout],
    rewards: np.ndarray,
    advantages: np.ndarray,
    truncated: Sequence[bool] | None = None,
) -> list[dict]:
    """The step's answers in numbers: `score` and `advantage` as trained on, `acc`, `format` and signals as scored.

    `truncated` tells of each answer whether the token budget cut it off, None where nobody knows.
    """
    lines = []
    for place, (rollout, reward, advantage) in enumerate(zip(rollouts, rewards, advantages, strict=True)):
        line: dict = {"step": step, "group": rollout.group, "data_source": rollout.data_source}
        if rollout.row is not None:
            line["file"], line["index"] = rollout.row
        line |= {"tokens": rollout.tokens, "score": float(reward), "advantage": float(advantage)}
        if truncated is not None:
            line["truncated"] = truncated[place]
        parts = rollout.parts.items()
        lines.append(line | {name: float(value) for name, value in parts if recorded(name) or name == "unjudged"})
    return lines


def kept(rollouts: Sequence[Rollout], prompts: int | None) -> list[int]:
    """Places of the answers to the first `prompts` prompts of each pair, None for all."""
    seen: dict[str, list[str]] = defaultdict(list)
    for rollout in rollouts:
        if rollout.group not in seen[rollout.data_source]:
            seen[rollout.data_source].append(rollout.group)
    groups = {group for known in seen.values() for group in known[:prompts]}
    return [place for place, rollout in enumerate(rollouts) if rollout.group in groups]


class Recorder:
    """Writes the answers of each step.

    Args:
        root: the folder of the run's checkpoints.
        prompts: texts are kept of this many prompts of each pair in a step, None for all, 0 for none.
        tokenizer: folder or name of the model, whose tokenizer turns answers into text; needed where texts are kept.
    """

    def __init__(self, root: Path, prompts: int | None, tokenizer: str | None):
        if prompts != 0 and not tokenizer:
            raise ValueError("record_answers: expected tokenizer beside it, the model whose tokens the answers are")
        self.root, self.prompts, self.tokenizer_path = Path(root), prompts, tokenizer

    @property
    def keeps_texts(self) -> bool:
        """Whether some answers are kept as text."""
        return self.prompts != 0

    @cached_property
    def _tokenizer(self):
        from verl.utils import hf_tokenizer
        from verl.utils.fs import copy_to_local

        return hf_tokenizer(copy_to_local(self.tokenizer_path), trust_remote_code=True)

    @cached_property
    def _ends(self) -> set[int]:
        """Tokens that end an answer; one without is cut off by the token budget."""
        return {self._tokenizer.eos_token_id, *self._tokenizer.convert_tokens_to_ids(list(END_TOKENS))}

    def write(
        self,
        step: int,
        rollouts: Sequence[Rollout],
        rewards: np.ndarray,
        advantages: np.ndarray,
        normalised: Sequence[Mapping[str, float]] | None = None,
    ) -> None:
        """Write a step's files, replacing those that an earlier attempt left.

        Args:
            rollouts: N answers. rewards, advantages: (N,), as trained on.
            normalised: of each answer its normalised signals, as trained on; needed where texts are kept.
        """
        answers, truncated = step_file(self.root, ANSWERS, step), None
        if self.keeps_texts:
            assert normalised is not None
            truncated = [not self._ends.intersection(rollout.response[-1:]) for rollout in rollouts]
            write_json_lines(answers, [self._said(rollouts, at, normalised[at]) for at in kept(rollouts, self.prompts)])
        else:
            answers.unlink(missing_ok=True)
        lines = records(step, rollouts, rewards, advantages, truncated)
        write_json_lines(step_file(self.root, ROLLOUTS, step), lines)

    def text(self, rollout: Rollout) -> str:
        """What was said, as verl hands it to the reward."""
        return self._tokenizer.decode(rollout.response, skip_special_tokens=True)

    def _said(self, rollouts: Sequence[Rollout], place: int, normalised: Mapping[str, float]) -> dict:
        rollout, text = rollouts[place], self.text(rollouts[place])
        marks = {name.removeprefix(MARK): value for name, value in rollout.parts.items() if name.startswith(MARK)}
        said = {"place": place, "text": text, "normalised": {name: float(value) for name, value in normalised.items()}}
        return said | ({"marks": marks} if marks else {})

    def begin(self, step: int) -> None:
        """Begin an attempt after a step: what was recorded of later steps is of one that this attempt replaces.

        `versions.json` says which software writes from here on.
        """
        write_json(self.root / VERSIONS, versions())
        for folder, ending in ENDINGS.items():
            for file in (self.root / folder).glob(f"step_*{ending}"):
                number = step_of(file)
                if number is not None and number > step:
                    file.unlink()


def make_recorder(settings: Mapping[Any, Any]) -> Recorder | None:
    """The recorder of the sampler's settings, None where they name no folder."""
    said = settings.get("record_answers") or 0
    if said != "all" and (isinstance(said, bool) or not isinstance(said, int) or said < 0):
        raise ValueError(f"trainer.v1.sampler.sampler_kwargs.record_answers={said!r}: expected all, or a whole number")
    if settings.get("record_dir") is None:
        return None
    return Recorder(Path(settings["record_dir"]), None if said == "all" else said, settings.get("tokenizer"))

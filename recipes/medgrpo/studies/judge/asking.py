# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""Pairs judged side by side, each once: what a run has judged is kept in a file, and a later one goes on from there."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from recipes.medgrpo.files import InputError, read_json_lines, write_json_lines
from recipes.medgrpo.studies.judge.ratings import Item
from recipes.medgrpo.terminal import progress
from reward_score.errors import BadGroundTruth
from reward_score.judge import DIMENSIONS, JudgeError, JudgeSettingsError, Usage

AT_ONCE = 32
Scores = dict[str, float]


@dataclass
class Verdicts:
    """What a judge said.

    Attributes:
        scores: by (item, turn) the five dimensions.
        failures: by kind of error, how many have none.
        broken: the kinds of `failures` that the infrastructure caused, and that are worth another run. The texts
            caused the others.
        usage: tokens and requests behind the scores, and behind this run's failures.
    """

    scores: dict[tuple[Item, int], Scores] = field(default_factory=dict)
    failures: Counter[str] = field(default_factory=Counter)
    broken: set[str] = field(default_factory=set)
    usage: Usage = field(default_factory=Usage)

    def of(self, item: Item, turn: int = 0) -> Scores | None:
        """The scores of an item, None where there is no verdict."""
        return self.scores.get((item, turn))

    @property
    def incomplete(self) -> str | None:
        """One line, if the infrastructure left pairs without a verdict."""
        kinds = ", ".join(f"{kind} {self.failures[kind]}" for kind in sorted(self.broken))
        return f"pairs without a verdict: {kinds}; what was judged is kept: run again" if kinds else None


def key_of(judge: Any, about: str, item: Item, turn: int) -> str:
    """sha256 of what a verdict depends on; `about` is said in `ask`, `turn` counts repetitions of the same question."""
    parts = [judge.name, about, item.task, item.question, item.reference, item.prediction, turn]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


async def ask(
    judge: Any, items: Iterable[Item], kept: Path, *, turns: int = 1, about: str = "", at_once: int = AT_ONCE
) -> Verdicts:
    """Verdicts on all items; those of an earlier run are taken from `kept`, new ones are added to it one by one.

    Items that differ only in video or source are one question. Turn after turn is asked, so that a question is never
    under way twice. A failure is counted, and asked again by the next run.

    Args:
        judge: `reward_score.judge.Judge` or one with its interface.
        items: what to judge.
        kept: JSON lines of verdicts.
        turns: how often each item is judged.
        about: what else verdicts depend on.
        at_once: judgements under way at once.

    Raises:
        JudgeSettingsError: the judge cannot work with these settings; another try is useless.
        InputError: `kept` holds something else.
    """
    known = _read(kept)
    items = list(items)
    keys = {(item, turn): key_of(judge, about, item, turn) for turn in range(turns) for item in items}
    open_keys = {key: place for place, key in keys.items() if key not in known}
    verdicts = Verdicts()
    kept.parent.mkdir(parents=True, exist_ok=True)
    with open(kept, "a", encoding="utf-8") as file, progress(len(open_keys), "pair", "judge") as bar:

        async def work(waiting: Any) -> None:
            for key, (item, _) in waiting:
                try:
                    said = await judge.score(item.prediction, item.reference, task=item.task, question=item.question)
                except JudgeSettingsError:
                    raise
                except (JudgeError, BadGroundTruth) as error:
                    kind = type(error).__name__
                    verdicts.failures[kind] += 1
                    if isinstance(error, JudgeError) and not error.answer_caused:
                        verdicts.broken.add(kind)
                    verdicts.usage += getattr(error, "usage", Usage())
                else:
                    spent = vars(said.usage or Usage())
                    known[key] = {"key": key, "judge": said.judge, "scores": said.scores(), "usage": spent}
                    file.write(json.dumps(known[key], allow_nan=False) + "\n")
                    file.flush()
                bar.update()

        for turn in range(turns):
            waiting = ((key, place) for key, place in open_keys.items() if place[1] == turn)
            await asyncio.gather(*(work(waiting) for _ in range(at_once)))
    for place, key in keys.items():
        if key in known:
            verdicts.scores[place] = known[key]["scores"]
    for key in set(keys.values()) & known.keys():
        verdicts.usage += Usage(**known[key]["usage"])
    return verdicts


def _read(kept: Path) -> dict[str, dict[str, Any]]:
    records = read_json_lines(kept)
    for record in records:
        scores = record.get("scores") if isinstance(record, dict) else None
        if not isinstance(scores, dict) or set(scores) != set(DIMENSIONS) or not {"key", "usage"} <= record.keys():
            raise InputError(f"{kept}: expected verdicts of an earlier run, found something else: remove it")
    if kept.exists() and not kept.read_bytes().endswith(b"\n"):
        # A kill cut the last line short; the next one must not continue it.
        write_json_lines(kept, records)
    return {record["key"]: record for record in records}

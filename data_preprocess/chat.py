# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The chat that asks a question: the clip, the question as given, and what the answer must look like.

A question is never rewritten. Those of summary, CVS and skill state no answer format; a system message can state it,
for them or for all tasks, in the words of the grammar that the reward reads, and can show an example answer.
"""

from __future__ import annotations

import hashlib
from functools import cache
from itertools import product

from reward_score.answers import (
    ASPECTS,
    CVS_COMPONENTS,
    CVS_NAMES,
    CVS_RANGE,
    SA_RANGE,
    Event,
    render_cvs,
    render_dvc,
    render_sa,
    render_stg,
    render_tal,
)
from reward_score.conventions import DEFAULT, convention_of

SYSTEM_MODES = ("none", "missing", "all")
"""Which tasks get a system message about the format: none, those whose questions state none, or all."""

CLIP, STILL = "<video>", "<image>"
"""What stands in a prompt for a clip, and for a single frame that is shown as an image and not as a clip of one."""

UNSTATED = ("vs", "cvs", "sa", "qa")
"""The tasks whose questions state no answer format."""

RESPONSE_TOKENS = {
    "tal": 128,
    "stg": 256,
    "dvc": 2048,
    "nap": 32,
    "vs": 512,
    "rc": 128,
    "sa": 64,
    "cvs": 32,
    "qa": 128,
}
"""Tokens an answer may take, by task: room for the reference answers, end of turn included.

- `stg` 256, `tal` 128, `sa` 64: with these a published entry lost nothing. A box takes about 25 tokens and a row has
  5.3 of them on average: 128 would cut a tenth of the score off, 256 holds 99.4 % of the rows. An `sa` answer always
  has the same six aspects, some 56 tokens.
- `cvs` 32: always the same three components, some 22 tokens.
- `nap` 32: one label, the longest known one below 60 characters, at two characters a token still 30 tokens.
- `rc` 128: one sentence; `vs` 512: a short paragraph, some 380 words at 1.35 tokens a word.
- `qa` 128: the 80 words that curation lets an answer have, some 108 tokens.
- `dvc` 2048: the one task whose answers grow with the clip, so the longest published answer, 1,170 words, is
  reckoned to be one of its: some 1,600 tokens at 1.35 a word, and the time spans before its captions.

Those of captions and answers are reckoned from words; with a tokenizer the audit says per pair how many answers exceed
the budget.
"""

_SECONDS = "Times are seconds from the start of the clip, with one decimal."


@cache
def formats(family: str) -> dict[str, str]:
    """What a system message says about the answer's format, by task; boxes are said in the model family's space."""
    side = convention_of(family).box_side
    space = (
        "in pixels of the video frame" if side is None else f"from 0 to {side:g} across the frame's width and height"
    )
    cvs = ", ".join(f"{CVS_NAMES[key]}: <score>" for key in CVS_COMPONENTS)
    skill = ", ".join(f"{aspect}: <score>/{SA_RANGE[1]}" for aspect in ASPECTS)
    return {
        "tal": (
            f"Find every time span that is asked for. {_SECONDS} "
            "Answer with one line and nothing else, in this form: <start>-<end>, <start>-<end> seconds."
        ),
        "stg": (
            f"Give one bounding box for every time that is asked for, in order of time. {_SECONDS} A box is its left, "
            f"top, right and bottom edge, {space}. Answer with one line and nothing else, in this form: "
            "<time> seconds: [<left>, <top>, <right>, <bottom>] <time> seconds: [<left>, <top>, <right>, <bottom>]"
        ),
        "dvc": (
            f"Describe every event of the clip. {_SECONDS} "
            "Answer with one line for each event and nothing else, in this form: <start>-<end> seconds: <description>"
        ),
        "nap": "Answer with one of the given options, spelled as it is given, and nothing else.",
        "vs": "Answer with one short paragraph of plain text and nothing else.",
        "rc": "Answer with one sentence of plain text and nothing else.",
        "sa": (
            f"Score each aspect {SA_RANGE[0]} to {SA_RANGE[1]}. "
            f"Answer with one line and nothing else, in this form: {skill}"
        ),
        "cvs": f"Score each criterion 0, 1 or 2. Answer with one line and nothing else, in this form: {cvs}",
        "qa": "Answer the question with one to three sentences of plain text and nothing else.",
    }


# Placeholders where a placeholder is an answer of the grammar; numbers that are unlikely answers where it is not.
_EXAMPLES = {
    "tal": render_tal([(12.0, 34.5), (50.0, 61.5)]),
    "stg": render_stg({12.0: (40.5, 20.5, 120.5, 80.5), 16.0: (44.5, 22.5, 124.5, 82.5)}, decimals=1),
    "dvc": render_dvc([Event(0.0, 12.5, "description of one event"), Event(12.5, 31.0, "description of the next")]),
    "nap": "name of the chosen option",
    "vs": "A short paragraph that says what is done in the clip, with what, and in which order.",
    "rc": "One sentence that says what the marked region shows and what happens to it.",
    "qa": "One to three sentences that answer the question from what the clip shows.",
}
_TRIPLES = tuple(product(range(CVS_RANGE[0], CVS_RANGE[1] + 1), repeat=len(CVS_COMPONENTS)))


def example_answer(task: str, seed: int, key: str) -> str:
    """An answer in the task's grammar.

    The scores of `cvs` and `sa` are drawn anew for each row, all combinations being equally likely: one example for all
    rows would pull the answers towards its scores.

    Args:
        task: one of `annotations.TASKS`.
        seed: of the draws.
        key: names the row.
    """
    if task not in ("cvs", "sa"):
        return _EXAMPLES[task]
    drawn = int.from_bytes(hashlib.blake2b(f"{seed}\0{key}".encode(), digest_size=8).digest(), "big")
    if task == "cvs":
        return render_cvs(dict(zip(CVS_COMPONENTS, _TRIPLES[drawn % len(_TRIPLES)], strict=True)))
    low, high = SA_RANGE
    scores = {}
    for aspect in ASPECTS:
        drawn, score = divmod(drawn, high - low + 1)
        scores[aspect] = low + score
    return render_sa(scores)


def build_prompt(
    task: str,
    question: str,
    *,
    system: str = "missing",
    one_shot: bool = False,
    seed: int = 0,
    key: str = "",
    family: str = DEFAULT,
    mark: str = CLIP,
) -> list[dict[str, str]]:
    """The chat of a row: `[{"role", "content"}]`, with one literal `<video>` where the clip goes, or one `<image>`.

    Args:
        task: one of `annotations.TASKS`.
        question: as the annotation gives it, without `<video>`.
        system: one of `SYSTEM_MODES`.
        one_shot: ends the system message with an example answer, whatever the mode; where the mode gives the task no
            system message, the example is all that it says.
        seed: of the examples that are drawn.
        key: names the row, for the examples that are drawn.
        family: model family, whose space boxes are said in.
        mark: `CLIP` or `STILL`.

    Raises:
        ValueError: an unknown mode or family.
    """
    if system not in SYSTEM_MODES:
        raise ValueError(f"system: expected one of {', '.join(SYSTEM_MODES)}, found {system!r}")
    user = {"role": "user", "content": f"{mark}\n{question}"}
    said = []
    if system == "all" or (system == "missing" and task in UNSTATED):
        said.append(formats(family)[task])
    if one_shot:
        said.append(f"Example of an answer's form:\n{example_answer(task, seed, key)}")
    return [{"role": "system", "content": "\n".join(said)}, user] if said else [user]

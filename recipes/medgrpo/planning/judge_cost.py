# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""Estimate what the judge of a training is asked and what that costs.

    python -m recipes.medgrpo judge_cost --data DIR --judge-model gpt-4.1 --steps 5000 --batch 32 --rollouts 8 \\
        --tasks tal stg vs rc [--requests-per-min 5000] [--cached-share 0.2] [--json]

The estimate uses the rows' references and questions, the text of the prompt, and the schedule's mix of pairs. It
makes these assumptions, because only the run can tell:

- Every answer can be read and is judged. In dense captioning it is judged once per reference event, which is the
  maximum. No answer is blank, and no two are equal; `--cached-share` sets the share of known verdicts.
- A candidate is as long as its reference (low: half as long, high: twice as long). A token has 4.3 bytes (low: 5.0,
  high: 3.5). In the verdict, which is JSON with a random code, a token has 3.0 bytes (low: 3.5, high: 2.5).
- No call is repeated; failures add to the cost. Prices are list prices, without a discount on cached prompts.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from recipes.medgrpo.data.schedule import quotas
from recipes.medgrpo.planning import PlanError
from recipes.medgrpo.reward_options import PROMPT
from recipes.medgrpo.terminal import Parser, command, real, table, whole
from reward_score.errors import RewardError
from reward_score.judge.judgement import DIMENSIONS
from reward_score.judge.prompting import Prompt, clean, load_prompt, messages, new_nonce
from reward_score.paid_call.prices import price_of
from reward_score.tasks import CAPTION_SIGNALS, TASKS, read_gold

LEVELS = ("low", "likely", "high")
TOKENS = ("prompt_tokens", "completion_tokens")
BYTES_PER_TOKEN = {"low": 5.0, "likely": 4.3, "high": 3.5}
VERDICT_BYTES_PER_TOKEN = {"low": 3.5, "likely": 3.0, "high": 2.5}
CANDIDATE_LENGTH = {"low": 0.5, "likely": 1.0, "high": 2.0}
"""In lengths of the reference."""
JUDGED = tuple(name for name, task in TASKS.items() if set(task.weights) & set(CAPTION_SIGNALS))
FRAMING_TOKENS = 8
"""What a chat endpoint puts around two messages."""


class RowCalls(NamedTuple):
    """Judge calls: how many, and the bytes of their prompts without candidates, and of the references."""

    calls: float = 0.0
    prompt_bytes: float = 0.0
    reference_bytes: float = 0.0


def added(asked: Iterable[RowCalls], times: float = 1.0) -> RowCalls:
    """The calls of all, so many times."""
    return RowCalls(*(times * sum(column) for column in zip(RowCalls(), *asked, strict=True)))


@dataclass(frozen=True)
class Plan:
    """A training run as far as the judge is concerned; `cached` is the share of the calls that the cache answers."""

    steps: int
    batch: int
    rollouts: int
    mix: str = "tasks"
    cached: float = 0.0


def size(text: str) -> int:
    return len(text.encode())


def row_calls(prompt: Prompt, task: str, ground_truth: str, question: str | None, still: bool = False) -> RowCalls:
    """What judging one answer to a row takes. Raises BadGroundTruth."""
    if task not in JUDGED:
        return RowCalls()
    gold = read_gold(task, ground_truth)
    captions = [gold] if isinstance(gold, str) else [event.caption for event in gold]
    references = [text for text in map(clean, captions) if text]
    kind = "image" if still else task
    chats = [
        messages(prompt, nonce=new_nonce(), candidate="", reference=text, task=kind, question=question)
        for text in references
    ]
    asked = sum(size(message["content"]) for chat in chats for message in chat)
    return RowCalls(len(references), asked, sum(map(size, references)))


def by_pair(file: Path, tasks: Sequence[str] | None, prompt: Prompt) -> dict[str, list[RowCalls]]:
    """The calls of every row of a parquet, by dataset-task pair. Raises PlanError, which names the row."""
    try:
        with pq.ParquetFile(file) as parquet:
            table = parquet.read(columns=["data_source", "ability", "reward_model.ground_truth", "extra_info"])
    except (OSError, pa.ArrowInvalid) as error:
        raise PlanError(f"{file}: cannot be read as parquet: {str(error).splitlines()[0]}") from error
    if missing := {"data_source", "ability", "reward_model", "extra_info"} - set(table.column_names):
        raise PlanError(f"{file}: no column {', '.join(sorted(missing))}: expected the preprocessor's parquet")
    found: dict[str, list[RowCalls]] = defaultdict(list)
    for number, row in enumerate(table.to_pylist()):
        task, truth, extra = row["ability"], row["reward_model"]["ground_truth"], row["extra_info"]
        if tasks is not None and task not in tasks:
            continue
        try:
            calls = row_calls(prompt, task, truth, extra.get("question"), still=extra.get("frames") == 1)
        except RewardError as error:
            raise PlanError(f"{file}: row {number}: {error}") from error
        found[row["data_source"]].append(calls)
    if not found:
        raise PlanError(f"{file}: no row of the tasks {' '.join(tasks or [])}")
    return found


def _tokens(asked: RowCalls, level: str) -> dict[str, float]:
    verdict = json.dumps({"nonce": new_nonce()} | dict.fromkeys(DIMENSIONS, 3))
    sent = asked.prompt_bytes + asked.reference_bytes * CANDIDATE_LENGTH[level]
    return {
        "prompt_tokens": sent / BYTES_PER_TOKEN[level] + asked.calls * FRAMING_TOKENS,
        "completion_tokens": asked.calls * size(verdict) / VERDICT_BYTES_PER_TOKEN[level],
    }


def estimate(rows: Mapping[str, Sequence[RowCalls]], plan: Plan, price: tuple[float, float] | None) -> dict[str, Any]:
    """The plan's judge calls, tokens and dollars.

    Args:
        rows: from `by_pair`. price: dollars per million prompt and completion tokens, None if unknown.

    Returns:
        ``answers`` and ``calls`` of the run, ``calls_per_step``, ``pairs`` with the same of every judged pair, and
        by level (`LEVELS`) ``prompt_tokens``, ``completion_tokens`` and ``cost_usd`` (None without a price).

    Raises:
        ScheduleError: the batch cannot hold every pair.
    """
    quota = quotas(list(rows), plan.batch, plan.mix)
    pairs, judged = {}, []
    for source, members in sorted(rows.items()):
        answers = quota[source] * plan.steps * plan.rollouts
        asked = added(members, answers * (1 - plan.cached) / len(members))
        if asked.calls:
            judged.append(asked)
            told = {"rows": len(members), "per_step": quota[source], "answers": answers, "calls": round(asked.calls)}
            pairs[source] = told
    total = added(judged)
    levels = {}
    for level in LEVELS:
        tokens = _tokens(total, level)
        cost = price and (tokens["prompt_tokens"] * price[0] + tokens["completion_tokens"] * price[1]) / 1e6
        levels[level] = {name: round(value) for name, value in tokens.items()} | {"cost_usd": cost}
    return {
        "answers": plan.steps * plan.batch * plan.rollouts,
        "calls": round(total.calls),
        "calls_per_step": round(total.calls / plan.steps, 1),
        "pairs": pairs,
        **levels,
    }


def hours(
    found: Mapping[str, Any],
    latency_s: float,
    in_flight: int,
    requests_per_min: float | None = None,
    tokens_per_min: float | None = None,
) -> dict[str, float]:
    """Hours that the judging takes at least, by what limits it; it overlaps with generation."""
    tokens = found["likely"]["prompt_tokens"] + found["likely"]["completion_tokens"]
    limits = {f"{in_flight} in flight, {latency_s:g} s each": found["calls"] * latency_s / in_flight / 3600}
    if requests_per_min:
        limits[f"{requests_per_min:g} requests/min"] = found["calls"] / requests_per_min / 60
    if tokens_per_min:
        limits[f"{tokens_per_min:g} tokens/min"] = tokens / tokens_per_min / 60
    return limits


def text(found: Mapping[str, Any]) -> str:
    """The estimate for a terminal."""
    rows = [[pair, *row.values()] for pair, row in found["pairs"].items()]
    rows.append(["all pairs", None, None, sum(row["answers"] for row in found["pairs"].values()), found["calls"]])
    costs = [found[level]["cost_usd"] for level in LEVELS]
    return "\n\n".join(
        [
            table(["pair", "rows", "per step", "judged answers", "calls"], rows),
            f"{found['answers']:,} answers in all; {found['calls_per_step']:,} calls per step",
            table(
                ["of the whole run", *LEVELS],
                [
                    *([name.replace("_", " "), *(found[level][name] for level in LEVELS)] for name in TOKENS),
                    [f"dollars, {found['model']}", *(cost if cost is None else float(cost) for cost in costs)],
                ],
                decimals=2,
            ),
            table(["limited by", "hours"], [[limit, float(value)] for limit, value in found["hours"].items()], 2),
            *(["The price of this model is unknown: give --prompt-price and --completion-price"] * (None in costs)),
            f"prompt {found['prompt']}, {found['cached_share']:.0%} of the calls taken for cached",
        ]
    )


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser("judge_cost", __doc__)
    amount = real(0, above=True)
    add = parser.add_argument
    add("--data", required=True, type=Path, help="the preprocessor's folder, or one parquet file")
    add("--judge-model", required=True, metavar="NAME", help="the model's name at the endpoint")
    add("--judge-prompt", default=PROMPT, metavar="NAME", help=f"prompt, by name or file (default: {PROMPT})")
    add("--steps", type=whole(1), default=5000, help="training steps")
    add("--batch", type=whole(1), default=32, help="prompts per training step")
    add("--rollouts", type=whole(1), default=8, help="answers per prompt")
    add("--tasks", nargs="+", choices=tuple(TASKS), help="tasks that are trained on (default: all)")
    add("--mix", choices=("pairs", "tasks"), default="tasks", help="what has equal shares, as data.medgrpo.mix")
    add("--cached-share", type=real(0, 1), default=0.0, help="share of the calls whose verdict is known already")
    add("--requests-per-min", type=amount, help="the endpoint's limit of requests (default: none)")
    add("--tokens-per-min", type=amount, help="the endpoint's limit of tokens (default: none)")
    add("--latency-s", type=amount, default=1.0, metavar="SECONDS", help="time of one call")
    add("--in-flight", type=whole(1), default=128, help="calls at once")
    for tokens in ("prompt", "completion"):
        add(
            f"--{tokens}-price",
            type=real(0),
            metavar="USD",
            help=f"dollars per million {tokens} tokens (default: list price)",
        )
    add("--json", action="store_true", help="print JSON, not tables")
    args = parser.parse_args(argv)
    if (args.prompt_price is None) != (args.completion_price is None):
        parser.error("--prompt-price, --completion-price: expected both or none")
    return args


@command("judge_cost")
def main(argv: list[str] | None = None) -> None:
    args = parse(argv)
    file = args.data / "train.parquet" if args.data.is_dir() else args.data
    given = (args.prompt_price, args.completion_price)
    price = price_of(args.judge_model) if None in given else given
    plan = Plan(args.steps, args.batch, args.rollouts, args.mix, args.cached_share)
    prompt = load_prompt(args.judge_prompt)
    found = estimate(by_pair(file, args.tasks, prompt), plan, price)
    limited = hours(found, args.latency_s, args.in_flight, args.requests_per_min, args.tokens_per_min)
    found |= {"model": args.judge_model, "prompt": prompt.version, "cached_share": args.cached_share}
    found |= {"price_usd_per_million": price, "hours": limited}
    print(json.dumps(found, indent=2) if args.json else text(found))


if __name__ == "__main__":
    sys.exit(main())

# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""The registered trainings of docs/collapse.md, read from their folders, and the numbers that the page asks for.

A training's plan says which one it is: its world, rate and seed are its block, normaliser and advantage its variant. A
block is whole when all four variants are complete. Only whole blocks are tested, and a setting (a world and a rate)
only with three of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from recipes.medgrpo.evaluation.by_video import seed_difference, video_changes
from recipes.medgrpo.evaluation.comparison import holm
from recipes.medgrpo.evaluation.strict import pair_scores
from recipes.medgrpo.files import InputError, read_json, read_json_lines
from recipes.medgrpo.studies.collapse.run import collapse_of
from recipes.medgrpo.summary import answers
from reward_score.reward import get_scorer
from reward_score.statistics import Statistics

WORLDS = ("heterogeneous", "even")
RATES = (0.3, 0.1)
SEEDS = 3
TASKS = ("tal", "stg", "vs", "rc")
"""Trained on and rewarded."""
LEVEL = 0.05
FORMAT = 2
"""Of the file: with the numbers of each whole block."""
VARIANTS = {
    ("logistic", "grpo", 0): "A",
    ("none", "grpo", None): "B",
    ("none", "dr_grpo", None): "B_dr_grpo",
    ("adaptive", "grpo", None): "adaptive",
}
"""By normaliser, advantage and linear_share (None: as its default is)."""
CONTROL = "B_all"
"""B with all eight tasks trained on: beside the blocks."""


@dataclass(frozen=True)
class Tested:
    """A hypothesis that is tested: B minus A of a number of held-out answers at the last step, and its sign if true."""

    name: str
    measure: str
    tasks: tuple[str, ...]
    sign: int


TESTED = (
    Tested("H2", "format", ("tal", "stg"), -1),
    Tested("H4", "tokens", ("tal", "stg"), 0),
    # Minus SFT on both sides: it is one model and cancels.
    Tested("H5", "acc", ("nap", "sa", "cvs", "dvc"), -1),
)


class Training:
    """One training's folder.

    Attributes:
        variant: one of `VARIANTS`, `CONTROL`, or normaliser and advantage of another. setting: (world, rate).
        complete: whether its last step and its evaluation are there.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        plan = read_json(folder / "plan.json")
        for name in ("seed", "steps", "normalizer", "advantage"):
            if name not in plan:
                raise InputError(f"{folder / 'plan.json'}: expected {name}, found none")
        self.seed, self.steps = plan["seed"], plan["steps"]
        self.setting = (plan.get("world", "even"), float(plan.get("learning_rate", RATES[-1])))
        kind = (plan["normalizer"], plan["advantage"], plan.get("linear_share"))
        other = ":".join(str(part) for part in kind if part is not None)
        tasks = plan.get("tasks", "")
        if tasks == " ".join(TASKS):
            self.variant = VARIANTS.get(kind, other)
        else:
            self.variant = CONTROL if (VARIANTS.get(kind), tasks) == ("B", "") else f"{other} on {tasks or 'all tasks'}"
        summary = folder / "summary.json"
        self.complete = summary.is_file() and read_json(summary).get("status") == "complete"

    @cached_property
    def sft(self) -> list[dict]:
        return answers(self.folder / "eval/sft")

    @cached_property
    def last(self) -> list[dict]:
        """Held-out answers after the last step."""
        return answers(self.folder / "eval/medgrpo")

    @cached_property
    def metrics(self) -> list[dict]:
        return read_json_lines(self.folder / "metrics.jsonl")

    @property
    def start(self) -> Any:
        """What says which SFT model, rows and draws the evaluation before training was of."""
        header = read_json_lines(self.folder / "eval/sft/answers.jsonl")[0].get("header", {})
        return [header.get(name) for name in ("model", "data", "settings")]

    def looks(self) -> list[tuple[int, list[dict]]]:
        """(step, held-out answers) of every evaluation, the last step's at the end."""
        found = []
        for folder in self.folder.glob("eval/step_*"):
            step = folder.name.removeprefix("step_")
            if step.isdigit() and int(step) < self.steps:
                found.append((int(step), answers(folder)))
        return [*sorted(found, key=lambda look: look[0]), (self.steps, self.last)]

    def collapse(self) -> dict[str, Any]:
        """The first evaluation at which it had collapsed, and what was seen: `step` and `cause`, None if never."""
        start = by_task(self.sft)
        for step, records in self.looks():
            if cause := collapse_of(start, by_task(records)):
                return {"step": step, "cause": cause}
        return {"step": None, "cause": None}

    def pull(self) -> float | None:
        """Mean over the steps of log(gradient share of easy pairs / of hard pairs); a step without either is left out.

        Easy are the pairs whose mean raw reward with the SFT model is above the median of the pairs.
        """
        easy, hard = halves(self.folder / "statistics.json")
        logs = []
        for record in self.metrics:
            sides = [sum(record.get(f"medgrpo/{pair}/gradient_share", 0.0) for pair in side) for side in (easy, hard)]
            if min(sides) > 0:
                logs.append(np.log(sides[0] / sides[1]))
        return float(np.mean(logs)) if logs else None

    def entropy(self) -> float | None:
        """Of the policy at the last step, nats a token."""
        return self.metrics[-1].get("actor/entropy")

    def dead(self) -> float | None:
        """Share of the groups without spread, mean over the steps."""
        found = [
            record["medgrpo/groups/dead_share"] for record in self.metrics if "medgrpo/groups/dead_share" in record
        ]
        return float(np.mean(found)) if found else None


def by_task(records: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Mean accuracy and format of each task: over its pairs, of the mean over a pair's answers."""
    tasks: dict[str, list[dict[str, float]]] = {}
    for pair, row in pair_scores(list(map(dict, records))).items():
        tasks.setdefault(pair.rpartition("/")[2], []).append(row)
    return {
        task: {name: float(np.mean([row[name] for row in rows])) for name in ("acc", "format")}
        for task, rows in tasks.items()
    }


def halves(statistics: Path) -> tuple[list[str], list[str]]:
    """(easy, hard) pairs that are trained on, by the SFT model's mean raw reward; of an odd number, hard has more."""
    pairs, signals = Statistics.load(statistics).pairs, get_scorer(rewarded_tasks=TASKS).signals
    means = {}
    for pair, found in pairs.items():
        if (task := pair.rpartition("/")[2]) not in TASKS:
            continue
        total = 0.0
        for name, weight in signals[task].items():
            mean = found[name].mean if name in found else None
            if mean is None:
                raise InputError(f"{statistics}: {pair}: {name}: expected its mean, found none: calibrate again")
            total += mean * weight
        means[pair.split("/", 1)[-1]] = total
    ranked = sorted(means, key=lambda pair: (-means[pair], pair))
    return ranked[: len(ranked) // 2], ranked[len(ranked) // 2 :]


Block = dict[str, Training]


def blocks_of(trainings: Sequence[Training]) -> dict[tuple[tuple[str, float], int], Block]:
    """By setting and seed the trainings by variant. InputError: one twice, or two that did not start alike."""
    found: dict[tuple[tuple[str, float], int], Block] = {}
    for training in trainings:
        block = found.setdefault((training.setting, training.seed), {})
        if other := block.get(training.variant):
            raise InputError(f"{training.folder}: is the same training as {other.folder}, {training.variant}")
        block[training.variant] = training
    for block in found.values():
        done = [training for training in block.values() if training.complete]
        for training in done[1:]:
            if training.start != done[0].start:
                raise InputError(f"{training.folder}: expected the SFT model and held-out rows of {done[0].folder}")
            if training.steps != done[0].steps:
                raise InputError(f"{training.folder}: {training.steps} steps, expected {done[0].steps} as in its block")
    return found


def whole(block: Mapping[str, Training]) -> bool:
    """Whether all four variants are complete."""
    return all(name in block and block[name].complete for name in VARIANTS.values())


Number = Callable[[Training], float | None]
SHOWN: tuple[tuple[str, str, str, Number], ...] = (
    ("H1", "log easy/hard gradient share, B_dr_grpo - A", "B_dr_grpo", Training.pull),
    ("H1", "log easy/hard gradient share, B - A", "B", Training.pull),
    ("H3", "entropy at the last step, B - A", "B", Training.entropy),
    ("H3", "share of dead groups, B - A", "B", Training.dead),
)
"""Hypothesis, words, the variant of which A is taken off, and the number: without a test."""


def _minus(block: Block, variant: str, number: Number) -> float | None:
    """The number of a variant minus that of A, None where one is unknown."""
    one, other = number(block[variant]), number(block["A"])
    return None if one is None or other is None else one - other


def numbers_of(block: Block) -> dict[str, Any]:
    """All that the registered table needs of a whole block, as JSON."""
    first = block["A"]
    return {
        "world": first.setting[0],
        "rate": first.setting[1],
        "seed": first.seed,
        "changes": {one.name: video_changes(first.last, block["B"].last, one.measure, one.tasks) for one in TESTED},
        "shown": {what: _minus(block, variant, number) for _, what, variant, number in SHOWN},
        "collapsed": {name: block[name].collapse()["step"] is not None for name in VARIANTS.values()},
    }


def registered(folders: Sequence[Path], earlier: Sequence[Path] = ()) -> dict[str, Any]:
    """Every registered number as JSON.

    Args:
        folders: the trainings'.
        earlier: files with what this returned of others, whose folders need not be there any more.

    Raises:
        InputError: a folder that holds no training, the same training twice, or a block of different starts.
    """
    found = [Training(folder) for folder in folders]
    here = [numbers_of(block) for block in blocks_of(found).values() if whole(block)]
    blocks, trainings = {_block(one): one for one in here}, [_said(one) for one in found]
    for file in earlier:
        _add_earlier(file, blocks, trainings)
    trainings.sort(key=lambda one: (*_block(one), one["variant"]))
    tested: list[dict[str, Any]] = []
    shown: list[dict[str, Any]] = []
    claims = []
    for setting in product(WORLDS, RATES):
        mine = [one for key, one in sorted(blocks.items()) if key[:2] == setting]
        about = {"world": setting[0], "rate": setting[1], "seeds": [one["seed"] for one in mine]}
        if not mine:
            continue
        for test in TESTED:
            difference = asdict(seed_difference([one["changes"][test.name] for one in mine]))
            if len(mine) < SEEDS:
                difference["p"] = None
            tested.append({**about, "hypothesis": test.name, "measure": test.measure, "sign": test.sign, **difference})
        for name, what, _, _ in SHOWN:
            values = [one["shown"][what] for one in mine]
            known = [value for value in values if value is not None]
            mean = float(np.mean(known)) if len(known) == len(values) else None
            shown.append({**about, "hypothesis": name, "what": what, "by_seed": values, "difference": mean})
        fallen = {name: sum(one["collapsed"][name] for one in mine) for name in VARIANTS.values()}
        claims.append({**about, "collapsed": fallen, "claim": claim(fallen, len(mine))})
    correct(tested)
    begun = dict.fromkeys(_block(one) for one in trainings if one["variant"] in VARIANTS.values())
    return {
        "format": FORMAT,
        "tested": tested,
        "shown": shown,
        "claims": claims,
        "trainings": trainings,
        "not_whole": [dict(zip(("world", "rate", "seed"), key, strict=True)) for key in begun if key not in blocks],
        "blocks": [one for _, one in sorted(blocks.items())],
    }


def _add_earlier(file: Path, blocks: dict[tuple, dict[str, Any]], trainings: list[dict[str, Any]]) -> None:
    """Add a file's whole blocks and its trainings; of a block that was not whole there, those that are not here."""
    known = read_json(file)
    if known.get("format") != FORMAT:
        raise InputError(f"{file}: format: expected {FORMAT}, found {known.get('format')}")
    here = {(*_block(one), one["variant"]) for one in trainings}
    measured = {_block(one): one for one in known["blocks"]}
    for one in known["trainings"]:
        if (*_block(one), one["variant"]) not in here:
            trainings.append(one)
        elif _block(one) in measured:
            words = f"{one['world']}, rate {one['rate']:g}, seed {one['seed']}"
            raise InputError(f"{file}: {one['variant']} of {words} is among the other trainings, too")
    blocks |= measured


def _block(one: Mapping[str, Any]) -> tuple[str, float, int]:
    return one["world"], one["rate"], one["seed"]


def _said(training: Training) -> dict[str, Any]:
    """What the list of all trainings says of one."""
    return {
        "folder": "/".join(training.folder.parts[-2:]),
        "world": training.setting[0],
        "rate": training.setting[1],
        "seed": training.seed,
        "variant": training.variant,
        "steps": training.steps,
        "complete": training.complete,
        **(training.collapse() if training.complete else {"step": None, "cause": None}),
    }


def claim(fallen: Mapping[str, int], seeds: int) -> str:
    """What a setting says of the paper's claim, by how many trainings of B and A collapsed."""
    if seeds < SEEDS:
        return "not tested"
    if fallen["B"] >= 2 and not fallen["A"]:
        return "holds"
    return "refuted" if not fallen["B"] else "open"


def correct(tested: Sequence[dict[str, Any]]) -> None:
    """Add Holm's p over the registered family, and whether an effect is claimed.

    A test of the twelve that is not made counts as one with a p of 1, by which no other is corrected too little.
    """
    made = [one for one in tested if one["p"] is not None]
    family = len(WORLDS) * len(RATES) * len(TESTED)
    corrected = holm([*(one["p"] for one in made), *[1.0] * (family - len(made))])
    for one in tested:
        one["p_holm"], one["claimed"] = None, None
    for one, p in zip(made, corrected, strict=False):
        signs = set(np.sign(one["by_seed"]))
        as_said = len(signs) == 1 and 0 not in signs and one["sign"] in (0, *signs)
        one["p_holm"], one["claimed"] = p, bool(as_said and p < LEVEL)

# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""Make the ablation's table: the results of each row's training, and of the model that it started from.

    python -m recipes.medgrpo ablation --runs outputs/qwen2_5_vl_seed0 --output outputs/qwen2_5_vl_seed0/rows
    python -m recipes.medgrpo ablation --runs seed0 seed1 seed2 --output ablation       # several seeds, pooled
    python -m recipes.medgrpo ablation --runs RUN --ground-truth test_with_answers.json --judge openai ... --output DIR

`examples/run_ablation.sh` makes the runs. A run holds the answers of the SFT model (`eval/sft/answers.jsonl` or
`.json`) and of each row (`rows/ROW/eval/medgrpo/answers.jsonl` or `.json`). The command names rows that are not
finished. It scores every row again with the same judge: the leaderboard's ten columns, and the strict accuracy per task
and as the mean over dataset-task pairs. `--judge`, which is not the leaderboard's judge, gives the three judged
columns. Each row is compared with row A on the same questions, with 95 % intervals by paired bootstrap over videos.
Several samples and several seeds count as rows of one file, and every seed has its own videos. Writes `table.json` and
`table.md`.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from recipes.medgrpo.answers.formats import decoded, own_rollouts
from recipes.medgrpo.evaluation.comparison import Comparison, compare
from recipes.medgrpo.evaluation.inputs import Graded, read_graded
from recipes.medgrpo.evaluation.intervals import Evaluation
from recipes.medgrpo.evaluation.leaderboard import judged, score_leaderboard
from recipes.medgrpo.evaluation.strict import score_strict
from recipes.medgrpo.evaluation.tables import publish
from recipes.medgrpo.files import InputError, code_fingerprint, read_json
from recipes.medgrpo.reward_options import LEADERBOARD_PROMPT, add_judge_arguments, label_of_args, signal_settings_of
from recipes.medgrpo.studies.ablation.text import FULL, markdown, sentence
from recipes.medgrpo.studies.ablation.variants import ROWS, SFT, published_lines
from recipes.medgrpo.terminal import Parser, command, whole
from reward_score.bootstrap import RESAMPLES
from reward_score.conventions import CONVENTIONS, DEFAULT
from reward_score.judge import make_judge


@dataclass
class Line:
    """One line of the table: the answers of a model, scored in both ways."""

    columns: Evaluation
    strict: Evaluation
    notes: list[str] = field(default_factory=list)


def answers_file(run: Path, line: str) -> Path | None:
    """The finished answers of a line of the table, None where it is not done.

    Answers as JSON are written at the end. Lines may still grow: a row's are finished when its summary says so.
    """
    folder = run if line == SFT else run / "rows" / line
    evaluated = folder / "eval" / ("sft" if line == SFT else "medgrpo")
    if (file := evaluated / "answers.json").is_file():
        return file
    summary = folder / "summary.json"
    done = line == SFT or (summary.is_file() and read_json(summary).get("status") == "complete")
    return file if done and (file := evaluated / "answers.jsonl").is_file() else None


def check_plan(run: Path, line: str) -> dict[str, Any]:
    """A row's plan, {} where its run left none (the recipes for GPUs). InputError: it is not that row's."""
    file = run / "rows" / line / "plan.json"
    if not file.is_file():
        return {}
    plan, row = read_json(file), ROWS[line]
    expected = {
        "normalizer": row.normalizer,
        "advantage": row.advantage,
        "tasks": " ".join(row.tasks or ()),
        "training_judge": "" if row.judged else "none",
    }
    for name, value in expected.items():
        if plan.get(name, "") != value:
            raise InputError(f"{file}: {name}: expected {value!r} for row {line}, got {plan.get(name, '')!r}")
    said = str(plan.get("overrides", ""))
    for override in row.overrides:
        if override.removesuffix("RAW_SIGNALS") not in said:
            raise InputError(f"{file}: overrides: expected {override} for row {line}, got {said!r}")
    return plan


def samples_of(file: Path) -> list[int | None]:
    """The numbers of the samples in our rollouts; [None] for answers without such numbers."""
    content = decoded(file)
    if not own_rollouts(content):
        return [None]
    return sorted({record.get("sample", 0) for record in content if "header" not in record})


def read_answers(
    files: Mapping[Path, Path], truths: Mapping[Path, Path], *, strict: bool
) -> tuple[list[Graded], list[str]]:
    """(answers of all runs and samples as rows of one file, what was odd); `files` and `truths` are by run."""
    rows: list[Graded] = []
    notes: list[str] = []
    for number, (run, file) in enumerate(files.items()):
        for sample in samples_of(file):
            inputs = read_graded(file, truths[run], sample=sample, strict=strict)
            place = f"{number}/{sample or 0}/"
            rows += [replace(row, file=place + row.file, video=f"{number}/{row.video}") for row in inputs.graded]
            notes += inputs.notes + ([f"{file}: {len(inputs.dropped)} rows left out"] if inputs.dropped else [])
    return rows, list(dict.fromkeys(notes))


def measure(
    files: Mapping[Path, Path], truths: Mapping[Path, Path], scoring: Mapping[str, Any], *, resamples: int, seed: int
) -> Line:
    """Both scores of one model's answers.

    Args:
        files, truths: answers and their ground truth, by run.
        scoring: `reward_options.signal_settings`; its judge judges all captions.
        resamples, seed: of the bootstrap.
    """
    rows, notes = read_answers(files, truths, strict=False)
    settings = dict(scoring.get("judge_settings", {}))
    if settings:
        settings.setdefault("prompt", LEADERBOARD_PROMPT)
    look_up, unjudged = judged(make_judge(scoring["judge"], settings), rows)
    columns = score_leaderboard(rows, judge=look_up, resamples=resamples, seed=seed)
    rows, more = read_answers(files, truths, strict=True)
    notes += [*unjudged, *more]
    strict = score_strict(rows, scoring=scoring, notes=notes, resamples=resamples, seed=seed)
    return Line(columns, strict, list(dict.fromkeys(notes)))


def figures(columns: Evaluation | Comparison, strict: Evaluation | Comparison) -> dict[str, dict[str, Any]]:
    """A line, or a difference of two, as JSON: `columns`, `strict` (mean over pairs), `strict_tasks` (accuracies)."""
    overall = strict.scores["overall"]["all"]
    return {
        "columns": {name: asdict(found) for name, found in columns.scores["overall"]["all"].items()},
        "strict": {name: asdict(overall[name]) for name in ("acc", "format")},
        "strict_tasks": {task: asdict(found["acc"]) for task, found in strict.scores["tasks"].items()},
    }


def build(
    runs: Sequence[Path],
    scoring: Mapping[str, Any],
    *,
    ground_truth: Path | None = None,
    family: str | None = None,
    judge: str,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, Any]:
    """The table as JSON.

    Args:
        runs: folders, one a seed; a row counts as done when it is done in each.
        scoring: of every line, see `measure`; `judge` is its judge's label.
        ground_truth: of the answers; None: each run's `data/val.parquet`.
        family: of the model; None: as the runs' plans say, else the default family.

    Raises:
        InputError: no row is done, or a run that is not what its name says; what is wrong with a file.
        RewardError: from scoring.
    """
    if len({run.resolve() for run in runs}) < len(runs):
        raise InputError(f"runs: {', '.join(map(str, runs))}: the same one twice")
    truths = {run: ground_truth or run / "data/val.parquet" for run in runs}
    drawn = {"resamples": resamples, "seed": seed}
    lines: dict[str, Line] = {}
    missing: dict[str, list[str]] = {}
    plans: list[dict[str, Any]] = []
    for name in (SFT, *ROWS):
        found = {run: file for run in runs if (file := answers_file(run, name)) is not None}
        if absent := [str(run) for run in runs if run not in found]:
            missing[name] = absent
            continue
        plans += [] if name == SFT else [check_plan(run, name) for run in runs]
        lines[name] = measure(found, truths, scoring, **drawn)
        print(f"{name}: scored", file=sys.stderr)
    if SFT in missing:
        raise InputError(f"{missing[SFT][0]}/eval/sft: no answers of the SFT model, expected those of evaluate")
    if len(lines) == 1:
        raise InputError(f"{runs[0]}/rows: no row is done, expected at least one of {' '.join(ROWS)}")
    trained = sorted({plan["steps"] for plan in plans if plan})
    family = family or next((plan["model"] for plan in plans if plan), DEFAULT)
    notes = [note for line in lines.values() for note in line.notes]
    if len(trained) > 1:
        notes.append(f"the rows were trained for different numbers of steps: {', '.join(map(str, trained))}")
    table: dict[str, Any] = {
        "format": 1,
        "runs": [str(run) for run in runs],
        "family": family,
        "steps": trained,
        "judge": judge,
        "code": code_fingerprint(),
        "bootstrap": {"over": "videos", **drawn, "level": 0.95},
        "rows": {},
        # Rows with a long name are rivals of the paper's: the table does without them.
        "missing": {name: where for name, where in missing.items() if len(name) == 1},
        "notes": list(dict.fromkeys(notes)),
    }
    for name, line in lines.items():
        settings = asdict(ROWS[name]) if name in ROWS else {"what": "the model that every row started from"}
        table["rows"][name] = {
            "what": settings.pop("what"),
            "settings": settings or None,
            "answers": len(line.strict.rows),
            "videos": len({graded.video for graded in line.strict.rows}),
            **figures(line.columns, line.strict),
            "published": dict(published_lines(family).get(name, {})),
        }
        if (full := lines.get(FULL)) and name != FULL:
            compared = compare(full.columns, line.columns, **drawn), compare(full.strict, line.strict, **drawn)
            table["rows"][name]["against_A"] = figures(*compared)
    table["B_against_A"] = sentence(table)
    return table


@command("ablation")
def main(argv: list[str] | None = None) -> int:
    parser = Parser("ablation", __doc__)
    parser.add_argument("--runs", required=True, nargs="+", type=Path, help="folders of runs with rows/, one per seed")
    parser.add_argument("--output", required=True, type=Path, help="folder of table.json and table.md")
    parser.add_argument(
        "--ground-truth", type=Path, help="annotations with answers (default: each run's data/val.parquet)"
    )
    parser.add_argument(
        "--model-family", choices=tuple(CONVENTIONS), help="show this family's published rows (default: the runs')"
    )
    parser.add_argument("--resamples", type=whole(1), default=RESAMPLES, help="bootstrap resamples")
    parser.add_argument("--seed", type=whole(0), default=0, help="seed of the bootstrap")
    add_judge_arguments(parser)
    args = parser.parse_args(argv)
    table = build(
        args.runs,
        signal_settings_of(args),
        ground_truth=args.ground_truth,
        family=args.model_family,
        judge=label_of_args(args),
        resamples=args.resamples,
        seed=args.seed,
    )
    publish(args.output, "table", table, markdown(table))
    print(f"{args.output / 'table.md'}, {args.output / 'table.json'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

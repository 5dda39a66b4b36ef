# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""Build the leaderboard's submission file, and check it against the test rows.

    python -m recipes.medgrpo submission --results answers.jsonl --test DATA/test.parquet --output submission.json
    python -m recipes.medgrpo submission --check submission.json --test cleaned_test_data.json

The server matches answers and rows only by their position in the list. It does not notice another order, and one
answer that is not a text loses a whole column. Here each of these is an error that names file, row and field. `--test`
is the test file itself or the parquet made from it.

Results are one of:

    our rollouts     JSON lines of `generate` and `evaluate`; `--sample` chooses among several samples of a row
    released output  a dict by row number, from the paper's inference code. When that code merges the parts of several
                     GPUs, it numbers the rows in another order; `--merged-parts N` restores the order
    a list           answers in test order, with the keys of either form above, or a submission file

A submission needs boxes in pixels of the annotation canvas. Our rollouts have boxes in the model's own space and
contain what the conversion needs (older files need the parquet). The released model was trained on canvas pixels, so
its boxes are not converted. A record's `box_space` ("model" or "canvas") overrides this, and `--box-space` decides for
records without one.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from recipes.medgrpo.answers.box_text import boxes_in, boxes_on_canvas
from recipes.medgrpo.answers.complete import Answer, read_results
from recipes.medgrpo.answers.formats import SPACES
from recipes.medgrpo.answers.questions import Row, problem, read_test, same_id
from recipes.medgrpo.files import write_json
from recipes.medgrpo.terminal import Parser, command, real
from reward_score.answers import PARSERS
from reward_score.boxes import to_model

KEYS = ("id", "qa_type", "prediction")
"""The keys of an entry of the file."""

# With fewer boxes of a source, where they lie says nothing about the space they are in.
_TELLING_BOXES = 20


@dataclass
class Report:
    """What is worth knowing about a submission: counts by task, and the row numbers of what is odd."""

    tasks: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    odd: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))

    def lines(self) -> list[str]:
        """One line each, the totals first."""
        counts = ", ".join(f"{task} {count}" for task, count in self.tasks.items())
        notes = [f"note: {len(rows)} {what}, the first is row {rows[0]}" for what, rows in self.odd.items()]
        return [f"{sum(self.tasks.values())} answers ({counts})", *notes]


def build(path: Path, rows: Sequence[Row], answers: Sequence[Answer], max_truncated: float = 0.05) -> tuple[list, dict]:
    """The submission's entries, and the row numbers of what is odd by what it is.

    Args:
        path: the results' file, for errors.
        rows: what `read_test` returns.
        answers: what `read_results` returns for them.
        max_truncated: the largest share of a task's answers that the token budget may have cut off.

    Raises:
        InputError: too many answers are cut off, or boxes cannot be brought back to the canvas.
    """
    odd: dict[str, list[int]] = defaultdict(list)
    cut: dict[str, list[int]] = defaultdict(list)
    sizes: dict[str, int] = defaultdict(int)
    entries = []
    for row, answer in zip(rows, answers, strict=True):
        text = answer.text
        sizes[row.task] += 1
        if answer.truncated:
            cut[row.task].append(row.index)
        elif answer.truncated is None:
            odd["answers that do not say whether the token budget cut them off"].append(row.index)
        if answer.placed:
            odd["answers that nothing but their place ties to a row"].append(row.index)
        if row.task == "stg":
            frame = answer.frame or row.space
            if answer.space == "model" and frame is None:
                found = "boxes in the model's space; give the preprocessor's parquet as test file"
                raise problem(path, row.index, "answer", "boxes in canvas pixels", found)
            text, broken = boxes_on_canvas(text, frame if answer.space == "model" else None)
            if broken:
                odd["answers with a box of NaN, now one without area"].append(row.index)
        entries.append({"id": row.id, "qa_type": row.qa_type, "prediction": text})
    for task, indices in cut.items():
        if len(indices) > max_truncated * sizes[task]:
            expected = f"at most {max_truncated:.0%} of the {task} answers cut off by the token budget"
            raise problem(path, indices[0], "truncated", expected, f"{len(indices)} of {sizes[task]}")
        odd[f"of {sizes[task]} {task} answers cut off by the token budget"] = indices
    return entries, odd


def check(
    path: Path,
    entries: Any,
    rows: Sequence[Row],
    *,
    allow_blank: bool = False,
    space_stated: bool = False,
    said: Sequence[Answer] | None = None,
) -> Report:
    """Holds a submission's entries against the test rows.

    Args:
        path: the file that they come from, for errors.
        entries: the decoded file.
        rows: what `read_test` returns.
        allow_blank: whether answers may be blank.
        space_stated: whether somebody vouches for the boxes' space; else boxes that lie as if in another are refused.
        said: the answers that the entries were made of, in their own space; None: the entries are all there is.

    Raises:
        InputError: what the server would refuse, misplace, or read as something else.
    """
    if not isinstance(entries, list):
        raise problem(path, None, "", "a list of entries in the order of the test file", entries)
    if len(entries) != len(rows):
        raise problem(path, None, "", f"{len(rows)} entries, one for each row of the test file", f"{len(entries)}")
    report = Report()
    blank = []
    for row, entry in zip(rows, entries, strict=True):
        if not isinstance(entry, dict) or sorted(map(str, entry)) != sorted(KEYS):
            found = f"the keys {', '.join(map(str, entry))}" if isinstance(entry, dict) else entry
            raise problem(path, row.index, "", f"an entry with {', '.join(KEYS)} and nothing else", found)
        if entry["qa_type"] != row.qa_type:
            raise problem(path, row.index, "qa_type", row.qa_type, entry["qa_type"])
        if not same_id(entry["id"], row):
            raise problem(path, row.index, "id", row.id, entry["id"])
        text = entry["prediction"]
        if not isinstance(text, str):
            raise problem(path, row.index, "prediction", "text (the server would lose the whole task)", text)
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            # The server's sentence encoder fails on half a surrogate pair, and the column with it.
            raise problem(path, row.index, "prediction", "text that UTF-8 can hold", str(error)) from None
        if row.task == "stg" and boxes_on_canvas(text, None)[1]:
            raise problem(
                path, row.index, "prediction", "boxes of numbers (the server would make the whole column NaN)", text
            )
        report.tasks[row.task] += 1
        if not text.strip():
            blank.append(row.index)
        elif (form := PARSERS[row.task](text).format) < 1:
            what = "cannot be read" if form == 0 else "deviate from the task's grammar and can be read"
            report.odd[f"{row.task} answers {what}"].append(row.index)
    if blank and not allow_blank:
        # The server leaves blank captions out of the mean, and finds a label for a blank action.
        raise problem(path, blank[0], "prediction", "an answer (--allow-blank)", "none", len(blank) - 1)
    if blank:
        report.odd["blank answers"] = blank
    if not space_stated:
        texts = [entry["prediction"] for entry in entries] if said is None else [answer.text for answer in said]
        spaces = ["canvas"] * len(rows) if said is None else [answer.space for answer in said]
        _check_space(path, rows, texts, spaces)
    return report


def _check_space(path: Path, rows: Sequence[Row], texts: Sequence[str], spaces: Sequence[str]) -> None:
    """Refuses boxes that are taken for canvas pixels and lie as if in the model's space, and the reverse."""
    groups: dict[tuple[str, str], list[tuple[Row, list[float]]]] = defaultdict(list)
    for row, text, space in zip(rows, texts, spaces, strict=True):
        if row.task == "stg" and row.space is not None:
            groups[row.source, space] += [(row, box) for box in boxes_in(text)]
    for (source, space), members in groups.items():
        if len(members) < _TELLING_BOXES:
            continue
        row = members[0][0]
        assert row.space is not None  # only such rows are in a group
        canvas = row.space[0]
        extent = [round(edge) for edge in to_model((0, 0, *canvas), *row.space)[2:]]
        # Where the two spaces are about as large, a box's place tells nothing.
        if not all(e < 0.8 * c for e, c in zip(extent, canvas, strict=True)):
            continue
        inside = [box for _, box in members if max(box[0], box[2]) <= extent[0] and max(box[1], box[3]) <= extent[1]]
        expected = f"boxes of {source} in {'canvas pixels' if space == 'canvas' else 'the space of the model'}"
        if space == "canvas" and len(inside) == len(members):
            found = (
                f"all {len(members)} within {extent[0]}x{extent[1]}, the model's space (--box-space says which it is)"
            )
            raise problem(path, members[0][0].index, "box", expected, found)
        if space == "model" and len(inside) < len(members) / 2:
            outside = len(members) - len(inside)
            found = f"{outside} of {len(members)} beyond {extent[0]}x{extent[1]} (--box-space says which it is)"
            raise problem(path, members[0][0].index, "box", expected, found)


def submitted(path: Path) -> Any:
    """What the server reads in a submission file: one JSON value; not lines, not zipped, no byte order mark.

    Raises:
        InputError: the server could not read it.
    """
    try:
        return json.loads(path.read_bytes().decode("utf-8", "surrogateescape"))
    except OSError as error:
        raise problem(path, None, "", "a readable file", error.strerror or error) from None
    except (ValueError, RecursionError) as error:
        raise problem(path, None, "", "one JSON list, not zipped, as the server reads it", str(error)) from None


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser("submission", __doc__)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--results", type=Path, help="answers to make a submission file of")
    source.add_argument("--check", type=Path, help="a submission file to check")
    add = parser.add_argument
    add("--test", type=Path, required=True, help="the test file, or the parquet made from it")
    add("--output", type=Path, help="the submission file to write, with --results")
    add("--sample", type=int, help="which sample of a row to take (default: the one with the lowest number)")
    add("--merged-parts", type=int, default=1, help="for released output: how many GPUs' parts it holds")
    add("--box-space", choices=SPACES, help="coordinates of spatial-grounding boxes (default: what the records say)")
    add("--allow-blank", action="store_true", help="accept blank answers")
    add("--max-truncated", type=real(0, 1), default=0.05, help="largest share of a task's answers that may be cut off")
    args = parser.parse_args(argv)
    if args.results and not args.output:
        parser.error("--results needs --output")
    return args


@command("submission")
def main(argv: list[str] | None = None) -> None:
    args = parse(argv)
    rules = {"allow_blank": args.allow_blank, "space_stated": args.box_space is not None}
    rows = read_test(args.test)
    if args.check:
        entries = submitted(args.check)
        if args.box_space == "model":
            raise problem(args.check, None, "box_space", "canvas in a submission", "model")
        report = check(args.check, entries, rows, **rules)
    else:
        answers = read_results(
            args.results, rows, sample=args.sample, merged_parts=args.merged_parts, box_space=args.box_space
        )
        entries, odd = build(args.results, rows, answers, args.max_truncated)
        report = check(args.results, entries, rows, **rules, said=answers)
        report.odd.update(odd)
        write_json(args.output, entries)
    print(f"{args.check or args.output}: " + "\n".join(report.lines()))


if __name__ == "__main__":
    sys.exit(main())

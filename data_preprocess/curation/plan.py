# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Say what a curation comes to before anything is called or written: rows of each pair, calls, dollars, hours, disk.

    python data_preprocess/curate.py plan all --root DIR                      # DIR holds a folder of each source
    python data_preprocess/curate.py plan CoPESD NurViD --root DIR --captioners gpt-4.1 gpt-4.1-mini
    python data_preprocess/curate.py plan AVOS NurViD --root DIR --transcripts DIR
    python data_preprocess/curate.py plan all --published --set passes=40     # before the sources are at hand

The rows that are wanted (`--rows`, by default the 531,850 of the published set) are shared out over the pairs as in the
files that can be had; a pair that comes out short says by how much and why. `--published` takes as many videos as the
sources have, as long as theirs, with drawn labels. Questions about lectures (qa) come on top: of the excerpts of
`--transcripts`, or of a share of every web video that is taken as spoken.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

from data_preprocess.curation.captions.context import ShowSettings
from data_preprocess.curation.clips import ClipSettings
from data_preprocess.curation.model import Video
from data_preprocess.curation.planning import PUBLISHED_ROWS, Calls, Plan, PlanSettings, plan, short_of, wanted
from data_preprocess.curation.produce import Recipe, read_all, roots_of
from data_preprocess.curation.questions.excerpts import ExcerptSettings
from data_preprocess.curation.rows.drafts import RowSettings
from data_preprocess.curation.settings import settings_help, with_settings
from data_preprocess.curation.sources import READERS
from data_preprocess.curation.sources.reading import SourceError
from data_preprocess.curation.sources.settings import ReadSettings
from data_preprocess.curation.synthetic.published import published_videos
from data_preprocess.curation.transcripts import TranscriptError
from data_preprocess.wording import Parser, status_of
from reward_score.paid_call.prices import price_of

KINDS = (PlanSettings, ShowSettings, ReadSettings, ClipSettings, RowSettings, ExcerptSettings)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line entry; returns the exit status."""
    parser = Parser("curate plan", f"{__doc__}\nSettings of --set:\n{settings_help(*KINDS)}")
    names = (*READERS, "all")
    parser.add_argument("sources", nargs="+", choices=names, metavar="SOURCE", help="sources, or all")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--root", type=Path, metavar="DIR", help="folder of the sources' annotations")
    where.add_argument("--published", action="store_true", help="videos of the published sizes, with drawn labels")
    parser.add_argument("--rows", type=int, default=PUBLISHED_ROWS, metavar="N", help="rows wanted in all 23 pairs")
    parser.add_argument("--seed", type=int, default=0, help="of everything that is drawn (default 0)")
    parser.add_argument(
        "--captioners", nargs=2, default=["gpt-4.1", "gpt-4.1-mini"], metavar="MODEL", help="the two whose price counts"
    )
    parser.add_argument("--transcripts", type=Path, metavar="DIR", help="of DIR/SOURCE/VIDEO.json (default: assumed)")
    parser.add_argument("--reader", default="gpt-4.1-mini", metavar="MODEL", help="of lectures, whose price counts")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a setting named below")
    options = parser.parse_args(arguments)
    if options.rows < 1:
        parser.error("--rows: expected a number from 1")
    try:
        assumed, show, reading, clips, rows, cutting = with_settings(options.set, *KINDS)
    except ValueError as error:
        parser.error(str(error))
    recipe = Recipe(reading, clips, rows, options.seed)
    wrong = (SourceError, TranscriptError)
    return status_of("curate", lambda: _main(options, recipe, show, assumed, cutting), wrong, "interrupted")


def _main(
    options: argparse.Namespace, recipe: Recipe, show: ShowSettings, assumed: PlanSettings, cutting: ExcerptSettings
) -> int:
    roots = roots_of(options.sources, options.root or Path())
    videos: Sequence[Video] | Iterator[Video]
    if options.published:
        videos = (video for source in roots for video in published_videos(source, options.seed))
    else:
        videos, _ = read_all(roots, recipe)
    made = plan(videos, recipe, show, assumed, options.transcripts, cutting)
    print(text_of(made, wanted(options.rows, roots), recipe, assumed, options.captioners, options.reader))
    return 0


def text_of(
    made: Plan,
    goal: dict[str, int],
    recipe: Recipe,
    assumed: PlanSettings,
    captioners: Sequence[str],
    reader: str,
) -> str:
    """The plan as the terminal shows it."""
    lines = [f"{'pair':<22} {'videos':>7} {'clips':>9} {'rows':>9} {'wanted':>9}"]
    for pair in sorted(goal):
        numbers = (made.videos[pair], made.clips[pair], made.rows[pair], goal[pair])
        lines.append(f"{pair:<22} {numbers[0]:>7,} {numbers[1]:>9,} {numbers[2]:>9,} {numbers[3]:>9,}")
    for pair in sorted(made.lectures.calls):
        lines.append(f"{pair:<22} {made.videos[pair]:>7,} {made.clips[pair]:>9,} {made.rows[pair]:>9,} {'on top':>9}")
    enough = sum(min(made.rows[pair], rows) for pair, rows in goal.items())
    lines.append(
        f"rows: {enough:,} of {sum(goal.values()):,} wanted ({sum(made.rows[pair] for pair in goal):,} can be made)"
    )
    lines += [f"short: {pair}: {why}" for pair, why in short_of(made, goal, recipe).items()]
    lines.append(_told("captioners", made.captions, assumed))
    # Each of the two makes half of the calls.
    lines += [f"  {name}: {_cost(made.captions, name, 0.5)} for its half of the calls" for name in captioners]
    if made.lectures.calls:
        lines.append(_told("lectures", made.lectures, assumed))
        lines.append(f"  {reader}: {_cost(made.lectures, reader)} for facts, questions and guesses")
    hours = made.decode_hours(assumed)
    lines.append(
        f"frames: {made.frames:,} listed; of sources that come as videos {made.frame_bytes / 1e9:,.1f} GB to write and "
        f"{hours:,.1f} h to decode"
    )
    return "\n".join(lines)


def _told(who: str, calls: Calls, assumed: PlanSettings) -> str:
    tokens = f"{calls.prompt_tokens / 1e6:,.1f} M prompt tokens, {calls.answer_tokens / 1e6:,.1f} M answer tokens"
    hours = f"{calls.hours(assumed):,.1f} h with {assumed.calls_at_once} at once"
    return f"{who}: {calls.calls.total():,} calls, {tokens}, {hours}"


def _cost(calls: Calls, model: str, share: float = 1.0) -> str:
    price = price_of(model)
    return "no price known" if price is None else f"${calls.dollars(price) * share:,.0f}"

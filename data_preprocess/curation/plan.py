# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Say what a curation comes to before anything is called or written: rows of each pair, calls, dollars, hours, disk.

    python data_preprocess/curate.py plan all --root DIR                      # DIR holds a folder of each source
    python data_preprocess/curate.py plan CoPESD NurViD --root DIR --captioners gpt-4.1 gpt-4.1-mini
    python data_preprocess/curate.py plan all --published --set passes=40     # before the sources are at hand

The rows that are wanted (`--rows`, by default the 531,850 of the published set) are shared out over the pairs as in the
files that can be had; a pair that comes out short says by how much and why. `--published` takes as many videos as the
sources have, as long as theirs, with drawn labels.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

from data_preprocess.curation.captions.context import ShowSettings
from data_preprocess.curation.clips import ClipSettings
from data_preprocess.curation.model import Video
from data_preprocess.curation.planning import PUBLISHED_ROWS, Plan, PlanSettings, plan, short_of, wanted
from data_preprocess.curation.produce import Recipe, read_all, roots_of
from data_preprocess.curation.rows.drafts import RowSettings
from data_preprocess.curation.settings import settings_help, with_settings
from data_preprocess.curation.sources import READERS
from data_preprocess.curation.sources.reading import SourceError
from data_preprocess.curation.sources.settings import ReadSettings
from data_preprocess.curation.synthetic.published import published_videos
from data_preprocess.wording import Parser, status_of
from reward_score.paid_call.prices import price_of

KINDS = (PlanSettings, ShowSettings, ReadSettings, ClipSettings, RowSettings)


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
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a setting named below")
    options = parser.parse_args(arguments)
    if options.rows < 1:
        parser.error("--rows: expected a number from 1")
    try:
        assumed, show, reading, clips, rows = with_settings(options.set, *KINDS)
    except ValueError as error:
        parser.error(str(error))
    recipe = Recipe(reading, clips, rows, options.seed)
    return status_of("curate", lambda: _main(options, recipe, show, assumed), (SourceError,), "interrupted")


def _main(options: argparse.Namespace, recipe: Recipe, show: ShowSettings, assumed: PlanSettings) -> int:
    roots = roots_of(options.sources, options.root or Path())
    videos: Sequence[Video] | Iterator[Video]
    if options.published:
        videos = (video for source in roots for video in published_videos(source, options.seed))
    else:
        videos, _ = read_all(roots, recipe)
    made = plan(videos, recipe, show, assumed)
    print(text_of(made, wanted(options.rows, roots), recipe, assumed, options.captioners))
    return 0


def text_of(made: Plan, goal: dict[str, int], recipe: Recipe, assumed: PlanSettings, captioners: Sequence[str]) -> str:
    """The plan as the terminal shows it."""
    lines = [f"{'pair':<22} {'videos':>7} {'clips':>9} {'rows':>9} {'wanted':>9}"]
    for pair in sorted(goal):
        numbers = (made.videos[pair], made.clips[pair], made.rows[pair], goal[pair])
        lines.append(f"{pair:<22} {numbers[0]:>7,} {numbers[1]:>9,} {numbers[2]:>9,} {numbers[3]:>9,}")
    enough = sum(min(made.rows[pair], rows) for pair, rows in goal.items())
    lines.append(f"rows: {enough:,} of {sum(goal.values()):,} wanted ({made.rows.total():,} can be made)")
    lines += [f"short: {pair}: {why}" for pair, why in short_of(made, goal, recipe).items()]
    lines.append(
        f"captioners: {made.calls.total():,} calls, {made.prompt_tokens / 1e6:,.1f} M prompt tokens, "
        f"{made.answer_tokens / 1e6:,.1f} M answer tokens, {made.call_hours(assumed):,.1f} h with "
        f"{assumed.calls_at_once} at once"
    )
    prices = [price_of(name) for name in captioners]
    for name, price in zip(captioners, prices, strict=True):
        # Each of the two makes half of the calls.
        cost = "no price known" if price is None else f"${made.dollars(price) / 2:,.0f}"
        lines.append(f"  {name}: {cost} for its half of the calls")
    hours = made.decode_hours(assumed)
    lines.append(
        f"frames: {made.frames:,} listed; of sources that come as videos {made.frame_bytes / 1e9:,.1f} GB to write and "
        f"{hours:,.1f} h to decode"
    )
    return "\n".join(lines)

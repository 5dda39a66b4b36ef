# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Prepare the human study: is a captioner that is told what experts know better than one that sees bare frames?

    python data_preprocess/curate.py study CholecT50 --root DIR --frames-root FRAMES --captions OUT --output STUDY
        --captioner base_url=URL model=NAME [...] [--items 20] [--raters 3]

OUT is what `curate.py caption` made with this captioner. For a sample of its contexts the captioner is asked once more,
with bare frames and prompts that tell nothing. Each rater gets a page, `rater_1.html`, and a file to fill in,
`rater_1.csv`: both texts of each clip, in an order drawn for this rater, without a word on which is which. Raters score
the five dimensions of the judge from 1 to 5. `key.csv` says which is which, and stays with whoever runs the study.

    python -m recipes.medgrpo judge_study agreement --ratings STUDY/rater_1.csv STUDY/rater_2.csv --output DIR
    python data_preprocess/curate.py preference --study STUDY --ratings STUDY/rater_1.csv STUDY/rater_2.csv
"""

from __future__ import annotations

import asyncio
import base64
import html
import random
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_preprocess.atomic import write_csv, write_text
from data_preprocess.curation.captions import arguments as shared
from data_preprocess.curation.captions.captioner import Captioner
from data_preprocess.curation.captions.command import STORE
from data_preprocess.curation.captions.context import Context
from data_preprocess.curation.captions.overlay import draw
from data_preprocess.curation.captions.pipeline import Describing, Folder
from data_preprocess.curation.captions.validation import captions_of
from data_preprocess.curation.sources.reading import SourceError
from data_preprocess.curation.workers import Workers
from data_preprocess.frames import FrameRoot
from data_preprocess.wording import Parser, status_of

ARMS = ("expert", "plain")
KEY_FILE, KEY_COLUMNS = "key.csv", ("item", "arm", "context")
DIMENSIONS = ("terminology", "instruments_anatomy", "specificity", "procedure_context", "action_state")
"""What raters score, by the names that `judge_study agreement` reads."""
COLUMNS = ("item", "rater", "video", "source", "task", "question", "reference", "prediction", *DIMENSIONS)
ASKED = {
    "dvc": "Describe the events of this clip.",
    "vs": "Summarise this clip.",
    "rc": "Describe what is marked in green and what it does.",
}
PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{title}</title>
<style>body{{font:16px/1.5 sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}}
img{{height:9rem;margin:0 .3rem .3rem 0}} article{{border-top:1px solid #999;padding:1rem 0}}
blockquote{{background:#eee;color:#111;margin:0;padding:.6rem 1rem;white-space:pre-line}}</style>
<h1>{title}</h1>
<p>Look at the frames, read the text, and write 1 (worst) to 5 into the row of the same item in {file}, for each of:
{dimensions}. Leave a cell empty where you cannot tell. Please do not go back to earlier items.</p>
{items}
</html>
"""
ITEM = """<article><h2>Item {item}</h2><p>{procedure}. {asked}</p>
<div>{frames}</div><blockquote>{text}</blockquote></article>"""


@dataclass(frozen=True)
class Item:
    """A text to rate: whose clip, its frames as a rater sees them, and which arm wrote it."""

    number: int
    context: Context
    frames: tuple[bytes, ...]
    arm: str
    text: str

    def row(self, rater: str) -> list[str]:
        """Its line for a rater to fill in."""
        video = self.context.clip.video
        about = [str(self.number), rater, video.video_id, video.source, self.context.task, ASKED[self.context.task]]
        return [*about, _reference(self.context), self.text, *[""] * len(DIMENSIONS)]

    def article(self) -> str:
        """Its part of a page."""
        shown = (f'<img alt="" src="data:image/jpeg;base64,{base64.b64encode(one).decode()}">' for one in self.frames)
        return ITEM.format(
            item=self.number,
            procedure=html.escape(self.context.clip.video.procedure),
            asked=ASKED[self.context.task],
            frames="".join(shown),
            text=html.escape(self.text),
        )


def _reference(context: Context) -> str:
    """What the experts annotated, as a text beside which a judge can read a caption."""
    region = "" if context.region is None else f"{context.region.label}; "
    return region + "; ".join(f"{one.start:.1f}-{one.end:.1f} s {one.text}" for one in context.labels)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line entry; returns the exit status."""
    made = shared.parser("study", __doc__ or "")
    made.add_argument("--captions", type=Path, required=True, metavar="DIR", help="what `curate.py caption` wrote")
    made.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder to write")
    made.add_argument("--captioner", nargs="+", required=True, metavar="NAME=VALUE", help="as --captioner-a then")
    made.add_argument("--items", type=int, default=20, metavar="N", help="clips to rate, two texts each (default 20)")
    made.add_argument("--raters", type=int, default=3, metavar="N", help="pages to write (default 3)")
    options = made.parse_args(arguments)
    given = shared.captioner_options(made, "--captioner", options.captioner)
    if min(options.items, options.raters) < 1:
        made.error("--items and --raters: expected numbers from 1")
    return status_of("curate", lambda: _run(made, options, given), shared.WRONG)


def _run(made: Parser, options: Namespace, given: dict[str, Any]) -> int:
    asked, _ = shared.asked_for(options, made)
    expert = shared.make_captioner(made, given, options.captions / STORE)
    plain = shared.make_captioner(made, {**given, "plain": True}, options.captions / STORE)
    there, tables = Folder(options.captions), Folder(options.output / "tables")
    pairs = [
        (one, bare)
        for one, bare in zip(asked.all(), asked.all(expert=False), strict=True)
        if "said" in (there.descriptions.get(expert.key(one)) or {})
    ]
    if not pairs:
        raise SourceError(options.captions, "", f"descriptions by {expert.model} of these sources", "none")
    pairs = sorted(pairs, key=lambda pair: random.Random(f"{options.seed}/{pair[0].key}").random())[: options.items]
    frames = FrameRoot(options.frames_root)
    try:
        work = Describing(tables, [plain], frames, options.at_once, Workers(options.threads, options.engine))
        came = asyncio.run(work.run(bare for _, bare in pairs))
    finally:
        tables.close()
    items = _items(pairs, (there, tables), (expert, plain), frames, options.seed)
    write(items, options.output, options.raters, options.seed)
    left = len(pairs) - len(items) // 2
    print(
        f"{options.raters} pages of {len(items)} texts written to {options.output}"
        + (f"; {left} clips are left out: {dict(came.failures) or 'the captioner declined'}" if left else "")
    )
    return 0


def _items(
    pairs: Sequence[tuple[Context, Context]],
    tables: tuple[Folder, Folder],
    captioners: tuple[Captioner, Captioner],
    frames: FrameRoot,
    seed: int,
) -> list[Item]:
    """Both texts of each clip, numbered in an order that says nothing."""
    texts: list[tuple[Context, Context, str, str]] = []
    for one, bare in pairs:
        records = [
            table.descriptions.get(captioner.key(context))
            for table, captioner, context in zip(tables, captioners, (one, bare), strict=True)
        ]
        said = [record["said"] for record in records if record is not None and "said" in record]
        if len(said) == len(ARMS):
            texts += [(one, bare, arm, "\n".join(captions_of(text))) for arm, text in zip(ARMS, said, strict=True)]
    random.Random(f"{seed}/numbers").shuffle(texts)
    return [
        Item(number, one, _drawn(bare, frames), arm, text) for number, (one, bare, arm, text) in enumerate(texts, 1)
    ]


def _drawn(context: Context, frames: FrameRoot) -> tuple[bytes, ...]:
    files = frames.clip(context.clip.paths)
    return tuple(draw(files[one.index], one.marks, context.clip.video.size, 320) for one in context.shown)


def write(items: Sequence[Item], output: Path, raters: int, seed: int) -> None:
    """The pages and files of all raters, each in an order of its own, and the key."""
    output.mkdir(parents=True, exist_ok=True)
    for number in range(1, raters + 1):
        order = list(items)
        random.Random(f"{seed}/rater/{number}").shuffle(order)
        name = f"rater_{number}"
        page = PAGE.format(
            title=f"Captions of medical video, rater {number}",
            file=f"{name}.csv",
            dimensions=", ".join(one.replace("_", " and ", 1) for one in DIMENSIONS),
            items="\n".join(item.article() for item in order),
        )
        write_text(output / f"{name}.html", page)
        write_csv(output / f"{name}.csv", COLUMNS, [item.row(str(number)) for item in order])
    keys = [[str(item.number), item.arm, item.context.key] for item in sorted(items, key=lambda one: one.number)]
    write_csv(output / KEY_FILE, KEY_COLUMNS, keys)

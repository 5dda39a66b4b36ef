# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Write a small tree of every source in its native format, and the truth beside it.

    python data_preprocess/curate.py synthetic --output DIR                # all eight sources
    python data_preprocess/curate.py synthetic --output DIR --errata       # with the known errata in the files
    python data_preprocess/curate.py synthetic --output DIR --sources CoPESD NurViD --videos 8 --seconds 300 --no-media

`DIR/<source>` is what `curate.py SOURCE --root` takes, `DIR/truth/<source>.json` lists what a reader has to find in it.
The frames and videos show it: the ground has the colour of the label that goes on, boxes are filled, scores are cells.
`DIR/transcripts` has stand-ins for what is said in the web videos, written around the labels.
Equal settings give equal annotations.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path

from data_preprocess.atomic import written_whole
from data_preprocess.curation.sources.reading import SourceError
from data_preprocess.curation.synthetic import WRITERS, lectures, write_source, write_truth
from data_preprocess.curation.synthetic.drawing import Scale
from data_preprocess.curation.synthetic.pictures import write_media
from data_preprocess.wording import Parser, status_of


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line entry; returns the exit status."""
    parser = Parser("curate synthetic", __doc__)
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder to write into")
    parser.add_argument("--sources", nargs="+", choices=tuple(WRITERS), default=list(WRITERS), help="default: all")
    parser.add_argument("--videos", type=int, default=4, metavar="N", help="videos of each source (default 4)")
    parser.add_argument("--seconds", type=int, default=120, metavar="S", help="length of a video (default 120)")
    parser.add_argument("--seed", type=int, default=0, help="of everything that is drawn (default 0)")
    parser.add_argument("--no-media", action="store_true", help="annotations only, without frames and videos")
    parser.add_argument("--errata", action="store_true", help="put the known errata of the real files in")
    options = parser.parse_args(arguments)
    if options.videos < 1 or options.seconds < 60:
        parser.error("--videos and --seconds: expected at least 1 video of at least 60 seconds")
    return status_of("curate", lambda: _main(options), (SourceError,), "interrupted")


def _main(options: argparse.Namespace) -> int:
    scale = Scale(options.seed, options.videos, options.seconds, options.errata)
    for source in options.sources:
        target: Path = options.output / source
        if target.exists():
            raise SourceError(target, "", "a folder that is not there yet", "one that is")
        options.output.mkdir(parents=True, exist_ok=True)
        with written_whole(target, sync=False) as partial:
            try:
                videos = write_source(source, partial, scale)
                if not options.no_media:
                    write_media(videos, partial)
            except BaseException:
                shutil.rmtree(partial, ignore_errors=True)
                raise
        if source in lectures.SOURCES:
            lectures.write_lectures(videos, options.output / "transcripts", scale)
        write_truth(options.output / "truth" / f"{source}.json", videos)
        print(f"{target}: {len(videos)} videos, {sum(len(video.boxes) for video in videos):,} boxes")
    return 0

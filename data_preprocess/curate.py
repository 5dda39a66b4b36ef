# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Turn the source datasets' own annotations into rows of MedVidBench's format.

    python data_preprocess/curate.py CholecT50 --root DIR --check    # what is there, missing and odd; writes nothing
    python data_preprocess/curate.py CholecT50 --root DIR --output OUT
    python data_preprocess/curate.py all --root DIR --output OUT --subset 51505      # DIR holds a folder of each source
    python data_preprocess/curate.py plan all --root DIR             # rows, calls, dollars, hours, disk; writes nothing
    python data_preprocess/curate.py synthetic --output DIR          # small trees of all sources, and their truth

`SOURCE` is AVOS, CholecT50, CholecTrack20, Cholec80_CVS, CoPESD, EgoSurgery, JIGSAWS or NurViD. With one source,
`--root` is the folder of its annotations; with several, or with `all`, it holds a folder of that name for each of them.

`OUT/annotations.json` is what `medvidbench.py` reads, and `OUT/curation.json` says what it was made of. The rows are
those of the tasks that annotations alone decide: tal, stg, nap, cvs, sa. What sources and paper leave open is a setting
with a default: `--set NAME=VALUE`.

With `--frames`, videos and folders of frames are looked for below the root, where the source puts them. Rows then list
only frames that are there, and those frames are written below `OUT/frames`, once each: decoded, or linked to the
source's own. Frames that are there already are kept, so that the same command goes on after an interruption. A video
that cannot be opened or decoded is rejected with its reason, and the others go on, up to `--max-rejects` of them.

With `--engine ray` Ray Data's workers cut, decode and make rows, on this machine or on the cluster that RAY_ADDRESS
names, whose machines share the folders. The files are the same.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

if not __package__:
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from data_preprocess.curation.check import check, report
from data_preprocess.curation.clips import ClipSettings
from data_preprocess.curation.produce import ANNOTATIONS, Recipe, curate, roots_of
from data_preprocess.curation.rows.drafts import RowSettings
from data_preprocess.curation.settings import settings_help, with_settings
from data_preprocess.curation.sources import READERS
from data_preprocess.curation.sources.reading import SourceError
from data_preprocess.curation.sources.settings import ReadSettings
from data_preprocess.curation.workers import add_media_arguments, workers_of
from data_preprocess.parts import PipelineError
from data_preprocess.wording import Parser, status_of

SUBCOMMANDS = {
    "caption": "data_preprocess.curation.captions.command",
    "plan": "data_preprocess.curation.plan",
    "preference": "data_preprocess.curation.captions.preference",
    "questions": "data_preprocess.curation.questions.command",
    "standin": "data_preprocess.curation.stand_in_server",
    "study": "data_preprocess.curation.captions.study",
    "synthetic": "data_preprocess.curation.synthetic.command",
    "transcribe": "data_preprocess.curation.transcribe",
}
"""Further commands by name: the module whose `main` it is."""
KINDS = (ReadSettings, ClipSettings, RowSettings)


def parser() -> Parser:
    """The arguments of a source, or of several."""
    made = Parser("curate", f"{__doc__}\nSettings of --set:\n{settings_help(*KINDS)}")
    names = (*READERS, "all")
    made.add_argument("sources", nargs="+", choices=names, metavar="SOURCE", help="sources, or a command named above")
    made.add_argument("--root", type=Path, required=True, metavar="DIR", help="folder of the sources' annotations")
    made.add_argument("--output", type=Path, metavar="DIR", help="folder to write")
    made.add_argument("--check", action="store_true", help="say what is there, missing and odd; write nothing")
    made.add_argument("--frames", action="store_true", help="write the listed frames below OUT/frames, too")
    add_media_arguments(made)
    made.add_argument("--rows-per-pair", type=int, default=0, metavar="N", help="rows of a pair, up to (default: all)")
    made.add_argument("--subset", type=int, default=0, metavar="N", help="rows in all, balanced over tasks")
    made.add_argument(
        "--without-test", action="store_true", help="leave out operations that a source has in its own test split"
    )
    made.add_argument("--seed", type=int, default=0, help="of everything that is drawn (default 0)")
    made.add_argument("--wordings", default="", metavar="FILE", help="questions in other words, in the form of ours")
    made.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a setting named below")
    return made


def parse_arguments(arguments: Sequence[str]) -> tuple[argparse.Namespace, Recipe]:
    """The command line, and the recipe that it describes."""
    made = parser()
    options = made.parse_args(arguments)
    if not options.check and options.output is None:
        made.error("--output or --check is missing")
    options.workers = workers_of(options, made)
    if min(options.rows_per_pair, options.subset) < 0:
        made.error("--rows-per-pair and --subset: expected numbers from 0")
    words = options.wordings
    if options.engine == "ray":
        # A worker stands in another folder.
        options.root, options.output = options.root.absolute(), options.output and options.output.absolute()
        words = words and str(Path(words).absolute())
    options.roots = roots_of(options.sources, options.root)
    try:
        reading, clips, rows = with_settings(options.set, *KINDS)
    except ValueError as error:
        made.error(str(error))
    numbers = (options.seed, options.rows_per_pair, options.subset)
    return options, Recipe(reading, clips, rows, *numbers, words=words, without_test=options.without_test)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line entry; returns the exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given and given[0] in SUBCOMMANDS:
        return importlib.import_module(SUBCOMMANDS[given[0]]).main(given[1:])
    options, recipe = parse_arguments(given)
    run = _check if options.check else _curate
    return status_of(
        "curate", lambda: run(options, recipe), (SourceError, PipelineError), "interrupted; the same command goes on"
    )


def _check(options: argparse.Namespace, recipe: Recipe) -> int:
    status = 0
    for source, root in options.roots.items():
        notes, counts = check(source, root, recipe.reading, options.frames)
        print(report(source, root, notes, counts))
        status = 2 if notes.errors else status
    return status


def _curate(options: argparse.Namespace, recipe: Recipe) -> int:
    running = (options.workers, options.frames, options.max_rejects)
    manifest = curate(options.roots, options.output, recipe, *running)
    print(f"{'pair':<38} {'rows':>9} {'videos':>7}")
    for pair, entry in manifest["pairs"].items():
        print(f"{pair:<38} {entry['rows']:>9,} {entry['videos']:>7,}")
    for source, said in manifest["sources"].items():
        for what, count in said["odd"].items():
            print(f"odd: {source}: {what}: {count:,}")
        for reason in said["rejected"].values():
            print(f"rejected: {source}: {reason}")
    if options.frames:
        print(f"{manifest['frames']:,} frames listed, all below {options.output / 'frames'}")
    print(f"{manifest['rows']:,} rows written to {options.output / ANNOTATIONS}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

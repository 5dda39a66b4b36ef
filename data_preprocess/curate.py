# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Turn the source datasets' own annotations into rows of MedVidBench's format.

    python data_preprocess/curate.py CholecT50 --root DIR --check     # what is there, missing and odd; writes nothing
    python data_preprocess/curate.py synthetic --output DIR           # small trees of all sources, and their truth

`SOURCE` is AVOS, CholecT50, CholecTrack20, Cholec80_CVS, CoPESD, EgoSurgery, JIGSAWS or NurViD; `--root` is the folder
that its annotations come in. What the sources leave open is a setting with a default: `--set NAME=VALUE`.
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
from data_preprocess.curation.sources import READERS
from data_preprocess.curation.sources.reading import SourceError
from data_preprocess.curation.sources.settings import settings_help, with_settings
from data_preprocess.wording import Parser, status_of

SUBCOMMANDS = {
    "synthetic": "data_preprocess.curation.synthetic.command",
}
"""Further commands by name: the module whose `main` it is."""


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line of a source."""
    parser = Parser("curate", f"{__doc__}\nSettings of --set:\n{settings_help()}")
    parser.add_argument("source", choices=tuple(READERS), metavar="SOURCE", help="a source, or a command named above")
    parser.add_argument("--root", type=Path, required=True, metavar="DIR", help="folder of the source's annotations")
    parser.add_argument("--check", action="store_true", help="say what is there, missing and odd; write nothing")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a setting of the reader")
    options = parser.parse_args(arguments)
    try:
        options.settings = with_settings(options.set)
    except ValueError as error:
        parser.error(str(error))
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line entry; returns the exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given and given[0] in SUBCOMMANDS:
        return importlib.import_module(SUBCOMMANDS[given[0]]).main(given[1:])
    options = parse_arguments(given)
    return status_of("curate", lambda: _check(options), (SourceError,), "interrupted")


def _check(options: argparse.Namespace) -> int:
    notes, counts = check(options.source, options.root, options.settings)
    print(report(options.source, options.root, notes, counts))
    return 2 if notes.errors else 0


if __name__ == "__main__":
    raise SystemExit(main())

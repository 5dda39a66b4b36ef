# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""Write a report of some runs that a browser opens without a server.

    python -m recipes.medgrpo report outputs/NAME --output outputs/NAME/report
    python -m recipes.medgrpo report outputs/A outputs/B --output report          several runs over each other
    python -m recipes.medgrpo report outputs/NAME --output report --single-file   one file to send, below 20 MB

Writes `index.html`, and beside it the page's scripts, the data and thumbnails of frames. It shows what was run and what
came of it, the training's curves, raw signals and rewards before and after normalisation, the recorded answers beside
their clips, and the two checkpoints answer by answer. A run that is not complete is shown as far as it is;
`watch` follows it. A run that recorded no texts, or whose frames are gone, is shown without them.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from recipes.medgrpo.files import InputError
from recipes.medgrpo.terminal import Parser, command, progress, whole

ROWS_PER_PAIR, ANSWERS = 12, 100_000


def add_arguments(parser: Parser) -> None:
    """What `report` and `watch` are both told."""
    add = parser.add_argument
    add("runs", nargs="+", type=Path, metavar="RUN", help="a run's folder")
    add("--data", type=Path, metavar="DIR", help="folder of the runs' parquet files (default: as the run says)")
    add("--rows-per-pair", type=whole(0), default=ROWS_PER_PAIR, help="rows of a pair whose frames are shown")
    add("--answers", type=whole(1), default=ANSWERS, help="answers that are shown; of a longer run steps are left out")


@command("report")
def main(argv: list[str] | None = None) -> int:
    parser = Parser("report", __doc__)
    add_arguments(parser)
    parser.add_argument("--output", required=True, type=Path, metavar="DIR", help="folder to write to")
    parser.add_argument("--single-file", action="store_true", help="put everything into index.html")
    args = parser.parse_args(argv)
    if args.data is not None and not args.data.is_dir():
        raise InputError(f"--data {args.data}: no such folder")
    from recipes.medgrpo.reporting.write import Report, write_report

    begun = time.monotonic()
    report = Report(args.runs, data=args.data, rows_per_pair=args.rows_per_pair, most=args.answers)
    report.refresh()
    with progress(sum(1 for _ in report.names()), "piece", "report") as bar:
        size = write_report(report, args.output, args.single_file, bar.update)
    print(f"{args.output / 'index.html'}: {size / 1e6:.1f} MB, written in {time.monotonic() - begun:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())

# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Who does the work on a curation's videos and frames: this process and its threads, or Ray Data's workers.

What comes out is the same, in the same order. Threads are the default, since Ray takes its time to start: see
docs/curation.md.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from data_preprocess.wording import Parser

Job = TypeVar("Job")
Result = TypeVar("Result")

ENGINES = ("local", "ray")
MAX_REJECTS = 0.2
"""Share of the videos that may be unusable: with more than some broken downloads, something else is wrong."""


@dataclass(frozen=True)
class Workers:
    """Workers of an engine, `number` at a time."""

    number: int = 2
    engine: str = "local"

    def compute(self, work: Callable[[Job], Result], things: Iterable[Job]) -> Iterator[Result]:
        """What `work` makes of each thing, in order; work that holds Python's lock, so that no thread does it."""
        return map(work, things) if self.engine == "local" else self._on_ray(work, things)

    def handle(self, work: Callable[[Job], Result], things: Iterable[Job]) -> Iterator[Result]:
        """The same for work that leaves the lock, on pictures and files."""
        return self._in_threads(work, things) if self.engine == "local" else self._on_ray(work, things)

    def _in_threads(self, work: Callable[[Job], Result], things: Iterable[Job]) -> Iterator[Result]:
        with ThreadPoolExecutor(self.number) as pool:
            yield from pool.map(work, things)

    def _on_ray(self, work: Callable[[Job], Result], things: Iterable[Job]) -> Iterator[Result]:
        from data_preprocess.ray_engine import each_on_ray

        return each_on_ray(work, things, self.number)


HERE = Workers()
"""Two threads of this process."""


def add_media_arguments(parser: Parser) -> None:
    """`--threads`, `--engine` and `--max-rejects`."""
    parser.add_argument("--threads", type=int, default=2, metavar="N", help="videos worked on at a time (default 2)")
    parser.add_argument("--engine", choices=ENGINES, default="local", help="ray: N of Ray Data's workers (RAY_ADDRESS)")
    add_reject_argument(parser, "videos that cannot be opened or decoded")


def add_reject_argument(parser: Parser, what: str) -> None:
    """`--max-rejects`, a share."""
    parser.add_argument(
        "--max-rejects",
        type=float,
        default=MAX_REJECTS,
        metavar="SHARE",
        help=f"of {what}, at most (default {MAX_REJECTS:g})",
    )


def check_reject_argument(options: Namespace, parser: Parser) -> None:
    """A share that is none ends the command."""
    if not 0 <= options.max_rejects <= 1:
        parser.error("--max-rejects: expected a number from 0 to 1")


def workers_of(options: Namespace, parser: Parser) -> Workers:
    """The workers that a command line names; a wrong number ends the command."""
    if options.threads < 1:
        parser.error("--threads: expected a number from 1")
    check_reject_argument(options, parser)
    return Workers(options.threads, options.engine)

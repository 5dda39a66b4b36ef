# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The preprocessor's command line, and the three kinds of settings in it."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TypeVar

from data_preprocess.annotations import SOURCES, TASKS
from data_preprocess.box_spaces import is_space
from data_preprocess.chat import RESPONSE_TOKENS, SYSTEM_MODES
from data_preprocess.convert import Settings
from data_preprocess.frame_store import SUFFIXES
from data_preprocess.pipeline import Splitting
from data_preprocess.prompt_length import THIN_POLICIES
from data_preprocess.timeline import CLOCKS
from data_preprocess.wording import Parser
from reward_score.conventions import CONVENTIONS, convention_of

Kind = TypeVar("Kind", Settings, Splitting, "Running")


@dataclass(frozen=True)
class Running:
    """How a conversion is run; none of it changes what is written.

    `max_rejects` is the share of rows that may be unusable, 0 for none.
    """

    max_rejects: float = 0.01
    workers: int = 1
    engine: str = "local"
    resume: bool = True
    force: bool = False


def parse_arguments(arguments: Sequence[str], description: str | None) -> argparse.Namespace:
    """The command line."""
    parser = Parser("medvidbench", description)
    # The defaults are those of the settings. Which frames are checked follows from the store.
    here = {"workers": os.cpu_count() or 1, "verify": None, "box_space": ()}
    parser.set_defaults(**vars(Settings("")) | vars(Splitting()) | vars(Running()) | here)
    place = parser.add_argument_group("input and output").add_argument
    place("--annotations", nargs="+", required=True, metavar="FILE", help="JSON list or JSON lines, gzipped or not")
    place("--frames-root", required=True, metavar="DIR", help="folder that holds the listed frames")
    place("--output", required=True, metavar="DIR", help="folder to write to")
    place("--tasks", nargs="+", choices=TASKS, help="tasks to write (all)")
    place("--val-fraction", type=float, help="share of each pair's rows for validation (%(default)s)")
    place("--subset", type=int, metavar="N", help="write N training rows, task-balanced (0: all)")
    place("--seed", type=int, help="seed of the split, the subset and the examples (%(default)s)")

    model = parser.add_argument_group("model").add_argument
    model("--model-family", choices=tuple(CONVENTIONS), help="family of the model that is trained (%(default)s)")
    model("--min-pixels", type=int, help="least pixels of a resized frame (%(default)s)")
    model("--max-pixels", type=int, help="most pixels of a resized frame (%(default)s)")
    model("--tokenizer", metavar="DIR", help="store each prompt's exact length, by this tokenizer")
    model("--max-prompt-tokens", type=int, metavar="N", help="most prompt tokens (needs --tokenizer; 0: any)")
    model("--thin", choices=THIN_POLICIES, help="which frames to drop from longer prompts (%(default)s)")
    model("--system-prompt", choices=SYSTEM_MODES, help="which rows get one that states the format")
    model("--one-shot", action="store_true", help="add a solved example (cvs and sa: another one for each row)")
    model("--stills", choices=("video", "image"), help="how a row's single frame is shown (%(default)s)")
    model("--stg-decimals", type=int, choices=range(4), help="decimals of the boxes in stg targets (%(default)s)")
    model("--response-tokens", nargs="+", metavar="TASK=N", help=f"token budget of answers ({RESPONSE_TOKENS})")

    times = parser.add_argument_group("truth and time").add_argument
    times(
        "--truth",
        choices=("structure", "text"),
        help="source of the truth if struc_info and answer text differ (%(default)s)",
    )
    times("--clock", choices=CLOCKS, help="which clock gives a frame's time (%(default)s)")
    times("--timeline", choices=("uniform", "exact"), help="exact: keep the frames' own times")
    times("--max-growth", type=float, help="limit of a list's growth by holes (%(default)s)")
    times(
        "--tick-tolerance",
        type=float,
        help="a frame that is off by more than this share of a step counts as moved (%(default)s)",
    )
    times(
        "--box-space",
        nargs="+",
        metavar="SOURCE=SPACE",
        help="what a source's boxes count: canvas, 0-1, 0-1000, WIDTHxHEIGHT, xywh or xywh-SPACE",
    )
    times(
        "--outside-clip",
        choices=("reject", "keep"),
        help="what to do with rows whose times lie outside their clip (%(default)s)",
    )

    frames = parser.add_argument_group("frames").add_argument
    frames(
        "--verify",
        choices=("none", "exists", "decode"),
        help="how to check listed frames (exists; decode without a store)",
    )
    frames("--link-roots", nargs="+", metavar="DIR", help="folders that links may lead into")
    frames("--frame-store", metavar="DIR", help="folder of resized frames (OUTPUT/frames; none with --verify none)")
    frames("--no-frame-store", action="store_true", help="list the source frames and store none")
    frames(
        "--frame-format",
        choices=[suffix.lstrip(".") for suffix in SUFFIXES],
        help="file format of stored frames (%(default)s)",
    )
    frames(
        "--absolute-frame-paths",
        action="store_true",
        help="list frames by absolute path, for verl's own dataset class; the output folder cannot be moved then",
    )
    frames("--jpeg-draft", action="store_true", help="let the JPEG decoder scale down first: faster but less exact")

    way = parser.add_argument_group("how").add_argument
    way("--workers", type=int, help="number of processes (%(default)s)")
    way("--engine", choices=("local", "ray"), help="ray: run as a Ray Data job (RAY_ADDRESS)")
    way("--resume", action=argparse.BooleanOptionalAction, help="resume an interrupted run")
    way("--force", action="store_true", help="convert even if the output is up to date")
    way("--max-rejects", type=float, metavar="SHARE", help="largest share of unusable rows (0.01)")
    way("--strict", action="store_true", help="the same as --max-rejects 0")
    options = parser.parse_args(arguments)
    shares = (("val_fraction", 0, 0.999999), ("max_rejects", 0, 1), ("max_growth", 1, 1e9), ("tick_tolerance", 0, 1))
    for name, low, high in shares:
        if not low <= getattr(options, name) <= high:
            parser.error(f"--{name.replace('_', '-')} {getattr(options, name)}: expected {low} to {high:g}")
    for name, low in (("workers", 1), ("subset", 0), ("max_prompt_tokens", 0)):
        if getattr(options, name) < low:
            parser.error(f"--{name.replace('_', '-')} {getattr(options, name)}: expected {low} or more")
    if options.timeline == "exact" and not convention_of(options.model_family).stamped:
        able = " or ".join(name for name, convention in CONVENTIONS.items() if convention.stamped)
        parser.error(
            f"--timeline exact: expected --model-family {able} ({options.model_family} has one interval for a clip)"
        )
    if options.max_prompt_tokens and not options.tokenizer:
        parser.error("--max-prompt-tokens: expected --tokenizer beside it")
    if options.no_frame_store and options.frame_store:
        parser.error("--no-frame-store: expected no --frame-store beside it")
    if options.verify is None:
        # The store decodes every frame anyway.
        options.verify = "decode" if options.no_frame_store else "exists"
    if options.verify == "none" and options.frame_store:
        parser.error("--verify none: expected no --frame-store (frames are not touched)")
    spaces = [entry.partition("=")[::2] for entry in options.box_space]
    for source, space in spaces:
        if source not in SOURCES or not is_space(space):
            parser.error(f"--box-space {source}={space}: expected SOURCE=SPACE, such as CoPESD=0-1 or EgoSurgery=xywh")
    options.box_spaces = tuple(sorted(dict(spaces).items()))
    budgets = []
    for entry in options.response_tokens:
        task, _, tokens = entry.partition("=")
        if task not in TASKS or not tokens.isdecimal() or not 0 < int(tokens) < 1 << 20:
            parser.error(f"--response-tokens {entry}: expected TASK=N, such as stg=256")
        budgets.append((task, int(tokens)))
    options.response_tokens = tuple(sorted(budgets))
    options.link_roots = tuple(os.path.realpath(folder) for folder in options.link_roots)
    options.tasks = tuple(task for task in TASKS if task in options.tasks)
    options.frames_root = os.path.realpath(options.frames_root)
    options.relative_to = "" if options.absolute_frame_paths else os.path.abspath(options.output)
    if options.no_frame_store or options.verify == "none":
        options.frame_store = ""
    else:
        # A store that is not named lies in the output; one that is named, where the user stands.
        options.frame_store = os.path.abspath(options.frame_store or os.path.join(options.output, "frames"))
    options.tokenizer = os.path.abspath(options.tokenizer) if options.tokenizer else ""
    options.max_rejects = 0.0 if options.strict else options.max_rejects
    return options


def settings_of(options: argparse.Namespace) -> tuple[Settings, Splitting, Running]:
    """The three kinds of settings that a command line holds."""

    def of(kind: type[Kind]) -> Kind:
        return kind(**{field.name: getattr(options, field.name) for field in fields(kind)})

    return of(Settings), of(Splitting), of(Running)

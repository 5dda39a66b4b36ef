# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""How every command looks: its arguments, its errors and exit status, its progress and its tables.

    @command("plan")
    def main(argv: list[str] | None = None) -> int:
        args = Parser("plan", __doc__).parse_args(argv)

Imports no library, so that a command's `--help` comes at once.
"""

from __future__ import annotations

import argparse
import functools
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from data_preprocess.wording import status_of
from recipes.medgrpo.files import RecipeError
from reward_score.errors import RewardError

START = "python -m recipes.medgrpo "


class _Help(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Shows the description as it is written, and each option's default unless its help speaks of it."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        plain = "default" in (action.help or "") or action.default is None or isinstance(action.default, bool | list)
        return action.help if plain else super()._get_help_string(action)

    def _get_default_metavar_for_optional(self, action: argparse.Action) -> str:
        kinds: Mapping[object, str] = {Path: "PATH", int: "N", float: "X"}
        known = kinds.get(action.type) or getattr(action.type, "metavar", None)
        return known or super()._get_default_metavar_for_optional(action)


class Parser(argparse.ArgumentParser):
    """A command's arguments. `--help` shows the text as it is written; a wrong argument is one line, exit status 2."""

    def __init__(self, name: str | None = None, text: str | None = None, **settings: Any) -> None:
        """`name` is the command's. argparse makes the parsers of subcommands itself, and names them by `prog`."""
        settings.setdefault("prog", START + (name or ""))
        settings.setdefault("description", text)
        super().__init__(formatter_class=_Help, allow_abbrev=False, **settings)

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog.removeprefix(START)}: error: {message} (--help explains the arguments)\n")


def command(name: str) -> Callable[[Callable[[list[str]], int | None]], Callable[..., int]]:
    """Makes `main(argv=None)` the entry of the command `name`; it returns the exit status.

    What is wrong outside of the code (`RecipeError`, `RewardError`, `OSError`) is one line on stderr and exit status 2.
    Ctrl-C gives 130. A closed pipe, as of `| head`, gives 0 and no message. Any other exception is a mistake in the
    code and keeps its traceback.
    """

    def decorate(main: Callable[[list[str]], int | None]) -> Callable[..., int]:
        @functools.wraps(main)
        def run(argv: Sequence[str] | None = None) -> int:
            arguments = sys.argv[1:] if argv is None else list(argv)
            return status_of(name, lambda: main(arguments) or 0, (RecipeError, RewardError), on_interrupt="interrupted")

        return run

    return decorate


def progress(total: int | None, unit: str, label: str, done: int = 0) -> Any:
    """A progress bar on stderr (a `tqdm`, to be used with `with` and `update`); in a log file a line in 30 seconds.

    Args:
        total: how many there are, None if unknown. unit: one of them, for example ``answer``.
        label: what is under way. done: how many were done before.
    """
    from tqdm import tqdm

    plain = not sys.stderr.isatty()
    pace = {"mininterval": 30, "ascii": True, "ncols": 80} if plain else {"mininterval": 1}
    return tqdm(total=total, initial=done, unit=unit, desc=label, file=sys.stderr, **pace)


def table(header: Sequence[str], rows: Iterable[Sequence[Any]], decimals: int = 3) -> str:
    """A Markdown table with columns of even width, which reads on a terminal too.

    A cell is text, a number or None. Text is shown on one line, a ``|`` in it escaped. A whole number is shown with
    commas, another number with `decimals` digits after the point, None as ``-``. Columns of numbers stand to the right.
    """
    cells = [list(row) for row in rows]
    right = [bool(cells) and not any(isinstance(row[at], str) for row in cells) for at in range(len(header))]
    lines = [[_shown(cell, decimals) for cell in row] for row in [header, *cells]]
    widths = [max(3, *(len(line[at]) for line in lines)) for at in range(len(header))]
    text = []
    for line in lines:
        columns = zip(line, widths, right, strict=True)
        text.append("| " + " | ".join(cell.rjust(w) if r else cell.ljust(w) for cell, w, r in columns) + " |")
    rule = ("-" * (w + 1) + (":" if r else "-") for w, r in zip(widths, right, strict=True))
    text.insert(1, "|" + "|".join(rule) + "|")
    return "\n".join(text)


def _shown(cell: Any, decimals: int) -> str:
    if isinstance(cell, str):
        return " ".join(cell.split()).replace("|", "\\|")
    return number(cell, f",.{decimals}f" if isinstance(cell, float) else ",")


def number(value: float | None, form: str = ".3f") -> str:
    """A number for a table or a sentence; ``-`` for None."""
    return "-" if value is None else format(value, form)


def span(found: Mapping[str, Any], form: str = ".3f", value: str | None = "value") -> str:
    """A figure and its interval, `value [low, high]`, without what is None; with `value=None` the interval alone."""
    bounds = "" if found["low"] is None else f"[{found['low']:{form}}, {found['high']:{form}}]"
    return bounds or "-" if value is None else f"{number(found[value], form)} {bounds}".rstrip()


def fields(values: Mapping[str, Any]) -> str:
    """One line for each named value, the values below each other."""
    width = max(map(len, values), default=0)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in values.items())


def whole(low: int, high: int | None = None) -> Callable[[str], int]:
    """An argument's type: a whole number from `low`, up to `high`."""
    return _between(int, "a whole number", low, high)


def real(low: float, high: float | None = None, *, above: bool = False) -> Callable[[str], float]:
    """An argument's type: a finite number from `low` (with `above`: greater than it), up to `high`."""
    return _between(float, "a number", low, high, above)


def _between(kind: type, what: str, low: float, high: float | None, above: bool = False) -> Callable[[str], Any]:
    expected = f"{what} {'above' if above else 'from'} {low:g}" + ("" if high is None else f" to {high:g}")

    def parse(text: str) -> Any:
        try:
            value = kind(text)
        except ValueError:
            value = float("nan")
        if not (low < value if above else low <= value) or not value <= (sys.float_info.max if high is None else high):
            raise argparse.ArgumentTypeError(f"expected {expected}, got {text!r}")
        return value

    vars(parse)["metavar"] = "N" if kind is int else "X"
    return parse

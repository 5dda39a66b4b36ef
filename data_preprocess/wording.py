# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""What the commands say: values from untrusted files in one line, errors, exit statuses."""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Callable
from typing import Any, NoReturn

_WIDTH = 80


class Parser(argparse.ArgumentParser):
    """A command's arguments; a wrong one is a single line and exit status 2."""

    def __init__(self, prog: str, description: str | None) -> None:
        super().__init__(prog, description=description, formatter_class=argparse.RawDescriptionHelpFormatter)

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message} (--help explains the arguments)\n")


def status_of(
    name: str,
    run: Callable[[], int],
    wrong: tuple[type[Exception], ...],
    on_interrupt: str = "interrupted; the same command goes on from here",
) -> int:
    """Runs a command: its exit status, as every command of the project has it.

    Args:
        name: the command's. run: does its work and returns the status.
        wrong: errors of the input. They and `OSError` are one line on stderr and status 2; Ctrl-C gives 130, and says
            `on_interrupt`; a closed pipe, as of `| head`, gives 0.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A terminal that cannot show a name must not end a finished run.
            stream.reconfigure(errors="backslashreplace")
    errors: tuple[type[Exception], ...] = (*wrong, OSError)
    try:
        status = run()
        sys.stdout.flush()
        return status
    except BrokenPipeError:
        # Python flushes the stream once more when it ends, and would complain again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print(f"{name}: {on_interrupt}", file=sys.stderr)
        return 130
    except errors as error:
        said = " ".join(str(error).split()) or type(error).__name__
        if isinstance(error, OSError) and error.errno is not None and error.filename is not None:
            said = f"{error.filename}: {error.strerror or type(error).__name__}"
        print(f"{name}: error: {said}", file=sys.stderr)
        return 2


def is_text(name: str) -> bool:
    """Whether a name is valid Unicode: on the disk it may be any bytes."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def short(value: Any, width: int = _WIDTH) -> str:
    """A value on one line of at most `width` printable characters."""
    try:
        text = value if isinstance(value, str) else repr(value)
    except RecursionError:
        text = f"a nested {type(value).__name__}"
    text = " ".join(text[: 5 * width].split()) + "..." * (len(text) > 5 * width)
    text = "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)
    return text if len(text) <= width else text[: width - 3] + "..."

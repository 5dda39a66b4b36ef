# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Files that appear whole or not at all."""

from __future__ import annotations

import csv
import io
import json
import os
import secrets
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def written_whole(target: Path, sync: bool = True, folder: Path | None = None) -> Iterator[Path]:
    """A path to write to: the file there takes the name `target` when the block ends, and goes when it fails.

    It lies in `folder`, by default the target's. With `sync` the content is on the disk before the name is, so that not
    even a power failure leaves half a file.
    """
    # Several machines may share the folder: a process's number would not tell them apart.
    partial = (folder or target.parent) / f".{target.name}.{secrets.token_hex(6)}.tmp"
    try:
        yield partial
        if sync:
            with open(partial, "rb") as handle:
                os.fsync(handle.fileno())
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)


def write_json_list(target: Path, elements: Iterable[bytes]) -> None:
    """Writes encoded elements as a JSON list, one a line, as a stream; `target` appears only when it is complete."""
    with written_whole(target) as partial, open(partial, "wb", buffering=1 << 20) as file:
        separator = b"[\n"
        for element in elements:
            file.write(separator + element)
            separator = b",\n"
        file.write(b"\n]\n" if separator != b"[\n" else b"[]\n")


def write_text(target: Path, text: str) -> None:
    """Writes a text in UTF-8."""
    with written_whole(target) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(target: Path, value: Any) -> None:
    """Writes a JSON value to be read by people: indented, letters of all languages as they are."""
    write_text(target, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def write_csv(target: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Writes a table as CSV with a line of names above it."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    write_text(target, text.getvalue())

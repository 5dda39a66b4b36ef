# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""Reading and writing of the recipe's files: atomic writes, JSON lines that survive a kill, fingerprints, errors."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import tempfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
GZIP = ".gz"
NO_SIGNAL = (
    *("normalization.py", "statistics.py", "bootstrap.py", "leaderboard"),  # what is done with signals later
    "pieces.py",  # where answers are mended, before a training
    *("paid_call/store", "paid_call/limits.py", "paid_call/flights.py"),  # when a judge is asked
    *("paid_call/keys.py", "paid_call/metering.py", "paid_call/prices.py", "paid_call/usage.py"),  # and what it costs
    *("judge/metering.py", "judge/__main__.py"),
    "similarity/server.py",  # a server is known by its vectors
)
"""Sources of `reward_score` that cannot change a raw signal: a change of theirs must not have answers scored again."""


class RecipeError(Exception):
    """Something outside of the code is wrong: an input, a setting, a server. A command ends with its message."""


class InputError(RecipeError, ValueError):
    """A file, a row or a setting that the user gave and that cannot be used. The message names it."""


def write_atomic(path: Path, content: str | bytes) -> None:
    """The whole content under its final name, or nothing."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(draft, 0o644)
        os.replace(draft, path)
    except BaseException:
        Path(draft).unlink(missing_ok=True)
        raise


def write_json(path: Path, value) -> None:
    write_atomic(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def _decoded(text: str, place: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{place} is not JSON: {error}") from error


def _text(path: Path) -> str:
    """The text of a file, unpacked where its name ends in `.gz`."""
    content = Path(path).read_bytes()
    try:
        return (gzip.decompress(content) if Path(path).suffix == GZIP else content).decode()
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: expected UTF-8: {error}") from error
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InputError(f"{path}: expected a gzip file: {error}") from error


def read_json(path: Path) -> Any:
    """The value in a JSON file. Raises InputError where it is no JSON, OSError where it cannot be read."""
    return _decoded(_text(path), f"{path}: the file")


def read_json_lines(path: Path) -> list[dict]:
    """The complete lines of a file. A last line that a kill cut short is left out. Raises InputError."""
    if not Path(path).exists():
        return []
    lines = _text(path).split("\n")
    records = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            records.append(_decoded(line, f"{path}: line {number}"))
        except InputError:
            if number < len(lines):
                raise
    return records


def write_json_lines(path: Path, records: Iterable[dict]) -> None:
    """One record a line, packed where the name ends in `.gz`."""
    text = "".join(json.dumps(record, allow_nan=False) + "\n" for record in records)
    write_atomic(path, gzip.compress(text.encode(), mtime=0) if Path(path).suffix == GZIP else text)


def _digest(files: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.name.encode())
        with open(file, "rb") as handle:
            while block := handle.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def data_fingerprint(path: Path) -> str:
    """sha256 of a file's name and content."""
    return _digest([Path(path)])


def model_fingerprint(path: Path) -> str:
    """sha256 over a checkpoint in HF format: weights, settings, tokenizer, processor and chat template."""
    weights = sorted(Path(path).glob("*.safetensors"))
    if not weights:
        raise FileNotFoundError(f"{path}: no *.safetensors here, expected a checkpoint in HF format")
    said = [file for pattern in ("*.json", "*.jinja", "*.txt") for file in Path(path).glob(pattern)]
    return _digest([*weights, *sorted(said)])


def code_fingerprint() -> str:
    """sha256 over the sources that define a raw signal, the judge's prompts among them.

    Everything in `reward_score` counts but what `NO_SIGNAL` names: a new module counts until somebody says otherwise.
    """
    room = ROOT / "reward_score"
    left_out = {file for name in NO_SIGNAL for file in [room / name, *(room / name).rglob("*")]}
    return _digest(file for file in sorted([*room.rglob("*.py"), *room.rglob("*.txt")]) if file not in left_out)

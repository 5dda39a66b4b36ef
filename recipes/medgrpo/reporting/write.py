# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""Some runs as one report: the pieces of data of all, and a folder or a single file of them."""

from __future__ import annotations

import base64
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from recipes.medgrpo.files import InputError
from recipes.medgrpo.reporting.overview import iso, overview
from recipes.medgrpo.reporting.page import write_page
from recipes.medgrpo.reporting.payload import as_json, script
from recipes.medgrpo.reporting.thumbnails import Thumbnails
from recipes.medgrpo.reporting.view import NAME, RunView

FORMAT = 1
SINGLE_MB = 20
"""Largest report in a single file."""
MARK = "data/index.js"
"""A folder with this file is a report, which another one may replace."""


class Report:
    """Some runs beside each other. `settings` are those of `RunView`."""

    def __init__(self, runs: Sequence[Path], *, live: bool = False, **settings: Any):
        names = [run.resolve().name for run in runs]
        if len(set(map(Path.resolve, runs))) < len(runs):
            raise InputError(f"{', '.join(map(str, runs))}: expected each run once")
        # Folders of one name are told apart by the folders above.
        names = [
            name if names.count(name) == 1 else "/".join(run.resolve().parts[-2:])
            for name, run in zip(names, runs, strict=True)
        ]
        self.thumbs, self.live = Thumbnails(), live
        self.runs = [
            RunView(run, number, name, self.thumbs, **settings)
            for number, (run, name) in enumerate(zip(runs, names, strict=True))
        ]

    def refresh(self) -> bool:
        """Take up what is new in the runs' folders; whether anything is."""
        return any([run.refresh() for run in self.runs])

    def index(self, single: bool = False) -> dict[str, Any]:
        """What the page loads first."""
        title = " and ".join(run.name for run in self.runs) if len(self.runs) < 4 else f"{len(self.runs)} runs"
        made = iso(time.time())
        return {
            "format": FORMAT,
            "title": title,
            "made": made,
            "single": single,
            "live": self.live,
            "runs": [overview(run) for run in self.runs],
        }

    def names(self) -> Iterator[str]:
        """The pieces of data but the index; rows come when the other pieces of their run have been made."""
        for run in self.runs:
            yield from run.names()

    def piece(self, name: str, first: int = 0) -> dict[str, Any] | None:
        """A piece of data by its name, None for another name."""
        if name == "index":
            return self.index()
        found = NAME.fullmatch(name)
        run = next((run for run in self.runs if found and run.id == found[2]), None)
        if found is None or run is None:
            return None
        return run.piece(found[1], None if found[3] is None else int(found[3]), first)


def write_report(report: Report, output: Path, single: bool, note: Callable[[int], Any] = lambda pieces: None) -> int:
    """Write a report that has taken up its runs; returns its size in bytes.

    The folder appears whole; one that is a report is replaced. `note` is told of each piece of data that is done.

    Raises:
        InputError: the folder holds something else; a single file that would be too large.
    """
    if output.exists() and not (output / MARK).exists() and not (output / "index.html").exists():
        if not output.is_dir() or any(output.iterdir()):
            raise InputError(f"{output}: holds something that is no report; expected a new folder, or one of a report")
    output.parent.mkdir(parents=True, exist_ok=True)
    draft = output.parent / f".{output.name}.{secrets.token_hex(4)}"
    draft.mkdir()
    try:
        size = _write_single(report, draft, note) if single else _write_folder(report, draft, note)
        _replace(draft, output)
        return size
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise


def _write_folder(report: Report, folder: Path, note: Callable[[int], Any]) -> int:
    for name in report.names():
        write_plain(folder / f"data/{name}.js", script(name, as_json(report.piece(name))).encode())
        note(1)
    for name in report.thumbs.paths:
        if (picture := report.thumbs.picture(name)) is not None:
            write_plain(folder / name, picture)
    write_plain(folder / MARK, script("index", as_json(report.index())).encode())
    write_page(folder, single=None, live=False)
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def _write_single(report: Report, folder: Path, note: Callable[[int], Any]) -> int:
    pieces: dict[str, str] = {}
    size = 0
    for name in report.names():
        piece = report.piece(name)
        pieces[name] = as_json(_with_pictures(piece, report.thumbs) if piece and name.startswith("rows_") else piece)
        size += len(pieces[name])
        if size > SINGLE_MB * 1e6:
            raise InputError(
                f"--single-file: more than {SINGLE_MB} MB of data; expected less: leave the option out, "
                "or lower --rows-per-pair or --answers"
            )
        note(1)
    write_page(folder, single={"index": as_json(report.index(single=True)), **pieces}, live=False)
    return (folder / "index.html").stat().st_size


def _with_pictures(rows: Mapping[str, Any], thumbs: Thumbnails) -> dict[str, Any]:
    """Rows whose thumbnails are in place of their names."""

    def shown(name: str | None) -> str | None:
        picture = thumbs.picture(name) if name else None
        return None if picture is None else f"data:image/jpeg;base64,{base64.b64encode(picture).decode()}"

    pictured = [
        row | {"frames": [frame | {"thumb": shown(frame["thumb"])} for frame in row["frames"]]} for row in rows["rows"]
    ]
    return {**rows, "rows": pictured}


def write_plain(path: Path, content: bytes) -> None:
    """A file of a folder that is not yet under its name: nobody reads it before it is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def _replace(draft: Path, output: Path) -> None:
    """Put a folder in the place of another, which is out of the way for a moment only."""
    former = draft.with_name(f"{draft.name}.former")
    if output.exists():
        os.replace(output, former)
    os.replace(draft, output)
    shutil.rmtree(former, ignore_errors=True)

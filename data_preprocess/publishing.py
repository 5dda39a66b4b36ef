# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The finished files of an output folder: whose they are, whether they are current, and how new ones replace them.

A parquet file says in its metadata which annotations and settings it was made from. A run replaces the files of an
earlier run of the same annotations. It leaves files of other annotations alone where they have the same settings, so
that one folder can hold the training rows and the test rows of one configuration. It refuses every other folder.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from data_preprocess.atomic import write_json
from data_preprocess.frame_store import is_whole
from data_preprocess.pipeline import SPLITS
from data_preprocess.provenance import sha256

_ONE_RUN = {"train", "val"}
"""Splits that are drawn together: one without the other of the same run would share videos with it."""
# Of a finished output so many rows are looked at, in so many row groups of each file.
_ROWS_LOOKED_AT, _GROUPS_LOOKED_AT = 25, 8


class OutputError(ValueError):
    """An output folder that this run must not write to; the message is one line."""


def audits(output: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """The audits of a folder's runs: `audit.json` is the last run's, `audit-SPLITS.json` those of files beside it."""
    for path in sorted(output.glob("audit*.json")):
        try:
            audit = json.loads(path.read_text(encoding="utf-8"))
            if isinstance(audit["outputs"], dict):
                yield path, audit
        except (OSError, ValueError, KeyError, TypeError):
            continue


def up_to_date(output: Path, key: str, store: str, max_rejects: float, verify: str) -> dict[str, Any] | None:
    """The audit of a finished run with this fingerprint and frame store whose files are as they were, else None.

    A run that rejected rows for their frames is never up to date: the frames may be there by now. Of the listed frames
    a sample is looked for, unless `verify` is "none".
    """
    for _, audit in audits(output):
        try:
            if (audit["fingerprint"], audit["frame_store_id"]) != (key, store) or audit["frame_rejects"]:
                continue
            if audit["rows"]["rejected"] > max_rejects * audit["rows"]["read"]:
                continue
            known = {output / name: entry["sha256"] for name, entry in audit["outputs"].items()}
            if all(sha256(path) == digest for path, digest in known.items()):
                there = verify == "none" or all(_frames_are_there(path, bool(store)) for path in known)
                return audit if there else None
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return None


def _frames_are_there(parquet: Path, stored: bool) -> bool:
    """Whether the frames of a few rows, evenly spread over the file, are there; stored ones are whole, too."""
    seen: set[str] = set()
    with pq.ParquetFile(parquet) as file:
        groups = file.num_row_groups
        for group in range(0, groups, max(1, groups // _GROUPS_LOOKED_AT)):
            rows = file.read_row_group(group, columns=["videos"])
            for (video,) in rows["videos"].to_pylist()[:: max(1, rows.num_rows // _ROWS_LOOKED_AT)]:
                size = (video["resized_width"], video["resized_height"]) if stored else None
                for name in set(video["video"]) - seen:
                    path = os.path.join(parquet.parent, name)
                    if not is_whole(path, os.stat(path).st_size, size):
                        return False
                seen.update(video["video"])
    return True


def to_replace(output: Path, metadata: Mapping[str, str], made: Collection[str] | None = None) -> set[str]:
    """The splits in the folder that this run's files take the place of.

    Args:
        output: the folder.
        metadata: what this run's parquet files say of themselves.
        made: the splits that this run writes; None while they are not known.

    Raises:
        OutputError: a parquet file there was not made by this command, or was made with other settings, or of other
            annotations while this run would write it, or would write the other half of its split.
    """
    replaced = set()
    mine = _inputs(metadata)
    for split in SPLITS:
        path = output / f"{split}.parquet"
        if not path.exists():
            continue
        found = _metadata(path)
        theirs = _inputs(found)
        same_content = sorted(theirs.values()) == sorted(mine.values())
        if same_content or (theirs.keys() == mine.keys() and split in (made or SPLITS)):
            replaced.add(split)
            continue
        why = "this command did not write it, or it is damaged"
        if theirs:
            why = f"it was made of {', '.join(theirs)}, and {_others(found, metadata)}"
            clash = {split} | (_ONE_RUN if split in _ONE_RUN else set())
            if not _others(found, metadata):
                if not clash & set(made or ()):
                    continue
                why = f"it was made of {', '.join(theirs)}, and this run would write {' and '.join(sorted(made or ()))}"
        raise OutputError(f"{path} stays as it is: {why}; choose another --output")
    return replaced


def _metadata(path: Path) -> dict[str, str]:
    """What a parquet file says of how it was made; nothing where it cannot be read."""
    try:
        found = pq.read_schema(path).metadata or {}
        return {key.decode(): value.decode() for key, value in found.items() if key.startswith(b"medgrpo.")}
    except (OSError, pa.ArrowException, UnicodeDecodeError):
        return {}


def _inputs(metadata: Mapping[str, str]) -> dict[str, str]:
    """The annotation files that a parquet file was made of: name to hash of the content."""
    return {entry["name"]: entry["sha256"] for entry in json.loads(metadata.get("medgrpo.inputs", "[]"))}


def _others(found: Mapping[str, str], metadata: Mapping[str, str]) -> str:
    """What differs between two configurations, in words; empty where nothing does."""
    if found.get("medgrpo.format") != metadata["medgrpo.format"]:
        return "by another version of this command"
    one, other = (json.loads(each["medgrpo.settings"]) for each in (found, metadata))
    names = sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))
    return f"with another {', '.join(names)}" if names else ""


def publish(scratch: Path, output: Path, audit: dict[str, Any], replaced: Collection[str]) -> None:
    """Moves the finished files to their names, the audit last.

    `replaced` are the splits of `to_replace`: a file of theirs that has no successor goes. The audit of files that
    stay is kept beside the new one.
    """
    gone = {f"{split}.parquet" for split in replaced} | audit["outputs"].keys()
    for path, earlier in list(audits(output)):
        stay = [split for split in SPLITS if f"{split}.parquet" in earlier["outputs"].keys() - gone]
        if stay:
            os.replace(path, output / f"audit-{'-'.join(stay)}.json")
        else:
            path.unlink(missing_ok=True)
    for split in SPLITS:
        name = f"{split}.parquet"
        made = scratch / name
        if made.exists():
            with open(made, "rb") as handle:
                os.fsync(handle.fileno())
            os.replace(made, output / name)
        elif split in replaced:
            (output / name).unlink(missing_ok=True)
    write_json(output / "audit.json", audit)

# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Hashes of all that the output depends on: inputs, settings, this code and the libraries that it uses."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from data_preprocess.convert import Settings
from data_preprocess.pipeline import Splitting

FORMAT = 3
"""Of the parquet columns and of `audit.json`."""

# Modules that the output does not depend on.
_NO_PART_OF_IT = {
    "curate.py",
    "leaks.py",
    "overview.py",
    "ray_engine.py",
    "synthetic.py",
    "synthetic_rows.py",
    "synthetic_text.py",
    "synthetic_video.py",
}


def code_fingerprint() -> str:
    """Hash of the code that decides the output: this package, and what it uses of the reward's."""
    here = Path(__file__).resolve().parent
    files = sorted(path for path in here.glob("*.py") if path.name not in _NO_PART_OF_IT)
    used = ("answers", "boxes", "conventions", "references", "seconds", "tasks", "vocabularies", "wrappers")
    files += [Path(__file__).resolve().parents[1] / "reward_score" / f"{name}.py" for name in used]
    digest = hashlib.sha256()
    for path in files:
        digest.update(path.read_bytes() if path.exists() else b"")
    return digest.hexdigest()


def tools(settings: Settings) -> dict[str, str]:
    """Versions of the libraries that the output depends on, and the hash of the tokenizer."""
    names = [
        "pyarrow",
        *["Pillow"] * bool(settings.frame_store),
        *["transformers", "tokenizers"] * bool(settings.tokenizer),
    ]
    found = {name: importlib.metadata.version(name) for name in names}
    if settings.tokenizer:
        digest = hashlib.sha256()
        for path in sorted(Path(settings.tokenizer).glob("*")):
            if path.suffix in (".json", ".txt", ".jinja", ".model") and path.is_file():
                digest.update(path.name.encode() + path.read_bytes())
        found["tokenizer"] = digest.hexdigest()
    return found


def portable(settings: Settings) -> dict[str, Any]:
    """The settings as the output tells them: folders below the output by their path in it, so that it can be moved."""
    values = asdict(settings)
    if settings.relative_to:
        for name in ("frames_root", "frame_store", "relative_to"):
            if Path(values[name]).is_relative_to(settings.relative_to):
                values[name] = os.path.relpath(values[name], settings.relative_to)
    return values


def describe(inputs: Sequence[dict[str, Any]], settings: Settings, splitting: Splitting) -> dict[str, str]:
    """What the output depends on, for the parquet files' metadata; `fingerprint` is the hash of all other entries."""
    named = [
        {"name": os.path.basename(entry["file"]), "bytes": entry["bytes"], "sha256": entry["sha256"]}
        for entry in inputs
    ]
    parts = {
        "medgrpo.format": str(FORMAT),
        "medgrpo.inputs": json.dumps(named),
        "medgrpo.settings": json.dumps(portable(settings), sort_keys=True),
        "medgrpo.splitting": json.dumps(asdict(splitting), sort_keys=True),
        "medgrpo.code": code_fingerprint(),
        "medgrpo.tools": json.dumps(tools(settings), sort_keys=True),
    }
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
    return {**parts, "medgrpo.fingerprint": digest}


def curated(inputs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What `curate.py` says of the inputs that it made, by name: the manifest that stands beside each of them."""
    found = {}
    for entry in inputs:
        try:
            manifest = json.loads(Path(entry["file"]).with_name("curation.json").read_text(encoding="utf-8"))
            if manifest["sha256"] == entry["sha256"]:
                found[os.path.basename(entry["file"])] = manifest
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return found


def sha256(path: str | Path) -> str:
    """Hash of a file's bytes."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()

# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""What `preflight` looks at of a machine: packages, GPUs, disk, and the model to start from. `host` has the rest.

Each check returns a line for everything that is wrong, and [] where nothing is.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from safetensors import SafetensorError, safe_open

from recipes.medgrpo.planning.host import GIB, seen

VERL = "0.9.1"
PINNED = Path(__file__).resolve().parents[3] / "constraints" / "gpu.txt"
"""The set that the recipes were written for; a copy of this folder elsewhere comes without it."""
GPU_PACKAGES = ("verl", "transformers", "torch", "vllm", "flash-attn")
"""Those whose behaviour the recipes rely on beyond what an import would tell."""
MAX_USED_GIB = 2.0
"""Of a GPU, by whatever is there already: the driver and a desktop stay below it."""


def _plain(name: str) -> str:
    """An installed package's version without its build (`+cu130`). Raises PackageNotFoundError."""
    return version(name).partition("+")[0]


def check_verl() -> list[str]:
    if _plain("verl") != VERL:
        return [f"verl {version('verl')} is installed, this recipe needs {VERL}"]
    return []


def check_packages(pinned: Path = PINNED, names: Iterable[str] = GPU_PACKAGES) -> list[str]:
    """Packages whose version is not the pinned set's (lines `name==version`)."""
    if not pinned.is_file():
        return []
    lines = pinned.read_text(encoding="utf-8").splitlines()
    wanted = dict(line.split("==") for line in lines if "==" in line and not line.startswith("#"))
    problems = []
    for name in names:
        try:
            found = _plain(name)
        except PackageNotFoundError:
            problems.append(f"{name} is not installed, {pinned} has {wanted[name]}")
            continue
        if found != wanted[name]:
            problems.append(f"{name} {found} is installed, {pinned} has {wanted[name]}")
    return problems


QUERY = ("nvidia-smi", "--query-gpu=index,name,memory.total,memory.used", "--format=csv,noheader,nounits")
_GPU = re.compile(r"(\d+), (.*), (\d+), (\d+)")
"""A line of its answer: index, name, and MiB in all and in use."""


def check_gpus(number: int, gib: float) -> list[str]:
    """Whether `number` GPUs are there, each of at least `gib` GiB and free.

    Of the machine's only those are looked at that CUDA_VISIBLE_DEVICES names by number: the others may be at work.
    """
    try:
        done = subprocess.run(QUERY, capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        return [f"nvidia-smi does not tell the GPUs: {str(error).splitlines()[0]}"]
    lines = done.stdout.strip().splitlines()
    gpus = [match.groups() for match in map(_GPU.fullmatch, lines) if match]
    if len(gpus) < len(lines):
        return [f"nvidia-smi does not tell the GPUs: it says {lines[0]!r}"]
    gpus = [gpu for gpu in gpus if seen(gpu[0])]
    problems = [] if len(gpus) >= number else [f"{len(gpus)} GPUs found, {number} needed"]
    for index, name, total, used in gpus[:number]:
        if int(total) / 1024 < gib:
            problems.append(
                f"GPU {index} ({name}) has {int(total) / 1024:.1f} GiB, {gib:g} needed: GPU_GIB says how much"
            )
        if int(used) / 1024 > MAX_USED_GIB:
            problems.append(f"GPU {index} ({name}): {int(used) / 1024:.1f} GiB are in use by something else")
    return problems


def check_disk(folder: Path, gib: float) -> list[str]:
    place = folder
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free / GIB
    return [] if free >= gib else [f"{folder}: {free:.1f} GiB free, {gib:.1f} GiB needed for checkpoints"]


def check_model(folder: Path, family: str | None) -> list[str]:
    """Whether a folder holds a whole model of `family` in HF format, no adapters and no missing part."""
    problems = []
    config = folder / "config.json"
    try:
        found = json.loads(config.read_text(encoding="utf-8")).get("model_type")
    except (OSError, ValueError, AttributeError) as error:
        return [f"{config}: cannot be read: {str(error).splitlines()[0]}"]
    if family is not None and found != family:
        problems.append(f"{config}: model_type is {found!r}, expected {family!r}")
    index, single = folder / "model.safetensors.index.json", folder / "model.safetensors"
    names: Iterable[str] = ()
    try:
        if index.is_file():
            parts = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
            names = parts
            missing = sorted({part for part in parts.values() if not (folder / part).is_file()})
            problems += [f"{folder}: {part} is missing, and {index.name} names it" for part in missing]
        elif single.is_file():
            with safe_open(single, "np") as weights:
                names = list(weights.keys())
        else:
            problems.append(f"{folder}: neither {single.name} nor {index.name} there, expected the model's weights")
    except (OSError, ValueError, KeyError, AttributeError, SafetensorError) as error:
        problems.append(f"{folder}: its weights cannot be read: {str(error).splitlines()[0]}")
    if any(".lora_" in name for name in names):
        problems.append(f"{folder}: holds LoRA adapters beside the base, expected a merged model")
    return problems

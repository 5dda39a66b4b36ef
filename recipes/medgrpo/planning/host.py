# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""What `preflight` looks at around the GPUs: driver, shared memory, compiler, C library, host memory, Ray.

The figures are those of `constraints/gpu.txt`. Each check returns a line for everything that is wrong, with what is
needed and what to do, and [] where nothing is.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import sysconfig
from pathlib import Path

import psutil

GIB = 1 << 30
DRIVER = (580, 65)
"""The oldest driver of CUDA 13, which the pinned torch and vLLM are built for."""
CAPABILITY = (8, 0)
"""The oldest cards (Ampere) with bfloat16 and flash-attn 2."""
GLIBC = (2, 31)
"""The oldest C library that every wheel of the set installs on; llguidance has none for an older one."""


def _ask(*command: str) -> str:
    """What a command prints. Raises OSError where it is missing, SubprocessError where it fails."""
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".")[:2])


def _words(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))


def seen(index: str) -> bool:
    """Whether the run may use a GPU: all, or those that CUDA_VISIBLE_DEVICES names by number."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    return not re.fullmatch(r"\d+(,\d+)*", visible) or index in visible.split(",")


def check_driver() -> list[str]:
    """Driver and compute capability of the GPUs that `nvidia-smi` lists; where it fails, `check_gpus` says so."""
    try:
        said = _ask("nvidia-smi", "--query-gpu=index,driver_version,compute_cap", "--format=csv,noheader")
        gpus = [tuple(field.strip() for field in line.split(",")) for line in said.strip().splitlines()]
        found = [(index, driver, _version(driver), capability) for index, driver, capability in gpus if seen(index)]
        old = [(index, capability) for index, _, _, capability in found if _version(capability) < CAPABILITY]
    except (OSError, subprocess.SubprocessError):
        return []
    except ValueError:
        return [f"nvidia-smi does not tell driver and compute capability: it says {said.splitlines()[0]!r}"]
    problems = []
    if found and found[0][2] < DRIVER:
        problems.append(
            f"the NVIDIA driver is {found[0][1]}, {_words(DRIVER)} or newer is needed (CUDA 13): update it; a "
            "container uses its host's"
        )
    return problems + [
        f"GPU {index} has compute capability {capability}, {_words(CAPABILITY)} or newer is needed (bfloat16, "
        "flash-attn 2): leave it out by CUDA_VISIBLE_DEVICES, or use another machine"
        for index, capability in old
    ]


def check_shm(gib: float, folder: Path = Path("/dev/shm")) -> list[str]:
    """Free shared memory: data loaders, vLLM's workers and Ray's object store hand clips over in it."""
    try:
        free = shutil.disk_usage(folder).free / GIB
    except OSError:
        return [f"{folder}: missing, {gib:g} GiB of shared memory are needed: mount a tmpfs there"]
    if free >= gib:
        return []
    return [
        f"{folder}: {free:.1f} GiB free, {gib:g} GiB needed: docker run --shm-size={gib:g}g, or mount -o "
        f"remount,size={gib:g}G {folder}; SHM_GIB says how much"
    ]


def check_compiler(headers: Path | None = None) -> list[str]:
    """A C compiler and Python.h: Triton compiles a launcher of its kernels when training starts.

    Args:
        headers: the interpreter's folder of C headers (default: this one's).
    """
    problems = []
    # In Triton's order.
    compiler = os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None or shutil.which(compiler) is None:
        problems.append(
            f"no C compiler ({compiler or 'gcc, clang'}), Triton needs one when training starts: install gcc, or name "
            "one in CC"
        )
    header = (headers or Path(sysconfig.get_paths()["include"])) / "Python.h"
    if not header.is_file():
        python = f"python3.{sys.version_info.minor}"
        problems.append(
            f"{header}: missing, Triton needs it when training starts: install Python's headers (Debian: apt install "
            f"{python}-dev)"
        )
    return problems


def check_glibc() -> list[str]:
    try:
        name, version = _ask("getconf", "GNU_LIBC_VERSION").split()
        found = _version(version)
    except (OSError, subprocess.SubprocessError, ValueError):
        return [f"the C library is not glibc, {_words(GLIBC)} or newer is needed: use another system or image"]
    if found >= GLIBC:
        return []
    return [
        f"{name} {version} is this system's C library, {_words(GLIBC)} or newer is needed (llguidance has no wheel for "
        "an older one): use a newer system, or the image of examples/docker"
    ]


def memory_limit(cgroup: Path = Path("/sys/fs/cgroup")) -> float:
    """Bytes of memory that this process and its children may use: the machine's, or its container's."""
    limits = [psutil.virtual_memory().total]
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        try:
            limits.append(int((cgroup / name).read_text()))
        except (OSError, ValueError):  # no such version of cgroups, or "max"
            continue
    return min(limits)


def check_host(gib: float, cgroup: Path = Path("/sys/fs/cgroup")) -> list[str]:
    total = memory_limit(cgroup) / GIB
    if total >= gib:
        return []
    return [
        f"this machine has {total:.1f} GiB of memory, {gib:g} needed while it trains: HOST_GIB says how much, "
        "`recipes.medgrpo plan` what for"
    ]


def running_ray(folder: Path | None = None) -> str | None:
    """The address of a Ray cluster that runs on this machine and that Ray would join by itself; None without one.

    Args:
        folder: where Ray notes it (default: as Ray chooses it).
    """
    folder = folder or Path(os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp") / "ray"
    try:
        address = (folder / "ray_current_cluster").read_text(encoding="utf-8").strip()
        host, _, port = address.rpartition(":")
        # The note outlives a cluster that was killed.
        with socket.create_connection((host, int(port)), timeout=5):
            return address
    except (OSError, ValueError):
        return None


def notes_on_ray(folder: Path | None = None) -> list[str]:
    """A cluster that runs here is left alone, and takes memory all the same."""
    address = None if os.environ.get("RAY_ADDRESS") else running_ray(folder)
    if address is None:
        return []
    return [
        f"a Ray cluster runs here ({address}): this run starts one of its own and leaves that one alone; if nobody "
        "needs it, `ray stop` gives its memory and GPUs back"
    ]

# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""The preflight's look around the GPUs, on pretended machines: real checks, with programs and files of the tests."""

import socket
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from recipe_shell import program  # noqa: E402

from recipes.medgrpo import preflight  # noqa: E402
from recipes.medgrpo.planning import host  # noqa: E402

# By machine: what its programs print (None: it has no such program).
MACHINES = {
    "h100": {
        "nvidia-smi": "0, 580.95.05, 9.0\n1, 580.95.05, 9.0",
        "getconf": "glibc 2.39",
        "gcc": "",
    },
    "old": {
        "nvidia-smi": "0, 550.54.15, 7.0",
        "getconf": "glibc 2.28",
    },
    "mixed": {"nvidia-smi": "0, 580.95.05, 7.5\n1, 580.95.05, 8.6"},
    "alpine": {
        "nvidia-smi": "0, 580.65.06, 8.9",
        "clang": "",
    },
}


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Start being one of `MACHINES`; returns the folder of its files."""

    def become(name: str) -> Path:
        tools = tmp_path / "bin"
        for tool, said in MACHINES[name].items():
            program(tools, tool, f"/bin/cat <<'END'\n{said}\nEND")
            # The tests' own shell tools are not this machine's.
            (tools / tool).write_text((tools / tool).read_text().replace("/usr/bin/env bash", "/bin/sh"))
        monkeypatch.setenv("PATH", str(tools))
        for variable in ("CC", "CUDA_VISIBLE_DEVICES", "RAY_ADDRESS"):
            monkeypatch.delenv(variable, raising=False)
        (tmp_path / "Python.h").touch()
        return tmp_path

    return become


def test_a_machine_of_today_is_well(machine):
    folder = machine("h100")
    assert host.check_driver() == host.check_compiler(folder) == host.check_glibc() == []


def test_an_old_machine_is_told_what_is_needed_and_what_to_do(machine):
    folder = machine("old")
    driver, card = host.check_driver()
    assert driver.startswith("the NVIDIA driver is 550.54.15, 580.65 or newer is needed (CUDA 13): update it")
    assert card.startswith("GPU 0 has compute capability 7.0, 8.0 or newer is needed")
    (compiler,) = host.check_compiler(folder)
    assert compiler.startswith("no C compiler (gcc, clang)") and "install gcc" in compiler
    (library,) = host.check_glibc()
    assert library.startswith("glibc 2.28 is this system's C library, 2.31 or newer is needed")


def test_a_card_that_is_not_used_may_be_old(machine, monkeypatch):
    machine("mixed")
    assert len(host.check_driver()) == 1
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert host.check_driver() == []


def test_another_c_library_and_another_compiler(machine, monkeypatch):
    folder = machine("alpine")
    (library,) = host.check_glibc()
    assert library.startswith("the C library is not glibc, 2.31 or newer is needed")
    assert host.check_driver() == host.check_compiler(folder) == []
    monkeypatch.setenv("CC", "icx")
    assert "no C compiler (icx)" in host.check_compiler(folder)[0]


def test_headers_of_python_are_looked_for_where_triton_looks(machine):
    folder = machine("h100")
    (folder / "Python.h").unlink()
    (line,) = host.check_compiler(folder)
    assert line.startswith(f"{folder}/Python.h: missing") and f"python3.{sys.version_info.minor}-dev" in line
    (folder / "Python.h").touch()
    assert host.check_compiler(folder) == []


def test_shared_memory_is_the_folders_free_space(tmp_path):
    assert host.check_shm(0.001, tmp_path) == []
    (line,) = host.check_shm(1e6, tmp_path)
    assert "GiB free, 1e+06 GiB needed: docker run --shm-size=" in line and "SHM_GIB" in line
    assert "missing" in host.check_shm(1, tmp_path / "nowhere")[0]


def test_a_containers_limit_counts_as_its_memory(tmp_path):
    whole = host.memory_limit(tmp_path)
    (tmp_path / "memory.max").write_text("max\n")
    assert host.memory_limit(tmp_path) == whole
    (tmp_path / "memory.max").write_text(str(3 << 30))
    (line,) = host.check_host(64, tmp_path)
    assert line.startswith("this machine has 3.0 GiB of memory, 64 needed while it trains: HOST_GIB says how much")
    assert host.check_host(2, tmp_path) == []


def test_a_ray_cluster_that_runs_is_named_and_one_that_is_gone_is_not(tmp_path, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with socket.create_server(("127.0.0.1", 0)) as cluster:
        address = f"127.0.0.1:{cluster.getsockname()[1]}"
        (tmp_path / "ray").mkdir()
        (tmp_path / "ray/ray_current_cluster").write_text(address + "\n")
        monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
        (note,) = host.notes_on_ray()
        assert address in note and "`ray stop`" in note
        # It is meant to be used.
        monkeypatch.setenv("RAY_ADDRESS", address)
        assert host.notes_on_ray() == []
        monkeypatch.delenv("RAY_ADDRESS")
    assert host.notes_on_ray() == []


def test_ray_notes_its_cluster_where_it_is_looked_for(tmp_path, monkeypatch):
    from ray._common.utils import get_ray_address_file

    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    assert get_ray_address_file(None) == str(tmp_path / "ray/ray_current_cluster")


def test_the_preflight_lists_it_all_at_once(machine, capsys):
    folder = machine("old")
    wanted = ["--machine", "gpu", "--gpus", "1", "--host-gib", "1e6", "--shm-gib", "1e6", "--attention", "sdpa"]
    assert preflight.main(["--checkpoints", str(folder), "--partial", *wanted]) == 2
    said = capsys.readouterr().err
    for words in ("580.65", "capability 7.0", "C compiler", "glibc 2.28", "HOST_GIB", "SHM_GIB", "vllm is not"):
        assert words in said
    assert "flash-attn is not installed" not in said

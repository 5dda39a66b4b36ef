# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The pinned sets agree with pyproject.toml and with each other, and the scripts refuse what cannot work."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
LIBRARY = ROOT / "examples/lib/environment.sh"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
GPU_MAY_DIFFER = {"torch", "torchvision", "numpy", "fastapi", "setuptools"}
"""What vllm's own pins decide for machines with GPUs; the head of constraints/cpu.txt says the same."""


def lines_of(kind: str) -> list[str]:
    text = (ROOT / f"constraints/{kind}.txt").read_text()
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def pins(kind: str) -> dict[str, str]:
    return {canonicalize_name(name): version for name, version in (line.split("==") for line in lines_of(kind))}


def requirements(*extras: str) -> list[Requirement]:
    lines = PROJECT["dependencies"] + [line for extra in extras for line in PROJECT["optional-dependencies"][extra]]
    return [Requirement(line) for line in lines]


@pytest.mark.parametrize("kind", ["cpu", "gpu", "vllm-cpu"])
def test_every_line_is_one_exact_version(kind):
    for line in lines_of(kind):
        assert re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.]*", line), line
    names = [canonicalize_name(line.split("==")[0]) for line in lines_of(kind)]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("kind", "extras"),
    [
        ("cpu", ("report", "curation", "speech", "test")),
        ("gpu", ("gpu", "flash-attn", "report", "curation", "speech", "test")),
        ("vllm-cpu", ("vllm-cpu", "report", "curation", "speech", "test")),
    ],
)
def test_what_the_project_asks_for_is_pinned_and_allowed(kind, extras):
    pinned = pins(kind)
    for requirement in requirements(*extras):
        name = canonicalize_name(requirement.name)
        assert name in pinned, f"{requirement} has no pin in constraints/{kind}.txt"
        assert requirement.specifier.contains(pinned[name], prereleases=True), f"{requirement}: {pinned[name]}"


def test_both_sets_have_the_same_verl_and_transformers_and_little_that_differs():
    cpu, gpu = pins("cpu"), pins("gpu")
    assert cpu["verl"] == gpu["verl"] and cpu["transformers"] == gpu["transformers"]
    different = {name for name in cpu.keys() & gpu.keys() if cpu[name] != gpu[name]}
    assert different == GPU_MAY_DIFFER
    assert cpu.keys() <= gpu.keys()
    head = (ROOT / "constraints/cpu.txt").read_text()
    assert all(name in head.split("\n\n")[0] for name in GPU_MAY_DIFFER)


def test_vllm_on_a_cpu_runs_with_the_versions_of_the_gpu_set():
    """What is proved there is proved of these versions; a package of the GPU set that is absent drives a GPU."""
    gpu, mine = pins("gpu"), pins("vllm-cpu")
    assert {name: (gpu[name], version) for name, version in mine.items() if gpu.get(name, version) != version} == {}
    assert mine["vllm-cpu"] == gpu["vllm"]
    own = mine.keys() - gpu.keys()
    assert own == {"vllm-cpu", "uv", "intel-openmp", "intel-cmplr-lib-ur"}
    assert pins("cpu").keys() <= mine.keys()


def test_the_scripts_know_the_same_pythons_and_verl_as_the_project():
    text = LIBRARY.read_text()
    pythons = re.search(r'_ENVIRONMENT_PYTHONS="([^"]*)"', text)[1].split()
    allowed = SpecifierSet(PROJECT["requires-python"])
    assert pythons == [f"3.{minor}" for minor in range(8, 20) if f"3.{minor}" in allowed]
    assert re.search(r"_ENVIRONMENT_VERL=(\S+)", text)[1] == pins("cpu")["verl"]


def shell_scripts() -> list[Path]:
    found = [*(ROOT / "examples").rglob("*.sh"), *(ROOT / "tests").rglob("*.sh"), ROOT / ".ci/run"]
    return sorted(found)


@pytest.mark.parametrize("script", shell_scripts(), ids=lambda path: str(path.relative_to(ROOT)))
def test_shell_scripts_parse(script):
    result = subprocess.run(["bash", "-n", str(script)], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


@pytest.fixture
def machine(tmp_path):
    """A machine with a bare checkout and nothing on PATH but the everyday tools; returns its folders and a runner."""
    checkout, tools = tmp_path / "checkout", tmp_path / "bin"
    (checkout / "examples/lib").mkdir(parents=True)
    tools.mkdir()
    for name in ("examples/lib/environment.sh", "pyproject.toml"):
        shutil.copy(ROOT / name, checkout / name)
    shutil.copytree(ROOT / "constraints", checkout / "constraints")
    for name in "bash awk cat cksum cut df dirname du flock grep mkdir mv rm tail tr".split():
        if where := shutil.which(name):
            (tools / name).symlink_to(where)

    def run(*arguments: str, **extra: str) -> subprocess.CompletedProcess[str]:
        env = {"PATH": str(tools), "HOME": str(tmp_path), "PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": os.devnull} | extra
        script = 'set -euo pipefail; source "$1/examples/lib/environment.sh"; shift; ensure_environment "$@"; python -V'
        return subprocess.run(
            ["bash", "-c", script, "bash", str(checkout), *arguments],
            env=env,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )

    run.checkout, run.tools = checkout, tools
    return run


def interpreter(path: Path, version: tuple[int, int, int], verl: str | None = None) -> None:
    """A program that answers as a Python of that version would, with that verl installed or none."""
    pretend = (
        f"import importlib.metadata, sys; sys.version_info = ({', '.join(map(str, version))}, 'final', 0); "
        f"real = importlib.metadata.version; verl = {verl!r}; "
        "importlib.metadata.version = lambda name: verl if name == 'verl' and verl else "
        "real(name if name != 'verl' else 'no-such-package'); "
        "exec(sys.stdin.read())"
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        f'#!/bin/sh\n[ "$1" = - ] || exec {sys.executable} "$@"\nshift\nexec {sys.executable} -c "{pretend}" "$@"\n'
    )
    path.chmod(0o755)


def one_line(result: subprocess.CompletedProcess[str]) -> str:
    assert result.returncode != 0
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert len(lines) == 1, result.stderr
    return lines[0]


def test_an_old_python_is_named_in_one_line(machine):
    interpreter(machine.tools / "python3", (3, 8, 10))
    line = one_line(machine("cpu"))
    assert "python3 is 3.8.10" in line and "3.11 or 3.12" in line
    assert not (machine.checkout / ".venv").exists()


def test_a_python_that_is_asked_for_and_too_new_is_not_replaced_by_another(machine):
    interpreter(machine.tools / "python3.11", (3, 11, 9))
    interpreter(machine.tools / "new/python", (3, 13, 1))
    line = one_line(machine("cpu", PYTHON=str(machine.tools / "new/python")))
    assert "is 3.13.1" in line


def test_no_python_at_all(machine):
    assert "found none" in one_line(machine("cpu"))


def test_an_unknown_set(machine):
    assert "'tpu'" in one_line(machine("auto", MEDGRPO_ENV="tpu"))


def test_an_active_environment_with_another_verl_stops(machine):
    environment = machine.tools.parent / "theirs"
    interpreter(environment / "bin/python", (3, 12, 3), verl="0.8.0")
    line = one_line(machine("cpu", VIRTUAL_ENV=str(environment)))
    assert str(environment) in line and "0.8.0" in line and pins("cpu")["verl"] in line


def test_a_venv_that_somebody_else_made_is_left_alone(machine):
    kept = machine.checkout / ".venv/kept"
    kept.parent.mkdir()
    kept.write_text("theirs")
    assert "was not made by this script" in one_line(machine("cpu"))
    assert kept.read_text() == "theirs"


def test_a_package_that_cannot_be_had_ends_with_pips_own_words(machine):
    """pip is real here and has no index: the environment is made, nothing can be installed in it."""
    (machine.tools / "python3.11").symlink_to(os.path.realpath(sys.executable))
    result = machine("cpu")
    assert result.returncode != 0
    named = re.search(r"^environment: pip: ERROR: .*?([A-Za-z0-9._-]+)==", result.stderr, re.MULTILINE)
    assert named and canonicalize_name(named[1]) in pins("cpu"), result.stderr
    assert "PIP_INDEX_URL" in result.stderr
    assert not list((machine.checkout / ".venv").glob(".medgrpo-stamp*"))


def finished_venv(machine, kind: str = "cpu") -> Path:
    """A `.venv` as a finished installation leaves it, with the running interpreter behind it."""
    venv = machine.checkout / {"vllm-cpu": ".venv-vllm"}.get(kind, ".venv")
    interpreter(venv / "bin/python", (3, 11, 9), verl=pins("cpu")["verl"])
    script = f'source "{machine.checkout}/examples/lib/environment.sh"; _environment_sha {kind}'
    sha = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True).stdout.strip()
    (venv / ".medgrpo-venv").write_text(f"{venv}\n")
    kinds = {"cpu": "cpu\n", "gpu": "gpu\ngpu\nflash-attn\n"}
    (venv / f".medgrpo-stamp-{sha}").write_text(kinds.get(kind, f"{kind}\n{kind}\n"))
    return venv


@pytest.mark.parametrize(("kind", "asked"), [("cpu", "cpu"), ("cpu", "auto"), ("gpu", "cpu"), ("gpu", "gpu")])
def test_a_finished_venv_is_used_without_touching_it(machine, kind, asked):
    venv = finished_venv(machine, kind)
    before = sorted(path.name for path in venv.iterdir())
    result = machine(asked)
    assert result.returncode == 0, result.stderr
    assert f"using {venv}" in result.stderr and f"the {kind} set" in result.stderr
    assert result.stdout.startswith("Python 3.")
    assert sorted(path.name for path in venv.iterdir()) == before


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda venv: (venv / ".medgrpo-unfinished").touch(), "interrupted"),
        (lambda venv: (venv / ".medgrpo-venv").write_text("/elsewhere/.venv\n"), "moved"),
        (lambda venv: (venv / "bin/python").unlink(), "its Python is gone"),
    ],
)
def test_a_broken_venv_of_ours_is_made_anew(machine, change, said):
    venv = finished_venv(machine)
    change(venv)
    result = machine("cpu")  # there is no Python here to make it with, so it ends after the old one is gone
    assert result.returncode != 0
    assert said in result.stderr and "found none" in result.stderr
    assert not venv.exists()


@pytest.mark.slow
def test_a_changed_pin_is_installed_before_anything_runs(machine):
    finished_venv(machine)
    with open(machine.checkout / "constraints/cpu.txt", "a") as file:
        file.write("# changed\n")
    result = machine("cpu")
    assert "installing what pyproject.toml asks for" in result.stderr


def install_flash_attn(tmp_path: Path, **settings: str) -> tuple[subprocess.CompletedProcess[str], str]:
    """(how it ended, what pip was told and with which architectures) on a machine with an L40S and a B200."""
    python, tool = tmp_path / "venv/bin/python", tmp_path / "bin/nvidia-smi"
    for file, body in (
        (python, 'echo "$* | ${FLASH_ATTN_CUDA_ARCHS-none}" >>"$CALLS"\nexit "${FAILS:-0}"'),
        (tool, "printf '8.9\\n10.0\\n'"),
    ):
        file.parent.mkdir(parents=True)
        file.write_text(f"#!/bin/sh\n{body}\n")
        file.chmod(0o755)
    script = f'set -euo pipefail; source "{LIBRARY}"; _environment_flash_attn venv -c gpu.txt'
    done = subprocess.run(
        ["bash", "-c", script],
        env={"PATH": f"{tool.parent}:/usr/bin:/bin", "CALLS": str(tmp_path / "calls")} | settings,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    calls = tmp_path / "calls"
    return done, calls.read_text().strip() if calls.exists() else ""


@pytest.mark.parametrize(
    ("settings", "told", "architectures"),
    [
        ({}, "flash-attn --no-build-isolation", "80;100"),
        ({"FLASH_ATTN_CUDA_ARCHS": "90"}, "flash-attn --no-build-isolation", "90"),
        ({"FLASH_ATTN_WHEEL": "flash_attn-2.8.3.whl"}, "flash_attn-2.8.3.whl", "none"),
        ({"FLASH_ATTN_WHEEL": "venv"}, "flash-attn --only-binary flash-attn --find-links venv", "none"),
        (
            {"FLASH_ATTN_WHEEL": "https://wheels.example/simple"},
            "flash-attn --only-binary flash-attn --extra-index-url https://wheels.example/simple",
            "none",
        ),
    ],
)
def test_flash_attn_comes_as_a_wheel_or_is_built_for_the_cards_that_are_there(tmp_path, settings, told, architectures):
    done, call = install_flash_attn(tmp_path, **settings)
    assert done.returncode == 0, done.stderr
    assert call.endswith(f" -c gpu.txt {told} | {architectures}")
    said = "a quarter of an hour" in done.stderr.replace("\n", " ")
    assert said == ("FLASH_ATTN_WHEEL" not in settings)


@pytest.mark.parametrize(
    ("settings", "advice"),
    [
        ({"FAILS": "1"}, "ATTENTION=sdpa trains some models without flash-attn"),
        ({"FAILS": "1", "FLASH_ATTN_WHEEL": "a.whl"}, "expected a wheel of the pinned version"),
        ({"FLASH_ATTN_WHEEL": "somewhere"}, "FLASH_ATTN_WHEEL is 'somewhere', expected a folder, an index"),
    ],
)
def test_without_flash_attn_the_other_ways_are_named(tmp_path, settings, advice):
    done, _ = install_flash_attn(tmp_path, **settings)
    assert done.returncode != 0 and advice in done.stderr


def test_with_sdpa_the_set_for_gpus_has_no_flash_attn_and_gets_it_when_it_is_asked_for(machine):
    venv = finished_venv(machine, "gpu")
    (stamp,) = venv.glob(".medgrpo-stamp-*")
    stamp.write_text("gpu\ngpu\n")
    assert machine("gpu", ATTENTION="sdpa").returncode == 0
    assert "installing what pyproject.toml asks for (gpu flash-attn)" in machine("gpu").stderr


# ---- vLLM's build for CPUs ---------------------------------------------------------------------------------------


def test_seven_gigabytes_are_asked_for_before_they_are_used(machine):
    line = one_line(machine("vllm-cpu", "report"))
    assert "7 GB" in line and str(machine.checkout / ".venv-vllm") in line and "MEDGRPO_VLLM_CPU=yes makes it" in line
    assert not (machine.checkout / ".venv-vllm").exists()
    agreed = machine("vllm-cpu", "report", MEDGRPO_VLLM_CPU="yes")  # there is no Python here to make it with
    assert "found none" in one_line(agreed)


def test_an_active_environment_without_it_serves_the_other_commands_and_is_left_alone(machine):
    environment = machine.tools.parent / "theirs"
    interpreter(environment / "bin/python", (3, 11, 3), verl=pins("cpu")["verl"])
    assert "MEDGRPO_VLLM_CPU=yes" in one_line(machine("vllm-cpu", VIRTUAL_ENV=str(environment)))
    # The set that a user chose for the other commands says nothing about this one.
    assert "MEDGRPO_VLLM_CPU=yes" in one_line(machine("vllm-cpu", MEDGRPO_ENV="cpu"))


def test_a_finished_one_is_used_beside_the_other(machine):
    finished_venv(machine)
    venv = finished_venv(machine, "vllm-cpu")
    result = machine("vllm-cpu")
    assert result.returncode == 0 and f"using {venv}" in result.stderr, result.stderr
    assert f"using {machine.checkout / '.venv'} " in machine("cpu").stderr


def test_uv_gets_pips_settings(tmp_path):
    """The environment counts more than a file, and `[install]` more than `[global]`."""
    config = tmp_path / "pip.conf"
    config.write_text(
        "[global]\nindex-url = https://one.example/simple\nfind-links = /old\ncert = /a.pem\n"
        "[install]\nextra-index-url =\n  https://two.example/simple\n  https://three.example/simple\n"
    )
    script = f'source "{LIBRARY}"; _environment_pip_settings "{sys.executable}"'
    env = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    env |= {"PIP_CONFIG_FILE": str(config), "PIP_FIND_LINKS": "/wheels /more", "PIP_NO_INDEX": "1"}
    done = subprocess.run(["bash", "-c", script], env=env, capture_output=True, text=True, check=True)
    said = done.stdout.splitlines()
    assert "--index-strategy=unsafe-best-match" in said and "--no-index" in said
    assert [line for line in said if "index=" in line or "find-links" in line or "cert" in line] == [
        *("--default-index=https://one.example/simple", "--index=https://two.example/simple"),
        *("--index=https://three.example/simple", "--find-links=/wheels", "--find-links=/more", "--cert=/a.pem"),
    ]

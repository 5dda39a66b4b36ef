# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""The image's files without Docker: its RUN steps where nothing is installed, its entry point, its services."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from recipe_shell import ROOT, program

DOCKER = ROOT / "examples/docker"
LINES = re.sub(r"\\\n", " ", re.sub(r"^ *#.*\n", "", (DOCKER / "Dockerfile").read_text(), flags=re.MULTILINE))


def steps(name: str) -> list[str]:
    """The Dockerfile's instructions of one kind, each one line."""
    return re.findall(rf"^{name} (.*)$", LINES, flags=re.MULTILINE)


def test_the_run_steps_install_the_pinned_set(tmp_path):
    """Each step's own shell, in a folder with what COPY put there; programs that install something write it down."""
    tools, calls = tmp_path / "bin", tmp_path / "calls"
    for name in ("apt-get", "rm"):
        program(tools, name, f'echo "{name} $*" >>{calls}')
    python = (
        f'case $1 in -) exec {sys.executable} "$@" ;; esac\n'
        f'echo "$* | ${{FLASH_ATTN_CUDA_ARCHS-}}" >>{calls}\n'
        'case $* in "-m venv "*) mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;; esac'
    )
    program(tools, "python3.12", python)
    work = tmp_path / "work"
    work.mkdir()
    for sources, target in (step.rsplit(" ", 1) for step in steps("COPY")):
        for source in sources.split():
            assert (ROOT / source).exists()
            if source != ".":
                kept = work / (source if source.endswith(".sh") or target == "./" else target)
                copy = shutil.copytree if (ROOT / source).is_dir() else shutil.copy
                kept.parent.mkdir(parents=True, exist_ok=True)
                copy(ROOT / source, kept)
    arguments = dict(step.split("=", 1) for step in steps("ARG") if "=" in step)
    (shell,) = steps("SHELL")
    command = re.findall(r'"([^"]*)"', shell)
    for step in steps("RUN"):
        step = re.sub(r"--mount=\S+", "", step)
        done = subprocess.run(
            [*command, step],
            cwd=work,
            env={"PATH": f"{tools}:/usr/bin:/bin", "HOME": str(tmp_path), **arguments},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    lines = calls.read_text().splitlines()
    assert "apt-get update" in lines
    (packages,) = (line for line in lines if line.startswith("apt-get install"))
    assert {"python3.12", "python3.12-venv", "python3.12-dev", "gcc"} <= set(packages.split())
    assert any(line.startswith(f"-m venv {work}/.venv ") for line in lines)
    pip = [line for line in lines if line.startswith("-m pip install")]
    assert len(pip) == 2 and all(f"-c {work}/constraints/gpu.txt" in line for line in pip)
    # Without a card to ask, and without a wheel.
    assert pip[1].endswith("flash-attn --no-build-isolation | 80;90")
    assert "ready after" in done.stderr


def test_the_environments_folder_is_the_one_that_is_used():
    folder, checkout = steps("WORKDIR")
    assert f"VIRTUAL_ENV={folder}/.venv " in steps("ENV")[0]
    (entry,) = steps("ENTRYPOINT")
    file = Path(entry.strip('["]')).relative_to(checkout)
    assert (ROOT / file).is_file() and (ROOT / file).stat().st_mode & 0o111


@pytest.fixture
def container(tmp_path):
    """Start the entry point in a checkout whose `run_submission.sh` only tells what it was given."""
    checkout = tmp_path / "checkout/examples"
    shutil.copytree(DOCKER, checkout / "docker")
    (checkout / "run_submission.sh").write_text('echo "$MODEL_PATH $TEST_FILE $FRAMES_ROOT $OUTPUT_DIR | $*"\n')
    (tmp_path / "input").mkdir()

    def start(*arguments: str, **variables: str) -> subprocess.CompletedProcess:
        command = ["bash", str(checkout / "docker/entrypoint.sh"), *arguments]
        env = {"PATH": "/usr/bin:/bin", "FRAMES_ROOT": str(tmp_path / "input")} | variables
        return subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, check=False)

    return start


def test_without_a_command_the_one_test_file_is_answered(container, tmp_path):
    (tmp_path / "input/test.json").touch()
    folders = f"/model {tmp_path}/input/test.json {tmp_path}/input /output"
    assert container().stdout == f"{folders} | \n"
    assert container("--batch-size", "8").stdout == f"{folders} | --batch-size 8\n"
    (tmp_path / "input/other.json").touch()
    done = container()
    assert done.returncode == 2 and "has 2 .json files, expected one, or its name in TEST_FILE" in done.stderr
    assert container(TEST_FILE="/input/other.json", MODEL_PATH="/m").stdout.startswith("/m /input/other.json ")


def test_a_command_runs_in_the_checkout(container, tmp_path):
    assert container("pwd").stdout == f"{tmp_path}/checkout\n"


def test_the_services_run_scripts_with_settings_that_these_know():
    services = yaml.safe_load((DOCKER / "compose.yaml").read_text())["services"]
    library = "".join(file.read_text() for file in (ROOT / "examples/lib").glob("*.sh"))
    for name, service in services.items():
        runner, script = service["command"]
        assert runner == "bash"
        known = (ROOT / script).read_text() + library
        for variable in service["environment"]:
            assert re.search(rf"\b{variable}\b", known), f"{name}: {variable}"
        assert service["shm_size"] == "16gb" and service["build"]["dockerfile"] == "examples/docker/Dockerfile"
    train, judge = services["train"], services["judge"]
    assert train["depends_on"]["judge"]["condition"] == "service_healthy"
    cards = [set(s["deploy"]["resources"]["reservations"]["devices"][0]["device_ids"]) for s in (train, judge)]
    assert len(cards[0]) == int(train["environment"]["N_GPUS"]) and not cards[0] & cards[1]
    assert train["environment"]["JUDGE_MODEL"] == judge["environment"]["JUDGE_MODEL"]


def test_the_trainings_cards_are_enough_by_the_plan():
    from recipes.medgrpo import plan

    train = yaml.safe_load((DOCKER / "compose.yaml").read_text())["services"]["train"]
    assert train["command"][1].endswith("qwen3_vl_4b.sh")
    options = ["--model", "Qwen3-VL-4B", "--gpus", train["environment"]["N_GPUS"]]
    assert plan.make(plan.parse(options))["memory"]["problems"] == []

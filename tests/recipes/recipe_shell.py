# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""How the tests run shell recipes: as a user does, or on a pretended machine whose programs write down their calls."""

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from importlib.util import find_spec, module_from_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def run(script: str, *arguments: str, cwd: Path, **settings: str) -> subprocess.CompletedProcess:
    """A recipe in a shell that has only this interpreter's folder, the system's tools and `settings`."""
    kept = {name: os.environ[name] for name in ("HOME", "LANG", "TMPDIR", "LD_LIBRARY_PATH") if name in os.environ}
    env = kept | {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"} | settings
    command = ["bash", str(ROOT / "examples" / script), *arguments]
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=300, check=False)


def composed(script: str, *arguments: str, cwd: Path, **settings: str) -> subprocess.CompletedProcess:
    """A recipe that only prints a configuration, as `run` runs it, but without the imports of verl's trainer.

    They take ten seconds and change nothing of what hydra composes: of each trainer, one recipe is printed both ways.
    """
    with tempfile.TemporaryDirectory() as tools:
        program(Path(tools), "python", f'exec {shlex.join([sys.executable, __file__])} "$@"')
        return run(script, *arguments, cwd=cwd, PATH=f"{tools}:{Path(sys.executable).parent}:/usr/bin:/bin", **settings)


def _compose(words: list[str]) -> None:
    """`python WORDS...`, where a trainer is only hydra with verl's files."""
    if words[:1] != ["-m"] or words[1] not in ("verl.trainer.main_ppo", "verl.trainer.sft_trainer"):
        os.execv(sys.executable, [sys.executable, *words])
    import hydra

    for name in ("verl", "verl.trainer", "verl.trainer.config"):
        # A package whose files can be found, and none of whose code has run.
        sys.modules[name] = module_from_spec(find_spec(name))
    sys.argv[1:] = words[2:]
    hydra.main(config_path=None, version_base=None)(print)()


def messages(done: subprocess.CompletedProcess) -> list[str]:
    """What a recipe said on standard error under its own name, without the shell's trace."""
    return [line for line in done.stderr.splitlines() if line.startswith(("medgrpo_", "sft_"))]


def program(folder: Path, name: str, body: str) -> None:
    """A program of the pretended machine: lines of bash."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/usr/bin/env bash\n{body}\n")
    (folder / name).chmod(0o755)


def pretended_machine(tmp_path: Path) -> dict[str, str]:
    """A copy of the recipes on a machine of 8 GPUs, with data and a model; the environment to run it in.

    `python` and `torchrun` write their calls to the file `calls`; the preflight resumes at step 40, or refuses where
    REFUSE is set.
    """
    shutil.copytree(ROOT / "examples", tmp_path / "checkout/examples")
    (tmp_path / "checkout/reward_score").mkdir()
    shutil.copy(ROOT / "reward_score/settings.py", tmp_path / "checkout/reward_score")  # names the kinds of judges
    library = tmp_path / "checkout/examples/lib"
    (library / "environment.sh").write_text('ensure_environment() { echo "environment $1" >>"$CALLS"; }\n')
    tools = tmp_path / "tools"
    program(tools, "nvidia-smi", 'for i in 0 1 2 3 4 5 6 7; do echo "GPU $i: pretended"; done')
    said = '"$VERL_USE_EXTERNAL_MODULES $VERL_FILE_LOGGER_PATH ${VERL_PLATFORM-none} $PWD"'
    program(
        tools,
        "python",
        f'echo "python $* | "{said} >>"$CALLS"\n'
        "case $* in *preflight*) [[ -z ${REFUSE:-} ]] || exit 2; echo 40 ;; esac",
    )
    program(
        tools,
        "torchrun",
        f'echo "torchrun $* | "{said} >>"$CALLS"\nmkdir -p checkpoints\n'
        "echo 60 >checkpoints/latest_checkpointed_iteration.txt",
    )
    for name in ("sft/config.json", "data/train.parquet", "data/val.parquet", "statistics.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    return {
        "PATH": f"{tools}:/usr/bin:/bin",
        "CALLS": str(tmp_path / "calls"),
        "MODEL_PATH": "sft",
        "DATA_DIR": "data",
        "OUTPUT_DIR": "out",
    }


def start_copy(env: dict[str, str], tmp_path: Path, script: str, *arguments: str):
    """The copied recipe, started: (the finished process, the lines that its programs wrote down)."""
    command = ["bash", str(tmp_path / "checkout/examples" / script), *arguments]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=120, check=False)
    calls = tmp_path / "calls"
    return done, calls.read_text().splitlines() if calls.exists() else []


if __name__ == "__main__":
    _compose(sys.argv[1:])
